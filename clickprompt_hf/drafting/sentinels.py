# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Sentinels: numbers that may stand for missing cells, such as -999 among ages."""

import re

import numpy as np

from ..values_clickprompt import normal_spelling, percent
from .column_profile import ColumnProfile

_SMALL_CODE = re.compile(r"-[1-9]")
_LARGE_CODE = re.compile(
    r"-?9{2,}(\.9+)?|-32768|32767|65535|-?214748364[78]|4294967295|-?9223372036854775807|-9223372036854775808"
)
# In fewer rows, a number may be a slip; with fewer other numbers, it is unclear where they end.
_LEAST_ROWS, _LEAST_OTHERS = 2, 10
_MOST_SMALL_CODES, _MOST_LARGE_CODES = 4, 3
# A number is apart from the others if it is further away than this share of what they span.
_GAP = 0.5
# It is a pile if it is this many times as frequent as the median of the others, and in this share of the rows.
_PILE, _PILE_SHARE = 5, 0.005
# Zero is apart if the others start above this share of their median, and this many of their usual steps above zero.
_FROM_MEDIAN, _STEPS, _MOST_ZEROS = 0.25, 3, 0.5


def question_sentinels(profile: ColumnProfile) -> None:
    """Question the sentinels of a numeric column: numbers that may stand for missing cells.

    Each of them is in at least two rows and at an end of the column's numbers:

    - whole numbers from -1 to -9, if no other number is negative; more than one only if each is a pile,
    - nines, such as -999 or 9999, and the ends of integer types, if they are apart from the others, or a pile above
      them,
    - zero, if all others are far above it and at least half of the rows have them.
    """
    if profile.kind != "numeric" or profile.numbers is None or profile.reason_left_out:
        return
    known = np.flatnonzero(np.isfinite(profile.numbers))
    order = known[np.argsort(profile.numbers[known])]
    order, found = _without_large_codes(profile, order)
    order, more = _without_small_codes(profile, order)
    found += more
    if not more and _is_zero_apart(profile, order):
        order, found = order[1:], [*found, int(order[0])]
    if not found:
        return
    found.sort(key=profile.numbers.__getitem__)
    shown = " and ".join(f"{profile.values[v]} ({percent(profile.share(v))})" for v in found)
    listed = ", ".join([*map(repr, profile.options.get("missing", [])), *(profile.values[v] for v in found)])
    low, high = profile.numbers[order[0]], profile.numbers[order[-1]]
    profile.doubts.append(
        f"{'does' if len(found) == 1 else 'do'} {shown} mean missing, among numbers from {low:.6g} to {high:.6g}? "
        f"Then the field needs `missing: [{listed}]`"
    )


def _without_large_codes(profile: ColumnProfile, order: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Take codes such as -999 or 9999 from the ends of a column's values, given their order by number."""
    found: list[int] = []
    while len(found) < _MOST_LARGE_CODES:
        ends = ((int(order[0]), order[1:]), (int(order[-1]), order[:-1]))
        taken = next(((end, others) for end, others in ends if _is_large_code(profile, end, others)), None)
        if taken is None:
            break
        found.append(taken[0])
        order = taken[1]
    return order, found


def _is_large_code(profile: ColumnProfile, end: int, others: np.ndarray) -> bool:
    if len(others) < _LEAST_OTHERS or profile.counts[end] < _LEAST_ROWS:
        return False
    if not _LARGE_CODE.fullmatch(normal_spelling(profile.values[end])):
        return False
    numbers: np.ndarray = profile.numbers  # type: ignore[assignment]
    first, last = numbers[others[0]], numbers[others[-1]]
    if max(first - numbers[end], numbers[end] - last) > _GAP * (last - first):
        return True
    return bool(numbers[end] > last) and _is_pile(profile, end, others) and profile.share(end) >= _PILE_SHARE


def _without_small_codes(profile: ColumnProfile, order: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Take the negative numbers from the ordered values if all of them are codes."""
    is_negative = profile.numbers[order] < 0  # type: ignore[index]
    codes, others = order[is_negative].tolist(), order[~is_negative]
    are_codes = (
        0 < len(codes) <= _MOST_SMALL_CODES
        and len(others) >= _LEAST_OTHERS
        and all(_SMALL_CODE.fullmatch(normal_spelling(profile.values[v])) for v in codes)
        and all(profile.counts[v] >= _LEAST_ROWS for v in codes)
        and (len(codes) == 1 or all(_is_pile(profile, v, others) for v in codes))
    )
    return (others, codes) if are_codes else (order, [])


def _is_zero_apart(profile: ColumnProfile, order: np.ndarray) -> bool:
    numbers = profile.numbers[order]  # type: ignore[index]
    if len(order) <= _LEAST_OTHERS or numbers[0] != 0 or profile.counts[order[0]] < _LEAST_ROWS:
        return False
    others = numbers[1:]
    median = np.median(np.repeat(others, profile.counts[order[1:]]))
    is_far = others[0] >= max(_FROM_MEDIAN * median, _STEPS * np.median(np.diff(others)))
    return bool(is_far) and profile.share(int(order[0])) <= _MOST_ZEROS


def _is_pile(profile: ColumnProfile, v: int, others: np.ndarray) -> bool:
    return bool(profile.counts[v] >= _PILE * np.median(profile.counts[others]))
