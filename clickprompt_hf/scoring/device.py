# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Where models score."""

import torch


def scoring_device() -> torch.device:
    """The accelerator of this process if it has one, else the CPU."""
    # builds for CUDA name it even on machines without a GPU, unless asked to check
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
