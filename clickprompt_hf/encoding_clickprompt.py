# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schema, and raw rows to feature ids.

This file ships inside every checkpoint, and in exported folders that serve without torch: it imports only numpy and
the standard library.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime, time, timezone
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

FieldKind = Literal["categorical", "numeric", "multi_valued", "text", "hour", "weekday", "month"]
Buckets = Literal["quantile", "log"]
TIME_PARTS = ("hour", "weekday", "month")


@dataclass(frozen=True)
class FieldSchema:
    """One field of an impression: where its value stands in a raw row, and how it becomes ids and text.

    Args:
        column: Name of the column in the raw rows.
        name: Display name in the text, as in `"{name} is {value}."`. Defaults to `column`, for a part of a time with
            the part behind it.
        kind: `"categorical"` (one id a value), `"numeric"` (buckets; the text shows the value itself),
            `"multi_valued"` (several ids, whose embeddings are averaged), `"text"` (no ids: only the PLM reads it), or
            `"hour"`, `"weekday"` or `"month"` of a time, several of which may be of one column.
        num_buckets: Number of buckets of a numeric field, at least 2.
        buckets: `"quantile"` (equally many training rows each) or `"log"` (equally wide on a logarithmic scale).
        max_values: Number of ids that a multi-valued field keeps, at least 1; further values are left out.
        separator: Splits the cell of a multi-valued field where it is a string and not a list.
        time_format: How strings write a time, as in `datetime.strptime`; by default as `read_time` says.

    Raises:
        ValueError: If `column` is empty, `name` is no string, `kind` is unknown, or a number is out of its range.
    """

    column: str
    name: str = ""
    kind: FieldKind = "categorical"
    num_buckets: int = 10
    max_values: int = 5
    separator: str = "|"
    buckets: Buckets = "quantile"
    time_format: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise ValueError(f"`column` of a field must be a non-empty string, got {self.column!r}.")
        if self.kind not in get_args(FieldKind):
            raise ValueError(
                f"`kind` of field {self.column!r} must be one of {get_args(FieldKind)}, got {self.kind!r}."
            )
        if not isinstance(self.num_buckets, int) or self.num_buckets < 2:
            raise ValueError(f"`num_buckets` of field {self.column!r} must be at least 2, got {self.num_buckets!r}.")
        if not isinstance(self.max_values, int) or self.max_values < 1:
            raise ValueError(f"`max_values` of field {self.column!r} must be at least 1, got {self.max_values!r}.")
        if not isinstance(self.separator, str) or not self.separator:
            raise ValueError(
                f"`separator` of field {self.column!r} must be a non-empty string, got {self.separator!r}."
            )
        if self.buckets not in get_args(Buckets):
            raise ValueError(
                f"`buckets` of field {self.column!r} must be one of {get_args(Buckets)}, got {self.buckets!r}."
            )
        _check_time_format(f"`time_format` of field {self.column!r}", self.time_format)
        if not self.name:
            part = f" {self.kind}" if self.kind in TIME_PARTS else ""
            object.__setattr__(self, "name", f"{self.column}{part}")
        if not isinstance(self.name, str):
            raise ValueError(f"`name` of field {self.column!r} must be a string, got {self.name!r}.")

    @property
    def key(self) -> str:
        """Tells the field from the others of a schema: its column, for a part of a time as in `"sold_at.hour"`."""
        return f"{self.column}.{self.kind}" if self.kind in TIME_PARTS else self.column

    @property
    def num_columns(self) -> int:
        """Columns of `feature_ids` that the field owns; 0 for free text."""
        return {"text": 0, "multi_valued": self.max_values}.get(self.kind, 1)


