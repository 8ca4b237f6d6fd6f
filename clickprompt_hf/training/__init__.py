# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with the HuggingFace `Trainer`."""

from .arguments import ClickPromptTrainingArguments, DataArguments, ModelArguments
from .metrics import ClickMetric, MaskedTokenMetric, click_metrics, masked_token_metrics
from .model_setup import fresh_model, load_checkpoint
from .preparation import PreparedData, check_output_dir, prepare_data
from .trainer import ClickPromptTrainer

__all__ = [
    "ClickMetric",
    "ClickPromptTrainer",
    "ClickPromptTrainingArguments",
    "DataArguments",
    "MaskedTokenMetric",
    "ModelArguments",
    "PreparedData",
    "check_output_dir",
    "click_metrics",
    "fresh_model",
    "load_checkpoint",
    "masked_token_metrics",
    "prepare_data",
]
