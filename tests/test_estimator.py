"""`ClickPromptClassifier` keeps scikit-learn's contracts, whatever container the features come in."""

import copy
import json
import pickle
import shutil
from datetime import date, datetime

import datasets
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny_data import tiny_roberta_tokenizer
from tiny_models import tiny_text_config
from transformers import AutoModel, AutoModelForSequenceClassification, RobertaModel, pipeline

import clickprompt_hf
from clickprompt_hf import ClickPromptForCTR, ClickPromptModel, ClickPromptProcessor, Schema
from clickprompt_hf.estimator import ClickPromptClassifier, classifier, drafting
from clickprompt_hf.estimator.feature_tables import _arrow_column
from clickprompt_hf.labels_clickprompt import labels_of
from clickprompt_hf.presets import table_preset
from clickprompt_hf.scoring import score_table

TINY = {"embedding_size": 4, "dnn_hidden_sizes": [8], "num_cross_layers": 1}


def tiny_classifier(**parameters):
    return ClickPromptClassifier(
        **{"max_epochs": 1, "batch_size": 16, "learning_rate": 0.02, "ctr_config": TINY, "random_state": 0}
        | parameters
    )


# All checks that apply to a binary classifier pass: none is expected to fail.
@parametrize_with_checks([tiny_classifier(max_epochs=4, learning_rate=0.05, validation_fraction=0.0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def table_of(num_rows=120, seed=0):
    """Features of several kinds, some cells of which are missing, and labels that depend on the first column alone."""
    draw = np.random.default_rng(seed)
    color = draw.choice(["red", "green", "blue"], num_rows)
    frame = pd.DataFrame(
        {
            "color": color,
            "price": np.where(draw.random(num_rows) < 0.1, np.nan, draw.normal(size=num_rows).round(3)),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 90_000, num_rows), "min"),
            "shop": pd.Categorical(draw.choice(["a", "b"], num_rows)),
            "constant": 7,
        }
    )
    frame.loc[frame.index % 9 == 4, "color"] = None
    return frame, np.where(frame["color"] == "red", "yes", "no")


@pytest.fixture(scope="module")
def fitted():
    X, y = table_of()
    return tiny_classifier(max_epochs=6).fit(X, y)


def test_it_learns(fitted):
    X, y = table_of(seed=1)
    assert fitted.classes_.tolist() == ["no", "yes"]
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (120, 2)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(120))
    assert roc_auc_score(y == "yes", probabilities[:, 1]) > 0.99
    assert fitted.predict(X).tolist() == [fitted.classes_[int(p > 0.5)] for p in probabilities[:, 1]]
    assert fitted.score(X, y) == np.mean(fitted.predict(X) == y)


def test_what_a_fit_records(fitted):
    assert fitted.n_features_in_ == 5
    assert fitted.feature_names_in_.tolist() == ["color", "price", "at", "shop", "constant"]
    # the constant column cannot say anything
    assert fitted.schema_.keys == ["color", "price", "at.hour", "at.weekday", "shop"]
    assert fitted.schema_.positive == "yes"
    # stopped early: the AUC was 1 and could not improve
    assert 3 <= len(fitted.history_) < 6
    assert {"epoch", "auc", "log_loss"} == set(fitted.history_[0])


def test_validation_rows_are_not_part_of_the_draft(monkeypatch):
    """Neither their labels, which choose buckets and name leaks, nor their values."""
    X, y = table_of(100)
    X["row"] = [f"row {n}" for n in range(100)]
    drafted, trained_on, fit = [], [], ClickPromptProcessor.fit

    def draft(table, clicks, *others):
        drafted.append((table, clicks))
        return drafting.drafted_schema(table, clicks, *others)

    def fit_processor(train, *others, **options):
        trained_on.append(train)
        return fit(train, *others, **options)

    monkeypatch.setattr(classifier, "drafted_schema", draft)
    monkeypatch.setattr(ClickPromptProcessor, "fit", fit_processor)
    found = tiny_classifier(validation_fraction=0.3).fit(X, y)
    ((table, clicks),), (train,) = drafted, trained_on
    assert len(table) == 70
    # in the order of the training rows, with their labels
    assert table["price"].equals(train["price"])
    rows = [int(row.removeprefix("row ")) for row in table["row"].to_pylist()]
    assert clicks.tolist() == [int(y[row] == "yes") for row in rows]
    # what differs in validation rows alone is constant in the draft
    X["late"] = ["a" if n in rows else "b" for n in range(100)]
    again = tiny_classifier(validation_fraction=0.3).fit(X, y)
    assert again.schema_ == found.schema_


