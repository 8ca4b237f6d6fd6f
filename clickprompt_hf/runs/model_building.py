# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds a fresh model from the arguments, or loads the checkpoint that training starts from."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..input_checks import check_has_lower_layers
from ..loading_clickprompt import FreshHeadsWarning
from ..modeling_clickprompt import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM
from ..modeling_ctr import backbone_class
from ..presets import ctr_preset, preset_backbones, preset_datasets
from ..processing_clickprompt import ClickPromptProcessor
from ..training.arguments import ClickPromptTrainingArguments
from ..training.sharded_tables import shard_id_tables, sharded_from_pretrained
from .arguments import ModelArguments, config_options
from .paths import check_folder_or_hub_id
from .plms import SCRATCH_SIZES, check_plm_name, planned_config, plm_config, text_side_config
from .preparation import PreparedData

logger = logging.get_logger(__name__)

Model = TypeVar("Model", ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptForPACLM)


def fresh_model(
    model_class: type[Model],
    model_args: ModelArguments,
    data: PreparedData,
    training_args: ClickPromptTrainingArguments | None = None,
) -> Model:
    """Build a fresh model on the chosen PLM, or a CTR-only model without one.

    Args:
        model_class: Class of the model.
        model_args: The given options.
        data: The prepared data.
        training_args: Whether to build the model with sharded id tables, of which each process holds its rows alone;
            `None` for whole ones.

    Raises:
        ValueError: If the backbone, the preset or an option is wrong.
        OSError: If there is no such PLM.
    """
    backbone = ctr_config(model_args, data.training_data["dataset"], data.processor)
    if training_args is None or not training_args.shard_id_tables:
        return _whole_model(model_class, model_args, data, backbone)
    field_sizes, backbone.field_sizes = backbone.field_sizes, [1] * len(backbone.field_sizes)
    model = _whole_model(model_class, model_args, data, backbone)
    shard_id_tables(model, field_sizes, training_args.seed)
    return model


def _whole_model(
    model_class: type[Model], model_args: ModelArguments, data: PreparedData, backbone: CTRConfig
) -> Model:
    plm = model_args.plm_name_or_path
    options = {
        "ctr_config": backbone,
        "prompt_length": model_args.fresh_prompt_length,
        "training_data": data.training_data,
        **model_args.prompt_options(),
    }
    if plm is None:
        return model_class(ClickPromptConfig(**{**options, "fusion": "ctr"}))
    if plm in SCRATCH_SIZES:
        return model_class(ClickPromptConfig(text_config=plm_config(plm, data.processor.tokenizer), **options))
    return model_class.from_plm_pretrained(plm, **options)


def check_lower_layers(
    training_args: ClickPromptTrainingArguments, model_args: ModelArguments, checkpoint: ClickPromptConfig | None
) -> None:
    """Refuse to freeze lower layers of a model that has none, before the data are prepared.

    Args:
        training_args: Whether to freeze them or to cache their states.
        model_args: The given options.
        checkpoint: Configuration of the checkpoint that training starts from, if any.

    Raises:
        ValueError: If all layers of the PLM get prompts, or an option of the prompts is wrong.
        OSError: If there is no such PLM.
    """
    names = [name for name in ("cache_text_states", "freeze_lower_layers") if getattr(training_args, name)]
    if names and checkpoint is None and model_args.plm_name_or_path is not None:
        check_plm_name(model_args.plm_name_or_path)
        checkpoint = planned_config(model_args)
    if names and checkpoint is not None and checkpoint.use_plm:
        check_has_lower_layers(checkpoint, names[0])


def ctr_config(model_args: ModelArguments, dataset: str, processor: ClickPromptProcessor) -> CTRConfig:
    """Build the configuration of the chosen backbone: given options, else its published sizes, else the defaults.

    Raises:
        ValueError: If the backbone or the preset is unknown.
    """
    backbone = model_args.fresh_backbone
    backbone_class(backbone)
    options = {
        "field_sizes": processor.field_sizes,
        "max_values": processor.max_values,
        "vector_sizes": processor.vector_sizes,
        **model_args.ctr_options(),
    }
    if model_args.preset is None and backbone not in preset_backbones():
        # a custom backbone
        return CTRConfig(backbone=backbone, **options)
    if model_args.preset is not None and model_args.preset not in preset_datasets():
        raise ValueError(f"`preset` must be one of {sorted(preset_datasets())}, got {model_args.preset!r}.")
    preset = model_args.preset or (dataset if dataset in preset_datasets() else "ml-1m")
    return ctr_preset(backbone, preset, **options)


