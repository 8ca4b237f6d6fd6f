# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations of a CTR backbone and a ClickPrompt model (arXiv 2310.09234)."""

import copy
import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin

from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

# Version of a checkpoint's files: goes up with each change that earlier code would misread.
CHECKPOINT_VERSION = 2
# Where config.json keeps the fingerprints of the weights it was saved with, by part of the model.
FINGERPRINTS = "weights_fingerprints"
# Where the Auto classes find the code in a checkpoint if this package is not installed.
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
FusionWithPLM = Literal["sum", "weighted", "text"]
Fusion = Literal[FusionWithPLM, "ctr"]
Pooling = Literal["cls", "last", "mean", "mean_first_last", "mean_last_two"]
BilinearKind = Literal["all", "each", "interaction"]
# Ranges of numbers, as messages name them.
_RANGES: dict[str, Callable[[Any], bool]] = {
    "at least 1": lambda number: number >= 1,
    "at least 0": lambda number: number >= 0,
    "above 0": lambda number: number > 0,
    "in (0, 1]": lambda number: 0 < number <= 1,
    "in [0, 1)": lambda number: 0 <= number < 1,
    "in [0, 1]": lambda number: 0 <= number <= 1,
    "finite": math.isfinite,
}
_TYPE_NAMES = {int: "an integer", float: "a number", bool: "True or False", str: "a string", dict: "a dict"}
# Largest number in a configuration, except numbers of ids, which are int32 in the encoded rows.
_LARGEST, _MOST_IDS = 1_000_000, 2**31 - 1
# Fields of every configuration that loading reads first, so nothing else would report a wrong type.
_INHERITED_TYPES: dict[str, Any] = {"architectures": list[str] | None, "id2label": dict | None, "return_dict": bool}
_DTYPES = ("float16", "bfloat16", "float32", "float64")
# Numbers of a PLM's configuration, by the names that all families understand, and their smallest values.
_PLM_SIZES = {
    **{"vocab_size": 1, "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1},
    **{"num_key_value_heads": 1, "head_dim": 1, "embedding_size": 1, "type_vocab_size": 0, "initializer_range": 0},
}
_LARGEST_PLM_SIZE = 10_000_000
# Backbones by what they contain, for `needs`.
_WITH_EMBEDDINGS = (
    *("fm", "dnn", "deepfm", "xdeepfm", "ipnn", "dcn", "dcnv2", "autoint", "fibinet", "fignn", "fgcnn"),
    "transformer",
)
_WITH_DNN = ("dnn", "deepfm", "xdeepfm", "ipnn", "dcn", "dcnv2", "autoint", "fibinet", "fgcnn")
# Families whose position ids start at pad_token_id + 1, which leaves fewer positions for tokens.
_PADDED_POSITION_FAMILIES = (
    *("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert", "mpnet"),
    *("data2vec-text", "longformer", "ibert"),
)
# Families that run in two parts, below the prompts and from them on; see `plm_split`.
SPLIT_FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "distilbert"),
    *("gpt2", "llama"),
)


def check_version(version: Any, where: str) -> None:
    """Reject files written by a later version of this package, which this one would misread.

    Raises:
        ValueError: If `version`, found in `where`, is above `CHECKPOINT_VERSION` or not an integer.
    """
    if not isinstance(version, int) or version > CHECKPOINT_VERSION:
        raise ValueError(
            f"`checkpoint_version` in {where} must be at most {CHECKPOINT_VERSION}, got {version!r}: this "
            "checkpoint was saved by a later version of clickprompt_hf. Upgrade the package to load it."
        )


def attention_by_part(attn_implementation: Any) -> dict[str, Any]:
    """An attention implementation in the form that transformers takes for models of several parts.

    Only the PLM has a choice of kernels, so the whole model's is the PLM's.

    Args:
        attn_implementation: A name, `None` for the default, or a mapping with the name under `"text_config"` or, for
            all parts, `""`.

    Raises:
        ValueError: If a mapping has another key.
    """
    chosen = attn_implementation
    if isinstance(chosen, dict):
        if unknown := sorted(map(str, chosen.keys() - {"text_config", ""})):
            raise ValueError(
                f"`attn_implementation` must name parts of the model with a choice of kernels, 'text_config' or '', "
                f"got {unknown}."
            )
        chosen = chosen.get("text_config", chosen.get(""))
        # as for a PLM that itself has several parts
        chosen = chosen.get("") if isinstance(chosen, dict) else chosen
    return {"": chosen, "text_config": chosen}


