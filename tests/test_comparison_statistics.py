"""Estimates over rows and seeds, by hand arithmetic, reference values and coverage over draws."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from made_comparisons import made_comparison
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from clickprompt_hf.comparison import speed
from clickprompt_hf.comparison.analysis import Analysis
from clickprompt_hf.comparison.results import Comparison
from clickprompt_hf.comparison.segments import MIN_ROWS_PER_CLASS, MISSING, RARE_ROWS, all_segments, training_counts
from clickprompt_hf.comparison.statistics import (
    Estimate,
    RunScores,
    SeedVariance,
    auc_difference,
    auc_estimate,
    holm,
    log_loss_difference,
    log_loss_estimate,
    over_seeds,
)
from clickprompt_hf.evaluation import ClickIntervals, PairedAUC

ONE_SEED = SeedVariance()


def drawn(rows=200, models=2, seed=0):
    """Clicks and scores of models that share most of their errors."""
    draw = np.random.default_rng(seed)
    clicked = draw.random(rows) < 0.4
    shared = clicked + draw.normal(size=rows)
    return clicked, [1 / (1 + np.exp(-shared + 0.4 * draw.normal(size=rows))) for _ in range(models)]


def test_one_seed_agrees_with_the_test_report():
    clicked, (scores, others) = drawn()
    run, other = RunScores(scores, clicked), RunScores(others, clicked)
    intervals = ClickIntervals().compute(predictions=scores, references=clicked)
    paired = PairedAUC().compute(predictions=scores, baseline_predictions=others, references=clicked)
    auc, loss = auc_estimate([run], ONE_SEED), log_loss_estimate([run], ONE_SEED)
    assert (auc.value, auc.low, auc.high) == pytest.approx(
        (roc_auc_score(clicked, scores), intervals["auc_low"], intervals["auc_high"])
    )
    assert (loss.value, loss.low, loss.high) == pytest.approx(
        (log_loss(clicked, scores), intervals["log_loss_low"], intervals["log_loss_high"])
    )
    difference = auc_difference([(run, other)], ONE_SEED)
    assert (difference.value, difference.low, difference.high, difference.p_value) == pytest.approx(
        tuple(paired[name] for name in ("auc_difference", "auc_difference_low", "auc_difference_high", "p_value"))
    )
    assert difference.spread is None


def test_the_difference_of_log_losses_is_a_paired_test():
    clicked, (scores, others) = drawn()
    run, other = RunScores(scores, clicked), RunScores(others, clicked)
    difference = log_loss_difference([(run, other)], ONE_SEED)
    z = stats.ttest_rel(run.losses, other.losses).statistic
    assert difference.value == pytest.approx(log_loss(clicked, scores) - log_loss(clicked, others))
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))


def test_rows_and_seeds_by_hand():
    # spread² = (0.01² + 0 + 0.01²) / 2 = 1e-4; the pooled variance of two arms, 2 · 2e-4, is larger
    estimate = over_seeds([0.01, 0.02, 0.03], 0.004, SeedVariance(2e-4, 8), seeded_arms=2)
    assert (estimate.value, estimate.spread) == pytest.approx((0.02, 0.01))
    assert estimate.seed_error == pytest.approx(math.sqrt(4e-4 / 3))
    assert estimate.standard_error == pytest.approx(math.sqrt(1.6e-5 + 4e-4 / 3))
    # quantiles of tables: 1.960, and 2.306 with 8 degrees of freedom
    assert estimate.margin == pytest.approx(math.hypot(1.960 * 0.004, 2.306 * math.sqrt(4e-4 / 3)), rel=1e-3)
    # the own spread counts where it is larger
    assert over_seeds([0.01, 0.02, 0.03], 0.004, SeedVariance(1e-5, 8), 2).seed_error == pytest.approx(
        math.sqrt(1e-4 / 3)
    )
    # a single run borrows the spread of the other arms
    single = over_seeds([0.02], 0.004, SeedVariance(2e-4, 8), seeded_arms=1)
    assert (single.spread, single.seed_error) == (None, pytest.approx(math.sqrt(2e-4)))
    # nothing that a seed changes
    fixed = over_seeds([0.02], 0.004, SeedVariance(2e-4, 8), seeded_arms=0)
    assert (fixed.spread, fixed.standard_error) == (0.0, 0.004)


def test_the_pooled_variance_weights_arms_by_degrees_of_freedom():
    # variances 2 (one degree) and 1 (two degrees); an arm with one run adds nothing
    pooled = SeedVariance.pooled([[0.0, 2.0], [0.0, 1.0, 2.0], [5.0]])
    assert (pooled.value, pooled.degrees) == (pytest.approx((2 * 1 + 1 * 2) / 3), 3)
    assert SeedVariance.pooled([[1.0], [2.0]]) == SeedVariance(0.0, 0)


@pytest.mark.parametrize(("row_error", "seed_error", "degrees"), [(1.0, 0.0, 0), (1.0, 1.0, 3), (0.2, 1.0, 1)])
def test_the_p_value_is_the_level_whose_interval_ends_at_zero(row_error, seed_error, degrees):
    unit = Estimate(1.0, row_error, seed_error, degrees)
    at_the_end = Estimate(unit.margin, row_error, seed_error, degrees)
    assert at_the_end.p_value == pytest.approx(0.05, rel=1e-6)
    assert Estimate(0.0, row_error, seed_error, degrees).p_value == 1
    assert Estimate(-1e9, row_error).p_value == 1e-12
    assert math.isnan(Estimate(1.0, float("nan")).p_value)


def test_averages_over_seeds_have_less_noise_than_one_seed():
    """DeLong's error of averaged placements is that of the mean, which shares the noise of the rows."""
    clicked, scores = drawn(models=6)
    runs = [RunScores(values, clicked) for values in scores]
    alone = auc_difference([(runs[0], runs[3])], ONE_SEED)
    together = auc_difference(list(zip(runs[:3], runs[3:])), ONE_SEED)
    assert together.row_error < alone.row_error
    aucs = [roc_auc_score(clicked, values) for values in scores]
    assert together.value == pytest.approx(np.mean(aucs[:3]) - np.mean(aucs[3:]))
    assert together.spread == pytest.approx(np.std(np.subtract(aucs[:3], aucs[3:]), ddof=1))


