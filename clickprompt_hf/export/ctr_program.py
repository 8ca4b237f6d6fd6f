# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The CTR part of a click model as one program, from ids and vectors to click probabilities, for any batch size.

Shapes: B batch, C columns of ids, S entries of all vectors.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..click_probabilities import corrected_probabilities
from ..modeling_clickprompt import ClickPromptForCTR
from ..warnings_clickprompt import filtered_logs

# ONNX files are protobuf, which is limited to 2 GiB
_LARGEST_SINGLE_FILE = 2**30


class ClickProbability(nn.Module):
    """The CTR part of a click model alone: P(click) from feature ids and vectors.

    Args:
        model: A click model whose fusion has a CTR logit; its CTR part is put into evaluation mode.

    Raises:
        ValueError: If the fusion has no CTR logit.
    """

    def __init__(self, model: ClickPromptForCTR):
        super().__init__()
        if model.ctr_head is None:
            raise ValueError(
                f"`fusion` must have a CTR logit to export, got {model.config.fusion!r}, which scores the text only."
            )
        self.ctr, self.ctr_head, self.config = model.clickprompt.ctr, model.ctr_head, model.config
        self.eval()

    def forward(self, feature_ids: torch.Tensor, *feature_vectors: torch.Tensor) -> torch.Tensor:
        """Compute probabilities (B,) from feature_ids (B, C) and, with fields of vectors, feature_vectors (B, S)."""
        logits = self.ctr_head(self.ctr(feature_ids, *feature_vectors), feature_ids, *feature_vectors)
        return corrected_probabilities(logits, self.config).squeeze(-1)


def torch_export(model: ClickPromptForCTR) -> torch.export.ExportedProgram:
    """Export the CTR part of `model` as a torch program: `program.module()(feature_ids)` returns probabilities (B,).

    With fields of vectors, the program takes `feature_vectors` as a second argument.

    Raises:
        ValueError: If the fusion of `model` has no CTR logit.
    """
    inputs, batch = random_inputs(model, num_rows=2), {0: torch.export.Dim("batch")}
    shapes: dict[str, Any] = {"feature_ids": batch}
    if len(inputs) > 1:
        # any number of inputs may follow in the signature
        shapes["feature_vectors"] = (batch,)
    return torch.export.export(ClickProbability(model), inputs, dynamic_shapes=shapes)


def write_onnx(
    program: torch.export.ExportedProgram, path: Path, fingerprint: str, input_names: Sequence[str] = ()
) -> None:
    """Write a program as an ONNX model, from `feature_ids` (B, C) int64 to `probability` (B,) float32.

    With fields of vectors, `feature_vectors` (B, S) float32 is its second input.

    Args:
        program: Result of `torch_export`, or of `fused_export`, for a model in float32.
        path: File to write; weights of more than 1 GiB go into a second file next to it.
        fingerprint: Fingerprint of the processor whose ids the model reads, for the file's metadata.
        input_names: Names of the inputs, in order; by default those of a CTR part.
    """
    names = list(input_names) or ["feature_ids", "feature_vectors"][: len(program.graph_signature.user_inputs)]
    with _without_notes_of_exporter():
        onnx_program = torch.onnx.export(
            program, input_names=names, output_names=["probability"], dynamo=True, verbose=False
        )
    assert onnx_program is not None  # for mypy: only the exporter without dynamo returns None
    onnx_program.model.metadata_props["fingerprint"] = fingerprint
    onnx_program.save(path, external_data=needs_second_file(program))


@contextmanager
def _without_notes_of_exporter() -> Iterator[None]:
    """Hide what users of this package cannot act on: that torchvision is missing, and what torch itself deprecates."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("torchvision is not installed")

    with filtered_logs(["torch.onnx._internal.exporter._registration"], is_shown), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield


def needs_second_file(program: torch.export.ExportedProgram) -> bool:
    """Whether a program's weights do not fit into one file of ONNX."""
    return sum(weights.nbytes for weights in program.state_dict.values()) > _LARGEST_SINGLE_FILE


def random_inputs(model: ClickPromptForCTR, num_rows: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Draw feature ids (B, C) and, with fields of vectors, vectors (B, S), some of them missing."""
    sizes = model.config.ctr_config.vector_sizes
    ids, generator = random_ids(model, num_rows, seed), torch.Generator().manual_seed(seed)
    if not sizes:
        return (ids,)
    missing = [torch.rand(num_rows, 1, generator=generator).expand(-1, size) < 0.2 for size in sizes]
    vectors = torch.randn(num_rows, sum(sizes), generator=generator)
    return ids, vectors.masked_fill(torch.cat(missing, dim=1), float("nan"))


def random_ids(model: ClickPromptForCTR, num_rows: int, seed: int = 0) -> torch.Tensor:
    """Draw feature ids (B, C) that `model` accepts, including empty slots (-1) of multi-valued fields."""
    config, generator = model.config.ctr_config, torch.Generator().manual_seed(seed)
    columns = [
        torch.randint(-1 if number > 1 else 0, size, (num_rows,), generator=generator)
        for size, number in zip(config.field_sizes, config.max_values or [1] * len(config.field_sizes))
        for _ in range(number)
    ]
    return torch.stack(columns, dim=1)
