"""Dropout from few random bits: rates, scale, gradients, replays; and that training uses it."""

import pytest
import torch
from tiny_models import tiny_batch, tiny_config
from torch import nn
from torch.nn import functional as F

from clickprompt_hf import ClickPromptForCTR
from clickprompt_hf.training import cpu_dropout as module
from clickprompt_hf.training.cpu_dropout import cpu_dropout, dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.95])
def test_rate_and_scale(dtype, p):
    torch.manual_seed(0)
    with cpu_dropout():
        output = nn.Dropout(p)(torch.ones(1000, 1003, dtype=dtype))
    kept = output != 0
    # five standard deviations of a binomial share
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=5 * (p * (1 - p) / 1_003_000) ** 0.5)
    # the rate is rounded to 1 / 65,536, and the scale is that of the rounded rate
    assert output.max().item() == pytest.approx(1 / (1 - p), rel=1e-2 if dtype is torch.bfloat16 else 2e-4)
    # the draws of neighbours, which share 64 bits, do not go together
    for shift in (1, 2, 3, 4):
        together = (kept.flatten()[shift:] & kept.flatten()[:-shift]).float().mean().item()
        assert together == pytest.approx((1 - p) ** 2, abs=0.005)


def test_gradient_is_scaled_where_a_number_was_kept():
    numbers = torch.randn(7, 5, requires_grad=True)
    with cpu_dropout():
        output = F.dropout(numbers, 0.5)
    output.sum().backward()
    torch.testing.assert_close(output, numbers * numbers.grad)
    assert set(numbers.grad.unique().tolist()) == {0.0, 2.0}


def test_the_rest_is_as_it_was():
    numbers, before = torch.randn(3, 4), F.dropout
    with cpu_dropout():
        assert F.dropout(numbers, 0.5, training=False) is numbers
        assert torch.equal(F.dropout(numbers, 0.0), numbers)
        assert not F.dropout(numbers, 1.0).any()
        assert F.dropout(torch.ones(0, 4), 0.5).shape == (0, 4)
        assert F.dropout(torch.ones(1, 1), 0.5).item() in (0.0, 2.0)
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(numbers, 1.5)
        repeated = numbers.clone()
        assert F.dropout(repeated, 0.5, inplace=True) is repeated
    assert F.dropout is before


def test_one_seed_gives_one_draw():
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        with cpu_dropout():
            draws.append(F.dropout(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_gradient_checkpointing_replays_the_same_draws(monkeypatch):
    gradients, draws = [], []
    monkeypatch.setattr(module, "dropout", lambda numbers, p: (draws.append(p), dropout(numbers, p))[1])
    for checkpointing in (False, True):
        torch.manual_seed(0)
        config = tiny_config()
        config.text_config.hidden_dropout_prob = config.text_config.attention_probs_dropout_prob = 0.3
        model = ClickPromptForCTR(config).train()
        model.set_attn_implementation("eager")
        if checkpointing:
            model.activation_checkpointing_enable()
        with cpu_dropout():
            model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1, 1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
    # once; and once more for the replay, but for the embeddings'
    assert len(draws) == 7 + 7 + 6
