# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the columns of a table mean: fields, label, time and text template.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import codecs
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .values_clickprompt import canonical
# isort: on

FieldKind = Literal["categorical", "numeric", "multi_valued", "text", "vector", "hour", "weekday", "month"]
Buckets = Literal["quantile", "log"]
Keep = Literal["first", "last"]
TIME_PARTS = ("hour", "weekday", "month")
# Blanks that separate thousands: the ordinary one and the non-breaking ones.
BLANKS = " \u00a0\u202f\u2009"
# Default of `CsvFormat.lines_per_cell`.
LINES_PER_CELL = 100
# Column of a field of several fields' text, unless it is named.
TEXT_VECTOR = "text_vector"
# Upper bounds: more would take minutes or all memory before anything is learned.
MOST_FIELDS, MOST_BUCKETS, MOST_VALUES = 2_000, 10_000, 1_000


@dataclass(frozen=True)
class FieldSchema:
    """One field of an impression: the column that holds it, and how its values become ids and text.

    Args:
        column: Name of the column in the raw rows. With `columns`, of the column that holds the field's vector in rows
            that are scored without a PLM; it defaults to `name`, or else to `"text_vector"`.
        name: Display name in the text, as in `"{name} is {value}."`. Defaults to `column`; for parts of a time, to the
            column and the part, as in `"sold_at hour"`.
        kind: `"categorical"` (one id per value), `"numeric"` (ids are buckets; the text shows the value itself),
            `"multi_valued"` (several ids per row, whose embeddings are averaged), `"text"` (no ids; only the PLM reads
            it), `"vector"` (no ids; a list of numbers, as many in each row, which the backbone reads), or `"hour"`,
            `"weekday"` or `"month"` of a time. Several parts may be taken from one column.
        num_buckets: Number of buckets of a numeric field, from 2 to 10,000.
        max_values: Number of ids that a multi-valued field keeps per row, from 1 to 1,000; further values are dropped.
        separator: Splits the cells of a multi-valued field that are strings instead of lists. It may be white space,
            such as a tab. Lists written as text, such as `"[8, 9]"`, are read without it.
        buckets: `"quantile"` (equal numbers of training rows) or `"log"` (equal widths on a logarithmic scale).
        time_format: Format of times that are strings, as for `datetime.strptime`; by default as in `read_time`.
        keep: Which values of a multi-valued field get ids if a cell has more than `max_values`: the `"first"` or the
            `"last"`, such as the latest of a history.
        weight_separator: Stands between value and weight in the cells of a multi-valued field, as `":"` does in
            `"a:0.9|b:0.1"`. Weights order the values, the heaviest first, and have no other effect.
        missing: Cells that count as missing, like blank ones: words such as `"unknown"`, or numbers such as -999.
        in_text: Whether the PLM reads the field. `False` for ids that mean nothing to it, such as user ids and zip
            codes; the field's ids are the same either way. It never reads vectors.
        as_vector: For kind `"text"`: whether the backbone reads the text as a vector, which a frozen PLM makes of it.
            In schema files it is written `as: vector`.
        columns: For texts that are vectors: columns or keys of other fields, whose clauses, in this order and joined
            by a space, are the text. The PLM that reads the rows' text never reads it twice: `in_text` is `False`.

    Raises:
        ValueError: If `column` is empty, `name` is not a string, `kind` is unknown, a number is out of range,
            `missing` is not a list of words and numbers, `as_vector` is true for another kind than `"text"`, or
            `columns` is not a list of different names or belongs to another field than a text that is a vector.
    """

    column: str = ""
    name: str = ""
    kind: FieldKind = "categorical"
    num_buckets: int = 10
    max_values: int = 5
    separator: str = "|"
    buckets: Buckets = "quantile"
    time_format: str | None = None
    keep: Keep = "first"
    weight_separator: str | None = None
    missing: tuple[str, ...] = ()
    in_text: bool = True
    as_vector: bool = False
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.columns and not self.column:
            object.__setattr__(self, "column", self.name or TEXT_VECTOR)
        if not isinstance(self.column, str) or not self.column:
            raise ValueError(f"`column` of a field must be a non-empty string, got {self.column!r}.")
        if self.kind not in get_args(FieldKind):
            raise ValueError(
                f"`kind` of field {self.column!r} must be one of {get_args(FieldKind)}, got {self.kind!r}."
            )
        for name, least, most in (("num_buckets", 2, MOST_BUCKETS), ("max_values", 1, MOST_VALUES)):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool):
                raise ValueError(f"`{name}` of field {self.column!r} must be an integer, got {number!r}.")
            if not least <= number <= most:
                bound = f"at least {least}" if number < least else f"at most {most:,}"
                raise ValueError(f"`{name}` of field {self.column!r} must be {bound}, got {number}.")
        if not isinstance(self.separator, str) or not self.separator:
            raise ValueError(
                f"`separator` of field {self.column!r} must be a non-empty string, got {self.separator!r}."
            )
        if self.keep not in get_args(Keep):
            raise ValueError(f"`keep` of field {self.column!r} must be one of {get_args(Keep)}, got {self.keep!r}.")
        if self.weight_separator is not None and (
            not isinstance(self.weight_separator, str) or not self.weight_separator.strip()
        ):
            raise ValueError(
                f"`weight_separator` of field {self.column!r} must be a string that is not blank, got "
                f"{self.weight_separator!r}."
            )
        if self.buckets not in get_args(Buckets):
            raise ValueError(
                f"`buckets` of field {self.column!r} must be one of {get_args(Buckets)}, got {self.buckets!r}."
            )
        _check_time_format(f"`time_format` of field {self.column!r}", self.time_format)
        object.__setattr__(self, "missing", _words_for_missing(self.missing, self.column))
        if not isinstance(self.in_text, bool):
            raise ValueError(f"`in_text` of field {self.column!r} must be true or false, got {self.in_text!r}.")
        if not isinstance(self.as_vector, bool):
            raise ValueError(f"`as_vector` of field {self.column!r} must be true or false, got {self.as_vector!r}.")
        if self.as_vector and self.kind != "text":
            raise ValueError(
                f"`as_vector` (`as: vector`) of field {self.column!r} must be left out unless its kind is 'text', "
                f"got kind {self.kind!r}. Columns that already hold vectors have kind 'vector'."
            )
        self._check_columns()
        if self.kind == "vector" or self.columns:
            object.__setattr__(self, "in_text", False)
        if not isinstance(self.name, str):
            raise ValueError(f"`name` of field {self.column!r} must be a string, got {self.name!r}.")
        if not self.name:
            part = f" {self.kind}" if self.kind in TIME_PARTS else ""
            object.__setattr__(self, "name", f"{self.column}{part}")

    def _check_columns(self) -> None:
        names = self.columns
        is_list = isinstance(names, (list, tuple)) and names != []
        if not is_list or not all(isinstance(name, str) and name for name in names) or len({*names}) < len(names):
            raise ValueError(
                f"`columns` of field {self.column!r} must be a list of different columns, such as [title, genre], got "
                f"{names!r}."
            )
        object.__setattr__(self, "columns", tuple(names))
        if not names:
            return
        if not self.as_vector:
            raise ValueError(
                f"`columns` of field {self.column!r} must be left out unless the field is a text as a vector (`kind: "
                f"text`, `as: vector`), got {list(names)} for kind {self.kind!r}."
            )
        if self.missing:
            raise ValueError(
                f"`missing` of field {self.column!r} must be left out with `columns`, got {list(self.missing)}: set "
                f"it for the fields {list(names)}."
            )

    @property
    def key(self) -> str:
        """Identifier of the field within its schema: its column; for parts of a time, as in `"sold_at.hour"`."""
        return f"{self.column}.{self.kind}" if self.kind in TIME_PARTS else self.column

    @property
    def num_columns(self) -> int:
        """Number of columns that the field has in `feature_ids`; 0 for free text and vectors."""
        return {"text": 0, "vector": 0, "multi_valued": self.max_values}.get(self.kind, 1)

    @property
    def is_vector(self) -> bool:
        """Whether the backbone reads a vector of the field instead of ids."""
        return self.kind == "vector" or self.as_vector


