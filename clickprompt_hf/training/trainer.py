# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`Trainer` with what ClickPrompt needs: two learning rates, click and PA-MLM metrics, repeatable order and masks."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import httpx
from peft import PeftModel
from torch import nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import EarlyStoppingCallback, SchedulerType, Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.columnar import ColumnarDataset
from ..evaluation.metrics import click_metrics, masked_token_metrics
from ..evaluation.model_card import model_card
from ..evaluation.plots import PLOTS, PLOTS_FOLDER
from ..modeling_clickprompt import ClickPromptForPAMLM, ClickPromptForPretraining
from .arguments import ClickPromptTrainingArguments
from .clipping import clip_grad_norm
from .cpu_dropout import cpu_dropout
from .optimizer import OptimizerWithSparseGroup, make_embeddings_sparse, sparse_parameters
from .sampling import EpochSampler


class EpochOfMasks(TrainerCallback):
    """Tells the training set its epoch: masks are a function of it, and accelerate passes it on to one of sampler
    and data set only."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if isinstance(train_dataloader.dataset, ColumnarDataset):
            train_dataloader.dataset.set_epoch(int(state.epoch or 0))


class ClickPromptTrainer(Trainer):
    """A `Trainer` for `ClickPromptForCTR`, `ClickPromptForPAMLM` and `ClickPromptForPACLM`.

    What differs from `Trainer`:

    - `plm_learning_rate` for the PLM's trunk and LM head (0 freezes them), `learning_rate` for all else;
    - weight decay on matrices only: not on biases, norms or embeddings, whichever learning rate they have;
    - with `sparse_embedding_updates`, a step touches only the feature embeddings that its batch reads;
    - `compute_metrics` defaults to AUC and log loss, or to the accuracy on the predicted tokens;
    - early stopping by `early_stopping_patience`;
    - the training order is a function of (seed, epoch), and several processes give the gradients of one;
    - `train_samples_per_second` leaves evaluation and saving out;
    - `push_to_hub` publishes our model card and no pickle: only checkpoints to resume from keep that of the arguments.

    Args are those of `Trainer`, with `ClickPromptTrainingArguments`.

    Attributes:
        run_metrics: What the model card shows, under the names of `all_results.json`; where it is left empty, the
            metrics of the evaluation that chose the weights, or of the last one.
    """

    args: ClickPromptTrainingArguments

    def __init__(self, model=None, args=None, *, compute_metrics=None, callbacks=None, **kwargs):
        if model is None:
            raise ValueError("`model` must be given; `model_init` is not supported.")
        plain_model: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self.is_pretraining = isinstance(plain_model, ClickPromptForPretraining)
        if compute_metrics is None:
            compute_metrics = masked_token_metrics if self.is_pretraining else click_metrics
        if self.is_pretraining and args.metric_for_best_model == "auc":
            # The arguments' default is that of finetuning; pretraining has no clicks to rank.
            args.metric_for_best_model, args.greater_is_better = "loss", False
        callbacks = [*(callbacks or []), EpochOfMasks()]
        if args.early_stopping_patience > 0:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        choose_attention(plain_model, args)
        freeze_parts(model, [*(args.freeze or ()), *(["plm"] if args.plm_learning_rate == 0 else [])])
        self.seconds_beside_training = 0.0
        self.run_metrics: dict[str, float] = {}
        super().__init__(model, args, compute_metrics=compute_metrics, callbacks=callbacks, **kwargs)
        if args.sparse_embedding_updates:
            if args.world_size > 1 and (backend := torch.distributed.get_backend()) != "gloo":
                raise ValueError(
                    "`sparse_embedding_updates` must be False with several processes whose backend cannot sum sparse "
                    f"gradients, as gloo can; got {backend!r}."
                )
            make_embeddings_sparse(model)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """The optimizer of `args.optim`, its parameters grouped by learning rate and weight decay."""
        if self.optimizer is None:
            # `lr` in a group overrides the optimizer's default, which is `learning_rate`.
            model = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            sparse = [parameter for parameter in sparse_parameters(model) if parameter.requires_grad]
            self.optimizer = optimizer_class(self.parameter_groups(model, leave_out=sparse), **options)
            if sparse:
                betas = (self.args.adam_beta1, self.args.adam_beta2)
                group = {"params": sparse, "lr": self.args.learning_rate}
                self.optimizer = OptimizerWithSparseGroup(self.optimizer, group, betas, self.args.adam_epsilon)
        return self.optimizer

    def training_step(self, *args, **kwargs):
        with cpu_dropout() if self.args.device.type == "cpu" else nullcontext():
            return super().training_step(*args, **kwargs)

    def _clip_grad_norm(self, model):
        on_cpu = self.args.device.type == "cpu" and not self.is_fsdp_enabled
        if not (self.args.sparse_embedding_updates or on_cpu):
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        return clip_grad_norm(model.parameters(), self.args.max_grad_norm)

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.args.sparse_embedding_updates:
            grad_norm = clip_grad_norm(model.parameters(), float("inf"))
        return super()._get_grad_norm(model, grad_norm)

    def parameter_groups(self, model: nn.Module, leave_out: Sequence[torch.Tensor] = ()) -> list[dict[str, Any]]:
        """Trainable parameters of `model` but `leave_out`, in at most four groups with `lr` and `weight_decay`."""
        left_out = {id(parameter) for parameter in leave_out}
        in_plm = {id(parameter) for parameter in plm_parameters(model).values()}
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or id(parameter) in left_out:
                continue
            lr = self.args.plm_learning_rate if id(parameter) in in_plm else self.args.learning_rate
            # a bias may have several dimensions, one a slot
            is_matrix = parameter.dim() > 1 and id(parameter) not in embeddings and not name.endswith("bias")
            groups.setdefault((lr, self.args.weight_decay if is_matrix else 0.0), []).append(parameter)
        return [{"params": group, "lr": lr, "weight_decay": decay} for (lr, decay), group in groups.items()]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, ColumnarDataset):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step_rows = self.args.world_size * self.args.train_batch_size
        by_length = self.args.train_sampling_strategy == "group_by_length"
        if by_length and dataset.tables is None:
            raise ValueError(
                "`train_sampling_strategy` must be 'random' for rows without text, got 'group_by_length'."
            )
        return EpochSampler(
            len(dataset),
            seed,
            multiple_of=step_rows if self.args.world_size > 1 else 1,
            lengths=dataset.text_lengths() if by_length else None,
            batch_size=step_rows,
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        if isinstance(eval_dataset, ColumnarDataset):
            # predictions keep the order of their rows, also where training groups them by length
            return SequentialSampler(eval_dataset) if self.args.world_size == 1 else None
        return super()._get_eval_sampler(eval_dataset)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """0: `Trainer`'s estimate, parameters times numbers in the main input, means nothing for a table of ids, and
        counting the parameters at each step takes 2 % of a step without a PLM."""
        return 0

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self.is_pretraining and outputs is not None:
            # In the place of (B, T) token labels, which evaluation would gather: the (B,) number of masked tokens.
            labels = outputs[1]
        return loss, outputs, labels

    def train(self, *args, **kwargs):
        """Trains; `train_samples_per_second` of the metrics counts rows over the time in training steps only."""
        self.seconds_beside_training = 0.0
        output = super().train(*args, **kwargs)
        seconds = output.metrics["train_runtime"] - self.seconds_beside_training
        rows = output.metrics["train_samples_per_second"] * output.metrics["train_runtime"]
        steps = output.metrics["train_steps_per_second"] * output.metrics["train_runtime"]
        output.metrics["train_samples_per_second"] = round(rows / seconds, 3)
        output.metrics["train_steps_per_second"] = round(steps / seconds, 3)
        return output

    def evaluate(self, *args, **kwargs):
        with self._beside_training():
            return super().evaluate(*args, **kwargs)

    def _save(self, output_dir=None, state_dict=None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(str(output_dir or self.args.output_dir))
        if self.args.should_save and not re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", folder.name):
            # What is published holds no pickle. Checkpoints to resume from have others anyway.
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def _save_checkpoint(self, *args, **kwargs):
        with self._beside_training():
            super()._save_checkpoint(*args, **kwargs)

    def init_hf_repo(self, token=None, private=None):
        with _named_hub_errors(self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name):
            super().init_hf_repo(token, private)

    def push_to_hub(self, *args, **kwargs):
        """Saves the model, writes the model card and uploads the output folder, but for checkpoints and what begins
        with an underscore.

        Args are those of `Trainer.push_to_hub`; keyword arguments of `create_model_card` are passed on to it.

        Raises:
            OSError: If the Hub cannot be reached or refuses.
        """
        with _named_hub_errors(self.hub_model_id or self.args.hub_model_id or ""):
            return super().push_to_hub(*args, **kwargs)

    def create_model_card(  # type: ignore[override]  # the run itself tells the task and how the data were made
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset: str | list[str] | None = None,
    ) -> None:
        """Writes `README.md` into the output folder: the model card of this run, with the plots that lie there.

        Args:
            language: As the Hub spells it.
            license: As the Hub spells it; default `args.hub_license`.
            tags: Further tags.
            model_name: Default the name of `args.hub_model_id`, or of the folder.
            finetuned_from: Hub id of the PLM.
            dataset: Hub ids of the data.
        """
        if not self.is_world_process_zero():
            return
        model: Any = self.accelerator.unwrap_model(self.model)
        processor: Any = self.processing_class
        if isinstance(model, PeftModel):
            super().create_model_card(language, license, tags, model_name, finetuned_from, dataset=dataset)
            return
        folder = Path(str(self.args.output_dir))
        hub_id = self.hub_model_id or self.args.hub_model_id
        name = model_name or (hub_id.split("/")[-1] if hub_id else folder.absolute().name)
        plots = [f"{PLOTS_FOLDER}/{plot}" for plot in PLOTS if (folder / PLOTS_FOLDER / plot).exists()]
        card = model_card(
            model,
            processor,
            name=name,
            checkpoint=hub_id or name,
            metrics=self.run_metrics or self._metrics_of_kept_weights(),
            training=self._card_settings(model),
            plots=plots,
            license=license or self.args.hub_license,
            language=language,
            tags=[tags] if isinstance(tags, str) else tags or (),
            base_model=finetuned_from,
            datasets=[dataset] if isinstance(dataset, str) else dataset,
        )
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".README.md.partial"
        card.save(partial)
        os.replace(partial, folder / "README.md")

    def _evaluations(self) -> list[dict[str, float]]:
        return [entry for entry in self.state.log_history if "eval_loss" in entry]

    def _evaluations_of_kept_weights(self) -> list[dict[str, float]]:
        return [entry for entry in self._evaluations() if entry["step"] == self.state.best_global_step]

    def _metrics_of_kept_weights(self) -> dict[str, float]:
        return (self._evaluations_of_kept_weights() or self._evaluations() or [{}])[-1]

    def _card_settings(self, model: Any) -> dict[str, Any]:
        """The settings of training that the model card lists."""
        args = self.args
        plm = {"Learning rate of the PLM": args.plm_learning_rate} if model.config.use_plm else {}
        kept = self._evaluations_of_kept_weights()
        best = f"; weights of epoch {kept[0]['epoch']:g} kept" if kept and args.load_best_model_at_end else ""
        masks = isinstance(model, ClickPromptForPAMLM)
        masking = {"Masked": f"{args.mlm_probability:.0%} by {args.masking}"} if masks else {}
        return {
            "Learning rate": args.learning_rate,
            **plm,
            "Schedule": f"{SchedulerType(args.lr_scheduler_type).value}, warm-up {args.warmup_steps}",
            "Weight decay": args.weight_decay,
            "Rows a step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "Epochs": f"{self.state.epoch or 0:g} of {args.num_train_epochs:g}{best}",
            **masking,
            "Precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "Seed": args.seed,
        }

    def _load_callback_state(self):
        super()._load_callback_state()
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback) and self.args.early_stopping_patience > 0:
                # the checkpoint's count, but this run's patience
                callback.early_stopping_patience = self.args.early_stopping_patience

    @contextmanager
    def _beside_training(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_beside_training += time.perf_counter() - start


@contextmanager
def _named_hub_errors(hub_id: str) -> Iterator[None]:
    """Turns errors of the connection into one that says which model was to go where."""
    try:
        yield
    except (httpx.HTTPError, ConnectionError, LocalTokenNotFoundError) as error:
        raise OSError(
            f"`push_to_hub` could not publish {hub_id} on {constants.ENDPOINT}. Log in with `hf auth login`, check "
            f"the network, or leave --push_to_hub out. The error: {error}"
        ) from error


def choose_attention(model: Any, args: ClickPromptTrainingArguments) -> None:
    """Sets the PLM's attention kernels to `args.attn_implementation`, or to the fastest of equal results.

    The backward pass of torch's fused kernel is slow in bf16 on CPUs: at 4 layers x 256 and 62 keys it takes a fifth
    of a training step, 7 times as long as plain matrix products.
    """
    on_cpu_in_bf16 = args.bf16 and args.device.type == "cpu"
    if name := args.attn_implementation or ("eager" if on_cpu_in_bf16 else None):
        model.set_attn_implementation(name)


def freeze_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Keeps `parts` of `model`, of "plm", "ctr" and "prompt_encoder", from being trained; heads always are.

    Raises:
        ValueError: If nothing would be left to train.
    """
    for name, parameter in model.named_parameters():
        modules = set(name.split("."))
        if modules & set(parts) or ("plm" in parts and "lm_head" in modules):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"`freeze` must leave something to train, but {sorted(set(parts))} is the whole model.")


def plm_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that `plm_learning_rate` rules: those of the PLM's trunk and of its LM head, by name."""
    return {
        name: parameter for name, parameter in model.named_parameters() if {"plm", "lm_head"} & set(name.split("."))
    }
