"""FSDP2 ends after 50 steps where one process does: all prompt encoders, tied and untied heads, LoRA, every task."""

import pytest
from test_processes import report_of

CASES = ("released", "paper", "low_rank", "untied", "clicks", "adapters", "alone")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return report_of("sharded_processes.py", tmp_path_factory.mktemp("sharded"), 50, *CASES)


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_of_two_processes_equal_those_of_one(case, report):
    outcome = report[case]
    assert "errors" not in outcome
    assert outcome["steps"] == 50
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-4
    assert outcome["same names"]
