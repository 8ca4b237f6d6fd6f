"""A process that dies ends the others with an error within a minute, at every stage of the work."""

import os
import subprocess
import sys

import pytest
from sharded_processes import CONFIGURATIONS
from test_processes import TESTS, report_of

STAGES = (
    "training",
    "training, the first process",
    "evaluation",
    "saving",
    "text states",
    "preparation",
    "scoring",
    "scoring, the first process",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dying")


@pytest.fixture(scope="module")
def report(folder):
    return report_of("dying_processes.py", folder)


@pytest.mark.parametrize("stage", STAGES)
def test_the_other_process_ends_with_an_error(stage, report):
    """Without a launcher, which would end it: as on another machine."""
    end = report[stage]
    assert end["killed"] == {"error": "the process died with code -9"}
    assert "error" in end["other"]
    assert end["seconds"] < 60


def test_a_launcher_ends_a_process_whose_peer_died_before_they_met(folder, report):
    config = ["--config_file", str(CONFIGURATIONS / "two_processes_cpu.yaml"), "--main_process_port", "0"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *config, str(TESTS / "dying_processes.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS), environment.get("PYTHONPATH", "")])
    # the limit is that of importing under load, not of waiting: sockets would wait for half an hour
    run = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "Signal 9 (SIGKILL)" in run.stderr
    assert not (folder / "launched.csv").exists()
