# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Values that stand for missing cells among numbers, times and words."""

import re

import numpy as np

from ..amounts_clickprompt import advice_on_numbers
from ..values_clickprompt import percent
from .column_profile import ColumnProfile

# Written by people and programs for missing values, in any case. Among numbers and times they mean nothing else.
_WORDS_FOR_MISSING = {
    *("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "null", "(null)", "[null]", "<null>", "none", "nil", "nan", "nat"),
    *("-", "--", "---", "?", "??", ".", "..", "...", "\\n", "unknown", "unk", "missing", "undefined", "empty"),
    *("not available", "not applicable", "not known", "no data", "#value!", "#ref!", "#div/0!", "#null!", "#num!"),
}
# In other columns, these may be ordinary words, so they are only doubted.
DOUBTFUL_WORDS = {"unknown", "unk", "none", "nil", "empty", "missing", "undefined", "not applicable", "...", "[null]"}
# Dates without digits other than zero, and the last day that databases can write.
_NO_TIME = re.compile(r"-1|(?=.*0)[-0/.: TZ+]+|(9999[-/.]?12[-/.]?31|(31|12)[-/.](12|31)[-/.]9999).*")


def means_missing(value: str) -> bool:
    return value.lower() in _WORDS_FOR_MISSING


def is_no_time(value: str) -> bool:
    """Whether a value among times stands for a missing one, such as `0000-00-00`."""
    return bool(_NO_TIME.fullmatch(value))


def words_beside(profile: ColumnProfile, is_read: np.ndarray, what: str, most_unread: float) -> list[str] | None:
    """Words for missing values in a column of numbers or times.

    A word that is none of the usual ones counts as well if it is the only one and repeats.

    Args:
        profile: The column.
        is_read: (V,) whether a value is a number or a time.
        what: `"numbers"` or `"times"`.
        most_unread: Largest share of rows, without those of such words, that may hold anything else.

    Returns:
        The words; `None` if the column holds too much else.
    """
    unread = np.flatnonzero(~is_read).tolist()
    words = [v for v in unread if means_missing(profile.values[v])]
    others = [v for v in unread if not means_missing(profile.values[v])]
    if len(others) == 1:
        word, count = profile.values[others[0]], profile.counts[others[0]]
        if 2 <= count <= profile.counts.sum() / 2 and not re.search(r"\d", word):
            profile.doubts.append(f"{word!r} ({percent(profile.share(others[0]))}) counts as missing; see `missing`")
            words, others = words + others, []
    known = profile.counts.sum() - profile.counts[words].sum()
    if not is_read.any() or profile.counts[others].sum() > most_unread * known:
        return None
    if others:
        shown = ", ".join(repr(profile.values[v]) for v in others[:3])
        rows = int(profile.counts[others].sum())
        written = advice_on_numbers(profile.values[v] for v in others) if what == "numbers" else ""
        advice = f"; {written}" if written else ""
        profile.doubts.append(
            f"cells such as {shown} are not {what} and count as missing: {rows:,} "
            f"({percent(rows / profile.num_rows)}){advice}"
        )
    return [profile.values[v] for v in words]
