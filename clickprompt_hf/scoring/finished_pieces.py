# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The finished pieces of an output file, which a run that was cut off leaves for the next one.

They lie in a hidden folder beside the output. Each file in it appears under its name whole, whenever the process is
killed; the manifest appears before the first piece.
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

_MANIFEST = "manifest.json"


class FinishedPieces:
    """The finished pieces of one output file, written by several processes, begun and joined by one of them.

    Args:
        output: The file that the pieces will make.
    """

    def __init__(self, output: Path):
        self.output = output
        self.format = table_format(output)
        self.folder = output.with_name(f".{output.name}.parts")

    @contextmanager
    def begun(self, made_from: dict[str, Any]) -> Iterator[None]:
        """Starts the folder or takes up the one that is there, keeps other runs out, and removes it in the end.

        After an error the folder stays, if it holds a piece.

        Args:
            made_from: What the pieces are a function of, plain data: pieces of other origin are refused.

        Raises:
            ValueError: If the pieces that are there were made from something else.
            RuntimeError: If another run is writing them.
            OSError: If the folder cannot be written to.
        """
        with self._named_errors(self.output):
            self.folder.mkdir(exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout as error:
                raise RuntimeError(
                    f"{self.output} is being written by another run, or by processes that a killed run has left "
                    "behind. End them, or give another --output."
                ) from error
        try:
            self._check_manifest(made_from)
            yield
            finished = True
        except BaseException:
            finished = not self.numbers()
            raise
        finally:
            lock.release()
            if finished:
                shutil.rmtree(self.folder, ignore_errors=True)

    def numbers(self) -> set[int]:
        """The numbers of the pieces that are finished."""
        names = (path.name for path in self.folder.glob(f"piece-*.{self.format}"))
        return {int(name.removeprefix("piece-").split(".")[0]) for name in names}

    def write(self, number: int, table: pa.Table) -> None:
        """Writes one piece.

        Raises:
            OSError: If it cannot be written.
        """
        with self._whole(self._path(number)) as partial:
            write_piece(table, partial, self.format)

    def join(self, num_pieces: int, schema: pa.Schema) -> None:
        """Writes the output, which has the columns of `schema`, from all pieces.

        Raises:
            RuntimeError: If a piece is missing.
            OSError: If the output cannot be written.
        """
        if missing := sorted(set(range(num_pieces)) - self.numbers()):
            raise RuntimeError(
                f"{self.folder} lacks {len(missing)} of {num_pieces} pieces, the first of them {missing[0]}: a "
                "process has failed, or they were removed. Run the same command again."
            )
        with self._whole(self.output) as partial:
            join_pieces([self._path(number) for number in range(num_pieces)], schema, partial, self.format)

    def _path(self, number: int) -> Path:
        return self.folder / f"piece-{number:06}.{self.format}"

    def _check_manifest(self, made_from: dict[str, Any]) -> None:
        path = self.folder / _MANIFEST
        # without a piece there is nothing that could be of other origin
        if path.is_file() and self.numbers():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            if changed := [name for name, value in made_from.items() if earlier.get(name) != value]:
                differences = "; ".join(f"{name} was {earlier.get(name)}, is {made_from[name]}" for name in changed)
                raise ValueError(
                    f"{self.folder} holds finished pieces of an earlier run, which this one cannot go on from: "
                    f"{differences}. Delete that folder to score all rows anew, or give another --output."
                )
            return
        # pieces without a manifest: their folder was being removed
        for number in self.numbers():
            self._path(number).unlink()
        with self._whole(path) as partial:
            partial.write_text(json.dumps(made_from, indent=2), encoding="utf-8")

    @contextmanager
    def _whole(self, path: Path) -> Iterator[Path]:
        """A file in the folder to write to, which takes the place of `path` once it is whole and on the disk."""
        partial = self.folder / f"{path.name}.{os.getpid()}.partial"
        try:
            with self._named_errors(path):
                yield partial
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def _named_errors(self, path: Path) -> Iterator[None]:
        """Errors of writing that name the file and say how to go on."""
        try:
            yield
        except OSError as error:
            kept = ". Finished pieces are kept: with the same command the run goes on from them"
            raise OSError(
                error.errno,
                f"{path} cannot be written: {error.strerror or error}{kept if self.numbers() else ''}",
            ) from error
