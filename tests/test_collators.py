"""Batches: padding, and masks that depend only on (seed, epoch, row)."""

import dataclasses

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny_data import tiny_roberta_tokenizer, tiny_schema, tiny_splits

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCLMCollator, ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import load_prepared, prepare_splits


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare_splits(splits, processor, folder)
    return splits, load_prepared(folder)[0]["train"], processor


def masked(dataset, processor, rows, seed=0, **options):
    collator = ClickPromptMLMCollator(processor, seed=seed, **options)
    return collator(dataset.__getitems__(rows))


def test_other_labels_than_clicks_are_refused(encoded):
    _, dataset, processor = encoded
    rows = dataclasses.replace(dataset, labels=np.where(dataset.labels == 1, 1, -1))
    with pytest.raises(ValueError, match="`labels` must be 0 or 1, or -100 .* got -1"):
        ClickPromptCollator(processor)(rows.__getitems__([*range(20)]))


def test_mapped_rows_and_whole_batches_give_the_same_batch(encoded):
    splits, dataset, processor = encoded
    collator = ClickPromptCollator(processor)
    mapped = datasets.Dataset(splits["train"]).map(processor, batched=True)
    rows = [4, 0, 17]
    from_rows, from_batch = collator([mapped[row] for row in rows]), collator(dataset.__getitems__(rows))
    assert set(from_rows) == set(from_batch) == {"feature_ids", "input_ids", "attention_mask", "labels"}
    for name, values in from_rows.items():
        torch.testing.assert_close(values, from_batch[name])


def test_masking_leaves_ids_special_tokens_and_padding_alone(encoded):
    _, dataset, processor = encoded
    plain = ClickPromptCollator(processor)(dataset.__getitems__(list(range(60))))
    special = torch.tensor(processor.tokenizer.all_special_ids)
    counts = np.zeros(4)
    for epoch in range(40):
        dataset.set_epoch(epoch)
        batch = masked(dataset, processor, list(range(60)))
        chosen = batch["labels"] != -100
        assert torch.equal(batch["feature_ids"], plain["feature_ids"])
        assert not torch.isin(plain["input_ids"][chosen], special).any()
        assert (plain["attention_mask"][chosen] == 1).all()
        assert torch.equal(batch["input_ids"][~chosen], plain["input_ids"][~chosen])
        assert torch.equal(batch["labels"][chosen], plain["input_ids"][chosen])
        corrupted = batch["input_ids"][chosen]
        is_mask = corrupted == processor.tokenizer.mask_token_id
        assert not torch.isin(corrupted[~is_mask], special).any()
        same = corrupted == plain["input_ids"][chosen]
        text = (~torch.isin(plain["input_ids"], special)).sum()
        counts += [text, chosen.sum(), is_mask.sum(), same.sum()]
    dataset.set_epoch(0)
    # about 60,000 tokens and 9,000 choices: three standard errors are below 0.5 % and 1.3 %
    assert counts[1] / counts[0] == pytest.approx(0.15, abs=0.006)
    assert counts[2] / counts[1] == pytest.approx(0.8, abs=0.015)
    assert counts[3] / counts[1] == pytest.approx(0.1, abs=0.015)


def test_field_masking_takes_whole_values_and_no_template_word(encoded):
    _, dataset, processor = encoded
    dataset = dataclasses.replace(dataset, with_value_fields=True)
    rows = list(range(60))
    plain = dataset.__getitems__(rows)[0]
    fields, values, chosen_values, outcomes = plain["value_fields"], 0, 0, set()
    for epoch in range(30):
        dataset.set_epoch(epoch)
        batch = masked(dataset, processor, rows, masking="field")
        chosen = (batch["labels"] != -100).numpy()
        assert not chosen[fields == 0].any()
        for row in range(60):
            for number in range(1, 5):
                of_value = fields[row] == number
                values += 1
                chosen_values += chosen[row][of_value].any()
                assert chosen[row][of_value].all() == chosen[row][of_value].any()
                if chosen[row][of_value].sum() > 1:
                    is_mask = batch["input_ids"][row].numpy()[of_value] == processor.tokenizer.mask_token_id
                    assert is_mask.all() == is_mask.any()
                    outcomes.add(bool(is_mask.all()))
    assert outcomes == {True, False}
    assert chosen_values / values == pytest.approx(0.15, abs=0.015)


def test_field_masking_needs_to_know_the_fields(encoded):
    _, dataset, processor = encoded
    with pytest.raises(ValueError, match="created with_value_fields=True"):
        masked(dataset, processor, [0], masking="field")
    with pytest.raises(ValueError, match="`masking` must be one of .* got 'word'"):
        masked(dataset, processor, [0], masking="word")


