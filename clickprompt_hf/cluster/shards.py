# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Shards of encoded rows, which a cluster writes, joined to the folder that `load_prepared` maps.

A shard is a Parquet file. Beside the shards, a folder of JSON lines counts their rows and names the processor.

| column | per row |
|---|---|
| `feature_ids` | C ids |
| `label` | 0 or 1 |
| `value_keys` | F hashes, equal for equal values of a field |
| `clauses` | G clauses of the text; null if the processor has no tokenizer |

Shapes: N rows, C columns of ids, F fields, G fields in the text.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..data.columnar import SIZES_FILE, write_notes
from ..data.disk_space import check_disk_space
from ..data.drift import count_training_values, with_trained_values
from ..data.prepared_notes import notes_of_shards
from ..data.sources.source import SPLIT_NAMES
from ..data.streaming.distinct import DistinctValues, keys_of
from ..data.streaming.row_writer import RowWriter
from ..data.streaming.spill import SpilledColumn
from ..data.streaming.tokens import write_tokens
from ..data.token_tables import first_clauses
from ..processing_clickprompt import ClickPromptProcessor
from ..whole_files import whole_folder

# Spark and Arrow ignore names that begin like this.
COUNTS_FOLDER = "_rows_of_shards"
_TYPES = pa.schema(
    [
        ("feature_ids", pa.list_(pa.int32())),
        ("label", pa.int8()),
        ("value_keys", pa.list_(pa.int64())),
        ("clauses", pa.list_(pa.string())),
    ]
)
_ROWS_PER_CHUNK = 1 << 18


def join_shards(
    shards: Mapping[str, str | Path],
    processor: ClickPromptProcessor,
    folder: str | Path,
) -> dict[str, int]:
    """Join encoded shards to a folder for `clickprompt finetune --prepared`, in bounded memory.

    Rows are in the order of the names of their shards. The folder is written atomically.

    Args:
        shards: A folder of shards for each of `train`, `validation` and `test`, as `spark.encode`
            wrote it, on a local or mounted disk.
        processor: The processor that encoded them.
        folder: Folder to write; replaced if it exists.

    Returns:
        Number of rows of each split.

    Raises:
        FileNotFoundError: If a folder or a shard is missing.
        ValueError: If a split is missing or empty, or a shard was changed or comes from another processor; the message
            names the file.
        OSError: If the disk has no room.
    """
    if set(shards) != set(SPLIT_NAMES):
        raise ValueError(f"`shards` must name a folder for each of {list(SPLIT_NAMES)}, got {sorted(shards)}.")
    files = {name: checked_shards(shards[name], processor) for name in SPLIT_NAMES}
    sizes = {name: sum(split_shards.values()) for name, split_shards in files.items()}
    if empty := [name for name, size in sizes.items() if not size]:
        raise ValueError(f"`shards` must have rows in each split, but there are none in {empty}.")
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    paths = [path for split_shards in files.values() for path in split_shards]
    with whole_folder(folder, flush=False) as partial:
        spill = partial / ".spill"
        spill.mkdir()
        check_disk_space(partial, _bytes_of_arrays(sum(sizes.values()), processor), "the rows of the shards")
        clauses = _write_rows(paths, sizes, processor, partial, spill)
        if clauses:
            write_tokens(partial, spill, clauses, processor, sum(sizes.values()))
        shutil.rmtree(spill)
        (partial / SIZES_FILE).write_text(json.dumps(sizes), encoding="utf-8")
        ids = np.load(partial / "feature_ids.npy", mmap_mode="r")
        trained = count_training_values(ids[: sizes["train"]], processor)
        with_trained_values(processor, trained).save_pretrained(partial / "processor")
        write_notes(partial, notes_of_shards())
    return sizes


