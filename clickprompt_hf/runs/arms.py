# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How each arm of a comparison is tuned, trained and scored, on the same rows for all."""

import copy
import gc
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PrinterCallback, set_seed

from ..comparison.baselines import (
    Baseline,
    BestColumn,
    ConstantRate,
    GradientBoosting,
    OneHotLogisticRegression,
)
from ..comparison.results import ARMS, SEEDLESS_ARMS, ArmRun, load_run, save_run
from ..comparison.speed import fastest_of_repeats
from ..data.columnar import load_prepared, prepare_splits
from ..data.feature_dropout import unseen_shares
from ..data.text_vectors import StoredTextEncoder
from ..evaluation.importance import permutation_importance
from ..modeling_clickprompt import ClickPromptForCTR
from ..pipeline_clickprompt import scoring_batch_size
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import RecentTexts
from ..schema_clickprompt import FieldSchema
from ..scoring import score_table
from ..text_encoder_clickprompt import TextEncoder, load_frozen
from ..training import ClickPromptTrainer, ClickPromptTrainingArguments
from ..training.arguments import copy_arguments
from ..training.calibration import calibrate
from ..training.checkpoints import newest_whole_checkpoint
from ..training.metrics import auc_and_log_loss
from ..training.text_caching import caching_pays, num_variants
from ..training.unwrapping import task_of
from ..whole_files import whole_file, whole_folder
from .arguments import ModelArguments
from .model_building import fresh_model, fresh_pretraining_model, load_checkpoint
from .preparation import PreparedData
from .prepared_folder import prepared_data
from .tuning import Parameter, Space, Trial, defaults, finished_search, suggest, tune

# Scored at a time, so that scoring many rows takes little memory.
_PIECE_ROWS = 65_536
_PERMUTED_ROWS, _PERMUTATIONS = 2_000, 2
# Share of unseen values in a field from which it matters whether training meets any.
_LEAST_UNSEEN = 0.05
# Column of the rows' text vectors.
_VECTORS = "text_vectors"
# Arguments of a model without a PLM: it must not have those of a fresh PLM's side.
_WITHOUT_PLM = dict.fromkeys(("plm_name_or_path", "prompt_depth", "prompt_strategy", "fusion", "pooling"))


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


