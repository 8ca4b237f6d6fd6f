# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training arguments."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import TrainingArguments
from transformers.integrations import is_tensorboard_available
from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames

from ..data.number_ranges import LARGEST_SEED, NumberRange, check_numbers
from ..data.text_states import StateType, check_state_type
from .batch_size import DEFAULT_BATCH_SIZE, UnsetBatchSize
from .distillation import TEMPERATURES, WEIGHTS

FeatureDropoutKind = Literal["none", "unseen"]
FREEZABLE_PARTS = ("plm", "ctr", "prompt_encoder")
_ONLY_END = "must be 'end': the other strategies push pickles of arguments or optimizers"
_SINGLE_RATE = "it updates weights during the backward pass, with one learning rate and without weight decay groups"
_IN_HOOKS = (
    "it updates weights in hooks of the backward pass, before gradients are clipped, its state is not saved, and the "
    "hooks stay on the model"
)
# values of `optim` that cannot follow the rates and decay of optimizer.py, and why
REFUSED_OPTIMIZERS = {
    OptimizerNames.LOMO: _SINGLE_RATE,
    OptimizerNames.ADALOMO: _SINGLE_RATE,
    OptimizerNames.GALORE_ADAMW_LAYERWISE: _IN_HOOKS,
    OptimizerNames.GALORE_ADAMW_8BIT_LAYERWISE: _IN_HOOKS,
    OptimizerNames.GALORE_ADAFACTOR_LAYERWISE: _IN_HOOKS,
    OptimizerNames.APOLLO_ADAMW_LAYERWISE: _IN_HOOKS,
}
_COUNT = NumberRange(1, whole=True)
_OPTIONAL_COUNT = NumberRange(1, whole=True, also=(None,))
# below 1: a share of all steps
_STEPS = NumberRange(0, above=True)
_RATE = NumberRange(0, 100)
_BETA = NumberRange(0, 1, below=True)
# Ranges of the numbers; transformers checks few of its own. Larger rates and decays only diverge.
RANGES: dict[str, NumberRange] = {
    "learning_rate": _RATE,
    "plm_learning_rate": _RATE,
    "weight_decay": _RATE,
    "embedding_l2": _RATE,
    "early_stopping_patience": NumberRange(0, whole=True),
    "mlm_probability": NumberRange(0, 1, above=True, below=True),
    "masked_variants": _OPTIONAL_COUNT,
    "distill_temperature": TEMPERATURES,
    "distill_weight": WEIGHTS,
    "seed": NumberRange(0, LARGEST_SEED, whole=True),
    "data_seed": NumberRange(0, LARGEST_SEED, whole=True, also=(None,)),
    "num_train_epochs": NumberRange(0, above=True),
    "max_steps": NumberRange(1, whole=True, also=(-1,)),
    "warmup_steps": NumberRange(0),
    # None for the default
    "per_device_train_batch_size": _OPTIONAL_COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "eval_accumulation_steps": _OPTIONAL_COUNT,
    "max_grad_norm": NumberRange(0, math.inf),
    "adam_beta1": _BETA,
    "adam_beta2": _BETA,
    "adam_epsilon": NumberRange(0, 1, above=True),
    "neftune_noise_alpha": NumberRange(0, also=(None,)),
    "logging_steps": _STEPS,
    "save_steps": _STEPS,
    "eval_steps": NumberRange(0, above=True, also=(None,)),
    "eval_delay": NumberRange(0),
    "save_total_limit": _OPTIONAL_COUNT,
    "torch_empty_cache_steps": _OPTIONAL_COUNT,
    "dataloader_num_workers": NumberRange(0, whole=True),
    "dataloader_prefetch_factor": _OPTIONAL_COUNT,
    "ddp_bucket_cap_mb": _OPTIONAL_COUNT,
    "ddp_timeout": _COUNT,
}


