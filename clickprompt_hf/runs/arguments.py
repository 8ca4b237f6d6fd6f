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
            "help": "Draw loss, AUC, calibration and AUC by frequency as PNG files in the folder plots of output_dir, "
            "and show them in the model card. Default: if matplotlib is installed."
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
        metadata={"help": "Column, e.g. user_id: report the AUC within each of its values, weighted by rows (GAUC)."},
    )
    frequency_fields: list[str] | None = field(
        default=None,
        metadata={"help": "Columns, e.g. user_id movie_id: report the AUC of frequent, rare and unseen values."},
    )
    baseline_dir: str | None = field(
        default=None,
        metadata={
            "help": "Output folder of another run on the same test rows: report RelaImpr, and the AUC difference with "
            "its 95 %% interval (DeLong)."
        },
    )


@dataclass
class CalibrationArguments:
    """What happens to click probabilities after training."""

    calibrate: bool = field(
        default=True,
        metadata={
            "help": "Fit scale and shift of the kept weights' logits on the validation rows, if held-out halves of "
            "them show a better log loss. Probabilities change wherever rows are scored; logits and the order of rows "
            "do not."
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
            "help": "ml-1m, ml-100k, bookcrossing, amazon-toys, goodreads, synthetic, csv, jsonl, parquet, or the id "
            "of a dataset on the Hub. Default: the ending of the given files."
        },
    )
    data_path: list[str] | None = field(
        default=None,
        metadata={
            "help": "Zip file, folder or file with the raw data; for csv, jsonl and parquet, one or several files, "
            "folders or patterns such as 'part-*.csv'. Files named train beside validation or test are kept apart."
        },
    )
    train_file: list[str] | None = field(
        default=None,
        metadata={"help": "Files, folders or patterns of the training split, instead of --data_path."},
    )
    validation_file: list[str] | None = field(
        default=None,
        metadata={"help": "Those of the validation split. Default: cut from the training rows, see --split."},
    )
    test_file: list[str] | None = field(
        default=None, metadata={"help": "Those of the test split. Default: cut from the training rows, see --split."}
    )
    schema: str | None = field(
        default=None,
        metadata={
            "help": "YAML or JSON file with the fields, the label and the text template. For csv, jsonl, parquet, Hub."
        },
    )
    split: Split | None = field(
        default=None,
        metadata={
            "help": "How rows are split: at random, stratified if a class is rare; by the schema's time column, "
            "testing on the latest rows; or user: all rows with the same value of --split_column together. Default: "
            "random."
        },
    )
    split_column: str | None = field(
        default=None,
        metadata={"help": "Column for --split user. Default: the first field whose column name contains user."},
    )
    split_fractions: list[float] | None = field(
        default=None,
        metadata={"help": "Shares of the rows for training, validation and test. Default: 0.8 0.1 0.1."},
    )
    split_seed: int | None = field(
        default=None, metadata={"help": "Seed of the random split and the split by user only. Default: 42."}
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
            "help": "Number of validation rows to evaluate on while training, at least 2: drawn once by --split_seed, "
            "with the click rate of all. The test split stays whole. Default: all."
        },
    )
    stream: bool | None = field(
        default=None,
        metadata={
            "help": "Prepare the files chunk by chunk on the disk instead of in memory; a random split then draws "
            "other rows. For csv, jsonl, parquet. Default: from 5 million rows of Parquet or 1 GB of CSV or JSON "
            "lines on."
        },
    )
    prepared: str | None = field(
        default=None,
        metadata={
            "help": "Folder in which the encoded rows are kept for later runs on the same files with the same schema, "
            "split and tokenizer; or the folder of rows that a cluster has encoded, which names the data alone. "
            "Default: they are removed when the run ends."
        },
    )
    min_count: int | None = field(
        default=None, metadata={"help": "Minimum training rows for a value to get its own id. Default: 1."}
    )
    max_text_length: int | None = field(
        default=None,
        metadata={"help": "Truncate longer texts to this many tokens. Default: refuse texts that are too long."},
    )
    text_fields: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns of the fields that the PLM reads, e.g. title genre; the others have ids only. Default: "
            "all fields but those with in_text: false in the schema."
        },
    )
    text_encoder: str | None = field(
        default=None,
        metadata={
            "help": "Hub id or folder of the frozen PLM that makes vectors of texts with as: vector in the schema. "
            "Default: that of --plm_name_or_path, as it was pretrained."
        },
    )
    text_vector_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder in which these vectors are kept, by PLM and text, for later runs. Default: _text_vectors "
            "in output_dir."
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
            "scratch-tiny (2 layers x 128) or scratch-small (4 x 256): a RoBERTa with fresh weights and a tokenizer "
            "trained on the training text."
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
        default=None, metadata={"help": "Python file or module that registers your own backbone; imported first."}
    )
    preset: str | None = field(
        default=None,
        metadata={
            "help": "Dataset whose published backbone sizes are used. Default: --dataset's if it has some; else sizes "
            "by the number of training rows, and ml-1m's from 200,000 rows on."
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
    ctr_only: bool = field(default=False, metadata={"help": "Train a fresh backbone alone."})
    extend_vocabulary: bool = field(
        default=False, metadata={"help": "Finetune the checkpoint on another table: its new values get new ids."}
    )
    distill_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a finished click model: train a model without a PLM on clicks and on its "
            "logits of the training rows. See --distill_weight and --distill_temperature."
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
            "help": f"Arms to train, of {', '.join(ARMS)}. Default: all; without a PLM, all that need none.",
        },
    )
    trials: int = field(
        default=5,
        metadata={"help": "Tuning trials per arm, the first of which has the defaults. 1: no tuning. Default: 5."},
    )
    metric: Literal["auc", "log_loss"] = field(
        default="auc", metadata={"help": "What tuning and early stopping improve on validation rows. Default: auc."}
    )
    seeds: int = field(
        default=3, metadata={"help": "Number of seeds that each arm is trained with, counted from --seed. Default: 3."}
    )
    pamlm_epochs: float = field(default=3, metadata={"help": "Epochs of PA-MLM. Default: 3."})
    jobs: int = field(
        default=1,
        metadata={
            "help": "Number of arms and seeds to train at a time, in processes that share the cores and the GPU. They "
            "slow each other down, so training seconds and scoring speeds are then no measure of cost. Default: 1."
        },
    )
    user_field: str | None = field(
        default=None,
        metadata={
            "help": "Column of the user: report rows of users that are unseen, rare or frequent in training. Default: "
            "guessed from the names of columns; none: no users."
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
    "backbone (sizes default to the published ones, or else to those below)": (*(_CTRFlags, BackboneArguments),),
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
        # TrainingArguments would write into a folder that nobody named
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
        # With ZeRO-3, models would be built in parts from here on; the trainer divides them.
        unset_hf_deepspeed_config()
        return parsed
