# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What a saved processor consists of, and whether its files were saved together.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .schema_clickprompt import Schema
from .vectors_clickprompt import VectorScale
from .vocabularies_clickprompt import LONG_VOCABULARY, TextList

PROCESSOR_FILE = "processor_config.json"
VOCABULARIES_FILE = "feature_vocabularies.txt"


def read_processor_config(folder: str | Path) -> dict[str, Any]:
    """Read `processor_config.json` in a folder: the schema, and what was fitted."""
    return json.loads((Path(folder) / PROCESSOR_FILE).read_text(encoding="utf-8"))


def check_processor_config(config: Any) -> None:
    """Check the content of `processor_config.json`.

    Raises:
        ValueError: If a field is missing or has the wrong type; the message names it.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"processor_config.json must hold a mapping, got {config!r:.200}.")
    if config.get("vectors") is not None and not isinstance(config["vectors"], Mapping):
        raise ValueError(f"`vectors` in processor_config.json must be a mapping, got {config['vectors']!r:.200}.")
    for name, expected, is_valid in (
        ("schema", "a mapping", lambda value: isinstance(value, Mapping)),
        ("fingerprint", "a string", lambda value: isinstance(value, str)),
        ("reads_text", "true or false", lambda value: isinstance(value, bool)),
        ("max_text_length", "a positive integer or null", lambda value: value is None or _is_count(value)),
        ("boundaries", "a list of ascending numbers per field", _are_boundaries),
    ):
        if name not in config:
            raise ValueError(f"`{name}` must be in processor_config.json, which has {sorted(map(str, config))}.")
        if not is_valid(config[name]):
            raise ValueError(f"`{name}` in processor_config.json must be {expected}, got {config[name]!r:.200}.")
    try:
        schema = Schema.from_dict(config["schema"])
    except ValueError as error:
        raise ValueError(f"`schema` in processor_config.json must be valid: {error}") from error
    if len(config["boundaries"]) != len(schema.fields):
        raise ValueError(
            f"`boundaries` in processor_config.json must have one list per field ({len(schema.fields)}), got "
            f"{len(config['boundaries'])}."
        )
    scales_of(schema, config.get("vectors"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_boundaries(value: Any) -> bool:
    """Whether a value is a list of lists of numbers in ascending order."""
    return isinstance(value, list) and all(
        isinstance(inner, list)
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in inner)
        and all(lower <= upper for lower, upper in pairwise([-np.inf, *inner, np.inf]))
        for inner in value
    )


def read_vocabularies(path: str | Path, processor_config: Mapping[str, Any]) -> list[Sequence[str]]:
    """Read the vocabularies of all fields from a file that was saved with `processor_config`.

    Raises:
        ValueError: If file and configuration were not saved together, one of them is incomplete, or a field of the
            configuration has the wrong type.
    """
    check_processor_config(processor_config)
    written = Path(path).read_bytes()
    # The schema as it was saved: `Schema.from_dict` may have completed it.
    fitted = (processor_config["schema"], processor_config["boundaries"], written, processor_config.get("vectors"))
    found = fingerprint_of(*fitted)
    if found != (expected := processor_config["fingerprint"]):
        raise ValueError(
            f"{path} must be the whole file that was saved with processor_config.json, whose fingerprint is "
            f"{expected}; together these files have {found}."
        )
    header = written.index(b"\n") + 1
    content = np.frombuffer(written, dtype=np.uint8)[header:]
    ends = np.flatnonzero(content == ord("\n")) + 1
    vocabularies: list[Sequence[str]] = []
    first = last = 0
    for size in json.loads(written[:header]).values():
        last += size
        start = int(ends[first - 1]) if first else 0
        texts = TextList(content[start : int(ends[last - 1]) if last else 0], ends[first:last] - start)
        vocabularies.append(texts if size >= LONG_VOCABULARY else list(texts))
        first = last
    return vocabularies


def scales_of(schema: Schema, vectors: Mapping[str, Any] | None) -> dict[int, VectorScale]:
    """The scale of each field of vectors, by its index in the schema, from the plain data that was fitted.

    Raises:
        ValueError: If one is missing or damaged.
    """
    scales: Mapping[str, Any] = (vectors or {}).get("scales", {})
    found = {}
    for f in schema.vector_fields:
        key = schema.fields[f].key
        if key not in scales:
            raise ValueError(f"`vectors` must have the scale of the field {key!r}, got those of {sorted(scales)}.")
        try:
            found[f] = VectorScale.from_dict(scales[key])
        except ValueError as error:
            raise ValueError(f"`vectors` must have the scale of the field {key!r}, but {error}.") from error
    return found


def fingerprint_of(
    schema: Mapping[str, Any],
    boundaries: list[list[float]],
    written_vocabularies: bytes,
    vectors: Mapping[str, Any] | None = None,
) -> str:
    """Hash everything that a row's ids and vectors depend on."""
    # How files are written and where columns come from does not change ids.
    schema = {key: value for key, value in schema.items() if key not in ("csv", "tables")}
    digest = hashlib.sha256(json.dumps([schema, boundaries, *([vectors] if vectors else [])]).encode())
    digest.update(written_vocabularies)
    return digest.hexdigest()[:16]
