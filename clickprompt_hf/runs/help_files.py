# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the help text of each command to a file, which `clickprompt COMMAND --help` prints without loading torch.

    python -m clickprompt_hf.runs.help_files

Run it after changing a flag; a test compares the files with the parsers.
"""

import importlib
from pathlib import Path

from .command import COMMANDS, module_name

FOLDER = Path(__file__).parent / "help"


def help_text(command: str) -> str:
    """The help text that the parser of a command generates."""
    return importlib.import_module(module_name(command)).make_parser().format_help()


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for command in COMMANDS:
        (FOLDER / f"{command}.txt").write_text(help_text(command), encoding="utf-8")


if __name__ == "__main__":
    main()
