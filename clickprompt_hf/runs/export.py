# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Export the CTR part of a checkpoint, to serve it without the PLM and without torch.

    clickprompt export CHECKPOINT FOLDER

docs/serving.md describes the files in FOLDER and how to serve them. Needs pip install "clickprompt_hf[onnx]".
"""

from pathlib import Path

from ..export.export_ctr import TORCH_FILE, export_ctr
from .backbone_modules import import_backbone_module
from .command import CommandParser, require, run_command
from .paths import check_folder_or_hub_id


def make_parser() -> CommandParser:
    """The parser of `clickprompt export`."""
    parser = CommandParser("export", __doc__, "CHECKPOINT FOLDER [options]")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint finetuned for clicks: a folder or Hub id")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="output folder, new or empty")
    parser.add_argument("--torch_program", action="store_true", help=f"also write {TORCH_FILE} for torch.export.load")
    parser.add_argument("--backbone_module", help="Python file or module that registers the model's custom backbone")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Export a checkpoint and list the files written.

    Args:
        arguments: The command line; `None` for that of the process.

    Raises:
        ValueError: If an argument or the checkpoint is wrong.
        OSError: If the checkpoint is missing or the folder is not empty.
        ImportError: If the extra onnx is missing.
    """
    args = make_parser().parse_args(arguments)
    require(["onnx", "onnxscript", "onnxruntime"], "onnx", "The export")
    check_folder_or_hub_id(args.checkpoint, "checkpoint")
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    export_ctr(args.checkpoint, args.folder, with_torch_program=args.torch_program)
    for path in sorted(args.folder.iterdir()):
        print(f"{path.stat().st_size:>12,} {path}")


if __name__ == "__main__":
    run_command("export", main)
