# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers that are not written plainly: with a currency, a unit, or separators of thousands; times of day."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..amounts_clickprompt import is_known_unit, number_and_unit, plain_readings
from ..values_clickprompt import number_of
from .written_numbers import are_triples

_WITHOUT_PARENTHESES = re.compile(r"^\((.*)\)$")
_CLOCK = re.compile(r"(-?\d+ days?,? \+?)?-?\d{1,4}:\d\d(:\d\d(\.\d+)?)?( ?[ap]\.?m\.?)?", re.IGNORECASE)
_MOST_OTHERS = 0.05
_MOST_UNITS = 5
# Letters right behind numbers are parts of codes if there are several kinds, unless they are these.
_MAGNITUDE_LETTERS = {"k", "m", "b"}
# Among this many lists of whole numbers, some entries would not have three digits.
_LEAST_LISTS = 20


def question_clocks(values: Sequence[str]) -> str | None:
    """What to do about a column of times of day or durations, such as `43:07`; else `None`."""
    if not values or not all(map(_CLOCK.fullmatch, values)):
        return None
    return (
        f"times of day or durations, such as {values[0]!r}, are read as words: write numbers, e.g. of minutes, to "
        "make the field numeric"
    )


def have_unknown_unit(values: Sequence[str]) -> bool:
    """Whether a number has a word behind it that is not a known unit, as in `229 BA`, which may be a code."""
    units = map(_unit_of, values)
    return any(unit is not None and not is_known_unit(unit) for unit in units)


def question_amounts(values: Sequence[str], counts: np.ndarray) -> str | None:
    """What to do about a column whose values are numbers, hardly any of them written plainly; else `None`.

    Args:
        values: Distinct values of a column, without words for missing ones.
        counts: (V,) rows of each.
    """
    if not values or (are_triples(values) and len(values) > _LEAST_LISTS):
        return None
    units: Counter[str] = Counter()
    rows_of_others, most_others = 0, _MOST_OTHERS * counts.sum()
    is_unspaced_letter, example = False, ""
    for value, count in zip(values, counts.tolist()):
        is_plain, unit = bool(np.isfinite(number_of(value))), _unit_of(value)
        if unit is not None:
            units[unit] += count
            is_unspaced_letter |= len(unit) == 1 and unit.isalpha() and " " not in value
        elif not is_plain and not plain_readings(value):
            rows_of_others += count
            if rows_of_others > most_others:
                return None
            continue
        if not example and not is_plain:
            example = value
    if len(units) > _MOST_UNITS or (is_unspaced_letter and len(units) > 1 and not {*units} <= _MAGNITUDE_LETTERS):
        return None
    readings = plain_readings(example)
    written = f" ({' or '.join(readings)})" if readings else ""
    if not units:
        if all(value[0] == "(" for value in values):
            # lists
            return None
        return (
            f"numbers with separators or signs, such as {example!r}, are read as words: write plain numbers{written} "
            "to make the field numeric"
        )
    shown = ", ".join(map(repr, units))
    same = " in one unit" if len(units) > 1 or units.total() < counts.sum() else ""
    return (
        f"numbers with {shown}, such as {example!r}, are read as words: write plain numbers{written}{same} to make "
        "the field numeric"
    )


def _unit_of(value: str) -> str | None:
    """The unit behind or before a number, which may be in parentheses; `None` for another text."""
    split = number_and_unit(_WITHOUT_PARENTHESES.sub(r"\1", value), any_unit=True)
    return None if split is None else split[1]
