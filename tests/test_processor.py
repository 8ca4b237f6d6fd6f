"""The processor: vocabularies, ids, text, and its files."""

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import warnings
from datetime import UTC, date, datetime

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from datasets.fingerprint import Hasher
from threads import in_threads
from tiny_data import (
    rows_of_lengths,
    tiny_bert_tokenizer,
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_rows,
    tiny_schema,
    tiny_t5_tokenizer,
)
from tiny_models import tiny_ctr_config
from tiny_tokenizers import KINDS, tiny_llama_tokenizer, tokenizer_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PaddingStrategy, TruncationStrategy
from transformers.utils import TensorType

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.amounts_clickprompt import plain_readings
from clickprompt_hf.data.columnar import encode_tables
from clickprompt_hf.unread_cells_clickprompt import UnreadCells
from clickprompt_hf.values_clickprompt import canonical, read_time

SCHEMA = Schema((FieldSchema("user", "User ID"), FieldSchema("title", "Title")), label="click")
TRAIN = {"user": [7, 7, 7, 3, 3, 9], "title": ["b", "a", "a", "b", None, "a"]}


def test_ids_count_down_from_the_most_frequent_value():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    assert processor.vocabularies == [["7", "3", "9"], ["a", "b", ""]]
    assert processor.field_sizes == [4, 4]
    assert processor({"user": [3, 7, 9], "title": ["a", "b", None]})["feature_ids"] == [[2, 1], [1, 2], [3, 3]]


def test_unseen_values_get_id_zero_and_blanks_are_missing():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    rows = {"user": [4, None, math.nan], "title": ["new", "", "  "]}
    # no training row lacks a user, so a missing one is out of vocabulary too
    assert processor(rows)["feature_ids"] == [[0, 0], [0, 3], [0, 3]]
    assert processor.render(rows)[:2] == ["User ID is 4. Title is new.", "User ID is unknown. Title is unknown."]


@pytest.mark.parametrize("value", [7, 7.0, "7", " 7 ", b"7", "7.0", b" 7.0"])
def test_one_value_has_one_spelling(value):
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    assert processor({"user": value, "title": "a"})["feature_ids"] == [[1, 1]]
    assert processor.render({"user": [value], "title": ["a"]}) == ["User ID is 7. Title is a."]


@pytest.mark.parametrize(
    ("values", "spelling"),
    [
        ([0, 0.0, -0.0, "0", "0.0", "-0.0"], "0"),
        ([-12, -12.0, "-12", "-12.0"], "-12"),
        ([True, np.True_, "True"], "True"),
        ([False, "False"], "False"),
        ([0.1, "0.1", np.float32(0.1), float(np.float32(0.1))], "0.1"),
        ([0.1 + 0.2, "0.30000000000000004"], "0.30000000000000004"),
        ([1234567.125, "1234567.125"], "1234567.125"),
        (["007.0"], "007.0"),
        (["7.00"], "7.00"),
        (["v7.0"], "v7.0"),
    ],
)
def test_files_of_all_kinds_give_the_same_spelling(values, spelling):
    schema = Schema((FieldSchema("user"),), label="click")
    assert ClickPromptProcessor.fit({"user": values}, schema).vocabularies == [[spelling]]


def test_many_values_become_what_each_becomes_alone():
    mixed = [1, True, 1.0, "1", None, float("nan"), " a  b", "a b", b"a b", 2.5, "2.50"]
    processor = ClickPromptProcessor.fit(
        {"x": mixed, "click": [0] * len(mixed)}, Schema.from_dict({"fields": ["x"], "label": "click"})
    )
    strings = ["1", "1.0", "a b", "new"] * 40
    for values in (mixed * 10, strings, [1.0, float("nan"), 2.5, -0.0, 0.0] * 40, [True, False] * 40):
        for of_values in (processor.encode_values, processor.render_values):
            alone = [of_values(0, [value])[0] for value in values]
            assert list(of_values(0, values)) == alone


def test_leading_zeros_and_inner_spaces():
    processor = ClickPromptProcessor.fit({"user": ["02139"], "title": ["a  b\tc"]}, SCHEMA)
    assert processor.vocabularies == [["02139"], ["a b c"]]
    assert processor({"user": ["2139a"], "title": ["a b c"]})["feature_ids"] == [[0, 1]]


def test_min_count_leaves_rare_values_out():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA, min_count=2)
    assert processor.vocabularies == [["7", "3"], ["a", "b"]]


def test_min_count_counts_rows():
    schema = Schema((FieldSchema("tags", kind="multi_valued"),), label="click")
    assert ClickPromptProcessor.fit({"tags": ["a|a", "b", "b"]}, schema, min_count=2).vocabularies == [["b"]]


def test_with_min_count_one_no_training_row_is_out_of_vocabulary():
    rows = tiny_rows()
    ids = ClickPromptProcessor.fit(rows, tiny_schema()).encode(rows)
    assert (ids[:, [0, 1, 2, 4]] > 0).all()


def test_numeric_fields_fall_into_quantile_buckets():
    schema = Schema((FieldSchema("price", "Price", "numeric", num_buckets=4),), label="click")
    # quartiles of 1..8 are 2.75, 4.5 and 6.25
    processor = ClickPromptProcessor.fit({"price": [1, 2, 3, 4, 5, 6, 7, 8, 8, None]}, schema)
    assert processor.boundaries == [[3.0, 5.0, 7.0]]
    keys = [processor.vocabularies[0][i[0] - 1] for i in processor.encode({"price": [-5, 2.9, 3, 6.99, 7, 99, None]})]
    assert keys == ["0", "0", "1", "2", "3", "3", ""]
    assert processor.encode({"price": ["3.5", "many", math.inf]})[:, 0].tolist()[0] > 0
    assert processor.render({"price": [3.0, "2.50", "many", None]}) == [
        "Price is 3.",
        "Price is 2.5.",
        "Price is unknown.",
        "Price is unknown.",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1234567"),
        ("20240131.0", "20240131"),
        (1234567.25, "1234567.25"),
        (0.1 + 0.2, "0.30000000000000004"),
        (float(np.float32(3.99)), "3.99"),
        (-0.0, "0"),
        (1e300, "1e+300"),
    ],
)
def test_numeric_text_is_the_value_itself(value, text):
    schema = Schema((FieldSchema("price", "Price", "numeric"),), label="click")
    processor = ClickPromptProcessor.fit({"price": [1, 2]}, schema)
    assert processor.render({"price": [value]}) == [f"Price is {text}."]


def test_log_buckets_are_equally_wide_in_decades():
    schema = Schema((FieldSchema("amount", kind="numeric", num_buckets=4, buckets="log"),), label="click")
    processor = ClickPromptProcessor.fit({"amount": [1.0, 10, 100, 1000, 10_000] * 3 + [None]}, schema)
    # log(1 + x) from log 2 to log 10001, in quarters
    ends = np.log([2, 10_001])
    expected = np.exp(ends[0] + np.diff(ends) * [0.25, 0.5, 0.75]) - 1
    np.testing.assert_allclose(processor.boundaries[0], expected.ravel())
    keys = [processor.vocabularies[0][i[0] - 1] for i in processor.encode({"amount": [1, 10, 100, 1000, 10_000]})]
    assert keys == ["0", "0", "1", "2", "3"]
    # the unit does not matter, and below zero is like above
    in_cents = ClickPromptProcessor.fit({"amount": [100.0, 1e3, 1e4, 1e5, 1e6] * 3}, schema)
    np.testing.assert_allclose(in_cents.boundaries[0], 100 * expected.ravel())
    both = ClickPromptProcessor.fit({"amount": [-1000, -1, 0, 1, 1000]}, schema).boundaries[0]
    np.testing.assert_allclose(both, [-both[2], 0, both[2]], atol=1e-12)
    assert 20 < both[2] < 40
    assert ClickPromptProcessor.fit({"amount": [0, 0, None]}, schema).boundaries == [[]]


