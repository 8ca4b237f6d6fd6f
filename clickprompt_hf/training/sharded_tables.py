# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Id tables sharded across processes by rows, so that a table may be larger than a device.

A lookup sends ids to the processes that hold their rows and gets the embeddings back; its backward pass sends the
gradients the other way. Each process then has sparse gradients of its own rows only, and updates these rows as
`sparse_embedding_updates` does. DDP handles all other weights.

Neither DTensor nor TorchRec does this under `Trainer`. DTensor's row-wise embedding (`RowwiseParallel`) has a dense
gradient, so the cost of each step would grow with the table, and it cannot have a sparse one. TorchRec wraps the model
in `DistributedModelParallel`, whose optimizers update the tables in the backward pass, before `Trainer` clips
gradients.

Shapes: W processes, N rows of a table over all processes, n rows of this process, E embedding size, U distinct ids of
this process's batch, R ids that all processes want from this one.
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftMixedModel, PeftModel
from safetensors import safe_open
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainingArguments
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.training_args import ParallelMode

from ..layers_ctr import check_growth
from ..loading_clickprompt import HUB_ARGUMENTS, find_weights, listed
from ..warnings_clickprompt import warn_at_caller
from .optimizer import feature_embeddings
from .processes import failing_together, rank_and_world_size
from .sharding import engine_of_sharding
from .table_rows import read_grown_rows, read_rows
from .unwrapping import unwrap_model

# Rows that are drawn together, whatever the number of processes.
_ROWS_PER_DRAW = 2**16
_TABLE = ".table.weight"


class RowShardedTable(nn.Embedding):
    """An embedding table of which each process holds a range of at most `ceil(N / W)` rows.

    Its `weight` (n, E) has this process's rows alone. Its gradient is sparse and the mean over the processes, as DDP's
    gradients are. All processes must look up at the same time, within `in_all_processes`. With several processes,
    `state_dict` leaves the weight out.

    Args:
        num_rows: N.
        embedding_size: E.
        like: Tensor whose type, device and `requires_grad` the weight takes; its values are not copied.
    """

    def __init__(self, num_rows: int, embedding_size: int, like: torch.Tensor):
        rank, num_processes = rank_and_world_size()
        rows_per_process = -(-num_rows // num_processes)
        first_row = min(rank * rows_per_process, num_rows)
        own_rows = min(rows_per_process, num_rows - first_row)
        weight = torch.empty(own_rows, embedding_size, dtype=like.dtype, device=like.device)
        super().__init__(own_rows, embedding_size, sparse=True, _weight=weight)
        self.weight.requires_grad_(like.requires_grad)
        self.num_processes, self.rows_per_process, self.first_row = num_processes, rows_per_process, first_row
        self.all_look_up = False
        self._num_rows = num_rows

    @property
    def has_all_rows(self) -> bool:
        """Whether this process holds all rows: it is the only one."""
        return self.num_processes == 1

    @property
    def num_rows(self) -> int:
        """N."""
        # a whole table may get more rows
        return self.num_embeddings if self.has_all_rows else self._num_rows

    @torch.compiler.disable
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids (...) in [0, N) to embeddings (..., E).

        Raises:
            RuntimeError: If the rows are sharded and the call is not within `in_all_processes`.
        """
        if self.has_all_rows:
            return super().forward(ids)
        if not self.all_look_up:
            raise RuntimeError(
                f"Id tables are sharded across {self.num_processes} processes, so all of them must call the model "
                "at the same time: score with the trainer, or within `in_all_processes(model)`. To score in one "
                "process, save the model with the trainer and load it with `from_pretrained`."
            )
        # sorted, so those of one process are neighbors
        distinct, places = ids.unique(return_inverse=True)
        wanted = torch.bincount(distinct // self.rows_per_process, minlength=self.num_processes)
        asked = torch.empty_like(wanted)
        distributed.all_to_all_single(asked, wanted)
        sent, received = asked.tolist(), wanted.tolist()
        # (U,) -> (R,)
        rows = exchanged(distinct, received, sent) - self.first_row
        # (R, E) -> (U, E)
        embeddings = _Exchange.apply(super().forward(rows), sent, received)
        return nn.functional.embedding(places, embeddings)

    def extra_repr(self) -> str:
        return (
            f"{self.num_rows}, {self.embedding_dim}, rows {self.first_row} to {self.first_row + self.num_embeddings}"
        )

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        # a part that looks like the whole would be saved as such
        if self.has_all_rows:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if self.has_all_rows:
            super()._load_from_state_dict(state_dict, prefix, *args)


def exchanged(rows: torch.Tensor, sent: Sequence[int], received: Sequence[int]) -> torch.Tensor:
    """Send each process its part of `rows` (all-to-all), and return what the processes sent to this one, in order.

    Args:
        rows: (sum of `sent`, ...).
        sent: Number of rows for each process.
        received: Number of rows from each process.

    Returns:
        (sum of `received`, ...).
    """
    result = rows.new_empty(sum(received), *rows.shape[1:])
    distributed.all_to_all_single(result, rows.contiguous(), [*received], [*sent])
    return result


class _Exchange(torch.autograd.Function):
    """Embeddings to the processes that want them; their gradients back, divided by W.

    The owner sums what it gets from all processes. DDP averages the gradients of the other weights.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, sent: list[int], received: list[int]) -> torch.Tensor:
        ctx.sent, ctx.received = sent, received
        return exchanged(rows, sent, received)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        return exchanged(gradient, ctx.received, ctx.sent) / len(ctx.sent), None, None


