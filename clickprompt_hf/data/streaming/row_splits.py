# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Splits of tables whose rows are not in memory: where each row goes.

The splits by time and by user are those of `split_table`, row for row: rows are sorted by their time or user, of which
only distinct values are held. A random split sorts rows by a hash of seed and row number, and keeps them in the order
of the table.

Shapes: N rows, R rows of a chunk, D distinct values of a column.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa

from ...schema_clickprompt import Schema
from ..random_draws import hash_numbers
from ..sources.source import SPLIT_NAMES
from ..splits import (
    Split,
    check_own_splits,
    check_split_column,
    check_times,
    cumulative_shares,
    ends_of_parts,
    is_rare,
    shuffle_groups,
    sortable_times,
    stratified_ends,
    warn_of_missing_splits,
)
from .distinct import keys_of
from .spelling import normally_spelled
from .spill import SpilledColumn

_BUCKET_BITS = 16
# Rows that are left out.
LEFT_OUT = -1


@dataclass(frozen=True)
class RowSplits:
    """Where each row of a table goes.

    Args:
        sizes: Number of rows of each split, in order.
        positions: Iterates over the chunks of the table: (R,) int64, each row's position in the concatenated splits;
            `LEFT_OUT` for rows of no split.
    """

    sizes: dict[str, int]
    positions: Callable[[], Iterator[np.ndarray]]

    def starts(self) -> np.ndarray:
        """Position of the first row of each split, and the number of all rows."""
        return np.cumsum([0, *self.sizes.values()])

    def parts(self) -> Iterator[np.ndarray]:
        """Per chunk, each row's index into the splits, (R,) int64; `LEFT_OUT` for rows of no split."""
        ends = self.starts()[1:]
        for positions in self.positions():
            parts = np.searchsorted(ends, positions, side="right")
            yield np.where(positions == LEFT_OUT, LEFT_OUT, parts)


@dataclass(frozen=True)
class StreamedRows:
    """What splits of a table depend on.

    Args:
        splits: Per chunk, the split whose files it comes from; empty if it is to be split.
        labels: Per chunk, (R,) int8.
        column: The column to split by: times, or groups of rows that stay together; `None` for a random split.
    """

    splits: Sequence[str]
    labels: Sequence[np.ndarray]
    column: SpilledColumn | None = None


def split_rows(
    rows: StreamedRows,
    schema: Schema,
    split: Split,
    split_seed: int,
    split_fractions: Sequence[float],
    column_name: str | None = None,
    max_train_rows: int | None = None,
) -> RowSplits:
    """Split the rows of a table, or keep its predefined splits; missing ones are cut from the training rows.

    Args:
        rows: The rows.
        schema: Names the time column.
        split: As in `split_table`, except that a random split draws different rows.
        split_seed: As in `split_table`.
        split_fractions: As in `split_table`.
        column_name: Name of the column of a split by user.
        max_train_rows: As in `limit_train_rows`. A random split keeps those with the smallest hashes.

    Raises:
        ValueError: If the rows have no times to split by, or too few users.
    """
    own = {name for name in rows.splits if name}
    names = [name for name in SPLIT_NAMES if name not in own or name == "train"]
    check_own_splits(own, split)
    is_drawn = [name in ("", "train") for name in rows.splits]
    drawn = [labels for labels, wanted in zip(rows.labels, is_drawn) if wanted]
    sizes = {name: sum(len(chunk) for chunk, of in zip(rows.labels, rows.splits) if of == name) for name in own}
    if len(names) == 1:
        return _in_order(rows, {name: sizes[name] for name in SPLIT_NAMES}, max_train_rows)

    shares = cumulative_shares([split_fractions[SPLIT_NAMES.index(name)] for name in names])
    if split == "random":
        cut, parts_of_drawn = _by_hash(drawn, shares, split_seed, max_train_rows)
    else:
        assert rows.column is not None
        if split == "time":
            ranks, ends = _ranks_of_times(rows.column, schema, is_drawn, shares)
        else:
            ranks, ends = _ranks_of_groups(rows.column, str(column_name), is_drawn, shares, split_seed)
        cut, parts_of_drawn = _sorted(rows.column, ranks, ends, is_drawn, max_train_rows, keeps_last=split == "time")
    if own:
        missing = {name: size for name, size in zip(names, cut) if name not in own}
        warn_of_missing_splits(missing, sizes["train"], split, split_seed)
    sizes.update(zip(names, cut))
    sizes = {name: sizes[name] for name in SPLIT_NAMES}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist()))

    def positions() -> Iterator[np.ndarray]:
        next_own, drawn_positions = dict(starts), parts_of_drawn([starts[name] for name in names])
        for name, labels in zip(rows.splits, rows.labels):
            if name in ("", "train"):
                yield next(drawn_positions)
            else:
                yield np.arange(next_own[name], next_own[name] + len(labels))
                next_own[name] += len(labels)

    return RowSplits(sizes, positions)


