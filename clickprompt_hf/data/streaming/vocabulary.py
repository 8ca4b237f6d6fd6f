# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Vocabularies, ids and clauses of columns on disk: as `fit_vocabularies` and `encode_tables` make them.

Categories and texts are read as Arrow arrays; other kinds of fields as Python objects, a slice of distinct values at a
time.

Shapes: D distinct values of a column, V values of a vocabulary, C columns of ids of a field.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...cells_clickprompt import vocabulary_keys, without_missing_words
from ...columns_clickprompt import cells_of
from ...encoding_clickprompt import FeatureEncoder
from ...processing_clickprompt import ClickPromptProcessor
from ...rendering_clickprompt import UNKNOWN_TEXT
from ...schema_clickprompt import FieldSchema
from ...unknown_values_clickprompt import UnknownValues
from ...unread_cells_clickprompt import UnreadCells
from ...values_clickprompt import normal_spelling, number_of
from ...vocabularies_clickprompt import LONG_VOCABULARY, TextList
from ..buckets import bucket_boundaries
from ..vocabulary import (
    CountedList,
    KeyCounts,
    check_kind,
    count_keys,
    count_listed,
    frequent_keys,
    keys_of_lists,
    warn_of_ids_as_floats,
    warn_of_lists,
)
from .distinct import keys_of, text_buffers
from .spelling import is_ascii, means_other, normally_spelled, spelled
from .spill import VALUES_PER_SLICE, SpilledColumn

_WORD = 8
# Longer strings are sorted by Arrow.
_MOST_WORDS = 8


@dataclass
class FittedField:
    """What was fitted to the training rows for a field.

    Args:
        vocabulary: (V,) large strings, in the order of their ids.
        boundaries: Inner bucket boundaries; empty unless the field is numeric.
        texts: (D,) spelling of each value of a category in the text; `None` for other fields.
        ids: (D,) int32, ids of the values of a category; `None` for other kinds.
    """

    vocabulary: pa.Array
    boundaries: list[float] = dataclass_field(default_factory=list)
    texts: pa.Array | None = None
    ids: np.ndarray | None = None


def fit_field(column: SpilledColumn, counts: np.ndarray, field: FieldSchema, min_count: int) -> FittedField:
    """Fit the vocabulary of a field with ids, and the bucket boundaries of a numeric one.

    Args:
        column: The field's column.
        counts: (D,) number of training rows of each value.
        field: The field.
        min_count: Number of rows that a value needs to get its own id.

    Raises:
        ValueError: If no value is of the field's kind, or a cell of a multi-valued field is not a list.
    """
    if field.kind == "categorical":
        return _fit_categories(column, counts, field, min_count)
    if field.kind == "numeric":
        return _fit_numbers(column, counts, field, min_count)
    keyed: Counter[str] = Counter()
    some_lists: list[CountedList] = []
    for values, slice_counts in counted_values(column, counts):
        keys_and_counts: KeyCounts
        if field.kind == "multi_valued":
            lists = count_listed(values, slice_counts, field)
            some_lists += lists[: VALUES_PER_SLICE - len(some_lists)]
            keys_and_counts = keys_of_lists(lists, field)
        else:
            known = without_missing_words(values, field)
            keys_and_counts = ((vocabulary_keys(value, field, []), count) for value, count in zip(known, slice_counts))
        keyed.update(count_keys(keys_and_counts))
    if field.kind == "multi_valued":
        warn_of_lists(some_lists, field)
    elif set(keyed) <= {""}:
        _refuse_kind(column, counts, field)
    return FittedField(pa.array(frequent_keys(keyed, min_count), pa.large_string()))


def _refuse_kind(column: SpilledColumn, counts: np.ndarray, field: FieldSchema) -> None:
    """Refuse a column of numbers or times that has none."""
    check_kind([(value, 1) for value in next(counted_values(column, counts))[0][:1]], field)


