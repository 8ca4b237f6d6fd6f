"""Forks of a process that has imported torch."""

import os
import traceback
from collections.abc import Callable

import torch


def start_fork(work: Callable[[], object]) -> int:
    """Run `work` in a fork, which exits with 0, or prints what `work` raised and exits with 1.

    A fork would wait for threads that only its parent has: the parent calls `torch.set_num_threads(1)` before.

    Returns:
        The id of the process.
    """
    process = os.fork()
    if process == 0:
        code = 1
        try:
            # The first call after a fork replaces the pool of threads. Autograd's threads call it too: if two are
            # first, torch finds no pool and aborts.
            torch.set_num_threads(1)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def exit_code(process: int) -> int:
    """Wait for a process: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