def load_checkpoint(
    model_name_or_path: str, model_args: ModelArguments, use_plm: bool, extend_vocabulary: bool = False
) -> tuple[ClickPromptConfig, ClickPromptProcessor]:
    """Load the configuration and processor of a checkpoint to finetune, and apply the options that may change.

    Args:
        model_name_or_path: Folder or Hub id of the checkpoint.
        model_args: The given options.
        use_plm: Whether to finetune with the PLM.
        extend_vocabulary: Whether the rows come from another table; the record of the checkpoint's data is dropped.

    Raises:
        ValueError: If the checkpoint has no record of its data, its processor belongs to another model, or an argument
            contradicts it.
        OSError: If there is no such checkpoint.
    """
    check_folder_or_hub_id(model_name_or_path, "model_name_or_path")
    config = ClickPromptConfig.from_pretrained(
        model_name_or_path, **model_args.options_on_checkpoint(ClickPromptConfig)
    )
    config.check()
    if config.use_plm and config.text_config is None:
        raise ValueError(f"`--fusion` must be left out: {model_name_or_path} has no PLM, got {config.fusion!r}.")
    processor = ClickPromptProcessor.from_pretrained(model_name_or_path)
    processor.check_model(config)
    check_fixed_options(config, model_args, model_name_or_path)
    for name, value in model_args.options_on_checkpoint(CTRConfig).items():
        setattr(config.ctr_config, name, value)
    config.ctr_config.check()
    if extend_vocabulary:
        if config.training_data is not None:
            logger.warning(
                f"--extend_vocabulary splits the new table from scratch: rows that {model_name_or_path} was trained "
                f"on, from {config.training_data['dataset']}, can end up in its test split."
            )
        config.training_data = None
    elif config.training_data is None:
        raise ValueError(
            f"`model_name_or_path` {model_name_or_path} has no record of its training rows, so they cannot be kept "
            "out of the test split. Finetune it with Trainer in your own code, or on other rows with "
            "--extend_vocabulary."
        )
    # finetuning changes the weights that it was fitted to
    config.reset_calibration()
    if not use_plm:
        config.use_plm = False
        processor.tokenizer = None
    return config, processor


def load_model(
    model_class: type[Model],
    name_or_path: str,
    config: ClickPromptConfig,
    training_args: ClickPromptTrainingArguments,
    field_sizes: Sequence[int] | None = None,
) -> Model:
    """Load the checkpoint that training starts from, with sharded id tables if they are wanted.

    Args:
        model_class: Class of the model.
        name_or_path: Folder or Hub id of the checkpoint.
        config: Its configuration, as `load_checkpoint` returns it.
        training_args: Whether to shard the tables, and the seed of fresh ones.
        field_sizes: Number of ids per field if the vocabulary has grown, else `None`.

    Raises:
        ValueError: If the weights are not whole or not right, see `from_pretrained`.
        OSError: If a file is missing, damaged or cut off.
    """
    with expected_fresh_heads():
        if training_args.shard_id_tables:
            return sharded_from_pretrained(model_class, name_or_path, config, field_sizes, training_args.seed)
        model = model_class.from_pretrained(name_or_path, config=config)
    if field_sizes is not None:
        model.resize_feature_embeddings(field_sizes)
    return model


@contextmanager
def expected_fresh_heads() -> Iterator[None]:
    """Do not warn that a checkpoint of stage 1 lacks the click heads, which stage 2 trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreshHeadsWarning)
        yield


def check_fixed_options(config: ClickPromptConfig, model_args: ModelArguments, model_name_or_path: str) -> None:
    """Reject options that differ from those a checkpoint's weights were made with.

    Raises:
        ValueError: If one does.
    """
    if model_args.preset is not None:
        raise ValueError(
            f"`--preset` must be left out: {model_name_or_path} fixes the sizes; got {model_args.preset!r}."
        )
    for part, config_class in ((config.ctr_config, CTRConfig), (config, ClickPromptConfig)):
        for name, option in config_options(config_class).items():
            given, saved = getattr(model_args, name), getattr(part, name)
            if not option.metadata["may_change"] and given not in (None, saved):
                raise ValueError(
                    f"`--{name}` must be {saved!r}, as in {model_name_or_path}, or left out; got {given!r}."
                )


def fresh_pretraining_model(
    model_args: ModelArguments, data: PreparedData, training_args: ClickPromptTrainingArguments | None = None
) -> ClickPromptForPAMLM | ClickPromptForPACLM:
    """Build a fresh model for the PLM's pretraining task: PA-CLM for a decoder, PA-MLM otherwise.

    The arguments are those of `fresh_model`.

    Raises:
        ValueError: If the backbone, the preset or an option is wrong, or the PLM cannot take prompts.
        OSError: If there is no such PLM.
    """
    if text_side_config(model_args, data.processor.tokenizer).causal:
        return fresh_model(ClickPromptForPACLM, model_args, data, training_args)
    return fresh_model(ClickPromptForPAMLM, model_args, data, training_args)
