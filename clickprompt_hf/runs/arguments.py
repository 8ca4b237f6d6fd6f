# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Arguments of the commands that train, as dataclasses, and their parser."""

import argparse
import dataclasses
import inspect
import re
import sys
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers import HfArgumentParser
from transformers.integrations import unset_hf_deepspeed_config
from transformers.utils import is_matplotlib_available

from ..comparison.results import ARMS
from ..configuration_clickprompt import ClickPromptConfig, CTRConfig
from ..data.number_ranges import NumberRange, check_numbers
from ..data.splits import Split
from ..training.arguments import ClickPromptTrainingArguments
from .backbone_modules import import_backbone_module
from .command import CommandParser, require


@dataclass
class ReportArguments:
    """What a run writes besides its weights and metrics.

    Raises:
        ImportError: If plots are requested and matplotlib is missing.
    """

    report_plots: bool | None = field(
        default=None,
        metadata={
            "help": "Plot loss, AUC, calibration and AUC by frequency as PNG files in output_dir/plots, and "
            "include them in the model card. Default: if matplotlib is installed."
        },
    )

    def __post_init__(self):
        if self.report_plots:
            require(["matplotlib"], "plots", "--report_plots")

    @property
    def draws_plots(self) -> bool:
        """Whether plots are wanted and can be drawn."""
        return is_matplotlib_available() if self.report_plots is None else self.report_plots


@dataclass
class ClickReportArguments(ReportArguments):
    """What to report on the test split besides AUC, log loss and calibration."""

    gauc_field: str | None = field(
        default=None,
        metadata={"help": "Column, e.g. user_id: report the AUC within each value, weighted by rows (GAUC)."},
    )
    frequency_fields: list[str] | None = field(
        default=None,
        metadata={"help": "Columns, e.g. user_id movie_id: report the AUC on frequent, rare and unseen values."},
    )
    baseline_dir: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of another run on the same test rows: report RelaImpr and the AUC difference "
            "with DeLong's 95 %% interval."
        },
    )


@dataclass
class CalibrationArguments:
    """What happens to click probabilities after training."""

    calibrate: bool = field(
        default=True,
        metadata={
            "help": "Fit a scale and shift for the best weights' logits on the validation rows, if that lowers the "
            "log loss of held-out halves. This changes probabilities wherever rows are scored, but not "
            "logits or the ranking."
        },
    )


