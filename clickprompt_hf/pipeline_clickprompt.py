# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("ctr-prediction", ...)`: raw rows to click probabilities.

This file ships with every checkpoint, so it imports only torch, transformers and the standard library. Tables of
pandas, polars, Arrow and `datasets` are recognized by their methods, as none of these libraries may be installed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch
from transformers import Pipeline
from transformers.utils import logging

from .click_probabilities import corrected_probabilities
from .columns_clickprompt import PROBABILITY_COLUMN, Columns, check_columns, check_different, columns_of

# One import per line: parentheses do not survive the copy into a checkpoint.
from .distinct_rows import row_hashes, with_distinct_features
from .recent_texts import DEFAULT_MEGABYTES, RecentTexts
from .row_warnings_clickprompt import RowWarnings
from .text_options_clickprompt import check_positive_integer
from .unknown_values_clickprompt import UnknownValues
from .unread_cells_clickprompt import UnreadCells
from .whole_files import whole_contents

# Arguments of `transformers.Pipeline` that have no effect at these values, and why other values are refused.
_NEUTRAL: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(
        ("tokenizer", "feature_extractor", "image_processor", "video_processor"),
        (None, "rows are read by the processor saved with the model"),
    ),
    "binary_output": (False, "scores are numbers"),
    "num_workers": (0, "rows become model inputs in this process"),
}
_SECONDS_WITHOUT_PROGRESS_BAR = 3
# Rows are sorted by text length across this many batches, unless padding to the longest possible text could fill the
# memory.
_BATCHES_SORTED = 16
_LONGEST_SORTED = 1024


