# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with atomic checkpoints, whose resumed runs end like uninterrupted ones."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.distributed.fsdp import StateDictType
from transformers import TrainerCallback
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import nested_gather
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SaveStrategy, rotate_checkpoints

from ..text_encoder_clickprompt import TEXT_ENCODER_FOLDER
from ..whole_files import (
    PARTIAL_FOLDER,
    publish_folder,
    remove_partial,
    whole_contents,
    whole_file,
    write_errors_naming,
)
from .arguments import ClickPromptSettings
from .checkpoints import PROGRESS_FILE, checkpoints_in, newest_whole_checkpoint
from .divergence import DivergenceCheckingTrainer
from .processes import broadcast_from_first
from .resharding import load_optimizer, load_weights, needs_resharding


class EarlyStoppingCallback(transformers.EarlyStoppingCallback):
    """Early stopping that resumes with the checkpoint's count but this run's patience.

    The class keeps its parent's name, under which checkpoints store the count.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        self.early_stopping_patience = args.early_stopping_patience
        if state.global_step == 0:
            # the count of an earlier run, or of another trial, is not this one's
            self.early_stopping_patience_counter = 0
        super().on_train_begin(args, state, control, **kwargs)


@dataclass
class RunProgress:
    """What `Trainer` forgets between the parts of a run: the losses and the time of the earlier ones.

    Args:
        num_processes: Number of processes that saved the checkpoint.
        logged_loss: Sum of the losses of all logged steps, mean over the processes.
        unlogged_losses: Sum of the losses since the last log, per process.
        last_logged_step: Step of the last log.
        seconds: Duration of training.
        seconds_beside_training: The part of it that evaluation and saving took.
    """

    num_processes: int
    logged_loss: float
    unlogged_losses: list[float]
    last_logged_step: int
    seconds: float
    seconds_beside_training: float


class _ProgressCallback(TrainerCallback):
    """Restores the progress of a resumed run once `Trainer` has reset its own."""

    def __init__(self, trainer: "ResumableTrainer"):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.restore_progress()


class ResumableTrainer(DivergenceCheckingTrainer):
    """A `Trainer` with atomic checkpoints, whose resumed runs end like uninterrupted ones.

    - A checkpoint is written under a temporary name and renamed once all processes have written their files. So is
      what `save_model` writes.
    - Resuming with `True` uses the newest complete checkpoint.
    - Any number of processes can resume a checkpoint, with FSDP2 even if it was saved without it, and vice versa.
    - A run that had reached its last step, or had stopped early, trains no further.
    - A checkpoint of an epoch's last step is saved after the evaluation and the log of the epoch: resuming does not
      repeat them.
    - `train_loss`, `train_runtime` and the rates cover the whole run; the rates leave out evaluation and saving.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.add_callback(_ProgressCallback(self))
        self._seconds_beside_training, self._rates_are_due = 0.0, False
        self._resumed_from: str | None = None
        self._earlier: RunProgress | None = None
        self._is_done = False
        self._begin = time.time()
        self._writes_checkpoint = False
        self._save_is_due = False
        self._last_step_seen: int | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """Train as `Trainer` does.

        Args:
            resume_from_checkpoint: Folder of a checkpoint, or `True` for the newest complete one in `output_dir`.
            args: Further arguments of `Trainer.train`.
            kwargs: Further arguments of `Trainer.train`.

        Raises:
            ValueError: If there is no checkpoint to resume, or the run diverges.
        """
        folder = Path(str(self.args.output_dir))
        if resume_from_checkpoint is True:
            newest = newest_whole_checkpoint(folder) if self.is_world_process_zero() else None
            name = broadcast_from_first(None if newest is None else newest.name)
            if name is None:
                raise ValueError(f"`resume_from_checkpoint` must be False, as {folder} has no complete checkpoint.")
            resume_from_checkpoint = str(folder / name)
        if self.args.should_save:
            remove_partial(folder)
        self._save_is_due, self._last_step_seen = False, None
        self._seconds_beside_training, self._rates_are_due = 0.0, True
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def log(self, logs: dict[str, Any], *args, **kwargs) -> None:
        if self._rates_are_due and "train_runtime" in logs:
            # the dictionary that `train` returns as well, which its caller may log again
            self._rates_are_due = False
            self._leave_out_time_beside_training(logs)
        super().log(logs, *args, **kwargs)

    def _leave_out_time_beside_training(self, metrics: dict[str, Any]) -> None:
        runtime = metrics["train_runtime"]
        for name in ("train_samples_per_second", "train_steps_per_second"):
            metrics[name] = round(metrics[name] * runtime / (runtime - self._seconds_beside_training), 3)

    def evaluate(self, *args, **kwargs):
        with self._beside_training():
            return super().evaluate(*args, **kwargs)

    @contextmanager
    def _beside_training(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds_beside_training += time.perf_counter() - start

    # What a resumed run continues from

    def _reshards(self, checkpoint: str | None) -> bool:
        """Whether a checkpoint was saved with FSDP2 and this run goes on without it, or the reverse."""
        by_fsdp2 = self.accelerator.is_fsdp2
        by_fsdp1 = self.is_fsdp_enabled and not by_fsdp2
        if checkpoint is None or self.is_deepspeed_enabled or by_fsdp1:
            return False
        return needs_resharding(checkpoint, by_fsdp2)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self._reshards(resume_from_checkpoint):
            wanted: Any = self.model if model is None else model
            load_weights(wanted, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not self._reshards(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # training has begun
        optimizer: Any = self.optimizer
        model: Any = self.model
        schedule: Any = self.lr_scheduler
        load_optimizer(optimizer, model, checkpoint)
        schedule.load_state_dict(torch.load(os.path.join(checkpoint, SCHEDULER_NAME), weights_only=True))

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ):
        epochs, steps = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self._resumed_from, self._earlier, self._is_done = resume_from_checkpoint, None, False
        if resume_from_checkpoint is None:
            return epochs, steps
        # `Trainer` does not save callbacks that the checkpoint lacks
        states: Any = self.state.stateful_callbacks
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                states.setdefault(type(callback).__name__, callback.state())
        if self.state.best_model_checkpoint is None and self.state.best_global_step:
            # the output folder may have been moved
            best = Path(resume_from_checkpoint).parent / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None
        if (progress := Path(resume_from_checkpoint) / PROGRESS_FILE).is_file():
            self._earlier = RunProgress(**json.loads(progress.read_bytes()))
        # a process that went on alone would wait for the others forever
        self._is_done = broadcast_from_first(self.state.global_step >= max_steps or self._has_stopped_early())
        # training begins with the epoch after the last one, so with none
        return (num_train_epochs, 0) if self._is_done else (epochs, steps)

    def _has_stopped_early(self) -> bool:
        ours = ClickPromptSettings.of(self.args).early_stopping_patience
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, transformers.EarlyStoppingCallback):
                patience = ours if isinstance(callback, EarlyStoppingCallback) else callback.early_stopping_patience
                if callback.early_stopping_patience_counter >= patience:
                    return True
        return False

    def restore_progress(self) -> None:
        """Restore what `Trainer` has reset; called when training begins."""
        self._begin = time.time()
        if self._is_done:
            self._load_rng_state(self._resumed_from)
        if self._earlier is None:
            return
        losses = self._earlier.unlogged_losses
        same_processes = len(losses) == self.args.world_size
        self._tr_loss += losses[self.args.process_index] if same_processes else sum(losses) / len(losses)
        self._total_loss_scalar = self._earlier.logged_loss
        self._globalstep_last_logged = self._earlier.last_logged_step
        self._initial_global_step = 0
        self._begin -= self._earlier.seconds
        self._seconds_beside_training += self._earlier.seconds_beside_training

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler=False):
        if skip_scheduler and self._resumed_from is not None:
            # `eval_on_start`, which the run has done
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def _finalize_training(self, trial, num_train_samples, start_time):
        return super()._finalize_training(trial, num_train_samples, self._begin)

    # When to save

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, epoch, *args, **kwargs):
        """Log, evaluate and save. `Trainer` calls it after each step, and once more after the epoch."""
        after_epoch = self._last_step_seen == self.state.global_step
        self._last_step_seen = self.state.global_step
        self._save_is_due |= self.control.should_save
        self.control.should_save = False
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, epoch, *args, **kwargs)
        epoch_ends = (
            self.control.should_training_stop or self.control.should_epoch_stop or self.state.epoch >= epoch + 1
        )
        if self._save_is_due and (after_epoch or not epoch_ends):
            self._save_is_due = False
            self.control.should_save = True
            # everything else is done
            super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, epoch, *args, **kwargs)

    def _determine_best_metric(self, metrics, trial):
        is_best = super()._determine_best_metric(metrics, trial)
        if self.args.save_strategy == SaveStrategy.BEST:
            # `Trainer` would save at once
            self._save_is_due |= is_best
            return False
        return is_best

    # How to save

    def _save_checkpoint(self, model, trial):
        with self._beside_training():
            self._save_whole_checkpoint(model, trial)

    def _save_whole_checkpoint(self, model, trial) -> None:
        run_folder = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        checkpoint, partial = run_folder / name, run_folder / PARTIAL_FOLDER / name
        progress = self._progress()
        try:
            with self._checkpoint_errors(checkpoint, partial):
                if self.args.should_save:
                    partial.mkdir(parents=True, exist_ok=True)
                    (partial / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")
                    _link_text_encoder(run_folder, partial)
                with self._writing_checkpoint():
                    super()._save_checkpoint(model, trial)
                if self.state.best_model_checkpoint == str(partial):
                    self.state.best_model_checkpoint = str(checkpoint)
                if self.args.should_save:
                    self.state.save_to_json(str(partial / TRAINER_STATE_NAME))
                self._publish(partial, checkpoint)
        finally:
            if self.args.should_save:
                shutil.rmtree(partial.parent, ignore_errors=True)
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(run_folder), self.args.save_total_limit, best, use_mtime=True)

    def _progress(self) -> RunProgress:
        losses = nested_gather(self._tr_loss, self.args.parallel_mode)
        return RunProgress(
            num_processes=self.args.world_size,
            logged_loss=self._total_loss_scalar,
            unlogged_losses=losses.reshape(-1).tolist(),
            last_logged_step=self._globalstep_last_logged,
            seconds=time.time() - self._begin,
            seconds_beside_training=self._seconds_beside_training,
        )

    def _publish(self, partial: Path, checkpoint: Path) -> None:
        """Give a checkpoint its name once all processes have written their files."""
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            publish_folder(partial, checkpoint)
        self.accelerator.wait_for_everyone()
        if self.is_local_process_zero() and partial.exists():
            # on the disk of another machine, which only has the random states of its own processes
            publish_folder(partial, checkpoint)

    @contextmanager
    def _writing_checkpoint(self) -> Iterator[None]:
        self._writes_checkpoint = True
        try:
            yield
        finally:
            self._writes_checkpoint = False

    @contextmanager
    def _checkpoint_errors(self, checkpoint: Path, partial: Path) -> Iterator[None]:
        """Name the file that could not be written, and the checkpoint to resume from."""
        try:
            with write_errors_naming(checkpoint, partial):
                yield
        except OSError as error:
            if "cannot be written" not in str(error.strerror):
                raise
            newest = newest_whole_checkpoint(checkpoint.parent)
            advice = f" Training can resume from {newest}." if newest else ""
            raise OSError(error.errno, f"{error.strerror}.{advice}") from error

    def _get_output_dir(self, trial):
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, PARTIAL_FOLDER) if self._writes_checkpoint else folder

    def _push_from_checkpoint(self, checkpoint_folder):
        # only once the checkpoint has its final name, under which the upload reads it
        if not self._writes_checkpoint:
            super()._push_from_checkpoint(checkpoint_folder)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does; with FSDP, sharded weights are gathered, except in checkpoints."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin is None or "FULL_STATE_DICT" in str(plugin.state_dict_type):
            super().save_model(output_dir, _internal_call)
        elif self._writes_checkpoint:
            # `Trainer` saves the shards of the weights with those of the optimizer
            super().save_model(output_dir, _internal_call)
            if self.args.should_save:
                model: Any = self.accelerator.unwrap_model(self.model)
                model.config.save_pretrained(str(output_dir))
                if self.processing_class is not None:
                    self.processing_class.save_pretrained(str(output_dir))
        else:
            sharded, plugin.state_dict_type = plugin.state_dict_type, StateDictType.FULL_STATE_DICT
            try:
                super().save_model(output_dir, _internal_call)
            finally:
                plugin.state_dict_type = sharded

    def _save(self, output_dir=None, state_dict=None):
        folder = Path(str(output_dir or self.args.output_dir))
        if not self.args.should_save or self._writes_checkpoint:
            super()._save(str(folder), state_dict)
            return
        with whole_contents(folder) as partial:
            if (card := folder / "README.md").is_file():
                # peft updates the card that it finds beside its adapters
                shutil.copy(card, partial)
            super()._save(str(partial), state_dict)
            # only checkpoints to resume from keep the pickled arguments
            (partial / TRAINING_ARGS_NAME).unlink()
        (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def save_metrics(self, split: str, metrics: dict[str, float], combined: bool = True) -> None:
        """Save metrics as `Trainer` does, each file atomically."""
        if not self.is_world_process_zero():
            return
        folder = Path(str(self.args.output_dir))
        written = {f"{split}_results.json": metrics}
        if combined:
            results = folder / "all_results.json"
            earlier = json.loads(results.read_bytes()) if results.exists() else {}
            written[results.name] = {**earlier, **metrics}
        for name, content in written.items():
            with whole_file(folder / name) as partial:
                partial.write_text(json.dumps(content, indent=4, sort_keys=True), encoding="utf-8")

    def save_state(self) -> None:
        """Save the trainer's state in the output folder as `Trainer` does, atomically."""
        if self.is_world_process_zero():
            with whole_file(Path(str(self.args.output_dir)) / TRAINER_STATE_NAME) as partial:
                self.state.save_to_json(str(partial))


def _link_text_encoder(run_folder: Path, checkpoint: Path) -> None:
    """Share the files of the text encoder, which training does not change, with the newest checkpoint of a run.

    Nothing is linked if there is none, or if the file system cannot: the processor then saves its encoder anew.
    """
    newest = next((path for path in checkpoints_in(run_folder) if (path / TEXT_ENCODER_FOLDER).is_dir()), None)
    if newest is not None:
        shared = checkpoint / TEXT_ENCODER_FOLDER
        try:
            shutil.copytree(newest / TEXT_ENCODER_FOLDER, shared, copy_function=os.link)
        except OSError:
            # also shutil.Error, which names all files
            shutil.rmtree(shared, ignore_errors=True)
