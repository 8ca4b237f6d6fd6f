# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Layers of CTR models.

Shapes: B batch, F fields, C columns of ids (C = F without multi-valued fields and vectors), S entries of all vectors,
E embedding size, P = F (F - 1) / 2 pairs of fields.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN


class SelfInitialized:
    """Mixin for layers that initialize their own weights.

    transformers' own initialization runs first; `init_own_parameters` then overrides it. transformers visits
    only modules that hold tensors themselves, so put the mixin on the module that holds the tensor.
    """

    def init_own_parameters(self) -> None:
        """Set fresh values by the functions of `transformers.initialization`, which leave loaded values alone."""


def check_growth(field_sizes: Sequence[int], old_sizes: Sequence[int]) -> None:
    """Check that new `field_sizes` keep the number of fields and shrink none.

    Raises:
        ValueError: If they do not.
    """
    is_listed = isinstance(field_sizes, Iterable) and not isinstance(field_sizes, str)
    if not is_listed or len(field_sizes) != len(old_sizes):
        found = len(field_sizes) if is_listed else repr(field_sizes)
        raise ValueError(f"`field_sizes` must have one entry per field ({len(old_sizes)}), got {found}.")
    for field, (new, old) in enumerate(zip(field_sizes, old_sizes)):
        if not isinstance(new, Integral) or new < old:
            raise ValueError(
                f"`field_sizes[{field}]` must be an integer of at least {old}, the field's current size, got {new!r}."
            )


class VectorProjection(SelfInitialized, nn.Module):
    r"""Embedding of a vector x of n numbers: \\(\frac{1}{\sqrt{n}} W x + b\\); a learned vector where x is missing.

    With standardized x, the factor keeps embeddings at the scale of W's entries for any n, both in a fresh model and
    in each step of Adam.

    Args:
        vector_size: n.
        embedding_size: Width E.
        initializer_range: Standard deviation of fresh entries of W, and so of the embeddings. The bias and the
            embedding of missing vectors start at zero.
    """

    def __init__(self, vector_size: int, embedding_size: int, initializer_range: float = 0.02):
        super().__init__()
        self.initializer_range = initializer_range
        self.scale = vector_size**-0.5
        self.weight = nn.Parameter(torch.empty(embedding_size, vector_size))
        self.bias = nn.Parameter(torch.zeros(embedding_size))
        self.missing = nn.Parameter(torch.zeros(embedding_size))

    def init_own_parameters(self) -> None:
        init.normal_(self.weight, std=self.initializer_range)
        init.zeros_(self.bias)
        init.zeros_(self.missing)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """vectors (B, n), NaN where missing, to embeddings (B, E)."""
        is_missing = vectors.isnan().any(dim=1, keepdim=True)
        # NaN in the branch that is not taken would reach the gradients
        present = torch.where(is_missing, 0.0, vectors * self.scale).to(self.weight.dtype)
        embeddings = nn.functional.linear(present, self.weight, self.bias)
        return torch.where(is_missing, self.missing.to(embeddings.dtype), embeddings)


