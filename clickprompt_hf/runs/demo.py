# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Run ClickPrompt from raw rows to scored rows, next to the models it must beat.

    clickprompt demo --output_dir runs/demo

Uses generated data with known click probabilities: pretrains with PA-MLM, finetunes with and without the PLM, trains
the backbone alone and ClickPrompt without pretraining, prints test AUC and log loss of all, and scores raw rows with
the saved checkpoint. Works with other data and sizes too. All other flags, e.g. --bf16 or --prompt_length, go to the
runs that use them.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.number_ranges import NumberRange, check_numbers
from ..data.reading import load_splits
from ..data.sources.synthetic import best_reachable_auc
from ..training.arguments import RANGES as TRAINING_RANGES
from ..whole_files import whole_file
from . import finetune, predict, pretrain
from .command import CommandParser, run_command
from .idle_arguments import PAMLM_ARGUMENTS, PLM_ARGUMENTS

ROWS_SCORED = 3
_EPOCHS, _BATCH_SIZE = TRAINING_RANGES["num_train_epochs"], TRAINING_RANGES["per_device_train_batch_size"]
RANGES = {
    "max_train_rows": NumberRange(1, whole=True, also=(None,)),
    **{f"{run}_epochs": _EPOCHS for run in ("pamlm", "plm", "ctr")},
    **{f"{run}_batch_size": _BATCH_SIZE for run in ("pamlm", "plm", "ctr")},
}


