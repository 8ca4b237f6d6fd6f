# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Encoded rows that runs keep and share: `--prepared`. Only runs that would encode the same rows use them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from ..data.prepared_notes import KEY_FILE, LAYOUT
from ..processing_clickprompt import ClickPromptProcessor
from ..tokenization_clickprompt import at_rest


@dataclass(frozen=True)
class KeptData:
    """A folder of encoded rows, and what they must have been made of.

    Args:
        folder: The folder; it does not exist, is empty or holds encoded rows.
        rows: What decides which rows are in which split.
        fitted: What a fresh processor depends on besides the rows; compared if there is no saved one.
        processor: The saved processor, if there is one.
        max_text_length: Number of tokens that texts are truncated to, if there is a saved processor.
    """

    folder: Path
    rows: dict[str, Any]
    fitted: dict[str, Any]
    processor: ClickPromptProcessor | None = None
    max_text_length: int | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other run prepares the folder."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            yield

    def is_there(self) -> bool:
        """Whether the folder holds these rows.

        Raises:
            ValueError: If it holds other rows, or something else.
        """
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return False
        if not (self.folder / KEY_FILE).is_file():
            raise ValueError(
                f"`--prepared` must be a new or empty folder, or one prepared by an earlier run, got {self.folder}."
            )
        found = json.loads((self.folder / KEY_FILE).read_text(encoding="utf-8"))
        expected = {"layout": LAYOUT, **self.rows, **(self.fitted if self.processor is None else {})}
        if self.processor is not None:
            saved = ClickPromptProcessor.from_pretrained(self.folder / "processor")
            found |= _key_of(saved, saved.max_text_length)
            expected |= _key_of(self.processor, self.max_text_length)
            if not self.processor.reads_text:
                # the text need not be read
                del expected["tokenizer"], expected["max_text_length"]
        for name, value in json.loads(json.dumps(expected)).items():
            if found.get(name) != value:
                shown = f": {found.get(name)!r:.200} instead of {value!r:.200}" if name in _SHOWN else ""
                raise ValueError(
                    f"`--prepared` {self.folder} holds rows prepared with a different {_NAMES[name]}{shown}. Name "
                    "another folder, or delete this one."
                )
        return True

    def notes(self) -> dict[str, Any]:
        """What to write beside the rows: contents of JSON files by name."""
        return {KEY_FILE: {"layout": LAYOUT, **self.rows, **self.fitted}}


_NAMES = {
    "layout": "version of this package",
    "source": "source",
    "files": "state of the files",
    "tables": "state of the joined tables",
    "split": "split",
    "schema": "schema",
    "text_fields": "choice of text fields",
    "vector_fields": "choice of vector fields",
    "min_count": "min_count",
    "plm": "PLM",
    "prompts": "number of prompts",
    "limit": "max_text_length",
    "ids": "processor",
    "tokenizer": "tokenizer",
    "max_text_length": "max_text_length",
}
_SHOWN = {"split", "text_fields", "vector_fields", "min_count", "plm", "prompts", "limit", "max_text_length"}


def files_state(paths: Iterable[Path]) -> str:
    """Hash of the names, sizes and times of files, and of the files in folders."""
    state: list[list[Any]] = []
    for path in paths:
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            found = file.stat()
            state.append(
                [file.name if file == path else str(file.relative_to(path)), found.st_size, found.st_mtime_ns]
            )
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _key_of(processor: ClickPromptProcessor, max_text_length: int | None) -> Mapping[str, Any]:
    """What encoded rows depend on in a fitted processor."""
    tokenizer = None
    if processor.reads_text:
        known = at_rest(processor.tokenizer)
        state = known.backend_tokenizer.to_str() if known.is_fast else json.dumps(sorted(known.get_vocab().items()))
        tokenizer = hashlib.sha256(f"{known.truncation_side}{known.special_tokens_map}{state}".encode()).hexdigest()[
            :16
        ]
    return {"ids": processor.fingerprint, "tokenizer": tokenizer, "max_text_length": max_text_length}
