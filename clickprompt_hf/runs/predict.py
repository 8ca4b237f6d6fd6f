# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Score raw rows with a trained checkpoint.

    clickprompt predict --model OUT --input rows.csv --output scores.csv

Reads CSV, JSON lines or Parquet files of any size and writes the same rows in the same order with one more column,
click_probability. Labels are not needed. Unseen and missing values are scored too. Run an interrupted command again
to resume it. accelerate launch -m clickprompt_hf.runs.predict shares the work among several processes.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch.distributed.distributed_c10d import _set_pg_timeout
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoProcessor
from transformers.utils import logging

from ..data.drift import FieldDrift
from ..data.number_ranges import NumberRange, check_numbers
from ..data.table_files import ENDINGS, open_table_file, table_kind
from ..data.table_pieces import ENDINGS_WRITTEN, table_format
from ..data.text_states import StateType
from ..data.text_vectors import StoredTextEncoder
from ..pipeline_clickprompt import scoring_batch_size
from ..processing_clickprompt import ClickPromptProcessor
from ..recent_texts import DEFAULT_MEGABYTES, RecentTexts, reads_states
from ..schema_clickprompt import CsvFormat
from ..scoring import StoredTexts, score_file
from .backbone_modules import add_backbone_module, import_backbone_module
from .command import CommandParser, run_command
from .csv_options import add_csv_options, csv_format_of
from .joined_files import JOIN_HELP, add_join_option, refresh_tables, tables_of_flags
from .paths import check_folder_or_hub_id

logger = logging.get_logger(__name__)

# Fields in the table of drift.
_MOST_FIELDS = 30

_ROWS = NumberRange(1, 100_000_000, whole=True, also=(None,))
RANGES = {"batch_size": _ROWS, "piece_rows": _ROWS, "text_state_memory": NumberRange(0, 1e9, also=(None,))}


