# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Objects in JSON and YAML whose keys must differ."""

from collections.abc import Sequence
from typing import Any


def check_different_keys(keys: Sequence[Any], where: str = "") -> None:
    """Refuse repeated keys: a dictionary would keep the last value without a word.

    Args:
        keys: The keys.
        where: Where they are, for the message, such as `" in line 3"`.

    Raises:
        ValueError: If one is repeated. Its message is the end of a sentence.
    """
    if repeated := [key for number, key in enumerate(keys) if key in keys[:number]]:
        raise ValueError(f"the key {repeated[0]!r} is repeated{where}")


def unrepeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object with the given keys and values, as the `object_pairs_hook` of `json.loads`.

    Raises:
        ValueError: If a key is repeated.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        check_different_keys([key for key, _ in pairs])
    return found
