"""Tables of users and items, joined to a log of ids: the same ids and tokens as a table joined by hand."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from tiny_data import tiny_bert_tokenizer
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptPipeline, ClickPromptProcessor, Schema
from clickprompt_hf.cluster.table_scorer import TableScorer, check_table
from clickprompt_hf.data import table_files
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.data.sources import load_source
from clickprompt_hf.data.streaming import table_stream, tokens
from clickprompt_hf.data.streaming.prepare import StreamedTable
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.data.table_files import needed_columns, read_table_files
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.runs import finetune, predict
from clickprompt_hf.runs.serve import load_engine
from clickprompt_hf.schema_clickprompt import CsvFormat, TableSchema
from clickprompt_hf.scoring import score_table
from clickprompt_hf.serving.service import _openapi
from clickprompt_hf.tables_clickprompt import JoinedTable, JoinedTables

NUM_ROWS = 400
FIELDS = [
    {"column": "user_id", "in_text": False},
    "user_age",
    {"column": "user_since", "kind": "weekday"},
    "item_id",
    "title",
    {"column": "tags", "kind": "multi_valued"},
    {"column": "price", "kind": "numeric"},
]
TABLES = [{"file": "users.{}", "key": "user_id", "prefix": "user_"}, {"file": "items/items.{}", "key": "item_id"}]
FIRST_DAY = datetime(2024, 1, 1, 12)


def made_tables():
    """A log, users and items; some rows of the log have no user, or an item that the table lacks."""
    draw = np.random.default_rng(0)
    users, items = draw.permutation(40).tolist(), [f"0{number}" for number in range(30)]
    log = {
        "user_id": [None if draw.random() < 0.1 else users[i] for i in draw.integers(30, size=NUM_ROWS)],
        "item_id": [[*items, "unknown item"][i] for i in draw.integers(31, size=NUM_ROWS)],
        "click": draw.integers(2, size=NUM_ROWS).tolist(),
    }
    of_users = {
        "user_id": users,
        "age": [None if draw.random() < 0.2 else f"{number % 7}0s" for number in range(40)],
        "since": [FIRST_DAY + timedelta(days=int(day)) for day in draw.integers(9, size=40)],
        "unused": [0] * 40,
    }
    of_items = {
        "item_id": items,
        "title": [f"The title {number % 20} of  a thing" for number in range(30)],
        "tags": [["a|b", "b", None, "c|a"][number % 4] for number in range(30)],
        "price": draw.normal(size=30).round(3).tolist(),
    }
    return log, of_users, of_items


def joined_by_hand(log, users, items):
    """The log with the columns of both tables, row by row."""
    of_user = {key: row for key, *row in zip(users["user_id"], users["age"], users["since"])}
    of_item = {key: row for key, *row in zip(items["item_id"], items["title"], items["tags"], items["price"])}
    user_rows = [of_user.get(key, [None] * 2) for key in log["user_id"]]
    item_rows = [of_item.get(key, [None] * 3) for key in log["item_id"]]
    names = ["user_age", "user_since", "title", "tags", "price"]
    return {**log, **dict(zip(names, map(list, zip(*(user + item for user, item in zip(user_rows, item_rows))))))}


def write(columns, path):
    path.parent.mkdir(exist_ok=True)
    table = pa.table(columns)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=70)


@pytest.fixture(params=["csv", "parquet"])
def paths(request, tmp_path):
    """A log with a schema that joins tables, and the same rows with a schema that does not."""
    ending, (log, users, items) = request.param, made_tables()
    write(log, tmp_path / f"log.{ending}")
    # the type of keys and the format differ from those of the log
    write(users, tmp_path / "users.parquet")
    write(items, tmp_path / "items" / f"items.{ending}")
    write(joined_by_hand(log, users, items), tmp_path / f"joined.{ending}")
    by_hand = {"fields": FIELDS, "label": "click"}
    tables = [{**table, "file": table["file"].format(kind)} for table, kind in zip(TABLES, ("parquet", ending))]
    (tmp_path / "by-hand.json").write_text(json.dumps(by_hand))
    (tmp_path / "schema.json").write_text(json.dumps({**by_hand, "tables": tables}))
    return (tmp_path / f"log.{ending}", tmp_path / "schema.json"), (
        tmp_path / f"joined.{ending}",
        tmp_path / "by-hand.json",
    )


def in_memory(data, schema, folder):
    splits, schema = load_splits(None, data, schema)
    processor = ClickPromptProcessor.fit(splits["train"], schema, tiny_bert_tokenizer())
    prepare_splits(splits, processor, folder)
    return load_prepared(folder)


def streamed(data, schema, folder):
    schema = load_schema(schema)
    with StreamedTable(TableStream({"": [data]}, schema), schema, folder.with_name("spill")) as rows:
        rows.split("random", 1)
        processor = rows.fit()
        processor.tokenizer = tiny_bert_tokenizer()
        rows.write(processor, folder)
    return load_prepared(folder)


@pytest.mark.parametrize("way", [in_memory, streamed])
def test_rows_are_those_of_a_table_joined_by_hand(way, paths, tmp_path, monkeypatch):
    monkeypatch.setattr(table_stream, "ROWS_PER_CHUNK", 64)
    monkeypatch.setattr(tokens, "ROWS_PER_CHUNK", 64)
    monkeypatch.setattr(table_files, "_PARQUET_ROWS", 50)
    found, processor = way(*paths[0], tmp_path / "found")
    expected, by_hand = way(*paths[1], tmp_path / "expected")
    assert processor.fingerprint == by_hand.fingerprint
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(found[split].feature_ids, expected[split].feature_ids)
        np.testing.assert_array_equal(found[split].labels, expected[split].labels)
        rows = list(range(len(found[split])))
        (batch,), (batch_by_hand,) = found[split].__getitems__(rows), expected[split].__getitems__(rows)
        assert "input_ids" in batch
        for name, array in batch.items():
            np.testing.assert_array_equal(array, batch_by_hand[name])
    # keys without a row in their table are missing cells
    assert "" in processor.vocabularies[4]
    assert len(processor.vocabularies[4]) == 21


def model_for(processor):
    torch.manual_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    config = ClickPromptConfig(ctr_config=tiny_ctr_config("fm", **sizes), fusion="ctr")
    return ClickPromptForCTR(config).eval()


@pytest.mark.parametrize("paths", ["parquet"], indirect=True)
def test_rows_are_joined_when_they_are_scored(paths, tmp_path):
    (log_path, schema_path), _ = paths
    splits, schema = load_splits(None, log_path, schema_path)
    ClickPromptProcessor.fit(splits["train"], schema).save_pretrained(tmp_path / "model")
    model = model_for(ClickPromptProcessor.from_pretrained(tmp_path / "model"))
    model.save_pretrained(tmp_path / "model")
    # the tables of training are not needed any more
    (tmp_path / "users.parquet").unlink()
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "model")

    log, joined = made_tables()[0], joined_by_hand(*made_tables())
    del log["click"]
    ids = processor(joined)["feature_ids"]
    assert processor(log)["feature_ids"] == ids
    rows = [dict(zip(log, row)) for row in zip(*log.values())]
    assert processor(rows)["feature_ids"] == ids
    assert processor(pa.table(log))["feature_ids"] == ids
    assert processor(rows[7])["feature_ids"] == [ids[7]]
    # columns of the rows themselves count first
    own = {**rows[7], "title": "The title 3 of a thing"}
    assert processor(own)["feature_ids"] == processor({**{n: joined[n][7] for n in joined}, **own})["feature_ids"]
    with pytest.raises(ValueError, match=r"missing \['item_id'\], given \['user_id'\]"):
        processor([{"user_id": 1}])

    expected = score_table(pa.table(joined), processor, model, 64)
    np.testing.assert_array_equal(score_table(pa.table(log), processor, model, 64), expected)
    pipe = ClickPromptPipeline(model, processor, device="cpu")
    for inputs in (rows, log, pa.table(log)):
        scores = [score["click_probability"] for score in pipe(inputs)]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    assert pipe(rows[7])["click_probability"] == pytest.approx(expected[7], abs=1e-6)

    export_ctr(tmp_path / "model", tmp_path / "served")
    np.testing.assert_allclose(Scorer(tmp_path / "served").score(rows), expected, rtol=0, atol=1e-6)
    for model_folder in ("model", "served"):
        check_table(tmp_path / model_folder, dict.fromkeys(log, False), "score")
        check_table(tmp_path / model_folder, dict.fromkeys(joined, False), "score")
        for given, missing in ((log, "user_id"), (log, "item_id"), (joined, "item_id")):
            lacking = {name: False for name in given if name != missing}
            with pytest.raises(ValueError, match=rf"The table must have the columns .* missing \['{missing}'\]"):
                check_table(tmp_path / model_folder, lacking, "score")
        with pytest.raises(ValueError, match=r"missing \['item_id'\]"):
            check_table(tmp_path / model_folder, {"user_id": False}, "score")
        scores = TableScorer(tmp_path / model_folder).score(pa.table({**log, "unread": [0] * NUM_ROWS}))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    engine = load_engine(str(tmp_path / "served"))
    required = _openapi(engine)["requestBody"]["content"]["application/json"]["schema"]["oneOf"][1]
    assert required["required"] == ["user_id", "item_id"]
    assert required["properties"]["title"]["description"].endswith("By default, it is looked up by item_id.")

    pq.write_table(pa.table(log), tmp_path / "new.parquet")
    arguments = ["--model", str(tmp_path / "model"), "--input", str(tmp_path / "new.parquet")]
    with pytest.warns(UserWarning, match=r"have a key in column 'item_id' that the table .* such as 'unknown item'"):
        predict.main([*arguments, "--output", str(tmp_path / "scores.parquet"), "--piece_rows", "150"])
    scored = pq.read_table(tmp_path / "scores.parquet")
    assert scored.column_names == ["user_id", "item_id", "click_probability"]
    np.testing.assert_allclose(scored.column("click_probability").to_numpy(), expected, rtol=0, atol=1e-6)


def test_datasets_are_joined(tmp_path):
    """What `datasets` reads, a format of its own or a saved dataset, is joined as files are."""
    log, users, items = made_tables()
    write(users, tmp_path / "users.parquet")
    write(items, tmp_path / "items" / "items.parquet")
    tables = [TableSchema(**{**table, "file": str(tmp_path / table["file"].format("parquet"))}) for table in TABLES]
    schema = Schema.from_dict({"fields": FIELDS, "label": "click"})
    expected = pa.table(joined_by_hand(log, users, items)).select(list(needed_columns(schema)))
    schema = replace(schema, tables=tables)
    rows = datasets.Dataset.from_dict({"unused": [0] * NUM_ROWS, **log})
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": rows, "test": rows.select([3, 1])}).save_to_disk(tmp_path / "splits")
    (tmp_path / "json").mkdir()
    rows.to_json(tmp_path / "json" / "rows.json")
    for name in ("saved", "json"):
        table = load_source(str(tmp_path / name), schema=schema).table
        assert table.to_pylist() == expected.to_pylist(), name
    splits = load_source(str(tmp_path / "splits"), schema=schema).table
    assert splits["train"].to_pylist() == expected.to_pylist()
    assert splits["test"].to_pylist() == expected.take([3, 1]).to_pylist()

    rows.remove_columns("item_id").save_to_disk(tmp_path / "keyless")
    with pytest.raises(
        ValueError, match=r"keyless must have the column 'item_id', by which .*items\.parquet is joined"
    ):
        load_source(str(tmp_path / "keyless"), schema=schema)


def test_saved_times_are_read_as_in_training(tmp_path):
    """A field's `time_format` is for strings; the times of a typed column are read without it."""
    days = [FIRST_DAY + timedelta(days=day) for day in range(3)]
    fields = ["user_id", {"column": "since", "kind": "weekday", "time_format": "%d.%m.%Y"}]
    rows = {"user_id": [1, 2, 3], "since": days, "click": [0, 1, 0]}
    processor = ClickPromptProcessor.fit(rows, Schema.from_dict({"fields": fields, "label": "click"}))
    table = JoinedTable("user_id", ["1", "2", "3"], {"since": days, "tags": [["a"], None, ["b", "c"]]})
    JoinedTables([table]).write(tmp_path / "tables.jsonl")
    processor.tables = JoinedTables.read(tmp_path / "tables.jsonl")
    assert processor({"user_id": [1, 2, 3]})["feature_ids"] == processor(rows)["feature_ids"]
    assert processor.tables.tables[0].columns["tags"] == (["a"], None, ["b", "c"])


