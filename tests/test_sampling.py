"""The order of training rows: permutations computed in pieces, and epochs of very many rows."""

import numpy as np
import pytest

from clickprompt_hf.training import sampling
from clickprompt_hf.training.sampling import EpochSampler, permutation


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 65_537])
def test_every_number_occurs_once_for_any_piece_size(size):
    orders = [
        np.concatenate(list(permutation(size, np.random.default_rng(0), piece))) for piece in (1 + size // 3, size)
    ]
    assert np.array_equal(np.sort(orders[0]), np.arange(size))
    assert np.array_equal(*orders)
    assert orders[0].dtype == np.int64


def test_permutations_are_random():
    size, repeats = 1000, 1000
    orders = np.stack([next(permutation(size, np.random.default_rng(seed), size)) for seed in range(repeats)])
    # the tenth that a number moves from and to: 100 cells, each expecting 10,000 of a million numbers
    cells = np.zeros((10, 10))
    np.add.at(cells, (np.tile(np.arange(size) // 100, repeats), orders.ravel() // 100), 1)
    # 81 degrees of freedom: 99.9 % of random permutations stay below
    assert ((cells - 10_000) ** 2 / 10_000).sum() < 126
    neighbors = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders]
    assert np.mean(neighbors) == pytest.approx(0, abs=4 * size**-0.5 * repeats**-0.5)
    assert np.std(neighbors) == pytest.approx(size**-0.5, rel=0.1)


@pytest.mark.parametrize("by_length", [False, True])
def test_very_many_rows_are_ordered_in_pieces(by_length, monkeypatch):
    monkeypatch.setattr(sampling, "_ROWS_IN_MEMORY", 1000)
    lengths = np.random.default_rng(0).integers(10, 60, 5003) if by_length else None
    sampler = EpochSampler(5003, seed=1, multiple_of=8, lengths=lengths, batch_size=8)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(sampler) == len(epochs[0]) == 5008
    assert sorted(epochs[0]) == list(range(5008))
    assert epochs[0][-5:] == list(range(5003, 5008))
    if lengths is not None:
        batches = np.asarray(epochs[0][:5000]).reshape(-1, 8)
        assert np.ptp(lengths[batches], axis=1).mean() < 5
