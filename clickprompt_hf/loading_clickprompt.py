# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Which files hold a checkpoint's weights, and whether these are whole, finite and the ones that were saved.

This file ships with every checkpoint, so it imports only torch, transformers, safetensors and the standard library.
"""

import copy
import hashlib
import json
import math
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, cached_file

from .configuration_clickprompt import FINGERPRINTS

HUB_ARGUMENTS = ("cache_dir", "local_files_only", "proxies", "token", "revision", "subfolder")
# Parts of `ClickPromptModel`; the others are heads.
TRUNK_PARTS = ("ctr", "plm", "prompt_encoder")
# Heads of `ClickPromptForCTR`.
_CLICK_HEADS = {"ctr_head", "text_head", "fusion"}
# Classes of stage 1, whose checkpoints have no click heads.
_PRETRAINING_CLASSES = {"ClickPromptForPAMLM", "ClickPromptForPACLM"}
_TRUNK = "clickprompt."
# Up to this many bytes of weights are hashed completely, in a third of a second; of more, only blocks.
_MOST_BYTES_HASHED = 2**30
_BLOCK_BYTES, _BYTES_OF_BLOCKS = 2**16, 2**28
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MOST_NAMES_SHOWN = 6
# Configuration keys that users do not set.
_NOT_OPTIONS = {
    *("_name_or_path", "_attn_implementation", "architectures", "auto_map", "dtype", "transformers_version"),
    *("model_type", "training_data", FINGERPRINTS),
}


class FreshHeadsWarning(UserWarning):
    """Warns that a checkpoint of stage 1 has no click heads, as expected where stage 2 starts from it."""


@dataclass(frozen=True)
class Checkpoint:
    """What the files of a checkpoint hold, to check the model that transformers has loaded from them.

    Args:
        name: Its weights, for messages: their files, or the Hub id.
        files: Its safetensors files.
        types: The type of each tensor in them, as `stored_types` returns them.
        config: Content of its `config.json`; empty without one.
        fingerprints: The fingerprints in `config.json` that the weights must have; `None` for any.
    """

    name: str
    files: list[str]
    types: dict[str, str]
    config: dict[str, Any]
    fingerprints: Any

    @classmethod
    def find(cls, config_class: Any, name_or_path: Any, variant: str | None, **hub_arguments: Any) -> "Checkpoint":
        """Look into a checkpoint, given as in `find_weights`; without a name, it is empty."""
        files, config = [], {}
        if name_or_path is not None:
            files = find_weights(name_or_path, variant, **hub_arguments)
            # adapters have no `config.json`; if it is missing elsewhere, loading raises a better error
            with suppress(OSError, ValueError):
                config, _ = config_class.get_config_dict(name_or_path, **hub_arguments)
        # `config.json` has no fingerprints of variants
        fingerprints = config.get(FINGERPRINTS) if variant is None else None
        return cls(listed(files) or str(name_or_path), files, stored_types(files), config, fingerprints)

    def check(self, model: PreTrainedModel, info: Mapping[str, Any], may_mismatch: bool) -> tuple[str, ...]:
        """Raise an error for incomplete or wrong weights.

        Args:
            model: The model that was loaded.
            info: The loading info of transformers.
            may_mismatch: Whether tensors of other shapes are randomly initialized instead.

        Returns:
            Names of the model's tensors that the checkpoint was saved without.

        Raises:
            ValueError: If tensors are missing, surplus, of other shapes or types, not finite, or not those that
                `config.json` was saved with; the message names them.
        """
        self._check_keys(model, info, may_mismatch)
        tensors = model.state_dict()
        if getattr(model.config, "quantization_config", None) is None:
            check_types(self.files, self.types, tensors)
        if broken := non_finite(tensors):
            raise ValueError(f"{self.name} must hold finite weights, but NaN or infinity is in {listed(broken)}.")
        check_fingerprints(self.files, self.fingerprints, set(map(part_of, tensors)))
        return tuple(sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}))

    def warning_of_fresh(self, fresh_weights: Iterable[str]) -> type[Warning]:
        """Category of a warning: `FreshHeadsWarning` if fresh weights are only those that stage 1 never has."""
        is_pretrained = bool(_PRETRAINING_CLASSES & set(self.config.get("architectures") or ()))
        return (
            FreshHeadsWarning
            if is_pretrained and _CLICK_HEADS.issuperset(map(part_of, fresh_weights))
            else UserWarning
        )

    def _check_keys(self, model: PreTrainedModel, info: Mapping[str, Any], may_mismatch: bool) -> None:
        saved_parts = self._saved_parts(model.config)
        lost = [key for key in info["missing_keys"] if part_of(key) in saved_parts]
        mismatched = [] if may_mismatch else sorted(info["mismatched_keys"])
        misshapen = [f"{key} {[*found]} instead of {[*own]}" for key, found, own in mismatched]
        surplus = [key for key in info["unexpected_keys"] if part_of(key) in TRUNK_PARTS]
        faults = {"lacks": lost, "has the shapes": misshapen, "also has": surplus}
        if found := [f"{what} [{listed(map(repr, names))}]" for what, names in faults.items() if names]:
            raise ValueError(
                f"{self.name} must hold the weights of {type(model).__name__} with this configuration, but "
                f"{'; '.join(found)}. {self._likely_cause(model.config)}"
            )

    def _likely_cause(self, own: Any) -> str:
        """Why weights may not fit a model of the configuration `own`: options other than those in `config.json`."""
        changed = {}
        # a damaged `config.json` has been reported before, or a whole configuration was given instead
        with suppress(ValueError, TypeError, KeyError):
            saved = type(own).from_dict(copy.deepcopy(self.config)).to_dict()
            changed = changed_options(saved, own.to_dict()) if self.config else {}
        if not changed:
            return "One of the files is damaged or comes from another checkpoint."
        options = listed(f"`{name}` {new!r} instead of {old!r}" for name, (old, new) in changed.items())
        return f"The model was given other options than the checkpoint was saved with: {options}. Leave them out."

    def _saved_parts(self, own: Any) -> set[str]:
        """Parts that the checkpoint must hold; `own` is the model's configuration, for options that it lacks."""
        architectures = set(self.config.get("architectures") or ())
        fusion = self.config.get("fusion", own.fusion)
        has_prompts = self.config.get("prompt_strategy", own.prompt_strategy) != "none"
        parts = {
            "plm": fusion != "ctr",
            "prompt_encoder": fusion != "ctr" and has_prompts,
            "ctr": fusion != "text" or has_prompts,
            "lm_head": bool(architectures & _PRETRAINING_CLASSES),
        }
        if "ClickPromptForCTR" in architectures:
            parts |= {"ctr_head": fusion != "text", "text_head": fusion != "ctr", "fusion": fusion == "weighted"}
        return {part for part, is_saved in parts.items() if is_saved}


