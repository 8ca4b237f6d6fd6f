# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The command `clickprompt`: one subcommand per module of `clickprompt_hf.runs`.

Help and version are printed without loading torch.
"""

import difflib
import importlib
import sys
from pathlib import Path

import clickprompt_hf

from .runs.command import COMMANDS, COMMANDS_WITHOUT_TORCH, MISTAKE_EXIT_CODE, PROGRAM, module_name, run_command

# Written by clickprompt_hf.runs.help_files.
HELP_FOLDER = Path(__file__).parent / "runs" / "help"


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand, or print help or the version.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.
    """
    name, *others = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name == "--version":
        print(f"{PROGRAM} {clickprompt_hf.__version__}")
    elif name in ("-h", "--help"):
        print(usage())
    elif name not in COMMANDS:
        likely = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {likely[0]}?" if likely else ""
        print(f"{PROGRAM}: error: {name!r} must be one of {', '.join(COMMANDS)}.{hint}", file=sys.stderr)
        sys.exit(MISTAKE_EXIT_CODE)
    elif {"-h", "--help"} & set(others):
        print((HELP_FOLDER / f"{name}.txt").read_text(encoding="utf-8"), end="")
    else:
        if name not in COMMANDS_WITHOUT_TORCH:
            # registers the Auto classes
            importlib.import_module("clickprompt_hf.public_names")
        run_command(name, importlib.import_module(module_name(name)).main, others)


def usage() -> str:
    """The help of the command without a subcommand."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: {PROGRAM} COMMAND [options]\n\nClickPrompt: click-through-rate prediction with a language model.\n\n"
        f"commands:\n{commands}\n\noptions:\n  -h, --help  show this message, or the help of a command, and exit\n"
        "  --version   show the version and exit\n  --debug     show the traceback of an error (any command)\n\n"
        f"{PROGRAM} COMMAND --help describes a command."
    )


if __name__ == "__main__":
    main()
