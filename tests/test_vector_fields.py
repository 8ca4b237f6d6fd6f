"""One vector of several fields' text: from the schema and `--vector_fields` to every way that rows take to a score."""

import copy
import json
import pickle
from dataclasses import asdict, replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from movielens_files import ml_1m_files, write_zip
from scores_without_package import scores_without_package
from test_text_fields import BATCHES, QUICK, SIZES, prepared
from tiny_data import TITLES, tiny_roberta_tokenizer
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import AutoModel

from clickprompt_hf import (
    ClickPromptClassifier,
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptPipeline,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)
from clickprompt_hf.cluster.table_scorer import TableScorer, check_table
from clickprompt_hf.data.columnar import encode_tables, load_prepared, prepare_splits
from clickprompt_hf.data.drift import DriftCounts
from clickprompt_hf.data.text_vectors import text_vectors
from clickprompt_hf.data.vector_columns import encode_vector_column
from clickprompt_hf.evaluation import permutation_importance
from clickprompt_hf.evaluation.importance import _names_of_columns
from clickprompt_hf.evaluation.model_card import _example_row, _schema_table
from clickprompt_hf.export.plm_scorer import PLMScorer
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.inspection import frequent_values, what_if
from clickprompt_hf.runs import export, finetune, predict, pretrain
from clickprompt_hf.runs.text_fields import choose_vector_fields
from clickprompt_hf.scoring import score_table
from clickprompt_hf.serving.checkpoint_engine import CheckpointEngine
from clickprompt_hf.text_encoder_clickprompt import TextEncoder
from clickprompt_hf.training.quiet_transformers import quiet_transformers

FIELDS = (
    FieldSchema("user"),
    FieldSchema("note", "Note", "text", in_text=False, missing=("none",)),
    FieldSchema("title", "Title"),
    FieldSchema("genres", "Genres", "multi_valued", max_values=2),
    FieldSchema("at", "Hour", "hour"),
    FieldSchema("price", "Price", "numeric", num_buckets=2),
)
TEXT = FieldSchema(name="Text", kind="text", as_vector=True, columns=("title", "genres", "note", "price"))
SCHEMA = Schema((*FIELDS, TEXT), label="click")


def rows(num_rows=20, seed=0) -> dict[str, list]:
    """Columns. The third row lacks every part of the text, in one way or another."""
    draw = np.random.default_rng(seed)
    titles = [TITLES[t] for t in draw.integers(0, 6, num_rows)]
    return {
        "user": draw.integers(1, 6, num_rows).tolist(),
        "note": ["none" if i % 3 == 2 else f"note {n}" for i, n in enumerate(draw.integers(0, 4, num_rows))],
        "title": [None if i % 4 == 2 else title for i, title in enumerate(titles)],
        "genres": ["" if i % 5 == 2 else ("Drama|War", "War", "Noir|War|Drama")[i % 3] for i in range(num_rows)],
        "at": [f"2024-01-31 {h:02}:05:00" for h in draw.integers(0, 24, num_rows)],
        "price": [None if i % 6 == 2 else float(p) for i, p in enumerate(draw.integers(1, 9, num_rows))],
        "click": [i % 2 for i in range(num_rows)],
    }


def without_clicks(table):
    return {name: cells for name, cells in table.items() if name != "click"}


