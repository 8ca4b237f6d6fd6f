# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""A model folder as one file, which engines send to their workers."""

import hashlib
import zipfile
from pathlib import Path

# What training leaves beside a model: other checkpoints, states to resume, logs, rows.
_LEFT_OUT = (
    *("checkpoint-*", "optimizer*", "scheduler*", "rng_state*", "training_args.bin", "trainer_state.json"),
    # written by DeepSpeed and FSDP
    *("global_step*", "pytorch_model_fsdp*"),
    *("runs", "plots", "_*", ".*", "*.npy"),
)
_BLOCK = 1 << 20


def model_files(folder: str | Path) -> list[Path]:
    """The files that scoring with a model needs, below its folder and relative to it."""
    folder = Path(folder)
    kept = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(Path(parts[0]).match(pattern) for pattern in _LEFT_OUT):
            kept.append(path.relative_to(folder))
    return kept


def fingerprint_of_files(folder: str | Path) -> str:
    """Hash of the names and contents of a model's files, so that one model is sent once."""
    digest = hashlib.sha256()
    for name in model_files(folder):
        path = Path(folder) / name
        digest.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


def write_archive(folder: str | Path, archive: Path) -> None:
    """Write a model's files to a zip file, uncompressed: weights hardly shrink.

    Raises:
        OSError: If the folder is missing or the archive cannot be written.
    """
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name in model_files(folder):
            file.write(Path(folder) / name, name.as_posix())
