# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Splits, encoded once into matrices from which whole batches are read.

The matrices are memory-mapped `.npy` files. Rows have a fixed width, slices are views, and the processes of a
distributed run and the workers of a data loader share the pages.

Shapes: B batch, N rows, C columns of ids, F fields, G fields in the text, V fields of vectors, S entries of all
vectors, T text tokens of the longest row of a batch.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset

from ..cells_clickprompt import mean_missing
from ..lists_clickprompt import UnreadableCell
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import FieldSchema
from ..unknown_values_clickprompt import UnknownValues
from ..unread_cells_clickprompt import UnreadCells
from ..vectors_clickprompt import UnreadableVector
from ..whole_files import whole_folder
from .arrow_cells import distinct_cells
from .drift import count_training_values, with_trained_values
from .feature_dropout import FeatureDropout
from .text_states import CachedTexts
from .text_variants import distinct_texts
from .token_tables import TokenTables
from .vector_columns import FeatureVectors, encode_vector_column

# Number of rows per split, in order.
SIZES_FILE = "splits.json"
_ARRAYS, _TEXT_ARRAYS = ("feature_ids", "labels", "row_ids", "value_ids"), ("clause_ids", "text_ids")
_VECTOR_ARRAYS = ("vector_ids",)
_OF_ROWS = (*_ARRAYS, *_TEXT_ARRAYS, *_VECTOR_ARRAYS, "teacher_logits")


