# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows to feature ids.

`FeatureEncoder.encode_values` is where raw values become ids, in training, in `processor(rows)`, in scoring and in
exported folders.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import hashlib
import json
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .lists_clickprompt import UnreadableCell, cell_values, kept_values
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
_INDEX_LOCK = threading.Lock()


class FeatureEncoder:
    """Turns columns of raw values into feature ids.

    A value's id is its position in the field's vocabulary, counted from 1; 0 is the out-of-vocabulary id. Missing
    values (`None`, NaN, blank) are treated like any other value: they have an id if training rows have them, else 0. A
    field of kind `"text"` has no ids.

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1; empty for free text.
        boundaries: Per field, the inner bucket boundaries in ascending order; empty unless the field is numeric.
    """

    def __init__(self, schema: Schema, vocabularies: list[list[str]], boundaries: list[list[float]]):
        self.schema = schema
        self.boundaries = boundaries
        self._set_vocabularies(vocabularies)

    def _set_vocabularies(self, vocabularies: list[list[str]]) -> None:
        self.vocabularies = list(vocabularies)
        # Built on first use: for ten million values, building takes longer than reading the file.
        self._ids: list[dict[str, int] | None] = [None] * len(vocabularies)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ids": [None] * len(self._ids)}

    @property
    def field_sizes(self) -> list[int]:
        """Number of ids of each field with ids, id 0 included, as in `CTRConfig.field_sizes`."""
        return [len(self.vocabularies[f]) + 1 for f, field in enumerate(self.schema.fields) if field.num_columns]

    @property
    def max_values(self) -> list[int]:
        """Number of columns in `feature_ids` of each field with ids, as in `CTRConfig.max_values`."""
        return [field.num_columns for field in self.schema.fields if field.num_columns]

    @property
    def read_columns(self) -> list[str]:
        """Columns that rows must have, without repeats."""
        return list(dict.fromkeys(field.column for field in self.schema.fields if field.num_columns))

    @property
    def fingerprint(self) -> str:
        """Hash of schema, vocabularies and boundaries: two encoders with the same one give rows the same ids."""
        return fingerprint_of(self.schema.to_dict(), self.boundaries, self.written_vocabularies())

    def written_vocabularies(self) -> bytes:
        """Content of `feature_vocabularies.txt`.

        The first line is JSON with the number of values per field. Below it are the values, one per line, in the order
        of fields and ids.

        Raises:
            ValueError: If a value contains a line break. Values from rows never do: white space is collapsed.
        """
        sizes = {key: len(values) for key, values in zip(self.schema.keys, self.vocabularies)}
        lines = "\n".join([json.dumps(sizes, ensure_ascii=False), *chain.from_iterable(self.vocabularies), ""])
        if lines.count("\n") != 1 + sum(sizes.values()):
            broken = next(value for value in chain.from_iterable(self.vocabularies) if "\n" in value)
            raise ValueError(f"`vocabularies` must hold values without line breaks, got {broken!r}.")
        return lines.encode()

    def columns(self, rows, row_offset: int = 0) -> dict[str, Sequence]:
        """Convert rows to a mapping from column to values and check them.

        Args:
            rows: As in `columns_of`.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, or a cell of a single-valued field
                holds several values; the message names row and column.
            TypeError: If `rows` or a row has an unsupported type.
        """
        if isinstance(rows, Mapping):
            # Unknown columns must not decide whether this is one row or several.
            known = {*self.schema.columns, self.schema.label}
            rows = {name: rows[name] for name in rows if name in known}
        columns = columns_of(rows, self.read_columns, row_offset)
        check_columns(self.read_columns, columns)
        self._check_cells(columns, row_offset)
        return columns

    def _check_cells(self, columns: Mapping[str, Sequence], row_offset: int) -> None:
        for field in self.schema.fields:
            # Free text may be absent if there is no tokenizer.
            cells = columns.get(field.column, ())
            # Checking the few distinct types first takes a tenth of the time.
            if field.kind == "multi_valued" or all(issubclass(t, _SINGLE_VALUES) for t in set(map(type, cells))):
                continue
            for row, cell in enumerate(cells, start=row_offset):
                if holds_several(cell):
                    raise ValueError(
                        f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, got "
                        f"{cell!r:.80} in row {row}."
                    )

    def encode(self, columns: Mapping[str, Sequence], row_offset: int = 0) -> np.ndarray:
        """Encode columns of raw values as `feature_ids` (B, C) int64.

        Args:
            columns: As `columns` returns them.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a cell of a multi-valued field is not a list of single values; the message names its row.
        """
        with_ids = [(f, field) for f, field in enumerate(self.schema.fields) if field.num_columns]
        try:
            return np.concatenate([self.encode_values(f, columns[field.column]) for f, field in with_ids], axis=1)
        except UnreadableCell as error:
            raise error.at(f" in row {row_offset + (error.index or 0)}") from None

    def encode_values(self, field_index: int, values: Iterable) -> np.ndarray:
        """Look up the ids of one field's raw values; each distinct value is looked up once.

        Warns about cells of numeric fields and parts of times that cannot be read.

        Args:
            field_index: Index of the field in the schema.
            values: B raw values.

        Returns:
            Ids (B, number of the field's columns) int64; -1 marks an empty slot of a multi-valued field.

        Raises:
            UnreadableCell: If a cell of a multi-valued field is not a list of single values.
        """
        field, boundaries = self.schema.fields[field_index], self.boundaries[field_index]
        known_ids = self._ids_of(field_index)
        values = without_missing_words(values if isinstance(values, list) else list(values), field)
        if not field.num_columns:
            return np.zeros((len(values), 0), dtype=np.int64)
        if field.kind == "multi_valued":

            def ids_of_cell(cell: Any) -> list[int]:
                ids = [known_ids.get(key, 0) for key in vocabulary_keys(cell, field, boundaries)]
                return ids + [-1] * (field.max_values - len(ids))

            try:
                ids_of_cells = each_distinct(values, ids_of_cell)
            except UnreadableCell as error:
                error.index = index_of(error.cell, values)
                raise
            return np.asarray(ids_of_cells, dtype=np.int64).reshape(-1, field.max_values)

        def id_of_cell(cell: Any) -> int:
            return known_ids.get(vocabulary_keys(cell, field, boundaries)[0], 0)

        ids = each_distinct(values, id_of_cell)
        missing_id = known_ids.get("", 0)
        if field.kind in ("numeric", *TIME_PARTS) and missing_id in ids:
            self._warn_of_unread(field, (cell for cell, cell_id in zip(values, ids) if cell_id == missing_id))
        return np.asarray(ids, dtype=np.int64).reshape(-1, 1)

    def _warn_of_unread(self, field: FieldSchema, cells: Iterable) -> None:
        """Warn if one of the cells of a numeric field or a part of a time is neither blank nor readable."""
        unread = (cell for cell in cells if canonical(cell) and vocabulary_keys(cell, field, []) == [""])
        example = next(unread, None)
        if example is not None:
            what = "numbers" if field.kind == "numeric" else "times"
            written = f" in the `time_format` {field.time_format!r}" if field.time_format else ""
            warnings.warn(
                f"Column {field.column!r} of kind {field.kind!r} should hold {what}{written}; cells like "
                f"{example!r:.80} count as missing.",
                stacklevel=3,
            )

    def _ids_of(self, field_index: int) -> dict[str, int]:
        """Map each value of a field's vocabulary to its id."""
        # Taken before the vocabulary: `extend` replaces both, and an old index must not land in the new list.
        ids_by_field = self._ids
        ids = ids_by_field[field_index]
        if ids is None:
            with _INDEX_LOCK:
                # Another thread may have built it in the meantime.
                ids = ids_by_field[field_index]
                if ids is None:
                    vocabulary = self.vocabularies[field_index]
                    ids = ids_by_field[field_index] = dict(zip(vocabulary, range(1, len(vocabulary) + 1)))
        return ids


