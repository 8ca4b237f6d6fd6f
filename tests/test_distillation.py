"""Distillation: the loss by hand, the trainer's use of it, and the command from a teacher to a student."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tiny_data import prepare_tiny_splits, tiny_rows, tiny_schema
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import RobertaForMaskedLM, TrainingArguments, set_seed

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.click_heads import click_loss
from clickprompt_hf.data.collators import ClickPromptCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.text_states import TextStates
from clickprompt_hf.data.text_variants import DistinctTexts
from clickprompt_hf.runs import finetune, pretrain, teacher
from clickprompt_hf.runs.plms import scratch_tokenizer
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.distillation import click_logits, distillation_loss


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cross_entropy(z, p):
    return -p * math.log(sigmoid(z)) - (1 - p) * math.log(1 - sigmoid(z))


# logit, click and teacher's logit of three rows; the last one only pads
ROWS = [(0.5, 1, 2.0), (-1.0, 0, 0.3), (3.0, -100, float("nan"))]


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 0.5), (2.0, 0.25), (0.5, 1.0)])
@pytest.mark.parametrize("num_items", [None, 5, torch.tensor(5)])
def test_loss_and_gradient_by_hand(temperature, weight, num_items):
    z, y, t = (torch.tensor(column) for column in zip(*ROWS))
    z = z[:, None].requires_grad_()
    loss = distillation_loss(z, y, t, temperature, weight, num_items)
    loss.backward()
    divisor = 2 if num_items is None else 5
    expected, gradient = 0.0, []
    for logit, click, of_teacher in ROWS[:2]:
        softened = sigmoid(of_teacher / temperature)
        expected += (1 - weight) * cross_entropy(logit, click)
        expected += weight * temperature**2 * cross_entropy(logit / temperature, softened)
        pull = weight * temperature * (sigmoid(logit / temperature) - softened)
        gradient.append(((1 - weight) * (sigmoid(logit) - click) + pull) / divisor)
    assert loss.item() == pytest.approx(expected / divisor, rel=1e-6)
    np.testing.assert_allclose(z.grad.squeeze(1), [*gradient, 0.0], rtol=1e-5)


def test_a_batch_without_rows_that_count_has_loss_0():
    z, labels = torch.ones(2, 1, requires_grad=True), torch.tensor([-100, -100])
    loss = distillation_loss(z, labels, torch.ones(2))
    loss.backward()
    assert loss.item() == 0
    assert not z.grad.any()


def test_weight_0_is_the_loss_of_clicks_bit_for_bit_and_so_is_a_perfect_teacher():
    generator = torch.Generator().manual_seed(0)
    clicks = torch.randint(0, 2, (50,), generator=generator)
    losses, gradients = [], []
    for weight, of_teacher in ((None, None), (0.0, torch.randn(50, generator=generator)), (1.0, clicks * 200.0 - 100)):
        z = torch.randn(50, 1, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = click_loss(z, clicks) if weight is None else distillation_loss(z, clicks, of_teacher, 1.0, weight)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(z.grad)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(losses[2], losses[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_the_teacher_gets_no_gradient_and_a_student_that_agrees_stays():
    z = torch.tensor([[0.7], [-2.0]], requires_grad=True)
    of_teacher = torch.tensor([[0.7], [-2.0]], requires_grad=True)
    distillation_loss(z, torch.tensor([1, 0]), of_teacher, 3.0, 1.0).backward()
    assert of_teacher.grad is None
    torch.testing.assert_close(z.grad, torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "`temperature` must be above 0, got 0.0"),
        ({"weight": 1.5}, "`weight` must be at most 1, got 1.5"),
        (
            {"teacher_logits": torch.zeros(3)},
            r"`teacher_logits` must have one logit per row, \(2,\), got shape \(3,\)",
        ),
    ],
)
def test_wrong_arguments_of_the_loss_are_named(options, message):
    given = {"logits": torch.zeros(2, 1), "labels": torch.zeros(2), "teacher_logits": torch.zeros(2), **options}
    with pytest.raises(ValueError, match=message):
        distillation_loss(**given)


# the trainer


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare_tiny_splits(folder)
    return load_prepared(folder)


def taught(rows, seed=0):
    """Rows with random logits of a teacher."""
    return replace(rows, teacher_logits=np.random.default_rng(seed).normal(0, 2, len(rows)).astype(np.float32))


def student(processor):
    set_seed(0)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))


def arguments(folder, **options):
    given = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01, "use_cpu": True}
    given |= {"eval_strategy": "no", "save_strategy": "no"}
    return ClickPromptTrainingArguments(
        str(folder), report_to="none", disable_tqdm=True, logging_steps=1, **{**given, **options}
    )


def trained(folder, prepared, train, resume=None, **options):
    """The trainer after training, and the weights."""
    splits, processor = prepared
    model = student(processor)
    trainer = ClickPromptTrainer(
        model,
        arguments(folder, **options),
        train_dataset=train,
        eval_dataset=options.pop("eval_dataset", splits["validation"]),
        processing_class=processor,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same(found, expected, **tolerances):
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, **{"atol": 0, "rtol": 0, **tolerances})


def test_weight_0_trains_as_without_a_teacher_bit_for_bit(prepared, tmp_path):
    train = prepared[0]["train"].without_text()
    _, plain = trained(tmp_path / "plain", prepared, train)
    _, weightless = trained(tmp_path / "0", prepared, taught(train), distill_weight=0.0)
    assert_same(weightless, plain)
    _, other = trained(tmp_path / "default", prepared, taught(train))
    assert any(not torch.equal(other[name], weight) for name, weight in plain.items())


def test_the_first_logged_loss_is_that_of_the_formula(prepared, tmp_path):
    train, options = taught(prepared[0]["train"].without_text()), {"distill_weight": 0.3, "distill_temperature": 2.0}
    trainer, _ = trained(tmp_path, prepared, train, per_device_train_batch_size=60, **options)
    (batch,) = train.__getitems__(range(60))
    with torch.no_grad():
        logits = student(prepared[1]).eval()(torch.from_numpy(batch["feature_ids"])).logits
    expected = distillation_loss(logits, *(torch.from_numpy(batch[k]) for k in ("labels", "teacher_logits")), 2.0, 0.3)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() != pytest.approx(click_loss(logits, torch.from_numpy(batch["labels"])).item(), rel=1e-2)


def test_accumulated_steps_equal_whole_ones(prepared, tmp_path):
    # 60 rows: the last step holds 4 of them, in two batches of 3 and 1
    train, options = taught(prepared[0]["train"].without_text()), {"distill_weight": 0.7, "distill_temperature": 2.0}
    weights = []
    for batch, steps in ((14, 1), (7, 2)):
        given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, **options}
        weights.append(trained(tmp_path / str(batch), prepared, train, **given)[1])
    assert_same(weights[1], weights[0], atol=1e-5)


def test_evaluation_counts_clicks_only(prepared, tmp_path):
    splits, _ = prepared
    train, rows = taught(splits["train"].without_text()), splits["validation"].without_text()
    trainer, _ = trained(tmp_path, prepared, train, distill_weight=1.0, num_train_epochs=1)
    plain, with_teacher = trainer.predict(rows), trainer.predict(taught(rows))
    np.testing.assert_array_equal(with_teacher.predictions, plain.predictions)
    logits = torch.from_numpy(plain.predictions[0] if isinstance(plain.predictions, tuple) else plain.predictions)
    expected = click_loss(logits, torch.from_numpy(rows.labels.astype(np.int64))).item()
    assert with_teacher.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.evaluate(taught(rows))["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_a_resumed_run_ends_as_an_uninterrupted_one(prepared, tmp_path):
    train = taught(prepared[0]["train"].without_text())
    options = {"save_strategy": "steps", "save_steps": 5, "load_best_model_at_end": False, "save_total_limit": None}
    _, whole = trained(tmp_path, prepared, train, **options)
    _, resumed = trained(tmp_path, prepared, train, resume=str(tmp_path / "checkpoint-5"), **options)
    assert_same(resumed, whole)


def test_bf16_and_plain_arguments_read_the_column_of_a_dataset(prepared, tmp_path):
    splits, processor = prepared
    rows = taught(splits["train"].without_text())
    (columns,) = rows.__getitems__(range(60))
    names = ("feature_ids", "labels", "teacher_logits")
    dataset = datasets.Dataset.from_dict({**{name: columns[name] for name in names}, "remark": ["x"] * 60})
    losses = {}
    for name, precision in (("bf16", {"bf16": True}), ("plain", {})):
        # plain arguments remove columns that `forward` does not take
        args = TrainingArguments(
            str(tmp_path / name),
            max_steps=1,
            per_device_train_batch_size=60,
            report_to="none",
            use_cpu=True,
            **precision,
        )
        trainer = ClickPromptTrainer(student(processor), args, train_dataset=dataset, processing_class=processor)
        losses[name] = trainer.train().training_loss
    with torch.no_grad():
        logits = student(processor)(torch.from_numpy(columns["feature_ids"])).logits
    expected = distillation_loss(logits, *(torch.from_numpy(columns[name]) for name in names[1:])).item()
    assert losses["plain"] == pytest.approx(expected, rel=1e-5)
    assert losses["bf16"] == pytest.approx(expected, rel=2e-2)


def test_rows_that_a_trainer_cannot_learn_from_are_refused(prepared, tmp_path):
    splits, processor = prepared
    train = taught(splits["train"].without_text())
    args = arguments(tmp_path)
    options = {"train_dataset": train, "processing_class": processor, "eval_dataset": splits["validation"]}
    trainer = ClickPromptTrainer(student(processor), args, compute_loss_func=lambda *args, **kwargs: 0, **options)
    with pytest.raises(ValueError, match="`compute_loss_func` must be None with rows that have `teacher_logits`"):
        trainer.train()
    batch = {"feature_ids": torch.zeros(1, 5, dtype=torch.int64), "teacher_logits": torch.zeros(1)}
    trainer = ClickPromptTrainer(student(processor), args, **options)
    with pytest.raises(ValueError, match="Rows with `teacher_logits` must have `labels`"):
        trainer.compute_loss(trainer.model, batch)
    for name, value, message in (
        ("distill_weight", -0.1, "`distill_weight` must be at least 0, got -0.1"),
        ("distill_temperature", 0, "`distill_temperature` must be above 0, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            arguments(tmp_path, **{name: value})


def test_rows_and_batches_carry_the_logits(prepared):
    splits, processor = prepared
    train = taught(splits["train"])
    whole = train.teacher_logits
    (batch,) = train.__getitems__([3, 60 + 1])
    np.testing.assert_array_equal(batch["teacher_logits"], whole[[3, 1]])
    assert batch["labels"].tolist() == [1, -100]
    np.testing.assert_array_equal(train.slice(10, 20).teacher_logits, whole[10:20])
    joined = ColumnarDataset.concatenate([train.slice(30, 40), train.slice(0, 10)])
    np.testing.assert_array_equal(joined.teacher_logits, np.concatenate([whole[30:40], whole[:10]]))
    assert ColumnarDataset.concatenate([train.slice(30, 40), splits["train"].slice(0, 10)]).teacher_logits is None
    assert "input_ids" not in train.without_text()[0]

    collator = ClickPromptCollator(processor)
    rows = [dict(train[i]) for i in (4, 7)]
    found = collator(rows)["teacher_logits"]
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found, whole[[4, 7]])
    assert "teacher_logits" not in collator([splits["train"][4]])
    for wrong in (float("nan"), [1.0, 2.0], "high"):
        with pytest.raises(ValueError, match="`teacher_logits` must be a finite number per row; row 1 of the batch"):
            collator([rows[0], {**rows[1], "teacher_logits": wrong}])
    with pytest.raises(ValueError, match="`features` must all have `teacher_logits`, but row 1"):
        collator([rows[0], dict(splits["train"][7])])


# the command

SIZES = ["--embedding_size", "4", "--dnn_hidden_sizes", "8", "8", "--num_cross_layers", "2"]
QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "32", "--per_device_eval_batch_size", "64"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    pd.DataFrame(tiny_rows(400)).to_csv(folder / "rows.csv", index=False)
    (folder / "schema.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(tiny_schema().to_dict()))))
    return ["--dataset", "csv", "--data_path", str(folder / "rows.csv"), "--schema", str(folder / "schema.yaml")]


@pytest.fixture(scope="module")
def runs(table, tmp_path_factory):
    """A folder with a PA-MLM run, and a teacher that was finetuned from it on rows sampled at a rate of 0.5."""
    folder = tmp_path_factory.mktemp("runs")
    tokenizer = scratch_tokenizer("scratch-tiny", ["User ID is 1. Price is 2.5. Tags is new, old. Title is Up."] * 50)
    tokenizer.save_pretrained(folder / "plm")
    config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=130)
    RobertaForMaskedLM(config).save_pretrained(folder / "plm")
    plm = ["--plm_name_or_path", str(folder / "plm"), "--prompt_length", "2", "--split_seed", "7"]
    pretrain.main([*table, *plm, *SIZES, *QUICK, "--output_dir", str(folder / "pamlm")])
    options = ["--negative_sampling_rate", "0.5", "--output_dir", str(folder / "teacher")]
    finetune.main(["--model_name_or_path", str(folder / "pamlm"), *table, *QUICK, *options])
    return folder


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that the command makes."""
    made = []

    class Watched(ClickPromptTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(finetune, "ClickPromptTrainer", Watched)
    return made


def logits_of(folder, rows):
    """A finished model's logits of raw rows, one at a time."""
    processor = ClickPromptProcessor.from_pretrained(folder)
    model = ClickPromptForCTR.from_pretrained(folder).eval()
    with torch.no_grad():
        return np.array([model(**processor(row, return_tensors="pt")).logits.item() for row in rows])


@pytest.mark.parametrize("fresh", [True, False])
def test_a_student_learns_from_the_logits_of_its_teacher(fresh, runs, table, tmp_path, trainers):
    # the student's flag for texts must not cut those of the teacher
    start = (
        ["--ctr_only", *SIZES, "--max_text_length", "9"]
        if fresh
        else ["--model_name_or_path", str(runs / "pamlm"), "--without_plm"]
    )
    distill = ["--distill_from", str(runs / "teacher"), "--distill_weight", "0.9", "--distill_temperature", "2"]
    # neither split nor schema are given: they are those of the teacher
    out = tmp_path / "student"
    metrics = finetune.main([*start, *table[:4], *distill, *QUICK, "--output_dir", str(out)])
    assert 0 <= metrics["test_auc"] <= 1

    (trainer,) = trainers
    settings = trainer.settings
    assert (settings.distill_weight, settings.distill_temperature) == (0.9, 2.0)
    splits, _ = load_splits("csv", table[3], table[5], split_seed=7)
    rows = splits["train"].slice(0, 40).to_pylist()
    found = trainer.train_dataset.teacher_logits
    assert isinstance(found, np.memmap)
    assert len(found) == 320
    np.testing.assert_allclose(found[:40], logits_of(runs / "teacher", rows), atol=1e-5)
    assert trainer.train_dataset.tables is None
    assert trainer.eval_dataset.teacher_logits is None

    config, of_teacher = (ClickPromptConfig.from_pretrained(folder) for folder in (out, runs / "teacher"))
    assert not config.use_plm
    assert config.training_data == of_teacher.training_data
    assert config.negative_sampling_rate == 0.5
    assert trainer.processing_class.fingerprint == config.training_data["processor_fingerprint"]
    assert not [*out.glob("*tokenizer*"), *out.glob("checkpoint-*/*tokenizer*")]
    assert not list(out.glob("_teacher_logits*"))
    card = (out / "README.md").read_text()
    assert "| Distilled from | teacher, weight 0.9, temperature 2 |" in card
    assert str(runs) not in card + (out / "config.json").read_text()
    ClickPromptForCTR.from_pretrained(out)


@pytest.fixture(scope="module")
def late(table, runs, tmp_path_factory):
    """A teacher whose lower layer sees the text alone, and rows with free text."""
    folder = tmp_path_factory.mktemp("late")
    fields = (*tiny_schema().fields[:2], FieldSchema("title", "Title", "text"))
    (folder / "schema.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(Schema(fields, "click").to_dict()))))
    data = [*table[:4], "--schema", str(folder / "schema.yaml"), "--text_fields", "title"]
    plm = ["--plm_name_or_path", str(runs / "plm"), "--prompt_length", "2", "--prompt_depth", "1", "--pooling", "cls"]
    finetune.main([*data, *plm, *SIZES, *QUICK, "--output_dir", str(folder / "teacher")])
    return folder


def test_a_teacher_with_late_prompts_reads_cached_states(late, table, tmp_path, monkeypatch, trainers, caplog):
    encoded = []
    encode = ClickPromptForCTR.encode_text

    def counted(self, input_ids, attention_mask):
        encoded.append(len(input_ids))
        return encode(self, input_ids, attention_mask)

    monkeypatch.setattr(ClickPromptForCTR, "encode_text", counted)
    options = ["--ctr_only", *SIZES, *table[:4], "--distill_from", str(late / "teacher"), *QUICK]
    cache = ["--cache_text_states", "--text_state_dir", str(tmp_path / "states"), "--text_fields", "title"]
    finetune.main([*options, *cache, "--output_dir", str(tmp_path / "cached")])
    splits, _ = load_splits("csv", table[3], str(late / "schema.yaml"))
    texts = len({row["title"] for row in splits["train"].to_pylist()})
    # each distinct text once, and never again
    assert sum(encoded) == texts < 320
    finetune.main([*options, *cache, "--output_dir", str(tmp_path / "again")])
    assert sum(encoded) == texts
    assert "has no effect" not in caplog.text
    finetune.main([*options, "--output_dir", str(tmp_path / "plain")])
    cached, again, plain = (trainer.train_dataset.teacher_logits for trainer in trainers)
    assert np.ptp(plain) > 1e-4
    np.testing.assert_allclose(cached, plain, atol=1e-6)
    np.testing.assert_array_equal(again, cached)
    # the student reads no text
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "| price |" in card
    assert "| title |" not in card
    assert '"title"' not in card


def test_cached_states_of_other_lower_layers_are_not_used(prepared, tmp_path):
    splits, processor = prepared
    models = []
    for seed in (0, 1):
        set_seed(seed)
        text = tiny_text_config(vocab_size=len(processor.tokenizer), max_position_embeddings=130)
        ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
        config = ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2, prompt_depth=1)
        models.append(ClickPromptForCTR(config).eval())
    texts = DistinctTexts.of(splits["train"])
    rows = TextStates.build(models[0], [texts], tmp_path, progress_bar=False).attach(texts)
    for model in models:
        np.testing.assert_allclose(click_logits(model, rows), click_logits(model, splits["train"]), atol=1e-6)


def test_an_interrupted_pass_of_the_teacher_continues(runs, table, tmp_path, monkeypatch, trainers):
    monkeypatch.setattr(teacher, "_PIECE_ROWS", 100)
    calls = []

    def counted(model, rows, *args):
        calls.append(int(rows.row_ids[0]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return click_logits(model, rows, *args)

    monkeypatch.setattr(teacher, "click_logits", counted)
    options = ["--ctr_only", *SIZES, *table[:4], "--distill_from", str(runs / "teacher"), *QUICK]
    options += ["--output_dir", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        finetune.main(options)
    (kept,) = tmp_path.glob("_teacher_logits-*")
    assert [path.name for path in sorted(kept.iterdir())] == ["piece-000000.npy", "piece-000001.npy"]
    # those of another teacher, or of other rows
    (tmp_path / "_teacher_logits-0123").mkdir()
    finetune.main(options)
    assert calls == [0, 100, 200, 200, 300]
    assert not list(tmp_path.glob("_teacher_logits-*"))
    splits, _ = load_splits("csv", table[3], table[5], split_seed=7)
    rows = splits["train"].take(list(range(0, 320, 20))).to_pylist()
    found = trainers[0].train_dataset.teacher_logits[::20]
    np.testing.assert_allclose(found, logits_of(runs / "teacher", rows), atol=1e-5)


def test_pieces_belong_to_the_tokens_of_the_rows(prepared):
    """Another spelling of a text field leaves ids and the numbers of clauses as they are."""
    rows = prepared[0]["train"]
    respelled = replace(rows, tables=replace(rows.tables, tokens=rows.tables.tokens + 1))
    assert teacher._digest(rows) == teacher._digest(replace(rows))
    assert teacher._digest(rows) != teacher._digest(respelled)


def changed_copy(folder, copy, **changes):
    """A copy of a checkpoint whose record of the data has other entries."""
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((copy / "config.json").read_text())
    config["training_data"] = {**config["training_data"], **changes} if changes else None
    (copy / "config.json").write_text(json.dumps(config))
    return str(copy)


def test_wrong_teachers_and_students_are_refused(runs, table, tmp_path, caplog):
    out = ["--output_dir", str(tmp_path / "out"), *QUICK]
    pamlm, given = str(runs / "pamlm"), str(runs / "teacher")
    fresh, from_pamlm = ["--ctr_only", *SIZES], ["--model_name_or_path", pamlm, "--without_plm"]

    def refused(message, start, distill_from, *options):
        with pytest.raises((ValueError, OSError), match=message):
            finetune.main([*start, *table[:4], *options, "--distill_from", distill_from, *out])
        assert not (tmp_path / "out").exists()

    refused("--distill_from must be finetuned for clicks, but .*pamlm is a pretraining", fresh, pamlm)
    refused("`--distill_from` must be a local folder or a Hub id", fresh, str(tmp_path / "nowhere"))
    refused("has no record of its training rows", fresh, changed_copy(runs / "teacher", tmp_path / "unrecorded"))
    refused(
        "`--split_seed` must be 7, as in the teacher's training, or left out; got 8. .* that the teacher has seen",
        *(fresh, given, "--split_seed=8"),
    )
    refused("`--text_fields` must be user price tags title, as in the teacher's", fresh, given, "--text_fields=title")
    assert "--text_fields" not in caplog.text
    refused("--negative_sampling_rate` must be 0.5, as in the teacher", fresh, given, "--negative_sampling_rate=0.1")
    refused("`backbone` must be one of|is not registered|'nothing'", ["--ctr_only", "--backbone", "nothing"], given)
    refused("has one: pass --without_plm", from_pamlm[:2], given)
    refused("pass --ctr_only instead of --plm_name_or_path", ["--plm_name_or_path", str(runs / "plm")], given)
    refused("must be left out with --extend_vocabulary", from_pamlm, given, "--extend_vocabulary")
    other = changed_copy(runs / "teacher", tmp_path / "other", split_seed=8, test_rows_sha256="ab")
    refused(
        "other and .*pamlm differ: split_seed .8 instead of 7.; test_rows_sha256 .ab instead of", from_pamlm, other
    )
    # the rows themselves, which only reading them shows
    moved = changed_copy(runs / "teacher", tmp_path / "moved", test_rows_sha256="ab")
    with pytest.raises(
        ValueError,
        match=r"that the teacher was trained on: its test_rows_sha256 is ab, but \w+ in the given data\.$",
    ):
        finetune.main([*fresh, *table[:4], "--distill_from", moved, *out])


def test_a_teacher_of_other_vocabularies_is_refused(runs, table, tmp_path):
    options = ["--ctr_only", *SIZES, "--split_seed", "7", "--min_count", "50", *table, *QUICK]
    finetune.main([*options, "--output_dir", str(tmp_path / "coarse")])
    start = ["--model_name_or_path", str(runs / "pamlm"), "--without_plm", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"min_count \(50 instead of 1\).*vocabularies \(fingerprint "):
        finetune.main([*start, *table[:4], "--distill_from", str(tmp_path / "coarse"), *QUICK])


def test_a_teacher_without_a_plm_teaches_with_a_warning(table, tmp_path, monkeypatch, trainers):
    warnings = []
    monkeypatch.setattr("clickprompt_hf.runs.teacher.logger.warning", warnings.append)
    finetune.main([*table, "--ctr_only", *SIZES, *QUICK, "--output_dir", str(tmp_path / "big")])
    options = ["--ctr_only", "--backbone", "lr", *table[:4], "--distill_from", str(tmp_path / "big"), *QUICK]
    finetune.main([*options, "--output_dir", str(tmp_path / "small")])
    assert warnings == [f"--distill_from {tmp_path}/big has no PLM: the student learns from a CTR model only."]
    splits, _ = load_splits("csv", table[3], table[5])
    expected = logits_of(tmp_path / "big", splits["train"].slice(0, 20).to_pylist())
    np.testing.assert_allclose(trainers[1].train_dataset.teacher_logits[:20], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "with_teacher", "warning"),
    [
        (["--distill_temperature", "2"], False, "--distill_temperature 2.0 has no effect: it needs --distill_from."),
        (["--distill_weight", "0.2"], False, "--distill_weight 0.2 has no effect: it needs --distill_from."),
        (["--distill_temperature", "2", "--distill_weight", "0"], True, "it needs a --distill_weight above 0."),
        (["--max_text_length", "9"], True, "--max_text_length 9 has no effect: it needs a run with the PLM."),
        (["--distill_temperature", "2", "--distill_weight", "0.3"], True, None),
    ],
)
def test_arguments_without_a_teacher_trigger_a_warning(options, with_teacher, warning, monkeypatch):
    warnings = []
    monkeypatch.setattr("clickprompt_hf.runs.idle_arguments.logger.warning", warnings.append)
    _, model, _, data, _, training = finetune.make_parser().parse([*options, "--output_dir", "nowhere", "--ctr_only"])
    config = ClickPromptConfig(ctr_config=tiny_ctr_config(), fusion="ctr", training_data={"dataset": "csv"})
    finetune.warn_of_idle_arguments(model, data, training, teacher=config if with_teacher else None)
    assert [line for line in warnings if warning is not None and warning in line] == warnings
    assert bool(warnings) == (warning is not None)


def test_logits_that_are_not_finite_are_refused(prepared):
    splits, processor = prepared
    model = student(processor)
    with torch.no_grad():
        model.ctr_head.output.bias.fill_(float("inf"))
    with pytest.raises(ValueError, match="The logits of ClickPromptForCTR must be finite"):
        click_logits(model, splits["train"].without_text())


def test_nothing_of_the_teacher_is_published(tmp_path):
    # `Trainer` uploads no file whose name begins with an underscore
    assert teacher._PREFIX.startswith("_")
    assert Path(teacher._PREFIX).name == teacher._PREFIX
