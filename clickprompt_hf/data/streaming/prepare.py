# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From files to the folder that `load_prepared` maps, in bounded memory.

Shapes: N rows, R rows of a chunk, D distinct values of a column, F fields, G fields in the text, C columns of ids.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from ...processing_clickprompt import ClickPromptProcessor
from ...schema_clickprompt import FieldSchema, Schema
from ...unknown_values_clickprompt import UnknownValues
from ...whole_files import whole_folder, write_errors_naming
from ..collators import hash_numbers
from ..columnar import SIZES_FILE, write_notes
from ..disk_space import check_disk_space
from ..drift import TrainedValues, training_bins, with_trained_values
from ..labels import checked_labels, count_words, warn_of_other_words
from ..splits import DEFAULT_FRACTIONS, Split, check_split_sizes, check_time_column, choose_split_column
from ..table_files import joined_tables
from ..token_tables import TokenTables, doubtful_clauses, first_clauses, sample_of_rows
from .distinct import DistinctValues
from .row_splits import RowSplits, StreamedRows, add_at, count_codes, split_rows
from .row_writer import RowWriter
from .spill import SpilledColumn
from .table_stream import ROWS_PER_CHUNK, TableStream
from .vocabulary import (
    FittedField,
    clauses_of_column,
    count_unknown,
    fit_field,
    ids_of_column,
    text_list,
)

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
                _wait_for(running)
                running = [
                    pool.submit(_add, column, chunk.rows.column(name)) for name, column in self._columns.items()
                ]
            _wait_for(running)
            if self.schema.positive is not None:
                warn_of_other_words(words, self.schema.label, self.schema.positive)
            if not self._labels:
                raise ValueError(f"{' and '.join(map(str, self._stream.paths))} must have rows, but there are none.")
            _wait_for([pool.submit(column.merge) for column in self._columns.values()])

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
            name: np.zeros((len(sizes), of_values.num_distinct), dtype=np.int32)
            for name, of_values in self._columns.items()
        }

        def count(name: str, chunk: int, parts: np.ndarray) -> None:
            codes, code_map = self._columns[name].codes(chunk)
            for part, of_codes in enumerate(_count_pairs(parts, codes, len(sizes), len(code_map))):
                add_at(self._counts[name][part], code_map, of_codes)

        with ThreadPoolExecutor(pa.cpu_count()) as pool:
            for chunk, (parts, labels) in enumerate(zip(self._row_splits.parts(), self._labels)):
                counts += _count_pairs(parts, labels, len(sizes), 2)
                _wait_for([pool.submit(count, name, chunk, parts) for name in self._columns])
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
                of_rows, code_map = column.codes(chunk)
                codes[name][places[rows]] = code_map[of_rows[rows]]
        return pa.table({name: column.take(codes[name]) for name, column in self._columns.items()})

    def write(
        self,
        processor: ClickPromptProcessor,
        folder: str | Path,
        split_column: str | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Encode all splits into `folder`, as `prepare_splits` does.

        Args:
            processor: Fitted on the training split.
            folder: Replaced if it exists.
            split_column: As in `prepare_splits`.
            notes: As in `prepare_splits`.

        Raises:
            ValueError: If a cell of a multi-valued field is not a list of single values.
            OSError: If the disk has no room.
        """
        with whole_folder(folder, flush=False) as partial:
            _Encoding(self, processor, partial, self._folder).write(split_column)
            write_notes(partial, notes or {})


def check_can_be_streamed(schema: Schema) -> None:
    """Raise a ValueError if a field is a vector: its rows must fit into memory."""
    if vectors := [schema.fields[f].key for f in schema.vector_fields]:
        raise ValueError(
            f"Tables with vector fields cannot be streamed, but the schema has {vectors}. Read the table into "
            "memory with `stream=False`."
        )


class _Encoding:
    """The arrays of a streamed table, encoded by a processor."""

    def __init__(self, table: StreamedTable, processor: ClickPromptProcessor, folder: Path, spill_folder: Path):
        assert table._row_splits is not None, "`split` comes first"
        self.table, self.processor, self.folder, self.spill_folder = table, processor, folder, spill_folder
        self.splits = table._row_splits
        self.columns, self.counts = table._columns, table._counts
        # Per field: ids of its column's values, and clauses of fields in the text.
        self.ids: list[np.ndarray] = []
        self.clauses: list[list[str]] = []
        self.clause_ids: list[np.ndarray] = []

    def write(self, split_column: str | None) -> None:
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
                    _wait_for(running[: 1 - pa.cpu_count()] if pa.cpu_count() > 1 else running)
                    running = running[-pa.cpu_count() :]
                    running.append(pool.submit(lambda *at: writer.write(at[1], self._encoded(*at)), chunk, positions))
                _wait_for(running)
            writer.finish()
        if self.clause_ids:
            write_tokens(self.folder, self.spill_folder, self.clauses, self.processor, num_rows)
        sizes = json.dumps(self.splits.sizes)
        (self.folder / SIZES_FILE).write_text(sizes, encoding="utf-8")
        with_trained_values(self.processor, self._trained_values()).save_pretrained(self.folder / "processor")

    def _trained_values(self) -> TrainedValues:
        """Counts of the training rows, as `count_training_values` gives them."""
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
                counted.warn(f" of the {name} split", but_for=split_column)
        # the processor keeps the vocabularies, and rows need ids alone
        self.table._fitted = {}
        pa.default_memory_pool().release_unused()

    def _ids_of(self, f: int, unknown: Sequence[UnknownValues]) -> np.ndarray:
        """Ids of a field's values, (D, C); counts those that training rows did not have, per split."""
        field = self.processor.schema.fields[f]
        column = self.columns[field.column]
        if not field.num_columns:
            return np.zeros((column.num_distinct, 0), dtype=np.int32)
        of_all = self.counts[field.column].sum(axis=0)
        ids = ids_of_column(column, self._fitted(f), self.processor, f, of_all)
        for counted, counts in zip(unknown, self.counts[field.column]):
            count_unknown(column, ids, counts, f, counted)
        return ids

    def _fitted(self, f: int) -> FittedField:
        """What was fitted for a field; from its vocabulary if the table has not fitted it or has written it."""
        if self.table._fitted:
            return self.table._fitted[f]
        return FittedField(pa.array(self.processor.vocabularies[f], pa.large_string()))

    def _encoded(self, chunk: int, positions: np.ndarray) -> dict[str, np.ndarray]:
        """The encoded rows of a chunk."""
        fields, num_rows = self.processor.schema.fields, len(positions)
        ends = np.cumsum([ids.shape[1] for ids in self.ids]).tolist()
        encoded = {
            "feature_ids": np.empty((num_rows, ends[-1]), dtype=np.int32),
            "value_ids": np.empty((num_rows, len(fields)), dtype=np.int32),
            "labels": self.table._labels[chunk],
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
            encoded["value_ids"][:, f] = code_map[codes]
            if f in in_text:
                place = in_text.index(f)
                encoded["clause_ids"][:, place] = self.clause_ids[place][code_map][codes]
        return encoded


def write_tokens(
    folder: Path,
    spill_folder: Path,
    clauses: Sequence[Sequence[str]],
    processor: ClickPromptProcessor,
    num_rows: int,
) -> None:
    """Write the tokens of clauses, and the number of each row's distinct text, beside `clause_ids.npy`.

    Args:
        folder: Has `clause_ids.npy`, (N, G) indices into the clauses of all fields, one field's after another's.
        spill_folder: Where unsorted rows go; must exist.
        clauses: Per field in the text, its distinct clauses.
        processor: Has the tokenizer.
        num_rows: N.
    """
    affixes = [processor.affixes(f) for f in processor.schema.fields_in_text]
    clause_ids = folder / "clause_ids.npy"
    firsts = first_clauses(clauses)
    verified = _rows_to_verify(clause_ids, clauses, processor.tokenizer) - firsts
    arguments = (affixes, processor.tokenizer, processor.max_text_length)
    tables = TokenTables.of_clauses(clauses, verified, *arguments)
    text_column = _spilled_texts(clause_ids, spill_folder / "texts")
    _, first_rows = count_codes(text_column, [True] * len(text_column.num_rows))
    numbers = np.empty(len(first_rows), dtype=np.int64)
    numbers[np.argsort(first_rows)] = np.arange(len(first_rows))
    with RowWriter(folder, spill_folder, num_rows, {"text_ids": (np.int64, 0)}) as writer:
        row = 0
        for chunk, rows in enumerate(text_column.num_rows):
            codes, code_map = text_column.codes(chunk)
            writer.write(np.arange(row, row + rows), {"text_ids": numbers[code_map][codes]})
            row += rows
    if tables is None:
        mapped = np.load(clause_ids, mmap_mode="r")
        tables = TokenTables.of_texts(clauses, mapped[np.sort(first_rows)] - firsts, *arguments)
        del mapped
        with RowWriter(folder, spill_folder, num_rows, {"clause_ids": (np.int32, 1)}) as writer:
            for start, texts in _row_blocks(folder / "text_ids.npy"):
                positions = np.arange(start, start + len(texts))
                writer.write(positions, {"clause_ids": texts.astype(np.int32).reshape(-1, 1)})
    tables.save(folder)


def _rows_to_verify(path: Path, clauses: Sequence[Sequence[str]], tokenizer) -> np.ndarray:
    """Clause ids of the rows on which to compare the tables with tokenized texts, as `rows_to_verify` chooses them."""
    doubtful = np.concatenate(doubtful_clauses(clauses, tokenizer))
    is_left = doubtful.copy()
    wanted: list[np.ndarray] = []
    mapped = np.load(path, mmap_mode="r")
    sample = sample_of_rows(len(mapped))
    wanted.append(np.asarray(mapped[sample]))
    del mapped
    if doubtful.any():
        for _, block in _row_blocks(path):
            rows = np.flatnonzero(is_left[block].any(axis=1))
            # several rows of a block may have the same remaining clause
            for row in rows:
                if is_left[block[row]].any():
                    wanted.append(block[row : row + 1])
                    is_left[block[row]] = False
    return np.unique(np.concatenate(wanted), axis=0)


def _spilled_texts(path: Path, folder: Path) -> SpilledColumn:
    """The distinct texts of rows as a column of keys, given the file of their clause ids."""
    column = SpilledColumn(folder, pa.uint64())
    for _, block in _row_blocks(path):
        keys = np.zeros(len(block), dtype=np.uint64)
        for clause_ids in block.T:
            keys = hash_numbers(keys ^ clause_ids.astype(np.uint64))
        column.add(DistinctValues.of(pa.array(keys)))
    column.merge()
    return column


def _row_blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Read an array in blocks of rows, each after the number of its first row, without mapping the file."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        width = int(np.prod(shape[1:], dtype=np.int64))
        for start in range(0, shape[0], ROWS_PER_CHUNK):
            rows = min(ROWS_PER_CHUNK, shape[0] - start)
            yield start, np.fromfile(file, dtype=kind, count=rows * width).reshape(rows, *shape[1:])


def _count_pairs(parts: np.ndarray, codes: np.ndarray, num_parts: int, num_codes: int) -> np.ndarray:
    """Number of rows of each pair of a part and a code, (parts, codes); rows of no part do not count."""
    # `LEFT_OUT` is -1
    pairs = (parts + 1) * num_codes + codes
    return np.bincount(pairs, minlength=(num_parts + 1) * num_codes).reshape(-1, num_codes)[1:]


def _add(column: SpilledColumn, chunk: pa.ChunkedArray) -> None:
    column.add(DistinctValues.of(chunk))


def _wait_for(running: Iterable[Future]) -> None:
    for future in running:
        future.result()
