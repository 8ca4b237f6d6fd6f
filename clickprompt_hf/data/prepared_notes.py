# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Notes beside encoded rows: what they were made of, for rows that a run keeps or that a cluster has encoded."""

import json
from pathlib import Path
from typing import Any

from .sources.source import SPLIT_NAMES

KEY_FILE, FACTS_FILE = "prepared.json", "facts.json"
# Version of the arrays' layout: goes up when it changes.
LAYOUT = 1
# Name in records for data that were split and encoded elsewhere.
SHARDS = "shards"


def notes_of_shards() -> dict[str, Any]:
    """Contents of the notes beside rows that were split and encoded elsewhere, by name of the file."""
    facts = {"own_splits": list(SPLIT_NAMES), "split_column": None, "text_fields": None, "stream": False}
    return {KEY_FILE: {"layout": LAYOUT, "source": SHARDS}, FACTS_FILE: facts}


def is_of_shards(folder: str | Path) -> bool:
    """Whether a folder holds rows that were split and encoded elsewhere."""
    path = Path(folder) / KEY_FILE
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("source") == SHARDS
