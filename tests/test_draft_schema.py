"""Drafted schemas: what they guess about unknown tables, what they question, and which tables they refuse."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from own_tables import clinic, loans, shop

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.data.table_files import open_table_file, read_table_files
from clickprompt_hf.runs.command import run_command
from clickprompt_hf.runs.draft_schema import draft_schema, main
from clickprompt_hf.schema_clickprompt import CsvFormat


def drafted(frame: pd.DataFrame, folder: Path, ending: str = "csv", max_rows: int = 100_000) -> tuple[str, Path, Path]:
    """The draft for `frame`, and the paths of the table and the draft."""
    table, schema = folder / f"table.{ending}", folder / "schema.yaml"
    if ending == "csv":
        frame.to_csv(table, index=False)
    else:
        frame.to_parquet(table, index=False)
    text = draft_schema(table, max_rows)
    schema.write_text(text, encoding="utf-8")
    return text, table, schema


def about(column: str, draft: str) -> str:
    """The lines of a draft that are about one column."""
    lines = draft.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f'  # "{column}":'))
    end = next(n for n in range(start + 1, len(lines)) if re.match(r'  # "|$', lines[n]))
    return "\n".join(lines[start:end])


def test_loans(tmp_path):
    draft, table, path = drafted(loans(), tmp_path)
    assert load_schema(path) == Schema(
        fields=(
            FieldSchema("issued", "Issued weekday", "weekday", time_format="%m/%d/%Y"),
            FieldSchema("issued", "Issued month", "month", time_format="%m/%d/%Y"),
            FieldSchema("amount", "Amount", "numeric", buckets="log"),
            FieldSchema("grade", "Grade"),
            FieldSchema("zip_code", "Zip code", in_text=False),
            FieldSchema("purpose", "Purpose", "text"),
        ),
        label="loan_status",
        positive="Charged Off",
        time="issued",
        time_format="%m/%d/%Y",
    )
    assert "LEFT OUT: row ids" in about("loan_id", draft)
    assert "# - {column: loan_id, name: Loan ID}" in about("loan_id", draft)
    assert "same value in every row" in about("country", draft)
    assert "predicts the label almost perfectly" in about("recovered", draft)
    assert "looks like ids, 40 values" in about("zip_code", draft)
    assert "IDS ONLY: ids and codes mean nothing to a language model" in about("zip_code", draft)
    assert "guessed from all 400 rows of table.csv" in draft
    assert "--dataset csv --data_path" in draft
    assert "--split time --ctr_only" in draft
    # the rows load with this schema
    splits, schema = load_splits("csv", table, path, split="time")
    processor = ClickPromptProcessor.fit(splits["train"], schema)
    assert splits["test"]["issued"][-1].as_py() == loans()["issued"].iloc[-1]
    assert sum(sum(split["loan_status"].to_pylist()) for split in splits.values()) == (loans()["recovered"] > 0).sum()
    assert processor.encode(splits["test"].slice(0, 3).to_pydict()).shape == (3, 5)


def test_clinic(tmp_path):
    draft, _, path = drafted(clinic(), tmp_path)
    assert load_schema(path) == Schema(
        fields=(
            FieldSchema("PatientId", "Patient ID", in_text=False),
            FieldSchema("Gender", "Gender"),
            FieldSchema("ScheduledDay", "Scheduled day hour", "hour"),
            FieldSchema("ScheduledDay", "Scheduled day weekday", "weekday"),
            FieldSchema("Age", "Age", "numeric", missing=("NA",)),
            FieldSchema("Conditions", "Conditions", "multi_valued", max_values=3, separator=", "),
            FieldSchema("SMS_received", "SMS received"),
        ),
        label="No-show",
        positive="Yes",
        time="ScheduledDay",
    )
    missed = (clinic()["No-show"] == "Yes").mean()
    assert f'is "No-show" the label? It has 2 values ("No" {1 - missed:.0%}'.replace("%", " %") in draft
    assert f"{100 * missed:.0f} % positive" in draft
    assert 'Other columns with two values: "SMS_received", "Gender".' in draft
    # 'NA' among numbers is missing
    assert "2 % missing" in about("Age", draft)
    assert "CHECK" not in about("Age", draft)
    assert "4 elements, up to 4 per row" in about("Conditions", draft)
    assert "have more than max_values elements" in about("Conditions", draft)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_shop(ending, tmp_path):
    frame = shop()
    if ending == "csv":
        frame["tags"] = ["|".join(tags) for tags in frame["tags"]]
    draft, _, path = drafted(frame, tmp_path, ending)
    schema = load_schema(path)
    assert schema == Schema(
        fields=(
            FieldSchema("user_id", "User ID", in_text=False),
            FieldSchema("product_id", "Product ID", in_text=False),
            FieldSchema("brand", "Brand"),
            FieldSchema("price", "Price", "numeric", buckets="log"),
            FieldSchema("tags", "Tags", "multi_valued", max_values=3),
            FieldSchema("ts", "Ts hour", "hour"),
            FieldSchema("ts", "Ts weekday", "weekday"),
            FieldSchema("title", "Title", "text"),
        ),
        label="clicked",
        time="ts",
    )
    assert f"{100 * frame['brand'].isna().mean():.0f} % missing" in about("brand", draft)
    assert "looks like ids" in about("product_id", draft)
    assert "LEFT OUT" not in draft.split("fields:")[1]


def test_the_draft_says_that_it_read_only_the_first_rows(tmp_path):
    frame = shop()
    frame.loc[300:, "price"] = np.nan
    for ending in ("csv", "parquet"):
        draft, _, _ = drafted(frame, tmp_path, ending, max_rows=300)
        assert "guessed from only the first 300 rows of table" in draft
        assert "none missing" in about("price", draft)
    assert "25 % missing" in about("price", drafted(frame, tmp_path, max_rows=400)[0])


CLICKS = np.random.default_rng(7).integers(0, 2, 200)
DRAW = np.random.default_rng(5)


def column(values, tmp_path, name="x"):
    """The draft's lines on a column of 200 rows beside a label, and its fields."""
    frame = pd.DataFrame({name: values, "click": CLICKS})
    draft, _, path = drafted(frame, tmp_path, "parquet" if isinstance(values, pd.Series) else "csv")
    fields = yaml.safe_load(path.read_text())["fields"]
    return about(name, draft), [field for field in fields or [] if field["column"] == name]