def listed(table) -> list[dict]:
    return [dict(zip(table, row)) for row in zip(*table.values())]


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plm")
    tokenizer = copy.deepcopy(tiny_roberta_tokenizer())
    torch.manual_seed(0)
    AutoModel.from_config(tiny_text_config(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def build(processor, backbone="dcnv2", **options):
    torch.manual_seed(0)
    sizes = {name: getattr(processor, name) for name in ("field_sizes", "max_values", "vector_sizes")}
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(backbone, **sizes), **{"fusion": "ctr", **options})
    return ClickPromptForCTR(config).eval()


@pytest.fixture(scope="module")
def fitted(plm):
    """A click model without a PLM, and its processor."""
    processor = ClickPromptProcessor.fit(rows(60), SCHEMA, text_encoder=plm)
    return build(processor), processor


def test_schema_files_name_the_fields_of_a_text():
    given = {
        "fields": ["user", "title", "genre", {"name": "Text", "kind": "text", "as": "vector", "columns": ["title"]}],
        "label": "click",
    }
    found = Schema.from_dict(given)
    assert found.fields[3] == FieldSchema("Text", kind="text", as_vector=True, columns=("title",))
    assert found.columns == found.keys == ["user", "title", "genre", "Text"]
    assert found.raw_columns == ["user", "title", "genre"]
    assert (found.vector_fields, found.fields_in_text) == ([3], [0, 1, 2])
    written = found.to_dict()
    assert (written["fields"][3]["columns"], written["fields"][3]["column"]) == (["title"], "Text")
    assert Schema.from_dict(json.loads(json.dumps(written))) == found
    # schemas of earlier versions keep their hashes
    assert "columns" not in written["fields"][0]
    assert FieldSchema(kind="text", as_vector=True, columns=("title",)).column == "text_vector"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            {"columns": ["titel"]},
            r"`columns` of field 'Text' must be among .* \['user', 'title', 'v', 'Text'\], got \['t",
        ),
        ({"columns": ["click"]}, r"`columns` of field 'Text' must be among the fields"),
        ({"columns": ["v"]}, r"`columns` of field 'Text' must be fields that the PLM can read, .* 'vector': \['v'\]"),
        ({"columns": ["Text"]}, r"must be fields with a text of their own, got \['Text'\]"),
        ({"columns": "title"}, r"`columns` of field 'Text' must be a list of different columns, .* got 'title'"),
        ({"columns": ["title", "title"]}, r"`columns` of field 'Text' must be a list of different columns"),
        ({"columns": ["title"], "as": None}, r"`as` of field 'Text' must be 'vector', got None"),
        ({"columns": ["title"], "kind": "categorical"}, r"`as: vector`\) of field 'Text' must be left out"),
        ({"columns": ["title"], "missing": ["x"]}, r"`missing` of field 'Text' must be left out with `columns`"),
        ({"columns": []}, r"Missing keys in a field: \['column'\]"),
        ({"columns": ["title"], "name": "title"}, r"name each column once, .* repeated: \['title'\]"),
    ],
)
def test_wrong_fields_of_a_text_are_named(field, message):
    fields = ["user", "title", {"column": "v", "kind": "vector"}]
    made = {"name": "Text", "kind": "text", "as": "vector", **field}
    with pytest.raises(ValueError, match=message):
        Schema.from_dict({"fields": [*fields, made], "label": "click"})


def test_only_texts_as_vectors_have_fields_of_a_text():
    with pytest.raises(
        ValueError, match=r"`columns` of field 'a' must be left out unless .* got \['b'\] for kind 'text'"
    ):
        FieldSchema("a", kind="text", columns=("b",))


def test_texts_that_are_only_part_of_a_vector_stay():
    chosen = SCHEMA.with_text_fields(["user"])
    assert chosen.keys == SCHEMA.keys
    assert chosen.text_keys == ["user"]
    alone = Schema(tuple(replace(field, in_text=True) for field in FIELDS), label="click")
    assert "note" not in alone.with_text_fields(["title"]).keys
    with pytest.raises(ValueError, match="`in_text` of field 'note' must be true, got false"):
        Schema(FIELDS, label="click")
    with pytest.raises(ValueError, match=r"`text_fields` must be fields with a text of their own, got \['Text'\]"):
        SCHEMA.with_text_fields(["Text"])


def test_vector_fields_are_chosen_in_the_order_of_the_text():
    alone = Schema((FieldSchema("user"), *FIELDS[2:]), label="click")
    found = alone.with_vector_fields(["at", "title"])
    assert found.fields[-1] == FieldSchema(
        "text_vector", kind="text", as_vector=True, columns=("title", "at.hour"), in_text=False
    )
    assert found.fields[:-1] == alone.fields
    assert found.text_vector_fields == ("title", "at.hour")
    assert alone.text_vector_fields == ()
    # beside a column of this name
    taken = Schema((*alone.fields, FieldSchema("text_vector", kind="vector")), label="text_vector_")
    assert taken.with_vector_fields(["title"]).columns[-1] == "text_vector__"
    assert taken.with_vector_fields(["title"]).text_vector_fields == ("title",)


def test_the_text_is_what_a_plm_reads():
    fields = tuple(replace(field, in_text=True) for field in FIELDS)
    schema = Schema((*fields, replace(TEXT, columns=("title", "genres", "at"))), label="click")
    # another language's template, with spaces that must stay
    schema = replace(schema, template="{name}:  {value}!")
    processor = ClickPromptProcessor.fit(rows(40), schema, tiny_roberta_tokenizer(), text_encoder=CountingEncoder())
    given = {**rows(6), "title": ["Up", " up ", "M*A*S*H", None, "new", 7.0]}
    texts = processor.texts_of_vectors(given, "Text")
    processor.text_encoder.texts.clear()
    processor(given)
    assert processor.text_encoder.texts == texts
    reader = ClickPromptProcessor.fit(
        rows(40),
        schema.with_text_fields(["title", "genres", "at"]),
        tiny_roberta_tokenizer(),
        text_encoder=CountingEncoder(),
    )
    assert texts == reader.render(given)
    assert texts[3].startswith("Title:  unknown! Genres:  Drama, War! Hour:  ")
    with pytest.raises(ValueError, match=r"`key` must be one of the fields with `columns`, \['Text'\], got 'title'"):
        processor.texts_of_vectors(given, "title")
    with pytest.raises(ValueError, match=r"missing \['at'\]"):
        processor.texts_of_vectors({name: given[name] for name in ("title", "genres")}, "Text")


