"""The models: prompts, batches, losses, checkpoints."""

import pytest
import torch
from tiny_models import (
    BACKBONES as BACKBONE_NAMES,
)
from tiny_models import (
    CACHE_ENCODERS,
    DECODERS,
    ENCODERS,
    FAMILIES,
    FIELD_SIZES,
    HIDDEN_STATE_ENCODERS,
    masked_labels,
    tiny_batch,
    tiny_config,
    tiny_ctr_config,
    tiny_text_config,
)
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertModel,
    MistralConfig,
    initialization,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptModel,
    CTRBackbone,
    CTRConfig,
    CTRHead,
    register_backbone,
)
from clickprompt_hf.layers_ctr import DNN
from clickprompt_hf.modeling_ctr import BACKBONES
from clickprompt_hf.prompt_injection import choose_injection

MODELS = {
    AutoModel: ClickPromptModel,
    AutoModelForSequenceClassification: ClickPromptForCTR,
    AutoModelForMaskedLM: ClickPromptForPAMLM,
    AutoModelForCausalLM: ClickPromptForPACLM,
}


def first_output(outputs):
    return outputs.logits if "logits" in outputs else outputs.last_hidden_state


def build(model_class=ClickPromptForCTR, **options):
    torch.manual_seed(0)
    return model_class(tiny_config(**options)).eval()


