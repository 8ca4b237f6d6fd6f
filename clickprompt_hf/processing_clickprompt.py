# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The processor: raw rows to feature ids and text tokens.

This file ships with every checkpoint, so it imports only numpy, torch, transformers and the standard library. Fitting
needs the package: see `clickprompt_hf/data/vocabulary.py`.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoTokenizer, BatchFeature, ProcessorMixin
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import cached_file

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import AUTO_MAP, CHECKPOINT_VERSION, ClickPromptConfig, check_version
from .encoding_clickprompt import FeatureEncoder
from .processor_files_clickprompt import PROCESSOR_FILE, VOCABULARIES_FILE, read_vocabularies
from .unknown_values_clickprompt import UnknownValues, warn_of_unknown_values
from .rendering_clickprompt import TextRenderer
from .schema_clickprompt import FieldSchema, Schema
from .tables_clickprompt import TABLES_FILE, JoinedTables
from .text_encoder_clickprompt import TEXT_ENCODER_FOLDER, TextEncoder
from .text_options_clickprompt import TextOptions, check_positive_integer
from .tokenization_clickprompt import at_rest, complete_tokenizer, padded_on_right, special_tokens_around
from .tokenization_clickprompt import tokenize
from .unread_cells_clickprompt import UnreadCells
from .labels_clickprompt import check_labels
from .whole_files import whole_contents
# isort: on

if TYPE_CHECKING:
    # transformers copies the files that a module imports: this line ships the pipeline with the processor.
    from .pipeline_clickprompt import ClickPromptPipeline  # noqa: F401

_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
_LOADING_ARGUMENTS = (
    *_HUB_ARGUMENTS,
    *("proxies", "trust_remote_code", "code_revision", "use_fast", "tokenizer_type", "_from_pipeline", "_commit_hash"),
)
# What `from_pretrained` may set instead of what was saved. Ids depend on everything else.
_OVERRIDES = ("tokenizer", "max_text_length")
_OWN_ARGUMENTS = (*_OVERRIDES, "return_unused_kwargs", "_from_auto")


class _NoTokenizer:
    """Tokenizer of a processor that reads no text: `Trainer` asks every processor's tokenizer for special tokens."""

    bos_token_id = eos_token_id = pad_token_id = mask_token_id = None

    def __repr__(self) -> str:
        return "NO_TOKENIZER"


NO_TOKENIZER = _NoTokenizer()


def _is_tokenizer(value: Any) -> bool:
    return value is not None and not isinstance(value, _NoTokenizer)


