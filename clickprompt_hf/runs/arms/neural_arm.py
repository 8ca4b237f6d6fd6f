# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Arms with the CTR backbone: alone, with the PLM, or with the frozen PLM's vectors of texts."""

import os
import shutil
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PrinterCallback, set_seed

from ...data.columnar import load_prepared, prepare_splits
from ...data.feature_dropout import unseen_shares
from ...data.text_vectors import StoredTextEncoder
from ...modeling_clickprompt import ClickPromptForCTR
from ...pipeline_clickprompt import scoring_batch_size
from ...processing_clickprompt import ClickPromptProcessor
from ...recent_texts import RecentTexts
from ...scoring import score_table
from ...training import ClickPromptTrainer, ClickPromptTrainingArguments
from ...training.arguments import copy_arguments
from ...training.calibration import calibrate
from ...training.checkpoints import newest_whole_checkpoint
from ...whole_files import whole_folder
from ..arguments import ModelArguments
from ..model_building import expected_fresh_heads, fresh_model, load_checkpoint
from ..preparation import PreparedData
from ..prepared_folder import prepared_data
from ..tuning import Parameter, Space, defaults, suggest
from .arm import Arm
from .bench import Bench
from .pamlm import arguments_for, pamlm_checkpoint, pamlm_seconds

# From this share of unseen values in a field on, it matters whether training sees any.
_LEAST_UNSEEN = 0.05
# Arguments of the PLM and its prompts, which a model without a PLM must not have.
_WITHOUT_PLM = dict.fromkeys(("plm_name_or_path", "prompt_depth", "prompt_strategy", "fusion", "pooling"))


class NeuralArm(Arm):
    """An arm with the CTR backbone: alone, or with the PLM.

    Args:
        name, bench: As in `Arm`.
        with_plm: Whether it is served with the PLM.
        after_pamlm: Whether it starts from PA-MLM.
        model_options: Options that differ from the bench's `model_args`.
    """

    def __init__(self, name: str, bench: Bench, with_plm: bool, after_pamlm: bool = False, **model_options: Any):
        super().__init__(name, bench)
        self.with_plm = self.uses_plm_at_serving = with_plm
        self.starts_from_pamlm = after_pamlm
        self.model_options = model_options

    @cached_property
    def data(self) -> PreparedData:
        """The encoded rows that the arm reads."""
        shared = self.bench.data
        if self.with_plm:
            return shared
        splits = {name: split.without_text() for name, split in shared.splits.items()}
        return replace(shared, splits=splits, processor=self.bench.processor_without_text)

    def _model_args(self, hyperparameters: dict[str, Any]) -> ModelArguments:
        names = ("embedding_size", "dnn_dropout", "embedding_dropout")
        chosen = {name: hyperparameters[name] for name in names if name in hyperparameters}
        options = {**self.model_options, **chosen}
        if not self.with_plm:
            options.update(_WITHOUT_PLM)
        return replace(self.bench.model_args, **options)

    def build(self, hyperparameters: dict[str, Any], seed: int) -> Any:
        """A model to finetune.

        Args:
            hyperparameters: As tuning chose them.
            seed: Seed of PA-MLM's checkpoint, if the arm starts from one.
        """
        model_args = self._model_args(hyperparameters)
        if not self.starts_from_pamlm:
            return fresh_model(ClickPromptForCTR, model_args, self.data)
        start = str(pamlm_checkpoint(self.bench, seed))
        dropouts = ModelArguments(
            dnn_dropout=hyperparameters.get("dnn_dropout"), embedding_dropout=hyperparameters.get("embedding_dropout")
        )
        config, _ = load_checkpoint(start, dropouts, self.with_plm)
        with expected_fresh_heads():
            return ClickPromptForCTR.from_pretrained(start, config=config)

    def _pretrain(self, seed: int) -> None:
        """Run PA-MLM if the arm starts from it and none has run it: before the seed is set, to draw equal numbers."""
        if self.starts_from_pamlm:
            pamlm_checkpoint(self.bench, seed)

    @cached_property
    def space(self) -> Space:
        args, bench = self._base_arguments, self.bench
        # without a PLM it is cheap to build
        without_plm: Any = _WITHOUT_PLM
        model = fresh_model(ClickPromptForCTR, replace(bench.model_args, **without_plm), bench.data)
        config = model.config.ctr_config
        space = {
            "learning_rate": Parameter(args.learning_rate, 3e-4, 1e-2, log=True),
            "weight_decay": Parameter(args.weight_decay, choices=(0.0, 0.01, 0.1)),
            "dnn_dropout": Parameter(float(config.dnn_dropout), choices=(0.0, 0.1, 0.3, 0.5)),
            "embedding_dropout": Parameter(float(config.embedding_dropout), choices=(0.0, 0.1, 0.3)),
        }
        if not self.starts_from_pamlm:
            space["embedding_size"] = Parameter(config.embedding_size, choices=(8, 16, 32))
        shares = unseen_shares(bench.data.splits["validation"].feature_ids, bench.data.processor.max_values)
        if shares.max() >= _LEAST_UNSEEN:
            space["feature_dropout"] = Parameter(args.feature_dropout, choices=("none", "unseen"))
        if self.with_plm and args.plm_learning_rate > 0:
            space["plm_learning_rate"] = Parameter(args.plm_learning_rate, 2e-5, 5e-4, log=True)
        return space

    def _arguments(self, folder: Path, seed: int, hyperparameters: dict[str, Any]) -> ClickPromptTrainingArguments:
        options = {"cache_text_states": self._caches, **_of_training(hyperparameters)}
        return arguments_for(self.bench, self._base_arguments, folder, seed, **options)

    @property
    def _base_arguments(self) -> ClickPromptTrainingArguments:
        """Arguments of training, with the default rates."""
        if self.with_plm:
            return self.bench.training_args
        args: Any = copy_arguments(self.bench.alone_args)
        if self.starts_from_pamlm:
            # a pretrained backbone needs smaller steps than a fresh one
            args.learning_rate = self.bench.training_args.learning_rate
        return args

    @property
    def _caches(self) -> bool:
        return self.with_plm and self.bench.training_args.cache_text_states

    def _trainer(self, args: ClickPromptTrainingArguments, model: Any = None, **options: Any) -> ClickPromptTrainer:
        trainer = ClickPromptTrainer(
            model,
            args,
            train_dataset=self.data.splits["train"],
            eval_dataset=self.data.splits["validation"],
            processing_class=self.data.processor,
            **options,
        )
        # the command prints a line per trial and seed
        trainer.remove_callback(PrinterCallback)
        return trainer

    def run_trial(self, **study: Any) -> None:
        first, folder = self.bench.training_args.seed, self.folder / "_trial"
        self._pretrain(first)
        best: list[float] = []
        pick = max if study["direction"] == "maximize" else min

        def model_init(trial: Any = None) -> Any:
            return self.build(defaults(self.space) if trial is None else suggest(self.space, trial), first)

        def hp_space(trial: Any) -> dict[str, Any]:
            best.clear()
            return _of_training(suggest(self.space, trial))

        def best_evaluation(metrics: dict[str, float]) -> float:
            best.append(metrics[f"eval_{self.bench.metric}"])
            return pick(best)

        trainer = self._trainer(self._arguments(folder, first, {}), model_init=model_init)
        trainer.hyperparameter_search(hp_space, best_evaluation, n_trials=1, backend="optuna", **study)
        shutil.rmtree(folder, ignore_errors=True)

    def train(self, hyperparameters, seed):
        bench, folder = self.bench, self.folder / f"_seed-{seed}"
        self._pretrain(seed)
        set_seed(seed)
        model = self.build(hyperparameters, seed)
        trainer = self._trainer(self._arguments(folder, seed, hyperparameters), model)
        resumed = newest_whole_checkpoint(folder)
        result = trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        start = time.perf_counter()
        calibrate(trainer, self.data.splits["validation"])
        seconds = result.metrics["train_runtime"] + time.perf_counter() - start
        if self.starts_from_pamlm:
            seconds += pamlm_seconds(bench, seed)
        model = trainer.model.eval()
        with whole_folder(folder / "model") as partial:
            model.save_pretrained(partial)
            self.data.processor.save_pretrained(partial)
        megabytes = self._megabytes(folder / "model")
        # permuted ids leave the texts as they are
        texts = RecentTexts()
        run = self._run_of(
            *(seed, lambda table: self._score(model, table), seconds, megabytes),
            {**hyperparameters, "epochs": best_epoch(trainer)},
            lambda table: self._score(model, table, texts),
        )
        if seed == bench.seeds[0]:
            kept = self.folder / "model"
            shutil.rmtree(kept, ignore_errors=True)
            (folder / "model").rename(kept)
        shutil.rmtree(folder, ignore_errors=True)
        return run

    def _megabytes(self, folder: Path) -> float:
        """Size of what must be served.

        Args:
            folder: The saved model.
        """
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6

    def _score(self, model: Any, table: pa.Table, texts: RecentTexts | None = None) -> np.ndarray:
        batch_size, bf16 = scoring_batch_size(model.config), self.bench.training_args.bf16
        return score_table(table, self.data.processor, model, batch_size, bf16, recent_texts=texts)


