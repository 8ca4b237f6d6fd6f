# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompt encoders: from the interaction vector to the prompts of a PLM.

Shapes: B batch, D interaction size, H PLM hidden size, L PLM layers, A attention heads, K prompt length.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import XavierLinear
from .modeling_plm import key_value_projections


class BottleneckPromptEncoder(nn.Module):
    r"""One bottleneck from the interaction vector to all layers' keys and values.

    \\(p = W_2 \tanh(W_1 q + b_1) + b_2\\), with \\(W_1 \in R^{r \times D}\\) and \\(W_2 \in R^{2KLH \times r}\\). The
    released prompt encoder has r = H, the low-rank one a small r.

    Args:
        interaction_size: D.
        config: K, r and the PLM's sizes.
    """

    def __init__(self, interaction_size: int, config: ClickPromptConfig):
        super().__init__()
        text_config = config.text_config
        self.num_heads, self.num_layers = text_config.num_attention_heads, text_config.num_hidden_layers
        self.prompt_length = config.prompt_length
        rank = text_config.hidden_size if config.prompt_encoder == "released" else config.prompt_rank
        self.bottleneck = XavierLinear(interaction_size, rank)
        self.expansion = PromptLinear(rank, 2 * self.prompt_length * self.num_layers * text_config.hidden_size)
        self.finish = FinishedPrompts(text_config.hidden_size // self.num_heads, config)

    def forward(self, interaction: torch.Tensor, plm: PreTrainedModel) -> torch.Tensor:
        """interaction (B, D) to prompts (B, L, 2, A, K, H / A)."""
        prompts = self.expansion(torch.tanh(self.bottleneck(interaction)))
        # (B, K·2L·H) -> (B, K, L, 2, A, H/A) -> (B, L, 2, A, K, H/A)
        prompts = prompts.view(len(prompts), self.prompt_length, self.num_layers, 2, self.num_heads, -1)
        return self.finish(prompts.permute(0, 2, 3, 4, 1, 5))


class PerLayerPromptEncoder(nn.Module):
    r"""The paper's prompt encoder (Eq. 5): an MLP of its own for each layer l and slot k.

    \\(h_{l,k} = W'_{l,k} \tanh(W_{l,k} q + b_{l,k}) + b'_{l,k}\\), of width H; layer l's own key and value projections
    turn it into a key and a value.

    Args:
        interaction_size: D.
        config: K and the PLM's sizes.
    """

    def __init__(self, interaction_size: int, config: ClickPromptConfig):
        super().__init__()
        text_config, length = config.text_config, config.prompt_length
        self.num_heads = text_config.num_attention_heads
        sizes = {"num_layers": text_config.num_hidden_layers, "num_slots": length}
        self.hidden = SlotLinear(**sizes, inputs=interaction_size, outputs=text_config.hidden_size)
        self.output = SlotLinear(**sizes, inputs=text_config.hidden_size, outputs=text_config.hidden_size)
        self.finish = FinishedPrompts(text_config.hidden_size // self.num_heads, config)

    def forward(self, interaction: torch.Tensor, plm: PreTrainedModel) -> torch.Tensor:
        """interaction (B, D) and the PLM, whose projections are used, to prompts (B, L, 2, A, K, H / A)."""
        # (B, D) -> (B, 1, 1, D) -> (B, L, K, H)
        states = self.output(torch.tanh(self.hidden(interaction[:, None, None])))
        keys_and_values = torch.stack(
            [
                torch.stack([key(own), value(own)], dim=1)
                for (key, value), own in zip(key_value_projections(plm), states.unbind(1))
            ],
            dim=1,
        )
        # (B, L, 2, K, H) -> (B, L, 2, K, A, H/A) -> (B, L, 2, A, K, H/A)
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


def make_prompt_encoder(interaction_size: int, plm: Any, config: ClickPromptConfig) -> nn.Module:
    """The prompt encoder that `config` describes, with fresh weights.

    Raises:
        ValueError: If it needs something that the PLM does not have.
    """
    if config.prompt_strategy == "shallow":
        return ShallowPromptEncoder(interaction_size, plm.get_input_embeddings().embedding_dim, config)
    if config.prompt_encoder == "paper":
        key_value_projections(plm)
        return PerLayerPromptEncoder(interaction_size, config)
    return BottleneckPromptEncoder(interaction_size, config)