@dataclass
class DataArguments:
    """Which rows to use. Arguments left out take the checkpoint's value, or else their default.

    Raises:
        ValueError: If `max_eval_rows` is out of its range.
    """

    dataset: str | None = field(
        default=None,
        metadata={
            "help": "ml-1m, ml-100k, bookcrossing, amazon-toys, goodreads, synthetic, csv, jsonl, parquet, or a "
            "dataset's Hub id. Default: the extension of the given files."
        },
    )
    data_path: list[str] | None = field(
        default=None,
        metadata={
            "help": "Zip file, folder or file with the raw data; for csv, jsonl and parquet, one or more files, "
            "folders or patterns such as 'part-*.csv'. In a folder or pattern, files named like splits "
            "(train, validation, test) stay separate splits."
        },
    )
    train_file: list[str] | None = field(
        default=None,
        metadata={"help": "Training files, folders or patterns, instead of --data_path."},
    )
    validation_file: list[str] | None = field(
        default=None,
        metadata={"help": "Validation files, folders or patterns. Default: cut from the training rows, see --split."},
    )
    test_file: list[str] | None = field(
        default=None,
        metadata={"help": "Test files, folders or patterns. Default: cut from the training rows, see --split."},
    )
    schema: str | None = field(
        default=None,
        metadata={
            "help": "YAML or JSON file with the fields, the label and the text template. For csv, jsonl, parquet "
            "and Hub datasets."
        },
    )
    split: Split | None = field(
        default=None,
        metadata={
            "help": "random: at random, stratified if a class is rare. time: by the schema's time column, testing "
            "on the latest rows. user: rows with the same value of --split_column stay together. Default: "
            "random."
        },
    )
    split_column: str | None = field(
        default=None,
        metadata={"help": "Column for --split user. Default: the first field whose column name contains user."},
    )
    split_fractions: list[float] | None = field(
        default=None,
        metadata={"help": "Fractions of the rows for training, validation and test. Default: 0.8 0.1 0.1."},
    )
    split_seed: int | None = field(
        default=None, metadata={"help": "Seed of the random and user splits only. Default: 42."}
    )
    max_train_rows: int | None = field(
        default=None,
        metadata={
            "help": "Number of training rows to use; PA-MLM adds an eighth as many validation rows. Default: all."
        },
    )
    max_eval_rows: int | None = field(
        default=None,
        metadata={
            "help": "Number of validation rows to evaluate on during training, at least 2: drawn once with "
            "--split_seed, at the same click rate. The test split is always used in full. Default: all."
        },
    )
    stream: bool | None = field(
        default=None,
        metadata={
            "help": "Prepare files chunk by chunk on disk instead of in memory; a random split then draws "
            "different rows. For csv, jsonl and parquet. Default: from 5 million Parquet rows or 1 GB of "
            "CSV or JSON lines."
        },
    )
    prepared: str | None = field(
        default=None,
        metadata={
            "help": "Folder that keeps the encoded rows for later runs with the same files, schema, split and "
            "tokenizer; or a folder of rows encoded on a cluster, which replaces --dataset. Default: "
            "encoded rows are removed when the run ends."
        },
    )
    min_count: int | None = field(
        default=None, metadata={"help": "Minimum number of training rows for a value to get its own id. Default: 1."}
    )
    max_text_length: int | None = field(
        default=None,
        metadata={
            "help": "Truncate longer texts to this many tokens. Default: raise an error for texts that are too long."
        },
    )
    text_fields: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns of the fields that the PLM reads, e.g. title genre; other fields are ids-only. "
            "Default: all fields except those with in_text: false in the schema."
        },
    )
    vector_fields: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns of fields, e.g. title genre, whose text a frozen PLM turns into one vector, an input of "
            "the backbone. The fields keep their ids. Default: only texts with as: vector in the schema."
        },
    )
    text_encoder: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of the frozen PLM that turns --vector_fields, and texts with as: vector in the "
            "schema, into vectors. Default: --plm_name_or_path with its pretrained weights."
        },
    )
    text_vector_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder that caches vectors of texts, by PLM and text, for later runs. Default: _text_vectors in "
            "output_dir."
        },
    )

    def __post_init__(self):
        # one row with a click and one without
        NumberRange(2, whole=True, also=(None,)).check("max_eval_rows", self.max_eval_rows)


@dataclass
class PLMArguments:
    """The language model of a fresh ClickPrompt model."""

    plm_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of a pretrained encoder or decoder, e.g. RoBERTa, DeBERTa, T5 or GPT-2; or "
            "scratch-tiny (2 layers x 128) or scratch-small (4 x 256): a randomly initialized RoBERTa with "
            "a tokenizer trained on the training text."
        },
    )


def config_options(*config_classes: type) -> dict[str, dataclasses.Field]:
    """Fields of configurations that are flags of the commands, by name."""
    fields = [option for config_class in config_classes for option in dataclasses.fields(config_class)]
    return {option.name: option for option in fields if option.metadata.get("flag")}


def _flags(config_class: type) -> Any:
    """A dataclass with a flag per option of a configuration; a flag that is not given is `None`."""
    flags = []
    for name, option in config_options(config_class).items():
        flag_type = option.metadata["flag_type"] or _flag_type(option.type)
        flags.append((name, flag_type | None, field(default=None, metadata={"help": _flag_help(option)})))
    return dataclasses.make_dataclass(f"{config_class.__name__}Flags", flags)


def _flag_help(option: dataclasses.Field) -> str:
    """Help text of an option's flag, with its default; other options are written as flags."""
    text = re.sub(r"`(\w+)`", r"--\1", option.metadata["help"])
    if (flag_type := option.metadata["flag_type"]) is not None:
        for choice in set(get_args(option.type)) - set(get_args(flag_type)):
            text = re.sub(rf" {choice}: [^.]*\.", "", text)
    if option.default is None:
        text = text.replace("None: ", "Default: ")
    else:
        values = option.default if isinstance(option.default, (list, tuple)) else [option.default]
        shown = " ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
        text = f"{text} Default: {shown}."
    for needed, values in option.metadata["needs"].items():
        if len(values) <= 3:
            text = f"{text} Needs --{needed} {' or '.join(values)}."
    # argparse formats help texts
    return text.replace("%", "%%")


