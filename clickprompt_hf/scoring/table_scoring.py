# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows in memory to click probabilities."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..data.columnar import encode_tables
from ..encoding_clickprompt import check_columns
from ..processing_clickprompt import ClickPromptProcessor


@torch.inference_mode()
def score_table(
    table: pa.Table, processor: ClickPromptProcessor, model: Any, batch_size: int, bf16: bool = False
) -> np.ndarray:
    """P(click) of each row of `table`, (N,) float64, in order.

    As in training, each distinct value is encoded and each distinct clause tokenized once. Rows whose texts are about
    equally long share a batch, so that little of it is padding.

    Args:
        table: At least one row; has the columns of the processor's schema, and may have others.
        processor: That of the model.
        model: A `ClickPromptForCTR` in evaluation mode.
        batch_size: Rows of a batch.
        bf16: Whether to multiply in bf16, by autocast.

    Raises:
        ValueError: If a column is missing, or holds lists or mappings where its field has single values.
    """
    check_columns(processor.read_columns, table.column_names, "The table")
    _check_types(table.schema, processor)
    columns = [_decoded(table.column(name)) for name in processor.read_columns]
    fields = pa.table(columns, names=processor.read_columns)
    arrays, tables = encode_tables([fields], processor, with_text=model.config.use_plm)
    feature_ids, order = arrays["feature_ids"], np.arange(len(table))
    if tables is not None:
        # the longest first: what does not fit in memory fails at once
        order = np.argsort(-tables.lengths(arrays["clause_ids"]), kind="stable")
    scored = []
    # one context for all batches: autocast casts the weights once in each
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(table), batch_size):
            rows = order[start : start + batch_size]
            batch = {"feature_ids": feature_ids[rows].astype(np.int64)}
            if tables is not None:
                batch["input_ids"], batch["attention_mask"] = tables.assemble(arrays["clause_ids"][rows])
            inputs = {name: torch.from_numpy(array).to(model.device) for name, array in batch.items()}
            scored.append(model(**inputs).logits.float().sigmoid().squeeze(-1))
    probabilities = np.empty(len(table))
    probabilities[order] = torch.cat(scored).cpu().numpy()
    return probabilities


def _check_types(types: pa.Schema, processor: ClickPromptProcessor) -> None:
    for member in processor.schema.fields:
        if member.kind == "multi_valued" or member.column not in processor.read_columns:
            continue
        if pa.types.is_nested(found := types.field(member.column).type):
            raise ValueError(
                f"Column {member.column!r} of kind {member.kind!r} must hold one value a row, got cells of type "
                f"{found}."
            )


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values in the place of a dictionary, which may hold those of the whole file."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
