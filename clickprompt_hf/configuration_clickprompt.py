# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations of a CTR backbone and of a ClickPrompt model (arXiv 2310.09234)."""

import copy
from typing import Any, ClassVar, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

# Of the files of a checkpoint. A change that earlier code would misread counts it up.
CHECKPOINT_VERSION = 1
# What the Auto classes and `pipeline` find in a checkpoint, where this package is not installed.
AUTO_MAP = {
    "AutoConfig": "configuration_clickprompt.ClickPromptConfig",
    "AutoModel": "modeling_clickprompt.ClickPromptModel",
    "AutoModelForSequenceClassification": "modeling_clickprompt.ClickPromptForCTR",
    "AutoModelForMaskedLM": "modeling_clickprompt.ClickPromptForPAMLM",
    "AutoModelForCausalLM": "modeling_clickprompt.ClickPromptForPACLM",
    "AutoProcessor": "processing_clickprompt.ClickPromptProcessor",
}
TASK = "ctr-prediction"
CUSTOM_PIPELINES = {
    TASK: {"impl": "pipeline_clickprompt.ClickPromptPipeline", "pt": ["AutoModelForSequenceClassification"]}
}
PromptStrategy = Literal["layerwise", "shallow", "none"]
PromptEncoderKind = Literal["released", "paper", "low_rank"]
Fusion = Literal["sum", "weighted", "text", "ctr"]
Pooling = Literal["cls", "last", "mean", "mean_first_last", "mean_last_two"]
BilinearKind = Literal["all", "each", "interaction"]
_SIZE_LISTS = (
    *("field_sizes", "dnn_hidden_sizes", "cin_layer_sizes", "fgcnn_channels", "fgcnn_kernel_heights"),
    *("fgcnn_pooling_sizes", "fgcnn_recombined_channels"),
)
_SIZES = (
    *("embedding_size", "num_cross_layers", "num_attention_layers", "num_attention_heads", "attention_size"),
    *("senet_reduction_ratio", "num_graph_layers"),
)
# Families whose position ids start at pad_token_id + 1, so that fewer positions are left for tokens.
_PADDED_POSITION_FAMILIES = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("data2vec-text", "longformer", "ibert"),
)


def check_version(version: Any, where: str) -> None:
    """Refuses files that a later version of this code wrote and this one would misread.

    Raises:
        ValueError: If `version`, found in `where`, is above `CHECKPOINT_VERSION` or no number.
    """
    if not isinstance(version, int) or version > CHECKPOINT_VERSION:
        raise ValueError(
            f"`checkpoint_version` in {where} must be at most {CHECKPOINT_VERSION}, got {version!r}: a later version "
            "of clickprompt_hf saved this checkpoint. Upgrade the package to load it."
        )


