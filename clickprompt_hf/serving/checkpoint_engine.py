# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores the service's rows with a checkpoint in PyTorch, or with an exported model and its PLM in onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoding_clickprompt import UnknownValues
from ..export.plm_scorer import PLMScorer
from ..pipeline_clickprompt import ClickPromptPipeline, default_batch_size
from ..processing_clickprompt import ClickPromptProcessor
from .engines import Rows


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
        self.batch_rows = default_batch_size(model.config)
        self.name = f"{'with' if model.config.use_plm else 'without'} the PLM, PyTorch on {model.device}"

    def read(self, rows: Rows, unknown: UnknownValues) -> dict[str, torch.Tensor]:
        columns = self.encoder.columns(rows)
        # the label, which requests may hold, is ignored
        read = {name: columns[name] for name in self.encoder.read_columns}
        return self.pipeline.preprocess(read, unknown=unknown)

    def score(self, inputs: dict[str, torch.Tensor]) -> np.ndarray:
        scores = self.pipeline.score_inputs(inputs, self.batch_rows)
        return np.asarray([score["click_probability"] for score in scores])


class PLMExportEngine:
    """Scores with a folder that `clickprompt export --with_plm` wrote.

    Args:
        folder: The folder.
        num_threads: Threads per batch; 0 for one per core.

    Raises:
        OSError: If a file is missing.
        ValueError: If the files of `folder` were not written together.
    """

    name = "with the PLM, onnxruntime"

    def __init__(self, folder: str | Path, num_threads: int = 0):
        self.scorer = PLMScorer(folder, num_threads)
        self.encoder, self.trained_values = self.scorer.processor, self.scorer.processor.trained_values
        self.batch_rows = self.scorer.batch_size

    def read(self, rows: Rows, unknown: UnknownValues) -> dict[str, np.ndarray]:
        return self.scorer.encode(rows, unknown)

    def score(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.scorer.score_inputs(inputs)
