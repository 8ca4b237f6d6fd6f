"""What the draft says about numbers that may be misread: those that stand for missing cells, and those with units."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from clickprompt_hf import ClickPromptProcessor, Schema
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.runs.draft_schema import draft_schema

ROWS = 400
DRAW = np.random.default_rng(21)
CLICKS = DRAW.integers(0, 2, ROWS)
AGES = DRAW.integers(18, 96, ROWS)
AMOUNTS = np.round(np.exp(DRAW.normal(5, 1, ROWS)), 2)


def drafted(values, folder, ending="csv") -> tuple[str, list[dict]]:
    """The draft's lines on a column `x` beside a label, and its fields."""
    frame = pd.DataFrame({"x": values, "user": np.arange(ROWS) % 40, "click": CLICKS})
    path = folder / f"table.{ending}"
    frame.to_parquet(path) if ending == "parquet" else frame.to_csv(path, index=False)
    text = draft_schema(path)
    (folder / "schema.yaml").write_text(text, encoding="utf-8")
    lines = re.search(r'  # "x":.*?(?=\n  # "user")', text, re.DOTALL)
    return lines[0], [field for field in yaml.safe_load(text)["fields"] if field["column"] == "x"]


def with_share(values, others, share=0.05) -> list:
    mixed = list(values)
    for place, row in enumerate(np.random.default_rng(3).permutation(ROWS)[: round(share * ROWS)]):
        mixed[row] = others[place % len(others)]
    return mixed


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (with_share(AGES, [-999]), "does -999 (5 %) mean missing, among numbers from 18 to 95?"),
        (with_share(AMOUNTS, [-1.0]), "does -1 (5 %) mean missing"),
        (with_share(AGES, [9999]), "does 9999 (5 %) mean missing, among numbers from 18 to 95?"),
        # nearer than the others' span, but far more frequent than they are
        (with_share(AGES, [99], 0.2), "does 99 (20 %) mean missing"),
        (with_share(AGES, [0]), "does 0 (5 %) mean missing, among numbers from 18 to 95?"),
        (with_share(AMOUNTS - 150, [-9999.0]), "does -9999 (5 %) mean missing"),
        (with_share(AGES, [-8, -9], 0.3), "do -9 (15 %) and -8 (15 %) mean missing"),
        (with_share(AGES, [-1, 2147483647]), "do -1 (2 %) and 2147483647 (2 %) mean missing"),
        (with_share(DRAW.random(ROWS).round(4), [999.99]), "does 999.99 (5 %) mean missing"),
        # as databases write decimals
        (with_share([f"{age}.50" for age in AGES], ["-999.00"]), "does -999.00 (5 %) mean missing"),
        (with_share([f"{age}.50" for age in AGES], ["-1.00"]), "does -1.00 (5 %) mean missing"),
    ],
)
def test_numbers_that_may_stand_for_missing_cells_are_questioned(values, said, ending, tmp_path):
    lines, (field,) = drafted(values, tmp_path, ending)
    assert field["kind"] == "numeric"
    assert said in lines
    # the advice, followed, makes them missing
    advice = re.search(r"the field needs `(missing: .*)`", lines)[1]
    schema = yaml.safe_load((tmp_path / "schema.yaml").read_text())
    schema["fields"][0] |= yaml.safe_load(advice)
    splits, _ = load_splits(ending, tmp_path / f"table.{ending}", Schema.from_dict(schema))
    processor = ClickPromptProcessor.fit(splits["train"], Schema.from_dict(schema))
    numbers = [*re.findall(r"(-?[\d.]+) \(", said)]
    ids = processor.encode({"x": ["", *numbers, "18"], "user": ["1"] * (len(numbers) + 2)})[:, 0].tolist()
    assert len(set(ids[:-1])) == 1
    assert ids[-1] != ids[0]


@pytest.mark.parametrize(
    "values",
    [
        AGES,
        AMOUNTS,
        # balances and temperatures below zero, and counts from zero on
        DRAW.normal(0, 5, ROWS).round(),
        DRAW.normal(0, 500, ROWS).round(2),
        DRAW.integers(-3, 40, ROWS),
        DRAW.integers(0, 13, ROWS),
        with_share(AMOUNTS, [0], 0.4),
        # percentages and prices that go beyond
        DRAW.integers(0, 101, ROWS),
        with_share(DRAW.integers(1, 20_000, ROWS), [9999]),
        # most rows have nothing
        with_share(AMOUNTS + 200, [0], 0.7),
        # a slip
        [-999, *AGES[1:]],
    ],
)
def test_usual_numbers_are_not_questioned(values, tmp_path):
    lines, (field,) = drafted(values, tmp_path)
    assert field["kind"] == "numeric"
    assert "mean missing" not in lines


