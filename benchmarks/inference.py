"""Scoring raw columns: rows per second and the time of a single row, with the PLM and without it.

    python benchmarks/inference.py --dataset ml-1m --data_path ml-1m.zip

Ours scores whole tables as `clickprompt predict` does: it encodes and tokenizes each distinct value once, groups rows
of similar length, and uses bf16 if the processor multiplies it faster. Plain encodes and tokenizes batch by batch, in
fp32.
"""

from typing import Any

import ctr_only
import measure
import numpy as np
import torch
from plm_steps import TINY, model_of, processor_of

from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.scoring import score_table
from clickprompt_hf.training.bf16 import bf16_pays

WITHOUT_PLM = "none"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--plms", nargs="+", default=[WITHOUT_PLM, "4 x 256", "RoBERTa-base"])
    parser.add_argument("--prompt_length", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(arguments)
    if args.quick:
        args.plms, args.repeats = [WITHOUT_PLM, TINY], 1
    rows = []
    for plm in args.plms:
        for plain in (False, True):
            settings = (plm, plain, args.prompt_length, args.repeats, args.quick, args.dataset, args.data_path)
            measured = measure.in_fresh_process(scoring, *settings)
            rows.append({"PLM": plm, "way": "plain" if plain else "ours", **measured})
            print(rows[-1], flush=True)
    return measure.report("scoring", rows, args)


def scoring(
    plm: str, plain: bool, prompt_length: int, repeats: int, quick: bool, dataset: str, data_path: str | None
) -> dict[str, Any]:
    """Measure rows per second over whole batches, and milliseconds of single rows."""
    with_plm = plm != WITHOUT_PLM
    splits, schema = load_splits(dataset, data_path=data_path)
    processor = processor_of(splits, schema, with_tokenizer=with_plm)
    if with_plm:
        model = model_of("finetune", plm, prompt_length, "released", processor)
    else:
        model = ctr_only.fresh_model("dcnv2", processor)
    device = measure.device()
    model.eval().to(device)
    autocast = not plain and bf16_pays()
    batch_size = 64 if quick else 256 if with_plm else 4096
    # a piece of a file, or part of one where a whole piece takes minutes
    num_rows = batch_size * (1 if plain and with_plm else 4 if with_plm else 16)
    table = splits["test"].slice(0, num_rows).select(schema.columns)
    num_rows, rows = len(table), table.to_pydict()

    @torch.inference_mode()
    def score(rows: dict[str, list]) -> np.ndarray:
        batch = processor(rows, return_tensors="pt").to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            return model(**batch).logits.float().sigmoid().squeeze(-1).cpu().numpy()

    def score_all() -> None:
        if not plain:
            score_table(table, processor, model, batch_size, autocast)
            return
        for start in range(0, num_rows, batch_size):
            score({name: cells[start : start + batch_size] for name, cells in rows.items()})

    whole = measure.repeat(score_all, warmup=1, repeats=repeats)
    one = {name: cells[:1] for name, cells in rows.items()}
    single = measure.repeat(lambda: score(one), warmup=5, repeats=5 if quick else 100)
    p50, p99 = (float(ms) for ms in np.percentile(single, [50, 99]) * 1e3)
    rates = [num_rows / seconds for seconds in whole]
    latency = {"one row p50, ms": round(p50, 2), "p99, ms": round(p99, 2)}
    limit = measure.against_limit(rates, measure.gflop(score_all) / num_rows, autocast)
    return {"rows/s": rates, **latency, "bf16": autocast, **limit}


if __name__ == "__main__":
    main()