TIMES = ["2024-01-31 14:05:00", "2024-02-04T00:00:00.123456789Z", "", "next week", 1706709900, "1706709900000"]


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("hour", ["14", "0", "", "", "14", "14"]),
        ("weekday", ["Wednesday", "Sunday", "", "", "Wednesday", "Wednesday"]),
        ("month", ["January", "February", "", "", "January", "January"]),
    ],
)
def test_parts_of_times(kind, parts):
    schema = Schema((FieldSchema("at", "At", kind),), label="click")
    processor = ClickPromptProcessor.fit({"at": TIMES}, schema)
    # by frequency, then by value; "" is the missing one
    assert set(processor.vocabularies[0]) == set(parts)
    known = [processor.vocabularies[0][i[0] - 1] for i in processor.encode({"at": TIMES})]
    assert known == parts
    assert processor.render({"at": TIMES}) == [f"At is {part or 'unknown'}." for part in parts]
    assert processor.encode({"at": ["1999-12-10 11:00"]}).tolist() == [[0]]


@pytest.mark.parametrize(
    ("value", "time_format", "expected"),
    [
        ("31/01/2024", "%d/%m/%Y", datetime(2024, 1, 31)),
        ("31/01/2024 ", "%d/%m/%Y", datetime(2024, 1, 31)),
        ("01/31/2024", "%d/%m/%Y", None),
        (20240131, "%Y%m%d", datetime(2024, 1, 31)),
        (20240131, None, None),
        ("2024-01-31T14:05:00+02:00", None, datetime(2024, 1, 31, 12, 5)),
        ("2024-01-31 14:05:00 UTC", None, datetime(2024, 1, 31, 14, 5)),
        (datetime(2024, 1, 31, 14, tzinfo=UTC), "%d/%m/%Y", datetime(2024, 1, 31, 14)),
        (date(2024, 1, 31), None, datetime(2024, 1, 31)),
        (pd.Timestamp("2024-01-31 14:05"), None, datetime(2024, 1, 31, 14, 5)),
        (np.datetime64("2024-01-31"), None, datetime(2024, 1, 31)),
        (1706709900.5e9, None, datetime(2024, 1, 31, 14, 5, 0, 500_000)),
        (np.datetime64("NaT"), None, None),
        (pd.NaT, None, None),
        (float("nan"), None, None),
        (7, None, None),
        (True, None, None),
        (None, "%d/%m/%Y", None),
    ],
)
def test_times_of_every_form(value, time_format, expected):
    assert read_time(value, time_format) == expected


def test_free_text_has_no_ids():
    schema = Schema((FieldSchema("note", "Note", "text"), FieldSchema("user", "User")), label="click")
    rows = {"note": ["old  shoes", None], "user": [3, 4], "click": [0, 1]}
    processor = ClickPromptProcessor.fit(rows, schema, tiny_roberta_tokenizer())
    assert (processor.vocabularies, processor.boundaries) == ([[], ["3", "4"]], [[], []])
    assert (processor.field_sizes, processor.max_values) == ([3], [1])
    assert processor.encode(rows).tolist() == [[1], [2]]
    assert processor.encode_values(0, rows["note"]).shape == (2, 0)
    assert processor.render(rows) == ["Note is old shoes. User is 3.", "Note is unknown. User is 4."]
    with pytest.raises(ValueError, match=r"missing \['note'\]"):
        processor({"user": [3]})
    # rows need no text if nothing reads it
    processor.tokenizer = None
    assert dict(processor({"user": [3]})) == {"feature_ids": [[1]]}
    assert dict(processor([])) == {"feature_ids": []}


def test_labels_in_words():
    schema = Schema((FieldSchema("user"),), label="shown_up", positive="No")
    processor = ClickPromptProcessor.fit({"user": [3]}, schema)
    labels = ["No", " No", "Yes", "late", 0, 1, "0", "1", np.int8(1)]
    batch = processor({"user": [3] * 9, "shown_up": labels})
    assert batch["labels"] == [1, 1, 0, 0, 0, 1, 0, 1, 1]
    with pytest.raises(ValueError, match=r"'shown_up' must be 0, 1 or words \('No' for a click\), got None in row 1"):
        processor({"user": [3, 3], "shown_up": ["No", None]})


def test_saved_parts_of_a_time_and_text_give_the_same(tmp_path):
    fields = [FieldSchema("at", kind="weekday"), FieldSchema("at", kind="hour"), FieldSchema("note", kind="text")]
    schema = Schema((*fields, FieldSchema("paid", kind="numeric", buckets="log")), label="late", positive="Yes")
    rows = {"at": TIMES, "note": list("abcdef"), "paid": [1, 2, 3, 50, 600, 7000], "late": ["Yes", "No"] * 3}
    processor = ClickPromptProcessor.fit(rows, schema, tiny_roberta_tokenizer())
    processor.save_pretrained(tmp_path)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path)
    assert loaded.schema == schema
    assert dict(loaded(rows)) == dict(processor(rows))
    assert loaded.vocabularies == processor.vocabularies
    sizes = (tmp_path / "feature_vocabularies.txt").read_text().partition("\n")[0]
    assert list(json.loads(sizes)) == ["at.weekday", "at.hour", "note", "paid"]


def test_a_column_of_times_without_times_is_refused():
    schema = Schema((FieldSchema("at", kind="hour", time_format="%d/%m/%Y"),), label="click")
    with pytest.raises(ValueError, match="'at' of kind 'hour' must hold times in the `time_format` '%d/%m/%Y', .*'x'"):
        ClickPromptProcessor.fit({"at": ["x", None]}, schema)


def test_a_numeric_column_without_numbers_is_refused():
    schema = Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    with pytest.raises(ValueError, match="'x' of kind 'numeric' must hold numbers, .* e.g. 'high'"):
        ClickPromptProcessor.fit({"x": ["high", "low"], "click": [0, 1]}, schema)


def test_multi_valued_fields_own_several_columns():
    schema = Schema((FieldSchema("tags", "Tags", "multi_valued", max_values=2),), label="click")
    processor = ClickPromptProcessor.fit({"tags": ["a|b", "a", "", "a|c|d"]}, schema)
    assert processor.vocabularies == [["a", "", "b", "c"]]
    assert processor.max_values == [2]
    rows = {"tags": ["b|a", ["c"], "", "a|zzz|b", None]}
    assert processor(rows)["feature_ids"] == [[3, 1], [4, -1], [2, -1], [1, 0], [2, -1]]
    assert processor.render(rows)[3:] == ["Tags is a, zzz, b.", "Tags is unknown."]


