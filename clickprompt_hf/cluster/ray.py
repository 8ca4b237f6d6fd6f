# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""ClickPrompt on Ray: score datasets and train. Needs `pip install "clickprompt_hf[ray]"`.

    from clickprompt_hf.cluster import ray as on_ray

    scored = on_ray.score(ray.data.read_parquet("rows"), "OUT_CTR", num_actors=8)

`score` passes `Scorer` to `ray.data.Dataset.map_batches`; use it to call `map_batches` yourself. docs/scale.md has a
recipe for each.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..columns_clickprompt import PROBABILITY_COLUMN
from .engines import require_engine
from .model_archive import fingerprint_of_files, write_archive
from .table_scorer import TableScorer, check_batch_size, check_table
from .training_command import Command, check_command, run_command, with_restarts

if TYPE_CHECKING:
    import ray
    from ray.data import Dataset


@dataclass(frozen=True)
class SentModel:
    """A model folder in Ray's object store, which any node can fetch.

    Args:
        archive: Reference to the content of a zip file.
        fingerprint: Hash of the model's files.
    """

    archive: "ray.ObjectRef"
    fingerprint: str

    @classmethod
    def of(cls, folder: str | Path) -> "SentModel":
        """Put a folder into the object store. Raises an OSError if it cannot be read."""
        import ray

        with tempfile.TemporaryDirectory(prefix="clickprompt-") as temporary:
            write_archive(folder, archive := Path(temporary) / "model.zip")
            return cls(ray.put(archive.read_bytes()), fingerprint_of_files(folder))

    def unpack(self) -> Path:
        """The folder on this node, which its actors share."""
        import ray

        folder = Path(tempfile.gettempdir()) / f"clickprompt-model-{self.fingerprint}"
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            with zipfile.ZipFile(BytesIO(ray.get(self.archive))) as archive:
                archive.extractall(partial)
            try:
                os.replace(partial, folder)
            except OSError:
                shutil.rmtree(partial)
                # unless another actor was faster
                if not folder.is_dir():
                    raise
        return folder


class Scorer:
    """Adds click probabilities to batches, for `ray.data.Dataset.map_batches`; each actor loads the model once.

        rows.map_batches(
            Scorer, fn_constructor_args=["OUT_CTR"], batch_format="pyarrow", compute=ActorPoolStrategy(size=8)
        )

    An actor that has a GPU (`num_gpus=1`) scores a checkpoint on it; exports are scored on the CPU.

    Args:
        model: As for `TableScorer`, on a disk or Hub that the actor reaches; or a model that was sent.
        output_column: Name of the new column, float64 in [0, 1].
        batch_size: As for `TableScorer`.
        num_threads: Threads per batch; by default, as many as the actor has CPUs.

    Raises:
        OSError: If the model is missing.
        ValueError: If the model's files do not belong together, or it was not finetuned for clicks.
    """

    def __init__(
        self,
        model: str | Path | SentModel,
        output_column: str = PROBABILITY_COLUMN,
        batch_size: int | None = None,
        num_threads: int | None = None,
    ):
        self.output_column = output_column
        threads = num_threads or _cpus_of_actor()
        self.scorer = TableScorer(model.unpack() if isinstance(model, SentModel) else model, threads, batch_size)

    def __call__(self, batch: Any) -> Any:
        """Add the column to a batch: an Arrow table, a pandas data frame, or a mapping from column to numpy array.

        Arrow tables keep what cells mean. In the others, integers with missing values are floats.

        Raises:
            ValueError: If a column is missing or a cell cannot be read.
        """
        if isinstance(batch, pa.Table):
            scores = self.scorer.score(batch)
            return batch.append_column(self.output_column, pa.array(scores))
        if isinstance(batch, Mapping):
            arrays = _table_of_arrays(batch, self.scorer.needed_columns(batch))
            return {**batch, self.output_column: self.scorer.score(arrays)}
        names = [name for name in self.scorer.needed_columns(batch) if name in batch.columns]
        scores = self.scorer.score(pa.Table.from_pandas(batch[names], preserve_index=False))
        return batch.assign(**{self.output_column: scores})


def _table_of_arrays(batch: Mapping[str, np.ndarray], names: Sequence[str]) -> pa.Table:
    # arrays of several dimensions hold lists
    columns = {name: batch[name] for name in names if name in batch}
    return pa.table({name: list(array) if array.ndim > 1 else array for name, array in columns.items()})


