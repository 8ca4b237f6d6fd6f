# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Does a language model pay on this table? Train and test its alternatives on the same rows, and report.

    clickprompt compare --dataset csv --data_path table.csv --schema schema.yaml --split time \\
        --plm_name_or_path MODEL --text_fields title --output_dir OUT

Without a PLM:

    clickprompt compare --data_path table.csv --schema schema.yaml --output_dir OUT \\
        --arms logistic_regression gradient_boosting backbone

Each arm is tuned with the same number of trials, on validation rows, with the first seed, and then trained with each
seed. Ends with results.json, report.md and report.html in the output folder, and a verdict.
Run the same command again after an interruption: finished trials and seeds are kept. With --jobs N, N processes train
at a time, which share the cores and the GPU.
"""

import json
import os
import sys
import warnings
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from logging import LogRecord
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoConfig
from transformers.utils import logging

from ..comparison import write_report
from ..comparison.results import ARMS, PLM_ARMS, ROLES, Comparison
from ..comparison.segments import training_counts
from ..comparison.wording import METRIC_NAMES, listed
from ..configuration_clickprompt import SPLIT_FAMILIES, ClickPromptConfig
from ..data.arrow_cells import distinct_cells
from ..data.sources import FILE_FORMATS
from ..data.splits import choose_split_column, draw_validation_rows, split_source
from ..drafting.column_names import WORDS_OF_ROLES, is_named_after
from ..presets import preset_datasets
from ..schema_clickprompt import Schema
from ..training import ClickPromptTrainingArguments
from ..training.arguments import copy_arguments
from ..training.quiet_transformers import quiet_transformers
from ..warnings_clickprompt import filtered_logs
from ..whole_files import whole_file
from .arguments import CompareArguments, DataArguments, ModelArguments, TrainingParser
from .arm_processes import train_in_processes
from .arms import Arm, Bench, make_arm
from .arms.importance import importance_note
from .command import require, run_command
from .comparison_folder import claim_comparison, rows_file, rows_sha256
from .data_record import SPLIT_ARGUMENTS, resolve_data_arguments
from .paths import check_folder_or_hub_id
from .plms import SCRATCH_SIZES
from .preparation import PreparedData, prepare_data, warn_of_shared_rows
from .raw_rows import read_rows_of
from .table_defaults import choose_by_rows

logger = logging.get_logger(__name__)

# Prompts enter the last layers of a PLM that can be split; the states below them are computed once per text.
_LATE_LAYERS = 2
# Arguments of the data that a comparison refuses, and why.
_NOT_TAKEN = {
    "prepared": "the arms of a comparison need the raw rows. Pass their files or dataset.",
    "vector_fields": "arms without a PLM must not use one. The arm backbone_text_vectors reads the vector of "
    "--text_fields.",
    "text_encoder": "the arm backbone_text_vectors reads the vectors of --plm_name_or_path.",
}
# With fewer rows of a class, the figures are meaningless.
_LEAST_ROWS = 5


def make_parser() -> TrainingParser:
    """The parser of `clickprompt compare`."""
    parts = (CompareArguments, ModelArguments, DataArguments, ClickPromptTrainingArguments)
    parser = TrainingParser("compare", __doc__, parts)
    for action in parser._actions:
        if action.dest in _NOT_TAKEN:
            action.help = SUPPRESS
    # early stopping ends training before
    parser.set_defaults(
        num_train_epochs=10.0,
        plm_learning_rate=1e-4,
        per_device_eval_batch_size=1024,
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="epoch",
    )
    return parser


def main(arguments: list[str] | None = None) -> Any:
    """Compare arms; return the verdict.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the data is wrong.
        OSError: If a file, a folder or a model is missing.
        ImportError: If the extra is missing.
    """
    # 1. Arguments.
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "--scores" in given:
        raise ValueError("--scores compares files of scored rows: use clickprompt compare-scores")
    parser = make_parser()
    compare_args, model_args, data_args, training_args = parser.parse(arguments)
    require(["lightgbm", "optuna", "matplotlib"], "compare", "clickprompt compare")
    arms = chosen_arms(compare_args.arms, model_args.plm_name_or_path)
    model_args, late = with_late_prompts(model_args, training_args)
    folder = Path(str(training_args.output_dir))

    # 2. The same rows for all arms.
    tables, schema, own_splits = read_rows(data_args)
    hashes = {name: rows_sha256(table) for name, table in tables.items()}
    if claim_comparison(folder, given, hashes, training_args.overwrite_output_dir):
        print(f"{folder} holds this comparison: finished trials and seeds are kept.")
    split_column = None
    if data_args.split == "user" and not own_splits:
        split_column = choose_split_column(schema, tables["train"].column_names, data_args.split_column)
    data = prepare(folder, tables, schema, data_args, model_args, training_args, split_column)
    warn_of_shared_rows(data.splits, data_args.split or "random", own_splits)
    roles = role_fields(data.processor.schema, compare_args)
    # sizes for all models, evaluations for all trainings, and other settings for those without a PLM
    alone_args: Any = copy_arguments(training_args)
    choose_by_rows(model_args, data, alone_args, parser.named, plm_args=training_args)

    # 3. The arms, one after another or in several processes.
    bench = Bench(
        *(folder, tables, data, model_args, training_args, alone_args),
        num_trials=compare_args.trials,
        metric=compare_args.metric,
        num_seeds=compare_args.seeds,
        pamlm_epochs=compare_args.pamlm_epochs,
        say=partial(print, flush=True),
        text_vector_dir=data_args.text_vector_dir,
        chose_cache=late,
    )
    declined = [role for role in ROLES if getattr(compare_args, f"{role}_field") == "none"]
    introduce(bench, arms, roles, late, declined)
    # PA-MLM takes the size of the backbone from the arms without it
    in_order = sorted(arms, key=lambda arm: ("pamlm" in arm, list(ARMS).index(arm)))
    made = {arm: make_arm(arm, bench) for arm in in_order}
    if compare_args.jobs > 1:
        train_in_processes(bench, in_order, compare_args.jobs, quiet_training)
    else:
        with quiet_training():
            for arm in made.values():
                arm.run()

    # 4. The report.
    measured = {name: found for name, arm in made.items() if (found := arm.importance()) is not None}
    comparison = Comparison(
        title=title_of(data_args),
        settings=settings_of(bench, data_args, list(made.values()), split_column, compare_args.jobs),
        labels=bench.clicks["test"],
        train_counts={role: counts_in_training(data, f, tables["test"]) for role, f in roles.items()},
        runs=[run for arm in made.values() for run in arm.runs()],
        importance={name: drops for name, (_, drops) in measured.items()} or None,
        importance_note=importance_note(bench, {name: rows for name, (rows, _) in measured.items()}),
    )
    verdict = write_report(comparison, folder)
    print(f"{verdict.table}\n\n{verdict.text}")
    print(f"Report: {folder / 'report.html'}")
    return verdict


@contextmanager
def quiet_training() -> Iterator[None]:
    """Hide what each trial and seed would repeat."""
    with quiet_loading(), each_message_once():
        yield


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide what loading, saving and scoring would repeat for each trial and seed.

    That is the progress bars and reports of transformers, and the warnings about values, which preparation has shown.
    """
    with quiet_transformers(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(values in column .* are |count as missing)")
        yield


@contextmanager
def each_message_once() -> Iterator[None]:
    """Hide messages of the package that each trial and seed would repeat, such as the size of batches."""
    seen: set[str] = set()

    def is_new(record: LogRecord) -> bool:
        message = record.getMessage()
        is_known = message in seen
        seen.add(message)
        return not is_known

    modules = ("training.trainer", "training.text_caching", "data.text_states")
    with filtered_logs([f"clickprompt_hf.{module}" for module in modules], is_new):
        yield


def chosen_arms(given: list[str] | None, plm: str | None) -> list[str]:
    """The arms to train, in the order of `ARMS`.

    Raises:
        ValueError: If an arm needs a PLM and there is none.
    """
    if given is None:
        chosen = [arm for arm in ARMS if plm is not None or arm not in PLM_ARMS]
        # vectors of fresh weights are meaningless
        return [arm for arm in chosen if not (arm == "backbone_text_vectors" and plm in SCRATCH_SIZES)]
    if plm is None and (needing := [arm for arm in given if arm in PLM_ARMS]):
        raise ValueError(f"`--arms` {' '.join(needing)} need a PLM: pass --plm_name_or_path.")
    if plm in SCRATCH_SIZES and "backbone_text_vectors" in given:
        raise ValueError(
            f"`--arms` backbone_text_vectors needs a pretrained PLM, got {plm}: vectors of a randomly initialized "
            "one are meaningless."
        )
    return [arm for arm in ARMS if arm in given]


def with_late_prompts(
    model_args: ModelArguments, training_args: ClickPromptTrainingArguments
) -> tuple[ModelArguments, bool]:
    """Choose late prompts over cached states if the PLM's family allows them and no flag says otherwise.

    Encoders are then pooled by the mean, unless `--pooling` says otherwise: it had a lower log loss than [CLS] on the
    validation rows of three tables.

    Returns:
        The model arguments, and whether late prompts were chosen. `training_args.cache_text_states` is set then.
    """
    plm = model_args.plm_name_or_path
    if plm is None or plm in SCRATCH_SIZES:
        return model_args, False
    decided = (model_args.prompt_depth, model_args.prompt_strategy, training_args.freeze_lower_layers)
    if any(value is not None for value in decided) or training_args.cache_text_states:
        return model_args, False
    check_folder_or_hub_id(plm, "plm_name_or_path")
    config = AutoConfig.from_pretrained(plm)
    if config.model_type not in SPLIT_FAMILIES or config.num_hidden_layers <= _LATE_LAYERS:
        return model_args, False
    training_args.cache_text_states = True
    late: Any = {"prompt_depth": _LATE_LAYERS}
    if model_args.pooling is None and not ClickPromptConfig(text_config=config).causal:
        late["pooling"] = "mean"
    return replace(model_args, **late), True


def read_rows(data_args: DataArguments) -> tuple[dict[str, pa.Table], Schema, list[str]]:
    """Read and split the rows, and check that there are enough.

    Returns:
        Raw rows by split, their schema, and the names of the splits that the data came with. Texts of the schema with
        `as: vector` are plain texts: the arms differ in how they use a PLM.

    Raises:
        ValueError: If the data or an argument is wrong, or a split has hardly any rows of a class.
        OSError: If a file is missing or broken.
    """
    for name, reason in _NOT_TAKEN.items():
        if (given := getattr(data_args, name)) is not None:
            shown = given if isinstance(given, str) else " ".join(given)
            raise ValueError(f"`--{name}` must be left out, got {shown}: {reason}")
    if data_args.stream:
        raise ValueError("`--stream` must be false or left out: the arms of a comparison read the rows into memory.")
    resolved = resolve_data_arguments(data_args, None)
    source = read_rows_of(data_args, resolved)
    tables = split_source(source, **{name: resolved[name] for name in SPLIT_ARGUMENTS})
    own_splits = list(source.table) if isinstance(source.table, dict) else []
    schema = source.schema
    if as_vectors := [field.key for field in schema.fields if field.as_vector]:
        logger.warning(
            f"`as: vector` of {as_vectors} is ignored: arms without a PLM must not use one. The arm "
            "backbone_text_vectors reads the vector of the row's text."
        )
        plain = [
            replace(field, as_vector=False, in_text=True) if field.kind == "text" else field
            for field in schema.fields
            if not field.columns
        ]
        schema = replace(schema, fields=tuple(plain))
    validation, most = tables["validation"], data_args.max_eval_rows
    if most is not None and most < len(validation):
        rows = draw_validation_rows(validation.column(schema.label).to_numpy(), most, resolved["split_seed"])
        tables["validation"] = validation.take(pa.array(rows))
    for name, table in tables.items():
        counts = np.bincount(table.column(schema.label).to_numpy(), minlength=2)
        if counts.min() < _LEAST_ROWS:
            raise ValueError(
                f"The {name} split must have at least {_LEAST_ROWS} rows of each class to compare arms, got "
                f"{counts[1]} with a click and {counts[0]} without. Use more rows."
            )
    return tables, schema, own_splits


def prepare(
    folder: Path,
    tables: dict[str, pa.Table],
    schema: Schema,
    data_args: DataArguments,
    model_args: ModelArguments,
    training_args: ClickPromptTrainingArguments,
    was_split_by: str | None,
) -> PreparedData:
    """Keep the rows in the output folder, and encode them from there as `clickprompt finetune` would."""
    files = {name: rows_file(folder, name) for name in tables}
    rows = rows_file(folder, "train").parent
    rows.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        if not path.is_file():
            with whole_file(path) as partial:
                pq.write_table(tables[name], partial)
    with whole_file(rows / "schema.json") as partial:
        # labels are 0 and 1 by now, and tables are joined: the models that are kept join them when they score
        tables_of_schema = tuple(replace(table, file=_path_from(rows, table.file)) for table in schema.tables)
        written = replace(schema, positive=None, csv=None, tables=tables_of_schema).to_dict()
        partial.write_text(json.dumps(written, indent=2, ensure_ascii=False), encoding="utf-8")
    of_files = DataArguments(
        dataset="parquet",
        **{f"{name}_file": [str(path)] for name, path in files.items()},  # type: ignore[arg-type]
        schema=str(rows / "schema.json"),
        min_count=data_args.min_count,
        max_text_length=data_args.max_text_length,
        text_fields=data_args.text_fields,
    )
    if model_args.preset is None and data_args.dataset in preset_datasets():
        model_args.preset = data_args.dataset
    return prepare_data(of_files, training_args, model_args, was_split_by=was_split_by)


def _path_from(folder: Path, file: str) -> str:
    """The path of a file from a folder, so that no absolute path is kept unless they are on different drives."""
    try:
        return os.path.relpath(os.path.realpath(file), os.path.realpath(folder))
    except ValueError:
        return os.path.realpath(file)


def role_fields(schema: Schema, compare_args: CompareArguments) -> dict[str, int]:
    """Index of the user's and the item's field, given or guessed from the names of columns.

    Raises:
        ValueError: If a given field is not in the schema.
    """
    found = {}
    for role in ROLES:
        given = getattr(compare_args, f"{role}_field")
        if given == "none":
            continue
        if given is not None:
            known = [field.column for field in schema.fields if field.num_columns]
            if given not in known:
                raise ValueError(
                    f"`--{role}_field` must be one of the fields with ids, {known}, or none, got {given!r}."
                )
            found[role] = schema.columns.index(given)
            continue
        candidates = [f for f, field in enumerate(schema.fields) if field.kind == "categorical"]
        guessed = next(
            (f for word in WORDS_OF_ROLES[role] for f in candidates if is_named_after(word, schema.columns[f])),
            None,
        )
        if guessed is not None:
            found[role] = guessed
    return found


def counts_in_training(data: PreparedData, field_index: int, test: pa.Table) -> np.ndarray:
    """Number of training rows with each raw test row's value of a field, -1 if it is missing: (N,)."""
    train, test_ids = (data.splits[name].value_ids[:, field_index] for name in ("train", "test"))  # type: ignore[index]
    values, indices = distinct_cells([test.column(data.processor.schema.columns[field_index])])
    return training_counts(train, test_ids, data.processor.missing_cells(field_index, values)[indices])


def introduce(bench: Bench, arms: list[str], roles: dict[str, int], late: bool, declined: Sequence[str] = ()) -> None:
    """Print what will be compared, and with how much effort.

    Args:
        bench: What the arms share.
        arms: Names of the arms.
        roles: As `role_fields` returns them.
        late: Whether late prompts were chosen.
        declined: Roles that the table was said to lack.
    """
    sizes = ", ".join(f"{len(table):,} {name}" for name, table in bench.tables.items())
    bench.say(f"Rows: {sizes}. Click rate of the training rows: {bench.clicks['train'].mean():.4f}.")
    trials = f"{bench.num_trials} trials each, ranked" if bench.num_trials > 1 else "No tuning, early stopping"
    bench.say(
        f"Arms: {', '.join(arms)}. {trials} by {METRIC_NAMES[bench.metric]} on validation rows; {bench.num_seeds} "
        f"{'seed' if bench.num_seeds == 1 else 'seeds'}, from {bench.seeds[0]}."
    )
    fields = bench.data.processor.schema.fields
    for role in ROLES:
        if role in roles:
            bench.say(f"The {role} is {fields[roles[role]].column}. Change it with --{role}_field.")
    if unknown := [role for role in ROLES if role not in roles and role not in declined]:
        flags = listed([f"--{role}_field" for role in unknown], "or")
        known = ", ".join(dict.fromkeys(field.column for field in fields if field.kind == "categorical"))
        bench.say(
            f"No {listed(unknown, 'or')} column was found, so the report will have no results for unseen, rare and "
            f"frequent {listed([f'{role}s' for role in unknown])}. If the table has one, name it with {flags}, one of "
            f"{known}; with none, this message goes away."
        )
    # frozen vectors come from the last layer, without prompts
    if late and not {*arms}.isdisjoint({*PLM_ARMS} - {"backbone_text_vectors"}):
        bench.say(
            f"Prompts enter the PLM's last {_LATE_LAYERS} layers; the layers below run once per text. "
            "--prompt_depth changes this, --pooling how text states are pooled."
        )


def title_of(data_args: DataArguments) -> str:
    """What the report calls the table: its dataset, or the names of its files."""
    files = data_args.data_path or data_args.train_file or ()
    if data_args.dataset and (data_args.dataset not in FILE_FORMATS or not files):
        return str(data_args.dataset)
    return " ".join(Path(file).name for file in files)


def settings_of(
    bench: Bench,
    data_args: DataArguments,
    arms: Sequence[Arm],
    split_column: str | None = None,
    num_processes: int = 1,
) -> dict[str, Any]:
    """The settings in the head of the report: those that apply to some arm."""
    split = data_args.split or "random"
    settings: dict[str, Any] = {
        "split": split if split_column is None else f"{split}, by {split_column}",
        "rows": {name: f"{len(table):,}" for name, table in bench.tables.items()},
        "backbone": bench.model_args.fresh_backbone,
        "trials per arm": bench.num_trials,
        "metric of tuning and early stopping": METRIC_NAMES[bench.metric],
        "seeds": bench.seeds,
        "precision": "bf16" if bench.training_args.bf16 else "fp32",
    }
    if num_processes > 1:
        settings["processes at a time"] = f"{num_processes}; they slow each other down, so costs are rough"
    if bench.model_args.plm_name_or_path is not None:
        schema = bench.data.processor.schema
        # the name of a folder alone may be "model"
        plm = Path(bench.model_args.plm_name_or_path)
        settings["PLM"] = "/".join(plm.relative_to(plm.anchor).parts[-2:])
        settings["text"] = [schema.fields[f].name for f in schema.fields_in_text]
    if any(arm.with_plm or arm.starts_from_pamlm for arm in arms):
        settings["number of last layers with prompts"] = bench.model_args.prompt_depth or "all"
        settings["pooling"] = bench.model_args.pooling or "default"
        settings["learning rate of the PLM"] = bench.training_args.plm_learning_rate
    if any(arm.starts_from_pamlm for arm in arms):
        settings["PA-MLM epochs"] = bench.pamlm_epochs
    return settings


if __name__ == "__main__":
    run_command("compare", main)