@pytest.mark.parametrize(
    ("family", "backbone"), [*((f, "dcnv2") for f in FAMILIES), *(("bert", b) for b in BACKBONE_NAMES)]
)
def test_prompts_reach_the_text_and_get_gradients(family, backbone):
    model = build(ClickPromptModel, family=family, backbone=backbone)
    batch = tiny_batch()
    other_ids = {**batch, "feature_ids": (batch["feature_ids"] + 1) % torch.tensor(FIELD_SIZES)}
    hidden = model(**batch).last_hidden_state
    assert (hidden - model(**other_ids).last_hidden_state).abs().max() > 1e-3

    hidden.square().mean().backward()
    for parameter in model.prompt_encoder.parameters():
        assert parameter.grad.abs().max() > 0
    # every part of the backbone gets a gradient; FGCNN's may be zero in front of a batch norm
    for name, parameter in model.ctr.named_parameters():
        assert parameter.grad is not None, name
    assert model.ctr.embedding.table.weight.grad.abs().max() > 0
    # every layer and slot; only values are checked, since shifting all keys changes little
    text_config = model.config.text_config
    rows = model.prompt_encoder.expansion.bias.grad.view(3, text_config.num_hidden_layers, -1)
    assert (rows[..., rows.shape[-1] // 2 :].abs().amax(dim=-1) > 0).all()


def test_without_prompts_the_ids_do_not_reach_the_text():
    model = build(ClickPromptModel, prompt_strategy="none")
    batch = tiny_batch()
    hidden = model(**batch).last_hidden_state
    batch["feature_ids"] = torch.zeros_like(batch["feature_ids"])
    torch.testing.assert_close(hidden, model(**batch).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", [None, "mean"])
def test_a_row_does_not_depend_on_its_batch(family, pooling):
    model = build(family=family, pooling=pooling)
    batch = tiny_batch()
    logits = model(**batch).logits
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        alone = {name: values[row : row + 1] for name, values in batch.items()}
        alone = {name: v if name == "feature_ids" else v[:, :length] for name, v in alone.items()}
        torch.testing.assert_close(model(**alone).logits[0], logits[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("auto_class", "family"),
    [
        (auto_class, family)
        for auto_class in MODELS
        for family in FAMILIES
        if auto_class is not (AutoModelForMaskedLM if family in DECODERS else AutoModelForCausalLM)
    ],
)
def test_saved_models_give_the_same_logits(auto_class, family, tmp_path):
    model = build(MODELS[auto_class], family=family, fusion="weighted", fusion_alpha=0.25)
    if auto_class is AutoModelForSequenceClassification:
        torch.nn.init.constant_(model.fusion.alpha, 0.9)
    model.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]
    expected = first_output(model(**tiny_batch()))
    for loader in (auto_class, MODELS[auto_class]):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is MODELS[auto_class]
        torch.testing.assert_close(first_output(loaded(**tiny_batch())), expected, atol=1e-6, rtol=0)


PROMPTS = {
    "released": {"prompt_encoder": "released"},
    "paper": {"prompt_encoder": "paper"},
    "low_rank": {"prompt_encoder": "low_rank", "prompt_rank": 4},
    "shallow": {"prompt_strategy": "shallow"},
    "normalized": {"normalize_prompts": True, "prompt_dropout": 0.5},
}


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_prompt_reaches_the_text_and_is_saved(kind, family, tmp_path):
    model = build(family=family, **PROMPTS[kind])
    batch = tiny_batch()
    outputs = model(**batch, labels=torch.tensor([0, 1, 1, 0, 1]), output_prompts=True)
    width = model.get_input_embeddings().embedding_dim
    layers = model.config.text_config.num_hidden_layers
    shape = {"llama": (5, 2, 2, 2, 3, 4), "qwen3": (5, 2, 2, 1, 3, 12)}.get(family, (5, 2, 2, 2, 3, 8))
    shape = (5, layers, 3, 16) if family in HIDDEN_STATE_ENCODERS else shape
    assert outputs.prompts.shape == ((5, 3, width) if kind == "shallow" else shape)
    outputs.text_logits.sum().backward()
    for parameter in model.clickprompt.prompt_encoder.parameters():
        assert parameter.grad.abs().max() > 0
    assert model.clickprompt.ctr.embedding.table.weight.grad.abs().max() > 0
    model.save_pretrained(tmp_path)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**batch).logits, outputs.logits, atol=1e-6, rtol=0)


def test_the_papers_prompts_are_read_by_each_layers_own_projections():
    model = build(ClickPromptModel, prompt_encoder="paper")
    batch, encoder = tiny_batch(), model.prompt_encoder
    outputs = model(**batch, output_prompts=True)
    for layer, slot in ((0, 0), (1, 2)):
        hidden = torch.tanh(
            outputs.interaction @ encoder.hidden.weight[layer, slot].T + encoder.hidden.bias[layer, slot]
        )
        state = hidden @ encoder.output.weight[layer, slot].T + encoder.output.bias[layer, slot]
        attention = model.plm.encoder.layer[layer].attention.self
        for index, projection in enumerate((attention.key, attention.value)):
            # (B, A, H/A) -> (B, H)
            prompt = outputs.prompts[:, layer, index, :, slot].flatten(1)
            torch.testing.assert_close(prompt, projection(state), atol=1e-5, rtol=0)


def test_shallow_prompts_stand_in_front_of_the_input_and_pooling_reads_the_text():
    model = build(prompt_strategy="shallow", fusion="text")
    batch = tiny_batch()
    prompts = model(**batch, output_prompts=True).prompts
    words = model.clickprompt.plm.get_input_embeddings()(batch["input_ids"])
    mask = torch.cat([torch.ones(5, 3, dtype=torch.int64), batch["attention_mask"]], dim=1)
    states = model.clickprompt.plm(inputs_embeds=torch.cat([prompts, words], dim=1), attention_mask=mask)
    for pool_prompts, position in ((False, 3), (True, 0)):
        model.config.pool_prompts = pool_prompts
        expected = model.text_head(states.last_hidden_state[:, position])
        torch.testing.assert_close(model(**batch).logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strategy", ["layerwise", "shallow", "none"])
@pytest.mark.parametrize(
    ("pooling", "layers"), [("mean", (2, 2)), ("mean_first_last", (1, 2)), ("mean_last_two", (1, 2))]
)
def test_means_of_layers(pooling, layers, strategy):
    model = build(pooling=pooling, fusion="text", prompt_strategy=strategy)
    batch = tiny_batch(padding=0)
    states = model.clickprompt(**batch, output_hidden_states=True).hidden_states
    text = slice(3 if strategy == "shallow" else 0, None)
    pooled = sum(states[layer][:, text].mean(dim=1) for layer in layers) / 2
    torch.testing.assert_close(model(**batch).logits, model.text_head(pooled), atol=1e-6, rtol=0)


def test_text_alone_has_no_backbone():
    model = build(prompt_strategy="none", fusion="text")
    assert model.clickprompt.ctr is None
    assert not [name for name, _ in model.named_parameters() if "ctr" in name]


def test_weighted_fusion_in_both_conventions():
    batch = tiny_batch()
    for alpha_on, ctr_weight in (("ctr", 0.25), ("text", 0.75)):
        model = build(fusion="weighted", fusion_alpha=0.25, fusion_alpha_on=alpha_on)
        outputs = model(**batch)
        expected = ctr_weight * outputs.ctr_logits + (1 - ctr_weight) * outputs.text_logits
        torch.testing.assert_close(outputs.logits, expected)
        outputs.logits.sum().backward()
        sign = 1 if alpha_on == "ctr" else -1
        gap = sign * (outputs.ctr_logits - outputs.text_logits).sum()
        torch.testing.assert_close(model.fusion.alpha.grad.squeeze(), gap.detach())


def test_sum_and_one_sided_fusions():
    batch = tiny_batch()
    outputs = build(fusion="sum")(**batch)
    torch.testing.assert_close(outputs.logits, outputs.ctr_logits + outputs.text_logits)
    assert build(fusion="text")(**batch).ctr_logits is None
    ctr_only = build(fusion="ctr")
    assert ctr_only.clickprompt.plm is None
    assert ctr_only(feature_ids=batch["feature_ids"]).text_logits is None


def test_finetuning_starts_from_all_of_pamlm_but_the_heads(tmp_path):
    pretrained = build(ClickPromptForPAMLM)
    pretrained.save_pretrained(tmp_path)
    model = ClickPromptForCTR.from_pretrained(tmp_path)
    trunk = pretrained.clickprompt.state_dict()
    for name, tensor in model.clickprompt.state_dict().items():
        assert torch.equal(tensor, trunk[name]), name


def test_without_the_plm_no_plm_tensor_is_read(tmp_path, monkeypatch):
    pretrained = build(ClickPromptForPAMLM)
    pretrained.save_pretrained(tmp_path)
    # anything read from the PLM would be wrong now
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model.safetensors")
    for name in tensors:
        if ".plm." in name or "lm_head" in name or "prompt_encoder" in name:
            tensors[name] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})

    model = ClickPromptForCTR.from_pretrained(tmp_path, use_plm=False)
    assert model.clickprompt.plm is None
    assert model.clickprompt.prompt_encoder is None
    assert not [name for name in model.state_dict() if "plm" in name or "text" in name or "prompt_encoder" in name]
    for name, tensor in model.clickprompt.ctr.state_dict().items():
        assert torch.equal(tensor, pretrained.clickprompt.ctr.state_dict()[name])

    model.save_pretrained(tmp_path / "ctr")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ctr")
    batch = tiny_batch()
    torch.testing.assert_close(again(**batch).logits, model(batch["feature_ids"]).logits, atol=0, rtol=0)


