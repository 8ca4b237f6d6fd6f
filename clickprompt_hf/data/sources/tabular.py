# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""CSV and Parquet files, and data sets of the HuggingFace Hub, each with a schema."""

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from ...processing_clickprompt import Schema
from ..splits import check_columns, in_memory_dataset, needed_columns
from .source import SourceTable


def load_csv(path: str | Path | None, schema: Schema) -> SourceTable:
    """A CSV file with a header, in UTF-8.

    Fields stay the strings that they are, so that an id or a zip code keeps its leading zeros; a field that is also
    the time becomes numbers or timestamps, which can be sorted. A quoted cell may hold line breaks.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not parse or lacks a column; the message names the file.
    """
    path = _existing(path, "csv")
    strings = {name: pa.string() for name in (*schema.columns, schema.label) if name != schema.time}
    # else a large file is cut into blocks at any line break
    parse_options = csv.ParseOptions(newlines_in_values=True)
    try:
        with csv.open_csv(path, parse_options=parse_options) as reader:
            header = reader.schema.names
        check_columns(header, schema, str(path))
        table = csv.read_csv(
            path,
            parse_options=parse_options,
            convert_options=csv.ConvertOptions(
                column_types=strings, include_columns=needed_columns(schema), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8 with a header and rows: {error}") from error
    return SourceTable(table, schema)


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
