"""Compare the click probabilities of two models on the same labelled rows.

    python -m clickprompt_hf.runs.compare --scores with.csv --baseline alone.csv --label click

Both files, CSV or Parquet, are outputs of predict.py for one input. Prints AUC and log loss of both, and the
difference of their AUCs with its 95 % interval (DeLong et al. 1988).
"""

import argparse
from pathlib import Path

import pandas as pd

from ..evaluation.metrics import ClickMetric
from ..evaluation.report import PairedAUC

COLUMN = "click_probability"


def main(arguments: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scores", required=True, type=Path)
    parser.add_argument("--baseline", required=True, type=Path)
    parser.add_argument("--label", required=True, help="column of the clicks, 0 or 1")
    args = parser.parse_args(arguments)

    # 1. The same rows in both files.
    tables = []
    for path in (args.scores, args.baseline):
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        for column in (COLUMN, args.label):
            if column not in table.columns:
                parser.error(f"{path} must have the column {column!r}; it has {list(table.columns)}")
        tables.append(table)
    if not tables[0].drop(columns=COLUMN).equals(tables[1].drop(columns=COLUMN)):
        parser.error(f"{args.scores} and {args.baseline} must hold the same rows in the same order")

    # 2. Both models' metrics, and the difference.
    clicks = tables[0][args.label]
    result = PairedAUC().compute(
        predictions=tables[0][COLUMN], baseline_predictions=tables[1][COLUMN], references=clicks
    )
    for name, table in zip(("log_loss", "baseline_log_loss"), tables):
        result[name] = ClickMetric().compute(predictions=table[COLUMN], references=clicks)["log_loss"]
    for name, value in result.items():
        print(f"{name:22} {value:.6f}")
    return result


if __name__ == "__main__":
    main()