def test_pamlm_loss_is_that_of_the_full_logits():
    model = build(ClickPromptForPAMLM)
    batch, labels = tiny_batch(), masked_labels(tiny_batch())
    labels[0] = -100
    outputs = model(**batch, labels=labels)
    logits = model(**batch).logits
    assert logits.shape == (5, 9, 60)
    torch.testing.assert_close(outputs.loss, torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    assert outputs.logits is None
    assert outputs.masked_count.tolist() == [0, 1, 1, 1, 1]
    assert torch.equal(outputs.masked_correct, ((logits.argmax(-1) == labels) & (labels != -100)).sum(1))


def test_a_batch_without_masked_tokens_has_loss_zero():
    model = build(ClickPromptForPAMLM)
    loss = model(**tiny_batch(), labels=torch.full((5, 9), -100)).loss
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM])
def test_the_loss_is_divided_by_num_items_in_batch(model_class):
    model = build(model_class)
    batch = tiny_batch()
    labels = masked_labels(batch) if model_class is ClickPromptForPAMLM else torch.tensor([0, 1, 1, 0, 1])
    mean = model(**batch, labels=labels).loss
    torch.testing.assert_close(model(**batch, labels=labels, num_items_in_batch=20).loss, mean * 5 / 20)
    torch.testing.assert_close(model(**batch, labels=labels, num_items_in_batch=torch.tensor(20)).loss, mean / 4)


def test_rows_labeled_minus_100_are_left_out_of_the_click_loss():
    model = build()
    batch = tiny_batch()
    kept = {name: values[:3] for name, values in batch.items()}
    loss = model(**kept, labels=torch.tensor([0, 1, 1])).loss
    torch.testing.assert_close(model(**batch, labels=torch.tensor([0, 1, 1, -100, -100])).loss, loss)


def test_click_loss_by_hand():
    model = build(fusion="ctr", backbone="fm")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.ctr_head.first_order.bias.fill_(1.0)
    # logit 1 for every row: softplus(-1) = 0.313262 for a click, softplus(1) = 1.313262 otherwise
    loss = model(feature_ids=tiny_batch()["feature_ids"], labels=torch.tensor([1, 1, 1, 1, 0])).loss
    assert loss.item() == pytest.approx((4 * 0.3132617 + 1.3132617) / 5, abs=1e-6)


# transformers' MPNet does not support gradient checkpointing
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"mpnet"}))
def test_gradient_checkpointing_keeps_the_prompts(family):
    gradients = []
    model_class = ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM
    for checkpointing in (False, True):
        model = build(model_class, family=family).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.activation_checkpointing_enable()
        batch = tiny_batch()
        model(**batch, labels=masked_labels(batch)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernels", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_states_at_some_positions_are_those_of_all(family, kernels):
    """Outputs and gradients agree, whether the last layer skips the other positions or computes all."""
    model = build(ClickPromptModel, family=family)
    model.set_attn_implementation("eager" if family == "deberta-v2" else kernels)
    batch = tiny_batch()
    positions = torch.tensor([[0, 4], [8, 8], [3, 1], [7, 0], [2, 5]])
    weights = torch.randn(5, 2, 16)
    gradients = []
    for read_positions in (None, positions):
        model.zero_grad()
        states = model(**batch, read_positions=read_positions).last_hidden_state
        if read_positions is None:
            states = states[torch.arange(5)[:, None], positions]
        (states * weights).sum().backward()
        gradients.append({"states": states, **{name: p.grad for name, p in model.named_parameters()}})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(
            gradients[1][name], expected, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("family", CACHE_ENCODERS)
def test_the_last_layer_works_at_read_positions_only(family):
    seen = {}
    for model_class, read in ((ClickPromptForCTR, 1), (ClickPromptForPAMLM, 2)):
        model = build(model_class, family=family)
        *_, before, last = (m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))
        for name, layer in (("before", before), ("last", last)):
            layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.shape[1]}))
        batch = tiny_batch()
        labels = torch.zeros(5)
        if model_class is ClickPromptForPAMLM:
            # one masked token in a row, two in another
            labels = masked_labels(batch)
            labels[1, 5] = 7
        model(**batch, labels=labels)
        assert seen == {"before": 9, "last": read}


