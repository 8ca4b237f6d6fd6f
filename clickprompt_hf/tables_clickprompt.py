# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables of users and items that are joined to raw rows when they are scored; see `TableSchema`.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .encoding_clickprompt import ValueIndex, id_of_cell
from .values_clickprompt import canonical, each_distinct
# isort: on

TABLES_FILE = "joined_tables.jsonl"


class JoinedTable:
    """One row per user or item, found by its key as feature ids are found: by spelling, or else by meaning.

    Args:
        key: Column of raw rows that holds the key.
        keys: The key of each row, as `canonical` spells it, each once and none missing.
        columns: Cells of the other columns, in the order of `keys`, under the names that fields have.
    """

    def __init__(self, key: str, keys: Sequence[str], columns: Mapping[str, Sequence[Any]]):
        self.key, self.columns = key, dict(columns)
        self._index = ValueIndex(keys)

    @property
    def keys(self) -> Sequence[str]:
        """The key of each row."""
        return self._index.vocabulary

    def positions(self, cells: Iterable) -> list[int]:
        """The row of each key; -1 where there is none, as for a missing key."""
        return each_distinct(list(cells), lambda cell: id_of_cell(cell, self._index) - 1)

    def looked_up(self, cells: Iterable, names: Iterable[str]) -> dict[str, list]:
        """The cells of some columns in the rows of these keys; `None` where there is no row."""
        positions = self.positions(cells)
        return {name: [None if row < 0 else self.columns[name][row] for row in positions] for name in names}


class JoinedTables:
    """The tables of a schema, with the columns that its fields read.

    Args:
        tables: The tables. No two have a column of the same name.
    """

    def __init__(self, tables: Sequence[JoinedTable]):
        self.tables = list(tables)

    @property
    def keys(self) -> dict[str, str]:
        """By column of a table, the column of raw rows that holds its key."""
        return {name: table.key for table in self.tables for name in table.columns}

    def joined(self, columns: Mapping[str, Sequence], names: Iterable[str]) -> dict[str, list]:
        """Look up columns that rows lack.

        Args:
            columns: Columns of raw rows, those of the keys among them.
            names: Columns to look up.
        """
        wanted = set(names)
        found: dict[str, list] = {}
        for table in self.tables:
            if of_table := [name for name in table.columns if name in wanted]:
                found |= table.looked_up(columns[table.key], of_table)
        return found

    def lines(self) -> Iterator[str]:
        """JSON lines: per table its key, its columns and its number of rows, then its rows, the key first.

        Times and other cells that JSON lacks are written as `canonical` spells them.
        """
        for table in self.tables:
            header = {"key": table.key, "columns": list(table.columns), "rows": len(table.keys)}
            yield json.dumps(header) + "\n"
            for row in zip(table.keys, *table.columns.values()):
                yield json.dumps(list(map(_plain, row))) + "\n"

    def write(self, path: Path) -> None:
        """Write the tables as JSON lines; see `lines`."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(self.lines())

    @classmethod
    def read(cls, path: str | Path) -> "JoinedTables":
        """Read what `write` wrote.

        Raises:
            OSError: If the file is missing or damaged.
        """
        tables = []
        try:
            with Path(path).open(encoding="utf-8") as file:
                for line in file:
                    header = json.loads(line)
                    rows = [json.loads(next(file)) for _ in range(header["rows"])]
                    keys, *cells = zip(*rows) if rows else ((), *((),) * len(header["columns"]))
                    tables.append(JoinedTable(header["key"], keys, dict(zip(header["columns"], cells, strict=True))))
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise OSError(f"{path} must hold the joined tables as they were saved, but it is damaged.") from error
        return cls(tables)


def _plain(cell: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return list(map(_plain, cell))
    return cell if cell is None or isinstance(cell, (str, bool, int, float)) else canonical(cell)