def make_parser() -> CommandParser:
    """The parser of `clickprompt predict`."""
    parser = CommandParser("predict", __doc__, "--model MODEL --input FILE --output FILE [options]")
    parser.add_argument("--model", required=True, help="checkpoint: a folder or Hub id")
    parser.add_argument("--input", required=True, type=Path, help=f"rows: a file that ends in {ENDINGS}")
    parser.add_argument(
        "--output", required=True, type=Path, help=f"rows and probabilities: a file that ends in {ENDINGS_WRITTEN}"
    )
    parser.add_argument("--batch_size", type=int, help="rows per batch; default: 256, or 4,096 without a PLM")
    parser.add_argument(
        "--piece_rows",
        type=int,
        help="rows in memory at a time, and the most that an interruption loses; default: 16,384, or 131,072 "
        "without a PLM",
    )
    parser.add_argument(
        "--text_state_memory",
        type=float,
        help="megabytes per process for the states of recent texts, so that language model layers below the "
        f"prompts run once per text; 0: run them for every row; default: {DEFAULT_MEGABYTES}",
    )
    parser.add_argument(
        "--text_state_dir",
        type=Path,
        help="folder of text states saved by finetuning with --cache_text_states",
    )
    parser.add_argument(
        "--text_state_dtype",
        choices=get_args(StateType),
        default="fp32",
        help="type of the states in --text_state_dir (default: %(default)s)",
    )
    parser.add_argument(
        "--text_vector_dir",
        type=Path,
        help="folder that keeps vectors of texts for later runs, e.g. _text_vectors in the output folder of "
        "finetuning; default: each run computes the vectors of its texts",
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bf16")
    add_join_option(parser, JOIN_HELP)
    add_backbone_module(parser)
    add_csv_options(parser, "CSV dialect of the input; default: the checkpoint's schema")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Score a file.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the data is wrong.
        OSError: If a file or the checkpoint is missing.
    """
    args = make_parser().parse_args(arguments)
    check_numbers(args, RANGES)
    check_files(args.input, args.output)
    check_folder_or_hub_id(args.model, "--model")

    # 1. The processes: one, or those of accelerate launch or torchrun.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu)
    if state.num_processes > 1:
        # Once all have started, one may finish hours before another. If a process dies, its connections close.
        _set_pg_timeout(timedelta(days=30))

    # 2. The checkpoint: a processor that reads raw rows, and a model.
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    processor = AutoProcessor.from_pretrained(args.model)
    refresh_tables(args.join, processor)
    model = load_model(args.model).to(state.device)

    if args.text_vector_dir is not None:
        if processor.text_encoder is None:
            logger.warning("--text_vector_dir has no effect: the checkpoint turns no text into a vector.")
        else:
            processor.text_encoder = StoredTextEncoder.of(processor.text_encoder, args.text_vector_dir)
    memory = DEFAULT_MEGABYTES if args.text_state_memory is None else args.text_state_memory
    if args.text_state_dir is not None:
        recent_texts: RecentTexts = StoredTexts(model, args.text_state_dir, args.text_state_dtype, memory)
    else:
        recent_texts = RecentTexts(memory)
        if args.text_state_memory is not None and not reads_states(model.config):
            logger.warning(
                "--text_state_memory has no effect: it needs a model with layers below the prompts (prompt_depth)."
            )

    # 3. Piece by piece: read, score, write. The output gets its name once it is complete.
    csv_format = csv_format_of(args, processor.schema.csv)
    if state.is_main_process:
        warn_of_unused_joins(args.join, args.input, csv_format, processor)
    batch_size, piece_rows = scoring_batch_size(model.config), 16_384 if model.config.use_plm else 131_072
    drifts = score_file(
        args.input,
        args.output,
        processor,
        model,
        batch_size if args.batch_size is None else args.batch_size,
        piece_rows if args.piece_rows is None else args.piece_rows,
        args.bf16,
        csv_format,
        recent_texts,
    )
    if drifts:
        print(drift_table(drifts))
    if state.num_processes > 1:
        # gloo aborts a process now and then that exits while it is connected to others
        state.wait_for_everyone()
        state.destroy_process_group()


def warn_of_unused_joins(
    joins: Sequence[Sequence[str]], source: Path, csv_format: CsvFormat | None, processor: ClickPromptProcessor
) -> None:
    """Warn about tables that are not looked up, because the rows have their columns.

    Args:
        joins: The values of each `--join`.
        source: The file of rows.
        csv_format: How it is written, if it is a CSV file.
        processor: The model's processor.
    """
    if not joins:
        return
    looked_up = processor.columns_to_join(dict.fromkeys(open_table_file(source, csv_format).schema.names)).values()
    for table, _ in tables_of_flags(joins):
        if table.key not in looked_up:
            logger.warning(f"--join {table.file} {table.key} has no effect: {source} has the table's columns itself.")


def drift_table(drifts: Sequence[FieldDrift]) -> str:
    """How scored values differ from training values, as lines of text, the fields that changed most first."""
    known = [drift for drift in drifts if drift.values]
    order = sorted(known, key=lambda drift: (-(drift.stability_index or 0), -(drift.unseen + drift.missing)))
    lines: list[tuple[str, ...]] = [("field", "unseen", "in training", "missing", "in training", "stability index")]
    for drift in order[:_MOST_FIELDS]:
        shares = (drift.unseen, drift.trained_unseen, drift.missing, drift.trained_missing)
        index = "" if drift.stability_index is None else f"{drift.stability_index:.3f}"
        lines.append((drift.key, *("" if share is None else f"{share:.1%}" for share in shares), index))
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
        for line in lines
    ]
    if len(order) > _MOST_FIELDS:
        text.append(f"and {len(order) - _MOST_FIELDS:,} more that changed less")
    return "\n".join(["Values of the scored rows, next to the training rows:", *text])


def check_files(source: Path, target: Path) -> None:
    """Reject files that cannot be read or written, before the model is loaded.

    Raises:
        ValueError: If a name has an unknown ending, or both are the same file.
        OSError: If the input is missing or the output cannot be written.
    """
    if table_kind(source) is None:
        raise ValueError(f"--input must end in {ENDINGS}, got {source.name!r}")
    try:
        table_format(target)
    except ValueError as error:
        raise ValueError(f"--output {error}") from error
    if not source.is_file():
        raise FileNotFoundError(f"--input must be a file, but there is no {source}")
    if target.exists() and target.samefile(source):
        raise ValueError(f"--output must differ from --input, got {target} for both")
    if not target.parent.is_dir() or target.is_dir():
        raise FileNotFoundError(f"--output must be a file in an existing folder, got {target}")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"--output must be in a writable folder, got {target}")


def load_model(name_or_path: str, argument: str = "--model") -> Any:
    """Load the click model of a checkpoint with trained heads: untrained ones would score at random.

    Args:
        name_or_path: Folder or Hub id of the checkpoint.
        argument: The argument it was given as, for messages.

    Raises:
        ValueError: If the checkpoint has no trained heads, or its weights are not whole.
    """
    # before the weights are loaded, which would report the missing ones
    check_finetuned(name_or_path, argument)
    model: Any = AutoModelForSequenceClassification.from_pretrained(name_or_path)
    if fresh := model.fresh_weights:
        raise ValueError(
            f"{argument} must be finetuned for clicks, but {name_or_path} lacks {list(fresh)}. "
            "Finetune it with clickprompt finetune first."
        )
    return model


def check_finetuned(name_or_path: str, argument: str) -> None:
    """Reject a pretraining checkpoint, by its configuration.

    Args:
        name_or_path: Folder or Hub id of the checkpoint.
        argument: The argument it was given as, for the message.

    Raises:
        ValueError: If it is one.
    """
    architectures = AutoConfig.from_pretrained(name_or_path).architectures or []
    if pretraining := {"ClickPromptForPAMLM", "ClickPromptForPACLM"} & set(architectures):
        raise ValueError(
            f"{argument} must be finetuned for clicks, but {name_or_path} is a pretraining checkpoint "
            f"({pretraining.pop()}). Finetune it with clickprompt finetune first."
        )


if __name__ == "__main__":
    run_command("predict", main)
