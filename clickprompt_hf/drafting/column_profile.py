# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Profile a column of an unknown table: guess from its cells which kind of field it is, and note doubts."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import chi2

from ..lists_clickprompt import UnreadableCell, cell_values, looks_weighted
from ..schema_clickprompt import FieldSchema
from ..values_clickprompt import (
    advice_on_numbers,
    format_of_digits,
    labels_of,
    number_and_unit,
    number_of,
    percent,
    read_time,
    spellings,
)
from ..vectors_clickprompt import UnreadableVector, read_vectors
from .amounts import have_unknown_unit, question_amounts, question_clocks
from .column_names import CATEGORY_WORDS, ID_WORDS, ORDER_WORDS, TIME_WORDS, suggests_ids, suggests_places, words_of
from .written_numbers import question_points, question_triples

# Written by people and programs for missing values, in any case. Among numbers and times they mean nothing else.
_WORDS_FOR_MISSING = {
    *("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "null", "(null)", "[null]", "<null>", "none", "nil", "nan", "nat"),
    *("-", "--", "---", "?", "??", ".", "..", "...", "\\n", "unknown", "unk", "missing", "undefined", "empty"),
    *("not available", "not applicable", "not known", "no data", "#value!", "#ref!", "#div/0!", "#null!", "#num!"),
}
# Other columns may have these as words of their own: they are missing only in doubt.
_DOUBTFUL_WORDS = {"unknown", "unk", "none", "nil", "empty", "missing", "undefined", "not applicable", "...", "[null]"}
# Dates without digits other than zero, and the last day that databases can write.
_NO_TIME = re.compile(r"-1|(?=.*0)[-0/.: TZ+]+|(9999[-/.]?12[-/.]?31|(31|12)[-/.](12|31)[-/.]9999).*")
_WHOLE_NUMBER, _ROUNDED_ID = re.compile(r"-?\d+"), re.compile(r"\d[.,]\d+E\+\d\d")
_WORDS, _DIGIT = re.compile(r"[^\W_]+"), re.compile(r"\d")
_CODE = re.compile(r"[A-Za-z]+[-_ ]?\d+|\d+[-_ ]?[A-Za-z]+|@\w+")
_MAX_CATEGORY_CODES = 1000
_HEX, _BASE64 = re.compile(r"[0-9a-fA-F]{8,}"), re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CASE_CHANGES = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")
_DATE_FORMATS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y"),
    *("%d.%m.%y", "%Y.%m.%d"),
    *("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%b-%Y", "%Y-%m"),
)
# Digits this long that parse as dates are dates, whatever their column is called.
_TIMES_TRIED, _MOST_TIME_FORMATS, _GROUPS_SHOWN = 100, 4, 3
# The days of the years 1955 to 2064, as spreadsheets count them.
_FIRST_DAY, _LAST_DAY = 20_000, 60_000
_SURE_FORMATS = ("%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d%H%M%S%f")
# Times outside of these years, the last of them counted from now, are probably read wrongly.
_FIRST_YEAR, _YEARS_AHEAD = 1900, 10
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_TIME_FORMATS = (None, *(day + clock for clock in _CLOCKS for day in _DATE_FORMATS))
# The separators of ASCII and other white space go first: cells are squeezed when they are spelled.
_SEPARATORS = ("\x1d", "\x1e", "\x1f", "\t", "\n", "|", ";", ", ", ",", " ")

# Shorter lists of fractions may be categories, if hardly ever.
_USUAL_VECTOR_SIZE = 8
_LIST_TYPES = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
    *(pa.types.is_list_view, pa.types.is_large_list_view),
)
# In columns whose names do not suggest ids, fewer codes may be categories that mean something, such as age ranges.
_MIN_CODES, _SHARE_OF_CODES = 50, 0.9
MAX_NUMBERS_AS_CATEGORIES = 10
_MOST_OTHER_THAN_NUMBERS, _MOST_OTHER_THAN_TIMES = 0.05, 0.01
_MIN_TEXTS, _WORDS_OF_TEXT = 50, 3
_LONG_TEXT = 200
MIN_ROWS_OF_IDS = 20
_MIN_EQUAL_VALUES = 20
# What is less likely than this is no coincidence.
CHANCE = 1e-6


