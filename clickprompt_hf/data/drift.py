# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How the values of scored rows differ from those of training rows, per field.

A field's ids are divided into a few bins of consecutive ids with about equal shares of the training rows. Ids are
ordered by frequency, so frequent values have separate bins, and rare ones share bins with others of similar frequency.
Unseen values and missing cells also have separate bins. The counts of the training rows are saved with the processor.
Imports neither torch nor transformers.

The population stability index of shares p in training and q in scoring is `sum((q - p) ln(q / p))` over the bins. By
convention, below 0.1 means no change, above 0.25 a large shift (Siddiqi, Credit Risk Scorecards, 2006).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..columns_clickprompt import cells_of
from ..encoding_clickprompt import FeatureEncoder
from ..unknown_values_clickprompt import UnknownValues
from ..vocabularies_clickprompt import ValueIndex

# By key of a field: `ends`, the last id of each bin, and `counts`, the number of training values of each bin, of
# values without an id of their own, and of missing cells.
TrainedValues: TypeAlias = Mapping[str, Mapping[str, Sequence[int]]]

# Bins of ids per field, at most.
MOST_BINS = 20
# With fewer values, chance alone moves the index by more than 0.02.
LEAST_VALUES = 1_000
_LEAST_SHARE = 1e-4
# Larger pieces would need more memory and are not faster.
_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class FieldDrift:
    """How a field's scored values differ from its training values.

    Args:
        key: The field's key in the schema.
        values: Number of scored values. A cell of a multi-valued field counts once for each of its values.
        unseen: Share of values that training lacked, in [0, 1].
        missing: Share of missing cells, in [0, 1].
        trained_unseen: Share of unseen values in training, where values that are too rare have no id; `None` if the
            counts of the training rows are unknown.
        trained_missing: Share of missing cells in training; `None` if unknown.
        stability_index: The population stability index, at least 0; `None` if there are fewer than 1,000 values or the
            counts of the training rows are unknown.
    """

    key: str
    values: int
    unseen: float
    missing: float
    trained_unseen: float | None
    trained_missing: float | None
    stability_index: float | None


def count_training_values(feature_ids: np.ndarray, encoder: FeatureEncoder) -> TrainedValues:
    """Count the values of training rows per bin.

    Args:
        feature_ids: (N, C) ids of the training rows.
        encoder: The encoder that made them.

    Returns:
        The counts of each field with ids, as plain data: see `TrainedValues`.
    """
    trained, start = {}, 0
    for f, field in enumerate(encoder.schema.fields):
        if field.num_columns:
            ids = feature_ids[:, start : start + field.num_columns]
            trained[encoder.schema.keys[f]] = training_bins(ids, encoder.vocabularies[f])
            start += field.num_columns
    return trained


def training_bins(
    ids: np.ndarray, vocabulary: Sequence[str], repeats: np.ndarray | None = None
) -> dict[str, list[int]]:
    """Divide a field's ids into bins, and count the training values of each.

    Args:
        ids: (V, columns of the field), -1 in empty slots.
        vocabulary: The field's values, from id 1.
        repeats: Number of training rows of each, (V,); one by default.
    """
    counts = np.zeros(max(len(vocabulary), 1) + 1, dtype=np.int64)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = ids[start : start + _ROWS_AT_ONCE]
        added = np.ones(len(part), dtype=np.int64) if repeats is None else repeats[start : start + _ROWS_AT_ONCE]
        for column in part.T:
            is_value = column >= 0
            # with other types, adding takes ten times as long
            np.add.at(counts, column[is_value].astype(np.intp), added[is_value].astype(np.int64))
    unseen, missing, id_counts = int(counts[0]), 0, counts[1:]
    if missing_id := ValueIndex(vocabulary).id_of_missing:
        missing, id_counts[missing_id - 1] = int(counts[missing_id]), 0
    below = np.cumsum(id_counts)
    shares = np.arange(1, MOST_BINS + 1) * (below[-1] / MOST_BINS)
    # rounding must not open a bin behind the last id
    ends = np.unique(np.minimum(np.searchsorted(below, shares), len(below) - 1))
    bins = np.diff(below[ends], prepend=0)
    return {"ends": (ends + 1).tolist(), "counts": [*bins.tolist(), unseen, missing]}


def with_trained_values(processor: Any, trained: TrainedValues) -> Any:
    """A copy of a processor with the counts of its training rows; the original does not change."""
    processor = copy.copy(processor)
    processor.trained_values = trained
    return processor


