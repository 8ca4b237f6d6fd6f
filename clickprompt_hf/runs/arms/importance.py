# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""How many test rows the arms of a comparison measure field importance on, and what the report says about it."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig

from ...plm_loading import build_plm
from ..plms import text_side_config
from .bench import Bench

MOST_ROWS, PERMUTATIONS = 2_000, 2
# With fewer rows, chance moves an AUC by 0.04 (one standard error): more than most fields do.
LEAST_ROWS = 200
# What an arm's PLM may compute to read permuted texts: about five minutes of a CPU core, or two of a server's GPU.
_MOST_FLOP, _MOST_ACCELERATOR_FLOP = 2e13, 1e16
# Texts that become vectors are truncated to this many tokens.
_MOST_TOKENS = 512


def importance_rows(bench: Bench) -> int:
    """Number of test rows on which every arm of a comparison measures field importance; 0 if it would cost too much.

    It depends neither on the arms nor on the machine's speed, so arms added later use the same rows. The estimate is
    for the most expensive arm, one with prompts: a forward pass takes two operations per parameter of the PLM's layers
    and token. Permuting one of several columns in the text makes new texts, which all layers read; otherwise texts
    repeat, and the layers below the prompts read them once.

    Args:
        bench: What the arms share.
    """
    most = min(MOST_ROWS, len(bench.clicks["test"]))
    if bench.model_args.plm_name_or_path is None:
        return most
    rows = int(_budget(bench) / _flop_per_row(bench))
    return 0 if rows < min(LEAST_ROWS, most) else min(rows, most)


def _budget(bench: Bench) -> float:
    return _MOST_FLOP if bench.training_args.device.type == "cpu" else _MOST_ACCELERATOR_FLOP


def _flop_per_row(bench: Bench) -> float:
    """Operations of the PLM to measure all fields, per test row."""
    schema = bench.data.processor.schema
    in_text = {schema.fields[f].column for f in schema.fields_in_text}
    config = text_side_config(bench.model_args, bench.data.processor.tokenizer)
    passes = 1 + PERMUTATIONS * len(schema.raw_columns)
    with_new_texts = 1 + PERMUTATIONS * len(in_text) if len(in_text) > 1 else 1
    prompted = 1 - config.num_lower_layers / config.text_config.num_hidden_layers
    tokens = np.minimum(bench.data.splits["test"].text_lengths(), _MOST_TOKENS).mean()
    of_text = 2 * _num_layer_parameters(config.text_config) * tokens
    return float(of_text * (with_new_texts + (passes - with_new_texts) * prompted))


def _num_layer_parameters(text_config: PreTrainedConfig) -> int:
    """Number of parameters of a PLM without its embeddings."""
    with torch.device("meta"):
        plm = build_plm(text_config)
    # T5 has its table of tokens in two modules
    embeddings = {id(module.weight) for module in plm.modules() if isinstance(module, nn.Embedding)}
    return sum(parameter.numel() for parameter in plm.parameters() if id(parameter) not in embeddings)


def importance_note(bench: Bench, rows: Mapping[str, int]) -> str:
    """What the report says about the rows of field importance.

    Args:
        bench: What the arms share.
        rows: Number of rows by arm; empty if it was not measured.
    """
    num_test = len(bench.clicks["test"])
    usual = min(MOST_ROWS, num_test)
    if not rows:
        if importance_rows(bench):
            return ""
        return (
            "Not measured: the PLM would have to read so many permuted texts that fewer than "
            f"{min(LEAST_ROWS, usual):,} test rows would be affordable."
        )
    numbers = sorted({*rows.values()})
    if len(numbers) > 1:
        shown = "; ".join(f"{rows[arm]:,} for {arm}" for arm in rows)
        return f"Measured on evenly spaced test rows, of {num_test:,}: {shown}."
    if numbers[0] == num_test:
        return ""
    fewer = ""
    if numbers[0] < usual:
        fewer = f" The PLM must read permuted texts anew, so these are fewer than the usual {usual:,}."
    return f"Measured on {numbers[0]:,} of the {num_test:,} test rows, evenly spaced.{fewer}"