class FeatureEmbedding(SelfInitialized, nn.Module):
    r"""One embedding table for all fields with ids; a multi-valued field is the mean over its values.

    Local id i of field f has row \\(i + \sum_{g<f} \text{field\_sizes}_g\\) of the table. Fields of vectors follow;
    each has a `VectorProjection`.

    Args:
        field_sizes: Number of ids per field with ids, entries of at least 1.
        embedding_size: Width E.
        max_values: Columns of ids per field with ids, entries of at least 1; `None` for one column each.
        initializer_range: Standard deviation of the initial embeddings; those of out-of-vocabulary ids start at zero.
        vector_sizes: Entries of each field of vectors; F is the number of entries of this and `field_sizes`.

    Raises:
        ValueError: If `field_sizes` is empty, or a batch has the wrong number of columns.
        IndexError: If an id on the CPU is outside [0, field_size), except -1 in a multi-valued field.
    """

    def __init__(
        self,
        field_sizes: Sequence[int],
        embedding_size: int,
        max_values: Sequence[int] | None = None,
        initializer_range: float = 0.02,
        vector_sizes: Sequence[int] = (),
    ):
        super().__init__()
        if not field_sizes:
            raise ValueError("`field_sizes` must have one entry per field, got none.")
        self.initializer_range = initializer_range
        self.field_sizes = list(field_sizes)
        self.max_values = list(max_values or [1] * len(field_sizes))
        self.table = nn.Embedding(sum(field_sizes), embedding_size)
        self.vector_sizes = list(vector_sizes)
        self.projections = nn.ModuleList(
            [VectorProjection(size, embedding_size, initializer_range) for size in vector_sizes]
        )
        self.column_offsets = nn.Buffer(torch.empty(sum(self.max_values), dtype=torch.int64), persistent=False)
        self.column_sizes = nn.Buffer(torch.empty(sum(self.max_values), dtype=torch.int64), persistent=False)
        self.fill_buffers()

    @property
    def field_offsets(self) -> list[int]:
        """First row of each field in the table."""
        return [sum(self.field_sizes[:f]) for f in range(len(self.field_sizes))]

    @property
    def has_all_rows(self) -> bool:
        """Whether the table has all rows; training may shard them across processes."""
        return len(self.table.weight) == sum(self.field_sizes)

    def init_own_parameters(self) -> None:
        weight = self.table.weight
        init.normal_(weight, std=self.initializer_range)
        # a slice has no flag of its own, so check the table's
        if not getattr(weight, "_is_hf_initialized", False):
            # Training rows may hold no out-of-vocabulary id, so its embedding starts at zero: no evidence.
            weight[self.field_offsets] = 0
        self.fill_buffers()

    def fill_buffers(self) -> None:
        """Write the buffers, which checkpoints leave out."""
        offsets, sizes = (
            [number for number, columns in zip(per_field, self.max_values) for _ in range(columns)]
            for per_field in (self.field_offsets, self.field_sizes)
        )
        with torch.no_grad():
            self.column_offsets.copy_(torch.tensor(offsets))
            self.column_sizes.copy_(torch.tensor(sizes))

    @torch.no_grad()
    def resize(self, field_sizes: Sequence[int]) -> None:
        """Add ids to fields. Existing rows stay; new ones start as their field's out-of-vocabulary row.

        The table's weight becomes a new parameter: create the optimizer afterwards.

        Args:
            field_sizes: New number of ids per field, F entries.

        Raises:
            ValueError: If the number of fields changes, a field would lose ids, or this process has not all rows.
        """
        check_growth(field_sizes, self.field_sizes)
        weight = self.table.weight
        if not self.has_all_rows:
            raise ValueError(
                f"The table must have all {sum(self.field_sizes)} rows to get more ids, got {len(weight)}: it is "
                "sharded across processes. Pass `field_sizes` to `sharded_from_pretrained` instead."
            )
        rows = [
            part
            for new, old, own in zip(field_sizes, self.field_sizes, weight.split(self.field_sizes))
            for part in (own, own[:1].expand(new - old, -1))
        ]
        self.table.weight = nn.Parameter(torch.cat(rows), requires_grad=weight.requires_grad)
        self.table.num_embeddings = len(self.table.weight)
        self.field_sizes = list(field_sizes)
        self.fill_buffers()

    def forward(self, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None) -> torch.Tensor:
        """feature_ids (B, C) int64 and feature_vectors (B, S) to embeddings (B, F, E)."""
        embeddings = self.embed_ids(feature_ids)
        if not self.projections:
            return embeddings
        shape = None if feature_vectors is None else tuple(feature_vectors.shape)
        if feature_vectors is None or feature_vectors.dim() != 2 or feature_vectors.shape[1] != sum(self.vector_sizes):
            raise ValueError(
                f"`feature_vectors` must have shape (batch, {sum(self.vector_sizes)}), vectors of the sizes "
                f"{self.vector_sizes}, got {shape}."
            )
        projected = [
            projection(vectors)
            for projection, vectors in zip(self.projections, feature_vectors.split(self.vector_sizes, dim=1))
        ]
        return torch.cat([embeddings, torch.stack(projected, dim=1).to(embeddings.dtype)], dim=1)

    def embed_ids(self, feature_ids: torch.Tensor) -> torch.Tensor:
        """feature_ids (B, C) int64 to the embeddings of the fields with ids, (B, fields with ids, E)."""
        if feature_ids.dim() != 2 or feature_ids.shape[1] != len(self.column_offsets):
            raise ValueError(
                f"`feature_ids` must have shape (batch, {len(self.column_offsets)}), got {tuple(feature_ids.shape)}."
            )
        # An id past its field would silently read the next field's row. On other devices the check costs a transfer.
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
        # only multi-valued fields have empty slots
        several = [number > 1 for number in self.max_values for _ in range(number)]
        lowest = -torch.tensor(several, dtype=feature_ids.dtype) if any(several) else 0
        outside = (feature_ids < lowest) | (feature_ids >= self.column_sizes)
        if outside.any():
            row, column = outside.nonzero()[0].tolist()
            raise IndexError(
                f"`feature_ids[{row}, {column}]` must be in [0, {self.column_sizes[column]}), "
                f"got {feature_ids[row, column]}."
            )


