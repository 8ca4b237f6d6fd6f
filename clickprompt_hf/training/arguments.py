# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Command-line arguments of the training scripts."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..plugins import import_backbone_module
from .plots import matplotlib_is_installed


@dataclass
class ReportArguments:
    """What a run leaves behind beside its weights and metrics.

    Raises:
        ImportError: If plots are asked for and matplotlib is missing.
    """

    report_plots: bool | None = field(
        default=None,
        metadata={
            "help": "Draw loss, AUC, calibration and AUC by frequency as PNG into the folder plots of output_dir, and "
            "show them in the model card. By default where matplotlib is installed; true makes it an error if not."
        },
    )

    def __post_init__(self):
        if self.report_plots and not matplotlib_is_installed():
            raise ImportError("`report_plots` needs matplotlib, which is not installed: pip install matplotlib.")

    @property
    def draws_plots(self) -> bool:
        """Whether plots are wanted and can be drawn."""
        return matplotlib_is_installed() if self.report_plots is None else self.report_plots


@dataclass
class ClickReportArguments(ReportArguments):
    """What is reported of the test split beside AUC, log loss and calibration."""

    gauc_field: str | None = field(
        default=None, metadata={"help": "Column, e.g. user_id: AUC within its values, weighed by rows (GAUC)."}
    )
    frequency_fields: list[str] | None = field(
        default=None,
        metadata={"help": "Columns, e.g. user_id movie_id: AUC of their frequent, rare and unseen values."},
    )
    baseline_dir: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of another run on the same test rows: reports RelaImpr, and the difference of the "
            "AUCs with DeLong's 95 %% interval."
        },
    )


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


@dataclass
class DataArguments:
    """Which rows to train on. What is left out has its default, or the value that the checkpoint was made with."""

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "ml-1m, ml-100k, bookcrossing, amazon-toys, goodreads, synthetic, csv, parquet, or the id of a "
            "data set on the Hub."
        },
    )
    data_path: str | None = field(default=None, metadata={"help": "Zip, folder or file that holds the raw data."})
    schema: str | None = field(
        default=None, metadata={"help": "YAML or JSON file: the fields, the label, the text. For csv, parquet, Hub."}
    )
    split: Literal["random", "time"] | None = field(
        default=None, metadata={"help": "8:1:1 at random (the default) or by the schema's time column."}
    )
    split_seed: int | None = field(default=None, metadata={"help": "Draws the split and nothing else. Default 42."})
    max_train_rows: int | None = field(
        default=None,
        metadata={
            "help": "Train on so many rows of the training split; PA-MLM adds an eighth as many validation rows."
        },
    )
    min_count: int | None = field(
        default=None, metadata={"help": "Training rows that a value needs to get an id of its own. Default 1."}
    )
    max_text_length: int | None = field(
        default=None,
        metadata={"help": "Truncate longer texts to this many tokens; by default a text too long is an error."},
    )


