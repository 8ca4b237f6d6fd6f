# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with the HuggingFace `Trainer`."""

from .arguments import ClickPromptTrainingArguments
from .trainer import ClickPromptTrainer

__all__ = ["ClickPromptTrainer", "ClickPromptTrainingArguments"]