class DriftCounts(UnknownValues):
    """Counts scored values per field and bin, to compare them with training.

    Args:
        encoder: The encoder whose ids are counted.
        trained: Counts of the training rows, as `count_training_values` returns them; `None`, or without a field, if
            they are unknown, as for checkpoints of earlier versions.

    Raises:
        ValueError: If `trained` is damaged.
    """

    def __init__(self, encoder: FeatureEncoder, trained: TrainedValues | None = None):
        super().__init__(encoder)
        self.trained = _checked(trained or {})
        # without counts of the training rows, one bin holds all ids
        self._ends = [np.asarray(self.trained.get(key, {}).get("ends", [0])) for key in encoder.schema.keys]
        # per field: the values of each bin, those without an id of their own, and missing cells
        self.bins = [np.zeros(len(ends) + 2, dtype=np.int64) for ends in self._ends]

    def add(self, field_index: int, values: Sequence, ids: np.ndarray, repeats: np.ndarray | None = None) -> None:
        super().add(field_index, values, ids, repeats)
        if not ids.shape[1]:
            return
        repeats = np.ones(len(ids), dtype=np.int64) if repeats is None else repeats
        bins, ends = self.bins[field_index], self._ends[field_index]
        is_missing = self._are_missing(field_index, values, ids, repeats)
        bins[-1] += repeats[is_missing].sum()
        for column in ids.T:
            bins[-2] += repeats[~is_missing & (column == 0)].sum()
            has_id = ~is_missing & (column > 0)
            # ids behind the last bin were added later, or belong to values that the training rows no longer have
            places = np.minimum(np.searchsorted(ends, column[has_id]), len(ends) - 1)
            bins[:-2] += np.bincount(places, weights=repeats[has_id], minlength=len(ends)).astype(np.int64)

    def _are_missing(self, field_index: int, values: Sequence, ids: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        """Which of V values are missing, (V,)."""
        if missing_id := self.encoder.indexes[field_index].id_of_missing:
            return ids[:, 0] == missing_id
        # where training rows had no missing value, it has no id
        are_missing = np.zeros(len(ids), dtype=bool)
        unknown = np.flatnonzero((ids[:, 0] == 0) & (repeats > 0))
        if len(unknown):
            cells = cells_of(values)
            are_missing[unknown] = self.encoder.missing_cells(field_index, [cells[row] for row in unknown])
        return are_missing

    @property
    def counts(self) -> list[list]:
        return [*super().counts, [bins.tolist() for bins in self.bins]]

    def merge(self, counts: list[list]) -> None:
        *others, bins = counts
        super().merge(others)
        for mine, added in zip(self.bins, bins):
            mine += np.asarray(added)

    def drifts(self) -> list[FieldDrift]:
        """Compare the values counted so far with training, for each field with ids."""
        found = []
        for key, field, bins in zip(self.encoder.schema.keys, self.encoder.schema.fields, self.bins):
            if not field.num_columns:
                continue
            unseen, missing = _last_shares(bins)
            trained = np.asarray(self.trained[key]["counts"]) if key in self.trained else None
            trained_unseen, trained_missing = (None, None) if trained is None else _last_shares(trained)
            values = int(bins.sum())
            index = None if trained is None or values < LEAST_VALUES else stability_index(trained, bins)
            found.append(FieldDrift(key, values, unseen, missing, trained_unseen, trained_missing, index))
        return found


def _checked(trained: Any) -> dict[str, Any]:
    """Check counts of training rows, which come from a file."""

    def is_list(numbers: Any, length: int | None = None) -> bool:
        whole = isinstance(numbers, list) and all(isinstance(number, int) and number >= 0 for number in numbers)
        return whole and len(numbers) == (length or len(numbers)) > 0

    if not isinstance(trained, Mapping):
        raise ValueError(f"`trained_values` must be a mapping from field to counts, got {trained!r:.80}.")
    for key, field in trained.items():
        ends: Any = field.get("ends") if isinstance(field, Mapping) else None
        if not (is_list(ends) and ends == sorted(set(ends)) and is_list(field.get("counts"), len(ends) + 2)):
            raise ValueError(
                f"`trained_values` of field {key!r} must have ascending `ends` and two more `counts`, got "
                f"{field!r:.80}."
            )
    return dict(trained)


def _last_shares(bins: np.ndarray) -> tuple[float, float]:
    """Shares of the last two of a field's bins, its unseen and its missing values; NaN without values."""
    total = int(bins.sum())
    return (int(bins[-2]) / total, int(bins[-1]) / total) if total else (float("nan"), float("nan"))


def stability_index(trained: np.ndarray, scored: np.ndarray) -> float:
    """The population stability index of two series of counts.

    Shares below 0.0001 count as 0.0001, so that an empty bin gives a finite index.

    Args:
        trained: (K,) counts.
        scored: (K,) counts of the same bins.
    """
    before, after = (np.maximum(counts / counts.sum(), _LEAST_SHARE) for counts in (trained, scored))
    return float(np.sum((after - before) * np.log(after / before)))
