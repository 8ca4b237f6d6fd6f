# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Keep the finished pieces of an output file, so that an interrupted run can be resumed.

The pieces are kept in a hidden folder beside the output. Each file there is complete once it has its name, even if the
process is killed. The manifest, which records what the pieces were made from, is written before the first piece.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from ..data.table_pieces import join_pieces, table_format, write_piece
from ..whole_files import whole_file

_MANIFEST = "manifest.json"


class FinishedPieces:
    """The finished pieces of an output file. Every process writes pieces; the main process starts and joins them.

    Args:
        output: The output file.
    """

    def __init__(self, output: Path):
        self.output = output
        self.format = table_format(output)
        self.folder = output.with_name(f".{output.name}.parts")

    @contextmanager
    def started(self, origin: dict[str, Any]) -> Iterator[None]:
        """Create or resume the folder, lock it against other runs, and remove it at the end.

        After an error, the folder stays if it holds a piece.

        Args:
            origin: Everything that the pieces depend on, as plain data. It must match that of existing pieces.

        Raises:
            ValueError: If existing pieces have another origin.
            RuntimeError: If another run holds the lock.
            OSError: If the folder cannot be written to.
        """
        with self._errors_naming(self.output):
            self.folder.mkdir(exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout as error:
                raise RuntimeError(
                    f"{self.output} is being written by another run, or by processes that a killed run left behind. "
                    "Stop them, or choose another output file."
                ) from error
        try:
            self._check_origin(origin)
            yield
            completed = True
        except BaseException:
            completed = not self.finished()
            raise
        finally:
            lock.release()
            if completed:
                shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self) -> set[int]:
        """The numbers of the finished pieces."""
        names = (path.name for path in self.folder.glob(f"piece-*.{self.format}"))
        return {int(name.removeprefix("piece-").split(".")[0]) for name in names}

    def write(self, number: int, table: pa.Table) -> None:
        """Write one piece.

        Raises:
            OSError: If the piece cannot be written.
        """
        with self._completed_file(self._path(number)) as partial:
            write_piece(table, partial, self.format)

    def join(self, num_pieces: int, schema: pa.Schema) -> None:
        """Join all pieces into the output, which has the columns of `schema`.

        Raises:
            RuntimeError: If a piece is missing.
            OSError: If the output cannot be written.
        """
        if missing := sorted(set(range(num_pieces)) - self.finished()):
            raise RuntimeError(
                f"{self.folder} lacks {len(missing)} of {num_pieces} pieces, the first of them {missing[0]}: a "
                "process failed, or they were deleted. Run the same command again."
            )
        with self._completed_file(self.output) as partial:
            join_pieces([self._path(number) for number in range(num_pieces)], schema, partial, self.format)

    def _path(self, number: int) -> Path:
        return self.folder / f"piece-{number:06}.{self.format}"

    def _check_origin(self, origin: dict[str, Any]) -> None:
        """Compare `origin` with the manifest, or start a new one."""
        path = self.folder / _MANIFEST
        # Without pieces, nothing can conflict.
        if path.is_file() and self.finished():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if changed := [name for name, value in origin.items() if earlier.get(name) != value]:
                differences = "; ".join(f"{name} was {earlier.get(name)}, is {origin[name]}" for name in changed)
                raise ValueError(
                    f"{self.folder} holds finished pieces of an earlier run that cannot be resumed: {differences}. "
                    "Delete that folder to score all rows again, or choose another output file."
                )
            return
        # Pieces without a manifest are left over from a folder that was being removed.
        for number in self.finished():
            self._path(number).unlink()
        with self._completed_file(path) as partial:
            partial.write_text(json.dumps(origin, indent=2), encoding="utf-8")

    @contextmanager
    def _completed_file(self, path: Path) -> Iterator[Path]:
        """Yield a partial file to write, which gets the name `path` once it is complete and on disk."""
        # Named after the process: one that a killed run left behind may still be writing the same piece.
        partial = self.folder / f"{path.name}.{os.getpid()}.partial"
        with self._errors_naming(path), whole_file(path, partial):
            yield partial

    @contextmanager
    def _errors_naming(self, path: Path) -> Iterator[None]:
        """Make errors while writing name `path` and tell how to resume."""
        try:
            yield
        except OSError as error:
            kept = ". Finished pieces are kept: run the same command again to resume"
            cause = str(error.strerror or error)
            problem = cause if "cannot be written" in cause else f"{path} cannot be written: {cause}"
            raise OSError(error.errno, f"{problem}{kept if self.finished() else ''}") from error
