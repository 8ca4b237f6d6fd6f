# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From rows to padded, and for PA-MLM masked, batches of tensors.

All collators take the whole batches of `ColumnarDataset` and the rows of a `datasets.Dataset` mapped through the
processor.

Shapes: B batch, C columns of ids, T text tokens of the longest row of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..processing_clickprompt import ClickPromptProcessor

Masking = Literal["token", "field"]


@dataclass
class ClickPromptCollator:
    """Batches for `ClickPromptForCTR`: `feature_ids` (B, C), with text `input_ids` and `attention_mask` (B, T), and
    `labels` (B,) where the rows have them.

    Args:
        processor: The processor that made the rows.
    """

    processor: ClickPromptProcessor

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = _arrays(features, self.processor)
        names = ("feature_ids", "input_ids", "attention_mask", "labels")
        return {name: torch.from_numpy(batch[name]) for name in names if name in batch}


@dataclass
class ClickPromptMLMCollator:
    """Batches for `ClickPromptForPAMLM`: text masked, ids intact, `labels` (B, T) the masked tokens, else -100.

    Each text token is chosen with probability `mlm_probability`; of the chosen, 80 % become the mask token, 10 % a
    random token that is not special, and 10 % stay. Special tokens and padding are never chosen. With
    `masking="field"` a field is chosen instead, with the same probability, and all tokens of its value share its lot;
    words of the template are never chosen then.

    The choice is a function of (seed, epoch, row, position) for rows of a `ColumnarDataset`: neither the other rows of
    the batch, nor prefetching, nor resuming, nor the number of processes changes it. Rows of other data sets have no
    identity: torch's global generator draws for them.

    Args:
        processor: The processor that made the rows; its tokenizer must have a mask and a padding token.
        mlm_probability: Share of text tokens, or of values, to choose, in (0, 1).
        masking: `"token"`, as in the paper, or `"field"`, which needs rows of a `ColumnarDataset` made
            `with_value_fields`.
        seed: Draws the choice.

    Raises:
        ValueError: If the tokenizer lacks a token, the probability is out of range, or `masking` is unknown or has no
            fields to go by.
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
        self._special_ids = np.asarray(sorted(set(tokenizer.all_special_ids)))
        self._ordinary_ids = np.setdiff1d(np.arange(len(tokenizer)), self._special_ids)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = _arrays(features, self.processor)
        input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
        chosen, kind, replacement = self._draws(batch, input_ids.shape)
        fields = self._fields(batch)
        if fields is not None:
            # every token reads the draws of its field's number in the place of its own
            chosen, kind = (np.take_along_axis(draws, fields, axis=1) for draws in (chosen, kind))
            chosen = np.where(fields > 0, chosen, 1.0)
        masked = (chosen < self.mlm_probability) & (attention_mask == 1) & ~np.isin(input_ids, self._special_ids)
        if "labels" in batch:
            # rows that only fill up a batch
            masked &= (batch["labels"] != -100)[:, None]
        random_ids = self._ordinary_ids[(replacement * len(self._ordinary_ids)).astype(np.int64)]
        corrupted = np.where(kind < 0.8, self.processor.tokenizer.mask_token_id, random_ids)
        corrupted = np.where(kind < 0.9, corrupted, input_ids)
        arrays = {
            "feature_ids": batch["feature_ids"],
            "input_ids": np.where(masked, corrupted, input_ids),
            "attention_mask": attention_mask,
            "labels": np.where(masked, input_ids, -100),
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _fields(self, batch: dict[str, Any]) -> np.ndarray | None:
        """(B, T) numbers of the fields whose values the tokens show, 0 for none; `None` where tokens are masked."""
        if self.masking == "token":
            return None
        if "value_fields" not in batch:
            raise ValueError("`masking='field'` needs rows of a ColumnarDataset made with_value_fields=True.")
        return batch["value_fields"]

    def _draws(self, batch: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
        """Three uniform numbers in [0, 1) for each token, (3, B, T): whether, how, and by what it is replaced."""
        if "row_ids" not in batch:
            return torch.rand(3, *shape, dtype=torch.float64).numpy()
        start = _mixed(_mixed(np.uint64(self.seed)) + np.uint64(batch["epoch"]))
        rows = _mixed(start + batch["row_ids"].astype(np.uint64))
        # (3, 1, T): three numbers a position, which do not depend on T
        counters = np.arange(3 * shape[1], dtype=np.uint64).reshape(shape[1], 3).T[:, None]
        bits = _mixed(rows[None, :, None] + counters * np.uint64(0x9E3779B97F4A7C15))
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass
class ClickPromptCLMCollator:
    """Batches for `ClickPromptForPACLM`: `feature_ids` (B, C), `input_ids` and `attention_mask` (B, T), and `labels`
    (B, T), the text's own tokens, -100 at padding and at the first position. The model shifts them, so that nothing
    predicts the first token; `Trainer` counts the labels to divide the loss by, and must not count it.

    Args:
        processor: The processor that made the rows; its tokenizer must have a padding token.

    Raises:
        ValueError: If it has none.
    """

    processor: ClickPromptProcessor

    def __post_init__(self) -> None:
        if self.processor.tokenizer.pad_token_id is None:
            raise ValueError("`processor` must have a tokenizer with a padding token for PA-CLM.")

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = _arrays(features, self.processor)
        predicted = batch["attention_mask"] == 1
        if "labels" in batch:
            # rows that only fill up a batch
            predicted &= (batch["labels"] != -100)[:, None]
        predicted[:, 0] = False
        names = ("feature_ids", "input_ids", "attention_mask")
        arrays = {**{name: batch[name] for name in names}, "labels": np.where(predicted, batch["input_ids"], -100)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _mixed(numbers: Any) -> Any:
    """SplitMix64's output function (Steele et al. 2014): 64-bit integers to well mixed ones, wrapping around."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return numbers ^ (numbers >> np.uint64(31))


def _arrays(features: Sequence[dict[str, Any]], processor: ClickPromptProcessor) -> dict[str, Any]:
    """The features as arrays, texts padded: a batch that is whole already, or single rows."""
    first = features[0]
    if np.ndim(first["feature_ids"]) == 2:
        return dict(first)
    batch: dict[str, Any] = {"feature_ids": np.asarray([np.asarray(row["feature_ids"]) for row in features])}
    if "labels" in first:
        batch["labels"] = np.asarray([int(row["labels"]) for row in features])
    if "input_ids" in first and processor.reads_text:
        texts = [np.asarray(row["input_ids"], dtype=np.int64) for row in features]
        positions = np.arange(max(len(text) for text in texts))
        lengths = np.asarray([len(text) for text in texts])
        batch["attention_mask"] = (positions < lengths[:, None]).astype(np.int64)
        batch["input_ids"] = np.full((len(texts), len(positions)), processor.tokenizer.pad_token_id, dtype=np.int64)
        batch["input_ids"][batch["attention_mask"] == 1] = np.concatenate(texts)
    if "row_ids" in first:
        batch["row_ids"] = np.asarray([int(row["row_ids"]) for row in features])
        batch["epoch"] = first["epoch"]
    return batch
