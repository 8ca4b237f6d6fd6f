# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Drafts the schema of an unknown table, for a person to read and mend.

    clickprompt draft-schema table.csv > schema.yaml

Reads the first rows of a CSV or Parquet file, guesses what each column is, which one is the label and which the time,
and says in comments what it saw and what it doubts. The draft is a valid schema file unless no column looks like a
label.
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ..data.column_profile import ColumnProfile, percent, profile_column, rank_alone
from ..data.sources.tabular import csv_batches, csv_header
from ..schema_clickprompt import check_positive
from ..values_clickprompt import labels_in_words
from .command import CommandParser, run_command

MAX_ROWS = 100_000

_NUMBERS_OF_LABELS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_LABEL_WORDS = {
    *(
        "label",
        "target",
        "y",
        "outcome",
        "response",
        "responded",
        "click",
        "clicked",
        "clicks",
        "default",
        "defaulted",
    ),
    *("churn", "churned", "converted", "conversion", "purchase", "purchased", "bought", "subscribed", "approved"),
    *("returned", "cancelled", "canceled", "show", "noshow", "fraud", "readmitted", "survived", "won", "success"),
}
_LABEL_WORDS_OF_MORE_VALUES = {*_LABEL_WORDS, "rating", "ratings", "score", "stars", "status"}
_WORDS_FOR_YES = {
    *("yes", "y", "t", "true", "positive", "pos", "clicked", "default", "defaulted", "charged off"),
    *("ja", "oui", "sí", "si", "sim"),
}
_WORDS_FOR_NO = {
    *("no", "n", "f", "false", "negative", "neg", "not clicked", "paid", "fully paid", "none"),
    *("nein", "nee", "non", "não"),
}
_NUMBER = re.compile(r"-?[\d.]+")
_EXAMPLES, _EXAMPLE_LENGTH = 3, 30


@dataclass
class LabelGuess:
    """A column that may be the label.

    Args:
        profile: The column.
        positive: `Schema.positive`; `None` where the values are 0 and 1 as they are.
        clicks: (N,) 1, 0, or NaN where unknown.
        likelihood: To rank guesses; 0 where nothing but the number of values speaks for it.
    """

    profile: ColumnProfile
    positive: str | None
    clicks: np.ndarray
    likelihood: int


def draft_schema(
    path: str | Path, max_rows: int = MAX_ROWS, label: str | None = None, positive: str | None = None
) -> str:
    """The draft of a schema file for a table, as YAML with comments.

    Args:
        path: A CSV file with a header, in UTF-8, or a Parquet file.
        max_rows: Rows that are looked at, from the first one on, at least 1.
        label: The label's column; guessed when left out.
        positive: Its value that means a click; needs `label`, and is guessed when left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has another ending, is broken, has no rows, fewer than two columns or two of one name, or an
            argument does not fit it; the message names it.
    """
    path = Path(path)
    if max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, got {max_rows}.")
    table, is_whole = read_first_rows(path, max_rows)
    profiles = [profile_column(name, table.column(place)) for place, name in enumerate(table.column_names)]
    guesses = _label_guesses(profiles)
    if label is None:
        if positive is not None:
            raise ValueError("`positive` needs `label`, the column that it is a value of.")
        guess = next((guess for guess in guesses if guess.likelihood), None)
    else:
        guess = _named_label(profiles, label, positive)
    fields = [profile for profile in profiles if guess is None or profile is not guess.profile]
    if guess is not None:
        for profile in fields:
            rank_alone(profile, guess.clicks)
    times = _times(fields)
    lines = _head(path, len(table), is_whole, guess, bool(times) and not times[0].missing)
    lines += ["", "fields:"]
    # a text too long loses its end
    for profile in sorted(fields, key=lambda profile: profile.kind == "text"):
        lines += _field_lines(profile)
    kinds = [profile.kind for profile in fields if not profile.left_out and _members(profile)]
    if set(kinds) <= {"text"}:
        lines += ["  # CHECK: no column makes a field with ids, and training needs one."]
    if not kinds:
        lines += ["  []"]
    lines += ["", *_label_lines(guess, guesses, profiles), "", *_time_lines(times)]
    return "\n".join(lines) + "\n"


