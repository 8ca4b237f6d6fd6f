"""DeepSpeed's ZeRO-2 and ZeRO-3 end after 50 steps where one process does, on CPUs."""

import pytest
from test_processes import report_of

pytest.importorskip("deepspeed", reason="needs DeepSpeed")

CASES = {2: ("released", "adapters"), 3: ("released", "paper", "low_rank", "clicks", "adapters")}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return {
        stage: report_of(
            "sharded_processes.py", tmp_path_factory.mktemp("divided"), f"deepspeed_zero{stage}", 50, *cases
        )
        for stage, cases in CASES.items()
    }


@pytest.mark.parametrize(("stage", "case"), [(stage, case) for stage, cases in CASES.items() for case in cases])
def test_fifty_steps_of_two_processes_equal_those_of_one(stage, case, reports):
    outcome = reports[stage][case]
    assert "errors" not in outcome
    assert outcome["kind"] == ["DEEPSPEED", stage]
    assert outcome["steps"] == 50
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-4
    assert outcome["same names"]


def test_a_checkpoint_is_resumed(tmp_path):
    outcome = report_of("sharded_processes.py", tmp_path, "deepspeed_zero3", 20, "resumed")["2 to 2"]
    assert "errors" not in outcome
    assert outcome["steps"] == 20
    assert outcome["losses"] < 1e-5
    assert outcome["weights"] < 1e-5