@pytest.mark.parametrize("midnights", ["all", "some"])
def test_days_of_a_saved_table_are_scored(midnights, tmp_path):
    days = [datetime(2024, 1, day) for day in (29, 30, 31)]
    if midnights == "some":
        days[1] += timedelta(hours=13)
    rows = {"user_id": [1, 2, 3, 4], "since": [*days, None], "click": [0, 1, 0, 1]}
    schema = Schema.from_dict({"fields": ["user_id", "since"], "label": "click"})
    processor = ClickPromptProcessor.fit(rows, schema)
    JoinedTables([JoinedTable("user_id", ["1", "2", "3"], {"since": days})]).write(tmp_path / "tables.jsonl")
    processor.tables = JoinedTables.read(tmp_path / "tables.jsonl")
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=[1, 1])
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr")).eval()
    by_hand = score_table(pa.table(rows), processor, model, 8)
    np.testing.assert_array_equal(score_table(pa.table({"user_id": [1, 2, 3, 4]}), processor, model, 8), by_hand)


def test_cells_of_every_type_are_joined_when_rows_are_scored(tmp_path):
    """Maps, lists of days, and times and durations with nanoseconds: fresh and saved, row by row and as a table."""
    weights = pa.map_(pa.string(), pa.float64())
    users = {
        "user_id": pa.array([1, 2, 3]),
        "topics": pa.array([[("a", 0.1), ("b", 0.9)], [("b", 1.0)], None], weights),
        "visits": pa.array([[FIRST_DAY.date(), None], [], [FIRST_DAY.date()]], pa.list_(pa.date32())),
        "since": pa.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_002, None], pa.timestamp("ns")),
        "spent": pa.array([1, 2, None], pa.duration("ns")),
    }
    kinds = {"topics": {"kind": "multi_valued", "max_values": 1}, "visits": {"kind": "multi_valued"}}
    fields = [{"column": name, **kinds.get(name, {})} for name in users]
    pq.write_table(pa.table(users), tmp_path / "users.parquet")
    log = {"user_id": [1, 2, 3, 9], "click": [0, 1, 0, 1]}
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    tables = [{"file": str(tmp_path / "users.parquet"), "key": "user_id"}]
    schema = Schema.from_dict({"fields": fields, "label": "click", "tables": tables})
    read = read_table_files(tmp_path / "log.parquet", schema)
    processor = ClickPromptProcessor.fit(read, schema)
    processor.save_pretrained(tmp_path / "processor")
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr")).eval()
    expected, by_hand = processor(read)["feature_ids"], score_table(read, processor, model, 8)
    # the heaviest topic, and nanoseconds that differ
    assert [ids[1] for ids in expected] == [processor.vocabularies[1].index(key) + 1 for key in ("b", "b", "", "")]
    assert len({ids[-1] for ids in expected}) == len({ids[-2] for ids in expected}) == 3
    for scoring in (processor, ClickPromptProcessor.from_pretrained(tmp_path / "processor")):
        assert scoring({"user_id": log["user_id"]})["feature_ids"] == expected
        np.testing.assert_array_equal(score_table(pa.table({"user_id": log["user_id"]}), scoring, model, 8), by_hand)


