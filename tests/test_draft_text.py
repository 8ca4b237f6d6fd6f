"""Drafted schemas: which fields they keep out of the text, and how much text they say is left."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tiny_data import tiny_bert_tokenizer
from transformers import BertConfig

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.drafting.column_kinds import profile_column
from clickprompt_hf.drafting.text_estimate import TextEstimate, estimate_text
from clickprompt_hf.runs.draft_schema import draft_schema, main


def drafted(columns: dict, folder, **options) -> tuple[str, Schema]:
    """The draft for a table with these columns, cut to 200 rows, and a label."""
    frame = pd.DataFrame({**{name: list(values)[:200] for name, values in columns.items()}, "click": [0, 1] * 100})
    frame.to_csv(folder / "table.csv", index=False)
    text = draft_schema(folder / "table.csv", **options)
    (folder / "schema.yaml").write_text(text, encoding="utf-8")
    return text, load_schema(folder / "schema.yaml")


NUMBERS = np.random.default_rng(0).integers(0, 70, 200).tolist()
COLORS = ["red", "dark blue", "green", "sky blue"]


@pytest.mark.parametrize(
    ("column", "values", "is_code"),
    [
        ("user_id", [f"{n * 7919:x}-9e{n:02}" for n in NUMBERS], True),
        ("userId", NUMBERS, True),
        # few of them, but named so
        ("store_id", [n % 5 for n in NUMBERS], True),
        ("zip", [f"{n:05d}" for n in NUMBERS], True),
        ("history_ids", ["|".join(f"item_{m}" for m in (n, n + 1, n + 2)) for n in NUMBERS], True),
        ("history", [f"{n},{n + 1},{n + 5}" if n % 3 else f"{n},7" for n in NUMBERS], True),
        # codes by their looks
        ("asset", [f"B00{n}XK" for n in NUMBERS], True),
        ("asset", [f"dev_{n}" for n in NUMBERS], True),
        # most of them
        ("asset", [f"B00{n}XK" if n % 15 else "unknown device" for n in NUMBERS], True),
        ("asset", [f"B00{n}XK" if n % 3 else "unknown device" for n in NUMBERS], False),
        # few, and not named so: ranges of ages
        ("age", [f"{n // 10}0-{n // 10}9" for n in NUMBERS], False),
        # words
        ("product_key", [COLORS[n % 4] for n in NUMBERS], False),
        ("color", [COLORS[n % 4] for n in NUMBERS], False),
        ("grade", [f"grade {n}" for n in NUMBERS], False),
        ("title", [f"Apollo {n} (1969)" for n in NUMBERS], False),
        ("tags", [f"{COLORS[n % 4]}|{COLORS[n % 3]}" for n in NUMBERS], False),
        # numbers and times show what they are
        ("price", [n / 4 for n in NUMBERS], False),
        ("sold_at", [f"2024-01-{n % 28 + 1:02} 10:{n % 60:02}:00" for n in NUMBERS], False),
    ],
)
def test_ids_and_codes_stay_out_of_the_text(column, values, is_code, tmp_path):
    text, schema = drafted({column: values, "city": ["Paris", "Oslo", "Rome"] * 67}, tmp_path)
    assert [field.column for field in schema.fields if not field.in_text] == [column] * is_code
    assert ("IDS ONLY" in text) == is_code


def test_something_stays_in_the_text(tmp_path):
    text, schema = drafted({"user_id": NUMBERS, "zip": NUMBERS[::-1]}, tmp_path)
    assert schema.text_keys == ["user_id", "zip"]
    assert "IDS ONLY" not in text


def estimate(columns: dict, *fields: FieldSchema) -> TextEstimate:
    table = pa.table(columns)
    return estimate_text([(profile_column(f.column, table.column(f.column)), f) for f in fields])


def test_estimates_are_those_of_the_rendered_rows():
    columns = {
        "title": ["Up", None, "Up", "Seven Samurai", "none"],
        "at": ["2024-01-31 14:05:00", "2024-02-28 14:06:00", "2024-01-01 14:59:00", None, "2024-01-01 01:00:00"],
        "price": ["2.5", "3", "2.50", "", "x"],
    }
    fields = (
        FieldSchema("title", "Title", missing=("none",)),
        FieldSchema("at", "At", "hour"),
        FieldSchema("price", "Price", "categorical"),
    )
    processor = ClickPromptProcessor.fit(columns, Schema(fields, label="click"))
    texts = processor.render(columns)
    assert texts[1] == "Title is unknown. At is 14. Price is 3."
    found = estimate(columns, *fields)
    # 2.50 keeps its spelling here: the vocabulary that unites it with 2.5 is not known yet
    characters = [len(text) + 1 for text in texts[:2]] + [len(texts[0]) + 2] + [len(text) + 1 for text in texts[3:]]
    assert found == TextEstimate(5, pytest.approx(np.mean(characters) / 4), 5)
    assert estimate(columns, *fields[:2]).distinct_texts == 4
    assert estimate(columns, fields[0]) == TextEstimate(5, pytest.approx((2 * 13 + 2 * 18 + 24) / 5 / 4), 3)


def test_the_draft_says_what_ids_in_the_text_would_cost(tmp_path, capsys):
    columns = {"user_id": [10 + n % 50 for n in NUMBERS], "city": ["Paris", "Paris", "Rome", "Rome"] * 50}
    text, _ = drafted(columns, tmp_path)
    # " City is Paris." and " City is Rome." have 15 and 14 characters, " User ID is 10." has 15
    assert (
        "# A language model would read about 4 tokens per row (one per four characters) and 2 distinct texts" in text
    )
    pairs = len(set(zip(*columns.values())))
    assert f"# If it read the IDS ONLY fields too: about 7 tokens, {pairs} texts." in text

    tokenizer = tiny_bert_tokenizer()
    tokenizer.save_pretrained(tmp_path / "plm")
    BertConfig().save_pretrained(tmp_path / "plm")
    main([str(tmp_path / "table.csv"), "--tokenizer", str(tmp_path / "plm")])
    shown = capsys.readouterr().out
    whole = [f"User ID is {user}. City is {city}." for user, city in zip(*columns.values())]
    cities = [f"City is {city}." for city in columns["city"]]
    for texts, start in ((cities, "would read about"), (whole, "IDS ONLY fields too: about")):
        tokens = np.mean([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])
        assert f"{start} {tokens:.0f} tokens" in shown
    with pytest.raises(FileNotFoundError, match="`tokenizer` must be a local folder or a Hub id"):
        draft_schema(tmp_path / "table.csv", tokenizer="./nowhere")
    (tmp_path / "plm" / "tokenizer.json").write_text("{")
    with pytest.raises(OSError, match="`tokenizer` must be the name or folder of a tokenizer, got"):
        draft_schema(tmp_path / "table.csv", tokenizer=str(tmp_path / "plm"))
