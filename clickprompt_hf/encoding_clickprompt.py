# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw rows to feature ids.

`FeatureEncoder.encode_values` is where raw values become ids, in training, in `processor(rows)`, in scoring and in
exported folders.

This file ships with every checkpoint and with exported folders that serve without torch, so it imports only numpy and
the standard library.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, compress, islice, pairwise
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

# One import per line: parentheses do not survive the copy into a checkpoint.
# isort: off
from .lists_clickprompt import UnreadableCell, cell_values, kept_values
from .schema_clickprompt import TIME_PARTS, FieldSchema, Schema
from .values_clickprompt import FIRST_INEXACT, canonical, each_distinct, holds_several, is_column, is_missing
from .values_clickprompt import advice_on_numbers, format_of_digits, meaning_of, normal_spelling, number_of, percent
from .values_clickprompt import read_time, warn_at_caller, with_another_spelling
from .vectors_clickprompt import UnreadableVector, VectorScale, read_vectors
# isort: on

VOCABULARIES_FILE = "feature_vocabularies.txt"
_SINGLE_VALUES = (str, bytes, int, float, type(None))
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)
_NO_TIME = " (not a time)"
# Vocabularies from so many values on are read as a `TextList`.
LONG_VOCABULARY = 1 << 16
# Attributes of Arrow tables and datasets, and of data frames.
_NAMES_OF_COLUMNS = ("column_names", "columns")
_INDEX_LOCK = threading.Lock()
# Cells that tell how a column is written.
_CELLS_TRIED = 1000
# Fewer rows, or a smaller share of unknown values, do not tell a column that is read wrongly from new values.
_LEAST_ROWS, _UNKNOWN_SHARE = 10, 0.9
_NUM_EXAMPLES = 3


