# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns whose cells hold several values."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..lists_clickprompt import UnreadableCell, cell_values, looks_weighted
from ..schema_clickprompt import FieldSchema
from ..values_clickprompt import number_of, percent
from .column_profile import ColumnProfile
from .written_numbers import question_triples

_WHOLE_NUMBER = re.compile(r"-?\d+")
# The separators of ASCII and other white space go first: cells are squeezed when they are spelled.
_SEPARATORS = ("\x1d", "\x1e", "\x1f", "\t", "\n", "|", ";", ", ", ",", " ")
# Texts have more words than the members of lists.
WORDS_OF_TEXT = 3


def try_multi_valued(profile: ColumnProfile, raw: Mapping[str, Any]) -> bool:
    """Tell whether cells hold several values, split at a separator, and set what follows.

    Args:
        profile: The column.
        raw: For each value, a cell as it was read, before white space was collapsed.
    """
    if profile.counts[_in_brackets(profile.values)].sum() >= 0.5 * profile.counts.sum():
        field = FieldSchema(profile.name, kind="multi_valued")
        try:
            cells = [cell_values(raw[value], field) for value in profile.values]
        except UnreadableCell as error:
            profile.reason_left_out = f"lists that cannot be read, such as {error.cell!r:.60}: {error.problem}"
            return True
        if cells != [[value] for value in profile.values]:
            set_multi_valued(profile, cells, profile.counts, "lists written as text")
            return True
    for separator in _SEPARATORS:
        with_separator = [v for v, value in enumerate(profile.values) if separator in str(raw[value])]
        if profile.counts[with_separator].sum() < 0.1 * profile.counts.sum():
            continue
        field = FieldSchema(profile.name, kind="multi_valued", separator=separator)
        try:
            cells = [cell_values(raw[value], field) for value in profile.values]
            elements = Counter(element for cell in cells for element in cell)
            if weighted := looks_weighted(elements):
                field = replace(field, weight_separator=":")
                cells = [cell_values(raw[value], field) for value in profile.values]
        except UnreadableCell:
            # A few cells look like broken lists written as text.
            return False
        if weighted:
            is_list = True
        elif all(map(_WHOLE_NUMBER.fullmatch, elements)):
            # Whole numbers cannot be the parts of a sentence. Those of dates and phone numbers are equally many.
            is_list = separator != " " or len(set(map(len, cells))) > 1
        elif separator == " ":
            is_list = all(re.search(r"\d", element) for element in elements) and len(set(map(len, cells))) > 1
        else:
            is_list = _recur(elements, cells, profile.counts, separator)
        if is_list:
            profile.options["separator"] = separator
            if weighted:
                profile.options["weight_separator"] = ":"
            set_multi_valued(profile, cells, profile.counts, f"split at {separator!r}")
            if doubt := question_triples(profile.values, separator):
                profile.doubts.append(doubt)
                profile.marks = (".", separator.strip() or " ")
            return True
    return False


def _in_brackets(values: Sequence[str]) -> list[int]:
    """Indices of values that begin with a bracket and end with its counterpart."""
    return [v for v, value in enumerate(values) if (value[0], value[-1]) in (("[", "]"), ("(", ")"), ("{", "}"))]


def _recur(elements: Counter[str], cells: list[list[str]], counts: np.ndarray, separator: str) -> bool:
    """Whether the parts of cells are short and recur, as those of lists do, and not those of sentences."""
    shown: Counter[str] = Counter()
    for cell, count in zip(cells, counts.tolist()):
        shown.update(dict.fromkeys(cell, count))
    # Averaged over all rows: among distinct cells, only short parts of sentences recur, such as "17 rooms".
    words = sum(len(element.split()) * count for element, count in shown.items()) / max(sum(shown.values()), 1)
    most_words = WORDS_OF_TEXT - 1 if "," in separator else WORDS_OF_TEXT
    reused = sum(elements.values()) / max(len(elements), 1)
    return words <= most_words and reused >= (3 if "," in separator else 1.5)


def set_multi_valued(profile: ColumnProfile, cells: list[list[str]], counts: np.ndarray, written: str) -> None:
    """Make the column multi-valued.

    Args:
        profile: The column.
        cells: The elements of each distinct cell, or of each row.
        counts: (len(cells),) rows with each.
        written: How the elements are written, in words.
    """
    sizes = np.repeat([len(cell) for cell in cells], counts)
    elements = {element for cell in cells for element in cell}
    most = max(2, min(20, int(np.quantile(sizes, 0.95))))
    profile.kind = "multi_valued"
    profile.options = {"max_values": most, **profile.options}
    profile.summary = f"{written}, {len(elements):,} elements, up to {sizes.max()} per row"
    numbers = np.asarray([number_of(element) for element in elements])
    if np.isfinite(numbers).all() and (numbers % 1 != 0).any():
        profile.doubts.append(
            "lists of fractions, each a separate category: `kind: vector` needs lists in brackets, of the same "
            "length and without missing entries"
        )
    if sizes.max() > most:
        larger = percent(float((sizes > most).mean()))
        profile.doubts.append(
            f"{larger} of the rows have more than max_values elements; only the first ones get ids, or the last ones "
            "with `keep: last`"
        )
