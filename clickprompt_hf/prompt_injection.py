# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The ways prompts enter a pretrained language model (PLM).

Shapes: B batch, U distinct texts, T text tokens, R positions that are read, H PLM hidden size, L PLM layers that get
prompts, A attention heads, K prompt length.
"""

import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from .configuration_clickprompt import ClickPromptConfig
from .packed_layers import can_pack, run_packed_layers
from .plm_split import PLM_SPLITS
from .rows_by_length import run_by_length


@dataclass(frozen=True)
class PromptSizes:
    """Sizes of the prompts that an injection takes.

    Args:
        num_layers: L, the number of layers with prompts.
        hidden_size: H of the PLM.
        slot_shape: Shape of one prompt in one layer: (2, A, head size) for a key and a value, (H,) for a hidden state.
    """

    num_layers: int
    hidden_size: int
    slot_shape: tuple[int, ...]


class PromptInjection:
    """Base class: one way for prompts to enter a PLM.

    A model chooses its injection once, when it is built. An injection holds neither tensors nor modules nor the state
    of a call, so threads share it and a copy of the model can use a copy of it.

    Args:
        plm: The PLM. A subclass may register hooks on its layers.
        config: Configuration of the model.
    """

    sizes: PromptSizes

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        self.num_prompts = config.num_prompts
        # Nothing is generated: a cache of the text would only take memory.
        self.plm_options = {"use_cache": False} if config.causal else {}

    @property
    def num_input_prompts(self) -> int:
        """Number of positions that prompts take in front of the text in the PLM's hidden states: 0 or K."""
        return self.num_prompts

    def project(self, plm: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, L, K, H) to prompts (B, L, K, H), the form in which prompts enter the layers."""
        return states

    def inject(
        self,
        plm: PreTrainedModel,
        prompts: torch.Tensor | None,
        text: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        read_positions: torch.Tensor | None = None,
        **output_options: bool,
    ) -> Any:
        """Run the layers that see prompts on the text and its prompts.

        Args:
            plm: The PLM that the injection was made for, or a copy of it.
            prompts: The prompts, in the shape that the subclass documents.
            text: (B, T), token ids, or for late prompts (B, T, H), the text's states after the layers below.
            attention_mask: (B, T), 1 at text, 0 at padding; `None` for all ones.
            read_positions: (B, R), text positions in [0, T) to return states of; `None` for all T.
            output_options: `output_hidden_states` and `output_attentions`, whether to return those of all layers.

        Returns:
            The PLM's outputs. `last_hidden_state` is (B, T, H), or (B, R, H) with `read_positions`; `hidden_states`
            and `attentions` are those of the layers that ran. `hidden_states` keep the prompts' positions, see
            `text_states`.

        Raises:
            RuntimeError: If a layer ran without its prompts.
        """
        raise NotImplementedError

    def inject_rows(
        self,
        plm: PreTrainedModel,
        prompts: torch.Tensor | None,
        texts: Any,
        attention_mask: torch.Tensor | None,
        text_rows: torch.Tensor | None,
        read_positions: torch.Tensor | None,
        **output_options: bool,
    ) -> Any:
        """Run `inject` on rows that may share texts.

        Args:
            plm: As in `inject`.
            prompts: Those of each row.
            texts: (U, T) or (U, T, H), the texts.
            attention_mask: (U, T), of the texts.
            text_rows: (B,), the text of each row; `None` if row i has text i.
            read_positions: As in `inject`.
            output_options: As in `inject`.
        """
        text, mask = take_rows(texts, text_rows), take_rows(attention_mask, text_rows)
        return self.inject(plm, prompts, text, mask, read_positions, **output_options)

    def text_states(self, states: torch.Tensor) -> torch.Tensor:
        """One layer's states (B, K + T, H), or (B, T, H) without prompt positions, to the text's states (B, T, H)."""
        return states[:, self.num_input_prompts :]

    def make_mask(self, text: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Text (B, T, ...) and its mask (B, T) to a mask (B, K + T): every text position sees every prompt."""
        if attention_mask is None:
            attention_mask = torch.ones(text.shape[:2], dtype=torch.int64, device=text.device)
        return F.pad(attention_mask, (self.num_prompts, 0), value=1)

    def read(self, outputs: Any, read_positions: torch.Tensor | None) -> Any:
        """Cut the last state of `outputs` down to the text, and to `read_positions` (B, R) if given."""
        states = self.text_states(outputs.last_hidden_state)
        outputs.last_hidden_state = states if read_positions is None else take_positions(states, read_positions)
        return outputs


