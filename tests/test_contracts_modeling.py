"""The private parts of transformers, accelerate and torch that the models rely on, one test each.

A failure means that a dependency changed something it never promised. The message names it and the code that uses it.
"""

import importlib
import inspect
import threading

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from tiny_models import CACHE_ENCODERS, DECODERS, ENCODERS, FAMILIES, HIDDEN_STATE_ENCODERS, tiny_batch, tiny_config
from torch import nn
from transformers import AutoModel, PreTrainedModel, initialization, modeling_utils
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM, ClickPromptModel
from clickprompt_hf.lm_heads import _MASKED_LM_HEADS
from clickprompt_hf.loading_clickprompt import FreshHeadsWarning
from clickprompt_hf.prompt_injection import (
    _SELECTING_FAMILIES,
    PromptCache,
    _cache_argument,
    checkpointing_layers,
    layer_lists,
    layer_projection,
)

# transformers 5.24 renamed it
CACHE_ARGUMENT = str(_cache_argument(AutoModel.from_config(CACHE_ENCODERS["bert"])))


def build(model_class, family="roberta", **options):
    torch.manual_seed(0)
    return model_class(tiny_config(family, **options)).eval()


@pytest.mark.parametrize("family", [*CACHE_ENCODERS, *DECODERS])
def test_layers_with_gradient_checkpointing(family):
    plm = build(ClickPromptModel, family).plm
    layers = checkpointing_layers(plm)
    assert len(layers) == plm.config.num_hidden_layers, (
        f"Each layer of {type(plm).__name__}, and nothing else in it, must be a `GradientCheckpointingLayer`: "
        f"prompt_injection.py finds the layers by that class. Found {len(layers)}."
    )


def test_layers_keep_a_cache_under_gradient_checkpointing():
    assert GradientCheckpointingLayer._can_checkpoint_with_cache is False, (
        "`GradientCheckpointingLayer._can_checkpoint_with_cache` must exist and be False by default: unless "
        "KeyValueInjection sets it on PLM layers, gradient checkpointing drops the prompts."
    )

    class Layer(GradientCheckpointingLayer):
        def forward(self, states, **cache):
            seen.append(cache[CACHE_ARGUMENT])
            return states

    for keeps, expected in ((True, ["cache"]), (False, [None])):
        seen: list = []
        layer = Layer().train()
        layer._can_checkpoint_with_cache = keeps
        layer.gradient_checkpointing, layer._gradient_checkpointing_func = (
            True,
            lambda function, *args: function(*args),
        )
        layer(torch.zeros(1), **{CACHE_ARGUMENT: "cache"})
        assert seen == expected, (
            f"A checkpointed layer must keep `{CACHE_ARGUMENT}` exactly if `_can_checkpoint_with_cache` is set."
        )


def test_hooks_run_outside_gradient_checkpointing():
    class Layer(GradientCheckpointingLayer):
        def forward(self, states):
            return states * states

    calls = []
    layer = Layer().train()
    layer.gradient_checkpointing = True
    layer._gradient_checkpointing_func = lambda function, *args: torch.utils.checkpoint.checkpoint(
        function, *args, use_reentrant=False
    )
    layer.register_forward_pre_hook(lambda *_: calls.append(threading.get_ident()))
    layer(torch.ones(2, requires_grad=True)).sum().backward()
    assert len(calls) == 1, (
        "Forward pre-hooks of a `GradientCheckpointingLayer` must not run again in the backward replay: "
        "HiddenStateInjection puts prompts into layers by such hooks, and the call has ended by then."
    )


@pytest.mark.parametrize("method", ["update", "get_seq_length", "get_mask_sizes"])
def test_methods_of_the_cache(method):
    ours, theirs = (list(inspect.signature(getattr(c, method)).parameters) for c in (PromptCache, Cache))
    named = [name for name in ours if name not in ("args", "kwargs")]
    assert theirs[: len(named)] == named, (
        f"`transformers.cache_utils.Cache.{method}` must start with the arguments {named}, as PromptCache overrides "
        f"it; it has {theirs}."
    )


