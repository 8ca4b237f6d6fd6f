# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Serve click probabilities over HTTP.

    clickprompt serve MODEL

MODEL is a folder that clickprompt export wrote, served without torch, or a checkpoint, served with it. POST /score
takes a JSON list of rows and answers with their click probabilities; GET /health and GET /metrics (Prometheus) are for
operation. Rows of concurrent requests share batches. SIGTERM and Ctrl-C stop it once accepted requests are answered.
Needs pip install "clickprompt_hf[serve]".
"""

import importlib
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..data.number_ranges import NumberRange, check_numbers
from ..unknown_values_clickprompt import UnknownValues
from .backbone_modules import add_backbone_module, import_backbone_module
from .command import CommandParser, require, run_command
from .joined_files import JOIN_HELP, add_join_option, refresh_tables

if TYPE_CHECKING:
    from ..serving.engine import Engine

# Connections that may wait to be accepted, as in uvicorn.
_BACKLOG = 2048
_ROWS = NumberRange(1, 100_000_000, whole=True)
RANGES = {
    "port": NumberRange(0, 65_535, whole=True),
    "threads": NumberRange(0, 1024, whole=True),
    "max_rows": _ROWS,
    "max_bytes": NumberRange(1, 2**40, whole=True),
    "batch_size": NumberRange(1, 100_000_000, whole=True, also=(None,)),
    "queue_rows": _ROWS,
    "max_wait_ms": NumberRange(0, 60_000),
    "stop_seconds": NumberRange(0, 86_400, whole=True),
}


def make_parser() -> CommandParser:
    """The parser of `clickprompt serve`."""
    parser = CommandParser("serve", __doc__, "MODEL [options]")
    parser.add_argument("model", metavar="MODEL", help="exported folder, or a checkpoint's folder or Hub id")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 accepts other machines, without encryption or authentication (default: "
        "%(default)s)",
    )
    parser.add_argument("--port", type=int, default=8000, help="port; 0: any free one (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads per batch; 0: one per core (default: 0)")
    parser.add_argument("--max_rows", type=int, default=1024, help="maximum rows per request (default: 1,024)")
    parser.add_argument("--max_bytes", type=int, default=4 * 2**20, help="maximum bytes per request (default: 4 MiB)")
    parser.add_argument("--batch_size", type=int, help="maximum rows per batch; default: 256, or 4,096 without a PLM")
    parser.add_argument(
        "--queue_rows",
        type=int,
        default=16_384,
        help="maximum queued rows; further requests get status 503 (default: 16,384)",
    )
    parser.add_argument(
        "--max_wait_ms",
        type=float,
        default=0.0,
        help="milliseconds that a batch waits to fill up; 0: a batch holds the rows that arrived while the "
        "previous one was scored (default: 0)",
    )
    parser.add_argument(
        "--stop_seconds",
        type=int,
        default=30,
        help="after SIGTERM, seconds to answer accepted requests (default: %(default)s)",
    )
    add_join_option(parser, JOIN_HELP)
    add_backbone_module(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer accepted requests.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the model is wrong.
        OSError: If the model is missing or the address cannot be used.
        ImportError: If the extra serve is missing.
    """
    args = make_parser().parse_args(arguments)
    check_numbers(args, RANGES)
    require(["fastapi", "uvicorn", "prometheus_client", "onnxruntime"], "serve", "The service")
    # need the extra
    import uvicorn

    from ..serving.service import Limits, make_service

    limits = Limits(args.max_rows, args.max_bytes, args.queue_rows, args.batch_size, args.max_wait_ms)
    engine = load_engine(args.model, args.threads, args.backbone_module)
    refresh_tables(args.join, engine.encoder)
    # notices damaged weights now, and builds the lookups of values and joined tables before the first request
    encoder = engine.encoder
    columns = encoder.needed_columns(encoder.columns_to_join({}))
    engine.score(engine.read([dict.fromkeys(columns)], UnknownValues(encoder)))
    config = uvicorn.Config(
        make_service(engine, limits),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=args.stop_seconds,
    )
    with _listening(args.host, args.port) as listener, _quiet_end(), warnings.catch_warnings():
        # thousands of requests would repeat them
        warnings.simplefilter("ignore")
        host, port = listener.getsockname()[:2]
        print(f"Serving {args.model} ({engine.name}) on http://{host}:{port}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
    print("Stopped.", flush=True)


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Ignore signals that ask the process to end: uvicorn raises them again once everything is answered."""
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def load_engine(model: str, threads: int = 0, backbone_module: str | None = None) -> "Engine":
    """Load an exported folder, without torch unless its texts need it, or a checkpoint.

    Args:
        model: Exported folder, or folder or Hub id of a checkpoint.
        threads: Threads per batch; 0 for one per core.
        backbone_module: Python file or module that registers the checkpoint's custom backbone.

    Raises:
        ValueError: If the model's files do not belong together, or it was not finetuned for clicks.
        OSError: If the model is missing.
        ImportError: If the texts of an exported folder need torch and transformers, and they are missing.
    """
    from ..export.exported_folder import is_export

    if is_export(model):
        from ..export.export_engines import load_export

        return load_export(model, threads)
    # registers the Auto classes
    importlib.import_module("clickprompt_hf.public_names")
    import torch
    from transformers import AutoProcessor

    from ..scoring.device import scoring_device
    from ..serving.checkpoint_engine import CheckpointEngine
    from .paths import check_folder_or_hub_id
    from .predict import load_model

    check_folder_or_hub_id(model, "model")
    if backbone_module:
        import_backbone_module(backbone_module)
    if threads:
        torch.set_num_threads(threads)
    return CheckpointEngine(load_model(model, "model").to(scoring_device()), AutoProcessor.from_pretrained(model))


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: If the address cannot be used; the message names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once only on sockets that name their protocol
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"`host` and `port` must be free to listen on, got {host}:{port}: {error.strerror}"
        ) from error
    return listener


if __name__ == "__main__":
    run_command("serve", main, sys.argv[1:])
