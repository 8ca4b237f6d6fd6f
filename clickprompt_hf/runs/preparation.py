# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""From command-line arguments to prepared data, and the record of it that a checkpoint keeps."""

import atexit
import hashlib
import shutil
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..data.collators import Masking
from ..data.columnar import ColumnarDataset, load_prepared, prepare_splits
from ..data.reading import load_splits
from ..data.schema_file import load_schema
from ..data.sources import needs_schema
from ..modeling_ctr import backbone_class
from ..processing_clickprompt import ClickPromptProcessor
from ..schema_clickprompt import Schema
from ..training.arguments import ClickPromptTrainingArguments
from .arguments import DataArguments, ModelArguments
from .output_folder import checkpoint_to_resume
from .paths import check_folder_or_hub_id
from .scratch_plms import SCRATCH_SIZES, plm_config, scratch_tokenizer

logger = logging.get_logger(__name__)

_DATA_DEFAULTS = {"dataset": None, "split": "random", "split_seed": 42, "max_train_rows": None, "min_count": 1}
_ROWS_FOR_TOKENIZER = 20_000
# stands for a span that T5's pretraining left out, which is the nearest thing to a mask token that it has
T5_FIRST_SENTINEL = "<extra_id_0>"


@dataclass
class PreparedData:
    """Encoded splits, the processor that encoded them, and where they come from.

    `training_data` is what `ClickPromptConfig.training_data` keeps.
    """

    splits: dict[str, ColumnarDataset]
    processor: ClickPromptProcessor
    training_data: dict[str, Any]

    def pamlm_splits(self, masking: Masking = "token") -> tuple[ColumnarDataset, ColumnarDataset]:
        """What PA-MLM trains on, training and validation rows, and those validation rows; never a test row.

        With `max_train_rows` the validation rows are cut to an eighth of the training rows, as in the whole data.
        """
        train, validation = self.splits["train"], self.splits["validation"]
        if self.training_data["max_train_rows"] is not None:
            validation = validation.slice(0, max(1, len(train) // 8))
        parts = ColumnarDataset.concatenate([train, validation]), validation
        by_field = masking == "field"
        return replace(parts[0], with_value_fields=by_field), replace(parts[1], with_value_fields=by_field)


def resolve_data_arguments(given: DataArguments, saved: dict[str, Any] | None) -> dict[str, Any]:
    """The data arguments in force: the given ones, else the checkpoint's, else the defaults.

    Raises:
        ValueError: If no data set is named, or an argument differs from the checkpoint's.
    """
    resolved = {}
    for name, default in _DATA_DEFAULTS.items():
        value = getattr(given, name)
        if saved is not None and value is not None and value != saved[name]:
            raise ValueError(
                f"`--{name}` must be {saved[name]!r}, as the checkpoint was trained with, or left out; got {value!r}. "
                "Another split would test on rows that the checkpoint has seen."
            )
        resolved[name] = saved[name] if saved is not None else default if value is None else value
    if resolved["dataset"] is None:
        raise ValueError("`--dataset` must name the data, e.g. ml-1m, synthetic or csv; got none.")
    return resolved


def resumed_training_data(folder: Path) -> dict[str, Any]:
    """The record of the data in the checkpoint that training resumes.

    Raises:
        ValueError: If it has none.
    """
    training_data = ClickPromptConfig.from_pretrained(folder).training_data
    if training_data is None:
        raise ValueError(
            "`resume_from_checkpoint` must be a checkpoint of these scripts, which says what rows it was trained on; "
            f"{folder} does not."
        )
    return training_data


def prepare_data(
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    model_args: ModelArguments,
    checkpoint: ClickPromptConfig | None = None,
    processor: ClickPromptProcessor | None = None,
    extend_vocabulary: bool = False,
) -> PreparedData:
    """Loads, splits and encodes the data, once on each machine; other processes map the encoded files.

    Args:
        data_args: Which rows.
        training_args: Give the output folder, which holds the encoded files while training runs, and the checkpoint
            to resume, whose split must be that of the data.
        model_args: Name the PLM, whose tokenizer is used, and K, which with the text must fit the PLM's positions.
        checkpoint: Configuration of the checkpoint that training starts from, if any: its split is kept.
        processor: The checkpoint's processor, which is never fitted again.
        extend_vocabulary: Whether that processor gives values of the training rows that it does not know ids of their
            own. `checkpoint` then must have no record of its data, as `load_checkpoint` leaves it.

    Raises:
        ValueError: If the data or an argument is wrong; the message names it.
        OSError: If a file is missing or broken.
    """
    resumed = checkpoint_to_resume(training_args)
    resumed_data = None if resumed is None else resumed_training_data(resumed)
    saved = resumed_data if checkpoint is None else checkpoint.training_data or resumed_data
    resolved = resolve_data_arguments(data_args, saved)
    if resumed_data is not None:
        resolve_data_arguments(DataArguments(**resolved), resumed_data)
    if checkpoint is None:
        backbone_class(model_args.fresh_backbone)
    # The underscore keeps it from being pushed to the Hub; each machine has its own, also on a shared disk.
    folder = Path(str(training_args.output_dir)) / f"_prepared_data-{socket.gethostname()}"
    with training_args.main_process_first(desc="preparing the data"):
        if training_args.local_process_index == 0:
            # What was prepared by a run that was cut off says nothing about this one's arguments.
            shutil.rmtree(folder, ignore_errors=True)
            saved_schema = processor.schema if processor and needs_schema(resolved["dataset"]) else None
            if saved_schema and data_args.schema and load_schema(data_args.schema) != saved_schema:
                raise ValueError(
                    f"`--schema` must be left out, or be that of the checkpoint, which {data_args.schema} is not."
                )
            splits, schema = load_splits(
                resolved["dataset"],
                data_path=data_args.data_path,
                schema=saved_schema or data_args.schema,
                split=resolved["split"],
                split_seed=resolved["split_seed"],
                max_train_rows=resolved["max_train_rows"],
            )
            if processor is None:
                processor = ClickPromptProcessor.fit(splits["train"], schema, min_count=resolved["min_count"])
                if model_args.plm_name_or_path is not None:
                    add_tokenizer(processor, splits["train"], model_args)
            elif extend_vocabulary:
                check_same_fields(schema, processor.schema)
                before = processor.field_sizes
                after = processor.extend(splits["train"], resolved["min_count"])
                with_ids = [member.key for member in processor.schema.fields if member.num_columns]
                added = [f"{name} {new - old:,}" for name, old, new in zip(with_ids, before, after) if new > old]
                # the default level shows warnings only
                logger.warning(f"--extend_vocabulary gives new values ids: {', '.join(added) or 'there are none'}.")
            if data_args.max_text_length is not None:
                limit_text_length(processor, data_args.max_text_length)
            prepare_splits(splits, processor, folder)
            # A checkpoint folder must not publish its training rows: the files go when the process ends.
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        data, processor = load_prepared(folder)
    if data_args.max_text_length is None and (checkpoint is None or extend_vocabulary) and processor.reads_text:
        prompt_length = model_args.fresh_prompt_length if checkpoint is None else checkpoint.prompt_length
        check_text_lengths(data, processor, prompt_length)
    training_data = {
        **resolved,
        "num_rows": {name: len(split) for name, split in data.items()},
        "test_rows_sha256": rows_digest(data["test"]),
        "processor_fingerprint": processor.fingerprint,
    }
    for record in (saved, resumed_data):
        if record is not None:
            check_same_rows(record, training_data)
    if resumed is not None:
        check_same_processor(resumed, processor)
    return PreparedData(data, processor, training_data)


def add_tokenizer(processor: ClickPromptProcessor, train: Dataset, model_args: ModelArguments) -> None:
    """Gives `processor` the PLM's tokenizer, trained on training rows if the PLM is a scratch one, and its text limit.

    Raises:
        ValueError: If K prompts leave the PLM no position for text.
    """
    plm_name_or_path = str(model_args.plm_name_or_path)
    if plm_name_or_path in SCRATCH_SIZES:
        sample = train.select(np.linspace(0, len(train) - 1, min(len(train), _ROWS_FOR_TOKENIZER), dtype=int))
        processor.tokenizer = scratch_tokenizer(plm_name_or_path, processor.render(sample[:]))
    else:
        if plm_name_or_path.startswith("scratch-") and not Path(plm_name_or_path).is_dir():
            raise ValueError(
                f"`plm_name_or_path` must be a folder, a Hub id or one of {sorted(SCRATCH_SIZES)}, got "
                f"{plm_name_or_path!r}."
            )
        check_folder_or_hub_id(plm_name_or_path, "plm_name_or_path")
        processor.tokenizer = AutoTokenizer.from_pretrained(plm_name_or_path)
        add_missing_tokens(processor.tokenizer)
    processor.max_text_length = text_side_config(model_args, processor.tokenizer).max_text_length


def add_missing_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Names, of the tokens there are, one for padding and one for masking where the tokenizer has none."""
    if tokenizer.pad_token is None:
        # decoders have none; what stands at padding is never read
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.mask_token is None and T5_FIRST_SENTINEL in tokenizer.get_vocab():
        tokenizer.mask_token = T5_FIRST_SENTINEL


def text_side_config(model_args: ModelArguments, tokenizer: PreTrainedTokenizerFast) -> ClickPromptConfig:
    """The configuration that is asked for, as far as it concerns the PLM and its prompts."""
    return ClickPromptConfig(
        text_config=plm_config(str(model_args.plm_name_or_path), tokenizer),
        ctr_config=CTRConfig(),
        prompt_length=model_args.fresh_prompt_length,
        **model_args.prompt_options(),
    )


def limit_text_length(processor: ClickPromptProcessor, max_text_length: int) -> None:
    """Sets the length that texts are truncated to.

    Raises:
        ValueError: If it is below 3 (two special tokens and one other) or beyond the PLM's positions.
    """
    limit = processor.max_text_length or max_text_length
    if not 3 <= max_text_length <= limit:
        raise ValueError(
            f"`max_text_length` must be in [3, {limit}], which is what the prompts leave of the PLM's positions; "
            f"got {max_text_length}."
        )
    processor.max_text_length = max_text_length


def check_text_lengths(data: dict[str, ColumnarDataset], processor: ClickPromptProcessor, prompt_length: int) -> None:
    """Refuses rows whose text would be cut, before any training.

    Raises:
        ValueError: If a row's text is longer than what K prompts leave; the message names the longest.
    """
    limit = processor.max_text_length
    for name, split in data.items():
        lengths = split.text_lengths()
        longest = int(lengths.argmax())
        if limit is not None and lengths[longest] > limit:
            raise ValueError(
                f"Row {longest} of the {name} split has {lengths[longest]} text tokens; with {prompt_length} prompts "
                f"the PLM's positions leave {limit}. Shorten `--prompt_length`, or pass --max_text_length {limit} to "
                "truncate."
            )


def rows_digest(split: ColumnarDataset) -> str:
    """SHA-256 of a split's ids and labels, in order: tells whether two runs test on the same rows."""
    digest = hashlib.sha256(np.ascontiguousarray(split.feature_ids).tobytes())
    digest.update(np.ascontiguousarray(split.labels).tobytes())
    return digest.hexdigest()


def check_same_processor(folder: Path, processor: ClickPromptProcessor) -> None:
    """Refuses a processor that gives values other ids than that of the checkpoint in `folder` gave them.

    Raises:
        ValueError: If their fingerprints differ.
    """
    saved = ClickPromptProcessor.from_pretrained(folder).fingerprint
    if saved != processor.fingerprint:
        raise ValueError(
            f"`resume_from_checkpoint` must be a checkpoint with the processor of the data: that of {folder} has the "
            f"fingerprint {saved}, that of the given data and --schema {processor.fingerprint}."
        )


def check_same_fields(found: Schema, saved: Schema) -> None:
    """Refuses another table whose rows are not made of the same fields.

    Raises:
        ValueError: If the schemas differ in more than the time column.
    """
    if replace(found, time=None) != replace(saved, time=None):
        raise ValueError(
            f"`--dataset` must have the fields and the label of the checkpoint's schema, {saved.to_dict()}, got "
            f"{found.to_dict()}."
        )


def check_same_rows(saved: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuses data that differ from those of the checkpoint.

    Raises:
        ValueError: If the splits have other sizes or the test split other rows.
    """
    for name in ("num_rows", "test_rows_sha256"):
        if saved[name] != found[name]:
            raise ValueError(
                f"`--data_path` must hold the data that the checkpoint was trained on: its {name} is {saved[name]}, "
                f"that of the given data {found[name]}. To finetune on another table, pass --extend_vocabulary to "
                "run_ctr.py."
            )
