"""Tables of several files, folders and formats: the schema, not the reader, decides what a column is."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer, Repo

from clickprompt_hf import Schema
from clickprompt_hf.data.sources import load_source
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.data.table_files import open_table_file, read_table_files

SCHEMA = Schema.from_dict({"fields": ["code", "flag", "tier"], "label": "click"})
ROWS = "code,flag,tier,click\n007,true,1.50,1\n012,FALSE,1e3,0\nNA,,null,1\n"
CELLS = [["007", "true", "1.50", "1"], ["012", "FALSE", "1e3", "0"], ["NA", "", "null", "1"]]


def cells(table: pa.Table) -> list[list[str]]:
    return [list(row.values()) for row in table.to_pylist()]


def test_json_lines_keep_the_spelling(tmp_path):
    lines = [
        {"code": "007", "flag": True, "tier": "TIER", "click": 1},
        {"flag": None, "code": 123456789012345678901234567890, "tags": ["a", 1, None], "mixed": [1, {"k": "é"}]},
        {"code": 7, "tier": "x", "mixed": 2.5, "click": 0, "tags": None},
    ]
    text = "\ufeff" + "\r\n\n".join(json.dumps(line) for line in lines).replace('"TIER"', "1.50") + "\n"
    (tmp_path / "rows.JSONL").write_bytes(text.encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    file = open_table_file(tmp_path / "rows.JSONL")
    table = pa.Table.from_batches(file.batches())
    assert file.num_rows == 3
    assert table.to_pydict() == {
        "code": ["007", "123456789012345678901234567890", "7"],
        "flag": ["true", None, None],
        "tier": ["1.50", None, "x"],
        "click": ["1", None, "0"],
        "tags": [None, ["a", "1", None], None],
        "mixed": [None, '[1, {"k": "é"}]', "2.5"],
    }
    zipped = load_source("jsonl", tmp_path / "rows.jsonl.gz", SCHEMA).table
    assert zipped.equals(table.select(zipped.column_names))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "but it has no objects with keys"),
        ("{}\n", "but it has no objects with keys"),
        ('{"a": 1}\n[1, 2]\n', r"line 2 holds \[1, 2\]"),
        ('{"a": 1}\n\n{"a": 1\n', "line 3 is not: .*It reads: "),
        ('{"a": 1, "a": 2}\n', "line 1 is not: the key 'a' is repeated"),
        ('{"a": "\xe9"}\n', "line 1 is not: 'utf-8' codec"),
    ],
)
def test_broken_json_lines_are_refused(text, message, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(
        ValueError, match=rf"rows\.jsonl must be a file in UTF-8 with one JSON object per line, .*{message}"
    ):
        open_table_file(tmp_path / "rows.jsonl")


def test_several_files_are_one_table(tmp_path):
    (tmp_path / "part-1.csv").write_text(ROWS)
    (tmp_path / "part-2.CSV.gz").write_bytes(gzip.compress(b"click,more,tier,flag,code\n1,x,2,true,5\n"))
    (tmp_path / "notes.txt").write_text("")
    expected = [*CELLS, ["5", "true", "2", "1"]]
    one, two = tmp_path / "part-1.csv", tmp_path / "part-2.CSV.gz"
    for paths in (tmp_path, f"{tmp_path}/part-*", [one, two], [f"{tmp_path}/*1.csv", str(two)]):
        assert cells(read_table_files(paths, SCHEMA)) == expected
    assert cells(load_source("csv", f"{tmp_path}/part-*", SCHEMA).table) == expected
    assert cells(read_table_files([two, one], SCHEMA)) == [expected[3], *CELLS]
    (tmp_path / "part-3.csv").write_text("code,flag,click\n1,2,0\n")
    with pytest.raises(ValueError, match=r"part-3\.csv must have the column 'tier'"):
        read_table_files(tmp_path, SCHEMA)
    with pytest.raises(FileNotFoundError, match=r"none at .*nothing-\*"):
        read_table_files([one, f"{tmp_path}/nothing-*"], SCHEMA)


def test_types_of_several_files(tmp_path):
    schema = Schema.from_dict({"fields": ["x"], "label": "click"})

    def united(*columns: pa.Array) -> list:
        paths = [tmp_path / f"{number}.parquet" for number in range(len(columns))]
        for path, column in zip(paths, columns):
            pq.write_table(pa.table({"x": column, "click": [1] * len(column)}), path)
        return read_table_files(paths, schema)["x"].to_pylist()

    assert united(pa.array([1], pa.int8()), pa.array([2**40]), pa.nulls(1)) == [1, 2**40, None]
    words = pa.array(["a"])
    assert united(words, words.cast(pa.large_string()), words.dictionary_encode()) == ["a"] * 3
    for other in (pa.array([0.5]), words, pa.array([[1]]), pa.array([2**63], pa.uint64()), pa.array([True])):
        with pytest.raises(ValueError, match=r"1\.parquet must have the type int64 in column 'x', as .*0\.parquet"):
            united(pa.array([1]), other)


def test_nulls_in_one_of_several_json_files_have_the_type_of_the_others(tmp_path):
    schema = Schema.from_dict({"fields": ["user", {"column": "tags", "kind": "multi_valued"}], "label": "click"})
    lines = ['{"user": 1, "tags": null, "click": 1}\n', '{"user": 2, "tags": ["a", 7], "click": 0}\n']
    for number, line in enumerate(lines):
        (tmp_path / f"{number}.jsonl").write_text(line)
    files = [tmp_path / f"{number}.jsonl" for number in (0, 1)]
    for order in (files, files[::-1]):
        found = dict(zip(*map(pa.ChunkedArray.to_pylist, read_table_files(order, schema).select(["user", "tags"]))))
        assert found == {"1": None, "2": ["a", "7"]}
        stream = TableStream({"": order}, schema)
        streamed = [row for chunk in stream.chunks() for row in chunk.rows.to_pylist()]
        assert {row["user"]: row["tags"] for row in streamed} == found


def test_a_folder_is_read_as_its_files_are(tmp_path):
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text(ROWS)
    splits = load_source(str(tmp_path), schema=SCHEMA).table
    assert list(splits) == ["train", "validation", "test"]
    one = load_source("csv", tmp_path / "train.csv", SCHEMA).table
    assert all(split.equals(one) for split in splits.values())
    assert cells(one) == CELLS


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "test.csv"], {"train": 1, "test": 1}),
        (["train.CSV", "dev.jsonl"], {"train": 1, "validation": 1}),
        (["my_train_1.csv", "my_train_2.csv", "my-val.tsv", "eval.csv.gz"], {"train": 2, "validation": 1, "test": 1}),
        (["train/a.csv", "train/test.csv", "valid/b.csv"], {"train": 2, "validation": 1}),
        (
            ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test-00000-of-00001.csv"],
            {"train": 2, "test": 1},
        ),
        (["a.csv", "sub/b.csv", ".hidden.csv", ".cache/train.csv"], {"": 2}),
        (["train.csv", "training.csv"], {"": 2}),
    ],
)
def test_splits_of_a_folder(names, splits, tmp_path):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "jsonl" in name:
            path.write_text('{"code": "007", "flag": true, "tier": 1.50, "click": 1}\n' * 3)
        else:
            text = ROWS.replace(",", "\t" if "tsv" in name else ",").encode()
            path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    table = load_source(f"{tmp_path}/", schema=SCHEMA).table
    found = {"": table} if isinstance(table, pa.Table) else table
    assert {split: len(rows) // 3 for split, rows in found.items()} == splits
    assert all(rows.slice(0, 1).to_pylist()[0]["code"] == "007" for rows in found.values())


def test_tables_of_a_folder_that_belong_to_no_split(tmp_path):
    for name in ("train.csv", "test.csv", "items.csv"):
        (tmp_path / name).write_text(ROWS)
    with pytest.warns(UserWarning, match=r"belong to no split, which are not read: items\.csv"):
        assert list(load_source(f"{tmp_path}/", schema=SCHEMA).table) == ["train", "test"]
    (tmp_path / "train.csv").rename(tmp_path / "validation.csv")
    with (
        pytest.warns(UserWarning, match="belong to no split"),
        pytest.raises(ValueError, match=r"must have a split 'train'; it has only"),
    ):
        load_source(f"{tmp_path}/", schema=SCHEMA)


def test_metadata_of_a_folder_name_its_files_and_their_format(tmp_path):
    (tmp_path / "first.csv").write_text(ROWS.replace(",", ";"))
    (tmp_path / "held_out.csv").write_text(ROWS.replace(",", ";"))
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  sep: ';'\n  data_files:\n  - {split: train, path: first.csv}\n"
        "  - {split: test, path: held_out.csv}\n---\n"
    )
    splits = load_source(f"{tmp_path}/", schema=SCHEMA).table
    assert {name: cells(split) for name, split in splits.items()} == {"train": CELLS, "test": CELLS}


def test_a_local_folder_with_the_name_of_an_owner_does_not_hide_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    asked = []
    monkeypatch.setattr("datasets.load_dataset_builder", lambda name: asked.append(name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_source("owner/rows", schema=SCHEMA)
    assert asked == ["owner/rows"]


HUB_CODE = """
from clickprompt_hf import Schema
from clickprompt_hf.data.sources import load_source