def test_masks_depend_only_on_seed_epoch_and_row(encoded):
    _, dataset, processor = encoded
    together = masked(dataset, processor, list(range(60)))
    alone = masked(dataset, processor, [23])
    length = alone["labels"].shape[1]
    assert torch.equal(together["labels"][23, :length], alone["labels"][0])
    assert torch.equal(together["input_ids"][23, :length], alone["input_ids"][0])

    assert not torch.equal(masked(dataset, processor, list(range(60)), seed=1)["labels"], together["labels"])
    dataset.set_epoch(1)
    assert not torch.equal(masked(dataset, processor, list(range(60)))["labels"], together["labels"])
    dataset.set_epoch(0)
    assert torch.equal(masked(dataset, processor, list(range(60)))["labels"], together["labels"])


def test_rows_that_pad_a_batch_are_not_masked(encoded):
    _, dataset, processor = encoded
    assert (masked(dataset, processor, [60, 61], mlm_probability=0.9)["labels"] == -100).all()


def test_mapped_rows_are_masked_too(encoded):
    splits, _, processor = encoded
    mapped = datasets.Dataset(splits["train"]).map(processor, batched=True)
    torch.manual_seed(0)
    batch = ClickPromptMLMCollator(processor, mlm_probability=0.5)([mapped[row] for row in range(4)])
    assert 0.3 < (batch["labels"] != -100).sum() / batch["attention_mask"].sum() < 0.6


def test_causal_labels_exclude_first_tokens_padding_and_repeated_rows(encoded):
    _, dataset, processor = encoded
    batch = ClickPromptCLMCollator(processor)(dataset.__getitems__([3, 0, len(dataset)]))
    present = batch["attention_mask"] == 1
    assert torch.equal(batch["labels"][:2, 1:][present[:2, 1:]], batch["input_ids"][:2, 1:][present[:2, 1:]])
    assert (batch["labels"][~present] == -100).all()
    # nothing predicts the first token, and Trainer divides the loss by the number of labels
    assert (batch["labels"][:, 0] == -100).all()
    # an index past the end only fills up the batch
    assert (batch["labels"][2] == -100).all()
    assert set(batch) == {"feature_ids", "input_ids", "attention_mask", "labels"}
    with pytest.raises(ValueError, match="padding token for PA-CLM"):
        ClickPromptCLMCollator(ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema()))


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.5])
def test_impossible_probabilities_are_refused(encoded, probability):
    with pytest.raises(ValueError, match="`mlm_probability` must be in"):
        ClickPromptMLMCollator(encoded[2], mlm_probability=probability)


def test_masking_needs_a_tokenizer():
    processor = ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema())
    with pytest.raises(ValueError, match="mask token"):
        ClickPromptMLMCollator(processor)


def _formats(splits, processor, rows):
    """The same rows as users have them: name to what the collator gets."""
    from_table = datasets.Dataset(splits["train"].slice(0, 24))
    batched = from_table.map(processor, batched=True)
    alone = from_table.map(processor)
    padded = from_table.map(lambda batch: dict(processor(batch, return_tensors="pt")), batched=True)
    for name, mapped in (("batched", batched), ("row by row", alone), ("padded", padded)):
        yield f"{name}, lists", [mapped[row] for row in rows]
        for kind in ("numpy", "torch", "arrow", "pandas"):
            yield f"{name}, {kind}", [mapped.with_format(kind)[row] for row in rows]
        for kind in (None, "numpy", "torch"):
            encoded = mapped.select_columns(["feature_ids", "input_ids", "attention_mask", "labels"])
            yield f"{name}, {kind}, fetched together", encoded.with_format(kind).__getitems__(rows)
    yield "columns", batched[rows]
    yield "columns of an Arrow table", batched.with_format("arrow")[rows]
    yield "columns of a data frame", batched.with_format("pandas")[rows]
    yield "the processor's batch", processor([from_table[row] for row in rows])
    yield "the processor's tensors", processor([from_table[row] for row in rows], return_tensors="pt")
    yield "a list of one batch", [processor([from_table[row] for row in rows], return_tensors="pt")]
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    yield "a list of batches", [processor([from_table[row] for row in half]) for half in halves if half]