def text_list(texts: pa.Array) -> Sequence[str]:
    """The texts of a vocabulary, compact if they are many."""
    if len(texts) < LONG_VOCABULARY:
        return texts.to_pylist()
    nothing, line_feed = (pa.scalar(text, pa.large_string()) for text in ("", "\n"))
    _, lengths, content = text_buffers(pc.binary_join_element_wise(texts, nothing, line_feed))
    ends = np.cumsum(lengths)
    return TextList(content[: int(ends[-1])], ends)


def _fit_categories(column: SpilledColumn, counts: np.ndarray, field: FieldSchema, min_count: int) -> FittedField:
    texts, is_distinct = category_texts(column, field)
    if pa.types.is_floating(column.kind):
        values = [(value, count) for slice_ in counted_values(column, counts) for value, count in zip(*slice_)]
        warn_of_ids_as_floats(values, field)
    rows = np.flatnonzero(counts)
    value_counts = counts[rows]
    numbers = None
    if not is_distinct:
        _, first, numbers = np.unique(keys_of(texts)[rows], return_index=True, return_inverse=True)
        value_counts = np.bincount(numbers, weights=value_counts).astype(np.int64)
        representatives = rows[first]
    else:
        representatives = rows
    kept = np.flatnonzero(value_counts >= min_count)
    chosen = representatives[kept]
    is_every_text = is_distinct and len(chosen) == len(texts)
    candidates = texts if is_every_text else texts.take(pa.array(chosen))
    order = most_frequent_first(candidates, value_counts[kept])
    ids_of_groups = np.zeros(len(representatives), dtype=np.int32)
    ids_of_groups[kept[order]] = np.arange(1, len(order) + 1, dtype=np.int32)
    ids = np.zeros(len(counts), dtype=np.int32)
    ids[rows] = ids_of_groups if numbers is None else ids_of_groups[numbers]
    vocabulary = candidates.take(pa.array(order))
    if pa.types.is_floating(column.kind):
        # cells of Python tell large numbers apart
        return FittedField(vocabulary, texts=texts if field.in_text else None)
    left = pa.array(np.flatnonzero(ids == 0))
    if not is_distinct:
        ids[left] = _ids_by_spelling(texts.take(left), vocabulary)
        left = pa.array(np.flatnonzero(ids == 0))
    # whole numbers, and entries made of them, are spelled normally
    if not pa.types.is_integer(column.kind):
        ids[left] = _ids_by_meaning(texts.take(left), vocabulary)
    return FittedField(vocabulary, texts=texts if field.in_text else None, ids=ids)


def category_texts(column: SpilledColumn, field: FieldSchema) -> tuple[pa.Array, bool]:
    """Spelling (D,) of each value of a category or text, and whether all are certain to differ."""
    parts, is_distinct = [], not field.missing
    for values in column.values():
        texts = texts_of_values(values, field)
        is_distinct &= pa.types.is_integer(values.type) or (not values.null_count and texts.equals(values))
        parts.append(texts)
    return pa.concat_arrays(parts), is_distinct


def texts_of_values(values: pa.Array, field: FieldSchema) -> pa.Array:
    """Spelling of each value of a category or text, (n,) large strings; empty where one is missing."""
    texts = spelled(values)
    if not field.missing:
        return texts
    words = pa.array([normal_spelling(word) for word in field.missing], pa.large_string())
    return pc.if_else(pc.is_in(normally_spelled(values), words), "", texts)


def _fit_numbers(column: SpilledColumn, counts: np.ndarray, field: FieldSchema, min_count: int) -> FittedField:
    numbers = np.concatenate([numbers_of_values(values, field) for values in column.values()])
    rows = np.flatnonzero(counts)
    if not np.isfinite(numbers[rows]).any():
        _refuse_kind(column, counts, field)
    return fit_numbers(numbers[rows], counts[rows], field, min_count)


