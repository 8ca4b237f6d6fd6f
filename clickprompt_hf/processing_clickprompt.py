# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Schema and processor: raw rows to feature ids and text tokens.

This file ships inside every checkpoint: it imports only numpy, torch, transformers and the standard library.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.utils import cached_file

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
        ValueError: If `column` is empty, `name` is no string, `kind` is unknown, or a number is out of its range.
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
        if not self.name:
            object.__setattr__(self, "name", self.column)
        if not isinstance(self.name, str):
            raise ValueError(f"`name` of field {self.column!r} must be a string, got {self.name!r}.")


@dataclass(frozen=True)
class Schema:
    """What the columns of a table mean. Plain data: it is saved with the processor.

    Args:
        fields: The fields, in the order of their ids and of their clauses in the text.
        label: Name of the click column, whose values are 0 or 1.
        time: Name of the time column, used by the chronological split only.
        template: Clause of one field, with the placeholders `{name}` and `{value}`; clauses are joined by one space.

    Raises:
        ValueError: If there are no fields, a column is named twice, or `template` lacks a placeholder or holds
            `{value}` twice.
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
        if self.template.count("{value}") > 1:
            raise ValueError(f"`template` must contain {{value}} once, got {self.template!r}.")

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


class _NoTokenizer:
    """Stands in a processor that reads no text: `Trainer` asks any processor's tokenizer for its special tokens."""

    bos_token_id = eos_token_id = pad_token_id = mask_token_id = None

    def __repr__(self) -> str:
        return "NO_TOKENIZER"


NO_TOKENIZER = _NoTokenizer()
VOCABULARIES_FILE = "feature_vocabularies.json"
_UNKNOWN_TEXT = "unknown"
# leading zeros make an id, not a number
_WHOLE_NUMBER_AS_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.0")
# characters of a number with 15 digits and a point: any double can hold those
_LONGEST_DECIMAL = 16


