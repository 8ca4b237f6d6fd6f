# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Second look at the profiles of a table's columns: row ids, families of columns, outcomes, leaks."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from ..values_clickprompt import canonical, number_of, read_time
from .column_names import suggests_outcome
from .column_profile import CHANCE, ColumnProfile
from .missing_words import is_no_time, means_missing
from .number_columns import MAX_NUMBERS_AS_CATEGORIES, set_numeric

_MIN_ROWS_OF_IDS = 20
_MIN_ROWS_TO_RANK = 100
_MIN_ROWS_OF_CLASS = 10
_NUMBERS_BINS = 50
_LEAK, _NEAR_LEAK = 0.97, 0.9
_CLICKED_SHARE = 0.98
_WORDS_FOR_TOTALS = {
    *("total", "totals", "grand total", "subtotal", "sum", "summe", "gesamt", "gesamtsumme", "insgesamt", "totale"),
    *("average", "mean", "mittelwert", "durchschnitt", "somme", "suma"),
}


def is_header_a_row(profiles: Sequence[ColumnProfile]) -> bool:
    """Whether the column names look like another row of the table, so that the file has no header.

    They do if each column of numbers or times has a name that is one too, or if names are values of their columns.
    """
    names = [profile.name for profile in profiles]
    # pandas numbers the columns of frames without names.
    if names in ([str(c + first) for c in range(len(names))] for first in (0, 1)):
        return False
    num_typed, num_repeated = 0, 0
    for profile in profiles:
        if not profile.values or not profile.name.strip():
            continue
        numbers = np.asarray([number_of(value) for value in profile.values])
        is_numeric = profile.counts[np.isfinite(numbers)].sum() >= 0.5 * profile.counts.sum()
        if profile.kind == "time":
            fits = read_time(profile.name, profile.options.get("time_format")) is not None
        elif is_numeric:
            fits = bool(np.isfinite(number_of(profile.name)))
        else:
            num_repeated += canonical(profile.name) in profile.values
            continue
        is_missing = means_missing(profile.name) or (profile.kind == "time" and is_no_time(profile.name))
        if not fits and not is_missing:
            return False
        num_typed += fits
    return num_typed > 0 or num_repeated >= 2


def leave_out_row_ids(profile: ColumnProfile, num_distinct_rows: int) -> None:
    """Leave a column out if it numbers or names the rows, and question one whose values hardly repeat.

    Args:
        profile: A column.
        num_distinct_rows: Number of rows, not counting copies of others, which have the same id.
    """
    if profile.reason_left_out:
        return
    is_unique = _MIN_ROWS_OF_IDS <= num_distinct_rows <= len(profile.values)
    if profile.kind == "numeric" and profile.numbers is not None:
        whole = bool((profile.numbers % 1 == 0).all())
        is_unique = is_unique and whole and float(np.ptp(profile.numbers)) == num_distinct_rows - 1
    if is_unique and profile.kind in ("categorical", "numeric"):
        profile.reason_left_out, profile.doubts, profile.marks = "row ids, as no two rows share a value", [], None
        if num_distinct_rows < profile.num_rows:
            profile.reason_left_out = "row ids, as only duplicate rows share a value"
    elif profile.kind == "categorical" and len(profile.values) > 0.5 * profile.counts.sum() > _MIN_ROWS_OF_IDS:
        profile.doubts.append("most values occur only once, so little can be learned about them; see min_count")


