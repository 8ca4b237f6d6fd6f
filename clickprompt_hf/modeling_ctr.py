# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""CTR backbones: from an impression's ids and vectors to its interaction vector q, and from q to a click logit.

Shapes: B batch, F fields, C columns of ids, S entries of all vectors, E embedding size, D interaction size.

A new backbone is one class:

    @register_backbone("mine")
    class MyBackbone(CTRBackbone):
        def __init__(self, config):
            super().__init__(config)
            self.dnn = make_dnn(self.flat_size, config)
            self.interaction_size = self.dnn.output_size

        def interact(self, embeddings, feature_ids):
            return self.dnn(embeddings.flatten(1))

Its click logit is a linear layer on q unless it overrides `make_head`. Fields of vectors are among the embeddings.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import initialization as init

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import CTRConfig
from .layers_ctr import DNN, BilinearInteraction, CompressedInteractionNetwork, CrossNet, CrossNetV2
from .layers_ctr import FeatureEmbedding, FeatureGeneration, FieldGraph, FieldSelfAttention, FirstOrder
from .layers_ctr import InnerProducts, SecondOrder, SelfInitialized, SENet, XavierLinear
from .layers_ctr import activation_function, xavier_linear
# isort: on

BACKBONES: dict[str, type["CTRBackbone"]] = {}


def register_backbone(name: str) -> Callable[[type["CTRBackbone"]], type["CTRBackbone"]]:
    """Register the decorated class as the backbone that `CTRConfig(backbone=name)` selects.

    Raises:
        ValueError: If another class is registered under that name.
    """

    def register(backbone: type["CTRBackbone"]) -> type["CTRBackbone"]:
        known = BACKBONES.setdefault(name, backbone)
        if (known.__module__, known.__qualname__) != (backbone.__module__, backbone.__qualname__):
            raise ValueError(f"`name` must be unused, but {name!r} is already the backbone {known.__qualname__}.")
        BACKBONES[name] = backbone
        return backbone

    return register


def backbone_class(name: str) -> type["CTRBackbone"]:
    """Look up a registered backbone.

    Raises:
        ValueError: If none is registered as `name`; the message lists the known names.
    """
    if name not in BACKBONES:
        raise ValueError(
            f"`backbone` must be one of {sorted(BACKBONES)}, got {name!r}. "
            "Import the module that registers your own backbone first."
        )
    return BACKBONES[name]


def build_backbone(config: CTRConfig) -> "CTRBackbone":
    """Build the backbone that `config` describes, randomly initialized."""
    return backbone_class(config.backbone)(config)


class CTRBackbone(SelfInitialized, nn.Module):
    """Base class of backbones: embeds ids and vectors, then combines the embeddings in `interact`.

    Subclasses set `interaction_size` (D) and implement `interact`. Override `make_head` if the click logit is more
    than a linear layer on q, `init_own_parameters` if the class holds parameters outside of layers, and `forward` if
    it reads vectors in addition to their embeddings.

    Args:
        config: Configuration of the backbone.
    """

    interaction_size: int

    def __init__(self, config: CTRConfig):
        super().__init__()
        self.config = config
        self.embedding = make_embedding(self.embedding_size, config)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)

    @property
    def embedding_size(self) -> int:
        """Width E of a feature embedding."""
        return self.config.embedding_size

    @property
    def flat_size(self) -> int:
        """Width F * E of all fields' embeddings, concatenated."""
        return self.config.num_fields * self.config.embedding_size

    def forward(self, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None) -> torch.Tensor:
        """feature_ids (B, C) int64 and feature_vectors (B, S) to the interaction vector q (B, D)."""
        return self.interact(self.embedding_dropout(self.embedding(feature_ids, feature_vectors)), feature_ids)

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) and feature_ids (B, C) to q (B, D)."""
        raise NotImplementedError

    def make_head(self) -> "CTRHead":
        """Build the randomly initialized head that turns this backbone's q into its click logit."""
        return LinearHead(self.interaction_size)


