# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The rules of the verdict: what counts as a gain, and the same in words."""

from dataclasses import dataclass
from typing import Literal

from .segments import MIN_ROWS_PER_CLASS, RARE_ROWS
from .speed import MOST_REPEATS, SECONDS_TO_REPEAT

Metric = Literal["auc", "log_loss"]
METRICS: tuple[Metric, ...] = ("auc", "log_loss")


@dataclass(frozen=True)
class Rules:
    """What counts as a gain.

    Args:
        auc_gain: Smallest useful gain of AUC. The literature on click models calls 0.001 significant in practice.
        log_loss_gain: Smallest useful reduction of log loss, in nats.
        level: Probability of a wrong claim per family of tests, in (0, 1).

    Raises:
        ValueError: If a gain is negative or `level` is not in (0, 1).
    """

    auc_gain: float = 0.001
    log_loss_gain: float = 0.001
    level: float = 0.05

    def __post_init__(self) -> None:
        for name in ("auc_gain", "log_loss_gain"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if not 0 < self.level < 1:
            raise ValueError(f"`level` must be in (0, 1), got {self.level}.")

    def smallest_gain(self, metric: Metric) -> float:
        """Smallest useful gain of a metric."""
        return self.auc_gain if metric == "auc" else self.log_loss_gain


def rules_in_words(rules: Rules) -> list[tuple[str, str]]:
    """The rules of the verdict: a heading and a paragraph each."""
    return [
        (
            "Reference",
            "The reference is the best arm without a PLM at training or serving: the one with the highest "
            "validation AUC, mean over seeds. Test rows do not choose it.",
        ),
        (
            "Differences",
            "Differences are paired by test row and by seed. Their error combines the sampling of test rows "
            "(DeLong for AUC, paired losses for log loss) with the spread over seeds, which is at least that "
            "of the average arm. Intervals hold 95 % each, unadjusted for the number of comparisons. They treat "
            "test rows as independent, so they are too narrow if the rows of one user depend on each other.",
        ),
        (
            "Significant",
            f"A difference is significant if its p-value is at most {rules.level:g} after Holm's adjustment, "
            f"which holds the probability of any wrong claim in a family of tests at {100 * rules.level:g} %. "
            "The tests on all rows are one family, those on the segments another. Each holds AUC and log loss "
            "of every arm with a PLM against the reference and against the backbone, and of the reference "
            "against the backbone. So a difference whose own interval excludes zero need not be significant.",
        ),
        (
            "A PLM pays",
            "A PLM pays if an arm with a PLM gains significantly over the reference, by at least "
            f"{rules.auc_gain:g} AUC or {rules.log_loss_gain:g} log loss; if it is better than every other arm "
            "without a PLM in that metric, too; and if the other metric shows no significant loss of that size. "
            "On a segment, it pays by the first two conditions.",
        ),
        (
            "Serve",
            "If a PLM pays, serve the cheapest of the arms that pay and are within one standard error of the "
            "one with the largest gain, in AUC and in log loss. Otherwise, serve the cheapest of the arms "
            "without a PLM that are within one standard error of the reference in both.",
        ),
        (
            "Cheapest",
            "Arms served without a PLM come first, then the fastest to score. Among arms within 20 % of the "
            "highest speed, the fastest to train is the cheapest. Speed is that of scoring the test rows, mean over "
            f"seeds; below {SECONDS_TO_REPEAT} seconds, the fastest of up to {MOST_REPEATS} repeats counts.",
        ),
        (
            "Nothing pays",
            "Nothing pays if no arm ranks the test rows significantly better than the click rate as a "
            "constant. These tests are a family of their own.",
        ),
        (
            "Segments",
            f"The item or user of a row is unseen if no training row has it, rare if 1 to {RARE_ROWS} training "
            f"rows have it, and frequent otherwise. A click rate from {RARE_ROWS} rows has a standard error of "
            f"up to 0.16, so the id of a rare value says little. A segment with fewer than {MIN_ROWS_PER_CLASS} "
            f"clicked or {MIN_ROWS_PER_CLASS} unclicked rows gets no metrics: the normal approximation of the "
            "intervals needs more. Rows without an item or user are a segment of their own.",
        ),
    ]
