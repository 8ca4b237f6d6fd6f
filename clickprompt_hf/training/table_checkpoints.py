# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training whose checkpoints hold id tables that are sharded across processes, for any number of processes to resume.

The weights are one `model.safetensors`, as without sharding. The moments of the rows, one file beside `optimizer.pt`,
have the same form: tables of all rows, of which each process writes and reads its own.
"""

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from transformers.utils import SAFE_WEIGHTS_NAME

from ..data.disk_space import check_disk_space
from ..loading_clickprompt import record_fingerprints
from ..whole_files import PARTIAL_FOLDER, whole_contents, write_errors_naming
from .processes import MonitoredBarrier, broadcast_from_first, failing_together
from .resuming import ResumableTrainer
from .sharded_tables import (
    has_all_rows,
    has_sharded_tables,
    load_sharded,
    sharded_tables,
)
from .table_rows import lay_out, read_rows, write_rows

MOMENTS_FILE = "id_table_moments.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedTablesTrainer(ResumableTrainer):
    """A `ResumableTrainer` for models whose id tables may be sharded across the processes.

    All processes must see the output folder.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._barrier = None if has_all_rows(self.model) else MonitoredBarrier()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `ResumableTrainer` does; call it in all processes.

        Raises:
            RuntimeError: If id tables are sharded and another process does not call it within a sixth of the argument
                `ddp_timeout`.
        """
        if self._barrier is None:
            super().save_model(output_dir, _internal_call)
            return
        self._barrier.wait("`save_model`", self.args.ddp_timeout / 6)
        folder = Path(str(output_dir or self.args.output_dir))
        model: Any = self.model
        tables = sharded_tables(model)
        rows = {name: (table.num_rows, table.first_row, table.weight) for name, table in tables.items()}
        # the other tensors of the model are saved with their files first
        weights = SAFE_WEIGHTS_NAME
        partial = folder if self._writes_checkpoint else folder / PARTIAL_FOLDER
        whole = partial / f".{weights}.tables"
        with ExitStack() as stack:
            with failing_together():
                if self.args.should_save:
                    moments = len(_MOMENTS) if self._writes_checkpoint and not self.args.save_only_model else 0
                    check_disk_space(folder, (1 + moments) * _num_bytes(rows), "the id tables")
                    if not self._writes_checkpoint:
                        stack.enter_context(whole_contents(folder))
                    # without the tables
                    self._save(str(partial), model.state_dict())
                    with write_errors_naming(folder / weights, whole):
                        lay_out(whole, _tables(rows), partial / weights)
            _write_all(whole, rows, folder / weights)
            with failing_together():
                if self.args.should_save:
                    os.replace(whole, partial / weights)
                    record_fingerprints(partial)
                    stack.close()
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not has_sharded_tables(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        with failing_together():
            super()._save_optimizer_and_scheduler(output_dir)
        if rows := self._moments():
            path = Path(output_dir) / MOMENTS_FILE
            with failing_together():
                if self.args.should_save:
                    with write_errors_naming(path, path):
                        lay_out(path, _tables(rows))
            _write_all(path, rows, path)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            has_moments = broadcast_from_first((Path(checkpoint) / MOMENTS_FILE).is_file())
            wanted = bool(self._trained_tables())
            if has_moments != wanted:
                raise ValueError(
                    f"`shard_id_tables` must be {has_moments}, as it was when {checkpoint} was saved, got {wanted}."
                )
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not (tables := self._trained_tables()):
            return
        with failing_together():
            for table in tables.values():
                # `optimizer.pt` has only the step counts of the tables that had a gradient
                if "step" in (state := self._state(table.weight)):
                    state.update({moment: torch.zeros_like(table.weight) for moment in _MOMENTS})
            for name, (_, first_row, moments) in self._moments().items():
                read_rows(Path(checkpoint) / MOMENTS_FILE, name, moments, first_row)

    def _trained_tables(self) -> dict[str, Any]:
        """The sharded tables that the optimizer updates."""
        optimizer: Any = self.optimizer
        updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return {name: table for name, table in sharded_tables(self.model).items() if id(table.weight) in updated}

    def _moments(self) -> dict[str, tuple[int, int, torch.Tensor]]:
        """Moments of the sharded tables: rows in the table, first row of this process, and its moments (n, E)."""
        return {
            f"{name}.{moment}": (table.num_rows, table.first_row, state[moment])
            for name, table in self._trained_tables().items()
            for moment in _MOMENTS
            if moment in (state := self._state(table.weight))
        }

    def _state(self, parameter: torch.Tensor) -> dict[str, Any]:
        """The optimizer's state of a table's rows."""
        # accelerate wraps the optimizer
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        return optimizer.sparse.state[parameter]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if not has_sharded_tables(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        if self._reshards(resume_from_checkpoint):
            raise ValueError(f"`shard_id_tables` must be False to resume {resume_from_checkpoint}, saved with FSDP2.")
        self._load_rows(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if has_sharded_tables(self.model):
            self._load_rows(str(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    def _load_rows(self, folder: str) -> None:
        with failing_together():
            result = load_sharded(self.model, folder)
        self._issue_warnings_after_load(result)


def _tables(rows: Mapping[str, tuple[int, int, torch.Tensor]]) -> dict[str, tuple[int, torch.Tensor]]:
    return {name: (number, own) for name, (number, _, own) in rows.items()}


def _num_bytes(rows: Mapping[str, tuple[int, int, torch.Tensor]]) -> int:
    return sum(number * own.shape[1] * own.element_size() for number, _, own in rows.values())


def _write_all(path: Path, rows: Mapping[str, tuple[int, int, torch.Tensor]], shown: Path) -> None:
    """Write the rows of all processes into a file that has its layout; messages call it `shown`."""
    with failing_together():
        if not path.is_file():
            raise OSError(
                errno.ENOENT, f"{shown} must be in a folder that all processes share, but it is not visible here"
            )
        with write_errors_naming(shown, path):
            for name, (_, first_row, own) in rows.items():
                write_rows(path, name, own, first_row)
