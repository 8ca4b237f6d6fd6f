"""Conversion of the authors' checkpoints: what it refuses, special cases, and its command line."""

import json

import pytest
import torch
from reference import Reference

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM
from clickprompt_hf.export import convert_original
from clickprompt_hf.export.convert_original import convert_original_checkpoint
from clickprompt_hf.runs import convert


@pytest.fixture(scope="module")
def reference():
    return Reference("DeepFM-prefix_add-cls")


def test_a_missing_tensor_is_refused(reference):
    state = reference.state_dict
    del state["ctr_model.dnn.dnn.0.weight"]
    with pytest.raises(ValueError, match=r"lacks those for \['clickprompt.ctr.dnn.layers.0.weight'\]"):
        convert_original_checkpoint(state, reference.metadata)


@pytest.mark.parametrize("name", ["optimizer.step", "ctr_model.dnn.dnn.9.weight"])
def test_an_unknown_tensor_is_refused(reference, name):
    with pytest.raises(ValueError, match="does not support|it also holds those for"):
        convert_original_checkpoint({**reference.state_dict, name: torch.zeros(2, 2)}, reference.metadata)


def test_a_tensor_of_another_shape_is_refused(reference):
    state = {**reference.state_dict, "ctr_model.fc_out.bias": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"ctr_head.output.bias of shape \(1,\), got \(2,\)"):
        convert_original_checkpoint(state, reference.metadata)


def test_a_constant_with_another_value_is_refused(reference):
    state = {**reference.state_dict, "ctr_model.ip_layer.field_p": torch.ones(10)}
    with pytest.raises(ValueError, match="constant in 'ctr_model.ip_layer.field_p'"):
        convert_original_checkpoint(state, reference.metadata)


@pytest.mark.parametrize(("name", "value"), [("prompt_usage", "both"), ("model_fusion", "suffix")])
def test_a_setting_without_counterpart_is_refused(reference, name, value):
    config = {**json.loads(reference.metadata["config"]), name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .* got '{value}'"):
        convert_original_checkpoint(reference.state_dict, {**reference.metadata, "config": config})


def test_biases_of_one_parameter_must_agree():
    reference = Reference("DeepFM-prefix-mlm")
    state = {**reference.state_dict, "lm_head.bias": torch.ones(120)}
    with pytest.raises(ValueError, match="equal tensors for 'lm_head.bias'"):
        convert_original_checkpoint(state, reference.metadata)


def test_a_bert_of_the_authors_has_its_head_under_another_name():
    """The authors' LM head is BERT's `predictions` itself."""
    torch.manual_seed(0)
    reference = Reference("DeepFM-prefix-mlm")
    plm_config = {**json.loads(reference.metadata["plm_config"]), "model_type": "bert"}
    config = convert_original._config(json.loads(reference.metadata["config"]), {}, plm_config, reference.field_sizes)
    model = ClickPromptForPAMLM(config).eval()
    names = {"clickprompt.plm.": "nlp_encoder.", "lm_head.predictions.": "lm_head."}
    state = {name: t for name, t in reference.state_dict.items() if name.startswith("ctr_model.")}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                state[theirs + name.removeprefix(ours)] = tensor
    converted = convert_original_checkpoint(state, {**reference.metadata, "plm_config": plm_config})
    for name, tensor in model.state_dict().items():
        if name.startswith(tuple(names)):
            assert torch.equal(converted.state_dict()[name], tensor), name


def settings(reference, **changed):
    return {**reference.metadata, "config": {**json.loads(reference.metadata["config"]), **changed}}


def test_attention_without_residual_is_converted_as_such():
    reference = Reference("AutoInt-ctr_only")
    state = {name: tensor for name, tensor in reference.state_dict.items() if "W_res" not in name}
    model = convert_original_checkpoint(state, settings(reference, res_conn=False))
    layer = model.clickprompt.ctr.attention[0]
    assert not layer.residual
    fields = torch.randn(2, 5, 8)
    query, key, value = (getattr(layer, name)(fields) for name in ("query", "key", "value"))
    attended = (query @ key.transpose(1, 2)).softmax(-1) @ value
    torch.testing.assert_close(layer(fields), attended.relu())


def test_the_matrix_of_the_last_field_is_dropped():
    reference = Reference("FiBiNet-ctr_only")
    prefix = "ctr_model.bilinear_layer.bilinear_layer"
    matrices = {f"{prefix}.{f}.weight": torch.randn(8, 8) for f in range(5)}
    state = {name: tensor for name, tensor in reference.state_dict.items() if not name.startswith(prefix)}
    each = settings(reference, bilinear_type="field_each")
    model = convert_original_checkpoint({**state, **matrices}, each)
    layers = model.clickprompt.ctr.bilinear.layers
    assert len(layers) == 4
    for f, layer in enumerate(layers):
        assert torch.equal(layer.weight, matrices[f"{prefix}.{f}.weight"])


@pytest.mark.parametrize(
    ("name", "changed"),
    [("AutoInt-ctr_only", {"num_attn_heads": 2}), ("FGCNN-ctr_only", {"conv_act": "relu"})],
)
def test_settings_without_a_counterpart_are_refused(name, changed):
    reference = Reference(name)
    with pytest.raises(ValueError, match=f"`{next(iter(changed))}` must be"):
        convert_original_checkpoint(reference.state_dict, settings(reference, **changed))


def test_command_line(reference, tmp_path, capsys):
    torch.save(
        {f"model.{name}": tensor for name, tensor in reference.state_dict.items()}, tmp_path / "pytorch_model.bin"
    )
    (tmp_path / "original.json").write_text(json.dumps(reference.metadata))
    convert.main([str(tmp_path / name) for name in ("pytorch_model.bin", "original.json", "out")])
    assert "ClickPromptForCTR" in capsys.readouterr().out
    model = ClickPromptForCTR.from_pretrained(tmp_path / "out")
    inputs = {name: tensor for name, tensor in reference.inputs.items() if name != "labels"}
    probability = model(**inputs).logits.sigmoid().squeeze(-1)
    torch.testing.assert_close(probability, reference.expected["probability"], atol=1e-5, rtol=0)