def fit_numbers(numbers: np.ndarray, rows: np.ndarray, field: FieldSchema, min_count: int) -> FittedField:
    """Fit the buckets of a numeric field.

    Args:
        numbers: (V,) float64, repeated or not; infinite or NaN where a value is not a number.
        rows: (V,) number of training rows of each, at least 1.
        field: The field.
        min_count: Number of rows that a bucket needs to get its own id.
    """
    boundaries = bucket_boundaries(numbers, rows, field.num_buckets, field.buckets)
    buckets = np.searchsorted(boundaries, numbers, side="right")
    is_finite = np.isfinite(numbers)
    bucket_counts = np.bincount(buckets[is_finite], weights=rows[is_finite]).astype(np.int64)
    keyed = Counter({str(bucket): int(count) for bucket, count in enumerate(bucket_counts) if count})
    keyed[""] += int(rows[~is_finite].sum())
    keys = frequent_keys(Counter({key: count for key, count in keyed.items() if count}), min_count)
    return FittedField(pa.array(keys, pa.large_string()), boundaries)


def numbers_of_values(values: pa.Array, field: FieldSchema) -> np.ndarray:
    """Values as float64; NaN where a value is not a number."""
    if _are_numbers(values.type) and not field.missing:
        return values.to_numpy(zero_copy_only=False).astype(np.float64)
    return np.asarray([number_of(v) for v in without_missing_words(cells_of(values), field)], dtype=np.float64)


def _are_numbers(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)


def counted_values(column: SpilledColumn, counts: np.ndarray) -> Iterator[tuple[list, list[int]]]:
    """Slices of the values that training rows have, with their number of rows."""
    start = 0
    for values in column.values():
        slice_counts = counts[start : start + len(values)]
        start += len(values)
        rows = np.flatnonzero(slice_counts)
        if len(rows):
            yield cells_of(values.take(pa.array(rows))), slice_counts[rows].tolist()


def ids_of_column(
    column: SpilledColumn, fitted: FittedField, processor: FeatureEncoder, field_index: int, counts: np.ndarray
) -> np.ndarray:
    """Ids (D, C) int32 of all values of a field's column, as `FeatureEncoder.encode_values` returns them.

    Args:
        column: The field's column.
        fitted: What was fitted.
        processor: Encodes other kinds of fields than categories.
        field_index: Index of the field in the schema.
        counts: (D,) number of rows of each value, for warnings.
    """
    field = processor.schema.fields[field_index]
    if field.kind == "categorical" and not pa.types.is_floating(column.kind):
        if fitted.ids is not None:
            return fitted.ids.reshape(-1, 1)
        texts, _ = category_texts(column, field)
        ids = _ids_by_spelling(texts, fitted.vocabulary)
        left = np.flatnonzero(ids == 0)
        ids[left] = _ids_by_meaning(texts.take(pa.array(left)), fitted.vocabulary)
        return ids.astype(np.int32).reshape(-1, 1)
    parts = []
    start, unread = 0, UnreadCells(field)
    for values in column.values():
        slice_counts = counts[start : start + len(values)]
        start += len(values)
        if field.kind == "numeric" and _are_numbers(values.type) and not field.missing:
            parts.append(_ids_of_numbers(values, processor, field_index, slice_counts, unread))
        else:
            parts.append(processor.encode_values(field_index, cells_of(values), slice_counts, unread))
    unread.warn()
    return np.concatenate(parts).astype(np.int32)


def _ids_of_numbers(
    values: pa.Array, processor: FeatureEncoder, field_index: int, counts: np.ndarray, unread: UnreadCells
) -> np.ndarray:
    """Ids (slice, 1) of Arrow numbers, given the number of rows of each (slice,)."""
    boundaries, known = processor.boundaries[field_index], processor.indexes[field_index].ids
    ids_of_buckets = np.asarray([known.get(str(bucket), 0) for bucket in range(len(boundaries) + 1)])
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    ids = ids_of_buckets[np.searchsorted(boundaries, numbers, side="right")]
    if np.isinf(numbers).any():
        # infinite numbers are counted as unread
        return processor.encode_values(field_index, cells_of(values), counts, unread)
    others = np.flatnonzero(np.isnan(numbers))
    if len(others):
        ids[others] = processor.encode_values(
            field_index, cells_of(values.take(pa.array(others))), counts[others], unread
        )[:, 0]
    return ids.reshape(-1, 1)


