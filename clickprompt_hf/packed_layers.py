# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Layers of a BERT-like PLM on the tokens of texts without padding, for CPUs.

Rows are sorted by the length of their text, so that the tokens of all rows are one matrix for the layers' linear maps,
and rows of one length are a block for attention, without a mask.

Shapes: B batch, U distinct texts, T text tokens of the longest text, N text tokens of all rows, R positions that are
read, H PLM hidden size, A attention heads, K prompt length; b rows of one length t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

# In bf16, oneDNN compiles kernels for each new number of tokens, which takes as long as a training step.
TOKENS_STEP_IN_BF16 = 64


@dataclass(frozen=True)
class PackedRows:
    """Where the tokens of rows are, in the order of the length of their texts.

    Args:
        order: (B,), the row at each place of that order.
        lengths: (B,), numbers of tokens, in that order.
        blocks: Number of rows and their length, for each length.
        starts: (B,), place of each row's first token among the N, in that order.
        tokens: (N,), where each token is among the U · T positions of the texts; the last ones may be copies of
            the first.
    """

    order: torch.Tensor
    lengths: torch.Tensor
    blocks: list[tuple[int, int]]
    starts: torch.Tensor
    tokens: torch.Tensor

    @classmethod
    def of(cls, attention_mask: torch.Tensor, text_rows: torch.Tensor, step: int = 1) -> "PackedRows":
        """Sort rows.

        Args:
            attention_mask: (U, T), 1 at text, 0 at padding, which is on the right.
            text_rows: (B,), the text of each row.
            step: N is filled up to a multiple of it.
        """
        lengths, order = attention_mask.sum(dim=1)[text_rows].sort(stable=True)
        distinct, counts = lengths.unique_consecutive(return_counts=True)
        starts = lengths.cumsum(0) - lengths
        firsts = text_rows[order] * attention_mask.shape[1] - starts
        tokens = torch.arange(int(lengths.sum())) + firsts.repeat_interleave(lengths)
        # copies of the first token, to which no row attends
        tokens = torch.cat([tokens, tokens[:1].expand(-len(tokens) % step)])
        return cls(order, lengths, list(zip(counts.tolist(), distinct.tolist())), starts, tokens)

    @property
    def numbers(self) -> list[int]:
        """Numbers of rows of the blocks."""
        return [number for number, _ in self.blocks]

    def split_tokens(self, states: torch.Tensor) -> list[torch.Tensor]:
        """States (N, H) to those (b, t, H) of each block."""
        sizes = [number * length for number, length in self.blocks]
        parts = states[: sum(sizes)].split(sizes)
        return [part.unflatten(0, block) for part, block in zip(parts, self.blocks)]

    def places(self, positions: torch.Tensor) -> torch.Tensor:
        """Text positions (B, R), of the rows as they were, to places (B, R) among the N tokens, of the sorted rows.

        Positions at padding become that of the last token.
        """
        sorted_positions = positions.index_select(0, self.order)
        return self.starts[:, None] + sorted_positions.minimum(self.lengths[:, None] - 1)

    def unsorted(self, values: torch.Tensor) -> torch.Tensor:
        """Values (B, ...) of the sorted rows to those of the rows as they were."""
        return values.index_select(0, self.order.argsort())


def can_pack(
    layers: Sequence[Any], states: torch.Tensor, attention_mask: torch.Tensor | None, own_hook: Callable[..., Any]
) -> bool:
    """Whether the layers can run on the text states (U, T, H) without padding, which needs their mask (U, T).

    Not on accelerators, where many small blocks are slow; nor while the model is traced or compiled, as lengths would
    become constants; nor if a layer's own call must not be replaced, as with gradient checkpointing or hooks of
    accelerate, FSDP or a user.

    Args:
        layers: Layers of a BERT-like PLM.
        states: (U, T, H)
        attention_mask: (U, T), or `None`.
        own_hook: Pre-hook that a layer may have, since `run_packed_layers` does its work.
    """
    if (
        states.device.type != "cpu"
        or attention_mask is None
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
    ):
        return False
    if not all(
        _is_plain(layer, own_hook) and not (layer.gradient_checkpointing and layer.training) for layer in layers
    ):
        return False
    # each text starts at the left and has no gaps
    return bool(attention_mask[:, 0].all() and (attention_mask[:, 1:] <= attention_mask[:, :-1]).all())


