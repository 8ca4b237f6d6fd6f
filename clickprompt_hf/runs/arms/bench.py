# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What all arms of a comparison share: rows, options, seeds."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ...processing_clickprompt import ClickPromptProcessor
from ...training import ClickPromptTrainingArguments
from ..arguments import ModelArguments
from ..preparation import PreparedData


@dataclass
class Bench:
    """What all arms of a comparison share.

    Args:
        folder: Output folder of the comparison.
        tables: Raw rows of `train`, `validation` and `test`, with labels 0 and 1.
        data: The same rows, encoded.
        model_args: Options of the models, and the PLM if there is one.
        training_args: Arguments of training; `seed` is the first seed.
        alone_args: Those of training a model without a PLM.
        num_trials: Number of tuning trials per arm.
        metric: `"auc"` or `"log_loss"` of validation rows, which tuning and early stopping improve.
        num_seeds: Number of seeds.
        pamlm_epochs: Epochs of PA-MLM.
        say: Prints a line of progress.
        text_vector_dir: Folder for the vectors of texts; `None` for one in `folder`.
        chose_cache: Whether the comparison itself chose to cache the states of texts, which it may then do without.
    """

    folder: Path
    tables: dict[str, pa.Table]
    data: PreparedData
    model_args: ModelArguments
    training_args: ClickPromptTrainingArguments
    alone_args: ClickPromptTrainingArguments
    num_trials: int
    metric: str
    num_seeds: int
    pamlm_epochs: float
    say: Callable[[str], None]
    text_vector_dir: str | None = None
    chose_cache: bool = False

    @cached_property
    def clicks(self) -> dict[str, np.ndarray]:
        """Labels by split, (N,) 0 or 1."""
        label = self.data.processor.schema.label
        return {name: table.column(label).to_numpy().astype(np.int64) for name, table in self.tables.items()}

    @cached_property
    def processor_without_text(self) -> ClickPromptProcessor:
        """The processor of models without a PLM."""
        processor = copy.copy(self.data.processor)
        processor.tokenizer = None
        return processor

    @property
    def seeds(self) -> list[int]:
        return [self.training_args.seed + number for number in range(self.num_seeds)]

    def arm_folder(self, arm: str) -> Path:
        return self.folder / "arms" / arm
