# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Entry point of the command `clickprompt`.

Once it is imported, the package loads its public names on first use, so that help and version are printed without
loading torch. It is outside the package because it must be imported first.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run a subcommand: see `clickprompt_hf.cli.main`."""
    from clickprompt_hf.cli import main as run

    run(arguments)