@dataclass
class ModelArguments:
    """What to build. What is left out has the published value, or that of the checkpoint."""

    plm_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of a pretrained encoder or decoder, e.g. RoBERTa, DeBERTa, T5 or GPT-2; or "
            "scratch-tiny (2 layers x 128) or scratch-small (4 x 256): a RoBERTa with fresh weights, and a tokenizer "
            "trained on the training text."
        },
    )
    backbone: str | None = field(
        default=None,
        metadata={
            "help": "lr, fm, dnn, deepfm, xdeepfm, ipnn, dcn, dcnv2, autoint, fibinet, fignn, fgcnn or transformer. "
            "Default dcnv2."
        },
    )
    backbone_module: str | None = field(
        default=None,
        metadata={"help": "Python file or module that registers a backbone of your own; it is imported first."},
    )
    preset: str | None = field(
        default=None,
        metadata={"help": "Data set whose published backbone sizes are used. Default: --dataset's, else ml-1m's."},
    )
    embedding_size: int | None = field(default=None, metadata={"help": "Width of a feature embedding."})
    dnn_hidden_sizes: list[int] | None = field(default=None, metadata={"help": "Widths of the DNN's hidden layers."})
    num_cross_layers: int | None = field(default=None, metadata={"help": "Depth of DCN's and DCNv2's cross network."})
    num_attention_layers: int | None = field(default=None, metadata={"help": "Depth of AutoInt and Transformer."})
    num_attention_heads: int | None = field(default=None, metadata={"help": "Heads of AutoInt and Transformer."})
    num_graph_layers: int | None = field(default=None, metadata={"help": "Steps of FiGNN."})
    dnn_dropout: float | None = field(default=None, metadata={"help": "Dropout after each hidden DNN layer."})
    embedding_dropout: float | None = field(default=None, metadata={"help": "Dropout on the feature embeddings."})
    embedding_initializer_range: float | None = field(
        default=None, metadata={"help": "Standard deviation of fresh feature embeddings."}
    )
    prompt_length: int | None = field(default=None, metadata={"help": "Prompts in each PLM layer, K. Default 5."})
    prompt_strategy: Literal["layerwise", "shallow", "none"] | None = field(
        default=None, metadata={"help": "Where prompts enter: every layer (the default), the input, or nowhere."}
    )
    prompt_encoder: Literal["released", "paper", "low_rank"] | None = field(
        default=None, metadata={"help": "How layerwise prompts are made. Default released."}
    )
    prompt_rank: int | None = field(default=None, metadata={"help": "Width of the low-rank bottleneck. Default 64."})
    prompt_dropout: float | None = field(default=None, metadata={"help": "Dropout on the prompts. Default 0."})
    prompt_initializer_scale: float | None = field(
        default=None, metadata={"help": "Factor on the weights that fresh prompts are made with. Default 1."}
    )
    normalize_prompts: bool | None = field(default=None, metadata={"help": "Layer norm on prompts. Default false."})
    fusion: Literal["sum", "weighted", "text"] | None = field(
        default=None, metadata={"help": "How the click logit is made of the two sides'. Default sum."}
    )
    fusion_alpha: float | None = field(default=None, metadata={"help": "Initial alpha of the weighted fusion."})
    fusion_alpha_on: Literal["ctr", "text"] | None = field(
        default=None, metadata={"help": "The logit that alpha weighs. Default ctr."}
    )
    learn_fusion_alpha: bool | None = field(
        default=None, metadata={"help": "Whether alpha is trained. Default true; false keeps --fusion_alpha."}
    )
    pooling: Literal["cls", "last", "mean", "mean_first_last", "mean_last_two"] | None = field(
        default=None,
        metadata={"help": "What the text logit reads of the last layer. Default cls, last (decoders), mean (T5)."},
    )

    def __post_init__(self):
        if self.backbone_module is not None:
            import_backbone_module(self.backbone_module)

    @property
    def fresh_backbone(self) -> str:
        """The backbone of a model that starts fresh."""
        return self.backbone or CTRConfig.backbone

    @property
    def fresh_prompt_length(self) -> int:
        """K of a model that starts fresh."""
        return ClickPromptConfig.prompt_length if self.prompt_length is None else self.prompt_length

    def ctr_options(self) -> dict[str, Any]:
        """The given arguments of `CTRConfig`, the backbone's name aside."""
        return given_options(self, _CTR_OPTIONS)

    def prompt_options(self) -> dict[str, Any]:
        """The given arguments of `ClickPromptConfig` on prompts, which a checkpoint fixes."""
        return given_options(self, _PROMPT_OPTIONS)

    def head_options(self) -> dict[str, Any]:
        """The given arguments of `ClickPromptConfig` that a checkpoint leaves open: they concern fresh heads only."""
        return given_options(self, ("fusion", "fusion_alpha", "fusion_alpha_on", "learn_fusion_alpha", "pooling"))


_CTR_OPTIONS = (
    *("embedding_size", "dnn_hidden_sizes", "num_cross_layers", "num_attention_layers", "num_attention_heads"),
    *("num_graph_layers", "dnn_dropout", "embedding_dropout", "embedding_initializer_range"),
)
_PROMPT_OPTIONS = (
    *("prompt_strategy", "prompt_encoder", "prompt_rank", "prompt_dropout", "prompt_initializer_scale"),
    "normalize_prompts",
)


def given_options(arguments: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the arguments called `names` that were given."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
