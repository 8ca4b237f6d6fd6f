"""CSV as it is found: read exactly, or refused with line and option, in the same way for every command."""

import csv
import gzip
import io
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from clickprompt_hf import Schema
from clickprompt_hf.data import csv_files
from clickprompt_hf.data.csv_files import CsvFile
from clickprompt_hf.data.sources import load_source
from clickprompt_hf.data.table_files import open_table_file, read_table_files
from clickprompt_hf.data.table_pieces import open_table
from clickprompt_hf.runs.draft_schema import draft_schema
from clickprompt_hf.schema_clickprompt import CsvFormat

FIELDS = {"fields": ["user", "title"], "label": "click"}
SWALLOWED = 'user,title,click\nu1,plain,1\nu2,"Best of all,0\n' + "u3,plain,1\n" * 40 + 'u4,"Most wanted,1\nu5,x,0\n'


def rows_of(path: Path, **options) -> list[tuple]:
    """All rows as tuples of cells."""
    file = CsvFile(path, CsvFormat(**options))
    table = pa.Table.from_batches(file.batches(), file.schema)
    assert file.num_rows == len(table)
    return list(zip(*(column.to_pylist() for column in table.columns)))


def train(path: Path, options: dict) -> list[tuple]:
    table = load_source("csv", path, Schema.from_dict({**FIELDS, "csv": options})).table
    return list(zip(*table.to_pydict().values()))


def predict(path: Path, options: dict) -> list[tuple]:
    pieces = open_table(path, 7, CsvFormat(**options)).read(lambda number: True)
    return [row for _, piece in pieces for row in zip(*piece.to_pydict().values())]


def draft(path: Path, options: dict) -> list[tuple]:
    assert "user" in draft_schema(path, csv_format=CsvFormat(**options))
    return train(path, options)


COMMANDS = pytest.mark.parametrize("command", [train, draft, predict])


