"""The trainer: learning rates per parameter, metrics, resuming, accumulation, threads, and plain `Trainer`."""

import threading
import time
import warnings
from contextlib import nullcontext
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from sklearn.metrics import log_loss, roc_auc_score
from tiny_data import prepare_tiny_splits, tiny_roberta_tokenizer, tiny_schema, tiny_splits
from tiny_models import tiny_ctr_config, tiny_text_config
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments, set_seed

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptForPAMLM, ClickPromptProcessor
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared
from clickprompt_hf.evaluation.metrics import ClickMetric, MaskedTokenMetric, click_metrics
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training import trainer as trainer_module
from clickprompt_hf.training.optimizer import clip_grad_norm, plm_parameters
from clickprompt_hf.training.sampling import EpochSampler


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    _, processor = prepare_tiny_splits(folder)
    return load_prepared(folder)[0], processor


def build(model_class, processor, dropout=0.1, **options):
    set_seed(0)
    text = tiny_text_config(
        vocab_size=len(processor.tokenizer),
        max_position_embeddings=80,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    return model_class(ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2, **options))


def arguments(folder, **options):
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "report_to": "none",
        "disable_tqdm": True,
        **options,
    }
    return ClickPromptTrainingArguments(**options)


def trainer_for(model, prepared, args, **options):
    splits, processor = prepared
    is_pamlm = isinstance(model, ClickPromptForPAMLM)
    collator = ClickPromptMLMCollator(processor, seed=args.seed) if is_pamlm else ClickPromptCollator(processor)
    # copies, as a dataset keeps its epoch
    train, validation = (ColumnarDataset.concatenate([splits[name]]) for name in ("train", "validation"))
    return ClickPromptTrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collator,
        processing_class=processor,
        **options,
    )


class AtFirstStep(TrainerCallback):
    """Looks at a model while it trains."""

    def __init__(self, look):
        self.look = look

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.value = self.look(model)


def parameters(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM])
@pytest.mark.parametrize(("plm_lr", "lr"), [(0.0, 1e-2), (1e-2, 0.0)])
def test_each_learning_rate_moves_its_parameters_only(model_class, plm_lr, lr, prepared, tmp_path):
    model = build(model_class, prepared[1])
    before, in_plm = parameters(model), plm_parameters(model)
    args = arguments(tmp_path, plm_learning_rate=plm_lr, learning_rate=lr, num_train_epochs=1, weight_decay=0.1)
    trainer_for(model, prepared, args).train()
    for name, parameter in parameters(model).items():
        moved = not torch.equal(parameter, before[name])
        assert moved == bool(plm_lr if name in in_plm else lr), name
    assert any("embeddings.word_embeddings" in name for name in in_plm)
    assert any("lm_head" in name for name in in_plm) == (model_class is ClickPromptForPAMLM)
    assert not any("ctr" in name or "prompt_encoder" in name or "text_head" in name for name in in_plm)


@pytest.mark.parametrize("part", ["plm", "ctr", "prompt_encoder"])
def test_frozen_parts_do_not_move(part, prepared, tmp_path):
    model = build(ClickPromptForPAMLM, prepared[1])
    before = parameters(model)
    trainer_for(model, prepared, arguments(tmp_path, freeze=[part], num_train_epochs=1)).train()
    for name, parameter in parameters(model).items():
        frozen = f".{part}." in name or (part == "plm" and name.startswith("lm_head."))
        assert torch.equal(parameter, before[name]) == frozen, name


def test_a_frozen_model_is_refused(prepared, tmp_path):
    args = arguments(tmp_path, freeze=["plm", "ctr", "prompt_encoder"])
    with pytest.raises(ValueError, match="`freeze` must leave something to train"):
        trainer_for(build(ClickPromptForPAMLM, prepared[1]), prepared, args)
    with pytest.raises(ValueError, match=r"`freeze` must name some of .* got \['head'\]"):
        arguments(tmp_path, freeze=["head"])


