"""BookCrossing, Amazon Toys and GoodReads, from small files with the quirks of the real ones."""

import gzip
import json
import mmap

import numpy as np
import pyarrow as pa
import pytest

from clickprompt_hf.data.sources import bookcrossing, goodreads, load_source, raw_files

BX_FILES = {
    "BX-Users.csv": '"User-ID";"Location";"Age"\n"1";"nyc, new york, usa";NULL\n"2";"münchen, bayern, germany";"18"\n',
    "BX-Books.csv": (
        '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";"Image-URL-S";"Image-URL-M";"Image-URL-L"\n'
        '"0001";"A \\"Quoted\\" Title; or Not";"Ann O\'Hara";"1999";"Café Press";"s";"m";"l"\n'
        '"0002";"Broken";"1999";"Publisher";"s";"m";"l"\n'
        '"000X";"Plain &amp; Simple";"Bo";"0";"P";"s";"m";"l"\n'
    ),
    "BX-Book-Ratings.csv": (
        '"User-ID";"ISBN";"Book-Rating"\n"1";"0001";"0"\n"2";"0001";"5"\n"2";"000X";"4"\n'
        '"2";"9999";"10"\n"7";"0001";"10"\n'
    ),
}


def write_bookcrossing(folder, **replaced):
    for name, text in {**BX_FILES, **replaced}.items():
        # 0x81 has no meaning in cp1252
        (folder / name).write_bytes(text.encode("cp1252").replace(b"Plain", b"Pl\x81in"))


