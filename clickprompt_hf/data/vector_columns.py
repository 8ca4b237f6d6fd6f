# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns of vectors: their scale, fitted on training rows, and the distinct vectors of whole tables.

Arrow's lists of numbers are read in blocks, without a Python object per number.

Shapes: N rows, D distinct vectors, S numbers of all fields of vectors, n numbers of one, V fields of vectors.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..cells_clickprompt import texts_of
from ..columns_clickprompt import cells_of
from ..rendering_clickprompt import TextRenderer, texts_of_columns
from ..schema_clickprompt import FieldSchema, Schema, named_parts
from ..text_encoder_clickprompt import TextEncoder
from ..vectors_clickprompt import UnreadableVector, VectorScale, check_finite, read_vectors
from ..vocabularies_clickprompt import ValueIndex
from .arrow_cells import distinct_cells
from .training_rows import TrainingRows, columns_of_training_rows

_ROWS_PER_BLOCK = 8192
_KEY_BYTES = 16


@dataclass(eq=False)
class FeatureVectors:
    """Distinct vectors of each field of vectors, from which those of rows are gathered.

    Args:
        tables: Per field of vectors, (D, n) float32, memory-mapped if they were loaded.
    """

    tables: list[np.ndarray]

    def gather(self, vector_ids: np.ndarray) -> np.ndarray:
        """Vectors of rows, given by their index in each table, (N, V): (N, S) float32."""
        return np.concatenate([table[ids] for table, ids in zip(self.tables, vector_ids.T)], axis=1)

    def save(self, folder: str | Path) -> None:
        """Write the tables into a folder that exists."""
        for number, table in enumerate(self.tables):
            np.save(Path(folder) / f"vectors_{number}.npy", table)

    @classmethod
    def load(cls, folder: str | Path, num_fields: int) -> "FeatureVectors":
        """Map the tables that `save` wrote."""
        paths = [Path(folder) / f"vectors_{number}.npy" for number in range(num_fields)]
        return cls([np.load(path, mmap_mode="r") for path in paths])


def fit_vectors(
    train: TrainingRows,
    schema: Schema,
    text_encoder: TextEncoder | None = None,
    vocabularies: Sequence[Sequence[str]] = (),
) -> dict[str, Any] | None:
    """Fit what reading vectors needs: the scale of each field, and which PLM makes vectors of texts.

    Args:
        train: Training rows, as in `ClickPromptProcessor.fit`.
        schema: What the columns mean.
        text_encoder: The PLM for texts that are vectors.
        vocabularies: Per field, its fitted values. Texts of several fields show them in their spelling.

    Returns:
        `vectors` of `FeatureEncoder`; `None` if the schema has no fields of vectors.

    Raises:
        ValueError: If a column is missing or holds no vector, vectors differ in size or are not finite, or the schema
            has texts that are vectors and there is no `text_encoder`.
    """
    fields = [schema.fields[f] for f in schema.vector_fields]
    if not fields:
        return None
    if text_encoder is None and (of_text := [field.key for field in fields if field.as_vector]):
        raise ValueError(f"`text_encoder` must name the PLM that turns the fields {of_text} into vectors, got none.")
    columns = columns_of_training_rows(train, [name for field in fields for name in schema.raw_columns_of(field)])
    indexes = list(map(ValueIndex, vocabularies)) if any(field.columns for field in fields) else []
    scales = {}
    for field in fields:
        column = columns[field.column] if not field.columns else _column_of_texts(columns, schema, field, indexes)
        scales[field.key] = _fit_scale(column, field, text_encoder).to_dict()
    uses_encoder = any(field.as_vector for field in fields)
    return {"scales": scales, "text_encoder": text_encoder.fingerprint if text_encoder and uses_encoder else None}


def _fit_scale(column: Any, field: FieldSchema, text_encoder: TextEncoder | None) -> VectorScale:
    """Fit the scale of the vectors in a column of training rows, or of the vectors of its texts."""
    # slow to import, and of no use to scoring
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    try:
        for vectors, counts in _counted_vectors(column, field, text_encoder):
            if len(vectors):
                scaler.partial_fit(vectors, sample_weight=counts)
    except UnreadableVector as error:
        raise error.at(f" in row {error.index} of the training rows") from None
    if not hasattr(scaler, "mean_"):
        of_texts = f" of the texts of {list(field.columns)}" if field.columns else ""
        raise ValueError(f"Column {field.column!r} must hold vectors{of_texts}, but it is empty in all training rows.")
    return VectorScale.of_moments(scaler.mean_, scaler.var_, field.as_vector)


