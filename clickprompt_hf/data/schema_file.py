# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schemas that users pass: objects, plain data, or files in YAML or JSON."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..schema_clickprompt import Schema


def schema_of(given: Any) -> Schema:
    """The schema that a user passes as a `Schema`, as plain data, or as the path of a schema file.

    Raises:
        ValueError: If it is none of these, or not valid.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(given, Mapping):
        return Schema.from_dict(given)
    if isinstance(given, (str, Path)):
        return load_schema(given)
    # also a schema made by a checkpoint's own code
    if not any(base.__name__ == Schema.__name__ for base in type(given).__mro__):
        raise ValueError(
            f"`schema` must be a Schema, a mapping or the path of a schema file, got {type(given).__name__}."
        )
    return given


def load_schema(path: str | Path) -> Schema:
    """Read a schema from a YAML or JSON file. Paths of its `tables` are relative to the folder of that file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If its name has another ending, it cannot be parsed, or the schema is invalid; the message names
            the file.
    """
    path = Path(path)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ValueError(f"`schema` must be a .yaml, .yml or .json file, got {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"`schema` must be a file, but there is none at {path}.")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        schema = Schema.from_dict(data)
        tables = tuple(replace(table, file=str(path.parent / table.file)) for table in schema.tables)
        return replace(schema, tables=tables)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} does not hold a valid schema: {error}") from error
