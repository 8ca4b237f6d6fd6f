# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs a pretrained language model (PLM) in two parts: lower layers on the text alone, upper layers with prompts.

A PLM's own forward runs all of its layers at once. Here, each kind of PLM says how it embeds tokens, what its layers
take besides states, and what follows the last layer; `PLMSplit.run_layers` runs any range of layers with that.

Positions enter at the bottom (embeddings) or count from the text's first token (rotary): prompts shift none of them.

Shapes: B batch, T text tokens, H PLM hidden size, L PLM layers, N layers of the range that runs, A attention heads,
K prompt length.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.output_capturing import capture_outputs

# Positional and keyword arguments of a layer, after the states.
LayerArguments = tuple[tuple[Any, ...], dict[str, Any]]


class PLMSplit:
    """Base class: one kind of PLM.

    Holds neither tensors nor modules nor the state of a call.
    """

    families: ClassVar[tuple[str, ...]]
    # whether layers read prompts from a key-value cache; else prompts are hidden states in front of the text's
    takes_cache: ClassVar[bool]
    # whether layers return their attention weights on request; else they report them to hooks of transformers
    returns_attentions: ClassVar[bool] = False
    layers_name: ClassVar[str]
    # parts that the lower layers' states depend on, besides the layers
    bottom_names: ClassVar[tuple[str, ...]]

    def embed(self, plm: Any, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids (B, T) to the first layer's input (B, T, H)."""
        raise NotImplementedError

    def layer_arguments(
        self, plm: Any, states: torch.Tensor, attention_mask: torch.Tensor | None, cache: Any = None
    ) -> LayerArguments:
        """What all layers take besides states: masks, and positions where the layers need them.

        Args:
            plm: The PLM.
            states: (B, T, H), or (B, K + T, H) with prompts in front.
            attention_mask: (B, K + T), or (B, T) without prompts; `None` for all ones.
            cache: The prompts' cache or `None`.
        """
        raise NotImplementedError

    def finish(self, plm: Any, states: torch.Tensor) -> torch.Tensor:
        """States after the last layer to the PLM's output, both (B, T, H)."""
        return states

    def layers(self, plm: Any) -> Any:
        """The list of the PLM's layers."""
        return plm.get_submodule(self.layers_name)

    def lower_modules(self, plm: Any, num_layers: int) -> list[nn.Module]:
        """All modules that the states after the first `num_layers` layers depend on."""
        known = dict(plm.named_modules())
        bottom = [known[name] for name in self.bottom_names if name in known]
        return [*bottom, *self.layers(plm)[:num_layers]]

    def run_lower(
        self,
        plm: PreTrainedModel,
        num_layers: int,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        **output_options: Any,
    ) -> BaseModelOutput:
        """Run the embeddings and the first `num_layers` layers on the text (B, T) alone; see `run_layers`."""
        states = self.embed(plm, input_ids)
        return self.run_layers(plm, range(num_layers), states, attention_mask, **output_options)

    def run_layers(
        self,
        plm: Any,
        layers: range,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: dict[str, Any] | None = None,
        prompts: torch.Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BaseModelOutput:
        """Run consecutive layers and, above the last one, what the PLM has on top.

        Args:
            plm: The PLM.
            layers: Indices of the layers.
            states: (B, T, H), input of the first of them.
            attention_mask: (B, K + T), or (B, T) without prompts, 1 at prompts and text, 0 at padding; `None` for all
                ones.
            cache: The layers' argument with the prompts' cache, by name, in kinds that take one.
            prompts: (B, N, K, H), hidden states in front of each layer's input, in the other kinds.
            output_hidden_states: Whether to return the states of all these layers.
            output_attentions: Whether to return their attention weights; needs eager attention.

        Returns:
            `last_hidden_state` (B, T, H), or (B, R, H) if the last layer computes only R positions; `hidden_states`,
            N + 1 tensors (B, T, H) from the input on; `attentions`, N tensors (B, A, T, K + T), or (B, A, K + T,
            K + T) if prompts are hidden states.
        """
        inputs = plm, layers, states, attention_mask, cache or {}, prompts, output_hidden_states
        if not output_attentions:
            return self._run_layers(*inputs)
        return _with_attentions(
            plm,
            partial(self._run_layers, *inputs, output_attentions=True),
            output_attentions=True,
            output_hidden_states=False,
            return_dict=True,
        )

    def _run_layers(
        self, plm, layers, states, attention_mask, cache, prompts, output_hidden_states, output_attentions=False
    ) -> BaseModelOutput:
        num_prompts = 0 if prompts is None else prompts.shape[2]
        all_states, all_attentions = [states], []
        if num_prompts:
            # (B, T, H) -> (B, K + T, H)
            states = F.pad(states, (0, 0, num_prompts, 0))
        others, named = self.layer_arguments(plm, states, attention_mask, *cache.values())
        if self.returns_attentions:
            named["output_attentions"] = output_attentions
        for number, layer in enumerate(self.layers(plm)[layers.start : layers.stop]):
            if num_prompts:
                states = torch.cat([prompts[:, number].to(states), states[:, num_prompts:]], dim=1)
            outputs = layer(states, *others, **named, **cache)
            # only some families return a tuple
            states, *attentions = outputs if isinstance(outputs, tuple) else (outputs,)
            all_attentions += attentions
            if output_hidden_states:
                all_states.append(states[:, num_prompts:])
        states = states[:, num_prompts:]
        if layers.stop == len(self.layers(plm)):
            states = self.finish(plm, states)
        return BaseModelOutput(
            last_hidden_state=states,
            hidden_states=(*all_states[:-1], states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
        )


@capture_outputs
def _with_attentions(plm: PreTrainedModel, run: Callable[[], BaseModelOutput], **options: bool) -> BaseModelOutput:
    """Call `run`; transformers adds the weights that the PLM's attention modules report, in families that do so."""
    return run()


class BertSplit(PLMSplit):
    """Encoders with positions in the embeddings and a cache."""

    families: ClassVar[tuple[str, ...]] = ("bert", "roberta", "xlm-roberta", "camembert")
    takes_cache = True
    layers_name = "encoder.layer"
    bottom_names: ClassVar[tuple[str, ...]] = ("embeddings",)

    def embed(self, plm, input_ids):
        return plm.embeddings(input_ids=input_ids)

    def layer_arguments(self, plm, states, attention_mask, cache=None):
        return (create_bidirectional_mask(plm.config, states, attention_mask),), {}


class ElectraSplit(BertSplit):
    """BERT's layers on embeddings that may be narrower than the layers."""

    families: ClassVar[tuple[str, ...]] = ("electra",)
    bottom_names: ClassVar[tuple[str, ...]] = ("embeddings", "embeddings_project")

    def embed(self, plm, input_ids):
        states = plm.embeddings(input_ids=input_ids)
        return states if plm.config.embedding_size == plm.config.hidden_size else plm.embeddings_project(states)


class DistilBertSplit(BertSplit):
    """Encoders with positions in the embeddings, without a cache."""

    families: ClassVar[tuple[str, ...]] = ("distilbert",)
    takes_cache = False
    layers_name = "transformer.layer"


class MPNetSplit(BertSplit):
    """Encoders with a bias on the distance between positions, prompts included, without a cache."""

    families: ClassVar[tuple[str, ...]] = ("mpnet",)
    takes_cache = False
    returns_attentions = True
    # the bias belongs to the lower layers as well
    bottom_names: ClassVar[tuple[str, ...]] = ("embeddings", "encoder.relative_attention_bias")

    def layer_arguments(self, plm, states, attention_mask, cache=None):
        (mask,), named = super().layer_arguments(plm, states, attention_mask)
        return (mask, plm.encoder.compute_position_bias(states)), named


class GPT2Split(PLMSplit):
    """Decoders with positions in the embeddings."""

    families: ClassVar[tuple[str, ...]] = ("gpt2",)
    takes_cache = True
    layers_name = "h"
    bottom_names: ClassVar[tuple[str, ...]] = ("wte", "wpe", "drop")

    def embed(self, plm, input_ids):
        words = plm.wte(input_ids)
        return plm.drop(words + plm.wpe(_text_positions(words)).to(words.device))

    def layer_arguments(self, plm, states, attention_mask, cache=None):
        # positional: releases of transformers name the cache differently
        return (), {"attention_mask": create_causal_mask(plm.config, states, attention_mask, cache)}

    def finish(self, plm, states):
        return plm.ln_f(states)


class LlamaSplit(PLMSplit):
    """Decoders with rotary positions, which each layer applies to the text's queries and keys."""

    families: ClassVar[tuple[str, ...]] = ("llama",)
    takes_cache = True
    layers_name = "layers"
    bottom_names: ClassVar[tuple[str, ...]] = ("embed_tokens",)

    def embed(self, plm, input_ids):
        return plm.embed_tokens(input_ids)

    def layer_arguments(self, plm, states, attention_mask, cache=None):
        positions = _text_positions(states)
        return (), {
            "attention_mask": create_causal_mask(plm.config, states, attention_mask, cache),
            "position_embeddings": plm.rotary_emb(states, position_ids=positions),
            "position_ids": positions,
        }

    def finish(self, plm, states):
        return plm.norm(states)


def _text_positions(states: torch.Tensor) -> torch.Tensor:
    """Positions (1, T) of the states (B, T, H) of a text."""
    return torch.arange(states.shape[1], device=states.device).unsqueeze(0)


_KINDS = (BertSplit(), ElectraSplit(), DistilBertSplit(), MPNetSplit(), GPT2Split(), LlamaSplit())
# How each family runs in two parts; `SPLIT_FAMILIES` of the configuration has the same names.
PLM_SPLITS = {family: kind for kind in _KINDS for family in kind.families}
