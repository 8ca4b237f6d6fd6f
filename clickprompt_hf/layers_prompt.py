# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Prompt encoders: from the interaction vector to the prompts of a PLM.

Shapes: B batch, D interaction size, H PLM hidden size, L PLM layers that get prompts, A attention heads, K prompt
length.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from transformers import initialization as init

from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import SelfInitialized, xavier_linear
from .prompt_injection import PromptSizes

# Hidden states (B, L, K, H) to prompts, see `PromptInjection.project`.
Projection = Callable[[torch.Tensor], torch.Tensor]


class BottleneckPromptEncoder(nn.Module):
    r"""One bottleneck from the interaction vector to the prompts of all layers.

    \\(p = W_2 \tanh(W_1 q + b_1) + b_2\\), with \\(W_1 \in R^{r \times D}\\) and, for keys and values,
    \\(W_2 \in R^{2KLH \times r}\\). The encoder of the authors' code (ClickPrompt, arXiv 2310.09234) has r = H; the
    low-rank one has a small r.

    Args:
        interaction_size: D.
        sizes: Sizes of the prompts.
        config: Configuration with K, r and the scale of the initial weights.
    """

    def __init__(self, interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig):
        super().__init__()
        self.shape = config.prompt_length, sizes.num_layers, *sizes.slot_shape
        rank = sizes.hidden_size if config.prompt_encoder == "released" else config.prompt_rank
        self.bottleneck = xavier_linear(interaction_size, rank)
        self.expansion = xavier_linear(rank, math.prod(self.shape), gain=config.prompt_initializer_scale)
        self.finish = PromptFinish(sizes.slot_shape[-1], config)

    def forward(self, interaction: torch.Tensor, project: Projection) -> torch.Tensor:
        """interaction (B, D) to prompts (B, L, 2, A, K, head size), or (B, L, K, H) if they are hidden states.

        `project` is unused: this encoder writes keys and values itself.
        """
        prompts = self.expansion(torch.tanh(self.bottleneck(interaction)))
        # (B, K·L·2·A·head) -> (B, K, L, 2, A, head) -> (B, L, 2, A, K, head);
        # hidden states (B, K·L·H) -> (B, K, L, H) -> (B, L, K, H)
        return self.finish(prompts.view(-1, *self.shape).movedim(1, -2))


class PerLayerPromptEncoder(nn.Module):
    r"""The paper's prompt encoder (ClickPrompt, arXiv 2310.09234, Eq. 5): one MLP per layer l and slot k.

    \\(h_{l,k} = W'_{l,k} \tanh(W_{l,k} q + b_{l,k}) + b'_{l,k}\\), of width H. Where the PLM takes keys and values,
    layer l's own projections turn \\(h_{l,k}\\) into a key and a value.

    Args:
        interaction_size: D.
        sizes: Sizes of the prompts.
        config: Configuration with K and the scale of fresh weights.
    """

    def __init__(self, interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig):
        super().__init__()
        slots = sizes.num_layers, config.prompt_length
        self.hidden = SlotLinear(*slots, interaction_size, sizes.hidden_size)
        self.output = SlotLinear(*slots, sizes.hidden_size, sizes.hidden_size, gain=config.prompt_initializer_scale)
        self.finish = PromptFinish(sizes.slot_shape[-1], config)

    def forward(self, interaction: torch.Tensor, project: Projection) -> torch.Tensor:
        """interaction (B, D) to prompts shaped as those of `BottleneckPromptEncoder`.

        `project` applies the key and value projections of the PLM's layers to hidden states (B, L, K, H).
        """
        # (B, D) -> (B, 1, 1, D) -> (B, L, K, H)
        states = self.output(torch.tanh(self.hidden(interaction[:, None, None])))
        return self.finish(project(states))


class SlotLinear(SelfInitialized, nn.Module):
    r"""One linear layer per PLM layer l and prompt slot k: \\(y_{l,k} = W_{l,k} x_{l,k} + b_{l,k}\\).

    Fresh weights are Xavier normal for each matrix, biases zero.

    Args:
        num_layers: L, at least 1.
        num_slots: K, at least 1.
        inputs: Width of x.
        outputs: Width of y.
        gain: Factor on the fresh weights, above 0.
    """

    def __init__(self, num_layers: int, num_slots: int, inputs: int, outputs: int, gain: float = 1.0):
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.empty(num_layers, num_slots, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(num_layers, num_slots, outputs))

    def init_own_parameters(self) -> None:
        init.normal_(self.weight, std=self.gain * (2 / sum(self.weight.shape[2:])) ** 0.5)
        init.zeros_(self.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """inputs (B, L or 1, K or 1, inputs) to (B, L, K, outputs)."""
        shape = (*self.weight.shape[:2], self.weight.shape[-1])
        return torch.einsum("blki,lkoi->blko", inputs.expand(-1, *shape), self.weight) + self.bias


class ShallowPromptEncoder(nn.Module):
    r"""One linear layer per prompt slot k, without activation: \\(p_k = W_k q + b_k\\) (ClickPrompt's ablation).

    Args:
        interaction_size: D.
        sizes: Sizes of the prompts, as wide as the PLM's input embeddings.
        config: Configuration with K and the scale of fresh weights.
    """

    def __init__(self, interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig):
        super().__init__()
        (width,) = sizes.slot_shape
        self.layers = nn.ModuleList(
            [
                xavier_linear(interaction_size, width, gain=config.prompt_initializer_scale)
                for _ in range(config.prompt_length)
            ]
        )
        self.finish = PromptFinish(width, config)

    def forward(self, interaction: torch.Tensor, project: Projection) -> torch.Tensor:
        """interaction (B, D) to prompts (B, K, width); `project` is unused."""
        return self.finish(torch.stack([layer(interaction) for layer in self.layers], dim=1))


class PromptFinish(nn.Module):
    """Last step of every prompt encoder: optional layer norm over the last dimension, then dropout.

    Args:
        width: Last dimension of the prompts: a head's width, or H.
        config: Configuration with `normalize_prompts` and `prompt_dropout`.
    """

    def __init__(self, width: int, config: ClickPromptConfig):
        super().__init__()
        self.norm = nn.LayerNorm(width) if config.normalize_prompts else None
        self.dropout = nn.Dropout(config.prompt_dropout)

    def forward(self, prompts: torch.Tensor) -> torch.Tensor:
        """prompts (..., width) to (..., width)."""
        return self.dropout(prompts if self.norm is None else self.norm(prompts))


def make_prompt_encoder(interaction_size: int, sizes: PromptSizes, config: ClickPromptConfig) -> nn.Module:
    """Build the prompt encoder that `config` describes, with fresh weights, for prompts of the given sizes."""
    if config.prompt_strategy == "shallow":
        return ShallowPromptEncoder(interaction_size, sizes, config)
    if config.prompt_encoder == "paper":
        return PerLayerPromptEncoder(interaction_size, sizes, config)
    return BottleneckPromptEncoder(interaction_size, sizes, config)
