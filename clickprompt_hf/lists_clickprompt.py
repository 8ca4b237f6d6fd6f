# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Members of a cell that holds several values: lists of any library, lists written as text, separated strings.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import ast
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .schema_clickprompt import FieldSchema
from .values_clickprompt import canonical, holds_several, normal_spelling, number_of
# isort: on

_QUOTED = r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
# A quoted string, alone or in a call such as np.str_('a') or Timestamp('2024-01-31'); else anything up to a comma.
_MEMBER = re.compile(rf"\s*((?:[A-Za-z_][\w.]*\({_QUOTED}\))|{_QUOTED}|[^,]*?)\s*(?:,|$)", re.DOTALL)
_QUOTED_MEMBER = re.compile(rf"(?:[A-Za-z_][\w.]*\()?({_QUOTED})\)?", re.DOTALL)
# numpy writes arrays without commas.
_ADJACENT_QUOTED = re.compile(rf"{_QUOTED}(?:\s+{_QUOTED})+", re.DOTALL)
_PYTHON_TIME = re.compile(r"datetime\.(?:date|datetime)\((\d+(?:, \d+)+)\)")
_NUMPY_NUMBER = re.compile(r"np\.\w+\(([^()]*)\)")
# What Python prints for characters that cannot be shown, and for quotes and backslashes.
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})|(.))", re.DOTALL
)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t"}
_WRAPPER = re.compile(r"(?:array|tensor|set|frozenset|deque)\((.*?)(?:,\s*[a-z]+=.*)?\)", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d\d")
_ADVICE_FOR_NESTED = "Keep one value of each, or make a column per key"
_MISSING_WORDS = ("None", "null", "nan", "NaN", "<NA>", "NaT", "NULL")


class UnreadableCell(ValueError):
    """A cell of a multi-valued field that is not a list of single values.

    Args:
        field: The field.
        cell: The cell.
        problem: What was expected instead, as the end of a sentence.
        place: Where the cell is, such as `" in row 7"`.

    Attributes:
        index: Index of the cell in the values that were encoded together; `None` if it was read alone.
    """

    index: int | None = None

    def __init__(self, field: FieldSchema, cell: Any, problem: str, place: str = ""):
        self.field, self.cell, self.problem = field, cell, problem
        super().__init__(
            f"Column {field.column!r} of kind {field.kind!r} must hold lists of single values, got {cell!r:.80}"
            f"{place}: {problem}."
        )

    def at(self, place: str) -> "UnreadableCell":
        """The same error with a place in its message."""
        return UnreadableCell(self.field, self.cell, self.problem, place)


def cell_values(cell: Any, field: FieldSchema) -> list[str]:
    """Members of a cell of a multi-valued field, as vocabularies spell them, without missing ones.

    Args:
        cell: A list, tuple, set, array, tensor or column of any library; a mapping from member to weight; a string of
            members separated by `field.separator`; or a list written as text, such as `"[8, 9]"`, `"['a', 'b']"` or
            JSON. Sets are sorted, as their order means nothing. Anything else is the only member.
        field: The field, of kind `"multi_valued"`. With `weight_separator`, members lose their weights, and the
            heaviest come first. Its `missing` words are no members.

    Raises:
        UnreadableCell: If a member is itself a list or a mapping, or a list written as text is abbreviated.
    """
    if isinstance(cell, Mapping):
        members: Iterable = _by_weight(list(cell.items()), cell, field)
    elif isinstance(cell, (set, frozenset)):
        members = sorted(cell, key=canonical)
    elif holds_several(cell):
        members = _plain_members(cell)
    else:
        members = _members_of_text(cell, field)
    members = list(members)
    if members and all(isinstance(member, tuple) and len(member) == 2 for member in members):
        # Arrow's maps, also as pandas writes them to CSV files
        members = _by_weight(members, cell, field)
    for member in members:
        if holds_several(member):
            raise UnreadableCell(field, cell, f"{member!r:.60} holds several values. {_ADVICE_FOR_NESTED}")
    spelled = [text for text in map(canonical, members) if text]
    if field.weight_separator is not None:
        spelled = _without_weights(spelled, field.weight_separator)
    if not field.missing:
        return spelled
    words = set(map(normal_spelling, field.missing))
    return [text for text in spelled if normal_spelling(text) not in words]


def kept_values(values: Sequence[str], field: FieldSchema) -> list[str]:
    """The members that get ids: `max_values` of them, from the start or the end as `field.keep` says."""
    return list(values[-field.max_values :] if field.keep == "last" else values[: field.max_values])


def looks_weighted(values: Collection[str]) -> bool:
    """Whether members have weights, as in `a:0.9`: all of them do, and some member occurs with several weights.

    Times of day, such as `10:30`, are not weights.
    """
    if all(_TIME_OF_DAY.fullmatch(value) for value in values):
        return False
    pairs = {tuple(value.rsplit(":", 1)) for value in values}
    if not pairs or not all(len(pair) == 2 and pair[0] and np.isfinite(number_of(pair[1])) for pair in pairs):
        return False
    return len({pair[0] for pair in pairs}) < len(pairs)


def _plain_members(cell: Any) -> list[Any]:
    # Members of Arrow arrays are Arrow scalars.
    return [member.as_py() if hasattr(member, "as_py") else member for member in cell]


def _by_weight(pairs: Sequence[tuple[Any, Any]], cell: Any, field: FieldSchema) -> list[Any]:
    """Members of (member, weight) pairs, the heaviest first."""
    if not all(np.isfinite(number_of(weight)) for _, weight in pairs):
        raise UnreadableCell(
            field, cell, "the values of a mapping must be weights. Keep its keys or its values as a list"
        )
    return [member for member, _ in sorted(pairs, key=lambda pair: -number_of(pair[1]))]


def _without_weights(values: Sequence[str], separator: str) -> list[str]:
    """Strip weights and sort by them; members without a weight have weight 1."""
    weighted = []
    for value in values:
        member, mark, weight = value.rpartition(separator)
        number = number_of(weight)
        is_weighted = bool(mark and member.strip()) and np.isfinite(number)
        weighted.append((member.strip(), number) if is_weighted else (value, 1.0))
    return [member for member, _ in sorted(weighted, key=lambda pair: -pair[1])]


def _members_of_text(cell: Any, field: FieldSchema) -> list[Any]:
    text = canonical(cell)
    if (listed := _listed_members(text, cell, field)) is not None:
        return listed
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", errors="replace")
    if isinstance(cell, str) and re.search(r"[^\S ]|  ", field.separator):
        # Spelling collapses white space, such as tabs and the separators of ASCII: split before it.
        return cell.split(field.separator)
    return text.split(field.separator)


def _listed_members(text: str, cell: Any, field: FieldSchema) -> list[Any] | None:
    """Members of a list written as text; `None` if the text is not one.

    Brackets and braces around words without quotes count as a list, as SQL engines write it: `[a, b]`, `{a,b}`.
    Parentheses are common in names and count only around several quoted strings or numbers.
    """
    if wrapped := _WRAPPER.fullmatch(text):
        text = wrapped[1].strip()
        if not text:
            # set()
            return []
    if len(text) < 2 or _BRACKETS.get(text[0]) != text[-1]:
        return None
    text = _PYTHON_TIME.sub(_quoted_time, text)
    inner = text[1:-1].strip()
    if text[0] != "(" and _ADJACENT_QUOTED.fullmatch(inner):
        # before Python, which would make one string of them
        return [_literal(member)[0] for member in re.findall(_QUOTED, inner)]
    parsed = _parsed(text)
    if isinstance(parsed, Mapping):
        return _by_weight(list(parsed.items()), cell, field) if parsed else []
    if isinstance(parsed, list):
        return parsed
    if not inner:
        return []
    if inner[0] in "[{" and text[0] == "[":
        raise UnreadableCell(field, cell, f"{inner[:60]!r} holds several values. {_ADVICE_FOR_NESTED}")
    members = [found[1] for found in _MEMBER.finditer(inner)]
    # A comma at the end, as in "(8,)", leaves an empty member, and so does the end of the text.
    while members and not members[-1]:
        members.pop()
    if len(members) == 1:
        members = _without_commas(members[0])
    if "..." in members:
        raise UnreadableCell(field, cell, "the list is abbreviated, so members are lost. Write complete lists")
    read = [_literal(member) for member in members]
    if all(is_literal for _, is_literal in read) and (text[0] != "(" or "," in inner):
        return [member for member, _ in read]
    is_bare = text[0] in "[{" and not any(mark in inner for mark in "[]") and not _separates(inner, field.separator)
    return [member for member, _ in read] if is_bare else None


def _parsed(text: str) -> Any:
    """The list or mapping that JSON or Python reads in `text`; `None` if neither does."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    if "{" in text or text.startswith(("[[", "[(")):
        try:
            value = ast.literal_eval(_NUMPY_NUMBER.sub(r"\1", text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        return value if isinstance(value, (dict, list)) else None
    return None


def _separates(text: str, separator: str) -> bool:
    return separator.strip() not in ("", ",") and separator in text


def _without_commas(text: str) -> list[str]:
    """Members of a list without commas, as numpy writes it: numbers, else one member."""
    parts = text.split()
    return parts if all(_is_number(part) or part == "..." for part in parts) else [text]


def _literal(member: str) -> tuple[Any, bool]:
    """A member of a list written as text, and whether it is a quoted string, a number or a word for missing."""
    if quoted := _QUOTED_MEMBER.fullmatch(member):
        return _ESCAPE.sub(_unescaped, quoted[1][1:-1]), True
    if number := _NUMPY_NUMBER.fullmatch(member):
        member = number[1]
    if member in ("np.True_", "np.False_"):
        member = member[3:-1]
    if member in _MISSING_WORDS:
        return None, True
    return member, _is_number(member) or member in ("True", "False", "true", "false")


def _quoted_time(found: re.Match) -> str:
    """A date or time as Python prints it, such as `datetime.date(2024, 1, 31)`, as a quoted string."""
    try:
        return repr(canonical(datetime(*map(int, found[1].split(", ")))))  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return found[0]


def _unescaped(found: re.Match) -> str:
    *codes, character = found.groups()
    code = next(filter(None, codes), None)
    return chr(int(code, 16)) if code else _CONTROLS.get(character, character)


def _is_number(text: str) -> bool:
    return np.isfinite(number_of(text)) or text.lower() in ("inf", "-inf", "infinity", "-infinity")
