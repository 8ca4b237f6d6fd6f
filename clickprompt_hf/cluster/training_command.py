# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Run training commands in processes that an engine starts, and restart them after a failure."""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

logger = logging.getLogger(__name__)

Command: TypeAlias = Literal["pretrain", "finetune"]
_RESUME = "--resume_from_checkpoint"


def run_command(command: Command, arguments: Sequence[str]) -> dict[str, Any] | None:
    """Run a training command in this process, as one of a process group, like `torchrun -m`.

    Args:
        command: Name of the command.
        arguments: Its command line.

    Returns:
        Its metrics.
    """
    # loads torch
    if command == "pretrain":
        from ..runs.pretrain import main
    else:
        from ..runs.finetune import main
    return main(list(arguments))


def check_command(command: str, arguments: Sequence[str], num_processes: int, max_restarts: int) -> list[str]:
    """Check a training command before an engine starts it.

    Returns:
        The arguments as a list of strings.

    Raises:
        ValueError: If the command is unknown, the arguments lack `--output_dir`, or a number is out of range.
        TypeError: If the arguments are one string.
    """
    if command not in get_args(Command):
        raise ValueError(f"`command` must be one of {list(get_args(Command))}, got {command!r}.")
    if isinstance(arguments, str):
        raise TypeError(f"`arguments` must be a list of strings, got {arguments!r}: use shlex.split.")
    given = [str(argument) for argument in arguments]
    if not any(argument.partition("=")[0] == "--output_dir" for argument in given):
        raise ValueError("`arguments` must have `--output_dir`, a folder that all workers share.")
    if num_processes < 1:
        raise ValueError(f"`num_processes` must be at least 1, got {num_processes}.")
    if max_restarts < 0:
        raise ValueError(f"`max_restarts` must be at least 0, got {max_restarts}.")
    return given


def with_restarts(
    run: Callable[[list[str]], Any],
    arguments: list[str],
    max_restarts: int,
    failures: type[Exception] | tuple[type[Exception], ...],
) -> Any:
    """Run training; if it fails, run it again, from its last checkpoint if there is one.

    Checkpoints that were already in the output folder belong to another run, which the arguments may protect,
    overwrite or resume. The arguments change only once this run has saved a checkpoint.

    Args:
        run: Trains, given the arguments of the command.
        arguments: The arguments, `--output_dir` among them.
        max_restarts: How often to try again.
        failures: What `run` raises if training fails.
    """
    # loads torch
    from ..training.checkpoints import checkpoints_in, newest_whole_checkpoint

    folder = _output_dir(arguments)
    earlier = {_identity(checkpoint) for checkpoint in checkpoints_in(folder)}
    given = list(arguments)
    for restarts_left in range(max_restarts, -1, -1):
        try:
            return run(given)
        except failures as error:
            if not restarts_left:
                raise
            newest = newest_whole_checkpoint(folder)
            resumes = newest is not None and _identity(newest) not in earlier
            start = f"from {newest}" if resumes else "with the same arguments"
            logger.warning("Training failed; restarting %s: %s", start, str(error)[-500:])
            given = [*arguments, *([_RESUME, "true"] if resumes else [])]
    raise AssertionError("the last failure is raised")


def _output_dir(arguments: Sequence[str]) -> Path:
    """The folder of `--output_dir`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # the command itself reports wrong arguments
    parser.add_argument("--output_dir", nargs="?")
    return Path(parser.parse_known_args(arguments)[0].output_dir or "").expanduser()


def _identity(checkpoint: Path) -> tuple[str, int]:
    """Distinguishes a checkpoint from one of the same name that a run has written over it."""
    state = checkpoint / "trainer_state.json"
    return checkpoint.name, state.stat().st_mtime_ns if state.is_file() else 0
