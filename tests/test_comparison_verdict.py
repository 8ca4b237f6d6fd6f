"""The verdict on made tables whose truth is known, and how often it is wrong if nothing differs."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_comparisons import made_comparison

from clickprompt_hf.comparison import Rules, write_report
from clickprompt_hf.comparison.analysis import Analysis, Difference
from clickprompt_hf.comparison.results import Comparison
from clickprompt_hf.comparison.statistics import Estimate
from clickprompt_hf.comparison.verdict import judge
from clickprompt_hf.comparison.wording import duration, number, speed, why_not_significant, with_margin

EQUAL = {
    "constant": 1.0,
    "logistic_regression": 1.5,
    "gradient_boosting": 1.4,
    "backbone": 1.0,
    "clickprompt_pamlm_without_plm": 1.0,
    "clickprompt_pamlm": 1.0,
}


def verdict(noise=(), rules=None, **options):
    return judge(Analysis(made_comparison({**EQUAL, **dict(noise)}, **options), rules or Rules()))


def test_a_plm_that_pays_is_served():
    found = verdict({"clickprompt_pamlm": 0.4})
    assert (found.kind, found.serve, found.reference) == ("plm_pays", "clickprompt_pamlm", "backbone")
    assert found.sentences[0].startswith("A PLM pays: on all rows (3,000), clickprompt_pamlm adds 0.0")
    assert "compared with backbone, the best arm without a PLM" in found.text
    assert "Serve clickprompt_pamlm." in found.text


def test_a_gain_below_the_smallest_useful_one_does_not_pay():
    """The same figures as above, under rules that ask for more."""
    found = verdict({"clickprompt_pamlm": 0.4}, Rules(auc_gain=0.5, log_loss_gain=0.5))
    assert (found.kind, found.serve) == ("plm_does_not_pay", "backbone")
    assert "clickprompt_pamlm" in found.text


def test_the_arm_without_the_plm_is_served_if_it_is_as_good():
    found = verdict({"clickprompt_pamlm": 0.4, "clickprompt_pamlm_without_plm": 0.4})
    assert (found.kind, found.serve) == ("plm_pays_unserved", "clickprompt_pamlm_without_plm")
    assert found.sentences[0].startswith("A PLM pays without being served: ")


def test_the_plm_is_served_if_the_arm_without_it_gains_less():
    found = verdict({"clickprompt_pamlm": 0.2, "clickprompt_pamlm_without_plm": 0.7}, rows=5000)
    assert (found.kind, found.serve) == ("plm_pays", "clickprompt_pamlm")


def test_what_a_served_plm_loses_on_a_segment_is_one_sentence():
    unseen = dict.fromkeys(EQUAL, 1.0) | {"clickprompt_pamlm": 2.0}
    found = verdict({"clickprompt_pamlm": 0.4}, unseen_noise=unseen, rows=5000)
    assert found.serve == "clickprompt_pamlm"
    (sentence,) = [sentence for sentence in found.sentences if "however" in sentence]
    assert sentence.startswith("On rows of unseen items (1,2")
    assert "however, it loses 0.1" in sentence
    assert "AUC and raises log loss by 0.0" in sentence


def test_a_plm_may_pay_on_unseen_items_alone():
    unseen = dict.fromkeys(EQUAL, 2.0) | {"clickprompt_pamlm": 0.6}
    found = verdict({"clickprompt_pamlm": 1.3}, unseen_noise=unseen, rows=5000)
    assert (found.kind, found.serve) == ("plm_pays_on_segments", "backbone")
    assert found.sentences[0].startswith("On rows of unseen items (1,2")
    assert "clickprompt_pamlm adds 0.1" in found.sentences[0]
    assert "On all rows (5,000), clickprompt_pamlm gains nothing useful" in found.text
    assert "Serve backbone, or clickprompt_pamlm for rows of unseen items alone if they matter enough." in found.text


def test_gradient_boosting_may_win():
    found = verdict({"gradient_boosting": 0.4})
    assert (found.kind, found.serve, found.reference) == ("plm_does_not_pay",) + ("gradient_boosting",) * 2
    assert found.sentences[0] == "No arm with a PLM pays."
    assert "Serve gradient_boosting." in found.text
    assert "gradient_boosting against backbone: AUC +0.0" in found.text


def test_a_plm_that_beats_the_backbone_but_not_gradient_boosting_does_not_pay():
    found = verdict({"gradient_boosting": 0.4, "clickprompt_pamlm": 0.5})
    assert (found.kind, found.serve) == ("plm_does_not_pay", "gradient_boosting")
    assert "clickprompt_pamlm against backbone: AUC +0.0" in found.text


def test_a_gain_over_a_badly_chosen_reference_does_not_pay():
    """Validation rows prefer the backbone; on the test rows, gradient boosting is better than every other arm."""
    made = made_comparison({**EQUAL, "gradient_boosting": 0.3, "clickprompt_pamlm": 0.5})
    for run in made.runs:
        if run.arm == "backbone":
            object.__setattr__(run, "validation_auc", 0.99)
    analysis = Analysis(made)
    assert analysis.differences["clickprompt_pamlm", "backbone", "auc", "all"].pays
    found = judge(analysis)
    assert found.reference == "backbone"
    assert found.kind == "plm_does_not_pay"
    assert "no better than another arm without a PLM" in found.text


def test_the_cheapest_arm_within_one_standard_error_is_served():
    found = verdict({"logistic_regression": 1.0, "gradient_boosting": 1.0})
    assert (found.reference, found.serve) == ("backbone", "logistic_regression")
    assert "logistic_regression is cheaper than backbone, the best arm without a PLM" in found.text


def test_nothing_pays_if_clicks_are_noise():
    found = verdict(clicks_follow=False)
    assert (found.kind, found.serve) == ("nothing_pays", "constant")
    assert found.text.startswith("Nothing pays: no arm ranks the test rows (3,000) better than a constant; ")


def test_better_auc_with_worse_log_loss_is_for_ranking_alone():
    found = verdict({"clickprompt_pamlm": 0.4}, log_loss_factor={"clickprompt_pamlm": 3})
    assert (found.kind, found.serve) == ("better_auc_worse_log_loss", "backbone")
    assert "clickprompt_pamlm adds" in found.text
    assert "raises log loss by" in found.text
    assert "Only where ranking alone matters, clickprompt_pamlm pays." in found.text


def test_better_log_loss_with_the_same_auc_pays():
    factors = {arm: 3 for arm in EQUAL if arm != "clickprompt_pamlm"}
    found = verdict({"clickprompt_pamlm": 1.0}, log_loss_factor=factors)
    assert (found.kind, found.serve) == ("plm_pays", "clickprompt_pamlm")
    assert "does not significantly change AUC" in found.text
    assert "lowers log loss by" in found.text


def test_probabilities_worse_than_a_constant_are_named():
    found = verdict(log_loss_factor=dict.fromkeys(EQUAL, 4))
    assert any("worse than a constant's" in note for note in found.notes)
    assert not any("worse than a constant's" in note for note in verdict().notes)


def test_one_seed_is_said_to_tell_nothing_about_others():
    found = verdict({"clickprompt_pamlm": 0.4}, seeds=(7,))
    assert found.kind == "plm_pays"
    assert "There is one seed (7), so the spread over seeds is unknown: another seed may differ." in found.notes
    assert found.notes[0] == "± is half of the 95 % interval, over test rows alone."


def test_what_an_unknown_item_or_user_column_costs_is_named():
    assert "No user column is known, so there are no results for unseen, rare and frequent users." in verdict().notes
    assert (
        "No item or user column is known, so there are no results for unseen, rare and frequent items and users."
    ) in verdict(counts=False).notes


def test_a_test_of_two_arms_without_a_plm_holds_in_both_directions():
    analysis = Analysis(made_comparison({**EQUAL, "gradient_boosting": 0.3, "backbone": 1.5}))
    assert analysis.reference == "gradient_boosting"
    for metric in ("auc", "log_loss"):
        there = analysis.differences["gradient_boosting", "backbone", metric, "all"]
        back = analysis.differences["backbone", "gradient_boosting", metric, "all"]
        assert there.significant
        assert back.significant
        assert (back.adjusted_p, back.num_tests, back.gain) == (there.adjusted_p, there.num_tests, -there.gain)


def test_an_arm_that_the_test_rows_prefer_to_the_one_to_serve_is_named():
    made = made_comparison({"logistic_regression": 0.5, "backbone": 1.0})
    for run in made.runs:
        object.__setattr__(run, "validation_auc", 0.9 if run.arm == "backbone" else 0.8)
        object.__setattr__(run, "rows_per_second", 1e6 if run.arm == "backbone" else 1.0)
    found = judge(Analysis(made))
    assert (found.serve, found.reference) == ("backbone", "backbone")
    assert "logistic_regression has a higher AUC on the test rows (+0.0" in found.text
    assert "validation rows and cost decide which arm without a PLM to serve." in found.text
    assert "has a higher AUC on the test rows" not in verdict().text


def test_missing_seeds_and_arms_are_named():
    found = verdict(seeds={"clickprompt_pamlm": (1,)})
    assert "clickprompt_pamlm has no run with seeds 2 and 3; its differences use the seeds in common." in found.notes
    assert found.notes[-1] == (
        "Not run: best_column, gradient_boosting_text, backbone_text_vectors, backbone_plm, clickprompt."
    )
    assert "has no run" not in verdict().text


@pytest.mark.parametrize(
    ("arms", "kind", "serve", "words"),
    [
        (["constant", "backbone"], "no_plm_arm", "backbone", "No arm with a PLM was run"),
        (["constant"], "no_plm_arm", "constant", "No arm with a PLM was run"),
        (["clickprompt", "clickprompt_pamlm"], "no_arm_without_plm", "clickprompt_pamlm", "No arm without a PLM"),
        (["gradient_boosting", "clickprompt"], "plm_pays", "clickprompt", "compared with gradient_boosting"),
    ],
)
def test_verdicts_without_some_arms(arms, kind, serve, words):
    noise = {arm: 2.0 - 0.3 * place for place, arm in enumerate(arms)} | {"gradient_boosting": 2.0, "clickprompt": 0.5}
    made = made_comparison({arm: noise[arm] for arm in arms}, rows=2000)
    if kind == "no_arm_without_plm":
        made = made_comparison({"clickprompt": 1.0, "clickprompt_pamlm": 0.5}, rows=2000)
    found = judge(Analysis(made))
    assert (found.kind, found.serve) == (kind, serve)
    assert words in found.text


def test_too_few_rows_allow_no_verdict(tmp_path):
    found = write_report(made_comparison(EQUAL, rows=20), tmp_path)
    assert (found.kind, found.serve) == ("undecided", None)
    assert "No verdict: too little can be learned from the 20 test rows (" in found.text
    made = made_comparison(EQUAL, rows=50)
    one_class = Comparison("", {}, np.zeros(50), made.train_counts, made.runs)
    assert "(no clicked rows)" in write_report(one_class, tmp_path).text


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`runs` of a comparison must hold at least one run"):
        write_report(Comparison("", {}, np.array([0, 1]), {}, []), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("field", "value"), [("auc_gain", -1), ("log_loss_gain", float("nan")), ("level", 1)])
def test_wrong_rules_are_refused(field, value):
    with pytest.raises(ValueError, match=f"`{field}` must be"):
        Rules(**{field: value})


def test_validation_rows_choose_the_reference():
    made = made_comparison({**EQUAL, "gradient_boosting": 0.4})
    unknown = [run for run in made.runs if run.arm in ("gradient_boosting", "logistic_regression", "constant")]
    for run in unknown:
        object.__setattr__(run, "validation_auc", float("nan"))
    assert Analysis(made).reference == "backbone"
    for run in made.runs:
        object.__setattr__(run, "validation_auc", float("nan"))
    assert Analysis(made).reference == "gradient_boosting"
    assert any("was chosen by test AUC" in note for note in judge(Analysis(made)).notes)


@pytest.mark.parametrize("options", [{"seed_noise": 0.2, "seeds": (1, 2)}, {"seeds": (1,)}])
def test_wrong_claims_are_rare_if_nothing_differs(options):
    """Six wrong verdicts of 40 have a probability of 0.014 if each has one of 0.05 twice: all rows and segments."""
    arms = dict.fromkeys(("backbone", "clickprompt", "clickprompt_pamlm"), 1.0)
    verdicts = [judge(Analysis(made_comparison(arms, seed=seed, rows=400, **options))) for seed in range(40)]
    wrong = [found.kind for found in verdicts if found.kind != "plm_does_not_pay"]
    assert len(wrong) <= 5, wrong
    assert all(found.serve == "backbone" or found.kind.startswith("plm_pays") for found in verdicts)


def test_what_is_not_significant_says_why():
    """Three intervals around AUC +0.037: half widths of 0.035, which excludes zero, of 0.040, and unknown."""
    apart = Difference("clickprompt", "backbone", "all", "auc", Estimate(0.037, 0.035 / 1.96), Rules(), 0.1149, 6)
    assert not apart.significant
    assert apart.estimate.low > 0
    assert why_not_significant(apart) == "adjusted for 6 tests, its p-value is 0.11, above 0.05"
    assert why_not_significant(replace(apart, adjusted_p=0.0512)).endswith("its p-value is 0.051, above 0.05")
    around = replace(apart, estimate=Estimate(0.037, 0.040 / 1.96))
    assert why_not_significant(around) == "its interval includes zero"
    assert why_not_significant(replace(apart, estimate=Estimate(0.1, float("nan")))) == "its error is unknown"
    assert why_not_significant(replace(apart, adjusted_p=None)) == "it is not tested"


def test_differences_to_the_backbone_that_are_not_significant_say_why():
    found = verdict({"gradient_boosting": 0.93, "clickprompt_pamlm": 1.02}, rows=1500, seeds=(1,))
    assert found.reference == "gradient_boosting"
    shown = [sentence for sentence in found.sentences if " against backbone: " in sentence]
    assert len(shown) == 2
    for sentence in shown:
        assert sentence.count("not significant (") == sentence.count("not significant") > 0
    assert ", not significant (its interval includes zero)" in " ".join(shown)


def test_numbers_are_shown_as_precisely_as_they_are_known():
    assert with_margin(Estimate(0.03124, 0.0064 / 1.96)) == "+0.031 ± 0.006"
    assert with_margin(Estimate(-0.00024, 0.0011 / 1.96)) == "−0.0002 ± 0.0011"
    assert with_margin(Estimate(0.00003, 0.3 / 1.96)) == "0.000 ± 0.300"
    assert with_margin(Estimate(-0.5, float("nan"))) == "−0.5000 ± unknown"
    assert number(-0.00001, 3, signed=True) == "0.000"
    assert [speed(rows) for rows in (1234567, 12.34, 3.456, 0.0)] == ["1,230,000", "12", "3.46", "0"]
    assert [duration(seconds) for seconds in (0, 6, 90, 60_000)] == ["0", "0.10", "1.5", "1000"]


def test_a_note_says_if_the_test_rows_hide_what_a_plm_adds_for_new_items():
    def notes_on(comparison):
        return [note for note in judge(Analysis(comparison, Rules())).notes if "for new items" in note]

    few = made_comparison(EQUAL, rows=400)
    (note,) = notes_on(few)
    num_unseen = int((few.train_counts["item"] == 0).sum())
    assert note.startswith(f"The {num_unseen} test rows of unseen items do not show what a PLM adds for new items: ")
    # the interval that the table of segments shows
    assert re.search(r": clickprompt_pamlm changes AUC there by [+−]0\.\d+ ± 0\.\d+, compared with backbone\.$", note)
    # the margin falls with the root of the rows: 0.03 is wide, 0.02 is not
    assert not notes_on(made_comparison(EQUAL, rows=20_000))
    # a difference that is significant needs no narrow margin
    gains = made_comparison(EQUAL, rows=400, unseen_noise=dict.fromkeys(EQUAL, 5.0) | {"clickprompt_pamlm": 0.1})
    assert not notes_on(gains)
    unseen = np.where(np.arange(400) < 3, 0, 50)
    assert notes_on(replace(few, train_counts={"item": unseen})) == [
        "The 3 test rows of unseen items do not show what a PLM adds for new items."
    ]
    assert notes_on(replace(few, train_counts={"item": np.full(400, 50)})) == [
        "All items of the test rows are in the training rows, so what a PLM adds for new items is unknown."
    ]
    assert not notes_on(replace(few, train_counts={}))
