# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Clipping of gradients by their norm."""

from collections.abc import Iterable

import torch
from torch import nn


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> torch.Tensor:
    """`torch.nn.utils.clip_grad_norm_`, but of gradients that may be sparse too, over their coalesced values.

    On the CPU, gradients within the limit are left alone: torch multiplies all of them by one, 4 % of a step without a
    PLM.

    Args:
        parameters: Those without a gradient are left out.
        max_norm: Above which gradients are scaled down, in the 2-norm over all of them.

    Returns:
        (), the norm before.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            # rows that a batch reads twice have one gradient, their sum
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(gradients)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    # elsewhere looking at it would wait for the device
    if norm.device.type != "cpu" or scale < 1:
        torch._foreach_mul_(gradients, scale)
    return norm
