# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the records and cells of a CSV text begin and end, by strict rules.

A cell that begins with a quote ends at the next quote that is neither doubled nor escaped, and a delimiter or a line
end must follow. Within other cells, quotes are text. Lines end in LF, CRLF or CR.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .opened_files import count_line_ends

_LF, _CR = 10, 13


@dataclass
class CsvFault(Exception):
    """A broken cell.

    Args:
        offset: Where it begins in the text.
        problem: The cell and what is wrong with it.
        has_escapes: Whether a backslash precedes one of its quotes.
        has_many_lines: Whether it has more lines than allowed.
    """

    offset: int
    problem: str
    has_escapes: bool
    has_many_lines: bool = False


@dataclass(frozen=True)
class Record:
    """One record of a text.

    Args:
        start: Where it begins.
        end: Where the next one begins.
        cells: Its cells, without quotes and escapes; none for a blank line.
    """

    start: int
    end: int
    cells: list[bytes]


@dataclass(frozen=True)
class Layout:
    """The records of a text.

    Args:
        end: End of the last whole record.
        num_rows: Number of whole records, without blank lines.
        num_line_ends: Number of line ends in the whole records.
        swallowing: Where records of several lines begin, all of which look like rows.
        num_swallowed_lines: Number of lines of these records.
    """

    end: int
    num_rows: int
    num_line_ends: int
    swallowing: Sequence[int] = ()
    num_swallowed_lines: int = 0


