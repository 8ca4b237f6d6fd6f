"""Inspection of a model against hand-computed numbers."""

import pytest
import torch
from tiny_data import tiny_roberta_tokenizer, tiny_rows, tiny_schema
from tiny_models import DECODERS, FAMILIES, tiny_batch, tiny_config, tiny_ctr_config, tiny_text_config

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPAMLM,
    ClickPromptModel,
    ClickPromptProcessor,
    FieldSchema,
    Schema,
)
from clickprompt_hf.cells_clickprompt import time_part
from clickprompt_hf.inspection import frequent_values, logit_parts, other_times, prompt_attention, what_if


@pytest.fixture(scope="module")
def processor():
    return ClickPromptProcessor.fit(tiny_rows(), tiny_schema(), tiny_roberta_tokenizer())


@pytest.fixture(scope="module")
def model(processor):
    torch.manual_seed(0)
    text_config = tiny_text_config(vocab_size=len(processor.tokenizer), max_position_embeddings=100)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    config = ClickPromptConfig(text_config=text_config, ctr_config=ctr_config, prompt_length=2)
    return ClickPromptForCTR(config).eval()


@pytest.mark.parametrize("strategy", ["layerwise", "shallow"])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_get_their_share_of_uniform_attention(family, strategy):
    # with zero weights in the PLM every attention score is 0, so attention is uniform
    model = ClickPromptModel(tiny_config(family, prompt_strategy=strategy, prompt_length=3)).eval()
    for parameter in model.plm.parameters():
        torch.nn.init.zeros_(parameter)
    before = model.plm.config._attn_implementation
    masses = prompt_attention(model, **tiny_batch(rows=2, length=9, padding=4))

    lengths = 5, 9
    if family in DECODERS:
        # the t-th token sees the prompts and t tokens
        expected = [sum(3 / (3 + t) for t in range(1, length + 1)) / length for length in lengths]
    else:
        expected = [3 / (3 + length) for length in lengths]
    layers = model.config.text_config.num_hidden_layers
    torch.testing.assert_close(masses, torch.tensor(expected)[:, None].expand(2, layers))
    assert model.plm.config._attn_implementation == before


@pytest.mark.parametrize(("bias", "expected"), [(50.0, 1.0), (-50.0, 0.0)])
def test_prompts_that_outweigh_the_text(bias, expected):
    model = ClickPromptForCTR(tiny_config(prompt_length=3)).eval()
    for layer in model.base_model.plm.encoder.layer:
        # every query is (1, ..., 1), every key of a prompt (bias, ..., bias), every key of the text 0
        torch.nn.init.zeros_(layer.attention.self.query.weight)
        torch.nn.init.ones_(layer.attention.self.query.bias)
        torch.nn.init.zeros_(layer.attention.self.key.weight)
    torch.nn.init.zeros_(model.base_model.prompt_encoder.expansion.weight)
    torch.nn.init.constant_(model.base_model.prompt_encoder.expansion.bias, bias)
    torch.testing.assert_close(prompt_attention(model, **tiny_batch()), torch.full((5, 2), expected))


@pytest.mark.parametrize("head", [ClickPromptForCTR, ClickPromptForPAMLM])
def test_attention_shares_of_random_weights(head):
    torch.manual_seed(0)
    masses = prompt_attention(head(tiny_config()).eval(), **tiny_batch())
    assert masses.shape == (5, 2)
    assert ((masses > 0) & (masses < 1)).all()
    assert len(masses.unique()) == 10


@pytest.mark.parametrize("options", [{"fusion": "ctr"}, {"prompt_strategy": "none"}])
def test_models_without_prompts_are_refused(options):
    options = {**options, "text_config": None if "fusion" in options else tiny_text_config()}
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), **options))
    with pytest.raises(ValueError, match="must have a PLM with prompts, got fusion="):
        prompt_attention(model, **tiny_batch())


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"fusion": "sum"}, {"ctr": 1.0, "text": 1.0}),
        ({"fusion": "weighted", "fusion_alpha": 0.25, "fusion_alpha_on": "ctr"}, {"ctr": 0.25, "text": 0.75}),
        ({"fusion": "weighted", "fusion_alpha": 0.25, "fusion_alpha_on": "text"}, {"ctr": 0.75, "text": 0.25}),
        ({"fusion": "text"}, {"text": 1.0}),
    ],
)
@torch.no_grad()
def test_parts_of_the_logit(options, weights):
    model = ClickPromptForCTR(tiny_config(**options)).eval()
    outputs = model(**tiny_batch())
    parts = logit_parts(model, outputs)
    assert parts.keys() == weights.keys()
    for side, weight in weights.items():
        torch.testing.assert_close(parts[side], weight * outputs[f"{side}_logits"])
    torch.testing.assert_close(sum(parts.values()), outputs.logits)


