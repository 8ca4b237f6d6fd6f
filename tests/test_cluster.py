"""What Spark and Ray have in common, without them."""

import zipfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from cluster_rows import EVERY_KIND, every_kind
from test_export_ctr import save_checkpoint
from tiny_data import tiny_rows

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.cluster import engines, ray, spark
from clickprompt_hf.cluster.model_archive import fingerprint_of_files, model_files, write_archive
from clickprompt_hf.cluster.spark_vocabulary import counted_keys
from clickprompt_hf.cluster.table_scorer import TableScorer
from clickprompt_hf.cluster.training_command import check_command, with_restarts
from clickprompt_hf.data.vocabulary import frequent_keys
from clickprompt_hf.scoring import score_table


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint, and what training leaves beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder)
    for name in ("optimizer.pt", "_test_scores.parquet", "checkpoint-7/model.safetensors", "runs/events"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("training")
    return folder


def test_a_missing_engine_is_named_with_its_extra(monkeypatch, checkpoint):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    for call, extra in (
        (lambda: spark.score(None, checkpoint), "spark"),
        (lambda: spark.fit_processor(None, None), "spark"),
        (lambda: spark.encode(None, None, "x"), "spark"),
        (lambda: spark.train([], 1), "spark"),
        (lambda: ray.score(None, checkpoint), "ray"),
        (lambda: ray.train([], 1), "ray"),
    ):
        with pytest.raises(ImportError, match=rf'not installed: pip install "clickprompt_hf\[{extra}\]"'):
            call()


def test_workers_get_what_scoring_needs(checkpoint, tmp_path):
    names = {name.as_posix() for name in model_files(checkpoint)}
    assert {"model.safetensors", "config.json", "feature_vocabularies.txt", "tokenizer.json"} <= names
    assert not names & {"optimizer.pt", "_test_scores.parquet", "checkpoint-7/model.safetensors", "runs/events"}
    write_archive(checkpoint, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path / "model")
    table = pa.table(tiny_rows(30, seed=9))
    expected = score_table(table, *_loaded(checkpoint), batch_size=256)
    np.testing.assert_allclose(TableScorer(tmp_path / "model").score(table), expected, rtol=0, atol=1e-6)
    before = fingerprint_of_files(checkpoint)
    assert fingerprint_of_files(tmp_path / "model") == before
    (tmp_path / "model" / "config.json").write_text("{}")
    assert fingerprint_of_files(tmp_path / "model") != before


def _loaded(checkpoint):
    from transformers import AutoModelForSequenceClassification, AutoProcessor

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    return AutoProcessor.from_pretrained(checkpoint), model


def test_training_starts_again_from_its_last_checkpoint():
    calls = []

    def run(arguments):
        calls.append(arguments)
        if len(calls) < 3:
            raise RuntimeError("a process died")
        return {"test_auc": 0.5}

    assert with_restarts(run, ["--output_dir", "out"], 2, RuntimeError) == {"test_auc": 0.5}
    resumed = ["--output_dir", "out", "--resume_from_checkpoint", "true"]
    assert [arguments[:4] for arguments in calls] == [["--output_dir", "out"], resumed, resumed]
    calls.clear()
    with pytest.raises(RuntimeError, match="a process died"):
        with_restarts(run, ["--output_dir", "out"], 1, RuntimeError)
    assert len(calls) == 2


def test_commands_are_checked():
    assert check_command("pretrain", ["--output_dir=x", "--seed", 3], 1, 0) == ["--output_dir=x", "--seed", "3"]
    for arguments, options, message in (
        (["--ctr_only"], {}, "`arguments` must have `--output_dir`"),
        (["--output_dir", "x"], {"command": "predict"}, "`command` must be one of .*, got 'predict'"),
        (["--output_dir", "x"], {"num_processes": 0}, "`num_processes` must be at least 1, got 0"),
        (["--output_dir", "x"], {"max_restarts": -1}, "`max_restarts` must be at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            check_command(
                **{"command": "finetune", "num_processes": 1, "max_restarts": 0, **options}, arguments=arguments
            )
    with pytest.raises(TypeError, match="`arguments` must be a list of strings, got '--output_dir x'"):
        check_command("finetune", "--output_dir x", 1, 0)


@pytest.mark.filterwarnings("ignore:.*training rows have more than:UserWarning")
@pytest.mark.parametrize("min_count", [1, 20])
def test_summed_keys_of_parts_are_the_vocabularies_of_the_whole(min_count):
    """What workers compute; numbers are summed and divided on the driver."""
    table = every_kind()
    expected = ClickPromptProcessor.fit(table, EVERY_KIND, min_count=min_count)
    for field, vocabulary in zip(EVERY_KIND.fields, expected.vocabularies):
        summed: Counter = Counter()
        for part in (table[:150], table[150:]):
            rows = pa.array(np.ones(len(part), dtype=np.int64))
            keys = counted_keys(part.column(field.column).combine_chunks(), rows, field)
            for key, count in zip(keys.column("key").to_pylist(), keys.column("rows").to_pylist()):
                summed[key] += count
        if field.kind != "numeric":
            assert frequent_keys(summed, min_count) == list(vocabulary), field.column
        else:
            assert sum(summed.values()) == len(table)
            assert None in summed
