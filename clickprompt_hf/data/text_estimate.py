# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Estimate how much text a table gives a language model, from the profiles of its columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..encoding_clickprompt import time_part
from ..schema_clickprompt import TIME_PARTS, FieldSchema
from .column_profile import ColumnProfile
from .text_variants import distinct_texts

# Returns the number of tokens of each text, without special tokens.
TokenCounter = Callable[[Sequence[str]], Sequence[float]]
# A common rule of thumb for English.
_CHARACTERS_PER_TOKEN = 4


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


def tokens_by_characters(texts: Sequence[str]) -> list[float]:
    """Estimate the number of tokens of each text, without a tokenizer."""
    return [len(text) / _CHARACTERS_PER_TOKEN for text in texts]


def estimate_text(
    fields: Sequence[tuple[ColumnProfile, FieldSchema]], count_tokens: TokenCounter = tokens_by_characters
) -> TextEstimate:
    """Estimate the text of a table.

    Args:
        fields: The fields in the text, at least one, each with the profile of its column.
        count_tokens: Counts the tokens of clauses.
    """
    clause_ids, tokens = [], 0.0
    for profile, field in fields:
        clauses = [f" {field.name} is {_shown(value, field)}." for value in [*profile.values, ""]]
        # the last one is that of missing values, whose id is -1
        distinct, ids = np.unique(np.asarray(clauses, dtype=object), return_inverse=True)
        clause_ids.append(ids[profile.value_ids])
        tokens += float(np.asarray(count_tokens(distinct.tolist()))[clause_ids[-1]].mean())
    first_rows, text_ids = distinct_texts(np.stack(clause_ids, axis=1))
    return TextEstimate(len(text_ids), tokens, len(first_rows))


def _shown(value: str, field: FieldSchema) -> str:
    if value in ("", *field.missing):
        return "unknown"
    return (time_part(value, field) or "unknown") if field.kind in TIME_PARTS else value
