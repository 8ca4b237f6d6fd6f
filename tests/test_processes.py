"""Two processes train as one does, stop together, and save sharded weights that load."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "processes.py"), str(tmp_path_factory.mktemp("processes"))]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", ["sparse", "pamlm", "cached", "distilled"])
def test_padded_rows_change_neither_weights_nor_evaluations(case, report):
    """60 training and 20 validation rows do not divide by the batches of 14 and 6."""
    assert report[case]["weights"] < 1e-5
    assert report[case]["evaluations"] < 1e-5


def test_processes_share_the_rows_of_a_teacher(report):
    alone, first, second = report["teacher"]
    assert len(set(alone)) > 50
    assert first == second
    assert first == pytest.approx(alone, abs=1e-5)


def test_all_processes_stop_if_one_diverges(report):
    for outcome in report["diverged"]:
        assert "ValueError: Training diverged: after 10 steps" in outcome["error"]


def test_the_first_process_decides_what_is_resumed_and_whether_training_goes_on(report):
    assert report["decided"] == [["checkpoint-10", 15]] * 2


def test_processes_wait_for_the_states_of_texts_without_a_collective(report):
    """A barrier would time out while another process computes."""
    (first, mapped), (second, also_mapped) = report["waiting"]
    assert sorted([first, second]) == [0, mapped]
    assert mapped == also_mapped > 50


def test_sharded_checkpoints_are_resumed_and_the_final_weights_are_whole(report):
    outcome = report["fsdp"]
    assert outcome["trained"] == [10, 10]
    assert outcome["whole"].endswith("checkpoint-10")
    assert {"pytorch_model_fsdp_0", "optimizer_0", "config.json", "processor_config.json"} <= set(
        outcome["in checkpoint"]
    )
    assert {"model.safetensors", "config.json", "processor_config.json"} <= set(outcome["files"])
    assert outcome["resumed"] == [15, 15]


@pytest.mark.parametrize(
    ("case", "reason"), [("paper", "with `prompt_encoder='paper'`, got 2"), ("tied", "with tied weights, got 2")]
)
def test_what_fsdp2_cannot_shard_is_refused_before_training(case, reason, report):
    for outcome in report[case]["trained"]:
        assert "ValueError: `fsdp_version` must be 1" in outcome["error"]
        assert reason in outcome["error"]


def test_training_without_the_wanted_fsdp_is_announced(tmp_path, monkeypatch):
    """On CPUs, accelerate trains without FSDP and says nothing."""
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr")
    options = {"report_to": "none", "eval_strategy": "no", "use_cpu": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClickPromptTrainer(ClickPromptForCTR(config), ClickPromptTrainingArguments(str(tmp_path), **options))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.warns(
        UserWarning, match=r"FSDP was asked for, but .* 1 process\(es\) on cpu, each holds the whole model"
    ):
        ClickPromptTrainer(ClickPromptForCTR(config), ClickPromptTrainingArguments(str(tmp_path), **options))
