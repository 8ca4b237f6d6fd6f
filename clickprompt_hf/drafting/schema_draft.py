# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Draft the schema of an unknown table: guess its label, its time and what each column is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.csv_files import plain_numbers
from ..schema_clickprompt import CsvFormat, FieldSchema, Schema
from ..values_clickprompt import number_of
from .bucket_choice import choose_buckets
from .column_checks import (
    count_copies,
    leave_out_row_ids,
    propose_ids_only,
    question_outcome,
    rank_alone,
    unite_buckets,
    unite_families,
)
from .column_kinds import profile_column
from .column_names import display_name
from .column_profile import ColumnProfile
from .label_guess import LabelGuess, guess_labels, named_label
from .sentinels import question_sentinels
from .written_numbers import looks_numeric

# A draft of a larger table looks at this many rows.
MAX_ROWS = 100_000


@dataclass(frozen=True)
class SchemaDraft:
    """A schema guessed from a table, and what it was guessed from.

    Args:
        profiles: All columns, in the table's order.
        label: The label; `None` if no column is likely to be one.
        label_guesses: Columns that may be the label, the likeliest first.
        num_copies: Number of rows that repeat an earlier row in all columns.
    """

    profiles: list[ColumnProfile]
    label: LabelGuess | None
    label_guesses: list[LabelGuess]
    num_copies: int

    @property
    def columns(self) -> list[ColumnProfile]:
        """All columns but the label, free text last, because texts are truncated at the end."""
        others = [profile for profile in self.profiles if self.label is None or profile is not self.label.profile]
        return sorted(others, key=lambda profile: profile.kind == "text")

    @property
    def used_columns(self) -> list[ColumnProfile]:
        """The columns that become fields, in their order."""
        return [profile for profile in self.columns if not profile.reason_left_out and fields_of(profile)]

    @property
    def times(self) -> list[ColumnProfile]:
        """Columns of times, the likeliest time of the impression first."""
        times = [profile for profile in self.columns if profile.kind == "time"]
        return sorted(times, key=lambda profile: (bool(profile.missing), bool(profile.reason_left_out)))

    @property
    def time(self) -> ColumnProfile | None:
        """The time to split by; `None` if no column is one without missing cells."""
        return next((time for time in self.times if not time.missing), None)

    def schema(self) -> Schema:
        """The schema that the draft proposes.

        Raises:
            ValueError: If there is no label, or no column can be a field with ids.
        """
        if self.label is None:
            raise ValueError(
                "`label` must name the label column: no column is likely to be one, among "
                f"{[profile.name for profile in self.profiles]}."
            )
        fields = [FieldSchema(**field) for profile in self.used_columns for field in fields_of(profile)]
        if all(field.kind in ("text", "vector") for field in fields):
            left_out = {profile.name: profile.reason_left_out for profile in self.columns if profile.reason_left_out}
            raise ValueError(
                "The table must have a column that can be a field with ids, but it has none besides the label "
                f"{self.label.profile.name!r}. Free text: {[field.column for field in fields]}; left out: "
                f"{left_out}."
            )
        time = self.time
        return Schema(
            tuple(fields),
            label=self.label.profile.name,
            positive=self.label.positive,
            time=None if time is None else time.name,
            time_format=None if time is None else time.options.get("time_format"),
        )


def draft_schema_of(table: pa.Table, label: str | None = None, positive: str | None = None) -> Schema:
    """Draft the schema of a table as `clickprompt draft-schema` does, without its questions.

    From a table of more than 100,000 rows, it draws that many at random, with a fixed seed.

    Args:
        table: Raw rows, with the label.
        label: Name of the label column; guessed by default.
        positive: Value of the label that means a click; guessed by default. Needs `label`.

    Raises:
        ValueError: If the table has no rows or repeats a column name, if `label` or `positive` does not fit it or
            cannot be guessed, or if no column can be a field with ids.
    """
    if repeated := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise ValueError(f"`table` must have unique column names, but it repeats {repeated}.")
    if not len(table):
        raise ValueError(f"`table` must have rows, but it has none of its columns {table.column_names}.")
    if len(table) > MAX_ROWS:
        table = table.take(draw_rows(len(table)))
    return draft_of(profile_columns(table), label, positive).schema()


