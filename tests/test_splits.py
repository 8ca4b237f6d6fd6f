"""Splits: which rows go where, what decides it, and what is refused."""

import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from movielens_files import ml_1m_files, write_zip

import clickprompt_hf.data.labels
import clickprompt_hf.data.splits
from clickprompt_hf import ClickPromptProcessor, Schema
from clickprompt_hf.data.labels import with_checked_labels
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.splits import check_splits, limit_train_rows, split_table

SCHEMA = Schema.from_dict({"fields": ["user"], "label": "click", "time": "time"})


def table(num_rows=50, **columns):
    rows = {"user": range(num_rows), "click": [0, 1] * (num_rows // 2), "time": [n % 25 for n in range(num_rows)]}
    return pa.table(
        {
            name: values if isinstance(values, pa.Array) else list(values)
            for name, values in {**rows, **columns}.items()
        }
    )


def users(splits):
    return {name: split["user"].to_pylist() for name, split in splits.items()}


def checked(rows, schema):
    return with_checked_labels(rows, schema, "rows.csv")


def test_random_split_is_a_partition_that_the_seed_alone_draws():
    np.random.seed(1)
    first = users(split_table(table(), SCHEMA, split_seed=3))
    assert [len(first[name]) for name in ("train", "validation", "test")] == [40, 5, 5]
    assert sorted(user for part in first.values() for user in part) == list(range(50))
    np.random.seed(2)
    assert users(split_table(table(), SCHEMA, split_seed=3)) == first
    assert users(split_table(table(), SCHEMA, split_seed=4)) != first


def test_chronological_split_keeps_the_order_of_equal_times():
    splits = users(split_table(table(), SCHEMA, split="time"))
    # time t belongs to rows t and t + 25
    assert splits["train"][:4] == [0, 25, 1, 26]
    assert splits["validation"] == [20, 45, 21, 46, 22]
    assert splits["test"] == [47, 23, 48, 24, 49]


def test_columns_of_long_strings_get_long_offsets(monkeypatch):
    monkeypatch.setattr(clickprompt_hf.data.splits, "_SHORT_STRINGS_BYTES", 200)
    rows = table(note=[f"a note of {n}" for n in range(50)], word=["a"] * 50)

    def kinds(splits):
        return [str(splits["train"].schema.field(name).type) for name in ("note", "word")]

    assert kinds(split_table(rows, SCHEMA)) == ["large_string", "large_string"]
    monkeypatch.setattr(clickprompt_hf.data.splits, "_SHORT_STRINGS_BYTES", 500)
    splits = split_table(rows, SCHEMA)
    assert kinds(splits) == ["large_string", "string"]
    assert sorted(note for part in splits.values() for note in part["note"].to_pylist()) == sorted(
        rows["note"].to_pylist()
    )


def test_dictionaries_are_decoded():
    words = pa.array(["b", "a", None, "b", "c"] * 10)
    encoded = split_table(table(word=words.dictionary_encode()), SCHEMA)
    plain = split_table(table(word=words), SCHEMA)
    assert all(encoded[name].equals(plain[name]) for name in ("train", "validation", "test"))


def test_limits_keep_the_first_rows_of_a_random_split_and_the_latest_by_time():
    for split, kept in (("random", slice(0, 7)), ("time", slice(-7, None))):
        whole = split_table(table(), SCHEMA, split=split)
        limited = users(limit_train_rows(whole, 7, split))
        assert limited == {**users(whole), "train": users(whole)["train"][kept]}
    assert users(limit_train_rows(whole, 999)) == users(whole)
    with pytest.raises(ValueError, match="`max_train_rows` must be at least 1, got 0"):
        limit_train_rows(whole, 0)


@pytest.mark.parametrize(
    ("columns", "schema", "message"),
    [
        ({"time": [0] * 50}, SCHEMA, "'time' must differ, but all are 0: .*split=\"random\""),
        ({"time": [None] + [1, 2] * 24 + [3]}, SCHEMA, "1 are missing"),
        ({"time": [float("nan")] * 2 + [1.0, 2.0] * 24}, SCHEMA, "2 are missing"),
        (
            {"time": np.asarray(["NaT"] + ["2020-01-01", "2020-01-02"] * 24 + ["NaT"], "M8[s]").tolist()},
            SCHEMA,
            "2 are",
        ),
        ({"time": pa.array([-(2**63), *range(49)], pa.timestamp("s"))}, SCHEMA, "1 are missing"),
        ({"time": ["a", "b"] * 25}, SCHEMA, "must be numbers, timestamps or strings such as .* 'a' in row 0"),
        ({}, Schema.from_dict({"fields": ["user"], "label": "click"}), "names no time column"),
    ],
)
def test_times_that_do_not_split(columns, schema, message):
    with pytest.raises(ValueError, match=message):
        split_table(table(**columns), schema, split="time")


@pytest.mark.parametrize(
    ("pattern", "time_format"), [("2024-01-{:02d}T10:00:00Z", None), ("{:02d}/01/2024", "%d/%m/%Y")]
)
def test_times_may_be_strings(pattern, time_format):
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "time": "time", "time_format": time_format})
    strings = [pattern.format(1 + n % 25) for n in range(50)]
    expected = users(split_table(table(), SCHEMA, split="time"))
    assert users(split_table(table(time=strings), schema, split="time")) == expected
    with pytest.raises(ValueError, match="1 are missing"):
        split_table(table(time=[" ", *strings[1:]]), schema, split="time")


