# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Vocabularies of fields, fitted on training rows; `buckets.py` computes the bucket boundaries of numeric ones.

`ClickPromptProcessor.fit` and `ClickPromptProcessor.extend` call this module. It does not ship with checkpoints, which
only read what was fitted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..amounts_clickprompt import advice_on_numbers
from ..cells_clickprompt import index_of, vocabulary_keys, without_missing_words
from ..columns_clickprompt import cells_of, check_columns
from ..lists_clickprompt import UnreadableCell, cell_values, kept_values, looks_weighted
from ..schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from ..unread_cells_clickprompt import warn_of_dates_as_seconds
from ..values_clickprompt import equal_are_spelled_alike, holds_several, number_of, read_time
from ..vocabularies_clickprompt import ValueIndex
from ..warnings_clickprompt import warn_at_caller
from .arrow_cells import distinct_cells
from .buckets import bucket_boundaries
from .training_rows import TrainingRows, columns_of_training_rows

# Distinct values of a column, each with its number of rows.
ValueCounts: TypeAlias = list[tuple[Any, int]]
# Vocabulary keys of a value, with its number of rows.
KeyCounts: TypeAlias = Iterable[tuple[list[str], int]]


class CountedList(NamedTuple):
    """A cell of a multi-valued field, the values in it, and the number of rows that have it."""

    cell: Any
    values: list[str]
    rows: int


_READ_AS_STRINGS = (
    "Read the file with its schema instead: load_splits('csv', path, schema), from clickprompt_hf.data.reading."
)


def fit_vocabularies(
    train: TrainingRows, schema: Schema, min_count: int = 1
) -> tuple[list[list[str]], list[list[float]]]:
    """Fit the vocabulary of each field, and the bucket boundaries of numeric fields.

    Args:
        train: Training rows.
        schema: What the columns mean.
        min_count: Number of rows that a value needs to get its own id.

    Returns:
        Per field, the values in the order of their ids, the most frequent first; and the inner bucket boundaries.

    Raises:
        ValueError: If a column is missing, has no value of the field's kind, or holds lists although the field is
            single-valued, or `min_count` is below 1.
    """
    columns = _checked_columns(train, schema, min_count)
    vocabularies: list[list[str]] = []
    boundaries: list[list[float]] = []
    for field in schema.fields:
        if not field.num_columns:
            vocabularies.append([])
            boundaries.append([])
            continue
        if field.kind == "multi_valued":
            lists = count_lists(columns[field.column], field)
            warn_of_lists(lists, field)
            boundaries.append([])
            vocabularies.append(frequent_keys(count_keys(keys_of_lists(lists, field)), min_count))
            continue
        counts = _count_values(columns[field.column], field)
        check_kind(counts, field)
        warn_of_ids_as_floats(counts, field)
        warn_of_dates_as_seconds(field, (value for value, _ in counts))
        boundaries.append(_boundaries_of(counts, field) if field.kind == "numeric" else [])
        vocabularies.append(frequent_keys(count_keys(_keys_of_values(counts, field, boundaries[-1])), min_count))
    return vocabularies, boundaries


def extend_vocabularies(
    vocabularies: Sequence[list[str]],
    boundaries: Sequence[list[float]],
    train: TrainingRows,
    schema: Schema,
    min_count: int = 1,
) -> list[list[str]]:
    """Append new values to fitted vocabularies. Existing ids and bucket boundaries do not change.

    Args:
        vocabularies: As `fit_vocabularies` returns them.
        boundaries: As `fit_vocabularies` returns them.
        train: New training rows.
        schema: What the columns mean.
        min_count: Number of new rows that a new value needs to get its own id.

    Raises:
        ValueError: If a column is missing or holds lists although the field is single-valued, or `min_count` is
            below 1.
    """
    columns = _checked_columns(train, schema, min_count)
    extended = []
    for field, vocabulary, inner in zip(schema.fields, vocabularies, boundaries):
        if field.num_columns:
            known = ValueIndex(vocabulary)
            column = columns[field.column]
            if field.kind == "multi_valued":
                keyed = keys_of_lists(count_lists(column, field), field)
            else:
                keyed = _keys_of_values(_count_values(column, field), field, inner)
            keys = frequent_keys(count_keys(keyed), min_count)
            # Another spelling of a known value has its id already.
            vocabulary = [*vocabulary, *(key for key in keys if not known.id_of(key))]
        extended.append(vocabulary)
    return extended