@torch.no_grad()
def test_parts_of_a_backbone_alone():
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr")).eval()
    outputs = model(tiny_batch()["feature_ids"])
    assert logit_parts(model, outputs) == {"ctr": outputs.ctr_logits}


@torch.no_grad()
def test_what_if(model, processor):
    row = {"user": 3, "price": 2.5, "tags": ["new"], "title": "Up", "click": 1}
    changed = what_if(model, processor, row, "title", ["Up", "Café Noir", None])
    for title, probability in zip(["Up", "Café Noir", None], changed):
        inputs = processor([{"user": 3, "price": 2.5, "tags": ["new"], "title": title}], return_tensors="pt")
        assert probability == pytest.approx(torch.sigmoid(model(**inputs).logits).item(), abs=1e-6)
    assert len(set(changed)) == 3
    assert what_if(model, processor, row, "title", []) == []
    with pytest.raises(ValueError, match=r"`column` must be one of the schema's, \['user', .*\], got 'name'"):
        what_if(model, processor, row, "name", ["Up"])


def test_frequent_values():
    rows = {
        "user": [1, 1, 1, 2, 2, 3],
        "price": [1.0, 2.0, 3.0, 4.0, 5.0, None],
        "tags": ["a|b", "a", "a", "", "", ""],
        "title": [None, None, None, "Up", "Up", "M*A*S*H"],
        "click": [0] * 6,
    }
    processor = ClickPromptProcessor.fit(rows, tiny_schema())
    assert frequent_values(processor, "user") == ["1", "2", "3"]
    assert frequent_values(processor, "user", limit=2) == ["1", "2"]
    # the missing value is left out, however frequent
    assert frequent_values(processor, "title", limit=2) == ["Up", "M*A*S*H"]
    assert frequent_values(processor, "tags") == [["a"], ["b"]]
    # quartiles
    assert frequent_values(processor, "price") == [2.0, 3.0, 4.0]
    assert frequent_values(processor, "price", limit=2) == [2.0, 4.0]


def test_other_times_differ_in_the_part_that_is_read():
    hour, weekday, month = (
        FieldSchema("at", kind=kind, time_format="%d.%m.%Y %H:%M") for kind in ("hour", "weekday", "month")
    )
    value = "31.12.2024 20:09"
    assert other_times(hour, value)[:2] == ["31.12.2024 00:09", "31.12.2024 03:09"]
    assert [time_part(time, hour) for time in other_times(hour, value)] == [str(n) for n in range(0, 24, 3)]
    assert other_times(weekday, value)[:2] == ["31.12.2024 20:09", "01.01.2025 20:09"]
    assert len({time_part(time, weekday) for time in other_times(weekday, value)}) == 7
    assert other_times(month, value)[1] == "28.02.2024 20:09"
    assert len({time_part(time, month) for time in other_times(month, value)}) == 12
    # a value that is not a time starts from a fixed one
    for blank in ("", None, "soon"):
        assert other_times(FieldSchema("at", kind="weekday"), blank)[0] == "2024-01-01 12:00:00"


def test_a_chart_of_other_times():
    pytest.importorskip("gradio", reason="needs gradio: pip install 'clickprompt_hf[app]'")
    from clickprompt_hf.runs import app_page

    rows = {"user": [1, 2] * 4, "at": [f"2024-01-0{n} 0{n}:00" for n in range(1, 9)], "click": [0, 1] * 4}
    schema = Schema.from_dict({"fields": ["user", {"column": "at", "kind": "hour"}], "label": "click"})
    processor = ClickPromptProcessor.fit(rows, schema)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")).eval()
    table = app_page.changes_chart(model, processor, {"user": 1, "at": "2024-01-03 05:30"}, "at").value
    assert [row[0] for row in table["data"]] == ["5", "0", "3", "6", "9", "12", "15", "18", "21"]
    assert [row[2] for row in table["data"]] == ["unchanged", *["changed"] * 8]
