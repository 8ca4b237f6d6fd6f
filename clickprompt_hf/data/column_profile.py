# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What one column of an unknown table holds, guessed from its cells: the kind of field it would make, and doubts."""

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

# what people and programs write for a missing value, and the processor reads as a value
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

_MOST_VALUES_AS_CATEGORIES = 10
_FEWEST_TEXTS, _WORDS_OF_TEXT = 50, 3
_LONG_TEXT = 200
_FEWEST_ROWS_OF_IDS = 20
_FEWEST_ROWS_TO_RANK = 100
_LEAK, _NEAR_LEAK = 0.97, 0.9
_NUMBERS_BINS = 50


@dataclass
class ColumnProfile:
    """What is known of a column, and what follows for a schema.

    Args:
        name: The column's name.
        values: Its distinct values as vocabularies spell them, the most frequent first, without the missing one.
        counts: Rows of each.
        places: (N,) each row's place in `values`, -1 where it is missing.
        kind: `"categorical"`, `"numeric"`, `"multi_valued"`, `"text"`, or `"time"`, of which fields have parts.
        options: Other keys of its `FieldSchema` that are not the default.
        described: The kind's own figures in words, such as a range.
        doubts: What a person should look at.
        left_out: Why it should be no field; empty where it should.
        auc: How well it alone ranks the label; `None` where that is not known.
        numbers: (V,) the values as numbers, times in seconds; `None` where they are none.
    """

    name: str
    values: list[str]
    counts: np.ndarray
    places: np.ndarray
    kind: str = "categorical"
    options: dict[str, Any] = field(default_factory=dict)
    described: str = ""
    doubts: list[str] = field(default_factory=list)
    left_out: str = ""
    auc: float | None = None
    numbers: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        return len(self.places)

    @property
    def missing(self) -> float:
        """Share of rows without a value, or whose value is no number or time where the others are."""
        if self.numbers is not None:
            return float(np.isnan(np.append(self.numbers, np.nan)[self.places]).mean())
        return float((self.places < 0).mean())

    @property
    def words(self) -> set[str]:
        """The words that the column's name is made of."""
        apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", self.name)
        return set(re.split(r"[^a-z0-9]+", apart.lower())) - {""}

    @property
    def is_named_id(self) -> bool:
        """Whether the name says that the column holds ids or codes."""
        return bool(self.words & _ID_WORDS) or any(_ID_ENDINGS.fullmatch(word) for word in self.words)

    def share(self, place: int) -> float:
        """Share of rows with the value at `place`."""
        return float(self.counts[place] / self.num_rows)


def profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    """Guesses what a column holds.

    Args:
        name: The column's name.
        column: At least one cell: strings as a CSV file has them, or any type.
    """
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    is_list = is_list or pa.types.is_fixed_size_list(column.type)
    cells = column.to_pylist()
    members = [[member for member in spellings(cell or ()) if member] for cell in cells] if is_list else None
    shown = spellings(cells) if members is None else [", ".join(cell) for cell in members]
    counted = pd.Series(shown, dtype=object).value_counts(sort=True)
    counted = counted[counted.index != ""]
    values = counted.index.tolist()
    places = pd.Index(values, dtype=object).get_indexer(pd.Index(shown, dtype=object))
    profile = ColumnProfile(name, values, counted.to_numpy(dtype=np.int64), places)
    if not name.strip():
        profile.left_out = "it has no name, like the row numbers that pandas writes"
    elif pa.types.is_nested(column.type) and not is_list:
        profile.left_out = f"cells of type {column.type} make no field"
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        profile.left_out = "bytes make no field"
    elif not values:
        profile.left_out = "it is empty"
    elif len(values) == 1 and not profile.missing:
        profile.left_out = "it is the same in every row"
    elif members is not None:
        _see_members(profile, [cell for cell in members if cell], None)
    else:
        _see_values(profile, column.type)
    return profile


def _see_values(profile: ColumnProfile, cell_type: pa.DataType) -> None:
    words_for_missing = {place for place, value in enumerate(profile.values) if value in _WORDS_FOR_MISSING}
    known = {value: None for place, value in enumerate(profile.values) if place not in words_for_missing}
    if pa.types.is_temporal(cell_type) and not pa.types.is_time(cell_type) and not pa.types.is_duration(cell_type):
        _see_times(profile, None)
    elif not known or len(profile.values) == 2 or pa.types.is_boolean(cell_type):
        pass
    elif not (_seen_as_numbers(profile, known) or _seen_as_times(profile, known) or _seen_as_members(profile)):
        _see_words(profile)
    if profile.kind not in ("numeric", "time"):
        for place in words_for_missing:
            profile.doubts.append(
                f"{profile.values[place]!r} ({percent(profile.share(place))}) is read as a value like any other: leave"
                " those cells blank if it means missing"
            )
    if profile.left_out:
        return
    if _is_one_a_row(profile):
        profile.left_out = "row ids: no two rows share a value"
    elif profile.kind == "categorical" and len(profile.values) > 0.5 * profile.counts.sum() > _FEWEST_ROWS_OF_IDS:
        profile.doubts.append("most values occur once: their ids learn little, see --min_count")