@COMMANDS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SWALLOWED, r"text after its closing quote: 'Most wanted.*begins in line 3\. .*`quote: none`"),
        ('user,title,click\nu1,"a,1\nu2,b,0\n', r"never closed\. It begins in line 2\. .*`quote: none`"),
        ('user,title,click\n\nu1,"a" b,1\n', "text after its closing quote: ' b,1.*begins in line 3"),
        ('user,title,click\nu1,"say \\"hi\\"",1\n', r'begins in line 2\. .*`escape: "\\\\"`'),
        ('user,title,click\nu0,"a\nb",1\nu1,"' + "x\n" * 101 + '",1\n', "than 100 lines.*line 4.*`lines_per_cell: "),
        ('user,title,click\nu1,"' + "x\r" * 101, "more than 100 lines. It begins in line 2"),
        ("user,title,click\nu1,a,1\n\nu2,b\n", "Line 4: Expected 3 columns, got 2: u2,b"),
        ("user,title,click\r\nu1,a,1\r\nu2,b,0,\r\n", "Line 3: Expected 3 columns, got 4.*ends with a delimiter"),
        ("user,title,click\ru1,a,1\ru2,b,c,0\r", "Line 3: Expected 3 columns, got 4"),
        ("user,title,click,,\nu1,a,1,,\nu2,b,0,,x\n", "line 3 has a cell after the last name, 'click'"),
        ("user,title,click\nu1,a,1\nuser,title,click\nu2,b,0\n", "line 3 does. Were files concatenated"),
        ("user,title,click\nu1,a,1\n\ufeffuser,title,click\nu2,b,0\n", "line 3 does. Were files concatenated"),
        ("user;title;click\nu1;a, b;1\n", r"separated by ';': read it with `delimiter: \";\"`"),
        ("sep=;\nuser;title;click\nu1;a;1\n", r"for spreadsheets: .* Remove it, and .* `delimiter: \";\"`"),
        ("sep=,\nuser,title,click\nu1,a,1\n", r"for spreadsheets: .* Remove it, and .* `delimiter: \",\"`"),
        ("user\ttitle\tclick\nu1\ta\t1\n", r"separated by '\\t': read it with `delimiter: \"\\t\"`"),
        ("user,user,title,click\nu1,u1,a,1\n", r"column 'user' once, but its header repeats \['user'\]"),
        ("", "rows.csv must be a CSV file in UTF-8 with a header, but it is empty"),
        ("\n\r\n", "it is empty"),
        (b"user,title,click\nu1,\xe9,1\n", r"Byte 20 \(0xE9, in line 2\) is not UTF-8.*`encoding: \"cp1252\"`"),
        ("user,title,click\nu1,a,1\n".encode("utf-16-be"), r"`encoding: \"utf-16-be\"`"),
        (gzip.compress(b"user,title,click\nu1,a,1\n", mtime=0), "seems to be gzipped: end its name in .csv.gz"),
        (b"PK\x03\x04\xff\xff", "seems to be a zip file or a spreadsheet"),
    ],
)
def test_what_cannot_be_read_is_refused_by_every_command(command, content, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        command(path, {})
    assert str(path) in str(error.value)


@COMMANDS
@pytest.mark.parametrize(
    ("content", "options", "cell"),
    [
        ('user,title,click\nu1,"a,1\nu2,b"x,0\n', {"quote": "none"}, '"a'),
        ('user,title,click\nu1,"say \\"hi\\", C:\\new",1\nu2,b,0\n', {"escape": "\\"}, 'say "hi", C:\\new'),
        ("user,title,click\nu1,a\\,b\\\\,1\nu2,b,0\n", {"escape": "\\", "quote": "none"}, "a,b\\"),
        ('user,title,click\nu1,5\\" nail,1\nu2,b,0\n', {"escape": "\\"}, '5" nail'),
        ("user,title,click\nu1,'it''s, \"so\"',1\nu2,b,0\n", {"quote": "'"}, 'it\'s, "so"'),
        ("user;title;click\nu1;a, b;1\nu2;b;0\n", {"delimiter": ";"}, "a, b"),
        ("user\x01title\x01click\nu1\x01a, b\x011\nu2\x01b\x010\n", {"delimiter": "\x01"}, "a, b"),
        ("u1,a,1\nu2,b,0\n", {"column_names": ["user", "title", "click"]}, "a"),
        ('user,title,click\nu1,"' + "x\n" * 150 + '",1\nu2,b,0\n', {"lines_per_cell": 151}, "x\n" * 150),
        (b"user,title,click\nu1,caf\xe9 \x80,1\nu2,b,0\n", {"encoding": "cp1252"}, "café €"),
        ("user,title,click\nu1,中,1\nu2,b,0\n".encode("gb18030"), {"encoding": "gb18030"}, "中"),
        ("user,title,click\nu1,é,1\nu2,b,0\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, "é"),
        # Nothing needs to be said about these.
        ("user,title,click\nu1,é,1\nu2,b,0\n".encode("utf-16"), {}, "é"),
        ("user,title,click\nu1,é,1\nu2,b,0\n".encode("utf-32"), {}, "é"),
        ("user,title,click\nu1,é,1\nu2,b,0\n".encode("utf-8-sig"), {"encoding": "cp1252"}, "é"),
        ("\n\nuser,title,click\r\n\r\nu1,a,1\r\nu2,b,0", {}, "a"),
        ("user,title,click\ru1,a,1\ru2,b,0\r", {}, "a"),
        ("user,title,click,,\nu1,a,1,,\nu2,b,0,,\n", {}, "a"),
        ('user,title,click\nu1,5" nail "x",1\nu2,"b",0\n', {}, '5" nail "x"'),
        ('user,title,click\nu1,"a ""b""\r\n\r c",1\nu2,b,0\n', {}, 'a "b"\r\n\r c'),
        ("user,title,click\nu1,007,1\nu2,b,0\n", {}, "007"),
        ("user,title,click\nu1, NA ,1\nu2,b,0\n", {}, " NA "),
        ("user,title,click\nu1,a\0b\x0b\x85\u2028,1\nu2,b,0\n", {}, "a\0b\x0b\x85\u2028"),
    ],
)
def test_what_can_be_read_is_read_by_every_command(command, content, options, cell, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = command(path, options)
    assert rows[0] == ("u1", cell, "1")
    assert [(row[0], row[2]) for row in rows] == [("u1", "1"), ("u2", "0")]


def test_a_cell_that_has_swallowed_rows_between_two_quotes_triggers_a_warning(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('user,title,click\nu1,a,1\nu2,"Best,0\nu3,b,1\nu4,nail 5",1\nu5,"a\nb",1\n')
    with pytest.warns(UserWarning, match="row in line 3 has a cell of several lines.*looks like a row.*`quote: none`"):
        assert len(rows_of(path)) == 3
    path.write_text('user,title,click\nu1,"a\nb, c\nd",1\n')
    assert len(rows_of(path)) == 1


def pairs_of_stray_quotes(num_rows: int, every: int, lines: int = 2) -> str:
    """Rows whose titles begin with a quote in every `every`-th row, and end with one `lines` - 1 rows later."""
    titles = {start: f'"Best of {start}' for start in range(0, num_rows, every)}
    titles |= {start + lines - 1: f'nail {start}"' for start in titles}
    return "user,title,click\n" + "".join(f"u{n},{titles.get(n, 'plain')},{n % 2}\n" for n in range(num_rows))


@COMMANDS
@pytest.mark.parametrize(("num_rows", "every", "lines"), [(4000, 2, 2), (4, 2, 2), (400, 200, 4), (300, 1000, 90)])
def test_cells_that_swallow_more_than_a_few_rows_are_refused_by_every_command(
    command, num_rows, every, lines, tmp_path
):
    path = tmp_path / "rows.csv"
    path.write_text(pairs_of_stray_quotes(num_rows, every, lines))
    swallowed = lines * -(-num_rows // every)
    with pytest.raises(ValueError, match=rf"row in line 2 has.*{swallowed:,} would.*`quote: none`.*`lines_per_cell: "):
        command(path, {})
    assert len(command(path, {"quote": "none"})) == num_rows
    with pytest.warns(UserWarning, match="row in line 2 has a cell of several lines"):
        assert len(command(path, {"lines_per_cell": 100})) == num_rows - swallowed + swallowed // lines


@pytest.mark.parametrize(("num_rows", "every"), [(1000, 250), (3, 4), (100_000, 250)])
def test_few_cells_whose_lines_look_like_rows_trigger_one_warning(num_rows, every, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(pairs_of_stray_quotes(num_rows, every))
    with pytest.warns(UserWarning, match="row in line 2 has.*may have swallowed rows.*`quote: none`") as warned:
        assert len(rows_of(path)) == num_rows - -(-num_rows // every)
    assert len(warned) == 1


def test_too_many_swallowed_rows_far_into_a_file_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(pairs_of_stray_quotes(200_000, 200_000) + pairs_of_stray_quotes(8000, 2).split("\n", 1)[1])
    with pytest.warns(UserWarning, match="row in line 2 has"), pytest.raises(ValueError, match="would be swallowed"):
        rows_of(path)


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.CSV", "rows.Csv.GZ", "rows.csv.zst", "rows.tsv", "rows.TSV.gz"])
def test_endings(name, tmp_path):
    text = (
        "user\ttitle\tclick\nu1\ta, b\t1\nu2\tc\t0\n"
        if "tsv" in name.lower()
        else 'user,title,click\nu1,"a, b",1\nu2,c,0\n'
    )
    content = text.encode()
    if name.lower().endswith(".gz"):
        content = gzip.compress(content[:9]) + gzip.compress(content[9:])
    elif name.endswith(".zst"):
        content = b"".join(pa.compress(part, "zstd", asbytes=True) for part in (content[:9], content[9:]))
    (tmp_path / name).write_bytes(content)
    expected = [("u1", "a, b", "1"), ("u2", "c", "0")]
    assert [command(tmp_path / name, {}) for command in (train, draft, predict)] == [expected] * 3


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.zst", "rows.jsonl.gz", "rows.parquet"])
def test_files_that_were_cut_off_or_are_folders_are_named(name, tmp_path):
    path = tmp_path / name
    if name.endswith("parquet"):
        pd.DataFrame({"user": range(900), "title": range(900), "click": range(900)}).to_parquet(path)
        content = path.read_bytes()
    else:
        text = b"user,title,click\n" if "csv" in name else b""
        text += b"".join(b'{"user": "%d"}\n' % n if "json" in name else b"%d,%d,1\n" % (n, n * n) for n in range(9000))
        content = gzip.compress(text) if name.endswith("gz") else pa.compress(text, "zstd", asbytes=True)
    schema = Schema.from_dict(FIELDS if "json" not in name else {"fields": ["user"], "label": "click"})
    for length in (len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=rf"{name} must be a "):
            read_table_files(path, schema)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name}, but there is a folder"):
        open_table_file(path)
    with pytest.raises(FileNotFoundError, match="a file in it that ends in"):
        read_table_files(path, schema)


def test_a_header_alone_has_no_rows_and_training_says_so(tmp_path):
    (tmp_path / "rows.csv").write_text("user,title,click\n")
    assert predict(tmp_path / "rows.csv", {}) == []
    with pytest.raises(ValueError, match=r"rows\.csv must have rows"):
        draft_schema(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"rows\.csv must have rows"):
        train(tmp_path / "rows.csv", {})


def test_column_names_of_a_file_that_has_a_header(tmp_path):
    (tmp_path / "rows.csv").write_text("user,click\nu1,1\n")
    with pytest.raises(ValueError, match=r"has a header that repeats `column_names`"):
        rows_of(tmp_path / "rows.csv", column_names=["user", "click"])
    with pytest.raises(ValueError, match="as `column_names`. Line 1: Expected 3 columns, got 2"):
        rows_of(tmp_path / "rows.csv", column_names=["user", "title", "click"])
    with pytest.raises(
        ValueError, match=r"must have the column 'title'.*no header, name its columns with `column_names"
    ):
        train(tmp_path / "rows.csv", {})


CELLS = st.text(st.sampled_from("ab ,;\"\n\r'\\\x0b\x85\u2028é"), max_size=6)
TABLES = st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=6))
QUICKLY = settings(
    max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def by_csv(frame: pd.DataFrame, path: Path, **options) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **options)
        writer.writerows([list(frame.columns), *frame.itertuples(index=False)])


WRITERS = {
    "csv": by_csv,
    "csv, all quoted": lambda frame, path: by_csv(frame, path, quoting=csv.QUOTE_ALL, lineterminator="\n"),
    "pandas": lambda frame, path: frame.to_csv(path, index=False),
    "polars": lambda frame, path: pl.from_pandas(frame).write_csv(path),
    "arrow": lambda frame, path: arrow_csv.write_csv(pa.Table.from_pandas(frame), path),
}


@pytest.mark.parametrize("block_bytes", [1 << 20, 7])
@pytest.mark.parametrize("writer", WRITERS)
@QUICKLY
@given(rows=TABLES)
@pytest.mark.filterwarnings("ignore:.*may have swallowed rows")
def test_any_cells_are_read_as_they_were_written(writer, block_bytes, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", block_bytes)
    frame = pd.DataFrame(rows, columns=[f"column {n}" for n in range(len(rows[0]))])
    path = tmp_path / "rows.csv"
    WRITERS[writer](frame, path)
    if any("\r" in part for part in path.read_bytes().decode().split('"')[::2]) and writer in ("pandas", "polars"):
        # These leave bare returns unquoted, so that cells end there.
        return
    assert rows_of(path, lines_per_cell=100) == [tuple(row) for row in rows]


@pytest.mark.parametrize("block_bytes", [1 << 20, 5])
@settings(QUICKLY, max_examples=100)
@given(rows=TABLES, place=st.integers(0, 10_000), insert=st.booleans())
@pytest.mark.filterwarnings("ignore:.*may have swallowed rows")
def test_a_quote_too_many_or_too_few_never_changes_the_rows_silently(
    rows, place, insert, block_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", block_bytes)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[f"column {n}" for n in range(len(rows[0]))], *rows])
    content = text.getvalue()
    quotes = [at for at, character in enumerate(content) if character == '"']
    if insert:
        at = place % (len(content) + 1)
        content = content[:at] + '"' + content[at:]
    elif quotes:
        at = quotes[place % len(quotes)]
        content = content[:at] + content[at + 1 :]
    path = tmp_path / "rows.csv"
    path.write_bytes(content.encode())
    try:
        header, *expected = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row]
        is_broken = any(len(row) != len(header) for row in expected) or len(set(header)) < len(header)
    except csv.Error:
        is_broken = True
    if is_broken:
        with pytest.raises(ValueError, match=r"rows\.csv"):
            rows_of(path)
    else:
        assert rows_of(path, lines_per_cell=100) == [tuple(row) for row in expected]
