"""ClickPrompt from raw rows to scored rows, beside the models that it must beat.

    python -m clickprompt_hf.runs.demo --output_dir runs/demo

On generated data whose true click probabilities are known: pretrains by PA-MLM, finetunes with and without the PLM,
trains the backbone alone and ClickPrompt without pretraining, prints test AUC and log loss of all, and scores raw rows
from the saved checkpoint. Takes other data and sizes too, see --help; arguments that it does not know go to all runs
that have a use for them. In bf16 where that is faster; --bf16 false for fp32.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import HfArgumentParser

from ..data.reading import load_splits
from ..data.sources.synthetic import best_reachable_auc
from ..training.bf16 import bf16_pays
from . import finetune, predict, pretrain
from .arguments import DataArguments
from .idle_arguments import PAMLM_ARGUMENTS, PLM_ARGUMENTS

ROWS_SCORED = 3


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--dataset", default="synthetic")
    parser.add_argument("--data_path")
    parser.add_argument("--max_train_rows", type=int)
    parser.add_argument("--plm_name_or_path", default="scratch-tiny")
    parser.add_argument("--pamlm_epochs", default="3")
    parser.add_argument("--pamlm_batch_size", default="64")
    parser.add_argument("--plm_epochs", default="2", help="of finetuning with the PLM")
    parser.add_argument("--plm_batch_size", default="64", help="of finetuning with the PLM")
    parser.add_argument("--ctr_epochs", default="4", help="of training without the PLM")
    parser.add_argument("--ctr_batch_size", default="256", help="of training without the PLM")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    args, others = parser.parse_known_args(arguments)
    plm, others = taken(PLM_ARGUMENTS, ["--plm_learning_rate", "5e-4", *others])
    pamlm, everywhere = taken(PAMLM_ARGUMENTS, others)

    # The data as the runs will see them, before hours of training.
    data_args, _ = HfArgumentParser(DataArguments).parse_args_into_dataclasses(
        everywhere, return_remaining_strings=True
    )
    chosen = {name: getattr(data_args, name) for name in ("schema", "split", "split_seed")}
    options = {name: value for name, value in chosen.items() if value is not None}
    splits, schema = load_splits(args.dataset, args.data_path, max_train_rows=args.max_train_rows, **options)

    data = ["--data_path", args.data_path] if args.data_path else []
    rows = ["--max_train_rows", str(args.max_train_rows)] if args.max_train_rows else []
    fresh = ["--dataset", args.dataset, *rows]
    fresh_plm = ["--plm_name_or_path", args.plm_name_or_path, *plm]
    pamlm_size = ["--num_train_epochs", args.pamlm_epochs, "--per_device_train_batch_size", args.pamlm_batch_size]
    # So few epochs need a schedule that ends.
    finetuning = ["--lr_scheduler_type", "linear"]
    with_plm = ["--num_train_epochs", args.plm_epochs, "--per_device_train_batch_size", args.plm_batch_size]
    # A fresh PLM has no [CLS] that stands for the text yet.
    with_plm += ["--pooling", "mean"]
    without_plm = ["--num_train_epochs", args.ctr_epochs, "--per_device_train_batch_size", args.ctr_batch_size]

    if not any(option.startswith(("--bf16", "--fp16")) for option in everywhere) and bf16_pays():
        everywhere += ["--bf16"]

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
    table.to_csv(args.output_dir / "results.csv")

    rows_file, scores_file = args.output_dir / "rows.csv", args.output_dir / "scores.csv"
    splits["test"].slice(0, ROWS_SCORED).select(schema.columns).to_pandas().to_csv(rows_file, index=False)
    predict.main(["--model", str(folder / "with"), "--input", str(rows_file), "--output", str(scores_file)])
    print(f"\nThree raw rows, scored by {folder / 'with'}:\n\n{pd.read_csv(scores_file, dtype=str).T.to_string()}")
    return table


def taken(names: tuple[str, ...], arguments: list[str]) -> tuple[list[str], list[str]]:
    """The `arguments` called `names`, each with one value, the last given, and the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(f"--{name}")
    known, others = parser.parse_known_args(arguments)
    return [f"--{name}={value}" for name, value in vars(known).items() if value is not None], others


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds, with the range where there are several, a row a model in the order that they ran."""

    def cell(values: pd.Series) -> str:
        spread = f" ({values.min():.4f} to {values.max():.4f})" if len(values) > 1 else ""
        return f"{np.mean(values):.4f}{spread}"

    table = results.groupby("model", sort=False).agg({"auc": cell, "log_loss": cell})
    return table.rename(columns={"auc": "AUC", "log_loss": "log loss"})


if __name__ == "__main__":
    main()
