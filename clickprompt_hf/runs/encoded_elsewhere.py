# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows that a cluster has split and encoded: which arguments they leave open, and which PLMs they fit."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ..data.prepared_notes import SHARDS, is_of_shards
from ..processing_clickprompt import ClickPromptProcessor
from .arguments import DataArguments, ModelArguments
from .kept_data import KeptData
from .plms import SCRATCH_SIZES, check_plm_name, text_side_config

# What was decided when the rows were split and encoded.
_DECIDED = (
    *("data_path", "train_file", "validation_file", "test_file", "schema", "split", "split_seed", "split_column"),
    *("split_fractions", "max_train_rows", "min_count", "stream", "text_fields", "max_text_length"),
    *("vector_fields", "text_encoder"),
)


def dataset_of(data_args: DataArguments, recorded: Any) -> Any:
    """The dataset of a run: `"shards"` if `--prepared` names encoded shards, else the recorded one.

    Raises:
        ValueError: If an argument was fixed when the shards were encoded, or the checkpoint was trained on shards and
            the folder holds none.
    """
    if data_args.prepared is None or not is_of_shards(data_args.prepared):
        # a dataset that is given may belong to another record
        if recorded == SHARDS and data_args.dataset is None:
            raise ValueError(
                f"`--prepared` must name the folder of joined shards that the checkpoint was trained on, got "
                f"{data_args.prepared}."
            )
        return recorded
    given = [name for name in ("dataset", *_DECIDED) if getattr(data_args, name) not in (None, SHARDS)]
    if given:
        raise ValueError(
            f"`--{given[0]}` must be left out: the rows in {data_args.prepared} are already split and encoded."
        )
    return SHARDS


def kept_shards(data_args: DataArguments, processor: ClickPromptProcessor | None) -> KeptData:
    """The folder of joined shards, as one of kept rows."""
    limit = None if processor is None else processor.max_text_length
    return KeptData(Path(str(data_args.prepared)).absolute(), {"source": SHARDS}, {}, processor, limit)


def check_fits_plm(processor: ClickPromptProcessor, model_args: ModelArguments, folder: Path) -> None:
    """Refuse encoded rows whose tokens are not those of the PLM to start from.

    Raises:
        ValueError: If they have no text, that of another tokenizer, or texts that may be longer than the PLM reads.
    """
    name = str(model_args.plm_name_or_path)
    if not processor.reads_text:
        raise ValueError(
            f"`--plm_name_or_path` must be left out: the rows in {folder} have no text. Encode them with a processor "
            "that has the PLM's tokenizer."
        )
    check_plm_name(name)
    if (
        name not in SCRATCH_SIZES
        and AutoTokenizer.from_pretrained(name).get_vocab() != processor.tokenizer.get_vocab()
    ):
        raise ValueError(
            f"`--plm_name_or_path` must be the PLM whose tokenizer encoded the rows in {folder}, but {name} has a "
            "different tokenizer."
        )
    limit = text_side_config(model_args, processor.tokenizer).max_text_length
    if limit is not None and (processor.max_text_length is None or processor.max_text_length > limit):
        raise ValueError(
            f"The PLM and its prompts leave {limit} positions for text, but the rows in {folder} were encoded with "
            f"max_text_length={processor.max_text_length}. Encode them with max_text_length={limit}."
        )
