# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""PA-MLM of a comparison: one checkpoint per seed, for all arms that start from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, set_seed

from ...training import ClickPromptTrainer, ClickPromptTrainingArguments
from ...training.arguments import copy_arguments
from ...training.checkpoints import newest_whole_checkpoint
from ...training.text_caching import caching_pays, num_variants
from ...training.unwrapping import task_of
from ...whole_files import whole_folder
from ..model_building import fresh_pretraining_model
from ..tuning import finished_search
from .bench import Bench


def pamlm_checkpoint(bench: Bench, seed: int) -> Path:
    """Train PA-MLM on the training and validation rows with a seed, unless it is done, and return its folder.

    The backbone's embedding size is the one that tuning chose for `clickprompt`, or else for `backbone`, if these arms
    were tuned before.
    """
    folder = bench.folder / "pamlm" / f"seed-{seed}"
    if folder.is_dir():
        return folder
    running = bench.folder / "pamlm" / f"_seed-{seed}"
    args = arguments_for(bench, bench.training_args, running, seed)
    args.num_train_epochs, args.lr_scheduler_type, args.warmup_steps = bench.pamlm_epochs, "cosine", 0.05
    args.load_best_model_at_end, args.early_stopping_patience, args.metric_for_best_model = False, 0, None
    args.eval_strategy = "no"
    size = _tuned_embedding_size(bench)
    options: dict[str, Any] = {} if size is None else {"embedding_size": size}
    model_args = replace(bench.model_args, **options)
    set_seed(seed)
    train, _ = bench.data.pamlm_splits(args.masking)
    bench.say(f"PA-MLM, seed {seed}: {len(train):,} rows, {bench.pamlm_epochs:g} epochs")
    model = fresh_pretraining_model(model_args, bench.data)
    variants = num_variants(args.masked_variants, task_of(model))
    if bench.chose_cache and not caching_pays(train, args.num_train_epochs, variants):
        # each seed would write masked variants that hardly any row reads
        args.cache_text_states, args.freeze_lower_layers = False, True
    trainer = ClickPromptTrainer(
        *(model, args),
        train_dataset=train,
        eval_dataset=bench.data.splits["validation"],
        processing_class=bench.data.processor,
    )
    trainer.remove_callback(PrinterCallback)
    resumed = newest_whole_checkpoint(running)
    result = trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    with whole_folder(folder) as partial:
        trainer.model.save_pretrained(partial)
        bench.data.processor.save_pretrained(partial)
        seconds = {"train_seconds": result.metrics["train_runtime"]}
        (partial / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    shutil.rmtree(running, ignore_errors=True)
    return folder


def pamlm_seconds(bench: Bench, seed: int) -> float:
    """Seconds that PA-MLM trained."""
    path = pamlm_checkpoint(bench, seed) / "seconds.json"
    return float(json.loads(path.read_text(encoding="utf-8"))["train_seconds"])


def arguments_for(
    bench: Bench, given: ClickPromptTrainingArguments, folder: Path, seed: int, **options: Any
) -> ClickPromptTrainingArguments:
    """Training arguments for one training, with its own output folder."""
    args: Any = copy_arguments(given)
    options = {
        **{"output_dir": str(folder), "seed": seed, "metric_for_best_model": bench.metric},
        **{"greater_is_better": bench.metric == "auc", "resume_from_checkpoint": None},
        **{"text_state_dir": args.text_state_dir or str(bench.folder / "_text_states")},
        **options,
    }
    for name, value in options.items():
        setattr(args, name, value)
    return args


def _tuned_embedding_size(bench: Bench) -> int | None:
    for name in ("clickprompt", "backbone"):
        best = finished_search(bench.arm_folder(name) / "trials", bench.num_trials, bench.metric == "auc")
        if best is not None:
            return best.get("embedding_size")
    return None
