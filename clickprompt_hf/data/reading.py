# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From the name of a dataset to splits of raw rows with checked labels."""

from pathlib import Path

import pyarrow as pa

from ..schema_clickprompt import Schema
from .labels import check_source_labels
from .sources import load_source
from .splits import Split, split_source


def load_splits(
    dataset: str,
    data_path: str | Path | None = None,
    schema: str | Path | Schema | None = None,
    split: Split = "random",
    split_seed: int = 42,
    max_train_rows: int | None = None,
) -> tuple[dict[str, pa.Table], Schema]:
    """Read a dataset, check its labels and split it.

    Args:
        dataset: As in `load_source`.
        data_path: As in `load_source`.
        schema: As in `load_source`.
        split: As in `split_table`. A dataset with its own splits keeps them.
        split_seed: As in `split_table`.
        max_train_rows: As in `limit_train_rows`.

    Returns:
        Raw rows of the splits `train`, `validation` and `test`, with labels 0 and 1; and their schema.

    Raises:
        ValueError: If the data, the labels or an argument is wrong; the message names it.
        FileNotFoundError: If a file is missing.
    """
    source = load_source(dataset, data_path, schema)
    source = check_source_labels(source, str(data_path or dataset))
    return split_source(source, split, split_seed, max_train_rows), source.schema
