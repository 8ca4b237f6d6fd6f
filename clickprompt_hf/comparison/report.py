# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The report of a comparison: results.json, report.md and report.html."""

import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..whole_files import whole_contents
from .analysis import Analysis
from .figures import calibration_figure, cost_figure, difference_figures, fields_by_importance, importance_figure
from .page import PAGE
from .results import ARMS, Comparison
from .rules import METRICS, TERMS, Metric, Rules, rules_in_words
from .segments import ALL
from .statistics import Estimate
from .verdict import Verdict, judge
from .wording import UNKNOWN, duration, number, size, speed, with_margin

RESULTS_FILE, MARKDOWN_FILE, PAGE_FILE = "results.json", "report.md", "report.html"
# what Markdown, or HTML within it, takes for markup; line breaks end a table
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


@dataclass(frozen=True)
class Table:
    """A table: column names, and cells whose further lines are details.

    Args:
        columns: Names of the columns.
        rows: Cells, row by row.
        marked: First cell of the row to mark.
        words: Whether cells hold words, not numbers.
    """

    columns: list[str]
    rows: list[list[str]]
    marked: str | None = None
    words: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the report; plots are pairs of caption and SVG, terms pairs of term and explanation."""

    heading: str
    paragraphs: list[str] = field(default_factory=list)
    table: Table | None = None
    plots: list[tuple[str, str]] = field(default_factory=list)
    terms: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        rows = self.table.rows if self.table is not None else []
        return not (self.paragraphs or rows or self.plots or self.terms)


def write_report(comparison: Comparison, output_dir: str | Path, rules: Rules | None = None) -> Verdict:
    """Write results.json, report.md and report.html, all or none.

    Args:
        comparison: Runs of all arms.
        output_dir: Output folder; created if missing. Its other files are kept.
        rules: What counts as a gain; `None` for the defaults of `Rules`.

    Returns:
        The verdict, with its words in `text` and a compact table of the arms in `table`.

    Raises:
        ValueError: If there is no run.
        OSError: If a file cannot be written.
    """
    analysis = Analysis(comparison, rules or Rules())
    verdict = replace(judge(analysis), table=terminal_table(analysis))
    sections = report_sections(analysis, verdict)
    with whole_contents(output_dir) as partial:
        text = json.dumps(json_values(analysis.rows), indent=1, allow_nan=False)
        (partial / RESULTS_FILE).write_text(text + "\n", encoding="utf-8")
        (partial / MARKDOWN_FILE).write_text(_markdown(comparison.title, verdict, sections), encoding="utf-8")
        (partial / PAGE_FILE).write_text(_page(comparison.title, verdict, sections), encoding="utf-8")
    return verdict


def terminal_table(analysis: Analysis) -> str:
    """Compact table of the arms for a terminal: test metrics, AUC minus that of the reference, cost."""
    header = [
        "arm",
        "seeds",
        "AUC",
        "log loss",
        f"AUC - {analysis.reference or 'reference'}",
        "train min",
        "rows/s",
        "MB",
    ]
    rows = [header]
    for arm in analysis.arms:
        cost = analysis.costs[arm]
        metrics = [_of(analysis, arm, metric) for metric in METRICS]
        rows.append(
            [
                arm,
                str(len(analysis.comparison.runs_of(arm))),
                *(number(estimate.value, 4) if estimate else UNKNOWN for estimate in metrics),
                _to(analysis, arm, analysis.reference, "auc", ALL),
                duration(cost.train_seconds),
                speed(cost.rows_per_second),
                size(cost.megabytes),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )


def report_sections(analysis: Analysis, verdict: Verdict) -> list[Section]:
    """Everything in the report below the verdict; without matplotlib, there are no plots."""
    comparison, draws = analysis.comparison, _can_draw()
    clicks = int(comparison.labels.sum())
    cost = cost_figure(analysis) if draws else None
    of_fields = importance_figure(comparison.importance) if draws and comparison.importance else None
    calibration = calibration_figure(analysis, _main_arms(analysis, verdict)) if draws else None
    settings = [[str(name), _shown(value)] for name, value in comparison.settings.items()]
    sections = [
        Section(
            "Arms",
            [
                f"Measured on the {len(comparison.labels):,} test rows, of which {clicks:,} are clicked. A higher AUC "
                "and a lower log loss are better. AUC and log loss: mean over seeds, 95 % interval, standard "
                "deviation over seeds. Differences: this arm minus the other, ± half of the 95 % interval; * is "
                "significant. Only arms with a PLM, and the best arm without one against the backbone, are tested."
                + (" The arm to serve is in bold." if verdict.serve else "")
            ],
            _arms_table(analysis, verdict),
        ),
        Section(
            "What the arms are",
            table=Table(["arm", "what it is"], [[arm, ARMS[arm]] for arm in analysis.arms], words=True),
            terms=TERMS,
        ),
        Section(
            "Differences by segment",
            ["Filled marks are significant, hollow ones are not. Bars are 95 % intervals."]
            if draws
            else ["matplotlib is not installed, so there are no plots."],
            plots=difference_figures(analysis) if draws else [],
        ),
        Section("AUC by segment", table=_segments_table(analysis, "auc", verdict)),
        Section("Log loss by segment", table=_segments_table(analysis, "log_loss", verdict)),
        Section("Rows by segment", table=_rows_table(analysis) if len(analysis.segments) > 1 else None),
        Section(
            "Calibration",
            [
                "Calibration error: mean distance between predicted probability and click rate over ten bins of "
                "equally many rows; 0 is ideal. Predicted to observed: predicted clicks divided by clicks; 1 is ideal."
            ],
            _calibration_table(analysis, verdict),
            [("Ten bins of equally many rows, all seeds together.", calibration)] if calibration else [],
        ),
        Section(
            "Quality against cost",
            [
                "Means over seeds. Training: the final model, without tuning. Speed: raw test rows scored per second "
                "by one process of the machine that ran the comparison. Size: what must be served. PLM: whether it is "
                "needed for training alone, for serving too, or not at all."
            ],
            _cost_table(analysis, verdict),
            [("Hollow marks are served with the PLM.", cost)] if cost else [],
        ),
        Section(
            "Field importance",
            _about_importance(comparison),
            _importance_table(comparison.importance) if comparison.importance else None,
            [("One mark per arm.", of_fields)] if of_fields else [],
        ),
        Section("Settings", table=Table(["setting", "value"], settings, words=True)),
        Section("Hyperparameters", table=_hyperparameters_table(analysis)),
        Section("Rules of the verdict", terms=rules_in_words(analysis.rules)),
    ]
    return [section for section in sections if not section.is_empty]


def json_values(value: Any) -> Any:
    """Values that JSON can hold: NaN and infinities become null."""
    if isinstance(value, dict):
        return {str(name): json_values(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_values(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    # numbers of NumPy
    return json_values(value.item()) if hasattr(value, "item") else str(value)


def _can_draw() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def _of(analysis: Analysis, arm: str, metric: Metric, segment: str = ALL) -> Estimate | None:
    return analysis.estimate(arm, metric, segment) if analysis.segments[segment].reason is None else None


def _to(analysis: Analysis, arm: str, reference: str | None, metric: Metric, segment: str) -> str:
    """Difference from a reference, with a star if it is significant."""
    difference = analysis.differences.get((arm, reference or "", metric, segment))
    if difference is None:
        return UNKNOWN
    return with_margin(difference.estimate) + ("*" if difference.significant else "")


def _arms_table(analysis: Analysis, verdict: Verdict) -> Table:
    references = [arm for arm in dict.fromkeys(("backbone", analysis.reference)) if arm in analysis.arms]
    columns = ["arm", "AUC", "log loss"]
    columns += [f"AUC − {arm}" for arm in references] + [f"log loss − {arm}" for arm in references]
    rows = [
        [
            arm,
            *(_with_interval(_of(analysis, arm, metric), metric) for metric in METRICS),
            *(_to(analysis, arm, reference, metric, ALL) for metric in METRICS for reference in references),
        ]
        for arm in analysis.arms
    ]
    return Table(columns, rows, verdict.serve)


def _cost_table(analysis: Analysis, verdict: Verdict) -> Table:
    rows = [
        [
            arm,
            duration(cost.train_seconds),
            speed(cost.rows_per_second),
            size(cost.megabytes),
            cost.plm,
            ", ".join(str(run.seed) for run in analysis.comparison.runs_of(arm)),
        ]
        for arm, cost in analysis.costs.items()
    ]
    return Table(["arm", "training, minutes", "rows/s", "MB", "PLM", "seeds"], rows, verdict.serve)


def _with_interval(estimate: Estimate | None, metric: Metric) -> str:
    if estimate is None:
        return UNKNOWN
    low, high = estimate.low, estimate.high
    if metric == "auc":
        low, high = max(low, 0.0), min(high, 1.0)
    interval = f"{number(low, 4)} to {number(high, 4)}" if math.isfinite(estimate.margin) else "no interval"
    spread = "spread unknown" if estimate.spread is None else f"spread {number(estimate.spread, 4)}"
    return f"{number(estimate.value, 4)}\n{interval}\n{spread}"


def _segments_table(analysis: Analysis, metric: Metric, verdict: Verdict) -> Table | None:
    """Metric of each arm in each segment, with the difference from the reference below."""
    segments = [segment for segment in analysis.usable_segments if segment.name != ALL]
    if not segments:
        return None
    rows = []
    for arm in analysis.arms:
        cells = []
        for segment in segments:
            value = number(analysis.estimate(arm, metric, segment.name).value, 4)
            details = [
                f"{_to(analysis, arm, reference, metric, segment.name)} to {reference}"
                for reference in dict.fromkeys((analysis.reference, "backbone"))
                if (arm, reference, metric, segment.name) in analysis.differences
            ]
            cells.append("\n".join([value, *details]))
        rows.append([arm, *cells])
    return Table(["arm", *(f"{segment.words} ({segment.rows:,})" for segment in segments)], rows, verdict.serve)


def _rows_table(analysis: Analysis) -> Table:
    rows = []
    for segment in analysis.segments.values():
        note = f"no metrics: {segment.reason}" if segment.reason else ""
        if not note and segment.name != ALL and segment not in analysis.usable_segments:
            note = "the same as all rows"
        rate = number(segment.clicks / segment.rows, 4) if segment.rows else UNKNOWN
        rows.append([segment.words, f"{segment.rows:,}", f"{segment.clicks:,}", rate, note])
    columns = ["segment", "rows", "clicked rows", "click rate", "note"]
    if not any(row[-1] for row in rows):
        return Table(columns[:-1], [row[:-1] for row in rows])
    return Table(columns, rows)


def _calibration_table(analysis: Analysis, verdict: Verdict) -> Table:
    rows = [
        [arm, number(metrics["calibration_error"], 4), number(metrics["predicted_to_observed"], 3)]
        for arm, metrics in analysis.calibration.items()
    ]
    return Table(["arm", "calibration error", "predicted to observed"], rows, verdict.serve)


def _about_importance(comparison: Comparison) -> list[str]:
    what = (
        "Drop in test AUC when a field's values are permuted among the test rows: how much the arm relies on the "
        "field. Mean of two permutations, first seed. Drops near 0, negative ones included, may be chance."
    )
    return list(filter(None, [what if comparison.importance else "", comparison.importance_note]))


def _importance_table(importance: dict[str, dict[str, float]]) -> Table:
    rows = [
        [name, *(number(drops[name], 4, signed=True) if name in drops else UNKNOWN for drops in importance.values())]
        for name in fields_by_importance(importance)
    ]
    return Table(["field", *importance], rows)


def _hyperparameters_table(analysis: Analysis) -> Table:
    rows = [
        [f"{arm}, seed {run.seed}", _shown(run.hyperparameters)]
        for arm in analysis.arms
        for run in analysis.comparison.runs_of(arm)
        if run.hyperparameters
    ]
    return Table(["run", "hyperparameters"], rows, words=True)


def _main_arms(analysis: Analysis, verdict: Verdict) -> list[str]:
    """Arms of the calibration plot: the one to serve, the reference, the backbone and the best arm with a PLM."""
    wanted = dict.fromkeys((verdict.serve, analysis.reference, "backbone", analysis.best(analysis.plm_arms)))
    return [arm for arm in wanted if arm in analysis.arms]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(entry) for entry in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10_000 else f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _page(title: str, verdict: Verdict, sections: list[Section]) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(PAGE).render(title=_heading(title), verdict=verdict, sections=sections).lstrip()


def _heading(title: str) -> str:
    return f"Does a language model pay on {title}?" if title else "Does a language model pay?"


def _markdown(title: str, verdict: Verdict, sections: list[Section]) -> str:
    blocks = [f"# {_escaped(_heading(title))}", _escaped(" ".join(verdict.sentences))]
    blocks.append("\n".join(f"- {_escaped(note)}" for note in verdict.notes))
    for section in sections:
        if section.plots and section.table is None:
            # plots are in the page alone
            continue
        blocks.append(f"## {section.heading}")
        blocks += [_escaped(paragraph) for paragraph in section.paragraphs]
        if section.table is not None:
            blocks.append(_markdown_table(section.table))
        blocks += [f"**{_escaped(term)}.** {_escaped(words)}" for term, words in section.terms]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(table: Table) -> str:
    lines = ["| " + " | ".join(_escaped(name) for name in table.columns) + " |"]
    lines.append("|---" + ("|---" if table.words else "|---:") * (len(table.columns) - 1) + "|")
    for row in table.rows:
        cells = ["<br>".join(_escaped(line) for line in cell.split("\n")) for cell in row]
        if row[0] == table.marked:
            cells[0] = f"**{cells[0]}**"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """`text` as Markdown that shows it as it is, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
