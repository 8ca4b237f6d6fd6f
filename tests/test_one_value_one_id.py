"""One value has one id, whoever read or wrote it: spellings, types of every library, ways in, and CSV writers."""

import csv
import pickle
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from tiny_data import tiny_roberta_tokenizer
from transformers import AutoProcessor

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptProcessor, CTRConfig, FieldSchema, Schema
from clickprompt_hf.columns_clickprompt import cells_of
from clickprompt_hf.data.columnar import encode_tables, load_prepared, prepare_splits
from clickprompt_hf.data.csv_writer import csv_bytes
from clickprompt_hf.data.splits import split_table
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.drafting.column_kinds import profile_column
from clickprompt_hf.encoding_clickprompt import FeatureEncoder
from clickprompt_hf.export.export_ctr import export_ctr
from clickprompt_hf.inspection import unknown_fields
from clickprompt_hf.labels_clickprompt import labels_of
from clickprompt_hf.pipeline_clickprompt import ClickPromptPipeline
from clickprompt_hf.scoring import score_file, score_table
from clickprompt_hf.values_clickprompt import canonical, is_missing, meaning_of, number_of, read_time
from clickprompt_hf.vocabularies_clickprompt import ValueIndex

X = Schema((FieldSchema("x"),), label="click")
EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-5))


def encoder(*vocabulary):
    return FeatureEncoder(X, [list(vocabulary)], [[]])


def id_of(value, *vocabulary):
    return encoder(*vocabulary).encode({"x": [value]}).item()


