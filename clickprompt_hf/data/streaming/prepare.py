# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From files to the folder that `load_prepared` maps, in bounded memory."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from ...processing_clickprompt import ClickPromptProcessor
from ...schema_clickprompt import FieldSchema, Schema
from ...whole_files import whole_folder, write_errors_naming
from ..columnar import write_notes
from ..disk_space import check_disk_space
from ..labels import checked_labels, count_words, warn_of_other_words
from ..splits import DEFAULT_FRACTIONS, Split, check_split_sizes, check_time_column, choose_split_column
from ..table_files import joined_tables
from .distinct import DistinctValues
from .row_encoding import RowEncoding, SplitRows, wait_for
from .row_splits import RowSplits, StreamedRows, add_at, split_rows
from .spill import SpilledColumn
from .table_stream import TableStream
from .vocabulary import FittedField, fit_field, text_list

# Fields of more values are fitted one at a time: each takes 150 bytes per value meanwhile.
_MANY_VALUES = 1_000_000


class StreamedTable:
    """A table on disk, as codes of distinct values: read once, then split, fitted and encoded.

    Use it as a context manager, which removes what it has written to `folder`.

    Args:
        stream: The files.
        schema: What the columns mean.
        folder: Where codes and distinct values go while they are needed; created.

    Raises:
        ValueError: If a field is a vector, a file is broken or changes while it is read, or a label is not 0 or 1.
        OSError: If a file is missing, or the disk has no room.
    """

    def __init__(self, stream: TableStream, schema: Schema, folder: Path):
        check_can_be_streamed(schema)
        self.schema, self._folder, self._stream = schema, folder, stream
        self._labels: list[np.ndarray] = []
        self._splits_of_chunks: list[str] = []
        self._row_splits: RowSplits | None = None
        self._counts: dict[str, np.ndarray] = {}
        self._fitted: dict[int, FittedField] = {}
        folder.mkdir(parents=True)
        try:
            names = [name for name in stream.columns if name != schema.label]
            self._columns = {
                name: SpilledColumn(folder / f"column-{number}", stream.types.field(name).type)
                for number, name in enumerate(names)
            }
            advice = "Choose an output folder on another disk"
            check_disk_space(folder, stream.spill_bytes, "the rows while they are prepared", advice)
            with write_errors_naming(folder, folder):
                self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "StreamedTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is on disk, and forget what is in memory."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._labels, self._fitted, self._counts = [], {}, {}

    @property
    def own_splits(self) -> list[str]:
        """The splits that the files have."""
        return list(dict.fromkeys(name for name in self._splits_of_chunks if name))

    def _read(self) -> None:
        words: Counter[str] = Counter()
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            running: list[Future] = []
            for chunk in self._stream.chunks():
                where = " and ".join(map(str, self._stream.paths[:3]))
                label = chunk.rows.column(self.schema.label)
                self._labels.append(checked_labels(label, self.schema, where, chunk.first_row))
                self._splits_of_chunks.append(chunk.split)
                if self.schema.positive is not None:
                    words += count_words(label)
                # the next chunk is read while this one is encoded
                wait_for(running)
                running = [
                    pool.submit(_add, column, chunk.rows.column(name)) for name, column in self._columns.items()
                ]
            wait_for(running)
            if self.schema.positive is not None:
                warn_of_other_words(words, self.schema.label, self.schema.positive)
            if not self._labels:
                raise ValueError(f"{' and '.join(map(str, self._stream.paths))} must have rows, but there are none.")
            wait_for([pool.submit(column.merge) for column in self._columns.values()])

    def split(
        self,
        split: Split = "random",
        split_seed: int = 42,
        max_train_rows: int | None = None,
        split_column: str | None = None,
        split_fractions: Sequence[float] = DEFAULT_FRACTIONS,
    ) -> dict[str, int]:
        """Split the rows; see `split_rows`.

        Args:
            split: As in `split_table`.
            split_seed: As in `split_table`.
            max_train_rows: As in `limit_train_rows`.
            split_column: As in `split_table`.
            split_fractions: As in `split_table`.

        Returns:
            Number of rows of each split.

        Raises:
            ValueError: If an argument does not fit the rows, or a split lacks rows or a class.
        """
        column = None
        if split == "time":
            column = self._columns[check_time_column(self.schema, self._stream.columns)]
        elif split == "user":
            split_column = choose_split_column(self.schema, self._stream.columns, split_column)
            column = self._columns[split_column]
        rows = StreamedRows(self._splits_of_chunks, self._labels, column)
        self._row_splits = split_rows(
            rows, self.schema, split, split_seed, split_fractions, split_column, max_train_rows
        )
        sizes = self._row_splits.sizes
        counts = np.zeros((len(sizes), 2), dtype=np.int64)
        self._counts = {
            name: np.zeros((len(sizes), column.num_distinct), dtype=np.int32) for name, column in self._columns.items()
        }

        def count(name: str, chunk: int, parts: np.ndarray) -> None:
            codes, code_map = self._columns[name].codes(chunk)
            for part, code_counts in enumerate(_count_pairs(parts, codes, len(sizes), len(code_map))):
                add_at(self._counts[name][part], code_map, code_counts)

        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            for chunk, (parts, labels) in enumerate(zip(self._row_splits.parts(), self._labels)):
                counts += _count_pairs(parts, labels, len(sizes), 2)
                wait_for([pool.submit(count, name, chunk, parts) for name in self._columns])
        check_split_sizes({name: (int(of.sum()), int(of[1])) for name, of in zip(sizes, counts)}, self.schema)
        return sizes

    def fit(self, min_count: int = 1) -> ClickPromptProcessor:
        """Fit a processor without a tokenizer on the training rows, as `ClickPromptProcessor.fit` does.

        Args:
            min_count: Number of training rows that a value needs to get its own id.

        Raises:
            ValueError: If a column has no value of its field's kind, or `min_count` is below 1.
        """
        if min_count < 1:
            raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
        numbers = range(len(self.schema.fields))
        large = [f for f in numbers if self._columns[self.schema.fields[f].column].num_distinct > _MANY_VALUES]
        self._fitted = {}
        for f in large:
            self._fitted[f] = self._fit_field(self.schema.fields[f], min_count)
            pa.default_memory_pool().release_unused()
        others = [f for f in numbers if f not in large]
        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            fit = pool.map(lambda f: self._fit_field(self.schema.fields[f], min_count), others)
            self._fitted |= dict(zip(others, fit))
        pa.default_memory_pool().release_unused()
        vocabularies = [text_list(self._fitted[f].vocabulary) for f in numbers]
        boundaries = [self._fitted[f].boundaries for f in numbers]
        processor = ClickPromptProcessor(self.schema, vocabularies, boundaries)
        processor.tables = joined_tables(self.schema, self._stream.tables)
        return processor

    def _fit_field(self, field: FieldSchema, min_count: int) -> FittedField:
        if not field.num_columns:
            return FittedField(pa.array([], pa.large_string()))
        return fit_field(self._columns[field.column], self._counts[field.column][0], field, min_count)

    def sample(self, most: int, split: str = "train") -> pa.Table:
        """Evenly spaced raw rows.

        Args:
            most: Number of rows.
            split: Split of the rows.
        """
        assert self._row_splits is not None, "`split` comes first"
        number = list(self._row_splits.sizes).index(split)
        start, end = self._row_splits.starts()[number : number + 2].tolist()
        wanted = start + np.linspace(0, end - start - 1, min(end - start, most), dtype=int)
        codes = {name: np.zeros(len(wanted), dtype=np.int64) for name in self._columns}
        for chunk, positions in enumerate(self._row_splits.positions()):
            places = np.minimum(np.searchsorted(wanted, positions), len(wanted) - 1)
            rows = np.flatnonzero(wanted[places] == positions)
            for name, column in self._columns.items():
                row_codes, code_map = column.codes(chunk)
                codes[name][places[rows]] = code_map[row_codes[rows]]
        return pa.table({name: column.take(codes[name]) for name, column in self._columns.items()})

    def write(
        self,
        processor: ClickPromptProcessor,
        folder: str | Path,
        split_column: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Encode all splits into `folder`, as `prepare_splits` does. It may be called several times.

        Args:
            processor: Fitted on the training split.
            folder: Replaced if it exists.
            split_column: As in `prepare_splits`.
            notes: As in `prepare_splits`.

        Raises:
            ValueError: If a cell of a multi-valued field is not a list of single values.
            OSError: If the disk has no room.
        """
        assert self._row_splits is not None, "`split` comes first"
        # each call has a spill folder of its own, also after one that failed halfway
        with whole_folder(folder, flush=False) as partial, tempfile.TemporaryDirectory(dir=self._folder) as spill:
            rows = SplitRows(self._row_splits, self._columns, self._counts, self._labels, self._fitted)
            RowEncoding(rows, processor, partial, Path(spill)).write(split_column)
            write_notes(partial, notes or {})


def check_can_be_streamed(schema: Schema) -> None:
    """Raise a ValueError if a field is a vector: its rows must fit into memory."""
    if vectors := [schema.fields[f].key for f in schema.vector_fields]:
        raise ValueError(
            f"Tables with vector fields cannot be streamed, but the schema has {vectors}. Read the table into "
            "memory with `stream=False`."
        )


def _count_pairs(parts: np.ndarray, codes: np.ndarray, num_parts: int, num_codes: int) -> np.ndarray:
    """Number of rows of each pair of a part and a code, (parts, codes); rows of no part do not count."""
    # `LEFT_OUT` is -1
    pairs = (parts + 1) * num_codes + codes
    return np.bincount(pairs, minlength=(num_parts + 1) * num_codes).reshape(-1, num_codes)[1:]


def _add(column: SpilledColumn, chunk: pa.ChunkedArray) -> None:
    column.add(DistinctValues.of(chunk))