def encode_vector_column(
    tables: Sequence[pa.Table], encoder: TextRenderer, field_index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the vectors of one field of several tables.

    Args:
        tables: The tables, N rows in all, with the columns of the field.
        encoder: Fitted on training rows.
        field_index: Index of a field of vectors in the schema.

    Returns:
        Distinct vectors (D, n) float32, standardized, NaN for missing ones; and the index of each row's, (N,) int32.

    Raises:
        UnreadableVector: If a cell is not a vector of finite numbers of the field's size; its index is that of the
            row.
    """
    field = encoder.schema.fields[field_index]
    if named_parts(field):
        texts, indices = distinct_texts_of(tables, encoder.schema, field, encoder.indexes)
        return encoder.vectors_of_cells(field_index, texts), indices.astype(np.int32)
    columns = [table.column(field.column) for table in tables]
    if field.as_vector and not any(_is_nested(column) for column in columns):
        values, indices = distinct_cells(columns)
        return encoder.vectors_of_cells(field_index, values), indices.astype(np.int32)
    return _distinct_vectors(columns, field, encoder.scales[field_index])


def _distinct_vectors(
    columns: Sequence[pa.ChunkedArray], field: FieldSchema, scale: VectorScale
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct standardized vectors of columns that hold vectors, and each row's index; see `encode_vector_column`."""
    numbers: dict[bytes, int] = {}
    distinct: list[np.ndarray] = []
    numbers_of_rows: list[int] = []
    start = 0
    for column in columns:
        for raw in vector_blocks(column, field, scale.size, start):
            block = scale.standardized(raw)
            check_finite(block, field, np.isnan(block).all(axis=1), start)
            keys = [hashlib.blake2b(row, digest_size=_KEY_BYTES).digest() for row in np.ascontiguousarray(block)]
            for row, key in enumerate(keys):
                if key not in numbers:
                    numbers[key] = len(numbers)
                    distinct.append(block[row].copy())
            numbers_of_rows += [numbers[key] for key in keys]
            start += len(block)
    table = np.asarray(distinct, dtype=np.float32).reshape(len(distinct), scale.size)
    return table, np.asarray(numbers_of_rows, dtype=np.int32)


def distinct_texts_of(
    tables: Sequence[pa.Table], schema: Schema, field: FieldSchema, indexes: Sequence[ValueIndex]
) -> tuple[list[str], np.ndarray]:
    """The distinct texts of a field that `columns` makes of others; each combination of values is rendered once.

    Args:
        tables: N rows in all, with the columns of the field's parts.
        schema: What the columns mean.
        field: The field.
        indexes: As in `texts_of_columns`.

    Returns:
        The texts, empty for missing ones; and the index of each row's, (N,).
    """
    cells, codes = {}, []
    for name in schema.raw_columns_of(field):
        cells[name], indices = distinct_cells([table.column(name) for table in tables])
        codes.append(indices)
    # one column at a time: the product of all numbers of values might overflow
    combined = codes[0]
    for more in codes[1:]:
        combined = np.unique(combined.astype(np.int64) * (int(more.max(initial=0)) + 1) + more, return_inverse=True)[1]
    _, first, indices = np.unique(combined, return_index=True, return_inverse=True)
    combined_cells = {name: [cells[name][code] for code in row_codes[first]] for name, row_codes in zip(cells, codes)}
    texts = texts_of_columns(schema, field, indexes, combined_cells)
    number_of_text = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    numbers = np.fromiter(map(number_of_text.__getitem__, texts), dtype=np.int64, count=len(texts))
    return list(number_of_text), numbers[indices]


def _column_of_texts(
    columns: Mapping[str, Any], schema: Schema, field: FieldSchema, indexes: Sequence[ValueIndex]
) -> pa.ChunkedArray:
    """The texts of training rows for a field that `columns` makes of others, as an Arrow column."""
    field_columns = {name: columns[name] for name in schema.raw_columns_of(field)}
    if all(isinstance(column, pa.ChunkedArray) for column in field_columns.values()):
        texts, indices = distinct_texts_of([pa.table(field_columns)], schema, field, indexes)
        # a dictionary: the texts of all rows may take more bytes than one array of strings can hold
        return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array(texts, pa.large_string()))])
    return pa.chunked_array([pa.array(texts_of_columns(schema, field, indexes, field_columns), pa.large_string())])


