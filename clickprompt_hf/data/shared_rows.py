# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Copies of training rows in another split, which flatter a model that has memorized them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .columnar import ColumnarDataset

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HALF_BITS, _FILTER_BITS = 32, 22
_FILTER_SHIFT = np.uint64(64 - _FILTER_BITS)
_ROWS_PER_BLOCK = 1 << 20
# A smaller share moves AUC by less than other choices do.
_FEW = 0.01
# Labels of rows that are equal by chance agree only as far as the fields predict them, which is far below this.
_AGREEMENT_OF_COPIES = 0.5
# Fields depend on each other, so equal rows may be a few times as frequent as with independent fields.
_TIMES_EXPECTED = 5


@dataclass(frozen=True)
class SharedRows:
    """Rows of a split that equal training rows in all fields.

    Args:
        rows: Rows of the split.
        shared: Rows whose values in all fields are those of a training row.
        with_label: Shared rows that also have the label of such a training row.
        agreement: How well their labels agree with those of such training rows (Cohen's kappa): 1 for copies, about 0
            for labels that are independent of the fields. NaN without such rows.
        expected: Shared rows if only chance brought the values of the two most distinct fields together.
    """

    rows: int
    shared: int
    with_label: int
    agreement: float = float("nan")
    expected: float = 0.0

    @property
    def suspicious(self) -> bool:
        """Whether there are more than a few shared rows, with the labels of copies or too many for chance."""
        if not self.shared or self.shared < _FEW * self.rows:
            return False
        return self.agreement >= _AGREEMENT_OF_COPIES or self.shared > _TIMES_EXPECTED * self.expected


def count_shared_rows(train: ColumnarDataset, other: ColumnarDataset) -> SharedRows:
    """Count the rows of `other` that equal training rows, by hashes of their raw values.

    Args:
        train: Training rows.
        other: Rows of another split, prepared together with them.

    Raises:
        ValueError: If the rows have no `value_ids`.
    """
    if train.value_ids is None or other.value_ids is None:
        raise ValueError("`train` and `other` must have `value_ids`, as `prepare_splits` writes them.")
    hashes = np.concatenate([_row_hashes(block) for block in _blocks(other.value_ids)])
    may_be_among = _filter_of(hashes)
    train_hashes, labels = _candidates(train, may_be_among)

    known = np.unique(hashes)
    places = np.searchsorted(known, train_hashes).clip(max=len(known) - 1)
    alike = known[places] == train_hashes
    train_rows = np.bincount(places[alike], minlength=len(known))
    train_clicks = np.bincount(places[alike], weights=labels[alike], minlength=len(known))
    places = np.searchsorted(known, hashes)
    rows = train_rows[places]
    same_label = np.where(other.labels == 1, train_clicks[places], rows - train_clicks[places])
    shared = rows > 0
    if not shared.any():
        return SharedRows(len(other), 0, 0)

    click_rates = np.mean(train.labels), np.mean(other.labels[shared])
    by_chance = np.prod(click_rates) + np.prod(np.subtract(1, click_rates))
    agreement = (np.mean(same_label[shared] / rows[shared]) - by_chance) / max(1 - by_chance, np.finfo(float).tiny)
    # chance that two rows share a value, per field
    chances = sorted(np.sum((counts / len(train)) ** 2) for counts in _value_counts(train.value_ids))
    return SharedRows(
        rows=len(other),
        shared=int(shared.sum()),
        with_label=int((same_label > 0).sum()),
        agreement=float(agreement),
        expected=len(other) * min(1.0, len(train) * float(np.prod(chances[:2]))),
    )


def _row_hashes(value_ids: np.ndarray) -> np.ndarray:
    """Hash rows (N, F) to (N,) 64-bit numbers."""
    hashes = np.zeros(len(value_ids), dtype=np.uint64)
    for column in value_ids.T:
        hashes ^= column.astype(np.uint64)
        hashes *= _MULTIPLIER
        hashes ^= hashes >> np.uint64(_HALF_BITS)
    return hashes


def _filter_of(hashes: np.ndarray) -> np.ndarray:
    """Bits that rule out most hashes other than these at once."""
    present = np.zeros(1 << _FILTER_BITS, dtype=bool)
    present[hashes >> _FILTER_SHIFT] = True
    return present


def _candidates(train: ColumnarDataset, may_be_among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and labels of the training rows that a filter does not rule out."""
    hashes, labels, start = [], [], 0
    assert train.value_ids is not None
    for block in _blocks(train.value_ids):
        block_hashes = _row_hashes(block)
        rows = np.flatnonzero(may_be_among[block_hashes >> _FILTER_SHIFT])
        hashes.append(block_hashes[rows])
        labels.append(train.labels[start + rows])
        start += len(block)
    return np.concatenate(hashes), np.concatenate(labels)


def _value_counts(value_ids: np.ndarray) -> list[np.ndarray]:
    """Number of rows of each value of each field, first of missing ones."""
    counts = [np.zeros(int(column.max()) + 2, dtype=np.int64) for column in value_ids.T]
    for block in _blocks(value_ids):
        for field_counts, column in zip(counts, block.T):
            np.add.at(field_counts, column.astype(np.intp) + 1, 1)
    return counts


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of rows, which may be more than memory holds; at least one."""
    for start in range(0, max(len(rows), 1), _ROWS_PER_BLOCK):
        yield rows[start : start + _ROWS_PER_BLOCK]
