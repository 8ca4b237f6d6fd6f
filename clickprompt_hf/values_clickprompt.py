# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""One spelling of a value, whatever file it comes from; numbers, times and labels.

This file ships inside every checkpoint, and in exported folders that serve without torch: it imports only numpy and
the standard library.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

# leading zeros make an id, not a number
_WHOLE_NUMBER_AS_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.0")
# characters of a number with 15 digits and a point: any double can hold those
_LONGEST_DECIMAL = 16
_SECOND_FRACTION = re.compile(r"\.(\d+)")


def is_column(values: Any) -> bool:
    """Whether `values` are several, and not one value as a string is."""
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping))


def holds_several(cell: Any) -> bool:
    """Whether a cell is a list or a mapping; an array of no dimensions is one value."""
    return isinstance(cell, Mapping) or (is_column(cell) and getattr(cell, "ndim", None) != 0)


def each_distinct(values: Iterable, function: Callable[[Any], Any]) -> list[Any]:
    """`function` of each value, called once for each distinct one: columns repeat themselves."""
    values = values if isinstance(values, list) else list(values)
    # Values of several types may be equal without being written alike, as 1 and True; lists are no keys; few values
    # are not worth it.
    kinds = set(map(type, values)) if len(values) > 32 else set()
    if len(kinds) != 1 or not issubclass(kinds.pop(), (str, int, float)):
        return [function(value) for value in values]
    results = {value: function(value) for value in set(values)}
    return [results[value] for value in values]


def read_time(value: Any, time_format: str | None = None) -> datetime | None:
    """The moment that a raw value names, in UTC where it has a time zone; `None` where it names none.

    Args:
        value: A date or time, a string, or a number of seconds since 1970, or of milli-, micro- or nanoseconds, which
            their size tells from 1973 on.
        time_format: Format of strings and numbers, as in `datetime.strptime`; by default ISO 8601, as in
            `"2024-01-31 14:05:00"`, or a number as above.
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
                value = _moment_of_number(number_of(text))
            else:
                value = datetime.fromisoformat(_plain_iso(text))
        except (ValueError, OverflowError):
            return None
    # NaT is a datetime, and equals nothing
    if value is None or value != value:
        return None
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _moment_of_number(number: float) -> datetime | None:
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if 1e8 <= number / unit < 1e11:
            return datetime.fromtimestamp(number / unit, UTC)
    return None


def _plain_iso(text: str) -> str:
    """ISO 8601 as Python 3.10 reads it: no letters for UTC, six digits of a second."""
    text = re.sub(r" ?(Z|UTC)$", "+00:00", text)
    return _SECOND_FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text, count=1)


def spellings(values: Iterable) -> list[str]:
    """Each value as vocabularies spell it; the empty string where it is missing."""
    return each_distinct(values, canonical)


def canonical(value: Any) -> str:
    """One spelling of a value, whatever file it comes from: no outer or repeated white space, whole numbers without a
    decimal part, truth values as Python writes them."""
    if value is None:
        return ""
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):
        # a tensor or an array of no dimensions
        value = value.item()
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        # pandas makes integer columns with gaps float
        return str(int(value)) if float(value).is_integer() else _shortest(float(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    text = str(value)
    # pandas' own missing values
    if text in ("<NA>", "NaT"):
        return ""
    text = encodable(" ".join(text.split()))
    # what pandas writes of such columns into a CSV file
    return str(int(text[:-2])) if _WHOLE_NUMBER_AS_FLOAT.fullmatch(text) else text


def encodable(text: str) -> str:
    """`text` with lone surrogates, which JSON may hold but UTF-8 cannot, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shortest(number: float) -> str:
    """The shortest numeral that reads back as `number`; 0.1 for a 0.1 that was stored in 32 bits."""
    text = str(number)
    if len(text) <= _LONGEST_DECIMAL:
        return text
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return str(single) if float(single) == number else text


def number_of(value: Any) -> float:
    """The value as a float; NaN where it is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def labels_in_words(values: Iterable, positive: str) -> np.ndarray:
    """(N,) floats: 1 where a value is `positive`, NaN where it is missing, else 0. The numbers 0 and 1 stay what they
    are, so that labels which were read already may be read again."""
    numbers = {positive: 1.0, "1": 1.0, "": float("nan")}
    return np.asarray([numbers.get(spelling, 0.0) for spelling in spellings(values)], dtype=np.float64)