def test_large_unsigned_cells_are_joined(tmp_path):
    hashes = [2**63 + 5, 7, 2**64 - 1]
    rows = {"user_id": [1, 2, 3], "hash": pa.array(hashes, pa.uint64()), "click": [0, 1, 0]}
    schema = Schema.from_dict({"fields": ["user_id", "hash"], "label": "click"})
    processor = ClickPromptProcessor.fit(pa.table(rows), schema)
    processor.tables = JoinedTables([JoinedTable("user_id", ["1", "2", "3"], {"hash": hashes})])
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=[1, 1])
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr")).eval()
    by_hand = score_table(pa.table(rows), processor, model, 8)
    np.testing.assert_array_equal(score_table(pa.table({"user_id": [1, 2, 3]}), processor, model, 8), by_hand)


def test_each_row_of_a_list_is_joined_by_itself():
    """A row keeps the cells that it brings, whatever other rows of its batch lack."""
    schema = Schema.from_dict({"fields": ["user_id", "age", "item_id"], "label": "click"})
    rows = {"user_id": [1, 2], "age": [10, 20], "item_id": [5, 6], "click": [0, 1]}
    processor = ClickPromptProcessor.fit(rows, schema)
    processor.tables = JoinedTables([JoinedTable("user_id", ["1", "2"], {"age": [10, 20]})])
    joined, brought = {"user_id": 1, "item_id": 5}, {"user_id": 99, "age": 20, "item_id": 5}
    without_key = {"age": 20, "item_id": 6}
    expected = {name: processor([row])["feature_ids"][0] for name, row in (("joined", joined), ("brought", brought))}
    assert expected["joined"][1] == processor({"user_id": 1, "age": 10, "item_id": 5})["feature_ids"][0][1]
    for batch, names in (([joined, brought], ("joined", "brought")), ([brought, joined], ("brought", "joined"))):
        np.testing.assert_array_equal(processor(batch)["feature_ids"], [expected[name] for name in names])
    with pytest.raises(ValueError, match=r"Row 1 must have the columns \['user_id'\]; missing \['user_id'\]"):
        processor([joined, {"item_id": 5}])
    # the key itself is a field here
    with pytest.raises(ValueError, match="Row 1 must have the columns"):
        processor([joined, without_key])