@dataclass
class ColumnProfile:
    """What a column holds, and the field that it suggests.

    Shapes: N rows, V distinct values.

    Args:
        name: The column's name.
        values: Distinct values as vocabularies spell them, most frequent first, without missing ones.
        counts: (V,) rows per value.
        value_ids: (N,) each row's index into `values`; -1 if missing.
        kind: `"categorical"`, `"numeric"`, `"multi_valued"`, `"text"`, `"vector"`, or `"time"`, which suggests one
            field per part, such as the hour.
        options: Other keys of the `FieldSchema` that differ from their defaults; for times, also their `parts`.
        summary: Figures of this kind in words, such as a range.
        doubts: Sentences on what a person should check.
        reason_left_out: Why the column should not be a field; empty if it should.
        auc: AUC of ranking rows by this column alone; `None` if unknown.
        numbers: (V,) values as numbers, times as seconds, NaN if a value is neither; `None` for other kinds.
        are_amounts: Whether the values are numbers that are not written plainly, such as `12 kg`.
    """

    name: str
    values: list[str]
    counts: np.ndarray
    value_ids: np.ndarray
    kind: str = "categorical"
    options: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    doubts: list[str] = field(default_factory=list)
    reason_left_out: str = ""
    auc: float | None = None
    numbers: np.ndarray | None = None
    are_amounts: bool = False

    @property
    def num_rows(self) -> int:
        return len(self.value_ids)

    @property
    def missing(self) -> float:
        """Share of rows without a value. In columns of numbers or times, any other value counts as missing."""
        if self.numbers is not None:
            return float(np.isnan(np.append(self.numbers, np.nan)[self.value_ids]).mean())
        return float((self.value_ids < 0).mean())

    @property
    def words(self) -> set[str]:
        """The words of the column's name, in lower case."""
        return words_of(self.name)

    @property
    def is_named_id(self) -> bool:
        """Whether the column's name suggests ids or codes."""
        return suggests_ids(self.words)

    @property
    def is_named_place(self) -> bool:
        """Whether the column's name suggests places."""
        return suggests_places(self.words)

    @property
    def has_only_codes(self) -> bool:
        """Whether the values are ids or codes, such as `4711`, `u17f3` or `02139`, without any words."""
        if self.kind not in ("categorical", "multi_valued") or not self.values or self.are_amounts:
            return False
        is_code = np.asarray([_is_code(value) or _is_hash(value) for value in self.values])
        has_codes = self.counts[is_code].sum() >= _SHARE_OF_CODES * self.counts.sum()
        many = self.is_named_id or len(self.values) > _MIN_CODES
        return bool(has_codes) and (many or all(map(_is_hash, self.values)))

    def share(self, value_id: int) -> float:
        """Share of rows with a value, given its index in `values`."""
        return float(self.counts[value_id] / self.num_rows)


def _is_code(value: str) -> bool:
    """Whether each part of a value has digits in all its words, or is a word followed by a number."""
    parts = [part for part in re.split(r"[\s,;|]+", value) if part]
    return bool(parts) and all(
        _CODE.fullmatch(part) or all(map(_DIGIT.search, _WORDS.findall(part) or [""])) for part in parts
    )


def _is_hash(value: str) -> bool:
    """Whether a value looks like a hash in hexadecimal digits or base64, or like a UUID."""
    if _HEX.fullmatch(value):
        return bool(re.search(r"\d", value) and re.search(r"[a-fA-F]", value))
    if _UUID.fullmatch(value):
        return True
    # Words written together change case less often.
    changes = len(_CASE_CHANGES.findall(value))
    return bool(_BASE64.fullmatch(value) and _DIGIT.search(value)) and changes >= 0.35 * len(value)


def profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    """Profile a column.

    Args:
        name: The column's name.
        column: At least one cell, of any type; strings are read as the cells of a CSV file.
    """
    is_list = any(test(column.type) for test in _LIST_TYPES)
    cells = column.to_pylist()
    if size := _vector_size(cells, column.type, is_list):
        return _vector_profile(name, cells, size)
    elements = [[element for element in spellings(cell or ()) if element] for cell in cells] if is_list else None
    shown = spellings(cells) if elements is None else [", ".join(cell) for cell in elements]
    counted = pd.Series(shown, dtype=object).value_counts(sort=True)
    counted = counted[counted.index != ""]
    values = counted.index.tolist()
    value_ids = pd.Index(values, dtype=object).get_indexer(pd.Index(shown, dtype=object))
    profile = ColumnProfile(name, values, counted.to_numpy(dtype=np.int64), value_ids)
    if not name.strip():
        profile.reason_left_out = "no column name, as for row numbers written by pandas"
    elif pa.types.is_nested(column.type) and (not is_list or pa.types.is_nested(column.type.value_type)):
        profile.reason_left_out = f"cells of type {column.type} cannot be a field; make one column per value"
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        profile.reason_left_out = "bytes cannot be a field"
    elif not values:
        profile.reason_left_out = "empty column"
    elif len(values) == 1 and not profile.missing:
        profile.reason_left_out = "same value in every row"
    elif elements is not None:
        known = [cell for cell in elements if cell]
        _set_multi_valued(profile, known, np.ones(len(known), dtype=np.int64), "lists")
    else:
        _guess_kind(profile, column.type, dict(zip(shown, cells)))
    return profile


def _vector_size(cells: Sequence[Any], cell_type: pa.DataType, is_list: bool) -> int | None:
    """Number of entries if the cells are lists of fractions, all of one length and none missing; `None` otherwise."""
    if is_list:
        known = [cell for cell in cells if cell] if pa.types.is_floating(cell_type.value_type) else []
        lengths = set(map(len, known))
        if len(lengths) != 1 or not np.isfinite(np.asarray(known, dtype=np.float64)).all():
            return None
        return lengths.pop()
    known = [cell for cell in cells if cell is not None and cell != ""]
    if not known or not all(isinstance(cell, str) and "." in cell and cell.lstrip()[:1] == "[" for cell in known):
        return None
    try:
        return read_vectors(known, FieldSchema("vectors", kind="vector"))[1] or None
    except UnreadableVector:
        return None


def _vector_profile(name: str, cells: Sequence[Any], size: int) -> ColumnProfile:
    """Profile a column of vectors, whose distinct values are numbered."""
    keys = [hash(tuple(cell) if isinstance(cell, list) else cell) if cell else None for cell in cells]
    value_ids, values = pd.factorize(pd.Series(keys, dtype=object))
    counts = np.bincount(value_ids[value_ids >= 0], minlength=len(values))
    shown = [f"vector {number}" for number in range(len(values))]
    profile = ColumnProfile(name, shown, counts, value_ids, kind="vector", summary=f"vectors of {size} numbers")
    if size < _USUAL_VECTOR_SIZE:
        profile.doubts.append(
            "lists of fractions of equal length are vectors; if the numbers are categories, use `kind: multi_valued`"
        )
    if not name.strip():
        profile.reason_left_out = "no column name, as for row numbers written by pandas"
    return profile


def _guess_kind(profile: ColumnProfile, cell_type: pa.DataType, raw: Mapping[str, Any]) -> None:
    """Set the kind of a column of single values, and what follows from it. `raw` has a cell as read for each value."""
    if pa.types.is_temporal(cell_type) and not pa.types.is_time(cell_type) and not pa.types.is_duration(cell_type):
        _try_time_format(profile, None, most_unread=1)
    elif all(map(means_missing, profile.values)) or len(profile.values) == 2 or pa.types.is_boolean(cell_type):
        pass
    elif not (
        _try_numbers(profile)
        or _try_times(profile)
        or _try_mixed_times(profile)
        or _try_amounts(profile)
        or _is_place(profile)
        or _try_multi_valued(profile, raw)
    ):
        _try_text(profile)
    if profile.kind == "categorical" and not profile.has_only_codes and (doubt := _question_spellings(profile.values)):
        profile.doubts.append(doubt)
    if profile.kind not in ("numeric", "time") and "missing" not in profile.options:
        for v, value in enumerate(profile.values):
            if means_missing(value) and value.lower() not in _DOUBTFUL_WORDS:
                profile.doubts.append(
                    f"{value!r} ({percent(profile.share(v))}) is treated as an ordinary value; if it means missing, "
                    f"add `missing: [{value!r}]` to the field"
                )