def test_bookcrossing(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(bookcrossing.logger, "warning", warnings.append)
    write_bookcrossing(tmp_path)
    rows = load_source("bookcrossing", tmp_path).table.to_pylist()
    # ratings of unknown users and books, and of the broken row, are left out
    assert [(row["user_id"], row["isbn"], row["click"]) for row in rows] == [
        ("1", "0001", 0),
        ("2", "0001", 1),
        ("2", "000X", 0),
    ]
    assert rows[0] == {
        "user_id": "1",
        "location": "nyc, new york, usa",
        "age": None,
        "isbn": "0001",
        "title": 'A "Quoted" Title; or Not',
        "author": "Ann O'Hara",
        "year": "1999",
        "publisher": "Café Press",
        "click": 0,
    }
    assert rows[1]["location"] == "münchen, bayern, germany"
    assert rows[2]["title"] == "Pl\ufffdin &amp; Simple"
    assert warnings == ["BX-Books.csv: dropped 1 rows that do not have 8 cells, the first in line 3."]


def test_bookcrossing_refuses_other_headers_and_ratings_that_are_not_numbers(tmp_path):
    write_bookcrossing(tmp_path, **{"BX-Users.csv": '"User";"Location";"Age"\n'})
    with pytest.raises(ValueError, match="BX-Users.csv must have the column 'User-ID'"):
        load_source("bookcrossing", tmp_path)
    write_bookcrossing(tmp_path, **{"BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"1";"0001";"good"\n'})
    with pytest.raises(ValueError, match="Book-Rating in BX-Book-Ratings.csv must be a whole number"):
        load_source("bookcrossing", tmp_path)


def test_bookcrossing_names_the_row_whose_quote_is_never_closed(tmp_path):
    text = BX_FILES["BX-Book-Ratings.csv"] + '"1";"0001";"5\n' + "1;0001;5\n" * 20_000
    write_bookcrossing(tmp_path, **{"BX-Book-Ratings.csv": text})
    with pytest.raises(ValueError, match=r"BX-Book-Ratings\.csv must close its quotes, .* begins in line 7"):
        load_source("bookcrossing", tmp_path)


def write_lines(path, lines):
    content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def toy_reviews():
    """A 5-core of 25 reviews by users 0 to 4 of items A to E, and reviews that drop out of it in several steps."""
    ratings = [
        {"reviewerID": f"U{u}", "asin": i, "overall": 1.0 + (u + n) % 5}
        for u in range(5)
        for n, i in enumerate("ABCDE")
    ]
    # U9 has four reviews; without them F has four, and without those only the core is left
    ratings += [{"reviewerID": "U9", "asin": i, "overall": 5.0} for i in "ABCF"]
    ratings += [{"reviewerID": f"U{u}", "asin": "F", "overall": 5.0} for u in range(4)]
    return [{**row, "unixReviewTime": 1000 + n, "helpful": [0, 0]} for n, row in enumerate(ratings)]


@pytest.mark.parametrize("edition", [2014, 2018])
def test_amazon_toys(edition, tmp_path):
    items = [
        {"asin": "A", "title": 'Robot\'s "Dream"', "brand": "Acme", "categories": [["Toys & Games", "Figures"]]},
        {"asin": "B", "title": None, "categories": [[]]},
    ]
    if edition == 2014:
        write_lines(tmp_path / "reviews_Toys_and_Games_5.json.gz", [json.dumps(row) for row in toy_reviews()])
        # this edition has Python literals instead of JSON
        write_lines(tmp_path / "meta_Toys_and_Games.json.gz", [repr(item) for item in items])
    else:
        write_lines(tmp_path / "Toys_and_Games_5.json", [json.dumps(row) for row in toy_reviews()])
        items = [{**{k: v for k, v in i.items() if k != "categories"}, "category": i["categories"][0]} for i in items]
        write_lines(tmp_path / "meta_Toys_and_Games.json", [json.dumps(item) for item in items])
    source = load_source("amazon-toys", tmp_path)
    rows = source.table.to_pylist()
    assert len(rows) == 20
    assert {row["user_id"] for row in rows} == {"U0", "U1", "U2", "U3", "U4"}
    # U0 rates A to E 1 to 5: C, a 3, is left out
    first = [(row["item_id"], row["click"], row["timestamp"]) for row in rows if row["user_id"] == "U0"]
    assert first == [("A", 0, 1000), ("B", 0, 1001), ("D", 1, 1003), ("E", 1, 1004)]
    assert rows[0]["title"] == 'Robot\'s "Dream"'
    assert (rows[0]["category"], rows[0]["brand"]) == ("Figures", "Acme")
    assert (rows[1]["category"], rows[1]["title"], rows[1]["brand"]) == (None, None, None)
    assert source.schema.time == "timestamp"


def test_amazon_toys_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is not a folder"):
        load_source("amazon-toys", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"reviews_Toys_and_Games\*.json\* or"):
        load_source("amazon-toys", tmp_path)
    write_lines(tmp_path / "Toys_and_Games_5.json", [json.dumps(row) for row in toy_reviews()[:4]])
    write_lines(tmp_path / "meta_Toys_and_Games.json", ["{}"])
    with pytest.raises(ValueError, match="must have 5 rows"):
        load_source("amazon-toys", tmp_path)
    write_lines(tmp_path / "Toys_and_Games_5.json", [json.dumps(row) for row in toy_reviews()])
    write_lines(tmp_path / "meta_Toys_and_Games.json", ["{}", "{'asin': "])
    with pytest.raises(ValueError, match="Line 2 of .*meta_Toys_and_Games.json"):
        load_source("amazon-toys", tmp_path)
    write_lines(tmp_path / "Toys_and_Games_5.json", ['{"reviewerID": 3'])
    with pytest.raises(ValueError, match="Toys_and_Games_5.json must contain one JSON object per line"):
        load_source("amazon-toys", tmp_path)


def described_toys(folder, items):
    """The first row, which is about item A."""
    write_lines(folder / "Toys_and_Games_5.json", [json.dumps(row) for row in toy_reviews()])
    write_lines(folder / "meta_Toys_and_Games.json", [json.dumps(item) for item in items])
    return load_source("amazon-toys", folder).table.to_pylist()[0]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();", None),
        ('<span class="a-size-medium">Robot</span>', None),
        (["Robot"], None),
        ("A < B > C, I <3 Robots", "A < B > C, I <3 Robots"),
        ("Robot \ud83d", "Robot \ufffd"),
        ("Robot \ud83e\udd16", "Robot \U0001f916"),
    ],
)
def test_script_and_markup_are_missing_amazon_titles(title, expected, tmp_path):
    assert described_toys(tmp_path, [{"asin": "A", "title": title}])["title"] == expected


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (["Toys & Games", "Puzzles", "</span></span></span>"], "Puzzles"),
        (["Toys & Games", "</span></span></span>", "Imported"], "Toys & Games"),
        (["</span></span></span>"], None),
    ],
)
def test_amazon_categories_end_at_markup(categories, expected, tmp_path):
    assert described_toys(tmp_path, [{"asin": "A", "category": categories}])["category"] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"{}\n" * 1000, mtime=0)[:-10], "must be a whole file"),
        (b"{}\n", "must be a whole file"),
        (gzip.compress(b"{}\n\xff\n", mtime=0), "must be a whole file"),
        (gzip.compress(b"{}\n[1, 2]\n", mtime=0), r"Line 2 of .*must be a JSON object or a Python dict, got \[1, 2\]"),
    ],
)
def test_broken_amazon_metadata_is_named(content, message, tmp_path):
    write_lines(tmp_path / "Toys_and_Games_5.json", [json.dumps(row) for row in toy_reviews()])
    (tmp_path / "meta_Toys_and_Games.json.gz").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_source("amazon-toys", tmp_path)
    assert "meta_Toys_and_Games.json.gz" in str(error.value)


