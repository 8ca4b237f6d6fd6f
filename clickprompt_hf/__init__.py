# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt for HuggingFace: click-through-rate prediction with a language model (arXiv 2310.09234).

Importing the package registers its classes with transformers' Auto classes and `pipeline`.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING or Path(*sys.argv[:1]).name.removesuffix(".exe") != "clickprompt":
    from .public_names import *  # noqa: F403
else:
    # the command prints help and version without loading torch, so it gets the public names on first use
    def __getattr__(name):
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # not `from . import`, which would ask this function for the name of the module
        return getattr(importlib.import_module(f"{__name__}.public_names"), name)
