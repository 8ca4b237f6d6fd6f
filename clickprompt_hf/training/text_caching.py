# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Frozen lower layers of a PLM, and rows whose texts come as cached states of these layers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.utils.data import Subset
from transformers import TrainingArguments
from transformers.utils import logging

from ..data.collators import ClickPromptCLMCollator, ClickPromptMLMCollator
from ..data.columnar import ColumnarDataset
from ..data.text_states import TextStates, fingerprint_of
from ..data.text_variants import DEFAULT_MASKED_VARIANTS, DistinctTexts, text_ids_of
from ..input_checks import check_has_lower_layers, check_pooled_layers
from .arguments import ClickPromptSettings
from .unwrapping import Task, is_named, task_of, unwrap_model

logger = logging.get_logger(__name__)

# The underscore keeps it from being pushed to the Hub.
STATES_FOLDER = "_text_states"
# Writing the states of a text takes about as long as computing them twice; reading them costs almost nothing. Measured
# with MiniLM on 1,200 rows with short texts of their own, CPU seconds without the cache and with it: 9.6 and 11.7 with
# one epoch, 16.2 and 16.3 with two.
_LEAST_READS = 2


def freezes_lower_layers(model: nn.Module, settings: ClickPromptSettings, datasets: Iterable[Any] = ()) -> bool:
    """Whether training freezes the PLM's lower layers: because of the settings, or because rows have cached states."""
    inner = unwrap_model(model)
    if not is_named(inner, "ClickPromptPreTrainedModel") or not inner.config.use_plm:
        return False
    return bool(settings.freeze_lower_layers or settings.cache_text_states or _any_cached(datasets))


def rows_with_states(dataset: Any) -> list[ColumnarDataset]:
    """The rows with cached states in a dataset, which may be in torch's `Subset`."""
    if isinstance(dataset, Subset):
        return rows_with_states(dataset.dataset)
    return [dataset] if isinstance(dataset, ColumnarDataset) and dataset.cached_texts is not None else []


def _any_cached(datasets: Iterable[Any]) -> bool:
    return any(rows_with_states(rows) for rows in datasets)


def check_lower_layers(
    model: nn.Module,
    args: TrainingArguments,
    settings: ClickPromptSettings,
    collator: Any,
    datasets: list[Any],
    is_sharded: bool,
) -> None:
    """Check that the lower layers of a model can be frozen and, if wanted, that their states can be cached.

    Args:
        model: The model.
        args: Training arguments.
        settings: The settings beyond `Trainer`'s.
        collator: The collator of training.
        datasets: The datasets of training and evaluation.
        is_sharded: Whether FSDP or DeepSpeed hold the weights.

    Raises:
        ValueError: If not; the message names the argument.
    """
    if not freezes_lower_layers(model, settings, datasets):
        return
    if settings.freeze_lower_layers is False:
        raise ValueError("`freeze_lower_layers` must be True or left out for rows with cached states, got False.")
    name = "cache_text_states" if settings.cache_text_states else "freeze_lower_layers"
    inner = unwrap_model(model)
    check_has_lower_layers(inner.config, name)
    lower = inner.trunk.lower_modules()
    if any(isinstance(part, BaseTunerLayer) for module in lower for part in module.modules()):
        raise ValueError(
            f"`{name}` freezes the PLM's embeddings and first {inner.config.num_lower_layers} layers: adapters must "
            "target other layers, see `layers_to_transform` of PEFT."
        )
    if args.neftune_noise_alpha is not None:
        raise ValueError(
            f"`neftune_noise_alpha` must be None with `{name}`, got {args.neftune_noise_alpha}: frozen embeddings get "
            "no noise."
        )
    if settings.cache_text_states or _any_cached(datasets):
        dispatches: Any = args.accelerator_config
        if is_sharded or args.n_gpu > 1 or dispatches.dispatch_batches:
            raise ValueError(
                "`cache_text_states` must be False with DataParallel, FSDP, DeepSpeed and `dispatch_batches`, "
                "which split batches or weights, but rows of a batch share texts. For several devices, use "
                "`accelerate launch`, which trains with DDP."
            )
        for cast in ("bf16_full_eval", "fp16_full_eval"):
            if getattr(args, cast):
                raise ValueError(
                    f"`{cast}` must be False with `cache_text_states`: it casts the model, so its lower layers no "
                    f"longer match the states. `{cast.removesuffix('_full_eval')}` computes in 16 bits without."
                )
        _check_caching(inner, settings, collator, datasets)


