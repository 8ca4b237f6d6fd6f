"""Schemas drafted in code, from tables in memory."""

import numpy as np
import pyarrow as pa
import pytest
from own_tables import clinic, loans, shop

from clickprompt_hf import FieldSchema
from clickprompt_hf.data import schema_draft
from clickprompt_hf.data.delong import compare_aucs, p_value
from clickprompt_hf.data.schema_draft import draft_schema_of
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.runs.draft_schema import draft_schema


@pytest.mark.parametrize("frame", [loans(), clinic(), shop()], ids=["loans", "clinic", "shop"])
def test_a_table_in_memory_and_its_file_have_one_draft(frame, tmp_path):
    path, schema = tmp_path / "table.parquet", tmp_path / "schema.yaml"
    frame.to_parquet(path, index=False)
    schema.write_text(draft_schema(path), encoding="utf-8")
    assert draft_schema_of(pa.Table.from_pandas(frame, preserve_index=False)) == load_schema(schema)


def table(**columns) -> pa.Table:
    return pa.table({"user": [f"u{n % 7}" for n in range(200)], **columns})


def test_a_given_label_and_its_positive_value():
    given = table(went=["hin", "weg", "weg", "weg"] * 50)
    schema = draft_schema_of(given, label="went", positive="weg")
    assert (schema.label, schema.positive) == ("went", "weg")
    assert schema.fields == (FieldSchema("user", "User"),)
    with pytest.raises(ValueError, match=r"`label` must name the label column: .* among \['user', 'went'\]"):
        draft_schema_of(given)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (table().slice(0, 0), {"label": "user"}, r"`table` must have rows, but it has none of its columns \['user'\]"),
        (
            pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
            {"label": "a"},
            r"`table` must have unique column names, but it repeats \['a'\]",
        ),
        (table(click=[0, 1] * 100), {"label": "clicked"}, r"`label` must be one of the columns \['user', 'click'\]"),
        (table(click=[0, 1] * 100), {"positive": "1"}, "`positive` needs `label`"),
        (
            pa.table({"memo": [f"these are the words of {n}" for n in range(200)], "click": [0, 1] * 100}),
            {"label": "click"},
            r"must have a column that can be a field with ids.* 'click'. Free text: \['memo'\]",
        ),
        (
            pa.table({"x": ["a"] * 200, "click": [0, 1] * 100}),
            {"label": "click"},
            "left out: {'x': 'same value in every row'}",
        ),
    ],
)
def test_tables_without_a_draft(given, options, message):
    with pytest.raises(ValueError, match=message):
        draft_schema_of(given, **options)


def test_rows_of_a_large_table_are_drawn_from_all_of_it(monkeypatch):
    monkeypatch.setattr(schema_draft, "MAX_ROWS", 100)
    # sorted by the label, as its first rows would hide
    schema = draft_schema_of(table(click=[0] * 150 + [1] * 50), label="click")
    assert schema.label == "click"


def test_aucs_are_compared_by_hand():
    clicked = np.array([True, True, False, False])
    # of four pairs, the first scores order three and the second two
    auc, baseline, error = compare_aucs(np.array([3, 1, 2, 0]), np.array([3, 0, 2, 1]), clicked)
    assert (auc, baseline) == (0.75, 0.5)
    # differences of placements: clicks 1 - 1 and 1/2 - 0, others 1/2 - 1/2 and 1 - 1/2, each of variance 1/8
    assert error == pytest.approx(np.sqrt(2 * (1 / 8) / 2))
    assert p_value(error * 1.959964, error) == pytest.approx(0.05, abs=1e-6)
    assert p_value(0.0, 0.0) == 1
