# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows to feature ids.

This file ships inside every checkpoint, and in exported folders that serve without torch: it imports only numpy and
the standard library.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

# One line an import: in parentheses they would not survive the copy into a checkpoint.
# isort: off
from .schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from .values_clickprompt import canonical, each_distinct, holds_several, is_column, number_of, read_time
# isort: on

VOCABULARIES_FILE = "feature_vocabularies.txt"
_SINGLE_VALUES = (str, bytes, int, float, type(None))
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)


class FeatureEncoder:
    """Turns columns of raw values into feature ids.

    A value's id is its place in the field's vocabulary, from 1; 0 is the out-of-vocabulary id. Missing values (`None`,
    NaN, blank) are one value like any other: they have an id where training rows have them, else 0. A field of kind
    `"text"` has no ids.

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1.
        boundaries: Per field, the inner bucket boundaries, ascending; empty where the field is not numeric. Free text
            has neither.
    """

    def __init__(self, schema: Schema, vocabularies: list[list[str]], boundaries: list[list[float]]):
        self.schema = schema
        self.vocabularies = list(vocabularies)
        self.boundaries = boundaries
        # made when first needed: of ten million values it takes longer than to read them
        self._ids: list[dict[str, int] | None] = [None] * len(vocabularies)
        # fields whose unread cells were spoken of
        self._warned: set[int] = set()

    @property
    def field_sizes(self) -> list[int]:
        """Number of ids of each field that has ids, id 0 included: `CTRConfig.field_sizes`."""
        return [len(self.vocabularies[f]) + 1 for f, member in enumerate(self.schema.fields) if member.num_columns]

    @property
    def max_values(self) -> list[int]:
        """Columns of `feature_ids` of each field that has ids: `CTRConfig.max_values`."""
        return [member.num_columns for member in self.schema.fields if member.num_columns]

    @property
    def read_columns(self) -> list[str]:
        """Columns that rows must have, each once."""
        return list(dict.fromkeys(member.column for member in self.schema.fields if member.num_columns))

    @property
    def fingerprint(self) -> str:
        """Hash of schema, vocabularies and boundaries: equal where rows become the same ids."""
        return fingerprint_of(self.schema.to_dict(), self.boundaries, self.written_vocabularies())

    def written_vocabularies(self) -> bytes:
        """What `feature_vocabularies.txt` holds: a line of JSON with the number of values of each field, then the
        values, one a line, in the order of fields and ids.

        Raises:
            ValueError: If a value holds a line break, which no raw value has once its white space is one.
        """
        sizes = {key: len(values) for key, values in zip(self.schema.keys, self.vocabularies)}
        lines = "\n".join([json.dumps(sizes, ensure_ascii=False), *chain.from_iterable(self.vocabularies), ""])
        if lines.count("\n") != 1 + sum(sizes.values()):
            broken = next(value for value in chain.from_iterable(self.vocabularies) if "\n" in value)
            raise ValueError(f"`vocabularies` must hold values without line breaks, got {broken!r}.")
        return lines.encode()

    def columns(self, rows, first_row: int = 0) -> dict[str, Sequence]:
        """Rows in any accepted form as a mapping from column to equally many values, all fields among them.

        Args:
            rows: As in `columns_of`.
            first_row: Number of the first row in messages.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, or a cell of a field of single
                values holds several; the message names row and column.
            TypeError: If `rows` or a row is of another kind.
        """
        if isinstance(rows, Mapping):
            # what else a row has does not say whether it is one row or several
            known = {*self.schema.columns, self.schema.label}
            rows = {name: rows[name] for name in rows if name in known}
        columns = columns_of(rows, self.read_columns, first_row)
        check_columns(self.read_columns, columns)
        self._check_cells(columns, first_row)
        return columns

    def _check_cells(self, columns: Mapping[str, Sequence], first_row: int) -> None:
        for member in self.schema.fields:
            # free text is not read without a tokenizer
            cells = columns.get(member.column, ())
            # looking at few types instead of all cells takes a tenth of the time
            if member.kind == "multi_valued" or all(issubclass(t, _SINGLE_VALUES) for t in set(map(type, cells))):
                continue
            for row, cell in enumerate(cells, start=first_row):
                if holds_several(cell):
                    raise ValueError(
                        f"Column {member.column!r} of kind {member.kind!r} must hold one value a row, got "
                        f"{cell!r:.80} in row {row}."
                    )

    def encode(self, columns: Mapping[str, Sequence]) -> np.ndarray:
        """Columns of raw values to `feature_ids` (B, C) int64."""
        with_ids = [(f, member) for f, member in enumerate(self.schema.fields) if member.num_columns]
        return np.concatenate([self.encode_values(f, columns[member.column]) for f, member in with_ids], axis=1)

    def encode_values(self, field_index: int, values: Iterable) -> np.ndarray:
        """Raw values of one field to ids (B, C_f) int64, C_f the columns that the field owns; -1 is an empty slot."""
        member, known = self.schema.fields[field_index], self.ids_of(field_index)
        inner = self.boundaries[field_index]
        if not member.num_columns:
            return np.zeros((len(list(values)), 0), dtype=np.int64)
        if member.kind in ("numeric", *TIME_PARTS):
            values = list(values)
            keys = each_distinct(values, lambda value: vocabulary_keys(value, member, inner)[0])
            self._warn_of_unread(field_index, values, keys)
            return np.asarray([known.get(key, 0) for key in keys], dtype=np.int64).reshape(-1, 1)
        if member.kind != "multi_valued":
            ids = each_distinct(values, lambda value: known.get(vocabulary_keys(value, member, inner)[0], 0))
            return np.asarray(ids, dtype=np.int64).reshape(-1, 1)
        rows = [[known.get(key, 0) for key in vocabulary_keys(value, member, inner)] for value in values]
        padded = [row + [-1] * (member.max_values - len(row)) for row in rows]
        return np.asarray(padded, dtype=np.int64).reshape(-1, member.max_values)

    def _warn_of_unread(self, field_index: int, values: list, keys: list[str]) -> None:
        """Says once a field that cells which are not blank are no numbers or times."""
        if field_index in self._warned:
            return
        member = self.schema.fields[field_index]
        unread = next((value for value, key in zip(values, keys) if not key and canonical(value)), None)
        if unread is None:
            return
        self._warned.add(field_index)
        what = "numbers" if member.kind == "numeric" else "times"
        written = f", as `time_format` {member.time_format!r} says" if member.time_format else ""
        warnings.warn(
            f"Column {member.column!r} of kind {member.kind!r} should hold {what}{written}; cells like {unread!r} "
            "count as missing.",
            stacklevel=2,
        )

    def ids_of(self, field_index: int) -> dict[str, int]:
        """The id of each value of one field's vocabulary."""
        ids = self._ids[field_index]
        if ids is None:
            vocabulary = self.vocabularies[field_index]
            ids = self._ids[field_index] = dict(zip(vocabulary, range(1, len(vocabulary) + 1)))
        return ids