def test_values_may_hold_braces_and_templates_may_differ():
    schema = Schema((FieldSchema("a", "A"), FieldSchema("b", "B")), label="y", template="{name}: {value};")
    processor = ClickPromptProcessor.fit({"a": ["{name}"], "b": ["{0}"]}, schema)
    assert processor.render({"a": ["{name}"], "b": ["{0}"]}) == ["A: {name}; B: {0};"]


def test_every_form_of_rows_gives_the_same():
    rows = tiny_rows(6)
    processor = ClickPromptProcessor.fit(rows, tiny_schema(), tiny_roberta_tokenizer())
    expected = dict(processor(rows))
    names = list(rows)
    as_list = [dict(zip(names, row)) for row in zip(*rows.values())]
    for form in (as_list, pd.DataFrame(rows), pa.table(rows), datasets.Dataset.from_dict(rows)[:]):
        assert dict(processor(form)) == expected
    assert [processor(row)["feature_ids"][0] for row in as_list] == expected["feature_ids"]
    mapped = datasets.Dataset.from_dict(rows).map(processor, batched=True)
    assert {name: mapped[:][name] for name in expected} == expected


def test_tensors_are_padded_and_long_texts_truncated():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=12)
    batch = processor(tiny_rows(3), return_tensors="pt")
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 12)
    assert batch["input_ids"][0, -1] == processor.tokenizer.sep_token_id
    assert batch["feature_ids"].dtype == batch["labels"].dtype == torch.int64
    assert "token_type_ids" not in batch


def test_no_rows_give_empty_tensors():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    for rows in ([], {name: [] for name in tiny_rows()}):
        batch = processor(rows, return_tensors="pt")
        assert batch["feature_ids"].shape == (0, 5)
        assert batch["input_ids"].shape == (0, 0)


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_saved_processor_gives_the_same(with_tokenizer, tmp_path):
    tokenizer = tiny_roberta_tokenizer() if with_tokenizer else None
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=20)
    processor.save_pretrained(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    processor.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert ("tokenizer.json" in first) == with_tokenizer

    ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr").save_pretrained(tmp_path)
    for loader in (ClickPromptProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, ClickPromptProcessor)
        assert dict(loaded(tiny_rows(9, seed=5))) == dict(processor(tiny_rows(9, seed=5)))
        assert loaded.fingerprint == processor.fingerprint
        assert loaded.reads_text == with_tokenizer


def test_vocabularies_are_neither_printed_nor_in_the_config_file(tmp_path):
    processor = ClickPromptProcessor.fit({"user": ["secret-user"], "title": ["x"]}, SCHEMA)
    processor.save_pretrained(tmp_path)
    assert "secret-user" not in repr(processor)
    assert "secret-user" not in (tmp_path / "processor_config.json").read_text()
    assert (tmp_path / "feature_vocabularies.txt").read_text() == '{"user": 1, "title": 1}\nsecret-user\nx\n'


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda processor: pickle.loads(pickle.dumps(processor))])
def test_a_copy_without_a_tokenizer_reads_no_text_either(copied):
    processor = copied(ClickPromptProcessor.fit(TRAIN, SCHEMA))
    assert not processor.reads_text
    assert list(processor(TRAIN)) == ["feature_ids"]
    assert processor.model_input_names == ["feature_ids"]


def test_lone_surrogates_are_replaced(tmp_path):
    rows = {"user": [1], "title": ["half a robot \ud83e"]}
    processor = ClickPromptProcessor.fit(rows, SCHEMA, tiny_roberta_tokenizer())
    processor.save_pretrained(tmp_path)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path)
    assert loaded.vocabularies[1] == ["half a robot \ufffd"]
    assert loaded(rows)["input_ids"] == processor({"user": [1], "title": ["half a robot \ufffd"]})["input_ids"]


def test_vocabularies_of_another_processor_are_refused(tmp_path):
    ClickPromptProcessor.fit(TRAIN, SCHEMA).save_pretrained(tmp_path)
    path = tmp_path / "feature_vocabularies.txt"
    saved = path.read_text()
    assert saved.splitlines() == ['{"user": 3, "title": 3}', "7", "3", "9", "a", "b", ""]
    for other in (saved.replace("7\n3\n", "3\n7\n"), saved[:-1], saved.replace('"title": 3', '"title": 2')):
        assert other != saved
        path.write_text(other)
        with pytest.raises(ValueError, match=r"feature_vocabularies\.txt must be the whole file that was saved with"):
            ClickPromptProcessor.from_pretrained(tmp_path)


def test_vocabularies_of_every_size_are_read_as_they_were_written(tmp_path):
    schema = Schema.from_dict({"fields": ["a", "b", "c"], "label": "click"})
    vocabularies = [[], ["", "\u2028", " \r", "Café \U0001f916"], [""]]
    ClickPromptProcessor(schema, vocabularies, [[], [], []]).save_pretrained(tmp_path)
    assert ClickPromptProcessor.from_pretrained(tmp_path).vocabularies == vocabularies
    with pytest.raises(ValueError, match=r"`vocabularies` must hold values without line breaks, got 'x\\ny'"):
        ClickPromptProcessor(schema, [[], [], ["x\ny"]], [[], [], []]).save_pretrained(tmp_path)
    assert ClickPromptProcessor.from_pretrained(tmp_path).vocabularies == vocabularies


def formatted(name):
    return lambda rows: datasets.Dataset.from_dict(rows).with_format(name)


def rows_as_mappings(rows):
    return [dict(zip(rows, row)) for row in zip(*rows.values())]


TRAINING_FORMS = {
    "columns": dict,
    "arrays": lambda rows: {name: np.asarray(values, dtype=object) for name, values in rows.items()},
    "columns and others": lambda rows: {**rows, "request": "x"},
    "list": rows_as_mappings,
    "tuple": lambda rows: tuple(rows_as_mappings(rows)),
    "generator": lambda rows: iter(rows_as_mappings(rows)),
    "pandas": pd.DataFrame,
    "pandas of Arrow": lambda rows: pa.table(rows).to_pandas(types_mapper=pd.ArrowDtype),
    "pandas with an index": lambda rows: pd.DataFrame(rows, index=range(100, 100 + len(rows["user"]))),
    "polars": pl.DataFrame,
    "Arrow": pa.table,
    "Arrow batch": lambda rows: pa.table(rows).to_batches()[0],
    "Arrow reader": lambda rows: pa.table(rows).to_reader(7),
    "dataset": datasets.Dataset.from_dict,
    "batch of a dataset": lambda rows: datasets.Dataset.from_dict(rows)[:],
    "indexed dataset": lambda rows: datasets.Dataset.from_dict({n: v[::-1] for n, v in rows.items()}).select(
        range(len(rows["user"]) - 1, -1, -1)
    ),
    **{f"dataset in {name} format": formatted(name) for name in ("arrow", "numpy", "torch", "pandas", "polars")},
    "batch of a dataset in Arrow format": lambda rows: formatted("arrow")(rows)[:],
    "batch of a dataset in numpy format": lambda rows: formatted("numpy")(rows)[:],
    "batch of a dataset in pandas format": lambda rows: formatted("pandas")(rows)[:],
    "stream": lambda rows: datasets.Dataset.from_dict(rows).to_iterable_dataset(num_shards=3),
    "stream in Arrow format": lambda rows: formatted("arrow")(rows).to_iterable_dataset().with_format("arrow"),
    "stream in numpy format": lambda rows: formatted("numpy")(rows).to_iterable_dataset().with_format("numpy"),
    "generated stream": lambda rows: datasets.IterableDataset.from_generator(
        lambda: iter(rows_as_mappings(rows)), features=datasets.Dataset.from_dict(rows).features
    ),
    "mapped stream": lambda rows: datasets.Dataset.from_dict(rows).to_iterable_dataset().map(lambda row: row),
}