@pytest.mark.parametrize("fraction", [0, 0.25])
def test_days_that_spreadsheets_count_are_questioned(fraction, tmp_path):
    frame = pd.DataFrame({"date": 45_200 + np.arange(ROWS) // 2 + fraction, "click": CLICKS})
    frame.to_csv(tmp_path / "table.csv", index=False)
    # 2024-01-01 is day 45292, and the last one here is day 45399
    said = (
        f"if these are days since 1900, as spreadsheets count them, write dates: 2024-04-17 for {45_399 + fraction:g}"
    )
    assert said in draft_schema(tmp_path / "table.csv")


def test_infinite_numbers_do_not_spoil_the_others(tmp_path):
    lines, (field,) = drafted(with_share(AMOUNTS, ["inf", "-inf", "1e400"], 0.04), tmp_path)
    assert field["kind"] == "numeric"
    assert "4 % missing" in lines
    assert "AUC alone" in lines


def test_words_and_numbers_for_missing_cells_go_together(tmp_path):
    lines, (field,) = drafted(with_share(AGES, ["NA", -999], 0.1), tmp_path)
    assert field["missing"] == ["NA"]
    assert "needs `missing: ['NA', -999]`" in lines


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("{:.2f} EUR", "numbers with 'eur', such as '{}'"),
        ("€ {}", "numbers with '€', such as '{}'"),
        ("${:,}.50", "numbers with '$', such as '{}'"),
        ("{} years", "numbers with 'years', such as '{}'"),
        ("{},7 %", "numbers with '%', such as '{}'"),
        ("{}k", "numbers with 'k', such as '{}'"),
        ("{} kg", "numbers with 'kg', such as '{}'"),
        ("{}m", "numbers with 'm', such as '{}'"),
        ("(${:,})", "numbers with '$', such as '{}'"),
    ],
)
def test_numbers_with_units_are_questioned(cell, said, tmp_path):
    # repeated ones are categories as they are
    lines, (field,) = drafted([cell.format(int(age)) for age in AGES], tmp_path)
    assert set(field) == {"column", "name"}
    most_frequent = cell.format(pd.Series(AGES).value_counts(sort=True).index[0])
    example = re.search("such as '(.*?)'", lines)[1]
    assert f"CHECK: {said.format(example)}, are read as words: write plain numbers" in lines
    assert len(example) == len(most_frequent)
    # others say nothing as categories
    lines, fields = drafted([cell.format(1000 + n) for n in range(ROWS)], tmp_path)
    assert fields == []
    assert "LEFT OUT: numbers with " in lines


def test_numbers_with_an_unknown_unit_may_be_codes(tmp_path):
    for cells in ([f"{age} BA" for age in AGES], [f"{n % 270} BA" for n in range(ROWS)]):
        lines, (field,) = drafted(cells, tmp_path)
        assert set(field) == {"column", "name"}
        assert "CHECK: numbers with 'ba', such as '" in lines
        assert "LEFT OUT" not in lines


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1.2k", "3k", "700"], "with 'k', such as '1.2k', are read as words: write plain numbers (1200) in one unit"),
        (["1.2k", "3M", "7k"], "with 'k', 'm', such as '1.2k', are read as words: write plain numbers (1200) in one"),
        (["3 kg", "700 g", "2 kg"], "with 'kg', 'g', such as '3 kg', are read as words: write plain numbers (3) in"),
        (
            ["1,200", "2,500", "613"],
            "separators or signs, such as '1,200', are read as words: write plain numbers (1200",
        ),
        (
            ["(12.5)", "7", "3"],
            "separators or signs, such as '(12.5)', are read as words: write plain numbers (-12.5)",
        ),
        (["12-", "7", "3-"], "such as '12-', are read as words: write plain numbers (-12)"),
        (["\u221212.5", "\u22127", "3"], "such as '\u221212.5', are read as words: write plain numbers (-12.5)"),
    ],
)
def test_units_and_signs_that_differ_are_reported(cells, said, tmp_path):
    others = [re.sub(r"\d+", str(n), cells[0], count=1) for n in range(20, 32)]
    values = [cells[0]] * 200 + cells[1:] * 94 + others
    # of a CSV file, the draft would propose the marks
    lines, _ = drafted(values, tmp_path, "parquet")
    assert said in lines