def test_reentrant_gradient_checkpointing_is_refused():
    with pytest.raises(ValueError, match="`use_reentrant` must be False"):
        build().activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})


def test_out_of_vocabulary_embeddings_start_at_zero():
    table = build().clickprompt.ctr.embedding.table.weight
    zero_rows = [row for row in range(sum(FIELD_SIZES)) if not table[row].any()]
    assert zero_rows == [0, 7, 12]


def use_no_prompts(model):
    model.config.prompt_strategy = "none"
    model.clickprompt.prompt_encoder = None
    model.clickprompt.injection = choose_injection(model.clickprompt.plm, model.config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["click", "pretraining", "trunk"])
def test_a_pretrained_plm_is_loaded_with_its_lm_head(task, family, tmp_path):
    torch.manual_seed(1)
    lm_class = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    plm = (AutoModelForSeq2SeqLM if family == "t5" else lm_class).from_config(tiny_text_config(family))
    if plm.get_output_embeddings().bias is not None:
        torch.nn.init.normal_(plm.get_output_embeddings().bias)
    plm.save_pretrained(tmp_path)
    pretraining = ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM
    model_class = {"click": ClickPromptForCTR, "pretraining": pretraining, "trunk": ClickPromptModel}[task]
    model = model_class.from_plm_pretrained(tmp_path, ctr_config=tiny_ctr_config(), prompt_length=2).eval()
    # a published configuration names no folder of this machine
    assert str(tmp_path) not in model.config.to_json_string()
    loaded, expected = model.trunk.plm.state_dict(), plm.base_model.state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(expected[name], tensor), name
    assert model.config.prompt_length == 2
    if task == "pretraining":
        tied = model.get_output_embeddings().weight is model.trunk.plm.get_input_embeddings().weight
        assert tied == (family != "llama")
        # without prompts, its logits are those of the PLM
        use_no_prompts(model)
        batch = tiny_batch()
        text = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if family == "t5":
            states = plm.eval().get_encoder()(**text).last_hidden_state
            expected = plm.lm_head(states * (16**-0.5 if plm.config.scale_decoder_outputs else 1))
        else:
            expected = plm.eval()(**text).logits
        present = batch["attention_mask"] == 1
        torch.testing.assert_close(model(**batch).logits[present], expected[present], atol=1e-5, rtol=0)


def test_a_plm_without_lm_head_gets_a_fresh_one_and_a_warning(tmp_path, caplog, monkeypatch):
    BertModel(tiny_text_config("bert")).save_pretrained(tmp_path)
    from clickprompt_hf import modeling_clickprompt

    warnings = []
    monkeypatch.setattr(modeling_clickprompt.logger, "warning", warnings.append)
    model = ClickPromptForPAMLM.from_plm_pretrained(tmp_path, ctr_config=tiny_ctr_config())
    assert "cls.predictions.transform.dense.weight" in warnings[0]
    assert model.lm_head.predictions.decoder.weight is model.trunk.plm.get_input_embeddings().weight


def test_hidden_state_prompts_are_the_first_states_of_every_layers_input():
    model = build(ClickPromptModel, family="distilbert")
    seen = []
    for layer in model.plm.transformer.layer:
        layer.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    outputs = model(**tiny_batch(), output_prompts=True)
    assert len(seen) == 2
    for layer, states in enumerate(seen):
        assert states.shape == (5, 12, 16)
        assert torch.equal(states[:, :3], outputs.prompts[:, layer])


def test_pa_clm_predicts_the_next_token_from_those_before_it():
    model = build(ClickPromptForPACLM, family="gpt2")
    batch = tiny_batch()
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    outputs = model(**batch, labels=labels)
    logits = model(**batch).logits
    shifted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(outputs.loss, shifted)
    assert outputs.masked_count.tolist() == [5, 8, 5, 8, 5]
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 4] = 7
    torch.testing.assert_close(model(**changed).logits[:, :4], logits[:, :4], atol=1e-6, rtol=0)