def changed_options(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Options of a configuration that differ from the saved ones, old and new value by name; parts have dotted names.

    Options that say where a configuration comes from are ignored, and so are precision and kernels.
    """
    changed: dict[str, tuple[Any, Any]] = {}
    for name in sorted((saved.keys() | own.keys()) - _NOT_OPTIONS):
        old, new = saved.get(name), own.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed |= {f"{name}.{part}": values for part, values in changed_options(old, new).items()}
        elif old != new:
            changed[name] = (old, new)
    return changed


def find_weights(name_or_path: str | Path, variant: str | None = None, **hub_arguments: Any) -> list[str]:
    """Find the safetensors files of a checkpoint; there are none if its weights have another format.

    Args:
        name_or_path: Folder or Hub id.
        variant: As in `from_pretrained`.
        hub_arguments: Those of `HUB_ARGUMENTS`.

    Raises:
        ValueError: If the index of its files is damaged or names a file outside the checkpoint's folder.
        OSError: If a file in the index is missing.
    """
    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME):
        if variant is not None:
            name = re.sub(r"(\.index)?\.\w+$", rf".{variant}\g<0>", name)
        path = cached_file(name_or_path, name, _raise_exceptions_for_missing_entries=False, **hub_arguments)
        if path is None:
            continue
        if name.endswith(".safetensors"):
            return [path]
        files = [str(cached_file(name_or_path, shard, **hub_arguments)) for shard in _shards(path)]
        return [file for file in files if file.endswith(".safetensors")]
    return []


def _shards(index: str) -> list[str]:
    """Names of the files in an index, relative to its folder."""
    try:
        content = json.loads(Path(index).read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
        dict(content["metadata"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{index} must be the index of a checkpoint's weights, but it is damaged: {error!r}."
        ) from error
    for name in names:
        if os.path.isabs(name) or re.match(r"[A-Za-z]:|[/\\]", name) or ".." in re.split(r"[/\\]", name):
            raise ValueError(f"{index} must name files in its own folder, got {name!r}.")
    return names


def part_of(key: str) -> str:
    """The part of a model that a tensor belongs to: `"ctr"`, `"plm"`, `"prompt_encoder"` or a head's name."""
    return key.removeprefix(_TRUNK).partition(".")[0]


def stored_types(files: Iterable[str]) -> dict[str, str]:
    """The type of each tensor in safetensors files, as safetensors spells it: `"F32"`, `"I64"`, ...

    Raises:
        OSError: If a file is damaged or cut off.
    """
    types = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as stored:
                types.update({key: stored.get_slice(key).get_dtype() for key in stored.keys()})  # noqa: SIM118
        except SafetensorError as error:
            raise OSError(
                f"{file} must hold complete weights, but this safetensors file is damaged or truncated: {error}."
            ) from error
    return types


def fingerprints(files: Iterable[str], parts: Iterable[str] | None = None) -> dict[str, str]:
    """Hash names, types, shapes and values of a checkpoint's tensors, by part of the model.

    The same tensors have the same fingerprints, however they are split into files. Above 1 GiB, evenly spaced blocks
    of each tensor stand for it, so that this takes less than a second.

    Args:
        files: Safetensors files.
        parts: The parts to hash; `None` for all.
    """
    files, wanted = list(files), None if parts is None else set(parts)
    step = 1
    if (total := sum(Path(file).stat().st_size for file in files)) > _MOST_BYTES_HASHED:
        # in powers of two: how the tensors are split into files changes the total a little
        step = 2 ** math.ceil(math.log2(total / _BYTES_OF_BLOCKS))
    lines: dict[str, list[str]] = defaultdict(list)
    for file in files:
        with safe_open(file, framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                if wanted is None or part_of(key) in wanted:
                    tensor = stored.get_tensor(key)
                    lines[part_of(key)].append(f"{key} {tensor.dtype} {list(tensor.shape)} {_checksum(tensor, step)}")
    return {part: hashlib.sha256("\n".join(sorted(lines[part])).encode()).hexdigest()[:16] for part in sorted(lines)}


def hash_weights(digest: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Add names, types, shapes and all values of tensors to a digest of hashlib, in the given order."""
    for name, tensor in weights:
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        # every type as bytes: numpy has no bf16
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _checksum(tensor: torch.Tensor, step: int) -> int:
    """CRC-32 of every `step`-th block of a tensor's bytes, and of the last one."""
    if not tensor.numel():
        return 0
    content: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    if step == 1:
        return zlib.crc32(content)
    checksum = zlib.crc32(content[-_BLOCK_BYTES:])
    for start in range(0, len(content), step * _BLOCK_BYTES):
        checksum = zlib.crc32(content[start : start + _BLOCK_BYTES], checksum)
    return checksum


def record_fingerprints(folder: str | Path) -> None:
    """Write the fingerprints of the weights in `folder` into its `config.json`; nothing may read the folder yet."""
    if not (files := find_weights(folder)):
        return
    path = Path(folder) / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8"))
    config[FINGERPRINTS] = fingerprints(files)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_fingerprints(files: list[str], recorded: Any, parts: Iterable[str]) -> None:
    """Raise an error for weights that `config.json` was not saved with.

    Args:
        files: Safetensors files of the checkpoint.
        recorded: The fingerprints in `config.json`; `None` for a checkpoint of an earlier version, which has none.
        parts: Parts of the loaded model; other parts are not checked.

    Raises:
        ValueError: If the weights differ, or `recorded` has the wrong type.
    """
    if recorded is None or not files:
        return
    if not isinstance(recorded, Mapping):
        raise ValueError(f"`{FINGERPRINTS}` in {CONFIG_NAME} must be a mapping from part to hash, got {recorded!r}.")
    found = fingerprints(files, set(parts) & set(recorded))
    if changed := [part for part, fingerprint in found.items() if fingerprint != recorded[part]]:
        raise ValueError(
            f"{listed(files)} must hold the weights that {CONFIG_NAME} was saved with, but those of "
            f"{', '.join(changed)} differ: one of the files is damaged or comes from another checkpoint. If you "
            f"have changed the weights on purpose, remove `{FINGERPRINTS}` from {CONFIG_NAME}, or save the model "
            "with `save_pretrained`."
        )


def check_types(files: list[str], types: Mapping[str, str], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse integers where the model has real numbers, and the reverse.

    Args:
        files: Safetensors files of the checkpoint, for the message.
        types: Their tensors' types, as `stored_types` returns them.
        expected: Tensors of the model, by name.

    Raises:
        ValueError: If a tensor has the wrong type; the message names all of them.
    """
    without_prefix = {key.removeprefix(_TRUNK): tensor for key, tensor in expected.items()}
    wrong = [
        f"{key} ({found})"
        for key, found in types.items()
        if (tensor := without_prefix.get(key.removeprefix(_TRUNK))) is not None
        and tensor.is_floating_point() != ("F" in found)
    ]
    if wrong:
        raise ValueError(f"{listed(files)} must hold weights of the model's types, but does not: {listed(wrong)}.")


def non_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not _is_finite(tensor)]


def _is_finite(tensor: torch.Tensor) -> bool:
    # weights on disk, quantized ones and shards of several processes are not checked
    if tensor.is_meta or tensor.dtype not in _FLOATS or not tensor.numel() or hasattr(tensor, "device_mesh"):
        return True
    # a sum runs at the memory's speed, three times as fast as extremes, but may overflow
    return bool(tensor.sum().isfinite()) or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first few, in order, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - _MOST_NAMES_SHOWN} more" if len(names) > _MOST_NAMES_SHOWN else ""
    return ", ".join(names[:_MOST_NAMES_SHOWN]) + more
