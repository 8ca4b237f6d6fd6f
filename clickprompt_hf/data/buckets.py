# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Boundaries of the buckets that a numeric field's values fall into."""

import heapq
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..schema_clickprompt import Buckets

# Twice the largest relative error of numbers in 32 bits.
_ROUNDING = 2.0**-23


def bucket_boundaries(numbers: np.ndarray, rows: np.ndarray, num_buckets: int, buckets: Buckets) -> list[float]:
    """Compute the inner boundaries of a numeric field's buckets.

    V distinct numbers get min(V, `num_buckets`) buckets, none of them empty. A number with more than a bucket's share
    of the rows gets a bucket of its own, closed on both sides, if enough buckets remain for the numbers below and
    above. Those share the remaining buckets: `"quantile"` gives each equally many rows, `"log"` equal widths of
    `sign(x) log(1 + |x| / s)`, where s is the 1st percentile of nonzero magnitudes. This logarithm takes zero and
    negative numbers, and does not depend on the unit. Where equal widths leave buckets empty, those buckets divide the
    others further.

    Args:
        numbers: (V,) numbers, in any order, repeated or not; infinite ones and NaN are ignored.
        rows: (V,) number of rows with each.
        num_buckets: Number of buckets, at least 2.
        buckets: `"quantile"` or `"log"`.

    Returns:
        Boundaries in ascending order. Bucket k holds the numbers from boundary k - 1 up to boundary k, exclusive.
    """
    finite = np.isfinite(numbers)
    # adding zero leaves zero one sign, which would otherwise be that of the row that comes first
    values, index = np.unique(numbers[finite] + 0.0, return_inverse=True)
    counts = np.bincount(index, weights=rows[finite], minlength=len(values)).astype(np.int64)
    if buckets == "quantile":
        return _beside_rounded(values, _divide(values, counts, num_buckets, _quantile_boundaries))
    nonzero = values != 0
    magnitudes = np.abs(values[nonzero])
    order = np.argsort(magnitudes)
    scale = 1.0
    if len(magnitudes):
        scale = float(quantiles_of(magnitudes[order], counts[nonzero][order], np.asarray([0.01]))[0])
    return _beside_rounded(values, _divide(values, counts, num_buckets, partial(_log_boundaries, scale=scale)))


def _beside_rounded(values: np.ndarray, boundaries: Sequence[float]) -> list[float]:
    """Move boundaries away from values that 32 bits round, as 9.99, so that rounded values keep their bucket.

    Args:
        values: (V,) distinct values in ascending order.
        boundaries: In ascending order, each between two values or at the upper one.
    """
    borders = np.asarray(boundaries, dtype=np.float64)
    above = np.searchsorted(values, borders)
    with np.errstate(over="ignore"):
        # Whole numbers, halves, quarters, ... have few digits in binary.
        is_exact = values * 1024 == np.rint(values * 1024)
    room = np.where(is_exact, 0, np.abs(values) * _ROUNDING)
    low, high = (values + room)[above - 1], (values - room)[above]
    return np.where(low <= high, np.clip(borders, low, high), borders).tolist()


