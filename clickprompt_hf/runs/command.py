# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Shared by all commands: parsing arguments, reporting a user's mistake, showing warnings.

Loads neither torch nor transformers, so that `clickprompt --help` answers at once.
"""

import argparse
import difflib
import dis
import gc
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

PROGRAM = "clickprompt"
# The subcommands and what they do.
COMMANDS = {
    "pretrain": "stage 1: prompt-augmented masked language modeling (PA-MLM), or PA-CLM for a decoder",
    "finetune": "stage 2: finetune for clicks, with or without the PLM",
    "predict": "score raw rows with a trained checkpoint",
    "compare": "compare models with and without a PLM on a table, equally tuned, and report what pays",
    "compare-scores": "compare the click probabilities of two models on the same rows",
    "draft-schema": "draft a schema for a table",
    "export": "export a checkpoint, or its CTR part alone, to ONNX",
    "serve": "serve click probabilities of raw rows over HTTP",
    "convert": "convert a checkpoint of the authors' implementation",
    "app": "inspect a trained checkpoint on a local web page",
    "demo": "run both stages on generated data",
}
# Those that load torch and the Auto classes only if their arguments ask for it.
COMMANDS_WITHOUT_TORCH = ("serve",)
MISTAKE_EXIT_CODE = 2
# Exit code that shells give a program ended by Ctrl-C: 128 + SIGINT.
INTERRUPT_EXIT_CODE = 130
# How to continue after Ctrl-C.
_HOW_TO_CONTINUE = {
    "compare": " Run the same command again: finished trials and seeds are kept.",
    "predict": " Run the same command again: finished pieces are kept.",
    "pretrain": " The same command with --resume_from_checkpoint true continues from the last checkpoint.",
    "finetune": " The same command with --resume_from_checkpoint true continues from the last checkpoint.",
}
# Longer than a launcher needs to end the other processes once the first one has reported a mistake.
_SECONDS_FOR_FIRST_PROCESS = 5


def module_name(command: str) -> str:
    """The module of a subcommand."""
    return f"clickprompt_hf.runs.{command.replace('-', '_')}"


def run_command(name: str, main: Callable[[list[str]], Any], arguments: list[str] | None = None) -> None:
    """Run a command; a user's mistake prints one message and exits with code 2, and Ctrl-C one with code 130.

    `--debug` among the arguments shows the traceback. Bugs always show theirs.

    Args:
        name: The subcommand, as messages show it.
        main: Takes the arguments and raises on mistakes.
        arguments: Arguments after the command; `None` for `sys.argv`.
    """
    debug, others = without_debug(sys.argv[1:] if arguments is None else arguments)
    # `Trainer` collects garbage twice per training: visiting what was imported takes longer than training a tiny table
    gc.freeze()
    with short_warnings():
        try:
            main(others)
        except Exception as error:
            if debug or not is_mistake(error):
                raise
            report_mistake(name, error)
        except KeyboardInterrupt:
            if debug:
                raise
            print(f"\n{PROGRAM} {name}: interrupted.{_HOW_TO_CONTINUE.get(name, '')}", file=sys.stderr)
            sys.exit(INTERRUPT_EXIT_CODE)


def without_debug(arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether `--debug` is among the arguments, and the others."""
    values = [*arguments[1:], ""]
    # the flag of the same name in TrainingArguments takes a value
    others = [
        argument
        for argument, value in zip(arguments, values)
        if argument != "--debug" or value in ("underflow_overflow", "tpu_metrics_debug")
    ]
    return len(others) < len(arguments), others


def is_mistake(error: Exception) -> bool:
    """Whether an error is the user's mistake, not a bug."""
    if isinstance(error, ImportError):
        # raised for a missing extra; a failed import statement names its module
        return error.name is None
    if isinstance(error, TypeError):
        # a checked argument is quoted; the interpreter's own messages start differently
        return str(error).startswith("`")
    if type(error) is ValueError:
        return _was_raised_by_statement(error)
    return isinstance(error, (ValueError, OSError))


