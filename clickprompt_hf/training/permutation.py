# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Permutations of very many numbers, computed piece by piece.

A Feistel network with random keys permutes the numbers of 2h bits; of a number that falls outside [0, N) the network
is taken again until it falls inside, which leaves a permutation of [0, N) (Black and Rogaway 2002, "Ciphers with
arbitrary finite domains"). A shuffled array of 10^8 indices takes 0.8 GB, and 4 GB more as a list.
"""

from collections.abc import Iterator

import numpy as np

_ROUNDS = 6
_ODD = np.uint64(0x9E3779B97F4A7C15)


def permutation(size: int, draw: np.random.Generator, piece: int) -> Iterator[np.ndarray]:
    """A random permutation of [0, size) as arrays (piece,) int64, the last of which may be shorter.

    Args:
        size: At least 1.
        draw: Draws the network's keys at the first piece, and nothing else.
        piece: Numbers of an array, at least 1.
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    keys = draw.integers(2**64, size=(_ROUNDS, 2), dtype=np.uint64)
    for start in range(0, size, piece):
        numbers = _permuted(np.arange(start, min(start + piece, size), dtype=np.uint64), half, keys)
        while len(outside := np.flatnonzero(numbers >= size)):
            numbers[outside] = _permuted(numbers[outside], half, keys)
        yield numbers.astype(np.int64)


def _permuted(numbers: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    """One pass of the network over `numbers`, each of 2 * half bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for add, flip in keys:
        # the products wrap around, and their high bits depend on all bits
        mixed = (right + add) * _ODD
        mixed = ((mixed >> np.uint64(32)) ^ mixed ^ flip) * _ODD
        left, right = right, left ^ (mixed >> (np.uint64(64) - half))
    return (left << half) | right
