# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Stage 2: finetune for clicks, with or without the PLM.

After PA-MLM, on the same split, which is checked:

    clickprompt finetune --model_name_or_path OUT --data_path ml-1m.zip --output_dir OUT_CTR
    clickprompt finetune --model_name_or_path OUT --data_path ml-1m.zip --without_plm --output_dir OUT_PLAIN

Without PA-MLM, and a backbone alone:

    clickprompt finetune --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 \\
        --plm_name_or_path scratch-small --plm_learning_rate 5e-4 --output_dir OUT_FRESH
    clickprompt finetune --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 --ctr_only \\
        --per_device_train_batch_size 1024 --output_dir OUT_ALONE

A backbone alone that also learns from the logits of a finished model with the PLM:

    clickprompt finetune --data_path ml-1m.zip --backbone dcnv2 --ctr_only --distill_from OUT_CTR \\
        --per_device_train_batch_size 1024 --output_dir OUT_DISTILLED

A finished checkpoint on another table, whose new users and items get new ids:

    clickprompt finetune --model_name_or_path OUT_CTR --extend_vocabulary --dataset csv --data_path new.csv \\
        --output_dir OUT_NEW

For several processes: accelerate launch -m clickprompt_hf.runs.finetune, with the same flags.
Ends with AUC and log loss on the test split, in all_results.json of the output folder.
"""

from functools import partial

import numpy as np
from transformers import set_seed

from ..configuration_clickprompt import ClickPromptConfig
from ..evaluation.model_card import run_card
from ..evaluation.plots import save_test_plots, save_training_plots
from ..evaluation.report import (
    IGNORED_IN_TEST,
    click_report,
    field_column,
    load_baseline_probabilities,
    probabilities_by_model,
    save_test_scores,
    warn_of_other_training_rows,
)
from ..modeling_clickprompt import ClickPromptForCTR
from ..processing_clickprompt import ClickPromptProcessor
from ..training import ClickPromptTrainer, ClickPromptTrainingArguments
from ..training.calibration import calibrate, warn_of_worse_than_constant
from ..training.time_estimate import TimeEstimateCallback
from .arguments import (
    CalibrationArguments,
    ClickReportArguments,
    DataArguments,
    ModelArguments,
    StartArguments,
    TrainingParser,
)
from .command import run_command
from .idle_arguments import warn_of_idle_arguments
from .model_building import check_lower_layers, fresh_model, load_checkpoint, load_model
from .output_folder import check_output_dir, remove_earlier_run
from .preparation import PreparedData, prepare_data
from .table_defaults import choose_by_rows
from .teacher import Teacher, check_student, load_teacher, remove_teacher_logits, with_teacher_logits


def make_parser() -> TrainingParser:
    """The parser of `clickprompt finetune`."""
    parts = (StartArguments, ModelArguments, CalibrationArguments, DataArguments, ClickReportArguments)
    return TrainingParser("finetune", __doc__, (*parts, ClickPromptTrainingArguments))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Finetune and test a model; return the metrics.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the data is wrong.
        OSError: If a file, a folder or a model is missing.
        ImportError: If an extra is missing.
    """
    # 1. Arguments.
    parser = make_parser()
    start, model_args, calibration, data_args, report_args, training_args = parser.parse(arguments)
    check_start(start, model_args)
    check_output_dir(training_args)

    # 2. Data: raw rows to splits, vocabularies, token tables; split and vocabularies are the checkpoint's, if any, and
    # those of the teacher, if any.
    checkpoint, processor, teacher = load_start(start, model_args)
    taught_by = None if teacher is None else teacher.config
    check_lower_layers(training_args, model_args, checkpoint)
    warn_of_idle_arguments(model_args, data_args, training_args, checkpoint, teacher=taught_by)
    data = prepare_data(
        data_args, training_args, model_args, checkpoint, processor, start.extend_vocabulary, teacher=taught_by
    )
    baseline = checked_baseline(report_args, data)
    if teacher is not None:
        data = with_teacher_logits(data, teacher, training_args)

    # 3. Model: the checkpoint's trunk with fresh heads, or a fresh model on the PLM, or a backbone alone.
    set_seed(training_args.seed)
    if checkpoint is None:
        alone_args = training_args if model_args.plm_name_or_path is None else None
        choose_by_rows(model_args, data, alone_args, parser.named, is_silent=training_args.process_index > 0)
        model = fresh_model(ClickPromptForCTR, model_args, data, training_args)
    else:
        grown = data.processor.field_sizes if start.extend_vocabulary else None
        model = load_model(ClickPromptForCTR, start.model_name_or_path, checkpoint, training_args, grown)
        if start.extend_vocabulary:
            model.config.training_data = data.training_data

    # 4. Train, keep the epoch with the best validation AUC, calibrate and test it.
    evaluated = data.evaluated(data.splits["validation"])
    rows_after = len(data.splits["test"]) + len(data.splits["validation"])
    trainer = ClickPromptTrainer(
        model,
        training_args,
        train_dataset=data.splits["train"],
        eval_dataset=evaluated,
        processing_class=data.processor,
        callbacks=[TimeEstimateCallback(rows_after, eval_rows=len(evaluated))],
        model_card=run_card if teacher is None else partial(run_card, teacher=teacher.public_name),
    )
    trainer.cache_texts({id(rows): rows for rows in (*data.splits.values(), evaluated)}.values())
    remove_earlier_run(training_args)
    result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    fit = calibrate(trainer, data.splits["validation"]) if calibration.calibrate else {}
    warn_of_worse_than_constant(trainer, data.splits["validation"] if fit else evaluated, fit)
    metrics = {**result.metrics, **fit, **evaluate_test_split(trainer, data, report_args, baseline)}

    # 5. Save: model card, weights. --push_to_hub publishes them.
    trainer.log_metrics("all", metrics)
    trainer.run_metrics = metrics
    trainer.create_model_card()
    trainer.save_model()
    trainer.save_metrics("all", metrics, combined=False)
    if training_args.local_process_index == 0:
        remove_teacher_logits(training_args)
    return metrics


