"""DDP and FSDP2 end after 50 steps where one process does: prompt encoders, tied and untied heads, LoRA, all tasks."""

import pytest
from test_processes import report_of

CASES = ("released", "paper", "low_rank", "untied", "clicks", "adapters", "alone")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divided")
    whole = report_of("sharded_processes.py", folder, "ddp", 50, "released")
    divided = report_of("sharded_processes.py", folder, "fsdp2", 50, *CASES)
    return {("MULTI_CPU", "released"): whole["released"], **{("FSDP", case): divided[case] for case in CASES}}


@pytest.mark.parametrize(("kind", "case"), [("MULTI_CPU", "released"), *(("FSDP", case) for case in CASES)])
def test_fifty_steps_of_two_processes_equal_those_of_one(kind, case, report):
    outcome = report[kind, case]
    assert "errors" not in outcome
    assert outcome["kind"] == [kind, None]
    assert outcome["steps"] == 50
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-4
    assert outcome["same names"]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    return report_of("sharded_processes.py", tmp_path_factory.mktemp("resumed"), "fsdp2", 20, "resumed")


@pytest.mark.parametrize("way", ["2 to 1", "1 to 2", "2 to whole", "whole to 2"])
def test_other_processes_resume_a_checkpoint(way, resumed):
    """With a tied head, and from one kind of checkpoint to the other."""
    outcome = resumed[way]
    assert "errors" not in outcome
    assert outcome["steps"] == 20
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-5


def test_sharded_checkpoints_are_exported_to_one_file(resumed):
    for way in ("2 to 1", "1 to 2"):
        assert resumed[f"{way}: exported"] == ["ClickPromptForPAMLM", "ClickPromptProcessor", True]
