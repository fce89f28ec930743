"""Tests of paired differences, and their correction for several comparisons."""

import math

import pytest

from fsseg.evaluation.aggregation import case_means, summarise, summarise_pairs
from fsseg.evaluation.significance import holm, paired_p


def test_equal_signs_of_few_cases_have_the_exact_p() -> None:
    assert paired_p([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 2**5)
    assert paired_p([0.1, 0.2, 0.3, 0.4, 0.5, math.nan]) == pytest.approx(2 / 2**5)
    assert math.isnan(paired_p([0.0, 0.0]))
    assert math.isnan(paired_p([]))


def test_holm_multiplies_the_smallest_most_and_never_reverses_an_order() -> None:
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "none": math.nan})

    assert corrected["a"] == pytest.approx(0.03)
    assert corrected["c"] == pytest.approx(0.06)
    assert corrected["b"] == pytest.approx(0.06)  # .04 alone would be less than that of c
    assert math.isnan(corrected["none"])
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_pairs_of_one_structure_are_summarised_as_cases_are() -> None:
    values = [0.7, 0.9, math.nan, 0.4]
    pairs = {(f"c{index}", "liver"): value for index, value in enumerate(values)}
    whole, expected = summarise_pairs(pairs, {"liver": 1.0}), summarise(values)

    assert (whole.mean, whole.sd, whole.n, whole.left_out) == (
        pytest.approx(expected.mean),
        pytest.approx(expected.sd),
        expected.n,
        expected.left_out,
    )
    assert (whole.low, whole.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_structures_with_other_cases_weigh_as_they_are_told() -> None:
    pairs = {("a", "liver"): 0.8, ("b", "liver"): 0.6, ("c", "heart"): 0.1}
    summary = summarise_pairs(pairs, {"liver": 0.5, "heart": 0.5})

    assert summary.mean == pytest.approx((0.7 + 0.1) / 2)
    assert summary.n == 3
    assert 0.1 - 1e-9 <= summary.low <= summary.mean <= summary.high <= 0.8 + 1e-9
    assert case_means({("a", "x"): 1.0, ("a", "y"): 0.5}, {"x": 0.25, "y": 0.75}) == {"a": pytest.approx(0.625)}
