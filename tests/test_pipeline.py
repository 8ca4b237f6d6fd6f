"""The pipeline: rows in every form to probabilities, and rows that it refuses."""

import copy
import math
import warnings
from collections import deque

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from threads import in_threads
from tiny_data import (
    rows_of_lengths,
    tiny_bert_tokenizer,
    tiny_roberta_tokenizer,
    tiny_rows,
    tiny_schema,
    tiny_t5_tokenizer,
)
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptPipeline,
    ClickPromptProcessor,
)
from clickprompt_hf.pipeline_clickprompt import scoring_batch_size
from clickprompt_hf.schema_clickprompt import Schema

ROWS = {name: values for name, values in tiny_rows(11, seed=3).items() if name != "click"}
LIST = [dict(zip(ROWS, row)) for row in zip(*ROWS.values())]


def build(model_class=ClickPromptForCTR, tokenizer=tiny_roberta_tokenizer, **options):
    processor = ClickPromptProcessor.fit(
        tiny_rows(), tiny_schema(), tokenizer() if tokenizer else None, max_text_length=30
    )
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=tiny_text_config(vocab_size=len(processor.tokenizer)) if tokenizer else None,
        ctr_config=tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values),
        prompt_length=3,
        **({"fusion": "sum" if tokenizer else "ctr"} | options),
    )
    return model_class(config), processor


@pytest.fixture(scope="module")
def score():
    model, processor = build()
    return ClickPromptPipeline(model, processor, device="cpu")


@pytest.fixture(scope="module")
def expected(score):
    with torch.no_grad():
        logits = score.model.eval()(**score.processor(ROWS, return_tensors="pt")).logits
    return logits.sigmoid().squeeze(-1).tolist()


def probabilities(scores):
    return [row["click_probability"] for row in scores]


class RowsDataset(torch.utils.data.Dataset):
    def __len__(self):
        return len(LIST)

    def __getitem__(self, index):
        return LIST[index]