class Arm:
    """One arm: `run` tunes it with the first seed and trains it with each.

    Args:
        name: One of `ARMS`.
        bench: What all arms share.
    """

    uses_plm_at_serving = False
    with_plm = False
    starts_from_pamlm = False

    def __init__(self, name: str, bench: Bench):
        self.name, self.bench = name, bench

    @property
    def folder(self) -> Path:
        """What the arm keeps."""
        return self.bench.arm_folder(self.name)

    @property
    def seeds(self) -> list[int]:
        return self.bench.seeds[:1] if self.name in SEEDLESS_ARMS else self.bench.seeds

    def run(self) -> None:
        """Tune and train with each seed, except what is finished."""
        if missing := self.missing_seeds:
            best = self.tuned()
            for seed in missing:
                self.train_and_save(best, seed)

    def runs(self) -> list[ArmRun]:
        """The finished runs, one per seed."""
        return [load_run(self._path(seed)) for seed in self.seeds]

    @property
    def missing_seeds(self) -> list[int]:
        """Seeds that are not trained yet."""
        return [seed for seed in self.seeds if not self._path(seed).is_file()]

    def train_and_save(self, hyperparameters: dict[str, Any], seed: int) -> None:
        """Train with the final hyperparameters, score the validation and test rows, and keep the result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run = self.train(hyperparameters, seed)
        save_run(run, self._path(seed))
        test = auc_and_log_loss(run.probabilities, self.bench.clicks["test"])
        self.bench.say(
            f"{self.name}, seed {seed}: test AUC {test['auc']:.4f}, log loss {test['log_loss']:.4f}; trained in "
            f"{run.train_seconds:,.0f} s"
        )
        gc.collect()

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.npz"

    def tuned(self) -> dict[str, Any]:
        """The best hyperparameters of the trials."""
        bench = self.bench
        return tune(
            *(self.space, self.run_trial, bench.num_trials, bench.metric == "auc", bench.training_args.seed),
            self.folder / "trials",
            self._report,
        )

    def _report(self, number: int, trial: Trial) -> None:
        value = "diverged" if trial.value is None else f"validation {self.bench.metric} {trial.value:.4f}"
        self.bench.say(f"{self.name}, trial {number} of {self.bench.num_trials}: {value}; {trial.seconds:,.0f} s")

    @property
    def space(self) -> Space:
        """The hyperparameters that tuning chooses, with their defaults."""
        return {}

    def run_trial(self, **study: Any) -> None:
        """Run one trial of the Optuna study that `optuna.create_study(**study)` gives."""
        raise NotImplementedError

    def train(self, hyperparameters: dict[str, Any], seed: int) -> ArmRun:
        """Train with the final hyperparameters and score the validation and test rows."""
        raise NotImplementedError

    def _run_of(
        self,
        seed: int,
        score: Callable[[pa.Table], np.ndarray],
        train_seconds: float,
        megabytes: float,
        hyperparameters: dict[str, Any],
        score_permuted: Callable[[pa.Table], np.ndarray] | None = None,
    ) -> ArmRun:
        tables, clicks = self.bench.tables, self.bench.clicks
        validation = auc_and_log_loss(scored(score, tables["validation"]), clicks["validation"])
        probabilities, seconds = fastest_of_repeats(lambda: scored(score, tables["test"]), self._forget_texts)
        if seed == self.seeds[0]:
            self._save_importance(score_permuted or score, seed)
        return ArmRun(
            arm=self.name,
            seed=seed,
            probabilities=probabilities,
            validation_auc=validation["auc"],
            validation_log_loss=validation["log_loss"],
            train_seconds=train_seconds,
            rows_per_second=len(probabilities) / seconds,
            megabytes=megabytes,
            hyperparameters=hyperparameters,
            uses_plm_at_serving=self.uses_plm_at_serving,
        )

    def _forget_texts(self) -> None:
        """Drop what scoring has kept of texts, so that the speed of scoring other rows can be measured."""

    def _save_importance(self, score: Callable[[pa.Table], np.ndarray], seed: int) -> None:
        """Measure how much of the test AUC rests on each field."""
        if self.name in ("constant", "best_column"):
            return
        rows = np.linspace(0, len(self.bench.clicks["test"]) - 1, min(_PERMUTED_ROWS, len(self.bench.clicks["test"])))
        chosen = np.unique(rows.astype(np.int64))
        clicks = self.bench.clicks["test"][chosen]
        if clicks.min() == clicks.max():
            return
        drops = permutation_importance(
            score,
            self.bench.tables["test"].take(pa.array(chosen)),
            clicks,
            self.bench.data.processor.schema.fields,
            seed,
            _PERMUTATIONS,
        )
        with whole_file(self.folder / "importance.json") as partial:
            partial.write_text(json.dumps(drops, indent=2, ensure_ascii=False), encoding="utf-8")

    def importance(self) -> dict[str, float] | None:
        """Drop of the test AUC by field, for the first seed; `None` if it was not measured."""
        path = self.folder / "importance.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def scored(score: Callable[[pa.Table], np.ndarray], table: pa.Table) -> np.ndarray:
    """Click probabilities of raw rows, (N,), piece by piece."""
    pieces = [table.slice(start, _PIECE_ROWS) for start in range(0, len(table), _PIECE_ROWS)]
    return np.concatenate([score(piece) for piece in pieces])


class BaselineArm(Arm):
    """An arm that is not a neural network.

    Args:
        name, bench: As in `Arm`.
        make: Makes the baseline from the processor and the seed.
        space: Its hyperparameters.
    """

    def __init__(self, name: str, bench: Bench, make: Callable[..., Baseline], space: Space):
        super().__init__(name, bench)
        self.make = make
        self._space = space

    @property
    def space(self) -> Space:
        return self._space

    def _prepare(self, seed: int) -> tuple[Baseline, Any, tuple[Any, np.ndarray]]:
        """A baseline, and the features of the training and, with their clicks, of the validation rows."""
        bench = self.bench
        baseline = self.make(bench.processor_without_text, seed)
        features = baseline.fit_features(bench.tables["train"], bench.clicks["train"])
        return baseline, features, (baseline.features(bench.tables["validation"]), bench.clicks["validation"])

    @cached_property
    def _prepared(self) -> tuple[Baseline, Any, tuple[Any, np.ndarray]]:
        """Those of all trials."""
        return self._prepare(self.bench.training_args.seed)

    def run_trial(self, **study: Any) -> None:
        import optuna

        baseline, features, validation = self._prepared
        metric = self.bench.metric

        def objective(trial: Any) -> float:
            baseline.fit(features, self.bench.clicks["train"], validation, metric, **suggest(self.space, trial))
            return auc_and_log_loss(baseline.predict_features(validation[0]), validation[1])[metric]

        optuna.create_study(**study).optimize(objective, n_trials=1)

    def train(self, hyperparameters, seed):
        self.__dict__.pop("_prepared", None)
        bench, start = self.bench, time.perf_counter()
        baseline, features, validation = self._prepare(seed)
        baseline.fit(features, bench.clicks["train"], validation, bench.metric, **hyperparameters)
        baseline.calibrate(*validation)
        seconds = time.perf_counter() - start
        return self._run_of(
            seed, baseline.predict, seconds, baseline.megabytes, {**hyperparameters, **baseline.chosen}
        )


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
        with warnings.catch_warnings():
            # the click heads are fresh, as they should be
            warnings.filterwarnings("ignore", message=".*was saved without")
            return ClickPromptForCTR.from_pretrained(start, config=config)

    def _pretrain(self, seed: int) -> None:
        """Run PA-MLM, if the arm starts from it and no arm has: before the seed is set, to draw the same numbers."""
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

    The vectors of training and validation rows are computed once per text. Scoring computes those of the rows it gets.
    """

    def __init__(self, name: str, bench: Bench):
        super().__init__(name, bench, with_plm=False)
        self.uses_plm_at_serving = True

    @cached_property
    def _encoder(self) -> TextEncoder:
        return TextEncoder(str(self.bench.model_args.plm_name_or_path), bf16=self.bench.training_args.bf16)

    def _forget_texts(self) -> None:
        self._encoder.forget()

    def _with_vectors(self, table: pa.Table, encoder: TextEncoder) -> pa.Table:
        """The raw rows with a column of vectors, (N, H) float32."""
        vectors = encoder.encode(self.bench.data.processor.render(table))
        flat = pa.array(vectors.reshape(-1), pa.float32())
        return table.append_column(_VECTORS, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))

    @cached_property
    def data(self) -> PreparedData:
        bench, shared = self.bench, self.bench.data
        cache = bench.text_vector_dir or bench.folder / "_text_vectors"
        stored = StoredTextEncoder(str(bench.model_args.plm_name_or_path), cache, bf16=bench.training_args.bf16)
        tables = {name: self._with_vectors(table, stored) for name, table in bench.tables.items() if name != "test"}
        schema = shared.processor.schema
        schema = replace(schema, fields=(*schema.fields, FieldSchema(_VECTORS, kind="vector")))
        processor = ClickPromptProcessor.fit(tables["train"], schema, min_count=shared.training_data["min_count"])
        # several processes may train this arm
        folder = prepared_data(bench.folder).with_name(f"vectors-{os.getpid()}")
        prepare_splits(tables, processor, folder)
        splits, processor = load_prepared(folder)
        record = {**shared.training_data, "processor_fingerprint": processor.fingerprint}
        return PreparedData(splits, processor, record)

    def _score(self, model: Any, table: pa.Table, texts: RecentTexts | None = None) -> np.ndarray:
        return super()._score(model, self._with_vectors(table, self._encoder), texts)

    def _megabytes(self, folder: Path) -> float:
        plm = sum(weight.nbytes for weight in load_frozen(self._encoder.name_or_path).parameters())
        return super()._megabytes(folder) + plm / 1e6