def named_parts(field: FieldSchema) -> tuple[str, ...]:
    """The `columns` of a field. Fields of earlier versions, built by a checkpoint's own code, lack them."""
    return getattr(field, "columns", ())


@dataclass(frozen=True)
class CsvFormat:
    """How CSV files are written: the `csv` part of a schema.

    Args:
        delimiter: What separates cells, one ASCII character; `"\\t"` or `"tab"` for a tab. Defaults to a tab in .tsv
            files and to a comma in others.
        quote: What encloses cells that hold delimiters, line ends or quotes, one ASCII character. Such a quote within
            a cell is doubled. `None` or `"none"` if quotes are ordinary text.
        escape: What precedes a quote or itself within a cell, one ASCII character such as a backslash, as Spark
            writes; `None` or `"none"` if nothing does. Without a quote, it may also precede a delimiter or a line end.
        encoding: A text encoding that Python knows, such as `"cp1252"`. A byte order mark in the file wins.
        column_names: Names of the columns, for files without a header.
        lines_per_cell: Largest number of lines of a cell, at least 1; 100 by default. A cell with more is taken for
            one whose quote is never closed. If given, cells of several lines that all look like rows are accepted.
        decimal: What precedes the fraction of a number in the columns of numeric fields, one character such as `","`.
        thousands: What separates the thousands of such numbers, one character such as `"."`; `None` or `"none"` if
            nothing does. A blank also stands for non-breaking blanks.

    Raises:
        ValueError: If a value is not as described; the message names its key.
    """

    delimiter: str | None = None
    quote: str | None = '"'
    escape: str | None = None
    encoding: str = "utf-8"
    column_names: tuple[str, ...] | None = None
    lines_per_cell: int | None = None
    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        for key in ("delimiter", "quote", "escape"):
            object.__setattr__(self, key, _character(key, getattr(self, key)))
        given = [character for character in (self.delimiter or ",", self.quote, self.escape) if character]
        if len(set(given)) < len(given):
            raise ValueError(
                "`delimiter`, `quote` and `escape` of `csv` must differ, got "
                f"{self.delimiter!r}, {self.quote!r} and {self.escape!r}."
            )
        if not isinstance(self.encoding, str) or not _is_text_encoding(self.encoding):
            raise ValueError(
                "`encoding` of `csv` must be the name of a text encoding that Python supports, such as 'cp1252' or "
                f"'utf-16', got {self.encoding!r}."
            )
        if self.column_names is not None:
            names = self.column_names
            if isinstance(names, str) or not isinstance(names, Sequence) or not names:
                raise ValueError(f"`column_names` of `csv` must be a list of names, got {names!r}.")
            if wrong := [name for name in names if not isinstance(name, str) or not name]:
                raise ValueError(f"`column_names` of `csv` must be non-empty strings, got {wrong[0]!r} among them.")
            if repeated := sorted({name for name in names if list(names).count(name) > 1}):
                raise ValueError(f"`column_names` of `csv` must differ; repeated: {repeated}.")
            object.__setattr__(self, "column_names", tuple(names))
        if self.lines_per_cell is not None and (type(self.lines_per_cell) is not int or self.lines_per_cell < 1):
            raise ValueError(
                f"`lines_per_cell` of `csv` must be a whole number of at least 1, got {self.lines_per_cell!r}."
            )
        if self.thousands == "none":
            object.__setattr__(self, "thousands", None)
        self._check_marks()

    @property
    def has_plain_numbers(self) -> bool:
        """Whether numbers are written as `1234.5`."""
        return self.decimal == "." and self.thousands is None

    def _check_marks(self) -> None:
        others = {"delimiter": self.delimiter, "quote": self.quote, "escape": self.escape, "decimal": self.decimal}
        for key, mark in (("decimal", self.decimal), ("thousands", self.thousands)):
            if mark is None and key == "thousands":
                continue
            is_mark = isinstance(mark, str) and len(mark) == 1 and not mark.isalnum() and mark not in "+-"
            if not is_mark or (str(mark).isspace() and (key == "decimal" or str(mark) not in BLANKS)):
                raise ValueError(
                    f'`{key}` of `csv` must be one character, such as "," or ".", and no digit, letter or sign, got '
                    f"{mark!r}."
                )
            for other, character in others.items():
                if other != key and character == mark:
                    raise ValueError(f"`{key}` of `csv` must differ from `{other}`, got {mark!r} for both.")


