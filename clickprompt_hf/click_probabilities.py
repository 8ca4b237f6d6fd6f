# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Turns click logits into probabilities, and saves the calibration with adapters, which have no `config.json`."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers.utils import cached_file

from .configuration_clickprompt import ClickPromptConfig, CTRConfig

# Stands in for `config.json`: with one, transformers would take an adapter's folder for a whole model.
CLICK_PROBABILITIES_FILE = "click_probabilities.json"
# The options of ClickPromptConfig that turn logits into probabilities, with their defaults.
_OPTIONS = {"calibration_scale": 1.0, "calibration_shift": 0.0, "negative_sampling_rate": 1.0}


def corrected_probabilities(logits: torch.Tensor, config: ClickPromptConfig) -> torch.Tensor:
    r"""Convert click logits to P(click): calibrated, and corrected for the sampling of rows without a click.

    \\(\sigma(s z + t + \log r)\\), with the config's `calibration_scale` s, `calibration_shift` t (Platt 1999,
    "Probabilistic Outputs for Support Vector Machines") and `negative_sampling_rate` r. For \\(p = \sigma(s z + t)\\)
    this is \\(p / (p + (1 - p) / r)\\) (He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook",
    6.3). The order of rows does not change. Everything that scores rows calls this function, once.

    Args:
        logits: Any shape, before the sigmoid, as the models return them.
        config: Configuration of the model that returned them.

    Returns:
        Probabilities in float32, shaped like `logits`.
    """
    scale, shift, rate = _options_of(config).values()
    return torch.sigmoid(logits.float() * scale + (shift + math.log(rate)))


def _options_of(config: ClickPromptConfig) -> dict[str, float]:
    # configurations with the code of older checkpoints lack some options
    return {name: getattr(config, name, default) for name, default in _OPTIONS.items()}


def save_click_probabilities(config: ClickPromptConfig, path: str | Path) -> None:
    """Write how a model's logits become probabilities, for a folder with its adapter but without a configuration."""
    Path(path).write_text(json.dumps(_options_of(config), indent=2) + "\n", encoding="utf-8")


def load_click_probabilities(config: ClickPromptConfig, name_or_path: str | Path, **hub_arguments: Any) -> None:
    """Load what `save_click_probabilities` saved with an adapter into a model's configuration, if it exists.

    Args:
        config: Changed in place.
        name_or_path: Folder or Hub id of the adapter.
        hub_arguments: Where to load from, as in `from_pretrained`.

    Raises:
        ValueError: If the file is damaged, or an option is out of its range.
    """
    path = cached_file(
        name_or_path, CLICK_PROBABILITIES_FILE, _raise_exceptions_for_missing_entries=False, **hub_arguments
    )
    if path is None:
        # saved by PEFT itself, or by an earlier version
        return
    try:
        options = json.loads(Path(path).read_text(encoding="utf-8"))
        named = {name: options[name] for name in _OPTIONS}
        # a configuration checks its options
        checked = ClickPromptConfig(ctr_config=CTRConfig(), fusion="ctr", **named)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold {[*_OPTIONS]} as they were saved: {error}.") from error
    for name in _OPTIONS:
        setattr(config, name, getattr(checked, name))
