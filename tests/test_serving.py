"""The HTTP service: what it answers, what it refuses, how it makes batches, and how it ends."""

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from test_export_ctr import ROW, save_checkpoint
from tiny_data import tiny_rows
from transformers import AutoModelForSequenceClassification, AutoProcessor

from clickprompt_hf import ClickPromptPipeline
from clickprompt_hf.data.drift import count_training_values
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.unknown_values_clickprompt import UnknownValues

pytest.importorskip("prometheus_client", reason="needs the extra serve: pip install 'clickprompt_hf[serve]'")
from starlette.testclient import TestClient, httpx

from clickprompt_hf.export.export_engines import load_export
from clickprompt_hf.runs import serve
from clickprompt_hf.serving.batching import Batcher, QueueIsFull
from clickprompt_hf.serving.checkpoint_engine import CheckpointEngine
from clickprompt_hf.serving.metrics import ServedValues
from clickprompt_hf.serving.service import Limits, RequestError, make_service, score_requests

COLUMNS = tiny_rows(20, seed=9)
ROWS = [dict(zip(COLUMNS, cells)) for cells in zip(*COLUMNS.values())]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint with a PLM, and the export of its CTR part."""
    folder = tmp_path_factory.mktemp("served")
    save_checkpoint(folder / "checkpoint")
    export_ctr(folder / "checkpoint", folder / "export")
    return folder


@pytest.fixture(scope="module")
def engine(folders):
    return load_export(folders / "export", num_threads=1)


@pytest.fixture
def client(engine):
    with TestClient(make_service(engine, Limits(max_rows=20, max_bytes=5_000, queue_rows=20))) as client:
        yield client


def of(response) -> list[float]:
    assert response.status_code == 200, response.text
    return [score["click_probability"] for score in response.json()]


def metrics(client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_an_export_is_served(client, folders):
    expected = Scorer(folders / "export").score(ROWS)
    assert expected.std() > 0.01
    np.testing.assert_allclose(of(client.post("/score", json=ROWS)), expected, rtol=0, atol=1e-6)
    # a row as such, with missing and unseen values, and columns that no field reads
    row = {"user": None, "price": "many", "tags": ["new", "rare"], "title": "never seen", "click": "perhaps"}
    answer = client.post("/score", json=row).json()
    assert answer == {"click_probability": pytest.approx(Scorer(folders / "export").score([row])[0], abs=1e-6)}
    assert client.post("/score", json=[]).json() == []


def test_a_checkpoint_is_served(folders):
    model = AutoModelForSequenceClassification.from_pretrained(folders / "checkpoint")
    processor = AutoProcessor.from_pretrained(folders / "checkpoint")
    engine = CheckpointEngine(model, processor)
    assert engine.name == "with the PLM, PyTorch on cpu"
    expected = [score["click_probability"] for score in ClickPromptPipeline(model, processor)(ROWS)]
    with TestClient(make_service(engine)) as client:
        assert of(client.post("/score", json=ROWS)) == pytest.approx(expected, abs=1e-6)
        # labels, which rows may hold, are not read
        labeled = [{**ROWS[0], "click": "perhaps"}]
        assert of(client.post("/score", json=labeled)) == pytest.approx(expected[:1], abs=1e-6)
        assert "'title' of kind 'categorical'" in client.post("/score", json=[{**ROWS[0], "title": ["Up"]}]).text


@pytest.mark.parametrize("part", ["checkpoint", "export"])
def test_large_requests_are_scored_in_batches(folders, part):
    model = AutoModelForSequenceClassification.from_pretrained(folders / part)
    engine = CheckpointEngine(model, AutoProcessor.from_pretrained(folders / part))
    whole = engine.score(engine.read(ROWS, UnknownValues(engine.encoder)))
    engine.batch_rows = 3
    pieces = engine.score(engine.read(ROWS, UnknownValues(engine.encoder)))
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ([ROW, {"user": 1}], 422, r"Row 1 must have the columns .*; missing \['price', 'tags', 'title'\]"),
        ([ROW, ROW, {**ROW, "title": ["Up"]}], 422, r"Column 'title' .* one value per row, got \['Up'\] in row 2"),
        ([{**ROW, "tags": [["new"]]}], 422, "'tags' .* in row 0"),
        ([ROW, 3], 422, "Row 1 must be an object from column to value, got 3"),
        ("abc", 422, "a row .* or a list of rows, got 'abc'"),
        (b"[{", 422, "The body must be JSON: "),
        (b'{"user": 1, "user": 2}', 422, "The body must be JSON: the key 'user' is repeated"),
        (b"\xff", 422, "The body must be JSON: "),
        (b"[" * 4_000, 422, "The body must be JSON: "),
        ([ROW] * 21, 413, "at most 20 rows, got 21"),
        ([{**ROW, "title": "a" * 5_000}], 413, "at most 5,000 bytes"),
        (b" " * 60_000, 413, "at most 5,000 bytes"),
    ],
)
def test_wrong_requests_are_refused(client, body, status, detail):
    content = body if isinstance(body, bytes) else json.dumps(body)
    response = client.post("/score", content=content)
    assert response.status_code == status
    assert re.search(detail, response.json()["detail"])
    assert metrics(client)[f'clickprompt_requests_total{{status="{status}"}}'] == 1


def test_faults_of_the_model_are_not_mistakes_of_the_client(engine, monkeypatch, caplog):
    def broken(*inputs):
        raise ValueError("weights are damaged")

    monkeypatch.setattr(engine.scorer, "score_ids", broken)
    with TestClient(make_service(engine)) as client:
        response = client.post("/score", json=ROWS)
    assert response.status_code == 500
    assert "damaged" not in response.text
    assert "weights are damaged" in caplog.text


def test_health_metrics_and_description(client):
    assert client.get("/health").json() == {"status": "ok", "model": "CTR part, onnxruntime"}
    client.post("/score", json=ROWS[:3])
    client.post("/score", json=ROWS[:2])
    client.post("/score", json="abc")
    counts = metrics(client)
    assert counts["clickprompt_rows_total"] == 5
    assert counts['clickprompt_requests_total{status="200"}'] == 2
    assert counts['clickprompt_requests_total{status="422"}'] == 1
    assert counts["clickprompt_batch_rows_count"] == 2
    assert counts["clickprompt_batch_rows_sum"] == 5
    assert counts["clickprompt_queued_rows"] == 0
    body = client.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]
    row = body["content"]["application/json"]["schema"]["oneOf"][1]
    assert row["required"] == ["user", "price", "tags", "title"]
    assert row["properties"]["price"] == {"description": "Field of kind numeric."}


def test_drift_is_measured(engine, monkeypatch):
    columns = engine.encoder.columns(tiny_rows())
    monkeypatch.setattr(
        engine, "trained_values", count_training_values(engine.encoder.encode(columns), engine.encoder)
    )
    monkeypatch.setattr("clickprompt_hf.data.drift.LEAST_VALUES", 10)
    with TestClient(make_service(engine)) as client:
        client.post("/score", json=ROWS[:1])
        assert 'clickprompt_field_stability_index{field="title"}' not in metrics(client)
        client.post("/score", json=[{**row, "title": "never seen", "price": None} for row in ROWS[:9]])
        # refused rows do not count
        client.post("/score", json=[{**ROWS[0], "title": ["Up"]}])
        counts = metrics(client)
    assert counts['clickprompt_field_values_total{field="title"}'] == 10
    assert counts['clickprompt_field_unseen_total{field="title"}'] == 9
    assert counts['clickprompt_field_missing_total{field="price"}'] == 9
    assert counts['clickprompt_field_training_share{field="title",values="unseen"}'] == 0
    assert counts['clickprompt_field_stability_index{field="title"}'] > 1


def test_the_stability_index_forgets_old_rows(engine):
    columns = engine.encoder.columns(tiny_rows())
    ids = engine.encoder.encode(columns)
    values = ServedValues(engine.encoder, count_training_values(ids, engine.encoder), window_rows=100)
    unseen = {**columns, "title": ["never seen"] * len(ids)}
    for _ in range(40):
        values.add_rows(unseen, engine.encoder.encode(unseen))
    values.count_pending()
    title = next(drift for drift in values.recent.drifts() if drift.key == "title")
    assert title.unseen == 1
    for _ in range(40):
        values.add_rows(columns, ids)
    values.count_pending()
    title = next(drift for drift in values.recent.drifts() if drift.key == "title")
    assert (title.unseen, title.stability_index) == (0, 0)
    # since the start
    assert next(drift for drift in values.drifts() if drift.key == "title").unseen == 0.5


def test_the_health_of_a_service_that_has_ended(engine):
    client = TestClient(make_service(engine))
    assert client.get("/health").status_code == 503


def test_a_full_queue_is_refused(engine):
    release, started = asyncio.Event(), asyncio.Event()

    async def exchange():
        service = make_service(engine, Limits(max_rows=5, queue_rows=5))
        loop = asyncio.get_running_loop()

        def slow(*inputs):
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
            return np.zeros(len(inputs[0]))

        engine.scorer.score_ids, original = slow, engine.scorer.score_ids
        transport = httpx.ASGITransport(service)
        try:
            async with (
                service.router.lifespan_context(service),
                httpx.AsyncClient(transport=transport, base_url="http://served") as client,
            ):
                first = asyncio.create_task(client.post("/score", json=ROWS[:5]))
                await started.wait()
                second = asyncio.create_task(client.post("/score", json=ROWS[:3]))
                for _ in range(1_000):
                    if "clickprompt_queued_rows 3.0" in (await client.get("/metrics")).text:
                        break
                    await asyncio.sleep(0)
                third = await client.post("/score", json=ROWS[:3])
                release.set()
                return [await first, await second, third]
        finally:
            engine.scorer.score_ids = original

    first, second, third = asyncio.run(asyncio.wait_for(exchange(), 60))
    assert (first.status_code, second.status_code) == (200, 200)
    assert third.status_code == 503
    assert third.headers["Retry-After"] == "1"
    assert third.json() == {"detail": "The queue is full (5 rows). Try again later."}


def test_a_mistake_fails_no_other_request(engine):
    wrong = [ROWS[3], {"user": 1}]
    results = score_requests(engine, [ROWS[:3], wrong, ROWS[3:5]], UnknownValues(engine.encoder))
    np.testing.assert_allclose(results[0], engine.scorer.score(ROWS[:3]), atol=1e-6)
    np.testing.assert_allclose(results[2], engine.scorer.score(ROWS[3:5]), atol=1e-6)
    assert isinstance(results[1], RequestError)
    # counted within its own request
    assert "Row 1 must have the columns" in results[1].detail


class Recorder:
    """Scores a request by the sum of its numbers, and records the batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, requests):
        self.batches.append(requests)
        return [np.asarray(rows, dtype=float) for rows in requests]


