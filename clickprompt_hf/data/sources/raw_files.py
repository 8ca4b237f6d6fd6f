# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read the files of a published dataset, from a zip or a folder, and join and filter them."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

_BLOCK_SIZE = 1 << 24


class RawFiles:
    """The files of a dataset, in its zip or its extracted folder.

    Args:
        path: The zip or the folder.
        name: The zip's name as published, without its ending. It is also the name of the folder inside.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If `path` is not given, or is not a whole zip.
    """

    def __init__(self, path: str | Path | None, name: str):
        if path is None:
            raise ValueError(f"`data_path` must be {name}.zip or its extracted folder, got None.")
        self.path, self.name = Path(path), name
        if not self.path.exists():
            raise FileNotFoundError(
                f"`data_path` must be {name}.zip or its extracted folder, but {path} does not exist."
            )
        if self.path.is_file() and not zipfile.is_zipfile(self.path):
            raise ValueError(f"`data_path` must be a whole {name}.zip, but {path} is not a zip file or is truncated.")

    def read(self, file_name: str) -> bytes:
        """Read the content of one file.

        Raises:
            FileNotFoundError: If the zip or folder lacks the file.
            ValueError: If the zip is damaged.
        """
        missing = f"{self.path} must contain {self.name}/{file_name}, as published, but it does not."
        if self.path.is_dir():
            for candidate in (self.path / file_name, self.path / self.name / file_name):
                if candidate.is_file():
                    return candidate.read_bytes()
            raise FileNotFoundError(missing)
        try:
            with zipfile.ZipFile(self.path) as archive:
                for path in archive.namelist():
                    if path.split("/")[-1] == file_name:
                        return archive.read(path)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{file_name} in {self.path} is damaged: {error}.") from error
        raise FileNotFoundError(missing)


def find_file(folder: str | Path | None, patterns: Sequence[str], dataset: str) -> Path:
    """Find the one file in `folder` that matches the first of `patterns` with any match.

    Args:
        folder: The folder.
        patterns: File name patterns, in order of preference.
        dataset: The dataset's name, for error messages.

    Raises:
        ValueError: If `folder` is not given, or several files match.
        FileNotFoundError: If the folder does not exist, or no file matches.
    """
    if folder is None:
        raise ValueError(f"`data_path` must be the folder with the files of {dataset}, got None.")
    if not Path(folder).is_dir():
        raise FileNotFoundError(
            f"`data_path` must be the folder with the files of {dataset}, but {folder} is not a folder."
        )
    for pattern in patterns:
        found = sorted(Path(folder).glob(pattern))
        if len(found) > 1:
            raise ValueError(f"{folder} must contain one file {pattern}, got {[path.name for path in found]}.")
        if found:
            return found[0]
    raise FileNotFoundError(f"{folder} must contain a file {' or '.join(patterns)} of {dataset}, but it does not.")


def read_json_lines(
    path: Path, types: dict[str, pa.DataType], reduce: Callable[[pa.Table], pa.Table] | None = None
) -> pa.Table:
    """Read columns of a JSON lines file, gzipped or not. A column that a line lacks is missing in its row.

    Args:
        path: The file.
        types: Name and type of each column to read.
        reduce: Applied to each part of the rows as it is read, to keep less of it: all rows may exceed memory.

    Raises:
        ValueError: If a line does not parse or a value has another type. The message names the file.
    """
    schema = pa.schema(types)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            reader = arrow_json.open_json(stream, arrow_json.ReadOptions(block_size=_BLOCK_SIZE), options)
            tables = (pa.Table.from_batches([batch]).select(list(types)) for batch in reader)
            parts = [reduce(table) if reduce else table for table in tables]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} must contain one JSON object per line: {error}") from error
    return pa.concat_tables(parts)


def k_core(table: pa.Table, users: str, items: str, k: int) -> pa.Table:
    """Keep the largest subset of rows in which each user and each item has at least `k` rows.

    Args:
        table: The rows.
        users: Name of the column of user ids.
        items: Name of the column of item ids.
        k: Minimum number of rows.

    Raises:
        ValueError: If no rows are left.
    """
    codes = [pc.dictionary_encode(table[name]).combine_chunks().indices.to_numpy() for name in (users, items)]
    kept = np.arange(len(table))
    while True:
        enough = np.logical_and(*(np.bincount(ids[kept], minlength=1)[ids[kept]] >= k for ids in codes))
        if enough.all():
            break
        kept = kept[enough]
    if not len(kept):
        raise ValueError(f"Each user and item must have {k} rows ({k}-core), but no such rows exist.")
    mask = np.zeros(len(table), dtype=bool)
    mask[kept] = True
    # `take` would join a column's chunks into one, which holds at most 2 GiB of strings.
    return table.filter(pa.array(mask))


def look_up(table: pa.Table, key: str, descriptions: pa.Table, columns: Sequence[str]) -> list[pa.ChunkedArray]:
    """Join `columns` of `descriptions` to the rows of `table`, by their common column `key`.

    Rows without a description get missing values. If a key is described more than once, the first description counts.
    The columns are dictionary-encoded, at 4 bytes per row.
    """
    rows = pc.index_in(table[key], value_set=descriptions[key].combine_chunks())
    return [pc.dictionary_encode(descriptions[name]).combine_chunks().take(rows) for name in columns]
