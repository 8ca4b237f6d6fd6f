# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of raw rows in memory."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ..click_probabilities import corrected_probabilities
from ..data.arrow_cells import decoded
from ..data.columnar import encode_tables
from ..data.token_tables import TokenTables
from ..data.vector_columns import FeatureVectors
from ..distinct_rows import row_hashes, with_distinct_features
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import RecentTexts
from ..unknown_values_clickprompt import UnknownValues
from ..unread_cells_clickprompt import UnreadCells


@torch.inference_mode()
def score_table(
    table: pa.Table,
    processor: ClickPromptProcessor,
    model: Any,
    batch_size: int,
    bf16: bool = False,
    row_offset: int = 0,
    unknown: UnknownValues | None = None,
    unread: Sequence[UnreadCells] = (),
    recent_texts: RecentTexts | None = None,
) -> np.ndarray:
    """Predict P(click) of each row of `table`, (N,) float64.

    As in training, each distinct value is encoded once and each distinct clause tokenized once. Rows are batched by
    text length, which saves padding, and rows of one text share a batch. PLM layers that see the text alone run once
    per text.

    Args:
        table: At least one row, with the columns of the processor's schema, or with the keys of its joined tables
            instead of their columns. Other columns are ignored.
        processor: The model's processor.
        model: A `ClickPromptForCTR` in evaluation mode.
        batch_size: Rows per batch.
        bf16: Whether to run the model under bf16 autocast.
        row_offset: Number of the first row in messages.
        unknown: Counts values that training rows did not have, and keys that joined tables lack. By default, this call
            counts its own and warns about columns of which it finds hardly any known value, and about tables that lack
            keys.
        unread: Per field, counts cells that are not numbers or times. By default, this call warns about its own.
        recent_texts: States of texts that earlier calls have read. By default, this call keeps its own.

    Raises:
        ValueError: If a column is missing, holds lists or mappings although its field is single-valued, or holds cells
            that are not lists of single values although its field is multi-valued or not vectors although it is one
            of vectors, or the model's probabilities are NaN.
        TypeError: If `table` is not an Arrow table.
    """
    if not isinstance(table, pa.Table):
        raise TypeError(
            f"`table` must be an Arrow table, got {type(table).__name__}: pa.Table.from_pandas makes one of a pandas "
            "data frame."
        )
    counted = UnknownValues(processor) if unknown is None else unknown
    table = with_joined_columns(table, processor, counted)
    _check_types(table.schema, processor)
    columns = [decoded(table.column(name)) for name in processor.read_columns]
    fields = pa.table(columns, names=processor.read_columns)
    with_text = model.config.use_plm
    arrays, tables, vectors = encode_tables(
        [fields], processor, with_text, row_offset=row_offset, unknown=[counted], unread=unread
    )
    if unknown is None:
        counted.warn()
    recent_texts = RecentTexts() if recent_texts is None else recent_texts
    order = _scoring_order(arrays, tables)
    scored = []
    # One context for all batches: autocast casts the weights once per context.
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for batch in _batches(arrays, tables, vectors, order, batch_size):
            inputs = {name: torch.from_numpy(array).to(model.device) for name, array in batch.items()}
            inputs = recent_texts.shared(model, with_distinct_features(model, inputs))
            scored.append(corrected_probabilities(model(**inputs).logits, model.config).squeeze(-1))
    if np.isnan(scores := torch.cat(scored).cpu().numpy()).any():
        raise ValueError(
            f"The probabilities of {model.name_or_path or type(model).__name__} must be numbers, got NaN: its weights "
            "are not finite, or too large for its type."
        )
    probabilities = np.empty(len(table))
    probabilities[order] = scores
    return probabilities


def _scoring_order(arrays: Mapping[str, np.ndarray], tables: TokenTables | None) -> np.ndarray:
    """The rows in the order in which they are scored, (N,): by length and text if they have text."""
    if tables is None:
        return np.arange(len(arrays["feature_ids"]))
    # Longest first: a batch that does not fit in memory fails at once.
    hashes = row_hashes(torch.from_numpy(arrays["clause_ids"].astype(np.int64))).numpy()
    return np.lexsort((hashes, -tables.lengths(arrays["clause_ids"])))


def _batches(
    arrays: Mapping[str, np.ndarray],
    tables: TokenTables | None,
    vectors: FeatureVectors | None,
    order: np.ndarray,
    batch_size: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Model inputs of the rows in `order` (N,), batch by batch, from what `encode_tables` returns."""
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = {"feature_ids": arrays["feature_ids"][rows].astype(np.int64)}
        if vectors is not None:
            batch["feature_vectors"] = vectors.gather(arrays["vector_ids"][rows])
        if tables is not None:
            batch["input_ids"], batch["attention_mask"] = tables.assemble(arrays["clause_ids"][rows])
        yield batch


def with_joined_columns(
    table: pa.Table, processor: ClickPromptProcessor, unknown: UnknownValues | None = None
) -> pa.Table:
    """The table with the columns of the processor's joined tables that it lacks.

    Args:
        table: Raw rows.
        processor: The processor.
        unknown: Counts keys that joined tables lack; `None` to count nothing.

    Raises:
        ValueError: If the table lacks a column that the processor reads, and the key of a joined table that has it.
    """
    columns = dict(zip(table.column_names, table.columns))
    lost_keys = () if unknown is None else unknown.lost_keys
    for name, cells in processor.joined_columns(columns, "The table", lost_keys).items():
        table = table.append_column(name, pa.chunked_array([_array_of(cells)]))
    return table


def _array_of(cells: list) -> pa.Array:
    if any(isinstance(cell, np.datetime64) for cell in cells):
        # Arrow reads no days and mixes no units
        return pa.array(np.array(cells, "datetime64"))
    try:
        return pa.array(cells)
    except OverflowError:
        # Arrow infers signed integers
        return pa.array(cells, pa.uint64())


def _check_types(types: pa.Schema, processor: ClickPromptProcessor) -> None:
    for field in processor.schema.fields:
        if field.kind == "multi_valued" or field.is_vector or field.column not in processor.read_columns:
            continue
        if pa.types.is_nested(found := types.field(field.column).type):
            raise ValueError(
                f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, got cells of type "
                f"{found}."
            )
