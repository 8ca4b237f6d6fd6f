# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks the inputs of a model's forward: that none is missing, and that shapes fit each other and the model.

Shapes: B batch, U texts, G rows of ids, C columns of ids, S entries of all vectors, T text tokens, H PLM hidden size.
"""

import torch

from .configuration_clickprompt import ClickPromptConfig


def check_inputs(
    config: ClickPromptConfig,
    feature_ids: torch.Tensor | None,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    *,
    text_states: torch.Tensor | None,
    text_rows: torch.Tensor | None,
    feature_rows: torch.Tensor | None,
    feature_vectors: torch.Tensor | None,
) -> None:
    """Check the inputs of `ClickPromptModel.forward`, which describes them.

    Raises:
        ValueError: If one that the model needs is missing, or does not fit the others or the PLM's positions.
    """
    for name, rows in (("text_rows", text_rows), ("feature_rows", feature_rows)):
        if rows is not None:
            _check_integers(name, rows, "(B,)")
    # shapes rather than lengths: tracing keeps those symbolic
    of_ids = of_text = None
    if config.use_ctr:
        if feature_ids is None:
            raise ValueError("`feature_ids` must be given: this model uses them.")
        _check_integers("feature_ids", feature_ids, "(G, C)")
        _check_vectors(config, feature_ids, feature_vectors)
        of_ids = (feature_ids if feature_rows is None else feature_rows).shape[0]
    if config.use_plm:
        text = _checked_text(config, input_ids, attention_mask, text_states)
        of_text = (text if text_rows is None else text_rows).shape[0]
    if of_ids is not None and of_text is not None and of_ids != of_text:
        raise ValueError(
            "Text (`text_rows`, else one text per row) and ids (`feature_rows`, else `feature_ids`) must be of "
            f"the same rows, got {of_text} of text and {of_ids} of ids."
        )


def check_has_lower_layers(config: ClickPromptConfig, name: str) -> None:
    """Raise a ValueError that names the argument or method `name` if the PLM has no layers below the prompts."""
    if not config.num_lower_layers:
        layers = f"{config.text_config.num_hidden_layers} layers" if config.use_plm else "number of layers"
        raise ValueError(
            f"`{name}` needs PLM layers below the prompts: `prompt_depth` must be below the PLM's {layers}, and "
            f"`prompt_strategy` 'layerwise' or 'none'; got prompt_depth={config.prompt_depth}, "
            f"prompt_strategy={config.prompt_strategy!r} and fusion={config.fusion!r}."
        )


def check_click_labels(labels: torch.Tensor, num_rows: int) -> None:
    """Check clicks, of which B = `num_rows` are expected.

    Values are checked on the CPU only: reading them from a GPU would wait for it at every step.

    Raises:
        ValueError: If the shape is not (B,), or a label is not 0, 1 or -100.
    """
    if labels.shape != (num_rows,):
        raise ValueError(f"`labels` must be one click per row, ({num_rows},), got {tuple(labels.shape)}.")
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    known = (labels == 0) | (labels == 1) | (labels == -100)
    if not known.all():
        raise ValueError(
            "`labels` must be 0 or 1, or -100 for rows to leave out of the loss, got "
            f"{labels[~known][0].item():g}. A schema's `positive` says which value is a click."
        )


def check_token_labels(labels: torch.Tensor, text: torch.Tensor | None, text_rows: torch.Tensor | None) -> None:
    """Raise a ValueError unless labels of tokens are integers (B, T), as the text (U, T, ...) and its rows (B,)."""
    _check_integers("labels", labels, "(B, T)")
    if text is None:
        # the trunk reports a missing text
        return
    shape = ((text if text_rows is None else text_rows).shape[0], text.shape[1])
    if labels.shape != shape:
        raise ValueError(f"`labels` must be one per token, {shape}, got {tuple(labels.shape)}.")


def check_pooled_layers(config: ClickPromptConfig) -> None:
    """Raise a ValueError if `pooling` reads a layer below the states that `text_states` hold."""
    if config.pooling == "mean_first_last" and config.num_lower_layers > 1:
        raise ValueError(
            "`pooling` must not be 'mean_first_last' with `text_states`: it reads the first layer, but these are "
            f"states after layer {config.num_lower_layers}. Pass `input_ids`."
        )


def check_text_length(config: ClickPromptConfig, input_ids: torch.Tensor) -> None:
    """Raise a ValueError if texts (U, T), with prompts where those take positions, exceed the PLM's positions."""
    limit = config.max_text_length
    if limit is None or input_ids.shape[1] <= limit:
        return
    fit = "fits" if config.num_lower_layers else f"and {config.num_prompts} prompts fit"
    raise ValueError(
        f"`input_ids` must have at most {limit} tokens per row, so that the text {fit} the PLM's positions; got "
        f"{input_ids.shape[1]}."
    )


def _check_vectors(config: ClickPromptConfig, feature_ids: torch.Tensor, feature_vectors: torch.Tensor | None) -> None:
    sizes = config.ctr_config.vector_sizes
    if feature_vectors is None and not sizes:
        return
    if feature_vectors is None or not sizes:
        expected = f"given: the model has vectors of the sizes {sizes}" if sizes else "left out: the model has none"
        raise ValueError(f"`feature_vectors` must be {expected}.")
    shape, found = (feature_ids.shape[0], sum(sizes)), tuple(feature_vectors.shape)
    if found != shape or not feature_vectors.is_floating_point():
        raise ValueError(
            f"`feature_vectors` must be floating-point numbers {shape}, a row of vectors per row of "
            f"`feature_ids`, got {feature_vectors.dtype} {found}."
        )


def _checked_text(
    config: ClickPromptConfig,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    text_states: torch.Tensor | None,
) -> torch.Tensor:
    """Return the text, ids or states, or raise a ValueError."""
    if text_states is None:
        if input_ids is None:
            raise ValueError(
                "`input_ids` must be given: this model has a PLM. Pass `use_plm=False` to load it without."
            )
        _check_integers("input_ids", input_ids, "(U, T)")
        _check_mask(attention_mask, "input_ids", input_ids)
        check_text_length(config, input_ids)
        return input_ids
    if input_ids is not None:
        raise ValueError("`input_ids` and `text_states` must not both be given: states replace the ids.")
    check_has_lower_layers(config, "text_states")
    hidden_size = config.hidden_size
    if text_states.dim() != 3 or text_states.shape[2] != hidden_size or not text_states.is_floating_point():
        raise ValueError(
            f"`text_states` must be floating-point numbers (U, T, {hidden_size}), got {text_states.dtype} "
            f"{tuple(text_states.shape)}."
        )
    _check_mask(attention_mask, "text_states", text_states)
    return text_states


def _check_mask(attention_mask: torch.Tensor | None, name: str, text: torch.Tensor) -> None:
    if attention_mask is not None and attention_mask.shape != text.shape[:2]:
        raise ValueError(
            f"`attention_mask` must be the mask of the texts, {tuple(text.shape[:2])} as `{name}`, got "
            f"{tuple(attention_mask.shape)}."
        )


def _check_integers(name: str, values: torch.Tensor, axes: str) -> None:
    """Raise a ValueError unless a tensor holds integers and has as many axes as `axes` names, such as "(U, T)"."""
    if values.is_floating_point() or values.dim() != len(axes.split()):
        raise ValueError(f"`{name}` must be integers {axes}, got {values.dtype} {tuple(values.shape)}.")
