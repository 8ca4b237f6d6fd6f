"""Calibration of click probabilities: what it fits, when it changes nothing, and that all ways of scoring apply it."""

import json
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from own_tables import write_clicks
from scipy.special import expit
from test_negative_sampling import PROCESSOR, ROWS, check_every_way_of_scoring, save_checkpoint
from tiny_data import tiny_splits
from tiny_models import tiny_config
from transformers import AutoModelForSequenceClassification, AutoProcessor

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR
from clickprompt_hf.click_probabilities import corrected_probabilities
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.evaluation.model_card import model_card
from clickprompt_hf.runs import finetune
from clickprompt_hf.runs.arguments import ModelArguments
from clickprompt_hf.runs.model_building import load_checkpoint
from clickprompt_hf.scoring import score_table
from clickprompt_hf.training.calibration import Calibration, constant_log_loss, fit_calibration
from clickprompt_hf.training.distillation import click_logits

SCALE, SHIFT, RATE = 0.5, 0.25, 0.1


def drawn(num_rows, scale=1.0, shift=0.0, seed=0):
    """Logits, and clicks whose log odds are `scale` times the logit plus `shift`."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, num_rows)
    return logits, (draw.random(num_rows) < expit(scale * logits + shift)).astype(int)


def test_the_formula():
    config = ClickPromptConfig(
        fusion="ctr", calibration_scale=SCALE, calibration_shift=SHIFT, negative_sampling_rate=RATE
    )
    # 0.5 * 3 + 0.25 = 1.75, and the odds of the sampled rows times 0.1
    odds = math.exp(1.75) * 0.1
    assert corrected_probabilities(torch.tensor([[3.0]]), config).item() == pytest.approx(odds / (1 + odds), abs=1e-6)


def test_scale_and_shift_are_found():
    logits, clicks = drawn(20_000, scale=0.4, shift=-0.7)
    found = fit_calibration(logits, clicks)
    # standard errors are about 0.01 and 0.02
    assert found.scale == pytest.approx(0.4, abs=0.03)
    assert found.shift == pytest.approx(-0.7, abs=0.06)


def test_the_optimum_of_the_scale_alone_by_hand():
    """Logits 1 and -1, right in 300 of 400 rows each: log 3 is the logit of 3/4."""
    logits = np.repeat([1.0, 1.0, -1.0, -1.0], [300, 100, 100, 300])
    clicks = np.repeat([1, 0, 1, 0], [300, 100, 100, 300])
    found = fit_calibration(8 * logits, clicks)
    assert 8 * found.scale == pytest.approx(math.log(3), abs=0.02)
    assert found.shift == pytest.approx(0, abs=1e-6)
    # 0.75 log(4/3) + 0.25 log 4
    assert found.losses(8 * logits, clicks).mean() == pytest.approx(0.562335, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_calibrated_logits_stay_almost_as_they_are(seed):
    logits, clicks = drawn(2_000, seed=seed)
    found = fit_calibration(logits, clicks)
    assert found == Calibration() or (abs(found.scale - 1) < 0.2 and abs(found.shift) < 0.2)


def test_noise_is_not_fitted():
    """Over many tables whose logits are right, the rule changes few, and the scores of new rows hardly."""
    changed, losses = 0, []
    new, new_clicks = drawn(20_000, seed=999)
    for seed in range(30):
        found = fit_calibration(*drawn(500, seed=seed))
        changed += found != Calibration()
        losses.append(found.losses(new, new_clicks).mean() - Calibration().losses(new, new_clicks).mean())
    assert changed <= 8
    assert np.mean(losses) < 0.001


def test_few_rows_of_a_class_change_nothing():
    logits, clicks = drawn(4_000, scale=0.2, shift=-3)
    order = np.argsort(-clicks, kind="stable")
    rare = np.concatenate([order[:49], order[clicks.sum() :]])
    assert fit_calibration(logits[rare], clicks[rare]) == Calibration()
    assert fit_calibration(logits, clicks) != Calibration()
    assert fit_calibration(logits, np.ones(4_000)) == Calibration()


def test_separable_and_inverted_logits_have_finite_results():
    logits, clicks = drawn(1_000, scale=1.0)
    separable = fit_calibration(logits, (logits > 0).astype(int))
    assert 1 < separable.scale < 1_000
    inverted = fit_calibration(-3 * logits, clicks)
    # nearly the click rate, never an inverted order
    assert 0 < inverted.scale < 0.01
    assert inverted.losses(-3 * logits, clicks).mean() < 0.70


def test_the_constant_by_hand():
    # rate 1/4: a click costs log 4, another row log 4/3
    clicks = np.array([1, 0, 0, 0, 0, 0])
    expected = (math.log(4) + 5 * math.log(4 / 3)) / 6
    assert constant_log_loss(np.array([1, 0, 0, 0]), clicks) == pytest.approx(expected)
    assert constant_log_loss(np.array([0, 0]), np.array([0, 0])) == 0
    assert constant_log_loss(np.array([0, 0]), np.array([0, 1])) == math.inf


def test_every_way_of_scoring_calibrates_once(tmp_path):
    options = {"calibration_scale": SCALE, "calibration_shift": SHIFT, "negative_sampling_rate": RATE}
    model = save_checkpoint(tmp_path / "model", **options)
    with torch.no_grad():
        logits = model(**PROCESSOR(ROWS, return_tensors="pt")).logits.squeeze(-1).double().numpy()
    expected = expit(SCALE * logits + SHIFT + math.log(RATE))
    assert expected.std() > 0.01

    check_every_way_of_scoring(tmp_path, expected, logits)


def test_the_fused_calibration_is_not_that_of_the_ctr_part(tmp_path):
    options = {"calibration_scale": SCALE, "calibration_shift": SHIFT}
    ClickPromptForCTR(tiny_config(**options)).save_pretrained(tmp_path)
    whole = ClickPromptConfig.from_pretrained(tmp_path)
    assert (whole.calibration_scale, whole.calibration_shift) == (SCALE, SHIFT)
    part = ClickPromptForCTR.from_pretrained(tmp_path, use_plm=False).config
    assert (part.calibration_scale, part.calibration_shift) == (1, 0)
    alone = ClickPromptConfig(fusion="ctr", **options)
    alone.use_plm = False
    assert alone.calibration_scale == SCALE


def test_finetuning_starts_uncalibrated(tmp_path):
    save_checkpoint(tmp_path, calibration_scale=SCALE, calibration_shift=SHIFT, training_data={"dataset": "csv"})
    loaded, _ = load_checkpoint(str(tmp_path), ModelArguments(), use_plm=False)
    assert (loaded.calibration_scale, loaded.calibration_shift) == (1, 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("calibration_scale", 0, "must be above 0"),
        ("calibration_scale", math.nan, "must be above 0"),
        ("calibration_scale", math.inf, "must be at most"),
        ("calibration_shift", math.nan, "must be finite"),
        ("calibration_shift", -math.inf, "must be finite"),
    ],
)
def test_impossible_values_are_refused(name, value, message):
    with pytest.raises(ValueError, match=f"`{name}` {message}"):
        ClickPromptConfig(fusion="ctr", **{name: value})


def test_the_card_says_what_is_calibrated(tmp_path):
    model = save_checkpoint(tmp_path, calibration_scale=SCALE, calibration_shift=SHIFT, negative_sampling_rate=RATE)
    text = model_card(model, PROCESSOR, name="x").content
    assert ".logits.mul(0.500000).add(-2.052585).sigmoid().item())" in text
    assert "calibrated on the validation rows" in text
    assert (
        "calibrated on the validation rows" not in model_card(save_checkpoint(tmp_path), PROCESSOR, name="x").content
    )


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """Output folder of a run that memorizes noise, and the options of the run."""
    folder = tmp_path_factory.mktemp("overfitted")
    options = write_clicks(folder, num_rows=2_000, num_users=300, num_items=60, rate=0.3, gain=0.3)
    sizes = ["--embedding_size", "8", "--dnn_hidden_sizes", "32", "--num_cross_layers", "1"]
    training = ["--num_train_epochs", "10", "--learning_rate", "0.03", "--per_device_train_batch_size", "128"]
    training += ["--eval_strategy", "no", "--save_strategy", "no", "--disable_tqdm", "true", "--report_to", "none"]
    options += [*sizes, *training, "--report_plots", "false"]
    finetune.main([*options, "--ctr_only", "--output_dir", str(folder / "out")])
    return folder, options


def test_finetune_calibrates_an_overconfident_model(overfitted):
    folder, _ = overfitted
    results = json.loads((folder / "out" / "all_results.json").read_text())
    saved = json.loads((folder / "out" / "config.json").read_text())
    assert 0 < saved["calibration_scale"] == results["calibration_scale"] < 0.7
    assert results["validation_log_loss"] < results["validation_log_loss_uncalibrated"] - 0.1
    # the test report is that of the served probabilities
    table = pd.read_parquet(folder / "out" / "_test_scores.parquet")
    clicked = table["click_probability"].where(table["click"] == 1, 1 - table["click_probability"])
    assert results["test_log_loss"] == pytest.approx(-np.log(clicked).mean(), abs=1e-6)
    assert results["test_log_loss"] < results["test_loss"] - 0.1
    model = AutoModelForSequenceClassification.from_pretrained(folder / "out")
    processor = AutoProcessor.from_pretrained(folder / "out")
    rows = pa.Table.from_pandas(pd.read_csv(folder / "rows.csv"))
    assert np.isin(table["click_probability"].round(5), score_table(rows, processor, model, 64).round(5)).mean() > 0.9


def test_without_calibration_the_run_warns_with_both_figures(overfitted, tmp_path, caplog):
    _, options = overfitted
    run = ["epoch" if argument == "no" else argument for argument in options]
    run += ["--load_best_model_at_end", "false", "--calibrate", "false"]
    finetune.main([*run, "--ctr_only", "--output_dir", str(tmp_path)])
    assert json.loads((tmp_path / "config.json").read_text())["calibration_scale"] == 1
    (warning,) = [record.message for record in caplog.records if "worse than always predicting" in record.message]
    loss, constant = map(float, re.findall(r"0\.\d{4}|[1-9]\.\d{4}", warning))
    # 0.45 of the rows are clicks: the constant has about 0.688
    assert loss > constant == pytest.approx(0.688, abs=0.02)


def test_training_again_fits_anew(overfitted, tmp_path):
    """A second finetuning neither keeps the first calibration nor applies it twice."""
    folder, options = overfitted
    start = ["--model_name_or_path", str(folder / "out"), "--num_train_epochs", "1", "--learning_rate", "0"]
    sizes = options.index("--embedding_size")
    run = [*options[:sizes], *options[options.index("--per_device_train_batch_size") :], *start]
    finetune.main([*run, "--without_plm", "--output_dir", str(tmp_path)])
    first, second = (json.loads((out / "all_results.json").read_text()) for out in (folder / "out", tmp_path))
    # the weights are the same, so is the calibration
    assert second["calibration_scale"] == pytest.approx(first["calibration_scale"], rel=1e-3)
    assert second["test_log_loss"] == pytest.approx(first["test_log_loss"], abs=1e-4)


def test_a_teacher_gives_its_logits_as_they_are(tmp_path):
    model = save_checkpoint(tmp_path / "model", calibration_scale=SCALE, calibration_shift=SHIFT)
    prepare_splits(tiny_splits(), PROCESSOR, tmp_path / "rows")
    train = load_prepared(tmp_path / "rows")[0]["train"]
    with torch.no_grad():
        logits = model(torch.tensor(train.feature_ids).long()).logits.squeeze(-1)
    np.testing.assert_allclose(click_logits(model, train, 16), logits, rtol=0, atol=1e-6)
