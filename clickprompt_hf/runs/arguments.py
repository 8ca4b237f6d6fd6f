# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Command-line arguments of the runs."""

from dataclasses import dataclass, field
from typing import Any, Literal

from transformers.utils import is_matplotlib_available

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from .backbone_modules import import_backbone_module


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
        if self.report_plots and not is_matplotlib_available():
            raise ImportError("`report_plots` needs matplotlib: pip install 'clickprompt_hf[plots]'.")

    @property
    def draws_plots(self) -> bool:
        """Whether plots are wanted and can be drawn."""
        return is_matplotlib_available() if self.report_plots is None else self.report_plots


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