def _checked_columns(train: TrainingRows, schema: Schema, min_count: int) -> Mapping[str, Any]:
    """The columns of `train`, once they are known to fit the schema."""
    if min_count < 1:
        raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
    if isinstance(train, datasets.Dataset):
        _warn_of_inferred_types(train, schema)
    columns = columns_of_training_rows(train, schema.raw_columns)
    check_columns(schema.raw_columns, columns)
    for field in schema.fields:
        if field.kind != "multi_valued" and not field.is_vector and _has_nested_cells(columns[field.column]):
            raise ValueError(
                f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, but it holds lists: "
                "make its `kind` 'multi_valued', or 'vector' if these are numbers."
            )
    return columns


def _warn_of_inferred_types(train: datasets.Dataset, schema: Schema) -> None:
    """Warn if `load_dataset` read categories from a CSV file as other types than strings and integers.

    Integers alone are not reported: they are what most ids are.
    """
    if train.info.builder_name != "csv":
        return
    names = [field.column for field in schema.fields if field.kind in ("categorical", "multi_valued")]
    types = {name: train.data.schema.field(name).type for name in names if name in train.column_names}
    inferred = {name: kind for name, kind in types.items() if not _holds_strings(kind)}
    if any(not pa.types.is_integer(kind) for kind in inferred.values()):
        found = ", ".join(f"{name!r} ({kind})" for name, kind in inferred.items())
        warn_at_caller(
            f"load_dataset inferred types for the categories in {found}, which loses their original spelling in the "
            f"CSV file, such as 007, 1.50 or NA. {_READ_AS_STRINGS}"
        )


def _holds_strings(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    ) or pa.types.is_nested(kind)


def warn_of_ids_as_floats(counts: ValueCounts, field: FieldSchema) -> None:
    """Warn about categories that are integers stored as floats because of missing values."""
    if field.kind != "categorical" or not set(map(type, (value for value, _ in counts))) <= {float, type(None)}:
        return
    known = [value for value, _ in counts if value is not None and value == value]
    if 0 < len(known) < len(counts) and all(map(float.is_integer, known)):
        warn_at_caller(
            f"Column {field.column!r} of kind 'categorical' holds whole numbers as floats because of missing "
            f"values, e.g. {known[0]!r}. Readers such as pandas.read_csv convert ids with gaps to floats, which "
            f"loses leading zeros and digits. {_READ_AS_STRINGS}"
        )


def _has_nested_cells(column: pa.ChunkedArray | Sequence) -> bool:
    if isinstance(column, pa.ChunkedArray):
        return pa.types.is_nested(column.type)
    return any(map(holds_several, column))


def _count_values(column: pa.ChunkedArray | Sequence, field: FieldSchema) -> ValueCounts:
    """Distinct values of a field's column, with words for missing values replaced by `None`."""
    counted = _count_cells(column)
    values = without_missing_words([value for value, _ in counted], field)
    return [(value, count) for value, (_, count) in zip(values, counted)]


def _count_cells(column: pa.ChunkedArray | Sequence) -> ValueCounts:
    if isinstance(column, pa.ChunkedArray):
        values, indices = distinct_cells([column])
        counts = np.bincount(indices, minlength=len(values)).tolist()
        return [(value, count) for value, count in zip(values, counts) if count]
    cells = cells_of(column)
    if equal_are_spelled_alike(cells):
        return list(Counter(cells).items())
    told_apart = Counter((type(cell), getattr(cell, "fold", 0), cell) for cell in cells)
    return [(cell, count) for (_, _, cell), count in told_apart.items()]


def count_lists(column: pa.ChunkedArray | Sequence, field: FieldSchema) -> list[CountedList]:
    """Read the cells of a multi-valued field; equal strings are read once.

    Raises:
        ValueError: If a cell is not a list of single values; the message names its row.
    """
    if isinstance(column, pa.ChunkedArray) and not pa.types.is_nested(column.type):
        counts = _count_values(column, field)
    else:
        column = cells_of(column)
        known = without_missing_words(column, field)
        texts = Counter(cell for cell in known if isinstance(cell, str))
        counts = [*texts.items(), *((cell, 1) for cell in known if not isinstance(cell, str))]
    try:
        return [CountedList(cell, cell_values(cell, field), rows) for cell, rows in counts]
    except UnreadableCell as error:
        raise error.at(f" in row {index_of(error.cell, cells_of(column))} of the training rows") from None


