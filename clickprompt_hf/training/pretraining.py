# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Stage 1 by the kind of the PLM: PA-MLM for encoders, PA-CLM for decoders."""

from ..data.collators import ClickPromptCLMCollator, ClickPromptMLMCollator
from ..modeling_clickprompt import ClickPromptForPACLM, ClickPromptForPAMLM
from ..processing_clickprompt import ClickPromptProcessor
from .arguments import ClickPromptTrainingArguments, ModelArguments
from .model_setup import fresh_model
from .preparation import PreparedData, text_side_config


def fresh_pretraining_model(
    model_args: ModelArguments, data: PreparedData
) -> ClickPromptForPAMLM | ClickPromptForPACLM:
    """A fresh model for the pretraining task that fits the PLM.

    Raises:
        ValueError: If the backbone, the preset or an option is wrong, or the PLM takes no prompts.
        OSError: If there is no such PLM.
    """
    if text_side_config(model_args, data.processor.tokenizer).causal:
        return fresh_model(ClickPromptForPACLM, model_args, data)
    return fresh_model(ClickPromptForPAMLM, model_args, data)


def pretraining_collator(
    model: ClickPromptForPAMLM | ClickPromptForPACLM,
    processor: ClickPromptProcessor,
    training_args: ClickPromptTrainingArguments,
) -> ClickPromptMLMCollator | ClickPromptCLMCollator:
    """The collator of `model`'s pretraining task.

    Raises:
        ValueError: If it is said what to mask but the task masks nothing, or the tokenizer lacks a token.
    """
    if isinstance(model, ClickPromptForPAMLM):
        return ClickPromptMLMCollator(
            processor, training_args.mlm_probability, training_args.masking, training_args.seed
        )
    if training_args.masking == "field":
        raise ValueError("`masking` must be left out for a decoder, which PA-CLM trains on all tokens; got 'field'.")
    if training_args.mlm_probability != ClickPromptTrainingArguments.mlm_probability:
        raise ValueError(
            "`mlm_probability` must be left out for a decoder, which PA-CLM trains on all tokens; got "
            f"{training_args.mlm_probability}."
        )
    return ClickPromptCLMCollator(processor)
