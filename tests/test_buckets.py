"""Buckets of numeric fields: how many there are, and which values have one of their own."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickprompt_hf import ClickPromptProcessor, FieldSchema, Schema
from clickprompt_hf.data.buckets import bucket_boundaries, quantiles_of
from clickprompt_hf.evaluation.model_card import _example_row
from clickprompt_hf.inspection import frequent_values

KINDS = ("quantile", "log")


def fitted(numbers: list, kind: str = "quantile", num_buckets: int = 10) -> ClickPromptProcessor:
    schema = Schema((FieldSchema("x", kind="numeric", buckets=kind, num_buckets=num_buckets),), label="click")
    return ClickPromptProcessor.fit({"x": numbers}, schema)


def groups(numbers: list, kind: str = "quantile", num_buckets: int = 10) -> list[list]:
    """The distinct training values of each bucket, in ascending order."""
    processor = fitted(numbers, kind, num_buckets)
    distinct = sorted(set(numbers))
    ids = processor.encode({"x": distinct})[:, 0].tolist()
    return [[value for value, found in zip(distinct, ids) if found == bucket] for bucket in dict.fromkeys(ids)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("numbers", "num_buckets", "expected"),
    [
        # 38 of 40 rows are zero: the other two values need no share of their own
        ([0] * 38 + [3, 50], 10, [[0], [3], [50]]),
        ([0] * 38 + [3, 50], 2, [[0], [3, 50]]),
        # at the maximum, and in the middle
        ([-7, -1] + [5] * 38, 10, [[-7], [-1], [5]]),
        ([-1, -2] + [0] * 36 + [1, 2], 3, [[-2, -1], [0], [1, 2]]),
        # the mass is negative
        ([-999] * 90 + list(range(1, 11)), 3, [[-999], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
        # two such values side by side, and two with others between them
        ([0] * 40 + [1] * 40 + [2, 3, 4, 5], 4, [[0], [1], [2, 3], [4, 5]]),
        ([0] * 40 + [1, 2] + [9] * 40 + [20, 30], 4, [[0], [1, 2], [9], [20, 30]]),
        # 30 of 69 rows are more than a quarter, and 9 of the other 39 are less than a third
        ([0] * 30 + [1] * 9 + list(range(2, 32)), 4, None),
        # fewer values than buckets
        ([1, 1, 1, 1, 2, 3], 10, [[1], [2], [3]]),
        ([4, 4, 4], 10, [[4]]),
        # four parts, and buckets for three: the smallest part joins the smaller one beside it
        ([-5, -4] + [0] * 50 + [1, 2, 3] + [9] * 50, 3, [[-5, -4, 0], [1, 2, 3], [9]]),
    ],
)
def test_values_with_many_rows_have_a_bucket_of_their_own(numbers, num_buckets, expected, kind):
    found = groups(numbers, kind, num_buckets)
    if expected is None:
        assert found[0] == [0]
        assert len(found) == num_buckets
    elif kind == "quantile" or all(len(group) < 5 for group in expected):
        assert found == expected
    else:
        # ten values of one decade: equal widths on the logarithmic scale
        assert found == [[-999], [1, 2, 3], [4, 5, 6, 7, 8, 9, 10]]


@pytest.mark.parametrize("kind", KINDS)
def test_buckets_of_mass_are_closed_on_both_sides(kind):
    processor = fitted([-4.0, -2.0] + [0.0] * 90 + [2.0, 4.0, 8.0, 16.0], kind, num_buckets=4)
    below, zero, above = processor.encode({"x": [-1e-12, 0, 1e-12]})[:, 0]
    assert len({below, zero, above, 0}) == 4
    assert processor.encode({"x": [-2.0, 2.0, "0.00", -0.0]})[:, 0].tolist() == [below, above, zero, zero]


# Half of the rows have one price; ten values with equally many rows each, where quantiles are values.
PRICES = {"mass": [9.99] * 40 + [n + 0.01 for n in range(-20, 20)], "steps": [n / 10 for n in range(1, 11)] * 8}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbers", PRICES.values(), ids=PRICES)
def test_numbers_in_32_bits_fall_into_the_buckets_of_those_that_they_round(numbers, kind):
    in_32_bits = np.asarray(numbers, dtype=np.float32)
    of_64, of_32 = (fitted(list(column), kind, num_buckets=5) for column in (numbers, in_32_bits))
    for processor in (of_64, of_32):
        expected = processor.encode({"x": numbers}).tolist()
        # readers give the doubles that equal them, and CSV files their shortest decimals
        for column in (in_32_bits, in_32_bits.tolist(), [str(number) for number in in_32_bits]):
            assert processor.encode({"x": column}).tolist() == expected
    assert of_64.encode({"x": numbers}).tolist() == of_32.encode({"x": in_32_bits}).tolist()


def test_boundaries_beside_a_number_stand_for_it():
    assert 9.99 in frequent_values(fitted(PRICES["mass"]), "x")


def test_unseen_numbers_fall_between_the_values_they_are_next_to():
    processor = fitted([10, 10, 20, 20, 30, 30])
    assert processor.boundaries == [[15.0, 25.0]]
    ten, twenty, thirty = processor.encode({"x": [10, 20, 30]})[:, 0]
    assert processor.encode({"x": [-99, 14, 16, 24, 26, 99]})[:, 0].tolist() == [
        ten,
        ten,
        twenty,
        twenty,
        thirty,
        thirty,
    ]


def test_an_outlier_leaves_log_buckets_to_the_others():
    numbers = [*range(1, 101), 1e12]
    found = groups(numbers, "log")
    assert found[-1] == [1e12]
    assert len(found) == 10
    # between the outlier and the others, buckets end in the middle of the empty decades
    (border,) = [b for b in fitted(numbers, "log").boundaries[0] if b > 100]
    assert 1e5 < border < 1e8


def test_missing_and_infinite_numbers_are_ignored():
    known = [0.0] * 30 + [1, 2, 3, 4]
    assert fitted(known).boundaries == fitted([*known, None, float("nan"), float("inf"), "-inf", "many"]).boundaries


NUMBERS = st.one_of(
    st.integers(-3, 12).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 5e-324, 1e-310, 1e308, -1e308, 1e15, 1e15 + 1, 1e15 + 2]),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(NUMBERS, st.integers(1, 40)), min_size=1, max_size=40),
    st.integers(2, 12),
    st.sampled_from(KINDS),
)
def test_buckets_are_as_many_as_the_data_allow(repeated, num_buckets, kind):
    rows: Counter[float] = Counter()
    for number, count in repeated:
        rows[number] += count
    values = np.asarray(sorted(rows))
    counts = np.asarray([rows[value] for value in values])
    boundaries = bucket_boundaries(values, counts, num_buckets, kind)
    assert boundaries == sorted(set(boundaries))
    buckets = np.searchsorted(boundaries, values, side="right")
    # all of them, none empty, and in the order of the values
    assert sorted(set(buckets.tolist())) == list(range(min(num_buckets, len(values))))
    assert len(boundaries) == buckets[-1]
    is_heavy = counts * num_buckets > counts.sum()
    num_parts = 1 + int((is_heavy[1:] | is_heavy[:-1]).sum())
    if num_parts <= num_buckets:
        assert all((buckets == buckets[v]).sum() == 1 for v in np.flatnonzero(is_heavy))
    # without mass, buckets have equally many rows, as numpy's quantiles divide them, but for room to round in 32 bits
    quantiles = np.linspace(0, 1, num_buckets + 1)[1:-1]
    if kind == "quantile" and not is_heavy.any() and np.abs(values).max() < 1e300:
        np.testing.assert_allclose(boundaries, np.quantile(np.repeat(values, counts), quantiles), rtol=2**-22)


def test_any_number_of_buckets_is_cheap():
    assert len(bucket_boundaries(np.arange(5.0), np.ones(5, dtype=int), 10**9, "quantile")) == 4


def test_mostly_zeros_leave_the_other_buckets_equally_full():
    draw = np.random.default_rng(0)
    numbers = np.where(draw.random(4000) < 0.9, 0, draw.integers(1, 1000, 4000))
    ids = fitted(numbers.tolist()).encode({"x": numbers.tolist()})[:, 0]
    counts = np.sort(np.bincount(ids)[1:])
    assert len(counts) == 10
    assert counts[-1] == (numbers == 0).sum()
    # nine buckets of equal shares of the others
    assert np.ptp(counts[:-1]) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_zero_has_one_sign_in_any_order_of_rows(kind):
    """Engines of clusters merge both signs; the fingerprint of a processor tells them apart."""
    numbers = [*[0.0, -0.0] * 20, -3.0, -2.0, 5.0, 7.0]
    fingerprints = {fitted(cells, kind).fingerprint for cells in (numbers, numbers[::-1], np.add(numbers, 0).tolist())}
    assert fingerprints == {fitted([number + 0.0 for number in numbers], kind).fingerprint}


def test_values_to_try_are_readable():
    processor = fitted([0] * 40 + [2, 4] + [5] * 40 + [7, 9])
    assert frequent_values(processor, "x") == [0, 3, 5, 8]
    assert _example_row(processor) == {"x": 5}
    assert _example_row(fitted([0] * 40 + [2, 3], num_buckets=2)) == {"x": 0}


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_of_counted_values_are_those_of_all_rows(seed):
    draw = np.random.default_rng(seed)
    values = np.unique(draw.normal(size=draw.integers(1, 50)).round(2))
    counts = draw.integers(1, 9, size=len(values))
    quantiles = np.linspace(0, 1, 23)
    found = quantiles_of(values, counts, quantiles)
    np.testing.assert_array_equal(found, np.quantile(np.repeat(values, counts), quantiles))