def _is_plain(module: Any, own_hook: Callable[..., Any] | None = None) -> bool:
    """Whether a call of the module runs its class's `forward` and nothing else."""
    hooks = {*module._forward_hooks.values(), *module._forward_pre_hooks.values()} - {own_hook}
    # accelerate replaces the method of the object
    return not hooks and "forward" not in vars(module)


def run_packed_layers(
    layers: Sequence[Any],
    states: torch.Tensor,
    attention_mask: torch.Tensor,
    text_rows: torch.Tensor | None,
    prompts: torch.Tensor,
    read_positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run consecutive layers on texts and prompts.

    Args:
        layers: The layers of a BERT-like PLM, such that `can_pack`.
        states: (U, T, H), the texts' states below these layers.
        attention_mask: (U, T), 1 at text, 0 at padding.
        text_rows: (B,), the text of each row; `None` if row i has text i.
        prompts: (B, layers, 2, A, K, H / A), keys and values of each layer.
        read_positions: (B, R), text positions whose last state to return; `None` for all T.

    Returns:
        (B, T, H), zeros at padding, or (B, R, H).
    """
    # rows share the tokens of their text; in training, adding up the gradients takes longer than it saves
    shared = text_rows is not None and not torch.is_grad_enabled()
    if text_rows is None:
        text_rows = torch.arange(states.shape[0])
    step = TOKENS_STEP_IN_BF16 if torch.is_autocast_enabled("cpu") else 1
    rows = PackedRows.of(attention_mask, text_rows, step)
    prompts_by_layer = prompts.index_select(0, rows.order).unbind(dim=1)
    texts = states.flatten(0, 1)
    tokens = texts.index_select(0, rows.tokens)
    for number, (layer, own_prompts) in enumerate(zip(layers, prompts_by_layer)):
        if read_positions is not None and number == len(layers) - 1:
            return rows.unsorted(_run_at(rows.places(read_positions), layer, tokens, own_prompts, rows))
        attention = layer.attention.self
        projections = attention.query, attention.key, attention.value
        if number == 0 and shared:
            queries, keys, values = (project(texts).index_select(0, rows.tokens) for project in projections)
        else:
            queries, keys, values = (project(tokens) for project in projections)
        context = _attend(attention, rows.split_tokens(queries), keys, values, own_prompts, rows)
        context = F.pad(context, (0, 0, 0, len(tokens) - len(context)))
        tokens = _finish(layer, context, tokens)
    padded = tokens.new_zeros(len(rows.order), attention_mask.shape[1], tokens.shape[-1])
    is_text = torch.arange(attention_mask.shape[1]) < rows.lengths[:, None]
    return rows.unsorted(padded.masked_scatter(is_text.unsqueeze(-1), tokens[: int(rows.lengths.sum())]))


def _run_at(
    places: torch.Tensor, layer: Any, tokens: torch.Tensor, prompts: torch.Tensor, rows: PackedRows
) -> torch.Tensor:
    """Output (B, R, H) of a layer at some places (B, R) of its input (N, H)."""
    attention = layer.attention.self
    # (N, H) -> (B, R, H)
    states = tokens.index_select(0, places.flatten()).unflatten(0, places.shape)
    queries = attention.query(states)
    # adapters and quantized weights have other classes
    are_linear = all(type(module) is nn.Linear and _is_plain(module) for module in (attention.key, attention.value))
    if places.shape[1] == 1 and are_linear:
        context = _attend_from_one(attention, queries.squeeze(1), tokens, prompts, rows)
    else:
        keys, values = attention.key(tokens), attention.value(tokens)
        context = _attend(attention, queries.split(rows.numbers), keys, values, prompts, rows)
    return _finish(layer, context.view_as(states), states)


def _finish(layer: Any, context: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """What a layer does after attention, to its context and its input, (..., H) each."""
    attended = layer.attention.output(context, states)
    return layer.output(layer.intermediate(attended), attended)


def _attend(
    attention: Any,
    queries: Sequence[torch.Tensor],
    keys: torch.Tensor,
    values: torch.Tensor,
    prompts: torch.Tensor,
    rows: PackedRows,
) -> torch.Tensor:
    """Attend to prompts and text.

    Args:
        attention: The layer's attention.
        queries: (b, r, H) of each block.
        keys: (N, H)
        values: (N, H)
        prompts: (B, 2, A, K, H / A)
        rows: Has the blocks.

    Returns:
        Contexts of all queries, one row after another, (sum of b · r, H).
    """
    by_head = prompts.shape[2], prompts.shape[-1]
    contexts = []
    blocks = zip(queries, rows.split_tokens(keys), rows.split_tokens(values), prompts.split(rows.numbers))
    for own_queries, own_keys, own_values, own_prompts in blocks:
        # (b, t, H) -> (b, A, t, H / A)
        query, key, value = (
            states.unflatten(-1, by_head).transpose(1, 2) for states in (own_queries, own_keys, own_values)
        )
        prompt_keys, prompt_values = own_prompts.to(key.dtype).unbind(dim=1)
        # (b, A, r, K + t)
        weights = _weights(attention, query @ torch.cat([prompt_keys, key], dim=2).transpose(2, 3))
        context = weights.to(value.dtype) @ torch.cat([prompt_values, value], dim=2)
        # (b, A, r, H / A) -> (b · r, H)
        contexts.append(context.transpose(1, 2).flatten(2).flatten(0, 1))
    return torch.cat(contexts)


def _attend_from_one(
    attention: Any, queries: torch.Tensor, tokens: torch.Tensor, prompts: torch.Tensor, rows: PackedRows
) -> torch.Tensor:
    r"""Attend from one position per row, with queries (B, H), to prompts and text; return contexts (B, H).

    Keys and values of the text are not computed: \\(q \cdot (W x + b) = (W^T q) \cdot x + q \cdot b\\), and
    \\(\sum_i p_i (W x_i + b) = W \sum_i p_i x_i + b \sum_i p_i\\). For t tokens, that is 2 instead of 2 t products
    of H².
    """
    num_heads, num_prompts, head_size = prompts.shape[2:]
    queries = queries.unflatten(-1, (num_heads, head_size))
    # (H, H) -> (A, H / A, H), and (H,) -> (A, H / A)
    key_maps, value_maps = (m.weight.unflatten(0, (num_heads, head_size)) for m in (attention.key, attention.value))
    key_bias, value_bias = (m.bias.unflatten(0, (num_heads, head_size)) for m in (attention.key, attention.value))
    # (A, B, H / A) @ (A, H / A, H) -> (B, A, H)
    mapped = torch.bmm(queries.transpose(0, 1), key_maps).transpose(0, 1)
    prompt_keys, prompt_values = prompts.to(queries.dtype).unbind(dim=1)
    # (B, A, K, H / A) @ (B, A, H / A, 1) -> (B, A, K); (B, A, 1)
    prompt_scores = (prompt_keys @ queries.unsqueeze(-1)).squeeze(-1)
    offsets = (queries * key_bias).sum(dim=-1, keepdim=True)
    means, prompt_weights, text_sums = [], [], []
    blocks = zip(rows.split_tokens(tokens), *(part.split(rows.numbers) for part in (mapped, prompt_scores, offsets)))
    for own_tokens, own_mapped, own_scores, own_offsets in blocks:
        # (b, A, H) @ (b, H, t) -> (b, A, t)
        scores = own_mapped @ own_tokens.transpose(1, 2).to(own_mapped.dtype) + own_offsets
        weights = _weights(attention, torch.cat([own_scores.to(scores.dtype), scores], dim=-1)).to(mapped.dtype)
        own_weights, text_weights = weights.split([num_prompts, scores.shape[-1]], dim=-1)
        prompt_weights.append(own_weights)
        text_sums.append(text_weights.sum(dim=-1, keepdim=True))
        # (b, A, t) @ (b, t, H) -> (b, A, H)
        means.append(text_weights @ own_tokens.to(text_weights.dtype))
    # (A, B, H) @ (A, H, H / A) -> (B, A, H / A)
    context = torch.bmm(torch.cat(means).transpose(0, 1), value_maps.transpose(1, 2)).transpose(0, 1)
    context = context + torch.cat(text_sums) * value_bias
    # (B, A, 1, K) @ (B, A, K, H / A) -> (B, A, H / A)
    context = context + (torch.cat(prompt_weights).unsqueeze(2) @ prompt_values).squeeze(2)
    return context.flatten(1)


def _weights(attention: Any, scores: torch.Tensor) -> torch.Tensor:
    """Scores (..., keys) to attention weights, with dropout in training."""
    return F.dropout(torch.softmax(scores * attention.scaling, dim=-1), attention.dropout.p, attention.training)
