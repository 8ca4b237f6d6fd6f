# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds the PLM of a model, and loads pretrained weights into it."""

import inspect
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


def build_plm(text_config: PreTrainedConfig) -> PreTrainedModel:
    """Build a PLM with fresh weights, without its unused pooler and without the decoder of an encoder-decoder pair.

    Raises:
        ValueError: If `text_config` is not that of a language model or of a pair with a separate text encoder.
    """
    plm_class: Any = _encoder_of_a_pair(text_config)
    if plm_class is None:
        if type(text_config) not in MODEL_MAPPING or text_config.is_encoder_decoder:
            raise ValueError(
                "`text_config` must be that of a language model, or of a pair with a separate text encoder such as "
                f"T5; got {type(text_config).__name__}."
            )
        plm_class = MODEL_MAPPING[type(text_config)]
    return plm_auto_class(text_config).from_config(text_config, **without_pooler(plm_class))


def without_pooler(plm_class: type[PreTrainedModel]) -> dict[str, bool]:
    """Arguments that build a PLM without a pooler, if its class knows of one."""
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(plm_class).parameters else {}


def plm_auto_class(text_config: PreTrainedConfig) -> Any:
    """Return the Auto class of the PLM without a head and without the decoder of a pair."""
    return AutoModelForTextEncoding if _encoder_of_a_pair(text_config) else AutoModel


def _encoder_of_a_pair(text_config: PreTrainedConfig) -> Any:
    """The class of the text encoder alone, if the PLM is an encoder-decoder pair that has one; `None` otherwise."""
    family = type(text_config)
    if family not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return None
    encoder_class = MODEL_FOR_TEXT_ENCODING_MAPPING[family]
    return None if family in MODEL_MAPPING and MODEL_MAPPING[family] is encoder_class else encoder_class


def load_plm(
    plm: PreTrainedModel, auto_class: Any, plm_name_or_path: Any, plm_kwargs: dict[str, Any]
) -> tuple[Any, set[str]]:
    """Load a pretrained PLM and copy its trunk; it may have more parts: a pooler, a head, a decoder.

    Args:
        plm: The trunk to copy to, as `build_plm` builds it.
        auto_class: The Auto class to load the pretrained PLM with.
        plm_name_or_path: Its Hub id or folder.
        plm_kwargs: Keyword arguments of its `from_pretrained`.

    Returns:
        The pretrained PLM, and the names of its tensors that were not found.

    Raises:
        ValueError: If weights of the trunk are missing, NaN or infinite.
    """
    whole, info = auto_class.from_pretrained(plm_name_or_path, output_loading_info=True, **plm_kwargs)
    missing, given = set(info["missing_keys"]), whole.base_model.state_dict()
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
