# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The files of a data set, in a zip or in a folder, and what sources do with them."""

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
    """The files of a data set, in its zip or in its extracted folder.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If `path` is no whole zip.
    """

    def __init__(self, path: str | Path | None, name: str):
        if path is None:
            raise ValueError(f"`data_path` must be {name}.zip or its extracted folder, got none.")
        self.path, self.name = Path(path), name
        if not self.path.exists():
            raise FileNotFoundError(f"`data_path` must be {name}.zip or its extracted folder; nothing is at {path}.")
        if self.path.is_file() and not zipfile.is_zipfile(self.path):
            raise ValueError(f"`data_path` must be a whole {name}.zip, but {path} is no zip file or a truncated one.")

    def read(self, file_name: str) -> bytes:
        """Content of one file.

        Raises:
            FileNotFoundError: If the zip or folder lacks it.
            ValueError: If the zip is damaged.
        """
        lacking = f"{self.path} must hold {self.name}/{file_name}, as its owner publishes it; it does not."
        if self.path.is_dir():
            for candidate in (self.path / file_name, self.path / self.name / file_name):
                if candidate.is_file():
                    return candidate.read_bytes()
            raise FileNotFoundError(lacking)
        try:
            with zipfile.ZipFile(self.path) as archive:
                for member in archive.namelist():
                    if member.split("/")[-1] == file_name:
                        return archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{file_name} in {self.path} is damaged: {error}.") from error
        raise FileNotFoundError(lacking)


def find_file(folder: str | Path | None, patterns: Sequence[str], what: str) -> Path:
    """The one file of `folder` that matches one of `patterns`, the first pattern that matches any.

    Raises:
        ValueError: If no folder is given, or several files match.
        FileNotFoundError: If there is no folder, or no file matches.
    """
    if folder is None:
        raise ValueError(f"`data_path` must be the folder with the files of {what}, got none.")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"`data_path` must be the folder with the files of {what}; there is none at {folder}.")
    for pattern in patterns:
        found = sorted(Path(folder).glob(pattern))
        if len(found) > 1:
            raise ValueError(f"{folder} must hold one file {pattern}, got {[path.name for path in found]}.")
        if found:
            return found[0]
    raise FileNotFoundError(f"{folder} must hold a file named like {' or '.join(patterns)} of {what}; it does not.")


def read_json_lines(
    path: Path, types: dict[str, pa.DataType], reduced: Callable[[pa.Table], pa.Table] | None = None
) -> pa.Table:
    """Columns of a file of JSON lines, gzipped or not; a line without a column has it missing.

    Args:
        path: The file.
        types: The columns to read.
        reduced: Makes of each part of the rows, as it is read, what is kept of it: the whole may exceed memory.

    Raises:
        ValueError: If a line does not parse or a value has another type; the message names the file.
    """
    schema = pa.schema(types)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            reader = arrow_json.open_json(stream, arrow_json.ReadOptions(block_size=_BLOCK_SIZE), options)
            tables = (pa.Table.from_batches([batch]).select(list(types)) for batch in reader)
            parts = [reduced(table) if reduced else table for table in tables]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} must hold one JSON object a line: {error}") from error
    return pa.concat_tables(parts)


def k_core(table: pa.Table, users: str, items: str, k: int) -> pa.Table:
    """The largest part of `table` in which each user and each item has at least `k` rows.

    Raises:
        ValueError: If nothing is left.
    """
    codes = [pc.dictionary_encode(table[name]).combine_chunks().indices.to_numpy() for name in (users, items)]
    kept = np.arange(len(table))
    while True:
        enough = np.logical_and(*(np.bincount(ids[kept], minlength=1)[ids[kept]] >= k for ids in codes))
        if enough.all():
            break
        kept = kept[enough]
    if not len(kept):
        raise ValueError(f"Each user and item must have {k} rows ({k}-core), but no rows are left then.")
    mask = np.zeros(len(table), dtype=bool)
    mask[kept] = True
    # not take, which joins the chunks of a column: strings of more than 2 GiB do not fit in one
    return table.filter(pa.array(mask))


def look_up(table: pa.Table, key: str, described: pa.Table, columns: Sequence[str]) -> list[pa.ChunkedArray]:
    """Columns of `described` for each row of `table`, by their common column `key`; missing where it is not described.

    The first of several rows with one key counts. The columns are dictionary-encoded: 4 bytes a row.
    """
    rows = pc.index_in(table[key], value_set=described[key].combine_chunks())
    return [pc.dictionary_encode(described[name]).combine_chunks().take(rows) for name in columns]
