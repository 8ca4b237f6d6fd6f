# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Backbones that users register in code of their own, for the scripts."""

import importlib
import importlib.util
import sys
from pathlib import Path


def import_backbone_module(name_or_path: str) -> None:
    """Imports a Python file or an installed module, which registers backbones as it is imported.

    Args:
        name_or_path: A path that ends in `.py`, or a module's dotted name.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If there is no such module.
    """
    if not name_or_path.endswith(".py"):
        importlib.import_module(name_or_path)
        return
    path = Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"`backbone_module` must be a Python file or a module, but there is no {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"`backbone_module` must be a Python file, got {path}.")
    # as the import statement does, so that classes of it can be found again by their module's name
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
