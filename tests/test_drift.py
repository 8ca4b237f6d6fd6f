"""How scored values differ from training values: bins, counts, the stability index, and where they are reported."""

import json
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_export_ctr import save_checkpoint
from tiny_data import tiny_rows, tiny_schema, tiny_splits

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data import drift as module
from clickprompt_hf.data.columnar import encode_tables, load_prepared, prepare_splits
from clickprompt_hf.data.drift import DriftCounts, count_training_values, stability_index, training_bins
from clickprompt_hf.runs import predict

SCHEMA = Schema(
    fields=(
        FieldSchema("shop"),
        FieldSchema("tags", kind="multi_valued", max_values=2),
        FieldSchema("price", kind="numeric", num_buckets=4),
        FieldSchema("note", kind="text"),
    ),
    label="click",
)
# shop: a 5 times, b 3, missing 2; tags: new 6, old 6, missing 3; price: four numbers, never missing
TRAIN = {
    "shop": [*"aaaaabbb", None, ""],
    "tags": ["new|old"] * 5 + ["new", "old", "", None, " "],
    "price": [1, 1, 1, 2, 2, 3, 3, 4, 4, 4],
    "note": ["any"] * 10,
    "click": [0, 1] * 5,
}


@pytest.fixture(scope="module")
def processor():
    return ClickPromptProcessor.fit(TRAIN, SCHEMA)


@pytest.fixture(scope="module")
def trained(processor):
    return count_training_values(processor.encode(processor.columns(TRAIN)), processor)


def test_training_values_are_counted_per_bin(processor, trained):
    assert processor.vocabularies[0] == ["a", "b", ""]
    assert trained["shop"]["ends"][:2] == [1, 2]
    # of each bin, then unseen values, then missing cells
    assert trained["shop"]["counts"] == [5, 3, 0, 2]
    assert trained["tags"]["counts"] == [6, 6, 0, 3]
    assert sum(trained["price"]["counts"]) == 10
    assert trained["price"]["counts"][-2:] == [0, 0]
    assert "note" not in trained


def test_rare_values_share_bins_of_equal_shares():
    # one value has half of the rows, 1,000 values one row each
    names = ["most"] * 1_000 + [f"rare {i}" for i in range(1_000)]
    schema = Schema(fields=(FieldSchema("name"),), label="click")
    processor = ClickPromptProcessor.fit({"name": names}, schema)
    found = count_training_values(processor.encode({"name": names}), processor)["name"]
    assert found["ends"] == [1, *range(101, 1_002, 100)]
    assert found["counts"] == [1_000, *[100] * 10, 0, 0]
    # small, whatever the number of values
    assert len(json.dumps(found)) < 200


def test_values_are_counted_in_pieces(processor, trained, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 3)
    ids = processor.encode(processor.columns(TRAIN))
    assert count_training_values(ids, processor) == trained
    # distinct values with their numbers of rows
    assert training_bins(np.array([[1], [3], [2]]), ["a", "b", ""], np.array([5, 2, 3])) == trained["shop"]


def test_values_below_the_minimum_count_are_unseen():
    schema = Schema(fields=(FieldSchema("name"),), label="click")
    processor = ClickPromptProcessor.fit({"name": [*"aaab"]}, schema, min_count=2)
    assert count_training_values(processor.encode({"name": [*"aaab"]}), processor) == {
        "name": {"ends": [1], "counts": [3, 1, 0]}
    }
    nothing = count_training_values(np.zeros((5, 1), dtype=np.int32), processor)
    assert nothing == {"name": {"ends": [1], "counts": [0, 5, 0]}}


def test_unseen_and_missing_values_are_told_apart(processor, trained):
    rows = {
        "shop": ["a", "a", "c", None, "  "],
        "tags": ["new|zzz", ["old", "new"], "zzz", [], None],
        # training had no missing price, so that neither word has an id
        "price": [2, "many", None, 3, 4],
        "note": [None] * 5,
    }
    counts = DriftCounts(processor, trained)
    columns = processor.columns(rows)
    with pytest.warns(UserWarning, match="cells .*, such as 'many', count as missing"):
        counts.add_rows(columns, processor.encode(columns))
    shop, tags, price = counts.drifts()
    assert (shop.key, shop.values, shop.unseen, shop.missing) == ("shop", 5, 1 / 5, 2 / 5)
    assert (shop.trained_unseen, shop.trained_missing) == (0, 2 / 10)
    # new, zzz, old, new, zzz, and two missing cells
    assert (tags.values, tags.unseen, tags.missing) == (7, 2 / 7, 2 / 7)
    assert (price.values, price.unseen, price.missing) == (5, 0, 2 / 5)
    # too few values for an index
    assert shop.stability_index is None