class TextVectorArm(NeuralArm):
    """The backbone with one more input: the frozen PLM's vector of the row's text.

    The vectors of training and validation rows are computed once per text. Scoring computes those of its rows in
    float32, as the kept model does.
    """

    def __init__(self, name: str, bench: Bench):
        super().__init__(name, bench, with_plm=False)
        self.uses_plm_at_serving = True

    def _forget_texts(self) -> None:
        encoder: Any = self.data.processor.text_encoder
        encoder.forget()

    @cached_property
    def data(self) -> PreparedData:
        bench, shared = self.bench, self.bench.data
        cache = bench.text_vector_dir or bench.folder / "_text_vectors"
        encoder = StoredTextEncoder(str(bench.model_args.plm_name_or_path), cache)
        schema = shared.processor.schema
        schema = schema.with_vector_fields(schema.text_keys)
        tables = {name: table for name, table in bench.tables.items() if name != "test"}
        min_count = shared.training_data["min_count"]
        processor = ClickPromptProcessor.fit(tables["train"], schema, min_count=min_count, text_encoder=encoder)
        # several processes may train this arm
        folder = prepared_data(bench.folder).with_name(f"vectors-{os.getpid()}")
        prepare_splits(tables, processor, folder)
        splits, processor = load_prepared(folder)
        record = {**shared.training_data, "processor_fingerprint": processor.fingerprint}
        return PreparedData(splits, processor, record)


def _of_training(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are arguments of training; the others are the model's."""
    chosen = ("learning_rate", "plm_learning_rate", "weight_decay", "feature_dropout")
    return {name: hyperparameters[name] for name in chosen if name in hyperparameters}


def best_epoch(trainer: ClickPromptTrainer) -> float:
    """Epoch whose weights were kept."""
    steps = {log["step"]: log["epoch"] for log in trainer.state.log_history if "epoch" in log}
    step = trainer.kept_step
    return float(trainer.state.epoch or 0.0 if step is None else steps.get(step, 0.0))