def read_vocabularies(path: str | Path, processor_config: Mapping[str, Any]) -> list[list[str]]:
    """Per field, the vocabularies in the file `path`, which was saved with `processor_config`.

    Raises:
        ValueError: If the two were not saved together, or one is not whole.
    """
    written = Path(path).read_bytes()
    # over the saved schema as it is, not as it is read
    found = fingerprint_of(processor_config["schema"], processor_config["boundaries"], written)
    if found != (expected := processor_config["fingerprint"]):
        raise ValueError(
            f"{path} must be the whole file that was saved with processor_config.json, whose fingerprint is "
            f"{expected}; together these files have {found}."
        )
    sizes, *values = written.decode().split("\n")
    ends = np.cumsum([0, *json.loads(sizes).values()]).tolist()
    return [values[start:end] for start, end in pairwise(ends)]


def fingerprint_of(schema: Mapping[str, Any], boundaries: list[list[float]], written_vocabularies: bytes) -> str:
    """Hash of what a row's ids depend on."""
    digest = hashlib.sha256(json.dumps([schema, boundaries]).encode())
    digest.update(written_vocabularies)
    return digest.hexdigest()[:16]


def check_columns(needed: Iterable[str], given: Iterable[str], what: str = "The rows") -> None:
    """Raises a ValueError that names the columns that `what` lacks."""
    needed, given = list(dict.fromkeys(needed)), list(given)
    if missing := [column for column in needed if column not in given]:
        raise ValueError(f"{what} must have the columns {needed}; missing {missing}, given {given}.")


def columns_of(rows, needed: Sequence[str] = (), first_row: int = 0) -> dict[str, Sequence]:
    """Rows in any accepted form as a mapping from column to equally many values.

    Args:
        rows: A pandas data frame, a mapping from column to value or to values, or a list of rows as mappings.
        needed: Columns that each row of a list must have; others are missing values in rows that lack them.
        first_row: Number of the first row in messages.

    Raises:
        ValueError: If a row of a list lacks a column, or columns differ in length.
        TypeError: If `rows` or a row is of another kind.
    """
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return rows.to_dict(orient="list")
    if isinstance(rows, Mapping):
        columns = {column: rows[column] for column in rows}
        if not all(is_column(values) for values in columns.values()):
            return {column: [value] for column, value in columns.items()}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `rows` must have one length, got {lengths}.")
        return columns
    if isinstance(rows, (str, bytes)) or not (isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
        raise TypeError(
            "`rows` must be a row (a mapping from column to value), a list of rows, a mapping from column to list or "
            f"a pandas data frame, got {type(rows).__name__}."
        )
    rows = list(rows)
    for place, row in enumerate(rows, start=first_row):
        if not isinstance(row, Mapping):
            raise TypeError(f"Row {place} must be a mapping from column to value, got {type(row).__name__}.")
        if any(column not in row for column in needed):
            check_columns(needed, row, f"Row {place}")
    names = list(dict.fromkeys([*needed, *(name for row in rows for name in row)]))
    return {name: [row.get(name) for row in rows] for name in names}


def vocabulary_keys(value: Any, member: FieldSchema, boundaries: list[float]) -> list[str]:
    """Vocabulary keys of a raw value, at least one; the missing value's key is the empty string."""
    if member.kind == "multi_valued":
        return members_of(value, member)[: member.max_values] or [""]
    if member.kind == "numeric":
        number = number_of(value)
        return [str(int(np.searchsorted(boundaries, number, side="right"))) if np.isfinite(number) else ""]
    if member.kind in TIME_PARTS:
        return [time_part(value, member)]
    return [canonical(value)]


def members_of(value: Any, member: FieldSchema) -> list[str]:
    """The values of a multi-valued cell, in one spelling, blanks left out."""
    if isinstance(value, (list, tuple, np.ndarray)):
        cells = [canonical(v) for v in value]
    else:
        cells = [canonical(v) for v in canonical(value).split(member.separator)]
    return [cell for cell in cells if cell]


def time_part(value: Any, member: FieldSchema) -> str:
    """`"14"`, `"Monday"` or `"January"`; empty where there is no time."""
    moment = read_time(value, member.time_format)
    if moment is None:
        return ""
    if member.kind == "hour":
        return str(moment.hour)
    return _WEEKDAYS[moment.weekday()] if member.kind == "weekday" else _MONTHS[moment.month - 1]
