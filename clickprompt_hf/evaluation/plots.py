# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Figures of a training run: training curves, calibration, AUC by frequency. Data in, matplotlib figure out.

matplotlib is the extra `plots`; nothing here needs it before a figure is drawn.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from ..data.columnar import ColumnarDataset
from ..processing_clickprompt import ClickPromptProcessor
from .report import auc_by_frequency, calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..training.trainer import ClickPromptTrainer

PLOTS_FOLDER = "plots"
TRAINING_CURVES, CALIBRATION, AUC_BY_FREQUENCY = "training_curves.png", "calibration.png", "auc_by_frequency.png"
PLOTS = (TRAINING_CURVES, CALIBRATION, AUC_BY_FREQUENCY)
_DOTS_PER_INCH = 150
_COLOURS = ("tab:blue", "tab:orange", "tab:green")
_QUALITIES = {"eval_auc": "AUC", "eval_masked_accuracy": "Accuracy on predicted tokens"}


def matplotlib_is_installed() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def save_training_plots(trainer: "ClickPromptTrainer") -> None:
    """Draws the curves of a finished training into the plots folder of its output folder."""
    # PA-MLM trains on the validation rows too
    validation = "validation (in-sample)" if trainer.is_pretraining else "validation"
    best_step = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    figure = training_curves(trainer.state.log_history, best_step, validation)
    save_figure(figure, _plots_folder(trainer) / TRAINING_CURVES)


def save_test_plots(
    trainer: "ClickPromptTrainer",
    probabilities: Mapping[str, np.ndarray],
    train: ColumnarDataset,
    test: ColumnarDataset,
    processor: ClickPromptProcessor,
    frequency_fields: Sequence[str] = (),
) -> None:
    """Draws calibration and AUC by frequency on test rows into the plots folder of a run.

    Args:
        trainer: Names the output folder.
        probabilities: (N,) of the test rows, by the name of the model, the run's own first.
        train, test: Encoded rows.
        processor: Knows the fields.
        frequency_fields: Columns by whose frequency in training AUC is taken apart.

    Raises:
        ValueError: If such a column is no field, or a multi-valued one.
    """
    own = next(iter(probabilities.values()))
    figure = reliability_diagram(calibration_bins(own, np.asarray(test.labels)), own)
    save_figure(figure, _plots_folder(trainer) / CALIBRATION)
    names = {member.key: member.name for member in processor.schema.fields}
    tables = {
        names.get(column, column): auc_by_frequency(probabilities, train, test, processor, column)
        for column in frequency_fields
    }
    if tables:
        save_figure(frequency_figure(tables), _plots_folder(trainer) / AUC_BY_FREQUENCY)


def training_curves(
    log_history: Sequence[Mapping[str, Any]], best_step: int | None = None, validation: str = "validation"
) -> "Figure":
    """Loss, and AUC or token accuracy, over the epochs.

    Args:
        log_history: What `trainer.state.log_history` holds.
        best_step: The step whose weights were kept, marked where given.
        validation: What the rows of the evaluations are called.
    """
    # evaluating once more at the end logs the same step twice
    evaluations = list({entry["step"]: entry for entry in log_history if "eval_loss" in entry}.values())
    training = [entry for entry in log_history if "loss" in entry]
    qualities = [name for name in _QUALITIES if any(name in entry for entry in evaluations)]
    figure, axes = _figure(1 + len(qualities))
    _line(axes[0], training, "loss", "training", _COLOURS[0])
    _line(axes[0], evaluations, "eval_loss", validation, _COLOURS[1])
    axes[0].set(title="Loss", ylabel="Mean cross-entropy (nats)")
    for place, name in zip(axes[1:], qualities):
        _line(place, evaluations, name, validation, _COLOURS[1])
        place.set(title=_QUALITIES[name], ylabel=f"{_QUALITIES[name]} (0 to 1)")
    best = next((entry["epoch"] for entry in evaluations if entry["step"] == best_step), None)
    last = max((entry["epoch"] for entry in (*training, *evaluations)), default=1.0)
    # the first steps of fresh weights are far above all others
    losses = [
        entry.get("loss", entry.get("eval_loss")) for entry in (*training, *evaluations) if entry["epoch"] > last / 10
    ]
    if losses:
        margin = 0.05 * (max(losses) - min(losses)) or 0.05
        axes[0].set_ylim(min(losses) - margin, max(losses) + margin)
    for place in axes:
        if best is not None:
            place.axvline(best, color="0.5", linestyle="--", linewidth=1, label="weights kept")
        place.set(xlabel="Epoch", xlim=(0, 1.03 * last))
        place.grid(alpha=0.3)
        if place.lines:
            place.legend()
    return figure


