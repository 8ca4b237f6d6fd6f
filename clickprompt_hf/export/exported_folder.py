# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tells exported folders from checkpoints. Imports nothing that serving them needs."""

from pathlib import Path

ONNX_FILE = "model.onnx"


def is_export(model: str | Path) -> bool:
    """Whether a model is a folder that `clickprompt export` wrote."""
    return (Path(model) / ONNX_FILE).is_file()
