# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
r"""L2 regularization of the feature embeddings, with the same prior for rare and for frequent ids.

With the mean loss over N training rows, \\(\frac{\lambda}{2N} \sum_j \lVert e_j \rVert^2\\) is the prior that each
number of an embedding is drawn from a normal distribution of precision λ; scikit-learn's logistic regression has it
with λ = 1 / C. The cost of adding its gradient to all embeddings at every step would grow with the table. A step on B
rows therefore adds \\(\frac{\lambda}{B s_j} e_j\\) to the gradients of the ids that it reads, where s_j is the number
of an epoch's S = N / B steps that read id j: \\(S (1 - (1 - 1/S)^{n_j})\\) of them, if the training rows have it n_j
times. An epoch then adds the same to each (mini-batch aware regularization: Zhou et al. 2018, arXiv 1706.06978,
section 5.1, which divides by n_j instead, and so regularizes frequent ids less).
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from transformers.trainer_utils import has_length

from ..data.columnar import ColumnarDataset
from .optimizer import feature_embeddings, without_zero_rows
from .sharded_tables import RowShardedTable

_COUNTED_ROWS = 262_144


def counts_of_ids(
    feature_ids: np.ndarray, column_offsets: Sequence[int], num_ids: int, dropped: np.ndarray | float = 0.0
) -> np.ndarray:
    """How often an epoch is expected to read each id, (ids,).

    Args:
        feature_ids: (N, C) ids within their fields; negative in empty slots.
        column_offsets: First id of each column's field among those of all fields, (C,).
        num_ids: Number of ids of all fields.
        dropped: Probability that feature dropout replaces an id by that of unseen values, (C,) or one for all columns.
    """
    counts, offsets = np.zeros(num_ids), np.asarray(column_offsets, dtype=np.int64)
    for start in range(0, len(feature_ids), _COUNTED_ROWS):
        ids = feature_ids[start : start + _COUNTED_ROWS]
        is_present, replaced = ids >= 0, (ids > 0) * dropped
        np.add.at(counts, (ids + offsets)[is_present], (1 - replaced)[is_present])
        np.add.at(counts, offsets, replaced.sum(axis=0))
    return counts


def steps_that_read(counts: np.ndarray, num_steps: float) -> np.ndarray:
    """Number of an epoch's steps that read each id, as expected of rows in random order, (ids,); 1 for unread ids.

    Args:
        counts: How often an epoch reads each id, (ids,).
        num_steps: Number of steps of an epoch, at least 1.
    """
    if num_steps == 1:
        return np.ones(len(counts))
    reading = -num_steps * np.expm1(counts * np.log1p(-1 / num_steps))
    return np.where(counts == 0, 1.0, reading)


class EmbeddingL2:
    r"""Adds the gradient of the L2 of the feature embeddings that a step has read.

    An embedding was read if its gradient is not zero. Others keep a gradient of zero, so with sparse gradients the
    cost does not grow with the table.

    Args:
        model: Its trainable feature embeddings are regularized; those of a linear term, too.
        strength: λ, above 0.
        feature_ids: Ids of the training rows, (N, C).
        step_rows: B, number of rows of a step, of all processes.
        dropped: Probabilities of feature dropout, see `counts_of_ids`.
    """

    def __init__(
        self,
        model: nn.Module,
        strength: float,
        feature_ids: np.ndarray,
        step_rows: int,
        dropped: np.ndarray | float = 0.0,
    ):
        self.tables: list[tuple[torch.Tensor, torch.Tensor]] = []
        for module in feature_embeddings(model).values():
            weight = module.table.weight
            if not weight.requires_grad:
                continue
            if not self.tables:
                # the same for all tables of a model
                counts = counts_of_ids(feature_ids, module.column_offsets.tolist(), sum(module.field_sizes), dropped)
                reading = steps_that_read(counts, len(feature_ids) / step_rows)
                rates = torch.from_numpy((strength / step_rows / reading).astype(np.float32)).unsqueeze(1)
            own = rates
            if isinstance(module.table, RowShardedTable):
                # a view would keep the rates of all rows
                own = rates[module.table.first_row : module.table.first_row + len(weight)].clone()
            self.tables.append((weight, own.to(weight.device)))

    @torch.no_grad()
    def __call__(self) -> None:
        """Add to the gradients, dense or sparse ones, that the backward pass has left."""
        for weight, rates in self.tables:
            if (gradient := weight.grad) is None:
                continue
            if gradient.is_sparse:
                weight.grad = gradient = without_zero_rows(gradient)
                rows = gradient.indices()[0]
                gradient.values().add_(weight[rows] * rates[rows])
            else:
                gradient.add_(weight * rates * gradient.any(dim=1, keepdim=True))


def check_has_length(train_dataset: Any) -> None:
    """Refuse a training dataset whose rows cannot be counted."""
    if not has_length(train_dataset):
        raise ValueError(
            "`train_dataset` must have a length with `embedding_l2`, which counts its ids; got "
            f"{type(train_dataset).__name__}."
        )


def feature_ids_of(dataset: Any) -> np.ndarray:
    """Feature ids of all rows of a training dataset, (N, C).

    Raises:
        ValueError: If it has no length, or rows have no `feature_ids` or other numbers of them.
    """
    if isinstance(dataset, ColumnarDataset):
        return dataset.feature_ids
    check_has_length(dataset)
    # not every dataset with a length ends when it is iterated
    rows = dataset if isinstance(dataset, datasets.Dataset) else (dataset[i] for i in range(len(dataset)))
    ids = []
    for number, row in enumerate(rows):
        if "feature_ids" not in row:
            raise ValueError(
                "Rows of `train_dataset` must have `feature_ids` with `embedding_l2`, got "
                f"{sorted(row)} in row {number}."
            )
        ids.append(np.asarray(row["feature_ids"]))
        if ids[-1].shape != ids[0].shape:
            raise ValueError(
                "Rows of `train_dataset` must have the same number of `feature_ids`, got "
                f"{ids[0].size}, and {ids[-1].size} in row {number}."
            )
    return np.stack(ids)