def checked_shards(folder: str | Path, processor: ClickPromptProcessor) -> dict[Path, int]:
    """The shards of a split and their numbers of rows, after checking that they are the ones that were written.

    Raises:
        FileNotFoundError: If the folder, its counts or a shard is missing.
        ValueError: If another processor wrote the shards, or one has other columns or rows.
    """
    folder = Path(folder)
    counts = [path for path in (folder / COUNTS_FOLDER).glob("*.json") if not path.name.startswith((".", "_"))]
    if not counts:
        raise FileNotFoundError(
            f"`shards` must name folders of complete shards, but {folder} has no counts in {COUNTS_FOLDER}: it is "
            "missing or incomplete."
        )
    lines = [line for path in counts for line in path.read_text(encoding="utf-8").splitlines()]
    # Spark URL-encodes file names
    written = {unquote(entry["file"]): entry for entry in map(json.loads, lines)}
    others = {entry["processor"] for entry in written.values()} - {processor.fingerprint}
    if others:
        raise ValueError(
            f"The shards in {folder} must come from the processor with fingerprint {processor.fingerprint}, but "
            f"come from {others.pop()}."
        )
    found = {}
    for name in sorted(written):
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{folder} must have the shard {name}, but it is missing.")
        file = pq.ParquetFile(path)
        if file.schema_arrow.names != _TYPES.names:
            raise ValueError(f"{path} must have the columns {_TYPES.names}, got {file.schema_arrow.names}.")
        if (rows := file.metadata.num_rows) != written[name]["rows"]:
            raise ValueError(f"{path} must have the {written[name]['rows']:,} rows that were written, got {rows:,}.")
        found[path] = rows
    uncounted = sorted(path for path in folder.glob("*.parquet") if path.name not in written)
    if unknown := [path.name for path in uncounted if not _is_empty(path)]:
        raise ValueError(f"{folder} must only have shards that were written together, but {unknown[0]} was not.")
    return found


def _is_empty(path: Path) -> bool:
    """Whether a file is a shard without rows, which Spark writes for an empty first partition and does not count."""
    try:
        return pq.read_metadata(path).num_rows == 0
    except pa.ArrowInvalid:
        return False


def _bytes_of_arrays(num_rows: int, processor: ClickPromptProcessor) -> int:
    """Approximate size of the arrays and of the codes that they are made from."""
    fields = processor.schema.fields
    with_text = len(processor.schema.fields_in_text) if processor.reads_text else 0
    return num_rows * (4 * sum(field.num_columns for field in fields) + 8 * len(fields) + 16 * with_text + 17)


def _write_rows(
    paths: list[Path], sizes: Mapping[str, int], processor: ClickPromptProcessor, folder: Path, spill: Path
) -> list[list[str]]:
    """Write the arrays of all rows; returns the distinct clauses of each field in the text, in order."""
    in_text = processor.schema.fields_in_text if processor.reads_text else []
    keys = [SpilledColumn(spill / f"keys-{f}", pa.uint64()) for f in range(len(processor.schema.fields))]
    clauses = [SpilledColumn(spill / f"clauses-{f}", pa.large_string()) for f in in_text]
    num_rows = sum(sizes.values())
    _write_ids(paths, num_rows, keys, clauses, processor, folder, spill)
    for f, column in zip(in_text, clauses):
        # as on one machine, where a missing value always has a clause
        column.add(DistinctValues.of(pa.array(processor.render_values(f, [None]), pa.large_string())))
    for column in (*keys, *clauses):
        column.merge()
    fields = enumerate(processor.schema.fields)
    categories = {f: _code_of_missing(keys[f]) for f, field in fields if field.kind == "categorical"}
    without_value = {f: code for f, code in categories.items() if code is not None}
    ordered = [_in_order(column) for column in clauses]
    lists = [distinct for distinct, _ in ordered]
    firsts = first_clauses(lists) if lists else np.zeros(0, dtype=np.int32)
    more = {"value_ids": (np.int32, len(keys)), **({"clause_ids": (np.int32, len(clauses))} if clauses else {})}
    with RowWriter(folder, spill, num_rows, more) as writer:
        first = 0
        for chunk, rows in enumerate(keys[0].num_rows):
            value_ids = np.stack([_codes(column, chunk) for column in keys], axis=1)
            for f, code in without_value.items():
                value_ids[value_ids[:, f] == code, f] = -1
            row_arrays = {"value_ids": value_ids}
            if clauses:
                places = [rank[_codes(column, chunk)] for (_, rank), column in zip(ordered, clauses)]
                row_arrays["clause_ids"] = (np.stack(places, axis=1) + firsts).astype(np.int32)
            writer.write(np.arange(first, first + rows), row_arrays)
            first += rows
    return lists