def _setting(
    default: Any,
    help: str,
    *,
    range: str | None = None,
    most: int = _LARGEST,
    needs: dict[str, tuple[str, ...]] | None = None,
    flag: bool = True,
    flag_type: Any = None,
    may_change: bool = False,
) -> Any:
    """Declare a field of a configuration, with what checks, commands and docs need to know.

    Args:
        default: Its default.
        help: What it means, for the API reference and the commands' `--help`.
        range: Key of `_RANGES` that the number, or each number of the list, must be in.
        most: Largest value of the number, or of each number of the list.
        needs: Values of other fields, without which this one has no effect.
        flag: Whether it is a flag of the commands.
        flag_type: Type of that flag if it takes fewer values than the field.
        may_change: Whether finetuning a checkpoint may change it: it concerns fresh heads, dropout or the clicks only.
    """
    metadata = {
        **{"help": help, "range": range, "most": most, "needs": needs or {}},
        **{"flag": flag, "flag_type": flag_type, "may_change": may_change},
    }
    return dataclasses.field(default=default, metadata=metadata)


def _check_fields(config: PreTrainedConfig, config_class: type[PreTrainedConfig]) -> None:
    """Check the type, then the range, of each field that `_setting` declares in `config_class`.

    Raises:
        ValueError: On the first field with an impossible value; the message names it.
    """
    for field in dataclasses.fields(config_class):
        if "range" not in field.metadata:
            continue
        value = getattr(config, field.name)
        if not _has_type(value, field.type):
            raise ValueError(f"`{field.name}` must be {_type_name(field.type)}, got {value!r}.")
        value_range = field.metadata["range"]
        if value_range is None or value is None:
            continue
        is_list, most = isinstance(value, (list, tuple)), field.metadata["most"]
        for number in value if is_list else [value]:
            if _RANGES[value_range](number) and number <= most:
                continue
            expected = f"at most {most:,}" if _RANGES[value_range](number) else value_range
            if is_list:
                raise ValueError(f"`{field.name}` must hold numbers of {expected}, got {number} in {value!r:.200}.")
            raise ValueError(f"`{field.name}` must be {expected}, got {number}.")


def _check_inherited(values: dict[str, Any], where: str = "") -> None:
    """Check fields that every configuration inherits, which transformers uses without checking them.

    Args:
        values: Values of a configuration's fields, by name.
        where: What holds them, for the message.

    Raises:
        ValueError: On the first field with an impossible value; the message names it.
    """
    for name, expected in _INHERITED_TYPES.items():
        if name in values and not _has_type(values[name], expected):
            raise ValueError(f"`{name}`{where} must be {_type_name(expected)}, got {values[name]!r}.")
    for name in ("dtype", "torch_dtype"):
        if (value := values.get(name)) is not None and str(value).removeprefix("torch.") not in _DTYPES:
            raise ValueError(f"`{name}`{where} must be one of {_DTYPES} or None, got {value!r}.")


def _check_not_computed(given: Iterable[str]) -> None:
    """Raise a ValueError if an argument has the name of what follows from other settings."""
    for name in given:
        computed = getattr(ClickPromptConfig, name, None)
        if isinstance(computed, property) and computed.fset is None:
            advice = " The limit of texts is an argument of ClickPromptProcessor." if name == "max_text_length" else ""
            raise ValueError(f"`{name}` follows from other settings and must be left out.{advice}")


