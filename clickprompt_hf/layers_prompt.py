# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompt encoders: from the interaction vector to the prompts of a PLM.

Shapes: B batch, D interaction size, H PLM hidden size, L PLM layers, A attention heads, K prompt length.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import XavierLinear
from .prompt_injection import CachePath, HiddenStatePath, key_value_projections


@dataclass(frozen=True)
class PromptSizes:
    """What layerwise prompts of a PLM measure.

    Args:
        num_layers: L.
        hidden_size: H.
        num_heads: A, the heads that have keys and values of their own; `None` where prompts are hidden states.
        head_size: Width of a head's keys.
    """

    num_layers: int
    hidden_size: int
    num_heads: int | None
    head_size: int

    @classmethod
    def of(cls, text_config: PreTrainedConfig, path: CachePath | HiddenStatePath) -> "PromptSizes":
        """Those of the PLM that `text_config` describes, for the way that prompts take into it."""
        num_heads, hidden_size = text_config.num_attention_heads, text_config.hidden_size
        # Only some families have fewer key and value heads, or heads of another width than H / A.
        num_key_heads = getattr(text_config, "num_key_value_heads", None) or num_heads
        head_size = getattr(text_config, "head_dim", None) or hidden_size // num_heads
        of_cache = isinstance(path, CachePath)
        return cls(text_config.num_hidden_layers, hidden_size, num_key_heads if of_cache else None, head_size)

    @property
    def last_width(self) -> int:
        """Last dimension of the prompts: a head's, or H."""
        return self.hidden_size if self.num_heads is None else self.head_size

    @property
    def numbers_a_slot(self) -> int:
        """Numbers that make one prompt in one layer: a key and a value, or one hidden state."""
        return self.hidden_size if self.num_heads is None else 2 * self.num_heads * self.head_size


class BottleneckPromptEncoder(nn.Module):
    r"""One bottleneck from the interaction vector to all layers' prompts.

    \\(p = W_2 \tanh(W_1 q + b_1) + b_2\\), with \\(W_1 \in R^{r \times D}\\) and, for keys and values,
    \\(W_2 \in R^{2KLH \times r}\\). The released prompt encoder has r = H, the low-rank one a small r.

    Args:
        interaction_size: D.
        sizes: Those of the prompts.
        config: K and r.
    """

    def __init__(self, interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig):
        super().__init__()
        self.sizes, self.prompt_length = sizes, config.prompt_length
        rank = sizes.hidden_size if config.prompt_encoder == "released" else config.prompt_rank
        self.bottleneck = XavierLinear(interaction_size, rank)
        self.expansion = PromptLinear(rank, self.prompt_length * sizes.num_layers * sizes.numbers_a_slot)
        self.finish = FinishedPrompts(sizes.last_width, config)

    def forward(self, interaction: torch.Tensor, plm: PreTrainedModel) -> torch.Tensor:
        """interaction (B, D) to prompts (B, L, 2, A, K, head size), or (B, L, K, H) if they are hidden states."""
        prompts = self.expansion(torch.tanh(self.bottleneck(interaction)))
        shape = len(prompts), self.prompt_length, self.sizes.num_layers
        if self.sizes.num_heads is None:
            # (B, K·L·H) -> (B, K, L, H) -> (B, L, K, H)
            return self.finish(prompts.view(*shape, -1).transpose(1, 2))
        # (B, K·2L·A·head) -> (B, K, L, 2, A, head) -> (B, L, 2, A, K, head)
        prompts = prompts.view(*shape, 2, self.sizes.num_heads, -1)
        return self.finish(prompts.permute(0, 2, 3, 4, 1, 5))


