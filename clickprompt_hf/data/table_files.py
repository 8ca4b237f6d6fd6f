# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read tables from files, one or several: CSV, JSON lines or Parquet, compressed or not."""

import glob
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ..schema_clickprompt import CsvFormat, Schema, TableSchema
from ..tables_clickprompt import JoinedTables
from .arrow_cells import decoded_table
from .csv_files import CsvFile
from .dimension_tables import DimensionTable, check_different_columns, with_joined_columns
from .hive_folders import ReadableFile, with_folder_columns
from .json_lines import JsonLinesFile
from .opened_files import errors_naming

TableKind = Literal["csv", "jsonl", "parquet"]
# One or several files, folders of files, or glob patterns.
Paths = str | Path | Sequence[str | Path]

_ENDING = re.compile(r"\.(?:(csv|tsv|jsonl)(\.gz|\.zst)?|parquet)", re.IGNORECASE)
_KINDS: dict[str, TableKind] = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "parquet": "parquet"}
ENDINGS = ".csv, .tsv or .jsonl, optionally followed by .gz or .zst, or .parquet"
# As in train-00000-of-00004.parquet.
_SHARD = re.compile(r"(.*-)(\d{5})-of-(\d{5})(.*)")
A_PARQUET_FILE = "a Parquet file"
# Rows that are read from a Parquet file at a time.
_PARQUET_ROWS = 65_536
_SPLIT_COLUMN = "`split_column`"


class ParquetFile:
    """A Parquet file, with its types.

    Args:
        path: The file.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows.

    Raises:
        ValueError: If it is not a whole Parquet file.
    """

    def __init__(self, path: Path):
        self.path = path
        with errors_naming(path, A_PARQUET_FILE), pq.ParquetFile(path) as file:
            self.schema: pa.Schema = file.schema_arrow
            self.num_rows: int | None = file.metadata.num_rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows.

        Args:
            columns: Names of the columns to read; all by default.

        Raises:
            ValueError: If the file is broken.
        """
        wanted = self.schema.names if columns is None else list(columns)
        with errors_naming(self.path, A_PARQUET_FILE), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
                yield batch if columns is None else batch.select(wanted)

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: nothing is known."""
        return ""


TableFile = CsvFile | JsonLinesFile | ParquetFile


def table_kind(path: Path) -> TableKind | None:
    """The kind of a table, by the ending of its file name in any case; `None` if the ending is unknown."""
    endings = list(_ENDING.finditer(path.name))
    if not endings or endings[-1].end() < len(path.name):
        return None
    return _KINDS[(endings[-1][1] or "parquet").lower()]


def open_table_file(
    path: Path,
    csv_format: CsvFormat | None = None,
    kind: TableKind | None = None,
    numeric_columns: Collection[str] = (),
) -> TableFile:
    """Open a table.

    Args:
        path: The file.
        csv_format: How CSV files are written.
        kind: What a file is whose name has another ending than tables have.
        numeric_columns: Columns whose numbers are written as `csv_format` says; only CSV files have such a format.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the ending is unknown or the file is broken.
    """
    kind = table_kind(path) or kind
    if kind is None:
        raise ValueError(f"A table's file name must end in {ENDINGS}, got {path}.")
    if not path.is_file():
        raise FileNotFoundError(
            f"There must be a file at {path}, but there is {'a folder' if path.is_dir() else 'none'}."
        )
    if kind == "csv":
        return CsvFile(path, csv_format, numeric_columns)
    return JsonLinesFile(path) if kind == "jsonl" else ParquetFile(path)


def open_joined_file(
    path: Path,
    tables: Sequence[DimensionTable],
    csv_format: CsvFormat | None = None,
    kind: TableKind | None = None,
    numeric_columns: Collection[str] = (),
) -> ReadableFile:
    """Open a table with the columns in the names of its folders and those of joined tables.

    Args:
        path: As in `open_table_file`.
        tables: As `read_dimension_tables` returns them.
        csv_format: As in `open_table_file`.
        kind: As in `open_table_file`.
        numeric_columns: As in `open_table_file`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the ending is unknown, the file is broken or it lacks the key of a table.
    """
    return with_joined_columns(with_folder_columns(open_table_file(path, csv_format, kind, numeric_columns)), tables)