def test_the_last_token_is_pooled_where_its_text_ends():
    model = build(family="gpt2", fusion="text")
    assert model.config.pooling == "last"
    batch = tiny_batch()
    states = model.clickprompt(**batch).last_hidden_state
    ends = torch.tensor([5, 8, 5, 8, 5])
    torch.testing.assert_close(model(**batch).logits, model.text_head(states[torch.arange(5), ends]))


def test_the_pretraining_task_must_fit_the_plm():
    with pytest.raises(ValueError, match="PA-MLM needs an encoder, got 'gpt2'.*ClickPromptForPACLM"):
        build(ClickPromptForPAMLM, family="gpt2")
    with pytest.raises(ValueError, match="PA-CLM needs a decoder, got 'bert'.*ClickPromptForPAMLM"):
        build(ClickPromptForPACLM, family="bert")
    with pytest.raises(ValueError, match="`pooling` must be 'last' or a mean for a decoder"):
        build(family="llama", pooling="cls")


def test_a_plm_that_takes_no_prompts_is_refused():
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
    albert = AlbertConfig(**sizes, embedding_size=8, num_hidden_layers=2)
    options = {"ctr_config": tiny_ctr_config(), "text_config": albert}
    with pytest.raises(ValueError, match="`prompt_strategy` 'layerwise' needs a PLM .* AlbertModel is neither"):
        ClickPromptModel(ClickPromptConfig(**options))
    ClickPromptModel(ClickPromptConfig(**options, prompt_strategy="shallow"))
    with pytest.raises(ValueError, match="families.*'albert'"):
        ClickPromptForPAMLM(ClickPromptConfig(**options, prompt_strategy="shallow"))
    bart = BartConfig(vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1)
    with pytest.raises(ValueError, match="`text_config` must be .* got BartConfig"):
        ClickPromptModel(ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=bart))
    decoder = tiny_text_config("bert", is_decoder=True)
    with pytest.raises(ValueError, match=r"`text_config.is_decoder` must be False"):
        ClickPromptModel(ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=decoder))


def test_a_plm_that_drops_the_prompts_is_detected(monkeypatch):
    from transformers.models.bert.modeling_bert import BertLayer

    forward = BertLayer.forward

    def forward_without_cache(self, *args, **kwargs):
        names = ("cache", "past_key_values")
        return forward(self, *args, **{name: value for name, value in kwargs.items() if name not in names})

    monkeypatch.setattr(BertLayer, "forward", forward_without_cache)
    with pytest.raises(RuntimeError, match=r"BertModel ignored the prompts of its layers \[0, 1\]"):
        build(family="bert")(**tiny_batch(padding=0))


@pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
def test_prompts_are_seen_beyond_a_layers_window(attn_implementation):
    text_config = tiny_text_config("modernbert", local_attention=8, num_hidden_layers=1, layer_types=None)
    text_config.layer_types = ["sliding_attention"]
    torch.manual_seed(0)
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=text_config, prompt_length=3)
    model = ClickPromptModel(config).eval()
    model.set_attn_implementation(attn_implementation)
    batch = tiny_batch(length=30, padding=0)
    prompts = model(**batch, output_prompts=True).prompts.detach().requires_grad_()
    inputs = batch["input_ids"], batch["attention_mask"]
    states = model.injection.inject(model.plm, prompts, *inputs).last_hidden_state
    for position in (0, 15, 29):
        (gradient,) = torch.autograd.grad(states[:, position].square().sum(), prompts, retain_graph=True)
        assert gradient.abs().amax() > 1e-6, position
    # the text's window is unchanged: 4 on each side
    for position, changes in ((11, True), (19, True), (10, False), (20, False)):
        other = {**batch, "input_ids": batch["input_ids"].clone()}
        other["input_ids"][:, position] = 7
        difference = (model(**other).last_hidden_state - model(**batch).last_hidden_state)[:, 15].abs().max()
        assert (difference > 1e-6) == changes, position


def test_a_decoders_window_must_reach_the_prompts():
    text_config = MistralConfig(
        **{"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"num_key_value_heads": 1, "intermediate_size": 24, "sliding_window": 12, "max_position_embeddings": 40},
    )
    model = ClickPromptModel(ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=text_config, prompt_length=3))
    assert model.config.max_text_length == 9
    with pytest.raises(ValueError, match="at most 9 tokens"):
        model(**tiny_batch(length=10, padding=0))


