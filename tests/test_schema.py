"""Schemas: plain data, and what they refuse."""

import dataclasses
import json
import math

import pytest
import yaml
from tiny_data import tiny_schema

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.reading import load_splits
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.schema_clickprompt import CsvFormat


@pytest.mark.parametrize(("ending", "dump"), [("json", json.dumps), ("yaml", yaml.safe_dump), ("yml", yaml.safe_dump)])
def test_files_round_trip(ending, dump, tmp_path):
    path = tmp_path / f"schema.{ending}"
    path.write_text(dump(json.loads(json.dumps(tiny_schema().to_dict()))))
    assert load_schema(path) == tiny_schema()


def test_a_field_may_be_its_column_name():
    schema = Schema.from_dict({"fields": ["user", {"column": "age", "name": "Age"}], "label": "click"})
    assert schema.fields == (FieldSchema("user", "user"), FieldSchema("age", "Age"))


def test_parts_of_a_time_share_a_column():
    parts = [{"column": "at", "kind": kind} for kind in ("hour", "weekday", "month")]
    schema = Schema.from_dict({"fields": ["user", *parts], "label": "y", "time": "at"})
    assert schema.columns == ["user", "at", "at", "at"]
    assert schema.keys == ["user", "at.hour", "at.weekday", "at.month"]
    assert [member.name for member in schema.fields] == ["user", "at hour", "at weekday", "at month"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"label": "y"}, r"Missing keys in a schema: \['fields'\]"),
        ({"fields": ["a"]}, r"Missing keys in a schema: \['label'\]"),
        ({"fields": [], "label": "y"}, "at least one field"),
        ({"fields": "a", "label": "y"}, "`fields` of a schema must be a list"),
        ({"fields": ["a", "a"], "label": "y"}, r"repeated: \['a'\]"),
        ({"fields": ["y"], "label": "y"}, r"repeated: \['y'\]"),
        ({"fields": ["a"], "label": "y", "targets": 1}, r"Unknown keys in a schema: \['targets'\]"),
        ({"fields": [{"column": "a", "type": "x"}], "label": "y"}, r"Unknown keys in a field: \['type'\]"),
        (
            {"fields": [{"column": "a", "kind": "text", "asvector": True}], "label": "y"},
            r"Unknown keys in a field: \['asvector'\]; known: \['as', 'bucket",
        ),
        (
            {"fields": [{"column": "a", "kind": "text", "as_vector": True}], "label": "y"},
            r"Unknown keys in a field: \['as_vector'\]; known: \['as', ",
        ),
        ({"fields": [{"column": "a", "kind": "texts"}], "label": "y"}, "`kind` of field 'a' must be one of"),
        ({"fields": [{"column": "a", "num_buckets": 1}], "label": "y"}, "`num_buckets` of field 'a'"),
        ({"fields": [{"column": "a", "max_values": 0}], "label": "y"}, "`max_values` of field 'a'"),
        ({"fields": [{"column": "a", "name": 2020}], "label": "y"}, "`name` of field 'a' must be a string, got 2020"),
        ({"fields": [{"column": "a", "separator": 1}], "label": "y"}, "`separator` of field 'a' must be a non-empty"),
        ({"fields": ["a"], "label": "y", "template": "{name}"}, "`template` must contain {value}"),
        ({"fields": [{"column": "a", "buckets": "equal"}], "label": "y"}, "`buckets` of field 'a' must be one of"),
        (
            {"fields": [{"column": "a", "time_format": "ISO"}], "label": "y"},
            "`time_format` of field 'a' must be a datetime.strptime form",
        ),
        (
            {"fields": ["a"], "label": "y", "time_format": 8},
            "`time_format` of a schema must be a datetime.strptime format",
        ),
        (
            {"fields": [{"column": "a", "kind": "text"}], "label": "y"},
            "must include one with ids, but all are of kind 'text'",
        ),
        ({"fields": ["a"], "label": None}, "`label` of a schema must be the name of a column, got None"),
        ({"fields": ["a"], "label": "y", "positive": True}, "`positive` of a schema must be .* quotes"),
        ({"fields": ["a"], "label": "y", "positive": 2}, "`positive` of a schema must be .* got 2. Put .* in quotes"),
        ({"fields": [{"column": "a", "kind": "hour"}] * 2, "label": "y"}, r"repeated: \['a.hour'\]"),
        ({"fields": [{"column": "y", "kind": "hour"}], "label": "y"}, r"repeated: \['y'\]"),
        (
            {"fields": ["a"], "label": "y", "template": "{name} {value} {value}"},
            "`template` must contain {value} once",
        ),
    ],
)
def test_impossible_schemas_are_refused(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Schema.from_dict(data)
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"schema\.json does not hold a valid schema"):
        load_schema(path)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none at .*nowhere\.yaml"):
        load_schema(tmp_path / "nowhere.yaml")
    with pytest.raises(ValueError, match=r"\.yaml, \.yml or \.json"):
        load_schema(tmp_path / "schema.txt")
    (tmp_path / "broken.yaml").write_text("fields: [")
    with pytest.raises(ValueError, match=r"broken\.yaml does not hold a valid schema"):
        load_schema(tmp_path / "broken.yaml")


