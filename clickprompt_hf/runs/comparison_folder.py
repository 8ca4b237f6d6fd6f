# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The output folder of a comparison, which records flags and rows, so comparisons can continue but never mix."""

import hashlib
import json
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers.utils import logging

from .. import __version__
from ..whole_files import whole_file

logger = logging.get_logger(__name__)

COMPARISON_FILE = "comparison.json"
_ROWS = "rows"
_CONTENTS = ("arms", "pamlm", _ROWS, "_text_states")
# Other versions of these may train or score differently.
_LIBRARIES = ("torch", "transformers", "lightgbm", "scikit-learn", "optuna")
# Flags that may differ when a comparison continues: they change no figure, or only add arms and seeds. The rows are
# compared themselves.
_FREE_FLAGS = {
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "arms", "seeds", "user_field", "item_field"),
    *("dataset", "data_path", "train_file", "validation_file", "test_file", "disable_tqdm", "report_to", "debug"),
    *("logging_steps", "logging_strategy", "logging_dir", "text_state_dir", "text_vector_dir"),
    *("jobs", "per_device_eval_batch_size", "dataloader_num_workers"),
}


def rows_file(folder: Path, split: str) -> Path:
    """Where a comparison keeps the raw rows of a split."""
    return folder / _ROWS / f"{split}.parquet"


def flags_of(arguments: list[str]) -> dict[str, str]:
    """Values by flag of a command line; `"true"` for a flag without a value."""
    found: dict[str, list[str]] = {}
    name = ""
    for argument in arguments:
        if argument.startswith("--"):
            name, has_value, value = argument[2:].partition("=")
            found[name] = [value] if has_value else []
        elif name:
            found[name].append(argument)
    return {name: " ".join(values) or "true" for name, values in found.items()}


def rows_sha256(table: pa.Table) -> str:
    """SHA-256 of the rows of a table, in order, with the types and names of its columns."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata().combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def versions_in_use() -> dict[str, str]:
    """Versions of this package and of the libraries that arms are trained with, by name; without absent libraries."""
    found = {"clickprompt_hf": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def claim_comparison(folder: Path, arguments: list[str], rows: dict[str, str], overwrite: bool) -> bool:
    """Record what is compared, or check that the folder holds this comparison.

    A comparison begun by other versions of the package or its libraries continues, with a warning.

    Args:
        folder: Output folder.
        arguments: The command line.
        rows: Hash of the rows by split.
        overwrite: Whether to remove the comparison that the folder holds.

    Returns:
        Whether the folder holds a comparison to continue.

    Raises:
        ValueError: If the folder holds another comparison; the message names what differs.
        FileExistsError: If it holds something else.
    """
    path = folder / COMPARISON_FILE
    flags = {name: value for name, value in flags_of(arguments).items() if name not in _FREE_FLAGS}
    if overwrite:
        path.unlink(missing_ok=True)
        for name in _CONTENTS:
            shutil.rmtree(folder / name, ignore_errors=True)
    if path.is_file():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if differing := _differences(recorded, flags, rows):
            raise ValueError(
                f"`output_dir` {folder} holds another comparison, which differs in {', '.join(differing)}. Choose "
                "another folder, or pass --overwrite_output_dir."
            )
        _warn_of_versions(folder, recorded.get("versions"))
        return True
    if not overwrite and folder.is_dir() and any(not found.name.startswith(("_", ".")) for found in folder.iterdir()):
        raise FileExistsError(
            f"`output_dir` {folder} must be empty or hold an unfinished comparison, but it holds other files."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps({"flags": flags, "rows": rows, "versions": versions_in_use()}, indent=2))
    return False


def _warn_of_versions(folder: Path, recorded: dict[str, str] | None) -> None:
    """Warn if other versions, as far as they are known, began the comparison in a folder."""
    if recorded is None:
        logger.warning(
            f"{folder} holds a comparison of an earlier version of clickprompt_hf, which did not record its "
            "versions: its finished trials and seeds are kept, and may differ from this version's results. "
            "--overwrite_output_dir retrains all arms."
        )
        return
    now = versions_in_use()
    names = sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name))
    if names:
        shown = [f"{name} {recorded.get(name, 'absent')}, now {now.get(name, 'absent')}" for name in names]
        logger.warning(
            f"{folder} holds a comparison started with other versions ({'; '.join(shown)}): its finished trials and "
            "seeds are kept, and may differ from these versions' results. --overwrite_output_dir retrains all arms."
        )


def _differences(recorded: dict[str, Any], flags: dict[str, str], rows: dict[str, str]) -> list[str]:
    """What differs from the recorded comparison, in words."""
    found = []
    for name in sorted({*recorded["flags"], *flags}):
        before, now = recorded["flags"].get(name), flags.get(name)
        if before != now:
            shown = ["left out" if value is None else value for value in (before, now)]
            found.append(f"--{name} ({shown[0]}, now {shown[1]})")
    found += [f"the {name} rows" for name in rows if recorded["rows"].get(name) != rows[name]]
    return found
