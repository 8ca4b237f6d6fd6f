# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Distinct values of Arrow columns, and 64-bit keys by which chunks of a table recognize equal values.

Shapes: R rows of a chunk, D distinct values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...columns_clickprompt import cells_of
from ..arrow_cells import plain_type
from ..random_draws import hash_numbers

_WORD = 8
# Bits of the first n bytes of a word.
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(_WORD + 1)], dtype=np.uint64)
# Bits of a key that tell its partition.
PARTITION_BITS = 6
# If at least this share of the first rows is distinct, values hardly repeat.
_ROWS_TRIED, _MANY_DISTINCT = (1 << 12, 1 << 17), 0.6
_KEY_OF_NULL = np.uint64(0x9AE16A3B2F90404F)
# Fixed-width values whose bits are their key. Times with a zone are numbers of one unit, too.
_FIXED_WIDTH: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_integer, pa.types.is_float32, pa.types.is_float64),
    *(pa.types.is_date, pa.types.is_time, pa.types.is_timestamp, pa.types.is_duration),
)
_BYTES: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary),
)


@dataclass(frozen=True)
class DistinctValues:
    """Distinct values of a chunk of a column, in the order of the first `PARTITION_BITS` of their keys.

    Args:
        values: (D,) values. If they hardly repeat, all R are there, as finding the few that do takes longer than
            carrying them along. A missing value is null.
        keys: (D,) uint64, equal for equal values of all chunks. Keys of numbers and times are unique; the probability
            that any two of ten million distinct strings share a key is 3e-6.
        codes: (R,) int32, each row's index into `values`.
    """

    values: pa.Array
    keys: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> "DistinctValues":
        """Find the distinct values of a column of any type."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        array = array.cast(plain_type(array.type))
        if not _is_one_of(array.type, (*_FIXED_WIDTH, *_BYTES, pa.types.is_boolean)):
            return cls._of_shown(array)
        if _hardly_repeats(array):
            return cls._partitioned(array, keys_of(array), None)
        encoded = array.dictionary_encode()
        values, indices = encoded.dictionary, encoded.indices
        keys = keys_of(values)
        if indices.null_count:
            codes = indices.fill_null(len(values)).to_numpy()
            values = pa.concat_arrays([values, pa.nulls(1, values.type)])
            keys = np.append(keys, _KEY_OF_NULL)
        else:
            codes = indices.to_numpy()
        return cls._partitioned(values, keys, codes)

    @classmethod
    def _of_shown(cls, array: pa.Array) -> "DistinctValues":
        """Distinct lists, decimals and other values that Arrow cannot compare, told apart as in `distinct_cells`."""
        shown = pa.array(map(repr, cells_of(array)), pa.large_string()).dictionary_encode()
        codes = shown.indices.to_numpy()
        _, first_rows = np.unique(codes, return_index=True)
        return cls._partitioned(array.take(pa.array(first_rows)), keys_of(shown.dictionary), codes)

    @classmethod
    def _partitioned(cls, values: pa.Array, keys: np.ndarray, codes: np.ndarray | None) -> "DistinctValues":
        """Order values by partition; without codes, row i has value i."""
        # numpy sorts bytes by counting them
        order = np.argsort((keys >> np.uint64(64 - PARTITION_BITS)).astype(np.uint8), kind="stable")
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return cls(values.take(pa.array(order)), keys[order], ranks if codes is None else ranks[codes])


def numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys (D,) in ascending order, a row with each, and each row's number among them, int32."""
    order = np.argsort(keys)
    ordered = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    numbers = np.empty(len(keys), dtype=np.int32)
    numbers[order] = np.cumsum(is_first, dtype=np.int32) - 1
    return ordered[is_first], order[is_first], numbers


def _hardly_repeats(array: pa.Array) -> bool:
    """Whether most of the first rows differ in their values, and none is missing."""
    if array.null_count:
        return False
    # for most columns, a few rows suffice
    some = (array[:rows] for rows in _ROWS_TRIED)
    return all(len(part.unique()) > _MANY_DISTINCT * len(part) for part in some)


def _is_one_of(kind: pa.DataType, checks: tuple[Callable[[pa.DataType], bool], ...]) -> bool:
    return any(check(kind) for check in checks)


def keys_of(values: pa.Array) -> np.ndarray:
    """Keys (D,) uint64 of values without nulls."""
    kind = values.type
    if not len(values):
        return np.zeros(0, dtype=np.uint64)
    if _is_one_of(kind, _BYTES):
        return _keys_of_bytes(values)
    if pa.types.is_boolean(kind):
        return hash_numbers(values.cast(pa.uint8()).to_numpy().astype(np.uint64))
    if kind.bit_width < 64:
        narrow = values.view(f"int{kind.bit_width}").to_numpy(zero_copy_only=False)
        return hash_numbers(narrow.astype(np.int64).view(np.uint64))
    return hash_numbers(values.view(pa.uint64()).to_numpy())


def _keys_of_bytes(values: pa.Array) -> np.ndarray:
    """Hash strings word by word: all first words at once, then the second words of those that have them, and so on."""
    starts, lengths, content = text_buffers(values)
    # Every byte starts a word.
    words = np.ndarray((len(content) - _WORD + 1,), dtype="<u8", buffer=content.data, strides=(1,))
    keys = hash_numbers(lengths.astype(np.uint64))
    rows: np.ndarray | slice = slice(None)
    position = 0
    while True:
        left = np.minimum(lengths[rows] - position, _WORD)
        keys[rows] = hash_numbers(keys[rows] ^ (words[starts[rows] + position] & _FIRST_BYTES[left]))
        position += _WORD
        rows = np.flatnonzero(lengths > position)
        if not len(rows):
            return keys


def text_buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First byte (D,) and number of bytes (D,) of each string, int64, and the bytes of all, padded by a word."""
    is_long = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    _, offsets_buffer, content_buffer = values.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64 if is_long else np.int32)
    offsets = offsets[values.offset : values.offset + len(values) + 1].astype(np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    content = np.zeros(last - first + _WORD, dtype=np.uint8)
    if last > first:
        content[: last - first] = np.frombuffer(content_buffer, dtype=np.uint8)[first:last]
    return offsets[:-1] - first, np.diff(offsets), content
