"""Rows whose columns have every type and kind that vocabularies are fitted on, and models that engines score with."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
from test_export_ctr import save_checkpoint

from clickprompt_hf import FieldSchema, Schema
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.export_plm import export_plm


def saved_models(folder):
    """Save a checkpoint with a PLM, the export of its CTR part, and the export of the whole; returns the folder."""
    save_checkpoint(folder / "checkpoint")
    export_ctr(folder / "checkpoint", folder / "export")
    export_plm(folder / "checkpoint", folder / "plm")
    return folder


def every_kind(num_rows: int = 400) -> pa.Table:
    """Columns of many types; values are spelled in several ways, repeated and missing."""
    draw = np.random.default_rng(5)

    def column(cells: list, kind: pa.DataType) -> pa.Array:
        weights = 1 / np.arange(1, len(cells) + 1)
        return pa.array([cells[i] for i in draw.choice(len(cells), num_rows, p=weights / weights.sum())], kind)

    day = datetime.datetime(2024, 3, 10, 1, 30, tzinfo=datetime.UTC)
    times = [day + datetime.timedelta(hours=7 * i, microseconds=i) for i in range(9)]
    numbers = [3.0, None, 0.0, float("nan"), -0.0, float("inf"), *np.round(draw.normal(size=150), 6).tolist()]
    texts = ["Up", " Up ", "7.0", "7", "007", "1e3", "NA", "", None, "Café", "Cafe\u0301", "M*A*S*H", "true", "TRUE"]
    columns = {
        "user": column([2**53 + 1, 2**53, 7, None, 3], pa.int64()),
        "text": column(texts, pa.string()),
        "share": column([0.1, 0.25, None, 7.0, float("nan"), 0.5, -0.0, 0.0], pa.float32()),
        "price": column([decimal.Decimal("4.50"), decimal.Decimal("7.00"), None], pa.decimal128(8, 2)),
        "seen": column([*times, None], pa.timestamp("us", "UTC")),
        "hour": column([*times, None], pa.timestamp("us", "UTC")),
        "day": column([datetime.date(2024, 1, 31), None, datetime.date(1999, 12, 31)], pa.date32()),
        "is_new": column([True, None, False], pa.bool_()),
        "amount": column(numbers, pa.float64()),
        "size": column(numbers, pa.float64()),
        "written": column(["1", " 2.5", "many", None, "1e1", "-3", "2", "7.25", "100"], pa.string()),
        "tags": column(["a|b", "", "b", None, "a|b|c", "c|c"], pa.string()),
        "genres": column([["x", "y"], ["y"], [], None, ["z", "x"]], pa.list_(pa.string())),
        "a.b": column(["dots", "in", "names"], pa.string()),
        "click": column([0, 1], pa.int64()),
    }
    return pa.table(columns)


EVERY_KIND = Schema(
    fields=(
        FieldSchema("user"),
        FieldSchema("text", missing=("7",)),
        FieldSchema("share"),
        FieldSchema("price"),
        FieldSchema("seen"),
        FieldSchema("hour", kind="hour"),
        FieldSchema("day", kind="weekday"),
        FieldSchema("is_new"),
        FieldSchema("amount", kind="numeric", num_buckets=10),
        FieldSchema("size", kind="numeric", num_buckets=7, buckets="log"),
        FieldSchema("written", kind="numeric", num_buckets=3),
        FieldSchema("tags", kind="multi_valued", max_values=2),
        FieldSchema("genres", kind="multi_valued", max_values=3),
        FieldSchema("a.b"),
    ),
    label="click",
)