def read_vocabularies(path: str | Path, processor_config: Mapping[str, Any]) -> list[list[str]]:
    """Read the vocabularies of all fields from a file that was saved with `processor_config`.

    Raises:
        ValueError: If file and configuration were not saved together, or one of them is incomplete.
    """
    written = Path(path).read_bytes()
    # Of the schema as saved, which `Schema.from_dict` may have completed.
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
    """Hash everything that a row's ids depend on."""
    # How files are written says nothing about ids.
    schema = {key: value for key, value in schema.items() if key != "csv"}
    digest = hashlib.sha256(json.dumps([schema, boundaries]).encode())
    digest.update(written_vocabularies)
    return digest.hexdigest()[:16]


def check_columns(needed: Iterable[str], given: Iterable[str], what: str = "The rows") -> None:
    """Raise a ValueError that names the columns that `what` lacks."""
    needed, given = list(dict.fromkeys(needed)), list(given)
    if missing := [column for column in needed if column not in given]:
        raise ValueError(f"{what} must have the columns {needed}; missing {missing}, given {given}.")


def check_different(names: Iterable[str], what: str) -> None:
    """Raise a ValueError that names the columns that `what` has more than once."""
    names = list(names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"The columns of {what} must have different names; repeated: {repeated}.")


def columns_of(rows, needed: Sequence[str] = (), row_offset: int = 0) -> dict[str, Sequence]:
    """Convert rows to a mapping from column to equally many values.

    Args:
        rows: A data frame of pandas or polars, an Arrow table, a mapping from column to value or to values, or a list
            of rows as mappings.
        needed: Columns that each row of a list must have. Other columns are missing values in rows that lack them.
        row_offset: Number of the first row in messages.

    Raises:
        ValueError: If a row of a list lacks a column, a column is repeated, or columns differ in length.
        TypeError: If `rows` or a row has an unsupported type.
    """
    # Data frames and Arrow tables are recognized by their methods: none of these libraries may be installed.
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        check_different(rows.columns, "the data frame")
        return rows.to_dict(orient="list")
    if hasattr(rows, "to_dicts"):
        return rows.to_dict(as_series=False)
    if hasattr(rows, "to_pydict"):
        check_different(rows.schema.names, "the table")
        return rows.to_pydict()
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
            "`rows` must be a row (a mapping from column to value), a list of rows, a mapping from column to list, a "
            f"pandas data frame or an Arrow table, got {type(rows).__name__}."
        )
    rows = list(rows)
    for number, row in enumerate(rows, start=row_offset):
        if not isinstance(row, Mapping):
            raise TypeError(f"Row {number} must be a mapping from column to value, got {type(row).__name__}.")
        if any(column not in row for column in needed):
            check_columns(needed, row, f"Row {number}")
    names = list(dict.fromkeys([*needed, *(name for row in rows for name in row)]))
    return {name: [row.get(name) for row in rows] for name in names}


