# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What ClickPrompt needs of a pretrained language model (PLM): a way in for prompts, and a language-model head.

Shapes: B batch, T text tokens, H PLM hidden size, L PLM layers, A attention heads, K prompt length, V vocabulary size.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.models.camembert.modeling_camembert import CamembertLMHead
from transformers.models.electra.modeling_electra import ElectraGeneratorPredictions
from transformers.models.roberta.modeling_roberta import RobertaLMHead
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLMHead


class PromptCache(Cache):
    """Read-only key-value cache that puts the prompts in front of a layer's own keys and values.

    `update` stores nothing, so that a layer may run twice on it, as gradient checkpointing does.

    Args:
        prompts: (B, L, 2, A, K, H / A), keys and values for every layer.
    """

    def __init__(self, prompts: torch.Tensor):
        super().__init__(layers=[])
        self.prompts = prompts

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        """Keys and values (B, A, T, H / A) to (B, A, K + T, H / A)."""
        keys, values = self.prompts[:, layer_idx].to(key_states.dtype).unbind(dim=1)
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prompts.shape[4]

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


def no_pooler(text_config: PreTrainedConfig) -> dict[str, bool]:
    """The arguments that build the PLM without a pooler, which nothing here reads; not all classes have one."""
    plm_class: Any = MODEL_MAPPING[type(text_config)]
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(plm_class).parameters else {}


def prepare_plm(plm: PreTrainedModel) -> PreTrainedModel:
    """Checks that `plm` takes prompts, and lets its layers keep them under gradient checkpointing."""
    if "past_key_values" not in inspect.signature(plm.forward).parameters or plm.config.is_decoder:
        raise ValueError(
            "Layerwise prompts need a PLM encoder whose forward takes `past_key_values`, as RoBERTa's and BERT's do; "
            f"got {type(plm).__name__}{' as a decoder' if plm.config.is_decoder else ''}."
        )
    for layer in plm.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            # The layers only read the prompts, so a replay sees the same ones; without this they are dropped.
            layer._can_checkpoint_with_cache = True
    return plm


_KEY_AND_VALUE_NAMES = (("key", "value"), ("k_proj", "v_proj"), ("k_lin", "v_lin"))


def key_value_projections(plm: PreTrainedModel) -> list[tuple[nn.Module, nn.Module]]:
    """The key and the value projection of every layer of the PLM, in order.

    Raises:
        ValueError: If a layer does not have one of each by a usual name.
    """
    projections = []
    for layer in plm.modules():
        if not isinstance(layer, GradientCheckpointingLayer):
            continue
        found = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
        pairs = [(found[key], found[value]) for key, value in _KEY_AND_VALUE_NAMES if {key, value} <= set(found)]
        if len(pairs) != 1:
            raise ValueError(
                f"`prompt_encoder` 'paper' needs the key and value projections of each PLM layer, named as one of "
                f"{_KEY_AND_VALUE_NAMES}; {type(layer).__name__} has none. Use 'released' or 'low_rank'."
            )
        projections.append(pairs[0])
    return projections


class ElectraLMHead(nn.Module):
    """ELECTRA's generator head, which its own model keeps in two parts."""

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__()
        self.predictions = ElectraGeneratorPredictions(text_config)
        self.decoder = nn.Linear(text_config.embedding_size, text_config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(self.predictions(hidden))


@dataclass(frozen=True)
class LMHeadFamily:
    """A PLM family's masked-LM head.

    Args:
        head_class: Its class, built from the PLM's configuration.
        parts: Its parts, `""` for the whole, and their names in the family's own model.
        decoder: Name in it of the layer tied to the input embeddings.
        bias: Name in it of the decoder's bias where that has a second one.
    """

    head_class: type[nn.Module]
    parts: dict[str, str]
    decoder: str
    bias: str | None = None


# transformers' LM heads share no interface.
_LM_HEADS = {
    "bert": LMHeadFamily(BertOnlyMLMHead, {"": "cls"}, "predictions.decoder", "predictions.bias"),
    "camembert": LMHeadFamily(CamembertLMHead, {"": "lm_head"}, "decoder", "bias"),
    "electra": LMHeadFamily(
        ElectraLMHead, {"predictions": "generator_predictions", "decoder": "generator_lm_head"}, "decoder"
    ),
    "roberta": LMHeadFamily(RobertaLMHead, {"": "lm_head"}, "decoder", "bias"),
    "xlm-roberta": LMHeadFamily(XLMRobertaLMHead, {"": "lm_head"}, "decoder", "bias"),
}


def lm_head_family(text_config: PreTrainedConfig) -> LMHeadFamily:
    """The LM head of the PLM's family.

    Raises:
        ValueError: If the family is not in the table; the message lists those that are.
    """
    if text_config.model_type not in _LM_HEADS:
        raise ValueError(
            f"PA-MLM needs a PLM of one of the families {sorted(_LM_HEADS)}, got `text_config.model_type` "
            f"{text_config.model_type!r}."
        )
    return _LM_HEADS[text_config.model_type]
