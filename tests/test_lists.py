"""Cells of multi-valued fields: what they hold, whatever library or file they come from."""

import json
from array import array
from collections import deque

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_ctr_config

from clickprompt_hf import ClickPromptConfig, ClickPromptForCTR, ClickPromptPipeline, ClickPromptProcessor
from clickprompt_hf.data.columnar import encode_tables
from clickprompt_hf.encoding_clickprompt import FeatureEncoder
from clickprompt_hf.lists_clickprompt import UnreadableCell, cell_values
from clickprompt_hf.schema_clickprompt import FieldSchema, Schema

# also what Python shows as escapes: line ends, blanks other than spaces, characters without a shape
PRINTED = "ab'\"\\, (){}x1nu\n\r\t\x07\u00a0\u00e9\u200b\u2028\U0001f600\U000e0001"
TAGS = FieldSchema("tags", kind="multi_valued", max_values=4)


def field(**options) -> FieldSchema:
    return FieldSchema("tags", **{"kind": "multi_valued", "max_values": 4, **options})


class TestRowsOfLists:
    """Where all fields hold lists, a mapping of lists is a row, and a mapping of lists of lists is rows."""

    SCHEMA = Schema.from_dict(
        {
            "fields": [{"column": name, "kind": "multi_valued", "max_values": 2} for name in ("tags", "cats")],
            "label": "click",
        }
    )
    ROWS = ({"tags": ["a", "b"], "cats": ["x", "y"]}, {"tags": ["c"], "cats": ["x"]})

    @pytest.fixture
    def processor(self):
        return ClickPromptProcessor.fit([{**row, "click": n} for n, row in enumerate(self.ROWS)], self.SCHEMA)

    @pytest.mark.parametrize(
        ("given", "ids"),
        [
            (ROWS[0], [[1, 2, 1, 2]]),
            ({"tags": ["c"], "cats": ["x", "y"]}, [[3, -1, 1, 2]]),
            ({**ROWS[0], "note": ["of", "other", "length"]}, [[1, 2, 1, 2]]),
            ({"tags": np.array(["a", "b"]), "cats": ("x", "y")}, [[1, 2, 1, 2]]),
            ({"tags": "a|b", "cats": ["x", "y"]}, [[1, 2, 1, 2]]),
            ({"tags": [["a", "b"], ["c"]], "cats": [["x", "y"], ["x"]]}, [[1, 2, 1, 2], [3, -1, 1, -1]]),
            ({"tags": [["a", "b"], ["c"]], "cats": ["x", "y"]}, [[1, 2, 1, -1], [3, -1, 2, -1]]),
            ({"tags": ["a|b", "c"], "cats": ["x", "y"]}, [[1, 2, 1, -1], [3, -1, 2, -1]]),
            ({"tags": ["a", None], "cats": ["x", "y"]}, [[1, -1, 1, -1], [0, -1, 2, -1]]),
            ({"tags": ['["a"]', "c"], "cats": ["x", "y"]}, [[1, -1, 1, -1], [3, -1, 2, -1]]),
            ({"tags": pa.array([["a", "b"]]), "cats": pa.array([["x"]])}, [[1, 2, 1, -1]]),
            ({"tags": ["a", "b"], "cats": ["x", "y"], "click": [0, 1]}, [[1, -1, 1, -1], [2, -1, 2, -1]]),
        ],
    )
    def test_the_fields_tell_rows_from_columns(self, given, ids, processor):
        assert np.asarray(processor(given, return_tensors="np")["feature_ids"]).tolist() == ids

    def test_a_row_gives_one_score(self, processor):
        config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
        model = ClickPromptForCTR(ClickPromptConfig(ctr_config=config, fusion="ctr"))
        score = ClickPromptPipeline(model, processor)
        one, other = score(list(self.ROWS))
        assert score(self.ROWS[0]) == pytest.approx(one)
        assert score({name: [row[name] for row in self.ROWS] for name in ("tags", "cats")}) == [
            pytest.approx(one),
            pytest.approx(other),
        ]

    def test_rows_with_one_value_per_list_stay_several_rows(self, processor):
        config = tiny_ctr_config(field_sizes=processor.field_sizes, max_values=processor.max_values)
        score = ClickPromptPipeline(ClickPromptForCTR(ClickPromptConfig(ctr_config=config, fusion="ctr")), processor)
        rows = [{"tags": "a", "cats": "x"}, {"tags": "b", "cats": "y"}, {"tags": "c", "cats": "x"}]
        expected = [pytest.approx(score(row)) for row in rows]
        assert len(score(rows)) == 3
        assert score(rows) == expected
        assert score(pd.DataFrame(rows)) == expected
        # batches of a mapping whose first row alone tells that it holds several
        columns = {"tags": [["a"], "b", "c"], "cats": ["x", "y", "x"]}
        assert score(columns, batch_size=1) == expected


