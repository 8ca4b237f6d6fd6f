# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of raw rows from a folder that `export_plm` wrote, through onnxruntime.

The processor reads the rows, so this needs the package.
"""

from pathlib import Path

import numpy as np

from ..encoding_clickprompt import UnknownValues
from ..processing_clickprompt import ClickPromptProcessor
from .scorer import open_session


class PLMScorer:
    """Scores raw rows with an exported model and its PLM. One scorer may be used by several threads at once.

    Args:
        folder: A folder that `export_plm` wrote.
        num_threads: Threads per call; 0 for one per core.
        batch_size: Rows per batch, at least 1.

    Raises:
        OSError: If a file is missing.
        ValueError: If the files of `folder` were not written together.
    """

    def __init__(self, folder: str | Path, num_threads: int = 0, batch_size: int = 64):
        self.processor = ClickPromptProcessor.from_pretrained(folder)
        self.session = open_session(Path(folder), self.processor.fingerprint, num_threads)
        self.batch_size = batch_size
        # a model whose score does not depend on ids takes none
        self._taken = [entry.name for entry in self.session.get_inputs()]

    def score(self, rows) -> np.ndarray:
        """Predict P(click) of raw rows, (B,) float32.

        Args:
            rows: As for the processor.

        Raises:
            ValueError: If a row is wrong, as the processor raises it.
            TypeError: If `rows` or a row has an unsupported type.
        """
        return self.score_inputs(self.encode(rows))

    def encode(self, rows, unknown: UnknownValues | None = None) -> dict[str, np.ndarray]:
        """Convert raw rows to model inputs.

        Args:
            rows: As for the processor. The label is ignored.
            unknown: Counts values that training rows did not have; by default, the processor warns about columns of
                which it finds hardly any known value.
        """
        columns = self.processor.columns(rows)
        read = {name: columns[name] for name in self.processor.read_columns}
        return dict(self.processor(read, return_tensors="np", unknown=unknown))

    def score_inputs(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Predict P(click) of what `encode` returns, in batches of texts of like length, (B,) float32.

        Raises:
            ValueError: If the probabilities are NaN.
        """
        lengths = inputs["attention_mask"].sum(axis=1)
        # longest first: a batch that does not fit in memory fails at once
        order = np.argsort(-lengths, kind="stable")
        probabilities = np.empty(len(lengths), dtype=np.float32)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch = {name: inputs[name][rows] for name in self._taken}
            for name in ("input_ids", "attention_mask"):
                batch[name] = batch[name][:, : lengths[rows[0]]]
            (probabilities[rows],) = self.session.run(None, batch)
        if np.isnan(probabilities).any():
            raise ValueError("The probabilities of the model must be numbers, got NaN: its weights are damaged.")
        return probabilities
