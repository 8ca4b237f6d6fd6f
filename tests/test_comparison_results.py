"""Results of a comparison: what is refused, and runs that survive a round trip through a file."""

import dataclasses

import numpy as np
import pytest

from clickprompt_hf.comparison import ARMS, ArmRun, Comparison, load_run, save_run
from clickprompt_hf.comparison.results import PLM_ARMS, SEEDLESS_ARMS


def run(arm="backbone", seed=1, probabilities=(0.25, 0.75), **changes):
    values = {
        "validation_auc": 0.7,
        "validation_log_loss": float("nan"),
        "train_seconds": 60.0,
        "rows_per_second": 1000.0,
        "megabytes": 2.5,
        "hyperparameters": {"learning_rate": 1e-3, "dropout": [0.1, 0.2], "preset": None},
        "uses_plm_at_serving": arm in PLM_ARMS and not arm.endswith("without_plm"),
    }
    return ArmRun(arm=arm, seed=seed, probabilities=np.array(probabilities), **{**values, **changes})


def comparison(**changes):
    values = {
        "title": "made",
        "settings": {},
        "labels": np.array([0, 1]),
        "train_counts": {"item": np.array([0, 12])},
        "runs": [run()],
    }
    return Comparison(**{**values, **changes})


def test_named_arms_are_arms():
    assert set(PLM_ARMS) | set(SEEDLESS_ARMS) < ARMS.keys()
    assert not set(PLM_ARMS) & set(SEEDLESS_ARMS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": "svm"}, r"`arm` must be one of \['constant', .*got 'svm'"),
        ({"uses_plm_at_serving": True}, "`uses_plm_at_serving` must be False for backbone"),
        ({"probabilities": [[0.5]]}, r"must have shape \(N,\), got \(1, 1\)"),
        ({"probabilities": [0.5, 1.5]}, r"`probabilities` of backbone \(seed 1\) must be in \[0, 1\], got 1.5"),
        ({"probabilities": [0.5, np.nan]}, r"must be in \[0, 1\], got nan"),
        ({"rows_per_second": -1.0}, "`rows_per_second` of backbone must be at least 0, got -1.0"),
        ({"megabytes": float("nan")}, "`megabytes` of backbone must be at least 0, got nan"),
    ],
)
def test_runs_with_wrong_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 2])}, "`labels` must be at least one 0 or 1"),
        ({"labels": np.array([])}, "`labels` must be at least one 0 or 1"),
        ({"train_counts": {"shop": np.array([0, 1])}}, r"must have roles of \['item', 'user'\], got \['shop'\]"),
        ({"train_counts": {"user": np.array([0])}}, r"per test row \(2\), got shape \(1,\) for 'user'"),
        ({"train_counts": {"user": np.array([0, -2])}}, "a number of at least 0, or -1, per test row"),
        ({"runs": [run(probabilities=[0.5])]}, r"one entry per test row \(2\), got 1 from backbone \(seed 1\)"),
        ({"runs": [run(), run()]}, r"got backbone \(seed 1\) twice"),
        ({"importance": {"svm": {}}}, r"`importance` must be by arm, .*got \['svm'\]"),
    ],
)
def test_comparisons_with_wrong_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        comparison(**changes)


def test_arms_and_runs_come_in_order():
    made = comparison(runs=[run("clickprompt"), run(seed=2), run("constant"), run(seed=1)])
    assert made.arms == ["constant", "backbone", "clickprompt"]
    assert [found.seed for found in made.runs_of("backbone")] == [1, 2]


def test_a_run_survives_its_file(tmp_path):
    before = run("clickprompt", probabilities=[0.1, 1 / 3])
    save_run(before, tmp_path / "clickprompt-1.npz")
    after = load_run(tmp_path / "clickprompt-1.npz")
    for field in dataclasses.fields(ArmRun):
        np.testing.assert_equal(getattr(after, field.name), getattr(before, field.name))
    assert [path.name for path in tmp_path.iterdir()] == ["clickprompt-1.npz"]