def _write_ids(
    paths: list[Path],
    num_rows: int,
    keys: list[SpilledColumn],
    clauses: list[SpilledColumn],
    processor: ClickPromptProcessor,
    folder: Path,
    spill: Path,
) -> None:
    """Write the ids and labels of all rows, and add their keys of values and their clauses to the spilled columns."""
    num_ids = sum(field.num_columns for field in processor.schema.fields)
    arrays = {"feature_ids": (np.int32, num_ids), "labels": (np.int8, 0), "row_ids": (np.int64, 0)}
    with RowWriter(folder, spill, num_rows, arrays) as writer:
        first = 0
        for rows in _chunks(paths):
            positions = np.arange(first, first + len(rows))
            row_arrays = {"labels": rows.column("label").to_numpy(), "row_ids": positions}
            writer.write(positions, {"feature_ids": _matrix(rows, "feature_ids", num_ids), **row_arrays})
            for column, field_keys in zip(keys, _matrix(rows, "value_keys", len(keys)).T):
                column.add(DistinctValues.of(pa.array(field_keys.view(np.uint64))))
            members = _members(rows, "clauses", len(clauses)) if clauses else pa.array([], pa.string())
            for g, column in enumerate(clauses):
                column.add(DistinctValues.of(members.take(pa.array(np.arange(g, len(members), len(clauses))))))
            first += len(rows)


def _in_order(column: SpilledColumn) -> tuple[list[str], np.ndarray]:
    """Distinct texts of a merged column in alphabetical order, and the place (V,) of each code's text among them."""
    texts = pa.concat_arrays(list(column.values()))
    order = pc.array_sort_indices(texts).to_numpy()
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return texts.take(pa.array(order)).to_pylist(), places


def _chunks(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    """Read shards, in order and in pieces of bounded size."""
    for path in paths:
        with closing(pq.ParquetFile(path)) as file:
            for batch in file.iter_batches(_ROWS_PER_CHUNK):
                if len(batch):
                    yield batch


def _matrix(rows: pa.RecordBatch, name: str, width: int) -> np.ndarray:
    """Lists of equal lengths as rows of a matrix, (R, width)."""
    return _members(rows, name, width).to_numpy(zero_copy_only=False).reshape(len(rows), width)


def _members(rows: pa.RecordBatch, name: str, width: int) -> pa.Array:
    """Members (R x width,) of lists that must have equal lengths."""
    members = rows.column(name).flatten()
    if len(members) != len(rows) * width or members.null_count:
        raise ValueError(f"Column {name!r} of shards must hold lists of {width} members, but some lists differ.")
    return members


def _code_of_missing(column: SpilledColumn) -> int | None:
    """The code of missing values in a column of keys; `None` if it has none."""
    missing = int(keys_of(pa.array([""], pa.large_string()))[0])
    start = 0
    for values in column.values():
        found = pc.index(values, pa.scalar(missing, pa.uint64())).as_py()
        if found >= 0:
            return start + found
        start += len(values)
    return None


def _codes(column: SpilledColumn, chunk: int) -> np.ndarray:
    """Codes (R,) of the rows of a chunk in the whole column."""
    codes, code_map = column.codes(chunk)
    return code_map[codes]
