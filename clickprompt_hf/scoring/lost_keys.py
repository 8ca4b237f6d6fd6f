# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Counts scored rows whose user or item the model's joined tables lack, and warns about them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ..columns_clickprompt import cells_of
from ..tables_clickprompt import JoinedTable
from ..values_clickprompt import is_missing
from ..warnings_clickprompt import warn_at_caller

# A smaller share of the rows is not worth a warning.
_LEAST_SHARE = 0.01


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

    def add(self, rows: pa.Table, to_join: Sequence[str]) -> None:
        """Count rows.

        Args:
            rows: The rows.
            to_join: Columns of joined tables that are looked up for them.
        """
        self._columns = [name for name in self.table.columns if name in to_join]
        if not self._columns:
            return
        keys = [cell for cell in cells_of(rows.column(self.table.key)) if not is_missing(cell)]
        lost = [key for key, row in zip(keys, self.table.positions(keys)) if row < 0]
        self.num_keys, self.num_lost = self.num_keys + len(keys), self.num_lost + len(lost)
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

    def warn(self, where: str = "") -> None:
        """Warn once, if at least 1 % of the rows with a key have one that the table lacks.

        Args:
            where: What the rows are part of, for the message, such as `" of rows.csv"`.
        """
        if self._has_warned or not self.num_lost or self.num_lost < _LEAST_SHARE * self.num_keys:
            return
        self._has_warned = True
        warn_at_caller(
            f"{self.num_lost:,} of {self.num_keys:,} rows{where} have a key in column {self.table.key!r} that the "
            f"table saved with the model lacks, such as {self.example!r:.80}, so the columns {self._columns} are "
            "missing there. To score with them, include these columns in all rows."
        )
