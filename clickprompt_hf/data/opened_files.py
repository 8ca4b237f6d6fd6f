# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Open files of rows, compressed or not, and name them in errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


def opened(path: Path) -> pa.NativeFile:
    """Open a file to read; names that end in .gz or .zst are decompressed."""
    return pa.input_stream(str(path), compression=COMPRESSIONS.get(path.suffix.lower()))


@contextmanager
def errors_naming(path: Path, what: str) -> Iterator[None]:
    """Turn errors of reading `path` into a ValueError that names it.

    Args:
        path: The file.
        what: What it must be.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ValueError(f"{path} must be {what}: {error}") from error


def count_line_ends(text: bytes) -> int:
    """Number of line ends: line feeds, carriage returns, or both together."""
    alone = text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0
    return text.count(b"\n") + alone
