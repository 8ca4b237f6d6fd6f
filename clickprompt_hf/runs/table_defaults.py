# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Sizes and training settings that nobody named, for tables without published ones: by their rows."""

from collections.abc import Collection
from typing import Any

from transformers.trainer_utils import IntervalStrategy, SaveStrategy
from transformers.utils import logging

from ..configuration_clickprompt import CTRConfig
from ..presets import TablePreset, preset_backbones, preset_datasets, table_preset
from ..training.arguments import ClickPromptTrainingArguments
from ..training.batch_size import default_batch_size
from .arguments import ModelArguments, config_options
from .preparation import PreparedData

logger = logging.get_logger(__name__)

# Who names one of these has chosen the size of the backbone.
_SIZES = ("embedding_size", "dnn_hidden_sizes", "num_cross_layers")
_EVALUATION = ("eval_strategy", "save_strategy", "eval_steps", "save_steps")
# An evaluation after fewer steps than this says little.
_LEAST_STEPS = 25


def choose_by_rows(
    model_args: ModelArguments,
    data: PreparedData,
    training_args: ClickPromptTrainingArguments | None = None,
    named: Collection[str] = (),
) -> None:
    """Set what nobody named, by the rows of a table without published sizes, and print it.

    Sizes apply to all fresh models, training settings to a backbone alone. Custom backbones, published datasets and
    runs with `--preset` or a size stay as they are.

    Args:
        model_args: The backbone and its sizes, in which missing sizes are set.
        data: The encoded rows.
        training_args: Training arguments, in which settings are set; `None` leaves the training as it is.
        named: Names of the flags that the user gave.
    """
    backbone = model_args.fresh_backbone
    is_published = data.training_data["dataset"] in preset_datasets()
    names_sizes = any(getattr(model_args, name) is not None for name in ("preset", *_SIZES))
    if is_published or names_sizes or backbone not in preset_backbones():
        return
    num_rows, sizes = len(data.splits["train"]), data.processor.field_sizes
    preset = table_preset(num_rows, len(sizes), sum(sizes) - len(sizes))
    if preset is None:
        return
    chosen = _choose_sizes(model_args, preset, backbone)
    if training_args is not None and model_args.plm_name_or_path is None:
        chosen |= _choose_training(training_args, preset, num_rows, named)
    if chosen and (training_args is None or training_args.process_index == 0):
        shown = " ".join(f"--{name} {_shown(value)}" for name, value in chosen.items())
        # A warning, because the default level hides anything less.
        logger.warning(f"Defaults for {preset.reason}: {shown}. Flags that you give win.")


def _choose_sizes(model_args: ModelArguments, preset: TablePreset, backbone: str) -> dict[str, Any]:
    """Set the sizes of the preset that the backbone has and that are not given; return them."""
    options, chosen = config_options(CTRConfig), {}
    with_embeddings = options["embedding_size"].metadata["needs"]["backbone"]
    for name, value in preset.sizes.items():
        has_it = backbone in options[name].metadata["needs"].get("backbone", with_embeddings)
        if has_it and getattr(model_args, name) is None:
            # two embedding tables, each half as wide
            chosen[name] = value // 2 if (name, backbone) == ("embedding_size", "fgcnn") else value
            setattr(model_args, name, chosen[name])
    return chosen


def _choose_training(
    args: ClickPromptTrainingArguments, preset: TablePreset, num_rows: int, named: Collection[str]
) -> dict[str, Any]:
    """Set the training settings of the preset that are not given; return them."""
    chosen = {name: value for name, value in preset.training.items() if name not in named}
    if "max_steps" in named:
        chosen.pop("num_train_epochs", None)
    if not args.load_best_model_at_end:
        # nothing chooses among the epochs
        chosen.pop("early_stopping_patience", None)
        chosen.pop("num_train_epochs", None)
    batch = default_batch_size(num_rows, False) if args.has_default_batch_size else args.per_device_train_batch_size
    step_rows = (batch or 1) * args.gradient_accumulation_steps * args.world_size
    steps = num_rows // step_rows // preset.evaluations_per_epoch
    is_far_enough = preset.evaluations_per_epoch > 1 and steps >= _LEAST_STEPS
    if is_far_enough and args.load_best_model_at_end and not set(_EVALUATION) & set(named):
        chosen |= {"eval_strategy": IntervalStrategy.STEPS, "save_strategy": SaveStrategy.STEPS}
        chosen |= {"eval_steps": steps, "save_steps": steps}
    for name, value in chosen.items():
        setattr(args, name, value)
    return chosen


def _shown(value: Any) -> str:
    """A value as on the command line."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(getattr(value, "value", value))
