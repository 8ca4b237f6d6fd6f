# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Load BookCrossing from its three `BX-*.csv` files (Ziegler et al. 2005).

As in the ClickPrompt paper, ratings of 5 or more are clicks and lower ones are not, including 0, which means "read,
not rated". Ratings are dropped if the other files do not describe their user or book.
"""

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from transformers.utils import logging

from ...schema_clickprompt import FieldSchema, Schema
from .raw_files import RawFiles, look_up
from .source import SourceTable

logger = logging.get_logger(__name__)

SCHEMA = Schema(
    fields=(
        FieldSchema("user_id", "User ID"),
        FieldSchema("location", "Location"),
        FieldSchema("age", "Age"),
        FieldSchema("isbn", "ISBN"),
        FieldSchema("title", "Book title"),
        FieldSchema("author", "Author"),
        FieldSchema("year", "Publication year"),
        FieldSchema("publisher", "Publisher"),
    ),
    label="click",
)

_USERS = {"User-ID": "user_id", "Location": "location", "Age": "age"}
_BOOKS = {
    "ISBN": "isbn",
    "Book-Title": "title",
    "Book-Author": "author",
    "Year-Of-Publication": "year",
    "Publisher": "publisher",
}
_RATINGS = {"User-ID": "user_id", "ISBN": "isbn", "Book-Rating": "rating"}


def load_bookcrossing(path: str | Path | None) -> SourceTable:
    """Load the dataset.

    Args:
        path: The zip with `BX-Users.csv`, `BX-Books.csv` and `BX-Book-Ratings.csv`, or its extracted folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a header lacks a published column, a quote is never closed, or a rating is not a number.
    """
    files = RawFiles(path, "BX-CSV-Dump")
    users = _read_table(files, "BX-Users.csv", _USERS)
    books = _read_table(files, "BX-Books.csv", _BOOKS)
    ratings = _read_table(files, "BX-Book-Ratings.csv", _RATINGS)
    known = pc.and_(pc.is_in(ratings["user_id"], users["user_id"]), pc.is_in(ratings["isbn"], books["isbn"]))
    ratings = ratings.filter(known)
    try:
        values = pc.cast(ratings["rating"], pa.int8())
    except pa.ArrowInvalid as error:
        raise ValueError(f"Book-Rating in BX-Book-Ratings.csv must be a whole number: {error}") from error
    user_columns, book_columns = ("location", "age"), ("title", "author", "year", "publisher")
    columns = {
        "user_id": ratings["user_id"],
        **dict(zip(user_columns, look_up(ratings, "user_id", users, user_columns))),
        "isbn": ratings["isbn"],
        **dict(zip(book_columns, look_up(ratings, "isbn", books, book_columns))),
        SCHEMA.label: pc.greater_equal(values, 5).cast(pa.int8()),
    }
    return SourceTable(pa.table(columns), SCHEMA)


def _read_table(files: RawFiles, name: str, columns: dict[str, str]) -> pa.Table:
    """Read `columns` of one file as strings, renamed. "NULL" is missing.

    Rows with more or fewer cells than the header are dropped, with a warning.
    """
    # The files contain bytes that cp1252 leaves undefined.
    text = files.read(name).decode("cp1252", errors="replace")
    rows = csv.reader(io.StringIO(text), delimiter=";", quotechar='"', escapechar="\\")
    header = next(rows, [])
    for column in columns:
        if column not in header:
            raise ValueError(f"{name} must have the column {column!r}, as published; it has {header}.")
    whole, broken = [], []
    first_line = rows.line_num + 1
    try:
        for row in rows:
            if len(row) == len(header):
                whole.append(row)
            elif row:
                broken.append(rows.line_num)
            first_line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{name} must close its quotes, but the row that begins in line {first_line} never ends: {error}."
        ) from error
    if broken:
        logger.warning(
            f"{name}: dropped {len(broken)} rows that do not have {len(header)} cells, the first in line {broken[0]}."
        )
    positions = [header.index(column) for column in columns]
    return pa.table(
        {
            renamed: pa.array([None if row[at] == "NULL" else row[at] for row in whole], pa.string())
            for renamed, at in zip(columns.values(), positions)
        }
    )
