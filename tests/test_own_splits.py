"""A dataset's own splits: given by file, or recognized by name; and the commands that train on them."""

import json
import warnings
from itertools import chain, product

import pandas as pd
import pytest
import yaml
from tiny_data import tiny_rows, tiny_schema

from clickprompt_hf import ClickPromptConfig, Schema
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.runs import finetune, pretrain

SCHEMA = Schema.from_dict({"fields": ["user"], "label": "click"})
NAMES = ("train", "validation", "test")


def write(path, start, stop):
    """A file whose rows are numbered `start:stop` in the column user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"user": range(start, stop), "household": [f"h{n // 3}" for n in range(start, stop)]})
    frame["click"] = [n % 2 for n in range(start, stop)]
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)


def users(splits):
    return {name: sorted(map(int, splits[name]["user"].to_pylist())) for name in NAMES}


def load(*args, **options):
    splits, schema = load_splits(*args, schema=SCHEMA, **options)
    assert schema == SCHEMA
    return users(splits)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_splits_given_by_file_folder_or_pattern(ending, tmp_path):
    write(tmp_path / f"part-1.{ending}", 0, 50)
    write(tmp_path / f"part-2.{ending}", 50, 100)
    write(tmp_path / f"val/a.{ending}", 100, 120)
    write(tmp_path / f"late.{ending}", 200, 240)
    expected = {"train": [*range(100)], "validation": [*range(100, 120)], "test": [*range(200, 240)]}
    rest = {"validation_file": tmp_path / "val", "test_file": [str(tmp_path / f"late.{ending}")]}
    for train in (
        str(tmp_path / f"part-*.{ending}"),
        [tmp_path / f"part-1.{ending}", tmp_path / f"part-2.{ending}"],
        [tmp_path / f"part-1.{ending}", str(tmp_path / f"*-2.{ending}")],
    ):
        assert load(train_file=train, **rest) == expected
        assert load(ending, train_file=train, **rest) == expected
    # without names of splits, all rows are split
    for data_path in (
        str(tmp_path / f"part-*.{ending}"),
        [tmp_path / f"part-1.{ending}", tmp_path / f"part-2.{ending}"],
    ):
        found = load(None, data_path)
        assert [len(found[name]) for name in NAMES] == [80, 10, 10]
        assert sorted(chain(*found.values())) == [*range(100)]


def test_splits_may_be_in_different_formats(tmp_path):
    write(tmp_path / "train.csv", 0, 50)
    write(tmp_path / "validation.jsonl", 50, 70)
    write(tmp_path / "test.parquet", 70, 90)
    expected = {"train": [*range(50)], "validation": [*range(50, 70)], "test": [*range(70, 90)]}
    files = {f"{name}_file": str(next(tmp_path.glob(f"{name}.*"))) for name in NAMES}
    assert load(**files) == load("csv", **files) == load(None, str(tmp_path)) == expected
    # a format is for names that tell none
    (tmp_path / "train.csv").rename(tmp_path / "train.txt")
    assert load("csv", **files | {"train_file": tmp_path / "train.txt"}) == expected
    stream = TableStream({name: [next(tmp_path.glob(f"{name}.*"))] for name in NAMES[:2]}, SCHEMA, "csv")
    assert [chunk.rows["user"].to_pylist() for chunk in stream.chunks()] == [
        list(map(str, expected[name])) for name in NAMES[:2]
    ]


@pytest.mark.parametrize(
    ("own", "way"),
    [
        *product(
            [("train", "test"), ("train", "validation"), NAMES],
            ["files", "folder", "subfolders", "pattern", "dataset"],
        ),
        *product([("train",)], ["files", "folder", "pattern", "dataset"]),
    ],
)
def test_own_splits_are_never_put_together(own, way, tmp_path, recwarn):
    rows = {"train": (0, 90), "validation": (90, 110), "test": (110, 140)}
    for name in own:
        write(tmp_path / (f"{name}/rows.csv" if way == "subfolders" else f"{name}.csv"), *rows[name])
    if way == "files":
        found = load(**{f"{name}_file": str(tmp_path / f"{name}.csv") for name in own})
    elif way == "dataset":
        found = load(f"{tmp_path}/")
    else:
        found = load("csv", str(tmp_path / "*.csv") if way == "pattern" else tmp_path)
    warned = [str(warning.message) for warning in recwarn if "held out" in str(warning.message)]
    if own == ("train",):
        assert [len(found[name]) for name in NAMES] == [72, 9, 9]
        # only files given as training rows say that they hold no others
        assert len(warned) == (way == "files")
        return
    for name in own[1:]:
        assert found[name] == [*range(*rows[name])]
    missing = [name for name in NAMES if name not in own]
    assert sorted(chain(*(found[name] for name in ["train", *missing]))) == [*range(90)]
    assert [len(found[name]) for name in missing] == [10] * len(missing)
    assert len(warned) == len(missing)
    assert all(
        f"no {name} split: of its 90 training rows, 10 for {name} are held out" in warned[0] for name in missing
    )


def test_a_cut_split_follows_the_arguments(tmp_path):
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "time": "user"})
    write(tmp_path / "a.csv", 0, 90)
    write(tmp_path / "b.csv", 100, 120)
    files = {"train_file": tmp_path / "a.csv", "test_file": tmp_path / "b.csv"}
    with pytest.warns(UserWarning, match=r"30 for validation are held out \(the latest\)"):
        splits, _ = load_splits(schema=schema, split="time", split_fractions=(0.5, 0.25, 0.25), **files)
    assert users(splits)["validation"] == [*range(60, 90)]
    with pytest.warns(UserWarning, match=r"held out \(by user\)"):
        splits, _ = load_splits(schema=schema, split="user", split_column="household", **files)
    # which the rows of the other splits need not have
    assert "household" not in splits["test"].column_names
    sides = [{row // 3 for row in users(splits)[name]} for name in ("train", "validation")]
    assert not sides[0] & sides[1]
    # a column beside the schema's is read for the split only where it is asked for
    message = r"`split_column` must be one of the columns of .*a\.csv, \['user', .*\], got 'home'"
    with pytest.raises(ValueError, match=message):
        load_splits(schema=schema, split="user", split_column="home", **files)


@pytest.mark.parametrize("names", [("a", "b"), ("train-1", "train-2"), ("trains", "contest")])
def test_other_names_are_parts_of_one_table(names, tmp_path):
    for n, name in enumerate(names):
        write(tmp_path / f"{name}.csv", 50 * n, 50 * (n + 1))
    for data_path in (tmp_path, str(tmp_path / "*.csv"), [tmp_path / f"{name}.csv" for name in names]):
        found = load("csv", data_path)
        assert [len(found[name]) for name in NAMES] == [80, 10, 10]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("test", "validation"), "split test and validation, such as .*, but none like the training split"),
        (("day-1", "test"), r"split test, such as test\.csv, but none like the training split"),
        (("train", "holdout"), r"split train, such as train\.csv, but none like another split"),
    ],
)
def test_files_named_like_a_split_that_are_parts_of_one_table_trigger_a_warning(names, message, tmp_path):
    for n, name in enumerate(names):
        write(tmp_path / f"{name}.csv", 50 * n, 50 * (n + 1))
    for data_path in (tmp_path, str(tmp_path / "*.csv")):
        with pytest.warns(UserWarning, match=f"{message}: all are read as one table, which is then split") as warned:
            found = load("csv", data_path)
        assert len(warned) == 1
        assert [len(found[name]) for name in NAMES] == [80, 10, 10]
    # files that are listed one by one are all wanted
    found = load("csv", [tmp_path / f"{name}.csv" for name in names])
    assert [len(found[name]) for name in NAMES] == [80, 10, 10]


def test_files_that_belong_to_no_split_are_named(tmp_path):
    for name in ("train", "test", "movies"):
        write(tmp_path / f"{name}.csv", 0, 90)
    with pytest.warns(UserWarning, match=r"belong to no split, which are not read: movies\.csv"):
        load("csv", tmp_path)
    # files that are listed one by one are all wanted
    found = load("csv", [tmp_path / "train.csv", tmp_path / "test.csv"])
    assert [len(found[name]) for name in NAMES] == [144, 18, 18]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"test_file": "a.csv"}, ValueError, "`train_file` must be given with `test_file`"),
        (
            {"train_file": "a.csv", "data_path": "b.csv"},
            ValueError,
            "`data_path` must be left out with `train_file`",
        ),
        (
            {"train_file": "a.csv", "dataset": "ml-1m"},
            ValueError,
            r"`train_file` must be left out unless `dataset` is",
        ),
        (
            {"train_file": ["a.csv", "b.csv"], "test_file": "*.csv"},
            ValueError,
            "`test_file` must have different files than",
        ),
        (
            {"train_file": "a.csv", "test_file": "no*.csv"},
            FileNotFoundError,
            "`test_file` must name files, folders or",
        ),
        ({"train_file": "a.txt"}, ValueError, r"`dataset` must name the data, .* a\.txt does not end in \.csv"),
        ({"data_path": "no-*"}, ValueError, r"`dataset` must name the data, .*got none\. There must be .* at no-\*\."),
        ({"data_path": ["a.csv", "b.csv"], "dataset": "ml-1m"}, ValueError, "must be a single path for ml-1m, got 2"),
        ({"dataset": "csv", "data_path": "none.csv"}, FileNotFoundError, "`data_path` must name files, folders or"),
        ({}, ValueError, "`dataset` must name the data"),
    ],
)
def test_wrong_files(options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", 0, 50)
    write(tmp_path / "b.csv", 50, 100)
    (tmp_path / "a.txt").touch()
    with pytest.raises(error, match=message):
        load_splits(schema=None if options.get("dataset") == "ml-1m" else SCHEMA, **options)


def test_a_wrong_label_is_found_in_its_split(tmp_path):
    write(tmp_path / "a.csv", 0, 50)
    (tmp_path / "b.csv").write_text("user,click\n1,0\n2,maybe\n")
    with pytest.raises(ValueError, match=r"got 'maybe' in row 1 of .*b\.csv, counted from 0"):
        load(train_file=tmp_path / "a.csv", test_file=tmp_path / "b.csv")


QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "32", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A folder with train.csv, of two parts, and test.csv, and their schema."""
    folder = tmp_path_factory.mktemp("tables")
    for seed, (name, size) in enumerate({"part-1": 100, "part-2": 80, "late": 40}.items()):
        pd.DataFrame(tiny_rows(size, seed)).to_csv(folder / f"{name}.csv", index=False)
    (folder / "schema.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(tiny_schema().to_dict()))))
    return folder


@pytest.mark.filterwarnings("ignore:The dataset has no validation split:UserWarning")
def test_the_commands_keep_own_splits(tables, tmp_path):
    files = ["--train_file", f"{tables}/part-*.csv", "--test_file", f"{tables}/late.csv"]
    schema = ["--schema", f"{tables}/schema.yaml"]
    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1", "--split_seed", "3"]
    pretrain.main([*files, *schema, *plm, *QUICK, "--output_dir", str(tmp_path / "pamlm")])
    record = ClickPromptConfig.from_pretrained(tmp_path / "pamlm").training_data
    assert record["own_splits"] == ["train", "test"]
    assert record["num_rows"] == {"train": 160, "validation": 20, "test": 40}
    assert (record["dataset"], record["split"], record["split_seed"]) == ("csv", "random", 3)
    assert record["split_fractions"] == [0.8, 0.1, 0.1]
    assert str(tables) not in json.dumps(record)

    finetuned = ["--model_name_or_path", str(tmp_path / "pamlm"), "--without_plm", *QUICK]
    finetune.main([*finetuned, *files, "--output_dir", str(tmp_path / "ctr")])
    assert ClickPromptConfig.from_pretrained(tmp_path / "ctr").training_data == record
    for other, message in (
        (["--data_path", f"{tables}/part-1.csv"], r"must have \['train', 'test'\] predefined splits, .* got none"),
        ([*files[:2], "--test_file", f"{tables}/part-1.csv"], "`test_file` must have different files"),
        ([*files, "--split", "user"], "`--split` must be 'random'"),
        ([*files, "--split_fractions", "0.6", "0.2", "0.2"], r"`--split_fractions` must be \[0.8, 0.1, 0.1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune.main([*finetuned, *other, "--output_dir", str(tmp_path / "other")])


def test_a_mistake_in_the_data_creates_no_output_folder(tables, tmp_path):
    data = ["--train_file", f"{tables}/part-1.csv", "--test_file", f"{tables}/none.csv"]
    with pytest.raises(FileNotFoundError, match="`test_file` must name files, folders or patterns"):
        finetune.main(
            [*data, "--schema", f"{tables}/schema.yaml", "--ctr_only", "--output_dir", str(tmp_path / "out")]
        )
    assert not (tmp_path / "out").exists()


def test_a_run_split_by_user_records_the_column(tables, tmp_path):
    data = ["--data_path", *(f"{tables}/{name}.csv" for name in ("part-1", "part-2", "late"))]
    data += ["--schema", f"{tables}/schema.yaml", "--split", "user"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        finetune.main([*data, "--ctr_only", *QUICK, "--output_dir", str(tmp_path / "run")])
    # of course the users of the test split are new
    assert not [str(warning.message) for warning in warned if "in column 'user'" in str(warning.message)]
    record = ClickPromptConfig.from_pretrained(tmp_path / "run").training_data
    assert (record["split"], record["split_column"], record["own_splits"]) == ("user", "user", [])
    assert sum(record["num_rows"].values()) == 220
    # resuming takes over the column, or refuses another one
    resumed = [*data, "--ctr_only", *QUICK, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "2"]
    with pytest.raises(ValueError, match="`--split_column` must be 'user', .* got 'title'"):
        finetune.main([*resumed, "--resume_from_checkpoint", "true", "--split_column", "title"])
    finetune.main([*resumed, "--resume_from_checkpoint", "true"])


def test_a_record_of_an_earlier_version_still_resumes(tables, tmp_path):
    data = ["--dataset", "csv", "--data_path", f"{tables}/part-1.csv", "--schema", f"{tables}/schema.yaml"]
    run = [*data, "--ctr_only", *QUICK, "--output_dir", str(tmp_path / "run")]
    finetune.main(run)
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    config = json.loads((checkpoint / "config.json").read_text())
    for name in ("own_splits", "split_column", "split_fractions"):
        del config["training_data"][name]
    (checkpoint / "config.json").write_text(json.dumps(config))
    finetune.main([*run, "--num_train_epochs", "2", "--resume_from_checkpoint", "true"])


def copies_of(num_rows, copies, seed):
    """Rows with labels that no field predicts, each several times."""
    rows = pd.DataFrame(tiny_rows(num_rows, seed))
    rows["title"] = [f"title {n}" for n in range(num_rows)]
    return pd.concat([rows] * copies, ignore_index=True)


@pytest.mark.parametrize(("copies", "warned"), [(4, True), (1, False)])
def test_copies_on_both_sides_trigger_a_warning(copies, warned, tables, tmp_path, monkeypatch):
    messages = []
    monkeypatch.setattr("clickprompt_hf.runs.preparation.logger.warning", messages.append)
    copies_of(100, copies, 5).to_csv(tmp_path / "rows.csv", index=False)
    data = ["--data_path", f"{tmp_path}/rows.csv", "--schema", f"{tables}/schema.yaml"]
    finetune.main([*data, "--ctr_only", *QUICK, "--output_dir", str(tmp_path / "run")])
    found = [message for message in messages if "equal a training row in all fields" in message]
    assert len(found) == warned
    if warned:
        assert "of the 40 test rows (" in found[0]
        assert "--split user" in found[0]
