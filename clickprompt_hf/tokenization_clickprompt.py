# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Texts to token ids, the same way for token tables, `processor(rows)`, the pipeline and scoring.

Text is only text: a title that holds `</s>` or `[MASK]` never becomes a control token. Tokens that a user added with
`tokenizer.add_tokens` stay tokens. A tokenizer's own settings are never changed.

This file ships with every checkpoint, so it imports only numpy and the standard library.
"""

import copy
import json
import re
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_TEXTS_PER_CALL = 10_000
# T5 has no mask token. In its pretraining, this token replaces a removed span.
_T5_FIRST_SENTINEL = "<extra_id_0>"
# Tokens that may stand for padding, which is never read. Decoders have no padding token.
_PADDING_SUBSTITUTES = ("eos_token", "sep_token", "bos_token", "unk_token")


def complete_tokenizer(tokenizer):
    """Choose existing tokens for padding and masking if a tokenizer has none.

    Args:
        tokenizer: A tokenizer of transformers. It does not change.

    Returns:
        The tokenizer itself if it lacks nothing, else a completed copy. There may still be no mask token.

    Raises:
        ValueError: If the tokenizer has no token to pad with.
    """
    missing = {}
    if tokenizer.pad_token_id is None:
        substitutes = (getattr(tokenizer, name) for name in _PADDING_SUBSTITUTES)
        missing["pad_token"] = next((token for token in substitutes if token is not None), None)
        if missing["pad_token"] is None:
            raise ValueError(
                "`tokenizer` must have a padding token, or an end-of-text token to pad with, but this "
                f"{type(tokenizer).__name__} has neither: set its `pad_token`."
            )
    if tokenizer.mask_token is None and _T5_FIRST_SENTINEL in tokenizer.get_vocab():
        missing["mask_token"] = _T5_FIRST_SENTINEL
    if missing:
        tokenizer = copy.deepcopy(tokenizer)
        for name, token in missing.items():
            setattr(tokenizer, name, token)
    return tokenizer


def at_rest(tokenizer):
    """The tokenizer without traces of its last call: itself, or a copy if there are any.

    A call leaves its truncation and padding in a fast tokenizer's backend, and whether it has warned.
    """
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    if not tokenizer.deprecation_warnings and (backend is None or backend.truncation is backend.padding is None):
        return tokenizer
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.deprecation_warnings = {}
    if backend is not None:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def control_tokens(tokenizer) -> set[str]:
    """Tokens that steer a model, such as `</s>` and `[MASK]`, unlike tokens that a user added for words."""
    added = tokenizer.added_tokens_decoder.values()
    return {*map(str, tokenizer.all_special_tokens), *(token.content for token in added if token.special)}


def tokenize(
    tokenizer, texts: Sequence[str], max_length: int | None = None, add_special_tokens: bool = True
) -> list[list[int]]:
    """Tokenize texts, in which nothing is a control token, and truncate them on the tokenizer's `truncation_side`.

    Args:
        tokenizer: A tokenizer of transformers. Its settings do not change.
        texts: B texts.
        max_length: Maximum number of tokens per text, special tokens included. `None` for no limit.
        add_special_tokens: Whether to put the tokenizer's special tokens around each text.

    Returns:
        Token ids of each text, unpadded.

    Raises:
        ValueError: If `max_length` leaves no room for the special tokens.
    """
    backend, around = _plain(tokenizer)
    if not add_special_tokens:
        around = SpecialTokens([], [])
    return token_lists(backend, texts, around, kept_tokens(tokenizer, around, max_length))


class SpecialTokens(NamedTuple):
    """Ids of the special tokens before and after a text."""

    before: list[int]
    after: list[int]


def token_lists(
    backend, texts: Sequence[str], around: SpecialTokens, kept: tuple[int | None, int | None]
) -> list[list[int]]:
    """Tokenize texts by a backend without truncation and padding, for which control tokens are text.

    Args:
        backend: As `plain_backend` or `without_control_tokens` return it.
        texts: B texts.
        around: Special tokens to put around each text.
        kept: Slice of a text's own tokens to keep, as `kept_tokens` returns it.

    Returns:
        Token ids of each text, unpadded.
    """
    start, stop = kept
    tokenized = []
    # In parts, as each encoding takes kilobytes.
    for first in range(0, len(texts), _TEXTS_PER_CALL):
        encoded = backend.encode_batch_fast(list(texts[first : first + _TEXTS_PER_CALL]), add_special_tokens=False)
        tokenized += [[*around.before, *text.ids[start:stop], *around.after] for text in encoded]
    return tokenized


def special_tokens_around(tokenizer) -> SpecialTokens:
    """Find the special tokens that the tokenizer puts before and after a text.

    Raises:
        ValueError: If it puts them elsewhere.
    """
    return _plain(tokenizer).around


def kept_tokens(tokenizer, around: SpecialTokens, max_length: int | None) -> tuple[int | None, int | None]:
    """The slice of a text's own tokens that truncation to `max_length` tokens keeps.

    Raises:
        ValueError: If `max_length` leaves no room for the special tokens.
    """
    if max_length is None:
        return None, None
    num_special = len(around.before) + len(around.after)
    if max_length < max(num_special, 1):
        raise ValueError(
            f"The maximum text length must be at least {max(num_special, 1)} tokens, the tokenizer's number of "
            f"special tokens, got {max_length}: raise `max_text_length` or `max_length`."
        )
    room = max_length - num_special
    if tokenizer.truncation_side == "right":
        return None, room
    return (-room, None) if room else (0, 0)


class _Encoding(NamedTuple):
    """Tokens of a text from a tokenizer in Python, which does not report the characters of each token."""

    ids: list[int]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        return [(0, 0)] * len(self.ids)


class _PythonBackend:
    """A tokenizer written in Python, in the form of a fast tokenizer's backend."""

    def __init__(self, tokenizer, control: set[str]):
        self._tokenizer = tokenizer
        longest_first = sorted(filter(_is_longer_than_a_character, control), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool) -> list[_Encoding]:
        return [_Encoding([token for part in self._cut(text) for token in self._encode(part)]) for text in texts]

    encode_batch_fast = encode_batch

    def _encode(self, text: str) -> list[int]:
        # Otherwise a long text leaves a mark in the tokenizer, which would change its hash.
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _cut(self, text: str) -> list[str]:
        """Cut a text within each control token, so that no part holds one."""
        parts = []
        while found := self._control.search(text):
            cut = found.start() + 1
            parts.append(text[:cut])
            text = text[cut:]
        return [*parts, text]


