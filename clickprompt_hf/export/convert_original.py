# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Conversion of checkpoints of the authors' implementation."""

import json
import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig

from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..modeling_clickprompt import ClickPromptForCTR, ClickPromptForPAMLM

_BACKBONES = {"FiBiNet": "fibinet"}
# their names of activations that transformers names differently
_ACTIVATIONS = {"none": "linear", "identity": "linear"}
_POOLINGS: dict[str, Any] = {
    "cls": "cls",
    "avg": "mean",
    "avg_first_last": "mean_first_last",
    "avg_top2": "mean_last_two",
}
_BILINEAR_KINDS: dict[str, Any] = {"field_all": "all", "field_each": "each", "field_interaction": "interaction"}

# Patterns of their tensor names and our names; the first pattern that matches a whole name wins.
_NAMES = (
    (r"ctr_model\.embed\.embedding\.weight", r"clickprompt.ctr.embedding.table.weight"),
    (r"ctr_model\.fg_embed\.embedding\.weight", r"clickprompt.ctr.generation_embedding.table.weight"),
    (r"ctr_model\.(?:parallel_)?dnn\.dnn\.(\d+)\.(\w+)", r"clickprompt.ctr.dnn.layers.<\1>.\2"),
    (r"ctr_model\.cross_net\.cross_layers\.(\d+)\.(\w+)", r"clickprompt.ctr.cross_net.layers.\1.\2"),
    (r"ctr_model\.cross_net\.cross_net\.(\d+)\.weight\.weight", r"clickprompt.ctr.cross_net.layers.\1.weight"),
    (r"ctr_model\.cross_net\.cross_net\.(\d+)\.bias", r"clickprompt.ctr.cross_net.biases.\1"),
    (r"ctr_model\.cin\.cin_layer\.layer_(\d+)\.(\w+)", r"clickprompt.ctr.cin.layers.[\1].\2"),
    (r"ctr_model\.self_attention\.(\d+)\.W_q\.weight", r"clickprompt.ctr.attention.\1.query.weight"),
    (r"ctr_model\.self_attention\.(\d+)\.W_k\.weight", r"clickprompt.ctr.attention.\1.key.weight"),
    (r"ctr_model\.self_attention\.(\d+)\.W_v\.weight", r"clickprompt.ctr.attention.\1.value.weight"),
    (r"ctr_model\.self_attention\.(\d+)\.W_res\.weight", r"clickprompt.ctr.attention.\1.residual_projection.weight"),
    (r"ctr_model\.senet_layer\.excitation\.0\.weight", r"clickprompt.ctr.senet.squeeze.weight"),
    (r"ctr_model\.senet_layer\.excitation\.2\.weight", r"clickprompt.ctr.senet.excite.weight"),
    (r"ctr_model\.bilinear_layer\.bilinear_layer\.(\d+)\.weight", r"clickprompt.ctr.bilinear.layers.\1.weight"),
    (r"ctr_model\.bilinear_layer\.bilinear_layer\.weight", r"clickprompt.ctr.bilinear.layers.0.weight"),
    (r"ctr_model\.fignn\.W_attn\.weight", r"clickprompt.ctr.graph.edge.weight"),
    (r"ctr_model\.fignn\.gnn\.(?:(\d+)\.)?W_in", r"clickprompt.ctr.graph.steps.{\1}.incoming"),
    (r"ctr_model\.fignn\.gnn\.(?:(\d+)\.)?W_out", r"clickprompt.ctr.graph.steps.{\1}.outgoing"),
    (r"ctr_model\.fignn\.gnn\.(?:(\d+)\.)?bias_p", r"clickprompt.ctr.graph.steps.{\1}.bias"),
    (r"ctr_model\.fignn\.gru\.(\w+)", r"clickprompt.ctr.graph.update.\1"),
    (r"ctr_model\.fgcnn_layer\.conv_layers\.(\d+\.[01]\.\w+)", r"clickprompt.ctr.generation.convolutions.\1"),
    (
        r"ctr_model\.fgcnn_layer\.recombine_layers\.(\d+)\.0\.(\w+)",
        r"clickprompt.ctr.generation.recombinations.\1.\2",
    ),
    (r"ctr_model\.encoder\.(layers\..+)", r"clickprompt.ctr.encoder.\1"),
    (r"ctr_model\.fc_out\.linear1\.weight", r"ctr_head.score.weight"),
    (r"ctr_model\.fc_out\.linear2\.0\.weight", r"ctr_head.weight.weight"),
    (r"ctr_model\.fc_out\.(\w+)", r"ctr_head.output.\1"),
    (r"nlp_encoder\.(.+)", r"clickprompt.plm.\1"),
    (r"nlp_head\.0\.(\w+)", r"text_head.dense.\1"),
    (r"nlp_head\.2\.(\w+)", r"text_head.output.\1"),
    (r"cls\.(predictions\..+)", r"lm_head.\1"),
    (r"alpha", r"fusion.alpha"),
)
_LR_NAMES = (
    (r"ctr_model\.embed_w\.weight", r"clickprompt.ctr.embedding.table.weight"),
    (r"ctr_model\.bias", r"ctr_head.bias"),
)
# transformers keeps their BERT head under the name `predictions`
_LM_HEAD_NAMES = {"bert": ((r"lm_head\.(.+)", r"lm_head.predictions.\1"),)}
_OTHER_LM_HEAD_NAMES = ((r"(lm_head\..+)", r"\1"),)
_LAYERWISE_NAMES = (
    (r"ctr_model\.prompt_layers\.0\.(\w+)", r"clickprompt.prompt_encoder.bottleneck.\1"),
    (r"ctr_model\.prompt_layers\.2\.(\w+)", r"clickprompt.prompt_encoder.expansion.\1"),
)
_SHALLOW_NAMES = ((r"ctr_model\.prompt_layers\.(\d+)\.(\w+)", r"clickprompt.prompt_encoder.layers.\1.\2"),)


