# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows on disk, as codes of distinct values, encoded to the arrays that `load_prepared` maps.

Shapes: N rows, R rows of a chunk, D distinct values of a column, C columns of ids.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...processing_clickprompt import ClickPromptProcessor
from ...unknown_values_clickprompt import UnknownValues
from ..columnar import SIZES_FILE, one_per_category
from ..drift import TrainedValues, training_bins, with_trained_values
from ..token_tables import first_clauses
from .row_splits import RowSplits
from .row_writer import RowWriter
from .spill import SpilledColumn
from .tokens import write_tokens
from .vocabulary import FittedField, clauses_of_column, count_unknown, ids_of_column, missing_without_id


@dataclass(frozen=True)
class SplitRows:
    """Rows on disk that are split.

    Args:
        splits: The split and the position of each row.
        columns: Values of the rows, by column.
        counts: By column, number of rows of each split and value, (splits, D).
        labels: Labels (R,) of each chunk.
        fitted: What was fitted for each field, by its index; empty if the processor was fitted before. It is
            emptied once all values are encoded.
    """

    splits: RowSplits
    columns: Mapping[str, SpilledColumn]
    counts: Mapping[str, np.ndarray]
    labels: Sequence[np.ndarray]
    fitted: dict[int, FittedField]


class RowEncoding:
    """The arrays of a streamed table, encoded by a processor.

    Args:
        rows: The rows.
        processor: Fitted on the training split.
        folder: Where the arrays go.
        spill_folder: Where unsorted rows go; must exist.
    """

    def __init__(self, rows: SplitRows, processor: ClickPromptProcessor, folder: Path, spill_folder: Path):
        self.rows, self.processor, self.folder, self.spill_folder = rows, processor, folder, spill_folder
        self.splits, self.columns, self.counts = rows.splits, rows.columns, rows.counts
        # Per field: ids of its column's values, which of them are one, and clauses of fields in the text.
        self.ids: list[np.ndarray] = []
        self.values: list[np.ndarray] = []
        self.clauses: list[list[str]] = []
        self.clause_ids: list[np.ndarray] = []

    def write(self, split_column: str | None) -> None:
        """Write all arrays, tokens and the processor; `split_column` is as in `prepare_splits`."""
        self._encode_values(split_column)
        num_rows = int(self.splits.starts()[-1])
        fields = self.processor.schema.fields
        num_ids = sum(field.num_columns for field in fields)
        arrays: dict[str, tuple[Any, int]] = {
            "feature_ids": (np.int32, num_ids),
            "value_ids": (np.int32, len(fields)),
            "labels": (np.int8, 0),
            "row_ids": (np.int64, 0),
        }
        if self.clause_ids:
            arrays["clause_ids"] = (np.int32, len(self.clause_ids))
        ends = self.splits.starts()[1:].tolist()
        with RowWriter(self.folder, self.spill_folder, num_rows, arrays, ends) as writer:
            with ThreadPoolExecutor(pa.cpu_count()) as pool:
                running: list[Future] = []
                for chunk, positions in enumerate(self.splits.positions()):
                    wait_for(running[: 1 - pa.cpu_count()] if pa.cpu_count() > 1 else running)
                    running = running[-pa.cpu_count() :]
                    running.append(pool.submit(lambda *at: writer.write(at[1], self._encoded(*at)), chunk, positions))
                wait_for(running)
            writer.finish()
        if self.clause_ids:
            write_tokens(self.folder, self.spill_folder, self.clauses, self.processor, num_rows)
        sizes = json.dumps(self.splits.sizes)
        (self.folder / SIZES_FILE).write_text(sizes, encoding="utf-8")
        with_trained_values(self.processor, self._trained_values()).save_pretrained(self.folder / "processor")

    def _trained_values(self) -> TrainedValues:
        """Counts of the training rows, as `count_training_values` returns them."""
        train = list(self.splits.sizes).index("train")
        processor, trained = self.processor, {}
        for f, field in enumerate(processor.schema.fields):
            if field.num_columns:
                repeats = self.counts[field.column][train]
                trained[processor.schema.keys[f]] = training_bins(self.ids[f], processor.vocabularies[f], repeats)
        return trained

    def _encode_values(self, split_column: str | None) -> None:
        names = list(self.splits.sizes)
        unknown = [UnknownValues(self.processor) for _ in names]
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            self.ids = list(pool.map(lambda f: self._ids_of(f, unknown), range(len(self.processor.schema.fields))))
        fields = self.processor.schema.fields
        self.values = [
            one_per_category(field, ids, missing_without_id(self.columns[field.column], ids, field))
            for field, ids in zip(fields, self.ids)
        ]
        for f in self.processor.schema.fields_in_text if self.processor.reads_text else ():
            name = self.processor.schema.fields[f].column
            is_used = self.counts[name].sum(axis=0) > 0
            clauses, indices = clauses_of_column(
                self.columns[name], self._fitted(f), self.ids[f], is_used, self.processor, f
            )
            self.clauses.append(clauses)
            self.clause_ids.append(indices)
        if self.clauses:
            firsts = first_clauses(self.clauses).tolist()
            self.clause_ids = [indices + np.int32(of) for indices, of in zip(self.clause_ids, firsts)]
        for name, counted in zip(names, unknown):
            if name != "train":
                counted.warn(f" of the {name} split", exclude=split_column)
        # the processor keeps the vocabularies, and rows need ids alone
        self.rows.fitted.clear()
        pa.default_memory_pool().release_unused()

    def _ids_of(self, f: int, unknown: Sequence[UnknownValues]) -> np.ndarray:
        """Ids of a field's values, (D, C); counts those that training rows did not have, per split."""
        field = self.processor.schema.fields[f]
        column = self.columns[field.column]
        if not field.num_columns:
            return np.zeros((column.num_distinct, 0), dtype=np.int32)
        row_counts = self.counts[field.column].sum(axis=0)
        ids = ids_of_column(column, self._fitted(f), self.processor, f, row_counts)
        for counted, counts in zip(unknown, self.counts[field.column]):
            count_unknown(column, ids, counts, f, counted)
        return ids

    def _fitted(self, f: int) -> FittedField:
        """What was fitted for a field; from its vocabulary if the table has not fitted it or has written it."""
        if self.rows.fitted:
            return self.rows.fitted[f]
        return FittedField(pa.array(self.processor.vocabularies[f], pa.large_string()))

    def _encoded(self, chunk: int, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The encoded rows of a chunk."""
        fields, num_rows = self.processor.schema.fields, len(positions)
        ends = np.cumsum([ids.shape[1] for ids in self.ids]).tolist()
        encoded = {
            "feature_ids": np.empty((num_rows, ends[-1]), dtype=np.int32),
            "value_ids": np.empty((num_rows, len(fields)), dtype=np.int32),
            "labels": self.rows.labels[chunk],
            "row_ids": positions,
        }
        if self.clause_ids:
            encoded["clause_ids"] = np.empty((num_rows, len(self.clause_ids)), dtype=np.int32)
        in_text = self.processor.schema.fields_in_text if self.clause_ids else ()
        # One column at a time: the codes of all are as large as the encoded rows.
        for f, (field, ids, end) in enumerate(zip(fields, self.ids, ends)):
            codes, code_map = self.columns[field.column].codes(chunk)
            # values of the chunk are in the order of the column, so this stays in the cache
            encoded["feature_ids"][:, end - ids.shape[1] : end] = ids[code_map][codes]
            encoded["value_ids"][:, f] = self.values[f][code_map][codes]
            if f in in_text:
                place = in_text.index(f)
                encoded["clause_ids"][:, place] = self.clause_ids[place][code_map][codes]
        return encoded


def wait_for(running: Iterable[Future]) -> None:
    """Wait for calls in threads, and raise what one of them raised."""
    for future in running:
        future.result()
