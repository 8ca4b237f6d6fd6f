# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Random numbers that are a function of (seed, epoch, row), and the hash that makes them.

Shapes: B batch, T text tokens of the longest row of a batch.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class MaskDraws(NamedTuple):
    """Uniform random numbers in [0, 1) that decide the masks of a batch, (B, T) each.

    Attributes:
        selection: Selects the token if below `mlm_probability`.
        replacement: A selected token becomes the mask token if below 0.8, a random token if below 0.9, else it stays.
        random_token: Picks the random token.
    """

    selection: np.ndarray
    replacement: np.ndarray
    random_token: np.ndarray


def draw_masks(shape: tuple[int, ...], seed: int, epoch: int, row_ids: np.ndarray | None) -> MaskDraws:
    """Draw the random numbers that mask a batch: a function of (seed, epoch, row, position) if row ids are given.

    Each number is a hash of these four. A generator's state would depend on the batches drawn before and on their
    widths, and so on prefetching, resuming and the number of processes.

    Args:
        shape: (B, T)
        seed: The run's seed.
        epoch: The training epoch; each epoch masks different tokens.
        row_ids: (B,) identifies each row within the run. If `None`, torch's global generator draws.
    """
    if row_ids is None:
        return MaskDraws(*torch.rand(3, *shape, dtype=torch.float64).numpy())
    # (T, 3) counters, three consecutive ones per position, to (3, 1, T)
    counters = np.arange(3 * shape[1], dtype=np.uint64).reshape(shape[1], 3).T[:, None]
    return MaskDraws(*draw_uniform(np.uint64(seed), epoch, row_ids, counters))


def draw_uniform(seed: np.uint64, epoch: int, row_ids: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Draw uniform random numbers in [0, 1), each a function of (seed, epoch, row, counter).

    Args:
        seed: Seed of the draws.
        epoch: The training epoch.
        row_ids: (B,) identifies each row within the run.
        counters: (..., 1, M) uint64, different for different draws of a row.

    Returns:
        (..., B, M) float64.
    """
    run_key = hash_numbers(hash_numbers(seed) + np.uint64(epoch))
    row_keys = hash_numbers(run_key + row_ids.astype(np.uint64))
    with np.errstate(over="ignore"):
        bits = hash_numbers(row_keys[:, None] + counters * _GOLDEN_GAMMA)
    # The upper 53 bits fill a double's mantissa.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hash_numbers(numbers: Any) -> Any:
    """Hash 64-bit integers with SplitMix64's output function (Steele et al. 2014). Products wrap around."""
    with np.errstate(over="ignore"):
        numbers = numbers + _GOLDEN_GAMMA
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))