class TextList(Sequence):
    """Many texts without line breaks, as bytes: they take a fifth of the memory of a list of strings.

    Indices and slices, iteration and comparison work as for a list; slices are lists.

    Args:
        content: (bytes,) uint8, the texts in UTF-8, a line feed after each.
        ends: (V,) int64, number of bytes up to and with the line feed of each text.
    """

    # The texts that become strings at a time.
    _BLOCK = 1 << 14

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._strings(start, max(stop, start))
            return [self[position] for position in range(start, stop, step)]
        position = range(len(self))[index]
        return self._strings(position, position + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), self._BLOCK):
            yield from self._strings(start, min(start + self._BLOCK, len(self)))

    def __contains__(self, text: Any) -> bool:
        return isinstance(text, str) and self._position_of(text) is not None

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, TextList):
            return np.array_equal(self.content, other.content)
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Index of the first text that equals `value`; other arguments as in `list.index`."""
        position = self._position_of(value) if isinstance(value, str) else None
        if position is None or not start <= position < len(range(len(self))[:stop]):
            raise ValueError(f"{value!r} is not in the list.")
        return position

    def _position_of(self, text: str) -> int | None:
        line = text.encode("utf-8", "surrogatepass") + b"\n"
        if not len(self) or b"\n" in line[:-1]:
            return None
        if self.content[: len(line)].tobytes() == line:
            return 0
        # which searches the bytes where they are
        found = re.search(re.escape(b"\n" + line), self.content.data)
        return None if found is None else int(np.searchsorted(self.ends, found.start() + 1)) + 1

    def _strings(self, start: int, stop: int) -> list[str]:
        if start == stop:
            return []
        first = int(self.ends[start - 1]) if start else 0
        return self.content[first : int(self.ends[stop - 1]) - 1].tobytes().decode().split("\n")


class ValueIndex:
    """Finds values in the vocabulary of a field: by their spelling, or else by what they mean.

    A value that means the same as exactly one entry of the vocabulary has its id, whatever its spelling: `1e3`, `1000`
    and 1000.0, or `TRUE` and `true`. Of several such entries, the one in the normal spelling counts; without it, none.

    Args:
        vocabulary: The values in the order of their ids, from id 1.
    """

    def __init__(self, vocabulary: Sequence[str]):
        self.vocabulary = vocabulary
        # Built on first use: for ten million values, building takes longer than reading the file.
        self._ids: dict[str, int] | None = None
        self._ids_by_meaning: dict[str, int] | None = None
        self._id_of_missing: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "_ids": None, "_ids_by_meaning": None, "_id_of_missing": None}

    @property
    def id_of_missing(self) -> int:
        """The id of a missing value; 0 if training had none."""
        # needs no dict of all values
        if self._id_of_missing is None:
            self._id_of_missing = self.vocabulary.index("") + 1 if "" in self.vocabulary else 0
        return self._id_of_missing

    @property
    def ids(self) -> dict[str, int]:
        """The id of each entry."""
        if self._ids is None:
            with _INDEX_LOCK:
                # Another thread may have built it in the meantime.
                if self._ids is None:
                    self._ids = dict(zip(self.vocabulary, range(1, len(self.vocabulary) + 1)))
        return self._ids

    def id_of(self, text: str) -> int:
        """Id of a value as `canonical` spells it; 0 if it is unknown."""
        ids = self.ids
        if text in ids:
            return ids[text]
        meaning = meaning_of(text)
        if meaning is None and text.isascii():
            return 0
        normal = text if meaning is None else meaning
        return ids.get(normal) or self._by_meaning().get(normal, 0)

    def spelling_of(self, text: str) -> str:
        """The vocabulary's spelling of a value; `text` itself if it is unknown."""
        found = self.id_of(text)
        return self.vocabulary[found - 1] if found else text

    def _by_meaning(self) -> dict[str, int]:
        """Ids by normal spelling, of the entries that have another one; 0 if several have the same meaning."""
        if self._ids_by_meaning is None:
            with _INDEX_LOCK:
                if self._ids_by_meaning is None:
                    ids: dict[str, int] = {}
                    for position, normal in with_another_spelling(self.vocabulary):
                        ids[normal] = 0 if normal in ids else position + 1
                    self._ids_by_meaning = ids
        return self._ids_by_meaning


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

    # The tables that are joined to rows, as `JoinedTables`; of the class, as encoders that were pickled earlier have
    # none.
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
        read = (field.column for field in self.schema.fields if field.num_columns or field.is_vector)
        return list(dict.fromkeys(read))

    def columns_to_join(self, rows) -> dict[str, str]:
        """Columns of joined tables that rows lack, and the column that holds the table's key for each of them.

        Args:
            rows: As in `columns_of`. The rows of a list may lack different columns; `completed` looks these up.
        """
        if self.tables is None or is_listed(rows):
            return {}
        given, keys = given_columns(rows), self.tables.keys
        return {name: keys[name] for name in self.read_columns if name in keys and name not in given}

    def completed(self, rows: Iterable, row_offset: int = 0) -> list:
        """Rows of a list, each with the columns of joined tables that it lacks.

        Args:
            rows: Mappings from column to value.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a row lacks a column and the key of its table; the message names the row.
        """
        rows = list(rows)
        # `columns_of` names what is no row
        if self.tables is None or not all(isinstance(row, Mapping) for row in rows):
            return rows
        return self.tables.completed(rows, self.read_columns, row_offset)

    def needed_columns(self, to_join: Mapping[str, str]) -> list[str]:
        """Columns that rows must have, without repeats, if some are joined, as `columns_to_join` returns them."""
        kept = [name for name in self.read_columns if name not in to_join]
        return list(dict.fromkeys([*kept, *to_join.values()]))

    def joined_columns(self, columns: Mapping[str, Iterable], what: str = "The rows") -> dict[str, list]:
        """Look up the columns of joined tables that rows lack.

        Args:
            columns: Columns of raw rows: lists, or columns of Arrow or of a data frame.
            what: What the rows are, for the message.

        Raises:
            ValueError: If the rows lack a column that is read, and the key of a table that has it.
        """
        to_join = self.columns_to_join(columns)
        check_columns(self.needed_columns(to_join), columns, what)
        keys = {key: cells_of(columns[key]) for key in set(to_join.values())}
        return self.tables.joined(keys, to_join) if to_join else {}

    @property
    def fingerprint(self) -> str:
        """Hash of schema and everything fitted: two encoders with the same one give rows the same ids and vectors."""
        return fingerprint_of(self.schema.to_dict(), self.boundaries, self.written_vocabularies(), self.vectors)

    def written_vocabularies(self) -> bytes:
        """Content of `feature_vocabularies.txt`.

        The first line is JSON with the number of values per field. Below it are the values, one per line, in the order
        of fields and ids.

        Raises:
            ValueError: If a value contains a line break. Values from rows never do: white space is collapsed.
        """
        sizes = {key: len(values) for key, values in zip(self.schema.keys, self.vocabularies)}
        return b"".join([f"{json.dumps(sizes, ensure_ascii=False)}\n".encode(), *map(_lines_of, self.vocabularies)])

    def columns(self, rows, row_offset: int = 0) -> dict[str, Sequence]:
        """Convert rows to a mapping from column to values and check them.

        Args:
            rows: As in `columns_of`.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a row lacks a field's column, columns differ in length, or a cell of a single-valued field
                holds several values; the message names row and column.
            TypeError: If `rows` or a row has an unsupported type.
        """
        if is_listed(rows):
            rows = self.completed(rows, row_offset)
        to_join = self.columns_to_join(rows)
        if isinstance(rows, Mapping):
            # Unknown columns must not decide whether this is one row or several.
            known = {*self.schema.columns, self.schema.label, *to_join.values()}
            rows = {name: rows[name] for name in rows if name in known}
        columns = columns_of(rows, self.needed_columns(to_join), row_offset)
        columns = {**columns, **self.joined_columns(columns)}
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

    def encode(self, columns: Mapping[str, Sequence], row_offset: int = 0) -> np.ndarray:
        """Encode columns of raw values as `feature_ids` (B, C) int64.

        Args:
            columns: As `columns` returns them.
            row_offset: Number of the first row in messages.

        Raises:
            ValueError: If a cell of a multi-valued field is not a list of single values; the message names its row.
        """
        with_ids = [(f, field) for f, field in enumerate(self.schema.fields) if field.num_columns]
        try:
            return np.concatenate([self.encode_values(f, columns[field.column]) for f, field in with_ids], axis=1)
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
                vectors.append(self.vectors_of_cells(f, columns[self.schema.fields[f].column]))
            except UnreadableVector as error:
                raise error.at(f" in row {row_offset + error.index}") from None
        return np.concatenate(vectors, axis=1)

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
        """Standardize vectors (B, n) of finite numbers or NaN, and refuse those that float32 cannot hold."""
        standardized = self.scales[field_index].standardized(vectors)
        if (too_large := np.isinf(standardized).any(axis=1)).any():
            row = int(too_large.argmax())
            problem = "an entry is too far from those of the training rows for float32"
            raise UnreadableVector(self.schema.fields[field_index], vectors[row], problem, row)
        return standardized

    def vectors_of_texts(self, texts: Sequence[str], field: FieldSchema) -> np.ndarray:
        """Turn texts of a field into vectors (B, n), which needs a PLM.

        Raises:
            ValueError: As this encoder has none.
        """
        raise ValueError(
            f"Column {field.column!r} must hold the vectors of its texts, lists of numbers as the text encoder makes "
            f"them, got {texts[0]!r:.80}: a PLM would have to read the text. Score with the checkpoint itself, or "
            "compute the vectors with `text_vectors` of clickprompt_hf.data.text_vectors."
        )

    def encode_values(
        self,
        field_index: int,
        values: Iterable,
        repeats: np.ndarray | None = None,
        unread: "UnreadCells | None" = None,
    ) -> np.ndarray:
        """Look up the ids of one field's raw values; each distinct value is looked up once.

        Warns about cells of numeric fields and parts of times that cannot be read, or are read as other times.

        Args:
            field_index: Index of the field in the schema.
            values: B raw values.
            repeats: (B,) number of rows of each, for warnings; one by default.
            unread: Counts cells that cannot be read, to warn of those of several calls at once.

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


class UnreadCells:
    """Counts cells of a numeric field, or of a part of a time, that are neither missing nor readable.

    Args:
        field: The field.
    """

    def __init__(self, field: FieldSchema):
        self.field, self.count, self.total = field, 0, 0
        self.examples: list[Any] = []
        self._has_warned = False

    def add(self, values: Sequence, is_missing_id: np.ndarray, repeats: np.ndarray | None = None) -> None:
        """Count cells.

        Args:
            values: V raw values.
            is_missing_id: (V,) whether each has the id of a missing value, as all such cells have.
            repeats: As in `encode_values`.
        """
        repeats = np.ones(len(values), dtype=np.int64) if repeats is None else repeats
        self.total += int(repeats.sum())
        candidates = np.flatnonzero(is_missing_id & (repeats > 0)).tolist()
        is_unread = each_distinct(
            [values[v] for v in candidates],
            lambda cell: vocabulary_keys(cell, self.field, []) == [""] and not is_missing(cell),
        )
        unread = list(compress(candidates, is_unread))
        self.count += int(repeats[unread].sum())
        self.examples += [values[v] for v in unread[: max(0, _CELLS_TRIED - len(self.examples))]]

    @property
    def counts(self) -> list:
        """Number of unread cells, number of all cells, and examples of unread ones, as plain data."""
        return [self.count, self.total, self.examples]

    def merge(self, counts: list) -> None:
        """Add the `counts` of other rows, which may come from another process."""
        count, total, examples = counts
        self.count, self.total = self.count + count, self.total + total
        self.examples = [*self.examples, *examples][:_CELLS_TRIED]

    def warn(self, where: str = "") -> None:
        """Warn about the cells, if there are any, once.

        Args:
            where: What the cells are part of, for the message, such as `" of rows.csv"`.
        """
        if not self.examples or self._has_warned:
            return
        self._has_warned = True
        field, example = self.field, self.examples[0]
        what = "numbers" if field.kind == "numeric" else "times"
        written = f" in the `time_format` {field.time_format!r}" if field.time_format else ""
        warn_at_caller(
            f"Column {field.column!r} of kind {field.kind!r} should hold {what}{written}; {self.count:,} of "
            f"{self.total:,} cells{where} ({percent(self.count / self.total)}), such as {example!r:.80}, count as "
            f"missing."
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """How the cells should be written or read: a sentence that starts with a space, or nothing."""
        if self.field.kind == "numeric":
            texts = (cell.strip() if isinstance(cell, str) else canonical(cell) for cell in self.examples)
            advice = advice_on_numbers(texts)
            return f" {advice[0].upper()}{advice[1:]}." if advice else ""
        time_format = None if self.field.time_format else format_of_digits(self.examples[0])
        return f" They may be dates in the `time_format` {time_format!r}." if time_format else ""


def warn_of_dates_as_seconds(field: FieldSchema, cells: Iterable) -> None:
    """Warn if the first thousand cells that a field without `time_format` reads as seconds are dates in digits."""
    if field.kind not in TIME_PARTS or field.time_format is not None:
        return
    example, time_format = "", None
    for cell in islice(cells, _CELLS_TRIED):
        if isinstance(cell, (str, int, float, np.number)) and (text := canonical(cell)).isdigit() and read_time(text):
            time_format = format_of_digits(text)
            if time_format is None:
                return
            example = example or text
    if example:
        warn_at_caller(
            f"Column {field.column!r} of kind {field.kind!r} has no `time_format`, so cells like {example!r} are read "
            f"as seconds since 1970, or fractions of them: as {read_time(example):%Y-%m-%d %H:%M}. If they are dates "
            f"in digits, give the field `time_format: {time_format!r}`; if its model is trained, write them as in "
            "training."
        )


def id_of_cell(cell: Any, index: ValueIndex) -> int:
    """Id of a raw cell of a categorical field; 0 if it is unknown."""
    return index.id_of(canonical(cell)) or _id_of_exact_integer(cell, index)


def _id_of_exact_integer(value: Any, index: ValueIndex) -> int:
    """Id of a large double as the integer that it is, instead of the shortest decimal that reads back as it."""
    if isinstance(value, (float, np.floating)) and FIRST_INEXACT <= abs(float(value)) < float("inf"):
        return index.ids.get(str(int(value)), 0)
    return 0


class UnknownValues:
    """Counts values that training rows did not have, and warns about fields of which hardly any value is known.

    Such a column is probably read or written otherwise than in training. The same holds if all its values are
    missing, unless missing was the most frequent value in training too, and if all vectors of a field are missing.

    Args:
        encoder: The encoder whose ids are counted.
    """

    def __init__(self, encoder: FeatureEncoder):
        self.encoder = encoder
        self.rows = [0] * len(encoder.schema.fields)
        self.unknown = [0] * len(encoder.schema.fields)
        # Missing values that training knew.
        self.missing = [0] * len(encoder.schema.fields)
        self.examples: list[list[str]] = [[] for _ in encoder.schema.fields]
        self._warned: set[int] = set()

    def add(self, field_index: int, values: Sequence, ids: np.ndarray, repeats: np.ndarray | None = None) -> None:
        """Count values of one field.

        Args:
            field_index: Index of the field in the schema.
            values: V raw values.
            ids: Their ids (V, number of the field's columns), as `encode_values` returns them.
            repeats: Number of rows of each value, (V,); one by default.
        """
        if not ids.shape[1]:
            # texts have no ids
            return
        repeats = np.ones(len(ids), dtype=np.int64) if repeats is None else repeats
        index = self.encoder.indexes[field_index]
        is_unknown = ~(ids > 0).any(axis=1) & (repeats > 0)
        self.rows[field_index] += int(repeats.sum())
        self.unknown[field_index] += int(repeats[is_unknown].sum())
        if (missing_id := index.id_of_missing) > 1:
            self.missing[field_index] += int(repeats[ids[:, 0] == missing_id].sum())
        examples, field = self.examples[field_index], self.encoder.schema.fields[field_index]
        if is_unknown.any() and len(examples) < _NUM_EXAMPLES:
            for example in each_distinct(list(compress(cells_of(values), is_unknown)), partial(_example_of, field)):
                if len(examples) < _NUM_EXAMPLES and example not in examples:
                    examples.append(example)

    def add_vectors(self, field_index: int, is_missing: np.ndarray) -> None:
        """Count vectors of one field, given whether each is missing (N,)."""
        self.rows[field_index] += len(is_missing)
        self.missing[field_index] += int(is_missing.sum())

    def add_rows(
        self, columns: Mapping[str, Sequence], feature_ids: np.ndarray, feature_vectors: np.ndarray | None = None
    ) -> None:
        """Count the values of rows.

        Args:
            columns: Raw values by column.
            feature_ids: Their ids (B, C), as `encode` returns them.
            feature_vectors: Their vectors (B, S), as `encode_vectors` returns them; only with fields of vectors.
        """
        if feature_vectors is not None:
            starts = np.cumsum([0, *self.encoder.vector_sizes[:-1]])
            for f, start in zip(self.encoder.scales, starts):
                self.add_vectors(f, np.isnan(feature_vectors[:, start]))
        with_ids = [(f, field) for f, field in enumerate(self.encoder.schema.fields) if field.num_columns]
        ends = np.cumsum([field.num_columns for _, field in with_ids])
        for (f, field), ids in zip(with_ids, np.split(feature_ids, ends[:-1], axis=1)):
            self.add(f, columns[field.column], ids)

    @property
    def counts(self) -> list[list]:
        """Per field: number of values, of unknown and of missing ones, and examples of unknown ones, as plain data."""
        return [self.rows, self.unknown, self.missing, self.examples]

    def merge(self, counts: list[list]) -> None:
        """Add the `counts` of other rows with the same encoder, which may come from another process."""
        *numbers, examples = counts
        for mine, others in zip(self.counts, numbers):
            mine[:] = map(sum, zip(mine, others))
        self.examples = [list(dict.fromkeys(chain(*pair)))[:_NUM_EXAMPLES] for pair in zip(self.examples, examples)]

    def warn(self, where: str = "", but_for: str | None = None) -> None:
        """Warn about each field whose values, at least 10, are unknown to 90 % or all missing, once per field.

        Args:
            where: What the rows are part of, for the message, such as `" of the test split"`; empty for a call's rows.
            but_for: A column whose values are expected to be unknown.
        """
        for f, field in enumerate(self.encoder.schema.fields):
            if field.column == but_for or f in self._warned:
                continue
            known, rows, unknown = self._known(f), self.rows[f], self.unknown[f]
            all_missing = unknown + self.missing[f] == rows
            if field.is_vector and rows >= _LEAST_ROWS and all_missing:
                self._warned.add(f)
                warn_at_caller(
                    f"All {rows:,} vectors in column {field.column!r}{where} are missing; training rows had some. "
                    "Check how the column is read."
                )
            if not known or rows < _LEAST_ROWS or (unknown < _UNKNOWN_SHARE * rows and not all_missing):
                continue
            self._warned.add(f)
            found = f"{unknown / rows:.0%} of {rows:,} values" if unknown else f"All {rows:,} values"
            what = f"unknown, such as {', '.join(self.examples[f])}" if unknown else "missing"
            advice = "If they should be the same, write the column as in training."
            if field.kind in TIME_PARTS and unknown and not any(text.endswith(_NO_TIME) for text in self.examples[f]):
                found += f" of the {field.kind}"
                advice = f"That is right if training rows are of other {field.kind}s, as after a split by time."
            warn_at_caller(
                f"{found} in column {field.column!r}{where} are {what}; training had values such as "
                f"{', '.join(known)}. {advice}"
            )

    def _known(self, field_index: int) -> list[str]:
        """Examples of values that training rows had."""
        if self.encoder.schema.fields[field_index].kind == "numeric":
            return [f"{number:g}" for number in self.encoder.boundaries[field_index][:_NUM_EXAMPLES]]
        vocabulary = self.encoder.indexes[field_index].vocabulary[: _NUM_EXAMPLES + 1]
        return [repr(value) for value in vocabulary if value][:_NUM_EXAMPLES]


def _example_of(field: FieldSchema, cell: Any) -> str:
    """An unknown cell as warnings show it: the part of a time, which is what training knew, or the cell itself."""
    if field.kind not in TIME_PARTS:
        return f"{cell!r:.80}"
    return repr(part) if (part := time_part(cell, field)) else f"{cell!r:.80}{_NO_TIME}"


def warn_of_unknown_values(
    encoder: FeatureEncoder,
    columns: Mapping[str, Sequence],
    feature_ids: np.ndarray,
    feature_vectors: np.ndarray | None = None,
) -> None:
    """Warn about columns of a call's rows that hold hardly any known value: see `UnknownValues`."""
    # a single row, scored on its own, need not wait for counts
    if len(feature_ids) >= _LEAST_ROWS:
        unknown = UnknownValues(encoder)
        unknown.add_rows(columns, feature_ids, feature_vectors)
        unknown.warn()


def read_vocabularies(path: str | Path, processor_config: Mapping[str, Any]) -> list[Sequence[str]]:
    """Read the vocabularies of all fields from a file that was saved with `processor_config`.

    Raises:
        ValueError: If file and configuration were not saved together, one of them is incomplete, or a field of the
            configuration has the wrong type.
    """
    check_processor_config(processor_config)
    written = Path(path).read_bytes()
    # Of the schema as saved, which `Schema.from_dict` may have completed.
    fitted = (processor_config["schema"], processor_config["boundaries"], written, processor_config.get("vectors"))
    found = fingerprint_of(*fitted)
    if found != (expected := processor_config["fingerprint"]):
        raise ValueError(
            f"{path} must be the whole file that was saved with processor_config.json, whose fingerprint is "
            f"{expected}; together these files have {found}."
        )
    header = written.index(b"\n") + 1
    content = np.frombuffer(written, dtype=np.uint8)[header:]
    ends = np.flatnonzero(content == ord("\n")) + 1
    vocabularies: list[Sequence[str]] = []
    first = last = 0
    for size in json.loads(written[:header]).values():
        last += size
        start = int(ends[first - 1]) if first else 0
        texts = TextList(content[start : int(ends[last - 1]) if last else 0], ends[first:last] - start)
        vocabularies.append(texts if size >= LONG_VOCABULARY else list(texts))
        first = last
    return vocabularies


def _lines_of(values: Sequence[str]) -> bytes:
    """Texts in UTF-8, with a line feed after each."""
    if isinstance(values, TextList):
        return values.content.tobytes()
    lines = "".join(f"{value}\n" for value in values)
    if lines.count("\n") != len(values):
        broken = next(value for value in values if "\n" in value)
        raise ValueError(f"`vocabularies` must hold values without line breaks, got {broken!r}.")
    return lines.encode()


def check_processor_config(config: Any) -> None:
    """Check the content of `processor_config.json`.

    Raises:
        ValueError: If a field is missing or has the wrong type; the message names it.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"processor_config.json must hold a mapping, got {config!r:.200}.")
    if config.get("vectors") is not None and not isinstance(config["vectors"], Mapping):
        raise ValueError(f"`vectors` in processor_config.json must be a mapping, got {config['vectors']!r:.200}.")
    for name, expected, is_valid in (
        ("schema", "a mapping", lambda value: isinstance(value, Mapping)),
        ("fingerprint", "a string", lambda value: isinstance(value, str)),
        ("reads_text", "true or false", lambda value: isinstance(value, bool)),
        ("max_text_length", "a positive integer or null", lambda value: value is None or _is_count(value)),
        ("boundaries", "a list of ascending numbers per field", _are_boundaries),
    ):
        if name not in config:
            raise ValueError(f"`{name}` must be in processor_config.json, which has {sorted(map(str, config))}.")
        if not is_valid(config[name]):
            raise ValueError(f"`{name}` in processor_config.json must be {expected}, got {config[name]!r:.200}.")
    try:
        schema = Schema.from_dict(config["schema"])
        num_fields = len(schema.fields)
    except ValueError as error:
        raise ValueError(f"`schema` in processor_config.json must be valid: {error}") from error
    if len(config["boundaries"]) != num_fields:
        raise ValueError(
            f"`boundaries` in processor_config.json must have one list per field ({num_fields}), got "
            f"{len(config['boundaries'])}."
        )
    scales_of(schema, config.get("vectors"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_boundaries(value: Any) -> bool:
    """Whether a value is a list of lists of numbers in ascending order."""
    return isinstance(value, list) and all(
        isinstance(inner, list)
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in inner)
        and all(lower <= upper for lower, upper in pairwise([-np.inf, *inner, np.inf]))
        for inner in value
    )


def scales_of(schema: Schema, vectors: Mapping[str, Any] | None) -> dict[int, VectorScale]:
    """The scale of each field of vectors, by its index in the schema, from the plain data that was fitted.

    Raises:
        ValueError: If one is missing or damaged.
    """
    scales: Mapping[str, Any] = (vectors or {}).get("scales", {})
    found = {}
    for f in schema.vector_fields:
        key = schema.fields[f].key
        if key not in scales:
            raise ValueError(f"`vectors` must have the scale of the field {key!r}, got those of {sorted(scales)}.")
        try:
            found[f] = VectorScale.from_dict(scales[key])
        except ValueError as error:
            raise ValueError(f"`vectors` must have the scale of the field {key!r}, but {error}.") from error
    return found


def fingerprint_of(
    schema: Mapping[str, Any],
    boundaries: list[list[float]],
    written_vocabularies: bytes,
    vectors: Mapping[str, Any] | None = None,
) -> str:
    """Hash everything that a row's ids and vectors depend on."""
    # How files are written and where columns come from says nothing about ids.
    schema = {key: value for key, value in schema.items() if key not in ("csv", "tables")}
    digest = hashlib.sha256(json.dumps([schema, boundaries, *([vectors] if vectors else [])]).encode())
    digest.update(written_vocabularies)
    return digest.hexdigest()[:16]


def check_columns(needed: Iterable[str], given: Iterable[str], what: str = "The rows") -> None:
    """Raise a ValueError that names the columns that `what` lacks."""
    needed, given = list(dict.fromkeys(needed)), list(given)
    if missing := [column for column in needed if column not in given]:
        raise ValueError(f"{what} must have the columns {needed}; missing {missing}, given {given}.")


def check_different(names: Iterable[str], what: str) -> None:
    """Raise a ValueError that names the columns that `what` has more than once."""
    names = list(names)
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"The columns of {what} must have different names; repeated: {repeated}.")