@pytest.mark.parametrize("paths", ["csv"], indirect=True)
def test_finetune_trains_on_a_log(paths, tmp_path):
    (log_path, schema_path), _ = paths
    arguments = ["--data_path", str(log_path), "--schema", str(schema_path), "--output_dir", str(tmp_path / "out")]
    arguments += ["--ctr_only", "--backbone", "fm", "--num_train_epochs", "1", "--report_to", "none"]
    arguments += ["--report_plots", "false", "--disable_tqdm", "true", "--prepared", str(tmp_path / "kept")]
    finetune.main(arguments)
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "out")
    assert processor.tables.keys == {
        "user_age": "user_id",
        "user_since": "user_id",
        "title": "item_id",
        "tags": "item_id",
        "price": "item_id",
    }
    # a run from the checkpoint saves what it has read, here prices in the same buckets
    items = dict(made_tables()[2])
    items["price"] = [None if price is None else price + 1e-9 for price in items["price"]]
    write(items, schema_path.parent / "items" / f"items{log_path.suffix}")
    again = ["--model_name_or_path", str(tmp_path / "out"), "--without_plm", *arguments[:2]]
    finetune.main([*again, "--output_dir", str(tmp_path / "again"), *arguments[9:15]])
    kept = ClickPromptProcessor.from_pretrained(tmp_path / "again").tables.tables[1].columns["price"]
    assert [None if price is None else float(price) for price in kept] == items["price"]
    # another table makes other rows
    items["title"] = ["another"] * len(items["title"])
    write(items, schema_path.parent / "items" / f"items{log_path.suffix}")
    with pytest.raises(ValueError, match="with a different state of the joined tables"):
        finetune.main([*arguments[:4], "--output_dir", str(tmp_path / "more"), *arguments[6:]])