@pytest.mark.parametrize("form", TRAINING_FORMS.values(), ids=list(TRAINING_FORMS))
def test_every_form_of_training_rows_fits_the_same(form):
    rows = tiny_rows()
    expected = ClickPromptProcessor.fit(rows, tiny_schema(), min_count=2)
    processor = ClickPromptProcessor.fit(form(rows), tiny_schema(), min_count=2)
    assert processor.fingerprint == expected.fingerprint
    new = tiny_rows(50, seed=9) | {"user": list(range(50))}
    assert processor.extend(form(new)) == expected.extend(new)
    assert processor.fingerprint == expected.fingerprint


def test_fitting_without_the_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "clickprompt_hf.data.vocabulary", None)
    processor = ClickPromptProcessor(SCHEMA, [["7"], ["a"]], [[], []])
    for call in (lambda: ClickPromptProcessor.fit(TRAIN, SCHEMA), lambda: processor.extend(TRAIN)):
        with pytest.raises(ImportError, match="needs the clickprompt_hf package, .* pip install clickprompt_hf"):
            call()


TOKENIZERS = [tiny_roberta_tokenizer, tiny_bert_tokenizer, tiny_t5_tokenizer]


@pytest.mark.parametrize("make_tokenizer", TOKENIZERS)
@pytest.mark.parametrize("max_text_length", [None, 3, 20, 60])
@pytest.mark.parametrize("side", ["right", "left"])
def test_texts_are_tokenized_as_by_the_tokenizer(make_tokenizer, max_text_length, side):
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.truncation_side = side
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=max_text_length)
    rows = rows_of_lengths(40, seed=2)
    limit = {} if max_text_length is None else {"truncation": True, "max_length": max_text_length}
    own = copy.deepcopy(tokenizer)
    assert processor(rows)["input_ids"] == own(processor.render(rows), **limit)["input_ids"]
    padded = own(processor.render(rows), padding=True, padding_side="right", return_tensors="pt", **limit)
    batch = processor(rows, return_tensors="pt")
    for name in ("input_ids", "attention_mask"):
        torch.testing.assert_close(batch[name], padded[name], rtol=0, atol=0)


@pytest.mark.parametrize("make_tokenizer", TOKENIZERS)
def test_the_tokenizer_keeps_its_settings(make_tokenizer):
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer(["a", "b c d e f"], truncation=True, max_length=4, padding=True)
    backend = tokenizer.backend_tokenizer
    settings, written = (backend.truncation, backend.padding), backend.to_str()
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=30)
    longest = max(map(len, processor(tiny_rows(), return_tensors="pt")["input_ids"]))
    assert 4 < longest <= 30
    assert (backend.truncation, backend.padding) == settings
    assert backend.to_str() == written


def test_tokens_added_later_are_known():
    tokenizer = copy.deepcopy(tiny_roberta_tokenizer())
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    row = {"user": 1, "price": 1, "tags": "", "title": "Zyzzyva"}
    before = processor(row)["input_ids"]
    tokenizer.add_tokens("Zyzzyva")
    after = processor(row)["input_ids"]
    assert after == copy.deepcopy(tokenizer)(processor.render([row]))["input_ids"] != before
    assert tokenizer.convert_tokens_to_ids("Zyzzyva") in after[0]


def test_tokens_of_the_vocabulary_that_are_added_later_are_not_split():
    tokenizer = copy.deepcopy(tiny_bert_tokenizer())
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    row = {"user": 1, "price": 1, "tags": "", "title": "trailer"}
    before = processor(row)["input_ids"]
    assert "t" in tokenizer.get_vocab()
    tokenizer.add_tokens("t")
    after = processor(row)["input_ids"]
    assert after == copy.deepcopy(tokenizer)(processor.render([row]))["input_ids"] != before


@pytest.mark.parametrize("make_tokenizer", TOKENIZERS)
def test_threads_share_a_processor(make_tokenizer):
    tokenizer = copy.deepcopy(make_tokenizer())
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=50)
    calls = [(rows_of_lengths(1 + n % 7, seed=n), "pt" if n % 3 else None) for n in range(320)]

    def call(arguments):
        rows, return_tensors = arguments
        # The tokenizer's owner uses it meanwhile.
        tokenizer(["a", "b c"], truncation=True, max_length=3 + len(rows["user"]), padding=True)
        return {
            name: torch.as_tensor(v).tolist() if return_tensors else v for name, v in processor(*arguments).items()
        }

    expected = [call(arguments) for arguments in calls]
    # Nothing is built yet in the processor that the threads share.
    processor = ClickPromptProcessor(processor.schema, processor.vocabularies, processor.boundaries, tokenizer, 50)
    assert in_threads(call, calls) == expected


def test_rows_of_a_selection_are_fitted_and_no_others():
    rows = datasets.Dataset.from_dict(TRAIN).select([0, 3])
    assert ClickPromptProcessor.fit(rows, SCHEMA).vocabularies == [["3", "7"], ["b"]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p({"user": [1]}), r"missing \['title'\], given \['user'\]"),
        (lambda p: p({"user": [1, 2], "title": ["a"]}), "one length"),
        (lambda p: p({"user": [1], "title": ["a"], "click": [2]}), "'click' must be 0 or 1, got 2 in row 0"),
        (lambda p: p({"user": [1], "title": ["a"], "click": [None]}), "must be 0 or 1, got None"),
        (lambda p: p([{"user": 1, "title": "a"}, {"usr": 1, "title": "a"}]), r"Row 1 must have .* missing \['user'\]"),
        (
            lambda p: p({"user": [1, [2]], "title": ["a", "b"]}),
            r"'user' .* one value per row, got \[2\] in row 1",
        ),
        (lambda p: p.fit({"user": [1]}, SCHEMA), "missing"),
        (lambda p: p.fit({"user": [[1]], "title": ["a"]}, SCHEMA), "'user' .* holds lists: make its `kind` 'multi_va"),
        (lambda p: p.fit(TRAIN, SCHEMA, min_count=0), "`min_count` must be at least 1"),
    ],
)
def test_wrong_rows_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(ClickPromptProcessor.fit(TRAIN, SCHEMA))


def test_cells_without_dimensions_are_single_values():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    user = TRAIN["user"][0]
    expected = processor({"user": user, "title": "a"})["feature_ids"]
    for cell in (np.array(user), torch.tensor(user), np.int64(user)):
        assert processor([{"user": cell, "title": "a"}])["feature_ids"] == expected
        assert processor({"user": cell, "title": np.array("a")})["feature_ids"] == expected


def test_row_offset_counts_in_the_message_about_a_wrong_label():
    with pytest.raises(ValueError, match="got 7 in row 101"):
        ClickPromptProcessor.fit(TRAIN, SCHEMA)({"user": [1, 1], "title": ["a", "a"], "click": [1, 7]}, row_offset=100)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("abc", "`rows` must be a row .* got str"),
        (3, "`rows` must be a row .* got int"),
        ([{"user": 1, "title": "a"}, 2], "Row 1 must be a mapping from column to value, got int"),
    ],
)
def test_values_that_are_not_rows_are_refused(rows, message):
    with pytest.raises(TypeError, match=message):
        ClickPromptProcessor.fit(TRAIN, SCHEMA)(rows)


