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
        auc_gain: Smallest useful gain in AUC. The literature on click models calls 0.001 significant in practice.
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
        """Smallest useful gain in a metric."""
        return self.auc_gain if metric == "auc" else self.log_loss_gain


# What a reader must know to read the verdict and the tables.
TERMS = [
    ("Arm", "One way to predict clicks. All arms are trained, tuned and tested on the same rows."),
    ("CTR model", "A model of the click-through rate, which reads the ids of a row's values and no text."),
    (
        "PLM",
        "A pretrained language model, which reads a row's text. PA-MLM (prompt-augmented masked language modeling) "
        "first trains it to fill gaps in the table's texts with the help of the ids.",
    ),
    (
        "AUC",
        "The probability that a random clicked row is scored above a random row without a click: 0.5 is chance, 1 is "
        "perfect. It measures ranking.",
    ),
    (
        "Log loss",
        "The mean negative logarithm of the probability that an arm gave to what happened, in nats: 0 is perfect. It "
        "measures probabilities.",
    ),
]


def rules_in_words(rules: Rules) -> list[tuple[str, str]]:
    """The rules of the verdict: a heading and a paragraph each."""
    return [
        (
            "Reference",
            "The reference is the best arm that uses no PLM in training or serving: the one with the highest mean "
            "validation AUC over seeds. Test rows play no part in choosing it.",
        ),
        (
            "Differences",
            "Differences are paired by test row and by seed. Their error combines the sampling of test rows "
            "(DeLong for AUC, paired losses for log loss) with the spread over seeds, which is at least that of "
            "the average arm. Each interval has 95 % coverage, not adjusted for multiple comparisons. Test rows "
            "are treated as independent, so intervals are too narrow if a user's rows depend on each other.",
        ),
        (
            "Significant",
            f"A difference is significant if its p-value is at most {rules.level:g} after Holm's adjustment, which "
            f"keeps the probability of any false claim in a family of tests to at most {100 * rules.level:g} %. The "
            "tests on all rows are one family, those on the segments another. Each compares AUC and log loss of every "
            "arm with a PLM with the reference and with the backbone, and of the reference with the backbone. A "
            "difference whose own interval excludes zero may therefore not be significant.",
        ),
        (
            "A PLM pays",
            "A PLM pays if an arm with a PLM significantly improves on the reference, by at least "
            f"{rules.auc_gain:g} AUC or {rules.log_loss_gain:g} log loss; if it is also better than every other arm "
            "without a PLM in that metric; and if the other metric shows no significant loss of that size. On a "
            "segment, only the first two conditions apply.",
        ),
        (
            "Serve",
            "If a PLM pays, serve the cheapest of the arms that pay and are within one standard error of the arm "
            "with the largest gain, in both AUC and log loss. Otherwise, serve the cheapest arm without a PLM "
            "within one standard error of the reference in both.",
        ),
        (
            "Cheapest",
            "Arms served without a PLM come first, then the fastest to score. Among arms within 20 % of the "
            "highest speed, the fastest to train is the cheapest. Speed is measured on the test rows and averaged "
            f"over seeds; if scoring takes less than {SECONDS_TO_REPEAT} seconds, the fastest of up to "
            f"{MOST_REPEATS} repeats counts.",
        ),
        (
            "Nothing pays",
            "Nothing pays if no arm ranks the test rows significantly better than a constant click rate. These "
            "tests are a separate family.",
        ),
        (
            "Segments",
            f"A row's item or user is unseen if it occurs in no training row, rare if in 1 to {RARE_ROWS}, and "
            f"frequent otherwise. A click rate from {RARE_ROWS} rows has a standard error of up to 0.16, so a rare "
            f"value's id carries little information. A segment with fewer than {MIN_ROWS_PER_CLASS} clicked or "
            f"{MIN_ROWS_PER_CLASS} unclicked rows gets no metrics: the normal approximation of the intervals needs "
            "more. Rows without an item or user are a separate segment.",
        ),
    ]
