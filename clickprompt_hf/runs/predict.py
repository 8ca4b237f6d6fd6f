"""Score raw rows with a trained checkpoint.

    python examples/predict.py --model OUT --input rows.csv --output scores.csv

Reads .csv, .csv.gz or .parquet, of any size, and writes the same rows in the same order with one more column,
`click_probability`. No labels are needed. Unseen and missing values are scored as such. A run that was cut off goes on
when the same command is given again. With `accelerate launch` in front several processes share the work.
"""

import argparse
import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from transformers import AutoModelForSequenceClassification, AutoProcessor

# importing the package makes the Auto classes know ClickPrompt
from ..data.table_pieces import table_format
from ..pipeline_clickprompt import default_batch_size
from ..scoring import score_file
from .backbone_modules import import_backbone_module
from .paths import check_folder_or_hub_id


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="checkpoint folder or Hub id")
    parser.add_argument("--input", required=True, type=Path, help="rows: .csv, .csv.gz or .parquet")
    parser.add_argument("--output", required=True, type=Path, help="rows and probabilities: .csv, .csv.gz, .parquet")
    parser.add_argument("--batch_size", type=int, help="256 by default; 4,096 for a model without a PLM")
    parser.add_argument(
        "--piece_rows",
        type=int,
        help="rows in memory at a time, of which a run that is cut off loses as many; 16,384 by default, 131,072 for "
        "a model without a PLM",
    )
    parser.add_argument("--bf16", action="store_true", help="multiply in bf16")
    parser.add_argument("--backbone_module", help="Python file or module that registers the model's own backbone")
    args = parser.parse_args(arguments)
    for name in ("input", "output"):
        try:
            table_format(getattr(args, name))
        except ValueError as error:
            parser.error(f"--{name} {error}")
    if not args.input.is_file():
        parser.error(f"--input must be a file, got {args.input}")
    if args.output.exists() and args.output.samefile(args.input):
        parser.error(f"--output must be another file than --input, got {args.output} for both")
    if not args.output.parent.is_dir() or args.output.is_dir():
        parser.error(f"--output must be a file in a folder that exists, got {args.output}")
    if not os.access(args.output.parent, os.W_OK):
        parser.error(f"--output must be in a folder that can be written to, got {args.output}")
    check_folder_or_hub_id(args.model, "--model")

    # 1. The processes: one, or those of accelerate launch or torchrun. One may finish hours before another.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu, timeout=timedelta(days=30))

    # 2. The checkpoint: a processor that reads raw rows, and a model.
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    processor = AutoProcessor.from_pretrained(args.model)
    model = load_model(args.model).to(state.device)

    # 3. Piece by piece: read, score, write. The output appears under its name once it is whole.
    batch_size, piece_rows = default_batch_size(model.config), 16_384 if model.config.use_plm else 131_072
    score_file(
        args.input,
        args.output,
        processor,
        model,
        batch_size if args.batch_size is None else args.batch_size,
        piece_rows if args.piece_rows is None else args.piece_rows,
        args.bf16,
    )


def load_model(name_or_path: str) -> torch.nn.Module:
    """The click model of a checkpoint, whose heads must be trained: fresh ones would score at random."""
    model, info = AutoModelForSequenceClassification.from_pretrained(name_or_path, output_loading_info=True)
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"--model must be finetuned for clicks, but {name_or_path} is a pretraining checkpoint: it lacks "
            f"{missing}. Finetune it with run_ctr.py first."
        )
    return model


if __name__ == "__main__":
    main()
