"""The estimate of how long a run takes: its arithmetic with a clock by hand, and where a run prints it."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_data import prepare_tiny_splits
from tiny_models import tiny_ctr_config
from torch import nn

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments, time_estimate
from clickprompt_hf.training.time_estimate import TimeEstimateCallback

NOW = {"seconds": 0.0}
ROWS = ColumnarDataset(np.zeros((1000, 3), dtype=np.int32), np.zeros(1000, dtype=np.int8), np.arange(1000))


class Clocked(nn.Module):
    """Takes `forward` seconds of the clock."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds = seconds

    def forward(self) -> None:
        NOW["seconds"] += self.seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    NOW["seconds"] = 0.0
    monkeypatch.setattr(time_estimate, "perf_counter", lambda: NOW["seconds"])
    lines: list[str] = []
    monkeypatch.setattr(time_estimate.tqdm, "write", lines.append)
    return lines


class Batches(SimpleNamespace):
    def __len__(self) -> int:
        return self.size


def run(
    callback: TimeEstimateCallback,
    *,
    max_steps: int,
    batches: int,
    first: int = 0,
    steps: int = 15,
    slow: int = 3,
    evaluate_at: int = -1,
    zero: bool = True,
    dataset: ColumnarDataset = ROWS,
    **given,
):
    """Steps of one second, a quarter of it forward; the first `slow` take a minute."""
    options = {"train_batch_size": 10, "gradient_accumulation_steps": 1, "world_size": 1, "eval_strategy": "epoch"}
    args = SimpleNamespace(**{**options, "torch_compile": False, "device": torch.device("cpu"), **given})
    state = SimpleNamespace(
        train_batch_size=None, max_steps=max_steps, global_step=first, eval_steps=30, is_world_process_zero=zero
    )
    loader, model = Batches(size=batches, dataset=dataset), Clocked(0.25 / args.gradient_accumulation_steps)
    callback.on_train_begin(args, state, None, model=model)
    for step in range(steps):
        NOW["seconds"] += 60 if step < slow else 0
        for _ in range(args.gradient_accumulation_steps):
            model()
        NOW["seconds"] += 0.75
        state.global_step += 1
        callback.on_step_end(args, state, None, train_dataloader=loader, processing_class=None)
        if step == evaluate_at:
            NOW["seconds"] += 500
            callback.on_evaluate(args, state, None)
    callback.on_train_end(args, state, None)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_the_estimate_by_hand(clock):
    # 3 steps to warm up, and 10 more: 287 of 300 left; 3 evaluations of 4,000 rows and 8,000 rows after training, each
    # row a quarter of a tenth of a second
    run(TimeEstimateCallback(8000, eval_rows=4000), max_steps=300, batches=100)
    parts = "4.8 minutes of training and 8.3 minutes of evaluation"
    assert clock == [f"300 steps of 10 rows (3 epochs), about 13 minutes left: {parts}."]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        # 8 batches make 4 steps; 47 epochs are left, with evaluations of 40 rows at 0.0125 seconds
        (
            {"max_steps": 200, "batches": 8, "gradient_accumulation_steps": 2},
            "200 steps of 20 rows (50 epochs), about 3.5 minutes left: 3.1 minutes of training and 24 seconds of",
        ),
        # each process evaluates its half
        ({"max_steps": 100, "batches": 50, "world_size": 2}, "100 steps of 20 rows (2 epochs), about 88 seconds left"),
        # less than one epoch: one evaluation, of 40 rows at 0.025 seconds
        (
            {"max_steps": 50, "batches": 100},
            "(0.5 epochs), about 38 seconds left: 37 seconds of training and 1 second of",
        ),
        # a resumed run: 100 - 60 - 13 steps, and the evaluation of the last two epochs
        (
            {"max_steps": 100, "batches": 25, "first": 60},
            "about 29 seconds left: 27 seconds of training and 2 seconds",
        ),
        (
            {"max_steps": 100, "batches": 25, "eval_strategy": "no"},
            "87 seconds of training and 0 seconds of evaluation",
        ),
        # after steps 30, 60 and 90
        ({"max_steps": 100, "batches": 25, "eval_strategy": "steps"}, "of training and 3 seconds of evaluation"),
        # neither the evaluation nor the steps before it count: 15 + 10 steps
        ({"max_steps": 125, "batches": 15, "evaluate_at": 8, "steps": 30}, "1.8 minutes of training"),
    ],
)
def test_accumulation_processes_fractions_and_resuming(options, said, clock):
    run(TimeEstimateCallback(eval_rows=40), **options)
    (line,) = clock
    assert said in line


def test_short_runs_and_other_processes_print_nothing(clock):
    run(TimeEstimateCallback(), max_steps=12, batches=12, steps=12)
    run(TimeEstimateCallback(), max_steps=100, batches=100, zero=False)
    assert clock == []


def test_slow_steps_are_not_waited_for(clock):
    run(TimeEstimateCallback(), max_steps=100, batches=100, steps=6, slow=6)
    # two steps of 61 seconds, 95 left
    assert "about 1.6 hours left: 1.6 hours of training" in clock[0]


def test_without_timing_the_forward_pass_takes_a_third(clock):
    run(TimeEstimateCallback(eval_rows=3000), max_steps=100, batches=100, torch_compile=True)
    # 3,000 rows at a third of a tenth of a second
    assert "87 seconds of training and 1.7 minutes of evaluation" in clock[0]


def test_rows_with_text_show_their_tokens(tmp_path, clock):
    prepare_tiny_splits(tmp_path)
    rows = load_prepared(tmp_path)[0]["train"]
    run(TimeEstimateCallback(), max_steps=100, batches=100, dataset=rows)
    assert clock[0].startswith(f"{rows.text_lengths().mean():.0f} tokens per row, 100 steps")


def test_a_trainer_prints_one_line(tmp_path, clock, monkeypatch):
    # each look at the clock takes a second
    monkeypatch.setattr(time_estimate, "perf_counter", itertools.count().__next__)
    rows = ColumnarDataset(np.zeros((64, 3), dtype=np.int32), np.arange(64, dtype=np.int8) % 2, np.arange(64))
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 2}
    args = ClickPromptTrainingArguments(str(tmp_path), report_to=[], use_cpu=True, disable_tqdm=True, **options)

    def collate(batch):
        return {name: torch.as_tensor(batch[0][name]) for name in ("feature_ids", "labels")}

    callbacks = [TimeEstimateCallback(eval_rows=64)]
    data = {"train_dataset": rows, "eval_dataset": rows, "data_collator": collate}
    ClickPromptTrainer(model, args, **data, callbacks=callbacks).train()
    (line,) = clock
    assert line.startswith("32 steps of 4 rows (2 epochs), about ")
    assert not model._forward_hooks
