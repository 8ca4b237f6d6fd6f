# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From command-line arguments to a fresh model, or to the checkpoint that training starts from."""

from typing import Any, TypeVar

from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..data.collators import ClickPromptCLMCollator, ClickPromptMLMCollator
from ..modeling_clickprompt import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM
from ..modeling_ctr import backbone_class
from ..presets import ctr_preset, preset_backbones, preset_datasets
from ..processing_clickprompt import ClickPromptProcessor
from ..training.arguments import ClickPromptTrainingArguments
from .arguments import ModelArguments, given_options
from .paths import check_folder_or_hub_id
from .preparation import PreparedData, text_side_config
from .scratch_plms import SCRATCH_SIZES, plm_config

logger = logging.get_logger(__name__)

Model = TypeVar("Model", ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptForPACLM)


def fresh_model(model_class: type[Model], model_args: ModelArguments, data: PreparedData) -> Model:
    """A model with a fresh backbone, prompt encoder and heads on the PLM that is asked for; without one, CTR only.

    Raises:
        ValueError: If the backbone, the preset or an option is wrong.
        OSError: If there is no such PLM.
    """
    plm = model_args.plm_name_or_path
    options = {
        "ctr_config": ctr_config(model_args, data.training_data["dataset"], data.processor),
        "prompt_length": model_args.fresh_prompt_length,
        "training_data": data.training_data,
        **model_args.prompt_options(),
        **model_args.head_options(),
    }
    if plm is None:
        return model_class(ClickPromptConfig(**{**options, "fusion": "ctr"}))
    if plm in SCRATCH_SIZES:
        return model_class(ClickPromptConfig(text_config=plm_config(plm, data.processor.tokenizer), **options))
    return model_class.from_plm_pretrained(plm, **options)


def ctr_config(model_args: ModelArguments, dataset: str, processor: ClickPromptProcessor) -> CTRConfig:
    """The backbone that is asked for, at its published size, or `CTRConfig`'s, where the arguments leave it open.

    Raises:
        ValueError: If the backbone or the preset is unknown.
    """
    backbone_class(model_args.fresh_backbone)
    preset = model_args.preset or (dataset if dataset in preset_datasets() else "ml-1m")
    options = {
        "field_sizes": processor.field_sizes,
        "max_values": processor.max_values,
        **model_args.ctr_options(),
    }
    if model_args.preset is None and model_args.fresh_backbone not in preset_backbones():
        # a user's own
        return CTRConfig(backbone=model_args.fresh_backbone, **options)
    return ctr_preset(model_args.fresh_backbone, preset, **options)


def load_checkpoint(
    model_name_or_path: str, model_args: ModelArguments, use_plm: bool, extend_vocabulary: bool = False
) -> tuple[ClickPromptConfig, ClickPromptProcessor]:
    """Configuration and processor of a checkpoint to finetune, the heads' options replaced by the given ones.

    With `extend_vocabulary` the rows are to be another table's, and the record of the checkpoint's is left out.

    Raises:
        ValueError: If the checkpoint has no record of its data, its processor is another model's, or an argument
            contradicts it.
        OSError: If there is no such checkpoint.
    """
    check_folder_or_hub_id(model_name_or_path, "model_name_or_path")
    config = ClickPromptConfig.from_pretrained(
        model_name_or_path, **model_args.head_options(), **given_options(model_args, ("prompt_dropout",))
    )
    config.check()
    if config.use_plm and config.text_config is None:
        raise ValueError(f"`--fusion` must be left out: {model_name_or_path} has no PLM, got {config.fusion!r}.")
    processor = ClickPromptProcessor.from_pretrained(model_name_or_path)
    processor.check_model(config)
    if extend_vocabulary:
        if config.training_data is not None:
            logger.warning(
                f"--extend_vocabulary splits the given table anew: where it holds rows that {model_name_or_path} was "
                f"trained on, of {config.training_data['dataset']}, some of them are tested on."
            )
        config.training_data = None
    elif config.training_data is None:
        raise ValueError(
            f"`model_name_or_path` {model_name_or_path} does not say which rows it was trained on, so its test rows "
            "cannot be kept apart. Finetune it with the Trainer in code of your own, or on other rows with "
            "--extend_vocabulary."
        )
    for name, saved in _saved_model_options(config).items():
        given = getattr(model_args, name)
        if given not in (None, saved):
            raise ValueError(f"`--{name}` must be {saved!r}, as in {model_name_or_path}, or left out; got {given!r}.")
    if model_args.preset is not None:
        raise ValueError(f"`--preset` must be left out: {model_name_or_path} has sizes, got {model_args.preset!r}.")
    for name, dropout in given_options(model_args, ("dnn_dropout", "embedding_dropout")).items():
        setattr(config.ctr_config, name, dropout)
    if not use_plm:
        config.use_plm = False
        processor.tokenizer = None
    return config, processor


def _saved_model_options(config: ClickPromptConfig) -> dict[str, Any]:
    """What a checkpoint fixes, by the names of `ModelArguments`."""
    ctr = {name: getattr(config.ctr_config, name) for name in ("backbone", *_FIXED_CTR_OPTIONS)}
    return {**ctr, **{name: getattr(config, name) for name in ("prompt_length", *_FIXED_PROMPT_OPTIONS)}}


# What has to do with the shapes of tensors, their use or their first values.
_FIXED_CTR_OPTIONS = (
    *("embedding_size", "dnn_hidden_sizes", "num_cross_layers", "num_attention_layers", "num_attention_heads"),
    *("num_graph_layers", "embedding_initializer_range"),
)
_FIXED_PROMPT_OPTIONS = (
    *("prompt_strategy", "prompt_encoder", "prompt_rank", "prompt_initializer_scale", "normalize_prompts"),
)


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