# Texts and typed values that mean the same, by the normal spelling that typed values have.
SAME = {
    "7": ["7", "007", "+7", "7.0", "7.00", "7e0", ".7e1", 7, 7.0, np.int8(7), np.float16(7), Decimal("7.00"), b"7"],
    "0": ["0", "-0", "0.000", "0e5", 0, -0.0, Decimal("0E+3")],
    "-12.5": ["-12.5", "-12.50", "-1.25e1", "-1250E-2", -12.5, np.float32(-12.5), Decimal("-12.500")],
    "4.5": ["4.5", "4.50", "04.5", "45e-1", 4.5, np.float64(4.5), Decimal("4.50"), np.array(4.5), torch.tensor(4.5)],
    "0.5": ["0.5", ".5", "+.50", "5e-1", 0.5, Decimal("0.5")],
    "1000": ["1000", "1e3", "1E3", "1.0E3", "1e+03", "1000.00", 1000, 1e3, Decimal("1E+3")],
    "100000": ["100000", "1e+05", "1E5", 1e5, 100_000],
    "700000000000000000": ["700000000000000000", "7e17", "7.0E17", 7e17, 7 * 10**17],
    "1" + "0" * 23: ["1e23", "1.0E23", "1" + "0" * 23, 1e23, 10**23],
    "2e-05": ["2e-05", "0.00002", "2.0E-5", 2e-5, Decimal("0.00002")],
    "0.1": ["0.1", "0.10", "0.10000000149011612", 0.1, np.float32(0.1), float(np.float32(0.1))],
    "0.0001": ["0.0001", "1e-04", 1e-4, np.float32(1e-4), float(np.float32(1e-4)), "9.999999747378752e-05"],
    # in 32 bits, which repr shows with 15 digits or fewer
    "4.03": ["4.03", "4.030", 4.03, np.float32(4.03), float(np.float32(4.03)), "4.03000020980835"],
    "-2048.1": ["-2048.1", -2048.1, np.float32(-2048.1), "-2048.10009765625", Decimal("-2048.10")],
    "65536.1": ["65536.1", 65536.1, np.float32(65536.1)],
    # short binary fractions, which 32 bits hold exactly
    "100.0078125": ["100.0078125", 100.0078125, "1000078125e-7", np.float32(100.0078125)],
    "1000000.125": ["1000000.125", 1000000.125, np.float32(1000000.125)],
    "9007199254740993": ["9007199254740993", "9007199254740993.0", 9007199254740993, np.int64(9007199254740993)],
    "inf": ["inf", "Infinity", "+INF", float("inf"), np.float32("inf"), Decimal("Infinity")],
    "-inf": ["-inf", "-Infinity", -np.inf],
    "True": ["True", "true", "TRUE", True, np.True_, np.array(True)],
    "False": ["False", "false", "FALSE", False, np.False_],
    "2024-01-31 10:00:00": [
        *("2024-01-31 10:00:00", "2024-01-31T10:00:00", "2024-01-31T10:00:00.000Z", "2024-01-31 10:00:00.000000"),
        *("2024-01-31T10:00:00.000000000", "2024-01-31 10:00:00+00:00", "2024-01-31T12:00:00+0200"),
        *("2024-01-31 10:00:00 UTC", "2024-01-31t10:00z", "2024-01-31T10:00", "2024-01-31T05:00:00-05"),
        *(datetime(2024, 1, 31, 10), datetime(2024, 1, 31, 10, tzinfo=UTC), datetime(2024, 1, 31, 5, tzinfo=WEST)),
        *(pd.Timestamp("2024-01-31T10"), pd.Timestamp("2024-01-31T11", tz="Europe/Paris")),
        *(np.datetime64("2024-01-31T10", unit) for unit in ("h", "m", "s", "ms", "us", "ns")),
        np.array("2024-01-31T10:00:00", "M8[ns]"),
    ],
    "2024-01-31": [
        *("2024-01-31", "2024-01-31T00:00:00", "2024-01-31 00:00:00.000", "2024-01-31T00:00Z"),
        "2024-01-30T19:00-05:00",
        *(date(2024, 1, 31), datetime(2024, 1, 31), pd.Timestamp("2024-01-31"), np.datetime64("2024-01-31")),
        np.datetime64("2024-01-31", "ns"),
    ],
    "2024-01-01": [np.datetime64("2024", "Y"), np.datetime64("2024-01", "M"), "2024-01-01", date(2024, 1, 1)],
    "2024-01-31 10:00:00.500000": [
        *("2024-01-31T10:00:00.5", "2024-01-31 10:00:00.500", datetime(2024, 1, 31, 10, 0, 0, 500_000)),
        np.datetime64("2024-01-31T10:00:00.5", "ms"),
    ],
    "2024-01-31 10:00:00.123456789": [
        *("2024-01-31T10:00:00.123456789Z", pd.Timestamp("2024-01-31T10:00:00.123456789")),
        np.datetime64("2024-01-31T10:00:00.123456789"),
    ],
    "30000-01-01": [np.datetime64("30000-01-01"), pd.Series(np.array(["30000-01-01"], "M8[s]"))[0], "30000-01-01"],
    "10000-01-01 04:59:59": ["9999-12-31T23:59:59-05:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST)],
    "0000-12-31 10:00:00": ["0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=EAST)],
    "00:01:30": [
        *("00:01:30", "0:01:30", "0 days 00:01:30", "00:01:30.000000", timedelta(seconds=90)),
        *(pd.Timedelta(seconds=90), np.timedelta64(90, "s"), np.timedelta64(90 * 10**9, "ns"), time(0, 1, 30)),
    ],
    "1 day, 02:00:00": ["1 days 02:00:00", "1 day, 2:00:00", timedelta(hours=26), np.timedelta64(26, "h")],
    "-1 day, 23:58:30": ["-1 days +23:58:30", timedelta(seconds=-90), np.timedelta64(-90, "s")],
    "": [
        *("", "  ", "nan", "NaN", "NULL", "null", "None", "NA", "n/a", "N/A", "<NA>", "NaT", "\\N", "#N/A"),
        *(None, float("nan"), np.float32("nan"), Decimal("NaN"), Decimal("sNaN"), pd.NA, pd.NaT),
        *(np.datetime64("NaT"), np.timedelta64("NaT")),
    ],
    "caf\u00e9": ["caf\u00e9", "cafe\u0301", b"cafe\xcc\x81", "  cafe\u0301 "],
}  # fmt: skip
PAIRS = [pytest.param(normal, value, id=f"{normal}-{value!r:.40}") for normal in SAME for value in SAME[normal]]


@pytest.mark.parametrize(("normal", "value"), PAIRS)
def test_values_that_mean_the_same_have_one_id(normal, value):
    assert isinstance(value, (str, bytes)) or canonical(value) == normal
    text = canonical(value)
    assert (meaning_of(text) if meaning_of(text) is not None else text) == normal
    for other in SAME[normal]:
        # a vocabulary as training rows spell it, among words and numbers that mean something else
        vocabulary = ["x1", canonical(other), "8", "word"]
        assert id_of(value, *vocabulary) == 2, other
        # and the reverse
        assert id_of(other, "x1", text, "8", "word") == 2


NO_OTHER_MEANING = (
    *("1_000", "1e", "e3", ".", "+", "-", "--1", "1.2.3", "0x10", "1,000", "1 000", "$5", "\u0663", "1\u00bd"),
    *("yes", "t", "Y", "on", "truex", "nano", "nun", "-", "?", "unknown", "infinite", "N", "\\", "<", "#"),
    *("2024-13-01", "2024-02-30", "2024-01-31T25:00", "31/01/2024", "2024-01", "2024-W05", "10:00", "16:9", "days"),
    *("1e1000000000", "v7.0", "7 .0", "A3SGXH7AUHU8GW", "f3a90bde"),
)


@pytest.mark.parametrize("text", NO_OTHER_MEANING)
def test_other_texts_only_mean_themselves(text):
    assert meaning_of(text) is None
    assert id_of(text, "1000", "1", "True", "", "2024-01-31", "10") == 0


@pytest.mark.parametrize(
    ("value", "vocabulary"),
    [
        # a truth value is not a number, and a number is not a time
        (True, ["1"]), (False, ["0"]), ("true", ["1", "1.0"]), (1, ["True", "true"]), ("1", ["TRUE"]),
        (1706695200, ["2024-01-31T10:00:00Z"]), (datetime(2024, 1, 31, 10), ["1706695200"]),
        (20240131, ["2024-01-31"]),
        # no double holds these
        (1234567890123456789, ["1234567890123456788"]), ("1234567890123456789", ["1234567890123456790.0"]),
        ("0.1000000000000000055511151231257827", ["0.1"]), (9007199254740993, ["9007199254740992"]),
        # neighboring moments
        ("2024-01-31T10:00:00.000000001", ["2024-01-31 10:00:00"]),
        ("2024-01-31T10:00:00+01:00", ["2024-01-31T10:00"]),
        # of several spellings, none is meant
        ("7.00", ["007", "07"]), (7, ["007", "7.00"]), (None, ["NA", "null"]), (True, ["true", "TRUE"]),
    ],
)  # fmt: skip
def test_other_values_stay_unknown(value, vocabulary):
    assert id_of(value, *vocabulary) == 0


@pytest.mark.parametrize("column", ["period", "interval"])
def test_periods_and_intervals_of_pandas_are_one_value_in_frames_categories_arrow_and_files(column, tmp_path):
    frame = pd.DataFrame(
        {
            "period": pd.PeriodIndex(["2024-01", "2024-02", None], freq="M"),
            "interval": pd.IntervalIndex.from_tuples([(0, 1.5), (1.5, 2), None]),
            "click": [0, 1, 0],
        }
    )
    values = [*frame[column].astype(str)[:2], ""]
    table = pa.Table.from_pandas(frame)
    pq.write_table(table, tmp_path / "rows.parquet")
    categories = frame.astype({column: "category"})
    schema = Schema((FieldSchema(column),), label="click")
    of_file = read_table_files(tmp_path / "rows.parquet", schema)
    for train in (frame, categories, table, pa.Table.from_pandas(categories), of_file):
        processor = ClickPromptProcessor.fit(train, schema)
        assert processor.vocabularies == [sorted(values)]
        assert processor(train)["feature_ids"] == [[2], [3], [1]]
    assert profile_column(column, of_file.column(column)).values == values[:2]
    for written in (table, pa.Table.from_pandas(categories)):
        texts = csv_bytes(written.select([column])).decode().splitlines()
        assert [next(csv.reader([text]), [""])[0] for text in texts[1:]] == values


@pytest.mark.parametrize("kind", ["categorical", "hour"])
def test_the_hours_that_clocks_repeat_are_two(kind):
    schema = Schema((FieldSchema("x", kind=kind),), label="click")
    moments = [datetime(2024, 10, 27, hour, 30, tzinfo=UTC) for hour in range(4)]
    table = pa.table({"x": pa.array(moments * 20, pa.timestamp("us", "Europe/Berlin"))})
    for train in (table, table.to_pylist(), table.to_pydict(), table.to_pandas()):
        processor = ClickPromptProcessor.fit(train, schema)
        assert len(processor.vocabularies[0]) == 4
        # many rows and few, with the zone and without
        assert processor(train)["feature_ids"] == processor({"x": moments * 20})["feature_ids"]
        assert processor(train)["feature_ids"][:4] == processor(table.slice(0, 4))["feature_ids"]


def test_equal_values_of_different_types_are_counted_apart():
    rows = {"x": [1, True, 1.0, "1", 0, False] * 10}
    processor = ClickPromptProcessor.fit(rows, X)
    assert processor.vocabularies == [["1", "0", "False", "True"]]
    assert processor(rows)["feature_ids"][:6] == [[1], [4], [1], [1], [2], [3]]


def test_where_training_has_both_spellings_they_stay_two_values():
    rows = {"x": ["007", "7", "7", "1e3", "1000", "1000", "NA", "", "", "true", "True", "True"]}
    processor = ClickPromptProcessor.fit(rows, X)
    ids = {text: id_of_text for text, (id_of_text,) in zip(rows["x"], processor(rows)["feature_ids"])}
    assert len(set(ids.values())) == len(ids) == 8
    # the normal spelling is what others mean
    typed = {7: "7", "7.00": "7", "+7": "7", 1e3: "1000", None: "", "null": "", "TRUE": "True", True: "True"}
    for value, text in typed.items():
        assert processor({"x": [value]})["feature_ids"] == [[ids[text]]]


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False), st.booleans(), st.text()))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_value_is_found_by_its_own_spelling_in_any_notation(value):
    text = canonical(value)
    assert canonical(text) == text
    if isinstance(value, str):
        assert text == unicodedata.normalize("NFC", " ".join(value.split())) or not value.isascii()
    elif abs(Decimal(value).adjusted()) < 300:
        assert meaning_of(text) == text
        notations = [f"{value:e}" if isinstance(value, Decimal) else str(value), f"+{text}".replace("+-", "-")]
        for notation in notations if not isinstance(value, bool) else [str(value).upper()]:
            assert id_of(notation, "word", text) == id_of(value, "word", notation) == 2


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_double_is_found_in_every_notation_that_reads_back_as_it(number):
    for notation in (repr(number), format(Decimal(repr(number)), "f"), format(Decimal(repr(number)), "E")):
        assert id_of(number, "word", canonical(notation)) == 2
        assert id_of(notation, "word", canonical(number)) == 2


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_moment_is_one_value_in_every_zone_and_type(moment, offset):
    aware = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset)))
    forms = [moment.isoformat(), f"{moment}Z", aware.isoformat(), str(aware), aware, np.datetime64(moment, "us")]
    forms += [f"{moment.isoformat()}z", f"{moment} UTC", f"{str(aware)[:-6]} {aware:%z}"]
    assert {id_of(form, "2024", canonical(moment)) for form in forms} == {2}
    assert {id_of(moment, "2024", canonical(form)) for form in forms} == {2}
    assert {read_time(form) for form in forms} == {moment}


