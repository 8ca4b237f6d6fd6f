# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Where rows come from: each source reads raw files and returns a table with plain typed columns, and its schema.

A new source is a module in this folder and a line in `_SOURCES`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from ...schema_clickprompt import Schema
from ..schema_file import schema_of
from ..table_files import Paths, TableKind
from .amazon import load_amazon_toys
from .bookcrossing import load_bookcrossing
from .goodreads import load_goodreads
from .movielens import load_ml_1m, load_ml_100k
from .source import SourceTable
from .synthetic import load_synthetic
from .tabular import load_folder, load_table

__all__ = ["FILE_FORMATS", "SourceTable", "given_schema", "load_source", "needs_schema"]

# Sources with a built-in schema: from `data_path` to rows.
_SOURCES: dict[str, Callable[[str | Path | None], SourceTable]] = {
    "ml-1m": load_ml_1m,
    "ml-100k": load_ml_100k,
    "bookcrossing": load_bookcrossing,
    "amazon-toys": load_amazon_toys,
    "goodreads": load_goodreads,
    "synthetic": lambda path: load_synthetic(),
}
# File formats, for which the user provides a schema.
FILE_FORMATS: tuple[TableKind, ...] = get_args(TableKind)


def needs_schema(dataset: str) -> bool:
    """Whether `load_source` needs a schema for `dataset`."""
    return dataset not in _SOURCES


def load_source(
    dataset: str,
    data_path: Paths | None = None,
    schema: str | Path | Mapping[str, Any] | Schema | None = None,
    split_column: str | None = None,
) -> SourceTable:
    """Read all rows of a dataset.

    Args:
        dataset: `"ml-1m"`, `"ml-100k"`, `"bookcrossing"`, `"amazon-toys"`, `"goodreads"`, `"synthetic"`, `"csv"`,
            `"jsonl"`, `"parquet"`, or a Hub id or folder with a slash in it.
        data_path: The zip, folder or file with the raw data. For file formats, as in `read_table_files`.
        schema: What the columns mean, or a YAML or JSON file with it. Required for file formats and the Hub.
        split_column: A column to read even if the schema does not name it. Datasets with a schema of their own are
            read whole.

    Raises:
        ValueError: If `dataset` is unknown, the schema is missing, or the data are broken.
        FileNotFoundError: If a file is missing.
    """
    if dataset in _SOURCES:
        if schema is not None:
            raise ValueError(f"`schema` must be left out: {dataset} has its own.")
        return _SOURCES[dataset](_single(dataset, data_path))
    if dataset not in FILE_FORMATS and "/" not in dataset and not Path(dataset).is_dir():
        known = sorted([*_SOURCES, *FILE_FORMATS])
        advice = " Give a file as `data_path`." if Path(dataset).is_file() else ""
        raise ValueError(
            f"`dataset` must be one of {known}, a folder, or a Hub id like owner/name, got {dataset!r}.{advice}"
        )
    schema = given_schema(dataset, schema)
    for kind in FILE_FORMATS:
        if dataset == kind:
            return load_table(kind, data_path, schema, split_column)
    return load_folder(dataset, schema, split_column)


def given_schema(dataset: str, schema: str | Path | Mapping[str, Any] | Schema | None) -> Schema:
    """The schema of a dataset that has none itself, read if it is a file.

    Raises:
        ValueError: If none is given, or it is not valid.
        FileNotFoundError: If there is no such file.
    """
    if schema is None:
        raise ValueError(f"`schema` must be given for {dataset}: a YAML or JSON file that describes the columns.")
    return schema_of(schema)


def _single(dataset: str, data_path: Paths | None) -> str | Path | None:
    """The only path.

    Raises:
        ValueError: If there are several.
    """
    if data_path is None or isinstance(data_path, (str, Path)):
        return data_path
    if len(data_path) > 1:
        raise ValueError(f"`data_path` must be a single path for {dataset}, got {len(data_path)}.")
    return next(iter(data_path), None)
