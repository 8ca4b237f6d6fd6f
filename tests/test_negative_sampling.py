"""Click probabilities corrected for sampled negatives: once, and alike in every way of scoring."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from tiny_data import tiny_rows, tiny_schema, tiny_splits
from tiny_models import tiny_config, tiny_ctr_config
from transformers import AutoModelForSequenceClassification, AutoProcessor, pipeline

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.click_probabilities import corrected_probabilities
from clickprompt_hf.evaluation.model_card import model_card
from clickprompt_hf.export.ctr_program import torch_export
from clickprompt_hf.export.export_ctr import ONNX_FILE, export_ctr
from clickprompt_hf.export.scorer import Scorer
from clickprompt_hf.inspection import what_if
from clickprompt_hf.runs import predict
from clickprompt_hf.runs.arguments import ModelArguments
from clickprompt_hf.runs.model_building import load_checkpoint
from clickprompt_hf.scoring import score_table
from clickprompt_hf.training.metrics import click_probabilities

ROWS = {name: values for name, values in tiny_rows(40, seed=3).items() if name != "click"}
PROCESSOR = ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema())


def save_checkpoint(folder, **options):
    """A click model without a PLM, whose logits differ between rows."""
    torch.manual_seed(0)
    sizes = {"field_sizes": PROCESSOR.field_sizes, "max_values": PROCESSOR.max_values}
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(**sizes), fusion="ctr", initializer_range=0.5, **options)
    model = ClickPromptForCTR(config).eval()
    model.save_pretrained(folder)
    PROCESSOR.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("probability", "rate", "expected"),
    # p / (p + (1 - p) / r): 0.5 / (0.5 + 0.5 / 0.1) = 1 / 11, and so on
    [(0.5, 0.1, 1 / 11), (0.5, 0.25, 0.2), (0.2, 0.5, 1 / 9), (0.9, 0.01, 0.9 / 10.9), (0.3, 1.0, 0.3)],
)
def test_the_formula(probability, rate, expected):
    logits = torch.tensor([[math.log(probability / (1 - probability))]])
    corrected = corrected_probabilities(logits, ClickPromptConfig(fusion="ctr", negative_sampling_rate=rate))
    assert corrected.item() == pytest.approx(expected, abs=1e-6)
    assert corrected.shape == (1, 1)
    assert corrected_probabilities(logits.bfloat16(), ClickPromptConfig(fusion="ctr")).dtype == torch.float32


def test_kept_negatives_give_the_click_rate_before_sampling():
    """10 clicks and 990 other rows, of which a tenth is kept: 10 of 109 kept rows are clicks, 10 of 1,000 before."""
    config = ClickPromptConfig(fusion="ctr", negative_sampling_rate=0.1)
    logit = torch.tensor(math.log(10 / 99))
    assert corrected_probabilities(logit, config).item() == pytest.approx(10 / 1000, abs=1e-7)


def check_every_way_of_scoring(folder, expected, logits):
    """Compare the probabilities (40,) of `ROWS` in every way of scoring the checkpoint in `folder / "model"`.

    The logits (40,) that the pipeline returns must stay as they are.
    """
    loaded = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    processor = AutoProcessor.from_pretrained(folder / "model")
    score = pipeline("ctr-prediction", model=str(folder / "model"))
    scored = score(ROWS, return_logits=True)
    pd.DataFrame(ROWS).to_parquet(folder / "rows.parquet")
    files = ["--input", str(folder / "rows.parquet"), "--output", str(folder / "scores.parquet")]
    predict.main(["--model", str(folder / "model"), *files])
    export_ctr(folder / "model", folder / "served")
    ids = PROCESSOR(ROWS)["feature_ids"]
    scorer = Scorer(folder / "served")
    of_export = pipeline("ctr-prediction", model=str(folder / "served"))(ROWS)
    found = {
        "pipeline": [row["click_probability"] for row in scored],
        "pipeline of the export": [row["click_probability"] for row in of_export],
        "score_table": score_table(pa.table(ROWS), processor, loaded, 16),
        "predict": pd.read_parquet(folder / "scores.parquet")["click_probability"],
        "what_if": [
            what_if(loaded, processor, {name: cells[i] for name, cells in ROWS.items()}, "user", [ROWS["user"][i]])[0]
            for i in range(40)
        ],
        "torch program": torch_export(loaded).module()(torch.as_tensor(ids)).detach().numpy(),
        "scorer": scorer.score(ROWS),
        ONNX_FILE: scorer.session.run(None, {"feature_ids": np.asarray(ids)})[0],
    }
    for way, probabilities in found.items():
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6, err_msg=way)
    np.testing.assert_allclose([row["logit"] for row in scored], logits, rtol=0, atol=1e-6)


def test_every_way_of_scoring_corrects_once(tmp_path):
    rate = 0.1
    model = save_checkpoint(tmp_path / "model", negative_sampling_rate=rate)
    with torch.no_grad():
        logits = model(**PROCESSOR(ROWS, return_tensors="pt")).logits.squeeze(-1).double()
    p = torch.sigmoid(logits)
    expected = (p / (p + (1 - p) / rate)).numpy()
    assert expected.std() > 0.01

    check_every_way_of_scoring(tmp_path, expected, logits)
    # what metrics read stays uncorrected
    np.testing.assert_allclose(click_probabilities(logits[:, None]), p, rtol=0, atol=1e-12)


def test_a_model_with_text_is_corrected_too():
    config = tiny_config(negative_sampling_rate=0.2)
    logits = torch.tensor([[-2.0], [0.0], [3.0]])
    odds = logits.exp() * 0.2
    torch.testing.assert_close(corrected_probabilities(logits, config), odds / (1 + odds))


@pytest.mark.parametrize("rate", [0, -0.1, 1.5, math.nan, math.inf])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"`negative_sampling_rate` must be in \(0, 1\], got"):
        ClickPromptConfig(fusion="ctr", negative_sampling_rate=rate)


def test_finetuning_takes_over_the_rate_or_changes_it(tmp_path):
    save_checkpoint(tmp_path, negative_sampling_rate=0.2, training_data={"dataset": "csv"})
    for given, expected in ((None, 0.2), (0.05, 0.05), (1.0, 1.0)):
        loaded, _ = load_checkpoint(str(tmp_path), ModelArguments(negative_sampling_rate=given), use_plm=False)
        assert loaded.negative_sampling_rate == expected


def test_the_card_says_what_is_corrected(tmp_path):
    text = model_card(save_checkpoint(tmp_path, negative_sampling_rate=0.1), PROCESSOR, name="x").content
    assert "keep a fraction of 0.1 of the rows without a click" in text
    assert ".logits.add(-2.302585).sigmoid().item())" in text
    text = model_card(save_checkpoint(tmp_path), PROCESSOR, name="x").content
    assert "keep a fraction" not in text
    assert ".logits.sigmoid().item())" in text