class CountingEncoder(TextEncoder):
    """Its vectors are the length of a text and how often it has the letter a; it keeps the texts that it reads."""

    fingerprint = "counting"

    def __init__(self):
        super().__init__("nowhere")
        self.texts = []

    def encode(self, texts, progress_bar=None):
        self.texts += texts
        return np.asarray([[len(text), text.count("a")] for text in texts], dtype=np.float32)


def test_vectors_are_standardized_over_the_rows_and_each_text_is_read_once():
    train = {**rows(4), "title": ["a", "b", None, "a"], "genres": ["x", "x", "", "x"], "price": [1, 1, None, 1]}
    train["note"] = ["n", "n", "None", "n"]
    encoder = CountingEncoder()
    processor = ClickPromptProcessor.fit(pa.table(train), SCHEMA, text_encoder=encoder)
    text = "Title is {}. Genres is x. Note is n. Price is 1."
    assert sorted(encoder.texts) == [text.format("a"), text.format("b")]
    # two rows of three have the first text; the letter a stands once in each, in "a" and in no other word
    counts = np.asarray([text.format(title).count("a") for title in "aba"], dtype=float)
    scale = processor.vectors["scales"]["Text"]
    np.testing.assert_allclose(scale["mean"], [len(text.format("a")), counts.mean()])
    np.testing.assert_allclose(scale["std"], [0.0, counts.std()])
    # the row without any value has the learned vector of missing ones
    vectors = processor(train, return_tensors="np")["feature_vectors"]
    assert np.isnan(vectors).all(axis=1).tolist() == [False, False, True, False]
    np.testing.assert_allclose(vectors[[0, 1, 3], 1], (counts - counts.mean()) / counts.std(), rtol=1e-6)
    assert processor.texts_of_vectors(train, "Text")[2] == ""


def test_texts_of_training_rows_may_take_more_than_two_gigabytes():
    num_rows = 2**11
    titles = pa.DictionaryArray.from_arrays(np.arange(num_rows) % 2, [letter * 2**20 for letter in "ab"])
    schema = Schema((FieldSchema("title"), replace(TEXT, columns=("title",))), label="click")
    train = pa.table({"title": titles, "click": np.arange(num_rows) % 2})
    processor = ClickPromptProcessor.fit(train, schema, text_encoder=CountingEncoder())
    text = "title is {}."
    assert processor.vectors["scales"]["Text"]["mean"] == [len(text.format("")) + 2**20, 2**19]


def test_every_container_gives_the_same_vectors(fitted, tmp_path):
    model, processor = fitted
    train = rows(60)
    for container in (pa.table, pd.DataFrame, listed):
        other = ClickPromptProcessor.fit(container(train), SCHEMA, text_encoder=processor.text_encoder)
        for moment, numbers in processor.vectors["scales"]["Text"].items():
            np.testing.assert_allclose(other.vectors["scales"]["Text"][moment], numbers, rtol=1e-6)
    table = without_clicks(rows(30, seed=3))
    texts = processor.texts_of_vectors(table, "Text")
    assert texts[0].startswith("Title is ")
    assert texts[2] == ""
    vectors = text_vectors([text for text in texts if text], processor.text_encoder.name_or_path)
    scale = processor.vectors["scales"]["Text"]
    found = processor(table, return_tensors="np")["feature_vectors"]
    expected = (vectors - scale["mean"]) / scale["std"]
    np.testing.assert_allclose(found[[bool(text) for text in texts]], expected, rtol=1e-4, atol=1e-4)
    # chunks of dictionaries and of strings, one row, and rows in a list
    arrow = pa.concat_tables([pa.table(table).slice(0, 11), pa.table(table).slice(11)])
    arrow = arrow.set_column(1, "note", pa.chunked_array([c.dictionary_encode() for c in arrow.column("note").chunks]))
    probabilities = score_table(arrow, processor, model, 7)
    scored = ClickPromptPipeline(model, processor, device="cpu")
    for given in (table, listed(table), pd.DataFrame(table), arrow):
        np.testing.assert_allclose([row["click_probability"] for row in scored(given)], probabilities, atol=1e-6)
    assert scored(listed(table)[4])["click_probability"] == pytest.approx(probabilities[4], abs=1e-6)
    # more combinations than 32 bits hold would give other numbers
    arrays, _, of_fields = encode_tables([arrow.slice(0, 11), arrow.slice(11)], processor, with_text=False)
    np.testing.assert_allclose(of_fields.gather(arrays["vector_ids"]), found, rtol=1e-4, atol=1e-4)
    assert len(of_fields.tables[0]) == len(set(texts))
    prepare_splits({"train": pa.table(rows(30, seed=3))}, processor, tmp_path / "data")
    (batch,) = load_prepared(tmp_path / "data")[0]["train"].__getitems__(list(range(30)))
    np.testing.assert_allclose(batch["feature_vectors"], found, rtol=1e-4, atol=1e-4)


