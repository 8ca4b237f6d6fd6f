# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Lazy updates of the feature embeddings: a step touches the rows that its batch reads, and no others.

Why it pays: dense Adam reads and writes the whole table and its two moments at every step, so a step slows down as the
vocabulary grows, though a batch of B rows reads at most B · C of its rows. With lazy updates the cost of a step no
longer grows with the vocabulary. docs/benchmarks.md has the figures.

What differs from dense Adam: a row's moments do not decay in steps that do not read it (as in TensorFlow's LazyAdam
and `torch.optim.SparseAdam`), so rare rows move as far as their own gradients say.
"""

from typing import Any

import torch
from torch import nn

from ..layers_ctr import FeatureEmbedding


def make_embeddings_sparse(model: nn.Module) -> None:
    """Lets all feature embeddings of `model` have sparse gradients."""
    for module in model.modules():
        if isinstance(module, FeatureEmbedding):
            module.table.sparse = True


def sparse_parameters(model: nn.Module) -> list[torch.Tensor]:
    """Parameters of `model` whose gradients are sparse."""
    return [m.weight for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.sparse]


class OptimizerWithSparseGroup(torch.optim.Optimizer):
    """A dense optimizer and `torch.optim.SparseAdam` as one, which share the list of parameter groups.

    Args:
        dense: Made with all groups but the sparse one.
        sparse_group: A group with `params`, whose gradients are sparse, and `lr`.
        betas, eps: Adam's, for the sparse group.
    """

    def __init__(
        self, dense: torch.optim.Optimizer, sparse_group: dict[str, Any], betas: tuple[float, float], eps: float
    ):
        self.dense = dense
        self.sparse = torch.optim.SparseAdam([sparse_group], betas=betas, eps=eps)
        super().__init__([*dense.param_groups, *self.sparse.param_groups], {})
        # the same dictionaries, so that a schedule of the learning rate reaches both
        self.param_groups = [*dense.param_groups, *self.sparse.param_groups]

    def step(self, closure=None):
        loss = self.dense.step(closure)
        self.sparse.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.dense.load_state_dict(state_dict["dense"])
        self.sparse.load_state_dict(state_dict["sparse"])
        # loading replaces the groups
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]