def test_layers_that_attend_to_no_tokens_are_refused():
    text_config = tiny_text_config("qwen3")
    text_config.layer_types = ["linear_attention", "full_attention"]
    plm = build(ClickPromptModel, family="qwen3").plm
    plm.config.layer_types = text_config.layer_types
    with pytest.raises(ValueError, match=r"also has \['linear_attention'\]"):
        choose_injection(plm, tiny_config("qwen3"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "product"}, "`fusion` must be one of"),
        ({"fusion_alpha": 5.0}, r"`fusion_alpha` must be in \[0, 1\]"),
        ({"prompt_length": 0}, "`prompt_length` must be at least 1"),
        ({"prompt_length": 2.5}, "`prompt_length` must be an integer, got 2.5"),
        ({"prompt_length": 39}, "`prompt_length` must leave"),
        ({"pool_prompts": True}, "`pool_prompts` must be False"),
    ],
)
def test_options_given_when_loading_are_checked(options, message, tmp_path):
    build().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        ClickPromptForCTR.from_pretrained(tmp_path, **options)


@pytest.mark.parametrize("learned", [True, False])
def test_a_fixed_alpha_stays_fixed(learned, tmp_path):
    build(fusion="weighted", fusion_alpha=0.25, learn_fusion_alpha=learned).save_pretrained(tmp_path)
    model = ClickPromptForCTR.from_pretrained(tmp_path)
    assert model.fusion.alpha.item() == 0.25
    assert any("alpha" in name for name, _ in model.named_parameters()) == learned
    # from a checkpoint without α
    build(ClickPromptForPAMLM).save_pretrained(tmp_path)
    options = {"fusion": "weighted", "fusion_alpha": 0.75, "learn_fusion_alpha": learned}
    assert ClickPromptForCTR.from_pretrained(tmp_path, **options).fusion.alpha.item() == 0.75


def test_tuples_have_the_loss_first():
    batch, clicks = tiny_batch(), torch.tensor([0, 1, 1, 0, 1])
    for model, labels in ((build(), clicks), (build(ClickPromptForPAMLM), masked_labels(batch))):
        expected = model(**batch, labels=labels, output_prompts=True)
        model.config.return_dict = False
        outputs = model(**batch, labels=labels, output_prompts=True)
        assert isinstance(outputs, tuple)
        assert torch.equal(outputs[0], expected.loss)
        assert torch.equal(outputs[-1], expected.prompts)
    trunk = build(ClickPromptModel)
    assert torch.equal(trunk(**batch, return_dict=False)[0], trunk(**batch).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vocabulary_grows(family):
    model = build(ClickPromptForPACLM if family in DECODERS else ClickPromptForPAMLM, family=family)
    batch = tiny_batch()
    logits = model(**batch).logits
    model.resize_token_embeddings(70)
    grown = model(**batch).logits
    assert grown.shape[-1] == 70
    assert model.config.text_config.vocab_size == 70
    torch.testing.assert_close(grown[..., :60], logits, atol=1e-5, rtol=0)
    tied = model.get_output_embeddings().weight is model.trunk.plm.get_input_embeddings().weight
    assert tied == (family != "llama")
    assert model(**batch, labels=masked_labels(batch)).loss.isfinite()


def test_without_a_plm_there_is_no_vocabulary_to_grow():
    with pytest.raises(ValueError, match="no token embeddings"):
        build(fusion="ctr").resize_token_embeddings(70)


def test_heads_that_a_checkpoint_lacks_start_fresh(tmp_path, monkeypatch):
    # uninitialized weights become visible
    monkeypatch.setattr(torch, "empty_like", lambda *args, **options: torch.full_like(*args, 7.0, **options))
    for family in ("roberta", "bert", "deberta-v2", "mpnet"):
        build(family=family, fusion="text").save_pretrained(tmp_path)
        model = ClickPromptForPAMLM.from_pretrained(tmp_path)
        assert not model.get_output_embeddings().bias.any(), family


def test_own_parameters_of_a_head_start_fresh(tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.modeling_ctr.BACKBONES", dict(BACKBONES))

    class ScaledHead(CTRHead):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def init_own_parameters(self):
            initialization.ones_(self.scale)

        def forward(self, interaction, feature_ids):
            return self.scale * interaction.sum(dim=-1, keepdim=True)

    @register_backbone("scaled")
    class Scaled(BACKBONES["fm"]):
        def make_head(self):
            return ScaledHead()

    build(ClickPromptForPAMLM, backbone="scaled").save_pretrained(tmp_path)
    model = ClickPromptForCTR.from_pretrained(tmp_path)
    assert model.ctr_head.scale.item() == 1
    torch.nn.init.constant_(model.ctr_head.scale, 3.0)
    model.save_pretrained(tmp_path)
    assert ClickPromptForCTR.from_pretrained(tmp_path).ctr_head.scale.item() == 3


def test_unknown_and_contradicting_options_of_a_pretrained_plm(tmp_path):
    BertModel(tiny_text_config("bert")).save_pretrained(tmp_path)
    for options, message in (
        ({"promt_length": 3}, r"`prompt_options` must be arguments of ClickPromptConfig, got \['promt_length'\]"),
        ({"fusion": "ctr"}, "`fusion` must be one that reads a PLM"),
    ):
        with pytest.raises(ValueError, match=message):
            ClickPromptForCTR.from_plm_pretrained(tmp_path, ctr_config=tiny_ctr_config(), **options)


def test_a_configuration_of_the_plm_is_left_as_it_was():
    text_config = tiny_text_config("t5")
    for _ in range(2):
        config = ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=text_config)
        assert config.pooling == "mean"
        ClickPromptForCTR(config)
    untied = tiny_text_config("llama", tie_word_embeddings=False)
    assert not ClickPromptConfig(ctr_config=tiny_ctr_config(), text_config=untied).tie_word_embeddings


def test_a_text_only_model_needs_no_ids():
    model, batch = build(prompt_strategy="none", fusion="text"), tiny_batch()
    del batch["feature_ids"]
    assert model(**batch).logits.shape == (5, 1)
    with pytest.raises(ValueError, match="`feature_ids` must be given"):
        build()(**batch)


def test_text_that_does_not_fit_is_refused():
    model = build()
    with pytest.raises(ValueError, match="`input_ids` must have at most 35 tokens per row, .* 3 prompts .* got 36"):
        model(torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 36), 5))
    with pytest.raises(ValueError, match="`input_ids` must be given"):
        model(torch.zeros(1, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("feature_ids", torch.Tensor.float, r"`feature_ids` must be integers \(G, C\), got torch.float32 \(5, 3\)"),
        ("feature_ids", lambda ids: ids[:4], "must be of the same rows, got 5 of text and 4 of ids"),
        ("input_ids", torch.Tensor.float, r"`input_ids` must be integers \(U, T\), got torch.float32 \(5, 9\)"),
        ("input_ids", lambda ids: ids[0], r"`input_ids` must be integers \(U, T\), got torch.int64 \(9,\)"),
        ("attention_mask", lambda mask: mask[:, 1:], r"`attention_mask` must be .* \(5, 9\) .* got \(5, 8\)"),
    ],
)
@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptModel])
def test_inputs_of_another_type_or_shape_are_refused(model_class, name, change, message):
    batch = tiny_batch()
    with pytest.raises(ValueError, match=message):
        build(model_class)(**{**batch, name: change(batch[name])})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([-1, 1, 1, -1, 1]), "`labels` must be 0 or 1, or -100 .* got -1"),
        (torch.tensor([1, 2, 2, 1, 1]), "`labels` must be 0 or 1, or -100 .* got 2"),
        (torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0]), "`labels` must be 0 or 1, or -100 .* got 0.5"),
        (torch.tensor([1.0, torch.nan, 0.0, 1.0, 1.0]), "`labels` must be 0 or 1, or -100 .* got nan"),
        (torch.ones(5, 1), r"`labels` must be one click per row, \(5,\), got \(5, 1\)"),
        (torch.ones(4), r"`labels` must be one click per row, \(5,\), got \(4,\)"),
    ],
)
def test_other_labels_than_clicks_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        build()(**tiny_batch(), labels=labels)


