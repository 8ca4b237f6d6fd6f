# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations of a CTR backbone and of a ClickPrompt model (arXiv 2310.09234)."""

from typing import Any, ClassVar, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

PromptStrategy = Literal["layerwise", "none"]
PromptEncoderKind = Literal["released"]
Fusion = Literal["sum", "weighted", "text", "ctr"]
Pooling = Literal["cls", "mean"]

# Families whose position ids start at pad_token_id + 1, so that fewer positions are left for tokens.
_PADDED_POSITION_FAMILIES = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert")

# Sizes of the paper's experiments, per dataset: embedding size, then per backbone what differs from the default.
_PUBLISHED_EMBEDDING_SIZE = {"ml-1m": 32, "bookcrossing": 32, "amazon-toys": 16, "goodreads": 16}
_PUBLISHED_SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "fm": {
        "ml-1m": {"first_order": False},
        "bookcrossing": {"first_order": False},
        "amazon-toys": {"first_order": False},
        "goodreads": {"first_order": True},
    },
    "dnn": {name: {"dnn_hidden_sizes": [256] * 6} for name in _PUBLISHED_EMBEDDING_SIZE},
    "deepfm": {
        "ml-1m": {"dnn_hidden_sizes": [256] * 6, "first_order": True},
        "bookcrossing": {"dnn_hidden_sizes": [256] * 4, "first_order": False},
        "amazon-toys": {"dnn_hidden_sizes": [256] * 6, "first_order": False},
        "goodreads": {"dnn_hidden_sizes": [256] * 6, "first_order": False},
    },
    "dcnv2": {
        "ml-1m": {"dnn_hidden_sizes": [256] * 6, "num_cross_layers": 6},
        "bookcrossing": {"dnn_hidden_sizes": [256] * 6, "num_cross_layers": 6},
        "amazon-toys": {"dnn_hidden_sizes": [256] * 3, "num_cross_layers": 3},
        "goodreads": {"dnn_hidden_sizes": [512] * 6, "num_cross_layers": 6},
    },
}


