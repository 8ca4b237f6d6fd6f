# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The steps of every arm: tune with the first seed, then train, score and measure with each."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...comparison.results import SEEDLESS_ARMS, ArmRun, load_run, save_run
from ...comparison.speed import fastest_of_repeats
from ...evaluation.importance import permutation_importance
from ...training.metrics import auc_and_log_loss
from ...whole_files import whole_file
from ..tuning import Space, Trial, tune
from .bench import Bench
from .importance import MOST_ROWS, PERMUTATIONS, importance_rows

# Rows scored at a time, which bounds the memory that scoring takes.
_PIECE_ROWS = 65_536


class Arm:
    """One arm: `run` tunes it with the first seed and trains it with each.

    Args:
        name: One of `ARMS`.
        bench: What all arms share.
    """

    uses_plm_at_serving = False
    with_plm = False
    starts_from_pamlm = False

    def __init__(self, name: str, bench: Bench):
        self.name, self.bench = name, bench

    @property
    def folder(self) -> Path:
        """The folder of the arm's files."""
        return self.bench.arm_folder(self.name)

    @property
    def seeds(self) -> list[int]:
        return self.bench.seeds[:1] if self.name in SEEDLESS_ARMS else self.bench.seeds

    def run(self) -> None:
        """Tune and train with each seed, except what is finished."""
        if missing := self.missing_seeds:
            best = self.tuned()
            for seed in missing:
                self.train_and_save(best, seed)

    def runs(self) -> list[ArmRun]:
        """The finished runs, one per seed."""
        return [load_run(self._path(seed)) for seed in self.seeds]

    @property
    def missing_seeds(self) -> list[int]:
        """Seeds that are not trained yet."""
        return [seed for seed in self.seeds if not self._path(seed).is_file()]

    def train_and_save(self, hyperparameters: dict[str, Any], seed: int) -> None:
        """Train with the final hyperparameters, score the validation and test rows, and keep the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run = self.train(hyperparameters, seed)
        save_run(run, self._path(seed))
        test = auc_and_log_loss(run.probabilities, self.bench.clicks["test"])
        self.bench.say(
            f"{self.name}, seed {seed}: test AUC {test['auc']:.4f}, log loss {test['log_loss']:.4f}; trained in "
            f"{run.train_seconds:,.0f} s"
        )
        gc.collect()

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.npz"

    def tuned(self) -> dict[str, Any]:
        """The best hyperparameters of the trials."""
        bench = self.bench
        return tune(
            *(self.space, self.run_trial, bench.num_trials, bench.metric == "auc", bench.training_args.seed),
            self.folder / "trials",
            self._report,
        )

    def _report(self, number: int, trial: Trial) -> None:
        value = "diverged" if trial.value is None else f"validation {self.bench.metric} {trial.value:.4f}"
        self.bench.say(f"{self.name}, trial {number} of {self.bench.num_trials}: {value}; {trial.seconds:,.0f} s")

    @property
    def space(self) -> Space:
        """The hyperparameters that tuning chooses, with their defaults."""
        return {}

    def run_trial(self, **study: Any) -> None:
        """Run one trial of the Optuna study that `optuna.create_study(**study)` returns."""
        raise NotImplementedError

    def train(self, hyperparameters: dict[str, Any], seed: int) -> ArmRun:
        """Train with the final hyperparameters and score the validation and test rows."""
        raise NotImplementedError

    def _run_of(
        self,
        seed: int,
        score: Callable[[pa.Table], np.ndarray],
        train_seconds: float,
        megabytes: float,
        hyperparameters: dict[str, Any],
        score_permuted: Callable[[pa.Table], np.ndarray] | None = None,
    ) -> ArmRun:
        tables, clicks = self.bench.tables, self.bench.clicks
        validation = auc_and_log_loss(scored(score, tables["validation"]), clicks["validation"])
        probabilities, seconds = fastest_of_repeats(lambda: scored(score, tables["test"]), self._forget_texts)
        if seed == self.seeds[0]:
            self._save_importance(score_permuted or score, seed)
        return ArmRun(
            arm=self.name,
            seed=seed,
            probabilities=probabilities,
            validation_auc=validation["auc"],
            validation_log_loss=validation["log_loss"],
            train_seconds=train_seconds,
            rows_per_second=len(probabilities) / seconds,
            megabytes=megabytes,
            hyperparameters=hyperparameters,
            uses_plm_at_serving=self.uses_plm_at_serving,
        )

    def _forget_texts(self) -> None:
        """Drop what scoring has kept for texts, so it does not speed up scoring them again."""

    def _save_importance(self, score: Callable[[pa.Table], np.ndarray], seed: int) -> None:
        """Measure how much of the test AUC rests on each field."""
        if self.name in ("constant", "best_column"):
            return
        of_test = self.bench.clicks["test"]
        chosen = np.unique(np.linspace(0, len(of_test) - 1, importance_rows(self.bench)).astype(np.int64))
        clicks = of_test[chosen]
        if len({*clicks.tolist()}) < 2:
            return
        if self.uses_plm_at_serving:
            # a PLM may read permuted texts for minutes
            self.bench.say(f"{self.name}: measuring how much each field matters on {len(chosen):,} test rows.")
        drops = permutation_importance(
            score,
            self.bench.tables["test"].take(pa.array(chosen)),
            clicks,
            self.bench.data.processor.schema.fields,
            seed,
            PERMUTATIONS,
        )
        measured = {"rows": len(chosen), "drops": drops}
        with whole_file(self.folder / "importance.json") as partial:
            partial.write_text(json.dumps(measured, indent=2, ensure_ascii=False), encoding="utf-8")

    def importance(self) -> tuple[int, dict[str, float]] | None:
        """Number of test rows, and the drop of their AUC by field, for the first seed; `None` if not measured."""
        path = self.folder / "importance.json"
        if not path.is_file():
            return None
        measured = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(measured.get("drops"), dict):
            # of earlier versions
            return min(MOST_ROWS, len(self.bench.clicks["test"])), measured
        return measured["rows"], measured["drops"]


def scored(score: Callable[[pa.Table], np.ndarray], table: pa.Table) -> np.ndarray:
    """Click probabilities of raw rows, (N,), piece by piece."""
    pieces = [table.slice(start, _PIECE_ROWS) for start in range(0, len(table), _PIECE_ROWS)]
    return np.concatenate([score(piece) for piece in pieces])