def test_containers_give_the_same_model():
    X, y = table_of(60)
    columns = {name: X[name].tolist() for name in X}
    rows = X.astype(object).where(X.notna(), None).to_dict("records")
    expected = tiny_classifier(validation_fraction=0).fit(X, y).predict_proba(X)
    polars = pytest.importorskip("polars")
    arrow = pa.Table.from_pandas(X)
    for other in (polars.from_pandas(X), arrow, arrow.to_batches()[0], columns, rows, datasets.Dataset(arrow)):
        classifier = tiny_classifier(validation_fraction=0).fit(other, polars.Series(y))
        assert classifier.feature_names_in_.tolist() == list(X.columns)
        np.testing.assert_allclose(classifier.predict_proba(other), expected, rtol=1e-6)
        np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-6)


def test_arrays_of_objects_and_missing_cells():
    X, y = table_of(60)
    array = X[["color", "price"]].to_numpy(dtype=object)
    classifier = tiny_classifier(max_epochs=8, validation_fraction=0).fit(array, y)
    assert classifier.schema_.columns == ["x0", "x1"]
    assert not hasattr(classifier, "feature_names_in_")
    assert classifier.score(array, y) > 0.95


def test_cells_that_arrow_cannot_hold_become_strings():
    mixed = pd.DataFrame(
        {"mixed": [1, "a"] * 10, "period": pd.period_range("2024-01", periods=2, freq="M").repeat(10)}
    )
    classifier = tiny_classifier(validation_fraction=0, max_epochs=8).fit(mixed, [0, 1] * 10)
    assert classifier.score(mixed, [0, 1] * 10) == 1
    assert classifier.processor_.vocabularies[1] == ["2024-01", "2024-02"]
    # as `pd.cut` makes them
    categories = mixed.assign(period=mixed["period"].astype("category"), cut=pd.cut([1, 3] * 10, [0, 2, 4]))
    classifier = tiny_classifier(validation_fraction=0).fit(categories, [0, 1] * 10)
    assert classifier.processor_.vocabularies[1:] == [["2024-01", "2024-02"], ["(0, 2]", "(2, 4]"]]
    of_texts = categories.astype({"period": str, "cut": str})
    assert (classifier.predict_proba(of_texts) == classifier.predict_proba(categories)).all()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([{"b", "a", "c"}, frozenset("ba"), None], [["a", "b", "c"], ["a", "b"], None]),
        # Arrow gives each mapping the keys of all
        ([{"a": 0.5}, {"b": 2, 7: 1.5}, None], ['{"a": 0.5}', '{"b": 2, "7": 1.5}', None]),
        # Arrow cuts times to days if a day comes first, and times of pandas to microseconds
        ([date(2024, 1, 31), datetime(2024, 1, 31, 10), pd.NaT], ["2024-01-31", "2024-01-31 10:00:00", None]),
        ([pd.Timestamp(1, unit="ns"), None, date(2024, 1, 31)], ["1970-01-01 00:00:00.000000001", None, "2024-01-31"]),
        ([date(2024, 1, 31), None, date(2024, 2, 1)], [date(2024, 1, 31), None, date(2024, 2, 1)]),
    ],
)
def test_nothing_of_a_cell_is_lost(cells, expected):
    for column in (cells, np.array([*cells, 0], dtype=object)[:-1], pd.Series(cells, dtype=object)):
        assert _arrow_column(column).to_pylist() == expected


