"""LoRA on the PLM, the CTR part and the prompt encoder fully trained, by `get_peft_model`."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import tiny_batch, tiny_config

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPAMLM
from clickprompt_hf.training.optimizer import plm_parameters

TRAINED = ["ctr", "prompt_encoder", "ctr_head", "text_head", "fusion"]


def build():
    torch.manual_seed(0)
    return ClickPromptForCTR(tiny_config(fusion="weighted")).eval()


def adapted(model):
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=TRAINED, init_lora_weights=False)
    return get_peft_model(model, config)


def test_which_parameters_are_trained():
    model = adapted(build())
    batch = tiny_batch()
    model(**batch, labels=torch.tensor([0, 1, 1, 0, 1])).loss.backward()
    for name, parameter in model.named_parameters():
        trained = "lora_" in name or "modules_to_save" in name
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
    # adapters train at the PLM's learning rate
    rates = set(plm_parameters(model))
    assert {name for name, p in model.named_parameters() if p.requires_grad and "lora_" in name} <= rates
    assert not {name for name in rates if any(part in name for part in TRAINED)}


def test_adapters_are_small_saved_reloaded_and_merged(tmp_path):
    model, batch = adapted(build()), tiny_batch()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1)
    expected = model(**batch).logits
    assert (expected - build()(**batch).logits).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "adapter")
    reloaded = PeftModel.from_pretrained(build(), tmp_path / "adapter").eval()
    torch.testing.assert_close(reloaded(**batch).logits, expected, atol=1e-6, rtol=0)
    saved = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert saved < 4 * trained * 1.5 + 10_000

    merged = reloaded.merge_and_unload()
    assert isinstance(merged, ClickPromptForCTR)
    torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-5, rtol=0)
    merged.save_pretrained(tmp_path / "merged")
    loaded = ClickPromptForCTR.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-5, rtol=0)


def test_adapters_on_pamlm():
    torch.manual_seed(0)
    model = get_peft_model(
        ClickPromptForPAMLM(tiny_config()),
        LoraConfig(r=2, target_modules=["query"], modules_to_save=["ctr", "prompt_encoder", "lm_head"]),
    )
    batch = tiny_batch()
    assert model(**batch, labels=batch["input_ids"]).loss.isfinite()


def test_targets_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match="Target modules"):
        get_peft_model(build(), LoraConfig(target_modules=["c_attn"]))
