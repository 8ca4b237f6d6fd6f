# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Estimates of AUC and log loss, and of their differences between arms, over test rows and seeds.

N test rows, C of them clicked, S seeds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special

from ..data.delong import delong_error, placements
from ..evaluation.report import row_log_losses

CONFIDENCE = 0.95
# p-values are computed down to this level
_SMALLEST_LEVEL = 1e-12
_LOG_SMALLEST = math.log(_SMALLEST_LEVEL)


@dataclass(frozen=True)
class SeedVariance:
    """Variance of a figure over seeds, pooled over arms.

    Args:
        value: Mean of the arms' variances over seeds, weighted by their degrees of freedom.
        degrees: Number of runs minus number of arms, over arms that a seed changes; 0 if each has one run.
    """

    value: float = 0.0
    degrees: int = 0

    @classmethod
    def pooled(cls, per_arm: Iterable[Sequence[float]]) -> "SeedVariance":
        """Pool the figures per seed of arms that a seed changes."""
        several = [figures for figures in per_arm if len(figures) > 1]
        degrees = sum(len(figures) - 1 for figures in several)
        squares = sum(float(np.var(figures, ddof=1)) * (len(figures) - 1) for figures in several)
        return cls(squares / degrees, degrees) if degrees else cls()


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and how certain it is, see `over_seeds`.

    Args:
        value: Mean over seeds.
        row_error: Standard error over test rows; NaN if it cannot be computed.
        seed_error: Standard error over seeds; 0 if unknown or if seeds change nothing.
        degrees: Degrees of freedom of `seed_error`.
        seeds: Number of seeds.
        spread: Standard deviation over seeds; `None` if there is one seed, 0 if seeds change nothing.
    """

    value: float
    row_error: float
    seed_error: float = 0.0
    degrees: int = 0
    seeds: int = 1
    spread: float | None = None

    @property
    def standard_error(self) -> float:
        """Standard error over test rows and seeds."""
        return math.hypot(self.row_error, self.seed_error)

    @property
    def margin(self) -> float:
        """Half width of the 95 % interval."""
        return self._margin(1 - CONFIDENCE)

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - self.margin

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self.margin

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the value being 0: the level whose interval ends at 0, at least 1e-12.

        1 if the value is exactly 0, NaN without a standard error.
        """
        if self.value == 0:
            return 1.0
        if not math.isfinite(self.row_error):
            return float("nan")
        if self._margin(_SMALLEST_LEVEL) <= abs(self.value):
            return _SMALLEST_LEVEL
        distance = abs(self.value)
        return math.exp(optimize.brentq(lambda log: self._margin(math.exp(log)) - distance, _LOG_SMALLEST, 0.0))

    def _margin(self, level: float) -> float:
        of_rows = -special.ndtri(level / 2) * self.row_error
        of_seeds = -special.stdtrit(self.degrees, level / 2) * self.seed_error if self.seed_error else 0.0
        return math.hypot(of_rows, of_seeds)