def index_of(cell: Any, values: list[Any]) -> int:
    """Index of `cell` in `values`; strings are found by value, as columns repeat them."""
    return next(i for i, value in enumerate(values) if value is cell or (isinstance(cell, str) and value == cell))


def without_missing_words(values: list[Any], field: FieldSchema) -> list[Any]:
    """Replace cells that the field's schema lists as missing by `None`."""
    if not field.missing:
        return values
    words = set(field.missing)
    return each_distinct(values, lambda value: None if canonical(value) in words else value)


def vocabulary_keys(value: Any, field: FieldSchema, boundaries: list[float]) -> list[str]:
    """Vocabulary keys of a raw value, at least one. The key of a missing or unreadable value is the empty string."""
    if field.kind == "multi_valued":
        return kept_values(cell_values(value, field), field) or [""]
    if field.kind == "numeric":
        number = number_of(value)
        return [str(int(np.searchsorted(boundaries, number, side="right"))) if np.isfinite(number) else ""]
    if field.kind in TIME_PARTS:
        return [time_part(value, field)]
    return [canonical(value)]


def time_part(value: Any, field: FieldSchema) -> str:
    """The field's part of a time, such as `"14"`, `"Monday"` or `"January"`; empty if `value` is not a time."""
    time = read_time(value, field.time_format)
    if time is None:
        return ""
    if field.kind == "hour":
        return str(time.hour)
    return _WEEKDAYS[time.weekday()] if field.kind == "weekday" else _MONTHS[time.month - 1]
