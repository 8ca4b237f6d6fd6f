# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Language-model heads by PLM family.

Shapes: H PLM hidden size, V vocabulary size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import BertLMPredictionHead, BertOnlyMLMHead
from transformers.models.camembert.modeling_camembert import CamembertLMHead
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    LegacyDebertaV2LMPredictionHead,
    LegacyDebertaV2OnlyMLMHead,
)
from transformers.models.electra.modeling_electra import ElectraGeneratorPredictions
from transformers.models.modernbert.modeling_modernbert import ModernBertPredictionHead
from transformers.models.mpnet.modeling_mpnet import MPNetLMHead
from transformers.models.roberta.modeling_roberta import RobertaLMHead
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLMHead


class DistilBertLMHead(nn.Module):
    """DistilBERT's head, whose parts its own model holds one by one."""

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__()
        self.vocab_transform = nn.Linear(text_config.dim, text_config.dim)
        self.activation = ACT2FN[text_config.activation]
        self.vocab_layer_norm = nn.LayerNorm(text_config.dim, eps=1e-12)
        self.vocab_projector = nn.Linear(text_config.dim, text_config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.vocab_projector(self.vocab_layer_norm(self.activation(self.vocab_transform(hidden))))


class ElectraLMHead(nn.Module):
    """ELECTRA's generator head, which its own model keeps in two parts."""

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__()
        self.predictions = ElectraGeneratorPredictions(text_config)
        self.decoder = nn.Linear(text_config.embedding_size, text_config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(self.predictions(hidden))


class ModernBertLMHead(nn.Module):
    """ModernBERT's head, which its own model holds in two parts."""

    def __init__(self, text_config: Any):
        super().__init__()
        self.head = ModernBertPredictionHead(text_config)
        self.decoder = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=text_config.decoder_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(self.head(hidden))


class LinearLMHead(nn.Module):
    """A decoder's head, and T5's: the states, scaled where T5's are, times the vocabulary."""

    def __init__(self, text_config: PreTrainedConfig):
        super().__init__()
        scaled = text_config.model_type == "t5" and text_config.scale_decoder_outputs
        self.scale = text_config.hidden_size**-0.5 if scaled else 1.0
        self.decoder = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(hidden * self.scale)


@dataclass(frozen=True)
class LMHeadFamily:
    """A PLM family's language-model head.

    Args:
        head_class: Its class, built from the PLM's configuration.
        parts: Prefixes of its tensors' names, and what they are in the family's own model.
        decoder: Name in it of the layer tied to the input embeddings.
        bias: Name in it of the decoder's bias where that has a second one.
        auto_class: Auto class of the family's own model.
    """

    head_class: type[nn.Module]
    parts: dict[str, str]
    decoder: str
    bias: str | None = None
    auto_class: Any = AutoModelForMaskedLM


# transformers' LM heads share no interface.
_MASKED_LM_HEADS = {
    "bert": LMHeadFamily(BertOnlyMLMHead, {"": "cls."}, "predictions.decoder", "predictions.bias"),
    "camembert": LMHeadFamily(CamembertLMHead, {"": "lm_head."}, "decoder", "bias"),
    "deberta-v2": LMHeadFamily(LegacyDebertaV2OnlyMLMHead, {"": "cls."}, "predictions.decoder", "predictions.bias"),
    "distilbert": LMHeadFamily(DistilBertLMHead, {"vocab_": "vocab_"}, "vocab_projector"),
    "electra": LMHeadFamily(
        ElectraLMHead, {"predictions.": "generator_predictions.", "decoder.": "generator_lm_head."}, "decoder"
    ),
    "modernbert": LMHeadFamily(ModernBertLMHead, {"head.": "head.", "decoder.": "decoder."}, "decoder"),
    "mpnet": LMHeadFamily(MPNetLMHead, {"": "lm_head."}, "decoder", "bias"),
    "roberta": LMHeadFamily(RobertaLMHead, {"": "lm_head."}, "decoder", "bias"),
    "t5": LMHeadFamily(LinearLMHead, {"decoder.": "lm_head."}, "decoder", auto_class=AutoModelForSeq2SeqLM),
    "xlm-roberta": LMHeadFamily(XLMRobertaLMHead, {"": "lm_head."}, "decoder", "bias"),
}
# Those with a bias beside their layers', as `_init_weights` must know.
HEADS_WITH_BIAS = (
    *(BertLMPredictionHead, CamembertLMHead, LegacyDebertaV2LMPredictionHead, MPNetLMHead, RobertaLMHead),
    XLMRobertaLMHead,
)


def masked_lm_head(text_config: PreTrainedConfig) -> LMHeadFamily:
    """The masked-LM head of the PLM's family.

    Raises:
        ValueError: If the family is not in the table; the message lists those that are.
    """
    if text_config.model_type not in _MASKED_LM_HEADS:
        raise ValueError(
            f"PA-MLM needs a PLM of one of the families {sorted(_MASKED_LM_HEADS)}, got `text_config.model_type` "
            f"{text_config.model_type!r}."
        )
    if text_config.model_type == "deberta-v2" and not text_config.legacy:
        raise ValueError("`text_config.legacy` must be True for PA-MLM on a DeBERTa-v2 or -v3, got False.")
    return _MASKED_LM_HEADS[text_config.model_type]
