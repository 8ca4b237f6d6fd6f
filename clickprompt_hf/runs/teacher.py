# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The teacher of a distillation: a finished click model, whose logits of the training rows a student learns from.

The logits are computed once, before training, by all processes. Their pieces are kept in the output folder until
training ends, so that an interrupted run continues with them.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, tqdm
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig
from ..data.columnar import ColumnarDataset
from ..data.text_states import TextStates
from ..data.text_variants import DistinctTexts
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import reads_states
from ..scoring.file_scoring import checkpoint_digest
from ..training.arguments import ClickPromptSettings, ClickPromptTrainingArguments
from ..training.bf16 import choose_attention
from ..training.distillation import click_logits
from ..training.text_caching import states_folder
from ..whole_files import whole_file
from .arguments import ModelArguments
from .paths import check_folder_or_hub_id
from .predict import check_finetuned, load_model
from .preparation import PreparedData
from .prepared_folder import prepared_data

logger = logging.get_logger(__name__)

_ARGUMENT = "--distill_from"
# The underscore keeps these folders from being pushed to the Hub.
_PREFIX = "_teacher_logits-"
_PIECE_ROWS = 16_384
# What the records of a teacher and of a student's start must share. The digest covers the test rows' ids and labels.
_RECORDED = (
    *("dataset", "split", "split_seed", "split_column", "split_fractions", "max_train_rows", "min_count"),
    *("own_splits", "num_rows", "test_rows_sha256"),
)


@dataclass
class Teacher:
    """A finished click model, without its weights.

    Args:
        name_or_path: Folder or Hub id.
        config: Its configuration, with the record of its data.
        processor: Its processor, with the tokenizer if it has a PLM.
    """

    name_or_path: str
    config: ClickPromptConfig
    processor: ClickPromptProcessor

    @property
    def record(self) -> dict[str, Any]:
        """The record of its data."""
        return self.config.training_data or {}

    @property
    def public_name(self) -> str:
        """Its name for publication: of a local folder, only the last part."""
        folder = Path(self.name_or_path)
        return folder.absolute().name if folder.is_dir() else self.name_or_path


def load_teacher(name_or_path: str, model_args: ModelArguments) -> Teacher:
    """Load the configuration and the processor of a teacher; warn if it has no PLM.

    The student gets the teacher's negative sampling rate: both learn from the same rows, sampled once.

    Args:
        name_or_path: Folder or Hub id.
        model_args: The student's options, in which the rate is set.

    Raises:
        ValueError: If it is a pretraining checkpoint, has no record of its data, its processor belongs to another
            model, or another negative sampling rate was given.
        OSError: If there is no such checkpoint.
    """
    check_folder_or_hub_id(name_or_path, _ARGUMENT)
    check_finetuned(name_or_path, _ARGUMENT)
    config = ClickPromptConfig.from_pretrained(name_or_path)
    processor = ClickPromptProcessor.from_pretrained(name_or_path)
    processor.check_model(config)
    if config.training_data is None:
        raise ValueError(
            f"{_ARGUMENT} {name_or_path} has no record of its training rows, which may include the test rows. "
            "Distill it with ClickPromptTrainer in your own code."
        )
    rate = config.negative_sampling_rate
    if model_args.negative_sampling_rate not in (None, rate):
        raise ValueError(
            f"`--negative_sampling_rate` must be {rate}, as in the teacher {name_or_path}, which was trained on the "
            f"same sampled rows, or left out; got {model_args.negative_sampling_rate}."
        )
    model_args.negative_sampling_rate = rate
    if not config.use_plm:
        logger.warning(f"{_ARGUMENT} {name_or_path} has no PLM: the student learns from a CTR model only.")
    return Teacher(name_or_path, config, processor)


def check_student(teacher: Teacher, start: ClickPromptConfig, processor: ClickPromptProcessor, name: str) -> None:
    """Refuse a checkpoint to start the student from that has a PLM, or other data or vocabularies than the teacher.

    Args:
        teacher: The teacher.
        start: Configuration of the checkpoint.
        processor: Its processor.
        name: Its folder or Hub id.

    Raises:
        ValueError: If it has; the message names each difference.
    """
    if start.use_plm:
        raise ValueError(f"{_ARGUMENT} trains a model without a PLM, but {name} has one: pass --without_plm.")
    differences = _differences(teacher.record, start.training_data or {})
    if teacher.processor.fingerprint != processor.fingerprint:
        differences.append(
            f"vocabularies (fingerprint {teacher.processor.fingerprint} instead of {processor.fingerprint})"
        )
    if differences:
        raise ValueError(
            f"{_ARGUMENT} must be a teacher trained on the same data as `--model_name_or_path`, but "
            f"{teacher.name_or_path} and {name} differ: {'; '.join(differences)}. The teacher may have seen the "
            "student's test rows, or its ids may stand for other values."
        )


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    # records of earlier versions lack some entries
    shared = [name for name in _RECORDED if name in found and name in expected]
    return [f"{name} ({found[name]} instead of {expected[name]})" for name in shared if found[name] != expected[name]]


