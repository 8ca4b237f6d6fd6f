"""Sources read raw files as their owners publish them, and say what is wrong with broken ones."""

from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from movielens_files import ml_1m_files, ml_100k_files, write_folder, write_zip
from pyarrow import csv

from clickprompt_hf import ClickPromptProcessor, Schema
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.sources import load_source
from clickprompt_hf.data.splits import split_table
from clickprompt_hf.schema_clickprompt import CsvFormat

SCHEMA = Schema.from_dict({"fields": ["user", {"column": "price", "kind": "numeric"}], "label": "click"})


def test_ml_1m_by_hand(tmp_path):
    source = load_source("ml-1m", write_zip(tmp_path / "ml-1m.zip", "ml-1m", ml_1m_files()))
    assert source.table.to_pylist() == [
        {
            "user_id": 1,
            "gender": "female",
            "age": "under 18",
            "job": "K-12 student",
            "zipcode": "48067",
            "movie_id": 10,
            "title": "Café Lumière, Le (1999)",
            "genre": "Drama",
            "click": 1,
            "timestamp": 978300760,
        },
        {
            "user_id": 2,
            "gender": "male",
            "age": "56+",
            "job": "self-employed",
            "zipcode": "70072",
            "movie_id": 10,
            "title": "Café Lumière, Le (1999)",
            "genre": "Drama",
            "click": 0,
            "timestamp": 978301968,
        },
        {
            "user_id": 3,
            "gender": "male",
            "age": "25-34",
            "job": "scientist",
            "zipcode": "55117-1234",
            "movie_id": 20,
            "title": "Robots: The Return (2001)",
            "genre": "Sci-Fi",
            "click": 1,
            "timestamp": 978300275,
        },
    ]
    assert [f.name for f in source.schema.fields][5:] == ["Movie ID", "Title", "Film genre"]


def test_ml_100k_by_hand(tmp_path):
    rows = load_source("ml-100k", write_zip(tmp_path / "x.zip", "ml-100k", ml_100k_files())).table.to_pylist()
    assert [row["age"] for row in rows] == ["18-24", "50-55", "under 18"]
    assert [row["genre"] for row in rows] == ["Comedy", "Action", "Action"]
    assert [row["click"] for row in rows] == [1, 0, 1]
    assert (rows[0]["title"], rows[0]["job"], rows[2]["zipcode"]) == ("Café Express (1980)", "technician", "T8H1N")


def test_the_folder_serves_as_well_as_the_zip(tmp_path):
    zipped = load_source("ml-1m", write_zip(tmp_path / "ml-1m.zip", "ml-1m", ml_1m_files())).table
    folder = write_folder(tmp_path / "outer" / "ml-1m", ml_1m_files())
    assert load_source("ml-1m", folder).table.equals(zipped)
    assert load_source("ml-1m", folder.parent).table.equals(zipped)


