# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Vocabularies and bucket boundaries, fitted on training rows.

`ClickPromptProcessor.fit` and `ClickPromptProcessor.extend` call this module. It does not ship with checkpoints, which
only read what was fitted.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import datasets
import numpy as np
import pyarrow as pa

from ..encoding_clickprompt import check_columns, vocabulary_keys
from ..schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from ..values_clickprompt import holds_several, number_of, read_time

TrainingRows: TypeAlias = pa.Table | datasets.Dataset | Mapping[str, Sequence]
# Distinct values of a column, each with its number of rows.
ValueCounts: TypeAlias = list[tuple[Any, int]]


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
        counts = _count_values(columns[field.column])
        _check_kind(counts, field)
        _check_separator(counts, field)
        boundaries.append(_bucket_boundaries(counts, field) if field.kind == "numeric" else [])
        vocabularies.append(_frequent_keys(counts, field, boundaries[-1], min_count))
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
            known = set(vocabulary)
            keys = _frequent_keys(_count_values(columns[field.column]), field, inner, min_count)
            vocabulary = [*vocabulary, *(key for key in keys if key not in known)]
        extended.append(vocabulary)
    return extended


def _checked_columns(train: TrainingRows, schema: Schema, min_count: int) -> Mapping[str, Any]:
    """The columns of `train`, once they are known to fit the schema."""
    if min_count < 1:
        raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
    if isinstance(train, datasets.Dataset):
        train = train.with_format("arrow")[:]
    columns = dict(zip(train.column_names, train.columns)) if isinstance(train, pa.Table) else train
    check_columns(schema.columns, columns)
    for field in schema.fields:
        if field.kind != "multi_valued" and _has_nested_cells(columns[field.column]):
            raise ValueError(
                f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, but it holds lists: "
                "make its `kind` 'multi_valued'."
            )
    return columns


def _has_nested_cells(column: pa.ChunkedArray | Sequence) -> bool:
    if isinstance(column, pa.ChunkedArray):
        return pa.types.is_nested(column.type)
    return any(map(holds_several, column))


def _count_values(column: pa.ChunkedArray | Sequence) -> ValueCounts:
    if isinstance(column, pa.ChunkedArray):
        if not pa.types.is_nested(column.type):
            counted = column.value_counts()
            return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()))
        column = column.to_pylist()
    return list(Counter(tuple(cell) if isinstance(cell, (list, np.ndarray)) else cell for cell in column).items())


def _frequent_keys(counts: ValueCounts, field: FieldSchema, boundaries: list[float], min_count: int) -> list[str]:
    """Vocabulary keys with at least `min_count` rows, the most frequent first; ties in alphabetical order."""
    key_counts: Counter[str] = Counter()
    for value, count in counts:
        for key in set(vocabulary_keys(value, field, boundaries)):
            key_counts[key] += count
    kept = [(key, count) for key, count in key_counts.items() if count >= min_count]
    return [key for key, _ in sorted(kept, key=lambda item: (-item[1], item[0]))]


def _check_kind(counts: ValueCounts, field: FieldSchema) -> None:
    """Refuse a column of numbers or times that has none."""
    if field.kind == "numeric":
        what, found = "numbers", any(np.isfinite(number_of(value)) for value, _ in counts)
    elif field.kind in TIME_PARTS:
        what, found = "times", any(read_time(value, field.time_format) for value, _ in counts)
    else:
        return
    if not found:
        written = f" in the `time_format` {field.time_format!r}" if field.time_format else ""
        raise ValueError(
            f"Column {field.column!r} of kind {field.kind!r} must hold {what}{written}, but none of its training "
            f"values is one, e.g. {counts[0][0]!r}."
        )


def _check_separator(counts: ValueCounts, field: FieldSchema) -> None:
    """Warn if no cell of a multi-valued field has its separator but most have another common one."""
    cells = [value for value, _ in counts if isinstance(value, str)]
    if field.kind != "multi_valued" or any(field.separator in cell for cell in cells):
        return
    for mark in ("|", ";", ","):
        if sum(mark in cell for cell in cells) > len(cells) / 2:
            warnings.warn(
                f"No cell of column {field.column!r} has its `separator` {field.separator!r}, but most have {mark!r}: "
                "each cell counts as one value.",
                stacklevel=4,
            )
            return


def _bucket_boundaries(counts: ValueCounts, field: FieldSchema) -> list[float]:
    """Compute the inner bucket boundaries of a numeric field."""
    numbers = np.asarray([number_of(value) for value, _ in counts], dtype=np.float64)
    repeats = np.asarray([count for _, count in counts], dtype=np.int64)
    known = np.isfinite(numbers)
    rows = np.repeat(numbers[known], repeats[known])
    inner = {"quantile": _quantile_boundaries, "log": _log_boundaries}[field.buckets](rows, field.num_buckets)
    return np.unique(inner).tolist()


def _quantile_boundaries(rows: np.ndarray, num_buckets: int) -> np.ndarray:
    return np.quantile(rows, np.linspace(0, 1, num_buckets + 1)[1:-1])


def _log_boundaries(rows: np.ndarray, num_buckets: int) -> np.ndarray:
    """Space boundaries equally in `sign(x) log(1 + |x| / s)`, where s is the 1st percentile of nonzero magnitudes.

    This logarithm takes zero and negative numbers, and does not depend on the unit.
    """
    magnitudes = np.abs(rows[rows != 0])
    scale = float(np.quantile(magnitudes, 0.01)) if len(magnitudes) else 1.0
    first, last = (float(np.sign(end) * np.log1p(abs(end) / scale)) for end in (rows.min(), rows.max()))
    steps = np.linspace(first, last, num_buckets + 1)[1:-1]
    return np.sign(steps) * np.expm1(np.abs(steps)) * scale
