# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the columns of a table mean: fields, label, time and text template.

This file ships inside every checkpoint, and in exported folders that serve without torch: it imports only numpy and
the standard library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from .values_clickprompt import number_of

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