def vector_blocks(column: Any, field: FieldSchema, size: int | None = None, start: int = 0) -> Iterator[np.ndarray]:
    """Read a column of vectors in blocks of rows.

    Args:
        column: An Arrow column or array, or a sequence of cells.
        field: Its field.
        size: n; by default that of the first vector.
        start: Index of the first row in messages.

    Yields:
        (rows, n) float64, NaN in the rows of missing vectors; (rows, 0) as long as all are missing and `size` is not
        given.

    Raises:
        UnreadableVector: If a cell is not a vector of finite numbers of that size; its index is that of the row.
    """
    for part in getattr(column, "chunks", [column]):
        part = part.storage if isinstance(part, pa.ExtensionArray) else part
        for first in range(0, len(part), _ROWS_PER_BLOCK):
            cells = part[first : first + _ROWS_PER_BLOCK]
            try:
                if isinstance(cells, pa.Array) and _holds_numbers(cells.type):
                    block, size = _read_arrow(cells, field, size)
                else:
                    block, size = read_vectors(cells_of(cells), field, size)
            except UnreadableVector as error:
                raise UnreadableVector(field, error.cell, error.problem, start + error.index) from None
            yield block
            start += len(cells)


def _holds_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_nested(column: pa.ChunkedArray) -> bool:
    return pa.types.is_nested(column.type)


def _read_arrow(cells: Any, field: FieldSchema, size: int | None) -> tuple[np.ndarray, int | None]:
    """`read_vectors` for an Arrow array of lists of numbers."""
    lengths = pc.list_value_length(cells).fill_null(0).to_numpy(zero_copy_only=False)
    present = lengths > 0
    if not present.any():
        return np.full((len(cells), size or 0), np.nan), size
    size = int(lengths[present][0]) if size is None else size
    if (wrong := present & (lengths != size)).any():
        row = int(wrong.argmax())
        problem = f"it has {lengths[row]} numbers, others have {size}"
        raise UnreadableVector(field, cells[row].as_py(), problem, row)
    # without the values of missing lists, which may hold anything; missing numbers become NaN
    numbers = cells.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    vectors = np.full((len(cells), size), np.nan)
    vectors[present] = numbers.reshape(-1, size)
    check_finite(vectors, field, ~present)
    return vectors, size


def _counted_vectors(
    column: Any, field: FieldSchema, text_encoder: TextEncoder | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of vectors (rows, n) that are not missing, with the number of rows (rows,) that each stands for."""
    if not field.as_vector:
        for block in vector_blocks(column, field):
            present = block[~np.isnan(block).any(axis=1)] if block.shape[1] else block[:0]
            yield present, np.ones(len(present))
        return
    assert text_encoder is not None  # `fit_vectors` has checked it
    if isinstance(column, pa.ChunkedArray) and not _is_nested(column):
        values, indices = distinct_cells([column])
        counts = np.bincount(indices, minlength=len(values)).tolist()
    else:
        values = cells_of(column)
        counts = [1] * len(values)
    texts: Counter[str] = Counter()
    for row, (text, count) in enumerate(zip(texts_of(values, field), counts)):
        if text is None:
            raise UnreadableVector(
                field, values[row], "training rows must hold texts, which a PLM turns into vectors", row
            )
        texts[text] += count if text else 0
    known = [text for text, count in texts.items() if count]
    for first in range(0, len(known), _ROWS_PER_BLOCK):
        part = known[first : first + _ROWS_PER_BLOCK]
        yield text_encoder.encode(part).astype(np.float64), np.asarray([texts[text] for text in part], dtype=float)
