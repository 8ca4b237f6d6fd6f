# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""`Trainer` with what ClickPrompt needs: two learning rates, click and PA-MLM metrics, reproducible order and masks.

optimizer.py sets the learning rate of every parameter; sampling.py draws the order of the rows.
"""

import copy
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import httpx
from peft import PeftModel
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.columnar import ColumnarDataset
from ..modeling_clickprompt import ClickPromptForPretraining
from .arguments import ClickPromptTrainingArguments
from .metrics import click_metrics, masked_token_metrics
from .optimizer import build_optimizer, clip_grad_norm, freeze_parts, make_embeddings_sparse
from .sampling import EpochSampler


class MaskEpochCallback(TrainerCallback):
    """Passes the epoch to the training dataset, whose masks depend on it: accelerate passes it to the sampler only."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if isinstance(train_dataloader.dataset, ColumnarDataset):
            train_dataloader.dataset.set_epoch(int(state.epoch or 0))


class EarlyStoppingCallback(transformers.EarlyStoppingCallback):
    """Early stopping that resumes with the checkpoint's count but this run's patience.

    The class keeps its parent's name, under which checkpoints store the count.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        self.early_stopping_patience = args.early_stopping_patience
        super().on_train_begin(args, state, control, **kwargs)


class ClickPromptTrainer(Trainer):
    """A `Trainer` for `ClickPromptForCTR`, `ClickPromptForPAMLM` and `ClickPromptForPACLM`.

    It differs from `Trainer` in these points:

    - `plm_learning_rate` applies to the PLM's trunk and LM head (0 freezes them), `learning_rate` to everything else;
    - weight decay applies to matrices only, never to biases, norms or embeddings;
    - with `sparse_embedding_updates`, a step updates only the feature embeddings that its batch reads;
    - `compute_metrics` defaults to AUC and log loss, or to the accuracy on masked tokens in pretraining;
    - training stops early by `early_stopping_patience`;
    - the training order is a function of (seed, epoch), and several processes compute the gradients of one;
    - `train_samples_per_second` excludes evaluation and saving;
    - what it publishes holds no pickle: only checkpoints to resume from keep the pickled arguments;
    - `model_card` replaces the model card.

    Args:
        model: Model to train; `model_init` is not supported.
        args: Training arguments.
        compute_metrics: As in `Trainer`; see above for the defaults.
        callbacks: As in `Trainer`.
        model_card: Makes the card that `create_model_card` and `push_to_hub` write, from the trainer and the keyword
            arguments of `create_model_card`: `clickprompt_hf.evaluation.run_card`, or a function like it. By default
            `Trainer` writes its own.
        kwargs: Further arguments of `Trainer`.

    Attributes:
        run_metrics: Results for the model card, named as in `all_results.json`. If empty, the card shows the
            evaluation that chose the weights, or the last one.

    Raises:
        ValueError: If `model` is missing, `freeze` leaves nothing to train, or sparse updates are not possible.
    """

    args: ClickPromptTrainingArguments

    def __init__(
        self,
        model=None,
        args=None,
        *,
        compute_metrics=None,
        callbacks=None,
        model_card: Callable[..., ModelCard] | None = None,
        **kwargs,
    ):
        if model is None:
            raise ValueError("`model` must be given; `model_init` is not supported.")
        plain_model: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        self.is_pretraining = isinstance(plain_model, ClickPromptForPretraining)
        if compute_metrics is None:
            compute_metrics = masked_token_metrics if self.is_pretraining else click_metrics
        if self.is_pretraining and args.metric_for_best_model == "auc":
            # the default is meant for finetuning; pretraining has no clicks to rank
            args = copy.copy(args)
            args.metric_for_best_model, args.greater_is_better = "loss", False
        callbacks = [*(callbacks or []), MaskEpochCallback()]
        if args.early_stopping_patience > 0:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        choose_attention(plain_model, args)
        freeze_parts(model, [*(args.freeze or ()), *(["plm"] if args.plm_learning_rate == 0 else [])])
        self.model_card = model_card
        self.run_metrics: dict[str, float] = {}
        self._seconds_beside_training = 0.0
        super().__init__(model, args, compute_metrics=compute_metrics, callbacks=callbacks, **kwargs)
        if args.sparse_embedding_updates:
            if args.world_size > 1 and (backend := torch.distributed.get_backend()) != "gloo":
                raise ValueError(
                    "`sparse_embedding_updates` must be False with several processes whose backend cannot sum sparse "
                    f"gradients, as gloo can; got {backend!r}."
                )
            make_embeddings_sparse(model)

    @property
    def kept_step(self) -> int | None:
        """Step whose weights training keeps when it ends; `None` for the last step."""
        return self.state.best_global_step if self.args.load_best_model_at_end else None

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Create the optimizer of `args.optim`; optimizer.py sets each parameter's learning rate and weight decay."""
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = build_optimizer(model, self.args, optimizer_class, options)
        return self.optimizer

    def _clip_grad_norm(self, model):
        if not self.args.sparse_embedding_updates:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        return clip_grad_norm(model.parameters(), self.args.max_grad_norm)

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.args.sparse_embedding_updates:
            grad_norm = clip_grad_norm(model.parameters(), float("inf"))
        return super()._get_grad_norm(model, grad_norm)

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
            # keeps predictions in the order of their rows, even if training groups rows by length
            return SequentialSampler(eval_dataset) if self.args.world_size == 1 else None
        return super()._get_eval_sampler(eval_dataset)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: `Trainer`'s estimate, 6 × parameters × numbers in the main input, means nothing for feature ids.

        `total_flos` would report it, and counting parameters at every step takes up to 1 % of a step without a PLM.
        """
        return 0

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        loss, outputs, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self.is_pretraining and outputs is not None:
            # evaluation would gather the (B, T) token labels; the metric needs only the (B,) number of masked tokens
            labels = outputs[1]
        return loss, outputs, labels

    def train(self, *args, **kwargs):
        """Train as `Trainer` does; the samples and steps per second leave out evaluation and saving."""
        self._seconds_beside_training = 0.0
        output = super().train(*args, **kwargs)
        runtime = output.metrics["train_runtime"]
        for name in ("train_samples_per_second", "train_steps_per_second"):
            rate = output.metrics[name] * runtime / (runtime - self._seconds_beside_training)
            output.metrics[name] = round(rate, 3)
        return output

    def evaluate(self, *args, **kwargs):
        with self._beside_training():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, *args, **kwargs):
        with self._beside_training():
            super()._save_checkpoint(*args, **kwargs)

    @contextmanager
    def _beside_training(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds_beside_training += time.perf_counter() - start

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does; only checkpoints to resume from keep the pickled arguments."""
        super().save_model(output_dir, _internal_call)
        folder = Path(str(output_dir or self.args.output_dir))
        if self.args.should_save and not re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", folder.name):
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def init_hf_repo(self, token=None, private=None):
        with _explained_hub_errors(self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name):
            super().init_hf_repo(token, private)

    def push_to_hub(self, *args, **kwargs):
        """Save the model, write the model card and upload the output folder.

        Checkpoints and files whose names begin with an underscore stay local. The arguments are those of
        `Trainer.push_to_hub`, which passes keyword arguments on to `create_model_card`.

        Raises:
            OSError: If the Hub cannot be reached or refuses the upload.
        """
        with _explained_hub_errors(self.hub_model_id or self.args.hub_model_id or ""):
            return super().push_to_hub(*args, **kwargs)

    def create_model_card(self, **options) -> None:  # type: ignore[override]  # both kinds of card take keywords
        """Write the model card, `README.md` in the output folder: that of `model_card`, or `Trainer`'s.

        Args:
            options: Keyword arguments of `model_card` or of `Trainer.create_model_card`: `license`, `tags`, ...
        """
        if self.model_card is None or isinstance(self.accelerator.unwrap_model(self.model), PeftModel):
            super().create_model_card(**options)
        elif self.is_world_process_zero():
            folder = Path(str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / ".README.md.partial"
            self.model_card(self, **options).save(partial)
            os.replace(partial, folder / "README.md")


@contextmanager
def _explained_hub_errors(hub_id: str) -> Iterator[None]:
    """Turn connection errors into an `OSError` that names the model and the Hub."""
    try:
        yield
    except (httpx.HTTPError, ConnectionError, LocalTokenNotFoundError) as error:
        raise OSError(
            f"`push_to_hub` could not publish {hub_id} on {constants.ENDPOINT}. Log in with `hf auth login`, check "
            f"the network, or leave --push_to_hub out. The error: {error}"
        ) from error


def choose_attention(model: Any, args: ClickPromptTrainingArguments) -> None:
    """Set the PLM's attention implementation to `args.attn_implementation`, or to the fastest one.

    The backward pass of torch's fused attention is slow in bf16 on CPUs: at 4 layers x 256 and 62 keys it takes a
    fifth of a training step, 7 times as long as plain matrix products.
    """
    on_cpu_in_bf16 = args.bf16 and args.device.type == "cpu"
    if name := args.attn_implementation or ("eager" if on_cpu_in_bf16 else None):
        model.set_attn_implementation(name)
