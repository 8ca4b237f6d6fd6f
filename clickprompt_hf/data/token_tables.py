# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tokenized clauses, from which the text of a batch is assembled by array operations.

A row's text is one clause a field, and there are far fewer distinct clauses than rows: each is tokenized once.
Tokenizers split at spaces, so the tokens of a text are those of its clauses; `build` checks that on a sample of rows
and tokenizes whole texts where it does not hold.

Shapes: B batch, N rows, F fields, T text tokens of the longest row of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

_ROWS_CHECKED = 256
_TEXTS_A_CALL = 10_000
_FILE = "token_tables.npz"
_ARRAYS = ("tokens", "value_fields", "offsets", "prefix", "suffix")


@dataclass
class TokenTables:
    """Tokens of all distinct clauses, end to end, and how a row is put together.

    Args:
        tokens: Token ids of all clauses, int32.
        value_fields: For each token the number, from 1, of the field whose value it shows, int16; 0 for the template.
        offsets: (number of clauses + 1,) int64; clause c is `tokens[offsets[c]:offsets[c + 1]]`.
        prefix: Special tokens in front of a text.
        suffix: Special tokens behind it.
        pad_token_id: Fills shorter rows.
        max_text_length: Longer texts lose tokens at the end, never special ones; 0: no limit.
    """

    tokens: np.ndarray
    value_fields: np.ndarray
    offsets: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray
    pad_token_id: int
    max_text_length: int = 0

    @classmethod
    def build(
        cls,
        clauses: Sequence[Sequence[str]],
        clause_ids: np.ndarray,
        affixes: Sequence[tuple[str, str]] | None,
        tokenizer,
        max_text_length: int | None = None,
    ) -> tuple["TokenTables", np.ndarray]:
        """Tokenizes each clause once.

        Args:
            clauses: Per field, its distinct clauses.
            clause_ids: (N, F), each row's clause per field, as places in `clauses`.
            affixes: Per field, the template in front of the value and behind it; `None` where nobody asks for
                `value_fields`, which are all 0 then.
            tokenizer: A fast tokenizer with a padding token.
            max_text_length: Longest text in tokens, special tokens included.

        Returns:
            The tables, and (N, F) int32 ids of clauses in them; (N, 1) where whole texts had to be tokenized.
        """
        prefix, suffix = _special_tokens(tokenizer)
        first_of_field = np.cumsum([0, *(len(field_clauses) for field_clauses in clauses[:-1])])
        global_ids = (clause_ids + first_of_field).astype(np.int32)
        checked = np.unique(np.linspace(0, len(clause_ids) - 1, min(len(clause_ids), _ROWS_CHECKED)).astype(int))
        whole = [" ".join(clauses[f][c] for f, c in enumerate(row)) for row in clause_ids[checked]]
        limit = {} if max_text_length is None else {"truncation": True, "max_length": max_text_length}
        expected = tokenizer(whole, **limit)["input_ids"]
        # Every clause but the first stands behind a space, which some tokenizers put in front of any text themselves.
        for space in (" ", ""):
            texts = [[(f, (space if f else "") + clause)] for f, of_field in enumerate(clauses) for clause in of_field]
            tables = cls._of_texts(texts, affixes, tokenizer, prefix, suffix, max_text_length)
            input_ids, attention_mask = tables.assemble(global_ids[checked])
            if [row[: mask.sum()].tolist() for row, mask in zip(input_ids, attention_mask)] == expected:
                return tables, global_ids
        logger.warning_once(
            f"{type(tokenizer).__name__} does not split texts at the clauses: each distinct text is tokenized as a "
            "whole, which takes longer and more memory."
        )
        rows, inverse = np.unique(clause_ids, axis=0, return_inverse=True)
        texts = [[(f, (" " if f else "") + clauses[f][c]) for f, c in enumerate(row)] for row in rows]
        tables = cls._of_texts(texts, affixes, tokenizer, prefix, suffix, max_text_length)
        return tables, inverse.reshape(-1, 1).astype(np.int32)

    @classmethod
    def _of_texts(cls, texts, affixes, tokenizer, prefix, suffix, max_text_length: int | None) -> "TokenTables":
        """Tables of `texts`, each a list of (field, clause)."""
        tokens, fields = [], []
        lengths: list[int] = []
        # The tokenizer under the one of transformers, which takes three times as long to put results into dicts; a
        # text longer than the PLM takes is cut when a batch is assembled.
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        encode = backend.encode_batch_fast if affixes is None else backend.encode_batch
        # what a tokenizer returns takes kilobytes a text
        for start in range(0, len(texts), _TEXTS_A_CALL):
            part = texts[start : start + _TEXTS_A_CALL]
            encoded = encode(["".join(clause for _, clause in text) for text in part], add_special_tokens=False)
            ids = [text.ids for text in encoded]
            lengths += map(len, ids)
            tokens.append(np.fromiter(chain.from_iterable(ids), dtype=np.int32))
            if affixes is None:
                fields.append(np.zeros(len(tokens[-1]), dtype=np.int16))
                continue
            for text, spans in zip(part, encoded):
                fields.append(_value_fields(text, affixes, np.asarray(spans.offsets, dtype=np.int64).reshape(-1, 2)))
        nothing = [np.zeros(0, dtype=np.int32)]
        return cls(
            tokens=np.concatenate(tokens or nothing),
            value_fields=np.concatenate(fields or nothing),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            prefix=prefix,
            suffix=suffix,
            pad_token_id=tokenizer.pad_token_id,
            max_text_length=max_text_length or 0,
        )

    def lengths(self, clause_ids: np.ndarray) -> np.ndarray:
        """(N, F) clauses to (N,) text lengths in tokens, special tokens included, before truncation."""
        clause_lengths = np.diff(self.offsets)
        return clause_lengths[clause_ids].sum(axis=1) + len(self.prefix) + len(self.suffix)

    def assemble(self, clause_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, F) clauses to `input_ids` (B, T) int64 and `attention_mask` (B, T) int64, padded to the longest row."""
        places, text_ends, positions = self._layout(clause_ids)
        input_ids = np.full((len(clause_ids), len(positions)), self.pad_token_id, dtype=np.int64)
        input_ids[:, : len(self.prefix)] = self.prefix
        input_ids[(positions >= len(self.prefix)) & (positions < text_ends)] = self.tokens[places]
        for place, token in enumerate(self.suffix):
            input_ids[np.arange(len(clause_ids)), text_ends[:, 0] + place] = token
        attention_mask = (positions < text_ends + len(self.suffix)).astype(np.int64)
        return input_ids, attention_mask

    def assemble_value_fields(self, clause_ids: np.ndarray) -> np.ndarray:
        """(B, F) clauses to (B, T) numbers of the fields, from 1, whose values the tokens show; 0 elsewhere."""
        places, text_ends, positions = self._layout(clause_ids)
        fields = np.zeros((len(clause_ids), len(positions)), dtype=np.int64)
        fields[(positions >= len(self.prefix)) & (positions < text_ends)] = self.value_fields[places]
        return fields

    def _layout(self, clause_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places in `tokens` of all text tokens of a batch, row by row; each row's end (B, 1); all positions (T,)."""
        starts, ends = self.offsets[clause_ids], self.offsets[clause_ids + 1]
        if self.max_text_length:
            # A clause ends where the row's room is used up.
            room = self.max_text_length - len(self.prefix) - len(self.suffix)
            before = np.cumsum(ends - starts, axis=1) - (ends - starts)
            ends = np.minimum(ends, starts + np.maximum(room - before, 0))
        lengths = ends - starts
        row_lengths = lengths.sum(axis=1)
        # Place of every token in `tokens`: each clause's start, counted on within the clause.
        flat_lengths = lengths.ravel()
        flat_ends = np.cumsum(flat_lengths)
        places = np.arange(int(flat_ends[-1]) if flat_ends.size else 0)
        places += np.repeat(starts.ravel() - (flat_ends - flat_lengths), flat_lengths)
        width = len(self.prefix) + int(row_lengths.max(initial=0)) + len(self.suffix)
        return places, (len(self.prefix) + row_lengths)[:, None], np.arange(width)

    def save(self, folder: Path) -> None:
        """Writes the tables into `folder`."""
        np.savez(
            folder / _FILE,
            **{name: getattr(self, name) for name in _ARRAYS},
            numbers=np.asarray([self.pad_token_id, self.max_text_length]),
        )

    @classmethod
    def load(cls, folder: Path) -> "TokenTables":
        """Reads the tables that `save` wrote."""
        with np.load(folder / _FILE) as arrays:
            pad_token_id, max_text_length = arrays["numbers"].tolist()
            named = {name: arrays[name] for name in _ARRAYS}
            return cls(**named, pad_token_id=pad_token_id, max_text_length=max_text_length)


def _value_fields(text, affixes, spans: np.ndarray) -> np.ndarray:
    """For each token of `text`, a list of (field, clause), whose characters are `spans` (tokens, 2), the number of the
    field whose value it shows a part of."""
    fields = np.zeros(len(spans), dtype=np.int16)
    end = 0
    for field, clause in text:
        start, end = end, end + len(clause)
        before, after = affixes[field]
        first, last = start + clause.index(before) + len(before), end - len(after)
        fields[(spans[:, 0] < last) & (spans[:, 1] > first)] = field + 1
    return fields


def _special_tokens(tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens that the tokenizer puts in front of a text and behind it."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return np.asarray(full[:start], dtype=np.int64), np.asarray(full[start + len(bare) :], dtype=np.int64)
    raise ValueError(f"`tokenizer` {type(tokenizer).__name__} must only add special tokens around a text.")
