# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Plots of the report as SVG that takes text and grid colors from the page, so that they suit light and dark.

matplotlib comes with the extra `compare` and is imported when a plot is drawn. Text stays text, and figures are
narrow, so that they can be read on a phone.
"""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.report import calibration_bins
from .analysis import Analysis
from .results import ARMS
from .rules import METRICS, Metric
from .segments import ALL
from .wording import METRIC_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that the page's colors replace.
_TEXT, _GRID = "#010203", "#040506"
# One per arm, in all plots; legible on white and on near-black.
_COLORS = dict(
    zip(
        ARMS,
        (
            "#808996",
            "#6b6fd0",
            "#2aa3a3",
            "#d9822b",
            "#c2578a",
            "#3b82c4",
            "#a8763e",
            "#7d8a2e",
            "#b65cc0",
            "#2f9e6e",
            "#cf4a3d",
        ),
    )
)
# these look different when they are hollow
_MARKERS = dict(zip(ARMS, "h8<v>osdD^p"))
# inches and points: a phone shows a figure at about three quarters of its size
_WIDTH, _FONT_SIZE = 4.6, 9
_RANKED_BY_NOTHING = ("constant", "best_column")


def difference_figure(analysis: Analysis, reference: str, metric: Metric) -> str | None:
    """Draw the differences to a reference with their 95 % intervals, one panel per segment.

    Only arms with a PLM and the backbone are shown. Filled marks are significant. `None` if there is nothing to show.
    """
    arms = [arm for arm in analysis.arms if arm != reference and (arm in analysis.plm_arms or arm == "backbone")]
    panels = []
    for segment in analysis.usable_segments:
        found = [analysis.differences.get((arm, reference, metric, segment.name)) for arm in arms]
        panels.append((segment, [difference for difference in found if difference is not None]))
    panels = [(segment, differences) for segment, differences in panels if differences]
    if not panels:
        return None
    heights = [0.6 + 0.4 * len(differences) for _, differences in panels]
    figure = _figure(sum(heights) + 0.7)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (segment, differences) in zip(axes, panels):
        panel.axvline(0, color=_TEXT, linewidth=1)
        for place, difference in enumerate(differences):
            margin = difference.estimate.margin
            color = _COLORS[difference.arm]
            panel.errorbar(
                difference.estimate.value,
                place,
                xerr=margin if np.isfinite(margin) else None,
                fmt="o",
                color=color,
                markerfacecolor=color if difference.significant else "none",
                capsize=3,
                label=difference.arm,
            )
        panel.set_yticks(range(len(differences)), [difference.arm for difference in differences])
        panel.set_ylim(len(differences) - 0.4, -0.6)
        panel.set_title(f"{segment.words} ({segment.rows:,})", loc="left", fontweight="bold")
        panel.grid(axis="x", color=_GRID)
    axes[-1].set_xlabel(f"{METRIC_NAMES[metric]} difference")
    return _svg(figure, f"Differences in {METRIC_NAMES[metric]} from {reference} by segment, with 95 % intervals")


def calibration_figure(analysis: Analysis, arms: Sequence[str]) -> str:
    """Draw click rate over mean probability in ten bins of equal size, seeds taken together."""
    figure = _figure(4.6)
    axes = figure.subplots()
    highest = 0.0
    for arm in arms:
        runs = analysis.comparison.runs_of(arm)
        scores = np.concatenate([run.probabilities for run in runs])
        bins = calibration_bins(scores, np.tile(analysis.comparison.labels, len(runs)))
        highest = max(highest, float(bins["mean_probability"].max()), float(bins["click_rate"].max()))
        axes.plot(
            bins["mean_probability"],
            bins["click_rate"],
            marker=_MARKERS[arm],
            color=_COLORS[arm],
            markersize=5,
            linewidth=1,
            label=arm,
        )
    limit = min(1.0, 1.05 * highest) or 1.0
    axes.plot([0, limit], [0, limit], color=_TEXT, linestyle="--", linewidth=1, label="perfectly calibrated")
    axes.set(xlabel="Mean predicted probability", ylabel="Share of rows clicked", xlim=(0, limit), ylim=(0, limit))
    axes.grid(color=_GRID)
    figure.legend(loc="outside lower left", frameon=False)
    return _svg(figure, "Calibration: share of rows clicked over mean predicted probability")


def cost_figure(analysis: Analysis) -> str | None:
    """Draw AUC with its 95 % interval over the time to score a million rows; `None` if AUC or speed is unknown."""
    arms = [
        arm
        for arm in analysis.arms
        if arm not in _RANKED_BY_NOTHING and 0 < analysis.costs[arm].rows_per_second < float("inf")
    ]
    if not arms or analysis.segments[ALL].reason is not None:
        return None
    estimates = {arm: analysis.estimate(arm, "auc") for arm in arms}
    figure = _figure(3.9 + 0.2 * len(arms))
    axes = figure.subplots()
    for arm in sorted(arms, key=lambda arm: -estimates[arm].value):
        estimate, cost, color = estimates[arm], analysis.costs[arm], _COLORS[arm]
        axes.errorbar(
            1e6 / cost.rows_per_second,
            estimate.value,
            yerr=estimate.margin if np.isfinite(estimate.margin) else None,
            fmt=_MARKERS[arm],
            color=color,
            markerfacecolor="none" if cost.plm == "serving" else color,
            capsize=3,
            label=f"{arm} ({estimate.value:.4f})",
        )
    axes.set_xscale("log")
    axes.set(xlabel="Seconds to score a million rows", ylabel="Test AUC, 95 % interval")
    axes.grid(color=_GRID)
    figure.legend(loc="outside lower left", frameon=False)
    return _svg(figure, "Test AUC over seconds to score a million rows")


def fields_by_importance(importance: dict[str, dict[str, float]]) -> list[str]:
    """Names of fields by the largest drop in AUC of any arm, the largest first."""
    fields = dict.fromkeys(name for drops in importance.values() for name in drops)
    return sorted(fields, key=lambda name: -max(drops.get(name, float("-inf")) for drops in importance.values()))


def importance_figure(importance: dict[str, dict[str, float]]) -> str | None:
    """Draw the drop in AUC by field, one mark per arm, the most important field on top."""
    fields = fields_by_importance(importance)
    if not fields:
        return None
    figure = _figure(1.2 + 0.3 * len(fields) + 0.2 * len(importance))
    axes = figure.subplots()
    axes.axvline(0, color=_TEXT, linewidth=1)
    for arm, drops in importance.items():
        shown = [name for name in fields if name in drops]
        axes.plot(
            [drops[name] for name in shown],
            [fields.index(name) for name in shown],
            linestyle="none",
            marker=_MARKERS[arm],
            color=_COLORS[arm],
            label=arm,
        )
    axes.set_yticks(range(len(fields)), [_shortened(name) for name in fields])
    axes.set_ylim(len(fields) - 0.5, -0.5)
    axes.set_xlabel("Drop in test AUC when the field is permuted")
    axes.grid(color=_GRID)
    figure.legend(loc="outside lower left", frameon=False)
    return _svg(figure, "Drop in test AUC by permuted field")


def difference_figures(analysis: Analysis) -> list[tuple[str, str]]:
    """Captions and plots of the differences, to the reference and to the backbone."""
    found = []
    for reference in dict.fromkeys((analysis.reference, "backbone")):
        for metric in METRICS if reference in analysis.arms else ():
            svg = difference_figure(analysis, reference or "", metric)
            if svg is not None:
                better = "right" if metric == "auc" else "left"
                found.append((f"{METRIC_NAMES[metric]} minus that of {reference}. Better is {better}.", svg))
    return found


def _figure(height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _shortened(name: str) -> str:
    """A name that fits beside a plot, without what matplotlib takes for a formula."""
    name = " ".join(name.split())
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")


def _svg(figure: "Figure", description: str) -> str:
    """Render a figure as an SVG element with text as text and the page's colors."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.text import Text

    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    for panel in figure.axes:
        panel.set_axisbelow(True)
        panel.patch.set_visible(False)
        panel.tick_params(color=_TEXT)
        for spine in panel.spines.values():
            spine.set_edgecolor(_TEXT)
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.draw_without_rendering()
        for text in figure.findobj(Text):
            text.set(color=_TEXT, fontsize=_FONT_SIZE)
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue()[file.getvalue().index("<svg") :], flags=re.DOTALL)
    # identifiers are per figure, and the page has several
    prefix = re.sub(r"\W+", "-", description.lower())
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace(_TEXT, "currentColor").replace(_GRID, "var(--grid)")
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'height="[\d.]+pt" ', "", svg, count=1), count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1).strip()
