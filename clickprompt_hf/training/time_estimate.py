# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Say after the first steps how long training and evaluation will take."""

import math
from time import perf_counter
from typing import Any

import numpy as np
from torch import nn
from tqdm.auto import tqdm
from transformers import TrainerCallback

from ..data.columnar import ColumnarDataset

# The first steps allocate memory, compile kernels and skip the rows of a resumed run.
_WARM_UP_STEPS = 3
_LEAST_STEPS, _LEAST_SECONDS = 10, 3.0
# If steps are slow, two of them are enough.
_LEAST_SLOW_STEPS, _SLOW_SECONDS = 2, 20.0
# Share of the forward pass in a training step, where it cannot be timed: the backward pass takes twice as long.
_FORWARD_SHARE = 1 / 3


class TimeEstimateCallback(TrainerCallback):
    """Prints one line after the first steps: tokens per row, number of steps, and about how long the run still takes.

    Steps are timed once the first three are over, until ten have taken three seconds; evaluation and saving restart
    the timing. A row takes as long to evaluate as its forward pass in training, which is timed on CPUs and taken for
    a third of the step elsewhere. A run that ends before has no estimate.

    Args:
        rows_after_training: Number of rows that are scored once training has ended.
        eval_rows: Number of rows of each evaluation.
    """

    def __init__(self, rows_after_training: int = 0, eval_rows: int = 0):
        self.rows_after_training, self.eval_rows = rows_after_training, eval_rows
        self._hooks: list[Any] = []
        self._reset()

    def _reset(self) -> None:
        self._remove_hooks()
        self._is_done = False
        self._steps_seen = 0
        self._restart()

    def _restart(self) -> None:
        # time and number of steps when the timing began
        self._start: tuple[float, int] | None = None
        self._forward_start = 0.0
        self._forward_seconds = 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._reset()
        if isinstance(model, nn.Module) and args.device.type == "cpu" and not args.torch_compile:
            self._hooks = [
                model.register_forward_pre_hook(self._begin_forward),
                model.register_forward_hook(self._end_forward),
            ]

    def on_train_end(self, args, state, control, **kwargs):
        self._remove_hooks()

    def on_evaluate(self, args, state, control, **kwargs):
        self._restart()

    def on_save(self, args, state, control, **kwargs):
        self._restart()

    def on_step_end(self, args, state, control, train_dataloader=None, processing_class=None, **kwargs):
        if self._is_done:
            return
        self._steps_seen += 1
        now = perf_counter()
        if self._start is None:
            if self._steps_seen >= _WARM_UP_STEPS:
                self._restart()
                self._start = now, self._steps_seen
            return
        seconds, steps = now - self._start[0], self._steps_seen - self._start[1]
        is_enough = steps >= _LEAST_STEPS and seconds >= _LEAST_SECONDS
        if not is_enough and not (steps >= _LEAST_SLOW_STEPS and seconds >= _SLOW_SECONDS):
            return
        self._is_done = True
        forward_share = self._forward_seconds / seconds if self._hooks else _FORWARD_SHARE
        self._remove_hooks()
        if state.is_world_process_zero:
            per_step = seconds / steps
            tqdm.write(self._line(args, state, train_dataloader, processing_class, per_step, forward_share))

    def _begin_forward(self, *_: Any) -> None:
        self._forward_start = perf_counter()

    def _end_forward(self, *_: Any) -> None:
        if self._start is not None:
            self._forward_seconds += perf_counter() - self._forward_start

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _line(
        self, args: Any, state: Any, train_dataloader: Any, processor: Any, per_step: float, forward_share: float
    ) -> str:
        """The estimate in words.

        Args:
            args: Training arguments.
            state: Training state.
            train_dataloader: Batches of one epoch.
            processor: Limits the length of texts; `None` if nothing does.
            per_step: Seconds per optimizer step.
            forward_share: Share of them that the forward passes take.
        """
        # `auto_find_batch_size` changes the batch size of the arguments
        rows_per_step = (state.train_batch_size or args.train_batch_size) * args.gradient_accumulation_steps
        per_row = per_step * forward_share / rows_per_step
        steps_per_epoch = max(math.ceil(len(train_dataloader) / args.gradient_accumulation_steps), 1)
        evaluations = _evaluations_left(args, state, steps_per_epoch)
        # each process has its share of the rows
        rows = (evaluations * self.eval_rows + self.rows_after_training) / args.world_size
        training, evaluating = (state.max_steps - state.global_step) * per_step, rows * per_row
        dataset = train_dataloader.dataset
        parts = [f"{tokens:.0f} tokens per row"] if (tokens := _tokens_per_row(dataset, processor)) else []
        epochs = state.max_steps / steps_per_epoch
        parts.append(
            f"{state.max_steps:,} steps of {rows_per_step * args.world_size:,} rows "
            f"({epochs:.3g} epoch{'s' * (epochs != 1)})"
        )
        parts.append(
            f"about {_duration(training + evaluating)} left: {_duration(training)} of training and "
            f"{_duration(evaluating)} of evaluation"
        )
        line = ", ".join(parts)
        if isinstance(dataset, ColumnarDataset) and dataset.cached_texts is not None:
            line += "; text states are already cached"
        return f"{line}."


def _evaluations_left(args: Any, state: Any, steps_per_epoch: int) -> int:
    """Number of evaluations until training ends, unless it stops early."""
    strategy = getattr(args.eval_strategy, "value", args.eval_strategy)
    if strategy == "no":
        return 0
    if strategy == "steps":
        return state.max_steps // state.eval_steps - state.global_step // state.eval_steps
    # an epoch that `max_steps` or a fraction of an epoch cuts off is evaluated too
    return math.ceil(state.max_steps / steps_per_epoch) - state.global_step // steps_per_epoch


def _tokens_per_row(dataset: Any, processor: Any) -> float | None:
    """Mean number of text tokens per row; `None` if the rows have no text."""
    if not isinstance(dataset, ColumnarDataset) or dataset.tables is None or dataset.clause_ids is None:
        return None
    lengths = dataset.text_lengths()
    limit = getattr(processor, "max_text_length", None)
    return float(np.mean(lengths if limit is None else np.minimum(lengths, limit)))


def _duration(seconds: float) -> str:
    """A duration in words, such as `"40 seconds"` or `"2.5 hours"`."""
    if seconds < 90:
        return "1 second" if round(seconds) == 1 else f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f} minutes"
    return f"{seconds / 3600:.1f} hours"
