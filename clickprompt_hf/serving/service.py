# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The HTTP service: raw rows in, click probabilities out.

| path | |
|---|---|
| `POST /score` | a JSON list of rows, or one row; the answer has one click probability per row |
| `GET /health` | whether rows are scored |
| `GET /metrics` | counters for Prometheus |
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect

from ..columns_clickprompt import PROBABILITY_COLUMN
from ..data.json_objects import unrepeated
from ..unknown_values_clickprompt import UnknownValues
from .batching import Batcher, QueueIsFull
from .engine import Engine
from .metrics import ServedValues, ServiceMetrics

logger = logging.getLogger(__name__)

# A client that finds the queue full may try again after this many seconds.
_RETRY_AFTER = "1"
# nginx's status for a client that has closed the connection; no client reads it.
_CLIENT_CLOSED_REQUEST = 499
# Of a request that is too large, up to this many times the limit is received and dropped.
_DROPPED = 10


@dataclass(frozen=True)
class Limits:
    """What the service accepts, and how it makes batches.

    Args:
        max_rows: Rows per request.
        max_bytes: Bytes per request.
        queue_rows: Rows that may wait, at least `max_rows`.
        batch_rows: Rows at which a batch is full; `None` for the engine's own number.
        max_wait_ms: Milliseconds that a batch that is not full waits for more rows.

    Raises:
        ValueError: If `queue_rows` is below `max_rows`.
    """

    max_rows: int = 1024
    max_bytes: int = 4 * 2**20
    queue_rows: int = 16_384
    batch_rows: int | None = None
    max_wait_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.queue_rows < self.max_rows:
            raise ValueError(
                f"`queue_rows` must be at least `max_rows` ({self.max_rows}), or the largest requests would never be "
                f"accepted; got {self.queue_rows}."
            )


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        detail: What is wrong, for the client.
    """

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


def make_service(engine: Engine, limits: Limits | None = None) -> FastAPI:
    """Build the service as an ASGI application.

    Args:
        engine: Scores rows.
        limits: What is accepted; the defaults of `Limits` if `None`.
    """
    limits = limits or Limits()
    values = ServedValues(engine.encoder, engine.trained_values)
    batcher = Batcher(
        lambda requests: score_requests(engine, requests, values),
        limits.batch_rows or engine.batch_rows,
        limits.queue_rows,
        limits.max_wait_ms / 1e3,
        lambda rows: metrics.count_batch(rows),
    )
    metrics = ServiceMetrics(lambda: batcher.queued_rows, values)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    # the pages that FastAPI makes of openapi.json load scripts from elsewhere
    app = FastAPI(title="clickprompt", lifespan=running, docs_url=None, redoc_url=None)

    @app.post("/score", openapi_extra=_openapi(engine))
    async def score(request: Request) -> Response:
        start = time.perf_counter()
        num_scored = 0
        try:
            rows, is_single = rows_of(await _body(request, limits.max_bytes), limits.max_rows)
            probabilities = (await batcher.score(rows)).tolist() if rows else []
            num_scored = len(rows)
            scores = [{PROBABILITY_COLUMN: probability} for probability in probabilities]
            response: Response = JSONResponse(scores[0] if is_single else scores)
        except RequestError as error:
            response = JSONResponse({"detail": error.detail}, error.status)
        except QueueIsFull:
            detail = f"The queue is full ({limits.queue_rows} rows). Try again later."
            response = JSONResponse({"detail": detail}, 503, {"Retry-After": _RETRY_AFTER})
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
        except Exception:
            logger.exception("A request could not be answered.")
            response = JSONResponse({"detail": "Internal error; the service's log has the reason."}, 500)
        metrics.count_request(response.status_code, time.perf_counter() - start, num_scored)
        return response

    @app.get("/health")
    async def health() -> Response:
        status = "ok" if batcher.is_running else "stopped"
        return JSONResponse({"status": status, "model": engine.name}, 200 if batcher.is_running else 503)

    @app.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return app


async def _body(request: Request, max_bytes: int) -> bytes:
    """The body of a request.

    Raises:
        RequestError: If it is larger than allowed.
    """
    body = bytearray()
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes <= max_bytes:
            body += chunk
        # a client that is cut off while it sends does not read the answer
        elif num_bytes > _DROPPED * max_bytes:
            break
    if num_bytes > max_bytes:
        raise RequestError(413, f"A request must have at most {max_bytes:,} bytes. Send its rows in several requests.")
    return bytes(body)


def rows_of(body: bytes, max_rows: int) -> tuple[list[Mapping[str, Any]], bool]:
    """The rows of a request's body, and whether it holds a single row instead of a list.

    Raises:
        RequestError: If the body is not JSON, not a row or a list of rows, or has too many rows.
    """
    try:
        content = json.loads(body, object_pairs_hook=unrepeated)
    # repeated keys, bytes that are not text, numbers with thousands of digits, unlimited nesting
    except (ValueError, RecursionError) as error:
        raise RequestError(422, f"The body must be JSON: {error}.") from error
    if isinstance(content, dict):
        return [content], True
    if not isinstance(content, list):
        raise RequestError(
            422, f"The body must be a row (an object from column to value) or a list of rows, got {content!r:.80}."
        )
    if len(content) > max_rows:
        raise RequestError(
            413, f"A request must have at most {max_rows:,} rows, got {len(content):,}. Send them in several requests."
        )
    for number, row in enumerate(content):
        if not isinstance(row, dict):
            raise RequestError(422, f"Row {number} must be an object from column to value, got {row!r:.80}.")
    return content, False


def score_requests(
    engine: Engine, requests: list[list[Mapping[str, Any]]], values: UnknownValues
) -> list[np.ndarray | Exception]:
    """Score the rows of several requests together; return the probabilities or the error of each.

    If that fails, each request is scored alone, so that a mistake in one of them fails no other, and messages count
    the rows of their own request.

    Args:
        engine: Scores rows.
        requests: The rows of each request.
        values: Counts the values of the rows.
    """
    if len(requests) > 1:
        try:
            together = _score(engine, [row for rows in requests for row in rows], values)
        except Exception:
            logger.debug("A batch could not be scored; scoring its requests one by one.", exc_info=True)
        else:
            ends = np.cumsum([len(rows) for rows in requests])
            return list(np.split(together, ends[:-1]))
    results: list[np.ndarray | Exception] = []
    for rows in requests:
        try:
            results.append(_score(engine, rows, values))
        except Exception as error:
            results.append(error)
    return results


def _score(engine: Engine, rows: list[Mapping[str, Any]], values: UnknownValues) -> np.ndarray:
    try:
        inputs = engine.read(rows, values)
    except (ValueError, TypeError) as error:
        raise RequestError(422, str(error)) from error
    return engine.score(inputs)


def _openapi(engine: Engine) -> dict[str, Any]:
    """Description of the request and of its answer, for `/openapi.json`."""
    encoder = engine.encoder
    to_join = encoder.columns_to_join({})
    about = dict.fromkeys(to_join.values(), "Key of a joined table.")
    about |= {field.column: f"Field of kind {field.kind}." for field in reversed(encoder.schema.fields)}
    about |= {column: f"{about[column]} By default, it is looked up by {key}." for column, key in to_join.items()}
    required = encoder.needed_columns(to_join)
    columns = dict.fromkeys([*required, *encoder.read_columns])
    row = {
        "type": "object",
        "properties": {column: {"description": about[column]} for column in columns},
        "required": required,
    }
    probability = {"type": "object", "properties": {PROBABILITY_COLUMN: {"type": "number"}}}

    def one_or_several(schema: dict[str, Any]) -> dict[str, Any]:
        return {"content": {"application/json": {"schema": {"oneOf": [{"type": "array", "items": schema}, schema]}}}}

    errors = {413: "Too many rows or bytes.", 422: "A row is invalid; `detail` names it.", 503: "The queue is full."}
    return {
        "requestBody": {"required": True, **one_or_several(row)},
        "responses": {
            "200": {"description": "Click probabilities.", **one_or_several(probability)},
            **{str(status): {"description": text} for status, text in errors.items()},
        },
    }