def test_no_bias_decays(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1], prompt_encoder="paper")
    optimizer = trainer_for(model, prepared, arguments(tmp_path, weight_decay=0.1)).create_optimizer()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert decay[id(parameter)] == 0, name


def test_groups_of_learning_rate_and_weight_decay(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1], fusion="weighted")
    args = arguments(tmp_path, plm_learning_rate=1e-4, learning_rate=1e-2, weight_decay=0.1)
    optimizer = trainer_for(model, prepared, args).create_optimizer()
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    expected = {
        "clickprompt.plm.encoder.layer.0.attention.self.query.weight": (1e-4, 0.1),
        "clickprompt.plm.encoder.layer.0.attention.self.query.bias": (1e-4, 0.0),
        "clickprompt.plm.encoder.layer.1.output.LayerNorm.weight": (1e-4, 0.0),
        "clickprompt.plm.embeddings.word_embeddings.weight": (1e-4, 0.0),
        "clickprompt.plm.embeddings.position_embeddings.weight": (1e-4, 0.0),
        "clickprompt.ctr.embedding.table.weight": (1e-2, 0.0),
        "clickprompt.ctr.cross_net.layers.0.weight": (1e-2, 0.1),
        "clickprompt.ctr.cross_net.layers.0.bias": (1e-2, 0.0),
        "clickprompt.prompt_encoder.expansion.weight": (1e-2, 0.1),
        "text_head.dense.weight": (1e-2, 0.1),
        "ctr_head.output.bias": (1e-2, 0.0),
        "fusion.alpha": (1e-2, 0.0),
    }
    named = dict(model.named_parameters())
    assert {name: rates[id(named[name])] for name in expected} == expected
    assert len(rates) == len(named)
    assert all(len(group["params"]) for group in optimizer.param_groups)


