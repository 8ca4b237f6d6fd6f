"""Permutation importance: drops of AUC counted by hand, shared columns, and what it refuses."""

import numpy as np
import pyarrow as pa
import pytest

from clickprompt_hf import FieldSchema
from clickprompt_hf.evaluation import permutation_importance

FIELDS = (FieldSchema("price", "Price", "numeric"), FieldSchema("color", "Color"))
LABELS = [0, 0, 1, 1]
TABLE = {"price": [1.0, 2.0, 3.0, 4.0], "color": ["red", "blue", "red", "red"], "other": [9, 8, 7, 6]}


def price_of(table):
    return np.asarray(table["price"])


def auc_by_hand(prices):
    """Share of pairs of a click and no click that are in the right order, half for ties."""
    clicked, others = (
        [price for price, label in zip(prices, LABELS, strict=True) if label == wanted] for wanted in (1, 0)
    )
    return np.mean([(a > b) + 0.5 * (a == b) for a in clicked for b in others])


@pytest.mark.parametrize("as_table", [dict, pa.table], ids=["columns", "arrow"])
def test_only_the_column_that_the_model_uses_has_importance(as_table):
    shuffles = [np.random.default_rng([3, repeat]).permutation(4) for repeat in range(6)]
    expected = 1 - np.mean([auc_by_hand(np.take(TABLE["price"], order)) for order in shuffles])

    found = permutation_importance(price_of, as_table(TABLE), LABELS, FIELDS, seed=3, repeats=6)

    assert expected > 0.2
    assert found == {"Price": pytest.approx(expected), "Color": 0.0}
    assert list(found) == ["Price", "Color"]


def test_a_column_that_misleads_is_negative_and_comes_last():
    found = permutation_importance(lambda table: -price_of(table), TABLE, LABELS, FIELDS, repeats=8)
    assert list(found) == ["Color", "Price"]
    assert found["Price"] < -0.2


def test_an_entry_depends_on_seed_and_repeats_alone():
    def both(table):
        return price_of(table) + 2 * (np.asarray(table["color"]) == "red")

    found = permutation_importance(both, TABLE, LABELS, FIELDS, seed=1)
    assert permutation_importance(both, TABLE, LABELS, FIELDS, seed=1) == found
    assert permutation_importance(both, TABLE, LABELS, FIELDS[::-1], seed=1) == found
    assert permutation_importance(both, TABLE, LABELS, FIELDS[1:], seed=1) == {"Color": found["Color"]}
    assert permutation_importance(both, TABLE, LABELS, FIELDS, seed=2) != found


def test_the_table_does_not_change():
    table = {name: list(values) for name, values in TABLE.items()}
    permutation_importance(price_of, table, LABELS, FIELDS)
    assert table == TABLE


def test_parts_of_one_time_are_shuffled_together():
    fields = (FieldSchema("at", "Hour", "hour"), FieldSchema("price", "Price", "numeric"))
    fields += (FieldSchema("at", "Weekday", "weekday"),)
    seen = []

    def score(table):
        seen.append(table["at"])
        return price_of(table)

    found = permutation_importance(score, {**TABLE, "at": [10, 20, 30, 40]}, LABELS, fields, repeats=2)
    assert list(found) == ["Price", "Hour, Weekday"]
    # as they are, and two shuffles of each of two columns
    assert len(seen) == 5
    assert all(sorted(times) == [10, 20, 30, 40] for times in seen)


def test_equal_names_are_told_apart():
    fields = (FieldSchema("price", "Value"), FieldSchema("color", "Value"))
    assert set(permutation_importance(price_of, TABLE, LABELS, fields)) == {"Value (price)", "Value (color)"}


def test_columns_of_lists_are_shuffled_whole():
    table = pa.table({"price": [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]})

    def score(rows):
        cells = rows["price"].to_pylist()
        assert sorted(cells) == [[1, 0], [2, 0], [3, 0], [4, 0]]
        return [cell[0] for cell in cells]

    assert permutation_importance(score, table, LABELS, FIELDS[:1])["Price"] > 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": {"price": [1, 2, 3, 4]}}, "missing: \\['color'\\]"),
        ({"labels": [1, 1, 1, 1]}, "`labels` must be 0 or 1, both"),
        ({"labels": [0, 1]}, "shape \\(2,\\)"),
        ({"labels": [0, 1, 2, 1]}, "`labels` must be 0 or 1"),
        ({"repeats": 0}, "`repeats`"),
        ({"seed": -1}, "`seed`"),
        ({"score_rows": lambda table: [0.1, 0.2]}, "`score_rows` must return one finite number .* shape \\(2,\\)"),
        ({"score_rows": lambda table: [0.1, 0.2, np.nan, 0.3]}, "1 numbers that are not finite"),
    ],
)
def test_refused(changes, message):
    given = {"score_rows": price_of, "table": TABLE, "labels": LABELS, "fields": FIELDS, **changes}
    with pytest.raises(ValueError, match=message):
        permutation_importance(**given)
