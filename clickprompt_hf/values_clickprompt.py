# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""One spelling per value, whatever file or library it comes from; what a spelling means; numbers and times.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

# Leading zeros make it an id, not a number.
_WHOLE_NUMBER_AS_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.0")
# Significant digits of a number that is stored in 32 bits and hardly of any other: 4.03 becomes 4.03000020980835, and
# 65536.1 becomes 65536.1015625.
_FEWEST_ROUNDED = 12
# Digits of a whole number that is written out; no double has more.
_LONGEST_WHOLE = 400
# From here on, doubles do not hold every whole number.
FIRST_INEXACT = 2.0**53
_SECOND_FRACTION = re.compile(r"\.(\d+)")
_TRUTHS = {"true": 1.0, "false": 0.0}
# Normal spellings of words that mean more than themselves, in any case. The missing ones are those of pandas.read_csv
# and of databases.
WORDS = {
    **{word.lower(): word for word in ("True", "False", "inf", "-inf")},
    **{"+inf": "inf", "infinity": "inf", "+infinity": "inf", "-infinity": "-inf"},
    **dict.fromkeys(["", "nan", "-nan", "nat", "null", "none", "na", "n/a", "<na>", "\\n"], ""),
    **dict.fromkeys(["#n/a", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"], ""),
}
_LONGEST_WORD = max(map(len, WORDS))
# First characters of texts that may mean something other than themselves.
_FIRST_OF_MEANINGS = frozenset(
    [*"0123456789+-.", *(word[:1] for word in WORDS), *(word[:1].upper() for word in WORDS)]
)
# A quick test: the characters of all patterns below.
_NUMBER_OR_TIME = re.compile(r"[-+.\d][-+.:, \daAcCdDeEsStTuUyYzZ]*", re.ASCII)
_NUMBER = re.compile(r"([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(?:[eE]([+-]?\d{1,6}))?", re.ASCII)
_TIME = re.compile(
    r"(-?\d{4,6}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)? ?(?:Z|UTC|([+-])(\d\d):?(\d\d)?(?::(\d\d))?)?)?",
    re.ASCII | re.IGNORECASE,
)
_DURATION = re.compile(
    r"(?=.)(?:(-?\d{1,12}) days?)?(?:(?:^|,? )([+-]?)(\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,9}))?)?", re.ASCII
)
# Of dates in digits alone, by their length: from ten digits on, they are also numbers of seconds since 1970, or of
# fractions of them.
_FORMATS_OF_DIGITS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_FORMATS_OF_DIGITS |= dict.fromkeys((17, 20), "%Y%m%d%H%M%S%f")
_NANOSECONDS = {"us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "D": 86_400 * 10**9}
_NANOSECONDS |= {"ns": 1, "W": 7 * _NANOSECONDS["D"]}


def is_column(values: Any) -> bool:
    """Whether `values` is a sequence of values, unlike strings, zero-dimensional arrays, and sets without an order."""
    is_sequence = hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping, set, frozenset))
    return is_sequence and getattr(values, "ndim", None) != 0


def holds_several(cell: Any) -> bool:
    """Whether a cell is a list, a set or a mapping. A zero-dimensional array is a single value."""
    return isinstance(cell, (Mapping, set, frozenset)) or is_column(cell)


def each_distinct(values: Iterable, function: Callable[[Any], Any]) -> list[Any]:
    """Apply `function` to each value, calling it once per distinct value: columns repeat values."""
    values = values if isinstance(values, list) else list(values)
    # Lists are unhashable; short columns gain nothing.
    if len(values) <= 32 or not equal_are_spelled_alike(values):
        return [function(value) for value in values]
    results = {value: function(value) for value in set(values)}
    return [results[value] for value in values]


def equal_are_spelled_alike(values: Sequence) -> bool:
    """Whether values are hashable, and equal ones are sure to have one spelling.

    Equal values of different types may not, as 1 and True; nor may times with a zone, as those of the hour that clocks
    repeat in autumn are equal whichever hour is meant.
    """
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) != 1 or not issubclass(kind := kinds.pop(), (str, int, float, date, np.number, np.datetime64)):
        return False
    return not issubclass(kind, datetime) or not any(value is not None and value.tzinfo for value in values)


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
        # Coarser units and numpy's years are converted by the text: `item` would give numbers.
        value = canonical(value)
        time_format = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        if not isinstance(value, datetime):
            text = canonical(value)
            if time_format is not None:
                value = datetime.strptime(text, time_format)
            elif np.isfinite(number := number_of(text)):
                value = _time_of_number(number)
            else:
                value = datetime.fromisoformat(_plain_iso(_normal_time(text) or text))
        # NaT is a datetime that does not equal itself; pandas has years that Python lacks.
        if value is None or value != value or value.year > MAXYEAR:
            return None
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    # A time at the ends of Python's years may leave them in UTC.
    except (ValueError, OverflowError):
        return None


