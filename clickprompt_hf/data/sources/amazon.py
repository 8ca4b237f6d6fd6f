# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Load Amazon's Toys and Games reviews, as published by McAuley et al. (2014 and 2018 editions).

As in the ClickPrompt paper, the rows are the 5-core; ratings above 3 are clicks, ratings below 3 are not, and 3s are
dropped.
"""

import ast
import gzip
import itertools
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ...schema_clickprompt import FieldSchema, Schema
from ...values_clickprompt import encodable
from .raw_files import find_file, k_core, look_up, read_json_lines
from .source import SourceTable

SCHEMA = Schema(
    fields=(
        FieldSchema("user_id", "User ID"),
        FieldSchema("item_id", "Item ID"),
        FieldSchema("category", "Category"),
        FieldSchema("title", "Title"),
        FieldSchema("brand", "Brand"),
    ),
    label="click",
    time="timestamp",
)

_DATASET = "Amazon's Toys and Games"
_REVIEWS = {"reviewerID": pa.string(), "asin": pa.string(), "overall": pa.float64(), "unixReviewTime": pa.int64()}
_REVIEW_FILES = ("reviews_Toys_and_Games*.json*", "Toys_and_Games*.json*")
_METADATA_FILES = ("meta_Toys_and_Games*.json*",)
_SCRIPT_OR_MARKUP = re.compile(r"\.getTime\(\)|\bvar aPageStart\b|</?[a-z][a-z0-9]*(\s[^>]*)?/?>", re.IGNORECASE)


def load_amazon_toys(path: str | Path | None) -> SourceTable:
    """Load the dataset from a folder.

    Args:
        path: Folder with `reviews_Toys_and_Games*.json` (2014) or `Toys_and_Games*.json` (2018), and
            `meta_Toys_and_Games*.json`. Each may be gzipped.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, a line does not parse, or the 5-core is empty.
    """
    reviews = read_json_lines(find_file(path, _REVIEW_FILES, _DATASET), _REVIEWS).rename_columns(
        ["user_id", "item_id", "rating", "timestamp"]
    )
    reviews = k_core(reviews.drop_null(), "user_id", "item_id", k=5)
    reviews = reviews.filter(pc.not_equal(reviews["rating"], 3))
    items = _read_items(find_file(path, _METADATA_FILES, _DATASET))
    category, title, brand = look_up(reviews, "item_id", items, ("category", "title", "brand"))
    columns = {
        "user_id": reviews["user_id"],
        "item_id": reviews["item_id"],
        "category": category,
        "title": title,
        "brand": brand,
        SCHEMA.label: pc.greater(reviews["rating"], 3).cast(pa.int8()),
        "timestamp": reviews["timestamp"],
    }
    return SourceTable(pa.table(columns), SCHEMA)


def _read_items(path: Path) -> pa.Table:
    """Read each item's id, most specific category, title and brand from the metadata."""
    items = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    items.append(_parse_item(line, path, number))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a whole file in UTF-8, gzipped if its name ends in .gz: {error}") from error
    return pa.Table.from_pylist(
        items, pa.schema([(name, pa.string()) for name in ("item_id", "category", "title", "brand")])
    )


def _parse_item(line: str, path: Path, number: int) -> dict[str, str | None]:
    """Parse one line of metadata: JSON, or in the 2014 edition a Python literal."""
    item: Any
    try:
        item = json.loads(line)
    except json.JSONDecodeError:
        try:
            item = ast.literal_eval(line)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"Line {number} of {path} must be a JSON object or a Python literal: {error}.") from error
    if not isinstance(item, dict):
        raise ValueError(f"Line {number} of {path} must be a JSON object or a Python dict, got {line.strip()[:80]}.")
    return {
        "item_id": _text(item.get("asin")),
        "category": _most_specific(item),
        "title": _text(item.get("title")),
        "brand": _text(item.get("brand")),
    }


def _most_specific(item: dict[str, Any]) -> str | None:
    """The last category of an item's path. The 2014 edition has several paths; the first is taken."""
    path = item.get("category") or (item.get("categories") or [None])[0] or []
    # After markup such as "</span></span></span>", the path continues with the item's features.
    categories = itertools.takewhile(lambda category: category is not None, map(_text, path))
    return [None, *categories][-1]


def _text(value: Any) -> str | None:
    """A string of the metadata, or `None` if it is a piece of the web page's script or markup."""
    if not isinstance(value, str) or _SCRIPT_OR_MARKUP.search(value):
        return None
    return encodable(value)
