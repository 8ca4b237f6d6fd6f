"""Pieces of CSV and Parquet files: which rows they hold, what is skipped, and what is refused."""

import gzip

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickprompt_hf.data import csv_files
from clickprompt_hf.data.table_pieces import join_pieces, open_table, table_format, write_piece

ROWS = pa.table({"n": [str(n) for n in range(23)], "text": ['a "b", c\nd' if n % 5 == 2 else "" for n in range(23)]})


def everything(number):
    return True


def write(path, row_group_size=4):
    """`ROWS` in a file."""
    if table_format(path) == "parquet":
        pq.write_table(ROWS, path, row_group_size=row_group_size)
    else:
        ROWS.to_pandas().to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("rows", [1, 3, 5, 23, 100])
def test_pieces_hold_the_rows_of_their_numbers(ending, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 64)
    reader = open_table(write(tmp_path / f"rows.{ending}"), rows)
    pieces = dict(reader.read(everything))
    assert list(pieces) == list(range(-(-23 // rows)))
    for number, piece in pieces.items():
        assert piece.equals(ROWS.slice(number * rows, rows))
    assert reader.num_rows == 23
    assert reader.schema.equals(ROWS.schema)
    for process in range(3):
        chosen = dict(reader.read(lambda number, process=process: number % 3 == process))
        assert list(chosen) == list(range(process, len(pieces), 3))
        assert all(piece.equals(pieces[number]) for number, piece in chosen.items())


def test_row_groups_without_a_wanted_piece_are_not_read(tmp_path, monkeypatch):
    reader = open_table(write(tmp_path / "rows.parquet"), 6)
    read = []
    iter_batches = pq.ParquetFile.iter_batches

    def watched(self, *args, row_groups, **kwargs):
        read.extend(row_groups)
        return iter_batches(self, *args, row_groups=row_groups, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    # groups of 4 rows; pieces 0 and 3 are the rows 0 to 5 and 18 to 22
    assert [len(piece) for _, piece in reader.read(lambda number: number in (0, 3))] == [6, 5]
    assert read == [0, 1, 4, 5]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_joined_pieces_are_the_file_in_one(ending, tmp_path):
    pieces = [tmp_path / f"{number}.{ending}" for number in range(3)]
    for number, path in enumerate(pieces):
        write_piece(ROWS.slice(number * 10, 10), path, ending)
    join_pieces(pieces, ROWS.schema, tmp_path / f"rows.{ending}", ending)
    if ending == "parquet":
        assert pq.read_table(tmp_path / "rows.parquet").equals(ROWS)
    else:
        read = gzip.open if ending == "csv.gz" else open
        with read(tmp_path / f"rows.{ending}", "rt", newline="") as file:
            assert file.read() == ROWS.to_pandas().to_csv(index=False)


def test_a_cell_of_a_megabyte(tmp_path):
    pd.DataFrame({"a": ["x" * 1_000_000, "y"], "b": ["1", "2"]}).to_csv(tmp_path / "rows.csv", index=False)
    ((_, piece),) = open_table(tmp_path / "rows.csv", 10).read(everything)
    assert [len(cell.as_py()) for cell in piece["a"]] == [1_000_000, 1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'a,b\n1,5" nail\n', [("1", '5" nail')]),
        (b'a,b\n1,"x\n"', [("1", "x\n")]),
        (b'a,b\n1,"x\n""\n"\r\n', [("1", 'x\n"\n')]),
        (b'a,b\r1,""\r2,x', [("1", ""), ("2", "x")]),
    ],
)
def test_odd_quotes_that_are_closed_are_read(content, expected, tmp_path):
    (tmp_path / "rows.csv").write_bytes(content)
    ((_, piece),) = open_table(tmp_path / "rows.csv", 10).read(everything)
    assert list(zip(*piece.to_pydict().values())) == expected


@pytest.mark.parametrize("content", [b"a,b", b"a,b\n", b"\xef\xbb\xbfa,b\r\n\r\n"])
def test_a_header_alone_has_no_rows(content, tmp_path):
    (tmp_path / "rows.csv").write_bytes(content)
    reader = open_table(tmp_path / "rows.csv", 10)
    assert (list(reader.read(everything)), reader.num_rows, reader.schema.names) == ([], 0, ["a", "b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv must be a CSV file in UTF-8 with a header, but it is empty"),
        (b"a,b\n1,2\n3\n", "Line 3: Expected 2 columns, got 1: 3"),
        (b"a,b\n1,2\n3,4,5\n", "Line 3: Expected 2 columns, got 3: 3,4,5"),
        (b"a,b\n1,2,3\n", "Line 2: Expected 2 columns, got 3"),
        (b"a,b\n1,2\n3,caf\xe9\n", r"Byte 13 \(0xE9, in line 3\) is not UTF-8. .*iconv -f WINDOWS-1252"),
        (b"a;b\n1;2\n", "Its cells seem to be separated by ';': read it with `delimiter: \";\"`"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"If it is in UTF-16, read it with `encoding: \"utf-16-le\"`"),
        (b'a,b\n1,"2\n3,4\n', "rows.csv has a quoted cell that is never closed"),
        (b'a\n1\n"2\n', "rows.csv has a quoted cell that is never closed"),
        (b'a,b\n1,"2\n""', "rows.csv has a quoted cell that is never closed"),
    ],
)
def test_broken_csv_files_are_refused(content, message, tmp_path):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(open_table(tmp_path / "rows.csv", 10).read(everything))


@pytest.mark.parametrize("ending", ["csv.gz", "parquet"])
def test_a_file_that_was_cut_off_is_refused(ending, tmp_path):
    whole = write(tmp_path / f"rows.{ending}").read_bytes()
    (tmp_path / f"half.{ending}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"half.{ending} must be a "):
        list(open_table(tmp_path / f"half.{ending}", 10).read(everything))


def test_a_file_with_a_broken_page_is_refused(tmp_path):
    pq.write_table(pa.table({"n": list(range(20_000))}), tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(content[:2000] + b"\0" * 3000 + content[5000:])
    with pytest.raises(ValueError, match="rows.parquet must be a Parquet file: "):
        list(open_table(tmp_path / "rows.parquet", 100).read(everything))