class ClickPromptProcessor(TextRenderer, ProcessorMixin):
    """Turns raw rows into feature ids and text tokens. Fitted on training rows, saved with every checkpoint.

    A value's id is its position in the field's vocabulary, counted from 1; 0 is the out-of-vocabulary id. Missing
    values (`None`, NaN, blank) are treated like any other value: they have an id if training rows have them, else 0.
    In the text they read "unknown". A field of kind `"text"` has no ids; rows may lack it if there is no tokenizer. A
    field with `in_text=False` has ids only. Vectors are standardized, see `VectorScale`; missing ones are NaN.

    One processor may be used by several threads at once; it never changes the settings of its tokenizer.

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1; empty for free text.
        boundaries: Per field, the inner bucket boundaries in ascending order; empty unless the field is numeric.
        tokenizer: The PLM's tokenizer; `None` for a CTR-only model, which reads no text. A tokenizer without a padding
            token is copied, and the copy pads with its end-of-text token, which is never read.
        max_text_length: Maximum number of tokens per text, special tokens included; longer texts are truncated. `None`
            for no limit.
        vectors: What was fitted for fields of vectors, as in `FeatureEncoder`; `None` without such fields.
        text_encoder: The frozen PLM that turns texts into vectors, for fields of kind `"text"` with `as_vector`.

    Raises:
        ValueError: If `max_text_length` is not an integer of at least 1, the tokenizer has no token to pad with,
            there is a tokenizer but no field in the text, or `vectors` does not belong to the schema.
    """

    # How often each value occurs in the training rows, as `clickprompt_hf.data.drift` counts it. A class attribute,
    # because processors pickled by earlier versions have none.
    trained_values: dict[str, dict[str, list[int]]] | None = None

    def __init__(
        self,
        schema: Schema,
        vocabularies: Sequence[Sequence[str]],
        boundaries: list[list[float]],
        tokenizer=None,
        max_text_length: int | None = None,
        vectors: Mapping[str, Any] | None = None,
        text_encoder: TextEncoder | None = None,
    ):
        # ProcessorMixin.__init__ is skipped: it refuses a missing tokenizer.
        FeatureEncoder.__init__(self, schema, vocabularies, boundaries, vectors)
        self.text_encoder = text_encoder
        self.chat_template = None
        self.tokenizer = tokenizer
        if max_text_length is not None:
            check_positive_integer("max_text_length", max_text_length)
        self.max_text_length = max_text_length

    def __getstate__(self) -> dict[str, Any]:
        """State without what calls leave behind, so that they change neither pickle nor hash."""
        return {**self.__dict__, "_tokenizer": at_rest(self.tokenizer) if self.reads_text else NO_TOKENIZER}

    @classmethod
    def fit(
        cls,
        train,
        schema: Schema | Mapping[str, Any] | str | Path,
        tokenizer=None,
        min_count: int = 1,
        max_text_length: int | None = None,
        text_encoder: TextEncoder | str | Path | None = None,
    ) -> "ClickPromptProcessor":
        """Fit vocabularies, bucket boundaries and the scale of vectors on training rows.

        Args:
            train: A data frame, an Arrow table, a mapping from column to values, rows as mappings from column to
                value, a `datasets.Dataset` in any format, or a `datasets.IterableDataset`, which is read once.
            schema: What the columns mean: a schema, the same as a mapping, or the path of a schema file.
            tokenizer: As in the class.
            min_count: Number of rows that a value needs to get its own id; rarer values share id 0.
            max_text_length: As in the class.
            text_encoder: As in the class; also the folder or Hub id of the PLM. Needed if a text is a vector.

        Raises:
            TypeError: If `train` is a `datasets.DatasetDict`, of which one split is needed, or holds no rows.
            ValueError: If a column is missing or repeated, has no value of the field's kind, or holds lists although
                the field is single-valued, vectors differ in size or are not finite, `min_count` is below 1, the
                tokenizer has no token to pad with, there is a tokenizer but no field in the text, or a text is a
                vector and there is no text encoder.
            ImportError: If the package is not installed; a checkpoint's own code cannot fit.
        """
        checked: Schema = _data_module("schema_file").schema_of(schema)
        if _is_tokenizer(tokenizer):
            checked.check_has_text()
        if not (text_encoder is None or isinstance(text_encoder, TextEncoder)):
            text_encoder = TextEncoder(text_encoder)
        vocabularies, boundaries = _data_module("vocabulary").fit_vocabularies(train, checked, min_count)
        vectors = None
        if checked.vector_fields:
            vectors = _data_module("vector_columns").fit_vectors(train, checked, text_encoder, vocabularies)
            text_encoder = text_encoder if vectors["text_encoder"] else None
        processor = cls(checked, vocabularies, boundaries, tokenizer, max_text_length, vectors, text_encoder)
        if checked.tables:
            processor.tables = _data_module("table_files").joined_tables(checked)
        return processor

    def extend(self, train, min_count: int = 1) -> list[int]:
        """Append ids for values of new training rows. Existing ids, buckets and scales of vectors do not change.

        The model must grow with it: `model.resize_feature_embeddings(processor.extend(train))`.

        Args:
            train: As in `fit`.
            min_count: Number of these rows that a new value needs to get its own id.

        Returns:
            The new `field_sizes`.

        Raises:
            ValueError: If a column is missing or holds lists although the field is single-valued, or `min_count` is
                below 1.
            ImportError: If the package is not installed.
        """
        extend = _data_module("vocabulary").extend_vocabularies
        self._set_vocabularies(extend(self.vocabularies, self.boundaries, train, self.schema, min_count))
        self.trained_values = None
        return self.field_sizes

    def refresh_table(
        self, file: str | Path, key: str, prefix: str | None = None, key_in_table: str | None = None
    ) -> None:
        """Replace a joined table by a newer file, so that new users or items get its values. No training is needed.

        `save_pretrained` saves the new table in place of the old one. Ids, vocabularies and the schema do not change;
        a run that starts from the checkpoint still reads the schema's own file.

        Args:
            file: The newer table, written like the one used in training: the same column names, and for CSV files the
                same dialect.
            key: Column of raw rows by which the table is joined.
            prefix: Prefix of the table in the schema; needed only if several tables are joined by `key`.
            key_in_table: Name of the key's column in the file; by default, that of the table used in training.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the model joins no table by `key`, or several that the file could replace; or the file is
                broken, lacks a column of the saved table, or lacks or repeats a key.
            ImportError: If the package is not installed.
        """
        refreshed = _data_module("refreshed_tables").refreshed_tables
        self.tables = refreshed(self.tables, self.schema, file, key, prefix, key_in_table)

    @property
    def tokenizer(self):
        """The PLM's tokenizer; `NO_TOKENIZER` if the model reads no text."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value) -> None:
        if isinstance(value, (str, Path)):
            raise ValueError(
                f"`tokenizer` must be a tokenizer, as AutoTokenizer.from_pretrained({str(value)!r}) returns it, got a "
                "string or a path."
            )
        if _is_tokenizer(value):
            self.schema.check_has_text()
        self._tokenizer = complete_tokenizer(value) if _is_tokenizer(value) else NO_TOKENIZER

    @property
    def reads_text(self) -> bool:
        """Whether there is a tokenizer."""
        # By type: a copied or unpickled processor does not hold NO_TOKENIZER itself.
        return not isinstance(self._tokenizer, _NoTokenizer)

    @property
    def read_columns(self) -> list[str]:
        """Columns that rows must have, without repeats; free text only if there is a tokenizer or it is a vector."""
        return self.schema.raw_columns if self.reads_text else super().read_columns

    @property
    def model_input_names(self) -> list[str]:
        # `Trainer` groups rows by the length of the first one
        vectors = ["feature_vectors"] if self.scales else []
        return [*(["input_ids", "attention_mask"] if self.reads_text else []), "feature_ids", *vectors]

    def vectors_of_texts(self, texts: Sequence[str], field: FieldSchema) -> np.ndarray:
        """Turn texts of a field into vectors (B, n) by the text encoder.

        Raises:
            ValueError: If there is none, or it differs from the one used in training.
            OSError: If its files are missing.
        """
        return super().vectors_of_texts(texts, field) if self.text_encoder is None else self.text_encoder.encode(texts)

    def check_model(self, config: ClickPromptConfig) -> None:
        """Refuse a model that was not made for this processor.

        Args:
            config: The model's configuration.

        Raises:
            ValueError: If the model has other ids, or reads text that this processor does not produce.
        """
        sizes, model_sizes = self.field_sizes, list(config.ctr_config.field_sizes)
        if sizes != model_sizes:
            raise ValueError(
                f"Processor and model do not belong together: the processor has field sizes {sizes}, the model "
                f"{model_sizes}."
            )
        max_values = config.ctr_config.max_values or [1] * len(sizes)
        if self.max_values != list(max_values):
            raise ValueError(
                f"Processor and model do not belong together: the processor has `max_values` {self.max_values}, the "
                f"model {max_values}."
            )
        # models of earlier versions, loaded with a checkpoint's own code, lack it
        model_vector_sizes = list(getattr(config.ctr_config, "vector_sizes", []))
        if self.vector_sizes != model_vector_sizes:
            raise ValueError(
                f"Processor and model do not belong together: the processor has `vector_sizes` {self.vector_sizes}, "
                f"the model {model_vector_sizes}."
            )
        recorded = (config.training_data or {}).get("processor_fingerprint")
        if recorded is not None and recorded != self.fingerprint:
            raise ValueError(
                "Processor and model do not belong together: the model was trained with a processor with fingerprint "
                f"{recorded}, this one has {self.fingerprint}."
            )
        if not config.use_plm:
            return
        if not self.reads_text:
            raise ValueError(
                "Processor and model do not belong together: the model reads text, the processor does not."
            )
        if len(self.tokenizer) > config.text_config.vocab_size:
            raise ValueError(
                f"Processor and model do not belong together: the tokenizer has {len(self.tokenizer)} tokens, the "
                f"PLM {config.text_config.vocab_size}."
            )

    def __call__(
        self,
        rows=None,
        return_tensors: str | None = None,
        with_text: bool = True,
        row_offset: int = 0,
        unknown: UnknownValues | None = None,
        unread: Sequence[UnreadCells] = (),
        **kwargs,
    ) -> BatchFeature:
        """Convert raw rows to model inputs.

        Args:
            rows: A mapping from column to values (what `Dataset.map(processor, batched=True)` passes), one row as a
                mapping from column to value, a list of such rows, a data frame or an Arrow table. Columns that the
                schema does not name are ignored.
            return_tensors: `"pt"` for tensors and `"np"` for arrays, with padded texts. By default lists, with texts
                unpadded.
            with_text: `False` leaves the text out, for a model that reads none.
            row_offset: Number of the first row in messages.
            unknown: Counts values that training rows did not have, and keys that joined tables lack. By default, this
                call counts its own and warns about columns of which it finds hardly any known value, and about tables
                that lack keys.
            unread: Per field, counts cells that are not numbers or times, so that several calls share one warning. By
                default, this call warns about its own.
            kwargs: Arguments of tokenizers: `padding`, `truncation`, `max_length`, `pad_to_multiple_of`,
                `add_special_tokens`, `return_attention_mask` and `return_special_tokens_mask`, also within
                `text_kwargs`. They have no effect if there is no text. Texts are truncated to `max_length` tokens, by
                default to `max_text_length`, unless `truncation=False`, and padded on the right, whatever the
                tokenizer's `padding_side`.

        Returns:
            `feature_ids` (B, C); with fields of vectors `feature_vectors` (B, S), NaN in missing ones; with a
            tokenizer `input_ids` and `attention_mask` (B, T); `labels` (B,) if the rows have the label column.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, a cell of a single-valued field
                holds several values, a vector has another size than in training or is not finite, or a label is not 0
                or 1; the message names row and column. Also if an argument has a wrong value or asks for what a
                processor of rows cannot do; the message names it.
            TypeError: If `rows` or a row has an unsupported type, or an argument is unknown.
        """
        options = TextOptions.of_call(
            kwargs if return_tensors is None else {**kwargs, "return_tensors": return_tensors}
        )
        counted = UnknownValues(self) if unknown is None else unknown
        columns = self.columns(rows, row_offset, counted.lost_keys)
        features: dict[str, Any] = {"feature_ids": self.encode(columns, row_offset, unread)}
        if self.scales:
            features["feature_vectors"] = self.encode_vectors(columns, row_offset)
        found = (columns, features["feature_ids"], features.get("feature_vectors"))
        if unknown is None:
            warn_of_unknown_values(counted, *found)
        else:
            unknown.add_rows(*found)
        if self.reads_text and with_text:
            features.update(self._text_inputs(self.render(columns), options))
        if self.schema.label in columns:
            features["labels"] = check_labels(
                columns[self.schema.label],
                self.schema.label,
                self.schema.positive,
                row_offset=row_offset,
                advice=" To score rows without labels, leave the column out.",
            )
        if options.return_tensors is None:
            features = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in features.items()}
        else:
            to_tensor = torch.as_tensor if options.return_tensors == "pt" else np.asarray
            features = {name: to_tensor(values) for name, values in features.items()}
        return BatchFeature(features)

    def _text_inputs(self, texts: list[str], options: TextOptions) -> dict[str, Any]:
        """Tokenize texts: lists of different lengths, or (B, T) arrays if they are padded or become tensors."""
        limit = options.token_limit(self.tokenizer, self.max_text_length)
        ids = tokenize(self.tokenizer, texts, limit, options.add_special_tokens)
        lengths = [len(text) for text in ids]
        features = {"input_ids": ids}
        if options.return_attention_mask:
            features["attention_mask"] = [[1] * length for length in lengths]
        if options.return_special_tokens_mask:
            before, after = map(len, special_tokens_around(self.tokenizer)) if options.add_special_tokens else (0, 0)
            features["special_tokens_mask"] = [
                [1] * before + [0] * (length - before - after) + [1] * after for length in lengths
            ]
        width = max(lengths, default=0)
        if options.padding_strategy != "do_not_pad":
            width = options.padded_length(width, self.tokenizer, self.max_text_length)
        elif options.return_tensors is None:
            return features
        elif min(lengths, default=0) < width:
            raise ValueError(
                f"`padding` must be left out or True if `return_tensors` is {options.return_tensors!r} and texts "
                f"differ in length: they have from {min(lengths)} to {width} tokens."
            )
        fillers = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "special_tokens_mask": 1}
        return {name: padded_on_right(lists, width, fillers[name]) for name, lists in features.items()}

    def apply_chat_template(self, *args, **kwargs):
        """Refused: rows are not conversations."""
        raise ValueError("A ClickPromptProcessor has no chat template: call it with rows, and it renders their texts.")

    def decode(self, *args, **kwargs):
        """Decode token ids as the tokenizer does. Raises a ValueError if there is none."""
        return self._given_tokenizer.decode(*args, **kwargs)

    def batch_decode(self, *args, **kwargs):
        """Decode lists of token ids as the tokenizer does. Raises a ValueError if there is none."""
        return self._given_tokenizer.batch_decode(*args, **kwargs)

    @property
    def _given_tokenizer(self):
        if not self.reads_text:
            raise ValueError("This processor has no tokenizer, as its model reads no text.")
        return self.tokenizer

    def to_dict(self) -> dict[str, Any]:
        """Content of `processor_config.json`: everything but the vocabularies, which have their own file."""
        return {
            "processor_class": type(self).__name__,
            "auto_map": {"AutoProcessor": AUTO_MAP["AutoProcessor"]},
            "checkpoint_version": CHECKPOINT_VERSION,
            "schema": self.schema.to_dict(),
            "boundaries": self.boundaries,
            "max_text_length": self.max_text_length,
            "reads_text": self.reads_text,
            "fingerprint": self.fingerprint,
            **({"vectors": self.vectors} if self.vectors else {}),
            **({"trained_values": self.trained_values} if self.trained_values else {}),
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({json.dumps(self.to_dict(), indent=2)})"

    def save_pretrained(self, save_directory, push_to_hub: bool = False, **kwargs) -> list[str]:
        """Save schema, vocabularies, tokenizer and code atomically: see `whole_contents`.

        The text encoder, if there is one, is saved in the folder `text_encoder`, unless it is already there.
        """
        folder = Path(save_directory)
        with whole_contents(folder) as partial:
            if self._auto_class is not None:
                custom_object_save(self, partial)
            if self.reads_text:
                at_rest(self.tokenizer).save_pretrained(partial)
            if self.text_encoder is not None and not self.text_encoder.is_saved_in(folder / TEXT_ENCODER_FOLDER):
                self.text_encoder.save_pretrained(partial / TEXT_ENCODER_FOLDER)
            (partial / VOCABULARIES_FILE).write_bytes(self.written_vocabularies())
            if self.tables is not None:
                self.tables.write(partial / TABLES_FILE)
            config = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
            (partial / PROCESSOR_FILE).write_bytes(config.encode())
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        return [str(folder / name) for name in (VOCABULARIES_FILE, PROCESSOR_FILE)]

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path, **kwargs):
        try:
            return super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        except (AttributeError, TypeError) as error:
            # transformers assumes that any JSON is a mapping
            raise OSError(
                f"{pretrained_model_name_or_path} must hold a ClickPrompt processor, but its processor_config.json is "
                f"damaged: {error}."
            ) from error

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs):
        """Load the tokenizer and the vocabularies, which `processor_config.json` does not hold.

        Raises:
            ValueError: If the vocabularies were not saved with `processor_config.json`, or a later version of this
                code saved them.
            OSError: If a file is missing or belongs to another processor.
        """
        hub_arguments = {name: kwargs[name] for name in _HUB_ARGUMENTS if name in kwargs}
        if "fingerprint" not in processor_dict:
            if not Path(pretrained_model_name_or_path).is_dir():
                # Raises if the Hub has no such file or cannot be reached.
                cached_file(pretrained_model_name_or_path, PROCESSOR_FILE, **hub_arguments)
            raise OSError(
                f"{pretrained_model_name_or_path} must hold a ClickPrompt processor, but its processor_config.json is "
                "missing or belongs to another processor."
            )
        check_version(processor_dict.get("checkpoint_version", CHECKPOINT_VERSION), PROCESSOR_FILE)
        path = cached_file(pretrained_model_name_or_path, VOCABULARIES_FILE, **hub_arguments)
        vocabularies = read_vocabularies(str(path), processor_dict)
        tokenizer = None
        if processor_dict["reads_text"] and "tokenizer" not in kwargs:
            arguments = {name: value for name, value in kwargs.items() if name not in _OWN_ARGUMENTS}
            tokenizer = _load_tokenizer(pretrained_model_name_or_path, arguments)
        unused = _unused_arguments(kwargs, tokenizer)
        # A pipeline passes the model's arguments as well.
        if unused and "_from_pipeline" not in kwargs and not kwargs.get("return_unused_kwargs"):
            raise TypeError(
                f"Unknown arguments {sorted(unused)}; known are {list(_OVERRIDES)}, those of the tokenizer, and "
                "those that specify where to load from."
            )
        for name in unused:
            # Tokenizers keep and save whatever they are given.
            getattr(tokenizer, "init_kwargs", {}).pop(name, None)
        text_encoder = None
        if (fingerprint := (processor_dict.get("vectors") or {}).get("text_encoder")) is not None:
            # loaded on first use: a prepared dataset needs none
            place = "/".join(filter(None, (hub_arguments.get("subfolder"), TEXT_ENCODER_FOLDER)))
            encoder_arguments = {**hub_arguments, "subfolder": place}
            text_encoder = TextEncoder(pretrained_model_name_or_path, fingerprint, **encoder_arguments)
        tables = None
        if processor_dict["schema"].get("tables"):
            optional = {**hub_arguments, "_raise_exceptions_for_missing_entries": False}
            if (found := cached_file(pretrained_model_name_or_path, TABLES_FILE, **optional)) is not None:
                tables = JoinedTables.read(found)
        return [tokenizer, vocabularies, text_encoder, tables]

    @classmethod
    def from_args_and_dict(cls, args, processor_dict: dict[str, Any], **kwargs):
        """Build the processor of `_get_arguments_from_pretrained`'s result, with the overrides in `kwargs`."""
        tokenizer, vocabularies, text_encoder, tables = args
        overrides = {name: kwargs[name] for name in _OVERRIDES if name in kwargs}
        arguments = {"tokenizer": tokenizer, "max_text_length": processor_dict["max_text_length"], **overrides}
        processor = cls(
            Schema.from_dict(processor_dict["schema"]),
            vocabularies,
            processor_dict["boundaries"],
            vectors=processor_dict.get("vectors"),
            text_encoder=text_encoder,
            **arguments,
        )
        processor.trained_values = processor_dict.get("trained_values")
        processor.tables = tables
        return (processor, _unused_arguments(kwargs, tokenizer)) if kwargs.get("return_unused_kwargs") else processor


