"""The generator: both signals are there, and the data do not depend on anything but their own seed."""

import numpy as np
import pytest

from clickprompt_hf.data.sources.synthetic import TRUE_PROBABILITY, SyntheticSizes, best_reachable_auc, load_synthetic
from clickprompt_hf.data.splits import split_table


@pytest.fixture(scope="module")
def rows():
    source = load_synthetic()
    return source.table.to_pandas(), source.schema


def test_data_depend_on_data_seed_alone(rows):
    np.random.seed(5)
    assert load_synthetic().table.to_pandas().equals(rows[0])
    assert not load_synthetic(SyntheticSizes(data_seed=1)).table.to_pandas().equals(rows[0])


def test_the_true_probability_is_not_a_field(rows):
    assert TRUE_PROBABILITY not in rows[1].columns


def test_clicks_follow_the_true_probabilities(rows):
    table, _ = rows
    for low in (0.0, 0.25, 0.5, 0.75):
        band = table[table[TRUE_PROBABILITY].between(low, low + 0.25)]
        error = 3 * np.sqrt(0.25 / len(band))
        assert band["click"].mean() == pytest.approx(band[TRUE_PROBABILITY].mean(), abs=error)


def test_best_reachable_auc_is_well_below_one(rows):
    splits = split_table(load_synthetic().table, rows[1])
    assert 0.78 < best_reachable_auc(splits["test"]) < 0.90


def test_titles_carry_signal_for_items_that_training_never_saw(rows):
    """A linear model on words, fitted on half of the items, ranks rows of the other half."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    table, _ = rows
    words = CountVectorizer(binary=True).fit_transform(table["title"] + " age" + table["age"].str.replace(" ", ""))
    seen = (table["item_id"] % 2 == 0).to_numpy()
    model = LogisticRegression().fit(words[seen], table["click"][seen])
    assert roc_auc_score(table["click"][~seen], model.predict_proba(words[~seen])[:, 1]) > 0.62


def test_the_text_leaves_out_the_collaborative_signal(rows):
    """Within one title and age range, users still differ by more than chance: the collaborative signal."""
    table, _ = rows
    logit = np.log(table[TRUE_PROBABILITY] / (1 - table[TRUE_PROBABILITY]))
    groups = logit.groupby([table["item_id"], table["age"]])
    within = (logit - groups.transform("mean")).pow(2).sum() / (len(table) - groups.ngroups)
    assert 0.2 < within / logit.var() < 0.6
