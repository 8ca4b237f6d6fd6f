# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the marks within written numbers mean: the point of a fraction, or separators of thousands."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from ..data.csv_files import plain_numbers
from ..schema_clickprompt import CsvFormat
from ..values_clickprompt import is_missing, number_of

# Decimals and thousands, as in `CsvFormat`.
Marks: TypeAlias = tuple[str, str | None]
POINTS_FOR_THOUSANDS: Marks = (",", ".")
# The plainest first.
_MARKS: tuple[Marks, ...] = (
    *((",", None), (".", ","), (",", "."), (",", " "), (".", " "), (".", "'"), (",", "'"), (".", "\u2019")),
)
_PLAIN: Marks = (".", None)
_MOST_OTHERS = 0.05
_VALUES_TRIED = 1000
_THREE_DIGITS_BEHIND_COMMA = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
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


def marks_that_read(values: Sequence[str]) -> Marks | None:
    """The marks that read numbers with decimal commas or separators of thousands; `None` if none do."""
    marks = _marks_of(values[:_VALUES_TRIED])
    return marks[0] if marks and marks[0] != _PLAIN else None


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


def with_guessed_marks(table: pa.Table, csv_format: CsvFormat | None) -> CsvFormat | None:
    """The format of a CSV file with the `decimal` and `thousands` that most of its columns of numbers seem to have.

    Args:
        table: Rows of the file, as strings.
        csv_format: How the file is written; returned unchanged if it says how numbers are written, or if most are
            plain.
    """
    if csv_format is not None and not csv_format.has_plain_numbers:
        return csv_format
    votes: Counter[Marks] = Counter()
    num_plain = num_columns = 0
    for column in table.columns:
        if not pa.types.is_string(column.type):
            # a column of a joined table, which has types
            continue
        found = _marks_of(_some_values(column))
        votes.update(found)
        num_plain += found == [_PLAIN]
        num_columns += found != []
    best = max(_MARKS, key=lambda marks: votes[marks])
    # plain numbers have no comma before their fraction, but may do without separators
    num_read = votes[best] + (num_plain if best[0] == "." else 0)
    taken = (csv_format or CsvFormat()).delimiter, (csv_format or CsvFormat()).quote
    if not votes[best] or 2 * num_read <= num_columns or {*best} & {*filter(None, taken)}:
        return csv_format
    return replace(csv_format or CsvFormat(), decimal=best[0], thousands=best[1])


def looks_numeric(column: pa.ChunkedArray, csv_format: CsvFormat | None) -> bool:
    """Whether nearly all cells of a column are numbers as a CSV format writes them, some of which are not plain."""
    if csv_format is None or csv_format.has_plain_numbers or not pa.types.is_string(column.type):
        return False
    values = _some_values(column)
    return bool(values) and any(np.isnan(number_of(value)) for value in values) and _are_read(values, csv_format)


def _some_values(column: pa.ChunkedArray) -> list[str]:
    return list(islice((value for value in column.unique().to_pylist() if not is_missing(value)), _VALUES_TRIED))


def _are_read(values: Sequence[str], csv_format: CsvFormat) -> bool:
    return _share_read(values, csv_format) >= 1 - _MOST_OTHERS


def _share_read(values: Sequence[str], csv_format: CsvFormat) -> float:
    plain = plain_numbers(pa.array(values, pa.string()), csv_format).to_pylist()
    return float(np.mean([np.isfinite(number_of(value)) for value in plain]))


def _marks_of(values: Sequence[str]) -> list[Marks]:
    """Marks that read a column of numbers; none if the column has no marks or holds something else."""
    if not values or are_triples(values):
        return []
    if _are_read(values, CsvFormat()):
        # most amounts need no separator of thousands
        share, with_separators = _share_read(values, CsvFormat()), (".", ",")
        if share < 1 and _share_read(values, CsvFormat(thousands=",")) > share and question_points(values) is None:
            return [with_separators]
        is_plain = any("." in value for value in values) and question_points(values) is None
        return [_PLAIN] if is_plain else []
    found = [marks for marks in _MARKS if _are_read(values, CsvFormat(decimal=marks[0], thousands=marks[1]))]
    with_comma = [value for value in values if "," in value]
    if (",", None) in found and all(map(_THREE_DIGITS_BEHIND_COMMA.fullmatch, with_comma)):
        # as in 2,067 beside 613
        found = [marks for marks in found if marks[0] != ","]
    return found