def test_equal_and_separating_scores_have_no_interval():
    clicked = np.array([False, False, True, True])
    perfect = RunScores(np.array([0.1, 0.2, 0.8, 0.9]), clicked)
    constant = RunScores(np.full(4, 0.5), clicked, seedless=True)
    assert math.isnan(auc_estimate([perfect], ONE_SEED).margin)
    assert math.isnan(auc_difference([(perfect, constant)], ONE_SEED).margin)
    same = auc_difference([(perfect, perfect)], ONE_SEED)
    assert (same.value, same.margin, same.p_value) == (0, 0, 1)
    assert auc_difference([(constant, constant)], ONE_SEED).spread == 0


@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_few_seeds_do_not_lead_to_more_wrong_claims(ratio):
    """Two seeds of three arms: rows have an error of 1, seeds one of `ratio`; nothing differs."""
    draw, wrong, draws = np.random.default_rng(0), 0, 1500
    for _ in range(draws):
        arms = draw.normal(size=(3, 2)) * ratio * math.sqrt(2)
        variance = SeedVariance.pooled(arms.tolist())
        estimate = over_seeds((arms[0] - arms[1] + draw.normal()).tolist(), 1.0, variance, seeded_arms=2)
        wrong += abs(estimate.value) > estimate.margin
    assert wrong / draws < 0.06


