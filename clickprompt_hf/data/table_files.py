# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read tables from files: one file, several, a folder or a glob pattern."""

import glob
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ..schema_clickprompt import Schema
from .sources.tabular import load_csv, load_parquet

_READERS = {".csv": load_csv, ".parquet": load_parquet}


def read_table_files(paths: str | Path | Sequence[str | Path], schema: Schema) -> pa.Table:
    """Read the columns of a schema from the rows of all files, in the order given.

    Args:
        paths: Files, folders of files, or glob patterns such as `"part-*.csv"`; one or several of them. Folders and
            patterns give their files in the order of their names.
        schema: Names the columns to read, and says how CSV files are written.

    Returns:
        The columns of the fields, the label and the time, each once. Cells of CSV files are strings.

    Raises:
        FileNotFoundError: If a path names no file.
        ValueError: If a file is broken, lacks a column, or has another type of column than the files before; the
            message names the file.
    """
    files = list_table_files(paths)
    tables = []
    for path in files:
        table = _READERS[path.suffix](path, schema).table
        assert isinstance(table, pa.Table)
        tables.append(table)
    return pa.concat_tables(tables, promote_options="default")


def list_table_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files that `paths` names, in order; see `read_table_files`.

    Raises:
        FileNotFoundError: If a path names no file.
    """
    found = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        if Path(path).is_dir():
            files = sorted(file for file in Path(path).iterdir() if file.suffix in _READERS)
        elif Path(path).is_file():
            files = [Path(path)]
        else:
            files = sorted(map(Path, glob.glob(str(path))))
        if not files:
            raise FileNotFoundError(f"There is no table at {path}: no such file, and no files match it as a pattern.")
        found += files
    return found
