# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tokens of the text of encoded rows, whose clauses are on disk.

Shapes: N rows, G fields in the text.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...processing_clickprompt import ClickPromptProcessor
from ..random_draws import hash_numbers
from ..token_tables import TokenTables, doubtful_clauses, first_clauses, sample_of_rows
from .distinct import DistinctValues
from .row_splits import count_codes
from .row_writer import RowWriter
from .spill import SpilledColumn
from .table_stream import ROWS_PER_CHUNK


def write_tokens(
    folder: Path,
    spill_folder: Path,
    clauses: Sequence[Sequence[str]],
    processor: ClickPromptProcessor,
    num_rows: int,
) -> None:
    """Write the tokens of clauses, and the number of each row's distinct text, beside `clause_ids.npy`.

    Args:
        folder: Has `clause_ids.npy`, (N, G) indices into the clauses of all fields, one field's after another's.
        spill_folder: Where unsorted rows go; must exist.
        clauses: Per field in the text, its distinct clauses.
        processor: Has the tokenizer.
        num_rows: N.
    """
    affixes = [processor.affixes(f) for f in processor.schema.fields_in_text]
    clause_ids = folder / "clause_ids.npy"
    firsts = first_clauses(clauses)
    verified = _rows_to_verify(clause_ids, clauses, processor.tokenizer) - firsts
    arguments = (affixes, processor.tokenizer, processor.max_text_length)
    tables = TokenTables.of_clauses(clauses, verified, *arguments)
    text_column = _spilled_texts(clause_ids, spill_folder / "texts")
    _, first_rows = count_codes(text_column, [True] * len(text_column.num_rows))
    numbers = np.empty(len(first_rows), dtype=np.int64)
    numbers[np.argsort(first_rows)] = np.arange(len(first_rows))
    with RowWriter(folder, spill_folder, num_rows, {"text_ids": (np.int64, 0)}) as writer:
        row = 0
        for chunk, rows in enumerate(text_column.num_rows):
            codes, code_map = text_column.codes(chunk)
            writer.write(np.arange(row, row + rows), {"text_ids": numbers[code_map][codes]})
            row += rows
    if tables is None:
        mapped = np.load(clause_ids, mmap_mode="r")
        tables = TokenTables.of_texts(clauses, mapped[np.sort(first_rows)] - firsts, *arguments)
        del mapped
        with RowWriter(folder, spill_folder, num_rows, {"clause_ids": (np.int32, 1)}) as writer:
            for start, texts in _row_blocks(folder / "text_ids.npy"):
                positions = np.arange(start, start + len(texts))
                writer.write(positions, {"clause_ids": texts.astype(np.int32).reshape(-1, 1)})
    tables.save(folder)


def _rows_to_verify(path: Path, clauses: Sequence[Sequence[str]], tokenizer) -> np.ndarray:
    """Clause ids of the rows on which to compare the tables with tokenized texts, as `rows_to_verify` chooses them."""
    doubtful = np.concatenate(doubtful_clauses(clauses, tokenizer))
    is_left = doubtful.copy()
    wanted: list[np.ndarray] = []
    mapped = np.load(path, mmap_mode="r")
    sample = sample_of_rows(len(mapped))
    wanted.append(np.asarray(mapped[sample]))
    del mapped
    if doubtful.any():
        for _, block in _row_blocks(path):
            rows = np.flatnonzero(is_left[block].any(axis=1))
            # several rows of a block may have the same remaining clause
            for row in rows:
                if is_left[block[row]].any():
                    wanted.append(block[row : row + 1])
                    is_left[block[row]] = False
    return np.unique(np.concatenate(wanted), axis=0)


def _spilled_texts(path: Path, folder: Path) -> SpilledColumn:
    """The distinct texts of rows as a column of keys, given the file of their clause ids."""
    column = SpilledColumn(folder, pa.uint64())
    for _, block in _row_blocks(path):
        keys = np.zeros(len(block), dtype=np.uint64)
        for clause_ids in block.T:
            keys = hash_numbers(keys ^ clause_ids.astype(np.uint64))
        column.add(DistinctValues.of(pa.array(keys)))
    column.merge()
    return column


def _row_blocks(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Read an array in blocks of rows, each after the number of its first row, without mapping the file."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        width = int(np.prod(shape[1:], dtype=np.int64))
        for start in range(0, shape[0], ROWS_PER_CHUNK):
            rows = min(ROWS_PER_CHUNK, shape[0] - start)
            yield start, np.fromfile(file, dtype=kind, count=rows * width).reshape(rows, *shape[1:])
