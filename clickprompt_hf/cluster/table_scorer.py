# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores Arrow tables of raw rows with a checkpoint or an exported folder, and checks columns before a job starts.

Shapes: N rows of a table.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ..columns_clickprompt import check_columns
from ..encoding_clickprompt import FeatureEncoder
from ..export.exported_folder import is_export
from ..processor_files_clickprompt import PROCESSOR_FILE, read_processor_config
from ..row_warnings_clickprompt import RowWarnings
from ..schema_clickprompt import Schema
from ..tables_clickprompt import TABLES_FILE, JoinedTables

_Score: TypeAlias = Callable[[pa.Table, RowWarnings], np.ndarray]


class TableScorer:
    """Scores tables with one model, which is loaded once.

    Exported folders are scored by onnxruntime; checkpoints by PyTorch, on the process's GPU if it has one.

    Args:
        model: Folder that `clickprompt export` wrote; or folder or Hub id of a checkpoint.
        num_threads: Threads per batch; 0 for the library's own choice.
        batch_size: Rows per batch of a model with a PLM or a checkpoint, at least 1; by default 64 for an export, 256
            for a checkpoint, or 4,096 without a PLM.

    Raises:
        ValueError: If `batch_size` is out of range, the model's files do not belong together, or it was not finetuned
            for clicks.
        OSError: If the model is missing.
        ImportError: If it is an export and onnxruntime is missing.

    Attributes:
        encoder: Encoder of the model: its fields and vocabularies.
        read_columns: The columns that it reads, some of which may come from joined tables.
    """

    def __init__(self, model: str | Path, num_threads: int = 0, batch_size: int | None = None):
        check_batch_size(batch_size)
        if is_export(model):
            encoder, self._score = _load_export(model, num_threads, batch_size)
        else:
            encoder, self._score = _load_checkpoint(str(model), num_threads, batch_size)
        self.encoder, self.read_columns = encoder, encoder.read_columns
        self._found = RowWarnings(encoder)

    def score(self, table: pa.Table, found: RowWarnings | None = None) -> np.ndarray:
        """Predict P(click) of each row, (N,) float64.

        Args:
            table: Raw rows; columns that the schema does not name are ignored.
            found: Warns once about the tables that share it, such as those of a task: one warning per batch would
                drown the engine's log. By default, all tables of this scorer share one.

        Raises:
            ValueError: If a column is missing, a cell cannot be read, or a probability is NaN.
        """
        needed = self.needed_columns(table)
        check_columns(needed, table.column_names, "The table")
        table = table.select(needed)
        if not len(table):
            return np.zeros(0)
        found = self._found if found is None else found
        scores = self._score(table, found).astype(np.float64)
        found.warn()
        return scores

    def needed_columns(self, rows: Any) -> list[str]:
        """Columns that rows must have: those that the model reads, or the keys of tables that have them."""
        return self.encoder.needed_columns(self.encoder.columns_to_join(rows))


def _load_export(folder: str | Path, num_threads: int, batch_size: int | None) -> tuple[FeatureEncoder, _Score]:
    from ..export.export_engines import load_export

    engine: Any = load_export(folder, num_threads, batch_size)
    encoder = engine.encoder
    return encoder, lambda table, found: engine.score(engine.read(table, found.unknown, found.unread))


def _load_checkpoint(checkpoint: str, num_threads: int, batch_size: int | None) -> tuple[FeatureEncoder, _Score]:
    import torch

    from ..configuration_clickprompt import ClickPromptConfig
    from ..export.export_ctr import load_click_model
    from ..pipeline_clickprompt import scoring_batch_size
    from ..processing_clickprompt import ClickPromptProcessor
    from ..recent_texts import RecentTexts
    from ..scoring.device import scoring_device
    from ..scoring.table_scoring import score_table

    if num_threads:
        torch.set_num_threads(num_threads)
    config = ClickPromptConfig.from_pretrained(checkpoint)
    processor = ClickPromptProcessor.from_pretrained(checkpoint)
    processor.check_model(config)
    model: Any = load_click_model(checkpoint, config)
    model = model.to(scoring_device())
    rows, texts = batch_size or scoring_batch_size(config), RecentTexts()
    return processor, lambda table, found: score_table(
        table, processor, model, rows, unknown=found.unknown, unread=found.unread, recent_texts=texts
    )


def check_batch_size(batch_size: int | None) -> None:
    """Refuse a batch size below 1 with a ValueError."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")


def is_ctr_export(model: str | Path) -> bool:
    """Whether a model is an export of the CTR part alone, which brings the code that scores it."""
    return is_export(model) and not _processor_config(model)["reads_text"]


def check_table(model: str | Path, columns: Mapping[str, bool], output_column: str) -> None:
    """Refuse a table that cannot be scored, before any row is read and any weight is loaded.

    Args:
        model: As for `TableScorer`.
        columns: The table's columns, and whether each holds lists, mappings or records.
        output_column: Name of the column of probabilities.

    Raises:
        OSError: If the model is missing.
        ValueError: If a column is missing or holds lists although its field is single-valued, or the table has the
            column of probabilities already. Columns of joined tables may be missing if the tables' keys are there.
    """
    config = _processor_config(model)
    schema = Schema.from_dict(config["schema"])
    if output_column in columns:
        raise ValueError(
            f"The table already has a column {output_column!r}; rename it, or choose another `output_column`."
        )
    fields = [f for f in schema.fields if f.num_columns or f.is_vector or (config["reads_text"] and f.in_text)]
    # such an export has no PLM to make vectors with
    has_vectors = is_ctr_export(model)
    names = ([field.column] if has_vectors else schema.raw_columns_of(field) for field in fields)
    read = [*dict.fromkeys(chain.from_iterable(names))]
    if schema.tables:
        keys = _keys_of_table_columns(model)
        to_join = [name for name in read if name in keys and name not in columns]
        read = [*(name for name in read if name not in to_join), *(keys[name] for name in to_join)]
    check_columns(read, columns, "The table")
    check_single_values(schema, columns)


def _keys_of_table_columns(model: str | Path) -> dict[str, str]:
    """For each column of the model's joined tables, the column that holds its key; empty if it has no tables."""
    path = _file_of(model, TABLES_FILE)
    return {} if path is None else JoinedTables.keys_in(path)


def keys_of_tables(model: str | Path) -> list[str]:
    """Columns of raw rows by which the model's tables are joined."""
    return [table.key for table in Schema.from_dict(_processor_config(model)["schema"]).tables]


def check_single_values(schema: Schema, columns: Mapping[str, bool]) -> None:
    """Raise an error for list columns of single-valued fields, as `check_table` does; other columns may be missing."""
    for field in schema.fields:
        if columns.get(field.column) and field.kind != "multi_valued" and not field.is_vector:
            raise ValueError(
                f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, but it holds lists: "
                "set its `kind` to 'multi_valued', or to 'vector' if these are numbers."
            )


def _processor_config(model: str | Path) -> dict[str, Any]:
    path = Path(model) / PROCESSOR_FILE
    if not path.is_file():
        if Path(model).exists() or str(model).count("/") > 1 or str(model).startswith(("/", ".", "~")):
            raise FileNotFoundError(
                f"`model` must be a checkpoint, an exported folder or a Hub id, but there is no {path}."
            )
        from transformers.utils import cached_file

        path = Path(str(cached_file(str(model), PROCESSOR_FILE)))
    return read_processor_config(path.parent)


def _file_of(model: str | Path, name: str) -> Path | None:
    """A file of a folder or of a checkpoint on the Hub, `None` if that lacks it."""
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(str(model), name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)