def _load_tokenizer(name_or_path: Any, arguments: dict[str, Any]) -> Any:
    """Load the tokenizer that a processor was saved with.

    Raises:
        OSError: If it is missing, damaged or another one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **arguments)
    # json raises it for a damaged file, transformers for a missing one.
    except ValueError as error:
        raise OSError(
            f"{name_or_path} must hold the tokenizer saved with it, but tokenizer.json or tokenizer_config.json is "
            f"missing or damaged: {error}"
        ) from error
    if tokenizer.pad_token_id is None:
        raise OSError(
            f"{name_or_path} must hold a tokenizer with a padding token, as it was saved, but tokenizer_config.json "
            "is missing or belongs to another tokenizer."
        )
    return tokenizer


def _unused_arguments(arguments: dict[str, Any], tokenizer) -> dict[str, Any]:
    """The arguments of `from_pretrained` that neither the processor nor its tokenizer uses."""
    return {
        name: value
        for name, value in arguments.items()
        if name not in (*_LOADING_ARGUMENTS, *_OWN_ARGUMENTS) and not hasattr(tokenizer, name)
    }


def _data_module(name: str):
    # By name: a static import of the package would break the copy in a checkpoint.
    try:
        return importlib.import_module(f"clickprompt_hf.data.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "clickprompt_hf":
            raise
        raise ImportError(
            "Fitting, extending or refreshing a processor needs the clickprompt_hf package, which is not installed: "
            "pip install clickprompt_hf"
        ) from error
