"""Imports run one way: commands above, the library in the middle, the files that ship in checkpoints at the bottom."""

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "clickprompt_hf"
# Each layer imports only from the layers below it. Rooms of one layer do not import each other.
LAYERS = (
    ("__main__",),
    ("cli",),
    # starts commands
    ("cluster",),
    ("runs",),
    ("estimator",),
    ("comparison", "serving"),
    ("evaluation", "export", "scoring", "inspection", "drafting"),
    ("training",),
    ("data",),
    ("presets",),
    ("shipped",),
)
DEPTH = {room: depth for depth, rooms in enumerate(LAYERS) for room in rooms}
# The package itself exports names of shipped files, and the estimator and the trainer on first use. Whatever does not
# ship may import it.
ROOT = {"", "public_names"}
# flat modules that do not ship in checkpoints
NOT_SHIPPED = {*ROOT, "__main__", "cli", "inspection", "presets"}
ALLOWED_IN_SHIPPED = {"torch", "transformers", "numpy", "safetensors", *sys.stdlib_module_names}
# What transformers searches for, line by line, when it copies a checkpoint's code.
COPIED_IMPORT = re.compile(r"^\s*(?:from\s+\.|import\s+\.)")
ONE_LINE_IMPORT = re.compile(r"^ *from \.\w+ import \w+(?: as \w+)?(?:, \w+(?: as \w+)?)*$")


@dataclass(frozen=True)
class Import:
    """One import by the module `source` of the module `target`; the package's root is `""`."""

    source: str
    line: int
    target: str
    ours: bool

    def __str__(self):
        return f"{self.source or 'clickprompt_hf'}:{self.line} -> {self.target or 'clickprompt_hf'}"