def _is_longer_than_a_character(token: str) -> bool:
    # Some tokenizers pad with "!". Without it, "Up!" could not be written.
    return len(token) > 1


def plain_backend(tokenizer):
    """Return a copy of a fast tokenizer's backend without truncation and padding, for which control tokens are text.

    It is shared: do not change it. A call of the tokenizer itself writes its truncation and padding into the backend,
    where other threads and the tokenizer's owner read them. A tokenizer in Python is returned in the same form.
    """
    return _plain(tokenizer).backend


class _Plain(NamedTuple):
    """What `plain_backend` and `special_tokens_around` return for a tokenizer."""

    backend: Any
    around: SpecialTokens


_PLAIN: "weakref.WeakKeyDictionary[Any, tuple[Any, _Plain]]" = weakref.WeakKeyDictionary()
_PLAIN_LOCK = threading.Lock()


def _plain(tokenizer) -> _Plain:
    if not tokenizer.is_fast:
        # Tokenizers in Python have no such state.
        ids = tokenizer.build_inputs_with_special_tokens([-1])
        around = _split_around(tokenizer, ids, [token != -1 for token in ids])
        return _Plain(_PythonBackend(tokenizer, control_tokens(tokenizer)), around)
    backend = tokenizer.backend_tokenizer
    # What may change after the first call: added tokens, control tokens and the special tokens around a text.
    post_processor = backend.post_processor
    state = (
        id(backend),
        # Not their number: a token of the vocabulary can be added too, which keeps it from being split.
        [repr(token) for token in backend.get_added_tokens_decoder().values()],
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        None if post_processor is None else post_processor.__getstate__(),
    )
    with _PLAIN_LOCK:
        known_state, plain = _PLAIN.get(tokenizer, (None, None))
        if plain is None or known_state != state:
            copied = without_control_tokens(backend, control_tokens(tokenizer))
            framed = copied.encode("a 0")
            plain = _Plain(copied, _split_around(tokenizer, framed.ids, framed.special_tokens_mask))
            _PLAIN[tokenizer] = (state, plain)
    return plain


def _split_around(tokenizer, ids: list[int], is_special: Sequence[int]) -> SpecialTokens:
    """The special tokens before and after a text in the token ids of one."""
    text = [position for position, special in enumerate(is_special) if not special]
    if not text or text != list(range(text[0], text[-1] + 1)):
        raise ValueError(
            f"`tokenizer` must add special tokens only before and after a text, but {type(tokenizer).__name__} does "
            "not."
        )
    return SpecialTokens(ids[: text[0]], ids[text[-1] + 1 :])


def without_control_tokens(backend, control: set[str]):
    """Copy a backend without its truncation and padding, and rename its control tokens to what no text holds.

    Splitting them in a text is not enough: a Unigram model, or a model of whole words, knows them as pieces of text,
    and finds them again.
    """
    names = {
        token: f"\n\ufdd0{number}" for number, token in enumerate(sorted(filter(_is_longer_than_a_character, control)))
    }
    state = json.loads(backend.to_str())
    state["truncation"] = state["padding"] = None
    for token in state["added_tokens"]:
        if token["content"] in names:
            # A normalizer could turn the new name into a common word.
            token.update(content=names[token["content"]], normalized=False, special=True)
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(token, token): token_id for token, token_id in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        model["merges"] = [
            [left, right] for left, right in model["merges"] if not {left, right, left + right[prefix:]} & names.keys()
        ]
    copied = type(backend).from_str(json.dumps(state))
    copied.encode_special_tokens = True
    return copied


def padded_on_right(lists: list[list[int]], width: int, filler: int) -> np.ndarray:
    """Pad lists to (B, width) int64, on the right: on the left, padding would shift the positions of the text."""
    padded = np.full((len(lists), width), filler, dtype=np.int64)
    lengths = np.asarray([len(values) for values in lists], dtype=np.int64)
    padded[np.arange(width) < lengths[:, None]] = [value for values in lists for value in values]
    return padded
