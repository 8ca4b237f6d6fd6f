# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`Trainer` with what ClickPrompt needs: two learning rates, click and PA-MLM metrics, reproducible order and masks.

optimizer.py sets the learning rate of every parameter; sampling.py draws the order of the rows; resuming.py saves and
resumes; publishing.py uploads; sharded_tables.py shards id tables; divergence.py stops diverged runs; text_caching.py
freezes lower layers and caches their states.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import ModelCard
from peft import PeftMixedModel, PeftModel
from safetensors.torch import load_model
from torch._dynamo import OptimizedModule
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import EvalPrediction, TrainerCallback, TrainingArguments
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.trainer_utils import BestRun, has_length
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from ..click_probabilities import CLICK_PROBABILITIES_FILE, save_click_probabilities
from ..data.collators import ClickPromptCLMCollator, ClickPromptCollator, ClickPromptMLMCollator, EncodedRowsCollator
from ..data.columnar import ColumnarDataset
from ..data.feature_dropout import matching_dropout
from ..whole_files import whole_file
from .arguments import ClickPromptSettings, ClickPromptTrainingArguments, check_supported, copy_arguments
from .batch_size import default_batch_size
from .bf16 import choose_attention
from .calibration import calibration_of, reset_calibration
from .distillation import distillation_loss
from .embedding_l2 import EmbeddingL2, check_has_length, feature_ids_of
from .metrics import BatchMetrics, click_metrics, masked_token_metrics
from .model_state import PREPARED, attributes, left_as_it_was, precision_left_as_it_was, set_attributes
from .optimizer import (
    OptimizerWithSparseGroup,
    clip_grad_norm,
    freeze_parts,
    make_embeddings_sparse,
    parameter_groups,
    sparse_parameters,
    with_options,
)
from .publishing import PublishingTrainer
from .resuming import EarlyStoppingCallback
from .sampling import EpochSampler, has_lengths
from .sharded_tables import (
    check_shard_id_tables,
    has_sharded_tables,
    in_all_processes,
    shard_id_tables,
    sharded_tables,
)
from .sharding import check_sharding, units_of_fsdp2, without_tied_copies
from .table_checkpoints import ShardedTablesTrainer
from .text_caching import (
    CachedRows,
    check_lower_layers,
    freezes_lower_layers,
    num_variants,
    rows_with_states,
    warn_of_unshared_texts,
)
from .unwrapping import is_named, task_of, unwrap_model

logger = logging.get_logger(__name__)


