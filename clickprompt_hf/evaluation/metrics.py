# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click and PA-MLM metrics as `evaluate` metrics that need no network.

report.py has the metrics of the test report, and says how to add one. training/metrics.py has the functions that these
build on, which `ClickPromptTrainer` uses as well.
"""

import datasets
import evaluate

from ..training.metrics import (
    BatchMetrics,
    auc_and_log_loss,
    click_metrics,
    click_probabilities,
    masked_accuracy,
    masked_token_metrics,
)

__all__ = [
    "BatchMetrics",
    "ClickMetric",
    "MaskedTokenMetric",
    "OfflineMetric",
    "click_metrics",
    "click_probabilities",
    "masked_token_metrics",
]


class OfflineMetric(evaluate.Metric):
    """Base of metrics that need no network and keep their rows in memory.

    Subclasses set `features`, the types of the columns that `compute` takes, and implement `_compute`.
    """

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

    `compute(predictions=..., references=...)`: predictions in [0, 1], references 0 or 1. Returns `auc` (area under the
    ROC curve; 0.5 is chance; NaN if all rows are of one class) and `log_loss` (mean binary cross-entropy in nats).
    """

    features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int8")})

    def _compute(self, predictions, references) -> dict[str, float]:
        return auc_and_log_loss(predictions, references)


class MaskedTokenMetric(OfflineMetric):
    """Share of masked tokens that PA-MLM recovers.

    `compute(predictions=..., references=...)`: recovered and masked tokens per row. Returns `masked_accuracy` in
    [0, 1], NaN if no token was masked.
    """

    features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"masked_accuracy": masked_accuracy(predictions, references)}