@pytest.mark.parametrize(
    ("name", "values", "field", "said"),
    [
        ("age", DRAW.integers(18, 90, 200), {"kind": "numeric"}, "from 18 to 89"),
        (
            "age",
            ["n/a", "old", *map(str, range(198))],
            {"kind": "numeric", "missing": ["n/a"]},
            "cells such as 'old' are not numbers",
        ),
        ("rating", DRAW.integers(1, 6, 200), {}, "categorical, 5 values"),
        ("userId", DRAW.integers(0, 50, 200), {}, "looks like ids"),
        ("units", DRAW.integers(1000, 9999, 200), {"kind": "numeric"}, "if they are ids or codes, remove `kind`"),
        ("branch", [f"{n % 40:04d}" for n in range(200)], {}, "treated as codes because of leading zeros"),
        ("city", ["Paris, France", "Rome, Italy"] * 99 + ["Bonn, Germany"] * 2, {}, "categorical, 3 values"),
        ("tags", ["a;b", "b;c", "a", "c;a;b"] * 50, {"kind": "multi_valued", "separator": ";", "max_values": 3}, ""),
        ("tags", ["a,b", "b,c", "a,c", "c,a,b"] * 50, {"kind": "multi_valued", "separator": ",", "max_values": 3}, ""),
        ("state", ["NA", "up", "down", "up"] * 50, {}, "'NA' (25 %) is treated as an ordinary value"),
        ("flag", [None, "x"] * 100, {}, "1 value, 50 % missing"),
        ("name", [f"n{n}" for n in range(198)] + ["n1", "n2"], {}, "most values occur only once"),
        ("memo", [f"note {n} " + "word " * 250 for n in range(200)], {"kind": "text"}, "max_text_length"),
    ],
)
def test_kinds_of_columns(name, values, field, said, tmp_path):
    lines, (found,) = column(values, tmp_path, name)
    assert {key: value for key, value in found.items() if key not in ("column", "name")} == field
    assert said in lines


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([None] * 200, "empty column"),
        (["a"] * 200, "same value in every row"),
        (range(7, 207), "row ids"),
        ([f"{n:x}" for n in range(200)], "row ids"),
        (
            [f"${n},{n:03d}.50" for n in range(100, 300)],
            "numbers with '\\$', such as .*, are read as words: write plain numbers",
        ),
        (5 * CLICKS, "predicts the label almost perfectly"),
        (CLICKS * np.arange(0.1, 20.1, 0.1), "predicts the label almost perfectly"),
        (100 - CLICKS * np.arange(0.1, 20.1, 0.1), "predicts the label almost perfectly"),
        (CLICKS + np.arange(200) / 1000, "predicts the label almost perfectly"),
        (pd.Series([{"a": n} for n in range(200)]), "cannot be a field"),
        (pd.Series([bytes([n]) for n in range(200)]), "bytes cannot be a field"),
    ],
)
def test_columns_that_are_left_out(values, reason, tmp_path):
    lines, fields = column(values, tmp_path)
    assert re.search(f"LEFT OUT: .*{reason}", lines)
    assert fields == []