def _ids_by_spelling(texts: pa.Array, vocabulary: pa.Array) -> np.ndarray:
    """Ids (D,) int64 of texts that the vocabulary spells like this; 0 for others."""
    # only the entries that may be among few texts need a place in a hash table
    wanted = np.sort(keys_of(texts))
    keys = keys_of(vocabulary)
    places = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1) if len(wanted) else np.zeros(0, np.int64)
    entries = np.flatnonzero(wanted[places] == keys) if len(wanted) else places
    found = pc.index_in(texts, vocabulary.take(pa.array(entries))).fill_null(-1).to_numpy()
    return np.where(found < 0, 0, entries[found] + 1 if len(entries) else 0)


def _ids_by_meaning(texts: pa.Array, vocabulary: pa.Array) -> np.ndarray:
    """Ids (D,) int64 of texts that the vocabulary does not spell like this, as `ValueIndex.id_of` finds them."""
    ids = np.zeros(len(texts), dtype=np.int64)
    _, normals = _other_spellings(texts)
    rows = np.flatnonzero(normals.is_valid().to_numpy(zero_copy_only=False))
    if len(rows):
        ids[rows] = _ids_by_spelling(normals.take(pa.array(rows)), vocabulary)
    # entries that are not in their normal spelling
    entries, entry_spellings = _other_spellings(vocabulary)
    by_meaning: dict[str, int] = {}
    for entry, normal in zip(entries.tolist(), entry_spellings.drop_null().to_pylist()):
        by_meaning[normal] = 0 if normal in by_meaning else entry + 1
    if by_meaning:
        rows = np.flatnonzero(ids == 0)
        left = pa.array(rows)
        shown = pc.coalesce(normals.take(left), texts.take(left)).to_pylist()
        ids[rows] = [by_meaning.get(normal, 0) for normal in shown]
    return ids