class NoInjection(PromptInjection):
    """Text alone, without prompts."""

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        mask = self.make_mask(text, attention_mask)
        outputs = plm(input_ids=text, attention_mask=mask, **output_options, **self.plm_options)
        return self.read(outputs, read_positions)


class InputInjection(PromptInjection):
    """Shallow prompts: vectors (B, K, width) in front of the input embeddings, of the embeddings' width."""

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        super().__init__(plm, config)
        embeddings: Any = plm.get_input_embeddings()
        self.sizes = PromptSizes(1, config.text_config.hidden_size, (embeddings.embedding_dim,))

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        words = plm.get_input_embeddings()(text)
        # (B, K, width) and (B, T, width) -> (B, K + T, width)
        words = torch.cat([prompts.to(words.device), words], dim=1)
        mask = self.make_mask(text, attention_mask)
        outputs = plm(inputs_embeds=words, attention_mask=mask, **output_options, **self.plm_options)
        return self.read(outputs, read_positions)


class LayerwiseInjection(PromptInjection):
    """Base class of injections with separate prompts for each PLM layer; `layers` are the indices of these layers."""

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        super().__init__(plm, config)
        self.layers = range(config.num_lower_layers, config.text_config.num_hidden_layers)

    def check_all_read(self, plm: PreTrainedModel, layers_read: set[int]) -> None:
        """Raise a RuntimeError if a layer that has prompts is not in `layers_read`."""
        if unread := sorted(set(self.layers) - layers_read):
            raise RuntimeError(f"{type(plm).__name__} ignored the prompts of its layers {unread}.")


class PromptCache(Cache):
    """Read-only key-value cache that puts a layer's prompts in front of the layer's own keys and values.

    One cache serves one call. `update` stores no keys or values, so a layer can run twice on one cache, as gradient
    checkpointing does.

    Args:
        prompts: (B, L, 2, A, K, head size), keys and values of each layer in `layers`.
        layers: Indices of the PLM layers that have prompts.
        read_positions: (B, R), text positions of the last layer to compute; `None` for all.
    """

    def __init__(self, prompts: torch.Tensor, layers: range, read_positions: torch.Tensor | None = None):
        super().__init__(layers=[])
        self.prompts, self.prompted_layers = prompts, layers
        self.read_positions = read_positions
        self.last_text: tuple[torch.Tensor, torch.Tensor] | None = None
        self.layers_read: set[int] = set()

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        """Keys and values (B, A, T, head size) of a layer to (B, A, K + T, head size).

        Raises:
            ValueError: If the layer's heads differ from the prompts' in number or width.
        """
        if self.last_text is not None and layer_idx == self.prompted_layers[-1]:
            # The last layer computed its own for the read positions only. Earlier layers may be replayed after it.
            key_states, value_states = self.last_text
        # (B, L, 2, A, K, head) -> keys and values (B, A, K, head)
        keys, values = self.prompts[:, self.prompted_layers.index(layer_idx)].to(key_states).unbind(dim=1)
        for name, prompt, own in (("keys", keys, key_states), ("values", values, value_states)):
            if (prompt.shape[1], prompt.shape[3]) != (own.shape[1], own.shape[3]):
                raise ValueError(
                    f"`prompt_strategy` 'layerwise' needs {name} of {prompt.shape[1]} heads of width "
                    f"{prompt.shape[3]}, as in the PLM's configuration; layer {layer_idx} has {own.shape[1]} of "
                    f"{own.shape[3]}. Use 'shallow' or 'none'."
                )
        self.layers_read.add(layer_idx)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prompts.shape[4]

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


