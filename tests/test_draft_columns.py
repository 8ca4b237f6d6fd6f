"""What the draft makes of columns as they are found: words for missing values, lists, times, outcomes, copies."""

import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.runs.draft_schema import draft_schema

ROWS = 300
DRAW = np.random.default_rng(11)
CLICKS = DRAW.integers(0, 2, ROWS)
NUMBERS = [f"{n / 4:g}" for n in DRAW.permutation(ROWS)]
DAYS = pd.Series(pd.date_range("2023-01-01", periods=ROWS, freq="3D"))
SECONDS = 1_706_709_900 + 7_000 * np.arange(ROWS)


def drafted(columns: dict, folder, ending: str = "csv", **options) -> tuple[str, dict[str, list[dict]]]:
    """The draft for columns beside a label, and the fields that it proposes by column."""
    path = folder / f"table.{ending}"
    table = pa.table({name: pa.array(values) for name, values in {**columns, "click": CLICKS.tolist()}.items()})
    pq.write_table(table, path) if ending == "parquet" else table.to_pandas().to_csv(path, index=False)
    text = draft_schema(path, **options)
    (folder / "schema.yaml").write_text(text, encoding="utf-8")
    fields: dict[str, list[dict]] = {name: [] for name in columns}
    for field in yaml.safe_load(text)["fields"] or []:
        fields[field["column"]].append({key: value for key, value in field.items() if key not in ("column", "name")})
    return text, fields