def format_of_digits(value: Any) -> str | None:
    """The format of a date of the years 1900 to 2099 in digits alone, such as `20220103194039`; `None` for others.

    Such numbers of seconds, or of fractions of them, since 1970 are times after 2030 or before 1977.
    """
    text = canonical(value)
    time_format = _FORMATS_OF_DIGITS.get(len(text))
    if time_format is None or text[:2] not in ("19", "20") or not (text.isascii() and text.isdigit()):
        return None
    return None if read_time(text, time_format) is None else time_format


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
    """Spell a value the same way whatever file or library it comes from; the empty string if it is missing.

    A string keeps its spelling, except that white space is stripped and collapsed, Unicode is composed (NFC), and
    `7.0` becomes `7`. Other values have the normal spelling of what they mean, as in `meaning_of`, whatever their
    type: `Decimal("4.50")` and 4.5 are `4.5`, and all types of one moment agree.
    """
    if isinstance(value, str):
        return _spelled(value)
    if isinstance(value, (bool, np.bool_)):
        return str(value)
    if isinstance(value, (float, np.floating)):
        return _spelled_float(float(value))
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return _spelled_numpy_time(value)
    if isinstance(value, (int, np.integer)):
        try:
            return str(value)
        # Python does not write integers of thousands of digits, but decimals.
        except ValueError:
            return str(Decimal(int(value)))
    # The last is pandas' NA.
    if value is None or type(value).__name__ == "NAType":
        return ""
    if isinstance(value, Decimal):
        return "" if value.is_nan() else meaning_of(str(value)) or str(value)
    if isinstance(value, date):
        return _spelled_time(value)
    if isinstance(value, timedelta):
        seconds = 86_400 * value.days + value.seconds
        # pandas has nanoseconds.
        return _spelled_duration(10**9 * seconds + 1000 * value.microseconds + getattr(value, "nanoseconds", 0))
    if isinstance(value, bytes):
        return _spelled(value.decode("utf-8", errors="replace"))
    if getattr(value, "ndim", None) == 0:
        # A zero-dimensional array, whose `item` would turn times into numbers, or tensor.
        return canonical(value[()] if isinstance(value, np.ndarray) else value.item())
    text = str(value)
    return _normal_duration(text) or text if isinstance(value, time) else _spelled(text)


def _spelled(text: str) -> str:
    text = " ".join(text.split())
    if not text.isascii():
        return unicodedata.normalize("NFC", encodable(text))
    # pandas writes integer columns with missing values to CSV files as 7.0.
    if text.endswith(".0") and _WHOLE_NUMBER_AS_FLOAT.fullmatch(text):
        return "0" if text == "-0.0" else text[:-2]
    return text


def _spelled_float(number: float) -> str:
    if number != number:
        return ""
    if not number.is_integer():
        return _shortest(number)
    return str(int(number)) if abs(number) < FIRST_INEXACT else normal_number(str(number)) or str(number)


def _spelled_time(value: date) -> str:
    # NaT is a date that does not equal itself.
    if value != value:
        return ""
    text = str(value)
    if getattr(value, "tzinfo", None) is None:
        return text.removesuffix(" 00:00:00")
    return _normal_time(text) or text


def _spelled_numpy_time(value: np.datetime64 | np.timedelta64) -> str:
    if np.isnat(value):
        return ""
    unit, step = np.datetime_data(value.dtype)
    if isinstance(value, np.timedelta64):
        in_nanoseconds = _NANOSECONDS.get(unit)
        return (
            str(value) if in_nanoseconds is None else _spelled_duration(int(value.view("i8")) * step * in_nanoseconds)
        )
    if unit in ("Y", "M", "W", "h", "m"):
        value = value.astype("M8[D]" if unit in ("Y", "M", "W") else "M8[s]")
    return _normal_time(str(value)) or str(value)


