# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""CSV and Parquet files, and data sets of the HuggingFace Hub, each with a schema."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ...schema_clickprompt import Schema
from ..csv_faults import advise_separator, describe_broken_utf8
from ..splits import check_columns, in_memory_dataset, needed_columns
from .source import SourceTable

# a file is cut into blocks between rows: no row may be as long as two
_READ_OPTIONS = csv.ReadOptions(block_size=1 << 24)
# else a large file is cut into blocks at any line break
_PARSE_OPTIONS = csv.ParseOptions(newlines_in_values=True)


def load_csv(path: str | Path | None, schema: Schema) -> SourceTable:
    """A CSV file with a header, in UTF-8.

    Fields stay the strings that they are, so that an id or a zip code keeps its leading zeros; a field that is also
    the time becomes numbers or timestamps, which can be sorted. A quoted cell may hold line breaks.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not parse or lacks a column; the message names the file.
    """
    path = _existing(path, "csv")
    # a number would lose the leading zeros that a format counts on
    sorted_as_read = schema.time if schema.format_of_time is None else None
    strings = [name for name in needed_columns(schema) if name != sorted_as_read]
    check_columns(csv_header(path), schema, str(path))
    try:
        table = csv.read_csv(path, _READ_OPTIONS, _PARSE_OPTIONS, _as_strings(strings, needed_columns(schema)))
    except pa.ArrowInvalid as error:
        raise _broken_csv(path, error) from error
    return SourceTable(table, schema)


def csv_header(path: Path) -> list[str]:
    """Column names of a CSV file.

    Raises:
        ValueError: If it is not in UTF-8, has no header, or other separators than commas; the message names the file.
    """
    try:
        with csv.open_csv(path, _READ_OPTIONS, _PARSE_OPTIONS) as reader:
            names = reader.schema.names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _broken_csv(path, error) from error
    if len(names) == 1 and (advice := advise_separator(path)):
        raise ValueError(f"{path} must be a CSV file with commas; it has only the column {names}.{advice}")
    return names


def csv_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file, in pieces, all cells strings.

    Raises:
        ValueError: As `load_csv`.
    """
    header = csv_header(path)
    try:
        with csv.open_csv(path, _READ_OPTIONS, _PARSE_OPTIONS, _as_strings(header, header)) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        raise _broken_csv(path, error) from error


def _as_strings(strings: list[str], included: list[str]) -> csv.ConvertOptions:
    return csv.ConvertOptions(
        column_types=dict.fromkeys(strings, pa.string()), include_columns=included, strings_can_be_null=False
    )


def _broken_csv(path: Path, error: Exception) -> ValueError:
    problem = describe_broken_utf8(path) or f"{str(error).rstrip('.')}.{advise_separator(path)}"
    return ValueError(f"{path} must be a CSV file in UTF-8 with a header and rows: {problem}")


def load_parquet(path: str | Path | None, schema: Schema) -> SourceTable:
    """A Parquet file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no Parquet file or lacks a column; the message names the file.
    """
    path = _existing(path, "parquet")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} must be a Parquet file: {error}") from error
    check_columns(file.schema_arrow.names, schema, str(path))
    return SourceTable(file.read(needed_columns(schema)), schema)


def load_hub(name: str, schema: Schema) -> SourceTable:
    """A data set of the Hub, or a local folder that `datasets.load_dataset` reads.

    Splits named train, validation and test are kept where there are all three; other splits are put together.

    Raises:
        ValueError: If a column is missing.
        Exception: What `datasets.load_dataset` raises if it finds nothing.
    """
    loaded = datasets.load_dataset(name)
    for split in loaded.values():
        check_columns(split.column_names, schema, f"Data set {name}")
    tables = {
        split: rows.select_columns(needed_columns(schema)).with_format("arrow")[:] for split, rows in loaded.items()
    }
    if set(tables) >= {"train", "validation", "test"}:
        kept = {split: in_memory_dataset(tables[split]) for split in ("train", "validation", "test")}
        return SourceTable(datasets.DatasetDict(kept), schema)
    return SourceTable(pa.concat_tables(tables.values()), schema)


def _existing(path: str | Path | None, kind: str) -> Path:
    if path is None:
        raise ValueError(f"`data_path` must be a {kind} file, got none.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"`data_path` must be a {kind} file, but there is none at {path}.")
    return Path(path)
