# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Load MovieLens-1M and MovieLens-100k, as published by GroupLens (Harper and Konstan 2015).

As in the ClickPrompt paper, ratings above 3 are clicks, ratings below 3 are not, and 3s are dropped.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ...schema_clickprompt import FieldSchema, Schema
from .raw_files import RawFiles
from .source import SourceTable

SCHEMA = Schema(
    fields=(
        FieldSchema("user_id", "User ID"),
        FieldSchema("gender", "Gender"),
        FieldSchema("age", "Age"),
        FieldSchema("job", "Job"),
        FieldSchema("zipcode", "Zipcode"),
        FieldSchema("movie_id", "Movie ID"),
        FieldSchema("title", "Title"),
        FieldSchema("genre", "Film genre"),
    ),
    label="click",
    time="timestamp",
)

_GENDERS = {"M": "male", "F": "female"}
# In users.dat, the code of an age range is its youngest age.
_AGES = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
_JOBS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
_RATINGS = {"user_id": pa.int32(), "movie_id": pa.int32(), "rating": pa.int8(), "timestamp": pa.int64()}
# Replaces MovieLens-1M's separator "::", as the parser takes a single byte.
_SEPARATOR = "\x1f"


class MovieLensFiles(RawFiles):
    """Raw MovieLens files."""

    def table(self, file_name: str, types: dict[str, pa.DataType], separator: str) -> pa.Table:
        """Read one file as a table.

        Args:
            file_name: The file's name, without folders.
            types: Name and type of each column, in the file's order.
            separator: Separates columns.

        Raises:
            ValueError: If a row has another number of columns or a value has another type. The message names file and
                row.
        """
        content = self.read(file_name)
        if separator == "::":
            content = content.replace(b"::", _SEPARATOR.encode())
        options = {
            "parse_options": csv.ParseOptions(
                delimiter=_SEPARATOR if separator == "::" else separator, quote_char=False
            ),
            "convert_options": csv.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[]),
        }
        try:
            return csv.read_csv(io.BytesIO(content), read_options=_read_options(types), **options)
        except pa.ArrowInvalid:
            # Only a single thread counts rows, so that its error names the row.
            try:
                return csv.read_csv(io.BytesIO(content), read_options=_read_options(types, threads=False), **options)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{file_name} in {self.path} must have the columns {list(types)}: {error}") from error


def _read_options(types: dict[str, pa.DataType], threads: bool = True) -> csv.ReadOptions:
    return csv.ReadOptions(column_names=list(types), encoding="latin-1", use_threads=threads)


def load_ml_1m(path: str | Path | None) -> SourceTable:
    """Load MovieLens-1M from its zip, from the folder with `ratings.dat`, or from that folder's parent."""
    files = MovieLensFiles(path, "ml-1m")
    ratings = files.table("ratings.dat", _RATINGS, "::")
    strings = pa.string()
    users = files.table(
        "users.dat",
        {"user_id": pa.int32(), "gender": strings, "age": pa.int32(), "job": pa.int32(), "zip": strings},
        "::",
    )
    movies = files.table("movies.dat", {"movie_id": pa.int32(), "title": strings, "genres": strings}, "::")
    return _joined(
        ratings,
        users=pa.table(
            {
                "user_id": users["user_id"],
                "gender": _named(users["gender"], _GENDERS, "users.dat", "gender"),
                "age": _named(users["age"], _AGES, "users.dat", "age"),
                "job": _named(users["job"], dict(enumerate(_JOBS)), "users.dat", "occupation"),
                "zipcode": users["zip"],
            }
        ),
        movies=pa.table(
            {
                "movie_id": movies["movie_id"],
                "title": movies["title"],
                "genre": pc.list_element(pc.split_pattern(movies["genres"], "|"), 0),
            }
        ),
    )


def load_ml_100k(path: str | Path | None) -> SourceTable:
    """Load MovieLens-100k from its zip, from the folder with `u.data`, or from that folder's parent.

    Ages are put into the ranges of MovieLens-1M.
    """
    files = MovieLensFiles(path, "ml-100k")
    ratings = files.table("u.data", _RATINGS, "\t")
    strings = pa.string()
    users = files.table(
        "u.user", {"user_id": pa.int32(), "age": pa.int32(), "gender": strings, "job": strings, "zip": strings}, "|"
    )
    genres = [line.split("|")[0] for line in files.read("u.genre").decode("latin-1").splitlines() if line.strip()]
    flags = {f"genre {genre}": pa.int8() for genre in genres}
    movie_types = {"movie_id": pa.int32(), "title": strings, "release": strings, "video": strings, "url": strings}
    movies = files.table("u.item", {**movie_types, **flags}, "|")
    first_genre = np.stack([movies[flag].to_numpy() for flag in flags], axis=1).argmax(axis=1)
    youngest = np.asarray(list(_AGES))
    age_ranges = np.asarray(list(_AGES.values()))
    ages = age_ranges[np.searchsorted(youngest, users["age"].to_numpy(), side="right").clip(min=1) - 1]
    return _joined(
        ratings,
        users=pa.table(
            {
                "user_id": users["user_id"],
                "gender": _named(users["gender"], _GENDERS, "u.user", "gender"),
                "age": ages.tolist(),
                "job": users["job"],
                "zipcode": users["zip"],
            }
        ),
        movies=pa.table(
            {
                "movie_id": movies["movie_id"],
                "title": movies["title"],
                "genre": np.asarray(genres)[first_genre].tolist(),
            }
        ),
    )


def _joined(ratings: pa.Table, users: pa.Table, movies: pa.Table) -> SourceTable:
    """Join each rating other than 3 with its user's and its movie's columns."""
    ratings = ratings.filter(pc.not_equal(ratings["rating"], 3))
    user_rows = _rows_of(ratings["user_id"], users["user_id"], "user")
    movie_rows = _rows_of(ratings["movie_id"], movies["movie_id"], "movie")
    columns = {name: users[name].take(user_rows) for name in users.column_names}
    columns.update({name: movies[name].take(movie_rows) for name in movies.column_names})
    columns[SCHEMA.label] = pc.greater(ratings["rating"], 3).cast(pa.int8())
    columns["timestamp"] = ratings["timestamp"]
    return SourceTable(pa.table(columns), SCHEMA)


def _rows_of(ids: pa.ChunkedArray, known: pa.ChunkedArray, what: str) -> pa.Array:
    """Find the row of each id in `known`; `what` says in the error what the ids identify."""
    rows = pc.index_in(ids, value_set=known.combine_chunks())
    if rows.null_count:
        unknown = ids.filter(pc.is_null(rows))[0]
        raise ValueError(f"Every {what} in the ratings must have metadata, but {what} {unknown} has none.")
    return rows


def _named(codes: pa.ChunkedArray, names: dict, file_name: str, column: str) -> list[str]:
    """Replace codes by their names; `file_name` and `column` say in the error where the codes are."""
    values = codes.to_pylist()
    for row, value in enumerate(values):
        if value not in names:
            raise ValueError(f"{column} in {file_name} must be one of {list(names)}, got {value!r} in line {row + 1}.")
    return [names[value] for value in values]
