"""Encoded splits: equal to the processor's output, readable from another process, in whole batches."""

import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tiny_data import (
    prepare_tiny_splits,
    tiny_roberta_tokenizer,
    tiny_schema,
    tiny_splits,
    whole_text_tokenizer,
)

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.columnar import ColumnarDataset, encode_tables, load_prepared, prepare_splits
from clickprompt_hf.data.text_variants import distinct_texts


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    return *prepare_tiny_splits(folder), folder


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_rows_equal_the_processors(prepared, name):
    splits, processor, folder = prepared
    encoded, loaded_processor = load_prepared(folder)
    assert loaded_processor.fingerprint == processor.fingerprint
    (batch,) = encoded[name].__getitems__(list(range(len(splits[name]))))
    expected = processor(splits[name], return_tensors="np")
    for key in ("feature_ids", "input_ids", "attention_mask", "labels"):
        np.testing.assert_array_equal(batch[key], expected[key])
    row = encoded[name][3]
    assert row["labels"] == splits[name]["click"][3].as_py()
    assert row["feature_ids"].tolist() == batch["feature_ids"][3].tolist()


@pytest.mark.parametrize(
    ("kind", "cells", "arrow_type"),
    [
        ("categorical", [None] * 6, pa.null()),
        ("multi_valued", [None] * 6, pa.null()),
        (
            "multi_valued",
            [["a", "b"], None, ["b", None], ["a", "b"], ["c", "c"], ["b", "a"]],
            pa.list_(pa.string(), 2),
        ),
        ("multi_valued", [["a", "b"], None, [], ["a", "b"], ["c"], ["b"]], pa.list_(pa.string())),
        ("multi_valued", [[1], None, [], [2, 3], [1], [3]], pa.large_list(pa.int64())),
    ],
)
def test_columns_of_every_type_equal_the_processors(kind, cells, arrow_type, tmp_path):
    column = pa.chunked_array([pa.array(cells[:4], arrow_type), pa.array(cells[4:], arrow_type)])
    rows = pa.table({"x": column, "click": [0, 1] * 3})
    schema = Schema((FieldSchema("x", kind=kind),), label="click")
    processor = ClickPromptProcessor.fit(rows, schema, tiny_roberta_tokenizer())
    prepare_splits(dict.fromkeys(("train", "validation", "test"), rows), processor, tmp_path / "x")
    (batch,) = load_prepared(tmp_path / "x")[0]["test"].__getitems__(list(range(6)))
    expected = processor(rows, return_tensors="np")
    np.testing.assert_array_equal(batch["feature_ids"], expected["feature_ids"])
    np.testing.assert_array_equal(batch["input_ids"], expected["input_ids"])


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_text_and_parts_of_times_equal_the_processors(unit, tmp_path):
    times = pa.array([0, None, 1706709900, 1706709900 + 3 * 86_400, 0, 5], pa.timestamp("s")).cast(pa.timestamp(unit))
    rows = pa.table({"note": ["a b", "", "c", None, "c", "d"], "at": times, "click": [0, 1] * 3})
    fields = [FieldSchema("note", kind="text"), FieldSchema("at", kind="hour"), FieldSchema("at", kind="weekday")]
    processor = ClickPromptProcessor.fit(rows, Schema(tuple(fields), label="click"), tiny_roberta_tokenizer())
    prepare_splits(dict.fromkeys(("train", "validation", "test"), rows), processor, tmp_path / "x")
    (batch,) = load_prepared(tmp_path / "x")[0]["test"].__getitems__(list(range(6)))
    expected = processor(rows, return_tensors="np")
    assert batch["feature_ids"].shape == (6, 2)
    np.testing.assert_array_equal(batch["feature_ids"], expected["feature_ids"])
    np.testing.assert_array_equal(batch["input_ids"], expected["input_ids"])


def test_matrices_are_memory_mapped_and_nothing_else_is_left(prepared):
    _, _, folder = prepared
    encoded, _ = load_prepared(folder)
    assert isinstance(encoded["train"].feature_ids, np.memmap)
    assert [path.name for path in folder.parent.iterdir()] == ["data"]


def test_without_a_tokenizer_there_is_no_text(tmp_path):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema())
    prepare_splits(splits, processor, tmp_path / "data")
    encoded, _ = load_prepared(tmp_path / "data")
    assert "input_ids" not in encoded["train"][0]
    assert encoded["train"].text_ids is None
    with pytest.raises(ValueError, match="no text"):
        encoded["train"].text_lengths()