def _flag_type(annotation: Any) -> Any:
    """The type of a flag for an annotation: `float` for `float | int`, a list for a list or tuple."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType and get_origin(kind) is not tuple]
    return float if float in kinds else kinds[0]


_CTRFlags: Any = _flags(CTRConfig)
_ClickPromptFlags: Any = _flags(ClickPromptConfig)


@dataclass
class BackboneArguments(_CTRFlags):
    """The CTR backbone."""

    backbone_module: str | None = field(
        default=None, metadata={"help": "Python file or module that registers a custom backbone; imported first."}
    )
    preset: str | None = field(
        default=None,
        metadata={
            "help": "Dataset whose published backbone sizes are used. Default: --dataset's, if published; "
            "otherwise chosen by the number of training rows, with ml-1m's from 200,000 rows."
        },
    )


@dataclass
class ModelArguments(_ClickPromptFlags, BackboneArguments, PLMArguments):
    """What to build. Options left out take the checkpoint's value, or else the published one."""

    def __post_init__(self):
        if self.backbone_module is not None:
            import_backbone_module(self.backbone_module)

    @property
    def fresh_backbone(self) -> str:
        """Backbone of a fresh model."""
        return CTRConfig.backbone if self.backbone is None else self.backbone

    @property
    def fresh_prompt_length(self) -> int:
        """K of a fresh model."""
        return ClickPromptConfig.prompt_length if self.prompt_length is None else self.prompt_length

    def ctr_options(self) -> dict[str, Any]:
        """The given options of `CTRConfig`, except the backbone's name."""
        return given_options(self, [name for name in config_options(CTRConfig) if name != "backbone"])

    def prompt_options(self) -> dict[str, Any]:
        """The given options of `ClickPromptConfig`, except `prompt_length`."""
        return given_options(self, [name for name in config_options(ClickPromptConfig) if name != "prompt_length"])

    def options_on_checkpoint(self, config_class: type) -> dict[str, Any]:
        """The given options of a configuration that finetuning a checkpoint may change."""
        options = config_options(config_class)
        return given_options(self, [name for name, option in options.items() if option.metadata["may_change"]])


def given_options(arguments: Any, names: list[str]) -> dict[str, Any]:
    """The arguments in `names` that were given."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


@dataclass
class StartArguments:
    """What finetuning starts from."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the checkpoint to finetune."}
    )
    without_plm: bool = field(default=False, metadata={"help": "Finetune only the checkpoint's CTR part."})
    ctr_only: bool = field(default=False, metadata={"help": "Train a randomly initialized backbone alone."})
    extend_vocabulary: bool = field(
        default=False, metadata={"help": "Finetune the checkpoint on another table, with new ids for new values."}
    )
    distill_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a finetuned click model (the teacher): train a model without a PLM on "
            "clicks and on the teacher's logits. See --distill_weight and --distill_temperature."
        },
    )


_COMPARE_RANGES = {
    "trials": NumberRange(1, 1_000, whole=True),
    "seeds": NumberRange(1, 1_000, whole=True),
    "jobs": NumberRange(1, 1_000, whole=True),
    "pamlm_epochs": NumberRange(0, 1_000, above=True),
}


@dataclass
class CompareArguments:
    """What to compare, and how much effort each arm gets."""

    arms: list[str] | None = field(
        default=None,
        metadata={
            "help": f"Arms to train: {', '.join(ARMS)}. Default: all; without a PLM, all that need none.",
        },
    )
    trials: int = field(
        default=5,
        metadata={"help": "Tuning trials per arm; the first one uses the defaults. 1: no tuning. Default: 5."},
    )
    metric: Literal["auc", "log_loss"] = field(
        default="auc", metadata={"help": "Validation metric for tuning and early stopping. Default: auc."}
    )
    seeds: int = field(
        default=3, metadata={"help": "Number of seeds to train each arm with, starting at --seed. Default: 3."}
    )
    pamlm_epochs: float = field(default=3, metadata={"help": "Epochs of PA-MLM. Default: 3."})
    jobs: int = field(
        default=1,
        metadata={
            "help": "Number of arms and seeds to train in parallel, in processes that share the cores and the GPU. "
            "They slow each other down, so training times and scoring speeds are then not meaningful. "
            "Default: 1."
        },
    )
    user_field: str | None = field(
        default=None,
        metadata={
            "help": "User column: report metrics for users that are unseen, rare or frequent in training. Default: "
            "guessed from the column names; none: no users."
        },
    )
    item_field: str | None = field(default=None, metadata={"help": "The same for the item."})

    def __post_init__(self):
        check_numbers(self, _COMPARE_RANGES)
        if unknown := [arm for arm in self.arms or () if arm not in ARMS]:
            raise ValueError(f"`--arms` must be among {list(ARMS)}, got {unknown}.")


