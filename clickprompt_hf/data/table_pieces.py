# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read and write tables larger than memory, in pieces of equally many rows.

Piece p of a table holds rows p * N to (p + 1) * N - 1; the last piece may be shorter. Memory holds one piece, plus
what the file format keeps together: a few blocks of a CSV file, a page of each column of a Parquet file.
"""

import gzip
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..schema_clickprompt import CsvFormat
from .csv_files import CsvFile
from .csv_writer import csv_bytes
from .json_lines import JsonLinesFile
from .opened_files import errors_naming
from .table_files import A_PARQUET_FILE, ParquetFile, open_table_file

TableFormat = Literal["csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "tsv.zst", "parquet"]

ENDINGS_WRITTEN = ".csv or .tsv, optionally followed by .gz or .zst, or .parquet"
# In bytes.
_PARQUET_BUFFER = 1 << 20


def table_format(path: Path) -> TableFormat:
    """The format in which a table is written, by the ending of its file name, in any case.

    Raises:
        ValueError: If the ending is unknown.
    """
    for name in get_args(TableFormat):
        if path.name.lower().endswith(f".{name}"):
            return name
    raise ValueError(f"must end in {ENDINGS_WRITTEN}, got {path.name!r}")


class TextPieces:
    """The pieces of a CSV or JSON lines file.

    Args:
        file: The file.
        rows: Rows per piece.
    """

    def __init__(self, file: CsvFile | JsonLinesFile, rows: int):
        self.file, self.rows = file, rows

    @property
    def schema(self) -> pa.Schema:
        """Column names and types."""
        return self.file.schema

    @property
    def num_rows(self) -> int | None:
        """Number of rows; `None` until a CSV file has been read to its end."""
        return self.file.num_rows

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: a sentence that starts with a space, or an empty string."""
        return self.file.advise_on_columns()

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Iterate over the pieces whose numbers are `wanted`, as (number, piece) in order. Reads through the others.

        Raises:
            ValueError: If the file is broken; the message names the line.
        """
        yield from _cut(self.file.batches(), 0, self.rows, wanted)


class ParquetPieces:
    """The pieces of a Parquet file, with the file's types. Row groups without a wanted piece are not read.

    Args:
        file: The file.
        rows: Rows per piece.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows.
    """

    def __init__(self, file: ParquetFile, rows: int):
        self.path, self.rows = file.path, rows
        self.schema, self.num_rows = file.schema, file.num_rows

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: nothing is known."""
        return ""

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Iterate over the pieces whose numbers are `wanted`, as (number, piece) in order.

        Raises:
            ValueError: If the file is broken.
        """
        with (
            errors_naming(self.path, A_PARQUET_FILE),
            pq.ParquetFile(self.path, buffer_size=_PARQUET_BUFFER) as file,
        ):
            metadata = file.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            starts = np.cumsum([0, *sizes]).tolist()
            needed = [
                group
                for group, size in enumerate(sizes)
                if size
                and any(map(wanted, range(starts[group] // self.rows, (starts[group + 1] - 1) // self.rows + 1)))
            ]
            # A piece may span several row groups, which are then consecutive.
            for groups in _runs(needed):
                batches = file.iter_batches(self.rows, row_groups=groups)
                yield from _cut(batches, starts[groups[0]], self.rows, wanted)


def open_table(path: Path, rows: int, csv_format: CsvFormat | None = None) -> TextPieces | ParquetPieces:
    """Open a table to read in pieces of `rows` rows; the ending of the file name decides the format.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the ending is unknown or the file is broken.
    """
    file = open_table_file(path, csv_format)
    return ParquetPieces(file, rows) if isinstance(file, ParquetFile) else TextPieces(file, rows)


def write_piece(table: pa.Table, path: Path, file_format: TableFormat) -> None:
    """Write one piece, to be joined by `join_pieces`."""
    if file_format == "parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(_compressed(table, file_format, header=False))


def join_pieces(pieces: Sequence[Path], schema: pa.Schema, path: Path, file_format: TableFormat) -> None:
    """Join files that `write_piece` wrote, in the given order, into one table with the columns of `schema`."""
    if file_format == "parquet":
        with pq.ParquetWriter(path, schema) as writer:
            for piece in pieces:
                with pq.ParquetFile(piece) as file:
                    writer.write_table(file.read())
        return
    with path.open("wb") as whole:
        # Concatenated files of gzip or zstandard are one file.
        whole.write(_compressed(schema.empty_table(), file_format, header=True))
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, whole)


def _compressed(table: pa.Table, file_format: TableFormat, header: bool) -> bytes:
    text = csv_bytes(table, "\t" if file_format.startswith("tsv") else ",", header)
    if file_format.endswith(".gz"):
        # Without a modification time, equal rows give equal bytes.
        return gzip.compress(text, mtime=0)
    return pa.compress(text, codec="zstd", asbytes=True) if file_format.endswith(".zst") else text


def _cut(
    batches: Iterator[pa.RecordBatch], first_row: int, rows: int, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, pa.Table]]:
    """Cut `batches`, which start at row `first_row` of the table, into pieces, and yield the wanted ones."""
    row, held = first_row, []
    for batch in batches:
        while len(batch):
            piece = row // rows
            part = batch.slice(0, (piece + 1) * rows - row)
            if wanted(piece):
                held.append(part)
            row += len(part)
            batch = batch.slice(len(part))
            if held and row % rows == 0:
                yield piece, pa.Table.from_batches(held)
                held = []
    if held:
        yield row // rows, pa.Table.from_batches(held)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Split ascending numbers into runs of consecutive ones."""
    if not numbers:
        return []
    gaps = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [run.tolist() for run in np.split(np.asarray(numbers), gaps)]