class CsvGrammar:
    """The characters that structure a CSV text. All are ASCII.

    Args:
        delimiter: What separates cells.
        quote: What encloses cells with delimiters, line ends or quotes; `None` if nothing does.
        escape: What may precede a quote or itself, as part of a cell; without a quote, also a delimiter or a line end.
        lines_per_cell: Number of lines that a cell may have.
    """

    def __init__(self, delimiter: str, quote: str | None, escape: str | None, lines_per_cell: int):
        self.delimiter, self.lines_per_cell = delimiter.encode(), lines_per_cell
        self.quote = quote.encode() if quote else None
        self.escape = escape.encode() if escape else None
        stop, q, e = (re.escape(character or b"") for character in (self.delimiter, self.quote, self.escape))
        self._stops = np.zeros(256, bool)
        self._stops[[ord(self.delimiter), _LF, _CR]] = True
        self._stop = re.compile(rb"%b|\r\n?|\n" % stop)
        # Repetitions are possessive: they never need to give back what they took.
        part = rb"[^%b%b]++" % (q, e) if q else b""
        if not e:
            self._unquoted = re.compile(rb"[^%b\r\n]*+" % stop)
            self._quoted = re.compile(rb"%b((?:%b|%b%b)*+)%b" % (q, part, q, q, q))
            return
        escaped = rb"[%b%b]" % (q, e) if q else rb"(?:[%b%b]|\r\n?|\n)" % (stop, e)
        self._escaped = re.compile(rb"%b(%b)" % (e, escaped))
        self._unquoted = re.compile(rb"(?:[^%b%b\r\n]++|%b%b|%b)*+" % (stop, e, e, escaped, e))
        self._quoted = re.compile(rb"%b((?:%b|%b%b|%b|%b%b)*+)%b" % (q, part, e, escaped, e, q, q, q))

    @cached_property
    def standard(self) -> "CsvGrammar":
        """The grammar of what `standardized` returns."""
        if self.escape is None:
            return self
        return CsvGrammar(self.delimiter.decode(), (self.quote or b'"').decode(), None, self.lines_per_cell)

    def layout(self, text: bytes, is_last: bool, num_columns: int) -> Layout | None:
        """Find the records of a text without escapes.

        Args:
            text: Text that begins with a record.
            is_last: Whether the text ends with a record.
            num_columns: Number of cells per row.

        Returns:
            The layout; `None` if a quote is not where the standard has it, or a cell has too many lines. `records`
            then tells whether the text is broken.
        """
        special = (b"\r", b"\n\n", *([self.quote] if self.quote else []))
        if not text.startswith(b"\n") and not any(characters in text for characters in special):
            # Most text is plain, and faster to count than to lay out.
            end, num_lines = len(text) if is_last else text.rfind(b"\n") + 1, text.count(b"\n")
            return Layout(end, num_lines + (end > 0 and text[end - 1] != _LF), num_lines)
        codes = np.frombuffer(text, np.uint8)
        line_ends, content_ends = _line_ends(text, codes, is_last)
        quotes = np.flatnonzero(codes == ord(self.quote)) if self.quote and self.quote in text else codes[:0]
        layout = self._layout_of_quotes(codes, line_ends, content_ends, quotes, is_last, num_columns)
        if layout is None and self.quote:
            # Perhaps some lines have quotes as text, and no cell that begins with one.
            lines = np.searchsorted(line_ends, quotes)
            quoted_lines = np.unique(lines[(quotes == 0) | self._stops[codes[quotes - 1]]])
            as_text = ~np.isin(lines, quoted_lines)
            enclosing = quotes[~as_text]
            if as_text.any() and not (np.searchsorted(enclosing, quotes[as_text]) % 2).any():
                layout = self._layout_of_quotes(codes, line_ends, content_ends, enclosing, is_last, num_columns)
        return layout

    def _layout_of_quotes(
        self,
        codes: np.ndarray,
        line_ends: np.ndarray,
        content_ends: np.ndarray,
        quotes: np.ndarray,
        is_last: bool,
        num_columns: int,
    ) -> Layout | None:
        """The layout if the `quotes` at these positions enclose cells; `None` if they cannot."""
        outer = np.searchsorted(quotes, line_ends) % 2 == 0 if len(quotes) else np.ones(len(line_ends), bool)
        if is_last and len(outer) and not outer[-1]:
            return None
        last = np.flatnonzero(outer)[-1:] + 1
        whole = int(last[0]) if len(last) else 0
        if len(line_ends) - whole > self.lines_per_cell:
            return None
        outer, line_ends, content_ends = outer[:whole], line_ends[:whole], content_ends[:whole]
        end = min(int(line_ends[-1]) + 1, len(codes)) if whole else 0
        quotes = quotes[: np.searchsorted(quotes, end)]
        opening, closing = quotes[::2], quotes[1::2]
        if len(quotes) and not self._is_standard(codes, opening, closing):
            return None
        starts = np.concatenate([[0], line_ends[outer][:-1] + 1])[: outer.sum()]
        num_rows = int((content_ends[outer] > starts).sum())
        if outer.all():
            return Layout(end, num_rows, whole)
        if _most(line_ends[~outer], opening, closing) >= self.lines_per_cell:
            return None
        delimiters = np.flatnonzero(codes[:end] == ord(self.delimiter))
        delimiters_per_line = np.diff(np.searchsorted(delimiters, line_ends), prepend=0)
        first_lines = np.concatenate([[0], np.flatnonzero(outer)[:-1] + 1])
        like_rows = np.logical_and.reduceat(delimiters_per_line == num_columns - 1, first_lines)
        num_lines = np.diff(first_lines, append=whole)
        like_rows &= (num_lines > 1) & (num_columns > 1)
        return Layout(end, num_rows, whole, starts[like_rows].tolist(), int(num_lines[like_rows].sum()))

    def _is_standard(self, codes: np.ndarray, opening: np.ndarray, closing: np.ndarray) -> bool:
        """Whether quotes open behind, and close before, a delimiter or a line end, or are doubled within a cell."""
        stops = self._stops
        doubled = opening[1:] == closing[:-1] + 1
        opens, closes = stops[codes[opening - 1]], stops[codes[np.minimum(closing + 1, len(codes) - 1)]]
        opens[0] |= opening[0] == 0
        closes[-1] |= closing[-1] == len(codes) - 1
        return bool((opens[1:] | doubled).all() and (closes[:-1] | doubled).all() and opens[0] and closes[-1])

    def records(self, text: bytes, start: int, is_last: bool) -> Iterator[Record]:
        """Iterate over the whole records of a text.

        Args:
            text: Any text.
            start: Where a record begins.
            is_last: Whether the text ends with a record.

        Raises:
            CsvFault: If a record is broken.
        """
        while start < len(text):
            record = self._record(text, start, is_last)
            if record is None:
                return
            yield record
            start = record.end

    def _record(self, text: bytes, start: int, is_last: bool) -> Record | None:
        """The record that begins at `start`; `None` if it is not whole."""
        cells: list[bytes] = []
        at = start
        while True:
            cell_start, found = at, None
            if self.quote and text.startswith(self.quote, at):
                found = self._quoted.match(text, at)
                self._check_quoted(text, at, found.end() if found else len(text), found is None and is_last)
                if found is None:
                    return None
                cells.append(self._unescaped(found[1].replace(self.quote * 2, self.quote)))
            else:
                found = self._unquoted.match(text, at)
                assert found is not None
                cells.append(self._unescaped(found[0]))
            at = found.end()
            stop = self._stop.match(text, at)
            if stop is None and at < len(text):
                shown = text[at : at + 40].decode("utf-8", "replace")
                raise CsvFault(
                    cell_start,
                    f"a quoted cell with text after its closing quote: {shown!r}",
                    b'\\"' in text[cell_start:at],
                )
            # What follows may be the other half of a line end, another cell, or the rest of this one.
            if not is_last and (stop is None or (stop.end() == len(text) and stop[0] != b"\n" and stop[0] != b"\r\n")):
                return None
            at = at if stop is None else stop.end()
            if stop is None or stop[0] != self.delimiter:
                is_blank = len(cells) == 1 and found.end() == start
                return Record(start, at, [] if is_blank else cells)

    def _check_quoted(self, text: bytes, start: int, end: int, never_closed: bool) -> None:
        has_escapes = b'\\"' in text[start:end]
        if count_line_ends(text[start:end]) >= self.lines_per_cell:
            raise CsvFault(start, f"a quoted cell of more than {self.lines_per_cell} lines", has_escapes, True)
        if never_closed:
            raise CsvFault(start, "a quoted cell that is never closed", has_escapes)

    def _unescaped(self, cell: bytes) -> bytes:
        return cell if self.escape is None else self._escaped.sub(rb"\1", cell)

    def standardized(self, text: bytes, is_last: bool) -> tuple[int, bytes]:
        """Rewrite the whole records of a text in the `standard` grammar. Line ends stay in their lines.

        Returns:
            The end of the last whole record, and the records rewritten.

        Raises:
            CsvFault: If a record is broken.
        """
        quote = self.standard.quote or b""
        special = re.compile(rb"[%b%b]" % (re.escape(quote), re.escape(self.escape or quote)))
        needs_quotes = re.compile(rb"[%b%b\r\n]" % (re.escape(quote), re.escape(self.delimiter)))
        parts, start = [], 0
        while found := special.search(text, start):
            # Lines without quotes and escapes stay as they are.
            line = max(start, text.rfind(b"\n", start, found.start()) + 1, text.rfind(b"\r", start, found.start()) + 1)
            parts.append(text[start:line])
            record = next(self.records(text, line, is_last), None)
            if record is None:
                return line, b"".join(parts)
            cells = [
                quote + cell.replace(quote, quote * 2) + quote if needs_quotes.search(cell) else cell
                for cell in record.cells
            ]
            # One empty cell would be a blank line.
            parts.append((self.delimiter.join(cells) or quote * 2) + b"\n")
            start = record.end
        end = len(text) if is_last else max(text.rfind(b"\n") + 1, text.rfind(b"\r", 0, len(text) - 1) + 1, start)
        parts.append(text[start:end])
        return end, b"".join(parts)


