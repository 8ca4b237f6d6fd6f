"""Tables that are prepared chunk by chunk: the same splits, vocabularies, ids and tokens as tables in memory."""

import errno
import json
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_data import tiny_bert_tokenizer, whole_text_tokenizer

from clickprompt_hf import ClickPromptConfig, ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.streaming import prepare, row_writer, table_stream, tokens, vocabulary
from clickprompt_hf.data.streaming.distinct import PARTITION_BITS, DistinctValues
from clickprompt_hf.data.streaming.prepare import StreamedTable
from clickprompt_hf.data.streaming.row_splits import StreamedRows, count_codes, split_rows
from clickprompt_hf.data.streaming.row_writer import RowWriter
from clickprompt_hf.data.streaming.spelling import normally_spelled, spelled
from clickprompt_hf.data.streaming.spill import SpilledColumn
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.data.streaming.vocabulary import most_frequent_first
from clickprompt_hf.data.table_files import list_table_files, read_table_files
from clickprompt_hf.data.table_pieces import join_pieces, write_piece
from clickprompt_hf.runs import compare, finetune, pretrain
from clickprompt_hf.schema_clickprompt import FieldSchema, Schema
from clickprompt_hf.values_clickprompt import canonical, normal_spelling
from clickprompt_hf.vocabularies_clickprompt import TextList

NUM_ROWS = 700
SCHEMA = Schema(
    fields=(
        FieldSchema("user_id"),
        FieldSchema("code", missing=("unknown", "-999")),
        FieldSchema("flag"),
        FieldSchema("weight", name="Weight"),
        FieldSchema("price", kind="numeric"),
        FieldSchema("age", kind="numeric", buckets="log", missing=("0",)),
        FieldSchema("tags", kind="multi_valued", max_values=3),
        FieldSchema("history", kind="multi_valued", keep="last"),
        FieldSchema("sold_at", kind="hour"),
        FieldSchema("sold_at", kind="weekday"),
        FieldSchema("title", kind="text"),
        FieldSchema("genre"),
    ),
    label="click",
    time="time",
)


