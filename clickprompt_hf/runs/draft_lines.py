# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""The lines of a drafted schema: YAML, with comments that describe the table, note doubts and suggest commands."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..data.table_files import table_kind
from ..drafting.column_checks import question_last_row
from ..drafting.column_names import suggests_entities
from ..drafting.column_profile import ColumnProfile
from ..drafting.label_guess import is_named_label, may_be_graded_label, question_named
from ..drafting.schema_draft import SchemaDraft, fields_of
from ..drafting.text_estimate import (
    ROWS_PER_TEXT,
    TextEstimate,
    TokenCounter,
    estimate_text,
    has_words,
    shared_text_fields,
)
from ..schema_clickprompt import CsvFormat, FieldSchema, TableSchema
from ..values_clickprompt import number_of, percent
from .csv_options import written_options

_EXAMPLES, _EXAMPLE_LENGTH = 3, 30
# Line breaks of YAML, and characters that it refuses.
_NOT_IN_COMMENTS = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class DraftTexts:
    """The text that a language model would read.

    Args:
        columns: Column of each field in the text.
        drafted: The text of the drafted schema; `None` without fields in the text.
        with_ids: The text with the fields that have ids only; `None` if there are none.
        shared_columns: Columns of the fields whose text many rows share; empty if all fields are among them, or none.
        shared: The text of these fields alone; `None` without them.
        unshared_columns: Columns with words that are different in nearly every row.
        worded: Keys of the fields that hold words beyond a few categories.
    """

    columns: list[str]
    drafted: TextEstimate | None
    with_ids: TextEstimate | None
    shared_columns: list[str]
    shared: TextEstimate | None
    unshared_columns: list[str]
    worded: list[str]

    @classmethod
    def of(cls, profiles: list[ColumnProfile], count_tokens: TokenCounter) -> "DraftTexts":
        fields = [(profile, FieldSchema(**field)) for profile in profiles for field in fields_of(profile)]
        in_text = [(profile, field) for profile, field in fields if field.in_text]
        if not in_text:
            return cls([], None, None, [], None, [], [])
        drafted = estimate_text(in_text, count_tokens)
        worded = [(profile, field) for profile, field in in_text if has_words(profile)]
        unshared = [profile for profile, _ in worded if len(profile.values) * ROWS_PER_TEXT > profile.num_rows]
        chosen = [] if drafted.is_shared else shared_text_fields(in_text)
        if unshared and not any(profile.kind == "text" for profile, _ in chosen):
            # the shared fields would leave out the row's own words
            chosen = []
        return cls(
            columns=list(dict.fromkeys(profile.name for profile, _ in in_text)),
            drafted=drafted,
            with_ids=estimate_text(fields, count_tokens) if len(in_text) < len(fields) else None,
            shared_columns=[field.key for _, field in chosen],
            shared=estimate_text(chosen, count_tokens) if chosen else None,
            unshared_columns=[profile.name for profile in unshared],
            worded=[field.key for _, field in worded],
        )

    @property
    def chosen(self) -> str:
        """The flag that leaves fields without words out of the text if rows then share it; else nothing."""
        return f" --text_fields {shlex.join(self.shared_columns)}" if self.shared and not self.unshared_columns else ""

    @property
    def cached(self) -> str:
        """Flags that cache the states of texts, if rows share them."""
        is_shared = bool(self.chosen) or (self.drafted is not None and self.drafted.is_shared)
        return " --prompt_depth 2 --cache_text_states true" if is_shared else ""


