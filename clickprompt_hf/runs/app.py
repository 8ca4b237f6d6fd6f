# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Look inside a trained checkpoint on a local web page.

    clickprompt app --model OUT

Opens on http://127.0.0.1:7860: a row to fill in, its click probability, what the CTR side and the text side add to it,
how it changes when one field changes, and how much attention each layer of the language model pays to the prompts.
Works with any click model, with or without a language model. Nothing leaves this machine.
Needs pip install "clickprompt_hf[app]".
"""

from ..data.number_ranges import NumberRange
from .backbone_modules import add_backbone_module, import_backbone_module
from .command import CommandParser, require, run_command
from .paths import check_folder_or_hub_id


def make_parser() -> CommandParser:
    """The parser of `clickprompt app`."""
    parser = CommandParser("app", __doc__, "--model MODEL [options]")
    parser.add_argument("--model", required=True, help="checkpoint finetuned for clicks: a folder or Hub id")
    parser.add_argument("--port", type=int, default=7860, help="port on this machine (default: %(default)s)")
    add_backbone_module(parser)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until interrupted.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the checkpoint is wrong.
        OSError: If the checkpoint is missing or the port is taken.
        ImportError: If the extra app is missing.
    """
    args = make_parser().parse_args(arguments)
    NumberRange(0, 65_535, whole=True).check("port", args.port)
    require(["gradio"], "app", "The page")
    check_folder_or_hub_id(args.model, "--model")
    if args.backbone_module:
        import_backbone_module(args.backbone_module)
    # needs gradio
    from .app_page import launch

    launch(args.model, args.port)


if __name__ == "__main__":
    run_command("app", main)
