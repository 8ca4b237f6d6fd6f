# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Vectors of texts from a frozen PLM, computed once per distinct text and kept on disk.

A cache folder has one subfolder per PLM, named after a hash of everything that vectors depend on. It holds `.npy`
files of finished chunks, each with the hashes of its texts and their vectors. Files are written whole or not at all
and never change, so any number of processes may share them: texts that two compute at once are written twice.

Shapes: N texts, H hidden size of the PLM.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..text_encoder_clickprompt import TextEncoder
from ..whole_files import whole_file

_KEY_BYTES = 16
_TEXTS_PER_CHUNK = 4096


def text_vectors(
    texts: Sequence[str],
    plm_name_or_path: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    bf16: bool = False,
) -> np.ndarray:
    """Compute the vectors of texts: the mean over a text's tokens of the last states of a frozen PLM.

    Args:
        texts: N texts, which may repeat. Texts of more than 512 tokens, or than the PLM has positions, are truncated.
        plm_name_or_path: Folder or Hub id of the PLM.
        cache_dir: Folder in which vectors of all PLMs are kept; `None` to keep none.
        bf16: Whether to compute matrix products in bf16, which changes vectors by about 1 %.

    Returns:
        (N, H) float32.

    Raises:
        OSError: If there is no such PLM, or the cache cannot be written.
        ValueError: If the PLM is not a language model, or a file of the cache is damaged; the message names it.
    """
    if isinstance(texts, str):
        raise ValueError(f"`texts` must be a list of texts, got a single text, {texts!r:.60}.")
    return StoredTextEncoder(plm_name_or_path, cache_dir, bf16=bf16).encode(list(texts))


class StoredTextEncoder(TextEncoder):
    """A text encoder that looks for vectors on disk before it computes them, and stores those it has computed.

    Args:
        name_or_path: Folder or Hub id of the PLM.
        cache_dir: Folder in which vectors of all PLMs are kept; `None` to keep none.
        options: Further arguments of `TextEncoder`.

    Raises:
        ValueError: If `cache_dir` is a file.
    """

    def __init__(self, name_or_path: str | os.PathLike, cache_dir: str | os.PathLike | None = None, **options: Any):
        super().__init__(name_or_path, **options)
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        if self.cache_dir is not None and self.cache_dir.is_file():
            raise ValueError(f"`text_vector_dir` must be a folder, got {cache_dir}, which is a file.")

    @classmethod
    def of(cls, encoder: TextEncoder, cache_dir: str | os.PathLike) -> "StoredTextEncoder":
        """An encoder with the PLM of another one that keeps its vectors in a folder."""
        stored = cls(encoder.name_or_path, cache_dir, fingerprint=encoder.expected_fingerprint, bf16=encoder.bf16)
        # one of them may be called `cache_dir`, that of the Hub
        stored.hub_arguments = encoder.hub_arguments
        return stored

    @property
    def folder(self) -> Path | None:
        """Where the vectors of this PLM are."""
        if self.cache_dir is None:
            return None
        return self.cache_dir / hashlib.sha256(f"{self.fingerprint} {self.settings}".encode()).hexdigest()[:32]

    def compute(self, texts: Sequence[str], progress_bar: bool | None = None) -> np.ndarray:
        folder = self.folder
        if folder is None:
            return super().compute(texts, progress_bar)
        folder.mkdir(parents=True, exist_ok=True)
        vectors = np.empty((len(texts), self.hidden_size), dtype=np.float32)
        places = {_key_of(text): row for row, text in enumerate(texts)}
        for path in sorted(folder.glob("*.npy")):
            stored = _read(path, self.hidden_size)
            found = [(row, entry) for entry, key in enumerate(_keys(stored)) if (row := places.pop(key, -1)) >= 0]
            if found:
                rows, entries = map(list, zip(*found))
                vectors[rows] = stored["vector"][entries]
        missing = sorted(places.values())
        rows = []
        # what is computed is kept, chunk by chunk, even if a later chunk is interrupted
        for batch, found in self.batches([texts[row] for row in missing], progress_bar):
            batch_rows = [missing[number] for number in batch]
            vectors[batch_rows] = found
            rows += batch_rows
            if len(rows) >= _TEXTS_PER_CHUNK:
                _write(folder, [texts[row] for row in rows], vectors[rows])
                rows = []
        if rows:
            _write(folder, [texts[row] for row in rows], vectors[rows])
        return vectors


def _key_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=_KEY_BYTES).digest()


def _record(hidden_size: int) -> np.dtype:
    return np.dtype([("key", "V16"), ("vector", "<f4", (hidden_size,))])


def _keys(stored: np.ndarray) -> list[bytes]:
    return [key.tobytes() for key in np.ascontiguousarray(stored["key"])]


def _read(path: Path, hidden_size: int) -> np.ndarray:
    """Map a chunk.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        stored = np.load(path, mmap_mode="r")
        if stored.dtype != _record(hidden_size):
            raise ValueError(f"it holds {stored.dtype}")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}. Remove it to compute its vectors again.") from error
    return stored


def _write(folder: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Write a chunk under a name that depends on its texts."""
    stored = np.empty(len(texts), dtype=_record(vectors.shape[1]))
    keys = b"".join(map(_key_of, texts))
    stored["key"] = np.frombuffer(keys, dtype="V16")
    stored["vector"] = vectors
    path = folder / f"{hashlib.sha256(keys).hexdigest()[:32]}.npy"
    # another process may be writing the same texts
    with whole_file(path, folder / f".{path.stem}.{os.getpid()}.partial") as partial, partial.open("wb") as file:
        np.save(file, stored)
