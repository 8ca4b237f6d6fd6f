# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Names that may be local folders or ids on the Hub."""

import os
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx
from transformers.utils import CONFIG_NAME, cached_file


def check_folder_or_hub_id(name_or_path: str, argument: str) -> None:
    """Reject a local folder without a model, and a Hub id that cannot be read.

    Args:
        name_or_path: The name.
        argument: The argument it was given as, for the message.

    Raises:
        FileNotFoundError: If it looks like a path and there is no such folder, or the folder holds no model.
        OSError: If it is not a folder and the Hub has no such model, or cannot be reached.
    """
    if Path(name_or_path).is_dir():
        if not (Path(name_or_path) / CONFIG_NAME).is_file():
            raise FileNotFoundError(
                f"`{argument}` must be the folder of a model, but {name_or_path} has no {CONFIG_NAME}."
            )
        return
    if looks_like_a_path(name_or_path):
        raise FileNotFoundError(
            f"`{argument}` must be a local folder or a Hub id, but there is no folder {name_or_path}."
        )
    try:
        cached_file(name_or_path, CONFIG_NAME, local_files_only=not _can_reach_hub(name_or_path))
    except OSError as error:
        raise OSError(
            f"`{argument}` must be a local folder or a Hub id, but there is no folder {name_or_path}, and it cannot "
            f"be read from the Hub: {error}"
        ) from error


def _can_reach_hub(hub_id: str) -> bool:
    """Whether the Hub answers. Asks once: without a network, `cached_file` retries for 24 seconds."""
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, CONFIG_NAME))
    except (httpx.ConnectError, httpx.ConnectTimeout, OfflineModeIsEnabled):
        return False
    except (httpx.HTTPError, HfHubHTTPError, HFValidationError):
        # `cached_file` knows whether to try again, or what is wrong
        return True
    return True


def looks_like_a_path(name: str) -> bool:
    """Whether a name is a path rather than a Hub id, which has one slash at most."""
    first, *_ = name.split("/")
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
        or ("/" in name and Path(first).is_dir())
        or os.path.exists(name)
    )
