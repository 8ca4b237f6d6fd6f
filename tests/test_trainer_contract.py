"""What users of `Trainer` rely on: every optimizer, evaluation option and kind of model works or is refused before
training, and a trainer leaves the caller's model and arguments as they were.
"""

import copy
import dataclasses
import importlib.metadata
import importlib.util
import sys
import types

import datasets
import numpy as np
import pytest
import torch
import transformers.trainer_optimizer
from peft import LoraConfig, get_peft_model
from tiny_data import (
    prepare_tiny_splits,
    rows_of_lengths,
    tiny_gpt2_tokenizer,
    tiny_schema,
    tiny_splits,
)
from tiny_models import tiny_ctr_config, tiny_text_config
from torch.nn import functional as F
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.training_args import OptimizerNames

from clickprompt_hf import (
    ClickPromptConfig,
    ClickPromptForCTR,
    ClickPromptForPACLM,
    ClickPromptForPAMLM,
    ClickPromptProcessor,
)
from clickprompt_hf.data.collators import ClickPromptCollator, ClickPromptMLMCollator
from clickprompt_hf.data.columnar import ColumnarDataset, load_prepared, prepare_splits
from clickprompt_hf.training import ClickPromptTrainer, ClickPromptTrainingArguments
from clickprompt_hf.training.arguments import REFUSED_OPTIMIZERS
from clickprompt_hf.training.optimizer import plm_parameters

