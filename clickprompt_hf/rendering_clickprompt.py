# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows to the text that the PLM reads.

This file ships with every checkpoint and is read where torch is absent, so it imports only numpy and the standard
library.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .cells_clickprompt import time_part, without_missing_words
from .columns_clickprompt import cells_of, check_columns, columns_of
from .encoding_clickprompt import FeatureEncoder
from .vocabularies_clickprompt import ValueIndex
from .lists_clickprompt import cell_values
from .schema_clickprompt import TEXT_VECTOR, TIME_PARTS, FieldSchema, Schema
from .values_clickprompt import canonical, each_distinct, number_of
# isort: on

UNKNOWN_TEXT = "unknown"


class TextRenderer(FeatureEncoder):
    """Turns columns of raw values into feature ids, and into the text of each row.

    Missing values and those that cannot be read are "unknown" in the text. Arguments are those of `FeatureEncoder`.
    """

    def render(self, rows) -> list[str]:
        """Render the text of each row: one clause per field in the text, joined by a space."""
        columns = columns_of(rows)
        in_text = [(f, columns[self.schema.fields[f].column]) for f in self.schema.fields_in_text]
        if not in_text:
            return [""] * len(next(iter(columns.values()), ()))
        return [" ".join(row) for row in zip(*(self.render_values(f, values) for f, values in in_text))]

    def render_values(self, field_index: int, values: Iterable) -> list[str]:
        """Render raw values of one field as clauses such as `"Age is 25-34."`, whether or not it is in the text."""
        return _clauses(values, self.schema, field_index, self.indexes[field_index])

    def affixes(self, field_index: int) -> tuple[str, str]:
        """The template's text before and after the value of a field."""
        return _affixes(self.schema, field_index)

    def texts_of_vectors(self, rows, key: str = TEXT_VECTOR) -> list[str]:
        """The texts, one per row, that a field with `columns` reads as vectors; empty if all its values are missing.

        Args:
            rows: As in `columns_of`.
            key: The field's column in the schema.

        Raises:
            ValueError: If there is no such field, or the rows lack a column of it.
        """
        fields = {field.column: field for field in self.schema.fields if field.columns}
        if key not in fields:
            raise ValueError(f"`key` must be one of the fields with `columns`, {list(fields)}, got {key!r}.")
        columns = columns_of(rows)
        check_columns(self.schema.raw_columns_of(fields[key]), columns)
        return texts_of_columns(self.schema, fields[key], self.indexes, columns)

    def columns_of_field(self, field: FieldSchema) -> list[str]:
        return self.schema.raw_columns_of(field)

    def cells_of_vectors(self, field: FieldSchema, columns: Mapping[str, Sequence]) -> Sequence:
        if not field.columns:
            return super().cells_of_vectors(field, columns)
        return texts_of_columns(self.schema, field, self.indexes, columns)


def texts_of_columns(
    schema: Schema, field: FieldSchema, indexes: Sequence[ValueIndex], columns: Mapping[str, Iterable]
) -> list[str]:
    """The text of each row for a field that `columns` makes of others, empty if it shows no known value.

    Args:
        schema: What the columns mean.
        field: The field.
        indexes: Per field of the schema, the spelling of its values.
        columns: Raw values by column, those of the field's parts among them.
    """
    parts = schema.parts_of(field)
    clauses = [_clauses(columns[schema.fields[f].column], schema, f, indexes[f]) for f in parts]
    unknown_text = " ".join(UNKNOWN_TEXT.join(_affixes(schema, f)) for f in parts)
    return ["" if text == unknown_text else text for text in map(" ".join, zip(*clauses))]


def _clauses(values: Iterable, schema: Schema, field_index: int, index: ValueIndex) -> list[str]:
    field = schema.fields[field_index]
    before, after = _affixes(schema, field_index)
    known = without_missing_words(cells_of(values), field)
    return each_distinct(known, lambda value: f"{before}{_text_of(value, field, index)}{after}")


def _affixes(schema: Schema, field_index: int) -> tuple[str, str]:
    # Not str.format: names may contain braces.
    before, after = schema.template.split("{value}", 1)
    name = schema.fields[field_index].name
    return before.replace("{name}", name), after.replace("{name}", name)


def _text_of(value: Any, field: FieldSchema, index: ValueIndex) -> str:
    """A value as the text shows it: in the spelling that the PLM read in training."""
    if field.kind == "multi_valued":
        return ", ".join(map(index.spelling_of, cell_values(value, field))) or UNKNOWN_TEXT
    if field.kind == "numeric":
        number = number_of(value)
        if not np.isfinite(number):
            return UNKNOWN_TEXT
        # A double does not hold every digit from 1e16 on.
        return canonical(number) if abs(number) < 1e16 else str(number)
    if field.kind in TIME_PARTS:
        return time_part(value, field) or UNKNOWN_TEXT
    return index.spelling_of(canonical(value)) or UNKNOWN_TEXT
