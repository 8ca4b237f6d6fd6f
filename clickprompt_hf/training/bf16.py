# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""bf16 on this machine: some processors multiply it faster than fp32, others only emulate it."""

import os
import time
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.debug_utils import DebugOption

# below this ratio of bf16 to fp32 speed, the conversions around the products cost more than they save
_MIN_SPEEDUP = 1.2
# 0.3 GFLOP: one to three milliseconds in fp32 on one core
_SIZE = 512
_REPEATS = 10
# seconds to spend on one type
_LONGEST = 0.1
# read by oneDNN and by torch's layer above it
_KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
_KEPT_KERNELS = "256"


def bf16_pays() -> bool:
    """Whether bf16 makes training faster: on accelerators that support it, and on CPUs that multiply it faster."""
    if torch.accelerator.is_available():
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return cpu_has_bf16() and _seconds(torch.float32) > _MIN_SPEEDUP * _seconds(torch.bfloat16)


def choose_attention(model: Any, args: TrainingArguments, name: str | None) -> None:
    """Set the PLM's attention implementation to `name`, or to the fastest one, and limit the kernels that bf16 keeps.

    The backward pass of torch's fused attention is slow in bf16 on CPUs: at 4 layers x 256 and 62 keys it takes a
    fifth of a training step, 7 times as long as plain matrix products. With `debug="underflow_overflow"`, plain matrix
    products are chosen too: transformers' detector fails at the boolean masks of fused attention.
    """
    on_cpu_in_bf16 = args.bf16 and args.device.type == "cpu"
    if on_cpu_in_bf16:
        keep_few_kernels()
    needs_eager = on_cpu_in_bf16 or DebugOption.UNDERFLOW_OVERFLOW in args.debug
    name = name or ("eager" if needs_eager else None)
    if name and isinstance(model, PreTrainedModel):
        model.set_attn_implementation(name)


def keep_few_kernels() -> None:
    """Let oneDNN, which multiplies bf16 on CPUs, keep 256 kernels with their buffers instead of 1,024.

    Batches of texts keep bringing new shapes, each with separate kernels: the memory for training MiniLM on batches of
    1,024 rows would grow by more than 1 GB within 12 steps, with no gain in speed. Numbers in the environment take
    precedence. They are read only once, by the first product in bf16.
    """
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, _KEPT_KERNELS)


def cpu_has_bf16() -> bool:
    """Whether torch has fast bf16 products for this CPU.

    Ask before running one: without them a product of two 1024 x 1024 matrices takes seconds instead of milliseconds.
    """
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and bool(mkldnn.enabled) and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _seconds(dtype: torch.dtype) -> float:
    """Time of one small matrix product on the CPU: the best of several, as other load only slows them down."""
    left, right = (torch.randn(_SIZE, _SIZE).to(dtype) for _ in range(2))
    seconds: list[float] = []
    # emulated products may take half a second each: one of them is enough
    while len(seconds) < _REPEATS and sum(seconds) < _LONGEST:
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return min(seconds)
