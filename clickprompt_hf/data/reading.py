# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From the name of a dataset, or the names of files, to splits of raw rows with checked labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..schema_clickprompt import Schema
from .labels import check_source_labels
from .sources import FILE_FORMATS, SourceTable, given_schema, load_source, needs_schema
from .split_files import advise_on_format, check_split_files, file_format_of, listed, own_split_files
from .splits import DEFAULT_FRACTIONS, Split, check_split_arguments, split_source
from .table_files import Paths, TableKind, read_table_files, several


def load_splits(
    dataset: str | None = None,
    data_path: Paths | None = None,
    schema: str | Path | Mapping[str, Any] | Schema | None = None,
    split: Split = "random",
    split_seed: int = 42,
    max_train_rows: int | None = None,
    *,
    split_column: str | None = None,
    split_fractions: Sequence[float] = DEFAULT_FRACTIONS,
    train_file: Paths | None = None,
    validation_file: Paths | None = None,
    test_file: Paths | None = None,
) -> tuple[dict[str, pa.Table], Schema]:
    """Read a dataset, check its labels and split it.

    Args:
        dataset: As in `read_source`.
        data_path: As in `read_source`.
        schema: As in `load_source`.
        split: As in `split_table`. A dataset with predefined splits keeps them, see `split_source`.
        split_seed: As in `split_table`.
        max_train_rows: As in `limit_train_rows`.
        split_column: As in `split_table`.
        split_fractions: As in `split_table`.
        train_file: Files of the training split, as in `read_source`.
        validation_file: Files of the validation split.
        test_file: Files of the test split.

    Returns:
        Raw rows of the splits `train`, `validation` and `test`, with labels 0 and 1; and their schema.

    Raises:
        ValueError: If the data, the labels or an argument is wrong; the message names it.
        FileNotFoundError: If a file is missing.
    """
    check_split_arguments(split, split_seed, split_fractions)
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    source = read_source(dataset, data_path, schema, files, split_column if split == "user" else None)
    return split_source(source, split, split_seed, max_train_rows, split_column, split_fractions), source.schema


def read_source(
    dataset: str | None = None,
    data_path: Paths | None = None,
    schema: str | Path | Mapping[str, Any] | Schema | None = None,
    split_files: Mapping[str, Paths | None] | None = None,
    split_column: str | None = None,
) -> SourceTable:
    """Read all rows of a dataset, or of files, and check their labels.

    Args:
        dataset: As in `load_source`; by default the format that the names of the files end in.
        data_path: As in `load_source`. Of a file format, one or several files, folders or glob patterns. A folder or
            pattern whose file names distinguish training files from validation or test files has predefined splits,
            see `files_by_split`.
        schema: As in `load_source`.
        split_files: Files of predefined splits, instead of `data_path`: by split, one or several files, folders or
            glob patterns. Validation and test may be left out.
        split_column: A column to read even if the schema does not name it.

    Raises:
        ValueError: If an argument is wrong, the data are broken, or a label is not 0 or 1.
        FileNotFoundError: If a file is missing.
    """
    dataset = check_files(dataset, data_path, split_files)
    given = _shown(data_path) or dataset
    if not needs_schema(dataset):
        return check_source_labels(load_source(dataset, data_path, schema), given)

    schema = given_schema(dataset, schema)
    own = list_files(dataset, data_path, split_files)
    if set(own) <= {""}:
        return check_source_labels(load_source(dataset, own.get("", data_path), schema, split_column), given)
    # only training rows are split
    columns = {name: split_column if name == "train" else None for name in own}
    kind = file_kind(dataset)
    tables = {name: read_table_files(paths, schema, kind, columns[name]) for name, paths in own.items()}
    where = {name: _shown(paths) for name, paths in own.items()}
    return check_source_labels(SourceTable(tables, schema), where)


def check_files(
    dataset: str | None, data_path: Paths | None = None, split_files: Mapping[str, Paths | None] | None = None
) -> str:
    """Check which files are given for which split, and return the dataset: the given one, or the format of the files.

    Args:
        dataset: As in `read_source`.
        data_path: As in `read_source`.
        split_files: As in `read_source`.

    Raises:
        ValueError: If an argument is wrong.
        FileNotFoundError: If a file is missing.
    """
    files = {name: paths for name, paths in (split_files or {}).items() if paths is not None}
    first = next(iter(files.values()), data_path)
    dataset = dataset or file_format_of(first)
    if files:
        check_split_files(files, dataset, data_path)
    if dataset is None:
        raise ValueError(
            f"`dataset` must name the data, e.g. ml-1m, synthetic or csv; got none.{advise_on_format(first)}"
        )
    return dataset


def list_files(
    dataset: str, data_path: Paths | None = None, split_files: Mapping[str, Paths | None] | None = None
) -> dict[str, list[Path]]:
    """The files of a dataset in a file format, by split; under the empty name if there are no predefined splits.

    Args:
        dataset: As in `read_source`.
        data_path: As in `read_source`.
        split_files: As in `read_source`.

    Returns:
        The files, in order; empty if the dataset is not in a file format.

    Raises:
        FileNotFoundError: If a path names no file.
    """
    files = {name: listed(f"{name}_file", paths) for name, paths in (split_files or {}).items() if paths is not None}
    if dataset in FILE_FORMATS and data_path is not None:
        files = own_split_files(data_path) or {"": listed("data_path", data_path)}
    return files


def file_kind(dataset: str | None) -> TableKind | None:
    """The file format that a dataset's name is; `None` for other datasets."""
    return next((kind for kind in FILE_FORMATS if kind == dataset), None)


def _shown(paths: Paths | None) -> str:
    """Paths as messages show them."""
    return "" if paths is None else ", ".join(map(str, several(paths)))
