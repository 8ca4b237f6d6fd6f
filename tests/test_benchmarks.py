"""Benchmarks run at tiny sizes in processes of their own; their figures are not checked.

test_docs.py runs the others, in its own process.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = ["data", "same_work", "late_prompts"]


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_run(name, tmp_path):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--output", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rows"]
    assert {"cpu", "cores", "torch"} <= set(figures["machine"])
