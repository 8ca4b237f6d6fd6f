"""Arguments that are numbers: whatever cannot be used is refused by name, range and value."""

import dataclasses
import math

import pytest
from transformers import TrainingArguments

from clickprompt_hf.data.number_ranges import NumberRange
from clickprompt_hf.runs import app, demo, finetune, predict
from clickprompt_hf.training.arguments import RANGES, ClickPromptTrainingArguments

WRONG = ("x", [1], {}, True, math.nan, -math.inf, -0.5, -5, 10**30)
# by name: what must be refused besides the values above, and what must not be
WRONG_TOO = {
    **dict.fromkeys(("learning_rate", "plm_learning_rate", "weight_decay"), (None, math.inf, 1e30, -1)),
    **dict.fromkeys(("num_train_epochs", "logging_steps", "save_steps", "eval_steps"), (0, 0.0, math.inf, -1)),
    "per_device_train_batch_size": (0, -1, 1.5),
    "per_device_eval_batch_size": (None, 0, -1, 1.5),
    **dict.fromkeys(("gradient_accumulation_steps", "save_total_limit", "eval_accumulation_steps"), (0, -1, 2.5)),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), (1, 1.0, 1.5, -0.1)),
    **dict.fromkeys(("seed", "data_seed"), (1.5, 2**32)),
    "adam_epsilon": (0, 0.0, 2.0, math.inf),
    "max_steps": (0, -2, 1.5),
    "warmup_steps": (math.inf, -1),
    "mlm_probability": (0, 0.0, 1.0, 1.5),
    "early_stopping_patience": (1.5,),
    "max_grad_norm": (None,),
}
RIGHT = {
    "learning_rate": (0, 1e-5, 1),
    "weight_decay": (0, 0.5),
    "num_train_epochs": (0.01, 2.5, 100),
    "max_steps": (-1, 1, 10**6),
    "warmup_steps": (0, 0.1, 500),
    "logging_steps": (0.1, 1),
    "save_total_limit": (None, 1),
    "seed": (0, 2**32 - 1),
    "data_seed": (None, 0),
    "adam_beta1": (0, 0.99),
    "max_grad_norm": (0, 1.0, math.inf),
    "eval_accumulation_steps": (None, 1),
}


def build(folder, **options):
    return ClickPromptTrainingArguments(str(folder), report_to=[], **options)


@pytest.mark.parametrize("name", RANGES)
def test_every_number_has_its_range(name, tmp_path):
    for value in (*WRONG, *WRONG_TOO.get(name, ())):
        if name == "max_grad_norm" and value == 10**30:
            continue
        with pytest.raises(ValueError, match=rf"^`{name}` must be .*, got "):
            build(tmp_path, **{name: value})
    for value in RIGHT.get(name, ()):
        assert getattr(build(tmp_path, **{name: value}), name) == value


def test_all_numbers_of_transformers_are_checked():
    types = {field.name: str(field.type) for field in dataclasses.fields(TrainingArguments)}
    checked = {*RANGES, "label_smoothing_factor", "local_rank"}
    assert {name for name, kind in types.items() if "int" in kind or "float" in kind} <= checked


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num_train_epochs", "0"], "`num_train_epochs` must be above 0, got 0.0"),
        (["--num_train_epochs", "nan"], "`num_train_epochs` must be above 0, got nan"),
        (["--gradient_accumulation_steps", "-1"], "`gradient_accumulation_steps` must be at least 1, got -1"),
        (["--weight_decay", "-1"], "`weight_decay` must be at least 0, got -1.0"),
        (["--learning_rate", "1e30"], r"`learning_rate` must be at most 100, got 1e\+30"),
        (["--plm_learning_rate", "inf"], "`plm_learning_rate` must be at most 100, got inf"),
        (["--max_steps", "0"], "`max_steps` must be at least 1, or -1, got 0"),
        (["--per_device_train_batch_size", "0"], "`per_device_train_batch_size` must be at least 1, got 0"),
        (["--warmup_steps", "-5"], "`warmup_steps` must be at least 0, got -5.0"),
        (["--prompt_dropout", "nan"], r"`prompt_dropout` must be in \[0, 1\), got nan"),
        (["--split_seed", "-1"], "`split_seed` must be .*at least 0, got -1"),
        (["--max_train_rows", "0"], "`max_train_rows` must be .*at least 1, got 0"),
        (["--min_count", "0"], "`min_count` must be at least 1, got 0"),
    ],
)
def test_the_commands_refuse_them_before_training(flags, message, tmp_path):
    out = tmp_path / "out"
    arguments = ["--dataset", "synthetic", "--ctr_only", "--output_dir", str(out), *flags]
    if "--prompt_dropout" in flags:
        arguments[2:3] = ["--plm_name_or_path", "scratch-tiny", "--max_train_rows", "64"]
    with pytest.raises(ValueError, match=message):
        finetune.main(arguments)
    assert not list(out.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (predict.main, ["--batch_size", "0"], "`batch_size` must be at least 1, got 0"),
        (predict.main, ["--piece_rows", "-1"], "`piece_rows` must be at least 1, got -1"),
        (app.main, ["--port", "70000"], "`port` must be at most 65535, got 70000"),
        (demo.main, ["--ctr_epochs", "0"], "`ctr_epochs` must be above 0, got 0.0"),
        (demo.main, ["--plm_batch_size", "0"], "`plm_batch_size` must be at least 1, got 0"),
        (demo.main, ["--max_train_rows", "0"], "`max_train_rows` must be at least 1, got 0"),
        (demo.main, ["--seeds", "1", "-1"], "`seeds` must be at least 0, got -1"),
    ],
)
def test_other_commands_refuse_them_first(main, arguments, message, tmp_path):
    needed = {predict: ["--model", "m", "--input", "i.csv", "--output", "o.csv"], app: ["--model", "m"]}
    module = next(module for module in (predict, app, demo) if module.main is main)
    with pytest.raises(ValueError, match=message):
        main([*needed.get(module, ["--output_dir", str(tmp_path)]), *arguments])


def test_a_range_reads_as_it_is():
    open_range = NumberRange(0, 1, above=True, below=True, also=(None,))
    open_range.check("x", None)
    open_range.check("x", 0.5)
    for value, message in ((0, "above 0, got 0"), (1, "below 1, got 1"), (2, "below 1, got 2"), (False, "a number")):
        with pytest.raises(ValueError, match=f"`x` must be {message}"):
            open_range.check("x", value)
