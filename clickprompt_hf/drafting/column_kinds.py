# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Guess from the cells of a column which kind of field it is, and note doubts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..columns_clickprompt import cells_of
from ..labels_clickprompt import labels_of
from ..schema_clickprompt import FieldSchema
from ..values_clickprompt import percent, spellings
from ..vectors_clickprompt import UnreadableVector, read_vectors
from .column_profile import ColumnProfile
from .list_columns import WORDS_OF_TEXT, set_multi_valued, try_multi_valued
from .missing_words import DOUBTFUL_WORDS, means_missing
from .number_columns import try_amounts, try_numbers
from .time_columns import try_mixed_times, try_time_format, try_times

# Shorter lists of fractions may be categories, though they hardly ever are.
_USUAL_VECTOR_SIZE = 8
_LIST_TYPES = (
    *(pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list),
    *(pa.types.is_list_view, pa.types.is_large_list_view),
)
_GROUPS_SHOWN = 3
_MIN_TEXTS = 50
_LONG_TEXT = 200


def profile_column(name: str, column: pa.ChunkedArray) -> ColumnProfile:
    """Profile a column.

    Args:
        name: The column's name.
        column: At least one cell, of any type; strings are read as the cells of a CSV file.
    """
    is_list = any(test(column.type) for test in _LIST_TYPES)
    cells = cells_of(column)
    if size := _vector_size(cells, column.type, is_list):
        return _vector_profile(name, cells, size)
    elements = [[element for element in spellings(cell or ()) if element] for cell in cells] if is_list else None
    shown = spellings(cells) if elements is None else [", ".join(cell) for cell in elements]
    counted = pd.Series(shown, dtype=object).value_counts(sort=True)
    counted = counted[counted.index != ""]
    values = counted.index.tolist()
    value_ids = pd.Index(values, dtype=object).get_indexer(pd.Index(shown, dtype=object))
    profile = ColumnProfile(name, values, counted.to_numpy(dtype=np.int64), value_ids)
    if not name.strip():
        profile.reason_left_out = "no column name, as for row numbers written by pandas"
    elif pa.types.is_nested(column.type) and (not is_list or pa.types.is_nested(column.type.value_type)):
        profile.reason_left_out = f"cells of type {column.type} cannot be a field; make one column per value"
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        profile.reason_left_out = "bytes cannot be a field"
    elif not values:
        profile.reason_left_out = "empty column"
    elif len(values) == 1 and not profile.missing:
        profile.reason_left_out = "same value in every row"
    elif elements is not None:
        known = [cell for cell in elements if cell]
        set_multi_valued(profile, known, np.ones(len(known), dtype=np.int64), "lists")
    else:
        _guess_kind(profile, column.type, dict(zip(shown, cells)))
    return profile


def _vector_size(cells: Sequence[Any], cell_type: pa.DataType, is_list: bool) -> int | None:
    """Number of entries if the cells are lists of fractions, all of one length and none missing; `None` otherwise."""
    known = [cell for cell in cells if isinstance(cell, (str, list)) and cell]
    if is_list and pa.types.is_floating(cell_type.value_type):
        lengths = set(map(len, known))
        if len(lengths) != 1 or not np.isfinite(np.asarray(known, dtype=np.float64)).all():
            return None
        return lengths.pop()
    if not known or not all(map(_has_fraction, known)):
        return None
    try:
        return read_vectors(known, FieldSchema("vectors", kind="vector"))[1] or None
    except UnreadableVector:
        return None


def _has_fraction(cell: Any) -> bool:
    """Whether a cell is a list with a fraction, written as text or with members that are, as in JSON lines."""
    if isinstance(cell, str):
        return "." in cell and cell.lstrip().startswith("[")
    return isinstance(cell, list) and any(isinstance(member, str) and "." in member for member in cell)


def _vector_profile(name: str, cells: Sequence[Any], size: int) -> ColumnProfile:
    """Profile a column of vectors, whose distinct values are numbered."""
    keys = [hash(tuple(cell) if isinstance(cell, list) else cell) if cell else None for cell in cells]
    value_ids, values = pd.factorize(pd.Series(keys, dtype=object))
    counts = np.bincount(value_ids[value_ids >= 0], minlength=len(values))
    shown = [f"vector {number}" for number in range(len(values))]
    profile = ColumnProfile(name, shown, counts, value_ids, kind="vector", summary=f"vectors of {size} numbers")
    if size < _USUAL_VECTOR_SIZE:
        profile.doubts.append(
            "lists of fractions of equal length are vectors; if the numbers are categories, use `kind: multi_valued`"
        )
    if not name.strip():
        profile.reason_left_out = "no column name, as for row numbers written by pandas"
    return profile


def _guess_kind(profile: ColumnProfile, cell_type: pa.DataType, raw: Mapping[str, Any]) -> None:
    """Set the kind of a column of single values, and what follows from it. `raw` has a cell as read for each value."""
    if pa.types.is_temporal(cell_type) and not pa.types.is_time(cell_type) and not pa.types.is_duration(cell_type):
        try_time_format(profile, None, most_unread=1)
    elif all(map(means_missing, profile.values)) or len(profile.values) == 2 or pa.types.is_boolean(cell_type):
        pass
    elif not (
        try_numbers(profile)
        or try_times(profile)
        or try_mixed_times(profile)
        or try_amounts(profile)
        or _is_place(profile)
        or try_multi_valued(profile, raw)
    ):
        _try_text(profile)
    if profile.kind == "categorical" and not profile.has_only_codes and (doubt := _question_spellings(profile.values)):
        profile.doubts.append(doubt)
    if profile.kind not in ("numeric", "time") and "missing" not in profile.options:
        for v, value in enumerate(profile.values):
            if means_missing(value) and value.lower() not in DOUBTFUL_WORDS:
                profile.doubts.append(
                    f"{value!r} ({percent(profile.share(v))}) is treated as an ordinary value; if it means missing, "
                    f"add `missing: [{value!r}]` to the field"
                )


def _question_spellings(values: Sequence[str]) -> str | None:
    """A doubt if values differ only in upper and lower case, or are truth values in several spellings."""
    groups: dict[str, list[str]] = {}
    truths = labels_of(values).tolist()
    are_truths = bool(np.isfinite(truths).all())
    for value, truth in zip(values, truths):
        groups.setdefault(str(truth) if are_truths else value.casefold(), []).append(value)
    alike = [", ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if not alike:
        return None
    more = f" and {len(alike) - _GROUPS_SHOWN:,} more" if len(alike) > _GROUPS_SHOWN else ""
    return f"each of these counts as a separate value: {'; '.join(alike[:_GROUPS_SHOWN])}{more}; write them alike"


def _is_place(profile: ColumnProfile) -> bool:
    """Whether the column holds names of places that repeat, such as `Austin, TX`: neither lists nor sentences."""
    return profile.is_named_place and 2 * len(profile.values) <= profile.counts.sum()


def _try_text(profile: ColumnProfile) -> None:
    """Make the column free text if its values are sentences."""
    lengths = np.asarray([len(value.split()) for value in profile.values])
    words = float(np.average(lengths, weights=profile.counts))
    if words >= WORDS_OF_TEXT and len(profile.values) > _MIN_TEXTS:
        profile.kind = "text"
        profile.summary = f"{words:.0f} words on average, up to {lengths.max():,}"
        if lengths.max() > _LONG_TEXT:
            profile.doubts.append("long texts; with a PLM, set max_text_length to truncate them")