def test_lazy_updates_touch_the_rows_of_the_batch_and_no_others(prepared, tmp_path):
    """The first step equals that of dense Adam; later steps move only the rows that their batch reads."""
    options = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no", "max_grad_norm": 0.05}
    # `SparseAdam` adds epsilon at another point, which would show for tiny gradients
    options["adam_epsilon"] = 1e-14
    weights = []
    for sparse in (False, True):
        model = build(ClickPromptForCTR, prepared[1], dropout=0.0)
        args = arguments(tmp_path, sparse_embedding_updates=sparse, **options)
        trainer_for(model, prepared, args).train()
        weights.append(parameters(model))
    # the same gradients, norm and first step of 1e-3
    for name, weight in weights[0].items():
        tolerance = 5e-5 if name.endswith("table.weight") else 1e-6
        torch.testing.assert_close(weights[1][name], weight, atol=tolerance, rtol=0)

    model = build(ClickPromptForCTR, prepared[1], dropout=0.0)
    before, seen = parameters(model), []
    table = model.clickprompt.ctr.embedding
    table.register_forward_pre_hook(lambda module, args: seen.append(args[0] + module.column_offsets))
    args = arguments(tmp_path, sparse_embedding_updates=True, **{**options, "max_steps": 2, "max_grad_norm": 0.0})
    trainer_for(model, prepared, args).train()
    first, second = (set(ids.flatten().tolist()) for ids in seen)
    moved = (model.clickprompt.ctr.embedding.table.weight != before["clickprompt.ctr.embedding.table.weight"]).any(1)
    assert set(moved.nonzero().flatten().tolist()) <= first | second
    assert moved.sum() > 5


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "sdpa"), ({"bf16": True}, "eager"), ({"attn_implementation": "eager"}, "eager")]
)
def test_attention_kernels(options, expected, prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    seen = AtFirstStep(lambda model: model.trunk.plm.config._attn_implementation)
    args = arguments(tmp_path, max_steps=1, save_strategy="no", eval_strategy="no", **options)
    trainer = trainer_for(model, prepared, args, callbacks=[seen])
    trainer.train()
    if trainer.args.device.type == "cpu":
        assert seen.value == expected
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    assert "attn_implementation" not in (saved / "config.json").read_text()


def test_clipping_of_dense_gradients_is_that_of_torch():
    gradients = torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for limit in (13.0, 13.1, 1.3):
        for clip in (clip_grad_norm, torch.nn.utils.clip_grad_norm_):
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient.clone()
            assert clip(parameters, limit).item() == 13
            scale = min(1.0, limit / 13)
            torch.testing.assert_close(parameters[0].grad, gradients[0] * scale, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(parameters[1].grad, gradients[1] * scale, atol=1e-6, rtol=1e-6)


def test_sparse_norms_are_those_of_dense_gradients():
    table, ids = torch.nn.Embedding(6, 3, sparse=True), torch.tensor([1, 1, 4])
    other = torch.nn.Parameter(torch.ones(2))
    (table(ids).square().sum() + other.sum()).backward()
    dense = table.weight.grad.to_dense()
    expected = torch.cat([dense.flatten(), other.grad]).norm()
    torch.testing.assert_close(clip_grad_norm([table.weight, other, torch.nn.Parameter(torch.ones(1))], 1.0), expected)
    torch.testing.assert_close(table.weight.grad.to_dense(), dense / (expected + 1e-6))
    torch.testing.assert_close(other.grad, torch.ones(2) / (expected + 1e-6))


class StopAt(TrainerCallback):
    """Interrupts a run after it has saved the checkpoint of a step."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM])
def test_a_resumed_run_ends_with_the_same_weights(model_class, sparse, prepared, tmp_path):
    """Order, dropout and masks continue after an interruption within an epoch."""

    options = {"save_strategy": "steps", "save_steps": 11, "eval_strategy": "no", "num_train_epochs": 3}
    options["sparse_embedding_updates"] = sparse
    whole = build(model_class, prepared[1])
    trainer_for(whole, prepared, arguments(tmp_path / "whole", **options)).train()

    cut = build(model_class, prepared[1])
    trainer_for(cut, prepared, arguments(tmp_path / "cut", **options), callbacks=[StopAt(11)]).train()
    resumed = build(model_class, prepared[1])
    trainer = trainer_for(resumed, prepared, arguments(tmp_path / "cut", **options))
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 24
    expected = parameters(whole)
    assert not torch.equal(
        parameters(cut)["clickprompt.ctr.embedding.table.weight"], expected["clickprompt.ctr.embedding.table.weight"]
    )
    for name, parameter in parameters(resumed).items():
        torch.testing.assert_close(parameter, expected[name], atol=0, rtol=0)


@pytest.mark.parametrize("patience", [2, 3])
def test_a_resumed_run_stops_as_early(patience, prepared, tmp_path):
    """Evaluations without improvement before the interruption count towards the resumed run's patience."""
    aucs = [0.6, 0.8, 0.7, 0.75, 0.78, 0.9]

    def run(folder, evaluated=0, resume=None, callbacks=(), **options):
        model, scripted = build(ClickPromptForCTR, prepared[1]), iter(aucs[evaluated:])
        args = arguments(tmp_path / folder, num_train_epochs=6, **options)
        trainer = trainer_for(
            model, prepared, args, compute_metrics=lambda _: {"auc": next(scripted)}, callbacks=list(callbacks)
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = run("whole", early_stopping_patience=patience)
    run("cut", callbacks=[StopAt(24)])
    resumed = run("cut", evaluated=3, resume=True, early_stopping_patience=patience)
    # eight steps per epoch; the second epoch is the best
    assert resumed.state.global_step == whole.state.global_step == 8 * (2 + patience)
    assert resumed.state.best_metric == whole.state.best_metric == 0.8
    expected = parameters(whole.model)
    for name, parameter in parameters(resumed.model).items():
        torch.testing.assert_close(parameter, expected[name], atol=0, rtol=0)


@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM])
def test_accumulation_gives_the_gradients_of_the_large_batch(model_class, prepared, tmp_path):
    ends = []
    for batch_size, steps in ((20, 1), (5, 4)):
        model = build(model_class, prepared[1], dropout=0.0)
        args = arguments(
            tmp_path / str(steps),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            learning_rate=0.1,
            plm_learning_rate=0.1,
            max_grad_norm=0.0,
        )
        trainer_for(model, prepared, args).train()
        ends.append(parameters(model))
    for name, parameter in ends[0].items():
        torch.testing.assert_close(parameter, ends[1][name], atol=1e-6, rtol=1e-5)


def test_click_evaluation_reports_auc_and_log_loss(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1]).eval()
    trainer = trainer_for(model, prepared, arguments(tmp_path, per_device_eval_batch_size=7))
    metrics = trainer.evaluate()
    (batch,) = prepared[0]["validation"].__getitems__(list(range(20)))
    inputs = trainer.data_collator([batch])
    labels = inputs.pop("labels").numpy()
    with torch.no_grad():
        probabilities = model(**inputs).logits.sigmoid().squeeze(-1).double().numpy()
    assert metrics["eval_auc"] == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-6)
    assert metrics["eval_log_loss"] == pytest.approx(log_loss(labels, probabilities), abs=1e-5)
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_log_loss"], abs=1e-5)