def make_parser() -> CommandParser:
    """The parser of `clickprompt demo`."""
    parser = CommandParser("demo", __doc__, "--output_dir FOLDER [options]")
    parser.add_argument("--output_dir", required=True, type=Path, help="output folder for all runs and their results")
    parser.add_argument("--dataset", default="synthetic", help="as in clickprompt finetune (default: %(default)s)")
    parser.add_argument("--data_path", help="file or folder with the raw data")
    parser.add_argument("--max_train_rows", type=int, help="number of training rows to use (default: all)")
    parser.add_argument(
        "--plm_name_or_path", default="scratch-tiny", help="as in clickprompt finetune (default: %(default)s)"
    )
    parser.add_argument(
        "--pamlm_epochs", type=float, default=3, metavar="N", help="PA-MLM epochs (default: %(default)s)"
    )
    parser.add_argument("--pamlm_batch_size", type=int, default=64, help="PA-MLM batch size (default: %(default)s)")
    parser.add_argument(
        "--plm_epochs",
        type=float,
        default=2,
        metavar="N",
        help="finetuning epochs with the PLM (default: %(default)s)",
    )
    parser.add_argument(
        "--plm_batch_size", type=int, default=64, help="finetuning batch size with the PLM (default: %(default)s)"
    )
    parser.add_argument(
        "--ctr_epochs", type=float, default=4, metavar="N", help="epochs without the PLM (default: %(default)s)"
    )
    parser.add_argument(
        "--ctr_batch_size", type=int, default=256, help="batch size without the PLM (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[42], help="run everything once per seed (default: 42)"
    )
    return parser


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Run the demo; return its table.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the data is wrong.
        OSError: If a file or folder is missing.
    """
    args, others = make_parser().parse_known_args(arguments)
    check_numbers(args, RANGES)
    for seed in args.seeds:
        TRAINING_RANGES["seed"].check("seeds", seed)
    plm, others = taken(PLM_ARGUMENTS, ["--plm_learning_rate", "5e-4", *others])
    pamlm, everywhere = taken(PAMLM_ARGUMENTS, others)

    # mistakes in what all runs share show before hours of training
    splits, schema = load_splits(
        args.dataset, args.data_path, max_train_rows=args.max_train_rows, **data_options(everywhere)
    )
    data = ["--data_path", args.data_path] if args.data_path else []
    rows = ["--max_train_rows", str(args.max_train_rows)] if args.max_train_rows else []
    # the sizes of the paper, which the figures in the docs have
    preset = ["--preset", "ml-1m"] if args.dataset == "synthetic" else []
    fresh = ["--dataset", args.dataset, *preset, *rows]
    fresh_plm = ["--plm_name_or_path", args.plm_name_or_path, *plm]
    pamlm_size = sizes(args.pamlm_epochs, args.pamlm_batch_size)
    # few epochs need a schedule that decays
    finetuning = ["--lr_scheduler_type", "linear"]
    with_plm = sizes(args.plm_epochs, args.plm_batch_size)
    # the [CLS] of a fresh PLM does not represent the text yet
    with_plm += ["--pooling", "mean"]
    without_plm = sizes(args.ctr_epochs, args.ctr_batch_size)

    results = []
    for seed in args.seeds:
        folder = args.output_dir / f"seed-{seed}"
        pretrained = ["--model_name_or_path", str(folder / "pamlm")]

        def run(script, name, options, folder=folder, seed=seed):
            common = ["--output_dir", str(folder / name), "--seed", str(seed), "--overwrite_output_dir"]
            return script([*common, "--per_device_eval_batch_size", "1024", *data, *options, *everywhere])

        run(pretrain.main, "pamlm", [*fresh, *fresh_plm, *pamlm, *pamlm_size])
        for label, name, options in (
            ("backbone alone", "alone", [*fresh, "--ctr_only", *without_plm]),
            ("ClickPrompt, no pretraining, with the PLM", "fresh", [*fresh, *with_plm, *fresh_plm]),
            ("ClickPrompt, PA-MLM, without the PLM", "without", [*pretrained, "--without_plm", *without_plm]),
            ("ClickPrompt, PA-MLM, with the PLM", "with", [*pretrained, *with_plm, *plm]),
        ):
            metrics = run(finetune.main, name, [*finetuning, *options])
            results.append({"model": label, "auc": metrics["test_auc"], "log_loss": metrics["test_log_loss"]})

    table = summary(pd.DataFrame(results))
    if args.dataset == "synthetic":
        table.loc["best reachable", "AUC"] = f"{best_reachable_auc(splits['test']):.4f}"
    print(
        f"\nTest split of {args.dataset}, {len(args.seeds)} seed(s), mean and range:\n\n{table.fillna('').to_string()}"
    )
    with whole_file(args.output_dir / "results.csv") as partial:
        table.to_csv(partial)

    rows_file, scores_file = args.output_dir / "rows.csv", args.output_dir / "scores.csv"
    with whole_file(rows_file) as partial:
        splits["test"].slice(0, ROWS_SCORED).select(schema.columns).to_pandas().to_csv(partial, index=False)
    predict.main(["--model", str(folder / "with"), "--input", str(rows_file), "--output", str(scores_file)])
    print(f"\nThree raw rows, scored by {folder / 'with'}:\n\n{pd.read_csv(scores_file, dtype=str).T.to_string()}")
    return table


def sizes(num_epochs: float, batch_size: int) -> list[str]:
    """The flags of a run's length and batch size."""
    return ["--num_train_epochs", str(num_epochs), "--per_device_train_batch_size", str(batch_size)]


def taken(names: tuple[str, ...], arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split `arguments` into those in `names`, of which the last one counts, and the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        # switches may come without a value
        parser.add_argument(f"--{name}", nargs="?", const="true")
    known, others = parser.parse_known_args(arguments)
    return [f"--{name}={value}" for name, value in vars(known).items() if value is not None], others


def data_options(arguments: list[str]) -> dict[str, Any]:
    """The options of `load_splits` among `arguments`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--schema")
    parser.add_argument("--split")
    parser.add_argument("--split_seed", type=int)
    parser.add_argument("--split_column")
    parser.add_argument("--split_fractions", type=float, nargs="+")
    known, _ = parser.parse_known_args(arguments)
    return {name: value for name, value in vars(known).items() if value is not None}


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """One row per model, in the order they ran: mean over the seeds, with the range if there are several."""

    def cell(values: pd.Series) -> str:
        spread = f" ({values.min():.4f} to {values.max():.4f})" if len(values) > 1 else ""
        return f"{np.mean(values):.4f}{spread}"

    table = results.groupby("model", sort=False).agg({"auc": cell, "log_loss": cell})
    return table.rename(columns={"auc": "AUC", "log_loss": "log loss"})


if __name__ == "__main__":
    run_command("demo", main)
