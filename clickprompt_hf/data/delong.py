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
    of_clicks = (ranks[clicked] - stats.rankdata(scores[clicked])) / (~clicked).sum()
    of_others = 1 - (ranks[~clicked] - stats.rankdata(scores[~clicked])) / clicked.sum()
    return of_clicks, of_others


def delong_error(of_clicks: np.ndarray, of_others: np.ndarray) -> float:
    """Standard error of an AUC from its placements, or of a difference of two AUCs from differences of placements."""
    return float(np.sqrt(of_clicks.var(ddof=1) / len(of_clicks) + of_others.var(ddof=1) / len(of_others)))


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
    auc, baseline = (float(of_clicks.mean()) for of_clicks, _ in parts)
    of_clicks, of_others = (first - second for first, second in zip(*parts))
    return auc, baseline, delong_error(of_clicks, of_others)


def p_value(difference: float, error: float) -> float:
    """Two-sided p-value of a difference with a standard error; 1 if the error is 0."""
    return float(2 * stats.norm.sf(abs(difference) / error)) if error else 1.0
