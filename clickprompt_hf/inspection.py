# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""A look inside a click model: what each side adds to the logit, what one field does, how much the prompts are read.

All of it for a model in evaluation mode, as `from_pretrained` gives it.

Shapes: B batch, T text tokens, L PLM layers, A attention heads, K prompt length.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import torch
from transformers import PreTrainedModel

from .modeling_clickprompt import ClickPromptForCTR, ClickPromptForCTROutput
from .processing_clickprompt import ClickPromptProcessor
from .schema_clickprompt import FieldSchema
from .values_clickprompt import read_time


def logit_parts(model: ClickPromptForCTR, outputs: ClickPromptForCTROutput) -> dict[str, torch.Tensor]:
    """What the sides add to the click logit, `"ctr"` and `"text"`, or the one that there is; their sum is the logit.

    With `fusion="weighted"` a part is the side's logit times its weight.

    Args:
        model: The model that gave the outputs.
        outputs: Its outputs, with logits (B, 1).

    Returns:
        Parts (B, 1) by side.
    """
    ctr, text = outputs.ctr_logits, outputs.text_logits
    if ctr is None or text is None:
        return {side: logits for side, logits in (("ctr", ctr), ("text", text)) if logits is not None}
    nothing = torch.zeros_like(ctr)
    return {"ctr": model.fusion(ctr, nothing), "text": model.fusion(nothing, text)}


@torch.no_grad()
def prompt_attention(
    model: PreTrainedModel,
    feature_ids: torch.Tensor,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""How much each PLM layer attends to the prompts: the attention that falls on them, mean over heads and text.

    \\(m_l = \frac{1}{A \cdot |T|} \sum_{a, t} \sum_{k \le K} \alpha_{l, a, t, k}\\), over the text positions t that
    are not padding. It is 1 where a layer reads nothing but the prompts and 0 where it does not read them. Where all
    that a position sees weighs the same, it is K / (K + T) in an encoder.

    Args:
        model: Any ClickPrompt model with prompts. Attends eagerly meanwhile: other kernels keep no weights.
        feature_ids: (B, C).
        input_ids: (B, T).
        attention_mask: (B, T), of the text; all ones when left out.

    Returns:
        (B, L), each in [0, 1].

    Raises:
        ValueError: If the model has no prompts.
    """
    num_prompts = model.config.num_prompts if model.config.use_plm else 0
    if not num_prompts:
        raise ValueError(
            f"`model` must have a PLM with prompts, got fusion={model.config.fusion!r} with "
            f"prompt_strategy={model.config.prompt_strategy!r}."
        )
    trunk: Any = model.base_model
    with _eager_attention(trunk.plm):
        outputs = trunk(feature_ids, input_ids, attention_mask, output_attentions=True, return_dict=True)
    text = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    masses = []
    for attention in outputs.attentions:
        # (B, A, T or K + T, K + T) -> (B, T): what the text positions, the last T, give to the prompts, the first K
        on_prompts = attention[:, :, -input_ids.shape[1] :, :num_prompts].sum(dim=-1).mean(dim=1)
        masses.append((on_prompts * text).sum(dim=1) / text.sum(dim=1))
    return torch.stack(masses, dim=1)


@contextmanager
def _eager_attention(plm: PreTrainedModel) -> Iterator[None]:
    before = plm.config._attn_implementation
    plm.set_attn_implementation("eager")
    try:
        yield
    finally:
        plm.set_attn_implementation(before)


@torch.no_grad()
def what_if(
    model: ClickPromptForCTR,
    processor: ClickPromptProcessor,
    row: Mapping[str, Any],
    column: str,
    values: Sequence[Any],
) -> list[float]:
    """The click probability of `row` with each of `values` in the place of its value of one field.

    Args:
        model: The model.
        processor: Its processor.
        row: A raw row: values by column.
        column: The field that changes, by its column's name.
        values: Raw values, as they may stand in a row.

    Raises:
        ValueError: If the schema has no such column.
    """
    _field_index(processor, column)
    if not values:
        return []
    inputs = processor([{**row, column: value} for value in values], return_tensors="pt").to(model.device)
    inputs.pop("labels", None)
    return torch.sigmoid(model(**inputs).logits.float()).squeeze(-1).tolist()


def frequent_values(processor: ClickPromptProcessor, column: str, limit: int = 10) -> list[Any]:
    """Values that training rows had in a field, the most frequent first; of a numeric one, bucket boundaries.

    Missing is none of them. They may stand in a row as they are.

    Args:
        processor: The processor, whose vocabularies are ordered by frequency.
        column: The field, by its column's name.
        limit: Largest number of values.

    Raises:
        ValueError: If the schema has no such column.
    """
    field_index = _field_index(processor, column)
    kind = processor.schema.fields[field_index].kind
    if kind == "numeric":
        boundaries = processor.boundaries[field_index]
        return boundaries[:: max(1, -(-len(boundaries) // limit))]
    # keys of other kinds are no values
    vocabulary = processor.vocabularies[field_index] if kind in ("categorical", "multi_valued") else []
    known = [value for value in vocabulary[: limit + 1] if value][:limit]
    return [[value] for value in known] if kind == "multi_valued" else known


def other_times(member: FieldSchema, value: Any) -> list[str]:
    """Times that differ from `value` in the part of a time that a field reads, and as little as can be in the rest.

    Eight hours of the same day, the seven days from then on, or the twelve months of the same year; written as the
    column's times are.

    Args:
        member: A field of kind `"hour"`, `"weekday"` or `"month"`.
        value: A raw value of its column; noon of some day where it names no time.
    """
    moment = read_time(value, member.time_format) or datetime(2024, 1, 1, 12)
    if member.kind == "hour":
        moments = [moment.replace(hour=hour) for hour in range(0, 24, 3)]
    elif member.kind == "weekday":
        moments = [moment + timedelta(days=days) for days in range(7)]
    else:
        # every month has that day
        moments = [moment.replace(month=month, day=min(moment.day, 28)) for month in range(1, 13)]
    return [moment.strftime(member.time_format or "%Y-%m-%d %H:%M:%S") for moment in moments]


def _field_index(processor: ClickPromptProcessor, column: str) -> int:
    columns = processor.schema.columns
    if column not in columns:
        raise ValueError(f"`column` must be one of the schema's, {columns}, got {column!r}.")
    return columns.index(column)
