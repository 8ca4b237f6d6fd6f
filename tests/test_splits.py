"""Splits: which rows go where, what decides it, and what is refused."""

import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movielens_files import ml_1m_files, write_zip

import clickprompt_hf.data.labels
import clickprompt_hf.data.splits
from clickprompt_hf import ClickPromptProcessor, Schema
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.labels import with_checked_labels
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.shared_rows import count_shared_rows
from clickprompt_hf.data.sources import SourceTable
from clickprompt_hf.data.splits import check_splits, choose_split_column, limit_train_rows, split_source, split_table
from clickprompt_hf.values_clickprompt import canonical

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
        (
            {},
            Schema.from_dict({**SCHEMA.to_dict(), "time": "day"}),
            r"`time` of the schema must be one of the columns \['.*\], got 'day'",
        ),
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
    with pytest.raises(ValueError, match=r"`split` must be one of \('random', 'time', 'user'\), got 'leave-one-out'"):
        split_table(table(), SCHEMA, split="leave-one-out")


def test_negative_split_seed():
    for seed in (-1, 1.5, "7"):
        with pytest.raises(ValueError, match=f"`split_seed` must be an integer of at least 0, got {seed!r}"):
            split_table(table(), SCHEMA, split_seed=seed)


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
        ([1, None] * 25, "got None in row 1 .* 25 of 50 labels are missing: remove these rows first"),
        ([0, 2] * 25, "For other labels, set `positive` in the schema to the value that means a click"),
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
        (["Yes", "No", "no", "NO"], []),
        (["Yes", "No", "YES", "no"], []),
        (
            ["Yes", "No", "maybe", "No"],
            ["2 values other than 'No', all of which mean no click: 'Yes' in 12"],
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
    assert labels == [int(word.lower() in ("no", "1")) for word in words] * 12
    assert len(caught) == len(said)
    assert all(part in str(warning.message) for part, warning in zip(said, caught))


@pytest.mark.parametrize(
    ("labels", "positive", "clicks"),
    [
        ([1, 2, 2, 1], "2", [0, 1, 1, 0]),
        (["1", "2.0", "02", "1.0"], "2", [0, 1, 1, 0]),
        ([2.0, 1.0, 2.0, 4.0], "2.0", [1, 0, 1, 0]),
        ([1, -1, -1, 1], "-1", [0, 1, 1, 0]),
        ([1, 0, 0, 1], "0", [0, 1, 1, 0]),
        ([1, -1, -1, 1], "1", [1, 0, 0, 1]),
        (["0.5", "x", ".5", "true"], "0.5", [1, 0, 1, 0]),
    ],
)
def test_the_label_of_a_click_may_be_any_number(labels, positive, clicks):
    schema = Schema.from_dict({"fields": ["user"], "label": "click", "positive": positive})
    processor = ClickPromptProcessor.fit({"user": [1]}, schema)
    assert processor({"user": [1] * 4, "click": labels})["labels"] == clicks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = checked(pa.table({"user": [1] * 4, "click": labels}), schema)
    assert rows["click"].to_pylist() == clicks
    # labels that were read once stay as they are, although 1 means no click in the file
    again = processor(rows.to_pandas().to_dict("list"))["labels"]
    assert again == processor(rows.to_pylist())["labels"] == clicks
    assert checked(rows, schema)["click"].to_pylist() == clicks
    splits = split_table(checked(table(48, click=labels * 12), schema), schema)
    check_splits(splits, schema)
    assert sum(int(split["click"].to_numpy().sum()) for split in splits.values()) == 12 * sum(clicks)
    message = "must be numbers or words \\('2' for a click\\), got None in row 1" if positive == "2" else "got None"
    with pytest.raises(ValueError, match=message):
        processor({"user": [1, 1], "click": [labels[0], None]})


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
    with pytest.raises(ValueError, match=r"Use more rows: only 2 in all are 1, and each split needs one\."):
        check_splits(split_table(table(50, click=[0, 1, 0, 1] + [0] * 46), SCHEMA), SCHEMA)
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


def parts_of(splits):
    return [splits[name] for name in ("train", "validation", "test")]


@pytest.mark.parametrize(
    ("num_rows", "clicks", "shares"),
    [
        # hand-computed: nearest to 8:1:1, at least one each
        (400, 3, [1, 1, 1]),
        (400, 10, [8, 1, 1]),
        (400, 17, [14, 1, 2]),
        (200, 20, [16, 2, 2]),
        (30, 6, [4, 1, 1]),
    ],
)
@pytest.mark.parametrize("rare_class", [0, 1])
def test_each_split_gets_its_share_of_a_rare_class(num_rows, clicks, shares, rare_class):
    labels = [rare_class] * clicks + [1 - rare_class] * (num_rows - clicks)
    for seed in range(20):
        splits = split_table(table(num_rows, click=labels, time=range(num_rows)), SCHEMA, split_seed=seed)
        assert [len(part) for part in parts_of(splits)] == [num_rows * 8 // 10, num_rows // 10, num_rows // 10]
        assert [part["click"].to_pylist().count(rare_class) for part in parts_of(splits)] == shares
        check_splits(splits, SCHEMA)
        assert sorted(user for part in users(splits).values() for user in part) == list(range(num_rows))


@pytest.mark.parametrize("clicks", [100, 200, 300, 400])
def test_a_class_that_is_not_rare_leaves_the_permutation_as_it_is(clicks):
    """Ten rows or more of each class are expected in a tenth: the split is that of earlier versions."""
    labels = ([1] * clicks + [0] * 400)[:400] if clicks < 400 else [0, 1] * 200
    order = np.random.default_rng(5).permutation(400).tolist()
    splits = split_table(table(400, click=labels, time=range(400)), SCHEMA, split_seed=5)
    assert users(splits) == {"train": order[:320], "validation": order[320:360], "test": order[360:]}


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ((0.8, 0.1, 0.1), [80, 10, 10]),
        # 0.7 + 0.2 is below 0.9 in floats
        ((0.7, 0.2, 0.1), [70, 20, 10]),
        ((0.5, 0.25, 0.25), [50, 25, 25]),
        ((1 / 3, 1 / 3, 1 / 3), [33, 33, 34]),
        ((0.98, 0.01, 0.01), [98, 1, 1]),
    ],
)
@pytest.mark.parametrize("split", ["random", "time", "user"])
def test_fractions(fractions, sizes, split):
    splits = split_table(table(100), SCHEMA, split=split, split_fractions=fractions)
    found = [len(part) for part in parts_of(splits)]
    # every user is one row
    assert found == sizes or (split == "user" and np.abs(np.subtract(found, sizes)).max() <= 1)


