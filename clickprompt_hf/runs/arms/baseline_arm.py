# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Arms that are not neural networks."""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ...comparison.baselines import Baseline
from ...training.metrics import auc_and_log_loss
from ..tuning import Space, suggest
from .arm import Arm
from .bench import Bench


class BaselineArm(Arm):
    """An arm that is not a neural network.

    Args:
        name, bench: As in `Arm`.
        make: Makes the baseline from the processor and the seed.
        space: Its hyperparameters.
    """

    def __init__(self, name: str, bench: Bench, make: Callable[..., Baseline], space: Space):
        super().__init__(name, bench)
        self.make = make
        self._space = space

    @property
    def space(self) -> Space:
        return self._space

    def _prepare(self, seed: int) -> tuple[Baseline, Any, tuple[Any, np.ndarray]]:
        """A baseline, and the features of the training and, with their clicks, of the validation rows."""
        bench = self.bench
        baseline = self.make(bench.processor_without_text, seed)
        features = baseline.fit_features(bench.tables["train"], bench.clicks["train"])
        return baseline, features, (baseline.features(bench.tables["validation"]), bench.clicks["validation"])

    @cached_property
    def _prepared(self) -> tuple[Baseline, Any, tuple[Any, np.ndarray]]:
        """What `_prepare` returns, shared by all trials."""
        return self._prepare(self.bench.training_args.seed)

    def run_trial(self, **study: Any) -> None:
        import optuna

        baseline, features, validation = self._prepared
        metric = self.bench.metric

        def objective(trial: Any) -> float:
            baseline.fit(features, self.bench.clicks["train"], validation, metric, **suggest(self.space, trial))
            return auc_and_log_loss(baseline.predict_features(validation[0]), validation[1])[metric]

        optuna.create_study(**study).optimize(objective, n_trials=1)

    def train(self, hyperparameters, seed):
        self.__dict__.pop("_prepared", None)
        bench, start = self.bench, time.perf_counter()
        baseline, features, validation = self._prepare(seed)
        baseline.fit(features, bench.clicks["train"], validation, bench.metric, **hyperparameters)
        baseline.calibrate(*validation)
        seconds = time.perf_counter() - start
        return self._run_of(
            seed, baseline.predict, seconds, baseline.megabytes, {**hyperparameters, **baseline.chosen}
        )
