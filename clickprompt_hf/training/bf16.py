# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Whether bf16 pays on this machine: some processors multiply it many times faster than fp32, others emulate it."""

import time

import torch


def matrix_rate(dtype: torch.dtype, device: torch.device | str = "cpu", repeats: int = 10) -> float:
    """GFLOP/s of products of two square matrices, the median of `repeats` after three that warm up."""
    rates = _matrix_rates(dtype, torch.device(device), repeats)
    return rates[repeats // 2]


def bf16_pays() -> bool:
    """Whether training in bf16 is the faster: on an accelerator that has it, or where the CPU's products say so."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    cpu = torch.device("cpu")
    # the best of several: what else the machine does only slows them down
    return max(_matrix_rates(torch.bfloat16, cpu, 10)) > 1.2 * max(_matrix_rates(torch.float32, cpu, 10))


def _matrix_rates(dtype: torch.dtype, device: torch.device, repeats: int) -> list[float]:
    """GFLOP/s of each of `repeats` products, in ascending order."""
    size = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(3 + repeats):
        start = time.perf_counter()
        left @ right
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    return sorted(2 * size**3 / taken / 1e9 for taken in seconds[3:])
