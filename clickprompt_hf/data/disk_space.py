# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Whether a disk has room for what will be written."""

import errno
import shutil
from pathlib import Path


def check_disk_space(folder: Path, num_bytes: int, what: str, advice: str = "") -> None:
    """Check that the disk of a folder has room, before anything is written.

    Args:
        folder: The folder, which may not exist yet.
        num_bytes: Bytes that will be written.
        what: What will be written, for the message.
        advice: What to do if there is no room: a sentence without its full stop, as errors of the system have none.

    Raises:
        OSError: If the disk has less room; the message names the folder and both numbers.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"{folder} has no room for {what}: {_size(num_bytes)} needed, {_size(free)} free"
            + (advice and f". {advice}"),
        )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
