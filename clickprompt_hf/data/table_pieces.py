# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables larger than memory, read and written in pieces of equally many rows.

Piece p of a table holds its rows p * N to (p + 1) * N - 1; the last one may be shorter. Only one piece is in memory,
and what the file's own format keeps together: blocks of a CSV file, a page of each column of a Parquet file.
"""

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from .csv_faults import advise_separator, describe_broken_utf8

TableFormat = Literal["csv", "csv.gz", "parquet"]

# bytes; a row of a CSV file must fit in, and Arrow reads up to 32 blocks ahead
_CSV_BLOCK = 1 << 22
_PARQUET_BUFFER = 1 << 20


def table_format(path: Path) -> TableFormat:
    """The format that the ending of a file's name tells.

    Raises:
        ValueError: If it tells none.
    """
    for name in get_args(TableFormat):
        if path.name.endswith(f".{name}"):
            return name
    raise ValueError(f"must end in .csv, .csv.gz or .parquet, got {path.name!r}")


class CsvPieces:
    """The pieces of a CSV file, gzipped or not, in UTF-8 with a header; all cells are strings, as they stand there.

    A row that has not the header's number of cells is an error; so is a quoted cell that is never closed, which would
    swallow all rows behind it. Blank lines are no rows.

    Args:
        path: The file.
        rows: Of a piece.

    Attributes:
        schema: Columns and types.
        num_rows: `None` until the file has been read to its end.

    Raises:
        ValueError: If the file has no header, or other separators than commas.
    """

    def __init__(self, path: Path, rows: int):
        self.path, self.rows = path, rows
        self.num_rows: int | None = None
        with _named_errors(path, _A_CSV_FILE), _opened(path) as stream:
            # rows behind the header are decoded too, and their errors are left to Arrow, which names them
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            header = next((line for line in csv.reader(text) if line), [])
            self.schema = pa.schema([(name, pa.string()) for name in header])
            self._is_bare = not text.read(1)
        if not header:
            raise ValueError(f"{path} must be {_A_CSV_FILE}, but it is empty.")
        if len(header) == 1 and (advice := advise_separator(path)):
            raise ValueError(f"{path} must be {_A_CSV_FILE} and commas; it has only the column {header}.{advice}")

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """The pieces whose numbers are `wanted`, with their numbers, in order. Reads through the others.

        Raises:
            ValueError: If the file is broken; the message names the row, counted from 1 with the header.
        """
        with _named_errors(self.path, _A_CSV_FILE):
            yield from _cut(self._batches(), 0, self.rows, wanted)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        self.num_rows = None
        rows = 0
        # to Arrow a header without a line end is an error
        for batch in () if self._is_bare else self._batches_and_end():
            rows += len(batch)
            yield batch
        self.num_rows = rows

    def _batches_and_end(self) -> Iterator[pa.RecordBatch]:
        """The rows, less the one that was put behind them."""
        names = self.schema.names
        with (
            _opened(self.path) as stream,
            pa.csv.open_csv(
                _WithLastRow(stream, b"\n" + b",".join([b"end"] * len(names))),
                # with several threads errors do not name the row, and it is no faster
                read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            ) as reader,
        ):
            if reader.schema.names != names:
                raise ValueError(f"{self.path} must be {_A_CSV_FILE}, but its header is ambiguous: {names}.")
            last = None
            for batch in reader:
                if last is not None and len(batch):
                    yield last
                last = batch if len(batch) else last
        if last is None or any(column[-1].as_py() != "end" for column in last.columns):
            raise ValueError(f"{self.path} has a quoted cell that is never closed.")
        yield last.slice(0, len(last) - 1)


class ParquetPieces:
    """The pieces of a Parquet file, with its own types. Row groups without a wanted piece are not read.

    Args:
        path: The file.
        rows: Of a piece.

    Attributes:
        schema: Columns and types.
        num_rows: Of the file.

    Raises:
        ValueError: If it is no Parquet file, or a part of one.
    """

    def __init__(self, path: Path, rows: int):
        self.path, self.rows = path, rows
        with _named_errors(path, _A_PARQUET_FILE), pq.ParquetFile(path) as file:
            self.schema: pa.Schema = file.schema_arrow
            self.num_rows: int | None = file.metadata.num_rows

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """The pieces whose numbers are `wanted`, with their numbers, in order.

        Raises:
            ValueError: If the file is broken.
        """
        with (
            _named_errors(self.path, _A_PARQUET_FILE),
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
            # a piece may lie in several row groups, which stand one after another then
            for groups in _runs(needed):
                batches = file.iter_batches(self.rows, row_groups=groups)
                yield from _cut(batches, starts[groups[0]], self.rows, wanted)


def open_table(path: Path, rows: int) -> CsvPieces | ParquetPieces:
    """The pieces of a file, by its ending; see the two classes."""
    return ParquetPieces(path, rows) if table_format(path) == "parquet" else CsvPieces(path, rows)


def write_piece(table: pa.Table, path: Path, file_format: TableFormat) -> None:
    """Writes one piece, for `join_pieces`."""
    if file_format == "parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(_csv_bytes(table, file_format, header=False))


def join_pieces(pieces: Sequence[Path], schema: pa.Schema, path: Path, file_format: TableFormat) -> None:
    """Joins what `write_piece` wrote, in the given order, with the columns of `schema`; no pieces give no rows."""
    if file_format == "parquet":
        with pq.ParquetWriter(path, schema) as writer:
            for piece in pieces:
                with pq.ParquetFile(piece) as file:
                    writer.write_table(file.read())
        return
    with path.open("wb") as whole:
        # files that were gzipped one by one are, one after another, a gzip file
        whole.write(_csv_bytes(schema.empty_table(), file_format, header=True))
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, whole)


def _csv_bytes(table: pa.Table, file_format: TableFormat, header: bool) -> bytes:
    # integers beside nulls would become floats, and lose digits
    frame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    text = frame.to_csv(header=header, index=False).encode()
    # no time, so that equal rows are equal bytes
    return gzip.compress(text, mtime=0) if file_format == "csv.gz" else text


def _cut(
    batches: Iterator[pa.RecordBatch], first_row: int, rows: int, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, pa.Table]]:
    """The wanted pieces of `batches`, which begin at row `first_row` of their table and hold these pieces whole."""
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
    """Ascending numbers, cut where they do not follow one another."""
    if not numbers:
        return []
    gaps = np.flatnonzero(np.diff(numbers) > 1) + 1
    return [run.tolist() for run in np.split(np.asarray(numbers), gaps)]


class _WithLastRow:
    """A file with one more row behind it: where that row is not found again, something has swallowed it."""

    closed = False

    def __init__(self, stream: Any, row: bytes):
        self.stream, self.row = stream, row

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if not data:
            data, self.row = self.row, b""
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


_A_CSV_FILE = "a CSV file in UTF-8 with a header"
_A_PARQUET_FILE = "a Parquet file"


def _opened(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)


@contextmanager
def _named_errors(path: Path, what: str) -> Iterator[None]:
    """Errors of reading `path` as ValueErrors that name it."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, UnicodeError, csv.Error, OSError) as error:
        problem = describe_broken_utf8(path) if path.suffix == ".csv" else None
        raise ValueError(f"{path} must be {what}: {problem or error}") from error
