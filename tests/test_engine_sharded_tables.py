"""Commands in two processes with sharded id tables, and how much memory tables of ten million ids take."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from sharded_processes import CONFIGURATIONS
from small_runs import BENCHMARKS
from test_processes import TESTS
from transformers import AutoModelForSequenceClassification

ROWS = ["--dataset", "synthetic", "--max_train_rows", "400", "--num_train_epochs", "2"]


def launch(module, *arguments):
    """Run a command in two processes."""
    config = ["--config_file", str(CONFIGURATIONS / "two_processes_cpu.yaml"), "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *config, "-m", f"clickprompt_hf.runs.{module}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), environment.get("PYTHONPATH", "")])
    flags = ["--shard_id_tables", "true", *ROWS]
    run = subprocess.run([*command, *flags, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_commands_shard_tables(tmp_path):
    pretrained, finetuned = tmp_path / "pretrained", tmp_path / "finetuned"
    launch("pretrain", "--plm_name_or_path", "scratch-tiny", "--output_dir", pretrained)
    launch("finetune", "--model_name_or_path", pretrained, "--output_dir", finetuned)
    results = json.loads((finetuned / "all_results.json").read_text())
    assert results["test_auc"] > 0.5
    model = AutoModelForSequenceClassification.from_pretrained(finetuned)
    # the card counts the rows of both processes
    assert f"| Parameters | {model.num_parameters():,} |" in (finetuned / "README.md").read_text()
    assert (finetuned / "checkpoint-8" / "id_table_moments.safetensors").is_file()


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("sharded_tables")
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_no_process_holds_more_than_its_rows(benchmark):
    """Not while the model is built, trained, saved, loaded or resumed."""
    ids = 10**7
    figures = benchmark.main(["--whole", "100", "--divided", str(ids), "--rows", "64", "--steps", "7", "--save"])
    empty, divided = figures["rows"]
    # in float32
    own_rows = ids / 2 * benchmark.EMBEDDING_SIZE * 4 / 1e9
    # without and with two moments; another half of the table would be 0.3 GB more
    for name, tensors in zip(benchmark.MEMORY, (1, 3)):
        for peak_of in (name, f"{name} of the second run"):
            (without,) = map(float, re.findall(r"[\d.]+", empty[peak_of]))
            for peak in map(float, re.findall(r"[\d.]+", divided[peak_of])):
                assert tensors * own_rows < peak < without + tensors * own_rows + 0.25
