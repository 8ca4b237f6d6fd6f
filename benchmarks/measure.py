"""Shared parts of the benchmarks: repeated timing, peak memory, the machine, tables and JSON."""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from clickprompt_hf.training.bf16 import cpu_has_bf16


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a command-line parser with the arguments of every benchmark."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="use tiny sizes, only to check that it runs")
    arguments.add_argument("--output", type=Path, help="JSON file to write the figures to")
    return arguments


def data_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a command-line parser for a benchmark on the rows of a dataset."""
    arguments = parser(description)
    arguments.add_argument("--dataset", default="synthetic")
    arguments.add_argument("--data_path")
    return arguments


def machine() -> dict[str, Any]:
    """Describe the machine: processor, cores, accelerator, matrix rates and versions."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "bf16_gflops": round(matrix_rate(torch.bfloat16)) if has_bf16() else None,
        "fp32_gflops": round(matrix_rate(torch.float32)),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def has_bf16() -> bool:
    """Whether the accelerator, or the CPU if there is none, has fast bf16 products."""
    return torch.cuda.is_bf16_supported() if torch.cuda.is_available() else cpu_has_bf16()


def matrix_rate(dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measure the GFLOP/s of products of two square matrices on `device()`: the median of ten after three.

    Check `has_bf16` before measuring bf16: without it, each product can take seconds on a CPU.

    Args:
        dtype: Type of the matrices.
        clock: As in `repeat`.
    """
    size = 8192 if torch.cuda.is_available() else 1024
    left, right = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
    return 2 * size**3 / float(np.median(repeat(lambda: left @ right, 3, 10, clock))) / 1e9


def repeat(
    step: Callable[[], Any], warmup: int, repeats: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Time each of `repeats` calls in seconds, after `warmup` calls that are not counted.

    Args:
        step: What to time.
        warmup: Number of calls that are not counted.
        repeats: Number of calls that are.
        clock: Tells the seconds; `time.process_time` counts those of this process's threads on a CPU.
    """
    seconds = []
    for call in range(warmup + repeats):
        start = clock()
        step()
        synchronize()
        if call >= warmup:
            seconds.append(clock() - start)
    return seconds


def synchronize() -> None:
    """Wait until the accelerator, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def round_clock() -> float:
    """Seconds on the clock that `Rounds` are timed by: CPU seconds, or wall-clock seconds with an accelerator."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def gflop(step: Callable[[], Any]) -> float:
    """Count the billions of operations of one call of `step`, as torch counts them: its matrix products."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


def in_fresh_process(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Run `function(*args)` in a new process, and add that process's `peak_memory_gb` to the result if it lacks it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(function, args, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} failed for {args}; see its error above.") from None
    finally:
        process.join()
    return result


class Rounds:
    """Something that is prepared once and then runs a round whenever it is asked to.

    Args:
        prepare: Function of `args` that returns the function of a round, and facts about it for the table.
    """

    def __init__(self, prepare: Callable[..., tuple[Callable[[], Any], dict[str, Any]]], *args: Any):
        self.run, self.facts = prepare(*args)
        self.peak_memory_gb = 0.0

    def round(self) -> float:
        """Run one round, and return its seconds by `round_clock`."""
        start = round_clock()
        self.run()
        synchronize()
        seconds = round_clock() - start
        self.peak_memory_gb = peak_memory_gb()
        return seconds

    def close(self) -> None:
        """Stop what waits for rounds."""


class RoundsInProcess(Rounds):
    """A process that prepares something once and then runs it whenever it is asked to.

    Several of them can be measured in turn, so that other load on the machine affects all; peak memory is measured
    separately for each.

    Args:
        prepare: As in `Rounds`.
    """

    def __init__(self, prepare: Callable[..., tuple[Callable[[], Any], dict[str, Any]]], *args: Any):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve_rounds, args=(prepare, args, other))
        self.process.start()
        other.close()
        self.peak_memory_gb = 0.0

    @cached_property
    def facts(self) -> dict[str, Any]:  # type: ignore[override]
        """What `prepare` returned; waits until it is done, so several processes can prepare at the same time."""
        return self._answer()

    def round(self) -> float:
        """Run one round, and return its seconds by `round_clock`. `facts` must have been read."""
        self.connection.send(True)
        seconds, self.peak_memory_gb = self._answer()
        return seconds

    def close(self) -> None:
        self.connection.send(False)
        self.process.join()

    def _answer(self) -> Any:
        try:
            return self.connection.recv()
        except EOFError:
            raise RuntimeError("A measured process failed; see its error above.") from None


def _serve_rounds(prepare: Callable[..., Any], args: tuple, connection: Any) -> None:
    rounds = Rounds(prepare, *args)
    connection.send(rounds.facts)
    while connection.recv():
        connection.send((rounds.round(), rounds.peak_memory_gb))


def _measured(function: Callable[..., dict[str, Any]], args: tuple, sender: Any) -> None:
    result = function(*args)
    sender.send({**result, "peak_memory_gb": result.get("peak_memory_gb", peak_memory_gb())})


def peak_memory_gb() -> float:
    """Peak memory of this process so far; that of the accelerator if there is one."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    # kilobytes on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def own_memory_gb() -> float:
    """Memory of this process without pages of files."""
    if not Path("/proc/self/status").exists():
        return float("nan")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1e6


def median_and_range(values: list[float]) -> str:
    """Format a median and a range for a table; large numbers without decimals."""
    digits = 0 if np.median(values) >= 100 else 1 if np.median(values) >= 10 else 2
    low, middle, high = (f"{number:,.{digits}f}" for number in (min(values), np.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def against_limit(
    rates: list[float], gflop_per_row: float, bf16: bool, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Compare rates with the rows per second if all arithmetic ran at this machine's matrix rate.

    Args:
        rates: Rows per second.
        gflop_per_row: Arithmetic of a row.
        bf16: Whether the products are in bf16.
        clock: The clock of the rates, as in `repeat`.
    """
    limit = matrix_rate(torch.bfloat16 if bf16 else torch.float32, clock) / gflop_per_row
    return {
        "MFLOP per row": round(1e3 * gflop_per_row, 2),
        "limit, rows/s": round(limit),
        "share of limit": f"{np.median(rates) / limit:.0%}",
    }


def device() -> torch.device:
    """The accelerator if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def report(title: str, rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Print the rows as a Markdown table, and write them as JSON with the machine and the settings."""
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