def _other_spellings(texts: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Indices of texts whose normal spelling is another one, and per text that spelling; null for other texts."""
    doubtful = np.flatnonzero(means_other(texts) | ~is_ascii(texts))
    some = texts.take(pa.array(doubtful))
    normals = normally_spelled(some)
    is_other = pc.not_equal(normals, some).to_numpy(zero_copy_only=False)
    found = doubtful[is_other]
    mask = np.zeros(len(texts), dtype=bool)
    mask[found] = True
    nulls = pa.nulls(len(texts), pa.large_string())
    return found, pc.replace_with_mask(nulls, pa.array(mask), normals.filter(pa.array(is_other)))


def clauses_of_column(
    column: SpilledColumn,
    fitted: FittedField,
    ids: np.ndarray,
    is_used: np.ndarray,
    processor: ClickPromptProcessor,
    field_index: int,
) -> tuple[list[str], np.ndarray]:
    """Render the values of a field in the text.

    Args:
        column: The field's column.
        fitted: What was fitted.
        ids: (D, C), as `ids_of_column` returns them; (D, 0) for a field of kind `"text"`.
        is_used: (D,) whether any row has the value.
        processor: Renders other values than categories and texts.
        field_index: Index of the field in the schema.

    Returns:
        The distinct clauses of used values in ascending order, that of a missing value among them; and the index of
        each used value's clause, (D,) int32.
    """
    field = processor.schema.fields[field_index]
    used = np.flatnonzero(is_used)
    if field.kind in ("categorical", "text"):
        texts = category_texts(column, field)[0] if fitted.texts is None else fitted.texts
        texts = texts.take(pa.array(used))
        if field.kind == "categorical" and len(fitted.vocabulary):
            # a value that was found by its meaning reads as in training
            used_ids = ids[used, 0]
            known = fitted.vocabulary.take(pa.array(np.maximum(used_ids - 1, 0)))
            texts = pc.if_else(pa.array(used_ids > 0), known, texts)
        texts = pc.if_else(pc.equal(texts, ""), UNKNOWN_TEXT, texts)
        before, after, nothing = (pa.scalar(part, pa.large_string()) for part in (*processor.affixes(field_index), ""))
        shown = pa.concat_arrays([texts, pa.array([UNKNOWN_TEXT], pa.large_string())])
        rendered = pc.binary_join_element_wise(before, shown, after, nothing)
    else:
        parts = [
            processor.render_values(field_index, cells)
            for cells, _ in counted_values(column, is_used.astype(np.int64))
        ]
        parts.append(processor.render_values(field_index, [None]))
        rendered = pa.concat_arrays([pa.array(part, pa.large_string()) for part in parts])
    encoded = rendered.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order), dtype=np.int32)
    clauses = np.zeros(len(is_used), dtype=np.int32)
    clauses[used] = ranks[encoded.indices.to_numpy()[:-1]]
    return encoded.dictionary.take(pa.array(order)).to_pylist(), clauses


def missing_without_id(column: SpilledColumn, ids: np.ndarray, field: FieldSchema) -> np.ndarray:
    """Indices of missing values of a category that training rows did not have; none for other kinds of fields.

    Args:
        column: The field's column.
        ids: (D, C), as `ids_of_column` returns them.
        field: The field.
    """
    if field.kind != "categorical" or ids.all():
        return np.zeros(0, dtype=np.int64)
    words = pa.array(["", *map(normal_spelling, field.missing)], pa.large_string())
    found, start = [], 0
    for values in column.values():
        unknown = np.flatnonzero(ids[start : start + len(values), 0] == 0)
        texts = normally_spelled(values.take(pa.array(unknown)))
        found.append(start + unknown[pc.is_in(texts, words).to_numpy(zero_copy_only=False)])
        start += len(values)
    return np.concatenate(found)


def count_unknown(
    column: SpilledColumn, ids: np.ndarray, counts: np.ndarray, field_index: int, unknown: UnknownValues
):
    """Count the values of a field that training rows did not have.

    Args:
        column: The field's column.
        ids: (D, C), as `ids_of_column` returns them.
        counts: (D,) number of rows of each value.
        field_index: Index of the field in the schema.
        unknown: Where to count them.
    """
    start = 0
    for values in column.values():
        part = slice(start, start + len(values))
        unknown.add(field_index, values, ids[part], counts[part])
        start += len(values)


def most_frequent_first(texts: pa.Array, counts: np.ndarray) -> np.ndarray:
    """Order (V,) by descending counts; ties in the order of code points."""
    starts, lengths, content = text_buffers(texts)
    num_words = -(-int(lengths.max(initial=0)) // _WORD)
    if num_words > _MOST_WORDS or (content[: int(lengths.sum())] == 0).any():
        order = pc.array_sort_indices(texts).to_numpy().astype(np.int64)
    else:
        # The first byte of a word is the highest one. Shorter strings are padded with zeros, which no string has.
        words = np.ndarray((len(content) - _WORD + 1,), dtype="<u8", buffer=content.data, strides=(1,))
        order = np.arange(len(texts))
        for position in range((num_words - 1) * _WORD, -1, -_WORD):
            left = np.clip(lengths - position, 0, _WORD)
            inside = np.minimum(starts + position, len(words) - 1)
            masks = np.array([(1 << 8 * n) - 1 for n in range(_WORD + 1)], dtype=np.uint64)
            word = (words[inside] & masks[left]).byteswap()
            order = order[np.argsort(word[order], kind="stable")]
    # numpy sorts numbers of 16 bits by counting them, in a tenth of the time of others
    rarity = (int(counts.max(initial=0)) - counts).astype(np.uint64)
    for shift in range(0, int(rarity.max(initial=0)).bit_length(), 16):
        digits = (rarity >> np.uint64(shift)).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return order
