"""Against scipy.stats, and by hand for three numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sc_loops.comparing.statistics import mean_of, means, paired, t_factor


def test_three_numbers_by_hand() -> None:
    """1, 2, 6: mean 3, standard deviation sqrt(7); 4.303 is the table's t for two degrees of freedom."""
    found = mean_of([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3)
    assert found.error == pytest.approx(math.sqrt(7 / 3))
    assert found.half == pytest.approx(4.303 * math.sqrt(7 / 3), rel=1e-4)
    assert found.n == 3


@pytest.mark.parametrize("seeds", [2, 3, 30])
def test_the_band_is_scipys_t_interval_in_every_generation(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(size=(seeds, 7))
    mean, half, n = means(values)
    low, high = stats.t.interval(0.95, seeds - 1, loc=values.mean(axis=0), scale=stats.sem(values, axis=0))
    assert mean - half == pytest.approx(low)
    assert mean + half == pytest.approx(high)
    assert (n == seeds).all()


def test_seeds_without_a_value_are_left_out_of_their_generation_only() -> None:
    values = np.array(
        [[1.0, 2.0, math.nan, math.nan], [3.0, math.nan, 5.0, math.nan], [5.0, math.inf, 7.0, math.nan]]
    )
    mean, half, n = means(values)
    assert mean[:3].tolist() == [3, 2, 6]
    assert n.tolist() == [3, 1, 2, 0]
    assert half[0] == pytest.approx(t_factor(3) * stats.sem([1, 3, 5]))
    assert math.isnan(half[1])  # one seed has no band
    assert half[2] == pytest.approx(t_factor(2) * stats.sem([5, 7]))
    assert math.isnan(mean[3])


def test_an_interval_covers_the_truth_in_95_of_100_cases() -> None:
    draws = np.random.default_rng(0).normal(size=(4, 20_000))
    mean, half, _ = means(draws)
    covered = (np.abs(mean) < half).mean()
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)


def test_paired_differences_are_ttest_rel() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=12)
    after = before + 0.3 + 0.2 * rng.normal(size=12)
    found, expected = paired(before, after), stats.ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((interval.low, interval.high))
    assert found.mean / found.error == pytest.approx(expected.statistic)
    assert found.n == 12


def test_pairs_that_are_alike_or_single_have_no_p_value() -> None:
    alike = paired([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert alike.mean == pytest.approx(0.3)
    assert math.isnan(alike.p)
    single = paired([1.0, math.nan], [3.0, 4.0])
    assert (single.mean, single.n) == (2, 1)
    assert math.isnan(single.error)
    assert math.isnan(single.p)
    assert paired([], []).n == 0
