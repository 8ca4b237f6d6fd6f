# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Training on the workers of a Spark cluster."""

from collections.abc import Sequence
from typing import Any

from .engines import require_engine
from .spark_workers import check_workers
from .training_command import Command, check_command, run_command, with_restarts


def train(
    arguments: Sequence[str],
    num_processes: int,
    local_mode: bool = False,
    use_gpu: bool = False,
    command: Command = "finetune",
    max_restarts: int = 0,
) -> dict[str, Any] | None:
    """Train with `pyspark.ml.torch.distributor.TorchDistributor`, in processes that Spark starts and joins.

    Each process runs `clickprompt finetune` with the same arguments, as under `torchrun`. Folders in the arguments,
    above all `--output_dir` and `--prepared`, must be on a disk that all workers share.

    Args:
        arguments: Command line of `clickprompt finetune` or `clickprompt pretrain`, as a list.
        num_processes: Number of processes, at least 1; with GPUs, of GPUs.
        local_mode: Whether the processes run on the driver's machine instead of the workers.
        use_gpu: Whether each process gets its own GPU from Spark.
        command: `"finetune"` or `"pretrain"`.
        max_restarts: How often to restart a failed training, from its last checkpoint if this process finds one in
            `--output_dir`.

    Returns:
        The metrics that the command returns in the first process.

    Raises:
        ImportError: If Spark is missing; the message names the extra.
        ValueError: If an argument is wrong, as `check_command` says.
        RuntimeError: If a worker lacks this package, or training failed.
    """
    require_engine("pyspark", "spark")
    from pyspark.errors import PySparkException
    from pyspark.ml.torch.distributor import TorchDistributor
    from pyspark.sql import SparkSession

    given = check_command(command, arguments, num_processes, max_restarts)
    session = SparkSession.active()
    if not local_mode:
        check_workers(session.sparkContext, ["clickprompt_hf", "torch"])
    distributor = TorchDistributor(num_processes, local_mode, use_gpu)
    failures = (RuntimeError, PySparkException)
    return with_restarts(lambda given: distributor.run(run_command, command, given), given, max_restarts, failures)
