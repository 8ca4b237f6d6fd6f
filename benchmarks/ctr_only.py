"""Training without the PLM: rows per second of every backbone through `Trainer`, compared with bare PyTorch loops.

    python benchmarks/ctr_only.py --dataset ml-1m --data_path ml-1m.zip
    python benchmarks/ctr_only.py --dataset ml-1m --data_path ml-1m.zip --backbones dcnv2 --batch_size 1024

Models have the published sizes. The bare loops slice shuffled batches from tensors in memory and, like the trainer,
use fused AdamW and clip gradients: one loop in the trainer's precision (bf16 if the processor multiplies it faster),
one in fp32. With --fuxictr_python, the Python of an environment that has FuxiCTR, its loop on DCNv2 (fp32) is measured
too. On a busy machine, --cpu_seconds with OMP_NUM_THREADS=1 counts CPU seconds instead of wall time; --fp32 trains in
fp32 throughout.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from transformers import TrainerCallback

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.presets import ctr_preset, preset_backbones
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.bf16 import bf16_pays


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=preset_backbones())
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fuxictr_python", help="Python of an environment with FuxiCTR, to compare DCNv2 with")
    parser.add_argument("--cpu_seconds", action="store_true", help="count CPU seconds instead of wall time")
    parser.add_argument("--fp32", action="store_true", help="do not use bf16")
    args = parser.parse_args(arguments)
    if args.quick:
        args.backbones, args.batch_size, args.steps, args.repeats = ["dcnv2"], 64, 2, 1
    rows = []
    for backbone in args.backbones:
        settings = (backbone, args.batch_size, args.steps, args.repeats, args.dataset, args.data_path)
        settings += (args.fuxictr_python if backbone == "dcnv2" else None, args.cpu_seconds, args.fp32)
        rows.append({"backbone": backbone, "batch": args.batch_size, **measure.in_fresh_process(rates, *settings)})
        print(rows[-1], flush=True)
    return measure.report("CTR-only training, rows per second", rows, args)


def rates(
    backbone: str,
    batch_size: int,
    steps: int,
    repeats: int,
    dataset: str,
    data_path: str | None,
    fuxictr_python: str | None,
    cpu_seconds: bool = False,
    fp32: bool = False,
) -> dict[str, Any]:
    """Measure rows per second of each way, `repeats` times in turn, so that other load on the machine affects all."""
    bf16 = bf16_pays() and not fp32
    clock = time.process_time if cpu_seconds else time.perf_counter
    figures: dict[str, list[float]] = {"Trainer": [], "bare loop": [], "bare loop, fp32": []}
    with TemporaryDirectory() as folder:
        splits, schema = load_splits(dataset, data_path=data_path)
        processor = ClickPromptProcessor.fit(splits["train"], schema)
        prepare_splits(splits, processor, Path(folder) / "data")
        data = load_prepared(Path(folder) / "data")[0]["train"]
        for _ in range(repeats):
            figures["Trainer"].append(
                through_trainer(fresh_model(backbone, processor), data, processor, batch_size, steps, bf16, clock)
            )
            figures["bare loop"].append(bare(fresh_model(backbone, processor), data, batch_size, steps, bf16, clock))
            figures["bare loop, fp32"].append(
                bare(fresh_model(backbone, processor), data, batch_size, steps, False, clock)
            )
            if fuxictr_python:
                figures.setdefault("FuxiCTR", []).append(
                    of_fuxictr(fuxictr_python, data, processor, batch_size, steps, Path(folder), cpu_seconds)
                )
        few = data.__getitems__(range(min(256, len(data))))[0]
        batch = {name: torch.from_numpy(few[name]) for name in ("feature_ids", "labels")}
        gflop = measure.gflop(lambda: fresh_model(backbone, processor)(**batch).loss.backward())
    limit = measure.against_limit(figures["Trainer"], gflop / len(few["labels"]), bf16, clock)
    return {**figures, "bf16": bf16, **limit}


def of_fuxictr(
    python: str,
    data: ColumnarDataset,
    processor: ClickPromptProcessor,
    batch_size: int,
    steps: int,
    folder: Path,
    cpu_seconds: bool,
) -> float:
    if max(processor.max_values) > 1:
        raise ValueError("--fuxictr_python needs data without multi-valued fields.")
    order = np.random.default_rng(0).permutation(len(data))[: batch_size * steps]
    arrays = {"feature_ids": data.feature_ids[order], "labels": data.labels[order]}
    np.savez(folder / "rows.npz", field_sizes=processor.field_sizes, **arrays)
    command = [python, str(Path(__file__).with_name("fuxictr_dcnv2.py")), str(folder / "rows.npz")]
    command += ["--batch_size", str(batch_size), "--steps", str(steps)]
    command += ["--cpu_seconds"] if cpu_seconds else []
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])["rows_per_second"]


def fresh_model(backbone: str, processor: ClickPromptProcessor) -> ClickPromptForCTR:
    torch.manual_seed(0)
    vocabularies = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_preset(backbone, **vocabularies), fusion="ctr"))


def through_trainer(
    model: Any,
    data: ColumnarDataset,
    processor: ClickPromptProcessor,
    batch_size: int,
    steps: int,
    bf16: bool,
    clock: Callable[[], float],
) -> float:
    with TemporaryDirectory() as folder:
        args = ClickPromptTrainingArguments(
            folder,
            per_device_train_batch_size=batch_size,
            max_steps=steps,
            bf16=bf16,
            eval_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = ClickPromptTrainer(
            model, args, train_dataset=data, data_collator=ClickPromptCollator(processor), processing_class=processor
        )
        times = Times(clock)
        trainer.add_callback(times)
        trainer.train()
        return steps * batch_size / (times.end - times.begin)


class Times(TrainerCallback):
    """When training begins and ends."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.begin = self.end = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin = self.clock()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.end = self.clock()


def bare(
    model: Any, data: ColumnarDataset, batch_size: int, steps: int, bf16: bool, clock: Callable[[], float]
) -> float:
    feature_ids, labels = torch.from_numpy(data.feature_ids.astype("int64")), torch.from_numpy(data.labels.copy())
    parameters = list(model.train().parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    order = torch.randperm(len(labels))

    def epoch() -> None:
        for step in range(steps):
            rows = order[torch.arange(step * batch_size, (step + 1) * batch_size) % len(order)]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(feature_ids[rows], labels=labels[rows]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    (seconds,) = measure.repeat(epoch, 0, 1, clock)
    return steps * batch_size / seconds


if __name__ == "__main__":
    main()