FORMS = {
    "list": lambda: LIST,
    "tuple": lambda: tuple(LIST),
    "list with labels": lambda: [{**row, "click": click} for row, click in zip(LIST, (None, 7, *"abcdefghi"))],
    "deque": lambda: deque(LIST),
    "array of rows": lambda: np.asarray(LIST, dtype=object),
    "torch dataset": lambda: RowsDataset(),
    "column of a dataset": lambda: KeyDataset(datasets.Dataset.from_list([{"row": row} for row in LIST]), "row"),
    "columns": lambda: ROWS,
    "arrays": lambda: {name: np.asarray(values, dtype=object) for name, values in ROWS.items()},
    "pandas": lambda: pd.DataFrame(ROWS),
    "pandas with an index": lambda: pd.DataFrame(ROWS, index=range(100, 111)).assign(click=2, other=[[1]] * 11),
    "pandas turned": lambda: pd.DataFrame({name: values[::-1] for name, values in ROWS.items()})[::-1],
    "polars": lambda: pl.DataFrame(ROWS).with_columns(click=pl.lit(7)),
    "arrow": lambda: pa.table(ROWS),
    "arrow batch": lambda: pa.table(ROWS).to_batches()[0],
    "arrow chunks": lambda: pa.concat_tables([pa.table(ROWS).slice(0, 4), pa.table(ROWS).slice(4)]),
    "dataset": lambda: datasets.Dataset.from_dict({**ROWS, "click": [7] * 11}),
    "dataset in a format": lambda: datasets.Dataset.from_dict(ROWS).with_format("torch", columns=["user"]),
    "dataset turned": lambda: datasets.Dataset.from_dict({n: v[::-1] for n, v in ROWS.items()}).select(
        range(10, -1, -1)
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_rows_in_every_form(form, batch_size, score, expected):
    scores = score(FORMS[form](), batch_size=batch_size)
    assert [list(row) for row in scores] == [["click_probability"]] * 11
    np.testing.assert_allclose(probabilities(scores), expected, atol=1e-6)


def test_cells_that_cannot_be_read_give_one_warning_per_call_and_field():
    """Not one per block of rows: a table of millions of rows has hundreds of them."""
    fields = ["item", {"column": "price", "kind": "numeric"}, {"column": "at", "kind": "hour"}]
    train = {"item": ["a", "b"] * 10, "price": range(20), "at": [f"2024-01-01 {h:02}:00:00" for h in range(20)]}
    processor = ClickPromptProcessor.fit(train, Schema.from_dict({"fields": fields, "label": "click"}))
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr"))
    score = ClickPromptPipeline(model, processor, device="cpu")
    rows = {"item": ["a"] * 16, "price": ["1", "cheap"] * 8, "at": ["2024-01-01 10:00:00"] * 12 + ["noon"] * 4}
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            score(rows, batch_size=4)
        assert [str(warning.message) for warning in caught] == [
            "Column 'price' of kind 'numeric' should hold numbers; 8 of 16 cells (50 %), such as 'cheap', count as "
            "missing.",
            "Column 'at' of kind 'hour' should hold times; 4 of 16 cells (25 %), such as 'noon', count as missing.",
        ]
        assert {warning.filename for warning in caught} == {__file__}


def test_a_single_row_gives_a_single_score(score, expected):
    for row, probability in zip(LIST, expected):
        assert score(row) == {"click_probability": pytest.approx(probability, abs=1e-6)}
    # a list in a multi-valued field does not make a row a table of columns
    as_list, as_text = (score({**LIST[0], "tags": tags}) for tags in (["new", "old"], "new|old"))
    assert as_list == {"click_probability": pytest.approx(as_text["click_probability"], abs=1e-6)}


@pytest.mark.parametrize("rows", [[], {name: [] for name in ROWS}, pd.DataFrame(ROWS)[:0], pa.table(ROWS).slice(0, 0)])
def test_no_rows_give_no_scores(rows, score):
    assert score(rows) == []


@pytest.mark.parametrize(
    "row",
    [
        dict.fromkeys(ROWS),
        {"user": math.nan, "price": math.nan, "tags": math.nan, "title": math.nan},
        {"user": pd.NA, "price": pd.NaT, "tags": [], "title": ""},
        {"user": b"\xff", "price": "many", "tags": ["\ud83e"], "title": object},
        {"user": "x" * 1_000_000, "price": 10**400, "tags": "a|" * 500_000, "title": "word " * 200_000},
    ],
    ids=["none", "nan", "blank", "strange", "long"],
)
def test_missing_and_strange_values_are_scored(row, score):
    assert 0 < score(row)["click_probability"] < 1


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({"user": 1}, ValueError, r"missing \['price', 'tags', 'title'\], given \['user'\]"),
        ([LIST[0], {"user": 1, "tags": "", "title": ""}], ValueError, r"Row 1 must have .* missing \['price'\]"),
        (pd.DataFrame(ROWS).drop(columns="tags"), ValueError, r"missing \['tags'\]"),
        (pa.table(ROWS).drop_columns("tags"), ValueError, r"missing \['tags'\]"),
        (datasets.Dataset.from_dict(ROWS).remove_columns("tags"), ValueError, r"missing \['tags'\]"),
        (pd.DataFrame(), ValueError, r"missing \['user', "),
        (
            pd.DataFrame([[*row.values(), 1, 2] for row in LIST], columns=[*ROWS, "user", "price"]),
            ValueError,
            r"The columns of the data frame must have different names; repeated: \['price', 'user'\]",
        ),
        (
            pa.table(ROWS).append_column("user", pa.array([1] * 11)),
            ValueError,
            r"different names; repeated: \['user'\]",
        ),
        (pl.DataFrame(ROWS).drop("tags"), ValueError, r"missing \['tags'\]"),
        (datasets.DatasetDict(test=datasets.Dataset.from_dict(ROWS)), ValueError, r"missing .*, given \['test'\]"),
        (pd.DataFrame(ROWS).drop(columns="tags").iloc[0], ValueError, r"missing \['tags'\]"),
        (deque([LIST[0], 3]), TypeError, "Row 1 must be a mapping from column to value, got int"),
        (b"user", TypeError, "`inputs` must be a row .*, got bytes"),
        ({1, 2}, TypeError, "`inputs` must be a row .*, got set"),
        ({**ROWS, "user": [1]}, ValueError, r"must have one length, got \{'user': 1, 'price': 11"),
        ({**LIST[0], "user": [1, 2]}, ValueError, r"'user' of kind 'categorical' must hold one value .* in row 0"),
        ([*LIST[:9], {**LIST[0], "price": {"a": 1}}], ValueError, r"'price' of kind 'numeric' .* in row 9"),
        ([LIST[0], [1, 2]], TypeError, "Row 1 must be a mapping from column to value, got list"),
        ("user 1", TypeError, "`inputs` must be a row .*, got str"),
        (iter(LIST), TypeError, "`inputs` must be a row .*, got list_iterator"),
        (datasets.Dataset.from_dict(ROWS).to_iterable_dataset(), TypeError, "got IterableDataset"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_wrong_rows_are_refused(rows, error, message, score):
    with pytest.raises(error, match=message):
        score(rows, batch_size=4)


def test_arguments_of_a_call_and_of_the_pipeline(score):
    model, processor = score.model, score.processor
    with_logits = ClickPromptPipeline(model, processor, batch_size=3, return_logits=True, device="cpu")
    (row,) = with_logits(LIST[:1])
    assert list(row) == ["click_probability", "logit", "ctr_logit", "text_logit"]
    assert row["logit"] == pytest.approx(row["ctr_logit"] + row["text_logit"], abs=1e-6)
    assert row["click_probability"] == pytest.approx(1 / (1 + math.exp(-row["logit"])), abs=1e-6)
    assert list(with_logits(LIST[0], return_logits=False)) == ["click_probability"]
    assert list(score(LIST[0], return_logits=True)) == list(row)
    for wrong, error in (({"batch_size": -1}, ValueError), ({"top_k": 2}, TypeError)):
        with pytest.raises(error, match=next(iter(wrong))):
            score(LIST, **wrong)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 2}, TypeError, r"Unknown arguments \['top_k'\]; known are batch_size, progress_bar, return_logits"),
        ({"function_to_apply": "none"}, TypeError, r"Unknown arguments \['function_to_apply'\]"),
        ({"truncation": True, "max_length": 8}, TypeError, r"Unknown arguments \['max_length', 'truncation'\]"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1, got 0"),
        ({"batch_size": 2.0}, ValueError, "`batch_size` must be an integer of at least 1, got 2.0"),
        ({"batch_size": True}, ValueError, "`batch_size` must be an integer of at least 1, got True"),
        ({"return_logits": "yes"}, ValueError, "`return_logits` must be True or False, got 'yes'"),
        ({"num_workers": 2}, ValueError, "`num_workers` must be left out: rows become model inputs in this process"),
    ],
)
def test_arguments_that_cannot_be_obeyed_are_refused(options, error, message, score):
    for call in (
        lambda: score(LIST, **options),
        lambda: ClickPromptPipeline(score.model, score.processor, device="cpu", **options),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    "options", [{"tokenizer": tiny_roberta_tokenizer()}, {"feature_extractor": object()}, {"binary_output": True}]
)
def test_parts_that_a_pipeline_of_rows_does_not_have_are_refused(options, score):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be left out: "):
        ClickPromptPipeline(score.model, score.processor, device="cpu", **options)


