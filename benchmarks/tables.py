"""Tables of public datasets for `clickprompt compare`: one file of rows and one schema each.

    python benchmarks/tables.py book-crossing book-crossing-dense.zip --output_dir tables
    python benchmarks/tables.py ml-1m-plots ml-1m.zip --plots ml-1m-plots.csv --output_dir tables
    python benchmarks/tables.py ml-1m-titles ml-1m.zip --output_dir tables

| name | file | click |
|---|---|---|
| `book-crossing` | Ziegler et al. 2005, users with 20 and books with 10 ratings or more | rating of 8 or more |
| `anime` | anime recommendations (Kaggle, CooperUnion) | rating of 8 or more |
| `ml-1m-plots` | MovieLens-1M, with director, cast and plot from a CSV file | rating above 3, 3s dropped |
| `ml-1m-titles` | MovieLens-1M, whose titles are vectors of a frozen PLM | rating above 3, 3s dropped |
| `credit-card` | UCI, default of credit card clients | default in the next month |
| `adult` | UCI, adult | income above 50,000 dollars |
| `cardio` | cardiovascular disease (Kaggle, sulianova) | disease |

Writes OUTPUT_DIR/NAME.parquet and OUTPUT_DIR/NAME.yaml. The data belong to their owners and are for research use.
"""

import argparse
import html
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from clickprompt_hf.data.reading import load_source

# Cells of line-based archives are text; codes such as an ISBN must not become numbers.
TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}