def is_no_time(value: str) -> bool:
    """Whether a value stands for no time, such as `0000-00-00`, among times."""
    return bool(_NO_TIME.fullmatch(value))


def means_missing(value: str) -> bool:
    return value.lower() in _WORDS_FOR_MISSING


def _words_beside(profile: ColumnProfile, is_read: np.ndarray, what: str, most_unread: float) -> list[str] | None:
    """Words for missing values in a column of numbers or times.

    A word that is none of the usual ones counts as well if it is the only one and repeats.

    Args:
        profile: The column.
        is_read: (V,) whether a value is a number or a time.
        what: `"numbers"` or `"times"`.
        most_unread: Largest share of rows, without those of such words, that may hold anything else.

    Returns:
        The words; `None` if the column holds too much else.
    """
    unread = np.flatnonzero(~is_read).tolist()
    words = [v for v in unread if means_missing(profile.values[v])]
    others = [v for v in unread if not means_missing(profile.values[v])]
    if len(others) == 1:
        word, count = profile.values[others[0]], profile.counts[others[0]]
        if 2 <= count <= profile.counts.sum() / 2 and not re.search(r"\d", word):
            profile.doubts.append(f"{word!r} ({percent(profile.share(others[0]))}) counts as missing; see `missing`")
            words, others = words + others, []
    known = profile.counts.sum() - profile.counts[words].sum()
    if not is_read.any() or profile.counts[others].sum() > most_unread * known:
        return None
    if others:
        shown = ", ".join(repr(profile.values[v]) for v in others[:3])
        rows = int(profile.counts[others].sum())
        written = advice_on_numbers(profile.values[v] for v in others) if what == "numbers" else ""
        advice = f"; {written}" if written else ""
        profile.doubts.append(
            f"cells such as {shown} are not {what} and count as missing: {rows:,} "
            f"({percent(rows / profile.num_rows)}){advice}"
        )
    return [profile.values[v] for v in words]


