# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What the service counts, for Prometheus."""

import logging
import threading
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..data.drift import DriftCounts, TrainedValues
from ..encoding_clickprompt import FeatureEncoder
from ..lost_keys_clickprompt import LostKeys

logger = logging.getLogger(__name__)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_COUNTED_AT_ONCE = 1_000
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class ServedValues(DriftCounts):
    """Counts the values of the rows that the service reads, since its start and recently.

    Rows are kept until there are enough to be counted at once, as counting few takes as long as scoring them. Threads
    may share it. Logs once per joined table if it lacks at least 1 % of the keys of the first thousand rows or more.

    Args:
        encoder: As in `DriftCounts`.
        trained: As in `DriftCounts`.
        window_rows: The stability index covers the last rows: at least this many and at most twice as many.
    """

    def __init__(self, encoder: FeatureEncoder, trained: TrainedValues | None = None, window_rows: int = 10_000):
        super().__init__(encoder, trained)
        self._window_rows = window_rows
        self._blocks = [DriftCounts(encoder, trained), DriftCounts(encoder, trained)]
        self._rows_of_block = 0
        self._pending: list[tuple[Mapping[str, Sequence], np.ndarray, np.ndarray | None]] = []
        self._num_pending = 0
        self._logged: list[LostKeys] = []
        self._lock = threading.Lock()

    def add_rows(
        self, columns: Mapping[str, Sequence], feature_ids: np.ndarray, feature_vectors: np.ndarray | None = None
    ) -> None:
        with self._lock:
            self._pending.append((columns, feature_ids, feature_vectors))
            self._num_pending += len(feature_ids)
            if self._num_pending >= _COUNTED_AT_ONCE:
                self._count()

    def count_pending(self) -> None:
        """Count the rows that are kept."""
        with self._lock:
            self._count()

    @property
    def recent(self) -> DriftCounts:
        """Counts of the last rows."""
        both = DriftCounts(self.encoder, self.trained)
        for block in self._blocks:
            both.merge(block.counts)
        return both

    def _count(self) -> None:
        if not self._pending:
            return
        columns, ids, vectors = zip(*self._pending)
        joined = {name: [cell for part in columns for cell in part[name]] for name in self.encoder.read_columns}
        counts = DriftCounts(self.encoder, self.trained)
        counts.add_rows(joined, np.concatenate(ids), None if vectors[0] is None else np.concatenate(vectors))
        self.merge(counts.counts)
        if self._rows_of_block >= self._window_rows:
            self._blocks = [DriftCounts(self.encoder, self.trained), self._blocks[0]]
            self._rows_of_block = 0
        self._blocks[0].merge(counts.counts)
        self._rows_of_block += self._num_pending
        self._pending, self._num_pending = [], 0
        for lost_keys in self.lost_keys:
            few = lost_keys.num_keys < _COUNTED_AT_ONCE
            if not (few or lost_keys in self._logged or (message := lost_keys.message()) is None):
                self._logged.append(lost_keys)
                logger.warning(message)

    def collect(self) -> Iterator[Metric]:
        """The counts as Prometheus wants them: counters since the start, and the stability index of the last rows."""
        self.count_pending()
        values = CounterMetricFamily("clickprompt_field_values", "Values read.", labels=["field"])
        unseen = CounterMetricFamily("clickprompt_field_unseen", "Values unseen in training.", labels=["field"])
        missing = CounterMetricFamily("clickprompt_field_missing", "Missing cells.", labels=["field"])
        for key, field, bins in zip(self.encoder.schema.keys, self.encoder.schema.fields, self.bins):
            if field.num_columns:
                for family, count in ((values, bins.sum()), (unseen, bins[-2]), (missing, bins[-1])):
                    family.add_metric([key], int(count))
        trained = GaugeMetricFamily(
            "clickprompt_field_training_share", "Share of values in training.", labels=["field", "values"]
        )
        index = GaugeMetricFamily(
            "clickprompt_field_stability_index",
            f"Population stability index of the last {self._window_rows:,} rows or more.",
            labels=["field"],
        )
        for drift in self.recent.drifts():
            if drift.trained_unseen is not None and drift.trained_missing is not None:
                trained.add_metric([drift.key, "unseen"], drift.trained_unseen)
                trained.add_metric([drift.key, "missing"], drift.trained_missing)
            if drift.stability_index is not None:
                index.add_metric([drift.key], drift.stability_index)
        yield from (values, unseen, missing, trained, index)
        if self.lost_keys:
            yield from self._keys_of_tables()

    def _keys_of_tables(self) -> Iterator[Metric]:
        """Counts of keys that were looked up in joined tables; several tables with one key are counted together."""
        keys = CounterMetricFamily("clickprompt_joined_keys", "Keys looked up in joined tables.", labels=["key"])
        lost = CounterMetricFamily("clickprompt_lost_keys", "Keys that joined tables lack.", labels=["key"])
        looked_up: Counts[str] = Counts()
        lacking: Counts[str] = Counts()
        for of_table in self.lost_keys:
            looked_up[of_table.table.key] += of_table.num_keys
            lacking[of_table.table.key] += of_table.num_lost
        for key in looked_up:
            keys.add_metric([key], looked_up[key])
            lost.add_metric([key], lacking[key])
        yield from (keys, lost)


class ServiceMetrics:
    """Counters of one service, in a separate registry.

    Args:
        queued_rows: Tells how many rows wait.
        values: Counts the values that are read.
    """

    def __init__(self, queued_rows: Callable[[], float], values: ServedValues):
        self.registry = CollectorRegistry()
        # CPU seconds, memory and open files, on Linux
        ProcessCollector(registry=self.registry)
        self.registry.register(values)
        self._requests = Counter(
            "clickprompt_requests", "Requests to /score, by HTTP status.", ["status"], registry=self.registry
        )
        self._seconds = Histogram(
            "clickprompt_request_seconds",
            "Request latency in seconds.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter("clickprompt_rows", "Rows scored.", registry=self.registry)
        self._batch_rows = Histogram(
            "clickprompt_batch_rows", "Rows per batch.", buckets=_ROWS, registry=self.registry
        )
        Gauge("clickprompt_queued_rows", "Queued rows.", registry=self.registry).set_function(queued_rows)

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
        """Count a batch and its rows."""
        self._batch_rows.observe(rows)

    def exposition(self) -> bytes:
        """All counters in the text format of Prometheus."""
        return generate_latest(self.registry)