def head_lines(path: Path, num_rows: int, is_whole: bool, draft: SchemaDraft, texts: DraftTexts) -> list[str]:
    """Introduce the draft, and suggest the first runs."""
    read = "all" if is_whole else "only the first"
    split = "" if draft.time is None else " --split time"
    lines = [
        f"# Draft of a schema, guessed from {read} {num_rows:,} rows of {path.name}. Review and edit it before use.",
        "# Above each field: its kind, number of distinct values, missing cells, most frequent values, and the AUC of",
        "# ranking rows by this column alone (0.5 = uninformative).",
        "# CHECK marks what needs a decision. LEFT OUT fields are commented out: remove the `# ` to use one.",
        "# docs/data.md explains the keys. The comments quote cells of the table.",
    ]
    if draft.label is None:
        return lines
    data = f"--dataset {table_kind(path)} --data_path {shlex.quote(str(path))} --schema schema.yaml{split}"
    lines += ["# Next:", f"#   clickprompt finetune {data} --ctr_only --output_dir runs/first"]
    if not texts.worded:
        return [
            *lines,
            "# Compare with other models (no field has enough text for a language model):",
            f"#   clickprompt compare {data} --arms logistic_regression gradient_boosting backbone "
            "--output_dir runs/compare",
        ]
    return [
        *lines,
        "# Does a language model pay? (MODEL: its folder or Hub id; without --arms, all arms)",
        f"#   clickprompt compare {data} --plm_name_or_path MODEL{texts.chosen} "
        "--arms gradient_boosting_text backbone backbone_text_vectors clickprompt --output_dir runs/compare",
        "# With a frozen language model's vector of the text, at about the cost of the first run:",
        f"#   clickprompt finetune {data} --ctr_only --vector_fields {shlex.join(texts.worded)} --text_encoder MODEL "
        "--output_dir runs/vectors",
        "# With prompts in a language model, which takes about 30 times as long:",
        f"#   clickprompt finetune {data} --plm_name_or_path MODEL{texts.chosen}{texts.cached} --output_dir runs/plm",
    ]


def row_lines(draft: SchemaDraft, is_whole: bool) -> list[str]:
    """Question rows that repeat others, and a last row of totals if the whole table was read."""
    lines = []
    if draft.num_copies:
        repeat = "row repeats" if draft.num_copies == 1 else "rows repeat"
        lines.append(
            f"# CHECK: {draft.num_copies:,} {repeat} an earlier row in all columns. Remove duplicates, or a random "
            "split will test on training rows."
        )
    if is_whole and (doubt := question_last_row(draft.profiles)):
        lines.append(f"# CHECK: {_NOT_IN_COMMENTS.sub('?', doubt)}.")
    return lines


def fields_lines(draft: SchemaDraft) -> list[str]:
    """Write the fields of all columns."""
    lines = ["", "fields:"]
    for profile in draft.columns:
        lines += _field_lines(profile)
    kinds = [profile.kind for profile in draft.used_columns]
    if set(kinds) <= {"text"}:
        lines += ["  # CHECK: training needs at least one field with ids, but no column can be one."]
    if not kinds:
        lines += ["  []"]
    return lines


def _field_lines(profile: ColumnProfile) -> list[str]:
    """Describe a column in comments, followed by its fields."""
    kind = {"multi_valued": "multi-valued", "text": "free text without ids"}.get(profile.kind, profile.kind)
    parts = [kind, f"{len(profile.values):,} value{'' if len(profile.values) == 1 else 's'}"]
    parts += [profile.summary] if profile.summary else []
    parts.append(f"{percent(profile.missing)} missing" if profile.missing else "none missing")
    if (
        profile.is_named_id
        and profile.has_only_codes
        and profile.kind == "categorical"
        and not profile.reason_left_out
    ):
        parts.insert(1, "looks like ids")
    comment = f"{_quoted(profile.name)}: {', '.join(parts)}"
    if profile.kind not in ("numeric", "time") and profile.values:
        comment += f"; {_examples(profile)}"
    if profile.auc is not None and profile.kind != "text":
        comment += f"; AUC alone {profile.auc:.3f}"
    lines = [f"  # {comment}"]
    if profile.reason_left_out:
        lines.append(f"  # LEFT OUT: {profile.reason_left_out}")
    if not profile.options.get("in_text", True):
        lines.append(
            "  # IDS ONLY: ids and codes mean nothing to a language model; `in_text: false` hides them from it"
        )
    lines += [f"  # CHECK: {doubt}" for doubt in profile.doubts]
    if profile.marks is not None:
        marks = written_options(CsvFormat(decimal=profile.marks[0], thousands=profile.marks[1]))
        flags = shlex.join(part for name, mark in marks.items() for part in (f"--{name}", mark))
        lines.append(f"  # CHECK: or draft again with {flags} if the CSV file writes all numbers so")
    mark = "# - " if profile.reason_left_out else "- "
    return lines + [f"  {mark}{_flow(field)}" for field in fields_of(profile)]


