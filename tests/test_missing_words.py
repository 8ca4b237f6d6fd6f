"""The words that a field's schema lists as missing: ids, text and warnings are those of blank cells."""

import warnings

import numpy as np
import pyarrow as pa
import pytest
from tiny_data import tiny_roberta_tokenizer

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.lists_clickprompt import cell_values

WORDS = ["unknown", "?", "0000-00-00", -999]
CELLS = {
    "numeric": ["1", "2.5", "3", "7"],
    "hour": ["2024-01-31 14:05:00", "2024-01-31 15:05:00", "2024-02-01 16:00:00", "2024-02-01 17:00:00"],
    "categorical": ["a", "b", "c", "007"],
    "multi_valued": ["a|b", "b", "c|a", "c"],
    "text": ["a few words", "other words", "more of them", "and more"],
}


def fitted(kind: str, cells: list, missing) -> ClickPromptProcessor:
    fields = [FieldSchema("x", "X", kind, missing=missing)]
    fields += [FieldSchema("user")] if kind == "text" else []
    train = {"x": cells, "user": list(range(len(cells)))}
    return ClickPromptProcessor.fit(train, Schema(tuple(fields), "click"), tiny_roberta_tokenizer())


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("as_table", [False, True])
def test_words_for_missing_are_blank_cells(kind, as_table, tmp_path):
    words = [" unknown", "?", "0000-00-00", "-999.00"]
    cells, blanked = [*words, *CELLS[kind]], [None] * 4 + CELLS[kind]
    rows = pa.table({"x": cells}) if as_table else {"x": cells}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, processor = fitted(kind, blanked, ()), fitted(kind, cells, WORDS)
        assert processor.vocabularies == plain.vocabularies
        assert processor.boundaries == plain.boundaries
        processor.save_pretrained(tmp_path)
        for reader in (processor, ClickPromptProcessor.from_pretrained(tmp_path)):
            columns = {**(rows.to_pydict() if as_table else rows), "user": [0] * 8}
            np.testing.assert_array_equal(reader.encode(columns), plain.encode({"x": blanked, "user": [0] * 8}))
            assert reader.render_values(0, cells)[:4] == ["X is unknown."] * 4
            assert reader.render_values(0, cells) == plain.render_values(0, blanked)


@pytest.mark.parametrize(
    ("cells", "without"),
    [
        ([["a", "NA"], ["?", "b"], ["?"]], [["a"], ["b"], []]),
        (["a|NA", "?|b", "?"], ["a", "b", ""]),
        (["['a', 'NA']", '["?", "b"]', "[?]"], ["['a']", '["b"]', "[]"]),
        ([["-1.0", "-1"], ["a"], ["b"]], [[], ["a"], ["b"]]),
        # members give way before `max_values` cuts the list
        ([["NA", "NA", "a", "b", "c"], ["c"], []], [["a", "b", "c"], ["c"], []]),
    ],
)
@pytest.mark.parametrize("as_table", [False, True])
def test_words_for_missing_within_lists_are_no_members(cells, without, as_table):
    fields = (FieldSchema("x", "X", "multi_valued", max_values=3, missing=["NA", "?", -1]), FieldSchema("user"))
    columns, expected = ({"x": values, "user": [1, 2, 3]} for values in (cells, without))
    processor = ClickPromptProcessor.fit(
        pa.table(columns) if as_table else columns, Schema(fields, "click"), tiny_roberta_tokenizer()
    )
    plain = ClickPromptProcessor.fit(expected, Schema(fields, "click"), tiny_roberta_tokenizer())
    assert processor.vocabularies == plain.vocabularies
    np.testing.assert_array_equal(processor.encode(columns), plain.encode(expected))
    assert processor.render(columns) == plain.render(expected)


def test_numbers_for_missing_within_lists_are_no_members():
    field = FieldSchema("x", kind="multi_valued", missing=[-1])
    assert cell_values(["-1.0", -1, 1], field) == ["1"]


def test_weights_do_not_hide_words_for_missing():
    field = FieldSchema("x", kind="multi_valued", weight_separator=":", missing=["NA"])
    assert cell_values("NA:0.9|a:0.1|b:0.5", field) == ["b", "a"]
    assert cell_values({"NA": 0.9, "a": 0.1}, field) == ["a"]


def test_other_words_still_cause_a_warning():
    processor = fitted("numeric", ["?", "1", "2", "3"], ["?"])
    with pytest.warns(UserWarning, match="cells .*, such as 'many', count as missing"):
        processor.encode({"x": ["?", "many"]})


def test_numbers_that_mean_missing_are_not_numbers():
    processor = fitted("numeric", [-999] * 90 + list(range(10)), [-999])
    assert processor.boundaries[0] == [float(n) + 0.5 for n in range(9)]


@pytest.mark.parametrize("missing", [[None], [False], "NA", [["NA"]], {"NA": 1}, 5])
def test_lists_of_words_are_checked(missing):
    message = r"`missing` of field 'x' must be a list of words or numbers, got .* \"NULL\", .* in quotes"
    with pytest.raises(ValueError, match=message):
        FieldSchema("x", missing=missing)
    assert FieldSchema("x", missing=["NA", " NA", "", 7.0]).missing == ("NA", "7")
