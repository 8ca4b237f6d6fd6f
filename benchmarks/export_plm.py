"""A checkpoint with its PLM in ONNX, in fp32 and int8, next to PyTorch: test AUC, CPU time per row and size.

    python benchmarks/export_plm.py runs/ctr --dataset ml-1m --data_path ml-1m.zip

All three score the same raw test rows in batches of 64 on one thread. CPU time includes reading and tokenizing them.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import torch
from sklearn.metrics import log_loss, roc_auc_score
from transformers import AutoModelForSequenceClassification

from clickprompt_hf import ClickPromptPipeline, ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.export.export_plm import export_plm
from clickprompt_hf.export.plm_scorer import PLMScorer

BATCH_SIZE = 64


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("checkpoint", help="checkpoint with a PLM that was finetuned on the dataset")
    parser.add_argument("--rows", type=int, default=4_000)
    args = parser.parse_args(arguments)
    if args.quick:
        args.rows = 64
    torch.set_num_threads(1)
    splits, schema = load_splits(args.dataset, data_path=args.data_path)
    test = splits["test"].slice(0, args.rows)
    raw, clicks = test.select(schema.columns).to_pydict(), test.column(schema.label).to_numpy()

    model = AutoModelForSequenceClassification.from_pretrained(args.checkpoint)
    pipe = ClickPromptPipeline(model, ClickPromptProcessor.from_pretrained(args.checkpoint), device="cpu")

    def in_torch(rows: dict[str, list]) -> np.ndarray:
        return np.asarray([score["click_probability"] for score in pipe(rows, batch_size=BATCH_SIZE)])

    size = sum(parameter.nbytes for parameter in model.parameters())
    expected, figures = measured(in_torch, raw, clicks)
    rows = [{"way": "PyTorch, fp32", **figures, "MB": round(size / 1e6)}]
    for int8 in (False, True):
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / "exported"
            export_plm(args.checkpoint, folder, int8)
            found, figures = measured(PLMScorer(folder, num_threads=1, batch_size=BATCH_SIZE).score, raw, clicks)
            size = sum(path.stat().st_size for path in folder.glob("model.onnx*"))
        away = np.abs(found - expected)
        differences = {"mean difference": f"{away.mean():.2g}", "largest": f"{away.max():.2g}"}
        way = f"onnxruntime, {'int8' if int8 else 'fp32'}"
        rows.append({"way": way, **figures, "MB": round(size / 1e6), **differences})
        print(rows[-1], flush=True)
    return measure.report("A PLM in ONNX", rows, args)


def measured(
    score: Callable[[dict[str, list]], np.ndarray], raw: dict[str, list], clicks: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Score rows, and return the probabilities and their figures."""
    start = time.process_time()
    probabilities = score(raw)
    seconds = time.process_time() - start
    return probabilities, {
        "AUC": round(float(roc_auc_score(clicks, probabilities)), 4),
        "log loss": round(float(log_loss(clicks, probabilities)), 4),
        "ms per row": round(seconds / len(clicks) * 1e3, 1),
    }


if __name__ == "__main__":
    main()
