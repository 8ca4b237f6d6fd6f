# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics that the trainer computes by default: `compute_metrics` functions, from model outputs to named numbers."""

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from transformers import EvalPrediction


def click_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Compute AUC and log loss for a click model, from logits (N, 1), alone or first in a tuple, and clicks (N,)."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return auc_and_log_loss(click_probabilities(logits), np.asarray(prediction.label_ids).reshape(-1))


def masked_token_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Compute the accuracy of a pretraining model, from its `masked_correct` and `masked_count`, both (N,)."""
    correct, count = np.asarray(prediction.predictions)
    return {"masked_accuracy": masked_accuracy(correct, count)}


def click_probabilities(logits) -> np.ndarray:
    """Convert logits (N, 1) to click probabilities (N,) in float64."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, dtype=np.float64).reshape(-1)))


def auc_and_log_loss(probabilities, clicks) -> dict[str, float]:
    """Compute `auc`, NaN if all rows are of one class, and `log_loss` in nats.

    Args:
        probabilities: (N,) in [0, 1].
        clicks: (N,) 0 or 1.
    """
    clicks = np.asarray(clicks)
    one_class = clicks.min() == clicks.max()
    return {
        "auc": float("nan") if one_class else float(roc_auc_score(clicks, probabilities)),
        "log_loss": float(log_loss(clicks, probabilities, labels=[0, 1])),
    }


def masked_accuracy(correct, count) -> float:
    """Compute the share of masked tokens that were recovered, NaN if none was masked.

    Args:
        correct: (N,) recovered tokens per row.
        count: (N,) masked tokens per row.
    """
    masked = np.sum(count)
    return float(np.sum(correct) / masked) if masked else float("nan")
