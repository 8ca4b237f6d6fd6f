# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tells which extra installs a missing engine."""

import importlib.util


def require_engine(module: str, extra: str) -> None:
    """Check that an engine is installed.

    Args:
        module: Its module, such as `"pyspark"`.
        extra: The extra of this package that installs it.

    Raises:
        ImportError: If it is missing; the message names the extra.
    """
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"clickprompt_hf.cluster.{extra} needs {module}, which is not installed: pip install "
            f'"clickprompt_hf[{extra}]"'
        )
