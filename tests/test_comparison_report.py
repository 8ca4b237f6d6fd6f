"""The report's three files: keys and values, words, escapes, and nothing loaded from elsewhere."""

import errno
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_comparisons import made_comparison
from sklearn.metrics import log_loss, roc_auc_score

from clickprompt_hf.comparison import ARMS, Comparison, figures, report, write_report
from clickprompt_hf.comparison.analysis import Analysis
from clickprompt_hf.comparison.report import json_values

NOISE = {"constant": 1, "logistic_regression": 1.5, "backbone": 1.0, "clickprompt_pamlm": 0.4}
HOSTILE = "<script>alert('x')</script> | `a` *b* [c](d) $e$ & \"f\"\nnext"
VOID = {"meta", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags, links and text of a page, and checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        self.links += [value for name, value in given.items() if name in ("href", "src", "xlink:href")]
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    made = made_comparison(
        NOISE,
        rows=1500,
        seeds={"clickprompt_pamlm": (1, 2)},
        title=HOSTILE,
        settings={HOSTILE: HOSTILE, "rows": {"train": 48_000, "test": 1500}},
        importance={"backbone": {"item": 0.05, HOSTILE: 0.01}, "clickprompt_pamlm": {"item": -0.00312}},
    )
    return made, folder, write_report(made, folder)


def test_results_have_a_row_per_arm_and_seed(written):
    made, folder, _ = written
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md", "results.json"]
    rows = json.loads((folder / "results.json").read_text())
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("constant", 1),
        ("logistic_regression", 1),
        *(("backbone", seed) for seed in (1, 2, 3)),
        *(("clickprompt_pamlm", seed) for seed in (1, 2)),
    ]
    unseen = made.train_counts["item"] == 0
    for row, run in zip(rows, sorted(made.runs, key=lambda run: list(NOISE).index(run.arm))):
        assert row == {
            "arm": run.arm,
            "seed": run.seed,
            "auc": pytest.approx(roc_auc_score(made.labels, run.probabilities)),
            "log_loss": pytest.approx(log_loss(made.labels, run.probabilities)),
            "auc_unseen": pytest.approx(roc_auc_score(made.labels[unseen], run.probabilities[unseen])),
            "train_seconds": run.train_seconds,
            "rows_per_second": run.rows_per_second,
            "megabytes": run.megabytes,
            "validation_auc": run.validation_auc,
            "validation_log_loss": 0.6,
            "hyperparameters": {"learning_rate": 0.001},
        }


def test_unknown_numbers_are_null(tmp_path):
    made = made_comparison({"backbone": 1}, rows=200, counts=False)
    object.__setattr__(made.runs[0], "validation_auc", float("nan"))
    write_report(made, tmp_path)
    row = json.loads((tmp_path / "results.json").read_text())[0]
    assert (row["auc_unseen"], row["validation_auc"]) == (None, None)
    # unseen items of one class
    item = np.where(made.labels == 1, 5, 0)
    write_report(Comparison("", {}, made.labels, {"item": item}, made.runs), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())[0]["auc_unseen"] is None
    assert json_values({1: (np.float32(0.5), np.int64(2), float("inf"), None, "a", True)}) == {
        "1": [0.5, 2, None, None, "a", True]
    }


