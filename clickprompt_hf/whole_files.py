# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Files and folders that appear whole or not at all, even if the process is killed or the disk is full.

Everything is written under a hidden name next to its destination, flushed to the disk, and renamed. What a killed
process leaves under hidden names is removed when the same file or folder is written again.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

# Hidden folder in which the contents of a folder are written before they move there.
PARTIAL_FOLDER = ".partial"
# Files without which nothing loads from a folder: they leave it before other files change and come back last.
_KEY_FILES = ("processor_config.json", "adapter_config.json", "config.json")
# Weights of an earlier save that loading would prefer to new ones, or mix with them.
_WEIGHTS = re.compile(r"(model|adapter_model)(\.[\w-]+?)?(-\d{5}-of-\d{5})?\.safetensors(\.index(\.[\w-]+)?\.json)?")


@contextmanager
def whole_file(path: str | Path, partial: str | Path | None = None) -> Iterator[Path]:
    """Yield the path of a partial file to write; it gets the name `path` once it is complete and on disk.

    Args:
        path: The file; replaced if it exists. Its folder must exist.
        partial: Path of the partial file, on the same disk; by default a hidden file beside `path`.

    Raises:
        OSError: If it cannot be written; the message names `path` and the reason. An existing file stays as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial") if partial is None else Path(partial)
    try:
        with write_errors_naming(path, partial):
            yield partial
            _flush(partial)
            os.replace(partial, path)
            _flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path, flush: bool = True) -> Iterator[Path]:
    """Yield an empty partial folder to fill; it gets the name `path` once it is complete and on disk.

    Args:
        path: The folder; replaced if it exists.
        flush: Whether to wait until it is on disk. Data of this run alone need not outlive a power cut.

    Raises:
        OSError: If it cannot be written; the message names the file and the reason.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    # the inner one can still see which file failed
    with write_errors_naming(path, partial), _empty_folder(partial), write_errors_naming(path, partial):
        yield partial
        publish_folder(partial, path, flush)


@contextmanager
def whole_contents(folder: str | Path) -> Iterator[Path]:
    """Yield an empty partial folder to fill; its contents move to `folder` once they are complete and on disk.

    Other files of `folder` stay, except weights that the new ones replace. While files move, `folder` has no
    `config.json` (or `processor_config.json`, if the new contents have one), so a model that is half the old and half
    the new one does not load.

    Args:
        folder: Created if it is missing.

    Raises:
        OSError: If it cannot be written; the message names the file and the reason. Until the files move, `folder`
            stays as it was.
    """
    folder = Path(folder)
    partial = folder / PARTIAL_FOLDER
    # the inner one can still see which file failed
    with write_errors_naming(folder, partial), _empty_folder(partial), write_errors_naming(folder, partial):
        yield partial
        # the contents of a partial folder reach the disk when it is complete itself
        if PARTIAL_FOLDER not in folder.parts:
            _flush_tree(partial)
        _move_contents(partial, folder)


def remove_partial(folder: Path) -> None:
    """Remove what killed writers of `folder` and its files left behind; call it while nothing writes there."""
    shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    for path in (*folder.glob(".*.partial"), *folder.glob(".*.replaced")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def publish_folder(partial: Path, path: Path, flush: bool = True) -> None:
    """Flush a folder to the disk and rename it to `path`; a folder of that name is removed."""
    if flush:
        _flush_tree(partial)
    if path.exists():
        # A folder cannot replace one that is not empty.
        replaced = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(path, replaced)
        os.replace(partial, path)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        os.replace(partial, path)
    _flush(path.parent)


@contextmanager
def write_errors_naming(path: Path, partial: Path) -> Iterator[None]:
    """Turn errors while writing `partial` into an `OSError` that names the file at `path` and the reason.

    The writers of safetensors and torch raise errors of their own, which name no file and sometimes no reason.

    Args:
        path: File or folder that is being written.
        partial: Where it is written first; names in messages are those that its files would get.
    """
    try:
        yield
    except OSError as error:
        # copying names two files
        names = [Path(name) for name in (error.filename2, error.filename) if isinstance(name, (str, Path))]
        ours = [name for name in names if name.is_relative_to(partial) or partial.is_relative_to(name)]
        # Other errors are about files that the writer reads, or name their file already.
        if (names and not ours) or error.errno is None or "cannot be written" in str(error.strerror):
            raise
        raise _write_error(error.errno, path, partial, ours[0] if ours else _newest_file(partial)) from error
    except Exception as error:
        if not _is_write_error(error):
            raise
        found = re.search(r"os error (\d+)", str(error))
        number = int(found.group(1)) if found else _reason_not_to_write(partial)
        raise _write_error(number, path, partial, _newest_file(partial)) from error


def _is_write_error(error: Exception) -> bool:
    """Whether an error is one that safetensors or torch raise for files they cannot write."""
    text = str(error)
    return (type(error).__name__ == "SafetensorError" and "os error" in text) or (
        isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "inline_container" in text)
    )


def _write_error(number: int | None, path: Path, partial: Path, named: Path) -> OSError:
    # The name the file would have got: its partial name means nothing to the reader.
    shown = path / named.relative_to(partial) if named.is_relative_to(partial) else path
    shown = Path(*(part for part in shown.parts if part != PARTIAL_FOLDER))
    if number is None:
        return OSError(f"{shown} cannot be written: is the disk full?")
    return OSError(number, f"{shown} cannot be written: {os.strerror(number)}")


def _newest_file(folder: Path) -> Path:
    """The file below `folder` that was written last, or `folder`."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=folder)


def _reason_not_to_write(partial: Path) -> int | None:
    """Try to write as many bytes as the failed file has, and return the number of the error."""
    failed = _newest_file(partial)
    probe = (failed.parent if failed.exists() else partial.parent) / ".probe"
    try:
        with probe.open("wb") as file:
            file.write(bytes((failed.stat().st_size if failed.is_file() else 0) + (1 << 20)))
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    finally:
        probe.unlink(missing_ok=True)
    return None


@contextmanager
def _empty_folder(folder: Path) -> Iterator[None]:
    """Make `folder` anew, and remove it at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_contents(partial: Path, folder: Path) -> None:
    names = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
    keys = [key for key in _KEY_FILES if key in names]
    for key in reversed(keys):
        (folder / key).unlink(missing_ok=True)
    _flush(folder)
    for stale in _stale_weights(folder, names):
        (folder / stale).unlink()
    for name in [*(name for name in names if name not in keys), *keys]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / name, folder / name)
    _flush(folder)


def _stale_weights(folder: Path, names: list[str]) -> list[str]:
    """Weight files in `folder` of the kinds and variants in `names`, such as the shards of an earlier save."""

    def kind(name: str) -> tuple[str, str | None] | None:
        match = _WEIGHTS.fullmatch(name)
        return (match[1], (match[2] or match[5] or "").strip(".") or None) if match else None

    replaced = {kind(name) for name in names} - {None}
    return [path.name for path in folder.iterdir() if path.name not in names and kind(path.name) in replaced]


def _flush_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    # Some file systems cannot flush folders.
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