TASKS = [ClickPromptForCTR, ClickPromptForPAMLM]
LORA = LoraConfig(target_modules=["query"], modules_to_save=["ctr", "prompt_encoder"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    _, processor = prepare_tiny_splits(folder)
    return load_prepared(folder)[0], processor


def build(model_class, processor, dropout=0.1, **options):
    set_seed(0)
    probabilities = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    vocab_size = len(processor.tokenizer)
    text = tiny_text_config(vocab_size=vocab_size, max_position_embeddings=80, **probabilities)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    return model_class(ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2, **options))


COMMON = {"per_device_train_batch_size": 8, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
SHORT = {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no"}


def arguments(folder, **options):
    return ClickPromptTrainingArguments(str(folder), **{**COMMON, **options})


def trainer_for(model, prepared, args, **options):
    splits, processor = prepared
    rows = {"train_dataset": splits["train"], "eval_dataset": splits["validation"]}
    return ClickPromptTrainer(model, args, processing_class=processor, **{**rows, **options})


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_equal_weights(model, expected, **tolerance):
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name, **(tolerance or {"atol": 0, "rtol": 0}))


def numbers(metrics):
    """The metrics without times."""
    return {name: value for name, value in metrics.items() if not name.endswith(("_time", "runtime", "second"))}


class AtStep(TrainerCallback):
    """Calls a function with the model at the first step."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            self.seen.append(self.look(model))


class Fail(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


class Recording(torch.optim.Optimizer):
    """Stands for the optimizers of packages that are not installed."""

    def __init__(self, params, **options):
        self.options = options
        super().__init__(params, {"lr": options["lr"]})

    def step(self, closure=None):
        pass

    @classmethod
    def get_instance(cls):
        raise AssertionError("bitsandbytes' manager is for its own classes")


class AnyClass(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Recording


# prefixes of names, the module with the optimizer, and the check that transformers makes before it is imported
PACKAGES = {
    ("galore_",): ("galore_torch", "is_galore_torch_available"),
    ("apollo_",): ("apollo_torch", "is_apollo_torch_available"),
    ("schedule_free_",): ("schedulefree", "is_schedulefree_available"),
    ("stable_adamw",): ("optimi", "is_torch_optimi_available"),
    ("grokadamw",): ("grokadamw", "is_grokadamw_available"),
    ("adamw_torch_4bit", "adamw_torch_8bit"): ("torchao.optim", "is_torchao_available"),
    ("adamw_torch_xla",): ("torch_xla.amp.syncfree", None),
    ("adamw_torch_npu_fused",): ("torch_npu.optim", None),
    ("adamw_anyprecision",): ("torchdistx.optimizers", None),
    ("adamw_bnb", "adamw_8bit", "ademamix", "lion", "paged_", "rmsprop_bnb"): (
        "bitsandbytes.optim",
        "is_bitsandbytes_available",
    ),
}


def package_of(name):
    return next((package for prefixes, package in PACKAGES.items() if name.startswith(prefixes)), (None, None))


def install_stub(monkeypatch, module, check):
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), AnyClass(".".join(parts[:end])))
    if check is not None:
        monkeypatch.setattr(transformers.trainer_optimizer, check, lambda *version: True)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0" if name == "torchao" else version(name))


def decays(name, model):
    parameter = dict(model.named_parameters())[name]
    return parameter.dim() > 1 and not name.endswith("bias") and "embedding" not in name


LOW_RANK = {"optim_target_modules": ["query", "expansion"], "optim_args": "rank=2"}


@pytest.mark.parametrize("name", [name.value for name in OptimizerNames])
def test_every_optimizer_gets_both_rates_and_the_decay_or_is_refused(name, prepared, tmp_path, monkeypatch):
    rates = {"learning_rate": 1e-2, "plm_learning_rate": 1e-4, "weight_decay": 0.1, "freeze": ["prompt_encoder"]}
    low_rank = name.startswith(("galore", "apollo"))
    options = {**rates, **SHORT, "optim": name, **(LOW_RANK if low_rank else {})}
    if OptimizerNames(name) in REFUSED_OPTIMIZERS:
        with pytest.raises(ValueError, match=f"`optim` must be .* parameter groups, got '{name}': it updates weights"):
            arguments(tmp_path, **options)
        plain = TrainingArguments(str(tmp_path), optim=name, **COMMON)
        with pytest.raises(ValueError, match=f"got '{name}'"):
            trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, plain)
        return
    module, check = package_of(name)
    if module is not None:
        install_stub(monkeypatch, module, check)
    model = build(ClickPromptForCTR, prepared[1])
    trainer = trainer_for(model, prepared, arguments(tmp_path, **options))
    if module is None:
        trainer.train()
        optimizer = trainer.optimizer.optimizer
        assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    else:
        optimizer = trainer.create_optimizer()
        assert type(optimizer) is Recording
        assert optimizer.options["lr"] == 1e-2
    assert isinstance(optimizer, torch.optim.Optimizer)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    in_plm = plm_parameters(model)
    trained = {name: p for name, p in model.named_parameters() if ".prompt_encoder." not in name}
    assert len(groups) == sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)
    for parameter_name, parameter in trained.items():
        group = groups[id(parameter)]
        assert group["lr"] == (1e-4 if parameter_name in in_plm else 1e-2), parameter_name
        assert group["weight_decay"] == (0.1 if decays(parameter_name, model) else 0.0), parameter_name
        assert group.get("rank") == (2 if low_rank and parameter_name.endswith("query.weight") else None)


@pytest.mark.parametrize(
    "name",
    [
        "galore_adamw",
        "apollo_adamw",
        "schedule_free_sgd",
        "stable_adamw",
        "grokadamw",
        "adamw_torch_4bit",
        "lion_8bit",
    ],
)
def test_a_missing_package_is_an_error_before_the_first_step(name, prepared, tmp_path):
    package = package_of(name)[0].partition(".")[0]
    if importlib.util.find_spec(package) is not None:
        return
    model = build(ClickPromptForCTR, prepared[1])
    before = weights(model)
    trainer = trainer_for(model, prepared, arguments(tmp_path, **SHORT, optim=name, **LOW_RANK))
    with pytest.raises((ImportError, ValueError), match=package.replace("optimi", "torch-optimi")):
        trainer.train()
    assert_equal_weights(model, before)


def test_schedule_free_optimizers_get_warm_up_steps_and_not_a_share(prepared, tmp_path, monkeypatch):
    install_stub(monkeypatch, *PACKAGES[("schedule_free_",)])
    model = build(ClickPromptForCTR, prepared[1])
    args = arguments(tmp_path, optim="schedule_free_adamw", warmup_steps=0.25, eval_strategy="no", save_strategy="no")
    args.num_train_epochs = 1
    trainer = trainer_for(model, prepared, args)
    trainer.train()
    # eight steps
    assert trainer.optimizer.optimizer.options["warmup_steps"] == 2


@pytest.mark.parametrize("plain", [False, True])
def test_a_custom_class_and_options_of_the_optimizer(plain, prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    args = TrainingArguments(str(tmp_path), weight_decay=0.1, **COMMON) if plain else arguments(tmp_path, **SHORT)
    given = (torch.optim.SGD, {"lr": 0.5, "momentum": 0.75})
    trainer = trainer_for(model, prepared, args, optimizer_cls_and_kwargs=given)
    optimizer = trainer.create_optimizer()
    assert type(optimizer) is torch.optim.SGD
    assert {group["momentum"] for group in optimizer.param_groups} == {0.75}
    assert {group["lr"] for group in optimizer.param_groups} == ({0.5} if plain else {0.5, 5e-5})
    assert given == (torch.optim.SGD, {"lr": 0.5, "momentum": 0.75})
    without_rate = trainer_for(model, prepared, args, optimizer_cls_and_kwargs=(torch.optim.SGD, {}))
    rates = {group["lr"] for group in without_rate.create_optimizer().param_groups}
    assert rates == ({5e-5} if plain else {1e-3, 5e-5})


def test_a_custom_optimizer_is_used_unchanged(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    before = weights(model)
    own = torch.optim.SGD([model.ctr_head.output.bias], lr=0.5)
    trainer = trainer_for(model, prepared, arguments(tmp_path, **SHORT), optimizers=(own, None))
    trainer.train()
    assert trainer.optimizer.optimizer is own
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"ctr_head.output.bias"}
    args = arguments(tmp_path, sparse_embedding_updates=True)
    with pytest.raises(ValueError, match="`sparse_embedding_updates` must be False with `optimizers`"):
        trainer_for(model, prepared, args, optimizers=(own, None))


def test_a_factory_of_optimizers_groups_the_parameters_itself(prepared, tmp_path):
    class Factory:
        def __call__(self, model, lr):
            return torch.optim.SGD(model.parameters(), lr=lr)

    model = build(ClickPromptForCTR, prepared[1])
    given = (Factory, {"lr": 0.25})
    optimizer = trainer_for(model, prepared, arguments(tmp_path), optimizer_cls_and_kwargs=given).create_optimizer()
    assert [group["lr"] for group in optimizer.param_groups] == [0.25]


def state_of(model, args, rows):
    modules = {
        name: {key: value for key, value in vars(module).items() if key not in ("training", "_parameters", "_buffers")}
        for name, module in model.named_modules()
    }
    configs = {
        name: {key: repr(value) for key, value in vars(module.config).items()}
        for name, module in model.named_modules()
        if hasattr(module, "config")
    }
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    flags = {
        name: {k: v for k, v in values.items() if isinstance(v, (bool, int, str))} for name, values in modules.items()
    }
    keys = {name: sorted(values) for name, values in modules.items()}
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    return flags, keys, configs, hooks, trained, dataclasses.asdict(args), rows.epoch


SETTINGS = {
    "nothing": {},
    "frozen": {"freeze": ["ctr"], "plm_learning_rate": 0.0},
    "sparse": {"sparse_embedding_updates": True},
    "bf16": {"bf16": True},
    "attention": {"attn_implementation": "eager"},
    "checkpointing": {"activation_checkpointing": True},
    "noise": {"neftune_noise_alpha": 5.0},
}


@pytest.mark.parametrize(
    ("setting", "model_class"),
    [
        *((name, ClickPromptForCTR) for name in SETTINGS),
        ("frozen", ClickPromptForPAMLM),
        ("bf16", ClickPromptForPAMLM),
    ],
)
def test_a_trainer_leaves_model_arguments_and_rows_as_they_were(setting, model_class, prepared, tmp_path):
    model = build(model_class, prepared[1])
    model.clickprompt.plm.embeddings.requires_grad_(False)
    rows = ColumnarDataset.concatenate([prepared[0]["train"]])
    accelerator = {"gradient_accumulation_kwargs": {"num_steps": 2}}
    args = arguments(tmp_path, **SETTINGS[setting], **SHORT, accelerator_config=accelerator)
    before, embeddings = copy.deepcopy(state_of(model, args, rows)), weights(model.clickprompt.plm.embeddings)
    callbacks = []
    trainer = trainer_for(model, prepared, args, train_dataset=rows, callbacks=callbacks)
    assert state_of(model, args, rows) == before
    trainer.evaluate()
    trainer.create_optimizer()
    assert state_of(model, args, rows) == before
    trainer.train()
    assert state_of(model, args, rows) == before
    trainer.predict(prepared[0]["test"])
    trainer.get_num_trainable_parameters()
    assert state_of(model, args, rows) == before
    assert callbacks == []
    failing = trainer_for(model, prepared, args, train_dataset=rows, callbacks=[Fail()])
    with pytest.raises(KeyboardInterrupt):
        failing.train()
    assert not failing.is_in_train
    assert state_of(model, args, rows) == before
    assert_equal_weights(model.clickprompt.plm.embeddings, embeddings)


def test_evaluation_in_16_bits_leaves_the_weights_in_32(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    before = weights(model)
    trainer = trainer_for(model, prepared, arguments(tmp_path, bf16_full_eval=True))
    # as a loop that accumulates gradients has some when it evaluates
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    in_16_bits = numbers(trainer.evaluate())
    assert_equal_weights(model, before)
    assert all(torch.equal(p.grad, torch.full_like(p, 0.1)) for p in model.parameters())
    assert trainer.predict(prepared[0]["test"]).predictions.shape == (20, 1)
    assert_equal_weights(model, before)
    assert numbers(trainer.evaluate()) == in_16_bits
    in_32_bits = numbers(trainer_for(model, prepared, arguments(tmp_path)).evaluate())
    assert 0 < abs(in_32_bits["eval_loss"] - in_16_bits["eval_loss"]) < 0.05


def run(model, prepared, folder, options):
    """Weights after two steps, and the metrics then."""
    trainer = trainer_for(model, prepared, arguments(folder, **{**SHORT, **options}))
    trainer.train()
    return weights(model), numbers(trainer.evaluate())


@pytest.mark.parametrize(
    ("first", "second"), [*((name, "nothing") for name in SETTINGS), ("nothing", "bf16"), ("bf16", "checkpointing")]
)
def test_a_second_trainer_does_what_its_own_arguments_say(first, second, prepared, tmp_path):
    fresh = run(build(ClickPromptForCTR, prepared[1]), prepared, tmp_path, SETTINGS[second])
    model = build(ClickPromptForCTR, prepared[1])
    start = weights(model)
    run(model, prepared, tmp_path, SETTINGS[first])
    model.load_state_dict(start)
    again = run(model, prepared, tmp_path, SETTINGS[second])
    assert again[1] == fresh[1]
    for name, value in fresh[0].items():
        assert torch.equal(again[0][name], value), name


def test_frozen_parts_and_kernels_hold_while_it_trains(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    seen = AtStep(lambda model: {n for n, p in model.named_parameters() if p.requires_grad})
    args = arguments(tmp_path, freeze=["plm"], attn_implementation="eager", **SHORT)
    trainer = trainer_for(model, prepared, args, callbacks=[seen])
    trainer.train()
    assert seen.seen == [{name for name, _ in model.named_parameters()} - set(plm_parameters(model))]
    total = sum(parameter.numel() for parameter in model.parameters())
    frozen = sum(parameter.numel() for parameter in plm_parameters(model).values())
    assert trainer.get_num_trainable_parameters() == total - frozen


def test_overflow_is_detected_whatever_masks_the_attention_has(prepared, tmp_path):
    trainer = trainer_for(
        build(ClickPromptForCTR, prepared[1]), prepared, arguments(tmp_path, debug="underflow_overflow", **SHORT)
    )
    trainer.train()
    assert trainer.state.global_step == 2


def test_training_in_bf16_is_evaluated_in_bf16_afterwards(prepared, tmp_path):
    model = build(ClickPromptForCTR, prepared[1])
    trainer = trainer_for(model, prepared, arguments(tmp_path, bf16=True, max_steps=2, save_strategy="no"))
    trainer.train()
    after = numbers(trainer.evaluate())
    in_training = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert len(in_training) == 2
    assert in_training[0].items() >= {**after, "epoch": 0.25}.items()
    plain = trainer_for(model, prepared, arguments(tmp_path, **SHORT))
    assert plain.evaluate()["eval_loss"] != after["eval_loss"]


def test_a_second_task_with_the_same_arguments_has_its_own_metric(prepared, tmp_path):
    args = arguments(tmp_path)
    of_pretraining = trainer_for(build(ClickPromptForPAMLM, prepared[1]), prepared, args)
    of_clicks = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args)
    assert (of_pretraining.args.metric_for_best_model, of_pretraining.args.greater_is_better) == ("loss", False)
    assert (of_clicks.args.metric_for_best_model, of_clicks.args.greater_is_better) == ("auc", True)
    assert (args.metric_for_best_model, args.greater_is_better) == ("auc", True)


@pytest.mark.parametrize("model_class", TASKS)
def test_model_init_makes_a_fresh_model_for_each_training(model_class, prepared, tmp_path):
    args = arguments(tmp_path, freeze=["plm"], **SHORT)
    trainer = trainer_for(None, prepared, args, model_init=lambda: build(model_class, prepared[1], dropout=0.0))
    ends = []
    for _ in range(2):
        trainer.train()
        ends.append((trainer.model, numbers(trainer.evaluate())))
    expected, metrics = run(build(model_class, prepared[1], dropout=0.0), prepared, tmp_path, {"freeze": ["plm"]})
    assert ends[0][0] is not ends[1][0]
    for model, found in ends:
        assert_equal_weights(model, expected)
        assert found == metrics
        assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(RuntimeError, match="`model` or `model_init`"):
        trainer_for(None, prepared, args)


def test_hyperparameter_search_applies_each_trial_to_a_fresh_model(prepared, tmp_path):
    trials = [
        {"plm_learning_rate": 0.0, "learning_rate": 1e-2},
        {"plm_learning_rate": 1e-3, "learning_rate": 1e-3},
        {"plm_learning_rate": 0.0, "learning_rate": 1e-3, "num_train_epochs": 2},
    ]
    seen = AtStep(
        lambda model: (weights(model), model.clickprompt.plm.embeddings.word_embeddings.weight.requires_grad)
    )
    common = {"num_train_epochs": 1, "save_strategy": "no"}
    args = arguments(tmp_path, **common)
    before = dataclasses.asdict(args)
    trainer = trainer_for(
        None, prepared, args, model_init=lambda: build(ClickPromptForCTR, prepared[1], dropout=0.0), callbacks=[seen]
    )
    objectives = []

    def objective(trial):
        return trials[trial.number]

    best = trainer.hyperparameter_search(objective, n_trials=3, backend="optuna")
    assert dataclasses.asdict(args) == before
    start = weights(build(ClickPromptForCTR, prepared[1]))
    assert [trains for _, trains in seen.seen] == [False, True, False]
    for found, _ in seen.seen:
        assert all(torch.equal(found[name], value) for name, value in start.items())
    for options in trials:
        alone = trainer_for(
            build(ClickPromptForCTR, prepared[1], dropout=0.0),
            prepared,
            arguments(tmp_path / "alone", **{**common, **options}),
        )
        alone.train()
        objectives.append([log["eval_auc"] for log in alone.state.log_history if "eval_auc" in log][-1])
    assert best.objective == max(objectives)


@pytest.mark.parametrize("model_class", TASKS)
def test_plain_arguments_train_all_parts_at_one_rate(model_class, prepared, tmp_path):
    model = build(model_class, prepared[1])
    args = TrainingArguments(str(tmp_path), learning_rate=1e-2, max_steps=2, eval_strategy="steps", **COMMON)
    trainer = trainer_for(model, prepared, args)
    before = weights(model)
    trainer.train()
    groups = trainer.optimizer.param_groups
    assert {group["initial_lr"] for group in groups} == {1e-2}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert not torch.equal(model.clickprompt.plm.embeddings.word_embeddings.weight, before[WORDS])
    name = "eval_auc" if model_class is ClickPromptForCTR else "eval_masked_accuracy"
    assert name in trainer.evaluate()
    # masks are a function of (seed, epoch, row) although plain arguments drop unused columns
    assert isinstance(trainer.data_collator, ClickPromptCollator if name == "eval_auc" else ClickPromptMLMCollator)
    batches = [next(iter(trainer.get_train_dataloader())) for _ in range(2)]
    assert torch.equal(batches[0]["labels"], batches[1]["labels"])


WORDS = "clickprompt.plm.embeddings.word_embeddings.weight"


def test_no_arguments_are_those_of_trainer(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer = ClickPromptTrainer(build(ClickPromptForCTR, prepared[1]))
    assert trainer.args.output_dir == "tmp_trainer"
    assert trainer.args.learning_rate == TrainingArguments("tmp_trainer").learning_rate
    assert "eval_auc" in trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, None).evaluate()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "`label_smoothing_factor` must be 0"),
        ({"dataloader_persistent_workers": True, "dataloader_num_workers": 1}, "`dataloader_persistent_workers`"),
        ({"label_names": ["click"]}, r"`label_names` must be \['labels'\]"),
        ({"use_liger_kernel": True}, "`use_liger_kernel` must be False"),
        ({"train_sampling_strategy": "sequential"}, "`train_sampling_strategy` must be 'random' or"),
        ({"push_to_hub": True, "hub_strategy": "checkpoint"}, "`hub_strategy` must be 'end'"),
    ],
)
def test_plain_arguments_that_would_be_ignored_are_refused(options, message, prepared, tmp_path):
    args = TrainingArguments(str(tmp_path), **COMMON, **options)
    with pytest.raises(ValueError, match=message):
        trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args)


@pytest.mark.parametrize("model_class", TASKS)
@pytest.mark.parametrize(
    "options",
    [
        {"eval_do_concat_batches": False},
        {"eval_do_concat_batches": False, "eval_accumulation_steps": 1},
        {"eval_accumulation_steps": 2},
        {"batch_eval_metrics": True},
        {"include_for_metrics": ["inputs", "loss"]},
        {"batch_eval_metrics": True, "include_for_metrics": ["inputs", "loss"]},
        {"label_names": ["labels"]},
        {"average_tokens_across_devices": False},
        {"dataloader_drop_last": True},
    ],
)
def test_evaluation_options_do_not_change_the_metrics(options, model_class, prepared, tmp_path):
    model, small = build(model_class, prepared[1]), {"per_device_eval_batch_size": 7}
    expected = trainer_for(model, prepared, arguments(tmp_path, **small)).evaluate()
    trainer = trainer_for(model, prepared, arguments(tmp_path, **small, **options))
    assert numbers(trainer.evaluate()) == pytest.approx(numbers(expected), abs=1e-7)
    # nothing is left of the first evaluation
    assert numbers(trainer.evaluate()) == pytest.approx(numbers(expected), abs=1e-7)
    assert {"eval_auc", "eval_masked_accuracy"} & set(expected)


def test_the_last_batch_is_dropped_in_training_alone(prepared, tmp_path):
    args = arguments(tmp_path, dataloader_drop_last=True, per_device_eval_batch_size=7, num_train_epochs=1)
    args.per_device_train_batch_size = 7
    trainer = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args)
    # of 60 rows
    assert len(trainer.get_train_dataloader()) == 8
    assert trainer.predict(prepared[0]["test"]).predictions.shape == (20, 1)
    assert trainer.args.dataloader_drop_last


def test_batch_metrics_forget_an_evaluation_that_failed(prepared, tmp_path):
    class Interrupt(TrainerCallback):
        left = 1

        def on_prediction_step(self, *args, **kwargs):
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt

    small = {"per_device_eval_batch_size": 7, "batch_eval_metrics": True}
    model = build(ClickPromptForCTR, prepared[1])
    trainer = trainer_for(model, prepared, arguments(tmp_path, **small))
    expected = numbers(trainer.evaluate())
    failing = trainer_for(model, prepared, arguments(tmp_path, **small), callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        failing.evaluate()
    assert numbers(failing.evaluate()) == expected


def test_custom_metrics_get_inputs_and_losses(prepared, tmp_path):
    def shapes(prediction):
        logits = prediction.predictions
        return {"rows": len(logits), "columns": prediction.inputs.shape[1], "losses": len(prediction.losses)}

    args = arguments(tmp_path, include_for_metrics=["inputs", "loss"], per_device_eval_batch_size=7)
    metrics = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args, compute_metrics=shapes).evaluate()
    assert (metrics["eval_rows"], metrics["eval_columns"], metrics["eval_losses"]) == (20, 5, 20)


def own_click_loss(outputs, labels, num_items_in_batch=None):
    losses = F.binary_cross_entropy_with_logits(outputs.logits.squeeze(-1), labels.float(), reduction="sum")
    return losses / num_items_in_batch


def own_token_loss(outputs, labels, num_items_in_batch=None):
    losses = F.cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    return losses / num_items_in_batch


@pytest.mark.parametrize(("model_class", "loss"), list(zip(TASKS, [own_click_loss, own_token_loss])))
def test_a_custom_loss_trains_and_is_evaluated_as_the_models_own(model_class, loss, prepared, tmp_path):
    ends = []
    for options in ({}, {"compute_loss_func": loss}):
        # the last layer's dropout draws for all positions instead of the masked ones
        model = build(model_class, prepared[1], dropout=0.0)
        args = arguments(tmp_path, **SHORT, gradient_accumulation_steps=2, optim="sgd", learning_rate=0.1)
        trainer = trainer_for(model, prepared, args, **options)
        trainer.train()
        ends.append((weights(model), numbers(trainer.evaluate())))
    assert ends[1][1] == pytest.approx(ends[0][1], abs=1e-5)
    for name, value in ends[0][0].items():
        torch.testing.assert_close(ends[1][0][name], value, atol=1e-6, rtol=1e-5)


def test_a_custom_loss_of_a_decoder_counts_the_shifted_tokens(tmp_path):
    splits = tiny_splits()
    tokenizer = copy.deepcopy(tiny_gpt2_tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema(), tokenizer)
    prepare_splits(splits, processor, tmp_path / "data")
    prepared = load_prepared(tmp_path / "data")
    set_seed(0)
    text = tiny_text_config("gpt2", vocab_size=len(tokenizer), n_positions=150)
    ctr = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
    model = ClickPromptForPACLM(ClickPromptConfig(text_config=text, ctr_config=ctr, prompt_length=2))

    def loss(outputs, labels, num_items_in_batch=None):
        return own_token_loss(
            types.SimpleNamespace(logits=outputs.logits[:, :-1]), labels[:, 1:], num_items_in_batch=num_items_in_batch
        )

    # the head's bias favors a frequent token, so that some are recovered
    space = next(iter(prepared[0]["train"].__getitems__([0])))["input_ids"][0, 1]
    with torch.no_grad():
        model.get_input_embeddings().weight[space] *= 20
    metrics = [
        numbers(trainer_for(model, prepared, arguments(tmp_path), **options).evaluate())
        for options in ({}, {"compute_loss_func": loss})
    ]
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-5)
    assert 0 < metrics[0]["eval_masked_accuracy"] < 1
    with pytest.raises(ValueError, match="`masking` must be left out for a decoder"):
        trainer_for(model, prepared, arguments(tmp_path, masking="field"))


def test_loss_alone_is_evaluated_if_asked_for(prepared, tmp_path):
    args = arguments(tmp_path, prediction_loss_only=True, num_train_epochs=1)
    trainer = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args)
    trainer.train()
    assert trainer.state.best_metric == trainer.evaluate()["eval_loss"]
    assert "eval_auc" not in trainer.evaluate()


@pytest.mark.parametrize("model_class", TASKS)
def test_rows_without_labels_are_predicted(model_class, prepared, tmp_path):
    processor = prepared[1]
    rows = datasets.Dataset(tiny_splits()["test"].drop_columns("click")).map(processor, batched=True)
    model = build(model_class, processor)
    collator = ClickPromptCollator(processor)
    trainer = trainer_for(model, prepared, arguments(tmp_path, per_device_eval_batch_size=7), data_collator=collator)
    output = trainer.predict(rows)
    assert output.label_ids is None
    assert not {"test_loss", "test_auc"} & set(output.metrics)
    if model_class is ClickPromptForCTR:
        with_labels = trainer.predict(prepared[0]["test"])
        np.testing.assert_allclose(output.predictions, with_labels.predictions, atol=1e-6)
    else:
        assert output.predictions.shape[0] == 20
        assert output.predictions.shape[2] == len(processor.tokenizer)


@pytest.mark.parametrize(("mode", "counted"), [("all", "numel"), ("non_padding", "sum"), ("no", None)])
def test_input_tokens_are_those_of_the_text(mode, counted, prepared, tmp_path):
    args = arguments(tmp_path, include_num_input_tokens_seen=mode, **SHORT)
    trainer = trainer_for(build(ClickPromptForCTR, prepared[1]), prepared, args)
    masks = [batch["attention_mask"] for batch, _ in zip(trainer.get_train_dataloader(), range(2))]
    trainer.train()
    expected = sum(int(getattr(mask, counted)()) for mask in masks) if counted else 0
    assert trainer.state.num_input_tokens_seen == expected


def test_input_tokens_without_text_are_the_ids(prepared, tmp_path):
    processor = ClickPromptProcessor.fit(tiny_splits()["train"], tiny_schema())
    rows = [
        {key: row[key] for key in ("feature_ids", "labels")}
        for row in map(prepared[0]["train"].__getitem__, range(16))
    ]
    ids = np.stack([row["feature_ids"] for row in rows])
    for mode, expected in (("all", ids.size), ("non_padding", (ids >= 0).sum())):
        model = ClickPromptForCTR(
            ClickPromptConfig(
                ctr_config=tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values),
                fusion="ctr",
            )
        )
        args = arguments(tmp_path, include_num_input_tokens_seen=mode, **SHORT)
        trainer = ClickPromptTrainer(model, args, train_dataset=rows, processing_class=processor)
        trainer.train()
        assert trainer.state.num_input_tokens_seen == expected


def backbone_alone(processor):
    set_seed(0)
    ctr = tiny_ctr_config("lr", field_sizes=processor.field_sizes, max_values=processor.max_values)
    return ClickPromptForCTR(ClickPromptConfig(ctr_config=ctr, fusion="ctr"))


def test_a_compiled_model_is_trained_and_saved_like_the_one_under_it(prepared, tmp_path):
    expected, metrics = run(backbone_alone(prepared[1]), prepared, tmp_path, {})
    plain, calls = backbone_alone(prepared[1]), []

    def backend(graph, inputs):
        calls.append(graph)
        return graph.forward

    trainer = trainer_for(torch.compile(plain, backend=backend), prepared, arguments(tmp_path, **SHORT))
    trainer.train()
    assert calls
    assert numbers(trainer.evaluate()) == pytest.approx(metrics, abs=1e-6)
    assert_equal_weights(plain, expected, atol=1e-6, rtol=1e-5)
    trainer.save_model(str(tmp_path / "saved"))
    assert_equal_weights(ClickPromptForCTR.from_pretrained(tmp_path / "saved"), weights(plain))
    of_pretraining = torch.compile(build(ClickPromptForPAMLM, prepared[1]), backend=backend)
    assert trainer_for(of_pretraining, prepared, arguments(tmp_path)).task == "masked tokens"


def test_compiling_is_an_argument_too(prepared, tmp_path, monkeypatch):
    # the arguments set it for the process
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    expected, metrics = run(backbone_alone(prepared[1]), prepared, tmp_path, {})
    options = {"torch_compile": True, "torch_compile_backend": "eager"}
    found, compiled = run(backbone_alone(prepared[1]), prepared, tmp_path, options)
    assert compiled == pytest.approx(metrics, abs=1e-6)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("model_class", TASKS)
def test_adapters_are_trained_evaluated_kept_and_merged(mixed, model_class, prepared, tmp_path):
    model = get_peft_model(build(model_class, prepared[1]), LoraConfig(target_modules=["query"]), mixed=mixed)
    before = weights(model)
    metric = "auc" if model_class is ClickPromptForCTR else "masked_accuracy"
    aucs = iter([0.8, 0.7, 0.9])
    seen = {}

    def compute(prediction):
        value = next(aucs)
        seen[value] = weights(model)
        return {metric: value}

    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    options |= {"metric_for_best_model": metric, "greater_is_better": True, "learning_rate": 0.1}
    args = arguments(tmp_path, **options, plm_learning_rate=0.1, early_stopping_patience=0)
    trainer = trainer_for(model, prepared, args, compute_metrics=compute)
    trainer.args.metric_for_best_model, trainer.args.greater_is_better = metric, True
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in weights(model).items())
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items() if "lora" not in name)
    # the first of two checkpoints is the best
    assert_equal_weights(model, seen[0.8])
    assert not all(torch.equal(value, seen[0.8][name]) for name, value in seen[0.7].items())

    defaults = trainer_for(model, prepared, arguments(tmp_path, **SHORT))
    metrics = numbers(defaults.evaluate())
    assert f"eval_{metric}" in metrics
    defaults.model = model.merge_and_unload()
    assert numbers(defaults.evaluate()) == pytest.approx(metrics, abs=1e-4)
    defaults.save_model(str(tmp_path / "merged"))
    assert_equal_weights(model_class.from_pretrained(tmp_path / "merged"), weights(defaults.model))


def test_saving_adapters_keeps_the_text_of_the_card(prepared, tmp_path):
    trainer = trainer_for(get_peft_model(build(ClickPromptForCTR, prepared[1]), LORA), prepared, arguments(tmp_path))
    trainer.save_model()
    card = tmp_path / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nTrained on our shop's clicks.\n", encoding="utf-8")
    trainer.save_model()
    assert "our shop's clicks" in card.read_text(encoding="utf-8")


@pytest.mark.parametrize("model_class", TASKS)
def test_models_of_a_checkpoints_own_code_are_recognized(model_class, prepared, tmp_path):
    expected, metrics = run(build(model_class, prepared[1]), prepared, tmp_path, {"sparse_embedding_updates": True})
    build(model_class, prepared[1]).save_pretrained(tmp_path / "saved")
    remote_class = get_class_from_dynamic_module(f"modeling_clickprompt.{model_class.__name__}", tmp_path / "saved")
    model = remote_class.from_pretrained(tmp_path / "saved")
    assert not isinstance(model, model_class)
    args = arguments(tmp_path, **SHORT, sparse_embedding_updates=True)
    trainer = trainer_for(model, prepared, args)
    trainer.train()
    assert numbers(trainer.evaluate()) == metrics
    assert_equal_weights(model, expected)


def test_training_twice_stops_as_early_each_time(prepared, tmp_path):
    aucs = iter([0.8, 0.7, 0.9, 0.6, 0.5])
    args = arguments(tmp_path, num_train_epochs=9, early_stopping_patience=1)
    model = build(ClickPromptForCTR, prepared[1])
    trainer = trainer_for(model, prepared, args, compute_metrics=lambda _: {"auc": next(aucs)})
    trainer.train()
    assert trainer.state.epoch == 2
    trainer.train()
    assert trainer.state.epoch == 2


@pytest.mark.parametrize(
    ("given", "epochs"), [(EarlyStoppingCallback(4), 5), (EarlyStoppingCallback(1), 2), (EarlyStoppingCallback, 2)]
)
def test_custom_early_stopping_replaces_the_default(given, epochs, prepared, tmp_path):
    aucs = iter([0.8, 0.7, 0.7, 0.7, 0.7])
    args = arguments(tmp_path, num_train_epochs=5)
    trainer = trainer_for(
        build(ClickPromptForCTR, prepared[1]),
        prepared,
        args,
        compute_metrics=lambda _: {"auc": next(aucs)},
        callbacks=[given],
    )
    assert sum(isinstance(c, EarlyStoppingCallback) for c in trainer.callback_handler.callbacks) == 1
    trainer.train()
    assert trainer.state.epoch == epochs


@pytest.mark.parametrize("trainer_class", [Trainer, ClickPromptTrainer])
def test_grouping_by_length_groups_by_the_text(trainer_class, prepared, tmp_path):
    processor = prepared[1]
    rows = datasets.Dataset.from_dict(rows_of_lengths(320, seed=0)).map(processor, batched=True)
    rows = rows.select_columns(["feature_ids", "input_ids", "attention_mask", "labels"])
    spreads = []
    for strategy in ("random", "group_by_length"):
        args = TrainingArguments(str(tmp_path), train_sampling_strategy=strategy, **COMMON)
        trainer = trainer_class(
            build(ClickPromptForCTR, processor),
            args,
            train_dataset=rows,
            data_collator=ClickPromptCollator(processor),
            processing_class=processor,
        )
        lengths = [batch["attention_mask"].sum(dim=1) for batch in trainer.get_train_dataloader()]
        spreads.append(sum(int(of_batch.max() - of_batch.min()) for of_batch in lengths))
    assert spreads[1] < spreads[0] / 2


def test_grouping_rows_without_text_is_refused_and_predictions_keep_their_order(prepared, tmp_path):
    processor = prepared[1]
    rows = datasets.Dataset(tiny_splits()["test"]).map(processor, batched=True)
    model = build(ClickPromptForCTR, processor)
    scores = []
    for strategy in ("random", "group_by_length"):
        args = arguments(tmp_path, train_sampling_strategy=strategy, **SHORT)
        trainer = trainer_for(model, prepared, args, train_dataset=rows.select_columns(["feature_ids", "labels"]))
        scores.append(trainer.predict(rows).predictions)
    np.testing.assert_array_equal(scores[0], scores[1])
    with pytest.raises(ValueError, match="`train_sampling_strategy` must be 'random' for rows without text"):
        trainer.get_train_dataloader()