def test_pamlm_evaluation_gathers_counts_only(prepared, tmp_path):
    model = build(ClickPromptForPAMLM, prepared[1]).eval()
    trainer = trainer_for(model, prepared, arguments(tmp_path, per_device_eval_batch_size=7))
    output = trainer.predict(trainer.eval_dataset)
    correct, count = output.predictions
    assert correct.shape == count.shape == output.label_ids.shape == (20,)
    assert output.metrics["test_masked_accuracy"] == correct.sum() / count.sum()
    assert output.metrics["test_loss"] == pytest.approx(np.log(len(prepared[1].tokenizer)), rel=0.3)


def test_early_stopping_and_the_best_checkpoint(prepared, tmp_path, monkeypatch):
    aucs = iter([0.6, 0.8, 0.7, 0.75, 0.9, 0.9])
    weights = []

    def compute(prediction):
        weights.append(trainer.model.ctr_head.output.bias.item())
        return {"auc": next(aucs)}

    model = build(ClickPromptForCTR, prepared[1])
    trainer = trainer_for(model, prepared, arguments(tmp_path, num_train_epochs=6), compute_metrics=compute)
    trainer.train()
    assert trainer.state.epoch == 4
    assert trainer.state.best_metric == 0.8
    assert model.ctr_head.output.bias.item() == weights[1] != weights[3]


def test_without_rows_to_evaluate_on_the_defaults_do_not_evaluate(prepared, tmp_path, monkeypatch):
    splits, processor = prepared
    said = []
    monkeypatch.setattr(trainer_module.logger, "warning", said.append)
    args = ClickPromptTrainingArguments(str(tmp_path), report_to="none", disable_tqdm=True)
    trainer = ClickPromptTrainer(build(ClickPromptForCTR, processor), args, processing_class=processor)
    assert trainer.predict(splits["test"]).predictions.shape == (len(splits["test"]), 1)
    assert said == []
    args = arguments(tmp_path, max_steps=2, per_device_train_batch_size=None)
    model = build(ClickPromptForCTR, processor)
    trainer = ClickPromptTrainer(model, args, train_dataset=splits["train"], processing_class=processor)
    trainer.train()
    assert trainer.state.global_step == 2
    assert not [logged for logged in trainer.state.log_history if "eval_auc" in logged]
    assert said[0] == "Without an `eval_dataset`, training does not evaluate, and keeps the last weights."
    # the caller's arguments stay as they were
    assert (args.eval_strategy, args.load_best_model_at_end, args.early_stopping_patience) == ("epoch", True, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"eval_strategy": "steps", "save_strategy": "steps"},
        {"early_stopping_patience": 3},
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        {"save_strategy": "best"},
        {"metric_for_best_model": "log_loss"},
    ],
)
def test_arguments_that_need_rows_to_evaluate_on_ask_for_them(options, prepared, tmp_path):
    splits, processor = prepared
    model = build(ClickPromptForCTR, processor)
    with pytest.raises(ValueError, match="pass an `eval_dataset`"):
        ClickPromptTrainer(model, arguments(tmp_path, **options), train_dataset=splits["train"])


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_a_trainer_without_a_processor_says_what_it_needs(with_tokenizer, prepared, tmp_path):
    splits, processor = prepared
    given = {"processing_class": processor.tokenizer} if with_tokenizer else {}
    trainer = ClickPromptTrainer(build(ClickPromptForCTR, processor), arguments(tmp_path), **given)
    message = "`processing_class` must be the ClickPromptProcessor that encoded the rows, or `data_collator` be given"
    with pytest.raises(ValueError, match=message):
        trainer.predict(splits["test"])
    mapped = datasets.Dataset(tiny_splits()["test"]).map(processor, batched=True)
    mapped = mapped.select_columns(["feature_ids", "input_ids", "attention_mask", "labels"])
    if with_tokenizer:
        # which pads the texts
        assert len(trainer.predict(mapped).predictions) == len(mapped)
    else:
        with pytest.raises(ValueError, match=message + r".*: expected sequence of length"):
            trainer.predict(mapped)


