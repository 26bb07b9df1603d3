"""Fresh real data: each generation has a draw, or a part, of its own to train on; generation 0 has the usual one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from sc_loops import RealData, Samples
from sc_loops.data.digits import digits
from sc_loops.data.points import gaussian, gaussian_mixture, two_moons
from sc_loops.errors import InvalidValue
from sc_loops.randomness import seed_for
from sc_loops.training_sets import require_fresh


def fresh(data: RealData, generation: int) -> Samples:
    assert data.fresh is not None
    return data.fresh(generation)


def test_generation_0_has_the_points_that_there_have_always_been() -> None:
    """Against the formulas, written out."""
    rng = np.random.default_rng(seed_for(7, "gaussian"))
    straight = torch.from_numpy(rng.standard_normal((70, 2))).float()
    data = gaussian(size=50, test_size=20, seed=7)
    assert torch.equal(data.train.x, straight[:50])
    assert torch.equal(data.test.x, straight[50:])
    points, labels = make_moons(70, noise=0.05, random_state=seed_for(7, "two_moons") % 2**32)
    moons = two_moons(size=50, test_size=20, seed=7)
    assert torch.equal(moons.train.x, torch.from_numpy(3 * points - 1).float()[:50])
    assert moons.train.condition.tolist() == labels[:50].tolist()


@pytest.mark.parametrize("make", [two_moons, gaussian_mixture, gaussian])
def test_a_generator_draws_anew_from_seed_and_generation(make: Callable[..., RealData]) -> None:
    data, again, other = (make(size=40, test_size=9, seed=seed) for seed in (1, 1, 2))
    sets = [fresh(data, generation) for generation in range(4)]
    assert torch.equal(sets[0].x, data.train.x)
    assert data.rows is None
    seen = {tuple(x) for s in (*sets, data.test, fresh(other, 3)) for x in s.x.tolist()}
    assert len(seen) == 5 * 40 + 9  # no point twice
    for generation in (3, 1):
        assert torch.equal(fresh(again, generation).x, sets[generation].x)
        assert (sets[generation].condition is None) == (data.train.condition is None)


def test_draws_of_different_generations_are_independent_and_of_one_law() -> None:
    data = gaussian(size=25, mean=[1.0, -2.0], covariance=[[4.0, 0.0], [0.0, 1.0]])
    means = torch.stack([fresh(data, t).x.mean(0) for t in range(400)]) - torch.tensor([1.0, -2.0])
    z = means / (torch.tensor([2.0, 1.0]) / 5)  # standard normal
    assert (z.mean(0).abs() < 4 / 20).all()
    assert ((z.var(0) - 1).abs() < 4 * (2 / 400) ** 0.5).all()
    assert ((z[1:] * z[:-1]).mean(0).abs() < 4 / 20).all()


def test_digits_have_disjoint_parts() -> None:
    whole, data = digits().train, digits(train_size=300)
    assert torch.equal(data.train.x, whole.x[:300])
    assert torch.equal(torch.cat([fresh(data, t).x for t in range(4)]), whole.x[:1200])
    assert torch.equal(fresh(data, 2).condition, whole.condition[600:900])
    assert data.rows == 1437
    with pytest.raises(InvalidValue, match="1437"):
        digits(train_size=1438)


def test_what_cannot_be_fresh_is_refused_with_what_there_is_and_what_to_do() -> None:
    require_fresh(digits(train_size=300), 3)
    require_fresh(gaussian(), 10**6)
    with pytest.raises(InvalidValue) as caught:
        require_fresh(digits(train_size=300), 4)
    assert caught.value.where == "real"
    assert "5 disjoint training sets of 300" in caught.value.expected
    assert "1437 real items of digits make 4" in caught.value.expected
    assert "data.train_size of at most 287" in caught.value.do
    assert "loop.generations of at most 3" in caught.value.do
    x = torch.zeros(4, 2)
    with pytest.raises(InvalidValue, match="mine, which has one training set"):
        require_fresh(RealData(Samples(x), Samples(x), "points", (), "mine"), 1)