def test_a_leak_is_found_if_most_rows_have_one_value(tmp_path):
    # like the sum collected after a default: fewer rows have a sum than one bin holds
    late = np.random.default_rng(8).permutation(1000) < 15
    collected = np.where(late, 0.5 + np.arange(1000) / 100, 0)
    frame = pd.DataFrame({"x": collected, "user": np.arange(1000) % 7, "defaulted": late.astype(int)})
    assert "predicts the label almost perfectly" in about("x", drafted(frame, tmp_path)[0])


def test_columns_that_predict_much_of_the_label_are_questioned(tmp_path):
    lines, fields = column(np.where(np.arange(200) % 14, CLICKS, 1 - CLICKS), tmp_path)
    assert fields == [{"column": "x", "name": "X"}]
    assert "AUC alone 0.9" in lines
    assert "CHECK: predicts the label well; is it known before the click?" in lines


@pytest.mark.parametrize(
    ("cells", "options", "parts"),
    [
        (pd.date_range("2024-01-01", periods=200, freq="h").astype(str), {}, ["hour", "weekday"]),
        (pd.date_range("2022-01-01", periods=200, freq="3D").strftime("%Y%m%d"), {"time_format": "%Y%m%d"}, None),
        (pd.date_range("2022-01-01", periods=200, freq="3D").strftime("%d.%m.%Y"), {"time_format": "%d.%m.%Y"}, None),
        (
            pd.date_range("2024-01-13", periods=200, freq="17min").strftime("%m/%d/%Y %I:%M %p"),
            {"time_format": "%m/%d/%Y %I:%M %p"},
            ["hour"],
        ),
        (pd.Series(pd.date_range("2022-01-01", periods=200, freq="3D").date), {}, None),
        (pd.Series(pd.date_range("2022-01-01", periods=200, freq="3D", tz="UTC")), {}, None),
        ([str(1_700_000_000_000 + 10**7 * n) for n in range(200)], {}, ["hour", "weekday"]),
    ],
)
def test_times_as_people_write_them(cells, options, parts, tmp_path):
    _, fields = column(cells if isinstance(cells, pd.Series) else list(cells), tmp_path, "date")
    expected = parts or ["weekday", "month"]
    assert fields == [{"column": "date", "name": f"Date {part}", "kind": part, **options} for part in expected]
    schema = load_schema(tmp_path / "schema.yaml")
    assert schema.time == "date"
    assert schema.time_format == options.get("time_format")
    ending = "parquet" if isinstance(cells, pd.Series) else "csv"
    load_splits(ending, tmp_path / f"table.{ending}", schema, split="time")


