# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The model under its wrappers, and what it is: models of a checkpoint's own code count like the package's."""

from typing import Any, Literal

from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers.trainer_utils import unwrap_peft_model

Task = Literal["clicks", "masked tokens", "next tokens"]
# also the names in the code that checkpoints hold, whose classes are not those of this package
_TASKS: dict[str, Task] = {
    "ClickPromptForCTR": "clicks",
    "ClickPromptForPACLM": "next tokens",
    "ClickPromptForPAMLM": "masked tokens",
    "ClickPromptForPretraining": "masked tokens",
}


def unwrap_model(model: nn.Module) -> Any:
    """Return the model under `torch.compile`, adapters of PEFT and wrappers of distributed training, in any order."""
    inner = unwrap_peft_model(extract_model_from_parallel(model, keep_torch_compile=False))
    return model if inner is model else unwrap_model(inner)


def task_of(model: nn.Module) -> Task:
    """Return what a model predicts, by the names of its classes; `"clicks"` for models that are not ours."""
    names = [base.__name__ for base in type(unwrap_model(model)).__mro__]
    return next((_TASKS[name] for name in names if name in _TASKS), "clicks")


def is_named(instance: Any, name: str) -> bool:
    """Whether an object is of a class of this name, be it the package's or that of a checkpoint's own code."""
    return any(base.__name__ == name for base in type(instance).__mro__)
