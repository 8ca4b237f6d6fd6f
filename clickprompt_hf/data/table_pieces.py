# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read and write tables larger than memory, in pieces of equally many rows.

Piece p of a table holds rows p * N to (p + 1) * N - 1; the last piece may be shorter. Memory holds one piece, plus
what the file format keeps together: a few blocks of a CSV file, a page of each column of a Parquet file.
"""

import csv
import gzip
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from .csv_faults import advise_separator, describe_broken_utf8

TableFormat = Literal["csv", "csv.gz", "parquet"]

# In bytes. A CSV row must fit in a block, and Arrow reads up to 32 blocks ahead.
_CSV_BLOCK = 1 << 22
_PARQUET_BUFFER = 1 << 20
_END_OF_FILE = "end of file"


def table_format(path: Path) -> TableFormat:
    """The format of a table, by the ending of its file name.

    Raises:
        ValueError: If the ending is unknown.
    """
    for name in get_args(TableFormat):
        if path.name.endswith(f".{name}"):
            return name
    raise ValueError(f"must end in .csv, .csv.gz or .parquet, got {path.name!r}")


class CsvPieces:
    """The pieces of a CSV file, gzipped or not, in UTF-8 with a header. All cells are strings, unchanged.

    Blank lines are skipped. A row with more or fewer cells than the header is an error. So is a quoted cell that is
    never closed, which would swallow all rows after it.

    Args:
        path: The file.
        rows: Rows per piece.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows; `None` until the file has been read to its end.

    Raises:
        ValueError: If the file has no header, or separators other than commas.
    """

    def __init__(self, path: Path, rows: int):
        self.path, self.rows = path, rows
        self.num_rows: int | None = None
        with _errors_naming(path, _A_CSV_FILE), _opened(path) as stream:
            # The decoder reads past the header. Errors there are left to Arrow, which names the row.
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            header = next((line for line in csv.reader(text) if line), [])
            self.schema = pa.schema([(name, pa.string()) for name in header])
            self._has_only_header = not text.read(1)
        if not header:
            raise ValueError(f"{path} must be {_A_CSV_FILE}, but it is empty.")
        if len(header) == 1 and (advice := advise_separator(path)):
            raise ValueError(f"{path} must be {_A_CSV_FILE} and commas; it has only the column {header}.{advice}")

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Iterate over the pieces whose numbers are `wanted`, as (number, piece) in order. Reads through the others.

        Raises:
            ValueError: If the file is broken. The message names the row, counted from 1 with the header.
        """
        with _errors_naming(self.path, _A_CSV_FILE):
            yield from _cut(self._batches(), 0, self.rows, wanted)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        # Arrow refuses a header without a line end.
        if self._has_only_header:
            self.num_rows = 0
            return
        self.num_rows = None
        num_rows, names = 0, self.schema.names
        # Arrow accepts a quoted cell that is never closed. To detect one, append a row with one cell too many: Arrow
        # reports this row, unless such a cell has swallowed it.
        last_row = ",".join([_END_OF_FILE] * (len(names) + 1))
        seen_last_row = False

        def skip_last_row(row: pa.csv.InvalidRow) -> str:
            nonlocal seen_last_row
            seen_last_row |= row.text == last_row
            return "skip" if row.text == last_row else "error"

        with (
            _opened(self.path) as stream,
            pa.csv.open_csv(
                _Appended(stream, f"\n{last_row}".encode()),
                # Several threads are no faster, and their errors do not name the row.
                read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip_last_row),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            ) as reader,
        ):
            if reader.schema.names != names:
                raise ValueError(f"{self.path} must be {_A_CSV_FILE}, but its header is ambiguous: {names}.")
            for batch in reader:
                num_rows += len(batch)
                yield batch
        if not seen_last_row:
            raise ValueError(f"{self.path} has a quoted cell that is never closed.")
        self.num_rows = num_rows


class ParquetPieces:
    """The pieces of a Parquet file, with the file's types. Row groups without a wanted piece are not read.

    Args:
        path: The file.
        rows: Rows per piece.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows.

    Raises:
        ValueError: If the file is not a whole Parquet file.
    """

    def __init__(self, path: Path, rows: int):
        self.path, self.rows = path, rows
        with _errors_naming(path, _A_PARQUET_FILE), pq.ParquetFile(path) as file:
            self.schema: pa.Schema = file.schema_arrow
            self.num_rows: int | None = file.metadata.num_rows

    def read(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, pa.Table]]:
        """Iterate over the pieces whose numbers are `wanted`, as (number, piece) in order.

        Raises:
            ValueError: If the file is broken.
        """
        with (
            _errors_naming(self.path, _A_PARQUET_FILE),
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


def open_table(path: Path, rows: int) -> CsvPieces | ParquetPieces:
    """Open a table to read in pieces of `rows` rows; the ending of the file name tells the format.

    Raises:
        ValueError: If the ending is unknown or the file is broken.
    """
    return ParquetPieces(path, rows) if table_format(path) == "parquet" else CsvPieces(path, rows)


def write_piece(table: pa.Table, path: Path, file_format: TableFormat) -> None:
    """Write one piece, to be joined by `join_pieces`."""
    if file_format == "parquet":
        pq.write_table(table, path)
    else:
        path.write_bytes(_csv_bytes(table, file_format, header=False))


def join_pieces(pieces: Sequence[Path], schema: pa.Schema, path: Path, file_format: TableFormat) -> None:
    """Join files that `write_piece` wrote, in the given order, into one table with the columns of `schema`."""
    if file_format == "parquet":
        with pq.ParquetWriter(path, schema) as writer:
            for piece in pieces:
                with pq.ParquetFile(piece) as file:
                    writer.write_table(file.read())
        return
    with path.open("wb") as whole:
        # Concatenated gzip files are a gzip file.
        whole.write(_csv_bytes(schema.empty_table(), file_format, header=True))
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, whole)


def _csv_bytes(table: pa.Table, file_format: TableFormat, header: bool) -> bytes:
    # By default, integers beside nulls become floats and lose digits.
    frame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    text = frame.to_csv(header=header, index=False).encode()
    # Without a modification time, equal rows give equal bytes.
    return gzip.compress(text, mtime=0) if file_format == "csv.gz" else text


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


class _Appended:
    """A stream with `end` after its content, and the methods of a file that Arrow needs."""

    closed = False

    def __init__(self, stream: pa.NativeFile, end: bytes):
        self.stream, self.end = stream, end

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if not data:
            data, self.end = self.end, b""
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
def _errors_naming(path: Path, what: str) -> Iterator[None]:
    """Turn errors while reading `path` into a ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, UnicodeError, csv.Error, OSError) as error:
        problem = describe_broken_utf8(path) if path.suffix == ".csv" else None
        raise ValueError(f"{path} must be {what}: {problem or error}") from error
