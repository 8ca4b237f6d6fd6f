# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns of numbers, of ids and codes in digits, and of numbers that are not written plainly."""

import re
from datetime import datetime, timedelta

import numpy as np
from scipy.stats import chi2

from ..amounts_clickprompt import number_and_unit
from ..values_clickprompt import number_of
from .amounts import have_unknown_unit, question_amounts, question_clocks
from .column_names import CATEGORY_WORDS, ID_WORDS, ORDER_WORDS, TIME_WORDS
from .column_profile import CHANCE, CODE, ColumnProfile, question_words
from .missing_words import means_missing, words_beside
from .time_columns import try_dates_in_digits, try_time_format
from .written_numbers import POINTS_FOR_THOUSANDS, marks_that_read, question_points

_ROUNDED_ID = re.compile(r"\d[.,]\d+E\+\d\d")
# The days of the years 1955 to 2064, as spreadsheets count them.
_FIRST_DAY, _LAST_DAY = 20_000, 60_000
_MAX_CATEGORY_CODES = 1000
MAX_NUMBERS_AS_CATEGORIES = 10
_MOST_OTHER_THAN_NUMBERS = 0.05
_MIN_EQUAL_VALUES = 20


def try_numbers(profile: ColumnProfile) -> bool:
    """Tell whether the values are numbers, including ids, codes and times in digits, and set what follows."""
    numbers = np.asarray([number_of(value) for value in profile.values])
    numbers[[means_missing(value) for value in profile.values]] = np.nan
    numeric = np.isfinite(numbers)
    numbers[~numeric] = np.nan
    doubts = list(profile.doubts)
    words = words_beside(profile, numeric, "numbers", _MOST_OTHER_THAN_NUMBERS)
    if words is None:
        return False
    whole = bool((numbers[numeric] % 1 == 0).all())
    if _try_times_in_digits(profile, whole):
        return True
    doubts_about_ids = _doubts_about_ids(profile, profile.counts[numeric], whole)
    if doubts_about_ids is not None:
        profile.doubts = doubts + doubts_about_ids
        if words and all(map(means_missing, words)):
            profile.options["missing"] = words
        return True
    if words:
        profile.options["missing"] = words
    set_numeric(profile, numbers)
    _question_quantities(profile, numbers, whole)
    return True


def _try_times_in_digits(profile: ColumnProfile, whole: bool) -> bool:
    """Tell whether the numbers are times, such as 20140102 or seconds since 1970, and set what follows."""
    time_formats: tuple[str | None, ...] = ()
    if profile.words & TIME_WORDS:
        time_formats = ("%Y%m%d", None) if whole else (None,)
    if profile.words & {*TIME_WORDS, "hour"} and whole and set(map(len, profile.values)) == {8}:
        # days followed by an hour, as in 14102123
        time_formats = (*time_formats, "%y%m%d%H")
    if whole and try_dates_in_digits(profile):
        return True
    return any(try_time_format(profile, time_format, 0.0) for time_format in time_formats)


def _doubts_about_ids(profile: ColumnProfile, counts: np.ndarray, whole: bool) -> list[str] | None:
    """Doubts about numbers that are ids, codes or a few categories; `None` if they are quantities.

    Args:
        profile: The column.
        counts: Rows per distinct number.
        whole: Whether all numbers are whole.
    """
    has_leading_zeros = any(re.fullmatch(r"0\d+", value) for value in profile.values)
    code = next((value for value in profile.values if CODE.fullmatch(value) and not number_and_unit(value)), None)
    is_category = whole and bool(profile.words & CATEGORY_WORDS) and len(counts) <= _MAX_CATEGORY_CODES
    is_id = profile.is_named_id and (whole or bool(profile.words & ID_WORDS))
    few = len(counts) <= MAX_NUMBERS_AS_CATEGORIES
    repeats_as_id = whole and not profile.words & ORDER_WORDS and _repeat_equally(counts)
    if not (is_id or is_category or has_leading_zeros or code or few or repeats_as_id):
        return None
    doubts = []
    if is_id and (rounded := [value for value in profile.values if _ROUNDED_ID.fullmatch(value)]):
        doubts.append(
            f"ids such as {rounded[0]!r} have lost digits in a spreadsheet, so different ids became equal: "
            "export the column as text"
        )
    if not profile.is_named_id and (has_leading_zeros or code):
        because = "leading zeros" if has_leading_zeros else f"cells such as {code!r}"
        doubts.append(f"treated as codes because of {because}")
    elif repeats_as_id and not (is_id or is_category or few):
        doubts.append(
            f"treated as ids, because each number is in about {np.median(counts):g} rows; if the numbers measure "
            "something, add `kind: numeric`"
        )
    return doubts


def _question_quantities(profile: ColumnProfile, numbers: np.ndarray, whole: bool) -> None:
    """Add doubts about numbers (V,) that may be something else: thousands, days since 1900, ids or codes."""
    if doubt := question_points(profile.values):
        profile.doubts.append(doubt)
        profile.marks = POINTS_FOR_THOUSANDS
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    if profile.words & TIME_WORDS and low >= _FIRST_DAY and high < _LAST_DAY:
        day = (datetime(1899, 12, 30) + timedelta(days=float(high))).date()
        profile.doubts.append(
            f"if these are days since 1900, as spreadsheets count them, write dates: {day} for {high:g}"
        )
    if whole and low >= 1000 and len(str(int(low))) == len(str(int(high))):
        profile.doubts.append("all have the same number of digits; if they are ids or codes, remove `kind`")


def _repeat_equally(counts: np.ndarray) -> bool:
    """Whether values repeat about equally often, as those of persons or things with equally many rows do.

    Rows that are drawn independently give counts (V,) that vary at least as Poisson variables do. Their index of
    dispersion, V var / mean, then has a chi-squared distribution with V - 1 degrees of freedom (Fisher 1925).
    """
    if len(counts) < _MIN_EQUAL_VALUES or counts.mean() < 2:
        return False
    return bool(chi2.cdf(len(counts) * counts.var() / counts.mean(), len(counts) - 1) < CHANCE)


def set_numeric(profile: ColumnProfile, numbers: np.ndarray) -> None:
    """Make the column numeric, with `numbers` (V,) for its values, NaN for values that are not numbers."""
    profile.kind, profile.numbers = "numeric", numbers
    known = np.isfinite(numbers)
    low, middle, high = np.quantile(np.repeat(numbers[known], profile.counts[known]), (0, 0.5, 1))
    profile.summary = f"from {low:.6g} to {high:.6g}, median {middle:.6g}"


def try_amounts(profile: ColumnProfile) -> bool:
    """Tell whether the values are numbers with units or separators, or times of day, and question the column."""
    known = [v for v, value in enumerate(profile.values) if not means_missing(value)]
    values = [profile.values[v] for v in known]
    doubt = question_clocks(values) or question_amounts(values, profile.counts[known])
    if doubt is None:
        return False
    profile.are_amounts = True
    # few numbers would be categories as well
    if len(values) > MAX_NUMBERS_AS_CATEGORIES:
        profile.marks = marks_that_read(values)
        if have_unknown_unit(values):
            profile.doubts.append(doubt)
        else:
            question_words(profile, doubt)
    return True