def quantiles_of(values: np.ndarray, counts: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Quantiles of repeated values, as `np.quantile` of all rows computes them, without the rows.

    Args:
        values: (V,) in ascending order, at least one.
        counts: (V,) number of rows of each.
        quantiles: (Q,) in [0, 1].
    """
    ends = np.cumsum(counts)
    places = quantiles * (ends[-1] - 1)
    below = np.floor(places)
    share = places - below
    # the values of the rows before and after each place
    rows = np.stack([below, np.minimum(below + 1, ends[-1] - 1)]).astype(np.int64)
    low, high = values[np.searchsorted(ends, rows, side="right")]
    distance = high - low
    return np.where(share < 0.5, low + distance * share, high - distance * (1 - share))


def _divide(values: np.ndarray, counts: np.ndarray, num_buckets: int, spread: Callable) -> list[float]:
    """Divide distinct values, in ascending order, into min(V, `num_buckets`) buckets.

    Args:
        values: (V,) values.
        counts: (V,) rows per value.
        num_buckets: At least 1.
        spread: Boundaries for values none of which has more than a bucket's share of the rows.
    """
    if num_buckets == 1 or len(values) < 2:
        return []
    is_heavy = counts > counts.sum() / num_buckets
    if len(values) <= num_buckets:
        return _borders(values, is_heavy, np.arange(1, len(values))).tolist()
    # A part is a heavy value, or neighbors without one. `starts` holds the first value of each part but the first.
    if is_heavy.any():
        starts = np.flatnonzero(is_heavy[1:] | is_heavy[:-1]) + 1
        starts = _merge_parts(starts, counts, num_buckets)
        borders = _borders(values, is_heavy, starts)
    else:
        borders = spread(values, counts, num_buckets)
        starts, first, repeats = np.unique(np.searchsorted(values, borders), return_index=True, return_counts=True)
        # Of several boundaries between two values, the middle one.
        borders = borders[first + repeats // 2]
    ends = [0, *starts.tolist(), len(values)]
    boundaries = borders.tolist()
    for start, end, share in zip(ends, ends[1:], _share_out(num_buckets, ends, counts)):
        boundaries += _divide(values[start:end], counts[start:end], share, spread)
    return sorted(boundaries)


def _borders(values: np.ndarray, is_heavy: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Boundaries below the values at `starts`: next to a heavy value, or halfway between two of the same sort."""
    low, high = values[starts - 1], values[starts]
    # Not the least number above zero: where denormals are flushed to zero, zero would equal it.
    above = np.where(low == 0, np.finfo(np.float64).tiny, np.nextafter(low, np.inf))
    beside = np.where(is_heavy[starts], high, above)
    border = np.where(is_heavy[starts] == is_heavy[starts - 1], low / 2 + high / 2, beside)
    return _between(low, border, high)


def _between(low: np.ndarray, border: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The boundaries, or `high` where rounding or overflow left one outside of (low, high]."""
    return np.where((low < border) & (border <= high), border, high)


def _merge_parts(starts: np.ndarray, counts: np.ndarray, num_buckets: int) -> np.ndarray:
    """Merge the part with the fewest rows with the smaller part beside it, until there are `num_buckets` parts."""
    sizes, merged = np.add.reduceat(counts, [0, *starts]).tolist(), starts.tolist()
    while len(sizes) > num_buckets:
        least = sizes.index(min(sizes))
        beside = [part for part in (least - 1, least + 1) if 0 <= part < len(sizes)]
        left, right = sorted((least, min(beside, key=lambda part: sizes[part])))
        sizes[left] += sizes.pop(right)
        del merged[left]
    return np.asarray(merged, dtype=np.int64)


def _share_out(num_buckets: int, ends: list[int], counts: np.ndarray) -> list[int]:
    """Number of buckets of each part `ends[i]:ends[i + 1]`, at most its number of values.

    Each part gets one, and the part with the most rows per bucket gets the next one.
    """
    room = np.diff(ends).tolist()
    sizes = np.add.reduceat(counts, ends[:-1]).tolist()
    shares = [1] * len(room)
    fullest = [(-size, part) for part, size in enumerate(sizes) if room[part] > 1]
    heapq.heapify(fullest)
    for _ in range(num_buckets - len(shares)):
        _, part = heapq.heappop(fullest)
        shares[part] += 1
        if shares[part] < room[part]:
            heapq.heappush(fullest, (-sizes[part] / shares[part], part))
    return shares


def _quantile_boundaries(values: np.ndarray, counts: np.ndarray, num_buckets: int) -> np.ndarray:
    """Boundaries between buckets of equally many rows."""
    quantiles = np.arange(1, num_buckets) / num_buckets
    with np.errstate(all="ignore"):
        borders = quantiles_of(values, counts, quantiles)
    # In whole numbers, so that rounding empties no bucket: the first row of each bucket, and its value.
    first_rows = -(-np.arange(1, num_buckets) * (counts.sum() - 1) // num_buckets)
    starts = np.searchsorted(np.cumsum(counts), first_rows, side="right")
    return _between(values[starts - 1], borders, values[starts])


def _log_boundaries(values: np.ndarray, counts: np.ndarray, num_buckets: int, scale: float) -> np.ndarray:
    """Boundaries between buckets of equal widths on the logarithmic scale."""
    # Magnitudes that differ by 300 decades overflow, and are dropped below.
    with np.errstate(all="ignore"):
        first, last = (np.sign(end) * np.log1p(np.abs(end) / scale) for end in (values[0], values[-1]))
        steps = np.linspace(first, last, num_buckets + 1)[1:-1]
        borders = np.sign(steps) * np.expm1(np.abs(steps)) * scale
    borders = borders[(values[0] < borders) & (borders <= values[-1])]
    # None is left if the logarithms of all values are equal except for rounding.
    return borders if len(borders) else _quantile_boundaries(values, counts, num_buckets)
