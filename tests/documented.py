"""The code blocks of the documentation, and how they run: in this process, at tiny size, on imitations of the data.

A block that cannot be run says so in front: `<!-- not run: the reason -->`.
"""

import importlib
import io
import re
import shlex
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from accelerate.commands.launch import launch_command_parser

from clickprompt_hf import Schema

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<not_run>[^\n]+) -->\n)?^```(?P<language>\w*)(?P<options>[^\n]*)\n(?P<code>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
# Equations, and what a program prints.
NOT_CODE = ("math", "text")

QUICK = ["--num_train_epochs", "1", "--per_device_train_batch_size", "32", "--gradient_accumulation_steps", "1"]
QUICK += ["--report_to", "none", "--disable_tqdm", "true", "--dataloader_num_workers", "0"]
FEW_ROWS = ["--max_train_rows", "64"]
QUICK_DEMO = ["--seeds", "0", "--pamlm_epochs", "1", "--plm_epochs", "1", "--ctr_epochs", "1", "--prompt_length", "1"]
# What is added to a command's arguments: the last one of a name counts.
ADDED = {
    "runs.pretrain": [*QUICK, *FEW_ROWS],
    "runs.finetune": QUICK,
    "runs.demo": [*QUICK_DEMO, *FEW_ROWS, "--report_to", "none", "--disable_tqdm", "true"],
    "quality": ["--backbones", "dcnv2", "--seeds", "1", *QUICK, *FEW_ROWS],
    **{name: ["--quick"] for name in ("ctr_only", "data", "export", "finetune", "growth", "inference", "pamlm")},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: Path of the page from the repository's root.
        line: Its first line.
        language: After the fence.
        options: After the language.
        code: The content.
        not_run: Why it is not run, if so.
    """

    page: str
    line: int
    language: str
    options: str
    code: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def quoted_file(self) -> str | None:
        """The file that the block is a quotation of, by its title."""
        title = re.search(r'title="([^"]+\.py)"', self.options)
        return title and title[1]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("language")) + 1, m["language"], m["options"], m["code"], m["not_run"])
        for m in FENCE.finditer(text)
    ]


def is_quotation(block: Block) -> bool:
    """Whether the block's lines stand in the file that its title names, at whatever depth."""
    source = (ROOT / str(block.quoted_file)).read_text(encoding="utf-8")
    return any(textwrap.indent(block.code, " " * depth) in source for depth in range(0, 20, 4))


def run(block: Block, namespace: dict[str, Any], replaced: dict[str, str]) -> None:
    """Runs a block in the working directory, after replacing texts by others; python blocks share a namespace."""
    if block.not_run or block.language in NOT_CODE:
        return
    if block.quoted_file:
        assert is_quotation(block), f"{block.place} does not stand in {block.quoted_file} any more"
        return
    code = block.code
    for text, other in replaced.items():
        code = code.replace(text, other)
    if block.language == "python":
        exec(compile(code, block.place, "exec"), namespace)
    elif block.language == "bash":
        for words in commands(code):
            run_command(words, block.place)
    elif block.language == "yaml":
        Schema.from_dict(yaml.safe_load(code))
        Path("schema.yaml").write_text(code, encoding="utf-8")
    else:
        raise AssertionError(f"{block.place}: no way to run {block.language!r}; say why with <!-- not run: ... -->")


def commands(code: str) -> Iterator[list[str]]:
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str], place: str) -> None:
    """`python SCRIPT`, `python -m MODULE` or `accelerate launch SCRIPT`, `> FILE` behind it or not."""
    written = None
    if ">" in words:
        written = Path(words[words.index(">") + 1])
        words = words[: words.index(">")]
    if words[:2] == ["accelerate", "launch"]:
        # what would start the processes is read, and no more
        launch = launch_command_parser().parse_args(words[2:])
        assert launch.config_file is None or Path(launch.config_file).is_file(), f"{place}: no {launch.config_file}"
        words = ["python", launch.training_script, *launch.training_script_args]
    if words[0] != "python":
        raise AssertionError(f"{place}: no way to run {words[0]!r}; say why with <!-- not run: ... -->")
    name, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    if words[1] != "-m":
        assert (ROOT / name).is_file(), f"{place}: there is no {name}"
        # the scripts of `examples` are commands of the package
        name = {"run_pamlm": "pretrain", "run_ctr": "finetune"}.get(Path(name).stem, Path(name).stem)
        name = f"clickprompt_hf.runs.{name}" if "examples" in words[1] else name
    module = importlib.import_module(name)
    name = name.removeprefix("clickprompt_hf.")
    printed = io.StringIO()
    with redirect_stdout(printed) if written else nullcontext():
        if module.main.__module__ == "plm_steps":
            module.main(name, module.__doc__, [*arguments, *ADDED[name]])
        else:
            module.main([*arguments, *ADDED.get(name, [])])
    if written:
        written.write_text(printed.getvalue(), encoding="utf-8")


class InThisProcess:
    """In the place of a `ProcessPoolExecutor`: runs what is submitted at once."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def submit(self, function, *args: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*args))
        return future
