# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The rows of files, read once in chunks of bounded size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ...schema_clickprompt import Schema
from ..arrow_cells import plain_type
from ..hive_folders import ReadableFile
from ..opened_files import COMPRESSIONS
from ..table_files import (
    ParquetFile,
    TableKind,
    check_columns,
    check_types,
    needed_columns,
    open_joined_file,
    read_dimension_tables,
    table_kind,
)

ROWS_PER_CHUNK = 1 << 20
_BYTES_PER_CHUNK = 1 << 28
# Tables of at least this size are streamed by default.
STREAMED_ROWS, STREAMED_BYTES = 5_000_000, 1 << 30
# Compressed text counts as this many times its size.
_COMPRESSION = 4


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table.

    Args:
        rows: The rows, in the stream's columns and types.
        split: The split whose files they come from; empty if the files are to be split.
        first_row: Number of the first row, counted over all files.
    """

    rows: pa.Table
    split: str
    first_row: int


class TableStream:
    """Files of one table, or of several splits, that are read in chunks.

    All files are opened at once, so that a mistake in the last one is found before the first one is read.

    Args:
        files: Files by split; under the empty name if they are to be split.
        schema: Names the columns to read and the tables to join, and says how CSV files are written.
        kind: What files are whose names have other endings than tables have.
        split_column: A column to read even if the schema does not name it.
        with_time: Whether to read the column of times, which files must have in any case if the schema names it.

    Attributes:
        types: Names and types of the columns.
        tables: The tables that the schema joins.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is broken, lacks a column, or has another type of column than the first one; the message
            names the file.
    """

    def __init__(
        self,
        files: Mapping[str, Sequence[Path]],
        schema: Schema,
        kind: TableKind | None = None,
        split_column: str | None = None,
        with_time: bool = True,
    ):
        needed = needed_columns(schema, split_column)
        wanted = {*schema.raw_columns, schema.label, split_column, *([schema.time] if with_time else [])}
        self.columns = [name for name in needed if name in wanted]
        self._files: list[tuple[str, ReadableFile]] = []
        self._states: dict[Path, tuple[int, int]] = {}
        types: list[pa.Schema] = []
        self.tables = read_dimension_tables(schema, needed)
        for split, paths in files.items():
            for path in paths:
                # before it is opened: JSON lines are read for their columns
                state = _state_of(path)
                file = open_joined_file(path, self.tables, schema.csv, kind, schema.numeric_columns)
                check_columns(file.schema.names, needed, str(path), file.advise_on_columns())
                types.append(pa.schema([(name, _decoded(file.schema.field(name).type)) for name in self.columns]))
                check_types(types[0], types[-1], self._files[0][1].path if self._files else path, path)
                self._files.append((split, file))
                self._states[path] = state
        self.types = pa.unify_schemas(types, promote_options="permissive")

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return [file.path for _, file in self._files]

    @property
    def spill_bytes(self) -> int:
        """Approximate bytes that codes and values of these files take on the disk while they are prepared."""
        num_rows = sum(file.num_rows or 0 for _, file in self._files)
        return 4 * num_rows * len(self.columns) + sum(size for size, _ in self._states.values())

    def chunks(self) -> Iterator[Chunk]:
        """Read the rows.

        Raises:
            FileNotFoundError: If a file is missing by now.
            ValueError: If a file is broken or has changed since it was opened; the message names it.
        """
        first_row = 0
        for split in dict.fromkeys(split for split, _ in self._files):
            held: list[pa.RecordBatch] = []
            num_rows = num_bytes = 0
            for batch in self._batches(split):
                held.append(batch)
                num_rows, num_bytes = num_rows + len(batch), num_bytes + batch.nbytes
                if num_rows >= ROWS_PER_CHUNK or num_bytes >= _BYTES_PER_CHUNK:
                    yield Chunk(self._table(held), split, first_row)
                    first_row, held, num_rows, num_bytes = first_row + num_rows, [], 0, 0
            if held:
                yield Chunk(self._table(held), split, first_row)
                first_row += num_rows
            for table in self.tables:
                table.warn_of_lost_keys(f" of the {split} split" if split else "")

    def check_unchanged(self, path: Path) -> None:
        """Refuse a file that has changed since it was opened.

        Raises:
            FileNotFoundError: If it is missing.
            ValueError: If its size or time differ.
        """
        if _state_of(path) != self._states[path]:
            raise ValueError(f"{path} must not change while it is read, but it has. Start again.")

    def _batches(self, split: str) -> Iterator[pa.RecordBatch]:
        for name, file in self._files:
            if name == split:
                self.check_unchanged(file.path)
                yield from (batch for batch in file.batches(self.columns) if len(batch))
                self.check_unchanged(file.path)

    def _table(self, batches: list[pa.RecordBatch]) -> pa.Table:
        tables = [pa.Table.from_batches([batch.replace_schema_metadata(None)]) for batch in batches]
        return pa.concat_tables([table.cast(self.types) for table in tables])


def is_large(files: Iterable[Path], kind: TableKind | None = None) -> bool:
    """Whether a table has at least `STREAMED_ROWS` rows in Parquet files, or `STREAMED_BYTES` in CSV or JSON lines.

    Args:
        files: The files.
        kind: What files are whose names have other endings than tables have.

    Raises:
        ValueError: If a Parquet file is broken.
    """
    num_rows = num_bytes = 0
    for path in files:
        if (table_kind(path) or kind) == "parquet":
            num_rows += ParquetFile(path).num_rows or 0
        else:
            is_compressed = path.suffix.lower() in COMPRESSIONS
            num_bytes += path.stat().st_size * (_COMPRESSION if is_compressed else 1)
    return num_rows >= STREAMED_ROWS or num_bytes >= STREAMED_BYTES


def _decoded(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary, or the type itself; plain strings instead of views."""
    return plain_type(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _state_of(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There must be a file at {path}, but there is none.") from error
    return found.st_size, found.st_mtime_ns
