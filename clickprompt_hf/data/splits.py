# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Train, validation and test splits: the source's own, or drawn at random, by time or by user."""

import numbers
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from ..schema_clickprompt import Schema
from ..values_clickprompt import is_missing, normal_spelling, number_of, read_time
from ..warnings_clickprompt import warn_at_caller
from .arrow_cells import decoded, decoded_table, distinct_cells, plain_type
from .sources.source import SPLIT_NAMES, SourceTable

Split = Literal["random", "time", "user"]
# Shares of the rows for training, validation and test.
DEFAULT_FRACTIONS = (0.8, 0.1, 0.1)

# A split that expects fewer rows of a class gets its share exactly. With ten, chance leaves a split without the class
# once in 10,000 tables.
_FEW_ROWS = 10
_OTHER_SPLITS = 'Use split="random" or split="user".'
# Thirds do not sum to 1 in floats.
_FRACTION_TOLERANCE = 1e-6
# Arrow's short strings have 32-bit offsets.
_SHORT_STRINGS_BYTES = 2**31 - 1


def split_source(
    source: SourceTable,
    split: Split = "random",
    split_seed: int = 42,
    max_train_rows: int | None = None,
    split_column: str | None = None,
    split_fractions: Sequence[float] = DEFAULT_FRACTIONS,
) -> dict[str, pa.Table]:
    """Split a source's rows, or keep its predefined splits, and check that a model can be trained and tested on them.

    A source with its own training split but without a validation or test split gets those from its training rows; a
    warning says so.

    Args:
        source: Raw rows with labels 0 and 1.
        split: As in `split_table`; left at its default for a source with all three splits.
        split_seed: As in `split_table`.
        max_train_rows: As in `limit_train_rows`.
        split_column: As in `split_table`.
        split_fractions: As in `split_table`.

    Returns:
        Splits `train`, `validation` and `test`; dictionary-encoded columns are decoded.

    Raises:
        ValueError: If an argument does not fit the rows, or a split lacks rows or a class.
    """
    own = dict(source.table) if isinstance(source.table, dict) else {}
    missing = [name for name in SPLIT_NAMES if name not in own]
    check_own_splits(own, split)
    drawn = {}
    if missing:
        table = own["train"] if isinstance(source.table, dict) else source.table
        names = [name for name in SPLIT_NAMES if name in missing or name == "train"]
        drawn = split_table(table, source.schema, split, split_seed, split_column, split_fractions, names)
    if drawn and own:
        warn_of_missing_splits({name: len(drawn[name]) for name in missing}, len(own["train"]), split, split_seed)
    splits = {name: drawn[name] if name in drawn else decoded_table(own[name]) for name in SPLIT_NAMES}
    splits = limit_train_rows(splits, max_train_rows, split)
    check_splits(splits, source.schema)
    return splits


def check_own_splits(own: Collection[str], split: Split) -> None:
    """Raise a ValueError if `split` asks to split a dataset that already has all splits."""
    if split != "random" and all(name in own for name in SPLIT_NAMES):
        raise ValueError(f"`split` must be left out, as the dataset has predefined splits, got {split!r}.")


def warn_of_missing_splits(cut: Mapping[str, int], num_train_rows: int, split: Split, split_seed: int) -> None:
    """Warn that training rows are held out for splits that a dataset lacks.

    Args:
        cut: Number of rows of each split that it lacks.
        num_train_rows: Number of its training rows.
        split: How they are split.
        split_seed: Seed of the split.
    """
    how = {"random": f"at random, seed {split_seed}", "time": "the latest", "user": "by user"}[split]
    shown = " and ".join(f"{rows:,} for {name}" for name, rows in cut.items())
    warn_at_caller(
        f"The dataset has no {' and no '.join(cut)} split: of its {num_train_rows:,} training rows, {shown} are "
        f"held out ({how})."
    )