def make_embedding(embedding_size: int, config: CTRConfig) -> FeatureEmbedding:
    """Build the feature embeddings that `config` describes, of width `embedding_size`."""
    return FeatureEmbedding(
        config.field_sizes,
        embedding_size,
        config.max_values,
        config.embedding_initializer_range,
        config.vector_sizes,
    )


def make_first_order(config: CTRConfig) -> FirstOrder | None:
    """Build the linear term, if `config` has one."""
    if not config.first_order:
        return None
    return FirstOrder(config.field_sizes, config.max_values, config.embedding_initializer_range, config.vector_sizes)


def make_dnn(input_size: int, config: CTRConfig) -> DNN:
    """Build the hidden layers that `config` describes, on an input of width `input_size`."""
    return DNN(input_size, config.dnn_hidden_sizes, config.hidden_act, config.dnn_dropout)


class CTRHead(SelfInitialized, nn.Module):
    """Base class of the layer from q to the CTR logit. It is not part of the backbone: PA-MLM does not train it.

    Models with vector fields pass `feature_vectors` (B, S), others do not.
    """

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        """interaction (B, D), feature_ids (B, C) and feature_vectors (B, S) to logits (B, 1)."""
        raise NotImplementedError


class LinearHead(CTRHead):
    r"""Linear layer on the interaction vector: \\(z = w^T q + b\\)."""

    def __init__(self, interaction_size: int):
        super().__init__()
        self.output = xavier_linear(interaction_size, 1)

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.output(interaction)


class SumHead(CTRHead):
    r"""Logistic regression's logit: \\(z = \sum_f q_f + b\\)."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def init_own_parameters(self) -> None:
        init.zeros_(self.bias)

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        return interaction.sum(dim=-1, keepdim=True) + self.bias


class FMHead(CTRHead):
    r"""FM's logit (Rendle 2010): \\(z = \sum_e q_e\\), plus the linear term with `first_order`."""

    def __init__(self, config: CTRConfig):
        super().__init__()
        self.first_order = make_first_order(config)

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = interaction.sum(dim=-1, keepdim=True)
        return logits if self.first_order is None else logits + self.first_order(feature_ids, feature_vectors)


class DeepFMHead(CTRHead):
    """Linear layer on the DNN's part of q, plus the FM logit, which is q's last component."""

    def __init__(self, dnn_size: int):
        super().__init__()
        self.output = xavier_linear(dnn_size, 1)

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.output(interaction[:, :-1]) + interaction[:, -1:]


