# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What Spark's workers must have: packages, and the model, which the driver sends them.

Where workers may lack this package, functions that run on them are nested ones, which are pickled whole.
"""

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .model_archive import fingerprint_of_files, write_archive

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame


def check_workers(context: "SparkContext", modules: Collection[str]) -> None:
    """Ask workers for the packages that a job needs, before it starts.

    One small task per slot runs, so only a part of a cluster that is still growing is asked.

    Args:
        context: The cluster.
        modules: Modules that workers must have.

    Raises:
        RuntimeError: If a worker lacks one, or has another version of this package; the message names its host.
    """
    wanted = list(modules)

    def look(_: Any) -> tuple[str, list[str], str | None]:
        import importlib.metadata
        import importlib.util
        import socket

        def is_missing(name: str) -> bool:
            try:
                return importlib.util.find_spec(name) is None
            except ImportError:
                return True

        try:
            version = importlib.metadata.version("clickprompt_hf")
        except importlib.metadata.PackageNotFoundError:
            version = None
        return socket.gethostname(), [name for name in wanted if is_missing(name)], version

    slots = context.defaultParallelism
    for host, missing, version in context.parallelize(range(slots), slots).map(look).collect():
        if missing:
            raise RuntimeError(
                f"Every worker needs {', '.join(wanted)}, but {', '.join(missing)} cannot be imported on {host}. "
                "Install clickprompt_hf there, or point PYSPARK_PYTHON to a Python that has it."
            )
        if "clickprompt_hf" in wanted and version not in (None, __version__):
            raise RuntimeError(
                f"Every worker needs clickprompt_hf {__version__}, as on the driver, but {host} has {version}."
            )


def send_model(context: "SparkContext", folder: str | Path) -> str:
    """Send a model's files to all workers, including those that start later.

    Returns:
        The name of the folder below `SparkFiles.getRootDirectory()` on every worker; the same for the same files.

    Raises:
        OSError: If the folder cannot be read, or the driver has no room for its copy.
    """
    name = f"clickprompt-model-{fingerprint_of_files(folder)}"
    if not any(archive.endswith(f"#{name}") for archive in context.listArchives):
        # workers that start later fetch it as long as the application runs
        copy = Path(tempfile.mkdtemp(prefix="clickprompt-"))
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
        write_archive(folder, copy / f"{name}.zip")
        context.addArchive(f"{copy / name}.zip#{name}")
    return name


def with_plain_names(rows: "DataFrame") -> "DataFrame":
    """The data frame with numbers as names of its columns: `mapInArrow` cannot find names that hold dots."""
    return rows.toDF(*(f"column_{number}" for number in range(len(rows.columns))))


@contextmanager
def without_pandas_warning() -> Iterator[None]:
    """Silence Spark's warning about new versions of pandas: Arrow batches bypass pandas."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield
