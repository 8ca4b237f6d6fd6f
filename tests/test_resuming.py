"""A run that is resumed from any of its checkpoints ends as the uninterrupted one: weights, history and metrics."""

import errno
import json
import logging
import re
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file
from tiny_data import rows_of_lengths, tiny_roberta_tokenizer, tiny_schema, tiny_splits
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import Trainer, TrainerCallback, set_seed
from transformers.utils import logging as transformers_logging

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.checkpoints import PROGRESS_FILE, checkpoints_in, fault_of

# durations differ between runs
TIMES = ("runtime", "per_second")
BATCH = 8


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    splits = tiny_splits() | {"train": pa.table(rows_of_lengths(60, 0))}
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare_splits(splits, processor, folder)
    return load_prepared(folder)[0], processor


def ctr_alone(processor):
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values, dnn_dropout=0.3)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))


def pamlm(processor):
    text = tiny_text_config(vocab_size=len(processor.tokenizer), max_position_embeddings=200)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    return ClickPromptForPAMLM(ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2))


def run(folder, prepared, rows=60, model=ctr_alone, resume=None, aucs=None, callbacks=(), **options):
    """Train; the trainer and the metrics of training, without durations."""
    splits, processor = prepared
    set_seed(0)
    model = model(processor)
    options = {
        **{"per_device_train_batch_size": BATCH, "report_to": "none", "disable_tqdm": True, "logging_steps": 3},
        **{"save_total_limit": None, "early_stopping_patience": 0, "learning_rate": 0.01, **options},
    }
    if aucs is not None:
        # the metric of an evaluation is told by the step
        options["load_best_model_at_end"] = True
    args = ClickPromptTrainingArguments(str(folder), **options)
    is_pamlm = isinstance(model, ClickPromptForPAMLM)
    trainer = ClickPromptTrainer(
        model,
        args,
        # copies, as a dataset keeps its epoch
        train_dataset=ColumnarDataset.concatenate([splits["train"]]).slice(0, rows),
        eval_dataset=ColumnarDataset.concatenate([splits["validation"]]),
        data_collator=ClickPromptMLMCollator(processor) if is_pamlm else ClickPromptCollator(processor),
        processing_class=processor,
        compute_metrics=None if aucs is None else lambda _: {"auc": aucs(trainer.state.global_step)},
        callbacks=list(callbacks),
    )
    metrics = without_times(trainer.train(resume_from_checkpoint=resume).metrics)
    return trainer, metrics


def without_times(entry):
    return {name: value for name, value in entry.items() if not name.endswith(TIMES)}


def end_of(trainer):
    """Everything that must be equal: weights, history without durations, best checkpoint."""
    history = [without_times(entry) for entry in trainer.state.log_history]
    best = (trainer.state.best_metric, trainer.state.best_global_step)
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    return weights, history, best, trainer.state.global_step, trainer.state.epoch


def check_same_end(found, expected):
    assert found[1:] == expected[1:]
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor), name