def split_table(
    table: pa.Table,
    schema: Schema,
    split: Split = "random",
    split_seed: int = 42,
    split_column: str | None = None,
    split_fractions: Sequence[float] = DEFAULT_FRACTIONS,
    names: Sequence[str] = SPLIT_NAMES,
) -> dict[str, pa.Table]:
    """Split rows at random, by time or by user.

    Args:
        table: All rows. Labels must be 0 and 1 for a random split to give each part its share of a rare class.
        schema: Names the label, the time column and the candidates for `split_column`.
        split: `"random"` for a random permutation, which depends on `split_seed` alone. If the smallest part expects
            fewer than ten rows of a class, each part gets its share of that class, within one row and at least one.
            `"time"` to train on the earliest rows and test on the latest; rows of equal time keep their order.
            `"user"` to keep all rows with the same value of `split_column` in one part; rows without a value stay
            together too.
        split_seed: Seed of the random split and the split by user, at least 0.
        split_column: Column of the split by user, see `choose_split_column`. Other splits ignore it.
        split_fractions: Shares of the rows for training, validation and test: positive numbers that sum to 1. Parts
            have their share within one row, or within one user.
        names: Parts to make, of those three; they divide all rows in proportion to their fractions.

    Returns:
        A table per name; dictionary-encoded columns are decoded.

    Raises:
        ValueError: If an argument is wrong, the rows have no times to split by, or too few users.
    """
    check_split_arguments(split, split_seed, split_fractions)
    if split == "random":
        return split_at_random(table, schema.label, split_seed, split_fractions, names)
    table = _with_long_offsets(table)
    shares = _shares_of(split_fractions, names)
    if split == "time":
        order = np.argsort(_times(table, schema), kind="stable")
        parts = np.split(order, ends_of_parts(len(table), shares))
    else:
        column = choose_split_column(schema, table.column_names, split_column)
        parts = _split_groups(_groups(table.column(column), column), shares, split_seed, column)
    return _taken(table, parts, names)


def split_at_random(
    table: pa.Table,
    label: str,
    split_seed: int = 42,
    split_fractions: Sequence[float] = DEFAULT_FRACTIONS,
    names: Sequence[str] = SPLIT_NAMES,
) -> dict[str, pa.Table]:
    """Split rows at random, as `split_table` does, before their other columns have a meaning.

    Args:
        table: All rows.
        label: Column of the labels, 0 and 1.
        split_seed, split_fractions, names: As in `split_table`.

    Returns:
        A table per name; dictionary-encoded columns are decoded.

    Raises:
        ValueError: If the seed or the fractions are wrong.
    """
    check_split_arguments("random", split_seed, split_fractions)
    table = _with_long_offsets(table)
    clicks = table.column(label).to_numpy() == 1
    return _taken(table, _split_at_random(clicks, _shares_of(split_fractions, names), split_seed), names)


def _shares_of(split_fractions: Sequence[float], names: Sequence[str]) -> list[Fraction]:
    return cumulative_shares([split_fractions[SPLIT_NAMES.index(name)] for name in names])


def _taken(table: pa.Table, parts: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, pa.Table]:
    return {name: decoded_table(table.take(pa.array(rows))) for name, rows in zip(names, parts)}


def check_split_arguments(split: str, split_seed: int, split_fractions: Sequence[float]) -> None:
    """Check the arguments of a split before any rows are read.

    Raises:
        ValueError: If `split` is unknown, `split_seed` is negative, or `split_fractions` are not three positive
            numbers that sum to 1.
    """
    if split not in get_args(Split):
        raise ValueError(f"`split` must be one of {get_args(Split)}, got {split!r}.")
    if not isinstance(split_seed, numbers.Integral) or split_seed < 0:
        raise ValueError(f"`split_seed` must be an integer of at least 0, got {split_seed!r}.")
    fractions = list(split_fractions)
    # NaN compares false
    if (
        len(fractions) != len(SPLIT_NAMES)
        or not all(isinstance(fraction, numbers.Real) and fraction > 0 for fraction in fractions)
        or not abs(sum(fractions) - 1) <= _FRACTION_TOLERANCE
    ):
        raise ValueError(
            "`split_fractions` must be three positive numbers that sum to 1, for training, validation and test, such "
            f"as 0.8 0.1 0.1; got {' '.join(map(str, fractions))}."
        )


def choose_split_column(schema: Schema, column_names: Sequence[str], split_column: str | None = None) -> str:
    """The column whose values a split by user keeps together: the given one, else the first field named like a user.

    Args:
        schema: Its categorical fields are the candidates.
        column_names: Columns of the table.
        split_column: The given column, not necessarily a field; `None` for the first candidate whose column name
            contains "user".

    Raises:
        ValueError: If there is no such column.
    """
    candidates = [field.column for field in schema.fields if field.kind == "categorical"]
    if split_column is None:
        split_column = next((column for column in candidates if "user" in column.casefold()), None)
    if split_column is None:
        raise ValueError(
            "`split_column` must name the column whose rows stay together with split='user', as no field's column "
            f"name contains 'user'; candidates are {candidates}."
        )
    if split_column not in column_names:
        raise ValueError(f"`split_column` must be one of the columns {list(column_names)}, got {split_column!r}.")
    return split_column