def test_requests_share_batches_in_order_of_arrival():
    async def work():
        async with Batcher(recorder, batch_rows=4, queue_rows=100) as batcher:
            return await asyncio.gather(*(batcher.score([i, i]) for i in range(5)), batcher.score([7] * 9))

    recorder = Recorder()
    results = asyncio.run(work())
    assert [result.tolist() for result in results] == [*([i, i] for i in range(5)), [7] * 9]
    # full at four rows; a larger request is a batch of its own
    assert recorder.batches == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]], [[7] * 9]]


def test_a_batch_waits_until_it_is_full_or_its_time_is_over():
    async def work(wait):
        async with Batcher(recorder, batch_rows=2, queue_rows=100, wait=wait) as batcher:
            first = asyncio.create_task(batcher.score([1]))
            for _ in range(5):
                await asyncio.sleep(0)
            await asyncio.gather(first, batcher.score([2]))
            if wait < 1:
                # alone, until the time is over
                await batcher.score([3])

    recorder = Recorder()
    asyncio.run(work(wait=600))
    assert recorder.batches == [[[1], [2]]]
    recorder = Recorder()
    asyncio.run(work(wait=0.001))
    assert recorder.batches[-1] == [[3]]
    recorder = Recorder()
    asyncio.run(work(wait=0))
    assert recorder.batches == [[[1]], [[2]], [[3]]]


