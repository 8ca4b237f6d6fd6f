# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Cells of Arrow columns of any type."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..columns_clickprompt import cells_of

# Arrow cannot take rows from columns of views.
_TYPES_OF_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def distinct_cells(columns: Sequence[pa.ChunkedArray]) -> tuple[list[Any], np.ndarray]:
    """Distinct values of all columns, with `None` as the last one, and each row's index into them, int64."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    array = _dictionary_of(chunks)
    if array is not None:
        values = [*cells_of(array.dictionary), None]
        return values, array.indices.fill_null(len(values) - 1).to_numpy().astype(np.int64)
    cells = [cell for chunk in chunks for cell in cells_of(chunk)]
    keys = [repr(cell) for cell in cells]
    cell_of_key = dict(zip(keys, cells))
    index_of_key = {key: index for index, key in enumerate(cell_of_key)}
    indices = np.fromiter((index_of_key[key] for key in keys), dtype=np.int64, count=len(keys))
    return [*cell_of_key.values(), None], indices


def _dictionary_of(chunks: Sequence[pa.Array]) -> pa.DictionaryArray | None:
    """All chunks as one dictionary-encoded array; `None` if Arrow cannot do that."""
    try:
        encoded = pa.chunked_array(chunks)
        if not pa.types.is_dictionary(encoded.type):
            encoded = encoded.dictionary_encode()
        # Arrow would turn the bits of half floats into numbers.
        if pa.types.is_float16(encoded.type.value_type):
            return None
        return encoded.unify_dictionaries().combine_chunks()
    # No chunks, chunks of different types, and types such as lists, UUIDs and short decimals.
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decode a dictionary, which may hold the values of a whole file, and turn views into plain strings."""
    if pa.types.is_dictionary(column.type):
        values = plain_type(column.type.value_type)
        # Taking works for types that Arrow does not cast from dictionaries, such as intervals of pandas.
        return pa.chunked_array([chunk.dictionary.cast(values).take(chunk.indices) for chunk in column.chunks], values)
    return column.cast(plain_type(column.type))


def decoded_table(table: pa.Table) -> pa.Table:
    """The table with each column `decoded`."""
    return pa.table([decoded(column) for column in table.columns], names=table.column_names)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type itself; for a view, the type of plain strings that replaces it."""
    return _TYPES_OF_VIEWS.get(kind, kind)