# Families whose layers make keys and values directly from their input: post-norm, without rotary positions or position
# biases. A signature does not tell them from pre-norm families, so each one here has a test.
_SELECTING_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
# Kernels whose attention mask has one row per query position, or none.
_SELECTING_KERNELS = ("eager", "sdpa")


class KeyValueInjection(LayerwiseInjection):
    """Layerwise prompts as keys and values (B, L, 2, A, K, head size), which every layer finds in its cache.

    In families that allow it, the last layer computes only the positions that are read: with one position, that saves
    a fifth of the work of 4 layers.
    """

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        super().__init__(plm, config)
        text_config = config.text_config
        num_heads, hidden_size = text_config.num_attention_heads, text_config.hidden_size
        # Only some families have fewer key and value heads than query heads, or heads of another width than H / A.
        num_key_heads = getattr(text_config, "num_key_value_heads", None) or num_heads
        head_size = getattr(text_config, "head_dim", None) or hidden_size // num_heads
        self.sizes = PromptSizes(len(self.layers), hidden_size, (2, num_key_heads, head_size))
        layers = checkpointing_layers(plm)
        for layer in layers:
            # Layers only read the prompts, so a replay sees the same ones. Without this, they are dropped.
            layer._can_checkpoint_with_cache = True
        if config.prompt_encoder == "paper":
            # refuses a PLM without usable projections now instead of in the first batch
            for layer in layers:
                layer_projection(layer)
        self.cache_argument = str(_cache_argument(plm))
        chunked = getattr(text_config, "chunk_size_feed_forward", 0)
        self.selects_positions = text_config.model_type in _SELECTING_FAMILIES and not chunked
        if self.selects_positions:
            layers[-1].register_forward_pre_hook(_select_positions, with_kwargs=True)

    @property
    def num_input_prompts(self) -> int:
        return 0

    def project(self, plm: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, L, K, H) to keys and values (B, L, 2, A, K, head size), by the layers' own projections."""
        prompted = [checkpointing_layers(plm)[index] for index in self.layers]
        keys_and_values = [
            torch.stack(layer_projection(layer)(own), dim=1).to(states.device)
            for layer, own in zip(prompted, states.unbind(dim=1))
        ]
        # L times (B, 2, K, A·head) -> (B, L, 2, K, A, head) -> (B, L, 2, A, K, head)
        _, num_heads, head_size = self.sizes.slot_shape
        return torch.stack(keys_and_values, dim=1).unflatten(-1, (num_heads, head_size)).transpose(3, 4)

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        selected = read_positions if self.can_select(plm, output_options) else None
        cache = PromptCache(prompts, self.layers, selected)
        mask = self.make_mask(text, attention_mask)
        outputs = self.run(plm, text, mask, {self.cache_argument: cache}, output_options)
        self.check_all_read(plm, cache.layers_read)
        return outputs if selected is not None else self.read(outputs, read_positions)

    def can_select(self, plm: PreTrainedModel, output_options: dict[str, bool]) -> bool:
        """Whether the last layer may compute some positions only."""
        # states or attentions of all layers must cover all positions
        return (
            self.selects_positions
            and plm.config._attn_implementation in _SELECTING_KERNELS
            and not any(output_options.values())
        )

    def run(self, plm, text, attention_mask, cache: dict[str, PromptCache], output_options: dict[str, bool]) -> Any:
        """Run the layers with prompts on the text; `cache` holds the cache under the name of the PLM's argument."""
        return plm(input_ids=text, attention_mask=attention_mask, **cache, **output_options, **self.plm_options)


