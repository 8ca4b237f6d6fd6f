# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From the PLM's states to the click logit and its loss: pooling, the text's head, the fusion of both sides.

Shapes: B batch, K prompts among the states, T text tokens, H PLM hidden size.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import ClickPromptConfig
from .layers_ctr import SelfInitialized, xavier_linear
# isort: on


def pool(
    states: torch.Tensor, attention_mask: torch.Tensor | None, pooling: str | None, num_prompts: int = 0
) -> torch.Tensor:
    """Pool states (B, K + T, H) of prompts and a text to (B, H), without padding.

    Args:
        states: States of one layer, or a mean of layers.
        attention_mask: (B, T), 1 at text, 0 at padding; `None` for all ones.
        pooling: `"cls"` for the first state, `"last"` for the text's last one, else the mean of all.
        num_prompts: K.
    """
    if pooling == "cls":
        return states[:, 0]
    if attention_mask is None:
        return states[:, -1] if pooling == "last" else states.mean(dim=1)
    mask = F.pad(attention_mask.to(states.device), (num_prompts, 0), value=1)
    if pooling == "last":
        # the position of the mask's last 1, whichever side is padded
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        return states[torch.arange(states.shape[0], device=states.device), last]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class TextHead(nn.Module):
    r"""Text logit of the pooled text t: \\(z = v^T \tanh(U t + c) + d\\).

    Fresh weights are Xavier normal. With a PLM's normal(0.02), the text side of a narrow PLM starts so slowly that the
    CTR side learns what either could.

    Args:
        hidden_size: H.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.dense = xavier_linear(hidden_size, hidden_size)
        self.output = xavier_linear(hidden_size, 1)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """pooled (B, H) to logits (B, 1)."""
        return self.output(torch.tanh(self.dense(pooled)))


class Fusion(SelfInitialized, nn.Module):
    r"""Fuses the two sides' logits into the click logit (ClickPrompt, arXiv 2310.09234).

    \\(z_{ctr} + z_{text}\\), or with `fusion="weighted"` \\(\alpha z_{ctr} + (1 - \alpha) z_{text}\\); in the authors'
    code α weighs the text. If only one logit exists, it passes through. A fixed α is a buffer.

    Args:
        config: Configuration of the fusion.
    """

    def __init__(self, config: ClickPromptConfig):
        super().__init__()
        self.initial_alpha = float(config.fusion_alpha)
        self.alpha_on = config.fusion_alpha_on
        self.alpha: Any
        alpha = torch.full((1,), self.initial_alpha) if config.fusion == "weighted" else None
        if alpha is not None and config.learn_fusion_alpha:
            self.alpha = nn.Parameter(alpha)
        else:
            self.register_buffer("alpha", alpha)

    def init_own_parameters(self) -> None:
        if self.alpha is not None:
            init.constant_(self.alpha, self.initial_alpha)

    def forward(self, ctr_logits: torch.Tensor | None, text_logits: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, 1), at least one of them, to the click logit (B, 1)."""
        if ctr_logits is None:
            assert text_logits is not None  # every configuration has a side
            return text_logits
        if text_logits is None:
            return ctr_logits
        # under `device_map`, the sides may be on two devices
        text_logits = text_logits.to(ctr_logits.device)
        if self.alpha is None:
            return ctr_logits + text_logits
        alpha_on_ctr = self.alpha if self.alpha_on == "ctr" else 1 - self.alpha
        return alpha_on_ctr * ctr_logits + (1 - alpha_on_ctr) * text_logits


def click_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Compute the mean binary cross-entropy, (), of click logits (B, 1) and clicks (B,) not labeled -100."""
    labels = labels.to(logits.device)
    counted = labels != -100
    losses = F.binary_cross_entropy_with_logits(
        logits.squeeze(-1).float(), labels.clamp(min=0).float(), reduction="none"
    )
    return (losses * counted).sum() / loss_divisor(num_items_in_batch, counted)


def loss_divisor(num_items_in_batch: torch.Tensor | int | None, counted: torch.Tensor) -> torch.Tensor | int:
    """Divisor of a summed loss: at least 1, so that a batch without anything to predict has loss 0."""
    if num_items_in_batch is None:
        return counted.sum().clamp(min=1)
    if isinstance(num_items_in_batch, torch.Tensor):
        return num_items_in_batch.to(counted.device).clamp(min=1)
    return max(num_items_in_batch, 1)
