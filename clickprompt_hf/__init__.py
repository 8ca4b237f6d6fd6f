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
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_clickprompt import TASK, ClickPromptConfig, CTRConfig
from .modeling_clickprompt import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM, ClickPromptModel
from .modeling_ctr import CTRBackbone, CTRHead, register_backbone
from .pipeline_clickprompt import ClickPromptPipeline
from .processing_clickprompt import ClickPromptProcessor
from .schema_clickprompt import FieldSchema, Schema

__version__ = "0.1.0"

AutoConfig.register(CTRConfig.model_type, CTRConfig, exist_ok=True)
AutoConfig.register(ClickPromptConfig.model_type, ClickPromptConfig, exist_ok=True)
AutoModel.register(ClickPromptConfig, ClickPromptModel, exist_ok=True)
AutoModelForCausalLM.register(ClickPromptConfig, ClickPromptForPACLM, exist_ok=True)
AutoModelForMaskedLM.register(ClickPromptConfig, ClickPromptForPAMLM, exist_ok=True)
AutoModelForSequenceClassification.register(ClickPromptConfig, ClickPromptForCTR, exist_ok=True)
AutoProcessor.register(ClickPromptConfig, ClickPromptProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(TASK, ClickPromptPipeline, AutoModelForSequenceClassification)

# What is saved carries its code.
ClickPromptConfig.register_for_auto_class()
ClickPromptModel.register_for_auto_class("AutoModel")
ClickPromptForPACLM.register_for_auto_class("AutoModelForCausalLM")
ClickPromptForPAMLM.register_for_auto_class("AutoModelForMaskedLM")
ClickPromptForCTR.register_for_auto_class("AutoModelForSequenceClassification")
ClickPromptProcessor.register_for_auto_class()

__all__ = [
    "CTRBackbone",
    "CTRConfig",
    "CTRHead",
    "ClickPromptConfig",
    "ClickPromptForCTR",
    "ClickPromptForPACLM",
    "ClickPromptForPAMLM",
    "ClickPromptModel",
    "ClickPromptPipeline",
    "ClickPromptProcessor",
    "FieldSchema",
    "Schema",
    "register_backbone",
]
