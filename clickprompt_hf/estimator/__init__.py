# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt as a classifier of scikit-learn."""

from .classifier import ClickPromptClassifier

__all__ = ["ClickPromptClassifier"]