@dataclass
class ClickPromptTrainingArguments(TrainingArguments):
    """`TrainingArguments` with a separate learning rate for the PLM, and defaults for finetuning on clicks.

    By default, training evaluates and saves every epoch, keeps the checkpoint with the best validation AUC and stops
    once AUC has not improved for `early_stopping_patience` evaluations.

    `per_device_train_batch_size` is 64 if it is left out or `None`. `ClickPromptTrainer` then replaces it by the
    default for its model and rows, see `default_batch_size`, and says so. Without an `eval_dataset` it trains without
    evaluation, unless arguments other than the defaults need one.

    Raises:
        ValueError: If a number is outside its range in `RANGES`, `freeze` names an unknown part, or an argument is set
            that this package does not support (each message says why).
        ImportError: If `report_to` names TensorBoard and it is not installed.
    """

    learning_rate: float = field(
        default=1e-3, metadata={"help": "Learning rate for everything except the PLM and its LM head."}
    )
    masking: Literal["token", "field"] = field(
        default="token", metadata={"help": "What PA-MLM masks: single tokens, or whole field values."}
    )
    mlm_probability: float = field(
        default=0.15, metadata={"help": "Fraction of text tokens, or of field values, that PA-MLM masks."}
    )
    distill_temperature: float = field(
        default=1.0,
        metadata={
            "help": "Distillation temperature, above 0: divides the logits of student and teacher. Above 1, it "
            "softens both probabilities."
        },
    )
    distill_weight: float = field(
        default=0.5,
        metadata={
            "help": "Weight of the teacher's term in the distillation loss, 0 to 1; the rest is the click loss."
        },
    )
    plm_learning_rate: float = field(
        default=5e-5, metadata={"help": "Learning rate for the PLM and its LM head; 0 freezes them."}
    )
    freeze: list[str] | None = field(
        default=None,
        metadata={"help": "Parts to exclude from training: any of plm, ctr (the backbone), prompt_encoder."},
    )
    freeze_lower_layers: bool | None = field(
        default=None,
        metadata={
            "help": "Freeze the PLM's embeddings and its layers below the last `prompt_depth` ones. Default: "
            "whether their states are cached."
        },
    )
    cache_text_states: bool = field(
        default=False,
        metadata={
            "help": "Run each distinct text through the frozen lower layers once, and train on the states, read "
            "from a memory-mapped file."
        },
    )
    text_state_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of cached states, which runs may share. Default: _text_states in the output folder."
        },
    )
    text_state_dtype: StateType = field(
        default="fp32", metadata={"help": "Type of cached states. 16-bit states take half the disk space."}
    )
    masked_variants: int | None = field(
        default=None,
        metadata={"help": "Masked variants per text that PA-MLM caches and uses in turn. Default: 8."},
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention implementation of the PLM, as transformers names it: sdpa, eager, ... Default: the "
            "model's own, but eager for bf16 on CPUs, where it is the fastest."
        },
    )
    sparse_embedding_updates: bool | None = field(
        default=None,
        metadata={
            # without a value, as flags that are False by default
            "nargs": "?",
            "const": True,
            "help": "Update only the feature embeddings that a batch reads, so the step time does not grow with "
            "the vocabulary. Other rows keep their moments (lazy Adam). Default: whether tables are "
            "sharded.",
        },
    )
    shard_id_tables: bool = field(
        default=False,
        metadata={
            "help": "Shard the rows of each feature embedding table across processes, for tables larger than a "
            "device. Rows are updated as with `sparse_embedding_updates`."
        },
    )
    feature_dropout: FeatureDropoutKind = field(
        default="none",
        metadata={
            "help": "unseen: replace feature ids in training with the id of unseen values, per field as often as "
            "the evaluation rows have unseen values."
        },
    )
    embedding_l2: float = field(
        default=0.0,
        metadata={
            "help": "Precision of a normal prior on the feature embeddings, as 1 / C of scikit-learn's logistic "
            "regression: L2 regularization by embedding_l2 / 2 times their squared norms per epoch, spread "
            "over the steps that read an embedding. 0: none."
        },
    )
    early_stopping_patience: int = field(
        default=2,
        metadata={"help": "Stop after this many evaluations without improvement of the metric; 0 never stops early."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Restore the state of early stopping when training resumes."}
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Train into `output_dir` even if it holds a finished run."}
    )
    lr_scheduler_type: str = field(
        default="constant",
        metadata={
            "help": "Learning rate schedule. Default: constant, because with early stopping there is no known end."
        },
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch or best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Number of checkpoints to keep."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Load the best checkpoint when training ends."}
    )
    metric_for_best_model: str | None = field(
        default="auc", metadata={"help": "Metric that selects the best checkpoint."}
    )
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "Whether higher values of that metric are better."}
    )
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]  # a number once built
        default=None,
        metadata={
            "help": "Rows per training batch and device. Default: 64 with a PLM; without one, 64 to 1024, "
            "depending on the number of training rows."
        },
    )
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Rows per evaluation batch and device."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Drop columns that `forward` does not accept; our datasets have none."}
    )
    hub_license: str | None = field(
        default=None,
        metadata={"help": "License of the weights for the model card, as the Hub spells it: apache-2.0, cc-by-nc-4.0"},
    )
    hub_strategy: str = field(
        default="end",
        metadata={"help": "When `push_to_hub` pushes. Only end is allowed: the other strategies push pickles."},
    )
    logging_steps: float = field(default=100, metadata={"help": "Number of steps between logs."})

    def __post_init__(self):
        check_numbers(self, RANGES)
        if self.per_device_train_batch_size is None:
            self.per_device_train_batch_size = UnsetBatchSize(DEFAULT_BATCH_SIZE)
        if unknown := sorted(set(self.freeze or ()) - set(FREEZABLE_PARTS)):
            raise ValueError(f"`freeze` must name some of {list(FREEZABLE_PARTS)}, got {unknown}.")
        if self.hub_strategy != "end":
            raise ValueError(f"`hub_strategy` {_ONLY_END}; got {self.hub_strategy!r}.")
        if self.feature_dropout not in get_args(FeatureDropoutKind):
            raise ValueError(
                f"`feature_dropout` must be one of {get_args(FeatureDropoutKind)}, got {self.feature_dropout!r}."
            )
        check_state_type(self.text_state_dtype)
        if self.cache_text_states and self.freeze_lower_layers is False:
            raise ValueError(
                "`freeze_lower_layers` must be True with `cache_text_states`, or left out: otherwise, training "
                "changes the layers whose states are cached; got False."
            )
        if self.text_state_dir is not None and Path(self.text_state_dir).is_file():
            raise ValueError(f"`text_state_dir` must be a folder, got {self.text_state_dir}, which is a file.")
        if self.shard_id_tables and self.sparse_embedding_updates is False:
            raise ValueError(
                "`sparse_embedding_updates` must be True with `shard_id_tables`, or left out: sharded tables only "
                "support sparse updates; got False."
            )
        check_supported(self)
        if "tensorboard" in (self.report_to or ()) and not is_tensorboard_available():
            raise ImportError('`report_to` tensorboard needs TensorBoard: pip install "clickprompt_hf[tensorboard]"')
        if str(self.resume_from_checkpoint).lower() in ("true", "false"):
            # the command line passes strings; for True, Trainer looks for the last checkpoint
            resume: Any = str(self.resume_from_checkpoint).lower() == "true"
            self.resume_from_checkpoint = resume or None
        if self.lr_scheduler_type == "constant" and self.warmup_steps:
            # "constant" ignores the warm-up
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
                    f"evaluation and saving; got {self.early_stopping_patience}."
                )
            self.early_stopping_patience = 0

    @property
    def has_default_batch_size(self) -> bool:
        """Whether `per_device_train_batch_size` was left out, and not set since."""
        return isinstance(self.per_device_train_batch_size, UnsetBatchSize)

    @property
    def evaluates_by_default(self) -> bool:
        """Whether only defaults ask for evaluation."""
        return (
            self.eval_strategy == type(self).eval_strategy
            and self.metric_for_best_model in (None, type(self).metric_for_best_model)
            and self.early_stopping_patience in (0, type(self).early_stopping_patience)
            and self.save_strategy != SaveStrategy.BEST
            and self.lr_scheduler_type != SchedulerType.REDUCE_ON_PLATEAU
        )

    def stop_evaluating(self) -> None:
        """Train without evaluation, and keep the last weights."""
        self.eval_strategy, self.do_eval = IntervalStrategy.NO, False
        self.load_best_model_at_end, self.early_stopping_patience = False, 0


