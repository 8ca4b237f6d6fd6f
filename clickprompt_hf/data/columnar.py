# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Splits encoded once into matrices, from which whole batches are read.

The matrices are memory-mapped `.npy` files: rows of fixed width need no more, a slice is a view, and the processes of
a distributed run and the workers of a data loader share the pages.

Shapes: B batch, N rows, C columns of ids, F fields, T text tokens of the longest row of a batch.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from ..processing_clickprompt import ClickPromptProcessor
from .token_tables import TokenTables

# how many rows each split has, in their order
_SIZES_FILE = "splits.json"


@dataclass(eq=False)
class ColumnarDataset(Dataset):
    """Encoded rows of one split, or of several.

    `dataset[i]` is one row. A data loader asks for whole batches: `dataset.__getitems__(indices)` is a list of one
    dict of arrays, which our collators turn into tensors:

        feature_ids (B, C) int64, labels (B,) int64, row_ids (B,) int64, epoch (), and with text
        input_ids (B, T) int64, attention_mask (B, T) int64

    There an index of N or more repeats row `index - N` with label -100, which no loss counts: several processes fill
    up their last batch so.

    Args:
        feature_ids: (N, C) integers.
        labels: (N,) integers, 0 or 1.
        row_ids: (N,) integers, which tell rows of one run apart: masks are a function of them.
        clause_ids: (N, F) integers, clauses in `tables`; `None` without text.
        value_ids: (N, F) integers, equal where a field's raw values are, also those that training rows lack, which
            share a feature id; to group rows by. `None` where nobody groups.
        tables: The tokens of the clauses; `None` without text.
        epoch: The training epoch, of which masks are a function too.
        with_value_fields: Whether batches say which field's value each token shows, (B, T), for field-level masking.

    Attributes:
        part_of: The rows that these are a slice of, and the first one's place among them; `None` where of none.
    """

    feature_ids: np.ndarray
    labels: np.ndarray
    row_ids: np.ndarray
    clause_ids: np.ndarray | None = None
    value_ids: np.ndarray | None = None
    tables: TokenTables | None = None
    epoch: int = 0
    with_value_fields: bool = False
    # not carried over by `replace`, which may put other rows in
    part_of: "tuple[ColumnarDataset, int] | None" = field(init=False, default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # the rows of other splits need not travel to a worker
        return {**self.__dict__, "part_of": None}

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(self):
            raise IndexError(f"`index` must be below {len(self)}, got {index}.")
        batch = self.__getitems__([index])[0]
        return {name: values if name == "epoch" else values[0] for name, values in batch.items()}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        places = np.asarray(indices, dtype=np.int64)
        rows = places % len(self)
        batch: dict[str, Any] = {
            "feature_ids": self.feature_ids[rows].astype(np.int64),
            "labels": np.where(places < len(self), self.labels[rows].astype(np.int64), -100),
            "row_ids": self.row_ids[rows],
            "epoch": self.epoch,
        }
        if self.tables is not None and self.clause_ids is not None:
            batch["input_ids"], batch["attention_mask"] = self.tables.assemble(self.clause_ids[rows])
            if self.with_value_fields:
                batch["value_fields"] = self.tables.assemble_value_fields(self.clause_ids[rows])
        return [batch]

    def text_lengths(self) -> np.ndarray:
        """(N,) tokens of each row's text, special tokens included, before truncation.

        Raises:
            ValueError: If the rows were encoded without a tokenizer.
        """
        if self.tables is None or self.clause_ids is None:
            raise ValueError("These rows have no text: they were encoded without a tokenizer.")
        return self.tables.lengths(self.clause_ids)

    def slice(self, start: int, stop: int) -> "ColumnarDataset":
        """Rows `start` to `stop`, which is at least as large; those that there are. Nothing is copied."""
        names = ("feature_ids", "labels", "row_ids", "clause_ids", "value_ids")
        cut: dict[str, Any] = {name: array[start:stop] for name in names if (array := getattr(self, name)) is not None}
        whole, place = self.part_of or (self, 0)
        part = replace(self, **cut)
        part.part_of = (whole, place + start)
        return part

    @classmethod
    def concatenate(cls, parts: Sequence["ColumnarDataset"]) -> "ColumnarDataset":
        """The rows of `parts`, which were prepared together, one after another; they keep their row ids.

        Parts that follow one another in the prepared rows, as the splits do in their order, are not copied.
        """
        first = parts[0]
        if first.part_of is not None:
            whole, start = first.part_of
            sizes = [len(part) for part in parts]
            places = (start + np.cumsum([0, *sizes[:-1]])).tolist()
            if all(part.part_of == (whole, place) for part, place in zip(parts, places)):
                return whole.slice(start, start + sum(sizes))
        with_text = first.clause_ids is not None
        return cls(
            feature_ids=np.concatenate([part.feature_ids for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            clause_ids=np.concatenate([part.clause_ids for part in parts]) if with_text else None,
            tables=first.tables,
            row_ids=np.concatenate([part.row_ids for part in parts]),
            value_ids=None if first.value_ids is None else np.concatenate([part.value_ids for part in parts]),
        )


def prepare_splits(splits: datasets.DatasetDict, processor: ClickPromptProcessor, folder: str | Path) -> None:
    """Encodes all splits into `folder`, for `load_prepared` to map, in this process or another.

    Each distinct value is encoded and rendered once. Clauses of validation and test rows are tokenized too: that fits
    nothing. The folder appears whole or not at all.

    Args:
        splits: Raw columns, labels checked.
        processor: Fitted on the training split.
        folder: Replaced if it exists.
    """
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tables = {name: split.with_format("arrow")[:] for name, split in splits.items()}
    sizes = [len(table) for table in tables.values()]
    arrays, token_tables = encode_tables(
        list(tables.values()), processor, processor.reads_text, with_value_fields=True
    )
    if token_tables is not None:
        token_tables.save(partial)
    labels = [table.column(processor.schema.label).to_numpy() for table in tables.values()]
    arrays["labels"] = np.concatenate(labels).astype("i1")
    arrays["row_ids"] = np.arange(sum(sizes))
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
    (partial / _SIZES_FILE).write_text(json.dumps(dict(zip(tables, sizes))), encoding="utf-8")
    processor.save_pretrained(partial / "processor")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_prepared(folder: str | Path) -> tuple[dict[str, ColumnarDataset], ClickPromptProcessor]:
    """Maps what `prepare_splits` wrote: the splits by name, and the processor."""
    folder = Path(folder)
    processor = ClickPromptProcessor.from_pretrained(folder / "processor")
    tables = TokenTables.load(folder) if processor.reads_text else None
    names = ("feature_ids", "labels", "row_ids", "value_ids", *(["clause_ids"] if tables is not None else []))
    whole = ColumnarDataset(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}, tables=tables)
    splits, start = {}, 0
    for name, size in json.loads((folder / _SIZES_FILE).read_text(encoding="utf-8")).items():
        splits[name] = whole.slice(start, start + size)
        start += size
    return splits, processor


def encode_tables(
    tables: Sequence[pa.Table], processor: ClickPromptProcessor, with_text: bool, with_value_fields: bool = False
) -> tuple[dict[str, np.ndarray], TokenTables | None]:
    """Encodes the fields of `tables`, one table after another; each distinct value is encoded and tokenized once.

    Args:
        tables: Raw columns, at least one row in all. Without text, columns of free text may be missing.
        processor: Encodes.
        with_text: Whether the text is needed; the processor must read text then.
        with_value_fields: Whether the tokens must tell which field's value they show, which takes longer.

    Returns:
        `feature_ids` (N, C), `value_ids` (N, F) and with text `clause_ids` (N, F), int32, as in `ColumnarDataset`; and
        the tokens of the clauses, `None` without text.
    """
    feature_ids, value_ids, clause_ids, clauses = [], [], [], []
    for f, member in enumerate(processor.schema.fields):
        if not (member.num_columns or with_text or member.column in tables[0].column_names):
            value_ids.append(np.zeros(sum(map(len, tables)), dtype=np.int32))
            continue
        values, places = _distinct([table.column(member.column) for table in tables])
        feature_ids.append(processor.encode_values(f, values).astype(np.int32)[places])
        value_ids.append(places.astype(np.int32))
        if with_text:
            shown, shown_places = np.unique(
                np.asarray(processor.render_values(f, values), dtype=object), return_inverse=True
            )
            clauses.append(shown.tolist())
            clause_ids.append(shown_places[places])
    arrays = {"feature_ids": np.concatenate(feature_ids, axis=1), "value_ids": np.stack(value_ids, axis=1)}
    if not with_text:
        return arrays, None
    affixes = [processor.affixes(f) for f in range(len(processor.schema.fields))] if with_value_fields else None
    token_tables, arrays["clause_ids"] = TokenTables.build(
        clauses, np.stack(clause_ids, axis=1), affixes, processor.tokenizer, processor.max_text_length
    )
    return arrays, token_tables


def _distinct(columns: Sequence[pa.ChunkedArray]) -> tuple[list[Any], np.ndarray]:
    """Distinct values over all columns, and each row's place among them; the last value is `None`."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    kinds = {chunk.type for chunk in chunks}
    plain = not any(
        pa.types.is_nested(kind) or pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType) for kind in kinds
    )
    if len(kinds) > 1 or not plain:
        # Arrow encodes no lists and no UUIDs, and unifies no dictionaries of columns that hold nothing
        cells = [cell for chunk in chunks for cell in chunk.to_pylist()]
        keys = [repr(cell) for cell in cells]
        known = dict(zip(keys, cells))
        place = {key: index for index, key in enumerate(known)}
        return [*known.values(), None], np.fromiter((place[key] for key in keys), dtype=np.int64, count=len(keys))
    encoded = pa.chunked_array(chunks)
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    array = encoded.unify_dictionaries().combine_chunks()
    values = [*array.dictionary.to_pylist(), None]
    return values, array.indices.fill_null(len(values) - 1).to_numpy().astype(np.int64)
