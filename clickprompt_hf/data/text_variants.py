# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The distinct texts of rows, known by their tokens, and their masked variants.

Shapes: N rows, B batch, F fields, G fields in the text, U distinct texts, V variants per text, T text tokens of the
longest text.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from .collators import ClickPromptCLMCollator, ClickPromptMLMCollator, next_tokens
from .random_draws import draw_masks, hash_numbers

DEFAULT_MASKED_VARIANTS = 8
_TEXTS_HASHED_TOGETHER = 1 << 14


class TextRows(Protocol):
    """Rows with text, as `ColumnarDataset` holds them."""

    clause_ids: Any
    text_ids: Any
    row_ids: Any
    tables: Any
    epoch: int

    def __len__(self) -> int: ...


def distinct_texts(clause_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct texts of rows, in the order in which they appear.

    Rows with equal clauses have equal texts. Rows with different clauses count as different texts, even if their
    tokens are the same by chance.

    Args:
        clause_ids: (N, G) int32, as `encode_tables` returns them.

    Returns:
        `first_rows` (U,) int64, the first row with each text, in ascending order; and `text_ids` (N,) int64, each
        row's text, in [0, U), so that `text_ids[first_rows]` is 0, 1, ..., U - 1.
    """
    codes, size = np.zeros(len(clause_ids), dtype=np.int64), 1
    for column in clause_ids.T:
        low, high = (int(column.min()), int(column.max())) if len(column) else (0, 0)
        # Several columns are digits of one number; only numbers that would overflow are hashed in between.
        if size * (high - low + 1) > np.iinfo(np.int64).max:
            codes, found = pd.factorize(codes)
            size = len(found)
        codes = codes * (high - low + 1) + (column.astype(np.int64) - low)
        size *= high - low + 1
    text_ids = pd.factorize(codes)[0].astype(np.int64)
    # Numbers ascend in the order of appearance.
    highest_before = np.maximum.accumulate(np.concatenate([[-1], text_ids]))[:-1]
    return np.flatnonzero(text_ids > highest_before), text_ids


def text_ids_of(rows: TextRows) -> np.ndarray:
    """The distinct text of each row, (N,) int64: those that were prepared, else numbers of the distinct clauses."""
    if rows.tables is None or rows.clause_ids is None:
        raise ValueError("`cache_text_states` needs rows with text: these were encoded without a tokenizer.")
    if rows.text_ids is not None:
        return rows.text_ids
    return distinct_texts(rows.clause_ids)[1]


def text_keys(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Hash the tokens of texts, (U, T) and their mask, to (U,) uint64.

    The hash chains SplitMix64 over the tokens. The probability that any two of ten million texts share a key is 3e-6.
    """
    keys = hash_numbers(attention_mask.sum(axis=1).astype(np.uint64))
    for tokens, is_text in zip(input_ids.T, attention_mask.T):
        keys = np.where(is_text == 1, hash_numbers(keys ^ tokens.astype(np.uint64)), keys)
    return keys


def chosen_variants(num_variants: int, seed: int, epoch: int, row_ids: np.ndarray) -> np.ndarray:
    """The masked variant of its text that each row uses: a function of (seed, epoch, row).

    A row uses its text's variants in turn, one per epoch, from one that is drawn for the row.

    Args:
        num_variants: V.
        seed: Seed of the draw.
        epoch: Training epoch.
        row_ids: (B,), unique within a run.

    Returns:
        (B,) int64, each in [0, V).
    """
    first = hash_numbers(hash_numbers(np.uint64(seed)) ^ row_ids.astype(np.uint64)) % np.uint64(num_variants)
    return (first.astype(np.int64) + epoch) % num_variants


def variant_tokens(
    rows: TextRows, clause_ids: np.ndarray, keys: np.ndarray, variants: np.ndarray, collator: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Variants of texts as the PLM reads them.

    The masks are a function of the seed, the text's tokens and the variant's number.

    Args:
        rows: The dataset, for its tables.
        clause_ids: (U, F)
        keys: (U,), keys of the texts, not masked.
        variants: (U,), numbers of the variants.
        collator: The collator of pretraining, or another one, which masks nothing.

    Returns:
        Token ids and attention mask, (U, T) each, and the tokens to predict, (U, T); `None` for click prediction.
    """
    input_ids, attention_mask = rows.tables.assemble(clause_ids)
    if isinstance(collator, ClickPromptCLMCollator):
        return input_ids, attention_mask, next_tokens(input_ids, attention_mask)
    if not isinstance(collator, ClickPromptMLMCollator):
        return input_ids, attention_mask, None
    fields = rows.tables.assemble_value_fields(clause_ids) if collator.masking == "field" else None
    with np.errstate(over="ignore"):
        draws = draw_masks(input_ids.shape, collator.seed, 0, keys + variants.astype(np.uint64))
    masked_ids, labels = collator.mask(input_ids, attention_mask, draws, fields)
    return masked_ids, attention_mask, labels


@dataclass(eq=False)
class DistinctTexts:
    """The distinct texts of a dataset, and the keys of their variants; `DistinctTexts.of` finds them.

    Args:
        rows: The dataset.
        collator: The collator of pretraining; `None` for click prediction.
        text_ids: (U,), ascending.
        first_rows: (U,), a row with each of them.
        text_keys: (U,), keys of the texts, not masked.
        keys: (U, V), keys of their variants.
        lengths: (U,), numbers of tokens.
    """

    rows: TextRows
    collator: Any
    text_ids: np.ndarray
    first_rows: np.ndarray
    text_keys: np.ndarray
    keys: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(
        cls, rows: TextRows, collator: Any = None, masked_variants: int = DEFAULT_MASKED_VARIANTS
    ) -> "DistinctTexts":
        """Find the distinct texts of rows, and hash their tokens.

        Args:
            rows: The dataset.
            collator: The collator of pretraining, which masks texts (`ClickPromptMLMCollator`) or predicts their next
                tokens (`ClickPromptCLMCollator`); `None` for click prediction.
            masked_variants: V, masked variants per text, for `ClickPromptMLMCollator` only.

        Raises:
            ValueError: If the rows have no text.
        """
        num_variants = masked_variants if isinstance(collator, ClickPromptMLMCollator) else 1
        text_ids, first_rows = np.unique(text_ids_of(rows), return_index=True)
        size = len(text_ids)
        found = cls(
            rows,
            collator,
            text_ids,
            first_rows,
            text_keys=np.zeros(size, dtype=np.uint64),
            keys=np.zeros((size, num_variants), dtype=np.uint64),
            lengths=np.zeros(size, dtype=np.int64),
        )
        for start in range(0, size, _TEXTS_HASHED_TOGETHER):
            part = slice(start, start + _TEXTS_HASHED_TOGETHER)
            input_ids, attention_mask = rows.tables.assemble(rows.clause_ids[first_rows[part]])
            found.text_keys[part] = text_keys(input_ids, attention_mask)
            found.lengths[part] = attention_mask.sum(axis=1)
            for variant in range(num_variants):
                masked = found.tokens(np.arange(size)[part], np.full(len(input_ids), variant))[0]
                found.keys[part, variant] = text_keys(masked, attention_mask)
        return found

    def tokens(self, texts: np.ndarray, variants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and attention mask, (B, T) each, of variants of texts, which are indices into `text_ids`."""
        clause_ids = self.rows.clause_ids[self.first_rows[texts]]
        return variant_tokens(self.rows, clause_ids, self.text_keys[texts], variants, self.collator)[:2]
