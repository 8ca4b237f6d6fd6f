# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of raw rows from an exported folder, with only numpy and onnxruntime.

    from scorer import Scorer

    scorer = Scorer()
    scorer.score([{"user_id": 7, "item_id": 42, "title": "Up"}])

`export_ctr` copies this file and the modules that it imports into the folder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..encoding_clickprompt import FeatureEncoder
from ..processor_files_clickprompt import VOCABULARIES_FILE, read_processor_config, read_vocabularies
from ..row_warnings_clickprompt import RowWarnings as RowWarnings  # clusters find it here
from ..schema_clickprompt import Schema
from ..tables_clickprompt import TABLES_FILE, JoinedTables
from ..unknown_values_clickprompt import UnknownValues, warn_of_unknown_values
from ..unread_cells_clickprompt import UnreadCells

ONNX_FILE = "model.onnx"
# Larger blocks are not faster and take more memory.
_ROWS_PER_BLOCK = 4096


class Scorer:
    """Scores raw rows. Several threads may share a scorer.

    Args:
        folder: An exported folder. Defaults to the folder of this file.
        num_threads: Threads per call; 0 for one per core.
        config: Content of its `processor_config.json`, if that was read before.

    Raises:
        OSError: If a file is missing.
        ValueError: If the files of `folder` were not written together.
    """

    def __init__(
        self, folder: str | Path | None = None, num_threads: int = 0, config: Mapping[str, Any] | None = None
    ):
        folder = Path(__file__).parent if folder is None else Path(folder)
        config = read_processor_config(folder) if config is None else config
        self.trained_values = config.get("trained_values")
        vocabularies = read_vocabularies(folder / VOCABULARIES_FILE, config)
        self.encoder = FeatureEncoder(
            Schema.from_dict(config["schema"]), vocabularies, config["boundaries"], config.get("vectors")
        )
        if (folder / TABLES_FILE).is_file():
            self.encoder.tables = JoinedTables.read(folder / TABLES_FILE)
        self.model = folder / ONNX_FILE
        self.session = open_session(folder, config["fingerprint"], num_threads)
        per_column = [
            (-1 if number > 1 else 0, size)
            for number, size in zip(self.encoder.max_values, self.encoder.field_sizes)
            for _ in range(number)
        ]
        self._lowest, self._sizes = np.asarray(per_column, dtype=np.int64).T

    def score(self, rows) -> np.ndarray:
        """Predict P(click) of raw rows, (B,) float32.

        Args:
            rows: A list of rows as mappings from column to value, one such row, a mapping from column to values, a
                pandas or polars data frame or an Arrow table. Unseen and missing values are scored too; a column with
                hardly any other values triggers a warning. Columns that the schema does not name are ignored. Columns
                of texts that the backbone reads as vectors hold these vectors, as the text encoder makes them.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, a cell of a single-valued field
                holds several values, or a cell of a field of vectors is not a vector of its size.
            TypeError: If `rows` or a row has an unsupported type.
        """
        return self.score_ids(*self.encode(rows))

    def encode(
        self, rows, unknown: UnknownValues | None = None, unread: Sequence[UnreadCells] = ()
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Convert raw rows to what `score_ids` takes: `feature_ids` and, with fields of vectors, `feature_vectors`.

        Args:
            rows: As in `score`.
            unknown: Counts values that training rows did not have, and keys that joined tables lack. By default, this
                call counts its own and warns about columns of which it finds hardly any known value, and about tables
                that lack keys.
            unread: Per field, counts cells that are not numbers or times. By default, this call warns about its own.

        Raises:
            ValueError: As `score` raises it for rows.
            TypeError: If `rows` or a row has an unsupported type.
        """
        counted = UnknownValues(self.encoder) if unknown is None else unknown
        columns = self.encoder.columns(rows, lost_keys=counted.lost_keys)
        feature_ids = self.encoder.encode(columns, unread=unread)
        feature_vectors = self.encoder.encode_vectors(columns) if self.encoder.scales else None
        if unknown is None:
            warn_of_unknown_values(counted, columns, feature_ids, feature_vectors)
        else:
            unknown.add_rows(columns, feature_ids, feature_vectors)
        return feature_ids, feature_vectors

    def score_ids(self, feature_ids: np.ndarray, feature_vectors: np.ndarray | None = None) -> np.ndarray:
        """Predict P(click) of encoded rows, (B,) float32.

        Args:
            feature_ids: (B, C) int64.
            feature_vectors: (B, S) float32, as `encode_vectors` of the encoder returns them; only with fields of
                vectors.

        Raises:
            ValueError: If an input has another shape, or the model's probabilities are NaN.
            IndexError: If an id is outside [0, field_size); -1 is allowed in multi-valued fields.
        """
        feature_ids = np.asarray(feature_ids, dtype=np.int64)
        if feature_ids.ndim != 2 or feature_ids.shape[1] != len(self._sizes):
            raise ValueError(f"`feature_ids` must have shape (batch, {len(self._sizes)}), got {feature_ids.shape}.")
        outside = (feature_ids < self._lowest) | (feature_ids >= self._sizes)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise IndexError(
                f"`feature_ids[{row}, {column}]` must be in [0, {self._sizes[column]}), "
                f"got {feature_ids[row, column]}."
            )
        inputs = {"feature_ids": feature_ids}
        if sizes := self.encoder.vector_sizes:
            inputs["feature_vectors"] = vectors = np.asarray(feature_vectors, dtype=np.float32)
            if vectors.shape != (len(feature_ids), sum(sizes)):
                raise ValueError(
                    f"`feature_vectors` must have shape ({len(feature_ids)}, {sum(sizes)}), got {vectors.shape}."
                )
        probabilities = np.empty(len(feature_ids), dtype=np.float32)
        for start in range(0, len(feature_ids), _ROWS_PER_BLOCK):
            block = slice(start, start + _ROWS_PER_BLOCK)
            (probabilities[block],) = self.session.run(None, {name: array[block] for name, array in inputs.items()})
        if np.isnan(probabilities).any():
            raise ValueError(f"The probabilities of {self.model} must be numbers, got NaN: its weights are damaged.")
        return probabilities


def open_session(folder: Path, fingerprint: str, num_threads: int = 0) -> onnxruntime.InferenceSession:
    """Open the ONNX model of an exported folder.

    Args:
        folder: The folder.
        fingerprint: Fingerprint of the processor in it.
        num_threads: Threads per call; 0 for one per core.

    Raises:
        FileNotFoundError: If there is no ONNX model.
        ValueError: If it was not written together with the processor.
    """
    model = folder / ONNX_FILE
    if not model.is_file():
        raise FileNotFoundError(f"`folder` must hold {ONNX_FILE}, but there is no {model}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map.get("fingerprint")
    if found != fingerprint:
        raise ValueError(
            f"{model} must be the file written with processor_config.json, whose fingerprint is {fingerprint}; it "
            f"has {found}."
        )
    return session
