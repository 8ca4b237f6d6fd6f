# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The arguments of `processor(rows)` that transformers' processors and tokenizers have: each is obeyed or refused.

This file ships with every checkpoint, so it imports only transformers and the standard library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from numbers import Integral
from typing import Any

from transformers.tokenization_utils_base import LARGE_INTEGER

_NESTED = ("text_kwargs", "common_kwargs")
_TENSORS = ("pt", "np")
_PADDING = {True: "longest", False: "do_not_pad"} | {name: name for name in ("longest", "max_length", "do_not_pad")}
_TRUNCATION = {True: True, False: False, "longest_first": True, "only_first": True, "do_not_truncate": False}
_ONE_TEXT = "each row has one text, rendered from its fields"
_OTHER_INPUTS = "a processor of rows reads no images, videos or audio"
# Arguments that have no effect at one value, and why other values are refused.
_NEUTRAL: dict[str, tuple[Any, str]] = {
    **dict.fromkeys(("text_pair", "text_target", "text_pair_target"), (None, _ONE_TEXT)),
    **dict.fromkeys(("images", "videos", "audio"), (None, _OTHER_INPUTS)),
    **dict.fromkeys(("images_kwargs", "videos_kwargs", "audio_kwargs"), ({}, _OTHER_INPUTS)),
    "is_split_into_words": (False, _ONE_TEXT),
    "return_token_type_ids": (False, _ONE_TEXT),
    "stride": (0, "tokens that truncation removes are not returned"),
    "return_overflowing_tokens": (False, "tokens that truncation removes are not returned"),
    "return_offsets_mapping": (False, "the model does not read it"),
    "return_length": (False, "sum `attention_mask` instead"),
    "return_mm_token_type_ids": (False, _OTHER_INPUTS),
    "return_text_replacement_offsets": (False, _OTHER_INPUTS),
    "split_special_tokens": (True, "text is never taken for special tokens"),
    "sanitize_control_tokens": (True, "text is never taken for special tokens"),
    "padding_side": ("right", "prompts come before the text, and positions count from its first token"),
}