class LateKeyValueInjection(KeyValueInjection):
    """Keys and values (B, N, 2, A, K, head size) for the last N layers, on the states (B, T, H) of the layers below.

    Without prompts, K is 0. On CPUs, layers of families that allow it run on tokens without padding.
    """

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        super().__init__(plm, config)
        self.split = PLM_SPLITS[config.text_config.model_type]

    def inject_rows(self, plm, prompts, texts, attention_mask, text_rows, read_positions, **output_options) -> Any:
        if prompts is None:
            num_rows = len(texts if text_rows is None else text_rows)
            keys_and_values, num_heads, head_size = self.sizes.slot_shape
            prompts = texts.new_empty(num_rows, len(self.layers), keys_and_values, num_heads, 0, head_size)
        layers = self.split.layers(plm)[self.layers.start :]
        if self.can_select(plm, output_options) and can_pack(layers, texts, attention_mask, _select_positions):
            states = run_packed_layers(layers, texts, attention_mask, text_rows, prompts, read_positions)
            return BaseModelOutput(last_hidden_state=states)
        return super().inject_rows(plm, prompts, texts, attention_mask, text_rows, read_positions, **output_options)

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        inject = partial(super().inject, plm)
        return run_by_length(inject, prompts, text, attention_mask, read_positions, **output_options)

    def run(self, plm, text, attention_mask, cache: dict[str, PromptCache], output_options: dict[str, Any]) -> Any:
        return self.split.run_layers(plm, self.layers, text, attention_mask, cache, **output_options)


def _select_positions(layer: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Forward pre-hook of the last layer: hidden states (B, T, H) to those at the positions that are read (B, R, H).

    The layer's own projections make the keys and values of all positions here. Its queries, its output projection and
    its feed-forward layer, 10 of the 12 H² multiplications per token, run at the read positions only.
    """
    cache = next((kwargs[name] for name in _CACHE_ARGUMENTS if name in kwargs), None)
    if not isinstance(cache, PromptCache) or cache.read_positions is None:
        return None
    states, mask, *others = args
    heads = cache.prompts.shape[3]
    # (B, T, A·head) -> (B, T, A, head) -> (B, A, T, head)
    keys, values = (made.unflatten(-1, (heads, -1)).transpose(1, 2) for made in layer_projection(layer)(states))
    cache.last_text = keys, values
    states = take_positions(states, cache.read_positions)
    # Every position has the same mask: (B, 1, T, K + T) -> (B, 1, 1, K + T)
    return (states, None if mask is None else mask[:, :, :1], *others), kwargs


def take_rows(tensor: Any, rows: torch.Tensor | None) -> Any:
    """Tensor (U, ...) at rows (B,) to (B, ...); unchanged if either is `None`."""
    return tensor if tensor is None or rows is None else tensor.index_select(0, rows.to(tensor.device))


def take_positions(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States (B, T, H) at positions (B, R) to (B, R, H)."""
    positions = positions.to(states.device)
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


@dataclass
class _HiddenStateCall:
    """Prompts (B, L, K, H) of one call, and the layers that have read theirs."""

    prompts: torch.Tensor
    first_layer: int
    layers_read: set[int] = field(default_factory=set)


class _RunningCall(threading.local):
    """The call that runs in this thread: layers without a cache argument can only get prompts this way."""

    call: _HiddenStateCall | None = None


_running = _RunningCall()


class HiddenStateInjection(LayerwiseInjection):
    """Layerwise prompts as hidden states (B, L, K, H) in front of every layer's input, for layers without a cache.

    The sequence has K more positions. A layer's output there is discarded: the next layer gets its own prompts.
    """

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig, layers_name: str):
        super().__init__(plm, config)
        hidden_size = config.text_config.hidden_size
        self.sizes = PromptSizes(len(self.layers), hidden_size, (hidden_size,))
        self.windowed = "sliding_attention" in _layer_types(plm)
        layers: Any = plm.get_submodule(layers_name)
        for index in self.layers:
            # Hooks run outside gradient checkpointing: transformers replays `forward` without them.
            layers[index].register_forward_pre_hook(partial(_replace_prompt_states, index), with_kwargs=True)

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        words = plm.get_input_embeddings()(text)
        # (B, T, width) -> (B, K + T, width)
        words = F.pad(words, (0, 0, self.num_prompts, 0))
        mask: Any = self.make_mask(text, attention_mask)
        if self.windowed:
            mask = _masks_that_show_prompts(plm, words, mask, self.num_prompts)
        call = _HiddenStateCall(prompts, self.layers.start)
        # restored afterwards, since a call may run inside another one
        outer, _running.call = _running.call, call
        try:
            outputs = plm(inputs_embeds=words, attention_mask=mask, **output_options, **self.plm_options)
        finally:
            _running.call = outer
        self.check_all_read(plm, call.layers_read)
        return self.read(outputs, read_positions)