def _character(key: str, value: Any) -> str | None:
    """One ASCII character, also spelled by name; `None` for none."""
    value = {"none": None, "tab": "\t", "\\t": "\t"}.get(value, value) if isinstance(value, str) else value
    if value is None:
        return None
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in "\r\n\0":
        example = {"delimiter": '";"', "quote": '"\'" or none', "escape": '"\\\\" or none'}[key]
        raise ValueError(f"`{key}` of `csv` must be one ASCII character, such as {example}, got {value!r}.")
    return value


def _is_text_encoding(name: str) -> bool:
    try:
        codecs.getincrementaldecoder(name)
        "".encode(name)
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class TableSchema:
    """A table with one row per user or item, which is joined to the rows of a log: one of `tables` of a schema.

    Args:
        file: Path of the table, in any format that a log may have. In a schema file, it is relative to that file's
            folder.
        key: Column of the log by which rows are joined.
        prefix: Put before the names of the table's other columns, such as `"user_"`. Fields of the schema use these
            longer names.
        key_in_table: Name of the key's column in the table, if it has another one there. Its values are unique.
        csv: How the table is written if it is a CSV file; `None` if like the log.

    Raises:
        ValueError: If a value has the wrong type, or `file`, `key` or `key_in_table` is empty.
    """

    file: str
    key: str
    prefix: str = ""
    key_in_table: str | None = None
    csv: CsvFormat | None = None

    def __post_init__(self) -> None:
        if isinstance(self.csv, Mapping):
            object.__setattr__(self, "csv", _csv_format("`csv` part of a table", self.csv))
        if not (self.csv is None or isinstance(self.csv, CsvFormat)):
            raise ValueError(f"`csv` of one of the `tables` of a schema must be a mapping, got {self.csv!r:.200}.")
        if self.key_in_table is not None and not (isinstance(self.key_in_table, str) and self.key_in_table):
            raise ValueError(
                f"`key_in_table` of one of the `tables` of a schema must be a string, got {self.key_in_table!r}."
            )
        for name in ("file", "key", "prefix"):
            value = getattr(self, name)
            if not isinstance(value, str) or not (value or name == "prefix"):
                raise ValueError(f"`{name}` of one of the `tables` of a schema must be a string, got {value!r}.")

    @property
    def key_column(self) -> str:
        """Name of the key's column in the table."""
        return self.key if self.key_in_table is None else self.key_in_table

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data, as in a schema file. What earlier versions lack is left out at its default."""
        data = asdict(self)
        return {name: value for name, value in data.items() if name in ("file", "key", "prefix") or value is not None}


@dataclass(frozen=True)
class Schema:
    """What the columns of a table mean. Plain data, saved with the processor.

    Args:
        fields: The fields, in the order of their ids and of their clauses in the text; at most 2,000.
        label: Name of the click column, which holds 0 and 1.
        time: Name of the time column, used only by the chronological split.
        template: Clause of one field, with the placeholders `{name}` and `{value}`. Clauses are joined by a space.
        positive: For labels other than 0 and 1: the value that means a click, such as `"Yes"` or `"2"`. Any other
            value means no click. Upper and lower case are the same.
        time_format: Format of strings in the time column, as in `FieldSchema`.
        csv: How CSV files with these columns are written; `None` for the defaults.
        tables: Tables of users or items that are joined to the rows. Columns of the rows take precedence over columns
            of the tables.

    Raises:
        ValueError: If there are no fields or too many, no field has ids, a column is repeated, a value has the wrong
            type, `template` lacks a placeholder or repeats `{value}`, `columns` of a field names no other field with
            text, or nothing would use a field of kind `"text"`, as it has `in_text=False` without `as_vector`.
    """

    fields: tuple[FieldSchema, ...]
    label: str
    time: str | None = None
    template: str = "{name} is {value}."
    positive: str | None = None
    time_format: str | None = None
    csv: CsvFormat | None = None
    tables: tuple[TableSchema, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.fields, Sequence) or not all(isinstance(field, FieldSchema) for field in self.fields):
            raise ValueError(f"`fields` of a schema must be a sequence of FieldSchema, got {self.fields!r:.200}.")
        object.__setattr__(self, "fields", tuple(self.fields))
        if not 1 <= len(self.fields) <= MOST_FIELDS:
            raise ValueError(
                f"`fields` of a schema must name at least one field and at most {MOST_FIELDS:,}, got "
                f"{len(self.fields) or 'none'}."
            )
        if not any(field.num_columns for field in self.fields):
            raise ValueError("`fields` of a schema must include one with ids, but all are of kind 'text' or 'vector'.")
        if not isinstance(self.label, str) or not self.label:
            raise ValueError(f"`label` of a schema must be the name of a column, got {self.label!r}.")
        for name in ("time", "template"):
            value = getattr(self, name)
            if not (isinstance(value, str) and value) and not (name == "time" and value is None):
                raise ValueError(f"`{name}` of a schema must be a non-empty string, got {value!r}.")
        counts = Counter(self.keys)
        repeated = sorted({key for key in counts if counts[key] > 1} | ({self.label} & {*self.columns}))
        if repeated:
            raise ValueError(f"A schema must name each column once, as a field or as the label; repeated: {repeated}.")
        self._check_texts()
        if self.positive is not None:
            check_positive(self.positive)
        _check_time_format("`time_format` of a schema", self.time_format)
        if self.csv is not None and not isinstance(self.csv, CsvFormat):
            raise ValueError(f"`csv` of a schema must be a mapping of options, got {self.csv!r}.")
        if not isinstance(self.tables, (list, tuple)) or not all(isinstance(of, TableSchema) for of in self.tables):
            raise ValueError(f"`tables` of a schema must be a list of tables, got {self.tables!r:.200}.")
        object.__setattr__(self, "tables", tuple(self.tables))
        for placeholder in ("{name}", "{value}"):
            if placeholder not in self.template:
                raise ValueError(f"`template` must contain {placeholder}, got {self.template!r}.")
        if self.template.count("{value}") > 1:
            raise ValueError(f"`template` must contain {{value}} once, got {self.template!r}.")

    def _check_texts(self) -> None:
        """Check that each text can be made, and that something reads it."""
        parts: set[int] = set()
        for field in self.fields:
            if field.columns:
                self.fields_named(field.columns, f"`columns` of field {field.column!r}")
                parts.update(self.parts_of(field))
        for f, field in enumerate(self.fields):
            if field.kind == "text" and not (field.in_text or field.as_vector or f in parts):
                raise ValueError(
                    f"`in_text` of field {field.column!r} must be true, got false: a field of kind 'text' has no ids, "
                    "so nothing would use it. Remove the field, or give it another kind."
                )

    @property
    def columns(self) -> list[str]:
        """Column of each field, in order. A column repeats if several fields are parts of its time."""
        return [field.column for field in self.fields]

    @property
    def raw_columns(self) -> list[str]:
        """Columns of raw rows that the fields are made of, each once, in order."""
        return list(dict.fromkeys(field.column for field in self.fields if not field.columns))

    def parts_of(self, field: FieldSchema) -> list[int]:
        """Indices of the fields whose clauses make the text of a field with `columns`, in the order of the text."""
        named = (f for name in field.columns for f, part in enumerate(self.fields) if name in (part.column, part.key))
        return list(dict.fromkeys(named))

    def raw_columns_of(self, field: FieldSchema) -> list[str]:
        """Columns of raw rows that a field is made of: its own, or those of the fields that `columns` names."""
        if not field.columns:
            return [field.column]
        return list(dict.fromkeys(self.fields[f].column for f in self.parts_of(field)))

    @property
    def keys(self) -> list[str]:
        """Key of each field, in order; see `FieldSchema.key`."""
        return [field.key for field in self.fields]

    @property
    def numeric_columns(self) -> list[str]:
        """Columns of numeric fields, whose cells CSV files may write as `CsvFormat.decimal` and `thousands` say."""
        return [field.column for field in self.fields if field.kind == "numeric"]

    @property
    def fields_in_text(self) -> list[int]:
        """Indices of the fields that the PLM reads, in the order of their clauses."""
        return [f for f, field in enumerate(self.fields) if field.in_text]

    @property
    def text_keys(self) -> list[str]:
        """Keys of the fields that the PLM reads, in the order of their clauses; see `FieldSchema.key`."""
        return [self.fields[f].key for f in self.fields_in_text]

    @property
    def vector_fields(self) -> list[int]:
        """Indices of the fields that the backbone reads as vectors, in the order of `feature_vectors`."""
        return [f for f, field in enumerate(self.fields) if field.is_vector]

    def with_text_fields(self, names: Sequence[str]) -> "Schema":
        """Return the schema with only these fields in the text. Ids and the order of fields do not change.

        Fields of kind `"text"` that are not among them are dropped unless they are vectors: nothing would read them.

        Args:
            names: Columns or keys of fields, at least one. A column stands for all parts of its time.

        Raises:
            ValueError: If there is no name, a field's name is unknown, or a field is of kind `"vector"`.
        """
        chosen = self.fields_named(names, "`text_fields`")
        parts = {f for field in self.fields for f in self.parts_of(field)}
        kept = [
            replace(field, in_text=f in chosen)
            for f, field in enumerate(self.fields)
            if f in chosen or f in parts or field.kind != "text" or field.as_vector
        ]
        return replace(self, fields=tuple(kept))

    def with_vector_fields(self, names: Sequence[str]) -> "Schema":
        """Return the schema with one more field: the vector of the text that these fields make.

        The text is what a PLM reads with `with_text_fields(names)`. The other fields do not change.

        Args:
            names: Columns or keys of fields, at least one. A column stands for all parts of its time.

        Raises:
            ValueError: If there is no name, a field's name is unknown, a field has no text, or the schema has such a
                field already.
        """
        chosen = tuple(self.fields[f].key for f in self.fields_named(names, "`vector_fields`"))
        if self.text_vector_fields:
            raise ValueError(
                f"`vector_fields` must be left out, got {list(names)}: the schema has the vector of "
                f"{list(self.text_vector_fields)} already."
            )
        column = TEXT_VECTOR
        while column in (*self.columns, self.label, self.time):
            column += "_"
        return replace(self, fields=(*self.fields, FieldSchema(column, kind="text", as_vector=True, columns=chosen)))

    @property
    def text_vector_fields(self) -> tuple[str, ...]:
        """Keys of the fields that `with_vector_fields` has chosen; empty if it has chosen none."""
        made = (field.columns for field in self.fields if field.columns and field.column.rstrip("_") == TEXT_VECTOR)
        return next(made, ())

    def fields_named(self, names: Sequence[str], what: str) -> list[int]:
        """Indices of fields with text, in the order of their clauses, by column or key.

        Args:
            names: Columns or keys, at least one. A column stands for all parts of its time.
            what: What holds the names, for messages.

        Raises:
            ValueError: If there is no name, a name is unknown, or a field has no text of its own.
        """
        if isinstance(names, str) or not names:
            raise ValueError(f"{what} must be a list of fields of the schema, {self.keys}, got {names!r}.")
        if unknown := [name for name in names if name not in (*self.keys, *self.columns)]:
            raise ValueError(f"{what} must be among the fields of the schema, {self.keys}, got {unknown}.")
        if vectors := [field.key for field in self.fields if field.kind == "vector" and field.key in names]:
            raise ValueError(f"{what} must be fields that the PLM can read, got fields of kind 'vector': {vectors}.")
        if made := [field.key for field in self.fields if field.columns and field.key in names]:
            raise ValueError(
                f"{what} must be fields with a text of their own, got {made}, whose text is that of other fields."
            )
        return [f for f, field in enumerate(self.fields) if {field.column, field.key} & {*names}]

    def check_has_text(self) -> None:
        """Raise a ValueError if no field is in the text, which a PLM then cannot read."""
        if not self.fields_in_text:
            raise ValueError(
                "`in_text` of the schema's fields must be true for at least one of them if a PLM reads the text, but "
                f"it is false for all: {self.keys}."
            )

    @property
    def format_of_time(self) -> str | None:
        """Format of the time column: `time_format`, or the format of a field of the same column."""
        formats = [self.time_format, *(field.time_format for field in self.fields if field.column == self.time)]
        return next(filter(None, formats), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain data, as in a YAML or JSON schema file."""
        written = [{**asdict(field), "missing": list(field.missing)} for field in self.fields]
        for field in written:
            columns = list(field.pop("columns"))
            # Defaults are left out, so that hashes of processors of earlier versions stay the same.
            if field["in_text"] or field["kind"] == "vector" or columns:
                del field["in_text"]
            if field.pop("as_vector"):
                field["as"] = "vector"
            if columns:
                field["columns"] = columns
        data = {**asdict(self), "fields": written, "tables": [table.to_dict() for table in self.tables]}
        if not self.tables:
            del data["tables"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Schema":
        """Build a schema from plain data. A field may be just its column name.

        Raises:
            ValueError: If a key is unknown or a required key is missing; the message names it.
        """
        _check_keys("schema", data, cls, required=("fields", "label"))
        if isinstance(data["fields"], (str, bytes)) or not isinstance(data["fields"], Sequence):
            raise ValueError(f"`fields` of a schema must be a list of fields, got {data['fields']!r}.")
        built = []
        for number, field in enumerate(data["fields"]):
            field = {"column": field} if isinstance(field, str) else field
            if not isinstance(field, Mapping):
                raise ValueError(
                    f"`fields[{number}]` of a schema must be a column's name or a mapping, got {field!r}."
                )
            _check_keys("field", field, FieldSchema, required=() if field.get("columns") else ("column",))
            if "as" in field:
                if field["as"] != "vector":
                    named = field.get("column", field.get("name", TEXT_VECTOR))
                    raise ValueError(f"`as` of field {named!r} must be 'vector', got {field['as']!r}.")
                field = {**{key: value for key, value in field.items() if key != "as"}, "as_vector": True}
            built.append(FieldSchema(**field))
        csv = data.get("csv")
        if csv is not None and not isinstance(csv, CsvFormat):
            csv = _csv_format("`csv` part of a schema", csv)
        tables = () if data.get("tables") is None else data["tables"]
        if not isinstance(tables, (list, tuple)):
            raise ValueError(f"`tables` of a schema must be a list of tables, got {tables!r:.200}.")
        for number, table in enumerate(tables):
            if not isinstance(table, Mapping):
                raise ValueError(f"`tables[{number}]` of a schema must be a mapping, got {table!r:.200}.")
            _check_keys("table of a schema", table, TableSchema, required=("file", "key"))
        joined = tuple(TableSchema(**table) for table in tables)
        return cls(**{**data, "fields": tuple(built), "csv": csv, "tables": joined})


# attributes whose keys in a schema file have another name
_KEYS = {"as_vector": "as"}


def _csv_format(what: str, data: Any) -> CsvFormat:
    _check_keys(what, data, CsvFormat, required=())
    return CsvFormat(**data)


def _check_keys(what: str, data: Any, cls: type, required: tuple[str, ...]) -> None:
    if not isinstance(data, Mapping):
        raise ValueError(f"A {what} must be a mapping, got {data!r}.")
    known = {_KEYS.get(field.name, field.name) for field in fields(cls)}
    if unknown := sorted(map(str, set(data) - known)):
        raise ValueError(f"Unknown keys in a {what}: {unknown}; known: {sorted(known)}.")
    if missing := [key for key in required if key not in data]:
        raise ValueError(f"Missing keys in a {what}: {missing}; given: {sorted(map(str, data))}.")


def check_positive(positive: Any) -> None:
    """Raise a ValueError if `positive` is not a valid `Schema.positive`."""
    if not isinstance(positive, str) or not positive:
        raise ValueError(
            f"`positive` of a schema must be a value of the label as a string, got {positive!r}. Put Yes, No, true "
            "and numbers in quotes: YAML does not read them as strings otherwise."
        )


def _words_for_missing(words: Any, column: str) -> tuple[str, ...]:
    """Check `FieldSchema.missing`, and spell each word as cells are spelled."""
    # YAML reads NULL and ~ as None, and No as false.
    are_words = isinstance(words, (list, tuple)) and not any(
        isinstance(word, bool) or not isinstance(word, (str, int, float)) for word in words
    )
    if not are_words:
        raise ValueError(
            f"`missing` of field {column!r} must be a list of words or numbers, got {words!r}. Put words such as "
            '"NULL", "~" and "No" in quotes: YAML does not read them as strings otherwise.'
        )
    return tuple(dict.fromkeys(filter(None, map(canonical, words))))


def _check_time_format(what: str, time_format: Any) -> None:
    if time_format is not None and (not isinstance(time_format, str) or "%" not in time_format):
        raise ValueError(f"{what} must be a datetime.strptime format such as '%d/%m/%Y', got {time_format!r}.")
