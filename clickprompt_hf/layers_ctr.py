# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Layers of CTR models.

Shapes: B batch, F fields, C columns of ids (C = F without multi-valued fields), E embedding size.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from transformers.activations import ACT2FN


class FeatureEmbedding(nn.Module):
    r"""One embedding table for all fields; a multi-valued field is the mean over its values.

    Field f's local id i has row \\(i + \sum_{g<f} \text{field\_sizes}_g\\) of the table.

    Args:
        field_sizes: Number of ids of each field, F entries.
        embedding_size: Width E.
        max_values: Columns of ids that each field owns, F entries; `None`: one each.

    Raises:
        ValueError: If `field_sizes` is empty, or a batch has another number of columns.
        IndexError: If an id on the CPU is outside [0, field_size), -1 in a multi-valued field aside.
    """

    def __init__(self, field_sizes: Sequence[int], embedding_size: int, max_values: Sequence[int] | None = None):
        super().__init__()
        if not field_sizes:
            raise ValueError("`field_sizes` must have one entry a field, got none.")
        self.field_sizes = list(field_sizes)
        self.max_values = list(max_values or [1] * len(field_sizes))
        self.table = nn.Embedding(sum(field_sizes), embedding_size)
        self.column_offsets = nn.Buffer(torch.empty(sum(self.max_values), dtype=torch.int64), persistent=False)
        self.column_sizes = nn.Buffer(torch.empty(sum(self.max_values), dtype=torch.int64), persistent=False)
        self.fill_buffers()

    @property
    def field_offsets(self) -> list[int]:
        """First row of each field in the table."""
        return [sum(self.field_sizes[:f]) for f in range(len(self.field_sizes))]

    def fill_buffers(self) -> None:
        """Writes the buffers, which checkpoints leave out."""
        offsets, sizes = (
            [number for number, columns in zip(per_field, self.max_values) for _ in range(columns)]
            for per_field in (self.field_offsets, self.field_sizes)
        )
        with torch.no_grad():
            self.column_offsets.copy_(torch.tensor(offsets))
            self.column_sizes.copy_(torch.tensor(sizes))

    def forward(self, feature_ids: torch.Tensor) -> torch.Tensor:
        """feature_ids (B, C) int64 to embeddings (B, F, E)."""
        if feature_ids.dim() != 2 or feature_ids.shape[1] != len(self.column_offsets):
            raise ValueError(
                f"`feature_ids` must have shape (batch, {len(self.column_offsets)}), got {tuple(feature_ids.shape)}."
            )
        # A local id past its field would silently read the next field's row; on the CPU the check costs no transfer.
        if feature_ids.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check_range(feature_ids)
        if max(self.max_values) == 1:
            return self.table(feature_ids + self.column_offsets)
        present = feature_ids >= 0
        values = self.table(feature_ids.clamp(min=0) + self.column_offsets) * present.unsqueeze(-1)
        means = [
            field_values.sum(dim=1) / field_present.sum(dim=1, keepdim=True).clamp(min=1)
            for field_values, field_present in zip(
                values.split(self.max_values, dim=1), present.split(self.max_values, dim=1)
            )
        ]
        return torch.stack(means, dim=1)

    def _check_range(self, feature_ids: torch.Tensor) -> None:
        lowest = -1 if max(self.max_values) > 1 else 0
        outside = (feature_ids < lowest) | (feature_ids >= self.column_sizes)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise IndexError(
                f"`feature_ids[{row}, {column}]` must be in [0, {self.column_sizes[column]}), "
                f"got {feature_ids[row, column]}."
            )


class XavierLinear(nn.Linear):
    """A linear layer whose fresh weights are Xavier normal (Glorot and Bengio 2010), its bias zero.

    Deep stacks of narrow layers need that gain: with the normal(0.02) of a PLM their signal dies out.
    """


class FirstOrder(nn.Module):
    r"""Linear term \\(b + \sum_f w_{f, id_f}\\) of FM (Rendle 2010): a weight for each feature."""

    def __init__(self, field_sizes: Sequence[int], max_values: Sequence[int] | None = None):
        super().__init__()
        self.weight = FeatureEmbedding(field_sizes, 1, max_values)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, feature_ids: torch.Tensor) -> torch.Tensor:
        """feature_ids (B, C) to logits (B, 1)."""
        return self.weight(feature_ids).sum(dim=1) + self.bias


class SecondOrder(nn.Module):
    r"""FM's pairwise interactions as a vector (Rendle 2010, Lemma 3.1).

    \\(\frac{1}{2} \left[ (\sum_f e_f)^2 - \sum_f e_f^2 \right]\\), element by element; its sum over the E components
    is \\(\sum_{f<g} \langle e_f, e_g \rangle\\).
    """

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to interactions (B, E)."""
        return 0.5 * (embeddings.sum(dim=1).square() - embeddings.square().sum(dim=1))


class DNN(nn.Module):
    """Hidden layers, each `Linear -> activation -> dropout`.

    Args:
        input_size: Width of the input.
        hidden_sizes: Widths of the layers, at least one.
        activation: A name of `transformers.activations.ACT2FN`.
        dropout: Probability in [0, 1).

    Raises:
        ValueError: If `hidden_sizes` is empty or `activation` is unknown.
    """

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], activation: str = "relu", dropout: float = 0.0):
        super().__init__()
        if not hidden_sizes:
            raise ValueError("`dnn_hidden_sizes` must name at least one layer, got none.")
        if activation not in ACT2FN:
            raise ValueError(f"`hidden_act` must be one of {sorted(ACT2FN)}, got {activation!r}.")
        widths = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList([XavierLinear(i, o) for i, o in pairwise(widths)])
        self.activation = ACT2FN[activation]
        self.dropout = nn.Dropout(dropout)
        self.output_size = widths[-1]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (B, input_size) to (B, hidden_sizes[-1])."""
        for layer in self.layers:
            inputs = self.dropout(self.activation(layer(inputs)))
        return inputs


class CrossNetV2(nn.Module):
    r"""Cross network with full matrices (DCN-V2, Wang et al. 2021, Eq. 1).

    \\(x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l\\)

    Args:
        input_size: Width of x.
        num_layers: Depth, at least 1.
    """

    def __init__(self, input_size: int, num_layers: int):
        super().__init__()
        self.layers = nn.ModuleList([XavierLinear(input_size, input_size) for _ in range(num_layers)])

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (B, input_size) to (B, input_size)."""
        x = x0
        for layer in self.layers:
            x = torch.addcmul(x, x0, layer(x))
        return x
