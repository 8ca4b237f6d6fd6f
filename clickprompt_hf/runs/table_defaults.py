# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Sizes and training settings that were not given, by the number of rows, for tables without published ones."""

from collections.abc import Collection
from typing import Any

from transformers.utils import logging

from ..presets import preset_datasets
from ..training.arguments import ClickPromptTrainingArguments
from ..training.batch_size import default_batch_size
from ..training.table_settings import EVALUATION, preset_by_rows, settings_by_rows
from .arguments import ModelArguments
from .preparation import PreparedData

logger = logging.get_logger(__name__)

# Any of these, if given, sets the size of the backbone.
_SIZES = ("embedding_size", "dnn_hidden_sizes", "num_cross_layers")


def choose_by_rows(
    model_args: ModelArguments,
    data: PreparedData,
    alone_args: ClickPromptTrainingArguments | None = None,
    named: Collection[str] = (),
    is_silent: bool = False,
    plm_args: ClickPromptTrainingArguments | None = None,
) -> None:
    """Choose missing sizes and settings by the number of rows of a table without published sizes, and print them.

    Sizes apply to all fresh models, training settings to a backbone alone. Custom backbones, published datasets and
    runs with `--preset` or a size stay as they are.

    Args:
        model_args: The backbone and its sizes, in which missing sizes are set.
        data: The encoded rows.
        alone_args: Arguments of training a model without a PLM, in which settings are set; `None` if none is trained.
        named: Names of the flags that the user gave.
        is_silent: Whether another process prints it.
        plm_args: Arguments of training models with a PLM, which are then evaluated as often as those without, because
            they overfit small tables within an epoch; `None` to leave it.
    """
    backbone = model_args.fresh_backbone
    is_published = data.training_data["dataset"] in preset_datasets()
    names_sizes = any(getattr(model_args, name) is not None for name in ("preset", *_SIZES))
    num_rows = len(data.splits["train"])
    preset = preset_by_rows(backbone, num_rows, data.processor.field_sizes)
    if preset is None or is_published or names_sizes:
        return
    missing = {name: size for name, size in preset.sizes_of(backbone).items() if getattr(model_args, name) is None}
    settings: dict[str, Any] = {}
    if alone_args is not None:
        steps = num_rows // _rows_per_step(alone_args, num_rows, has_plm=False)
        settings = settings_by_rows(preset, steps, alone_args.load_best_model_at_end, named)
    if plm_args is not None:
        steps = num_rows // _rows_per_step(plm_args, num_rows, has_plm=True)
        for name, value in settings_by_rows(preset, steps, plm_args.load_best_model_at_end, named).items():
            if name in EVALUATION:
                setattr(plm_args, name, value)
    for given, chosen in ((model_args, missing), (alone_args, settings)):
        for name, value in chosen.items():
            setattr(given, name, value)
    if (missing or settings) and not is_silent:
        alone = f"; to train without a PLM: {_flags(settings)}" if settings else ""
        # A warning, because the default level hides anything less.
        logger.warning(f"Defaults for {preset.reason}: {_flags(missing)}{alone}. Explicit flags take precedence.")


def _rows_per_step(args: ClickPromptTrainingArguments, num_rows: int, has_plm: bool) -> int:
    """Rows per step of the optimizer, all processes together."""
    batch = default_batch_size(num_rows, has_plm) if args.has_default_batch_size else args.per_device_train_batch_size
    return (batch or 1) * args.gradient_accumulation_steps * args.world_size


def _flags(chosen: dict[str, Any]) -> str:
    return " ".join(f"--{name} {_shown(value)}" for name, value in chosen.items()) or "no sizes"


def _shown(value: Any) -> str:
    """A value as on the command line."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(getattr(value, "value", value))