class XavierLinear(SelfInitialized, nn.Linear):
    r"""Linear layer \\(y = W x + b\\) with Xavier normal fresh weights (Glorot and Bengio 2010) and zero biases.

    Deep stacks of narrow layers need that scale: with a PLM's normal(0.02) their signal dies out.

    Args:
        in_features: Width of x.
        out_features: Width of y.
        bias: Whether to add b.
        gain: Factor on the fresh weights, above 0.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, gain: float = 1.0):
        super().__init__(in_features, out_features, bias)
        self.gain = gain

    def init_own_parameters(self) -> None:
        # transformers has zeroed the bias
        init.xavier_normal_(self.weight, gain=self.gain)


def xavier_linear(in_features: int, out_features: int, bias: bool = True, gain: float = 1.0) -> nn.Linear:
    """Build a layer with the fresh weights of `XavierLinear` that is exactly an `nn.Linear`.

    torch's dynamic quantization, for one, converts that class but not its subclasses. A layer whose weight is read
    directly must not be converted, so it must be a `XavierLinear`.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether there is a bias.
        gain: Factor on the fresh weights, above 0.
    """
    layer = nn.Linear(in_features, out_features, bias)
    layer.xavier_gain = gain  # type: ignore[assignment]
    return layer


def init_xavier_linear(layer: nn.Module) -> None:
    """Set fresh values if `xavier_linear` built the layer."""
    if isinstance(layer, nn.Linear) and (gain := vars(layer).get("xavier_gain")) is not None:
        # transformers has zeroed the bias
        init.xavier_normal_(layer.weight, gain=gain)


class XavierConv2d(SelfInitialized, nn.Conv2d):
    """`nn.Conv2d` with Xavier normal fresh weights and zero biases."""

    def init_own_parameters(self) -> None:
        # transformers has zeroed the bias
        init.xavier_normal_(self.weight)


class XavierGRUCell(SelfInitialized, nn.GRUCell):
    """`nn.GRUCell` with Xavier normal fresh weights and zero biases."""

    def init_own_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            (init.zeros_ if name.startswith("bias") else init.xavier_normal_)(parameter)


class ZeroParameterList(SelfInitialized, nn.ParameterList):
    """`nn.ParameterList` of parameters that start at zero."""

    def init_own_parameters(self) -> None:
        for parameter in self:
            init.zeros_(parameter)


class FirstOrder(SelfInitialized, nn.Module):
    r"""Linear term \\(b + \sum_f w_{f, id_f}\\) of FM (Rendle 2010): one weight per feature.

    A field of vectors adds a linear function of its vector instead, see `VectorProjection`.

    Args:
        field_sizes: Number of ids per field with ids, entries of at least 1.
        max_values: Columns of ids per field; `None` for one column each.
        initializer_range: Standard deviation of fresh weights.
        vector_sizes: Entries of each field of vectors.
    """

    def __init__(
        self,
        field_sizes: Sequence[int],
        max_values: Sequence[int] | None = None,
        initializer_range: float = 0.02,
        vector_sizes: Sequence[int] = (),
    ):
        super().__init__()
        self.weight = FeatureEmbedding(field_sizes, 1, max_values, initializer_range, vector_sizes)
        self.bias = nn.Parameter(torch.zeros(1))

    def init_own_parameters(self) -> None:
        init.zeros_(self.bias)

    def forward(self, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None) -> torch.Tensor:
        """feature_ids (B, C) and feature_vectors (B, S) to logits (B, 1)."""
        return self.weight(feature_ids, feature_vectors).sum(dim=1) + self.bias


class SecondOrder(nn.Module):
    r"""FM's pairwise interactions as a vector (Rendle 2010, Lemma 3.1).

    \\(\frac{1}{2} \left[ (\sum_f e_f)^2 - \sum_f e_f^2 \right]\\), element-wise. Its sum over the E components is
    \\(\sum_{f<g} \langle e_f, e_g \rangle\\).
    """

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to interactions (B, E)."""
        return 0.5 * (embeddings.sum(dim=1).square() - embeddings.square().sum(dim=1))