def test_numpy_and_arrow_values_beyond_pythons_years_have_ids():
    huge = pa.array([10**12, 5, None], pa.timestamp("s"))
    for column in (huge, pa.chunked_array([huge]), pa.chunked_array([huge.dictionary_encode()]), cells_of(huge)):
        assert encoder("1970-01-01 00:00:05", "33658-09-27 01:46:40", "").encode({"x": column}).tolist() == [
            [2],
            [1],
            [3],
        ]


def test_a_large_double_equals_the_integer_that_it_is():
    # earlier versions wrote doubles as these integers
    assert id_of(float(2**60), "x", str(2**60)) == 2
    assert id_of(float(2**60), str(2**60), "1152921504606847000") == 2
    assert id_of(float("inf"), str(2**60)) == 0


def test_vocabularies_of_earlier_versions_are_found_whatever_they_hold():
    old = ["cafe\u0301", "2024-01-31 00:00:00", "2024-01-31T10:00:00", "0:01:30"]
    values = ["caf\u00e9", date(2024, 1, 31), datetime(2024, 1, 31, 10), timedelta(seconds=90)]
    assert [id_of(value, *old) for value in values] == [1, 2, 3, 4]
    assert [id_of(value, *old) for value in old] == [1, 2, 3, 4]


def test_the_index_of_meanings_is_built_once_by_many_threads_and_not_saved():
    index = ValueIndex([str(n) for n in range(50_000)] + ["1e9", "TRUE", "NULL"])
    texts = ["1000000000", "true", "", "+12", "x"] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(index.id_of, texts))
    assert found == [50_001, 50_002, 50_003, 13, 0] * 20
    assert len(pickle.dumps(index)) == len(pickle.dumps(ValueIndex(index.vocabulary)))
    assert pickle.loads(pickle.dumps(index)).id_of("true") == 50_002


# The text.