def convert_original_checkpoint(
    state_dict: Mapping[str, torch.Tensor], original: Mapping[str, Any]
) -> ClickPromptForCTR | ClickPromptForPAMLM:
    """Build a model of ours, in evaluation mode, with the weights of a checkpoint of the authors' implementation.

    Args:
        state_dict: Their tensors by their names, without the prefix `model.`.
        original: `config` (backbone and fusion), `model_args` (pooling, weighted sum) and `plm_config`, each a mapping
            or its JSON text, `task` ("ctr" or "mlm") and `field_sizes` (number of ids per field).

    Raises:
        KeyError: If `original` lacks one of these.
        ValueError: If a setting has no counterpart here, a tensor is unknown, missing or of another shape, or a
            constant has an unexpected value.
    """
    theirs, arguments, plm_config, field_sizes = (
        json.loads(value) if isinstance(value := original[name], str) and value else value
        for name in ("config", "model_args", "plm_config", "field_sizes")
    )
    task = original["task"]
    if task not in ("ctr", "mlm"):
        raise ValueError(f"`task` must be 'ctr' or 'mlm', got {task!r}.")
    config = _config(theirs, arguments or {}, plm_config, field_sizes)
    unused = _unused_tensor(config.ctr_config)
    tensors = {
        name: tensor for name, tensor in state_dict.items() if name != unused and not _is_constant(name, tensor)
    }
    state = {ours: tensor for name, tensor in tensors.items() if (ours := _renamed(name, theirs, config)) is not None}
    if task == "mlm":
        config.tie_word_embeddings = _decoder_is_tied(state)
    model = (ClickPromptForPAMLM if task == "mlm" else ClickPromptForCTR)(config)
    _load(model, state)
    return model.eval()


def _config(theirs: dict, arguments: dict, plm_config: dict | None, field_sizes: list[int]) -> ClickPromptConfig:
    """Convert their settings to our configuration."""
    if theirs.get("prompt_usage", "no") != "no":
        raise ValueError(
            f"`prompt_usage` must be 'no', got {theirs['prompt_usage']!r}, which has no counterpart here."
        )
    fusion, strategy = _fusion(theirs["model_fusion"], bool(arguments.get("weighted_add")))
    ctr_config = _ctr_config(theirs, field_sizes)
    if fusion == "ctr":
        return ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")
    if not plm_config:
        raise ValueError("`plm_config` must describe the PLM, but it is missing or empty.")
    pooler = arguments.get("pooler_type", "cls")
    if pooler not in _POOLINGS:
        raise ValueError(f"`pooler_type` must be one of {sorted(_POOLINGS)}, got {pooler!r}.")
    known = AutoConfig.for_model(plm_config["model_type"]).to_dict()
    # fields of older versions, and fields that do not describe the network
    dropped = {"transformers_version", "architectures", "_name_or_path", "dtype", "is_decoder"}
    text_config = {name: value for name, value in plm_config.items() if name in known and name not in dropped}
    return ClickPromptConfig(
        text_config={**text_config, "model_type": plm_config["model_type"]},
        ctr_config=ctr_config,
        prompt_length=theirs["num_prompt"],
        prompt_strategy=strategy,
        fusion=fusion,
        fusion_alpha=arguments.get("init_weighted_alpha", 0.5),
        fusion_alpha_on="text",
        learn_fusion_alpha=arguments.get("update_alpha", True),
        pooling=_POOLINGS[pooler],
        pool_prompts=strategy == "shallow",
        tie_word_embeddings=plm_config.get("tie_word_embeddings", True),
    )


