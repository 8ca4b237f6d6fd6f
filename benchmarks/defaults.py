"""The default backbone against logistic regression and LightGBM, on the same rows of eight tables.

    python benchmarks/defaults.py --data data --output_dir OUT

Each table is cut to 60,000 rows drawn at random and split 8:1:1, MovieLens by time; each is trained on 8,000 rows and
on all training rows. Every model has its defaults: `clickprompt finetune --ctr_only` without further flags, and the
baselines of `clickprompt compare`. Numbers have the buckets that `clickprompt draft-schema` proposes for the training
rows. `--data` is the folder with the published files: adult.csv.gz, credit-card.csv.gz,
cardio.csv.gz, anime.zip, book-crossing-dense.zip, ml-100k.zip, ml-1m.zip; tables without a file are left out.

If interrupted, run it again: finished cells are kept. With --into FILE the table replaces the lines between
`<!-- defaults -->` and `<!-- /defaults -->`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from quality import around_table
from tables import TABLES

from clickprompt_hf import ClickPromptProcessor, Schema
from clickprompt_hf.comparison.baselines import Baseline, GradientBoosting, OneHotLogisticRegression
from clickprompt_hf.data.reading import load_source
from clickprompt_hf.data.splits import limit_train_rows, split_table
from clickprompt_hf.drafting.bucket_choice import choose_buckets
from clickprompt_hf.drafting.column_checks import rank_alone
from clickprompt_hf.drafting.schema_draft import profile_columns
from clickprompt_hf.evaluation.report import ClickIntervals
from clickprompt_hf.runs import finetune
from clickprompt_hf.training.metrics import auc_and_log_loss

FILES = {
    **{name: f"{name}.csv.gz" for name in ("adult", "credit-card", "cardio")},
    **{"anime": "anime.zip", "book-crossing": "book-crossing-dense.zip"},
    **{"ml-100k": "ml-100k.zip", "ml-1m": "ml-1m.zip", "synthetic": None},
}
BUCKETS = ("buckets", "num_buckets")
SPLITS = ("train", "validation", "test")
SIZES = {"8k": 8_000, "all": None}
MOST_ROWS = 60_000
BACKBONE = "backbone, defaults"
MODELS = (BACKBONE, "logistic regression", "LightGBM", "LightGBM, target-encoded ids")
# half the width of a 95 % interval in standard errors
_HALF_WIDTH = 1.959964


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published files")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--into", type=Path, help="Markdown file to write the table into")
    args = parser.parse_args(arguments)
    if args.into:
        # fail before the runs
        around_table(args.into, "defaults")
    for size in args.sizes:
        for name in args.tables:
            if (file := FILES[name]) is None or (args.data / file).exists():
                measure_cell(name, size, args.data, args.output_dir)
    table = tabulate(args.output_dir)
    print(table)
    if args.into:
        before, after = around_table(args.into, "defaults")
        args.into.write_text(f"{before}\n{table}\n{after}", encoding="utf-8")
    return table


def measure_cell(name: str, size: str, data: Path, output_dir: Path) -> None:
    """Train and test all models on one table at one size, unless that is done."""
    folder = output_dir / f"{name}-{size}"
    results = folder / "results.json"
    if results.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    splits, schema = write_splits(name, SIZES[size], data, folder)
    files = [word for split in SPLITS for word in (f"--{split}_file", str(folder / f"{split}.parquet"))]
    options = ["--dataset", "parquet", *files, "--schema", str(folder / "schema.json"), "--ctr_only"]
    options += ["--output_dir", str(folder / "backbone"), "--overwrite_output_dir", "true", "--report_plots", "false"]
    finetune.main([*options, "--report_to", "none", "--disable_tqdm", "true"])
    scores = {BACKBONE: pd.read_parquet(folder / "backbone" / "_test_scores.parquet")["click_probability"].to_numpy()}
    processor = ClickPromptProcessor.fit(splits["train"], schema)
    scores[MODELS[1]] = baseline_scores(OneHotLogisticRegression(processor), splits, schema.label)
    scores[MODELS[2]] = baseline_scores(GradientBoosting(processor), splits, schema.label)
    # no field is in the text, so this adds the target encoding alone
    scores[MODELS[3]] = baseline_scores(GradientBoosting(processor, with_text=True), splits, schema.label)
    clicks = splits["test"].column(schema.label).to_numpy()
    found = {model: figures(probabilities, clicks) for model, probabilities in scores.items()}
    rows = {"table": name, "size": size, "train_rows": len(splits["train"]), "test_rows": len(clicks)}
    results.write_text(json.dumps({**rows, "models": found}, indent=1), encoding="utf-8")


def write_splits(
    name: str, max_train_rows: int | None, data: Path, folder: Path
) -> tuple[dict[str, pa.Table], Schema]:
    """Read, cut and split a table; write the splits and the schema, without texts, into a folder."""
    if name in TABLES:
        rows, described = TABLES[name](data / str(FILES[name]), None)
        schema = Schema.from_dict(described)
        table = pa.Table.from_pandas(rows, preserve_index=False)
    else:
        source = load_source(name, None if FILES[name] is None else data / str(FILES[name]))
        schema = source.schema
        parts = source.table.values() if isinstance(source.table, dict) else [source.table]
        table = pa.concat_tables(parts)
    fields = tuple(replace(field, in_text=False) for field in schema.fields if field.kind != "text")
    schema = replace(schema, fields=fields)
    if len(table) > MOST_ROWS:
        table = table.take(np.sort(np.random.default_rng(0).choice(len(table), MOST_ROWS, replace=False)))
    how: Any = "random" if schema.time is None else "time"
    splits = limit_train_rows(split_table(table, schema, how), max_train_rows, how)
    schema = with_drafted_buckets(schema, splits["train"])
    for split, part in splits.items():
        pq.write_table(part, folder / f"{split}.parquet")
    (folder / "schema.json").write_text(json.dumps(schema.to_dict()), encoding="utf-8")
    return splits, schema


def with_drafted_buckets(schema: Schema, train: pa.Table) -> Schema:
    """The schema with the buckets that a draft proposes for the numbers of the training rows."""
    numeric = [field.column for field in schema.fields if field.kind == "numeric"]
    clicks = train.column(schema.label).to_numpy().astype(np.float64)
    options: dict[str, dict[str, Any]] = {}
    for profile in profile_columns(train.select(numeric)):
        rank_alone(profile, clicks)
        choose_buckets(profile, clicks)
        options[profile.name] = {name: profile.options[name] for name in BUCKETS if name in profile.options}
    fields = tuple(replace(field, **options.get(field.column, {})) for field in schema.fields)
    return replace(schema, fields=fields)


def baseline_scores(baseline: Baseline, splits: dict[str, pa.Table], label: str) -> np.ndarray:
    """Train a baseline with its defaults, calibrate it like the backbone, and score the test rows."""
    clicks = {name: splits[name].column(label).to_numpy() for name in ("train", "validation")}
    train = baseline.fit_features(splits["train"], clicks["train"])
    validation = baseline.features(splits["validation"])
    baseline.fit(train, clicks["train"], (validation, clicks["validation"]), "auc")
    baseline.calibrate(validation, clicks["validation"])
    return baseline.predict(splits["test"])


def figures(probabilities: np.ndarray, clicks: np.ndarray) -> dict[str, float]:
    """AUC and log loss with their standard errors over the rows."""
    found = auc_and_log_loss(probabilities, clicks)
    intervals = ClickIntervals().compute(predictions=probabilities, references=clicks)
    return {
        **found,
        "auc_error": (intervals["auc_high"] - intervals["auc_low"]) / 2 / _HALF_WIDTH,
        "log_loss_error": (intervals["log_loss_high"] - intervals["log_loss_low"]) / 2 / _HALF_WIDTH,
    }


def tabulate(output_dir: Path) -> str:
    """Tabulate test AUC and log loss of all finished cells, and by how much the backbone misses.

    The backbone holds on a table if it is within one standard error of the best baseline in AUC and in log loss.
    """
    lines = ["| table, training rows | " + " | ".join(MODELS) + " | standard error | the backbone |"]
    lines.append("|---" * (len(MODELS) + 3) + "|")
    paths = [output_dir / f"{name}-{size}" / "results.json" for name in FILES for size in SIZES]
    for cell in (json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()):
        models = cell["models"]
        cells = [f"{models[model]['auc']:.4f}; {models[model]['log_loss']:.4f}" for model in MODELS]
        best_auc = max((models[model] for model in MODELS[1:]), key=lambda found: found["auc"])
        best_loss = min((models[model] for model in MODELS[1:]), key=lambda found: found["log_loss"])
        own = models[BACKBONE]
        misses = []
        if (behind := best_auc["auc"] - own["auc"]) > best_auc["auc_error"]:
            misses.append(f"AUC {behind:.4f} behind")
        if (above := own["log_loss"] - best_loss["log_loss"]) > best_loss["log_loss_error"]:
            misses.append(f"log loss {above:.4f} above")
        errors = f"{best_auc['auc_error']:.4f}; {best_loss['log_loss_error']:.4f}"
        verdict = ", ".join(misses) or "holds"
        lines.append(f"| {cell['table']}, {cell['train_rows']:,} | {' | '.join(cells)} | {errors} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