def test_training_throughput_is_that_of_the_steps_alone(prepared, tmp_path, monkeypatch):
    """With a clock that advances only in steps, evaluation, saving and loading."""
    now = [0.0]

    class Step(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            now[0] += 0.5

    for name, seconds in (("evaluate", 10), ("_save_checkpoint", 20), ("_load_best_model", 400)):
        original = getattr(Trainer, name)

        def slow(self, *args, original=original, seconds=seconds, **kwargs):
            now[0] += seconds
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, name, slow)
    trainer = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, arguments(tmp_path), callbacks=[Step()])
    for clock in ("time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now[0])
    metrics = trainer.train().metrics
    # two epochs of 60 rows in 8 steps; `Trainer` loads the best checkpoint after it has taken the time
    assert metrics["train_runtime"] == 16 * 0.5 + 2 * (10 + 20)
    assert metrics["train_samples_per_second"] == pytest.approx(120 / 8, rel=1e-2)
    assert metrics["train_steps_per_second"] == pytest.approx(16 / 8, rel=1e-2)
    (logged,) = [entry for entry in trainer.state.log_history if "train_runtime" in entry]
    assert {name: logged[name] for name in metrics} == metrics
    trainer.log(metrics)
    assert {name: logged[name] for name in metrics} == metrics


def test_plain_trainer_with_mapped_rows(tmp_path):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tiny_roberta_tokenizer())
    encoded = {name: datasets.Dataset(table).map(processor, batched=True) for name, table in splits.items()}
    for model_class, collator, metrics in (
        (ClickPromptForCTR, ClickPromptCollator(processor), click_metrics),
        (ClickPromptForPAMLM, ClickPromptMLMCollator(processor), None),
    ):
        model = build(model_class, processor)
        args = TrainingArguments(str(tmp_path), num_train_epochs=2, report_to="none", use_cpu=True, disable_tqdm=True)
        trainer = Trainer(
            model,
            args,
            train_dataset=encoded["train"],
            eval_dataset=encoded["validation"],
            data_collator=collator,
            compute_metrics=metrics,
            processing_class=processor,
        )
        before = trainer.evaluate()
        trainer.train()
        assert trainer.evaluate()["eval_loss"] != before["eval_loss"]
        assert ("eval_auc" in before) == (model_class is ClickPromptForCTR)
        trainer.save_model()
        assert ClickPromptProcessor.from_pretrained(tmp_path).fingerprint == processor.fingerprint


