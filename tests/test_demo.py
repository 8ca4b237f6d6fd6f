"""The demo ends with its table."""

import pandas as pd
from small_runs import make_plms_small

from clickprompt_hf.runs import demo


def test_demo(tmp_path, capsys, monkeypatch):
    make_plms_small(monkeypatch)
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