def sharded_tables(model: Any) -> dict[str, RowShardedTable]:
    """The tables of a model that are sharded across processes, by the names of their weights."""
    return {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, RowShardedTable)}


def has_sharded_tables(model: Any) -> bool:
    """Whether a model's tables are those of `shard_id_tables`, in one process or several."""
    return model is not None and bool(sharded_tables(model))


def has_all_rows(model: Any) -> bool:
    """Whether each process holds all rows of a model's tables."""
    return model is None or all(table.has_all_rows for table in sharded_tables(model).values())


def num_parameters(model: Any) -> int:
    """Number of parameters of a model in all processes."""
    elsewhere = sum(
        (table.num_rows - table.num_embeddings) * table.embedding_dim for table in sharded_tables(model).values()
    )
    return model.num_parameters() + elsewhere


@contextmanager
def in_all_processes(model: nn.Module) -> Iterator[None]:
    """Context in which all processes run the model, equally often: otherwise, they would wait for each other forever.

    Args:
        model: A model whose id tables are sharded; others need no context.
    """
    tables = list(sharded_tables(model).values())
    before = [table.all_look_up for table in tables]
    for table in tables:
        table.all_look_up = True
    try:
        yield
    finally:
        for table, value in zip(tables, before):
            table.all_look_up = value


@torch.no_grad()
def shard_id_tables(model: nn.Module, field_sizes: Sequence[int] | None = None, seed: int = 0) -> None:
    """Shard the id tables of a model across processes, in place; call it in all of them, before making the trainer.

    A model whose tables fit into each process keeps its rows. For a larger one, build the model with one id per field
    and give the true `field_sizes`: each process then draws its rows, which depend on the seed and not on the number
    of processes. The model's configuration gets the sizes.

    Args:
        model: A model of this package.
        field_sizes: Number of ids per field with ids; `None` to shard the model's existing tables.
        seed: Of fresh rows.

    Raises:
        ValueError: If the model has no table to shard, has tables other than `FeatureEmbedding`, or was built with
            more than one id per field although `field_sizes` are given.
    """
    inner = unwrap_model(model)
    check_tables(inner)
    embeddings = feature_embeddings(inner)
    if field_sizes is not None:
        _set_field_sizes(inner, field_sizes)
    for number, module in enumerate(embeddings.values()):
        old = module.table.weight
        module.table = table = RowShardedTable(sum(module.field_sizes), old.shape[1], old)
        if field_sizes is None:
            table.weight.copy_(old[table.first_row : table.first_row + table.num_embeddings])
        else:
            draw_rows(module, seed, number)
    _leave_to_tables(inner)