def _fusion(model_fusion: str, weighted: bool) -> tuple[Any, Any]:
    """Convert their `model_fusion` to our fusion and prompt strategy."""
    if model_fusion == "ctr_only":
        return "ctr", "none"
    prompts = model_fusion.removesuffix("add").removesuffix("_")
    strategies = {"prefix": "layerwise", "prompt": "shallow", "": "none", "nlp_only": "none"}
    if prompts not in strategies:
        raise ValueError(
            f"`model_fusion` must be ctr_only, nlp_only, or made of prefix, prompt and add, got {model_fusion!r}."
        )
    if not model_fusion.endswith("add"):
        return "text", strategies[prompts]
    return "weighted" if weighted else "sum", strategies[prompts]


def _ctr_config(theirs: dict, field_sizes: list[int]) -> CTRConfig:
    """Convert their backbone's settings to ours.

    Raises:
        ValueError: If a setting has no counterpart.
    """
    name = theirs["ctr_model_name"]
    backbone = _BACKBONES.get(name, name.lower())
    if backbone == "autoint" and theirs["num_attn_heads"] > 1:
        raise ValueError(
            f"`num_attn_heads` must be 1 for AutoInt, got {theirs['num_attn_heads']}: the authors' code mixes the "
            "values of several heads, which is not supported."
        )
    if backbone == "fgcnn" and theirs["conv_act"].lower() != "tanh":
        raise ValueError(f"`conv_act` must be 'tanh' for FGCNN, got {theirs['conv_act']!r}.")
    # AutoInt has separate settings for its hidden layers
    width, depth, activation, dropout = (
        ("dnn_size", "num_dnn_layers", "dnn_act", "dnn_drop")
        if backbone == "autoint"
        else ("hidden_size", "num_hidden_layers", "hidden_act", "hidden_dropout_rate")
    )
    layers = {
        "autoint": {"num_attention_layers": theirs["num_attn_layers"], "attention_size": theirs["attn_size"]},
        "transformer": {
            "num_attention_layers": theirs["num_hidden_layers"],
            "num_attention_heads": theirs["num_attn_heads"],
        },
        "fignn": {"num_graph_layers": theirs["num_hidden_layers"]},
        "dcn": {"num_cross_layers": theirs["num_cross_layers"]},
        "dcnv2": {"num_cross_layers": theirs["num_cross_layers"]},
    }
    return CTRConfig(
        backbone=backbone,
        field_sizes=field_sizes,
        embedding_size=theirs["embed_size"],
        embedding_dropout=theirs["embed_dropout_rate"],
        dnn_hidden_sizes=[theirs[width]] * theirs[depth],
        dnn_dropout=theirs[dropout],
        hidden_act=_ACTIVATIONS.get(theirs[activation].lower(), theirs[activation].lower()),
        first_order=theirs["use_lr"],
        cin_layer_sizes=_numbers(theirs["cin_layer_units"]),
        scale_attention=theirs["attn_scale"],
        attention_residual=theirs["res_conn"],
        feed_forward_size=theirs["intermediate_size"],
        norm_first=theirs["norm_first"],
        layer_norm_eps=theirs["layer_norm_eps"],
        senet_reduction_ratio=theirs["reduction_ratio"],
        bilinear_kind=_BILINEAR_KINDS[theirs["bilinear_type"]],
        share_graph_layers=theirs["reuse_graph_layer"],
        graph_residual=theirs["res_conn"],
        fgcnn_channels=_numbers(theirs["channels"]),
        fgcnn_kernel_heights=_numbers(theirs["kernel_heights"]),
        fgcnn_pooling_sizes=_numbers(theirs["pooling_sizes"]),
        fgcnn_recombined_channels=_numbers(theirs["recombined_channels"]),
        share_embedding=theirs["share_embedding"],
        **layers.get(backbone, {}),
    )


def _unused_tensor(ctr_config: CTRConfig) -> str | None:
    """Name of a tensor that their code never reads: FiBiNET's matrix of the last field, which is first in no pair."""
    if ctr_config.backbone != "fibinet" or ctr_config.bilinear_kind != "each":
        return None
    return f"ctr_model.bilinear_layer.bilinear_layer.{ctr_config.num_fields - 1}.weight"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.split(r"[-|,]", str(text))]


