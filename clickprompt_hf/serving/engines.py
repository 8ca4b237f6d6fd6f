# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What turns raw rows into click probabilities in the service. Imports neither torch nor transformers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.drift import TrainedValues
from ..encoding_clickprompt import FeatureEncoder, UnknownValues
from ..export.scorer import ONNX_FILE, Scorer

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
    """Scores with an exported folder, through numpy and onnxruntime alone.

    Args:
        folder: A folder that `clickprompt export` wrote.
        num_threads: Threads per batch; 0 for one per core.

    Raises:
        OSError: If a file is missing.
        ValueError: If the files of `folder` were not written together.
    """

    batch_rows = 4096

    def __init__(self, folder: str | Path, num_threads: int = 0):
        self.scorer = Scorer(folder, num_threads)
        self.encoder = self.scorer.encoder
        self.trained_values = _processor_config(folder).get("trained_values")
        self.name = "CTR part, onnxruntime"

    def read(self, rows: Rows, unknown: UnknownValues) -> tuple[np.ndarray, np.ndarray | None]:
        return self.scorer.encode(rows, unknown)

    def score(self, inputs: tuple[np.ndarray, np.ndarray | None]) -> np.ndarray:
        return self.scorer.score_ids(*inputs)


def is_export(folder: str | Path) -> bool:
    """Whether a folder holds an ONNX model that `clickprompt export` wrote."""
    return (Path(folder) / ONNX_FILE).is_file()


def reads_text(folder: str | Path) -> bool:
    """Whether the exported folder has the model with its PLM."""
    return bool(_processor_config(folder)["reads_text"])


def _processor_config(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / "processor_config.json").read_text(encoding="utf-8"))
