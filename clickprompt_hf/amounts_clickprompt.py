# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers with units, currencies, separators or signs, which cells should not have: what they mean, written plainly.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from .values_clickprompt import normal_number, number_of

# Numbers with separators of thousands, or a comma before the fraction, which cells should not have.
_SEPARATED = re.compile(r"([-+]?[1-9]\d{0,2})((?:([,. '\u2019\u00a0\u202f])\d{3})(?:\3\d{3})*)([.,]\d+)?")
_WITH_COMMA = re.compile(r"([-+]?\d+),(\d+)", re.ASCII)
# Numbers with a currency or a unit before or behind them.
_WITH_UNIT = re.compile(
    r"([-+]?)([^\d\s.,+-][^\d\s,+-]{0,3})? ?([-+]?(?:\d(?:[\d.,'\u2019 ]*\d)?|\.\d+)) ?([^\d\s.,+-][^.,+]{0,14}\.?)?"
)
# Minus signs that Python does not read, parentheses of accountants, and signs behind numbers.
_NEGATIVE = re.compile(r"\(([^-+()]+)\)|([^-+()]+)-|[\u2212\u2013] ?([^-+()]+)")
_MAGNITUDES = {"k": 3, "tsd": 3, "thousand": 3, "mio": 6, "mn": 6, "million": 6, "bn": 9, "billion": 9, "mrd": 9}
_CURRENCIES = {
    *("usd", "eur", "gbp", "chf", "jpy", "cny", "rmb", "inr", "rub", "pln", "sek", "nok", "dkk", "czk", "huf", "ron"),
    *("aud", "nzd", "cad", "brl", "mxn", "ars", "clp", "zar", "krw", "thb", "sgd", "hkd", "twd", "idr", "aed", "ils"),
    *("us$", "a$", "c$", "hk$", "r$", "s$", "rs", "kr", "zł", "kč", "euro", "euros", "dollar", "dollars"),
}
_UNITS = {
    *_CURRENCIES,
    *_MAGNITUDES,
    *("m", "b", "%", "‰", "pct", "percent", "prozent"),
    *("kg", "g", "mg", "t", "lb", "lbs", "oz", "ton", "tons", "tonnes"),
    *("km", "cm", "mm", "mi", "mile", "miles", "ft", "in", "inch", "inches", "m2", "m²", "m3", "m³", "sqm", "sqft"),
    *("ms", "s", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "h", "hr", "hrs", "hour"),
    *("hours", "d", "day", "days", "w", "week", "weeks", "mo", "month", "months", "y", "yr", "yrs", "year", "years"),
    *("tag", "tage", "woche", "wochen", "monat", "monate", "jahr", "jahre", "an", "ans", "jours", "años"),
    *("kb", "mb", "gb", "tb", "l", "ml", "cl", "km/h", "kmh", "mph", "kmpl", "hp", "bhp", "ps", "kw", "kwh", "mah"),
    *("hz", "khz", "mhz", "ghz", "cc", "bar", "°c", "°f", "°", "kcal", "kj", "pcs", "stk"),
}


def number_and_unit(text: str, any_unit: bool = False) -> tuple[str, str] | None:
    """Split a number with a currency or unit, such as `12 kg`, `€ 5`, `14,7 %` or `1.2k`.

    Args:
        text: As `canonical` spells it.
        any_unit: Whether a doubtful unit counts too: a word that is not a known one, or one letter without a blank.

    Returns:
        The number as it is written, and the unit in lower case; `None` for another text.
    """
    found = _WITH_UNIT.fullmatch(text)
    if found is None or bool(found[2]) == bool(found[4]):
        return None
    sign, before, number, behind = found.groups("")
    unit = (before or behind).casefold().rstrip(". ")
    is_known = is_known_unit(unit) and (not before or unit in _CURRENCIES or unit not in _UNITS)
    has_blank = bool(behind) and text[-len(behind) - 1] == " "
    if unit.isalpha() and not any_unit and not has_blank and len(unit) == 1 and unit != "k":
        # as in 12b, which may be a code
        is_known = False
    is_number = np.isfinite(number_of(number)) or bool(plain_readings(number))
    return (sign + number, unit) if is_number and (is_known or (any_unit and has_blank and unit.isalpha())) else None


def is_known_unit(unit: str) -> bool:
    """Whether a unit of `number_and_unit` is a usual one or a currency, not just any word behind a number."""
    return unit in _UNITS or any(unicodedata.category(character) == "Sc" for character in unit)


def plain_readings(text: str) -> list[str]:
    """How a number with separators of thousands, a comma before its fraction, or a unit may be written plainly.

    Returns:
        `["2067"]` for `2 067`, `["2067.11"]` for `2.067,11`, `["14.7"]` for `14,7 %`, `["1200"]` for `1.2k`,
        `["-5"]` for `(5)` and `5-`, both `["2067", "2.067"]` for `2,067` and `2.067 kg`, and nothing for a text that
        is not such a number, or may mean meters or millions.
    """
    if negative := _NEGATIVE.fullmatch(text):
        number = next(filter(None, negative.groups())).strip()
        is_plain = number[:1].isdigit() and np.isfinite(number_of(number))
        return ["-" + reading for reading in plain_readings(number) or ([number] if is_plain else [])]
    if split := number_and_unit(text):
        number, unit = split
        readings = plain_readings(number) or [number]
        if unit in ("m", "b"):
            return []
        power = _MAGNITUDES.get(unit, 0)
        return [normal_number(f"{reading}e{power}") or reading for reading in readings] if power else readings
    found, with_comma = _SEPARATED.fullmatch(text), _WITH_COMMA.fullmatch(text)
    readings = []
    if found and found[3] != (found[4] or "")[:1]:
        readings.append(found[1] + re.sub(r"\D", "", found[2]) + (found[4] or "").replace(",", "."))
    if with_comma:
        readings.append(f"{with_comma[1]}.{with_comma[2]}")
    elif readings and np.isfinite(number_of(text)):
        # a fraction of three digits
        readings.append(text)
    return readings


def advice_on_numbers(texts: Iterable[str]) -> str:
    """Advice on unreadable numbers, with an unambiguous one as its example if there is any; else nothing."""
    readings = {text: found for text in texts if (found := plain_readings(text))}
    if not readings:
        return ""
    text = min(readings, key=lambda text: len(readings[text]))
    has_marks = not (number_and_unit(text) or _NEGATIVE.fullmatch(text))
    option = "" if not has_marks else ", or name `decimal` and `thousands` of a CSV file"
    return f"write {' or '.join(readings[text])} for {text!r}{option}"
