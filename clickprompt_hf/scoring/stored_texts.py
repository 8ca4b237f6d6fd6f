# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""States of texts from the files that training leaves, for scoring."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from ..data.collators import states_tensor
from ..data.text_states import StateType, TextStates, fingerprint_of, folder_of
from ..data.text_variants import text_keys
from ..recent_texts import DEFAULT_MEGABYTES, RecentTexts, reads_states

logger = logging.get_logger(__name__)


class StoredTexts(RecentTexts):
    """Reads text states from a file, and computes and keeps missing ones. Nothing is written to it.

    Args:
        model: The model, whose weights stay as they are.
        folder: Where the states of all PLMs are, as for `TextStates.build`. Warns if this model's states are missing.
        dtype: Type of the states. 16-bit states change scores by more than 1e-6.
        megabytes: As in `RecentTexts`, but above 0.

    Raises:
        ValueError: If `folder` is not a folder, the model has no layers that see the text alone, a file is damaged, or
            a number is out of range.
    """

    def __init__(
        self, model: Any, folder: str | Path, dtype: StateType = "fp32", megabytes: float = DEFAULT_MEGABYTES
    ):
        super().__init__(megabytes)
        if megabytes == 0:
            raise ValueError(
                "`text_state_memory` must be above 0 with `text_state_dir`, got 0: no states would be read."
            )
        if not reads_states(model.config):
            raise ValueError(
                "`text_state_dir` needs a model with layers below the prompts (`prompt_depth`) and, with more than "
                "one such layer, a `pooling` other than 'mean_first_last'; got "
                f"prompt_depth={model.config.prompt_depth}, pooling={model.config.pooling!r}."
            )
        if not Path(folder).is_dir():
            raise ValueError(
                f"`text_state_dir` must be a folder of cached states, got {folder}, which is not a folder."
            )
        place = folder_of(folder, fingerprint_of(model, dtype))
        self.states = TextStates(place) if place.is_dir() else None
        if self.states is None:
            logger.warning(
                f"{folder} has no {dtype} states of this model's lower layers; computing them. Training with "
                "`cache_text_states=True` saves them."
            )

    def read(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        if self.states is None:
            return super().read(model, input_ids, attention_mask)
        entries = self.states.find(text_keys(input_ids.cpu().numpy(), attention_mask.cpu().numpy()))
        found = dict(zip(np.flatnonzero(entries >= 0).tolist(), self._stored(entries[entries >= 0])))
        if missing := np.flatnonzero(entries < 0).tolist():
            found |= zip(missing, super().read(model, input_ids[missing], attention_mask[missing]))
        return [found[text].to(input_ids.device, torch.float32) for text in range(len(entries))]

    def _stored(self, entries: np.ndarray) -> list[torch.Tensor]:
        assert self.states is not None
        states, mask = self.states.gather(entries)
        return [text[:length] for text, length in zip(states_tensor(states), mask.sum(axis=1).tolist())]
