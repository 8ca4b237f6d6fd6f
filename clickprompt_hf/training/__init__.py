# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with the HuggingFace `Trainer`."""

from .argument_effects import PAMLM_ARGUMENTS, PLM_ARGUMENTS, warn_of_idle_arguments
from .arguments import ClickPromptTrainingArguments, DataArguments, ModelArguments, ReportArguments
from .custom_backbone import import_backbone_module
from .evaluation import (
    CalibrationError,
    GroupedAUC,
    PairedAUC,
    click_report,
    field_column,
    load_baseline_probabilities,
    save_test_scores,
)
from .metrics import ClickMetric, MaskedTokenMetric, click_metrics, click_probabilities, masked_token_metrics
from .model_setup import fresh_model, load_checkpoint
from .output_dir import check_output_dir, remove_earlier_run
from .paths import check_folder_or_hub_id
from .preparation import PreparedData, prepare_data
from .pretraining import fresh_pretraining_model, pretraining_collator
from .trainer import ClickPromptTrainer

__all__ = [
    "PAMLM_ARGUMENTS",
    "PLM_ARGUMENTS",
    "CalibrationError",
    "ClickMetric",
    "ClickPromptTrainer",
    "ClickPromptTrainingArguments",
    "DataArguments",
    "GroupedAUC",
    "MaskedTokenMetric",
    "ModelArguments",
    "PairedAUC",
    "PreparedData",
    "ReportArguments",
    "check_folder_or_hub_id",
    "check_output_dir",
    "click_metrics",
    "click_probabilities",
    "click_report",
    "field_column",
    "fresh_model",
    "fresh_pretraining_model",
    "import_backbone_module",
    "load_baseline_probabilities",
    "load_checkpoint",
    "masked_token_metrics",
    "prepare_data",
    "pretraining_collator",
    "remove_earlier_run",
    "save_test_scores",
    "warn_of_idle_arguments",
]
