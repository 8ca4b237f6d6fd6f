# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Exported folders of either kind, scored in two steps: raw rows to inputs, and these to click probabilities.

Imports neither torch nor transformers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..processor_files_clickprompt import read_processor_config
from ..unknown_values_clickprompt import UnknownValues
from ..unread_cells_clickprompt import UnreadCells
from .plm_scorer import PLMScorer
from .scorer import Scorer


class ExportEngine:
    """Scores with the exported CTR part of a model, through numpy and onnxruntime alone.

    Args:
        scorer: The scorer of its folder.
    """

    batch_rows = 4096
    name = "CTR part, onnxruntime"

    def __init__(self, scorer: Scorer):
        self.scorer, self.encoder, self.trained_values = scorer, scorer.encoder, scorer.trained_values

    def read(
        self, rows, unknown: UnknownValues, unread: Sequence[UnreadCells] = ()
    ) -> tuple[np.ndarray, np.ndarray | None]:
        return self.scorer.encode(rows, unknown, unread)

    def score(self, inputs: tuple[np.ndarray, np.ndarray | None]) -> np.ndarray:
        return self.scorer.score_ids(*inputs)


class PLMExportEngine:
    """Scores with an exported model and its PLM, through numpy, tokenizers and onnxruntime alone; see `PLMScorer`.

    Args:
        scorer: The scorer of its folder.
    """

    name = "with the PLM, onnxruntime"

    def __init__(self, scorer: PLMScorer):
        self.scorer, self.encoder, self.trained_values = scorer, scorer.encoder, scorer.trained_values
        self.batch_rows = scorer.batch_size

    def read(self, rows, unknown: UnknownValues, unread: Sequence[UnreadCells] = ()) -> dict[str, np.ndarray]:
        return self.scorer.encode(rows, unknown, unread)

    def score(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.scorer.score_inputs(inputs)


def load_export(
    folder: str | Path, num_threads: int = 0, batch_size: int | None = None
) -> ExportEngine | PLMExportEngine:
    """Load an exported folder.

    Args:
        folder: A folder that `clickprompt export` wrote.
        num_threads: Threads per batch; 0 for one per core.
        batch_size: Rows per batch of a model with a PLM, at least 1; `None` for the default.

    Raises:
        OSError: If a file is missing or damaged.
        ValueError: If the files of `folder` were not written together.
        ImportError: If its texts need torch and transformers, and they are missing.
    """
    config = read_processor_config(folder)
    if config.get("reads_text"):
        chosen = {} if batch_size is None else {"batch_size": batch_size}
        return PLMExportEngine(PLMScorer(folder, num_threads, config=config, **chosen))
    return ExportEngine(Scorer(folder, num_threads, config))