# The positions of rows that are drawn, by chunk, given the positions of the first row of each part.
_Positions = Callable[[list[int]], Iterator[np.ndarray]]


def _in_order(rows: StreamedRows, sizes: Mapping[str, int], max_train_rows: int | None) -> RowSplits:
    """All rows in the splits of their files."""
    limits = {**sizes, "train": min(sizes["train"], max_train_rows or sizes["train"])}
    starts = dict(zip(limits, np.cumsum([0, *limits.values()]).tolist()))

    def positions() -> Iterator[np.ndarray]:
        seen = dict.fromkeys(limits, 0)
        for name, labels in zip(rows.splits, rows.labels):
            numbers = np.arange(seen[name], seen[name] + len(labels))
            seen[name] += len(labels)
            yield np.where(numbers < limits[name], starts[name] + numbers, LEFT_OUT)

    return RowSplits(limits, positions)


def _by_hash(
    labels: Sequence[np.ndarray], shares: Sequence[Fraction], split_seed: int, max_train_rows: int | None
) -> tuple[list[int], _Positions]:
    """Split rows by a hash of seed and number; stratified like `split_table` if a class is rare."""
    seed = hash_numbers(np.uint64(split_seed))
    num_rows = sum(map(len, labels))
    num_clicks = sum(int(chunk.sum()) for chunk in labels)
    rare = 1 if 2 * num_clicks <= num_rows else 0
    num_rare = num_clicks if rare else num_rows - num_clicks

    def hashes(label: int | None = None) -> Iterator[np.ndarray]:
        row = 0
        for chunk in labels:
            found = hash_numbers(seed ^ np.arange(row, row + len(chunk), dtype=np.uint64))
            yield found if label is None else found[chunk == label]
            row += len(chunk)

    ends = ends_of_parts(num_rows, shares)
    if is_rare(num_rare, shares):
        rare_ends, other_ends = stratified_ends(num_rare, ends, shares)
        limits = {rare: _thresholds(lambda: hashes(rare), rare_ends)}
        limits[1 - rare] = _thresholds(lambda: hashes(1 - rare), other_ends)
    else:
        limits = dict.fromkeys((0, 1), _thresholds(hashes, ends))

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chunk, found in zip(labels, hashes()):
            parts_by_class = [np.searchsorted(limits[label], found, side="right") for label in (0, 1)]
            yield np.where(chunk == 1, parts_by_class[1], parts_by_class[0]), found

    sizes = np.diff([0, *ends, num_rows]).tolist()
    kept = None
    if max_train_rows is not None and max_train_rows < sizes[0]:
        (kept,) = _thresholds(lambda: (found[part == 0] for part, found in parts()), [max_train_rows])
        sizes[0] = max_train_rows

    def positions(starts: list[int]) -> Iterator[np.ndarray]:
        following = list(starts)
        for part, found in parts():
            chunk = np.full(len(part), LEFT_OUT, dtype=np.int64)
            for number in range(len(sizes)):
                rows = np.flatnonzero((part == number) & (found < kept) if number == 0 and kept else part == number)
                chunk[rows] = np.arange(following[number], following[number] + len(rows))
                following[number] += len(rows)
            yield chunk

    return sizes, positions


def _thresholds(hashes: Callable[[], Iterator[np.ndarray]], ranks: Sequence[int] | np.ndarray) -> np.ndarray:
    """Find, for each rank, the smallest number with that many hashes below it; uint64. No hash is repeated.

    Two passes, without holding the hashes: one counts them by their first bits, the other one sorts those that share
    the first bits of a threshold.
    """
    shift = np.uint64(64 - _BUCKET_BITS)
    counts = np.zeros(1 << _BUCKET_BITS, dtype=np.int64)
    for chunk in hashes():
        counts += np.bincount((chunk >> shift).astype(np.int64), minlength=len(counts))
    below = np.concatenate([[0], np.cumsum(counts)])
    buckets = np.minimum(np.searchsorted(below, ranks, side="right") - 1, len(counts) - 1)
    held: dict[int, list[np.ndarray]] = {int(bucket): [] for bucket in buckets}
    for chunk in hashes():
        chunk_buckets = chunk >> shift
        for bucket, found in held.items():
            found.append(chunk[chunk_buckets == np.uint64(bucket)])
    limits = []
    for rank, bucket in zip(ranks, buckets.tolist()):
        bucket_hashes = np.sort(np.concatenate(held[bucket]))
        position = rank - int(below[bucket])
        limits.append(bucket_hashes[position] if position < len(bucket_hashes) else np.uint64(2**64 - 1))
    return np.asarray(limits, dtype=np.uint64)


