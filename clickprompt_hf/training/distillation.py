# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Distillation (Hinton et al. 2015): a click model learns from clicks and from the logits of a finished model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..click_heads import click_loss
from ..data.collators import states_tensor
from ..data.columnar import ColumnarDataset
from ..data.number_ranges import NumberRange
from ..data.text_states import fingerprint_of

TEMPERATURES = NumberRange(0, 100, above=True)
WEIGHTS = NumberRange(0, 1)


def distillation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    teacher_logits: torch.Tensor,
    temperature: float = 1.0,
    weight: float = 0.5,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    r"""Compute the mean loss, (), of a student that learns from clicks and from a teacher.

    For each row, with logit z, click y, teacher's logit t, temperature T and weight w,

    \\((1 - w) \, \mathrm{BCE}(z, y) + w \, T^2 \, \mathrm{BCE}(z / T, \sigma(t / T))\\)

    (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531). T² keeps the
    gradient of the second term, \\(w \, T \, (\sigma(z / T) - \sigma(t / T))\\), at the scale of the first one. The
    second term does not reach 0: its least value is T² times the entropy of the teacher's probability.

    Args:
        logits: (B, 1), the student's, before the sigmoid.
        labels: (B,), clicks, 0 or 1; -100 excludes a row.
        teacher_logits: (B,) or (B, 1), before the sigmoid. They get no gradient.
        temperature: T, above 0. Above 1 it softens both probabilities.
        weight: w, the share of the teacher's term, in [0, 1]; with 0, the loss is `click_loss`.
        num_items_in_batch: Number of rows to divide the loss by; `None` for this batch's.

    Raises:
        ValueError: If `temperature` or `weight` is out of range, or there is not one teacher's logit per row.
    """
    TEMPERATURES.check("temperature", temperature)
    WEIGHTS.check("weight", weight)
    if teacher_logits.numel() != len(logits):
        raise ValueError(
            f"`teacher_logits` must have one logit per row, ({len(logits)},), got shape {tuple(teacher_logits.shape)}."
        )
    logits = logits.float()
    teacher_logits = teacher_logits.detach().reshape(-1).to(logits)
    click_term = click_loss(logits, labels, num_items_in_batch)
    labels = labels.to(logits.device)
    softened = torch.where(labels == -100, -100.0, torch.sigmoid(teacher_logits / temperature))
    teacher_term = click_loss(logits / temperature, softened, num_items_in_batch)
    return (1 - weight) * click_term + weight * temperature**2 * teacher_term


@torch.inference_mode()
def click_logits(
    model: Any,
    rows: ColumnarDataset,
    batch_size: int = 128,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Compute a click model's fused logits, (N,) float32, of encoded rows, as a teacher's.

    Rows of similar text length share a batch, which saves padding.

    Args:
        model: A `ClickPromptForCTR` on any device. It is left in evaluation mode.
        rows: N rows, encoded by the model's processor, with text if the model has a PLM. They may have cached states
            of their texts, which are used if they are those of the model.
        batch_size: Rows per batch, at least 1.
        dtype: Type of matrix products under autocast, e.g. `torch.bfloat16`; `None` for none.
        on_progress: Called with the number of rows after each batch.

    Raises:
        ValueError: If a logit is NaN or infinite.
    """
    model.eval()
    if rows.cached_texts is not None:
        states = rows.cached_texts.states
        if not model.config.num_lower_layers or states.fingerprint != fingerprint_of(model, states.dtype):
            rows = replace(rows, cached_texts=None)
    order = np.arange(len(rows))
    if rows.tables is not None:
        # longest first: a batch that does not fit in memory fails at once
        order = np.argsort(-rows.text_lengths(), kind="stable")
    logits = np.empty(len(rows), dtype=np.float32)
    names = ("feature_ids", "feature_vectors", "input_ids", "attention_mask", "text_rows")
    with torch.autocast(model.device.type, dtype, enabled=dtype is not None):
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            (batch,) = rows.__getitems__(chosen.tolist())
            inputs = {name: torch.from_numpy(batch[name]).to(model.device) for name in names if name in batch}
            if "text_states" in batch:
                inputs["text_states"] = states_tensor(batch["text_states"]).to(model.device)
            logits[chosen] = model(**inputs).logits.float().squeeze(-1).cpu().numpy()
            if on_progress is not None:
                on_progress(len(chosen))
    if not np.isfinite(logits).all():
        raise ValueError(
            f"The logits of {model.name_or_path or type(model).__name__} must be finite, got NaN or infinity: its "
            "weights are not finite, or too large for its type."
        )
    return logits
