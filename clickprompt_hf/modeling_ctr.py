# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""CTR backbones: an impression's feature ids to its interaction vector q, and q to a click logit.

Shapes: B batch, F fields, C columns of ids, E embedding size, D interaction size.

A new backbone is one class:

    @register_backbone("mine")
    class MyBackbone(CTRBackbone):
        def __init__(self, config):
            super().__init__(config)
            self.dnn = DNN(self.flat_size, config.dnn_hidden_sizes)
            self.interaction_size = self.dnn.output_size

        def interact(self, embeddings, feature_ids):
            return self.dnn(embeddings.flatten(1))

Its click logit is a linear layer on q unless it overrides `make_head`.
"""

from collections.abc import Callable

import torch
from torch import nn

from .configuration_clickprompt import CTRConfig
from .layers_ctr import DNN, CrossNetV2, FeatureEmbedding, FirstOrder, SecondOrder, XavierLinear

BACKBONES: dict[str, type["CTRBackbone"]] = {}


def register_backbone(name: str) -> Callable[[type["CTRBackbone"]], type["CTRBackbone"]]:
    """Class decorator: makes a backbone known as `CTRConfig(backbone=name)`.

    Raises:
        ValueError: If another class has that name already.
    """

    def register(backbone: type["CTRBackbone"]) -> type["CTRBackbone"]:
        known = BACKBONES.setdefault(name, backbone)
        if (known.__module__, known.__qualname__) != (backbone.__module__, backbone.__qualname__):
            raise ValueError(f"`name` must be new, but {name!r} is the backbone {known.__qualname__} already.")
        BACKBONES[name] = backbone
        return backbone

    return register


def backbone_class(name: str) -> type["CTRBackbone"]:
    """The backbone registered as `name`.

    Raises:
        ValueError: If there is none; the message lists the names.
    """
    if name not in BACKBONES:
        raise ValueError(
            f"`backbone` must be one of {sorted(BACKBONES)}, got {name!r}. "
            "A backbone of your own is known once the module that registers it has been imported."
        )
    return BACKBONES[name]


def build_backbone(config: CTRConfig) -> "CTRBackbone":
    """The backbone that `config` describes, with fresh weights."""
    return backbone_class(config.backbone)(config)


class CTRBackbone(nn.Module):
    """Base class: embeds the ids, then `interact` makes the interaction vector from the embeddings.

    Subclasses set `interaction_size` (D) and implement `interact`; those whose click logit is more than a linear
    layer on q override `make_head`.
    """

    interaction_size: int

    def __init__(self, config: CTRConfig):
        super().__init__()
        self.config = config
        self.embedding = FeatureEmbedding(config.field_sizes, config.embedding_size, config.max_values)
        self.embedding_dropout = nn.Dropout(config.embedding_dropout)

    @property
    def flat_size(self) -> int:
        """Width F * E of all fields' embeddings side by side."""
        return self.config.num_fields * self.config.embedding_size

    def forward(self, feature_ids: torch.Tensor) -> torch.Tensor:
        """feature_ids (B, C) int64 to the interaction vector q (B, D)."""
        return self.interact(self.embedding_dropout(self.embedding(feature_ids)), feature_ids)

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        """embeddings (B, F, E) and feature_ids (B, C) to q (B, D)."""
        raise NotImplementedError

    def make_head(self) -> "CTRHead":
        """A fresh head that turns this backbone's q into its click logit."""
        return LinearHead(self.interaction_size)


class CTRHead(nn.Module):
    """Base class of what turns q into the CTR logit. Kept apart from the backbone: PA-MLM does not train it."""

    def forward(self, interaction: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        """interaction (B, D) and feature_ids (B, C) to logits (B, 1)."""
        raise NotImplementedError


class LinearHead(CTRHead):
    """A linear layer on the interaction vector."""

    def __init__(self, interaction_size: int):
        super().__init__()
        self.output = XavierLinear(interaction_size, 1)

    def forward(self, interaction: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.output(interaction)


class FMHead(CTRHead):
    """FM's logit: the sum of the second-order interactions and, with `first_order`, the linear term."""

    def __init__(self, config: CTRConfig):
        super().__init__()
        self.first_order = FirstOrder(config.field_sizes, config.max_values) if config.first_order else None

    def forward(self, interaction: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        logits = interaction.sum(dim=-1, keepdim=True)
        return logits if self.first_order is None else logits + self.first_order(feature_ids)


class DeepFMHead(CTRHead):
    """A linear layer on the DNN's part of q, plus the FM logit that is q's last component."""

    def __init__(self, dnn_size: int):
        super().__init__()
        self.output = XavierLinear(dnn_size, 1)

    def forward(self, interaction: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.output(interaction[:, :-1]) + interaction[:, -1:]


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
        self.dnn = DNN(self.flat_size, config.dnn_hidden_sizes, config.hidden_act, config.dnn_dropout)
        self.interaction_size = self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        return self.dnn(embeddings.flatten(1))


@register_backbone("deepfm")
class DeepFM(CTRBackbone):
    """DeepFM (Guo et al. 2017). q: the last hidden layer, then the FM logit."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.first_order = FirstOrder(config.field_sizes, config.max_values) if config.first_order else None
        self.second_order = SecondOrder()
        self.dnn = DNN(self.flat_size, config.dnn_hidden_sizes, config.hidden_act, config.dnn_dropout)
        self.interaction_size = self.dnn.output_size + 1

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        fm_logit = self.second_order(embeddings).sum(dim=-1, keepdim=True)
        if self.first_order is not None:
            fm_logit = fm_logit + self.first_order(feature_ids)
        return torch.cat([self.dnn(embeddings.flatten(1)), fm_logit], dim=-1)

    def make_head(self) -> CTRHead:
        return DeepFMHead(self.dnn.output_size)


@register_backbone("dcnv2")
class DCNv2(CTRBackbone):
    """Parallel DCN-V2 (Wang et al. 2021). q: the cross network's output, then the last hidden layer."""

    def __init__(self, config: CTRConfig):
        super().__init__(config)
        self.cross_net = CrossNetV2(self.flat_size, config.num_cross_layers)
        self.dnn = DNN(self.flat_size, config.dnn_hidden_sizes, config.hidden_act, config.dnn_dropout)
        self.interaction_size = self.flat_size + self.dnn.output_size

    def interact(self, embeddings: torch.Tensor, feature_ids: torch.Tensor) -> torch.Tensor:
        flat = embeddings.flatten(1)
        return torch.cat([self.cross_net(flat), self.dnn(flat)], dim=-1)
