# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The classifier."""

import copy
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted
from transformers import AutoConfig, AutoTokenizer, PrinterCallback, set_seed
from transformers.utils import cached_file

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..data.columnar import ColumnarDataset, load_prepared, prepare_splits
from ..data.number_ranges import LARGEST_SEED, NumberRange
from ..data.schema_file import schema_of
from ..data.splits import split_at_random
from ..modeling_clickprompt import ClickPromptForCTR
from ..modeling_ctr import backbone_class
from ..pipeline_clickprompt import scoring_batch_size
from ..presets import TablePreset, ctr_preset, preset_backbones
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from ..scoring import score_table
from ..scoring.device import scoring_device
from ..training import ClickPromptTrainer, ClickPromptTrainingArguments
from ..training.arguments import RANGES
from ..training.batch_size import default_batch_size
from ..training.calibration import calibrate
from ..training.quiet_transformers import quiet_transformers
from ..training.table_settings import preset_by_rows, settings_by_rows
from ..warnings_clickprompt import warn_at_caller
from ..whole_files import whole_contents
from .drafting import drafted_schema, positive_class
from .feature_tables import checked_classes, checked_table

# Beside a checkpoint's own files.
ESTIMATOR_FILE = "estimator.json"
# What parameters of the estimator set.
_SET_BY_PARAMETERS = {
    "training_arguments": (
        *("output_dir", "learning_rate", "plm_learning_rate", "num_train_epochs", "per_device_train_batch_size"),
        *("early_stopping_patience", "seed"),
    ),
    "ctr_config": ("backbone", "field_sizes", "max_values", "vector_sizes"),
    "clickprompt_config": ("text_config", "ctr_config", "prompt_length", "prompt_depth"),
}


