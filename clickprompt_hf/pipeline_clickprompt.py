# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`pipeline("ctr-prediction", ...)`: raw rows to click probabilities.

This file ships inside every checkpoint: it imports only torch, transformers and the standard library. Tables of
pandas, Arrow and `datasets` are known by what they offer, so that none of those libraries need be there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Pipeline
from transformers.utils import logging

# One line an import: in parentheses they would not survive the copy into a checkpoint.
from .encoding_clickprompt import check_columns, columns_of
from .values_clickprompt import is_column

_SECONDS_WITHOUT_PROGRESS_BAR = 3


class ClickPromptPipeline(Pipeline):
    """Click probabilities of raw rows, by a `ClickPromptForCTR` and its processor.

    ```python
    >>> score = pipeline("ctr-prediction", model=folder, trust_remote_code=True)
    >>> score({"user_id": 18, "title": "Up"})
    {'click_probability': 0.7310585975646973}
    ```

    Args:
        model: A model finetuned for clicks, with the PLM or without.
        processor (`ClickPromptProcessor`): The one that the model was trained with.
        batch_size: Rows that are scored at once; by default 256, or 4,096 where the model has no PLM.
        kwargs: Those of `transformers.Pipeline`, as `device`, and of a call.

    Raises:
        ValueError: If there is no processor, it is another model's, or the model was not trained for clicks.
    """

    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    model: Any
    processor: Any

    def __init__(self, model, processor=None, **kwargs):
        if processor is None:
            raise ValueError("`processor` must be the one that the model was trained with, got none.")
        if pretrained := {"ClickPromptModel", "ClickPromptForPAMLM", "ClickPromptForPACLM"} & set(
            model.config.architectures or ()
        ):
            raise ValueError(
                f"`model` must be finetuned for clicks, but its weights are those of a {pretrained.pop()}, whose "
                "click heads would be fresh: it would score at random. Finetune it with run_ctr.py; a model that was "
                "trained since must be saved first."
            )
        processor.check_model(model.config)
        super().__init__(model=model, processor=processor, **kwargs)

    def _sanitize_parameters(self, return_logits: bool | None = None):  # type: ignore[override]
        return {}, {}, {} if return_logits is None else {"return_logits": return_logits}

    def __call__(  # type: ignore[override]
        self, inputs, batch_size: int | None = None, progress_bar: bool | None = None, **kwargs
    ):
        """Scores rows.

        Args:
            inputs: A row, as a mapping from column to value; or several: a list of such, a mapping from column to a
                list of values, a pandas data frame, an Arrow table or a `datasets.Dataset`. Columns that the schema
                does not name are ignored, the label's too. Missing values (`None`, NaN, blank) and values that
                training lacked are scored as such.
            batch_size: As in the class.
            progress_bar: Whether one is shown; by default when scoring takes longer than three seconds.
            return_logits: Whether to give `logit`, before the sigmoid, and the two sides that it is made of where
                the model has them, `ctr_logit` and `text_logit`.

        Returns:
            `{"click_probability": p}` for a single row, a list of those for several, in order.

        Raises:
            ValueError: If a column is missing, or a field of single values holds a list; the message names row and
                column.
            TypeError: If `inputs` or a row is of another kind.
        """
        size = batch_size or self._batch_size or rows_a_batch(self.model.config)
        if size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {size}.")
        parameters = [
            {**of_init, **of_call}
            for of_init, of_call in zip(
                (self._preprocess_params, self._forward_params, self._postprocess_params),
                self._sanitize_parameters(**kwargs),
            )
        ]
        is_row = isinstance(inputs, Mapping) and not all(is_column(values) for values in inputs.values())
        num_rows, slice_of = _slices_of([inputs] if is_row else inputs, self.processor.read_columns)
        # dropout is on in a model that was just trained
        self.model.eval()
        scores: list[dict[str, float]] = []
        # a delay of 0 shows it at once
        delay = 0 if progress_bar else _SECONDS_WITHOUT_PROGRESS_BAR
        with logging.tqdm(total=num_rows, unit="row", delay=delay, disable=progress_bar is False) as bar:
            for start in range(0, num_rows, size):
                end = min(start + size, num_rows)
                parameters[0]["first_row"] = start
                scores += self.run_single(slice_of(start, end), *parameters)
                bar.update(end - start)
        return scores[0] if is_row else scores

    def preprocess(self, columns: dict[str, Any], first_row: int = 0) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Columns of raw values, the first row number `first_row` in messages, to the model's inputs."""
        with_text = self.model.config.use_plm
        return dict(self.processor(columns, return_tensors="pt", with_text=with_text, first_row=first_row))

    def _forward(self, model_inputs: dict[str, torch.Tensor]) -> Any:  # type: ignore[override]
        return self.model(**model_inputs, return_dict=True)

    def postprocess(  # type: ignore[override]
        self, model_outputs: Any, return_logits: bool = False
    ) -> list[dict[str, float]]:
        """The model's outputs to one dict a row."""
        logits = model_outputs.logits.float()
        columns = {"click_probability": torch.sigmoid(logits)}
        if return_logits:
            columns["logit"] = logits
            for name in ("ctr_logit", "text_logit"):
                if (side := model_outputs.get(f"{name}s")) is not None:
                    columns[name] = side.float()
        values = [column.squeeze(-1).tolist() for column in columns.values()]
        return [dict(zip(columns, row)) for row in zip(*values)]

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves model and processor, with their code, as one checkpoint."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


def rows_a_batch(config: Any) -> int:
    """Rows that are scored at once where nothing else is said, by a model of this configuration."""
    # without a PLM a row takes microseconds, and a batch's fixed cost would show
    return 256 if config.use_plm else 4096


def _slices_of(rows: Any, columns: list[str]) -> tuple[int, Callable[[int, int], dict[str, Any]]]:
    """How many rows there are, and what gives the named columns of rows `start` to `end`."""
    if isinstance(rows, (list, tuple)):
        return len(rows), lambda start, end: _columns_of_list(rows[start:end], columns, start)
    if isinstance(rows, Mapping):
        check_columns(columns, rows)
        lengths = {column: len(rows[column]) for column in columns}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `inputs` must have one length, got {lengths}.")
        return lengths[columns[0]], lambda start, end: {column: list(rows[column][start:end]) for column in columns}
    if hasattr(rows, "iloc"):
        # pandas
        check_columns(columns, rows.columns)
        frame = rows[columns]
        return len(frame), lambda start, end: frame.iloc[start:end].to_dict(orient="list")
    if hasattr(rows, "to_pydict"):
        # Arrow
        check_columns(columns, rows.schema.names)
        table = rows.select(columns)
        return len(table), lambda start, end: table.slice(start, end - start).to_pydict()
    if hasattr(rows, "column_names") and hasattr(rows, "__len__"):
        # datasets.Dataset; in whatever format it is, plain values are wanted
        check_columns(columns, rows.column_names)
        dataset = rows.select_columns(columns).with_format(None)
        return len(dataset), lambda start, end: dataset[start:end]
    raise TypeError(
        "`inputs` must be a row (a mapping from column to value), a list of rows, a mapping from column to list, a "
        f"pandas data frame, an Arrow table or a datasets.Dataset, got {type(rows).__name__}."
    )


def _columns_of_list(rows: Any, columns: list[str], first_row: int) -> dict[str, Any]:
    # a label is not read, whatever it holds
    cells = columns_of(rows, columns, first_row)
    return {column: cells[column] for column in columns}