# 60 rows in batches of 8 are 8 batches per epoch, the last of 4 rows
STEPS = {"save_strategy": "steps", "eval_strategy": "no"}
RUNS = {
    "max_steps within an epoch": {**STEPS, "save_steps": 5, "max_steps": 19},
    "max_steps at the end of an epoch": {**STEPS, "save_steps": 8, "max_steps": 16},
    "half an epoch": {**STEPS, "save_steps": 4, "num_train_epochs": 2.5},
    "half an epoch, saved by epoch": {"num_train_epochs": 2.5},
    "accumulation with a remainder": {**STEPS, "save_steps": 2, "gradient_accumulation_steps": 3, "max_steps": 8},
    "accumulation by epoch": {"gradient_accumulation_steps": 5, "num_train_epochs": 3, "logging_strategy": "epoch"},
    "saved by step, evaluated and logged by epoch": {
        **{"save_strategy": "steps", "save_steps": 4, "eval_strategy": "epoch", "num_train_epochs": 2.5},
        **{"logging_strategy": "epoch", "load_best_model_at_end": False},
    },
    "saved by epoch, evaluated by step": {
        **{"eval_strategy": "steps", "eval_steps": 3, "num_train_epochs": 3, "load_best_model_at_end": False},
        **{"logging_steps": 7, "eval_on_start": True},
    },
    "evaluated and saved by step": {
        **{"save_strategy": "steps", "save_steps": 6, "eval_strategy": "steps", "eval_steps": 3, "max_steps": 21},
        "logging_first_step": True,
    },
    "the best is saved": {
        **{"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 2},
        "logging_strategy": "epoch",
    },
    "rows of one length": {**STEPS, "save_steps": 5, "max_steps": 21, "train_sampling_strategy": "group_by_length"},
    "one batch per epoch": {"rows": 7, "num_train_epochs": 4},
    "batches that divide the rows": {"rows": 48, **STEPS, "save_steps": 5, "num_train_epochs": 2},
    "sparse updates": {**STEPS, "save_steps": 7, "max_steps": 17, "sparse_embedding_updates": True},
    "a schedule and a warm-up": {**STEPS, "save_steps": 4, "max_steps": 14, "lr_scheduler_type": "cosine"},
    "PA-MLM": {"model": pamlm, **STEPS, "save_steps": 5, "max_steps": 11, "gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("name", RUNS)
def test_resuming_ends_as_the_whole_run(name, prepared, tmp_path):
    whole, metrics = run(tmp_path / "whole", prepared, **RUNS[name])
    expected = end_of(whole)
    checkpoints = checkpoints_in(tmp_path / "whole")
    assert len(checkpoints) >= 2
    for checkpoint in dict.fromkeys((checkpoints[0], checkpoints[len(checkpoints) // 2], checkpoints[-1])):
        # what a run killed after this checkpoint leaves, and the best one before
        folder = tmp_path / f"cut-{checkpoint.name}"
        for earlier in checkpoints[checkpoints.index(checkpoint) :]:
            shutil.copytree(earlier, folder / earlier.name)
        resumed, resumed_metrics = run(folder, prepared, resume=True, **RUNS[name])
        check_same_end(end_of(resumed), expected)
        assert resumed_metrics == metrics


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("every", [{}, {"save_strategy": "steps", "save_steps": 4, "eval_steps": 4}])
def test_a_run_that_stopped_early_trains_no_further(patience, every, prepared, tmp_path):
    def auc(step):
        return {4: 0.5, 8: 0.6, 12: 0.8, 16: 0.7}.get(step, 0.75)

    options = {"early_stopping_patience": patience, "num_train_epochs": 9, "aucs": auc, **every}
    options |= {"eval_strategy": "steps"} if every else {}
    whole, metrics = run(tmp_path / "whole", prepared, **options)
    best, interval = (12, 4) if every else (24, 8)
    if not every:
        best = 24 if auc(24) > auc(8) else 8
    assert whole.state.global_step == best + interval * patience
    assert whole.state.best_global_step == best
    finished = {path.name for path in checkpoints_in(tmp_path / "whole")}
    for _ in range(2):
        resumed, resumed_metrics = run(tmp_path / "whole", prepared, resume=True, **options)
        check_same_end(end_of(resumed), end_of(whole))
        assert resumed_metrics == metrics
    assert {path.name for path in checkpoints_in(tmp_path / "whole")} == finished
    # more patience than the checkpoint's run had continues it
    options["early_stopping_patience"] = patience + 1
    longer, _ = run(tmp_path / "whole", prepared, resume=True, **options)
    assert longer.state.global_step == best + interval * (patience + 1)


def test_a_finished_run_can_be_continued_with_more_steps(prepared, tmp_path):
    expected = end_of(run(tmp_path / "whole", prepared, **STEPS, save_steps=6, max_steps=18)[0])
    run(tmp_path / "cut", prepared, **STEPS, save_steps=6, max_steps=12)
    resumed, metrics = run(tmp_path / "cut", prepared, resume=True, **STEPS, save_steps=6, max_steps=18)
    found = end_of(resumed)
    assert found[3] == 18
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor)
    assert np.isclose(metrics["train_loss"], expected[1][-1]["train_loss"])


def test_rates_cover_the_whole_run(prepared, tmp_path, monkeypatch):
    """With a clock that advances by a second per step."""
    now = [0.0]

    class Step(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            now[0] += 1

    for clock in ("time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now[0])
    options = {**STEPS, "save_steps": 5, "max_steps": 15, "callbacks": [Step()]}
    trainer, _ = run(tmp_path, prepared, **options)
    shutil.rmtree(tmp_path / "checkpoint-15")
    # the next part begins much later
    now[0] = 1000.0
    trainer, _ = run(tmp_path, prepared, resume=True, **options)
    (entry,) = [entry for entry in trainer.state.log_history if "train_runtime" in entry]
    assert entry["train_runtime"] == 15
    assert entry["train_steps_per_second"] == 1
    assert entry["train_samples_per_second"] == BATCH


def test_checkpoints_of_versions_without_progress_are_resumed(prepared, tmp_path):
    whole, _ = run(tmp_path / "whole", prepared, **STEPS, save_steps=5, max_steps=15)
    shutil.copytree(tmp_path / "whole" / "checkpoint-10", tmp_path / "cut" / "checkpoint-10")
    (tmp_path / "cut" / "checkpoint-10" / PROGRESS_FILE).unlink()
    resumed, _ = run(tmp_path / "cut", prepared, resume=True, **STEPS, save_steps=5, max_steps=15)
    for name, tensor in end_of(whole)[0].items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


def test_early_stopping_can_be_added_to_a_run(prepared, tmp_path):
    """`Trainer` fails to save callbacks that the checkpoint lacks."""
    run(tmp_path, prepared, num_train_epochs=1)
    resumed, _ = run(
        tmp_path, prepared, resume=True, num_train_epochs=4, early_stopping_patience=1, aucs=lambda step: 1 / step
    )
    assert resumed.state.global_step < 32


def test_the_best_checkpoint_is_found_in_a_moved_folder(prepared, tmp_path):
    auc = {8: 0.9, 16: 0.8, 24: 0.7}.get
    whole, _ = run(tmp_path / "before", prepared, num_train_epochs=3, aucs=auc)
    assert whole.state.best_model_checkpoint == str(tmp_path / "before" / "checkpoint-8")
    best = load_file(tmp_path / "before" / "checkpoint-8" / "model.safetensors")
    state = json.loads((tmp_path / "before" / "checkpoint-8" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "before" / "checkpoint-8")
    (tmp_path / "before").rename(tmp_path / "after")
    resumed, _ = run(tmp_path / "after", prepared, resume=True, num_train_epochs=3, aucs=auc)
    for name, tensor in best.items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


@pytest.mark.parametrize(("limit", "kept"), [(1, {8, 24}), (2, {8, 24}), (3, {8, 16, 24})])
def test_the_best_and_the_newest_checkpoint_are_kept(limit, kept, prepared, tmp_path):
    auc = {8: 0.9, 16: 0.8, 24: 0.7}.get
    run(tmp_path, prepared, num_train_epochs=3, aucs=auc, save_total_limit=limit)
    # with a limit of one, `Trainer` removes the newest when it has loaded the best
    expected = {8} if limit == 1 else kept
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in expected}


@pytest.mark.parametrize("size", [0, 1000, 5000, 9000])
def test_a_full_disk_names_the_file_and_the_checkpoint_to_resume(size, prepared, tmp_path, monkeypatch):
    """A limit on the size of files fails as a full disk does."""
    options = {**STEPS, "save_steps": 5, "max_steps": 15, "save_total_limit": 1}
    save, (soft, hard) = Trainer._save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_until_full(self, *args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size if self.state.global_step == 10 else soft, hard))
        try:
            save(self, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    message = r"checkpoint-10/[\w.-]+ cannot be written: File too large\. Training can resume from .*checkpoint-5\.$"
    # the file that holds the output of the test is limited too
    monkeypatch.setattr(transformers_logging, "_tqdm_active", False)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_checkpoint", save_until_full)
        with pytest.raises(OSError, match=message) as raised:
            run(tmp_path, prepared, **options)
    assert raised.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]
    resumed, metrics = run(tmp_path, prepared, resume=True, **options)
    whole, expected = run(tmp_path / "whole", prepared, **options)
    check_same_end(end_of(resumed), end_of(whole))
    assert metrics == expected


def test_a_checkpoint_is_pushed_once_it_has_its_name(prepared, tmp_path, monkeypatch):
    pushed = []

    def push(self, folder):
        pushed.append((folder, fault_of(folder)))

    monkeypatch.setattr(Trainer, "_push_from_checkpoint", push)
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self, token, private: None)
    run(tmp_path, prepared, num_train_epochs=2, push_to_hub=True)
    assert pushed == [(str(tmp_path / f"checkpoint-{step}"), None) for step in (8, 16)]


def test_incomplete_checkpoints_are_skipped_in_one_line(prepared, tmp_path, caplog):
    options = {**STEPS, "save_steps": 5, "max_steps": 15}
    whole, metrics = run(tmp_path, prepared, **options)
    expected = end_of(whole)
    (tmp_path / "checkpoint-15" / "trainer_state.json").unlink()
    optimizer = tmp_path / "checkpoint-10" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-100])
    log = logging.getLogger("transformers")
    log.addHandler(caplog.handler)
    try:
        resumed, resumed_metrics = run(tmp_path, prepared, resume=True, **options)
    finally:
        log.removeHandler(caplog.handler)
    skipped = [record.getMessage() for record in caplog.records if "Skipping" in record.getMessage()]
    assert len(skipped) == 2
    assert "checkpoint-15, which is incomplete: it lacks trainer_state.json" in skipped[0]
    assert "checkpoint-10, which is incomplete: it has a damaged optimizer.pt, which is cut off" in skipped[1]
    check_same_end(end_of(resumed), expected)
    assert resumed_metrics == metrics
    with pytest.raises(ValueError, match="has no complete checkpoint"):
        run(tmp_path / "nothing", prepared, resume=True, **options)


def test_errors_beside_writing_keep_their_file(prepared, tmp_path, monkeypatch):
    def missing(self, *args):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "nowhere.txt")

    monkeypatch.setattr(Trainer, "_save_checkpoint", missing)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 'nowhere.txt'$"):
        run(tmp_path, prepared, **STEPS, save_steps=5, max_steps=5)


LEFT = (".partial/checkpoint-3/optimizer.pt", ".checkpoint-3.replaced/optimizer.pt", ".onnx.partial/ctr.onnx")
LEFT += (".README.md.partial", ".trainer_state.json.partial")


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left by a killed process")


def test_what_killed_processes_left_is_not_published(prepared, tmp_path, monkeypatch):
    uploaded = []

    class Hub:
        def upload_folder(self, folder_path, ignore_patterns, **kwargs):
            files = [str(path.relative_to(folder_path)) for path in Path(folder_path).rglob("*") if path.is_file()]
            uploaded.extend(filter_repo_objects(files, ignore_patterns=ignore_patterns))

    monkeypatch.setattr("transformers.trainer.hf_api", Hub)
    trainer, _ = run(tmp_path, prepared, max_steps=2)
    trainer.hub_model_id = "tester/ctr"
    fill(tmp_path, LEFT)
    trainer.push_to_hub()
    assert "model.safetensors" in uploaded
    assert not [name for name in uploaded if name.startswith(".") or name.endswith(".pt")]


@pytest.mark.parametrize(
    "left", ["run-0/checkpoint-8/optimizer.pt", ".scores.csv.parts/piece-0.csv", "plots/.curves.png.partial"]
)
def test_what_could_not_be_left_out_is_refused(left, prepared, tmp_path):
    trainer, _ = run(tmp_path, prepared, max_steps=2)
    fill(tmp_path, [left])
    with pytest.raises(ValueError, match="`push_to_hub` would publish " + re.escape(left.rpartition("/")[0][:8])):
        trainer.push_to_hub()
    assert (tmp_path / left).exists()
