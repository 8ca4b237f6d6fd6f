# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Feature dropout: training replaces feature ids by the id of unseen values, as often as a model will meet them.

A vocabulary holds all values of the training rows, so without it no training row has an unseen value: the embedding of
unseen values stays at zero, and the model relies on users and items as if each of them would come back.

Shapes: B batch, N rows, C columns of ids, F fields with ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .random_draws import draw_uniform

# Keeps the draws apart from those of masks, which have the same seed, epochs and rows.
_STREAM = np.uint64(0xFEA7D40F)
_COUNTED_ROWS = 262_144


@dataclass(frozen=True)
class FeatureDropout:
    """Replaces ids of training rows, each on its own with the probability of its column.

    The choices are a function of (seed, epoch, row, column), so that neither the other rows of a batch, nor
    prefetching, resuming or the number of processes changes them.

    Args:
        probabilities: Probability per column of ids, (C,), in [0, 1].
        seed: Seed of the choices.
    """

    probabilities: np.ndarray
    seed: int

    def __call__(self, feature_ids: np.ndarray, row_ids: np.ndarray, epoch: int) -> np.ndarray:
        """Return feature_ids (B, C) with some ids replaced by 0; empty slots, which are -1, stay.

        Args:
            feature_ids: (B, C)
            row_ids: (B,) identifies each row within the run.
            epoch: The training epoch; each epoch replaces other ids.
        """
        columns = np.flatnonzero(self.probabilities)
        draws = draw_uniform(_STREAM ^ np.uint64(self.seed), epoch, row_ids, columns.astype(np.uint64)[None])
        ids, replaced = feature_ids[:, columns], feature_ids.copy()
        replaced[:, columns] = np.where((draws < self.probabilities[columns]) & (ids > 0), 0, ids)
        return replaced


def unseen_shares(feature_ids: np.ndarray, max_values: Sequence[int]) -> np.ndarray:
    """Share of unseen values among the values of each field, (F,); 0 for a field without values.

    Args:
        feature_ids: (N, C); id 0 stands for an unseen value, -1 for an empty slot.
        max_values: Columns of ids per field.
    """
    unseen, present = np.zeros(feature_ids.shape[1], np.int64), np.zeros(feature_ids.shape[1], np.int64)
    for start in range(0, len(feature_ids), _COUNTED_ROWS):
        rows = feature_ids[start : start + _COUNTED_ROWS]
        unseen += (rows == 0).sum(axis=0)
        present += (rows >= 0).sum(axis=0)
    starts = np.cumsum([0, *max_values[:-1]])
    return np.add.reduceat(unseen, starts) / np.maximum(np.add.reduceat(present, starts), 1)


def matching_dropout(
    train_ids: np.ndarray, evaluated_ids: Sequence[np.ndarray], max_values: Sequence[int], seed: int
) -> FeatureDropout | None:
    r"""Choose the dropout that makes unseen values as frequent in training as in evaluation.

    With shares \\(t\\) and \\(v\\) of unseen values of a field in training and evaluation, an id is replaced with
    probability \\(\max(0, (v - t) / (1 - t))\\).

    Args:
        train_ids: Ids of the training rows, (N, C).
        evaluated_ids: Ids of evaluation rows, (M, C) per dataset.
        max_values: Columns of ids per field.
        seed: Seed of the choices.

    Returns:
        The dropout; `None` if no field needs any.
    """
    rows = [ids for ids in evaluated_ids if len(ids)]
    if not rows:
        return None
    weights = np.asarray([len(ids) for ids in rows])
    wanted = np.average([unseen_shares(ids, max_values) for ids in rows], axis=0, weights=weights)
    found = unseen_shares(train_ids, max_values)
    per_field = np.clip((wanted - found) / np.maximum(1 - found, np.finfo(float).eps), 0, 1)
    if not per_field.any():
        return None
    return FeatureDropout(np.repeat(per_field, max_values), seed)
