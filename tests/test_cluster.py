"""What Spark and Ray have in common, without them."""

import errno
import os
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from cluster_rows import EVERY_KIND, every_kind
from safetensors.numpy import save_file
from test_export_ctr import save_checkpoint
from tiny_data import tiny_rows

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.cluster import engines, ray, spark
from clickprompt_hf.cluster.model_archive import fingerprint_of_files, model_files, write_archive
from clickprompt_hf.cluster.spark_vocabulary import counted_keys
from clickprompt_hf.cluster.table_scorer import TableScorer
from clickprompt_hf.cluster.training_command import check_command, run_command, with_restarts
from clickprompt_hf.data.vocabulary import frequent_keys
from clickprompt_hf.scoring import score_table

LEFT_BY_TRAINING = ("optimizer.pt", "_test_scores.parquet", "checkpoint-7/model.safetensors", "runs/events")
LEFT_BY_TRAINING += ("optimizer_0/__0_0.distcp", "pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp.bin")
LEFT_BY_TRAINING += ("global_step9/mp_rank_00_model_states.pt",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint, and what training leaves beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder)
    for name in LEFT_BY_TRAINING:
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
    assert not names & set(LEFT_BY_TRAINING)
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


def write_checkpoint(output_dir, steps):
    """A checkpoint that is whole as far as anyone looks."""
    folder = output_dir / f"checkpoint-{steps}"
    folder.mkdir(parents=True)
    save_file({"weight": np.zeros(1)}, folder / "model.safetensors")
    (folder / "trainer_state.json").write_text("{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (folder / name).write_text("state")


def failing_run(calls, *before_failures):
    """Training that fails once for each function, after it was called."""

    def run(arguments):
        calls.append(arguments)
        if len(calls) <= len(before_failures):
            before_failures[len(calls) - 1]()
            raise RuntimeError("a process died")
        return {"test_auc": 0.5}

    return run


def nothing():
    pass


def test_training_starts_again_from_its_last_checkpoint(tmp_path):
    given, calls = ["--output_dir", "elsewhere", f"--output_dir={tmp_path}", "--ctr_only"], []
    run = failing_run(calls, nothing, lambda: write_checkpoint(tmp_path, 5), nothing)
    assert with_restarts(run, given, 3, RuntimeError) == {"test_auc": 0.5}
    resumed = [*given, "--resume_from_checkpoint", "true"]
    assert calls == [given, given, resumed, resumed]
    calls.clear()
    with pytest.raises(RuntimeError, match="a process died"):
        with_restarts(failing_run(calls, nothing, nothing), given, 1, RuntimeError)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "more", [[], ["--overwrite_output_dir"], ["--resume_from_checkpoint", "elsewhere/checkpoint-3"]]
)
def test_checkpoints_of_an_earlier_run_are_not_resumed(more, tmp_path):
    write_checkpoint(tmp_path, 20)
    given, calls = ["--output_dir", str(tmp_path), *more], []
    with_restarts(failing_run(calls, nothing), given, 1, RuntimeError)
    assert calls == [given, given]

    def overwrite():
        shutil.rmtree(tmp_path / "checkpoint-20")
        write_checkpoint(tmp_path, 20)

    calls.clear()
    with_restarts(failing_run(calls, overwrite), given, 1, RuntimeError)
    assert calls == [given, [*given, "--resume_from_checkpoint", "true"]]


class FakeRay(ModuleType):
    """As much of Ray as an actor asks."""

    def __init__(self, cpus=1, archive=b""):
        super().__init__("ray")
        self.cpus, self.archive = cpus, archive

    def is_initialized(self):
        return True

    def get_runtime_context(self):
        return self

    def get_actor_id(self):
        return "actor"

    def get_assigned_resources(self):
        return {"CPU": self.cpus} if self.cpus else {}

    def get(self, reference):
        return self.archive


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1.0, 1), (2.5, 2), (0, 0)])
def test_an_actor_with_part_of_a_cpu_has_one_thread(cpus, threads, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", FakeRay(cpus))
    assert ray._cpus_of_actor() == threads


def test_actors_of_a_node_unpack_a_model_once(checkpoint, tmp_path, monkeypatch):
    write_archive(checkpoint, tmp_path / "model.zip")
    monkeypatch.setitem(sys.modules, "ray", FakeRay(archive=(tmp_path / "model.zip").read_bytes()))
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    sent, rename = ray.SentModel(None, "of-a-test"), os.replace

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        sent.unpack()
    assert not list((tmp_path / "node").iterdir())

    def second(source, target):
        shutil.copytree(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", second)
    folder = sent.unpack()
    assert model_files(folder) == model_files(checkpoint)
    assert sent.unpack() == folder
    assert list((tmp_path / "node").iterdir()) == [folder]


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


def test_workers_run_the_command_that_was_named(tmp_path):
    given = ["--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--plm_name_or_path is required"):
        run_command("pretrain", given)
    with pytest.raises(ValueError, match="give exactly one of --model_name_or_path"):
        run_command("finetune", given)


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
