# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""States of distinct texts after a PLM's frozen lower layers, computed once and kept in a memory-mapped file.

A folder of states belongs to one PLM: its name is a fingerprint of the lower layers' weights, their number and the
type of the states. A text is known by its token ids, so runs, splits and masked variants share what they have in
common, and a run adds only the texts that are missing.

| file | content |
|---|---|
| `text_states.json` | what the fingerprint stands for |
| `states.bin` | the states of all texts without padding, one text after another |
| `index.bin` | per text, in the same order: its key, its number of tokens and a checksum of its states |

A writer appends states, waits until they are on the disk, and then appends to the index. What the index does not list
is unfinished: the next writer overwrites it. A file of states that lacks what the index lists is damaged.

Shapes: N rows, B batch, U distinct texts, V variants per text, T text tokens of the longest text, H PLM hidden size.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import filelock
import numpy as np
import torch
from transformers.utils import logging

from ..input_checks import check_has_lower_layers
from ..loading_clickprompt import hash_weights
from ..whole_files import whole_file, write_errors_naming
from .collators import ClickPromptCLMCollator, ClickPromptMLMCollator
from .disk_space import check_disk_space
from .text_variants import DistinctTexts, TextRows, chosen_variants, text_ids_of, variant_tokens

logger = logging.get_logger(__name__)

StateType = Literal["fp32", "bf16", "fp16"]

_TORCH_TYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# numpy has no bf16
_STORED_TYPES: dict[str, np.dtype] = {"fp32": np.dtype("<f4"), "bf16": np.dtype("<i2"), "fp16": np.dtype("<f2")}
_HEADER_FILE, _STATES_FILE, _INDEX_FILE, _LOCK_FILE = "text_states.json", "states.bin", "index.bin", "lock"
_VERSION = 1
_RECORD = np.dtype([("key", "<u8"), ("tokens", "<u4"), ("checksum", "<u4")])
_TOKENS_PER_BATCH = {"cpu": 1 << 13}
_TOKENS_PER_ACCELERATOR_BATCH = 1 << 16
_CHUNK_BYTES = 1 << 26
# States to compare with their checksums whenever a file is opened.
_VERIFIED_BYTES = 1 << 26
# Settings of a PLM that do not change states.
_IDLE_SETTINGS = (
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "id2label",
    "label2id",
)


