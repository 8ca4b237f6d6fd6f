# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Equal rows of ids and vectors in a batch, whose interaction vector and prompts are the same.

This file ships with every checkpoint, so it imports only torch.

Shapes: B batch, D distinct rows of ids and vectors, C columns of ids, S entries of all vectors.
"""

from typing import Any

import torch

_FEWEST_ROWS = 2
_LARGEST = 2**62


def with_distinct_features(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Let a model compute equal rows of ids and vectors once, if at most half are distinct.

    Args:
        model: A ClickPrompt model.
        inputs: Its inputs, with `feature_ids` (B, C) and, with fields of vectors, `feature_vectors` (B, S).

    Returns:
        The inputs with `feature_ids` (D, C), `feature_vectors` (D, S) and `feature_rows` (B,), or unchanged if that
        saves too little.
    """
    ids, vectors = inputs["feature_ids"], inputs.get("feature_vectors")
    # models of earlier versions, loaded with a checkpoint's own code, lack `num_lower_layers` and `feature_rows`
    if len(ids) < _FEWEST_ROWS or not model.config.use_ctr or not hasattr(model.config, "num_lower_layers"):
        return inputs
    if vectors is None:
        rows = distinct_rows(ids)
    else:
        # Equal bits, also of NaN. Rows with different ids need no such comparison.
        rows = None if distinct_rows(ids) is None else distinct_rows(torch.cat([ids, _bits(vectors)], dim=1))
    if rows is None:
        return inputs
    first_rows, feature_rows = rows
    shared = {"feature_ids": ids[first_rows], "feature_rows": feature_rows}
    return {**inputs, **shared, **({} if vectors is None else {"feature_vectors": vectors[first_rows]})}


def _bits(vectors: torch.Tensor) -> torch.Tensor:
    """The bits of floating-point numbers, as int64."""
    return vectors.float().contiguous().view(torch.int32).to(torch.int64)


def distinct_rows(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Find equal rows.

    Args:
        ids: (B, C) int64.

    Returns:
        (D,) a row of each kind, and (B,) the kind of each row; `None` if more than half of the rows are distinct.
    """
    hashes, kinds = torch.unique(row_hashes(ids), return_inverse=True)
    if 2 * len(hashes) > len(ids):
        return None
    rows = torch.empty_like(hashes).scatter_(0, kinds, torch.arange(len(ids), device=ids.device))
    # Hashes of different rows may collide.
    return (rows, kinds) if torch.equal(ids[rows][kinds], ids) else None


def row_hashes(ids: torch.Tensor) -> torch.Tensor:
    """Hash rows of integers (B, C) to (B,) int64. Sorting hashes takes a tenth of the time of sorting rows."""
    factors = torch.randint(_LARGEST, (ids.shape[1],), generator=torch.Generator().manual_seed(0))
    return (ids * factors.to(ids.device)).sum(dim=1)