def sharded_from_pretrained(
    model_class: Any,
    name_or_path: str | Path,
    config: Any = None,
    field_sizes: Sequence[int] | None = None,
    seed: int = 0,
    **hub_arguments: Any,
) -> Any:
    """Load a checkpoint as `from_pretrained` does, with id tables that are sharded across the processes.

    Call it in all processes. Each reads its own rows only. Tables that the checkpoint lacks are randomly initialized.

    Args:
        model_class: Class of the model.
        name_or_path: Folder or Hub id of a checkpoint in safetensors format.
        config: As in `from_pretrained`; it is not changed.
        field_sizes: New number of ids per field, as in `resize_feature_embeddings`; `None` to keep the checkpoint's.
        seed: Of fresh rows.
        hub_arguments: Where to load from, as in `from_pretrained`.

    Raises:
        ValueError: If the weights are not in safetensors files, do not match the model or are not finite, a field
            would lose ids, or the process group is not initialized yet.
        OSError: If a file is missing, damaged or cut off.
        RuntimeError: If another process failed.
    """
    rank_and_world_size()
    with failing_together():
        known = {name: value for name, value in hub_arguments.items() if name in HUB_ARGUMENTS}
        config = (
            copy.deepcopy(config)
            if config is not None
            else model_class.config_class.from_pretrained(name_or_path, **known)
        )
        old_sizes = list(config.ctr_config.field_sizes)
        new_sizes = old_sizes if field_sizes is None else list(field_sizes)
        check_growth(new_sizes, old_sizes)
        if not (files := find_weights(name_or_path, **known)):
            raise ValueError(f"{name_or_path} must have its weights in safetensors files to shard its id tables.")
        weights, places = _weights_beside_tables(files, sum(old_sizes), len(old_sizes))
        config.ctr_config.field_sizes = [1] * len(old_sizes)
        model = model_class.from_pretrained(name_or_path, config=config, state_dict=weights, **hub_arguments)
        shard_id_tables(model, new_sizes, seed)
        by_end = {name.removeprefix("clickprompt."): (file, name) for name, file in places.items()}
        broken = []
        for name, table in sharded_tables(model).items():
            if (place := by_end.get(name.removeprefix("clickprompt."))) is None:
                # with a warning of `from_pretrained`
                continue
            is_finite = read_grown_rows(*place, table.weight, table.first_row, old_sizes, new_sizes)
            broken += [] if is_finite else [name]
        if broken:
            raise ValueError(f"{listed(files)} must hold finite weights, but NaN or infinity is in {listed(broken)}.")
        return model


@torch.no_grad()
def load_sharded(model: Any, folder: str | Path) -> Any:
    """Load the weights of a checkpoint of the same model; each process reads its own rows of the tables.

    Args:
        model: With sharded tables.
        folder: The checkpoint.

    Returns:
        Missing and unexpected names, as those of `load_state_dict`.

    Raises:
        ValueError: If the checkpoint's tables have another number of rows.
    """
    tables, places = sharded_tables(model), {}
    weights: dict[str, torch.Tensor] = {}
    for file in find_weights(folder):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                if (table := tables.get(name)) is None:
                    weights[name] = stored.get_tensor(name)
                    continue
                places[name], expected = file, [table.num_rows, table.embedding_dim]
                if (found := stored.get_slice(name).get_shape()) != expected:
                    raise ValueError(f"`{name}` in {file} must have the shape {expected}, got {found}.")
    if lost := sorted(set(tables) - set(places)):
        raise ValueError(f"{folder} must hold the id tables of the model, but lacks {listed(lost)}.")
    result = model.load_state_dict(weights, strict=False)
    result.missing_keys[:] = [name for name in result.missing_keys if name not in tables]
    for name, file in places.items():
        read_rows(file, name, tables[name].weight, tables[name].first_row)
    return result


