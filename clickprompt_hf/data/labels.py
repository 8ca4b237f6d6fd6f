# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click labels of a table: checked and converted once, before rows are split."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ..labels_clickprompt import check_labels, is_number_of_click, labels_of
from ..schema_clickprompt import Schema
from ..values_clickprompt import canonical
from ..warnings_clickprompt import warn_at_caller
from .sources.source import SourceTable


def check_source_labels(source: SourceTable, name: str | Mapping[str, str]) -> SourceTable:
    """Convert the label columns of a source's rows to int8, before the rows are shuffled.

    Args:
        source: Raw rows: one table, or splits.
        name: File or dataset that the rows come from, for messages; or the files of each split.

    Raises:
        ValueError: If a label is not 0 or 1; the message names it and the user's row.
    """
    schema = source.schema
    if isinstance(source.table, pa.Table):
        return SourceTable(with_checked_labels(source.table, schema, str(name)), schema)
    splits = {}
    for split, table in source.table.items():
        where = f"the {split} split of {name}" if isinstance(name, str) else name[split]
        splits[split] = with_checked_labels(table, schema, where)
    return SourceTable(splits, schema)


def with_checked_labels(table: pa.Table, schema: Schema, where: str) -> pa.Table:
    """Convert the label column to int8, or to truth values if 1 may be the label of no click.

    Either way, the same schema reads them as the same labels again.

    Args:
        table: Raw rows.
        schema: Names the label and the value for a click.
        where: What the rows are part of, for messages.

    Raises:
        ValueError: If a label is not 0 or 1; the message names it, its row and `where`.
    """
    column = table.column(schema.label)
    if schema.positive is not None:
        warn_of_other_words(count_words(column), schema.label, schema.positive)
    index = table.column_names.index(schema.label)
    labels = checked_labels(column, schema, where)
    if is_number_of_click(schema.positive):
        labels = labels.astype(bool)
    return table.set_column(index, schema.label, pa.array(labels))


def checked_labels(column: pa.ChunkedArray, schema: Schema, where: str, row_offset: int = 0) -> np.ndarray:
    """Read labels, (N,) int8.

    Args:
        column: The label column.
        schema: Names the label and the value for a click.
        where: What the rows are part of, for messages.
        row_offset: Number of the first row, for messages.

    Raises:
        ValueError: If a label is not 0 or 1; the message names it, its row and `where`.
    """
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    values = column.to_numpy() if is_number and not column.null_count else column.to_pylist()
    return check_labels(values, schema.label, schema.positive, where, row_offset).astype(np.int8)


def count_words(column: pa.ChunkedArray) -> Counter[str]:
    """Number of rows of each word of a label column."""
    counted = column.value_counts()
    words: Counter[str] = Counter()
    for word, rows in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()):
        words[canonical(word)] += rows
    return words


def warn_of_other_words(words: Counter[str], label: str, positive: str) -> None:
    """Warn if several words mean no click, as one of them may be a misspelled click.

    Args:
        words: Number of rows of each word, as `count_words` returns them. Upper and lower case are the same.
        label: Name of the column.
        positive: The word for a click.
    """
    others: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    counted = words.most_common()
    for (word, rows), click in zip(counted, labels_of([word for word, _ in counted], positive)):
        if click == 0 and (word != "0" or is_number_of_click(positive)):
            others[spelled.setdefault(word.casefold(), word)] += rows
    if len(others) > 1:
        shown = ", ".join(f"{word!r} in {count:,}" for word, count in others.most_common(5))
        warn_at_caller(
            f"Column {label!r} has {len(others)} values other than {positive!r}, all of which mean no click: "
            f"{shown} rows{', ...' if len(others) > 5 else ''}."
        )
