# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The flag that names tables of users and items."""

import argparse
from collections.abc import Sequence

from ..encoding_clickprompt import FeatureEncoder
from ..schema_clickprompt import TableSchema

JOIN_HELP = (
    "replace the saved table that is joined by the column KEY with this file, so that new users or items get its "
    "values; PREFIX is the table's prefix in the schema, needed only if KEY joins several tables"
)


def add_join_option(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--join FILE KEY[=COLUMN] [PREFIX]`, which may be repeated.

    Args:
        parser: The command's parser.
        text: What the command does with a table, for the help.
    """
    parser.add_argument(
        "--join",
        action="append",
        default=[],
        nargs="+",
        metavar=("FILE KEY", "PREFIX"),
        help=f"{text}. KEY=COLUMN if the key's column is called COLUMN in the file. May be repeated",
    )


def tables_of_flags(joins: Sequence[Sequence[str]]) -> list[tuple[TableSchema, bool]]:
    """The tables that the flags describe, and whether each has a prefix.

    Raises:
        ValueError: If a flag has too few or too many values, or one is empty.
    """
    if wrong := [values for values in joins if len(values) not in (2, 3)]:
        raise ValueError(f"--join must have a file, a key and perhaps a prefix, got {' '.join(wrong[0])!r}")
    tables = []
    for file, key, *prefix in joins:
        name, mark, column = key.partition("=")
        prefixed = TableSchema(file, name, "".join(prefix), column if mark else None)
        tables.append((prefixed, bool(prefix)))
    return tables


def refresh_tables(joins: Sequence[Sequence[str]], encoder: FeatureEncoder) -> None:
    """Replace tables saved with a model by the files of the flags.

    Args:
        joins: The values of each flag.
        encoder: The model's encoder of raw rows.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a flag has too few or too many values, names no table of the model, or names a file that cannot
            replace it.
    """
    if not joins:
        return
    # needs pyarrow, which a server of an exported folder may lack
    from ..data.refreshed_tables import refreshed_tables

    for table, has_prefix in tables_of_flags(joins):
        prefix = table.prefix if has_prefix else None
        encoder.tables = refreshed_tables(
            encoder.tables, encoder.schema, table.file, table.key, prefix, table.key_in_table
        )