class ClickPromptPipeline(Pipeline):
    """Predicts click probabilities of raw rows with a `ClickPromptForCTR` and its processor.

    Several threads may share a pipeline.

    ```python
    >>> score = pipeline("ctr-prediction", model=folder, trust_remote_code=True)
    >>> score({"user_id": 18, "title": "Up"})
    {'click_probability': 0.7310585975646973}
    ```

    Args:
        model: A model finetuned for clicks, with or without the PLM.
        processor (`ClickPromptProcessor`): The processor that the model was trained with.
        text_state_memory: Megabytes for the states of the texts read last, at least 0. If the PLM's lower layers see
            the text alone (`prompt_depth`), they run once per text as long as its states are kept. Scores do not
            change by more than 1e-6.
        batch_size: Rows per batch. Defaults to 256 with a PLM and 4,096 without.
        kwargs: Arguments of `transformers.Pipeline`, such as `device`, and defaults for calls.

    Raises:
        ValueError: If the processor is missing or belongs to another model, the model was not trained for clicks, or
            an argument has a wrong value.
        TypeError: If an argument is unknown.
    """

    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    model: Any
    processor: Any

    def __init__(self, model, processor=None, text_state_memory: float = DEFAULT_MEGABYTES, **kwargs):
        if processor is None:
            raise ValueError("`processor` must be the processor that the model was trained with, got none.")
        if pretrained := {"ClickPromptModel", "ClickPromptForPAMLM", "ClickPromptForPACLM"} & set(
            model.config.architectures or ()
        ):
            raise ValueError(
                f"`model` must be finetuned for clicks, but its weights are from a {pretrained.pop()}, whose click "
                "heads are untrained. Finetune it with `clickprompt finetune`. If you have trained it since, save "
                "it first."
            )
        # models of earlier versions, loaded with a checkpoint's own code, lack it
        if fresh := getattr(model, "fresh_weights", ()):
            raise ValueError(
                f"`model` must be finetuned for clicks, but its checkpoint {model.name_or_path} was saved without "
                f"{', '.join(fresh)}, which are therefore untrained. Finetune it with `clickprompt finetune`. If "
                "you have trained it since, save it first."
            )
        processor.check_model(model.config)
        for name in _NEUTRAL:
            _check_neutral(name, kwargs.pop(name, None))
        if (batch_size := kwargs.get("batch_size")) is not None:
            check_positive_integer("batch_size", batch_size)
        self.recent_texts = RecentTexts(text_state_memory)
        super().__init__(model=model, processor=processor, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        return_logits = kwargs.pop("return_logits", None)
        _check_neutral("num_workers", kwargs.pop("num_workers", None))
        if kwargs:
            raise TypeError(f"Unknown arguments {sorted(kwargs)}; known are batch_size, progress_bar, return_logits.")
        if return_logits is None:
            return {}, {}, {}
        if not isinstance(return_logits, bool):
            raise ValueError(f"`return_logits` must be True or False, got {return_logits!r}.")
        return {}, {}, {"return_logits": return_logits}

    def __call__(  # type: ignore[override]
        self, inputs, batch_size: int | None = None, progress_bar: bool | None = None, **kwargs
    ):
        """Score rows.

        Args:
            inputs: One row, as a mapping from column to value or a pandas series; or several rows: a list of such
                mappings or what is indexed like one, a mapping from column to a list of values, a data frame of pandas
                or polars, an Arrow table or a `datasets.Dataset`. A mapping whose fields all hold lists, as
                multi-valued ones do, is several rows if these are lists of lists, else one row. The label and columns
                that the schema does not name are ignored. Missing values (`None`, NaN, blank) and values that training
                lacked are scored as such; a column with hardly any other values triggers a warning, and so do keys
                that a joined table lacks.
            batch_size: As in the class, at least 1.
            progress_bar: Whether to show one. By default if scoring takes longer than three seconds.
            return_logits: Whether to return `logit`, before the sigmoid and the correction for negative sampling, and
                its two parts, `ctr_logit` and `text_logit`, if the model has them.

        Returns:
            `{"click_probability": p}` for a single row, a list of these for several, in order.

        Raises:
            ValueError: If a column is missing or repeated, a single-valued field holds a list (the message names row
                and column), an argument has a wrong value, or the model's logits are not finite.
            TypeError: If `inputs` or a row has an unsupported type, or an argument is unknown.
        """
        if batch_size is not None:
            check_positive_integer("batch_size", batch_size)
        size = batch_size or self._batch_size or scoring_batch_size(self.model.config)
        if hasattr(inputs, "iloc") and not hasattr(inputs, "columns"):
            # A row of a pandas data frame.
            inputs = inputs.to_dict()
        parameters = [
            {**of_init, **of_call}
            for of_init, of_call in zip(
                (self._preprocess_params, self._forward_params, self._postprocess_params),
                self._sanitize_parameters(**kwargs),
            )
        ]
        is_row = isinstance(inputs, Mapping) and self.processor.is_row(inputs)
        needed = self.processor.needed_columns(self.processor.columns_to_join(inputs))
        # counted over all rows, so that each field gets one warning
        found = RowWarnings(self.processor)
        parameters[0].update(unknown=found.unknown, unread=found.unread)
        num_rows, slice_of = _slices_of([inputs] if is_row else inputs, needed, self.processor, found.unknown)
        if self.model.training:
            # Dropout is on in a model that was just trained.
            self.model.eval()
        scores: list[dict[str, float]] = []
        # With a delay of 0 it is shown at once.
        delay = 0 if progress_bar else _SECONDS_WITHOUT_PROGRESS_BAR
        num_converted = size * _BATCHES_SORTED if self._sorts_texts() else size
        with logging.tqdm(total=num_rows, unit="row", delay=delay, disable=progress_bar is False) as bar:
            for start in range(0, num_rows, num_converted):
                parameters[0]["row_offset"] = start
                inputs = self.preprocess(slice_of(start, min(start + num_converted, num_rows)), **parameters[0])
                scores += self.score_inputs(inputs, size, bar.update, **parameters[2])
        found.unknown.warn()
        found.warn()
        return scores[0] if is_row else scores

    def score_inputs(
        self,
        model_inputs: dict[str, torch.Tensor],
        batch_size: int,
        on_batch: Callable[[int], Any] | None = None,
        **postprocess_parameters,
    ) -> list[dict[str, float]]:
        """Score what `preprocess` returns, in batches of texts of similar length.

        Args:
            model_inputs: Inputs of N rows.
            batch_size: Rows per batch, at least 1.
            on_batch: Called after each batch with its number of rows.
            postprocess_parameters: Arguments of `postprocess`.

        Returns:
            One dict per row, in the order of the inputs.

        Raises:
            ValueError: If the model's logits are not finite.
        """
        of_rows: dict[int, dict[str, float]] = {}
        for rows, batch in _batches(model_inputs, batch_size):
            of_rows |= zip(rows, self.postprocess(self.forward(batch), **postprocess_parameters), strict=True)
            if on_batch is not None:
                on_batch(len(rows))
        return [of_rows[row] for row in range(len(of_rows))]

    def _sorts_texts(self) -> bool:
        if not self.model.config.use_plm:
            return False
        limits = (self.model.config.max_text_length, self.processor.max_text_length)
        return any(limit is not None and limit <= _LONGEST_SORTED for limit in limits)

    def preprocess(  # type: ignore[override]
        self,
        columns: dict[str, Any],
        row_offset: int = 0,
        unknown: UnknownValues | None = None,
        unread: Sequence[UnreadCells] = (),
    ) -> dict[str, torch.Tensor]:
        """Convert columns of raw values to model inputs; further arguments are those of the processor."""
        options: dict[str, Any] = {"row_offset": row_offset, "unknown": unknown, "unread": unread}
        with_text = self.model.config.use_plm
        return dict(self.processor(Columns(columns), return_tensors="pt", with_text=with_text, **options))

    def _forward(self, model_inputs: dict[str, torch.Tensor]) -> Any:  # type: ignore[override]
        shared = self.recent_texts.shared(self.model, with_distinct_features(self.model, model_inputs))
        return self.model(**shared, return_dict=True)

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, return_logits: bool = False
    ) -> list[dict[str, float]]:
        """Convert the model's outputs to one dict per row."""
        logits = model_outputs.logits.float()
        if not logits.isfinite().all():
            raise ValueError(
                f"The click logits of {self.model.name_or_path or type(self.model).__name__} must be finite, got "
                f"{logits[~logits.isfinite()][0]}: its weights are not finite, or too large for their type."
            )
        columns = {PROBABILITY_COLUMN: corrected_probabilities(logits, self.model.config)}
        if return_logits:
            columns["logit"] = logits
            for name in ("ctr_logit", "text_logit"):
                if (side := model_outputs.get(f"{name}s")) is not None:
                    columns[name] = side.float()
        values = [column.squeeze(-1).tolist() for column in columns.values()]
        return [dict(zip(columns, row)) for row in zip(*values)]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Save model and processor, with their code, as one checkpoint, atomically."""
        if kwargs.get("push_to_hub"):
            kwargs.setdefault("repo_id", Path(save_directory).name)
        with whole_contents(save_directory) as partial:
            self.model.save_pretrained(partial, **kwargs)
            self.processor.save_pretrained(partial, **kwargs)


def scoring_batch_size(config: Any) -> int:
    """Rows per batch when scoring with a model of this configuration."""
    # Without a PLM a row takes microseconds, so the fixed cost of a batch would show.
    return 256 if config.use_plm else 4096


def _batches(inputs: dict[str, torch.Tensor], size: int) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Split inputs into batches of `size` rows with equal texts or texts of similar length, and each batch's rows."""
    num_rows = len(inputs["feature_ids"])
    if num_rows <= size:
        yield list(range(num_rows)), inputs
        return
    if "attention_mask" not in inputs:
        for block in torch.arange(num_rows).split(size):
            yield block.tolist(), {name: values[block] for name, values in inputs.items()}
        return
    lengths = inputs["attention_mask"].sum(dim=1)
    # Longest first: a batch that does not fit in memory fails at once.
    by_text = row_hashes(inputs["input_ids"] * inputs["attention_mask"]).argsort()
    order = by_text[lengths[by_text].argsort(descending=True, stable=True)]
    for rows in order.split(size):
        batch = {name: values[rows] for name, values in inputs.items()}
        for name in ("input_ids", "attention_mask"):
            batch[name] = batch[name][:, : int(lengths[rows[0]])]
        yield rows.tolist(), batch