class MaskEpochCallback(TrainerCallback):
    """Passes the epoch to the training dataset, whose masks depend on it: accelerate passes it to the sampler only."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if isinstance(train_dataloader.dataset, ColumnarDataset):
            train_dataloader.dataset.set_epoch(int(state.epoch or 0))


class ClickPromptTrainer(PublishingTrainer, ShardedTablesTrainer):
    """A `Trainer` for `ClickPromptForCTR`, `ClickPromptForPAMLM` and `ClickPromptForPACLM`.

    It differs from `Trainer` in these points:

    - `plm_learning_rate` applies to the PLM's trunk and LM head (0 freezes them), `learning_rate` to everything else;
    - weight decay applies to matrices only, never to biases, norms or embeddings;
    - training rows with `teacher_logits` have the loss `distillation_loss`, with `distill_temperature` and
      `distill_weight`; evaluation uses clicks only;
    - `embedding_l2` is the precision of a normal prior on the feature embeddings, see embedding_l2.py; it is added
      after gradients are clipped, and the logged loss does not include it;
    - with `feature_dropout="unseen"`, training meets unseen values as often as evaluation does;
    - with `sparse_embedding_updates`, a step updates only the feature embeddings that its batch reads;
    - with `shard_id_tables`, each process holds some of the rows of each table of feature embeddings; the model keeps
      them sharded, and `save_model` must be called in all processes;
    - batches have the size of `default_batch_size` if `ClickPromptTrainingArguments` were given none;
    - `compute_metrics` defaults to AUC and log loss, or to the accuracy on masked tokens in pretraining;
    - `data_collator` defaults to that of the model's task if `processing_class` is a `ClickPromptProcessor`;
    - training stops early by `early_stopping_patience`, unless `callbacks` has an `EarlyStoppingCallback`;
    - the training order is a function of (seed, epoch), and several processes compute the gradients of one;
    - evaluation never groups rows by length and never drops the last batch, so each row has its prediction, in order;
    - `bf16_full_eval` does not change the model's weights after an evaluation;
    - `hyperparameter_search` optimizes `metric_for_best_model` by default;
    - `train_samples_per_second` excludes evaluation and saving;
    - with `freeze_lower_layers`, the PLM's layers below the prompts stay as they are, without dropout; with
      `cache_text_states`, each distinct text of a `ColumnarDataset` goes through them once, before training begins;
    - what it publishes holds no pickle: only checkpoints to resume from keep the pickled arguments;
    - training resets the model's calibration, which `training.calibration.calibrate` fits afterwards;
    - it copies `args`, and changes nothing of the model but its weights: frozen parts, sparse gradients, attention
      kernels, mixed precision and activation checkpointing last only while it trains or evaluates;
    - `model_card` replaces the model card.

    Args:
        model: Model to train. It may be compiled, have PEFT adapters, or be loaded with a checkpoint's own code.
        args: Training arguments. Plain `TrainingArguments` train all parts with their `learning_rate`, without early
            stopping. Defaults to `TrainingArguments("tmp_trainer")`, as in `Trainer`.
        data_collator: As in `Trainer`; see above for the default.
        train_dataset: As in `Trainer`.
        eval_dataset: As in `Trainer`.
        processing_class: As in `Trainer`.
        compute_metrics: As in `Trainer`; see above for the defaults.
        callbacks: As in `Trainer`.
        model_card: Makes the card that `create_model_card` and `push_to_hub` write, from the trainer and the keyword
            arguments of `create_model_card`: `clickprompt_hf.evaluation.run_card`, or a function like it. By default
            `Trainer` writes its own.
        kwargs: Further arguments of `Trainer`. Both learning rates and the weight decay apply to the class of
            `optimizer_cls_and_kwargs`, whose option `lr` overrides `learning_rate`. An optimizer in `optimizers` is
            used unchanged.

    Attributes:
        task: What the model predicts: "clicks", "masked tokens" or "next tokens".
        run_metrics: Results for the model card, named as in `all_results.json`. If empty, the card shows the
            evaluation that chose the weights, or the last one.

    Raises:
        ValueError: If `freeze` leaves nothing to train, sparse updates or feature dropout are not possible, lower
            layers cannot be frozen or their states not cached, or an argument is set that this class does not support
            (each message says why).
        RuntimeError: If neither `model` nor `model_init` is given.
    """

    # `None` between the trials of a search
    model: Any

    def __init__(
        self,
        model=None,
        args: TrainingArguments | None = None,
        data_collator=None,
        train_dataset=None,
        eval_dataset=None,
        processing_class=None,
        *,
        compute_metrics=None,
        callbacks=None,
        model_card: Callable[..., ModelCard] | None = None,
        **kwargs,
    ):
        args = TrainingArguments("tmp_trainer") if args is None else copy_arguments(args)
        check_supported(args)
        _evaluate_only_with_rows(args, train_dataset, eval_dataset)
        settings = ClickPromptSettings.of(args)
        callbacks = [*(callbacks or []), MaskEpochCallback()]
        self.model_card = model_card
        self.run_metrics: dict[str, float] = {}
        self._predicts = False
        # a model, and what accelerate has set on it for this trainer
        self._prepared: tuple[Any, dict[str, Any]] = (None, {})
        self._compiled_call: Callable | None = None
        self._cached_rows = CachedRows()
        self._embedding_l2: Any = None
        if isinstance(model, OptimizedModule):
            # `Trainer` inspects, saves and loads the model under it
            model, compiled = model._orig_mod, model
            self._compiled_call = compiled.dynamo_ctx(model._call_impl)
        self._shard_id_tables(model, args, settings, kwargs)
        _choose_batch_size(args, model, train_dataset)
        with nullcontext() if model is None else left_as_it_was(model):
            super().__init__(
                model,
                args,
                data_collator,
                train_dataset,
                eval_dataset,
                processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                **kwargs,
            )
        check_sharding(self, self.model)
        self.task = task_of(self.model)
        self._add_early_stopping(settings.early_stopping_patience)
        if compute_metrics is None:
            self.compute_metrics = self._default_metrics()
        if data_collator is None:
            self.data_collator = self._default_collator(processing_class)
        if args.metric_for_best_model == "auc" and (self.is_pretraining or args.prediction_loss_only):
            # the default is meant for finetuning; pretraining has no clicks to rank
            args.metric_for_best_model, args.greater_is_better = "loss", False
        self._check_settings(settings)
        with left_as_it_was(self.model):
            self._choose_kernels()
            self._choose_trained_parts()

    def _check_settings(self, settings: ClickPromptSettings) -> None:
        """Refuse settings that do not fit each other, the rows or the processes."""
        args, is_sharded = self.args, self.is_fsdp_enabled or self.is_deepspeed_enabled
        if settings.sparse_embedding_updates and not settings.shard_id_tables:
            if self.optimizer is not None:
                raise ValueError(
                    "`sparse_embedding_updates` must be False with `optimizers`, which are used unchanged."
                )
            if args.world_size > 1 and (backend := torch.distributed.get_backend()) != "gloo":
                raise ValueError(
                    "`sparse_embedding_updates` must be False with several processes unless the backend can sum "
                    f"sparse gradients, like gloo; got {backend!r}."
                )
        if settings.sparse_embedding_updates and is_sharded:
            raise ValueError("`sparse_embedding_updates` must be False with FSDP and DeepSpeed, got True.")
        if settings.feature_dropout == "unseen":
            self._check_feature_dropout()
        if settings.embedding_l2:
            if self.optimizer is not None:
                raise ValueError("`embedding_l2` must be 0 with `optimizers`, which are used unchanged.")
            if self.train_dataset is not None:
                check_has_length(self.train_dataset)
            if is_sharded:
                raise ValueError(
                    "`embedding_l2` must be 0 with sharded weights: a shard does not hold full embeddings."
                )
        check_lower_layers(self.model, args, settings, self.data_collator, self._datasets(), is_sharded)

    @staticmethod
    def _shard_id_tables(model: Any, args: TrainingArguments, settings: ClickPromptSettings, options: dict) -> None:
        """Shard the tables of a model, if that is wanted and not done yet."""
        if settings.shard_id_tables:
            optimizer_class, _ = options.get("optimizer_cls_and_kwargs") or (None, None)
            check_shard_id_tables(model, args, options.get("optimizers"), optimizer_class)
            if not has_sharded_tables(model):
                shard_id_tables(model)
        elif has_sharded_tables(model):
            raise ValueError("`shard_id_tables` must be True for a model whose id tables are sharded, got False.")

    @property
    def settings(self) -> ClickPromptSettings:
        """What `args` say beyond those of `Trainer`; trials of a search may change them."""
        return ClickPromptSettings.of(self.args)

    @property
    def is_pretraining(self) -> bool:
        """Whether the model predicts tokens."""
        return self.task != "clicks"

    @property
    def kept_step(self) -> int | None:
        """Step whose weights training keeps when it ends; `None` for the last step."""
        return self.state.best_global_step if self.args.load_best_model_at_end else None

    def _add_early_stopping(self, patience: int) -> None:
        """Stop early by the training arguments, unless the callbacks, which may be given as classes, do so."""
        is_given = any(isinstance(c, transformers.EarlyStoppingCallback) for c in self.callback_handler.callbacks)
        if patience > 0 and not is_given:
            self.add_callback(EarlyStoppingCallback(patience))

    def _default_metrics(self) -> Any:
        """The metrics of the model's task."""
        compute: Any = masked_token_metrics if self.is_pretraining else self._click_metrics
        return BatchMetrics(compute) if self.args.batch_eval_metrics else compute

    def _default_collator(self, processor) -> Any:
        """The collator of the model's task, or one for rows that were encoded before if there is no processor."""
        settings = self.settings
        if not is_named(processor, "ClickPromptProcessor"):
            return EncodedRowsCollator(self.data_collator)
        if self.task == "clicks":
            return ClickPromptCollator(processor)
        if self.task == "masked tokens":
            return ClickPromptMLMCollator(processor, settings.mlm_probability, settings.masking, self.args.seed)
        for name in ("masking", "mlm_probability"):
            if (value := getattr(settings, name)) != getattr(ClickPromptSettings, name):
                raise ValueError(
                    f"`{name}` must be left out for a decoder: PA-CLM trains on all tokens; got {value!r}."
                )
        return ClickPromptCLMCollator(processor)

    def _choose_kernels(self) -> None:
        """Choose the attention implementation and the compiled forward."""
        choose_attention(unwrap_model(self.model), self.args, self.settings.attn_implementation)
        if self._compiled_call is not None:
            self.model._compiled_call_impl = self._compiled_call

    def _click_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """AUC and log loss of the served probabilities, without the correction for sampled negatives."""
        return click_metrics(prediction, *calibration_of(self.model))

    def _datasets(self) -> list[Any]:
        """The datasets of training and evaluation."""
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        return [rows for rows in (self.train_dataset, *evaluated.values()) if rows is not None]

    @property
    def _caches_texts(self) -> bool:
        # a model without a PLM reads no text
        return self.settings.cache_text_states and freezes_lower_layers(self.model, self.settings)

    def cache_texts(self, datasets: Iterable[ColumnarDataset]) -> None:
        """With `cache_text_states`, compute the states of the texts of datasets; otherwise, do nothing.

        Training does so for its own datasets, evaluation for others. Call this before training to compute all states
        at once, so that a disk that is too small is noticed early.

        Args:
            datasets: Datasets with text.

        Raises:
            ValueError: If a dataset came with states of other lower layers, or has no text.
            OSError: If the disk is too small, or a file cannot be written.
        """
        wanted = []
        for rows in datasets:
            caches = self._caches_texts and isinstance(rows, ColumnarDataset)
            wanted += [rows] if caches else rows_with_states(rows)
        for rows in wanted:
            is_new = rows is self.train_dataset and self._cached_rows.get(rows) is None
            if is_new and self.args.local_process_index == 0:
                self._warn_of_unshared_texts(rows)
        self._cached_rows.update(unwrap_model(self.model), self.args, self.settings, self.data_collator, wanted)

    @property
    def _batch_rows(self) -> int:
        """Rows of a batch of all processes, in training."""
        # `auto_find_batch_size` changes the batch size of the arguments
        batch_rows = self._train_batch_size
        return batch_rows if self.accelerator.split_batches else batch_rows * self.args.world_size

    @property
    def step_rows(self) -> int:
        """Rows of an optimizer step of all processes."""
        return self._batch_rows * self.args.gradient_accumulation_steps

    def _warn_of_unshared_texts(self, rows: ColumnarDataset) -> None:
        variants = num_variants(self.settings.masked_variants, task_of(unwrap_model(self.model)))
        if variants == 1 and self.settings.text_state_dir is not None:
            # later runs read the same states
            return
        limited = self.args.max_steps > 0
        epochs = self.args.max_steps * self.step_rows / len(rows) if limited else self.args.num_train_epochs
        warn_of_unshared_texts(rows, epochs, variants)

    def _check_feature_dropout(self) -> None:
        rows = self._datasets()
        if self.eval_dataset is None or not all(isinstance(dataset, ColumnarDataset) for dataset in rows):
            given = ", ".join(type(dataset).__name__ for dataset in rows) if self.eval_dataset is not None else "none"
            raise ValueError(
                "`feature_dropout` must be 'none' unless `train_dataset` and `eval_dataset`, whose unseen values "
                f"it counts, are ColumnarDatasets; got {'rows to evaluate: ' * (given == 'none')}{given}."
            )

    def _with_feature_dropout(self, dataset: ColumnarDataset) -> ColumnarDataset:
        """Training rows in which values are unseen as often as in the evaluation rows."""
        config = unwrap_model(self.model).config.ctr_config
        if self.settings.feature_dropout == "none" or config is None:
            return dataset
        _, *evaluated = self._datasets()
        max_values = config.max_values or [1] * len(config.field_sizes)
        ids = [rows.feature_ids for rows in evaluated]
        dropout = matching_dropout(dataset.feature_ids, ids, max_values, self.args.seed)
        return replace(dataset, feature_dropout=dropout)

    def _get_dataloader(self, dataset, *args, **kwargs):
        if isinstance(dataset, ColumnarDataset):
            if not self.is_in_train or self._cached_rows.get(dataset) is None:
                self.cache_texts([dataset])
            if (cached := self._cached_rows.get(dataset)) is not None:
                dataset = replace(cached, epoch=dataset.epoch)
            if kwargs.get("is_training"):
                dataset = self._with_feature_dropout(dataset)
        elif not self.is_in_train:
            self.cache_texts([dataset])
        drops_last = self.args.dataloader_drop_last
        # in evaluation, every row counts and has its prediction
        self.args.dataloader_drop_last = drops_last and kwargs.get("is_training", False)
        try:
            return super()._get_dataloader(dataset, *args, **kwargs)
        finally:
            self.args.dataloader_drop_last = drops_last

    def _choose_trained_parts(self) -> None:
        """Freeze parts and make gradients of embeddings sparse."""
        if freezes_lower_layers(self.model, self.settings, self._datasets()):
            unwrap_model(self.model).freeze_lower_layers()
        freeze_parts(self.model, self.settings.frozen_parts)
        if self.settings.sparse_embedding_updates:
            make_embeddings_sparse(self.model)

    @contextmanager
    def _prepared_model(self) -> Iterator[None]:
        """Leave the model as it was, but keep what accelerate sets on it for this trainer's next use of it."""
        model = self.model
        with left_as_it_was(model):
            if self._prepared[0] is model:
                set_attributes(model, PREPARED, self._prepared[1])
            self._choose_kernels()
            try:
                with in_all_processes(model):
                    yield
            finally:
                self._prepared = (model, attributes(model, PREPARED))

    def _inner_training_loop(self, *args, **kwargs):
        with self._prepared_model():
            self._choose_trained_parts()
            self.cache_texts(self._datasets())
            return super()._inner_training_loop(*args, **kwargs)

    def _prepare_for_training(self, *args, **kwargs):
        with units_of_fsdp2(self.accelerator, self.model):
            return super()._prepare_for_training(*args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        if isinstance(self.compute_metrics, BatchMetrics):
            self.compute_metrics.restart()
        if self.is_in_train:
            return super().evaluation_loop(*args, **kwargs)
        is_sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        # an engine that shards weights keeps them itself
        is_cast = (self.args.bf16_full_eval or self.args.fp16_full_eval) and not is_sharded
        with self._prepared_model(), precision_left_as_it_was(self.model) if is_cast else nullcontext():
            return super().evaluation_loop(*args, **kwargs)

    def get_num_trainable_parameters(self) -> int:
        with left_as_it_was(self.model):
            self._choose_trained_parts()
            return super().get_num_trainable_parameters()

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Create the optimizer; optimizer.py sets each parameter's learning rate, weight decay and L2."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        optimizer = self._created_optimizer(model)
        if self.settings.embedding_l2 > 0:
            self._embedding_l2 = self._l2_of_steps(self.model if model is None else model)
            # after all processes' gradients are summed
            optimizer.register_step_pre_hook(lambda *_: self._embedding_l2())
        return optimizer

    def _l2_of_steps(self, model) -> EmbeddingL2:
        with left_as_it_was(self.model):
            self._choose_trained_parts()
            feature_ids, dropped = feature_ids_of(self.train_dataset), np.zeros(1)
            if isinstance(self.train_dataset, ColumnarDataset):
                dropout = self._with_feature_dropout(self.train_dataset).feature_dropout
                dropped = dropped if dropout is None else dropout.probabilities
            step_rows = min(self.step_rows, len(feature_ids))
            return EmbeddingL2(model, self.settings.embedding_l2, feature_ids, step_rows, dropped)

    def _update_auto_batch_size(self, batch_size):
        super()._update_auto_batch_size(batch_size)
        # the optimizer of the attempt that did not fit in memory goes on
        if self.optimizer is not None and self._embedding_l2 is not None:
            self._embedding_l2 = self._l2_of_steps(self.model)

    def _created_optimizer(self, model) -> torch.optim.Optimizer:
        given, optimized = self.optimizer_cls_and_kwargs, self.model if model is None else model
        with left_as_it_was(self.model):
            self._choose_trained_parts()
            optimizer_class, options = given or self.get_optimizer_cls_and_kwargs(self.args, optimized)
            if is_optimizer_factory(optimizer_class):
                return super().create_optimizer(model)
            learning_rate = options.get("lr", self.args.learning_rate)
            plm_learning_rate = self.settings.plm_learning_rate
            sparse = [parameter for parameter in sparse_parameters(optimized) if parameter.requires_grad]
            groups = parameter_groups(
                optimized,
                learning_rate,
                learning_rate if plm_learning_rate is None else plm_learning_rate,
                self.args.weight_decay,
                exclude=sparse,
            )
            if "params" in options:
                groups = with_options(groups, options["params"])
            options = {**options, "params": groups}
            if given is None and "warmup_steps" in options:
                # schedule-free optimizers count steps, the argument may be a share of them
                options["warmup_steps"] = self.args.get_warmup_steps(self.state.max_steps)
            # `Trainer` takes the groups from the options
            self.optimizer_cls_and_kwargs = (optimizer_class, options)
            try:
                optimizer = super().create_optimizer(model)
            finally:
                self.optimizer_cls_and_kwargs = given
        if sparse:
            sparse_group = {"params": sparse, "lr": learning_rate}
            betas = (self.args.adam_beta1, self.args.adam_beta2)
            # moments of sharded tables are saved apart
            optimizer = OptimizerWithSparseGroup(
                optimizer,
                sparse_group,
                betas,
                self.args.adam_epsilon,
                saves_moments=not has_sharded_tables(self.model),
            )
            self.optimizer = optimizer
        return optimizer

    def _clip_grad_norm(self, model):
        if not self.settings.sparse_embedding_updates:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        return clip_grad_norm(model.parameters(), self.args.max_grad_norm, self._sharded_weights())

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.settings.sparse_embedding_updates:
            self.accelerator.unscale_gradients()
            grad_norm = clip_grad_norm(model.parameters(), float("inf"), self._sharded_weights())
        return super()._get_grad_norm(model, grad_norm)

    def _sharded_weights(self) -> list[torch.Tensor]:
        """The rows of tables that only this process holds."""
        return [table.weight for table in sharded_tables(self.model).values() if not table.has_all_rows]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        by_length = self.args.train_sampling_strategy == "group_by_length"
        if by_length and not has_lengths(dataset, self.args.length_column_name):
            raise ValueError(
                "`train_sampling_strategy` must be 'random' for rows without text, got 'group_by_length'."
            )
        if not isinstance(dataset, ColumnarDataset):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochSampler(
            len(dataset),
            seed,
            multiple_of=self._batch_rows if self.args.world_size > 1 else 1,
            lengths=dataset.text_lengths() if by_length else None,
            batch_size=self._batch_rows,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        if isinstance(eval_dataset, ColumnarDataset) and self.args.world_size > 1:
            # accelerate would fill the last batches with rows that count, which changes the loss
            step_rows = self.args.world_size * self.args.eval_batch_size
            return SequentialSampler(range(-(-len(eval_dataset) // step_rows) * step_rows))
        # keeps predictions in the order of their rows, even if training groups rows by length
        in_order = eval_dataset is not None and has_length(eval_dataset) and self.args.world_size == 1
        return SequentialSampler(eval_dataset) if in_order else None

    def _get_collator_with_removed_columns(self, data_collator: Callable, description: str | None = None) -> Callable:
        if isinstance(data_collator, (ClickPromptCollator, ClickPromptMLMCollator, ClickPromptCLMCollator)):
            # these collators choose the inputs themselves, and draw masks from the row ids
            return data_collator
        return super()._get_collator_with_removed_columns(data_collator, description)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if not self.is_pretraining and "teacher_logits" not in columns:
            columns.append("teacher_logits")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Compute the loss as `Trainer` does, or `distillation_loss` if the rows have `teacher_logits`.

        Raises:
            ValueError: If the rows have `teacher_logits` and the trainer has a `compute_loss_func` or no labels.
        """
        if "teacher_logits" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.compute_loss_func is not None:
            raise ValueError("`compute_loss_func` must be None with rows that have `teacher_logits`.")
        if "labels" not in inputs:
            raise ValueError(f"Rows with `teacher_logits` must have `labels`, got {sorted(inputs)}.")
        inputs = dict(inputs)
        self.compute_loss_func = partial(self._distillation_loss, teacher_logits=inputs.pop("teacher_logits"))
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        finally:
            self.compute_loss_func = None

    def _distillation_loss(self, outputs, labels, num_items_in_batch=None, *, teacher_logits) -> torch.Tensor:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        settings = self.settings
        return distillation_loss(
            logits,
            labels,
            teacher_logits,
            settings.distill_temperature,
            settings.distill_weight,
            num_items_in_batch,
        )

    def _track_num_input_tokens(self, inputs):
        """Count tokens of the text instead of the main input's feature ids; without text, the ids."""
        ids = inputs.get("feature_ids")
        tokens, mask = inputs.get("input_ids", ids), inputs.get("attention_mask")
        if "text_rows" in inputs:
            # the batch has the states of each text once, so count the text of each row
            mask = tokens = mask[inputs["text_rows"]]
        if tokens is not None:
            inputs = {self.model.main_input_name: tokens, "attention_mask": ids >= 0 if mask is None else mask}
        super()._track_num_input_tokens(inputs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: `Trainer`'s estimate, 6 × parameters × numbers in the main input, is meaningless for feature ids.

        `total_flos` would report it, and counting parameters at every step takes up to 1 % of a step without a PLM.
        """
        return 0

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        outputs: Any
        # the teacher is for training
        inputs = {name: tensor for name, tensor in inputs.items() if name != "teacher_logits"}
        self._predicts = True
        try:
            loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        finally:
            self._predicts = False
        if not self.is_pretraining or outputs is None or labels is None:
            return loss, outputs, labels
        if self.compute_loss_func is not None:
            # the model, which did not get the labels, has returned the logits of all tokens
            outputs = self._count_recovered(outputs, labels)
        # evaluation would gather the (B, T) token labels; the metric needs only the (B,) number of masked tokens
        return loss, outputs, outputs[1]

    def _get_num_items_in_batch(self, batch_samples, device):
        # An evaluation's loss is the mean over the rows of each process's batch. The number of all processes would
        # scale it by their padded rows. A custom loss function expects it, as `Trainer` passes it.
        counts_itself = self._predicts and self.compute_loss_func is None
        return None if counts_itself else super()._get_num_items_in_batch(batch_samples, device)

    def _count_recovered(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, T, V) and token labels (B, T) to the numbers of recovered and of masked tokens, (B,) each."""
        positions, labels = unwrap_model(self.model).predicting_positions(labels)
        predicted = logits.argmax(dim=-1)
        if positions is not None:
            predicted = predicted.gather(1, positions)
        masked = labels != -100
        return ((predicted == labels) & masked).sum(dim=1), masked.sum(dim=1)

    def train(self, *args, **kwargs):
        """Train as `ResumableTrainer` does, and leave the model and the rows as they were."""
        dataset = self.train_dataset
        epoch = dataset.epoch if isinstance(dataset, ColumnarDataset) else 0
        if self.model is not None:
            # the calibration belongs to the weights before training
            reset_calibration(self.model)
        # with `model_init`, this training makes a model of its own
        with nullcontext() if self.model_init is not None else left_as_it_was(self.model):
            try:
                return super().train(*args, **kwargs)
            finally:
                self.is_in_train = False
                if isinstance(dataset, ColumnarDataset):
                    dataset.set_epoch(epoch)
                if (hook := vars(self).pop("neftune_hook_handle", None)) is not None:
                    hook.remove()

    def hyperparameter_search(
        self, hp_space=None, compute_objective=None, n_trials=20, direction=None, *args, **kwargs
    ) -> BestRun | list[BestRun]:
        """Search as `Trainer` does; by default, optimize `metric_for_best_model`, or the loss if there is none.

        Each trial trains a fresh model of `model_init`. Takes the same arguments as `Trainer.hyperparameter_search`.
        """
        metric = self.args.metric_for_best_model or "loss"
        if direction is None:
            by_metric = compute_objective is None and self.args.greater_is_better
            direction = "maximize" if by_metric else "minimize"
        if compute_objective is None:
            name = metric if metric.startswith("eval_") else f"eval_{metric}"

            def compute_objective(metrics: dict[str, float]) -> float:
                return metrics[name]

        return super().hyperparameter_search(hp_space, compute_objective, n_trials, direction, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if state_dict is not None:
            state_dict = without_tied_copies(self.model, state_dict)
        elif isinstance(self.model, PeftMixedModel):
            # peft cannot save them; safetensors refuses weights under two names
            unique = {name for name, _ in (*self.model.named_parameters(), *self.model.named_buffers())}
            state_dict = {name: value for name, value in self.model.state_dict().items() if name in unique}
        super()._save(output_dir, state_dict)
        inner = unwrap_model(self.model)
        if isinstance(self.accelerator.unwrap_model(self.model), PeftModel) and task_of(inner) == "clicks":
            # PEFT saves no configuration
            folder = Path(str(output_dir or self.args.output_dir))
            with whole_file(folder / CLICK_PROBABILITIES_FILE) as partial:
                save_click_probabilities(inner.config, partial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if isinstance(self.model, PeftMixedModel):
            load_model(self.model, Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if isinstance(self.model, PeftMixedModel):
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()


def _evaluate_only_with_rows(args: TrainingArguments, train_dataset: Any, eval_dataset: Any) -> None:
    """Turn off evaluation that only defaults ask for if there are no rows for it, and say so."""
    if eval_dataset is not None or not isinstance(args, ClickPromptTrainingArguments) or not args.evaluates_by_default:
        return
    args.stop_evaluating()
    if train_dataset is not None and args.process_index == 0:
        logger.warning("Without an `eval_dataset`, training does not evaluate, and keeps the last weights.")


def _choose_batch_size(args: TrainingArguments, model: Any, train_dataset: Any) -> None:
    """Set the default batch size for a model and its training rows in `args`, unless one was given, and say so."""
    if not isinstance(args, ClickPromptTrainingArguments) or not args.has_default_batch_size:
        return
    if model is None or train_dataset is None or not has_length(train_dataset):
        return
    inner = unwrap_model(model)
    has_plm = is_named(inner, "ClickPromptPreTrainedModel") and inner.config.use_plm
    args.per_device_train_batch_size = default_batch_size(len(train_dataset), has_plm)
    if args.process_index == 0:
        # A warning, because the default level hides anything less.
        logger.warning(
            f"Training batches have {args.per_device_train_batch_size:,} rows per device, the default "
            f"{'with a PLM' if has_plm else f'for {len(train_dataset):,} rows without a PLM'}; "
            "`per_device_train_batch_size` sets another size."
        )