def test_mappings_are_lists_by_weight():
    topics = [{"a": 0.9, "b": 0.1}, {"b": 1}, {"c": 2.0}] * 10
    schema = {"fields": [{"column": "topics", "kind": "multi_valued", "max_values": 2}], "label": "click"}
    classifier = tiny_classifier(schema=schema, validation_fraction=0, max_epochs=8)
    classifier.fit({"topics": topics}, [0, 1, 0] * 10)
    assert classifier.processor_.vocabularies == [["b", "a", "c"]]
    assert classifier.score({"topics": topics}, [0, 1, 0] * 10) == 1


def test_wrong_columns_are_refused_as_scikit_learn_does(fitted):
    X, _ = table_of(10)
    for wrong, message in (
        (X[["price", "color", "at", "shop", "constant"]], "must be in the same order"),
        (X.drop(columns="shop"), "seen at fit time, yet now missing"),
        (X.assign(more=1), "unseen at fit time"),
        (X.rename(columns={"shop": "store"}), "unseen at fit time"),
        (pa.Table.from_pandas(X.drop(columns="shop")), "yet now missing"),
        (dict(X.assign(more=1)), "unseen at fit time"),
        (X.iloc[:0], "0 sample"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(wrong)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        by_position = fitted.predict_proba(X.to_numpy(dtype=object))
    np.testing.assert_allclose(by_position, fitted.predict_proba(X), rtol=1e-6)


def test_the_features_do_not_change(fitted):
    X, y = table_of(30)
    before = X.copy(deep=True)
    tiny_classifier(validation_fraction=0).fit(X, y).predict(X)
    pd.testing.assert_frame_equal(X, before)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [((0, 1), [0, 1]), ((-1, 1), [-1, 1]), ((2, 1), [1, 2]), ((True, False), [False, True]), (("b", "a"), ["a", "b"])],
)
def test_any_two_labels(labels, expected):
    X, y = table_of(60)
    given = [labels[0] if label == "yes" else labels[1] for label in y]
    classifier = tiny_classifier(validation_fraction=0, max_epochs=8).fit(X, given)
    assert classifier.classes_.tolist() == expected
    column = expected.index(labels[0])
    assert roc_auc_score(y == "yes", classifier.predict_proba(X)[:, column]) > 0.99
    # the checkpoint reads these labels as the estimator did
    clicks = labels_of(given, classifier.schema_.positive)
    assert clicks.tolist() == [float(label == expected[1]) for label in given]


@pytest.mark.parametrize("labels", [["no", "yes"], [False, True], [0, 1]])
def test_labels_of_arrow(labels):
    X = {"color": ["red", "blue"] * 10}
    for y in (pa.array(labels * 10), pa.chunked_array([labels * 10]), pa.array(labels * 10).dictionary_encode()):
        assert tiny_classifier(validation_fraction=0, max_epochs=1).fit(X, y).classes_.tolist() == labels
        with pytest.raises(ValueError, match="1 are missing"):
            tiny_classifier().fit(X, pa.array([None, *labels * 10][:20], y.type))


def test_nullable_labels_of_pandas():
    X, y = table_of(40)
    classifier = tiny_classifier(validation_fraction=0).fit(X, pd.Series(y == "yes", dtype="Int64", name="bought"))
    assert classifier.classes_.tolist() == [0, 1]
    assert classifier.schema_.label == "bought"


def test_a_schema_chooses_the_click_and_the_fields(tmp_path):
    X, y = table_of(60)
    fields = ["color", {"column": "price", "kind": "numeric"}]
    # the click is the first class
    given = {"fields": fields, "label": "bought", "positive": "no"}
    (tmp_path / "schema.json").write_text(json.dumps(given))
    for schema in (given, Schema.from_dict(given), str(tmp_path / "schema.json"), tmp_path / "schema.json"):
        classifier = tiny_classifier(schema=schema, max_epochs=8, validation_fraction=0).fit(X, y)
        assert classifier.schema_ == Schema.from_dict(given)
        assert classifier.classes_.tolist() == ["no", "yes"]
        assert roc_auc_score(y == "yes", classifier.predict_proba(X)[:, 1]) > 0.99
    clicks = score_table(pa.Table.from_pandas(X), classifier.processor_, classifier.model_, 64)
    np.testing.assert_allclose(clicks, classifier.predict_proba(X)[:, 0])


@pytest.mark.parametrize(
    ("classes", "click"),
    [
        (["Ja", "Nein"], 0),
        (["approved", "rejected"], 0),
        (["clicked", "not clicked"], 0),
        (["no", "yes"], 1),
        (["a", "b"], 1),
    ],
)
def test_a_saved_model_predicts_the_class_that_affirms(classes, click, tmp_path):
    # `clickprompt predict` and `clickprompt serve` know no order of classes
    assert drafting.positive_class(np.array(classes)) == (classes[click], click)
    X, y = table_of(60)
    y = np.where(y == "yes", classes[click], classes[1 - click])
    classifier = tiny_classifier(max_epochs=8, validation_fraction=0).fit(X, y)
    assert classifier.classes_.tolist() == classes
    probabilities = classifier.predict_proba(X)[:, click]
    assert roc_auc_score(y == classes[click], probabilities) > 0.99
    clicks = score_table(pa.Table.from_pandas(X), classifier.processor_, classifier.model_, 64)
    np.testing.assert_allclose(clicks, probabilities, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (list("abcabcabca"), "Only binary classification is supported. The type of the target is multiclass"),
        (np.linspace(0, 1, 10) ** 0.5, "Unknown label type: continuous"),
        (["a"] * 10, "1 class"),
        # the saved model would read both as clicks
        (["Yes", "yes"] * 5, "read as different labels, but 'Yes' and 'yes' are read as the same label"),
        (["a", "b", None] + ["a"] * 7, "must have a label in each row, but 1 are missing"),
        ([0, 1, np.nan] + [0] * 7, "y contains NaN"),
        ([0, 1] * 4, "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_wrong_labels(y, message):
    X, _ = table_of(10)
    with pytest.raises(ValueError, match=message):
        tiny_classifier().fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_epochs": 0}, "`max_epochs`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"validation_fraction": 1}, "`validation_fraction`"),
        ({"early_stopping_patience": -1}, "`early_stopping_patience`"),
        ({"learning_rate": -1}, "`learning_rate`"),
        ({"backbone": "resnet"}, "resnet"),
        ({"ctr_config": {"backbone": "dnn"}}, "`ctr_config` must leave out"),
        ({"ctr_config": 3}, "`ctr_config` must be a dict"),
        ({"training_arguments": {"seed": 3}}, "`training_arguments` must leave out"),
        ({"clickprompt_config": {"prompt_depth": 3}}, "`clickprompt_config` must leave out"),
        ({"schema": 3}, "`schema` must be a Schema"),
        ({"schema": {"fields": ["size"], "label": "y"}}, "lacks \\['size'\\]"),
        ({"schema": {"fields": ["color"], "label": "y", "positive": "maybe"}}, "'maybe'"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number, got 'fast'"),
        ({"plm_learning_rate": None}, "`plm_learning_rate` must be a number, got None"),
        ({"text_fields": "color"}, "`text_fields` must be a list of columns or None, got 'color'"),
        (
            {"text_fields": ["color", "nope"]},
            r"`text_fields` must be among the columns of `X`, \[.*'color'.*\], got \['nope'\]",
        ),
        ({"vector_fields": "color"}, "`vector_fields` must be a list of columns or None, got 'color'"),
        ({"vector_fields": ["color"]}, "`text_encoder` must name the language model that turns the text of"),
        ({"vector_fields": [], "text_encoder": "plm"}, "`vector_fields` must be a list of fields"),
        ({"vector_fields": ["nope"], "text_encoder": "plm"}, r"`vector_fields` must be among .* got \['nope'\]"),
        ({"ctr_config": {"embed_size": 8}}, r"`ctr_config` must hold arguments of CTRConfig, got \['embed_size'\]"),
        ({"ctr_config": {"to_dict": 8}}, r"`ctr_config` must hold arguments of CTRConfig, got \['to_dict'\]"),
        (
            {"clickprompt_config": {"embed": 3}},
            "`clickprompt_config` must hold .* ClickPromptConfig",
        ),
        ({"training_arguments": {"epochs": 3}}, r"`training_arguments` must hold .*Arguments, got \['epochs'\]"),
    ],
)
def test_wrong_parameters_are_refused_in_fit(parameters, message):
    X, y = table_of(20)
    classifier = tiny_classifier(**parameters)
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y)


