# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Warnings about arguments that have no effect."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import datasets
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..data.sources import FILE_FORMATS
from ..data.sources.source import SPLIT_NAMES
from ..data.split_files import own_split_files
from ..presets import preset_backbones
from ..recent_texts import reads_states
from ..training.arguments import ClickPromptTrainingArguments
from .arguments import DataArguments, ModelArguments, config_options

logger = logging.get_logger(__name__)

# Arguments that also matter to a teacher with a PLM, and those that do if it reads states of texts.
TEXT_ARGUMENTS = ("text_fields",)
STATE_ARGUMENTS = ("cache_text_states", "text_state_dir", "text_state_dtype")
# Flags besides the options of `ClickPromptConfig` that matter only with a PLM, and only to pretraining.
PLM_ARGUMENTS = (
    "plm_learning_rate",
    "max_text_length",
    "freeze_lower_layers",
    *TEXT_ARGUMENTS,
    *STATE_ARGUMENTS,
    # every click model corrects its probabilities
    *(name for name in config_options(ClickPromptConfig) if name != "negative_sampling_rate"),
)
PAMLM_ARGUMENTS = ("masking", "mlm_probability", "masked_variants")
CACHE_ARGUMENTS = ("text_state_dir", "text_state_dtype", "masked_variants")


@dataclass(frozen=True)
class Run:
    """What decides which arguments matter: taken from the checkpoint if training starts from one.

    Args:
        pretraining: Whether the run is PA-MLM or PA-CLM.
        has_plm: Whether its model has a PLM.
        reads_text: Whether its model or its teacher has a PLM.
        reads_states: Whether its model or its teacher can read states of texts.
        plm_is_frozen: Whether the PLM is frozen.
        caches_text_states: Whether it trains on cached states of the texts.
        options: The options of the configurations, by name.
        dataset: Name, Hub id or folder of the dataset.
        split: How it is split.
        has_splits: Tells whether it has all three splits itself.
        distills: Whether the model learns from a teacher too.
        distill_weight: The teacher's share of the loss.
    """

    pretraining: bool
    has_plm: bool
    reads_text: bool
    reads_states: bool
    plm_is_frozen: bool
    caches_text_states: bool
    options: dict[str, Any]
    dataset: str
    split: str
    has_splits: Callable[[], bool]
    distills: bool
    distill_weight: float


_OTHER_SPLITS = "a --dataset without predefined splits"
# Arguments that are not options of a configuration: what they need, and whether a run has it.
_NEEDS: tuple[tuple[tuple[str, ...], str, Callable[[Run], bool]], ...] = (
    (
        (*({*PLM_ARGUMENTS} - {*TEXT_ARGUMENTS, *STATE_ARGUMENTS}), "freeze plm", "freeze prompt_encoder"),
        *("a run with the PLM", lambda run: run.has_plm),
    ),
    (TEXT_ARGUMENTS, "a run with the PLM", lambda run: run.reads_text),
    (STATE_ARGUMENTS, "a run with the PLM", lambda run: run.reads_states),
    (("plm_learning_rate",), "a PLM that is not frozen", lambda run: not run.plm_is_frozen),
    (PAMLM_ARGUMENTS, "clickprompt pretrain", lambda run: run.pretraining),
    (CACHE_ARGUMENTS, "--cache_text_states true", lambda run: run.caches_text_states),
    (("distill_temperature", "distill_weight"), "--distill_from", lambda run: run.distills),
    (("distill_temperature",), "a --distill_weight above 0", lambda run: run.distill_weight > 0),
    (("data_path",), "a --dataset read from files", lambda run: run.dataset != "synthetic"),
    (("data_path",), "a --dataset that is not a Hub id or folder itself", lambda run: "/" not in run.dataset),
    (("split_column",), "--split user", lambda run: run.split == "user"),
    (("split_seed",), "--split random or user", lambda run: run.split != "time"),
    (("split_seed", "split_column", "split_fractions"), _OTHER_SPLITS, lambda run: not run.has_splits()),
)