@dataclass(frozen=True)
class TextOptions:
    """How a call of the processor tokenizes, truncates and pads its texts. Arguments are those of tokenizers.

    Args:
        return_tensors: `"pt"` for tensors, `"np"` for arrays, `None` for lists.
        padding: `True` or `"longest"`, `"max_length"`, or `False`. By default texts are padded if tensors or arrays
            are asked for.
        truncation: `True`, `"longest_first"` or `"only_first"`, or `False`. By default texts are truncated if there is
            a limit.
        max_length: Maximum number of tokens per text, special tokens included, at least 1. Defaults to the processor's
            `max_text_length`.
        pad_to_multiple_of: Rounds the padded length up to a multiple of it.
        add_special_tokens: Whether to put special tokens around the text.
        return_attention_mask: Whether to return `attention_mask`.
        return_special_tokens_mask: Whether to return `special_tokens_mask`, 1 for special tokens and padding.
        verbose: Ignored: there is nothing to report.

    Raises:
        ValueError: If an argument has a wrong value; the message names it.
    """

    return_tensors: str | None = None
    padding: bool | str | None = None
    truncation: bool | str | None = None
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    add_special_tokens: bool = True
    return_attention_mask: bool = True
    return_special_tokens_mask: bool = False
    verbose: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                object.__setattr__(self, field.name, field.default)
            elif isinstance(value, Enum):
                # transformers' PaddingStrategy, TruncationStrategy and TensorType
                object.__setattr__(self, field.name, value.value)
            elif isinstance(field.default, bool) and not isinstance(value, bool):
                raise ValueError(f"`{field.name}` must be True or False, got {value!r}.")
        for name, values in (("return_tensors", _TENSORS), ("padding", _PADDING), ("truncation", _TRUNCATION)):
            value = getattr(self, name)
            # 1 equals True.
            if value is not None and not (isinstance(value, (bool, str)) and value in values):
                raise ValueError(f"`{name}` must be one of {[*values, None]}, got {value!r}.")
        for name in ("max_length", "pad_to_multiple_of"):
            if (value := getattr(self, name)) is not None:
                check_positive_integer(name, value)
        if self.pad_to_multiple_of is not None:
            if self.padding_strategy == "do_not_pad":
                raise ValueError(
                    f"`pad_to_multiple_of` needs `padding` or `return_tensors`, got {self.pad_to_multiple_of} without."
                )
            if self.max_length is not None and self.max_length % self.pad_to_multiple_of:
                raise ValueError(
                    f"`max_length` must be a multiple of `pad_to_multiple_of`, got {self.max_length} and "
                    f"{self.pad_to_multiple_of}."
                )

    @classmethod
    def of_call(cls, arguments: Mapping[str, Any]) -> "TextOptions":
        """Read the arguments of a call, which may be nested in `text_kwargs` and `common_kwargs`.

        Raises:
            TypeError: If a name is unknown; the message lists the known ones.
            ValueError: If an argument has a wrong value, asks for what a processor of rows cannot do, or is given
                twice.
        """
        given = dict(arguments)
        nested = {name: _mapping(name, given.pop(name, None)) for name in _NESTED}
        if twice := sorted(given.keys() & nested["text_kwargs"].keys()):
            raise ValueError(f"`text_kwargs` must not repeat arguments of the call, got {twice} in both.")
        given = {**nested["common_kwargs"], **nested["text_kwargs"], **given}
        if "text" in given:
            raise TypeError(
                "`text` must be left out: the processor renders texts itself. Pass the raw rows as the first argument."
            )
        known = {field.name for field in fields(cls)}
        if unknown := sorted(given.keys() - known - _NEUTRAL.keys()):
            raise TypeError(
                f"Unknown arguments {unknown}; known arguments are rows, with_text, row_offset, {sorted(known)}."
            )
        for name, (neutral, reason) in _NEUTRAL.items():
            value = given.pop(name, None)
            if value is not None and value != neutral:
                raise ValueError(f"`{name}` must be {neutral!r} or left out: {reason}. Got {value!r}.")
        return cls(**given)

    @property
    def padding_strategy(self) -> str:
        """`"longest"`, `"max_length"` or `"do_not_pad"`."""
        padding = self.return_tensors is not None if self.padding is None else self.padding
        return _PADDING[padding]

    def token_limit(self, tokenizer, max_text_length: int | None) -> int | None:
        """Maximum number of tokens per text, special tokens included; `None` for no limit.

        Args:
            tokenizer: Its `model_max_length` is the limit if truncation is asked for and there is no other.
            max_text_length: The processor's limit.
        """
        if self.truncation is not None and not _TRUNCATION[self.truncation]:
            return None
        limit = max_text_length if self.max_length is None else self.max_length
        return limit if limit is not None or self.truncation is None else _model_max_length(tokenizer)

    def padded_length(self, longest: int, tokenizer, max_text_length: int | None) -> int:
        """Number of tokens to pad to.

        Args:
            longest: Number of tokens of the longest text.
            tokenizer: As in `token_limit`.
            max_text_length: As in `token_limit`.

        Raises:
            ValueError: If a text is longer than the length to pad to, or there is none.
        """
        if self.padding_strategy == "max_length":
            lengths = (self.max_length, max_text_length, _model_max_length(tokenizer))
            target = next((length for length in lengths if length is not None), None)
            if target is None:
                raise ValueError(
                    "`padding='max_length'` needs `max_length`, as neither processor nor tokenizer has one."
                )
            if longest > target:
                raise ValueError(
                    f"`padding='max_length'` pads to {target} tokens, but a text has {longest}: raise `max_length` or "
                    "leave out `truncation=False`."
                )
            longest = target
        multiple = self.pad_to_multiple_of or 1
        return -(-longest // multiple) * multiple


def check_positive_integer(name: str, value: Any) -> None:
    """Raise a ValueError if the argument `name` is not an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1, got {value!r}.")


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a mapping from argument to value, got {value!r}.")
    return dict(value)


def _model_max_length(tokenizer) -> int | None:
    # Tokenizers that know no limit hold a huge number.
    return None if tokenizer.model_max_length > LARGE_INTEGER else tokenizer.model_max_length
