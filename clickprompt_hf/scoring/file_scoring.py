# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Score a file of raw rows, of any size, and write the rows with their click probabilities."""

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, tqdm

from ..columns_clickprompt import PROBABILITY_COLUMN, check_columns, check_different
from ..data.csv_files import with_plain_numbers
from ..data.drift import DriftCounts, FieldDrift
from ..data.table_files import table_kind
from ..data.table_pieces import open_table
from ..lost_keys_clickprompt import LostKeys
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import RecentTexts
from ..schema_clickprompt import CsvFormat
from ..unread_cells_clickprompt import UnreadCells
from .finished_pieces import FinishedPieces
from .table_scoring import score_table


def score_file(
    input_path: Path,
    output_path: Path,
    processor: ClickPromptProcessor,
    model: Any,
    batch_size: int,
    piece_rows: int = 16_384,
    bf16: bool = False,
    csv_format: CsvFormat | None = None,
    recent_texts: RecentTexts | None = None,
) -> list[FieldDrift]:
    """Score the rows of a CSV, JSON lines or Parquet file, holding only `piece_rows` rows in memory.

    In a distributed run, call this in every process with the same arguments; the processes share the pieces. Finished
    pieces are kept in a hidden folder beside the output, and the main process joins them at the end. After an
    interruption, call it again to resume: only unfinished pieces are scored, with any number of processes, and the
    output is the same, byte for byte, or within 1e-6 if states of texts are kept.

    Args:
        input_path: A file with the columns of the processor's schema, as in `open_table_file`.
        output_path: A file whose ending `table_format` knows. It appears once it is complete and holds the input's
            rows in order, with the additional column `click_probability`.
        processor: The model's processor.
        model: A `ClickPromptForCTR`.
        batch_size: Rows per batch, at least 1.
        piece_rows: Rows per piece, at least 1.
        bf16: Whether to compute matrix products in bf16.
        csv_format: How a CSV input is written; by default, as the processor's schema says.
        recent_texts: States of texts, for layers of the PLM that see the text alone: they run once per text as long as
            its states are kept. By default, states of at most 256 MB.

    Returns:
        For each field with ids, how the values that this run scored differ from those of the training rows; empty in
        all processes but the main one.

    Raises:
        ValueError: If a number is out of range, the output is the input, the processor belongs to another model, the
            input is broken, lacks a column or already has `click_probability`, or the finished pieces come from a run
            with other arguments.
        OSError: If the output cannot be written.
        RuntimeError: If another run is writing the same output.
    """
    _check_arguments(input_path, output_path, batch_size, piece_rows)
    processor.check_model(model.config)
    recent_texts = RecentTexts() if recent_texts is None else recent_texts
    csv_format = csv_format or processor.schema.csv
    reader = open_table(input_path, piece_rows, csv_format)
    numeric_columns = processor.schema.numeric_columns if table_kind(input_path) == "csv" else []
    to_join = processor.columns_to_join(dict.fromkeys(reader.schema.names))
    needed = processor.needed_columns(to_join)
    _check_columns(reader.schema.names, needed, input_path, reader.advise_on_columns())
    state = PartialState()
    pieces, counts = FinishedPieces(output_path), _CountsOfFile(processor)
    model.eval()
    with ExitStack() as stack:
        if state.is_main_process:
            settings = {
                "piece_rows": piece_rows,
                "batch_size": batch_size,
                "bf16": bf16,
                "CSV format": str(csv_format),
            }
            stack.enter_context(pieces.started({**_origin(input_path, model, processor), **settings}))
        state.wait_for_everyone()
        finished = pieces.finished()

        def is_mine(number: int) -> bool:
            return number % state.num_processes == state.process_index and number not in finished

        # All processes read through the file at the same pace, so the main one shows the progress of all.
        with tqdm(total=reader.num_rows, unit=" rows", desc="scoring") as bar:
            if finished and state.is_main_process:
                bar.write(f"Resuming after {len(finished)} finished pieces of {piece_rows:,} rows.", file=sys.stderr)
            for number, table in reader.read(is_mine):
                # the output keeps the cells as they are
                rows, offset = with_plain_numbers(table, numeric_columns, csv_format), number * piece_rows
                probabilities = score_table(
                    rows, processor, model, batch_size, bf16, offset, counts.unknown, counts.unread, recent_texts
                )
                if number == 0 and len(table) == piece_rows:
                    # Before hours of scoring.
                    counts.warn(f" of the first rows of {input_path}")
                pieces.write(number, table.append_column(PROBABILITY_COLUMN, pa.array(probabilities)))
                bar.update(offset + len(table) - bar.n)
        state.wait_for_everyone()
        counts.gather()
        if not state.is_main_process:
            return []
        counts.warn(f" of {input_path}")
        num_pieces = -(-(reader.num_rows or 0) // piece_rows)
        pieces.join(num_pieces, reader.schema.append(pa.field(PROBABILITY_COLUMN, pa.float64())))
        return counts.unknown.drifts()


class _CountsOfFile:
    """Values of a file that training did not have, cells that are not numbers or times, and keys of no joined row.

    Args:
        processor: The model's processor.
    """

    def __init__(self, processor: ClickPromptProcessor):
        self.unknown = DriftCounts(processor, processor.trained_values)
        self.unread = [UnreadCells(field) for field in processor.schema.fields]

    @property
    def _all(self) -> list[DriftCounts | UnreadCells | LostKeys]:
        # the reason why columns are missing comes before the columns
        return [*self.unknown.lost_keys, self.unknown, *self.unread]

    def gather(self) -> None:
        """Add the counts of the other processes in the main one; call it in all of them."""
        process_counts = gather_object([[counted.counts for counted in self._all]])
        if PartialState().is_main_process:
            for counts in process_counts[1:]:
                for counted, others in zip(self._all, counts):
                    counted.merge(others)

    def warn(self, where: str) -> None:
        """Warn about what was counted; `where` says which rows, such as `" of rows.csv"`."""
        for counted in self._all:
            counted.warn(where)


def _origin(input_path: Path, model: Any, processor: ClickPromptProcessor) -> dict[str, Any]:
    """The input and the model that finished pieces come from."""
    file = input_path.stat()
    made_by = "checkpoint" if processor.tables is None else "checkpoint with its joined tables"
    return {
        "input size": file.st_size,
        "input modification time, ns": file.st_mtime_ns,
        made_by: checkpoint_digest(model, processor),
    }


def checkpoint_digest(model: torch.nn.Module, processor: ClickPromptProcessor) -> str:
    """Hash everything that probabilities depend on: weights, configuration, vocabularies, tables and text length."""
    config = json.loads(model.config.to_json_string())  # type: ignore[union-attr, operator]
    config.pop("transformers_version", None)
    digest = hashlib.sha256(json.dumps([config, processor.fingerprint, processor.max_text_length]).encode())
    for line in processor.tables.lines() if processor.tables is not None else ():
        digest.update(line.encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _check_arguments(input_path: Path, output_path: Path, batch_size: int, piece_rows: int) -> None:
    for name, number in (("batch_size", batch_size), ("piece_rows", piece_rows)):
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1, got {number}.")
    if output_path.exists() and output_path.samefile(input_path):
        raise ValueError(f"`output_path` must differ from `input_path`, got {output_path} for both.")


def _check_columns(given: Sequence[str], needed: Sequence[str], path: Path, advice: str) -> None:
    check_different(given, str(path))
    try:
        check_columns(needed, given, str(path))
    except ValueError as error:
        raise ValueError(f"{error}{advice}") from error
    if PROBABILITY_COLUMN in given:
        raise ValueError(f"{path} already has a column {PROBABILITY_COLUMN!r}; rename it first.")