class CTRConfig(PreTrainedConfig):
    r"""Configuration of a CTR backbone: the model over the ids of an impression.

    Args:
        backbone: Registered name of the backbone: `"lr"`, `"fm"`, `"dnn"`, `"deepfm"`, `"xdeepfm"`, `"ipnn"`, `"dcn"`,
            `"dcnv2"`, `"autoint"`, `"fibinet"`, `"fignn"`, `"fgcnn"`, `"transformer"`, or one of your own.
        field_sizes: Number of ids of each field, id 0 (out of vocabulary) included; one entry a field, at least 1.
        max_values: Columns of `feature_ids` that each field owns, at least 1; more than 1 for a multi-valued field.
            `None`: one column a field.
        embedding_size: Width of a feature embedding.
        dnn_hidden_sizes: Widths of the DNN's hidden layers, in order; only AutoInt can do without any.
        num_cross_layers: Depth of the cross network (DCN, DCNv2).
        first_order: Whether FM and DeepFM add the first-order (linear) term.
        dnn_dropout: Dropout probability after each hidden DNN layer, in [0, 1).
        embedding_dropout: Dropout probability on the embeddings, in [0, 1).
        hidden_act: Activation of the hidden DNN layers, a name that transformers knows.
        embedding_initializer_range: Standard deviation of fresh feature embeddings.
        cin_layer_sizes: Feature maps of each CIN layer (xDeepFM).
        num_attention_layers: Depth of the attention between fields (AutoInt, Transformer).
        num_attention_heads: Heads of it; divides `attention_size` (AutoInt) or `embedding_size` (Transformer).
        attention_size: Width of all heads together (AutoInt).
        scale_attention: Whether AutoInt divides scores by the square root of a head's width.
        attention_residual: Whether AutoInt adds the input of each attention layer to its output.
        feed_forward_size: Width of the Transformer's feed-forward layers. `None`: 4 times `embedding_size`.
        norm_first: Whether the Transformer normalises before attention and feed-forward, not after.
        layer_norm_eps: Epsilon of the Transformer's layer norms.
        senet_reduction_ratio: Fields over the width of SENet's bottleneck (FiBiNET).
        bilinear_kind: Who shares a bilinear matrix (FiBiNET): `"all"` pairs, those of `"each"` first field, or
            none, `"interaction"`.
        num_graph_layers: Steps of the graph network (FiGNN).
        share_graph_layers: Whether all steps share their weights.
        graph_residual: Whether the embeddings are added after each step.
        fgcnn_channels: Feature maps of each convolution (FGCNN).
        fgcnn_kernel_heights: Fields that each convolution spans.
        fgcnn_pooling_sizes: Fields that each pooling joins.
        fgcnn_recombined_channels: New features a remaining field of each layer.
        share_embedding: Whether FGCNN generates features from the same embeddings.

    Raises:
        ValueError: If a size is below 1, a choice is unknown or a probability is outside [0, 1).
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
    cin_layer_sizes: list[int] | tuple[int, ...] = (25, 25, 25)
    num_attention_layers: int = 2
    num_attention_heads: int = 1
    attention_size: int = 32
    scale_attention: bool = False
    attention_residual: bool = True
    feed_forward_size: int | None = None
    norm_first: bool = True
    layer_norm_eps: float = 1e-12
    senet_reduction_ratio: int = 3
    bilinear_kind: BilinearKind = "interaction"
    num_graph_layers: int = 3
    share_graph_layers: bool = True
    graph_residual: bool = True
    fgcnn_channels: list[int] | tuple[int, ...] = (6, 8, 10, 12)
    fgcnn_kernel_heights: list[int] | tuple[int, ...] = (7, 7, 7, 7)
    fgcnn_pooling_sizes: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    fgcnn_recombined_channels: list[int] | tuple[int, ...] = (3, 3, 3, 3)
    share_embedding: bool = False

    def __post_init__(self, **kwargs):
        for name in _SIZE_LISTS:
            setattr(self, name, list(getattr(self, name)))
        for name in (*_SIZE_LISTS, "max_values"):
            if any(size < 1 for size in getattr(self, name) or ()):
                raise ValueError(f"`{name}` must hold numbers of at least 1, got {getattr(self, name)}.")
        if self.max_values is not None and len(self.max_values) != len(self.field_sizes):
            raise ValueError(
                f"`max_values` must have one entry a field ({len(self.field_sizes)}), got {len(self.max_values)}."
            )
        if self.bilinear_kind not in get_args(BilinearKind):
            raise ValueError(f"`bilinear_kind` must be one of {get_args(BilinearKind)}, got {self.bilinear_kind!r}.")
        for name in _SIZES:
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


class ClickPromptConfig(PreTrainedConfig):
    r"""Configuration of a ClickPrompt model: a CTR backbone whose soft prompts enter a pretrained language model.

    Args:
        text_config: Configuration of the PLM. `None` with `fusion="ctr"`, a default RoBERTa's otherwise.
        ctr_config: Configuration of the CTR backbone.
        prompt_length: Number K of prompt vectors in each PLM layer, at least 1.
        prompt_strategy: `"layerwise"`: every PLM layer gets prompts, as keys and values where the PLM takes a cache,
            as hidden states in front of the layer's input where not. `"shallow"`: K vectors in front of the input
            embeddings. `"none"`: no prompts.
        prompt_encoder: How layerwise prompts are made from the interaction vector. `"released"`: one bottleneck
            `Linear -> Tanh -> Linear` of the PLM's width, as in the authors' code. `"paper"`: an MLP of its own for
            each layer and slot, whose output the layer's key and value projections read. `"low_rank"`: the released
            one with a bottleneck of width `prompt_rank`.
        prompt_rank: Width of the low-rank bottleneck, at least 1.
        prompt_dropout: Dropout probability on the prompts, in [0, 1).
        prompt_initializer_scale: Factor on the Xavier weights that fresh prompts are made with, above 0.
        normalize_prompts: Whether each key and value (each vector, if shallow) goes through a layer norm.
        fusion: How the click logit is made. `"sum"`: text + CTR logit; `"weighted"`: their convex combination by α;
            `"text"`: the text logit; `"ctr"`: the CTR logit, without any PLM.
        fusion_alpha: Initial α, in [0, 1].
        fusion_alpha_on: The logit that α weighs: `"ctr"` as in the paper, `"text"` as in the authors' code.
        learn_fusion_alpha: Whether α is trained.
        pooling: What the text logit reads of the last layer: `"cls"`, the first text position, `"last"`, the last one,
            or `"mean"`, all of them; `"mean_first_last"` and `"mean_last_two"`, the mean of two layers' means. `None`:
            `"last"` for a decoder, `"mean"` for the encoder of a pair as T5, `"cls"` else.
        pool_prompts: Whether pooling reads shallow prompts too, as in the authors' code, whose `"cls"` then is the
            first prompt. Only with `prompt_strategy="shallow"`.
        training_data: Where the weights come from: source, split, seeds and row limits. Written by the scripts, so
            that finetuning after PA-MLM keeps the test rows unseen.
        tie_word_embeddings: Whether the LM head's decoder is the input embeddings. `None`: as the PLM has it.
        checkpoint_version: Version of a checkpoint's files, `CHECKPOINT_VERSION` or an earlier one.

    Raises:
        ValueError: If a choice is unknown, K < 1, α is outside [0, 1], K leaves the PLM no position for text, or a
            later version of this code saved the configuration.
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
    prompt_rank: int = 64
    prompt_dropout: float | int = 0.0
    prompt_initializer_scale: float | int = 1.0
    normalize_prompts: bool = False
    fusion: Fusion = "sum"
    fusion_alpha: float | int = 0.5
    fusion_alpha_on: Literal["ctr", "text"] = "ctr"
    learn_fusion_alpha: bool = True
    pooling: Pooling | None = None
    pool_prompts: bool = False
    training_data: dict | None = None
    tie_word_embeddings: bool | None = None
    initializer_range: float = 0.02
    checkpoint_version: int = CHECKPOINT_VERSION

    def check(self) -> None:
        """Raises a ValueError that names the first field whose value is impossible."""
        check_version(self.checkpoint_version, "config.json")
        for name, choices in (
            ("prompt_strategy", get_args(PromptStrategy)),
            ("prompt_encoder", get_args(PromptEncoderKind)),
            ("fusion", get_args(Fusion)),
            ("fusion_alpha_on", ("ctr", "text")),
            ("pooling", (*get_args(Pooling), None)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` must be one of {choices}, got {getattr(self, name)!r}.")
        for name in ("prompt_length", "prompt_rank"):
            number = getattr(self, name)
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"`{name}` must be at least 1, got {number!r}; a whole number is needed.")
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"`prompt_dropout` must be in [0, 1), got {self.prompt_dropout}.")
        if self.prompt_initializer_scale <= 0:
            raise ValueError(f"`prompt_initializer_scale` must be above 0, got {self.prompt_initializer_scale}.")
        if not 0 <= self.fusion_alpha <= 1:
            raise ValueError(f"`fusion_alpha` must be in [0, 1], got {self.fusion_alpha}.")
        if self.pool_prompts and self.prompt_strategy != "shallow":
            raise ValueError(
                f"`pool_prompts` must be False unless `prompt_strategy` is 'shallow', got {self.prompt_strategy!r}: "
                "other prompts are not positions of the last layer."
            )
        # sub-configurations come after the choices, on which they depend
        if self.use_plm and isinstance(self.text_config, PreTrainedConfig):
            self._check_against_plm()

    def _check_against_plm(self) -> None:
        if self.causal and self.pooling == "cls" and not self.pool_prompts:
            raise ValueError(
                "`pooling` must be 'last' or a mean for a decoder, whose first token sees no other; got 'cls'."
            )
        limit = self.max_text_length
        if limit is not None and limit < 1:
            raise ValueError(
                f"`prompt_length` must leave at least one of the PLM's {limit + self.num_prompts} positions for "
                f"text, got {self.prompt_length}."
            )

    def __post_init__(self, **kwargs):
        kwargs["num_labels"] = 1
        # what a checkpoint says of its own code, whatever it was loaded from: a loaded one names its repository
        kwargs["auto_map"] = dict(AUTO_MAP)
        # `pipeline` asks for trust in the code of these; where the package is installed it has the task registered
        from_checkpoint = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")
        kwargs["custom_pipelines"] = copy.deepcopy(CUSTOM_PIPELINES) if from_checkpoint else {}
        self.check()
        if self.fusion == "ctr":
            self.text_config = None
        elif self.text_config is None:
            self.text_config = {}
        super().__post_init__(**kwargs)
        if not self.use_plm:
            self.tie_word_embeddings = False
            return
        # the caller's stays as it is: some classes write into the configuration that they are built from
        self.text_config = copy.deepcopy(self.text_config)
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = self.text_config.tie_word_embeddings
        if self.pooling is None:
            self.pooling = "last" if self.causal else "mean" if self.encoder_of_a_pair else "cls"
        self.check()

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data, as `config.json` holds it."""
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

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
        """Prompts that a PLM layer sees in front of the text: K, or 0 without prompts."""
        return 0 if self.prompt_strategy == "none" else self.prompt_length

    @property
    def causal(self) -> bool:
        """Whether the PLM is a decoder: its family has a causal language model and no masked one."""
        family = self.text_config.model_type
        return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

    @property
    def encoder_of_a_pair(self) -> bool:
        """Whether the PLM is the encoder of an encoder and a decoder, as T5's."""
        family = self.text_config.model_type
        encoder = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(family)
        return encoder is not None and encoder != MODEL_MAPPING_NAMES.get(family)

    @property
    def hidden_size(self) -> int:
        """H of the PLM."""
        return self.text_config.hidden_size

    @property
    def use_ctr(self) -> bool:
        """Whether the ids say anything: not where the click logit is the text's and there are no prompts."""
        return self.fusion != "text" or self.num_prompts > 0

    @property
    def max_text_length(self) -> int | None:
        """Largest number T of text tokens, special tokens included, such that K + T fits the PLM's positions, and the
        window of a decoder whose layers have one; `None` where the PLM has only relative positions, as T5."""
        # some families do not count positions, or say so by -1
        positions = getattr(self.text_config, "max_position_embeddings", None) or 0
        if self.text_config.model_type in _PADDED_POSITION_FAMILIES:
            positions -= self.text_config.pad_token_id + 1
        limits = [limit for limit in (positions, self._decoder_window) if limit > 0]
        return min(limits) - self.num_prompts if limits else None

    @property
    def _decoder_window(self) -> int:
        """How many tokens a decoder's layers look back, so that the prompts must be among them; 0 for all tokens."""
        if not self.causal:
            return 0
        # only some decoders have windows, and of those only some in part of their layers
        layer_types = getattr(self.text_config, "layer_types", None) or ["sliding_attention"]
        windowed = "sliding_attention" in layer_types
        return (windowed and getattr(self.text_config, "sliding_window", None)) or 0

    def get_text_config(self, *args, **kwargs) -> PreTrainedConfig:
        return self.text_config if self.use_plm else self
