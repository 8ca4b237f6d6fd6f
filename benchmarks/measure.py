"""What the benchmarks share: repeated timing, peak memory, the machine, tables and JSON."""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from clickprompt_hf.training.bf16 import matrix_rate


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with what every benchmark takes."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing"
    )
    arguments.add_argument("--output", type=Path, help="JSON file for the figures")
    return arguments


def data_parser(description: str | None) -> argparse.ArgumentParser:
    """`parser` for a benchmark on rows of a data set."""
    arguments = parser(description)
    arguments.add_argument("--dataset", default="synthetic")
    arguments.add_argument("--data_path")
    return arguments


def machine() -> dict[str, Any]:
    """Processor, cores, accelerator and versions."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bf16_gflops": round(matrix_rate(torch.bfloat16, device())),
        "fp32_gflops": round(matrix_rate(torch.float32, device())),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def repeat(step: Callable[[], Any], warmup: int, repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after `warmup` that are not counted."""
    seconds = []
    for call in range(warmup + repeats):
        start = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if call >= warmup:
            seconds.append(time.perf_counter() - start)
    return seconds


def gflop(step: Callable[[], Any]) -> float:
    """Arithmetic of one call of `step` in billions of operations: its matrix products, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def in_fresh_process(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What `function(*args)` returns, run in a process of its own, with `peak_memory_gb` of that process added if it
    is not there."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(function, args, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed for {args}; its own error stands above.") from None
    finally:
        process.join()
    return result


def _measured(function: Callable[..., dict[str, Any]], args: tuple, sender: Any) -> None:
    result = function(*args)
    sender.send({**result, "peak_memory_gb": result.get("peak_memory_gb", peak_memory_gb())})


def peak_memory_gb() -> float:
    """The most memory that this process has held so far; that of the accelerator where there is one."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    # kilobytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def own_memory_gb() -> float:
    """Memory of this process that is not pages of files."""
    if not Path("/proc/self/status").exists():
        return float("nan")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1e6


def median_and_range(values: list[float]) -> str:
    """As tables show it; whole numbers where they are large."""
    digits = 0 if np.median(values) >= 100 else 1 if np.median(values) >= 10 else 2
    low, middle, high = (f"{number:,.{digits}f}" for number in (min(values), np.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def against_limit(rates: list[float], gflop_a_row: float, bf16: bool) -> dict[str, Any]:
    """What rows a second would be if all arithmetic ran at this machine's matrix rate, and how near `rates` come."""
    limit = matrix_rate(torch.bfloat16 if bf16 else torch.float32, device()) / gflop_a_row
    return {
        "MFLOP a row": round(1e3 * gflop_a_row, 2),
        "limit, rows/s": round(limit),
        "share of it": f"{np.median(rates) / limit:.0%}",
    }


def device() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def report(title: str, rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Prints the rows as a Markdown table, and writes them as JSON with the machine and the settings."""
    settings = {name: str(value) for name, value in vars(args).items()}
    result = {"title": title, "machine": machine(), "settings": settings, "rows": rows}
    print(f"{title}\n\n{json.dumps(result['machine'])}\n")
    names = list(dict.fromkeys(name for row in rows for name in row))
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        cells = [row.get(name, "") for name in names]
        print("| " + " | ".join(median_and_range(c) if isinstance(c, list) else str(c) for c in cells) + " |")
    if args.output:
        args.output.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result
