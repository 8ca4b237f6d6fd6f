# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Convert a checkpoint of the authors' implementation.

    clickprompt convert pytorch_model.bin original.json OUT

original.json describes the checkpoint: config (backbone and fusion), model_args (pooling, weighted sum), plm_config,
task (ctr or mlm) and field_sizes (number of ids per field).
"""

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..export.convert_original import convert_original_checkpoint
from .command import CommandParser, run_command

KEYS = ("config", "model_args", "plm_config", "task", "field_sizes")


def make_parser() -> CommandParser:
    """The parser of `clickprompt convert`."""
    parser = CommandParser("convert", __doc__, "CHECKPOINT ORIGINAL OUTPUT_DIR")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="pytorch_model.bin or a .safetensors file")
    parser.add_argument("original", metavar="ORIGINAL", type=Path, help="JSON file with its training settings")
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", type=Path, help="folder of the converted checkpoint")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Convert a checkpoint and save it.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If a setting has no counterpart or a tensor does not fit.
        OSError: If a file is missing.
    """
    args = make_parser().parse_args(arguments)
    try:
        original = json.loads(args.original.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{args.original} must be a JSON file: {error}") from error
    if not isinstance(original, dict):
        raise ValueError(f"{args.original} must hold a mapping, got {original!r:.200}.")
    if missing := [name for name in KEYS if name not in original]:
        raise ValueError(f"{args.original} must hold {', '.join(KEYS)}; lacks {missing}")
    try:
        if args.checkpoint.suffix == ".safetensors":
            state_dict = load_file(args.checkpoint)
        else:
            state_dict = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{args.checkpoint} must hold complete weights and nothing else: {error}") from error
    state_dict = {name.removeprefix("model."): tensor for name, tensor in state_dict.items()}
    model = convert_original_checkpoint(state_dict, original)
    model.save_pretrained(args.output_dir)
    print(f"{type(model).__name__} in {args.output_dir}")


if __name__ == "__main__":
    run_command("convert", main)