def _cpus_of_actor() -> int:
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return 0
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
    # 0 would mean one thread per core
    return max(1, int(cpus)) if cpus > 0 else 0


def score(
    rows: "Dataset",
    model: str | Path,
    output_column: str = PROBABILITY_COLUMN,
    batch_size: int | None = None,
    num_actors: int | tuple[int, int] = 1,
    rows_per_task: int = 16_384,
    **resources: Any,
) -> "Dataset":
    """Add a column of click probabilities to a Ray dataset, which is computed when the result is used.

    A folder is sent to the actors through the object store; a Hub id is downloaded by each machine. Actors that die
    are started again, and their batches are scored again.

    Args:
        rows: Raw rows with the columns of the model's schema; other columns are kept.
        model: Folder that `clickprompt export` wrote; or folder or Hub id of a checkpoint.
        output_column: Name of the new column, float64 in [0, 1].
        batch_size: Rows per batch of the model, as in `TableScorer`.
        num_actors: Number of actors; or the minimum and the maximum, between which Ray chooses.
        rows_per_task: Rows that an actor gets at a time, at least 1.
        resources: Further arguments of `map_batches`, such as `num_cpus=4` or `num_gpus=1` for each actor.

    Raises:
        ImportError: If Ray is missing; the message names the extra.
        OSError: If the model is missing.
        ValueError: If a column is missing, holds lists although its field is single-valued, or is already there, or a
            number is out of range. This is noticed before any row is scored.
    """
    require_engine("ray", "ray")
    from ray.data import ActorPoolStrategy

    check_batch_size(batch_size)
    if rows_per_task < 1:
        raise ValueError(f"`rows_per_task` must be at least 1, got {rows_per_task}.")
    least, most = num_actors if isinstance(num_actors, tuple) else (num_actors, num_actors)
    if not 1 <= least <= most:
        raise ValueError(f"`num_actors` must be at least 1, or two such numbers in order, got {num_actors}.")
    check_table(model, _columns_of(rows), output_column)
    sent = SentModel.of(model) if Path(model).is_dir() else str(model)
    return rows.map_batches(
        Scorer,
        fn_constructor_args=[sent, output_column, batch_size],
        batch_format="pyarrow",
        batch_size=rows_per_task,
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        **resources,
    )


def _columns_of(rows: "Dataset") -> dict[str, bool]:
    """Columns, and whether they hold lists or mappings."""
    schema = rows.schema()
    if schema is None:
        return {}
    return {name: _is_nested(kind) for name, kind in zip(schema.names, schema.types)}


def _is_nested(kind: Any) -> bool:
    return isinstance(kind, pa.DataType) and (pa.types.is_nested(kind) or isinstance(kind, pa.ExtensionType))


def train(
    arguments: Sequence[str],
    num_workers: int,
    use_gpu: bool = False,
    command: Command = "finetune",
    max_restarts: int = 0,
    storage_path: str | None = None,
) -> None:
    """Train with `ray.train.torch.TorchTrainer`, in workers that Ray starts and joins.

    Each worker runs `clickprompt finetune` with the same arguments, as under `torchrun`. Folders in the arguments,
    above all `--output_dir` and `--prepared`, must be on a disk that all nodes share. The metrics are in
    `all_results.json` of the output folder.

    Args:
        arguments: Command line of `clickprompt finetune` or `clickprompt pretrain`, as a list.
        num_workers: Number of processes, at least 1.
        use_gpu: Whether each worker gets its own GPU.
        command: `"finetune"` or `"pretrain"`.
        max_restarts: How often to restart a failed training, from its last checkpoint if this process finds one in
            `--output_dir`.
        storage_path: Where Ray keeps its own records of the run.

    Raises:
        ImportError: If Ray is missing; the message names the extra.
        ValueError: If an argument is wrong, as `check_command` says.
        ray.train.TrainingFailedError: If training failed.
    """
    require_engine("ray", "ray")
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    given = check_command(command, arguments, num_workers, max_restarts)

    def run(arguments: list[str]) -> None:
        trainer = TorchTrainer(
            _train_in_worker,
            train_loop_config={"command": command, "arguments": arguments},
            scaling_config=ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
            run_config=RunConfig(storage_path=storage_path) if storage_path else None,
        )
        trainer.fit()

    with_restarts(run, given, max_restarts, TrainingFailedError)


def _train_in_worker(config: dict[str, Any]) -> None:
    run_command(config["command"], config["arguments"])