def reliability_diagram(bins: pd.DataFrame, probabilities: np.ndarray) -> "Figure":
    """Click rate over predicted probability, and how the predictions are spread.

    Args:
        bins: What `calibration_bins` gives.
        probabilities: (N,) click probabilities.
    """
    figure, (rates, spread) = _figure(2, rows=2, height_ratios=(3, 1))
    intervals = [
        stats.binomtest(int(clicks), int(rows)).proportion_ci(method="wilson")
        for clicks, rows in zip(bins["clicks"], bins["rows"])
    ]
    low, high = np.array([[interval.low, interval.high] for interval in intervals]).T
    # rounding may put a bound on the wrong side of a rate of 0 or 1
    errors = np.maximum([bins["click_rate"] - low, high - bins["click_rate"]], 0)
    limit = min(1.0, 1.05 * max(float(high.max()), float(np.max(probabilities))))
    rates.plot([0, limit], [0, limit], color="0.5", linestyle="--", linewidth=1, label="perfectly calibrated")
    rates.errorbar(
        bins["mean_probability"],
        bins["click_rate"],
        errors,
        fmt="o",
        color=_COLOURS[0],
        capsize=3,
        label=f"{len(bins)} bins of equally many rows",
    )
    rates.set(title="Calibration on the test split", ylabel="Share of rows clicked, 95 % interval", ylim=(0, limit))
    rates.legend(loc="upper left")
    spread.hist(probabilities, bins=40, range=(0, limit), color=_COLOURS[0])
    spread.set(xlabel="Predicted click probability", ylabel="Rows")
    for place in (rates, spread):
        place.set_xlim(0, limit)
        place.grid(alpha=0.3)
    return figure


def frequency_figure(tables: Mapping[str, pd.DataFrame]) -> "Figure":
    """AUC by how often a value occurs in training, a panel a field, a colour a model.

    Args:
        tables: What `auc_by_frequency` gives, by the display name of the field; groups without rows are left out.
    """
    figure, axes = _figure(len(tables), share_y=True)
    for place, (field, table) in zip(axes, tables.items()):
        table = table[table["rows"] > 0]
        groups = list(dict.fromkeys(table["group"]))
        models = list(dict.fromkeys(table["model"]))
        for number, model in enumerate(models):
            of_model = table[table["model"] == model]
            # beside each other, not on top
            shift = 0.18 * (number - (len(models) - 1) / 2)
            errors = [of_model["auc"] - of_model["auc_low"], of_model["auc_high"] - of_model["auc"]]
            place.errorbar(
                np.arange(len(groups)) + shift,
                of_model["auc"],
                errors,
                fmt="o",
                color=_COLOURS[number],
                capsize=3,
                label=model,
            )
        rows = table.drop_duplicates("group")["rows"]
        labels = [f"{group}\n{count:,} rows" for group, count in zip(groups, rows)]
        place.set_xticks(range(len(groups)), labels)
        place.set_xlim(-0.5, len(groups) - 0.5)
        place.axhline(0.5, color="0.5", linestyle="--", linewidth=1, label="chance")
        place.grid(alpha=0.3, axis="y")
        place.set(title=field, xlabel="How often the value occurs in training")
    axes[0].set_ylabel("Test AUC, 95 % interval")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names) if len(tables) > 1 else 1)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Writes a PNG, which appears whole or not at all; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png")
    os.replace(partial, path)


def _plots_folder(trainer: "ClickPromptTrainer") -> Path:
    return Path(str(trainer.args.output_dir)) / PLOTS_FOLDER


def _figure(
    num_axes: int, rows: int = 1, height_ratios: Sequence[float] = (1,), share_y: bool = False
) -> tuple["Figure", "list[Axes]"]:
    """A figure of `num_axes` axes, in as many columns as `rows` leave, or below each other on one scale."""
    # not pyplot, which keeps figures and chooses a window system
    from matplotlib.figure import Figure

    columns = num_axes // rows
    size = (6.4, 5.2 if rows == 1 else 6.4) if columns == 1 else (5.2 * columns, 4.2)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=share_y, height_ratios=height_ratios)
    return figure, list(axes.flat)


def _line(axes: "Axes", entries: Sequence[Mapping[str, Any]], name: str, label: str, colour: str) -> None:
    """Draws the values called `name` over the epochs, if there are any."""
    points = [(entry["epoch"], entry[name]) for entry in entries if name in entry]
    if points:
        marker = "o" if len(points) <= 30 else None
        axes.plot(*zip(*points), label=label, color=colour, marker=marker, markersize=4)
