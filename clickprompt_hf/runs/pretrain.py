# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Stage 1: prompt-augmented masked language modeling (PA-MLM), or causal (PA-CLM) if the PLM is a decoder.

    clickprompt pretrain --dataset ml-1m --data_path ml-1m.zip --backbone dcnv2 \\
        --plm_name_or_path scratch-small --plm_learning_rate 5e-4 --prompt_length 5 \\
        --per_device_train_batch_size 32 --num_train_epochs 3 --output_dir OUT

For several processes: accelerate launch -m clickprompt_hf.runs.pretrain, with the same flags.
Trains on training and validation rows, so the validation figures are in-sample; the test rows stay unseen.
Then finetune OUT with clickprompt finetune.
"""

from transformers import set_seed

from ..evaluation.model_card import run_card
from ..evaluation.plots import save_training_plots
from ..training import ClickPromptTrainer, ClickPromptTrainingArguments
from ..training.time_estimate import TimeEstimateCallback
from .arguments import DataArguments, ModelArguments, ReportArguments, TrainingParser
from .command import run_command
from .idle_arguments import warn_of_idle_arguments
from .model_building import check_lower_layers, fresh_pretraining_model
from .output_folder import check_output_dir, remove_earlier_run
from .preparation import prepare_data
from .table_defaults import choose_by_rows


def make_parser() -> TrainingParser:
    """The parser of `clickprompt pretrain`."""
    parts = (ModelArguments, DataArguments, ReportArguments, ClickPromptTrainingArguments)
    parser = TrainingParser("pretrain", __doc__, parts)
    # the last epoch is kept: validation rows are trained on, so they cannot choose one
    parser.set_defaults(load_best_model_at_end=False, lr_scheduler_type="cosine", warmup_steps=0.05)
    return parser


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Pretrain a model; return the metrics.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the data is wrong.
        OSError: If a file, a folder or a model is missing.
        ImportError: If an extra is missing.
    """
    # 1. Arguments.
    model_args, data_args, report_args, training_args = make_parser().parse(arguments)
    if model_args.plm_name_or_path is None:
        raise ValueError("--plm_name_or_path is required: a Hub id, a folder, scratch-tiny or scratch-small")
    check_output_dir(training_args)
    check_lower_layers(training_args, model_args, None)
    warn_of_idle_arguments(model_args, data_args, training_args, pretraining=True)

    # 2. Data: raw rows to splits, vocabularies, token tables.
    data = prepare_data(data_args, training_args, model_args)
    train_rows, validation_rows = data.pamlm_splits(training_args.masking)

    # 3. Model: a fresh backbone and prompt encoder on the PLM.
    set_seed(training_args.seed)
    choose_by_rows(model_args, data, is_silent=training_args.process_index > 0)
    model = fresh_pretraining_model(model_args, data, training_args)

    # 4. Train, evaluate, save. --push_to_hub publishes what is saved.
    trainer = ClickPromptTrainer(
        model,
        training_args,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=data.processor,
        # evaluates once more when training has ended
        callbacks=[TimeEstimateCallback(len(validation_rows), eval_rows=len(validation_rows))],
        model_card=run_card,
    )
    trainer.cache_texts([train_rows, validation_rows])
    remove_earlier_run(training_args)
    result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    metrics = {**result.metrics, **trainer.evaluate()}
    if report_args.draws_plots and trainer.is_world_process_zero():
        save_training_plots(
            training_args.output_dir, trainer.state.log_history, trainer.kept_step, validation="validation (in-sample)"
        )
    trainer.log_metrics("pamlm (validation rows are in-sample)", metrics)
    trainer.run_metrics = metrics
    trainer.create_model_card()
    trainer.save_model()
    trainer.save_metrics("all", metrics, combined=False)
    return metrics


if __name__ == "__main__":
    run_command("pretrain", main)