def _check_plm_values(text_config: PreTrainedConfig) -> None:
    """Check the values of a PLM's configuration that its family accepts but cannot compute with.

    Raises:
        ValueError: On the first impossible one; the message names it.
    """
    for name, least in _PLM_SIZES.items():
        # only some families have each of them
        value = getattr(text_config, name, None)
        if value is not None and not (_has_type(value, float) and least <= value <= _LARGEST_PLM_SIZE):
            raise ValueError(
                f"`{name}` in `text_config` must be a number from {least} to {_LARGEST_PLM_SIZE:,}, got {value!r}."
            )
    for name, value in text_config.to_dict().items():
        if isinstance(value, str) and re.search(r"act(ivation)?(_fn|_function)?$", name) and value not in ACT2FN:
            raise ValueError(f"`{name}` in `text_config` must be one of {sorted(ACT2FN)}, got {value!r}.")
        if not _has_type(value, float):
            continue
        if not math.isfinite(value):
            raise ValueError(f"`{name}` in `text_config` must be finite, got {value}.")
        if re.search(r"eps(ilon)?$", name) and value <= 0:
            raise ValueError(f"`{name}` in `text_config` must be above 0, got {value}.")
        if re.search(r"(drop(out)?|dropout_prob|dropout_rate)$", name) and not 0 <= value <= 1:
            raise ValueError(f"`{name}` in `text_config` must be in [0, 1], got {value}.")
    padding, size = getattr(text_config, "pad_token_id", None), text_config.vocab_size
    padding_decides_positions = text_config.model_type in _PADDED_POSITION_FAMILIES
    if (padding is None and padding_decides_positions) or (padding is not None and not -size <= padding < size):
        raise ValueError(f"`pad_token_id` in `text_config` must be below `vocab_size`, {size}, got {padding}.")


def _has_type(value: Any, annotation: Any) -> bool:
    """Whether `value` has the type of `annotation`; integers count as floats, booleans as neither."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_has_type(value, argument) for argument in arguments)
    if origin in (list, tuple):
        return isinstance(value, origin) and all(_has_type(item, arguments[0]) for item in value)
    if annotation in (int, float):
        number = numbers.Integral if annotation is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _type_name(annotation: Any) -> str:
    """`annotation` in the words of an error message."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {arguments}"
    if origin in (Union, UnionType):
        # a tuple is as good as a list, an integer as a float
        shown = [a for a in arguments if get_origin(a) is not tuple and not (a is int and float in arguments)]
        return " or ".join(map(_type_name, shown))
    if origin is list:
        return "a list of integers" if arguments == (int,) else "a list of strings"
    return "None" if annotation is NoneType else _TYPE_NAMES[annotation]


