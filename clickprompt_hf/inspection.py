# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Looks inside a click model: what each side adds to the logit, what one field does, how much attention prompts get.

Models must be in evaluation mode, which is what `from_pretrained` returns.

Shapes: B batch, T text tokens, L PLM layers, A attention heads, K prompt length.
"""

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import torch
from transformers import PreTrainedModel

from .click_probabilities import corrected_probabilities
from .modeling_clickprompt import ClickPromptForCTR, ClickPromptForCTROutput
from .processing_clickprompt import ClickPromptProcessor
from .recent_texts import RecentTexts
from .schema_clickprompt import FieldSchema, named_parts
from .values_clickprompt import read_time


def logit_parts(model: ClickPromptForCTR, outputs: ClickPromptForCTROutput) -> dict[str, torch.Tensor]:
    """Split the click logit into what each side adds to it.

    With `fusion="weighted"`, a part is the side's logit times its weight.

    Args:
        model: The model that computed the outputs.
        outputs: Its outputs, with logits (B, 1).

    Returns:
        Parts (B, 1) by side, `"ctr"` and `"text"` or whichever exists. They sum to the logit.
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
    feature_vectors: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Measure the share of each PLM layer's attention that goes to the prompts, mean over heads and text positions.

    \\(m_l = \frac{1}{A \cdot |T|} \sum_{a, t} \sum_{k \le K} \alpha_{l, a, t, k}\\), over the text positions t that
    are not padding. It is 1 if a layer reads only the prompts and 0 if it ignores them. With uniform attention, it is
    K / (K + T) in an encoder.

    Args:
        model: Any ClickPrompt model with prompts. It may serve other threads meanwhile.
        feature_ids: (B, C).
        input_ids: (B, T).
        attention_mask: (B, T), 1 at text, 0 at padding; `None` for all ones.
        feature_vectors: (B, S), for models with fields of vectors.

    Returns:
        (B, L), each in [0, 1]; 0 in layers below the prompts.

    Raises:
        ValueError: If the model has no prompts.
    """
    num_prompts = model.config.num_prompts if model.config.use_plm else 0
    if not num_prompts:
        raise ValueError(
            f"`model` must have a PLM with prompts, got fusion={model.config.fusion!r} with "
            f"prompt_strategy={model.config.prompt_strategy!r}."
        )
    base: Any = model.base_model
    trunk: Any = _with_eager_attention(base)
    options = {"output_attentions": True, "return_dict": True, "feature_vectors": feature_vectors}
    outputs = trunk(feature_ids, input_ids, attention_mask, **options)
    text = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    # layers below the prompts have none to attend to
    masses = [text.new_zeros(len(text), dtype=torch.float32)] * model.config.num_lower_layers
    for attention in outputs.attentions[model.config.num_lower_layers :]:
        # (B, A, T or K + T, K + T) -> (B, T): attention of the text, the last T positions, to the prompts, the first K
        on_prompts = attention[:, :, -input_ids.shape[1] :, :num_prompts].sum(dim=-1).mean(dim=1)
        masses.append((on_prompts * text).sum(dim=1) / text.sum(dim=1))
    return torch.stack(masses, dim=1)


def _with_eager_attention(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model's modules and configuration, but no tensor; the copy attends eagerly.

    Only eager attention returns its weights, and the kernels of a model that others use must not change.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    copied.set_attn_implementation("eager")
    return copied


@torch.no_grad()
def what_if(
    model: ClickPromptForCTR,
    processor: ClickPromptProcessor,
    row: Mapping[str, Any],
    column: str,
    values: Sequence[Any],
    recent_texts: RecentTexts | None = None,
) -> list[float]:
    """Compute the click probabilities of `row` with one field's value replaced by each of `values`.

    Args:
        model: The model.
        processor: The model's processor.
        row: A raw row: values by column.
        column: Column of the field that changes.
        values: Raw values of the column.
        recent_texts: States of texts that earlier calls have read. By default, none.

    Raises:
        ValueError: If `column` is not in the schema.
    """
    _field_index(processor, column)
    if not values:
        return []
    inputs = dict(processor([{**row, column: value} for value in values], return_tensors="pt").to(model.device))
    inputs.pop("labels", None)
    if recent_texts is not None:
        inputs = recent_texts.shared(model, inputs)
    return corrected_probabilities(model(**inputs).logits, model.config).squeeze(-1).tolist()


def frequent_values(processor: ClickPromptProcessor, column: str, limit: int = 10) -> list[Any]:
    """List values that a field had in the training rows, most frequent first; for a numeric field, bucket boundaries.

    The missing value is left out. The others are valid values of a raw row.

    Args:
        processor: The processor, whose vocabularies are ordered by frequency.
        column: Column of the field.
        limit: Largest number of values to return.

    Raises:
        ValueError: If `column` is not in the schema.
    """
    field_index = _field_index(processor, column)
    kind = processor.schema.fields[field_index].kind
    if kind == "numeric":
        numbers = list(dict.fromkeys(map(_without_margin, processor.boundaries[field_index])))
        return numbers[:: max(1, -(-len(numbers) // limit))]
    # vocabularies of other kinds hold keys, not values
    vocabulary = processor.vocabularies[field_index] if kind in ("categorical", "multi_valued") else []
    known = [value for value in vocabulary[: limit + 1] if value][:limit]
    return [[value] for value in known] if kind == "multi_valued" else known


def _without_margin(boundary: float) -> float:
    """The value next to a boundary, which the boundary stands for: 5 for 5.000000000000001, 9.99 for 9.98999881."""
    short = float(f"{boundary:.6g}")
    is_beside = abs(short - boundary) <= 2.0**-22 * abs(boundary)
    # 2e-308 stands for 0
    return round(short if is_beside else float(f"{boundary:.15g}"), 300)


def unknown_fields(processor: ClickPromptProcessor, row: Mapping[str, Any]) -> list[str]:
    """Display names of the fields with ids whose value in `row` the training rows did not have.

    Args:
        processor: The processor.
        row: A raw row: values by column.
    """
    fields = processor.schema.fields
    with_ids = [(f, field) for f, field in enumerate(fields) if field.num_columns]
    ids = [processor.encode_values(f, [row[field.column]]) for f, field in with_ids]
    return [field.name for (_, field), found in zip(with_ids, ids) if not (found > 0).any()]


def other_times(field: FieldSchema, value: Any) -> list[str]:
    """List times that differ from `value` in the part of a time that the field reads, and little else.

    They are eight hours of the same day, the next seven days, or the twelve months of the same year, in the column's
    format.

    Args:
        field: A field of kind `"hour"`, `"weekday"` or `"month"`.
        value: A raw value of the field's column; a fixed noon replaces a value that is not a time.
    """
    moment = read_time(value, field.time_format) or datetime(2024, 1, 1, 12)
    if field.kind == "hour":
        moments = [moment.replace(hour=hour) for hour in range(0, 24, 3)]
    elif field.kind == "weekday":
        moments = [moment + timedelta(days=days) for days in range(7)]
    else:
        # every month has 28 days
        moments = [moment.replace(month=month, day=min(moment.day, 28)) for month in range(1, 13)]
    return [moment.strftime(field.time_format or "%Y-%m-%d %H:%M:%S") for moment in moments]


def _field_index(processor: ClickPromptProcessor, column: str) -> int:
    schema = processor.schema
    columns = list(dict.fromkeys(field.column for field in schema.fields if not named_parts(field)))
    if column not in columns:
        raise ValueError(f"`column` must be one of the schema's, {columns}, got {column!r}.")
    return schema.columns.index(column)