def small(folder, log=None, users=None, tables=None):
    """Files of a small log and table, and its schema."""
    write(log or {"user_id": [1, 2], "click": [0, 1]}, folder / "log.parquet")
    write(users or {"user_id": [1, 2], "age": [30, 40]}, folder / "users.parquet")
    described = tables or [{"file": str(folder / "users.parquet"), "key": "user_id"}]
    return Schema.from_dict({"fields": ["user_id", "age"], "label": "click", "tables": described})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"users": {"user_id": ["1", "2", " 1 "], "age": [1, 2, 3]}}, ValueError, "once; rows 0 and 2 both have '1'"),
        ({"users": {"user_id": [1, None], "age": [1, 2]}}, ValueError, r"users\.parquet must have .* row 1 has none"),
        (
            {"users": {"id": [1], "age": [1]}},
            ValueError,
            r"users\.parquet must have the column 'user_id' once, the `k",
        ),
        (
            {"users": {"user_id": [1], "name": ["a"]}},
            ValueError,
            r"log\.parquet must have the column 'age', a field of the schema; it has",
        ),
        (
            {"log": {"user": [1], "click": [1]}},
            ValueError,
            r"the column 'user_id', by which .*users\.parquet is joined; .* If the table names it otherwise",
        ),
        ({"log": {"user_id": [[1]], "click": [1]}}, ValueError, "one key per row .* cells of type list<"),
        ({"tables": [{"file": "none.csv", "key": "user_id"}]}, FileNotFoundError, r"`file` of one of .* at none\.csv"),
    ],
)
@pytest.mark.parametrize("read", [read_table_files, lambda path, schema: TableStream({"": [path]}, schema)])
def test_mistakes_in_tables_are_named(given, error, message, read, tmp_path):
    schema = small(tmp_path, **given)
    with pytest.raises(error, match=message):
        read(tmp_path / "log.parquet", schema)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["u1", "u2", None, "u1"],
            r"100% of 3 rows have a key in column 'user_id' that is not in .*users\.parquet, ",
        ),
        (["1", "u2", "u3", None], r"67% of 3 rows .*, such as 'u2', so .*has keys such as '1'\."),
        (["1", "u2", "2", "u1"], None),
        # missing keys are not counted
        (["1", "", " NA ", None], None),
        ([None] * 4, None),
    ],
)
@pytest.mark.parametrize(
    "read", [read_table_files, lambda path, schema: list(TableStream({"": [path]}, schema).chunks())]
)
def test_keys_that_a_table_lacks_are_reported(read, keys, message, tmp_path, recwarn):
    schema = small(
        tmp_path, log={"user_id": keys, "click": [0, 1, 1, 0]}, users={"user_id": ["1", "2"], "age": [3, 4]}
    )
    read(tmp_path / "log.parquet", schema)
    told = [str(warning.message) for warning in recwarn if "have a key" in str(warning.message)]
    assert len(told) == (message is not None)
    assert message is None or re.match(message, told[0])


