"""Batches: padding, and masks that depend only on (seed, epoch, row)."""

import dataclasses

import datasets
import numpy as np
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
    prepare_splits(splits, processor, tmp_path_factory.mktemp("prepared") / "data")
    return splits, load_prepared(tmp_path_factory.getbasetemp() / "prepared0" / "data")[0]["train"], processor


def masked(dataset, processor, rows, seed=0, **options):
    collator = ClickPromptMLMCollator(processor, seed=seed, **options)
    return collator(dataset.__getitems__(rows))


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
    with pytest.raises(ValueError, match="made with_value_fields=True"):
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
