"""Checkpoints written by version 0.1.0 load and reproduce its outputs."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoProcessor,
    pipeline,
)

import clickprompt_hf  # noqa: F401  # makes the Auto classes know ClickPrompt

FOLDER = Path(__file__).parent / "fixtures" / "checkpoints-0.1.0"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
AUTO_CLASSES = {
    "ctr": AutoModelForSequenceClassification,
    "alone": AutoModelForSequenceClassification,
    "pamlm": AutoModelForMaskedLM,
    "paclm": AutoModelForCausalLM,
    "trunk": AutoModel,
}


@pytest.mark.filterwarnings("ignore:Column 'sold_at':UserWarning")
@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_an_old_checkpoint_gives_its_outputs(name):
    expected = EXPECTED["outputs"][name]
    model, info = AUTO_CLASSES[name].from_pretrained(FOLDER / name, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    batch = AutoProcessor.from_pretrained(FOLDER / name)(EXPECTED["rows"], return_tensors="pt")
    assert batch["feature_ids"].tolist() == expected["feature_ids"]
    if expected["input_ids"] is not None:
        assert batch["input_ids"].tolist() == expected["input_ids"]
    with torch.no_grad():
        outputs = model(**batch)
    if name == "trunk":
        found = outputs.last_hidden_state[:, 0]
    else:
        # pretraining heads: logits of the vocabulary's first eight tokens at the second position
        found = outputs.logits if name in ("ctr", "alone") else outputs.logits[:, 1, :8]
    torch.testing.assert_close(found, torch.tensor(expected["values"]), atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Column 'sold_at':UserWarning")
def test_the_pipeline_scores_with_an_old_checkpoint():
    score = pipeline("ctr-prediction", model=str(FOLDER / "ctr"))
    found = [row["click_probability"] for row in score(EXPECTED["rows"])]
    expected = torch.tensor(EXPECTED["outputs"]["ctr"]["values"]).sigmoid().squeeze(-1)
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "encoding_clickprompt.TextList",
        "encoding_clickprompt.ValueIndex",
        "modeling_clickprompt.Fusion",
        "modeling_clickprompt.TextHead",
    ],
)
def test_pickles_of_earlier_versions_find_classes_that_have_moved(name):
    module, class_name = name.split(".")
    found = pickle.loads(f"cclickprompt_hf.{module}\n{class_name}\n.".encode())
    assert found.__name__ == class_name
