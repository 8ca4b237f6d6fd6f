# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Columns in the names of folders, as Hive, Spark and Arrow write them: `day=2024-01-31/country=fr/part-0.parquet`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import pyarrow as pa

# How Hive and Spark write a missing value.
_MISSING = "__HIVE_DEFAULT_PARTITION__"


class ReadableFile(Protocol):
    """A table that is read in batches."""

    path: Path
    schema: pa.Schema

    @property
    def num_rows(self) -> int | None: ...

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]: ...

    def advise_on_columns(self) -> str: ...


def folder_columns(path: Path) -> dict[str, str | None]:
    """The columns that the names of a file's folders hold, in order; `None` for a missing value."""
    columns: dict[str, str | None] = {}
    for name in path.absolute().parts[:-1]:
        column, is_given, value = name.partition("=")
        if column and is_given:
            columns[unquote(column)] = None if value == _MISSING else unquote(value)
    return columns


def with_folder_columns(file: ReadableFile) -> ReadableFile:
    """The file with the columns in its folders' names, as strings. The file's own columns take precedence."""
    columns = {name: value for name, value in folder_columns(file.path).items() if name not in file.schema.names}
    return _PartitionedFile(file, columns) if columns else file


class _PartitionedFile:
    """A file with additional columns, each with one value in all rows."""

    def __init__(self, file: ReadableFile, columns: dict[str, str | None]):
        self.file, self.path, self.columns = file, file.path, columns
        self.schema = pa.schema([*file.schema, *((name, pa.string()) for name in columns)])

    @property
    def num_rows(self) -> int | None:
        """Number of rows; `None` until a CSV file has been read to its end."""
        return self.file.num_rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows; see the file's own method."""
        wanted = self.schema.names if columns is None else list(columns)
        inside = [name for name in wanted if name not in self.columns]
        # without columns, a batch would have no rows
        for batch in self.file.batches(inside or self.file.schema.names[:1]):
            arrays = [
                pa.repeat(pa.scalar(self.columns[name], pa.string()), len(batch))
                if name in self.columns
                else batch.column(inside.index(name))
                for name in wanted
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=wanted)

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: a sentence that starts with a space, or an empty string."""
        return self.file.advise_on_columns()
