# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics that the trainer computes by default: `compute_metrics` functions, from model outputs to named numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from transformers import EvalPrediction


def click_metrics(prediction: EvalPrediction, scale: float = 1.0, shift: float = 0.0) -> dict[str, float]:
    """Compute AUC and log loss for a click model, from logits (N, 1), alone or first in a tuple, and clicks (N,).

    Both may be lists of batches, as with `eval_do_concat_batches=False`.

    Args:
        prediction: Logits and clicks.
        scale: The model's `calibration_scale`.
        shift: The model's `calibration_shift`.
    """
    logits = [_first(outputs) for outputs in _batches(prediction.predictions)]
    clicks = [_array(labels).reshape(-1) for labels in _batches(prediction.label_ids)]
    return auc_and_log_loss(click_probabilities(np.concatenate(logits), scale, shift), np.concatenate(clicks))


def masked_token_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Compute the accuracy of a pretraining model, from its `masked_correct` and `masked_count`, both (N,).

    They may be a list of batches, as with `eval_do_concat_batches=False`.
    """
    batches = [[_array(numbers) for numbers in outputs[:2]] for outputs in _batches(prediction.predictions)]
    correct, count = (np.concatenate(numbers) for numbers in zip(*batches))
    return {"masked_accuracy": masked_accuracy(correct, count)}


class BatchMetrics:
    """Computes metrics of all rows from batches of them: `compute_metrics` for `batch_eval_metrics=True`.

    Args:
        compute: Computes the metrics from lists of batches: `click_metrics` or `masked_token_metrics`.
    """

    def __init__(self, compute: Callable[[EvalPrediction], dict[str, float]]):
        self.compute = compute
        self.restart()

    def restart(self) -> None:
        """Forget the batches of an evaluation that has failed."""
        self.predictions: list[Any] = []
        self.label_ids: list[Any] = []

    def __call__(self, prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Keep a batch; with `compute_result`, return the metrics of all of them."""
        outputs: Any = prediction.predictions
        outputs = tuple(map(_array, outputs)) if isinstance(outputs, tuple) else _array(outputs)
        self.predictions.append(outputs)
        self.label_ids.append(_array(prediction.label_ids))
        if not compute_result:
            return {}
        whole = EvalPrediction(self.predictions, self.label_ids)  # type: ignore[arg-type]
        self.restart()
        return self.compute(whole)


def _batches(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [outputs]


def _first(outputs: Any) -> np.ndarray:
    return _array(outputs[0] if isinstance(outputs, tuple) else outputs)


def _array(numbers: Any) -> np.ndarray:
    return numbers.cpu().double().numpy() if isinstance(numbers, torch.Tensor) else np.asarray(numbers)


def click_probabilities(logits, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Convert logits (N, 1) to click probabilities (N,) in float64, calibrated by `scale` and `shift`."""
    with np.errstate(invalid="ignore"):
        calibrated = scale * np.asarray(logits, dtype=np.float64).reshape(-1) + shift
        return np.exp(-np.logaddexp(0, -calibrated))


def auc_and_log_loss(probabilities, clicks) -> dict[str, float]:
    """Compute `auc`, NaN if all rows are of one class, and `log_loss` in nats.

    Args:
        probabilities: (N,) in [0, 1]; if one is NaN, as of a diverged model, so are both metrics.
        clicks: (N,) 0 or 1.
    """
    clicks = np.asarray(clicks)
    if np.isnan(probabilities).any():
        return {"auc": float("nan"), "log_loss": float("nan")}
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