def test_movielens_without_times_is_not_split_by_time(tmp_path):
    path = write_zip(tmp_path / "x.zip", "ml-1m", ml_1m_files(60, timestamps=False))
    with pytest.raises(ValueError, match="all are 0.*cannot be split by time"):
        load_splits("ml-1m", path, split="time")
    with_times = write_zip(tmp_path / "y.zip", "ml-1m", ml_1m_files(60))
    assert load_splits("ml-1m", with_times, split="time")[0]["test"]["timestamp"][0].as_py() == 1054


def test_unknown_split():
    with pytest.raises(ValueError, match=r"`split` must be one of \('random', 'time'\), got 'leave-one-out'"):
        split_table(table(), SCHEMA, split="leave-one-out")


def test_negative_split_seed():
    with pytest.raises(ValueError, match="`split_seed` must be at least 0, got -1"):
        split_table(table(), SCHEMA, split_seed=-1)


@pytest.mark.parametrize(
    "labels",
    [["0", "1"], [0.0, 1.0], [False, True], [0, 1], ["0.0", "1.0"], ["false", " True"], [b"0", b"1"]],
)
def test_labels_become_integers(labels):
    clicks = checked(table(400, click=labels * 200), SCHEMA)["click"]
    assert clicks.type == pa.int8()
    assert clicks.to_pylist() == [0, 1] * 200


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2] * 25, "must be 0 or 1, got 2 in row 1 of rows.csv, counted from 0"),
        ([0.0, 0.5] * 25, "must be 0 or 1, got 0.5 in row 1"),
        ([1, None] * 25, "must be 0 or 1, got None in row 1"),
        (["yes", "no"] * 25, "must be 0 or 1, got 'yes' in row 0 .* `positive` in the schema"),
    ],
)
def test_wrong_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        checked(table(click=labels), SCHEMA)


@pytest.mark.parametrize("label", [0, 1, 1.0, "1", "0.0", True, "false", "TRUE", b"1", None, "", 2, "yes", 0.5, "1e0"])
@pytest.mark.parametrize("positive", [None, "yes"])
def test_tables_and_the_processor_read_labels_alike(label, positive):
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": positive})
    processor = ClickPromptProcessor.fit({"user": [1]}, schema)

    def read(convert):
        try:
            return convert()
        except ValueError as error:
            return str(error).partition(" of ")[0]

    assert read(lambda: checked(pa.table({"user": [1], "click": [label]}), schema)["click"].to_pylist()) == read(
        lambda: processor({"user": [1], "click": [label]})["labels"]
    )


