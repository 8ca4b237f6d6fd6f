# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What sharded training (FSDP) cannot do with our models, told before it begins."""

import warnings
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from transformers import Trainer

from ..modeling_clickprompt import ClickPromptPreTrainedModel


def check_sharding(trainer: Trainer, model: torch.nn.Module) -> None:
    """Check that the model can be trained the way accelerate was asked to.

    Raises:
        ValueError: If FSDP2 cannot shard the model.

    Warns:
        UserWarning: If FSDP was asked for, and accelerate trains without it: on CPUs, and with one process.
    """
    if not trainer.is_fsdp_enabled:
        if parse_flag_from_env("ACCELERATE_USE_FSDP") or trainer.args.fsdp:
            warnings.warn(
                "FSDP was asked for, but accelerate uses it with several accelerators only: here, "
                f"{trainer.args.world_size} process(es) on {trainer.args.device.type}, each holds the whole model.",
                stacklevel=3,
            )
        return
    if trainer.accelerator.state.fsdp_plugin.fsdp_version == 1:
        return
    if has_tied_weights(model):
        raise ValueError(
            "`fsdp_version` must be 1 for a model with tied weights, got 2: FSDP2 would shard the LM head and the "
            "embeddings, which are one tensor, as two."
        )
    if isinstance(model, ClickPromptPreTrainedModel) and reads_projections(model):
        raise ValueError(
            "`fsdp_version` must be 1 with `prompt_encoder='paper'`, got 2: this prompt encoder reads the key and "
            "value projections of the PLM's layers outside of the layers' calls, when FSDP2 has sharded them. Other "
            "prompt encoders work."
        )


def has_tied_weights(model: torch.nn.Module) -> bool:
    """Whether two modules share a parameter."""
    return len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))


def reads_projections(model: ClickPromptPreTrainedModel) -> bool:
    """Whether prompts are made with the projections of the PLM's layers."""
    config: Any = model.config
    return config.use_plm and config.prompt_strategy == "layerwise" and config.prompt_encoder == "paper"