def fitted(folder, ending: str = "csv") -> ClickPromptProcessor:
    """A processor fitted by the draft as it is; warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits, schema = load_splits(ending, folder / f"table.{ending}", folder / "schema.yaml")
        processor = ClickPromptProcessor.fit(splits["train"], schema)
        processor.encode(processor.columns(splits["test"].to_pydict()))
    return processor


def with_words(values: list, words: list[str], share: float) -> list:
    """Values with words in place of some of them."""
    mixed = list(values)
    for place, row in enumerate(np.random.default_rng(3).permutation(len(mixed))[: int(share * len(mixed))]):
        mixed[row] = words[place % len(words)]
    return mixed


@pytest.mark.parametrize("share", [0.02, 0.25, 0.45])
@pytest.mark.parametrize(
    "words",
    [
        *(["NULL"], ["NA"], ["?"], ["-"], ["\\N"], ["unknown"], ["N/A"], ["None"], ["missing"], ["#DIV/0!"]),
        # several of them, and a single one that is not known
        *(["NULL", "na", "?"], ["confidential"]),
    ],
)
def test_words_among_numbers_are_missing(words, share, tmp_path):
    text, fields = drafted({"x": with_words(NUMBERS, words, share)}, tmp_path)
    (field,) = fields["x"]
    assert field["kind"] == "numeric"
    assert sorted(field["missing"]) == sorted(words)
    assert f"{share:.0%}".replace("%", " % missing") in text
    assert ("'confidential' " in text) == (words == ["confidential"])
    assert "" in fitted(tmp_path).vocabularies[0]


def test_words_among_few_numbers_and_ids_are_missing(tmp_path):
    columns = {
        "stars": with_words([str(1 + n % 5) for n in range(ROWS)], ["N/A"], 0.2),
        "user_id": with_words([str(n % 40) for n in range(ROWS)], ["NULL"], 0.2),
    }
    _, fields = drafted(columns, tmp_path)
    assert fields == {"stars": [{"missing": ["N/A"]}], "user_id": [{"missing": ["NULL"]}]}
    assert fitted(tmp_path).vocabularies[0].count("") == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (with_words([f"{n:04d}" for n in range(ROWS)], ["A12"], 0.03), "leading zeros"),
        (with_words([str(n % 200) for n in range(ROWS)], ["A12"], 0.03), "cells such as 'A12'"),
        (with_words([str(n % 200) for n in range(ROWS)], ["17b", "4c"], 0.04), "cells such as '"),
        # more of them are words than numbers
        (with_words(NUMBERS, ["red", "blue", "green"], 0.8), ""),
    ],
)
def test_codes_stay_categories(values, said, tmp_path):
    text, fields = drafted({"x": values}, tmp_path)
    assert fields["x"] == [{}]
    assert said in text


@pytest.mark.parametrize("share", [0.04, 0.5])
def test_times_in_several_formats_are_reported(share, tmp_path):
    iso, german = DAYS.dt.strftime("%Y-%m-%d").tolist(), DAYS.dt.strftime("%d.%m.%Y").tolist()
    rows = set(np.random.default_rng(3).permutation(ROWS)[: int(share * ROWS)].tolist())
    mixed = [german[n] if n in rows else iso[n] for n in range(ROWS)]
    text, fields = drafted({"seen": mixed, "repeated": [mixed[n % 100] for n in range(ROWS)]}, tmp_path)
    said = re.findall(
        "(CHECK|LEFT OUT): times in several formats, such as (.*), are read as words: write them in", text
    )
    assert [mark for mark, _ in said] == ["LEFT OUT", "CHECK"]
    assert all(re.search(r"'\d{4}-\d\d-\d\d'", cells) and re.search(r"'\d\d.\d\d.\d{4}'", cells) for _, cells in said)
    assert fields["seen"] == []
    assert "kind" not in fields["repeated"][0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["Red", "red", "RED", "blue"], "each of these counts as a separate value: 'Red', 'red', 'RED'; write them"),
        (["TRUE", "1", "FALSE", "0"], "each of these counts as a separate value: 'TRUE', '1'; 'FALSE', '0'; write"),
        (["red", "blue", "green"], None),
        (["TRUE", "FALSE", "maybe"], None),
        # hashes
        (["aGVsbG8gd29ybGQ1Xy", "AGVsbG8gd29ybGQ1Xy", "aGVsbG8gd29ybGQ2Xz"], None),
    ],
)
def test_categories_in_several_spellings_are_reported(values, said, tmp_path):
    text, fields = drafted({"x": [values[n % len(values)] for n in range(ROWS)]}, tmp_path)
    assert "kind" not in fields["x"][0]
    assert ("each of these counts as" in text) == (said is not None)
    assert said is None or said in text


def test_a_row_of_totals_is_questioned(tmp_path):
    path = tmp_path / "table.csv"
    rows = "".join(f"Total wine,{n % 40},{click}\n" for n, click in enumerate(CLICKS))
    for last, is_told in ((f"Total,{20 * ROWS},{CLICKS.sum()}\n", True), ("Totals:,7,\n", True), ("Red,7,1\n", False)):
        path.write_text(f"shop,x,click\n{rows}{last}")
        text = draft_schema(path)
        assert ("CHECK: the last row seems to hold totals of the others ('Total" in text) == is_told
    # unknown if only the first rows were read
    path.write_text(f"shop,x,click\n{rows}Total,7,1\n{rows}")
    assert "hold totals" not in draft_schema(path, max_rows=ROWS + 1)


def test_a_title_above_the_header_is_suspected(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("Sales of 2024,,\nuser,x,click\n1,2,1\n")
    with pytest.raises(
        ValueError, match=r"it has only \['Sales of 2024'\]. If lines above the header are a title, remove"
    ):
        draft_schema(path)


@pytest.mark.parametrize("word", ["NULL", "unknown", "0000-00-00", "0000-00-00 00:00:00", "9999-12-31", "never"])
@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S"])
def test_placeholders_among_dates_are_missing(word, form, tmp_path):
    text, fields = drafted({"seen": with_words(DAYS.dt.strftime(form).tolist(), [word], 0.25)}, tmp_path)
    assert [field["kind"] for field in fields["seen"]] == ["weekday", "month"]
    assert all(field["missing"] == [word] for field in fields["seen"])
    assert "25 % missing" in text
    assert "from 2023-01-01 to 2025-06" in text
    vocabularies = fitted(tmp_path).vocabularies
    assert [sorted(map(bool, vocabulary)) for vocabulary in vocabularies] == [
        [False, *[True] * 7],
        [False, *[True] * 12],
    ]


AMOUNTS = 900 + 7 * np.arange(ROWS)


@pytest.mark.parametrize(
    ("cells", "doubts"),
    [
        (
            [f"{n:,}".replace(",", ".") for n in AMOUNTS],
            [
                "all fractions have exactly three digits: '1.005' is read as 1.005; if points separate thousands, "
                "write 1005"
            ],
        ),
        (
            [*(f"{n:,}".replace(",", ".") for n in AMOUNTS[:-1]), "1.415.011"],
            [
                "cells such as '1.415.011' are not numbers and count as missing: 1 (0.3 %); write 1415011 for "
                "'1.415.011', or name `decimal` and `thousands` of a CSV file",
                "the points probably separate thousands, as in '1.415.011', which counts as missing: '1.005' is read "
                "as 1.005, not as 1005; write 1005",
            ],
        ),
        # measurements with three decimals
        ([f"{n / 1000:.3f}" for n in 10_001 + AMOUNTS], ["all fractions have exactly three digits"]),
        # these cannot be thousands, as zeros or longer numbers show
        ([f"{n / 1000:.3f}" for n in AMOUNTS], []),
        ([f"{n:.3f}" for n in AMOUNTS], []),
        ([f"{n / 1000:g}" for n in 10_000 + AMOUNTS], []),
        ([str(n) for n in AMOUNTS], []),
    ],
)
def test_points_that_may_separate_thousands_are_questioned(cells, doubts, tmp_path):
    text, fields = drafted({"price": cells}, tmp_path)
    assert fields["price"][0]["kind"] == "numeric"
    found = re.findall("# CHECK: (.*(?:three digits|points|not numbers).*)", text)
    assert len(found) == len(doubts)
    assert all(said.startswith(doubt) for said, doubt in zip(found, doubts))


def test_lists_of_three_digits_may_be_amounts(tmp_path):
    text, fields = drafted({"codes": [f"{n + 100_000:,}" for n in 1_000 * np.arange(ROWS) + 123]}, tmp_path)
    assert fields["codes"][0]["kind"] == "multi_valued"
    assert "CHECK: cells such as '100,123' are lists of numbers; if ',' separates thousands, write 100123" in text


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "time_format"),
    [
        *((name, form) for name in ("when", "timestamp") for form in ("%Y%m%d%H", "%Y%m%d%H%M", "%Y%m%d%H%M%S")),
        *(("when", "%Y%m%d%H%M%S%f"), ("when", "%y%m%d%H%M%S"), ("bestellt", "%Y%m%d%H%M"), ("hour", "%Y%m%d%H")),
    ],
)
def test_dates_in_digits_are_not_seconds(name, time_format, ending, tmp_path):
    moments = DAYS + pd.to_timedelta(np.arange(ROWS) * 1_234_567, unit="ms")
    written = moments.dt.strftime(time_format)
    cells = [int(cell) if len(cell) < 19 else cell for cell in written]
    text, fields = drafted({name: cells}, tmp_path, ending)
    assert [field["kind"] for field in fields[name]] == ["hour", "weekday", "month"]
    assert {field["time_format"] for field in fields[name]} == {time_format}
    assert yaml.safe_load(text)["time_format"] == time_format
    assert "from 2023-01-01" in text
    assert "are these times read" not in text


@pytest.mark.parametrize("time_format", ["%d.%m.%y", "%d.%m.%y %H:%M", "%Y.%m.%d", "%d.%m.%Y"])
def test_dates_with_points_are_dates(time_format, tmp_path):
    moments = DAYS + pd.to_timedelta(np.arange(ROWS), unit="h")
    text, fields = drafted({"when": moments.dt.strftime(time_format).tolist()}, tmp_path)
    assert {field["time_format"] for field in fields["when"]} == {time_format}
    assert "from 2023-01-01" in text


def test_columns_of_one_display_name_are_told_apart(tmp_path):
    columns = {"price": NUMBERS, "Price": NUMBERS[::-1], "unit_price": NUMBERS}
    text, _ = drafted({**columns, "sold_at": DAYS.dt.strftime("%Y-%m-%d"), "soldAt": SECONDS.tolist()}, tmp_path)
    names = {(field["column"], field["name"]) for field in yaml.safe_load(text)["fields"]}
    assert {("price", "price"), ("Price", "Price"), ("unit_price", "Unit price")} <= names
    assert {("sold_at", "sold_at weekday"), ("soldAt", "soldAt weekday")} <= names


def test_versions_with_points_are_not_dates(tmp_path):
    _, fields = drafted({"version": [f"{n % 5}.{n % 17}.{n % 3}" for n in range(ROWS)]}, tmp_path)
    assert [field.get("kind") for field in fields["version"]] == [None]


def test_a_few_other_cells_do_not_turn_dates_into_seconds(tmp_path):
    cells = DAYS.dt.strftime("%Y%m%d%H%M%S").tolist()
    text, fields = drafted({"when": [*cells[:-1], "20231341000000"]}, tmp_path)
    assert {field["time_format"] for field in fields["when"]} == {"%Y%m%d%H%M%S"}
    assert "cells such as '20231341000000' are not times and count as missing: 1 (0.3 %)" in text


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_seconds_since_1970_stay_seconds(unit, tmp_path):
    text, fields = drafted({"timestamp": (SECONDS * unit).tolist()}, tmp_path)
    assert all("time_format" not in field for field in fields["timestamp"])
    assert "from 2024-01-31 14:05:00" in text
    assert "are these times read" not in text


@pytest.mark.parametrize(
    ("first", "written", "is_far"),
    [
        *(("2610-10-01", "seconds", True), ("2023-01-01", "seconds", False)),
        # their years are plausible
        *(("2050-01-01", "dates", False), ("1935-01-01", "dates", False)),
    ],
)
def test_numbers_that_would_be_distant_times_are_questioned(first, written, is_far, tmp_path):
    days = np.datetime64(first, "D") + 2 * np.arange(ROWS)
    cells = days.astype(str) if written == "dates" else days.astype("datetime64[s]").astype(np.int64).astype(str)
    text, _ = drafted({"when": cells.tolist()}, tmp_path)
    assert ("CHECK: are these times read correctly" in text) == is_far


def test_zero_is_not_a_time(tmp_path):
    _, fields = drafted({"ts": with_words(SECONDS.tolist(), [0, -1], 0.1)}, tmp_path, "parquet")
    assert [field["kind"] for field in fields["ts"]] == ["hour", "weekday"]
    assert {tuple(sorted(field["missing"])) for field in fields["ts"]} == {("-1", "0")}
    fitted(tmp_path, "parquet")


@pytest.mark.parametrize(
    "cells",
    [
        [f"{second}.123" for second in SECONDS],
        (SECONDS + 0.25).tolist(),
        [f"{second / 1e9:.7f}e9" for second in SECONDS],
        [f"{second}{second % 1000:03d}.5" for second in SECONDS],
    ],
)
def test_fractions_of_seconds_are_times(cells, tmp_path):
    ending = "csv" if isinstance(cells[0], str) else "parquet"
    text, fields = drafted({"event_time": cells}, tmp_path, ending)
    assert [field["kind"] for field in fields["event_time"]] == ["hour", "weekday"]
    assert "from 2024-01-31 14:05:00" in text
    assert load_schema(tmp_path / "schema.yaml").time == "event_time"
    load_splits(ending, tmp_path / f"table.{ending}", tmp_path / "schema.yaml", split="time")


def lists_of(low: int, high: int) -> list[list[int]]:
    draw = np.random.default_rng(5)
    return [draw.integers(low, high, draw.integers(1, 6)).tolist() for _ in range(ROWS)]


@pytest.mark.parametrize("numbers", [(1, 40), (100, 999), (1, 1_000_000)])
@pytest.mark.parametrize("separator", [",", ", ", "|", ";", " ", "\t", "\x1d"])
def test_lists_of_numbers_have_several_values(separator, numbers, tmp_path):
    cells = [separator.join(map(str, cell)) for cell in lists_of(*numbers)]
    _, fields = drafted({"items": cells}, tmp_path)
    assert fields["items"] == [{"kind": "multi_valued", "max_values": 5, "separator": separator}]
    found = {value for cell in lists_of(*numbers) for value in map(str, cell)}
    assert set(fitted(tmp_path).vocabularies[0]) <= found


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda cell: "[" + ",".join(f'"a{n}"' for n in cell) + "]",
        lambda cell: "{" + ",".join(map(str, cell)) + "}",
        lambda cell: str(tuple(cell)),
    ],
)
def test_lists_written_as_text_have_several_values(write, tmp_path):
    text, fields = drafted({"items": [write(cell) for cell in lists_of(1, 40)]}, tmp_path)
    assert fields["items"] == [{"kind": "multi_valued", "max_values": 5}]
    assert "lists written as text" in text
    assert all(re.fullmatch(r"a?\d+", value) for value in fitted(tmp_path).vocabularies[0])


def test_weighted_lists_lose_their_weights(tmp_path):
    cells = ["|".join(f"t{n}:{0.1 * (n % 7 + k):.1f}" for k, n in enumerate(cell)) for cell in lists_of(1, 9)]
    _, fields = drafted({"tags": cells}, tmp_path)
    expected = {"kind": "multi_valued", "max_values": 5, "separator": "|", "weight_separator": ":"}
    assert fields["tags"] == [expected]
    assert set(fitted(tmp_path).vocabularies[0]) == {f"t{n}" for n in range(1, 9)}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([f"{n // 100},{n % 100:03d}.50" for n in range(100, 100 + ROWS)], {"kind": "numeric"}),
        ([f"{n},{n % 100:02d}" for n in range(ROWS)], {"kind": "numeric"}),
        ([f"{n},{n % 100:02d} €" for n in range(ROWS)], None),
        ([f"+49 30 {n:07d}" for n in DRAW.permutation(40)] * 8, {}),
        ([f"room {n % 40} on floor {n % 7}, quiet" for n in range(ROWS)], {"kind": "text"}),
        ([f"({'draft' if n % 3 else 'final'})" for n in range(ROWS)], {}),
    ],
)
def test_cells_that_are_not_lists(cells, kind, tmp_path):
    _, fields = drafted({"x": cells[:ROWS]}, tmp_path)
    assert fields["x"] == ([] if kind is None else [kind])


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([[{"id": n % 3}] for n in range(ROWS)]),
        pa.array([[("a", n % 3)] for n in range(ROWS)], pa.map_(pa.string(), pa.int64())),
        pa.array([{"id": n % 3} for n in range(ROWS)]),
        pa.array([[[n % 3]] for n in range(ROWS)]),
    ],
)
def test_nested_cells_are_left_out_with_advice(cells, tmp_path):
    text, fields = drafted({"x": cells, "user": [n % 7 for n in range(ROWS)]}, tmp_path, "parquet")
    assert fields["x"] == []
    assert re.search(r"LEFT OUT: cells of type .* cannot be a field; make one column per value", text)
    fitted(tmp_path, "parquet")


@pytest.mark.parametrize(
    "name",
    [
        *("conversion", "converted", "purchase", "isPurchased", "revenue_usd", "order_id", "dwell_time", "clicks"),
        *("watch_time_ms", "viewDuration", "checkout", "installed"),
    ],
)
def test_outcomes_are_questioned_by_name(name, tmp_path):
    text, fields = drafted({name: [f"v{n}" for n in DRAW.integers(0, 5, ROWS)], "user": range(ROWS)}, tmp_path)
    assert fields[name] == []
    assert "LEFT OUT: named like an outcome; if it is known before the impression, keep it" in text


@pytest.mark.parametrize(
    "name",
    ["past_purchases", "clicks_7d", "user_clicks", "avg_revenue", "item_ctr", "order", "last_click", "time_of_day"],
)
def test_aggregates_of_the_past_are_not_questioned(name, tmp_path):
    text, fields = drafted({name: [f"v{n}" for n in DRAW.integers(0, 5, ROWS)]}, tmp_path)
    assert fields[name] == [{}]
    assert "LEFT OUT" not in text.split("fields:")[1]


HALF_OF_CLICKS = (CLICKS == 1) & (np.arange(ROWS) % 2 == 0)


@pytest.mark.parametrize(
    ("values", "is_questioned"),
    [
        # a rating beside a click made from it: 4 stars or more
        ([int(n) for n in np.where(CLICKS, DRAW.integers(4, 6, ROWS), DRAW.integers(1, 4, ROWS))], True),
        # only for some of the clicked rows
        (np.where(HALF_OF_CLICKS, np.arange(ROWS) / 7, 0).tolist(), True),
        ([f"v{n % 5}" if known else None for n, known in enumerate(HALF_OF_CLICKS)], True),
        # for as many rows, clicked or not
        (np.where(np.arange(ROWS) % 4 == 0, np.arange(ROWS) / 7, 0).tolist(), False),
        # ids of few rows each, and five rows that happen to be clicked
        ([f"u{n // 2}" for n in range(ROWS)], False),
        (["x" if n in np.flatnonzero(CLICKS)[:5] else "y" for n in range(ROWS)], False),
    ],
)
def test_outcomes_are_questioned_by_rank(values, is_questioned, tmp_path):
    text, fields = drafted({"x": values, "user": [n % 7 for n in range(ROWS)]}, tmp_path)
    assert (fields["x"] == []) == is_questioned
    assert ("is a leak unless it is known before" in text) == is_questioned


@pytest.mark.parametrize("times", [2, 3])
def test_row_ids_of_a_copied_table_are_row_ids(times, tmp_path):
    frame = pd.DataFrame(
        {
            "number": np.arange(ROWS) + 1000,
            "uuid": [f"{n * 7919:x}" for n in range(ROWS)],
            "user": [f"u{n % 30}" for n in range(ROWS)],
            "click": CLICKS,
        }
    )
    frame = pd.concat([frame] * times).sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "table.csv", index=False)
    text = draft_schema(tmp_path / "table.csv")
    assert f"CHECK: {(times - 1) * ROWS} rows repeat an earlier row in all columns" in text
    assert text.count("LEFT OUT: row ids, as only duplicate rows share a value") == 2
    assert [field["column"] for field in yaml.safe_load(text)["fields"]] == ["user"]


def test_equal_impressions_are_not_copies(tmp_path):
    """A user's rows may be equal in all columns of a small table, without being copies."""
    users = [f"u{n}" for n in range(30) for _ in range(1 + n % 9)]
    clicks = [int(user[-1]) % 2 for user in users]
    pd.DataFrame({"user": users, "click": clicks}).to_csv(tmp_path / "table.csv", index=False)
    text = draft_schema(tmp_path / "table.csv")
    assert "row ids" not in text
    assert "rows repeat an earlier row" in text