def test_wrong_rows_are_named(fitted, plm):
    _, processor = fitted
    assert processor.read_columns == ["user", "title", "genres", "at", "price", "note"]
    table = without_clicks(rows(3))
    lacking = {name: cells for name, cells in table.items() if name != "note"}
    with pytest.raises(ValueError, match=r"missing \['note'\]"):
        processor(lacking)
    with pytest.raises(ValueError, match=r"Column 'note' of kind 'text' must hold one value per row, .* in row 1"):
        processor({**table, "note": ["a", ["b"], "c"]})
    with pytest.raises(ValueError, match=r"the PLM that turns the fields \['Text'\] into vectors, got none"):
        ClickPromptProcessor.fit(rows(), SCHEMA)
    nothing = {**rows(), "title": [None] * 20, "genres": [""] * 20, "note": ["none"] * 20}
    schema = replace(SCHEMA, fields=(*FIELDS, replace(TEXT, columns=("title", "genres", "note"))))
    with pytest.raises(
        ValueError, match=r"'Text' must hold vectors of the texts of \['title', 'genres', 'note'\], but"
    ):
        ClickPromptProcessor.fit(nothing, schema, text_encoder=plm)


def test_a_checkpoint_scores_raw_rows_without_the_package(fitted, tmp_path):
    model, processor = fitted
    score = ClickPromptPipeline(model, processor, device="cpu")
    given = listed(without_clicks(rows(8, seed=2)))
    expected = [row["click_probability"] for row in score(given)]
    score.save_pretrained(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "ctr")
    found = scores_without_package(tmp_path / "ctr", given, tmp_path / "home")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path / "ctr")
    assert (loaded.schema, loaded.fingerprint) == (SCHEMA, processor.fingerprint)


def test_a_plm_does_not_read_the_text_twice(plm):
    processor = ClickPromptProcessor.fit(rows(40), SCHEMA, tiny_roberta_tokenizer(), text_encoder=plm)
    assert processor.read_columns == SCHEMA.raw_columns
    row = listed(without_clicks(rows(1)))
    assert "Text" not in processor.render(row)[0]
    assert set(processor(row)) == {"feature_ids", "feature_vectors", "input_ids", "attention_mask"}


