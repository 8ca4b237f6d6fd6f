# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Plots of a training run: training curves, calibration, AUC by frequency.

matplotlib comes with the extra `plots` and is imported when a figure is drawn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ..data.columnar import ColumnarDataset
from ..processing_clickprompt import ClickPromptProcessor
from ..whole_files import whole_file
from .report import auc_by_frequency, calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOTS_FOLDER = "plots"
TRAINING_CURVES, CALIBRATION, AUC_BY_FREQUENCY = "training_curves.png", "calibration.png", "auc_by_frequency.png"
# file names and captions
PLOTS = {
    TRAINING_CURVES: "Training curves",
    CALIBRATION: "Calibration",
    AUC_BY_FREQUENCY: "AUC by frequency in training",
}
_DOTS_PER_INCH = 150
_COLORS = ("tab:blue", "tab:orange", "tab:green")
_QUALITY_METRICS = {"eval_auc": "AUC", "eval_masked_accuracy": "Accuracy on predicted tokens"}


def save_training_plots(
    folder: str | Path,
    log_history: Sequence[Mapping[str, Any]],
    best_step: int | None = None,
    validation: str = "validation",
) -> None:
    """Draw the training curves into the plots folder of a run.

    Args:
        folder: Output folder of the run.
        log_history: As in `trainer.state.log_history`.
        best_step: See `training_curves`.
        validation: Label of the evaluation rows.
    """
    figure = training_curves(log_history, best_step, validation)
    save_figure(figure, Path(folder) / PLOTS_FOLDER / TRAINING_CURVES)


def save_test_plots(
    folder: str | Path,
    probabilities: Mapping[str, np.ndarray],
    train: ColumnarDataset,
    test: ColumnarDataset,
    processor: ClickPromptProcessor,
    frequency_fields: Sequence[str] = (),
) -> None:
    """Draw calibration and AUC by frequency on test rows into the plots folder of a run.

    Args:
        folder: Output folder of the run.
        probabilities: (N,) click probabilities of the test rows by model; the run's own model first.
        train: Encoded training rows.
        test: Encoded test rows.
        processor: Processor that encoded them.
        frequency_fields: Fields to plot AUC by frequency for.

    Raises:
        ValueError: If a field does not exist or is multi-valued.
    """
    plots = Path(folder) / PLOTS_FOLDER
    own = next(iter(probabilities.values()))
    figure = reliability_diagram(calibration_bins(own, np.asarray(test.labels)), own)
    save_figure(figure, plots / CALIBRATION)
    names = {field.key: field.name for field in processor.schema.fields}
    tables = {
        names.get(key, key): auc_by_frequency(probabilities, train, test, processor, key) for key in frequency_fields
    }
    if tables:
        save_figure(frequency_figure(tables), plots / AUC_BY_FREQUENCY)


def training_curves(
    log_history: Sequence[Mapping[str, Any]], best_step: int | None = None, validation: str = "validation"
) -> "Figure":
    """Plot loss and AUC, or token accuracy, over the epochs.

    Args:
        log_history: As in `trainer.state.log_history`.
        best_step: Step whose weights were kept, to be marked; `None` if the last were.
        validation: Label of the evaluation rows.
    """
    # a further evaluation at the end logs the last step twice
    evaluations = list({entry["step"]: entry for entry in log_history if "eval_loss" in entry}.values())
    training = [entry for entry in log_history if "loss" in entry]
    qualities = [name for name in _QUALITY_METRICS if any(name in entry for entry in evaluations)]
    figure, axes = _figure(1 + len(qualities))
    _line(axes[0], training, "loss", "training", _COLORS[0])
    _line(axes[0], evaluations, "eval_loss", validation, _COLORS[1])
    axes[0].set(title="Loss", ylabel="Mean cross-entropy (nats)")
    for panel, name in zip(axes[1:], qualities):
        _line(panel, evaluations, name, validation, _COLORS[1])
        panel.set(title=_QUALITY_METRICS[name], ylabel=f"{_QUALITY_METRICS[name]} (0 to 1)")
    best = next((entry["epoch"] for entry in evaluations if entry["step"] == best_step), None)
    last = max((entry["epoch"] for entry in (*training, *evaluations)), default=1.0)
    # the high losses of the first steps would squash all others
    losses = [
        entry.get("loss", entry.get("eval_loss")) for entry in (*training, *evaluations) if entry["epoch"] > last / 10
    ]
    if losses:
        margin = 0.05 * (max(losses) - min(losses)) or 0.05
        axes[0].set_ylim(min(losses) - margin, max(losses) + margin)
    for panel in axes:
        if best is not None:
            panel.axvline(best, color="0.5", linestyle="--", linewidth=1, label="weights kept")
        panel.set(xlabel="Epoch", xlim=(0, 1.03 * last))
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    return figure


