# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Join tables of users and items to the rows of files while these are read; see `TableSchema`."""

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from ..columns_clickprompt import cells_of
from ..schema_clickprompt import TableSchema
from ..tables_clickprompt import JoinedTable
from ..values_clickprompt import canonical, number_of
from ..warnings_clickprompt import warn_at_caller
from .arrow_cells import decoded
from .hive_folders import ReadableFile

# Rows, or bytes of the log, whose keys are looked up at a time.
_ROWS_HELD, _BYTES_HELD = 1 << 20, 1 << 26
# If a table lacks a larger share of the rows' keys, the two are probably spelled differently.
_MOST_LOST = 0.5
# Members of lists that JSON keeps.
_PLAIN = (str, bool, int, float, type(None))


class DimensionTable:
    """One row per user or item, in memory.

    Args:
        file: The file.
        described: The table as the schema describes it.
        wanted: Names of the columns to read, with the table's prefix; it need not have all of them.

    Attributes:
        columns: The columns that were read, under their names with the prefix.
        num_keys: Number of rows with a key that were looked up.
        num_lost: How many of them have a key that the table lacks.
        lost_key: One such key; `None` if there is none.

    Raises:
        ValueError: If the file is broken, or the column of the key is missing, lacks a value in a row or repeats one.
    """

    def __init__(self, file: ReadableFile, described: TableSchema, wanted: Collection[str]):
        self.path, self.key = file.path, described.key
        key_column = described.key_column
        self.num_keys = self.num_lost = 0
        self.lost_key: Any = None
        given = file.schema.names
        if given.count(key_column) != 1:
            advice = (
                " If the key has another name there, give that as `key_in_table`." if key_column == self.key else ""
            )
            if of_file := file.advise_on_columns():
                # only of a CSV file
                advice += f"{of_file} A table that is not written like its log needs a `csv` part of its own."
            raise ValueError(
                f"{file.path} must have the column {key_column!r} once, the `key` by which it is joined; it has "
                f"{given}.{advice}"
            )
        named = {name: described.prefix + name for name in given if name != key_column}
        kept = [name for name, prefixed in named.items() if prefixed in wanted]
        if repeated := [name for name in kept if given.count(name) > 1]:
            raise ValueError(f"{file.path} must have the column {repeated[0]!r} once; it has {given}.")
        types = pa.schema([file.schema.field(name) for name in (key_column, *kept)])
        table = pa.Table.from_batches(file.batches([key_column, *kept]), types)
        self.columns = {named[name]: _in_one_piece(table.column(name)) for name in kept}
        raw = decoded(table.column(key_column))
        cells = cells_of(raw)
        keys = self._checked_keys(cells, key_column)
        self._index = JoinedTable(self.key, keys, {})
        # Caches the row of each raw key, because spelling a key takes 30 times as long. By type, as True equals 1.
        self._found: dict[str, dict[Any, int]] = {}
        if not pa.types.is_nested(raw.type):
            self._found[_kind_of_keys(raw.type)] = dict(zip(cells, range(len(cells))))

    def _checked_keys(self, cells: list[Any], key_column: str) -> list[str]:
        keys = list(map(canonical, cells))
        rows: dict[str, int] = {}
        for row, key in enumerate(keys):
            if not key:
                raise ValueError(
                    f"{self.path} must have a key in column {key_column!r} of each row; row {row} has none."
                )
            if (first := rows.setdefault(key, row)) != row:
                raise ValueError(
                    f"{self.path} must have each key in column {key_column!r} once; rows {first} and {row} both have "
                    f"{key!r}."
                )
        return keys

    def rows_of(self, keys: Sequence[pa.Array]) -> list[pa.Array]:
        """The table's row of each key, per array of keys; null where the table has no such key."""
        encoded = decoded(pa.chunked_array(keys)).dictionary_encode().unify_dictionaries()
        values = encoded.chunk(0).dictionary
        found = self._found.setdefault(_kind_of_keys(values.type), {})
        cells = cells_of(values)
        new = [cell for cell in cells if cell not in found]
        found |= ((cell, row) for cell, row in zip(new, self._index.positions(new)) if row >= 0)
        rows = pa.array([found.get(cell) for cell in cells], pa.int64())
        # a null among the codes is a missing key
        taken = [rows.take(chunk.indices) for chunk in encoded.chunks]
        lost = [cell not in found and bool(canonical(cell)) for cell in cells]
        is_lost = pa.array(lost, pa.bool_())
        num_lost = sum(is_lost.take(chunk.indices).true_count for chunk in encoded.chunks)
        self.num_keys += num_lost + sum(len(chunk) - chunk.null_count for chunk in taken)
        self.num_lost += num_lost
        if self.lost_key is None and num_lost:
            self.lost_key = cells[lost.index(True)]
        return taken

    def warn_of_lost_keys(self, where: str = "") -> None:
        """Warn if the table lacks most of the keys that were looked up; the next warning counts from here.

        Args:
            where: What the rows are part of, such as `" of the test split"`.

        Warns:
            UserWarning: If more than half of the rows with a key have one that the table lacks.
        """
        if self.num_lost > _MOST_LOST * self.num_keys:
            known = f"has keys such as {self._index.keys[0]!r}" if self._index.keys else "is empty"
            warn_at_caller(
                f"{self.num_lost / self.num_keys:.0%} of {self.num_keys:,} rows{where} have a key in column "
                f"{self.key!r} that is not in {self.path}, such as {self.lost_key!r:.80}, so the joined columns are "
                f"missing there. The table {known}. If they should match, use the same spelling in both."
            )
        self.num_keys, self.num_lost, self.lost_key = 0, 0, None

    def joined_table(self, wanted: Collection[str]) -> JoinedTable:
        """The table as it is saved with a processor, with the columns that are wanted."""
        kept = {name: cells_of(column) for name, column in self.columns.items() if name in wanted}
        columns = {name: list(map(_lasting, cells)) for name, cells in kept.items()}
        return JoinedTable(self.key, self._index.keys, columns)