class TestContainers:
    @pytest.mark.parametrize(
        "cell",
        [
            [8, 9],
            (8, 9),
            deque([8, 9]),
            array("i", [8, 9]),
            range(8, 10),
            {8: None, 9: None}.keys(),
            {9, 8},
            frozenset({9, 8}),
            np.array([8, 9]),
            np.array([8.0, 9.0]),
            np.array([8, 9], dtype=object),
            torch.tensor([8, 9]),
            torch.tensor([8.0, 9.0], dtype=torch.bfloat16),
            pd.Series([8, 9], index=[5, 6]),
            pd.Index([8, 9]),
            pd.array([8, 9], dtype="Int64"),
            pl.Series([8, 9]),
            pa.array([8, 9]),
            pa.chunked_array([[8], [9]]),
            pa.scalar([8, 9]),
            [np.int64(8), torch.tensor(9)],
            [8, None, float("nan"), "", " ", 9],
            "8|9",
            b"8|9",
        ],
        ids=lambda cell: type(cell).__name__,
    )
    def test_two_numbers(self, cell):
        assert cell_values(cell, TAGS) == ["8", "9"]

    @pytest.mark.parametrize(
        "cell", [[], (), set(), np.array([]), "", "  ", None, float("nan"), pd.NA, "[]", "{}", "()"]
    )
    def test_no_members(self, cell):
        assert cell_values(cell, TAGS) == []

    def test_sets_of_strings_do_not_depend_on_the_hash_seed(self):
        assert cell_values({"pear", "apple", "fig"}, TAGS) == ["apple", "fig", "pear"]

    @pytest.mark.parametrize(
        "cell", [{"a": 0.1, "b": 0.9}, [("a", 0.1), ("b", 0.9)], '{"a": 0.1, "b": 0.9}', "{'a': 0.1, 'b': 0.9}"]
    )
    def test_mappings_to_weights_give_the_heaviest_first(self, cell):
        assert cell_values(cell, TAGS) == ["b", "a"]

    @pytest.mark.parametrize(
        "cell",
        [
            [[1, 2], [3]],
            [(1, 2, 3)],
            np.ones((2, 2)),
            [{"id": 1}],
            [{1, 2}],
            {"name": "Comedy"},
            "[[1, 2], [3]]",
            '[{"id": 16, "name": "Animation"}]',
            "[{'id': 16, 'name': 'Animation'}]",
            "[{id: 16, name: Animation}]",
            "[0 1 2 ... 7 8 9]",
            "[0, 1, ..., 9]",
        ],
        ids=repr,
    )
    def test_nested_and_abbreviated_cells_are_refused(self, cell):
        with pytest.raises(
            UnreadableCell, match="Column 'tags' of kind 'multi_valued' must hold lists of single values"
        ):
            cell_values(cell, TAGS)


