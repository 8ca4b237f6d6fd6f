# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What a comparison of arms has measured: the test probabilities and the cost of each arm and seed.

N test rows.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..whole_files import whole_file

# In the order of the report: from the cheapest to the most expensive.
ARMS = {
    "constant": "the click rate of the training rows",
    "best_column": "the click rates of the best single column",
    "logistic_regression": "logistic regression on one-hot ids and TF-IDF of the text",
    "gradient_boosting": "LightGBM on categories and numbers",
    "gradient_boosting_text": "LightGBM, also on the text's TF-IDF and target-encoded ids",
    "backbone": "the CTR model alone",
    "clickprompt_pamlm_without_plm": "the CTR model, started from PA-MLM, served without the PLM",
    "backbone_text_vectors": "the CTR model with the frozen PLM's text vectors as an input",
    "backbone_plm": "the CTR model and the finetuned PLM, without prompts",
    "clickprompt": "ClickPrompt without PA-MLM",
    "clickprompt_pamlm": "ClickPrompt after PA-MLM",
}
# Arms that use a PLM, at training or at serving.
PLM_ARMS = (
    "clickprompt_pamlm_without_plm",
    "backbone_text_vectors",
    "backbone_plm",
    "clickprompt",
    "clickprompt_pamlm",
)
# Arms that a seed does not change, so that one run stands for all seeds.
SEEDLESS_ARMS = ("constant", "best_column", "logistic_regression")
ROLES = ("item", "user")


@dataclass(frozen=True)
class ArmRun:
    """One arm, trained and tested with one seed.

    Args:
        arm: One of `ARMS`.
        seed: Seed of the run.
        probabilities: (N,) click probabilities of the test rows, calibrated, as the served model returns them.
        validation_auc: AUC on the validation rows, in [0, 1]; NaN if unknown.
        validation_log_loss: Log loss on the validation rows, in nats; NaN if unknown.
        train_seconds: Time to train the arm with its final hyperparameters, in seconds.
        rows_per_second: Speed of scoring raw rows.
        megabytes: Size of the served model on disk.
        hyperparameters: JSON values by name.
        uses_plm_at_serving: False for `clickprompt_pamlm_without_plm` and all arms without a PLM.

    Raises:
        ValueError: If the arm is unknown, the probabilities are not (N,) numbers in [0, 1], or a cost is negative.
    """

    arm: str
    seed: int
    probabilities: np.ndarray
    validation_auc: float
    validation_log_loss: float
    train_seconds: float
    rows_per_second: float
    megabytes: float
    hyperparameters: dict[str, Any]
    uses_plm_at_serving: bool

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise ValueError(f"`arm` must be one of {list(ARMS)}, got {self.arm!r}.")
        if self.uses_plm_at_serving and self.arm not in PLM_ARMS:
            raise ValueError(f"`uses_plm_at_serving` must be False for {self.arm}, which has no PLM.")
        scores = np.asarray(self.probabilities, dtype=np.float64)
        if scores.ndim != 1:
            raise ValueError(f"`probabilities` of {self.arm} must have shape (N,), got {scores.shape}.")
        if not np.all((scores >= 0) & (scores <= 1)):
            wrong = scores[~((scores >= 0) & (scores <= 1))][0]
            raise ValueError(f"`probabilities` of {self.arm} (seed {self.seed}) must be in [0, 1], got {wrong}.")
        for name in ("train_seconds", "rows_per_second", "megabytes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` of {self.arm} must be at least 0, got {getattr(self, name)}.")
        object.__setattr__(self, "probabilities", scores)


@dataclass(frozen=True)
class Comparison:
    """All runs of a comparison and the test rows they share.

    Args:
        title: What the table is.
        settings: Split, rows, PLM, budget, precision and the like, for the report.
        labels: (N,) clicks of the test rows, 0 or 1.
        train_counts: (N,) number of training rows with this row's item or user, -1 if the row has none, by role:
            "item", "user"; either may be absent.
        runs: One entry per arm and seed.
        importance: Drop in test AUC if a field is permuted, by arm and field name; `None` if not measured.
        importance_note: On which rows, or why not, for the report.

    Raises:
        ValueError: If sizes differ, labels are not 0 or 1, a role or an arm is unknown, or an arm has a seed twice.
    """

    title: str
    settings: dict[str, Any]
    labels: np.ndarray
    train_counts: dict[str, np.ndarray]
    runs: list[ArmRun]
    importance: dict[str, dict[str, float]] | None = None
    importance_note: str = ""

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or not len(labels) or not np.isin(labels, (0, 1)).all():
            raise ValueError("`labels` must be at least one 0 or 1, of shape (N,).")
        object.__setattr__(self, "labels", labels.astype(np.int8))
        counts = {role: np.asarray(values) for role, values in self.train_counts.items()}
        if unknown := [role for role in counts if role not in ROLES]:
            raise ValueError(f"`train_counts` must have roles of {list(ROLES)}, got {unknown}.")
        for role, values in counts.items():
            if values.shape != labels.shape or not (values >= -1).all():
                raise ValueError(
                    f"`train_counts` must have a number of at least 0, or -1, per test row ({len(labels):,}), got "
                    f"shape {values.shape} for {role!r}."
                )
        object.__setattr__(self, "train_counts", counts)
        seen = set()
        for run in self.runs:
            if run.probabilities.shape != labels.shape:
                raise ValueError(
                    f"`probabilities` must have one entry per test row ({len(labels):,}), got "
                    f"{len(run.probabilities):,} from {run.arm} (seed {run.seed})."
                )
            if (run.arm, run.seed) in seen:
                raise ValueError(f"`runs` must have each arm and seed once, got {run.arm} (seed {run.seed}) twice.")
            seen.add((run.arm, run.seed))
        if unknown := [arm for arm in self.importance or () if arm not in ARMS]:
            raise ValueError(f"`importance` must be by arm, one of {list(ARMS)}, got {unknown}.")

    @property
    def arms(self) -> list[str]:
        """Arms with at least one run, in the order of `ARMS`."""
        present = {run.arm for run in self.runs}
        return [arm for arm in ARMS if arm in present]

    def runs_of(self, arm: str) -> list[ArmRun]:
        """Runs of one arm, by seed."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed)


def save_run(run: ArmRun, path: str | Path) -> None:
    """Write a run atomically to one `.npz` file, so that a comparison can continue later."""
    rest = {field.name: getattr(run, field.name) for field in fields(run) if field.name != "probabilities"}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, probabilities=run.probabilities, rest=np.array(json.dumps(rest)))


def load_run(path: str | Path) -> ArmRun:
    """Read a run that `save_run` has written."""
    with np.load(path, allow_pickle=False) as stored:
        return ArmRun(probabilities=stored["probabilities"], **json.loads(str(stored["rest"])))