def _try_numbers(profile: ColumnProfile) -> bool:
    """Tell whether the values are numbers, including ids, codes and times in digits, and set what follows."""
    numbers = np.asarray([number_of(value) for value in profile.values])
    numbers[[means_missing(value) for value in profile.values]] = np.nan
    numeric = np.isfinite(numbers)
    numbers[~numeric] = np.nan
    doubts = list(profile.doubts)
    words = _words_beside(profile, numeric, "numbers", _MOST_OTHER_THAN_NUMBERS)
    if words is None:
        return False
    whole = bool((numbers[numeric] % 1 == 0).all())
    time_formats: tuple[str | None, ...] = ()
    if profile.words & TIME_WORDS:
        time_formats = ("%Y%m%d", None) if whole else (None,)
    if profile.words & {*TIME_WORDS, "hour"} and whole and set(map(len, profile.values)) == {8}:
        # days followed by an hour, as in 14102123
        time_formats = (*time_formats, "%y%m%d%H")
    if whole and _try_dates_in_digits(profile):
        return True
    if any(_try_time_format(profile, time_format, 0.0) for time_format in time_formats):
        return True
    has_leading_zeros = any(re.fullmatch(r"0\d+", value) for value in profile.values)
    code = next((value for value in profile.values if _CODE.fullmatch(value) and not number_and_unit(value)), None)
    is_category = whole and bool(profile.words & CATEGORY_WORDS) and numeric.sum() <= _MAX_CATEGORY_CODES
    is_id = profile.is_named_id and (whole or bool(profile.words & ID_WORDS))
    few = numeric.sum() <= MAX_NUMBERS_AS_CATEGORIES
    repeats_as_id = whole and not profile.words & ORDER_WORDS and _repeat_equally(profile.counts[numeric])
    if is_id or is_category or has_leading_zeros or code or few or repeats_as_id:
        profile.doubts = doubts
        if is_id and (rounded := [value for value in profile.values if _ROUNDED_ID.fullmatch(value)]):
            profile.doubts.append(
                f"ids such as {rounded[0]!r} have lost digits in a spreadsheet, so that different ones are one value: "
                "export the column as text"
            )
        if words and all(map(means_missing, words)):
            profile.options["missing"] = words
        if not profile.is_named_id and (has_leading_zeros or code):
            because = "leading zeros" if has_leading_zeros else f"cells such as {code!r}"
            profile.doubts.append(f"treated as codes because of {because}")
        elif repeats_as_id and not (is_id or is_category or few):
            profile.doubts.append(
                f"treated as ids, because each number is in about {np.median(profile.counts[numeric]):g} rows; if "
                "the numbers measure something, add `kind: numeric`"
            )
        return True
    if words:
        profile.options["missing"] = words
    set_numeric(profile, numbers)
    if doubt := question_points(profile.values):
        profile.doubts.append(doubt)
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    if profile.words & TIME_WORDS and low >= _FIRST_DAY and high < _LAST_DAY:
        day = (datetime(1899, 12, 30) + timedelta(days=float(high))).date()
        profile.doubts.append(
            f"if these are days since 1900, as spreadsheets count them, write dates: {day} for {high:g}"
        )
    if whole and low >= 1000 and len(str(int(low))) == len(str(int(high))):
        profile.doubts.append("all have the same number of digits; if they are ids or codes, remove `kind`")
    return True


def _try_dates_in_digits(profile: ColumnProfile) -> bool:
    """Tell whether nearly all values are dates in digits that would be read as seconds since 1970."""
    found: Counter[str] = Counter()
    for value, count in zip(profile.values, profile.counts.tolist()):
        if (time_format := format_of_digits(value)) not in (None, "%Y%m%d"):
            found[str(time_format)] += count
    if profile.words & TIME_WORDS and set(map(len, profile.values)) == {12}:
        found["%y%m%d%H%M%S"] += 1
    is_likely = bool(profile.words & {*TIME_WORDS, "hour"})
    return any(
        _try_time_format(profile, time_format, _MOST_OTHER_THAN_TIMES)
        for time_format, _ in found.most_common()
        if is_likely or (time_format in _SURE_FORMATS and not profile.is_named_id)
    )


def _repeat_equally(counts: np.ndarray) -> bool:
    """Whether values repeat about equally often, as those of persons or things with as many rows each do.

    Rows that are drawn independently give counts (V,) that vary at least as Poisson variables do. Their index of
    dispersion, V var / mean, then has a chi-squared distribution with V - 1 degrees of freedom (Fisher 1925).
    """
    if len(counts) < _MIN_EQUAL_VALUES or counts.mean() < 2:
        return False
    return bool(chi2.cdf(len(counts) * counts.var() / counts.mean(), len(counts) - 1) < CHANCE)


def set_numeric(profile: ColumnProfile, numbers: np.ndarray) -> None:
    """Make the column numeric, with `numbers` (V,) for its values, NaN where they are none."""
    profile.kind, profile.numbers = "numeric", numbers
    known = np.isfinite(numbers)
    low, middle, high = np.quantile(np.repeat(numbers[known], profile.counts[known]), (0, 0.5, 1))
    profile.summary = f"from {low:.6g} to {high:.6g}, median {middle:.6g}"


def _try_times(profile: ColumnProfile) -> bool:
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
        if _try_time_format(profile, time_format, _MOST_OTHER_THAN_TIMES):
            profile.doubts += [doubt] if doubt else []
            return True
    return False