def table_lines(used: Sequence[ColumnProfile], tables: Sequence[TableSchema]) -> list[str]:
    """Write the joined tables, or say how to join some to the ids of users and items that repeat."""
    if tables:
        # relative paths start at the folder of the schema, which only the shell knows
        absolute = [replace(table, file=str(Path(table.file).absolute())) for table in tables]
        written = [{key: value for key, value in table.to_dict().items() if value} for table in absolute]
        for table, data in zip(absolute, written):
            if table.csv is not None:
                data["csv"] = written_options(table.csv)
        lines = ["", "# Joined to the rows. Relative paths would start at the schema's folder.", "tables:"]
        return [*lines, *(f"  - {_flow(table)}" for table in written)]
    ids = [profile.name for profile in used if profile.has_only_codes and suggests_entities(profile.words)]
    if not ids:
        return []
    return [
        "",
        f"# If other files say more about {_listed(ids)}, one row per id, draft again with --join FILE "
        f"{_NOT_IN_COMMENTS.sub('?', shlex.quote(ids[0]))}, which joins their columns.",
    ]


def text_lines(texts: DraftTexts, counted: str) -> list[str]:
    """Say how much text a language model reads, and which fields make the rows' texts differ.

    Args:
        texts: The text that a language model would read.
        counted: Which tokens are counted, in words.
    """
    found = texts.drafted
    if found is None:
        return []
    lines = [
        "",
        f"# A language model would read about {found.tokens:.0f} tokens per row ({counted}) and "
        f"{found.distinct_texts:,} distinct texts in {found.rows:,} rows.",
    ]
    if texts.with_ids is not None:
        whole = texts.with_ids
        lines.append(
            f"# If it read the IDS ONLY fields too: about {whole.tokens:.0f} tokens, {whole.distinct_texts:,} texts."
        )
    if texts.unshared_columns and not found.is_shared:
        lines.append(
            f"# {_listed(texts.unshared_columns)}: nearly every row has different words, so rows share no texts and "
            "--cache_text_states cannot pay off."
        )
    if texts.shared is not None:
        others = [name for name in texts.columns if name not in texts.shared_columns]
        lines += [
            f"# Because of {_listed(others)}, hardly any rows share a text.",
            f"# --text_fields {shlex.join(texts.shared_columns)} leaves {texts.shared.distinct_texts:,} texts of "
            f"about {texts.shared.tokens:.0f} tokens, whose states can be cached; the other fields keep their "
            f"ids{', but other free text is then unused' if texts.unshared_columns else ''}.",
        ]
    return lines


def label_lines(draft: SchemaDraft) -> list[str]:
    """Write the label and its positive value, with the questions that they raise."""
    label = draft.label
    others = [guess.profile.name for guess in draft.label_guesses if guess is not label]
    lines = []
    if label is None:
        lines.append(
            "# CHECK: which column is the label? It must hold 0 and 1, or two words, one of which `positive` names."
        )
        if others:
            lines.append(f"# Columns with two values: {_listed(others)}.")
        lines += _named_lines(draft.profiles)
        lines += [_derivation(profile) for profile in draft.profiles if may_be_graded_label(profile)]
        lines.append(
            "# Draft again with --label COLUMN, which also finds leaks, or name the label here and remove its field."
        )
        return [*lines, "label:"]
    profile = label.profile
    if not is_named_label(profile):
        lines += _named_lines(draft.columns)
    clicks = label.clicks[np.isfinite(label.clicks)]
    lines.append(
        f"# CHECK: is {_quoted(profile.name)} the label? It has {len(profile.values)} values ({_examples(profile)}), "
        f"{percent(float(clicks.mean()))} positive."
    )
    if others:
        lines.append(f"# Other columns with two values: {_listed(others)}.")
    if len(clicks) < profile.num_rows:
        lines.append(
            f"# CHECK: {percent(1 - len(clicks) / profile.num_rows)} of the rows have no label. Remove them, or "
            "training raises an error."
        )
    lines += [f"# CHECK: {_NOT_IN_COMMENTS.sub('?', doubt)}." for doubt in label.doubts]
    lines.append(_flow({"label": profile.name})[1:-1])
    if label.positive is not None:
        because = " It is the larger number." if label.is_larger_number else ""
        lines.append(f"# CHECK: is this the value that counts as a click? Its probability is predicted.{because}")
        lines.append(_flow({"positive": label.positive})[1:-1])
    return lines