@pytest.mark.parametrize(("action", "times"), [("always", 2), ("default", 1)])
def test_cells_that_are_not_numbers_or_times_give_one_warning_per_field_and_call(action, times):
    schema = Schema.from_dict(
        {"fields": [{"column": "price", "kind": "numeric"}, {"column": "at", "kind": "hour"}], "label": "click"}
    )
    processor = ClickPromptProcessor.fit({"price": [1, 2, 3], "at": ["2024-01-31 14:05"] * 3}, schema)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        for _ in range(2):
            processor(
                {
                    "price": [None, "cheap", 1, "cheaper", "cheap"],
                    "at": ["", "31/01/2024", "2024-01-31 14:05", "x", "31/01/2024"],
                }
            )
    assert [str(warning.message) for warning in caught] == [
        "Column 'price' of kind 'numeric' should hold numbers; 3 of 5 cells (60 %), such as 'cheap', count as "
        "missing.",
        "Column 'at' of kind 'hour' should hold times; 3 of 5 cells (60 %), such as '31/01/2024', count as missing.",
    ] * times
    assert {warning.filename for warning in caught} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClickPromptProcessor.fit({"price": [1, 2], "at": ["2024-01-31 14:05"] * 2}, schema)(
            {"price": [None, " "], "at": [float("nan"), ""]}
        )


def _warnings_of(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *(
            ("2,067", "2067 or 2.067"),
            ("-12,345,678.90", "-12345678.90"),
            ("2.067,11", "2067.11"),
            ("1.415.011", "1415011"),
        ),
        *(("2 067", "2067"), ("2\u202f067,5", "2067.5"), ("2'067.5", "2067.5"), ("14,7", "14.7"), ("0,123", "0.123")),
        *(("1,2,3", None), ("12,34.5", None), ("cheap", None), ("1.234.5", None), ("2,067,5", None), ("", None)),
    ],
)
def test_unread_numbers_are_counted_with_the_way_to_write_them(cell, written):
    assert plain_readings(cell) == (written.split(" or ") if written else [])
    processor = ClickPromptProcessor.fit(
        {"x": [1, 2, 3, 4]}, Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    )
    advice = f" Write {written} for {cell!r}, or name `decimal` and `thousands` of a CSV file."
    expected = (
        f"Column 'x' of kind 'numeric' should hold numbers; 1 of 200 cells (0.5 %), such as {cell!r}, count as "
        f"missing.{advice if written else ''}"
    )
    assert _warnings_of(lambda: processor({"x": [*range(199), cell]})) == [expected] * bool(cell)


@pytest.mark.parametrize(
    ("cell", "readings"),
    [
        # thousands of kilograms, or grams of a kilogram
        *(("2.067 kg", ["2067", "2.067"]), ("2,067 kg", ["2067", "2.067"]), ("$ 2.067", ["2067", "2.067"])),
        *(("(2.067)", ["-2067", "-2.067"]), ("2.067k", ["2067000", "2067"])),
        *(("2.0675 kg", ["2.0675"]), ("0.067 kg", ["0.067"]), ("2.067.000 kg", ["2067000"])),
    ],
)
def test_a_point_before_three_digits_may_separate_thousands_or_a_fraction(cell, readings):
    assert plain_readings(cell) == readings


def test_advice_on_numbers_uses_an_unambiguous_one():
    schema = Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    processor = ClickPromptProcessor.fit({"x": [1, 2, 3, 4]}, schema)
    for cells, expected in (
        (["n/k", "1,250", "14,7"], "such as 'n/k', count as missing. Write 14.7 for '14,7', or"),
        (["1,250", "1,228.86"], "Write 1228.86 for '1,228.86', or"),
        (["1.250 kg", "0.75 kg"], "Write 0.75 for '0.75 kg'."),
    ):
        (message,) = _warnings_of(lambda cells=cells: processor({"x": cells}))
        assert expected in message


def test_unread_cells_of_many_slices_are_counted_together(monkeypatch):
    schema = Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    processor = ClickPromptProcessor.fit({"x": [1, 2, 3, 4]}, schema)
    unread = UnreadCells(schema.fields[0])
    for cells, repeats in ((["1", "?"], [3, 2]), (["none left", "2"], [0, 4]), (["!"], [1])):
        assert _warnings_of(lambda c=cells, r=repeats: processor.encode_values(0, c, np.asarray(r), unread)) == []
    (message,) = _warnings_of(unread.warn)
    assert "3 of 10 cells (30 %), such as '?', count as missing" in message
    # values of no row
    assert _warnings_of(lambda: processor.encode_values(0, ["?"], np.asarray([0]))) == []


def test_unread_cells_are_counted_by_row():
    processor = ClickPromptProcessor.fit(
        {"x": [1, 2, 3, 4]}, Schema.from_dict({"fields": [{"column": "x", "kind": "numeric"}], "label": "click"})
    )
    (message,) = _warnings_of(lambda: processor.encode_values(0, ["1", "?!", None], np.asarray([2, 5, 3])))
    assert "5 of 10 cells (50 %), such as '?!', count as missing" in message
    rows = pa.table({"x": ["1", "?!", "?!", "2"], "click": [0, 1, 0, 1]})
    (message,) = _warnings_of(lambda: encode_tables([rows], processor, with_text=False, with_value_fields=False))
    assert "2 of 4 cells (50 %), such as '?!', count as missing" in message


def test_unread_dates_in_digits_are_counted_with_their_format():
    at = {"column": "at", "kind": "weekday"}
    processor = ClickPromptProcessor.fit({"at": ["2024-01-31"]}, Schema.from_dict({"fields": [at], "label": "click"}))
    assert _warnings_of(lambda: processor({"at": ["2024-01-31", "20240131"]})) == [
        "Column 'at' of kind 'weekday' should hold times; 1 of 2 cells (50 %), such as '20240131', count as missing. "
        "They may be dates in the `time_format` '%Y%m%d'."
    ]


@pytest.mark.parametrize(
    ("cell", "read_as", "time_format"),
    [
        ("20220103194039", "2610-10-01 23:19", "%Y%m%d%H%M%S"),
        (20220103194039, "2610-10-01 23:19", "%Y%m%d%H%M%S"),
        (20220103194039.0, "2610-10-01 23:19", "%Y%m%d%H%M%S"),
        ("202205051000", "1976-05-29 08:04", "%Y%m%d%H%M"),
        ("2022010319", "2034-01-27 21:31", "%Y%m%d%H"),
        ("20220103194039123", "2610-10-01 23:19", "%Y%m%d%H%M%S%f"),
    ],
)
def test_dates_in_digits_that_are_read_as_seconds_trigger_a_warning(cell, read_as, time_format):
    at = {"column": "at", "kind": "hour"}
    schema = Schema.from_dict({"fields": [at], "label": "click"})
    expected = [
        f"Column 'at' of kind 'hour' has no `time_format`, so cells like '{canonical(cell)}' are read as "
        f"seconds since 1970, or fractions of them: as {read_as}. If they are digit-only dates, give the field "
        f"`time_format: {time_format!r}`; if the model is already trained, format them as in training."
    ]
    assert _warnings_of(lambda: ClickPromptProcessor.fit({"at": [cell, None, ""]}, schema)) == expected
    seconds = [1706709900, 1706709900_000, "2024-01-31 14:05"]
    trained = ClickPromptProcessor.fit({"at": seconds}, schema)
    assert _warnings_of(lambda: trained({"at": [None, cell]})) == expected
    assert _warnings_of(lambda: trained({"at": [*seconds, cell, "2022-01-03"]})) == []
    read = Schema.from_dict({"fields": [{**at, "time_format": time_format}], "label": "click"})
    assert _warnings_of(lambda: ClickPromptProcessor.fit({"at": [cell]}, read)({"at": [cell]})) == []