def cumulative_shares(fractions: Sequence[float]) -> list[Fraction]:
    """Where each part but the last ends, in (0, 1), from relative sizes. Exact, as 0.7 + 0.2 is not 0.9 in floats."""
    exact = [Fraction(str(fraction)) for fraction in fractions]
    return [sum(exact[: end + 1], Fraction()) / sum(exact) for end in range(len(exact) - 1)]


def ends_of_parts(num_rows: int, shares: Sequence[Fraction]) -> list[int]:
    """Where each part but the last ends among `num_rows` rows."""
    return [int(num_rows * share) for share in shares]


def nearest_ends(sizes: np.ndarray, shares: Sequence[Fraction]) -> list[int]:
    """Cut a sequence of groups where parts come closest to their shares of the rows; each gets at least one group.

    Args:
        sizes: Rows per group, (G,), with more groups than `shares`.
        shares: Where each part but the last ends, in (0, 1).

    Returns:
        Index of the first group after each part but the last.
    """
    rows = np.cumsum([0, *sizes])
    ends: list[int] = []
    for part, share in enumerate(shares):
        nearest = int(np.abs(rows - float(rows[-1] * share)).argmin())
        lowest = ends[-1] + 1 if ends else 1
        ends.append(min(max(nearest, lowest), len(sizes) - len(shares) + part))
    return ends


def _split_at_random(clicks: np.ndarray, shares: Sequence[Fraction], split_seed: int) -> list[np.ndarray]:
    """Rows of each part, from a permutation; stratified if a class is rare.

    Args:
        clicks: (N,) booleans.
        shares: Where each part but the last ends, in (0, 1).
        split_seed: Seed of the permutation.
    """
    order = np.random.default_rng(split_seed).permutation(len(clicks))
    ends = ends_of_parts(len(clicks), shares)
    clicks = clicks[order]
    rare = clicks if 2 * clicks.sum() <= len(clicks) else ~clicks
    num_rare = int(rare.sum())
    if not is_rare(num_rare, shares):
        return np.split(order, ends)
    rare_ends, other_ends = stratified_ends(num_rare, ends, shares)
    parts = np.empty(len(order), dtype=np.int64)
    parts[rare] = np.searchsorted(rare_ends, np.arange(num_rare), side="right")
    parts[~rare] = np.searchsorted(other_ends, np.arange(len(order) - num_rare), side="right")
    return [order[parts == part] for part in range(len(shares) + 1)]


def is_rare(num_rows: int, shares: Sequence[Fraction]) -> bool:
    """Whether a class with this many rows is so rare that parts get their exact share of it."""
    expected = num_rows * min(np.diff([0, *shares, 1]))
    return expected < _FEW_ROWS and num_rows > len(shares)


def stratified_ends(num_rare: int, ends: Sequence[int], shares: Sequence[Fraction]) -> tuple[list[int], np.ndarray]:
    """Where each part but the last ends among the rows of a rare class, and among those of the other class.

    Args:
        num_rare: Number of rows of the rare class.
        ends: Where each part but the last ends among all rows.
        shares: Where each part but the last ends, in (0, 1).
    """
    rare_ends = nearest_ends(np.ones(num_rare, dtype=np.int64), shares)
    # the other class fills up each part to its size
    return rare_ends, np.maximum.accumulate(np.subtract(ends, rare_ends))


