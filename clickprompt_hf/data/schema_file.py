# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schema files, in YAML or JSON."""

import json
from dataclasses import replace
from pathlib import Path

import yaml

from ..schema_clickprompt import Schema


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