def with_teacher_logits(
    data: PreparedData, teacher: Teacher, training_args: ClickPromptTrainingArguments
) -> PreparedData:
    """Compute the teacher's logits of the training rows, once; return the student's data, which need no text.

    Call it in every process: the processes share the rows, and each maps the same file.

    Args:
        data: Splits and processor, prepared with the teacher's processor.
        teacher: The teacher. Its weights are loaded for this call only.
        training_args: Name the output folder, the rows per batch (those of evaluation) and the precision.

    Returns:
        The data without text and tokenizer. The training split has `teacher_logits`.

    Raises:
        ValueError: If the teacher has no trained heads, or a logit is not finite.
        OSError: If the logits cannot be written.
    """
    state = training_args.distributed_state
    if state.is_main_process:
        print(
            f"Distilling from {teacher.public_name} with weight {training_args.distill_weight} and temperature "
            f"{training_args.distill_temperature}: it scores {len(data.splits['train']):,} training rows."
        )
    train, path = data.splits["train"], prepared_data(str(training_args.output_dir)) / "teacher_logits.npy"
    pieces = gather_object(_pieces(train, teacher, training_args))
    if training_args.local_process_index == 0:
        with whole_file(path) as partial, partial.open("wb") as file:
            np.save(file, np.concatenate([logits for _, logits in sorted(pieces, key=lambda piece: piece[0])]))
    state.wait_for_everyone()
    splits = {name: split.without_text() for name, split in data.splits.items()}
    splits["train"] = replace(splits["train"], teacher_logits=np.load(path, mmap_mode="r"))
    data.processor.tokenizer = None
    return replace(data, splits=splits)


def _pieces(
    train: ColumnarDataset, teacher: Teacher, training_args: ClickPromptTrainingArguments
) -> list[tuple[int, np.ndarray]]:
    """This process's pieces of the logits, with their numbers."""
    state = training_args.distributed_state
    model = load_model(teacher.name_or_path, _ARGUMENT)
    dtype = torch.bfloat16 if training_args.bf16 else torch.float16 if training_args.fp16 else None
    batch_size = training_args.per_device_eval_batch_size
    caches = training_args.cache_text_states and reads_states(model.config)
    kind = [batch_size, str(dtype), _PIECE_ROWS, training_args.text_state_dtype if caches else None]
    origin = [checkpoint_digest(model, teacher.processor), _digest(train), *kind]
    name = _PREFIX + hashlib.sha256(repr(origin).encode()).hexdigest()[:16]
    folder = Path(str(training_args.output_dir)) / name
    if training_args.local_process_index == 0:
        remove_teacher_logits(training_args, keep=folder)
        folder.mkdir(exist_ok=True)
    state.wait_for_everyone()
    choose_attention(model, training_args, training_args.attn_implementation)
    model.to(training_args.device)
    if caches:
        train = _with_states(model, train, training_args)
    mine = range(state.process_index, -(-len(train) // _PIECE_ROWS), state.num_processes)
    parts = [train.slice(number * _PIECE_ROWS, (number + 1) * _PIECE_ROWS) for number in mine]
    found = []
    with tqdm(
        total=sum(map(len, parts)), unit=" rows", desc="teacher's logits", disable=training_args.disable_tqdm
    ) as bar:
        for number, part in zip(mine, parts):
            path = folder / f"piece-{number:06}.npy"
            if path.exists():
                logits = np.load(path)
                bar.update(len(part))
            else:
                logits = click_logits(model, part, batch_size, dtype, bar.update)
                with whole_file(path) as partial, partial.open("wb") as file:
                    np.save(file, logits)
            found.append((number, logits))
    return found


def _with_states(model: Any, train: ColumnarDataset, training_args: ClickPromptTrainingArguments) -> ColumnarDataset:
    """The rows with states of their texts after the teacher's lower layers, computed once per distinct text."""
    texts = DistinctTexts.of(train)
    states = TextStates.build(
        model,
        [texts],
        states_folder(training_args, ClickPromptSettings.of(training_args)),
        training_args.text_state_dtype,
        progress_bar=not training_args.disable_tqdm,
        quiet=training_args.local_process_index > 0,
    )
    return states.attach(texts)


def _digest(train: ColumnarDataset) -> str:
    """Hash of what a teacher reads of the rows."""
    digest = hashlib.sha256()
    tokens = [] if train.tables is None else [train.tables.tokens, train.tables.offsets]
    for array in (train.feature_ids, train.clause_ids, *tokens):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def remove_teacher_logits(training_args: ClickPromptTrainingArguments, keep: Path | None = None) -> None:
    """Remove all pieces of logits from the output folder, except those in the folder `keep`."""
    for folder in Path(str(training_args.output_dir)).glob(f"{_PREFIX}*"):
        if folder != keep:
            with suppress(OSError):
                shutil.rmtree(folder)