@pytest.mark.parametrize("kind", [torch.bool, torch.int8, torch.int64, torch.float32, torch.bfloat16])
def test_clicks_may_have_any_type(kind):
    clicks, model = torch.tensor([0, 1, 1, 0, 1]), build()
    expected = model(**tiny_batch(), labels=clicks).loss
    assert torch.equal(model(**tiny_batch(), labels=clicks.to(kind)).loss, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels[:, 1:], r"`labels` must be one per token, \(5, 9\), got \(5, 8\)"),
        (lambda labels: labels[:, 0], r"`labels` must be integers \(B, T\), got torch.int64 \(5,\)"),
        (torch.Tensor.float, r"`labels` must be integers \(B, T\), got torch.float32 \(5, 9\)"),
    ],
)
def test_other_labels_than_tokens_are_refused(change, message):
    batch = tiny_batch()
    with pytest.raises(ValueError, match=message):
        build(ClickPromptForPAMLM)(**batch, labels=change(masked_labels(batch)))


@pytest.mark.parametrize("pooling", ["cls", "mean_last_two"])
def test_click_models_return_what_all_layers_compute_on_request(pooling):
    model, batch = build(pooling=pooling, attn_implementation="eager"), tiny_batch()
    expected = model.clickprompt(**batch, output_hidden_states=True, output_attentions=True)
    plain = model(**batch)
    assert plain.hidden_states is None
    assert plain.attentions is None
    outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    assert [*map(tuple, (state.shape for state in outputs.hidden_states))] == [(5, 9, 16)] * 3
    assert [*map(tuple, (weights.shape for weights in outputs.attentions))] == [(5, 2, 9, 3 + 9)] * 2
    for name in ("hidden_states", "attentions"):
        torch.testing.assert_close(outputs[name], expected[name], rtol=0, atol=0)
    torch.testing.assert_close(outputs.logits, plain.logits)