def warn_of_idle_arguments(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    checkpoint: ClickPromptConfig | None = None,
    pretraining: bool = False,
    teacher: ClickPromptConfig | None = None,
) -> None:
    """Warn about given arguments that have no effect, and say what each needs.

    An argument counts as given if it differs from its default.

    Args:
        model_args, data_args, training_args: The arguments.
        checkpoint: Configuration of the checkpoint that training starts from, if any, without the PLM if the run
            leaves it out.
        pretraining: Whether the run is PA-MLM or PA-CLM.
        teacher: Configuration of the model that is distilled, if any.
    """
    given = {
        field.name: getattr(arguments, field.name)
        for arguments in (model_args, data_args, training_args)
        for field in fields(arguments)
        if getattr(arguments, field.name) != field.default
    }
    given.update({f"freeze {part}": "" for part in training_args.freeze or ()})
    run = _run(model_args, data_args, training_args, checkpoint, pretraining, teacher)
    for name, value in given.items():
        if (need := _unmet_need(name, run)) is not None:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            logger.warning(f"{f'--{name} {shown}'.strip()} has no effect: it needs {need}.")


def _unmet_need(name: str, run: Run) -> str | None:
    """What an argument needs to have an effect and `run` lacks; `None` if nothing."""
    for names, need, is_met in _NEEDS:
        if name in names and not is_met(run):
            return need
    return _unmet_option(name, run)


def _unmet_option(name: str, run: Run) -> str | None:
    """The flag and the values that an option needs, if `run` has another value; `None` if nothing is missing."""
    option = config_options(CTRConfig, ClickPromptConfig).get(name)
    for needed, values in {} if option is None else option.metadata["needs"].items():
        value = run.options[needed]
        # the needs of a custom backbone are unknown
        if value not in values and not (needed == "backbone" and value not in preset_backbones()):
            return f"--{needed} {' or '.join([', '.join(values[:-1])] * (len(values) > 1) + [values[-1]])}"
        if (need := _unmet_option(needed, run)) is not None:
            return need
    return None


def _run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    checkpoint: ClickPromptConfig | None,
    pretraining: bool,
    teacher: ClickPromptConfig | None,
) -> Run:
    data_config = teacher if checkpoint is None else checkpoint
    saved: dict[str, Any] = {} if data_config is None else data_config.training_data or {}
    options = {}
    for config_class, config in (
        (CTRConfig, None if checkpoint is None else checkpoint.ctr_config),
        (ClickPromptConfig, checkpoint),
    ):
        for name, option in config_options(config_class).items():
            given = getattr(model_args, name)
            options[name] = given if given is not None else getattr(config, name, option.default)
    dataset = data_args.dataset or saved.get("dataset", "")
    has_plm = model_args.plm_name_or_path is not None if checkpoint is None else checkpoint.use_plm
    return Run(
        pretraining=pretraining,
        has_plm=has_plm,
        reads_text=has_plm or (teacher is not None and teacher.use_plm),
        reads_states=has_plm or (teacher is not None and teacher.use_plm and reads_states(teacher)),
        plm_is_frozen="plm" in (training_args.freeze or ()),
        caches_text_states=training_args.cache_text_states,
        options=options,
        dataset=dataset,
        split=data_args.split or saved.get("split", "random"),
        has_splits=lambda: set(SPLIT_NAMES) <= _own_splits(dataset, data_args),
        distills=teacher is not None,
        distill_weight=training_args.distill_weight,
    )


def _own_splits(dataset: str, data_args: DataArguments) -> set[str]:
    """The splits that the data have themselves: given files, files with such names, or splits on the Hub."""
    if data_args.train_file is not None:
        given = {"validation": data_args.validation_file, "test": data_args.test_file}
        return {"train", *(name for name, files in given.items() if files is not None)}
    if dataset in FILE_FORMATS and data_args.data_path is not None:
        return set(own_split_files(data_args.data_path))
    return set(datasets.get_dataset_split_names(dataset)) if "/" in dataset else set()