def test_log_buckets_are_proposed_where_they_rank_better(tmp_path):
    draw = np.random.default_rng(0)
    rows = 20_000
    # One quantile bucket holds all numbers below 1, whose magnitude tells clicks from others.
    magnitudes = draw.uniform(0, 8, rows)
    small = draw.random(rows) < 0.08
    clicks = draw.random(rows) < np.where(small & (magnitudes > 4), 0.9, 0.01)
    columns = {
        "share": np.where(small, 10**-magnitudes, draw.uniform(1, 2, rows)),
        "noise": draw.uniform(1, 50, rows),
        # By skew: its top 1 % are more than 20 times the median of the numbers above zero, most being zero.
        "amount": np.where(draw.random(rows) < 0.1, np.exp(draw.normal(0, 2.5, rows)), 0),
    }
    pd.DataFrame({**columns, "click": clicks.astype(int)}).to_csv(tmp_path / "table.csv", index=False)
    text = draft_schema(tmp_path / "table.csv")
    found = {field["column"]: field.get("buckets") for field in yaml.safe_load(text)["fields"]}
    assert found == {"share": "log", "noise": None, "amount": "log"}
    better, worse = map(
        float, re.search(r"rank the rows better than `quantile`: AUC ([.\d]+) against ([.\d]+)", text).groups()
    )
    assert better > worse + 0.01
    assert text.count("the top 1 % are more than 20 times the median") == 1


