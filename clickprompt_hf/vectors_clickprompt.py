# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Cells that hold vectors: how they are read, and the scale that the backbone reads them in.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.

Shapes: N rows, n numbers per vector.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .schema_clickprompt import FieldSchema
from .values_clickprompt import canonical, holds_several, normal_spelling, number_of
# isort: on

# Entries that hardly differ between training rows are constants with rounding errors of 32-bit numbers. Of a number,
# those are a few times 6e-8. Of a PLM's states, they are relative to all entries, whose products the layers add up:
# up to 7e-6 between batches of other texts (MiniLM), where the spread of entries that vary is above 0.5.
_LEAST_SPREAD, _LEAST_SPREAD_OF_STATES = 1e-6, 2.0**-16
_NUMPY_NUMBER = re.compile(r"np\.\w+\(([^()]*)\)")
# such as array([0.1, 0.2], dtype=float32); the second group is the part in brackets
_WRITTEN_LIST = re.compile(r"(?:(?:array|tensor)\()?([\[({]?)([^\[\](){}]*?)[\])}]?(?:,\s*\w+=[\w.]+)?\)?")


class UnreadableVector(ValueError):
    """A cell of a vector field that is not a vector, or not one of the right size.

    Args:
        field: The field.
        cell: The cell.
        problem: What is wrong, as the end of a sentence.
        index: Index of the cell in the cells that were read together.
        place: Where the cell is, such as `" in row 7"`.
    """

    def __init__(self, field: FieldSchema, cell: Any, problem: str, index: int = 0, place: str = ""):
        self.field, self.cell, self.problem, self.index = field, cell, problem, index
        # numpy abbreviates long arrays
        shown = str(cell) if isinstance(cell, np.ndarray) else repr(cell)
        super().__init__(
            f"Column {field.column!r} must hold vectors of finite numbers, all of the same size, got "
            f"{' '.join(shown.split())[:80]}{place}: {problem}."
        )

    def at(self, place: str) -> "UnreadableVector":
        """The same error with a place in its message."""
        return UnreadableVector(self.field, self.cell, self.problem, self.index, place)