def _line_ends(text: bytes, codes: np.ndarray, is_last: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the last characters of line ends, and where the contents of the lines end."""
    ends = np.flatnonzero(codes == _LF)
    contents = ends
    if b"\r" in text:
        returns = np.flatnonzero(codes == _CR)
        # Without the rest of the text, a return at its end may be half of a line end.
        returns = returns[: len(returns) if is_last else np.searchsorted(returns, len(text) - 1)]
        alone = returns[codes[np.minimum(returns + 1, len(codes) - 1)] != _LF]
        contents = ends - ((codes[ends - 1] == _CR) & (ends > 0))
        order = np.argsort(np.concatenate([ends, alone]), kind="stable")
        ends, contents = np.concatenate([ends, alone])[order], np.concatenate([contents, alone])[order]
    if is_last and len(text) and codes[-1] not in (_LF, _CR):
        ends, contents = np.append(ends, len(text)), np.append(contents, len(text))
    return ends, contents


def _most(line_ends: np.ndarray, opening: np.ndarray, closing: np.ndarray) -> int:
    """The largest number of line ends in a quoted cell."""
    per_part = np.searchsorted(line_ends, closing) - np.searchsorted(line_ends, opening)
    # Doubled quotes join the parts of a cell.
    first_parts = np.flatnonzero(np.concatenate([[True], opening[1:] != closing[:-1] + 1]))
    return int(np.add.reduceat(per_part, first_parts).max())