def _slices_of(
    rows: Any, columns: list[str], processor: Any, unknown: UnknownValues
) -> tuple[int, Callable[[int, int], dict[str, Any]]]:
    """The number of rows, and a function that returns the given columns of rows `start:end`."""
    if isinstance(rows, Mapping):
        check_columns(columns, rows)
        lengths = {column: len(rows[column]) for column in columns}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `inputs` must have one length, got {lengths}.")
        return lengths[columns[0]], lambda start, end: {column: list(rows[column][start:end]) for column in columns}
    if hasattr(rows, "iloc"):
        # A pandas data frame.
        check_different(rows.columns, "the data frame")
        check_columns(columns, rows.columns)
        frame = rows[columns]
        return len(frame), lambda start, end: columns_of(frame.iloc[start:end])
    if hasattr(rows, "get_columns"):
        # A polars data frame.
        check_columns(columns, rows.columns)
        chosen = rows.select(columns)
        return len(chosen), lambda start, end: columns_of(chosen.slice(start, end - start))
    if hasattr(rows, "to_pydict"):
        # An Arrow table.
        check_different(rows.schema.names, "the table")
        check_columns(columns, rows.schema.names)
        table = rows.select(columns)
        return len(table), lambda start, end: columns_of(table.slice(start, end - start))
    if hasattr(rows, "column_names") and hasattr(rows, "__len__"):
        # A datasets.Dataset, whatever its format. Its own conversion to Python fails at years beyond Python's.
        check_columns(columns, rows.column_names)
        dataset = rows.select_columns(columns).with_format("arrow")
        return len(dataset), lambda start, end: columns_of(dataset[start:end])
    if isinstance(rows, Sized) and hasattr(rows, "__getitem__") and not isinstance(rows, (str, bytes)):
        # A list, or what is indexed like one: a deque, an array of rows, a torch dataset, a KeyDataset.
        read = processor.read_columns
        return len(rows), lambda start, end: _columns_of_list(
            processor.completed((rows[i] for i in range(start, end)), start, unknown.lost_keys), read, start
        )
    raise TypeError(
        "`inputs` must be a row (a mapping from column to value), a list of rows, a mapping from column to list, a "
        f"data frame, an Arrow table or a datasets.Dataset, got {type(rows).__name__}. Collect the rows of a "
        "generator or stream into lists that fit in memory."
    )


def _check_neutral(name: str, value: Any) -> None:
    neutral, reason = _NEUTRAL[name]
    if value is not None and value != neutral:
        raise ValueError(f"`{name}` must be left out: {reason}. Got {value!r:.80}.")


def _columns_of_list(rows: Any, columns: list[str], row_offset: int) -> dict[str, Any]:
    # Labels are left out, whatever they hold.
    cells = columns_of(rows, columns, row_offset)
    return {column: cells[column] for column in columns}
