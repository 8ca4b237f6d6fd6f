r"""Draw the equations of pages and docstrings as SVG: the same in every browser, without scripts or fonts.

mkdocs runs this file. Equations stand in `math` fences and between dollar signs, as on GitHub, and in docstrings
between `\\(` and `\\)`.
"""

import xml.etree.ElementTree as etree

import ziamath
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

DOLLARS = r"(?<![\\$\w])\$(?=[^\s$])([^$\n]+?)(?<=[^\s\\])\$(?![\w$])"
DOCSTRINGS = r"\\\\\((.+?)\\\\\)"
# after code spans, before escapes are resolved
PRIORITY = 185
# font size of the drawing; the page scales it to the size of its text
SIZE = 24.0

ziamath.config.svg2 = False


def draw(latex: str, inline: bool) -> str:
    """Draw an equation as SVG in the size, color and baseline of the text."""
    equation = ziamath.Latex(latex, size=SIZE, color="currentColor", inline=inline)
    svg = equation.svgxml()
    for side in ("width", "height"):
        svg.set(side, f"{float(svg.get(side)) / SIZE:.3f}em")
    svg.set("style", f"vertical-align: {equation.getyofst() / SIZE:.3f}em")
    svg.set("role", "img")
    svg.set("aria-label", latex.strip())
    return etree.tostring(svg, encoding="unicode")


class InlineEquation(InlineProcessor):
    """Inline equation."""

    def handleMatch(self, m, data):
        # stashed so that no other pattern rewrites it
        return self.md.htmlStash.store(draw(m.group(1), inline=True)), m.start(0), m.end(0)


class Equations(Extension):
    """Inline equations of pages and docstrings."""

    def extendMarkdown(self, md: Markdown) -> None:
        for name, pattern in (("dollars", DOLLARS), ("docstrings", DOCSTRINGS)):
            md.inlinePatterns.register(InlineEquation(pattern, md), f"equation-{name}", PRIORITY)


def fenced(source: str, language: str, css_class: str, options: dict, md: Markdown, **kwargs) -> str:
    """Draw a `math` fence as a displayed equation."""
    return f'<div class="equation">{draw(" ".join(source.split()), inline=False)}</div>'


def on_config(config):
    """Add inline and displayed equations to the Markdown of mkdocs and mkdocstrings."""
    config.markdown_extensions.append(Equations())
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": fenced})
    return config
