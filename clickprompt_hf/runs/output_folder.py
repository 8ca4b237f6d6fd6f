# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Protects, resumes or removes what an earlier run left in the output folder."""

import shutil
import tempfile
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..evaluation.plots import PLOTS, PLOTS_FOLDER
from ..evaluation.report import SCORES_FILE
from ..training.arguments import ClickPromptTrainingArguments
from ..training.checkpoints import checkpoints_in, fault_of, newest_whole_checkpoint

logger = logging.get_logger(__name__)

RESULTS_FILE = "all_results.json"
_INCOMPLETE = (
    "`resume_from_checkpoint` must be a complete checkpoint, but {} {}: training could not continue where it stopped."
)


def check_output_dir(training_args: ClickPromptTrainingArguments) -> None:
    """Reject an output folder that holds a finished run or cannot be written, and find the checkpoint to resume.

    `resume_from_checkpoint` becomes the folder of that checkpoint, or `None` to start from the beginning.

    Raises:
        FileExistsError: If the folder holds results or checkpoints and the run neither resumes nor overwrites them.
        PermissionError: If no file can be created in the folder, or in its nearest parent if it is missing.
        ValueError: If there is no checkpoint to resume, or it is incomplete.
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
    if not (training_args.resume_from_checkpoint or training_args.overwrite_output_dir):
        if (folder / RESULTS_FILE).exists():
            raise FileExistsError(
                f"`output_dir` {folder} holds a finished run ({RESULTS_FILE}). Choose another folder, or pass "
                "--overwrite_output_dir."
            )
        if checkpoint := newest_whole_checkpoint(folder):
            raise FileExistsError(
                f"`output_dir` {folder} holds {checkpoint.name} of an unfinished run. Pass --resume_from_checkpoint "
                "true to continue it, --overwrite_output_dir to start again, or choose another folder."
            )
    resumed = checkpoint_to_resume(training_args)
    if resumed is not None:
        # a warning, because the default level hides anything less
        logger.warning(f"Resuming training from {resumed}.")
    training_args.resume_from_checkpoint = None if resumed is None else str(resumed)


def checkpoint_to_resume(training_args: ClickPromptTrainingArguments) -> Path | None:
    """Find the checkpoint that training resumes; `None` if it starts from scratch.

    With `resume_from_checkpoint=True` it is the newest whole one. A run that was killed before its first checkpoint
    starts from scratch.

    Raises:
        ValueError: If there is none to resume, or it is incomplete.
    """
    resume, folder = training_args.resume_from_checkpoint, Path(str(training_args.output_dir))
    if not resume:
        return None
    if resume is True:
        resumed = newest_whole_checkpoint(folder)
        partial = checkpoints_in(folder)
        if resumed is None and partial:
            raise ValueError(_INCOMPLETE.format(partial[0], fault_of(partial[0])))
        if resumed is None and folder.is_dir() and not (folder / RESULTS_FILE).exists():
            logger.warning(f"{folder} has no checkpoint yet: starting from the beginning.")
            return None
    else:
        resumed = Path(resume) if Path(resume).is_dir() else None
    if resumed is None:
        raise ValueError(
            "`resume_from_checkpoint` must be the folder of a checkpoint, or true with one in `output_dir` "
            f"{folder}; got {resume}, which has none."
        )
    if resume is not True and (fault := fault_of(resumed)):
        raise ValueError(_INCOMPLETE.format(resumed, fault))
    return resumed


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