class CTRConfig(PreTrainedConfig):
    """Configuration of a CTR backbone: the model over the feature ids of an impression.

    Raises:
        ValueError: If a value has the wrong type or is out of range, or a choice is unknown.
    """

    model_type = "clickprompt_ctr"
    base_config_key = "ctr_config"

    backbone: str = _setting(
        "dcnv2",
        "Registered name of the backbone: lr, fm, dnn, deepfm, xdeepfm, ipnn, dcn, dcnv2, autoint, fibinet, fignn, "
        "fgcnn, transformer, or your own.",
    )
    field_sizes: list[int] | tuple[int, ...] = _setting(
        (),
        "Number of ids per field, including id 0 (out of vocabulary).",
        range="at least 1",
        most=_MOST_IDS,
        flag=False,
    )
    max_values: list[int] | tuple[int, ...] | None = _setting(
        None,
        "Columns of `feature_ids` per field; more than 1 for a multi-valued field. None: one column per field.",
        range="at least 1",
        flag=False,
    )
    vector_sizes: list[int] | tuple[int, ...] = _setting(
        (),
        "Size of each vector field. These fields come after those with ids.",
        range="at least 1",
        flag=False,
    )
    embedding_size: int = _setting(
        32, "Width of a feature embedding.", range="at least 1", needs={"backbone": _WITH_EMBEDDINGS}
    )
    dnn_hidden_sizes: list[int] | tuple[int, ...] = _setting(
        (256, 256, 256, 256, 256, 256),
        "Widths of the DNN's hidden layers, in order. Only AutoInt works without any.",
        range="at least 1",
        needs={"backbone": _WITH_DNN},
    )
    num_cross_layers: int = _setting(
        6, "Depth of the cross network.", range="at least 1", needs={"backbone": ("dcn", "dcnv2")}
    )
    first_order: bool = _setting(
        True, "Whether to add the first-order (linear) term.", needs={"backbone": ("fm", "deepfm")}
    )
    dnn_dropout: float | int = _setting(
        0.0,
        "Dropout probability after each hidden layer of the DNN, or in the Transformer's layers.",
        range="in [0, 1)",
        needs={"backbone": (*_WITH_DNN, "transformer")},
        may_change=True,
    )
    embedding_dropout: float | int = _setting(
        0.0, "Dropout probability on the feature embeddings.", range="in [0, 1)", may_change=True
    )
    hidden_act: str = _setting(
        "relu",
        "Activation of the hidden layers, by its name in transformers.",
        needs={"backbone": (*_WITH_DNN, "transformer")},
    )
    embedding_initializer_range: float = _setting(
        0.02, "Standard deviation of the initial feature embeddings.", range="at least 0"
    )
    cin_layer_sizes: list[int] | tuple[int, ...] = _setting(
        (25, 25, 25), "Feature maps of each CIN layer.", range="at least 1", needs={"backbone": ("xdeepfm",)}
    )
    num_attention_layers: int = _setting(
        2,
        "Depth of the attention between fields.",
        range="at least 1",
        needs={"backbone": ("autoint", "transformer")},
    )
    num_attention_heads: int = _setting(
        1,
        "Attention heads; must divide `attention_size` (AutoInt) or `embedding_size` (Transformer).",
        range="at least 1",
        needs={"backbone": ("autoint", "transformer")},
    )
    attention_size: int = _setting(
        32, "Total width of the attention heads.", range="at least 1", needs={"backbone": ("autoint",)}
    )
    scale_attention: bool = _setting(
        False,
        "Whether to divide attention scores by the square root of the head width.",
        needs={"backbone": ("autoint",)},
    )
    attention_residual: bool = _setting(
        True,
        "Whether to add the input of each attention layer to its output.",
        needs={"backbone": ("autoint",)},
    )
    feed_forward_size: int | None = _setting(
        None,
        "Width of the feed-forward layers. None: 4 times `embedding_size`.",
        range="at least 1",
        needs={"backbone": ("transformer",)},
    )
    norm_first: bool = _setting(
        True,
        "Whether to normalize before attention and feed-forward instead of after.",
        needs={"backbone": ("transformer",)},
    )
    layer_norm_eps: float = _setting(
        1e-12, "Epsilon of the layer norms.", range="above 0", needs={"backbone": ("transformer",)}
    )
    senet_reduction_ratio: int = _setting(
        3,
        "Number of fields divided by the width of SENet's bottleneck.",
        range="at least 1",
        needs={"backbone": ("fibinet",)},
    )
    bilinear_kind: BilinearKind = _setting(
        "interaction",
        "Which pairs share a bilinear matrix: all pairs (all), pairs with the same first field (each), or none "
        "(interaction).",
        needs={"backbone": ("fibinet",)},
    )
    num_graph_layers: int = _setting(
        3, "Steps of the graph network.", range="at least 1", needs={"backbone": ("fignn",)}
    )
    share_graph_layers: bool = _setting(
        True, "Whether all graph steps share their weights.", needs={"backbone": ("fignn",)}
    )
    graph_residual: bool = _setting(
        True, "Whether to add the embeddings after each graph step.", needs={"backbone": ("fignn",)}
    )
    fgcnn_channels: list[int] | tuple[int, ...] = _setting(
        (6, 8, 10, 12), "Feature maps of each convolution.", range="at least 1", needs={"backbone": ("fgcnn",)}
    )
    fgcnn_kernel_heights: list[int] | tuple[int, ...] = _setting(
        (7, 7, 7, 7), "Fields that each convolution spans.", range="at least 1", needs={"backbone": ("fgcnn",)}
    )
    fgcnn_pooling_sizes: list[int] | tuple[int, ...] = _setting(
        (2, 2, 2, 2), "Fields that each pooling merges.", range="at least 1", needs={"backbone": ("fgcnn",)}
    )
    fgcnn_recombined_channels: list[int] | tuple[int, ...] = _setting(
        (3, 3, 3, 3),
        "New features per remaining field, for each layer.",
        range="at least 1",
        needs={"backbone": ("fgcnn",)},
    )
    share_embedding: bool = _setting(
        False,
        "Whether to generate features from the same embeddings that the DNN reads.",
        needs={"backbone": ("fgcnn",)},
    )

    def check(self) -> None:
        """Raise a ValueError that names the first field with an impossible value."""
        _check_fields(self, CTRConfig)
        _check_inherited(vars(self))
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"`hidden_act` must be one of {sorted(ACT2FN)}, got {self.hidden_act!r}.")
        if self.max_values is not None and len(self.max_values) != len(self.field_sizes):
            raise ValueError(
                f"`max_values` must have one entry per field ({len(self.field_sizes)}), got {len(self.max_values)}."
            )

    def __post_init__(self, **kwargs):
        self.check()
        for field in dataclasses.fields(CTRConfig):
            # lists, as they come back from config.json
            if isinstance(value := getattr(self, field.name), tuple):
                setattr(self, field.name, list(value))
        super().__post_init__(**kwargs)

    @property
    def num_fields(self) -> int:
        """Fields that the backbone combines: those with ids, then those of vectors."""
        return len(self.field_sizes) + len(self.vector_sizes)

    @property
    def num_columns(self) -> int:
        """Columns of `feature_ids`: one per field, more for multi-valued fields."""
        return sum(self.max_values) if self.max_values else len(self.field_sizes)