@pytest.mark.parametrize("with_labels", [False, True])
def test_pretraining_models_return_what_all_layers_compute_on_request(with_labels):
    model, batch = build(ClickPromptForPAMLM, attn_implementation="eager"), tiny_batch()
    expected = model.clickprompt(**batch, output_hidden_states=True, output_attentions=True)
    labels = masked_labels(batch) if with_labels else None
    outputs = model(**batch, labels=labels, output_hidden_states=True, output_attentions=True)
    for name in ("hidden_states", "attentions"):
        torch.testing.assert_close(outputs[name], expected[name], rtol=0, atol=0)
    first = "loss" if with_labels else "logits"
    torch.testing.assert_close(outputs[first], model(**batch, labels=labels)[first])


def test_an_unknown_backbone_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"one of \['autoint', 'dcn', 'dcnv2', .*\], got 'nothing'"):
        ClickPromptModel(ClickPromptConfig(ctr_config=CTRConfig(backbone="nothing", field_sizes=[2]), fusion="ctr"))


def test_a_custom_backbone(tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.modeling_ctr.BACKBONES", dict(BACKBONES))

    @register_backbone("mine")
    class Mine(CTRBackbone):
        def __init__(self, config):
            super().__init__(config)
            self.dnn = DNN(self.flat_size, [4])
            self.interaction_size = 4

        def interact(self, embeddings, feature_ids):
            return self.dnn(embeddings.flatten(1))

    model = build(backbone="mine")
    model.save_pretrained(tmp_path)
    loaded = ClickPromptForCTR.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits, atol=0, rtol=0)
    with pytest.raises(ValueError, match="'dnn' is already the backbone DeepNeuralNetwork"):
        register_backbone("dnn")(Mine)


def test_fresh_weights_have_the_scale_that_trains():
    ctr_config = tiny_ctr_config(embedding_size=32, dnn_hidden_sizes=[96, 96], embedding_initializer_range=0.02)
    options = {"text_config": tiny_text_config(), "ctr_config": ctr_config}
    model = ClickPromptForCTR(ClickPromptConfig(**options))
    trunk = model.clickprompt
    scaled = ClickPromptForCTR(ClickPromptConfig(**options, prompt_initializer_scale=3)).clickprompt
    ratio = scaled.prompt_encoder.expansion.weight.std() / trunk.prompt_encoder.expansion.weight.std()
    assert ratio.item() == pytest.approx(3, rel=0.05)
    per_slot = [
        ClickPromptModel(ClickPromptConfig(**options, prompt_encoder="paper", prompt_initializer_scale=scale))
        for scale in (1, 3)
    ]
    ratio = per_slot[1].prompt_encoder.output.weight.std() / per_slot[0].prompt_encoder.output.weight.std()
    assert ratio.item() == pytest.approx(3, rel=0.1)
    for layer, inputs, outputs in (
        (trunk.ctr.dnn.layers[0], 96, 96),
        (trunk.ctr.cross_net.layers[1], 96, 96),
        (trunk.prompt_encoder.expansion, 16, 2 * 5 * 2 * 16),
        (model.text_head.dense, 16, 16),
    ):
        # Xavier normal, within four standard errors
        expected, error = (2 / (inputs + outputs)) ** 0.5, (2 * inputs * outputs) ** -0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=4 * error)
        assert not layer.bias.any()
    table = trunk.ctr.embedding.table.weight
    assert not table[[0, 7, 12]].any()
    assert table[1:7].std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    ("family", "kind"),
    [*(("roberta", kind) for kind in PROMPTS if kind != "released"), *((f, "released") for f in FAMILIES)],
)
def test_compiled_without_a_graph_break(family, kind):
    torch.compiler.reset()
    model, batch = build(family=family, **PROMPTS[kind]), tiny_batch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", PROMPTS)
def test_autocast_stays_near_float32(kind, dtype):
    model, batch = build(**PROMPTS[kind]), tiny_batch()
    expected = model(**batch, labels=torch.tensor([0, 1, 1, 0, 1]))
    with torch.autocast("cpu", dtype=dtype):
        outputs = model(**batch, labels=torch.tensor([0, 1, 1, 0, 1]))
    assert outputs.loss.dtype == torch.float32
    outputs.loss.backward()
    torch.testing.assert_close(outputs.logits.float(), expected.logits, atol=0.15, rtol=0.05)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_plm_in_half_precision_is_loaded_in_float32(tmp_path):
    AutoModelForMaskedLM.from_config(tiny_text_config()).half().save_pretrained(tmp_path)
    model = ClickPromptForCTR.from_plm_pretrained(tmp_path, ctr_config=tiny_ctr_config())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(**tiny_batch()).logits.isfinite().all()