@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("rows", [[5], [4, 0, 17, 4, 9, 2, 11, 3]])
def test_rows_of_every_format_give_the_same_batch(encoded, rows, with_labels):
    splits, dataset, processor = encoded
    collator = ClickPromptCollator(processor)
    expected = collator(dataset.__getitems__(rows))
    if not with_labels:
        del expected["labels"]
    for name, features in _formats(splits, processor, rows):
        if not with_labels:
            parts = features if isinstance(features, list) else [features]
            parts = [without_labels(part) for part in parts]
            features = parts if isinstance(features, list) else parts[0]
        batch = collator(features)
        assert set(batch) == set(expected), name
        for key, values in batch.items():
            assert torch.equal(values, expected[key]), (name, key)


def without_labels(part):
    if isinstance(part, pa.Table):
        return part.drop_columns("labels")
    return (
        part.drop(columns="labels") if isinstance(part, pd.DataFrame) else {k: part[k] for k in part if k != "labels"}
    )


def test_padding_on_either_side_is_not_text(encoded):
    processor = encoded[2]
    pad, ids = processor.tokenizer.pad_token_id, [1, 1, 1, -1, 1]
    texts = ([pad, pad, 7, 8], [7, 8, pad, pad], [7, 8])
    masks = ([0, 0, 1, 1], [1, 1, 0, 0], [1, 1])
    rows = [{"feature_ids": ids, "input_ids": text, "attention_mask": mask} for text, mask in zip(texts, masks)]
    assert ClickPromptCollator(processor)(rows)["input_ids"].tolist() == [[7, 8]] * 3


ROW = {"feature_ids": [1, 1, 1, -1, 1], "input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feature_ids": [1, 2]}, r"`feature_ids` must be 5 integers, of shape \(5,\) per row; row 1 .* shape \(2,\)"),
        ({"feature_ids": [[[1, 1, 1, -1, 1]]]}, r"`features` must have the same number|`feature_ids` must be 5"),
        ({"feature_ids": 3}, r"`feature_ids` must be 5 integers.* row 1 of the batch has shape \(\)"),
        ({"feature_ids": [1.0, 1.0, 1.0, -1.0, 1.0]}, "`feature_ids` must be 5 integers.* type float64"),
        ({"feature_ids": None}, "`features` must all have `feature_ids`, but row 1 .*dataset.map"),
        ({"input_ids": [[5, 6], [7]]}, "`input_ids` must be a list of integers per row; row 1"),
        ({"input_ids": ["a", "b", "c"]}, "`input_ids` must be a list of integers per row; row 1 .* type <U1"),
        ({"input_ids": None}, "`features` must all have `input_ids`, but row 1"),
        ({"attention_mask": [1, 1]}, r"`attention_mask` must be 3 integers, of shape \(3,\) per row; row 1"),
        ({"labels": [0, 1]}, r"`labels` must be 0, 1 or -100 per row; row 1 of the batch has \[0, 1\]"),
        ({"labels": 0.5}, "`labels` must be 0, 1 or -100 per row; row 1 of the batch has 0.5"),
        ({"labels": "1"}, "`labels` must be 0, 1 or -100 per row; row 1 of the batch has '1'"),
        ({"labels": None}, "`features` must all have `labels`, but row 1"),
        (
            {"feature_ids": [[1, 1, 1, -1, 1]] * 2, "labels": [1]},
            r"the same number of rows in each input, got \{'feature_ids': 2, 'labels': 1",
        ),
    ],
)
def test_rows_of_wrong_shapes_are_refused(encoded, changed, message):
    with pytest.raises(ValueError, match=message):
        ClickPromptCollator(encoded[2])([ROW, ROW | changed])


def test_raw_rows_are_refused_with_advice(encoded):
    with pytest.raises(ValueError, match=r"must all have `feature_ids`, but row 0 .* \['click', 'title'\]\. Encode"):
        ClickPromptCollator(encoded[2])([{"title": "Up", "click": 1}])


def test_pretraining_needs_text(encoded):
    for collator in (ClickPromptMLMCollator, ClickPromptCLMCollator):
        with pytest.raises(ValueError, match="`features` must have `input_ids` for pretraining"):
            collator(encoded[2])([{"feature_ids": ROW["feature_ids"]}])


def test_single_rows_of_a_columnar_dataset_are_masked_as_in_its_batches(encoded):
    _, dataset, processor = encoded
    dataset = dataclasses.replace(dataset, with_value_fields=True, epoch=3)
    rows = [7, 0, 31]
    for masking in ("token", "field"):
        collator = ClickPromptMLMCollator(processor, masking=masking)
        together = collator(dataset.__getitems__(rows))
        for batches in ([dataset[row] for row in rows], [dataset.__getitems__([row])[0] for row in rows]):
            for key, values in collator(batches).items():
                assert torch.equal(values, together[key]), key