class ClickPromptProcessor(ProcessorMixin):
    """Turns raw rows into feature ids and text tokens. Made by `fit` on training rows, saved with every checkpoint.

    A value's id is its place in the field's vocabulary, from 1; 0 is the out-of-vocabulary id. Missing values (`None`,
    NaN, blank) are one value like any other: they have an id where training rows have them, else 0. In the text they
    read "unknown".

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1.
        boundaries: Per field, the inner bucket boundaries, ascending; empty where the field is not numeric.
        tokenizer: The PLM's tokenizer; `None` for a CTR-only model, which reads no text.
        max_text_length: Longest text in tokens, special tokens included; a longer one is truncated. `None`: no limit.
    """

    def __init__(
        self,
        schema: Schema,
        vocabularies: list[list[str]],
        boundaries: list[list[float]],
        tokenizer=None,
        max_text_length: int | None = None,
    ):
        # ProcessorMixin's own __init__ refuses a missing tokenizer.
        self.chat_template = None
        self.tokenizer = tokenizer
        self.schema = schema
        self.vocabularies = vocabularies
        self.boundaries = boundaries
        self.max_text_length = max_text_length
        self._ids = [
            {value: index for index, value in enumerate(vocabulary, start=1)} for vocabulary in self.vocabularies
        ]

    @classmethod
    def fit(
        cls, train, schema: Schema, tokenizer=None, min_count: int = 1, max_text_length: int | None = None
    ) -> "ClickPromptProcessor":
        """Builds the vocabularies and the bucket boundaries from training rows, and nothing else.

        Args:
            train: A `datasets.Dataset`, or a mapping from column to values.
            schema: What the columns mean.
            tokenizer: The PLM's tokenizer.
            min_count: Rows that a value needs to get an id of its own; rarer values share the out-of-vocabulary id.
            max_text_length: As in the class.

        Raises:
            ValueError: If a column is missing or `min_count` is below 1.
        """
        if min_count < 1:
            raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
        columns = train.column_names if hasattr(train, "column_names") else list(train)
        _check_columns(schema, columns)
        vocabularies, boundaries = [], []
        for member in schema.fields:
            counts = _count_values(train, member.column)
            inner = []
            if member.kind == "numeric":
                if not any(np.isfinite(_number(value)) for value, _ in counts):
                    raise ValueError(
                        f"Column {member.column!r} of kind 'numeric' must hold numbers, but none of its training "
                        f"values is one, e.g. {counts[0][0]!r}."
                    )
                inner = _quantile_boundaries(counts, member.num_buckets)
            key_counts: Counter[str] = Counter()
            for value, count in counts:
                for key in set(_keys(value, member, inner)):
                    key_counts[key] += count
            kept = [(key, count) for key, count in key_counts.items() if count >= min_count]
            vocabularies.append([key for key, _ in sorted(kept, key=lambda item: (-item[1], item[0]))])
            boundaries.append(inner)
        return cls(schema, vocabularies, boundaries, tokenizer, max_text_length)

    @property
    def tokenizer(self):
        """The PLM's tokenizer; `NO_TOKENIZER` where the model reads no text."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value) -> None:
        self._tokenizer = NO_TOKENIZER if value is None else value

    @property
    def reads_text(self) -> bool:
        """Whether there is a tokenizer."""
        # a copied or unpickled processor has a stand-in of its own
        return not isinstance(self._tokenizer, _NoTokenizer)

    @property
    def field_sizes(self) -> list[int]:
        """Number of ids of each field, id 0 included: `CTRConfig.field_sizes`."""
        return [len(vocabulary) + 1 for vocabulary in self.vocabularies]

    @property
    def max_values(self) -> list[int]:
        """Columns of `feature_ids` of each field: `CTRConfig.max_values`."""
        return [member.max_values if member.kind == "multi_valued" else 1 for member in self.schema.fields]

    @property
    def model_input_names(self) -> list[str]:
        return ["feature_ids", *(["input_ids", "attention_mask"] if self.reads_text else [])]

    @property
    def fingerprint(self) -> str:
        """Hash of schema, vocabularies and boundaries: equal where rows become the same ids."""
        return _fingerprint(self.schema.to_dict(), self.vocabularies, self.boundaries)

    def __call__(self, rows, return_tensors: str | None = None, **kwargs) -> BatchFeature:
        """Raw rows to model inputs.

        Args:
            rows: A mapping from column to values (what `Dataset.map(processor, batched=True)` passes), one row as a
                mapping from column to value, a list of such rows, or a pandas data frame. Other columns are ignored.
            return_tensors: `"pt"` for padded tensors; by default lists, texts unpadded.

        Returns:
            `feature_ids` (B, C); with a tokenizer `input_ids` and `attention_mask` (B, T); `labels` (B,) where the
            rows have the label column.

        Raises:
            ValueError: If a field's column is missing, columns differ in length, or a label is not 0 or 1.
        """
        columns = _columns(rows)
        if not columns and not isinstance(rows, Mapping):
            columns = {column: [] for column in self.schema.columns}
        _check_columns(self.schema, columns)
        features: dict[str, Any] = {"feature_ids": self.encode(columns)}
        if self.reads_text:
            features.update(self._tokenize(self.render(columns), return_tensors))
        if self.schema.label in columns:
            features["labels"] = _labels(columns[self.schema.label], self.schema.label)
        if return_tensors is None:
            features = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in features.items()}
            return BatchFeature(features)
        return BatchFeature({name: torch.as_tensor(values) for name, values in features.items()})

    def _tokenize(self, texts: list[str], return_tensors: str | None) -> dict[str, Any]:
        if not texts:
            empty: Any = torch.zeros(0, 0, dtype=torch.int64) if return_tensors else []
            return {"input_ids": empty, "attention_mask": empty}
        limit = {} if self.max_text_length is None else {"truncation": True, "max_length": self.max_text_length}
        return dict(
            self.tokenizer(
                texts,
                padding=return_tensors is not None,
                # some decoders' pad on the left, where their positions would count it
                padding_side="right",
                return_tensors=return_tensors,
                return_token_type_ids=False,
                **limit,
            )
        )

    def encode(self, columns: Mapping[str, Sequence]) -> np.ndarray:
        """Columns of raw values to `feature_ids` (B, C) int64."""
        ids = [self.encode_values(f, columns[member.column]) for f, member in enumerate(self.schema.fields)]
        return np.concatenate(ids, axis=1)

    def encode_values(self, field_index: int, values: Iterable) -> np.ndarray:
        """Raw values of one field to ids (B, C_f) int64, C_f the columns that the field owns; -1 is an empty slot."""
        member, known = self.schema.fields[field_index], self._ids[field_index]
        inner = self.boundaries[field_index]
        if member.kind != "multi_valued":
            ids = _each_distinct(values, lambda value: known.get(_keys(value, member, inner)[0], 0))
            return np.asarray(ids, dtype=np.int64).reshape(-1, 1)
        rows = [[known.get(key, 0) for key in _keys(value, member, inner)] for value in values]
        padded = [row + [-1] * (member.max_values - len(row)) for row in rows]
        return np.asarray(padded, dtype=np.int64).reshape(-1, member.max_values)

    def render(self, rows) -> list[str]:
        """The text of each row: one clause a field, joined by one space."""
        columns = _columns(rows)
        clauses = [self.render_values(f, columns[member.column]) for f, member in enumerate(self.schema.fields)]
        return [" ".join(row) for row in zip(*clauses)]

    def render_values(self, field_index: int, values: Iterable) -> list[str]:
        """Raw values of one field to their clauses, e.g. `"Age is 25-34."`."""
        member = self.schema.fields[field_index]
        before, after = self.affixes(field_index)
        return _each_distinct(values, lambda value: f"{before}{_shown(value, member)}{after}")

    def affixes(self, field_index: int) -> tuple[str, str]:
        """The template of one field, in front of its value and behind it."""
        # Not str.format: a name may hold braces.
        before, after = self.schema.template.split("{value}", 1)
        name = self.schema.fields[field_index].name
        return before.replace("{name}", name), after.replace("{name}", name)

    def to_dict(self) -> dict[str, Any]:
        """What `processor_config.json` holds: all but the vocabularies, which have a file of their own."""
        return {
            "processor_class": type(self).__name__,
            "schema": self.schema.to_dict(),
            "boundaries": self.boundaries,
            "max_text_length": self.max_text_length,
            "reads_text": self.reads_text,
            "fingerprint": self.fingerprint,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(self.to_dict(), indent=2)})"

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves schema, vocabularies and tokenizer. Each file appears whole or not at all."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self.reads_text:
            self.tokenizer.save_pretrained(folder)
        vocabularies = json.dumps(dict(zip(self.schema.columns, self.vocabularies)), ensure_ascii=False)
        written = []
        for name, text in (
            (VOCABULARIES_FILE, vocabularies),
            ("processor_config.json", json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"),
        ):
            partial = folder / f".{name}.partial"
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, folder / name)
            written.append(str(folder / name))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return written

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        """Tokenizer and vocabularies, the parts that `processor_config.json` does not hold.

        Raises:
            ValueError: If the vocabularies are not those that were saved with `processor_config.json`.
        """
        kwargs.pop("_from_auto", None)
        hub_arguments = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}
        if "fingerprint" not in processor_dict:
            if not Path(pretrained_model_name_or_path).is_dir():
                # which raises if the Hub has no such file, or cannot be reached
                cached_file(pretrained_model_name_or_path, "processor_config.json", **hub_arguments)
            raise OSError(
                f"{pretrained_model_name_or_path} must hold a ClickPrompt processor, but its processor_config.json is "
                "missing or another processor's."
            )
        path = cached_file(pretrained_model_name_or_path, VOCABULARIES_FILE, **hub_arguments)
        by_column = json.loads(Path(str(path)).read_text(encoding="utf-8"))
        tokenizer = None
        if processor_dict["reads_text"]:
            tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)
            if tokenizer.pad_token_id is None:
                raise OSError(
                    f"{pretrained_model_name_or_path} must hold a tokenizer with a padding token, as it was saved; "
                    "tokenizer_config.json is missing or another's."
                )
        columns = Schema.from_dict(processor_dict["schema"]).columns
        vocabularies = [by_column.get(column, []) for column in columns]
        # over the saved schema as it is: a later version's may have more keys
        found = _fingerprint(processor_dict["schema"], vocabularies, processor_dict["boundaries"])
        if found != processor_dict["fingerprint"]:
            raise ValueError(
                f"{path} must be the file that was saved with processor_config.json, whose fingerprint is "
                f"{processor_dict['fingerprint']}; together these files have {found}."
            )
        return [tokenizer, vocabularies]

    @classmethod
    def from_args_and_dict(cls, args, processor_dict: dict[str, Any], **kwargs):
        tokenizer, vocabularies = args
        schema = Schema.from_dict(processor_dict["schema"])
        processor = cls(
            schema, vocabularies, processor_dict["boundaries"], tokenizer, processor_dict["max_text_length"]
        )
        return (processor, kwargs) if kwargs.pop("return_unused_kwargs", False) else processor


_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def _fingerprint(schema: Mapping[str, Any], vocabularies: list[list[str]], boundaries: list[list[float]]) -> str:
    return hashlib.sha256(json.dumps([schema, vocabularies, boundaries]).encode()).hexdigest()[:16]


def _check_columns(schema: Schema, columns: Iterable[str]) -> None:
    if missing := [column for column in schema.columns if column not in set(columns)]:
        raise ValueError(f"The rows must have the columns {schema.columns}; missing {missing}, given {list(columns)}.")


def _columns(rows) -> dict[str, Sequence]:
    """Rows in any accepted form as a mapping from column to equally many values."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return rows.to_dict(orient="list")
    if isinstance(rows, Mapping):
        columns = {column: rows[column] for column in rows}
        if not all(_is_column(values) for values in columns.values()):
            return {column: [value] for column, value in columns.items()}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `rows` must have one length, got {lengths}.")
        return columns
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _is_column(values: Any) -> bool:
    return hasattr(values, "__len__") and not isinstance(values, (str, bytes, Mapping))