class TestListsAsText:
    @pytest.mark.parametrize(
        ("cell", "members"),
        [
            ("[8, 9]", ["8", "9"]),
            ("[8,9]", ["8", "9"]),
            ("[8]", ["8"]),
            ("(8, 9)", ["8", "9"]),
            ("(8,)", ["8"]),
            ("{8, 9}", ["8", "9"]),
            ("[ 8  9\n 10]", ["8", "9", "10"]),
            ("[8. 9.]", ["8.", "9."]),
            ("[8.0, 9.5]", ["8", "9.5"]),
            ("['a', 'b']", ["a", "b"]),
            ("['a' 'b']", ["a", "b"]),
            ("['d,e' '' '{z}']", ["d,e", "{z}"]),
            ('["a", "b"]', ["a", "b"]),
            ('["a|b", "c, d"]', ["a|b", "c, d"]),
            ('["caf\\u00e9"]', ["café"]),
            ("""["it's", 'b']""", ["it's", "b"]),
            (r"['it\'s', 'b']", ["it's", "b"]),
            (r"['Sci-Fi\xa0', 'a\nb', '\u200bc', '\U000e0001']", ["Sci-Fi", "a b", "\u200bc", "\U000e0001"]),
            (r"['\\xa0', 'a\\nb', '\d']", [r"\xa0", r"a\nb", "d"]),
            ("[a, b]", ["a", "b"]),
            ("[New York, Rome]", ["New York", "Rome"]),
            ("[New York]", ["New York"]),
            ("{a,b}", ["a", "b"]),
            ("[True, None, 'a']", ["True", "a"]),
            ("[null, nan, 8]", ["8"]),
            ("[np.int64(8), np.str_('a')]", ["8", "a"]),
            ("[Timestamp('2024-01-31 00:00:00')]", ["2024-01-31 00:00:00"]),
            ("[datetime.date(2024, 1, 31), datetime.datetime(2024, 2, 1, 10)]", ["2024-01-31", "2024-02-01 10:00:00"]),
            ("[datetime.date(2024, 1, 31)]", ["2024-01-31"]),
            ("[np.True_, np.False_]", ["True", "False"]),
            ("set()", []),
            ("frozenset()", []),
            # Arrow's maps, as pandas writes them, and counted members
            ("[('a', 0.1), ('b c', 0.9)]", ["b c", "a"]),
            ("[('a,\\xa0b', np.float64(0.1)), ('c', np.int64(2))]", ["c", "a, b"]),
            ("{'a': np.float64(0.1), 'b': np.float64(0.9)}", ["b", "a"]),
            ("[(no genres listed)]", ["(no genres listed)"]),
            ("array([8, 9])", ["8", "9"]),
            ("tensor([8, 9], dtype=torch.int32)", ["8", "9"]),
            ("array(['a', 'b'], dtype=object)", ["a", "b"]),
            ("[12345678901234567890]", ["12345678901234567890"]),
        ],
    )
    def test_members(self, cell, members):
        assert cell_values(cell, TAGS) == members
        assert cell_values(cell, field(separator=",")) == members

    @pytest.mark.parametrize(
        "cell", ["(no genres listed)", "[Remix] Up|[Live] Down", "[a|b]", "Up (2009)", "(2009)", "[", "]", "[]]", "a]"]
    )
    def test_brackets_in_names_are_part_of_them(self, cell):
        assert cell_values(cell, TAGS) == cell.split("|")

    @given(st.lists(st.one_of(st.integers(), st.booleans(), st.text().filter(str.strip)), max_size=5))
    @settings(derandomize=True, max_examples=200, deadline=None)
    def test_lists_and_their_json_are_one(self, members):
        # JSON's own escapes for lone surrogates and white space are read like the characters
        as_list = cell_values(members, TAGS)
        assert cell_values(json.dumps(members), TAGS) == as_list

    @given(st.lists(st.text(alphabet=PRINTED, min_size=1).filter(str.strip), min_size=2, max_size=4))
    @settings(derandomize=True, max_examples=200, deadline=None)
    def test_lists_and_what_python_prints_are_one(self, members):
        as_list = cell_values(members, TAGS)
        assert cell_values(repr(members), TAGS) == as_list
        assert cell_values(repr(np.array(members)), TAGS) == as_list
        assert cell_values(str(np.array(members)), TAGS) == as_list
        assert cell_values(repr(list(map(np.str_, members))), TAGS) == as_list


