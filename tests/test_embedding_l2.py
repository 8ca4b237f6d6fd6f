"""L2 of the feature embeddings that a step reads: by hand, with dense and sparse gradients, in a training step."""

import copy

import datasets
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tiny_models import tiny_ctr_config
from torch.utils.data import Dataset, IterableDataset

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.data.columnar import ColumnarDataset
from clickprompt_hf.layers_ctr import FeatureEmbedding
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training import embedding_l2 as module
from clickprompt_hf.training import trainer as trainer_module
from clickprompt_hf.training.embedding_l2 import EmbeddingL2, counts_of_ids, steps_that_read

# A field of three ids, and one of up to two of two ids.
TRAIN_IDS = np.array([[1, 0, 1], [1, 1, -1], [2, -1, -1], [1, 1, -1]])
WEIGHTS = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])


def embedding(sparse):
    layer = FeatureEmbedding([3, 2], 2, max_values=[1, 2])
    layer.table.weight.data.copy_(WEIGHTS)
    layer.table.sparse = sparse
    return layer


def test_ids_are_counted_in_every_slot(monkeypatch):
    monkeypatch.setattr(module, "_COUNTED_ROWS", 3)
    assert counts_of_ids(TRAIN_IDS, [0, 3, 3], 5).tolist() == [0, 3, 1, 1, 3]


def test_ids_that_feature_dropout_replaces_count_as_unseen():
    """Half of the first field's ids and a quarter of the second's; the third row has no value there."""
    counts = counts_of_ids(TRAIN_IDS, [0, 3, 3], 5, np.array([0.5, 0.25, 0.25]))
    assert counts.tolist() == [2.0, 1.5, 0.5, 1 + 0.75, 3 - 0.75]


def test_steps_that_read_an_id():
    """Against drawn orders of the rows; an id in no row counts as read once."""
    counts, draw = np.array([0, 1, 3, 40]), np.random.default_rng(0)
    steps = np.arange(60) // 10
    drawn = [[len(set(draw.permutation(steps)[:count])) for count in counts[1:]] for _ in range(4000)]
    expected = steps_that_read(counts, 6.0)
    assert expected[:2].tolist() == [1, pytest.approx(1)]
    # rows are drawn with replacement in the formula
    np.testing.assert_allclose(expected[1:], np.mean(drawn, axis=0), rtol=0.03)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_by_hand(sparse):
    """A step of two rows reads id 1 of the first field twice, and id 1 of the second; λ = 6."""
    layer = embedding(sparse)
    layer(torch.tensor([[1, 1, -1], [1, 1, -1]])).sum().backward()
    EmbeddingL2(layer, 6.0, TRAIN_IDS, step_rows=2)()
    gradient = layer.table.weight.grad
    assert gradient.is_sparse == sparse
    # three values of the training rows are expected in 2 * (1 - (1 - 1 / 2)³) = 1.75 of two steps
    expected = torch.zeros(5, 2)
    expected[1], expected[4] = 2 + 3 / 1.75 * WEIGHTS[1], 2 + 3 / 1.75 * WEIGHTS[4]
    torch.testing.assert_close(gradient.to_dense(), expected)


def test_frozen_tables_and_tables_without_a_gradient_are_left_alone():
    layer = embedding(sparse=False)
    EmbeddingL2(layer, 6.0, TRAIN_IDS, step_rows=2)()
    assert layer.table.weight.grad is None
    layer.table.weight.requires_grad_(False)
    assert EmbeddingL2(layer, 6.0, TRAIN_IDS, step_rows=2).tables == []


