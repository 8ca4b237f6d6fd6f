# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The processor: raw rows to feature ids and text tokens.

This file ships inside every checkpoint: it imports only numpy, torch, transformers and the standard library.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

# One line an import: in parentheses they would not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import AUTO_MAP, CHECKPOINT_VERSION, ClickPromptConfig, check_version
from .schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from .encoding_clickprompt import VOCABULARIES_FILE, FeatureEncoder
from .values_clickprompt import canonical, each_distinct, labels_in_words
from .encoding_clickprompt import check_columns, columns_of
from .values_clickprompt import holds_several, number_of, read_time
from .encoding_clickprompt import members_of, read_vocabularies, time_part
from .encoding_clickprompt import vocabulary_keys
# isort: on

if TYPE_CHECKING:
    # transformers copies the files that a module names into a checkpoint: so the pipeline ships with the processor.
    from .pipeline_clickprompt import ClickPromptPipeline  # noqa: F401


class _NoTokenizer:
    """Stands in a processor that reads no text: `Trainer` asks any processor's tokenizer for its special tokens."""

    bos_token_id = eos_token_id = pad_token_id = mask_token_id = None

    def __repr__(self) -> str:
        return "NO_TOKENIZER"


NO_TOKENIZER = _NoTokenizer()
_UNKNOWN_TEXT = "unknown"