def _was_raised_by_statement(error: Exception) -> bool:
    """Whether a `raise` statement raised an error, instead of the interpreter or C code, as for unequal shapes."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    # the code of C extensions that have frames is empty
    code = b"" if tb is None else tb.tb_frame.f_code.co_code[tb.tb_lasti : tb.tb_lasti + 1]
    return bool(code) and dis.opname[code[0]] == "RAISE_VARARGS"


def report_mistake(name: str, error: Exception) -> NoReturn:
    """Print the message of a mistake, once for all processes of a launch, and exit with code 2."""
    if int(os.environ.get("RANK", "0")) > 0:
        # the first process has probably reported the same mistake; the launcher then ends this one while it waits
        time.sleep(_SECONDS_FOR_FIRST_PROCESS)
    print(f"{PROGRAM} {name}: error: {error}", file=sys.stderr)
    sys.exit(MISTAKE_EXIT_CODE)


@contextmanager
def short_warnings() -> Iterator[None]:
    """Show warnings without their line of source code."""
    shown = warnings.formatwarning
    warnings.formatwarning = lambda message, *source, **line: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = shown


def require(modules: list[str], extra: str, feature: str) -> None:
    """Check that an extra is installed.

    Args:
        modules: The modules it installs.
        extra: The extra of this package.
        feature: What needs it, as the start of the message.

    Raises:
        ImportError: If a module is missing; the message names the extra.
    """
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        verb = "which is" if len(missing) == 1 else "which are"
        raise ImportError(
            f'{feature} needs {", ".join(missing)}, {verb} not installed: pip install "clickprompt_hf[{extra}]"'
        )


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help in 100 columns, whatever the terminal, with one spelling per option."""

    def __init__(self, prog: str, **kwargs: Any):
        super().__init__(prog, max_help_position=28, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        if isinstance(action, argparse._HelpAction):
            return ", ".join(action.option_strings)
        arguments = "" if action.nargs == 0 else f" {self._format_args(action, self._default_metavar(action))}"
        return action.option_strings[0] + arguments

    @staticmethod
    def _default_metavar(action: argparse.Action) -> str:
        if getattr(action.type, "__name__", "") == "string_to_bool":
            return "{true,false}"
        names: dict[Any, str] = {int: "N", float: "X"}
        return names.get(action.type, action.dest.rpartition("_")[2].upper())


class CommandParser(argparse.ArgumentParser):
    """Parser of one command, which raises on mistakes instead of exiting.

    Args:
        command: The subcommand.
        description: Its help, usually the docstring of its module.
        usage: Its required arguments.
    """

    def __init__(self, command: str, description: str | None, usage: str, **kwargs: Any):
        super().__init__(
            prog=f"{PROGRAM} {command}",
            usage=f"{PROGRAM} {command} {usage}",
            description=description,
            formatter_class=HelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the mistake that argparse found.

        Raises:
            ValueError: Always.
        """
        raise ValueError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments.

        Raises:
            ValueError: If one is missing, unknown or wrong.
        """
        given = sys.argv[1:] if args is None else list(args)
        try:
            parsed, unknown = self.parse_known_args(given, namespace)
        except ValueError:
            # a misspelt flag explains why a required one is missing
            flags = [argument for argument in given if argument.startswith("--")]
            self.refuse_unknown([flag for flag in flags if flag.partition("=")[0] not in self._option_string_actions])
            raise
        self.refuse_unknown(unknown)
        return parsed

    def refuse_unknown(self, unknown: list[str]) -> None:
        """Reject unknown arguments and suggest the likeliest ones.

        Raises:
            ValueError: If there are any.
        """
        if not unknown:
            return
        known = [option for action in self._actions for option in action.option_strings]
        flags = [argument.partition("=")[0] for argument in unknown if argument.startswith("-")]
        likely = [match for flag in flags for match in difflib.get_close_matches(flag, known, n=1, cutoff=0.7)]
        hint = f"Did you mean {' or '.join(likely)}?" if likely else f"See {self.prog} --help."
        raise ValueError(f"unknown arguments: {' '.join(unknown)}. {hint}")
