"""The wheel holds the package, whole, and works away from the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="builds a wheel: pip install -e '.[dev]'")

ROOT = Path(__file__).parent.parent
IMPORT_ALL = """
import importlib, pkgutil, clickprompt_hf

print(clickprompt_hf.__file__)
for module in pkgutil.walk_packages(clickprompt_hf.__path__, "clickprompt_hf."):
    importlib.import_module(module.name)
"""


def run(command, cwd, **environment):
    """The output of a command, whose errors are shown when it fails."""
    finished = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy: what an earlier build left in the tree would go into it too."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "clickprompt_hf", tree / "clickprompt_hf", ignore=shutil.ignore_patterns("__pycache__"))
    # without isolation: with it, the build would fetch setuptools
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, tree], cwd=dist)
    (path,) = dist.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = {path for path in (ROOT / "clickprompt_hf").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    assert "clickprompt_hf/py.typed" in expected
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    assert packed == expected
    assert {"Provides-Extra: onnx", "License: Apache-2.0", "Requires-Python: >=3.10"} <= set(lines)


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    imported = run([sys.executable, "-c", IMPORT_ALL], cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    assert Path(imported.strip()).parent == tmp_path / "installed" / "clickprompt_hf"