def _count_values(train, column: str) -> list[tuple[Any, int]]:
    """Distinct values of a column with their numbers of rows; Arrow counts them where it can."""
    if hasattr(train, "with_format"):
        values = train.with_format("arrow")[:].column(column)
        if not str(values.type).startswith(("list", "large_list", "fixed_size_list")):
            counted = values.value_counts()
            return list(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()))
        values = values.to_pylist()
    else:
        values = train[column]
    return list(Counter(tuple(v) if isinstance(v, (list, np.ndarray)) else v for v in values).items())


def _quantile_boundaries(counts: list[tuple[Any, int]], num_buckets: int) -> list[float]:
    numbers = np.asarray([_number(value) for value, _ in counts], dtype=np.float64)
    repeats = np.asarray([count for _, count in counts], dtype=np.int64)
    known = np.isfinite(numbers)
    if not known.any():
        return []
    rows = np.repeat(numbers[known], repeats[known])
    return np.unique(np.quantile(rows, np.linspace(0, 1, num_buckets + 1)[1:-1])).tolist()


def _each_distinct(values: Iterable, function: Callable[[Any], Any]) -> list[Any]:
    """`function` of each value, called once for each distinct one: columns repeat themselves."""
    values = values if isinstance(values, list) else list(values)
    # Values of several types may be equal without being written alike, as 1 and True; lists are no keys; few values
    # are not worth it.
    kinds = set(map(type, values)) if len(values) > 32 else set()
    if len(kinds) != 1 or not issubclass(kinds.pop(), (str, int, float)):
        return [function(value) for value in values]
    results = {value: function(value) for value in set(values)}
    return [results[value] for value in values]


