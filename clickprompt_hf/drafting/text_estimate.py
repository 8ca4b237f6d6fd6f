# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Estimate how much text a table gives a language model and how many rows share it, from profiles of its columns."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..cells_clickprompt import time_part
from ..data.text_variants import distinct_texts
from ..schema_clickprompt import TIME_PARTS, FieldSchema
from .column_profile import ColumnProfile

# Returns the number of tokens of each text, without special tokens.
TokenCounter = Callable[[Sequence[str]], Sequence[float]]
FieldOfColumn = tuple[ColumnProfile, FieldSchema]
# A common rule of thumb for English.
_CHARACTERS_PER_TOKEN = 4
# Below this number of distinct values, ids do as well as words.
_MIN_WORDED_VALUES = 50
_MIN_LETTERS = 5
# With fewer rows per text than this, cached states save too little for their disk space.
ROWS_PER_TEXT = 2
_MOST_MORE_TEXTS = 1.1


@dataclass(frozen=True)
class TextEstimate:
    """Text of the rows of a table.

    Args:
        rows: Number of rows.
        tokens: Mean number of tokens per row.
        distinct_texts: Number of distinct texts.
    """

    rows: int
    tokens: float
    distinct_texts: int

    @property
    def is_shared(self) -> bool:
        """Whether rows share texts often enough that states of the texts are worth caching."""
        return self.distinct_texts * ROWS_PER_TEXT <= self.rows


def tokens_by_characters(texts: Sequence[str]) -> list[float]:
    """Estimate the number of tokens of each text, without a tokenizer."""
    return [len(text) / _CHARACTERS_PER_TOKEN for text in texts]


def estimate_text(fields: Sequence[FieldOfColumn], count_tokens: TokenCounter = tokens_by_characters) -> TextEstimate:
    """Estimate the text of a table.

    Args:
        fields: The fields in the text, at least one, each with the profile of its column.
        count_tokens: Counts the tokens of clauses.
    """
    clause_ids, tokens = [], 0.0
    for profile, field in fields:
        distinct, ids = _clauses(profile, field)
        clause_ids.append(ids)
        tokens += float(np.asarray(count_tokens(distinct))[ids].mean())
    return TextEstimate(len(clause_ids[0]), tokens, _count_texts(clause_ids))


def shared_text_fields(fields: Sequence[FieldOfColumn]) -> list[FieldOfColumn]:
    """Choose the fields of a text that many rows share, such as those of an item.

    They are the longest field among those with words, places apart, whose values at least two rows share on average,
    and each further field that adds at most a tenth to the number of distinct texts.

    Args:
        fields: The fields in the text, each with the profile of its column.

    Returns:
        The fields, in their order; empty if no field with words is shared by several rows.
    """
    most = max((profile.num_rows for profile, _ in fields), default=0) / ROWS_PER_TEXT
    shared = [
        (profile, field)
        for profile, field in fields
        if has_words(profile) and not profile.is_named_place and len(profile.values) <= most
    ]
    if not shared:
        return []
    richest = max(shared, key=lambda entry: _mean_length(entry[0]))
    chosen, clause_ids = [richest], [_clauses(*richest)[1]]
    num_texts = _count_texts(clause_ids)
    for entry in fields:
        ids = _clauses(*entry)[1]
        found = _count_texts([*clause_ids, ids])
        if entry is not richest and found <= min(_MOST_MORE_TEXTS * num_texts, most):
            chosen.append(entry)
            clause_ids.append(ids)
            num_texts = found
    return [entry for entry in fields if entry in chosen]


def has_words(profile: ColumnProfile) -> bool:
    """Whether a column holds words that a language model may understand and that are too varied for ids alone."""
    if profile.kind == "text":
        return True
    if profile.kind not in ("categorical", "multi_valued") or len(profile.values) <= _MIN_WORDED_VALUES:
        return False
    letters = [len(re.findall(r"[^\W\d_]", value)) for value in profile.values]
    return not profile.has_only_codes and float(np.average(letters, weights=profile.counts)) >= _MIN_LETTERS


def _mean_length(profile: ColumnProfile) -> float:
    return float(np.average([len(value) for value in profile.values], weights=profile.counts))


def _clauses(profile: ColumnProfile, field: FieldSchema) -> tuple[list[str], np.ndarray]:
    """The distinct clauses of a field, and each row's index among them (N,)."""
    clauses = [f" {field.name} is {_shown(value, field)}." for value in [*profile.values, ""]]
    # the last clause stands for missing values: their id, -1, indexes it
    distinct, ids = np.unique(np.asarray(clauses, dtype=object), return_inverse=True)
    return distinct.tolist(), ids[profile.value_ids]


def _count_texts(clause_ids: Sequence[np.ndarray]) -> int:
    return len(distinct_texts(np.stack(clause_ids, axis=1))[0])


def _shown(value: str, field: FieldSchema) -> str:
    if value in ("", *field.missing):
        return "unknown"
    return (time_part(value, field) or "unknown") if field.kind in TIME_PARTS else value
