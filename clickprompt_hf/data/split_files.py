# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Which files hold which split: given by split, or recognized by their names."""

import os
from collections.abc import Mapping
from pathlib import Path

from ..warnings_clickprompt import warn_at_caller
from .sources import FILE_FORMATS
from .sources.source import SPLIT_NAMES
from .sources.tabular import files_by_split, tables_in, warn_of_unread
from .table_files import ENDINGS, Paths, TableKind, files_matching, list_table_files, several, table_kind


def file_format_of(paths: Paths | None) -> TableKind | None:
    """The file format that the name of the first file ends in; `None` if there is no such file or format."""
    first = None if paths is None else next(iter(several(paths)), None)
    if first is None:
        return None
    try:
        return table_kind(list_table_files(first)[0])
    except FileNotFoundError:
        return table_kind(Path(first))


def advise_on_format(paths: Paths | None) -> str:
    """Why the name of the first file tells no format: a sentence that starts with a space; empty without files."""
    if paths is None or not several(paths):
        return ""
    try:
        return f" {list_table_files(several(paths)[0])[0]} does not end in {ENDINGS}, which would tell the format."
    except FileNotFoundError as error:
        return f" {error}"


def check_split_files(files: Mapping[str, Paths], dataset: str | None, data_path: Paths | None) -> None:
    """Check the files of a dataset's predefined splits.

    Args:
        files: One or several files, folders or patterns by split.
        dataset: The dataset, which must be a file format; `None` if unknown.
        data_path: Must be left out with them.

    Raises:
        ValueError: If there are none for training, a file is in two splits, or other data are given too.
        FileNotFoundError: If a path names no file.
    """
    given = [f"{name}_file" for name in files]
    if "train" not in files:
        raise ValueError(f"`train_file` must be given with `{given[0]}`.")
    if data_path is not None:
        raise ValueError(f"`data_path` must be left out with `{given[0]}`, got {data_path}.")
    if dataset is not None and dataset not in FILE_FORMATS:
        raise ValueError(f"`{given[0]}` must be left out unless `dataset` is one of {FILE_FORMATS}, got {dataset!r}.")
    seen: dict[Path, str] = {}
    for name, paths in files.items():
        for path in listed(f"{name}_file", paths):
            if (other := seen.setdefault(path.resolve(), name)) != name:
                raise ValueError(f"`{name}_file` must have different files than `{other}_file`, but both have {path}.")


def own_split_files(data_path: Paths) -> dict[str, list[Path]]:
    """Files by split, if the names in a folder or glob pattern tell training files from others; empty otherwise.

    All files then form one table, with a warning if only some are named like splits.
    """
    paths = several(data_path)
    if len(paths) != 1 or Path(paths[0]).is_file():
        # files that are listed one by one are all wanted
        return {}
    path = Path(paths[0])
    if path.is_dir():
        files, folder = tables_in(path), path
    else:
        files = files_matching(path)
        folder = Path(os.path.commonpath([file.parent for file in files] or [path.parent]))
    splits, left_out = files_by_split(files, folder)
    if {"train"} < set(splits):
        warn_of_unread(left_out, splits, folder)
        return {name: splits[name] for name in SPLIT_NAMES if name in splits}
    if left_out or (splits and "train" not in splits):
        named = [path for paths in splits.values() for path in paths]
        warn_at_caller(
            f"{path} has tables named like the split {' and '.join(sorted(splits))}, such as {named[0].name}, but "
            f"none like {'another split' if 'train' in splits else 'the training split'}: all are read as one "
            "table, which is then split. To keep them as splits, pass them as `train_file`, `validation_file` and "
            "`test_file`."
        )
    return {}


def listed(argument: str, paths: Paths) -> list[Path]:
    """The files that an argument names, in order.

    Raises:
        FileNotFoundError: If a path names no file; the message names the argument.
    """
    try:
        return list_table_files(paths)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`{argument}` must name files, folders or patterns of files: {error}") from error
