# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Write rows of arrays to their positions in `.npy` files, whatever the order in which they come."""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

# Rows of a bucket of positions, which are sorted in memory.
_BUCKET_ROWS = 1 << 20
# A chunk with more runs of consecutive positions than this is sorted in buckets.
_MOST_RUNS = 64


class RowWriter:
    """Writes chunks of rows whose positions may be in any order; each position is written once.

    Several threads may write at once. Rows at consecutive positions are written together. Others first go to files of
    neighboring positions, which `finish` reads one by one, sorts and writes. This avoids random access to distant
    rows.

    Args:
        folder: Where the arrays go, as `<name>.npy`.
        spill_folder: Where unsorted rows go; must exist.
        num_rows: N, number of rows.
        arrays: Per name, type and number of columns of an array (N, columns); 0 columns for an array (N,).
        split_ends: Position after the last row of each split, if rows come in the order of their splits.

    Raises:
        OSError: If the disk has no room for the arrays.
    """

    def __init__(
        self,
        folder: Path,
        spill_folder: Path,
        num_rows: int,
        arrays: Mapping[str, tuple[np.dtype | type | str, int]],
        split_ends: Sequence[int] = (),
    ):
        self._split_ends = np.asarray(split_ends, dtype=np.int64)
        self._spill_folder, self._num_rows = spill_folder, num_rows
        self._types = {name: (np.dtype(kind), columns) for name, (kind, columns) in arrays.items()}
        self._row = np.dtype(
            [("position", np.int64), *((n, k, c) if c else (n, k) for n, (k, c) in self._types.items())]
        )
        self._buckets: set[int] = set()
        self._lock = threading.Lock()
        self._files: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        for name, (kind, columns) in self._types.items():
            path = folder / f"{name}.npy"
            shape = (num_rows, columns) if columns else (num_rows,)
            header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                self._offsets[name] = file.tell()
            self._files[name] = os.open(path, os.O_RDWR)
            if num_bytes := num_rows * self._row_bytes(name):
                # a full disk is noticed now, not after hours
                os.posix_fallocate(self._files[name], self._offsets[name], num_bytes)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def write(self, positions: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Write rows.

        Args:
            positions: (R,) int64, the rows' positions; negative for rows to leave out.
            arrays: Per name, (R, columns) or (R,).
        """
        is_kept = positions >= 0
        if not is_kept.all():
            positions = positions[is_kept]
            arrays = {name: array[is_kept] for name, array in arrays.items()}
        order = self._order_of(positions)
        ordered = positions[order]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(ordered) != 1])) if len(ordered) else ordered
        if len(starts) > _MOST_RUNS:
            self._spill(ordered, {name: array[order] for name, array in arrays.items()})
            return
        for start, end in zip(starts, [*starts[1:], len(ordered)]):
            for name, array in arrays.items():
                self._write_run(int(ordered[start]), name, array[order[start:end]])

    def _order_of(self, positions: np.ndarray) -> np.ndarray:
        """The order of the rows by position."""
        # rows of a split usually come in order, between those of other splits; numpy sorts bytes by counting them
        splits = np.searchsorted(self._split_ends, positions, side="right").astype(np.uint8)
        order = np.argsort(splits, kind="stable")
        if (np.diff(positions[order]) > 0).all():
            return order
        return np.argsort(positions, kind="stable")

    def finish(self) -> None:
        """Write the rows that are still unsorted."""
        for bucket in sorted(self._buckets):
            path = self._path_of(bucket)
            rows = np.fromfile(path, dtype=self._row)
            path.unlink()
            rows = rows[np.argsort(rows["position"], kind="stable")]
            starts = np.flatnonzero(np.concatenate([[True], np.diff(rows["position"]) != 1]))
            for start, end in zip(starts, [*starts[1:], len(rows)]):
                run = rows[start:end]
                for name in self._types:
                    self._write_run(int(run["position"][0]), name, run[name])
        self._buckets.clear()

    def _write_run(self, position: int, name: str, array: np.ndarray) -> None:
        # bytes that share the array's memory
        content = np.ascontiguousarray(array, dtype=self._types[name][0]).reshape(-1).view(np.uint8).data
        offset = self._offsets[name] + position * self._row_bytes(name)
        while content:
            written = os.pwrite(self._files[name], content, offset)
            content, offset = content[written:], offset + written

    def _spill(self, positions: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        rows = np.empty(len(positions), dtype=self._row)
        rows["position"] = positions
        for name, array in arrays.items():
            rows[name] = array
        buckets = positions // _BUCKET_ROWS
        starts = np.flatnonzero(np.concatenate([[True], np.diff(buckets) != 0]))
        for start, end in zip(starts, [*starts[1:], len(rows)]):
            bucket = int(buckets[start])
            with self._lock, self._path_of(bucket).open("ab") as file:
                file.write(rows[start:end].tobytes())
            self._buckets.add(bucket)

    def _row_bytes(self, name: str) -> int:
        kind, columns = self._types[name]
        return kind.itemsize * max(columns, 1)

    def _path_of(self, bucket: int) -> Path:
        return self._spill_folder / f"rows-{bucket}"
