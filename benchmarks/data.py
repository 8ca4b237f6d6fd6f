"""The data path: from raw files to splits, ids and token tables, and on to batches of text.

    python benchmarks/data.py --dataset ml-1m --data_path ml-1m.zip

Peak memory is that of one process that prepares the data once, imports included. The plain way to make a batch is to
tokenize the rendered text of its rows.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.runs.arguments import ModelArguments
from clickprompt_hf.runs.plms import add_tokenizer


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--plm_name_or_path", default="scratch-small")
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(arguments)
    if args.quick:
        args.repeats, args.batch_size = 1, 64
    settings = (args.dataset, args.data_path, args.plm_name_or_path, args.batch_size)
    runs = [measure.in_fresh_process(stages, *settings) for _ in range(args.repeats)]
    rows = [{"stage": name, "median (range)": [run[name] for run in runs]} for name in runs[0]]
    return measure.report(f"data, {args.dataset}", rows, args)


def stages(dataset: str, data_path: str | None, plm_name_or_path: str, batch_size: int) -> dict[str, float]:
    """Measure the seconds of each stage, and the rows per second of assembling batches in random order on one core."""
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

        order = np.random.default_rng(0).permutation(len(data["train"]))[: 64 * batch_size]
        start = time.perf_counter()
        for first in range(0, len(order), batch_size):
            data["train"].__getitems__(order[first : first + batch_size])
        seconds["batches with text, rows/s"] = len(order) / (time.perf_counter() - start)

        few = order[: 2 * batch_size]
        start = time.perf_counter()
        for first in range(0, len(few), batch_size):
            processor(splits["train"].take(few[first : first + batch_size]), return_tensors="pt")
        seconds["batches, the plain way, rows/s"] = len(few) / (time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
