"""Schemas drafted in code, from tables in memory."""

import base64
import hashlib
import re
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from own_tables import clinic, loans, shop

from clickprompt_hf import ClickPromptProcessor, FieldSchema
from clickprompt_hf.data.delong import compare_aucs, p_value
from clickprompt_hf.data.schema_file import load_schema
from clickprompt_hf.drafting import schema_draft
from clickprompt_hf.drafting.schema_draft import draft_schema_of
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


DRAW = np.random.default_rng(0)
ROWS = 600
REPEATED = DRAW.integers(100, 400, ROWS).tolist()
HASHES = {
    "hex": [f"{(n % 40 + 7) * 2654435761 % 2**32:08x}" for n in REPEATED],
    "uuid": [str(uuid.UUID(int=(n % 40 + 1) * 2**64 * 99991)) for n in REPEATED],
    "base64": [base64.b64encode(hashlib.sha256(b"%d" % (n % 40)).digest()).decode() for n in REPEATED],
}


def fields_of(**columns) -> dict[str, dict]:
    """Options of the drafted fields by column, beside a user, a column of words and a label."""
    others = {"u": [f"u{n % 9}" for n in range(ROWS)], "word": ["red", "sky blue", "green"] * (ROWS // 3)}
    schema = draft_schema_of(pa.table({**columns, **others, "click": [0, 1] * (ROWS // 2)}))
    plain = FieldSchema("x")
    return {
        field.column: {
            name: value
            for name, value in vars(field).items()
            if name not in ("column", "name") and value != getattr(plain, name)
        }
        for field in schema.fields
    }


@pytest.mark.parametrize(
    "name", ["user", "item", "customer", "movie", "book", "uid", "sku", "asin", "policy_number", "Job"]
)
def test_numbers_named_after_a_thing_are_ids(name):
    assert fields_of(**{name: REPEATED})[name] == {"in_text": False}


@pytest.mark.parametrize(
    "name", ["respondent", "participant", "cust_no", "custno", "visitor_nbr", "buyer_ref", "CustomerNumber"]
)
def test_numbers_of_persons_are_ids(name):
    assert fields_of(**{name: REPEATED})[name] == {"in_text": False}


def test_numbers_that_repeat_equally_often_are_ids():
    # 100 persons of 6 rows each, in any order; under a name that does not tell
    equal = DRAW.permutation(np.repeat(np.arange(100) * 7 + 1000, ROWS // 100))
    assert fields_of(who=equal.tolist())["who"] == {"in_text": False}
    (profile,) = schema_draft.profile_columns(pa.table({"who": equal}))
    assert profile.doubts == [
        "treated as ids, because each number is in about 6 rows; if the numbers measure something, add `kind: numeric`"
    ]
    # also if a tenth of the rows is elsewhere
    (profile,) = schema_draft.profile_columns(pa.table({"who": equal[: 9 * ROWS // 10]}))
    assert profile.kind == "categorical"


def test_measured_numbers_and_places_in_an_order_stay_numbers():
    # drawn from 100 numbers: in 6 rows on average, but not in each
    assert fields_of(who=DRAW.integers(0, 100, ROWS).tolist())["who"] == {"kind": "numeric"}
    assert fields_of(who=[n + 0.5 for n in np.repeat(np.arange(100), 6)])["who"] == {"kind": "numeric"}
    assert fields_of(list_position=DRAW.permutation(np.arange(ROWS) % 50).tolist())["list_position"] == {
        "kind": "numeric"
    }
    # a bell: most numbers in the middle
    assert fields_of(who=DRAW.normal(50, 12, ROWS).round().tolist())["who"] == {"kind": "numeric"}


def cells_as_text(cells) -> list[str]:
    return ["" if cell is None else str(cell) for cell in cells]


@pytest.mark.parametrize("written", [list, cells_as_text], ids=["list column", "text"])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_lists_of_fractions_of_one_length_are_vectors(written, size):
    cells = [None if n % 10 == 0 else DRAW.normal(size=size).tolist() for n in range(ROWS)]
    rows = pa.table({"point": written(cells), "u": REPEATED, "click": [0, 1] * (ROWS // 2)})
    schema = draft_schema_of(rows)
    assert schema.fields[0] == FieldSchema("point", "Point", "vector")
    assert ClickPromptProcessor.fit(rows, schema).vector_sizes == [size]
    profile = schema_draft.profile_columns(rows)[0]
    assert profile.summary == f"vectors of {size} numbers"
    said = ["lists of fractions of equal length are vectors; if the numbers are categories, use `kind: multi_valued`"]
    assert profile.doubts == (said if size < 8 else [])


@pytest.mark.parametrize("written", [list, cells_as_text], ids=["list column", "text"])
@pytest.mark.parametrize("why", ["lengths", "missing entries"])
def test_other_lists_of_fractions_say_why_they_are_not_vectors(written, why):
    cells = [[0.25, n % 7 + 0.5] for n in range(ROWS)]
    for cell in cells[::3]:
        cell[1:] = [] if why == "lengths" else [None]
    profile = schema_draft.profile_columns(pa.table({"point": written(cells)}))[0]
    assert profile.kind == "multi_valued"
    assert any("`kind: vector` needs lists in brackets, of the same length" in doubt for doubt in profile.doubts)
    # whole numbers are ids
    whole = [[3.0, 4.0], [5.0], [4.0, 5.0]] * (ROWS // 3)
    profile = schema_draft.profile_columns(pa.table({"genres": written(whole)}))[0]
    assert (profile.kind, profile.doubts) == ("multi_valued", [])


@pytest.mark.parametrize("name", ["user_age", "item_price", "customers", "age", "movie_length"])
def test_other_numbers_stay_numbers(name):
    assert fields_of(**{name: REPEATED})[name] == {"kind": "numeric"}
    # an amount, whatever its name
    amounts = [n + 0.5 for n in REPEATED]
    assert fields_of(account=amounts)["account"] == {"kind": "numeric"}


def test_numbers_of_things_that_do_not_repeat_are_row_ids():
    assert "encounter" not in fields_of(encounter=[7 * n + 11 for n in range(ROWS)])


def test_codes_of_categories_are_categories():
    assert fields_of(occupation=[n % 21 for n in range(ROWS)])["occupation"] == {}
    assert fields_of(region_share=[n / 7 for n in range(ROWS)])["region_share"] == {"kind": "numeric"}


PLACES = ["Austin, TX", "Reno, NV", "Salem, OR", "Ho Chi Minh City", "New York City, NY, USA"]


@pytest.mark.parametrize("name", ["city", "location", "native-country", "homeState"])
def test_places_are_categories(name):
    places = [f"{PLACES[n % 5]}, block {n % 60}" for n in REPEATED]
    assert fields_of(**{name: places})[name] == {}
    # addresses of one row each are no categories
    assert fields_of(**{name: [f"{n} street of {n}" for n in range(ROWS)]})[name] == {"kind": "text"}


@pytest.mark.parametrize("kind", HASHES)
def test_hashes_are_ids_without_text(kind):
    assert fields_of(page_view=HASHES[kind])["page_view"] == {"in_text": False}
    # also if they are few
    few = {value: n % 3 for n, value in enumerate(dict.fromkeys(HASHES[kind]))}
    kept = [value for value, n in few.items()][:3]
    assert fields_of(kind=[kept[n % 3] for n in range(ROWS)])["kind"] == {"in_text": False}


@pytest.mark.parametrize("words", ["iPhoneProMaxTitanium", "SamsungGalaxyUltraPhone", "electroniccigarettes"])
def test_words_written_together_are_not_hashes(words):
    assert fields_of(product_line=[f"{words}{'abc'[n % 3]}" for n in range(ROWS)])["product_line"] == {}


def test_hours_behind_days_are_times():
    hours = [14102100 + n % 24 for n in REPEATED]
    schema = draft_schema_of(pa.table({"hour": hours, "u": REPEATED, "click": [0, 1] * (ROWS // 2)}))
    assert schema.fields[0] == FieldSchema("hour", "Hour", "hour", time_format="%y%m%d%H")
    assert (schema.time, schema.time_format) == ("hour", "%y%m%d%H")


def test_a_family_of_columns_has_one_kind():
    # 11 and 10 distinct numbers: one is numeric by itself, the other is not
    late = {"PAY_0": [n % 11 - 2 for n in REPEATED], "PAY_2": [n % 10 - 2 for n in REPEATED]}
    found = fields_of(**late)
    assert found["PAY_0"] == found["PAY_2"] == {}
    many = {"lab1": [n % 40 for n in REPEATED], "lab2": [4 * (n % 10) for n in REPEATED]}
    found = fields_of(**many)
    assert found["lab1"] == found["lab2"] == {"kind": "numeric"}
    # other ranges
    unlike = {"qty1": [n % 5 for n in REPEATED], "qty2": REPEATED}
    found = fields_of(**unlike)
    assert (found["qty1"], found["qty2"]) == ({}, {"kind": "numeric"})


def test_a_family_of_columns_has_one_kind_of_buckets():
    skewed = [np.exp(DRAW.normal(0, 2.5, ROWS)).tolist() for _ in range(2)]
    even = DRAW.uniform(0, 100, ROWS).tolist()
    found = fields_of(amt1=skewed[0], amt2=skewed[1], amt3=even)
    assert [found[name].get("buckets") for name in ("amt1", "amt2", "amt3")] == ["log"] * 3
    found = fields_of(amt1=skewed[0], amt2=even, amt3=even)
    assert [found[name].get("buckets") for name in ("amt1", "amt2", "amt3")] == [None] * 3


def test_numbers_that_say_much_by_themselves_get_more_buckets():
    """Zero in most rows, and 40 amounts, every other of which is clicked; beside it, a number with a smooth effect."""
    draw = np.random.default_rng(0)
    rows = 4000
    amounts = np.where(draw.random(rows) < 0.6, 0, draw.integers(1, 41, rows) * 150)
    smooth = draw.normal(size=rows).round(3)
    chance = np.where(amounts > 0, np.where(amounts // 150 % 2, 0.9, 0.1), 0.3) + 0.05 * np.tanh(smooth)
    click = (draw.random(rows) < chance).astype(int)
    given = pa.table({"gain": amounts, "noise": draw.normal(size=rows).round(3), "smooth": smooth, "click": click})
    draft = schema_draft.draft_of(schema_draft.profile_columns(given))
    profiles = {profile.name: profile for profile in draft.columns}
    found = {name: profile.options.get("num_buckets") for name, profile in profiles.items()}
    assert found == {"gain": 32, "noise": None, "smooth": None}
    assert [field.num_buckets for field in draft.schema().fields] == [32, 10, 10]
    (said,) = [doubt for doubt in profiles["gain"].doubts if doubt.startswith("32 buckets")]
    better, worse = map(float, re.findall(r"0\.\d+", said))
    assert better < worse - 0.05
    # with as many distinct numbers as buckets, more buckets change nothing
    few = given.set_column(0, "gain", pa.array(amounts // 600))
    profiles = schema_draft.draft_of(schema_draft.profile_columns(few)).columns
    assert all("num_buckets" not in profile.options for profile in profiles)


@pytest.mark.parametrize(
    ("name", "words", "positive"),
    [
        ("salary", ("<=50K", ">50K"), ">50K"),
        ("stars", ("<= 3", "> 3"), "> 3"),
        ("verdict", ("bad", "good"), "good"),
        ("verdict", ("good", "bad"), "good"),
        ("risk", ("good", "bad"), "bad"),
        ("outcome", ("rejected", "hired"), "hired"),
        ("outcome", ("hired", "rejected"), "hired"),
        ("target", ("functional", "non functional"), "functional"),
        ("churned", ("No", "Yes"), "Yes"),
    ],
)
def test_labels_in_words(name, words, positive):
    # the first word is the more frequent one
    cells = [words[0], words[0], words[1]] * (ROWS // 3)
    schema = draft_schema_of(pa.table({"u": REPEATED, "sex": ["f", "m"] * (ROWS // 2), name: cells}))
    assert (schema.label, schema.positive) == (name, positive)


def printed(folder, **columns) -> str:
    pa_csv.write_csv(pa.table({**columns, "click": [0, 1] * (ROWS // 2)}), folder / "t.csv")
    return draft_schema(folder / "t.csv")


TITLES = [f"the film of number {n % 90} and more" for n in REPEATED]


def test_the_draft_chooses_the_text_that_rows_share(tmp_path):
    prices = DRAW.uniform(0, 9, ROWS).round(4).tolist()
    text = printed(
        tmp_path, user=REPEATED, price=prices, author=[f"Jo Doe of {title}" for title in TITLES], title=TITLES
    )
    assert '# Because of "price", hardly any rows share a text.' in text
    assert "# --text_fields author title leaves 90 texts" in text
    assert "--plm_name_or_path MODEL --text_fields author title --arms " in text
    assert "--ctr_only --vector_fields author title --text_encoder MODEL --output_dir runs/vectors" in text
    assert "MODEL --text_fields author title --prompt_depth 2 --cache_text_states true --output_dir" in text
    # shared as it is
    text = printed(tmp_path, user=REPEATED, title=TITLES)
    assert "hardly any" not in text
    assert "MODEL --prompt_depth 2 --cache_text_states true --output_dir" in text


def test_free_cells_that_differ_from_row_to_row_are_named(tmp_path):
    notes = [f"a note on {n} by its owner" for n in range(ROWS)]
    text = printed(tmp_path, user=REPEATED, notes=notes, title=TITLES)
    assert '# "notes": nearly every row has different words' in text
    assert "--text_fields title leaves 90 texts" in text
    assert "but other free text is then unused" in text
    # the command keeps the notes, and caches nothing
    command = next(line for line in text.splitlines() if "finetune" in line and "MODEL" in line)
    assert "--text_fields" not in command
    assert "--cache_text_states" not in command


def test_tables_without_words_are_compared_without_a_language_model(tmp_path):
    text = printed(tmp_path, user=REPEATED, color=["red", "blue"] * (ROWS // 2))
    assert "MODEL" not in text
    assert (
        "--schema schema.yaml --arms logistic_regression gradient_boosting backbone --output_dir runs/compare" in text
    )
    assert "batch_size" not in text


def test_lists_of_fractions_in_json_lines_are_vectors_as_in_other_files():
    # such files keep the spelling of numbers
    cells = [None if n % 10 == 0 else ["0.25", repr(n / 8), "-1e-05"] for n in range(ROWS)]
    rows = pa.table({"point": cells, "u": REPEATED, "click": [0, 1] * (ROWS // 2)})
    schema = draft_schema_of(rows)
    assert schema.fields[0] == FieldSchema("point", "Point", "vector")
    assert ClickPromptProcessor.fit(rows, schema).vector_sizes == [3]
    for broken in (["0.25"], ["0.25", None, "1.5"], ["0.25", "1.5", "inf"], ["0.25", "1.5", "x"], ["1", "2", "3"]):
        (profile,) = schema_draft.profile_columns(pa.table({"point": [*cells, broken]}))
        assert profile.kind == "multi_valued", broken