class PerLayerPromptEncoder(nn.Module):
    r"""The paper's prompt encoder (Eq. 5): an MLP of its own for each layer l and slot k.

    \\(h_{l,k} = W'_{l,k} \tanh(W_{l,k} q + b_{l,k}) + b'_{l,k}\\), of width H. Where the PLM takes keys and values,
    layer l's own projections turn it into a key and a value.

    Args:
        interaction_size: D.
        sizes: Those of the prompts.
        config: K.
    """

    def __init__(self, interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig):
        super().__init__()
        self.num_heads = sizes.num_heads
        slots = {"num_layers": sizes.num_layers, "num_slots": config.prompt_length}
        self.hidden = SlotLinear(**slots, inputs=interaction_size, outputs=sizes.hidden_size)
        self.output = PromptSlotLinear(**slots, inputs=sizes.hidden_size, outputs=sizes.hidden_size)
        self.finish = FinishedPrompts(sizes.last_width, config)

    def forward(self, interaction: torch.Tensor, plm: PreTrainedModel) -> torch.Tensor:
        """interaction (B, D) and the PLM, whose projections are used, to prompts as `BottleneckPromptEncoder`'s."""
        # (B, D) -> (B, 1, 1, D) -> (B, L, K, H)
        states = self.output(torch.tanh(self.hidden(interaction[:, None, None])))
        if self.num_heads is None:
            return self.finish(states)
        keys_and_values = torch.stack(
            [
                torch.stack(project(own), dim=1)
                for project, own in zip(key_value_projections(plm), states.unbind(dim=1))
            ],
            dim=1,
        )
        # (B, L, 2, K, A·head) -> (B, L, 2, K, A, head) -> (B, L, 2, A, K, head)
        return self.finish(keys_and_values.unflatten(-1, (self.num_heads, -1)).transpose(3, 4))


class SlotLinear(nn.Module):
    """A linear layer of its own for each PLM layer and prompt slot."""

    def __init__(self, num_layers: int, num_slots: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, num_slots, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(num_layers, num_slots, outputs))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (B, L or 1, K or 1, inputs) to (B, L, K, outputs)."""
        shape = (*self.weight.shape[:2], self.weight.shape[-1])
        return torch.einsum("blki,lkoi->blko", inputs.expand(-1, *shape), self.weight) + self.bias


class PromptSlotLinear(SlotLinear):
    """The slots' layer that writes prompts: fresh weights are Xavier times `prompt_initializer_scale`."""


class ShallowPromptEncoder(nn.Module):
    """K vectors in front of the input embeddings, each by a linear layer of its own, without activation.

    Args:
        interaction_size: D.
        width: Of the PLM's input embeddings, H for most.
        config: K.
    """

    def __init__(self, interaction_size: int, width: int, config: ClickPromptConfig):
        super().__init__()
        self.layers = nn.ModuleList([PromptLinear(interaction_size, width) for _ in range(config.prompt_length)])
        self.finish = FinishedPrompts(width, config)

    def forward(self, interaction: torch.Tensor, plm: PreTrainedModel) -> torch.Tensor:
        """interaction (B, D) to prompts (B, K, H)."""
        return self.finish(torch.stack([layer(interaction) for layer in self.layers], dim=1))


class PromptLinear(XavierLinear):
    """The linear layer that writes prompts: fresh weights are Xavier times `prompt_initializer_scale`."""


class FinishedPrompts(nn.Module):
    """What comes last to prompts: layer norm over their last dimension, and dropout, where asked for."""

    def __init__(self, width: int, config: ClickPromptConfig):
        super().__init__()
        self.norm = nn.LayerNorm(width) if config.normalize_prompts else None
        self.dropout = nn.Dropout(config.prompt_dropout)

    def forward(self, prompts: torch.Tensor) -> torch.Tensor:
        return self.dropout(prompts if self.norm is None else self.norm(prompts))


def make_prompt_encoder(
    interaction_size: int, plm: Any, path: CachePath | HiddenStatePath | None, config: ClickPromptConfig
) -> nn.Module:
    """The prompt encoder that `config` describes, with fresh weights; `path` is how layerwise prompts enter the PLM.

    Raises:
        ValueError: If it needs something that the PLM does not have.
    """
    if path is None:
        return ShallowPromptEncoder(interaction_size, plm.get_input_embeddings().embedding_dim, config)
    sizes = PromptSizes.of(config.text_config, path)
    if config.prompt_encoder == "paper":
        if sizes.num_heads is not None:
            key_value_projections(plm)
        return PerLayerPromptEncoder(interaction_size, sizes, config)
    return BottleneckPromptEncoder(interaction_size, sizes, config)
