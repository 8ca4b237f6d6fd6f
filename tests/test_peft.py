"""LoRA on the PLM, the CTR part and the prompt encoder fully trained, by `get_peft_model`."""

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import tiny_batch, tiny_config
from transformers import AutoModelForSequenceClassification

from clickprompt_hf import ClickPromptForCTR, ClickPromptForPACLM, ClickPromptForPAMLM
from clickprompt_hf.click_probabilities import corrected_probabilities
from clickprompt_hf.loading_clickprompt import FreshHeadsWarning
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
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


@pytest.mark.parametrize(
    ("targets", "saved"),
    [(["query"], []), (["query"], ["lm_head"]), ("all-linear", []), (["query", "{decoder}"], [])],
    ids=["attention", "trained LM head", "all linear layers", "decoder"],
)
@pytest.mark.parametrize("family", ["roberta", "bert", "deberta-v2", "t5", "gpt2"])
def test_adapters_beside_a_tied_lm_head_merge_exactly(family, targets, saved, tmp_path):
    model_class = ClickPromptForPACLM if family == "gpt2" else ClickPromptForPAMLM
    attention = {"deberta-v2": "query_proj", "t5": "q", "gpt2": "c_attn"}.get(family, "query")
    adapts_decoder = "{decoder}" in targets
    if targets != "all-linear":
        targets = [target.format(decoder="decoder") if "{" in target else attention for target in targets]

    def base():
        torch.manual_seed(0)
        # float64, so that only a mistake can differ
        model = model_class(tiny_config(family)).double().eval()
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        if adapts_decoder:
            model.untie_word_embeddings()
        return model

    config = LoraConfig(
        r=2, target_modules=targets, modules_to_save=["ctr", "prompt_encoder", *saved], init_lora_weights=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = get_peft_model(base(), config).eval()
    batch = tiny_batch()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
        expected = model(**batch).logits
        assert (expected - base()(**batch).logits).abs().max() > 1e-2
    model.save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        reloaded = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    merged = reloaded.merge_and_unload()
    torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-9, rtol=0)
    merged.save_pretrained(tmp_path / "merged")
    loaded = model_class.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(loaded(**batch).logits, expected, atol=1e-9, rtol=0)


def test_an_untied_decoder_trains_on_its_own(tmp_path):
    model = ClickPromptForPAMLM(tiny_config()).eval()
    expected = model(**tiny_batch()).logits
    model.untie_word_embeddings()
    torch.testing.assert_close(model(**tiny_batch()).logits, expected)
    before = model.get_input_embeddings().weight.clone()
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(1)
        model.get_output_embeddings().bias.add_(1)
    torch.testing.assert_close(model.get_input_embeddings().weight, before)
    model.save_pretrained(tmp_path)
    loaded = ClickPromptForPAMLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits)


def probabilities(model, batch):
    with torch.no_grad():
        return corrected_probabilities(model(**batch).logits, model.config)


def calibrated(model):
    """Other than its base, which is calibrated too."""
    model.config.calibration_scale, model.config.calibration_shift = 0.5, -0.25
    return model


def base_in(folder):
    base = build()
    base.config.calibration_scale = 2.0
    base.save_pretrained(folder)
    return ClickPromptForCTR.from_pretrained(folder)


def test_adapters_of_a_trainer_keep_the_calibration(tmp_path):
    model, batch = adapted(base_in(tmp_path / "base")), tiny_batch()
    arguments = ClickPromptTrainingArguments(
        str(tmp_path / "adapter"), eval_strategy="no", load_best_model_at_end=False, report_to="none", use_cpu=True
    )
    trainer = ClickPromptTrainer(model, arguments)
    calibrated(model.get_base_model())
    expected = probabilities(model.eval(), batch)
    trainer.save_model()
    assert not (tmp_path / "adapter" / "config.json").exists()
    base = ClickPromptForCTR.from_pretrained(tmp_path / "base")
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert (probabilities(loaded, batch) - expected).abs().max() > 0.01
    base.load_calibration(tmp_path / "adapter")
    torch.testing.assert_close(probabilities(loaded, batch), expected)
    loaded.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = ClickPromptForCTR.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(probabilities(merged, batch), expected, atol=1e-5, rtol=0)


def test_adapters_of_transformers_keep_the_calibration(tmp_path):
    model, batch = base_in(tmp_path / "base"), tiny_batch()
    torch.manual_seed(1)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    expected = probabilities(calibrated(model).eval(), batch)
    model.save_pretrained(tmp_path / "adapter")
    again = ClickPromptForCTR.from_pretrained(tmp_path / "base")
    again.load_adapter(tmp_path / "adapter")
    loaders = (ClickPromptForCTR, AutoModelForSequenceClassification)
    for loaded in (again, *(loader.from_pretrained(tmp_path / "adapter") for loader in loaders)):
        torch.testing.assert_close(probabilities(loaded.eval(), batch), expected)
        assert loaded.config.calibration_scale == 0.5
    # an adapter that PEFT or an earlier version saved
    path = tmp_path / "adapter" / "click_probabilities.json"
    written = path.read_text()
    path.unlink()
    assert ClickPromptForCTR.from_pretrained(tmp_path / "adapter").config.calibration_scale == 2
    for damaged in (written[:20], written.replace("0.5", "-1"), "{}"):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"click_probabilities.json must hold \['calibration_scale', "):
            ClickPromptForCTR.from_pretrained(tmp_path / "adapter")


@pytest.mark.parametrize("targets", [["query", "value"], ["dense"], ["table"], ["expansion", "cross_net.layers.0"]])
def test_adapters_by_the_methods_of_transformers(targets, tmp_path):
    build().save_pretrained(tmp_path / "base")
    model, batch = ClickPromptForCTR.from_pretrained(tmp_path / "base"), tiny_batch()
    plain = model(**batch).logits
    torch.manual_seed(1)
    model.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    expected = model(**batch).logits
    assert (expected - plain).abs().max() > 1e-4
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    model.disable_adapters()
    torch.testing.assert_close(model(**batch).logits, plain)
    model.enable_adapters()
    model.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    again = ClickPromptForCTR.from_pretrained(tmp_path / "base")
    again.load_adapter(tmp_path / "adapter")
    for loaded in (again, AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")):
        torch.testing.assert_close(loaded(**batch).logits, expected)
        assert loaded.fresh_weights == ()


def test_heads_that_only_an_adapter_has_are_not_fresh(tmp_path):
    ClickPromptForPAMLM(tiny_config()).save_pretrained(tmp_path / "base")
    with pytest.warns(FreshHeadsWarning):
        model = ClickPromptForCTR.from_pretrained(tmp_path / "base")
    for name, saved in (("whole", ["ctr_head", "text_head"]), ("half", ["ctr_head"])):
        adapted = copy.deepcopy(model)
        adapted.add_adapter(LoraConfig(r=2, target_modules=["query"], modules_to_save=saved))
        adapted.save_pretrained(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ClickPromptForCTR.from_pretrained(tmp_path / "whole").fresh_weights == ()
    with pytest.warns(UserWarning, match=r"was saved without text_head\.dense\.bias"):
        half = ClickPromptForCTR.from_pretrained(tmp_path / "half")
    assert {name.partition(".")[0] for name in half.fresh_weights} == {"text_head"}