def broken(tmp_path, **replaced):
    return write_folder(tmp_path / "ml-1m", {**ml_1m_files(), **replaced})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ratings.dat": "1::10::5::1\n1::10::5\n"}, r"ratings\.dat .*Row #2"),
        ({"ratings.dat": "1::10::five::1\n"}, r"ratings\.dat .*five"),
        ({"ratings.dat": "9::10::5::1\n"}, "user 9 has none"),
        ({"ratings.dat": "1::11::5::1\n"}, "movie 11 has none"),
        ({"users.dat": "1::X::1::10::48067\n"}, r"gender in users\.dat must be one of .* got 'X' in line 1"),
        ({"users.dat": "1::F::17::10::48067\n"}, r"age in users\.dat must be one of .* got 17"),
    ],
)
def test_malformed_movielens_files_are_named(files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_source("ml-1m", broken(tmp_path, **files))


def test_missing_and_truncated_zips(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.zip does not exist"):
        load_source("ml-1m", tmp_path / "nowhere.zip")
    with pytest.raises(ValueError, match="`data_path` must be ml-1m.zip"):
        load_source("ml-1m")
    whole = write_zip(tmp_path / "whole.zip", "ml-1m", ml_1m_files(500)).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.zip is not a zip file or is truncated"):
        load_source("ml-1m", tmp_path / "cut.zip")
    damaged = bytearray(whole)
    damaged[200:300] = bytes(100)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"ratings\.dat in .*damaged\.zip is damaged"):
        load_source("ml-1m", tmp_path / "damaged.zip")
    without = write_zip(tmp_path / "without.zip", "ml-1m", {"README": "nothing"})
    with pytest.raises(FileNotFoundError, match=r"must contain ml-1m/ratings\.dat"):
        load_source("ml-1m", without)


def test_csv_keeps_strings(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("price,other,user,click\n1.5,x,007,1\n,y,,0\n")
    rows = load_source("csv", path, SCHEMA).table.to_pylist()
    assert rows == [{"user": "007", "price": "1.5", "click": "1"}, {"user": "", "price": "", "click": "0"}]


def test_csv_cells_may_hold_line_breaks(tmp_path):
    # together more than a block of the parser, which is 16 MiB
    text = "a line\nand another\n" * 100_000
    schema = replace(SCHEMA, csv=CsvFormat(lines_per_cell=200_001))
    path = tmp_path / "rows.csv"
    path.write_text("user,price,click\n" + f'"{text}",1,0\n' * 10)
    assert load_source("csv", path, schema).table["user"].to_pylist() == [text] * 10


@pytest.mark.parametrize("name", ["csv", "parquet", "hub"])
@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (["1500000000", "900", "1000"], "1500000000"),
        (["2020-02-03 10:00:00", "2019-01-01 00:00:00", "2019-06-01 00:00:00"], "2020-02-03 10:00:00"),
    ],
)
def test_the_time_may_be_a_field(name, cells, shown, tmp_path):
    schema = Schema.from_dict({"fields": ["user", "when"], "label": "click", "time": "when"})
    path = tmp_path / "rows.csv"
    path.write_text("user,when,click\n" + "".join(f"{n},{cell},{n % 2}\n" for n, cell in enumerate(cells)))
    if name != "csv":
        path = tmp_path / "rows.parquet"
        pq.write_table(csv.read_csv(tmp_path / "rows.csv"), path)
        (tmp_path / "rows.csv").unlink()
    source = load_source(str(tmp_path), schema=schema) if name == "hub" else load_source(name, path, schema)
    assert source.table.column_names == ["user", "when", "click"]
    (latest,) = split_table(source.table, schema, split="time")["test"].to_pylist()
    assert ClickPromptProcessor.fit({"user": [0], "when": [0]}, schema).render([latest]) == [
        f"user is 0. when is {shown}."
    ]


def test_parquet_keeps_types(tmp_path):
    table = pa.table({"user": [1, None], "price": [1.5, 2.5], "click": [True, False], "other": [0, 0]})
    pq.write_table(table, tmp_path / "rows.parquet")
    rows = load_source("parquet", tmp_path / "rows.parquet", SCHEMA).table
    assert rows.equals(table.select(["user", "price", "click"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "csv",
            b"user,click\n1,0\n",
            r"must have the column 'price', a field of the schema; it has \['user', 'click'\]",
        ),
        ("csv", b"user,price\n1,0\n", "must have the column 'click', the `label` of the schema"),
        ("csv", b"user,price,click\n1,2\n", "must be a CSV file"),
        ("csv", "user,price,click\né,2,1\n".encode("latin-1"), "UTF-?8"),
        ("csv", "é,price,click\n".encode("latin-1"), r"Byte 0 \(0xE9, in line 1\) is not UTF-8"),
        ("csv", b"user,price,user,click\n1,2,1,0\n", "must have the column 'user' once"),
        ("csv", b"", "must be a CSV file"),
        ("parquet", b"no parquet", "must be a Parquet file"),
    ],
)
def test_broken_tables_are_named(name, content, message, tmp_path):
    path = tmp_path / f"rows.{name}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_source(name, path, SCHEMA)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_source(name, tmp_path / "nowhere", SCHEMA)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imdb",), r"`dataset` must be one of \['amazon-toys', 'bookcrossing', .* 'synthetic'.*\].*'imdb'"),
        ((__file__.rpartition("/")[2],), r"`dataset` must be one of .*, a folder, or a Hub id"),
        (("csv", "x.csv"), "`schema` must be given for csv"),
        (("synthetic", None, SCHEMA), "`schema` must be left out"),
    ],
)
def test_unknown_sources_and_missing_schemas(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_source(*arguments)


@pytest.mark.parametrize("own_splits", [True, False])
def test_a_dataset_folder_stands_for_a_hub_id(own_splits, tmp_path):
    def rows(n):
        return datasets.Dataset.from_dict({"user": [*range(n)], "price": [1.0] * n, "click": [0, 1, 1, 0] * (n // 4)})

    names = ("train", "validation", "test") if own_splits else ("train",)
    for name, size in zip(names, (400, 40, 60)):
        rows(size).to_parquet(tmp_path / "data" / f"{name}-00000.parquet")
    splits, _ = load_splits(f"{tmp_path}/data", schema=SCHEMA)
    assert {name: len(split) for name, split in splits.items()} == (
        {"train": 400, "validation": 40, "test": 60} if own_splits else {"train": 320, "validation": 40, "test": 40}
    )