def _groups(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Number each row's value, (N,), by first appearance; equivalent values share a number, as do missing ones.

    Raises:
        ValueError: If cells hold several values.
    """
    check_split_column(column.type, name)
    values, indices = distinct_cells([column])
    numbers: dict[str, int] = {}
    # A spelling that only test rows have would be found by its meaning: `007` has the id of 7.
    value_numbers = np.array([numbers.setdefault(normal_spelling(value), len(numbers)) for value in values])
    groups = value_numbers[indices]
    # values that no row has leave gaps
    return np.unique(groups, return_inverse=True)[1]


def check_split_column(kind: pa.DataType, name: str) -> None:
    """Raise a ValueError if the cells of the column to split by hold several values."""
    if pa.types.is_nested(kind):
        raise ValueError(f"`split_column` must have one value per row, but {name!r} has cells of type {kind}.")


def _split_groups(groups: np.ndarray, shares: Sequence[Fraction], split_seed: int, column: str) -> list[np.ndarray]:
    """Rows of each part, groups in random order.

    Raises:
        ValueError: If there are fewer groups than parts.
    """
    ranks, ends = shuffle_groups(np.bincount(groups), shares, split_seed, column)
    return np.split(np.argsort(ranks[groups], kind="stable"), ends)


def shuffle_groups(
    sizes: np.ndarray, shares: Sequence[Fraction], split_seed: int, column: str
) -> tuple[np.ndarray, np.ndarray]:
    """Put groups of rows in random order and cut them into parts.

    Args:
        sizes: Rows per group, (G,).
        shares: Where each part but the last ends, in (0, 1).
        split_seed: Seed of the order.
        column: Column of the groups, for the message.

    Returns:
        Rank of each group, (G,), and where each part but the last ends in the rows sorted by rank.

    Raises:
        ValueError: If there are fewer groups than parts.
    """
    if len(sizes) <= len(shares):
        raise ValueError(
            f"`split_column` must have at least {len(shares) + 1} different values, one per split, but {column!r} has "
            f"{len(sizes)}."
        )
    order = np.random.default_rng(split_seed).permutation(len(sizes))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    rows_before = np.cumsum([0, *sizes[order]])
    return ranks, rows_before[nearest_ends(sizes[order], shares)]


def _with_long_offsets(table: pa.Table) -> pa.Table:
    """Cast views, and string columns too long for 32-bit offsets, to 64-bit ones: taking rows joins all chunks."""
    kinds = [
        column.with_type(pa.large_string())
        if pa.types.is_string(column.type) and table.column(index).nbytes > _SHORT_STRINGS_BYTES
        else column.with_type(plain_type(column.type))
        for index, column in enumerate(table.schema)
    ]
    return table.cast(pa.schema(kinds, table.schema.metadata))


def limit_train_rows(
    splits: Mapping[str, pa.Table], max_train_rows: int | None, split: Split = "random"
) -> dict[str, pa.Table]:
    """Cut the training split to `max_train_rows` rows: the first of a random split, the latest of a split by time.

    Raises:
        ValueError: If `max_train_rows` is below 1.
    """
    if max_train_rows is None:
        return dict(splits)
    if max_train_rows < 1:
        raise ValueError(f"`max_train_rows` must be at least 1, got {max_train_rows}.")
    train = splits["train"]
    start = max(0, len(train) - max_train_rows) if split == "time" else 0
    return {**splits, "train": train.slice(start, max_train_rows)}


def draw_validation_rows(clicks: np.ndarray, max_eval_rows: int | None, split_seed: int) -> np.ndarray:
    """Draw the validation rows that training evaluates on: all, or `max_eval_rows` of them.

    Clicks have the same share among the drawn rows as among all, rounded, and both classes have at least one row if
    the split has both.

    Args:
        clicks: (N,) labels of the validation split, 0 or 1.
        max_eval_rows: At least 2; `None` for all.
        split_seed: Seed of the draw, as in `split_table`.

    Returns:
        Indices of the rows, ascending.
    """
    if max_eval_rows is None or max_eval_rows >= len(clicks):
        return np.arange(len(clicks))
    clicked = np.asarray(clicks) == 1
    classes = [np.flatnonzero(clicked), np.flatnonzero(~clicked)]
    draw = np.random.default_rng(split_seed)
    if not all(map(len, classes)):
        return np.sort(draw.choice(len(clicks), max_eval_rows, replace=False))
    num_clicks = int(np.clip(round(max_eval_rows * clicked.mean()), 1, max_eval_rows - 1))
    counts = (num_clicks, max_eval_rows - num_clicks)
    drawn = [draw.choice(rows, count, replace=False) for rows, count in zip(classes, counts)]
    return np.sort(np.concatenate(drawn))


def check_splits(splits: Mapping[str, pa.Table], schema: Schema) -> None:
    """Refuse splits that a model cannot be trained and tested on.

    Raises:
        ValueError: If a split has no rows, or rows of only one class.
    """
    labels = {name: table.column(schema.label).to_numpy() for name, table in splits.items()}
    check_split_sizes({name: (len(clicks), int(clicks.sum())) for name, clicks in labels.items()}, schema)


def check_split_sizes(sizes: Mapping[str, tuple[int, int]], schema: Schema) -> None:
    """Refuse splits that a model cannot be trained and tested on.

    Args:
        sizes: Number of rows and of clicks per split.
        schema: Names the label and the word for a click, for the messages.

    Raises:
        ValueError: If a split has no rows, or rows of only one class.
    """
    num_rows, num_clicks = (sum(numbers) for numbers in zip(*sizes.values()))
    for name, (rows, clicks) in sizes.items():
        if not rows:
            raise ValueError(
                f"The {name} split must have rows, but it has none: there are only {num_rows} rows in all."
            )
        if clicks in (0, rows):
            absent = num_rows - num_clicks if clicks else num_clicks
            advice = "Use more rows, or a random split with another `split_seed`."
            if absent < len(sizes):
                advice = f"Use more rows: only {absent} in all are {0 if clicks else 1}, and each split needs one."
            reason = ""
            if schema.positive is not None and not clicks:
                reason = f": none is {schema.positive!r}, the `positive` of the schema"
            raise ValueError(
                f"The {name} split must have both classes in column {schema.label!r}, but all {rows} labels "
                f"are {1 if clicks else 0}{reason}. {advice}"
            )


def _times(table: pa.Table, schema: Schema) -> np.ndarray:
    """Times to sort by, (rows,)."""
    column = check_time_column(schema, table.column_names)
    times = sortable_times(table.column(column), schema)
    # NaN and NaT do not equal themselves.
    check_times(times, int((times != times).sum()), schema, table.column(column)[0] if len(table) else None)
    return times


def check_time_column(schema: Schema, column_names: Sequence[str]) -> str:
    """The column of times. Raises a ValueError if there is none."""
    if schema.time is None:
        raise ValueError(
            f"`split` must be 'random' or 'user': the schema names no time column. {_OTHER_SPLITS} Or set `time` in "
            "the schema."
        )
    if schema.time not in column_names:
        raise ValueError(
            f"`time` of the schema must be one of the columns {list(column_names)}, got {schema.time!r}. "
            f"{_OTHER_SPLITS}"
        )
    return schema.time


def check_times(times: np.ndarray, num_missing: int, schema: Schema, example: Any) -> None:
    """Refuse times to split by that are missing, or all equal.

    Args:
        times: As `sortable_times` returns them.
        num_missing: Number of rows without a time.
        schema: Names the column, for the message.
        example: A time, for the message.

    Raises:
        ValueError: If they are.
    """
    if num_missing:
        raise ValueError(
            f"Times in column {schema.time!r} must be known, but {num_missing} are missing. {_OTHER_SPLITS}"
        )
    if len(times) and times.min() == times.max():
        raise ValueError(
            f"Times in column {schema.time!r} must differ, but all are {example}: these rows cannot be split by "
            f"time. {_OTHER_SPLITS}"
        )


def sortable_times(column: pa.ChunkedArray, schema: Schema, row_numbers: np.ndarray | None = None) -> np.ndarray:
    """Numbers or moments to sort by, (rows,), whatever the type of the column; NaN or NaT for a missing cell.

    Args:
        column: The times.
        schema: Names their column and their format.
        row_numbers: (rows,), numbers of the rows in messages; by default they are counted.

    Raises:
        ValueError: If a cell is not a time; the message names it.
    """
    time_format, column = schema.format_of_time, decoded(column)
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if time_format is None and (is_number or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return column.to_numpy()
    if time_format is None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and not column.null_count:
        try:
            # Exact for nanoseconds, which a double is not.
            return column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            pass
    cells, indices = distinct_cells([column])
    is_known = np.asarray([not is_missing(cell) for cell in cells])
    numbers = np.asarray([number_of(cell) for cell in cells])
    if time_format is None and np.isfinite(numbers[is_known]).all():
        return numbers[indices]
    times = [read_time(cell, time_format) for cell in cells]
    is_unread = is_known & np.asarray([time is None for time in times])
    if is_unread.any():
        # Among numbers, the cell that is not a number is at fault.
        words = is_unread & ~np.isfinite(numbers)
        first = int((words if words.any() else is_unread)[indices].argmax())
        row = first if row_numbers is None else int(row_numbers[first])
        expected = "such as 2024-01-31 14:05:00" if time_format is None else f"like {time_format!r}"
        raise ValueError(
            f"Times in column {schema.time!r} must be numbers, timestamps or strings {expected}, got "
            f"{cells[indices[first]]!r} in row {row}, counted from 0. Set `time_format` in the schema, or use "
            'split="random".'
        )
    return np.asarray(times, dtype="M8[us]")[indices]