schema = Schema.from_dict({"fields": ["code", "flag", "tier"], "label": "click"})
for name in ("tester/plain", "tester/described"):
    table = load_source(name, schema=schema).table
    print({split: [list(row.values()) for row in rows.to_pylist()] for split, rows in table.items()})
"""


CARD = """---
configs:
- config_name: default
  sep: ";"
  data_files: [{split: train, path: a.csv}, {split: test, path: b.csv}]
---
"""


def test_csv_of_the_hub_is_read_as_the_same_file_elsewhere(tmp_path):
    semicolons = ROWS.replace(",", ";").encode()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    paths = {"HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent), "NO_PROXY": "127.0.0.1"}
    paths["HF_HUB_DISABLE_TELEMETRY"] = "1"
    with HubServer() as hub:
        hub.repos["tester/plain"] = Repo({"train.csv": ROWS.encode(), "test.csv": ROWS.encode()}, ["first"])
        hub.repos["tester/described"] = Repo(
            {"README.md": CARD.encode(), "a.csv": semicolons, "b.csv": semicolons, "c.csv": b"other\n1\n"}, ["first"]
        )
        done = subprocess.run(
            [sys.executable, "-c", HUB_CODE],
            env={**inherited, **paths, "HF_ENDPOINT": hub.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        expected = f"{ {'train': CELLS, 'test': CELLS} }\n" * 2
        assert (done.stdout, done.returncode) == (expected, 0), done.stderr[-3000:]
        assert hub.unknown_requests == []


@pytest.mark.parametrize("card", [True, False])
def test_offline_the_files_of_an_earlier_run_are_read(card, tmp_path, monkeypatch):
    snapshot, blobs = tmp_path / "snapshot", tmp_path / "blobs"
    snapshot.mkdir()
    blobs.mkdir()
    delimiter, names = (";", ("a.csv", "b.csv")) if card else (",", ("train.csv", "test.csv"))
    for number, name in enumerate(names):
        (blobs / f"{number}").write_text(ROWS.replace(",", delimiter))
        (snapshot / name).symlink_to(blobs / f"{number}")
    if card:
        (snapshot / "README.md").write_text(CARD)
    load_builder = datasets.load_dataset_builder

    def offline(name):
        if name == "tester/rows":
            raise ConnectionError
        return load_builder(name)

    monkeypatch.setattr(datasets, "load_dataset_builder", offline)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: str(snapshot))
    splits = load_source("tester/rows", schema=SCHEMA).table
    assert {name: cells(split) for name, split in splits.items()} == {"train": CELLS, "test": CELLS}
