# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Sharded training with FSDP: which modules become units of FSDP2, and what is refused before training begins.

FSDP2 gathers the weights of a unit when the unit runs and frees them afterwards. Between its runs, each process holds
a shard of them. The unit of the whole model is gathered from the first layer to the end of the backward pass.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import parse_flag_from_env
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy, transformer_auto_wrap_policy
from transformers import Trainer, TrainingArguments

from ..prompt_injection import checkpointing_layers, projection_modules
from ..warnings_clickprompt import warn_at_caller
from .unwrapping import is_named, unwrap_model


def engine_of_sharding(args: TrainingArguments) -> str | None:
    """The engine that was asked to shard all weights across the devices, "FSDP" or "DeepSpeed"; `None` without one."""
    if args.fsdp or parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return "FSDP"
    return "DeepSpeed" if args.deepspeed or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED") else None


def check_sharding(trainer: Trainer, model: torch.nn.Module) -> None:
    """Check that the model can be trained the way accelerate was asked to.

    Raises:
        ValueError: If FSDP2 cannot shard the model as configured.

    Warns:
        UserWarning: If accelerate trains without the FSDP or DeepSpeed that was asked for: on CPUs, or in one process.
    """
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED") and not trainer.is_deepspeed_enabled:
        warn_at_caller(
            "DeepSpeed was requested, but accelerate does not use it with `use_cpu`: each of "
            f"{trainer.args.world_size} process(es) holds the full model."
        )
    if not trainer.is_fsdp_enabled:
        if parse_flag_from_env("ACCELERATE_USE_FSDP") or trainer.args.fsdp:
            warn_at_caller(
                "FSDP was requested, but accelerate only uses it with several accelerators: here, each of "
                f"{trainer.args.world_size} process(es) on {trainer.args.device.type} holds the full model."
            )
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    if plugin.fsdp_version == 1:
        return
    if plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "`fsdp_cpu_ram_efficient_loading` must be false with FSDP2, got true: every process needs the full "
            "weights to keep its shard."
        )
    if plugin.activation_checkpointing:
        raise ValueError(
            "`fsdp_activation_checkpointing` must be false, got true: it would draw different dropout masks when "
            "it recomputes a layer. Use `gradient_checkpointing`."
        )
    if plugin.auto_wrap_policy is size_based_auto_wrap_policy and has_tied_weights(model):
        raise ValueError(
            "`fsdp_auto_wrap_policy` must be TRANSFORMER_BASED_WRAP or NO_WRAP with FSDP2 for a model with tied "
            "weights, got SIZE_BASED_WRAP: the weights must be in one unit."
        )
    if named := sorted({*(plugin.transformer_cls_names_to_wrap or ())} & classes_with_shared_weights(model)):
        raise ValueError(
            f"`fsdp_transformer_layer_cls_to_wrap` must not name {', '.join(named)}, which shares weights with "
            "modules of other classes. Leave it out for the default."
        )


@contextmanager
def units_of_fsdp2(accelerator: Accelerator, model: Any) -> Iterator[None]:
    """Choose the units of FSDP2 while accelerate prepares a model; without FSDP2, do nothing.

    By default, these are the PLM's layers and embeddings, the backbone, the prompt encoder and the click head. They
    differ from those that accelerate would choose in two points:

    - Tied weights must be in one unit, and the tied modules run first and last: they are in that of the whole model.
    - The paper's prompt encoder calls projections of the PLM's layers on its own: each one is a unit.

    Args:
        accelerator: It prepares the model.
        model: The model, with adapters or without.
    """
    if not accelerator.is_fsdp2 or isinstance(model, FSDPModule):
        yield
        return
    plugin: Any = accelerator.state.fsdp_plugin
    for module in projections_read_by_prompts(model):
        fully_shard(
            module,
            mesh=_mesh(accelerator),
            reshard_after_forward=plugin.reshard_after_forward,
            mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
            offload_policy=plugin.cpu_offload,
        )
    chosen = plugin.transformer_cls_names_to_wrap
    if chosen is None and plugin.auto_wrap_policy is transformer_auto_wrap_policy:
        present = {type(module).__name__ for module in model.modules()}
        wanted = present & set(model._no_split_modules)
        plugin.transformer_cls_names_to_wrap = sorted(wanted - classes_with_shared_weights(model))
    # accelerate would make units of what these return, inside of other units or without the LM head's tied bias
    hidden = ("get_input_embeddings", "get_output_embeddings")
    for name in hidden:
        setattr(model, name, _no_module)
    try:
        yield
    finally:
        for name in hidden:
            delattr(model, name)
        plugin.transformer_cls_names_to_wrap = chosen


def _no_module() -> None:
    return None


def _mesh(accelerator: Accelerator) -> Any:
    """The devices that share the weights, if accelerate was told to divide them by purpose."""
    mesh = accelerator.torch_device_mesh if accelerator.parallelism_config else None
    return None if mesh is None else mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)]


def projections_read_by_prompts(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The projections of PLM layers that make prompts of hidden states."""
    inner = unwrap_model(model)
    if not is_named(inner, "ClickPromptPreTrainedModel") or inner.config.prompt_encoder != "paper":
        return []
    injection, plm = inner.trunk.injection, inner.trunk.plm
    if not is_named(injection, "KeyValueInjection"):
        return []
    layers = checkpointing_layers(plm)
    return [module for index in injection.layers for module in projection_modules(layers[index])]


def has_tied_weights(model: torch.nn.Module) -> bool:
    """Whether two modules share a parameter."""
    return len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))


def without_tied_copies(model: torch.nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """Drop the further names of tied weights from gathered weights, where they are copies."""
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    copies = names - {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in weights.items() if name not in copies}


def classes_with_shared_weights(model: torch.nn.Module) -> set[str]:
    """Names of the classes of modules that share a parameter with a module outside of them."""
    uses = _uses([model])
    return {
        type(module).__name__
        for module in model.modules()
        if module is not model and any(count < uses[key] for key, count in _uses([module]).items())
    }


def _uses(modules: Iterable[torch.nn.Module]) -> Counter[int]:
    """How many modules hold each parameter, by its id."""
    return Counter(
        id(parameter) for module in modules for _, parameter in module.named_parameters(remove_duplicate=False)
    )
