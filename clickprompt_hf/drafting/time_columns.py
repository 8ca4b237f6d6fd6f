# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns of times, in one of many formats."""

import re
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import numpy as np

from ..values_clickprompt import format_of_digits, number_of, read_time
from .column_names import TIME_WORDS
from .column_profile import ColumnProfile, question_words
from .missing_words import is_no_time, means_missing, words_beside

_DATE_FORMATS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y"),
    *("%d.%m.%y", "%Y.%m.%d"),
    *("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%b-%Y", "%Y-%m"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_TIME_FORMATS = (None, *(day + clock for clock in _CLOCKS for day in _DATE_FORMATS))
# Digits this long that parse as dates are dates, whatever their column is called.
_SURE_FORMATS = ("%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f")
_TIMES_TRIED, _MOST_TIME_FORMATS = 100, 4
# Times outside of these years, the last of them counted from now, are probably read wrongly.
_FIRST_YEAR, _YEARS_AHEAD = 1900, 10
_MOST_OTHER_THAN_TIMES, _MOST_IN_OTHER_FORMATS = 0.01, 0.05


def try_times(profile: ColumnProfile) -> bool:
    """Tell whether the values are times in a known format, and set what follows."""
    known = [value for value in profile.values if re.search(r"\d", value) and not is_no_time(value)]
    sample = known[:: max(1, len(known) // 200)]
    for time_format in _TIME_FORMATS:
        if not sample or not all(read_time(value, time_format) for value in sample[:3]):
            continue
        readable = sum(read_time(value, time_format) is not None for value in sample)
        if readable < (1 - _MOST_OTHER_THAN_TIMES) * len(sample):
            continue
        swapped = _day_and_month_swapped(time_format)
        doubt = None
        if swapped and all(read_time(value, swapped) for value in known):
            # The wrong format scatters the dates over more months.
            time_format, swapped = sorted((time_format, swapped), key=lambda form: _span(known, form))
            doubt = f"day or month first? The dates also parse as {swapped!r}"
        if try_time_format(profile, time_format, _MOST_OTHER_THAN_TIMES):
            profile.doubts += [doubt] if doubt else []
            return True
    return False


def try_mixed_times(profile: ColumnProfile) -> bool:
    """Tell whether the values are times, but in several formats, and question or leave out the column."""
    known = [value for value in profile.values if not means_missing(value) and not is_no_time(value)]
    sample = known[:: max(1, len(known) // _TIMES_TRIED)]
    if not sample or not all(re.search(r"\d", value) for value in sample[:5]):
        return False
    found: list[str] = []
    left = sample
    while left and len(found) < _MOST_TIME_FORMATS:
        read = [[value for value in left if read_time(value, time_format)] for time_format in _TIME_FORMATS]
        best = max(read, key=len)
        if not best:
            break
        found.append(best[0])
        left = [value for value in left if value not in best]
    if len(found) < 2 or len(left) > _MOST_IN_OTHER_FORMATS * len(sample):
        return False
    shown = ", ".join(map(repr, found))
    question_words(profile, f"times in several formats, such as {shown}, are read as words: write them in one format")
    return True


def try_dates_in_digits(profile: ColumnProfile) -> bool:
    """Tell whether nearly all values are dates in digits that would be read as seconds since 1970."""
    found: Counter[str] = Counter()
    for value, count in zip(profile.values, profile.counts.tolist()):
        if (time_format := format_of_digits(value)) not in (None, "%Y%m%d"):
            found[str(time_format)] += count
    if profile.words & TIME_WORDS and set(map(len, profile.values)) == {12}:
        found["%y%m%d%H%M%S"] += 1
    is_likely = bool(profile.words & {*TIME_WORDS, "hour"})
    return any(
        try_time_format(profile, time_format, _MOST_OTHER_THAN_TIMES)
        for time_format, _ in found.most_common()
        if is_likely or (time_format in _SURE_FORMATS and not profile.is_named_id)
    )


def try_time_format(profile: ColumnProfile, time_format: str | None, most_unread: float) -> bool:
    """Make the column one of times if nearly all values are times in this format."""
    doubts = list(profile.doubts)
    is_sentinel = np.asarray([is_no_time(value) for value in profile.values])
    is_read = np.asarray([read_time(value, time_format) is not None for value in profile.values])
    words = words_beside(profile, is_read | is_sentinel, "times", most_unread)
    if words is None or not (is_read & ~is_sentinel).any():
        profile.doubts = doubts
        return False
    _set_times(profile, time_format, {*words, *np.asarray(profile.values, dtype=object)[is_sentinel]})
    return True


def _set_times(profile: ColumnProfile, time_format: str | None, words: Collection[str]) -> None:
    """Make the column one of times, with the parts that vary. `words` count as missing."""
    moments = [None if value in words else read_time(value, time_format) for value in profile.values]
    profile.kind = "time"
    # Naive times suffice: only their order and differences count.
    seconds = [np.nan if moment is None else (moment - datetime(1970, 1, 1)).total_seconds() for moment in moments]
    profile.numbers = np.asarray(seconds)
    known = [moment for moment in moments if moment is not None]
    first, last = min(known), max(known)
    profile.summary = f"from {first} to {last}".replace(" 00:00:00", "")
    middle = datetime(1970, 1, 1) + timedelta(seconds=float(np.nanmedian(np.repeat(seconds, profile.counts))))
    this_year = datetime.now(UTC).year
    is_far = (
        not 1970 <= middle.year <= this_year + 1 or first.year < _FIRST_YEAR or last.year > this_year + _YEARS_AHEAD
    )
    # others leave no doubt of their year
    in_digits = bool(np.isfinite([number_of(value) for value in profile.values]).any())
    if is_far and (in_digits or "%y" in (time_format or "")):
        profile.doubts.append(
            f"are these times read correctly, from {first:%Y} to {last:%Y}? If not, set `time_format`"
        )
    if time_format is not None:
        profile.options["time_format"] = time_format
    if words:
        profile.options["missing"] = [value for value in profile.values if value in words]
    hours_vary = len({moment.hour for moment in known}) > 1
    parts = {"hour": hours_vary, "weekday": (last - first).days >= 7, "month": (last - first).days > 365}
    profile.options["parts"] = [part for part, varies in parts.items() if varies]


def _span(values: Collection[str], time_format: str | None) -> timedelta:
    """The time between the earliest and the latest value."""
    moments = [moment for value in values if (moment := read_time(value, time_format))]
    return max(moments) - min(moments)


def _day_and_month_swapped(time_format: str | None) -> str | None:
    """The format with day and month swapped; `None` if it does not start with them in digits."""
    for one, other in (("%d/%m", "%m/%d"), ("%d-%m", "%m-%d")):
        for first, second in ((one, other), (other, one)):
            if time_format and time_format.startswith(first):
                return second + time_format[len(first) :]
    return None
