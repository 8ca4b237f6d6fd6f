"""Commands that are killed at any moment and run again end as if they had not been killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_fifty_kills_lose_nothing(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "kills.py"), str(tmp_path), "14"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    report = json.loads(run.stdout.splitlines()[-1])
    kills = [(name, kill) for name, of_command in report.items() for kill in of_command]
    assert [(name, kill["problem"]) for name, kill in kills if kill["problem"]] == []
    # a limit on the size of files may be above all that are written after it
    assert sum(kill["died"] for _, kill in kills) >= 50