def draw_rows(num_rows: int) -> np.ndarray:
    """Draw the `MAX_ROWS` rows that a draft of a larger table is based on, with a fixed seed, in order."""
    return np.sort(np.random.default_rng(0).choice(num_rows, MAX_ROWS, replace=False))


def profile_columns(table: pa.Table, csv_format: CsvFormat | None = None) -> list[ColumnProfile]:
    """Profile each column of a table, in order.

    Args:
        table: The rows.
        csv_format: For a table read from a CSV file: how the file writes the numbers of numeric fields.
    """
    profiles = []
    for name, column in zip(table.column_names, table.columns):
        profile, plain = None, None
        if csv_format is not None and looks_numeric(column, csv_format):
            plain = plain_numbers(column, csv_format)
            profile = profile_column(name, plain)
        # other fields are read as they are written
        if profile is None or profile.kind != "numeric":
            profile = profile_column(name, column)
            if plain is not None and profile.kind == "categorical":
                _question_spelling(profile, plain, column)
        profiles.append(profile)
    return profiles


def _question_spelling(profile: ColumnProfile, plain: pa.ChunkedArray, written: pa.ChunkedArray) -> None:
    """Add a doubt about numbers with marks that a categorical field reads as words."""
    pairs = zip(written.to_pylist(), plain.to_pylist())
    # none if all are whole numbers
    differ = ((cell, number) for cell, number in pairs if cell != number and np.isfinite(number_of(number)))
    for example, number in islice(differ, 1):
        profile.doubts.append(
            f"treated as words such as {example!r}, so JSON and data frames must have this spelling too, not "
            f"{number}; with `kind: numeric`, both are read"
        )


def draft_of(profiles: Sequence[ColumnProfile], label: str | None = None, positive: str | None = None) -> SchemaDraft:
    """Draft a schema from the profiles of all columns; adds what follows from the label and from each other.

    Args:
        profiles: The columns, as `profile_columns` returns them.
        label: Name of the label column; guessed by default.
        positive: Value of the label that means a click; guessed by default. Needs `label`.

    Raises:
        ValueError: If `label` or `positive` does not fit the table.
    """
    guesses = guess_labels(profiles)
    if label is None:
        if positive is not None:
            raise ValueError("`positive` needs `label`, the column with this value.")
        guess = next((guess for guess in guesses if guess.likelihood), None)
    else:
        guess = named_label(profiles, label, positive)
    num_rows = profiles[0].num_rows
    num_copies, is_copied = count_copies(profiles)
    draft = SchemaDraft(list(profiles), guess, guesses, num_copies)
    _tell_names_apart(draft.columns)
    unite_families(draft.columns)
    for profile in draft.columns:
        leave_out_row_ids(profile, num_rows - num_copies if is_copied else num_rows)
        question_sentinels(profile)
        if guess is not None:
            rank_alone(profile, guess.clicks)
            question_outcome(profile)
        choose_buckets(profile, None if guess is None else guess.clicks)
    unite_buckets(draft.columns)
    propose_ids_only(draft.used_columns)
    return draft


def _tell_names_apart(profiles: Sequence[ColumnProfile]) -> None:
    """Let columns keep their names in the text if their fields would share one, as with `price` and `Price`."""
    names = Counter(display_name(profile.name) for profile in profiles if profile.name.strip())
    for profile in profiles:
        if profile.name.strip() and names[display_name(profile.name)] > 1:
            profile.options["name"] = profile.name


def fields_of(profile: ColumnProfile) -> list[dict[str, Any]]:
    """The fields that a column suggests, as plain data."""
    if not profile.values or not profile.name.strip():
        return []
    name = profile.options.get("name", display_name(profile.name))
    options = {key: value for key, value in profile.options.items() if key not in ("parts", "name")}
    if profile.kind == "time":
        return [
            {"column": profile.name, "name": _with_part(name, part), "kind": part, **options}
            for part in profile.options["parts"]
        ]
    kind = {} if profile.kind == "categorical" else {"kind": profile.kind}
    return [{"column": profile.name, "name": name, **kind, **options}]


def _with_part(name: str, part: str) -> str:
    """Name of a part of a time, such as `"Sold at hour"`; `"Hour"` stays as it is."""
    return name if name.lower().split()[-1] == part else f"{name} {part}"
