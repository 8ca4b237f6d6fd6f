"""The folder of encoded rows: one run's alone, and gone once that run has ended or was killed."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from clickprompt_hf.runs import prepared_folder
from clickprompt_hf.runs.prepared_folder import claim_prepared_folder, prepared_data, remove_left_folders

HOST = socket.gethostname()
# Holds the lock as a run does; importing the package takes seconds.
HOLD = """
import sys
import filelock

lock = filelock.FileLock(sys.argv[1])
lock.acquire(blocking=False)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that uses the output folder."""
    prepared_data(tmp_path).mkdir(parents=True)
    (prepared_data(tmp_path) / "rows.npy").touch()
    command = [sys.executable, "-c", HOLD, str(prepared_data(tmp_path).parent / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def no_claims(monkeypatch):
    monkeypatch.setattr(prepared_folder, "_held", {})


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).glob("*"))


def test_a_killed_run_leaves_nothing_to_the_next(other_run, tmp_path):
    other_run.kill()
    other_run.wait()
    assert names(tmp_path) == [f"_prepared_data-{HOST}"]
    remove_left_folders(tmp_path)
    assert names(tmp_path) == []


def test_two_runs_at_once_do_not_share_an_output_folder(other_run, tmp_path):
    remove_left_folders(tmp_path)
    with pytest.raises(FileExistsError, match=r"`output_dir` .* is in use by another run, or .* Stop them, or choose"):
        claim_prepared_folder(tmp_path)
    # the other run's rows are still there
    assert (prepared_data(tmp_path) / "rows.npy").exists()
    other_run.kill()
    other_run.wait()
    claim_prepared_folder(tmp_path)
    assert names(prepared_data(tmp_path).parent) == ["lock"]


@pytest.mark.parametrize(
    "left", ["_prepared_data-elsewhere", f"_prepared_data-{HOST}", f"_prepared_data-{HOST}.partial"]
)
def test_folders_of_other_machines_and_versions_are_removed(left, tmp_path):
    """A container has another host name in each run; earlier versions had no lock and other names."""
    (tmp_path / left / "processor").mkdir(parents=True)
    (tmp_path / left / "labels.npy").touch()
    (tmp_path / "checkpoint-1").mkdir()
    remove_left_folders(tmp_path)
    assert names(tmp_path) == ["checkpoint-1"]


def test_several_runs_of_one_process_follow_each_other(tmp_path):
    for _ in range(2):
        remove_left_folders(tmp_path)
        claim_prepared_folder(tmp_path)
        assert names(prepared_data(tmp_path).parent) == ["lock"]
        (prepared_data(tmp_path)).mkdir()
    # what a test or a user has deleted is claimed anew
    subprocess.run(["rm", "-r", str(prepared_data(tmp_path).parent)], check=True)
    claim_prepared_folder(tmp_path)
    assert names(prepared_data(tmp_path).parent) == ["lock"]


def test_what_a_killed_run_leaves_is_not_published():
    """The patterns that `Trainer.push_to_hub` ignores."""
    left = [f"_prepared_data-{HOST}/{name}" for name in ("lock", "data/labels.npy", "data.partial/processor/x.json")]
    assert list(filter_repo_objects(left, ignore_patterns=["_*", "checkpoint-*"])) == []