@pytest.mark.parametrize(
    "fractions",
    [
        (0.8, 0.2),
        (0.8, 0.1, 0.2),
        (0.9, 0.1, 0.0),
        (1.1, -0.05, -0.05),
        (0.25,) * 4,
        (float("nan"), 0.1, 0.1),
        ("0.8", 0.1, 0.1),
        (),
    ],
)
def test_wrong_fractions(fractions):
    message = "`split_fractions` must be three positive numbers that sum to 1, .* such as 0.8 0.1 0.1; got"
    with pytest.raises(ValueError, match=message):
        split_table(table(), SCHEMA, split_fractions=fractions)
    # before any file is read
    with pytest.raises(ValueError, match=message):
        load_splits("csv", "/nowhere.csv", SCHEMA, split_fractions=fractions)


def test_a_split_by_user_by_hand():
    """Users in the order that the seed draws, cut nearest to eight and nine tenths of the rows."""
    sizes = {"ann": 5, "bob": 3, "cy": 1, "dee": 1}
    names = [name for name, size in sizes.items() for _ in range(size)]
    drawn = [list(sizes)[n] for n in np.random.default_rng(0).permutation(4)]
    ends = np.cumsum([sizes[name] for name in drawn])
    first = max(1, int(np.abs(np.array([0, *ends]) - 8).argmin()))
    splits = split_table(table(10, user=names), SCHEMA, split="user", split_seed=0)
    first = min(first, 2)
    assert users(splits)["train"] == [name for name in drawn[:first] for _ in range(sizes[name])]
    assert sum(map(len, splits.values())) == 10


@given(
    sizes=st.lists(st.integers(1, 30), min_size=3, max_size=40),
    seed=st.integers(0, 2**31),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.3, 0.2), (0.34, 0.33, 0.33)]),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_no_user_is_on_two_sides(sizes, seed, fractions):
    names = [f"u{n}" for n, size in enumerate(sizes) for _ in range(size)]
    rows = pa.table({"row": range(len(names)), "user": names, "click": [0] * len(names)})
    order = np.random.default_rng(seed % 1000).permutation(len(names))
    rows = rows.take(pa.array(order))
    options = {"split": "user", "split_seed": seed, "split_fractions": fractions}
    splits = split_table(rows, SCHEMA, **options)
    found = parts_of(splits)
    sides = [set(part["user"].to_pylist()) for part in found]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == len(sizes)
    assert sorted(row for part in found for row in part["row"].to_pylist()) == list(range(len(names)))
    # with many small users, parts are within one user of their shares; every part has one user at least
    if len(sizes) >= 20:
        for part, fraction in zip(found, fractions):
            assert abs(len(part) - fraction * len(names)) <= 2 * max(sizes)
    again = split_table(rows, SCHEMA, **options)
    assert all(part.equals(other) for part, other in zip(found, parts_of(again)))


