"""Preparing tables larger than memory: seconds, CPU seconds and peak memory, next to DuckDB's SQL alone.

    python benchmarks/large_tables.py --rows 10000000

The table is generated: eight columns of ids and numbers in the shape of Criteo's and GoodReads's, with ids over five
million users, two million items and three million values of a hashed category, and with two columns of text. DuckDB
(pip install duckdb) counts the values of the columns of ids, numbers them by count and value, and writes the joined
ids; it leaves out how values are read, splits, unseen values and text.
"""

import importlib.util
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickprompt_hf import ClickPromptProcessor
from clickprompt_hf.data.columnar import load_prepared, prepare_splits
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.streaming.prepare import StreamedTable
from clickprompt_hf.data.streaming.table_stream import TableStream
from clickprompt_hf.runs.arguments import ModelArguments
from clickprompt_hf.runs.plms import add_tokenizer
from clickprompt_hf.schema_clickprompt import FieldSchema, Schema

IDS = ("user_id", "item_id", "hashed", "category", "publisher", "country", "device")
FIELDS = tuple(FieldSchema(column, in_text=False) for column in IDS)
FIELDS += (FieldSchema("price", kind="numeric", in_text=False),)
TEXTS = (FieldSchema("title", kind="text"), FieldSchema("genre"))
ROWS_PER_FILE = 10**6
SPILL_GB = 1.2


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = measure.parser(__doc__)
    parser.add_argument("--rows", type=int, default=10**7)
    parser.add_argument("--folder", type=Path, help="keep the generated table there, and use it if it exists")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS), help="default: all")
    args = parser.parse_args(arguments)
    if args.quick:
        args.rows = 2000
    table = []
    with TemporaryDirectory(dir=args.folder and args.folder.parent) as scratch:
        data = args.folder or Path(scratch, "table")
        if not data.exists():
            generate(data, args.rows)
        for way in args.ways:
            if way == "DuckDB" and importlib.util.find_spec("duckdb") is None:
                continue
            found = measure.in_fresh_process(WAYS[way], data, Path(scratch))
            seconds, cpu = found.pop("seconds"), found.pop("cpu_seconds")
            rates = {"rows/s": round(args.rows / seconds), "CPU µs per row": round(1e6 * cpu / args.rows, 2)}
            table.append({"way": way, "seconds": round(seconds, 1), "CPU seconds": round(cpu, 1), **rates, **found})
            print(table[-1], flush=True)
    return measure.report(f"large tables, {args.rows:,} rows", table, args)


def timed(function: Any) -> Any:
    """Let a function return its seconds and CPU seconds in addition to its results."""

    def measured(data: Path, scratch: Path) -> dict[str, Any]:
        start, cpu = time.perf_counter(), time.process_time()
        found = function(data, scratch)
        seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        return {**seconds, **found, "own memory at the end, GB": round(measure.own_memory_gb(), 2)}

    return measured


def by_chunks(data: Path, scratch: Path, with_text: bool = False, split: Any = "random") -> dict[str, Any]:
    schema = Schema(FIELDS + (TEXTS if with_text else ()), label="click", time="time")
    stream = TableStream({"": sorted(data.iterdir())}, schema, with_time=split == "time")
    with StreamedTable(stream, schema, scratch / "spill") as table:
        table.split(split)
        processor = table.fit()
        if with_text:
            add_tokenizer(processor, table.sample(20_000), ModelArguments("scratch-small"))
        table.write(processor, scratch / "streamed")
    del processor
    _, processor = load_prepared(scratch / "streamed")
    return {"ids": sum(processor.field_sizes)}


def ids_by_chunks(data: Path, scratch: Path) -> dict[str, Any]:
    return timed(by_chunks)(data, scratch)


def ids_by_time(data: Path, scratch: Path) -> dict[str, Any]:
    return timed(lambda *folders: by_chunks(*folders, split="time"))(data, scratch)


def text_by_chunks(data: Path, scratch: Path) -> dict[str, Any]:
    return timed(lambda *folders: by_chunks(*folders, with_text=True))(data, scratch)


def ids_in_memory(data: Path, scratch: Path) -> dict[str, Any]:
    def prepare(data: Path, scratch: Path) -> dict[str, Any]:
        splits, schema = load_splits("parquet", str(data), Schema(FIELDS, label="click", time="time"))
        processor = ClickPromptProcessor.fit(splits["train"], schema)
        prepare_splits(splits, processor, scratch / "in-memory")
        _, processor = load_prepared(scratch / "in-memory")
        return {"ids": sum(processor.field_sizes)}

    return timed(prepare)(data, scratch)


