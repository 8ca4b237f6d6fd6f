# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Show any value in Markdown as it is."""

import re
from typing import Any

# What starts markup in Markdown, except in words, as underscores do.
_MARKUP = re.compile(r"[\\`*\[\]|~$!]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(value: Any) -> str:
    """`value` as one line of Markdown, also for a cell of a table, that shows it as it is: no markup, no HTML."""
    line = " ".join(str(value).split())
    line = _MARKUP.sub(r"\\\g<0>", "".join(_ENTITIES.get(character, character) for character in line))
    # a heading, a list or a rule at the start of the line
    return re.sub(r"^[#+=-]", r"\\\g<0>", line)


def code(value: Any, in_table: bool = False) -> str:
    """`value` as code in a line of Markdown; as escaped text if it holds what a code span could not."""
    line = " ".join(str(value).split())
    if not line or re.search(r"[`<>]", line) or (in_table and "\\" in line):
        return escaped(line)
    # in a table, a bar ends the cell even within code
    return "`{}`".format(line.replace("|", "\\|") if in_table else line)