def test_dates_that_read_two_ways_are_questioned(tmp_path):
    for days_first in (True, False):
        # the first ten days of three months; with day and month swapped, dates from ten months
        pairs = [(1 + n % 10, 1 + n // 10 % 3) for n in range(200)]
        days = [f"{d:02d}/{m:02d}/2024" if days_first else f"{m:02d}/{d:02d}/2024" for d, m in pairs]
        lines, fields = column(days, tmp_path)
        seen, other = ("%d/%m/%Y", "%m/%d/%Y") if days_first else ("%m/%d/%Y", "%d/%m/%Y")
        assert fields[0]["time_format"] == seen
        assert f"day or month first? The dates also parse as {other!r}" in lines


def test_missing_times_rule_out_a_split_by_time(tmp_path):
    times = [None, *pd.date_range("2024-01-01", periods=199, freq="h").astype(str)]
    frame = pd.DataFrame({"at": times, "user": [1, 2] * 100, "click": [0, 1, 1, 0] * 50})
    draft, _, path = drafted(frame, tmp_path)
    assert "0.5 % of its cells are missing, so --split time would raise an error" in draft
    assert load_schema(path).time is None
    assert "--split time --ctr_only" not in draft


@pytest.mark.parametrize(
    ("labels", "positive", "said"),
    [
        ([True, False], None, "50 % positive"),
        (["yes", "no"], "yes", "50 % positive"),
        (["no", "no", "maybe", "no"], "maybe", "25 % positive"),
        ([0, 1, 1, None], None, "25 % of the rows have no label"),
        ([0, 1, 1, "NA"], None, "25 % of the rows have no label"),
        # numbers: the larger one
        ([1, -1], "1", "It is the larger number."),
        ([1, 2, 1, 1], "2", "25 % positive"),
        ([1.0, 2.0, 2.0, 2.0], "2", "75 % positive"),
        (["4", "2", "2.0", "02"], "4", "CHECK: each of these is read as one value: '2', '02'."),
        ([0, 2], "2", "50 % positive"),
        (["0.5", "-3"], "0.5", "It is the larger number."),
        # truth values and words in several spellings
        (["TRUE", "false", "0", "1"], None, "50 % positive"),
        (["Yes", "no", "YES", "No", "yes"], "Yes", "60 % positive"),
        (["Yes", "No", "No", "NA"], "Yes", "CHECK: no click: 'NA' (25 %); remove these rows if"),
        (["B", "M", "B", "B"], "M", "25 % positive"),
        (["malignant", "benign", "malignant", "malignant"], "malignant", "75 % positive"),
    ],
)
def test_labels(labels, positive, said, tmp_path):
    frame = pd.DataFrame({"user": DRAW.integers(0, 9, 200), "churned": labels * (200 // len(labels))})
    draft, _, path = drafted(frame, tmp_path)
    assert said in draft
    schema = load_schema(path)
    assert (schema.label, schema.positive) == ("churned", positive)


def test_without_a_likely_label_the_label_is_a_question(tmp_path):
    rows = {"colour": ["red", "blue", "green", "red"] * 50, "stars": [1, 2, 3, 4, 5] * 40, "sex": ["f", "m"] * 100}
    draft, _, path = drafted(pd.DataFrame(rows), tmp_path)
    assert "CHECK: which column is the label?" in draft
    assert 'Columns with two values: "sex".' in draft
    assert 'from "stars"' in draft
    assert "clickprompt finetune" not in draft
    with pytest.raises(ValueError, match=r"does not hold a valid schema: `label` of a schema must be the name"):
        load_schema(path)
    path.write_text(draft.replace("\nlabel:", "\nlabel: answered"))
    assert load_schema(path).label == "answered"


def test_a_given_label(tmp_path):
    frame = pd.DataFrame({"x": [1, 2, 3, 4] * 50, "went": ["hin", "weg", "weg", "weg"] * 50, "sex": ["f", "m"] * 100})
    assert "CHECK: which column is the label?" in drafted(frame, tmp_path)[0]
    for positive in (None, "hin"):
        draft = draft_schema(tmp_path / "table.csv", label="went", positive=positive)
        assert "\nlabel: went\n" in draft
        assert "\npositive: hin\n" in draft
        assert "predicts the label almost perfectly" in about("x", draft)
    assert "\npositive: weg\n" in draft_schema(tmp_path / "table.csv", label="went", positive="WEG")
    of_numbers = draft_schema(tmp_path / "table.csv", label="x", positive="4.0")
    assert "\npositive: '4'\n" in of_numbers
    assert "25 % positive" in of_numbers
    assert "larger" not in of_numbers
    for options, message in (
        ({"label": "gone"}, r"`label` must be one of the columns \['x', 'went', 'sex'\], got 'gone'"),
        (
            {"label": "went", "positive": "her"},
            "value of 'went' that means a click, got 'her'; the values are 'weg', 'hin'",
        ),
        ({"label": "x"}, "`positive` must be the value of 'x' .* got None; the values are '1', '2', '3', '4'"),
        ({"positive": "hin"}, "`positive` needs `label`"),
        ({"label": "x", "positive": ""}, "`positive` of a schema must be a value of the label as a string, got ''"),
    ):
        with pytest.raises(ValueError, match=message):
            draft_schema(tmp_path / "table.csv", **options)
    frame.assign(went=["Yes", "yes", "yes", "yes"] * 50).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(
        ValueError, match="read as different labels, but 'yes' and 'Yes' in 'went' are read as the same"
    ):
        draft_schema(tmp_path / "table.csv", label="went")


def test_sentences_with_commas_are_text(tmp_path):
    places = ["near the beach", "in the old town", "by the station", "on a quiet hill"]
    texts = [f"{3 + n % 60} rooms {places[n % 4]}, breakfast {'in' if n % 3 else 'ex'}cluded" for n in range(200)]
    lines, fields = column(texts, tmp_path)
    assert [field["kind"] for field in fields] == ["text"], lines


def test_names_that_yaml_would_misread(tmp_path):
    names = [
        "yes",
        "2020",
        "a: b",
        "#c",
        "é {x}",
        "line\nbreak",
        "a\u2028b",
        "a\x85b",
        "a\u2029b",
        "\"'",
        "\x7f\x9f",
        "\ufeff-",
    ]
    frame = pd.DataFrame({name: [f"v{name}{n % 7}" for n in range(k, 200 + k)] for k, name in enumerate(names)})
    _, table, path = drafted(frame.assign(label=[0, 1] * 100), tmp_path)
    assert load_schema(path).columns == names
    load_splits("csv", table, path)


def test_a_table_of_free_text_alone_is_questioned(tmp_path):
    texts = [f"these are the words of {n}" for n in range(200)]
    draft, _, path = drafted(pd.DataFrame({"memo": texts, "click": [0, 1] * 100}), tmp_path)
    assert "training needs at least one field with ids" in draft
    with pytest.raises(ValueError, match="all are of kind 'text'"):
        load_schema(path)
    draft, _, path = drafted(pd.DataFrame({"memo": [1] * 200, "click": [0, 1] * 100}), tmp_path)
    with pytest.raises(ValueError, match="at least one field"):
        load_schema(path)


def test_separators_are_looked_for_in_single_columns_only(tmp_path):
    """Neither in the bytes of a gzipped file nor in a header that has several columns."""
    path = tmp_path / "rows.csv"
    path.write_text('"user; the\n id",b\n1,2\n')
    assert open_table_file(path).schema.names == ["user; the\n id", "b"]
    for number in range(20):
        path = tmp_path / "rows.csv.gz"
        path.write_bytes(gzip.compress(f"user,click\n{number * 7919},1\n".encode()))
        assert open_table_file(path).schema.names == ["user", "click"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "must be a CSV file"),
        ("x.csv", b"user,click\n", r"must have rows, but it has none below its header \['user', 'click'\]"),
        ("x.csv", b"user,click\n1,0\n" + "é,1\n".encode("cp1252"), r"Byte 15 \(0xE9, in line 3\).* -f WINDOWS-1252"),
        ("x.csv", "é,click\n1,0\n".encode("cp1252"), r"Byte 0 \(0xE9, in line 1\)"),
        ("x.csv", "user,click\n1,0\n".encode("utf-16-le"), r"`encoding: \"utf-16-le\"`"),
        ("x.csv", b"a,a,b\n1,2,3\n", r"repeats \['a'\]"),
        ("x.csv", b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        ("x.csv", b"a\n1\n", r"it has only \['a'\]"),
        ("x.csv", b"a;b\n1;2\n", r"separated by ';': read it with `delimiter: \";\"`"),
        ("x.csv", b"a\tb\n1\t2,3\n", r"separated by '.t': read it with `delimiter: \"\\t\"`"),
        ("x.parquet", b"a,b\n1,2\n", "must be a Parquet file"),
        ("x.xlsx", b"", r"must end in \.csv, \.tsv or \.jsonl, .*, or \.parquet"),
    ],
)
def test_tables_that_cannot_be_drafted(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        draft_schema(path)
    assert str(path) in str(error.value)
    with pytest.raises(SystemExit) as stop:
        run_command("draft-schema", main, [str(path)])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"clickprompt draft-schema: error: {error.value}\n")


def test_broken_utf8_is_found_behind_the_first_mebibyte(tmp_path):
    # a two-byte character across the end of the reader's first piece, and then an invalid byte
    content = b"a,b\n" + b"x" * ((1 << 20) - 5) + "é,1\n".encode() + b"y,\xff\n"
    assert content[(1 << 20) - 1 : (1 << 20) + 1] == "é".encode()
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    place = content.index(b"\xff")
    with pytest.raises(ValueError, match=rf"Byte {place} \(0xFF, in line 3\)"):
        draft_schema(path)


def test_missing_files_and_numbers_of_rows(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv, but there is none"):
        draft_schema(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match="`max_rows` must be at least 1, got 0"):
        draft_schema(tmp_path / "nowhere.csv", max_rows=0)
    pq.write_table(pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="must have rows"):
        draft_schema(tmp_path / "x.parquet")


def test_the_command_prints_the_draft(tmp_path, capsys):
    text, table, _ = drafted(clinic(), tmp_path)
    main([str(table)])
    assert capsys.readouterr().out == text


def test_the_draft_repeats_how_the_file_is_written(tmp_path, capsys):
    path = tmp_path / "rows.CSV"
    path.write_bytes("".join(f"u{n % 9};'a;\xe9{n % 5}';{n % 2}\n" for n in range(200)).encode("cp1252"))
    names = ["--column_names", "user", "title", "click"]
    main([str(path), "--delimiter", ";", "--quote", "'", "--escape", "none", "--encoding", "cp1252", *names])
    (tmp_path / "schema.yaml").write_text(out := capsys.readouterr().out, encoding="utf-8")
    assert "--dataset csv --data_path" in out
    schema = load_schema(tmp_path / "schema.yaml")
    written = CsvFormat(delimiter=";", quote="'", encoding="cp1252", column_names=("user", "title", "click"))
    assert schema.csv == written
    assert load_splits("csv", path, schema)[0]["train"]["title"][0].as_py().startswith("a;é")
    with pytest.raises(ValueError, match="`delimiter` of `csv` must be one ASCII character"):
        main([str(path), "--delimiter", "::"])


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("click", ["Yes", "No", "maybe"], "Keep two of its values, make a column of 0 and 1, or"),
        (
            "click",
            ["x", None],
            "If its empty cells mean no click, write a word into them, 50 % of the rows, and draft",
        ),
        ("click", ["Yes", "No"], None),
        ("click", ["Yes", "No", "YES", "NO"], None),
        ("shade", ["Yes", "No", "YES", "NO"], None),
    ],
)
def test_columns_that_are_the_label_by_name_are_not_passed_over(name, values, said, tmp_path):
    rows = {
        "user": [f"u{n % 30}" for n in range(240)],
        "member": [bool(n % 5) for n in range(240)],
        name: [values[n % len(values)] for n in range(240)],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    text = draft_schema(tmp_path / "rows.csv")
    found = [line for line in text.splitlines() if line.startswith("# CHECK: by its name")]
    assert len(found) == (said is not None)
    if said is not None:
        assert yaml.safe_load(text)["label"] == "member"
        assert found[0].startswith(
            f'# CHECK: by its name, "click" is the label, but it has {len({*values} - {None})} value'
        )
        assert said in found[0]
    elif name == "click":
        assert yaml.safe_load(text)["label"] == "click"


@pytest.mark.parametrize(
    ("log", "options", "users", "csv"),
    [
        ("user;day;click\n", ["--delimiter", ";"], "id;age\n", None),
        ("user;day;click\n", ["--delimiter", ";"], "id,age\n", {}),
        ("user,day,click\n", [], "id;age\n", {"delimiter": ";"}),
        ("", ["--column_names", "user", "day", "click"], "id,age\n", None),
        ("", ["--column_names", "user", "day", "click"], "id|age\n", {"delimiter": "|"}),
    ],
)
def test_the_dialect_of_a_joined_table_is_its_own(log, options, users, csv, tmp_path, capsys):
    mark, own = (";" if ";" in text else "|" if "|" in text else "," for text in (log, users))
    rows = [f"{n % 50}{mark}{n % 3}{mark}{n * n // 7 % 2}\n" for n in range(300)]
    (tmp_path / "log.csv").write_text(log + "".join(rows))
    (tmp_path / "users.csv").write_text(users + "".join(f"{n}{own}{n % 30 + 20}\n" for n in range(50)))
    main([str(tmp_path / "log.csv"), "--label", "click", "--join", str(tmp_path / "users.csv"), "user=id", *options])
    text = capsys.readouterr().out
    (tmp_path / "schema.yaml").write_text(text)
    (table,) = load_schema(tmp_path / "schema.yaml").tables
    assert (table.key, table.key_in_table) == ("user", "id")
    assert table.csv == (None if csv is None else CsvFormat(**csv))
    assert "age" in load_schema(tmp_path / "schema.yaml").columns
    assert read_table_files(tmp_path / "log.csv", load_schema(tmp_path / "schema.yaml"))["age"][31].as_py() == "21"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_of_users_and_items_are_joined_and_written_into_the_draft(ending, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(4)
    log = {
        "user_id": draw.integers(0, 60, 400),
        "item_id": draw.integers(0, 40, 400),
        "click": draw.integers(0, 2, 400),
    }
    pd.DataFrame(log).to_csv("log.csv", index=False)
    users = pd.DataFrame(
        {"user_id": range(60), "age": draw.integers(18, 90, 60), "joined": pd.Timestamp("2024-01-01")}
    )
    users["joined"] += pd.to_timedelta(np.arange(60) * 9, "D")
    items = pd.DataFrame({"item_id": range(40), "price": np.arange(40) / 4, "color": ["red", "blue"] * 20})
    for name, frame in (("users", users), ("items", items)):
        frame.to_csv(f"{name}.csv", index=False) if ending == "csv" else frame.to_parquet(f"{name}.parquet")

    main(["log.csv"])
    assert 'say more about "user_id", "item_id", one row per id, draft again with --join FILE user_id' in (
        capsys.readouterr().out
    )
    joins = ["--join", f"users.{ending}", "user_id", "user_", "--join", f"items.{ending}", "item_id"]
    main(["log.csv", *joins])
    text = capsys.readouterr().out
    assert "draft again with --join" not in text
    # joined files are found wherever the schema is saved
    Path("schemas").mkdir()
    Path("schemas/schema.yaml").write_text(text, encoding="utf-8")
    splits, schema = load_splits("csv", "log.csv", "schemas/schema.yaml")
    assert schema.keys == [
        *("user_id", "item_id", "user_age", "user_joined.weekday", "user_joined.month", "price", "color"),
    ]
    assert [(table.key, table.prefix) for table in schema.tables] == [("user_id", "user_"), ("item_id", "")]
    row = splits["train"].slice(0, 1).to_pylist()[0]
    assert float(row["user_age"]) == users["age"][int(row["user_id"])]
    assert float(row["price"]) == int(row["item_id"]) / 4

    with pytest.raises(ValueError, match="--join must have a file, a key and perhaps a prefix, got 'users.csv'"):
        main(["log.csv", "--join", "users.csv"])
    with pytest.raises(ValueError, match=r"must have the column 'user' once, the `key`"):
        main(["log.csv", "--join", f"users.{ending}", "user"])
    with pytest.raises(FileNotFoundError, match="There must be a file at people.csv"):
        main(["log.csv", "--join", "people.csv", "user_id"])
    pd.DataFrame({"user_id": range(900, 960), "age": range(60)}).to_csv("others.csv", index=False)
    with pytest.warns(UserWarning, match="100% of 400 rows have a key in column 'user_id' that is not in others.csv"):
        main(["log.csv", "--join", "others.csv", "user_id"])
