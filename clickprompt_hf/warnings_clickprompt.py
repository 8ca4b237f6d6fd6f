# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Warnings that point at the line of the user's code that called this package, and filters of logged messages.

Ships with checkpoints and with exported folders that serve without torch: imports only the standard library.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

# Libraries through which this package calls itself, and which call it on behalf of users.
_LIBRARIES = {
    *("torch", "transformers", "accelerate", "datasets", "peft", "optuna", "pyarrow", "sklearn", "joblib"),
    # the standard library's, for decorators, context managers and threads
    *("contextlib", "functools", "concurrent", "threading"),
}


def warn_at_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, directly or through a library such as `torch` or `transformers`.

    In a thread of the package, it is the line that runs the thread.
    """
    # `skip_file_prefixes` of `warnings.warn` needs Python 3.12, and a count of frames depends on the way in
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame):
        frame = frame.f_back
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    # Python drops warnings of a module without a name, such as code that `exec` runs in an empty namespace
    module = frame.f_globals.get("__name__") or "<string>"
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _is_library(frame: FrameType) -> bool:
    """Whether a frame runs this package's code or that of a library."""
    folder = os.path.dirname(__file__) + os.sep
    library = str(frame.f_globals.get("__name__")).partition(".")[0]
    return library in _LIBRARIES or frame.f_code.co_filename.startswith(folder)


@contextmanager
def filtered_logs(names: Iterable[str], is_shown: Callable[[logging.LogRecord], bool]) -> Iterator[None]:
    """Show only some of the messages that these loggers log, until the end.

    Args:
        names: Names of the loggers.
        is_shown: Whether to show a message.
    """
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(is_shown)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_shown)
