# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of raw rows from a folder that `export_plm` wrote, through onnxruntime.

It needs numpy, onnxruntime and tokenizers, but neither torch nor transformers; see `PLMScorer` for exceptions.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..columns_clickprompt import Columns
from ..processor_files_clickprompt import VOCABULARIES_FILE, read_processor_config, read_vocabularies
from ..rendering_clickprompt import TextRenderer
from ..schema_clickprompt import Schema
from ..tables_clickprompt import TABLES_FILE, JoinedTables
from ..unknown_values_clickprompt import UnknownValues
from ..unread_cells_clickprompt import UnreadCells
from .scorer import open_session
from .text_tokenizer import SETTINGS_FILE, TextTokenizer


class RowReader(TextRenderer):
    """Turns raw rows into the inputs of an exported model with its PLM, as the processor does. Threads may share it.

    Args:
        folder: A folder that `export_plm` wrote.
        config: Content of its `processor_config.json`.

    Raises:
        OSError: If a file is missing or damaged.
        ValueError: If the vocabularies were not written together with `config`.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        vocabularies = read_vocabularies(folder / VOCABULARIES_FILE, config)
        super().__init__(Schema.from_dict(config["schema"]), vocabularies, config["boundaries"], config.get("vectors"))
        if (folder / TABLES_FILE).is_file():
            self.tables = JoinedTables.read(folder / TABLES_FILE)
        self.tokenizer = TextTokenizer(folder)

    @property
    def read_columns(self) -> list[str]:
        """Columns that rows must have, without repeats."""
        return self.schema.raw_columns

    def inputs(
        self, columns: Mapping[str, Any], unknown: UnknownValues, unread: Sequence[UnreadCells] = ()
    ) -> dict[str, np.ndarray]:
        """Convert columns, as `columns` returns them, to model inputs.

        Args:
            columns: Raw values by column.
            unknown: As in `PLMScorer.encode`.
            unread: As in `PLMScorer.encode`.
        """
        inputs = {"feature_ids": self.encode(columns, unread=unread)}
        if self.scales:
            inputs["feature_vectors"] = self.encode_vectors(columns)
        unknown.add_rows(columns, inputs["feature_ids"], inputs.get("feature_vectors"))
        return {**inputs, **self.tokenizer(self.render(columns))}


class PLMScorer:
    """Scores raw rows with an exported model and its PLM. Several threads may share a scorer.

    Rows are read without torch and transformers, except in a folder whose tokenizer is written in Python or whose
    texts become vectors by a text encoder, and in one that an earlier version exported.

    Args:
        folder: A folder that `export_plm` wrote.
        num_threads: Threads per call; 0 for one per core.
        batch_size: Rows per batch, at least 1.
        config: Content of its `processor_config.json`, if that was read before.

    Raises:
        OSError: If a file is missing or damaged.
        ValueError: If the files of `folder` were not written together.
        ImportError: If the folder needs torch or transformers, and they are missing; the message says why.
    """

    def __init__(
        self,
        folder: str | Path,
        num_threads: int = 0,
        batch_size: int = 64,
        config: Mapping[str, Any] | None = None,
    ):
        folder = Path(folder)
        config = read_processor_config(folder) if config is None else config
        self.trained_values = config.get("trained_values")
        self.encoder: TextRenderer
        self._inputs: Callable[..., dict[str, np.ndarray]]
        if (reason := needs_transformers(folder, config)) is None:
            self.encoder = RowReader(folder, config)
            self._inputs = self.encoder.inputs
        else:
            self.encoder = _processor(folder, reason)
            self._inputs = self._inputs_of_processor
        self.session = open_session(folder, config["fingerprint"], num_threads)
        self.batch_size = batch_size
        # a model whose score does not depend on ids has no such input
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

    def encode(
        self, rows, unknown: UnknownValues | None = None, unread: Sequence[UnreadCells] = ()
    ) -> dict[str, np.ndarray]:
        """Convert raw rows to model inputs.

        Args:
            rows: As for the processor. The label is ignored.
            unknown: Counts values that training rows did not have, and keys that joined tables lack. By default, the
                scorer warns about columns of which it finds hardly any known value, and about tables that lack keys.
            unread: Per field, counts cells that are not numbers or times. By default, this call warns about its own.
        """
        counted = UnknownValues(self.encoder) if unknown is None else unknown
        columns = self.encoder.columns(rows, lost_keys=counted.lost_keys)
        read = {name: columns[name] for name in self.encoder.read_columns}
        inputs = self._inputs(read, unknown=counted, unread=unread)
        if unknown is None:
            counted.warn()
        return inputs

    def _inputs_of_processor(
        self, columns: Mapping[str, Any], unknown: UnknownValues, unread: Sequence[UnreadCells]
    ) -> dict[str, np.ndarray]:
        # mypy takes it for any renderer
        processor: Any = self.encoder
        return dict(processor(Columns(columns), return_tensors="np", unknown=unknown, unread=unread))

    def score_inputs(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Predict P(click) of what `encode` returns, in batches of texts of similar length, (B,) float32.

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


def needs_transformers(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Why reading rows for an exported folder needs torch and transformers; `None` if it does not."""
    if (config.get("vectors") or {}).get("text_encoder") is not None:
        return "its text encoder turns texts into vectors"
    if not (folder / SETTINGS_FILE).is_file():
        return f"it has no {SETTINGS_FILE}: its tokenizer is a Python one, or it was exported by an earlier version"
    return None


def _processor(folder: Path, reason: str) -> Any:
    """Load the processor of an exported folder.

    Raises:
        ImportError: If torch or transformers is missing.
    """
    try:
        from ..processing_clickprompt import ClickPromptProcessor
    except ImportError as error:
        raise ImportError(
            f"Reading rows for {folder} needs torch and transformers, as {reason}. Install them with pip install "
            "clickprompt_hf, or export a model whose PLM has a fast tokenizer and no text encoder."
        ) from error
    return ClickPromptProcessor.from_pretrained(folder)
