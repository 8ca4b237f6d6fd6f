# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Spell whole Arrow arrays as `canonical` and `normal_spelling` do, without a Python call per plain value."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...columns_clickprompt import cells_of
from ...values_clickprompt import WORDS, canonical, meaning_of
from .distinct import text_buffers

# Words of visible ASCII characters with single spaces in between: `canonical` changes nothing but a `.0` at the end.
_PLAIN = r"^[!-~]+( [!-~]+)*$"
_FIRST_VISIBLE, _LAST_VISIBLE = 0x21, 0x7E
# All numbers, times and durations, and a few other texts; whole numbers in normal spelling mean themselves.
_NUMBER_OR_TIME = r"^([-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|-?[0-9]{4,6}-[0-9]{2}-[0-9]{2}.*|.*(day|:).*)$"
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"
_WORDS = pa.array(sorted(WORDS), pa.large_string())
# In bytes: some letters that take more than one have an ASCII letter as their lower case.
_LONGEST_WORD = 3 * max(map(len, WORDS))


def spelled(values: pa.Array) -> pa.Array:
    """Spell values of any type as `canonical` does: (D,) large strings without nulls, empty where one is missing."""
    kind = values.type
    if pa.types.is_integer(kind):
        return values.cast(pa.large_string()).fill_null("")
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return pa.array(map(canonical, cells_of(values)), pa.large_string())
    texts = values.cast(pa.large_string()).fill_null("")
    return _replaced(texts, ~_is_plain(texts), canonical)


def normally_spelled(values: pa.Array) -> pa.Array:
    """Spell values of any type as `normal_spelling` does: (D,) large strings without nulls."""
    texts = spelled(values)
    if pa.types.is_integer(values.type):
        return texts
    return _replaced(texts, means_other(texts), lambda text: text if (m := meaning_of(text)) is None else m)


def means_other(texts: pa.Array) -> np.ndarray:
    """Whether a text, (D,) as `spelled` returns it, may mean something other than itself, see `meaning_of`.

    False is certain; true is not.
    """
    is_number_or_time = pc.match_substring_regex(texts, _NUMBER_OR_TIME)
    is_whole = pc.match_substring_regex(texts, _WHOLE_NUMBER)
    may_mean = pc.and_not(is_number_or_time, is_whole).to_numpy(zero_copy_only=False)
    short = np.flatnonzero(pc.binary_length(texts).to_numpy(zero_copy_only=False) <= _LONGEST_WORD)
    words = pc.utf8_lower(texts.take(pa.array(short)))
    may_mean[short] |= pc.is_in(words, _WORDS).to_numpy(zero_copy_only=False)
    return may_mean


def is_ascii(texts: pa.Array) -> np.ndarray:
    """Whether all characters of a text are ASCII, (D,)."""
    return pc.string_is_ascii(texts).to_numpy(zero_copy_only=False)


def _is_plain(texts: pa.Array) -> np.ndarray:
    """Whether `canonical` is certain to leave a text unchanged, (D,)."""
    _, lengths, content = text_buffers(texts)
    content = content[: int(lengths.sum())]
    has_no_zero_fraction = ~pc.ends_with(texts, ".0").to_numpy(zero_copy_only=False)
    if len(content) and content.min() >= _FIRST_VISIBLE and content.max() <= _LAST_VISIBLE:
        return has_no_zero_fraction
    return has_no_zero_fraction & pc.match_substring_regex(texts, _PLAIN).to_numpy(zero_copy_only=False)


def _replaced(texts: pa.Array, is_replaced: np.ndarray, function: Callable[[str], str]) -> pa.Array:
    """The texts with `function` applied to some of them, (D,)."""
    if not is_replaced.any():
        return texts
    mask = pa.array(is_replaced)
    return pc.replace_with_mask(
        texts, mask, pa.array(map(function, texts.filter(mask).to_pylist()), pa.large_string())
    )