def test_arguments_that_ask_for_nothing_are_taken(score, expected):
    nothing = {"tokenizer": None, "num_workers": 0, "binary_output": False, "batch_size": None}
    scores = ClickPromptPipeline(score.model, score.processor, device="cpu", **nothing)(LIST, num_workers=0)
    np.testing.assert_allclose(probabilities(scores), expected, atol=1e-6)


def test_a_row_of_a_data_frame_is_a_row(score, expected):
    assert score(pd.DataFrame(ROWS).iloc[3]) == {"click_probability": pytest.approx(expected[3], abs=1e-6)}


def test_batches_have_the_given_size(score, monkeypatch):
    sizes = []
    forward = score.model.forward

    def counted(input_ids, **inputs):
        sizes.append(len(input_ids))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(score.model, "forward", counted)
    score(LIST, batch_size=4)
    assert sizes == [4, 4, 3]
    sizes.clear()
    score(LIST * 30)
    assert sizes == [256, 74]


@pytest.mark.parametrize("longest_sorted", [30, 29])
def test_batches_hold_texts_of_like_lengths_unless_one_may_be_very_long(longest_sorted, score, monkeypatch):
    lengths = []
    forward = score.model.forward

    def watched(attention_mask, **inputs):
        lengths.append(attention_mask.sum(dim=1).tolist())
        return forward(attention_mask=attention_mask, **inputs)

    monkeypatch.setattr(score.model, "forward", watched)
    # the processor's limit is 30
    monkeypatch.setattr("clickprompt_hf.pipeline_clickprompt._LONGEST_SORTED", longest_sorted)
    score(rows_of_lengths(100, seed=0), batch_size=5)
    flat = [length for batch in lengths for length in batch]
    assert len(flat) == 100
    for rows in (flat[:80], flat[80:]):
        assert (rows == sorted(rows, reverse=True)) == (longest_sorted == 30)