def _renamed(name: str, theirs: dict, config: ClickPromptConfig) -> str | None:
    """Translate the name of a tensor; `None` for an unused α, which their code creates with every fusion."""
    backbone = config.ctr_config.backbone
    prompt_names = _SHALLOW_NAMES if config.prompt_strategy == "shallow" else _LAYERWISE_NAMES
    family = config.text_config.model_type if config.use_plm else ""
    first_order = "ctr_head.first_order" if backbone == "fm" else "clickprompt.ctr.first_order"
    names = (
        *(_LR_NAMES if backbone == "lr" else ()),
        (r"ctr_model\.lr_layer\.embed_w\.weight", rf"{first_order}.weight.table.weight"),
        (r"ctr_model\.lr_layer\.bias", rf"{first_order}.bias"),
        *prompt_names,
        *_LM_HEAD_NAMES.get(family, _OTHER_LM_HEAD_NAMES),
        *_NAMES,
    )
    for pattern, replacement in names:
        if match := re.fullmatch(pattern, name):
            if name == "alpha" and config.fusion != "weighted":
                return None
            ours = match.expand(replacement)
            # their hidden layers are Linear, activation and dropout, so only every third module has weights
            ours = re.sub(r"<(\d+)>", lambda index: str(int(index[1]) // 3), ours)
            # their CIN counts from 1
            ours = re.sub(r"\[(\d+)\]", lambda index: str(int(index[1]) - 1), ours)
            # their shared graph layer has no index
            return re.sub(r"\{(\d*)\}", lambda index: index[1] or "0", ours)
    raise ValueError(f"`state_dict` holds {name!r}, which this conversion does not support.")


def _is_constant(name: str, tensor: torch.Tensor) -> bool:
    """Whether a tensor is a constant, which ours does not need: position numbers, pairs of fields, triangle masks.

    Raises:
        ValueError: If it has a constant's name but another value.
    """
    kind = name.rpartition(".")[2]
    if kind == "position_ids":
        expected = torch.arange(tensor.numel()).view(1, -1)
    elif kind in ("field_p", "field_q"):
        num_fields = int((1 + (1 + 8 * tensor.numel()) ** 0.5) / 2)
        expected = torch.triu_indices(num_fields, num_fields, offset=1)[int(kind == "field_q")]
    elif kind in ("upper_triangle_mask", "triu_mask"):
        expected = torch.ones_like(tensor, dtype=torch.bool).triu(1)
    else:
        return False
    if tensor.shape != expected.shape or not torch.equal(tensor.to(expected.dtype), expected):
        raise ValueError(f"`state_dict` must hold a constant in {name!r}, but its value differs.")
    return True


def _decoder_is_tied(state: dict[str, torch.Tensor]) -> bool:
    """Whether the LM head's decoder is tied to the word embeddings.

    Raises:
        ValueError: If the head's two biases, one parameter in the model, differ.
    """
    for decoder, bias in (
        ("lm_head.decoder", "lm_head.bias"),
        ("lm_head.predictions.decoder", "lm_head.predictions.bias"),
    ):
        if f"{decoder}.bias" in state and bias in state and not torch.equal(state[f"{decoder}.bias"], state[bias]):
            raise ValueError(f"`state_dict` must hold equal tensors for {bias!r} and '{decoder}.bias'.")
        if f"{decoder}.weight" in state:
            words = state["clickprompt.plm.embeddings.word_embeddings.weight"]
            return torch.equal(state[f"{decoder}.weight"], words)
    return True


def _load(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copy `state` into `model`; both must hold the same tensors.

    Raises:
        ValueError: If a tensor is missing, unknown or of another shape.
    """
    # the checkpoint may hold a tied tensor under one of its names only
    parameters = dict(model.named_parameters(remove_duplicate=False))
    given = {id(parameters[name]): tensor for name, tensor in state.items() if name in parameters}
    for name, parameter in parameters.items():
        if name not in state and id(parameter) in given:
            state[name] = given[id(parameter)]
    expected = model.state_dict()
    if missing := sorted(expected.keys() - state.keys()):
        raise ValueError(f"`state_dict` must hold all tensors of the model; it lacks those for {missing}.")
    if unknown := sorted(state.keys() - expected.keys()):
        raise ValueError(f"`state_dict` must hold only tensors of the model; it also holds those for {unknown}.")
    for name, tensor in expected.items():
        # their convolutions of width 1 are linear layers here
        state[name] = state[name].squeeze(-1) if state[name].dim() == tensor.dim() + 1 else state[name]
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"`state_dict` must hold {name} of shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}."
            )
    model.load_state_dict(state)