def _seen_as_numbers(profile: ColumnProfile, known: Collection[str]) -> bool:
    """Whether the values are numbers, ids and codes in digits included."""
    numbers = pd.to_numeric(pd.Series(profile.values, dtype=object), errors="coerce").to_numpy(np.float64)
    numeric = np.isfinite(numbers)
    others = [value for value, is_number in zip(profile.values, numeric) if not is_number and value in known][:3]
    if not numeric.any() or profile.counts[numeric].sum() < 0.95 * profile.counts.sum():
        return False
    whole = bool((numbers[numeric] % 1 == 0).all())
    if whole and profile.words & _TIME_WORDS:
        for time_format in ("%Y%m%d", None):
            if all(read_time(value, time_format) for value in known):
                _see_times(profile, time_format)
                return True
    zeros_in_front = any(re.fullmatch(r"0\d+", value) for value in profile.values)
    if profile.is_named_id or zeros_in_front or len(profile.values) <= _MOST_VALUES_AS_CATEGORIES:
        if zeros_in_front and not profile.is_named_id:
            profile.doubts.append("numbers with zeros in front are taken for codes")
        return True
    profile.kind, profile.numbers = "numeric", numbers
    rows = np.repeat(numbers[numeric], profile.counts[numeric])
    low, middle, top, high = np.quantile(rows, (0, 0.5, 0.99, 1))
    profile.described = f"from {low:.6g} to {high:.6g}, median {middle:.6g}"
    if low >= 0 and top > 20 * middle > 0:
        profile.options["buckets"] = "log"
        profile.doubts.append("log buckets, as the highest 1 % are more than 20 times the median; or else `quantile`")
    if others:
        profile.doubts.append(f"cells like {', '.join(map(repr, others))} are no numbers: they are read as missing")
    if whole and low >= 1000 and len(str(int(low))) == len(str(int(high))):
        profile.doubts.append("all have as many digits: if they are ids or codes, remove `kind`")
    return True


