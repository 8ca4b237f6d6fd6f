"""Benchmarks run at tiny sizes; their figures are not checked. test_docs.py runs the others."""

import importlib
import json
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from movielens_files import ml_1m_files, write_zip
from small_runs import BENCHMARKS, make_benchmarks_small

from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.runs.compare import make_parser


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tables")


@pytest.fixture
def small(monkeypatch):
    """The benchmarks' module `measure`, with small data and PLMs."""
    yield make_benchmarks_small(monkeypatch)
    # the benchmarks keep references to what was replaced
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("name", ["same_work", "late_prompts"])
def test_benchmarks_run(name, small, tmp_path):
    importlib.import_module(name).main(["--quick", "--output", str(tmp_path / "figures.json")])
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["rows"]
    assert {"cpu", "cores", "torch"} <= set(figures["machine"])


def test_a_step_is_measured_in_a_process_of_its_own(small, tmp_path):
    result = small.in_fresh_process(dict, [("number", 3)])
    assert result.pop("peak_memory_gb") > 0.1
    assert result == {"number": 3}


def test_the_matrix_rate_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert importlib.import_module("measure").matrix_rate(torch.float32) > 0


def test_book_crossing_joins_cells_cut_at_ampersands(tables, tmp_path, capsys):
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


def test_titles_are_vectors_that_the_plm_reads_too(tables, tmp_path):
    path = write_zip(tmp_path / "ml-1m.zip", "ml-1m", ml_1m_files())
    tables.main(["ml-1m-titles", str(path), "--output_dir", str(tmp_path)])
    fields = {field.column: field for field in load_schema(tmp_path / "ml-1m-titles.yaml").fields}
    assert [name for name, field in fields.items() if field.in_text] == ["title", "genre"]
    assert [name for name, field in fields.items() if field.is_vector] == ["title"]
    assert set(fields) <= set(pd.read_parquet(tmp_path / "ml-1m-titles.parquet").columns)


@pytest.fixture
def defaults(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("defaults")


def test_the_defaults_benchmark_judges_by_one_standard_error(defaults, tmp_path):
    def found(auc, log_loss):
        return {"auc": auc, "log_loss": log_loss, "auc_error": 0.01, "log_loss_error": 0.004}

    others = [found(0.79, 0.5), found(0.70, 0.6), found(0.75, 0.505)]
    cells = {
        "adult-8k": (found(0.781, 0.5039), "holds"),
        "cardio-8k": (found(0.779, 0.5), "AUC 0.0110 behind"),
        "anime-all": (found(0.77, 0.51), "AUC 0.0200 behind, log loss 0.0100 above"),
    }
    for name, (own, _) in cells.items():
        (tmp_path / name).mkdir()
        table, size = name.split("-")
        models = dict(zip(defaults.MODELS, [own, *others]))
        results = {"table": table, "size": size, "train_rows": 8_000, "test_rows": 1_000, "models": models}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    lines = defaults.tabulate(tmp_path).splitlines()[2:]
    assert [line.split(" | ")[-1] for line in lines] == [f"{verdict} |" for _, verdict in cells.values()]
    assert lines[0].startswith("| adult, 8,000 | 0.7810; 0.5039 | 0.7900; 0.5000 |")


def test_the_defaults_benchmark_runs_and_resumes(defaults, tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    job = draw.choice(["clerk", "baker", "nurse"], 900)
    rows = pd.DataFrame({"age": draw.integers(18, 70, 900), "job": job})
    rows["salary"] = np.where(draw.random(900) < 0.2 + 0.5 * (job == "nurse"), ">50K", "<=50K")
    rows.to_csv(tmp_path / "adult.csv.gz", index=False)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- defaults -->\nold\n<!-- /defaults -->\nafter\n")
    options = ["--data", str(tmp_path), "--output_dir", str(tmp_path / "out"), "--into", str(page)]
    table = defaults.main([*options, "--tables", "adult", "cardio", "--sizes", "8k"])
    assert "| adult, 720 |" in table
    assert page.read_text() == f"before\n<!-- defaults -->\n{table}\n<!-- /defaults -->\nafter\n"
    # finished cells are not trained again
    monkeypatch.setattr(defaults.finetune, "main", None)
    assert defaults.main([*options, "--tables", "adult", "--sizes", "8k"]) == table


@pytest.mark.parametrize("options", [["--quick"], ["--plm", "mpnet", "--data_path", "ml-1m.zip"]])
def test_steps_of_the_gpu_evidence_have_known_flags(options, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu_evidence = importlib.import_module("gpu_evidence")
    ran = []
    monkeypatch.setattr(gpu_evidence, "run", lambda step, seconds, folder: ran.append(step) or True)
    assert gpu_evidence.main([*options, "--output_dir", str(tmp_path)]) == 0
    assert [step.name for step in ran] == ["pamlm", "finetune", "late_prompts", "inference", "compare"]
    # raises on an unknown flag
    make_parser().parse(ran[-1].command[2:])
    # no time is left for any step
    assert gpu_evidence.main([*options, "--output_dir", str(tmp_path), "--minutes", "0"]) == 5
