"""The commands at tiny size: from a table to scored rows, the errors on the way, and several processes."""

import argparse
import copy
import gzip
import importlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import constants
from movielens_files import ml_1m_files, write_zip
from safetensors.torch import load_file
from tiny_data import tiny_gpt2_tokenizer, tiny_rows, tiny_schema, tiny_t5_tokenizer
from tiny_models import tiny_text_config
from transformers import (
    AutoModelForSequenceClassification,
    AutoProcessor,
    GPT2LMHeadModel,
    HfArgumentParser,
    RobertaForMaskedLM,
    T5ForConditionalGeneration,
)
from warm_python import run_python

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.modeling_ctr import BACKBONES
from clickprompt_hf.runs import demo, predict
from clickprompt_hf.runs import finetune as run_ctr
from clickprompt_hf.runs import pretrain as run_pamlm
from clickprompt_hf.runs.arguments import DataArguments, ModelArguments
from clickprompt_hf.runs.idle_arguments import PAMLM_ARGUMENTS, PLM_ARGUMENTS, warn_of_idle_arguments
from clickprompt_hf.runs.plms import scratch_tokenizer
from clickprompt_hf.training import ClickPromptTrainingArguments

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "8", "--num_cross_layers", "2"]
QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
BATCHES = ["--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "64"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with a CSV file of 400 rows and its schema, and the arguments that name them."""
    folder = tmp_path_factory.mktemp("table")
    pd.DataFrame(tiny_rows(400)).to_csv(folder / "rows.csv", index=False)
    (folder / "schema.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(tiny_schema().to_dict()))))
    return folder


def data_of(table):
    return ["--dataset", "csv", "--data_path", str(table / "rows.csv"), "--schema", str(table / "schema.yaml")]


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    """A pretrained PLM without dropout, in a folder."""
    folder = tmp_path_factory.mktemp("plm")
    texts = [f"User ID is {n}. Price is {n / 2}. Tags is new, old. Title is Up." for n in range(50)]
    tokenizer = scratch_tokenizer("scratch-tiny", texts)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_text_config(
        vocab_size=len(tokenizer),
        max_position_embeddings=130,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(table, plm, tmp_path_factory):
    """The folder of a finished PA-MLM run."""
    folder = tmp_path_factory.mktemp("runs") / "pamlm"
    metrics = run_pamlm.main(
        [
            *data_of(table),
            *("--plm_name_or_path", str(plm), "--prompt_length", "2", "--split_seed", "7", "--masking", "field"),
            *(*SIZES, *QUICK, *BATCHES, "--output_dir", str(folder)),
        ]
    )
    assert {"eval_loss", "eval_masked_accuracy", "train_samples_per_second"} <= set(metrics)
    return folder


@pytest.mark.parametrize("without_plm", [False, True])
def test_pretrain_finetune_predict(pretrained, table, tmp_path, without_plm):
    out = tmp_path / "ctr"
    options = (
        ["--without_plm"] if without_plm else ["--fusion", "weighted", "--pooling", "mean", "--prompt_dropout", "0.3"]
    )
    if not without_plm:
        options += ["--learn_fusion_alpha", "false", "--fusion_alpha", "0.25"]
    run_ctr.main(
        [
            *("--model_name_or_path", str(pretrained), "--data_path", str(table / "rows.csv")),
            *(*options, *QUICK, *BATCHES, "--output_dir", str(out)),
            *("--dnn_dropout", "0.2"),
            *("--gauc_field", "user", "--frequency_fields", "user", "title"),
        ]
    )
    results = json.loads((out / "all_results.json").read_text())
    assert 0 <= results["test_auc"] <= 1
    assert {"test_log_loss", "train_samples_per_second", "test_gauc", "test_calibration_error"} <= set(results)
    assert sum(results[f"test_rows_title_{group}"] for group in ("head", "middle", "tail", "unseen", "missing")) == 40
    assert bool(list(out.glob("**/*tokenizer*"))) != without_plm

    # the processor and the record of the data are those of PA-MLM
    before, after = (ClickPromptProcessor.from_pretrained(folder) for folder in (pretrained, out))
    assert before.fingerprint == after.fingerprint
    config = ClickPromptConfig.from_pretrained(out)
    assert config.training_data == ClickPromptConfig.from_pretrained(pretrained).training_data
    assert config.training_data["split_seed"] == 7
    assert config.training_data["num_rows"] == {"train": 320, "validation": 40, "test": 40}
    assert str(table) not in (out / "config.json").read_text()
    assert config.use_plm != without_plm
    assert config.ctr_config.dnn_dropout == 0.2
    if not without_plm:
        assert config.prompt_dropout == 0.3
        # a fixed alpha
        assert ClickPromptForCTR.from_pretrained(out).fusion.alpha.item() == 0.25

    # rows in any order, with unseen and missing values, without labels
    rows = pd.DataFrame({"title": ["Up", None, "Nowhere"], "user": ["3", "", "999"], "price": ["x", "", "2.5"]})
    rows = rows.assign(tags=["new|old", "", "zzz"], remark=["NA", "b", "007"])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for ending in ("csv", "parquet"):
        if ending == "parquet":
            rows.to_parquet(tmp_path / "rows.parquet")
        files = [str(tmp_path / f"{name}.{ending}") for name in ("rows", "scores")]
        predict.main(["--model", str(out), "--input", files[0], "--output", files[1], "--batch_size", "2"])
    scores = pd.read_csv(tmp_path / "scores.csv", dtype={"remark": str}, keep_default_na=False)
    assert list(scores) == [*rows, "click_probability"]
    assert scores["remark"].tolist() == ["NA", "b", "007"]
    np.testing.assert_allclose(
        pd.read_parquet(tmp_path / "scores.parquet")["click_probability"], scores["click_probability"], atol=1e-6
    )
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    with torch.no_grad():
        logits = model(**after(rows, return_tensors="pt")).logits
    np.testing.assert_allclose(scores["click_probability"], logits.sigmoid().squeeze(-1), atol=1e-6)
    assert scores["click_probability"].between(0, 1).all()
    assert sorted(path.name for path in tmp_path.glob("*scores*")) == ["scores.csv", "scores.parquet"]


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_decoders_and_encoder_decoders(family, table, tmp_path):
    tokenizer = copy.deepcopy({"gpt2": tiny_gpt2_tokenizer, "t5": tiny_t5_tokenizer}[family]())
    plm_class = {"gpt2": GPT2LMHeadModel, "t5": T5ForConditionalGeneration}[family]
    options = {"gpt2": {"n_positions": 130}, "t5": {"pad_token_id": 0, "decoder_start_token_id": 0}}[family]
    plm_class(tiny_text_config(family, vocab_size=len(tokenizer), **options)).save_pretrained(tmp_path / "plm")
    tokenizer.save_pretrained(tmp_path / "plm")
    common = [*QUICK, *BATCHES, "--output_dir"]
    pretrained, out = (str(tmp_path / name) for name in ("pretrained", "out"))
    prompts = ["--plm_name_or_path", str(tmp_path / "plm"), "--prompt_length", "2"]
    metrics = run_pamlm.main([*data_of(table), *prompts, *SIZES, *common, pretrained])
    assert 0 <= metrics["eval_masked_accuracy"] <= 1
    config = ClickPromptConfig.from_pretrained(pretrained)
    expected = {"gpt2": ["ClickPromptForPACLM"], "t5": ["ClickPromptForPAMLM"]}[family]
    assert config.architectures == expected
    run_ctr.main(["--model_name_or_path", pretrained, "--data_path", str(table / "rows.csv"), *common, out])
    assert ClickPromptConfig.from_pretrained(out).pooling == {"gpt2": "last", "t5": "mean"}[family]
    predict.main(["--model", out, "--input", str(table / "rows.csv"), "--output", str(tmp_path / "scores.csv")])
    assert pd.read_csv(tmp_path / "scores.csv")["click_probability"].between(0, 1).all()
    if family == "gpt2":
        for name, value in (("masking", "field"), ("mlm_probability", "0.3")):
            with pytest.raises(ValueError, match=f"`{name}` must be left out for a decoder"):
                run_pamlm.main([*data_of(table), *prompts, *SIZES, f"--{name}", value, *common, str(tmp_path / "x")])


OWN_BACKBONE = """
from clickprompt_hf import CTRBackbone, register_backbone
from clickprompt_hf.layers_ctr import DNN


@register_backbone("mine")
class Mine(CTRBackbone):
    def __init__(self, config):
        super().__init__(config)
        self.dnn = DNN(self.flat_size, config.dnn_hidden_sizes)
        self.interaction_size = self.dnn.output_size

    def interact(self, embeddings, feature_ids):
        return self.dnn(embeddings.flatten(1))
"""


def test_a_custom_backbone_through_the_commands(table, tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.modeling_ctr.BACKBONES", dict(BACKBONES))
    module = tmp_path / "my_backbone.py"
    module.write_text(OWN_BACKBONE)
    own = ["--backbone_module", str(module)]
    options = [*data_of(table), "--ctr_only", "--backbone", "mine", "--dnn_hidden_sizes", "8", *QUICK, *BATCHES]
    with pytest.raises(ValueError, match="'mine'.*Import the module that registers your own backbone first"):
        run_ctr.main([*options, "--output_dir", str(tmp_path / "out")])
    with pytest.raises(FileNotFoundError, match="`backbone_module` must be a Python file or a module"):
        run_ctr.main([*options, "--backbone_module", "nowhere.py", "--output_dir", str(tmp_path / "out")])
    run_ctr.main([*options, *own, "--output_dir", str(tmp_path / "out")])
    config = ClickPromptConfig.from_pretrained(tmp_path / "out").ctr_config
    assert (config.backbone, config.embedding_size, config.dnn_hidden_sizes) == ("mine", 32, [8])
    files = ["--input", str(table / "rows.csv"), "--output", str(tmp_path / "scores.csv")]
    predict.main(["--model", str(tmp_path / "out"), *files, *own])
    assert pd.read_csv(tmp_path / "scores.csv")["click_probability"].between(0, 1).all()


def test_no_test_row_is_seen_by_fitting_training_or_stopping(table, plm, tmp_path, monkeypatch):
    splits, _ = load_splits("csv", table / "rows.csv", table / "schema.yaml")
    test_rows = {tuple(row.values()) for row in splits["test"].to_pylist()}
    fitted, seen = [], {}
    fit = ClickPromptProcessor.fit.__func__

    def watched_fit(cls, train, *args, **kwargs):
        fitted.extend(tuple(row.values()) for row in train.to_pylist())
        return fit(cls, train, *args, **kwargs)

    monkeypatch.setattr(ClickPromptProcessor, "fit", classmethod(watched_fit))
    for script in (run_pamlm, run_ctr):
        original = script.ClickPromptTrainer

        class Watched(original):
            def __init__(self, *args, script=script, **kwargs):
                seen[script] = {part: kwargs[part].row_ids for part in ("train_dataset", "eval_dataset")}
                super().__init__(*args, **kwargs)

        monkeypatch.setattr(script, "ClickPromptTrainer", Watched)
        arguments = [*data_of(table), "--plm_name_or_path", str(plm), *SIZES, *QUICK, *BATCHES]
        script.main([*arguments, "--max_train_rows", "80", "--output_dir", str(tmp_path / script.__name__)])
    train_rows = {tuple(row.values()) for row in splits["train"].to_pylist()}
    assert len(fitted) == 160
    assert set(fitted) <= train_rows
    assert len(test_rows - set(fitted)) == len(test_rows)
    # rows are numbered train (80), validation (40), test (40); PA-MLM takes an eighth of 80 from validation
    assert seen[run_pamlm]["train_dataset"].tolist() == list(range(90))
    assert seen[run_pamlm]["eval_dataset"].tolist() == list(range(80, 90))
    assert seen[run_ctr]["train_dataset"].tolist() == list(range(80))
    assert seen[run_ctr]["eval_dataset"].tolist() == list(range(80, 120))


def test_options_of_prompts_and_backbone_reach_the_checkpoint(table, plm, tmp_path):
    options = ["--prompt_encoder", "low_rank", "--prompt_rank", "3", "--prompt_dropout", "0.1", "--prompt_length", "2"]
    options += [
        "--backbone",
        "autoint",
        "--num_attention_heads",
        "2",
        "--num_attention_layers",
        "1",
        "--freeze",
        "plm",
    ]
    arguments = [*data_of(table), "--plm_name_or_path", str(plm), *SIZES[:5], *QUICK, *BATCHES, *options]
    run_ctr.main([*arguments, "--output_dir", str(tmp_path / "fresh")])
    model = ClickPromptForCTR.from_pretrained(tmp_path / "fresh")
    assert (model.config.prompt_encoder, model.config.prompt_rank, model.config.prompt_dropout) == ("low_rank", 3, 0.1)
    assert (model.config.ctr_config.backbone, model.config.ctr_config.num_attention_heads) == ("autoint", 2)
    frozen, kept = (
        m.clickprompt.plm.state_dict()
        for m in (model, ClickPromptForCTR.from_plm_pretrained(plm, ctr_config=model.config.ctr_config))
    )
    assert all(torch.equal(frozen[name], tensor) for name, tensor in kept.items())


def test_the_gain_over_a_baseline_is_reported(table, tmp_path):
    options = [*data_of(table), "--ctr_only", *SIZES[:2], *QUICK, *BATCHES]
    alone = run_ctr.main([*options, *SIZES[2:], "--output_dir", str(tmp_path / "alone")])
    baseline = ["--baseline_dir", str(tmp_path / "alone")]
    results = run_ctr.main([*options, "--backbone", "fm", *baseline, "--output_dir", str(tmp_path / "fm")])
    assert results["test_baseline_auc"] == pytest.approx(alone["test_auc"])
    assert results["test_auc_difference"] == pytest.approx(results["test_auc"] - alone["test_auc"])
    gain = (results["test_auc"] - 0.5) / (alone["test_auc"] - 0.5) - 1
    assert results["test_rela_impr"] == pytest.approx(gain)
    assert results["test_auc_difference_low"] < results["test_auc_difference"] < results["test_auc_difference_high"]
    with pytest.raises(ValueError, match="`baseline_dir` must hold scores of the same test rows"):
        run_ctr.main([*options, "--split_seed", "1", *baseline, "--output_dir", str(tmp_path / "other")])
    with pytest.raises(FileNotFoundError, match="`baseline_dir` must hold the _test_scores.parquet of a finished run"):
        run_ctr.main([*options, "--baseline_dir", str(tmp_path), "--output_dir", str(tmp_path / "other")])


def test_ctr_only_needs_no_plm(table, tmp_path, monkeypatch):
    out = tmp_path / "alone"
    arguments = [*data_of(table), "--ctr_only", "--backbone", "deepfm", *SIZES[:5], *QUICK, *BATCHES]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run_ctr.main([*arguments, "--output_dir", str(out)])
    assert ClickPromptForCTR.from_pretrained(out).config.ctr_config.backbone == "deepfm"


def launch_two(script, arguments):
    port = str(29500 + os.getpid() % 1000)
    config = str(EXAMPLES / "accelerate_configs" / "two_processes_cpu.yaml")
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "2"]
    launcher += ["--config_file", config, "--main_process_port", port]
    run = run_python(*launcher, EXAMPLES / script, *arguments, OMP_NUM_THREADS="1")
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("script", ["run_pamlm.py", "run_ctr.py"])
def test_two_processes_give_the_weights_of_one(script, table, plm, tmp_path):
    """320 + 40 rows do not divide by the batch: the last batch is padded without changing the gradient."""
    arguments = [*data_of(table), "--plm_name_or_path", str(plm), *SIZES, *QUICK, "--num_train_epochs", "2"]
    arguments += ["--per_device_eval_batch_size", "8"]
    in_one, in_two = (
        [*arguments, "--per_device_train_batch_size", str(batch_size), "--output_dir", str(tmp_path / processes)]
        for processes, batch_size in (("1", 28), ("2", 14))
    )
    {"run_pamlm.py": run_pamlm, "run_ctr.py": run_ctr}[script].main(in_one)
    launch_two(script, in_two)
    one, two = (load_file(tmp_path / str(n) / "model.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0)
    results = [json.loads((tmp_path / str(n) / "all_results.json").read_text()) for n in (1, 2)]
    for name in ("test_auc", "test_log_loss") if script == "run_ctr.py" else ("eval_masked_accuracy",):
        assert results[1][name] == pytest.approx(results[0][name], abs=1e-5)
    assert [path.name for path in (tmp_path / "2").glob("*prepared*")] == []


def test_a_finished_run_is_not_overwritten(pretrained, table, plm):
    before = (pretrained / "model.safetensors").read_bytes()
    arguments = [*data_of(table), "--plm_name_or_path", str(plm), *QUICK, "--output_dir", str(pretrained)]
    with pytest.raises(FileExistsError, match="holds a finished run"):
        run_pamlm.main(arguments)
    assert (pretrained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split_seed", "8"], "`--split_seed` must be 7"),
        (["--max_train_rows", "100"], "`--max_train_rows` must be None"),
        (["--dataset", "ml-1m"], "`--dataset` must be 'csv'"),
        (["--backbone", "fm"], "`--backbone` must be 'dcnv2'"),
        (["--dnn_dropout", "1.5"], r"`dnn_dropout` must be in \[0, 1\)"),
        (["--first_order", "false"], "`--first_order` must be True"),
        (["--prompt_length", "5"], "`--prompt_length` must be 2"),
        (["--prompt_encoder", "low_rank"], "`--prompt_encoder` must be 'released'"),
        (["--prompt_initializer_scale", "2"], "`--prompt_initializer_scale` must be 1.0"),
        (["--preset", "ml-1m"], "`--preset` must be left out"),
    ],
)
def test_finetuning_refuses_another_split_or_model(pretrained, table, options, message, tmp_path):
    arguments = ["--model_name_or_path", str(pretrained), "--data_path", str(table / "rows.csv"), *options]
    with pytest.raises(ValueError, match=message):
        run_ctr.main([*arguments, *QUICK, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_resuming_refuses_another_split(table, pretrained, tmp_path):
    """Rows that the interrupted run trained on must not become its test rows."""
    options = ["--ctr_only", *SIZES, *QUICK, *BATCHES, "--output_dir", str(tmp_path / "out")]
    run_ctr.main([*data_of(table), *options, "--split_seed", "1", "--max_train_rows", "100"])
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    for resume in ("true", str(checkpoint)):
        resumed = [*data_of(table), *options, "--resume_from_checkpoint", resume]
        with pytest.raises(ValueError, match="`--split_seed` must be 1, .* got 2"):
            run_ctr.main([*resumed, "--split_seed", "2"])
    with pytest.raises(ValueError, match="`--max_train_rows` must be 100"):
        run_ctr.main([*resumed, "--max_train_rows", "80"])
    # from a checkpoint of another split
    start = ["--model_name_or_path", str(pretrained), "--data_path", str(table / "rows.csv"), "--without_plm"]
    with pytest.raises(ValueError, match="`--split_seed` must be 1, .* got 7"):
        run_ctr.main([*start, *QUICK, "--output_dir", str(tmp_path / "out"), "--resume_from_checkpoint", "true"])

    checkpoint = next(pretrained.glob("checkpoint-*"))
    pamlm = [*data_of(table), "--plm_name_or_path", "scratch-tiny", "--output_dir", str(tmp_path / "pamlm")]
    with pytest.raises(ValueError, match="`--split_seed` must be 7, .* got 8"):
        run_pamlm.main([*pamlm, "--split_seed", "8", "--resume_from_checkpoint", str(checkpoint)])

    # other rows, and the same rows with other ids
    pd.DataFrame(tiny_rows(400, seed=9)).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match="`--data_path` must hold the data .* test_rows_sha256"):
        run_ctr.main([*resumed, "--data_path", str(tmp_path / "rows.csv")])
    schema = yaml.safe_load((table / "schema.yaml").read_text())
    schema["fields"][0]["name"] = "Reader"
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(schema))
    with pytest.raises(
        ValueError, match="`resume_from_checkpoint` must be a checkpoint whose processor matches the data"
    ):
        run_ctr.main([*resumed, "--schema", str(tmp_path / "schema.yaml")])

    # omitted arguments are the checkpoint's
    run_ctr.main([*resumed, "--num_train_epochs", "2"])
    assert ClickPromptConfig.from_pretrained(tmp_path / "out").training_data["split_seed"] == 1
    with pytest.raises(ValueError, match="`resume_from_checkpoint` must be the folder of a checkpoint"):
        run_ctr.main([*data_of(table), *options[:-1], str(tmp_path / "new"), "--resume_from_checkpoint", "true"])


def test_overwriting_removes_the_earlier_run(table, tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = [*data_of(table), "--ctr_only", *SIZES, *QUICK, *BATCHES, "--output_dir", str(out)]
    run_ctr.main([*options, "--num_train_epochs", "2"])
    left = {"checkpoint-10", "checkpoint-20", "all_results.json", "_test_scores.parquet"}
    assert left <= {path.name for path in out.iterdir()}
    # after a mistake, the earlier run is still there
    with pytest.raises(ValueError, match="`gauc_field` must be among the fields"):
        run_ctr.main([*options, "--overwrite_output_dir", "--gauc_field", "nothing"])
    assert left <= {path.name for path in out.iterdir()}

    monkeypatch.setattr(run_ctr, "click_report", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_ctr.main([*options, "--overwrite_output_dir"])
    assert left & {path.name for path in out.iterdir()} == {"checkpoint-10"}
    # resuming continues from the new run's checkpoint and removes none
    with pytest.raises(ZeroDivisionError):
        run_ctr.main(
            [*options, "--overwrite_output_dir", "--resume_from_checkpoint", "true", "--num_train_epochs", "2"]
        )
    assert left & {path.name for path in out.iterdir()} == {"checkpoint-10", "checkpoint-20"}


def test_finetuning_refuses_another_schema(pretrained, table, tmp_path):
    (tmp_path / "schema.yaml").write_text("{fields: [user], label: click}")
    arguments = ["--model_name_or_path", str(pretrained), "--data_path", str(table / "rows.csv")]
    with pytest.raises(ValueError, match="`--schema` must be left out"):
        run_ctr.main([*arguments, "--schema", str(tmp_path / "schema.yaml"), "--output_dir", str(tmp_path / "out")])


def test_finetuning_refuses_other_rows(pretrained, tmp_path):
    pd.DataFrame(tiny_rows(400, seed=9)).to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["--model_name_or_path", str(pretrained), "--data_path", str(tmp_path / "rows.csv")]
    with pytest.raises(ValueError, match="`--data_path` must hold the data .* test_rows_sha256"):
        run_ctr.main([*arguments, *QUICK, "--output_dir", str(tmp_path / "out")])


WITH_PLM = ["--plm_name_or_path", "scratch-tiny"]


def idle_warnings(monkeypatch, options, checkpoint=None, pretraining=False):
    warnings = []
    monkeypatch.setattr("clickprompt_hf.runs.idle_arguments.logger.warning", warnings.append)
    parser = HfArgumentParser((ModelArguments, DataArguments, ClickPromptTrainingArguments))
    parsed = parser.parse_args_into_dataclasses([*options, "--output_dir", "nowhere"])
    warn_of_idle_arguments(*parsed, checkpoint=checkpoint, pretraining=pretraining)
    return warnings


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (["--fusion", "weighted"], "--fusion weighted has no effect: it needs a run with the PLM."),
        (["--prompt_length", "3"], "--prompt_length 3 has no effect: it needs a run with the PLM."),
        (["--text_fields", "title", "note"], "--text_fields title note has no effect: it needs a run with the PLM."),
        (["--freeze", "plm"], "--freeze plm has no effect: it needs a run with the PLM."),
        ([*WITH_PLM, "--masking", "field"], "--masking field has no effect: it needs clickprompt pretrain."),
        ([*WITH_PLM, "--plm_learning_rate", "1e-4", "--freeze", "plm"], "a PLM that is not frozen"),
        ([*WITH_PLM, "--fusion_alpha", "0.3"], "--fusion weighted"),
        ([*WITH_PLM, "--learn_fusion_alpha", "false"], "--fusion weighted"),
        ([*WITH_PLM, "--prompt_rank", "8"], "--prompt_encoder low_rank"),
        (
            [*WITH_PLM, "--prompt_strategy", "none", "--prompt_dropout", "0.1"],
            "--prompt_strategy layerwise or shallow",
        ),
        ([*WITH_PLM, "--prompt_strategy", "shallow", "--prompt_encoder", "paper"], "--prompt_strategy layerwise"),
        (["--backbone", "dnn", "--num_graph_layers", "4"], "--backbone fignn"),
        (["--backbone", "fm", "--dnn_hidden_sizes", "8"], "--backbone dnn, deepfm, xdeepfm, ipnn, dcn, dcnv2, "),
        (["--backbone", "lr", "--embedding_size", "8"], "--backbone fm, dnn, "),
        (["--first_order", "false"], "--first_order False has no effect: it needs --backbone fm or deepfm."),
        ([*WITH_PLM, "--prompt_strategy", "shallow", "--prompt_rank", "8"], "--prompt_encoder low_rank"),
        (["--num_attention_heads", "2"], "--backbone autoint or transformer"),
        (["--data_path", "/nowhere"], "a --dataset read from files"),
        (["--dataset", "owner/name", "--data_path", "x"], "a --dataset that is not a Hub id or folder itself"),
        (["--split", "time", "--split_seed", "1"], "--split random or user"),
        (["--split_column", "item_id"], "--split_column item_id has no effect: it needs --split user."),
    ],
)
def test_arguments_without_effect_trigger_a_warning(options, warning, monkeypatch):
    (given,) = idle_warnings(monkeypatch, ["--dataset", "synthetic", *options])
    assert warning in given


def test_arguments_that_a_checkpoint_or_split_makes_idle_trigger_a_warning(pretrained, table, tmp_path, monkeypatch):
    checkpoint = ClickPromptConfig.from_pretrained(pretrained)
    checkpoint.use_plm = False
    (given,) = idle_warnings(monkeypatch, ["--prompt_dropout", "0.1"], checkpoint)
    assert "a run with the PLM" in given
    out = ["--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="`early_stopping_patience` must be left out without `load_best_model"):
        run_pamlm.main([*data_of(table), *WITH_PLM, "--early_stopping_patience", "3", *out])

    # a dataset with its own three splits
    for name in ("train", "validation", "test"):
        pd.DataFrame(tiny_rows(20)).to_csv(tmp_path / f"{name}.csv", index=False)
    files = [f"--{name}_file={tmp_path}/{name}.csv" for name in ("train", "validation", "test")]
    for data in (["--dataset", str(tmp_path)], ["--dataset", "csv", "--data_path", str(tmp_path)], files):
        (given,) = idle_warnings(monkeypatch, [*data, "--split_seed", "3"])
        assert "a --dataset without predefined splits" in given
        (given,) = idle_warnings(monkeypatch, [*data, "--split_fractions", "0.6", "0.2", "0.2"])
        assert given.startswith("--split_fractions 0.6 0.2 0.2 has no effect: it needs a --dataset without predefined")
    # what has an effect
    assert not idle_warnings(monkeypatch, [*files[:2], "--split_seed", "3", "--negative_sampling_rate", "0.1"])


def test_the_demo_passes_arguments_where_they_matter():
    arguments = [
        "--bf16",
        "--prompt_encoder",
        "low_rank",
        "--masking",
        "field",
        "--cache_text_states",
        "--seed=1",
        "--prompt_encoder",
        "paper",
    ]
    plm, others = demo.taken(PLM_ARGUMENTS, arguments)
    assert plm == ["--cache_text_states=true", "--prompt_encoder=paper"]
    assert demo.taken(PAMLM_ARGUMENTS, others) == (["--masking=field"], ["--bf16", "--seed=1"])


@pytest.fixture
def quality(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES.parent / "benchmarks")
    return importlib.import_module("quality")


def test_runs_of_the_quality_benchmark_have_no_idle_arguments(quality, monkeypatch):
    given = {"dataset": None, "data_path": None, "seeds": 1, "backbones": ["dnn"], "pamlm_epochs": "1"}
    args = argparse.Namespace(**given, plm="scratch-small", item_fields=["title"], output_dir=Path("out"))
    for experiment in quality.EXPERIMENTS.values():
        for run in experiment(args):
            assert not (run.after and run.taught_by)
            options = [option for option in run.options if option != "--ctr_only"]
            if run.after is None:
                assert not idle_warnings(monkeypatch, options, pretraining=run.script == "run_pamlm"), run


def test_the_quality_benchmark_keeps_the_text_around_its_table(quality, tmp_path):
    path, begin, end = tmp_path / "results.md", "<!-- alone -->", "<!-- /alone -->"
    path.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
    assert quality.around_table(path, "alone") == (f"above\n{begin}", f"{end}\nbelow\n")
    for text in (f"above\n{begin}\nold\nbelow\n", f"{end}\n{begin}\n"):
        path.write_text(text)
        # before any run
        with pytest.raises(ValueError, match="--into must hold the lines <!-- alone --> and <!-- /alone -->"):
            quality.main(["alone", "--output_dir", str(tmp_path / "out"), "--into", str(path)])
        assert path.read_text() == text
    assert not (tmp_path / "out").exists()


def test_the_quality_benchmark_runs_chosen_columns_and_what_they_start_from(quality):
    args = argparse.Namespace(dataset=None, data_path=None, seeds=1, backbones=["dnn"], pamlm_epochs="1")
    runs = quality.backbone_runs(args)
    chosen = quality.runs_of_columns(runs, ["no prompts", "layerwise after PA-MLM"])
    assert [run.column for run in chosen] == ["no prompts", "PA-MLM", "layerwise after PA-MLM"]
    assert quality.runs_of_columns(runs, None) == runs
    with pytest.raises(ValueError, match=r"--columns must name columns of \['alone', .*got \['deep'\]"):
        quality.runs_of_columns(runs, ["deep"])


def test_processor_and_model_must_belong_together(pretrained, tmp_path):
    copy = tmp_path / "copy"
    ClickPromptProcessor.from_pretrained(pretrained).save_pretrained(copy)
    config = ClickPromptConfig.from_pretrained(pretrained)
    config.ctr_config.field_sizes = [3, 3, 3, 3]
    config.save_pretrained(copy)
    with pytest.raises(ValueError, match=r"do not belong together: .*\[3, 3, 3, 3\]"):
        run_ctr.main(["--model_name_or_path", str(copy), *QUICK, "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "nothing"], "`backbone` must be one of"),
        (["--prompt_length", "0"], "`prompt_length` must be at least 1"),
        (["--prompt_length", "128"], "`prompt_length` must leave at least one"),
        (["--prompt_length", "110"], "Row [0-9]+ of the train split has [0-9]+ text tokens; with 110 prompts"),
        (["--max_text_length", "200"], r"`max_text_length` must be in \[3, 123\]"),
        (["--preset", "nowhere"], "`preset` must be one of .*, got 'nowhere'"),
        (["--schema", "nowhere.yaml"], "`schema` must be a file"),
        (["--split", "time"], "names no time column"),
    ],
)
def test_wrong_arguments_stop_before_training(options, message, table, plm, tmp_path):
    arguments = [*data_of(table), "--plm_name_or_path", str(plm), *SIZES, *QUICK, *options]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_pamlm.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize("command", [run_ctr, run_pamlm, predict, demo])
def test_unknown_and_misspelt_flags_are_refused(command, tmp_path):
    required = {"--model": "x", "--input": "rows.csv", "--output": "scores.csv"}
    required = required if command is predict else {"--output_dir": str(tmp_path / "out")}
    arguments = [word for pair in required.items() for word in pair]
    with pytest.raises(ValueError, match="unknown arguments: --batch_sizes 3"):
        command.main([*arguments, "--batch_sizes", "3"])
    assert not list(tmp_path.iterdir()) or command is demo


@pytest.mark.parametrize(
    "arguments",
    [[], ["--ctr_only", "--plm_name_or_path", "x"], ["--ctr_only", "--without_plm"], ["--without_plm"]],
)
def test_finetuning_needs_one_start(arguments, tmp_path):
    with pytest.raises(ValueError, match="--model_name_or_path"):
        run_ctr.main([*arguments, "--output_dir", str(tmp_path)])


@pytest.fixture(scope="module")
def alone(table, tmp_path_factory):
    """The folder of a backbone that was trained alone."""
    folder = tmp_path_factory.mktemp("runs") / "alone"
    run_ctr.main([*data_of(table), "--ctr_only", *SIZES, *QUICK, *BATCHES, "--output_dir", str(folder)])
    return folder


def test_predict_refuses_a_checkpoint_without_trained_heads(pretrained, table, tmp_path, monkeypatch):
    files = ["--input", str(table / "rows.csv"), "--output", str(tmp_path / "scores.csv")]
    without_heads = shutil.copytree(pretrained, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoint-*"))
    config = without_heads / "config.json"
    config.write_text(config.read_text().replace("ClickPromptForPAMLM", "ClickPromptForCTR"))
    with pytest.raises(ValueError, match=r"copy/model\.safetensors must hold .* lacks \['ctr_head"):
        predict.main(["--model", str(without_heads), *files])
    # refused before loading, which reports each missing weight
    monkeypatch.setattr(predict.AutoModelForSequenceClassification, "from_pretrained", None)
    with pytest.raises(ValueError, match=r"pamlm is a pretraining checkpoint \(ClickPromptForPAMLM\)\. Finetune it"):
        predict.main(["--model", str(pretrained), *files])
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_predict_keeps_types_and_digits(alone, tmp_path):
    numbers = [2**53 + 1, 5, 7, None]
    rows = pa.table(
        {
            "user": pa.array([3, 1, 2, None], pa.int64()),
            "price": pa.array([1.5, 2, None, 3]),
            "tags": pa.array(["new", "", "new|old", None]),
            "title": pa.array(["Up", "Up", None, "Nowhere"]).dictionary_encode(),
            "row": pa.array(numbers, pa.int64()),
            "day": pa.array([0, 1, 2, 3], pa.date32()),
        }
    )
    pq.write_table(rows, tmp_path / "rows.parquet")
    for ending in ("parquet", "csv"):
        files = ["--input", str(tmp_path / "rows.parquet"), "--output", str(tmp_path / f"scores.{ending}")]
        predict.main(["--model", str(alone), *files, "--piece_rows", "2"])
    scores = pq.read_table(tmp_path / "scores.parquet")
    assert scores.drop_columns("click_probability").equals(rows)
    processor, model = (auto.from_pretrained(alone) for auto in (AutoProcessor, AutoModelForSequenceClassification))
    with torch.no_grad():
        logits = model(**processor(rows.to_pydict(), return_tensors="pt")).logits
    np.testing.assert_allclose(scores["click_probability"], logits.sigmoid().squeeze(-1), atol=1e-6)
    assert pd.read_csv(tmp_path / "scores.csv", dtype=str)["row"].tolist()[:3] == [str(n) for n in numbers[:3]]


def test_predict_reads_files_however_they_are_written(alone, tmp_path):
    rows = pd.DataFrame(
        {"user": ["1", "caf\xe9"], "price": ["2.50", ""], "tags": ["new|old", "x\ry"], "title": ["a;b", 'c"']}
    )
    names = ["--column_names", *rows.columns]
    files = {
        "rows.csv": ('user,price,tags,title\n1,2.50,new|old,a;b\ncafé,,"x\ry","c"""\n'.encode(), []),
        "rows.tsv": ('user\tprice\ttags\ttitle\n1\t2.50\tnew|old\ta;b\ncafé\t\t"x\ry"\t"c"""\n'.encode(), []),
        "ROWS.CSV": (
            b"1;2.50;new|old;'a;b'\ncaf\xe9;;'x\ry';c\"\n",
            ["--delimiter", ";", "--quote", "'", "--encoding", "cp1252", *names],
        ),
        "spark.csv": (
            'user,price,tags,title\n1,2.50,new|old,a;b\n"café",,"x\ry","c\\""\n'.encode(),
            ["--escape", "\\", "--encoding", "UTF-8"],
        ),
        "rows.jsonl.gz": (
            gzip.compress(
                '{"user": 1, "price": 2.50, "tags": "new|old", "title": "a;b"}\n'
                '{"user": "café", "price": null, "tags": "x\\ry", "title": "c\\""}\n'.encode()
            ),
            [],
        ),
    }
    scores = []
    for number, (name, (content, options)) in enumerate(files.items()):
        source, target = tmp_path / name, tmp_path / f"{number}.csv.zst"
        source.write_bytes(content)
        predict.main(["--model", str(alone), "--input", str(source), "--output", str(target), *options])
        scores.append(pa.input_stream(str(target), compression="zstd").read().decode())
    assert scores[1:] == scores[:1] * 4
    written = pd.read_csv(io.StringIO(scores[0], newline=""), dtype=str, keep_default_na=False)
    assert written.drop(columns="click_probability").equals(rows)
    # the checkpoint's schema has no format, so the file must have a header
    given = ["--input", str(tmp_path / "ROWS.CSV"), "--output", str(target), "--encoding", "cp1252"]
    with pytest.raises(ValueError, match=r"Its cells seem to be separated by ';'"):
        predict.main(["--model", str(alone), *given])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_of_no_rows_gives_no_rows(alone, tmp_path, ending):
    (tmp_path / "rows.csv").write_text("user,price,tags,title\n")
    pd.read_csv(tmp_path / "rows.csv").to_parquet(tmp_path / "rows.parquet")
    for target in ("csv", "parquet"):
        files = ["--input", str(tmp_path / f"rows.{ending}"), "--output", str(tmp_path / f"scores.{target}")]
        predict.main(["--model", str(alone), *files])
    assert (tmp_path / "scores.csv").read_text() == "user,price,tags,title,click_probability\n"
    scores = pq.read_table(tmp_path / "scores.parquet")
    assert (scores.num_rows, scores.column_names[-1]) == (0, "click_probability")


@pytest.mark.parametrize("script", [run_ctr, run_pamlm, predict])
def test_help_is_printed(script, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(["--help"])
    assert end.value.code == 0
    assert "--backbone_module" in capsys.readouterr().out


def test_paths_that_do_not_exist_are_named(pretrained, table, tmp_path):
    nowhere, out = str(tmp_path / "nowhere"), ["--output_dir", str(tmp_path / "out")]
    with pytest.raises(
        FileNotFoundError, match="`model_name_or_path` must be a local folder or a Hub id, but there is no"
    ):
        run_ctr.main(["--model_name_or_path", nowhere, *out])
    with pytest.raises(FileNotFoundError, match="`plm_name_or_path` must be a local folder or a Hub id"):
        run_pamlm.main([*data_of(table), "--plm_name_or_path", nowhere, *out])
    rows = ["--input", str(table / "rows.csv"), "--output"]
    with pytest.raises(FileNotFoundError, match="`--model` must be a local folder or a Hub id"):
        predict.main(["--model", nowhere, *rows, str(tmp_path / "scores.csv")])
    # a folder of runs instead of a run
    with pytest.raises(FileNotFoundError, match="`--model` must be the folder of a model, but .* has no config.json"):
        predict.main(["--model", str(tmp_path), *rows, str(tmp_path / "scores.csv")])
    with pytest.raises(
        ValueError, match="`plm_name_or_path` must be a language model, but .* a ClickPrompt checkpoint"
    ):
        run_ctr.main([*data_of(table), "--plm_name_or_path", str(pretrained), *out])
    with pytest.raises(FileNotFoundError, match="--output must be a file in an existing folder"):
        predict.main(["--model", str(pretrained), *rows, str(tmp_path / "nowhere" / "scores.csv")])


@pytest.mark.parametrize(
    ("missing", "message"),
    [("processor_config.json", "must hold a ClickPrompt processor"), ("tokenizer_config.json", "padding token")],
)
def test_a_checkpoint_without_a_file_is_refused(missing, message, pretrained, tmp_path):
    shutil.copytree(pretrained, tmp_path / "broken", ignore=shutil.ignore_patterns("checkpoint-*"))
    (tmp_path / "broken" / missing).unlink()
    with pytest.raises(OSError, match=message):
        ClickPromptProcessor.from_pretrained(tmp_path / "broken")


@pytest.mark.parametrize("missing", ["optimizer.pt", "trainer_state.json"])
def test_resuming_from_half_a_checkpoint_is_refused(missing, table, tmp_path):
    options = [*data_of(table), "--ctr_only", *SIZES, *QUICK, *BATCHES, "--output_dir", str(tmp_path / "out")]
    run_ctr.main(options)
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    (checkpoint / missing).unlink()
    with pytest.raises(ValueError, match=f"must be a complete checkpoint, but .* lacks {missing}"):
        run_ctr.main([*options, "--resume_from_checkpoint", "true"])


def test_predict_names_what_is_missing(alone, tmp_path):
    (tmp_path / "rows.csv").write_text("user,price\n1,2\n")
    arguments = ["--model", str(alone), "--input", str(tmp_path / "rows.csv")]
    with pytest.raises(ValueError, match=r"missing \['tags', 'title'\]"):
        predict.main([*arguments, "--output", str(tmp_path / "scores.csv")])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    for wrong in (["--output", "x.txt"], ["--input", str(tmp_path / "nowhere.csv"), "--output", "x.csv"]):
        with pytest.raises((ValueError, FileNotFoundError), match="--(out|in)put "):
            predict.main([*arguments, *wrong])


def test_movielens_with_a_scratch_plm(tmp_path):
    path = write_zip(tmp_path / "ml-1m.zip", "ml-1m", ml_1m_files(300))
    out = tmp_path / "out"
    arguments = [
        "--dataset",
        "ml-1m",
        "--data_path",
        str(path),
        "--plm_name_or_path",
        "scratch-tiny",
        "--split",
        "time",
    ]
    run_ctr.main([*arguments, *SIZES, *QUICK, *BATCHES, "--output_dir", str(out)])
    config = ClickPromptConfig.from_pretrained(out)
    assert (config.text_config.num_hidden_layers, config.text_config.hidden_size) == (2, 128)
    assert config.training_data["split"] == "time"


def new_table(folder, rows=200):
    """Rows with users that `table` lacks."""
    columns = tiny_rows(rows, seed=4)
    columns["user"] = [user + 5 for user in columns["user"]]
    pd.DataFrame(columns).to_csv(folder / "new.csv", index=False)
    return ["--extend_vocabulary", "--dataset", "csv", "--data_path", str(folder / "new.csv")]


@pytest.mark.parametrize("without_plm", [False, True])
def test_finetuning_on_another_table_gives_new_users_ids(without_plm, pretrained, tmp_path):
    out = tmp_path / "out"
    options = [*new_table(tmp_path), "--split_seed", "3", *(["--without_plm"] if without_plm else [])]
    common = [*QUICK, *BATCHES, "--save_strategy", "epoch", "--output_dir", str(out)]
    # nothing is trained, so rows stay recognizable
    still = ["--learning_rate", "0", "--plm_learning_rate", "0"]
    run_ctr.main(["--model_name_or_path", str(pretrained), *options, *still, *common])
    before, after = (ClickPromptProcessor.from_pretrained(folder) for folder in (pretrained, out))
    old_size, new_size = before.field_sizes[0], after.field_sizes[0]
    assert after.vocabularies[0][: old_size - 1] == before.vocabularies[0]
    assert set(after.vocabularies[0][old_size - 1 :]) == {str(user) for user in range(9, 14)}
    old, new = (load_file(folder / "model.safetensors") for folder in (pretrained, out))
    name = "clickprompt.ctr.embedding.table.weight"
    torch.testing.assert_close(new[name][:old_size], old[name][:old_size])
    torch.testing.assert_close(new[name][old_size:new_size], old[name][:1].expand(5, -1))
    torch.testing.assert_close(
        new[name][new_size:][: before.field_sizes[1]], old[name][old_size:][: before.field_sizes[1]]
    )

    # the record is that of the new rows
    config = ClickPromptConfig.from_pretrained(out)
    assert config.ctr_config.field_sizes == after.field_sizes
    assert config.training_data["num_rows"] == {"train": 160, "validation": 20, "test": 20}
    assert config.training_data["split_seed"] == 3
    assert config.training_data["processor_fingerprint"] == after.fingerprint
    # such a run can be resumed too, but not on other rows
    resume = ["--resume_from_checkpoint", "true", "--num_train_epochs", "2"]
    resumed = ["--model_name_or_path", str(pretrained), *options, *still, *common]
    run_ctr.main([*resumed, *resume])
    assert ClickPromptProcessor.from_pretrained(out).fingerprint == after.fingerprint
    new_table(tmp_path, rows=210)
    with pytest.raises(ValueError, match="`--data_path` must hold the data that the checkpoint was trained on"):
        run_ctr.main([*resumed, *resume])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--dataset", "synthetic"], ValueError, "`--dataset` must have the fields and the label of the checkpoint's"),
        ([], ValueError, "`--dataset` must name the data"),
        (["--dataset", "csv", "--data_path", "nowhere.csv"], FileNotFoundError, "nowhere.csv"),
    ],
)
def test_vocabularies_are_extended_by_rows_of_the_same_fields(options, error, message, pretrained, tmp_path):
    arguments = ["--model_name_or_path", str(pretrained), "--extend_vocabulary", *options, *QUICK]
    with pytest.raises(error, match=message):
        run_ctr.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_extending_needs_a_checkpoint_and_is_suggested_for_other_rows(pretrained, table, tmp_path):
    out = ["--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="--extend_vocabulary needs --model_name_or_path"):
        run_ctr.main([*data_of(table), "--ctr_only", "--extend_vocabulary", *out])
    new_table(tmp_path)
    arguments = ["--model_name_or_path", str(pretrained), "--data_path", str(tmp_path / "new.csv")]
    with pytest.raises(ValueError, match="To finetune on another table, pass --extend_vocabulary"):
        run_ctr.main([*arguments, *QUICK, *out])


def test_a_finished_run_holds_no_pickle(pretrained):
    pickles = {".bin", ".pt", ".pth", ".pkl"}
    assert not [path for path in pretrained.iterdir() if path.suffix in pickles]
    (checkpoint, *_) = pretrained.glob("checkpoint-*")
    assert (checkpoint / "training_args.bin").is_file()
    for folder in (pretrained, checkpoint):
        assert {"configuration_clickprompt.py", "prompt_injection.py", "pipeline_clickprompt.py"} <= {
            path.name for path in folder.glob("*.py")
        }