def test_the_plm_reads_the_spelling_of_training():
    schema = Schema((FieldSchema("x"), FieldSchema("t", kind="multi_valued"), FieldSchema("n", kind="text")), "click")
    train = {"x": ["007", "true", "4.50", "1e3", "2024-01-31T10:00:00", "NA"], "t": ["1.50|TRUE"] * 6, "n": [""] * 6}
    processor = ClickPromptProcessor.fit(train, schema, tiny_roberta_tokenizer())
    typed = {
        "x": [7, True, Decimal("4.5"), 1000.0, pd.Timestamp("2024-01-31T10:00Z"), None],
        "t": [[1.5, True]] * 5 + ["1.5|true"],
        "n": [7.0, None, True, 1e3, "a  b", "n"],
    }
    assert processor(typed)["feature_ids"] == processor(train)["feature_ids"]
    assert processor.render_values(0, typed["x"]) == processor.render_values(0, train["x"])
    assert processor.render_values(1, typed["t"]) == processor.render_values(1, train["t"]) == ["t is 1.50, TRUE."] * 6
    # an unknown value and free text keep their own
    assert processor.render_values(0, [5.50, "b "]) == ["x is 5.5.", "x is b."]
    assert processor.render_values(2, typed["n"])[:3] == ["n is 7.", "n is unknown.", "n is True."]


def test_extending_adds_no_second_id_for_another_spelling():
    processor = ClickPromptProcessor.fit({"x": ["007", "true", "NA"]}, X)
    processor.extend({"x": [7, True, None, "7.00", "TRUE", "8.0", "8.00", 9.5]})
    # new values keep their spellings, as in `fit`
    assert processor.vocabularies == [["007", "NA", "true", "8", "8.00", "9.5"]]
    assert processor({"x": ["7.00", "TRUE", ""]})["feature_ids"] == [[1], [3], [2]]
    both = ClickPromptProcessor.fit({"x": ["1e3", "1000.0"]}, X)
    both.extend({"x": ["1000.00"]})
    assert both.field_sizes == [3]


