# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with the HuggingFace `Trainer`."""

from ..paths import check_folder_or_hub_id
from ..plugins import import_backbone_module
from .argument_effects import PAMLM_ARGUMENTS, PLM_ARGUMENTS, warn_of_idle_arguments
from .arguments import (
    ClickPromptTrainingArguments,
    ClickReportArguments,
    DataArguments,
    ModelArguments,
    ReportArguments,
)
from .evaluation import (
    IGNORED_IN_TEST,
    CalibrationError,
    ClickIntervals,
    GroupedAUC,
    PairedAUC,
    auc_by_frequency,
    calibration_bins,
    click_report,
    field_column,
    load_baseline_probabilities,
    probabilities_by_model,
    save_test_scores,
    warn_of_other_training_rows,
)
from .metrics import ClickMetric, MaskedTokenMetric, click_metrics, click_probabilities, masked_token_metrics
from .model_setup import fresh_model, load_checkpoint
from .output_dir import check_output_dir, remove_earlier_run
from .plots import save_test_plots, save_training_plots
from .preparation import PreparedData, prepare_data
from .pretraining import fresh_pretraining_model, pretraining_collator
from .trainer import ClickPromptTrainer

__all__ = [
    "IGNORED_IN_TEST",
    "PAMLM_ARGUMENTS",
    "PLM_ARGUMENTS",
    "CalibrationError",
    "ClickIntervals",
    "ClickMetric",
    "ClickPromptTrainer",
    "ClickPromptTrainingArguments",
    "ClickReportArguments",
    "DataArguments",
    "GroupedAUC",
    "MaskedTokenMetric",
    "ModelArguments",
    "PairedAUC",
    "PreparedData",
    "ReportArguments",
    "auc_by_frequency",
    "calibration_bins",
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
    "probabilities_by_model",
    "remove_earlier_run",
    "save_test_plots",
    "save_test_scores",
    "save_training_plots",
    "warn_of_idle_arguments",
    "warn_of_other_training_rows",
]