@pytest.mark.parametrize(
    ("cells", "warned"), [(["a|b", "c", "d|e"], True), (["a;b", "c|d"], False), (["a", "b"], False)]
)
def test_a_separator_that_no_cell_holds_triggers_a_warning(cells, warned):
    member = {"column": "tags", "kind": "multi_valued", "separator": ";"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ClickPromptProcessor.fit({"tags": cells}, Schema.from_dict({"fields": [member], "label": "click"}))
    assert [str(warning.message) for warning in caught] == [
        "No cell of column 'tags' has its `separator` ';', but most have '|': each cell counts as one value."
    ] * warned


def test_unknown_columns_do_not_decide_between_one_row_and_several():
    processor = ClickPromptProcessor.fit(
        {"u": ["a", "b"], "i": [1, 2]}, Schema.from_dict({"fields": ["u", "i"], "label": "y"})
    )
    assert processor({"u": ["a", "b"], "i": [1, 2], "request": "x"})["feature_ids"] == [[1, 1], [2, 2]]
    assert processor({"u": "a", "i": 1, "tags": ["x", "y"]})["feature_ids"] == [[1, 1]]


PADDING = (True, False, "longest", "max_length", "do_not_pad", PaddingStrategy.LONGEST)
TRUNCATION = (True, False, "longest_first", "only_first", "do_not_truncate", TruncationStrategy.ONLY_FIRST)


@pytest.mark.parametrize("kind", ["byte-level BPE", "WordPiece", "Unigram", "in Python"])
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("truncation", TRUNCATION)
def test_padding_and_truncation_are_those_of_the_tokenizer(kind, padding, truncation):
    tokenizer = tokenizer_of(kind)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    rows = rows_of_lengths(7, seed=4)
    texts = processor.render(rows)
    options = {"padding": padding, "truncation": truncation, "return_special_tokens_mask": True}
    for max_length, multiple in ((24, None), (24, 8), (400, 16)):
        if multiple and padding in (False, "do_not_pad"):
            continue
        if padding == "max_length" and truncation in (False, "do_not_truncate") and max_length == 24:
            # the tokenizer returns texts of different lengths, although asked to pad them to one
            with pytest.raises(ValueError, match=r"`padding='max_length'` pads to 24 tokens, but a text has \d+"):
                processor(rows, **options, max_length=max_length)
            continue
        own = copy.deepcopy(tokenizer)
        with warnings.catch_warnings():
            # max_length has no effect without truncation
            warnings.simplefilter("ignore")
            expected = own(texts, **options, max_length=max_length, pad_to_multiple_of=multiple, padding_side="right")
        found = processor(rows, **options, max_length=max_length, pad_to_multiple_of=multiple)
        for name in ("input_ids", "attention_mask", "special_tokens_mask"):
            assert found[name] == expected[name]


def test_tensors_and_arrays():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    rows = tiny_rows(6)
    expected = {name: torch.as_tensor(values).tolist() for name, values in processor(rows, padding=True).items()}
    kinds = {"pt": torch.Tensor, TensorType.PYTORCH: torch.Tensor, "np": np.ndarray, TensorType.NUMPY: np.ndarray}
    for return_tensors, kind in kinds.items():
        batch = processor(rows, return_tensors=return_tensors)
        assert isinstance(batch, BatchFeature)
        assert {type(values) for values in batch.values()} == {kind}
        assert {str(values.dtype).removeprefix("torch.") for values in batch.values()} == {"int64"}
        assert {name: values.tolist() for name, values in batch.items()} == expected
    assert [len(text) for text in processor(rows)["input_ids"]] == np.sum(expected["attention_mask"], axis=1).tolist()


def test_limits_of_processor_call_and_tokenizer():
    tokenizer = tokenizer_of("byte-level BPE", model_max_length=20)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=16)
    rows = tiny_rows(5)

    def longest(**options):
        return max(map(len, processor(rows, **options)["input_ids"]))

    whole = longest(truncation=False)
    assert (longest(), longest(truncation=True), longest(max_length=8), longest(max_length=18)) == (16, 16, 8, 18)
    assert whole > 20
    assert longest(padding="max_length") == 16
    assert longest(padding="max_length", max_length=64) == 64
    assert longest(padding=True, pad_to_multiple_of=64) == 64
    processor.max_text_length = None
    assert (longest(), longest(truncation=True), longest(padding="max_length", truncation=True)) == (whole, 20, 20)
    processor.tokenizer.model_max_length = 10**30
    assert (longest(), longest(truncation=True)) == (whole, whole)
    with pytest.raises(ValueError, match="`padding='max_length'` needs `max_length`"):
        processor(rows, padding="max_length")


def test_special_tokens_and_masks_can_be_left_out():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    rows = tiny_rows(3)
    bare = processor(rows, add_special_tokens=False, return_attention_mask=False, return_special_tokens_mask=True)
    assert list(bare) == ["feature_ids", "input_ids", "special_tokens_mask", "labels"]
    assert [[0, *text, 2] for text in bare["input_ids"]] == processor(rows)["input_ids"]
    assert not np.concatenate(bare["special_tokens_mask"]).any()
    # one more token for the text, as none goes to special tokens
    shortest = processor(rows, add_special_tokens=False, max_length=1)["input_ids"]
    assert shortest == [text[:1] for text in bare["input_ids"]]


