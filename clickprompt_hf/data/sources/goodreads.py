# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Load GoodReads, as published by UCSD's Book Graph (Wan and McAuley 2018).

As in the ClickPrompt paper, the rows are the 10-core of the rated interactions, and ratings of 4 or more are clicks.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ...schema_clickprompt import FieldSchema, Schema
from .raw_files import find_file, k_core, look_up, read_json_lines
from .source import SourceTable

SCHEMA = Schema(
    fields=(
        FieldSchema("user_id", "User ID"),
        FieldSchema("book_id", "Book ID"),
        FieldSchema("title", "Book title"),
        FieldSchema("genres", "Book genres"),
        FieldSchema("average_rating", "Average rating"),
        FieldSchema("text_reviews_count", "Number of book reviews"),
        FieldSchema("author_id", "Author ID"),
        FieldSchema("author", "Author name"),
        FieldSchema("num_pages", "Number of pages"),
        FieldSchema("is_ebook", "eBook flag"),
        FieldSchema("format", "Format"),
        FieldSchema("publisher", "Publisher"),
        FieldSchema("publication_year", "Publication year"),
        FieldSchema("work_id", "Work ID"),
        FieldSchema("media_type", "Media type"),
    ),
    label="click",
    time="timestamp",
)

_DATASET = "UCSD's GoodReads"
_INTERACTIONS = {"user_id": pa.string(), "book_id": pa.string(), "rating": pa.int64(), "date_added": pa.string()}
_BOOKS = {
    **dict.fromkeys(("book_id", "title", "average_rating", "text_reviews_count"), pa.string()),
    "authors": pa.list_(pa.struct({"author_id": pa.string()})),
    **dict.fromkeys(("num_pages", "is_ebook", "format", "publisher", "publication_year", "work_id"), pa.string()),
}
# Keys of goodreads_book_genres_initial.json; each has a number of shelves as its value.
_GENRES = (
    "children",
    "comics, graphic",
    "fantasy, paranormal",
    "fiction",
    "history, historical fiction, biography",
    "mystery, thriller, crime",
    "non-fiction",
    "poetry",
    "romance",
    "young-adult",
)


def load_goodreads(path: str | Path | None) -> SourceTable:
    """Load the dataset from a folder.

    Args:
        path: Folder with `goodreads_interactions*.json`, `goodreads_books*.json`, `goodreads_book_authors.json`,
            `goodreads_book_genres_initial.json` and `goodreads_book_works.json`. Each may be gzipped.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a line or a date does not parse, or the 10-core is empty.
    """
    files = {
        name: find_file(path, [f"goodreads_{pattern}.json*"], _DATASET)
        for name, pattern in (
            *(("interactions", "interactions*"), ("books", "books*"), ("authors", "book_authors")),
            *(("genres", "book_genres_initial"), ("works", "book_works")),
        )
    }
    rated = read_json_lines(files["interactions"], _INTERACTIONS, reduce=_rated).unify_dictionaries()
    rows = k_core(rated, "user_id", "book_id", k=10)
    books = _read_books(files)
    names = [name for name in books.column_names if name != "book_id"]
    columns = {
        **{name: rows[name] for name in rows.column_names},
        **dict(zip(names, look_up(rows, "book_id", books, names))),
    }
    return SourceTable(
        pa.table({name: columns[name] for name in (*SCHEMA.columns, SCHEMA.label, "timestamp")}), SCHEMA
    )


def _rated(interactions: pa.Table) -> pa.Table:
    """Reduce interactions to the rated ones, less than half of 229 million, with ids, click and time."""
    identified = pc.and_(pc.is_valid(interactions["user_id"]), pc.is_valid(interactions["book_id"]))
    rows = interactions.filter(pc.and_(identified, pc.greater(interactions["rating"], 0)))
    return pa.table(
        {
            "user_id": rows["user_id"].dictionary_encode(),
            "book_id": rows["book_id"].dictionary_encode(),
            SCHEMA.label: pc.greater_equal(rows["rating"], 4).cast(pa.int8()),
            "timestamp": _seconds(rows["date_added"]),
        }
    )


def _read_books(files: dict[str, Path]) -> pa.Table:
    """Read the description of each book, one column per field."""
    books = read_json_lines(files["books"], _BOOKS)
    # a cell of `authors`: [{"author_id": ...}, ...]
    first = pa.chunked_array([_first_author(chunk) for chunk in books["authors"].chunks], pa.string())
    books = books.drop_columns("authors").append_column("author_id", first)
    authors = read_json_lines(files["authors"], {"author_id": pa.string(), "name": pa.string()})
    works = read_json_lines(files["works"], {"work_id": pa.string(), "media_type": pa.string()})
    books = books.append_column("author", look_up(books, "author_id", authors, ["name"])[0])
    books = books.append_column("media_type", look_up(books, "work_id", works, ["media_type"])[0])
    genre_counts = pa.struct(dict.fromkeys(_GENRES, pa.int64()))
    genres = read_json_lines(files["genres"], {"book_id": pa.string(), "genres": genre_counts})
    named = [_most_shelved(counts) for counts in genres["genres"].to_pylist()]
    genres = pa.table({"book_id": genres["book_id"], "genres": pa.array(named, pa.string())})
    return books.append_column("genres", look_up(books, "book_id", genres, ["genres"])[0])


def _first_author(authors: pa.ListArray) -> pa.Array:
    return pa.array([row[0]["author_id"] if row else None for row in authors.to_pylist()], pa.string())


def _most_shelved(counts: dict[str, int | None] | None) -> str | None:
    """The genre under which most readers shelved a book; `None` if no reader did."""
    known = {genre: count for genre, count in (counts or {}).items() if count}
    return max(known, key=lambda genre: (known[genre] or 0, genre)) if known else None


def _seconds(dates: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert dates such as "Mon Aug 01 13:41:57 -0700 2011" to seconds since 1970. Empty dates are missing."""
    dates = pc.if_else(pc.equal(dates, ""), None, dates)
    try:
        # Arrow parses the offset but does not apply it.
        local = pc.strptime(pc.replace_substring_regex(dates, r" [+-]\d{4} ", " "), "%a %b %d %H:%M:%S %Y", "s")
        offsets = pc.extract_regex(dates, r" (?P<sign>[+-])(?P<hours>\d{2})(?P<minutes>\d{2}) ")
        hours, minutes = (pc.cast(pc.struct_field(offsets, name), pa.int64()) for name in ("hours", "minutes"))
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"date_added in the interactions must look like 'Mon Aug 01 13:41:57 -0700 2011': {error}"
        ) from error
    sign = pc.if_else(pc.equal(pc.struct_field(offsets, "sign"), "-"), -1, 1)
    shift = pc.multiply(sign, pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60)))
    return pc.subtract(pc.cast(local, pa.int64()), shift)
