# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How much text the rows of a split have, and how often texts repeat."""

from dataclasses import dataclass

import numpy as np

from .columnar import ColumnarDataset


@dataclass(frozen=True)
class TextCounts:
    """Figures of a split's texts.

    Args:
        rows: Number of rows.
        distinct_texts: Number of distinct texts among them.
        mean_tokens: Mean number of tokens per row, special tokens included, after truncation.
        max_tokens: Largest number of tokens of a row.
    """

    rows: int
    distinct_texts: int
    mean_tokens: float
    max_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows, {self.distinct_texts:,} distinct texts, {self.mean_tokens:.1f} tokens per row, at "
            f"most {self.max_tokens:,}"
        )


def count_texts(split: ColumnarDataset) -> TextCounts:
    """Count the texts of prepared rows and their tokens.

    Raises:
        ValueError: If the rows were encoded without a tokenizer, or not by `prepare_splits`.
    """
    if split.text_ids is None or split.tables is None:
        raise ValueError("`split` must have text and `text_ids`, as `prepare_splits` writes them with a tokenizer.")
    lengths = split.text_lengths()
    if split.tables.max_text_length:
        lengths = np.minimum(lengths, split.tables.max_text_length)
    return TextCounts(
        rows=len(split),
        distinct_texts=int(np.count_nonzero(np.bincount(split.text_ids))),
        mean_tokens=float(lengths.mean()) if len(split) else 0.0,
        max_tokens=int(lengths.max(initial=0)),
    )
