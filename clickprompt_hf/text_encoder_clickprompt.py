# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The frozen PLM that turns texts into vectors, for fields of kind `text` with `as: vector`.

This file ships with every checkpoint, so it imports only numpy, torch, transformers and the standard library.

Shapes: N texts, B batch, T tokens of the longest text of a batch, H hidden size of the PLM.
"""

import copy
import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .configuration_clickprompt import ClickPromptConfig, CTRConfig
from .loading_clickprompt import hash_weights, listed
from .plm_loading import load_pretrained, plm_classes, without_pooler
from .tokenization_clickprompt import at_rest, complete_tokenizer, padded_on_right, tokenize
# isort: on

# Folder of the text encoder in a checkpoint.
TEXT_ENCODER_FOLDER = "text_encoder"
_TOKENS_PER_BATCH = {"cpu": 1 << 13}
_TOKENS_PER_ACCELERATOR_BATCH = 1 << 16
# Says which PLM a folder holds, and whether it is whole.
_RECORD_FILE = "text_encoder.json"
# Longer texts are truncated, even if the PLM has more positions.
_MOST_TOKENS = 512
_BYTES_KEPT = 64_000_000
# Settings of a PLM that do not change vectors.
_IDLE_SETTINGS = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_SECONDS_WITHOUT_PROGRESS_BAR = 3


class TextEncoder:
    """Turns texts into vectors: the mean over a text's tokens of the last states of a frozen PLM.

    The PLM is loaded on first use, in float32, on the GPU if there is one. Vectors of the texts that were read last
    are kept in memory. Threads may share an encoder; its copies and pickles hold neither weights nor vectors, except
    those of `portable`.

    Args:
        name_or_path: Folder or Hub id of the PLM.
        fingerprint: Fingerprint that the PLM must have; by default, any PLM is accepted.
        bf16: Whether to compute matrix products in bf16, which changes vectors by about 1 %.
        hub_arguments: Arguments of `from_pretrained` that say where to load from, such as `subfolder` or `revision`.
    """

    # pickles of earlier versions lack it
    _pickles_weights = False

    def __init__(
        self,
        name_or_path: str | os.PathLike,
        fingerprint: str | None = None,
        bf16: bool = False,
        **hub_arguments: Any,
    ):
        self.name_or_path = str(name_or_path)
        self.expected_fingerprint = fingerprint
        self.bf16 = bf16
        self.hub_arguments = hub_arguments
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._parts: tuple[Any, Any, str] | None = None
        # the one used last at the end
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        names = ("_lock", "_parts", "_vectors")
        state = {name: value for name, value in self.__dict__.items() if name not in names}
        if self._pickles_weights:
            model, *others = self._load()
            # the machine that loads it may have no accelerator
            on_cpu = model if model.device.type == "cpu" else copy.deepcopy(model).cpu()
            state["_parts"] = (on_cpu, *others)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = state.get("_parts")
        self.__dict__.update(state)
        self._start_empty()
        if parts is not None:
            self._parts = (parts[0].to(_device()), *parts[1:])

    def portable(self) -> "TextEncoder":
        """An encoder with the same PLM whose pickles hold its weights, for places that lack its folder.

        Raises:
            OSError: If there is no such PLM.
        """
        found = copy.copy(self)
        found._parts, found._pickles_weights = self._load(), True
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name_or_path!r})"

    @property
    def hidden_size(self) -> int:
        """H."""
        return self._load()[0].config.hidden_size

    @property
    def fingerprint(self) -> str:
        """Hash of the PLM's weights."""
        return self._load()[2]

    @property
    def settings(self) -> str:
        """Everything else that vectors depend on: configuration, vocabulary, length limit and precision."""
        model, tokenizer, _ = self._load()
        backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer.get_vocab())
        config = {name: value for name, value in model.config.to_dict().items() if name not in _IDLE_SETTINGS}
        return json.dumps([config, backend, _length_limit(model.config, tokenizer), self.bf16], default=str)

    def _load(self) -> tuple[Any, Any, str]:
        """The PLM, its tokenizer and its fingerprint."""
        with self._lock:
            if self._parts is None:
                place = "/".join(filter(None, (self.name_or_path, self.hub_arguments.get("subfolder"))))
                if os.path.isabs(place) and not os.path.isdir(place):
                    raise OSError(
                        f"{place} must hold the text encoder, the PLM that turns texts into vectors, but there is "
                        "no such folder."
                    )
                model = load_frozen(self.name_or_path, **self.hub_arguments)
                found = weights_fingerprint(model)
                if self.expected_fingerprint not in (None, found):
                    raise ValueError(
                        f"{place} must hold the text encoder that training used, whose weights have the fingerprint "
                        f"{self.expected_fingerprint}, got {found}."
                    )
                tokenizer = AutoTokenizer.from_pretrained(self.name_or_path, **self.hub_arguments)
                self._parts = model, complete_tokenizer(tokenizer), found
            return self._parts

    def encode(self, texts: Sequence[str], progress_bar: bool | None = None) -> np.ndarray:
        """Compute the vectors of texts; each distinct text is computed once.

        Args:
            texts: N texts. Texts of more than 512 tokens, or than the PLM has positions, are truncated.
            progress_bar: Whether to show one. By default if it takes longer than three seconds.

        Returns:
            (N, H) float32.

        Raises:
            OSError: If there is no such PLM.
            ValueError: If the PLM is not the expected one or not a language model, or a vector is not finite.
        """
        known = self._look_up(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            read = dict(zip(missing, self.compute(missing, progress_bar)))
            self._keep(read)
            known |= read
        if not texts:
            return np.zeros((0, self.hidden_size), dtype=np.float32)
        return np.stack([known[text] for text in texts])

    def compute(self, texts: Sequence[str], progress_bar: bool | None = None) -> np.ndarray:
        """Compute the vectors (N, H) of distinct texts that are not known."""
        vectors = np.empty((len(texts), self.hidden_size), dtype=np.float32)
        for rows, found in self.batches(texts, progress_bar):
            vectors[rows] = found
        return vectors

    @torch.no_grad()
    def batches(self, texts: Sequence[str], progress_bar: bool | None = None) -> Iterator[tuple[list[int], Any]]:
        """Compute the vectors of texts in batches of similar length, longest first.

        Yields:
            Indices of a batch's texts, and their vectors (B, H) float32.
        """
        model, tokenizer, _ = self._load()
        device = model.device
        per_batch = _TOKENS_PER_BATCH.get(device.type, _TOKENS_PER_ACCELERATOR_BATCH)
        tokens = tokenize(tokenizer, texts, _length_limit(model.config, tokenizer))
        order = sorted(range(len(texts)), key=lambda row: -len(tokens[row]))
        # With a delay of 0 it is shown at once.
        delay = 0 if progress_bar else _SECONDS_WITHOUT_PROGRESS_BAR
        options = {"unit": " texts", "delay": delay, "disable": progress_bar is False}
        with logging.tqdm(total=len(texts), desc="text vectors", **options) as bar:
            start = 0
            while start < len(order):
                width = max(1, len(tokens[order[start]]))
                rows = order[start : start + max(1, per_batch // width)]
                texts_tokens = [tokens[row] for row in rows]
                input_ids = padded_on_right(texts_tokens, width, tokenizer.pad_token_id)
                mask = padded_on_right([[1] * len(text_tokens) for text_tokens in texts_tokens], width, 0)
                inputs = (torch.from_numpy(array).to(device) for array in (input_ids, mask))
                yield rows, self._pooled(model, *inputs)
                bar.update(len(rows))
                start += len(rows)

    def _pooled(self, model: Any, input_ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """The mean of the last states of texts (B, T), without padding: (B, H)."""
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            states = model(input_ids=input_ids, attention_mask=mask, return_dict=True).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        vectors = ((states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError(f"Text vectors must be finite, but {self.name_or_path} returns NaN or infinity.")
        return vectors

    def _look_up(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        with self._lock:
            known = {text: vector for text in texts if (vector := self._vectors.get(text)) is not None}
            for text in known:
                self._vectors.move_to_end(text)
        return known

    def _keep(self, read: dict[str, np.ndarray]) -> None:
        """Keep vectors (H,) of texts, and drop the least recently used ones."""
        most = max(1, _BYTES_KEPT // (4 * self.hidden_size))
        with self._lock:
            # A row of an array would keep the whole array in memory.
            self._vectors.update((text, vector.copy()) for text, vector in list(read.items())[-most:])
            while len(self._vectors) > most:
                self._vectors.popitem(last=False)

    def forget(self) -> None:
        """Drop the vectors in memory; the PLM stays loaded."""
        with self._lock:
            self._vectors.clear()

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Save configuration, weights and tokenizer of the PLM."""
        model, tokenizer, fingerprint = self._load()
        model.save_pretrained(folder)
        at_rest(tokenizer).save_pretrained(folder)
        sizes = {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir()) if path.is_file()}
        record = json.dumps({"fingerprint": fingerprint, "sizes": sizes}, indent=2)
        Path(folder, _RECORD_FILE).write_text(record, encoding="utf-8")

    def is_saved_in(self, folder: str | os.PathLike) -> bool:
        """Whether `save_pretrained` has saved this PLM in a folder before, with all its files."""
        path = Path(folder, _RECORD_FILE)
        if not path.is_file():
            return False
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["fingerprint"] != (self.expected_fingerprint or self.fingerprint):
            return False
        files = {name: Path(folder, name) for name in record["sizes"]}
        return all(file.is_file() and file.stat().st_size == record["sizes"][name] for name, file in files.items())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_frozen(name_or_path: str, **hub_arguments: Any) -> Any:
    """Load a PLM in float32 for evaluation, without its unused pooler and without the decoder of a pair.

    Raises:
        OSError: If there is no such PLM.
        ValueError: If it is a ClickPrompt checkpoint or not a language model, or its files lack weights.
    """
    config = AutoConfig.from_pretrained(name_or_path, **hub_arguments)
    auto_class, model_class = plm_classes(config)
    if config.model_type == ClickPromptConfig.model_type or model_class is None:
        raise ValueError(
            f"`text_encoder` must be a language model, but {name_or_path} is a model of the type "
            f"{config.model_type!r}."
        )
    options = {**without_pooler(model_class), **hub_arguments}
    model, missing = load_pretrained(auto_class, name_or_path, dtype=torch.float32, **options)
    if missing:
        raise ValueError(
            f"{name_or_path} must hold all weights of {model_class.__name__}, but lacks {listed(missing)}."
        )
    return model.requires_grad_(False).eval().to(_device())


def weights_fingerprint(model: Any) -> str:
    """Hash names, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    hash_weights(digest, sorted(model.state_dict().items()))
    return digest.hexdigest()[:32]


def _length_limit(config: Any, tokenizer: Any) -> int:
    positions = ClickPromptConfig(text_config=config, ctr_config=CTRConfig(), prompt_strategy="none").max_text_length
    return min(_MOST_TOKENS, tokenizer.model_max_length, positions or _MOST_TOKENS)
