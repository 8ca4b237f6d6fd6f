# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Copies of training rows in another split: a model that memorized them is judged too well by that split."""

from dataclasses import dataclass

import numpy as np

from .columnar import ColumnarDataset

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HALF_BITS, _FILTER_BITS = 32, 22
# A smaller share moves AUC by less than other choices do.
_FEW = 0.01
# Labels of rows that are alike by chance agree no better than the fields predict them, which is far below this.
_AGREEMENT_OF_COPIES = 0.5
# Fields depend on each other: rows may be alike a few times as often as those of independent fields.
_TIMES_EXPECTED = 5


@dataclass(frozen=True)
class SharedRows:
    """Rows of a split that equal training rows in all fields.

    Args:
        rows: Rows of the split.
        shared: Rows whose values in all fields are those of a training row.
        with_label: Those of them that have the label of such a training row too.
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
        """Whether the shared rows are more than a few, and either have the labels of copies or are not chance."""
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
    train_hashes, hashes = _row_hashes(train.value_ids), _row_hashes(other.value_ids)
    candidates = _candidates(train_hashes, hashes)
    train_hashes, labels = train_hashes[candidates], train.labels[candidates]

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
    chances = sorted(np.sum((np.bincount(column) / len(train)) ** 2) for column in train.value_ids.T)
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


def _candidates(train_hashes: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Indices of training rows whose hashes may be among `hashes`: a table of bits rules out most others at once."""
    shift = np.uint64(64 - _FILTER_BITS)
    present = np.zeros(1 << _FILTER_BITS, dtype=bool)
    present[hashes >> shift] = True
    return np.flatnonzero(present[train_hashes >> shift])