WRONG_VALUES = (
    *("", "x", None, True, 0, -1, 1.5, 10**12, math.nan, math.inf, b"x", 1j, object()),
    *([], [None], ["a"], [1.5], [[1]], {}, {"a": 1}, (1,)),
)
# by name: what is right among the values above, and the defaults
RIGHT_VALUES = {
    **{"column": ("x",), "name": ("", "x"), "separator": ("x",), "weight_separator": ("x", None)},
    "missing": ([], ["a"], [1.5], (1,)),
    "in_text": (True,),
    **{"fields": (["a"],), "label": ("x",), "time": ("x", None), "positive": ("x", None)},
    **{
        "time_format": (None,),
        "thousands": (None,),
        "csv": (None, {}),
        "tables": (None, []),
        "delimiter": (None, "x"),
        "quote": (None, "x"),
        "escape": (None, "x"),
    },
    **{"column_names": (None, ["a"]), "lines_per_cell": (None, 10**12)},
}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("schema.yaml", "fields: [a]\nlabel: click\nlabel: sold\n", "'label' is repeated in the mapping in line 1"),
        (
            "schema.yaml",
            "label: click\nfields:\n  - column: age\n    kind: numeric\n    kind: categorical\n",
            "'kind' is repeated in the mapping in line 3",
        ),
        ("schema.json", '{"fields": ["a"], "label": "click", "label": "sold"}', "'label' is repeated"),
    ],
)
def test_repeated_keys_are_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} does not hold a valid schema: .* {message}\."):
        load_schema(tmp_path / name)


def test_codes_stay_as_they_are_written(tmp_path):
    """YAML 1.1 has numbers to the bases 2, 8, 16 and 60, and days; what PyYAML writes without quotes is a string."""
    path = tmp_path / "schema.yaml"
    words = "012, 1_000, 12:30, 0x1F, 2024-01-31, 0b11, 1e3, -.5, 1٣"
    path.write_text(f"fields: [{{column: 012, missing: [{words}, -999, 0, 4.50, -1.5e+3, .inf]}}]\nlabel: click\n")
    (field,) = load_schema(path).fields
    assert field.column == "012"
    assert field.missing == (*words.split(", "), "-999", "0", "4.5", "-1500", "inf")


def test_a_byte_order_mark_is_no_part_of_a_schema(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"fields": ["a"], "label": "click"}', encoding="utf-8-sig")
    assert load_schema(path).columns == ["a"]


def test_a_schema_is_given_as_an_object_plain_data_or_a_file(tmp_path):
    data = {"fields": ["a"], "label": "y"}
    (tmp_path / "schema.json").write_text(json.dumps(data))
    (tmp_path / "rows.csv").write_text("a,y\n" + "u,0\nv,1\n" * 10)
    rows = {"a": ["u", "v"], "y": [0, 1]}
    for given in (data, tmp_path / "schema.json", str(tmp_path / "schema.json"), Schema.from_dict(data)):
        assert ClickPromptProcessor.fit(rows, given).schema == Schema.from_dict(data)
        assert load_splits("csv", tmp_path / "rows.csv", given)[1] == Schema.from_dict(data)
    for refused in (3, ["a"]):
        message = f"`schema` must be a Schema, a mapping or the path of a schema file, got {type(refused).__name__}"
        with pytest.raises(ValueError, match=message):
            ClickPromptProcessor.fit(rows, refused)
        with pytest.raises(ValueError, match=message):
            load_splits("csv", tmp_path / "rows.csv", refused)


