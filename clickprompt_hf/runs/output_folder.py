# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Protects, resumes or removes what an earlier run left in the output folder."""

import shutil
import tempfile
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from ..evaluation.plots import PLOTS, PLOTS_FOLDER
from ..evaluation.report import SCORES_FILE
from ..training.arguments import ClickPromptTrainingArguments

RESULTS_FILE = "all_results.json"


def check_output_dir(training_args: ClickPromptTrainingArguments) -> None:
    """Reject an output folder that holds a finished run or cannot be written.

    Raises:
        FileExistsError: If the folder holds results and the run neither resumes nor overwrites them.
        PermissionError: If no file can be created in the folder, or in its nearest parent if it is missing.
    """
    folder = Path(str(training_args.output_dir))
    # the folder itself is not created yet: a later argument may be wrong
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise PermissionError(
            f"`output_dir` must be a writable folder, but {folder} is not: {error.strerror}"
        ) from error
    results = folder / RESULTS_FILE
    if results.exists() and not (training_args.resume_from_checkpoint or training_args.overwrite_output_dir):
        raise FileExistsError(
            f"`output_dir` {training_args.output_dir} holds a finished run ({RESULTS_FILE}). Choose another folder, "
            "or pass --overwrite_output_dir."
        )


def checkpoint_to_resume(training_args: ClickPromptTrainingArguments) -> Path | None:
    """Find the checkpoint that training resumes; `None` if it starts from scratch.

    Raises:
        ValueError: If there is none to resume, or it is incomplete.
    """
    resume, folder = training_args.resume_from_checkpoint, Path(str(training_args.output_dir))
    if not resume:
        return None
    checkpoint = resume
    if resume is True:
        checkpoint = get_last_checkpoint(folder) if folder.is_dir() else None
    if checkpoint is None or not Path(checkpoint).is_dir():
        raise ValueError(
            "`resume_from_checkpoint` must be the folder of a checkpoint, or true with one in `output_dir` "
            f"{folder}; got {resume}, which has none."
        )
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json"):
        if not (Path(checkpoint) / name).is_file():
            raise ValueError(
                f"`resume_from_checkpoint` must be a complete checkpoint, but {checkpoint} lacks {name}: training "
                "could not continue where it stopped."
            )
    return Path(checkpoint)


def remove_earlier_run(training_args: ClickPromptTrainingArguments) -> None:
    """Remove the checkpoints and results of the run to overwrite: resuming would mistake them for this run's.

    Call it right before training: the checkpoint that a run starts from may be in the same folder.
    """
    if not training_args.overwrite_output_dir or training_args.resume_from_checkpoint:
        return
    # no process may still be reading
    training_args.distributed_state.wait_for_everyone()
    if training_args.should_save:
        folder = Path(str(training_args.output_dir))
        for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(checkpoint)
        for name in (RESULTS_FILE, SCORES_FILE, *(f"{PLOTS_FOLDER}/{plot}" for plot in PLOTS)):
            (folder / name).unlink(missing_ok=True)