class HelpAllAction(argparse.Action):
    """Prints the help of all flags and exits."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None):
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        assert isinstance(parser, TrainingParser)
        print(parser.format_help(all_flags=True), end="")
        parser.exit()


# Sections of the help in order, and the classes that declare the flags of each.
_SECTIONS: dict[str, tuple[Any, ...]] = {
    "comparison": (CompareArguments,),
    "what to start from": (StartArguments, PLMArguments),
    "data": (DataArguments,),
    "backbone (sizes default to the published ones, otherwise to those below)": (*(_CTRFlags, BackboneArguments),),
    "prompts, fusion and probabilities": (_ClickPromptFlags, CalibrationArguments),
    "training": (ClickPromptTrainingArguments,),
    "report": (ReportArguments, ClickReportArguments),
}
_OTHER_SECTION = "transformers.TrainingArguments"
_EPILOG = """All flags of transformers.TrainingArguments work too, e.g. --num_train_epochs, --seed, --bf16,
--per_device_train_batch_size, --gradient_accumulation_steps, --weight_decay, --push_to_hub.
--help_all lists them. --debug shows the traceback of an error."""


class TrainingParser(CommandParser, HfArgumentParser):
    """Parser of a command that trains, from dataclasses; its help shows the flags of this package, in sections."""

    def __init__(self, command: str, description: str | None, dataclass_types: tuple[Any, ...]):
        kwargs: dict[str, Any] = {"dataclass_types": dataclass_types, "epilog": _EPILOG}
        super().__init__(command, description, usage="[options] --output_dir FOLDER", **kwargs)
        # names of the flags that the last command line had
        self.named: frozenset[str] = frozenset()
        # without it, TrainingArguments would write into a default folder
        next(action for action in self._actions if action.dest == "output_dir").required = True
        self.add_argument("--help_all", action=HelpAllAction, help="show the flags of transformers too, and exit")

    def _add_dataclass_arguments(self, dtype: Any) -> None:
        """Add the flags of a dataclass to the sections of the classes that declare them."""
        sections = {group.title: group for group in self._action_groups}
        for title in (*_SECTIONS, _OTHER_SECTION):
            if title not in sections:
                sections[title] = self.add_argument_group(title)
        types = get_type_hints(dtype)
        for flag in dataclasses.fields(dtype):
            owner = next(cls for cls in dtype.__mro__ if flag.name in inspect.get_annotations(cls))
            title = next((title for title, classes in _SECTIONS.items() if owner in classes), _OTHER_SECTION)
            if flag.init:
                flag.type = types[flag.name]
                group: Any = sections[title]
                self._parse_dataclass_field(group, flag)

    def format_help(self, all_flags: bool = False) -> str:
        """The help text; includes the flags that transformers declares only with `all_flags`."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for group in self._action_groups:
            if all_flags or group.title != _OTHER_SECTION:
                formatter.start_section(group.title)
                formatter.add_arguments(group._group_actions)
                formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def parse(self, arguments: list[str] | None) -> Any:
        """Parse all arguments into the dataclasses, in their order.

        Raises:
            ValueError: If an argument is unknown or wrong.
            ImportError: If a chosen logger is not installed.
        """
        given = sys.argv[1:] if arguments is None else arguments
        self.named = frozenset(flag[2:].partition("=")[0] for flag in given if flag.startswith("--"))
        *parsed, unknown = self.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
        self.refuse_unknown(unknown)
        # With ZeRO-3, models would be built in parts from here on; the trainer shards them.
        unset_hf_deepspeed_config()
        return parsed
