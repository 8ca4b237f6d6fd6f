# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the service counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ServiceMetrics:
    """Counters of one service, in a registry of their own.

    Args:
        queued_rows: Tells how many rows wait.
    """

    def __init__(self, queued_rows: Callable[[], float]):
        self.registry = CollectorRegistry()
        # CPU seconds, memory and open files, on Linux
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "clickprompt_requests", "Requests to /score, by HTTP status.", ["status"], registry=self.registry
        )
        self._seconds = Histogram(
            "clickprompt_request_seconds",
            "Time from a request to its answer, in seconds.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("clickprompt_rows", "Rows scored.", registry=self.registry)
        self._batch_rows = Histogram(
            "clickprompt_batch_rows", "Rows per batch.", buckets=_ROWS, registry=self.registry
        )
        Gauge("clickprompt_queued_rows", "Rows that wait.", registry=self.registry).set_function(queued_rows)

    def count_request(self, status: int, seconds: float, rows: int) -> None:
        """Count an answered request.

        Args:
            status: HTTP status of the answer.
            seconds: Time that it took.
            rows: Rows scored.
        """
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)
        self._rows.inc(rows)

    def count_batch(self, rows: int) -> None:
        """Count a batch of so many rows."""
        self._batch_rows.observe(rows)

    def exposition(self) -> bytes:
        """All counters in the text format of Prometheus."""
        return generate_latest(self.registry)
