# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows of any library as columns of raw values: lists of rows, data frames, Arrow tables, mappings.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from .values_clickprompt import is_column

# Holds the scores of rows.
PROBABILITY_COLUMN = "click_probability"
# Attributes of Arrow tables and datasets, and of data frames.
_NAMES_OF_COLUMNS = ("column_names", "columns")


class Columns(dict):
    """Columns of several rows, never read as one row; another mapping of lists may be, if all fields hold lists."""


def columns_of(rows, needed: Sequence[str] = (), row_offset: int = 0) -> dict[str, Sequence]:
    """Convert rows to a mapping from column to equally many values.

    Args:
        rows: A data frame of pandas or polars, an Arrow table, a mapping from column to value or to values, or a list
            of rows as mappings.
        needed: Columns that each row of a list must have. Other columns are missing values in rows that lack them.
        row_offset: Number of the first row in messages.

    Raises:
        ValueError: If a row of a list lacks a column, a column is repeated, or columns differ in length.
        TypeError: If `rows` or a row has an unsupported type.
    """
    # Data frames and Arrow tables are recognized by their methods: none of these libraries may be installed.
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        check_different(rows.columns, "the data frame")
        # The frame's `to_dict` turns integers with missing values into floats.
        return {name: rows[name].tolist() for name in rows.columns}
    if hasattr(rows, "get_columns"):
        # A polars data frame.
        return {column.name: cells_of(column) for column in rows.get_columns()}
    if hasattr(rows, "to_pydict"):
        check_different(rows.schema.names, "the table")
        return {name: cells_of(column) for name, column in zip(rows.schema.names, rows.columns)}
    if isinstance(rows, Mapping):
        columns = {column: rows[column] for column in rows}
        if not all(is_column(values) for values in columns.values()):
            return {column: [value] for column, value in columns.items()}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `rows` must have one length, got {lengths}.")
        return columns
    if isinstance(rows, (str, bytes)) or not (isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
        raise TypeError(
            "`rows` must be a row (a mapping from column to value), a list of rows, a mapping from column to list, a "
            f"pandas or polars data frame or an Arrow table, got {type(rows).__name__}."
        )
    rows = list(rows)
    for number, row in enumerate(rows, start=row_offset):
        if not isinstance(row, Mapping):
            raise TypeError(f"Row {number} must be a mapping from column to value, got {type(row).__name__}.")
        if any(column not in row for column in needed):
            check_columns(needed, row, f"Row {number}")
    names = list(dict.fromkeys([*needed, *(name for row in rows for name in row)]))
    return {name: [row.get(name) for row in rows] for name in names}


def is_listed(rows) -> bool:
    """Whether rows, given as in `columns_of`, are a list of mappings or similar, such as a stream."""
    by_column = isinstance(rows, (str, bytes, Mapping)) or any(map(partial(hasattr, rows), _NAMES_OF_COLUMNS))
    return not by_column and (isinstance(rows, Iterable) or hasattr(rows, "__getitem__"))


def given_columns(rows) -> list[str]:
    """Columns that rows have, given as in `columns_of`, unless they are listed."""
    if isinstance(rows, Mapping):
        return list(rows)
    names = next((getattr(rows, name) for name in _NAMES_OF_COLUMNS if hasattr(rows, name)), ())
    return [name for name in names if isinstance(name, str)]


def cells_of(column: Any) -> list:
    """Cells of a column of any library as a list. Times that Python's types cannot hold become numpy's."""
    if hasattr(column, "to_pylist"):
        # Arrow, whose own conversion turns periods of pandas into numbers and intervals into mappings.
        kind = getattr(column.type, "value_type", column.type)
        is_of_pandas = getattr(kind, "extension_name", "").startswith("pandas.")
        if not is_of_pandas:
            try:
                return column.to_pylist()
            # Years beyond Python's, unknown time zones, and nanoseconds without pandas.
            except (OverflowError, ValueError, LookupError):
                pass
        if hasattr(column, "chunks"):
            return [cell for chunk in column.chunks for cell in cells_of(chunk)]
        if hasattr(column, "dictionary"):
            # Arrow's own conversion to numpy turns missing values into others.
            values = cells_of(column.dictionary)
            return [None if index is None else values[index] for index in column.indices.to_pylist()]
        return column.to_pandas().tolist() if is_of_pandas else list(column.to_numpy(zero_copy_only=False))
    if hasattr(column, "dtype") and getattr(column.dtype, "is_temporal", bool)():
        # polars drops nanoseconds from Python's times
        return list(column.to_numpy())
    return column if isinstance(column, list) else list(column)


def check_columns(needed: Iterable[str], given: Iterable[str], what: str = "The rows") -> None:
    """Raise a ValueError that names the columns that `what` lacks."""
    needed, given = list(dict.fromkeys(needed)), list(given)
    if missing := [column for column in needed if column not in given]:
        raise ValueError(f"{what} must have the columns {needed}; missing {missing}, given {given}.")


def check_different(names: Iterable[str], what: str) -> None:
    """Raise a ValueError that names the columns that `what` has more than once."""
    names = list(names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"The columns of {what} must have different names; repeated: {repeated}.")