@pytest.mark.parametrize("model_class", [ClickPromptForCTR, ClickPromptForPAMLM])
def test_a_plain_trainer_says_that_it_does_not_smooth_labels(model_class, prepared, tmp_path):
    processor = prepared[1]
    collator = (ClickPromptCollator if model_class is ClickPromptForCTR else ClickPromptMLMCollator)(processor)
    rows = datasets.Dataset(tiny_splits()["validation"]).map(processor, batched=True)
    model, losses = build(model_class, processor, dropout=0.0), []
    for factor in (0.0, 0.1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            args = TrainingArguments(str(tmp_path), label_smoothing_factor=factor, report_to="none", disable_tqdm=True)
            trainer = Trainer(model, args, eval_dataset=rows, data_collator=collator)
        assert sum("Label smoothing is not compatible" in str(entry.message) for entry in caught) == bool(factor)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == losses[1]


def test_trainers_in_two_threads_train_as_alone(prepared, tmp_path):
    """Without dropout, which draws from torch's global generator.

    Trainers are built one after another: arguments reset the state that all of accelerate shares.
    """

    def trainer(model, name, learning_rate):
        options = {"learning_rate": learning_rate, "eval_strategy": "no", "save_strategy": "no"}
        return trainer_for(model, prepared, arguments(tmp_path / name, **options))

    runs = {"first": 1e-2, "second": 1e-3}
    alone, together = ({name: build(ClickPromptForCTR, prepared[1], dropout=0.0) for name in runs} for _ in range(2))
    for name, learning_rate in runs.items():
        trainer(alone[name], name, learning_rate).train()
    dropout = torch.nn.functional.dropout
    trainers = [trainer(together[name], name, rate) for name, rate in runs.items()]
    threads = [threading.Thread(target=of_thread.train) for of_thread in trainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in runs:
        expected = parameters(alone[name])
        for weight, value in parameters(together[name]).items():
            torch.testing.assert_close(value, expected[weight], atol=1e-6, rtol=1e-5)
    assert torch.nn.functional.dropout is dropout


def test_order_is_a_function_of_seed_and_epoch():
    sampler = EpochSampler(10, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(10))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(10, seed=4)) != first
    filled = EpochSampler(10, seed=3, multiple_of=8)
    assert list(filled) == [*first, *range(10, 16)]
    assert len(filled) == 16


def test_rows_of_one_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(5, 30, size=1003)
    sampler = EpochSampler(1003, seed=3, lengths=lengths, batch_size=4)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    assert order == list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != order
    batches = lengths[np.asarray(order)[:1000]].reshape(-1, 4)
    # with 200 rows sorted together and 25 lengths, rows of a batch rarely differ by more than one
    assert np.ptp(batches, axis=1).mean() < 1
    # the batches are not ordered by length
    assert abs(np.corrcoef(batches[:, 0], np.arange(250))[0, 1]) < 0.2
    # the rows of a short last batch stay last
    filled = list(EpochSampler(1003, seed=3, multiple_of=8, lengths=lengths, batch_size=4))
    assert filled == [*order, *range(1003, 1008)]


def test_grouping_by_length_keeps_the_order_of_predictions(prepared, tmp_path):
    splits, processor = prepared
    model = build(ClickPromptForCTR, processor)
    scores, spreads = [], []
    for strategy in ("random", "group_by_length"):
        trainer = ClickPromptTrainer(
            model,
            arguments(tmp_path, train_sampling_strategy=strategy, eval_strategy="no"),
            train_dataset=splits["train"],
            data_collator=ClickPromptCollator(processor),
            processing_class=processor,
        )
        scores.append(trainer.predict(splits["test"]).predictions)
        lengths = [batch["attention_mask"].sum(dim=1) for batch in trainer.get_train_dataloader()]
        spreads.append(sum(int(of_batch.max() - of_batch.min()) for of_batch in lengths))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert spreads[1] < spreads[0] / 2
    with pytest.raises(ValueError, match="`train_sampling_strategy` must be 'random' for rows without text"):
        trainer._get_train_sampler(replace(splits["train"], tables=None))


def test_metrics_by_hand():
    # pairs (click, no click): 0.9 > 0.4, 0.9 > 0.2, 0.3 < 0.4, 0.3 > 0.2: 3 of 4
    scores, clicks = [0.9, 0.4, 0.3, 0.2], [1, 0, 1, 0]
    metrics = ClickMetric().compute(predictions=scores, references=clicks)
    expected = -np.mean(np.log([0.9, 0.6, 0.3, 0.8]))
    assert metrics == {"auc": 0.75, "log_loss": pytest.approx(expected)}
    assert np.isnan(ClickMetric().compute(predictions=[0.5], references=[1])["auc"])
    assert MaskedTokenMetric().compute(predictions=[1, 2], references=[2, 4]) == {"masked_accuracy": 0.5}
    extreme = click_metrics(EvalPrediction(np.array([[800.0], [-800.0]]), np.array([1, 0])))
    assert extreme == {"auc": 1.0, "log_loss": pytest.approx(0, abs=1e-9)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plm_learning_rate": -1.0}, "`plm_learning_rate` must be at least 0, got -1.0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"data_seed": -1}, "`data_seed` must be at least 0, got -1"),
        ({"early_stopping_patience": -1}, "`early_stopping_patience` must be at least 0"),
        ({"dataloader_persistent_workers": True, "dataloader_num_workers": 1}, "`dataloader_persistent_workers`"),
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0: .* got 0.1"),
        ({"label_names": ["click"]}, r"`label_names` must be \['labels'\]"),
        ({"use_liger_kernel": True}, "`use_liger_kernel` must be False"),
        ({"train_sampling_strategy": "batch_rebalance"}, "`train_sampling_strategy` must be 'random' or.*'batch_re"),
        ({"train_sampling_strategy": "sequential"}, "`train_sampling_strategy` must be .* got 'sequential'"),
    ],
)
def test_impossible_arguments_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **options)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", None), ("a/path", "a/path")])
def test_resume_from_checkpoint_on_the_command_line(text, value, tmp_path):
    assert arguments(tmp_path, resume_from_checkpoint=text).resume_from_checkpoint == value


