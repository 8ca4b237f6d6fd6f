"""Spark gives the ids, vocabularies and scores of one machine, whatever happens to its workers."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cluster_rows import EVERY_KIND, every_kind, saved_models
from documented import blocks
from tiny_data import tiny_roberta_tokenizer, tiny_rows, tiny_schema, tiny_splits
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer

pytest.importorskip("pyspark", reason="needs the extra spark: pip install 'clickprompt_hf[spark]'")
if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    pytest.skip("needs Java, 17 or later", allow_module_level=True)
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from clickprompt_hf.cluster import spark
from clickprompt_hf.cluster.shards import join_shards
from clickprompt_hf.cluster.table_scorer import TableScorer
from clickprompt_hf.data.columnar import load_prepared, prepare_splits

TESTS = str(Path(__file__).parent)
pytestmark = pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two executors, each a process with one core: what they share, the driver has sent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("PYTHONPATH", os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]))
        # the session's zone must not matter
        settings = {
            "spark.ui.enabled": "false",
            "spark.python.daemon.module": "warm_daemon",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.session.timeZone": "America/New_York",
            "spark.executor.memory": "512m",
            "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        }
        builder = SparkSession.builder.master("local-cluster[2,1,1024]").appName("tests")
        session = builder.config(map=settings).getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return saved_models(tmp_path_factory.mktemp("models"))


@pytest.mark.filterwarnings("ignore:.*training rows have more than:UserWarning")
@pytest.mark.parametrize("min_count", [1, 20])
def test_vocabularies_are_those_of_one_machine(session, min_count):
    table, schema = every_kind(), EVERY_KIND
    if min_count > 1:
        schema = Schema(tuple(f for f in schema.fields if f.column in ("text", "amount", "tags")), schema.label)
    fitted = spark.fit_processor(session.createDataFrame(table).repartition(3), schema, min_count=min_count)
    expected = ClickPromptProcessor.fit(table, schema, min_count=min_count)
    for field, found, wanted in zip(schema.fields, fitted.vocabularies, expected.vocabularies):
        assert list(found) == list(wanted), field.key
    assert fitted.boundaries == expected.boundaries
    assert fitted.fingerprint == expected.fingerprint
    ids = np.asarray(fitted(table)["feature_ids"])
    np.testing.assert_array_equal(ids, np.asarray(expected(table)["feature_ids"]))
    assert len(np.unique(ids)) > 5


def test_warnings_about_columns_are_those_of_one_machine(session):
    table = pa.table({"item": pa.array([7.0, None, 8.0]), "tags": ["a|b", "b|c", "c"], "click": [0, 1, 0]})
    schema = Schema((FieldSchema("item"), FieldSchema("tags", kind="multi_valued", separator=";")), label="click")
    for fit, rows in (
        (ClickPromptProcessor.fit, table),
        (spark.fit_processor, session.createDataFrame(table)),
    ):
        with pytest.warns(UserWarning, match="Column|No cell") as caught:
            fit(rows, schema)
        messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
        assert [message.partition(", e.g.")[0] for message in messages] == [
            "Column 'item' of kind 'categorical' holds whole numbers as floats because of missing values",
            "No cell of column 'tags' has its `separator` ';', but most have '|': each cell counts as one value.",
        ]


@pytest.mark.parametrize("part", ["export", "plm", "checkpoint"])
def test_scores_are_those_of_one_machine(session, models, part):
    table = pa.table(tiny_rows(50, seed=9)).append_column("row", pa.array(range(50)))
    rows = session.createDataFrame(table).repartition(3)
    scored = spark.score(rows, models / part, batch_size=None if part == "export" else 4).toArrow()
    assert scored.column_names == [*table.column_names, "click_probability"]
    expected = TableScorer(models / part).score(table)
    assert expected.std() > 0.01
    order = scored.column("row").to_numpy()
    assert sorted(order) == list(range(50))
    np.testing.assert_allclose(scored.column("click_probability").to_numpy(), expected[order], rtol=0, atol=1e-6)
    assert scored.select(table.column_names).to_pylist() == table.take(order).to_pylist()


@pytest.fixture(scope="module")
def with_vectors(tmp_path_factory):
    """Rows with lists of numbers, some of them missing, and a checkpoint and an export that read them."""
    folder, draw = tmp_path_factory.mktemp("vectors"), np.random.default_rng(1)
    vectors = [None if row % 7 == 0 else draw.normal(size=3).tolist() for row in range(40)]
    columns = {"user": [row % 4 for row in range(40)], "image": pa.array(vectors, pa.list_(pa.float32()))}
    table = pa.table({"row": range(40), **columns, "click": draw.integers(2, size=40)})
    schema = Schema((FieldSchema("user"), FieldSchema("image", kind="vector")), label="click")
    processor = ClickPromptProcessor.fit(table, schema)
    torch.manual_seed(0)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=[1], vector_sizes=processor.vector_sizes)
    ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr")).save_pretrained(folder / "checkpoint")
    processor.save_pretrained(folder / "checkpoint")
    export_ctr(folder / "checkpoint", folder / "export")
    return table, processor, folder


@pytest.mark.parametrize("part", ["checkpoint", "export"])
def test_vectors_are_scored(session, with_vectors, part):
    table, _, folder = with_vectors
    scored = spark.score(session.createDataFrame(table).repartition(3), folder / part).toArrow().sort_by("row")
    expected = TableScorer(folder / part).score(table)
    assert len(set(expected.round(4))) > 20
    np.testing.assert_allclose(scored.column("click_probability").to_numpy(), expected, rtol=0, atol=1e-6)


def test_rows_with_vectors_are_prepared_elsewhere(session, with_vectors, tmp_path):
    table, processor, _ = with_vectors
    rows = session.createDataFrame(table)
    message = r"must have no vector fields to be {}, got \['image'\]\. Prepare such rows on one machine"
    before = jobs(session)
    with pytest.raises(ValueError, match="`schema` " + message.format("fitted in Spark")):
        spark.fit_processor(rows, processor.schema)
    with pytest.raises(ValueError, match="The schema of `processor` " + message.format("encoded in Spark")):
        spark.encode(rows, processor, str(tmp_path / "shards"))
    assert jobs(session) == before


def test_integers_beside_missing_values_and_times_keep_their_ids(session, tmp_path):
    """Pandas would make floats of the former, and local times of the latter."""
    table = every_kind(60)
    schema = Schema((FieldSchema("user"), FieldSchema("seen", kind="hour"), FieldSchema("a.b")), label="click")
    processor = ClickPromptProcessor.fit(table, schema)
    torch.manual_seed(0)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes)
    ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, use_plm=False)).save_pretrained(tmp_path / "alone")
    processor.save_pretrained(tmp_path / "alone")
    export_ctr(tmp_path / "alone", tmp_path / "export")
    rows = session.createDataFrame(table).coalesce(1)
    scored = spark.score(rows, tmp_path / "export", "p").select("p").toArrow()
    expected = Scorer(tmp_path / "export").score(table)
    assert len(np.unique(expected)) > 10
    np.testing.assert_allclose(scored.column("p").to_numpy(), expected, rtol=0, atol=1e-6)
    spark.encode(rows, processor, str(tmp_path / "shards"))
    (shard,) = (tmp_path / "shards").glob("*.parquet")
    ids = np.asarray(pq.read_table(shard).column("feature_ids").to_pylist())
    np.testing.assert_array_equal(ids, np.asarray(processor(table)["feature_ids"]))


def test_a_killed_executor_changes_nothing(session, models, tmp_path):
    table = pa.table(tiny_rows(80, seed=4)).append_column("row", pa.array(range(80)))
    rows = session.createDataFrame(table).repartition(6)

    def fragile(marker):
        return rows.mapInArrow(kill_executor_once(str(tmp_path / marker)), rows.schema)

    scored = spark.score(fragile("scoring"), models / "export").toArrow().sort_by("row")
    assert (tmp_path / "scoring").exists()
    np.testing.assert_allclose(
        scored.column("click_probability").to_numpy(), Scorer(models / "export").score(table), rtol=0, atol=1e-6
    )
    fitted = spark.fit_processor(fragile("fitting"), tiny_schema())
    assert (tmp_path / "fitting").exists()
    assert fitted.fingerprint == ClickPromptProcessor.fit(table, tiny_schema()).fingerprint


def kill_executor_once(marker: str):
    """A function over batches; the first task to reach it kills its executor, the Java process above its Python."""

    def pass_through(batches):
        import os
        import signal
        from pathlib import Path

        for batch in batches:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                yield batch
                continue
            process = Path(f"/proc/{os.getpid()}")
            while "java" not in (process / "comm").read_text():
                process = process.with_name((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            os.kill(int(process.name), signal.SIGKILL)

    return pass_through


def jobs(session) -> int:
    """Number of jobs so far."""
    return len(session.sparkContext.statusTracker().getJobIdsForGroup(None))


def test_mistakes_are_reported_before_any_job(session, models, tmp_path):
    rows = session.createDataFrame(pa.table(tiny_rows(4)))
    before = jobs(session)
    for wrong, options, message in (
        (rows.drop("price"), {}, r"The table must have the columns .*; missing \['price'\]"),
        (rows.withColumn("user", F.array("user")), {}, "'user' of kind 'categorical' must hold one value per row"),
        (rows, {"output_column": "click"}, "already has a column 'click'"),
        (rows, {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        (rows.select("*", "user"), {}, r"must have different names; repeated: \['user'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            spark.score(wrong, models / "export", **options)
    with pytest.raises(FileNotFoundError, match="`model` must be a checkpoint, an exported folder or a Hub id"):
        spark.score(rows, tmp_path / "missing" / "model")
    for wrong, schema, min_count, message in (
        (rows.drop("price"), tiny_schema(), 1, r"The data frame must have the columns .*; missing \['price'\]"),
        (rows.withColumn("user", F.array("user")), tiny_schema(), 1, "'user' of kind 'categorical' must hold one"),
        (rows, tiny_schema(), 0, "`min_count` must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            spark.fit_processor(wrong, schema, min_count=min_count)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema())
    for wrong, message in ((rows.drop("price"), "'price'"), (rows.drop("click"), "'click'")):
        with pytest.raises(ValueError, match=rf"The data frame must have the columns .*; missing \[{message}\]"):
            spark.encode(wrong, processor, str(tmp_path / "shards"))
    with pytest.raises(ValueError, match="`arguments` must have `--output_dir`"):
        spark.train(["--ctr_only"], 1)
    assert jobs(session) == before


def test_columns_without_a_value_of_their_kind_are_refused(session):
    rows = session.createDataFrame(pa.table({"title": ["Up", None], "click": [0, 1]}))
    for kind, what in (("hour", "times"), ("numeric", "numbers")):
        schema = Schema((FieldSchema("title", kind=kind),), label="click")
        with pytest.raises(ValueError, match=f"must hold {what}, but none of its training values is one"):
            spark.fit_processor(rows, schema)


def test_workers_without_the_package_are_named(session, models, tmp_path, monkeypatch):
    """Workers of another environment, which cannot import it, score exports all the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('clickprompt_hf', 'torch', 'transformers'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    monkeypatch.setitem(session.sparkContext.environment, "PYTHONPATH", f"{tmp_path}{os.pathsep}{TESTS}")
    table = pa.table(tiny_rows(12, seed=9))
    rows = session.createDataFrame(table).coalesce(1)
    for refused in (
        lambda: spark.score(rows, models / "checkpoint"),
        lambda: spark.fit_processor(rows, tiny_schema()),
    ):
        with pytest.raises(RuntimeError, match="Every worker needs clickprompt_hf.* cannot be imported on"):
            refused()
    scored = spark.score(rows, models / "export").toArrow()
    np.testing.assert_allclose(
        scored.column("click_probability").to_numpy(), Scorer(models / "export").score(table), rtol=0, atol=1e-6
    )


QUICK = ["--report_to", "none", "--disable_tqdm", "true", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "10", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]


def test_the_recipes_of_the_documentation_run(session, tmp_path):
    """docs/scale.md, on small rows, each split in two files, in the order in which Spark reads them."""
    splits = tiny_splits()
    for name, table in splits.items():
        (tmp_path / "rows" / name).mkdir(parents=True)
        for number, part in enumerate((table[:11], table[11:])):
            pq.write_table(part, tmp_path / "rows" / name / f"part-{number}.parquet")
    (tmp_path / "schema.yaml").write_text(json.dumps(tiny_schema().to_dict()))
    quick = "".join(f', "{argument}"' for argument in QUICK)
    namespace: dict = {}
    recipes = [block for block in blocks("docs/scale.md") if "test_spark.py" in (block.not_run or "")]
    assert len(recipes) == 4
    for recipe in recipes:
        code = recipe.code.replace("/data", str(tmp_path)).replace('"--ctr_only"', f'"--ctr_only"{quick}')
        exec(compile(code, recipe.location, "exec"), namespace)

    expected = ClickPromptProcessor.fit(splits["train"], tiny_schema(), min_count=2)
    assert namespace["processor"].fingerprint == expected.fingerprint
    joined, processor = load_prepared(tmp_path / "prepared")
    assert processor.fingerprint == expected.fingerprint
    for name, table in splits.items():
        wanted = np.column_stack([np.asarray(expected(table)["feature_ids"]), table.column("click").to_numpy()])
        found = np.column_stack([joined[name].feature_ids, joined[name].labels])
        # rows come in the order of Spark's partitions
        np.testing.assert_array_equal(*(rows[np.lexsort(rows.T)] for rows in (found, wanted)))
    assert 0 <= namespace["metrics"]["test_auc"] <= 1
    scored = pq.read_table(tmp_path / "scores")
    found = dict(zip(map(str, scored.drop_columns(["click_probability"]).to_pylist()), scored["click_probability"]))
    scores = TableScorer(tmp_path / "out").score(splits["test"])
    for row, score in zip(splits["test"].to_pylist(), scores):
        assert found[str(row)].as_py() == pytest.approx(score, abs=1e-6)


def test_encoding_survives_a_killed_executor_and_keeps_the_text(session, tmp_path):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=30)
    splits = tiny_splits()
    for name, table in splits.items():
        rows = session.createDataFrame(table).coalesce(1)
        if name == "train":
            rows = rows.mapInArrow(kill_executor_once(str(tmp_path / "killed")), rows.schema)
        spark.encode(rows, processor, str(tmp_path / "shards" / name))
    assert (tmp_path / "killed").exists()
    join_shards({name: tmp_path / "shards" / name for name in splits}, processor, tmp_path / "joined")
    prepare_splits(splits, processor, tmp_path / "prepared")
    joined, expected = (load_prepared(tmp_path / folder)[0] for folder in ("joined", "prepared"))
    for name, split in expected.items():
        for array in ("feature_ids", "labels", "clause_ids", "text_ids"):
            np.testing.assert_array_equal(getattr(joined[name], array), getattr(split, array))
