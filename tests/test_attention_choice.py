"""The PLM's attention implementation: chosen in every way that transformers knows, and reported as it runs."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_batch, tiny_config, tiny_ctr_config, tiny_text_config
from transformers import AutoModel, AutoModelForSequenceClassification, RobertaForMaskedLM

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM

CHOICES = {
    "name": ("eager", "eager"),
    "default": (None, "sdpa"),
    "part": ({"text_config": "eager"}, "eager"),
    "part and rest": ({"text_config": "eager", "": "sdpa"}, "eager"),
    "rest": ({"": "eager"}, "eager"),
    "nested": ({"text_config": {"": "eager"}}, "eager"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    ClickPromptForCTR(tiny_config()).save_pretrained(folder / "ctr")
    ClickPromptForPAMLM(tiny_config()).save_pretrained(folder / "pamlm")
    RobertaForMaskedLM(tiny_text_config()).save_pretrained(folder / "plm")
    return folder


def set_later(folder, choice):
    model = ClickPromptForCTR.from_pretrained(folder / "ctr")
    model.set_attn_implementation("sdpa" if choice is None else choice)
    return model


WAYS = {
    "class": lambda f, c: ClickPromptForCTR.from_pretrained(f / "ctr", attn_implementation=c),
    "pamlm": lambda f, c: ClickPromptForPAMLM.from_pretrained(f / "pamlm", attn_implementation=c),
    "auto": lambda f, c: AutoModelForSequenceClassification.from_pretrained(f / "ctr", attn_implementation=c),
    "trunk": lambda f, c: AutoModel.from_pretrained(f / "ctr", attn_implementation=c),
    "config": lambda f, c: ClickPromptForCTR(tiny_config(attn_implementation=c)),
    "set": set_later,
    "plm_kwargs": lambda f, c: ClickPromptForCTR.from_plm_pretrained(
        f / "plm", tiny_ctr_config(), plm_kwargs={"attn_implementation": c}
    ),
    "option": lambda f, c: ClickPromptForCTR.from_plm_pretrained(f / "plm", tiny_ctr_config(), attn_implementation=c),
}


def reported(model) -> set[str]:
    """The implementation, as every configuration of the model names it."""
    plm = model.base_model.plm
    return {config._attn_implementation for config in (model.config, model.config.text_config, plm.config)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("choice", CHOICES)
def test_every_way_of_choosing(way, choice, folders):
    given, runs = CHOICES[choice]
    model = WAYS[way](folders, given)
    assert reported(model) == {runs}
    # only eager attention returns its weights
    trunk = model.base_model
    if runs == "eager":
        assert trunk(**tiny_batch(), output_attentions=True).attentions[0] is not None


@pytest.mark.parametrize("way", WAYS)
def test_unknown_parts_and_names_are_refused(way, folders):
    for part in ("text_model", "plm", "ctr_config"):
        with pytest.raises(
            ValueError, match=rf"`attn_implementation` must name parts .*'text_config' or '', got \['{part}'\]"
        ):
            WAYS[way](folders, {part: "eager"})
    for choice in ("quick", {"text_config": "quick"}, {"": "quick"}):
        with pytest.raises(ValueError, match=r"attn_implementation=\"quick\""):
            WAYS[way](folders, choice)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_is_reported_as_it_runs(family):
    model = ClickPromptForCTR(tiny_config(family))
    assert len(reported(model)) == 1
    model.set_attn_implementation("eager")
    assert reported(model) == {"eager"}


def test_a_choice_on_the_plms_configuration_holds():
    text_config = tiny_text_config()
    text_config._attn_implementation = "eager"
    model = ClickPromptForCTR(ClickPromptConfig(text_config=text_config, ctr_config=tiny_ctr_config()))
    assert reported(model) == {"eager"}


def test_without_a_plm_there_is_nothing_to_choose():
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr"))
    model.set_attn_implementation("eager")
    assert model(feature_ids=tiny_batch()["feature_ids"]).logits.isfinite().all()
