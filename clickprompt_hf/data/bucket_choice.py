# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Choose between quantile and log buckets for a column of numbers."""

import numpy as np

from ..schema_clickprompt import Buckets, FieldSchema
from .column_profile import ColumnProfile, cross_fitted_rates
from .delong import compare_aucs, p_value
from .vocabulary import bucket_boundaries

# A difference of AUCs that decides is at least this large, and as unlikely by chance.
_LEAST_DIFFERENCE, _LARGEST_P_VALUE = 0.002, 0.01
_SKEWED = 20


def choose_buckets(profile: ColumnProfile, clicks: np.ndarray | None) -> None:
    """Propose `buckets: log` for a numeric column if these rank the rows better, or by its skew if neither does.

    Both kinds are fitted as for a field, and each row is ranked by the click rate of its bucket in the other half of
    the rows. One kind is better if its AUC is higher by at least 0.002, with p < 0.01 (DeLong et al. 1988). A column
    is skewed if its top 1 % are more than 20 times the median of the numbers above zero.

    Args:
        profile: A column of any kind.
        clicks: (N,) 1, 0, or NaN if unknown; `None` without a label.
    """
    if profile.kind != "numeric" or profile.numbers is None:
        return
    known = np.isfinite(profile.numbers)
    rows = np.repeat(profile.numbers[known], profile.counts[known])
    above_zero = rows[rows > 0]
    is_skewed = bool(rows.min() >= 0 and len(above_zero) and np.quantile(rows, 0.99) > _SKEWED * np.median(above_zero))
    better, aucs = _better_buckets(profile, clicks)
    if better == "log" or (better is None and is_skewed):
        profile.options["buckets"] = "log"
        because = "the top 1 % are more than 20 times the median"
        if better is not None:
            because = (
                f"they rank the rows better than `quantile`: AUC {aucs['log']:.3f} against {aucs['quantile']:.3f}"
            )
        alternative = "; the alternative is `quantile`" if better is None else ""
        profile.doubts.append(f"log buckets, because {because}{alternative}")


def _better_buckets(profile: ColumnProfile, clicks: np.ndarray | None) -> tuple[Buckets | None, dict[str, float]]:
    """The kind of buckets that ranks the rows better, if any, and the AUC of each."""
    if profile.auc is None or profile.reason_left_out or clicks is None or profile.numbers is None:
        return None, {}
    numbers = np.append(profile.numbers, np.nan)[profile.value_ids]
    labeled = np.isfinite(clicks)
    rates = {}
    for kind in ("quantile", "log"):
        boundaries = bucket_boundaries(profile.numbers, profile.counts, FieldSchema("x").num_buckets, kind)
        groups = np.where(np.isfinite(numbers), np.searchsorted(boundaries, numbers, side="right"), -1)
        rates[kind] = cross_fitted_rates(groups, clicks)[labeled]
    log, quantile, error = compare_aucs(rates["log"], rates["quantile"], clicks[labeled] == 1)
    aucs = {"log": log, "quantile": quantile}
    is_decided = abs(log - quantile) >= _LEAST_DIFFERENCE and p_value(log - quantile, error) < _LARGEST_P_VALUE
    return (("log" if log > quantile else "quantile") if is_decided else None), aucs