def activation_function(name: str) -> nn.Module:
    """Look up an activation of transformers by name.

    Raises:
        ValueError: If transformers has none of that name.
    """
    if name not in ACT2FN:
        raise ValueError(f"`hidden_act` must be one of {sorted(ACT2FN)}, got {name!r}.")
    return ACT2FN[name]


class DNN(nn.Module):
    """Hidden layers, each `Linear -> activation -> dropout`.

    Args:
        input_size: Width of the input.
        hidden_sizes: Widths of the layers, at least one.
        activation: Name of an activation in `transformers.activations.ACT2FN`.
        dropout: Dropout probability, in [0, 1).

    Raises:
        ValueError: If `hidden_sizes` is empty or `activation` is unknown.
    """

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], activation: str = "relu", dropout: float = 0.0):
        super().__init__()
        if not hidden_sizes:
            raise ValueError("`dnn_hidden_sizes` must name at least one layer, got none.")
        widths = [input_size, *hidden_sizes]
        self.layers = nn.ModuleList([xavier_linear(i, o) for i, o in pairwise(widths)])
        self.activation = activation_function(activation)
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
        self.layers = nn.ModuleList([xavier_linear(input_size, input_size) for _ in range(num_layers)])

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (B, input_size) to (B, input_size)."""
        x = x0
        for layer in self.layers:
            crossed = layer(x)
            # Under autocast, stay in its type: half the memory traffic of mixing it with float32.
            x, x0 = x.to(crossed.dtype), x0.to(crossed.dtype)
            x = torch.addcmul(x, x0, crossed)
        return x


class CrossNet(nn.Module):
    r"""Cross network with vectors (DCN, Wang et al. 2017, Eq. 3).

    \\(x_{l+1} = x_0 \, (w_l^T x_l) + b_l + x_l\\)

    Args:
        input_size: Width of x.
        num_layers: Depth, at least 1.
    """

    def __init__(self, input_size: int, num_layers: int):
        super().__init__()
        self.layers = nn.ModuleList([xavier_linear(input_size, 1, bias=False) for _ in range(num_layers)])
        self.biases = ZeroParameterList([torch.zeros(input_size) for _ in range(num_layers)])

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 (B, input_size) to (B, input_size)."""
        x = x0
        for layer, bias in zip(self.layers, self.biases):
            x = x0 * layer(x) + bias + x
        return x