def test_a_table_may_be_written_otherwise_than_its_log(tmp_path):
    """Each file has its own dialect, and the key its own name."""
    (tmp_path / "log.csv").write_text("user_id;age_of_day;click\n1;1,5;0\n2;2,5;1\n")
    (tmp_path / "users.csv").write_text("id,age\n1,30.5\n2,1000.25\n")
    described = {"file": str(tmp_path / "users.csv"), "key": "user_id", "prefix": "user_", "key_in_table": "id"}
    fields = [{"column": name, "kind": "numeric"} for name in ("age_of_day", "user_age")]
    content = {"fields": fields, "label": "click", "csv": {"delimiter": ";", "decimal": ","}}
    schema = Schema.from_dict({**content, "tables": [{**described, "csv": {}}]})
    assert Schema.from_dict(schema.to_dict()) == schema
    rows = read_table_files(tmp_path / "log.csv", schema).to_pydict()
    assert (rows["age_of_day"], rows["user_age"]) == (["1.5", "2.5"], ["30.5", "1000.25"])
    processor = ClickPromptProcessor.fit(read_table_files(tmp_path / "log.csv", schema), schema)
    processor.save_pretrained(tmp_path / "processor")
    loaded = ClickPromptProcessor.from_pretrained(tmp_path / "processor")
    assert loaded.columns({"user_id": [2], "age_of_day": [1]})["user_age"] == ["1000.25"]
    (tmp_path / "newer.csv").write_text("id,age\n3,7.5\n")
    loaded.refresh_table(tmp_path / "newer.csv", "user_id")
    assert loaded.columns({"user_id": [3], "age_of_day": [1]})["user_age"] == ["7.5"]
    (tmp_path / "newer.csv").write_text("nr,age\n3,8.5\n")
    loaded.refresh_table(tmp_path / "newer.csv", "user_id", key_in_table="nr")
    assert loaded.columns({"user_id": [3], "age_of_day": [1]})["user_age"] == ["8.5"]
    # without a dialect of its own, a table is read like the log
    schema = Schema.from_dict({**content, "tables": [described]})
    with pytest.raises(ValueError, match=r"the column 'id' once, .* not written like its log needs a `csv` part"):
        read_table_files(tmp_path / "log.csv", schema)


