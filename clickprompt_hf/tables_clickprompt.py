# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Tables of users and items that are joined to raw rows when they are scored; see `TableSchema`.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .columns_clickprompt import check_columns
from .vocabularies_clickprompt import ValueIndex, id_of_cell
from .values_clickprompt import canonical, each_distinct
# isort: on

TABLES_FILE = "joined_tables.jsonl"
_TIME = "time"


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

    def looked_up(self, positions: Sequence[int], names: Iterable[str]) -> dict[str, list]:
        """The cells of some columns in the rows at `positions`; `None` where there is no row."""
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

    def joined(
        self, columns: Mapping[str, Sequence], names: Iterable[str], lost_keys: Sequence[Any] = ()
    ) -> dict[str, list]:
        """Look up columns that rows lack.

        Args:
            columns: Columns of raw rows, those of the keys among them.
            names: Columns to look up.
            lost_keys: Per table, counts keys that it lacks, as `LostKeys`; none to count nothing.
        """
        wanted = set(names)
        found: dict[str, list] = {}
        for number, table in enumerate(self.tables):
            if names_of_table := [name for name in table.columns if name in wanted]:
                positions = table.positions(columns[table.key])
                found |= table.looked_up(positions, names_of_table)
                if lost_keys:
                    lost_keys[number].add(columns[table.key], positions, names_of_table)
        return found

    def completed(
        self,
        rows: Sequence[Mapping[str, Any]],
        names: Iterable[str],
        row_offset: int,
        lost_keys: Sequence[Any] = (),
    ) -> list[dict]:
        """Rows with the columns that they lack. What a row has itself is not looked up.

        Args:
            rows: Raw rows.
            names: Columns that are wanted.
            row_offset: Number of the first row in messages.
            lost_keys: As in `joined`.

        Raises:
            ValueError: If a row lacks a column of a table and the table's key; the message names the row.
        """
        wanted, done = set(names), [dict(row) for row in rows]
        keys = {name: key for name, key in self.keys.items() if name in wanted}
        for number, row in enumerate(rows, start=row_offset):
            check_columns((key for name, key in keys.items() if name not in row), row, f"Row {number}")
        for table_number, table in enumerate(self.tables):
            names_of_table = [name for name in table.columns if name in wanted]
            lacking = [
                (row, missing) for row in done if (missing := [name for name in names_of_table if name not in row])
            ]
            table_keys = [row[table.key] for row, _ in lacking]
            found = table.positions(table_keys)
            if lost_keys and table_keys:
                lost_keys[table_number].add(table_keys, found, names_of_table)
            for (row, missing), position in zip(lacking, found):
                row |= {name: None if position < 0 else table.columns[name][position] for name in missing}
        return done

    def lines(self) -> Iterator[str]:
        """JSON lines: per table its key, its columns and its number of rows, then its rows, the key first.

        Times are objects with their spelling, because a field's `time_format` is for strings only. Other cells that
        JSON lacks are written as `canonical` spells them.
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

    @staticmethod
    def keys_in(path: str | Path) -> dict[str, str]:
        """The `keys` of tables that `write` wrote, without reading their rows.

        Raises:
            OSError: If the file is missing or damaged.
        """
        keys: dict[str, str] = {}
        try:
            with Path(path).open(encoding="utf-8") as file:
                for line in file:
                    header = json.loads(line)
                    keys |= dict.fromkeys(header["columns"], header["key"])
                    for _ in range(header["rows"]):
                        next(file)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise _damaged(path) from error
        return keys

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
                    rows = [list(map(_cell, row)) for row in rows]
                    keys, *cells = zip(*rows) if rows else ((), *((),) * len(header["columns"]))
                    tables.append(JoinedTable(header["key"], keys, dict(zip(header["columns"], cells, strict=True))))
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise _damaged(path) from error
        return cls(tables)


def _damaged(path: str | Path) -> OSError:
    return OSError(f"{path} must hold the joined tables as they were saved, but it is damaged.")


def _plain(cell: Any) -> Any:
    """A cell as a JSON value."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return list(map(_plain, cell))
    if isinstance(cell, (date, np.datetime64)):
        return {_TIME: canonical(cell)}
    return cell if cell is None or isinstance(cell, (str, bool, int, float)) else canonical(cell)


def _cell(written: Any) -> Any:
    """The cell that `_plain` has written."""
    if isinstance(written, list):
        return list(map(_cell, written))
    return np.datetime64(written[_TIME]) if isinstance(written, dict) else written
