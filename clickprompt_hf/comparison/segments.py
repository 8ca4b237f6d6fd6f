# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Segments of the test rows: by how often the row's item or user occurs in training."""

from dataclasses import dataclass

import numpy as np

from .results import ROLES, Comparison

# An item seen in ten rows has a click rate that is uncertain by up to 0.16 (one standard error): its id says little.
RARE_ROWS = 10
# DeLong's interval is a normal approximation, which needs some rows of each class.
MIN_ROWS_PER_CLASS = 10
ALL = "all"
# Count for a test row without an item or user.
MISSING = -1


@dataclass(frozen=True)
class Segment:
    """Some of the test rows.

    Args:
        name: `all`, or role and frequency, such as `item_unseen`.
        words: The same in words, as in "on rows of unseen items".
        mask: (N,) which test rows belong to it.
        rows: Number of rows.
        clicks: Number of clicked rows.
        reason: Why it has no metrics; `None` if it has.
    """

    name: str
    words: str
    mask: np.ndarray
    rows: int
    clicks: int
    reason: str | None

    @classmethod
    def of(cls, name: str, words: str, mask: np.ndarray, labels: np.ndarray) -> "Segment":
        """Count the rows and clicks of a segment, and check that there are enough."""
        rows, clicks = int(mask.sum()), int(labels[mask].sum())
        reason = None
        if not rows:
            reason = "no rows"
        elif clicks in (0, rows):
            reason = "only clicked rows" if clicks else "no clicked rows"
        elif (fewest := min(clicks, rows - clicks)) < MIN_ROWS_PER_CLASS:
            kind = "clicked" if clicks == fewest else "unclicked"
            reason = f"{fewest} {kind} rows, fewer than {MIN_ROWS_PER_CLASS}"
        return cls(name, words, mask, rows, clicks, reason)


def training_counts(train: np.ndarray, test: np.ndarray, is_missing: np.ndarray) -> np.ndarray:
    """Count the training rows with each test row's item or user.

    Args:
        train: Integers, equal for equal values of the training rows; -1 for missing ones.
        test: (N,) the same of the test rows.
        is_missing: (N,) whether a test row has no value.

    Returns:
        (N,) counts, `MISSING` for rows without a value.
    """
    # the last one is that of -1
    counts = np.bincount(train[train >= 0], minlength=int(test.max()) + 2)
    return np.where(is_missing, MISSING, counts[test])


def all_segments(comparison: Comparison) -> list[Segment]:
    """All rows, and for each role the rows whose value is unseen, rare or frequent in the training rows, or missing.

    Unseen: in no training row. Rare: in 1 to `RARE_ROWS` training rows. Frequent: in more. A missing value is none of
    these, because rows without one have nothing in common; if no row lacks one, there is no segment for it.
    """
    labels = comparison.labels
    segments = [Segment.of(ALL, "all rows", np.ones(len(labels), dtype=bool), labels)]
    for role in ROLES:
        if role in comparison.train_counts:
            counts = comparison.train_counts[role]
            for frequency, mask in (
                ("unseen", counts == 0),
                ("rare", (counts > 0) & (counts <= RARE_ROWS)),
                ("frequent", counts > RARE_ROWS),
            ):
                segments.append(Segment.of(f"{role}_{frequency}", f"rows of {frequency} {role}s", mask, labels))
            if (missing := counts == MISSING).any():
                article = "an" if role == "item" else "a"
                segments.append(Segment.of(f"{role}_missing", f"rows without {article} {role}", missing, labels))
    return segments