def reliability_diagram(bins: pd.DataFrame, probabilities: np.ndarray) -> "Figure":
    """Plot click rate over predicted probability, and a histogram of the predictions.

    Args:
        bins: Result of `calibration_bins`.
        probabilities: (N,) click probabilities.
    """
    figure, (rates, spread) = _figure(2, rows=2, height_ratios=(3, 1))
    intervals = [
        stats.binomtest(round(clicks), int(rows)).proportion_ci(method="wilson")
        for clicks, rows in zip(bins["clicks"], bins["rows"])
    ]
    low, high = np.array([[interval.low, interval.high] for interval in intervals]).T
    # rounding can put a bound on the wrong side of a rate of 0 or 1
    errors = np.maximum([bins["click_rate"] - low, high - bins["click_rate"]], 0)
    limit = min(1.0, 1.05 * max(float(high.max()), float(np.max(probabilities))))
    rates.plot([0, limit], [0, limit], color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated")
    rates.errorbar(
        bins["mean_probability"],
        bins["click_rate"],
        errors,
        fmt="o",
        color=_COLORS[0],
        capsize=3,
        label=f"{len(bins)} bins of equal size",
    )
    rates.set(title="Calibration on the test split", ylabel="Share of rows clicked, 95 % interval", ylim=(0, limit))
    rates.legend(loc="upper left")
    spread.hist(probabilities, bins=40, range=(0, limit), color=_COLORS[0])
    spread.set(xlabel="Predicted click probability", ylabel="Rows")
    for panel in (rates, spread):
        panel.set_xlim(0, limit)
        panel.grid(alpha=0.3)
    return figure


def frequency_figure(tables: Mapping[str, pd.DataFrame]) -> "Figure":
    """Plot AUC by how often a value occurs in training: one panel per field, one color per model.

    Args:
        tables: Results of `auc_by_frequency` by the field's display name; groups without rows are left out.
    """
    figure, axes = _figure(len(tables), share_y=True)
    for panel, (field, table) in zip(axes, tables.items()):
        table = table[table["rows"] > 0]
        groups = list(dict.fromkeys(table["group"]))
        models = list(dict.fromkeys(table["model"]))
        for number, model in enumerate(models):
            model_rows = table[table["model"] == model]
            # side by side, not on top of each other
            shift = 0.18 * (number - (len(models) - 1) / 2)
            errors = [model_rows["auc"] - model_rows["auc_low"], model_rows["auc_high"] - model_rows["auc"]]
            panel.errorbar(
                np.arange(len(groups)) + shift,
                model_rows["auc"],
                errors,
                fmt="o",
                color=_COLORS[number],
                capsize=3,
                label=_plain(model),
            )
        rows = table.drop_duplicates("group")["rows"]
        labels = [f"{group}\n{count:,} rows" for group, count in zip(groups, rows)]
        panel.set_xticks(range(len(groups)), labels)
        panel.set_xlim(-0.5, len(groups) - 0.5)
        panel.axhline(0.5, color="0.5", linestyle="--", linewidth=1, label="chance")
        panel.grid(alpha=0.3, axis="y")
        panel.set(title=_plain(field), xlabel="How often the value occurs in training")
    axes[0].set_ylabel("Test AUC, 95 % interval")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names) if len(tables) > 1 else 1)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a PNG atomically, and create its folder if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def _figure(
    num_axes: int, rows: int = 1, height_ratios: Sequence[float] = (1,), share_y: bool = False
) -> tuple["Figure", "list[Axes]"]:
    """Make a figure of `num_axes` panels in `rows` rows; panels in one column share the x axis."""
    # pyplot would keep the figure alive and choose a window system
    from matplotlib.figure import Figure

    columns = num_axes // rows
    size = (6.4, 5.2 if rows == 1 else 6.4) if columns == 1 else (5.2 * columns, 4.2)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=share_y, height_ratios=height_ratios)
    return figure, list(axes.flat)


def _plain(text: str) -> str:
    """`text` for matplotlib, which takes what is between dollar signs for a formula."""
    return text.replace("$", r"\$")


def _line(axes: "Axes", entries: Sequence[Mapping[str, Any]], name: str, label: str, color: str) -> None:
    """Draw the values called `name` over the epochs; nothing if no entry has one."""
    points = [(entry["epoch"], entry[name]) for entry in entries if name in entry]
    if points:
        marker = "o" if len(points) <= 30 else None
        axes.plot(*zip(*points), label=label, color=color, marker=marker, markersize=4)
