"""Warnings about scored rows whose user or item the saved tables lack."""

import logging
import pickle
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptPipeline, ClickPromptProcessor, Schema
from clickprompt_hf.cluster.table_scorer import TableScorer
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.lost_keys_clickprompt import LostKeys
from clickprompt_hf.row_warnings_clickprompt import RowWarnings
from clickprompt_hf.runs.serve import load_engine
from clickprompt_hf.scoring import score_table
from clickprompt_hf.serving.metrics import ServedValues
from clickprompt_hf.tables_clickprompt import JoinedTable

NUM_ROWS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint that joins prices and titles of the items a and b, and its export."""
    folder = tmp_path_factory.mktemp("items")
    items = {"item": ["a", "b", "c"], "price": [1.0, 2.0, 3.0], "title": ["x", "y", "z"]}
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table({"item": ["a", "b"] * 10, "click": [0, 1] * 10}), folder / "log.parquet")
    fields = [{"column": "price", "kind": "numeric", "num_buckets": 2}, "title"]
    tables = [{"file": str(folder / "items.parquet"), "key": "item"}]
    schema = Schema.from_dict({"fields": fields, "label": "click", "tables": tables})
    processor = ClickPromptProcessor.fit(read_table_files(folder / "log.parquet", schema), schema)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr")).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    export_ctr(folder / "model", folder / "served")
    return folder


@pytest.fixture
def processor(folder):
    return ClickPromptProcessor.from_pretrained(folder / "model")


@pytest.fixture
def model(folder):
    return ClickPromptForCTR.from_pretrained(folder / "model").eval()


def told(recwarn):
    return [str(warning.message) for warning in recwarn if "have a key in column" in str(warning.message)]


def log(num_lost, num_rows=NUM_ROWS):
    return {"item": ["new"] * num_lost + ["a"] * (num_rows - num_lost)}


def rows_of(columns):
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def test_lost_keys_are_counted_and_reported_once(recwarn):
    table = JoinedTable("item", ["a", "b"], {"price": [1, 2], "title": ["x", "y"]})

    def add(lost_keys, cells, columns=("price", "title")):
        lost_keys.add(cells, table.positions(cells), columns)

    lost, other = LostKeys(table), LostKeys(table)
    add(lost, ["a", "new", None])
    add(other, ["b", "b"])
    lost.merge(other.counts)
    lost.warn(" of rows.csv")
    lost.warn(" of rows.csv")
    messages = told(recwarn)
    assert len(messages) == 1
    assert messages[0].startswith(
        "1 of 4 rows of rows.csv have a key in column 'item' that the table saved with the model"
    )
    assert "such as 'new', so the columns ['price', 'title'] are missing there" in messages[0]
    # not if hardly any key is lost
    few = LostKeys(table)
    add(few, [*["a"] * 200, "new"])
    few.warn()
    assert len(recwarn) == 1


@pytest.mark.parametrize(
    "score",
    [
        lambda folder, processor, model: ClickPromptPipeline(model, processor, device="cpu", batch_size=4)(log(3)),
        lambda folder, processor, model: ClickPromptPipeline(model, processor, device="cpu", batch_size=4)(
            rows_of(log(3))
        ),
        lambda folder, processor, model: ClickPromptPipeline(model, processor, device="cpu", batch_size=4)(
            pa.table(log(3))
        ),
        lambda folder, processor, model: score_table(pa.table(log(3)), processor, model, 4),
        lambda folder, processor, model: processor(log(3)),
        lambda folder, processor, model: Scorer(folder / "served").score(rows_of(log(3))),
    ],
    ids=["pipeline, columns", "pipeline, rows", "pipeline, table", "score_table", "processor", "scorer"],
)
def test_a_call_warns_once(score, folder, processor, model, recwarn):
    score(folder, processor, model)
    (message,) = told(recwarn)
    assert message.startswith(f"3 of {NUM_ROWS} rows have a key in column 'item'")


def test_rows_with_the_columns_lose_no_key(processor, model, recwarn):
    pipe = ClickPromptPipeline(model, processor, device="cpu")
    brought = {**log(3), "price": [1.0] * NUM_ROWS, "title": ["x"] * NUM_ROWS}
    pipe(brought)
    pipe(rows_of(brought))
    pipe({"item": [None] * 3 + ["a"] * 17})
    assert not told(recwarn)


def test_rows_scored_one_by_one_warn_once(processor, model, recwarn):
    warnings.simplefilter("always")
    pipe = ClickPromptPipeline(model, processor, device="cpu")
    before = pickle.dumps(processor)
    for item in ("new", "newer", "newest"):
        pipe({"item": item})
    assert len(told(recwarn)) == 1
    assert pickle.dumps(processor) == before


@pytest.mark.parametrize("name", ["model", "served"])
def test_the_batches_of_a_task_share_warnings(name, folder, recwarn):
    """Also those about cells that are not numbers, which each batch used to repeat."""
    # Python would hide a warning that repeats an earlier one
    warnings.simplefilter("always")
    scorer = TableScorer(folder / name)
    batches = [pa.table({**log(3), "price": ["cheap"] + ["1.5"] * 19}) for _ in range(3)]
    lacking = [pa.table(log(3)) for _ in range(3)]
    for _ in range(2):
        task = RowWarnings(scorer.encoder)
        for batch in [*batches, *lacking]:
            scorer.score(batch, task)
    unread = [str(warning.message) for warning in recwarn if "should hold numbers" in str(warning.message)]
    assert (len(unread), len(told(recwarn))) == (2, 2)
    # an actor is one task
    for batch in [*batches, *lacking]:
        scorer.score(batch)
    assert len(told(recwarn)) == 3


@pytest.mark.parametrize("name", ["model", "served"])
def test_a_service_counts_lost_keys(name, folder, caplog):
    engine = load_engine(str(folder / name))
    values = ServedValues(engine.encoder, engine.trained_values)
    with caplog.at_level(logging.WARNING, logger="clickprompt_hf.serving.metrics"):
        for _ in range(3):
            engine.read(rows_of(log(30, 500)), values)
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("60 of 1,000 rows have a key in column 'item'")
    counts = {sample.name: sample.value for metric in values.collect() for sample in metric.samples}
    assert counts["clickprompt_joined_keys_total"] == 1500
    assert counts["clickprompt_lost_keys_total"] == 90
    np.testing.assert_array_equal(values.lost_keys[0].counts[:2], [90, 1500])
