# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Flags that say how a CSV file is written."""

import argparse
from dataclasses import fields, replace
from typing import Any

from ..schema_clickprompt import CsvFormat

_HELP = {
    "delimiter": "separates cells; one character, or tab (default: a comma, in .tsv files a tab)",
    "quote": 'encloses cells; one character, or none if quotes are ordinary text (default: ")',
    "escape": "precedes quotes within cells, e.g. a backslash as Spark writes (default: none)",
    "encoding": "text encoding, e.g. cp1252 (default: utf-8)",
    "column_names": "column names, for a file without a header",
    "lines_per_cell": "maximum lines per cell; also accepts cells whose lines look like rows (default: 100)",
    "decimal": "decimal separator of numeric fields, e.g. a comma (default: a point)",
    "thousands": "thousands separator of numeric fields, e.g. a point (default: none)",
}


def add_csv_options(parser: argparse.ArgumentParser, title: str) -> None:
    """Add a flag per option of `CsvFormat`; flags that are not given are `None`.

    Args:
        parser: The command's parser.
        title: Heading of the flags in the help.
    """
    group = parser.add_argument_group(title)
    for name, text in _HELP.items():
        kinds: dict[str, Any] = {"column_names": {"nargs": "*"}, "lines_per_cell": {"type": int}}
        group.add_argument(f"--{name}", help=text, **kinds.get(name, {}))


def csv_format_of(args: argparse.Namespace, default: CsvFormat | None) -> CsvFormat | None:
    """The format that the flags describe, where they are given, and `default` elsewhere.

    Raises:
        ValueError: If a flag has a wrong value.
    """
    given = {name: getattr(args, name) for name in _HELP if getattr(args, name) is not None}
    if "column_names" in given:
        # Without names, the file has a header.
        given["column_names"] = tuple(given["column_names"]) or None
    return replace(default or CsvFormat(), **given) if given else default


def written_options(csv_format: CsvFormat | None) -> dict[str, Any]:
    """The options that differ from their defaults, as in the `csv` part of a schema."""
    if csv_format is None:
        return {}
    options = {field.name: (getattr(csv_format, field.name), field.default) for field in fields(CsvFormat)}
    return {
        name: "none" if value is None else list(value) if isinstance(value, tuple) else value
        for name, (value, default) in options.items()
        if value != default
    }
