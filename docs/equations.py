r"""Equations of the pages and docstrings as SVG: they look alike in every browser, without a script or a font.

mkdocs runs this file. Equations stand in fences called `math` and between dollar signs, as GitHub reads them, and in
docstrings between `\\(` and `\\)`.
"""

import xml.etree.ElementTree as etree

import ziamath
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

DOLLARS = r"(?<![\\$\w])\$(?=[^\s$])([^$\n]+?)(?<=[^\s\\])\$(?![\w$])"
DOCSTRINGS = r"\\\\\((.+?)\\\\\)"
# after code spans, before escapes
PRIORITY = 185
# of the drawing; the page scales it to its text
SIZE = 24.0

ziamath.config.svg2 = False


def drawn(latex: str, inline: bool) -> str:
    """An equation as SVG of the text's size, colour and base line."""
    equation = ziamath.Latex(latex, size=SIZE, color="currentColor", inline=inline)
    svg = equation.svgxml()
    for side in ("width", "height"):
        svg.set(side, f"{float(svg.get(side)) / SIZE:.3f}em")
    svg.set("style", f"vertical-align: {equation.getyofst() / SIZE:.3f}em")
    svg.set("role", "img")
    svg.set("aria-label", latex.strip())
    return etree.tostring(svg, encoding="unicode")


class InlineEquation(InlineProcessor):
    """An equation within a line."""

    def handleMatch(self, m, data):
        # stashed, so that nothing else rewrites it
        return self.md.htmlStash.store(drawn(m.group(1), inline=True)), m.start(0), m.end(0)


class Equations(Extension):
    """Equations within lines, of pages and of docstrings."""

    def extendMarkdown(self, md: Markdown) -> None:
        for name, pattern in (("dollars", DOLLARS), ("docstrings", DOCSTRINGS)):
            md.inlinePatterns.register(InlineEquation(pattern, md), f"equation-{name}", PRIORITY)


def fenced(source: str, language: str, css_class: str, options: dict, md: Markdown, **kwargs) -> str:
    """A fence called `math` as an equation of its own."""
    return f'<div class="equation">{drawn(" ".join(source.split()), inline=False)}</div>'


def on_config(config):
    """Adds both to the Markdown that mkdocs and mkdocstrings write."""
    config.markdown_extensions.append(Equations())
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": fenced})
    return config
