# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Names that may be folders or ids on the Hub."""

from pathlib import Path


def check_folder_or_hub_id(name_or_path: str, argument: str) -> None:
    """Refuses a path that is no folder, which would be taken for the id of a model on the Hub.

    Raises:
        FileNotFoundError: If it can only be a path, and there is nothing.
    """
    is_path = name_or_path.startswith(("/", ".", "~")) or name_or_path.count("/") > 1
    if is_path and not Path(name_or_path).exists():
        raise FileNotFoundError(f"`{argument}` must be a folder or a Hub id, but there is no folder {name_or_path}.")