def unite_families(profiles: Sequence[ColumnProfile]) -> None:
    """Give one kind to columns whose names differ only by a number, such as `PAY_0` and `PAY_2`, if values are alike.

    Columns of numbers are alike if the intervals from their 5 % to their 95 % quantiles share at least a quarter of
    what they cover together. Their kind is categorical if they have at most 20 distinct numbers in all.
    """
    for family in _families(profiles):
        if len({profile.kind for profile in family}) < 2:
            continue
        numbers = [np.asarray([number_of(value) for value in profile.values]) for profile in family]
        if not _are_alike(numbers, [profile.counts for profile in family]):
            continue
        distinct = len(np.unique(np.concatenate([each[np.isfinite(each)] for each in numbers])))
        for profile, each in zip(family, numbers):
            if distinct > 2 * MAX_NUMBERS_AS_CATEGORIES and profile.kind == "categorical":
                set_numeric(profile, each)
            elif distinct <= 2 * MAX_NUMBERS_AS_CATEGORIES and profile.kind == "numeric":
                profile.kind, profile.numbers, profile.summary = "categorical", None, ""


def unite_buckets(profiles: Sequence[ColumnProfile]) -> None:
    """Give one kind of buckets, that of most of them, to numeric columns whose names differ only by a number."""
    for family in _families(profiles):
        with_log = [profile for profile in family if profile.options.get("buckets") == "log"]
        if not with_log or len(with_log) == len(family) or any(profile.kind != "numeric" for profile in family):
            continue
        becomes_log = 2 * len(with_log) > len(family)
        for profile in family:
            if becomes_log == (profile in with_log):
                continue
            profile.doubts = [doubt for doubt in profile.doubts if not doubt.startswith("log buckets")]
            if becomes_log:
                profile.options["buckets"] = "log"
                profile.doubts.append("log buckets, as in most columns with such names; the alternative is `quantile`")
            else:
                del profile.options["buckets"]


def _families(profiles: Sequence[ColumnProfile]) -> list[list[ColumnProfile]]:
    """Groups of columns of numbers whose names differ only by a number."""
    families: dict[str, list[ColumnProfile]] = {}
    for profile in profiles:
        is_number = profile.kind == "numeric" or (
            profile.kind == "categorical"
            and not profile.is_named_id
            and bool(profile.values)
            and bool(np.isfinite([number_of(value) for value in profile.values if not means_missing(value)]).all())
            and not any(re.fullmatch(r"0\d+", value) for value in profile.values)
        )
        if is_number and not profile.reason_left_out and re.search(r"\d", profile.name):
            families.setdefault(re.sub(r"\d+", "0", profile.name), []).append(profile)
    return [family for family in families.values() if len(family) > 1]


