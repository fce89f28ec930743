import math

import numpy as np
import pytest

from fsseg.config.errors import FssegError
from fsseg.evaluation.aggregation import (
    CaseRow,
    bootstrap_interval,
    mean_over_seeds,
    paired_difference,
    summarise,
    summarise_structures,
)


def row(case: str, structure: str, dsc: float, hd95_mm: float = 1.0, status: str = "ok") -> CaseRow:
    return CaseRow(case, structure, dsc, dsc, hd95_mm, 1.0, 1.0, status)


def test_mean_and_sd_leave_out_nan_and_count_it() -> None:
    summary = summarise([0.5, math.nan, 0.7, 0.9])
    assert summary.mean == pytest.approx(0.7)
    assert summary.sd == pytest.approx(0.2)
    assert (summary.n, summary.left_out) == (3, 1)


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([math.nan], math.nan), ([0.4], 0.4)])
def test_below_two_values_there_is_no_spread(values: list[float], mean: float) -> None:
    summary = summarise(values)
    assert summary.mean == pytest.approx(mean, nan_ok=True)
    assert all(math.isnan(bound) for bound in (summary.sd, summary.low, summary.high))


def test_interval_is_fixed_by_the_seed() -> None:
    values = np.random.default_rng(1).uniform(size=12)
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
    assert bootstrap_interval(values, seed=4) != bootstrap_interval(values, seed=5)


def test_interval_of_two_values_by_hand() -> None:
    # The resampled mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4, so both 2.5 % tails are at the ends.
    assert bootstrap_interval(np.array([0.0, 1.0])) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0.3, 0.3, 0.3])) == pytest.approx((0.3, 0.3))


def test_interval_is_close_to_the_normal_one_for_many_cases() -> None:
    values = np.random.default_rng(2).normal(0.8, 0.1, size=400)
    low, high = bootstrap_interval(values)
    half_width = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half_width, abs=0.001)
    assert high == pytest.approx(values.mean() + half_width, abs=0.001)


def test_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    intervals = [bootstrap_interval(rng.normal(0.8, 0.1, size=30), seed, resamples=1000) for seed in range(300)]
    coverage = np.mean([low <= 0.8 <= high for low, high in intervals])
    assert 0.90 <= coverage <= 0.98


def test_structures_are_summarised_apart_in_their_order() -> None:
    rows = [
        row("a", "liver", 0.9),
        row("a", "kidney", math.nan, math.nan, "both_empty"),
        row("b", "liver", 0.0, math.nan, "prediction_empty"),
        row("b", "kidney", 0.6),
    ]
    summaries = summarise_structures(rows)
    assert list(summaries) == ["liver", "kidney"]
    assert summaries["liver"].dsc.mean == pytest.approx(0.45)
    assert (summaries["liver"].hd95_mm.n, summaries["liver"].hd95_mm.left_out) == (1, 1)
    assert summaries["kidney"].dsc.left_out == 1
    assert summaries["kidney"].statuses == {"both_empty": 1, "ok": 1}


def test_pairing_removes_the_spread_between_cases() -> None:
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(0.2, 0.9, size=20)
    a = {f"case_{i}": float(value) + 0.02 for i, value in enumerate(difficulty)}
    b = {case: value - 0.02 + float(rng.normal(0, 0.001)) for case, value in reversed(a.items())}
    difference = paired_difference(a, b)
    assert difference.mean == pytest.approx(0.02, abs=0.001)
    assert 0.018 < difference.low < difference.mean < difference.high < 0.022
    assert difference.n == 20
    unpaired = summarise(a.values())
    assert difference.high - difference.low < (unpaired.high - unpaired.low) / 50


def test_paired_difference_is_antisymmetric_and_leaves_out_undefined_cases() -> None:
    a = {"x": 0.5, "y": 0.7, "z": math.nan}
    b = {"x": 0.4, "y": math.nan, "z": 0.2}
    assert paired_difference(a, b).mean == pytest.approx(0.1)
    assert paired_difference(b, a).mean == pytest.approx(-0.1)
    assert (paired_difference(a, b).n, paired_difference(a, b).left_out) == (1, 2)


def test_different_cases_cannot_be_compared() -> None:
    with pytest.raises(FssegError, match=r"only in the first: x\n.*only in the second: z") as caught:
        paired_difference({"x": 0.5, "y": 0.7}, {"y": 0.5, "z": 0.7})
    assert "--cases" in str(caught.value)
    with pytest.raises(FssegError, match="different cases"):
        mean_over_seeds([{"x": 0.5}, {"y": 0.7}])


def test_seeds_are_averaged_per_case_before_cases_are_resampled() -> None:
    per_seed = [{"x": 0.4, "y": 0.8, "z": math.nan}, {"x": 0.6, "y": 0.8, "z": math.nan}]
    assert mean_over_seeds(per_seed) == pytest.approx({"x": 0.5, "y": 0.8, "z": math.nan}, nan_ok=True)
    assert summarise(mean_over_seeds(per_seed).values()).n == 2, "cases count, not cases times seeds"


def test_a_case_undefined_for_one_seed_keeps_the_other() -> None:
    assert mean_over_seeds([{"x": math.nan}, {"x": 0.0}]) == {"x": 0.0}
