# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Language-model heads by PLM family.

transformers' heads share no interface and are private to their families' modules, so a head's class is imported only
when a model of its family is built. A family that transformers changes does not affect the others.

Shapes: H PLM hidden size, V vocabulary size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers import initialization as init
from transformers.activations import ACT2FN


def transformers_head(name: str, text_config: PreTrainedConfig) -> nn.Module:
    """Build a head of transformers from the PLM's configuration.

    Args:
        name: The head's class in transformers' module of the family, `"family.Class"`.
        text_config: Configuration of the PLM.

    Raises:
        ImportError: If the installed transformers has no such class.
    """
    family, _, class_name = name.partition(".")
    module_name = f"transformers.models.{family}.modeling_{family}"
    try:
        head_class = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f"The LM head of {text_config.model_type!r} needs `{class_name}` from {module_name}, which the installed "
            f"transformers does not provide: {error}. Install a version that this package supports."
        ) from error
    return head_class(text_config)


class DistilBertLMHead(nn.Module):
    """DistilBERT's head, whose layers sit directly in DistilBERT's own masked-LM model."""

    def __init__(self, text_config: Any):
        super().__init__()
        self.vocab_transform = nn.Linear(text_config.dim, text_config.dim)
        self.activation = ACT2FN[text_config.activation]
        self.vocab_layer_norm = nn.LayerNorm(text_config.dim, eps=1e-12)
        self.vocab_projector = nn.Linear(text_config.dim, text_config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.vocab_projector(self.vocab_layer_norm(self.activation(self.vocab_transform(hidden))))


class ElectraLMHead(nn.Module):
    """ELECTRA's generator head, which ELECTRA's own masked-LM model keeps in two parts."""

    def __init__(self, text_config: Any):
        super().__init__()
        self.predictions = transformers_head("electra.ElectraGeneratorPredictions", text_config)
        self.decoder = nn.Linear(text_config.embedding_size, text_config.vocab_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(self.predictions(hidden))


class ModernBertLMHead(nn.Module):
    """ModernBERT's head, which ModernBERT's own masked-LM model keeps in two parts."""

    def __init__(self, text_config: Any):
        super().__init__()
        self.head = transformers_head("modernbert.ModernBertPredictionHead", text_config)
        self.decoder = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=text_config.decoder_bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(self.head(hidden))


class LinearLMHead(nn.Module):
    """The head of decoders and of T5: a linear layer without bias, on states that T5 may scale first."""

    def __init__(self, text_config: Any):
        super().__init__()
        scaled = text_config.model_type == "t5" and text_config.scale_decoder_outputs
        self.scale = text_config.hidden_size**-0.5 if scaled else 1.0
        self.decoder = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (..., H) to logits (..., V)."""
        return self.decoder(hidden * self.scale)


@dataclass(frozen=True)
class LMHeadFamily:
    """The language-model head of a PLM family.

    Args:
        build: Builds the head from the PLM's configuration.
        parts: Name prefixes of the head's tensors, and their counterparts in the family's own model.
        decoder: Name within the head of the layer that shares its weight with the input embeddings.
        bias: Name within the head of the decoder's second bias; `None` if there is only the decoder's own.
        auto_class: Auto class of the family's own model.
    """

    build: Callable[[PreTrainedConfig], nn.Module]
    parts: dict[str, str]
    decoder: str
    bias: str | None = None
    auto_class: Any = AutoModelForMaskedLM

    def init_bias(self, head: nn.Module, module: nn.Module) -> None:
        """Zero a fresh second bias if `module`, the head or a part of it, owns it."""
        if self.bias is None:
            return
        owner, _, name = self.bias.rpartition(".")
        if module is head.get_submodule(owner):
            init.zeros_(module.get_parameter(name))


def _family_of(name: str, prefix: str, decoder: str, bias: str) -> LMHeadFamily:
    """A family whose whole head is one class of transformers, under `prefix` in the family's own model."""
    return LMHeadFamily(partial(transformers_head, name), {"": prefix}, decoder, bias)


_MASKED_LM_HEADS = {
    "bert": _family_of("bert.BertOnlyMLMHead", "cls.", "predictions.decoder", "predictions.bias"),
    "camembert": _family_of("camembert.CamembertLMHead", "lm_head.", "decoder", "bias"),
    "deberta-v2": _family_of(
        "deberta_v2.LegacyDebertaV2OnlyMLMHead", "cls.", "predictions.decoder", "predictions.bias"
    ),
    "distilbert": LMHeadFamily(DistilBertLMHead, {"vocab_": "vocab_"}, "vocab_projector"),
    "electra": LMHeadFamily(
        ElectraLMHead, {"predictions.": "generator_predictions.", "decoder.": "generator_lm_head."}, "decoder"
    ),
    "modernbert": LMHeadFamily(ModernBertLMHead, {"head.": "head.", "decoder.": "decoder."}, "decoder"),
    "mpnet": _family_of("mpnet.MPNetLMHead", "lm_head.", "decoder", "bias"),
    "roberta": _family_of("roberta.RobertaLMHead", "lm_head.", "decoder", "bias"),
    "t5": LMHeadFamily(LinearLMHead, {"decoder.": "lm_head."}, "decoder", auto_class=AutoModelForSeq2SeqLM),
    "xlm-roberta": _family_of("xlm_roberta.XLMRobertaLMHead", "lm_head.", "decoder", "bias"),
}
# Decoders share one head.
CAUSAL_LM_HEAD = LMHeadFamily(LinearLMHead, {}, "decoder")


def masked_lm_head(text_config: PreTrainedConfig) -> LMHeadFamily:
    """Look up the masked-LM head of the PLM's family.

    Raises:
        ValueError: If the family is unknown; the message lists the known ones.
    """
    if text_config.model_type not in _MASKED_LM_HEADS:
        raise ValueError(
            f"PA-MLM needs a PLM of one of the families {sorted(_MASKED_LM_HEADS)}, got `text_config.model_type` "
            f"{text_config.model_type!r}."
        )
    if text_config.model_type == "deberta-v2" and not text_config.legacy:
        raise ValueError("`text_config.legacy` must be True for PA-MLM on a DeBERTa-v2 or -v3, got False.")
    return _MASKED_LM_HEADS[text_config.model_type]
