# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schema and processor: raw rows to feature ids and text tokens.

This file ships inside every checkpoint: it imports only numpy, torch, transformers and the standard library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

FieldKind = Literal["categorical", "numeric", "multi_valued"]


@dataclass(frozen=True)
class FieldSchema:
    """One field of an impression: where its value stands in a raw row, and how it becomes ids and text.

    Args:
        column: Name of the column in the raw rows.
        name: Display name in the text, as in `"{name} is {value}."`. Defaults to `column`.
        kind: `"categorical"` (one id a value), `"numeric"` (quantile buckets; the text shows the value itself) or
            `"multi_valued"` (several ids, whose embeddings are averaged).
        num_buckets: Number of quantile buckets of a numeric field, at least 2.
        max_values: Number of ids that a multi-valued field keeps, at least 1; further values are left out.
        separator: Splits the cell of a multi-valued field where it is a string and not a list.

    Raises:
        ValueError: If `column` is empty, `kind` is unknown, or a number is out of its range.
    """

    column: str
    name: str = ""
    kind: FieldKind = "categorical"
    num_buckets: int = 10
    max_values: int = 5
    separator: str = "|"

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise ValueError(f"`column` of a field must be a non-empty string, got {self.column!r}.")
        if self.kind not in get_args(FieldKind):
            raise ValueError(f"`kind` of field {self.column!r} must be one of {get_args(FieldKind)}, got {self.kind!r}.")
        if not isinstance(self.num_buckets, int) or self.num_buckets < 2:
            raise ValueError(f"`num_buckets` of field {self.column!r} must be at least 2, got {self.num_buckets!r}.")
        if not isinstance(self.max_values, int) or self.max_values < 1:
            raise ValueError(f"`max_values` of field {self.column!r} must be at least 1, got {self.max_values!r}.")
        if not self.separator:
            raise ValueError(f"`separator` of field {self.column!r} must not be empty.")
        if not self.name:
            object.__setattr__(self, "name", self.column)


@dataclass(frozen=True)
class Schema:
    """What the columns of a table mean. Plain data: it is saved with the processor.

    Args:
        fields: The fields, in the order of their ids and of their clauses in the text.
        label: Name of the click column, whose values are 0 or 1.
        time: Name of the time column, used by the chronological split only.
        template: Clause of one field, with the placeholders `{name}` and `{value}`; clauses are joined by one space.

    Raises:
        ValueError: If there are no fields, a column is named twice, or `template` lacks a placeholder.
    """

    fields: tuple[FieldSchema, ...]
    label: str
    time: str | None = None
    template: str = "{name} is {value}."

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        if not self.fields:
            raise ValueError("`fields` of a schema must name at least one field, got none.")
        columns = [*self.columns, self.label]
        repeated = sorted({column for column in columns if columns.count(column) > 1})
        if repeated:
            raise ValueError(f"A schema must name each column once, as a field or as the label; repeated: {repeated}.")
        for placeholder in ("{name}", "{value}"):
            if placeholder not in self.template:
                raise ValueError(f"`template` must contain {placeholder}, got {self.template!r}.")

    @property
    def columns(self) -> list[str]:
        """Column names of the fields, in order."""
        return [f.column for f in self.fields]

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
