# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training rows in any container, as columns to fit vocabularies on."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import datasets
import pyarrow as pa

from ..columns_clickprompt import check_columns, check_different, columns_of

# A data frame of pandas is none of them, as the package works without pandas.
TrainingRows: TypeAlias = (
    pa.Table | datasets.Dataset | datasets.IterableDataset | Mapping[str, Sequence] | Iterable[Mapping[str, Any]] | Any
)
_ROWS_PER_BATCH = 1000


def columns_of_training_rows(train: TrainingRows, needed: Sequence[str]) -> Mapping[str, Any]:
    """Convert training rows to a mapping from column to values, which are Arrow's if the rows are.

    Args:
        train: An Arrow table or an object that exports one, such as a polars data frame; a pandas data frame; a
            `datasets.Dataset` in any format or a `datasets.IterableDataset`, which is read once; a mapping from column
            to values; or rows as mappings from column to value.
        needed: Columns that the rows must have.

    Raises:
        ValueError: If a column is missing or repeated, or columns differ in length.
        TypeError: If `train` is none of these.
    """
    if isinstance(train, (str, bytes, os.PathLike)):
        raise TypeError(f"`train` must hold rows, got {train!r}: read the file first, or use `load_splits`.")
    if isinstance(train, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        raise TypeError(
            f"`train` must be one split, got a {type(train).__name__} of {sorted(train)}: pass one, such as "
            "`splits['train']`."
        )
    if isinstance(train, datasets.IterableDataset):
        return _columns_of_stream(train, needed)
    if isinstance(train, datasets.Dataset):
        train = train.with_format("arrow")[:]
    elif hasattr(train, "__arrow_c_stream__") and not hasattr(train, "iloc"):
        # Arrow's record batches and readers, data frames of polars. Pandas would add its index.
        train = pa.table(train)
    if isinstance(train, Mapping):
        check_columns(needed, train)
        # Other columns must not decide whether this is one row or several.
        train = {name: train[name] for name in needed}
    if isinstance(train, pa.Table):
        check_different(train.column_names, "`train`")
        return dict(zip(train.column_names, train.columns))
    return columns_of(train, needed)


def _columns_of_stream(train: datasets.IterableDataset, needed: Sequence[str]) -> dict[str, list]:
    columns: dict[str, list] = {name: [] for name in needed}
    for batch in train.with_format(None).iter(batch_size=_ROWS_PER_BATCH):
        check_columns(needed, batch)
        for name, values in columns.items():
            values += batch[name]
    return columns