def test_unusable_features():
    with pytest.raises(ValueError, match="must have a column that can be a field.*constant"):
        tiny_classifier().fit({"constant": [1] * 10}, [0, 1] * 5)
    for column in (np.array(1), torch.tensor(1)):
        with pytest.raises(
            TypeError, match=r"must map each column to its values, but maps 'a' to (array|tensor)\(1\)"
        ):
            tiny_classifier().fit({"a": column, "b": column}, [0])
    with pytest.raises(TypeError, match="maps 'a' to 3"):
        tiny_classifier().fit({"a": 3}, [0, 1])
    for series in (pd.Series([1, 2]), pa.chunked_array([[1, 2]])):
        with pytest.raises(ValueError, match="Expected (2D array|a 2-dimensional container)"):
            tiny_classifier().fit(series, [0, 1])
    with pytest.raises(ValueError, match="one length"):
        tiny_classifier().fit({"a": [3, 4], "b": [1]}, [0, 1])


def test_a_column_that_gives_the_label_away_is_used_with_a_warning():
    X, y = table_of(120)
    with pytest.warns(UserWarning, match=r"\['leak'\] predict the label almost perfectly"):
        classifier = tiny_classifier(validation_fraction=0).fit({"leak": y, "shop": X["shop"]}, y)
    assert classifier.schema_.columns == ["leak", "shop"]


