# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of click prediction and of PA-MLM, as `evaluate` metrics that need no network."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import log_loss, roc_auc_score
from transformers import EvalPrediction


class OfflineMetric(evaluate.Metric):
    """An `evaluate.Metric` that needs no network and keeps its rows in memory; subclasses set `features`."""

    features: datasets.Features

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        description = type(self).__doc__ or ""
        return evaluate.MetricInfo(
            description=description, citation="", inputs_description=description, features=self.features
        )


class ClickMetric(OfflineMetric):
    """AUC and log loss of click probabilities.

    `compute(predictions=..., references=...)`: predictions in [0, 1], references 0 or 1. Gives `auc` (area under the
    ROC curve; 0.5 is chance; NaN where only one class occurs) and `log_loss` (mean binary cross-entropy in nats).
    """

    features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int8")})

    def _compute(self, predictions, references) -> dict[str, float]:
        clicks = np.asarray(references)
        one_class = clicks.min() == clicks.max()
        return {
            "auc": float("nan") if one_class else float(roc_auc_score(clicks, predictions)),
            "log_loss": float(log_loss(clicks, predictions, labels=[0, 1])),
        }


class MaskedTokenMetric(OfflineMetric):
    """Share of masked tokens that PA-MLM recovers.

    `compute(predictions=..., references=...)`: per row, the number of masked tokens recovered and the number masked.
    Gives `masked_accuracy` in [0, 1], NaN where nothing was masked.
    """

    features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})

    def _compute(self, predictions, references) -> dict[str, float]:
        masked = np.sum(references)
        return {"masked_accuracy": float(np.sum(predictions) / masked) if masked else float("nan")}


def click_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """`compute_metrics` for ClickPromptForCTR: logits (N, 1), alone or first, and clicks (N,) to AUC and log loss."""
    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    return ClickMetric().compute(
        predictions=click_probabilities(logits),
        references=np.asarray(prediction.label_ids).reshape(-1),
    )


def click_probabilities(logits) -> np.ndarray:
    """Logits (N, 1) to probabilities (N,), in float64."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, dtype=np.float64).reshape(-1)))


def masked_token_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """`compute_metrics` for ClickPromptForPAMLM: `masked_correct` and `masked_count`, both (N,), to the accuracy."""
    correct, count = np.asarray(prediction.predictions)
    return MaskedTokenMetric().compute(predictions=correct, references=count)