class TextStates:
    """States of texts after the lower layers of one PLM, in a memory-mapped file.

        texts = {name: DistinctTexts.of(split) for name, split in splits.items()}
        states = TextStates.build(model, texts.values(), "text_states")
        splits = {name: states.attach(split_texts) for name, split_texts in texts.items()}
        trainer = ClickPromptTrainer(model, args, train_dataset=splits["train"], ...)

    Batches of rows with states hold `text_states`, `attention_mask` and `text_rows` instead of `input_ids`; the
    trainer freezes the lower layers and raises an error if the model's lower layers differ.

    Args:
        folder: The folder of one PLM's states, as `build` creates it in its `folder`.

    Attributes:
        folder: The folder.
        header: What the states belong to, as in `text_states.json`.
        dtype: Type of the states.
        hidden_size: H.

    Raises:
        FileNotFoundError: If the folder holds no states.
        ValueError: If a file is damaged or cut off; the message names it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.header = _read_header(self.folder)
        self.dtype: StateType = self.header["dtype"]
        self.hidden_size: int = self.header["hidden_size"]
        self._map()
        self._check_states()

    def _map(self) -> None:
        index, path = self.folder / _INDEX_FILE, self.folder / _STATES_FILE
        # a record that is cut off was never finished
        whole = index.stat().st_size // _RECORD.itemsize if index.exists() else 0
        self._records = np.fromfile(index, dtype=_RECORD, count=whole) if whole else np.zeros(0, dtype=_RECORD)
        self._tokens = self._records["tokens"].astype(np.int64)
        self._starts = np.cumsum(self._tokens) - self._tokens
        self._order = np.argsort(self._records["key"], kind="stable")
        self._sorted_keys = self._records["key"][self._order]
        shape = (int(self._tokens.sum()), self.hidden_size)
        needed = shape[0] * shape[1] * _STORED_TYPES[self.dtype].itemsize
        found = path.stat().st_size if path.exists() else 0
        if found < needed:
            raise ValueError(
                f"{path} is damaged: it must hold the states of {len(self._records):,} texts, {needed:,} bytes, but "
                f"has {found:,}. Remove the folder {self.folder} to compute them again."
            )
        stored = _STORED_TYPES[self.dtype]
        # an empty file cannot be mapped
        self._states = np.memmap(path, stored, mode="r", shape=shape) if needed else np.zeros(shape, stored)

    def _check_states(self) -> None:
        """Compare states with their checksums: all of them, or evenly spaced ones of a large file."""
        average = max(1, self.num_bytes // max(1, len(self)))
        for entry in np.linspace(0, len(self) - 1, min(len(self), max(1, _VERIFIED_BYTES // average))).astype(int):
            if _checksum(self._states_of(entry)) != self._records["checksum"][entry]:
                raise ValueError(
                    f"{self.folder / _STATES_FILE} is damaged: the states of text {entry} have changed since they "
                    f"were written. Remove the folder {self.folder} to compute them again."
                )

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be copied into every worker.
        return {**self.__dict__, "_states": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def fingerprint(self) -> str:
        """What the states belong to, see `fingerprint_of`."""
        return self.header["fingerprint"]

    @property
    def num_bytes(self) -> int:
        """Size of the states in the file."""
        return self._states.nbytes

    @classmethod
    def build(
        cls,
        model: Any,
        texts: Iterable[DistinctTexts],
        folder: str | Path,
        dtype: StateType = "fp32",
        progress_bar: bool = True,
        quiet: bool = False,
    ) -> "TextStates":
        """Open the cached states of texts, and compute missing ones.

        The next call continues where an interrupted one stopped. If another process writes the same states, this one
        waits for it, however long that takes.

        Args:
            model: A ClickPrompt model whose `prompt_depth` leaves lower layers without prompts. It computes in its own
                type, in evaluation mode, without gradients, on its own device.
            texts: The texts of datasets, such as all splits of a run.
            folder: Folder for the states of all PLMs, each in a subfolder.
            dtype: Type of the states: `"fp32"`, or `"bf16"` or `"fp16"` in half the size.
            progress_bar: Whether to show one while states are computed.
            quiet: Whether not to log that all states exist or that another process writes them.

        Raises:
            ValueError: If the model has no lower layers, or a file is damaged.
            OSError: If the disk is too small, or a file cannot be written.
        """
        check_state_type(dtype)
        header = _header_of(model, dtype)
        place = folder_of(folder, header["fingerprint"])
        sources = list(texts)
        needed = _Needed.of(sources)
        states = cls._open(place, header) if (place / _HEADER_FILE).exists() else None
        if states is not None and (states.find(needed.keys) >= 0).all():
            if not quiet:
                # a warning, because the default level hides anything less
                logger.warning(f"All {len(needed.keys):,} text states are already in {place}.")
        else:
            with _sole_writer(place, header, quiet):
                states = cls._open(place, header)
                missing = needed.exclude(states.find(needed.keys) >= 0)
                if len(missing.keys):
                    _announce(place, header, needed, missing)
                    with _Writer(place, states) as writer:
                        _encode(model, sources, missing, writer, progress_bar)
                    states = cls._open(place, header)
        return states

    @classmethod
    def _open(cls, folder: Path, header: dict[str, Any]) -> "TextStates":
        """Open a folder that must have this header."""
        states = cls(folder)
        if states.header != header:
            raise ValueError(
                f"{folder / _HEADER_FILE} must describe {header}, as the folder's name says, got {states.header}: the "
                "folder holds states of another PLM, depth or type."
            )
        return states

    def attach(self, texts: DistinctTexts) -> Any:
        """Copy the dataset of these texts so that its batches hold states instead of token ids.

        Args:
            texts: Texts that have states here.

        Returns:
            A dataset of the same class as `texts.rows`.

        Raises:
            ValueError: If a text has no states.
        """
        found = self.find(texts.keys)
        if lost := int((found < 0).any(axis=1).sum()):
            raise ValueError(
                f"{self.folder} must have the states of all texts in the rows, but lacks {lost:,} of "
                f"{len(found):,}, because the tokenizer, the masks or the texts differ. Compute them with "
                "`TextStates.build`."
            )
        num_texts = int(texts.text_ids.max(initial=-1)) + 1
        entries = np.full((num_texts, found.shape[1]), -1, dtype=np.int64)
        keys = np.zeros(num_texts, dtype=np.uint64)
        entries[texts.text_ids], keys[texts.text_ids] = found, texts.text_keys
        rows: Any = texts.rows
        return replace(rows, text_ids=text_ids_of(rows), cached_texts=CachedTexts(self, entries, keys, texts.collator))

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Number of each text in this file, or -1, shaped like `keys`: keys of `text_keys`."""
        if not len(self):
            return np.full(keys.shape, -1)
        places = np.searchsorted(self._sorted_keys, keys).clip(max=len(self) - 1)
        return np.where(self._sorted_keys[places] == keys, self._order[places], -1)

    def gather(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States of texts as one padded array, and their attention mask.

        Args:
            entries: (U,), numbers of texts as `find` returns them.

        Returns:
            (U, T, H) states in the type of the file, int16 for the bits of bf16; positions after a text's
            last token repeat its state. And (U, T) int64, 1 at text, 0 at padding.
        """
        lengths, positions = self._tokens[entries], np.arange(self._tokens[entries].max(initial=1))
        tokens = self._starts[entries, None] + np.minimum(positions, lengths[:, None] - 1)
        return self._states.take(tokens, axis=0), (positions < lengths[:, None]).astype(np.int64)

    def _states_of(self, entry: int) -> np.ndarray:
        return self._states[self._starts[entry] : self._starts[entry] + self._tokens[entry]]


@dataclass(eq=False)
class CachedTexts:
    """Where the states of a dataset's texts are: what makes its batches hold states.

    Args:
        states: The file.
        entries: (texts, V), per text id and variant, the text's number in the file; -1 if no row has the text.
        text_keys: (texts,), the keys of the texts, not masked.
        collator: The collator of pretraining, which tells the tokens to predict; `None` for click prediction.
    """

    states: TextStates
    entries: np.ndarray
    text_keys: np.ndarray
    collator: Any = None

    def batch(self, rows: TextRows, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Gather the states of a batch's distinct texts.

        Args:
            rows: The dataset.
            positions: (B,), the rows of the batch.

        Returns:
            `text_states` (U, T, H), see `TextStates.gather`; `attention_mask` (U, T); `text_rows` (B,), the text of
            each row; and for pretraining `token_labels` (U, T), the tokens to predict, -100 elsewhere.
        """
        num_variants = self.entries.shape[1]
        variants = np.zeros(len(positions), dtype=np.int64)
        if num_variants > 1:
            variants = chosen_variants(num_variants, self.collator.seed, rows.epoch, rows.row_ids[positions])
        pairs = rows.text_ids[positions] * num_variants + variants
        # unique pairs, the first row of the batch with each, and the pair of each row
        pairs, first, text_rows = np.unique(pairs, return_index=True, return_inverse=True)
        states, attention_mask = self.states.gather(self.entries.ravel()[pairs])
        batch: dict[str, Any] = {
            "text_states": states,
            "attention_mask": attention_mask,
            "text_rows": text_rows.astype(np.int64),
        }
        if isinstance(self.collator, (ClickPromptMLMCollator, ClickPromptCLMCollator)):
            clause_ids = rows.clause_ids[positions[first]]
            keys, variants = self.text_keys[pairs // num_variants], pairs % num_variants
            batch["token_labels"] = variant_tokens(rows, clause_ids, keys, variants, self.collator)[2]
        return batch


def check_state_type(dtype: str) -> None:
    """Raise a `ValueError` for an unknown type of states."""
    if dtype not in get_args(StateType):
        raise ValueError(f"`text_state_dtype` must be one of {get_args(StateType)}, got {dtype!r}.")


def fingerprint_of(model: Any, dtype: StateType) -> str:
    """SHA-256 of what the states of texts depend on: the PLM's lower layers, their number and the type of the states.

    The tokenizer is not part of it, as texts are known by their token ids.

    Args:
        model: A ClickPrompt model with lower layers.
        dtype: Type of the states.
    """
    digest = hashlib.sha256(json.dumps([_VERSION, dtype, model.config.num_lower_layers], default=str).encode())
    settings = {
        name: value for name, value in model.config.text_config.to_dict().items() if name not in _IDLE_SETTINGS
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    hash_weights(digest, lower_weights(model))
    return digest.hexdigest()


def folder_of(folder: str | Path, fingerprint: str) -> Path:
    """Where the states with this fingerprint are, below the folder of the states of all PLMs."""
    return Path(folder) / fingerprint[:32]


def lower_weights(model: Any) -> list[tuple[str, torch.Tensor]]:
    """Names and weights of the PLM's embeddings and lower layers."""
    lower = {id(parameter) for module in model.trunk.lower_modules() for parameter in module.parameters()}
    return [(name, parameter) for name, parameter in model.trunk.plm.named_parameters() if id(parameter) in lower]


def _header_of(model: Any, dtype: StateType) -> dict[str, Any]:
    check_has_lower_layers(model.config, "cache_text_states")
    return {
        "version": _VERSION,
        "fingerprint": fingerprint_of(model, dtype),
        "plm": model.config.text_config.model_type,
        "num_lower_layers": model.config.num_lower_layers,
        "hidden_size": model.config.text_config.hidden_size,
        "dtype": dtype,
    }


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / _HEADER_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} must hold states of texts, but has no {_HEADER_FILE}.")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        int(header["hidden_size"]), str(header["fingerprint"])
        check_state_type(header["dtype"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}. Remove the folder {folder} to compute it again.") from error
    if header.get("version") != _VERSION:
        raise ValueError(
            f"{path} must have version {_VERSION}, as this package writes it, got {header.get('version')}."
        )
    return header


@dataclass
class _Needed:
    """Texts that need states, each once.

    Args:
        keys: (M,)
        lengths: (M,), numbers of tokens.
        sources: (M,), index of a dataset that has the text.
        texts: (M,), index of the text in it.
        variants: (M,)
    """

    keys: np.ndarray
    lengths: np.ndarray
    sources: np.ndarray
    texts: np.ndarray
    variants: np.ndarray

    @classmethod
    def of(cls, sources: Sequence[DistinctTexts]) -> "_Needed":
        if not sources:
            raise ValueError("`texts` must hold at least one dataset's texts, got none.")
        shapes = [source.keys.shape for source in sources]
        keys, first = np.unique(np.concatenate([source.keys.ravel() for source in sources]), return_index=True)
        columns = [
            np.concatenate(
                [np.broadcast_to(source.lengths[:, None], source.keys.shape).ravel() for source in sources]
            ),
            np.repeat(np.arange(len(shapes)), [texts * variants for texts, variants in shapes]),
            np.concatenate([np.repeat(np.arange(texts), variants) for texts, variants in shapes]),
            np.concatenate([np.tile(np.arange(variants), texts) for texts, variants in shapes]),
        ]
        return cls(keys, *(column[first] for column in columns))

    def exclude(self, known: np.ndarray) -> "_Needed":
        """The texts that are not `known`, longest first, so that texts of a batch have similar lengths."""
        kept = np.flatnonzero(~known)
        kept = kept[np.argsort(-self.lengths[kept], kind="stable")]
        return _Needed(*(column[kept] for column in vars(self).values()))


def _announce(folder: Path, header: dict[str, Any], needed: _Needed, missing: _Needed) -> None:
    """Say what will be written, and refuse if the disk is too small."""
    size = int(missing.lengths.sum()) * header["hidden_size"] * _STORED_TYPES[header["dtype"]].itemsize
    size += len(missing.keys) * _RECORD.itemsize
    # a warning, because the default level hides anything less
    logger.warning(
        f"Caching the states of {len(missing.keys):,} texts in {folder}: {missing.lengths.sum():,} tokens, "
        f"{size / 1e6:,.1f} MB in {header['dtype']}. {len(needed.keys) - len(missing.keys):,} others are already "
        "there."
    )
    check_disk_space(
        folder,
        size,
        f"the states of {len(missing.keys):,} texts",
        "Choose another `text_state_dir`, a 16-bit `text_state_dtype`, or fewer text fields",
    )


@contextmanager
def _sole_writer(folder: Path, header: dict[str, Any], quiet: bool) -> Iterator[None]:
    """Wait until no other process writes into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        if not quiet:
            logger.warning(f"Another process is writing into {folder}: waiting for it.")
        lock.acquire()
    try:
        if not (folder / _HEADER_FILE).exists():
            with whole_file(folder / _HEADER_FILE) as partial:
                partial.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
        yield
    finally:
        lock.release()


class _Writer:
    """Appends states to a folder, chunk by chunk.

    Args:
        folder: The folder.
        states: The states in the folder so far.
    """

    def __init__(self, folder: Path, states: TextStates):
        self.folder, self.states_path, self.index_path = folder, folder / _STATES_FILE, folder / _INDEX_FILE
        self.ends = (states.num_bytes, len(states) * _RECORD.itemsize)
        self.type = states.dtype
        self.records: list[np.ndarray] = []
        self.num_bytes = 0

    def __enter__(self) -> "_Writer":
        self.files = [path.open("r+b" if path.exists() else "w+b") for path in (self.states_path, self.index_path)]
        for file, end in zip(self.files, self.ends):
            # what a killed writer has left after its last chunk
            file.truncate(end)
            file.seek(end)
        return self

    def write(self, keys: np.ndarray, lengths: np.ndarray, states: torch.Tensor) -> None:
        """Write texts' states.

        Args:
            keys: (B,)
            lengths: (B,), numbers of tokens.
            states: (tokens, H), the states of all of them without padding.
        """
        stored = states.to(_TORCH_TYPES[self.type]).cpu().contiguous()
        if not stored.isfinite().all():
            raise ValueError(
                f"Text states must be finite in {self.type}, but some are infinite or NaN. Choose another "
                "`text_state_dtype`, or check the PLM's weights."
            )
        array = (stored.view(torch.int16) if self.type == "bf16" else stored).numpy().astype(_STORED_TYPES[self.type])
        records = np.zeros(len(keys), dtype=_RECORD)
        records["key"], records["tokens"] = keys, lengths
        records["checksum"] = [_checksum(part) for part in np.split(array, np.cumsum(lengths)[:-1])]
        with write_errors_naming(self.states_path, self.states_path):
            self.files[0].write(array.data)
        self.records.append(records)
        self.num_bytes += array.nbytes
        if self.num_bytes >= _CHUNK_BYTES:
            self.finish_chunk()

    def finish_chunk(self) -> None:
        """Put the states written so far on the disk, and then into the index."""
        for path, file, content in zip(
            (self.states_path, self.index_path), self.files, (b"", b"".join(part.tobytes() for part in self.records))
        ):
            with write_errors_naming(path, path):
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self.records, self.num_bytes = [], 0

    def __exit__(self, error: Any, *args: Any) -> None:
        try:
            if error is None:
                self.finish_chunk()
        finally:
            for file in self.files:
                file.close()


def _encode(
    model: Any, sources: Sequence[DistinctTexts], missing: _Needed, writer: _Writer, progress_bar: bool
) -> None:
    """Run missing texts through the lower layers, longest first, and write their states."""
    per_batch = _TOKENS_PER_BATCH.get(model.device.type, _TOKENS_PER_ACCELERATOR_BATCH)
    was_training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            logging.tqdm(total=len(missing.keys), desc="text states", unit=" texts", disable=not progress_bar) as bar,
        ):
            for first, stop in _batches(missing, per_batch):
                part = slice(first, stop)
                source = sources[missing.sources[first]]
                input_ids, attention_mask = source.tokens(missing.texts[part], missing.variants[part])
                ids, mask = (torch.from_numpy(array).to(model.device) for array in (input_ids, attention_mask))
                states = model.encode_text(ids, mask)[mask == 1]
                writer.write(missing.keys[part], attention_mask.sum(axis=1), states)
                bar.update(stop - first)
    finally:
        model.train(was_training)


def _batches(missing: _Needed, num_tokens: int) -> Iterator[tuple[int, int]]:
    """Consecutive texts of one dataset with at most `num_tokens` positions together, or one text."""
    first, size = 0, len(missing.keys)
    while first < size:
        stop = min(size, first + max(1, num_tokens // int(missing.lengths[first])))
        others = np.flatnonzero(missing.sources[first:stop] != missing.sources[first])
        if len(others):
            stop = first + int(others[0])
        yield first, stop
        first = stop


def _checksum(states: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(states).data)
