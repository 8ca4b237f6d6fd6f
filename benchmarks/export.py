"""Serving the CTR part alone through onnxruntime: time to the first score, time of a single row, rows per second.

    python benchmarks/export.py --dataset ml-1m --data_path ml-1m.zip

Models have the published sizes and fresh weights. For comparison, PyTorch scores the same encoded ids, in fp32 as
onnxruntime does. The time to the first score is that of a new process without torch: start of the interpreter,
imports, vocabularies, model, one raw row.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ctr_only
import measure
import numpy as np
import torch

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.export.ctr_program import ClickProbability
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.scorer import Scorer

FIRST_SCORE = """
import json, sys

folder, row = sys.argv[1:]
sys.path.insert(0, folder)
from scorer import Scorer

Scorer().score(json.loads(row))
assert "torch" not in sys.modules
"""


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=["fm", "dcnv2"])
    parser.add_argument("--batch_size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args(arguments)
    if args.quick:
        args.backbones, args.batch_size, args.threads, args.repeats = ["fm"], 64, 1, 1
    rows = []
    for backbone in args.backbones:
        settings = (backbone, args.batch_size, args.threads, args.repeats, args.dataset, args.data_path)
        rows.append({"backbone": backbone, "batch": args.batch_size, **measure.in_fresh_process(serving, *settings)})
        print(rows[-1], flush=True)
    return measure.report("CTR part alone through onnxruntime", rows, args)


def serving(
    backbone: str, batch_size: int, threads: int, repeats: int, dataset: str, data_path: str | None
) -> dict[str, Any]:
    """Export a fresh model and measure serving from its folder."""
    torch.set_num_threads(threads)
    splits, schema = load_splits(dataset, data_path=data_path)
    processor = ClickPromptProcessor.fit(splits["train"], schema)
    model = ctr_only.fresh_model(backbone, processor).eval()
    raw = splits["test"].slice(0, batch_size).select(schema.columns).to_pydict()
    row = {name: cells[0] for name, cells in raw.items()}
    with TemporaryDirectory() as folder:
        checkpoint, exported = Path(folder) / "checkpoint", Path(folder) / "exported"
        model.save_pretrained(checkpoint)
        processor.save_pretrained(checkpoint)
        export_ctr(checkpoint, exported)
        scorer = Scorer(exported, num_threads=threads)
        command = [sys.executable, "-c", FIRST_SCORE, str(exported), json.dumps(row)]
        first = measure.repeat(lambda: subprocess.run(command, check=True), warmup=1, repeats=min(repeats, 5))
        size = sum(path.stat().st_size for path in exported.glob("model.onnx*"))
    ids = scorer.encoder.encode(raw)
    one = ids[:1]
    singles = max(5, 20 * repeats)
    # in turn, so that other load on the machine affects both
    rates: dict[str, list[float]] = {"onnx": [], "torch": []}
    plain, ids_tensor = ClickProbability(model), torch.from_numpy(ids)
    with torch.inference_mode():
        for call in range(repeats):
            for name, score in (("onnx", lambda: scorer.score_ids(ids)), ("torch", lambda: plain(ids_tensor))):
                rates[name] += [len(ids) / seconds for seconds in measure.repeat(score, int(call == 0), 1)]
    return {
        "start to first score, s": first,
        "one row p50, ms": median_ms(measure.repeat(lambda: scorer.score_ids(one), 5, singles)),
        "one raw row p50, ms": median_ms(measure.repeat(lambda: scorer.score(row), 5, singles)),
        "ids, rows/s": rates["onnx"],
        "ids by torch, rows/s": rates["torch"],
        "raw, rows/s": [len(ids) / seconds for seconds in measure.repeat(lambda: scorer.score(raw), 1, repeats)],
        "model.onnx, MB": round(size / 1e6, 1),
    }


def median_ms(seconds: list[float]) -> float:
    return round(float(np.median(seconds)) * 1e3, 3)


if __name__ == "__main__":
    main()
