"""How step time and memory grow with the vocabulary, the rows, the prompts and the text.

    python benchmarks/growth.py

`ids`: a CTR-only step of 4096 rows with DCNv2 at ML-1M's size, with dense and lazy embedding updates. `rows`: the data
path over generated rows in a memory-mapped matrix; only a sample of the batches is read. `prompts` and `tokens`: a
finetuning step.
"""

import time
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from plm_steps import PLMS, TINY

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.data.columnar import ColumnarDataset
from clickprompt_hf.presets import ctr_preset
from clickprompt_hf.training.bf16 import bf16_pays
from clickprompt_hf.training.optimizer import OptimizerWithSparseGroup, clip_grad_norm, make_embeddings_sparse
from clickprompt_hf.training.sampling import EpochSampler

NUM_FIELDS = 8


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.parser(__doc__)
    parser.add_argument("--ids", nargs="*", type=int, default=[10**4, 10**5, 10**6, 5 * 10**6, 10**7])
    parser.add_argument("--rows", nargs="*", type=int, default=[10**5, 10**6, 10**7, 10**8])
    parser.add_argument("--prompts", nargs="*", type=int, default=[1, 5, 10, 20])
    parser.add_argument("--tokens", nargs="*", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--plm", choices=PLMS, default="4 x 256")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args(arguments)
    if args.quick:
        args.ids, args.rows, args.prompts, args.tokens, args.plm, args.repeats = [100], [1000], [2], [8], TINY, 1
    measured = [
        *(
            ("ids", n, {"updates": "lazy" if lazy else "dense"}, (ids, n, lazy, args.repeats))
            for n in args.ids
            for lazy in (False, True)
        ),
        *(("rows", n, {}, (rows, n, args.repeats)) for n in args.rows),
        *(("prompts", n, {}, (text, args.plm, n, 64, args.repeats)) for n in args.prompts),
        *(("tokens", n, {}, (text, args.plm, 5, n, args.repeats)) for n in args.tokens),
    ]
    table = []
    for what, number, more, call in measured:
        table.append({"what": what, "number": f"{number:,}", **more, **measure.in_fresh_process(*call)})
        print(table[-1], flush=True)
    return measure.report("growth", table, args)


def ids(num_ids: int, lazy: bool, repeats: int) -> dict[str, Any]:
    """Time a CTR-only training step with `num_ids` ids over all fields, in milliseconds."""
    torch.manual_seed(0)
    field_sizes = [num_ids // NUM_FIELDS] * NUM_FIELDS
    config = ctr_preset("dcnv2", field_sizes=field_sizes)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=config, fusion="ctr")).train()
    table = model.clickprompt.ctr.embedding.table.weight
    others = [parameter for parameter in model.parameters() if parameter is not table]
    if lazy:
        make_embeddings_sparse(model)
        dense = torch.optim.AdamW(others, lr=1e-3, weight_decay=0.0, fused=True)
        optimizer: Any = OptimizerWithSparseGroup(dense, {"params": [table], "lr": 1e-3}, (0.9, 0.999), 1e-8)
    else:
        optimizer = torch.optim.AdamW([*others, table], lr=1e-3, weight_decay=0.0, fused=True)
    clip = clip_grad_norm if lazy else torch.nn.utils.clip_grad_norm_
    bf16 = bf16_pays()

    def step() -> None:
        feature_ids = torch.randint(num_ids // NUM_FIELDS, (4096, NUM_FIELDS))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(feature_ids, labels=feature_ids[:, 0] % 2).loss
        loss.backward()
        clip(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return {"ms": [seconds * 1e3 for seconds in measure.repeat(step, warmup=2, repeats=repeats)]}


def rows(num_rows: int, repeats: int) -> dict[str, Any]:
    """Measure reading shuffled batches of 4096 from memory-mapped arrays of `num_rows` rows, in rows per second.

    Also measures the memory that the order and the batches take, without file pages, which the system can reclaim.
    """
    with TemporaryDirectory() as folder:
        columns = {"feature_ids": (np.int32, (NUM_FIELDS,)), "labels": (np.int8, ()), "row_ids": (np.int64, ())}
        arrays = {
            name: np.lib.format.open_memmap(Path(folder) / name, mode="w+", dtype=kind, shape=(num_rows, *shape))
            for name, (kind, shape) in columns.items()
        }
        for start in range(0, num_rows, 10**6):
            piece = slice(start, min(start + 10**6, num_rows))
            size = piece.stop - start
            arrays["feature_ids"][piece] = np.random.default_rng(start).integers(1000, size=(size, NUM_FIELDS))
            arrays["row_ids"][piece] = np.arange(start, piece.stop)
        del arrays
        data = ColumnarDataset(**{name: np.load(Path(folder) / name, mmap_mode="r") for name in columns})
        size = min(4096, num_rows // 2)
        before = measure.own_memory_gb()
        start_time = time.perf_counter()
        order = iter(EpochSampler(num_rows, seed=0))
        first = next(order)
        shuffled = time.perf_counter() - start_time
        batches = chain([[first, *islice(order, size - 1)]], iter(lambda: list(islice(order, size)), []))
        memory = [measure.own_memory_gb()]

        def batch() -> None:
            data.__getitems__(next(batches))
            memory.append(measure.own_memory_gb())

        # a sample of the batches, since reading all 10^8 rows would take minutes
        seconds = measure.repeat(batch, warmup=1, repeats=min(repeats, num_rows // size - 1))
    rates = [size / s for s in seconds]
    return {"rows/s": rates, "first order, s": round(shuffled, 2), "memory added, GB": round(max(memory) - before, 3)}


def text(plm: str, num_prompts: int, num_tokens: int, repeats: int) -> dict[str, Any]:
    """Time a finetuning step of 32 rows with K prompts and T tokens, in milliseconds."""
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=PLMS[plm].to_dict(),
        ctr_config=ctr_preset("dcnv2", field_sizes=[1000] * NUM_FIELDS),
        prompt_length=num_prompts,
    )
    model = ClickPromptForCTR(config).train()
    bf16 = bf16_pays()
    if bf16:
        # as the trainer does
        model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    feature_ids = torch.randint(1000, (32, NUM_FIELDS))
    input_ids = torch.randint(5, 4000, (32, num_tokens))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(feature_ids, input_ids, labels=feature_ids[:, 0] % 2).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"ms": [seconds * 1e3 for seconds in measure.repeat(step, warmup=2, repeats=repeats)]}


if __name__ == "__main__":
    main()