def test_nested_arguments():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    rows = tiny_rows(3)
    expected = processor(rows, return_tensors="np", padding="max_length", truncation=True, max_length=9)
    text_kwargs = {"padding": "max_length", "truncation": True, "max_length": 9}
    for options in (
        {"return_tensors": "np", "text_kwargs": text_kwargs},
        {"text_kwargs": {**text_kwargs, "return_tensors": "np"}, "images_kwargs": {}},
        {"text_kwargs": text_kwargs, "common_kwargs": {"return_tensors": "np", "padding": True}},
        {"return_tensors": "np", "common_kwargs": {**text_kwargs, "return_tensors": "pt"}},
    ):
        found = processor(rows, **options)
        assert {name: values.tolist() for name, values in found.items()} == {
            name: values.tolist() for name, values in expected.items()
        }
        assert isinstance(found["input_ids"], np.ndarray)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"max_lenght": 8},
            TypeError,
            r"Unknown arguments \['max_lenght'\]; known arguments are rows, .*'max_length', 'pad_to",
        ),
        ({"text_kwargs": {"max_lenght": 8}}, TypeError, r"Unknown arguments \['max_lenght'\]"),
        ({"device": "cpu"}, TypeError, r"Unknown arguments \['device'\]"),
        ({"text": ["Up"]}, TypeError, "`text` must be left out: the processor renders texts itself"),
        ({"text_kwargs": 3}, TypeError, "`text_kwargs` must be a mapping from argument to value, got 3"),
        ({"padding": True, "text_kwargs": {"padding": True}}, ValueError, r"must not repeat .* \['padding'\]"),
        ({"return_tensors": "tf"}, ValueError, r"`return_tensors` must be one of \['pt', 'np', None\], got 'tf'"),
        ({"return_tensors": "mlx"}, ValueError, "`return_tensors` must be"),
        ({"return_tensors": True}, ValueError, "`return_tensors` must be"),
        ({"padding": "left"}, ValueError, "`padding` must be one of .*'max_length'.*, got 'left'"),
        ({"padding": 1}, ValueError, "`padding` must be one of .*, got 1"),
        ({"truncation": "only_second"}, ValueError, "`truncation` must be one of .*, got 'only_second'"),
        ({"truncation": 8}, ValueError, "`truncation` must be one of .*, got 8"),
        ({"max_length": 0}, ValueError, "`max_length` must be an integer of at least 1, got 0"),
        ({"max_length": 8.0}, ValueError, "`max_length` must be an integer of at least 1, got 8.0"),
        ({"max_length": True}, ValueError, "`max_length` must be an integer of at least 1, got True"),
        (
            {"max_length": 1},
            ValueError,
            "at least 2 tokens, the tokenizer's number of special tokens, got 1",
        ),
        ({"pad_to_multiple_of": 0, "padding": True}, ValueError, "`pad_to_multiple_of` must be an integer of at"),
        ({"pad_to_multiple_of": 8}, ValueError, "`pad_to_multiple_of` needs `padding` or `return_tensors`"),
        (
            {"pad_to_multiple_of": 8, "padding": True, "max_length": 12},
            ValueError,
            "`max_length` must be a multiple of `pad_to_multiple_of`, got 12 and 8",
        ),
        ({"padding": False, "return_tensors": "pt"}, ValueError, "`padding` must be left out or True if `return_t"),
        ({"padding_side": "left"}, ValueError, "`padding_side` must be 'right' or left out: prompts come before"),
        ({"add_special_tokens": "no"}, ValueError, "`add_special_tokens` must be True or False, got 'no'"),
        ({"return_attention_mask": 0}, ValueError, "`return_attention_mask` must be True or False, got 0"),
        ({"return_offsets_mapping": True}, ValueError, "`return_offsets_mapping` must be False or left out"),
        ({"return_overflowing_tokens": True}, ValueError, "`return_overflowing_tokens` must be False"),
        ({"return_token_type_ids": True}, ValueError, "`return_token_type_ids` must be False"),
        ({"return_length": True}, ValueError, "`return_length` must be False or left out: sum `attention_mask`"),
        ({"is_split_into_words": True}, ValueError, "`is_split_into_words` must be False"),
        (
            {"split_special_tokens": False},
            ValueError,
            "`split_special_tokens` must be True or left out: text is never",
        ),
        ({"stride": 2}, ValueError, "`stride` must be 0"),
        ({"text_pair": ["x"]}, ValueError, "`text_pair` must be None"),
        ({"images": ["x.png"]}, ValueError, "`images` must be None or left out: .* reads no images"),
        ({"images_kwargs": {"size": 3}}, ValueError, r"`images_kwargs` must be \{\}"),
    ],
)
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_arguments_that_cannot_be_obeyed_are_refused(options, error, message, with_tokenizer):
    tokenizer = tiny_roberta_tokenizer() if with_tokenizer else None
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    if not with_tokenizer and ("special tokens, got" in message or "if `return_t" in message):
        # whether these can be obeyed depends on the texts
        assert list(processor(rows_of_lengths(4, seed=1), **options)) == ["feature_ids", "labels"]
        return
    with pytest.raises(error, match=message):
        processor(rows_of_lengths(4, seed=1), **options)


def test_arguments_that_ask_for_nothing_are_taken():
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    rows = tiny_rows(3)
    nothing = {"padding": None, "max_length": None, "return_tensors": None, "stride": 0, "verbose": False}
    nothing |= {"padding_side": "right", "images": None, "text_kwargs": {}, "return_offsets_mapping": False}
    assert dict(processor(rows, **nothing)) == dict(processor(rows))


def test_misuse_of_a_processor_is_refused_by_name():
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    with pytest.raises(TypeError, match="`rows` must be a row .* got NoneType"):
        processor()
    with pytest.raises(TypeError, match="`text` must be left out"):
        processor(text="Title is Up.")
    with pytest.raises(ValueError, match="has no chat template: call it with rows"):
        processor.apply_chat_template([{"role": "user", "content": "Up?"}])
    for decode in (processor.decode, processor.batch_decode):
        with pytest.raises(ValueError, match="This processor has no tokenizer"):
            decode([1])
    with_text = ClickPromptProcessor.fit(TRAIN, SCHEMA, tiny_roberta_tokenizer())
    ids = with_text(TRAIN)["input_ids"]
    decoded = with_text.batch_decode(ids, skip_special_tokens=True)
    assert decoded == with_text.render(TRAIN)
    assert with_text.decode(ids[0], skip_special_tokens=True) == decoded[0]


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (
            datasets.DatasetDict(train=datasets.Dataset.from_dict(TRAIN)),
            TypeError,
            r"`train` .* DatasetDict of \['train",
        ),
        (datasets.IterableDatasetDict(), TypeError, "`train` must be one split, got a IterableDatasetDict"),
        ("rows.csv", TypeError, "`train` must hold rows, got 'rows.csv': read the file first"),
        (3, TypeError, "must be a row .*, got int"),
        ([{"user": 1, "title": "a"}, {"user": 1}], ValueError, r"Row 1 must have .* missing \['title'\]"),
        ({"user": [1, 2], "title": ["a"]}, ValueError, "must have one length"),
        (pd.DataFrame([[1, 2, "a"]], columns=["user", "user", "title"]), ValueError, r"repeated: \['user'\]"),
        (
            pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array(["a"])], names=["user", "user", "title"]),
            ValueError,
            r"The columns of `train` must have different names; repeated: \['user'\]",
        ),
        (datasets.Dataset.from_dict({"user": [1]}).to_iterable_dataset(), ValueError, r"missing \['title'\]"),
    ],
)
def test_training_rows_that_are_refused(train, error, message):
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA)
    for call in (lambda: ClickPromptProcessor.fit(train, SCHEMA), lambda: processor.extend(train)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("form", ["numpy", "torch", "pandas", "arrow", "polars", None])
def test_datasets_in_every_format_are_mapped_alike(form):
    rows = tiny_rows(9)
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())
    expected = processor(rows)
    mapped = datasets.Dataset.from_dict(rows).with_format(form).map(processor, batched=True, batch_size=4)
    found = mapped.with_format(None)[:]
    assert {name: found[name] for name in expected} == dict(expected)


