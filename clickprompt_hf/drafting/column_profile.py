# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What is known of a column of an unknown table, and the field that it suggests."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .column_names import suggests_ids, suggests_places, words_of
from .written_numbers import Marks

_WORDS, _DIGIT = re.compile(r"[^\W_]+"), re.compile(r"\d")
CODE = re.compile(r"[A-Za-z]+[-_ ]?\d+|\d+[-_ ]?[A-Za-z]+|@\w+")
_HEX, _BASE64 = re.compile(r"[0-9a-fA-F]{8,}"), re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CASE_CHANGES = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")
# In columns whose names do not suggest ids, fewer codes may be categories that mean something, such as age ranges.
_MIN_CODES, _SHARE_OF_CODES = 50, 0.9
# What is less likely than this is no coincidence.
CHANCE = 1e-6


@dataclass
class ColumnProfile:
    """What a column holds, and the field that it suggests.

    Shapes: N rows, V distinct values.

    Args:
        name: The column's name.
        values: Distinct values as vocabularies spell them, most frequent first, without missing ones.
        counts: (V,) rows per value.
        value_ids: (N,) each row's index into `values`; -1 if missing.
        kind: `"categorical"`, `"numeric"`, `"multi_valued"`, `"text"`, `"vector"`, or `"time"`, which suggests one
            field per part, such as the hour.
        options: Other keys of the `FieldSchema` that differ from their defaults; for times, also their `parts`.
        summary: Figures of this kind in words, such as a range.
        doubts: Sentences on what a person should check.
        reason_left_out: Why the column should not be a field; empty if it should.
        auc: AUC of ranking rows by this column alone; `None` if unknown.
        numbers: (V,) values as numbers, times as seconds, NaN if a value is neither; `None` for other kinds.
        are_amounts: Whether the values are numbers that are not written plainly, such as `12 kg`.
        marks: Marks with which a CSV file would have to be read if a doubt about numbers is right; `None` without one.
    """

    name: str
    values: list[str]
    counts: np.ndarray
    value_ids: np.ndarray
    kind: str = "categorical"
    options: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    doubts: list[str] = field(default_factory=list)
    reason_left_out: str = ""
    auc: float | None = None
    numbers: np.ndarray | None = None
    are_amounts: bool = False
    marks: Marks | None = None

    @property
    def num_rows(self) -> int:
        return len(self.value_ids)

    @property
    def missing(self) -> float:
        """Share of rows without a value. In columns of numbers or times, any other value counts as missing."""
        if self.numbers is not None:
            return float(np.isnan(np.append(self.numbers, np.nan)[self.value_ids]).mean())
        return float((self.value_ids < 0).mean())

    @property
    def words(self) -> set[str]:
        """The words of the column's name, in lower case."""
        return words_of(self.name)

    @property
    def is_named_id(self) -> bool:
        """Whether the column's name suggests ids or codes."""
        return suggests_ids(self.words)

    @property
    def is_named_place(self) -> bool:
        """Whether the column's name suggests places."""
        return suggests_places(self.words)

    @property
    def has_only_codes(self) -> bool:
        """Whether the values are ids or codes, such as `4711`, `u17f3` or `02139`, without any words."""
        if self.kind not in ("categorical", "multi_valued") or not self.values or self.are_amounts:
            return False
        is_code = np.asarray([_is_code(value) or _is_hash(value) for value in self.values])
        has_codes = self.counts[is_code].sum() >= _SHARE_OF_CODES * self.counts.sum()
        many = self.is_named_id or len(self.values) > _MIN_CODES
        return bool(has_codes) and (many or all(map(_is_hash, self.values)))

    def share(self, value_id: int) -> float:
        """Share of rows with a value, given its index in `values`."""
        return float(self.counts[value_id] / self.num_rows)


def _is_code(value: str) -> bool:
    """Whether each part of a value has digits in all its words, or is a word followed by a number."""
    parts = [part for part in re.split(r"[\s,;|]+", value) if part]
    return bool(parts) and all(
        CODE.fullmatch(part) or all(map(_DIGIT.search, _WORDS.findall(part) or [""])) for part in parts
    )


def _is_hash(value: str) -> bool:
    """Whether a value looks like a hash in hexadecimal digits or base64, or like a UUID."""
    if _HEX.fullmatch(value):
        return bool(re.search(r"\d", value) and re.search(r"[a-fA-F]", value))
    if _UUID.fullmatch(value):
        return True
    # Words written together change case less often.
    changes = len(_CASE_CHANGES.findall(value))
    return bool(_BASE64.fullmatch(value) and _DIGIT.search(value)) and changes >= 0.35 * len(value)


def question_words(profile: ColumnProfile, doubt: str) -> None:
    """Question a column that is categorical because of how it is written, or leave it out if values hardly repeat."""
    if 2 * len(profile.values) > profile.counts.sum():
        profile.reason_left_out = doubt
    else:
        profile.doubts.append(doubt)
