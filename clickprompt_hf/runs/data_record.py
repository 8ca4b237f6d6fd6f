# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The record of the data that a checkpoint keeps, so that later runs use the same rows and never test on seen ones."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration_clickprompt import ClickPromptConfig
from ..data.columnar import ColumnarDataset
from ..data.split_files import advise_on_format, file_format_of
from ..data.splits import DEFAULT_FRACTIONS
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from .arguments import DataArguments
from .encoded_elsewhere import dataset_of

_DATA_DEFAULTS = {
    **{"dataset": None, "split": "random", "split_seed": 42, "split_column": None},
    **{"split_fractions": list(DEFAULT_FRACTIONS), "max_train_rows": None, "min_count": 1, "stream": None},
}
SPLIT_ARGUMENTS = ("split", "split_seed", "max_train_rows", "split_column", "split_fractions")
# How messages call the model whose data a run must share.
CHECKPOINT, TEACHER = "the checkpoint", "the teacher"


def resolve_data_arguments(
    given: DataArguments, saved: dict[str, Any] | None, owner: str = CHECKPOINT
) -> dict[str, Any]:
    """Resolve the data arguments: those given, else those of the checkpoint, else the defaults.

    Args:
        given: Arguments of this run.
        saved: The checkpoint's record of its data; `None` without a checkpoint.
        owner: What the record belongs to, as messages call it.

    Raises:
        ValueError: If no dataset is named, or an argument differs from the checkpoint's.
    """
    resolved = {}
    for name, default in _DATA_DEFAULTS.items():
        value = getattr(given, name)
        if saved is not None:
            # records of earlier versions lack later arguments
            kept = saved.get(name, default)
            if name == "stream":
                kept = bool(kept)
            if value is not None and value != kept:
                raise ValueError(
                    f"`--{name}` must be {kept!r}, as in {owner}'s training, or left out; got {value!r}. "
                    f"Another split would test on rows that {owner} has seen."
                )
            value = kept
        resolved[name] = default if value is None else value
    resolved["dataset"] = dataset_of(given, resolved["dataset"])
    files = next(filter(None, (given.train_file, given.validation_file, given.test_file, given.data_path)), None)
    if resolved["dataset"] is None:
        resolved["dataset"] = file_format_of(files)
    if resolved["dataset"] is None:
        advice = advise_on_format(files)
        if given.prepared is not None:
            advice = f" The rows in {given.prepared} are from an earlier run: repeat its data arguments."
        raise ValueError(f"`--dataset` must name the data, e.g. ml-1m, synthetic or csv; got none.{advice}")
    return resolved


def resumed_training_data(folder: Path) -> dict[str, Any]:
    """Read the record of the data in the checkpoint that training resumes from.

    Raises:
        ValueError: If it has none.
    """
    training_data = ClickPromptConfig.from_pretrained(folder).training_data
    if training_data is None:
        raise ValueError(
            f"`resume_from_checkpoint` must be a checkpoint with a record of its training rows; {folder} has none."
        )
    return training_data


def saved_records(
    checkpoint: ClickPromptConfig | None, teacher: ClickPromptConfig | None, resumed: Path | None
) -> list[tuple[str, dict[str, Any]]]:
    """Data records of the checkpoint to start from, of the teacher and of the checkpoint to resume, if any.

    Returns:
        Pairs of what messages call a record's owner, and the record.
    """
    configs = ((CHECKPOINT, checkpoint), (TEACHER, teacher))
    records = [(owner, config.training_data) for owner, config in configs if config is not None]
    resume = resumed_training_data(resumed) if resumed is not None else None
    return [(owner, record) for owner, record in (*records, (CHECKPOINT, resume)) if record]


def resolve_against(data_args: DataArguments, records: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Resolve the data arguments with the first record, and refuse values that differ from the other ones.

    Args:
        data_args: Arguments of this run.
        records: As `saved_records` returns them.

    Raises:
        ValueError: As in `resolve_data_arguments`.
    """
    if not records:
        return resolve_data_arguments(data_args, None)
    (owner, first), *others = records
    resolved = resolve_data_arguments(data_args, first, owner)
    for other, record in others:
        resolve_data_arguments(DataArguments(**resolved), record, other)
    return resolved


def resolve_max_eval_rows(given: int | None, resumed: Path | None) -> int | None:
    """The number of rows to evaluate on while training: the given one, or that of the run that is resumed.

    Raises:
        ValueError: If both are there and differ.
    """
    if resumed is None:
        return given
    # records of earlier versions do not say
    kept = resumed_training_data(resumed).get("max_eval_rows")
    if given is not None and given != kept:
        raise ValueError(
            f"`--max_eval_rows` must be {kept}, as in the run being resumed, or left out; got {given}. With other "
            "validation rows, epochs before and after could not be compared."
        )
    return kept


def record_of(
    data: dict[str, ColumnarDataset], processor: ClickPromptProcessor, resolved: dict[str, Any]
) -> dict[str, Any]:
    """The record of the data that a checkpoint keeps: how to get the same rows again, and how to recognize them."""
    return {
        **resolved,
        "num_rows": {name: len(split) for name, split in data.items()},
        "test_rows_sha256": rows_digest(data["test"]),
        "processor_fingerprint": processor.fingerprint,
    }


def rows_digest(split: ColumnarDataset) -> str:
    """SHA-256 of a split's ids and labels, in order, to tell whether two runs test on the same rows."""
    digest = hashlib.sha256(np.ascontiguousarray(split.feature_ids).data)
    digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()


def check_same_processor(folder: Path, processor: ClickPromptProcessor) -> None:
    """Refuse a processor whose ids differ from those of the checkpoint in `folder`.

    Raises:
        ValueError: If their fingerprints differ.
    """
    saved = ClickPromptProcessor.from_pretrained(folder).fingerprint
    if saved != processor.fingerprint:
        raise ValueError(
            "`resume_from_checkpoint` must be a checkpoint whose processor matches the data: the processor in "
            f"{folder} has fingerprint {saved}, but the given data, --schema and --text_fields give "
            f"{processor.fingerprint}."
        )


def check_same_fields(found: Schema, saved: Schema) -> None:
    """Refuse a table with other fields.

    Raises:
        ValueError: If the schemas differ in more than the time column, the way CSV files are written and the tables
            that are joined.
    """
    others: dict[str, Any] = {"time": None, "csv": None, "tables": ()}
    if replace(found, **others) != replace(saved, **others):
        raise ValueError(
            f"`--dataset` must have the fields and the label of the checkpoint's schema, {saved.to_dict()}, got "
            f"{found.to_dict()}."
        )


def check_same_rows(saved: dict[str, Any], found: dict[str, Any], owner: str = CHECKPOINT) -> None:
    """Refuse data that differ from those of a checkpoint or teacher, which messages call `owner`.

    Raises:
        ValueError: If own splits, split sizes or test rows differ.
    """
    # records of earlier versions do not say
    own = saved.get("own_splits", found["own_splits"])
    if own != found["own_splits"]:
        raise ValueError(
            f"The data must have {own or 'no'} predefined splits, as in {owner}'s training, got "
            f"{found['own_splits'] or 'none'}. Pass the same --train_file, --validation_file, --test_file and "
            "--data_path."
        )
    advice = " To finetune on another table, pass --extend_vocabulary to `clickprompt finetune`."
    if owner == TEACHER:
        advice = ""
    for name in ("num_rows", "test_rows_sha256"):
        if saved[name] != found[name]:
            raise ValueError(
                f"`--data_path` must hold the data that {owner} was trained on: its {name} is {saved[name]}, "
                f"but {found[name]} in the given data.{advice}"
            )
