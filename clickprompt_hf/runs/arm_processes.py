# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Trains the arms of a comparison in several processes that share the cores of this machine and its GPU.

A task is the tuning of an arm, one seed of an arm, or PA-MLM with one seed. Tasks keep their results in the folder of
the comparison, as a single process does, so that an interrupted comparison goes on with any number of processes.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace

import pyarrow.parquet as pq
import torch

from .arms import Arm, Bench, make_arm
from .arms.pamlm import pamlm_checkpoint
from .comparison_folder import rows_file

# The bench of this process, and its arms by name.
_bench: Bench
_arms: dict[str, Arm] = {}


def train_in_processes(bench: Bench, arms: Sequence[str], num_processes: int, quiet: Callable) -> None:
    """Tune and train arms, except what is finished.

    Args:
        bench: What the arms share. Its folder must hold the rows, see `rows_file`.
        arms: Names of the arms.
        num_processes: Number of processes. Each has `OMP_NUM_THREADS` threads, by default its share of the cores.
        quiet: Makes a context that hides messages in a process; importable.

    Raises:
        Exception: What the first task that failed raised. Tasks that were running finish first; others do not start.
    """
    made = {name: make_arm(name, bench) for name in arms}
    missing = {name: seeds for name, arm in made.items() if (seeds := arm.missing_seeds)}
    later = [name for name in missing if made[name].starts_from_pamlm]
    first = [name for name in missing if name not in later]
    seeds_of_pamlm = sorted({seed for name in later for seed in missing[name]})
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdigit() else max(1, len(os.sched_getaffinity(0)) // num_processes)
    context = multiprocessing.get_context("spawn")
    shared = replace(bench, tables={})
    with (
        _environment(OMP_NUM_THREADS=str(threads)),
        ProcessPoolExecutor(num_processes, context, _open_bench, (shared, list(bench.tables), threads, quiet)) as pool,
    ):
        # arms that start from PA-MLM take their sizes from the others
        _wait([pool.submit(_tune, name) for name in first])
        _wait(
            [pool.submit(_pretrain, seed) for seed in seeds_of_pamlm]
            + [pool.submit(_train, name, seed) for name in reversed(first) for seed in missing[name]]
        )
        _wait([pool.submit(_tune, name) for name in later])
        _wait([pool.submit(_train, name, seed) for name in later for seed in missing[name]])


def _wait(tasks: list[Future]) -> None:
    try:
        for task in as_completed(tasks):
            task.result()
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for processes that start within the context."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _open_bench(shared: Bench, splits: list[str], threads: int, quiet: Callable) -> None:
    """Begin a process: map the rows, and hide messages until it ends."""
    global _bench
    torch.set_num_threads(threads)
    _bench = replace(shared, tables={name: pq.read_table(rows_file(shared.folder, name)) for name in splits})
    quiet().__enter__()


def _arm(name: str) -> Arm:
    if name not in _arms:
        _arms[name] = make_arm(name, _bench)
    return _arms[name]


def _tune(name: str) -> None:
    _arm(name).tuned()


def _pretrain(seed: int) -> None:
    pamlm_checkpoint(_bench, seed)


def _train(name: str, seed: int) -> None:
    arm = _arm(name)
    # reads the finished trials
    arm.train_and_save(arm.tuned(), seed)
