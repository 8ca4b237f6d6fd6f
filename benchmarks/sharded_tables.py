"""Training steps with id tables sharded across two processes, compared with whole tables in one process.

    OMP_NUM_THREADS=1 python benchmarks/sharded_tables.py

Generated rows: five fields with equally many ids, half of the values drawn from the first 1,000 ids of their field;
embeddings of 16 numbers, DCNv2 with two hidden layers of 64. `ClickPromptTrainer` trains, processes use gloo and one
thread each. Memory is the peak of each process without file pages. `--save` also writes a checkpoint with the moments;
new processes then load its model and resume the run.
"""

import contextlib
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from transformers import TrainerCallback

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, CTRConfig
from clickprompt_hf.data.columnar import ColumnarDataset
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.sharded_tables import shard_id_tables, sharded_from_pretrained

NUM_FIELDS, EMBEDDING_SIZE, FREQUENT = 5, 16, 1000
WARMUP = 5
# until the model is built, and until the end
MEMORY = ("memory of building, GB", "memory, GB")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.parser(__doc__)
    parser.add_argument("--whole", nargs="*", type=int, default=[10**7], help="ids that one process holds")
    parser.add_argument("--divided", nargs="*", type=int, default=[10**7, 10**8], help="ids that two processes hold")
    parser.add_argument("--rows", type=int, default=4096, help="rows per step, over all processes")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--save", action="store_true", help="also save a checkpoint and resume it")
    parser.add_argument("--folder", type=Path, help="folder of the checkpoints; by default a temporary one")
    args = parser.parse_args(arguments)
    if args.quick:
        args.whole, args.divided, args.rows, args.steps, args.save = [100], [100], 8, WARMUP + 2, True
    table = []
    for processes, sizes in ((1, args.whole), (2, args.divided)):
        for num_ids in sizes:
            with TemporaryDirectory(dir=args.folder) as folder:
                step = (num_ids, processes, args.rows, args.steps, args.save, folder)
                figures = in_processes(*step, resume=False)
                row: dict[str, Any] = {"ids": f"{num_ids:,}", "processes": processes, **merged(figures)}
                if args.save:
                    resumed = merged(in_processes(*step, resume=True))
                    row |= {"load, s": resumed["build, s"], "resume, s": resumed["start, s"]}
                    row |= {f"{name} of the second run": resumed[name] for name in MEMORY}
            table.append(row)
            print(table[-1], flush=True)
    return measure.report("sharded_tables", table, args)


def merged(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the first process, with the memory of all."""
    return {**figures[0], **{name: " + ".join(f"{figure[name]:.2f}" for figure in figures) for name in MEMORY}}


def in_processes(num_ids: int, processes: int, *args: Any, resume: bool) -> list[dict[str, Any]]:
    """What `train` returns in each process."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        receiver, sender = context.Pipe(duplex=False)
        place = (rank, port)
        process = context.Process(target=_train_and_send, args=(sender, place, num_ids, processes, *args, resume))
        process.start()
        sender.close()
        started.append((process, receiver))
    results = []
    for process, receiver in started:
        with contextlib.suppress(EOFError):
            results.append(receiver.recv())
        process.join()
    if len(results) < processes:
        raise RuntimeError(f"A process with its part of {num_ids:,} ids failed; see its error above.")
    return results


def _train_and_send(sender: Any, *args: Any) -> None:
    sender.send(train(*args))


class StepTimes(TrainerCallback):
    """When steps begin and end, and when a checkpoint is saved."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.ends: list[float] = []
        self.saved = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.begins.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())

    def on_save(self, args, state, control, **kwargs):
        self.saved = time.perf_counter()


def train(
    place: tuple[int, int],
    num_ids: int,
    processes: int,
    num_rows: int,
    num_steps: int,
    saves: bool,
    folder: str,
    resume: bool,
) -> dict[str, Any]:
    """Train in this process, one of several; its rate, seconds and peak memory."""
    torch.set_num_threads(1)
    if processes > 1:
        rank, port = place
        environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in environment.items()})
    start = time.perf_counter()
    with peak_memory() as peak:
        args = ClickPromptTrainingArguments(
            folder,
            per_device_train_batch_size=num_rows // processes,
            max_steps=num_steps + (WARMUP if resume else 0),
            eval_strategy="no",
            save_strategy="steps" if saves and not resume else "no",
            save_steps=num_steps,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **{"shard_id_tables" if processes > 1 else "sparse_embedding_updates": True},
        )
        times = StepTimes()
        rows = generated_rows(num_ids, num_rows * (num_steps + WARMUP))
        if resume:
            model = load_model(Path(folder) / f"checkpoint-{num_steps}", processes)
        else:
            model = build_model(num_ids, processes)
        # the trainer moves the weights to its device, which copies them
        of_building = max(peak["gb"], measure.own_memory_gb())
        trainer = ClickPromptTrainer(model, args, train_dataset=rows, data_collator=tensors, callbacks=[times])
        built = time.perf_counter()
        trainer.train(resume_from_checkpoint=resume or None)
    seconds = np.subtract(times.ends, times.begins)[0 if resume else WARMUP :]
    return {
        # the whole batch of all processes
        "rows/s": [num_rows / second for second in seconds],
        "build, s": round(built - start, 1),
        # `train` begins with resuming
        "start, s": round(times.begins[0] - built, 1),
        **({"save, s": round(times.saved - times.ends[-1], 1)} if saves and not resume else {}),
        **dict(zip(MEMORY, (of_building, peak["gb"]))),
    }


def build_model(num_ids: int, processes: int) -> ClickPromptForCTR:
    """A fresh model; with several processes, no one holds a whole table at any time."""
    sizes = [num_ids // NUM_FIELDS] * NUM_FIELDS
    ctr = CTRConfig(
        backbone="dcnv2",
        field_sizes=sizes if processes == 1 else [1] * NUM_FIELDS,
        embedding_size=EMBEDDING_SIZE,
        dnn_hidden_sizes=[64, 64],
        num_cross_layers=2,
    )
    torch.manual_seed(0)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))
    if processes > 1:
        shard_id_tables(model, sizes, seed=0)
    return model


def load_model(checkpoint: Path, processes: int) -> ClickPromptForCTR:
    """The model of a checkpoint, of which each process reads its rows."""
    if processes == 1:
        return ClickPromptForCTR.from_pretrained(checkpoint)
    return sharded_from_pretrained(ClickPromptForCTR, checkpoint)


def generated_rows(num_ids: int, num_rows: int) -> ColumnarDataset:
    """Rows whose clicks depend on their ids."""
    draw = np.random.default_rng(0)
    shape = (num_rows, NUM_FIELDS)
    frequent = draw.integers(min(FREQUENT, num_ids // NUM_FIELDS), size=shape)
    ids = np.where(draw.random(shape) < 0.5, frequent, draw.integers(num_ids // NUM_FIELDS, size=shape))
    return ColumnarDataset(ids.astype(np.int32), (ids.sum(axis=1) % 2).astype(np.int8), np.arange(num_rows))


def tensors(batch: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """A batch of rows with ids alone."""
    (arrays,) = batch
    return {name: torch.as_tensor(arrays[name]) for name in ("feature_ids", "labels")}


@contextlib.contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Watch the memory of this process; its peak is in `gb` at the end."""
    peak, is_over = {"gb": 0.0}, threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            peak["gb"] = max(peak["gb"], measure.own_memory_gb())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        is_over.set()
        watcher.join()


if __name__ == "__main__":
    main()
