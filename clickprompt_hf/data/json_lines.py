# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Read files with one JSON object per line, with values spelled as they are written."""

import codecs
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..values_clickprompt import encodable
from .json_objects import unrepeated
from .opened_files import errors_naming, opened

_ROWS_PER_BATCH = 8192
_A_FILE = "a file in UTF-8 with one JSON object per line"


class JsonLinesFile:
    """A file with one JSON object per line, compressed or not. Keys are columns; a key that a line lacks is null.

    Numbers and truth values are strings, spelled as in the file: `1.50` stays `"1.50"`, and integers have any size. A
    column of lists holds lists of strings. If a column holds objects, nested lists, or both lists and single values,
    its lists and objects are JSON text. A column of nulls has the type null.

    Args:
        path: The file. Names that end in .gz or .zst are decompressed. It is read once for its columns.

    Attributes:
        schema: Column names and types.
        num_rows: Number of rows, without blank lines.

    Raises:
        ValueError: If a line is not a JSON object or repeats a key, which the message names, or no line has a key.
    """

    def __init__(self, path: Path):
        self.path = path
        self.num_rows = 0
        kinds: dict[str, set[str]] = {}
        for row in self._rows():
            self.num_rows += 1
            for name, value in row.items():
                kinds.setdefault(name, set()).add(_kind(value))
        if not kinds:
            raise ValueError(f"{path} must be {_A_FILE}, but it has no objects with keys.")
        # other files tell what a column is that has only nulls here
        types = {frozenset(): pa.null(), frozenset({"list"}): pa.list_(pa.string())}
        self.schema = pa.schema(
            [(name, types.get(frozenset(found - {"null"}), pa.string())) for name, found in kinds.items()]
        )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows.

        Args:
            columns: Names of the columns to read; all by default.
        """
        wanted = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in wanted])
        rows: list[dict[str, Any]] = []
        for row in self._rows():
            rows.append(row)
            if len(rows) == _ROWS_PER_BATCH:
                yield self._batch(rows, schema)
                rows = []
        if rows:
            yield self._batch(rows, schema)

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: nothing is known."""
        return ""

    def _batch(self, rows: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
        arrays = []
        for field in schema:
            cells: list[Any] = [row.get(field.name) for row in rows]
            if pa.types.is_list(field.type):
                cells = [None if cell is None else [_text(element) for element in cell] for cell in cells]
            else:
                cells = [_text(cell) for cell in cells]
            arrays.append(pa.array(cells, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with errors_naming(self.path, _A_FILE), opened(self.path) as stream:
            for number, line in enumerate(io.BufferedReader(stream), start=1):
                text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if text.strip():
                    yield self._parsed(text, number)

    def _parsed(self, text: bytes, number: int) -> dict[str, Any]:
        where = f"{self.path} must be {_A_FILE}, but line {number}"
        try:
            row = json.loads(
                text.decode(),
                parse_int=_Written,
                parse_float=_Written,
                parse_constant=lambda written: None if written == "NaN" else _Written(written),
                object_pairs_hook=unrepeated,
            )
        except (ValueError, RecursionError) as error:
            shown = text[:80].decode("utf-8", "replace").rstrip()
            raise ValueError(f"{where} is not: {error}. It reads: {shown}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where} holds {_json_text(row)[:80]}")
        return row


class _Written(str):
    """A number, as it is written."""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "nested" if any(isinstance(element, (list, dict)) for element in value) else "list"
    return "nested" if isinstance(value, dict) else "single"


def _text(value: Any) -> str | None:
    """A cell of strings."""
    if value is None:
        return None
    return encodable(value if isinstance(value, str) else _json_text(value))


def _json_text(value: Any) -> str:
    if isinstance(value, _Written):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_json_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_json_text(key)}: {_json_text(item)}' for key, item in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