def _ranks_of_times(
    column: SpilledColumn, schema: Schema, is_drawn: Sequence[bool], shares: Sequence[Fraction]
) -> tuple[np.ndarray, Sequence[int]]:
    """Rank (D,) of each code by its time, and where each part but the last ends in the sorted rows."""
    counts, first_rows = count_codes(column, is_drawn)
    drawn = np.flatnonzero(counts)
    # in the order of the rows, so that a message names the first one
    drawn = drawn[np.argsort(first_rows[drawn], kind="stable")]
    values = pa.chunked_array(column.values(), column.kind).take(pa.array(drawn))
    times = sortable_times(values, schema, first_rows[drawn])
    # NaN and NaT do not equal themselves.
    check_times(times, int(counts[drawn][times != times].sum()), schema, values[0] if len(values) else None)
    ranks = np.zeros(len(counts), dtype=np.int64)
    ranks[drawn] = np.unique(times, return_inverse=True)[1]
    return ranks, ends_of_parts(int(counts.sum()), shares)


def _ranks_of_groups(
    column: SpilledColumn, name: str, is_drawn: Sequence[bool], shares: Sequence[Fraction], split_seed: int
) -> tuple[np.ndarray, Sequence[int]]:
    """Random rank (D,) of each code's group, and where each part but the last ends in the sorted rows."""
    check_split_column(column.kind, name)
    counts, first_rows = count_codes(column, is_drawn)
    keys = np.concatenate([keys_of(normally_spelled(values)) for values in column.values()])
    # as in a column in memory, where the missing value comes after all others
    is_null = np.concatenate([values.is_null().to_numpy(zero_copy_only=False) for values in column.values()])
    first_rows[is_null] = np.iinfo(np.int64).max
    drawn = np.flatnonzero(counts)
    _, first, groups = np.unique(keys[drawn], return_index=True, return_inverse=True)
    # groups are numbered by their first row
    firsts = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(firsts, groups, first_rows[drawn])
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(firsts)] = np.arange(len(first))
    groups = numbers[groups]
    sizes = np.bincount(groups, weights=counts[drawn]).astype(np.int64)
    ranks_of_groups, ends_of_groups = shuffle_groups(sizes, shares, split_seed, name)
    ranks = np.zeros(len(counts), dtype=np.int64)
    ranks[drawn] = ranks_of_groups[groups]
    return ranks, ends_of_groups.tolist()


def _sorted(
    column: SpilledColumn,
    ranks: np.ndarray,
    ends: Sequence[int],
    is_drawn: Sequence[bool],
    max_train_rows: int | None,
    keeps_last: bool,
) -> tuple[list[int], _Positions]:
    """Sort rows by the rank of their code, rows of equal rank in the order of the table, and cut them into parts."""
    counts, _ = count_codes(column, is_drawn)
    rows_of_ranks = np.bincount(ranks, weights=counts).astype(np.int64)
    first_of_ranks = np.cumsum(rows_of_ranks) - rows_of_ranks
    ends_of_all = np.asarray([*ends, int(counts.sum())])
    sizes = np.diff([0, *ends_of_all]).tolist()
    num_kept = min(sizes[0], max_train_rows or sizes[0])
    first_kept = sizes[0] - num_kept if keeps_last else 0
    firsts_of_parts = np.asarray([first_kept, *ends])

    def positions(starts: list[int]) -> Iterator[np.ndarray]:
        following = first_of_ranks.copy()
        for chunk, is_wanted in enumerate(is_drawn):
            if not is_wanted:
                continue
            codes, code_map = column.codes(chunk)
            row_ranks = ranks[code_map][codes]
            order = np.argsort(row_ranks, kind="stable")
            found, firsts, repeats = np.unique(row_ranks[order], return_index=True, return_counts=True)
            sorted_rows = np.empty(len(row_ranks), dtype=np.int64)
            sorted_rows[order] = np.repeat(following[found] - firsts, repeats) + np.arange(len(order))
            following[found] += repeats
            parts = np.searchsorted(ends_of_all, sorted_rows, side="right")
            within = sorted_rows - firsts_of_parts[parts]
            is_left_out = (parts == 0) & ((within < 0) | (within >= num_kept))
            yield np.where(is_left_out, LEFT_OUT, np.asarray(starts)[parts] + within)

    return [num_kept, *sizes[1:]], positions


def add_at(counts: np.ndarray, codes: np.ndarray, more: np.ndarray) -> None:
    """Add numbers (n,) to the counts (D,) of codes (n,), which may be repeated."""
    np.add.at(counts, codes, more.astype(counts.dtype, copy=False))


def count_codes(column: SpilledColumn, is_counted: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Number of rows (D,) and first row (D,) of each code, in the chunks that count; first row N without any."""
    counts = np.zeros(column.num_distinct, dtype=np.int64)
    first_rows = np.full(column.num_distinct, sum(column.num_rows), dtype=np.int64)
    row = 0
    for chunk, is_wanted in enumerate(is_counted):
        if is_wanted:
            codes, code_map = column.codes(chunk)
            add_at(counts, code_map, np.bincount(codes, minlength=len(code_map)))
            column_codes = code_map[codes]
            is_new = first_rows[column_codes] > row
            # of repeated indices, the last one counts
            first_rows[column_codes[is_new][::-1]] = np.flatnonzero(is_new)[::-1] + row
        row += column.num_rows[chunk]
    return counts, first_rows