def _check_caching(model: Any, settings: ClickPromptSettings, collator: Any, datasets: list[Any]) -> None:
    for rows in datasets:
        if not rows_with_states(rows) and (not isinstance(rows, ColumnarDataset) or rows.tables is None):
            raise ValueError(
                "`cache_text_states` needs rows of a ColumnarDataset with text, as `prepare_splits` encodes them; got "
                f"{type(rows).__name__}."
            )
    task = task_of(model)
    if task == "clicks":
        check_pooled_layers(model.config)
    elif not isinstance(collator, (ClickPromptMLMCollator, ClickPromptCLMCollator)):
        raise ValueError(
            "`cache_text_states` needs a ClickPromptMLMCollator or a ClickPromptCLMCollator in pretraining, got "
            f"{type(collator).__name__}."
        )
    if task == "next tokens" and settings.masked_variants is not None:
        raise ValueError(
            f"`masked_variants` must be left out for a decoder: PA-CLM masks nothing; got {settings.masked_variants}."
        )


class CachedRows:
    """Rows of a trainer with cached states instead of tokens, given by the caller or cached by the trainer."""

    def __init__(self) -> None:
        self._by_dataset: WeakKeyDictionary[ColumnarDataset, ColumnarDataset] = WeakKeyDictionary()

    def get(self, rows: ColumnarDataset) -> ColumnarDataset | None:
        """The rows with states; `None` if they are not cached."""
        return rows if rows.cached_texts is not None else self._by_dataset.get(rows)

    def update(
        self,
        model: Any,
        args: TrainingArguments,
        settings: ClickPromptSettings,
        collator: Any,
        datasets: Iterable[ColumnarDataset],
    ) -> None:
        """Cache the states of datasets, unless they have those of the model already.

        Args:
            model: The model, without wrappers.
            args: Training arguments.
            settings: The settings beyond `Trainer`'s.
            collator: The collator of training.
            datasets: Datasets with text.

        Raises:
            ValueError: If a dataset came with states of other lower layers.
            OSError: If the disk is too small, or a file cannot be written.
        """
        missing = []
        fingerprints: dict[str, str] = {}
        for rows in datasets:
            cached = self.get(rows)
            if cached is None:
                missing.append(rows)
                continue
            states = cached.cached_texts.states  # type: ignore[union-attr]
            if states.dtype not in fingerprints:
                fingerprints[states.dtype] = fingerprint_of(model, states.dtype)
            if states.fingerprint == fingerprints[states.dtype]:
                continue
            if rows.cached_texts is not None:
                raise ValueError(
                    f"{states.folder} holds states of another PLM or another `prompt_depth`, or the model's lower "
                    "layers have been trained since. Compute this model's states with `TextStates.build`."
                )
            missing.append(rows)
        if not missing:
            return
        variants = settings.masked_variants or DEFAULT_MASKED_VARIANTS
        texts = [DistinctTexts.of(rows, collator, variants) for rows in missing]
        # the first process to come writes; the others wait for its lock, without a collective that could time out
        states = TextStates.build(
            model,
            texts,
            states_folder(args, settings),
            settings.text_state_dtype,
            progress_bar=not args.disable_tqdm,
            quiet=args.local_process_index > 0,
        )
        for rows, row_texts in zip(missing, texts):
            self._by_dataset[rows] = states.attach(row_texts)


def states_folder(args: TrainingArguments, settings: ClickPromptSettings) -> Path:
    """Folder of the cached states of all PLMs: `text_state_dir`, or one in the output folder."""
    return Path(settings.text_state_dir or Path(str(args.output_dir)) / STATES_FOLDER)


def num_variants(masked_variants: int | None, task: Task) -> int:
    """Number of versions of each text whose states a training caches: several masked ones in PA-MLM, else one."""
    return (masked_variants or DEFAULT_MASKED_VARIANTS) if task == "masked tokens" else 1


def caching_pays(rows: ColumnarDataset, epochs: float, variants: int = 1) -> bool:
    """Whether writing the states of all texts once is cheaper than computing them for each row in each epoch.

    Args:
        rows: Training rows with text.
        epochs: Number of passes over them.
        variants: Number of versions of each text.
    """
    return _LEAST_READS * variants * _num_texts(rows) <= epochs * len(rows)


def warn_of_unshared_texts(rows: ColumnarDataset, epochs: float, variants: int = 1) -> None:
    """Warn if caching the states of the training rows' texts does not pay; arguments as in `caching_pays`."""
    if caching_pays(rows, epochs, variants):
        return
    versions = f", in {variants} masked variants each" if variants > 1 else ""
    logger.warning(
        f"`cache_text_states`: the {len(rows):,} training rows have {_num_texts(rows):,} distinct texts{versions}; "
        f"in {epochs:.3g} {'epoch' if epochs == 1 else 'epochs'} caching will not pay off. Leave fields that differ "
        "from row to row, such as user ids, out of the text (`text_fields`, or `in_text: false` in the schema), or "
        "use `freeze_lower_layers=True` without the cache, which trains the same layers."
    )


def _num_texts(rows: ColumnarDataset) -> int:
    return len(np.unique(text_ids_of(rows)))