def test_leaving_scores_what_waits_and_skips_what_was_cancelled():
    async def work():
        async with Batcher(recorder, batch_rows=1, queue_rows=3, wait=600) as batcher:
            tasks = [asyncio.create_task(batcher.score([i])) for i in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(QueueIsFull):
                await batcher.score([3])
            tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    recorder = Recorder()
    first, second, third = asyncio.run(work())
    assert (first.tolist(), third.tolist()) == ([0], [2])
    assert isinstance(second, asyncio.CancelledError)
    assert recorder.batches == [[[0]], [[2]]]


def test_an_error_while_scoring_reaches_every_request_of_the_batch():
    def broken(requests):
        raise RuntimeError("broken")

    async def work():
        async with Batcher(broken, batch_rows=9, queue_rows=9) as batcher:
            return await asyncio.gather(batcher.score([1]), batcher.score([2]), return_exceptions=True)

    assert [str(error) for error in asyncio.run(work())] == ["broken", "broken"]


def test_the_configuration_of_an_exported_folder_is_read_once(folders, monkeypatch):
    read, read_text = [], Path.read_text

    def counted(path, *args, **kwargs):
        read.append(path.name)
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", counted)
    serve.load_engine(str(folders / "export"))
    assert read == ["processor_config.json"]


# As pip writes it for the entry point, on a machine without torch.
PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "pandas", "pyarrow"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from clickprompt_command import main

main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs the signals of Unix")
def test_a_process_without_torch_answers_what_it_accepted(folders, tmp_path):
    program = tmp_path / "clickprompt"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program, "serve", str(folders / "export"), "--port", "0", "--threads", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(serve.__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        started = process.stdout.readline()
        assert "CTR part, onnxruntime" in started, process.stderr.read()
        address = ("127.0.0.1", int(started.rpartition(":")[2]))
        connection = http.client.HTTPConnection(*address, timeout=60)
        connection.request("POST", "/score", json.dumps(ROWS))
        probabilities = [score["click_probability"] for score in json.load(connection.getresponse())]
        np.testing.assert_allclose(probabilities, Scorer(folders / "export").score(ROWS), rtol=0, atol=1e-6)

        # a request that was accepted, whose body comes after the signal
        body = json.dumps(ROWS[:1]).encode()
        head = f"POST /score HTTP/1.1\r\nHost: served\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        late = socket.create_connection(address, timeout=60)
        late.sendall(head.encode())
        assert late.recv(100).startswith(b"HTTP/1.1 100 Continue")
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while accepts(address):
            assert time.monotonic() < end, "still accepts connections"
        late.sendall(body)
        answer = http.client.HTTPResponse(late)
        answer.begin()
        assert json.load(answer) == [{"click_probability": pytest.approx(probabilities[0], abs=1e-6)}]
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "Stopped.\n", "")
    finally:
        process.kill()
        process.communicate()


def accepts(address) -> bool:
    try:
        socket.create_connection(address, timeout=60).close()
    except OSError:
        return False
    return True


def test_the_command_loads_exports_and_checkpoints(folders, monkeypatch, capsys):
    import uvicorn

    served = []

    def run(server, sockets):
        served.append(server.config)
        # otherwise each answer waits for the client's delayed acknowledgement
        assert sockets[0].proto == socket.IPPROTO_TCP

    def current_accelerator(check_available=False):
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(uvicorn.Server, "run", run)
    # as a build for CUDA says on a machine without a GPU
    monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = torch.get_num_threads()
    try:
        serve.main([str(folders / "export"), "--port", "0"])
        serve.main([str(folders / "checkpoint"), "--port", "0", "--threads", "1", "--stop_seconds", "5"])
    finally:
        torch.set_num_threads(threads)
    assert [config.timeout_graceful_shutdown for config in served] == [30, 5]
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    printed = capsys.readouterr().out.splitlines()
    assert "(CTR part, onnxruntime) on http://127.0.0.1:" in printed[0]
    assert "(with the PLM, PyTorch on cpu) on http://127.0.0.1:" in printed[2]
    with TestClient(served[1].app) as client:
        assert len(of(client.post("/score", json=ROWS))) == len(ROWS)


def test_damaged_weights_are_noticed_at_the_start(folders, tmp_path):
    onnx = pytest.importorskip("onnx")
    shutil.copytree(folders / "export", tmp_path / "export")
    model = onnx.load(tmp_path / "export" / "model.onnx")
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT:
            damaged = np.full_like(onnx.numpy_helper.to_array(weights), np.nan)
            weights.CopyFrom(onnx.numpy_helper.from_array(damaged, weights.name))
    onnx.save(model, tmp_path / "export" / "model.onnx")
    with pytest.raises(ValueError, match="must be numbers, got NaN: its weights are damaged"):
        serve.main([str(tmp_path / "export"), "--port", "0"])


def test_mistakes_on_the_command_line(folders, tmp_path):
    with pytest.raises(FileNotFoundError, match="`model` must be a local folder or a Hub id, but there is no folder"):
        serve.main([str(tmp_path / "nothing")])
    with pytest.raises(ValueError, match=r"`port` must be at most 65535, got 70000"):
        serve.main([str(folders / "export"), "--port", "70000"])
    with pytest.raises(ValueError, match=r"`queue_rows` must be at least `max_rows` \(1024\).* got 10"):
        serve.main([str(folders / "export"), "--queue_rows", "10"])
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match=r"must be free to listen on, got 127\.0\.0\.1:\d+: Address already"),
    ):
        serve.main([str(folders / "export"), "--port", str(taken.getsockname()[1])])