@dataclass(frozen=True)
class ClickPromptSettings:
    """The training arguments beyond `Trainer`'s: the fields of `ClickPromptTrainingArguments` of the same names. Plain
    `TrainingArguments` leave them at these defaults: the PLM has the learning rate of all other parts.
    """

    plm_learning_rate: float | None = None
    freeze: Sequence[str] | None = None
    attn_implementation: str | None = None
    sparse_embedding_updates: bool = False
    shard_id_tables: bool = False
    feature_dropout: FeatureDropoutKind = "none"
    embedding_l2: float = 0.0
    early_stopping_patience: int = 0
    masking: Literal["token", "field"] = "token"
    mlm_probability: float = 0.15
    distill_temperature: float = 1.0
    distill_weight: float = 0.5
    hub_license: str | None = None
    freeze_lower_layers: bool | None = None
    cache_text_states: bool = False
    text_state_dir: str | None = None
    text_state_dtype: StateType = "fp32"
    masked_variants: int | None = None

    @classmethod
    def of(cls, args: TrainingArguments) -> "ClickPromptSettings":
        if not isinstance(args, ClickPromptTrainingArguments):
            return cls()
        given = {setting.name: getattr(args, setting.name) for setting in fields(cls)}
        # sharded tables only have sparse updates
        given["sparse_embedding_updates"] = bool(given["sparse_embedding_updates"] or args.shard_id_tables)
        return cls(**given)

    @property
    def frozen_parts(self) -> list[str]:
        """Parts to exclude from training; a learning rate of 0 freezes the PLM."""
        return [*(self.freeze or ()), *(["plm"] if self.plm_learning_rate == 0 else [])]