def _seen_as_times(profile: ColumnProfile, known: Collection[str]) -> bool:
    few = list(known)[:: max(1, len(known) // 200)]
    fitting = [form for form in _TIME_FORMATS if all(read_time(value, form) for value in few[:3])]
    for time_format in fitting:
        readable = sum(read_time(value, time_format) is not None for value in few)
        if readable >= 0.99 * len(few):
            swapped = _day_and_month_swapped(time_format)
            if swapped and all(read_time(value, swapped) for value in known):
                # the wrong reading scatters days over months
                time_format, swapped = sorted((time_format, swapped), key=lambda form: _span(known, form))
                profile.doubts.append(f"day or month first? The dates also read as {swapped!r}")
            _see_times(profile, time_format)
            return True
    return False


def _span(values: Collection[str], time_format: str | None) -> timedelta:
    moments = [moment for value in values if (moment := read_time(value, time_format))]
    return max(moments) - min(moments)


def _day_and_month_swapped(time_format: str | None) -> str | None:
    for one, other in (("%d/%m", "%m/%d"), ("%d-%m", "%m-%d")):
        for first, second in ((one, other), (other, one)):
            if time_format and time_format.startswith(first):
                return second + time_format[len(first) :]
    return None


def _see_times(profile: ColumnProfile, time_format: str | None) -> None:
    moments = [read_time(value, time_format) for value in profile.values]
    profile.kind = "time"
    # naive: differences do not depend on the zone
    seconds = [np.nan if moment is None else (moment - datetime(1970, 1, 1)).total_seconds() for moment in moments]
    profile.numbers = np.asarray(seconds)
    known = [moment for moment in moments if moment is not None]
    first, last = min(known), max(known)
    profile.described = f"from {first} to {last}".replace(" 00:00:00", "")
    if time_format is not None:
        profile.options["time_format"] = time_format
    if unread := [value for value, moment in zip(profile.values, moments) if moment is None]:
        profile.doubts.append(f"cells like {unread[0]!r} are no times: they are read as missing")
    hours = len({moment.hour for moment in known}) > 1
    parts = {"hour": hours, "weekday": (last - first).days >= 7, "month": (last - first).days > 365}
    profile.options["parts"] = [part for part, tells in parts.items() if tells]


def _seen_as_members(profile: ColumnProfile) -> bool:
    if all(_AMOUNT.fullmatch(value) for value in profile.values[:200]):
        profile.left_out = "amounts with signs or separators: write plain numbers (1234.5) to make them numeric"
        return True
    for separator in _SEPARATORS:
        having = [place for place, value in enumerate(profile.values) if separator in value]
        if profile.counts[having].sum() < 0.1 * profile.counts.sum():
            continue
        cells = [[m for m in map(str.strip, value.split(separator)) if m] for value in profile.values]
        members = Counter(member for cell in cells for member in cell)
        shown: Counter[str] = Counter()
        for cell, count in zip(cells, profile.counts.tolist()):
            shown.update(dict.fromkeys(cell, count))
        # over all rows: parts of sentences that return are short, as in "17 rooms"
        words = sum(len(member.split()) * count for member, count in shown.items()) / max(sum(shown.values()), 1)
        most_words = _WORDS_OF_TEXT if separator in "|;" else _WORDS_OF_TEXT - 1
        reused = sum(members.values()) / max(len(members), 1)
        if words <= most_words and reused >= (1.5 if separator in "|;" else 3):
            _see_members(profile, cells, separator)
            return True
    return False


def _see_members(profile: ColumnProfile, cells: list[list[str]], separator: str | None) -> None:
    """Notes that a cell holds several values, given those of each distinct cell or, for lists, of each row."""
    repeats = profile.counts if separator is not None else np.ones(len(cells), dtype=np.int64)
    sizes = np.repeat([len(cell) for cell in cells], repeats)
    members = Counter(member for cell in cells for member in cell)
    most = max(2, min(20, int(np.quantile(sizes, 0.95))))
    profile.kind = "multi_valued"
    profile.options["max_values"] = most
    split = "lists" if separator is None else f"split at {separator!r}"
    if separator is not None:
        profile.options["separator"] = separator
    profile.described = f"{split}, {len(members):,} members, up to {sizes.max()} a row"
    if sizes.max() > most:
        left = percent(float((sizes > most).mean()))
        profile.doubts.append(f"{left} of the rows have more than max_values: the ids of their further ones are lost")


def _see_words(profile: ColumnProfile) -> None:
    lengths = np.asarray([len(value.split()) for value in profile.values])
    words = float(np.average(lengths, weights=profile.counts))
    if words >= _WORDS_OF_TEXT and len(profile.values) > _FEWEST_TEXTS:
        profile.kind = "text"
        profile.described = f"{words:.0f} words on average, up to {lengths.max():,}"
        if lengths.max() > _LONG_TEXT:
            profile.doubts.append("long: with a PLM, pass --max_text_length to the training script to truncate")


def _is_one_a_row(profile: ColumnProfile) -> bool:
    if profile.num_rows < _FEWEST_ROWS_OF_IDS or len(profile.values) < profile.num_rows:
        return False
    if profile.kind == "numeric" and profile.numbers is not None:
        # row numbers
        return float(np.ptp(profile.numbers)) == profile.num_rows - 1 and bool((profile.numbers % 1 == 0).all())
    return profile.kind == "categorical"


def rank_alone(profile: ColumnProfile, clicks: np.ndarray) -> None:
    """Sets the AUC of the column alone: each half of the rows is ranked by the share of clicks that its value has in
    the other half. A column that ranks almost perfectly is left out: such a one is mostly known after the click only.

    Args:
        profile: A column.
        clicks: (N,) 1, 0, or NaN where unknown.
    """
    rows = np.flatnonzero(np.isfinite(clicks))
    if len(rows) < _FEWEST_ROWS_TO_RANK or profile.left_out or np.ptp(clicks[rows]) == 0:
        return
    places = profile.places
    if profile.numbers is not None:
        numbers = np.append(profile.numbers, np.nan)[places]
        edges = np.nanquantile(numbers, np.linspace(0, 1, _NUMBERS_BINS + 1)[1:-1])
        # an edge, such as the zero that most rows have, is a bin of its own
        bins = np.searchsorted(edges, numbers, side="left") + np.searchsorted(edges, numbers, side="right")
        places = np.where(np.isfinite(numbers), bins, -1)
    order = np.random.default_rng(0).permutation(rows)
    halves = order[::2], order[1::2]
    scores = np.full(len(clicks), np.nan)
    for half, other in (halves, halves[::-1]):
        shown = np.bincount(places[other] + 1, minlength=places.max() + 2)
        clicked = np.bincount(places[other] + 1, weights=clicks[other], minlength=places.max() + 2)
        # one more row with the mean of all keeps rare values near it
        scores[half] = ((clicked + clicks[other].mean()) / (shown + 1))[places[half] + 1]
    profile.auc = float(roc_auc_score(clicks[rows], scores[rows]))
    if profile.auc >= _LEAK:
        profile.left_out = "it tells the label almost perfectly: a leak, unless it is known before the click"
    elif profile.auc >= _NEAR_LEAK:
        profile.doubts.append("it tells much of the label: is it known before the click?")


def percent(share: float) -> str:
    """`"13 %"`, with more digits near 0 and 100."""
    value = 100 * share
    if value < 1:
        return f"{value:.1g} %"
    return f"{value:.0f} %" if value <= 99 or value == 100 else f"{value:.2f} %"
