"""Numbers of CSV files with decimal commas and separators of thousands: `decimal` and `thousands` of `CsvFormat`."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, CTRConfig, Schema
from clickprompt_hf.data.csv_files import plain_numbers
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.schema_file import load_schema, schema_of
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.runs.draft_schema import draft_schema
from clickprompt_hf.runs.draft_schema import main as draft_main
from clickprompt_hf.schema_clickprompt import CsvFormat
from clickprompt_hf.scoring.file_scoring import score_file
from clickprompt_hf.values_clickprompt import number_of

ROWS = 400
DRAW = np.random.default_rng(5)
PRICES = np.round(np.exp(DRAW.normal(6.5, 1.5, ROWS)), 2)
RATES = np.round(DRAW.uniform(-20, 100, ROWS), 1)
FIELDS = [{"column": "price", "kind": "numeric"}, {"column": "rate", "kind": "numeric"}, "code"]
GERMAN = {"delimiter": ";", "decimal": ",", "thousands": "."}


def german(number: float, digits: int) -> str:
    return f"{number:,.{digits}f}".translate(str.maketrans(",.", ".,"))


@pytest.fixture
def files(tmp_path):
    """A German export and the same table written plainly, and the schema of each."""
    plain = pd.DataFrame({"price": PRICES, "rate": RATES, "code": [f"{n % 7}.{n % 3}" for n in range(ROWS)]})
    plain["click"] = (DRAW.random(ROWS) < 0.4).astype(int)
    plain.to_csv(tmp_path / "plain.csv", index=False)
    written = plain.assign(price=[german(n, 2) for n in PRICES], rate=[german(n, 1) for n in RATES])
    written.to_csv(tmp_path / "german.csv", sep=";", index=False)
    schemas = {
        "plain": Schema.from_dict({"fields": FIELDS, "label": "click"}),
        "german": Schema.from_dict({"fields": FIELDS, "label": "click", "csv": GERMAN}),
    }
    return {name: (tmp_path / f"{name}.csv", schema) for name, schema in schemas.items()}


@pytest.mark.parametrize(
    ("options", "cells", "plain"),
    [
        (
            {"decimal": ",", "thousands": "."},
            ["2.067,11", " 1.415.011 ", "-7,5", "12", ",5", "1,5e3", "1.234", "2067,11"],
            ["2067.11", " 1415011 ", "-7.5", "12", ".5", "1.5e3", "1234", "2067.11"],
        ),
        (
            {"thousands": ","},
            ["2,067.11", "12,345,678", "0.5", "12,34", "1,2345"],
            ["2067.11", "12345678", "0.5", "12,34", "1,2345"],
        ),
        ({"decimal": ",", "thousands": " "}, ["2 067,5", "2\u00a0067", "2\u202f067,1"], ["2067.5", "2067", "2067.1"]),
        ({"thousands": "'"}, ["2'067.5"], ["2067.5"]),
        ({"decimal": ","}, ["14,7", "2.067,1", "cheap", "", "NA"], ["14.7", "2.067,1", "cheap", "", "NA"]),
        # which would be read as other numbers than they are
        (
            {"decimal": ",", "thousands": "."},
            ["2.06", "1.5e3"],
            ["2.06 (not with decimal ',')", "1.5e3 (not with decimal ',')"],
        ),
        ({"decimal": ","}, ["1.234"], ["1.234 (not with decimal ',')"]),
        ({}, ["2.067,11", "1.5"], ["2.067,11", "1.5"]),
    ],
)
def test_numbers_become_plain(options, cells, plain):
    assert plain_numbers(pa.array(cells), CsvFormat(**options)).to_pylist() == plain
    assert plain_numbers(pa.chunked_array([cells, []], pa.string()), CsvFormat(**options)).to_pylist() == plain


def test_blanks_of_every_kind_around_a_number_change_nothing():
    blanks = [character for character in map(chr, range(0x3001)) if character.isspace()]
    assert {" ", "\t", "\x1f", "\u00a0", "\u202f", "\u3000"} < {*blanks}
    for options, cell, number in (
        ({"decimal": ",", "thousands": "."}, "1.234", 1234),
        ({"decimal": ",", "thousands": "."}, "-1.234,5", -1234.5),
        ({"decimal": ",", "thousands": " "}, "1\u00a0234,5", 1234.5),
        ({"decimal": ","}, "12,5", 12.5),
        # not written so: missing, not 12.5
        ({"decimal": ","}, "12.5", np.nan),
    ):
        cells = pa.array([written for blank in blanks for written in (blank + cell, cell + blank)])
        found = list(map(number_of, plain_numbers(cells, CsvFormat(**options)).to_pylist()))
        np.testing.assert_array_equal(found, [number] * len(found), f"{cell} with {options}")


def test_a_german_export_gives_the_ids_boundaries_and_scores_of_the_plain_table(files, tmp_path):
    fitted, scores = {}, {}
    for name, (path, schema) in files.items():
        table = read_table_files(path, schema)
        processor = ClickPromptProcessor.fit(table, schema)
        streamed = pa.concat_tables([chunk.rows for chunk in TableStream({"train": [path]}, schema).chunks()])
        assert streamed.select(table.column_names).to_pydict() == table.to_pydict()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ids = np.asarray(processor.encode(processor.columns(table.to_pydict())))
        fitted[name] = processor, ids
        processor.save_pretrained(tmp_path / name)
        saved = ClickPromptProcessor.from_pretrained(tmp_path / name)
        assert saved.schema.csv == schema.csv
        model = _model(saved)
        score_file(path, tmp_path / f"{name}-scores.csv", saved, model, batch_size=64, piece_rows=150)
        scores[name] = pd.read_csv(tmp_path / f"{name}-scores.csv", dtype=str)
    assert fitted["german"][0].boundaries == fitted["plain"][0].boundaries
    assert fitted["german"][0].fingerprint == fitted["plain"][0].fingerprint
    np.testing.assert_array_equal(fitted["german"][1], fitted["plain"][1])
    assert scores["german"]["click_probability"].tolist() == scores["plain"]["click_probability"].tolist()
    assert scores["german"]["price"].tolist() == [german(n, 2) for n in PRICES]
    # codes stay as they are
    assert "1.2" in fitted["german"][0].vocabularies[2]


@pytest.mark.parametrize("given_as", ["file", "mapping"])
def test_numbers_that_count_as_missing_are_written_as_in_the_file(given_as, tmp_path):
    """-999,00 was read as the number -999, as only the word in the schema kept its comma."""
    fields = [{"column": "price", "kind": "numeric", "missing": ["-999,00", "1.234,5", "none"]}, "code"]
    given = {"fields": fields, "label": "click", "csv": GERMAN}
    (tmp_path / "schema.json").write_text(json.dumps(given))
    schema = schema_of(tmp_path / "schema.json" if given_as == "file" else given)
    (tmp_path / "rows.csv").write_text("price;code;click\n1,5;a;0\n-999,00;a;1\n1.234,5;a;0\nnone;a;1\n2,06;a;1\n")
    rows = read_table_files(tmp_path / "rows.csv", schema)
    processor = ClickPromptProcessor.fit(rows, schema)
    # two numbers, and a missing value
    assert processor.boundaries[0] == [pytest.approx(1.78)]
    price = [ids[0] for ids in processor(rows)["feature_ids"]]
    assert price[1] == price[2] == price[3] == processor.vocabularies[0].index("") + 1
    assert len({*price}) == 3
    # other fields keep their cells
    assert schema.fields[1].missing == ()


def test_other_files_have_no_such_format(tmp_path):
    schema = Schema.from_dict({"fields": FIELDS[:1], "label": "click", "csv": GERMAN})
    rows = pd.DataFrame({"price": ["2.067,11", "1.234"], "click": [0, 1]})
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    rows.to_parquet(tmp_path / "rows.parquet")
    for ending in ("jsonl", "parquet"):
        read = read_table_files(tmp_path / f"rows.{ending}", schema)
        assert read.column("price").to_pylist() == ["2.067,11", "1.234"]


def test_numbers_of_joined_tables_are_read_alike(tmp_path):
    (tmp_path / "items.csv").write_text("item;price\na;2.067,11\nb;7,5\n")
    (tmp_path / "rows.csv").write_text("item;click\na;0\nb;1\n")
    schema = Schema.from_dict(
        {
            "fields": ["item", {"column": "item_price", "kind": "numeric"}],
            "label": "click",
            "csv": GERMAN,
            "tables": [{"file": str(tmp_path / "items.csv"), "key": "item", "prefix": "item_"}],
        }
    )
    read = read_table_files(tmp_path / "rows.csv", schema)
    assert read.column("item_price").to_pylist() == ["2067.11", "7.5"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decimal": "5"}, "`decimal` of `csv` must be one character"),
        ({"decimal": ",,"}, "`decimal` of `csv` must be one character"),
        ({"decimal": None}, "`decimal` of `csv` must be one character"),
        ({"decimal": " "}, "`decimal` of `csv` must be one character"),
        ({"thousands": "-"}, "`thousands` of `csv` must be one character"),
        ({"thousands": "+"}, "`thousands` of `csv` must be one character"),
        ({"thousands": "e"}, "`thousands` of `csv` must be one character"),
        ({"thousands": "\t"}, "`thousands` of `csv` must be one character"),
        ({"thousands": 1}, "`thousands` of `csv` must be one character"),
        ({"thousands": "."}, "`thousands` of `csv` must differ from `decimal`, got '.' for both"),
        ({"decimal": ",", "thousands": ","}, "`thousands` of `csv` must differ from `decimal`"),
        ({"decimal": ",", "delimiter": ","}, "`decimal` of `csv` must differ from `delimiter`, got ',' for both"),
        ({"thousands": ";", "delimiter": ";"}, "`thousands` of `csv` must differ from `delimiter`"),
        ({"thousands": "'", "quote": "'"}, "`thousands` of `csv` must differ from `quote`"),
    ],
)
def test_marks_are_checked(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CsvFormat(**options)


def test_drafts_propose_how_most_columns_write_numbers(files, tmp_path, capsys):
    path, schema = files["german"]
    text = draft_schema(path, csv_format=CsvFormat(delimiter=";"))
    drafted = yaml.safe_load(text)
    assert drafted["csv"] == GERMAN
    assert "LEFT OUT:" not in text
    assert "CHECK: do numbers use this `decimal` and `thousands`? They apply to all numeric fields." in text
    kinds = {field["column"]: field.get("kind") for field in drafted["fields"]}
    assert kinds == {"price": "numeric", "rate": "numeric", "code": None}
    (tmp_path / "schema.yaml").write_text(text)
    assert load_schema(tmp_path / "schema.yaml").csv == schema.csv
    splits, _ = load_splits("csv", path, tmp_path / "schema.yaml")
    assert float(splits["train"]["price"][0].as_py()) in PRICES
    # what is given is repeated, and not questioned
    draft_main([str(path), "--delimiter", ";", "--decimal", ",", "--thousands", "."])
    given = capsys.readouterr().out
    assert yaml.safe_load(given) == drafted
    assert "are numbers written so" not in given


def test_drafts_have_no_such_doubt_about_whole_numbers_beside_a_word(tmp_path):
    # ids that a file with decimal commas spells as any other file; the search for another spelling failed
    ids = ["unknown" if n % 61 == 60 else n % 61 for n in range(305)]
    rows = [f"{id_};{german(PRICES[n % len(PRICES)], 2)};{n % 2}" for n, id_ in enumerate(ids)]
    (tmp_path / "rows.csv").write_text("\n".join(["plan_id;price;click", *rows, ""]))
    text = draft_schema(tmp_path / "rows.csv", csv_format=CsvFormat(**GERMAN))
    assert {field["column"]: field.get("kind") for field in yaml.safe_load(text)["fields"]}["plan_id"] is None
    assert "treated as words" not in text


def test_drafts_question_categories_with_decimal_commas(tmp_path):
    # few distinct numbers are categories, whose spelling a data frame or JSON would not have
    rows = [f"{'12,5' if n % 3 else '0,0'};{german(PRICES[n % len(PRICES)], 2)};{n % 2}" for n in range(ROWS)]
    (tmp_path / "rows.csv").write_text("\n".join(["discount;price;click", *rows, ""]))
    text = draft_schema(tmp_path / "rows.csv", csv_format=CsvFormat(**GERMAN))
    fields = {field["column"]: field.get("kind") for field in yaml.safe_load(text)["fields"]}
    assert fields == {"discount": None, "price": "numeric"}
    assert (
        "CHECK: treated as words such as '0,0', so JSON and data frames must have this spelling too, not 0.0;" in text
    )
    assert text.count("treated as words") == 1


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"a": [f"{n:,.2f}" for n in PRICES], "b": [str(n) for n in RATES]}, {"thousands": ","}),
        ({"a": [f"{round(n):,}" for n in PRICES], "b": [str(n) for n in RATES]}, {"thousands": ","}),
        ({"a": [f"{n:,.2f}".replace(",", " ").replace(".", ",") for n in PRICES]}, {"decimal": ",", "thousands": " "}),
        # Swiss, with an apostrophe of typewriters or of printers
        ({"a": [f"{n:,.2f}".replace(",", "'") for n in PRICES]}, {"thousands": "'"}),
        ({"a": [f"{n:,.2f}".replace(",", "\u2019") for n in PRICES]}, {"thousands": "\u2019"}),
        ({"a": [german(n, 1) for n in RATES]}, {"decimal": ","}),
        # as many columns are plain
        ({"a": [german(n, 1) for n in RATES], "b": [str(n) for n in PRICES]}, None),
        ({"a": [str(n) for n in RATES], "b": [str(n) for n in PRICES]}, None),
        ({"a": [f"{n}|{n + 1}" for n in range(ROWS)]}, None),
    ],
)
def test_marks_are_guessed(columns, options, tmp_path):
    rows = pd.DataFrame({**columns, "user": [f"u{n % 9}" for n in range(ROWS)], "click": [0, 1] * (ROWS // 2)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    drafted = yaml.safe_load(draft_schema(tmp_path / "rows.csv"))
    assert drafted.get("csv") == options


def test_cells_that_are_written_otherwise_are_missing_with_a_warning(tmp_path):
    (tmp_path / "rows.csv").write_text("price;click\n2.067,11;0\n7,5;1\n2.06;1\n")
    schema = Schema.from_dict({"fields": FIELDS[:1], "label": "click", "csv": GERMAN})
    table = read_table_files(tmp_path / "rows.csv", schema)
    processor = ClickPromptProcessor.fit(table, schema)
    with pytest.warns(
        UserWarning, match=r"1 of 3 cells \(33 %\), such as \"2.06 \(not with decimal ','\)\", count as"
    ):
        processor(table)


def _model(processor):
    torch.manual_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    return ClickPromptForCTR(ClickPromptConfig(fusion="ctr", ctr_config=CTRConfig(backbone="dnn", **sizes)))
