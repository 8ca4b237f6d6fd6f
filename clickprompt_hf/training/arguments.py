# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Command-line arguments of the training scripts."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

FREEZABLE_PARTS = ("plm", "ctr", "prompt_encoder")


@dataclass
class ClickPromptTrainingArguments(TrainingArguments):
    """`TrainingArguments` with a learning rate of the PLM's own, and the defaults of finetuning for clicks.

    Evaluates and saves every epoch, keeps the best checkpoint by validation AUC and stops when it has not risen for
    `early_stopping_patience` evaluations.

    Raises:
        ValueError: If a rate or the patience is negative, a part to freeze is unknown, workers would outlive an
            epoch, labels shall be smoothed or rows sampled in another order, training shall stop early without
            choosing a best checkpoint, or checkpoints shall be pushed.
    """

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Learning rate of everything but the PLM and its LM head."}
    )
    masking: Literal["token", "field"] = field(
        default="token", metadata={"help": "What PA-MLM masks: single tokens, or whole values of fields."}
    )
    mlm_probability: float = field(
        default=0.15, metadata={"help": "Share of text tokens, or of values, that PA-MLM masks."}
    )
    plm_learning_rate: float = field(
        default=5e-5, metadata={"help": "Learning rate of the PLM and its LM head; 0 freezes them."}
    )
    freeze: list[str] | None = field(
        default=None, metadata={"help": "Parts that are not trained: any of plm, ctr (the backbone), prompt_encoder."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention kernels of the PLM, as transformers names them: sdpa, eager, ... By default those of "
            "the model, except eager in bf16 on CPUs, where it is the fastest."
        },
    )
    sparse_embedding_updates: bool = field(
        default=False,
        metadata={
            "help": "Update only the feature embeddings that a batch reads: a step's time no longer grows with the "
            "vocabulary. Rows that a batch does not read keep their moments (lazy Adam)."
        },
    )
    early_stopping_patience: int = field(
        default=2, metadata={"help": "Evaluations without a better metric before training stops; 0 never stops."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Whether a resumed run goes on with early stopping's count."}
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Train into `output_dir` even if it holds a finished run."}
    )
    lr_scheduler_type: str = field(
        default="constant",
        metadata={"help": "Schedule of the learning rates. Early stopping knows no end to decay towards."},
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch or best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints that are kept."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Whether to end with the best checkpoint."})
    metric_for_best_model: str | None = field(default="auc", metadata={"help": "Metric that chooses the best one."})
    greater_is_better: bool | None = field(default=None, metadata={"help": "Whether that metric should be high."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Rows of an evaluation batch, a device."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Drop columns that forward does not take; our data sets have none."}
    )
    hub_license: str | None = field(
        default=None,
        metadata={"help": "Licence of the weights in the model card, as the Hub spells it: apache-2.0, cc-by-nc-4.0"},
    )
    hub_strategy: str = field(
        default="end", metadata={"help": "When --push_to_hub pushes: end. The other strategies push pickles."}
    )
    report_to: None | str | list[str] = field(default="tensorboard", metadata={"help": "Where training is logged."})
    logging_steps: float = field(default=100, metadata={"help": "Steps between two logs."})

    def __post_init__(self):
        for name in ("learning_rate", "plm_learning_rate", "early_stopping_patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if unknown := sorted(set(self.freeze or ()) - set(FREEZABLE_PARTS)):
            raise ValueError(f"`freeze` must name some of {list(FREEZABLE_PARTS)}, got {unknown}.")
        if self.dataloader_persistent_workers:
            raise ValueError(
                "`dataloader_persistent_workers` must be False: masks change with the epoch, which workers that "
                "outlive it would not see."
            )
        if self.hub_strategy != "end":
            raise ValueError(
                "`hub_strategy` must be 'end': the others push pickles, of the arguments or of optimizer states; got "
                f"{self.hub_strategy!r}."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` must be 0: Trainer smooths over the logits of classes, and no head gives it "
                f"any; got {self.label_smoothing_factor}."
            )
        if self.train_sampling_strategy not in ("random", "group_by_length"):
            raise ValueError(
                "`train_sampling_strategy` must be 'random' or 'group_by_length': the order of rows is a function of "
                f"(seed, epoch); got {self.train_sampling_strategy!r}."
            )
        if str(self.resume_from_checkpoint).lower() in ("true", "false"):
            # a command line has strings only; Trainer looks for the last checkpoint where it is True
            resume: Any = str(self.resume_from_checkpoint).lower() == "true"
            self.resume_from_checkpoint = resume or None
        if self.lr_scheduler_type == "constant" and self.warmup_steps:
            # which would ignore the warm-up
            self.lr_scheduler_type = "constant_with_warmup"
        if not torch.accelerator.is_available():
            self.use_cpu = True
        if self.load_best_model_at_end and "no" in (str(self.eval_strategy), str(self.save_strategy)):
            self.load_best_model_at_end = False
        super().__post_init__()
        if not self.load_best_model_at_end:
            if self.early_stopping_patience not in (0, type(self).early_stopping_patience):
                raise ValueError(
                    "`early_stopping_patience` must be left out without `load_best_model_at_end`, which needs "
                    f"evaluation and saving: nothing would stop; got {self.early_stopping_patience}."
                )
            self.early_stopping_patience = 0