@pytest.fixture
def table():
    """A table with every kind of field, values in several spellings, and missing ones."""
    draw = np.random.default_rng(0)

    def some(values, missing=0.0, kind=None):
        cells = [values[i] for i in draw.integers(len(values), size=NUM_ROWS)]
        return pa.array([None if draw.random() < missing else cell for cell in cells], kind)

    codes = ["7", "007", "7.0", "1e3", "1000", "TRUE", "true", "NA", "", " a  b ", "a b", "é", "e\u0301", "unknown"]
    codes += ["-999", "2024-01-31T10:00", "2024-01-31 10:00:00", "nan", "x" * 90, *(f"c{i}" for i in range(40))]
    return pa.table(
        {
            "user_id": pa.array(draw.integers(300, size=NUM_ROWS)),
            "code": some(codes, 0.05),
            "flag": some([True, False], 0.1),
            "weight": some([1.0, 2.5, 0.1, 1e17, float("nan"), 3.0], 0.1),
            "price": some(draw.normal(size=200).tolist(), 0.05),
            "age": some([*range(60), -1], kind=pa.int32()),
            "tags": some(["a|b", "b", "", "c|a|d|e", "d"], 0.1),
            "history": some([["x", "y"], ["y"], [], ["z", "x", "w", "v", "u", "t"]], 0.1),
            "sold_at": some([f"2024-03-{day:02} {hour:02}:00:00" for day in range(1, 9) for hour in range(9)], 0.05),
            "title": some([f"The title {i} of a thing" for i in range(90)], 0.05),
            "genre": some(["drama", "comedy", "science fiction"]).dictionary_encode(),
            "click": pa.array(draw.integers(2, size=NUM_ROWS)),
            "time": pa.array(draw.integers(500, size=NUM_ROWS) + 1_600_000_000),
        }
    )


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks and buckets of few rows."""
    monkeypatch.setattr(table_stream, "ROWS_PER_CHUNK", 64)
    monkeypatch.setattr(tokens, "ROWS_PER_CHUNK", 64)
    # some fields have more values, others fewer
    monkeypatch.setattr(prepare, "_MANY_VALUES", 50)
    monkeypatch.setattr(row_writer, "_BUCKET_ROWS", 50)
    monkeypatch.setattr(row_writer, "_MOST_RUNS", 8)


@pytest.fixture
def files(table, tmp_path):
    """The table in three Parquet files of small row groups."""
    folder = tmp_path / "table"
    folder.mkdir()
    for number, start in enumerate((0, 130, 450)):
        stop = (130, 450, NUM_ROWS)[number]
        pq.write_table(table.slice(start, stop - start), folder / f"part-{number}.parquet", row_group_size=30)
    return sorted(folder.iterdir())


def streamed(files, folder, schema=SCHEMA, tokenizer=None, min_count=1, processor=None, **split):
    """Prepare files chunk by chunk, and load what was prepared."""
    splits = files if isinstance(files, dict) else {"": files}
    with StreamedTable(TableStream(splits, schema), schema, folder / "spill") as rows:
        rows.split(**split)
        if processor is None:
            processor = rows.fit(min_count)
            processor.tokenizer = tokenizer
        rows.write(processor, folder / "streamed")
    assert not (folder / "spill").exists()
    return load_prepared(folder / "streamed")


def in_memory(files, folder, schema=SCHEMA, tokenizer=None, min_count=1, **split):
    splits, _ = load_splits("parquet", list(map(str, files)), schema, **split)
    processor = ClickPromptProcessor.fit(splits["train"], schema, tokenizer, min_count)
    prepare_splits(splits, processor, folder / "in-memory")
    return load_prepared(folder / "in-memory")


def check_equal(found, expected):
    """Check that two prepared tables are the same, except for the numbers that raw values have."""
    (found_splits, found_processor), (splits, processor) = found, expected
    for ours, theirs, field in zip(found_processor.vocabularies, processor.vocabularies, SCHEMA.fields):
        assert ours == theirs, field.column
    assert found_processor.fingerprint == processor.fingerprint
    assert found_processor.trained_values == processor.trained_values
    for name, rows in splits.items():
        for array in ("feature_ids", "labels", "row_ids", "clause_ids", "text_ids"):
            if getattr(rows, array) is not None:
                np.testing.assert_array_equal(getattr(found_splits[name], array), getattr(rows, array), array)
                assert getattr(found_splits[name], array).dtype == getattr(rows, array).dtype
        for ours, theirs in zip(found_splits[name].value_ids.T, rows.value_ids.T):
            pairs = set(zip(ours.tolist(), theirs.tolist()))
            assert len(pairs) == len(set(ours.tolist())) == len(set(theirs.tolist()))
    tables = splits["train"].tables
    if tables is not None:
        for name in ("tokens", "value_fields", "offsets", "prefix", "suffix"):
            np.testing.assert_array_equal(getattr(found_splits["train"].tables, name), getattr(tables, name), name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("split", [{"split": "time"}, {"split": "user"}, {"split": "user", "split_column": "code"}])
@pytest.mark.parametrize("limit", [{}, {"max_train_rows": 200}])
def test_splits_by_time_and_user_are_those_of_tables_in_memory(files, tmp_path, small_chunks, split, limit):
    found = streamed(files, tmp_path, tokenizer=tiny_bert_tokenizer(), **split, **limit)
    check_equal(found, in_memory(files, tmp_path, tokenizer=tiny_bert_tokenizer(), **split, **limit))


def test_a_column_that_files_lack_is_named_with_what_names_it(files):
    message = r"`split_column` must be one of the columns of .*, \['user_id', .*\], got 'home'"
    with pytest.raises(ValueError, match=message):
        TableStream({"": files}, SCHEMA, split_column="home")
    with pytest.raises(ValueError, match="must have the column 'day', the `time` of the schema"):
        TableStream({"": files}, replace(SCHEMA, time="day"))


@pytest.mark.filterwarnings("ignore")
def test_fields_of_many_values_are_fitted_one_at_a_time(files, tmp_path, small_chunks, monkeypatch):
    alone, together = set(), set()

    def fit_field(column, counts, field, min_count):
        (alone if threading.current_thread() is threading.main_thread() else together).add(field.column)
        return vocabulary.fit_field(column, counts, field, min_count)

    monkeypatch.setattr(prepare, "fit_field", fit_field)
    streamed(files, tmp_path)
    assert alone == {"user_id", "code", "price", "age", "sold_at"}
    assert together == {"flag", "weight", "tags", "history", "genre"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("min_count", [1, 3])
def test_a_tokenizer_of_whole_texts_and_rare_values_give_what_they_give_in_memory(
    files, tmp_path, small_chunks, min_count
):
    schema = replace(SCHEMA, fields=SCHEMA.fields[-3:])
    options = {"schema": schema, "min_count": min_count, "split": "time"}
    (found, _), (expected, _) = (
        prepared(files, tmp_path, tokenizer=whole_text_tokenizer(), **options) for prepared in (streamed, in_memory)
    )
    for name, rows in expected.items():
        np.testing.assert_array_equal(found[name].feature_ids, rows.feature_ids)
        np.testing.assert_array_equal(found[name].text_ids, rows.text_ids)
        for ours, theirs in zip(
            found[name].tables.assemble(found[name].clause_ids), rows.tables.assemble(rows.clause_ids)
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_a_saved_processor_gives_the_same_ids_as_in_memory(files, tmp_path, small_chunks):
    splits, _ = load_splits("parquet", list(map(str, files)), SCHEMA, split="time", max_train_rows=300)
    processor = ClickPromptProcessor.fit(splits["train"], SCHEMA, tiny_bert_tokenizer())
    all_rows, _ = load_splits("parquet", list(map(str, files)), SCHEMA, split="time")
    prepare_splits(all_rows, processor, tmp_path / "in-memory")
    found = streamed(files, tmp_path, processor=processor, split="time")
    check_equal(found, load_prepared(tmp_path / "in-memory"))


@pytest.mark.filterwarnings("ignore")
def test_a_table_is_written_several_times_also_after_a_failure(files, tmp_path, small_chunks, monkeypatch):
    with StreamedTable(TableStream({"": files}, SCHEMA), SCHEMA, tmp_path / "spill") as rows:
        rows.split(split="time")
        processor = rows.fit()
        processor.tokenizer = tiny_bert_tokenizer()
        rows.write(processor, tmp_path / "first")
        with monkeypatch.context() as patch:
            # rows are spilled by then
            patch.setattr(RowWriter, "finish", lambda writer: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                rows.write(processor, tmp_path / "second")
        rows.write(processor, tmp_path / "second")
    check_equal(load_prepared(tmp_path / "second"), load_prepared(tmp_path / "first"))
    check_equal(
        load_prepared(tmp_path / "first"), in_memory(files, tmp_path, tokenizer=tiny_bert_tokenizer(), split="time")
    )


@pytest.mark.filterwarnings("ignore")
def test_a_random_split_has_exact_shares_and_depends_on_its_seed_alone(files, tmp_path, small_chunks):
    def rows_of_test(seed, chunk_rows):
        table_stream.ROWS_PER_CHUNK = chunk_rows
        found, _ = streamed(files, tmp_path, split_seed=seed, split_fractions=(0.7, 0.2, 0.1))
        assert [len(found[name]) for name in ("train", "validation", "test")] == [490, 140, 70]
        return np.asarray(found["test"].value_ids[:, [0, 4]]).tolist()

    first = rows_of_test(1, 64)
    assert rows_of_test(1, 700) == first
    assert rows_of_test(2, 64) != first


@pytest.mark.filterwarnings("ignore")
def test_limited_training_rows_of_a_random_split_are_drawn_from_all_of_them(files, tmp_path, small_chunks):
    def rows_of(**limit):
        found, _ = streamed(files, tmp_path, schema=replace(SCHEMA, fields=(FieldSchema("time"),)), **limit)
        return {name: [rows.value_ids[i, 0] for i in range(len(rows))] for name, rows in found.items()}

    limited, whole = rows_of(max_train_rows=60), rows_of()
    assert len(limited["train"]) == 60
    left = iter(whole["train"])
    # in the same order, not only the first ones
    assert all(row in left for row in limited["train"])
    assert limited["train"] != whole["train"][:60]
    assert limited["validation"] == whole["validation"]


def test_a_rare_class_has_its_share_of_each_part():
    labels = [np.zeros(500, np.int8) for _ in range(8)]
    for chunk, row in ((0, 3), (1, 7), (3, 0), (3, 1), (6, 499), (7, 250), (7, 251), (2, 2), (5, 5), (4, 4)):
        labels[chunk][row] = 1
    found = split_rows(StreamedRows([""] * 8, labels), SCHEMA, "random", 0, (0.8, 0.1, 0.1))
    assert found.sizes == {"train": 3200, "validation": 400, "test": 400}
    clicks = np.zeros(3, dtype=int)
    for parts, of_chunk in zip(found.parts(), labels):
        clicks += np.bincount(parts[of_chunk == 1], minlength=3)
    assert clicks.tolist() == [8, 1, 1]
    positions = np.concatenate(list(found.positions()))
    assert sorted(positions) == list(range(4000))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv.zst", "jsonl"])
def test_text_files_are_streamed_as_they_are_read_into_memory(table, tmp_path, small_chunks, ending):
    columns = [field.column for field in SCHEMA.fields if field.column != "history"]
    schema = replace(SCHEMA, fields=tuple(field for field in SCHEMA.fields if field.column != "history"))
    rows = table.select([*dict.fromkeys(columns), "click", "time"]).set_column(
        columns.index("genre") - 1, "genre", table.column("genre").cast(pa.string())
    )
    for number in range(2):
        path = tmp_path / f"part-{number}.{ending}"
        part = rows.slice(400 * number, 400)
        if ending == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in part.to_pylist()))
        else:
            write_piece(part, tmp_path / "body", ending)
            join_pieces([tmp_path / "body"], part.schema, path, ending)
    files = sorted(tmp_path.glob(f"*.{ending}"))
    kind = "jsonl" if ending == "jsonl" else "csv"
    splits, _ = load_splits(kind, list(map(str, files)), schema, split="time")
    prepare_splits(splits, ClickPromptProcessor.fit(splits["train"], schema), tmp_path / "in-memory")
    check_equal(streamed(files, tmp_path, schema=schema, split="time"), load_prepared(tmp_path / "in-memory"))


@pytest.mark.filterwarnings("ignore")
def test_own_splits_are_kept_and_a_missing_one_is_cut_from_the_training_rows(files, tmp_path, small_chunks):
    own = {"train": files[1:], "test": files[:1]}
    found, _ = streamed(own, tmp_path, split="time")
    splits, _ = load_splits(
        train_file=list(map(str, own["train"])), test_file=str(files[0]), schema=SCHEMA, split="time"
    )
    prepare_splits(splits, ClickPromptProcessor.fit(splits["train"], SCHEMA), tmp_path / "in-memory")
    expected, _ = load_prepared(tmp_path / "in-memory")
    for name, rows in expected.items():
        np.testing.assert_array_equal(found[name].feature_ids, rows.feature_ids)
    with pytest.warns(
        UserWarning, match="no validation split: of its 570 training rows, 64 for validation are held out"
    ):
        streamed(own, tmp_path)
    own["validation"] = own["train"][1:]
    own["train"] = own["train"][:1]
    found, _ = streamed(own, tmp_path, max_train_rows=100)
    assert {name: len(rows) for name, rows in found.items()} == {"train": 100, "validation": 250, "test": 130}
    with pytest.raises(ValueError, match="`split` must be left out, as the dataset has predefined splits"):
        streamed(own, tmp_path / "again", split="time")


@pytest.mark.filterwarnings("ignore")
def test_names_of_folders_are_columns(table, tmp_path, small_chunks):
    schema = Schema((FieldSchema("user_id"), FieldSchema("day")), label="click")
    for day, start in (("2024-01-01", 0), ("a%20b", 300), ("__HIVE_DEFAULT_PARTITION__", 500)):
        (tmp_path / "table" / f"day={day}").mkdir(parents=True)
        part = table.select(["user_id", "click"]).slice(start, 200)
        pq.write_table(part, tmp_path / "table" / f"day={day}" / "part.parquet")
    paths = list_table_files(tmp_path / "table")
    rows = read_table_files(tmp_path / "table", schema)
    assert rows.column("day").to_pylist() == ["2024-01-01"] * 200 + [None] * 200 + ["a b"] * 200
    _, processor = streamed(paths, tmp_path, schema=schema)
    assert set(processor.vocabularies[1]) == {"2024-01-01", "a b", ""}


@pytest.mark.parametrize(
    ("texts", "counts", "expected"),
    [
        (["b", "a", "ab", "c"], [1, 1, 1, 2], ["c", "a", "ab", "b"]),
        (["x" * 8, "x" * 9, "x" * 7, "é", "z"], [1] * 5, ["x" * 7, "x" * 8, "x" * 9, "z", "é"]),
        (["y" * 200, "y", "\0", ""], [3, 3, 4, 3], ["\0", "", "y", "y" * 200]),
        (["a", "b", "c", "d", "e"], [5, 70_000, 5, 70_001, 3_000_000_000], ["e", "d", "b", "a", "c"]),
        ([], [], []),
    ],
)
def test_values_are_ordered_by_count_and_code_points(texts, counts, expected):
    found = most_frequent_first(pa.array(texts, pa.large_string()), np.asarray(counts, dtype=np.int64))
    assert [texts[i] for i in found] == expected


@pytest.mark.parametrize(
    "value",
    [
        *("a", "7", "-7", "007", "-0", "7.0", "1e3", "12e45", "0x1", "true", "Day", "NULL", "n/a", "2 days, 01:00:00"),
        *(
            "12:30:00",
            "2024-01-31T10:00",
            "8a3f",
            "daya",
            " a",
            "a  b",
            "é",
            "e\u0301",
            "K",
            "\u212a",
            "",
            "1_000",
            "+5",
        ),
        *(".5", "5."),
    ],
)
def test_arrays_are_spelled_as_single_values(value):
    array = pa.array([value, "other", None])
    assert spelled(array).to_pylist() == [canonical(value), "other", ""]
    assert normally_spelled(array).to_pylist() == [normal_spelling(value), "other", ""]


def test_keys_tell_values_of_all_types_apart():
    strings = ["", "a", "b", "ab", "a" * 8, "a" * 9, "a" * 16 + "b", "a" * 16 + "c", None]
    for values in (strings, [1, 2, -1, None], [0.5, 1.5, None], [True, False, None], [[1], [1, 2], [], None]):
        repeated = pa.chunked_array([pa.array(values), pa.array(values[::-1])])
        found = DistinctValues.of(repeated)
        assert len(set(found.keys.tolist())) == len(found.values) == len(values)
        assert (np.diff((found.keys >> np.uint64(64 - PARTITION_BITS)).astype(int)) >= 0).all()
        assert found.values.take(pa.array(found.codes)).to_pylist() == repeated.to_pylist()


def test_values_that_hardly_repeat_are_merged_as_well(tmp_path):
    values = [f"value {i}" for i in range(6000)]
    column = SpilledColumn(tmp_path / "column", pa.string())
    chunks = [pa.array([*values[start : start + 4000], values[start]]) for start in (0, 2000)]
    for chunk in chunks:
        found = DistinctValues.of(chunk)
        assert len(found.values) == 4001
        column.add(found)
    column.merge()
    assert column.num_distinct == 6000
    known = pa.concat_arrays(column.values())
    for number, chunk in enumerate(chunks):
        codes, code_map = column.codes(number)
        assert known.take(pa.array(code_map[codes])).to_pylist() == chunk.to_pylist()
    counts, first_rows = count_codes(column, [True, True])
    expected = [1 + (2000 <= i < 4000) + (i in (0, 2000)) for i in range(6000)]
    of_values = dict(zip(known.to_pylist(), zip(counts.tolist(), first_rows.tolist())))
    assert [of_values[value][0] for value in values] == expected
    assert [of_values[value][1] for value in values] == [i if i < 4000 else i - 2000 + 4001 for i in range(6000)]


def test_rows_that_come_in_any_order_are_written_to_their_positions(tmp_path, small_chunks):
    order = np.random.default_rng(0).permutation(330)
    with RowWriter(tmp_path, tmp_path, 300, {"a": (np.int32, 2), "b": (np.int8, 0)}) as writer:
        for rows in np.split(order, [10, 150]):
            positions = np.where(rows < 300, rows, -1)
            writer.write(positions, {"a": np.stack([rows, -rows], axis=1), "b": rows % 7})
        writer.finish()
    expected = np.arange(300)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.stack([expected, -expected], axis=1))
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), expected % 7)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "b.npy"}


def test_a_file_that_changes_while_it_is_read_is_refused(files, tmp_path, small_chunks):
    stream = TableStream({"": files}, SCHEMA)
    pq.write_table(pq.read_table(files[1]).slice(1), files[1])
    with pytest.raises(ValueError, match="part-1.parquet must not change while it is read, but it has"):
        StreamedTable(stream, SCHEMA, tmp_path / "spill")
    assert not (tmp_path / "spill").exists()
    files[1].unlink()
    with pytest.raises(FileNotFoundError, match="part-1.parquet, but there is none"):
        StreamedTable(stream, SCHEMA, tmp_path / "spill")


def test_a_file_of_other_types_is_named_before_any_is_read(files, table):
    other = table.set_column(0, "user_id", table.column("user_id").cast(pa.string()))
    pq.write_table(other, files[2])
    with pytest.raises(ValueError, match=r"part-2.parquet must have the type int64 in column 'user_id'"):
        TableStream({"": files}, SCHEMA)


def test_a_missing_shard_is_noticed(table, tmp_path):
    for number in (0, 2):
        pq.write_table(table, tmp_path / f"part-{number:05}-of-00003.parquet")
    with pytest.raises(FileNotFoundError, match=r"but number 1 of part-\*-of-00003 is missing\."):
        list_table_files(tmp_path)


def test_wrong_labels_are_named_with_their_row(files, table, tmp_path, small_chunks):
    pq.write_table(table.set_column(11, "click", pa.array([0] * 699 + [7])), files[0])
    with pytest.raises(ValueError, match="got 7 in row 699 of .*part-0.parquet"):
        StreamedTable(TableStream({"": files[:1]}, SCHEMA), SCHEMA, tmp_path / "spill")


def test_times_that_cannot_split_the_rows_are_refused(files, table, tmp_path, small_chunks):
    for cells, message in (
        ([None, *[5] * 699], "but 1 are missing"),
        ([5] * 700, "must differ, but all are 5"),
        (["noon" if row == 650 else str(row) for row in range(700)], "got 'noon' in row 650"),
    ):
        place = table.column_names.index("time")
        pq.write_table(table.set_column(place, "time", pa.array(cells)), files[0])
        stream = TableStream({"": files[:1]}, SCHEMA)
        rows = StreamedTable(stream, SCHEMA, tmp_path / "spill")
        with rows, pytest.raises(ValueError, match=message):
            rows.split("time")


def test_vectors_are_refused(files, tmp_path):
    schema = replace(SCHEMA, fields=(*SCHEMA.fields[:2], FieldSchema("history", kind="vector")))
    with pytest.raises(ValueError, match=r"cannot be streamed, but the schema has \['history'\]"):
        StreamedTable(TableStream({"": files}, schema), schema, tmp_path / "spill")


def test_only_large_tables_are_streamed_by_default(files, monkeypatch):
    assert not table_stream.is_large(files)
    monkeypatch.setattr(table_stream, "STREAMED_ROWS", NUM_ROWS)
    assert table_stream.is_large(files)
    assert not table_stream.is_large(files[:2])


QUICK = ["--report_to", "none", "--disable_tqdm", "True", "--num_train_epochs", "1", "--report_plots", "false"]
QUICK += ["--per_device_train_batch_size", "128", "--embedding_size", "4", "--dnn_hidden_sizes", "8"]


@pytest.fixture
def arguments(files, tmp_path):
    """The files and their schema, on the command line."""
    schema = replace(SCHEMA, fields=(SCHEMA.fields[0], *SCHEMA.fields[-2:]))
    (tmp_path / "schema.json").write_text(json.dumps(schema.to_dict()))
    return ["--data_path", str(files[0].parent), "--schema", str(tmp_path / "schema.json"), *QUICK]


@pytest.mark.filterwarnings("ignore")
def test_the_commands_stream_on_request_and_as_the_checkpoint_did(arguments, tmp_path):
    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1"]
    pretrain.main([*arguments, *plm, "--stream", "true", "--output_dir", str(tmp_path / "pamlm")])
    record = ClickPromptConfig.from_pretrained(tmp_path / "pamlm").training_data
    assert record["stream"] is True
    assert record["num_rows"] == {"train": 560, "validation": 70, "test": 70}
    start = [*arguments, "--model_name_or_path", str(tmp_path / "pamlm"), "--without_plm"]
    finetune.main([*start, "--output_dir", str(tmp_path / "ctr")])
    assert ClickPromptConfig.from_pretrained(tmp_path / "ctr").training_data == record
    with pytest.raises(ValueError, match="`--stream` must be True, as in the checkpoint's training"):
        finetune.main([*start, "--stream", "false", "--output_dir", str(tmp_path / "other")])
    assert not list(tmp_path.glob("*/_prepared_data-*/spill"))


@pytest.mark.filterwarnings("ignore")
def test_a_mistake_that_streaming_finds_leaves_no_output_folder(arguments, files, table, tmp_path):
    pq.write_table(table.set_column(11, "click", pa.array([2] * NUM_ROWS)), files[2])
    with pytest.raises(ValueError, match="got 2 in row 450"):
        finetune.main([*arguments, "--ctr_only", "--stream", "true", "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_streamed_is_refused(arguments, tmp_path):
    more = ["--ctr_only", "--stream", "true", "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="`--stream` must be false or left out unless `--dataset` is a file format"):
        finetune.main([*QUICK, "--dataset", "synthetic", *more])
    with pytest.raises(ValueError, match="`--stream` must be false or left out: the arms of a comparison"):
        compare.main([*arguments[:4], "--arms", "constant", *more[1:]])


def test_columns_without_a_value_of_their_kind_are_refused(files, tmp_path, small_chunks):
    for kind, what in (("hour", "times"), ("numeric", "numbers")):
        schema = Schema((FieldSchema("genre", kind=kind), FieldSchema("user_id")), label="click")
        with pytest.raises(ValueError, match=f"must hold {what}, but none of its training values is one"):
            streamed(files, tmp_path, schema=schema)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stream", ["true", "false"])
def test_prepared_rows_are_kept_and_used_again(arguments, files, table, tmp_path, stream, monkeypatch):
    def run(command, output, *more):
        command.main([*arguments, *more, "--prepared", str(tmp_path / "kept"), "--output_dir", str(tmp_path / output)])
        return ClickPromptConfig.from_pretrained(tmp_path / output).training_data

    plm = ["--plm_name_or_path", "scratch-tiny", "--prompt_length", "1"]
    record = run(pretrain, "first", *plm, "--stream", stream)
    assert (tmp_path / "kept" / "prepared.json").is_file()

    def refuse(*args, **options):
        raise AssertionError("the rows must not be read again")

    with monkeypatch.context() as patched:
        patched.setattr("clickprompt_hf.runs.raw_rows.read_source", refuse)
        patched.setattr("clickprompt_hf.runs.preparation.StreamedTable", refuse)
        assert run(pretrain, "again", *plm) == record
        finetuned = run(finetune, "ctr", "--model_name_or_path", str(tmp_path / "first"), "--without_plm")
        assert finetuned == record
        for more, message in (
            ([*plm, "--split_seed", "7"], "a different split: .*'split_seed': 42.* instead of .*'split_seed': 7"),
            ([*plm, "--min_count", "2"], "a different min_count: 1 instead of 2"),
            ([*plm[:2], "--prompt_length", "2"], "a different number of prompts"),
            ([*plm, "--text_fields", "genre"], "a different choice of text fields"),
        ):
            with pytest.raises(ValueError, match=f"holds rows prepared with {message}"):
                run(pretrain, "other", *more)
        pq.write_table(table, files[0])
        with pytest.raises(
            ValueError, match="a different state of the files. Name another folder, or delete this one"
        ):
            run(pretrain, "other", *plm)
    assert not (tmp_path / "other").exists()


def test_a_folder_of_other_things_is_not_replaced_by_prepared_rows(arguments, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"x")
    with pytest.raises(
        ValueError, match="`--prepared` must be a new or empty folder, or one prepared by an earlier run"
    ):
        finetune.main(
            [*arguments, "--ctr_only", "--prepared", str(tmp_path / "mine"), "--output_dir", str(tmp_path / "out")]
        )
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_long_vocabularies_behave_as_lists(monkeypatch, tmp_path):
    values = ["b", "", "é", "a b", "\u2028", "aa"]
    content = "".join(f"{value}\n" for value in values).encode()
    texts = TextList(np.frombuffer(content, np.uint8), np.flatnonzero(np.frombuffer(content, np.uint8) == 10) + 1)
    assert len(texts) == 6
    assert list(texts) == values == texts[:]
    assert texts == values
    assert texts != values[:-1]
    assert texts != [*values[:-1], "ab"]
    assert [texts[i] for i in range(-6, 6)] == values * 2
    assert texts[1:4] == values[1:4]
    assert texts[::-2] == values[::-2]
    assert texts[4:2] == []
    assert [texts.index(value) for value in values] == list(range(6))
    assert [value in texts for value in ("a", "", "é", "a\nb", 7)] == [False, True, True, False, False]
    with pytest.raises(ValueError, match="'a' is not in the list"):
        texts.index("a")
    with pytest.raises(IndexError):
        texts[6]

    monkeypatch.setattr("clickprompt_hf.processor_files_clickprompt.LONG_VOCABULARY", 3)
    schema = Schema((FieldSchema("x"), FieldSchema("y"), FieldSchema("z")), label="click")
    processor = ClickPromptProcessor(schema, [values, ["7"], []], [[], [], []])
    processor.save_pretrained(tmp_path)
    loaded = ClickPromptProcessor.from_pretrained(tmp_path)
    assert [type(vocabulary) for vocabulary in loaded.vocabularies] == [TextList, list, list]
    assert loaded.vocabularies == processor.vocabularies
    assert loaded.written_vocabularies() == processor.written_vocabularies()
    assert loaded.encode({"x": ["é", "e\u0301", None, "q"], "y": ["7.0"] * 4, "z": [1] * 4})[:, 0].tolist() == [
        3,
        3,
        2,
        0,
    ]


def test_a_disk_without_room_is_named_and_nothing_is_left(files, tmp_path, small_chunks, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=10_000)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: full)
        with pytest.raises(
            OSError, match=r"spill has no room for the rows while they are prepared: .* MB needed, 0\.0 MB free"
        ):
            StreamedTable(TableStream({"": files}, SCHEMA), SCHEMA, tmp_path / "spill")
    assert not (tmp_path / "spill").exists()

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match=r"streamed.* cannot be written: No space left on device"):
        streamed(files, tmp_path, schema=replace(SCHEMA, fields=SCHEMA.fields[:1]))
    assert {path.name for path in tmp_path.iterdir()} == {"table"}
