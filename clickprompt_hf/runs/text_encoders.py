# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The frozen PLM of a run that makes vectors of texts, for fields of kind `text` with `as: vector`."""

from pathlib import Path

from transformers.utils import logging

from ..data.text_vectors import StoredTextEncoder
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from .arguments import DataArguments, ModelArguments
from .paths import check_folder_or_hub_id
from .plms import SCRATCH_SIZES

logger = logging.get_logger(__name__)

# The underscore keeps it from being pushed to the Hub: a checkpoint must not publish what its texts were.
_FOLDER = "_text_vectors"


def text_encoder_of(
    schema: Schema, data_args: DataArguments, model_args: ModelArguments, output_dir: str
) -> StoredTextEncoder | None:
    """Choose the PLM that makes vectors of texts: `--text_encoder`, else the pretrained PLM of the run.

    Args:
        schema: What the columns mean.
        data_args: `--text_encoder`, and where vectors are kept.
        model_args: The PLM of the run, if it has one.
        output_dir: Holds the folder of vectors by default.

    Returns:
        The PLM; `None` if the schema has no texts that are vectors.

    Raises:
        ValueError: If it has some and no PLM is named.
    """
    read = [schema.fields[f] for f in schema.vector_fields if schema.fields[f].as_vector]
    if not read:
        if data_args.text_encoder is not None:
            logger.warning(
                "--text_encoder has no effect: no field of the schema has `as: vector`, and there are no "
                "--vector_fields."
            )
        return None
    name = data_args.text_encoder or model_args.plm_name_or_path
    if name is None or name in SCRATCH_SIZES:
        keys = [key for field in read for key in (field.columns or (field.key,))]
        raise ValueError(
            f"`--text_encoder` must name the pretrained PLM that turns the fields {keys} into vectors, got "
            f"{name or 'none'}."
        )
    check_folder_or_hub_id(name, "text_encoder")
    return StoredTextEncoder(name, _folder(data_args, output_dir))


def reuse_text_encoder(processor: ClickPromptProcessor, data_args: DataArguments, output_dir: str) -> None:
    """Let the text encoder of a checkpoint's processor, if it has one, keep its vectors on disk.

    Raises:
        ValueError: If `--text_encoder` is given: the checkpoint's cannot change.
    """
    if data_args.text_encoder is not None:
        raise ValueError(
            "`--text_encoder` must be left out: the checkpoint has its own text encoder, got "
            f"{data_args.text_encoder!r}."
        )
    if processor.text_encoder is not None:
        processor.text_encoder = StoredTextEncoder.of(processor.text_encoder, _folder(data_args, output_dir))


def _folder(data_args: DataArguments, output_dir: str) -> Path:
    return Path(data_args.text_vector_dir or Path(output_dir) / _FOLDER)