def test_columns_that_are_left_out_are_reported_unless_they_are_uninformative():
    X, y = table_of(120)
    columns = {"shop": X["shop"], "empty": [None] * 120, "constant": [1] * 120}
    columns |= {"price": [f"1,{row % 90 + 100}.50" for row in range(120)], "uid": [f"x{row}" for row in range(120)]}
    with pytest.warns(UserWarning, match="left out") as told:
        classifier = tiny_classifier(validation_fraction=0).fit(columns, y)
    assert classifier.schema_.columns == ["shop"]
    (message,) = [str(warning.message) for warning in told if "left out" in str(warning.message)]
    assert message.startswith("Columns left out: 'price' (numbers with separators or signs, such as '1,100.50'")
    assert "'uid' (row ids, as no two rows share a value)" in message
    assert "empty" not in message
    assert "constant" not in message
    assert told[0].filename == __file__


def test_columns_of_like_names_are_fields_of_one_kind():
    # few distinct numbers are categories, many are not
    few, many = np.arange(60) % 9 * 5, np.arange(60)
    named = tiny_classifier(validation_fraction=0).fit({"pay_1": few, "pay_2": many}, [0, 1] * 30)
    assert [field.kind for field in named.schema_.fields] == ["numeric", "numeric"]
    unnamed = tiny_classifier(validation_fraction=0).fit(np.stack([few, many], axis=1), [0, 1] * 30)
    assert [field.kind for field in unnamed.schema_.fields] == ["categorical", "numeric"]


def test_defaults_are_those_of_the_command():
    X, y = table_of(4000)
    noisy = np.where(np.random.default_rng(0).random(4000) < 0.3, "no", y)
    classifier = ClickPromptClassifier(max_epochs=1, random_state=0).fit(X, noisy)
    sizes = table_preset(3600, 5, 100).sizes
    assert {name: getattr(classifier.model_.config.ctr_config, name) for name in sizes} == sizes
    # 56 steps of 64 rows
    assert [entry["epoch"] for entry in classifier.history_] == pytest.approx([28 / 57, 56 / 57, 1], abs=0.02)


def test_training_arguments_win_over_the_defaults_of_the_table():
    X, y = table_of(4000)
    options = {"eval_strategy": "epoch", "max_steps": 60}
    classifier = ClickPromptClassifier(training_arguments=options, random_state=0).fit(X, y)
    # 57 steps per epoch
    assert [entry["epoch"] for entry in classifier.history_] == pytest.approx([1, 60 / 57], abs=0.01)


