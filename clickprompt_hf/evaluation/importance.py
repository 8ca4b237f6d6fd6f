# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How much of a model's AUC rests on each field."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from ..data.number_ranges import NumberRange
from ..schema_clickprompt import FieldSchema, named_parts

DEFAULT_REPEATS = 5

Table = TypeVar("Table", pa.Table, dict[str, Any])


def permutation_importance(
    score_rows: Callable[[Table], Any],
    table: Table,
    labels: Any,
    fields: Sequence[FieldSchema],
    seed: int = 0,
    repeats: int = DEFAULT_REPEATS,
) -> dict[str, float]:
    """Measure how far the AUC drops when the values of one field are shuffled among the rows.

    Shuffling keeps a field's values but breaks their link to the label and to the other fields. A field that the model
    does not use has 0, and one that misleads it on these rows is negative. Fields with the same information share
    their importance: shuffling one leaves the other intact.

    Parts of one time, such as hour and weekday, are read from the same column, so they are shuffled together and share
    one entry, named after all of them.

    Args:
        score_rows: Returns the click probabilities, or any score that ranks rows alike, (N,), of a table like `table`.
        table: Raw rows, N of them, as an Arrow table or a mapping from column to values. It does not change.
        labels: (N,) 0 or 1, both present.
        fields: The fields to measure: `schema.fields`.
        seed: Seed of the shuffles, at least 0. All fields are shuffled in the same orders, so that an entry depends
            neither on the other fields nor on their order.
        repeats: Number of shuffles per field, at least 1; the drop is their mean.

    Returns:
        Drop in AUC by field name, largest first. A name that several columns share is followed by the column in
        parentheses.

    Raises:
        ValueError: If a column is missing, the labels are not 0 and 1 of all rows, or the scores are not one finite
            number per row.

    Source: Breiman, Random Forests (2001); Fisher, Rudin and Dominici (2019), model reliance.
    """
    NumberRange(0, whole=True).check("seed", seed)
    NumberRange(1, whole=True).check("repeats", repeats)
    names = _names_of_columns(fields)
    given = table.column_names if isinstance(table, pa.Table) else list(table)
    if missing := [column for column in names if column not in given]:
        raise ValueError(f"`table` must have the columns of all fields; missing: {missing}, given: {given}.")
    clicks = np.asarray(labels, dtype=np.float64)
    num_rows = len(table) if isinstance(table, pa.Table) else len(next(iter(table.values()), ()))
    if clicks.shape != (num_rows,) or set(np.unique(clicks)) != {0, 1}:
        raise ValueError(
            f"`labels` must be 0 or 1, both of them present, one for each of the {num_rows} rows, got "
            f"{np.unique(clicks)[:5].tolist()} in shape {clicks.shape}."
        )
    orders = [np.random.default_rng([seed, repeat]).permutation(num_rows) for repeat in range(repeats)]
    whole = _auc(score_rows(table), clicks)
    drops = {
        name: whole - float(np.mean([_auc(score_rows(_shuffled(table, column, order)), clicks) for order in orders]))
        for column, name in names.items()
    }
    return dict(sorted(drops.items(), key=lambda entry: -entry[1]))


def _names_of_columns(fields: Sequence[FieldSchema]) -> dict[str, str]:
    """What each column is called in the result. The vector of several fields' text has no column to shuffle."""
    fields = [field for field in fields if not named_parts(field)]
    joined = {
        column: ", ".join(field.name for field in fields if field.column == column)
        for column in dict.fromkeys(field.column for field in fields)
    }
    counts = Counter(joined.values())
    return {column: name if counts[name] == 1 else f"{name} ({column})" for column, name in joined.items()}


def _shuffled(table: Any, column: str, order: np.ndarray) -> Any:
    """The table with one column in another order."""
    if isinstance(table, pa.Table):
        index = table.column_names.index(column)
        return table.set_column(index, table.schema.field(index), table.column(index).take(pa.array(order)))
    return {**table, column: _taken(table[column], order)}


def _taken(values: Any, order: np.ndarray) -> Any:
    if isinstance(values, np.ndarray):
        return values[order]
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values.take(pa.array(order))
    cells = list(values)
    return [cells[row] for row in order]


def _auc(scores: Any, clicks: np.ndarray) -> float:
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != clicks.shape or not np.isfinite(found).all():
        raise ValueError(
            f"`score_rows` must return one finite number for each of the {len(clicks)} rows, got shape {found.shape} "
            f"with {int((~np.isfinite(found)).sum())} numbers that are not finite."
        )
    return float(roc_auc_score(clicks, found))
