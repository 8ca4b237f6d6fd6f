# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Gathers the rows of several requests into batches.

One batch is scored at a time, in a separate thread. Requests that arrive meanwhile wait in a queue of limited length
and share the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Scores requests, each a list of rows, and returns the probabilities or the error of each.
ScoreRequests = Callable[[list[list[Any]]], Sequence[np.ndarray | Exception]]


class QueueIsFull(Exception):
    """More rows wait than the queue holds."""


@dataclass
class _Waiting:
    rows: list[Any]
    arrived: float
    result: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Scores the rows of concurrent requests in common batches, in the order of arrival.

    Use it as an asynchronous context manager. Leaving it scores the remaining requests.

    Args:
        score: Called in a thread with the requests of a batch.
        batch_rows: Rows at which a batch is full. Requests are not split: a larger one is a batch by itself.
        queue_rows: Rows that may wait.
        wait: Seconds that the first request of a batch waits for others if the batch is not full. With 0, a batch
            holds whatever arrived while the previous one was scored.
        on_batch: Called with the number of rows of each batch.
    """

    def __init__(
        self,
        score: ScoreRequests,
        batch_rows: int,
        queue_rows: int,
        wait: float = 0.0,
        on_batch: Callable[[int], Any] = lambda rows: None,
    ):
        self._score = score
        self.batch_rows, self.queue_rows, self.wait = batch_rows, queue_rows, wait
        self._on_batch = on_batch
        self._queue: deque[_Waiting] = deque()
        self.queued_rows = 0
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task | None = None

    @property
    def is_running(self) -> bool:
        """Whether requests are scored."""
        return self._task is not None and not self._task.done()

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._stopping = True
        self._changed.set()
        assert self._task is not None
        await self._task

    async def score(self, rows: list[Any]) -> np.ndarray:
        """Score the rows of one request.

        Raises:
            QueueIsFull: If these rows and those that wait are more than `queue_rows`.
            Exception: What `score` of the class returned for this request.
        """
        if self.queued_rows + len(rows) > self.queue_rows:
            raise QueueIsFull
        waiting = _Waiting(rows, asyncio.get_running_loop().time())
        self._queue.append(waiting)
        self.queued_rows += len(rows)
        self._changed.set()
        return await waiting.result

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="scoring") as thread:
            while batch := await self._next_batch():
                requests = [waiting.rows for waiting in batch]
                self._on_batch(sum(map(len, requests)))
                results: Sequence[np.ndarray | Exception]
                try:
                    results = await loop.run_in_executor(thread, self._score, requests)
                except Exception as error:
                    results = [error] * len(batch)
                for waiting, result in zip(batch, results, strict=True):
                    # nobody waits for a cancelled request
                    if waiting.result.done():
                        continue
                    if isinstance(result, Exception):
                        waiting.result.set_exception(result)
                    else:
                        waiting.result.set_result(result)

    async def _next_batch(self) -> list[_Waiting]:
        """The next batch; empty once the batcher has stopped and nothing waits."""
        while True:
            while not self._queue and not self._stopping:
                await self._change()
            if self._queue and self.wait:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._queue[0].arrived + self.wait):
                        while self.queued_rows < self.batch_rows and not self._stopping:
                            await self._change()
            batch = self._take()
            if batch or (self._stopping and not self._queue):
                return batch

    def _take(self) -> list[_Waiting]:
        """Remove the requests of a batch from the queue, and return those that still wait for their result."""
        taken: list[_Waiting] = []
        num_rows = 0
        while self._queue and (not taken or num_rows + len(self._queue[0].rows) <= self.batch_rows):
            taken.append(self._queue.popleft())
            num_rows += len(taken[-1].rows)
        self.queued_rows -= num_rows
        return [waiting for waiting in taken if not waiting.result.cancelled()]

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
