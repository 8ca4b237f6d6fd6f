# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Counts values that training rows did not have, and warns about columns with hardly any known value.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, compress
from typing import Any

import numpy as np

from .cells_clickprompt import time_part
from .columns_clickprompt import cells_of
from .encoding_clickprompt import FeatureEncoder
from .lost_keys_clickprompt import LostKeys
from .schema_clickprompt import TIME_PARTS, FieldSchema
from .values_clickprompt import each_distinct
from .warnings_clickprompt import warn_at_caller

_NO_TIME = " (not a time)"
# With fewer rows or a smaller share, a column that is read wrongly looks like one with new values.
_LEAST_ROWS, _UNKNOWN_SHARE = 10, 0.9
_NUM_EXAMPLES = 3


class UnknownValues:
    """Counts values that training rows did not have, and warns about fields of which hardly any value is known.

    Such a column is probably read or written differently than in training. The same holds if all its values are
    missing, unless missing was the most frequent value in training too, and if all vectors of a field are missing.

    Args:
        encoder: The encoder whose ids are counted.

    Attributes:
        lost_keys: Per joined table, counts keys that it lacks; rows are counted where they are looked up.
    """

    def __init__(self, encoder: FeatureEncoder):
        self.encoder = encoder
        self.rows = [0] * len(encoder.schema.fields)
        self.unknown = [0] * len(encoder.schema.fields)
        # Missing values that training knew.
        self.missing = [0] * len(encoder.schema.fields)
        self.examples: list[list[str]] = [[] for _ in encoder.schema.fields]
        self._warned: set[int] = set()
        tables = () if encoder.tables is None else encoder.tables.tables
        self.lost_keys = [LostKeys(table) for table in tables]

    def add(self, field_index: int, values: Sequence, ids: np.ndarray, repeats: np.ndarray | None = None) -> None:
        """Count values of one field.

        Args:
            field_index: Index of the field in the schema.
            values: V raw values.
            ids: Their ids (V, number of the field's columns), as `encode_values` returns them.
            repeats: Number of rows of each value, (V,); one by default.
        """
        if not ids.shape[1]:
            # texts have no ids
            return
        repeats = np.ones(len(ids), dtype=np.int64) if repeats is None else repeats
        index = self.encoder.indexes[field_index]
        is_unknown = ~(ids > 0).any(axis=1) & (repeats > 0)
        self.rows[field_index] += int(repeats.sum())
        self.unknown[field_index] += int(repeats[is_unknown].sum())
        if (missing_id := index.id_of_missing) > 1:
            self.missing[field_index] += int(repeats[ids[:, 0] == missing_id].sum())
        examples, field = self.examples[field_index], self.encoder.schema.fields[field_index]
        if is_unknown.any() and len(examples) < _NUM_EXAMPLES:
            for example in each_distinct(list(compress(cells_of(values), is_unknown)), partial(_example_of, field)):
                if len(examples) < _NUM_EXAMPLES and example not in examples:
                    examples.append(example)

    def add_vectors(self, field_index: int, is_missing: np.ndarray) -> None:
        """Count vectors of one field, given whether each is missing (N,)."""
        self.rows[field_index] += len(is_missing)
        self.missing[field_index] += int(is_missing.sum())

    def add_rows(
        self, columns: Mapping[str, Sequence], feature_ids: np.ndarray, feature_vectors: np.ndarray | None = None
    ) -> None:
        """Count the values of rows.

        Args:
            columns: Raw values by column.
            feature_ids: Their ids (B, C), as `encode` returns them.
            feature_vectors: Their vectors (B, S), as `encode_vectors` returns them; only with fields of vectors.
        """
        if feature_vectors is not None:
            starts = np.cumsum([0, *self.encoder.vector_sizes[:-1]])
            for f, start in zip(self.encoder.scales, starts):
                self.add_vectors(f, np.isnan(feature_vectors[:, start]))
        with_ids = [(f, field) for f, field in enumerate(self.encoder.schema.fields) if field.num_columns]
        ends = np.cumsum([field.num_columns for _, field in with_ids])
        for (f, field), ids in zip(with_ids, np.split(feature_ids, ends[:-1], axis=1)):
            self.add(f, columns[field.column], ids)

    @property
    def counts(self) -> list[list]:
        """Per field: number of values, of unknown and of missing ones, and examples of unknown ones, as plain data."""
        return [self.rows, self.unknown, self.missing, self.examples]

    def merge(self, counts: list[list]) -> None:
        """Add the `counts` of other rows with the same encoder, which may come from another process."""
        *numbers, examples = counts
        for mine, others in zip(self.counts, numbers):
            mine[:] = map(sum, zip(mine, others))
        self.examples = [list(dict.fromkeys(chain(*pair)))[:_NUM_EXAMPLES] for pair in zip(self.examples, examples)]

    def warn_of_lost_keys(self, where: str = "") -> None:
        """Warn once about each joined table that lacks keys: see `LostKeys.warn`."""
        for lost_keys in self.lost_keys:
            lost_keys.warn(where)

    def warn(self, where: str = "", exclude: str | None = None) -> None:
        """Warn once about each field with at least 10 values if 90 % of them are unknown or all are missing.

        Also warns about keys that joined tables lack: see `LostKeys`.

        Args:
            where: What the rows are part of, for the message, such as `" of the test split"`; empty for a call's rows.
            exclude: Column to skip, whose values are expected to be unknown.
        """
        # the reason why columns are missing comes before the columns
        self.warn_of_lost_keys(where)
        for f, field in enumerate(self.encoder.schema.fields):
            if field.column == exclude or f in self._warned:
                continue
            known, rows, unknown = self._known(f), self.rows[f], self.unknown[f]
            all_missing = unknown + self.missing[f] == rows
            if field.is_vector and rows >= _LEAST_ROWS and all_missing:
                self._warned.add(f)
                warn_at_caller(
                    f"All {rows:,} vectors in column {field.column!r}{where} are missing; training rows had some. "
                    "Check how the column is read."
                )
            if not known or rows < _LEAST_ROWS or (unknown < _UNKNOWN_SHARE * rows and not all_missing):
                continue
            self._warned.add(f)
            found = f"{unknown / rows:.0%} of {rows:,} values" if unknown else f"All {rows:,} values"
            what = f"unknown, such as {', '.join(self.examples[f])}" if unknown else "missing"
            advice = "If they should match, format the column as in training."
            if field.kind in TIME_PARTS and unknown and not any(text.endswith(_NO_TIME) for text in self.examples[f]):
                found += f" of the {field.kind}"
                advice = f"This is expected if training rows have other {field.kind}s, as after a split by time."
            warn_at_caller(
                f"{found} in column {field.column!r}{where} are {what}; training had values such as "
                f"{', '.join(known)}. {advice}"
            )

    def _known(self, field_index: int) -> list[str]:
        """Examples of values that training rows had."""
        if self.encoder.schema.fields[field_index].kind == "numeric":
            return [f"{number:g}" for number in self.encoder.boundaries[field_index][:_NUM_EXAMPLES]]
        vocabulary = self.encoder.indexes[field_index].vocabulary[: _NUM_EXAMPLES + 1]
        return [repr(value) for value in vocabulary if value][:_NUM_EXAMPLES]


def _example_of(field: FieldSchema, cell: Any) -> str:
    """An unknown cell as warnings show it: the part of a time that the field reads, or the cell itself."""
    if field.kind not in TIME_PARTS:
        return f"{cell!r:.80}"
    return repr(part) if (part := time_part(cell, field)) else f"{cell!r:.80}{_NO_TIME}"


def warn_of_unknown_values(
    unknown: UnknownValues,
    columns: Mapping[str, Sequence],
    feature_ids: np.ndarray,
    feature_vectors: np.ndarray | None = None,
) -> None:
    """Warn about the rows of one call: see `UnknownValues`.

    Args:
        unknown: What counted the keys of the call's rows that joined tables lack.
        columns: As in `UnknownValues.add_rows`, like the next arguments.
        feature_ids: Ids of the rows.
        feature_vectors: Vectors of the rows.
    """
    # a single row, scored on its own, need not wait for counts
    if len(feature_ids) >= _LEAST_ROWS:
        unknown.add_rows(columns, feature_ids, feature_vectors)
        unknown.warn()
    else:
        unknown.warn_of_lost_keys()