@pytest.mark.parametrize("family", [*CACHE_ENCODERS, *DECODERS])
def test_layers_ask_the_cache_and_nothing_else(family):
    """Attributes of a cache that the PLM reads beside the overridden methods."""
    asked = set()

    class Watched(PromptCache):
        def __getattribute__(self, name):
            if not name.startswith("__"):
                asked.add(name)
            return super().__getattribute__(name)

    model = build(ClickPromptModel, family)
    prompts = model(**tiny_batch(), output_prompts=True).prompts
    cache = Watched(prompts, model.injection.layers)
    asked.clear()
    mask = nn.functional.pad(tiny_batch()["attention_mask"], (3, 0), value=1)
    options: dict = {"use_cache": False} if family in DECODERS else {}
    options[CACHE_ARGUMENT] = cache
    model.plm(input_ids=tiny_batch()["input_ids"], attention_mask=mask, **options)
    own = {"prompts", "prompted_layers", "read_positions", "last_text", "layers_read"}
    known = {"update", "get_seq_length", "get_mask_sizes", "get_query_offset", "layers"}
    known |= {"is_compileable", "is_dummy", "is_linear", "is_sliding", "is_updated"}
    assert asked - own <= known, (
        f"{type(model.plm).__name__} must ask a `Cache` only for what PromptCache overrides or inherits unchanged; it "
        f"also reads {sorted(asked - own - known)}."
    )