def _are_alike(numbers: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> bool:
    """Whether columns have numbers of the same range; see `unite_families`."""
    lows, highs = [], []
    for each, rows in zip(numbers, counts):
        known = np.isfinite(each)
        if not known.any():
            return False
        low, high = np.quantile(np.repeat(each[known], rows[known]), (0.05, 0.95))
        lows.append(low)
        highs.append(high)
    return bool(min(highs) - max(lows) >= 0.25 * (max(highs) - min(lows)))


def propose_ids_only(profiles: Sequence[ColumnProfile]) -> None:
    """Keep ids and codes out of the text by `in_text: false`, unless nothing else is left to read.

    Args:
        profiles: The columns that become fields.
    """
    codes = [profile for profile in profiles if profile.has_only_codes]
    if len(codes) < len(profiles):
        for profile in codes:
            profile.options["in_text"] = False


def count_copies(profiles: Sequence[ColumnProfile]) -> tuple[int, bool]:
    """Count rows that repeat an earlier row in all columns.

    Returns:
        Their number, and whether the table itself seems to be copied: all rows occur equally often, or none more than
        twice. Otherwise equal rows may be different impressions.
    """
    rows = pd.DataFrame({c: profile.value_ids for c, profile in enumerate(profiles)})
    times = rows.groupby(list(rows.columns)).size().to_numpy()
    return len(rows) - len(times), bool(times.max() <= 2 or times.min() == times.max())


def question_last_row(profiles: Sequence[ColumnProfile]) -> str | None:
    """A doubt if the last row holds the totals of the others, as below tables of spreadsheets; else `None`."""
    for profile in profiles:
        last = profile.value_ids[-1]
        word = profile.values[last] if last >= 0 else ""
        if word.casefold().rstrip(":") in _WORDS_FOR_TOTALS and profile.counts[last] == 1:
            return f"the last row seems to hold totals of the others ({word!r} in column {profile.name!r}): remove it"
    return None


def question_outcome(profile: ColumnProfile) -> None:
    """Leave a column out if its name says that it is another outcome of the impression, such as a purchase."""
    if suggests_outcome(profile.words) and not profile.reason_left_out:
        profile.reason_left_out = "named like an outcome; if it is known before the impression, keep it"


def rank_alone(profile: ColumnProfile, clicks: np.ndarray) -> None:
    """Set the AUC of ranking rows by the column alone, and leave the column out if it is a likely leak.

    A row's score is the share of clicks among rows with the same value in the other half of the rows. A column that
    ranks almost perfectly is usually known only after the click.

    Args:
        profile: A column.
        clicks: (N,) 1, 0, or NaN if unknown.
    """
    rows = np.flatnonzero(np.isfinite(clicks))
    if len(rows) < _MIN_ROWS_TO_RANK or profile.reason_left_out or np.ptp(clicks[rows]) == 0:
        return
    if profile.numbers is None:
        groups = profile.value_ids
    else:
        numbers = np.append(profile.numbers, np.nan)[profile.value_ids]
        edges = np.nanquantile(numbers, np.linspace(0, 1, _NUMBERS_BINS + 1)[1:-1])
        # Each edge is its own bin, as it may be the value of most rows, such as zero.
        bins = np.searchsorted(edges, numbers, side="left") + np.searchsorted(edges, numbers, side="right")
        groups = np.where(np.isfinite(numbers), bins, -1)
    profile.auc = float(roc_auc_score(clicks[rows], cross_fitted_rates(groups, clicks)[rows]))
    if min(clicks[rows].sum(), (1 - clicks[rows]).sum()) < _MIN_ROWS_OF_CLASS:
        return
    if profile.auc >= _LEAK:
        profile.reason_left_out = (
            "predicts the label almost perfectly, so it is a leak unless it is known before the click"
        )
    elif _only_for_clicks(profile.value_ids[rows], clicks[rows]):
        profile.reason_left_out = (
            "empty or constant in rows without a click, so it is a leak unless it is known before the click"
        )
    elif profile.auc >= _NEAR_LEAK:
        profile.doubts.append("predicts the label well; is it known before the click?")


def cross_fitted_rates(groups: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """Score each row by the share of clicks in its group, in the half of the rows that does not include it.

    Args:
        groups: (N,) group of each row, -1 for missing values.
        clicks: (N,) 1, 0, or NaN if unknown.

    Returns:
        (N,) shares; NaN for rows without a label.
    """
    order = np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(clicks)))
    halves = order[::2], order[1::2]
    scores = np.full(len(clicks), np.nan)
    for half, other in (halves, halves[::-1]):
        shown = np.bincount(groups[other] + 1, minlength=groups.max() + 2)
        clicked = np.bincount(groups[other] + 1, weights=clicks[other], minlength=groups.max() + 2)
        # One additional row with the overall mean keeps the scores of rare values near it.
        scores[half] = ((clicked + clicks[other].mean()) / (shown + 1))[groups[half] + 1]
    return scores


def _only_for_clicks(value_ids: np.ndarray, clicks: np.ndarray) -> bool:
    """Whether the column is empty, or has its most frequent value, in all rows but clicked ones, and not by chance."""
    rate = clicks.mean()
    for usual in ([-1], [0], [-1, 0]):
        of_others = clicks[~np.isin(value_ids, usual)]
        is_enough = len(of_others) >= _MIN_ROWS_OF_CLASS and len(of_others) * np.log(rate) < np.log(CHANCE)
        if is_enough and rate < _NEAR_LEAK and of_others.mean() >= _CLICKED_SHARE:
            return True
    return False
