"""L2 of the feature embeddings that a step reads: by hand, with dense and sparse gradients, in a training step."""

import copy

import pytest
import torch
from tiny_models import tiny_ctr_config
from torch import nn

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.optimizer import add_embedding_l2, feature_tables

WEIGHTS = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize("sparse", [False, True])
def test_the_gradient_by_hand(sparse):
    """Row 1 is read twice, row 0 once, row 2 never; each read row counts once."""
    table = nn.Embedding.from_pretrained(WEIGHTS.clone(), freeze=False, sparse=sparse)
    table(torch.tensor([1, 0, 1])).sum().backward()
    add_embedding_l2([table.weight], 0.1)
    gradient = table.weight.grad.to_dense()
    torch.testing.assert_close(gradient, torch.tensor([[1 + 0.1, 1 - 0.2], [2 + 0.3, 2 + 0.4], [0.0, 0.0]]))
    assert table.weight.grad.is_sparse == sparse


def test_it_is_the_gradient_of_half_the_squared_norm():
    table = nn.Embedding.from_pretrained(WEIGHTS.clone(), freeze=False)
    loss = table(torch.tensor([0, 2])).exp().sum()
    (expected,) = torch.autograd.grad(loss + 0.3 / 2 * table.weight[[0, 2]].square().sum(), table.weight)
    table(torch.tensor([0, 2])).exp().sum().backward()
    add_embedding_l2([table.weight], 0.3)
    torch.testing.assert_close(table.weight.grad, expected)


def test_tables_without_a_gradient_are_left_alone():
    weight = nn.Parameter(WEIGHTS.clone())
    add_embedding_l2([weight], 0.5)
    assert weight.grad is None


def model_of_three_fields(backbone="dcnv2"):
    torch.manual_seed(0)
    sizes = {"field_sizes": [5, 6, 4], "max_values": [1, 1, 1], "backbone": backbone}
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(**sizes), fusion="ctr"))


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
    weights = [feature_tables(model)[0].detach() for model in (before, plain, shrunk)]
    # rows of the table: field 0 from 0, field 1 from 5, field 2 from 11
    read = [1, 5 + 2, 5 + 4, 11 + 3]
    others = [row for row in range(15) if row not in [*read, 11]]
    # learning rate 0.5 times 0.2
    torch.testing.assert_close(weights[2][read], weights[1][read] - 0.1 * weights[0][read])
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
    weights = [feature_tables(model)[0].detach() for model in (before, plain, shrunk)]
    assert not torch.equal(weights[1], weights[2])
    # the first step of Adam goes towards zero by the learning rate if this gradient is the larger one
    read = weights[0][[1, 7, 9, 14]]
    torch.testing.assert_close(weights[2][[1, 7, 9, 14]], read - 0.5 * read.sign(), rtol=0, atol=1e-4)
    assert torch.equal(weights[2][[2, 3, 6]], weights[0][[2, 3, 6]])


def test_wrong_uses_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`embedding_l2` must be"):
        ClickPromptTrainingArguments(str(tmp_path), embedding_l2=-1)
    model = model_of_three_fields("lr")
    args = ClickPromptTrainingArguments(str(tmp_path), embedding_l2=0.1, report_to=[])
    given = (torch.optim.SGD(model.parameters(), lr=0.1), None)
    with pytest.raises(ValueError, match="`embedding_l2` must be 0 with `optimizers`"):
        ClickPromptTrainer(model, args, optimizers=given)