class RunScores:
    """One run's probabilities on a set of test rows, and what the estimates need of them.

    Args:
        probabilities: (N,) click probabilities.
        clicked: (N,) whether a row was clicked. AUC needs at least two rows of each class.
        seedless: Whether the run stands for all seeds.
    """

    def __init__(self, probabilities: np.ndarray, clicked: np.ndarray, seedless: bool = False):
        self.probabilities, self.clicked, self.seedless = probabilities, clicked, seedless

    @cached_property
    def placements(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the clicked rows (C,) and of the others (N - C,), see `delong.placements`."""
        return placements(self.probabilities, self.clicked)

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return float(self.placements[0].mean())

    @property
    def log_loss(self) -> float:
        """Mean log loss, in nats."""
        return float(self.losses.mean())

    @cached_property
    def losses(self) -> np.ndarray:
        """(N,) log loss of each row, in nats."""
        return row_log_losses(self.probabilities, self.clicked)


def auc_estimate(runs: Sequence[RunScores], seed_variance: SeedVariance) -> Estimate:
    """Estimate the AUC of one arm from its runs, see `over_seeds`.

    The error over rows is DeLong's (1988), of placements averaged over seeds. It is NaN if scores separate the classes
    or are all equal.
    """
    error = delong_error(*_mean_placements(runs))
    return over_seeds([run.auc for run in runs], error or float("nan"), seed_variance, _seeded(runs))


def log_loss_estimate(runs: Sequence[RunScores], seed_variance: SeedVariance) -> Estimate:
    """Estimate the log loss of one arm from its runs, see `over_seeds`.

    The error over rows is that of a mean of N losses, averaged over seeds: their standard deviation over √N.
    """
    losses = np.mean([run.losses for run in runs], axis=0)
    return over_seeds([run.log_loss for run in runs], _mean_error(losses), seed_variance, _seeded(runs))


def auc_difference(pairs: Sequence[tuple[RunScores, RunScores]], seed_variance: SeedVariance) -> Estimate:
    """Estimate the difference between two arms' AUCs from pairs of runs, one pair per seed, see `over_seeds`.

    The error over rows is DeLong's (1988) for paired AUCs: of differences of placements, averaged over seeds, so
    errors that both arms share cancel.
    """
    arm, reference = (_mean_placements(runs) for runs in zip(*pairs))
    error = delong_error(*(of_arm - of_reference for of_arm, of_reference in zip(arm, reference)))
    per_seed = [run.auc - other.auc for run, other in pairs]
    if not error and any(per_seed):
        # each arm ranks all rows alike, right or wrong: DeLong's error means nothing
        error = float("nan")
    return over_seeds(per_seed, error, seed_variance, sum(_seeded(runs) for runs in zip(*pairs)))


def log_loss_difference(pairs: Sequence[tuple[RunScores, RunScores]], seed_variance: SeedVariance) -> Estimate:
    """Estimate the difference between two arms' log losses from one pair of runs per seed, see `over_seeds`.

    The error over rows is that of a mean of N differences of a row's losses, averaged over seeds.
    """
    differences = np.mean([run.losses - other.losses for run, other in pairs], axis=0)
    per_seed = [run.log_loss - other.log_loss for run, other in pairs]
    seeded = sum(_seeded(runs) for runs in zip(*pairs))
    return over_seeds(per_seed, _mean_error(differences), seed_variance, seeded)


def over_seeds(
    per_seed: Sequence[float], row_error: float, seed_variance: SeedVariance, seeded_arms: int = 1
) -> Estimate:
    """Combine the error over test rows with the error over seeds.

    With d_s the figure of seed s, e the standard error of their mean over test rows for these very models, v the
    variance of one arm over seeds pooled over arms, ν its degrees of freedom, and A the number of arms in the figure
    that a seed changes (2 for most differences):

        value = Σ d_s / S,    spread² = Σ (d_s - value)² / (S - 1),    seed_error² = max(spread², A v) / S,

        standard_error² = e² + seed_error²,    margin² = (z e)² + (t seed_error)²,

    with z and t the quantiles of the normal distribution and of Student's with ν degrees of freedom. Over two or three
    seeds, the spread of one pair of arms can be small by luck; hence the pooled variance as a lower bound. Adding the
    margins in squares keeps the coverage at or above the nominal one for small ν as well, where the degrees of freedom
    of Satterthwaite (1946) lead to up to twelve times as many wrong claims at a level of 0.005. Noise that differs
    between both rows and seeds counts in e and in seed_error. With one run per arm, the margin is z e, and holds for
    that seed only.

    Args:
        per_seed: (S,) figures.
        row_error: e.
        seed_variance: v and ν.
        seeded_arms: A. 0: one run stands for all seeds.
    """
    value, seeds = float(np.mean(per_seed)), len(per_seed)
    if not seeded_arms:
        return Estimate(value, row_error, seeds=seeds, spread=0.0)
    spread = float(np.std(per_seed, ddof=1)) if seeds > 1 else None
    seed_error = math.sqrt(max((spread or 0.0) ** 2, seeded_arms * seed_variance.value) / seeds)
    return Estimate(value, row_error, seed_error, seed_variance.degrees, seeds, spread)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for the number of tests (Holm 1979).

    If claims are made where the adjusted p-value is at most α, all of them are right with probability 1 - α or more,
    however the tests depend on each other.

    Args:
        p_values: (M,) p-values; NaN counts as 1.

    Returns:
        (M,) adjusted p-values in the given order.
    """
    given = np.nan_to_num(np.asarray(p_values, dtype=np.float64), nan=1.0)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _mean_placements(runs: Sequence[RunScores]) -> list[np.ndarray]:
    return [np.mean(placements, axis=0) for placements in zip(*(run.placements for run in runs))]


def _mean_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _seeded(runs: Sequence[RunScores]) -> int:
    """1 if a seed changes the arm of these runs, else 0."""
    return int(not all(run.seedless for run in runs))
