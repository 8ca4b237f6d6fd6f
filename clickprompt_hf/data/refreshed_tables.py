# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Replace the tables of users and items that are saved with a model by newer ones, without training."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..schema_clickprompt import Schema, TableSchema
from ..tables_clickprompt import JoinedTable, JoinedTables
from .dimension_tables import DimensionTable
from .hive_folders import ReadableFile
from .table_files import open_dimension_file


def refreshed_tables(
    tables: JoinedTables | None,
    schema: Schema,
    file: str | Path,
    key: str,
    prefix: str | None = None,
    key_in_table: str | None = None,
) -> JoinedTables:
    """The tables saved with a model, one of them replaced by a newer file.

    Args:
        tables: The saved tables, which do not change.
        schema: The model's schema.
        file: The newer table, as in `ClickPromptProcessor.refresh_table`, like the next arguments and the errors.
            Columns that the saved table lacks are ignored.
        key: Column of raw rows by which the table is joined.
        prefix: Prefix of the table in the schema.
        key_in_table: Name of the key's column in the file.
    """
    found = list(_saved_with_prefix(tables, schema, key, prefix))
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"The table to join by {key!r} must be a file, but there is none at {path}.")
    lacking: list[str] = []
    fitting: list[tuple[JoinedTable, JoinedTable]] = []
    for described, saved in found:
        described = replace(described, file=str(path), key_in_table=key_in_table or described.key_in_table)
        opened = open_dimension_file(described, schema)
        needed = [name.removeprefix(described.prefix) for name in saved.columns]
        missing = [name for name in needed if name not in opened.schema.names]
        # without the key, the file may be in another dialect: its own message says what to do
        if missing and described.key_column in opened.schema.names:
            lacking.append(_what_is_missing(opened, needed, missing))
        else:
            fitting.append((saved, DimensionTable(opened, described, saved.columns).joined_table(saved.columns)))
    if not fitting:
        raise ValueError(lacking[0])
    if len(fitting) > 1:
        prefixes = [described.prefix for described, _ in found]
        raise ValueError(
            f"The model joins {len(found)} tables by {key!r}, and {path} has the columns of {len(fitting)} of them. "
            f"Give the prefix of the one to replace, one of {prefixes}; if prefixes are equal, leave the columns of "
            "the others out of the file."
        )
    assert tables is not None
    [(old, new)] = fitting
    return JoinedTables([new if table is old else table for table in tables.tables])


def _saved_with_prefix(
    tables: JoinedTables | None, schema: Schema, key: str, prefix: str | None
) -> Iterator[tuple[TableSchema, JoinedTable]]:
    """The saved tables with this key and prefix of which fields use columns, and how the schema describes them.

    Raises:
        ValueError: If there are none.
    """
    if tables is None:
        raise ValueError(f"No tables are saved with the model, so there is none to replace by {key!r}.")
    used = [pair for pair in zip(schema.tables, tables.tables, strict=True) if pair[1].columns]
    of_key = [pair for pair in used if pair[1].key == key]
    if not of_key:
        keys = list(dict.fromkeys(table.key for _, table in used))
        raise ValueError(f"The key must be one by which the model joins a table, {keys}, got {key!r}.")
    of_prefix = [pair for pair in of_key if prefix is None or pair[0].prefix == prefix]
    if not of_prefix:
        prefixes = [described.prefix for described, _ in of_key]
        raise ValueError(f"The prefix of the table joined by {key!r} must be one of {prefixes}, got {prefix!r}.")
    yield from of_prefix


def _what_is_missing(file: ReadableFile, needed: list[str], missing: list[str]) -> str:
    return (
        f"{file.path} must have the columns {needed}, which fields of the model use; missing {missing}, given "
        f"{file.schema.names}."
    )
