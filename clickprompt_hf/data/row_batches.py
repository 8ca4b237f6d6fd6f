# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Stack encoded rows, in any format of `datasets`, into one padded batch of arrays, and check them.

Shapes: B batch, T text tokens of the longest row of a batch.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from ..processing_clickprompt import ClickPromptProcessor

_INPUTS = (
    *("feature_ids", "feature_vectors", "labels", "input_ids", "attention_mask", "value_fields", "row_ids", "epoch"),
    "teacher_logits",
)
# types that hold rows without being a list of them
_TABLES = (Mapping, pa.Table, pd.DataFrame)


def whole_batch(features: Any, processor: ClickPromptProcessor) -> dict[str, Any]:
    """Return rows as one padded batch of arrays; a batch that `ColumnarDataset` has made is returned as it is.

    Raises:
        ValueError: If a row lacks inputs that the first one has, or an input has another shape than expected; the
            message names the input and the row.
    """
    parts = [features] if isinstance(features, _TABLES) else features
    if is_whole_batch(parts):
        return dict(parts[0])
    rows = [row for part in parts for row in _rows(part)]
    columns = {
        name: [_cell(row, name, number) for number, row in enumerate(rows)]
        for name in _INPUTS
        if name == "feature_ids" or name in rows[0]
    }
    num_columns = sum(field.num_columns for field in processor.schema.fields)
    batch: dict[str, Any] = {"feature_ids": _stacked(columns["feature_ids"], "feature_ids", num_columns)}
    if "feature_vectors" in columns:
        num_entries = sum(processor.vector_sizes)
        cells = enumerate(columns["feature_vectors"])
        batch["feature_vectors"] = np.stack([_vectors(cell, row, num_entries) for row, cell in cells])
    if "labels" in columns:
        batch["labels"] = np.asarray([_label(cell, row) for row, cell in enumerate(columns["labels"])])
    if "input_ids" in columns and processor.reads_text:
        batch.update(_padded_text(columns, processor.tokenizer.pad_token_id))
    if "teacher_logits" in columns:
        numbers = [_logit(cell, row) for row, cell in enumerate(columns["teacher_logits"])]
        batch["teacher_logits"] = np.asarray(numbers, dtype=np.float32)
    if "row_ids" in columns:
        batch["row_ids"] = np.asarray([int(cell) for cell in columns["row_ids"]])
        batch["epoch"] = columns["epoch"][0]
    return batch


def _padded_text(columns: Mapping[str, list[Any]], pad_token_id: int) -> dict[str, np.ndarray]:
    """Pad texts on the right: `input_ids`, `attention_mask` and, if given, `value_fields`, (B, T) each."""
    texts = [_integers(cell, "input_ids", row) for row, cell in enumerate(columns["input_ids"])]
    lengths = [len(text) for text in texts]
    masks = [np.ones(length, dtype=bool) for length in lengths]
    if "attention_mask" in columns:
        cells = enumerate(columns["attention_mask"])
        masks = [_integers(cell, "attention_mask", row, lengths[row]) == 1 for row, cell in cells]
    kept = np.asarray([mask.sum() for mask in masks])
    is_text = np.arange(kept.max()) < kept[:, None]

    def padded(sequences: list[np.ndarray], padding: int) -> np.ndarray:
        whole = np.full(is_text.shape, padding, dtype=np.int64)
        whole[is_text] = np.concatenate([part[mask] for part, mask in zip(sequences, masks)])
        return whole

    inputs = {"input_ids": padded(texts, pad_token_id), "attention_mask": is_text.astype(np.int64)}
    if "value_fields" in columns:
        cells = enumerate(columns["value_fields"])
        inputs["value_fields"] = padded([_integers(cell, "value_fields", row, lengths[row]) for row, cell in cells], 0)
    return inputs


def is_whole_batch(parts: Any) -> bool:
    """Whether a list holds what `ColumnarDataset` returns for several rows."""
    return len(parts) == 1 and isinstance(parts[0], dict) and np.ndim(parts[0].get("row_ids", 0)) == 1


def _rows(part: Any) -> list[Mapping[str, Any]]:
    """Convert one row or several, given as a mapping or as a table in a format of `datasets`, to a list of rows."""
    if isinstance(part, (pa.Table, pd.DataFrame)):
        cells = part.to_pylist() if isinstance(part, pa.Table) else part.to_dict("records")
        return [row for cell in cells for row in _rows(cell)]
    ids = part.get("feature_ids")
    if ids is None or not _holds_rows(ids):
        return [part]
    given = {name: part[name] for name in _INPUTS if name in part}
    if "epoch" in given:
        given["epoch"] = [given["epoch"]] * len(ids)
    columns = {name: [value] if np.isscalar(value) else list(value) for name, value in given.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"`features` must have the same number of rows in each input, got {lengths}.")
    return [dict(zip(columns, cells)) for cells in zip(*columns.values())]


def _holds_rows(ids: Any) -> bool:
    """Whether feature ids have two dimensions; also as an array of arrays, as pandas has them."""
    try:
        return np.ndim(ids[0]) > 0
    except (IndexError, TypeError):
        return False


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.cpu().numpy()
    try:
        return np.asarray(value)
    except ValueError:
        # lists of different lengths, which no input may hold
        return np.asarray(value, dtype=object)


def _cell(row: Mapping[str, Any], name: str, number: int) -> Any:
    if row.get(name) is None:
        advice = " Encode the rows with the processor: dataset.map(processor, batched=True)."
        raise ValueError(
            f"`features` must all have `{name}`, but row {number} of the batch has {sorted(row)}."
            + (advice if name == "feature_ids" else "")
        )
    return row[name]


def _stacked(cells: list[Any], name: str, length: int) -> np.ndarray:
    """An input of all rows as (B, length) int64."""
    if isinstance(cells[0], list):
        # at once, which takes a tenth of the time; what does not fit is found below, by row
        with suppress(ValueError):
            array = np.asarray(cells)
            if array.shape == (len(cells), length) and array.dtype.kind in "iub":
                return array.astype(np.int64)
    return np.stack([_integers(cell, name, row, length) for row, cell in enumerate(cells)])


def _integers(value: Any, name: str, row: int, length: int | None = None) -> np.ndarray:
    """An input of one row as (length,) int64."""
    array = _array(value)
    if array.ndim != 1 or length not in (None, len(array)) or (len(array) and array.dtype.kind not in "iub"):
        expected = "a list of integers" if length is None else f"{length} integers, of shape ({length},)"
        raise ValueError(
            f"`{name}` must be {expected} per row; row {row} of the batch has shape {array.shape} and type "
            f"{array.dtype}."
        )
    return array.astype(np.int64)


def _vectors(value: Any, row: int, length: int) -> np.ndarray:
    """The vectors of one row as (length,) float32."""
    # `datasets` makes null of NaN in some formats
    array = _array([np.nan if entry is None else entry for entry in value] if isinstance(value, list) else value)
    if array.shape != (length,) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"`feature_vectors` must be {length} numbers, of shape ({length},), per row; row {row} of the batch has "
            f"shape {array.shape} and type {array.dtype}."
        )
    return array.astype(np.float32)


def _label(value: Any, row: int) -> int:
    array = _array(value)
    if array.size != 1 or array.item() not in (0, 1, -100):
        raise ValueError(f"`labels` must be 0, 1 or -100 per row; row {row} of the batch has {value!r}.")
    return int(array.item())


def _logit(value: Any, row: int) -> float:
    array = _array(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or not np.isfinite(array.item()):
        raise ValueError(f"`teacher_logits` must be a finite number per row; row {row} of the batch has {value!r}.")
    return float(array.item())