class CTRConfig(PreTrainedConfig):
    r"""Configuration of a CTR backbone: the model over the ids of an impression.

    Args:
        backbone: Registered name of the backbone, e.g. `"fm"`, `"dnn"`, `"deepfm"` or `"dcnv2"`.
        field_sizes: Number of ids of each field, id 0 (out of vocabulary) included; one entry a field, at least 1.
        max_values: Columns of `feature_ids` that each field owns, at least 1; more than 1 for a multi-valued field.
            `None`: one column a field.
        embedding_size: Width of a feature embedding.
        dnn_hidden_sizes: Widths of the DNN's hidden layers, in order.
        num_cross_layers: Depth of the cross network (DCNv2).
        first_order: Whether FM and DeepFM add the first-order (linear) term.
        dnn_dropout: Dropout probability after each hidden DNN layer, in [0, 1).
        embedding_dropout: Dropout probability on the embeddings, in [0, 1).
        hidden_act: Activation of the hidden DNN layers, a name that transformers knows.
        embedding_initializer_range: Standard deviation of fresh feature embeddings.

    Raises:
        ValueError: If a size is below 1 or a probability is outside [0, 1).
    """

    model_type = "clickprompt_ctr"
    base_config_key = "ctr_config"

    backbone: str = "dcnv2"
    field_sizes: list[int] | tuple[int, ...] = ()
    max_values: list[int] | None = None
    embedding_size: int = 32
    dnn_hidden_sizes: list[int] | tuple[int, ...] = (256, 256, 256, 256, 256, 256)
    num_cross_layers: int = 6
    first_order: bool = True
    dnn_dropout: float | int = 0.0
    embedding_dropout: float | int = 0.0
    hidden_act: str = "relu"
    embedding_initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        self.field_sizes = list(self.field_sizes)
        self.dnn_hidden_sizes = list(self.dnn_hidden_sizes)
        for name in ("field_sizes", "dnn_hidden_sizes", "max_values"):
            if any(size < 1 for size in getattr(self, name) or ()):
                raise ValueError(f"`{name}` must hold numbers of at least 1, got {getattr(self, name)}.")
        if self.max_values is not None and len(self.max_values) != len(self.field_sizes):
            raise ValueError(
                f"`max_values` must have one entry a field ({len(self.field_sizes)}), got {len(self.max_values)}."
            )
        for name in ("embedding_size", "num_cross_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("dnn_dropout", "embedding_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be in [0, 1), got {getattr(self, name)}.")
        super().__post_init__(**kwargs)

    @property
    def num_fields(self) -> int:
        return len(self.field_sizes)

    @property
    def num_columns(self) -> int:
        """Columns of `feature_ids`: one a field, more for multi-valued fields."""
        return sum(self.max_values) if self.max_values else self.num_fields

    @staticmethod
    def preset_datasets() -> list[str]:
        """Data sets that `preset` has sizes for."""
        return list(_PUBLISHED_EMBEDDING_SIZE)

    @classmethod
    def preset(cls, backbone: str, dataset: str = "ml-1m", **overrides) -> "CTRConfig":
        """The published sizes of `backbone` on `dataset`; `overrides` replace single values.

        Raises:
            ValueError: If there is no preset of that name; the message lists what there is.
        """
        if backbone not in _PUBLISHED_SIZES:
            raise ValueError(f"`backbone` must be one of {sorted(_PUBLISHED_SIZES)} for a preset, got {backbone!r}.")
        if dataset not in _PUBLISHED_EMBEDDING_SIZE:
            raise ValueError(
                f"`dataset` must be one of {sorted(_PUBLISHED_EMBEDDING_SIZE)} for a preset, got {dataset!r}."
            )
        published = {"embedding_size": _PUBLISHED_EMBEDDING_SIZE[dataset], **_PUBLISHED_SIZES[backbone][dataset]}
        return cls(backbone=backbone, **{**published, **overrides})


class ClickPromptConfig(PreTrainedConfig):
    r"""Configuration of a ClickPrompt model: a CTR backbone whose soft prompts enter a pretrained language model.

    Args:
        text_config: Configuration of the PLM. `None` with `fusion="ctr"`, a default RoBERTa's otherwise.
        ctr_config: Configuration of the CTR backbone.
        prompt_length: Number K of prompt vectors in each PLM layer, at least 1.
        prompt_strategy: `"layerwise"`: every PLM layer gets prompts as keys and values. `"none"`: no prompts.
        prompt_encoder: How prompts are made from the interaction vector. `"released"`: one bottleneck
            `Linear -> Tanh -> Linear`, as in the authors' code.
        fusion: How the click logit is made. `"sum"`: text + CTR logit; `"weighted"`: their convex combination by α;
            `"text"`: the text logit; `"ctr"`: the CTR logit, without any PLM.
        fusion_alpha: Initial α, in [0, 1].
        fusion_alpha_on: The logit that α weighs: `"ctr"` as in the paper, `"text"` as in the authors' code.
        learn_fusion_alpha: Whether α is trained.
        pooling: What the text logit reads of the last layer: `"cls"`, the first text position, or `"mean"`, all of
            them.
        training_data: Where the weights come from: source, split, seeds and row limits. Written by the scripts, so
            that finetuning after PA-MLM keeps the test rows unseen.

    Raises:
        ValueError: If a choice is unknown, K < 1, α is outside [0, 1], or K leaves the PLM no position for text.
    """

    model_type = "clickprompt"
    sub_configs_defaults: ClassVar = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="roberta", optional=True),
        "ctr_config": SubConfigSpec(config_class=CTRConfig),
    }
    keys_to_ignore_at_inference: ClassVar = ["ctr_logits", "text_logits", "prompts", "interaction"]

    # A dict or a configuration comes in; from `__post_init__` on it is a configuration.
    text_config: Any = None
    ctr_config: Any = None
    prompt_length: int = 5
    prompt_strategy: PromptStrategy = "layerwise"
    prompt_encoder: PromptEncoderKind = "released"
    fusion: Fusion = "sum"
    fusion_alpha: float | int = 0.5
    fusion_alpha_on: Literal["ctr", "text"] = "ctr"
    learn_fusion_alpha: bool = True
    pooling: Pooling = "cls"
    training_data: dict | None = None
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        kwargs["num_labels"] = 1
        for name, choices in (
            ("prompt_strategy", get_args(PromptStrategy)),
            ("prompt_encoder", get_args(PromptEncoderKind)),
            ("fusion", get_args(Fusion)),
            ("fusion_alpha_on", ("ctr", "text")),
            ("pooling", get_args(Pooling)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {getattr(self, name)!r}.")
        if self.prompt_length < 1:
            raise ValueError(f"`prompt_length` must be at least 1, got {self.prompt_length}.")
        if not 0 <= self.fusion_alpha <= 1:
            raise ValueError(f"`fusion_alpha` must be in [0, 1], got {self.fusion_alpha}.")
        if self.fusion == "ctr":
            self.text_config = None
        elif self.text_config is None:
            self.text_config = {}
        super().__post_init__(**kwargs)
        if self.use_plm and self.max_text_length < 1:
            raise ValueError(
                f"`prompt_length` must leave at least one of the PLM's {self.max_text_length + self.prompt_length} "
                f"positions for text, got {self.prompt_length}."
            )

    @property
    def use_plm(self) -> bool:
        """Whether the model holds a PLM. Setting it to `False` makes a CTR-only configuration (`fusion="ctr"`)."""
        return self.fusion != "ctr"

    @use_plm.setter
    def use_plm(self, value: bool) -> None:
        if value and not self.use_plm:
            raise ValueError("`use_plm=True` needs a checkpoint with a PLM, but this configuration has fusion='ctr'.")
        if not value:
            self.fusion = "ctr"
            self.text_config = None

    @property
    def num_prompts(self) -> int:
        """Keys and values that a PLM layer sees in front of the text: K, or 0 without prompts."""
        return self.prompt_length if self.prompt_strategy == "layerwise" else 0

    @property
    def max_text_length(self) -> int:
        """Largest number T of text tokens, special tokens included, such that K + T fits the PLM's positions."""
        reserved = self.text_config.pad_token_id + 1 if self.text_config.model_type in _PADDED_POSITION_FAMILIES else 0
        return self.text_config.max_position_embeddings - reserved - self.num_prompts

    def get_text_config(self, *args, **kwargs) -> PreTrainedConfig:
        return self.text_config if self.use_plm else self