@dataclass(frozen=True, eq=False)
class VectorScale:
    r"""Mean and standard deviation of each entry of a field's vectors in the training rows.

    Backbones read \\((x - \text{mean}) / \text{std}\\), so that vectors of any scale train alike.

    Args:
        mean: (n,) float64.
        std: (n,) float64, at least 0; 0 for entries that are the same in all rows, which backbones read as 0.
            Checkpoints of earlier versions have 1 there.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of_moments(cls, mean: np.ndarray, variance: np.ndarray, of_states: bool = False) -> "VectorScale":
        """The scale of vectors with these moments.

        Args:
            mean: (n,)
            variance: (n,)
            of_states: Whether the vectors are states of a PLM, whose entries have rounding errors of one size; those
                of other vectors may differ in scale.
        """
        std, least = np.sqrt(variance), _LEAST_SPREAD * np.abs(mean)
        if of_states:
            least = np.maximum(least, _LEAST_SPREAD_OF_STATES * np.sqrt(np.mean(mean**2 + variance)))
        return cls(mean, np.where(std > least, std, 0.0))

    @property
    def size(self) -> int:
        """n."""
        return len(self.mean)

    def standardized(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (N, n) as the backbone reads them, float32; NaN stays NaN."""
        varies = self.std > 0
        with np.errstate(over="ignore"):
            standardized = (vectors - self.mean) / np.where(varies, self.std, 1.0)
            return np.where(varies, standardized, 0.0 * vectors).astype(np.float32)

    def to_dict(self) -> dict[str, list[float]]:
        """Plain data, as in `processor_config.json`."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[float]]) -> "VectorScale":
        """Read plain data.

        Raises:
            ValueError: If it is not two lists of finite numbers of the same length.
        """
        try:
            scale = cls(*(np.asarray(data[name], dtype=np.float64) for name in ("mean", "std")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"a vector's scale must have numbers as `mean` and `std`, got {data!r:.200}") from error
        finite = np.isfinite(scale.mean).all() and np.isfinite(scale.std).all()
        if scale.mean.ndim != 1 or scale.mean.shape != scale.std.shape or not finite or (scale.std < 0).any():
            raise ValueError(
                "a vector's scale must have two lists of finite numbers of one length as `mean` and `std`, the second "
                f"at least 0, got {data!r:.200}"
            )
        return scale


def read_vectors(cells: Sequence, field: FieldSchema, size: int | None = None) -> tuple[np.ndarray, int | None]:
    """Read cells that hold vectors.

    Args:
        cells: N cells: lists, tuples, arrays or tensors of numbers, lists written as text, such as `"[0.1, 0.2]"`, or
            missing ones: `None`, NaN, blank or empty.
        field: Their field.
        size: n; by default that of the first vector.

    Returns:
        (N, n) float64, NaN in the rows of missing vectors, and n; (N, 0) and `None` if all are missing.

    Raises:
        UnreadableVector: If a cell is not a vector, has another size, or has an entry that is not finite.
    """
    vectors = [_read(cell, field, index) for index, cell in enumerate(cells)]
    for index, vector in enumerate(vectors):
        if vector is None:
            continue
        size = len(vector) if size is None else size
        if len(vector) != size:
            raise UnreadableVector(field, cells[index], f"it has {len(vector)} numbers, others have {size}", index)
    missing = np.full(size or 0, np.nan)
    stacked = [missing if vector is None else vector for vector in vectors]
    return np.asarray(stacked, dtype=np.float64).reshape(len(cells), size or 0), size


def check_finite(vectors: np.ndarray, field: FieldSchema, missing: np.ndarray, start: int = 0) -> None:
    """Refuse vectors (N, n) with entries that are not finite, except `missing` ones (N,).

    Raises:
        UnreadableVector: On the first one; its index counts from `start`.
    """
    broken = ~np.isfinite(vectors).all(axis=1) & ~missing
    if broken.any():
        row = int(broken.argmax())
        entry = int((~np.isfinite(vectors[row])).argmax())
        problem = f"entry {entry} is {vectors[row, entry]}"
        raise UnreadableVector(field, vectors[row], problem, start + row)


def _read(cell: Any, field: FieldSchema, index: int) -> np.ndarray | None:
    """A cell as (n,) float64; `None` if it is missing."""
    if holds_several(cell):
        members: Any = cell
    else:
        text = canonical(cell)
        if not text or normal_spelling(text) in set(map(normal_spelling, field.missing)):
            return None
        members = _members(text)
    try:
        if isinstance(members, (Mapping, set, frozenset)):
            raise TypeError
        array = np.asarray(members)
        if array.dtype.kind not in "fiub":
            array = np.asarray([number_of(member) for member in members])
    except (TypeError, ValueError) as error:
        raise UnreadableVector(field, cell, "it is not a list of numbers", index) from error
    if array.ndim != 1:
        raise UnreadableVector(field, cell, f"it has the shape {array.shape}", index)
    if not len(array):
        return None
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        entry = int((~np.isfinite(array)).argmax())
        raise UnreadableVector(field, cell, f"entry {entry} is not a finite number", index)
    return array


def _members(text: str) -> list[Any] | None:
    """Members of a list written as text by JSON, Python, numpy or SQL, or separated; `None` if it is not a list."""
    if text[0] == "[":
        try:
            return json.loads(text)
        except ValueError:
            pass
    found = _WRITTEN_LIST.fullmatch(_NUMPY_NUMBER.sub(r"\1", text))
    if found is None:
        return None
    marks = {*",;|"} & {*found[2]}
    if len(marks) > 1:
        # perhaps decimal commas, which would make two numbers of one
        return None
    members = [member.strip() for member in found[2].split(marks.pop() if marks else None)]
    if members and not members[-1]:
        members.pop()
    # a number alone is not a list
    return members if found[1] or len(members) != 1 else None