def read_first_rows(path: Path, max_rows: int) -> tuple[pa.Table, bool]:
    """The first rows of a table, and whether they are all of it.

    Raises:
        FileNotFoundError, ValueError: As `draft_schema`.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"The table must be a .csv or .parquet file, got {path}.")
    if not path.is_file():
        raise FileNotFoundError(f"The table must be a file, but there is none at {path}.")
    if path.suffix == ".csv":
        names, batches = csv_header(path), csv_batches(path)
    else:
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} must be a Parquet file: {error}") from error
        names, batches = file.schema_arrow.names, file.iter_batches(min(max_rows + 1, 65_536))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} must have each column once, but it repeats {repeated}; rename them.")
    if len(names) < 2:
        raise ValueError(f"{path} must have two columns or more, a field and a label; it has only {names}.")
    read: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        read.append(batch)
        num_rows += len(batch)
        if num_rows > max_rows:
            break
    if not num_rows:
        raise ValueError(f"{path} must have rows, but it has none under its header {names}.")
    return pa.Table.from_batches(read).slice(0, max_rows), num_rows <= max_rows


def _label_guesses(profiles: list[ColumnProfile]) -> list[LabelGuess]:
    """Columns with two values, the likeliest label first."""
    guesses = []
    for place, profile in enumerate(profiles):
        if len(profile.values) != 2 or profile.kind != "categorical" or profile.left_out:
            continue
        words = [value.lower() for value in profile.values]
        positive = None
        if not _in_numbers(profile):
            positive = _positive(profile)
            if positive is None:
                continue
        named = bool(profile.words & _LABEL_WORDS)
        likely = any(word in (*_NUMBERS_OF_LABELS, *_WORDS_FOR_YES) for word in words)
        likelihood = 1 + likely + 4 * named + (place == len(profiles) - 1) if likely or named else 0
        guesses.append(LabelGuess(profile, positive, _clicks(profile, positive), likelihood))
    return sorted(guesses, key=lambda guess: -guess.likelihood)


def _named_label(profiles: list[ColumnProfile], label: str, positive: str | None) -> LabelGuess:
    profile = next((profile for profile in profiles if profile.name == label), None)
    if profile is None:
        raise ValueError(f"`label` must be one of the columns {[p.name for p in profiles]}, got {label!r}.")
    if len(profile.values) < 2:
        raise ValueError(f"`label` must have two values or more, but {label!r} has {len(profile.values)}.")
    if positive is not None:
        check_positive(positive)
    if positive is not None or not _in_numbers(profile):
        if positive is None and len(profile.values) == 2:
            positive = _positive(profile)
        if positive not in profile.values:
            others = " and others" if len(profile.values) > 10 else ""
            raise ValueError(
                f"`positive` must be the value of {label!r} that means a click, got {positive!r}; it holds "
                f"{', '.join(map(repr, profile.values[:10]))}{others}."
            )
    return LabelGuess(profile, positive, _clicks(profile, positive), likelihood=1)


def _in_numbers(profile: ColumnProfile) -> bool:
    return all(value.lower() in _NUMBERS_OF_LABELS for value in profile.values)


def _clicks(profile: ColumnProfile, positive: str | None) -> np.ndarray:
    """(N,) 1, 0, or NaN where unknown."""
    if positive is None:
        numbers = [_NUMBERS_OF_LABELS[value.lower()] for value in profile.values]
    else:
        numbers = labels_in_words(profile.values, positive).tolist()
    return np.asarray([*numbers, np.nan])[profile.places]


def _positive(profile: ColumnProfile) -> str | None:
    """The one of two values that may mean a click, a word for yes or else the rarer one; `None` where both are numbers
    and none is 1."""
    yes = [value for value in profile.values if value.lower() in _WORDS_FOR_YES]
    not_no = [value for value in profile.values if value.lower() not in _WORDS_FOR_NO]
    likely = (yes or not_no or profile.values)[-1]
    if "1" in profile.values:
        likely = "1"
    return None if _NUMBER.fullmatch(likely) and likely != "1" else likely


def _times(fields: list[ColumnProfile]) -> list[ColumnProfile]:
    """Columns of times, the likeliest time of an impression first."""
    times = [profile for profile in fields if profile.kind == "time"]
    return sorted(times, key=lambda profile: (bool(profile.missing), bool(profile.left_out)))


def _head(path: Path, num_rows: int, is_whole: bool, label: LabelGuess | None, has_time: bool) -> list[str]:
    seen = f"all {num_rows:,} rows" if is_whole else f"the first {num_rows:,} rows, and of no others,"
    split = " --split time" if has_time else ""
    lines = [
        f"# A draft, made of {seen} of {path.name}. Read it and mend it: these are guesses.",
        "# Above each field: its kind, distinct values, missing cells, the most frequent values; alone: the AUC of",
        "# ranking rows by this column alone (0.5: it tells nothing of the label). CHECK: what to look at. Fields in",
        "# comments are left out; remove `# ` to take one in. Keys: docs/data.md. The comments quote the table.",
    ]
    if label is not None:
        lines += [
            "# Then:",
            f"#   clickprompt finetune --dataset {path.suffix[1:]} --data_path {shlex.quote(str(path))} "
            f"--schema schema.yaml{split} --ctr_only --output_dir runs/first",
        ]
    return lines


def _field_lines(profile: ColumnProfile) -> list[str]:
    """The comments on a column and its field, or fields."""
    kind = {"multi_valued": "multi-valued", "text": "free text, without ids"}.get(profile.kind, profile.kind)
    parts = [kind, f"{len(profile.values):,} value{'' if len(profile.values) == 1 else 's'}"]
    parts += [profile.described] if profile.described else []
    parts.append(f"{percent(profile.missing)} missing" if profile.missing else "none missing")
    if profile.is_named_id and profile.kind == "categorical" and not profile.left_out:
        parts.insert(1, "looks like ids")
    comment = f"{_quoted(profile.name)}: {', '.join(parts)}"
    if profile.kind not in ("numeric", "time") and profile.values:
        comment += f"; {_examples(profile)}"
    if profile.auc is not None and profile.kind != "text":
        comment += f"; alone {profile.auc:.3f}"
    lines = [f"  # {comment}"]
    if profile.left_out:
        lines.append(f"  # LEFT OUT: {profile.left_out}.")
    lines += [f"  # CHECK: {doubt}" for doubt in profile.doubts]
    mark = "# - " if profile.left_out else "- "
    return lines + [f"  {mark}{_flow(member)}" for member in _members(profile)]


def _members(profile: ColumnProfile) -> list[dict[str, Any]]:
    """The fields that a column makes, as plain data."""
    if not profile.values or not profile.name.strip():
        return []
    name = _display_name(profile.name)
    options = {key: value for key, value in profile.options.items() if key != "parts"}
    if profile.kind == "time":
        return [
            {"column": profile.name, "name": f"{name} {part}", "kind": part, **options}
            for part in profile.options["parts"]
        ]
    kind = {} if profile.kind == "categorical" else {"kind": profile.kind}
    return [{"column": profile.name, "name": name, **kind, **options}]


def _label_lines(label: LabelGuess | None, guesses: list[LabelGuess], profiles: list[ColumnProfile]) -> list[str]:
    others = [guess.profile.name for guess in guesses if guess is not label]
    lines = []
    if label is None:
        lines.append("# CHECK: which column is the label? It must hold 0 and 1, or two words and a `positive`.")
        if others:
            lines.append(f"# Columns with two values: {_listed(others)}.")
        more = [p.name for p in profiles if len(p.values) > 2 and p.words & _LABEL_WORDS_OF_MORE_VALUES]
        if more:
            lines.append(
                f"# Or make a column of 0 and 1 out of {_listed(more)}, as in 1 for 4 stars or more, and draft again."
            )
        lines.append(
            "# Draft again with --label COLUMN, which also looks for leaks; or name it here, and take its field out."
        )
        return [*lines, "label:"]
    profile = label.profile
    clicks = label.clicks[np.isfinite(label.clicks)]
    lines.append(
        f"# CHECK: is {_quoted(profile.name)} the label? It has {len(profile.values)} values ({_examples(profile)}), "
        f"{percent(float(clicks.mean()))} positive."
    )
    if others:
        lines.append(f"# Others with two values: {_listed(others)}.")
    if len(clicks) < profile.num_rows:
        lines.append(
            f"# CHECK: {percent(profile.missing)} of the rows have no label; training refuses them: remove them first."
        )
    lines.append(_flow({"label": profile.name})[1:-1])
    if label.positive is not None:
        lines.append("# CHECK: is this the value that counts as a click, whose probability is predicted?")
        lines.append(_flow({"positive": label.positive})[1:-1])
    return lines


def _time_lines(times: list[ColumnProfile]) -> list[str]:
    if not times:
        return ["# No column looks like a time: --split random is the only split."]
    time, *others = times
    lines = [f"# CHECK: is {_quoted(time.name)} when the click was possible? --split time tests on the latest rows."]
    if others:
        lines.append(f"# Other times: {_listed([other.name for other in others])}.")
    keys = {"time": time.name, **{key: time.options[key] for key in ("time_format",) if key in time.options}}
    text = [_flow({key: value})[1:-1] for key, value in keys.items()]
    if time.missing:
        lines.append(f"# CHECK: {percent(time.missing)} of its cells are missing, which --split time refuses.")
        text = [f"# {line}" for line in text]
    return [*lines, *text]


def _display_name(column: str) -> str:
    """`"Loan amount"` of `loan_amount`, `"User ID"` of `userId`."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", column).replace("_", " ").split()
    shown = ["ID" if word.lower() == "id" else word for word in words]
    return " ".join([shown[0][:1].upper() + shown[0][1:], *(w if w.isupper() else w.lower() for w in shown[1:])])


