# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns on disk as codes of distinct values, which memory need not hold.

Each chunk of a column has separate codes. The distinct values of all chunks are partitioned by key and merged
partition by partition, so that memory holds one partition at a time. A value's code in the whole column is its rank by
key.

Shapes: R rows of a chunk, D distinct values of the column.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from .distinct import PARTITION_BITS, DistinctValues, numbered

_NUM_PARTITIONS = 1 << PARTITION_BITS
# Values that are read and converted to Python objects at a time.
VALUES_PER_SLICE = 1 << 16


class SpilledColumn:
    """A column that is written chunk by chunk, then merged, then read chunk by chunk.

    Args:
        folder: An empty folder for this column.
        kind: Arrow type of the values.

    Attributes:
        kind: Arrow type of the values on disk.
        num_rows: Number of rows per chunk.
        num_distinct: D, once `merge` has run.
    """

    def __init__(self, folder: Path, kind: pa.DataType):
        folder.mkdir(parents=True)
        # offsets of 32 bits do not reach all values
        self._folder, self.kind = folder, pa.large_string() if pa.types.is_string(kind) else kind
        self._schema = pa.schema([("key", pa.uint64()), ("value", self.kind)])
        self._codes: BinaryIO = (folder / "codes").open("wb")
        self._values: BinaryIO = (folder / "values-of-chunks").open("wb")
        # Where the values of each chunk's partitions begin and end in the file, (chunks, partitions + 1).
        self._places: list[np.ndarray] = []
        self.num_rows: list[int] = []
        self.num_distinct = 0
        # Of each chunk's distinct values, (chunks, partitions + 1).
        self._ends: list[np.ndarray] = []

    def add(self, chunk: DistinctValues) -> None:
        """Write a chunk."""
        self._codes.write(np.ascontiguousarray(chunk.codes, dtype=np.int32).data)
        partitions = (chunk.keys >> np.uint64(64 - PARTITION_BITS)).astype(np.uint8)
        ends = np.concatenate([[0], np.cumsum(np.bincount(partitions, minlength=_NUM_PARTITIONS))])
        batch = pa.RecordBatch.from_arrays([pa.array(chunk.keys), chunk.values.cast(self.kind)], schema=self._schema)
        places = [self._values.tell()]
        for start, end in pairwise(ends.tolist()):
            self._values.write(batch.slice(start, end - start).serialize())
            places.append(self._values.tell())
        self._places.append(np.asarray(places))
        self._ends.append(ends)
        self.num_rows.append(len(chunk.codes))

    def merge(self) -> None:
        """Give equal values of all chunks one code. No chunks can be added afterwards."""
        self._codes.close()
        self._values.close()
        ends = np.asarray(self._ends).reshape(-1, _NUM_PARTITIONS + 1)
        firsts = np.concatenate([[0], np.cumsum(ends[:, -1])])
        with (
            (self._folder / "values-of-chunks").open("rb") as chunk_values,
            (self._folder / "code-map").open("wb") as code_map,
            pa.OSFile(str(self._folder / "values"), "wb") as file,
            pa.ipc.new_stream(file, pa.schema([("value", self.kind)])) as values,
        ):
            for part in range(_NUM_PARTITIONS):
                batches = self._read_partition(chunk_values, part)
                if not len(batches):
                    continue
                keys = batches.column("key").to_numpy()
                distinct, first_rows, codes = numbered(keys)
                kept = batches.column("value").combine_chunks().take(pa.array(first_rows))
                for start in range(0, len(distinct), VALUES_PER_SLICE):
                    values.write_batch(pa.record_batch([kept.slice(start, VALUES_PER_SLICE)], names=["value"]))
                codes += self.num_distinct
                sizes = ends[:, part + 1] - ends[:, part]
                for chunk, piece in enumerate(np.split(codes, np.cumsum(sizes)[:-1])):
                    code_map.seek(4 * int(firsts[chunk] + ends[chunk, part]))
                    code_map.write(np.ascontiguousarray(piece).data)
                self.num_distinct += len(distinct)
        self._firsts = firsts
        (self._folder / "values-of-chunks").unlink()

    def _read_partition(self, file: BinaryIO, part: int) -> pa.Table:
        """Keys and values of a partition in all chunks."""
        batches = []
        for places in self._places:
            start, end = places[part : part + 2].tolist()
            file.seek(start)
            batches.append(pa.ipc.read_record_batch(pa.py_buffer(file.read(end - start)), self._schema))
        return pa.Table.from_batches(batches, self._schema)

    def values(self) -> Iterator[pa.Array]:
        """Read the distinct values, in the order of their codes, in slices."""
        with pa.OSFile(str(self._folder / "values")) as source, pa.ipc.open_stream(source) as reader:
            held: list[pa.Array] = []
            for batch in reader:
                if held and sum(map(len, held)) + len(batch) > VALUES_PER_SLICE:
                    yield pa.concat_arrays(held)
                    held = []
                held.append(batch.column(0))
            if held:
                yield pa.concat_arrays(held)

    def take(self, codes: np.ndarray) -> pa.Array:
        """The values of few codes, (n,)."""
        wanted, places = np.unique(codes, return_inverse=True)
        found, start = [], 0
        for values in self.values():
            inside = wanted[(wanted >= start) & (wanted < start + len(values))]
            found.append(values.take(pa.array(inside - start)))
            start += len(values)
        return pa.concat_arrays(found).take(pa.array(places))

    def codes(self, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        """Read the codes of a chunk.

        Returns:
            (R,) int32, codes within the chunk; and for each of them the code in the column, int32.
        """
        first, last = (int(4 * self._firsts[number]) for number in (chunk, chunk + 1))
        code_map = np.fromfile(self._folder / "code-map", dtype=np.int32, offset=first, count=(last - first) // 4)
        offset = 4 * sum(self.num_rows[:chunk])
        return np.fromfile(self._folder / "codes", np.int32, self.num_rows[chunk], offset=offset), code_map