def test_positions_past_the_end_repeat_rows_without_a_label(prepared):
    encoded, _ = load_prepared(prepared[2])
    (batch,) = encoded["test"].__getitems__([19, 20, 21])
    assert batch["labels"].tolist() == [1, -100, -100]
    assert batch["feature_ids"][1].tolist() == encoded["test"][0]["feature_ids"].tolist()


def test_slices_and_concatenations_keep_row_ids(prepared):
    encoded, _ = load_prepared(prepared[2])
    joined = ColumnarDataset.concatenate([encoded["train"], encoded["validation"].slice(0, 5)])
    assert len(joined) == 65
    (batch,) = joined.__getitems__([0, 59, 60, 64])
    assert batch["row_ids"].tolist() == [0, 59, 60, 64]
    assert batch["labels"].tolist() == [0, 1, 0, 0]
    # the splits are adjacent in the files
    assert np.shares_memory(joined.feature_ids, encoded["train"].feature_ids)
    parts = [encoded["train"].slice(0, 3), encoded["test"]]
    apart = ColumnarDataset.concatenate(parts)
    assert apart.row_ids.tolist() == [0, 1, 2, *range(80, 100)]
    for name in ("feature_ids", "labels", "clause_ids", "text_ids"):
        assert getattr(apart, name).tolist() == [row for part in parts for row in getattr(part, name).tolist()]
    flipped = replace(encoded["train"], labels=1 - encoded["train"].labels)
    joined_flipped = ColumnarDataset.concatenate([flipped, encoded["validation"]])
    assert joined_flipped.labels[:60].tolist() == flipped.labels[:60].tolist()
    assert len(pickle.dumps(encoded["test"])) < len(pickle.dumps(joined))
    joined.set_epoch(3)
    assert joined[1]["epoch"] == 3
    assert encoded["test"][0]["row_ids"] == 80


def test_distinct_texts_are_numbered_as_they_appear():
    first_rows, text_ids = distinct_texts(np.asarray([[7, 2], [7, 3], [7, 2], [5, 3], [5, 3], [7, 3]], dtype=np.int32))
    assert text_ids.tolist() == [0, 1, 0, 2, 2, 1]
    assert first_rows.tolist() == [0, 1, 3]
    assert text_ids.dtype == first_rows.dtype == np.int64
    assert [array.tolist() for array in distinct_texts(np.zeros((0, 2), dtype=np.int32))] == [[], []]


def test_distinct_texts_of_more_clauses_than_one_number_holds():
    # 31 bits per column: the first column is lost if four of them are put into 64 bits
    most = 2**31 - 1
    clause_ids = np.asarray([[0, 0, 0, 0], [most] * 4, [4, 0, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0]], dtype=np.int32)
    first_rows, text_ids = distinct_texts(clause_ids)
    assert text_ids.tolist() == [0, 1, 2, 0, 2]
    assert first_rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, whole_text_tokenizer])
def test_text_ids_are_equal_for_equal_texts_of_all_splits(tokenizer, tmp_path):
    rows = {"user": [1, 2, 1, 1], "title": ["a", "a", "a", "b"], "click": [0, 1, 0, 1]}
    schema = Schema((FieldSchema("user"), FieldSchema("title")), label="click")
    processor = ClickPromptProcessor.fit(rows, schema, tokenizer())
    other = {"user": [3, 1, 2], "title": ["a", "b", "a"], "click": [0, 1, 1]}
    splits = {"train": pa.table(rows), "validation": pa.table(other), "test": pa.table(rows)}
    prepare_splits(splits, processor, tmp_path / "data")
    encoded, _ = load_prepared(tmp_path / "data")
    found = [encoded[name].text_ids.tolist() for name in splits]
    # whole texts are numbered in the same way: by first appearance
    assert found == [[0, 1, 0, 2], [3, 2, 1], [0, 1, 0, 2]]
    assert ColumnarDataset.concatenate([encoded["train"], encoded["test"]]).text_ids.tolist() == found[0] + found[2]


def test_iterating_ends(prepared):
    test = load_prepared(prepared[2])[0]["test"]
    assert len(list(test)) == len(test) == 20


def test_rows_may_lack_free_text_that_nothing_reads():
    schema = Schema((FieldSchema("user"), FieldSchema("note", kind="text"), FieldSchema("item")), label="click")
    rows = {"user": ["a", "b"], "note": ["x", "y"], "item": [1, 2]}
    processor = ClickPromptProcessor.fit(rows, schema)
    table = pa.table({name: rows[name] for name in ("user", "item")})
    arrays, tokens, _ = encode_tables([table, table], processor, with_text=False)
    assert tokens is None
    assert arrays["feature_ids"].tolist() == [[1, 1], [2, 2]] * 2
    assert arrays["value_ids"].tolist() == [[0, 0, 0], [1, 0, 1]] * 2
