# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Train, validation and test splits, 8:1:1, and the checks that every data set must pass before training."""

import warnings
from collections import Counter
from typing import Literal, get_args

import datasets
import numpy as np
import pyarrow as pa
from datasets.fingerprint import generate_random_fingerprint

from ..schema_clickprompt import Schema
from ..values_clickprompt import canonical, labels_in_words, read_time

Split = Literal["random", "time"]


def split_table(
    table: pa.Table, schema: Schema, split: Split = "random", split_seed: int = 42
) -> datasets.DatasetDict:
    """Splits rows 8:1:1, at random or by time.

    Args:
        table: All rows.
        schema: Names the time column, for the chronological split.
        split: `"random"`: a permutation that `split_seed` alone draws. `"time"`: the earliest eight tenths train, the
            latest tenth is the test; equal times keep the order of the table.
        split_seed: Draws the random split.

    Raises:
        ValueError: If `split` is unknown, or there are no times to split by.
    """
    if split not in get_args(Split):
        raise ValueError(f"`split` must be one of {get_args(Split)}, got {split!r}.")
    num_rows = len(table)
    table = _with_long_offsets(table)
    if split == "time":
        order = np.argsort(_times(table, schema), kind="stable")
    else:
        order = np.random.default_rng(split_seed).permutation(num_rows)
    bounds = [0, num_rows * 8 // 10, num_rows * 9 // 10, num_rows]
    return datasets.DatasetDict(
        {
            name: in_memory_dataset(table.take(pa.array(order[start:end])))
            for name, start, end in zip(("train", "validation", "test"), bounds[:-1], bounds[1:])
        }
    )


# Arrow's short strings count their bytes in 32 bits.
_SHORT_STRINGS_BYTES = 2**31 - 1


def _with_long_offsets(table: pa.Table) -> pa.Table:
    """The rows with 64-bit offsets in string columns that are too long for 32: to take rows is to join all chunks."""
    kinds = [
        pa.field(member.name, pa.large_string(), member.nullable, member.metadata)
        if pa.types.is_string(member.type) and table.column(place).nbytes > _SHORT_STRINGS_BYTES
        else member
        for place, member in enumerate(table.schema)
    ]
    return table.cast(pa.schema(kinds, table.schema.metadata))


def in_memory_dataset(table: pa.Table) -> datasets.Dataset:
    """The rows of `table` as a data set, whose fingerprint is drawn: made of the rows, it would pickle them all."""
    return datasets.Dataset(table, fingerprint=generate_random_fingerprint())


def limit_train_rows(
    splits: datasets.DatasetDict, max_train_rows: int | None, split: Split = "random"
) -> datasets.DatasetDict:
    """Cuts the training split to `max_train_rows` rows: the first of a random order, the latest by time.

    Raises:
        ValueError: If `max_train_rows` is below 1.
    """
    if max_train_rows is None:
        return splits
    if max_train_rows < 1:
        raise ValueError(f"`max_train_rows` must be at least 1, got {max_train_rows}.")
    train = splits["train"].with_format("arrow")[:]
    rows = train.slice(max(0, len(train) - max_train_rows)) if split == "time" else train.slice(0, max_train_rows)
    return datasets.DatasetDict({**splits, "train": in_memory_dataset(rows)})


def _times(table: pa.Table, schema: Schema) -> np.ndarray:
    """(rows,) times to sort by."""
    advice = 'Use split="random".'
    if schema.time is None or schema.time not in table.column_names:
        raise ValueError(f"`split` must be 'random': the data have no time column ({schema.time!r}). {advice}")
    column = table.column(schema.time)
    of_strings = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if of_strings or schema.format_of_time is not None:
        column = _read_times(column, schema)
    times = column.to_numpy()
    # NaN and NaT, which Arrow counts as values, equal nothing
    if missing := column.null_count or int((times != times).sum()):
        raise ValueError(f"Times in column {schema.time!r} must be known, but {missing} are missing. {advice}")
    if times.dtype == object:
        raise ValueError(f"Times in column {schema.time!r} must be numbers or timestamps, got {column.type}. {advice}")
    if len(times) and times.min() == times.max():
        raise ValueError(
            f"Times in column {schema.time!r} must differ, but all are {column[0]}: these rows cannot be split by "
            f"time. {advice}"
        )
    return times


def _read_times(column: pa.ChunkedArray, schema: Schema) -> pa.ChunkedArray:
    """A column of strings, or of numbers that a format says how to read, as timestamps.

    Raises:
        ValueError: If one of them is no time; the message names it.
    """
    cells = column.to_pylist()
    times = [read_time(cell, schema.format_of_time) for cell in cells]
    for row, (cell, moment) in enumerate(zip(cells, times)):
        if moment is None and canonical(cell):
            written = schema.format_of_time
            expected = "as in 2024-01-31 14:05:00" if written is None else f"like {written!r}"
            raise ValueError(
                f"Times in column {schema.time!r} must be numbers, timestamps or strings {expected}, got {cell!r} in "
                f'row {row}, counted from 0. Give `time_format` in the schema, or use split="random".'
            )
    return pa.chunked_array([pa.array(times, pa.timestamp("us"))])


def needed_columns(schema: Schema) -> list[str]:
    """Names of the columns that the schema speaks of, each once: the time may be a field as well."""
    return list(dict.fromkeys([*schema.columns, schema.label, *([schema.time] if schema.time else [])]))


def check_columns(column_names: list[str], schema: Schema, where: str) -> None:
    """Raises a ValueError that names the first column of the schema that `where` lacks or has twice, and those that
    it has."""
    for column in needed_columns(schema):
        if column not in column_names:
            raise ValueError(f"{where} must have the column {column!r} of the schema; it has {column_names}.")
        if column_names.count(column) > 1:
            raise ValueError(f"{where} must have the column {column!r} once; it has {column_names}.")


def with_integer_labels(table: pa.Table, schema: Schema, where: str) -> pa.Table:
    """The rows with their labels as int8.

    Raises:
        ValueError: If a label is not 0 or 1; the message names it, its row and `where`.
    """
    column = table.column(schema.label)
    if schema.positive is None:
        labels = _numbers(column)
    else:
        labels = labels_in_words(column.to_pylist(), schema.positive)
        _warn_of_further_words(column, schema.label, schema.positive)
    wrong = ~np.isin(labels, (0, 1))
    if wrong.any():
        row = int(wrong.argmax())
        found = column[row].as_py()
        expected = "0 or 1" if schema.positive is None else f"0, 1 or words ({schema.positive!r} for a click)"
        in_words = schema.positive is None and isinstance(found, str)
        advice = " Where labels are words, `positive` in the schema names that of a click." if in_words else ""
        raise ValueError(
            f"Labels in column {schema.label!r} must be {expected}, got {found!r} in row {row} of {where}, counted "
            f"from 0.{advice}"
        )
    place = table.column_names.index(schema.label)
    return table.set_column(place, schema.label, pa.array(labels.astype(np.int8)))


def _warn_of_further_words(column: pa.ChunkedArray, label: str, positive: str) -> None:
    """Says so where several words mean no click, one of which may be a misspelt click."""
    counted = column.value_counts()
    others: Counter[str] = Counter()
    for word, rows in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()):
        others[canonical(word)] += rows
    for known in (positive, "0", "1", ""):
        others.pop(known, None)
    alike = [word for word in others if word.casefold() == positive.casefold()]
    if len(others) > 1 or alike:
        shown = ", ".join(f"{word!r} in {count:,}" for word, count in others.most_common(5))
        case = f" {alike[0]!r} differs from it in case only." if alike else ""
        warnings.warn(
            f"Column {label!r} has {len(others)} values that all mean no click, as they are not {positive!r}: "
            f"{shown} rows{', ...' if len(others) > 5 else ''}.{case}",
            stacklevel=2,
        )


def check_labels(splits: datasets.DatasetDict, schema: Schema) -> datasets.DatasetDict:
    """The splits with their labels as int8.

    Raises:
        ValueError: If a split has no rows, a label is not 0 or 1, or only one class occurs; the message names them.
    """
    checked = {}
    for name, split in splits.items():
        table = split.with_format("arrow")[:]
        if not len(table):
            num_rows = sum(len(split) for split in splits.values())
            raise ValueError(f"The {name} split must have rows, got none: the data have only {num_rows} rows.")
        table = with_integer_labels(table, schema, f"the {name} split")
        labels = table.column(schema.label).to_numpy()
        if labels.min() == labels.max():
            raise ValueError(
                f"The {name} split must have both classes in column {schema.label!r}, but all {len(labels)} labels "
                f"are {int(labels[0])}."
            )
        checked[name] = in_memory_dataset(table)
    return datasets.DatasetDict(checked)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A label column as floats; NaN where it holds no number."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.to_numpy().astype(np.float64)
    known = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
    values = column.to_pylist()
    return np.asarray([known.get(str(value).strip().lower(), np.nan) for value in values], dtype=np.float64)
