"""Score raw rows with a trained checkpoint.

    python examples/predict.py --model OUT --input rows.csv --output scores.csv

Reads CSV or Parquet, by the file's ending, in pieces; writes the same rows in the same order with one more column,
`click_probability`. No labels are needed. Unseen and missing values are scored as such.
"""

import argparse
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor

# importing the package makes the Auto classes know ClickPrompt
from clickprompt_hf.training import check_folder_or_hub_id, import_backbone_module

COLUMN = "click_probability"
ROWS_READ_AT_ONCE = 65_536


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--input", required=True, type=Path, help="rows: .csv or .parquet")
    parser.add_argument("--output", required=True, type=Path, help="rows with probabilities: .csv or .parquet")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--backbone_module", help="Python file or module that registers the model's own backbone")
    args = parser.parse_args(arguments)
    for name in ("input", "output"):
        if (ending := getattr(args, name).suffix) not in (".csv", ".parquet"):
            parser.error(f"--{name} must end in .csv or .parquet, got {ending!r}")
    if not args.input.is_file():
        parser.error(f"--input must be a file, got {args.input}")
    if not args.output.parent.is_dir():
        parser.error(f"--output must be in a folder that exists, got {args.output}")
    check_folder_or_hub_id(args.model, "--model")

    if args.backbone_module:
        import_backbone_module(args.backbone_module)

    # 1. The checkpoint: a processor that reads raw rows, and a model.
    processor = AutoProcessor.from_pretrained(args.model)
    model = load_model(args.model)

    # 2. Piece by piece: read, score, write. The output appears under its name once it is whole.
    partial = args.output.with_name(f".{args.output.name}.partial")
    try:
        write_pieces(scored_pieces(args.input, processor, model, args.batch_size), partial, args.output.suffix)
        os.replace(partial, args.output)
    finally:
        partial.unlink(missing_ok=True)


def load_model(name_or_path: str) -> torch.nn.Module:
    """The click model of a checkpoint, whose heads must be trained: fresh ones would score at random."""
    model, info = AutoModelForSequenceClassification.from_pretrained(name_or_path, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"--model must be finetuned for clicks, but {name_or_path} is a pretraining checkpoint: it lacks "
            f"{missing}. Finetune it with run_ctr.py first."
        )
    return model.eval().to(torch.accelerator.current_accelerator() or torch.device("cpu"))


def scored_pieces(path: Path, processor, model, batch_size: int) -> Iterator[pa.Table]:
    """The rows of `path` with one more column."""
    for table in read_pieces(path):
        if COLUMN in table.column_names:
            raise ValueError(f"{path} has a column {COLUMN!r} already; rename it first.")
        yield table.append_column(COLUMN, pa.array(click_probabilities(table, processor, model, batch_size), "double"))


def read_pieces(path: Path) -> Iterator[pa.Table]:
    """One table or more, of at most `ROWS_READ_AT_ONCE` rows and the file's types; CSV cells stay strings."""
    if path.suffix == ".csv":
        for frame in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=ROWS_READ_AT_ONCE):
            schema = pa.schema([(name, pa.string()) for name in frame.columns])
            yield pa.Table.from_pandas(frame, schema, preserve_index=False)
    else:
        file = pq.ParquetFile(path)
        if not file.metadata.num_rows:
            yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(ROWS_READ_AT_ONCE):
            yield pa.Table.from_batches([batch], file.schema_arrow)


@torch.inference_mode()
def click_probabilities(table: pa.Table, processor, model, batch_size: int) -> list[float]:
    """P(click) of each row of `table`, in order."""
    rows = {name: table[name].to_pylist() for name in processor.schema.columns if name in table.column_names}
    probabilities: list[float] = []
    for start in range(0, len(table), batch_size):
        batch = processor(
            {name: cells[start : start + batch_size] for name, cells in rows.items()}, return_tensors="pt"
        )
        logits = model(**batch.to(model.device)).logits
        probabilities += torch.sigmoid(logits.float()).squeeze(-1).tolist()
    return probabilities


def write_pieces(pieces: Iterator[pa.Table], path: Path, ending: str) -> None:
    """Writes at least one piece to one file."""
    first = next(pieces)
    if ending == ".parquet":
        with pq.ParquetWriter(path, first.schema) as writer:
            for table in chain([first], pieces):
                writer.write_table(table)
        return
    for place, table in enumerate(chain([first], pieces)):
        # integers beside nulls would become floats, and lose digits
        frame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
        frame.to_csv(path, mode="a" if place else "w", header=not place, index=False)


if __name__ == "__main__":
    main()