def _of_training(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are arguments of training; the others are the model's."""
    chosen = ("learning_rate", "plm_learning_rate", "weight_decay", "feature_dropout")
    return {name: hyperparameters[name] for name in chosen if name in hyperparameters}


def best_epoch(trainer: ClickPromptTrainer) -> float:
    """Epoch whose weights were kept."""
    steps = {log["step"]: log["epoch"] for log in trainer.state.log_history if "epoch" in log}
    step = trainer.kept_step
    return float(trainer.state.epoch or 0.0 if step is None else steps.get(step, 0.0))


def arguments_for(
    bench: Bench, given: ClickPromptTrainingArguments, folder: Path, seed: int, **options: Any
) -> ClickPromptTrainingArguments:
    """Training arguments for one training, into a folder of its own."""
    args: Any = copy_arguments(given)
    options = {
        **{"output_dir": str(folder), "seed": seed, "metric_for_best_model": bench.metric},
        **{"greater_is_better": bench.metric == "auc", "resume_from_checkpoint": None},
        **{"text_state_dir": args.text_state_dir or str(bench.folder / "_text_states")},
        **options,
    }
    for name, value in options.items():
        setattr(args, name, value)
    return args


def pamlm_checkpoint(bench: Bench, seed: int) -> Path:
    """Train PA-MLM on the training and validation rows with a seed, unless it is done, and return its folder.

    The backbone's embedding size is the one that tuning chose for `clickprompt`, or else for `backbone`, if these arms
    were tuned before.
    """
    folder = bench.folder / "pamlm" / f"seed-{seed}"
    if folder.is_dir():
        return folder
    running = bench.folder / "pamlm" / f"_seed-{seed}"
    args = arguments_for(bench, bench.training_args, running, seed)
    args.num_train_epochs, args.lr_scheduler_type, args.warmup_steps = bench.pamlm_epochs, "cosine", 0.05
    args.load_best_model_at_end, args.early_stopping_patience, args.metric_for_best_model = False, 0, None
    args.eval_strategy = "no"
    size = _tuned_embedding_size(bench)
    options: dict[str, Any] = {} if size is None else {"embedding_size": size}
    model_args = replace(bench.model_args, **options)
    set_seed(seed)
    train, _ = bench.data.pamlm_splits(args.masking)
    bench.say(f"PA-MLM, seed {seed}: {len(train):,} rows, {bench.pamlm_epochs:g} epochs")
    model = fresh_pretraining_model(model_args, bench.data)
    variants = num_variants(args.masked_variants, task_of(model))
    if bench.chose_cache and not caching_pays(train, args.num_train_epochs, variants):
        # each seed would write masked variants that hardly any row reads
        args.cache_text_states, args.freeze_lower_layers = False, True
    trainer = ClickPromptTrainer(
        *(model, args),
        train_dataset=train,
        eval_dataset=bench.data.splits["validation"],
        processing_class=bench.data.processor,
    )
    trainer.remove_callback(PrinterCallback)
    resumed = newest_whole_checkpoint(running)
    result = trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    with whole_folder(folder) as partial:
        trainer.model.save_pretrained(partial)
        bench.data.processor.save_pretrained(partial)
        seconds = {"train_seconds": result.metrics["train_runtime"]}
        (partial / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    shutil.rmtree(running, ignore_errors=True)
    return folder


def pamlm_seconds(bench: Bench, seed: int) -> float:
    """Seconds that PA-MLM trained."""
    path = pamlm_checkpoint(bench, seed) / "seconds.json"
    return float(json.loads(path.read_text(encoding="utf-8"))["train_seconds"])


def _tuned_embedding_size(bench: Bench) -> int | None:
    for name in ("clickprompt", "backbone"):
        best = finished_search(bench.arm_folder(name) / "trials", bench.num_trials, bench.metric == "auc")
        if best is not None:
            return best.get("embedding_size")
    return None


def make_arm(name: str, bench: Bench) -> Arm:
    """The arm of a name in `ARMS`."""
    boosting = {
        "learning_rate": Parameter(0.05, 0.02, 0.2, log=True),
        "num_leaves": Parameter(31, 7, 127, log=True),
        "min_data_in_leaf": Parameter(20, 5, 200, log=True),
        "feature_fraction": Parameter(0.8, 0.4, 1.0),
        "bagging_fraction": Parameter(0.8, 0.5, 1.0),
        "lambda_l2": Parameter(1.0, 1e-2, 100.0, log=True),
        "cat_smooth": Parameter(10.0, 1.0, 200.0, log=True),
    }
    if name == "constant":
        return BaselineArm(name, bench, ConstantRate, {})
    if name == "best_column":
        return BaselineArm(name, bench, BestColumn, {})
    if name == "logistic_regression":
        space = {"C": Parameter(1.0, 1e-3, 10.0, log=True)}
        return BaselineArm(name, bench, OneHotLogisticRegression, space)
    if name in ("gradient_boosting", "gradient_boosting_text"):

        def make(processor: ClickPromptProcessor, seed: int) -> Baseline:
            return GradientBoosting(processor, seed, with_text=name == "gradient_boosting_text")

        return BaselineArm(name, bench, make, boosting)
    if name == "backbone":
        return NeuralArm(name, bench, with_plm=False)
    if name == "backbone_text_vectors":
        return TextVectorArm(name, bench)
    if name == "backbone_plm":
        return NeuralArm(name, bench, with_plm=True, prompt_strategy="none")
    if name == "clickprompt":
        return NeuralArm(name, bench, with_plm=True)
    if name == "clickprompt_pamlm":
        return NeuralArm(name, bench, with_plm=True, after_pamlm=True)
    if name == "clickprompt_pamlm_without_plm":
        return NeuralArm(name, bench, with_plm=False, after_pamlm=True)
    raise ValueError(f"`arms` must be among {list(ARMS)}, got {name!r}.")
