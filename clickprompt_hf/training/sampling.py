# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The order in which training visits its rows."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from .permutation import permutation

_BATCHES_SORTED_TOGETHER = 50
# a permutation of them takes 80 MB
_ROWS_IN_MEMORY = 10_000_000
_INDICES_AT_ONCE = 1 << 16


class EpochSampler(Sampler[int]):
    """A permutation of the rows that depends on (seed, epoch) alone, so that a resumed run continues it.

    With several processes each step must give all of them a batch. An epoch is then filled up with positions past
    the end, N, N + 1, ...: rows that `ColumnarDataset` repeats without a label, so that no loss counts them and the
    gradient is that of one process.

    With the rows' lengths, rows of about the same length share a batch, which is then padded to little more than
    each of them needs: on ML-1M batches of 64 hold 46 positions a row in the place of 57. Rows are sorted within
    50 batches of the permutation, and the batches come in random order.

    Beyond ten million rows the permutation is computed piece by piece: its memory does not grow with the rows.

    Args:
        num_rows: N, at least 1.
        seed: Draws the order.
        multiple_of: The length is filled up to a multiple of this.
        lengths: (N,) tokens of each row's text, to group by; in random order when left out.
        batch_size: Rows of a step, over all processes, that are to have about one length.
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
                order = self._grouped(order, draw)
            for start in range(0, len(order), _INDICES_AT_ONCE):
                yield from order[start : start + _INDICES_AT_ONCE].tolist()
        yield from range(self.num_rows, self.length)

    def _pieces(self, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """The permutation, at once or in pieces of whole pools of batches that are sorted together."""
        if self.num_rows <= _ROWS_IN_MEMORY:
            yield draw.permutation(self.num_rows)
            return
        pool = self.batch_size * _BATCHES_SORTED_TOGETHER
        yield from permutation(self.num_rows, draw, piece=-(-_ROWS_IN_MEMORY // 10 // pool) * pool)

    def _grouped(self, order: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        assert self.lengths is not None
        pool = self.batch_size * _BATCHES_SORTED_TOGETHER
        pools = np.arange(len(order)) // pool
        # by pool, then by length: the last batch, which may be short, stays last
        order = order[np.lexsort((self.lengths[order], pools))]
        whole = len(order) // self.batch_size * self.batch_size
        batches = draw.permutation(order[:whole].reshape(-1, self.batch_size))
        return np.concatenate([batches.ravel(), order[whole:]])

    def __len__(self) -> int:
        return self.length
