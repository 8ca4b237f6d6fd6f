# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The public names of the package, each imported `as` itself, which marks it public for type checkers."""

from .configuration_clickprompt import ClickPromptConfig as ClickPromptConfig
from .configuration_clickprompt import CTRConfig as CTRConfig
from .modeling_clickprompt import ClickPromptForCTR as ClickPromptForCTR
from .modeling_clickprompt import ClickPromptForPACLM as ClickPromptForPACLM
from .modeling_clickprompt import ClickPromptForPAMLM as ClickPromptForPAMLM
from .modeling_clickprompt import ClickPromptModel as ClickPromptModel
from .modeling_ctr import CTRBackbone as CTRBackbone
from .modeling_ctr import CTRHead as CTRHead
from .modeling_ctr import register_backbone as register_backbone
from .pipeline_clickprompt import ClickPromptPipeline as ClickPromptPipeline
from .processing_clickprompt import ClickPromptProcessor as ClickPromptProcessor
from .schema_clickprompt import FieldSchema as FieldSchema
from .schema_clickprompt import Schema as Schema


def _register() -> None:
    """Register ClickPrompt with the Auto classes and `pipeline`, and have checkpoints carry its code."""
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForSequenceClassification,
        AutoProcessor,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    from .configuration_clickprompt import TASK

    for config_class in (CTRConfig, ClickPromptConfig):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoProcessor.register(ClickPromptConfig, ClickPromptProcessor, exist_ok=True)
    PIPELINE_REGISTRY.register_pipeline(TASK, ClickPromptPipeline, AutoModelForSequenceClassification)
    ClickPromptConfig.register_for_auto_class()
    ClickPromptProcessor.register_for_auto_class()
    for auto_class, model_class in (
        (AutoModel, ClickPromptModel),
        (AutoModelForCausalLM, ClickPromptForPACLM),
        (AutoModelForMaskedLM, ClickPromptForPAMLM),
        (AutoModelForSequenceClassification, ClickPromptForCTR),
    ):
        auto_class.register(ClickPromptConfig, model_class, exist_ok=True)
        model_class.register_for_auto_class(auto_class.__name__)


_register()
