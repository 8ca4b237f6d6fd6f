"""Reads reference outputs of the authors' implementation and builds our models from its weights."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from clickprompt_hf.export.convert_original import convert_original_checkpoint

FIXTURES = Path(__file__).parent / "fixtures"


class Reference:
    """One reference file: its `tensors` by name, and our model with its weights, in evaluation mode."""

    def __init__(self, name: str, folder: Path = FIXTURES, attn_implementation: str = "sdpa"):
        with safe_open(folder / f"{name}.safetensors", "pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.metadata = file.metadata()
        self.field_sizes = json.loads(self.metadata["field_sizes"])
        self.model = convert_original_checkpoint(self.state_dict, self.metadata)
        if self.model.config.use_plm:
            self.model.set_attn_implementation(attn_implementation)

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights of the authors' model."""
        return {key.removeprefix("model."): v for key, v in self.tensors.items() if key.startswith("model.")}

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Inputs of our model; global ids become per-field ids."""
        offsets = torch.tensor([0, *self.field_sizes[:-1]]).cumsum(0)
        task = self.metadata["task"]
        return {
            "feature_ids": self.tensors["input.ctr_input_ids"] - offsets,
            "input_ids": self.tensors["input.mlm_input_ids" if task == "mlm" else "input.input_ids"],
            "attention_mask": self.tensors["input.attention_mask"],
            "labels": self.tensors["input.mlm_labels" if task == "mlm" else "input.labels"],
        }

    @property
    def expected(self) -> dict[str, torch.Tensor]:
        """Expected `probability`, `loss` and `prompts`, and gradients under `grad.`."""
        outputs = {k.removeprefix("output."): v for k, v in self.tensors.items() if k.startswith("output.")}
        return {**outputs, **{k: v for k, v in self.tensors.items() if k.startswith("grad.")}}