def modules(package: Path) -> dict[str, Path]:
    """Modules by dotted name below the package; `""` is the package itself and `data` is `data/__init__.py`."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(package: Path) -> list[Import]:
    """Every import of every module, also those within functions and under `if TYPE_CHECKING`."""
    known, found = modules(package), []
    for source, path in known.items():
        parents = source.split(".") if source else []
        if path.name != "__init__.py":
            parents = parents[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root, _, below = alias.name.partition(".")
                    ours = root == package.name
                    found.append(Import(source, node.lineno, below if ours else alias.name, ours))
            elif isinstance(node, ast.ImportFrom):
                root, _, below = (node.module or "").partition(".")
                if node.level:
                    base = parents[: len(parents) - node.level + 1]
                    base += node.module.split(".") if node.module else []
                elif root == package.name:
                    base = below.split(".") if below else []
                else:
                    found.append(Import(source, node.lineno, node.module, ours=False))
                    continue
                for alias in node.names:
                    # `reading` in `from .data import reading` is a module; a name belongs to `data/__init__.py`
                    module = ".".join([*base, alias.name])
                    target = module if module in known else ".".join(base)
                    found.append(Import(source, node.lineno, target, ours=True))
    return list(dict.fromkeys(found))


def room(module: str) -> str:
    """Name of the folder, or of the flat module, or `shipped`."""
    first, _, below = module.partition(".")
    return first if below or (PACKAGE / first).is_dir() or first in NOT_SHIPPED else "shipped"


def wrong_directions(found: list[Import]) -> list[str]:
    """Imports that do not run downwards."""
    wrong = []
    for entry in found:
        if not entry.ours:
            continue
        source, target = room(entry.source), room(entry.target)
        if source in ROOT:
            allowed = target in ROOT or target == "shipped" or (not source and target in ("estimator", "training"))
        elif target in ROOT:
            allowed = source != "shipped"
        else:
            allowed = source == target or DEPTH[source] < DEPTH[target]
        if not allowed:
            wrong.append(str(entry))
    return wrong


def circles(found: list[Import]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    targets: dict[str, set[str]] = {}
    for entry in found:
        if entry.ours and entry.source != entry.target:
            targets.setdefault(entry.source, set()).add(entry.target)

    def reachable(start: str) -> set[str]:
        seen, waiting = set(), [start]
        while waiting:
            for target in targets.get(waiting.pop(), set()) - seen:
                seen.add(target)
                waiting.append(target)
        return seen

    reached = {module: reachable(module) for module in targets}
    in_a_circle = {module for module, modules_below in reached.items() if module in modules_below}
    groups = {tuple(sorted(m for m in in_a_circle if m in reached[n] and n in reached[m])) for n in in_a_circle}
    return sorted(list(group) for group in groups)


def shipped_modules() -> dict[str, Path]:
    return {name: path for name, path in modules(PACKAGE).items() if room(name) == "shipped"}


def test_every_folder_has_its_layer():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders <= DEPTH.keys(), "name new folders in LAYERS"


def test_modules_that_do_not_ship_exist():
    assert modules(PACKAGE).keys() >= NOT_SHIPPED, "a module was renamed: it counts as shipped"


def test_imports_run_downwards():
    assert wrong_directions(imports(PACKAGE)) == []


def test_no_modules_import_each_other():
    assert circles(imports(PACKAGE)) == []


def test_the_configuration_imports_nothing_of_ours():
    ours = [str(entry) for entry in imports(PACKAGE) if entry.ours and entry.source == "configuration_clickprompt"]
    assert ours == []


def test_shipped_files_import_only_what_a_checkpoint_brings():
    shipped = shipped_modules()
    foreign = [entry for entry in imports(PACKAGE) if entry.source in shipped and not entry.ours]
    assert [str(entry) for entry in foreign if entry.target.split(".")[0] not in ALLOWED_IN_SHIPPED] == []


@pytest.mark.parametrize("module", sorted(shipped_modules()))
def test_shipped_files_import_siblings_on_one_line(module):
    """transformers copies what it finds line by line: other forms, and lines of a docstring, break the copy."""
    text = shipped_modules()[module].read_text(encoding="utf-8")
    lines = {number: line for number, line in enumerate(text.splitlines(), start=1) if COPIED_IMPORT.match(line)}
    relative = {
        node.lineno for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level > 0
    }
    assert lines.keys() == relative, "a line of text that reads like an import of ours"
    assert [line for line in lines.values() if not ONE_LINE_IMPORT.match(line.split("  #")[0])] == []


def write(package: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_every_form_of_import_is_seen(tmp_path):
    package = write(
        tmp_path / "clickprompt_hf",
        {
            "__init__.py": "",
            "values.py": "",
            "data/__init__.py": "from .reading import read\n",
            "data/reading.py": "import numpy.random, clickprompt_hf.values\nfrom ..values import one\n",
            "training/__init__.py": "",
            "training/trainer.py": (
                "from typing import TYPE_CHECKING\n"
                "from .. import values, __version__\n"
                "if TYPE_CHECKING:\n    from ..data import reading\n"
                "def late():\n    from clickprompt_hf.data import read\n"
            ),
        },
    )
    seen = {str(entry) for entry in imports(package)}
    assert seen == {
        "data:1 -> data.reading",
        "data.reading:1 -> numpy.random",
        "data.reading:1 -> values",
        "data.reading:2 -> values",
        "training.trainer:1 -> typing",
        "training.trainer:2 -> values",
        "training.trainer:2 -> clickprompt_hf",
        "training.trainer:4 -> data.reading",
        "training.trainer:6 -> data",
    }


def test_wrong_directions_and_circles_are_named(tmp_path):
    package = write(
        tmp_path / "clickprompt_hf",
        {
            "__init__.py": "from .modeling_ctr import Head\nfrom .data import reading\n",
            "modeling_ctr.py": "from .presets import SIZES\n",
            "presets.py": "from .modeling_ctr import Head\n",
            "training/trainer.py": "from ..evaluation.plots import draw\nfrom ..data.reading import read\n",
            "evaluation/plots.py": (
                "def draw():\n    from ..training.trainer import train\n    from ..scoring import score\n"
            ),
            "scoring/__init__.py": "",
            "data/reading.py": "",
        },
    )
    found = imports(package)
    assert wrong_directions(found) == [
        "clickprompt_hf:2 -> data.reading",
        "evaluation.plots:3 -> scoring",
        "modeling_ctr:1 -> presets",
        "training.trainer:1 -> evaluation.plots",
    ]
    assert circles(found) == [["evaluation.plots", "training.trainer"], ["modeling_ctr", "presets"]]
