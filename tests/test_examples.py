"""The examples that are user code: they run, and what they leave scores raw rows."""

from pathlib import Path

import pytest
from small_runs import make_synthetic_small
from tiny_models import tiny_text_config
from transformers import RobertaForMaskedLM, pipeline

from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.runs.plms import scratch_tokenizer
from clickprompt_hf.training.metrics import auc_and_log_loss

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def plm(tmp_path):
    """Folder of a tiny PLM."""
    tokenizer = scratch_tokenizer("scratch-tiny", ["user_id is 1. item_id is 2. title is Up."])
    tokenizer.save_pretrained(tmp_path / "plm")
    config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=140)
    RobertaForMaskedLM(config).save_pretrained(tmp_path / "plm")
    return str(tmp_path / "plm")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 150


def test_both_stages_train_in_user_code(plm, tmp_path, monkeypatch, capsys):
    from train_with_trainer import main

    make_synthetic_small(monkeypatch)
    arguments = ["--plm_name_or_path", plm, "--prompt_length", "2", "--num_train_epochs", "1", "--report_to", "none"]
    arguments += ["--disable_tqdm", "true", "--per_device_train_batch_size", "256", "--output_dir", str(tmp_path)]
    metrics = main(arguments)
    printed = capsys.readouterr().out
    # the saved checkpoint gives the metrics that the example returns, from raw rows
    tables, schema = load_splits("synthetic")
    scored = pipeline("ctr-prediction", model=str(tmp_path / "ctr"))(tables["test"])
    probabilities = [score["click_probability"] for score in scored]
    expected = auc_and_log_loss(probabilities, tables["test"].column(schema.label).to_numpy())
    assert metrics["test_auc"] == pytest.approx(expected["auc"], abs=1e-6)
    assert metrics["test_log_loss"] == pytest.approx(expected["log_loss"], abs=1e-6)
    assert printed.count("click_probability") == 3
    assert (tmp_path / "pamlm" / "model.safetensors").is_file()
