# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What an earlier run left in the output folder: refused, resumed or removed."""

import shutil
import tempfile
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from ..evaluation.plots import PLOTS, PLOTS_FOLDER
from ..evaluation.report import SCORES_FILE
from ..training.arguments import ClickPromptTrainingArguments

RESULTS_FILE = "all_results.json"


def check_output_dir(training_args: ClickPromptTrainingArguments) -> None:
    """Refuses to train over a finished run, or into a folder that cannot be written.

    Raises:
        FileExistsError: If the folder holds results and neither resuming nor overwriting was asked for.
        PermissionError: If no file can be made in the folder, or, where it is missing, in the nearest around it.
    """
    folder = Path(str(training_args.output_dir))
    # nothing is left where an argument is refused later on
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise PermissionError(
            f"`output_dir` must be a folder that can be written, but {folder} is not: {error}"
        ) from error
    results = folder / RESULTS_FILE
    if results.exists() and not (training_args.resume_from_checkpoint or training_args.overwrite_output_dir):
        raise FileExistsError(
            f"`output_dir` {training_args.output_dir} holds a finished run ({RESULTS_FILE}). Choose another folder, "
            "or pass --overwrite_output_dir."
        )


def checkpoint_to_resume(training_args: ClickPromptTrainingArguments) -> Path | None:
    """The checkpoint that training goes on from, `None` where it starts anew.

    Raises:
        ValueError: If resuming was asked for and there is none.
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
            f"{folder}; got {resume}, and there is none."
        )
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json"):
        if not (Path(checkpoint) / name).is_file():
            raise ValueError(
                f"`resume_from_checkpoint` must be a whole checkpoint, but {checkpoint} lacks {name}: training would "
                "not go on as it was cut off."
            )
    return Path(checkpoint)


def remove_earlier_run(training_args: ClickPromptTrainingArguments) -> None:
    """Removes the checkpoints and results of the run that is overwritten: resuming would take them for this one's.

    Call it last before training: what a run starts from may lie in the same folder.
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