def test_columns_and_distinct_values_count_alike(processor, trained):
    draw = np.random.default_rng(0)
    rows = {
        "shop": draw.choice(["a", "b", "c", ""], 3_000).tolist(),
        "tags": draw.choice(["new", "old|new", "zzz|old", ""], 3_000).tolist(),
        "price": draw.choice([1.0, 2.5, 7.0], 3_000).tolist(),
    }
    counts, by_table, merged = (DriftCounts(processor, trained) for _ in range(3))
    columns = processor.columns(rows)
    counts.add_rows(columns, processor.encode(columns))
    tables = [pa.table(rows).slice(0, 1_000), pa.table(rows).slice(1_000)]
    parts = [DriftCounts(processor, trained) for _ in tables]
    encode_tables(tables, processor, with_text=False, unknown=parts)
    encode_tables([pa.table(rows)], processor, with_text=False, unknown=[by_table])
    for part in parts:
        # as plain data, which processes exchange
        merged.merge(json.loads(json.dumps(part.counts)))
    assert counts.drifts() == by_table.drifts() == merged.drifts()
    assert counts.drifts()[0].stability_index > 0.1


def test_the_stability_index():
    # (0.6 - 0.4) ln(0.6 / 0.4) + (0.4 - 0.6) ln(0.4 / 0.6)
    found = stability_index(np.array([40, 60]), np.array([600, 400]))
    assert found == pytest.approx(0.4 * math.log(1.5))
    assert stability_index(np.array([10, 20, 0]), np.array([100, 200, 0])) == 0
    # an empty bin has a share of 0.0001
    found = stability_index(np.array([1, 0]), np.array([1, 1]))
    assert found == pytest.approx(0.5 * math.log(2) + 0.4999 * math.log(5_000))


def test_without_counts_of_the_training_rows(processor):
    counts = DriftCounts(processor)
    columns = processor.columns({name: cells * 200 for name, cells in TRAIN.items()})
    counts.add_rows(columns, processor.encode(columns))
    shop = counts.drifts()[0]
    assert (shop.values, shop.missing) == (2_000, 0.2)
    assert (shop.trained_unseen, shop.trained_missing, shop.stability_index) == (None, None, None)


@pytest.mark.parametrize(
    "damaged",
    [
        3,
        {"shop": 3},
        {"shop": {"ends": [1, 2]}},
        {"shop": {"ends": [2, 1], "counts": [1, 1, 1, 1]}},
        {"shop": {"ends": [1, 2], "counts": [1, 1, 1]}},
        {"shop": {"ends": [1, 2], "counts": [1, 1, 1, "many"]}},
        {"shop": {"ends": [], "counts": [1, 1]}},
    ],
)
def test_damaged_counts_are_refused(processor, damaged):
    with pytest.raises(ValueError, match="`trained_values`.* must "):
        DriftCounts(processor, damaged)


def test_counts_travel_with_the_processor(tmp_path):
    splits = tiny_splits()
    processor = ClickPromptProcessor.fit(splits["train"], tiny_schema())
    prepare_splits(splits, processor, tmp_path / "data")
    # the caller's own stays as it was
    assert processor.trained_values is None
    data, prepared = load_prepared(tmp_path / "data")
    assert prepared.trained_values == count_training_values(data["train"].feature_ids, processor)
    assert prepared.fingerprint == processor.fingerprint
    prepared.extend(splits["validation"])
    assert prepared.trained_values is None


def test_predict_prints_what_changed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "LEAST_VALUES", 10)
    save_checkpoint(tmp_path / "model", fusion="ctr")
    processor = ClickPromptProcessor.from_pretrained(tmp_path / "model")
    columns = processor.columns(tiny_rows())
    processor.trained_values = count_training_values(processor.encode(columns), processor)
    processor.save_pretrained(tmp_path / "model")
    rows = pd.DataFrame(tiny_rows(40, seed=5)).drop(columns="click")
    rows.loc[:9, "title"] = "never seen"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    files = ["--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "scores.csv")]
    predict.main(["--model", str(tmp_path / "model"), *files, "--piece_rows", "7"])
    heading, names, first, *others = capsys.readouterr().out.splitlines()
    assert heading == "Values of the scored rows, next to the training rows:"
    assert re.split(r"\s{2,}", names) == [
        "field",
        "unseen",
        "in training",
        "missing",
        "in training",
        "stability index",
    ]
    assert first.split()[:3] == ["title", "25.0%", "0.0%"]
    assert float(first.split()[-1]) > 0.25
    assert len(others) == 3


def test_the_table_of_many_fields_is_cut(monkeypatch):
    monkeypatch.setattr(predict, "_MOST_FIELDS", 1)
    drifts = [
        module.FieldDrift("calm", 2_000, 0.0, 0.0, 0.0, 0.0, 0.01),
        module.FieldDrift("wild", 2_000, 0.5, 0.0, None, None, 0.5),
        module.FieldDrift("without rows", 0, math.nan, math.nan, 0.0, 0.0, None),
    ]
    lines = predict.drift_table(drifts).splitlines()
    assert lines[2].split() == ["wild", "50.0%", "0.0%", "0.500"]
    assert lines[3:] == ["and 1 more that changed less"]
