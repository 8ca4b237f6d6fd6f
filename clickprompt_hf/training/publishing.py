# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What a trainer uploads to the Hub: its model card, and no file that others should not load."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import httpx
from peft import PeftModel
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..whole_files import remove_partial, whole_file

# Trials' checkpoints, which hold pickles, and unfinished files.
_UNPUBLISHED = (f"*/{PREFIX_CHECKPOINT_DIR}-*", "*/.*.partial", ".*.parts")


class PublishingTrainer(Trainer):
    """A `Trainer` that writes its own model card, and says what keeps it from publishing."""

    model_card: Callable[..., ModelCard] | None = None

    def init_hf_repo(self, token=None, private=None):
        with _explained_hub_errors(self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name):
            super().init_hf_repo(token, private)

    def push_to_hub(self, *args, **kwargs):
        """Save the model, write the model card and upload the output folder.

        Checkpoints and files whose names begin with an underscore stay local. The arguments are those of
        `Trainer.push_to_hub`, which passes keyword arguments on to `create_model_card`.

        Raises:
            OSError: If the Hub cannot be reached or refuses the upload.
            ValueError: If the output folder holds checkpoints of a search's trials or unfinished predictions.
        """
        if self.args.should_save:
            _check_publishable(Path(str(self.args.output_dir)))
        with _explained_hub_errors(self.hub_model_id or self.args.hub_model_id or ""):
            return super().push_to_hub(*args, **kwargs)

    def create_model_card(self, **options) -> None:  # type: ignore[override]  # both kinds of card take keywords
        """Write the model card, `README.md` in the output folder: that of `model_card`, or `Trainer`'s.

        Args:
            options: Keyword arguments of `model_card` or of `Trainer.create_model_card`: `license`, `tags`, ...
        """
        if self.model_card is None or isinstance(self.accelerator.unwrap_model(self.model), PeftModel):
            super().create_model_card(**options)
        elif self.is_world_process_zero():
            folder = Path(str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / "README.md") as partial:
                self.model_card(self, **options).save(partial)


def _check_publishable(folder: Path) -> None:
    """Remove leftovers of killed writers from a folder, and refuse other private files that `Trainer` would upload.

    `Trainer` leaves out only what is named `checkpoint-*` or `_*` in the folder itself.
    """
    remove_partial(folder)
    found = [path.relative_to(folder) for pattern in _UNPUBLISHED for path in folder.glob(pattern)]
    if private := sorted(str(path) for path in found if not path.parts[0].startswith(("_", PREFIX_CHECKPOINT_DIR))):
        raise ValueError(
            f"`push_to_hub` would publish {', '.join(private)}: move or remove these, or finish the `clickprompt "
            f"predict` that writes into {folder}."
        )


@contextmanager
def _explained_hub_errors(hub_id: str) -> Iterator[None]:
    """Turn connection errors into an `OSError` that names the model and the Hub."""
    try:
        yield
    except (httpx.HTTPError, ConnectionError, LocalTokenNotFoundError) as error:
        raise OSError(
            f"`push_to_hub` could not publish {hub_id} on {constants.ENDPOINT}. Log in with `hf auth login`, check "
            f"the network, or leave `push_to_hub` out. The error: {error}"
        ) from error