@pytest.mark.parametrize("own_splits", [False, True])
def test_labels_are_checked_once_and_before_rows_are_shuffled(own_splits, tmp_path, monkeypatch):
    calls = []

    def counted(rows, schema, where):
        calls.append((len(rows), where))
        return with_checked_labels(rows, schema, where)

    monkeypatch.setattr(clickprompt_hf.data.labels, "with_checked_labels", counted)
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": "No"})
    sizes = {"train": 320, "validation": 40, "test": 40} if own_splits else {"train": 400}
    start = 0
    for name, size in sizes.items():
        rows = pa.table({"user": range(start, start + size), "click": ["Yes", "No"] * (size // 2)})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
        start += size
    if own_splits:
        splits, _ = load_splits(f"{tmp_path}/", schema=schema)
        assert calls == [(size, f"the {name} split of {tmp_path}/") for name, size in sizes.items()]
    else:
        splits, _ = load_splits("parquet", tmp_path / "train.parquet", schema)
        assert calls == [(400, str(tmp_path / "train.parquet"))]
    rows = [row for split in splits.values() for row in split.to_pylist()]
    assert {row["user"]: row["click"] for row in rows} == {n: n % 2 for n in range(400)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["Yes", "No", "no", "No"], ["'Yes' in 12, 'no' in 12 rows. 'no' differs from it only in case."]),
        (
            ["Yes", "No", "maybe", "No"],
            ["2 values other than 'No', which all mean no click: 'Yes' in 12"],
        ),
        (["Yes", "No", "Yes", "No"], []),
        (["1", "No", "0", "No"], []),
    ],
)
def test_further_label_words_trigger_a_warning(words, said):
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": "No"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = checked(table(48, click=words * 12), schema)["click"].to_pylist()
    assert labels == [int(word in ("No", "1")) for word in words] * 12
    assert len(caught) == len(said)
    assert all(part in str(warning.message) for part, warning in zip(said, caught))


def test_labels_in_words_must_be_known():
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": "No"})
    with pytest.raises(
        ValueError, match="must be 0, 1 or words \\('No' for a click\\), got None in row 0 of rows.csv"
    ):
        checked(table(click=[None] * 50), schema)


def test_the_message_about_a_wrong_label_names_its_row_in_the_file(tmp_path):
    labels = ["0", "1"] * 25
    labels[17] = "maybe"
    path = tmp_path / "rows.csv"
    path.write_text("user,click\n" + "".join(f"{n},{label}\n" for n, label in enumerate(labels)))
    with pytest.raises(ValueError, match=r"got 'maybe' in row 17 of .*rows\.csv, counted from 0"):
        load_splits("csv", path, Schema.from_dict({"fields": ["user"], "label": "click"}))


def test_a_split_needs_rows_and_both_classes():
    with pytest.raises(ValueError, match="train split must have rows, but it has none: there are only 0 rows in all"):
        check_splits(split_table(table(0), SCHEMA), SCHEMA)
    with pytest.raises(ValueError, match="both classes in column 'click', but all 40 labels are 1"):
        check_splits(split_table(table(click=[1] * 50), SCHEMA), SCHEMA)
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": "Yess"})
    with pytest.warns(UserWarning, match="2 values other than 'Yess'"):
        rows = checked(table(50, click=["Yes", "No"] * 25), schema)
    message = "all 40 labels are 0: none is 'Yess', the `positive` of the schema"
    with pytest.raises(ValueError, match=message):
        check_splits(split_table(rows, schema), schema)


@pytest.mark.parametrize("kind", [pa.string(), pa.int64()])
def test_digits_with_a_format_are_times_not_numbers(tmp_path, kind):
    """Days first: as numbers they would come in another order, and lose their leading zeros."""
    days = [f"{day:02}{month:02}2023" for month in (1, 2, 3, 4) for day in range(1, 21, 2)]
    schema = Schema.from_dict(
        {"fields": ["user", {"column": "day", "kind": "month"}], "label": "click", "time": "day"}
        | {"time_format": "%d%m%Y"}
    )
    rows = pa.table({"user": range(40), "click": [0, 1] * 20, "day": pa.array(days).cast(kind)})
    if kind == pa.string():
        pa.csv.write_csv(rows, tmp_path / "rows.csv")
        splits, _ = load_splits("csv", tmp_path / "rows.csv", schema, split="time")
        assert list(map(int, splits["train"]["user"].to_pylist())) == list(range(32))
        assert splits["train"]["day"].to_pylist()[:2] == ["01012023", "03012023"]
    else:
        # cells that kept all their digits
        rows = rows.filter(pa.compute.greater(rows["day"], 9_999_999))
        splits = split_table(rows, schema, split="time")
        assert [str(day)[2:4] for day in splits["train"]["day"].to_pylist()] == ["01"] * 5 + ["02"] * 5 + [
            "03"
        ] * 5 + ["04"]
