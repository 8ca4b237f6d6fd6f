# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The order in which training visits its rows."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """A permutation of the rows that depends on (seed, epoch) alone, so that a resumed run continues it.

    With several processes each step must give all of them a batch. An epoch is then filled up with positions past
    the end, N, N + 1, ...: rows that `ColumnarDataset` repeats without a label, so that no loss counts them and the
    gradient is that of one process.

    Args:
        num_rows: N, at least 1.
        seed: Draws the order.
        multiple_of: The length is filled up to a multiple of this.
    """

    def __init__(self, num_rows: int, seed: int, multiple_of: int = 1):
        self.num_rows, self.seed = num_rows, seed
        self.length = -(-num_rows // multiple_of) * multiple_of
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_rows)
        yield from order.tolist()
        yield from range(self.num_rows, self.length)

    def __len__(self) -> int:
        return self.length
