from __future__ import annotations

import math

import pytest

from sc_loops.correction.theory import is_stable, largest_synthetic_ratio, rate
from sc_loops.errors import InvalidValue

STRENGTHS = (0.0, 0.01, 0.3, 1.0, 7.0, 1e6)
LIPSCHITZ_RATIOS = (1.0, 1.5, 4.0)


def test_the_rate_is_that_of_the_theorem() -> None:
    # ρ(λ)/(1+γ) = λ(α+εL) / ((1+γ)(α - λ(α+εL))), with α = 2, ε = 0.5, L = 1: C = 1.25.
    alpha, epsilon, lipschitz, ratio, strength = 2.0, 0.5, 1.0, 0.6, 3.0
    theorem = (
        ratio * (alpha + epsilon * lipschitz) / ((1 + strength) * (alpha - ratio * (alpha + epsilon * lipschitz)))
    )
    assert rate(ratio, strength, lipschitz_ratio=1.25) == pytest.approx(theorem)


def test_the_rate_at_its_limits() -> None:
    assert rate(0.0, 0.3) == 0
    assert rate(0.5, math.inf) == 0
    assert rate(1.0, 5.0) == math.inf
    assert rate(math.inf, math.inf) == math.inf
    assert rate(0.5, 0.0, lipschitz_ratio=2.0) == math.inf


@pytest.mark.parametrize("c", LIPSCHITZ_RATIOS)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_region_is_where_the_rate_is_below_1(strength: float, c: float) -> None:
    border = largest_synthetic_ratio(strength, lipschitz_ratio=c)
    assert border * c == pytest.approx((1 + strength) / (2 + strength))
    assert rate(border, strength, lipschitz_ratio=c) == pytest.approx(1)
    for ratio in (0.0, 0.3 * border, 0.999 * border, 1.001 * border, 2 * border, 10.0, math.inf):
        assert is_stable(ratio, strength, lipschitz_ratio=c) == (rate(ratio, strength, lipschitz_ratio=c) < 1)


def test_without_correction_it_is_the_half_of_bertrand_et_al() -> None:
    assert largest_synthetic_ratio(0.0) == 0.5
    assert largest_synthetic_ratio(math.inf) == 1.0
    assert is_stable(0.999, math.inf)
    assert not is_stable(1.0, math.inf)


@pytest.mark.parametrize(
    ("ratio", "strength", "c", "option"),
    [
        (-0.1, 0.0, 1.0, "synthetic_ratio"),
        (math.nan, 0.0, 1.0, "synthetic_ratio"),
        (0.5, -1.0, 1.0, "strength"),
        (0.5, 0.0, 0.9, "lipschitz_ratio"),
        (0.5, 0.0, math.inf, "lipschitz_ratio"),
    ],
)
def test_what_is_impossible_is_refused(ratio: float, strength: float, c: float, option: str) -> None:
    for function in (rate, is_stable):
        with pytest.raises(InvalidValue) as caught:
            function(ratio, strength, lipschitz_ratio=c)
        assert caught.value.where == option