def test_the_page_says_what_the_verdict_says_and_loads_nothing(written):
    _, folder, verdict = written
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.text.index(verdict.sentences[0]) < page.text.index("Measured on the 1,500 test rows")
    assert all(note in page.text for note in verdict.notes)
    assert "clickprompt_pamlm has no run with seed 3" in page.text
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\((?!#)|@import|http-equiv", text)
    assert {"script", "img", "link", "iframe"}.isdisjoint(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    for heading in ("Arms", "AUC by segment", "Calibration", "Quality against cost", "Settings", "Significant"):
        assert heading in page.words
    # two plots of differences, calibration, cost and importance; their text stays text
    assert page.tags.count("svg") == 5
    assert "AUC difference" in page.words
    assert "AUC minus that of backbone. Better is right." in page.words
    assert page.words.count("What the arms are") == 1


def test_values_are_escaped(written):
    _, folder, _ = written
    page = Page((folder / "report.html").read_text())
    assert page.text.count(" ".join(HOSTILE.split())) >= 5
    markdown = (folder / "report.md").read_text()
    assert "<script" not in markdown.replace("\\<script", "")
    lines = markdown.splitlines()
    assert (
        lines[0] == "# Does a language model pay on "
        "\\<script\\>alert('x')\\</script\\> \\| \\`a\\` \\*b\\* \\[c\\](d) \\$e\\$ \\& \"f\" next?"
    )
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|[-:|]+\|", line):
            columns = line.count("|") - 1
            for row in (lines[number - 1], *lines[number + 1 :]):
                if not row.startswith("|"):
                    break
                assert len(re.findall(r"(?<!\\)\|", row)) == columns + 1


def test_markdown_and_terminal_have_the_figures(written):
    made, folder, verdict = written
    auc = roc_auc_score(made.labels, made.runs[1].probabilities)
    lines = verdict.table.splitlines()
    assert lines[0].split()[:4] == ["arm", "seeds", "AUC", "log"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["constant", "1"],
        ["logistic_regression", "1"],
        ["backbone", "3"],
        ["clickprompt_pamlm", "2"],
    ]
    assert lines[2].split()[2] == f"{auc:.4f}"
    assert len({len(line) for line in lines}) == 1
    markdown = (folder / "report.md").read_text()
    assert f"| logistic\\_regression | {auc:.4f}<br>" in markdown
    assert "| serving | 1, 2 |" in markdown
    assert "| **clickprompt\\_pamlm** |" in markdown
    assert "| item | +0.0500 | −0.0031 |" in markdown
    assert "| rows | train: 48,000, test: 1500 |" in markdown


def test_an_arm_has_one_color_in_all_plots(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_svg", lambda figure, words: drawn.append(figure) or words)
    importance = {arm: {"item": 0.1} for arm in ("clickprompt_pamlm", "logistic_regression", "backbone")}
    analysis = Analysis(made_comparison({**NOISE, "gradient_boosting": 0.7}, rows=300, importance=importance))
    figures.difference_figures(analysis)
    figures.calibration_figure(analysis, ["clickprompt_pamlm", "backbone", "constant"])
    figures.cost_figure(analysis)
    figures.importance_figure(importance)
    looks, seen = {}, []
    for figure in drawn:
        shown = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        # some have a number behind their name
        named = [(handle, label.split(" (")[0]) for handle, label in shown]
        seen.append({label for _, label in named} & {*ARMS})
        for handle, label in named:
            # of a plot with error bars, the first part is its line
            line = handle[0] if isinstance(handle, tuple) else handle
            looks.setdefault(label, set()).add(line.get_color())
    assert all("clickprompt_pamlm" in arms for arms in seen)
    assert len(seen) == 7
    assert {label: len(found) for label, found in looks.items() if len(found) > 1} == {}
    assert figures._COLORS.keys() == figures._MARKERS.keys() == ARMS.keys()
    assert len({*figures._COLORS.values()}) == len({*figures._MARKERS.values()}) == len(ARMS)


def test_a_report_explains_its_terms_and_leaves_out_what_is_empty(tmp_path, written):
    _, folder, _ = written
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for term in ("Arm", "CTR model", "PLM", "AUC", "Log loss"):
        assert f"**{term}.** " in markdown
    assert "The arm to serve is in bold." in markdown
    assert "| arm | training, minutes | rows/s | MB | PLM | seeds |" in markdown
    # each segment has metrics, so there is nothing to note
    assert "| segment | rows | clicked rows | click rate |\n" in markdown
    write_report(made_comparison(NOISE, rows=300, counts=False), tmp_path)
    assert "Rows by segment" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_report_says_on_which_rows_importance_was_measured_or_why_not(tmp_path):
    for name, importance in (("measured", {"backbone": {"item": 0.1}}), ("not", None)):
        made = replace(made_comparison(NOISE, rows=300, importance=importance), importance_note="On 7 rows.")
        write_report(made, tmp_path / name)
        for file in ("report.md", "report.html"):
            text = (tmp_path / name / file).read_text(encoding="utf-8")
            assert "Field importance" in text
            assert "On 7 rows." in text
            assert ("Drop in test AUC when" in text) == (importance is not None)


def test_a_report_without_matplotlib_has_no_plots(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report(made_comparison({"backbone": 1, "clickprompt": 1}, rows=300), tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "svg" not in page.tags
    assert "matplotlib is not installed, so there are no plots." in page.text


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    made = made_comparison({"backbone": 1}, rows=200)
    write_report(made, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "_page", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_report(made_comparison({"backbone": 2}, rows=200), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
