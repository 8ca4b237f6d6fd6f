# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The folder of encoded rows that a run maps: removed when the run ends, or by the next run if it was killed.

Each machine has its own folder in the output folder, even on a shared disk. A lock in it ends with the process.
"""

import atexit
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

# The underscore keeps these folders from being pushed to the Hub: a checkpoint must not publish its training rows.
_PREFIX = "_prepared_data-"
_LOCK, _DATA, _SPILL = "lock", "data", "spill"
# Locks that this process holds: several runs of one process may share an output folder, one after another.
_held: dict[Path, filelock.BaseFileLock] = {}


def prepared_data(output_dir: str | Path) -> Path:
    """Where this machine's encoded rows are while a run uses them."""
    return _folder(output_dir) / _DATA


def claim_prepared_folder(output_dir: str | Path) -> None:
    """Empty this machine's folder and lock it until the process ends, which removes it.

    Raises:
        FileExistsError: If another run on this machine uses it.
        OSError: If it cannot be written.
    """
    folder = _folder(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    # the folder may have been deleted and made again, without the lock
    if folder not in _held or not (folder / _LOCK).exists():
        try:
            _held[folder] = _locked(folder)
        except filelock.Timeout as error:
            raise FileExistsError(
                f"`output_dir` {output_dir} is in use by another run, or by processes that a killed run left behind. "
                "Stop them, or choose another folder."
            ) from error
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in (_DATA, _SPILL):
        shutil.rmtree(folder / name, ignore_errors=True)


def spill_folder(output_dir: str | Path) -> Path:
    """Where rows that are prepared chunk by chunk are on this machine until they are encoded."""
    return _folder(output_dir) / _SPILL


@contextmanager
def claimed_prepared_folder(output_dir: str | Path) -> Iterator[None]:
    """Claim this machine's folder; if an error follows, remove it, and `output_dir` if it was not there before."""
    is_new = not Path(output_dir).exists()
    claim_prepared_folder(output_dir)
    try:
        yield
    except BaseException:
        shutil.rmtree(_folder(output_dir), ignore_errors=True)
        if is_new:
            with suppress(OSError):
                Path(output_dir).rmdir()
        raise


def remove_left_folders(output_dir: str | Path) -> None:
    """Remove the folders that killed runs left in `output_dir`, on whatever machine, except those in use."""
    for folder in Path(output_dir).glob(f"{_PREFIX}*"):
        if folder.absolute() in _held:
            continue
        try:
            lock = _locked(folder)
        except (OSError, NotImplementedError):
            # in use, not ours to change, or on a disk without locks
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _folder(output_dir: str | Path) -> Path:
    return Path(output_dir).absolute() / f"{_PREFIX}{socket.gethostname()}"


def _locked(folder: Path) -> filelock.BaseFileLock:
    """Lock a folder without waiting.

    Raises:
        filelock.Timeout: If another process holds the lock.
    """
    lock = filelock.FileLock(folder / _LOCK, thread_local=False)
    lock.acquire(blocking=False)
    return lock
