"""Raw files to splits, ids and token tables: seconds, peak memory, and batches a second.

    python benchmarks/data.py --dataset ml-1m --data_path ml-1m.zip

Prints a table and, with --output, writes it as JSON. Runs in one fresh process: peak memory is the process's.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.loading import load_splits
from clickprompt_hf.training import ModelArguments
from clickprompt_hf.training.preparation import add_tokenizer

BATCH_SIZE = 1024


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data_path")
    parser.add_argument("--plm_name_or_path", default="scratch-small")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(arguments)

    runs = [measure(args.dataset, args.data_path, args.plm_name_or_path) for _ in range(args.repeats)]
    stages = {name: [run[name] for run in runs] for name in runs[0]}
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": vars(args) | {"output": str(args.output)},
        "median": {name: float(np.median(values)) for name, values in stages.items()},
        "range": {name: [min(values), max(values)] for name, values in stages.items()},
        # kilobytes on Linux
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    print(f"{args.dataset}, {args.repeats} runs, median (range)")
    for name, median in result["median"].items():
        low, high = result["range"][name]
        print(f"  {name:32} {median:12,.2f} ({low:,.2f} to {high:,.2f})")
    print(f"  {'peak memory, GB':32} {result['peak_memory_gb']:12.2f}")
    if args.output:
        args.output.write_text(json.dumps(result, indent=2))
    return result


def measure(dataset: str, data_path: str | None, plm_name_or_path: str) -> dict[str, float]:
    """Seconds of each stage, and the rows a second of assembling batches in random order."""
    seconds: dict[str, float] = {}
    start = whole = time.perf_counter()

    def stage(name: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[f"{name}, s"], start = now - start, now

    with tempfile.TemporaryDirectory() as folder:
        splits, schema = load_splits(dataset, data_path=data_path)
        stage("raw files to splits")
        processor = ClickPromptProcessor.fit(splits["train"], schema)
        stage("vocabularies")
        add_tokenizer(processor, splits["train"], ModelArguments(plm_name_or_path))
        stage("tokenizer")
        prepare_splits(splits, processor, Path(folder) / "prepared")
        data, _ = load_prepared(Path(folder) / "prepared")
        stage("ids and token tables")
        seconds["raw files to ready, s"] = time.perf_counter() - whole

        order = np.random.default_rng(0).permutation(len(data["train"]))[: 64 * BATCH_SIZE]
        start = time.perf_counter()
        for first in range(0, len(order), BATCH_SIZE):
            data["train"].__getitems__(order[first : first + BATCH_SIZE])
        seconds["batches with text, rows/s"] = len(order) / (time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
