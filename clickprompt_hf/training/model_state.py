# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What trainers change about a model besides its weights, so that it can be undone.

`Trainer` and accelerate leave their marks on the model that they are given: a second trainer would find the frozen
parts, the mixed precision and the attention kernels of the first one.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

# what accelerate sets on the model for mixed precision, and to prepare it only once
PREPARED = ("forward", "_original_forward", "_is_accelerate_prepared")
_OF_MODULES = (
    # activation checkpointing
    "gradient_checkpointing",
    "_gradient_checkpointing_func",
    # frozen layers below the prompts
    "lower_is_frozen",
    # gradients of embedding tables
    "sparse",
    # noise on embeddings
    "neftune_noise_alpha",
    # `torch.compile` in place
    "_compiled_call_impl",
)
_OF_CONFIGS = ("_attn_implementation_internal", "use_cache")


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo at the end, also after an error, what trainers change about a model besides its weights.

    These are which parameters are trained, activation checkpointing, sparse gradients, attention kernels, compilation,
    and the forward that mixed precision wraps. Whether the model is in training mode stays as it is at the end.
    """
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    configs = {id(config): config for module in model.modules() if (config := vars(module).get("config")) is not None}
    watched: list[tuple[Any, tuple[str, ...]]] = [(module, _OF_MODULES) for module in model.modules()]
    watched += [(config, _OF_CONFIGS) for config in configs.values() if isinstance(config, PreTrainedConfig)]
    watched += [(model, PREPARED)]
    before = [attributes(owner, names) for owner, names in watched]
    try:
        yield
    finally:
        for parameter, requires_grad in trained:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
        for (owner, names), values in zip(watched, before):
            set_attributes(owner, names, values)


@contextmanager
def precision_left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo at the end, also after an error, a cast of the weights, as that of `bf16_full_eval`, which loses digits.

    Their gradients are cast with them. Meanwhile, memory holds both twice.
    """
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    tensors = [(tensor, tensor.data) for tensor in (*parameters, *gradients)]
    buffers = [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    try:
        yield
    finally:
        for tensor, data in tensors:
            tensor.data = data
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


def attributes(owner: Any, names: Iterable[str]) -> dict[str, Any]:
    """The object's own attributes with these names."""
    return {name: vars(owner)[name] for name in names if name in vars(owner)}


def set_attributes(owner: Any, names: Iterable[str], values: dict[str, Any]) -> None:
    """Give an object the named attributes that have a value, and remove the others."""
    for name in names:
        vars(owner).pop(name, None)
    vars(owner).update(values)
