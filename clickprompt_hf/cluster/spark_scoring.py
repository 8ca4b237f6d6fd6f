# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Click probabilities of a Spark data frame, as a lazy column.

Batches reach the model as Arrow tables, through `mapInArrow`. `mapInPandas` would turn integers with missing values
into floats, and times into those of the session's zone: other values, so other ids.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..columns_clickprompt import PROBABILITY_COLUMN, check_different
from ..export.exported_folder import is_export
from .engines import require_engine
from .spark_workers import check_workers, send_model, with_plain_names, without_pandas_warning
from .table_scorer import check_batch_size, check_table, is_ctr_export, keys_of_tables

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    BatchFunction = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def score(
    rows: "DataFrame",
    model: str | Path,
    output_column: str = PROBABILITY_COLUMN,
    batch_size: int | None = None,
) -> "DataFrame":
    """Add a column of click probabilities to a Spark data frame, which is computed when the result is used.

    A folder is sent to the workers; a Hub id is downloaded by each machine. Each Python worker loads the model once
    and keeps it for later tasks. It computes with `spark.task.cpus` threads. Workers that score an export of the CTR
    part need numpy, pyarrow and onnxruntime, others need this package. Columns are checked now, before any task
    starts.

    Args:
        rows: Raw rows with the columns of the model's schema; other columns are kept.
        model: Folder that `clickprompt export` wrote; or folder or Hub id of a checkpoint.
        output_column: Name of the new column, a double in [0, 1].
        batch_size: Rows per batch, as in `TableScorer`. Spark gives a worker
            `spark.sql.execution.arrow.maxRecordsPerBatch` rows at a time.

    Raises:
        ImportError: If Spark is missing; the message names the extra.
        OSError: If the model is missing.
        ValueError: If a column is missing, holds lists although its field is single-valued, or is already there, or
            `batch_size` is below 1.
        RuntimeError: If a worker lacks a package.
    """
    require_engine("pyspark", "spark")
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import DoubleType, StructField, StructType

    check_batch_size(batch_size)
    check_different(rows.columns, "the data frame")
    check_table(model, {field.name: is_nested(field.dataType) for field in rows.schema.fields}, output_column)
    # refuses columns that Arrow cannot hold
    to_arrow_schema(rows.schema, timezone="UTC")
    context = rows.sparkSession.sparkContext
    needed = ["numpy", "pyarrow", *(["onnxruntime"] if is_export(model) else [])]
    check_workers(context, needed if is_ctr_export(model) else ["clickprompt_hf", *needed])
    name = send_model(context, model) if Path(model).is_dir() else None
    if name is not None and is_ctr_export(model):
        function = _export_function(name, rows.columns, output_column, keys_of_tables(model))
    else:
        function = _package_function(name, str(model), rows.columns, output_column, batch_size)
    types = StructType([*rows.schema.fields, StructField(output_column, DoubleType())])
    with without_pandas_warning():
        return with_plain_names(rows).mapInArrow(function, types)


def is_nested(kind: object) -> bool:
    """Whether cells of a Spark type hold several values."""
    from pyspark.sql.types import ArrayType, MapType, StructType

    return isinstance(kind, (ArrayType, MapType, StructType))


def _package_function(
    name: str | None, model: str, columns: list[str], output_column: str, batch_size: int | None
) -> "BatchFunction":
    """Score batches with this package.

    Args:
        name: The folder that was sent; `None` if each worker finds the model itself.
        model: The model, if `name` is `None`.
        columns: Names of the columns.
        output_column: Name of the new column.
        batch_size: Rows per batch.
    """

    def score_batches(batches):
        import pyarrow as pa
        from pyspark import SparkFiles, TaskContext

        from clickprompt_hf.cluster.worker_models import scorer_of_process
        from clickprompt_hf.row_warnings_clickprompt import RowWarnings

        # there is none outside a task
        task: Any = TaskContext.get()
        scorer = scorer_of_process(model if name is None else SparkFiles.get(name), task.cpus(), batch_size)
        found = RowWarnings(scorer.encoder)
        for batch in batches:
            batch = batch.rename_columns(columns)
            scores = pa.array(scorer.score(pa.Table.from_batches([batch]), found), pa.float64())
            yield batch.append_column(output_column, scores)

    return score_batches


def _export_function(name: str, columns: list[str], output_column: str, keys: Sequence[str]) -> "BatchFunction":
    """Score batches with the code that an export of the CTR part brings; `keys` are those of its joined tables."""

    def score_batches(batches):
        import importlib
        import sys
        from pathlib import Path

        import pyarrow as pa
        from pyspark import SparkFiles, TaskContext

        # kept where later tasks of the process find it
        kept = f"{name}-scorer"
        if kept not in sys.modules:
            folder = Path(SparkFiles.get(name))
            own = {path.stem for path in folder.glob("*.py")}
            # another model may bring modules of the same names
            others = {stem: sys.modules.pop(stem) for stem in own & sys.modules.keys()}
            sys.path.insert(0, str(folder))
            try:
                module = importlib.import_module("scorer")
            finally:
                sys.path.remove(str(folder))
                for stem in own:
                    sys.modules.pop(stem, None)
                sys.modules.update(others)
            # there is none outside a task
            task: Any = TaskContext.get()
            vars(module)["of_process"] = module.Scorer(folder, task.cpus())
            sys.modules[kept] = module
        module = sys.modules[kept]
        scorer = vars(module)["of_process"]
        # exports of earlier versions have none, and warn per batch
        found = module.RowWarnings(scorer.encoder) if hasattr(module, "RowWarnings") else None
        for batch in batches:
            batch = batch.rename_columns(columns)
            wanted = {*scorer.encoder.read_columns, *keys}
            rows = batch.select([name for name in batch.schema.names if name in wanted])
            if found is None:
                inputs = scorer.encode(rows, module.UnknownValues(scorer.encoder))
            else:
                inputs = scorer.encode(rows, found.unknown, found.unread)
                found.warn()
            yield batch.append_column(output_column, pa.array(scorer.score_ids(*inputs).astype("f8")))

    return score_batches
