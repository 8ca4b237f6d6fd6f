"""CSV that we write has the same rows and cells in every reader."""

import csv
import datetime
import decimal
import io
import unicodedata

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from clickprompt_hf.data.csv_files import CsvFile
from clickprompt_hf.data.csv_writer import csv_bytes
from clickprompt_hf.data.table_pieces import join_pieces, open_table, table_format, write_piece

# All that any reader or str.splitlines takes for a line end, and blanks, quotes, delimiters and marks.
LINE_ENDS = ["\n", "\r", "\r\n", "\n\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
SPECIAL = [*LINE_ENDS, "\0", "\t", " ", "\xa0", "\u3000", "\ufeff", '"', ",", ";", "'", "\\", "#", "=1"]
TEXTS = [text for mark in SPECIAL for text in (f"Film{mark}Night", f"{mark}Night", f"Film{mark}", mark)] + [
    "",
    "plain",
]


def by_csv(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))[1:]


def by_csv_of_lines(text: bytes) -> list[list[str]]:
    return list(csv.reader(text.decode().splitlines(keepends=True), strict=True))[1:]


def by_pandas(text: bytes) -> list[list[str]]:
    return pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False).to_numpy().tolist()


def by_polars(text: bytes) -> list[list[str]]:
    return [[cell or "" for cell in row] for row in pl.read_csv(text, infer_schema=False).rows()]


def by_arrow(text: bytes) -> list[list[str]]:
    names = ["text", "number"]
    table = arrow_csv.read_csv(
        io.BytesIO(text),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    return [list(row.values()) for row in table.to_pylist()]


READERS = pytest.mark.parametrize("reader", [by_csv, by_csv_of_lines, by_pandas, by_polars, by_arrow])


@READERS
def test_every_reader_finds_the_rows_and_cells(reader):
    table = pa.table({"text": TEXTS, "number": range(len(TEXTS))})
    assert reader(csv_bytes(table)) == [[text, str(n)] for n, text in enumerate(TEXTS)]


@READERS
@settings(max_examples=60, derandomize=True, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_text_is_read_back(reader, texts):
    table = pa.table({"text": texts, "number": range(len(texts))})
    assert reader(csv_bytes(table)) == [[text, str(n)] for n, text in enumerate(texts)]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.zst", "tsv", "tsv.gz", "tsv.zst", "CSV.GZ", "parquet"])
def test_pieces_are_read_back(ending, tmp_path):
    table = pa.table({"te\x85xt": TEXTS, "click_probability": [n / 7 for n in range(len(TEXTS))]})
    path = tmp_path / f"scores.{ending}"
    pieces = [tmp_path / f"{number}.{ending}" for number in range(3)]
    for number, piece in enumerate(pieces):
        write_piece(table.slice(number * 40, 40), piece, table_format(piece))
    join_pieces(pieces, table.schema, path, table_format(path))
    read = pa.concat_tables(piece for _, piece in open_table(path, 10).read(lambda number: True))
    assert read["te\x85xt"].to_pylist() == TEXTS
    assert [float(number) for number in read["click_probability"].to_pylist()] == [n / 7 for n in range(len(TEXTS))]


def test_types():
    noon = datetime.datetime(2024, 1, 31, 12)
    columns = {
        "int": pa.array([2**62, None]),
        "double": pa.array([0.1, float("nan")]),
        "single": pa.array([0.1, None], pa.float32()),
        "bool": pa.array([True, None]),
        "decimal": pa.array([decimal.Decimal("1.50"), None]),
        "date": pa.array([noon.date(), None]),
        "time": pa.array([noon, None], pa.timestamp("us")),
        "far": pa.array([400_000_000_000, None], pa.timestamp("s")),
        "words": pa.array(["a,b", None]).dictionary_encode(),
        "list": pa.array([["a", None], None]),
        "struct": pa.array([{"k": 1}, None]),
        "map": pa.array([[("a", 0.9), ("b", 0.1)], None], pa.map_(pa.string(), pa.float64())),
        "numbered": pa.array([[(7, [b"x"])], None], pa.map_(pa.int64(), pa.list_(pa.binary()))),
        "days": pa.array([[noon.date()], None]),
        "bytes": pa.array([b"caf\xc3\xa9", None]),
        "null": pa.nulls(2),
    }
    (first, second) = by_csv(csv_bytes(pa.table(columns)))
    first = dict(zip(columns, first))
    # beyond Python's years: 400,000,000,000 s are 4,629,629 days, 15 h, 6 min and 40 s
    assert first.pop("far") == str(np.datetime64(400_000_000_000, "s")).replace("T", " ")
    assert first == {
        **{
            "int": str(2**62),
            "double": "0.1",
            "single": "0.1",
            "bool": "True",
            "decimal": "1.50",
            "date": "2024-01-31",
        },
        **{
            "time": "2024-01-31 12:00:00",
            "words": "a,b",
            "list": '["a", null]',
            "struct": '{"k": 1}',
            "map": '{"a": 0.9, "b": 0.1}',
            "numbered": '{"7": ["x"]}',
            "days": '["2024-01-31"]',
            "bytes": "café",
        },
        "null": "",
    }
    assert second == [""] * len(columns)


def test_what_unicode_calls_a_blank_or_a_line_end_is_quoted_at_the_edge(tmp_path):
    blanks = [chr(code) for code in range(0x11000) if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp")]
    text = csv_bytes(pa.table({"a": blanks, "b": [f"{blank}x" for blank in blanks]})).decode()
    assert text == "a,b\n" + "".join(f'"{blank}","{blank}x"\n' for blank in blanks)
    (tmp_path / "rows.csv").write_text(text, newline="")
    file = CsvFile(tmp_path / "rows.csv")
    assert [batch["a"].to_pylist() for batch in file.batches()] == [blanks]


def test_one_column_has_no_blank_lines():
    assert csv_bytes(pa.table({"a": ["", None, "x"]})) == b'a\n""\n""\nx\n'