def columns_of(rows, needed: Sequence[str] = (), row_offset: int = 0) -> dict[str, Sequence]:
    """Convert rows to a mapping from column to equally many values.

    Args:
        rows: A data frame of pandas or polars, an Arrow table, a mapping from column to value or to values, or a list
            of rows as mappings.
        needed: Columns that each row of a list must have. Other columns are missing values in rows that lack them.
        row_offset: Number of the first row in messages.

    Raises:
        ValueError: If a row of a list lacks a column, a column is repeated, or columns differ in length.
        TypeError: If `rows` or a row has an unsupported type.
    """
    # Data frames and Arrow tables are recognized by their methods: none of these libraries may be installed.
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        check_different(rows.columns, "the data frame")
        # The frame's `to_dict` turns integers with missing values into floats.
        return {name: rows[name].tolist() for name in rows.columns}
    if hasattr(rows, "get_columns"):
        # Of polars.
        return {column.name: cells_of(column) for column in rows.get_columns()}
    if hasattr(rows, "to_pydict"):
        check_different(rows.schema.names, "the table")
        return {name: cells_of(column) for name, column in zip(rows.schema.names, rows.columns)}
    if isinstance(rows, Mapping):
        columns = {column: rows[column] for column in rows}
        if not all(is_column(values) for values in columns.values()):
            return {column: [value] for column, value in columns.items()}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The columns of `rows` must have one length, got {lengths}.")
        return columns
    if isinstance(rows, (str, bytes)) or not (isinstance(rows, Iterable) or hasattr(rows, "__getitem__")):
        raise TypeError(
            "`rows` must be a row (a mapping from column to value), a list of rows, a mapping from column to list, a "
            f"pandas or polars data frame or an Arrow table, got {type(rows).__name__}."
        )
    rows = list(rows)
    for number, row in enumerate(rows, start=row_offset):
        if not isinstance(row, Mapping):
            raise TypeError(f"Row {number} must be a mapping from column to value, got {type(row).__name__}.")
        if any(column not in row for column in needed):
            check_columns(needed, row, f"Row {number}")
    names = list(dict.fromkeys([*needed, *(name for row in rows for name in row)]))
    return {name: [row.get(name) for row in rows] for name in names}


