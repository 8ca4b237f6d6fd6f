"""Tools of torch that take a whole model: dynamic quantization and export."""

import pytest
import torch
from tiny_models import BACKBONES, tiny_batch, tiny_config, tiny_ctr_config, tiny_text_config
from torch.ao.nn.quantized.dynamic import Linear as QuantizedLinear
from torch.export import Dim

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.layers_ctr import XavierLinear

# Linear layers whose weights are read directly, not by a call, and which quantization must skip.
READ_DIRECTLY = {"fibinet": 3, "fignn": 1, "transformer": 4}


def quantized(model):
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def linear_layers(model, kind):
    return {name for name, module in model.named_modules() if isinstance(module, kind)}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_quantization_reaches_the_linear_layers_of_every_backbone(backbone):
    torch.manual_seed(0)
    ctr_config = tiny_ctr_config(backbone, num_attention_layers=2)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr_config, fusion="ctr")).eval()
    small = quantized(model)
    skipped = linear_layers(model, XavierLinear)
    # torch itself skips the output projection of attention
    other = {name for name in linear_layers(model, torch.nn.Linear) if name.endswith("self_attn.out_proj")}
    assert len(skipped) == READ_DIRECTLY.get(backbone, 0)
    assert linear_layers(small, QuantizedLinear) == linear_layers(model, torch.nn.Linear) - skipped - other
    with torch.no_grad():
        rows = {"feature_ids": tiny_batch(rows=64)["feature_ids"]}
        expected, found = model(**rows).logits, small(**rows).logits
    assert (found - expected).abs().max() < 0.25 * expected.std()


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.parametrize("options", [{}, {"prompt_encoder": "paper"}, {"prompt_strategy": "shallow"}])
@pytest.mark.parametrize("family", ["roberta", "bert", "distilbert", "gpt2"])
def test_quantization_reaches_prompts_heads_and_plm(family, options):
    torch.manual_seed(0)
    model = ClickPromptForCTR(tiny_config(family, **options)).eval()
    small = quantized(model)
    assert linear_layers(small, QuantizedLinear) == linear_layers(model, torch.nn.Linear)
    with torch.no_grad():
        batch = tiny_batch(rows=64)
        expected, found = model(**batch).logits, small(**batch).logits
    assert 0 < (found - expected).abs().max() < 0.25 * expected.std()


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_exported_programs_take_states_of_any_number_of_texts(family):
    torch.manual_seed(0)
    text_config = tiny_text_config(family, num_hidden_layers=2)
    ctr_config = tiny_ctr_config("fm")
    config = ClickPromptConfig(text_config=text_config, ctr_config=ctr_config, prompt_length=2, prompt_depth=1)
    model = ClickPromptForCTR(config).eval()

    def inputs(rows, texts, ids, length):
        batch = tiny_batch(texts, length, padding=2, seed=rows)
        return {
            "feature_ids": tiny_batch(ids, length)["feature_ids"],
            "text_states": model.encode_text(batch["input_ids"], batch["attention_mask"]),
            "attention_mask": batch["attention_mask"],
            "text_rows": torch.arange(rows) % texts,
            "feature_rows": torch.arange(rows) % ids,
        }

    rows, texts, ids, length = Dim("rows", max=512), Dim("texts", max=512), Dim("ids", max=512), Dim("length", max=35)
    shapes = {
        **{"feature_ids": {0: ids}, "text_states": {0: texts, 1: length}, "attention_mask": {0: texts, 1: length}},
        **{"text_rows": {0: rows}, "feature_rows": {0: rows}},
    }
    with torch.no_grad():
        program = torch.export.export(model, (), inputs(5, 3, 4, 9), dynamic_shapes=shapes).module()
        for sizes in ((5, 3, 4, 9), (1, 2, 1, 4), (17, 5, 3, 35), (200, 20, 9, 6)):
            given = inputs(*sizes)
            torch.testing.assert_close(program(**given).logits, model(**given).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", ["roberta", "bert", "distilbert", "gpt2"])
def test_exported_programs_take_batches_and_texts_of_any_size(family):
    torch.manual_seed(0)
    # Exporting takes seconds per layer.
    text_config = tiny_text_config(family, num_hidden_layers=1)
    config = ClickPromptConfig(text_config=text_config, ctr_config=tiny_ctr_config("fm"), prompt_length=2)
    model = ClickPromptForCTR(config).eval()
    batch, length = Dim("batch", max=512), Dim("length", min=2, max=35)
    shapes = {"feature_ids": {0: batch}, "input_ids": {0: batch, 1: length}, "attention_mask": {0: batch, 1: length}}
    program = torch.export.export(model, (), tiny_batch(rows=5, length=9), dynamic_shapes=shapes).module()
    with torch.no_grad():
        for rows, size in ((5, 9), (1, 4), (17, 20), (3, 35)):
            inputs = tiny_batch(rows, size, padding=2, seed=rows)
            torch.testing.assert_close(program(**inputs).logits, model(**inputs).logits, atol=1e-6, rtol=0)
