# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training that stops once its loss is no longer finite, before it saves useless weights."""

import math
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import Trainer
from transformers.trainer_pt_utils import nested_gather
from transformers.trainer_utils import HPSearchBackend

_NUMBERS_PER_PIECE = 2**22
# What to lower, or raise, if training diverges.
_ADVISED = ("learning_rate", "plm_learning_rate", "max_grad_norm", "warmup_steps")


class DivergenceCheckingTrainer(Trainer):
    """A `Trainer` that stops a diverged run, with a message that says what to lower.

    Losses and gradient norms are checked at every step if that costs no waiting: on CPUs, and where `Trainer` looks at
    each loss anyway (`logging_nan_inf_filter`). Otherwise, and with several processes, which stop together, they are
    checked before the next log, evaluation or checkpoint. Weights are checked before they are saved.

    Raises:
        ValueError: In training, if a loss, a gradient norm or a weight is NaN or infinite.
    """

    # (), whether a number of this process was not finite; `None` before the first one
    _diverged: torch.Tensor | None = None

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self._watch(loss, "loss")
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        grad_norm = super()._get_grad_norm(model, grad_norm)
        # in fp16, steps whose gradients overflow are skipped
        if not self.args.fp16:
            self._watch(torch.as_tensor(grad_norm), "gradient norm")
        return grad_norm

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        control = self.control
        if control.should_log or control.should_evaluate or control.should_save or control.should_training_stop:
            self._stop_if_diverged()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _evaluate(self, *args, **kwargs):
        metrics = super()._evaluate(*args, **kwargs)
        # there is one loss per evaluation set
        for name, value in metrics.items():
            if name.endswith("loss") and not math.isfinite(value):
                self._stop(f"{name} is {value}")
        return metrics

    def _save_checkpoint(self, model, trial):
        self._stop_if_weights_diverged()
        super()._save_checkpoint(model, trial)

    def _finalize_training(self, *args, **kwargs):
        self._stop_if_diverged()
        self._stop_if_weights_diverged()
        return super()._finalize_training(*args, **kwargs)

    def _watch(self, number: torch.Tensor, name: str) -> None:
        """Check that a number of this step is finite; if not, stop, at once unless other processes must stop too."""
        infinite = ~_is_finite(_local(number))
        self._diverged = infinite if self._diverged is None else self._diverged | infinite.to(self._diverged.device)
        nothing_waits = number.device.type == "cpu" or self.args.logging_nan_inf_filter
        if nothing_waits and self.args.world_size == 1 and infinite:
            self._stop(f"the {name} is {number.item()}")

    def _stop_if_diverged(self) -> None:
        if self._diverged is not None and self._any_process(self._diverged):
            self._stop("a loss or gradient norm since the last log was not finite")

    def _stop_if_weights_diverged(self) -> None:
        model: Any = self.model
        infinite = [~_is_finite(_local(parameter)) for parameter in model.parameters()]
        if self._any_process(torch.stack([flag.to(self.args.device) for flag in infinite]).any()):
            self._stop("a weight is not finite")

    def _any_process(self, flag: torch.Tensor) -> bool:
        return bool(nested_gather(flag.float(), self.args.parallel_mode).any())

    def _stop(self, problem: str) -> None:
        """Stop the run, or the trial of a hyperparameter search.

        Raises:
            ValueError: Always, except in a search with Optuna.
        """
        given: dict[str, Any] = vars(self.args)
        settings = {key: given[key] for key in _ADVISED if key in given}
        advised = ", ".join(f"`{key}` ({value})" for key, value in settings.items())
        message = (
            f"Training diverged: after {self.state.global_step} steps {problem}. Lower the learning rates or "
            f"`max_grad_norm`, or warm up for longer; now {advised}. The diverged weights were not saved."
        )
        self._diverged = None
        if self.hp_search_backend == HPSearchBackend.OPTUNA:
            import optuna

            raise optuna.TrialPruned(message)
        raise ValueError(message)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds, with FSDP2 or ZeRO-3."""
    tensor = vars(tensor).get("ds_tensor", tensor).detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _is_finite(tensor: torch.Tensor) -> torch.Tensor:
    """Whether all numbers are finite, (). Looks at pieces: torch needs twice the memory of what it looks at."""
    return torch.stack([piece.isfinite().all() for piece in tensor.reshape(-1).split(_NUMBERS_PER_PIECE)]).all()