def is_listed(rows) -> bool:
    """Whether rows, given as in `columns_of`, are a list of mappings or what is used like one, such as a stream."""
    by_column = isinstance(rows, (str, bytes, Mapping)) or any(map(partial(hasattr, rows), _NAMES_OF_COLUMNS))
    return not by_column and (isinstance(rows, Iterable) or hasattr(rows, "__getitem__"))


def given_columns(rows) -> list[str]:
    """Columns that rows have, given as in `columns_of`, unless they are listed."""
    if isinstance(rows, Mapping):
        return list(rows)
    names = next((getattr(rows, name) for name in _NAMES_OF_COLUMNS if hasattr(rows, name)), ())
    return [name for name in names if isinstance(name, str)]


def index_of(cell: Any, values: list[Any]) -> int:
    """Index of `cell` in `values`; strings are found by value, as columns repeat them."""
    return next(i for i, value in enumerate(values) if value is cell or (isinstance(cell, str) and value == cell))


def without_missing_words(values: list[Any], field: FieldSchema) -> list[Any]:
    """Replace cells that the field's schema lists as missing, in any spelling, by `None`."""
    if not field.missing:
        return values
    words = set(map(normal_spelling, field.missing))
    return each_distinct(values, lambda value: None if normal_spelling(value) in words else value)