class TestSeparators:
    @pytest.mark.parametrize(
        "separator", ["|", ";", ",", ", ", " ", "\t", "\x1d", "\x1f", "\u2028", "  ", "\n", "||", "\xa0", "\x01"]
    )
    def test_every_separator_splits(self, separator):
        assert cell_values(
            separator.join(["a b" if separator.strip() else "ab", "c", "d"]), field(separator=separator)
        ) == [
            "a b" if separator.strip() else "ab",
            "c",
            "d",
        ]

    @pytest.mark.parametrize("separator", ["|", "\t", "  ", "\x1d"])
    @pytest.mark.parametrize("cell", [None, float("nan"), pd.NA, pd.NaT, "", " \t "])
    def test_missing_cells_have_no_members(self, cell, separator):
        assert cell_values(cell, field(separator=separator)) == []

    @pytest.mark.parametrize("separator", ["|", "\t"])
    def test_numbers_and_days_are_one_member(self, separator):
        assert cell_values(7.0, field(separator=separator)) == ["7"]
        assert cell_values(pd.Timestamp("2024-01-31"), field(separator=separator)) == ["2024-01-31"]

    def test_blanks_split_runs_of_blanks_and_tabs_do_not_split_words(self):
        assert cell_values("a  b", field(separator=" ")) == ["a", "b"]
        assert cell_values("New York\tRome", field(separator="\t")) == ["New York", "Rome"]
        assert cell_values("New York  Rome", field(separator="  ")) == ["New York", "Rome"]


class TestWeights:
    def test_weights_order_members_and_leave_them(self):
        weighted = field(weight_separator=":")
        assert cell_values("a:0.1|b:0.9|c:0.5", weighted) == ["b", "c", "a"]
        assert cell_values(["a:0.1", "b:2"], weighted) == ["b", "a"]
        assert cell_values("x:y:0.5|z", weighted) == ["z", "x:y"]
        assert cell_values("a:b", weighted) == ["a:b"]

    def test_weights_without_a_separator_for_them_trigger_a_warning(self):
        rows = {"tags": ["a:0.9|b:0.1", "a:0.5", "b:0.5"], "click": [0, 1, 0]}
        with pytest.warns(UserWarning, match="seem to have weights, as in 'a:0.9|b:0.1'.*weight_separator"):
            ClickPromptProcessor.fit(rows, Schema((TAGS,), "click"))

    def test_times_of_day_are_not_weights(self, recwarn):
        rows = {"tags": ["10:30|11:30", "10:45|9:05", "10:15"], "click": [0, 1, 0]}
        ClickPromptProcessor.fit(rows, Schema((TAGS,), "click"))
        assert not recwarn.list


class TestKeep:
    history = "1|2|3|4|5|6|7|8|9|10|11"

    @pytest.mark.parametrize(("keep", "kept"), [("first", "1 2 3 4"), ("last", "8 9 10 11")])
    def test_long_histories(self, keep, kept):
        schema = Schema((field(keep=keep),), "click")
        encoder = FeatureEncoder(schema, [[str(n) for n in range(1, 12)]], [[]])
        assert encoder.encode({"tags": [self.history]}).tolist() == [[int(n) for n in kept.split()]]

    def test_truncation_is_reported(self):
        rows = {"tags": [self.history, "1|2", self.history], "click": [0, 1, 0]}
        with pytest.warns(
            UserWarning, match="2 of 3 training rows have more than 4 values in column 'tags', up to 11: the first 4"
        ):
            processor = ClickPromptProcessor.fit(rows, Schema((TAGS,), "click"))
        assert sorted(processor.vocabularies[0]) == ["1", "2", "3", "4"]
        with pytest.warns(UserWarning, match="the last 4 get ids"):
            processor = ClickPromptProcessor.fit(rows, Schema((field(keep="last"),), "click"))
        assert sorted(processor.vocabularies[0]) == ["1", "10", "11", "2", "8", "9"]

    @pytest.mark.parametrize(
        "options", [{"keep": "middle"}, {"keep": None}, {"weight_separator": " "}, {"weight_separator": 1}]
    )
    def test_wrong_options_are_named(self, options):
        (name,) = options
        with pytest.raises(ValueError, match=f"`{name}` of field 'tags' must be"):
            field(**options)


