# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Sizes and training settings by the rows of a table, for the commands and the estimator."""

from collections.abc import Collection, Sequence
from typing import Any

from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..presets import TablePreset, preset_backbones, table_preset

# Arguments that say how often models are evaluated.
EVALUATION = {"eval_strategy", "save_strategy", "eval_steps", "save_steps"}
# An evaluation after fewer steps than this says little.
_LEAST_STEPS = 25


def preset_by_rows(backbone: str, num_rows: int, field_sizes: Sequence[int]) -> TablePreset | None:
    """The preset of a backbone for a table, see `table_preset`; `None` for large tables and custom backbones.

    Args:
        backbone: Name of the backbone.
        num_rows: Number of training rows.
        field_sizes: Number of ids per field, each with one for unseen values.
    """
    if backbone not in preset_backbones():
        return None
    return table_preset(num_rows, len(field_sizes), sum(field_sizes) - len(field_sizes))


def settings_by_rows(
    preset: TablePreset, steps_per_epoch: int, keeps_best: bool, named: Collection[str] = ()
) -> dict[str, Any]:
    """Choose the training settings of a preset that were not given, for a backbone alone.

    Args:
        preset: Settings for the table.
        steps_per_epoch: Steps of the optimizer per epoch.
        keeps_best: Whether training keeps the best of several evaluated weights. If not, nothing chooses among the
            epochs, so their number is not the preset's either.
        named: Names of the training arguments that are given.

    Returns:
        Arguments of `ClickPromptTrainingArguments`.
    """
    chosen = {name: value for name, value in preset.training.items() if name not in named}
    if "max_steps" in named or not keeps_best:
        chosen.pop("num_train_epochs", None)
    if not keeps_best:
        chosen.pop("early_stopping_patience", None)
    steps = steps_per_epoch // preset.evaluations_per_epoch
    is_far_enough = preset.evaluations_per_epoch > 1 and steps >= _LEAST_STEPS
    if is_far_enough and keeps_best and not EVALUATION & set(named):
        chosen |= {"eval_strategy": IntervalStrategy.STEPS, "save_strategy": SaveStrategy.STEPS}
        chosen |= {"eval_steps": steps, "save_steps": steps}
    return chosen
