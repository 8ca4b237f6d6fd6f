# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Train, validation and test splits, 8:1:1."""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from ..schema_clickprompt import Schema
from ..values_clickprompt import is_missing, number_of, read_time
from .arrow_cells import decoded, distinct_cells, plain_type
from .sources.source import SPLIT_NAMES, SourceTable

Split = Literal["random", "time"]

# Arrow's short strings have 32-bit offsets.
_SHORT_STRINGS_BYTES = 2**31 - 1


def split_source(
    source: SourceTable, split: Split = "random", split_seed: int = 42, max_train_rows: int | None = None
) -> dict[str, pa.Table]:
    """Split a source's rows, or keep its own splits, and check that a model can be trained and tested on them.

    Args:
        source: Raw rows with labels 0 and 1.
        split: As in `split_table`; left at its default for a source with its own splits.
        split_seed: As in `split_table`.
        max_train_rows: As in `limit_train_rows`.

    Raises:
        ValueError: If an argument does not fit the rows, or a split lacks rows or a class.
    """
    if isinstance(source.table, pa.Table):
        splits = split_table(source.table, source.schema, split, split_seed)
    elif split == "random":
        splits = source.table
    else:
        raise ValueError(f"`split` must be left out, as the dataset has its own splits, got {split!r}.")
    splits = limit_train_rows(splits, max_train_rows, split)
    check_splits(splits, source.schema)
    return splits


def split_table(table: pa.Table, schema: Schema, split: Split = "random", split_seed: int = 42) -> dict[str, pa.Table]:
    """Split rows 8:1:1, at random or by time.

    Args:
        table: All rows.
        schema: Names the time column for the chronological split.
        split: `"random"` for a random permutation, which depends on `split_seed` alone. `"time"` to train on the
            earliest eight tenths and test on the latest tenth; rows of equal time keep their order.
        split_seed: Seed of the random split, at least 0.

    Returns:
        Splits `train`, `validation` and `test`; dictionary-encoded columns are decoded.

    Raises:
        ValueError: If `split` is unknown, `split_seed` is negative, or the rows have no times to split by.
    """
    if split not in get_args(Split):
        raise ValueError(f"`split` must be one of {get_args(Split)}, got {split!r}.")
    if split_seed < 0:
        raise ValueError(f"`split_seed` must be at least 0, got {split_seed}.")
    num_rows = len(table)
    table = _with_long_offsets(table)
    if split == "time":
        order = np.argsort(_times(table, schema), kind="stable")
    else:
        order = np.random.default_rng(split_seed).permutation(num_rows)
    bounds = [0, num_rows * 8 // 10, num_rows * 9 // 10, num_rows]
    return {
        name: _decoded(table.take(pa.array(order[start:end])))
        for name, start, end in zip(SPLIT_NAMES, bounds[:-1], bounds[1:])
    }


def _with_long_offsets(table: pa.Table) -> pa.Table:
    """Cast views, and string columns too long for 32-bit offsets, to 64-bit ones: taking rows joins all chunks."""
    kinds = [
        column.with_type(pa.large_string())
        if pa.types.is_string(column.type) and table.column(index).nbytes > _SHORT_STRINGS_BYTES
        else column.with_type(plain_type(column.type))
        for index, column in enumerate(table.schema)
    ]
    return table.cast(pa.schema(kinds, table.schema.metadata))


def _decoded(table: pa.Table) -> pa.Table:
    return pa.table([decoded(column) for column in table.columns], names=table.column_names)


def limit_train_rows(
    splits: Mapping[str, pa.Table], max_train_rows: int | None, split: Split = "random"
) -> dict[str, pa.Table]:
    """Cut the training split to `max_train_rows` rows: the first of a random split, the latest of a split by time.

    Raises:
        ValueError: If `max_train_rows` is below 1.
    """
    if max_train_rows is None:
        return dict(splits)
    if max_train_rows < 1:
        raise ValueError(f"`max_train_rows` must be at least 1, got {max_train_rows}.")
    train = splits["train"]
    start = max(0, len(train) - max_train_rows) if split == "time" else 0
    return {**splits, "train": train.slice(start, max_train_rows)}


def check_splits(splits: Mapping[str, pa.Table], schema: Schema) -> None:
    """Refuse splits that a model cannot be trained and tested on.

    Raises:
        ValueError: If a split has no rows, or rows of only one class.
    """
    num_rows = sum(map(len, splits.values()))
    for name, table in splits.items():
        if not len(table):
            raise ValueError(
                f"The {name} split must have rows, but it has none: there are only {num_rows} rows in all."
            )
        labels = table.column(schema.label).to_numpy()
        if labels.min() == labels.max():
            reason = ""
            if schema.positive is not None and not labels[0]:
                reason = f": none is {schema.positive!r}, the `positive` of the schema"
            raise ValueError(
                f"The {name} split must have both classes in column {schema.label!r}, but all {len(labels)} labels "
                f"are {int(labels[0])}{reason}. Use more rows, or a random split with another `split_seed`."
            )


def _times(table: pa.Table, schema: Schema) -> np.ndarray:
    """Times to sort by, (rows,)."""
    advice = 'Use split="random".'
    if schema.time is None or schema.time not in table.column_names:
        found = "the schema names no time column" if schema.time is None else f"there is no column {schema.time!r}"
        raise ValueError(f"`split` must be 'random': {found}. {advice} Or set `time` in the schema.")
    column = table.column(schema.time)
    times = _sortable_times(column, schema)
    # NaN and NaT do not equal themselves.
    if missing := int((times != times).sum()):
        raise ValueError(f"Times in column {schema.time!r} must be known, but {missing} are missing. {advice}")
    if len(times) and times.min() == times.max():
        raise ValueError(
            f"Times in column {schema.time!r} must differ, but all are {column[0]}: these rows cannot be split by "
            f"time. {advice}"
        )
    return times


def _sortable_times(column: pa.ChunkedArray, schema: Schema) -> np.ndarray:
    """Numbers or moments to sort by, (rows,), whatever the type of the column; NaN or NaT for a missing cell.

    Raises:
        ValueError: If a cell is not a time; the message names it.
    """
    time_format, column = schema.format_of_time, decoded(column)
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if time_format is None and (is_number or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return column.to_numpy()
    if time_format is None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and not column.null_count:
        try:
            # Exact for nanoseconds, which a double is not.
            return column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            pass
    cells, indices = distinct_cells([column])
    is_known = np.asarray([not is_missing(cell) for cell in cells])
    numbers = np.asarray([number_of(cell) for cell in cells])
    if time_format is None and np.isfinite(numbers[is_known]).all():
        return numbers[indices]
    times = [read_time(cell, time_format) for cell in cells]
    is_unread = is_known & np.asarray([time is None for time in times])
    if is_unread.any():
        # Among numbers, the cell that is none is to blame.
        is_unread &= ~np.isfinite(numbers) if (is_unread & ~np.isfinite(numbers)).any() else True
        row = int(is_unread[indices].argmax())
        expected = "such as 2024-01-31 14:05:00" if time_format is None else f"like {time_format!r}"
        raise ValueError(
            f"Times in column {schema.time!r} must be numbers, timestamps or strings {expected}, got "
            f"{cells[indices[row]]!r} in row {row}, counted from 0. Give `time_format` in the schema, or use "
            'split="random".'
        )
    return np.asarray(times, dtype="M8[us]")[indices]