def check_different_columns(tables: Sequence[DimensionTable]) -> None:
    """Raise a ValueError if two tables have a column of the same name."""
    first: dict[str, DimensionTable] = {}
    for table in tables:
        for name in table.columns:
            if (other := first.setdefault(name, table)) is not table:
                raise ValueError(
                    f"Only one of the `tables` of a schema may have the column {name!r}, but {other.path} and "
                    f"{table.path} have it. Give them a `prefix`."
                )


def with_joined_columns(file: ReadableFile, tables: Sequence[DimensionTable]) -> ReadableFile:
    """The file with the columns of tables. The file's own columns take precedence.

    Raises:
        ValueError: If the file lacks the key of a table of which it lacks columns, or has lists of keys.
    """
    given = file.schema.names
    found = {name: table for table in tables for name in table.columns if name not in given}
    for table in found.values():
        if table.key not in given:
            raise ValueError(
                f"{file.path} must have the column {table.key!r}, by which {table.path} is joined; it has {given}. "
                f"If the table names it otherwise, give that as `key_in_table`.{file.advise_on_columns()}"
            )
        if pa.types.is_nested(kind := file.schema.field(table.key).type):
            raise ValueError(
                f"{file.path} must have one key per row in column {table.key!r}, by which {table.path} is joined, but "
                f"it has cells of type {kind}."
            )
    return _JoinedFile(file, found) if found else file


class _JoinedFile:
    """A file with columns that are looked up in tables."""

    def __init__(self, file: ReadableFile, found: dict[str, DimensionTable]):
        self.file, self.path, self.found = file, file.path, found
        more = [pa.field(name, table.columns[name].type) for name, table in found.items()]
        self.schema = pa.schema([*file.schema, *more])

    @property
    def num_rows(self) -> int | None:
        """Number of rows; `None` until a CSV file has been read to its end."""
        return self.file.num_rows

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows; see the file's own method."""
        wanted = self.schema.names if columns is None else list(columns)
        tables = dict.fromkeys(self.found[name] for name in wanted if name in self.found)
        own = [name for name in wanted if name not in self.found]
        read = list(dict.fromkeys([*own, *(table.key for table in tables)]))
        held: list[pa.RecordBatch] = []
        for batch in self.file.batches(read):
            if not len(batch):
                continue
            held.append(batch)
            if sum(map(len, held)) >= _ROWS_HELD or sum(part.nbytes for part in held) >= _BYTES_HELD:
                yield from self._joined(held, wanted)
                held = []
        yield from self._joined(held, wanted)

    def _joined(self, held: Sequence[pa.RecordBatch], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Batches with the columns that are looked up. A key that several of them have is looked up once."""
        if not held:
            return
        tables = dict.fromkeys(self.found[name] for name in wanted if name in self.found)
        rows = {table: table.rows_of([batch.column(table.key) for batch in held]) for table in tables}
        for number, batch in enumerate(held):
            arrays = [
                table.columns[name].take(rows[table][number])
                if (table := self.found.get(name)) is not None
                else batch.column(name)
                for name in wanted
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=wanted)

    def advise_on_columns(self) -> str:
        """What may be wrong if a column is missing: a sentence that starts with a space, or an empty string."""
        return self.file.advise_on_columns()


def _kind_of_keys(kind: pa.DataType) -> str:
    """A name that types share if their cells are the same in Python."""
    if pa.types.is_integer(kind):
        return "integer"
    return "string" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, from which rows are taken fast."""
    column = decoded(column)
    # offsets of 32 bits may not reach all strings
    return column.cast(pa.large_string() if pa.types.is_string(column.type) else column.type).combine_chunks()


def _lasting(cell: Any) -> Any:
    """A cell that means the same once it is saved, or is a cell of Arrow again."""
    if isinstance(cell, list):
        if cell and isinstance(cell[0], tuple):
            # Arrow's maps are lists of pairs in Python, but not in JSON
            return json.dumps({canonical(member): number_of(weight) for member, weight in cell}, ensure_ascii=False)
        return [member if isinstance(member, _PLAIN) else canonical(member) for member in cell]
    # Arrow would take the nanoseconds from times of pandas
    return cell.to_numpy() if hasattr(cell, "to_numpy") else cell