WAYS_IN = {
    "lists": lambda cells: {"tags": cells},
    "rows": lambda cells: [{"tags": cell} for cell in cells],
    "arrow": lambda cells: pa.table({"tags": cells}),
    "pandas": lambda cells: pd.DataFrame({"tags": cells}),
    "text": lambda cells: {"tags": [json.dumps(cell) for cell in cells]},
    "python text": lambda cells: {"tags": [repr(cell) for cell in cells]},
    "tuples": lambda cells: {"tags": [tuple(cell) for cell in cells]},
    "arrays": lambda cells: {"tags": [np.asarray(cell) for cell in cells]},
    "tensors": lambda cells: {"tags": [torch.tensor(cell) for cell in cells]},
    "separated": lambda cells: {"tags": ["|".join(map(str, cell)) for cell in cells]},
    "large lists": lambda cells: pa.table({"tags": pa.array(cells, pa.large_list(pa.int64()))}),
    "list views": lambda cells: pa.table({"tags": pa.array(cells, pa.list_view(pa.int64()))}),
}
CELLS = [[8, 9], [10], [9, 8, 10]]


@pytest.mark.parametrize("fitted_on", ["lists", "arrow", "text", "separated", "tensors", "large lists"])
@pytest.mark.parametrize("encoded_as", WAYS_IN)
def test_ids_do_not_depend_on_the_way_in(fitted_on, encoded_as):
    fit_rows = WAYS_IN[fitted_on](CELLS)
    fit_rows = (
        fit_rows.append_column("click", [[0, 1, 0]])
        if isinstance(fit_rows, pa.Table)
        else {**fit_rows, "click": [0, 1, 0]}
    )
    processor = ClickPromptProcessor.fit(fit_rows, Schema((TAGS,), "click"))
    # 8 and 9, and 10 too, are in two rows: ties in alphabetical order
    assert processor.vocabularies == [["10", "8", "9"]]
    assert processor(WAYS_IN[encoded_as](CELLS))["feature_ids"] == [[2, 3, -1, -1], [1, -1, -1, -1], [3, 2, 1, -1]]


class TestRefusals:
    schema = Schema((TAGS,), "click")

    def test_fit_names_column_and_row(self):
        rows = {"tags": ["a", "[{'id': 1}]", "a"], "click": [0, 1, 0]}
        for train in (rows, pa.table(rows)):
            with pytest.raises(
                ValueError, match=r"Column 'tags'.*in row 1 of the training rows.*make a column per key"
            ):
                ClickPromptProcessor.fit(train, self.schema)

    def test_structs_and_maps_from_parquet(self):
        structs = pa.table({"tags": [[{"id": 1}], [{"id": 2}]], "click": [0, 1]})
        with pytest.raises(ValueError, match="Column 'tags'.*in row 0 of the training rows"):
            ClickPromptProcessor.fit(structs, self.schema)
        maps = pa.table(
            {
                "tags": pa.array([[("a", 0.1), ("b", 0.9)], [("c", 1.0)]], pa.map_(pa.string(), pa.float64())),
                "click": [0, 1],
            }
        )
        assert ClickPromptProcessor.fit(maps, self.schema).vocabularies == [["a", "b", "c"]]

    def test_the_processor_and_tables_name_the_row(self):
        processor = ClickPromptProcessor.fit({"tags": ["a", "b"], "click": [0, 1]}, self.schema)
        with pytest.raises(ValueError, match="in row 12:"):
            processor({"tags": ["a", "b", "[[1]]"]}, row_offset=10)
        with pytest.raises(ValueError, match="in row 12:"):
            encode_tables([pa.table({"tags": ["a", "b", "[[1]]"]})], processor, with_text=False, row_offset=10)
