# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Imports custom backbones."""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path


def add_backbone_module(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names a custom backbone."""
    parser.add_argument("--backbone_module", help="Python file or module that registers the model's custom backbone")


def import_backbone_module(name_or_path: str) -> None:
    """Import a Python file or an installed module, which registers backbones.

    Args:
        name_or_path: A path that ends in `.py`, or the dotted name of a module.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such module.
    """
    if not name_or_path.endswith(".py"):
        try:
            importlib.import_module(name_or_path)
        except ModuleNotFoundError as error:
            # the missing module may be one that it imports; the error names it
            raise ValueError(
                f"`backbone_module` must be a Python file (.py) or an installed module, got {name_or_path!r}: {error}."
            ) from error
        return
    path = Path(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"`backbone_module` must be a Python file or a module, but there is no {path}.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"`backbone_module` must be a Python file, got {path}.")
    # registered, as the import statement does, so that pickling finds its classes by module name
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
