# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The CTR part of a click model as one graph, feature ids to click probabilities, for any batch size.

Shapes: B batch, C columns of ids.
"""

from pathlib import Path

import torch
from torch import nn

from ..modeling_clickprompt import ClickPromptForCTR

# protobuf, in which a graph is written, holds 2 GiB
_LARGEST_SINGLE_FILE = 2**30


class ClickProbability(nn.Module):
    """The CTR side of a click model alone: ids to P(click). Puts it into evaluation mode.

    Args:
        model: A click model whose fusion has a CTR logit.

    Raises:
        ValueError: If it has none.
    """

    def __init__(self, model: ClickPromptForCTR):
        super().__init__()
        if model.ctr_head is None:
            raise ValueError(
                f"`fusion` must have a CTR logit to export, got {model.config.fusion!r}: only the text is scored."
            )
        self.ctr, self.ctr_head = model.clickprompt.ctr, model.ctr_head
        self.eval()

    def forward(self, feature_ids: torch.Tensor) -> torch.Tensor:
        """feature_ids (B, C) int64 to probabilities (B,)."""
        return torch.sigmoid(self.ctr_head(self.ctr(feature_ids), feature_ids)).squeeze(-1)


def torch_export(model: ClickPromptForCTR) -> torch.export.ExportedProgram:
    """The CTR part of `model` as a program for any batch size: `program.module()(feature_ids)` are probabilities (B,).

    Raises:
        ValueError: If the fusion of `model` has no CTR logit.
    """
    return torch.export.export(
        ClickProbability(model),
        (random_ids(model, num_rows=2),),
        dynamic_shapes={"feature_ids": {0: torch.export.Dim("batch")}},
    )


def write_onnx(program: torch.export.ExportedProgram, path: Path, fingerprint: str) -> None:
    """Writes a program of `torch_export` as ONNX: `feature_ids` (B, C) int64 to `probability` (B,) float32.

    Args:
        program: Of a model in float32.
        path: The file; weights of more than 1 GiB go into a second one beside it.
        fingerprint: Of the processor whose ids the graph reads; kept in its metadata.
    """
    graph = torch.onnx.export(
        program, input_names=["feature_ids"], output_names=["probability"], dynamo=True, verbose=False
    )
    assert graph is not None  # what the other exporter gives
    graph.model.metadata_props["fingerprint"] = fingerprint
    size = sum(weights.nbytes for weights in program.state_dict.values())
    graph.save(path, external_data=size > _LARGEST_SINGLE_FILE)


def random_ids(model: ClickPromptForCTR, num_rows: int, seed: int = 0) -> torch.Tensor:
    """Feature ids (B, C) of rows that `model` may meet, empty slots of multi-valued fields among them."""
    config, generator = model.config.ctr_config, torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(-1 if number > 1 else 0, size, (num_rows,), generator=generator)
        for size, number in zip(config.field_sizes, config.max_values or [1] * config.num_fields)
        for _ in range(number)
    ]
    return torch.stack(columns, dim=1)
