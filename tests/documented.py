"""Find the code blocks of the documentation and run them: in this process, at tiny size, on imitation data.

A block that cannot run is preceded by `<!-- not run: the reason -->`.
"""

import importlib
import importlib.util
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
# Equations and program output.
NOT_CODE = ("math", "text")

QUICK = ["--num_train_epochs", "1", "--per_device_train_batch_size", "32", "--gradient_accumulation_steps", "1"]
QUICK += ["--report_to", "none", "--disable_tqdm", "true", "--dataloader_num_workers", "0"]
FEW_ROWS = ["--max_train_rows", "64"]
# test_demo.py and test_publishing.py draw them
NO_PLOTS = ["--report_plots", "false"]
QUICK_DEMO = ["--seeds", "0", "--pamlm_epochs", "1", "--plm_epochs", "1", "--ctr_epochs", "1", "--prompt_length", "1"]
# Appended to the arguments of a command; those of other benchmarks get --quick. If a flag is given twice, the last one
# counts.
ADDED = {
    "runs.pretrain": [*QUICK, *FEW_ROWS, *NO_PLOTS],
    "runs.finetune": [*QUICK, *NO_PLOTS],
    "runs.demo": [*QUICK_DEMO, *FEW_ROWS, *NO_PLOTS, "--report_to", "none", "--disable_tqdm", "true"],
    "runs.serve": ["--port", "0"],
    "quality": ["--backbones", "dcnv2", "--seeds", "1", *QUICK, *FEW_ROWS, *NO_PLOTS],
}
# The scripts in `examples` and the modules that they run.
EXAMPLES = {
    "examples/run_pamlm.py": "clickprompt_hf.runs.pretrain",
    "examples/run_ctr.py": "clickprompt_hf.runs.finetune",
    "examples/predict.py": "clickprompt_hf.runs.predict",
}


@dataclass(frozen=True)
class Block:
    """Fenced block of a page.

    Args:
        page: Path of the page, relative to the repository's root.
        line: Line number of the opening fence.
        language: Word after the fence.
        options: Rest of the fence's line.
        code: Content of the block.
        not_run: Reason why the block is not run, or `None` if it is.
    """

    page: str
    line: int
    language: str
    options: str
    code: str
    not_run: str | None

    @property
    def location(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def quoted_file(self) -> str | None:
        """File that the block quotes, taken from its title."""
        title = re.search(r'title="([^"]+\.py)"', self.options)
        return title and title[1]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start("language")) + 1, m["language"], m["options"], m["code"], m["not_run"])
        for m in FENCE.finditer(text)
    ]


def is_quotation(block: Block) -> bool:
    """Whether the file in the block's title contains the block's lines, at any indentation."""
    source = (ROOT / str(block.quoted_file)).read_text(encoding="utf-8")
    return any(textwrap.indent(block.code, " " * depth) in source for depth in range(0, 20, 4))


def run(block: Block, namespace: dict[str, Any], replaced: dict[str, str]) -> None:
    """Run a block in the working directory, with the replacements made. Python blocks share `namespace`."""
    if block.not_run or block.language in NOT_CODE:
        return
    if block.quoted_file:
        assert is_quotation(block), f"{block.location} no longer matches {block.quoted_file}"
        return
    code = block.code
    for text, other in replaced.items():
        code = code.replace(text, other)
    if block.language == "python":
        exec(compile(code, block.location, "exec"), namespace)
    elif block.language == "bash":
        for words in commands(code):
            run_command(words, block.location)
    elif block.language == "yaml":
        Schema.from_dict(yaml.safe_load(code))
        Path("schema.yaml").write_text(code, encoding="utf-8")
    else:
        raise AssertionError(f"{block.location}: no way to run {block.language!r}; say why with <!-- not run: ... -->")


def commands(code: str) -> Iterator[list[str]]:
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str], location: str) -> None:
    """Run a `clickprompt`, `python` or `accelerate launch` command, with or without `> FILE`."""
    output = None
    if ">" in words:
        output = Path(words[words.index(">") + 1])
        words = words[: words.index(">")]
    name, arguments = module_and_arguments(words, location)
    module = importlib.import_module(name)
    name = name.removeprefix("clickprompt_hf.")
    added = ADDED.get(name, ["--quick"] if Path(str(module.__file__)).parent.name == "benchmarks" else [])
    printed = io.StringIO()
    with redirect_stdout(printed) if output else nullcontext():
        if module.main.__module__ == "plm_steps":
            module.main(name, module.__doc__, [*arguments, *added])
        else:
            module.main([*arguments, *added])
    if output:
        output.write_text(printed.getvalue(), encoding="utf-8")


def module_and_arguments(words: list[str], location: str) -> tuple[str, list[str]]:
    """Name of the module whose `main` runs a command, and the arguments for it."""
    if words[:2] == ["accelerate", "launch"]:
        # checks the launcher's flags, then runs the command in this one process
        launch = launch_command_parser().parse_args(words[2:])
        config_file = launch.config_file
        assert config_file is None or Path(config_file).is_file(), f"{location}: there is no {config_file}"
        words = ["python", *(["-m"] if launch.module else []), launch.training_script, *launch.training_script_args]
    if words[0] == "clickprompt":
        name, arguments = f"clickprompt_hf.runs.{words[1].replace('-', '_')}", words[2:]
    elif words[:2] == ["python", "-m"]:
        name, arguments = words[2], words[3:]
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), f"{location}: there is no {words[1]}"
        name, arguments = EXAMPLES.get(words[1], Path(words[1]).stem), words[2:]
    else:
        raise AssertionError(f"{location}: no way to run {words[0]!r}; say why with <!-- not run: ... -->")
    assert importlib.util.find_spec(name) is not None, f"{location}: there is no module {name}"
    return name, arguments


class InThisProcess:
    """Stand-in for `ProcessPoolExecutor` that runs each call as soon as it is submitted."""

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
