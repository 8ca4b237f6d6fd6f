# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows of a Spark data frame, encoded by the workers and written as Parquet shards, which `join_shards` reads."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..cells_clickprompt import mean_missing
from ..columns_clickprompt import check_columns
from ..data.arrow_cells import distinct_cells
from ..data.labels import checked_labels
from ..data.streaming.distinct import keys_of
from ..processing_clickprompt import ClickPromptProcessor
from ..values_clickprompt import canonical, each_distinct, holds_several
from .engines import require_engine
from .shards import COUNTS_FOLDER
from .spark_vocabulary import check_no_vectors, check_rows, plain_column
from .spark_workers import check_workers, send_model, with_plain_names, without_pandas_warning
from .worker_models import processor_of_process

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_TEXTS = pa.list_(pa.string())
_SHARD_COLUMNS = "feature_ids array<int>, label tinyint, value_keys array<bigint>, clauses array<string>"


def encode(rows: "DataFrame", processor: ClickPromptProcessor, path: str) -> None:
    """Encode labeled rows on the workers, and write them as Parquet shards to a new folder.

    Ids are those of `processor(rows)`, row by row. Spark repeats the work of workers that die and writes each shard
    whole; once all are written, so are the counts of their rows. `join_shards` turns them into the folder that
    `clickprompt finetune --prepared` maps.

    Args:
        rows: Rows of one split, with labels.
        processor: Fitted on the training rows. If it has a tokenizer, shards hold the text too.
        path: A new folder, on any file system that Spark writes.

    Raises:
        ImportError: If Spark is missing; the message names the extra.
        RuntimeError: If a worker lacks this package.
        ValueError: If a column or the label is missing, a column holds lists although its field is single-valued, or a
            field is a vector; this is noticed before any row is read.
        pyspark.errors.PySparkException: If a label is not 0 or 1, or `path` already exists.
    """
    require_engine("pyspark", "spark")
    from pyspark.sql import functions as F

    schema = processor.schema
    check_no_vectors(schema, "The schema of `processor` must have no vector fields to be encoded in Spark")
    check_rows(rows, schema)
    check_columns([schema.label], rows.columns, "The data frame")
    session = rows.sparkSession
    check_workers(session.sparkContext, ["clickprompt_hf"])
    with tempfile.TemporaryDirectory(prefix="clickprompt-") as folder:
        processor.save_pretrained(folder)
        name = send_model(session.sparkContext, folder)
    names = list(dict.fromkeys([*schema.columns, schema.label]))
    needed = with_plain_names(rows.select([plain_column(rows, column) for column in names]))
    with without_pandas_warning():
        encoded = needed.mapInArrow(_encoding_function(name, names), _SHARD_COLUMNS)
    encoded.write.parquet(path)
    shards = session.read.parquet(path).groupBy(F.input_file_name().alias("file")).agg(F.count(F.lit(1)).alias("rows"))
    named = shards.select(
        F.element_at(F.split("file", "/"), -1).alias("file"), "rows", F.lit(processor.fingerprint).alias("processor")
    )
    named.coalesce(1).write.json(f"{path}/{COUNTS_FOLDER}")


def _encoding_function(name: str, columns: list[str]) -> "BatchFunction":
    def encode_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import SparkFiles

        processor = processor_of_process(SparkFiles.get(name))
        for batch in batches:
            if len(batch):
                yield encoded_batch(pa.Table.from_batches([batch.rename_columns(columns)]), processor)

    return encode_batches


def encoded_batch(table: pa.Table, processor: ClickPromptProcessor) -> pa.RecordBatch:
    """Encode rows as shards hold them.

    Args:
        table: At least one row, with label.
        processor: The processor.

    Raises:
        ValueError: If a label is not 0 or 1, or a cell of a multi-valued field is not a list of single values.
    """
    ids, keys, clauses = [], [], []
    for f, field in enumerate(processor.schema.fields):
        values, codes = distinct_cells([table.column(field.column)])
        shown = each_distinct(values, _shown)
        if field.num_columns:
            of_values = processor.encode_values(f, values, np.bincount(codes, minlength=len(values)))
            ids.append(of_values[codes])
            if field.kind == "categorical":
                # as in `one_per_category`
                vocabulary = processor.vocabularies[f]
                unknown = [v for v, id_ in enumerate(of_values[:, 0].tolist()) if not id_]
                for v, is_missing in zip(unknown, mean_missing([values[v] for v in unknown], field)):
                    shown[v] = "" if is_missing else shown[v]
                shown = [vocabulary[id_ - 1] if id_ else text for text, id_ in zip(shown, of_values[:, 0].tolist())]
        keys.append(keys_of(pa.array(shown, pa.large_string()))[codes])
        if processor.reads_text and field.in_text:
            clauses.append(np.asarray(processor.render_values(f, values), dtype=object)[codes])
    label = table.column(processor.schema.label)
    columns = {
        "feature_ids": _lists(np.concatenate(ids, axis=1), pa.int32()),
        "label": pa.array(checked_labels(label, processor.schema, "a batch of the data frame"), pa.int8()),
        "value_keys": _lists(np.stack(keys, axis=1).view(np.int64), pa.int64()),
        "clauses": _lists(np.stack(clauses, axis=1), pa.string()) if clauses else pa.nulls(len(table), _TEXTS),
    }
    return pa.record_batch(columns)


def _lists(rows: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    """Rows of a matrix as lists."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1), kind))


def _shown(value: Any) -> str:
    """A value as grouped metrics tell it apart; ids would not do, because unknown values share one."""
    return repr(value) if holds_several(value) else canonical(value)