def _named_lines(profiles: Sequence[ColumnProfile]) -> list[str]:
    """Question columns that are named like a label, but have one value, or a few more than two."""
    return [
        f"# CHECK: by its name, {_quoted(profile.name)} is the label, but it has {len(profile.values)} "
        f"value{'' if len(profile.values) == 1 else 's'} ({_examples(profile)}). {advice}, and draft again."
        for profile in profiles
        if (advice := question_named(profile))
    ]


def _derivation(profile: ColumnProfile) -> str:
    """How to get a label from a column with more than two values."""
    if profile.kind == "numeric" or all(np.isfinite(number_of(value)) for value in profile.values):
        name = _quoted(profile.name)
        return f"# Or derive a column of 0 and 1 from {name}, e.g. 1 for 4 stars or more, and draft again."
    shown = shlex.join(["--label", profile.name, "--positive", profile.values[-1]])
    return f"# Or one value of {_quoted(profile.name)} against the others: {_NOT_IN_COMMENTS.sub('?', shown)}"


def time_lines(times: list[ColumnProfile]) -> list[str]:
    """Write the time of the impression, with the questions that it raises."""
    if not times:
        return ["# No column looks like a time, so rows cannot be split by time: --split random, or --split user."]
    time, *others = times
    lines = [f"# CHECK: is {_quoted(time.name)} the time of the impression? --split time tests on the latest rows."]
    if others:
        lines.append(f"# Other columns of times: {_listed([other.name for other in others])}.")
    keys = {"time": time.name, **{key: time.options[key] for key in ("time_format",) if key in time.options}}
    text = [_flow({key: value})[1:-1] for key, value in keys.items()]
    if time.missing:
        lines.append(
            f"# CHECK: {percent(time.missing)} of its cells are missing, so --split time would raise an error."
        )
        text = [f"# {line}" for line in text]
    return [*lines, *text]


def csv_lines(csv_format: CsvFormat | None, given: CsvFormat | None) -> list[str]:
    """Write how the CSV file is written, and question what was guessed beyond the given format."""
    options = written_options(csv_format)
    if not options:
        return []
    lines = ["", "# The CSV dialect of the file."]
    if csv_format != given:
        guessed = [f"`{name}`" for name in ("decimal", "thousands") if name in options]
        scope = "It applies" if len(guessed) == 1 else "They apply"
        lines.append(f"# CHECK: do numbers use this {' and '.join(guessed)}? {scope} to all numeric fields.")
    return [*lines, _flow({"csv": options})[1:-1]]


def _examples(profile: ColumnProfile) -> str:
    """The most frequent values, with their shares if these are 1 % or more."""
    shown = []
    for index, value in enumerate(profile.values[:_EXAMPLES]):
        example = _quoted(value if len(value) <= _EXAMPLE_LENGTH else f"{value[:_EXAMPLE_LENGTH]}...")
        share = profile.share(index)
        shown.append(f"{example} {percent(share)}" if share >= 0.01 else example)
    return ", ".join(shown)


def _listed(names: list[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(text: str) -> str:
    """Quote a text, with line breaks and what YAML does not allow escaped, so that it stays within a comment."""
    return _NOT_IN_COMMENTS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


class _OneLineDumper(yaml.SafeDumper):
    """Writes texts with line breaks in double quotes, with escapes, instead of over several lines."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A string, on one line."""
        style = '"' if text.splitlines() not in ([text], []) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_OneLineDumper.add_representer(str, _OneLineDumper.represent_text)


def _flow(data: dict[str, Any]) -> str:
    """Write plain data as YAML in braces, on one line."""
    dumped = yaml.dump(
        data, Dumper=_OneLineDumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return dumped.strip()