def _examples(profile: ColumnProfile) -> str:
    shown = []
    for place, value in enumerate(profile.values[:_EXAMPLES]):
        example = _quoted(value if len(value) <= _EXAMPLE_LENGTH else f"{value[:_EXAMPLE_LENGTH]}...")
        share = profile.share(place)
        shown.append(f"{example} {percent(share)}" if share >= 0.01 else example)
    return ", ".join(shown)


def _listed(names: list[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(text: str) -> str:
    """On one line, whatever the text holds."""
    return json.dumps(text, ensure_ascii=False)


def _flow(data: dict[str, Any]) -> str:
    """YAML in braces, on one line."""
    dumped = yaml.safe_dump(data, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    return dumped.strip()


def make_parser() -> CommandParser:
    """The parser of `clickprompt draft-schema`."""
    parser = CommandParser("draft-schema", __doc__, "TABLE [options]")
    parser.add_argument("table", metavar="TABLE", type=Path, help=".csv file (UTF-8, with a header) or .parquet file")
    parser.add_argument("--max_rows", type=int, default=MAX_ROWS, help="first rows to read (default: %(default)s)")
    parser.add_argument("--label", help="label column (default: guessed)")
    parser.add_argument("--positive", help="value of the label that means a click (default: guessed)")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Print the draft of a schema.

    Args:
        arguments: The command line; `None` for that of the process.

    Raises:
        ValueError: If an argument or the table is wrong.
        OSError: If the table is missing.
    """
    args = make_parser().parse_args(arguments)
    print(draft_schema(args.table, args.max_rows, args.label, args.positive), end="")


if __name__ == "__main__":
    run_command("draft-schema", main)