def _keys(value: Any, member: FieldSchema, boundaries: list[float]) -> list[str]:
    """Vocabulary keys of a raw value, at least one; the missing value's key is the empty string."""
    if member.kind == "multi_valued":
        return _members(value, member)[: member.max_values] or [""]
    if member.kind == "numeric":
        number = _number(value)
        return [str(int(np.searchsorted(boundaries, number, side="right"))) if np.isfinite(number) else ""]
    return [_canonical(value)]


def _shown(value: Any, member: FieldSchema) -> str:
    if member.kind == "multi_valued":
        return ", ".join(_members(value, member)) or _UNKNOWN_TEXT
    if member.kind == "numeric":
        number = _number(value)
        if not np.isfinite(number):
            return _UNKNOWN_TEXT
        # from 1e16 on a double no longer holds every digit
        return _canonical(number) if abs(number) < 1e16 else str(number)
    return _canonical(value) or _UNKNOWN_TEXT


def _members(value: Any, member: FieldSchema) -> list[str]:
    if isinstance(value, (list, tuple, np.ndarray)):
        cells = [_canonical(v) for v in value]
    else:
        cells = [_canonical(v) for v in _canonical(value).split(member.separator)]
    return [cell for cell in cells if cell]


def _canonical(value: Any) -> str:
    """One spelling of a value, whatever file it comes from: no outer or repeated white space, whole numbers without a
    decimal part, truth values as Python writes them."""
    if value is None:
        return ""
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


def _number(value: Any) -> float:
    """The value as a float; NaN where it is missing or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _labels(values: Sequence, column: str) -> np.ndarray:
    labels = np.asarray([_number(value) for value in values], dtype=np.float64)
    if (wrong := ~np.isin(labels, (0, 1))).any():
        row = int(wrong.argmax())
        raise ValueError(
            f"Labels in column {column!r} must be 0 or 1, got {values[row]!r} in row {row}. "
            "Leave the column out to score rows without labels."
        )
    return labels.astype(np.int64)
