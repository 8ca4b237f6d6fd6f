# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read CSV files as they are found: one reader for training, drafting and scoring.

A file is decoded and cut into blocks of whole records. Arrow parses each block, and must find as many rows in it as
`CsvGrammar` does.
"""

import codecs
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ..schema_clickprompt import BLANKS, LINES_PER_CELL, CsvFormat
from ..warnings_clickprompt import warn_at_caller
from .csv_grammar import CsvFault, CsvGrammar, Layout, Record
from .opened_files import count_line_ends, errors_naming, opened

_BLOCK_BYTES = 1 << 20
_LONGEST_ROW_BYTES = 1 << 28
LIKELY_DELIMITERS = ",;\t|"
# UTF-32's mark begins with UTF-16's.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_OTHER_FILES = {
    b"\x1f\x8b": "gzipped: end its name in .csv.gz",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard: end its name in .csv.zst",
    b"PK\x03\x04": "a zip file or a spreadsheet: extract it, or save it as CSV",
    b"PAR1": "a Parquet file: end its name in .parquet",
}
_SHOWN_CHARACTERS = 80
# What `str.strip` removes, for Arrow, whose \s is ASCII.
_AROUND_NUMBERS = r"[\s\x{b}\x{1c}-\x{1f}\x{85}\pZ]*"
# Cells whose lines look like rows are refused if they have at least this many lines and more than this share of all.
_LEAST_SWALLOWED, _SWALLOWED_SHARE = 4, 0.01


@dataclass(frozen=True)
class _Block:
    """Whole records of a file, in UTF-8.

    Args:
        text: The records.
        line: Number of the first line.
        num_rows: Number of records that are not blank.
        grammar: How the text is written; without escapes.
    """

    text: bytes
    line: int
    num_rows: int
    grammar: CsvGrammar

    def line_of(self, offset: int) -> int:
        """Number of the line of an offset."""
        return self.line + count_line_ends(self.text[:offset])

    def records(self) -> Iterator[Record]:
        """The records that are not blank."""
        return (record for record in self.grammar.records(self.text, 0, is_last=True) if record.cells)


def plain_numbers(cells: pa.Array | pa.ChunkedArray, csv_format: CsvFormat) -> pa.Array | pa.ChunkedArray:
    """Write the numbers of a CSV file's cells as `1234.5`.

    Args:
        cells: (n,) strings.
        csv_format: Says how the file writes numbers.

    Returns:
        (n,) strings. Cells that are not numbers stay as they are. Those with a point that is neither `decimal` nor
        where `thousands` are separated, such as `2.06`, are marked, so that they are not read as numbers.
    """
    if csv_format.has_plain_numbers:
        return cells
    decimal, thousands = re.escape(csv_format.decimal), csv_format.thousands
    separator = "" if thousands is None else f"[{BLANKS}]" if thousands in BLANKS else re.escape(thousands)
    whole = rf"(?:\d{{1,3}}(?:{separator}\d{{3}})+|\d+)" if separator else r"\d+"
    sign, exponent = rf"^{_AROUND_NUMBERS}[-+]?", rf"(?:[eE][-+]?\d+)?{_AROUND_NUMBERS}$"
    is_written = pc.match_substring_regex(cells, rf"{sign}(?:{whole}(?:{decimal}\d*)?|{decimal}\d+){exponent}")
    has_point = pc.match_substring_regex(cells, rf"{sign}(?:\d+\.\d*|\.\d+){exponent}")
    joined = pc.replace_substring_regex(cells, separator, "") if separator else cells
    plain = pc.replace_substring(joined, csv_format.decimal, ".")
    marked = pc.binary_join_element_wise(cells, f"(not with decimal {csv_format.decimal!r})", " ")
    return pc.if_else(is_written, plain, pc.if_else(has_point, marked, cells))


def with_plain_numbers(table: pa.Table, columns: Collection[str], csv_format: CsvFormat | None) -> pa.Table:
    """A table of a CSV file with the numbers in some columns written as `1234.5`; see `plain_numbers`."""
    if csv_format is None or csv_format.has_plain_numbers:
        return table
    for index, name in enumerate(table.column_names):
        if name in columns:
            table = table.set_column(index, name, plain_numbers(table.column(index), csv_format))
    return table


class CsvFile:
    """A CSV file, compressed or not. All cells are strings, unchanged except for numbers.

    Blank lines are skipped. A byte order mark decides the encoding. Columns without a name at the end of the header,
    which come from trailing delimiters, must be empty and are left out.

    Args:
        path: The file. Names that end in .gz or .zst are decompressed.
        csv_format: How it is written.
        numeric_columns: Columns of numbers, which are read as `decimal` and `thousands` of the format say.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows; `None` until the file has been read to its end.

    Raises:
        ValueError: If the file is empty, or its header is broken, repeats a name or seems to have another delimiter;
            the message names the file.
    """

    def __init__(self, path: Path, csv_format: CsvFormat | None = None, numeric_columns: Collection[str] = ()):
        self.path, self.format = path, csv_format or CsvFormat()
        self.numeric_columns = numeric_columns
        self.num_rows: int | None = None
        self._encoding = self.format.encoding
        is_tsv = ".tsv" in [suffix.lower() for suffix in path.suffixes]
        delimiter = self.format.delimiter or ("\t" if is_tsv else ",")
        lines_per_cell = self.format.lines_per_cell or LINES_PER_CELL
        self._grammar = CsvGrammar(delimiter, self.format.quote, self.format.escape, lines_per_cell)
        with errors_naming(path, "a CSV file"):
            first = self._first_row()
        if first is None:
            raise ValueError(f"{path} must be a CSV file in UTF-8 with a header, but it is empty.")
        self._has_header = self.format.column_names is None
        self._header = first if self.format.column_names is None else list(self.format.column_names)
        names = self._header
        while self._has_header and len(names) > 1 and not names[-1]:
            names = names[:-1]
        self._check_names(names, first)
        self.schema = pa.schema([(name, pa.string()) for name in names])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows.

        Args:
            columns: Names of the columns to read; all by default.

        Raises:
            ValueError: If the file is broken. The message names the line, counted from 1, and the option that reads
                the file, if one does.
        """
        self.num_rows = None
        names = self.schema.names
        wanted = names if columns is None else list(columns)
        num_rows = 0
        with errors_naming(self.path, "a CSV file"):
            for block in self._blocks():
                table = self._parsed(block, [names.index(name) for name in wanted])
                num_rows += block.num_rows
                table = with_plain_numbers(table.rename_columns(wanted), self.numeric_columns, self.format)
                yield from table.to_batches()
        self.num_rows = num_rows

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: a sentence that starts with a space, or an empty string."""
        if not self._has_header:
            return ""
        return self._advise_delimiter() or (
            f" If the file has no header, name its columns with {_option('column_names', '[...]')}."
        )

    def _chunks(self) -> Iterator[bytes]:
        """The file's text in UTF-8, without a byte order mark; at its end an empty chunk."""
        num_bytes = 0
        with opened(self.path) as stream:
            chunk = stream.read(_BLOCK_BYTES)
            mark = next(filter(chunk.startswith, _BYTE_ORDER_MARKS), b"")
            self._encoding = _BYTE_ORDER_MARKS.get(mark, self.format.encoding)
            decoder = codecs.getincrementaldecoder(self._encoding)()
            is_utf_8 = codecs.lookup(self._encoding).name == "utf-8"
            while chunk:
                pending = decoder.getstate()[0]
                # ASCII need not be decoded.
                if not is_utf_8 or pending or not chunk.isascii():
                    text = self._decoded(decoder, chunk, num_bytes - len(pending))
                    yield chunk if is_utf_8 else text.encode()
                else:
                    yield chunk
                num_bytes += len(chunk)
                chunk = stream.read(_BLOCK_BYTES)
            self._decoded(decoder, b"", num_bytes - len(decoder.getstate()[0]))
            yield b""

    def _decoded(self, decoder: codecs.IncrementalDecoder, chunk: bytes, first_byte: int) -> str:
        """Decode a chunk, whose text begins at a byte of the file; an empty chunk is the file's end."""
        try:
            return decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            name = self._encoding.removesuffix("-sig").upper()
            position, byte = first_byte + error.start, error.object[error.start]
            with opened(self.path) as stream:
                start = stream.read(position + 4)
            before = start[:position].decode(self._encoding, "replace")
            line = 1 + count_line_ends(before.encode("utf-8", "replace"))
            other = next((kind for mark, kind in _OTHER_FILES.items() if start.startswith(mark)), None)
            advice = (
                f"Name its encoding, e.g. {_option('encoding', 'cp1252')}. Or convert it, if it is WINDOWS-1252: "
                f"iconv -f WINDOWS-1252 -t UTF-8 {self.path} > utf8{self.path.suffix}"
            )
            raise ValueError(
                f"{self.path} must be a CSV file in {name}: Byte {position} (0x{byte:02X}, in line {line}) is not "
                f"{name}. {f'It seems to be {other}.' if other else advice}"
            ) from error

    def _first_row(self) -> list[str] | None:
        """The cells of the first row, if any."""
        held = b""
        for chunk in self._chunks():
            held += chunk
            try:
                first = next((record for record in self._grammar.records(held, 0, not chunk) if record.cells), None)
            except CsvFault as fault:
                raise self._fault(fault, held, 1) from fault
            if first is not None:
                return [cell.decode() for cell in first.cells]
            self._check_length(held, 1)
        return None

    def _check_names(self, names: list[str], first: list[str]) -> None:
        if not self._has_header:
            if first == names:
                raise ValueError(
                    f"{self.path} has a header that repeats `column_names` of the CSV format: leave them out."
                )
            return
        if any("\0" in name for name in names):
            order = "be" if names[0].startswith("\0") else "le"
            raise ValueError(
                f"{self.path} must have column names without NUL characters, got {names[0][:_SHOWN_CHARACTERS]!r}. If "
                f"it is in UTF-16, read it with {_option('encoding', f'utf-16-{order}')}."
            )
        if len(names) == 1 and re.fullmatch("sep=.?", names[0]):
            mark = names[0].removeprefix("sep=") or self._grammar.delimiter.decode()
            raise ValueError(
                f"{self.path} must begin with its header, but its first line is for spreadsheets: it says that "
                f"{mark!r} separates cells. Remove it, and read the file with {_option('delimiter', mark)}."
            )
        if len(names) == 1 and self.format.delimiter is None and (advice := self._advise_delimiter()):
            raise ValueError(f"{self.path} must be a CSV file, but it has only the column {names}.{advice}")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"{self.path} must have the column {repeated[0]!r} once, but its header repeats {repeated}. "
                "Rename them. If the file has no header, name its columns with "
                f"{_option('column_names', '[...]')}."
            )

    def _advise_delimiter(self) -> str:
        """Name the likely delimiter: a sentence that starts with a space, or an empty string."""
        delimiter = self._grammar.delimiter.decode()
        text = delimiter.join(self._header)
        likely = max(LIKELY_DELIMITERS, key=lambda other: text.count(other) if other != delimiter else -1)
        if text.count(likely) <= text.count(delimiter):
            return ""
        return f" Its cells seem to be separated by {likely!r}: read it with {_option('delimiter', likely)}."

    def _blocks(self) -> Iterator[_Block]:
        """The rows below the header."""
        held, line, in_header = b"", 1, self._has_header
        first_swallowing, num_swallowed_lines = None, 0
        for chunk in self._chunks():
            held += chunk
            if in_header:
                header = next((r for r in self._grammar.records(held, 0, not chunk) if r.cells), None)
                if header is None:
                    continue
                in_header = False
                line += count_line_ends(held[: header.end])
                held = held[header.end :]
            end, block, layout = self._whole_records(held, line, not chunk)
            line += layout.num_line_ends
            if layout.swallowing:
                num_swallowed_lines += layout.num_swallowed_lines
                is_first = first_swallowing is None
                first_swallowing = first_swallowing or block.line_of(layout.swallowing[0])
                self._question_swallowing(first_swallowing, is_first, num_swallowed_lines, line - 1)
            if block.num_rows:
                yield block
            held = held[end:]
            self._check_length(held, line)

    def _whole_records(self, text: bytes, line: int, is_last: bool) -> tuple[int, _Block, Layout]:
        """The whole records at the start of a text: where they end, the records, and their layout."""
        grammar, num_columns = self._grammar, len(self._header)
        has_escapes = grammar.escape is not None and grammar.escape in text
        layout = None if has_escapes else grammar.layout(text, is_last, num_columns)
        if layout is not None:
            end = layout.end
        else:
            try:
                end, text = grammar.standardized(text, is_last)
            except CsvFault as fault:
                raise self._fault(fault, text, line) from fault
            grammar = grammar.standard
            layout = grammar.layout(text, True, num_columns)
            assert layout is not None
        return end, _Block(text[: layout.end], line, layout.num_rows, grammar), layout

    def _question_swallowing(self, line: int, is_first: bool, num_swallowed: int, num_lines: int) -> None:
        """Refuse or warn about cells of several lines that all look like rows.

        Args:
            line: Line of the first such cell's row.
            is_first: Whether no warning was given yet.
            num_swallowed: Number of lines of the rows with such cells.
            num_lines: Number of all lines so far.
        """
        problem = (
            f"{self.path}: the row in line {line} has a cell of several lines, and each of its lines looks like a row."
        )
        advice = f"If quotes are ordinary text in this file, read it with {_option('quote', None)}."
        if (
            self.format.lines_per_cell is None
            and num_swallowed >= _LEAST_SWALLOWED
            and num_swallowed > _SWALLOWED_SHARE * num_lines
        ):
            raise ValueError(
                f"{problem} Of {num_lines:,} lines, {num_swallowed:,} would be swallowed by such cells. {advice} If "
                f"these really are cells, accept them with {_option('lines_per_cell', LINES_PER_CELL)}."
            )
        if is_first:
            warn_at_caller(f"{problem} It may have swallowed rows. {advice}")

    def _parsed(self, block: _Block, positions: list[int]) -> pa.Table:
        """The columns at `positions`, checked."""
        # Positions as names, because Arrow's options go by name.
        nameless = range(len(self.schema), len(self._header))
        included = [str(at) for at in dict.fromkeys([*positions, *nameless])]
        quote = block.grammar.quote
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(block.text),
                pa.csv.ReadOptions(
                    column_names=[str(at) for at in range(len(self._header))],
                    block_size=len(block.text) + 1,
                    use_threads=False,
                ),
                pa.csv.ParseOptions(
                    delimiter=block.grammar.delimiter.decode(),
                    quote_char=quote.decode() if quote else False,
                    newlines_in_values=quote is not None,
                ),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(included, pa.string()),
                    include_columns=included,
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:
            self._refuse_number_of_cells(block)
            raise
        if len(table) != block.num_rows:
            self._refuse_number_of_cells(block)
            raise ValueError(
                f"{self.path} must have as many rows as records, but Arrow finds {len(table)} rows in the "
                f"{block.num_rows} records from line {block.line} on."
            )
        for at in nameless:
            if pc.any(pc.not_equal(table.column(str(at)), "")).as_py():
                self._refuse_nameless(block)
        self._check_header_is_not_repeated(block, table)
        return table.select([str(at) for at in positions])

    def _check_header_is_not_repeated(self, block: _Block, table: pa.Table) -> None:
        if len(self._header) < 2:
            return
        # Joined files may repeat the byte order mark too; it is hardly ever elsewhere.
        may_repeat = codecs.BOM_UTF8 in block.text
        repeats = pa.scalar(True)
        for name in table.column_names if not may_repeat else ():
            repeats = pc.and_(repeats, pc.equal(table.column(name), self._header[int(name)]))
            if not pc.any(repeats).as_py():
                return
        for record in block.records():
            cells = [cell.decode() for cell in record.cells]
            if [cells[0].removeprefix("\ufeff"), *cells[1:]] == self._header:
                raise ValueError(
                    f"{self.path} must not repeat its header, but line {block.line_of(record.start)} does. Were "
                    "files concatenated with their headers? Remove these lines, or pass the files separately."
                )

    def _refuse_nameless(self, block: _Block) -> NoReturn:
        for record in block.records():
            if any(record.cells[len(self.schema) :]):
                break
        raise ValueError(
            f"{self.path} must have a name in its header for each column, but line {block.line_of(record.start)} "
            f"has a cell after the last name, {self.schema.names[-1]!r}: "
            f"{_shown(block.text[record.start : record.end])}"
        )

    def _refuse_number_of_cells(self, block: _Block) -> None:
        expected = len(self._header)
        for record in block.records():
            if len(record.cells) == expected:
                continue
            text = block.text[record.start : record.end]
            source = "the header" if self._has_header else "`column_names`"
            if b'\\"' in text and self.format.escape is None:
                advice = f" If backslashes escape quotes, read it with {_option('escape', chr(92))}."
            elif len(record.cells) == expected + 1 and not record.cells[-1]:
                advice = " The line ends with a delimiter; give the last column a name, or remove the delimiter."
            else:
                advice = self._advise_delimiter()
            line = block.line_of(record.start)
            raise ValueError(
                f"{self.path} must be a CSV file with as many cells in each row as {source}. Line {line}: "
                f"Expected {expected} columns, got {len(record.cells)}: {_shown(text)}.{advice}"
            )

    def _fault(self, fault: CsvFault, text: bytes, first_line: int) -> ValueError:
        line = first_line + count_line_ends(text[: fault.offset])
        advice = [f"If quotes are ordinary text, read the file with {_option('quote', None)}."]
        if fault.has_escapes and self.format.escape is None:
            advice.insert(0, f"If backslashes escape quotes, read the file with {_option('escape', chr(92))}.")
        if fault.has_many_lines:
            advice.append(f"If the cell is complete, raise {_option('lines_per_cell', 100_000)}.")
        return ValueError(f"{self.path} has {fault.problem}. It begins in line {line}. {' '.join(advice)}")

    def _check_length(self, text: bytes, line: int) -> None:
        if len(text) > _LONGEST_ROW_BYTES:
            raise ValueError(
                f"{self.path} must have rows of at most {_LONGEST_ROW_BYTES >> 20} MB, but the row in line {line} is "
                "longer."
            )


def _option(name: str, value: str | int | None) -> str:
    """An option as a schema has it."""
    written = "none" if value is None else value if value == "[...]" else json.dumps(value)
    return f"`{name}: {written}` (in the `csv` part of the schema, or as a flag of `draft-schema` and `predict`)"


def _shown(text: bytes) -> str:
    shown = text.decode("utf-8", "replace").rstrip("\r\n")
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
