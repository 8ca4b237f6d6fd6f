# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt for HuggingFace: click-through-rate prediction with a language model (arXiv 2310.09234).

Importing the package registers its classes with transformers' Auto classes and `pipeline`.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .estimator import ClickPromptClassifier as ClickPromptClassifier
    from .public_names import *  # noqa: F403
elif Path(*sys.argv[:1]).name.removesuffix(".exe") != "clickprompt":
    # the command prints help and version without loading torch, so it gets the public names on first use
    from .public_names import *  # noqa: F403


if not TYPE_CHECKING:

    def __getattr__(name):
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # the estimator needs all of training, which takes seconds to load
        module = "estimator" if name == "ClickPromptClassifier" else "public_names"
        # not `from . import`, which would ask this function for the name of the module
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)