class ClickPromptClassifier(ClassifierMixin, BaseEstimator):
    """Binary classifier for tables with ids, categories, numbers and text, with or without a language model.

    It follows scikit-learn's conventions and works in pipelines, cross-validation and searches. Features may be raw:
    strings, categories, times, lists and missing values need no encoding.

    ```python
    >>> classifier = ClickPromptClassifier(random_state=0).fit(X, y)
    >>> classifier.predict_proba(X_new)[:, 1]
    ```

    Rows have no weights: `fit` takes no `sample_weight`.

    Args:
        schema: What the columns mean: a `Schema`, the same as a mapping, or the path of a schema file. By default, it
            is drafted from the features. Its label need not be a column of the features.
        backbone: The CTR model; one of `CTRConfig.backbone`'s names.
        plm_name_or_path: Hub id or folder of the language model; `None` for the backbone alone.
        text_fields: Columns that the language model reads; defaults to the schema's.
        vector_fields: Columns whose text the frozen `text_encoder` turns into one vector, an input of the backbone.
            The columns keep their ids. Defaults to the schema's texts with `as: vector`.
        text_encoder: Hub id or folder of the frozen language model that turns texts into vectors. By default
            `plm_name_or_path`.
        prompt_length: Prompts per layer of the language model, K.
        prompt_depth: Layers of the language model that get prompts, counted from the last; `None` for all.
        learning_rate: Learning rate for everything except the language model. By default, as in `clickprompt
            finetune`, 3e-3 for a backbone alone on fewer than 200,000 training rows, else 1e-3.
        plm_learning_rate: Learning rate of the language model; 0 freezes it.
        max_epochs: Largest number of passes over the training rows. By default 15 for a backbone alone on fewer than
            200,000 training rows if there are validation rows, else 3.
        batch_size: Rows per training batch. By default 64 with a language model; without one 64 to 1,024, by the
            number of training rows.
        validation_fraction: Fraction of the rows to hold out, in [0, 1): they choose the best epoch by AUC, stop
            training early and calibrate the probabilities. With 0, training takes all rows and all epochs, and keeps
            the last weights.
        early_stopping_patience: Evaluations without a better AUC after which training stops; 0 for no early stopping.
            By default 4 for a backbone alone on fewer than 200,000 training rows, which is evaluated twice per epoch,
            else 2.
        random_state: Seed, generator or `None`, as in scikit-learn. It determines the validation rows, initial
            weights, row order and dropout.
        ctr_config: Further arguments of `CTRConfig`, such as `{"embedding_size": 8, "dnn_dropout": 0.3}`.
        clickprompt_config: Further arguments of `ClickPromptConfig`, such as `{"fusion": "weighted"}`.
        training_arguments: Further arguments of `ClickPromptTrainingArguments`, such as `{"weight_decay": 0.1}`.
        verbose: 1 shows progress and metrics; 0 is silent.

    Attributes:
        classes_: (2,) labels, in order: the columns of `predict_proba`.
        n_features_in_: Number of columns seen in `fit`.
        feature_names_in_: (C,) their names, if they have names.
        schema_: The schema in use.
        model_: The trained `ClickPromptForCTR`.
        processor_: Its `ClickPromptProcessor`.
        history_: Validation metrics of each evaluation, `{"epoch": ..., "auc": ..., "log_loss": ...}`.
    """

    def __init__(
        self,
        schema=None,
        *,
        backbone="dcnv2",
        plm_name_or_path=None,
        text_fields=None,
        vector_fields=None,
        text_encoder=None,
        prompt_length=5,
        prompt_depth=None,
        learning_rate=None,
        plm_learning_rate=5e-5,
        max_epochs=None,
        batch_size=None,
        validation_fraction=0.1,
        early_stopping_patience=None,
        random_state=None,
        ctr_config=None,
        clickprompt_config=None,
        training_arguments=None,
        verbose=0,
    ):
        self.schema = schema
        self.backbone = backbone
        self.plm_name_or_path = plm_name_or_path
        self.text_fields = text_fields
        self.vector_fields = vector_fields
        self.text_encoder = text_encoder
        self.prompt_length = prompt_length
        self.prompt_depth = prompt_depth
        self.learning_rate = learning_rate
        self.plm_learning_rate = plm_learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.early_stopping_patience = early_stopping_patience
        self.random_state = random_state
        self.ctr_config = ctr_config
        self.clickprompt_config = clickprompt_config
        self.training_arguments = training_arguments
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def fit(self, X, y):
        """Train on labeled rows.

        Args:
            X: Features, N rows by C columns, which do not change: a data frame of pandas or polars, an Arrow table, a
                `datasets.Dataset`, a mapping from column to values, a list of mappings, or an array, whose columns are
                named `x0`, `x1`, ... Cells may be missing.
            y: (N,) labels of two classes, of any type. If one is the schema's `positive`, it is the click; else it is
                1 or true, the word that affirms, such as `Ja` beside `Nein`, or else the last one in order.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: If a parameter or the data are wrong, or there are not two classes.
            TypeError: If `X` has an unsupported type.
            OSError: If there is no such language model or schema file.
        """
        self._check_parameters()
        table = checked_table(self, X, reset=True)
        classes, indices = checked_classes(y)
        check_consistent_length(indices, table.column(0))
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED, dtype=np.int64))

        # 1. Which class is the click, and which rows are for validation.
        given = None if self.schema is None else schema_of(self.schema)
        word, positive = positive_class(classes, None if given is None else given.positive)
        label = self._label_of(table, getattr(y, "name", None)) if given is None else given.label
        features = table if given is None else self._columns_of(table, given)
        clicks = pa.array((indices == positive).astype(np.int8))
        splits = self._split(features.append_column(label, clicks), label, seed)

        # 2. What the columns mean: training rows alone tell.
        schema = replace(self._drafted(splits["train"], label) if given is None else given, positive=word)
        known, given_columns = {*schema.keys, *schema.columns}, {*table.column_names}

        def in_schema(names):
            # a fold of cross-validation may have empty columns, which a draft leaves out
            return [name for name in names if name in known or name not in given_columns]

        # first: a text that is only part of a vector stays in the schema
        if self.vector_fields is not None:
            vector_fields = in_schema(self.vector_fields)
            if vector_fields or not self.vector_fields:
                schema = schema.with_vector_fields(vector_fields)
        if self.text_fields is not None:
            if self.plm_name_or_path is not None:
                schema = schema.with_text_fields(in_schema(self.text_fields))
            elif unknown := [name for name in self.text_fields if name not in known | given_columns]:
                raise ValueError(
                    f"`text_fields` must be among the columns of `X`, {table.column_names}, got {unknown}."
                )
        columns = [*schema.raw_columns, label]
        splits = {name: rows.select(columns) for name, rows in splits.items()}

        # 3. Encode, train in a temporary folder.
        with (
            _kept_global_generators(),
            nullcontext() if self.verbose else quiet_transformers(),
            tempfile.TemporaryDirectory(prefix="clickprompt-", ignore_cleanup_errors=True) as folder,
        ):
            processor = self._fit_processor(splits["train"], schema)
            prepare_splits(splits, processor, Path(folder, "data"))
            # the processor that is loaded with them may still read from the folder
            data, _ = load_prepared(Path(folder, "data"))
            set_seed(seed)
            preset = preset_by_rows(self.backbone, len(data["train"]), processor.field_sizes)
            model = self._fresh_model(processor, preset)
            history = self._train(model, processor, data, preset, seed, folder)
        model.eval()
        self.classes_, self.schema_ = classes, processor.schema
        self.model_, self.processor_, self.history_ = model, processor, history
        self._columns, self._positive = table.column_names, positive
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Predict the probability of each class, (N, 2) float32, in the order of `classes_`.

        Args:
            X: Features with the columns of `fit`: the same names in the same order, or as many columns without names.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If the columns differ from those of `fit`.
        """
        check_is_fitted(self, "model_")
        table = checked_table(self, X, reset=False).rename_columns(self._columns)
        # the model's precision, to which a probability does not depend on the other rows
        clicks = score_table(table, self.processor_, self.model_, scoring_batch_size(self.model_.config)).astype("f4")
        others = 1 - clicks
        return np.column_stack([others, clicks] if self._positive == 1 else [clicks, others])

    def predict(self, X) -> np.ndarray:
        """Predict the likelier class of each row, (N,). Arguments and errors are as in `predict_proba`."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def save_pretrained(self, save_directory) -> None:
        """Save model, processor and the estimator's own settings atomically.

        The folder is an ordinary checkpoint, which the Auto classes, `pipeline` and `clickprompt predict` load.

        Args:
            save_directory: Folder to write into; made if it does not exist.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If a parameter or a class cannot be written as JSON.
            OSError: If the folder cannot be written.
        """
        check_is_fitted(self, "model_")
        names = getattr(self, "feature_names_in_", None)
        written = {
            "parameters": {name: _plain(name, value) for name, value in self.get_params(deep=False).items()},
            "classes": [_plain("classes_", label) for label in self.classes_.tolist()],
            "classes_dtype": str(self.classes_.dtype),
            "positive": self._positive,
            "columns": self._columns,
            "has_names": names is not None,
            "history": self.history_,
        }
        with whole_contents(save_directory) as partial:
            self.model_.save_pretrained(partial)
            self.processor_.save_pretrained(partial)
            (partial / ESTIMATOR_FILE).write_text(json.dumps(written, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **hub_options) -> "ClickPromptClassifier":
        """Load an estimator that `save_pretrained` has written.

        Args:
            pretrained_model_name_or_path: Its folder, or Hub id.
            hub_options: `revision`, `token`, `cache_dir`, ... as in `from_pretrained` of transformers.

        Raises:
            OSError: If there is no such folder or repository, or it is a checkpoint without an estimator.
        """
        path: Any = cached_file(str(pretrained_model_name_or_path), ESTIMATOR_FILE, **hub_options)
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        estimator = cls(**saved["parameters"])
        model = ClickPromptForCTR.from_pretrained(pretrained_model_name_or_path, **hub_options)
        estimator.model_ = model.to(scoring_device())
        estimator.processor_ = ClickPromptProcessor.from_pretrained(pretrained_model_name_or_path, **hub_options)
        estimator.processor_.check_model(model.config)
        estimator.schema_ = estimator.processor_.schema
        estimator.classes_ = np.asarray(saved["classes"], dtype=saved["classes_dtype"])
        estimator.history_ = saved["history"]
        estimator._columns, estimator._positive = saved["columns"], saved["positive"]
        estimator.n_features_in_ = len(saved["columns"])
        if saved["has_names"]:
            estimator.feature_names_in_ = np.asarray(saved["columns"], dtype=object)
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        model = state.get("model_")
        if model is not None and model.device.type != "cpu":
            # the machine that loads it may have no accelerator
            state["model_"] = copy.deepcopy(model).cpu()
        processor = state.get("processor_")
        if processor is not None and processor.text_encoder is not None:
            # the folder of the text encoder may be gone by then
            state["processor_"] = copy.copy(processor)
            state["processor_"].text_encoder = processor.text_encoder.portable()
        return state

    def _check_parameters(self) -> None:
        NumberRange(0, above=True, also=(None,)).check("max_epochs", self.max_epochs)
        NumberRange(1, whole=True, also=(None,)).check("batch_size", self.batch_size)
        NumberRange(0, 1, below=True).check("validation_fraction", self.validation_fraction)
        NumberRange(0, whole=True, also=(None,)).check("early_stopping_patience", self.early_stopping_patience)
        RANGES["learning_rate"].check("plm_learning_rate", self.plm_learning_rate)
        if self.learning_rate is not None:
            RANGES["learning_rate"].check("learning_rate", self.learning_rate)
        NumberRange(0, whole=True).check("verbose", int(self.verbose))
        for name in ("text_fields", "vector_fields"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"`{name}` must be a list of columns or None, got {getattr(self, name)!r}.")
        if self.vector_fields is not None and self.text_encoder is None and self.plm_name_or_path is None:
            raise ValueError(
                "`text_encoder` must name the language model that turns the text of `vector_fields` into a vector, "
                "got None."
            )
        backbone_class(self.backbone)
        for name, taken in _SET_BY_PARAMETERS.items():
            given = getattr(self, name)
            if given is not None and not isinstance(given, Mapping):
                raise ValueError(f"`{name}` must be a dict or None, got {given!r}.")
            if clash := sorted({*(given or ())} & {*taken}):
                raise ValueError(
                    f"`{name}` must leave out {clash}, which the estimator's parameters or the data determine."
                )
        options_of: dict[str, Any] = {
            "clickprompt_config": ClickPromptConfig,
            "training_arguments": ClickPromptTrainingArguments,
        }
        # a custom backbone may read options of its own
        if self.backbone in preset_backbones():
            options_of["ctr_config"] = CTRConfig
        for name, cls in options_of.items():
            known = {option.name for option in fields(cls) if option.init}
            if name == "clickprompt_config" and self.plm_name_or_path is not None:
                known.add("attn_implementation")
            if unknown := [option for option in getattr(self, name) or () if option not in known]:
                raise ValueError(f"`{name}` must hold arguments of {cls.__name__}, got {unknown}.")

    def _columns_of(self, table: pa.Table, schema: Schema) -> pa.Table:
        """The columns of a given schema."""
        if missing := [column for column in schema.raw_columns if column not in table.column_names]:
            raise ValueError(
                f"`X` must have the columns of `schema`, but lacks {missing}; it has {table.column_names}."
            )
        return table.select(schema.raw_columns)

    def _label_of(self, table: pa.Table, name: Any) -> str:
        """Name of the label in a drafted schema: that of the labels, or one that no column has."""
        label = name if isinstance(name, str) and name else "label"
        while label in table.column_names:
            label += "_"
        return label

    def _drafted(self, train: pa.Table, label: str) -> Schema:
        """Draft the schema from training rows with their label."""
        clicks, features = train.column(label).to_numpy(), train.drop_columns([label])
        has_names = hasattr(self, "feature_names_in_")
        vector_fields = self.vector_fields or ()
        drafted = drafted_schema(features, clicks, label, {*(self.text_fields or ()), *vector_fields}, has_names)
        unread = [
            field.column for field in drafted.fields if field.kind == "text" and field.column not in vector_fields
        ]
        if unread and self.plm_name_or_path is None:
            warn_at_caller(
                f"Columns {unread} hold free text, which only a language model reads: without `plm_name_or_path`, "
                "they are ignored."
            )
        return drafted

    def _split(self, rows: pa.Table, label: str, seed: int) -> dict[str, pa.Table]:
        """Training rows and, if wanted and possible, validation rows."""
        share = float(self.validation_fraction)
        if not share:
            return {"train": rows}
        least = min(np.bincount(rows.column(label).to_numpy()))
        if least < 2:
            warn_at_caller(
                f"A class has {least} row, which cannot be in both training and validation rows: training on all "
                "rows, without early stopping. `validation_fraction=0` does the same without this warning."
            )
            return {"train": rows}
        # the test part is not made; the others divide all rows in proportion to their shares
        fractions = (0.5 * (1 - share), 0.5 * share, 0.5)
        return split_at_random(rows, label, seed, fractions, names=("train", "validation"))

    def _fit_processor(self, train: pa.Table, schema: Schema) -> ClickPromptProcessor:
        text_encoder = None
        if any(field.as_vector for field in schema.fields):
            text_encoder = self.text_encoder or self.plm_name_or_path
            if text_encoder is None:
                raise ValueError(
                    "`text_encoder` must name the language model that turns texts into vectors: the schema has "
                    "fields with `as: vector`."
                )
        if self.plm_name_or_path is None:
            return ClickPromptProcessor.fit(train, schema, text_encoder=text_encoder)
        text_config = AutoConfig.from_pretrained(self.plm_name_or_path)
        if isinstance(text_config, ClickPromptConfig):
            raise ValueError(
                f"`plm_name_or_path` must be a language model, got the ClickPrompt checkpoint {self.plm_name_or_path}."
            )
        tokenizer = AutoTokenizer.from_pretrained(self.plm_name_or_path)
        config = ClickPromptConfig(text_config=text_config, ctr_config=CTRConfig(), **self._prompt_options())
        return ClickPromptProcessor.fit(
            train, schema, tokenizer, max_text_length=config.max_text_length, text_encoder=text_encoder
        )

    def _prompt_options(self) -> dict[str, Any]:
        given = dict(self.clickprompt_config or {})
        return {"prompt_length": self.prompt_length, "prompt_depth": self.prompt_depth, **given}

    def _fresh_model(self, processor: ClickPromptProcessor, preset: TablePreset | None) -> ClickPromptForCTR:
        options = {
            **({} if preset is None else preset.sizes_of(self.backbone)),
            "field_sizes": processor.field_sizes,
            "max_values": processor.max_values,
            "vector_sizes": processor.vector_sizes,
            **(self.ctr_config or {}),
        }
        if self.backbone in preset_backbones():
            ctr_config = ctr_preset(self.backbone, **options)
        else:
            ctr_config = CTRConfig(backbone=self.backbone, **options)
        if self.plm_name_or_path is None:
            given = {**(self.clickprompt_config or {}), "fusion": "ctr"}
            return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, **given))
        return ClickPromptForCTR.from_plm_pretrained(
            self.plm_name_or_path, ctr_config=ctr_config, **self._prompt_options()
        )

    def _train(
        self,
        model: ClickPromptForCTR,
        processor: ClickPromptProcessor,
        data: dict[str, ColumnarDataset],
        preset: TablePreset | None,
        seed: int,
        folder: str,
    ) -> list[dict[str, float]]:
        """Train the model and keep its best epoch; return the validation metrics of each evaluation."""
        train, validation = data["train"], data.get("validation")
        if processor.reads_text:
            _warn_of_truncation(data.values(), processor)
        batch_size = self.batch_size or default_batch_size(len(train), model.config.use_plm)
        options: dict[str, Any] = {
            "report_to": "none",
            "disable_tqdm": not self.verbose,
            "save_only_model": True,
            "dataloader_pin_memory": False,
            **self._training_options(preset, len(train) // batch_size, validation is not None),
            **(self.training_arguments or {}),
        }
        if validation is None:
            options |= {"eval_strategy": "no", "save_strategy": "no"}
        arguments = ClickPromptTrainingArguments(
            output_dir=str(Path(folder, "training")),
            plm_learning_rate=float(self.plm_learning_rate),
            per_device_train_batch_size=int(batch_size),
            seed=seed,
            **options,
        )
        trainer = ClickPromptTrainer(
            model, arguments, train_dataset=train, eval_dataset=validation, processing_class=processor
        )
        if not self.verbose:
            trainer.remove_callback(PrinterCallback)
        trainer.train()
        if validation is not None:
            calibrate(trainer, validation)
        return [
            {"epoch": entry["epoch"], "auc": entry["eval_auc"], "log_loss": entry["eval_log_loss"]}
            for entry in trainer.state.log_history
            if "eval_auc" in entry
        ]

    def _training_options(self, preset: TablePreset | None, steps: int, is_validated: bool) -> dict[str, Any]:
        """Learning rate, epochs and evaluations: the given ones, else those of `clickprompt finetune`.

        Args:
            preset: Sizes and settings for the table; `None` if it has none.
            steps: Batches per epoch.
            is_validated: Whether there are validation rows.
        """
        given = {
            "learning_rate": None if self.learning_rate is None else float(self.learning_rate),
            "num_train_epochs": None if self.max_epochs is None else float(self.max_epochs),
            "early_stopping_patience": self.early_stopping_patience if is_validated else None,
        }
        options = {name: value for name, value in given.items() if value is not None}
        if preset is not None and self.plm_name_or_path is None:
            others = self.training_arguments or {}
            keeps_best = is_validated and others.get("load_best_model_at_end", True)
            steps //= others.get("gradient_accumulation_steps", 1)
            options |= settings_by_rows(preset, steps, keeps_best, {*options, *others})
        return options


@contextmanager
def _kept_global_generators() -> Iterator[None]:
    """Leave the global random generators as they were: training seeds all of them."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _warn_of_truncation(splits: Sequence[ColumnarDataset] | Any, processor: ClickPromptProcessor) -> None:
    limit = processor.max_text_length
    lengths = np.concatenate([split.text_lengths() for split in splits])
    if limit is not None and (longer := int((lengths > limit).sum())):
        warn_at_caller(
            f"The texts of {longer:,} of {len(lengths):,} rows are truncated to the {limit} tokens that fit the "
            f"language model; the longest has {lengths.max()}. `text_fields` chooses what it reads."
        )


def _plain(name: str, value: Any) -> Any:
    """A parameter as JSON can hold it."""
    if isinstance(value, Schema):
        return value.to_dict()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        # its state has changed since
        return None
    if isinstance(value, Mapping):
        return {key: _plain(name, entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, entry) for entry in value]
    if value is not None and not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"`{name}` must contain only strings, numbers and truth values to be saved, got {value!r}.")
    return value
