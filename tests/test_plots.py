"""The content of the figures, read back from their axes, and when they are drawn."""

import numpy as np
import pandas as pd
import pytest

from clickprompt_hf.evaluation.plots import frequency_figure, reliability_diagram, save_figure, training_curves
from clickprompt_hf.evaluation.report import calibration_bins
from clickprompt_hf.runs.arguments import ReportArguments

PNG = b"\x89PNG\r\n\x1a\n"


def logs(quality="eval_auc"):
    return [
        {"loss": 9.0, "epoch": 0.05, "step": 1},
        {"loss": 0.7, "epoch": 1.0, "step": 20},
        {"eval_loss": 0.6, quality: 0.7, "epoch": 1.0, "step": 20},
        {"loss": 0.5, "epoch": 2.0, "step": 40},
        {"eval_loss": 0.65, quality: 0.68, "epoch": 2.0, "step": 40},
        {"train_runtime": 3.0, "train_loss": 0.6, "epoch": 2.0, "step": 40},
        # a further evaluation after training
        {"eval_loss": 0.66, quality: 0.69, "epoch": 2.0, "step": 40},
    ]


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_training_curves():
    loss, auc = training_curves(logs(), best_step=20).axes
    drawn = lines(loss)
    assert drawn["training"] == [[0.05, 9.0], [1.0, 0.7], [2.0, 0.5]]
    assert drawn["validation"] == [[1.0, 0.6], [2.0, 0.66]]
    assert lines(auc)["validation"] == [[1.0, 0.7], [2.0, 0.69]]
    assert {x for x, _ in lines(auc)["weights kept"]} == {1.0}
    # the high losses of the first steps do not squash the rest
    assert loss.get_ylim() == pytest.approx((0.49, 0.71))
    assert (loss.get_xlabel(), loss.get_ylabel(), auc.get_ylabel()) == (
        "Epoch",
        "Mean cross-entropy (nats)",
        "AUC (0 to 1)",
    )


def test_training_curves_of_pretraining_and_of_a_run_without_logs():
    figure = training_curves(logs("eval_masked_accuracy"), validation="validation (in-sample)")
    assert figure.axes[1].get_title() == "Accuracy on predicted tokens"
    assert set(lines(figure.axes[0])) == {"training", "validation (in-sample)"}
    assert len(training_curves([]).axes) == 1


def test_reliability_diagram():
    probabilities = np.repeat([0.1, 0.3], 10)
    clicks = np.repeat([0, 1, 0], [9, 4, 7])
    figure = reliability_diagram(calibration_bins(probabilities, clicks, 2), probabilities)
    points = figure.axes[0].containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(points, [[0.1, 0.1], [0.3, 0.3]])
    # Wilson's interval of 1 in 10
    low, high = figure.axes[0].containers[0].lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose([low, high], [0.01788, 0.40415], atol=1e-5)
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 20


def test_frequency_figure_leaves_out_groups_without_rows():
    rows = [
        {"group": group, "model": model, "rows": count, "auc": auc, "auc_low": auc - 0.1, "auc_high": auc + 0.1}
        for group, count in (("head", 12345), ("tail", 0))
        for model, auc in (("fused", 0.75), ("ids", 0.7))
    ]
    figure = frequency_figure({"User ID": pd.DataFrame(rows), "Item ID": pd.DataFrame(rows[:2])})
    assert [axes.get_title() for axes in figure.axes] == ["User ID", "Item ID"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["head\n12,345 rows"]
    assert [c.lines[0].get_ydata().tolist() for c in figure.axes[0].containers] == [[0.75], [0.7]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["chance", "fused", "ids"]


def test_no_text_of_a_figure_overlaps_another(tmp_path):
    table = pd.DataFrame(
        {"group": ["head", "middle", "tail", "unseen"], "model": "with the PLM (fused logit)", "rows": 9_999_999}
    ).assign(auc=0.7, auc_low=0.6, auc_high=0.8)
    others = [table.assign(model=model) for model in ("id side alone (CTR logit)", "baseline run")]
    figure = frequency_figure({name: pd.concat([table, *others]) for name in ("User ID", "Movie ID")})
    save_figure(figure, tmp_path / "plots" / "figure.png")
    assert (tmp_path / "plots" / "figure.png").read_bytes().startswith(PNG)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["figure.png"]
    texts = [figure.legends[0]]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, *axes.get_xticklabels()]
    boxes = [text.get_window_extent() for text in texts]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.overlaps(b)]


def test_missing_matplotlib_is_reported_before_training(monkeypatch):
    assert ReportArguments().draws_plots
    assert not ReportArguments(report_plots=False).draws_plots
    monkeypatch.setattr("clickprompt_hf.runs.arguments.is_matplotlib_available", lambda: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not ReportArguments().draws_plots
    with pytest.raises(ImportError, match=r'--report_plots needs matplotlib.*pip install "clickprompt_hf\[plots\]"'):
        ReportArguments(report_plots=True)
