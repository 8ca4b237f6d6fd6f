# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Draft the schema of an unknown table, to be reviewed and edited.

    clickprompt draft-schema table.csv > schema.yaml

Reads the first rows of a CSV or Parquet file and guesses what each column is, which one is the label, and which one is
the time. Comments in the draft describe the columns and note doubts. If a column looks like a label, the draft is a
valid schema file.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from transformers import AutoTokenizer

from ..data.csv_files import LIKELY_DELIMITERS, CsvFile
from ..data.dimension_tables import DimensionTable, check_different_columns, with_joined_columns
from ..data.table_files import ENDINGS, csv_format_of_table, open_table_file, table_kind
from ..drafting.column_checks import is_header_a_row
from ..drafting.schema_draft import MAX_ROWS, draft_of, profile_columns
from ..drafting.text_estimate import TokenCounter, tokens_by_characters
from ..drafting.written_numbers import with_guessed_marks
from ..schema_clickprompt import CsvFormat, TableSchema
from .command import CommandParser, run_command
from .csv_options import add_csv_options, csv_format_of
from .draft_lines import (
    DraftTexts,
    csv_lines,
    fields_lines,
    head_lines,
    label_lines,
    row_lines,
    table_lines,
    text_lines,
    time_lines,
)
from .joined_files import add_join_option, tables_of_flags
from .paths import check_folder_or_hub_id


def draft_schema(
    path: str | Path,
    max_rows: int = MAX_ROWS,
    label: str | None = None,
    positive: str | None = None,
    csv_format: CsvFormat | None = None,
    tokenizer: str | None = None,
    tables: Sequence[TableSchema] = (),
) -> str:
    """Draft a schema file for a table, as YAML with comments.

    Args:
        path: A CSV, JSON lines or Parquet file.
        max_rows: Number of rows to read, at least 1; the first ones are taken.
        label: Name of the label column; guessed by default.
        positive: Value of the label that means a click; guessed by default. Needs `label`.
        csv_format: How a CSV file is written; the draft repeats it, and adds how most columns write numbers.
        tokenizer: Hub id or folder of the tokenizer that counts the tokens of a text; by default, a token has four
            characters.
        tables: Tables of users and items to join to the rows; the draft repeats them with absolute paths.

    Raises:
        OSError: If a file or the tokenizer does not exist.
        ValueError: If the file has another format, is broken, has no rows, fewer than two columns, repeated column
            names or no header, or if an argument does not fit it. The message names the file or the argument.
    """
    path = Path(path)
    count_tokens = _token_counter(tokenizer)
    if max_rows < 1:
        raise ValueError(f"`max_rows` must be at least 1, got {max_rows}.")
    tables = in_own_dialects(tables, csv_format)
    table, is_whole = read_first_rows(path, max_rows, csv_format, tables)
    is_csv = table_kind(path) == "csv"
    given, csv_format = csv_format, with_guessed_marks(table, csv_format) if is_csv else csv_format
    profiles = profile_columns(table, csv_format if is_csv else None)
    has_header = is_csv and not tables and (csv_format is None or csv_format.column_names is None)
    if has_header and is_header_a_row(profiles):
        shown = ",".join(table.column_names)
        raise ValueError(
            f"{path} seems to have no header: its first line, {shown!r:.80}, looks like the rows below it. Name its "
            f"columns, in order, e.g. --column_names {' '.join(f'c{c + 1}' for c in range(len(profiles)))} (or "
            "`column_names` in the `csv` part of a schema). If this is the header, rename its columns."
        )
    draft = draft_of(profiles, label, positive)
    texts = DraftTexts.of(draft.used_columns, count_tokens)
    lines = [
        *head_lines(path, len(table), is_whole, draft, texts),
        *row_lines(draft, is_whole),
        *fields_lines(draft),
        *table_lines(draft.used_columns, tables),
        *text_lines(texts, "one per four characters" if tokenizer is None else f"of {tokenizer}"),
        *("", *label_lines(draft), "", *time_lines(draft.times)),
        *csv_lines(csv_format, given),
    ]
    return "\n".join(lines) + "\n"