def count_listed(cells: Sequence, counts: Sequence[int], field: FieldSchema) -> list[CountedList]:
    """Read distinct cells of a multi-valued field, given their number of rows.

    Raises:
        ValueError: If a cell is not a list of single values.
    """
    try:
        known = without_missing_words(list(cells), field)
        return [CountedList(cell, cell_values(cell, field), rows) for cell, rows in zip(known, counts)]
    except UnreadableCell as error:
        raise error.at(" in the training rows") from None


def _keys_of_values(counts: ValueCounts, field: FieldSchema, boundaries: list[float]) -> KeyCounts:
    return ((vocabulary_keys(value, field, boundaries), count) for value, count in counts)


def keys_of_lists(lists: Iterable[CountedList], field: FieldSchema) -> KeyCounts:
    return ((kept_values(counted.values, field) or [""], counted.rows) for counted in lists)


def count_keys(keyed: KeyCounts) -> Counter[str]:
    """Number of rows with each vocabulary key."""
    key_counts: Counter[str] = Counter()
    for keys, count in keyed:
        for key in set(keys):
            key_counts[key] += count
    return key_counts


def frequent_keys(key_counts: Mapping[str, int], min_count: int) -> list[str]:
    """Vocabulary keys with at least `min_count` rows, the most frequent first; ties in alphabetical order."""
    kept = [(key, count) for key, count in key_counts.items() if count >= min_count]
    return [key for key, _ in sorted(kept, key=lambda item: (-item[1], item[0]))]


def check_kind(counts: ValueCounts, field: FieldSchema) -> None:
    """Refuse a column of numbers or times that has none."""
    if field.kind == "numeric":
        what, found = "numbers", any(np.isfinite(number_of(value)) for value, _ in counts)
    elif field.kind in TIME_PARTS:
        what, found = "times", any(read_time(value, field.time_format) for value, _ in counts)
    else:
        return
    if not found:
        written = f" in the `time_format` {field.time_format!r}" if field.time_format else ""
        texts = [value for value, _ in counts if isinstance(value, str)]
        advice = advice_on_numbers(texts) if field.kind == "numeric" else ""
        raise ValueError(
            f"Column {field.column!r} of kind {field.kind!r} must hold {what}{written}, but none of its training "
            f"values is one, e.g. {counts[0][0]!r}.{f' {advice[0].upper()}{advice[1:]}.' if advice else ''}"
        )


def warn_of_lists(lists: Sequence[CountedList], field: FieldSchema) -> None:
    """Warn of a `separator` that splits nothing, of weights that would be part of values, and of dropped values."""
    texts = [counted for counted in lists if isinstance(counted.cell, str) and counted.values]
    if texts and all(len(counted.values) == 1 for counted in texts):
        for mark in ("|", ";", ",", "\t", "\x1d"):
            if mark != field.separator and sum(mark in counted.cell for counted in texts) > len(texts) / 2:
                warn_at_caller(
                    f"No cell of column {field.column!r} has its `separator` {field.separator!r}, but most have "
                    f"{mark!r}: each cell counts as one value."
                )
                break
    if field.weight_separator is None and looks_weighted({value for counted in lists for value in counted.values}):
        example = next(counted.cell for counted in lists if counted.values)
        warn_at_caller(
            f"The values of column {field.column!r} seem to have weights, as in {example!r:.80}, but each pair of "
            "value and weight counts as one value. Set `weight_separator: ':'` in the schema."
        )
    rows = sum(counted.rows for counted in lists)
    if too_long := sum(counted.rows for counted in lists if len(counted.values) > field.max_values):
        longest = max(len(counted.values) for counted in lists)
        other = "last" if field.keep == "first" else "first"
        warn_at_caller(
            f"{too_long:,} of {rows:,} training rows have more than {field.max_values} values in column "
            f"{field.column!r}, up to {longest}: the {field.keep} {field.max_values} get ids. Raise its `max_values`, "
            f"or set `keep: {other}`."
        )


def _boundaries_of(counts: ValueCounts, field: FieldSchema) -> list[float]:
    numbers = np.asarray([number_of(value) for value, _ in counts], dtype=np.float64)
    rows = np.asarray([count for _, count in counts], dtype=np.int64)
    return bucket_boundaries(numbers, rows, field.num_buckets, field.buckets)
