# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Compare the click probabilities of two models on the same labeled rows.

    clickprompt compare-scores --scores with.csv --baseline alone.csv --label click

Both files are outputs of clickprompt predict for the same input. Prints AUC and log loss of both, and
the difference of their AUCs with its 95 % interval (DeLong et al. 1988).
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from ..columns_clickprompt import PROBABILITY_COLUMN as COLUMN
from ..data.table_files import open_table_file
from ..evaluation.metrics import ClickMetric
from ..evaluation.report import PairedAUC
from ..labels_clickprompt import check_labels
from ..values_clickprompt import spellings
from .command import CommandParser, run_command


def make_parser() -> CommandParser:
    """The parser of `clickprompt compare-scores`."""
    parser = CommandParser("compare-scores", __doc__, "--scores FILE --baseline FILE --label COLUMN [options]")
    parser.add_argument("--scores", required=True, type=Path, help="scored rows of the model")
    parser.add_argument("--baseline", required=True, type=Path, help="scored rows of the baseline model")
    parser.add_argument(
        "--label", required=True, help="column with the clicks: 0 and 1, or words or -1 and 1 with --positive"
    )
    parser.add_argument("--positive", help="value of the label that means a click, as in the schema")
    return parser


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print and return the metrics of both models.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument is wrong, a column is missing or the rows differ.
        OSError: If a file cannot be read.
    """
    args = make_parser().parse_args(arguments)

    # 1. The same rows in both files.
    tables = []
    for name, path in (("scores", args.scores), ("baseline", args.baseline)):
        if not path.is_file():
            raise FileNotFoundError(f"--{name} must be a file, but there is no {path}")
        file = open_table_file(path)
        table = pa.Table.from_batches(file.batches(), file.schema).to_pandas()
        given = list(table.columns)
        if COLUMN not in given:
            raise ValueError(
                f"--{name} must have the column {COLUMN!r}, as clickprompt predict writes it, but {path} has {given}"
            )
        if args.label not in given:
            raise ValueError(f"--label must be one of the columns of {path}, {given}, got {args.label!r}")
        scores = pd.to_numeric(table[COLUMN], errors="coerce")
        if scores.isna().any():
            raise ValueError(f"{path} must have numbers in {COLUMN!r}, got {table[COLUMN][scores.isna()].iloc[0]!r}")
        tables.append(table.assign(**{COLUMN: scores}))
    advice = "" if args.positive else " Name the value that means a click with --positive, as in the schema."
    clicks_of = [
        check_labels(table[args.label].tolist(), args.label, args.positive, str(path), advice=advice)
        for table, path in zip(tables, (args.scores, args.baseline))
    ]
    # Spelled alike, because CSV files have no types.
    rows, other_rows = (
        table.drop(columns=[COLUMN, args.label]).apply(lambda cells: spellings(cells.tolist())) for table in tables
    )
    if not (rows.equals(other_rows) and np.array_equal(clicks_of[0], clicks_of[1])):
        raise ValueError(f"{args.scores} and {args.baseline} must hold the same rows in the same order")

    # 2. Both models' metrics, and the difference.
    clicks = clicks_of[0]
    if len(set(clicks)) < 2:
        words = "" if args.positive is None else f" with --positive {args.positive}"
        raise ValueError(f"--label must be a column with both classes, but {args.label!r} has only one{words}")
    result = PairedAUC().compute(
        predictions=tables[0][COLUMN], baseline_predictions=tables[1][COLUMN], references=clicks
    )
    for name, table in zip(("log_loss", "baseline_log_loss"), tables):
        result[name] = ClickMetric().compute(predictions=table[COLUMN], references=clicks)["log_loss"]
    for name, value in result.items():
        print(f"{name:22} {value:.6f}")
    return result


if __name__ == "__main__":
    run_command("compare-scores", main)
