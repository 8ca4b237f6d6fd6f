# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The order in which training visits its rows."""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from torch.utils.data import Sampler

from ..data.columnar import ColumnarDataset

_BATCHES_SORTED_TOGETHER = 50
# their permutation takes 80 MB
_ROWS_IN_MEMORY = 10_000_000
_INDICES_AT_ONCE = 1 << 16
_FEISTEL_ROUNDS = 6
_ODD_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class EpochSampler(Sampler[int]):
    """A permutation of the rows that depends only on (seed, epoch), so that a resumed run continues it.

    With several processes, each step must give every process a batch. The epoch is then padded with positions past the
    end, N, N + 1, ...: rows that `ColumnarDataset` repeats without a label, so that no loss counts them and the
    gradient equals that of one process.

    Given the rows' lengths, rows of similar length share a batch, which needs little padding: on ML-1M, batches of 64
    hold 46 positions per row instead of 57. Rows are sorted within 50 batches of the permutation, and the batches come
    in random order.

    Above ten million rows the permutation is computed in pieces, so that its memory does not grow with the rows.

    Args:
        num_rows: N, at least 1.
        seed: Seed of the order.
        multiple_of: Pad the epoch's length to a multiple of this.
        lengths: (N,) tokens of each row's text, to group by; `None` for a plain random order.
        batch_size: Rows per step, over all processes, that should be of similar length.
    """

    def __init__(
        self, num_rows: int, seed: int, multiple_of: int = 1, lengths: np.ndarray | None = None, batch_size: int = 1
    ):
        self.num_rows, self.seed = num_rows, seed
        self.length = -(-num_rows // multiple_of) * multiple_of
        self.lengths, self.batch_size = lengths, batch_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = np.random.default_rng([self.seed, self.epoch])
        for order in self._pieces(draw):
            if self.lengths is not None:
                order = self._grouped(order, self.lengths, draw)
            for start in range(0, len(order), _INDICES_AT_ONCE):
                yield from order[start : start + _INDICES_AT_ONCE].tolist()
        yield from range(self.num_rows, self.length)

    def _pieces(self, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """The permutation, whole or in pieces; a piece is a multiple of the batches that are sorted together."""
        if self.num_rows <= _ROWS_IN_MEMORY:
            yield draw.permutation(self.num_rows)
            return
        pool = self.batch_size * _BATCHES_SORTED_TOGETHER
        yield from permutation(self.num_rows, draw, piece=-(-_ROWS_IN_MEMORY // 10 // pool) * pool)

    def _grouped(self, order: np.ndarray, lengths: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """The rows of `order`, rearranged so that those of similar length share a batch."""
        pool = self.batch_size * _BATCHES_SORTED_TOGETHER
        pools = np.arange(len(order)) // pool
        # sorting by pool first keeps the last batch, which may be short, last
        order = order[np.lexsort((lengths[order], pools))]
        whole = len(order) // self.batch_size * self.batch_size
        batches = draw.permutation(order[:whole].reshape(-1, self.batch_size))
        return np.concatenate([batches.ravel(), order[whole:]])

    def __len__(self) -> int:
        return self.length


def has_lengths(dataset: Any, length_column: str) -> bool:
    """Whether rows can be grouped by the length of their text."""
    if isinstance(dataset, ColumnarDataset):
        return dataset.tables is not None
    return not isinstance(dataset, datasets.Dataset) or bool({"input_ids", length_column} & {*dataset.column_names})


def permutation(size: int, draw: np.random.Generator, piece: int) -> Iterator[np.ndarray]:
    """Yield a random permutation of [0, size) in pieces, without holding it in memory.

    A Feistel network with random keys permutes the numbers of 2h bits. Applying it again to every number that falls
    outside [0, size), until none does, leaves a permutation of [0, size) (Black and Rogaway 2002, "Ciphers with
    Arbitrary Finite Domains"). A shuffled array of 10^8 indices would take 0.8 GB, and as a list 4 GB more.

    Args:
        size: At least 1.
        draw: Source of the network's keys; used for nothing else, and only before the first piece.
        piece: Numbers per piece, at least 1; the last piece may be shorter.

    Yields:
        (piece,) int64
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    keys = draw.integers(2**64, size=(_FEISTEL_ROUNDS, 2), dtype=np.uint64)
    for start in range(0, size, piece):
        numbers = _feistel(np.arange(start, min(start + piece, size), dtype=np.uint64), half, keys)
        while len(outside := np.flatnonzero(numbers >= size)):
            numbers[outside] = _feistel(numbers[outside], half, keys)
        yield numbers.astype(np.int64)


def _feistel(numbers: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """Pass `numbers`, of 2 * half bits each, through the network once."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for add, flip in keys:
        # the products wrap around, and their high bits depend on all bits
        mixed = (right + add) * _ODD_MULTIPLIER
        mixed = ((mixed >> np.uint64(32)) ^ mixed ^ flip) * _ODD_MULTIPLIER
        left, right = right, left ^ (mixed >> (np.uint64(64) - half))
    return (left << half) | right
