# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows to feature ids.

`FeatureEncoder.encode_values` is where raw values become ids, in training, in `processor(rows)`, in scoring and in
exported folders.

Ships with checkpoints and with exported folders that serve without torch: imports only numpy and the standard library.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .cells_clickprompt import index_of, texts_of, vocabulary_keys, without_missing_words
from .columns_clickprompt import Columns, cells_of, check_columns, columns_of, given_columns, is_listed
from .lists_clickprompt import UnreadableCell
from .processor_files_clickprompt import fingerprint_of, scales_of
from .schema_clickprompt import FieldSchema, Schema
from .unread_cells_clickprompt import UnreadCells, warn_of_dates_as_seconds
from .values_clickprompt import each_distinct, holds_several, is_column
from .vectors_clickprompt import UnreadableVector, read_vectors
from .vocabularies_clickprompt import TextList as TextList  # pickles of earlier versions find it here
from .vocabularies_clickprompt import ValueIndex, id_of_cell, lines_of

_SINGLE_VALUES = (str, bytes, int, float, type(None))
# Of N training rows, none is further from their mean than sqrt(N). Products of such numbers overflow float32.
_MOST_DEVIATIONS = 10**9


class FeatureEncoder:
    """Turns columns of raw values into feature ids.

    A value's id is its position in the field's vocabulary, counted from 1; 0 is the out-of-vocabulary id. Values are
    found by their spelling, or else by what they mean; see `ValueIndex`. Missing values (`None`, NaN, blank) are
    treated like any other value: they have an id if training rows have them, else 0. Fields of kinds `"text"` and
    `"vector"` have no ids.

    Args:
        schema: What the columns mean.
        vocabularies: Per field, the values in the order of their ids, from id 1; empty for free text and vectors.
        boundaries: Per field, the inner bucket boundaries in ascending order; empty unless the field is numeric.
        vectors: What was fitted for fields of vectors, as plain data: `scales`, by key of the field, the `mean` and
            `std` of each entry (see `VectorScale`); and `text_encoder`, the fingerprint of the PLM that makes vectors
            of texts, if one does. `None` without such fields.

    Raises:
        ValueError: If `vectors` lacks the scale of a field of vectors, or one is damaged.
    """

    # The tables that are joined to rows, as `JoinedTables`. A class attribute, because encoders pickled by earlier
    # versions have none.
    tables: Any = None

    def __init__(
        self,
        schema: Schema,
        vocabularies: Sequence[Sequence[str]],
        boundaries: list[list[float]],
        vectors: Mapping[str, Any] | None = None,
    ):
        self.schema = schema
        self.boundaries = boundaries
        self._set_vocabularies(vocabularies)
        self._set_vectors(vectors)

    def _set_vectors(self, vectors: Mapping[str, Any] | None) -> None:
        self.vectors = dict(vectors) if vectors else None
        # by index of the field
        self.scales = scales_of(self.schema, self.vectors)

    def _set_vocabularies(self, vocabularies: Sequence[Sequence[str]]) -> None:
        self.vocabularies = list(vocabularies)
        self.indexes = [ValueIndex(vocabulary) for vocabulary in vocabularies]

    @property
    def field_sizes(self) -> list[int]:
        """Number of ids of each field with ids, id 0 included, as in `CTRConfig.field_sizes`."""
        return [len(self.vocabularies[f]) + 1 for f, field in enumerate(self.schema.fields) if field.num_columns]

    @property
    def max_values(self) -> list[int]:
        """Number of columns in `feature_ids` of each field with ids, as in `CTRConfig.max_values`."""
        return [field.num_columns for field in self.schema.fields if field.num_columns]

    @property
    def vector_sizes(self) -> list[int]:
        """Number of entries of each field of vectors, as in `CTRConfig.vector_sizes`."""
        return [scale.size for scale in self.scales.values()]

    @property
    def read_columns(self) -> list[str]:
        """Columns that rows must have, without repeats."""
        read = [field for field in self.schema.fields if field.num_columns or field.is_vector]
        return list(dict.fromkeys(name for field in read for name in self.columns_of_field(field)))

    def columns_of_field(self, field: FieldSchema) -> list[str]:
        """Columns that rows must have for a field. Without a PLM, one that `columns` makes of others is a vector."""
        return [field.column]

    def columns_to_join(self, rows) -> dict[str, str]:
        """Columns of joined tables that rows lack, and the column that holds the table's key for each of them.

        Args:
            rows: As in `columns_of`. The rows of a list may lack different columns; `completed` looks these up.
        """
        if self.tables is None or is_listed(rows):
            return {}
        given, keys = given_columns(rows), self.tables.keys
        return {name: keys[name] for name in self.read_columns if name in keys and name not in given}

    def completed(self, rows: Iterable, row_offset: int = 0, lost_keys: Sequence[Any] = ()) -> list:
        """Rows of a list, each with the columns of joined tables that it lacks.

        Args:
            rows: Mappings from column to value.
            row_offset: Number of the first row in messages.
            lost_keys: As in `columns`.

        Raises:
            ValueError: If a row lacks a column and the key of its table; the message names the row.
        """
        rows = list(rows)
        # `columns_of` reports what is not a row
        if self.tables is None or not all(isinstance(row, Mapping) for row in rows):
            return rows
        return self.tables.completed(rows, self.read_columns, row_offset, lost_keys)

    def needed_columns(self, to_join: Mapping[str, str]) -> list[str]:
        """Columns that rows must have, without repeats, if some are joined, as `columns_to_join` returns them."""
        kept = [name for name in self.read_columns if name not in to_join]
        return list(dict.fromkeys([*kept, *to_join.values()]))

    def joined_columns(
        self, columns: Mapping[str, Iterable], what: str = "The rows", lost_keys: Sequence[Any] = ()
    ) -> dict[str, list]:
        """Look up the columns of joined tables that rows lack.

        Args:
            columns: Columns of raw rows: lists, or columns of Arrow or of a data frame.
            what: What the rows are, for the message.
            lost_keys: As in `columns`.

        Raises:
            ValueError: If the rows lack a column that is read, and the key of a table that has it.
        """
        to_join = self.columns_to_join(columns)
        check_columns(self.needed_columns(to_join), columns, what)
        keys = {key: cells_of(columns[key]) for key in set(to_join.values())}
        return self.tables.joined(keys, to_join, lost_keys) if to_join else {}

    @property
    def fingerprint(self) -> str:
        """Hash of the schema and everything fitted: encoders with equal hashes give rows equal ids and vectors."""
        return fingerprint_of(self.schema.to_dict(), self.boundaries, self.written_vocabularies(), self.vectors)

    def written_vocabularies(self) -> bytes:
        """Content of `feature_vocabularies.txt`.

        The first line is JSON with the number of values per field. Below it are the values, one per line, in the order
        of fields and ids.

        Raises:
            ValueError: If a value contains a line break. Values from rows never do: white space is collapsed.
        """
        sizes = {key: len(values) for key, values in zip(self.schema.keys, self.vocabularies)}
        return b"".join([f"{json.dumps(sizes, ensure_ascii=False)}\n".encode(), *map(lines_of, self.vocabularies)])

    def is_row(self, rows: Mapping[str, Any]) -> bool:
        """Whether a mapping is one row instead of columns of rows.

        In a row, cells of single-valued fields are not lists. If all given fields hold lists, as multi-valued fields
        and vectors do, it is a row, unless one of the lists holds cells: lists (also written as text), missing values
        or values with separators. Columns that the schema does not name are ignored.
        """
        if isinstance(rows, Columns):
            return False
        fields = {field.column: field for field in self.schema.fields if field.column in rows}
        others = {self.schema.label, *self.columns_to_join(rows).values()} & {*rows}
        if not all(is_column(rows[name]) for name in (*fields, *others)):
            return True
        list_fields = [field for field in fields.values() if field.kind in ("multi_valued", "vector")]
        if others or not list_fields or len(list_fields) < len(fields):
            return False
        has_cells = any(len(rows[field.column]) for field in list_fields)
        return has_cells and not any(
            _is_cell_of_lists(field, value) for field in list_fields for value in cells_of(rows[field.column])
        )

    def columns(self, rows, row_offset: int = 0, lost_keys: Sequence[Any] = ()) -> dict[str, Sequence]:
        """Convert rows to a mapping from column to values and check them.

        Args:
            rows: As in `columns_of`.
            row_offset: Number of the first row in messages.
            lost_keys: Per joined table, counts keys that it lacks: the `lost_keys` of `UnknownValues`.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, or a cell of a single-valued field
                holds several values; the message names row and column.
            TypeError: If `rows` or a row has an unsupported type.
        """
        if is_listed(rows):
            rows = self.completed(rows, row_offset, lost_keys)
        to_join = self.columns_to_join(rows)
        if isinstance(rows, Mapping):
            # Unknown columns must not decide whether this is one row or several.
            known = {*self.schema.columns, self.schema.label, *to_join.values()}
            known_columns = {name: rows[name] for name in rows if name in known}
            rows = {name: [cell] for name, cell in known_columns.items()} if self.is_row(rows) else known_columns
        columns = columns_of(rows, self.needed_columns(to_join), row_offset)
        columns = {**columns, **self.joined_columns(columns, lost_keys=lost_keys)}
        self._check_cells(columns, row_offset)
        return columns

    def _check_cells(self, columns: Mapping[str, Sequence], row_offset: int) -> None:
        for field in self.schema.fields:
            # Free text may be absent if there is no tokenizer.
            cells = columns.get(field.column, ())
            # Checking the few distinct types first takes a tenth of the time.
            if (
                field.kind == "multi_valued"
                or field.is_vector
                or all(issubclass(t, _SINGLE_VALUES) for t in set(map(type, cells)))
            ):
                continue
            for row, cell in enumerate(cells, start=row_offset):
                if holds_several(cell):
                    raise ValueError(
                        f"Column {field.column!r} of kind {field.kind!r} must hold one value per row, got "
                        f"{cell!r:.80} in row {row}."
                    )

    def encode(
        self, columns: Mapping[str, Sequence], row_offset: int = 0, unread: Sequence[UnreadCells] = ()
    ) -> np.ndarray:
        """Encode columns of raw values as `feature_ids` (B, C) int64.

        Args:
            columns: As `columns` returns them.
            row_offset: Number of the first row in messages.
            unread: Per field, counts cells that cannot be read, so that several calls share one warning.

        Raises:
            ValueError: If a cell of a multi-valued field is not a list of single values; the message names its row.
        """
        with_ids = [(f, field) for f, field in enumerate(self.schema.fields) if field.num_columns]
        counted: Sequence[UnreadCells | None] = unread or [None] * len(self.schema.fields)
        try:
            ids = [self.encode_values(f, columns[field.column], unread=counted[f]) for f, field in with_ids]
            return np.concatenate(ids, axis=1)
        except UnreadableCell as error:
            raise error.at(f" in row {row_offset + (error.index or 0)}") from None

    def encode_vectors(self, columns: Mapping[str, Sequence], row_offset: int = 0) -> np.ndarray:
        """Read the vectors of rows, as `feature_vectors` (B, sum of `vector_sizes`) float32.

        Missing vectors are NaN in all entries. The others are standardized, see `VectorScale`.

        Args:
            columns: As `columns` returns them.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a cell is not a vector of finite numbers of the field's size; the message names its row.
        """
        vectors = []
        for f in self.scales:
            try:
                vectors.append(self.vectors_of_cells(f, self.cells_of_vectors(self.schema.fields[f], columns)))
            except UnreadableVector as error:
                raise error.at(f" in row {row_offset + error.index}") from None
        return np.concatenate(vectors, axis=1)

    def cells_of_vectors(self, field: FieldSchema, columns: Mapping[str, Sequence]) -> Sequence:
        """The cells of a field of vectors: vectors, or texts of which a PLM makes them."""
        return columns[field.column]

    def vectors_of_cells(self, field_index: int, cells: Iterable) -> np.ndarray:
        """Read the vectors of one field's raw cells.

        Args:
            field_index: Index of a field of vectors in the schema.
            cells: B cells. Those of a field of texts are texts, or their vectors as the PLM makes them.

        Returns:
            (B, n) float32, standardized, NaN for missing vectors.

        Raises:
            UnreadableVector: If a cell is not a vector of finite numbers of the field's size.
        """
        field, scale, cells = self.schema.fields[field_index], self.scales[field_index], cells_of(cells)
        if not field.as_vector:
            return self._standardized(read_vectors(cells, field, scale.size)[0], field_index)
        texts = texts_of(cells, field)
        given = [None if text is not None else cell for text, cell in zip(texts, cells)]
        vectors, _ = read_vectors(given, field, scale.size)
        rows = [row for row, text in enumerate(texts) if text]
        if rows:
            vectors[rows] = self.vectors_of_texts([str(texts[row]) for row in rows], field)
        return self._standardized(vectors, field_index)

    def _standardized(self, vectors: np.ndarray, field_index: int) -> np.ndarray:
        """Standardize vectors (B, n) of finite numbers or NaN, and refuse those that would overflow in the model."""
        standardized = self.scales[field_index].standardized(vectors)
        if (is_far := np.abs(standardized) > _MOST_DEVIATIONS).any():
            row, entry = map(int, np.argwhere(is_far)[0])
            problem = f"entry {entry} is more than {_MOST_DEVIATIONS:,} standard deviations from its mean in training"
            raise UnreadableVector(self.schema.fields[field_index], vectors[row], problem, row)
        return standardized

    def vectors_of_texts(self, texts: Sequence[str], field: FieldSchema) -> np.ndarray:
        """Turn texts of a field into vectors (B, n), which needs a PLM.

        Raises:
            ValueError: Always: this encoder has no PLM.
        """
        raise ValueError(
            f"Column {field.column!r} must hold vectors of its texts, lists of numbers from the text encoder, got "
            f"{texts[0]!r:.80}. Reading the text needs a PLM: score with the checkpoint itself, or compute the "
            "vectors with `text_vectors` of clickprompt_hf.data.text_vectors."
        )

    def encode_values(
        self,
        field_index: int,
        values: Iterable,
        repeats: np.ndarray | None = None,
        unread: UnreadCells | None = None,
    ) -> np.ndarray:
        """Look up the ids of one field's raw values; each distinct value is looked up once.

        Warns about cells of numeric fields and parts of times that cannot be read, or are read as other times.

        Args:
            field_index: Index of the field in the schema.
            values: B raw values.
            repeats: (B,) number of rows of each, for warnings; one by default.
            unread: Counts cells that cannot be read, so that several calls share one warning.

        Returns:
            Ids (B, number of the field's columns) int64; -1 marks an empty slot of a multi-valued field.

        Raises:
            UnreadableCell: If a cell of a multi-valued field is not a list of single values.
        """
        field, boundaries = self.schema.fields[field_index], self.boundaries[field_index]
        index = self.indexes[field_index]
        values = without_missing_words(cells_of(values), field)
        if not field.num_columns:
            return np.zeros((len(values), 0), dtype=np.int64)
        if field.kind == "multi_valued":

            def ids_of_cell(cell: Any) -> list[int]:
                ids = [index.id_of(key) for key in vocabulary_keys(cell, field, boundaries)]
                return ids + [-1] * (field.max_values - len(ids))

            try:
                ids_of_cells = each_distinct(values, ids_of_cell)
            except UnreadableCell as error:
                error.index = index_of(error.cell, values)
                raise
            return np.asarray(ids_of_cells, dtype=np.int64).reshape(-1, field.max_values)
        if field.kind == "categorical":
            ids = each_distinct(values, lambda cell: id_of_cell(cell, index))
        else:
            if unread is None or not unread.total:
                warn_of_dates_as_seconds(field, values)
            ids = each_distinct(values, lambda cell: index.ids.get(vocabulary_keys(cell, field, boundaries)[0], 0))
            missing_id = index.ids.get("", 0)
            found = UnreadCells(field) if unread is None else unread
            found.add(values, np.asarray(ids) == missing_id, repeats)
            if unread is None:
                found.warn()
        return np.asarray(ids, dtype=np.int64).reshape(-1, 1)

    def missing_cells(self, field_index: int, cells: Iterable) -> np.ndarray:
        """Tell which raw cells of a field with ids are missing, or cannot be read: (B,) truth values."""
        field, boundaries = self.schema.fields[field_index], self.boundaries[field_index]
        known = without_missing_words(cells_of(cells), field)
        return np.asarray([vocabulary_keys(cell, field, boundaries) == [""] for cell in known], dtype=bool)


def _is_cell_of_lists(field: FieldSchema, value: Any) -> bool:
    """Whether a value is a whole cell of a field of lists, rather than one of the values in it."""
    is_written = isinstance(value, str) and (
        field.kind == "vector" or field.separator in value or value.lstrip().startswith(("[", "{"))
    )
    return value is None or is_written or holds_several(value)