HEADERLESS = "u1,34,0.5,red,0\nu2,28,1.5,blue,1\nu3,41,2.5,red,1\nu1,19,0.25,red,0\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADERLESS,
        "yes,red,small\nno,blue,large\nyes,red,large\nno,blue,small\n",
        "2024-01-31,a,1\n2024-02-01,b,0\n2024-02-02,c,1\n",
        "0000-00-00,NULL,1\n2024-02-01,2.5,0\n2024-02-02,1.5,1\n",
    ],
)
def test_files_without_a_header_are_recognized(content, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(content)
    names = " ".join(f"c{n + 1}" for n in range(content.split("\n")[0].count(",") + 1))
    with pytest.raises(ValueError, match=f"rows.csv seems to have no header: .* --column_names {names} ") as error:
        draft_schema(path)
    assert content.split("\n")[0] in str(error.value)


@pytest.mark.parametrize(
    "header",
    ["user,2019,2020,colour,click", "user,age,0.5,colour,click", "0,1,2,3,4", "red,age,price,colour,click"],
)
def test_unusual_headers_are_headers(header, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}\n{HEADERLESS}")
    assert "fields:" in draft_schema(path)


KINDS_OF_CELLS = {
    "numbers": st.floats(-1e6, 1e6).map(lambda number: f"{number:.3g}"),
    "prices": st.sampled_from(["$1,200", "$3.50", "", "$7"]),
    "codes": st.integers(0, 999).map(lambda number: f"{number:04d}"),
    "few": st.sampled_from(["a", "b", "", "NA", "null"]),
    "lists": st.lists(st.integers(0, 30), max_size=4).map(lambda cell: ",".join(map(str, cell))),
    "texts": st.lists(st.integers(0, 30), max_size=3).map(str),
    "odd texts": st.sampled_from(["[1, 2", "[[1], [2]]", "{'a': [1]}", "[...]", "(a)", "[1, 2]"]),
    "weighted": st.lists(st.integers(0, 9), min_size=1, max_size=3).map(lambda c: "|".join(f"t{n}:0.{n}" for n in c)),
    "days": st.dates().map(str),
    "epochs": st.integers(1_600_000_000, 1_700_000_000).map(str),
    "sentences": st.lists(st.sampled_from(["new", "old", "red, and", "house"]), min_size=3, max_size=6).map(" ".join),
    "unicode": st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=4),
    "spaces": st.sampled_from([" ", "\t", "a\tb", "  a  ", "b\x1dc"]),
}
WORDS = ["NULL", "unknown", "0000-00-00", "-", "?"]
NAMES = [
    *(
        "yes",
        "no",
        "null",
        "~",
        "2020",
        "1e3",
        "true",
        " lead",
        "trail ",
        "a: b",
        "#c",
        "- x",
        "{y}",
        "[z]",
        "'q'",
        '"p"',
    ),
    *(
        "é",
        "line\u2028sep",
        "next\x85line",
        "tab\tin",
        "event_time",
        "user_id",
        "clicks",
        "*a",
        "&b",
        "!t",
        "|",
        "a,b",
    ),
    *("day", "%", "@x", "`", "mark\ufeff", "date", "\\n", "0", "𝒳", "label", "value"),
]


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_drafts_train_as_they_are(data):
    """Whatever the columns, the draft is a schema, and a processor can be fitted by it."""
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    num_rows = data.draw(st.integers(8, 40))
    columns = {}
    for name in names:
        cells = KINDS_OF_CELLS[data.draw(st.sampled_from(sorted(KINDS_OF_CELLS)))]
        words = data.draw(st.lists(st.sampled_from(WORDS), max_size=2))
        share = data.draw(st.floats(0, 0.5)) if words else 0
        drawn = data.draw(st.lists(cells, min_size=num_rows, max_size=num_rows))
        columns[name] = with_words(drawn, words, share) if words else drawn
    table = pa.table(
        {**columns, "clicked": [n % 2 for n in range(num_rows)], "u": [f"u{n % 5}" for n in range(num_rows)]}
    )
    with tempfile.TemporaryDirectory() as folder:
        path, schema_path = Path(folder, "table.csv"), Path(folder, "schema.yaml")
        table.to_pandas().to_csv(path, index=False)
        schema_path.write_text(draft_schema(path, label="clicked"), encoding="utf-8")
        schema = load_schema(schema_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = read_table_files(path, schema)
            processor = ClickPromptProcessor.fit(read, schema)
            ids = processor.encode(processor.columns(read.to_pydict()))
    assert len(ids) == num_rows
    assert set(schema.columns) <= set(table.column_names)


def test_times_beyond_pythons_years_are_drafted(tmp_path):
    far = pa.array([10**12 + 3600 * (row % 5) for row in range(ROWS)], pa.timestamp("s"))
    _, fields = drafted({"far": far}, tmp_path, "parquet")
    assert fields["far"] == [{}]
