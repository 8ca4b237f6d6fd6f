# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""CSV and Parquet files and datasets of the HuggingFace Hub, whose schema the user gives."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ...schema_clickprompt import Schema
from ..csv_faults import advise_separator, describe_broken_utf8
from .source import SPLIT_NAMES, SourceTable

# Arrow reads files in blocks. A row must not span more than two.
_READ_OPTIONS = csv.ReadOptions(block_size=1 << 24)
# Otherwise blocks of a large file end at any line break, even within a quoted cell.
_PARSE_OPTIONS = csv.ParseOptions(newlines_in_values=True)


def load_csv(path: str | Path | None, schema: Schema) -> SourceTable:
    """Read a CSV file with a header, in UTF-8.

    Fields stay strings, so that ids and zip codes keep leading zeros. A field that is also the time becomes numbers or
    timestamps, to be sorted by. Quoted cells may contain line breaks.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be parsed or lacks a column; the message names the file.
    """
    path = _existing(path, "csv")
    # With a format, times stay strings too: as numbers they would lose leading zeros.
    inferred = schema.time if schema.format_of_time is None else None
    needed = _needed_columns(schema)
    strings = [name for name in needed if name != inferred]
    _check_columns(csv_header(path), schema, str(path))
    try:
        table = csv.read_csv(path, _READ_OPTIONS, _PARSE_OPTIONS, _as_strings(strings, needed))
    except pa.ArrowInvalid as error:
        raise _broken_csv(path, error) from error
    return SourceTable(table, schema)


def csv_header(path: Path) -> list[str]:
    """Read the column names of a CSV file.

    Raises:
        ValueError: If it is not UTF-8, has no header, or is not separated by commas; the message names the file.
    """
    try:
        with csv.open_csv(path, _READ_OPTIONS, _PARSE_OPTIONS) as reader:
            names = reader.schema.names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _broken_csv(path, error) from error
    if len(names) == 1 and (advice := advise_separator(path)):
        raise ValueError(f"{path} must be a CSV file with commas, but it has only the column {names}.{advice}")
    return names


def csv_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read a CSV file in batches, with all cells as strings.

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
    """Read a Parquet file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a Parquet file or lacks a column; the message names the file.
    """
    path = _existing(path, "parquet")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} must be a Parquet file: {error}") from error
    _check_columns(file.schema_arrow.names, schema, str(path))
    return SourceTable(file.read(_needed_columns(schema)), schema)


def load_hub(name: str, schema: Schema) -> SourceTable:
    """Read a dataset of the Hub, or a local folder that `datasets.load_dataset` accepts.

    Splits named train, validation and test are kept if all three exist. Otherwise all splits are concatenated.

    Raises:
        ValueError: If a column is missing.
        Exception: Whatever `datasets.load_dataset` raises if it finds nothing.
    """
    loaded = datasets.load_dataset(name)
    for split in loaded.values():
        _check_columns(split.column_names, schema, f"Dataset {name}")
    tables = {
        split: rows.select_columns(_needed_columns(schema)).with_format("arrow")[:] for split, rows in loaded.items()
    }
    if set(tables) >= set(SPLIT_NAMES):
        return SourceTable({split: tables[split] for split in SPLIT_NAMES}, schema)
    return SourceTable(pa.concat_tables(tables.values()), schema)


def _needed_columns(schema: Schema) -> list[str]:
    """Columns that the schema names, without repeats: the time may be a field as well."""
    return list(dict.fromkeys([*schema.columns, schema.label, *([schema.time] if schema.time else [])]))


def _check_columns(column_names: list[str], schema: Schema, where: str) -> None:
    """Raise a ValueError that names the first column of the schema that `where` lacks or has twice."""
    for column in _needed_columns(schema):
        if column not in column_names:
            raise ValueError(f"{where} must have the column {column!r} of the schema; it has {column_names}.")
        if column_names.count(column) > 1:
            raise ValueError(f"{where} must have the column {column!r} once; it has {column_names}.")


def _existing(path: str | Path | None, kind: str) -> Path:
    if path is None:
        raise ValueError(f"`data_path` must be a {kind} file, got none.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"`data_path` must be a {kind} file, but there is none at {path}.")
    return Path(path)