@pytest.mark.parametrize("give", ["fit", "constructor", "assignment"])
@pytest.mark.parametrize("make_tokenizer", [tiny_gpt2_tokenizer, tiny_llama_tokenizer])
def test_a_tokenizer_without_padding_is_given_one_and_what_is_saved_loads(make_tokenizer, give, tmp_path):
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.pad_token = None
    written = tokenizer.backend_tokenizer.to_str()
    if give == "fit":
        processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    else:
        processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema())
        if give == "constructor":
            fitted = (processor.schema, processor.vocabularies, processor.boundaries)
            processor = ClickPromptProcessor(*fitted, tokenizer)
        else:
            processor.tokenizer = tokenizer
    # the caller's own tokenizer stays as it was
    assert tokenizer.pad_token is None
    assert tokenizer.backend_tokenizer.to_str() == written
    assert processor.tokenizer.pad_token == tokenizer.eos_token
    assert len(processor.tokenizer) == len(tokenizer)
    processor.save_pretrained(tmp_path)
    rows = rows_of_lengths(5, seed=3)
    batch = ClickPromptProcessor.from_pretrained(tmp_path)(rows, return_tensors="pt")
    for name, values in processor(rows, return_tensors="pt").items():
        torch.testing.assert_close(batch[name], values, rtol=0, atol=0)
    assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.eos_token_id).all()


def test_a_tokenizer_with_padding_is_shared_and_t5_gets_a_mask():
    tokenizer = tiny_roberta_tokenizer()
    assert ClickPromptProcessor.fit(TRAIN, SCHEMA, tokenizer).tokenizer is tokenizer
    processor = ClickPromptProcessor.fit(TRAIN, SCHEMA, tiny_t5_tokenizer())
    assert (processor.tokenizer.mask_token, tiny_t5_tokenizer().mask_token) == ("<extra_id_0>", None)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused():
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ValueError, match="`tokenizer` must have a padding token, .* set its `pad_token`"):
        ClickPromptProcessor.fit(TRAIN, SCHEMA, tokenizer)
    tokenizer.pad_token = "b"
    assert ClickPromptProcessor.fit(TRAIN, SCHEMA, tokenizer).tokenizer is tokenizer


@pytest.mark.parametrize("limit", [0, -1, 2.5, "8", True])
def test_a_limit_of_the_text_must_be_a_number_of_tokens(limit):
    with pytest.raises(ValueError, match="`max_text_length` must be an integer of at least 1, got"):
        ClickPromptProcessor.fit(TRAIN, SCHEMA, max_text_length=limit)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_neither_pickle_nor_hash_changes_by_use(kind):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), kind and tokenizer_of(kind), max_text_length=20)
    pickled, hashed = pickle.dumps(processor), Hasher.hash(processor)

    def use(number):
        rows = rows_of_lengths(1 + number % 5, seed=number)
        processor(rows)
        processor(rows, return_tensors="pt", padding="max_length", max_length=30)
        processor.render(rows)
        if kind:
            # as its owner uses it, which leaves its traces
            processor.tokenizer(["a" * 30, "b c d e"], truncation=True, max_length=4, padding=True)
            processor.tokenizer.model_max_length, before = 2, processor.tokenizer.model_max_length
            processor.tokenizer(["a b c d e f g"])
            processor.tokenizer.model_max_length = before

    def hashes():
        # of the pickle, the bytes may differ: the order of a set depends on how it was filled
        return Hasher.hash(processor), Hasher.hash(pickle.loads(pickle.dumps(processor)))

    use(0)
    assert hashes() == (hashed, hashed)
    in_threads(processor, [rows_of_lengths(3, seed=seed) for seed in range(16)])
    assert hashes() == (hashed, hashed)
    for copied in (copy.deepcopy(processor), pickle.loads(pickled)):
        assert Hasher.hash(copied) == hashed
        assert dict(copied(tiny_rows(7))) == dict(processor(tiny_rows(7)))


def test_saved_files_do_not_change_by_use(tmp_path):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer_of("byte-level BPE"))
    processor.save_pretrained(tmp_path / "before")
    processor.tokenizer(["a", "b c d"], truncation=True, max_length=3, padding=True)
    processor.save_pretrained(tmp_path / "after")
    for path in (tmp_path / "before").iterdir():
        assert (tmp_path / "after" / path.name).read_bytes() == path.read_bytes()


HASHES = """
import sys
from datasets.fingerprint import Hasher
from tiny_data import tiny_roberta_tokenizer, tiny_rows, tiny_schema
from clickprompt_hf import ClickPromptProcessor
processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=20)
print(Hasher.hash(processor), Hasher.hash(ClickPromptProcessor.from_pretrained(sys.argv[1])))
"""


def test_another_process_has_the_same_hash(tmp_path):
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=20)
    processor.save_pretrained(tmp_path)
    hashes = [Hasher.hash(processor), Hasher.hash(ClickPromptProcessor.from_pretrained(tmp_path))]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", HASHES, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == hashes


def test_what_is_loaded_can_be_overridden(tmp_path):
    ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer(), max_text_length=20).save_pretrained(
        tmp_path
    )
    ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr").save_pretrained(tmp_path)
    for loader in (ClickPromptProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path, max_text_length=7, truncation_side="left", model_max_length=99)
        assert loaded.max_text_length == 7
        assert (loaded.tokenizer.truncation_side, loaded.tokenizer.model_max_length) == ("left", 99)
        assert {len(text) for text in loaded(tiny_rows(3))["input_ids"]} == {7}
        assert loader.from_pretrained(tmp_path, max_text_length=None).max_text_length is None
        assert not loader.from_pretrained(tmp_path, tokenizer=None).reads_text
        other = tiny_bert_tokenizer()
        assert loader.from_pretrained(tmp_path, tokenizer=other).tokenizer is other

        arguments = {"max_text_length": 7, "padding_side": "left", "local_files_only": True, "use_fast": True}
        loaded, unused = loader.from_pretrained(tmp_path, **arguments, size=3, schema=1, return_unused_kwargs=True)
        assert unused == {"size": 3, "schema": 1}
        assert loaded.max_text_length == 7
        assert "size" not in loaded.tokenizer.init_kwargs
        with pytest.raises(
            TypeError, match=r"Unknown arguments \['max_text_lenght'\]; known are \['tokenizer', 'max_te"
        ):
            loader.from_pretrained(tmp_path, max_text_lenght=7)
        with pytest.raises(ValueError, match="`max_text_length` must be an integer of at least 1, got 0"):
            loader.from_pretrained(tmp_path, max_text_length=0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "in Python"])
def test_every_kind_of_tokenizer_is_loaded_as_it_was_saved(kind, tmp_path):
    tokenizer = tokenizer_of(kind)
    tokenizer.add_tokens(["zyz"])
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer, max_text_length=30)
    processor.save_pretrained(tmp_path)
    rows = tiny_rows(4) | {"title": ["zyz </s> [MASK]", "a <mask>", "<|endoftext|>b", "Caf\u00e9 <s>"]}
    assert dict(ClickPromptProcessor.from_pretrained(tmp_path)(rows)) == dict(processor(rows))


def test_a_tokenizer_in_python_is_loaded_once_its_class_is_known(tmp_path):
    tokenizer = tokenizer_of("in Python")
    type(tokenizer).register_for_auto_class("AutoTokenizer")
    processor = ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tokenizer)
    processor.save_pretrained(tmp_path)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert dict(loaded(tiny_rows(4))) == dict(processor(tiny_rows(4)))


@pytest.mark.parametrize("cells", [[None, "Up"], [b"x", None]])
def test_columns_without_numbers_are_refused_whatever_their_cells_are(cells):
    schema = Schema((FieldSchema("size", kind="numeric"),), label="click")
    with pytest.raises(ValueError, match="must hold numbers, but none of its training values is one"):
        ClickPromptProcessor.fit({"size": cells}, schema)