def test_holm_by_hand():
    # 0.01 · 4, 0.02 · 3, 0.03 · 2, then 0.04 · 1 is raised to the one before
    assert holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, float("nan")]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_segments_by_hand():
    labels = np.array([1, 0] * 40)
    counts = np.array([0] * 30 + [1] * 10 + [RARE_ROWS] * 10 + [RARE_ROWS + 1] * 30)
    users = np.array([0] * 2 * (MIN_ROWS_PER_CLASS - 1) + [99] * (80 - 2 * (MIN_ROWS_PER_CLASS - 1)))
    segments = {s.name: s for s in all_segments(Comparison("", {}, labels, {"item": counts, "user": users}, []))}
    assert [(s.name, s.rows, s.clicks, s.reason) for s in segments.values()] == [
        ("all", 80, 40, None),
        ("item_unseen", 30, 15, None),
        ("item_rare", 20, 10, None),
        ("item_frequent", 30, 15, None),
        ("user_unseen", 18, 9, "9 clicked rows, fewer than 10"),
        ("user_rare", 0, 0, "no rows"),
        ("user_frequent", 62, 31, None),
    ]
    assert not any("missing" in name for name in segments)
    one_class = Comparison("", {}, np.zeros(30), {}, [])
    assert all_segments(one_class)[0].reason == "no clicked rows"


def test_rows_without_a_user_are_a_segment_of_their_own():
    labels = np.array([1, 0] * 20)
    # most training rows have no user either: they are not rows of one frequent user
    train, test = np.array([0] * 50 + [1] * 3), np.array([0] * 24 + [1] * 10 + [2] * 6)
    counts = training_counts(train, test, test == 0)
    assert counts.tolist() == [MISSING] * 24 + [3] * 10 + [0] * 6
    # prepared rows have -1 for users that are missing only outside the training rows, or rarely in them
    unknown = training_counts(np.array([-1, 1, 1]), np.array([-1, 1]), np.array([True, False]))
    assert unknown.tolist() == [MISSING, 2]
    assert training_counts(np.array([1]), np.array([-1]), np.array([True])).tolist() == [MISSING]
    segments = {s.name: s for s in all_segments(Comparison("", {}, labels, {"user": counts}, []))}
    assert {name: segment.rows for name, segment in segments.items()} == {
        "all": 40,
        "user_unseen": 6,
        "user_rare": 10,
        "user_frequent": 0,
        "user_missing": 24,
    }
    assert segments["user_missing"].words == "rows without a user"
    assert segments["user_missing"].reason is None


def test_runs_are_paired_by_seed_and_fixed_arms_with_every_run():
    noise = {"logistic_regression": 1.0, "backbone": 1.0, "clickprompt": 0.9}
    made = made_comparison(noise, rows=300, seeds={"backbone": (1, 2, 3), "clickprompt": (2, 3, 4)})
    analysis = Analysis(made)
    clicks = made.labels

    def auc(arm, seed):
        (run,) = [run for run in made.runs if (run.arm, run.seed) == (arm, seed)]
        return roc_auc_score(clicks, run.probabilities)

    shared = analysis.difference("clickprompt", "backbone", "auc").estimate
    assert (shared.value, shared.seeds) == (
        pytest.approx(np.mean([auc("clickprompt", seed) - auc("backbone", seed) for seed in (2, 3)])),
        2,
    )
    fixed = analysis.difference("logistic_regression", "backbone", "auc").estimate
    assert fixed.seeds == 3
    assert fixed.value == pytest.approx(
        auc("logistic_regression", 1) - np.mean([auc("backbone", seed) for seed in (1, 2, 3)])
    )
    assert analysis.missing_seeds == {"backbone": [4], "clickprompt": [1]}
    apart = made_comparison(noise, rows=300, seeds={"backbone": (1,), "clickprompt": (2,)})
    assert Analysis(apart).difference("clickprompt", "backbone", "auc") is None


@pytest.mark.parametrize(
    ("seconds", "repeats", "fastest"),
    [([3.0], 1, 3.0), ([0.9, 0.4, 0.8], 3, 0.4), ([0.3, 0.2, 0.1, 0.2, 0.3], 5, 0.1)],
)
def test_short_measurements_of_speed_are_repeated_and_the_fastest_counts(seconds, repeats, fastest, monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def work():
        clock[0] += seconds[len(calls) - 1]
        return "scores"

    def before():
        calls.append("forget")
        # what is prepared does not count
        clock[0] += 10

    result, found = speed.fastest_of_repeats(work, before)
    assert (result, len(calls), found) == ("scores", repeats, pytest.approx(fastest))
