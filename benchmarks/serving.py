"""The HTTP service under load: requests per second and latency, next to onnxruntime alone on the same rows.

    python benchmarks/serving.py --dataset ml-1m --data_path ml-1m.zip
    python benchmarks/serving.py --dataset ml-1m --data_path ml-1m.zip --plm "6 x 384 (MiniLM)"

Models have the published sizes and fresh weights. `wrk` sends single rows over the loopback interface, with one
connection per client, which sends its next request once it has the answer to the last one. It takes a share of the
same processor. CPU time is that of the service alone. `onnxruntime` scores the encoded ids of the same rows, and
`Scorer` the raw rows, one by one in one process without HTTP.

`wrk` is a package of Debian and Ubuntu; --quick sends a few requests from Python instead.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ctr_only
import measure
import numpy as np
from plm_steps import TINY, model_of, processor_of

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer

# What pip writes for the command: under another name the package loads torch.
PROGRAM = "from clickprompt_hf.cli import main\n\nmain()\n"
# For wrk: the bodies of the requests in turn.
SCRIPT = """
local bodies, sent = {}, 0
function init(arguments)
  for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
end
function request()
  sent = sent % #bodies + 1
  return wrk.format("POST", "/score", {["Content-Type"] = "application/json"}, bodies[sent])
end
"""
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
NUM_BODIES = 2_000


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=["fm", "dcnv2"])
    parser.add_argument("--plm", help="serve a checkpoint with this PLM and DCNv2 instead of exported folders")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(arguments)
    if args.quick:
        args.backbones, args.clients, args.seconds = ["fm"], [1], 0
        args.plm = args.plm and TINY
    rows = []
    for model in [args.plm] if args.plm else args.backbones:
        settings = (model, bool(args.plm), args.clients, args.seconds, args.threads, args.dataset, args.data_path)
        rows += measure.in_fresh_process(serving, *settings)["rows"]
    return measure.report("Serving single rows over HTTP", rows, args)


def serving(
    name: str, with_plm: bool, clients: list[int], seconds: int, threads: int, dataset: str, data_path: str | None
) -> dict[str, Any]:
    """Save a fresh model, serve it and load it, first alone and then by more and more clients."""
    splits, schema = load_splits(dataset, data_path=data_path)
    raw = splits["test"].slice(0, NUM_BODIES).select(schema.columns).to_pylist()
    rows = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if with_plm:
            processor = processor_of(splits, schema)
            model = model_of("finetune", name, 5, "released", processor)
        else:
            processor = ClickPromptProcessor.fit(splits["train"], schema)
            model = ctr_only.fresh_model(name, processor)
        model.save_pretrained(folder / "served")
        processor.save_pretrained(folder / "served")
        if not with_plm:
            export_ctr(folder / "served", folder / "exported")
            rows += alone(name, Scorer(folder / "exported", threads), raw, seconds)
        (folder / "bodies").write_text("\n".join(map(json.dumps, raw)), encoding="utf-8")
        (folder / "script.lua").write_text(SCRIPT, encoding="utf-8")
        with served(folder / ("served" if with_plm else "exported"), threads, folder) as address:
            for number in clients:
                before = counters(address)
                figures = wrk(address, number, seconds, folder) if seconds else few_requests(address, raw[:20])
                used = counters(address) - before
                figures["CPU per request, µs"] = round(used[0] / used[1] * 1e6)
                figures["rows per batch"] = round(float(used[1] / used[2]), 1)
                rows.append({"model": name, "way": f"HTTP, {number} clients", **figures})
                print(rows[-1], flush=True)
    return {"rows": rows}


def alone(name: str, scorer: Scorer, raw: list[dict[str, Any]], seconds: int) -> list[dict[str, Any]]:
    """Score rows one by one in this process."""
    encoded = [scorer.encoder.encode(scorer.encoder.columns([row])) for row in raw]
    calls: dict[str, Any] = {
        "onnxruntime alone": lambda i: scorer.session.run(None, {"feature_ids": encoded[i]}),
        "`Scorer`": lambda i: scorer.score(raw[i]),
    }
    rows = []
    for way, call in calls.items():
        for i in range(20):
            call(i)
        times: list[float] = []
        start, used = time.perf_counter(), time.process_time()
        while not times or time.perf_counter() - start < seconds:
            began = time.perf_counter()
            call(len(times) % len(raw))
            times.append(time.perf_counter() - began)
        used = time.process_time() - used
        figures = of_times(times, time.perf_counter() - start)
        rows.append({"model": name, "way": way, **figures, "CPU per request, µs": round(used / len(times) * 1e6)})
        print(rows[-1], flush=True)
    return rows


def of_times(times: list[float], elapsed: float) -> dict[str, Any]:
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {
        "requests/s": round(len(times) / elapsed),
        "p50, ms": round(float(p50), 3),
        "p99, ms": round(float(p99), 3),
    }


@contextmanager
def served(model: Path, threads: int, folder: Path) -> Iterator[tuple[str, int]]:
    """Serve a model in a process of its own; yields host and port."""
    program = folder / "clickprompt"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(program), "serve", str(model), "--port", "0", "--threads", str(threads)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        started = process.stdout.readline()
        if not started:
            raise RuntimeError("The service did not start; see its error above.")
        yield "127.0.0.1", int(started.rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def counters(address: tuple[str, int]) -> np.ndarray:
    """CPU seconds of the service so far, its requests and its batches."""
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    names = ("process_cpu_seconds_total", "clickprompt_request_seconds_count", "clickprompt_batch_rows_count")
    return np.asarray([float(re.search(rf"^{name} (.+)$", text, re.MULTILINE)[1]) for name in names])


def wrk(address: tuple[str, int], clients: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Send requests from several connections for some seconds."""
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--latency"]
    command += ["--timeout", "60s"]
    command += ["--script", str(folder / "script.lua"), "http://{}:{}".format(*address), "--", str(folder / "bodies")]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(f"Requests failed:\n{report}")
    found = re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)\s", report)
    times = {share: round(float(number) * MILLISECONDS[unit], 3) for share, number, unit in found}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    return {"requests/s": round(float(rate[1])), "p50, ms": times["50"], "p99, ms": times["99"]}


def few_requests(address: tuple[str, int], raw: list[dict[str, Any]]) -> dict[str, Any]:
    """Send rows one by one from Python."""
    connection = http.client.HTTPConnection(*address)
    times, start = [], time.perf_counter()
    for row in raw:
        began = time.perf_counter()
        connection.request("POST", "/score", json.dumps(row))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        response.read()
        times.append(time.perf_counter() - began)
    connection.close()
    return of_times(times, time.perf_counter() - start)


if __name__ == "__main__":
    main()