@dataclass(frozen=True)
class Schema:
    """What the columns of a table mean. Plain data: it is saved with the processor.

    Args:
        fields: The fields, in the order of their ids and of their clauses in the text.
        label: Name of the click column, whose values are 0 or 1.
        time: Name of the time column, used by the chronological split only.
        template: Clause of one field, with the placeholders `{name}` and `{value}`; clauses are joined by one space.
        positive: The label's value that means a click, where it has words instead of 0 and 1, as in `"Yes"`; any
            other word means none.
        time_format: How strings in the time column write it, as in a field.

    Raises:
        ValueError: If there are no fields or none has ids, a column is named twice, the label is no string,
            `template` lacks a placeholder or holds `{value}` twice, or `positive` is no word.
    """

    fields: tuple[FieldSchema, ...]
    label: str
    time: str | None = None
    template: str = "{name} is {value}."
    positive: str | None = None
    time_format: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        if not self.fields:
            raise ValueError("`fields` of a schema must name at least one field, got none.")
        if not any(member.num_columns for member in self.fields):
            raise ValueError("`fields` of a schema must have one that is not of kind 'text': the rest need ids.")
        if not isinstance(self.label, str) or not self.label:
            raise ValueError(f"`label` of a schema must be the name of a column, got {self.label!r}.")
        repeated = sorted({key for key in self.keys if self.keys.count(key) > 1} | ({self.label} & {*self.columns}))
        if repeated:
            raise ValueError(f"A schema must name each column once, as a field or as the label; repeated: {repeated}.")
        if self.positive is not None:
            check_positive(self.positive)
        _check_time_format("`time_format` of a schema", self.time_format)
        for placeholder in ("{name}", "{value}"):
            if placeholder not in self.template:
                raise ValueError(f"`template` must contain {placeholder}, got {self.template!r}.")
        if self.template.count("{value}") > 1:
            raise ValueError(f"`template` must contain {{value}} once, got {self.template!r}.")

    @property
    def columns(self) -> list[str]:
        """Column names of the fields, in order; one that has several parts of a time as fields is repeated."""
        return [f.column for f in self.fields]

    @property
    def keys(self) -> list[str]:
        """What tells the fields apart, in order: their column names, but for parts of a time."""
        return [f.key for f in self.fields]

    @property
    def format_of_time(self) -> str | None:
        """How the time column is written: `time_format`, or that of a field of the same column."""
        formats = [self.time_format, *(member.time_format for member in self.fields if member.column == self.time)]
        return next(filter(None, formats), None)

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain data: what a YAML or JSON schema file holds."""
        return {**asdict(self), "fields": [asdict(f) for f in self.fields]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Schema":
        """Builds a schema from plain data; a field may be given as its column name alone.

        Raises:
            ValueError: If a key is unknown or a required one is missing; the message names it.
        """
        _check_keys("schema", data, cls, required=("fields", "label"))
        if isinstance(data["fields"], str) or not isinstance(data["fields"], Sequence):
            raise ValueError(f"`fields` of a schema must be a list of fields, got {data['fields']!r}.")
        members = []
        for member in data["fields"]:
            member = {"column": member} if isinstance(member, str) else member
            _check_keys("field", member, FieldSchema, required=("column",))
            members.append(FieldSchema(**member))
        return cls(**{**data, "fields": tuple(members)})


def _check_keys(what: str, data: Any, cls: type, required: tuple[str, ...]) -> None:
    if not isinstance(data, Mapping):
        raise ValueError(f"A {what} must be a mapping, got {data!r}.")
    known = {f.name for f in fields(cls)}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"Unknown keys in a {what}: {unknown}; known: {sorted(known)}.")
    if missing := [key for key in required if key not in data]:
        raise ValueError(f"Missing keys in a {what}: {missing}; given: {sorted(data)}.")


def check_positive(positive: Any) -> None:
    """Raises a ValueError if `positive` cannot be `Schema.positive`."""
    if not isinstance(positive, str) or not positive:
        raise ValueError(
            f"`positive` of a schema must be a value of the label as a string, got {positive!r}. YAML reads Yes, No, "
            "true and numbers as something else where they are not in quotes."
        )
    # rows whose labels were read hold 0 and 1
    if np.isfinite(number_of(positive)) and positive != "1":
        raise ValueError(
            f"`positive` of a schema must be '1' or no number, got {positive!r}: write such labels 0 and 1."
        )


def _check_time_format(what: str, time_format: Any) -> None:
    if time_format is not None and (not isinstance(time_format, str) or "%" not in time_format):
        raise ValueError(f"{what} must be a format of datetime.strptime, as in '%d/%m/%Y', got {time_format!r}.")


VOCABULARIES_FILE = "feature_vocabularies.txt"
# leading zeros make an id, not a number
_WHOLE_NUMBER_AS_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.0")
_SINGLE_VALUES = (str, bytes, int, float, type(None))
# characters of a number with 15 digits and a point: any double can hold those
_LONGEST_DECIMAL = 16
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)
_SECOND_FRACTION = re.compile(r"\.(\d+)")


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


def is_column(values: Any) -> bool:
    """Whether `values` are several, and not one value as a string is."""
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping))


def holds_several(cell: Any) -> bool:
    """Whether a cell is a list or a mapping; an array of no dimensions is one value."""
    return isinstance(cell, Mapping) or (is_column(cell) and getattr(cell, "ndim", None) != 0)


def each_distinct(values: Iterable, function: Callable[[Any], Any]) -> list[Any]:
    """`function` of each value, called once for each distinct one: columns repeat themselves."""
    values = values if isinstance(values, list) else list(values)
    # Values of several types may be equal without being written alike, as 1 and True; lists are no keys; few values
    # are not worth it.
    kinds = set(map(type, values)) if len(values) > 32 else set()
    if len(kinds) != 1 or not issubclass(kinds.pop(), (str, int, float)):
        return [function(value) for value in values]
    results = {value: function(value) for value in set(values)}
    return [results[value] for value in values]


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


def read_time(value: Any, time_format: str | None = None) -> datetime | None:
    """The moment that a raw value names, in UTC where it has a time zone; `None` where it names none.

    Args:
        value: A date or time, a string, or a number of seconds since 1970, or of milli-, micro- or nanoseconds, which
            their size tells from 1973 on.
        time_format: Format of strings and numbers, as in `datetime.strptime`; by default ISO 8601, as in
            `"2024-01-31 14:05:00"`, or a number as above.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        text = canonical(value)
        try:
            if time_format is not None:
                value = datetime.strptime(text, time_format)
            elif np.isfinite(number_of(text)):
                value = _moment_of_number(number_of(text))
            else:
                value = datetime.fromisoformat(_plain_iso(text))
        except (ValueError, OverflowError):
            return None
    # NaT is a datetime, and equals nothing
    if value is None or value != value:
        return None
    return value if value.tzinfo is None else value.astimezone(timezone.utc).replace(tzinfo=None)