def duckdb_ids(data: Path, scratch: Path) -> dict[str, Any]:
    import duckdb

    def encode(data: Path, scratch: Path) -> dict[str, Any]:
        with duckdb.connect(str(scratch / "duck.db")) as connection:
            connection.execute(f"SET threads = {pa.cpu_count()}")
            connection.execute(f"SET memory_limit = '{SPILL_GB}GB'")
            connection.execute(f"SET temp_directory = '{scratch / 'duckdb'}'")
            source = f"read_parquet('{data}/*.parquet')"
            columns = [*IDS, "price"]
            for column in columns:
                connection.execute(
                    f"CREATE TABLE {column}_ids AS SELECT value, row_number() OVER (ORDER BY rows DESC, value) AS id "
                    f"FROM (SELECT CAST({column} AS VARCHAR) AS value, count(*) AS rows FROM {source} GROUP BY 1)"
                )
            chosen = ", ".join(f"CAST({column}_ids.id AS INTEGER) AS {column}" for column in columns)
            joins = " ".join(
                f"JOIN {column}_ids ON CAST(source.{column} AS VARCHAR) = {column}_ids.value" for column in columns
            )
            connection.execute(
                f"COPY (SELECT {chosen}, click FROM {source} AS source {joins}) TO '{scratch / 'ids.parquet'}'"
            )
            counts = [connection.execute(f"SELECT count(*) FROM {column}_ids").fetchone() for column in columns]
        return {"ids": sum(count[0] for count in counts if count)}

    return timed(encode)(data, scratch)


WAYS = {
    "ids, by chunks": ids_by_chunks,
    "ids, by chunks, split by time": ids_by_time,
    "ids and text, by chunks": text_by_chunks,
    "ids, in memory": ids_in_memory,
    "DuckDB": duckdb_ids,
}


def generate(folder: Path, num_rows: int) -> None:
    """Write the table as Parquet files of a million rows."""
    folder.mkdir()
    scale = num_rows / 10**7 if num_rows < 10**7 else 1.0
    words = [f"{start}{end}" for start in ("ka", "lo", "mi", "nu", "re", "sta") for end in map(str, range(900))]
    numbers = _mixed(np.arange(max(2, int(500_000 * scale)))).reshape(-1, 1) >> np.array([0, 20, 40], dtype=np.uint64)
    titles = pa.array([" ".join(words[i] for i in row) for row in (numbers % np.uint64(len(words))).tolist()])
    genres = pa.array([f"{words[i]} {words[i + 1]}" for i in range(2000)])
    countries = pa.array([f"C{i}" for i in range(200)])
    devices = pa.array(["phone", "tablet", "desktop", "tv", "other"])
    for start in range(0, num_rows, ROWS_PER_FILE):
        draw, size = np.random.default_rng(start), min(ROWS_PER_FILE, num_rows - start)

        def skewed(most: float, draw: Any = draw, size: int = size) -> np.ndarray:
            return (max(2, int(most)) * draw.random(size) ** 2).astype(np.int64)

        items = skewed(2e6 * scale)
        table = {
            "user_id": draw.integers(max(2, int(5e6 * scale)), size=size) * 7 + 10**7,
            "item_id": _hex(_mixed(items), 12),
            "hashed": _hex(_mixed(skewed(3e6 * scale) + 1), 8),
            "category": _hex(_mixed(skewed(1e5) + 2), 8),
            "publisher": _hex(_mixed(skewed(1000) + 3), 8),
            "country": countries.take(pa.array(skewed(len(countries)))),
            "device": devices.take(pa.array(skewed(len(devices)))),
            "price": np.round(np.exp(draw.normal(3, 1, size)), 2),
            "title": titles.take(pa.array(items % len(titles))),
            "genre": genres.take(pa.array(items % len(genres))),
            "click": (draw.random(size) < 0.25).astype(np.int8),
            "time": 1_600_000_000 + start // 10 + draw.integers(10**6, size=size),
        }
        pq.write_table(pa.table(table), folder / f"part-{start // ROWS_PER_FILE:03}.parquet")


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers as hashes, so that neighbors share no digits."""
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(29))


def _hex(numbers: np.ndarray, digits: int) -> pa.Array:
    """The first hexadecimal digits of numbers."""
    pairs = np.array([f"{byte:02x}" for byte in range(256)], dtype="S2").view(np.uint16)
    content = pairs[numbers.view(np.uint8).reshape(-1, 8)[:, : digits // 2]]
    offsets = np.arange(0, digits * (len(numbers) + 1), digits, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(content.tobytes()))


if __name__ == "__main__":
    main()
