# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The values of a field in the order of their ids, and the search for a value among them.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from operator import eq
from typing import Any

import numpy as np

from .values_clickprompt import FIRST_INEXACT, canonical, meaning_of, with_another_spelling

# Vocabularies with at least this many values are read as a `TextList`.
LONG_VOCABULARY = 1 << 16
_INDEX_LOCK = threading.Lock()


class TextList(Sequence):
    """Many texts without line breaks, as bytes: they take a fifth of the memory of a list of strings.

    Indices and slices, iteration and comparison work as for a list; slices are lists.

    Args:
        content: (bytes,) uint8, the texts in UTF-8, a line feed after each.
        ends: (V,) int64, number of bytes up to and including the line feed of each text.
    """

    # Number of texts that become strings at a time.
    _BLOCK = 1 << 14

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._strings(start, max(stop, start))
            return [self[position] for position in range(start, stop, step)]
        position = range(len(self))[index]
        return self._strings(position, position + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), self._BLOCK):
            yield from self._strings(start, min(start + self._BLOCK, len(self)))

    def __contains__(self, text: Any) -> bool:
        return isinstance(text, str) and self._position_of(text) is not None

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, TextList):
            return np.array_equal(self.content, other.content)
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Index of the first text that equals `value`; other arguments as in `list.index`."""
        position = self._position_of(value) if isinstance(value, str) else None
        if position is None or not start <= position < len(range(len(self))[:stop]):
            raise ValueError(f"{value!r} is not in the list.")
        return position

    def _position_of(self, text: str) -> int | None:
        line = text.encode("utf-8", "surrogatepass") + b"\n"
        if not len(self) or b"\n" in line[:-1]:
            return None
        if self.content[: len(line)].tobytes() == line:
            return 0
        # searches the bytes in place
        found = re.search(re.escape(b"\n" + line), self.content.data)
        return None if found is None else int(np.searchsorted(self.ends, found.start() + 1)) + 1

    def _strings(self, start: int, stop: int) -> list[str]:
        if start == stop:
            return []
        first = int(self.ends[start - 1]) if start else 0
        return self.content[first : int(self.ends[stop - 1]) - 1].tobytes().decode().split("\n")


def lines_of(values: Sequence[str]) -> bytes:
    """Texts in UTF-8, with a line feed after each."""
    if isinstance(values, TextList):
        return values.content.tobytes()
    lines = "".join(f"{value}\n" for value in values)
    if lines.count("\n") != len(values):
        broken = next(value for value in values if "\n" in value)
        raise ValueError(f"`vocabularies` must hold values without line breaks, got {broken!r}.")
    return lines.encode()


class ValueIndex:
    """Finds values in the vocabulary of a field: by their spelling, or else by what they mean.

    A value that means the same as exactly one entry of the vocabulary has its id, whatever its spelling: `1e3`, `1000`
    and 1000.0, or `TRUE` and `true`. Of several such entries, the one in the normal spelling counts; without it, none.

    Args:
        vocabulary: The values in the order of their ids, from id 1.
    """

    def __init__(self, vocabulary: Sequence[str]):
        self.vocabulary = vocabulary
        # Built on first use: for ten million values, building takes longer than reading the file.
        self._ids: dict[str, int] | None = None
        self._ids_by_meaning: dict[str, int] | None = None
        self._id_of_missing: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "_ids": None, "_ids_by_meaning": None, "_id_of_missing": None}

    @property
    def id_of_missing(self) -> int:
        """The id of a missing value; 0 if training had none."""
        # needs no dict of all values
        if self._id_of_missing is None:
            self._id_of_missing = self.vocabulary.index("") + 1 if "" in self.vocabulary else 0
        return self._id_of_missing

    @property
    def ids(self) -> dict[str, int]:
        """The id of each entry."""
        if self._ids is None:
            with _INDEX_LOCK:
                # Another thread may have built it in the meantime.
                if self._ids is None:
                    self._ids = dict(zip(self.vocabulary, range(1, len(self.vocabulary) + 1)))
        return self._ids

    def id_of(self, text: str) -> int:
        """Id of a value as `canonical` spells it; 0 if it is unknown."""
        ids = self.ids
        if text in ids:
            return ids[text]
        meaning = meaning_of(text)
        if meaning is None and text.isascii():
            return 0
        normal = text if meaning is None else meaning
        return ids.get(normal) or self._by_meaning().get(normal, 0)

    def spelling_of(self, text: str) -> str:
        """The vocabulary's spelling of a value; `text` itself if it is unknown."""
        found = self.id_of(text)
        return self.vocabulary[found - 1] if found else text

    def _by_meaning(self) -> dict[str, int]:
        """Ids by normal spelling, of the entries that have another one; 0 if several have the same meaning."""
        if self._ids_by_meaning is None:
            with _INDEX_LOCK:
                if self._ids_by_meaning is None:
                    ids: dict[str, int] = {}
                    for position, normal in with_another_spelling(self.vocabulary):
                        ids[normal] = 0 if normal in ids else position + 1
                    self._ids_by_meaning = ids
        return self._ids_by_meaning


def id_of_cell(cell: Any, index: ValueIndex) -> int:
    """Id of a raw cell of a categorical field; 0 if it is unknown."""
    return index.id_of(canonical(cell)) or _id_of_exact_integer(cell, index)


def _id_of_exact_integer(value: Any, index: ValueIndex) -> int:
    """Id of a large double as the integer that it is, instead of the shortest decimal that reads back as it."""
    if isinstance(value, (float, np.floating)) and FIRST_INEXACT <= abs(float(value)) < float("inf"):
        return index.ids.get(str(int(value)), 0)
    return 0
