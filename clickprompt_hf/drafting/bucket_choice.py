# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Choose the buckets of a column of numbers: by quantiles or on a logarithmic scale, and how many."""

import numpy as np

from ..data.buckets import bucket_boundaries
from ..data.delong import compare_aucs, p_value
from ..schema_clickprompt import Buckets, FieldSchema
from .column_checks import cross_fitted_rates
from .column_profile import ColumnProfile

# Smallest difference of AUCs that decides, and largest probability of it by chance.
_LEAST_DIFFERENCE, _LARGEST_P_VALUE = 0.002, 0.01
_SKEWED = 20
# More buckets than by default, for columns in which a few numbers say much, such as amounts on a tax form.
_MORE_BUCKETS = 32
# Smallest gain that decides, in nats.
_LEAST_GAIN = 0.001


def choose_buckets(profile: ColumnProfile, clicks: np.ndarray | None) -> None:
    """Propose `buckets: log` for a numeric column if these rank the rows better, or by its skew if neither does.

    Then propose `num_buckets: 32` if that many predict the label better than the default number.

    Both kinds are fitted as for a field, and each row is ranked by the click rate of its bucket in the other half of
    the rows. One kind is better if its AUC is higher by at least 0.002, with p < 0.01 (DeLong et al. 1988). A column
    is skewed if its top 1 % are more than 20 times the median of the numbers above zero.

    More buckets are better if the mean log loss of such rates is lower by at least 0.001, with p < 0.01 (paired by
    row). Rates of more buckets are more uncertain, so columns in which single numbers say little keep the default.

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
    default = FieldSchema("x").num_buckets
    losses = _losses(profile, clicks, (default, _MORE_BUCKETS))
    if losses is not None:
        gains = losses[default] - losses[_MORE_BUCKETS]
        error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
        if gains.mean() >= _LEAST_GAIN and p_value(float(gains.mean()), error) < _LARGEST_P_VALUE:
            profile.options["num_buckets"] = _MORE_BUCKETS
            profile.doubts.append(
                f"{_MORE_BUCKETS} buckets, because they predict the label better than {default}: log loss "
                f"{losses[_MORE_BUCKETS].mean():.3f} against {losses[default].mean():.3f}"
            )


def _rates(profile: ColumnProfile, clicks: np.ndarray, num_buckets: int, kind: Buckets) -> np.ndarray:
    """Click rates of the labeled rows' buckets in the other half of the rows."""
    numbers = np.append(profile.numbers, np.nan)[profile.value_ids]  # type: ignore[arg-type]
    boundaries = bucket_boundaries(profile.numbers, profile.counts, num_buckets, kind)  # type: ignore[arg-type]
    groups = np.where(np.isfinite(numbers), np.searchsorted(boundaries, numbers, side="right"), -1)
    return cross_fitted_rates(groups, clicks)[np.isfinite(clicks)]


def _losses(
    profile: ColumnProfile, clicks: np.ndarray | None, counts: tuple[int, ...]
) -> dict[int, np.ndarray] | None:
    """Log loss of each labeled row by number of buckets; `None` if the column has no use for more, or no AUC."""
    if profile.auc is None or profile.reason_left_out or clicks is None or profile.numbers is None:
        return None
    if np.isfinite(profile.numbers).sum() <= min(counts):
        return None
    clicked = clicks[np.isfinite(clicks)] == 1
    kind: Buckets = profile.options.get("buckets", "quantile")
    rates = {count: _rates(profile, clicks, count, kind) for count in counts}
    return {count: -np.log(np.where(clicked, rate, 1 - rate)) for count, rate in rates.items()}


def _better_buckets(profile: ColumnProfile, clicks: np.ndarray | None) -> tuple[Buckets | None, dict[str, float]]:
    """The kind of buckets that ranks the rows better, if any, and the AUC of each."""
    if profile.auc is None or profile.reason_left_out or clicks is None or profile.numbers is None:
        return None, {}
    labeled = np.isfinite(clicks)
    default = FieldSchema("x").num_buckets
    kinds: tuple[Buckets, ...] = ("quantile", "log")
    rates = {kind: _rates(profile, clicks, default, kind) for kind in kinds}
    log, quantile, error = compare_aucs(rates["log"], rates["quantile"], clicks[labeled] == 1)
    aucs = {"log": log, "quantile": quantile}
    is_decided = abs(log - quantile) >= _LEAST_DIFFERENCE and p_value(log - quantile, error) < _LARGEST_P_VALUE
    return (("log" if log > quantile else "quantile") if is_decided else None), aucs
