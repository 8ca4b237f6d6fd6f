# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of rows, folders of them and datasets of the HuggingFace Hub, for which the user provides a schema."""

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
from datasets.data_files import SPLIT_KEYWORDS

from ...schema_clickprompt import CsvFormat, Schema
from ...warnings_clickprompt import warn_at_caller
from ..dimension_tables import with_joined_columns
from ..table_files import (
    Paths,
    TableKind,
    needed_columns,
    read_columns,
    read_dimension_tables,
    read_table_files,
    table_kind,
)
from .source import SPLIT_NAMES, SourceTable

# Rows that are taken from a dataset at a time.
_ROWS_PER_BATCH = 65_536
_SPLIT_WORDS = {str(split): words for split, words in SPLIT_KEYWORDS.items()}
_SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*")
_FILE_ON_HUB = re.compile(r"hf://datasets/[^@]+@[^/]+/(.+)")


def load_table(kind: TableKind, path: Paths | None, schema: Schema, split_column: str | None = None) -> SourceTable:
    """Read rows from files; see `read_table_files`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If no file is given, or one is broken or lacks a column; the message names the file.
    """
    if path is None:
        raise ValueError(f"`data_path` must be a {kind} file, got none.")
    return SourceTable(read_table_files(path, schema, kind, split_column), schema)


def load_folder(name: str, schema: Schema, split_column: str | None = None) -> SourceTable:
    """Read a folder of CSV, JSON lines or Parquet files, or a dataset of the Hub.

    CSV and JSON lines files are read as from `load_table`, wherever they are; other formats as by
    `datasets.load_dataset`. Splits are recognized as there, by the metadata in README.md or the names of files and
    folders. A dataset without splits is returned as one table. If it has several, they are returned under the names
    `train`, `validation` and `test`, as far as they exist.

    Raises:
        ValueError: If a column is missing, a file is broken, or there are several splits without a training split.
        Exception: Whatever `datasets.load_dataset` raises if it finds nothing.
    """
    files, csv = _files_of_splits(name)
    if files is None:
        columns = needed_columns(schema, split_column)
        to_join = read_dimension_tables(schema, columns)
        tables = {}
        for split, rows in _load_dataset(name).items():
            tables[split] = read_columns(with_joined_columns(_SplitOfDataset(name, rows), to_join), columns)
            for table in to_join:
                table.warn_of_lost_keys(f" of the {split} split")
    else:
        format_of_files = schema if schema.csv or csv is None else replace(schema, csv=csv)
        tables = {
            split: read_table_files(paths, format_of_files, split_column=split_column)
            for split, paths in files.items()
        }
    return SourceTable(_known_splits(tables, name), schema)


def _load_dataset(name: str) -> Mapping[str, datasets.Dataset]:
    if Path(name, "state.json").is_file():
        # of `Dataset.save_to_disk`, which `load_dataset` refuses
        return {"train": datasets.load_from_disk(name)}
    return datasets.load_dataset(name)


class _SplitOfDataset:
    """A split that `datasets` has read, as a file of rows."""

    def __init__(self, name: str, rows: datasets.Dataset):
        self.path, self._rows = Path(name), rows
        self.schema: pa.Schema = rows.data.schema

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows.

        Args:
            columns: Names of the columns to read; all by default.
        """
        wanted = self.schema.names if columns is None else list(columns)
        for table in self._rows.select_columns(wanted).with_format("arrow").iter(_ROWS_PER_BATCH):
            yield from table.select(wanted).to_batches()

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: nothing is known."""
        return ""


