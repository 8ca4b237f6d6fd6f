# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers that are not written plainly: with a currency, a unit, or separators of thousands; times of day."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..values_clickprompt import is_known_unit, number_and_unit, number_of, plain_readings
from .written_numbers import are_triples, marks_advice

_WITHOUT_PARENTHESES = re.compile(r"^\((.*)\)$")
_CLOCK = re.compile(r"-?\d{1,4}:\d\d(:\d\d(\.\d+)?)?( ?[ap]\.?m\.?)?", re.IGNORECASE)
_MOST_OTHERS = 0.05
_MOST_UNITS = 5
# Letters behind a number without a blank are a code if there are several, unless they are magnitudes.
_MAGNITUDES = {"k", "m", "b"}
# So many lists of whole numbers would not all have three digits in each entry.
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
    split = [number_and_unit(_WITHOUT_PARENTHESES.sub(r"\1", value), any_unit=True) for value in values]
    return any(found is not None and not is_known_unit(found[1]) for found in split)


def question_amounts(values: Sequence[str], counts: np.ndarray) -> str | None:
    """What to do about a column whose values are numbers, but hardly any of them are plain ones; else `None`.

    Args:
        values: Distinct values of a column, without words for missing ones.
        counts: (V,) rows of each.
    """
    if not values or (are_triples(values) and len(values) > _LEAST_LISTS):
        return None
    units: Counter[str] = Counter()
    rows, is_unspaced_letter, example = 0, False, ""
    for value, count in zip(values, counts.tolist()):
        plain = _WITHOUT_PARENTHESES.sub(r"\1", value)
        split = number_and_unit(plain, any_unit=True)
        if split is None and not (np.isfinite(number_of(value)) or plain_readings(value)):
            if (rows := rows + count) > _MOST_OTHERS * counts.sum():
                return None
            continue
        if split is not None:
            units[split[1]] += count
            is_unspaced_letter |= len(split[1]) == 1 and split[1].isalpha() and " " not in plain
        if not example and not np.isfinite(number_of(value)):
            example = value
    if len(units) > _MOST_UNITS or (is_unspaced_letter and len(units) > 1 and not {*units} <= _MAGNITUDES):
        return None
    readings = plain_readings(example)
    written = f" ({' or '.join(readings)})" if readings else ""
    if not units:
        if all(value[0] == "(" for value in values):
            # lists
            return None
        return (
            f"numbers with separators or signs, such as {example!r}, are read as words: write plain numbers{written} "
            f"to make the field numeric{marks_advice(values)}"
        )
    shown = ", ".join(map(repr, units))
    same = " in one unit" if len(units) > 1 or units.total() < counts.sum() else ""
    return (
        f"numbers with {shown}, such as {example!r}, are read as words: write plain numbers{written}{same} to make "
        "the field numeric"
    )
