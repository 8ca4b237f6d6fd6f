# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt for HuggingFace: a language model that helps click-through-rate prediction (arXiv 2310.09234)."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
)

from .configuration_clickprompt import ClickPromptConfig, CTRConfig
from .modeling_clickprompt import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM, ClickPromptModel
from .modeling_ctr import CTRBackbone, CTRHead, register_backbone
from .processing_clickprompt import ClickPromptProcessor, FieldSchema, Schema

__version__ = "0.1.0"

AutoConfig.register(CTRConfig.model_type, CTRConfig, exist_ok=True)
AutoConfig.register(ClickPromptConfig.model_type, ClickPromptConfig, exist_ok=True)
AutoModel.register(ClickPromptConfig, ClickPromptModel, exist_ok=True)
AutoModelForCausalLM.register(ClickPromptConfig, ClickPromptForPACLM, exist_ok=True)
AutoModelForMaskedLM.register(ClickPromptConfig, ClickPromptForPAMLM, exist_ok=True)
AutoModelForSequenceClassification.register(ClickPromptConfig, ClickPromptForCTR, exist_ok=True)
AutoProcessor.register(ClickPromptConfig, ClickPromptProcessor, exist_ok=True)

__all__ = [
    "CTRBackbone",
    "CTRConfig",
    "CTRHead",
    "ClickPromptConfig",
    "ClickPromptForCTR",
    "ClickPromptForPACLM",
    "ClickPromptForPAMLM",
    "ClickPromptModel",
    "ClickPromptProcessor",
    "FieldSchema",
    "Schema",
    "register_backbone",
]
