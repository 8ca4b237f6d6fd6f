"""Feature dropout: shares by hand, choices by (seed, epoch, row), what training sees and what evaluation sees."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, Schema
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.feature_dropout import FeatureDropout, matching_dropout, unseen_shares
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training import trainer as trainer_module

# a field, and one of two values per row
IDS = np.array([[1, 3, -1], [0, 0, 4], [2, 1, 0], [0, 0, 0]])


def test_shares_of_unseen_values_by_hand():
    """Empty slots are no values: the second field has seven, four of them unseen."""
    np.testing.assert_allclose(unseen_shares(IDS, [1, 2]), [0.5, 4 / 7])
    np.testing.assert_array_equal(unseen_shares(np.full((2, 1), -1), [1]), [0.0])


def test_dropout_fills_training_up_to_the_share_of_evaluation():
    train = np.array([[1, 1], [2, 1], [0, 1], [3, 1]])
    evaluated = [np.array([[0, 1], [1, 1]]), np.zeros((0, 2), int), np.array([[0, 0], [1, 1]])]
    # of the first field, a quarter is unseen and a half should be; of the second, none and a quarter
    dropout = matching_dropout(train, evaluated, [1, 1], seed=0)
    np.testing.assert_allclose(dropout.probabilities, [(0.5 - 0.25) / 0.75, 0.25])
    assert matching_dropout(train, [train], [1, 1], seed=0) is None
    assert matching_dropout(train, [np.zeros((0, 2), int)], [1, 1], seed=0) is None
    # training may have more unseen values than evaluation
    assert matching_dropout(np.array([[0], [1]]), [np.array([[1]])], [1], seed=0) is None


def test_each_id_is_replaced_with_the_probability_of_its_column():
    ids = np.tile([[5, 6, 7, -1, 0]], (40_000, 1))
    rows = np.arange(len(ids))
    replaced = FeatureDropout(np.array([0.3, 0.0, 0.9, 0.5, 0.5]), seed=1)(ids, rows, epoch=0)
    # five standard errors
    np.testing.assert_allclose((replaced == 0).mean(axis=0), [0.3, 0, 0.9, 0, 1], atol=0.012)
    assert set(np.unique(replaced[:, 0])) == {0, 5}
    assert (replaced[:, 3] == -1).all()
    together = ((replaced[:, 0] == 0) & (replaced[:, 2] == 0)).mean()
    assert together == pytest.approx(0.27, abs=0.012)
    assert (ids[:, 0] == 5).all()


def test_choices_depend_on_seed_epoch_and_row_alone():
    ids, rows = np.ones((400, 2), dtype=np.int64), np.arange(400)
    first = FeatureDropout(np.array([0.5, 0.5]), seed=1)
    of_all = first(ids, rows, epoch=2)
    order = np.random.default_rng(0).permutation(400)[:30]
    np.testing.assert_array_equal(first(ids[order], rows[order], epoch=2), of_all[order])
    assert (first(ids, rows, epoch=3) != of_all).mean() == pytest.approx(0.5, abs=0.1)
    assert (FeatureDropout(np.array([0.5, 0.5]), seed=2)(ids, rows, epoch=2) != of_all).mean() > 0.4


class SeenBatches(ClickPromptTrainer):
    """Keeps the ids of the batches that it trains and evaluates on."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.__dict__.setdefault("seen", {True: [], False: []})[model.training].append(inputs["feature_ids"].clone())
        return super().compute_loss(model, inputs, *args, **kwargs)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Training rows of 40 users, and validation rows of which half have other users."""
    draw = np.random.default_rng(0)

    def rows(users, num_rows):
        columns = {"user": draw.integers(*users, num_rows), "item": draw.integers(8, size=num_rows)}
        return pa.table({**columns, "click": draw.integers(2, size=num_rows)})

    splits = {"train": rows((0, 40), 640), "validation": pa.concat_tables([rows((0, 40), 64), rows((40, 80), 64)])}
    schema = Schema.from_dict({"fields": [{"column": "user"}, {"column": "item"}], "label": "click"})
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare_splits(splits, ClickPromptProcessor.fit(splits["train"], schema), folder)
    return load_prepared(folder)


def trained(folder, prepared, **options):
    data, processor = prepared
    torch.manual_seed(0)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=[1, 1], backbone="dcnv2")
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))
    settings = {"num_train_epochs": 2, "report_to": [], "disable_tqdm": True, "per_device_train_batch_size": 32}
    args = ClickPromptTrainingArguments(str(folder), **settings, **options)
    given = {"train_dataset": data["train"], "eval_dataset": data["validation"], "processing_class": processor}
    trainer = SeenBatches(model, args, **given)
    trainer.train()
    return trainer


def test_training_meets_unseen_values_as_often_as_evaluation(tmp_path, prepared):
    data, _ = prepared
    trainer = trained(tmp_path, prepared, feature_dropout="unseen")
    of_training, of_evaluation = (torch.cat(trainer.seen[training]) for training in (True, False))
    assert len(of_training) == 2 * 640
    assert (of_training[:, 0] == 0).float().mean() == pytest.approx(0.5, abs=0.07)
    assert (of_training[:, 1] > 0).all()
    # in the second epoch for other rows
    ids = torch.from_numpy(data["train"].feature_ids[:, 0].astype(np.int64))
    assert (ids > 0).all()
    assert len(torch.unique(of_training[:640, 0])) == len(torch.unique(of_training[640:, 0])) == 41
    expected = torch.from_numpy(data["validation"].feature_ids.astype(np.int64)).repeat(2, 1)
    assert torch.equal(of_evaluation, expected)
    assert data["train"].feature_dropout is None
    # the embedding of unseen users has learned
    assert trainer.model.clickprompt.ctr.embedding.table.weight[0].abs().max() > 0


def test_l2_counts_the_values_that_dropout_replaces(tmp_path, prepared, monkeypatch):
    counted = []
    monkeypatch.setattr(trainer_module, "EmbeddingL2", lambda *args: counted.append(args) or (lambda: None))
    trained(tmp_path, prepared, feature_dropout="unseen", embedding_l2=1.0)
    ((*_, step_rows, dropped),) = counted
    assert step_rows == 32
    assert dropped == pytest.approx([0.5, 0.0], abs=0.02)


def test_by_default_training_meets_no_unseen_values(tmp_path, prepared):
    trainer = trained(tmp_path, prepared)
    assert (torch.cat(trainer.seen[True]) > 0).all()
    assert (trainer.model.clickprompt.ctr.embedding.table.weight[0] == 0).all()


def test_rows_that_cannot_be_counted_are_refused(tmp_path, prepared):
    data, processor = prepared
    args = ClickPromptTrainingArguments(str(tmp_path), eval_strategy="no", feature_dropout="unseen", report_to=[])
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=[1, 1])
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))
    plain = datasets.Dataset.from_dict({"feature_ids": [[1, 1]], "labels": [1]})
    for train, evaluated, given in (
        (data["train"], None, "got rows to evaluate: none"),
        (plain, data["validation"], "got Dataset, ColumnarDataset"),
        (data["train"], {"one": data["validation"], "two": plain}, "got ColumnarDataset, ColumnarDataset, Dataset"),
    ):
        with pytest.raises(ValueError, match=f"`feature_dropout` must be 'none' unless .*{given}"):
            ClickPromptTrainer(model, args, train_dataset=train, eval_dataset=evaluated, processing_class=processor)
    with pytest.raises(ValueError, match=r"`feature_dropout` must be one of \('none', 'unseen'\), got 'all'"):
        ClickPromptTrainingArguments(str(tmp_path), feature_dropout="all")