def check_start(start: StartArguments, model_args: ModelArguments) -> None:
    """Reject arguments that name no model to start from, or several.

    Raises:
        ValueError: If they do.
    """
    if sum((start.model_name_or_path is not None, model_args.plm_name_or_path is not None, start.ctr_only)) != 1:
        raise ValueError("give exactly one of --model_name_or_path, --plm_name_or_path and --ctr_only")
    if start.without_plm and start.model_name_or_path is None:
        raise ValueError("--without_plm needs --model_name_or_path; to train a fresh backbone alone, pass --ctr_only")
    if start.extend_vocabulary and start.model_name_or_path is None:
        raise ValueError("--extend_vocabulary needs --model_name_or_path, whose vocabulary it extends")
    if start.distill_from is not None and start.extend_vocabulary:
        raise ValueError("--distill_from must be left out with --extend_vocabulary: the teacher knows no new ids")
    if start.distill_from is not None and model_args.plm_name_or_path is not None:
        raise ValueError("--distill_from trains a model without a PLM: pass --ctr_only instead of --plm_name_or_path")


def load_start(
    start: StartArguments, model_args: ModelArguments
) -> tuple[ClickPromptConfig | None, ClickPromptProcessor | None, Teacher | None]:
    """Load what training starts from: the checkpoint's configuration, the processor and the teacher, if any.

    The processor is the teacher's if there is one, as it reads the text for the teacher, else the checkpoint's.

    Raises:
        ValueError: If an option contradicts the checkpoint or the teacher, or they do not fit each other.
        OSError: If one of them is missing.
    """
    checkpoint, processor, teacher = None, None, None
    if start.distill_from is not None:
        teacher = load_teacher(start.distill_from, model_args)
    if start.model_name_or_path is not None:
        checkpoint, processor = load_checkpoint(
            start.model_name_or_path, model_args, not start.without_plm, start.extend_vocabulary
        )
        if teacher is not None:
            check_student(teacher, checkpoint, processor, start.model_name_or_path)
    return checkpoint, processor if teacher is None else teacher.processor, teacher


def checked_baseline(report_args: ClickReportArguments, data: PreparedData) -> np.ndarray | None:
    """Check what the report is asked for, before training; return the baseline's test probabilities (N,), if any.

    Raises:
        ValueError: If the report names an unknown field, or the baseline was tested on other rows.
        OSError: If there is no such baseline.
    """
    for argument in ("gauc_field", "frequency_fields"):
        given = getattr(report_args, argument)
        for name in [given] if isinstance(given, str) else given or ():
            field_column(data.processor, name, argument)
    if report_args.baseline_dir is None:
        return None
    baseline = load_baseline_probabilities(report_args.baseline_dir, data.splits["test"])
    warn_of_other_training_rows(report_args.baseline_dir, data.training_data)
    return baseline


def evaluate_test_split(
    trainer: ClickPromptTrainer, data: PreparedData, report_args: ClickReportArguments, baseline: np.ndarray | None
) -> dict[str, float]:
    """Score the test rows, save their probabilities and plots, and return the metrics.

    Args:
        trainer: Trainer of the trained model.
        data: The rows.
        report_args: What to report.
        baseline: Probabilities (N,) of another model to compare with.
    """
    train, test, output_dir = data.splits["train"], data.splits["test"], str(trainer.args.output_dir)
    predicted = trainer.predict(test, metric_key_prefix="test", ignore_keys=IGNORED_IN_TEST)
    by_model = probabilities_by_model(predicted.predictions, trainer.model.config, baseline)
    probabilities = next(iter(by_model.values()))
    report = click_report(
        probabilities,
        train,
        test,
        data.processor,
        report_args.gauc_field,
        report_args.frequency_fields,
        report_args.baseline_dir,
    )
    if trainer.is_world_process_zero():
        save_test_scores(output_dir, test, probabilities)
        if report_args.draws_plots:
            save_training_plots(output_dir, trainer.state.log_history, trainer.kept_step)
            save_test_plots(output_dir, by_model, train, test, data.processor, report_args.frequency_fields or ())
    return {**(predicted.metrics or {}), **{f"test_{name}": value for name, value in report.items()}}


if __name__ == "__main__":
    run_command("finetune", main)
