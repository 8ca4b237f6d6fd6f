# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Calibration of click probabilities on validation rows: scale and shift of the logit.

The weights with the best validation AUC are often overconfident: after a few epochs on a small table, log loss gets
worse while AUC still improves. Scale and shift (Platt 1999) fix that without changing the order of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer
from transformers.utils import logging

from .processes import broadcast_from_first
from .unwrapping import unwrap_model

logger = logging.get_logger(__name__)

# With fewer rows of a class than this, two parameters cannot be fitted reliably.
LEAST_ROWS_PER_CLASS = 50
_SCALES = (1e-3, 1e3)
_SEED = 0


@dataclass(frozen=True)
class Calibration:
    """Scale and shift of a click logit.

    Args:
        scale: Factor above 0.
        shift: Added to the scaled logit.
    """

    scale: float = 1.0
    shift: float = 0.0

    def losses(self, logits: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        """Log loss of each row, (N,), from logits and clicks (N,)."""
        calibrated = self.scale * logits + self.shift
        return np.logaddexp(0, np.where(clicks == 1, -calibrated, calibrated))


def calibration_of(model: nn.Module) -> tuple[float, float]:
    """Return `calibration_scale` and `calibration_shift` of a model, (1, 0) if it has none."""
    config = unwrap_model(model).config
    # models loaded with the code of an older checkpoint, and models that are not ours, have none
    return getattr(config, "calibration_scale", 1.0), getattr(config, "calibration_shift", 0.0)


def reset_calibration(model: nn.Module) -> None:
    """Remove the calibration of a model whose weights will change."""
    if calibration_of(model) != (1, 0):
        unwrap_model(model).config.reset_calibration()


def fit_calibration(logits: np.ndarray, clicks: np.ndarray) -> Calibration:
    """Fit scale and shift, or the scale alone, if that improves the log loss of held-out rows.

    Rows are split into two halves, each with half of each class. Each candidate is fitted to each half and evaluated
    on the other. The one with the lower mean log loss is then fitted to all rows, if it improves on the uncalibrated
    logits by at least one standard error of the rows' differences. Otherwise nothing changes.

    Args:
        logits: (N,) finite click logits of rows that the model was not trained on.
        clicks: (N,) 0 or 1. Fewer than `LEAST_ROWS_PER_CLASS` of either class change nothing.
    """
    logits, clicks = np.asarray(logits, dtype=np.float64), np.asarray(clicks)
    if min((clicks == 1).sum(), (clicks == 0).sum()) < LEAST_ROWS_PER_CLASS:
        return Calibration()
    halves = _halves(clicks)
    as_it_is = Calibration().losses(logits, clicks)
    best, least = Calibration(), np.inf
    for with_shift in (False, True):
        losses = np.empty_like(as_it_is)
        for fitted, judged in (halves, halves[::-1]):
            found = _fit(logits[fitted], clicks[fitted], with_shift)
            losses[judged] = found.losses(logits[judged], clicks[judged])
        gains = as_it_is - losses
        if losses.mean() < least and gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)):
            best, least = _fit(logits, clicks, with_shift), losses.mean()
    return best


def _halves(clicks: np.ndarray) -> list[np.ndarray]:
    """Two halves of the rows, as row numbers, each with half of each class; always the same ones."""
    draw = np.random.default_rng(_SEED)
    parts = [np.array_split(draw.permutation(np.flatnonzero(clicks == click)), 2) for click in (0, 1)]
    return [np.concatenate(half) for half in zip(*parts)]


def _fit(logits: np.ndarray, clicks: np.ndarray, with_shift: bool) -> Calibration:
    """Minimize the log loss over the scale, and the shift.

    The targets are Platt's, (n + 1) / (n + 2) for the n clicks, so that separable classes have a finite scale.
    """
    num_clicks = (clicks == 1).sum()
    targets = np.where(clicks == 1, (num_clicks + 1) / (num_clicks + 2), 1 / (len(clicks) - num_clicks + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = np.exp(parameters[0]), parameters[1] if with_shift else 0.0
        calibrated = scale * logits + shift
        slopes = expit(calibrated) - targets
        gradient = [(slopes * logits).mean() * scale, slopes.mean()]
        return float(np.mean(np.logaddexp(0, calibrated) - targets * calibrated)), np.array(
            gradient[: len(parameters)]
        )

    bounds: list[Any] = [np.log(_SCALES), (None, None)]
    start = np.zeros(1 + with_shift)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds[: len(start)]).x
    return Calibration(float(np.exp(found[0])), float(found[1]) if with_shift else 0.0)


def calibrate(trainer: Trainer, validation: Dataset) -> dict[str, float]:
    """Fit the calibration of a trained click model and set it in the model's configuration.

    Call it in every process, after training has loaded the weights that it keeps.

    Args:
        trainer: Trainer of the model.
        validation: Rows with labels that the model was not trained on.

    Returns:
        `calibration_scale`, `calibration_shift`, and the log loss of the validation rows before and after, as
        `validation_log_loss_uncalibrated` and `validation_log_loss`. The latter is that of the rows it was fitted to.
    """
    model: Any = trainer.model
    reset_calibration(model)
    prediction = trainer.predict(validation, ignore_keys=["ctr_logits", "text_logits", "prompts"])
    outputs: Any = prediction.predictions
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs, dtype=np.float64).reshape(-1)
    clicks = np.asarray(prediction.label_ids).reshape(-1)
    # -100 excludes a row
    logits, clicks = logits[clicks >= 0], clicks[clicks >= 0]
    found = fit_calibration(logits, clicks) if np.isfinite(logits).all() else Calibration()
    # the gathered rows are the same in all processes; sums in another order must not make two models
    found = broadcast_from_first(found)
    config = unwrap_model(model).config
    config.calibration_scale, config.calibration_shift = found.scale, found.shift
    return {
        "calibration_scale": found.scale,
        "calibration_shift": found.shift,
        "validation_log_loss_uncalibrated": float(Calibration().losses(logits, clicks).mean()),
        "validation_log_loss": float(found.losses(logits, clicks).mean()),
    }


def constant_log_loss(train_clicks: np.ndarray, clicks: np.ndarray) -> float:
    """Log loss of rows with clicks (M,) if all have the click rate of the training rows (N,)."""
    rate, share = np.mean(train_clicks), np.mean(clicks)
    return float(-(xlogy(share, rate) + xlogy(1 - share, 1 - rate)))


def warn_of_worse_than_constant(trainer: Trainer, validation: Any, metrics: Mapping[str, float]) -> None:
    """Warn if the best weights have a higher validation log loss than always predicting the training click rate.

    Args:
        trainer: Trainer of the model, with its training rows.
        validation: Validation rows with `labels` (N,).
        metrics: Result of `calibrate`; without it, the evaluation of the best weights is used, if there was one.
    """
    loss = metrics.get("validation_log_loss")
    if loss is None:
        step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else trainer.state.global_step
        logged = [entry for entry in trainer.state.log_history if entry["step"] == step]
        loss = next((entry["eval_log_loss"] for entry in logged if "eval_log_loss" in entry), None)
    rows: Any = trainer.train_dataset
    constant = constant_log_loss(np.asarray(rows.labels), np.asarray(validation.labels))
    if loss is not None and not loss <= constant and trainer.is_world_process_zero():
        logger.warning(
            f"The best weights have a validation log loss of {loss:.4f}, worse than always predicting the click rate "
            f"({constant:.4f}). The ranking may still be useful; the probabilities are not. Train for fewer epochs, "
            "with dropout or a smaller model, and do not set `calibrate=False`."
        )
