# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Warnings about cells that do not fit their field: not numbers, not times, or times of another kind.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from collections.abc import Iterable, Sequence
from itertools import compress, islice
from typing import Any

import numpy as np

from .amounts_clickprompt import advice_on_numbers
from .cells_clickprompt import vocabulary_keys
from .schema_clickprompt import TIME_PARTS, FieldSchema
from .values_clickprompt import canonical, each_distinct, format_of_digits, is_missing, percent, read_time
from .warnings_clickprompt import warn_at_caller

# Number of cells that show how a column is written.
_CELLS_TRIED = 1000


class UnreadCells:
    """Counts cells of a numeric field, or of a part of a time, that are neither missing nor readable.

    Args:
        field: The field.
    """

    def __init__(self, field: FieldSchema):
        self.field, self.count, self.total = field, 0, 0
        self.examples: list[Any] = []
        self._has_warned = False

    def add(self, values: Sequence, is_missing_id: np.ndarray, repeats: np.ndarray | None = None) -> None:
        """Count cells.

        Args:
            values: V raw values.
            is_missing_id: (V,) whether each has the id of a missing value, as all such cells have.
            repeats: As in `encode_values`.
        """
        repeats = np.ones(len(values), dtype=np.int64) if repeats is None else repeats
        self.total += int(repeats.sum())
        candidates = np.flatnonzero(is_missing_id & (repeats > 0)).tolist()
        is_unread = each_distinct(
            [values[v] for v in candidates],
            lambda cell: vocabulary_keys(cell, self.field, []) == [""] and not is_missing(cell),
        )
        unread = list(compress(candidates, is_unread))
        self.count += int(repeats[unread].sum())
        self.examples += [values[v] for v in unread[: max(0, _CELLS_TRIED - len(self.examples))]]

    @property
    def counts(self) -> list:
        """Number of unread cells, number of all cells, and examples of unread ones, as plain data."""
        return [self.count, self.total, self.examples]

    def merge(self, counts: list) -> None:
        """Add the `counts` of other rows, which may come from another process."""
        count, total, examples = counts
        self.count, self.total = self.count + count, self.total + total
        self.examples = [*self.examples, *examples][:_CELLS_TRIED]

    def warn(self, where: str = "") -> None:
        """Warn about the cells, if there are any, once.

        Args:
            where: What the cells are part of, for the message, such as `" of rows.csv"`.
        """
        if not self.examples or self._has_warned:
            return
        self._has_warned = True
        field, example = self.field, self.examples[0]
        what = "numbers" if field.kind == "numeric" else "times"
        written = f" in the `time_format` {field.time_format!r}" if field.time_format else ""
        warn_at_caller(
            f"Column {field.column!r} of kind {field.kind!r} should hold {what}{written}; {self.count:,} of "
            f"{self.total:,} cells{where} ({percent(self.count / self.total)}), such as {example!r:.80}, count as "
            f"missing."
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """How the cells should be written or read: a sentence that starts with a space, or an empty string."""
        if self.field.kind == "numeric":
            texts = (cell.strip() if isinstance(cell, str) else canonical(cell) for cell in self.examples)
            advice = advice_on_numbers(texts)
            return f" {advice[0].upper()}{advice[1:]}." if advice else ""
        time_format = None if self.field.time_format else format_of_digits(self.examples[0])
        return f" They may be dates in the `time_format` {time_format!r}." if time_format else ""


def warn_of_dates_as_seconds(field: FieldSchema, cells: Iterable) -> None:
    """Warn if the first thousand cells that a field without `time_format` reads as seconds are dates in digits."""
    if field.kind not in TIME_PARTS or field.time_format is not None:
        return
    example, time_format = "", None
    for cell in islice(cells, _CELLS_TRIED):
        if isinstance(cell, (str, int, float, np.number)) and (text := canonical(cell)).isdigit() and read_time(text):
            time_format = format_of_digits(text)
            if time_format is None:
                return
            example = example or text
    if example:
        warn_at_caller(
            f"Column {field.column!r} of kind {field.kind!r} has no `time_format`, so cells like {example!r} are "
            f"read as seconds since 1970, or fractions of them: as {read_time(example):%Y-%m-%d %H:%M}. If they are "
            f"digit-only dates, give the field `time_format: {time_format!r}`; if the model is already trained, "
            "format them as in training."
        )
