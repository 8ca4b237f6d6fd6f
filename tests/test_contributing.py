"""The map in CONTRIBUTING.md names what exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LAYOUT, _, LOOK_UP = TEXT.partition("Where to look first:")
LOOK_UP = LOOK_UP.partition("###")[0]
NAMED_FILES = re.findall(r"`([\w/.]+(?:/|\.py|\.md|\.yml|\.toml))`", TEXT)
LOOKED_UP = [
    (re.findall(r"`([\w/]+\.py)`", cell), re.findall(r"`(\w+(?:\.\w+)?)`", cell.replace(".py`", "")))
    for cell in re.findall(r"^\|[^|]+\|(.+)\|$", LOOK_UP, re.MULTILINE)
]


@pytest.mark.parametrize("name", sorted(set(NAMED_FILES)))
def test_named_files_exist(name):
    assert (ROOT / name).exists() or (ROOT / "clickprompt_hf" / name).exists()


@pytest.mark.parametrize(("files", "names"), [(files, names) for files, names in LOOKED_UP if names])
def test_named_parts_are_in_the_named_files(files, names):
    text = "".join((ROOT / "clickprompt_hf" / file).read_text(encoding="utf-8") for file in files)
    for name in names:
        for part in name.split("."):
            assert re.search(rf"(?:class|def) {part}\b", text), f"{part} is not in {files}"


def test_every_folder_is_on_the_map():
    folders = {path.parent.name for path in (ROOT / "clickprompt_hf").glob("*/__init__.py")}
    assert {name for name in folders if f"`clickprompt_hf/{name}/`" not in LAYOUT} == set()