class InnerProducts(nn.Module):
    r"""Inner products \\(\langle e_f, e_g \rangle\\) of all pairs f < g (IPNN, Qu et al. 2016).

    Pairs are ordered (0, 1), (0, 2), ..., (F-2, F-1). Their sum is FM's second-order term.

    Args:
        num_fields: F.
    """

    def __init__(self, num_fields: int):
        super().__init__()
        self.output_size = num_fields * (num_fields - 1) // 2

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to products (B, P)."""
        first, second = torch.triu_indices(
            embeddings.shape[1], embeddings.shape[1], offset=1, device=embeddings.device
        )
        return (embeddings @ embeddings.transpose(1, 2))[:, first, second]


class CompressedInteractionNetwork(nn.Module):
    r"""CIN (xDeepFM, Lian et al. 2018, Eq. 6 and 7).

    \\(x^{k}_h = \sum_{f, m} W^k_{h, f, m} (x^0_f \odot x^{k-1}_m) + b^k_h\\), each summed over its E components.

    Args:
        num_fields: F.
        layer_sizes: Feature maps of each layer, at least one layer.

    Raises:
        ValueError: If `layer_sizes` is empty.
    """

    def __init__(self, num_fields: int, layer_sizes: Sequence[int]):
        super().__init__()
        if not layer_sizes:
            raise ValueError("`cin_layer_sizes` must name at least one layer, got none.")
        self.layers = nn.ModuleList(
            [xavier_linear(num_fields * i, o) for i, o in pairwise([num_fields, *layer_sizes])]
        )
        self.output_size = sum(layer_sizes)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to pooled feature maps (B, sum of layer_sizes)."""
        # (B, F, E) -> (B, E, F): outer products are taken per component
        x0 = embeddings.transpose(1, 2)
        x, pooled = x0, []
        for layer in self.layers:
            x = layer((x0.unsqueeze(-1) * x.unsqueeze(-2)).flatten(2))
            pooled.append(x.sum(dim=1))
        return torch.cat(pooled, dim=-1)