def book_crossing(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ratings of books, with the reader's place and age."""
    with zipfile.ZipFile(path) as archive:
        ratings, items, users = (
            cells_of(archive, f"book_crossing/{name}.dat") for name in ("book_ratings", "items_info", "users_info")
        )
    books, readers = {cells[0]: book(cells) for cells in items}, {cells[0]: cells for cells in users}
    rows = [
        {
            **{"user_id": user, "location": html.unescape(readers[user][1])},
            **{"age": None if readers[user][2] in ("", "NULL") else readers[user][2]},
            **{**books[item], "click": int(float(rating) >= 8)},
        }
        for user, item, rating in ratings
        if user in readers and item in books
    ]
    fields = [
        *(id_only("user_id", "User ID"), id_only("location", "Location"), id_only("age", "Age", kind="numeric")),
        *(id_only("isbn", "ISBN"), {"column": "title", "name": "Book title"}, {"column": "author", "name": "Author"}),
        *({"column": "year", "name": "Publication year"}, {"column": "publisher", "name": "Publisher"}),
    ]
    return pd.DataFrame(rows), {"fields": fields, "label": "click"}


def book(cells: list[str]) -> dict[str, str]:
    """One book. A title or publisher that holds `&amp;` is cut at its semicolon into two cells."""
    cells = cells[: -4 if cells[-1] == "" else -3]  # without three addresses of images
    year = next(index for index in range(4, len(cells)) if cells[index].strip().isdigit())
    title, author, publisher = cells[2 : year - 1], cells[year - 1 : year], cells[year + 1 :]
    values = {"isbn": cells[1:2], "title": title, "author": author, "year": cells[year : year + 1]}
    return {name: html.unescape(";".join(parts)).strip() for name, parts in {**values, "publisher": publisher}.items()}


def cells_of(archive: zipfile.ZipFile, name: str) -> list[list[str]]:
    """Cells of a tab-separated file without quotes, without its header."""
    lines = archive.read(name).decode("latin-1").split("\n")
    return [line.rstrip("\r").split("\t") for line in lines[1:] if line]


def anime(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Ratings of anime, without the columns that sum up all ratings."""
    with zipfile.ZipFile(path) as archive:
        ratings, info = (
            pd.read_csv(archive.open(f"anime/{name}.dat"), sep="\t", **TEXT)
            for name in ("anime_ratings", "anime_info")
        )
    rows = ratings.merge(info, left_on="Anime_ID", right_on="anime_ids")
    rows["click"] = (rows["Feedback"].astype(float) >= 8).astype(int)
    rows["name"] = rows["name"].map(html.unescape)
    rows = rows.rename(columns={"User_ID": "user_id", "Anime_ID": "anime_id"})
    fields = [
        *(id_only("user_id", "User ID"), id_only("anime_id", "Anime ID"), {"column": "name", "name": "Name"}),
        {"column": "genre", "name": "Genre", "kind": "multi_valued", "separator": ", "},
        *({"column": "type", "name": "Type"}, {"column": "episodes", "name": "Episodes", "kind": "numeric"}),
    ]
    return rows[["user_id", "anime_id", "name", "genre", "type", "episodes", "click"]], {
        **{"fields": fields, "label": "click"}
    }


def ml_1m_plots(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """MovieLens-1M, whose movies have a director, a cast and a plot.

    Raises:
        ValueError: If `plots`, a CSV file with these columns and `movie_id`, is not given.
    """
    if plots is None:
        raise ValueError("--plots must be a CSV file with the columns movie_id, director, cast and plot; got none")
    source = load_source("ml-1m", path)
    rows = (
        source.table.to_pandas().astype({"movie_id": str}).merge(pd.read_csv(plots, **TEXT), on="movie_id", how="left")
    )
    schema = source.schema
    fields = [field_entry(replace(field, in_text=field.column in ("title", "genre"))) for field in schema.fields]
    fields += [
        *({"column": "director", "name": "Director"}, {"column": "cast", "name": "Cast", "kind": "text"}),
        {"column": "plot", "name": "Plot", "kind": "text"},
    ]
    return rows, {"fields": fields, "label": schema.label, "time": schema.time}


def ml_1m_titles(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """MovieLens-1M, whose titles have a vector instead of ids."""
    source = load_source("ml-1m", path)
    fields = [
        field_entry(replace(field, in_text=field.column in ("title", "genre"))) for field in source.schema.fields
    ]
    by_column = {field["column"]: field for field in fields}
    by_column["title"].update({"kind": "text", "as": "vector"})
    return source.table.to_pandas(), {"fields": fields, "label": source.schema.label, "time": source.schema.time}


def credit_card(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Clients of a bank, their bills and payments of six months."""
    return numbers(
        *(pd.read_csv(path).drop(columns="ID"), "default.payment.next.month"),
        categories=("SEX", "EDUCATION", "MARRIAGE"),
    )


def adult(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Persons of the census of 1994."""
    rows = pd.read_csv(path, skipinitialspace=True)
    rows["click"] = rows.pop("salary").str.startswith(">50K").astype(int)
    return numbers(rows, "click", categories=tuple(rows.select_dtypes(exclude="number").columns))


def cardio(path: Path, plots: Path | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Patients, and what an examination measured."""
    codes = ("gender", "cholesterol", "gluc", "smoke", "alco", "active")
    return numbers(pd.read_csv(path, sep=";").drop(columns="id"), "cardio", categories=codes)


def numbers(rows: pd.DataFrame, label: str, categories: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table whose columns are numbers, except its label and `categories`."""
    fields = [
        {"column": name} if name in categories else {"column": name, "kind": "numeric"}
        for name in rows.columns
        if name != label
    ]
    return rows, {"fields": fields, "label": label}


def id_only(column: str, name: str, **options: Any) -> dict[str, Any]:
    """A field that the PLM does not read."""
    return {"column": column, "name": name, **options, "in_text": False}


def field_entry(field: Any) -> dict[str, Any]:
    """A field as a schema file holds it."""
    entry = {"column": field.column, "name": field.name}
    return {**entry, "kind": field.kind, "in_text": field.in_text}


TABLES: dict[str, Callable[[Path, Path | None], tuple[pd.DataFrame, dict[str, Any]]]] = {
    **{"book-crossing": book_crossing, "anime": anime, "ml-1m-plots": ml_1m_plots},
    **{"ml-1m-titles": ml_1m_titles, "credit-card": credit_card, "adult": adult, "cardio": cardio},
}


def main(arguments: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=TABLES)
    parser.add_argument("path", type=Path, help="the file of the dataset")
    parser.add_argument("--plots", type=Path, help="CSV file with the plots of ml-1m-plots")
    parser.add_argument("--output_dir", type=Path, default=Path("tables"))
    args = parser.parse_args(arguments)
    rows, schema = TABLES[args.name](args.path, args.plots)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    written = args.output_dir / f"{args.name}.parquet"
    rows.to_parquet(written, index=False, compression="zstd")
    written.with_suffix(".yaml").write_text(yaml.safe_dump(schema, sort_keys=False, width=120), encoding="utf-8")
    print(f"{written}: {len(rows):,} rows, {rows[schema['label']].mean():.1%} clicks")
    return written


if __name__ == "__main__":
    main()
