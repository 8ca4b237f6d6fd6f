# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Standard errors of AUCs and of their differences on the same rows (DeLong et al. 1988)."""

import numpy as np
from scipy import stats


def placements(scores: np.ndarray, clicked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each clicked row, the share of others that it beats; for each other, the share of clicked rows above it.

    The mean of either is the AUC.

    Args:
        scores: (N,) scores of the rows.
        clicked: (N,) bool, with both values.
    """
    ranks = stats.rankdata(scores)
    clicked_placements = (ranks[clicked] - stats.rankdata(scores[clicked])) / (~clicked).sum()
    other_placements = 1 - (ranks[~clicked] - stats.rankdata(scores[~clicked])) / clicked.sum()
    return clicked_placements, other_placements


def delong_error(clicked_placements: np.ndarray, other_placements: np.ndarray) -> float:
    """Standard error of an AUC from its placements, or of a difference of two AUCs from differences of placements."""
    return float(
        np.sqrt(
            clicked_placements.var(ddof=1) / len(clicked_placements)
            + other_placements.var(ddof=1) / len(other_placements)
        )
    )


def compare_aucs(scores: np.ndarray, baseline_scores: np.ndarray, clicked: np.ndarray) -> tuple[float, float, float]:
    """Compare two AUCs on the same rows; errors that both scores share cancel.

    Args:
        scores: (N,) scores of the rows.
        baseline_scores: (N,) other scores of the same rows.
        clicked: (N,) bool, with both values.

    Returns:
        The AUC of `scores`, the AUC of `baseline_scores`, and the standard error of their difference.
    """
    parts = [placements(np.asarray(given), clicked) for given in (scores, baseline_scores)]
    auc, baseline = (float(clicked_placements.mean()) for clicked_placements, _ in parts)
    clicked_placements, other_placements = (first - second for first, second in zip(*parts))
    return auc, baseline, delong_error(clicked_placements, other_placements)


def p_value(difference: float, error: float) -> float:
    """Two-sided p-value of a difference with a standard error; 1 if the error is 0."""
    return float(2 * stats.norm.sf(abs(difference) / error)) if error else 1.0
