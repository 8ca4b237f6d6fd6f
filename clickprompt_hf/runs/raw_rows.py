# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The raw rows of a run: their schema, their files, and whether these are prepared chunk by chunk."""

import warnings
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..data.reading import check_files, file_kind, list_files, read_source
from ..data.schema_file import load_schema
from ..data.sources import SourceTable, given_schema, needs_schema
from ..data.split_files import own_split_files
from ..data.splits import check_split_arguments
from ..data.streaming.table_stream import is_large
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from .arguments import DataArguments
from .data_record import CHECKPOINT
from .text_fields import is_schema_of


def read_rows_of(
    data_args: DataArguments,
    resolved: dict[str, Any],
    processor: ClickPromptProcessor | None = None,
    owner: str = CHECKPOINT,
) -> SourceTable:
    """Read all rows with the schema of the checkpoint, the given one, or the dataset's own.

    Args:
        data_args: Which rows to read.
        resolved: As `resolve_data_arguments` returns them.
        processor: Processor of the checkpoint, if any.
        owner: What it belongs to, as messages call it.

    Raises:
        ValueError: If the data or an argument is wrong.
        OSError: If a file is missing or broken.
    """
    check_split_arguments(resolved["split"], resolved["split_seed"], resolved["split_fractions"])
    return read_source(
        resolved["dataset"],
        data_args.data_path,
        _saved_schema(data_args, resolved, processor, owner) or data_args.schema,
        _split_files(data_args),
        resolved["split_column"] if resolved["split"] == "user" else None,
    )


def _saved_schema(
    data_args: DataArguments, resolved: dict[str, Any], processor: ClickPromptProcessor | None, owner: str
) -> Schema | None:
    """The checkpoint's schema, if there is a checkpoint and its dataset has no schema of its own."""
    saved_schema = processor.schema if processor and needs_schema(resolved["dataset"]) else None
    if saved_schema and data_args.schema:
        given = load_schema(data_args.schema)
        # The file may be written otherwise.
        saved_schema = replace(saved_schema, csv=given.csv, tables=given.tables)
        recorded = resolved.get("text_fields")
        if not is_schema_of(given, saved_schema, data_args.text_fields, recorded, data_args.vector_fields):
            raise ValueError(
                f"`--schema` must be left out or be {owner}'s schema, but {data_args.schema} differs from it."
            )
    return saved_schema


def schema_to_read(
    data_args: DataArguments, resolved: dict[str, Any], processor: ClickPromptProcessor | None, owner: str
) -> Schema | None:
    """The schema of a dataset that has none itself; `None` if it has, or if reading will report an error."""
    saved = _saved_schema(data_args, resolved, processor, owner)
    if not needs_schema(resolved["dataset"]) or not (saved or data_args.schema):
        return saved
    return given_schema(resolved["dataset"], saved or data_args.schema)


def _split_files(data_args: DataArguments) -> dict[str, Any]:
    return {"train": data_args.train_file, "validation": data_args.validation_file, "test": data_args.test_file}


def files_of(data_args: DataArguments, resolved: dict[str, Any]) -> dict[str, list[Path]]:
    """The files of a dataset in a file format, by split; see `list_files`."""
    with warnings.catch_warnings():
        # reading repeats the warnings
        warnings.simplefilter("ignore")
        check_files(resolved["dataset"], data_args.data_path, _split_files(data_args))
        return list_files(resolved["dataset"], data_args.data_path, _split_files(data_args))


def files_to_stream(
    data_args: DataArguments,
    resolved: dict[str, Any],
    schema: Schema | None,
    files: dict[str, list[Path]],
    extend_vocabulary: bool,
) -> dict[str, list[Path]]:
    """The files to prepare chunk by chunk, by split; none if the table is read into memory.

    Raises:
        ValueError: If `--stream` is given for a table that cannot be streamed.
    """
    wanted, kind = resolved["stream"], file_kind(resolved["dataset"])
    if wanted is False:
        return {}
    reasons = {
        "`--dataset` is a file format": kind is None,
        "the schema has no vector fields": schema is not None and bool(schema.vector_fields),
        "`--vector_fields` is left out": bool(data_args.vector_fields or resolved["vector_fields"]),
        "`--extend_vocabulary` is left out": extend_vocabulary,
    }
    unmet = [reason for reason, is_unmet in reasons.items() if is_unmet]
    if wanted and unmet:
        raise ValueError(f"`--stream` must be false or left out unless {' and '.join(unmet)}.")
    if unmet or schema is None or not (wanted or is_large(chain(*files.values()), kind)):
        return {}
    if set(files) == {""} and data_args.data_path is not None:
        # warns of files that are named like a split
        own_split_files(data_args.data_path)
    return files
