"""Make benchmarks, generated data and scratch PLMs small enough for tests."""

import importlib
from pathlib import Path

from clickprompt_hf.data.sources.synthetic import SyntheticSizes
from clickprompt_hf.runs.plms import SCRATCH_SIZES, ScratchSize

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


# rows, users, items, seed
SMALL_SYNTHETIC = (2600, 50, 60, 0)


def make_synthetic_small(monkeypatch):
    """Let generated data have few rows."""
    monkeypatch.setattr(SyntheticSizes.__init__, "__defaults__", SMALL_SYNTHETIC)


def make_plms_small(monkeypatch):
    """Let `scratch-tiny` and `scratch-small` have one small layer."""
    for name in ("scratch-tiny", "scratch-small"):
        monkeypatch.setitem(SCRATCH_SIZES, name, ScratchSize(1, 64, 300))


def make_benchmarks_small(monkeypatch):
    """Make the folder of the benchmarks importable, with small synthetic data and PLMs.

    Returns their module `measure`, whose machine has a known matrix rate: measuring takes longer than the benchmarks.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    make_synthetic_small(monkeypatch)
    make_plms_small(monkeypatch)
    measure = importlib.import_module("measure")
    monkeypatch.setattr(measure, "matrix_rate", lambda *of: 100.0)
    return measure
