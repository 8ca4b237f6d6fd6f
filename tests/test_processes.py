"""Two processes train as one does, stop together, and save sharded weights that load."""

import json
import os
from pathlib import Path

import pytest
from warm_python import run_python

TESTS = Path(__file__).parent


def report_of(script, *arguments, **environment):
    """The JSON in the last line that a script of this folder prints."""
    search_path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": search_path, "TOKENIZERS_PARALLELISM": "false", **environment}
    run = run_python(TESTS / script, *arguments, **environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return report_of("processes.py", tmp_path_factory.mktemp("processes"))


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


def test_the_first_process_decides_what_is_resumed_and_whether_training_continues(report):
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