@given(
    clicks=st.lists(st.booleans(), min_size=12, max_size=300),
    seed=st.integers(0, 2**31),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.3, 0.2), (0.34, 0.33, 0.33)]),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_a_random_split_is_a_partition_with_shares_within_a_row(clicks, seed, fractions):
    size = len(clicks)
    rows = pa.table({"user": range(size), "click": [int(click) for click in clicks]})
    splits = split_table(rows, SCHEMA, split_seed=seed, split_fractions=fractions)
    assert sorted(user for part in users(splits).values() for user in part) == list(range(size))
    for part, fraction in zip(parts_of(splits), fractions):
        assert abs(len(part) - fraction * size) <= 1
    rarer = min(sum(clicks), size - sum(clicks))
    if 3 <= rarer < 10:
        assert all(0 < sum(part["click"].to_pylist()) < len(part) for part in parts_of(splits) if len(part) > 1)
    assert users(split_table(rows, SCHEMA, split_seed=seed, split_fractions=fractions)) == users(splits)


@pytest.mark.parametrize(
    "values",
    [
        ["7", " 7", "7.0", "8", "9"],
        [1.5, float("nan"), None, 2.0],
        ["", None, " ", "x", "y"],
        ["a", None, "b", "a", "c"],
        [b"a", b"b", b"c", b"a"],
    ],
)
@pytest.mark.parametrize("as_dictionary", [False, True])
def test_equal_users_stay_together_however_they_are_spelled(values, as_dictionary):
    """Missing users stay together too."""
    column = pa.array(values * 10)
    column = column.dictionary_encode() if as_dictionary else column
    rows = pa.table({"user": column, "click": [n % 2 for n in range(len(column))]})
    for seed in range(5):
        splits = split_table(rows, SCHEMA, split="user", split_seed=seed)
        sides = [{canonical(user) for user in part["user"].to_pylist()} for part in parts_of(splits)]
        assert sum(map(len, sides)) == len({canonical(value) for value in values})


def test_a_user_in_several_spellings_is_in_one_split():
    users = [spelled for user in range(1, 301) for spelled in (f"{user}", f"{user:04}", f"{user}.0", f"{user}e0")]
    rows = pa.table({"user_id": [*users, "", "NA", None, "null"], "click": [0, 1] * 602})
    schema = Schema.from_dict({"fields": ["user_id"], "label": "click"})
    splits = split_table(rows, schema, split="user")
    found = [{read_number(user) for user in part.column("user_id").to_pylist()} for part in splits.values()]
    assert sum(map(len, found)) == 301
    assert set.union(*found) == {*range(1, 301), None}


def read_number(text: str | None) -> int | None:
    return None if text in (None, "", "NA", "null") else int(float(text))


def test_the_column_of_a_split_by_user():
    schema = Schema.from_dict({"fields": ["age", "Item", "UserID", "user_id"], "label": "click"})
    names = ["age", "Item", "UserID", "user_id", "household", "click"]
    assert choose_split_column(schema, names) == "UserID"
    assert choose_split_column(schema, names, "household") == "household"
    with pytest.raises(ValueError, match=r"`split_column` must be one of the columns \['age', .*\], got 'home'"):
        choose_split_column(schema, names, "home")
    schema = Schema.from_dict({"fields": ["age", {"column": "price", "kind": "numeric"}, "item"], "label": "click"})
    with pytest.raises(ValueError, match=r"`split_column` must name the column .* candidates are \['age', 'item'\]"):
        split_table(table(), schema, split="user")
    with pytest.raises(ValueError, match="at least 3 different values, one per split, but 'user' has 2"):
        split_table(table(user=["a", "b"] * 25), SCHEMA, split="user")
    with pytest.raises(ValueError, match="must have one value per row, but 'user' has cells of type list"):
        split_table(table(user=[["a"], ["b"]] * 25), SCHEMA, split="user")