class NodeHead(CTRHead):
    r"""Attention-weighted scores of the nodes (FiGNN, Li et al. 2019, Eq. 9 and 10).

    \\(z = \sum_f \sigma(W q)_f \, w^T h_f\\), where q is the concatenation of the node states \\(h_1, ..., h_F\\).
    """

    def __init__(self, num_fields: int, embedding_size: int):
        super().__init__()
        self.score = xavier_linear(embedding_size, 1, bias=False)
        self.weight = xavier_linear(num_fields * embedding_size, num_fields, bias=False)

    def forward(
        self, interaction: torch.Tensor, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        # (B, F·E) -> (B, F, E) -> (B, F)
        scores = self.score(interaction.unflatten(-1, (-1, self.score.in_features))).squeeze(-1)
        return (torch.sigmoid(self.weight(interaction)) * scores).sum(dim=-1, keepdim=True)


@register_backbone("lr")
class LogisticRegression(CTRBackbone):
    """Logistic regression (Richardson et al. 2007). q: the fields' first-order weights, D = F."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.interaction_size = config.num_fields

    @property
    def embedding_size(self) -> int:
        return 1

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return embeddings.squeeze(-1)

    def make_head(self) -> CTRHead:
        return SumHead()


@register_backbone("fm")
class FM(CTRBackbone):
    """Factorization machine (Rendle 2010). q: the second-order interaction vector, D = E."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.second_order = SecondOrder()
        self.interaction_size = config.embedding_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.second_order(embeddings)

    def make_head(self) -> CTRHead:
        return FMHead(self.config)


@register_backbone("dnn")
class DeepNeuralNetwork(CTRBackbone):
    """Hidden layers on all embeddings (Covington et al. 2016). q: the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.dnn = make_dnn(self.flat_size, config)
        self.interaction_size = self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.dnn(embeddings.flatten(1))


@register_backbone("deepfm")
class DeepFM(CTRBackbone):
    """DeepFM (Guo et al. 2017). q: the last hidden layer, then the FM logit."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.first_order = make_first_order(config)
        self.second_order = SecondOrder()
        self.dnn = make_dnn(self.flat_size, config)
        self.interaction_size = self.dnn.output_size + 1

    def forward(self, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None) -> torch.Tensor:
        embeddings = self.embedding_dropout(self.embedding(feature_ids, feature_vectors))
        fm_logit = self.second_order(embeddings).sum(dim=-1, keepdim=True)
        if self.first_order is not None:
            fm_logit = fm_logit + self.first_order(feature_ids, feature_vectors)
        return torch.cat([self.dnn(embeddings.flatten(1)), fm_logit], dim=-1)

    def make_head(self) -> CTRHead:
        return DeepFMHead(self.dnn.output_size)


@register_backbone("dcnv2")
class DCNv2(CTRBackbone):
    """Parallel DCN-V2 (Wang et al. 2021). q: the cross network's output, then the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.cross_net = CrossNetV2(self.flat_size, config.num_cross_layers)
        self.dnn = make_dnn(self.flat_size, config)
        self.interaction_size = self.flat_size + self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        flat = embeddings.flatten(1)
        return torch.cat([self.cross_net(flat), self.dnn(flat)], dim=-1)


@register_backbone("dcn")
class DCN(CTRBackbone):
    """Parallel DCN (Wang et al. 2017). q: the cross network's output, then the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.cross_net = CrossNet(self.flat_size, config.num_cross_layers)
        self.dnn = make_dnn(self.flat_size, config)
        self.interaction_size = self.flat_size + self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        flat = embeddings.flatten(1)
        return torch.cat([self.cross_net(flat), self.dnn(flat)], dim=-1)


@register_backbone("xdeepfm")
class XDeepFM(CTRBackbone):
    """xDeepFM (Lian et al. 2018), without a linear term. q: CIN's pooled maps, then the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.cin = CompressedInteractionNetwork(config.num_fields, config.cin_layer_sizes)
        self.dnn = make_dnn(self.flat_size, config)
        self.interaction_size = self.cin.output_size + self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.cin(embeddings), self.dnn(embeddings.flatten(1))], dim=-1)


@register_backbone("ipnn")
class IPNN(CTRBackbone):
    """Hidden layers on the embeddings and their inner products (Qu et al. 2016). q: the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.inner_products = InnerProducts(config.num_fields)
        self.dnn = make_dnn(self.flat_size + self.inner_products.output_size, config)
        self.interaction_size = self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.dnn(torch.cat([embeddings.flatten(1), self.inner_products(embeddings)], dim=-1))


@register_backbone("autoint")
class AutoInt(CTRBackbone):
    """AutoInt+ (Song et al. 2019). q: the attended fields, concatenated, then the last hidden layer, if any."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        widths = [config.embedding_size] + [config.attention_size] * config.num_attention_layers
        self.attention = nn.Sequential(
            *(
                FieldSelfAttention(
                    width,
                    config.attention_size,
                    config.num_attention_heads,
                    residual=config.attention_residual,
                    scale=config.scale_attention,
                )
                for width in widths[:-1]
            )
        )
        self.interaction_size = config.num_fields * widths[-1]
        self.dnn: DNN | None = None
        if config.dnn_hidden_sizes:
            self.dnn = make_dnn(self.flat_size, config)
            self.interaction_size += self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        attended = self.attention(embeddings).flatten(1)
        return attended if self.dnn is None else torch.cat([attended, self.dnn(embeddings.flatten(1))], dim=-1)


@register_backbone("fibinet")
class FiBiNET(CTRBackbone):
    """FiBiNET (Huang et al. 2019), one bilinear layer for plain and weighted embeddings. q: the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.senet = SENet(config.num_fields, config.senet_reduction_ratio)
        self.bilinear = BilinearInteraction(config.num_fields, config.embedding_size, config.bilinear_kind)
        self.dnn = make_dnn(2 * self.bilinear.output_size, config)
        self.interaction_size = self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        pairs = torch.cat([self.bilinear(embeddings), self.bilinear(self.senet(embeddings))], dim=1)
        return self.dnn(pairs.flatten(1))


@register_backbone("fignn")
class FiGNN(CTRBackbone):
    """FiGNN (Li et al. 2019). q: the node states, concatenated."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.graph = FieldGraph(
            config.num_fields,
            config.embedding_size,
            config.num_graph_layers,
            share_layers=config.share_graph_layers,
            residual=config.graph_residual,
        )
        self.interaction_size = self.flat_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.graph(embeddings).flatten(1)

    def make_head(self) -> CTRHead:
        return NodeHead(self.config.num_fields, self.config.embedding_size)


@register_backbone("fgcnn")
class FGCNN(CTRBackbone):
    """FGCNN (Liu et al. 2019) with IPNN's inner products. q: the last hidden layer.

    Features are generated from separate embeddings unless `share_embedding`.
    """

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.generation_embedding: FeatureEmbedding | None = None
        if not config.share_embedding:
            self.generation_embedding = make_embedding(config.embedding_size, config)
        self.generation = FeatureGeneration(
            config.num_fields,
            config.embedding_size,
            config.fgcnn_channels,
            config.fgcnn_kernel_heights,
            config.fgcnn_pooling_sizes,
            config.fgcnn_recombined_channels,
        )
        num_features = config.num_fields + self.generation.num_features
        self.inner_products = InnerProducts(num_features)
        self.dnn = make_dnn(num_features * config.embedding_size + self.inner_products.output_size, config)
        self.interaction_size = self.dnn.output_size

    def forward(self, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None = None) -> torch.Tensor:
        embeddings = source = self.embedding_dropout(self.embedding(feature_ids, feature_vectors))
        if self.generation_embedding is not None:
            source = self.embedding_dropout(self.generation_embedding(feature_ids, feature_vectors))
        features = torch.cat([embeddings, self.generation(source)], dim=1)
        return self.dnn(torch.cat([features.flatten(1), self.inner_products(features)], dim=-1))


@register_backbone("transformer")
class Transformer(CTRBackbone):
    """A transformer encoder over the fields (Vaswani et al. 2017). q: the fields' last states, concatenated."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        width, heads = config.embedding_size, config.num_attention_heads
        if width % heads:
            raise ValueError(f"`num_attention_heads` must divide `embedding_size` {width}, got {heads}.")
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=config.feed_forward_size or 4 * width,
            dropout=config.dnn_dropout,
            activation=activation_function(config.hidden_act),
            layer_norm_eps=config.layer_norm_eps,
            batch_first=True,
            norm_first=config.norm_first,
        )
        # torch's encoder layer reads their weights itself.
        layer.linear1 = XavierLinear(layer.linear1.in_features, layer.linear1.out_features)
        layer.linear2 = XavierLinear(layer.linear2.in_features, layer.linear2.out_features)
        self.encoder = nn.TransformerEncoder(layer, config.num_attention_layers, enable_nested_tensor=False)
        self.interaction_size = self.flat_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.encoder(embeddings).flatten(1)
