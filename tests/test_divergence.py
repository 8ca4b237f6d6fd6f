"""A diverged run stops at its first loss that is not finite, says what to lower, and saves nothing of it."""

import pytest
import torch
from test_resuming import pamlm, prepared, run
from transformers import TrainerCallback

from clickprompt_hf.data.collators import ClickPromptMLMCollator
from clickprompt_hf.training.checkpoints import checkpoints_in, fault_of

__all__ = ["prepared"]

NAN, INFINITE = float("nan"), float("inf")


class Spoil(TrainerCallback):
    """Spoils the weights or the gradients of a step."""

    def __init__(self, step, value, gradients=False):
        self.step, self.value, self.gradients = step, value, gradients

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step and not self.gradients:
            with torch.no_grad():
                model.ctr_head.output.bias.fill_(self.value)
        if state.global_step == self.step and self.gradients:
            model.ctr_head.output.bias.register_hook(lambda gradient: gradient * self.value)


@pytest.mark.parametrize(
    ("value", "gradients", "nan_filter"),
    [(NAN, False, False), (INFINITE, False, True), (NAN, True, True), (INFINITE, True, False)],
)
def test_the_first_infinite_loss_or_gradient_stops_the_run(value, gradients, nan_filter, prepared, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "no", "max_steps": 20}
    options |= {"callbacks": [Spoil(10, value, gradients)], "logging_nan_inf_filter": nan_filter}
    with pytest.raises(ValueError, match=r"Training diverged: after 10 steps .*`learning_rate` \(0.01\)") as raised:
        run(tmp_path, prepared, logging_steps=1000, **options)
    assert all(name in str(raised.value) for name in ("`plm_learning_rate` (5e-05)", "`max_grad_norm` (1.0)"))
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-8", "checkpoint-4"]
    assert all(fault_of(checkpoint) is None for checkpoint in checkpoints_in(tmp_path))


class Enlarge(TrainerCallback):
    """Makes the first step as long as one of an absurd learning rate."""

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1e30)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_step_that_is_far_too_long_ends_the_run(steps, prepared, tmp_path):
    """After a single step, every weight is finite, but the model is useless."""
    with pytest.raises(ValueError, match=r"Training diverged: .*`learning_rate` \(0\.01\)"):
        run(tmp_path, prepared, max_steps=steps, callbacks=[Enlarge()])
    assert checkpoints_in(tmp_path) == []


def test_weights_that_are_not_finite_are_not_saved(prepared, tmp_path):
    class SpoilAtTheEnd(TrainerCallback):
        def on_optimizer_step(self, args, state, control, model=None, **kwargs):
            if state.global_step == 9:
                with torch.no_grad():
                    model.clickprompt.ctr.embedding.table.weight[3] = float("nan")

    options = {"save_strategy": "steps", "save_steps": 5, "eval_strategy": "no", "max_steps": 10}
    with pytest.raises(ValueError, match="a weight is not finite"):
        run(tmp_path, prepared, callbacks=[SpoilAtTheEnd()], **options)
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-5"]


def test_batches_without_a_masked_token_are_not_divergence(prepared, tmp_path, monkeypatch):
    call = ClickPromptMLMCollator.__call__

    def nothing_masked(self, features):
        return call(self, features) | {"labels": torch.full_like(call(self, features)["labels"], -100)}

    monkeypatch.setattr(ClickPromptMLMCollator, "__call__", nothing_masked)
    trainer, metrics = run(tmp_path, prepared, model=pamlm, max_steps=3, eval_strategy="no")
    assert trainer.state.global_step == 3
    assert metrics["train_loss"] == 0
