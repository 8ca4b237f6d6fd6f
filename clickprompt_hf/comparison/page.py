# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Jinja template of report.html, which loads nothing from elsewhere. Every value is escaped, except plots."""

PAGE = """{% macro drawn(table) %}<div class="scroll" tabindex="0">
<table class="{{ 'words' if table.words else 'numbers' }}">
<thead><tr>{% for name in table.columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr{% if row[0] == table.marked %} class="serve"{% endif %}>
{%- for cell in row %}<td>{{ cell.split("\\n")[0] }}
{%- for line in cell.split("\\n")[1:] %}<small>{{ line }}</small>{% endfor %}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --page: #fff; --text: #1d2430; --soft: #5b6575; --line: #d8dde5; --grid: #e3e7ed;
  --band: #f4f6f9; --mark: #1f6fb2; }
@media (prefers-color-scheme: dark) { :root { --page: #14181f; --text: #e4e8ee; --soft: #9aa5b5; --line: #363e4b;
  --grid: #2b323d; --band: #1c222b; --mark: #6db3f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; break-after: avoid; }
p, ul, dl { margin: .5rem 0; max-width: 46rem; }
p, li, dd { overflow-wrap: anywhere; }
.soft, figcaption, .verdict li { color: var(--soft); font-size: .9rem; }
.verdict { background: var(--band); border-left: 4px solid var(--mark); border-radius: 4px; padding: .9rem 1.1rem; }
.verdict p { margin: 0; max-width: 60rem; font-size: 1.1rem; }
.verdict ul { margin: .75rem 0 0; padding-left: 1.1rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .5rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
td small { display: block; color: var(--soft); white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
td:first-child { position: sticky; left: 0; background: var(--page); }
.numbers td { white-space: nowrap; }
tr.serve td { background: var(--band); font-weight: 600; }
tr.serve td small { font-weight: 400; }
.words td:last-child { overflow-wrap: anywhere; min-width: 12rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.5rem; }
figure { margin: .5rem 0; max-width: 34rem; break-inside: avoid; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; }
@media (max-width: 40rem) { body { padding: 1rem .75rem 3rem; }
  td:first-child { min-width: 7.5rem; white-space: normal; overflow-wrap: anywhere; } }
@media print {
  :root { --page: #fff; --text: #000; --soft: #444; --line: #bbb; --grid: #ddd; --band: #f2f2f2; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .2rem .35rem; }
  td:first-child { position: static; } tr, .verdict { break-inside: avoid; }
}
</style>
</head>
<body>
<h1>{{ title }}</h1>
<section class="verdict">
<p>{{ verdict.sentences | join(" ") }}</p>
<ul>{% for note in verdict.notes %}<li>{{ note }}</li>{% endfor %}</ul>
</section>
{% for section in sections %}
<h2>{{ section.heading }}</h2>
{% for paragraph in section.paragraphs %}<p class="soft">{{ paragraph }}</p>
{% endfor %}{% if section.table %}{{ drawn(section.table) }}{% endif %}
{% if section.plots %}<div class="plots">
{% for caption, svg in section.plots %}<figure>{{ svg | safe }}<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}</div>{% endif %}
{% if section.terms %}<dl>{% for term, words in section.terms %}<dt>{{ term }}</dt><dd>{{ words }}</dd>
{% endfor %}</dl>
{% endif %}{% endfor %}
</body>
</html>
"""
