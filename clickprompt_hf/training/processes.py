# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes that train together: their ranks, and how they agree, wait for each other and fail together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from torch import distributed


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes.

    Raises:
        ValueError: If there are several, and their process group is not initialized yet.
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if (processes := int(os.environ.get("WORLD_SIZE", 1))) > 1:
        raise ValueError(
            f"Id tables must be sharded after the process group of {processes} processes is initialized: create the "
            "training arguments first."
        )
    return 0, 1


def broadcast_from_first(value: Any) -> Any:
    """Return the first process's value in all processes, for example because each sees other files.

    Args:
        value: This process's value; picklable.
    """
    return broadcast_object_list([value])[0]


class MonitoredBarrier:
    """A barrier with a time limit. Create it in all processes at once.

    It has a separate group on gloo, because NCCL cannot tell which process is missing.
    """

    def __init__(self) -> None:
        self._group = distributed.new_group(backend="gloo")

    def wait(self, what: str, seconds: float) -> None:
        """Wait until all processes have called this method.

        Args:
            what: The call that all of them must make, for the message.
            seconds: How long to wait.

        Raises:
            RuntimeError: If one has ended, or has not called it by then.
        """
        rank, world_size = rank_and_world_size()
        try:
            distributed.monitored_barrier(self._group, timedelta(seconds=seconds), wait_all_ranks=True)
        except RuntimeError as error:
            raise RuntimeError(
                f"{what} must be called in all {world_size} processes, because each holds a part of the id tables, "
                f"but process {rank} waited in vain for the others, for {seconds:g} seconds (a sixth of "
                "`ddp_timeout`) or until one ended. Check the output of the others, and do not call it under `if "
                "trainer.is_world_process_zero()`."
            ) from error


@contextmanager
def failing_together() -> Iterator[None]:
    """Raise an error in all processes if one of them raises one: the others would wait for it forever.

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
