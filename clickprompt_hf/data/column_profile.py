# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Profile a column of an unknown table: guess from its cells which kind of field it is, and note doubts."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from ..values_clickprompt import read_time, spellings

# Written by people and programs for missing values, but read by the processor as ordinary values.
_WORDS_FOR_MISSING = {"NA", "N/A", "n/a", "#N/A", "NULL", "Null", "null", "None", "nan", "NaN", "-", "--", "?", "."}
_ID_WORDS = {
    *("id", "ids", "uid", "uuid", "guid", "key", "code", "zip", "zipcode", "postcode", "postal", "sku", "isbn", "ean"),
    *("asin", "hash", "ip", "iban", "index", "unnamed"),
}
_ID_ENDINGS = re.compile(r".*(user|item|customer|client|product|patient|account|member|session|order|device|loan)id")
_TIME_WORDS = {"time", "timestamp", "ts", "date", "datetime", "day", "at", "on", "epoch", "when", "created", "updated"}
_DATE_FORMATS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d/%m/%y", "%m/%d/%y"),
    *("%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%b-%Y", "%Y-%m"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_TIME_FORMATS = (None, *(day + clock for clock in _CLOCKS for day in _DATE_FORMATS))
_AMOUNT = re.compile(r"[-+(]?[$€£¥]? ?[-+]?\d[\d,. ]*( ?[%$€£¥kKmM])?\)?")
_SEPARATORS = ("|", ";", ", ", ",")

_MAX_NUMBERS_AS_CATEGORIES = 10
_MIN_TEXTS, _WORDS_OF_TEXT = 50, 3
_LONG_TEXT = 200
_MIN_ROWS_OF_IDS = 20
_MIN_ROWS_TO_RANK = 100
_LEAK, _NEAR_LEAK = 0.97, 0.9
_NUMBERS_BINS = 50


@dataclass
class ColumnProfile:
    """What a column holds, and the field that it suggests.

    Shapes: N rows, V distinct values.

    Args:
        name: The column's name.
        values: Distinct values as vocabularies spell them, most frequent first, without missing ones.
        counts: (V,) rows per value.
        value_ids: (N,) each row's index into `values`; -1 if missing.
        kind: `"categorical"`, `"numeric"`, `"multi_valued"`, `"text"`, or `"time"`, which suggests one field per part,
            such as the hour.
        options: Other keys of the `FieldSchema` that differ from their defaults; for times, also their `parts`.
        summary: Figures of this kind in words, such as a range.
        doubts: Sentences on what a person should check.
        reason_left_out: Why the column should not be a field; empty if it should.
        auc: AUC of ranking rows by this column alone; `None` if unknown.
        numbers: (V,) values as numbers, times as seconds, NaN if a value is neither; `None` for other kinds.
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
        spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name)
        return set(re.split(r"[^a-z0-9]+", spaced.lower())) - {""}

    @property
    def is_named_id(self) -> bool:
        """Whether the column's name suggests ids or codes."""
        return bool(self.words & _ID_WORDS) or any(_ID_ENDINGS.fullmatch(word) for word in self.words)

    def share(self, value_id: int) -> float:
        """Share of rows with a value, given its index in `values`."""
        return float(self.counts[value_id] / self.num_rows)


def profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    """Profile a column.

    Args:
        name: The column's name.
        column: At least one cell, of any type; strings are read as the cells of a CSV file.
    """
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    is_list = is_list or pa.types.is_fixed_size_list(column.type)
    cells = column.to_pylist()
    elements = [[element for element in spellings(cell or ()) if element] for cell in cells] if is_list else None
    shown = spellings(cells) if elements is None else [", ".join(cell) for cell in elements]
    counted = pd.Series(shown, dtype=object).value_counts(sort=True)
    counted = counted[counted.index != ""]
    values = counted.index.tolist()
    value_ids = pd.Index(values, dtype=object).get_indexer(pd.Index(shown, dtype=object))
    profile = ColumnProfile(name, values, counted.to_numpy(dtype=np.int64), value_ids)
    if not name.strip():
        profile.reason_left_out = "no column name, as for row numbers written by pandas"
    elif pa.types.is_nested(column.type) and not is_list:
        profile.reason_left_out = f"cells of type {column.type} cannot be a field"
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        profile.reason_left_out = "bytes cannot be a field"
    elif not values:
        profile.reason_left_out = "empty column"
    elif len(values) == 1 and not profile.missing:
        profile.reason_left_out = "same value in every row"
    elif elements is not None:
        _set_multi_valued(profile, [cell for cell in elements if cell], None)
    else:
        _guess_kind(profile, column.type)
    return profile


def _guess_kind(profile: ColumnProfile, cell_type: pa.DataType) -> None:
    """Set the kind of a column of single values, and what follows from it."""
    words_for_missing = {v for v, value in enumerate(profile.values) if value in _WORDS_FOR_MISSING}
    # Keys of a dictionary keep their order, the most frequent value first.
    known = {value: None for v, value in enumerate(profile.values) if v not in words_for_missing}
    if pa.types.is_temporal(cell_type) and not pa.types.is_time(cell_type) and not pa.types.is_duration(cell_type):
        _set_times(profile, None)
    elif not known or len(profile.values) == 2 or pa.types.is_boolean(cell_type):
        pass
    elif not (_try_numbers(profile, known) or _try_times(profile, known) or _try_multi_valued(profile)):
        _try_text(profile)
    if profile.kind not in ("numeric", "time"):
        for v in words_for_missing:
            profile.doubts.append(
                f"{profile.values[v]!r} ({percent(profile.share(v))}) is treated as an ordinary value; leave these"
                " cells blank if it means missing"
            )
    if profile.reason_left_out:
        return
    if _is_row_id(profile):
        profile.reason_left_out = "row ids, as no two rows share a value"
    elif profile.kind == "categorical" and len(profile.values) > 0.5 * profile.counts.sum() > _MIN_ROWS_OF_IDS:
        profile.doubts.append("most values occur only once, so their ids learn little; see min_count")


def _try_numbers(profile: ColumnProfile, known: Collection[str]) -> bool:
    """Tell whether the values are numbers, including ids, codes and times in digits, and set what follows."""
    numbers = pd.to_numeric(pd.Series(profile.values, dtype=object), errors="coerce").to_numpy(np.float64)
    numeric = np.isfinite(numbers)
    others = [value for value, is_number in zip(profile.values, numeric) if not is_number and value in known][:3]
    if not numeric.any() or profile.counts[numeric].sum() < 0.95 * profile.counts.sum():
        return False
    whole = bool((numbers[numeric] % 1 == 0).all())
    if whole and profile.words & _TIME_WORDS:
        for time_format in ("%Y%m%d", None):
            if all(read_time(value, time_format) for value in known):
                _set_times(profile, time_format)
                return True
    has_leading_zeros = any(re.fullmatch(r"0\d+", value) for value in profile.values)
    if profile.is_named_id or has_leading_zeros or len(profile.values) <= _MAX_NUMBERS_AS_CATEGORIES:
        if has_leading_zeros and not profile.is_named_id:
            profile.doubts.append("treated as codes because of leading zeros")
        return True
    profile.kind, profile.numbers = "numeric", numbers
    rows = np.repeat(numbers[numeric], profile.counts[numeric])
    low, middle, top, high = np.quantile(rows, (0, 0.5, 0.99, 1))
    profile.summary = f"from {low:.6g} to {high:.6g}, median {middle:.6g}"
    if low >= 0 and top > 20 * middle > 0:
        profile.options["buckets"] = "log"
        profile.doubts.append(
            "log buckets, because the top 1 % are more than 20 times the median; the alternative is `quantile`"
        )
    if others:
        profile.doubts.append(f"cells such as {', '.join(map(repr, others))} are not numbers and count as missing")
    if whole and low >= 1000 and len(str(int(low))) == len(str(int(high))):
        profile.doubts.append("all have the same number of digits; if they are ids or codes, remove `kind`")
    return True


def _try_times(profile: ColumnProfile, known: Collection[str]) -> bool:
    """Tell whether the values are times in a known format, and set what follows."""
    sample = list(known)[:: max(1, len(known) // 200)]
    candidates = [form for form in _TIME_FORMATS if all(read_time(value, form) for value in sample[:3])]
    for time_format in candidates:
        readable = sum(read_time(value, time_format) is not None for value in sample)
        if readable >= 0.99 * len(sample):
            swapped = _day_and_month_swapped(time_format)
            if swapped and all(read_time(value, swapped) for value in known):
                # The wrong format scatters the dates over more months.
                time_format, swapped = sorted((time_format, swapped), key=lambda form: _span(known, form))
                profile.doubts.append(f"day or month first? The dates also parse as {swapped!r}")
            _set_times(profile, time_format)
            return True
    return False


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


def _set_times(profile: ColumnProfile, time_format: str | None) -> None:
    """Make the column one of times, with the parts that vary."""
    moments = [read_time(value, time_format) for value in profile.values]
    profile.kind = "time"
    # Naive times suffice: only their order and differences count.
    seconds = [np.nan if moment is None else (moment - datetime(1970, 1, 1)).total_seconds() for moment in moments]
    profile.numbers = np.asarray(seconds)
    known = [moment for moment in moments if moment is not None]
    first, last = min(known), max(known)
    profile.summary = f"from {first} to {last}".replace(" 00:00:00", "")
    if time_format is not None:
        profile.options["time_format"] = time_format
    if unread := [value for value, moment in zip(profile.values, moments) if moment is None]:
        profile.doubts.append(f"cells such as {unread[0]!r} are not times and count as missing")
    hours_vary = len({moment.hour for moment in known}) > 1
    parts = {"hour": hours_vary, "weekday": (last - first).days >= 7, "month": (last - first).days > 365}
    profile.options["parts"] = [part for part, varies in parts.items() if varies]


def _try_multi_valued(profile: ColumnProfile) -> bool:
    """Tell whether cells hold several values, split at a separator, or amounts, and set what follows."""
    if all(_AMOUNT.fullmatch(value) for value in profile.values[:200]):
        profile.reason_left_out = (
            "amounts with symbols or separators; write plain numbers (1234.5) to make the field numeric"
        )
        return True
    for separator in _SEPARATORS:
        with_separator = [v for v, value in enumerate(profile.values) if separator in value]
        if profile.counts[with_separator].sum() < 0.1 * profile.counts.sum():
            continue
        cells = [[e for e in map(str.strip, value.split(separator)) if e] for value in profile.values]
        elements = Counter(element for cell in cells for element in cell)
        shown: Counter[str] = Counter()
        for cell, count in zip(cells, profile.counts.tolist()):
            shown.update(dict.fromkeys(cell, count))
        # Averaged over all rows: among distinct cells, only short parts of sentences recur, such as "17 rooms".
        words = sum(len(element.split()) * count for element, count in shown.items()) / max(sum(shown.values()), 1)
        most_words = _WORDS_OF_TEXT if separator in "|;" else _WORDS_OF_TEXT - 1
        reused = sum(elements.values()) / max(len(elements), 1)
        if words <= most_words and reused >= (1.5 if separator in "|;" else 3):
            _set_multi_valued(profile, cells, separator)
            return True
    return False


def _set_multi_valued(profile: ColumnProfile, cells: list[list[str]], separator: str | None) -> None:
    """Make the column multi-valued.

    Args:
        profile: The column.
        cells: The elements of each distinct cell or, without a separator, of each row.
        separator: What the cells were split at; `None` for lists.
    """
    repeats = profile.counts if separator is not None else np.ones(len(cells), dtype=np.int64)
    sizes = np.repeat([len(cell) for cell in cells], repeats)
    elements = {element for cell in cells for element in cell}
    most = max(2, min(20, int(np.quantile(sizes, 0.95))))
    profile.kind = "multi_valued"
    profile.options["max_values"] = most
    split = "lists" if separator is None else f"split at {separator!r}"
    if separator is not None:
        profile.options["separator"] = separator
    profile.summary = f"{split}, {len(elements):,} elements, up to {sizes.max()} per row"
    if sizes.max() > most:
        larger = percent(float((sizes > most).mean()))
        profile.doubts.append(f"{larger} of the rows have more than max_values elements; further ones get no ids")


def _try_text(profile: ColumnProfile) -> None:
    """Make the column free text if its values are sentences."""
    lengths = np.asarray([len(value.split()) for value in profile.values])
    words = float(np.average(lengths, weights=profile.counts))
    if words >= _WORDS_OF_TEXT and len(profile.values) > _MIN_TEXTS:
        profile.kind = "text"
        profile.summary = f"{words:.0f} words on average, up to {lengths.max():,}"
        if lengths.max() > _LONG_TEXT:
            profile.doubts.append("long texts; with a PLM, set max_text_length to truncate them")


def _is_row_id(profile: ColumnProfile) -> bool:
    """Whether the column numbers or names the rows."""
    if profile.num_rows < _MIN_ROWS_OF_IDS or len(profile.values) < profile.num_rows:
        return False
    if profile.kind == "numeric" and profile.numbers is not None:
        # consecutive whole numbers
        return float(np.ptp(profile.numbers)) == profile.num_rows - 1 and bool((profile.numbers % 1 == 0).all())
    return profile.kind == "categorical"


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
    groups = profile.value_ids
    if profile.numbers is not None:
        numbers = np.append(profile.numbers, np.nan)[groups]
        edges = np.nanquantile(numbers, np.linspace(0, 1, _NUMBERS_BINS + 1)[1:-1])
        # Each edge is its own bin, as it may be the value of most rows, such as zero.
        bins = np.searchsorted(edges, numbers, side="left") + np.searchsorted(edges, numbers, side="right")
        groups = np.where(np.isfinite(numbers), bins, -1)
    order = np.random.default_rng(0).permutation(rows)
    halves = order[::2], order[1::2]
    scores = np.full(len(clicks), np.nan)
    for half, other in (halves, halves[::-1]):
        shown = np.bincount(groups[other] + 1, minlength=groups.max() + 2)
        clicked = np.bincount(groups[other] + 1, weights=clicks[other], minlength=groups.max() + 2)
        # One additional row with the overall mean keeps the scores of rare values near it.
        scores[half] = ((clicked + clicks[other].mean()) / (shown + 1))[groups[half] + 1]
    profile.auc = float(roc_auc_score(clicks[rows], scores[rows]))
    if profile.auc >= _LEAK:
        profile.reason_left_out = (
            "predicts the label almost perfectly, so it is a leak unless it is known before the click"
        )
    elif profile.auc >= _NEAR_LEAK:
        profile.doubts.append("predicts much of the label; is it known before the click?")


def percent(share: float) -> str:
    """Format a share as a percentage such as `"13 %"`, with more digits near 0 and 100."""
    value = 100 * share
    if value < 1:
        return f"{value:.1g} %"
    return f"{value:.0f} %" if value <= 99 or value == 100 else f"{value:.2f} %"