def test_free_text_is_not_ignored_silently():
    texts = [f"the {n}th review says that film {n * 7} is worth seeing twice" for n in range(60)]
    with pytest.warns(UserWarning, match=r"Columns \['review'\] hold free text"):
        tiny_classifier(validation_fraction=0).fit({"review": texts, "user": [1, 2, 3] * 20}, [0, 1] * 30)


def test_a_class_of_one_row_cannot_be_validated():
    with pytest.warns(UserWarning, match="A class has 1 row"):
        classifier = tiny_classifier().fit({"a": ["u", "v"] * 5, "b": [1, 2, 3, 4, 5] * 2}, [1] + [0] * 9)
    assert classifier.history_ == []


def test_random_state():
    X, y = table_of(60)
    first, same, other = (tiny_classifier(random_state=state).fit(X, y).predict_proba(X) for state in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)
    # a generator moves on, and the global ones stay as they were
    generator = np.random.RandomState(1)
    np.random.seed(7)
    torch.manual_seed(7)
    expected = (np.random.RandomState(7).rand(), torch.rand(1, generator=torch.Generator().manual_seed(7)).item())
    one, two = (tiny_classifier(random_state=generator).fit(X, y).predict_proba(X) for _ in range(2))
    assert not np.allclose(one, two)
    assert (np.random.rand(), torch.rand(1).item()) == expected


def test_nothing_is_printed(capfd, recwarn):
    X, y = table_of(60)
    tiny_classifier().fit(X, y).predict(X)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn if "pin_memory" not in str(warning.message)] == []


def test_in_scikit_learns_tools():
    X, y = table_of(80)
    features = ["color", "price", "shop"]
    columns = ColumnTransformer([("kept", "passthrough", features)], verbose_feature_names_out=False)
    steps = make_pipeline(columns.set_output(transform="pandas"), tiny_classifier(max_epochs=6))
    search = GridSearchCV(
        steps,
        {"clickpromptclassifier__learning_rate": [1e-6, 0.02], "clickpromptclassifier__validation_fraction": [0.0]},
        scoring="roc_auc",
        cv=2,
    )
    search.fit(X, y)
    assert search.best_params_["clickpromptclassifier__learning_rate"] == 0.02
    assert search.score(X, y) > 0.95
    assert search.best_estimator_[-1].feature_names_in_.tolist() == features

    scores = cross_val_score(tiny_classifier(max_epochs=6, validation_fraction=0), X, y, cv=2, scoring="roc_auc")
    assert min(scores) > 0.9


