"""The CTR part alone in onnxruntime with its id tables in float32, bfloat16 and int8: test AUC, rate and size.

    OMP_NUM_THREADS=1 python benchmarks/id_tables.py runs/ctr --dataset ml-1m --data_path ml-1m.zip --split time

All score the same test rows on one thread; rates are those of encoded rows in batches of 4,096.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import measure
import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.export.id_tables import IdTableDtype
from clickprompt_hf.export.scorer import Scorer

BATCH_SIZE = 4096


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.data_parser(__doc__)
    parser.add_argument("checkpoint", help="checkpoint that was finetuned on the dataset")
    parser.add_argument("--split", default="random", help="split of its training")
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args(arguments)
    dtypes = get_args(IdTableDtype)
    if args.quick:
        args.repeats, dtypes = 1, dtypes[-1:]
    splits, schema = load_splits(args.dataset, data_path=args.data_path, split=args.split)
    raw = splits["test"].select(schema.columns).to_pydict()
    clicks = splits["test"].column(schema.label).to_numpy()
    with TemporaryDirectory() as temporary:
        folders = {dtype: Path(temporary) / dtype for dtype in dtypes}
        for dtype, folder in folders.items():
            export_ctr(args.checkpoint, folder, id_table_dtype=dtype)
        scorers = {dtype: Scorer(folder, num_threads=1) for dtype, folder in folders.items()}
        sizes = {d: sum(path.stat().st_size for path in f.glob("model.onnx*")) for d, f in folders.items()}
        ids = scorers[dtypes[0]].encoder.encode(raw)
        batch = ids[:BATCH_SIZE]
        rates: dict[str, list[float]] = {dtype: [] for dtype in folders}
        # in turn, so that other load on the machine affects all of them
        for call in range(args.repeats):
            for dtype, scorer in scorers.items():
                seconds = measure.repeat(lambda scorer=scorer: scorer.score_ids(batch), int(call == 0), 1)
                rates[dtype] += [len(batch) / second for second in seconds]
        exact, rows = scorers[dtypes[0]].score_ids(ids), []
        for dtype, scorer in scorers.items():
            found = scorer.score_ids(ids)
            rows.append(
                {
                    "id tables": dtype,
                    "AUC": round(float(roc_auc_score(clicks, found)), 5),
                    "log loss": round(float(log_loss(clicks, found)), 5),
                    "largest difference": f"{np.abs(found - exact).max():.2g}",
                    "ids, rows/s": rates[dtype],
                    "tables, MB": round(tables_size(scorer.model) / 1e6, 2),
                    "model.onnx, MB": round(sizes[dtype] / 1e6, 2),
                }
            )
            print(rows[-1], flush=True)
    return measure.report("Id tables in fewer bytes", rows, args)


def tables_size(path: Path) -> int:
    """Bytes of the id tables of an exported model, their scales included."""
    # comes with the extra `onnx`
    import onnx

    stored = onnx.load(path).graph.initializer
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in stored if ".table." in tensor.name)


if __name__ == "__main__":
    main()
