"""Score raw rows with a trained checkpoint.

    python examples/predict.py --model OUT --input rows.csv --output scores.csv

Reads CSV or Parquet, by the file's ending, in pieces; writes the same rows in the same order with one more column,
`click_probability`. No labels are needed. Unseen and missing values are scored as such.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoProcessor

# importing the package makes the Auto classes know ClickPrompt
from clickprompt_hf.training import import_backbone_module

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

    if args.backbone_module:
        import_backbone_module(args.backbone_module)

    # 1. The checkpoint: a processor that reads raw rows, and a model.
    processor = AutoProcessor.from_pretrained(args.model)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model = AutoModelForSequenceClassification.from_pretrained(args.model).eval().to(device)

    # 2. Piece by piece: read, score, write. The output appears under its name once it is whole.
    partial = args.output.with_name(f".{args.output.name}.partial")
    try:
        writer = None
        for table in read_pieces(args.input):
            if COLUMN in table.columns:
                raise ValueError(f"{args.input} has a column {COLUMN!r} already; rename it first.")
            table[COLUMN] = click_probabilities(table, processor, model, args.batch_size)
            writer = write_piece(table, partial, args.output.suffix, writer)
        if isinstance(writer, pq.ParquetWriter):
            writer.close()
        os.replace(partial, args.output)
    finally:
        partial.unlink(missing_ok=True)


def read_pieces(path: Path) -> Iterator[pd.DataFrame]:
    """The rows as data frames of at most `ROWS_READ_AT_ONCE` rows; CSV cells stay the strings that they are."""
    if path.suffix == ".csv":
        yield from pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=ROWS_READ_AT_ONCE)
    else:
        for batch in pq.ParquetFile(path).iter_batches(ROWS_READ_AT_ONCE):
            yield batch.to_pandas()


@torch.inference_mode()
def click_probabilities(table: pd.DataFrame, processor, model, batch_size: int) -> list[float]:
    """P(click) of each row of `table`, in order."""
    rows = {column: table[column].tolist() for column in processor.schema.columns if column in table.columns}
    probabilities: list[float] = []
    for start in range(0, len(table), batch_size):
        batch = processor(
            {name: cells[start : start + batch_size] for name, cells in rows.items()}, return_tensors="pt"
        )
        logits = model(**batch.to(model.device)).logits
        probabilities += torch.sigmoid(logits.float()).squeeze(-1).tolist()
    return probabilities


def write_piece(table: pd.DataFrame, path: Path, ending: str, writer):
    """Appends `table` to `path`; the returned writer goes into the next call."""
    if ending == ".csv":
        table.to_csv(path, mode="w" if writer is None else "a", header=writer is None, index=False)
        return path
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    writer = writer or pq.ParquetWriter(path, arrow.schema)
    writer.write_table(arrow)
    return writer


if __name__ == "__main__":
    main()
