# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Warns of arguments that were given and change nothing."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any

import datasets
from transformers.utils import logging

from ..configuration_clickprompt import ClickPromptConfig
from ..presets import preset_backbones
from ..training.arguments import ClickPromptTrainingArguments
from .arguments import DataArguments, ModelArguments

logger = logging.get_logger(__name__)

FUSION_ALPHA_ARGUMENTS = ("fusion_alpha", "fusion_alpha_on", "learn_fusion_alpha")
PLM_ARGUMENTS = (
    *("plm_learning_rate", "max_text_length", "fusion", *FUSION_ALPHA_ARGUMENTS, "pooling", "prompt_length"),
    *("prompt_strategy", "prompt_encoder", "prompt_rank", "prompt_dropout", "prompt_initializer_scale"),
    "normalize_prompts",
)
PAMLM_ARGUMENTS = ("masking", "mlm_probability")


@dataclass(frozen=True)
class Run:
    """What decides which arguments matter; a checkpoint's where training starts from one."""

    pretraining: bool
    has_plm: bool
    plm_is_frozen: bool
    fusion: str
    prompt_strategy: str
    prompt_encoder: str
    backbone: str
    dataset: str
    split: str


def _backbone(*names: str) -> Callable[[Run], bool]:
    """Whether the backbone is one of `names`, or a user's own, of which nothing is known."""
    return lambda run: run.backbone in names or run.backbone not in preset_backbones()


def _no_backbone(*names: str) -> Callable[[Run], bool]:
    return lambda run: run.backbone not in names


# arguments, what they need to have an effect, and whether a run has it
_NEEDS: tuple[tuple[Collection[str], str, Callable[[Run], bool]], ...] = (
    ((*PLM_ARGUMENTS, "freeze plm", "freeze prompt_encoder"), "a run with the PLM", lambda run: run.has_plm),
    (("plm_learning_rate",), "a PLM that is not frozen", lambda run: not run.plm_is_frozen),
    (PAMLM_ARGUMENTS, "run_pamlm.py", lambda run: run.pretraining),
    (FUSION_ALPHA_ARGUMENTS, "--fusion weighted", lambda run: run.fusion == "weighted"),
    (
        ("prompt_length", "prompt_dropout", "prompt_initializer_scale", "normalize_prompts"),
        "a --prompt_strategy with prompts",
        lambda run: run.prompt_strategy != "none",
    ),
    (("prompt_encoder",), "--prompt_strategy layerwise", lambda run: run.prompt_strategy == "layerwise"),
    (("prompt_rank",), "--prompt_encoder low_rank", lambda run: run.prompt_encoder == "low_rank"),
    (("embedding_size",), "a backbone other than lr", _no_backbone("lr")),
    (("dnn_hidden_sizes",), "a backbone with a DNN", _no_backbone("lr", "fm", "fignn", "transformer")),
    (("dnn_dropout",), "a backbone with a DNN or the transformer", _no_backbone("lr", "fm", "fignn")),
    (("num_cross_layers",), "--backbone dcn or dcnv2", _backbone("dcn", "dcnv2")),
    (
        ("num_attention_layers", "num_attention_heads"),
        "--backbone autoint or transformer",
        _backbone("autoint", "transformer"),
    ),
    (("num_graph_layers",), "--backbone fignn", _backbone("fignn")),
    (("data_path",), "a --dataset that is read from files", lambda run: run.dataset != "synthetic"),
    (("data_path",), "a --dataset that is no Hub id or folder itself", lambda run: "/" not in run.dataset),
    (("split_seed",), "--split random", lambda run: run.split == "random"),
    (("split_seed",), "a --dataset without splits of its own", lambda run: not _has_splits(run.dataset)),
)


def warn_of_idle_arguments(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    checkpoint: ClickPromptConfig | None = None,
    pretraining: bool = False,
) -> None:
    """Warns of arguments that were given and cannot have an effect, and says what they need.

    Given is what differs from its default: a default that is spelt out passes.

    Args:
        model_args, data_args, training_args: The arguments.
        checkpoint: Configuration of the checkpoint that training starts from, if any, without its PLM if that is left
            out.
        pretraining: Whether the run is PA-MLM or PA-CLM.
    """
    given = {
        member.name: getattr(arguments, member.name)
        for arguments in (model_args, data_args, training_args)
        for member in fields(arguments)
        if getattr(arguments, member.name) != member.default
    }
    given.update({f"freeze {part}": "" for part in training_args.freeze or ()})
    run = _run(model_args, data_args, training_args, checkpoint, pretraining)
    for names, need, is_met in _NEEDS:
        for name in names:
            if name in given and not is_met(run):
                logger.warning(f"{f'--{name} {given[name]}'.strip()} has no effect: it needs {need}.")


def _run(
    model_args: ModelArguments,
    data_args: DataArguments,
    training_args: ClickPromptTrainingArguments,
    checkpoint: ClickPromptConfig | None,
    pretraining: bool,
) -> Run:
    saved: dict[str, Any] = {} if checkpoint is None else checkpoint.training_data or {}

    def option(name: str) -> str:
        return getattr(model_args, name) or getattr(ClickPromptConfig if checkpoint is None else checkpoint, name)

    return Run(
        pretraining=pretraining,
        has_plm=model_args.plm_name_or_path is not None if checkpoint is None else checkpoint.use_plm,
        plm_is_frozen="plm" in (training_args.freeze or ()),
        fusion=option("fusion"),
        prompt_strategy=option("prompt_strategy"),
        prompt_encoder=option("prompt_encoder"),
        backbone=model_args.fresh_backbone if checkpoint is None else checkpoint.ctr_config.backbone,
        dataset=data_args.dataset or saved.get("dataset", ""),
        split=data_args.split or saved.get("split", "random"),
    )


def _has_splits(dataset: str) -> bool:
    """Whether a data set of the Hub, or a folder, has the three splits itself."""
    return "/" in dataset and {"train", "validation", "test"} <= set(datasets.get_dataset_split_names(dataset))
