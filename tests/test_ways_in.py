"""Random tables give the same ids, whatever type, library or file brings them: about a minute, seeded."""

import json
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.columnar import encode_tables
from clickprompt_hf.data.table_files import read_table_files
from clickprompt_hf.schema_clickprompt import FieldSchema, Schema

ROWS = 12
# Tables per seed.
TABLES = 25
LETTERS = "abz09 .-+eE_:T/\\'\"|,;#\t\u00e9\u0301\u4e2d\U0001f600"


def an_integer(random: Random) -> int:
    return random.choice([random.randint(-9, 9), random.randint(-(10**6), 10**6), random.randint(-(2**63), 2**63 - 1)])


def a_float(random: Random) -> float:
    return random.choice(
        [
            float(random.randint(-9, 9)),
            random.randint(-999, 999) / 8,
            random.random(),
            random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300),
            float(random.randint(1, 9)) * 10.0 ** random.randint(-8, 22),
        ]
    )


def a_time(random: Random) -> datetime:
    second = datetime(1900, 1, 1) + timedelta(seconds=random.randrange(200 * 365 * 86_400))
    return second.replace(hour=0, minute=0, second=0) if random.random() < 0.3 else second


def a_text(random: Random) -> str:
    codes = ["007", "1e3", "4.50", "TRUE", "NA", "null", "2024-01-31T10:00", "u1", "x\ny", " x "]
    return random.choice([*codes, "".join(random.choices(LETTERS, k=random.randint(1, 6)))])


# A column's type in Arrow, and how to draw a value.
KINDS = {
    "integer": (pa.int64(), an_integer),
    "small integer": (pa.int8(), lambda random: random.randint(-128, 127)),
    "float": (pa.float64(), a_float),
    "truth value": (pa.bool_(), lambda random: random.random() < 0.5),
    "decimal": (
        pa.decimal128(12, 3),
        lambda random: Decimal(random.randint(-(10**6), 10**6)).scaleb(-random.randint(0, 3)),
    ),
    "date": (pa.date32(), lambda random: a_time(random).date()),
    "time": (pa.timestamp("us"), a_time),
    "time with fraction": (
        pa.timestamp("us"),
        lambda random: a_time(random).replace(microsecond=random.randrange(10**6)),
    ),
    "UTC": (pa.timestamp("us", "UTC"), lambda random: a_time(random).replace(tzinfo=UTC)),
    "text": (pa.string(), a_text),
    "list": (pa.list_(pa.int64()), lambda random: [random.randint(0, 20) for _ in range(random.randint(0, 4))]),
    "list of text": (
        pa.list_(pa.string()),
        lambda random: [random.choice(["a", "b c", "it's", "d,e"]) for _ in range(random.randint(0, 3))],
    ),
}

NUMBERS = ("integer", "small integer", "float", "decimal")
TIMES = ("date", "time", "time with fraction", "UTC")


def random_table(random: Random) -> tuple[pa.Table, Schema]:
    """A typed table and a schema for it; columns repeat values and may lack some."""
    columns, fields = {}, []
    for number, kind in enumerate(random.sample(list(KINDS), k=5)):
        arrow_type, draw = KINDS[kind]
        values = [draw(random) for _ in range(random.randint(1, 6))]
        cells = [random.choice(values) for _ in range(ROWS)]
        if random.random() < 0.4 and "integer" not in kind:
            cells[random.randrange(ROWS)] = None
        name = f"{kind} {number}"
        columns[name] = pa.array(cells, arrow_type)
        if "list" in kind:
            fields.append(FieldSchema(name, kind="multi_valued", max_values=4))
            continue
        fields.append(FieldSchema(name))
        if kind in NUMBERS and any(cells):
            # the same column under another name: a column may be one field only
            columns[f"{name} again"] = columns[name]
            buckets = random.choice(["quantile", "log"])
            fields.append(
                FieldSchema(f"{name} again", kind="numeric", num_buckets=random.randint(2, 5), buckets=buckets)
            )
        if kind in TIMES and any(cells):
            columns[f"{name} again"] = columns[name]
            fields += [FieldSchema(f"{name} again", kind=part) for part in ("hour", "weekday", "month")]
    columns["click"] = pa.array([row % 2 for row in range(ROWS)])
    return pa.table(columns), Schema(tuple(fields), "click")


def cells_of(table: pa.Table) -> dict[str, list]:
    return {name: table.column(name).to_pylist() for name in table.column_names}


def without_lists(table: pa.Table) -> pa.Table:
    """Lists as JSON, because CSV writers refuse lists."""
    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            texts = [None if cell is None else json.dumps(cell) for cell in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts))
    return table


