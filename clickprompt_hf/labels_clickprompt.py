# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click labels: which values mean a click, and which are not labels.

Ships with checkpoints: imports only numpy and the standard library.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from .values_clickprompt import canonical, each_distinct, meaning_of, normal_number, number_of


def labels_of(values: Iterable, positive: str | None = None) -> np.ndarray:
    """Read click labels: (N,) float64, 1 for a click, 0 for no click, NaN for a value that is not a label.

    Args:
        values: Labels as numbers, truth values or strings of these; with `positive`, any words.
        positive: `Schema.positive`: the value that means a click, in upper or lower case. Any other value means no
            click, and a missing one is not a label. Next to a word, 0 and 1 keep their meaning; next to a number,
            booleans keep theirs.
    """
    if positive is not None:
        label_of = _label_by_number(positive) if is_number_of_click(positive) else _label_in_words(positive)
        return np.asarray(each_distinct(values, label_of), dtype=np.float64)
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        labels = values.astype(np.float64)
    else:
        labels = np.asarray(each_distinct(values, number_of), dtype=np.float64)
    return np.where(np.isin(labels, (0, 1)), labels, np.nan)


def is_number_of_click(positive: str | None) -> bool:
    """Whether `Schema.positive` is a number other than 1, so that 1 may be the label of no click."""
    return positive is not None and normal_number(canonical(positive)) not in (None, "1")


def _label_in_words(positive: str) -> Callable[[Any], float]:
    clicks = {"1", canonical(positive).casefold(), (meaning_of(positive) or positive).casefold()}

    def label_of(value: Any) -> float:
        text = canonical(value)
        return float(not clicks.isdisjoint((text.casefold(), meaning_of(text)))) if text else float("nan")

    return label_of


def _label_by_number(positive: str) -> Callable[[Any], float]:
    click = normal_number(canonical(positive))

    def label_of(value: Any) -> float:
        if isinstance(value, (bool, np.bool_)):
            return float(value)
        text = canonical(value)
        return float(normal_number(text) == click) if text else float("nan")

    return label_of


def check_labels(
    values: Sequence | np.ndarray,
    column: str,
    positive: str | None = None,
    where: str = "the rows",
    row_offset: int = 0,
    advice: str = "",
) -> np.ndarray:
    """Read click labels and refuse values that are not labels.

    Args:
        values: As in `labels_of`.
        column: Name of their column, for the message.
        positive: As in `labels_of`.
        where: What the rows are part of, for the message.
        row_offset: Number of the first row, for the message.
        advice: Further advice for the message.

    Returns:
        (N,) int64, 0 or 1.

    Raises:
        ValueError: If a value is not a label; the message names it and its row.
    """
    labels = labels_of(values, positive)
    if (unknown := np.isnan(labels)).any():
        row = int(unknown.argmax())
        # By position: a pandas series is indexed by its labels.
        found = next(islice(values, row, None))
        found = found.item() if isinstance(found, np.generic) else found
        expected = "0 or 1" if positive is None else f"0, 1 or words ({positive!r} for a click)"
        if is_number_of_click(positive):
            expected = f"numbers or words ({positive!r} for a click)"
        if positive is None and canonical(found):
            advice = f" For other labels, set `positive` in the schema to the value that means a click.{advice}"
        elif not canonical(found):
            num_missing = sum(not canonical(value) for value in values)
            advice = f" {num_missing:,} of {len(labels):,} labels are missing: remove these rows first.{advice}"
        raise ValueError(
            f"Labels in column {column!r} must be {expected}, got {found!r} in row {row_offset + row} of {where}, "
            f"counted from 0.{advice}"
        )
    return labels.astype(np.int64)