def goodreads_interactions():
    dates = ("Mon Aug 01 13:41:57 -0700 2011", "Wed Mar 02 00:00:00 +0130 2016")
    interactions = [
        {"user_id": f"u{u}", "book_id": str(b), "is_read": True, "rating": 1 + (u + b) % 5, "date_added": dates[u % 2]}
        for u in range(10)
        for b in range(10)
    ]
    # shelved but not rated
    return [*interactions, {"user_id": "u0", "book_id": "77", "rating": 0, "date_added": dates[0]}]


def write_goodreads(tmp_path, interactions):
    write_lines(tmp_path / "goodreads_interactions_dedup.json.gz", [json.dumps(row) for row in interactions])
    books = [
        {
            **{"book_id": str(b), "title": f"Book {b}", "average_rating": "3.9", "text_reviews_count": "12"},
            **{"authors": [{"author_id": "5", "role": ""}, {"author_id": "6", "role": "Editor"}], "num_pages": "300"},
            **{
                "is_ebook": "false",
                "format": "Hardcover",
                "publisher": "P",
                "publication_year": "1997",
                "work_id": "9",
            },
            **{"popular_shelves": [{"count": "1", "name": "to-read"}], "series": []},
        }
        for b in range(9)
    ]
    write_lines(tmp_path / "goodreads_books.json.gz", [json.dumps(row) for row in books])
    write_lines(tmp_path / "goodreads_book_authors.json", [json.dumps({"author_id": "5", "name": "Zoë"})])
    write_lines(tmp_path / "goodreads_book_works.json", [json.dumps({"work_id": "9", "media_type": "book"})])
    genres = [{"book_id": "0", "genres": {"fiction": 3, "fantasy, paranormal": 7}}, {"book_id": "1", "genres": {}}]
    write_lines(tmp_path / "goodreads_book_genres_initial.json", [json.dumps(row) for row in genres])


def test_goodreads(tmp_path):
    write_goodreads(tmp_path, goodreads_interactions())
    rows = load_source("goodreads", tmp_path).table.to_pylist()
    assert len(rows) == 100
    assert rows[3] == {
        **{"user_id": "u0", "book_id": "3", "title": "Book 3", "genres": None, "average_rating": "3.9"},
        **{"text_reviews_count": "12", "author_id": "5", "author": "Zoë", "num_pages": "300", "is_ebook": "false"},
        **{"format": "Hardcover", "publisher": "P", "publication_year": "1997", "work_id": "9", "media_type": "book"},
        # 20:41:57 UTC
        **{"click": 1, "timestamp": 1312231317},
    }
    assert rows[0]["genres"] == "fantasy, paranormal"
    assert [row["click"] for row in rows[:5]] == [0, 0, 0, 1, 1]
    # a book without a description has only its id
    assert (rows[9]["book_id"], rows[9]["title"], rows[9]["media_type"]) == ("9", None, None)
    # midnight at +01:30 is 22:30 UTC of the day before
    assert rows[10]["timestamp"] == 1456871400


def test_goodreads_is_reduced_while_it_is_read(tmp_path, monkeypatch):
    write_goodreads(tmp_path, goodreads_interactions())
    whole = load_source("goodreads", tmp_path).table
    monkeypatch.setattr(raw_files, "_BLOCK_SIZE", 1000)
    part_sizes = []
    rated = goodreads._rated
    monkeypatch.setattr(goodreads, "_rated", lambda part: part_sizes.append(len(part)) or rated(part))
    assert load_source("goodreads", tmp_path).table.to_pylist() == whole.to_pylist()
    assert sum(part_sizes) == 101
    assert max(part_sizes) < 20


@pytest.mark.parametrize("date", ["", None])
def test_goodreads_rows_without_a_date_have_no_time(date, tmp_path):
    interactions = goodreads_interactions()
    interactions[3]["date_added"] = date
    write_goodreads(tmp_path, interactions)
    rows = load_source("goodreads", tmp_path).table
    assert rows["timestamp"].null_count == 1
    assert rows["timestamp"][3].as_py() is None


def test_described_strings_take_four_bytes_per_row(tmp_path):
    write_goodreads(tmp_path, goodreads_interactions())
    rows = load_source("goodreads", tmp_path).table
    assert {str(rows.schema.field(name).type) for name in goodreads.SCHEMA.columns} == {
        "dictionary<values=string, indices=int32, ordered=0>"
    }


def test_k_core_of_columns_beyond_two_gib():
    # untouched zeros take no memory
    long = pa.py_buffer(mmap.mmap(-1, 1 << 30))
    ends = pa.py_buffer(np.asarray([0, 0, 1 << 30], dtype=np.int32))
    chunk = pa.Array.from_buffers(pa.string(), 2, [None, ends, long])
    table = pa.table(
        {"user": ["a", "b"] * 3, "item": ["x", "y", "x", "z", "x", "w"], "text": pa.chunked_array([chunk] * 3)}
    )
    core = raw_files.k_core(table, "user", "item", k=3)
    assert core.to_pylist() == [{"user": "a", "item": "x", "text": ""}] * 3