def read_dimension_tables(schema: Schema, wanted: Collection[str] | None = None) -> list[DimensionTable]:
    """Read the tables that a schema joins.

    Args:
        schema: Names the tables, and says how CSV files are written.
        wanted: Columns to read; by default those that the schema names.

    Raises:
        FileNotFoundError: If a table does not exist.
        ValueError: If a table is broken, lacks its key or repeats a key, or two tables have the same column.
    """
    wanted = needed_columns(schema) if wanted is None else wanted
    tables = []
    for described in schema.tables:
        path = Path(described.file)
        if not path.is_file():
            raise FileNotFoundError(
                f"`file` of one of the `tables` of the schema must be a file, but there is none at {path}."
            )
        tables.append(DimensionTable(open_dimension_file(described, schema), described, wanted))
    check_different_columns(tables)
    return tables


def csv_format_of_table(described: TableSchema, csv_format: CsvFormat | None) -> CsvFormat | None:
    """How a joined CSV file is written: by default like the log (`csv_format`), but with a header of its own."""
    if described.csv is not None or csv_format is None:
        return described.csv
    return replace(csv_format, column_names=None)


def open_dimension_file(described: TableSchema, schema: Schema) -> ReadableFile:
    """Open the file of a table that a schema joins.

    Args:
        described: The table.
        schema: Names the numeric columns, and says how CSV files are written.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the ending is unknown or the file is broken.
    """
    # the table's own names: its key, and its columns without the prefix
    numeric = [described.key_column for name in schema.numeric_columns if name == described.key]
    prefix = described.prefix
    numeric += [name[len(prefix) :] for name in schema.numeric_columns if name.startswith(prefix)]
    csv_format = csv_format_of_table(described, schema.csv)
    return open_table_file(Path(described.file), csv_format, numeric_columns=numeric)


def joined_tables(schema: Schema, tables: Sequence[DimensionTable] | None = None) -> JoinedTables | None:
    """The tables that a schema joins, with its fields' columns, to be saved with a processor; `None` if it joins none.

    Args:
        schema: The schema.
        tables: Its tables, if they were read before.

    Raises:
        FileNotFoundError: If a table does not exist.
        ValueError: As `read_dimension_tables` raises it.
    """
    if not schema.tables:
        return None
    tables = read_dimension_tables(schema) if tables is None else tables
    return JoinedTables([table.joined_table(schema.raw_columns) for table in tables])


def read_table_files(
    paths: Paths, schema: Schema, kind: TableKind | None = None, split_column: str | None = None
) -> pa.Table:
    """Read the columns of a schema from the rows of all files, in the order given.

    Args:
        paths: Files, folders of files, or glob patterns such as `"part-*.csv"`; one or several of them. Files of a
            folder or pattern are read in the order of their names. Folders named like `day=2024-01-31` are searched
            too, and such names are columns of strings.
        schema: Names the columns to read and the tables to join, and says how CSV files are written.
        kind: What files are whose names have other endings than tables have.
        split_column: A column to read even if the schema does not name it.

    Returns:
        The columns of the fields, the label, the time and `split_column`, each once. Cells of CSV files are strings.

    Raises:
        FileNotFoundError: If a path names no file.
        ValueError: If there are no rows, or a file is broken, lacks a column or has another type of column than the
            first one; the message names the file.
    """
    columns = needed_columns(schema, split_column)
    tables: list[pa.Table] = []
    files = list_table_files(paths)
    to_join = read_dimension_tables(schema, columns)
    for path in files:
        table = read_columns(open_joined_file(path, to_join, schema.csv, kind, schema.numeric_columns), columns)
        tables.append(table if len(files) == 1 else decoded_table(table))
        check_types(tables[0].schema, tables[-1].schema, files[0], path)
    for joined in to_join:
        joined.warn_of_lost_keys()
    if not any(map(len, tables)):
        raise ValueError(f"{' and '.join(map(str, files))} must have rows, but there are none.")
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def read_columns(file: ReadableFile, columns: Mapping[str, str]) -> pa.Table:
    """Read columns of all rows, given as `needed_columns` returns them.

    Raises:
        ValueError: If the file is broken or lacks a column; the message names the file.
    """
    check_columns(file.schema.names, columns, str(file.path), file.advise_on_columns())
    types = pa.schema([file.schema.field(name) for name in columns])
    return pa.Table.from_batches(file.batches(list(columns)), types)