def read_first_rows(
    path: Path, max_rows: int, csv_format: CsvFormat | None = None, tables: Sequence[TableSchema] = ()
) -> tuple[pa.Table, bool]:
    """Read the first rows of a table, with the columns of the `tables` that are joined.

    Returns:
        The rows, and whether they are the whole table.

    Raises:
        FileNotFoundError: As in `draft_schema`.
        ValueError: As in `draft_schema`.
    """
    to_join = [_opened(described, csv_format) for described in tables]
    check_different_columns(to_join)
    file = with_joined_columns(open_table_file(path, csv_format), to_join)
    names, batches = file.schema.names, file.batches()
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path} must have unique column names, but it repeats {repeated}; rename them.")
    if len(names) < 2:
        advice = " If lines above the header are a title, remove them."
        if names and "," in names[0]:
            advice = " `--column_names` takes names separated by spaces."
        raise ValueError(f"{path} must have at least two columns, a field and the label; it has only {names}.{advice}")
    read: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        read.append(batch)
        num_rows += len(batch)
        if num_rows > max_rows:
            break
    if not num_rows:
        raise ValueError(f"{path} must have rows, but it has none below its header {names}.")
    for joined in to_join:
        joined.warn_of_lost_keys()
    return pa.Table.from_batches(read).slice(0, max_rows), num_rows <= max_rows


def in_own_dialects(tables: Sequence[TableSchema], csv_format: CsvFormat | None) -> list[TableSchema]:
    """Tables of users and items, each with the dialect of its CSV file if its key is found only in another one.

    Args:
        tables: The tables.
        csv_format: How the log is written.
    """
    return [_in_own_dialect(described, csv_format) for described in tables]


def _in_own_dialect(described: TableSchema, csv_format: CsvFormat | None) -> TableSchema:
    path, shared = Path(described.file), csv_format_of_table(described, csv_format)
    if table_kind(path) != "csv" or not path.is_file() or described.key_column in _header(path, shared):
        return described
    for delimiter in (None, *LIKELY_DELIMITERS):
        own = CsvFormat(delimiter)
        if described.key_column in _header(path, own):
            return replace(described, csv=own)
    return described


def _header(path: Path, csv_format: CsvFormat | None) -> list[str]:
    """Names of a CSV file's columns; empty if it has another format."""
    try:
        return CsvFile(path, csv_format).schema.names
    except ValueError:
        return []


def _opened(described: TableSchema, csv_format: CsvFormat | None) -> DimensionTable:
    """A table of users or items with all its columns."""
    file = open_table_file(Path(described.file), csv_format_of_table(described, csv_format))
    return DimensionTable(file, described, [described.prefix + name for name in file.schema.names])


def _token_counter(tokenizer: str | None) -> TokenCounter:
    """The function that counts the tokens of texts.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If the Hub has no such tokenizer, or the folder holds none.
    """
    if tokenizer is None:
        return tokens_by_characters
    check_folder_or_hub_id(tokenizer, "tokenizer")
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise OSError(f"`tokenizer` must be the name or folder of a tokenizer, got {tokenizer!r}: {error}") from error
    return lambda texts: [len(ids) for ids in loaded(list(texts), add_special_tokens=False)["input_ids"]]


def make_parser() -> CommandParser:
    """The parser of `clickprompt draft-schema`."""
    parser = CommandParser("draft-schema", __doc__, "TABLE [options]")
    parser.add_argument("table", metavar="TABLE", type=Path, help=f"file that ends in {ENDINGS}")
    parser.add_argument(
        "--max_rows", type=int, default=MAX_ROWS, help="number of rows to read from the start (default: %(default)s)"
    )
    parser.add_argument("--label", help="label column (default: guessed)")
    parser.add_argument("--positive", help="value of the label that means a click (default: guessed)")
    add_join_option(
        parser,
        "table of users or items to join by the column KEY; PREFIX is put before its other columns' names",
    )
    parser.add_argument(
        "--tokenizer", help="Hub id or folder of a tokenizer to count tokens with (default: one per four characters)"
    )
    add_csv_options(parser, "CSV dialect of the file; included in the draft")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Print the draft of a schema.

    Args:
        arguments: Command-line arguments; `None` for `sys.argv`.

    Raises:
        ValueError: If an argument or the table is wrong.
        OSError: If the table or the tokenizer is missing.
    """
    args = make_parser().parse_args(arguments)
    csv_format = csv_format_of(args, None)
    tables = [table for table, _ in tables_of_flags(args.join)]
    draft = draft_schema(args.table, args.max_rows, args.label, args.positive, csv_format, args.tokenizer, tables)
    print(draft, end="")


if __name__ == "__main__":
    run_command("draft-schema", main)
