# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Collators: turn rows into padded batches of tensors, masked for PA-MLM.

All collators take the whole batches of a `ColumnarDataset`, or rows that the processor has encoded: of a
`datasets.Dataset` of any format that was mapped batched or row by row, or mappings of lists, arrays or tensors. Where
`feature_ids` has two dimensions, the mapping holds several rows.

Shapes: B batch, C columns of ids, T text tokens of the longest row of a batch.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from ..input_checks import check_click_labels
from ..processing_clickprompt import ClickPromptProcessor

Masking = Literal["token", "field"]


@dataclass
class ClickPromptCollator:
    """Make batches for `ClickPromptForCTR`.

    A batch has `feature_ids` (B, C); `feature_vectors` (B, S) if the rows have vectors; `input_ids` and
    `attention_mask` (B, T) if the rows have text; and `labels` (B,) if the rows have labels. Rows with cached states
    have `text_states` (U, T, H), `attention_mask` (U, T) and `text_rows` (B,) instead of `input_ids`. `teacher_logits`
    (B,) float32 of rows that have them are for `ClickPromptTrainer` only.

    Args:
        processor: The processor that encoded the rows.

    Raises:
        ValueError: When called with rows whose states were cached for pretraining, or labels other than 0, 1 and -100.
    """

    processor: ClickPromptProcessor

    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        batch = _whole_batch(features, self.processor)
        if "token_labels" in batch:
            raise ValueError(
                "`features` must have states of unmasked texts for click prediction, but theirs were cached for "
                "pretraining. Leave the collator out of `DistinctTexts.of`."
            )
        tensors = _tensors(batch)
        if "labels" in tensors:
            check_click_labels(tensors["labels"], len(tensors["labels"]))
        if "teacher_logits" in batch:
            tensors["teacher_logits"] = torch.from_numpy(batch["teacher_logits"])
        return tensors


@dataclass
class EncodedRowsCollator:
    """Make batches without a processor, by a collator of transformers, which stacks inputs of equal or padded length.

    Args:
        collator: `default_data_collator` or a function like it.

    Raises:
        ValueError: When called with a whole batch of a `ColumnarDataset`, or with rows that `collator` cannot stack.
    """

    collator: Callable[[Any], dict[str, Any]]

    def __call__(self, features: Any) -> dict[str, Any]:
        reason: Exception | None = None
        if not _is_whole_batch(features):
            try:
                return self.collator(features)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                reason = error
        raise ValueError(
            "`processing_class` must be the ClickPromptProcessor that encoded the rows, or `data_collator` be given, "
            f"to make batches of these rows{'' if reason is None else f': {reason}'}"
        ) from reason


