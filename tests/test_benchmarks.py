"""Benchmarks run at tiny sizes in processes of their own; their figures are not checked.

test_docs.py runs the others, in its own process.
"""

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from clickprompt_hf.data.schema_file import load_schema

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"

NAMES = ["data", "same_work", "late_prompts"]


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tables")


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_run(name, tmp_path):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--output", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rows"]
    assert {"cpu", "cores", "torch"} <= set(figures["machine"])


def test_book_crossing_joins_what_ampersands_cut(tables, tmp_path, capsys):
    images = "a.jpg\tb.jpg\tc.jpg\t"
    with zipfile.ZipFile(tmp_path / "books.zip", "w") as archive:
        archive.writestr("book_crossing/book_ratings.dat", "user\titem\trating\n1\t1\t8.0\n1\t2\t7.0\n2\t9\t10.0\n")
        archive.writestr(
            "book_crossing/items_info.dat",
            "Book_ID\tISBN\tTitle\tAuthor\tYear\tPublisher\n"
            f"1\t007\tCats &amp\t Dogs\tA. Bee\t1999\tNorton &amp\t Company\t{images}\n"
            f"2\t0080\t1984\tG. Orwell\t1950\tPlume\t{images}\n",
        )
        archive.writestr(
            "book_crossing/users_info.dat", "User\tLocation\tAge\n1\tul\\m, germany\tNULL\t\n2\tbonn\t30\t\n"
        )
    tables.main(["book-crossing", str(tmp_path / "books.zip"), "--output_dir", str(tmp_path)])
    assert "2 rows, 50.0% clicks" in capsys.readouterr().out
    rows = pd.read_parquet(tmp_path / "book-crossing.parquet")
    assert rows["isbn"].tolist() == ["007", "0080"]
    assert rows[["title", "publisher", "year"]].values.tolist() == [
        ["Cats & Dogs", "Norton & Company", "1999"],
        ["1984", "Plume", "1950"],
    ]
    assert rows["age"].isna().all()
    assert rows["click"].tolist() == [1, 0]
    assert load_schema(tmp_path / "book-crossing.yaml").fields_in_text == [4, 5, 6, 7]


def test_tables_of_numbers_keep_codes_as_categories(tables, tmp_path):
    (tmp_path / "cardio.csv").write_text("id;age;gender;ap_hi;cardio\n0;18393;2;110;0\n1;20228;1;140;1\n")
    tables.main(["cardio", str(tmp_path / "cardio.csv"), "--output_dir", str(tmp_path)])
    schema = load_schema(tmp_path / "cardio.yaml")
    assert {field.column: field.kind for field in schema.fields} == {
        **{"age": "numeric", "gender": "categorical", "ap_hi": "numeric"}
    }