def list_table_files(paths: Paths) -> list[Path]:
    """The files that `paths` names, in order; see `read_table_files`.

    Raises:
        FileNotFoundError: If a path names no file.
    """
    found = []
    for path in several(paths):
        if Path(path).is_file():
            files = [Path(path)]
        elif Path(path).is_dir():
            files = _files_in(Path(path))
        else:
            files = files_matching(path)
        if not files:
            inside = f"a file in it that ends in {ENDINGS}" if Path(path).is_dir() else "a file or a pattern of files"
            raise FileNotFoundError(f"There must be {inside}, but there is none at {path}.")
        found += files
    return found


def _files_in(folder: Path) -> list[Path]:
    """The tables in a folder and in its folders that are named like `day=2024-01-31`.

    Raises:
        FileNotFoundError: If the names of the files count more shards than there are.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and table_kind(file))
    counted = {found[1] + found[4]: int(found[3]) for file in files if (found := _SHARD.fullmatch(file.name))}
    for name, expected in counted.items():
        shards = [found for file in files if (found := _SHARD.fullmatch(file.name)) and found[1] + found[4] == name]
        if missing := sorted({*range(expected)} - {int(found[2]) for found in shards}):
            raise FileNotFoundError(
                f"{folder} must have all numbered files, but number {missing[0]} of {shards[0][1]}*-of-{shards[0][3]} "
                "is missing."
            )
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and "=" in path.name[1:]):
        files += _files_in(inner)
    return files


def files_matching(pattern: str | Path) -> list[Path]:
    """The files that a glob pattern matches, in the order of their names."""
    return sorted(file for file in map(Path, glob.glob(str(pattern), recursive=True)) if file.is_file())


def several(paths: Paths) -> list[str | Path]:
    """The files, folders and patterns as a list, even if there is just one."""
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def needed_columns(schema: Schema, split_column: str | None = None) -> dict[str, str]:
    """Columns that the schema or a split by user names, and what each of them is; the time may be a field as well."""
    needed = dict.fromkeys(schema.raw_columns, "a field of the schema")
    needed.setdefault(schema.label, "the `label` of the schema")
    if schema.time:
        needed.setdefault(schema.time, "the `time` of the schema")
    if split_column is not None:
        needed.setdefault(split_column, _SPLIT_COLUMN)
    return needed


def check_columns(given: Iterable[str], needed: Mapping[str, str], where: str, advice: str = "") -> None:
    """Raise a ValueError that names the first of the `needed` columns that `where` lacks or has twice.

    Args:
        given: Columns of the table.
        needed: As `needed_columns` returns them.
        where: The table, in messages.
        advice: End of the message about a missing column.
    """
    given = list(given)
    for column, what in needed.items():
        if column not in given:
            if what == _SPLIT_COLUMN:
                raise ValueError(f"{what} must be one of the columns of {where}, {given}, got {column!r}.{advice}")
            raise ValueError(f"{where} must have the column {column!r}, {what}; it has {given}.{advice}")
        if given.count(column) > 1:
            raise ValueError(f"{where} must have the column {column!r} once; it has {given}.")


def check_types(first: pa.Schema, other: pa.Schema, first_path: Path, path: Path) -> None:
    """Refuse columns whose values would be spelled differently if all files had the same type."""
    for name in first.names:
        expected, found = first.field(name).type, other.field(name).type
        if _family(expected) != _family(found) and not {expected, found} & {pa.null()}:
            raise ValueError(
                f"{path} must have the type {expected} in column {name!r}, as {first_path} has, but it has {found}."
            )


def _family(kind: pa.DataType) -> str:
    """A name that types share if Arrow unites them without changing values."""
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "integer"
    return "string" if pa.types.is_large_string(kind) else str(kind)