@dataclass
class ClickPromptMLMCollator:
    """Make batches for `ClickPromptForPAMLM`: masked text, intact ids, and as `labels` (B, T) the original tokens at
    masked positions, -100 elsewhere.

    As in the paper, each text token is selected with probability `mlm_probability`. Of the selected tokens, 80 %
    become the mask token, 10 % a random token that is not special, and 10 % stay. Special tokens and padding are never
    selected. With `masking="field"`, whole values are selected instead, with the same probability: all tokens of
    a value are masked, replaced or kept together, and words of the template are never selected.

    `draw_masks` makes the random choices. For rows of a `ColumnarDataset` they are a function of (seed, epoch, row,
    position), so neither the other rows of the batch, nor prefetching, resuming or the number of processes changes
    them. Rows of other datasets have no row id; torch's global generator draws for them.

    Rows with cached states have a fixed number of masked variants per text, whose masks are a function of (seed, text,
    variant, position). Their batches have `text_states` (U, T, H), `attention_mask` (U, T) and `text_rows` (B,)
    instead of `input_ids`.

    Args:
        processor: The processor that encoded the rows. Its tokenizer must have a mask token and a padding token.
        mlm_probability: Share of text tokens, or of values, to select, in (0, 1).
        masking: `"token"`, as in the paper, or `"field"`, which needs rows of a `ColumnarDataset` with
            `with_value_fields=True`.
        seed: Seed of the random choices.

    Raises:
        ValueError: If the tokenizer lacks a token, the probability is out of range, `masking` is unknown, or field
            masking is asked for and the tokenizer is not a fast one or the rows lack `value_fields`.
    """

    processor: ClickPromptProcessor
    mlm_probability: float = 0.15
    masking: Masking = "token"
    seed: int = 0
    _special_ids: np.ndarray = field(init=False, repr=False)
    _ordinary_ids: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tokenizer = self.processor.tokenizer
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError("`processor` must have a tokenizer with a mask token and a padding token for PA-MLM.")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"`mlm_probability` must be in (0, 1), got {self.mlm_probability}.")
        if self.masking not in get_args(Masking):
            raise ValueError(f"`masking` must be one of {get_args(Masking)}, got {self.masking!r}.")
        if self.masking == "field" and not tokenizer.is_fast:
            raise ValueError(
                f"`masking='field'` needs a fast tokenizer, but {type(tokenizer).__name__} is a Python one, which "
                "has no character offsets."
            )
        self._special_ids = np.asarray(sorted(set(tokenizer.all_special_ids)))
        self._ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), self._special_ids)

    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        batch = _text_batch(features, self.processor)
        if "token_labels" not in batch:
            input_ids = batch["input_ids"]
            draws = draw_masks(input_ids.shape, self.seed, batch.get("epoch", 0), batch.get("row_ids"))
            batch["input_ids"], batch["token_labels"] = self.mask(
                input_ids, batch["attention_mask"], draws, batch.get("value_fields")
            )
        return _tensors({**batch, "labels": _row_labels(batch)})

    def mask(
        self,
        input_ids: np.ndarray,
        attention_mask: np.ndarray,
        draws: "MaskDraws",
        value_fields: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask texts.

        Args:
            input_ids: (B, T)
            attention_mask: (B, T)
            draws: The random choices, (B, T) each.
            value_fields: (B, T), the field whose value each token shows; needed for `masking="field"`.

        Returns:
            The masked ids and the labels, (B, T) each.
        """
        if self.masking == "field":
            draws = _share_by_field(draws, value_fields)
        masked = (draws.selection < self.mlm_probability) & (attention_mask == 1)
        masked &= ~np.isin(input_ids, self._special_ids)
        random_ids = self._ordinary_ids[(draws.random_token * len(self._ordinary_ids)).astype(np.int64)]
        corrupted = np.where(draws.replacement < 0.8, self.processor.tokenizer.mask_token_id, random_ids)
        corrupted = np.where(draws.replacement < 0.9, corrupted, input_ids)
        return np.where(masked, corrupted, input_ids), np.where(masked, input_ids, -100)


class MaskDraws(NamedTuple):
    """Uniform random numbers in [0, 1) that decide the masks of a batch, (B, T) each.

    Attributes:
        selection: Selects the token if below `mlm_probability`.
        replacement: A selected token becomes the mask token if below 0.8, a random token if below 0.9, else it stays.
        random_token: Picks the random token.
    """

    selection: np.ndarray
    replacement: np.ndarray
    random_token: np.ndarray


def draw_masks(shape: tuple[int, ...], seed: int, epoch: int, row_ids: np.ndarray | None) -> MaskDraws:
    """Draw the random numbers that mask a batch: a function of (seed, epoch, row, position) if row ids are given.

    Each number is a hash of these four. A generator's state would depend on the batches drawn before and on their
    widths, and so on prefetching, resuming and the number of processes.

    Args:
        shape: (B, T)
        seed: The run's seed.
        epoch: The training epoch; each epoch masks different tokens.
        row_ids: (B,) identifies each row within the run. If `None`, torch's global generator draws.
    """
    if row_ids is None:
        return MaskDraws(*torch.rand(3, *shape, dtype=torch.float64).numpy())
    # (T, 3) counters, three consecutive ones per position, to (3, 1, T)
    counters = np.arange(3 * shape[1], dtype=np.uint64).reshape(shape[1], 3).T[:, None]
    return MaskDraws(*draw_uniform(np.uint64(seed), epoch, row_ids, counters))


_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def draw_uniform(seed: np.uint64, epoch: int, row_ids: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Draw uniform random numbers in [0, 1), each a function of (seed, epoch, row, counter).

    Args:
        seed: Seed of the draws.
        epoch: The training epoch.
        row_ids: (B,) identifies each row within the run.
        counters: (..., 1, M) uint64, different for different draws of a row.

    Returns:
        (..., B, M) float64.
    """
    run_key = hash_numbers(hash_numbers(seed) + np.uint64(epoch))
    row_keys = hash_numbers(run_key + row_ids.astype(np.uint64))
    with np.errstate(over="ignore"):
        bits = hash_numbers(row_keys[:, None] + counters * _GOLDEN_GAMMA)
    # The upper 53 bits fill a double's mantissa.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hash_numbers(numbers: Any) -> Any:
    """Hash 64-bit integers with SplitMix64's output function (Steele et al. 2014). Products wrap around."""
    with np.errstate(over="ignore"):
        numbers = numbers + _GOLDEN_GAMMA
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))


def _share_by_field(draws: MaskDraws, fields: np.ndarray | None) -> MaskDraws:
    """Let all tokens of a value share one draw; tokens of the template are never selected."""
    if fields is None:
        raise ValueError(
            "`masking='field'` needs rows of a ColumnarDataset created with_value_fields=True: these rows do not "
            "record which field each token belongs to."
        )
    # All tokens of field f take the numbers of position f. Each field has a token, so every text is long enough.
    selection, replacement = (np.take_along_axis(numbers, fields, axis=1) for numbers in draws[:2])
    return MaskDraws(np.where(fields > 0, selection, 1.0), replacement, draws.random_token)


