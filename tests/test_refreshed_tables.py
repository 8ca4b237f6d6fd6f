"""Newer tables of users and items in place of those saved with a model, without training."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, Schema
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.runs import predict, serve
from clickprompt_hf.runs.joined_files import refresh_tables
from clickprompt_hf.scoring import checkpoint_digest, file_scoring

FIRST_DAY = datetime(2024, 1, 1, 12)
LOG = {"user_id": [1, 2, 3, 4] * 5, "item_id": ["a", "b", "c", "a", "b"] * 4, "click": [0, 1] * 10}
USERS = {
    "user_id": [1, 2, 3, 4],
    "age": ["20s", "30s", None, "20s"],
    "since": [FIRST_DAY + timedelta(days=day) for day in range(4)],
}
ITEMS = "item_id;title;price\na;Up;1,5\nb;Heat;2,5\nc;Noir;\n"
FIELDS = [
    {"column": "item_id", "in_text": False},
    "user_age",
    {"column": "user_since", "kind": "weekday"},
    "title",
    {"column": "price", "kind": "numeric", "num_buckets": 3},
]


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that joins users from Parquet and items from a CSV file with decimal commas."""
    pq.write_table(pa.table(LOG), tmp_path / "log.parquet")
    pq.write_table(pa.table(USERS), tmp_path / "users.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    tables = [
        {"file": str(tmp_path / "users.parquet"), "key": "user_id", "prefix": "user_"},
        {"file": str(tmp_path / "items.csv"), "key": "item_id"},
    ]
    schema = {"fields": FIELDS, "label": "click", "tables": tables, "csv": {"delimiter": ";", "decimal": ","}}
    schema = Schema.from_dict(schema)
    processor = ClickPromptProcessor.fit(read_table_files(tmp_path / "log.parquet", schema), schema)
    processor.save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    ctr = tiny_ctr_config("fm", field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr", initializer_range=0.5))
    model.save_pretrained(tmp_path / "model")
    rows = {"user_id": [1, 2, 9, 4] * 5, "item_id": ["a", "b", "c", "new"] * 5}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    return tmp_path


def scores(folder, *joins, output="scores.parquet"):
    arguments = ["--model", str(folder / "model"), "--input", str(folder / "rows.parquet"), "--piece_rows", "8"]
    predict.main(
        [*arguments, "--output", str(folder / output), *(part for join in joins for part in ("--join", *join))]
    )
    return pq.read_table(folder / output)["click_probability"].to_numpy()


@pytest.mark.filterwarnings("ignore:.*have a key in column")
def test_an_identical_table_scores_the_same_bits(folder):
    expected = scores(folder)
    joins = (str(folder / "users.parquet"), "user_id"), (str(folder / "items.csv"), "item_id")
    np.testing.assert_array_equal(scores(folder, *joins), expected)
    saved, fresh = (ClickPromptProcessor.from_pretrained(folder / "model") for _ in range(2))
    refresh_tables(joins, fresh)
    assert list(fresh.tables.lines()) == list(saved.tables.lines())


@pytest.mark.filterwarnings("ignore:.*have a key in column 'user_id'")
def test_new_keys_get_the_values_of_the_new_file(folder):
    (folder / "newer.csv").write_text(ITEMS.replace("Noir;", "Noir;1,5").replace("a;Up", "a;Heat") + "new;Up;2,5\n")
    found = scores(folder, (str(folder / "newer.csv"), "item_id"))
    processor = ClickPromptProcessor.from_pretrained(folder / "model")
    processor.refresh_table(folder / "newer.csv", "item_id")
    rows = {"user_id": [1, 2, 9, 4], "item_id": ["a", "b", "c", "new"]}
    by_hand = {**rows, "title": ["Heat", "Heat", "Noir", "Up"], "price": [1.5, 2.5, 1.5, 2.5]}
    saved = ClickPromptProcessor.from_pretrained(folder / "model")
    ids = saved(by_hand)["feature_ids"]
    assert processor(rows)["feature_ids"] == ids != saved(rows)["feature_ids"]
    model = ClickPromptForCTR.from_pretrained(folder / "model").eval()
    with torch.no_grad():
        expected = model(feature_ids=torch.tensor(ids * 5)).logits.sigmoid().squeeze(-1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    # saving keeps what was refreshed, and the users, which stay
    processor.save_pretrained(folder / "refreshed")
    assert ClickPromptProcessor.from_pretrained(folder / "refreshed")(rows)["feature_ids"] == ids


@pytest.mark.filterwarnings("ignore:.*have a key in column")
def test_the_key_may_have_another_name_in_the_new_file(folder):
    expected = scores(folder)
    (folder / "renamed.csv").write_text(ITEMS.replace("item_id", "id"))
    np.testing.assert_array_equal(scores(folder, (str(folder / "renamed.csv"), "item_id=id")), expected)
    with pytest.raises(ValueError, match="`key_in_table` of one of the `tables` of a schema must be a string"):
        scores(folder, (str(folder / "renamed.csv"), "item_id="))


def test_a_server_joins_newer_tables(folder):
    (folder / "newer.csv").write_text(ITEMS + "new;Up;2,5\n")
    export_ctr(folder / "model", folder / "served")
    row = {"user_id": 1, "item_id": "new"}
    for name in ("served", "model"):
        engine = serve.load_engine(str(folder / name))
        brought, lost = engine.encoder.columns([{**row, "title": "Up", "price": 2.5}]), engine.encoder.columns([row])
        assert lost["title"] == [None]
        refresh_tables([[str(folder / "newer.csv"), "item_id"]], engine.encoder)
        found = engine.encoder.columns([row])
        assert engine.encoder.encode(found).tolist() == engine.encoder.encode(brought).tolist()


@pytest.mark.filterwarnings("ignore:.*have a key in column")
def test_pieces_scored_with_another_table_are_not_resumed(folder, monkeypatch):
    (folder / "newer.csv").write_text(ITEMS + "new;Up;2,5\n")
    newer = (str(folder / "newer.csv"), "item_id")
    expected = scores(folder, newer, output="whole.parquet")

    def failing(table, *arguments, _score=file_scoring.score_table, **options):
        if arguments[4] >= 8:
            raise KeyboardInterrupt
        return _score(table, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(file_scoring, "score_table", failing)
        with pytest.raises(KeyboardInterrupt):
            scores(folder, newer)
    with pytest.raises(ValueError, match="cannot be resumed: checkpoint with its joined tables was .*, is "):
        scores(folder)
    np.testing.assert_array_equal(scores(folder, newer), expected)
    processor, other = (ClickPromptProcessor.from_pretrained(folder / "model") for _ in range(2))
    model = ClickPromptForCTR.from_pretrained(folder / "model")
    other.refresh_table(folder / "newer.csv", "item_id")
    assert checkpoint_digest(model, processor) != checkpoint_digest(model, other)


@pytest.mark.parametrize(
    ("text", "join", "error", "message"),
    [
        ("item_id;title\na;Up\n", ["item_id"], ValueError, r"newer\.csv must have .*missing \['price'\]"),
        ("id;title;price\na;Up;1\n", ["item_id"], ValueError, r"newer\.csv must have the column .item_id. once"),
        ("item_id,title,price\na,Up,1\n", ["item_id"], ValueError, "once, .* needs a `csv` part of its own"),
        (ITEMS + "a;Up;1\n", ["item_id"], ValueError, "rows 0 and 3 both have 'a'"),
        (ITEMS, ["title"], ValueError, r"must be one by which .*, \['user_id', 'item_id'\], got 'title'"),
        (ITEMS, ["item_id", "item_"], ValueError, r"prefix of the table .* must be one of \[''\], got 'item_'"),
        (None, ["item_id"], FileNotFoundError, r"join by 'item_id' must be a file, but there is none at "),
        (ITEMS, [], ValueError, "--join must have a file, a key and perhaps a prefix"),
    ],
)
def test_files_that_cannot_replace_a_table_are_refused(text, join, error, message, folder):
    if text is not None:
        (folder / "newer.csv").write_text(text)
    with pytest.raises(error, match=message):
        scores(folder, [str(folder / "newer.csv"), *join])
    assert not (folder / "scores.parquet").exists()


def test_a_model_without_tables_has_none_to_replace(folder):
    schema = Schema.from_dict({"fields": ["item_id"], "label": "click"})
    processor = ClickPromptProcessor.fit(LOG, schema)
    with pytest.raises(ValueError, match="No tables are saved with the model"):
        processor.refresh_table(folder / "items.csv", "item_id")


def test_a_prefix_tells_tables_of_one_key_apart(tmp_path):
    pq.write_table(pa.table(LOG), tmp_path / "log.parquet")
    for name, ages in (("users", ["20s", "30s", "40s", "50s"]), ("parents", ["60s", "70s", "80s", "90s"])):
        pq.write_table(pa.table({"user_id": [1, 2, 3, 4], "age": ages}), tmp_path / f"{name}.parquet")
    tables = [
        {"file": str(tmp_path / "users.parquet"), "key": "user_id"},
        {"file": str(tmp_path / "parents.parquet"), "key": "user_id", "prefix": "parents_"},
    ]
    schema = Schema.from_dict({"fields": ["age", "parents_age"], "label": "click", "tables": tables})
    processor = ClickPromptProcessor.fit(read_table_files(tmp_path / "log.parquet", schema), schema)
    pq.write_table(pa.table({"user_id": [5], "age": ["60s"]}), tmp_path / "newer.parquet")
    with pytest.raises(ValueError, match=r"joins 2 tables by 'user_id'.* one of \['', 'parents_'\]"):
        processor.refresh_table(tmp_path / "newer.parquet", "user_id")
    processor.refresh_table(tmp_path / "newer.parquet", "user_id", "parents_")
    assert processor.columns({"user_id": [1, 5]})["age"] == ["20s", None]
    assert processor.columns({"user_id": [1, 5]})["parents_age"] == [None, "60s"]


def test_a_table_that_is_not_looked_up_is_reported(folder, caplog):
    rows = {"user_id": [1], "item_id": ["a"], "title": ["Up"], "price": ["1.5"]}
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    scores(folder, (str(folder / "items.csv"), "item_id"), (str(folder / "users.parquet"), "user_id"))
    told = [record.getMessage() for record in caplog.records if "--join" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"--join {folder / 'items.csv'} item_id has no effect: ")
