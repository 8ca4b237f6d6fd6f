"""Scoring files: the probabilities, and that an interruption never loses, repeats or truncates rows."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
import uuid
import warnings
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny_data import (
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_rows,
    tiny_schema,
    tiny_splits,
    whole_text_tokenizer,
)
from tiny_models import tiny_ctr_config, tiny_text_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, Schema
from clickprompt_hf.data.token_tables import TokenTables
from clickprompt_hf.runs import predict
from clickprompt_hf.schema_clickprompt import CsvFormat
from clickprompt_hf.scoring import checkpoint_digest, file_scoring, finished_pieces, score_file, score_table

EXAMPLES = Path(__file__).parent.parent / "examples"
PIECES = 4
OPTIONS = {"batch_size": 8, "piece_rows": 16}
# one for the manifest, one per piece, one for the output
RENAMINGS = 1 + PIECES + 1


def checkpoint(tokenizer=None, family="roberta", max_text_length=None):
    """A processor and a model with random weights."""
    processor = ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema(), tokenizer, 1, max_text_length)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    text = {"fusion": "ctr"}
    if tokenizer is not None:
        options = {"n_positions": 130} if family == "gpt2" else {"max_position_embeddings": 130}
        text = {"text_config": tiny_text_config(family, vocab_size=len(tokenizer), **options), "prompt_length": 2}
    torch.manual_seed(0)
    config = ClickPromptConfig(ctr_config=ctr_config, initializer_range=0.2, **text)
    return processor, ClickPromptForCTR(config).eval()


@pytest.fixture(scope="module")
def with_plm():
    return checkpoint(tiny_roberta_tokenizer(), max_text_length=40)


@pytest.fixture(scope="module")
def without_plm():
    return checkpoint()


@pytest.fixture
def rows(tmp_path):
    """A CSV file of 60 rows, which make four pieces."""
    pd.DataFrame(tiny_rows(60, seed=3)).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


@torch.no_grad()
def plain_probabilities(table, processor, model):
    """All rows in one batch, each text tokenized as a whole."""
    columns = {name: table[name].to_pylist() for name in processor.schema.columns}
    return model(**processor(columns, return_tensors="pt")).logits.sigmoid().squeeze(-1).numpy()


def gpt2_tokenizer():
    tokenizer = copy.deepcopy(tiny_gpt2_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "family", "max_text_length"),
    [
        (None, "roberta", None),
        (tiny_roberta_tokenizer, "roberta", None),
        (tiny_roberta_tokenizer, "roberta", 25),
        (whole_text_tokenizer, "roberta", 60),
        (gpt2_tokenizer, "gpt2", None),
    ],
)
def test_probabilities_are_those_of_the_plain_path(tokenizer, family, max_text_length):
    processor, model = checkpoint(tokenizer and tokenizer(), family, max_text_length)
    table = pa.table(tiny_rows(61, seed=5))
    expected = plain_probabilities(table, processor, model)
    assert np.ptp(expected) > 0.1
    for batch_size in (1, 7, 200):
        np.testing.assert_allclose(score_table(table, processor, model, batch_size), expected, atol=1e-6, rtol=0)
    in_bf16 = score_table(table, processor, model, 7, bf16=True)
    np.testing.assert_allclose(in_bf16, expected, atol=0.05)
    assert np.abs(in_bf16 - expected).max() > 1e-5


def test_only_arrow_tables_are_scored():
    with pytest.raises(TypeError, match="`table` must be an Arrow table, got DataFrame: pa.Table.from_pandas"):
        score_table(pd.DataFrame(tiny_rows(3)), None, None, 2)


def test_batches_hold_texts_of_like_lengths(with_plm, monkeypatch):
    processor, model = with_plm
    lengths = []
    assemble = TokenTables.assemble

    def watched(self, clause_ids):
        input_ids, attention_mask = assemble(self, clause_ids)
        # the calls of TokenTables.build, which check the tables, are larger
        if len(clause_ids) <= 4:
            lengths.append(attention_mask.sum(axis=1).tolist())
        return input_ids, attention_mask

    monkeypatch.setattr(TokenTables, "assemble", watched)
    score_table(pa.table(tiny_rows(60)), processor, model, 4)
    flat = [length for batch in lengths for length in batch]
    assert len(flat) == 60
    assert flat == sorted(flat, reverse=True)


@pytest.mark.parametrize(
    "column",
    [
        {"user": pa.array([None, 3])},
        {"price": pa.array([float("nan"), 2.5])},
        {"price": pa.array(["cheap", "2.5"])},
        {"user": pa.array([True, None])},
        {"tags": pa.array([["new", "old"], None])},
        {"title": pa.array([None, None])},
        {"title": pa.array(["Up " * 350_000, "Up"])},
        {"title": pa.array([b"Up", b"\xff"])},
        {"user": pa.array([uuid.UUID(int=1).bytes, None], pa.uuid())},
    ],
)  # fmt: skip
def test_missing_and_odd_values_are_scored_as_in_the_plain_path(column, with_plm):
    columns = {"user": [1, 2], "price": [1.0, 2.0], "tags": ["new", ""], "title": ["Up", "Up"]}
    table = pa.table({**columns, **column})
    scores = score_table(table, *with_plm, batch_size=2)
    np.testing.assert_allclose(scores, plain_probabilities(table, *with_plm), atol=1e-6, rtol=0)


@pytest.mark.parametrize("cells", [[{"a": 1}, {"a": 2}], [["a"], None]])
def test_several_values_where_one_belongs_are_refused(cells, with_plm):
    table = pa.table({"user": cells, "price": [1.0, 2.0], "tags": ["new", ""], "title": ["Up", "Up"]})
    with pytest.raises(ValueError, match="Column 'user' of kind 'categorical' must hold one value per row"):
        score_table(table, *with_plm, batch_size=2)
    with pytest.raises(ValueError, match=r"Column 'user' of kind 'categorical' must hold one value .* in row 0"):
        with_plm[0](table.to_pydict())


def test_unused_values_of_a_dictionary_are_not_tokenized(with_plm, monkeypatch):
    titles = pa.DictionaryArray.from_arrays(pa.array([7, 7, None], pa.int32()), [f"Title {n}" for n in range(1000)])
    table = pa.table({"user": [1, 2, 3], "price": [1.0] * 3, "tags": ["new"] * 3, "title": titles})
    built = []
    build = TokenTables.build.__func__

    def watched(cls, clauses, *args):
        built.extend(clauses[3])
        return build(cls, clauses, *args)

    monkeypatch.setattr(TokenTables, "build", classmethod(watched))
    score_table(table, *with_plm, batch_size=3)
    assert sorted(built) == ["Title is Title 7.", "Title is unknown."]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_files_keep_their_rows_in_order(ending, rows, with_plm, tmp_path):
    frame = pd.read_csv(rows, dtype=str, keep_default_na=False)
    source = tmp_path / f"copy.{ending}"
    if ending == "parquet":
        frame.to_parquet(source, row_group_size=7)
    else:
        frame.to_csv(source, index=False)
    output = tmp_path / f"scores.{ending}"
    score_file(source, output, *with_plm, **OPTIONS)
    read = pd.read_parquet if ending == "parquet" else lambda path: pd.read_csv(path, dtype=str, keep_default_na=False)
    scores = read(output)
    assert scores.drop(columns="click_probability").equals(frame)
    expected = plain_probabilities(pa.Table.from_pandas(frame), *with_plm)
    np.testing.assert_allclose(scores["click_probability"].astype(float), expected, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"rows.csv", source.name, output.name})


class Killed(BaseException):
    """Simulates a kill: nothing catches it."""


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_an_interrupted_run_resumes_to_the_same_bytes(ending, rows, without_plm, tmp_path, monkeypatch):
    whole = tmp_path / f"whole.{ending}"
    score_file(rows, whole, *without_plm, **OPTIONS)
    replace, score = os.replace, score_table
    for moment in range(2 * RENAMINGS):
        output = tmp_path / f"{moment}.{ending}"
        renamings, scored = [], []

        def replace_and_die(source, target, moment=moment, renamings=renamings):
            # die before a rename at even moments, after it at odd ones
            renamings.append(target)
            if moment == 2 * len(renamings) - 2:
                raise Killed
            replace(source, target)
            if moment == 2 * len(renamings) - 1:
                raise Killed

        def counted_score(*args, scored=scored, **kwargs):
            scored.append(len(args[0]))
            return score(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(finished_pieces.os, "replace", replace_and_die)
            with pytest.raises(Killed):
                score_file(rows, output, *without_plm, **OPTIONS)
        assert output.exists() == (moment == 2 * RENAMINGS - 1)
        with monkeypatch.context() as patch:
            patch.setattr(file_scoring, "score_table", counted_score)
            score_file(rows, output, *without_plm, **OPTIONS)
        assert output.read_bytes() == whole.read_bytes()
        finished = min(max(0, (moment + 1) // 2 - 1), PIECES)
        assert scored == [16, 16, 16, 12][finished:]
        assert not list(tmp_path.glob(".*"))


@pytest.fixture
def interrupted(rows, with_plm, tmp_path, monkeypatch):
    """An output with two of four pieces finished."""
    output = tmp_path / "scores.csv"
    write = finished_pieces.write_piece

    def full_disk(table, path, file_format):
        if "piece-000002" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(table, path, file_format)

    with monkeypatch.context() as patch:
        patch.setattr(finished_pieces, "write_piece", full_disk)
        with pytest.raises(
            OSError, match="piece-000002.csv cannot be written: No space left on device. Finished"
        ) as e:
            score_file(rows, output, *with_plm, **OPTIONS)
    assert e.value.errno == errno.ENOSPC
    assert not output.exists()
    assert len(list((tmp_path / ".scores.csv.parts").glob("piece*"))) == 2
    return output


def test_a_full_disk_leaves_what_is_finished(interrupted, rows, with_plm, tmp_path, monkeypatch):
    def full_disk(pieces, schema, path, file_format):
        path.write_text("user,")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(finished_pieces, "join_pieces", full_disk)
        with pytest.raises(OSError, match="scores.csv cannot be written: No space left on device"):
            score_file(rows, interrupted, *with_plm, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".scores.csv.parts", "rows.csv"]
    score_file(rows, interrupted, *with_plm, **OPTIONS)
    assert len(pd.read_csv(interrupted)) == 60


@pytest.mark.parametrize("changed", ["batch_size", "piece_rows", "bf16", "checkpoint", "input modification time"])
def test_pieces_of_another_origin_are_refused(changed, interrupted, rows, with_plm, tmp_path):
    processor, model = with_plm
    options = {**OPTIONS, **{"batch_size": {"batch_size": 9}, "piece_rows": {"piece_rows": 17}}.get(changed, {})}
    if changed == "bf16":
        options["bf16"] = True
    if changed == "checkpoint":
        model = checkpoint(tiny_roberta_tokenizer(), max_text_length=40)[1]
        with torch.no_grad():
            next(model.parameters()).add_(1)
    if changed == "input modification time":
        os.utime(rows, ns=(1, 1))
    with pytest.raises(
        ValueError, match=rf"parts holds finished pieces of an earlier run.*: {changed}[^;]* was .*Delete"
    ):
        score_file(rows, interrupted, processor, model, **options)
    assert len(list((tmp_path / ".scores.csv.parts").glob("piece*"))) == 2
    assert not interrupted.exists()


def test_the_digest_covers_everything_that_makes_probabilities():
    processor, model = checkpoint(tiny_roberta_tokenizer())
    digest = checkpoint_digest(model, processor)
    assert checkpoint_digest(*reversed(checkpoint(tiny_roberta_tokenizer()))) == digest
    changed = checkpoint(tiny_roberta_tokenizer())[1]
    changed.config.pooling = "mean"
    assert checkpoint_digest(changed, processor) != digest
    assert checkpoint_digest(model, checkpoint(tiny_roberta_tokenizer(), max_text_length=20)[0]) != digest


def test_another_run_of_the_same_output_is_refused(interrupted, rows, with_plm, tmp_path):
    with (
        filelock.FileLock(tmp_path / ".scores.csv.parts" / "lock"),
        pytest.raises(RuntimeError, match="scores.csv is being written by another run"),
    ):
        score_file(rows, interrupted, *with_plm, **OPTIONS)
    score_file(rows, interrupted, *with_plm, **OPTIONS)
    assert len(pd.read_csv(interrupted)) == 60


def test_a_missing_piece_is_an_error(rows, with_plm, tmp_path, monkeypatch):
    write = finished_pieces.FinishedPieces.write
    monkeypatch.setattr(
        finished_pieces.FinishedPieces, "write", lambda self, n, table: None if n == 1 else write(self, n, table)
    )
    with pytest.raises(RuntimeError, match="lacks 1 of 4 pieces, the first of them 1"):
        score_file(rows, tmp_path / "scores.csv", *with_plm, **OPTIONS)
    assert not (tmp_path / "scores.csv").exists()


def test_a_bad_row_leaves_no_output(with_plm, tmp_path):
    lines = pd.DataFrame(tiny_rows(40)).to_csv(index=False).splitlines()
    lines[30] = "1,2"
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="rows.csv must be a CSV file .* Line 31: Expected 5 columns, got 2"):
        score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", *with_plm, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_folder_that_cannot_be_written_to(rows, with_plm, tmp_path, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", read_only)
        with pytest.raises(OSError, match="scores.csv cannot be written: Read-only file system$"):
            score_file(rows, tmp_path / "scores.csv", *with_plm, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *args: False)
        with pytest.raises(PermissionError, match="--output must be in a writable folder"):
            predict.main(["--model", "x", "--input", str(rows), "--output", str(tmp_path / "scores.csv")])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user,price,tags", r"must have the columns \['user', .*missing \['title'\]"),
        ("user,price,tags,title,user", r"must have the column 'user' once, but its header repeats \['user'\]"),
        ("user,price,tags,title,click_probability", "already has a column 'click_probability'"),
    ],
)
def test_wrong_columns_are_refused(header, message, with_plm, tmp_path):
    (tmp_path / "rows.csv").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=message):
        score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", *with_plm, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_files_are_written_as_the_saved_schema_says(rows, with_plm, tmp_path):
    processor, model = with_plm
    schema = replace(processor.schema, csv=CsvFormat(delimiter=";", quote="'", column_names=("user", "x")))
    other = ClickPromptProcessor(schema, processor.vocabularies, processor.boundaries, processor.tokenizer)
    other.save_pretrained(tmp_path / "saved")
    other = ClickPromptProcessor.from_pretrained(tmp_path / "saved")
    # How files are written does not change ids.
    assert (other.schema, other.fingerprint) == (schema, processor.fingerprint)
    other.max_text_length = processor.max_text_length
    frame = pd.read_csv(rows, dtype=str, keep_default_na=False)
    other.schema = replace(schema, csv=CsvFormat(delimiter=";", column_names=tuple(frame.columns)))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_csv(tmp_path / "other.csv", index=False, header=False, sep=";")
    score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", processor, model, **OPTIONS)
    score_file(tmp_path / "other.csv", tmp_path / "other-scores.csv", other, model, **OPTIONS)
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "other-scores.csv").read_bytes()


def test_cells_that_are_not_numbers_trigger_one_warning_per_run(tmp_path):
    """Not once per piece: a file of millions of rows has hundreds of them."""
    schema = Schema.from_dict(
        {
            "fields": ["item", {"column": "price", "kind": "numeric"}, {"column": "at", "kind": "hour"}],
            "label": "click",
        }
    )
    train = {"item": ["a", "b"] * 10, "price": range(20), "at": [f"2024-01-01 {h:02}:00:00" for h in range(20)]}
    processor = ClickPromptProcessor.fit(train, schema)
    torch.manual_seed(0)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")).eval()

    def warnings_of(prices, times, num_pieces):
        rows = pd.DataFrame({"item": [f"new {n}" for n in range(len(prices))], "price": prices, "at": times})
        rows.to_csv(tmp_path / "rows.csv", index=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", processor, model, 8, len(prices) // num_pieces)
        return sorted(str(warning.message) for warning in caught)

    # every piece has them: the first one is enough to warn of
    price, at, item = (
        "Column 'price' of kind 'numeric'",
        "Column 'at' of kind 'hour'",
        "100% of 16 values in column 'item'",
    )
    said = warnings_of(["1", "12 kg"] * 32, ["2024-01-01 10:00:00", "noon"] * 32, 4)
    assert [message.partition(" should")[0].partition(" of the first")[0] for message in said] == [item, at, price]
    assert "8 of 16 cells of the first rows of " in said[2]
    assert "rows.csv (50 %), such as '12 kg', count as missing." in said[2]
    # only later pieces have them: the whole file is counted
    said = warnings_of([1] * 48 + ["12 kg"] * 16, ["2024-01-01 10:00:00"] * 64, 4)
    assert [message.partition(" should")[0].partition(" of the first")[0] for message in said] == [item, price]
    assert f"16 of 64 cells of {tmp_path / 'rows.csv'} (25 %)" in said[1]


@pytest.mark.parametrize("name", ["batch_size", "piece_rows"])
def test_numbers_out_of_range_are_refused(name, rows, with_plm, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        score_file(rows, tmp_path / "scores.csv", *with_plm, **{**OPTIONS, name: 0})


def test_the_input_is_not_written_over(rows):
    before = rows.read_bytes()
    with pytest.raises(ValueError, match="--output must differ from --input"):
        predict.main(["--model", "x", "--input", str(rows), "--output", str(rows)])
    assert rows.read_bytes() == before


# Forks of one process that has imported everything: one is killed, then two score together.
KILLED_AND_THEN_TWO = """
import json, os, runpy, signal, sys
from pathlib import Path
import torch
from forks import exit_code, start_fork
from clickprompt_hf.runs import predict

