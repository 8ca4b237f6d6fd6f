# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the marks within written numbers mean: the point of a fraction, or separators of thousands."""

import re
from collections.abc import Sequence

_THREE_DIGITS_BEHIND_POINT = re.compile(r"[-+]?[1-9]\d{0,2}\.\d{3}")
_SEVERAL_POINTS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3}){2,}(,\d+)?")
_TRIPLES = re.compile(r"\d{3}([, ]\d{3})*")


def question_points(values: Sequence[str]) -> str | None:
    """A doubt if the points of a column of numbers may separate thousands, as in `1.234` beside `613`.

    They may if each number with a point has one to three digits before it, none of them a leading zero, and exactly
    three behind it. Cells with several points, which are not numbers, make it likely.
    """
    with_point = [value for value in values if "." in value]
    several = [value for value in with_point if _SEVERAL_POINTS.fullmatch(value)]
    single = [value for value in with_point if value.count(".") == 1]
    if not single or not all(map(_THREE_DIGITS_BEHIND_POINT.fullmatch, single)):
        return None
    example = single[0]
    meant = example.replace(".", "")
    if several:
        return (
            f"the points probably separate thousands, as in {several[0]!r}, which counts as missing: {example!r} is "
            f"read as {example}, not as {meant}; write {meant}"
        )
    return (
        f"all fractions have exactly three digits: {example!r} is read as {example}; if points separate thousands, "
        f"write {meant}"
    )


def are_triples(values: Sequence[str]) -> bool:
    """Whether all values are numbers of three digits, or several of them between commas or blanks."""
    return all(map(_TRIPLES.fullmatch, values))


def question_triples(values: Sequence[str], separator: str) -> str | None:
    """A doubt if cells that are split at a comma or blank, such as `123,456`, may be numbers with thousands."""
    if not are_triples(values):
        return None
    example = max(values, key=len)
    return (
        f"cells such as {example!r} are lists of numbers; if {separator!r} separates thousands, write "
        f"{re.sub('[, ]', '', example)}"
    )
