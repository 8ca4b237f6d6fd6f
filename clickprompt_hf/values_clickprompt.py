# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""One spelling per value, whatever file it comes from; numbers, times and labels.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

# Leading zeros make it an id, not a number.
_WHOLE_NUMBER_AS_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.0")
# Characters in a number of 15 digits and a point, which a double holds exactly.
_LONGEST_DECIMAL = 16
_SECOND_FRACTION = re.compile(r"\.(\d+)")
_LABELS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def is_column(values: Any) -> bool:
    """Whether `values` is a sequence of values; strings, mappings and sets, which have no order, are not."""
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping, set, frozenset))


def holds_several(cell: Any) -> bool:
    """Whether a cell is a list, a set or a mapping. A zero-dimensional array is a single value."""
    return isinstance(cell, (Mapping, set, frozenset)) or (is_column(cell) and getattr(cell, "ndim", None) != 0)


def each_distinct(values: Iterable, function: Callable[[Any], Any]) -> list[Any]:
    """Apply `function` to each value, calling it once per distinct value: columns repeat values."""
    values = values if isinstance(values, list) else list(values)
    # Values of different types may be equal but spelled differently, as 1 and True; lists are unhashable; short
    # columns gain nothing.
    kinds = set(map(type, values)) if len(values) > 32 else set()
    if len(kinds) != 1 or not issubclass(kinds.pop(), (str, int, float)):
        return [function(value) for value in values]
    results = {value: function(value) for value in set(values)}
    return [results[value] for value in values]


def read_time(value: Any, time_format: str | None = None) -> datetime | None:
    """Read a time. Times with a time zone are converted to UTC.

    Args:
        value: A date or time, a string, or a number of seconds since 1970. Numbers of milli-, micro- or nanoseconds
            are recognized by their size, for times from 1973 on.
        time_format: Format of strings and numbers, as for `datetime.strptime`. Defaults to ISO 8601, as in
            `"2024-01-31 14:05:00"`, or a number as above.

    Returns:
        A time without a time zone; `None` if `value` is not a time.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        text = canonical(value)
        try:
            if time_format is not None:
                value = datetime.strptime(text, time_format)
            elif np.isfinite(number_of(text)):
                value = _time_of_number(number_of(text))
            else:
                value = datetime.fromisoformat(_plain_iso(text))
        except (ValueError, OverflowError):
            return None
    # NaT is a datetime that does not equal itself.
    if value is None or value != value:
        return None
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _time_of_number(number: float) -> datetime | None:
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if 1e8 <= number / unit < 1e11:
            return datetime.fromtimestamp(number / unit, UTC)
    return None


def _plain_iso(text: str) -> str:
    """Rewrite ISO 8601 the way Python 3.10 reads it: an offset instead of Z or UTC, six digits of a second."""
    text = re.sub(r" ?(Z|UTC)$", "+00:00", text)
    return _SECOND_FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text, count=1)


def spellings(values: Iterable) -> list[str]:
    """Spell each value as vocabularies do; the empty string if it is missing."""
    return each_distinct(values, canonical)


def canonical(value: Any) -> str:
    """Spell a value the same way whatever file it comes from; the empty string if it is missing.

    Strips and collapses white space, writes whole numbers without a decimal part and truth values as Python does.
    """
    if value is None:
        return ""
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):
        # A zero-dimensional tensor or array.
        value = value.item()
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        # pandas turns integer columns with missing values into floats.
        return str(int(value)) if float(value).is_integer() else _shortest(float(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    text = str(value)
    # Missing values of pandas.
    if text in ("<NA>", "NaT"):
        return ""
    text = encodable(" ".join(text.split()))
    # pandas writes such columns to CSV files as 7.0.
    return str(int(text[:-2])) if _WHOLE_NUMBER_AS_FLOAT.fullmatch(text) else text


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON allows but UTF-8 cannot encode, with U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shortest(number: float) -> str:
    """Write the shortest numeral that reads back as `number`; 0.1 for a 0.1 that was stored in 32 bits."""
    text = str(number)
    if len(text) <= _LONGEST_DECIMAL:
        return text
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return str(single) if float(single) == number else text


def number_of(value: Any) -> float:
    """Convert a value to a float; NaN if it is missing or not a number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def labels_of(values: Iterable, positive: str | None = None) -> np.ndarray:
    """Read click labels: (N,) float64, 1 for a click, 0 for no click, NaN for a value that is not a label.

    Args:
        values: Labels as numbers, truth values or strings of these; with `positive`, any words.
        positive: `Schema.positive`: the word that means a click. Any other word means no click, 0 and 1 keep their
            meaning, and a missing value is not a label.
    """
    if positive is not None:
        clicks = {positive: 1.0, "1": 1.0, "": float("nan")}
        return np.asarray(each_distinct(values, lambda value: clicks.get(canonical(value), 0.0)), dtype=np.float64)
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        labels = values.astype(np.float64)
    else:
        labels = np.asarray(each_distinct(values, _label_of), dtype=np.float64)
    return np.where(np.isin(labels, (0, 1)), labels, np.nan)


def _label_of(value: Any) -> float:
    spelling = canonical(value).lower()
    return _LABELS[spelling] if spelling in _LABELS else number_of(spelling)


def check_labels(
    values: Sequence | np.ndarray,
    column: str,
    positive: str | None = None,
    where: str = "the rows",
    row_offset: int = 0,
    advice: str = "",
) -> np.ndarray:
    """Read click labels and refuse values that are not labels.

    Args:
        values: As in `labels_of`.
        column: Name of their column, for the message.
        positive: As in `labels_of`.
        where: What the rows are part of, for the message.
        row_offset: Number of the first row, for the message.
        advice: Further advice for the message.

    Returns:
        (N,) int64, 0 or 1.

    Raises:
        ValueError: If a value is not a label; the message names it and its row.
    """
    labels = labels_of(values, positive)
    if (unknown := np.isnan(labels)).any():
        row = int(unknown.argmax())
        found = values[row].item() if isinstance(values[row], np.generic) else values[row]
        expected = "0 or 1" if positive is None else f"0, 1 or words ({positive!r} for a click)"
        if positive is None and isinstance(found, str):
            advice = f" For labels that are words, set `positive` in the schema to the word for a click.{advice}"
        raise ValueError(
            f"Labels in column {column!r} must be {expected}, got {found!r} in row {row_offset + row} of {where}, "
            f"counted from 0.{advice}"
        )
    return labels.astype(np.int64)
