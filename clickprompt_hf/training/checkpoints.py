# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Which checkpoints can be resumed, judged by their contents, so that those of other versions and trainers count too.

A checkpoint is whole if each of its files can be read to its end, and if it holds weights, optimizer, schedule, random
states and the state of the trainer. Where these are depends on who wrote it: one process or DDP, FSDP with full or
sharded states, or DeepSpeed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..processor_files_clickprompt import PROCESSOR_FILE, VOCABULARIES_FILE, fingerprint_of

logger = logging.get_logger(__name__)

# What this package adds to a checkpoint: see resuming.py.
PROGRESS_FILE = "run_progress.json"

# Globs of each layout's files; one of a kind suffices.
_WEIGHTS = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("adapter_model.safetensors", "adapter_model.bin", "*/adapter_model.safetensors", "*/adapter_model.bin"),
    # FSDP: full, sharded, one file per process
    *("pytorch_model_fsdp.bin", "pytorch_model_fsdp_*/.metadata", "pytorch_model_fsdp*_rank*.bin"),
    "global_step*/*model_states.pt",
)
_OPTIMIZER = (
    *("optimizer.pt", "optimizer.bin", "optimizer_*/.metadata", "optimizer_*_rank*.bin", "rank*-of-*-optimizer.pt"),
    "global_step*/*optim_states.pt",
)
_RANDOM_STATES = ("rng_state.pth", "rng_state_*.pth")
_ZIP_START, _ZIP_END = b"PK", b"PK\x05\x06"
# An archive's end may be followed by a comment of this many bytes.
_LONGEST_ZIP_END = 22 + 0xFFFF


def newest_whole_checkpoint(folder: str | Path) -> Path | None:
    """Find the newest complete checkpoint; incomplete ones are skipped with a message.

    Args:
        folder: Output folder of a run.
    """
    for checkpoint in checkpoints_in(folder):
        fault = fault_of(checkpoint)
        if fault is None:
            return checkpoint
        logger.warning(f"Skipping {checkpoint}, which is incomplete: it {fault}.")
    return None


def checkpoints_in(folder: str | Path) -> list[Path]:
    """The checkpoints in an output folder, whole or not, the one with the most steps first."""
    found = [
        (int(match.group(1)), path)
        for path in (Path(folder).iterdir() if Path(folder).is_dir() else ())
        if (match := re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found, reverse=True)]


def fault_of(checkpoint: str | Path) -> str | None:
    """Tell why training cannot continue from a checkpoint, as the end of a sentence; `None` if it can.

    Reads headers and directories of large files, not their tensors.
    """
    return next(_faults(Path(checkpoint)), None)


def _faults(folder: Path) -> Iterator[str]:
    def has(*globs: str) -> bool:
        return any(next(folder.glob(glob), None) is not None for glob in globs)

    by_deepspeed = has("global_step*")
    if not has(*_OPTIMIZER):
        yield "lacks optimizer.pt"
    # DeepSpeed's own schedules are among its optimizer states
    if not has("scheduler.pt") and not by_deepspeed:
        yield "lacks scheduler.pt"
    if not has(TRAINER_STATE_NAME):
        yield f"lacks {TRAINER_STATE_NAME}"
    if not has(*_WEIGHTS):
        yield "lacks model.safetensors"
    if not has(*_RANDOM_STATES):
        yield "lacks rng_state.pth"
    # FSDP reads the weights beside its optimizer, whatever else there is
    if has("optimizer.bin") and not has("pytorch_model_fsdp.bin"):
        yield "lacks pytorch_model_fsdp.bin"
    if by_deepspeed and not has("latest"):
        yield "lacks latest, which names DeepSpeed's folder"
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (fault := _fault_of_file(path)):
            yield f"has a damaged {path.relative_to(folder)}, which {fault}"
    yield from _missing_parts(folder)


def _missing_parts(folder: Path) -> Iterator[str]:
    """What readable files name, but the folder lacks."""
    for index in (*folder.glob("*.safetensors.index.json"), *folder.glob("*.bin.index.json")):
        for shard in sorted(set(json.loads(index.read_bytes())["weight_map"].values())):
            if not (folder / shard).is_file():
                yield f"lacks {shard}"
    # torch writes the metadata of a sharded state last
    for shards in (*folder.glob("pytorch_model_fsdp_*/"), *folder.glob("optimizer_*/")):
        for part in (".metadata", "*.distcp") if shards.is_dir() else ():
            if next(shards.glob(part), None) is None:
                yield f"lacks {shards.name}/{part}"
    if (latest := folder / "latest").is_file():
        named = latest.read_text(encoding="utf-8").strip()
        if not any((folder / named).glob("*.pt")):
            yield f"lacks {named}, which latest names"
    if (progress := folder / PROGRESS_FILE).is_file():
        processes = json.loads(progress.read_bytes())["num_processes"]
        for name in ["rng_state.pth"] if processes == 1 else [f"rng_state_{n}.pth" for n in range(processes)]:
            if not (folder / name).is_file():
                yield f"lacks {name}"
    if (processor := folder / PROCESSOR_FILE).is_file():
        yield from _missing_vocabularies(folder, json.loads(processor.read_bytes()))


def _missing_vocabularies(folder: Path, processor: dict) -> Iterator[str]:
    """Whether the vocabularies are those of a ClickPrompt processor's configuration."""
    path = folder / VOCABULARIES_FILE
    if "fingerprint" not in processor:
        return
    if not path.is_file():
        yield f"lacks {VOCABULARIES_FILE}"
        return
    fitted = (processor["schema"], processor["boundaries"], path.read_bytes(), processor.get("vectors"))
    if fingerprint_of(*fitted) != processor["fingerprint"]:
        yield f"has a damaged {VOCABULARIES_FILE}, which does not match processor_config.json"


def _fault_of_file(path: Path) -> str | None:
    """Tell why a file cannot be read to its end, as the end of a sentence; `None` if it can."""
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return "is not JSON"
    elif path.suffix == ".safetensors":
        return _fault_of_safetensors(path)
    elif path.suffix in (".pt", ".pth", ".bin", ".distcp"):
        return _fault_of_archive(path)
    return None


def _fault_of_safetensors(path: Path) -> str | None:
    """Opening a file reads its header and compares it with the file's size."""
    try:
        with safe_open(path, framework="pt"):
            return None
    except SafetensorError:
        return "is cut off or has a damaged header"


def _fault_of_archive(path: Path) -> str | None:
    """torch saves zip archives, whose directory comes last; files of other formats must only not be empty."""
    size = path.stat().st_size
    if not size:
        return "is empty"
    with path.open("rb") as file:
        if file.read(2) != _ZIP_START:
            return None
        file.seek(max(0, size - _LONGEST_ZIP_END))
        return None if _ZIP_END in file.read() else "is cut off"
