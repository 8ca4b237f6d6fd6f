# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Write tables as CSV text that other readers split into the same rows and cells."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..columns_clickprompt import cells_of
from ..values_clickprompt import spellings
from .arrow_cells import decoded

# What some reader takes for a line end or the end of the text, a byte order mark, and blanks that some readers strip.
_NEEDS_QUOTES = r"[%s\"\r\n\x{0}\x{b}\x{c}\x{1c}-\x{1e}\x{85}\x{2028}\x{2029}\x{feff}]|^[\t\pZ]|[\t\pZ]$"


def csv_bytes(table: pa.Table, delimiter: str = ",", header: bool = True) -> bytes:
    """Write a table as CSV text in UTF-8, with LF at line ends.

    Cells are quoted where they need it. Nulls, NaN and empty strings are empty cells; truth values and times are
    written as by Python, lists and mappings as JSON.

    Args:
        table: The rows.
        delimiter: What separates cells, `","` or a tab.
        header: Whether to write the column names first.
    """
    lines = []
    if header:
        names = _quoted(pa.chunked_array([table.column_names], pa.large_string()), delimiter)
        lines.append(delimiter.join(names.to_pylist()))
    if len(table):
        columns = [_quoted(_text(column), delimiter) for column in table.columns]
        lines += pc.binary_join_element_wise(*columns, pa.scalar(delimiter, pa.large_string())).to_pylist()
    if table.num_columns == 1:
        # A blank line would not be a row.
        lines = [line or '""' for line in lines]
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(cells: pa.ChunkedArray, delimiter: str) -> pa.ChunkedArray:
    needs = pc.match_substring_regex(cells, _NEEDS_QUOTES % delimiter)
    if not pc.any(needs).as_py():
        return cells
    quote, nothing = (pa.scalar(text, pa.large_string()) for text in ('"', ""))
    doubled = pc.replace_substring(cells, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise(quote, doubled, quote, nothing), cells)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The cells as strings without nulls."""
    kind = column.type
    if getattr(kind, "extension_name", "").startswith("pandas."):
        return pa.chunked_array([spellings(cells_of(column))], pa.large_string())
    if isinstance(kind, pa.BaseExtensionType):
        return _text(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        return _text(decoded(column))
    if pa.types.is_floating(kind):
        single = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        cells = pc.if_else(pc.is_nan(single), None, single.cast(pa.large_string()))
    elif pa.types.is_boolean(kind):
        cells = pc.if_else(column, "True", "False")
    elif pa.types.is_nested(kind):
        cells = _each(column, lambda cell: json.dumps(_plain(cell), ensure_ascii=False))
    elif pa.types.is_temporal(kind):
        try:
            cells = _each(column, str)
        except (ValueError, OverflowError):
            # outside Python's years
            cells = column.cast(pa.large_string())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        cells = _each(column, _plain)
    else:
        cells = column
    return cells.cast(pa.large_string()).fill_null("")


def _each(column: pa.ChunkedArray, spell: Callable[[Any], str]) -> pa.ChunkedArray:
    cells = [None if cell is None else spell(cell) for cell in column.to_pylist()]
    return pa.chunked_array([cells], pa.large_string())


def _plain(cell: Any) -> Any:
    """A cell as JSON can hold it: Arrow's maps, which are lists of pairs in Python, as mappings."""
    if isinstance(cell, list):
        keys = [_plain(member[0]) for member in cell if isinstance(member, tuple)]
        if keys and len({*keys}) == len(cell):
            return {str(key): _plain(value) for key, (_, value) in zip(keys, cell)}
        return list(map(_plain, cell))
    if isinstance(cell, dict):
        return {key: _plain(value) for key, value in cell.items()}
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return cell if cell is None or isinstance(cell, (str, bool, int, float)) else str(cell)