@dataclass
class ClickPromptCLMCollator:
    """Make batches for `ClickPromptForPACLM`: `feature_ids` (B, C), `input_ids` and `attention_mask` (B, T), and
    `labels` (B, T), which are the text's own tokens, with -100 at padding and at the first position.

    The model shifts the labels, so nothing predicts the first token. `Trainer` divides the loss by the number of
    labels and must not count it.

    Args:
        processor: The processor that encoded the rows. Its tokenizer must have a padding token.

    Raises:
        ValueError: If the tokenizer has no padding token.
    """

    processor: ClickPromptProcessor

    def __post_init__(self) -> None:
        if self.processor.tokenizer.pad_token_id is None:
            raise ValueError("`processor` must have a tokenizer with a padding token for PA-CLM.")

    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        batch = _text_batch(features, self.processor)
        if "token_labels" not in batch:
            batch["token_labels"] = next_tokens(batch["input_ids"], batch["attention_mask"])
        return _tensors({**batch, "labels": _row_labels(batch)})


def next_tokens(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Labels (B, T) of PA-CLM: all tokens of the text but the first; -100 elsewhere."""
    predicted = attention_mask == 1
    predicted[:, 0] = False
    return np.where(predicted, input_ids, -100)


def _text_batch(features: Any, processor: ClickPromptProcessor) -> dict[str, Any]:
    """As `_whole_batch`, of rows that must have text.

    Raises:
        ValueError: If they have none, or as `_whole_batch`.
    """
    batch = _whole_batch(features, processor)
    if "text_states" in batch and "token_labels" not in batch:
        raise ValueError(
            "`features` must have labels of tokens for pretraining: their states were cached for click prediction. "
            "Pass the collator to `DistinctTexts.of`."
        )
    if "input_ids" not in batch and "token_labels" not in batch:
        raise ValueError("`features` must have `input_ids` for pretraining: these rows were encoded without text.")
    return batch


def _row_labels(batch: dict[str, Any]) -> np.ndarray:
    """Token labels (B, T) of a batch's rows, from those of its rows or of its distinct texts.

    Rows with click label -100, which only pad the last batch of a process, get none.
    """
    labels = batch["token_labels"]
    if "text_rows" in batch:
        labels = labels[batch["text_rows"]]
    return np.where(batch["labels"][:, None] == -100, -100, labels) if "labels" in batch else labels


def _tensors(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What a model takes of a batch; states of texts stand in for their tokens."""
    names = ("feature_ids", "feature_vectors", "input_ids", "attention_mask", "text_rows", "labels")
    tensors = {name: torch.from_numpy(batch[name]) for name in names if name in batch}
    if "text_states" in batch:
        tensors["text_states"] = states_tensor(batch["text_states"])
    return tensors


def states_tensor(states: np.ndarray) -> torch.Tensor:
    """States as `TextStates.gather` returns them, as a tensor: int16 holds the bits of bf16, which numpy lacks."""
    tensor = torch.from_numpy(states)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor


_INPUTS = (
    *("feature_ids", "feature_vectors", "labels", "input_ids", "attention_mask", "value_fields", "row_ids", "epoch"),
    "teacher_logits",
)
# types that hold rows without being a list of them
_TABLES = (Mapping, pa.Table, pd.DataFrame)


def _whole_batch(features: Any, processor: ClickPromptProcessor) -> dict[str, Any]:
    """The padded batch as arrays: `ColumnarDataset` gives it whole, rows of other datasets are stacked.

    Raises:
        ValueError: If a row lacks inputs that the first one has, or an input has another shape than expected; the
            message names the input and the row.
    """
    parts = [features] if isinstance(features, _TABLES) else features
    if _is_whole_batch(parts):
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
        texts = [_integers(cell, "input_ids", row) for row, cell in enumerate(columns["input_ids"])]
        lengths = [len(text) for text in texts]
        masks = [np.ones(length, dtype=bool) for length in lengths]
        if "attention_mask" in columns:
            cells = enumerate(columns["attention_mask"])
            masks = [_integers(cell, "attention_mask", row, lengths[row]) == 1 for row, cell in cells]
        kept = np.asarray([mask.sum() for mask in masks])
        batch["attention_mask"] = (np.arange(kept.max()) < kept[:, None]).astype(np.int64)

        def padded(sequences: list[np.ndarray], padding: int) -> np.ndarray:
            whole = np.full(batch["attention_mask"].shape, padding, dtype=np.int64)
            whole[batch["attention_mask"] == 1] = np.concatenate([part[m] for part, m in zip(sequences, masks)])
            return whole

        batch["input_ids"] = padded(texts, processor.tokenizer.pad_token_id)
        if "value_fields" in columns:
            cells = enumerate(columns["value_fields"])
            shown = [_integers(cell, "value_fields", row, lengths[row]) for row, cell in cells]
            batch["value_fields"] = padded(shown, 0)
    if "teacher_logits" in columns:
        numbers = [_logit(cell, row) for row, cell in enumerate(columns["teacher_logits"])]
        batch["teacher_logits"] = np.asarray(numbers, dtype=np.float32)
    if "row_ids" in columns:
        batch["row_ids"] = np.asarray([int(cell) for cell in columns["row_ids"]])
        batch["epoch"] = columns["epoch"][0]
    return batch


def _is_whole_batch(parts: Any) -> bool:
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
