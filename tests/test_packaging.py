"""The wheel and the sdist hold the package, whole; it works away from the source tree; dependencies are declared."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from warm_python import run_python

pytest.importorskip("build", reason="builds a wheel: pip install -e '.[dev]'")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "clickprompt_hf"
IMPORT_ALL = """
import importlib, pkgutil, clickprompt_hf

print(clickprompt_hf.__file__)
for module in pkgutil.walk_packages(clickprompt_hf.__path__, "clickprompt_hf."):
    importlib.import_module(module.name)
"""
PYTHONS = ("3.11", "3.12", "3.13")
# distributions whose module has another name
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml"}
# used by libraries on our behalf: huggingface_hub renders model cards, transformers logs training
NOT_IMPORTED = {"jinja2", "tensorboard"}


def run(command, cwd, **environment):
    """The output of a command; its errors are shown if it fails."""
    finished = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the sdist, built in a copy: builds pick up what earlier ones left in the tree."""
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "clickprompt_command.py"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(PACKAGE, tree / "clickprompt_hf", ignore=shutil.ignore_patterns("__pycache__"))
    # without isolation: with it, the build would download setuptools
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, tree], cwd=dist)
    return dist


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def package_files():
    """Every file of the package, as paths below the repository."""
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    names = {path.relative_to(ROOT).as_posix() for path in files}
    assert {"clickprompt_hf/py.typed", "clickprompt_hf/evaluation/model_card.md.jinja"} <= names
    return names


def test_the_wheel_holds_every_file_of_the_package(wheel, package_files):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == {*package_files, "clickprompt_command.py"}


def test_the_sdist_holds_every_file_of_the_package(dist, package_files):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert {*package_files, "clickprompt_command.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= packed
    assert not any(name.startswith("tests/") for name in packed)


def test_what_the_metadata_states(wheel, project):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    version = re.search(r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert metadata["Version"] == version[1]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == f">={PYTHONS[0]}"
    languages = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") if re.search(r"Python :: 3\.\d", c)]
    assert tuple(languages) == PYTHONS
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "clickprompt = clickprompt_command:main" in entry_points.splitlines()


def test_building_imports_nothing_of_the_package(tmp_path):
    """The version is read from the text: a build has no torch."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "clickprompt_hf").mkdir()
    text = '__version__ = "12.3"\nraise RuntimeError("imported")\n'
    (tmp_path / "clickprompt_hf" / "__init__.py").write_text(text)
    assert run([sys.executable, "setup.py", "--quiet", "--version"], cwd=tmp_path).strip() == "12.3"


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    finished = run_python("-c", IMPORT_ALL, cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    assert finished.returncode == 0, finished.stderr
    assert Path(finished.stdout.strip()).parent == tmp_path / "installed" / "clickprompt_hf"


def distributions(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_what_is_imported_is_declared_and_the_reverse(project):
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "clickprompt_hf"}

    extras = project["optional-dependencies"]
    names = ("tensorboard", "plots", "app", "onnx", "serve", "compare", "spark", "ray")
    optional = distributions(requirement for name in names for requirement in extras[name])
    required = distributions(project["dependencies"])
    declared = {MODULES.get(name, name) for name in required | optional}
    assert imported <= declared
    assert {MODULES.get(name, name) for name in required - NOT_IMPORTED} <= imported


def test_dev_has_every_extra_but_engines(project):
    extras = project["optional-dependencies"]
    (everything,) = (line for line in extras["dev"] if line.startswith("clickprompt_hf["))
    brought = set(everything.removeprefix("clickprompt_hf[").rstrip("]").split(","))
    assert brought == extras.keys() - {"dev", "spark", "ray", "deepspeed"}


def test_each_requirement_has_a_pin_that_it_allows(project):
    """`constraints.txt` pins what `make` installs."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, version = line.partition(";")[0].split("==")
        pins[name.lower()] = [int(part) for part in re.findall(r"\d+", version)]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        if name == "clickprompt_hf":
            continue
        lower, upper = re.search(r">=([\d.]+)", requirement), re.search(r"<([\d.]+)", requirement)
        assert name in pins
        assert not lower or pins[name] >= [int(part) for part in lower[1].split(".")], requirement
        assert not upper or pins[name] < [int(part) for part in upper[1].split(".")], requirement
