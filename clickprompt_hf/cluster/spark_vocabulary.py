# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Vocabularies of a Spark data frame, equal to those that `fit_vocabularies` fits to a table in memory.

Per field, Spark groups the column and counts; workers turn each distinct value into the keys of the vocabulary, with
the code of one machine; Spark sums the counts of equal keys. Only keys with enough rows reach the driver, piece by
piece. A vocabulary is ordered by counts, ties alphabetically, because Spark does not define the order of rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..cells_clickprompt import vocabulary_keys, without_missing_words
from ..columns_clickprompt import cells_of, check_columns, check_different
from ..data.streaming.vocabulary import (
    FittedField,
    fit_numbers,
    most_frequent_first,
    numbers_of_values,
    text_list,
    texts_of_values,
)
from ..data.table_files import joined_tables
from ..data.vocabulary import check_kind, count_keys, count_listed, keys_of_lists, warn_of_ids_as_floats, warn_of_lists
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from ..unread_cells_clickprompt import warn_of_dates_as_seconds
from .engines import require_engine
from .spark_scoring import is_nested
from .spark_workers import check_workers, without_pandas_warning
from .table_scorer import check_single_values

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

# Number of distinct lists by which a separator and weights are judged, and of times by which a missing format is.
_VALUES_TRIED = 1000


def fit_processor(
    train: "DataFrame",
    schema: Schema,
    tokenizer: Any = None,
    min_count: int = 1,
    max_text_length: int | None = None,
) -> ClickPromptProcessor:
    """Fit a processor on the training rows of a Spark data frame; it equals that of `ClickPromptProcessor.fit`.

    The data frame is read once per field, one column each time: cache it if its rows are computed rather than read.
    Rows never reach the driver. What does, and must fit its memory: the vocabularies, and the distinct numbers of
    numeric fields with their counts, 16 bytes each, from which quantiles are computed exactly.

    Args:
        train: Training rows, joined with the `tables` of the schema, if it has any.
        schema: What the columns mean, without fields of vectors.
        tokenizer: As in `ClickPromptProcessor`.
        min_count: Number of rows that a value needs to get its own id, at least 1.
        max_text_length: As in `ClickPromptProcessor`.

    Raises:
        ImportError: If Spark is missing; the message names the extra.
        RuntimeError: If a worker lacks this package.
        ValueError: If a column is missing, holds lists although its field is single-valued, or has no value of the
            field's kind, a field is a vector, or `min_count` is below 1. Except for columns without a value of their
            kind, this is checked before any row is read.
    """
    require_engine("pyspark", "spark")
    if min_count < 1:
        raise ValueError(f"`min_count` must be at least 1, got {min_count}.")
    check_no_vectors(schema, "`schema` must have no vector fields to be fitted in Spark")
    check_rows(train, schema)
    check_workers(train.sparkSession.sparkContext, ["clickprompt_hf"])
    vocabularies: list[Sequence[str]] = []
    boundaries: list[list[float]] = []
    for field in schema.fields:
        fitted = _fit_field(train, field, min_count) if field.num_columns else FittedField(_texts([]))
        vocabularies.append(text_list(fitted.vocabulary))
        boundaries.append(fitted.boundaries)
    processor = ClickPromptProcessor(schema, vocabularies, boundaries, tokenizer, max_text_length)
    if schema.tables:
        # so that scoring can join columns that rows lack
        processor.tables = joined_tables(schema)
    return processor


def check_no_vectors(schema: Schema, requirement: str) -> None:
    """Refuse a schema with fields of vectors: shards hold ids and text alone.

    Raises:
        ValueError: If there are some; the message starts with `requirement`.
    """
    if vectors := [schema.fields[f].key for f in schema.vector_fields]:
        raise ValueError(
            f"{requirement}, got {vectors}. Prepare such rows on one machine, with `prepare_splits`; Spark can "
            "score them with the trained model."
        )


def check_rows(rows: "DataFrame", schema: Schema) -> None:
    """Refuse a data frame whose columns or types do not fit a schema.

    Raises:
        ValueError: If a column is missing or repeated, or holds lists although its field is single-valued.
    """
    check_different(rows.columns, "the data frame")
    check_columns(schema.columns, rows.columns, "The data frame")
    check_single_values(schema, {field.name: is_nested(field.dataType) for field in rows.schema.fields})


