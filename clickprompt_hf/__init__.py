# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt for HuggingFace: click-through-rate prediction with a language model (arXiv 2310.09234).

Importing the package registers its classes with transformers' Auto classes and `pipeline`.
"""

# __all__ names what `public_names` exports
# ruff: noqa: F403, F405

import importlib
import sys
from typing import TYPE_CHECKING

__version__ = "0.2.0"

__all__ = [
    "CTRBackbone",
    "CTRConfig",
    "CTRHead",
    "ClickPromptClassifier",
    "ClickPromptConfig",
    "ClickPromptForCTR",
    "ClickPromptForPACLM",
    "ClickPromptForPAMLM",
    "ClickPromptModel",
    "ClickPromptPipeline",
    "ClickPromptProcessor",
    "ClickPromptTrainer",
    "ClickPromptTrainingArguments",
    "FieldSchema",
    "Schema",
    "register_backbone",
]

# Modules of the names that are loaded on first use: they need all of training, which takes seconds to load.
_LAZY_MODULES = {
    "ClickPromptClassifier": "estimator",
    "ClickPromptTrainer": "training",
    "ClickPromptTrainingArguments": "training",
}

if TYPE_CHECKING:
    from .estimator import ClickPromptClassifier
    from .public_names import *
    from .training import ClickPromptTrainer, ClickPromptTrainingArguments
elif "clickprompt_command" not in sys.modules:
    # the command gets the public names on first use, see clickprompt_command.py
    from .public_names import *


if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # not `from . import`, which would ask this function for the name of the module
        return getattr(importlib.import_module(f"{__name__}.{_LAZY_MODULES.get(name, 'public_names')}"), name)

    def __dir__():
        return sorted({*globals(), *__all__})
