# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""A click model with its PLM as one program, from ids and tokens to click probabilities, for any batch and length.

Shapes: B batch, T text tokens, C columns of ids, S entries of all vectors.
"""

from typing import Any

import torch
from torch import nn

from ..click_probabilities import corrected_probabilities
from ..modeling_clickprompt import ClickPromptForCTR
from .ctr_program import random_inputs

# Tokens per text in the rows that the program is traced and checked with, at most.
_SAMPLE_LENGTH = 24


class FusedClickProbability(nn.Module):
    """A click model with its PLM: P(click) from feature ids, text and vectors.

    Args:
        model: A click model with a PLM; it is put into evaluation mode.

    Raises:
        ValueError: If it has no PLM.
    """

    def __init__(self, model: ClickPromptForCTR):
        super().__init__()
        if not model.config.use_plm:
            raise ValueError("`model` must have a PLM, got one with fusion='ctr': export its CTR part.")
        self.model = model
        self.eval()

    def forward(
        self,
        feature_ids: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *feature_vectors: torch.Tensor,
    ) -> torch.Tensor:
        """Compute probabilities (B,).

        Args:
            feature_ids: (B, C).
            input_ids: (B, T).
            attention_mask: (B, T), 1 for text and 0 for padding on the right.
            feature_vectors: (B, S), only with fields of vectors.
        """
        vectors = {"feature_vectors": feature_vectors[0]} if feature_vectors else {}
        inputs = {"feature_ids": feature_ids, "input_ids": input_ids, "attention_mask": attention_mask, **vectors}
        return corrected_probabilities(self.model(**inputs).logits, self.model.config).squeeze(-1)


def input_names(model: ClickPromptForCTR) -> list[str]:
    """Names of the program's inputs, in order."""
    vectors = ["feature_vectors"] if model.config.ctr_config.vector_sizes else []
    return ["feature_ids", "input_ids", "attention_mask", *vectors]


def fused_export(model: ClickPromptForCTR) -> torch.export.ExportedProgram:
    """Export a click model with its PLM as a torch program of `input_names(model)`, for any batch and text length.

    Raises:
        ValueError: If the model has no PLM.
    """
    program = FusedClickProbability(model)
    batch = {0: torch.export.Dim("batch")}
    text = {**batch, 1: torch.export.Dim("length", min=2, max=model.config.max_text_length)}
    shapes: dict[str, Any] = {"feature_ids": batch, "input_ids": text, "attention_mask": text}
    if model.config.ctr_config.vector_sizes:
        # any number of inputs may follow in the signature
        shapes["feature_vectors"] = (batch,)
    return torch.export.export(
        program,
        random_batch(model, 3),
        dynamic_shapes=shapes,
        # with grouped heads, as in Llama, torch cannot prove that strides are ordered alike for all lengths
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def random_batch(model: ClickPromptForCTR, num_rows: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Draw the inputs of `num_rows` rows, whose texts differ in length."""
    ids, *vectors = random_inputs(model, num_rows, seed)
    generator = torch.Generator().manual_seed(seed)
    longest = min(_SAMPLE_LENGTH, model.config.max_text_length or _SAMPLE_LENGTH)
    lengths = torch.randint(2, longest + 1, (num_rows,), generator=generator)
    attention_mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    tokens = torch.randint(model.config.text_config.vocab_size, attention_mask.shape, generator=generator)
    padding = model.config.text_config.pad_token_id or 0
    return ids, tokens.where(attention_mask.bool(), torch.tensor(padding)), attention_mask, *vectors