class ClickPromptProcessor(FeatureEncoder, ProcessorMixin):
    """Turns raw rows into feature ids and text tokens. Made by `fit` on training rows, saved with every checkpoint.

    A value's id is its place in the field's vocabulary, from 1; 0 is the out-of-vocabulary id. Missing values (`None`,
    NaN, blank) are one value like any other: they have an id where training rows have them, else 0. In the text they
    read "unknown". A field of kind `"text"` has no ids, and is not asked for where there is no tokenizer.

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1.
        boundaries: Per field, the inner bucket boundaries, ascending; empty where the field is not numeric. Free text
            has neither.
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
        # and not ProcessorMixin's own, which refuses a missing tokenizer
        FeatureEncoder.__init__(self, schema, vocabularies, boundaries)
        self.chat_template = None
        self.tokenizer = tokenizer
        self.max_text_length = max_text_length

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
            ValueError: If a column is missing, or holds no value of the field's kind, or lists where the field has
                single values, or `min_count` is below 1.
        """
        _check_training_rows(train, schema, min_count)
        vocabularies: list[list[str]] = []
        boundaries: list[list[float]] = []
        for member in schema.fields:
            if not member.num_columns:
                vocabularies.append([])
                boundaries.append([])
                continue
            counts = _count_values(train, member.column)
            _check_kind(counts, member)
            if member.kind == "multi_valued":
                _warn_of_separator(counts, member)
            inner = _boundaries(counts, member) if member.kind == "numeric" else []
            vocabularies.append(_frequent_keys(counts, member, inner, min_count))
            boundaries.append(inner)
        return cls(schema, vocabularies, boundaries, tokenizer, max_text_length)

    def extend(self, train, min_count: int = 1) -> list[int]:
        """Gives the values of new training rows ids behind those that there are, which stay as they are.

        Buckets of numeric fields stay too. The model must follow:
        `model.resize_feature_embeddings(processor.extend(train))`.

        Args:
            train: As in `fit`.
            min_count: Of these rows, as many as a new value needs to get an id of its own.

        Returns:
            The new `field_sizes`.

        Raises:
            ValueError: If a column is missing or `min_count` is below 1.
        """
        _check_training_rows(train, self.schema, min_count)
        for f, member in enumerate(self.schema.fields):
            if not member.num_columns:
                continue
            keys = _frequent_keys(_count_values(train, member.column), member, self.boundaries[f], min_count)
            known = self.ids_of(f)
            self.vocabularies[f] = [*self.vocabularies[f], *(key for key in keys if key not in known)]
            self._ids[f] = None
        return self.field_sizes

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
    def read_columns(self) -> list[str]:
        """Columns that rows must have, each once: without a tokenizer, free text is not read."""
        return list(dict.fromkeys(self.schema.columns)) if self.reads_text else super().read_columns

    @property
    def model_input_names(self) -> list[str]:
        return ["feature_ids", *(["input_ids", "attention_mask"] if self.reads_text else [])]

    def check_model(self, config: ClickPromptConfig) -> None:
        """Refuses a model that this processor was not made for.

        Args:
            config: The model's configuration.

        Raises:
            ValueError: If the model has other ids or reads text that this processor does not make.
        """
        sizes, of_model = self.field_sizes, list(config.ctr_config.field_sizes)
        if sizes != of_model:
            raise ValueError(
                f"Processor and model do not belong together: the processor has field sizes {sizes}, the model "
                f"{of_model}."
            )
        max_values = config.ctr_config.max_values or [1] * len(sizes)
        if self.max_values != list(max_values):
            raise ValueError(
                f"Processor and model do not belong together: the processor has `max_values` {self.max_values}, the "
                f"model {max_values}."
            )
        recorded = (config.training_data or {}).get("processor_fingerprint")
        if recorded is not None and recorded != self.fingerprint:
            raise ValueError(
                "Processor and model do not belong together: the model was trained with the processor of fingerprint "
                f"{recorded}, this one has {self.fingerprint}."
            )
        if not config.use_plm:
            return
        if not self.reads_text:
            raise ValueError("Processor and model do not belong together: the model reads text, the processor none.")
        if len(self.tokenizer) > config.text_config.vocab_size:
            raise ValueError(
                f"Processor and model do not belong together: the tokenizer has {len(self.tokenizer)} tokens, the "
                f"PLM {config.text_config.vocab_size}."
            )

    def __call__(
        self, rows, return_tensors: str | None = None, with_text: bool = True, first_row: int = 0, **kwargs
    ) -> BatchFeature:
        """Raw rows to model inputs.

        Args:
            rows: A mapping from column to values (what `Dataset.map(processor, batched=True)` passes), one row as a
                mapping from column to value, a list of such rows, or a pandas data frame. Other columns are ignored.
            return_tensors: `"pt"` for padded tensors; by default lists, texts unpadded.
            with_text: `False` leaves the text out, for a model that reads none.
            first_row: Number of the first row in messages.

        Returns:
            `feature_ids` (B, C); with a tokenizer `input_ids` and `attention_mask` (B, T); `labels` (B,) where the
            rows have the label column.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, a cell of a field of single values
                holds several, or a label is not 0 or 1; the message names row and column.
            TypeError: If `rows` or a row is of another kind.
        """
        columns = self.columns(rows, first_row)
        features: dict[str, Any] = {"feature_ids": self.encode(columns)}
        if self.reads_text and with_text:
            features.update(self._tokenize(self.render(columns), return_tensors))
        if self.schema.label in columns:
            features["labels"] = _labels(columns[self.schema.label], self.schema, first_row)
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

    def render(self, rows) -> list[str]:
        """The text of each row: one clause a field, joined by one space."""
        columns = columns_of(rows)
        clauses = [self.render_values(f, columns[member.column]) for f, member in enumerate(self.schema.fields)]
        return [" ".join(row) for row in zip(*clauses)]

    def render_values(self, field_index: int, values: Iterable) -> list[str]:
        """Raw values of one field to their clauses, e.g. `"Age is 25-34."`."""
        member = self.schema.fields[field_index]
        before, after = self.affixes(field_index)
        return each_distinct(values, lambda value: f"{before}{_shown(value, member)}{after}")

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
            "auto_map": {"AutoProcessor": AUTO_MAP["AutoProcessor"]},
            "checkpoint_version": CHECKPOINT_VERSION,
            "schema": self.schema.to_dict(),
            "boundaries": self.boundaries,
            "max_text_length": self.max_text_length,
            "reads_text": self.reads_text,
            "fingerprint": self.fingerprint,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(self.to_dict(), indent=2)})"

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Saves schema, vocabularies, tokenizer and code. Each file of data appears whole or not at all."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self._auto_class is not None:
            custom_object_save(self, folder)
        if self.reads_text:
            self.tokenizer.save_pretrained(folder)
        written = []
        for name, content in (
            (VOCABULARIES_FILE, self.written_vocabularies()),
            ("processor_config.json", (json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()),
        ):
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            os.replace(partial, folder / name)
            written.append(str(folder / name))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return written

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        """Tokenizer and vocabularies, the parts that `processor_config.json` does not hold.

        Raises:
            ValueError: If the vocabularies are not those that were saved with `processor_config.json`, or a later
                version of this code saved them.
            OSError: If a file is missing or another's.
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
        check_version(processor_dict.get("checkpoint_version", CHECKPOINT_VERSION), "processor_config.json")
        path = cached_file(pretrained_model_name_or_path, VOCABULARIES_FILE, **hub_arguments)
        vocabularies = read_vocabularies(str(path), processor_dict)
        tokenizer = None
        if processor_dict["reads_text"]:
            try:
                tokenizer = AutoTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)
            # of a damaged file, json's; of a missing one, transformers' own
            except ValueError as error:
                raise OSError(
                    f"{pretrained_model_name_or_path} must hold the tokenizer that was saved with it, but "
                    f"tokenizer.json or tokenizer_config.json is missing or damaged: {error}"
                ) from error
            if tokenizer.pad_token_id is None:
                raise OSError(
                    f"{pretrained_model_name_or_path} must hold a tokenizer with a padding token, as it was saved; "
                    "tokenizer_config.json is missing or another's."
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


def _check_training_rows(train, schema: Schema, min_count: int) -> None:
    if min_count < 1:
        raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
    check_columns(schema.columns, train.column_names if hasattr(train, "column_names") else list(train))
    for member in schema.fields:
        if member.kind != "multi_valued" and _holds_several(train, member.column):
            raise ValueError(
                f"Column {member.column!r} of kind {member.kind!r} must hold one value a row, but it holds lists: "
                "make its `kind` 'multi_valued'."
            )


def _holds_several(train, column: str) -> bool:
    """Whether cells of a column are lists or mappings."""
    if hasattr(train, "with_format"):
        nested = ("list", "large_list", "fixed_size_list", "struct", "map")
        return str(train.data.schema.field(column).type).startswith(nested)
    return any(map(holds_several, train[column]))


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


def _frequent_keys(
    counts: list[tuple[Any, int]], member: FieldSchema, boundaries: list[float], min_count: int
) -> list[str]:
    """Vocabulary keys of counted values, the most frequent first; rarer ones than `min_count` rows are left out."""
    key_counts: Counter[str] = Counter()
    for value, count in counts:
        for key in set(vocabulary_keys(value, member, boundaries)):
            key_counts[key] += count
    kept = [(key, count) for key, count in key_counts.items() if count >= min_count]
    return [key for key, _ in sorted(kept, key=lambda item: (-item[1], item[0]))]


def _check_kind(counts: list[tuple[Any, int]], member: FieldSchema) -> None:
    """Refuses a column of numbers or times that holds none."""
    if member.kind == "numeric":
        what, known = "numbers", any(np.isfinite(number_of(value)) for value, _ in counts)
    elif member.kind in TIME_PARTS:
        what, known = "times", any(read_time(value, member.time_format) for value, _ in counts)
    else:
        return
    if not known:
        written = f" as `time_format` {member.time_format!r} says" if member.time_format else ""
        raise ValueError(
            f"Column {member.column!r} of kind {member.kind!r} must hold {what}{written}, but none of its training "
            f"values is one, e.g. {counts[0][0]!r}."
        )


def _warn_of_separator(counts: list[tuple[Any, int]], member: FieldSchema) -> None:
    """Says so where no cell holds the separator of a multi-valued field, and most hold another mark."""
    cells = [value for value, _ in counts if isinstance(value, str)]
    if any(member.separator in cell for cell in cells):
        return
    for mark in ("|", ";", ","):
        if sum(mark in cell for cell in cells) > len(cells) / 2:
            warnings.warn(
                f"No cell of column {member.column!r} holds its `separator` {member.separator!r}, and most hold "
                f"{mark!r}: each cell counts as one value.",
                stacklevel=3,
            )
            return


def _boundaries(counts: list[tuple[Any, int]], member: FieldSchema) -> list[float]:
    """Inner bucket boundaries of a numeric field, from its distinct values with their numbers of rows."""
    numbers = np.asarray([number_of(value) for value, _ in counts], dtype=np.float64)
    repeats = np.asarray([count for _, count in counts], dtype=np.int64)
    known = np.isfinite(numbers)
    rows = np.repeat(numbers[known], repeats[known])
    inner = {"quantile": _quantile_boundaries, "log": _log_boundaries}[member.buckets](rows, member.num_buckets)
    return np.unique(inner).tolist()


def _quantile_boundaries(rows: np.ndarray, num_buckets: int) -> np.ndarray:
    return np.quantile(rows, np.linspace(0, 1, num_buckets + 1)[1:-1])


def _log_boundaries(rows: np.ndarray, num_buckets: int) -> np.ndarray:
    """Equal steps in `sign(x) log(1 + |x| / s)`, where s is the magnitude that 1 % of the nonzero values stay below:
    a logarithm that takes zero and negative numbers, and does not care for the unit."""
    magnitudes = np.abs(rows[rows != 0])
    scale = float(np.quantile(magnitudes, 0.01)) if len(magnitudes) else 1.0
    first, last = (float(np.sign(end) * np.log1p(abs(end) / scale)) for end in (rows.min(), rows.max()))
    steps = np.linspace(first, last, num_buckets + 1)[1:-1]
    return np.sign(steps) * np.expm1(np.abs(steps)) * scale


def _shown(value: Any, member: FieldSchema) -> str:
    if member.kind == "multi_valued":
        return ", ".join(members_of(value, member)) or _UNKNOWN_TEXT
    if member.kind == "numeric":
        number = number_of(value)
        if not np.isfinite(number):
            return _UNKNOWN_TEXT
        # from 1e16 on a double no longer holds every digit
        return canonical(number) if abs(number) < 1e16 else str(number)
    if member.kind in TIME_PARTS:
        return time_part(value, member) or _UNKNOWN_TEXT
    return canonical(value) or _UNKNOWN_TEXT


def _labels(values: Sequence, schema: Schema, first_row: int) -> np.ndarray:
    if schema.positive is None:
        labels = np.asarray([number_of(value) for value in values], dtype=np.float64)
    else:
        labels = labels_in_words(values, schema.positive)
    if (wrong := ~np.isin(labels, (0, 1))).any():
        row = int(wrong.argmax())
        raise ValueError(
            f"Labels in column {schema.label!r} must be 0 or 1, got {values[row]!r} in row {first_row + row}. "
            "Leave the column out to score rows without labels."
        )
    return labels.astype(np.int64)