def test_a_log_without_a_header_has_tables_with_one(tmp_path):
    (tmp_path / "log.csv").write_text("1;0\n2;1\n")
    (tmp_path / "users.csv").write_text("user_id;age\n1;30\n2;40\n")
    schema = small(tmp_path, tables=[{"file": str(tmp_path / "users.csv"), "key": "user_id"}])
    schema = replace(schema, csv=CsvFormat(delimiter=";", column_names=("user_id", "click")))
    assert read_table_files(tmp_path / "log.csv", schema)["age"].to_pylist() == ["30", "40"]


def test_two_tables_with_one_column_need_a_prefix(tmp_path):
    described = {"file": str(tmp_path / "users.parquet"), "key": "user_id"}
    schema = small(tmp_path, tables=[described, described])
    with pytest.raises(ValueError, match=r"Only one of the `tables` .* may have the column 'age', .* a `prefix`"):
        read_table_files(tmp_path / "log.parquet", schema)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("users.csv", "`tables` of a schema must be a list"),
        ([{"file": "users.csv"}], r"Missing keys in a table of a schema: \['key'\]"),
        ([{"file": "users.csv", "key": 3}], "`key` of one of the `tables` of a schema must be a string, got 3"),
        ([{"file": "u", "key": "k", "key_in_table": ""}], "`key_in_table` of one of the `tables` .* a string, got ''"),
        (
            [{"file": "u", "key": "k", "csv": ";"}],
            "`csv` of one of the `tables` of a schema must be a mapping, got ';'",
        ),
        ([{"file": "u", "key": "k", "csv": {"sep": ";"}}], r"Unknown keys in a `csv` part of a table: \['sep'\]"),
        ([{"file": "u", "key": "k", "on": "x"}], r"Unknown keys in a table of a schema: \['on'\]"),
    ],
)
def test_wrong_tables_in_a_schema_are_refused(tables, message):
    with pytest.raises(ValueError, match=message):
        Schema.from_dict({"fields": ["user_id"], "label": "click", "tables": tables})


def test_damaged_tables_are_named(tmp_path):
    schema = small(tmp_path)
    processor = ClickPromptProcessor.fit(read_table_files(tmp_path / "log.parquet", schema), schema)
    processor.save_pretrained(tmp_path / "processor")
    path = tmp_path / "processor" / "joined_tables.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(OSError, match=r"joined_tables\.jsonl must hold the joined tables as they were saved"):
        ClickPromptProcessor.from_pretrained(tmp_path / "processor")
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(OSError, match=r"joined_tables\.jsonl must hold the joined tables as they were saved"):
        check_table(tmp_path / "processor", {"user_id": False}, "score")
    path.unlink()
    # rows with all columns need no tables
    loaded = ClickPromptProcessor.from_pretrained(tmp_path / "processor")
    check_table(tmp_path / "processor", {"user_id": False, "age": False}, "score")
    with pytest.raises(ValueError, match=r"missing \['age'\]"):
        check_table(tmp_path / "processor", {"user_id": False}, "score")
    assert loaded({"user_id": [1], "age": [30]})["feature_ids"] == processor({"user_id": [1]})["feature_ids"]
