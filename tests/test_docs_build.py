"""Test the extensions of the documentation build: equations as SVG, arguments of configurations."""

import dataclasses
import sys
from pathlib import Path

import pytest

from clickprompt_hf import ClickPromptConfig, CTRConfig, configuration_clickprompt

ROOT = Path(__file__).parent.parent
griffe = pytest.importorskip("griffe", reason="needs the extra docs")
markdown = pytest.importorskip("markdown", reason="needs the extra docs")


@pytest.fixture
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    yield
    for name in ("equations", "configuration_parameters"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("source", [r"so $W_1 q$ is", r"so \\(W_1 q\\) is"])
def test_equations_of_pages_and_docstrings(on_path, source):
    equations = pytest.importorskip("equations", reason="needs the extra docs")
    html = markdown.markdown(source, extensions=[equations.Equations()])
    assert html.startswith("<p>so <svg ")
    assert html.endswith("</svg> is</p>")
    assert 'aria-label="W_1 q"' in html
    # in the color of the text, about one line high
    assert "currentColor" in html
    height = float(html.partition('height="')[2].partition("em")[0])
    assert 0.5 < height < 2


@pytest.mark.parametrize("source", ["from $5 to $6", "`$a$` is code", r"\$5 and 6\$"])
def test_other_dollar_signs_are_unchanged(on_path, source):
    equations = pytest.importorskip("equations", reason="needs the extra docs")
    assert "<svg" not in markdown.markdown(source, extensions=[equations.Equations()])


@pytest.mark.parametrize("config", [CTRConfig, ClickPromptConfig])
def test_arguments_of_configurations(on_path, config):
    from configuration_parameters import ConfigurationParameters

    extensions = griffe.load_extensions(ConfigurationParameters)
    module = griffe.load("clickprompt_hf.configuration_clickprompt", search_paths=[ROOT], extensions=extensions)
    found = {p.name: str(p.default) for p in module[config.__name__].parameters if p.name != "self"}
    fields = {f.name: f.default for f in dataclasses.fields(config) if f.name in config.__annotations__}
    assert list(found) == list(fields)
    for name, default in fields.items():
        assert eval(found[name], vars(configuration_clickprompt)) == default
    # the reference documents each of them, with the help text of the commands
    sections = module[config.__name__].docstring.parse("google")
    (arguments,) = (section for section in sections if section.kind is griffe.DocstringSectionKind.parameters)
    documented = {argument.name: argument.description for argument in arguments.value}
    assert documented == {f.name: f.metadata["help"] for f in dataclasses.fields(config) if f.name in fields}
    assert any(section.kind is griffe.DocstringSectionKind.raises for section in sections)