def _try_mixed_times(profile: ColumnProfile) -> bool:
    """Tell whether the values are times, but in several formats, and question or leave out the column."""
    known = [value for value in profile.values if not means_missing(value) and not is_no_time(value)]
    sample = known[:: max(1, len(known) // _TIMES_TRIED)]
    if not sample or not all(_DIGIT.search(value) for value in sample[:5]):
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
    if len(found) < 2 or len(left) > _MOST_OTHER_THAN_NUMBERS * len(sample):
        return False
    shown = ", ".join(map(repr, found))
    _question_words(profile, f"times in several formats, such as {shown}, are read as words: write them in one format")
    return True


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


def _try_time_format(profile: ColumnProfile, time_format: str | None, most_unread: float) -> bool:
    """Make the column one of times if nearly all values are times in this format."""
    doubts = list(profile.doubts)
    is_sentinel = np.asarray([is_no_time(value) for value in profile.values])
    is_read = np.asarray([read_time(value, time_format) is not None for value in profile.values])
    words = _words_beside(profile, is_read | is_sentinel, "times", most_unread)
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


def _try_amounts(profile: ColumnProfile) -> bool:
    """Tell whether the values are numbers with units or separators, or times of day, and question the column."""
    known = [v for v, value in enumerate(profile.values) if not means_missing(value)]
    values = [profile.values[v] for v in known]
    doubt = question_clocks(values) or question_amounts(values, profile.counts[known])
    if doubt is None:
        return False
    profile.are_amounts = True
    # few numbers would be categories as well
    if len(values) > MAX_NUMBERS_AS_CATEGORIES:
        if have_unknown_unit(values):
            profile.doubts.append(doubt)
        else:
            _question_words(profile, doubt)
    return True


def _question_words(profile: ColumnProfile, doubt: str) -> None:
    """Question a column that is categorical because of how it is written, or leave it out if values hardly repeat."""
    if 2 * len(profile.values) > profile.counts.sum():
        profile.reason_left_out = doubt
    else:
        profile.doubts.append(doubt)


def _question_spellings(values: Sequence[str]) -> str | None:
    """A doubt if values differ only in upper and lower case, or are truth values in several spellings."""
    groups: dict[str, list[str]] = {}
    truths = labels_of(values).tolist()
    are_truths = bool(np.isfinite(truths).all())
    for value, truth in zip(values, truths):
        groups.setdefault(str(truth) if are_truths else value.casefold(), []).append(value)
    alike = [", ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    more = f" and {len(alike) - _GROUPS_SHOWN:,} more" if len(alike) > _GROUPS_SHOWN else ""
    return f"each of these counts as a value of its own: {'; '.join(alike[:_GROUPS_SHOWN])}{more}; write them alike"


def _try_multi_valued(profile: ColumnProfile, raw: Mapping[str, Any]) -> bool:
    """Tell whether cells hold several values, split at a separator, and set what follows.

    Args:
        profile: The column.
        raw: For each value, a cell as it was read, before white space was collapsed.
    """
    if profile.counts[_in_brackets(profile.values)].sum() >= 0.5 * profile.counts.sum():
        field = FieldSchema(profile.name, kind="multi_valued")
        try:
            cells = [cell_values(raw[value], field) for value in profile.values]
        except UnreadableCell as error:
            profile.reason_left_out = f"lists that cannot be read, such as {error.cell!r:.60}: {error.problem}"
            return True
        if cells != [[value] for value in profile.values]:
            _set_multi_valued(profile, cells, profile.counts, "lists written as text")
            return True
    for separator in _SEPARATORS:
        with_separator = [v for v, value in enumerate(profile.values) if separator in str(raw[value])]
        if profile.counts[with_separator].sum() < 0.1 * profile.counts.sum():
            continue
        field = FieldSchema(profile.name, kind="multi_valued", separator=separator)
        try:
            cells = [cell_values(raw[value], field) for value in profile.values]
            elements = Counter(element for cell in cells for element in cell)
            if weighted := looks_weighted(elements):
                field = replace(field, weight_separator=":")
                cells = [cell_values(raw[value], field) for value in profile.values]
        except UnreadableCell:
            # A few cells look like broken lists written as text.
            return False
        if weighted:
            is_list = True
        elif all(map(_WHOLE_NUMBER.fullmatch, elements)):
            # Whole numbers cannot be the parts of a sentence. Those of dates and phone numbers are equally many.
            is_list = separator != " " or len(set(map(len, cells))) > 1
        elif separator == " ":
            is_list = all(re.search(r"\d", element) for element in elements) and len(set(map(len, cells))) > 1
        else:
            is_list = _recur(elements, cells, profile.counts, separator)
        if is_list:
            profile.options["separator"] = separator
            if weighted:
                profile.options["weight_separator"] = ":"
            _set_multi_valued(profile, cells, profile.counts, f"split at {separator!r}")
            if doubt := question_triples(profile.values, separator):
                profile.doubts.append(doubt)
            return True
    return False


def _in_brackets(values: Sequence[str]) -> list[int]:
    """Indices of values that begin with a bracket and end with its counterpart."""
    return [v for v, value in enumerate(values) if (value[0], value[-1]) in (("[", "]"), ("(", ")"), ("{", "}"))]


def _recur(elements: Counter[str], cells: list[list[str]], counts: np.ndarray, separator: str) -> bool:
    """Whether the parts of cells are short and recur, as those of lists do, and not those of sentences."""
    shown: Counter[str] = Counter()
    for cell, count in zip(cells, counts.tolist()):
        shown.update(dict.fromkeys(cell, count))
    # Averaged over all rows: among distinct cells, only short parts of sentences recur, such as "17 rooms".
    words = sum(len(element.split()) * count for element, count in shown.items()) / max(sum(shown.values()), 1)
    most_words = _WORDS_OF_TEXT - 1 if "," in separator else _WORDS_OF_TEXT
    reused = sum(elements.values()) / max(len(elements), 1)
    return words <= most_words and reused >= (3 if "," in separator else 1.5)


def _set_multi_valued(profile: ColumnProfile, cells: list[list[str]], counts: np.ndarray, written: str) -> None:
    """Make the column multi-valued.

    Args:
        profile: The column.
        cells: The elements of each distinct cell, or of each row.
        counts: (len(cells),) rows with each.
        written: How the elements are written, in words.
    """
    sizes = np.repeat([len(cell) for cell in cells], counts)
    elements = {element for cell in cells for element in cell}
    most = max(2, min(20, int(np.quantile(sizes, 0.95))))
    profile.kind = "multi_valued"
    profile.options = {"max_values": most, **profile.options}
    profile.summary = f"{written}, {len(elements):,} elements, up to {sizes.max()} per row"
    numbers = np.asarray([number_of(element) for element in elements])
    if np.isfinite(numbers).all() and (numbers % 1 != 0).any():
        profile.doubts.append(
            "lists of fractions, each a separate category: `kind: vector` needs lists in brackets, of the same "
            "length and without missing entries"
        )
    if sizes.max() > most:
        larger = percent(float((sizes > most).mean()))
        profile.doubts.append(
            f"{larger} of the rows have more than max_values elements; only the first ones get ids, or the last ones "
            "with `keep: last`"
        )


def _is_place(profile: ColumnProfile) -> bool:
    """Whether the column holds names of places that repeat, such as `Austin, TX`: neither lists nor sentences."""
    return profile.is_named_place and 2 * len(profile.values) <= profile.counts.sum()


def _try_text(profile: ColumnProfile) -> None:
    """Make the column free text if its values are sentences."""
    lengths = np.asarray([len(value.split()) for value in profile.values])
    words = float(np.average(lengths, weights=profile.counts))
    if words >= _WORDS_OF_TEXT and len(profile.values) > _MIN_TEXTS:
        profile.kind = "text"
        profile.summary = f"{words:.0f} words on average, up to {lengths.max():,}"
        if lengths.max() > _LONG_TEXT:
            profile.doubts.append("long texts; with a PLM, set max_text_length to truncate them")