@dataclass(eq=False)
class ColumnarDataset(Dataset):
    """Encoded rows of one split, or of several.

    `dataset[i]` is one row. Data loaders fetch whole batches: `dataset.__getitems__(indices)` is a list of one dict of
    arrays, which the collators turn into tensors:

        feature_ids (B, C) int64, labels (B,) int64, row_ids (B,) int64, epoch (), and with text
        input_ids (B, T) int64, attention_mask (B, T) int64

    and with fields of vectors

        feature_vectors (B, S) float32

    Rows with `cached_texts` have states of the batch's U distinct texts instead of `input_ids`:

        text_states (U, T, H), attention_mask (U, T) int64, text_rows (B,) int64, and for pretraining
        token_labels (U, T) int64

    Rows with `teacher_logits` have those of the batch, (B,) float32.

    In a batch, index N + i repeats row i with label -100, which losses ignore. Processes of a distributed run pad
    their last batch this way.

    Args:
        feature_ids: (N, C) integers.
        labels: (N,) integers, 0 or 1.
        row_ids: (N,) integers, unique within a run. Masks are drawn from them.
        clause_ids: (N, G) integers, indices of clauses in `tables`, or (N, 1) of whole texts; `None` without text.
        value_ids: (N, F) integers, equal for equal values of a field, even for values that training rows lack and that
            share a feature id. Categories are equal if they have one id other than 0, other values if they are the
            same cell. -1 for missing categories that training rows did not have. `None` if grouped metrics are not
            needed.
        tables: Tokens of the clauses; `None` without text.
        epoch: Training epoch. Masks are drawn from it too.
        with_value_fields: Whether batches have `value_fields` (B, T), the number of the field whose value each token
            shows, for field-level masking. Only fields in the text are counted, from 1.
        text_ids: (N,) integers, equal for rows with the same clauses and so with the same text, numbered as in
            `distinct_texts` over all splits that were prepared together; `None` without text.
        cached_texts: Where the states of the texts are, if they are cached: `TextStates.attach` sets it.
        teacher_logits: (N,) logits of a teacher, for `ClickPromptTrainer` to learn from; `None` without a teacher.
        vector_ids: (N, V) integers, indices of the rows' vectors in `vectors`; `None` without fields of vectors.
        vectors: Distinct vectors of each field of vectors; `None` without such fields.
        feature_dropout: Replaces ids in each batch with the id of unseen values; `None` to keep all.
            `ClickPromptTrainer` sets it for training only.

    Attributes:
        part_of: The dataset that this one is a slice of, and the index of its first row there; `None` if it is not a
            slice.
    """

    feature_ids: np.ndarray
    labels: np.ndarray
    row_ids: np.ndarray
    clause_ids: np.ndarray | None = None
    value_ids: np.ndarray | None = None
    tables: TokenTables | None = None
    epoch: int = 0
    with_value_fields: bool = False
    text_ids: np.ndarray | None = None
    cached_texts: CachedTexts | None = None
    teacher_logits: np.ndarray | None = None
    vector_ids: np.ndarray | None = None
    vectors: FeatureVectors | None = None
    feature_dropout: FeatureDropout | None = None
    # Not copied by `replace`, which may change the rows.
    part_of: "tuple[ColumnarDataset, int] | None" = dataclasses.field(init=False, default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not need the rows of other splits.
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
        positions = np.asarray(indices, dtype=np.int64)
        rows = positions % len(self)
        batch: dict[str, Any] = {
            "feature_ids": self.feature_ids[rows].astype(np.int64),
            "labels": np.where(positions < len(self), self.labels[rows].astype(np.int64), -100),
            "row_ids": self.row_ids[rows],
            "epoch": self.epoch,
        }
        if self.feature_dropout is not None:
            batch["feature_ids"] = self.feature_dropout(batch["feature_ids"], batch["row_ids"], self.epoch)
        if self.cached_texts is not None:
            batch.update(self.cached_texts.batch(self, rows))
        elif self.tables is not None and self.clause_ids is not None:
            batch["input_ids"], batch["attention_mask"] = self.tables.assemble(self.clause_ids[rows])
            if self.with_value_fields:
                batch["value_fields"] = self.tables.assemble_value_fields(self.clause_ids[rows])
        if self.vectors is not None and self.vector_ids is not None:
            batch["feature_vectors"] = self.vectors.gather(self.vector_ids[rows])
        if self.teacher_logits is not None:
            batch["teacher_logits"] = self.teacher_logits[rows].astype(np.float32)
        return [batch]

    def text_lengths(self) -> np.ndarray:
        """Number of text tokens per row, (N,), special tokens included, before truncation.

        Raises:
            ValueError: If the rows were encoded without a tokenizer.
        """
        if self.tables is None or self.clause_ids is None:
            raise ValueError("These rows have no text: they were encoded without a tokenizer.")
        return self.tables.lengths(self.clause_ids)

    def without_text(self) -> "ColumnarDataset":
        """The same rows for a model without a PLM: without clauses, tokens and cached states."""
        return replace(self, clause_ids=None, text_ids=None, tables=None, cached_texts=None)

    def slice(self, start: int, stop: int) -> "ColumnarDataset":
        """View of rows `start:stop`, clipped to the dataset; `stop` must be at least `start`."""
        arrays = {name: getattr(self, name) for name in _OF_ROWS}
        cut: dict[str, Any] = {name: array[start:stop] for name, array in arrays.items() if array is not None}
        whole, first = self.part_of or (self, 0)
        part = replace(self, **cut)
        part.part_of = (whole, first + start)
        return part

    def take(self, rows: np.ndarray) -> "ColumnarDataset":
        """The rows with the indices `rows` (M,), in their order."""
        arrays = {name: getattr(self, name) for name in _OF_ROWS}
        taken: dict[str, Any] = {name: array[rows] for name, array in arrays.items() if array is not None}
        return replace(self, **taken)

    @classmethod
    def concatenate(cls, parts: Sequence["ColumnarDataset"]) -> "ColumnarDataset":
        """Concatenate datasets that were prepared together. Rows keep their row ids.

        If they are adjacent slices of the prepared rows, like the training and validation splits, the result is a
        view.

        Raises:
            ValueError: If rows have cached states, which would be lost.
        """
        if any(part.cached_texts is not None for part in parts):
            raise ValueError("`parts` must not have cached states: concatenate first, then attach the states.")
        first = parts[0]
        if first.part_of is not None:
            whole, start = first.part_of
            sizes = [len(part) for part in parts]
            starts = (start + np.cumsum([0, *sizes[:-1]])).tolist()
            if all(part.part_of == (whole, first_row) for part, first_row in zip(parts, starts)):
                return whole.slice(start, start + sum(sizes))
        names = [name for name in _OF_ROWS if all(getattr(part, name) is not None for part in parts)]
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**joined, tables=first.tables, vectors=first.vectors)


