"""Ray gives the scores of one machine, whatever happens to its actors."""

import json
import os
import shutil
import signal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster_rows import saved_models
from documented import blocks
from tiny_data import tiny_rows, tiny_schema, tiny_splits

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.columnar import prepare_splits
from clickprompt_hf.data.prepared_notes import notes_of_shards
from clickprompt_hf.export.scorer import Scorer as ExportScorer

pytest.importorskip("ray", reason="needs the extra ray: pip install 'clickprompt_hf[ray]'")
import ray
import ray.data

from clickprompt_hf.cluster import ray as on_ray
from clickprompt_hf.cluster.table_scorer import TableScorer

# Ray sets its own deprecated settings
pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One node."""
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return saved_models(tmp_path_factory.mktemp("models"))


def numbered_rows(num_rows: int, seed: int = 9) -> pa.Table:
    return pa.table(tiny_rows(num_rows, seed)).append_column("row", pa.array(range(num_rows)))


def scores_in_order(scored, column: str = "click_probability") -> np.ndarray:
    rows = sorted(scored.take_all(), key=lambda row: row["row"])
    assert [row["row"] for row in rows] == list(range(len(rows)))
    return np.asarray([row[column] for row in rows])


@pytest.mark.parametrize("part", ["export", "plm", "checkpoint"])
def test_scores_are_those_of_one_machine(models, part):
    table = numbered_rows(50)
    rows = ray.data.from_arrow(table).repartition(4)
    scored = on_ray.score(rows, models / part, "p", rows_per_task=7, num_actors=(1, 2))
    expected = TableScorer(models / part).score(table)
    assert expected.std() > 0.01
    np.testing.assert_allclose(scores_in_order(scored, "p"), expected, rtol=0, atol=1e-6)
    kept = sorted(scored.drop_columns(["p"]).take_all(), key=lambda row: row["row"])
    assert kept == table.to_pylist()


def test_batches_keep_their_kind(models):
    table = numbered_rows(12)
    expected = ExportScorer(models / "export").score(table)
    scorer = on_ray.Scorer(models / "export")
    of_arrow = scorer(table)
    assert isinstance(of_arrow, pa.Table)
    of_pandas = scorer(table.to_pandas())
    assert isinstance(of_pandas, pd.DataFrame)
    of_numpy = scorer({name: column.to_numpy() for name, column in zip(table.column_names, table.columns)})
    assert isinstance(of_numpy, dict)
    for batch in (of_arrow, of_pandas, of_numpy):
        np.testing.assert_allclose(np.asarray(batch["click_probability"]), expected, rtol=0, atol=1e-6)
    assert len(scorer(table[:0])) == 0


def fragile_scorer() -> type:
    """A class that actors get whole, as they cannot import this module."""

    class Fragile(on_ray.Scorer):
        """The first actor to score a batch kills its process."""

        def __init__(self, marker, *arguments):
            super().__init__(*arguments)
            self.marker = marker

        def __call__(self, batch):
            try:
                os.close(os.open(self.marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return super().__call__(batch)
            os.kill(os.getpid(), signal.SIGKILL)

    return Fragile


def test_a_killed_actor_changes_nothing(models, tmp_path):
    table = numbered_rows(60, seed=4)
    rows = ray.data.from_arrow(table).repartition(6)
    scored = rows.map_batches(
        fragile_scorer(),
        fn_constructor_args=[str(tmp_path / "marker"), on_ray.SentModel.of(models / "export")],
        batch_format="pyarrow",
        batch_size=10,
        compute=ray.data.ActorPoolStrategy(size=2),
    )
    expected = ExportScorer(models / "export").score(table)
    np.testing.assert_allclose(scores_in_order(scored), expected, rtol=0, atol=1e-6)
    assert (tmp_path / "marker").exists()


def test_mistakes_are_reported_before_any_row_is_scored(models, tmp_path):
    table = numbered_rows(4)
    rows = ray.data.from_arrow(table)
    lists = table.set_column(0, "user", pa.array([[1]] * 4))
    for wrong, options, message in (
        (rows.drop_columns(["price"]), {}, r"The table must have the columns .*; missing \['price'\]"),
        (ray.data.from_arrow(lists), {}, "'user' of kind 'categorical' must hold one value per row"),
        (rows, {"output_column": "click"}, "already has a column 'click'"),
        (rows, {"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        (rows, {"rows_per_task": 0}, "`rows_per_task` must be at least 1, got 0"),
        (rows, {"num_actors": (2, 1)}, r"`num_actors` must be at least 1, .*, got \(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            on_ray.score(wrong, models / "export", **options)
    with pytest.raises(FileNotFoundError, match="`model` must be a checkpoint, an exported folder or a Hub id"):
        on_ray.score(rows, tmp_path / "missing" / "model")
    with pytest.raises(ValueError, match="`arguments` must have `--output_dir`"):
        on_ray.train(["--ctr_only"], 1)


QUICK = ["--report_to", "none", "--disable_tqdm", "true", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "10", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]


@pytest.mark.filterwarnings("ignore")
def test_the_recipes_of_the_documentation_run(models, tmp_path, capsys):
    """docs/scale.md, on small rows."""
    splits = tiny_splits()
    (tmp_path / "rows" / "test").mkdir(parents=True)
    pq.write_table(splits["test"], tmp_path / "rows" / "test" / "part-0.parquet")
    shutil.copytree(models / "export", tmp_path / "out")
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema())
    prepare_splits(splits, processor, tmp_path / "prepared", notes=notes_of_shards())
    quick = "".join(f', "{argument}"' for argument in QUICK)
    namespace: dict = {}
    recipes = [block for block in blocks("docs/scale.md") if "test_ray.py" in (block.not_run or "")]
    assert len(recipes) == 3
    for recipe in recipes:
        code = recipe.code.replace("/data", str(tmp_path)).replace('"--ctr_only"', f'"--ctr_only"{quick}')
        exec(compile(code, recipe.location, "exec"), namespace)

    expected = ExportScorer(models / "export").score(splits["test"])
    scored = pq.read_table(tmp_path / "ray-scores")
    np.testing.assert_allclose(np.sort(scored["click_probability"]), np.sort(expected), rtol=0, atol=1e-6)
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(expected.mean(), abs=1e-6)
    metrics = json.loads((tmp_path / "ray-out" / "all_results.json").read_text())
    assert 0 <= metrics["test_auc"] <= 1
    # two processes shared the 60 rows, 20 per step
    assert (tmp_path / "ray-out" / "checkpoint-3").is_dir()
