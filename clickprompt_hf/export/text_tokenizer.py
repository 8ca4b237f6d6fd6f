# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The tokenizer of an exported model with its PLM, run by the library tokenizers alone.

Shapes: B batch, T text tokens.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..tokenization_clickprompt import SpecialTokens, padded_on_right, token_lists, without_control_tokens

# Saved by transformers, for fast tokenizers only.
TOKENIZER_FILE = "tokenizer.json"
# What transformers reads from its other files, and the processor's token limit.
SETTINGS_FILE = "text_tokens.json"


class TextTokenizer:
    """Turns texts into tokens as the processor of the exported model does. Threads may share it.

    Args:
        folder: A folder with the files `tokenizer.json` and `text_tokens.json`.

    Raises:
        OSError: If a file is missing or damaged.
        ImportError: If the library tokenizers is missing.
    """

    def __init__(self, folder: str | Path):
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError("Reading text needs the library tokenizers: pip install tokenizers") from error

        folder = Path(folder)
        try:
            state = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
            settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            self._around = SpecialTokens(settings["before"], settings["after"])
            self._kept = (settings["first_kept"], settings["end_of_kept"])
            self._padding: int = settings["padding"]
            self._backend = without_control_tokens(Tokenizer.from_str(state), set(settings["control_tokens"]))
        except OSError:
            raise
        # tokenizers raises plain exceptions
        except Exception as error:
            raise OSError(
                f"{folder} must hold {TOKENIZER_FILE} and {SETTINGS_FILE} as they were exported, but one of them is "
                f"damaged: {error!r}."
            ) from error

    def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Turn B texts into `input_ids` and `attention_mask`, both (B, T) int64, padded on the right."""
        ids = token_lists(self._backend, texts, self._around, self._kept)
        width = max(map(len, ids), default=0)
        ones = [[1] * len(tokens) for tokens in ids]
        return {
            "input_ids": padded_on_right(ids, width, self._padding),
            "attention_mask": padded_on_right(ones, width, 0),
        }


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a tokenizer next to its `tokenizer.json`."""
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
