"""Prompts in the last layers only: the PLM in two parts, shared texts and ids, frozen lower layers."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from threads import in_threads
from tiny_models import DECODERS, FIELD_SIZES, masked_labels, tiny_batch, tiny_ctr_config, tiny_text_config
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptModel,
)
from clickprompt_hf.configuration_clickprompt import SPLIT_FAMILIES
from clickprompt_hf.inspection import prompt_attention
from clickprompt_hf.plm_split import PLM_SPLITS

NUM_LAYERS = 3
PROMPTS = {
    "released": {},
    "paper": {"prompt_encoder": "paper"},
    "low_rank": {"prompt_encoder": "low_rank", "prompt_rank": 4},
    "none": {"prompt_strategy": "none"},
}
CASES = [*((family, "released") for family in SPLIT_FAMILIES), *(("bert", k) for k in PROMPTS if k != "released")]
CASES += [("gpt2", "paper"), ("distilbert", "paper"), ("mpnet", "none"), ("llama", "none")]
EXACT = {"atol": 0, "rtol": 0}
CLOSE = {"atol": 2e-6, "rtol": 1e-6}


def build(model_class=ClickPromptForCTR, family="bert", depth: int | None = 2, kind="released", **options):
    torch.manual_seed(0)
    config = ClickPromptConfig(
        text_config=tiny_text_config(family, num_hidden_layers=NUM_LAYERS),
        ctr_config=tiny_ctr_config(),
        **{"prompt_length": 3, "initializer_range": 0.2, "prompt_depth": depth, **PROMPTS[kind], **options},
    )
    return model_class(config).eval()


def pretraining_class(family):
    return ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM


def shared_batch():
    """Two rows of ids and three texts for five rows, the same as a batch of five, and which row has which."""
    batch = tiny_batch()
    text_rows, feature_rows = torch.tensor([2, 0, 2, 1, 0]), torch.tensor([0, 0, 1, 1, 0])
    distinct = {name: values[:2] if name == "feature_ids" else values[:3] for name, values in batch.items()}
    expanded = {
        name: values[feature_rows if name == "feature_ids" else text_rows] for name, values in distinct.items()
    }
    return distinct, expanded, {"text_rows": text_rows, "feature_rows": feature_rows}


def with_states(model, batch):
    """The batch with the states of its texts instead of their ids."""
    others = {name: values for name, values in batch.items() if name != "input_ids"}
    return {**others, "text_states": model.encode_text(batch["input_ids"], batch.get("attention_mask"))}


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def gradients(model, **inputs):
    model.zero_grad()
    outputs = model(**inputs)
    (outputs.loss if outputs.loss is not None else outputs.logits.square().sum()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_the_families_are_those_that_the_configuration_names():
    assert set(SPLIT_FAMILIES) == PLM_SPLITS.keys()


@pytest.mark.parametrize("family", SPLIT_FAMILIES)
def test_every_weight_is_below_the_prompts_in_a_layer_or_in_the_last_norm(family):
    plm = build(ClickPromptModel, family=family).plm
    known = {id(p) for module in PLM_SPLITS[family].lower_modules(plm, NUM_LAYERS) for p in module.parameters()}
    others = {name.partition(".")[0] for name, parameter in plm.named_parameters() if id(parameter) not in known}
    assert others == {"gpt2": {"ln_f"}, "llama": {"norm"}}.get(family, set()), (
        f"plm_split.py must name all parts of {type(plm).__name__} below its layers: lower layers freeze with them."
    )


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_prompts_in_all_layers_are_todays_bit_for_bit(family, kind):
    batch = tiny_batch()
    outputs = [build(family=family, kind=kind, depth=depth)(**batch).logits for depth in (None, NUM_LAYERS)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_lower_layers_see_the_text_alone_and_upper_ones_the_prompts(family, kind, depth):
    model = build(ClickPromptModel, family=family, kind=kind, depth=depth)
    batch = tiny_batch()
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    present, num_lower = batch["attention_mask"] == 1, NUM_LAYERS - depth
    assert model.config.num_lower_layers == num_lower
    with torch.no_grad():
        # the PLM by itself, without prompts
        expected = model.plm(**text, output_hidden_states=True).hidden_states
        states = model.encode_text(**text)
        torch.testing.assert_close(states[present], expected[num_lower][present], **EXACT)
        outputs = model(**batch, output_hidden_states=True, output_prompts=True)
        for layer in range(num_lower + 1):
            torch.testing.assert_close(outputs.hidden_states[layer][present], expected[layer][present], **EXACT)
        assert len(outputs.hidden_states) == NUM_LAYERS + 1
        assert {tuple(s.shape) for s in outputs.hidden_states} == {(5, 9, 16)}
        torch.testing.assert_close(outputs.hidden_states[-1], outputs.last_hidden_state, **EXACT)

        others = (batch["feature_ids"] + 1) % torch.tensor(FIELD_SIZES)
        changed = model(**{**batch, "feature_ids": others}, output_hidden_states=True)
        torch.testing.assert_close(changed.hidden_states[num_lower], outputs.hidden_states[num_lower], **EXACT)
    if kind == "none":
        assert outputs.prompts is None
        torch.testing.assert_close(outputs.last_hidden_state[present], expected[-1][present], **CLOSE)
        return
    assert outputs.prompts.shape[:2] == (5, depth)
    for layer in range(num_lower + 1, NUM_LAYERS + 1):
        difference = (changed.hidden_states[layer] - outputs.hidden_states[layer])[present]
        assert difference.abs().amax() > 1e-3, layer


def attention(layer_input, projections, prompts, mask):
    """(B, T, H) by hand, one row, head and query at a time; a mask (B, T) or causal."""
    rows, length, width = layer_input.shape
    num_heads, head_size = prompts.shape[2], prompts.shape[4]
    queries, keys, values = (p.view(rows, length, num_heads, head_size) for p in projections)
    mixed = torch.zeros(rows, length, num_heads, head_size)
    for b in range(rows):
        for a in range(num_heads):
            for t in range(length):
                seen = [s for s in range(length) if (s <= t if mask is None else mask[b, s])]
                own_keys = torch.cat([prompts[b, 0, a], keys[b, seen, a]])
                own_values = torch.cat([prompts[b, 1, a], values[b, seen, a]])
                weights = (own_keys @ queries[b, t, a] / head_size**0.5).softmax(0)
                mixed[b, t, a] = weights @ own_values
    return mixed.view(rows, length, width)


def test_upper_layers_of_bert_by_hand():
    model, batch = build(ClickPromptModel, family="bert"), tiny_batch()
    with torch.no_grad():
        outputs = model(**batch, output_prompts=True)
        states, mask = model.encode_text(batch["input_ids"], batch["attention_mask"]), batch["attention_mask"]
        for number, layer in enumerate(model.plm.encoder.layer[1:]):
            own, after = layer.attention.self, layer.attention.output
            projections = own.query(states), own.key(states), own.value(states)
            mixed = after.dense(attention(states, projections, outputs.prompts[:, number], mask))
            states = after.LayerNorm(states + mixed)
            inner = F.gelu(layer.intermediate.dense(states))
            states = layer.output.LayerNorm(states + layer.output.dense(inner))
    present = mask == 1
    torch.testing.assert_close(outputs.last_hidden_state[present], states[present], atol=1e-5, rtol=0)


def test_upper_layers_of_gpt2_by_hand():
    model, batch = build(ClickPromptModel, family="gpt2"), tiny_batch(padding=0)
    with torch.no_grad():
        outputs = model(**batch, output_prompts=True)
        states = model.encode_text(batch["input_ids"])
        for number, layer in enumerate(model.plm.h[1:]):
            normed = layer.ln_1(states)
            mixed = attention(normed, layer.attn.c_attn(normed).chunk(3, dim=-1), outputs.prompts[:, number], None)
            states = states + layer.attn.c_proj(mixed)
            states = states + layer.mlp(layer.ln_2(states))
        states = model.plm.ln_f(states)
    torch.testing.assert_close(outputs.last_hidden_state, states, atol=1e-5, rtol=0)


def test_upper_layers_of_llama_by_hand():
    """Positions of the text start at 0; prompts have none."""
    model, batch = build(ClickPromptModel, family="llama"), tiny_batch(padding=0)
    with torch.no_grad():
        outputs = model(**batch, output_prompts=True)
        states = model.encode_text(batch["input_ids"])
        # (T, head size / 2), as in RoFormer, in the halves of each head
        angles = torch.outer(torch.arange(9.0), 10_000.0 ** -(torch.arange(0, 4, 2) / 4))
        cos, sin = torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)

        def rotated(projected):
            heads = projected.unflatten(-1, (-1, 4)).transpose(1, 2)
            turned = torch.cat([-heads[..., 2:], heads[..., :2]], dim=-1)
            return (heads * cos + turned * sin).transpose(1, 2)

        for number, layer in enumerate(model.plm.layers[1:]):
            normed, own = layer.input_layernorm(states), layer.self_attn
            values = own.v_proj(normed).unflatten(-1, (-1, 4))
            # two query heads per key head
            keys, values = (p.repeat_interleave(2, dim=2).flatten(2) for p in (rotated(own.k_proj(normed)), values))
            projections = rotated(own.q_proj(normed)).flatten(2), keys, values
            prompts = outputs.prompts[:, number].repeat_interleave(2, dim=2)
            states = states + own.o_proj(attention(normed, projections, prompts, None))
            states = states + layer.mlp(layer.post_attention_layernorm(states))
        states = model.plm.norm(states)
    torch.testing.assert_close(outputs.last_hidden_state, states, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_upper_layers_with_hidden_states_by_hand(family):
    model, batch = build(ClickPromptModel, family=family), tiny_batch()
    with torch.no_grad():
        outputs = model(**batch, output_prompts=True)
        states = model.encode_text(batch["input_ids"], batch["attention_mask"])
        hidden = F.pad(batch["attention_mask"], (3, 0), value=1) == 0
        mask = torch.zeros(5, 1, 12, 12).masked_fill(hidden[:, None, None], -torch.inf)
        for number, layer in enumerate(PLM_SPLITS[family].layers(model.plm)[1:]):
            states = torch.cat([outputs.prompts[:, number], states], dim=1)
            if family == "mpnet":
                # prompts stand in front of the text
                distances = torch.arange(12) - torch.arange(12)[:, None]
                buckets = model.plm.encoder.relative_position_bucket(distances)
                bias = model.plm.encoder.relative_attention_bias(buckets).permute(2, 0, 1)
                states = layer(states, mask, bias[None])[0]
            else:
                states = layer(states, mask)
            states = states[:, 3:]
    present = batch["attention_mask"] == 1
    torch.testing.assert_close(outputs.last_hidden_state[present], states[present], atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_states_given_are_states_computed(family, kind, padding):
    batch = tiny_batch(padding=padding)
    if not padding:
        del batch["attention_mask"]
    for model, labels in (
        (build(family=family, kind=kind), torch.tensor([0, 1, 1, 0, 1])),
        (build(pretraining_class(family), family=family, kind=kind), masked_labels(batch)),
    ):
        given = with_states(model, batch)
        assert torch.equal(model(**given).logits, model(**batch).logits)
        assert torch.equal(model(**given, labels=labels).loss, model(**batch, labels=labels).loss)
        # of 16 bits: as precise as they are
        given["text_states"] = given["text_states"].bfloat16()
        logits = model(**given).logits
        assert logits.dtype == torch.float32
        assert 0 < (logits - model(**batch).logits).abs().max() < 0.1


@pytest.mark.parametrize("depth", [None, 1, 2])
@pytest.mark.parametrize(
    ("family", "kind"), [("bert", "released"), ("bert", "none"), ("mpnet", "paper"), ("gpt2", "released")]
)
def test_rows_that_share_texts_and_ids_are_those_of_the_whole_batch(family, kind, depth):
    distinct, expanded, rows = shared_batch()
    for model, labels in (
        (build(family=family, kind=kind, depth=depth), torch.tensor([0, 1, 1, 0, 1])),
        (build(pretraining_class(family), family=family, kind=kind, depth=depth), masked_labels(expanded)),
    ):
        expected = gradients(model, **expanded, labels=labels)
        assert_same_gradients(gradients(model, **distinct, **rows, labels=labels), expected)
        batches = [distinct] if depth is None else [distinct, with_states(model, distinct)]
        for given in batches:
            torch.testing.assert_close(model(**given, **rows).logits, model(**expanded).logits, **CLOSE)
    outputs = model.clickprompt(**distinct, **rows, output_hidden_states=True, output_prompts=True)
    assert len(outputs.hidden_states) == NUM_LAYERS + 1
    assert outputs.hidden_states[0].shape[0] == 5
    assert outputs.interaction.shape[0] == 2


def test_ids_are_shared_without_a_plm():
    distinct, expanded, rows = shared_batch()
    model = build(fusion="ctr")
    logits = model(distinct["feature_ids"], feature_rows=rows["feature_rows"]).logits
    torch.testing.assert_close(logits, model(expanded["feature_ids"]).logits, **CLOSE)


@pytest.mark.parametrize("family", SPLIT_FAMILIES)
def test_padding_does_not_matter(family):
    model, batch = build(family=family), tiny_batch()
    logits = model(**batch).logits
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        alone = {name: v[row : row + 1, : (None if name == "feature_ids" else length)] for name, v in batch.items()}
        torch.testing.assert_close(model(**alone).logits[0], logits[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(model(**with_states(model, alone)).logits[0], logits[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernels", ["eager", "sdpa"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["released", "none"])
@pytest.mark.parametrize("family", ["roberta", "electra", "distilbert", "llama"])
def test_states_at_some_positions_are_those_of_all(family, kind, depth, kernels):
    model = build(ClickPromptModel, family=family, kind=kind, depth=depth)
    model.set_attn_implementation(kernels)
    batch = tiny_batch()
    positions = torch.tensor([[0, 4], [8, 8], [3, 1], [7, 0], [2, 5]])
    found = model(**batch, read_positions=positions).last_hidden_state
    states = model(**batch).last_hidden_state
    torch.testing.assert_close(found, states[torch.arange(5)[:, None], positions], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["released", "none"])
def test_the_last_layer_works_at_the_read_position_only(kind):
    model, seen = build(kind=kind), []
    for layer in model.clickprompt.plm.encoder.layer:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
    model(**tiny_batch())
    assert seen == [9, 9, 1]


@pytest.mark.parametrize("kind", ["released", "paper", "low_rank"])
@pytest.mark.parametrize("family", SPLIT_FAMILIES)
def test_gradients_reach_every_prompt_and_only_upper_layers_of_given_states(family, kind):
    model = build(family=family, kind=kind, fusion="text")
    given = with_states(model, tiny_batch())
    given["text_states"] = given["text_states"].detach()
    found = gradients(model, **given)
    encoder = model.clickprompt.prompt_encoder
    for name, parameter in encoder.named_parameters():
        assert parameter.grad.abs().amax() > 0, name
    if kind == "paper":
        # (N, K, H)
        assert (encoder.output.bias.grad.abs().amax(dim=-1) > 0).all()
    lower = {id(p) for module in model.clickprompt.lower_modules() for p in module.parameters()}
    named = dict(model.named_parameters())
    # MPNet's layers share one position bias
    assert not [name for name in found if id(named[name]) in lower and "relative_attention_bias" not in name]


# transformers' MPNet does not support gradient checkpointing
@pytest.mark.parametrize("family", sorted({*SPLIT_FAMILIES} - {"mpnet"}))
def test_gradient_checkpointing_keeps_the_prompts(family):
    batch = tiny_batch()
    labels = masked_labels(batch)
    model = without_dropout(build(pretraining_class(family), family=family)).train()
    expected = gradients(model, **batch, labels=labels)
    model.activation_checkpointing_enable()
    replayed = []
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            function = module._gradient_checkpointing_func
            module._gradient_checkpointing_func = lambda *a, f=function: (replayed.append(None), f(*a))[1]
    assert_same_gradients(gradients(model, **batch, labels=labels), expected)
    assert len(replayed) == NUM_LAYERS
    assert_same_gradients(
        gradients(model, **with_states(model, batch), labels=labels), gradients(model, **batch, labels=labels)
    )


@pytest.mark.parametrize("family", SPLIT_FAMILIES)
def test_frozen_lower_layers_have_no_dropout_and_no_gradients(family):
    model = build(pretraining_class(family), family=family)
    batch = tiny_batch()
    text = batch["input_ids"], batch["attention_mask"]
    expected = model.encode_text(*text)
    model.train()
    assert not torch.equal(model.encode_text(*text), expected) or family == "llama"
    assert not model.lower_layers_frozen
    model.freeze_lower_layers()
    assert model.lower_layers_frozen
    for mode in (model, model.train(), model.eval().train()):
        states = mode.encode_text(*text)
        assert torch.equal(states, expected)
        assert not states.requires_grad
    assert [m for m in model.clickprompt.plm.modules() if m.training], "the upper layers train"

    given, labels = with_states(model, batch), masked_labels(batch)
    torch.manual_seed(1)
    cached = gradients(model, **given, labels=labels)
    torch.manual_seed(1)
    assert_same_gradients(gradients(model, **batch, labels=labels), cached)
    lower = [p for module in model.clickprompt.lower_modules() for p in module.parameters()]
    assert lower
    assert not [p for p in lower if p.requires_grad or p.grad is not None]
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == cached.keys()
    # a tied decoder is frozen with the embeddings
    decoder = model.get_output_embeddings().weight
    assert decoder.requires_grad == (decoder is not model.get_input_embeddings().weight)


def test_frozen_lower_layers_are_kept_by_copies_and_not_by_checkpoints(tmp_path):
    model = build().train()
    model.freeze_lower_layers()
    assert copy.deepcopy(model).lower_layers_frozen
    model.save_pretrained(tmp_path)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path)
    assert not loaded.lower_layers_frozen
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.config.prompt_depth == 2
    model.eval()
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits, **CLOSE)


def test_adapters_on_upper_layers():
    model, batch = build(), tiny_batch()
    model.freeze_lower_layers()
    expected = model(**batch).logits
    saved = ["ctr", "prompt_encoder", "ctr_head", "text_head"]
    targets = r".*plm\.encoder\.layer\.[12]\..*(query|value)"
    config = LoraConfig(r=2, target_modules=targets, modules_to_save=saved, init_lora_weights=False)
    adapted = get_peft_model(model, config).eval()
    with torch.no_grad():
        given = with_states(adapted, batch)
        logits = adapted(**batch).logits
    assert (logits - expected).abs().max() > 1e-3
    assert torch.equal(adapted(**given).logits, logits)
    found = gradients(adapted, **given)
    assert found.keys() == {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len([name for name in found if "lora_" in name]) == 8
    torch.testing.assert_close(adapted.merge_and_unload()(**batch).logits, logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "mean_first_last", "mean_last_two"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_means_of_layers(family, depth, pooling):
    model, batch = build(family=family, depth=depth, pooling=pooling, fusion="text"), tiny_batch(padding=0)
    states = model.clickprompt(**batch, output_hidden_states=True).hidden_states
    first, last = {"mean": (-1, -1), "mean_first_last": (1, -1), "mean_last_two": (-2, -1)}[pooling]
    pooled = (states[first] + states[last]).mean(dim=1) / 2
    torch.testing.assert_close(model(**batch).logits, model.text_head(pooled), **CLOSE)
    if pooling == "mean_first_last" and depth == 1:
        with pytest.raises(ValueError, match="must not be 'mean_first_last' with `text_states`.*after layer 2"):
            model(**with_states(model, batch))
    else:
        torch.testing.assert_close(model(**with_states(model, batch)).logits, model(**batch).logits, **CLOSE)


@pytest.mark.parametrize("family", SPLIT_FAMILIES)
def test_attentions_of_all_layers(family):
    model, batch = build(ClickPromptModel, family=family), tiny_batch(padding=0)
    if family != "mpnet":
        model.set_attn_implementation("eager")
    attentions = model(**batch, output_attentions=True).attentions
    assert [a.shape[-1] for a in attentions] == [9, 12, 12]
    for layer in attentions:
        torch.testing.assert_close(layer.sum(dim=-1), torch.ones(layer.shape[:-1]))
    given = model(**with_states(model, batch), output_attentions=True).attentions
    assert len(given) == 2
    torch.testing.assert_close(given[0], attentions[1], **CLOSE)
    masses = prompt_attention(model, **batch)
    assert masses.shape == (5, NUM_LAYERS)
    assert not masses[:, 0].any()
    assert (masses[:, 1:] > 0).all()


@pytest.mark.parametrize(("family", "given"), [("bert", False), ("mpnet", True), ("gpt2", True), ("llama", False)])
def test_compiled_without_a_graph_break(family, given):
    torch.compiler.reset()
    model = build(family=family)
    distinct, _, rows = shared_batch()
    batch = {**(with_states(model, distinct) if given else distinct), **rows}
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, **CLOSE)


def uneven_batch(rows=150, longest=20, left=False):
    """Texts of 2 to `longest` tokens, in no order of length."""
    batch = tiny_batch(rows=rows, length=longest, padding=0)
    lengths = 2 + torch.arange(rows) * 7 % (longest - 1)
    positions = torch.arange(longest)
    mask = (positions >= longest - lengths[:, None]) if left else (positions < lengths[:, None])
    return {**batch, "input_ids": batch["input_ids"].masked_fill(~mask, 1), "attention_mask": mask.long()}


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("bert", {}),
        ("bert", {"kind": "none", "depth": 1}),
        ("bert", {"pooling": "mean_last_two"}),
        ("distilbert", {"pooling": "mean"}),
        ("mpnet", {}),
        ("gpt2", {}),
        ("llama", {"kind": "paper"}),
    ],
)
def test_rows_of_similar_length_run_together(family, options, left, monkeypatch):
    batch = uneven_batch(left=left)
    clicks, tokens = torch.arange(150) % 2, torch.full_like(batch["input_ids"], -100)
    # one masked token per row, two in every third row, so the other rows also read a token that is not masked
    ends = 19 - batch["attention_mask"].flip(1).argmax(dim=1)
    tokens[torch.arange(150), ends] = batch["input_ids"][torch.arange(150), ends]
    tokens[::3, 18 if left else 1] = 7
    seen = []
    for model, labels in (
        (build(family=family, **options), clicks),
        (build(pretraining_class(family), family=family, **options), tokens),
    ):
        PLM_SPLITS[family].layers(model.clickprompt.plm)[-1].register_forward_pre_hook(
            lambda layer, args: seen.append(args[0].shape[1])
        )
        found = model(**batch, labels=labels)
        states = model.clickprompt(**batch).last_hidden_state
        together = gradients(model, **batch, labels=labels)
        calls = len(seen)
        monkeypatch.setattr("clickprompt_hf.rows_by_length._ROWS_PER_GROUP", 1000)
        expected = model(**batch, labels=labels)
        torch.testing.assert_close(found.loss, expected.loss, **CLOSE)
        if labels is clicks:
            torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=0)
        else:
            assert torch.equal(found.masked_correct, expected.masked_correct)
        present = batch["attention_mask"] == 1
        whole = model.clickprompt(**batch).last_hidden_state
        torch.testing.assert_close(states[present], whole[present], atol=1e-5, rtol=0)
        assert states.isfinite().all()
        assert_same_gradients(together, gradients(model, **batch, labels=labels))
        monkeypatch.undo()
        # three groups each time, unless every text ends at the last position or two layers are read
        reads_two = labels is clicks and options.get("pooling") == "mean_last_two"
        assert calls == (3 if left else 5 if reads_two else 9)
        seen.clear()


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "gpt2", "llama"])
def test_threads_get_the_serial_results(family):
    model = build(family=family)
    batches = [
        with_states(model, batch) if seed % 2 else batch for seed in range(16) if (batch := tiny_batch(seed=seed))
    ]

    @torch.no_grad()
    def score(batch):
        return model(**batch).logits

    expected = [score(batch) for batch in batches]
    for logits, serial in zip(in_threads(score, batches), expected):
        torch.testing.assert_close(logits, serial, **CLOSE)


@pytest.mark.parametrize("family", ["electra", "mpnet", "gpt2", "llama"])
@torch.no_grad()
def test_weights_on_disk(family, tmp_path):
    model, batch = build(family=family), tiny_batch()
    model.save_pretrained(tmp_path / "model")
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    loaded = ClickPromptForCTR.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory={"cpu": size // 3}, offload_folder=tmp_path / "offload"
    )
    assert "disk" in loaded.hf_device_map.values()
    expected = model(**batch).logits
    torch.testing.assert_close(loaded(**batch).logits, expected, **CLOSE)
    torch.testing.assert_close(loaded(**with_states(loaded, batch)).logits, expected, **CLOSE)


def test_positions_left_for_text():
    # prompts above lower layers take no position
    for family, limit in (("roberta", 38), ("bert", 40), ("mpnet", 38), ("distilbert", 40), ("gpt2", 40)):
        model = build(family=family)
        assert model.config.max_text_length == limit
        batch = tiny_batch(length=limit, padding=0)
        assert model(**batch).logits.isfinite().all()
        with pytest.raises(
            ValueError, match=f"at most {limit} tokens per row, so that the text fits .* got {limit + 1}"
        ):
            model.encode_text(torch.full((1, limit + 1), 5))
    assert build(depth=NUM_LAYERS).config.max_text_length == 37


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "`prompt_depth` must be at least 1, got 0"),
        ({"depth": 4}, "`prompt_depth` must be at most the PLM's number of layers, 3, got 4"),
        ({"depth": "2"}, "`prompt_depth` must be an integer or None, got '2'"),
        (
            {"family": "deberta-v2"},
            r"`prompt_depth` below the PLM's 3 layers.* one of the families \('bert', .*'deberta",
        ),
        ({"family": "t5"}, "got 't5'"),
    ],
)
def test_impossible_depths_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_depths_that_change_nothing_are_taken():
    assert build(family="deberta-v2", depth=NUM_LAYERS).config.num_lower_layers == 0
    assert build(prompt_strategy="shallow").config.num_lower_layers == 0
    assert build(fusion="ctr").config.num_lower_layers == 0


def test_inputs_that_contradict_each_other_are_refused():
    model, batch = build(), tiny_batch()
    given = with_states(model, batch)
    states, mask = given["text_states"], given["attention_mask"]
    ids, rows = batch["feature_ids"], torch.tensor([0, 0, 1])
    for inputs, message in (
        ({**given, "input_ids": batch["input_ids"]}, "`input_ids` and `text_states` must not both be given"),
        ({**given, "text_states": states[0]}, r"`text_states` must be .* \(U, T, 16\), got torch.float32 \(9, 16\)"),
        ({**given, "text_states": states[..., 1:]}, r"`text_states` must be .* \(5, 9, 15\)"),
        ({**given, "text_states": states.long()}, "`text_states` must be floating-point .* got torch.int64"),
        (
            {**given, "attention_mask": mask[:3]},
            r"`attention_mask` must be the mask of the texts, \(5, 9\) .* got \(3, 9\)",
        ),
        ({**given, "text_rows": rows}, "of the same rows, got 3 of text and 5 of ids"),
        ({**given, "feature_rows": rows}, "of the same rows, got 5 of text and 3 of ids"),
        ({**given, "text_rows": rows[None]}, r"`text_rows` must be integers \(B,\), got torch.int64 \(1, 3\)"),
        ({**batch, "feature_ids": ids[:3]}, "of the same rows, got 5 of text and 3 of ids"),
        ({"feature_ids": ids}, "`input_ids` must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**inputs)
    for whole in (build(depth=None), build(depth=NUM_LAYERS), build(prompt_strategy="shallow")):
        for call in (
            lambda m: m(**given),
            lambda m: m.freeze_lower_layers(),
            lambda m: m.encode_text(batch["input_ids"]),
        ):
            with pytest.raises(ValueError, match="needs PLM layers below the prompts"):
                call(whole)


def test_checkpoints_of_another_depth_are_refused(tmp_path):
    model = build(depth=None)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="prompt_encoder.expansion.weight"):
        ClickPromptForCTR.from_pretrained(tmp_path, prompt_depth=1)
    # older checkpoints name no depth
    config = (tmp_path / "config.json").read_text().replace('"prompt_depth": null,', "")
    assert "prompt_depth" not in config
    (tmp_path / "config.json").write_text(config)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path)
    assert loaded.config.prompt_depth is None
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits, **CLOSE)