def _fit_field(train: "DataFrame", field: FieldSchema, min_count: int) -> FittedField:
    from pyspark.sql import functions as F

    counted = train.groupBy(plain_column(train, field.column).alias("value")).agg(F.count(F.lit(1)).alias("rows"))
    kind = "double" if field.kind == "numeric" else "string"
    with without_pandas_warning():
        keyed = counted.mapInArrow(_keys_of_batches(field), f"key {kind}, rows bigint")
    summed = keyed.groupBy("key").agg(F.sum("rows").alias("rows"))
    if field.kind == "numeric":
        found = _to_driver(summed)
        numbers = found.column("key").to_numpy().astype(np.float64)
        if not np.isfinite(numbers).any():
            _refuse_kind(counted, field)
        return fit_numbers(numbers, found.column("rows").to_numpy(), field, min_count)
    found = _to_driver(summed.filter(F.col("rows") >= min_count))
    texts = found.column("key").cast(pa.large_string()).combine_chunks()
    if field.kind == "multi_valued":
        some = _to_driver(counted.limit(_VALUES_TRIED))
        warn_of_lists(count_listed(cells_of(some.column("value")), some.column("rows").to_pylist(), field), field)
    elif field.kind == "categorical":
        _warn_of_ids_as_floats(counted, field)
    elif set(texts.to_pylist()) <= {""} and not summed.filter(F.col("key") != "").take(1):
        _refuse_kind(counted, field)
    if field.kind in TIME_PARTS:
        warn_of_dates_as_seconds(field, cells_of(_to_driver(counted.limit(_VALUES_TRIED)).column("value")))
    order = most_frequent_first(texts, found.column("rows").to_numpy())
    return FittedField(texts.take(pa.array(order)))


def plain_column(rows: "DataFrame", name: str) -> "Column":
    """A column by its name, which may hold dots; strings are compared byte by byte, whatever their collation."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType

    column = F.col(f"`{name.replace('`', '``')}`")
    kind = rows.schema[name].dataType
    return column.cast(StringType()) if isinstance(kind, StringType) and kind != StringType() else column


def _keys_of_batches(field: FieldSchema) -> "BatchFunction":
    """Turns batches of distinct values and their counts into vocabulary keys, or numbers, and their counts."""

    def keys_of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield counted_keys(batch.column(0), batch.column(1), field)

    return keys_of_batches


def counted_keys(values: pa.Array, rows: pa.Array, field: FieldSchema) -> pa.RecordBatch:
    """Vocabulary keys of distinct values, or their numbers if the field is numeric.

    Args:
        values: (n,) distinct values.
        rows: (n,) number of rows of each, int64.
        field: The field.

    Returns:
        `key`, a string, or a double that is null where a value is not a finite number; and `rows`. Keys may repeat.
    """
    if field.kind == "numeric":
        numbers = numbers_of_values(values, field)
        return pa.record_batch({"key": pa.array(numbers, mask=~np.isfinite(numbers)), "rows": rows})
    if field.kind == "categorical":
        return pa.record_batch({"key": texts_of_values(values, field).cast(pa.string()), "rows": rows})
    cells, counts = cells_of(values), rows.to_pylist()
    if field.kind == "multi_valued":
        keyed = count_keys(keys_of_lists(count_listed(cells, counts, field), field))
    else:
        known = without_missing_words(cells, field)
        keyed = count_keys((vocabulary_keys(value, field, []), count) for value, count in zip(known, counts))
    return _counter_batch(keyed)


def _counter_batch(keyed: Counter[str]) -> pa.RecordBatch:
    return pa.record_batch({"key": pa.array(keyed.keys(), pa.string()), "rows": pa.array(keyed.values(), pa.int64())})


def _to_driver(frame: "DataFrame") -> pa.Table:
    """The rows of a small data frame, which arrive partition by partition as packed batches."""

    def pack(batches):
        import pyarrow as pa

        for batch in batches:
            yield pa.record_batch(
                {"schema": [batch.schema.serialize().to_pybytes()], "batch": [batch.serialize().to_pybytes()]}
            )

    from pyspark.sql.pandas.types import to_arrow_schema

    with without_pandas_warning():
        packed = frame.mapInArrow(pack, "schema binary, batch binary")
    parts = []
    for row in packed.toLocalIterator():
        types = pa.ipc.read_schema(pa.py_buffer(row["schema"]))
        parts.append(pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(row["batch"]), types)]))
    return pa.concat_tables(parts) if parts else to_arrow_schema(frame.schema, timezone="UTC").empty_table()


def _refuse_kind(counted: "DataFrame", field: FieldSchema) -> None:
    """Refuse a column of numbers or times that has none."""
    check_kind([(row["value"], row["rows"]) for row in counted.take(1)], field)


def _warn_of_ids_as_floats(counted: "DataFrame", field: FieldSchema) -> None:
    """Warn about integers stored as floats because of missing values, as on one machine."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import DoubleType, FloatType

    if not isinstance(counted.schema["value"].dataType, (DoubleType, FloatType)):
        return
    value = F.col("value")
    is_missing = value.isNull() | F.isnan(value)
    known = counted.filter(~is_missing)
    if counted.filter(is_missing).take(1) and not known.filter(value != F.floor(value)).take(1):
        warn_of_ids_as_floats([*((row["value"], 1) for row in known.take(1)), (None, 1)], field)


def _texts(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())