def _moment_of_number(number: float) -> datetime | None:
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if 1e8 <= number / unit < 1e11:
            return datetime.fromtimestamp(number / unit, timezone.utc)
    return None


def _plain_iso(text: str) -> str:
    """ISO 8601 as Python 3.10 reads it: no letters for UTC, six digits of a second."""
    text = re.sub(r" ?(Z|UTC)$", "+00:00", text)
    return _SECOND_FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text, count=1)


def spellings(values: Iterable) -> list[str]:
    """Each value as vocabularies spell it; the empty string where it is missing."""
    return each_distinct(values, canonical)


def canonical(value: Any) -> str:
    """One spelling of a value, whatever file it comes from: no outer or repeated white space, whole numbers without a
    decimal part, truth values as Python writes them."""
    if value is None:
        return ""
    if getattr(value, "ndim", None) == 0 and not isinstance(value, np.generic):
        # a tensor or an array of no dimensions
        value = value.item()
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        # pandas makes integer columns with gaps float
        return str(int(value)) if float(value).is_integer() else _shortest(float(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    text = str(value)
    # pandas' own missing values
    if text in ("<NA>", "NaT"):
        return ""
    text = encodable(" ".join(text.split()))
    # what pandas writes of such columns into a CSV file
    return str(int(text[:-2])) if _WHOLE_NUMBER_AS_FLOAT.fullmatch(text) else text


def encodable(text: str) -> str:
    """`text` with lone surrogates, which JSON may hold but UTF-8 cannot, replaced by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shortest(number: float) -> str:
    """The shortest numeral that reads back as `number`; 0.1 for a 0.1 that was stored in 32 bits."""
    text = str(number)
    if len(text) <= _LONGEST_DECIMAL:
        return text
    with np.errstate(over="ignore"):
        single = np.float32(number)
    return str(single) if float(single) == number else text


def number_of(value: Any) -> float:
    """The value as a float; NaN where it is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def labels_in_words(values: Iterable, positive: str) -> np.ndarray:
    """(N,) floats: 1 where a value is `positive`, NaN where it is missing, else 0. The numbers 0 and 1 stay what they
    are, so that labels which were read already may be read again."""
    numbers = {positive: 1.0, "1": 1.0, "": float("nan")}
    return np.asarray([numbers.get(spelling, 0.0) for spelling in spellings(values)], dtype=np.float64)
