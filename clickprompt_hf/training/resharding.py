# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints resumed by a different set of processes than the one that wrote them, with FSDP2 or without it.

FSDP2 saves shards of weights and of the optimizer's states by parameter name; any number of processes reads them. One
process and DDP save whole tensors, and number the states in the order of the optimizer's groups, which stays the same.
"""

import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.constants import FSDP_MODEL_NAME
from accelerate.utils.constants import OPTIMIZER_NAME as OPTIMIZER_SHARDS_NAME
from safetensors.torch import load_file
from torch.distributed import checkpoint as sharded
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.trainer import OPTIMIZER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

_MODEL_SHARDS, _OPTIMIZER_SHARDS = f"{FSDP_MODEL_NAME}_0", f"{OPTIMIZER_SHARDS_NAME}_0"


def needs_resharding(checkpoint: str | Path, by_fsdp2: bool) -> bool:
    """Whether a checkpoint was saved in shards but processes hold whole models, or the reverse.

    Args:
        checkpoint: Folder of the checkpoint.
        by_fsdp2: Whether FSDP2 shards the model that resumes.
    """
    folder = Path(checkpoint)
    if by_fsdp2:
        return (folder / SAFE_WEIGHTS_NAME).is_file() and (folder / OPTIMIZER_NAME).is_file()
    return (folder / _MODEL_SHARDS).is_dir() and (folder / _OPTIMIZER_SHARDS).is_dir()


def load_weights(model: torch.nn.Module, checkpoint: str | Path) -> None:
    """Load the weights of a checkpoint of the other kind.

    Args:
        model: Sharded by FSDP2, or whole.
        checkpoint: Folder of the checkpoint.

    Raises:
        ValueError: If the checkpoint of a model that is sharded has other weights.
    """
    if _is_sharded(model):
        path = Path(checkpoint) / SAFE_WEIGHTS_NAME
        whole: dict[str, Any] = {**load_file(path)}
        _check_names(model, whole, path)
        # tied weights are stored under one of their names
        set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True, strict=False))
        return
    weights: dict[str, Any] = {"model": get_model_state_dict(model)}
    _read_shards(weights, Path(checkpoint) / _MODEL_SHARDS)
    set_model_state_dict(model, weights["model"])


def load_optimizer(optimizer: torch.optim.Optimizer, model: torch.nn.Module, checkpoint: str | Path) -> None:
    """Load the optimizer's states of a checkpoint of the other kind.

    Args:
        optimizer: That of the model, with the groups that it had when the checkpoint was saved.
        model: Sharded by FSDP2, or whole.
        checkpoint: Folder of the checkpoint.
    """
    if not _is_sharded(model):
        states: dict[str, Any] = {"optimizer": get_optimizer_state_dict(model, optimizer)}
        _read_shards(states, Path(checkpoint) / _OPTIMIZER_SHARDS)
        set_optimizer_state_dict(model, optimizer, states["optimizer"])
        return
    saved = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        state = saved["state"].get(number, {})
        state.update({name: _like(value, parameter) for name, value in state.items()})
    optimizer.load_state_dict(saved)


def _check_names(model: torch.nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that are not those of the model, except further names of tied ones and what is never saved."""
    wanted = set(get_model_state_dict(model))
    names_by_parameter = defaultdict(set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_by_parameter[id(parameter)].add(name)
    tied = {name for names in names_by_parameter.values() if names & weights.keys() for name in names}
    missing = wanted - weights.keys() - tied - set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    unexpected = weights.keys() - wanted
    if missing or unexpected:
        raise ValueError(
            f"{path} must have the weights of the model being resumed: missing {_shown(missing)}, unexpected "
            f"{_shown(unexpected)}."
        )


def _shown(names: Collection[str]) -> str:
    """Some names of many."""
    first = sorted(names)[:3]
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else str(first)


def _read_shards(tensors: dict[str, Any], folder: Path) -> None:
    """Fill tensors with those of the same names; each process reads by itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        sharded.load(tensors, storage_reader=sharded.FileSystemReader(folder), no_dist=True)


def _is_sharded(model: torch.nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _like(value: Any, parameter: torch.Tensor) -> Any:
    """Shard a whole tensor as a parameter of its shape is sharded; other values, such as steps, stay whole."""
    if isinstance(value, torch.Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape:
        device = parameter.device_mesh.device_type
        return distribute_tensor(value.to(device), parameter.device_mesh, parameter.placements)
    return value
