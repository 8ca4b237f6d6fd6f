# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds the PLM of a model, and loads pretrained weights into it."""

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)

from .loading_clickprompt import listed, non_finite
from .warnings_clickprompt import filtered_logs, warn_at_caller

# What transformers logs about a checkpoint whose weights are not those of the model. The others are faults.
_REPORT, _FAULTS_IN_REPORT = "LOAD REPORT", ("MISMATCH", "CONVERSION")


def build_plm(text_config: PreTrainedConfig) -> PreTrainedModel:
    """Build a randomly initialized PLM, without its unused pooler and without the decoder of an encoder-decoder pair.

    Raises:
        ValueError: If `text_config` is not that of a language model or of a pair with a separate text encoder.
    """
    auto_class, plm_class = plm_classes(text_config)
    if plm_class is None or (auto_class is AutoModel and text_config.is_encoder_decoder):
        raise ValueError(
            "`text_config` must be that of a language model, or of a pair with a separate text encoder such as "
            f"T5; got {type(text_config).__name__}."
        )
    return auto_class.from_config(text_config, **without_pooler(plm_class))


def without_pooler(plm_class: type[PreTrainedModel]) -> dict[str, bool]:
    """Arguments that build a PLM without a pooler, if its class can have one."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(plm_class).parameters else {}


def plm_classes(text_config: PreTrainedConfig) -> tuple[Any, Any]:
    """Return the Auto class and the class of a PLM without a head, or of the encoder alone if it is half of a pair.

    The latter is `None` if no Auto class knows the configuration.
    """
    family = type(text_config)
    whole = MODEL_MAPPING.get(family, None)
    encoder = MODEL_FOR_TEXT_ENCODING_MAPPING.get(family, whole)
    return (AutoModel, whole) if encoder is whole else (AutoModelForTextEncoding, encoder)


def load_pretrained(auto_class: Any, plm_name_or_path: Any, **plm_kwargs: Any) -> tuple[Any, set[str]]:
    """Load a pretrained PLM, which may lack parts, such as a pooler, and whose checkpoint may have others, such as a
    head: only surplus weights of its layers trigger a warning.

    Args:
        auto_class: The Auto class to load it with.
        plm_name_or_path: Hub id or folder of the pretrained PLM.
        plm_kwargs: Keyword arguments of its `from_pretrained`.

    Returns:
        The PLM, and the names of its tensors that were not found.
    """
    with filtered_logs(["transformers.modeling_utils"], _no_load_report_of(threading.get_ident())):
        plm, info = auto_class.from_pretrained(plm_name_or_path, output_loading_info=True, **plm_kwargs)
    trunk = plm.base_model
    parts = {name.partition(".")[0] for name in trunk.state_dict()}
    names = {key: key.removeprefix(f"{trunk.base_model_prefix}.") for key in info["unexpected_keys"]}
    if surplus := [key for key, name in names.items() if name.partition(".")[0] in parts]:
        warn_at_caller(
            f"{plm_name_or_path} has weights that {type(trunk).__name__} with its configuration does not use: "
            f"{listed(surplus)}."
        )
    return plm, set(info["missing_keys"])


def _no_load_report_of(thread: int) -> Callable[[logging.LogRecord], bool]:
    """Filter of messages: all but a thread's reports about weights that a checkpoint lacks or has beside others."""

    def is_shown(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        is_hidden = _REPORT in message and not any(fault in message for fault in _FAULTS_IN_REPORT)
        return record.thread != thread or not is_hidden

    return is_shown


def load_plm(
    plm: PreTrainedModel, plm_name_or_path: Any, plm_kwargs: dict[str, Any], auto_class: Any
) -> tuple[Any, set[str]]:
    """Load a pretrained PLM and copy its trunk; it may have more parts: a pooler, a head, a decoder.

    Args:
        plm: The trunk to copy to, as `build_plm` builds it.
        plm_name_or_path: Hub id or folder of the pretrained PLM.
        plm_kwargs: Keyword arguments of its `from_pretrained`.
        auto_class: The Auto class to load it with.

    Returns:
        The pretrained PLM, and the names of its tensors that were not found.

    Raises:
        ValueError: If weights of the trunk are missing, NaN or infinite.
    """
    whole, missing = load_pretrained(auto_class, plm_name_or_path, **plm_kwargs)
    given = whole.base_model.state_dict()
    weights = {name: given[name] for name in plm.state_dict()}
    prefix = "" if whole.base_model is whole else f"{whole.base_model_prefix}."
    if lost := [name for name in weights if f"{prefix}{name}" in missing]:
        raise ValueError(
            f"{plm_name_or_path} must hold all weights of {type(plm).__name__}, but lacks {listed(lost)}."
        )
    if broken := non_finite(weights):
        raise ValueError(f"{plm_name_or_path} must hold finite weights, but NaN or infinity is in {listed(broken)}.")
    plm.load_state_dict(weights)
    return whole, missing
