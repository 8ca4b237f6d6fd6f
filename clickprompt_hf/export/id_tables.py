# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Id embedding tables in fewer bytes, converted back to floats after the rows of a batch were looked up.

Shapes: N ids of all fields, E embedding size, G groups of rows that share a scale.
"""

from typing import Literal, get_args

import torch
from torch import nn

from ..layers_ctr import FeatureEmbedding

IdTableDtype = Literal["float32", "bfloat16", "int8"]
# Weights per scale, whose four bytes add an eighth to theirs. Rows with at least this many have a scale each.
_WEIGHTS_PER_SCALE = 32
# Rows converted at once, which bounds the memory that converting takes.
_ROWS_PER_BLOCK = 2**18


class Bfloat16Table(nn.Module):
    """An embedding table in bfloat16: half of the bytes, weights within 0.4 % of theirs in float32.

    Args:
        weight: The table (N, E) in float32. It does not change.
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight = nn.Buffer(weight.detach().to(torch.bfloat16))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of the table (...) int64 to embeddings (..., E) in float32."""
        return nn.functional.embedding(rows, self.weight).float()

    def dequantized(self) -> torch.Tensor:
        """The table (N, E) in float32 that look-ups see."""
        return self.weight.float()


class Int8Table(nn.Module):
    r"""An embedding table in int8 with scales: about a quarter of the bytes.

    A weight w becomes \\(\mathrm{round}(w / s)\\) with \\(s = \max |w| / 127\\) over its group: its row, or as many
    consecutive rows as hold 32 weights. So it changes by at most s / 2.

    Args:
        weight: The table (N, E) in float32. It does not change.
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        num_rows, width = weight.shape
        self.rows_per_scale = -(-_WEIGHTS_PER_SCALE // width)
        self.weight = nn.Buffer(torch.empty(num_rows, width, dtype=torch.int8))
        self.scale = nn.Buffer(torch.empty(-(-num_rows // self.rows_per_scale), 1))
        block = _ROWS_PER_BLOCK // self.rows_per_scale * self.rows_per_scale
        for start in range(0, num_rows, block):
            self._quantize(start, weight.detach()[start : start + block])

    def _quantize(self, start: int, weight: torch.Tensor) -> None:
        """Fill in rows from `start` on, which is the first of a group."""
        largest = weight.abs().amax(dim=1)
        missing = -len(largest) % self.rows_per_scale
        groups = nn.functional.pad(largest, (0, missing)).view(-1, self.rows_per_scale)
        scale = groups.amax(dim=1, keepdim=True) / 127
        first = start // self.rows_per_scale
        self.scale[first : first + len(scale)] = scale
        # groups of zeros have no scale to divide by
        per_row = scale.clamp(min=torch.finfo(scale.dtype).tiny).repeat_interleave(self.rows_per_scale, dim=0)
        self.weight[start : start + len(weight)] = (weight / per_row[: len(weight)]).round().to(torch.int8)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of the table (...) int64 to embeddings (..., E) in float32."""
        groups = rows if self.rows_per_scale == 1 else rows.div(self.rows_per_scale, rounding_mode="trunc")
        weights = nn.functional.embedding(rows, self.weight).float()
        return weights * nn.functional.embedding(groups, self.scale)

    def dequantized(self) -> torch.Tensor:
        """The table (N, E) in float32 that look-ups see."""
        return self.forward(torch.arange(len(self.weight)))


def convert_id_tables(model: nn.Module, dtype: IdTableDtype) -> None:
    """Replace the id embedding tables of a model, first-order weights included, by tables of `dtype`.

    The other weights, those of vectors among them, stay in float32.

    Args:
        model: Changed in place. Its tables cannot be trained afterwards.
        dtype: `"float32"` changes nothing.

    Raises:
        ValueError: If `dtype` is unknown.
    """
    check_id_table_dtype(dtype)
    if dtype == "float32":
        return
    table_class = Int8Table if dtype == "int8" else Bfloat16Table
    for module in model.modules():
        if isinstance(module, FeatureEmbedding):
            module.table = table_class(module.table.weight)  # type: ignore[assignment]


def check_id_table_dtype(dtype: str) -> None:
    """Raise a ValueError if `dtype` is not one of `IdTableDtype`."""
    if dtype not in get_args(IdTableDtype):
        raise ValueError(f"`id_table_dtype` must be one of {list(get_args(IdTableDtype))}, got {dtype!r}.")