def _files_of_splits(name: str) -> tuple[dict[str, list[Path]] | None, CsvFormat | None]:
    """The files of each split, and their CSV format if the dataset's metadata has one.

    No files if `datasets` must read the dataset, because `read_table_files` cannot.
    """
    folder = Path(name)
    if folder.is_dir() and not _has_metadata(folder):
        splits_in_folder, left_out = files_by_split(tables_in(folder), folder)
        warn_of_unread(left_out, splits_in_folder, folder)
        return splits_in_folder or None, None
    try:
        config = datasets.load_dataset_builder(name).config
    except ConnectionError:
        # Offline, with the files of an earlier run.
        try:
            folder = Path(huggingface_hub.snapshot_download(name, repo_type="dataset", local_files_only=True))
        except huggingface_hub.errors.LocalEntryNotFoundError:
            return None, None
        return _files_of_splits(str(folder))
    found = getattr(config, "data_files", None) or {}
    splits = {str(split): list(map(str, paths)) for split, paths in found.items()}
    if folder.is_dir():
        # Files in the Hub's cache are links to files without endings.
        names = {str(path.resolve()): str(path) for path in folder.rglob("*")}
        splits = {split: [names.get(path, path) for path in paths] for split, paths in splits.items()}
    kinds = {table_kind(Path(path)) for paths in splits.values() for path in paths}
    if not kinds or None in kinds or (kinds == {"parquet"} and not folder.is_dir()):
        return None, None
    if not folder.is_dir():
        inside = {split: [_FILE_ON_HUB.sub(r"\1", path) for path in paths] for split, paths in splits.items()}
        wanted = [glob.escape(path) for paths in inside.values() for path in paths]
        copy = huggingface_hub.snapshot_download(name, repo_type="dataset", allow_patterns=[*wanted, "README.md"])
        splits = {split: [f"{copy}/{path}" for path in paths] for split, paths in inside.items()}
    return {split: list(map(Path, paths)) for split, paths in splits.items()}, _csv_format(config)


def _has_metadata(folder: Path) -> bool:
    """Whether README.md may name the files of the splits."""
    card = folder / "README.md"
    return card.is_file() and bool(
        re.search(r"^(configs|data_files):", card.read_text("utf-8", "replace"), re.MULTILINE)
    )


def _csv_format(config: datasets.BuilderConfig) -> CsvFormat | None:
    """The CSV format in a dataset's metadata."""
    if not hasattr(config, "quotechar"):
        return None
    return CsvFormat(
        delimiter=config.delimiter or config.sep,
        quote=config.quotechar,
        escape=config.escapechar,
        encoding=config.encoding or "utf-8",
        column_names=config.names or config.column_names,
        decimal=config.decimal,
        thousands=config.thousands,
    )


def tables_in(folder: Path) -> list[Path]:
    """The tables in a folder and its subfolders, in the order of their names; none that are hidden."""
    relative = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and table_kind(path))
    return [folder / path for path in relative if not any(part.startswith((".", "__")) for part in path.parts)]


def files_by_split(files: Sequence[Path], folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Sort files by split; all belong to `train` if no name contains a split.

    As in `datasets`, shards such as data/train-00000-of-00001.parquet count first, then names of subfolders, then
    names of files. The first of these that names a split decides; files that do not follow it are left out.

    Args:
        files: Files in `folder` and its subfolders.
        folder: Its own name does not count.

    Returns:
        Files by split, and those left out, in the given order.
    """
    relative = [path.relative_to(folder) for path in files]
    ways: tuple[Callable[[Path], str | None], ...] = (
        lambda path: found[1] if (found := _SHARD.fullmatch(path.as_posix())) else None,
        lambda path: next(filter(None, map(_split_in, path.parts[:-1])), None),
        lambda path: _split_in(path.name),
    )
    for split_of in ways:
        splits: dict[str, list[Path]] = {}
        for path in relative:
            splits.setdefault(split_of(path) or "", []).append(folder / path)
        left_out = splits.pop("", [])
        if splits:
            return splits, left_out
    return ({"train": list(files)} if files else {}), []


def warn_of_unread(left_out: Sequence[Path], splits: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Warn about files of a folder that are not read because they belong to none of its splits."""
    if left_out:
        warn_at_caller(
            f"{folder} has tables that belong to no split, which are not read: "
            f"{', '.join(str(path.relative_to(folder)) for path in left_out[:5])}. Splits: {sorted(splits)}."
        )


def _split_in(name: str) -> str | None:
    """The split that the name of a file or folder contains."""
    words = re.split(r"[-._ 0-9]", name.lower())
    return next((split for split, known in _SPLIT_WORDS.items() if set(words) & set(known)), None)


def _known_splits(tables: Mapping[str, pa.Table], name: str) -> pa.Table | dict[str, pa.Table]:
    """The only split, or the splits `train`, `validation` and `test`, as far as they exist."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    known: dict[str, pa.Table] = {}
    others = []
    for split, table in tables.items():
        canonical = next((canonical for canonical, words in _SPLIT_WORDS.items() if split in words), None)
        if canonical is None or canonical in known:
            others.append(split)
        else:
            known[canonical] = table
    if "train" not in known:
        raise ValueError(f"Dataset {name} must have a split 'train'; it has only {sorted(tables)}.")
    if others:
        warn_at_caller(f"Dataset {name} has unused splits: {others}.")
    return {split: known[split] for split in SPLIT_NAMES if split in known} if len(known) > 1 else known["train"]
