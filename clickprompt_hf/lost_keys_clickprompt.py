# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Counts scored rows whose user or item the model's joined tables lack, and warns about them.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from .tables_clickprompt import JoinedTable
from .values_clickprompt import is_missing
from .warnings_clickprompt import warn_at_caller

# A smaller share of the rows is not worth a warning.
_LEAST_SHARE = 0.01
# Calls with fewer rows warn once per table: a service may score rows one by one.
_FEW_ROWS = 10
_told: WeakSet[JoinedTable] = WeakSet()


class LostKeys:
    """Counts rows of a log with a key that a joined table lacks.

    Args:
        table: The table.
    """

    def __init__(self, table: JoinedTable):
        self.table = table
        self.num_lost = self.num_keys = 0
        self.example: Any = None
        self._columns: list[str] = []
        self._has_warned = False

    def add(self, keys: Sequence, positions: Sequence[int], columns: Sequence[str]) -> None:
        """Count rows.

        Args:
            keys: The key of each row.
            positions: The table's row of each key, as `JoinedTable.positions` returns them.
            columns: Columns of the table that are looked up.
        """
        self._columns = list(columns)
        without_row = [key for key, position in zip(keys, positions) if position < 0]
        lost = [key for key in without_row if not is_missing(key)]
        self.num_keys += len(positions) - len(without_row) + len(lost)
        self.num_lost += len(lost)
        if lost and self.example is None:
            self.example = lost[0]

    @property
    def counts(self) -> list:
        """Number of rows with a lost key, number of rows with a key, a lost key and the columns, as plain data."""
        return [self.num_lost, self.num_keys, self.example, self._columns]

    def merge(self, counts: list) -> None:
        """Add the `counts` of other rows, which may come from another process."""
        num_lost, num_keys, example, columns = counts
        self.num_lost, self.num_keys = self.num_lost + num_lost, self.num_keys + num_keys
        self.example = example if self.example is None else self.example
        self._columns = self._columns or columns

    def message(self, where: str = "") -> str | None:
        """What is lost; `None` if less than 1 % of the rows with a key have one that the table lacks.

        Args:
            where: What the rows are part of, such as `" of rows.csv"`.
        """
        if not self.num_lost or self.num_lost < _LEAST_SHARE * self.num_keys:
            return None
        return (
            f"{self.num_lost:,} of {self.num_keys:,} rows{where} have a key in column {self.table.key!r} that the "
            f"table saved with the model lacks, such as {self.example!r:.80}, so the columns {self._columns} are "
            "missing there. To score with them, include these columns in all rows, or replace the table by a newer "
            "one: with `--join`, or `refresh_table` of the processor."
        )

    def warn(self, where: str = "") -> None:
        """Warn once, if at least 1 % of the rows with a key have one that the table lacks.

        Args:
            where: As in `message`. Without it, fewer than ten rows trigger only one warning per table and process.
        """
        if self._has_warned or (message := self.message(where)) is None:
            return
        self._has_warned = True
        if self.num_keys < _FEW_ROWS and not where:
            if self.table in _told:
                return
            _told.add(self.table)
        warn_at_caller(message)