class LateHiddenStateInjection(LayerwiseInjection):
    """Hidden states (B, N, K, H) in front of the last N layers' inputs, on the states (B, T, H) of the layers below.

    Outputs are those of the text's positions.
    """

    def __init__(self, plm: PreTrainedModel, config: ClickPromptConfig):
        super().__init__(plm, config)
        hidden_size = config.text_config.hidden_size
        self.sizes = PromptSizes(len(self.layers), hidden_size, (hidden_size,))
        self.split = PLM_SPLITS[config.text_config.model_type]

    @property
    def num_input_prompts(self) -> int:
        return 0

    def inject(self, plm, prompts, text, attention_mask=None, read_positions=None, **output_options: bool) -> Any:
        inject = partial(self._inject, plm)
        return run_by_length(inject, prompts, text, attention_mask, read_positions, **output_options)

    def _inject(self, plm, prompts, text, attention_mask, read_positions, **output_options: Any) -> Any:
        mask = self.make_mask(text, attention_mask)
        outputs = self.split.run_layers(plm, self.layers, text, mask, prompts=prompts, **output_options)
        return self.read(outputs, read_positions)


def _replace_prompt_states(index: int, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Forward pre-hook of layer `index`: hidden states (B, K + T, H), of which the first K become its prompts."""
    call = _running.call
    if call is None:
        return None
    call.layers_read.add(index)
    states = args[0] if args else kwargs["hidden_states"]
    prompts = call.prompts[:, index - call.first_layer].to(states)
    states = torch.cat([prompts, states[:, prompts.shape[1] :]], dim=1)
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


def _layer_types(plm: PreTrainedModel) -> set[str]:
    # only families with several kinds of layers list them
    return set(getattr(plm.config, "layer_types", None) or ())


def _masks_that_show_prompts(
    plm: PreTrainedModel, words: torch.Tensor, attention_mask: torch.Tensor, num_prompts: int
) -> dict[str, Any]:
    """Masks by kind of layer, for words (B, K + T, width): every position sees the prompts, whatever the window."""
    mask_inputs: dict[str, Any] = {"config": plm.config, "inputs_embeds": words, "attention_mask": attention_mask}

    def is_prompt(batch, head, query, key):
        return key < num_prompts

    return {
        "full_attention": create_bidirectional_mask(**mask_inputs),
        "sliding_attention": create_bidirectional_sliding_window_mask(**mask_inputs, or_mask_function=is_prompt),
    }


def choose_injection(plm: PreTrainedModel, config: ClickPromptConfig) -> PromptInjection:
    """Choose how the prompts of `config` enter `plm`.

    Layerwise prompts enter through the cache if the PLM's forward takes one, else in front of hidden states. With
    `prompt_depth` below L, they enter the last layers only, whose input is then the states of the layers below.

    Raises:
        ValueError: If prompts are layerwise and the PLM's class offers neither.
    """
    if config.prompt_strategy == "none" and not config.num_lower_layers:
        return NoInjection(plm, config)
    if config.prompt_strategy == "shallow":
        return InputInjection(plm, config)
    parameters = inspect.signature(plm.forward).parameters
    if getattr(plm.config, "is_decoder", False):
        raise ValueError(f"`text_config.is_decoder` must be False: {type(plm).__name__} takes prompts as an encoder.")
    if config.num_lower_layers:
        takes_cache = PLM_SPLITS[config.text_config.model_type].takes_cache
        return LateKeyValueInjection(plm, config) if takes_cache else LateHiddenStateInjection(plm, config)
    if others := _layer_types(plm) - {"full_attention", "sliding_attention"}:
        raise ValueError(
            f"`prompt_strategy` 'layerwise' needs a PLM whose layers all attend to tokens; {type(plm).__name__} also "
            f"has {sorted(others)}. Use 'shallow' or 'none'."
        )
    if _cache_argument(plm) is not None:
        return KeyValueInjection(plm, config)
    layers = layer_lists(plm)
    if {"inputs_embeds", "attention_mask"} <= set(parameters) and layers:
        # the outermost list: a layer may hold lists of its own
        return HiddenStateInjection(plm, config, layers[0])
    raise ValueError(
        f"`prompt_strategy` 'layerwise' needs a PLM whose forward takes a key-value cache, or one that takes "
        f"`inputs_embeds` and holds its layers in a list; {type(plm).__name__} is neither. Use 'shallow' or 'none'."
    )


# transformers 5.24 renamed the argument.
_CACHE_ARGUMENTS = ("cache", "past_key_values")


def _cache_argument(plm: PreTrainedModel) -> str | None:
    """Name of the argument through which a PLM's forward takes a key-value cache; `None` if it takes none."""
    parameters = inspect.signature(plm.forward).parameters
    return next((name for name in _CACHE_ARGUMENTS if name in parameters), None)


def checkpointing_layers(plm: PreTrainedModel) -> list[Any]:
    """The layers of a PLM, in order, found by the class that provides gradient checkpointing."""
    return [module for module in plm.modules() if isinstance(module, GradientCheckpointingLayer)]


def layer_lists(plm: PreTrainedModel) -> list[str]:
    """Names of the lists that hold a PLM's layers, outermost first: modules whose forward takes `hidden_states`."""
    return [
        name
        for name, modules in plm.named_modules()
        if isinstance(modules, nn.ModuleList)
        and len(modules) == plm.config.num_hidden_layers
        and next(iter(inspect.signature(modules[0].forward).parameters), None) == "hidden_states"
    ]


_KEY_AND_VALUE_NAMES = (("key", "value"), ("k_proj", "v_proj"))
_FUSED_NAME = "c_attn"


def layer_projection(layer: nn.Module) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
    """Find the function from states (B, K, H) to keys and values (B, K, A · head size) in a PLM layer.

    Raises:
        ValueError: If the layer's projections have none of the usual names.
    """
    modules: tuple[Any, ...] = projection_modules(layer)
    return partial(_fused_projections if len(modules) == 1 else _separate_projections, *modules)


def projection_modules(layer: nn.Module) -> tuple[nn.Module, ...]:
    """Find the projections of a PLM layer: one for keys and one for values, or one for queries, keys and values.

    Raises:
        ValueError: If they have none of the usual names.
    """
    found = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
    for key, value in _KEY_AND_VALUE_NAMES:
        if {key, value} <= set(found):
            return found[key], found[value]
    if _FUSED_NAME in found:
        return (found[_FUSED_NAME],)
    raise ValueError(
        f"`prompt_encoder` 'paper' needs the key and value projections of each PLM layer, named as one of "
        f"{_KEY_AND_VALUE_NAMES}, or all in {_FUSED_NAME!r}; {type(layer).__name__} has none. Use 'released' "
        "or 'low_rank'."
    )


def _separate_projections(key: nn.Module, value: nn.Module, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return key(states), value(states)


def _fused_projections(query_key_value: nn.Module, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
    # GPT-2's Conv1D needs contiguous states
    return query_key_value(states.contiguous()).chunk(3, dim=-1)[1:]
