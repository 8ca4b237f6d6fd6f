"""Scores rows with a checkpoint's own code, where clickprompt_hf cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

WITHOUT_PACKAGE = """
import json, sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "clickprompt_hf":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuse)
from transformers import pipeline

score = pipeline("ctr-prediction", model=sys.argv[1], trust_remote_code=True)
print(json.dumps([row["click_probability"] for row in score(json.loads(sys.argv[2]))]))
"""


def scores_without_package(checkpoint: Path, rows: list[dict], home: Path) -> list[float]:
    """Click probabilities of rows by the pipeline of a new process; `home` caches the checkpoint's code."""
    found = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_PACKAGE, str(checkpoint), json.dumps(rows)],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return json.loads(found.stdout)