def test_exports_take_the_vector_and_checkpoints_the_columns(fitted, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    model, processor = fitted
    model.save_pretrained(tmp_path / "ctr")
    processor.save_pretrained(tmp_path / "ctr")
    export.main([str(tmp_path / "ctr"), str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "its rows need the text encoder's vectors in Text. " in printed
    size = sum(path.stat().st_size for path in (tmp_path / "out" / "text_encoder").iterdir())
    assert f"{size:,} {tmp_path / 'out' / 'text_encoder'}" in printed
    table = without_clicks(rows(8, seed=2))
    expected = score_table(pa.table(table), processor, model, 4)
    texts = processor.texts_of_vectors(table, "Text")
    vectors = [list(map(float, v)) if t else None for t, v in zip(texts, processor.text_encoder.encode(texts))]
    taken = {name: table[name] for name in ("user", "title", "genres", "at", "price")} | {"Text": vectors}
    np.testing.assert_allclose(Scorer(tmp_path / "out").score(taken), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"missing \['Text'\]"):
        Scorer(tmp_path / "out").score(table)
    with pytest.raises(ValueError, match=r"Column 'Text' must hold vectors of its texts, .* got .Title is"):
        Scorer(tmp_path / "out").score({**taken, "Text": texts})
    for folder, columns, needed in (("ctr", table, "note"), ("out", taken, "Text")):
        check_table(tmp_path / folder, dict.fromkeys(columns, False), "score")
        found = TableScorer(tmp_path / folder).score(pa.table(columns))
        np.testing.assert_allclose(found, expected, atol=1e-5)
        lacking = {name: False for name in columns if name != needed}
        with pytest.raises(ValueError, match=rf"missing \['{needed}'\]"):
            check_table(tmp_path / folder, lacking, "score")


def test_an_export_with_the_plm_reads_the_columns(plm, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    processor = ClickPromptProcessor.fit(
        rows(40), SCHEMA.with_text_fields(["title"]), tiny_roberta_tokenizer(), max_text_length=30, text_encoder=plm
    )
    text_config = tiny_text_config(vocab_size=len(processor.tokenizer), num_hidden_layers=1)
    model = build(processor, text_config=text_config, prompt_length=2, fusion="sum")
    model.save_pretrained(tmp_path / "whole")
    processor.save_pretrained(tmp_path / "whole")
    export.main([str(tmp_path / "whole"), str(tmp_path / "onnx"), "--with_plm"])
    # there is no scorer.py that would need the vectors
    assert "scorer.py" not in capsys.readouterr().out
    table = without_clicks(rows(8, seed=2))
    expected = [row["click_probability"] for row in ClickPromptPipeline(model, processor, device="cpu")(table)]
    np.testing.assert_allclose(PLMScorer(tmp_path / "onnx").score(table), expected, atol=1e-5)
    np.testing.assert_allclose(TableScorer(tmp_path / "onnx").score(pa.table(table)), expected, atol=1e-5)
    check_table(tmp_path / "onnx", dict.fromkeys(table, False), "score")


def test_fields_of_earlier_versions_need_no_columns():
    # as built by the code of a checkpoint that lacks them
    names = [name for name in asdict(FIELDS[0]) if name != "columns"]
    fields = [*FIELDS[:1], *FIELDS[2:], FieldSchema("v", kind="vector")]
    earlier = [
        SimpleNamespace(
            **{name: getattr(field, name) for name in names}, num_columns=field.num_columns, is_vector=field.is_vector
        )
        for field in fields
    ]
    train = {**rows(20), "v": [[float(i), 1.0] for i in range(20)]}
    processor = ClickPromptProcessor.fit(train, Schema(tuple(fields), label="click"))
    expected = encode_vector_column([pa.table(train)], processor, len(fields) - 1)
    cards = _schema_table(processor), _example_row(processor)
    schema = SimpleNamespace(fields=earlier, columns=processor.schema.columns, keys=processor.schema.keys)
    values = frequent_values(processor, "title")
    processor.schema, read_columns = schema, processor.read_columns
    with patch.object(ClickPromptProcessor, "read_columns", read_columns):
        assert (_schema_table(processor), _example_row(processor)) == cards
    for found, vectors in zip(encode_vector_column([pa.table(train)], processor, len(fields) - 1), expected):
        np.testing.assert_array_equal(found, vectors)
    assert frequent_values(processor, "title") == values
    assert list(_names_of_columns(earlier)) == ["user", "title", "genres", "at", "price", "v"]


def test_the_service_the_card_and_drift_know_the_columns(fitted):
    model, processor = fitted
    given = listed(without_clicks(rows(12, seed=2)))
    engine = CheckpointEngine(model, processor)
    assert engine.name == "without the PLM, with the text encoder, PyTorch on cpu"
    counts = DriftCounts(processor)
    found = engine.score(engine.read(given, counts))
    expected = score_table(pa.Table.from_pylist(given), processor, model, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert counts.rows == [12, 0, 12, 12, 12, 12, 12]
    kinds = {entry["column"]: entry["kind"] for entry in _schema_table(processor)}
    assert kinds["Text"] == "a vector of 16 numbers, of the text of Title, Genres, Note, Price"
    assert kinds["note"] == "free text, without ids"
    assert set(_example_row(processor)) == {*processor.read_columns}
    first, second = what_if(model, processor, given[0], "note", ["note 1", "something else"])
    assert abs(first - second) > 1e-6
    with pytest.raises(ValueError, match="`column` must be one of the schema's, .* got 'Text'"):
        what_if(model, processor, given[0], "Text", ["a"])
    table = pa.Table.from_pylist(given)
    drops = permutation_importance(
        lambda shuffled: score_table(shuffled, processor, model, 4), table, [0, 1] * 6, processor.schema.fields
    )
    assert set(drops) == {"user", "Note", "Title", "Genres", "Hour", "Price"}
    assert drops["Note"] != 0


def test_the_service_asks_for_the_columns(fitted):
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from clickprompt_hf.serving.service import _openapi

    required = _openapi(CheckpointEngine(*fitted))["requestBody"]["content"]["application/json"]["schema"]["oneOf"][1]
    assert required["required"] == fitted[1].read_columns
    assert set(required["properties"]) == {*fitted[1].read_columns}


def test_the_page_has_a_widget_per_column(fitted, tmp_path):
    pytest.importorskip("gradio")
    from clickprompt_hf.runs.app_page import Explanations, importance_chart

    model, processor = fitted
    model.save_pretrained(tmp_path / "ctr")
    processor.save_pretrained(tmp_path / "ctr")
    page = Explanations(str(tmp_path / "ctr"))
    assert [field.column for field in page.fields] == SCHEMA.raw_columns
    row = listed(without_clicks(rows(1)))[0]
    shown, *_ = page.show("note", *(row[field.column] for field in page.fields))
    assert shown == f"{score_table(pa.Table.from_pylist([row]), processor, model, 1)[0]:.1%}"
    pd.DataFrame(rows(20)).to_csv(tmp_path / "labeled.csv", index=False)
    chart = importance_chart(page.model, page.processor, tmp_path / "labeled.csv")
    assert {row[0] for row in chart.value["data"]} == {"user", "Note", "Title", "Genres", "Hour", "Price"}


def test_the_estimator_takes_such_a_schema(plm, tmp_path):
    table = rows(60)
    given = pd.DataFrame(without_clicks(table))
    options = {"schema": SCHEMA.to_dict(), "max_epochs": 1, "batch_size": 16, "random_state": 0}
    sizes = {"embedding_size": 4, "dnn_hidden_sizes": [8], "num_cross_layers": 1}
    with pytest.raises(ValueError, match="`text_encoder` must name the language model"):
        ClickPromptClassifier(**options, ctr_config=sizes).fit(given, table["click"])
    classifier = ClickPromptClassifier(**options, ctr_config=sizes, text_encoder=plm).fit(given, table["click"])
    assert classifier.model_.config.ctr_config.vector_sizes == [16]
    expected = classifier.predict_proba(given)
    changed = classifier.predict_proba(given.assign(note="something else"))
    assert (expected[0] != changed[0]).all()
    classifier.save_pretrained(tmp_path / "saved")
    for other in (ClickPromptClassifier.from_pretrained(tmp_path / "saved"), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_allclose(other.predict_proba(given), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"lacks \['note'\]"):
        ClickPromptClassifier(**options, ctr_config=sizes, text_encoder=plm).fit(
            given.drop(columns="note"), table["click"]
        )


def test_columns_of_joined_tables_are_part_of_the_text(plm, tmp_path):
    items = pa.table({"item": [1, 2, 3], "title": ["Up", "Noir", None], "genre": ["War", "Drama", None]})
    pd.DataFrame(items.to_pydict()).to_csv(tmp_path / "items.csv", index=False)
    fields = ["user", "item", "title", "genre", {"kind": "text", "as": "vector", "columns": ["title", "genre"]}]
    joined = [{"file": str(tmp_path / "items.csv"), "key": "item"}]
    schema = Schema.from_dict({"fields": fields, "label": "click", "tables": joined})
    log = {"user": [1, 2, 3, 1] * 5, "item": [1, 2, 3, 9] * 5}
    shown = [[*items.column(name).to_pylist(), None] * 5 for name in ("title", "genre")]
    whole = {**log, "title": shown[0], "genre": shown[1], "click": [0, 1] * 10}
    processor = ClickPromptProcessor.fit(whole, schema, text_encoder=plm)
    model = build(processor)
    scored = ClickPromptPipeline(model, processor, device="cpu")
    expected = [row["click_probability"] for row in scored(without_clicks(whole))]
    processor.save_pretrained(tmp_path / "saved")
    loaded = ClickPromptProcessor.from_pretrained(tmp_path / "saved")
    assert np.isnan(loaded(log, return_tensors="np")["feature_vectors"]).all(axis=1).tolist() == [0, 0, 1, 1] * 5
    for given in (log, listed(log), pa.table(log)):
        found = [row["click_probability"] for row in ClickPromptPipeline(model, loaded, device="cpu")(given)]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(score_table(pa.table(log), loaded, model, 4), expected, atol=1e-6)


ROW = {
    **{"user_id": 1, "gender": "female", "age": "25-34", "job": "artist", "zipcode": "02139", "movie_id": 30},
    **{"title": "A film that nobody has seen (2001)", "genre": "Sci-Fi"},
}
TINY = [*("--backbone", "dcnv2", *SIZES[:-2]), *QUICK, *BATCHES]


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    return str(write_zip(tmp_path_factory.mktemp("movies") / "ml-1m.zip", "ml-1m", ml_1m_files(200)))


@pytest.fixture(scope="module")
def trained(movies, plm, tmp_path_factory):
    """The folder of a backbone that reads the vector of title and genre."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    data = ["--dataset", "ml-1m", "--data_path", movies, "--ctr_only"]
    with quiet_transformers():
        finetune.main(
            [*data, *TINY, "--vector_fields", "genre", "title", "--text_encoder", plm, "--output_dir", str(folder)]
        )
    return folder


def test_one_command_trains_and_its_checkpoint_scores_raw_rows(trained, tmp_path):
    processor = ClickPromptProcessor.from_pretrained(trained)
    assert processor.schema.fields[-1].columns == ("title", "genre")
    assert processor.vector_sizes == [16]
    record = ClickPromptConfig.from_pretrained(trained).training_data
    assert (record["vector_fields"], record["text_fields"]) == (["title", "genre"], None)
    assert processor.texts_of_vectors([ROW]) == ["Title is A film that nobody has seen (2001). Film genre is Sci-Fi."]
    assert "of the text of Title, Film genre" in (trained / "README.md").read_text()
    changed = [ROW, {**ROW, "title": "Another (1999)"}]
    pd.DataFrame(changed).to_csv(tmp_path / "new.csv", index=False)
    arguments = ["--model", str(trained), "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
    predict.main(arguments)
    found = pd.read_csv(tmp_path / "out.csv")["click_probability"]
    expected = score_table(pa.Table.from_pylist(changed), processor, ClickPromptForCTR.from_pretrained(trained), 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # both films are new, so that only the vector tells them apart
    assert found[0] != found[1]
    pd.DataFrame([ROW]).drop(columns="genre").to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(ValueError, match="missing .'genre'."):
        predict.main(arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["titel", "genre"],
            r"`--vector_fields` must be among the fields of the schema, \['user_id', .*\], got \['titel'",
        ),
        (["rating"], r"`--vector_fields` must be among the fields of the schema"),
        (["title"], r"`--text_encoder` must name the pretrained PLM .* \['title'\] into vectors, got none"),
        (
            ["title", "--text_encoder", "scratch-tiny"],
            r"`--text_encoder` must name the pretrained PLM .* got scratch-tiny",
        ),
        (["title", "--text_encoder", "/nowhere"], r"`text_encoder`.*/nowhere"),
        (["title", "--stream", "true"], r"`--stream` must be false or left out unless"),
    ],
)
def test_wrong_fields_stop_before_training(options, message, movies, tmp_path):
    data = ["--dataset", "ml-1m", "--data_path", movies, "--ctr_only", *TINY, "--output_dir", str(tmp_path / "out")]
    with pytest.raises((ValueError, OSError), match=message):
        finetune.main([*data, "--vector_fields", *options])
    assert not (tmp_path / "out").exists()


def test_files_are_not_streamed_for_a_vector(tmp_path):
    pd.DataFrame(rows(40)).drop(columns="note").to_csv(tmp_path / "rows.csv", index=False)
    schema = Schema((FieldSchema("user"), FieldSchema("title"), FieldSchema("v", kind="vector")), label="click")
    (tmp_path / "schema.json").write_text(json.dumps(replace(schema, fields=schema.fields[:2]).to_dict()))
    data = ["--data_path", str(tmp_path / "rows.csv"), "--schema", str(tmp_path / "schema.json")]
    with pytest.raises(ValueError, match="`--stream` must be false or left out unless `--vector_fields` is left out"):
        prepared([*data, "--vector_fields", "title", "--stream", "true"], tmp_path / "out")
    (tmp_path / "schema.json").write_text(json.dumps(schema.to_dict()))
    with pytest.raises(ValueError, match=r"`--vector_fields` must be fields that the PLM can read, .* \['v'\]"):
        choose_vector_fields(schema, ["v"], None)
    with pytest.raises(ValueError, match=r"`vector_fields` must be left out, .* the vector of \['title'\] already"):
        choose_vector_fields(schema.with_vector_fields(["title"]), ["user", "title"], None)


def test_every_start_from_a_checkpoint_keeps_the_vector(trained, movies, plm, tmp_path):
    data, chosen = ["--data_path", movies], ["--vector_fields", "title", "genre"]
    for given in ([], chosen, ["--vector_fields", "genre", "title"]):
        found = prepared([*data, *given], tmp_path, str(trained))
        assert found.training_data["vector_fields"] == ["title", "genre"]
        # on new rows
        new = prepared([*data, *given, "--dataset", "ml-1m"], tmp_path, str(trained), extend_vocabulary=True)
        assert new.processor.schema == found.processor.schema
        # of the same training, resumed
        resume = [*data, *given, "--text_encoder", plm, "--resume_from_checkpoint", "true"]
        resumed = prepared(resume, trained)
        assert resumed.processor.fingerprint == found.processor.fingerprint
        assert resumed.training_data == found.training_data
    for arguments, folder, start in (
        ([*data, "--vector_fields", "title"], tmp_path, str(trained)),
        ([*resume, "--vector_fields", "title"], trained, None),
    ):
        with pytest.raises(ValueError, match="`--vector_fields` must be title genre, as in the checkpoint's training"):
            prepared(arguments, folder, start)


def test_a_checkpoint_without_a_vector_gets_none(movies, plm, tmp_path):
    data = ["--dataset", "ml-1m", "--data_path", movies]
    with quiet_transformers():
        finetune.main([*data, "--ctr_only", *TINY, "--output_dir", str(tmp_path / "plain")])
    with pytest.raises(
        ValueError, match="`--vector_fields` must be left out, got title: the checkpoint reads no vector of several"
    ):
        prepared([*data, "--vector_fields", "title"], tmp_path, str(tmp_path / "plain"))


def test_pretraining_hands_the_vector_on(movies, plm, tmp_path):
    data = ["--dataset", "ml-1m", "--data_path", movies]
    chosen = ["--plm_name_or_path", plm, "--text_fields", "gender", "--vector_fields", "title", "genre"]
    start = str(tmp_path / "pamlm")
    with quiet_transformers():
        pretrain.main([*data, *chosen, *SIZES, *QUICK, *BATCHES, "--output_dir", start])
        out = ["--output_dir", str(tmp_path / "out")]
        finetune.main(["--model_name_or_path", start, "--data_path", movies, "--without_plm", *QUICK, *BATCHES, *out])
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "out")
    assert processor.schema.text_keys == ["gender"]
    assert processor.schema.text_vector_fields == ("title", "genre")
    found = score_table(
        pa.Table.from_pylist([ROW, {**ROW, "title": "Another"}]),
        *(processor, ClickPromptForCTR.from_pretrained(tmp_path / "out"), 2),
    )
    assert found[0] != found[1]


def test_a_checkpoint_takes_the_schema_file_with_or_without_the_vector(plm, tmp_path):
    pd.DataFrame(rows(40)).to_csv(tmp_path / "rows.csv", index=False)
    whole = Schema(tuple(replace(field, in_text=True) for field in FIELDS), label="click")
    (tmp_path / "schema.json").write_text(json.dumps(whole.to_dict()))
    data = ["--data_path", str(tmp_path / "rows.csv"), "--schema", str(tmp_path / "schema.json")]
    chosen = ["--vector_fields", "title", "note"]
    first = prepared([*data, *chosen, "--text_encoder", plm], tmp_path / "out")
    saved = first.processor.schema
    assert saved.text_vector_fields == ("note", "title")
    # the next run empties the folder that the processor reads its PLM from
    first.processor.save_pretrained(tmp_path / "saved")
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "saved")
    start = {"processor": processor, "checkpoint": ClickPromptConfig(training_data=first.training_data)}
    for given in ([], chosen):
        assert prepared([*data, *given], tmp_path / "out", **start).training_data == first.training_data
    with pytest.raises(ValueError, match="`--vector_fields` must be note title, as in the checkpoint's training"):
        prepared([*data, "--vector_fields", "title"], tmp_path / "out", **start)
    (tmp_path / "schema.json").write_text(json.dumps(saved.to_dict()))
    assert prepared(data, tmp_path / "out", **start).training_data == first.training_data


def test_kept_rows_are_those_of_the_same_vector(movies, plm, tmp_path):
    data = ["--dataset", "ml-1m", "--data_path", movies, "--prepared", str(tmp_path / "kept"), "--text_encoder", plm]
    prepared([*data, "--vector_fields", "title"], tmp_path / "out")
    found = prepared([*data, "--vector_fields", "title"], tmp_path / "out")
    assert found.training_data["vector_fields"] == ["title"]
    with pytest.raises(ValueError, match=r"different choice of vector fields: \['title'\] instead of \['genre'\]"):
        prepared([*data, "--vector_fields", "genre"], tmp_path / "out")
