# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What a raw cell means in its field: its vocabulary keys, its part of a time, its text.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .lists_clickprompt import cell_values, kept_values
from .schema_clickprompt import TIME_PARTS, FieldSchema
from .values_clickprompt import canonical, each_distinct, holds_several, normal_spelling, number_of, read_time

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)


def vocabulary_keys(value: Any, field: FieldSchema, boundaries: list[float]) -> list[str]:
    """Vocabulary keys of a raw value, at least one. The key of a missing or unreadable value is the empty string."""
    if field.kind == "multi_valued":
        return kept_values(cell_values(value, field), field) or [""]
    if field.kind == "numeric":
        number = number_of(value)
        return [str(int(np.searchsorted(boundaries, number, side="right"))) if np.isfinite(number) else ""]
    if field.kind in TIME_PARTS:
        return [time_part(value, field)]
    return [canonical(value)]


def time_part(value: Any, field: FieldSchema) -> str:
    """The field's part of a time, such as `"14"`, `"Monday"` or `"January"`; empty if `value` is not a time."""
    time = read_time(value, field.time_format)
    if time is None:
        return ""
    if field.kind == "hour":
        return str(time.hour)
    return _WEEKDAYS[time.weekday()] if field.kind == "weekday" else _MONTHS[time.month - 1]


def without_missing_words(values: list[Any], field: FieldSchema) -> list[Any]:
    """Replace cells that the field's schema lists as missing, in any spelling, by `None`."""
    if not field.missing:
        return values
    words = set(map(normal_spelling, field.missing))
    return each_distinct(values, lambda value: None if normal_spelling(value) in words else value)


def mean_missing(cells: Sequence, field: FieldSchema) -> np.ndarray:
    """Tell which cells of a category, (B,), are missing, or a word for it that training rows did not have."""
    words = {"", *map(normal_spelling, field.missing)}
    return np.asarray([normal_spelling(cell) in words for cell in cells], dtype=bool)


def texts_of(cells: Sequence, field: FieldSchema) -> list[str | None]:
    """The text of each cell of a field, empty if it is missing; `None` for cells that hold vectors."""
    single = [None if holds_several(cell) else cell for cell in cells]
    known = without_missing_words(single, field)
    if field.columns:
        # clauses, which must stay as a PLM reads them
        return [None if holds_several(cell) else canonical(text) and str(text) for cell, text in zip(cells, known)]
    return [None if holds_several(cell) else canonical(text) for cell, text in zip(cells, known)]


def index_of(cell: Any, values: list[Any]) -> int:
    """Index of `cell` in `values`; strings are found by value, as columns repeat them."""
    return next(i for i, value in enumerate(values) if value is cell or (isinstance(cell, str) and value == cell))