@pytest.mark.parametrize(
    "cells",
    [
        ["1A", "2B", "3C", "4D"],
        ["1A", "1B", "2A", "2B"],
        ["A1", "B2", "C3"],
        ["10 Main Street", "7 Oak Road", "3 Elm"],
        ["18-25", "26-35", "36-45"],
        ["< 1 year", "10+ years", "3 years"],
        ["Week 1", "Week 2", "Week 3"],
        ["1st", "2nd", "3rd"],
        ["5W30", "10W40", "0W20"],
        ["2 doors", "SUV", "4 doors", "van"],
        ["2020-", "1999-2004", "2011-"],
        # as few numbers would be categories, too
        ["80s", "90s", "70s"],
        ["1 star", "2 stars", "3 stars"],
        ["16:09", "4:03", "21:09"],
        ["$5", "$10", "$20"],
    ],
)
def test_codes_ranges_and_names_are_not_numbers_with_units(cells, tmp_path):
    lines, (field,) = drafted([cells[n % len(cells)] for n in range(ROWS)], tmp_path)
    assert "are read as words" not in lines
    assert "kind" not in field


@pytest.mark.parametrize(
    "form",
    # those with days are written by pandas, Python and Arrow
    [
        *("{:02}:{:02}", "{}:{:02}:30", "{}:{:02} PM"),
        *("0 days 0{}:{:02}:00", "-1 days +0{}:{:02}:00", "1 day, {}:{:02}:00"),
    ],
)
def test_times_of_day_and_durations_are_questioned(form, tmp_path):
    lines, (field,) = drafted([form.format(n % 12, n % 20) for n in range(ROWS)], tmp_path)
    assert "kind" not in field
    assert "CHECK: times of day or durations, such as '" in lines


def test_ids_that_a_spreadsheet_has_rounded_are_questioned(tmp_path):
    frame = pd.DataFrame({"account": [f"1.{n % 60:05d}E+14" for n in range(ROWS)], "click": CLICKS})
    frame.to_csv(tmp_path / "table.csv", index=False)
    assert "CHECK: ids such as '1.00000E+14' have lost digits" in draft_schema(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("large", "csv"),
    [("1,248.60", {"thousands": ","}), ("12,001,248", {"thousands": ","}), ("12 kg", None), ("1.248,60", None)],
)
def test_few_separators_of_thousands_are_enough_to_propose_them(large, csv, tmp_path):
    """Most amounts are below a thousand: the others would be missing."""
    cells = [large if n % 50 == 0 else f"{n % 900 + 0.5}" for n in range(ROWS)]
    pd.DataFrame({"x": cells, "y": np.arange(ROWS) / 4, "click": CLICKS}).to_csv(tmp_path / "t.csv", index=False)
    text = draft_schema(tmp_path / "t.csv")
    assert yaml.safe_load(text).get("csv") == csv
    assert ("count as missing" in text) == (csv is None)
    assert ("CHECK: do numbers use this `thousands`? It applies to all numeric fields." in text) == (csv is not None)


def test_a_few_units_among_numbers_are_missing_and_reported(tmp_path):
    lines, (field,) = drafted(with_share(AGES.astype(str), ["12 kg"], 0.02), tmp_path)
    assert field["kind"] == "numeric"
    assert "cells such as '12 kg' are not numbers and count as missing: 8 (2 %); write 12 for '12 kg'" in lines


def test_numeric_fields_of_numbers_with_units_are_refused_with_advice():
    schema = Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    message = r"none of its training values is one, e.g. '1.2k'. Write 1200 for '1.2k'\."
    with pytest.raises(ValueError, match=message):
        ClickPromptProcessor.fit({"x": ["1.2k", "3k"]}, schema)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (lambda n: f"{n:,}".replace(",", "."), "--decimal , --thousands ."),
        (lambda n: f"{n:,}".replace(",", " ") + ",5", "--decimal , --thousands ' '"),
        (lambda n: f"{n % 1000},{n % 7}", "--decimal ,"),
    ],
)
def test_advice_on_separators_names_the_options_that_read_them(form, options, tmp_path):
    """One column beside plain ones: the draft does not take its marks for those of the whole file."""
    frame = pd.DataFrame({"x": [form(900 + 7 * n) for n in range(ROWS)], "click": CLICKS})
    for name in "abc":
        frame[name] = (DRAW.random(ROWS) * 100).round(2)
    frame.to_csv(tmp_path / "table.csv", index=False)
    text = draft_schema(tmp_path / "table.csv")
    assert f"or draft again with {options} if the CSV file writes all numbers so" in text
