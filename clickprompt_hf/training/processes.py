# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes that train together: which one this is, and how they agree, wait for each other and fail together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from torch import distributed


def own_place() -> tuple[int, int]:
    """Rank of this process, and the number of processes.

    Raises:
        ValueError: If there are several, and their process group is not initialised yet.
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        raise ValueError(
            f"Id tables must be sharded after the process group of {processes} processes is initialised: create the "
            "training arguments first."
        )
    return 0, 1


def of_first_process(value: Any) -> Any:
    """Tell all processes what the first one has found, because each of them may see other files.

    Args:
        value: What this process has found, picklable.
    """
    return broadcast_object_list([value])[0]


class MeetingPoint:
    """Where the processes wait for each other, but not forever. Create it in all of them at once.

    A group of its own, on gloo: NCCL cannot tell which process is missing.
    """

    def __init__(self) -> None:
        self._group = distributed.new_group(backend="gloo")

    def wait(self, what: str, seconds: float) -> None:
        """Wait until all processes are here.

        Args:
            what: The call that all of them must make, for the message.
            seconds: How long to wait.

        Raises:
            RuntimeError: If one has ended, or is still missing then.
        """
        rank, processes = own_place()
        try:
            distributed.monitored_barrier(self._group, timedelta(seconds=seconds), wait_all_ranks=True)
        except RuntimeError as error:
            raise RuntimeError(
                f"{what} must be called in all {processes} processes, because each holds a part of the id tables, "
                f"but process {rank} waited in vain for the others, for {seconds:g} seconds (a sixth of "
                "`ddp_timeout`) or until one ended. Check the output of the others, and do not call it under `if "
                "trainer.is_world_process_zero()`."
            ) from error


@contextmanager
def failing_together() -> Iterator[None]:
    """Raise in all processes if one of them raises: those that went on alone would wait for it.

    Raises:
        OSError: If another process raised one.
        RuntimeError: If another process raised another error.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as own:
        error = own
    end: tuple[bool, int | None, str | None] = (
        isinstance(error, OSError),
        None,
        None if error is None else str(error),
    )
    if isinstance(error, OSError) and error.errno is not None:
        end = (True, error.errno, str(error.strerror))
    # how all processes ended
    ends = gather_object([end])
    if error is not None:
        raise error
    for is_os_error, number, text in ends:
        if is_os_error:
            raise OSError(number, text) if number is not None else OSError(text)
        if text is not None:
            raise RuntimeError(f"Another process failed: {text}")
