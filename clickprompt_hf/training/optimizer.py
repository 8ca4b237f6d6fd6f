# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The optimizer: learning rates and weight decay per parameter, frozen parts, lazy embedding updates, clipping.

Lazy updates touch only the feature embeddings that a batch reads. Dense Adam reads and writes the whole table and its
two moments at every step, so a step slows down as the vocabulary grows, although a batch of B rows reads at most B * C
rows of the table. docs/benchmarks.md has the figures. They differ from dense Adam in one way: a row's moments do not
decay in steps that do not read it (as in TensorFlow's LazyAdam and `torch.optim.SparseAdam`), so rare rows move as far
as their own gradients say.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from .unwrapping import is_named


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    plm_learning_rate: float,
    weight_decay: float,
    exclude: Sequence[torch.Tensor] = (),
) -> list[dict[str, Any]]:
    """Group the trainable parameters of a model by learning rate and weight decay, in at most four groups.

    Args:
        model: Any model with a PLM, adapters included, or without one.
        learning_rate: For everything except the PLM.
        plm_learning_rate: For the PLM and its LM head, see `plm_parameters`.
        weight_decay: For matrices; biases, norms and embeddings never decay.
        exclude: Parameters to leave out.

    Returns:
        Groups with `params`, `lr` (which overrides the optimizer's default) and `weight_decay`.
    """
    excluded = {id(parameter) for parameter in exclude}
    in_plm = {id(parameter) for parameter in plm_parameters(model).values()}
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in excluded:
            continue
        lr = plm_learning_rate if id(parameter) in in_plm else learning_rate
        # the paper's prompt encoder stacks the biases of all slots into one tensor
        is_matrix = parameter.dim() > 1 and id(parameter) not in embeddings and not name.endswith("bias")
        groups.setdefault((lr, weight_decay if is_matrix else 0.0), []).append(parameter)
    return [{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()]


def with_options(groups: Iterable[dict[str, Any]], given: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Split groups of parameters by the options that other groups give the same parameters.

    Args:
        groups: Groups as `parameter_groups` returns them.
        given: Groups of an optimizer with additional options per parameter, such as GaLore's `rank`. They take
            precedence. Parameters that no group lists are left out.
    """
    options = {id(p): {k: v for k, v in group.items() if k != "params"} for group in given for p in group["params"]}
    split: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        for parameter in group["params"]:
            if (own := options.get(id(parameter))) is not None:
                key = (id(group), *sorted((name, repr(value)) for name, value in own.items()))
                split.setdefault(key, {**group, "params": [], **own})["params"].append(parameter)
    return list(split.values())


def plm_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that `plm_learning_rate` applies to, by name: the PLM's trunk and its LM head."""
    return {
        name: parameter for name, parameter in model.named_parameters() if {"plm", "lm_head"} & set(name.split("."))
    }


def freeze_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Exclude parts of a model from training; the click heads are always trained.

    Args:
        model: Its parameters' `requires_grad` is changed.
        parts: Any of "plm" (with its LM head), "ctr" and "prompt_encoder".

    Raises:
        ValueError: If nothing is left to train.
    """
    for name, parameter in model.named_parameters():
        modules = set(name.split("."))
        if modules & set(parts) or ("plm" in parts and "lm_head" in modules):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"`freeze` must leave something to train, but {sorted(set(parts))} is the whole model.")


def feature_embeddings(model: nn.Module) -> dict[str, Any]:
    """The modules of a model with a table of feature embeddings, by name; those of linear terms among them."""
    return {name: module for name, module in model.named_modules() if is_named(module, "FeatureEmbedding")}


def make_embeddings_sparse(model: nn.Module) -> None:
    """Give all feature embeddings of a model sparse gradients."""
    for module in feature_embeddings(model).values():
        module.table.sparse = True


def sparse_parameters(model: nn.Module) -> list[torch.Tensor]:
    """The parameters of a model whose gradients are sparse."""
    return [m.weight for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.sparse]


class OptimizerWithSparseGroup(torch.optim.Optimizer):
    """A dense optimizer and `torch.optim.SparseAdam` behind the interface of one.

    Args:
        dense: Optimizer of all other groups.
        sparse_group: A group with `params`, whose gradients are sparse, and `lr`.
        betas: Adam's, for the sparse group.
        eps: Adam's, for the sparse group.
        saves_moments: Whether `state_dict` holds the moments of the sparse group. Those of tables that are sharded
            across processes are saved apart, see table_checkpoints.py.
    """

    def __init__(
        self,
        dense: torch.optim.Optimizer,
        sparse_group: dict[str, Any],
        betas: tuple[float, float],
        eps: float,
        saves_moments: bool = True,
    ):
        self.dense = dense
        self.saves_moments = saves_moments
        self.sparse = torch.optim.SparseAdam([sparse_group], betas=betas, eps=eps)
        super().__init__([*dense.param_groups, *self.sparse.param_groups], {})
        # the same dictionaries, so that a schedule of the learning rate reaches both
        self.param_groups = [*dense.param_groups, *self.sparse.param_groups]

    def step(self, closure=None):
        loss = self.dense.step(closure)
        for group in self.sparse.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad = without_zero_rows(parameter.grad)
        self.sparse.step()
        return loss

    def train(self) -> None:
        """Pass on what schedule-free optimizers must know: that steps follow."""
        if hasattr(self.dense, "train"):
            self.dense.train()

    def eval(self) -> None:
        """Pass on what schedule-free optimizers must know: that the weights will be evaluated."""
        if hasattr(self.dense, "eval"):
            self.dense.eval()

    def state_dict(self) -> dict[str, Any]:
        sparse = self.sparse.state_dict()
        if not self.saves_moments:
            states = sparse["state"].items()
            sparse["state"] = {number: {"step": state["step"]} for number, state in states if "step" in state}
        return {"dense": self.dense.state_dict(), "sparse": sparse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.dense.load_state_dict(state_dict["dense"])
        self.sparse.load_state_dict(state_dict["sparse"])
        # loading replaces the groups
        self.param_groups = [*self.dense.param_groups, *self.sparse.param_groups]


def without_zero_rows(gradient: torch.Tensor) -> torch.Tensor:
    """Leave out the rows of a sparse gradient that are zero, such as those that only padded rows read.

    Several processes pad their last batch with rows that no loss counts. Adam would move the rows they read by the
    moments of earlier steps, although a single process would not read them.
    """
    gradient = gradient.coalesce()
    is_moved = gradient.values().flatten(1).any(dim=1)
    return torch.sparse_coo_tensor(
        gradient.indices()[:, is_moved],
        gradient.values()[is_moved],
        gradient.shape,
        is_coalesced=True,
        # torch warns if this is not chosen
        check_invariants=False,
    )


@torch.no_grad()
def clip_grad_norm(
    parameters: Iterable[nn.Parameter], max_norm: float, sharded: Iterable[torch.Tensor] = ()
) -> torch.Tensor:
    """Clip gradients by their total 2-norm, as `torch.nn.utils.clip_grad_norm_` does, including sparse gradients.

    Args:
        parameters: Parameters without a gradient are ignored.
        max_norm: Scale the gradients down to this norm if theirs is larger.
        sharded: Parameters of which each process holds different rows. If there are some, all processes must call this
            function.

    Returns:
        (), the norm before clipping, the same in all processes.
    """
    sharded_ids = {id(parameter) for parameter in sharded}
    gradients: list[torch.Tensor] = []
    gradients_of_rows: list[torch.Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        gradient = parameter.grad
        if gradient.is_sparse:
            # sums the gradients of a row that the batch reads twice
            parameter.grad = gradient = gradient.coalesce()
            gradient = gradient.values()
        (gradients_of_rows if id(parameter) in sharded_ids else gradients).append(gradient)
    norm = torch.nn.utils.get_total_norm(gradients)
    if sharded_ids:
        squared = torch.nn.utils.get_total_norm(gradients_of_rows).to(norm.device).square()
        torch.distributed.all_reduce(squared)
        norm = (norm.square() + squared).sqrt()
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients + gradients_of_rows:
        gradient.mul_(scale)
    return norm
