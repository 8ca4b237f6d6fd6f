# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What turns raw rows into click probabilities in the service. Imports neither torch nor transformers."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ..data.drift import TrainedValues
from ..encoding_clickprompt import FeatureEncoder
from ..unknown_values_clickprompt import UnknownValues

Rows = Sequence[Mapping[str, Any]]


class Engine(Protocol):
    """Scores rows in two steps, which tells a mistake in a row from a fault of the model."""

    @property
    def name(self) -> str:
        """What it runs, for the terminal and `/health`."""

    @property
    def encoder(self) -> FeatureEncoder:
        """Encoder of raw rows: its fields and vocabularies."""

    @property
    def trained_values(self) -> TrainedValues | None:
        """How often each value occurs in the training rows; `None` if unknown."""

    @property
    def batch_rows(self) -> int:
        """Number of rows beyond which larger batches gain nothing."""

    def read(self, rows: Rows, unknown: UnknownValues) -> Any:
        """Convert raw rows to model inputs, and count values that training rows did not have.

        Raises:
            ValueError: If a row lacks a column or a cell cannot be read; the message names row and column.
            TypeError: If a cell has an unsupported type.
        """

    def score(self, inputs: Any) -> np.ndarray:
        """Predict P(click) of what `read` returns, (B,) float."""