class FieldSelfAttention(nn.Module):
    r"""Multi-head self-attention between fields (AutoInt, Song et al. 2019, Eq. 5 to 8).

    \\(\text{ReLU}(\text{concat}_h \, \text{softmax}(Q_h K_h^T) V_h + W_{res} x)\\). \\(W_{res}\\) is
    the identity where the widths agree.

    Args:
        input_size: Width of a field's vector.
        attention_size: Width of all heads together.
        num_heads: Number of heads, a divisor of `attention_size`.
        residual: Whether to add the input.
        scale: Whether to divide the scores by the square root of a head's width.

    Raises:
        ValueError: If `num_heads` does not divide `attention_size`.
    """

    def __init__(
        self, input_size: int, attention_size: int, num_heads: int, residual: bool = True, scale: bool = False
    ):
        super().__init__()
        if attention_size % num_heads:
            raise ValueError(f"`num_attention_heads` must divide {attention_size}, got {num_heads}.")
        self.num_heads, self.residual = num_heads, residual
        self.scale = (attention_size // num_heads) ** -0.5 if scale else 1.0
        self.query = xavier_linear(input_size, attention_size, bias=False)
        self.key = xavier_linear(input_size, attention_size, bias=False)
        self.value = xavier_linear(input_size, attention_size, bias=False)
        project = residual and input_size != attention_size
        self.residual_projection = xavier_linear(input_size, attention_size, bias=False) if project else None

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        """fields (B, F, input_size) to (B, F, attention_size)."""
        # (B, F, A·d) -> (B, A, F, d), A heads of width d
        query, key, value = (
            layer(fields).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        # (B, A, F, d) -> (B, F, A·d)
        output = attended.transpose(1, 2).flatten(2)
        if self.residual:
            output = output + (fields if self.residual_projection is None else self.residual_projection(fields))
        return torch.relu(output)


def check_several_fields(num_fields: int) -> None:
    """Check that there are at least two fields, for layers that relate fields to each other.

    Raises:
        ValueError: If there are fewer.
    """
    if num_fields < 2:
        raise ValueError(f"`field_sizes` must have at least 2 fields for this backbone, got {num_fields}.")


class SENet(nn.Module):
    r"""Squeeze and excitation of fields (FiBiNET, Huang et al. 2019, Eq. 1 to 3).

    \\(a_f e_f\\) with \\(a = \text{ReLU}(W_2 \text{ReLU}(W_1 z))\\), \\(z_f\\) the mean over the components of
    \\(e_f\\).

    Args:
        num_fields: F.
        reduction_ratio: F over the width of the bottleneck, at least 1.
    """

    def __init__(self, num_fields: int, reduction_ratio: int):
        super().__init__()
        reduced = max(1, num_fields // reduction_ratio)
        self.squeeze = xavier_linear(num_fields, reduced, bias=False)
        self.excite = xavier_linear(reduced, num_fields, bias=False)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to weighted embeddings (B, F, E)."""
        weights = torch.relu(self.excite(torch.relu(self.squeeze(embeddings.mean(dim=-1)))))
        return embeddings * weights.unsqueeze(-1)


class BilinearInteraction(nn.Module):
    r"""Bilinear interactions \\((W e_f) \odot e_g\\) of all pairs f < g (FiBiNET, Huang et al. 2019, Eq. 5 to 7).

    Args:
        num_fields: F.
        embedding_size: E.
        kind: Which pairs share W: `"all"` pairs, the pairs of `"each"` first field f, or none (`"interaction"`).

    Raises:
        ValueError: If there are fewer than two fields.
    """

    def __init__(self, num_fields: int, embedding_size: int, kind: str):
        super().__init__()
        check_several_fields(num_fields)
        self.kind = kind
        self.first, self.second = zip(*((f, g) for f in range(num_fields) for g in range(f + 1, num_fields)))
        matrices = {"all": 1, "each": num_fields - 1, "interaction": len(self.first)}[kind]
        self.layers = nn.ModuleList(
            [XavierLinear(embedding_size, embedding_size, bias=False) for _ in range(matrices)]
        )
        self.output_size = len(self.first) * embedding_size

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to interactions (B, P, E)."""
        first, second = embeddings[:, list(self.first)], embeddings[:, list(self.second)]
        if self.kind == "all":
            return self.layers[0](first) * second
        # the matrix of each pair, (P, E, E): one batched product instead of P small ones
        own = range(len(self.first)) if self.kind == "interaction" else self.first
        matrices = torch.stack([self.layers[index].get_parameter("weight") for index in own])
        return torch.einsum("bpe,poe->bpo", first, matrices) * second


class FieldGraph(nn.Module):
    r"""Graph neural network over the fields (FiGNN, Li et al. 2019, Eq. 5 to 8).

    Nodes are fields. The edge from f to g has the weight
    \\(\alpha_{fg} = \text{softmax}_g \, \text{LeakyReLU}(w^T [e_f, e_g])\\); no node has an edge to itself. At
    each step a node receives \\(a_f = W^{in}_f \sum_g \alpha_{fg} W^{out}_g h_g + b\\) and becomes
    \\(\text{GRU}(a_f, h_f)\\), plus its embedding with `residual`.

    Args:
        num_fields: F.
        embedding_size: E.
        num_layers: Number of steps, at least 1.
        share_layers: Whether all steps share one set of weights.
        residual: Whether to add the embeddings after each step.

    Raises:
        ValueError: If there are fewer than two fields.
    """

    def __init__(self, num_fields: int, embedding_size: int, num_layers: int, share_layers: bool, residual: bool):
        super().__init__()
        check_several_fields(num_fields)
        self.num_layers, self.residual = num_layers, residual
        self.edge = XavierLinear(2 * embedding_size, 1, bias=False)
        steps = 1 if share_layers else num_layers
        self.steps = nn.ModuleList([FieldGraphStep(num_fields, embedding_size) for _ in range(steps)])
        self.update = XavierGRUCell(embedding_size, embedding_size)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to node states (B, F, E)."""
        edges = self.edge_weights(embeddings)
        states = embeddings
        for layer in range(self.num_layers):
            received = self.steps[layer % len(self.steps)](edges, states)
            # (B, F, E) -> (B·F, E) -> (B, F, E): one GRU for all nodes
            states = self.update(received.flatten(0, 1), states.flatten(0, 1)).view_as(embeddings)
            if self.residual:
                states = states + embeddings
        return states

    def edge_weights(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to weights (B, F, F), rows summing to 1, diagonal 0."""
        # w^T [e_f, e_g] is a sum of two dot products, so no pair is ever written out
        from_f, to_g = self.edge.weight.view(2, -1).to(embeddings.dtype)
        scores = (embeddings @ from_f).unsqueeze(2) + (embeddings @ to_g).unsqueeze(1)
        scores = nn.functional.leaky_relu(scores, 0.01)
        itself = torch.eye(embeddings.shape[1], dtype=torch.bool, device=embeddings.device)
        return scores.masked_fill(itself, float("-inf")).softmax(dim=-1)


class FieldGraphStep(SelfInitialized, nn.Module):
    r"""Messages of one step of `FieldGraph`, with two matrices per field.

    \\(a_f = W^{in}_f \sum_g \alpha_{fg} W^{out}_g h_g + b\\). Fresh weights are Xavier normal for each matrix.

    Args:
        num_fields: F.
        embedding_size: E.
    """

    def __init__(self, num_fields: int, embedding_size: int):
        super().__init__()
        self.outgoing = nn.Parameter(torch.empty(num_fields, embedding_size, embedding_size))
        self.incoming = nn.Parameter(torch.empty(num_fields, embedding_size, embedding_size))
        self.bias = nn.Parameter(torch.zeros(embedding_size))

    def init_own_parameters(self) -> None:
        for matrices in (self.outgoing, self.incoming):
            # Xavier normal for square matrices
            init.normal_(matrices, std=matrices.shape[-1] ** -0.5)
        init.zeros_(self.bias)

    def forward(self, edges: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """edges (B, F, F) and states (B, F, E) to received messages (B, F, E)."""
        sent = torch.einsum("bfe,foe->bfo", states, self.outgoing)
        return torch.einsum("bfe,foe->bfo", edges @ sent, self.incoming) + self.bias


class FeatureGeneration(nn.Module):
    """New features from convolutions over neighboring fields (FGCNN, Liu et al. 2019, Eq. 2 to 6).

    Each layer is a convolution over fields, batch norm, tanh and max pooling over fields. A dense layer with tanh then
    makes `recombined_channels` new features of width E per remaining field.

    Args:
        num_fields: F.
        embedding_size: E.
        channels: Feature maps per layer.
        kernel_heights: Fields that each layer's convolution spans, odd numbers.
        pooling_sizes: Fields that each layer's pooling joins.
        recombined_channels: New features per remaining field, for each layer.

    Raises:
        ValueError: If the four lists differ in length, a kernel height is even, or a pooling size does not fit.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_size: int,
        channels: Sequence[int],
        kernel_heights: Sequence[int],
        pooling_sizes: Sequence[int],
        recombined_channels: Sequence[int],
    ):
        super().__init__()
        lengths = {len(channels), len(kernel_heights), len(pooling_sizes), len(recombined_channels)}
        if len(lengths) > 1 or not channels:
            raise ValueError(
                "`fgcnn_channels`, `fgcnn_kernel_heights`, `fgcnn_pooling_sizes` and `fgcnn_recombined_channels` must "
                f"have one number per layer, got {list(channels)}, {list(kernel_heights)}, {list(pooling_sizes)} and "
                f"{list(recombined_channels)}."
            )
        self.embedding_size = embedding_size
        self.convolutions, self.recombinations = nn.ModuleList(), nn.ModuleList()
        height, inputs, self.num_features = num_fields, 1, 0
        for outputs, kernel, pooling, recombined in zip(channels, kernel_heights, pooling_sizes, recombined_channels):
            if kernel % 2 == 0:
                raise ValueError(f"`fgcnn_kernel_heights` must be odd numbers, got {list(kernel_heights)}.")
            if 2 * (height % pooling) > pooling:
                raise ValueError(
                    f"`fgcnn_pooling_sizes` must leave at most half a window unused, but {pooling} leaves "
                    f"{height % pooling} of {height} fields."
                )
            self.convolutions.append(
                nn.Sequential(
                    XavierConv2d(inputs, outputs, (kernel, 1), padding=((kernel - 1) // 2, 0)),
                    nn.BatchNorm2d(outputs),
                    nn.Tanh(),
                    nn.MaxPool2d((pooling, 1), padding=(height % pooling, 0)),
                )
            )
            height, inputs = -(-height // pooling), outputs
            flat = height * embedding_size
            self.recombinations.append(xavier_linear(outputs * flat, recombined * flat))
            self.num_features += recombined * height

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) to new features (B, num_features, E)."""
        maps, features = embeddings.unsqueeze(1), []
        for convolution, recombination in zip(self.convolutions, self.recombinations):
            maps = convolution(maps)
            # (B, channels, height, E) -> (B, recombined·height, E)
            recombined = torch.tanh(recombination(maps.flatten(1)))
            features.append(recombined.unflatten(1, (-1, self.embedding_size)))
        return torch.cat(features, dim=1)