def test_logistic_regression_has_the_weights_of_scikit_learn(tmp_path):
    """Full batches of plain gradient descent on the same objective, with the same prior on all weights."""
    random = np.random.default_rng(0)
    ids = random.integers(0, 4, size=(60, 2))
    clicks = (random.random(60) < 0.2 + 0.15 * ids[:, 0]).astype(float)
    config = ClickPromptConfig(ctr_config=tiny_ctr_config("lr", field_sizes=[4, 4], max_values=[1, 1]), fusion="ctr")
    model = ClickPromptForCTR(config)
    rows = [{"feature_ids": torch.tensor(row), "labels": click} for row, click in zip(ids, clicks)]
    settings = {"per_device_train_batch_size": 60, "max_steps": 400, "learning_rate": 3.0, "optim": "sgd"}
    settings |= {"eval_strategy": "no", "save_strategy": "no", "report_to": [], "disable_tqdm": True}
    args = ClickPromptTrainingArguments(str(tmp_path), **settings, max_grad_norm=0.0, embedding_l2=20.0)
    ClickPromptTrainer(model, args, train_dataset=rows).train()
    one_hot = np.concatenate([np.eye(4)[ids[:, 0]], np.eye(4)[ids[:, 1]]], axis=1)
    expected = LogisticRegression(C=1 / 20.0, tol=1e-10, max_iter=5000).fit(one_hot, clicks)
    (table,) = [m.table.weight for m in model.modules() if isinstance(m, FeatureEmbedding)]
    np.testing.assert_allclose(table.detach().numpy()[:, 0], expected.coef_[0], rtol=0, atol=1e-3)


def model_of_three_fields(backbone="dcnv2"):
    torch.manual_seed(0)
    sizes = {"field_sizes": [5, 6, 4], "max_values": [1, 1, 1], "backbone": backbone}
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**sizes), fusion="ctr"))


def table_of(model):
    return next(m.table.weight.detach() for m in model.modules() if isinstance(m, FeatureEmbedding))


