# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What turns raw rows into click probabilities in the service. Imports neither torch nor transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.drift import TrainedValues
from ..encoding_clickprompt import FeatureEncoder, UnknownValues
from ..export.plm_scorer import PLMScorer
from ..export.scorer import Scorer, read_processor_config

Rows = Sequence[Mapping[str, Any]]


class Engine(Protocol):
    """Scores rows in two steps, which tells a mistake in a row from a fault of the model."""

    @property
    def name(self) -> str:
        """What it runs, for the terminal and `/health`."""

    @property
    def encoder(self) -> FeatureEncoder:
        """Knows the fields and their values."""

    @property
    def trained_values(self) -> TrainedValues | None:
        """How often training rows had which values; `None` if it is unknown."""

    @property
    def batch_rows(self) -> int:
        """Rows of a batch beyond which larger batches gain nothing."""

    def read(self, rows: Rows, unknown: UnknownValues) -> Any:
        """Convert raw rows to model inputs, and count values that training rows did not have.

        Raises:
            ValueError: If a row lacks a column or a cell cannot be read; the message names row and column.
            TypeError: If a cell has an unsupported type.
        """

    def score(self, inputs: Any) -> np.ndarray:
        """Predict P(click) of what `read` returns, (B,) float."""


class ExportEngine:
    """Scores with the exported CTR part of a model, through numpy and onnxruntime alone.

    Args:
        scorer: The scorer of its folder.
    """

    batch_rows = 4096
    name = "CTR part, onnxruntime"

    def __init__(self, scorer: Scorer):
        self.scorer, self.encoder, self.trained_values = scorer, scorer.encoder, scorer.trained_values

    def read(self, rows: Rows, unknown: UnknownValues) -> tuple[np.ndarray, np.ndarray | None]:
        return self.scorer.encode(rows, unknown)

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

    def read(self, rows: Rows, unknown: UnknownValues) -> dict[str, np.ndarray]:
        return self.scorer.encode(rows, unknown)

    def score(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.scorer.score_inputs(inputs)


def load_export(folder: str | Path, num_threads: int = 0) -> ExportEngine | PLMExportEngine:
    """Load an exported folder.

    Args:
        folder: A folder that `clickprompt export` wrote.
        num_threads: Threads per batch; 0 for one per core.

    Raises:
        OSError: If a file is missing or damaged.
        ValueError: If the files of `folder` were not written together.
        ImportError: If its texts need torch and transformers, and they are missing.
    """
    config = read_processor_config(folder)
    if config.get("reads_text"):
        return PLMExportEngine(PLMScorer(folder, num_threads, config=config))
    return ExportEngine(Scorer(folder, num_threads, config))
