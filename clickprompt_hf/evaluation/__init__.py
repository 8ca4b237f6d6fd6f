# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluation of click models: metrics, test report, plots and model card."""

from .importance import permutation_importance
from .metrics import (
    BatchMetrics,
    ClickMetric,
    MaskedTokenMetric,
    click_metrics,
    click_probabilities,
    masked_token_metrics,
)
from .model_card import run_card
from .report import (
    CalibrationError,
    ClickIntervals,
    GroupedAUC,
    PairedAUC,
    auc_by_frequency,
    calibration_bins,
    click_report,
)

__all__ = [
    "BatchMetrics",
    "CalibrationError",
    "ClickIntervals",
    "ClickMetric",
    "GroupedAUC",
    "MaskedTokenMetric",
    "PairedAUC",
    "auc_by_frequency",
    "calibration_bins",
    "click_metrics",
    "click_probabilities",
    "click_report",
    "masked_token_metrics",
    "permutation_importance",
    "run_card",
]