def test_a_model_that_was_just_trained_has_its_dropout_off(score, expected):
    score.model.train()
    np.testing.assert_allclose(probabilities(score(LIST)), expected, atol=1e-6)


def test_a_progress_bar_appears_if_scoring_takes_long(score, capsys):
    for shown, seen in ((True, True), (False, False), (None, False)):
        score(LIST, progress_bar=shown)
        assert ("11/11" in capsys.readouterr().err) == seen


def test_without_a_plm_no_text_is_tokenized(monkeypatch):
    model, processor = build(fusion="ctr")
    monkeypatch.setattr(processor, "render", lambda rows: pytest.fail("rendered text that nothing reads"))
    score = ClickPromptPipeline(model, processor, device="cpu")
    assert list(score(LIST[0], return_logits=True)) == ["click_probability", "logit", "ctr_logit"]
    assert scoring_batch_size(score.model.config) == 4096


def test_a_text_only_model_scores_too():
    model, processor = build(fusion="text", prompt_strategy="none")
    scores = ClickPromptPipeline(model, processor, device="cpu")(LIST, return_logits=True)
    assert list(scores[0]) == ["click_probability", "logit", "text_logit"]


def test_models_that_would_score_at_random_and_other_processors_are_refused(tmp_path):
    pretrained, processor = build(ClickPromptForPAMLM)
    pretrained.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="finetuned for clicks, but its weights are from a ClickPromptForPAMLM"):
        pipeline("ctr-prediction", model=str(tmp_path))
    model, processor = build()
    with pytest.raises(
        ValueError, match="`processor` must be the processor that the model was trained with, got none"
    ):
        ClickPromptPipeline(model)
    processor.extend({**tiny_rows(1), "user": ["new"]})
    with pytest.raises(ValueError, match="do not belong together"):
        ClickPromptPipeline(model, processor)


@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, tiny_bert_tokenizer, tiny_t5_tokenizer])
def test_threads_share_a_pipeline(tokenizer):
    score = ClickPromptPipeline(*build(tokenizer=lambda: copy.deepcopy(tokenizer())), device="cpu")
    calls = [rows_of_lengths(1 + n % 5, seed=n) for n in range(160)]

    def call(rows):
        # The tokenizer's owner uses it meanwhile.
        score.processor.tokenizer(["a", "b c"], truncation=True, max_length=3 + len(rows["user"]), padding=True)
        return probabilities(score(rows))

    expected = [call(rows) for rows in calls]
    for shared, alone in zip(in_threads(call, calls), expected, strict=True):
        np.testing.assert_allclose(shared, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tokenizer", [tiny_roberta_tokenizer, None])
def test_a_saved_pipeline_is_a_checkpoint(tokenizer, tmp_path):
    score = ClickPromptPipeline(*build(tokenizer=tokenizer), device="cpu")
    score.save_pretrained(tmp_path)
    again = pipeline("ctr-prediction", model=str(tmp_path), device="cpu", text_state_memory=7)
    assert again.recent_texts.megabytes == 7
    np.testing.assert_allclose(probabilities(again(LIST)), probabilities(score(LIST)), atol=1e-6)