@pytest.mark.parametrize("family", _SELECTING_FAMILIES)
def test_the_last_layer_gets_states_and_mask_by_position_and_the_cache_by_name(family):
    seen = []
    model = build(ClickPromptModel, family)
    checkpointing_layers(model.plm)[-1].register_forward_pre_hook(
        lambda layer, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    model(**tiny_batch())
    ((states, mask, *_), kwargs), *_ = seen
    assert states.shape == (5, 9, 16), "PLM layers must get their hidden states (B, T, H) as the first argument."
    assert mask.shape == (5, 1, 9, 12), (
        "PLM layers must get their mask (B, 1, T, K + T) as the second argument: `_select_positions` cuts it."
    )
    assert isinstance(kwargs.get(CACHE_ARGUMENT), PromptCache), (
        f"PLM layers must get the cache as the keyword argument `{CACHE_ARGUMENT}`, where `_select_positions` looks."
    )


@pytest.mark.parametrize("family", HIDDEN_STATE_ENCODERS)
def test_names_of_the_list_of_layers(family):
    plm = build(ClickPromptModel, family).plm
    assert layer_lists(plm), (
        f"{type(plm).__name__} must hold its layers in a `ModuleList` whose modules' forward starts with "
        "`hidden_states`: HiddenStateInjection finds them by that."
    )


@pytest.mark.parametrize("family", [*CACHE_ENCODERS, *DECODERS])
def test_names_of_key_and_value_projections(family):
    layer = checkpointing_layers(build(ClickPromptModel, family).plm)[0]
    try:
        keys, values = layer_projection(layer)(torch.randn(2, 3, 16))
    except ValueError as error:
        pytest.fail(f"The key and value projections of {type(layer).__name__} have other names now: {error}")
    assert keys.shape == values.shape, "Keys and values must have one width."


@pytest.mark.parametrize("family", FAMILIES)
def test_the_configuration_chooses_the_attention_kernels(family):
    plm = build(ClickPromptModel, family).plm
    plm.set_attn_implementation("eager")
    assert plm.config._attn_implementation == "eager", (
        "`config._attn_implementation` must name the attention kernels: KeyValueInjection reads it before it selects "
        "positions, and inspection.py asks for 'eager'."
    )


def test_fresh_weights_leave_loaded_ones_alone():
    for name in ("normal_", "zeros_", "xavier_normal_", "constant_"):
        tensor = nn.Parameter(torch.full((3, 3), 7.0))
        tensor._is_hf_initialized = True
        getattr(initialization, name)(tensor, *([1.0] if name == "constant_" else []))
        assert (tensor == 7).all(), (
            f"`transformers.initialization.{name}` must leave a tensor with `_is_hf_initialized` alone: every "
            "`init_own_parameters` relies on it, and FeatureEmbedding reads that flag itself."
        )


def test_missing_weights_are_adjusted_once_before_they_are_reported(tmp_path, monkeypatch):
    ClickPromptForPAMLM(tiny_config()).save_pretrained(tmp_path)
    calls = []

    class Model(ClickPromptForCTR):
        def _adjust_missing_and_unexpected_keys(self, loading_info):
            calls.append("adjusted")
            super()._adjust_missing_and_unexpected_keys(loading_info)

    monkeypatch.setattr(modeling_utils, "log_state_dict_report", lambda **_: calls.append("reported"))
    with pytest.warns(FreshHeadsWarning):
        Model.from_pretrained(tmp_path)
    assert calls == ["adjusted", "reported"], (
        "transformers must call `PreTrainedModel._adjust_missing_and_unexpected_keys` once, before it reports missing "
        f"weights: ours takes them out of the report, as `from_pretrained` names them itself. Calls: {calls}."
    )


def test_initialization_visits_children_first():
    visited = []

    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.weight = nn.Linear(2, 2), nn.Parameter(torch.zeros(1))

    class Model(PreTrainedModel):
        config_class = type(tiny_config())

        def __init__(self, config):
            super().__init__(config)
            self.inner = nn.Sequential(Owner())
            self.post_init()

        def _init_weights(self, module):
            visited.append(type(module).__name__)

    Model(tiny_config())
    assert visited == ["Linear", "Owner"], (
        "`PreTrainedModel.post_init` must call `_init_weights` on every module that holds tensors itself, children "
        f"first: our layers draw their weights there, after their inner layers. It visited {visited}."
    )


def test_initialization_zeroes_biases_of_linear_and_convolution_layers():
    model = build(ClickPromptModel)
    for layer in (nn.Linear(2, 2), nn.Conv2d(1, 1, 2)):
        nn.init.ones_(layer.bias)
        PreTrainedModel._init_weights(model, layer)
        assert not layer.bias.any(), (
            f"`PreTrainedModel._init_weights` must zero the bias of {type(layer).__name__}: XavierLinear and "
            "XavierConv2d draw only their weights themselves."
        )


@pytest.mark.parametrize("family", sorted(_MASKED_LM_HEADS))
def test_names_in_the_lm_heads(family):
    model = build(ClickPromptForPAMLM, family)
    description, names = model.head_family, dict(model.lm_head.named_parameters(remove_duplicate=False))
    expected = {f"{description.decoder}.weight", *([description.bias] if description.bias else [])}
    assert expected <= names.keys(), (
        f"The LM head of {family} must have the parameters {sorted(expected)}, as lm_heads.py describes it; it has "
        f"{sorted(names)}."
    )
    whole = description.auto_class.from_config(model.config.text_config).state_dict()
    for ours, theirs in description.parts.items():
        assert any(name.startswith(theirs) for name in whole), (
            f"The masked-LM model of {family} must keep its head's part {ours!r} under {theirs!r}, as lm_heads.py "
            "describes it: a pretrained head is copied from there."
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_weights_are_a_dictionary(family):
    model = build(ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM, family)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == model.config.tie_word_embeddings, (
        "`_tied_weights_keys`, a dictionary from a tied tensor's name to its source's, must tie the LM head's decoder "
        "to the input embeddings: ClickPromptForPretraining.add_lm_head sets it before `post_init`."
    )


def test_layers_that_stay_on_one_device_are_collected():
    model = build(ClickPromptForCTR)
    expected = {"RobertaLayer", "DCNv2", "BottleneckPromptEncoder", "LinearHead"}
    assert expected <= set(model._no_split_modules), (
        "`post_init` must gather `_no_split_modules`, names of classes, from a model and those inside it; "
        f"{sorted(expected - set(model._no_split_modules))} are missing."
    )


def test_a_hook_of_accelerate_can_leave_weights_loaded():
    layer = nn.Linear(2, 2)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    hook = AlignDevicesHook(execution_device="cpu", offload=True, weights_map=weights)
    add_hook_to_module(layer, hook)
    assert layer.weight.device.type == "meta"
    layer._hf_hook.pre_forward(layer)
    layer._hf_hook.offload = False
    layer(torch.ones(1, 2))
    assert torch.equal(layer.weight, weights["weight"]), (
        "accelerate must keep its hook as `module._hf_hook`, whose `pre_forward` loads the weights and whose "
        "`offload=False` leaves them loaded: `_load_uncalled_weights` uses both."
    )


def test_the_model_passes_its_checkpointing_flag_to_the_layers():
    model = build(ClickPromptForCTR)
    model.activation_checkpointing_enable()
    layers = checkpointing_layers(model.clickprompt.plm)
    assert all(layer.gradient_checkpointing for layer in layers), (
        "`_set_gradient_checkpointing` must set `gradient_checkpointing` on every `GradientCheckpointingLayer`: the "
        "PLM's own flag is taken back afterwards."
    )
    assert not model.clickprompt.plm.gradient_checkpointing


@pytest.mark.parametrize("family", ENCODERS)
def test_position_of_the_pooler_argument(family):
    plm_class = AutoModel._model_mapping[type(tiny_config(family).text_config)]
    takes_pooler = "add_pooling_layer" in inspect.signature(plm_class).parameters
    model = build(ClickPromptModel, family)
    poolers = [name for name, _ in model.plm.named_modules() if name.endswith("pooler")]
    assert not poolers, (
        f"{plm_class.__name__} must build no pooler, for which build_plm passes `add_pooling_layer=False` where its "
        f"constructor takes it ({takes_pooler} here): nothing reads a pooler."
    )


@pytest.mark.parametrize("name", ["MODEL_FOR_TEXT_ENCODING_MAPPING", "MODEL_MAPPING"])
def test_mappings_of_auto_classes(name):
    mapping = getattr(importlib.import_module("transformers"), name, None)
    assert mapping is not None, f"`transformers.{name}` must exist: build_plm finds a PLM's class in it."