def test_tensorboard_is_needed_only_if_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("clickprompt_hf.training.arguments.is_tensorboard_available", lambda: False)
    assert ClickPromptTrainingArguments(str(tmp_path)).report_to == []
    for report_to in ("tensorboard", ["tensorboard"]):
        with pytest.raises(ImportError, match=r'`report_to` .* pip install "clickprompt_hf\[tensorboard\]"'):
            arguments(tmp_path, report_to=report_to)


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_both_names_of_activation_checkpointing(name, prepared, tmp_path):
    deprecated = name == "gradient_checkpointing"
    with pytest.warns(FutureWarning, match="`gradient_checkpointing` is deprecated") if deprecated else nullcontext():
        args = arguments(tmp_path, **{name: True}, max_steps=1, eval_strategy="no", save_strategy="no")
    seen = AtFirstStep(lambda model: model.is_activation_checkpointing)
    trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args, callbacks=[seen]).train()
    assert seen.value


def test_pretraining_leaves_its_arguments_as_they_were(prepared, tmp_path):
    args = arguments(tmp_path)
    trainer = trainer_for(build(ClickPromptForPAMLM, prepared[1]), prepared, args)
    assert (args.metric_for_best_model, args.greater_is_better) == ("auc", True)
    assert (trainer.args.metric_for_best_model, trainer.args.greater_is_better) == ("loss", False)


def test_a_constant_rate_warms_up_if_asked(tmp_path):
    assert arguments(tmp_path, warmup_steps=0.1).lr_scheduler_type == "constant_with_warmup"
    assert arguments(tmp_path).lr_scheduler_type == "constant"


def test_pamlm_with_adapters_is_evaluated_as_pamlm(prepared, tmp_path):
    trained = ["ctr", "prompt_encoder"]
    model = get_peft_model(
        build(ClickPromptForPAMLM, prepared[1]), LoraConfig(target_modules=["query"], modules_to_save=trained)
    )
    splits, processor = prepared
    trainer = ClickPromptTrainer(
        model,
        arguments(tmp_path),
        eval_dataset=splits["validation"],
        data_collator=ClickPromptMLMCollator(processor),
        processing_class=processor,
    )
    assert 0 <= trainer.evaluate()["eval_masked_accuracy"] <= 1