def test_clone_and_pickle(fitted, tmp_path):
    X, _ = table_of(seed=1)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)
    joblib.dump(fitted, tmp_path / "classifier.joblib")
    for copied in (joblib.load(tmp_path / "classifier.joblib"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(copied.predict_proba(X), fitted.predict_proba(X))
        assert copied.history_ == fitted.history_


def test_saved_and_loaded(fitted, tmp_path):
    X, y = table_of(seed=1)
    expected = fitted.predict_proba(X)
    fitted.save_pretrained(tmp_path / "saved")
    loaded = ClickPromptClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.classes_.tolist() == fitted.classes_.tolist()
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert loaded.feature_names_in_.tolist() == fitted.feature_names_in_.tolist()
    assert loaded.history_ == fitted.history_
    with pytest.raises(ValueError, match="yet now missing"):
        loaded.predict(X.drop(columns="shop"))
    # it can be fitted again
    loaded.set_params(max_epochs=1, validation_fraction=0).fit(X[["color", "shop"]], y)
    assert loaded.n_features_in_ == 2

    # an ordinary checkpoint
    score = pipeline("ctr-prediction", model=str(tmp_path / "saved"))
    assert [row["click_probability"] for row in score(X)] == pytest.approx(expected[:, 1])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert isinstance(model, ClickPromptForCTR)
    assert isinstance(AutoModel.from_pretrained(tmp_path / "saved"), ClickPromptModel)


def test_what_cannot_be_saved_or_loaded(tmp_path, fitted):
    with pytest.raises(NotFittedError):
        tiny_classifier().save_pretrained(tmp_path / "unfitted")
    fitted.model_.save_pretrained(tmp_path / "plain")
    with pytest.raises(OSError, match="estimator.json"):
        ClickPromptClassifier.from_pretrained(tmp_path / "plain")
    changed = copy.copy(fitted).set_params(ctr_config={"field": object()})
    with pytest.raises(ValueError, match="`ctr_config` must contain only strings"):
        changed.save_pretrained(tmp_path / "object")
    assert not (tmp_path / "object").exists()


def test_probabilities_are_calibrated():
    X, y = table_of(1200)
    noisy = np.where(np.random.default_rng(0).random(1200) < 0.3, "no", y)
    classifier = tiny_classifier(learning_rate=0.3, max_epochs=3, batch_size=64, validation_fraction=0.5)
    classifier.fit(X, noisy)
    found = (classifier.model_.config.calibration_scale, classifier.model_.config.calibration_shift)
    assert found != (1, 0)


@pytest.fixture(scope="module")
def plm(tmp_path_factory):
    """Folder with a pretrained RoBERTa."""
    folder = tmp_path_factory.mktemp("plm")
    tokenizer = tiny_roberta_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = tiny_text_config(vocab_size=len(tokenizer), max_position_embeddings=60, num_hidden_layers=2)
    RobertaModel(config).save_pretrained(folder)
    return folder


def test_with_a_language_model(plm, tmp_path):
    draw = np.random.default_rng(0)
    words = ["Up", "Seven", "Noir", "Heat"]
    title = [" ".join(draw.choice(words, 4)) for _ in range(60)]
    X = {"title": title, "user": draw.integers(0, 5, 60)}
    y = np.asarray(["Up" in text for text in title])
    parameters = {"plm_name_or_path": str(plm), "text_fields": ["title"], "prompt_length": 2, "prompt_depth": 1}
    classifier = tiny_classifier(**parameters, plm_learning_rate=1e-3, clickprompt_config={"fusion": "weighted"})
    classifier.fit(X, y)
    config = classifier.model_.config
    assert (config.use_plm, config.fusion, config.prompt_length, config.prompt_depth) == (True, "weighted", 2, 1)
    assert classifier.processor_.render({"title": ["Up"], "user": [3]}) == ["Title is Up."]
    classifier.save_pretrained(tmp_path / "saved")
    loaded = ClickPromptClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(loaded.predict_proba(X), classifier.predict_proba(X), rtol=1e-6)

    # columns in the text are used even if all rows share a value or none do; empty ones are not
    said = {**X, "title": [f"{n}" for n in range(60)], "same": ["x"] * 60, "none": [None] * 60}
    chosen = tiny_classifier(**{**parameters, "text_fields": ["title", "same", "none"]}, validation_fraction=0)
    assert chosen.fit(said, y).processor_.render({"title": ["7"], "user": [3], "same": ["x"]}) == [
        "Title is 7. Same is x."
    ]

    long = {**X, "title": [f"{text} " * 20 for text in title]}
    with pytest.warns(UserWarning, match="The texts of 60 of 60 rows are truncated to the"):
        tiny_classifier(**parameters, validation_fraction=0).fit(long, y)
    with pytest.raises(ValueError, match="`text_fields` must be among"):
        tiny_classifier(**{**parameters, "text_fields": ["plot"]}).fit(X, y)
    with pytest.raises(ValueError, match="must be a language model"):
        tiny_classifier(plm_name_or_path=str(tmp_path / "saved")).fit(X, y)


def test_fields_of_vectors(plm, tmp_path):
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(60, 3)).round(3)
    said = draw.choice(["Up", "Seven", "Noir"], 60)
    X = {"user": draw.integers(0, 5, 60), "embedding": vectors.tolist(), "title": said}
    y = vectors[:, 0] > 0
    fields = ["user", {"column": "embedding", "kind": "vector"}, {"column": "title", "kind": "text", "as": "vector"}]
    schema = {"fields": fields, "label": "y"}
    with pytest.raises(ValueError, match="`text_encoder` must name the language model"):
        tiny_classifier(schema=schema).fit(X, y)
    classifier = tiny_classifier(schema=schema, text_encoder=str(plm), max_epochs=30, validation_fraction=0).fit(X, y)
    assert classifier.model_.config.ctr_config.vector_sizes == [3, 16]
    assert roc_auc_score(y, classifier.predict_proba(X)[:, 1]) > 0.95
    classifier.save_pretrained(tmp_path / "saved")
    loaded = ClickPromptClassifier.from_pretrained(tmp_path / "saved")
    for other in (loaded, pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_allclose(other.predict_proba(X), classifier.predict_proba(X), rtol=1e-6)


def test_the_vector_of_the_text_of_columns(plm, tmp_path):
    titles = ["Up", "Seven", "Noir", "Heat", "Ran", "Tron"]
    X = {
        "user": [n % 5 for n in range(60)],
        "title": [titles[n % 6] for n in range(60)],
        "plot": [f"a long plot with many words, number {n}" for n in range(60)],
        "none": [None] * 60,
    }
    y = [int(n % 6 < 3) for n in range(60)]
    options = {"vector_fields": ["title", "plot", "none"], "text_encoder": str(plm), "validation_fraction": 0}
    found = tiny_classifier(**options).fit(X, y)
    # the title keeps its ids; the empty column is left out
    assert [field.key for field in found.schema_.fields if field.num_columns] == ["user", "title"]
    assert found.processor_.texts_of_vectors({**X, "title": ["Up"] * 60}, "text_vector")[:1] == [
        "Title is Up. Plot is a long plot with many words, number 0."
    ]
    # the same schema, written by hand
    fields = [*found.schema_.to_dict()["fields"]]
    schema = {"fields": fields, "label": "y"}
    by_hand = tiny_classifier(schema=schema, text_encoder=str(plm), validation_fraction=0).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), by_hand.predict_proba(X))
    new = {**X, "title": ["Up, again"] * 60}
    assert (found.predict_proba(new) != found.predict_proba({**X, "title": ["Noir, again"] * 60})).any()
    found.save_pretrained(tmp_path / "saved")
    loaded = ClickPromptClassifier.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(loaded.predict_proba(new), found.predict_proba(new), rtol=1e-6)
    assert loaded.vector_fields == options["vector_fields"]


