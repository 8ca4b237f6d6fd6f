# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores the service's rows with a checkpoint in PyTorch."""

from typing import Any

import numpy as np
import torch

from ..columns_clickprompt import PROBABILITY_COLUMN
from ..pipeline_clickprompt import ClickPromptPipeline, scoring_batch_size
from ..processing_clickprompt import ClickPromptProcessor
from ..unknown_values_clickprompt import UnknownValues
from .engine import Rows


class CheckpointEngine:
    """Scores with a model and its processor.

    Args:
        model: A `ClickPromptForCTR` finetuned for clicks.
        processor: The processor that the model was trained with.

    Raises:
        ValueError: If the processor belongs to another model, or the model was not trained for clicks.
    """

    def __init__(self, model: Any, processor: ClickPromptProcessor):
        self.pipeline = ClickPromptPipeline(model=model.eval(), processor=processor, device=model.device)
        self.encoder, self.trained_values = processor, processor.trained_values
        self.batch_rows = scoring_batch_size(model.config)
        reader = "with" if model.config.use_plm else "without"
        reader += " the PLM" if processor.text_encoder is None else " the PLM, with the text encoder"
        self.name = f"{reader}, PyTorch on {model.device}"

    def read(self, rows: Rows, unknown: UnknownValues) -> dict[str, torch.Tensor]:
        columns = self.encoder.columns(rows, lost_keys=unknown.lost_keys)
        # the label, which requests may hold, is ignored
        read = {name: columns[name] for name in self.encoder.read_columns}
        return self.pipeline.preprocess(read, unknown=unknown)

    def score(self, inputs: dict[str, torch.Tensor]) -> np.ndarray:
        scores = self.pipeline.score_inputs(inputs, self.batch_rows)
        return np.asarray([score[PROBABILITY_COLUMN] for score in scores])