class ClickPromptConfig(PreTrainedConfig):
    """Configuration of a ClickPrompt model: a CTR backbone whose soft prompts enter a pretrained language model.

    Raises:
        ValueError: If a value has the wrong type or is out of range, a choice is unknown, the prompts leave the PLM no
            position for text, or a later version of this package saved the configuration.
    """

    model_type = "clickprompt"
    sub_configs_defaults: ClassVar = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="roberta", optional=True),
        "ctr_config": SubConfigSpec(config_class=CTRConfig),
    }
    keys_to_ignore_at_inference: ClassVar = ["ctr_logits", "text_logits", "prompts", "interaction"]

    # May be given as dicts, which `__post_init__` turns into configurations.
    text_config: Any = _setting(
        None,
        'Configuration of the PLM. None: no PLM with `fusion="ctr"`, otherwise the default RoBERTa.',
        flag=False,
    )
    ctr_config: Any = _setting(None, "Configuration of the CTR backbone.", flag=False)
    prompt_length: int = _setting(
        5,
        "Prompt vectors per PLM layer, K.",
        range="at least 1",
        needs={"prompt_strategy": ("layerwise", "shallow")},
    )
    prompt_strategy: PromptStrategy = _setting(
        "layerwise",
        "Where prompts enter the PLM. layerwise: in every layer, as keys and values, or as hidden states in front of "
        "the layer's input if the PLM takes no cache. shallow: in front of the input embeddings. none: nowhere.",
    )
    prompt_depth: int | None = _setting(
        None,
        "Number of last PLM layers that prompts enter. Layers below see the text alone. None: all layers.",
        range="at least 1",
        needs={"prompt_strategy": ("layerwise", "none")},
    )
    prompt_encoder: PromptEncoderKind = _setting(
        "released",
        "How layerwise prompts are made from the interaction vector. released: one bottleneck of the PLM's width, as "
        "in the authors' code. paper: an MLP per layer and slot, read by the layer's own key and value projections. "
        "low_rank: a bottleneck of width `prompt_rank`.",
        needs={"prompt_strategy": ("layerwise",)},
    )
    prompt_rank: int = _setting(
        64, "Width of the low-rank bottleneck.", range="at least 1", needs={"prompt_encoder": ("low_rank",)}
    )
    prompt_dropout: float | int = _setting(
        0.0,
        "Dropout probability on the prompts.",
        range="in [0, 1)",
        needs={"prompt_strategy": ("layerwise", "shallow")},
        may_change=True,
    )
    prompt_initializer_scale: float | int = _setting(
        1.0,
        "Scale of the prompt encoder's initial Xavier weights.",
        range="above 0",
        needs={"prompt_strategy": ("layerwise", "shallow")},
    )
    normalize_prompts: bool = _setting(
        False,
        "Whether to apply a layer norm to each key and value, or to each shallow prompt.",
        needs={"prompt_strategy": ("layerwise", "shallow")},
    )
    fusion: Fusion = _setting(
        "sum",
        "How the click logit is computed. sum: text plus CTR logit. weighted: their convex combination by alpha. "
        "text: the text logit. ctr: the CTR logit, without a PLM.",
        flag_type=FusionWithPLM,
        may_change=True,
    )
    fusion_alpha: float | int = _setting(
        0.5, "Initial alpha.", range="in [0, 1]", needs={"fusion": ("weighted",)}, may_change=True
    )
    fusion_alpha_on: Literal["ctr", "text"] = _setting(
        "ctr",
        "The logit that alpha multiplies: ctr as in the paper, text as in the authors' code.",
        needs={"fusion": ("weighted",)},
        may_change=True,
    )
    learn_fusion_alpha: bool = _setting(
        True, "Whether alpha is trained.", needs={"fusion": ("weighted",)}, may_change=True
    )
    pooling: Pooling | None = _setting(
        None,
        "What the text logit reads: the first (cls) or last position of the last layer, its mean, or the mean of two "
        "layers' means (mean_first_last, mean_last_two). None: last for a decoder, mean for the encoder of an "
        "encoder-decoder such as T5, else cls.",
        may_change=True,
    )
    pool_prompts: bool = _setting(
        False,
        "Whether pooling reads the prompts too, as in the authors' code, where cls is then the first prompt.",
        needs={"prompt_strategy": ("shallow",)},
        may_change=True,
    )
    negative_sampling_rate: float | int = _setting(
        1.0,
        "Fraction of the rows without a click that the training data keep. Below 1, click probabilities are "
        "corrected to the click rate before sampling; logits, loss and test metrics refer to the sampled rows.",
        range="in (0, 1]",
        may_change=True,
    )
    calibration_scale: float | int = _setting(
        1.0,
        "Factor on the click logit when rows are scored. `finetune` fits it on validation rows.",
        range="above 0",
        flag=False,
    )
    calibration_shift: float | int = _setting(
        0.0, "Added to the scaled click logit when rows are scored.", range="finite", flag=False
    )
    training_data: dict | None = _setting(
        None,
        "Record of the training data: source, split, seeds and row limits. The commands write it, so that finetuning "
        "after PA-MLM keeps the test rows unseen.",
        flag=False,
    )
    tie_word_embeddings: bool | None = _setting(
        None,
        "Whether the LM head's decoder shares the input embeddings' weights. None: as in the PLM.",
        flag=False,
    )
    initializer_range: float = _setting(
        0.02, "Standard deviation of initial weights without a specific scheme.", range="at least 0", flag=False
    )
    checkpoint_version: int = _setting(CHECKPOINT_VERSION, "Version of the checkpoint's files.", flag=False)

    def check(self) -> None:
        """Raise a ValueError that names the first field with an impossible value."""
        check_version(self.checkpoint_version, "config.json")
        _check_fields(self, ClickPromptConfig)
        _check_inherited(vars(self))
        for name, config_class in (("text_config", PreTrainedConfig), ("ctr_config", CTRConfig)):
            part = getattr(self, name)
            # by name: a checkpoint's own code has another class object
            is_config = config_class.__name__ in [base.__name__ for base in type(part).__mro__]
            if not (part is None or isinstance(part, dict) or is_config):
                raise ValueError(f"`{name}` must be a {config_class.__name__}, a dict or None, got {part!r:.200}.")
            if isinstance(part, dict):
                _check_inherited(part, f" in `{name}`")
        if self.pool_prompts and self.prompt_strategy != "shallow":
            raise ValueError(
                f"`pool_prompts` must be False unless `prompt_strategy` is 'shallow', got {self.prompt_strategy!r}: "
                "layerwise prompts have no position in the last layer."
            )
        # `text_config` is built after the choices that it depends on
        if self.use_plm and isinstance(self.text_config, PreTrainedConfig):
            self._check_against_plm()

    def _check_against_plm(self) -> None:
        _check_plm_values(self.text_config)
        if self.causal and self.pooling == "cls" and not self.pool_prompts:
            raise ValueError(
                "`pooling` must be 'last' or a mean for a decoder, whose first token sees no other token; got 'cls'."
            )
        num_layers = self.text_config.num_hidden_layers
        if self.prompt_depth is not None and self.prompt_depth > num_layers:
            raise ValueError(
                f"`prompt_depth` must be at most the PLM's number of layers, {num_layers}, got {self.prompt_depth}."
            )
        if self.num_lower_layers and self.text_config.model_type not in SPLIT_FAMILIES:
            raise ValueError(
                f"`prompt_depth` below the PLM's {num_layers} layers, got {self.prompt_depth}, needs a PLM of one of "
                f"the families {SPLIT_FAMILIES}, got {self.text_config.model_type!r}. None is all layers."
            )
        limit = self.max_text_length
        if limit is not None and limit < 1:
            raise ValueError(
                f"`prompt_length` must leave at least one of the PLM's {limit + self.num_prompts} positions for "
                f"text, got {self.prompt_length}."
            )

    def __post_init__(self, **kwargs):
        # fingerprints of the loaded files do not apply to the files that will be saved
        kwargs.pop(FINGERPRINTS, None)
        kwargs["num_labels"] = 1
        # the click loss; with it, `Trainer` says that it cannot smooth labels, which needs a logit per class
        self.problem_type = "multi_label_classification"
        # a loaded configuration names the repository it came from; a saved one must name its own files
        kwargs["auto_map"] = dict(AUTO_MAP)
        # `pipeline` asks to trust the code named here; the installed package has registered the task itself
        from_checkpoint = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")
        kwargs["custom_pipelines"] = copy.deepcopy(CUSTOM_PIPELINES) if from_checkpoint else {}
        _check_not_computed(kwargs)
        self.check()
        # an implementation that is set on the PLM's configuration counts too
        own = getattr(self.text_config, "_attn_implementation", None)
        kwargs["attn_implementation"] = attention_by_part(kwargs.get("attn_implementation") or own)
        if self.fusion == "ctr":
            self.text_config = None
        elif self.text_config is None:
            self.text_config = {}
        try:
            super().__post_init__(**kwargs)
        except ValueError:
            raise
        # the classes of PLMs raise errors of many types
        except Exception as error:
            raise ValueError(f"`text_config` must be a valid configuration of a language model: {error}") from error
        if not self.use_plm:
            self.tie_word_embeddings = False
            return
        # a copy: some model classes write into the configuration they are built from
        self.text_config = copy.deepcopy(self.text_config)
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = self.text_config.tie_word_embeddings
        if self.pooling is None:
            self.pooling = "last" if self.causal else "mean" if self.encoder_of_a_pair else "cls"
        self.check()
        # an older checkpoint is saved again as this code writes it
        self.checkpoint_version = CHECKPOINT_VERSION

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """Read `config.json`, as in transformers.

        Raises:
            ValueError: If it holds something other than a configuration of this class.
            OSError: If it is missing or not JSON.
        """
        wrong = f"config.json of {pretrained_model_name_or_path} must hold a configuration of {cls.model_type!r}, got "
        try:
            config_dict, others = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except TypeError as error:
            # transformers assumes that any JSON is a mapping
            raise ValueError(f"{wrong}no mapping: {error}") from error
        if not isinstance(config_dict, dict):
            raise ValueError(f"{wrong}{config_dict!r:.200}.")
        if not config_dict and Path(pretrained_model_name_or_path).is_dir():
            # transformers loads the defaults from a folder without one
            raise OSError(
                f"{pretrained_model_name_or_path} must hold a checkpoint, but its config.json is missing. It is "
                "written last: was saving interrupted? Save the model again."
            )
        if config_dict.get("model_type") != cls.model_type:
            raise ValueError(f"{wrong}`model_type` {config_dict.get('model_type')!r}.")
        return config_dict, others

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data, as in `config.json`."""
        return {**super().to_dict(), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}

    @property
    def use_plm(self) -> bool:
        """Whether the model has a PLM. Set it to `False` for a CTR-only configuration (`fusion="ctr"`)."""
        return self.fusion != "ctr"

    @use_plm.setter
    def use_plm(self, value: bool) -> None:
        if value and not self.use_plm:
            raise ValueError("`use_plm=True` needs a checkpoint with a PLM, but this configuration has fusion='ctr'.")
        if not value:
            if self.use_plm:
                # fitted to the fused logit
                self.reset_calibration()
            self.fusion = "ctr"
            self.text_config = None

    @property
    def is_calibrated(self) -> bool:
        """Whether probabilities are more than the sigmoid of the logit."""
        return (self.calibration_scale, self.calibration_shift) != (1, 0)

    def reset_calibration(self) -> None:
        """Score rows with the sigmoid of the logit again, as before any calibration."""
        self.calibration_scale, self.calibration_shift = 1.0, 0.0

    @property
    def num_prompts(self) -> int:
        """Prompts in front of the text in each PLM layer: K, or 0 without prompts."""
        return 0 if self.prompt_strategy == "none" else self.prompt_length

    @property
    def num_lower_layers(self) -> int:
        """PLM layers below the prompts, which see the text alone: L - `prompt_depth`, or 0 if prompts enter all.

        With `prompt_strategy="none"`, the layers below the split: those whose states may be computed once per text.
        """
        if not self.use_plm or self.prompt_depth is None or self.prompt_strategy == "shallow":
            return 0
        return self.text_config.num_hidden_layers - self.prompt_depth

    @property
    def causal(self) -> bool:
        """Whether the PLM is a decoder: its family has a causal but no masked language model."""
        family = self.text_config.model_type
        return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

    @property
    def encoder_of_a_pair(self) -> bool:
        """Whether the PLM is the encoder half of an encoder-decoder, such as T5's."""
        family = self.text_config.model_type
        encoder = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(family)
        return encoder is not None and encoder != MODEL_MAPPING_NAMES.get(family)

    @property
    def hidden_size(self) -> int:
        """Hidden size H of the PLM."""
        return self.text_config.hidden_size

    @property
    def use_ctr(self) -> bool:
        """Whether the model uses feature ids: not with `fusion="text"` and no prompts."""
        return self.fusion != "text" or self.num_prompts > 0

    @property
    def max_text_length(self) -> int | None:
        """Largest number T of text tokens, including special tokens, for which K + T fits the PLM's positions and a
        decoder's attention window; `None` if the PLM has only relative positions, like T5.

        Prompts above lower layers take no positions: T alone must fit. Families with windows have no such prompts.
        """
        # families with relative positions have no such attribute, or -1
        positions = getattr(self.text_config, "max_position_embeddings", None) or 0
        if self.text_config.model_type in _PADDED_POSITION_FAMILIES:
            positions -= self.text_config.pad_token_id + 1
        limits = [limit for limit in (positions, self._decoder_window) if limit > 0]
        num_prompts = 0 if self.num_lower_layers else self.num_prompts
        return min(limits) - num_prompts if limits else None

    @property
    def _decoder_window(self) -> int:
        """Tokens that a decoder's layers attend back to, which must include the prompts; 0 for all tokens."""
        if not self.causal:
            return 0
        # only some decoders have windows, and some of those only in part of their layers
        layer_types = getattr(self.text_config, "layer_types", None) or ["sliding_attention"]
        windowed = "sliding_attention" in layer_types
        return (windowed and getattr(self.text_config, "sliding_window", None)) or 0

    def get_text_config(self, *args, **kwargs) -> PreTrainedConfig:
        return self.text_config if self.use_plm else self