torch.set_num_threads(1)
example, parts, *arguments = sys.argv[1:]

def killed_at_the_fourth_renaming():
    replace, renamings = os.replace, []
    def replace_or_die(source, target):
        renamings.append(target)
        if len(renamings) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
    os.replace = replace_or_die
    predict.main(arguments)

def start_rank(rank):
    def run_example():
        os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2")
        sys.argv = [example, *arguments]
        runpy.run_path(example, run_name="__main__")
    return start_fork(run_example)

killed = exit_code(start_fork(killed_at_the_fourth_renaming))
left = sorted(path.name for path in Path(parts).iterdir())
files = sorted(path.name for path in Path(parts).parent.iterdir())
ranks = [start_rank(rank) for rank in "01"]
print(json.dumps({"killed": killed, "left": left, "files": files, "two": [exit_code(rank) for rank in ranks]}))
"""


def test_a_killed_process_and_then_two(rows, with_plm, tmp_path):
    processor, model = with_plm
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--input", str(rows), "--batch_size", "8", "--piece_rows", "7"]
    predict.main([*arguments, "--output", str(tmp_path / "whole.csv")])

    parts = tmp_path / ".scores.csv.parts"
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29500 + os.getpid() % 1000),
    }
    command = [sys.executable, "-c", KILLED_AND_THEN_TWO, str(EXAMPLES / "predict.py"), str(parts), *arguments]
    command += ["--output", str(tmp_path / "scores.csv")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["killed"] == -signal.SIGKILL
    pieces = [name for name in report["left"] if name.startswith("piece") and name.endswith(".csv")]
    assert pieces == ["piece-000000.csv", "piece-000001.csv"]
    assert sum(name.endswith(".partial") for name in report["left"]) == 1
    assert "scores.csv" not in report["files"]
    assert report["two"] == [0, 0], run.stderr[-3000:]
    whole, scores = (pd.read_csv(tmp_path / f"{name}.csv", dtype=str) for name in ("whole", "scores"))
    assert scores.drop(columns="click_probability").equals(whole.drop(columns="click_probability"))
    probabilities = [table["click_probability"].astype(float) for table in (scores, whole)]
    np.testing.assert_allclose(*probabilities, atol=1e-6, rtol=0)
    assert not parts.exists()
