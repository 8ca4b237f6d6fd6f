"""The README's code does what it says, and the demo ends with its table."""

import re
from pathlib import Path

import demo
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import tiny_text_config
from transformers import AutoModelForSequenceClassification, AutoProcessor, RobertaForMaskedLM

from clickprompt_hf import ClickPromptForCTR
from clickprompt_hf.training.scratch_plm import scratch_tokenizer

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def roberta(tmp_path):
    tokenizer = scratch_tokenizer("scratch-tiny", ["user_id is 1. item_id is 2. title is Up."])
    tokenizer.save_pretrained(tmp_path / "roberta")
    torch.manual_seed(0)
    config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=200)
    RobertaForMaskedLM(config).save_pretrained(tmp_path / "roberta")
    return tmp_path / "roberta"


def test_code_with_the_plain_trainer(roberta, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert "from transformers import AutoTokenizer, Trainer, TrainingArguments" in code
    draw = np.random.default_rng(0)
    for name in ("train", "validation"):
        rows = {"user_id": draw.integers(9, size=40), "item_id": draw.integers(5, size=40), "title": "Up"}
        pd.DataFrame({**rows, "click": draw.permutation(40) % 2}).to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(code.replace("FacebookAI/roberta-base", str(roberta)), namespace)

    trainer = namespace["trainer"]
    evaluations = [entry for entry in trainer.state.log_history if "eval_auc" in entry]
    assert len(evaluations) == 1
    assert {"eval_loss", "eval_log_loss"} <= set(evaluations[0])
    # what it saved scores raw rows
    saved = AutoModelForSequenceClassification.from_pretrained("runs/own")
    assert isinstance(saved, ClickPromptForCTR)
    rows = AutoProcessor.from_pretrained("runs/own")({"user_id": [3], "item_id": [1], "title": ["Up"]}, "pt")
    with torch.no_grad():
        torch.testing.assert_close(saved(**rows).logits, trainer.model.eval()(**rows.to(trainer.args.device)).logits)


def test_demo(tmp_path, capsys):
    sizes = ["--pamlm_epochs", "1", "--plm_epochs", "1", "--ctr_epochs", "1", "--max_train_rows", "512"]
    options = ["--prompt_length", "1", "--report_to", "none", "--disable_tqdm", "True"]
    table = demo.main(["--output_dir", str(tmp_path), *sizes, *options])
    assert list(table.index) == [
        "backbone alone",
        "ClickPrompt, no pretraining, with the PLM",
        "ClickPrompt, PA-MLM, without the PLM",
        "ClickPrompt, PA-MLM, with the PLM",
        "best reachable",
    ]
    assert table.loc["best reachable", "AUC"] == "0.8495"
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["click_probability"].between(0, 1).all()
    assert len(scores) == 3
    assert "Three raw rows" in capsys.readouterr().out
