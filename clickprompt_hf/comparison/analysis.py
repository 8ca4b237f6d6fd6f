# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Everything that the verdict and the report need, computed from a comparison: figures, differences, calibration."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np

from ..evaluation.report import calibration_metrics
from ..training.metrics import auc_and_log_loss
from .results import ARMS, PLM_ARMS, SEEDLESS_ARMS, ArmRun, Comparison
from .rules import METRICS, Metric, Rules
from .segments import ALL, Segment, all_segments
from .statistics import (
    Estimate,
    RunScores,
    SeedVariance,
    auc_difference,
    auc_estimate,
    holm,
    log_loss_difference,
    log_loss_estimate,
)


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between an arm and a reference on a segment.

    Args:
        arm: Arm.
        reference: Arm it is compared with.
        segment: Name of the segment.
        metric: "auc" or "log_loss".
        estimate: The arm's metric minus the reference's.
        rules: What counts as a gain.
        adjusted_p: p-value adjusted by Holm's method within its family; `None` if it is not tested.
        num_tests: Number of tests in its family; 0 if it is not tested.
    """

    arm: str
    reference: str
    segment: str
    metric: Metric
    estimate: Estimate
    rules: Rules
    adjusted_p: float | None = None
    num_tests: int = 0

    @property
    def gain(self) -> float:
        """How much better the arm is than the reference; negative if it is worse."""
        return self.estimate.value if self.metric == "auc" else -self.estimate.value

    @property
    def significant(self) -> bool:
        """Whether the arm differs from the reference beyond chance."""
        return self.adjusted_p is not None and self.adjusted_p <= self.rules.level

    @property
    def pays(self) -> bool:
        """Whether the gain is significant and at least the smallest useful one."""
        return self.significant and self.gain > 0 and self.gain >= self.rules.smallest_gain(self.metric)

    @property
    def harms(self) -> bool:
        """Whether the loss is significant and at least the smallest useful gain."""
        return self.significant and self.gain < 0 and -self.gain >= self.rules.smallest_gain(self.metric)


@dataclass(frozen=True)
class Cost:
    """Cost of an arm, mean over seeds; see `ArmRun` for the units."""

    train_seconds: float
    rows_per_second: float
    megabytes: float
    plm: Literal["no", "training", "serving"]


@dataclass
class Analysis:
    """Figures of a comparison.

    Args:
        comparison: The results.
        rules: What counts as a gain.

    Raises:
        ValueError: If there is no run.
    """

    comparison: Comparison
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not self.comparison.runs:
            raise ValueError("`runs` of a comparison must hold at least one run, got none.")
        self.arms = self.comparison.arms
        self.segments = {segment.name: segment for segment in all_segments(self.comparison)}
        self._scores: dict[tuple[str, str, int], RunScores] = {}
        self._seed_variances: dict[tuple[Metric, str], SeedVariance] = {}

    @property
    def usable_segments(self) -> list[Segment]:
        """Segments with enough rows of both classes that are not simply all rows."""
        everything = len(self.comparison.labels)
        return [
            segment
            for segment in self.segments.values()
            if segment.reason is None and (segment.name == ALL or segment.rows < everything)
        ]

    @property
    def plm_arms(self) -> list[str]:
        """Arms that use a PLM, at training or at serving."""
        return [arm for arm in self.arms if arm in PLM_ARMS]

    @property
    def plain_arms(self) -> list[str]:
        """Arms without a PLM at training or serving."""
        return [arm for arm in self.arms if arm not in PLM_ARMS]

    @property
    def missing_arms(self) -> list[str]:
        """Arms without a run."""
        return [arm for arm in ARMS if arm not in self.arms]

    @property
    def seeds(self) -> list[int]:
        """All seeds, except those of arms that a seed does not change."""
        return sorted({run.seed for run in self.comparison.runs if run.arm not in SEEDLESS_ARMS})

    @property
    def missing_seeds(self) -> dict[str, list[int]]:
        """Seeds that other arms have, by arm that lacks some."""
        missing = {
            arm: sorted(set(self.seeds) - {run.seed for run in self.comparison.runs_of(arm)})
            for arm in self.arms
            if arm not in SEEDLESS_ARMS
        }
        return {arm: seeds for arm, seeds in missing.items() if seeds}

    @cached_property
    def reference(self) -> str | None:
        """Best arm without a PLM at training or serving, see `best`; `None` without such an arm."""
        return self.best(self.plain_arms)

    @property
    def validation_is_known(self) -> bool:
        """Whether some arm without a PLM has a validation AUC."""
        return any(math.isfinite(self._validation_auc(arm)) for arm in self.plain_arms)

    def best(self, arms: Sequence[str]) -> str | None:
        """The arm with the highest validation AUC, mean over seeds, so that test rows do not choose it.

        Without validation AUCs, the test AUC decides; without either, the arm that comes last in `ARMS`.
        """
        for score in (self._validation_auc, self._test_auc):
            known = [arm for arm in arms if math.isfinite(score(arm))]
            if known:
                return max(known, key=score)
        return arms[-1] if arms else None

    def estimate(self, arm: str, metric: Metric, segment: str = ALL) -> Estimate:
        """Estimate a metric of an arm on a usable segment."""
        scores = [self._score(run, segment) for run in self.comparison.runs_of(arm)]
        variance = self._seed_variance(metric, segment)
        return (auc_estimate if metric == "auc" else log_loss_estimate)(scores, variance)

    def difference(self, arm: str, reference: str, metric: Metric, segment: str = ALL) -> Difference | None:
        """Estimate the difference between two arms on a usable segment; `None` if they have no seed in common.

        Runs are paired by seed. The single run of an arm that a seed does not change is paired with every run.
        """
        pairs = [
            (self._score(run, segment), self._score(other, segment))
            for run, other in _paired(self.comparison.runs_of(arm), self.comparison.runs_of(reference))
        ]
        if not pairs:
            return None
        variance = self._seed_variance(metric, segment)
        estimate = (auc_difference if metric == "auc" else log_loss_difference)(pairs, variance)
        return Difference(arm, reference, segment, metric, estimate, self.rules)

    @cached_property
    def differences(self) -> dict[tuple[str, str, Metric, str], Difference]:
        """All differences, by arm, reference, metric and segment.

        References are the best arm without a PLM and the backbone. The tests compare arms with a PLM with either, and
        the best arm without a PLM with the backbone; the difference between these two is tested once. Those on all
        rows are one family of tests, those on the other segments another, with both metrics and both references.
        """
        references = [arm for arm in dict.fromkeys((self.reference, "backbone")) if arm in self.arms]
        found = {}
        for segment in self.usable_segments:
            for reference, arm, metric in product(references, self.arms, METRICS):
                difference = self.difference(arm, reference, metric, segment.name) if arm != reference else None
                if difference is not None:
                    found[arm, reference, metric, segment.name] = difference
            # placements of large tables are large
            self._forget(segment.name)
        for on_all_rows in (True, False):
            family = [
                key
                for key in found
                if (key[3] == ALL) == on_all_rows and (key[0] in PLM_ARMS or key[:2] == (self.reference, "backbone"))
            ]
            found.update(_tested(family, found))
        for key, tested in found.items():
            mirrored = (key[1], key[0], *key[2:])
            if key[:2] == (self.reference, "backbone") and mirrored in found:
                found[mirrored] = replace(found[mirrored], adjusted_p=tested.adjusted_p, num_tests=tested.num_tests)
        return found

    @cached_property
    def against_constant(self) -> dict[str, Difference]:
        """AUC of each arm minus that of the constant, tested as one family; empty if either is unknown."""
        if "constant" not in self.arms or self.segments[ALL].reason is not None:
            return {}
        found = {arm: self.difference(arm, "constant", "auc") for arm in self.arms if arm != "constant"}
        return _tested(list(found), {arm: gain for arm, gain in found.items() if gain is not None})

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """Cost by arm."""
        costs = {}
        for arm in self.arms:
            runs = self.comparison.runs_of(arm)
            served = any(run.uses_plm_at_serving for run in runs)
            costs[arm] = Cost(
                train_seconds=float(np.mean([run.train_seconds for run in runs])),
                rows_per_second=float(np.mean([run.rows_per_second for run in runs])),
                megabytes=float(np.mean([run.megabytes for run in runs])),
                plm="serving" if served else "training" if arm in PLM_ARMS else "no",
            )
        return costs

    @cached_property
    def calibration(self) -> dict[str, dict[str, float]]:
        """`calibration_error` and `predicted_to_observed` by arm, mean over seeds, see `CalibrationError`."""
        clicks, found = self.comparison.labels, {}
        for arm in self.arms:
            per_seed = [calibration_metrics(run.probabilities, clicks) for run in self.comparison.runs_of(arm)]
            found[arm] = {name: float(np.mean([metrics[name] for metrics in per_seed])) for name in per_seed[0]}
        return found

    @cached_property
    def rows(self) -> list[dict]:
        """One entry per arm and seed, for `results.json`."""
        clicks = self.comparison.labels
        unseen = self.segments.get("item_unseen")
        found = []
        for arm in self.arms:
            for run in self.comparison.runs_of(arm):
                metrics = auc_and_log_loss(run.probabilities, clicks)
                auc_unseen = None
                if unseen is not None and 0 < unseen.clicks < unseen.rows:
                    auc_unseen = RunScores(run.probabilities[unseen.mask], clicks[unseen.mask] == 1).auc
                found.append(
                    {
                        "arm": arm,
                        "seed": run.seed,
                        "auc": metrics["auc"],
                        "log_loss": metrics["log_loss"],
                        "auc_unseen": auc_unseen,
                        "train_seconds": run.train_seconds,
                        "rows_per_second": run.rows_per_second,
                        "megabytes": run.megabytes,
                        "validation_auc": run.validation_auc,
                        "validation_log_loss": run.validation_log_loss,
                        "hyperparameters": run.hyperparameters,
                    }
                )
        return found

    def cheapest(self, arms: Iterable[str]) -> str:
        """The cheapest of some arms.

        Serving without a PLM comes first, then the speed of scoring; among arms within 20 % of the highest speed, the
        time to train.
        """
        arms = list(arms)
        unserved = [arm for arm in arms if self.costs[arm].plm != "serving"] or arms
        highest = max(self.costs[arm].rows_per_second for arm in unserved)
        fast = [arm for arm in unserved if self.costs[arm].rows_per_second >= 0.8 * highest]
        return min(fast, key=lambda arm: self.costs[arm].train_seconds)

    def _seed_variance(self, metric: Metric, segment: str) -> SeedVariance:
        """Variance of a metric over seeds, pooled over the arms that a seed changes."""
        key = (metric, segment)
        if key not in self._seed_variances:
            per_arm = [
                [getattr(self._score(run, segment), metric) for run in self.comparison.runs_of(arm)]
                for arm in self.arms
                if arm not in SEEDLESS_ARMS
            ]
            self._seed_variances[key] = SeedVariance.pooled(per_arm)
        return self._seed_variances[key]

    def _validation_auc(self, arm: str) -> float:
        return float(np.mean([run.validation_auc for run in self.comparison.runs_of(arm)]))

    def _test_auc(self, arm: str) -> float:
        return self.estimate(arm, "auc").value if self.segments[ALL].reason is None else float("nan")

    def _score(self, run: ArmRun, segment: str) -> RunScores:
        key = (segment, run.arm, run.seed)
        if key not in self._scores:
            mask = self.segments[segment].mask
            clicked = self.comparison.labels[mask] == 1
            self._scores[key] = RunScores(run.probabilities[mask], clicked, run.arm in SEEDLESS_ARMS)
        return self._scores[key]

    def _forget(self, segment: str) -> None:
        if segment != ALL:
            self._scores = {key: scores for key, scores in self._scores.items() if key[0] != segment}


def _paired(runs: list[ArmRun], others: list[ArmRun]) -> list[tuple[ArmRun, ArmRun]]:
    """Runs of two arms by seed; the single run of an arm that a seed does not change goes with every run."""
    if len(others) == 1 and others[0].arm in SEEDLESS_ARMS:
        return [(run, others[0]) for run in runs]
    if len(runs) == 1 and runs[0].arm in SEEDLESS_ARMS:
        return [(runs[0], other) for other in others]
    by_seed = {other.seed: other for other in others}
    return [(run, by_seed[run.seed]) for run in runs if run.seed in by_seed]


def _tested(family: list, differences: dict) -> dict:
    """The differences of a family of tests, with p-values adjusted for their number."""
    family = [key for key in family if key in differences]
    adjusted = holm([differences[key].estimate.p_value for key in family])
    return {
        key: replace(differences[key], adjusted_p=float(p_value), num_tests=len(family))
        for key, p_value in zip(family, adjusted)
    }