def spark_cell(cell) -> str:
    """A cell as Spark writes it to CSV."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return repr(cell).upper().replace("E+", "E")
    if isinstance(cell, datetime):
        zone = "Z" if cell.tzinfo else ""
        return f"{cell:%Y-%m-%dT%H:%M:%S}.{cell.microsecond:06}{zone}"
    if isinstance(cell, str):
        return '"' + cell.replace('"', '""') + '"'
    return str(cell)


def spark_csv(table: pa.Table, path) -> None:
    rows = zip(*cells_of(without_lists(table)).values())
    lines = [",".join(table.column_names), *(",".join(map(spark_cell, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def json_lines(table: pa.Table, path) -> None:
    def plain(cell):
        return str(cell) if isinstance(cell, (date, Decimal)) else cell

    rows = table.to_pylist()
    path.write_text(
        "".join(json.dumps({k: plain(v) for k, v in row.items()}) + "\n" for row in rows), encoding="utf-8"
    )


WRITERS = {
    "arrow.csv": lambda table, path: pa.csv.write_csv(without_lists(table), path),
    "pandas.csv": lambda table, path: pandas_frame(without_lists(table)).to_csv(path, index=False),
    "pandas.csv.gz": lambda table, path: pandas_frame(without_lists(table)).to_csv(path, index=False),
    "polars.csv": lambda table, path: pl.from_arrow(without_lists(table)).write_csv(path),
    "spark.csv": spark_csv,
    "arrow.parquet": lambda table, path: pq.write_table(table, path),
    "polars.parquet": lambda table, path: pl.from_arrow(table).write_parquet(path),
    "rows.jsonl": json_lines,
}


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(integer_object_nulls=True)


def dictionary_encoded(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_integer(field.type):
            table = table.set_column(index, field.name, table.column(index).dictionary_encode())
    return table


def views(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string_view()))
    return table


LARGE = {pa.string(): pa.large_string(), pa.decimal128(12, 3): pa.decimal256(40, 3), pa.date32(): pa.date64()}
LARGE |= {pa.list_(kind): pa.large_list(kind) for kind in (pa.int64(), pa.string())}
NANOSECONDS = {pa.timestamp("us", zone): pa.timestamp("ns", zone) for zone in (None, "UTC")}
IN_MEMORY = {
    "columns": cells_of,
    "rows": lambda table: table.to_pylist(),
    "arrow": lambda table: table,
    "dictionaries": dictionary_encoded,
    "views": views,
    "pandas": pandas_frame,
    "pandas of Arrow": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.from_arrow,
    "numpy": lambda table: {
        name: pd.Series(cells, dtype=object).to_numpy()
        if any(isinstance(cell, list) for cell in cells)
        else np.asarray(cells)
        for name, cells in cells_of(table).items()
    },
    "datasets": lambda table: datasets.Dataset(table),
    "large": lambda table: table.cast(
        pa.schema([(field.name, LARGE.get(field.type, field.type)) for field in table.schema])
    ),
    "seconds and nanoseconds": lambda table: table.cast(
        pa.schema([(field.name, NANOSECONDS.get(field.type, field.type)) for field in table.schema])
    ),
}


def ids_of(processor: ClickPromptProcessor, rows) -> list[list[int]]:
    if isinstance(rows, datasets.Dataset):
        rows = rows[:]
    return processor(rows)["feature_ids"]


@pytest.mark.parametrize("seed", range(10))
def test_one_value_has_one_id(seed, tmp_path):
    random = Random(seed)
    for number in range(TABLES):
        table, schema = random_table(random)
        brought = {}
        for name, write in WRITERS.items():
            path = tmp_path / f"{number}-{name}"
            write(table, path)
            brought[name] = read_table_files(path, schema)
            assert len(brought[name]) == ROWS, name
        brought |= {name: bring(table) for name, bring in IN_MEMORY.items()}
        fit_on = random.choice([name for name in brought if name != "rows"])
        with warnings.catch_warnings():
            # of lost spelling and of text in columns of one value
            warnings.simplefilter("ignore")
            processor = ClickPromptProcessor.fit(brought[fit_on], schema)
            expected = ids_of(processor, brought[fit_on])
            assert not np.any(np.asarray(expected) == 0), fit_on
            for name, rows in brought.items():
                assert ids_of(processor, rows) == expected, (
                    f"fitted on {fit_on}, encoded from {name}:\n{table.to_pydict()}"
                )
                if isinstance(rows, pa.Table):
                    arrays, *_ = encode_tables([rows], processor, with_text=False)
                    assert arrays["feature_ids"].tolist() == expected, f"fitted on {fit_on}, encoded whole from {name}"