def _weights_beside_tables(
    files: Sequence[str], num_rows: int, num_fields: int
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of files with tables of one row per field, and the file of each table.

    Raises:
        ValueError: If a table has another number of rows.
    """
    weights, places = {}, {}
    for file in files:
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                if not name.endswith(_TABLE):
                    weights[name] = stored.get_tensor(name)
                    continue
                rows = stored.get_slice(name)
                if (found := rows.get_shape()[0]) != num_rows:
                    raise ValueError(
                        f"`{name}` in {file} must have {num_rows} rows, the ids of all fields, got {found}."
                    )
                # read later; these have the right shape
                weights[name] = torch.zeros(num_fields, rows.get_shape()[1], dtype=rows[:1].dtype)
                places[name] = file
    return weights, places


def draw_rows(module: Any, seed: int, number: int) -> None:
    """Draw this process's rows of a `FeatureEmbedding`'s table from the distribution of its fresh rows.

    Args:
        module: The `FeatureEmbedding`, with a sharded table.
        seed: Rows are a function of it, of `number` and of their place in the table.
        number: Number of the table in its model.
    """
    table: RowShardedTable = module.table
    first, stop = table.first_row, table.first_row + table.num_embeddings
    for start in range(first - first % _ROWS_PER_DRAW, stop, _ROWS_PER_DRAW):
        digest = hashlib.sha256(f"{seed} {number} {start}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        drawn = torch.empty(min(_ROWS_PER_DRAW, table.num_rows - start), table.embedding_dim)
        drawn.normal_(std=module.initializer_range, generator=generator)
        low, high = max(start, first), min(start + len(drawn), stop)
        table.weight[low - first : high - first] = drawn[low - start : high - start].to(table.weight)
    for offset in module.field_offsets:
        if first <= offset < stop:
            # out-of-vocabulary ids start at zero
            table.weight[offset - first] = 0


def _set_field_sizes(model: Any, field_sizes: Sequence[int]) -> None:
    config = model.config.ctr_config
    if any(size != 1 for size in config.field_sizes) or len(field_sizes) != len(config.field_sizes):
        raise ValueError(
            f"The model must be built with one id per field for {len(field_sizes)} `field_sizes`, got "
            f"{list(config.field_sizes)}. To shard its existing tables, leave `field_sizes` out."
        )
    config.field_sizes = list(field_sizes)
    for module in feature_embeddings(model).values():
        module.field_sizes = list(field_sizes)
        module.fill_buffers()


def _leave_to_tables(model: nn.Module) -> None:
    """Tell DDP to leave the tables alone: it would copy the first process's rows to all."""
    names = set(sharded_tables(model))
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


def check_tables(model: nn.Module) -> None:
    """Check that a model's id tables can be sharded.

    Raises:
        ValueError: If it has none, or some that are not those of `FeatureEmbedding`.
    """
    embeddings = feature_embeddings(model)
    if not embeddings:
        raise ValueError("`shard_id_tables` must be False for a model without feature ids, got True.")
    known = {id(module.table) for module in embeddings.values()}
    plm = getattr(getattr(model, "trunk", None), "plm", None)
    plm_modules = set() if plm is None else {id(module) for module in plm.modules()}
    others = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and id(module) not in known | plm_modules
    ]
    if others:
        raise ValueError(
            "`shard_id_tables` must be False for a model with tables other than `FeatureEmbedding`, got True with "
            f"{listed(others)}."
        )


def check_shard_id_tables(model: Any, args: TrainingArguments, optimizers: Any, optimizer_class: Any) -> None:
    """Check that a trainer can train sharded tables.

    Args:
        model: The model; its tables may already be sharded.
        args: Training arguments with `shard_id_tables`.
        optimizers: As given to `Trainer`, or `None`.
        optimizer_class: The class in `optimizer_cls_and_kwargs`, or `None`.

    Raises:
        ValueError: If not; the message says why.

    Warns:
        UserWarning: If there is only one process, so nothing is sharded.
    """
    wanted = "`shard_id_tables` must be False with"
    if model is None:
        raise ValueError(f"{wanted} `model_init`: shard the tables of a `model` instead.")
    if (engine := engine_of_sharding(args)) is not None:
        raise ValueError(f"{wanted} {engine}, which shards all weights, got True.")
    if isinstance(model, (PeftModel, PeftMixedModel)) or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(f"{wanted} PEFT adapters, whose checkpoints copy the tables, got True.")
    if (optimizers or (None, None))[0] is not None:
        raise ValueError(f"{wanted} `optimizers`: sharded rows have a separate optimizer (SparseAdam), got True.")
    if optimizer_class is not None and is_optimizer_factory(optimizer_class):
        raise ValueError(
            f"{wanted} a factory in `optimizer_cls_and_kwargs`: sharded rows have a separate optimizer "
            "(SparseAdam), got True."
        )
    if args.fp16:
        raise ValueError(f"{wanted} `fp16`: processes would skip different steps. Use `bf16`.")
    if args.save_on_each_node:
        raise ValueError(f"{wanted} `save_on_each_node`: all processes write into one file, got True.")
    if args.parallel_mode == ParallelMode.NOT_DISTRIBUTED:
        raise ValueError(f"{wanted} several devices in one process: start one process per device, got True.")
    if not has_sharded_tables(model):
        check_tables(unwrap_model(model))
    if args.world_size == 1:
        warn_at_caller(
            "`shard_id_tables` has no effect in a single process, which holds all rows. Start several with "
            "`accelerate launch` or torchrun."
        )