def trained(tmp_path, model, **options):
    """`model` after one step on two rows, with gradients that are not clipped."""
    rows = [
        {"feature_ids": torch.tensor([1, 2, 3]), "labels": 1.0},
        {"feature_ids": torch.tensor([1, 4, 0]), "labels": 0.0},
    ]
    settings = {"per_device_train_batch_size": 2, "max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    settings |= {"report_to": [], "disable_tqdm": True, "max_grad_norm": 0.0, "learning_rate": 0.5}
    args = ClickPromptTrainingArguments(str(tmp_path), **settings, **options)
    ClickPromptTrainer(model, args, train_dataset=rows).train()
    return model


def test_a_step_shrinks_the_rows_that_it_reads(tmp_path):
    before = model_of_three_fields()
    plain, shrunk = (
        trained(tmp_path, copy.deepcopy(before), optim="sgd", embedding_l2=strength) for strength in (0.0, 0.2)
    )
    weights = [table_of(model) for model in (before, plain, shrunk)]
    # rows of the table: field 0 from 0, field 1 from 5, field 2 from 11
    read = [1, 5 + 2, 5 + 4, 11 + 3]
    others = [row for row in range(15) if row not in [*read, 11]]
    # learning rate 0.5 times 0.2 by the two rows of the only step of an epoch
    torch.testing.assert_close(weights[2][read], weights[1][read] - 0.05 * weights[0][read])
    assert torch.equal(weights[2][others], weights[0][others])
    # the other weights know nothing of it
    of_plain, of_shrunk = (model.ctr_head.state_dict() for model in (plain, shrunk))
    assert all(torch.equal(of_plain[name], of_shrunk[name]) for name in of_plain)


def test_sparse_updates_shrink_too(tmp_path):
    before = model_of_three_fields()
    plain, shrunk = (
        trained(tmp_path, copy.deepcopy(before), sparse_embedding_updates=True, embedding_l2=strength)
        for strength in (0.0, 50.0)
    )
    weights = [table_of(model) for model in (before, plain, shrunk)]
    assert not torch.equal(weights[1], weights[2])
    # the first step of Adam goes towards zero by the learning rate if this gradient is the larger one
    read = weights[0][[1, 7, 9, 14]]
    torch.testing.assert_close(weights[2][[1, 7, 9, 14]], read - 0.5 * read.sign(), rtol=0, atol=1e-4)
    assert torch.equal(weights[2][[2, 3, 6]], weights[0][[2, 3, 6]])


def test_wrong_uses_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`embedding_l2` must be"):
        ClickPromptTrainingArguments(str(tmp_path), embedding_l2=-1)
    model = model_of_three_fields("lr")
    args = ClickPromptTrainingArguments(str(tmp_path), embedding_l2=0.1, report_to=[], max_steps=1, eval_strategy="no")
    given = (torch.optim.SGD(model.parameters(), lr=0.1), None)
    with pytest.raises(ValueError, match="`embedding_l2` must be 0 with `optimizers`"):
        ClickPromptTrainer(model, args, optimizers=given)
    with pytest.raises(ValueError, match="`train_dataset` must have a length with `embedding_l2`.*; got Endless"):
        ClickPromptTrainer(model, args, train_dataset=Endless())
    for rows, reason in (
        (None, "a length with `embedding_l2`.*; got NoneType"),
        ([{"labels": 1.0}], r"`feature_ids` with `embedding_l2`, got \['labels'\] in row 0"),
        ([{"feature_ids": [1, 2]}, {"feature_ids": [1]}], "the same number of `feature_ids`, got 2, and 1 in row 1"),
    ):
        with pytest.raises(ValueError, match=f"`train_dataset` must have {reason}"):
            ClickPromptTrainer(model, args, train_dataset=rows).create_optimizer()


@pytest.mark.parametrize("rows_format", [None, "torch", "numpy", "repeated"])
def test_rows_of_every_kind_are_counted(rows_format, tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(trainer_module, "EmbeddingL2", lambda *args: counted.append(args) or (lambda: None))
    rows = datasets.Dataset.from_dict({"feature_ids": [[1, 2, 3], [1, 4, 0]], "labels": [1, 0]})
    rows = Repeated() if rows_format == "repeated" else rows.with_format(rows_format)
    args = ClickPromptTrainingArguments(str(tmp_path), embedding_l2=0.2, report_to=[], eval_strategy="no")
    ClickPromptTrainer(model_of_three_fields(), args, train_dataset=rows).create_optimizer()
    ((_, _, feature_ids, step_rows, _),) = counted
    assert feature_ids.tolist() == [[1, 2, 3], [1, 4, 0]]
    assert step_rows == 2


def columnar(ids):
    """Rows of one field."""
    ids = np.asarray(ids)[:, None]
    return ColumnarDataset(ids, np.arange(len(ids)) % 2, np.arange(len(ids)))


def model_of_one_field(num_ids):
    torch.manual_seed(0)
    ctr = tiny_ctr_config("lr", field_sizes=[num_ids], max_values=[1])
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))


def test_an_id_that_feature_dropout_replaces_is_counted_once(tmp_path):
    """Half of the values to evaluate are unseen, so half of the ids are replaced: what training reads, by hand."""
    options = {"embedding_l2": 6.0, "feature_dropout": "unseen", "per_device_train_batch_size": 2, "report_to": []}
    args = ClickPromptTrainingArguments(str(tmp_path), **options)
    train, evaluated = columnar([1, 1, 2, 1]), columnar([0, 1])
    trainer = ClickPromptTrainer(model_of_one_field(3), args, train_dataset=train, eval_dataset=evaluated)
    trainer.create_optimizer()
    ((_, rates),) = trainer._embedding_l2.tables
    # of 4 rows, an epoch reads id 0 in 2, id 1 in 1.5 and id 2 in 0.5; it has 2 steps of 2 rows
    steps = [2 * (1 - 0.5**2), 2 * (1 - 0.5**1.5), 2 * (1 - 0.5**0.5)]
    np.testing.assert_allclose(rates[:, 0], [6 / 2 / reading for reading in steps], rtol=1e-6)
    rows = trainer.get_train_dataloader().dataset
    read = np.zeros(3)
    for epoch in range(2000):
        rows.set_epoch(epoch)
        read += np.bincount(rows.__getitems__(range(4))[0]["feature_ids"][:, 0], minlength=3)
    np.testing.assert_allclose(read / 2000, [2, 1.5, 0.5], atol=0.05)


