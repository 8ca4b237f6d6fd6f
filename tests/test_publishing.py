"""Runs, models and processors go to a Hub on this machine and are loaded back by id; errors on the way there."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard
from small_runs import SMALL_SYNTHETIC, make_plms_small, make_synthetic_small
from test_loading import SHIPPING

from clickprompt_hf import ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.click_probabilities import corrected_probabilities
from clickprompt_hf.evaluation.plots import AUC_BY_FREQUENCY, CALIBRATION, TRAINING_CURVES
from clickprompt_hf.runs import finetune as run_ctr
from clickprompt_hf.runs import pretrain as run_pamlm
from clickprompt_hf.training import ClickPromptTrainingArguments

ROOT = Path(__file__).parent.parent
RUN = ["--dataset", "synthetic", "--max_train_rows", "256", "--num_train_epochs", "1", "--disable_tqdm", "True"]
RUN += ["--per_device_train_batch_size", "64", "--per_device_eval_batch_size", "1024", "--logging_steps", "2"]
ALONE = ["--ctr_only", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]
PLM = [
    "--plm_name_or_path",
    "scratch-tiny",
    "--prompt_length",
    "1",
    "--embedding_size",
    "4",
    "--dnn_hidden_sizes",
    "8",
]


def python(code, endpoint, home, **environment):
    """Runs `code` in its own process: huggingface_hub reads HF_ENDPOINT when it is imported."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "examples")])
    environment = {**inherited, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": paths, **environment}
    environment = {**environment, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


ERRORS = """
import time
# huggingface_hub waits between two tries
time.sleep = lambda seconds: None

from clickprompt_hf.runs import finetune as run_ctr
from clickprompt_hf import ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.data.sources.synthetic import SyntheticSizes

SyntheticSizes.__init__.__defaults__ = {small}

def error_of(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".replace("\\n", " ")
""".replace("{small}", str(SMALL_SYNTHETIC))


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def publisher(hub, tmp_path_factory):
    """Tries to push a run without a login, then pushes it as tester/ctr, its model and processor as tester/model too.

    Returns the output folder and what was printed.
    """
    home = tmp_path_factory.mktemp("publisher")
    options = [*RUN, *ALONE, "--report_to", "none", "--output_dir", "out", "--report_plots", "true"]
    options += ["--push_to_hub", "true", "--hub_model_id", "tester/ctr", "--hub_license", "apache-2.0"]
    options += ["--frequency_fields", "user_id", "item_id"]
    code = f"""
import os
print(error_of(run_ctr.main, {options!r}))
print(os.listdir("out"))
os.environ["HF_TOKEN"] = {TOKEN!r}
run_ctr.main({options!r})
ClickPromptForCTR.from_pretrained("out").push_to_hub("model")
ClickPromptProcessor.from_pretrained("out").push_to_hub("tester/model")
"""
    printed = python(ERRORS + code, hub.url, home)
    return home / "out", printed


@pytest.fixture(scope="module")
def published(publisher):
    return publisher[0]


def own_lines(printed):
    """Lines of the script; if DeepSpeed is installed, accelerate imports it, and it logs to the same place."""
    return [line for line in printed.strip().splitlines() if "get_accelerator" not in line]


def test_a_missing_login_is_reported_before_training(publisher):
    error, left = own_lines(publisher[1])[:2]
    assert error.startswith("OSError: `push_to_hub` could not publish tester/ctr on http://127.0.0.1:")
    assert "hf auth login" in error
    assert not re.search("checkpoint|safetensors|README", left)


def test_what_is_published(hub, published):
    files = hub.repos["tester/ctr"].files
    # all of the checkpoint's code
    assert sorted(name for name in files if name.endswith(".py")) == SHIPPING
    assert sorted(name for name in files if not name.endswith(".py")) == [
        "README.md",
        "config.json",
        "feature_vocabularies.txt",
        "model.safetensors",
        *(f"plots/{name}" for name in sorted([AUC_BY_FREQUENCY, CALIBRATION, TRAINING_CURVES])),
        "processor_config.json",
    ]
    for name, content in files.items():
        assert content == (published / name).read_bytes()
        # a pickle, or the zip that torch keeps one in
        assert not content.startswith((b"\x80", b"PK"))
    assert all(content.startswith(b"\x89PNG") for name, content in files.items() if name.startswith("plots"))
    assert (published / "_test_scores.parquet").exists()
    assert hub.repos["tester/ctr"].messages == ["Model save"]
    assert {"config.json", "model.safetensors", "feature_vocabularies.txt"} <= set(hub.repos["tester/model"].files)
    assert hub.repos["tester/model"].messages == ["Upload ClickPromptForCTR", "Upload processor"]


def test_card_of_the_run(hub, published):
    card = ModelCard(hub.repos["tester/ctr"].files["README.md"].decode())
    metrics = json.loads((published / "all_results.json").read_text())
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["roc_auc"] == pytest.approx(metrics["test_auc"], abs=1e-6)
    assert results["log_loss"] == pytest.approx(metrics["test_log_loss"], abs=1e-6)
    assert f"{metrics['test_auc_low']:.4f} to {metrics['test_auc_high']:.4f}" in card.content
    assert metrics["test_auc_low"] < metrics["test_auc"] < metrics["test_auc_high"]
    assert card.data.license == "apache-2.0"
    plots = [f"plots/{name}" for name in (TRAINING_CURVES, CALIBRATION, AUC_BY_FREQUENCY)]
    assert re.findall(r"\((plots/.*)\)", card.content) == plots
    assert "| Epochs | 1 of 1; weights of epoch 1 kept |" in card.content
    assert "Rows per step | 64 |" in card.content


def test_loading_by_id_as_the_card_says(hub, published, tmp_path):
    card = hub.repos["tester/ctr"].files["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert ["trust_remote_code" in block for block in blocks] == [True, False]
    printed = python("\n".join(blocks), hub.url, tmp_path)
    without, with_package = printed.strip().splitlines()[-2:]
    scores = [ast.literal_eval(without)["click_probability"], float(with_package)]
    model = ClickPromptForCTR.from_pretrained(published).eval()
    namespace = {}
    exec(re.search(r"^row = \{.*?^\}", card, flags=re.DOTALL | re.MULTILINE).group(), namespace)
    batch = ClickPromptProcessor.from_pretrained(published)(namespace["row"], return_tensors="pt")
    with torch.no_grad():
        expected = corrected_probabilities(model(**batch).logits, model.config).item()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert (tmp_path / "hub" / "models--tester--ctr").is_dir()
    assert not [request for request in hub.unknown_requests if "agent-harnesses" not in request]


def test_an_unreachable_hub_is_reported_before_training(tmp_path):
    run = [*RUN, "--output_dir", "out", "--report_to", "none"]
    code = f"""
import os
print(error_of(run_ctr.main, ["--model_name_or_path", "tester/ctr", *{run[2:]}]))
print(error_of(ClickPromptProcessor.from_pretrained, "tester/ctr"))
print(error_of(run_ctr.main, {[*run, *ALONE, "--push_to_hub", "true"]}))
print(os.listdir("out"))
"""
    # the discard port, on which nothing listens
    printed = python(ERRORS + code, "http://127.0.0.1:9", tmp_path, HF_TOKEN=TOKEN)
    checkpoint, processor, push, left = own_lines(printed)[-4:]
    for line in (checkpoint, processor):
        assert line.startswith("OSError: ")
        assert "couldn't connect to 'http://127.0.0.1:9'" in line
    assert push.startswith("OSError: `push_to_hub` could not publish out on http://127.0.0.1:9. ")
    assert "check the network" in push
    assert not re.search("checkpoint|safetensors|README", left)


def test_a_run_without_a_hub_writes_its_card(tmp_path, monkeypatch):
    make_synthetic_small(monkeypatch)
    make_plms_small(monkeypatch)
    out = tmp_path / "pamlm"
    metrics = run_pamlm.main([*RUN, *PLM, "--output_dir", str(out), "--report_to", "none", "--report_plots", "false"])
    card = ModelCard.load(out / "README.md")
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["accuracy"] == pytest.approx(metrics["eval_masked_accuracy"], abs=1e-6)
    assert "| Masked | 15% by token |" in card.content
    assert "| Learning rate of the PLM | 5e-05 |" in card.content
    assert "](plots/" not in card.content
    assert not (out / "plots").exists()
    assert not list(out.glob("training_args.bin"))

    # finetuned, the PLM beside the id side and another run
    run_ctr.main([*RUN, *ALONE, "--output_dir", str(tmp_path / "alone"), "--report_to", "none"])
    given = [
        "--model_name_or_path",
        str(out),
        "--baseline_dir",
        str(tmp_path / "alone"),
        "--frequency_fields",
        "item_id",
    ]
    run_ctr.main([*given, *RUN[4:], "--output_dir", str(tmp_path / "ctr"), "--report_to", "none"])
    drawn = {path.name for path in (tmp_path / "ctr" / "plots").iterdir()}
    assert drawn == {AUC_BY_FREQUENCY, CALIBRATION, TRAINING_CURVES}


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint", "all_checkpoints"])
def test_strategies_that_push_pickles_are_refused(strategy, tmp_path):
    with pytest.raises(ValueError, match=f"`hub_strategy` must be 'end'.*pickles.*got '{strategy}'"):
        ClickPromptTrainingArguments(output_dir=str(tmp_path), hub_strategy=strategy)


def test_a_folder_that_cannot_be_written_is_reported_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    folders = [tmp_path / "file" / "out", Path("/proc/clickprompt")]
    if os.geteuid():
        (tmp_path / "read_only").mkdir(mode=0o500)
        folders.append(tmp_path / "read_only")
    for folder in folders:
        for script, options in ((run_ctr, ALONE), (run_pamlm, PLM)):
            with pytest.raises(PermissionError, match=f"`output_dir` must be a writable folder, but {folder}"):
                script.main([*RUN, *options, "--output_dir", str(folder)])