# Numbers and times.


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("4.50", 4.5), (" 7 ", 7.0), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("+7", 7.0), (Decimal("4.50"), 4.5),
        (np.int8(3), 3.0), (np.float32(0.5), 0.5), (np.bool_(True), 1.0), (True, 1.0), ("true", 1.0), ("FALSE", 0.0),
        (b"12", 12.0), (np.array(2), 2.0), ("-inf", -np.inf), ("Infinity", np.inf), ("\xa07", 7.0),
        *((text, np.nan) for text in ("1_000", "\u0663", "1,5", "", "NA", "0x10", "7a", "1\x00", "--1")),
        *((value, np.nan) for value in (None, Decimal("NaN"), Decimal("sNaN"), pd.NA, pd.NaT, 10**400)),
        *((value, np.nan) for value in (timedelta(1), np.timedelta64(5, "s"), np.datetime64("2024"))),
        (date(2024, 1, 1), np.nan),
    ],
)  # fmt: skip
def test_numbers(value, number):
    np.testing.assert_equal(number_of(value), number)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9999-12-31T23:59:59-05:00", None), ("0001-01-01T00:00:00+14:00", None),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST), None), (datetime(1, 1, 1, tzinfo=EAST), None),
        (np.datetime64("30000-01-01"), None), (np.datetime64("30000", "Y"), None), (np.datetime64(2**62, "s"), None),
        (pd.Series(np.array(["30000-01-01"], "M8[s]"))[0], None), (np.datetime64("-0044-03-15"), None),
        (np.datetime64("2024", "Y"), datetime(2024, 1, 1)),
        (np.datetime64("2024-01-31T10", "h"), datetime(2024, 1, 31, 10)),
        (np.datetime64("2024-01-31T10:00:00.123456789"), datetime(2024, 1, 31, 10, 0, 0, 123456)),
        (np.array("2024-01-31", "M8[ns]"), datetime(2024, 1, 31)),
        (Decimal("1706695200"), datetime(2024, 1, 31, 10)),
        *((value, None) for value in (timedelta(1), np.timedelta64(5, "s"), "2024-01-31\x00", time(10), True)),
        (b"\x00", None),
        *((value, None) for value in ("1_706_695_200", pd.NaT, Decimal("NaN"), np.timedelta64("NaT"), "NaT")),
    ],
)  # fmt: skip
def test_times_at_the_ends_of_years_and_of_odd_types(value, expected):
    found = read_time(value)
    assert found == expected
    schema = Schema((FieldSchema("x", kind="hour"),), label="click")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = FeatureEncoder(schema, [["10", "0", ""]], [[]]).encode({"x": [value]})
    assert ids.item() == (3 if expected is None else 2 - expected.hour // 10)


def test_words_for_missing_values_are_not_reported_as_unreadable():
    schema = Schema((FieldSchema("x", kind="numeric"),), label="click")
    processor = ClickPromptProcessor.fit({"x": [1, 2, 3, None]}, schema)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = processor({"x": ["NA", "null", "", None, "\\N", "<NA>"]})["feature_ids"]
    assert len({tuple(row) for row in ids}) == 1
    assert all(map(is_missing, ("NaN", None, "n/a")))
    assert not is_missing("no")


def test_labels_in_words_are_found_by_their_meaning():
    for labels in (["true", "false"], ["TRUE", "FALSE"], [True, False], np.asarray([True, False])):
        assert labels_of(labels, "true").tolist() == labels_of(labels).tolist() == [1, 0]
        assert labels_of(labels, "False").tolist() == [0, 1]
    assert labels_of(["2024-01-31", "1.0", Decimal("0.00"), "x"], "2024-01-31T00:00").tolist() == [1, 1, 0, 0]


# The ways in.

TIMES = [datetime(2024, 1, 31, 10), datetime(2024, 2, 1), None, datetime(2024, 1, 31, 10, 0, 0, 250_000)]
ARROW_COLUMNS = {
    "string": pa.array(["007", "x", None, ""]),
    "large_string": pa.array(["007", "x", None, ""], pa.large_string()),
    "string_view": pa.array(["007", "x", None, ""], pa.string_view()),
    "binary": pa.array([b"007", b"x", None, b"\xff\x00"]),
    "binary_view": pa.array([b"007", b"x", None, b"\xff\x00"], pa.binary_view()),
    "dictionary": pa.array(["007", "x", None, "007"]).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([0, 1, None, 0]), pa.array(["007", "x"], pa.string_view())
    ),
    "dictionary of times": pa.array(TIMES, pa.timestamp("us")).dictionary_encode(),
    "int8": pa.array([1, -2, None, 3], pa.int8()),
    "uint64": pa.array([1, 2**64 - 1, None, 3], pa.uint64()),
    "int64 of 19 digits": pa.array([1234567890123456789, 1234567890123456788, None, 3]),
    "half": pa.array(np.array([0.5, 2, np.nan, 0.1], np.float16)),
    "float": pa.array([0.1, 2, None, 1e-5], pa.float32()),
    "double": pa.array([0.1, 2e17, None, float("nan")]),
    "bool": pa.array([True, False, None, True]),
    "null": pa.array([None] * 4),
    **{f"decimal{n}": pa.array([Decimal("4.50"), Decimal("7.00"), None, Decimal("0.05")],
                               getattr(pa, f"decimal{n}")(5, 2)) for n in (32, 64, 128, 256)},
    "date32": pa.array([date(2024, 1, 31), date(1, 1, 1), None, date(9999, 12, 31)]),
    "date64": pa.array([date(2024, 1, 31), date(1, 1, 1), None, date(9999, 12, 31)], pa.date64()),
    "dates beyond Python's": pa.array([10**7, -(10**7), None, 5], pa.int32()).cast(pa.date32()),
    **{f"timestamp {unit} {zone}": pa.array(TIMES, pa.timestamp("us")).cast(pa.timestamp(unit), safe=False).cast(
        pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")},
    "nanoseconds": pa.array([1706695200123456789, 5, None, 0], pa.timestamp("ns")),
    "times beyond Python's": pa.array([10**12, 5, None, -(10**12)], pa.timestamp("s")),
    "time32": pa.array([time(10), time(0, 1, 30), None, time(23, 59, 59)], pa.time32("s")),
    "time64": pa.array([time(10), time(0, 1, 30, 5), None, time(23, 59, 59)], pa.time64("us")),
    **{f"duration {unit}": pa.array([90, -5, None, 86_400], pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    "durations beyond Python's": pa.array([2**62, 5, None, -(2**62)], pa.duration("s")),
    "uuid": pa.array([b"0" * 16, b"1" * 16, None, b"0" * 16], pa.uuid()),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', "7", None, "7"])),
}  # fmt: skip
# the libraries have no such types, or cannot hold these values
NOT_IN = {
    "datasets": ("view", "uuid", "json", "half", "decimal32", "decimal64"),
    "pandas": ("view", "beyond", "uuid", "json", "decimal32", "decimal64", "uint64", "19 digits"),
    "pandas of Arrow": ("view", "beyond", "uuid", "json", "decimal32", "decimal64"),
    "polars": ("views", "beyond", "uuid", "json", "decimal32", "decimal64", "decimal256", "null"),
}


def ways_in(name, column, processor):
    """Ids of one column of four cells, by way in."""
    chunked = pa.chunked_array([column.slice(0, 1), column.slice(1)])
    table = pa.table({"x": chunked, "click": [0, 1, 0, 1]})
    cells = cells_of(column)
    rows = {
        "table": table,
        "batch": table.combine_chunks().to_batches()[0],
        "cells": {"x": cells},
        "rows": [{"x": cell} for cell in cells],
        "columns": {"x": column},
    }
    if not any(word in name for word in NOT_IN["datasets"]):
        dataset = datasets.Dataset(table)
        rows["dataset"] = dataset.with_format("arrow")[:]
    if not any(word in name for word in NOT_IN["pandas"]):
        frame = table.to_pandas()
        rows |= {"pandas": frame, "series": {"x": frame["x"]}, "numpy": {"x": frame["x"].to_numpy()}}
    if not any(word in name for word in NOT_IN["pandas of Arrow"]):
        rows["pandas of Arrow"] = table.to_pandas(types_mapper=pd.ArrowDtype)
    if not any(word in name for word in NOT_IN["polars"]):
        rows |= {"polars": pl.from_arrow(table), "polars series": {"x": pl.from_arrow(table)["x"]}}
    ids = {way: np.asarray(processor(form)["feature_ids"])[:, 0].tolist() for way, form in rows.items()}
    ids["columnar"] = encode_tables([table], processor, with_text=False)[0]["feature_ids"][:, 0].tolist()
    two = [table.slice(0, 2), pa.table({"x": column.slice(2), "click": [0, 1]})]
    ids["two tables"] = encode_tables(two, processor, with_text=False)[0]["feature_ids"][:, 0].tolist()
    return rows, ids


@pytest.mark.parametrize("name", ARROW_COLUMNS)
def test_every_type_gives_the_same_ids_by_every_way_in(name):
    column = ARROW_COLUMNS[name]
    chunked = pa.chunked_array([column.slice(0, 2), column.slice(2)])
    processor = ClickPromptProcessor.fit(pa.table({"x": chunked, "click": [0, 1, 0, 1]}), X, tiny_roberta_tokenizer())
    rows, ids = ways_in(name, column, processor)
    assert all(found == ids["table"] for found in ids.values()), ids
    assert min(ids["table"]) > 0
    # whatever it was fitted on
    for way, form in rows.items():
        if way != "rows":
            assert ClickPromptProcessor.fit(form, X).vocabularies == processor.vocabularies, way
    texts = {tuple(processor.render_values(0, form["x"])) for form in (rows["cells"], rows["table"])}
    assert len(texts) == 1


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A processor, an exported scorer, a pipeline and the model, whose scores tell all ids apart."""
    folder = tmp_path_factory.mktemp("served")
    processor = ClickPromptProcessor.fit(written_csv("pandas", folder / "rows.csv"), MIXED_SCHEMA)
    torch.manual_seed(0)
    sizes = {"field_sizes": processor.field_sizes, "max_values": processor.max_values}
    config = ClickPromptConfig(ctr_config=CTRConfig(backbone="lr", **sizes), fusion="ctr")
    model = ClickPromptForCTR(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.save_pretrained(folder / "whole")
    processor.save_pretrained(folder / "whole")
    export_ctr(folder / "whole", folder / "served")
    from clickprompt_hf.export.scorer import Scorer

    return processor, Scorer(folder / "served"), ClickPromptPipeline(model=model, processor=processor), model


MIXED = {
    "i": [7, 12, 7, 300] * 5,
    "f": [4.5, 1e5, 7e17, 2e-5] * 5,
    "b": [True, False, True, True] * 5,
    "d": [Decimal("4.50"), Decimal("7.00"), Decimal("0.05"), Decimal("7.00")] * 5,
    "day": [date(2024, 1, 31), date(2024, 2, 1), date(1999, 12, 31), date(2024, 1, 31)] * 5,
    "at": [datetime(2024, 1, 31, 10), datetime(2024, 2, 1), datetime(2024, 1, 31, 10, 0, 0, 250_000), None] * 5,
    "clock": [time(10), time(0, 1, 30), time(23, 59, 59), time(10)] * 5,
    "s": ["a", "NA", "007", "x y"] * 5,
    "n": [1, None, 3, 1] * 5,
    "number": [4.5, 1e5, 7e17, None] * 5,
    "hour": [datetime(2024, 1, 31, 10), datetime(2024, 2, 1, 3), datetime(2024, 1, 31, 10, 0, 0, 250_000), None] * 5,
    "click": [0, 1, 1, 0] * 5,
}
KINDS = {"number": "numeric", "hour": "hour"}
MIXED_SCHEMA = Schema(
    tuple(FieldSchema(name, kind=KINDS.get(name, "categorical")) for name in MIXED if name != "click"), label="click"
)


def spark_cell(value):
    """A value as Spark's CSV writer spells it, except for the quotes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, _, exponent = f"{Decimal(repr(value)):E}".partition("E")
        is_plain = 1e-3 <= abs(value) < 1e7
        return str(value) if is_plain else f"{float(mantissa)}E{int(exponent)}"
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='milliseconds')}Z"
    return str(value)


def written_csv(writer, path):
    table = pa.table(MIXED)
    if writer == "arrow":
        pa.csv.write_csv(table, path)
    elif writer == "pandas":
        table.to_pandas().to_csv(path, index=False)
    elif writer == "polars":
        pl.from_arrow(table).write_csv(path)
    else:
        with path.open("w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(MIXED)
            out.writerows([spark_cell(value) for value in row] for row in zip(*MIXED.values()))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return dict(zip(header, map(list, zip(*rows))))


@pytest.mark.parametrize("writer", ["arrow", "pandas", "polars", "spark"])
def test_a_table_written_as_csv_has_the_ids_of_the_table(writer, tmp_path):
    strings, typed = written_csv(writer, tmp_path / "rows.csv"), MIXED
    assert all(isinstance(cell, str) for column in strings.values() for cell in column)
    of_types, of_strings = (ClickPromptProcessor.fit(rows, MIXED_SCHEMA) for rows in (pa.table(typed), strings))
    for processor in (of_types, of_strings):
        expected = processor(typed)["feature_ids"]
        assert min(map(min, expected)) > 0
        assert processor(strings)["feature_ids"] == expected
        assert processor(pd.read_csv(tmp_path / "rows.csv"))["feature_ids"] == expected
        assert processor(pl.read_csv(tmp_path / "rows.csv", try_parse_dates=True))["feature_ids"] == expected
        assert processor(pa.csv.read_csv(tmp_path / "rows.csv"))["feature_ids"] == expected


def test_pipeline_export_and_files_score_a_value_the_same(served, tmp_path):
    processor, scorer, pipe, model = served
    strings = written_csv("pandas", tmp_path / "rows.csv")
    table = pa.table(MIXED)
    expected = score_table(pa.table(strings), processor, model, batch_size=8)
    assert len(set(np.round(expected, 6))) >= 4
    np.testing.assert_array_equal(score_table(table, processor, model, batch_size=8), expected)
    forms = (strings, MIXED, table, table.to_pandas(), pl.from_arrow(table), table.to_pylist())
    for rows in (*forms, datasets.Dataset(table)):
        scores = pipe(rows, batch_size=8)
        assert [row["click_probability"] for row in scores] == pytest.approx(expected.tolist(), abs=1e-7)
    for rows in forms:
        np.testing.assert_allclose(scorer.score(rows), expected, atol=1e-6, rtol=0)
    score_file(tmp_path / "rows.csv", tmp_path / "scores.csv", processor, model, batch_size=8)
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "scores.csv")["click_probability"], expected)


def test_columns_named_twice_are_refused():
    processor = ClickPromptProcessor.fit({"x": [1, 2]}, X)
    twice = pd.DataFrame([[1, 2]], columns=["x", "x"])
    for rows in (twice, pa.table([[1], [2]], names=["x", "x"])):
        with pytest.raises(ValueError, match=r"must have different names; repeated: \['x'\]"):
            processor(rows)


# What is served is what was reported.

TYPED = {
    "true": ["true", "false"], "TRUE": ["TRUE", "FALSE"], "4.50": ["4.50", "0.25"], "1e3": ["1e3", "2e3"],
    "T": ["2024-01-31T10:00:00", "2024-02-01T11:30:00"], "007": ["007", "012"], "1E17": ["1.0E17", "2.0E17"],
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPED)
def test_typed_rows_score_exactly_as_the_strings_of_training(kind, tmp_path):
    draw = np.random.default_rng(0)
    which, other = draw.integers(0, 2, 2000), draw.integers(0, 5, 2000)
    clicks = (draw.random(2000) < np.where(which, 0.9, 0.1)).astype(int)
    strings = {"x": [TYPED[kind][i] for i in which], "z": [f"z{i}" for i in other], "click": clicks.tolist()}
    schema = Schema((FieldSchema("x"), FieldSchema("z")), label="click")
    processor = ClickPromptProcessor.fit(strings, schema)
    torch.manual_seed(0)
    config = CTRConfig(backbone="lr", field_sizes=processor.field_sizes)
    model = ClickPromptForCTR(ClickPromptConfig(ctr_config=config, fusion="ctr"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    batch = processor(strings, return_tensors="pt")
    for _ in range(50):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()
    path = tmp_path / "rows.csv"
    pd.DataFrame(strings).to_csv(path, index=False)
    typed = pd.read_csv(path, parse_dates=["x"] if kind == "T" else None)
    assert typed["x"].dtype.kind in "bifM"
    reported, served = (
        score_table(table, processor, model, 512) for table in (pa.table(strings), pa.Table.from_pandas(typed))
    )
    assert roc_auc_score(clicks, reported) > 0.85
    np.testing.assert_array_equal(served, reported)


# Splits by time.


@pytest.mark.parametrize(
    "cells",
    [
        [f"{n:03}" for n in range(20)],
        [str(n) for n in range(20)],
        [f"{n}.50" for n in range(20)],
        [f"{n}e1" for n in range(20)],
        [str(1706695200123456700 + n) for n in range(20)],
        [f"2024-01-{n + 1:02}" for n in range(20)],
        [f"2024-01-31T10:00:{n:02}.5Z" for n in range(20)],
        [f"2024-01-31 10:00:{n:02}{'Z' if n % 2 else '+00:00'}" for n in range(20)],
    ],
)
def test_the_time_column_sorts_by_what_it_means_and_keeps_its_spelling(cells):
    schema = Schema((FieldSchema("at"),), label="click", time="at")
    order = np.random.default_rng(1).permutation(20)
    shuffled = [cells[i] for i in order]
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array(shuffled) if pa.types.is_dictionary(kind) else pa.array(shuffled, kind)
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
        splits = split_table(pa.table({"at": column, "click": [0, 1] * 10}), schema, split="time")
        assert [cell for split in splits.values() for cell in split["at"].to_pylist()] == cells


@pytest.mark.parametrize(
    "column",
    [
        pa.array(range(20)), pa.array([n / 2 for n in range(20)]), pa.array([Decimal(n) / 2 for n in range(20)]),
        pa.array([Decimal(n) for n in range(20)], pa.decimal32(5, 1)), pa.array(range(20), pa.timestamp("ns", "UTC")),
        pa.array(range(20), pa.int32()).cast(pa.date32()),
        pa.array([10**12 + n for n in range(20)], pa.timestamp("s")),
        pa.array(range(20)).dictionary_encode(), pa.array(range(20), pa.float16()),
    ],
)  # fmt: skip
def test_times_of_every_type_split(column):
    schema = Schema((FieldSchema("n"),), label="click", time="at")
    order = np.random.default_rng(1).permutation(20)
    table = pa.table({"n": range(20), "at": column, "click": [0, 1] * 10}).take(order)
    splits = split_table(table, schema, split="time")
    assert [n for split in splits.values() for n in split["n"].to_pylist()] == list(range(20))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", "2", "soon", "4"], "got 'soon' in row 2"),
        (["1", "NA", "3", ""], "2 are missing"),
        (["2024-01-31", "9999-12-31T23:59:59-05:00", "x", ""], "got '9999-12-31T23:59:59-05:00' in row 1"),
        ([time(10), time(11), time(12), time(13)], r"got datetime.time\(10, 0\) in row 0"),
        (["7", "7.0", "007", "7e0"], "must differ"),
    ],
)
def test_times_that_cannot_be_sorted_are_refused(cells, message):
    schema = Schema((FieldSchema("n"),), label="click", time="at")
    with pytest.raises(ValueError, match=message):
        split_table(pa.table({"n": range(4), "at": cells, "click": [0, 1] * 2}), schema, split="time")


# Values that are almost all unknown.


def caught(call, *arguments, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call(*arguments, **options)
    return [str(warning.message) for warning in found if "training had values" in str(warning.message)]


UNKNOWN = Schema((FieldSchema("x"), FieldSchema("t", kind="multi_valued"), FieldSchema("p", kind="numeric")), "click")
KNOWN_ROWS = {"x": list("aaab") * 10, "t": ["u|v", "v"] * 20, "p": list(range(40)), "click": [0, 1] * 20}


@pytest.fixture(scope="module")
def unknown_processor():
    return ClickPromptProcessor.fit({**KNOWN_ROWS, "x": [*KNOWN_ROWS["x"][:36], *[None] * 4]}, UNKNOWN)


@pytest.mark.parametrize(
    ("changes", "count", "parts"),
    [
        ({"x": ["A"] * 38 + ["a", "b"]}, 1, ["95% of 40 values in column 'x' are unknown, such as 'A';", "'a', 'b'."]),
        ({"x": [f"n{i}" for i in range(40)]}, 1, ["100% of 40", "such as 'n0', 'n1', 'n2';"]),
        ({"t": ["w|x"] * 36 + ["v"] * 4}, 1, ["90% of 40 values in column 't'", "such as 'w|x'", "'v', 'u'"]),
        ({"p": ["1,5"] * 40}, 1, ["100% of 40 values in column 'p'", "such as '1,5'", "such as 3.9, 7.8, 11.7"]),
        # blank in all rows, known or not
        ({"x": [None, "", "NA", float("nan")] * 10}, 1, ["All 40 values in column 'x' are missing; training had"]),
        ({"t": [""] * 40}, 1, ["100% of 40 values in column 't' are unknown, such as ''"]),
        ({"x": ["A"] * 40, "t": ["w"] * 40, "p": [None] * 40}, 3, []),
        # not enough
        ({"x": ["A"] * 35 + ["a"] * 5}, 0, []), ({"x": [None] * 39 + ["a"]}, 0, []), ({}, 0, []),
    ],
)  # fmt: skip
def test_a_column_of_unknown_values_is_reported(unknown_processor, changes, count, parts):
    rows = {**KNOWN_ROWS, **changes}
    said = caught(unknown_processor, rows)
    assert len(said) == count
    assert all(part in said[0] for part in parts)
    # a few rows prove nothing
    assert caught(unknown_processor, {name: cells[:9] for name, cells in rows.items()}) == []


def test_unknown_parts_of_times_are_named_as_parts():
    schema = Schema((FieldSchema("at", kind="month"), FieldSchema("at", "At", "hour")), label="click")
    processor = ClickPromptProcessor.fit({"at": ["2024-01-31 10:00", "2024-02-28 11:00"] * 10}, schema)
    (said,) = caught(processor, {"at": ["2024-03-01 10:00", "2024-04-01 11:00"] * 10})
    assert said.startswith(
        "100% of 20 values of the month in column 'at' are unknown, such as 'March', 'April'; training"
    )
    assert said.endswith(
        "such as 'February', 'January'. This is expected if training rows have other months, as after a split by time."
    )
    # no times at all, even if they look like parts
    for cell in ("spring", "13", "March"):
        said = caught(processor, {"at": [cell] * 20})
        found = f"100% of 20 values in column 'at' are unknown, such as {cell!r} (not a time)"
        assert [part.split(";")[0] for part in said] == [found] * 2
        assert all(part.endswith("format the column as in training.") for part in said)


def test_what_training_did_not_have_or_had_most_of_is_not_reported():
    assert caught(ClickPromptProcessor.fit({"x": [None] * 20}, X), {"x": ["a"] * 20}) == []
    assert caught(ClickPromptProcessor.fit({"x": [None] * 20 + ["a"] * 5}, X), {"x": [None] * 20}) == []


def test_unknown_values_are_reported_once_by_pipeline_scorer_files_and_splits(served, tmp_path):
    processor, scorer, pipe, model = served
    known = MIXED
    strange = {**known, "s": ["A"] * 19 + ["a"]}
    for score in (lambda rows: pipe(rows, batch_size=7), scorer.score, processor):
        (said,) = caught(score, strange)
        assert "95% of 20 values in column 's' are unknown, such as 'A'; training had values such as '007'" in said
        assert caught(score, known) == []
    (said,) = caught(score_table, pa.table(strange), processor, model, 8)
    assert said.startswith("95% of 20")
    path = tmp_path / "rows.csv"

    def score(cells, piece_rows):
        pd.DataFrame({**known, "s": cells}).drop(columns="click").to_csv(path, index=False)
        return caught(score_file, path, tmp_path / "s.csv", processor, model, batch_size=8, piece_rows=piece_rows)

    # early, or else at the end about the whole file
    (early,) = score(["A"] * 19 + ["a"], 12)
    assert early.startswith(f"100% of 12 values in column 's' of the first rows of {path} are unknown")
    (whole,) = score(["a"] + ["A"] * 19, 4)
    assert whole.startswith(f"95% of 20 values in column 's' of {path} are unknown")
    assert len(score(strange["s"], 20)) == len(score(strange["s"], 64)) == 1
    (early,) = score(["A"] * 12 + ["a"] * 8, 12)
    assert early.startswith("100% of 12")

    tables = {"train": pa.table(known), "validation": pa.table(known), "test": pa.table(strange)}
    (said,) = caught(prepare_splits, tables, processor, tmp_path / "prepared")
    assert said.startswith("95% of 20 values in column 's' of the test split are unknown")
    assert load_prepared(tmp_path / "prepared")[0]["test"].feature_ids[-2:, 7].tolist() == [
        0,
        processor.indexes[7].ids["a"],
    ]


def test_the_fields_of_one_row_that_training_did_not_have(unknown_processor):
    assert unknown_fields(unknown_processor, {"x": "a", "t": "v", "p": 3}) == []
    assert unknown_fields(unknown_processor, {"x": "A", "t": "w", "p": "3"}) == ["x", "t"]


# Columns that lost their spelling before they came.


def read_untyped(tmp_path, text, **options):
    (tmp_path / "rows.csv").write_text(text)
    files = {"train": str(tmp_path / "rows.csv")}
    return datasets.load_dataset("csv", data_files=files, cache_dir=str(tmp_path / "cache"), **options)["train"]


@pytest.mark.parametrize(
    ("cells", "warned"),
    [(["true", "false"], True), (["1.50", "2.25"], True), (["7", ""], True), (["7", "8"], False), (["a", "b"], False)],
)
def test_types_that_load_dataset_inferred_trigger_a_warning(cells, warned, tmp_path):
    schema = Schema((FieldSchema("x"), FieldSchema("p", kind="numeric")), label="click")
    text = "x,p,click\n" + "".join(f"{cell},1.5,{n % 2}\n" for n, cell in enumerate(cells * 4))
    dataset = read_untyped(tmp_path, text)
    if warned:
        with pytest.warns(UserWarning, match=r"load_dataset inferred types for the categories in 'x' \(.*load_splits"):
            ClickPromptProcessor.fit(dataset.shuffle(seed=0), schema)
    strings = datasets.Features({"x": datasets.Value("string"), "p": datasets.Value("double")})
    strings["click"] = datasets.Value("int64")
    as_strings = read_untyped(tmp_path, text, features=strings, keep_default_na=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ClickPromptProcessor.fit(as_strings, schema)
        if not warned:
            ClickPromptProcessor.fit(dataset, schema)


@pytest.mark.parametrize(
    ("cells", "warned"),
    [
        ([7.0, None, 12.0], True),
        ([7.0, np.nan, 12.0], True),
        ([7.0, 12.0], False),
        ([7.5, None], False),
        ([7, None], False),
    ],
)
def test_ids_that_became_floats_trigger_a_warning(cells, warned):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for rows in ({"x": cells}, {"x": pd.Series(cells, dtype=object)}, pa.table({"x": pa.array(cells)})):
            ClickPromptProcessor.fit({"x": rows["x"]} if isinstance(rows, dict) else rows, X)
    assert len(found) == 3 * warned
    assert all("'x' of kind 'categorical' holds whole numbers as floats" in str(w.message) for w in found)


def test_saved_processors_find_values_by_meaning_too(tmp_path):
    ClickPromptProcessor.fit({"x": ["007", "TRUE", "NA"]}, X).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor({"x": [7, True, None]})["feature_ids"] == [[1], [3], [2]]