def test_a_name_is_not_a_tokenizer():
    data = {"fields": ["a"], "label": "y"}
    with pytest.raises(ValueError, match=r"`tokenizer` must be .* AutoTokenizer.from_pretrained\('roberta-base'\)"):
        ClickPromptProcessor.fit({"a": ["u", "v"], "y": [0, 1]}, data, "roberta-base")


@pytest.mark.parametrize("value", WRONG_VALUES)
def test_whether_a_text_is_a_vector_is_true_or_false(value):
    if value is True:
        return
    with pytest.raises(ValueError, match="`as_vector` of field 'a' must be true or false, got "):
        FieldSchema("a", kind="text", as_vector=value)
    with pytest.raises(ValueError, match="`as` of field 'a' must be 'vector', got "):
        Schema.from_dict({"fields": [{"column": "a", "kind": "text", "as": value}], "label": "y"})


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(FieldSchema) if field.name != "as_vector"]
)
def test_every_value_of_a_field_is_right_or_refused_by_name(name):
    for value in WRONG_VALUES:
        data = {"fields": [{"column": "a", name: value}, "b"], "label": "y"}
        if any(value is right or (type(value), value) == (type(right), right) for right in RIGHT_VALUES.get(name, ())):
            Schema.from_dict(data)
            continue
        for build in (
            lambda value=value: FieldSchema(**{"column": "a", name: value}),
            lambda d=data: Schema.from_dict(d),
        ):
            with pytest.raises(ValueError, match=rf"`{name}`.* must be .*, got "):
                build()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Schema)])
def test_every_value_of_a_schema_is_right_or_refused_by_name(name):
    for value in WRONG_VALUES:
        data = {"fields": ["a"], "label": "y", name: value}
        if any(value is right or value == right for right in RIGHT_VALUES.get(name, ())):
            Schema.from_dict(data)
        else:
            with pytest.raises(ValueError, match=rf"`{name}(\[0\])?`.* (must|of a schema)"):
                Schema.from_dict(data)
        if name not in ("fields", "csv") and value not in RIGHT_VALUES.get(name, ()):
            with pytest.raises(ValueError, match=rf"`{name}`.* (must|of a schema)"):
                Schema(**{"fields": (FieldSchema("a"),), "label": "y", name: value})
    with pytest.raises(ValueError, match="`fields` of a schema must be a sequence of FieldSchema"):
        Schema(fields=("a",), label="y")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(CsvFormat)])
def test_every_value_of_the_csv_part_is_right_or_refused_by_name(name):
    for value in WRONG_VALUES:
        data = {"fields": ["a"], "label": "y", "csv": {name: value}}
        if any(value is right or value == right for right in RIGHT_VALUES.get(name, ())):
            Schema.from_dict(data)
        else:
            with pytest.raises(ValueError, match=rf"`{name}` of `csv` must "):
                Schema.from_dict(data)


def test_bounds():
    largest = {"column": "a", "kind": "numeric", "num_buckets": 10_000}, {"column": "b", "max_values": 1_000}
    Schema.from_dict({"fields": [*largest, *map(str, range(1_998))], "label": "y"})
    for data, message in (
        ({"fields": [{"column": "a", "num_buckets": 10_001}]}, "`num_buckets` of field 'a' must be at most 10,000"),
        ({"fields": [{"column": "a", "num_buckets": 10**9}]}, "must be at most 10,000, got 1000000000"),
        ({"fields": [{"column": "a", "max_values": 10**6}]}, "`max_values` of field 'a' must be at most 1,000"),
        ({"fields": [str(number) for number in range(10_000)]}, "`fields` of .* at most 2,000, got 10000"),
    ):
        with pytest.raises(ValueError, match=message):
            Schema.from_dict({**data, "label": "y"})
