# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From the name of a data set to checked splits of raw rows."""

from pathlib import Path

import datasets

from ..schema_clickprompt import Schema
from .sources import load_source
from .splits import Split, check_labels, limit_train_rows, split_table, with_integer_labels


def load_splits(
    dataset: str,
    data_path: str | Path | None = None,
    schema: str | Path | Schema | None = None,
    split: Split = "random",
    split_seed: int = 42,
    max_train_rows: int | None = None,
) -> tuple[datasets.DatasetDict, Schema]:
    """Train, validation and test rows with plain typed columns, and their schema.

    Args:
        dataset: As in `load_source`.
        data_path: As in `load_source`.
        schema: As in `load_source`.
        split: As in `split_table`; a data set with splits of its own keeps those.
        split_seed: As in `split_table`.
        max_train_rows: As in `limit_train_rows`.

    Raises:
        ValueError: If the data, the labels or an argument is wrong; the message names it.
        FileNotFoundError: If a file is missing.
    """
    source = load_source(dataset, data_path, schema)
    splits = source.rows
    if isinstance(splits, datasets.DatasetDict):
        if split != "random":
            raise ValueError(f"`split` must be left out: {dataset} has splits of its own, got {split!r}.")
    else:
        # before rows are shuffled, so that an error names the user's row
        rows = with_integer_labels(splits, source.schema, str(data_path or dataset))
        splits = split_table(rows, source.schema, split, split_seed)
    return check_labels(limit_train_rows(splits, max_train_rows, split), source.schema), source.schema
