# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Export the CTR part of a checkpoint, to serve it without the PLM and without torch, or the whole model.

    clickprompt export CHECKPOINT FOLDER
    clickprompt export CHECKPOINT FOLDER --id_table_dtype int8
    clickprompt export CHECKPOINT FOLDER --with_plm

docs/serving.md describes the files in FOLDER and how to serve them. Needs pip install "clickprompt_hf[onnx]".
"""

from pathlib import Path
from typing import get_args

from ..export.export_ctr import TORCH_FILE, export_ctr
from ..export.export_plm import export_plm
from ..export.id_tables import IdTableDtype
from ..processor_files_clickprompt import read_processor_config
from ..schema_clickprompt import Schema
from .backbone_modules import add_backbone_module, import_backbone_module
from .command import CommandParser, require, run_command
from .paths import check_folder_or_hub_id


def make_parser() -> CommandParser:
    """The parser of `clickprompt export`."""
    parser = CommandParser("export", __doc__, "CHECKPOINT FOLDER [options]")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint finetuned for clicks: a folder or Hub id")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="output folder; must be new or empty")
    parser.add_argument("--with_plm", action="store_true", help="export the model with its PLM")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="with --with_plm: 8-bit weights, a quarter of the size; changes probabilities",
    )
    parser.add_argument(
        "--id_table_dtype",
        choices=get_args(IdTableDtype),
        default="float32",
        help="without --with_plm: type of the id embedding tables; bfloat16 halves their size, int8 quarters it; "
        "both change probabilities slightly (default: %(default)s)",
    )
    parser.add_argument("--torch_program", action="store_true", help=f"also write {TORCH_FILE} for torch.export.load")
    add_backbone_module(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Export a checkpoint and list the files written.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the checkpoint is wrong.
        OSError: If the checkpoint is missing or the folder is not empty.
        ImportError: If the extra onnx is missing.
    """
    args = make_parser().parse_args(arguments)
    if args.int8 and not args.with_plm:
        raise ValueError("`int8` needs --with_plm. Without the PLM, --id_table_dtype int8 shrinks the id tables.")
    if args.torch_program and args.with_plm:
        raise ValueError("`torch_program` must be left out with --with_plm: it is the program of the CTR part alone.")
    if args.with_plm and args.id_table_dtype != "float32":
        raise ValueError(
            f"`id_table_dtype` must be left out with --with_plm, got {args.id_table_dtype!r}: --int8 shrinks the "
            "whole model, its id tables included."
        )
    require(["onnx", "onnxscript", "onnxruntime"], "onnx", "The export")
    check_folder_or_hub_id(args.checkpoint, "checkpoint")
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    if args.with_plm:
        difference = export_plm(args.checkpoint, args.folder, args.int8)
    else:
        difference = export_ctr(args.checkpoint, args.folder, args.torch_program, args.id_table_dtype)
    print(f"On random rows, probabilities differ from the checkpoint's by at most {difference:.1g}.")
    print_files(args.folder)
    schema = Schema.from_dict(read_processor_config(args.folder)["schema"])
    columns = ", ".join(field.column for field in schema.fields if field.as_vector)
    # with the PLM, texts become vectors when rows are read
    if columns and not args.with_plm:
        print(
            f"scorer.py has no PLM: its rows need the text encoder's vectors in {columns}. `clickprompt predict`, "
            f"`clickprompt serve` and the pipeline make them of texts, given {args.checkpoint}."
        )


def print_files(folder: Path) -> None:
    """Print sizes and paths of what is in a folder, its dozens of Python modules in one line."""
    files = sorted(folder.iterdir())
    code = [path for path in files if path.suffix == ".py"]
    for path in files:
        if path not in code:
            inside = [path, *path.rglob("*")]
            print(f"{sum(file.stat().st_size for file in inside if file.is_file()):>12,} {path}")
    print(f"{sum(path.stat().st_size for path in code):>12,} {folder / '*.py'}: {len(code)} modules")


if __name__ == "__main__":
    run_command("export", main)
