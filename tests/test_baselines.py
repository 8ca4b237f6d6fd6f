"""Baselines of a comparison, on tiny tables with values computed by hand."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.comparison.baselines import (
    SMOOTHING,
    BestColumn,
    ConstantRate,
    GradientBoosting,
    OneHotLogisticRegression,
    RawRows,
    cross_fitted_rates,
    fit_words,
    one_hot,
    smoothed_rates,
)

SCHEMA = Schema(
    (
        FieldSchema("user"),
        FieldSchema("price", kind="numeric", num_buckets=2, missing=("-1",)),
        FieldSchema("tags", kind="multi_valued", max_values=2),
        FieldSchema("title", kind="text"),
    ),
    label="click",
)
FOUR_ROWS = pa.table(
    {
        "user": ["a", "a", "b", None],
        "price": [1.5, None, -1.0, 4.0],
        "tags": [["x", "y"], [], ["y"], ["z"]],
        "title": ["Red shoes 12", "red", None, "blue"],
        "click": [1, 0, 1, 0],
    }
)


def table_of(num_rows, seed=0):
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, 4, num_rows)
    words = np.asarray(["red shoes", "blue shoes", "red hat", "old hat"])
    return pa.table(
        {
            "user": [f"u{number}" for number in draw.integers(0, 30, num_rows)],
            "price": draw.normal(size=num_rows),
            "tags": [["x"] if kind % 2 else ["x", "y"] for kind in kinds],
            "title": words[kinds].tolist(),
            "click": (draw.random(num_rows) < np.where(kinds == 0, 0.9, 0.2)).astype(int),
        }
    )


def fitted(baseline, train, validation, metric="auc", **hyperparameters):
    clicks = [table.column("click").to_numpy() for table in (train, validation)]
    features = baseline.fit_features(train, clicks[0])
    baseline.fit(features, clicks[0], (baseline.features(validation), clicks[1]), metric, **hyperparameters)
    return baseline


def test_raw_rows_are_read_as_the_schema_says():
    rows = RawRows(ClickPromptProcessor.fit(FOUR_ROWS, SCHEMA))
    user, price, tags = rows.ids(FOUR_ROWS)
    assert (user[0] == user[1]).all()
    assert len({int(user[0, 0]), int(user[2, 0]), int(user[3, 0])}) == 3
    assert price.shape == (4, 1)
    assert (tags[1] == -1).sum() + (tags[1] > 0).sum() == 2
    numbers = rows.numbers(FOUR_ROWS)[:, 0]
    # -1 means missing
    assert numbers[[0, 3]].tolist() == [1.5, 4.0]
    assert np.isnan(numbers[[1, 2]]).all()
    assert [text.split()[-1] for text in rows.texts(FOUR_ROWS)] == ["12", "red", "unknown", "blue"]
    unseen = rows.ids(FOUR_ROWS.set_column(0, "user", pa.array(["new"] * 4)))[0]
    assert unseen.tolist() == [[0]] * 4


def test_smoothed_rates_by_hand():
    ids = np.array([[1], [1], [2], [0]])
    clicks = np.array([1, 0, 1, 0])
    # the overall rate is 1/2; id 0, unseen, has it
    expected = [0.5, (1 + 2 * 0.5) / (2 + 2), (1 + 2 * 0.5) / (1 + 2), 0.5]
    assert smoothed_rates(ids, clicks, 4, smoothing=2).tolist() == pytest.approx(expected)
    # a row with two values counts for both, an empty slot for none
    both = smoothed_rates(np.array([[1, 2], [2, -1]]), np.array([1, 0]), 3, smoothing=1)
    assert both.tolist() == pytest.approx([0.5, (1 + 0.5) / 2, (1 + 0.5) / 3])


def test_training_rows_are_encoded_by_the_rates_of_other_folds():
    draw = np.random.default_rng(0)
    ids, clicks = draw.integers(1, 4, (40, 2)), np.arange(40) % 2
    found = cross_fitted_rates(ids, clicks, [4, 4], seed=3)
    for others, rows in StratifiedKFold(5, shuffle=True, random_state=3).split(ids, clicks):
        mean = clicks[others].mean()
        for row in rows:
            for field in (0, 1):
                same = others[ids[others, field] == ids[row, field]]
                by_hand = (clicks[same].sum() + SMOOTHING * mean) / (len(same) + SMOOTHING)
                assert found[row, field] == pytest.approx(by_hand)


def test_one_hot_has_a_one_per_value():
    assert one_hot(np.array([[1, -1], [0, 2]]), 3).toarray().tolist() == [[0, 1, 0], [1, 0, 1]]


def test_the_constant_is_the_click_rate_of_training_rows():
    train, validation = table_of(200), table_of(50, seed=1)
    constant = fitted(ConstantRate(ClickPromptProcessor.fit(train, SCHEMA)), train, validation)
    assert set(constant.predict(validation)) == {train.column("click").to_numpy().mean()}


def test_the_best_column_is_chosen_on_validation_rows():
    draw = np.random.default_rng(0)
    schema = Schema((FieldSchema("row"), FieldSchema("kind")), label="click")

    def rows(first):
        kinds = draw.integers(0, 2, 200)
        clicks = np.where(draw.random(200) < 0.8, kinds, 1 - kinds)
        return pa.table({"row": np.arange(first, first + 200), "kind": kinds, "click": clicks})

    train, validation = rows(0), rows(200)
    # on training rows, the rates of "row" would separate the classes
    best = fitted(BestColumn(ClickPromptProcessor.fit(train, schema)), train, validation)
    assert best.chosen == {"column": "kind"}
    assert roc_auc_score(validation.column("click").to_numpy(), best.predict(validation)) > 0.7


def test_gradient_boosting_reads_categories_numbers_and_text():
    train, validation = table_of(600), table_of(300, seed=1)
    clicks, processor = validation.column("click").to_numpy(), ClickPromptProcessor.fit(train, SCHEMA)
    plain, with_text = (
        fitted(GradientBoosting(processor, 0, with_text), train, validation, num_leaves=7)
        for with_text in (False, True)
    )
    # user, price, and two tags
    assert plain.features(validation).shape == (300, 4)
    assert plain.model.params["categorical_column"] == [0]
    # also the user's rate and the text's components, whose words are not those of the user, a native category
    assert with_text.features(validation).shape[1] > 5
    assert not [word for word in with_text.words.vocabulary_ if word.startswith("u")]
    scores = [roc_auc_score(clicks, model.predict(validation)) for model in (plain, with_text)]
    assert scores[1] > scores[0] + 0.02, scores


def test_lightgbm_splits_by_sets_of_categories():
    draw = np.random.default_rng(0)
    schema = Schema((FieldSchema("kind"),), label="click")
    # every second of the values is clicked: one split by sets of values tells them apart, one by order does not
    kinds = draw.integers(0, 20, 800)
    clicks = (draw.random(800) < np.where(kinds % 2, 0.9, 0.1)).astype(int)
    table = pa.table({"kind": [f"k{kind}" for kind in kinds], "click": clicks})
    booster = fitted(GradientBoosting(ClickPromptProcessor.fit(table, schema)), table, table, num_leaves=4)
    splits = {node["decision_type"] for tree in booster.model.dump_model()["tree_info"] for node in nodes(tree)}
    assert splits == {"=="}


def nodes(tree):
    waiting = [tree["tree_structure"]]
    while waiting:
        node = waiting.pop()
        if "decision_type" in node:
            yield node
            waiting += [node["left_child"], node["right_child"]]


@pytest.mark.parametrize("make", [OneHotLogisticRegression, BestColumn, GradientBoosting])
@pytest.mark.parametrize("with_text", [False, True])
def test_labels_do_not_leak_through_ids(make, with_text):
    """Labels are drawn, and ids are unique: whatever predicts them has seen them."""
    draw = np.random.default_rng(0)
    schema = Schema((FieldSchema("row"), FieldSchema("group"), FieldSchema("name", kind="text")), label="click")

    def rows(first):
        numbers = np.arange(first, first + 1000)
        names = [f"name{number % 50} of row" for number in numbers]
        return pa.table(
            {"row": numbers, "group": draw.integers(0, 400, 1000), "name": names, "click": draw.integers(0, 2, 1000)}
        )

    train, validation, test = rows(0), rows(1000), rows(2000)
    processor = ClickPromptProcessor.fit(train, schema)
    baseline = make(processor, 0, with_text=True) if with_text and make is GradientBoosting else make(processor)
    fitted(baseline, train, validation)
    assert abs(roc_auc_score(test.column("click").to_numpy(), baseline.predict(test)) - 0.5) < 0.06
    if make is GradientBoosting and with_text:
        # the rates that the trees learn from say nothing about the rows they belong to
        clicks = train.column("click").to_numpy()
        rates = cross_fitted_rates(np.concatenate(baseline.rows.ids(train), axis=1), clicks, [1001, 400], 0)
        assert abs(roc_auc_score(clicks, rates[:, 1]) - 0.5) < 0.06


def test_logistic_regression_reads_words():
    train, validation = table_of(600), table_of(300, seed=1)
    clicks = validation.column("click").to_numpy()
    model = fitted(OneHotLogisticRegression(ClickPromptProcessor.fit(train, SCHEMA)), train, validation, C=0.1)
    without_words = train.set_column(3, "title", pa.array(["12"] * 600))
    other = fitted(OneHotLogisticRegression(model.rows.processor), without_words, without_words, C=0.1)
    assert roc_auc_score(clicks, model.predict(validation)) > roc_auc_score(clicks, other.predict(validation)) + 0.03


@pytest.mark.parametrize("make", [OneHotLogisticRegression, GradientBoosting])
def test_vectors_are_numbers(make):
    draw = np.random.default_rng(0)
    vectors, users = draw.normal(7, 3, (400, 2)), draw.integers(0, 5, 400).astype(str)
    clicks = (vectors[:, 1] > 7).astype(int)
    cells = [None if row == 1 else vector.tolist() for row, vector in enumerate(vectors)]
    table = pa.table({"user": users, "v": cells, "click": clicks})
    schema = Schema((FieldSchema("user"), FieldSchema("v", kind="vector")), label="click")
    model = fitted(make(ClickPromptProcessor.fit(table, schema)), table.slice(0, 300), table.slice(300))
    numbers = model.rows.numbers(table)
    assert np.isnan(numbers[1]).all()
    known = np.delete(vectors, 1, axis=0)
    np.testing.assert_allclose(np.delete(numbers, 1, axis=0), (known - known.mean(axis=0)) / known.std(axis=0), 1e-4)
    assert roc_auc_score(clicks[300:], model.predict(table.slice(300))) > 0.95


def test_texts_without_words_are_left_out():
    assert fit_words(["12", "12 7", ""]) is None
    assert sorted(fit_words(["red 12", "red hat", "old hat"]).vocabulary_) == ["hat", "red"]


@pytest.mark.parametrize("make", [ConstantRate, BestColumn])
def test_click_rates_are_not_calibrated(make):
    train, validation = table_of(600), table_of(300, seed=1)
    more_clicks = validation.set_column(4, "click", pa.array(([1] * 4 + [0]) * 60))
    model = fitted(make(ClickPromptProcessor.fit(train, SCHEMA)), train, more_clicks)
    before = model.predict(validation)
    model.calibrate(model.features(more_clicks), more_clicks.column("click").to_numpy())
    np.testing.assert_array_equal(model.predict(validation), before)


def test_calibration_repairs_probabilities_of_other_scale():
    train, validation = table_of(600), table_of(300, seed=1)
    model = fitted(OneHotLogisticRegression(ClickPromptProcessor.fit(train, SCHEMA)), train, validation, C=1e5)
    clicks = validation.column("click").to_numpy()
    before = model.predict(validation)
    model.calibrate(model.features(validation), clicks)
    after = model.predict(validation)
    assert (np.argsort(before) == np.argsort(after)).all()
    assert model.calibration.scale < 1