def texts_of(cells: Sequence, field: FieldSchema) -> list[str | None]:
    """The text of each cell of a field, empty if it is missing; `None` for cells that hold vectors."""
    single = [None if holds_several(cell) else cell for cell in cells]
    known = without_missing_words(single, field)
    return [None if holds_several(cell) else canonical(text) for cell, text in zip(cells, known)]


def cells_of(column: Any) -> list:
    """Cells of a column of any library as a list. Times that Python's types cannot hold become numpy's."""
    if hasattr(column, "to_pylist"):
        # Arrow
        try:
            return column.to_pylist()
        # Years beyond Python's, unknown time zones, and nanoseconds without pandas.
        except (OverflowError, ValueError, LookupError):
            if hasattr(column, "chunks"):
                return [cell for chunk in column.chunks for cell in cells_of(chunk)]
            if hasattr(column, "dictionary"):
                # Arrow's own conversion to numpy turns missing values into others.
                values = cells_of(column.dictionary)
                return [None if index is None else values[index] for index in column.indices.to_pylist()]
            return list(column.to_numpy(zero_copy_only=False))
    if hasattr(column, "dtype") and getattr(column.dtype, "is_temporal", bool)():
        # polars drops nanoseconds from Python's times
        return list(column.to_numpy())
    return column if isinstance(column, list) else list(column)


def vocabulary_keys(value: Any, field: FieldSchema, boundaries: list[float]) -> list[str]:
    """Vocabulary keys of a raw value, at least one. The key of a missing or unreadable value is the empty string."""
    if field.kind == "multi_valued":
        return kept_values(cell_values(value, field), field) or [""]
    if field.kind == "numeric":
        number = number_of(value)
        return [str(int(np.searchsorted(boundaries, number, side="right"))) if np.isfinite(number) else ""]
    if field.kind in TIME_PARTS:
        return [time_part(value, field)]
    return [canonical(value)]


def time_part(value: Any, field: FieldSchema) -> str:
    """The field's part of a time, such as `"14"`, `"Monday"` or `"January"`; empty if `value` is not a time."""
    time = read_time(value, field.time_format)
    if time is None:
        return ""
    if field.kind == "hour":
        return str(time.hour)
    return _WEEKDAYS[time.weekday()] if field.kind == "weekday" else _MONTHS[time.month - 1]