def fit_eight_rows(model, args, inputs):
    if len(inputs["feature_ids"]) > 8:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_a_batch_size_that_is_found_is_counted(tmp_path):
    """As if the batches had had the size that fits from the start."""
    tables = []
    for found in (True, False):
        model = model_of_one_field(6)
        if found:
            model.register_forward_pre_hook(fit_eight_rows, with_kwargs=True)
        settings = {"per_device_train_batch_size": 12 if found else 8, "auto_find_batch_size": found}
        settings |= {"embedding_l2": 5.0, "num_train_epochs": 2, "learning_rate": 0.5, "optim": "sgd"}
        settings |= {"eval_strategy": "no", "save_strategy": "no", "report_to": [], "disable_tqdm": True}
        args = ClickPromptTrainingArguments(str(tmp_path), max_grad_norm=0.0, **settings)
        rows = [{"feature_ids": [row % 5 + 1], "labels": float(row % 2)} for row in range(16)]
        trainer = ClickPromptTrainer(model, args, train_dataset=rows)
        trainer.train()
        tables.append(table_of(model))
        assert trainer.state.global_step == 4
    assert torch.equal(*tables)


@pytest.mark.parametrize(("split", "step_rows"), [(False, 16), (True, 8)])
def test_batches_that_processes_split_are_counted(split, step_rows, tmp_path, monkeypatch):
    """Two processes: batches of 4 rows each, or the halves of one; 2 of them are a step."""
    counted = []
    monkeypatch.setattr(trainer_module, "EmbeddingL2", lambda *args: counted.append(args) or (lambda: None))
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "eval_strategy": "no"}
    settings |= {"accelerator_config": {"split_batches": split}, "report_to": []}
    args = ClickPromptTrainingArguments(str(tmp_path), embedding_l2=0.2, **settings)
    trainer = ClickPromptTrainer(model_of_one_field(6), args, train_dataset=columnar(np.arange(50) % 5 + 1))
    monkeypatch.setattr(ClickPromptTrainingArguments, "world_size", 2)
    trainer.create_optimizer()
    assert counted[0][3] == step_rows


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1e9])
def test_gradients_that_fp16_scales_are_unscaled_first(sparse, max_grad_norm, tmp_path):
    """The step and the logged norm are those of fp32, except for rounding."""
    before = model_of_three_fields()
    rows = [{"feature_ids": torch.tensor([1, second, 3]), "labels": second % 4 / 2} for second in (2, 4)]
    settings = {"per_device_train_batch_size": 2, "max_steps": 1, "learning_rate": 0.5, "logging_steps": 1}
    settings |= {"eval_strategy": "no", "save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True}
    settings |= {"embedding_l2": 0.5, "sparse_embedding_updates": sparse, "max_grad_norm": max_grad_norm}
    # Adam's first step has the size of the learning rate, whatever the scale
    settings |= {} if sparse else {"optim": "sgd"}
    tables, norms = [], []
    for fp16 in (False, True):
        args = ClickPromptTrainingArguments(str(tmp_path), fp16=fp16, **settings)
        trainer = ClickPromptTrainer(copy.deepcopy(before), args, train_dataset=rows)
        if fp16:
            # as accelerate does on a GPU
            trainer.accelerator.scaler, trainer.accelerator.native_amp = torch.amp.GradScaler("cpu"), True
        trainer.train()
        tables.append(table_of(trainer.model))
        norms.append(trainer.state.log_history[0]["grad_norm"])
    torch.testing.assert_close(*tables, rtol=0, atol=2e-3)
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


class Endless(IterableDataset):
    def __iter__(self):
        yield {"feature_ids": torch.tensor([1, 2, 3]), "labels": 1.0}


class Repeated(Dataset):
    """Two rows, again and again if it is iterated."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"feature_ids": [[1, 2, 3], [1, 4, 0]][index % 2], "labels": index % 2}
