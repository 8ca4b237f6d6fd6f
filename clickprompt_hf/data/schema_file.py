# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schemas that users pass: objects, plain data, or files in YAML or JSON."""

import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from ..schema_clickprompt import Schema
from ..values_clickprompt import number_of
from .csv_files import plain_numbers
from .json_objects import check_different_keys, unrepeated


class _SchemaLoader(yaml.SafeLoader):
    """Reads YAML without its traps: a repeated key is an error, and only plain decimals are numbers.

    PyYAML keeps the last of repeated keys, and reads 012 as 10, 12:30 as 750 and 1_000 as 1000. Here these are
    strings, as days are.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        check_different_keys(
            [key.value for key, _ in node.value], f" in the mapping in line {node.start_mark.line + 1}"
        )
        return super().construct_mapping(node, deep)


_SchemaLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# a subset of what PyYAML reads as numbers, so that strings that it writes without quotes stay strings
_SchemaLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), [*"-+0123456789"])
_SchemaLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"(?:(?:[-+]?(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    [*"-+.0123456789"],
)


def schema_of(given: Any) -> Schema:
    """The schema that a user passes as a `Schema`, as plain data, or as the path of a schema file.

    Raises:
        ValueError: If it is none of these, or not valid.
        FileNotFoundError: If there is no such file.
    """
    if isinstance(given, Mapping):
        return _with_plain_words(Schema.from_dict(given))
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
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix == ".json"
        data = json.loads(text, object_pairs_hook=unrepeated) if is_json else yaml.load(text, _SchemaLoader)
        schema = Schema.from_dict(data)
        tables = tuple(replace(table, file=str(path.parent / table.file)) for table in schema.tables)
        return replace(_with_plain_words(schema), tables=tables)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} does not hold a valid schema: {str(error).removesuffix('.')}.") from error


def _with_plain_words(schema: Schema) -> Schema:
    """The schema with numbers in `missing` also as `1234.5`, as numeric fields read what CSV files write otherwise."""
    if schema.csv is None or schema.csv.has_plain_numbers:
        return schema
    fields = []
    for field in schema.fields:
        plain = plain_numbers(pa.array(field.missing, pa.string()), schema.csv).to_pylist()
        words = [word for word in plain if np.isfinite(number_of(word))] if field.kind == "numeric" else []
        fields.append(replace(field, missing=(*field.missing, *words)))
    return replace(schema, fields=tuple(fields))