def copy_arguments(args: TrainingArguments) -> TrainingArguments:
    """Copy arguments, so that a trainer does not modify its caller's."""
    copied = copy.copy(args)
    # `Trainer` writes into them
    copied.accelerator_config = copy.deepcopy(args.accelerator_config)
    return copied


def check_supported(args: TrainingArguments) -> None:
    """Refuse arguments of `Trainer` that would be ignored, or would not do what they say.

    Raises:
        ValueError: If one is set; the message names it and says why.
    """
    if args.dataloader_persistent_workers:
        raise ValueError(
            "`dataloader_persistent_workers` must be False: masks change with the epoch, and persistent workers "
            "would not see the change."
        )
    if args.push_to_hub and args.hub_strategy != "end":
        raise ValueError(f"`hub_strategy` {_ONLY_END}; got {args.hub_strategy!r}.")
    if args.label_smoothing_factor:
        raise ValueError(
            "`label_smoothing_factor` must be 0: Trainer smooths over class logits, which no head here returns; got "
            f"{args.label_smoothing_factor}."
        )
    if args.use_liger_kernel:
        raise ValueError("`use_liger_kernel` must be False: Liger has no kernels for these models, got True.")
    if args.label_names not in (None, ["labels"]):
        raise ValueError(
            "`label_names` must be ['labels'] or left out: no head here takes other labels, and without labels "
            f"evaluation has neither loss nor metrics; got {args.label_names}."
        )
    if args.train_sampling_strategy not in ("random", "group_by_length"):
        raise ValueError(
            "`train_sampling_strategy` must be 'random' or 'group_by_length': the row order is a function of "
            f"(seed, epoch); got {args.train_sampling_strategy!r}."
        )
    optim = OptimizerNames(args.optim)
    if optim in REFUSED_OPTIMIZERS:
        reason = REFUSED_OPTIMIZERS[optim]
        raise ValueError(f"`optim` must be an optimizer that takes parameter groups, got {optim.value!r}: {reason}.")
