# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The ways prompts enter a pretrained language model (PLM).

Shapes: B batch, T text tokens, H PLM hidden size, L PLM layers, A attention heads, K prompt length.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask
from transformers.modeling_layers import GradientCheckpointingLayer


def fresh_plm(text_config: PreTrainedConfig) -> PreTrainedModel:
    """The PLM with fresh weights: without a pooler, which nothing reads, and without the decoder of a pair."""
    return plm_auto_class(text_config).from_config(text_config, **_no_pooler(text_config))


def plm_auto_class(text_config: PreTrainedConfig) -> Any:
    """The Auto class of the PLM alone, without a head and without the decoder of a pair."""
    return AutoModelForTextEncoding if _encoder_of_a_pair(text_config) else AutoModel


def _encoder_of_a_pair(text_config: PreTrainedConfig) -> Any:
    """The class of the encoder alone, where the PLM is a pair of an encoder and a decoder and has one."""
    family = type(text_config)
    if family not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return None
    encoder_class = MODEL_FOR_TEXT_ENCODING_MAPPING[family]
    return None if family in MODEL_MAPPING and MODEL_MAPPING[family] is encoder_class else encoder_class


def _no_pooler(text_config: PreTrainedConfig) -> dict[str, bool]:
    plm_class: Any = _encoder_of_a_pair(text_config)
    if plm_class is None:
        if type(text_config) not in MODEL_MAPPING or text_config.is_encoder_decoder:
            raise ValueError(
                f"`text_config` must be that of a language model, or of a pair with a text encoder of its own, as T5; "
                f"got {type(text_config).__name__}."
            )
        plm_class = MODEL_MAPPING[type(text_config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(plm_class).parameters else {}


class PromptCache(Cache):
    """Read-only key-value cache that puts the prompts in front of a layer's own keys and values.

    `update` stores nothing, so that a layer may run twice on it, as gradient checkpointing does.

    Args:
        prompts: (B, L, 2, A, K, head size), keys and values for every layer.
        read_positions: (B, R), the text positions of the last layer whose output is read; all when left out.
    """

    def __init__(self, prompts: torch.Tensor, read_positions: torch.Tensor | None = None):
        super().__init__(layers=[])
        self.prompts = prompts
        self.read_positions = read_positions
        self.last_text: tuple[torch.Tensor, torch.Tensor] | None = None
        self.layers_read: set[int] = set()

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        """Keys and values (B, A, T, head size) to (B, A, K + T, head size)."""
        if self.last_text is not None and layer_idx == self.prompts.shape[1] - 1:
            # the layer made those of the positions that are read only; earlier ones may be replayed after it
            key_states, value_states = self.last_text
        keys, values = self.prompts[:, layer_idx].to(key_states.dtype).unbind(dim=1)
        for name, prompt, own in (("keys", keys, key_states), ("values", values, value_states)):
            if (prompt.shape[1], prompt.shape[3]) != (own.shape[1], own.shape[3]):
                raise ValueError(
                    f"`prompt_strategy` 'layerwise' needs {name} of {prompt.shape[1]} heads of width "
                    f"{prompt.shape[3]}, as the PLM's configuration says; layer {layer_idx} has {own.shape[1]} of "
                    f"{own.shape[3]}. Use 'shallow' or 'none'."
                )
        self.layers_read.add(layer_idx)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prompts.shape[4]

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class CachePath:
    """Layerwise prompts as keys and values that every layer finds in its cache.

    Args:
        plm: Its forward takes `past_key_values`. Its layers are told to keep them under gradient checkpointing.
    """

    def __init__(self, plm: PreTrainedModel):
        for layer in plm.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                # The layers only read the prompts, so a replay sees the same ones; without this they are dropped.
                layer._can_checkpoint_with_cache = True
        self.can_select = plm.config.model_type in _SELECTABLE_FAMILIES and not getattr(
            plm.config, "chunk_size_feed_forward", 0
        )
        if self.can_select:
            _last_layer(plm).register_forward_pre_hook(_select_positions, with_kwargs=True)

    def run(
        self,
        plm: PreTrainedModel,
        prompts: torch.Tensor,
        input_ids: torch.Tensor,
        read_positions: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        """The PLM's outputs for prompts (B, L, 2, A, K, head size) and text (B, T).

        With `read_positions` (B, R), which needs `can_select`, the last state is (B, R, H).
        """
        cache = PromptCache(prompts, read_positions)
        outputs = plm(input_ids=input_ids, past_key_values=cache, **inputs)
        _check_all_read(plm, set(range(prompts.shape[1])) - cache.layers_read)
        return outputs


# Families whose layers make keys and values of their very input, as post-norm layers without rotations or biases of
# places do. No signature tells them from pre-norm ones; each of these is tested.
_SELECTABLE_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


def _last_layer(plm: PreTrainedModel) -> Any:
    return [layer for layer in plm.modules() if isinstance(layer, GradientCheckpointingLayer)][-1]


def _select_positions(layer: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Forward pre-hook of the last layer: hidden states (B, T, H) to those at the positions that are read (B, R, H).

    The keys and values of all positions are made here, from the layer's own projections; its queries, its output and
    its feed-forward layer, 10 of the 12 H² multiplications a token, are left to the positions that are read. With one
    position that is a fifth of the work of 4 layers.
    """
    cache = kwargs.get("past_key_values")
    if not isinstance(cache, PromptCache) or cache.read_positions is None:
        return None
    states, mask, *others = args
    heads = cache.prompts.shape[3]
    # (B, T, A·head) -> (B, T, A, head) -> (B, A, T, head)
    keys, values = (made.unflatten(-1, (heads, -1)).transpose(1, 2) for made in layer_projection(layer)(states))
    cache.last_text = keys, values
    states = take_positions(states, cache.read_positions)
    # every position has the same mask: (B, 1, T, K + T) -> (B, 1, 1, K + T)
    return (states, None if mask is None else mask[:, :, :1], *others), kwargs


def take_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States (B, T, H) at positions (B, R) to (B, R, H)."""
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


class HiddenStatePath:
    """Layerwise prompts as hidden states in front of every layer's input, for PLMs whose layers know no cache.

    The sequence has K places more. What a layer makes of them is thrown away: the next finds its own prompts there.

    Args:
        plm: Its forward takes `inputs_embeds`, and its layers are in one list.
        layers: Name of that list.
    """

    def __init__(self, plm: PreTrainedModel, layers: str):
        self.layers = layers
        layer: Any
        for layer in plm.get_submodule(layers).children():
            layer.prompt_states = None
            # Outside of gradient checkpointing: transformers replays `forward`, not the hooks.
            layer.register_forward_pre_hook(_replace_prompt_states, with_kwargs=True)

    def run(self, plm: PreTrainedModel, prompts: torch.Tensor, input_ids: torch.Tensor, **inputs: Any) -> Any:
        """The PLM's outputs for prompts (B, L, K, H) and text (B, T); the K places come first."""
        layers: list[Any] = list(plm.get_submodule(self.layers).children())
        for layer, states in zip(layers, prompts.unbind(dim=1)):
            layer.prompt_states = states
        # (B, T, width) -> (B, K + T, width)
        words = F.pad(plm.get_input_embeddings()(input_ids), (0, 0, prompts.shape[2], 0))
        if "sliding_attention" in _layer_types(plm):
            inputs["attention_mask"] = _masks_that_show_prompts(
                plm, words, inputs["attention_mask"], num_prompts=prompts.shape[2]
            )
        outputs = plm(inputs_embeds=words, **inputs)
        _check_all_read(plm, {index for index, layer in enumerate(layers) if layer.prompt_states is not None})
        return outputs


def _replace_prompt_states(layer: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Forward pre-hook: hidden states (B, K + T, H), of which the first K become the layer's prompts."""
    prompts, layer.prompt_states = layer.prompt_states, None
    if prompts is None:
        return None
    states = args[0] if args else kwargs["hidden_states"]
    states = torch.cat([prompts.to(states.dtype), states[:, prompts.shape[1] :]], dim=1)
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


def _layer_types(plm: PreTrainedModel) -> set[str]:
    # only families whose layers differ name their kinds
    return set(getattr(plm.config, "layer_types", None) or ())


def _masks_that_show_prompts(
    plm: PreTrainedModel, words: torch.Tensor, attention_mask: torch.Tensor, num_prompts: int
) -> dict[str, Any]:
    """Masks by kind of layer, in which the prompts are visible from everywhere, whatever window a layer has."""
    mask_inputs: dict[str, Any] = {"config": plm.config, "inputs_embeds": words, "attention_mask": attention_mask}

    def is_prompt(batch, head, query, key):
        return key < num_prompts

    return {
        "full_attention": create_bidirectional_mask(**mask_inputs),
        "sliding_attention": create_bidirectional_sliding_window_mask(**mask_inputs, or_mask_function=is_prompt),
    }


def _check_all_read(plm: PreTrainedModel, unread: set[int]) -> None:
    if unread:
        raise RuntimeError(f"{type(plm).__name__} ran without the prompts of its layers {sorted(unread)}.")


def prompt_path(plm: PreTrainedModel) -> CachePath | HiddenStatePath:
    """How layerwise prompts enter `plm`: through the cache if its forward takes one, else in front of hidden states.

    Raises:
        ValueError: If its class offers neither.
    """
    parameters = inspect.signature(plm.forward).parameters
    if getattr(plm.config, "is_decoder", False):
        raise ValueError(f"`text_config.is_decoder` must be False: {type(plm).__name__} takes prompts as an encoder.")
    if others := _layer_types(plm) - {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"`prompt_strategy` 'layerwise' needs a PLM whose layers all attend to tokens; {type(plm).__name__} has "
            f"{sorted(others)} too. Use 'shallow' or 'none'."
        )
    if "past_key_values" in parameters:
        return CachePath(plm)
    layers = [
        name
        for name, modules in plm.named_modules()
        if isinstance(modules, nn.ModuleList)
        and len(modules) == plm.config.num_hidden_layers
        and next(iter(inspect.signature(modules[0].forward).parameters), None) == "hidden_states"
    ]
    if {"inputs_embeds", "attention_mask"} <= set(parameters) and layers:
        # the outermost list: a layer may hold lists of its own
        return HiddenStatePath(plm, layers[0])
    raise ValueError(
        f"`prompt_strategy` 'layerwise' needs a PLM whose forward takes `past_key_values`, or one that takes "
        f"`inputs_embeds` and holds its layers in a list; {type(plm).__name__} is neither. Use 'shallow' or 'none'."
    )


_KEY_AND_VALUE_NAMES = (("key", "value"), ("k_proj", "v_proj"))
_FUSED_NAME = "c_attn"


def key_value_projections(plm: PreTrainedModel) -> list[Callable[[torch.Tensor], tuple[torch.Tensor, ...]]]:
    """For every layer of the PLM, in order, what projects states (B, K, H) to keys and values (B, K, A · head size).

    Raises:
        ValueError: If a layer does not have the projections by a usual name.
    """
    return [layer_projection(layer) for layer in plm.modules() if isinstance(layer, GradientCheckpointingLayer)]


def layer_projection(layer: nn.Module) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """What projects states (B, K, H) to keys and values (B, K, A · head size) in one layer.

    Raises:
        ValueError: As `key_value_projections`.
    """
    found = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
    pairs = [(found[key], found[value]) for key, value in _KEY_AND_VALUE_NAMES if {key, value} <= set(found)]
    if pairs:
        return _separate_projections(*pairs[0])
    if _FUSED_NAME in found:
        return _fused_projections(found[_FUSED_NAME])
    raise ValueError(
        f"`prompt_encoder` 'paper' needs the key and value projections of each PLM layer, named as one of "
        f"{_KEY_AND_VALUE_NAMES}, or all in {_FUSED_NAME!r}; {type(layer).__name__} has none. Use 'released' "
        "or 'low_rank'."
    )


def _separate_projections(key: nn.Module, value: nn.Module):
    return lambda states: (key(states), value(states))


def _fused_projections(query_key_value: nn.Module):
    # GPT-2's Conv1D takes no strided states
    return lambda states: query_key_value(states.contiguous()).chunk(3, dim=-1)[1:]