def test_missing_splits_are_cut_from_the_training_rows():
    labels = [0, 1] * 45
    train, other = table(90, click=labels, time=range(90)), table(20, user=range(100, 120))
    source = SourceTable({"train": train, "test": other}, SCHEMA)
    with pytest.warns(
        UserWarning, match="has no validation split: of its 90 training rows, 10 for validation are held out"
    ):
        splits = split_source(source)
    # a ninth: one tenth of the rows if the test rows are a tenth too
    assert [len(part) for part in parts_of(splits)] == [80, 10, 20]
    assert users(splits)["test"] == list(range(100, 120))
    assert sorted(users(splits)["train"] + users(splits)["validation"]) == list(range(90))
    with pytest.warns(UserWarning, match=r"10 for validation are held out \(the latest\)"):
        assert users(split_source(source, "time"))["validation"] == list(range(80, 90))

    source = SourceTable({"train": train}, SCHEMA)
    with pytest.warns(
        UserWarning, match="no validation and no test split: of its 90 training rows, 9 for validation and 9"
    ):
        splits = split_source(source)
    whole = SourceTable(train, SCHEMA)
    assert users(splits) == users(split_source(whole))
    source = SourceTable({"train": train, "validation": other, "test": other}, SCHEMA)
    with pytest.raises(ValueError, match="`split` must be left out, as the dataset has predefined splits, got 'user'"):
        split_source(source, "user")


def prepared(rows, tmp_path, split="random"):
    """Encoded splits of rows with the fields a and b."""
    schema = Schema.from_dict({"fields": ["a", "b"], "label": "click"})
    splits = split_table(rows, schema, split=split, split_column="a")
    prepare_splits(splits, ClickPromptProcessor.fit(splits["train"], schema), tmp_path / "data")
    return load_prepared(tmp_path / "data")[0]


def test_shared_rows_are_counted_by_hand(tmp_path):
    schema = Schema.from_dict({"fields": ["a", "b"], "label": "click"})
    train = pa.table({"a": [1, 1, 2, 3], "b": ["x", "x", "y", "z"], "click": [1, 0, 0, 1]})
    # equal with one and with the other label; another label only; alike in one field only; new
    test = pa.table({"a": [1, 2, 3, 9], "b": ["x", "y", "y", "q"], "click": [1, 1, 1, 0]})
    splits = {"train": train, "validation": test, "test": test}
    prepare_splits(splits, ClickPromptProcessor.fit(train, schema), tmp_path / "data")
    data = load_prepared(tmp_path / "data")[0]
    found = count_shared_rows(data["train"], data["test"])
    assert (found.rows, found.shared, found.with_label, found.suspicious) == (4, 2, 1, False)
    # the first test row agrees with one of two training rows, the second with none: 0.25. By chance: 0.5 x 1 + 0.5 x 0
    assert found.agreement == pytest.approx((0.25 - 0.5) / 0.5)
    # two rows share a value of a with chance (2² + 1 + 1) / 4², of b too: 4 test rows x 4 training rows x 0.375²
    assert found.expected == pytest.approx(4 * 4 * 0.375**2)
    none = count_shared_rows(data["train"], data["test"].slice(2, 4))
    assert (none.rows, none.shared, none.with_label, none.suspicious) == (2, 0, 0, False)


@pytest.mark.parametrize(
    ("values", "copies", "same_label", "suspicious"),
    [
        (500, 5, True, True),
        # far more than chance puts together
        (500, 5, False, True),
        (500, 1, False, False),
        # 20 x 20 values cannot differ in 2,000 rows
        (20, 1, False, False),
        (20, 5, False, False),
        # but their labels can
        (20, 5, True, True),
        (60, 1, False, False),
    ],
)
def test_copies_in_a_random_split_are_suspicious(values, copies, same_label, suspicious, tmp_path):
    draw = np.random.default_rng(0)
    size = 2000 // copies
    # as many different rows as there are, of 20 x 20 values too
    a, b = (np.tile(part, copies) for part in np.divmod(draw.choice(values**2, size, replace=copies == 1), values))
    labels = np.tile(draw.integers(0, 2, size), copies) if same_label else draw.integers(0, 2, size * copies)
    rows = pa.table({"a": a, "b": b, "click": labels})
    data = prepared(rows, tmp_path)
    found = count_shared_rows(data["train"], data["test"])
    assert found.suspicious == suspicious
    pairs = set(zip(*data["train"].value_ids.T.tolist()))
    test = zip(*data["test"].value_ids.T.tolist())
    assert found.shared == sum(pair in pairs for pair in test)
    by_user = prepared(rows, tmp_path, "user")
    assert count_shared_rows(by_user["train"], by_user["test"]).shared == 0