def _spelled_duration(nanoseconds: int) -> str:
    """Write a duration as Python does, but with two digits for hours and, if needed, nanoseconds."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    days, seconds = divmod(seconds, 86_400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{_spelled_fraction(f'{fraction:09}')}"
    return f"{days} day{'' if abs(days) == 1 else 's'}, {clock}" if days else clock


def _spelled_fraction(digits: str) -> str:
    """The fraction of a second, in microseconds if that is enough."""
    digits = digits.rstrip("0")
    return f".{digits.ljust(6 if len(digits) <= 6 else 9, '0')}" if digits else ""


def meaning_of(text: str) -> str | None:
    """The normal spelling of what a text means, which equals that of other texts that mean the same.

    Args:
        text: As `canonical` spells it.

    Returns:
        Of a number, its shortest decimal: `1000` for `1e3`, `7` for `007`, `4.5` for `4.50`. Of a truth value, `True`
        or `False`. Of a date or time in ISO 8601, its time in UTC, as in `2024-01-31 10:00:00`, or the date alone at
        midnight. Of a duration, as in `2 days, 01:30:00`. The empty string if the text is a word for a missing value.
        `None` if it only means itself.
    """
    if len(text) <= _LONGEST_WORD and (meaning := WORDS.get(text.lower())) is not None:
        return meaning
    if not _NUMBER_OR_TIME.fullmatch(text):
        return None
    number = normal_number(text)
    if number is not None:
        return number
    if "-" in text and (moment := _normal_time(text)):
        return moment
    return _normal_duration(text) if ":" in text or "day" in text else None


def with_another_spelling(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Indices and normal spellings of texts that are spelled differently; plain integers and words are skipped fast.

    The normal spelling is that of `meaning_of`, or of `canonical` for a text that only means itself.
    """
    for index, text in enumerate(texts):
        if text.isascii() and (text[:1] not in _FIRST_OF_MEANINGS or (text.isdigit() and text[0] != "0")):
            continue
        meaning = meaning_of(text)
        normal = canonical(text) if meaning is None else meaning
        if normal != text:
            yield index, normal


def normal_number(text: str) -> str | None:
    """The shortest decimal of a number, as in `meaning_of`; `None` for another text."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, fraction, only_fraction, exponent = found.groups("")
    digits = (whole + fraction + only_fraction).lstrip("0")
    # Of the digits before the point; negative if zeros follow it.
    point = len(digits) - len(fraction + only_fraction) + int(exponent or 0)
    digits = digits.rstrip("0")
    if not digits:
        return "0"
    sign = sign.replace("+", "")
    if len(digits) <= point <= _LONGEST_WHOLE:
        return sign + digits.ljust(point, "0")
    if -4 < point < len(digits):
        number = sign + (f"{digits[:point]}.{digits[point:]}" if point > 0 else "0." + "0" * -point + digits)
    else:
        number = f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1:+03}"
    is_double = len(number) > _FEWEST_ROUNDED and number == str(float(number))
    return _shortest(float(number)) if is_double else number


def _normal_time(text: str) -> str | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    day, minute, second, fraction, sign, *offset = found.groups()
    try:
        moment = np.datetime64(f"{day}T{minute or '00:00'}:{second or '00'}", "s")
    except ValueError:
        return None
    if sign:
        hours, minutes, seconds = (int(part or 0) for part in offset)
        shift = np.timedelta64(3600 * hours + 60 * minutes + seconds, "s")
        moment = moment - shift if sign == "+" else moment + shift
    return f"{moment}{_spelled_fraction(fraction or '')}".replace("T", " ").removesuffix(" 00:00:00")


def _normal_duration(text: str) -> str | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, sign, hours, minutes, seconds, fraction = (part or "0" for part in found.groups())
    nanoseconds = (3600 * int(hours) + 60 * int(minutes) + int(seconds)) * 10**9 + int(fraction.ljust(9, "0"))
    return _spelled_duration(int(days) * _NANOSECONDS["D"] + (-nanoseconds if sign == "-" else nanoseconds))


def normal_spelling(value: Any) -> str:
    """The normal spelling of what a value means; its own spelling if it only means itself."""
    text = canonical(value)
    meaning = meaning_of(text)
    return text if meaning is None else meaning


def is_missing(value: Any) -> bool:
    """Whether a value is missing or a word for it, such as `NA` or `null`."""
    return meaning_of(canonical(value)) == ""


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON allows but UTF-8 cannot encode, with U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shortest(number: float) -> str:
    """Write the shortest numeral that reads back as `number`; 0.1 for a 0.1 that was stored in 32 bits."""
    text = str(number)
    # that many digits and a point
    if len(text) <= _FEWEST_ROUNDED:
        return text
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if float(single) != number:
        return text
    digits = text.partition("e")[0].replace(".", "").lstrip("-0")
    # numpy would write 0.0001 as 1e-04
    return str(float(str(single))) if len(digits) >= _FEWEST_ROUNDED else text


def number_of(value: Any) -> float:
    """Convert a value to a float; NaN if it is missing or not a number. Truth values are 1 and 0, as in labels."""
    is_number = isinstance(value, (int, float, np.bool_, np.integer, np.floating))
    # A numpy duration is an integer too.
    if is_number and not isinstance(value, np.timedelta64):
        try:
            return float(value)
        except OverflowError:
            return float("nan")
    text = (value if isinstance(value, str) else canonical(value)).strip()
    # Python also reads 1_000 and the digits of every script.
    if "_" in text or not text.isascii():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return _TRUTHS.get(text.lower(), float("nan"))


def percent(share: float) -> str:
    """Format a share as a percentage such as `"13 %"`, with more digits near 0 and 100."""
    value = 100 * share
    if value < 1:
        return f"{value:.1g} %"
    return f"{value:.0f} %" if value <= 99 or value == 100 else f"{value:.2f} %"
