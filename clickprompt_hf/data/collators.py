# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Collators: turn rows into padded batches of tensors, masked for PA-MLM.

All collators take the whole batches of a `ColumnarDataset`, or rows that the processor has encoded: of a
`datasets.Dataset` of any format that was mapped batched or row by row, or mappings of lists, arrays or tensors. Where
`feature_ids` has two dimensions, the mapping holds several rows.

Shapes: B batch, C columns of ids, T text tokens of the longest row of a batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..input_checks import check_click_labels
from ..processing_clickprompt import ClickPromptProcessor
from .random_draws import MaskDraws, draw_masks
from .row_batches import is_whole_batch, whole_batch

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
        batch = whole_batch(features, self.processor)
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
    """Make batches without a processor: a collator of transformers stacks inputs of equal or padded length.

    Args:
        collator: `default_data_collator` or a function like it.

    Raises:
        ValueError: When called with a whole batch of a `ColumnarDataset`, or with rows that `collator` cannot stack.
    """

    collator: Callable[[Any], dict[str, Any]]

    def __call__(self, features: Any) -> dict[str, Any]:
        reason: Exception | None = None
        if not is_whole_batch(features):
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
        draws: MaskDraws,
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
    """Like `whole_batch`, for rows that must have text.

    Raises:
        ValueError: If they have none, or as in `whole_batch`.
    """
    batch = whole_batch(features, processor)
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
    """The model inputs of a batch, as tensors; states of texts replace their tokens."""
    names = ("feature_ids", "feature_vectors", "input_ids", "attention_mask", "text_rows", "labels")
    tensors = {name: torch.from_numpy(batch[name]) for name in names if name in batch}
    if "text_states" in batch:
        tensors["text_states"] = states_tensor(batch["text_states"])
    return tensors


def states_tensor(states: np.ndarray) -> torch.Tensor:
    """States as `TextStates.gather` returns them, as a tensor: int16 holds the bits of bf16, which numpy lacks."""
    tensor = torch.from_numpy(states)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.int16 else tensor