def prepare_splits(
    splits: Mapping[str, pa.Table],
    processor: ClickPromptProcessor,
    folder: str | Path,
    split_column: str | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Encode all splits into `folder`, to be mapped by `load_prepared` in any process.

    Each distinct value is encoded and rendered once. Tokenizing clauses of validation and test rows as well fits
    nothing to them. The folder is written atomically.

    Args:
        splits: Raw rows with labels 0 and 1, as `load_splits` returns them.
        processor: Fitted on the training split.
        folder: Replaced if it exists.
        split_column: Column whose values no two splits share, if any. Any other column triggers a warning if hardly
            any of its values in the validation or test split occur in training.
        notes: More files to write: plain data by name, as JSON.
    """
    with whole_folder(folder, flush=False) as partial:
        _write_splits(splits, processor, partial, split_column)
        write_notes(partial, notes or {})


def write_notes(folder: Path, notes: Mapping[str, Any]) -> None:
    """Write plain data as JSON files."""
    for name, content in notes.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _write_splits(
    splits: Mapping[str, pa.Table], processor: ClickPromptProcessor, folder: Path, split_column: str | None
) -> None:
    tables = list(splits.values())
    sizes = [len(table) for table in tables]
    unknown = [UnknownValues(processor) for _ in tables]
    arrays, token_tables, vectors = encode_tables(tables, processor, processor.reads_text, True, unknown=unknown)
    for name, counted in zip(splits, unknown):
        if name != "train":
            counted.warn(f" of the {name} split", exclude=split_column)
    if token_tables is not None:
        token_tables.save(folder)
        arrays["text_ids"] = distinct_texts(arrays["clause_ids"])[1]
    if vectors is not None:
        vectors.save(folder)
    labels = [table.column(processor.schema.label).to_numpy() for table in tables]
    arrays["labels"] = np.concatenate(labels).astype("i1")
    arrays["row_ids"] = np.arange(sum(sizes))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / SIZES_FILE).write_text(json.dumps(dict(zip(splits, sizes))), encoding="utf-8")
    if "train" in splits:
        start = sum(sizes[: list(splits).index("train")])
        train_ids = arrays["feature_ids"][start : start + len(splits["train"])]
        processor = with_trained_values(processor, count_training_values(train_ids, processor))
    processor.save_pretrained(folder / "processor")


def load_prepared(folder: str | Path) -> tuple[dict[str, ColumnarDataset], ClickPromptProcessor]:
    """Map the splits that `prepare_splits` wrote, by name, and load the processor."""
    folder = Path(folder)
    processor = ClickPromptProcessor.from_pretrained(folder / "processor")
    tables = TokenTables.load(folder) if processor.reads_text else None
    vectors = FeatureVectors.load(folder, len(processor.scales)) if processor.scales else None
    names = (*_ARRAYS, *(_TEXT_ARRAYS if tables is not None else ()), *(_VECTOR_ARRAYS if vectors is not None else ()))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    whole = ColumnarDataset(**arrays, tables=tables, vectors=vectors)
    splits, start = {}, 0
    for name, size in json.loads((folder / SIZES_FILE).read_text(encoding="utf-8")).items():
        splits[name] = whole.slice(start, start + size)
        start += size
    return splits, processor


def encode_tables(
    tables: Sequence[pa.Table],
    processor: ClickPromptProcessor,
    with_text: bool,
    with_value_fields: bool = False,
    row_offset: int = 0,
    unknown: Sequence[UnknownValues] = (),
    unread: Sequence[UnreadCells] = (),
) -> tuple[dict[str, np.ndarray], TokenTables | None, FeatureVectors | None]:
    """Encode the fields of several tables as one; each distinct value is encoded and tokenized once.

    Args:
        tables: Raw rows, N in all, at least one. Without text, columns of free text may be missing.
        processor: Encodes values and renders clauses.
        with_text: Whether to tokenize the text; the processor must have a tokenizer then.
        with_value_fields: Whether tokens record which field's value they show, which takes longer.
        row_offset: Number of the first row in messages, which count the rows of all tables.
        unknown: Per table, where to count values that training rows did not have.
        unread: Per field, where to count cells that are not numbers or times, to warn of those of several calls at
            once. By default, this call warns.

    Returns:
        `feature_ids` (N, C), `value_ids` (N, F), with fields of vectors `vector_ids` (N, V) and with text `clause_ids`
        (N, G), int32, as in `ColumnarDataset`; the tokens of the clauses, `None` without text; and the distinct
        vectors, `None` without fields of vectors.

    Raises:
        ValueError: If a cell of a multi-valued field is not a list of single values, or one of a field of vectors not
            a vector of finite numbers of the field's size; the message names its row.
    """
    feature_ids, value_ids, clause_ids, clauses = [], [], [], []
    vector_ids, vector_tables = [], []
    for f, field in enumerate(processor.schema.fields):
        if field.is_vector:
            vectors, indices = _distinct_vectors(tables, processor, f, row_offset, unknown)
            vector_tables.append(vectors)
            vector_ids.append(indices)
            if not (with_text and field.in_text):
                value_ids.append(indices)
                continue
        if not (field.num_columns or with_text or field.column in tables[0].column_names):
            value_ids.append(np.zeros(sum(map(len, tables)), dtype=np.int32))
            continue
        unread_of_field = unread[f] if unread else None
        values, ids_of_values, indices = _distinct_values(tables, processor, f, row_offset, unknown, unread_of_field)
        feature_ids.append(ids_of_values.astype(np.int32)[indices])
        missing = _missing_without_id(processor, f, values, ids_of_values)
        value_ids.append(one_per_category(field, ids_of_values, missing)[indices])
        if with_text and field.in_text:
            rendered = np.asarray(processor.render_values(f, values), dtype=object)
            distinct_clauses, clause_indices = np.unique(rendered, return_inverse=True)
            clauses.append(distinct_clauses.tolist())
            clause_ids.append(clause_indices[indices])
    arrays = {"feature_ids": np.concatenate(feature_ids, axis=1), "value_ids": np.stack(value_ids, axis=1)}
    feature_vectors = None
    if vector_tables:
        arrays["vector_ids"], feature_vectors = np.stack(vector_ids, axis=1), FeatureVectors(vector_tables)
    if not with_text:
        return arrays, None, feature_vectors
    affixes = [processor.affixes(f) for f in processor.schema.fields_in_text] if with_value_fields else None
    token_tables, arrays["clause_ids"] = TokenTables.build(
        clauses, np.stack(clause_ids, axis=1), affixes, processor.tokenizer, processor.max_text_length
    )
    return arrays, token_tables, feature_vectors


def one_per_category(field: FieldSchema, ids: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The first of the raw values of a field that are one category, as 7 and 7.0 are.

    Args:
        field: The field.
        ids: Ids (D, columns) of its distinct raw values.
        missing: Indices of categories that are missing and have no id, as training rows had none.

    Returns:
        (D,) int32: for each value the first one with its id; the value itself if it is unknown or of another kind; -1
        if it is missing.
    """
    firsts = np.arange(len(ids), dtype=np.int32)
    if field.kind == "categorical":
        known = np.flatnonzero(ids[:, 0])
        _, places, numbers = np.unique(ids[known, 0], return_index=True, return_inverse=True)
        firsts[known] = known[places][numbers]
    firsts[missing] = -1
    return firsts


def _missing_without_id(processor: ClickPromptProcessor, f: int, values: list[Any], ids: np.ndarray) -> np.ndarray:
    """Indices of missing values of a category that training rows did not have; none for other kinds of fields."""
    field = processor.schema.fields[f]
    if field.kind != "categorical":
        return np.zeros(0, dtype=np.int64)
    unknown = np.flatnonzero(ids[:, 0] == 0)
    return unknown[mean_missing([values[v] for v in unknown], field)]


def _distinct_vectors(
    tables: Sequence[pa.Table],
    processor: ClickPromptProcessor,
    field_index: int,
    row_offset: int,
    unknown: Sequence[UnknownValues],
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct vectors (D, size) of a field, and each row's index among them (N,); counts missing ones."""
    try:
        vectors, indices = encode_vector_column(tables, processor, field_index)
    except UnreadableVector as error:
        raise error.at(f" in row {row_offset + error.index}") from None
    is_missing = np.isnan(vectors).all(axis=1)
    for counted, rows in zip(unknown, _by_table(indices, tables)):
        counted.add_vectors(field_index, is_missing[rows])
    return vectors, indices


def _distinct_values(
    tables: Sequence[pa.Table],
    processor: ClickPromptProcessor,
    field_index: int,
    row_offset: int,
    unknown: Sequence[UnknownValues],
    unread: UnreadCells | None,
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """The D distinct values of a field, their ids (D, columns), and each row's index among them (N,); counts them."""
    values, indices = distinct_cells([table.column(processor.schema.fields[field_index].column) for table in tables])
    try:
        ids = processor.encode_values(field_index, values, np.bincount(indices, minlength=len(values)), unread)
    except UnreadableCell as error:
        raise error.at(f" in row {row_offset + (indices == error.index).argmax()}") from None
    for counted, rows in zip(unknown, _by_table(indices, tables)):
        counted.add(field_index, values, ids, np.bincount(rows, minlength=len(values)))
    return values, ids, indices


def _by_table(rows: np.ndarray, tables: Sequence[pa.Table]) -> list[np.ndarray]:
    """Split what each row of all tables has (N,) by table."""
    return np.split(rows, np.cumsum([len(table) for table in tables[:-1]]))