def test_a_pickle_makes_vectors_of_texts_where_the_encoder_is_gone(plm, tmp_path):
    shutil.copytree(plm, tmp_path / "encoder")
    X = {"user": [n % 5 for n in range(40)], "title": [f"film {n % 7}" for n in range(40)]}
    fields = ["user", {"column": "title", "kind": "text", "as": "vector"}]
    options = {"schema": {"fields": fields, "label": "y"}, "text_encoder": str(tmp_path / "encoder")}
    found = tiny_classifier(**options, validation_fraction=0).fit(X, [0, 1] * 20)
    expected = found.predict_proba(X)
    pickled, without_weights = pickle.dumps(found), pickle.dumps(found.processor_)
    shutil.rmtree(tmp_path / "encoder")
    loaded = pickle.loads(pickled)
    unknown = {"user": [1], "title": ["a text that nobody has read"]}
    np.testing.assert_allclose(loaded.predict_proba(X), expected, rtol=1e-6)
    np.testing.assert_allclose(loaded.predict_proba(unknown), found.predict_proba(unknown), rtol=1e-6)
    # and so on
    again = pickle.loads(pickle.dumps(copy.deepcopy(loaded)))
    again.save_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(ClickPromptClassifier.from_pretrained(tmp_path / "saved").predict_proba(X), expected)
    # workers get processors, without weights
    assert len(without_weights) < len(pickled) / 2
    with pytest.raises(OSError, match=r"encoder must hold the text encoder, .* but there is no such folder"):
        pickle.loads(without_weights)(unknown)


def test_the_package_exports_it():
    assert clickprompt_hf.ClickPromptClassifier is ClickPromptClassifier
