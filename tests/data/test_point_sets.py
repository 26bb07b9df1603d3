"""Two moons, the Gaussian mixture and the digits against what defines them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sc_loops.data.digits import digits
from sc_loops.data.points import gaussian, gaussian_mixture, two_moons
from sc_loops.errors import InvalidValue


def test_moons_without_noise_lie_on_their_half_circles():
    data = two_moons(size=300, test_size=100, noise=0.0)
    for part, size in ((data.train, 300), (data.test, 100)):
        assert part.x.shape == (size, 2)
        assert part.x.dtype == torch.float32
        assert part.condition.dtype == torch.int64
        x = (part.x + 1) / 3
        upper, lower = x[part.condition == 0], x[part.condition == 1] - torch.tensor([1.0, 0.5])
        assert len(upper) + len(lower) == size
        torch.testing.assert_close(upper.norm(dim=1), torch.ones(len(upper)))
        torch.testing.assert_close(lower.norm(dim=1), torch.ones(len(lower)))
        assert (upper[:, 1] >= -1e-6).all()
        assert (lower[:, 1] <= 1e-6).all()
    assert data.class_names == ("upper", "lower")


def test_noise_of_the_moons_is_three_times_what_is_asked_for():
    noiseless, noisy = two_moons(noise=0.0, seed=1), two_moons(noise=0.05, seed=1)
    assert torch.equal(noiseless.train.condition, noisy.train.condition)
    spread = (noisy.train.x - noiseless.train.x).std()
    assert float(spread) == pytest.approx(0.15, rel=0.03)


def test_mixture_has_the_means_spreads_and_shares_asked_for():
    weights = [4.0, 1.0, 1.0, 2.0]
    data = gaussian_mixture(modes=4, radius=3.0, std=0.2, size=20000, test_size=10, weights=weights)
    centres = torch.tensor([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0], [0.0, -3.0]])
    for k, centre in enumerate(centres):
        mode = data.train.x[data.train.condition == k]
        assert len(mode) / 20000 == pytest.approx(weights[k] / 8, abs=0.015)
        torch.testing.assert_close(mode.mean(dim=0), centre, atol=0.02, rtol=0)
        torch.testing.assert_close(torch.cov(mode.T), 0.04 * torch.eye(2), atol=0.004, rtol=0)
    assert data.class_names == ("mode 0", "mode 1", "mode 2", "mode 3")
    assert len(data.test) == 10


@pytest.mark.parametrize("make", [two_moons, gaussian_mixture, gaussian])
def test_points_are_a_function_of_the_seed_alone(make):
    np.random.seed(0)
    first = make(size=50, test_size=20, seed=3)
    np.random.seed(1)
    assert torch.equal(first.train.x, make(size=50, test_size=20, seed=3).train.x)
    assert not torch.equal(first.train.x, make(size=50, test_size=20, seed=4).train.x)


def test_gaussian_has_the_mean_and_covariance_asked_for():
    mean, covariance = [1.0, -2.0, 0.5], [[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]]
    data = gaussian(dimensions=3, size=40_000, test_size=10, mean=mean, covariance=covariance)
    # Four standard errors: sqrt(C_ii / n), and sqrt((C_ii C_jj + C_ij^2) / n) of a covariance.
    torch.testing.assert_close(data.train.x.mean(dim=0), torch.tensor(mean), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(data.train.x.T), torch.tensor(covariance), atol=0.06, rtol=0)
    assert (data.kind, data.name, data.class_names, data.train.condition) == ("points", "gaussian", (), None)


def test_gaussian_by_default_is_the_published_toy():
    data = gaussian()
    assert (data.train.x.shape, data.test.x.shape) == ((50, 2), (2000, 2))
    torch.testing.assert_close(data.test.x.mean(dim=0), torch.zeros(2), atol=0.09, rtol=0)
    torch.testing.assert_close(torch.cov(data.test.x.T), torch.eye(2), atol=0.13, rtol=0)


def test_fewer_points_of_a_gaussian_are_the_first_ones():
    assert torch.equal(gaussian(size=20).train.x, gaussian(size=50, test_size=7).train.x[:20])


def test_points_too_many_for_the_memory_are_refused():
    with pytest.raises(InvalidValue, match="held in memory"):
        gaussian(dimensions=1000, size=1_000_000)


def test_digits_are_split_without_loss_and_by_class():
    data = digits(test_fraction=0.2, seed=0)
    x, y = load_digits(return_X_y=True)
    assert data.shape == (1, 8, 8)
    assert (len(data.train), len(data.test)) == (1437, 360)
    ours = torch.cat([data.train.x, data.test.x]).flatten(1)
    labels = torch.cat([data.train.condition, data.test.condition])
    assert (float(ours.min()), float(ours.max())) == (-1.0, 1.0)
    found = sorted([*row, label] for row, label in zip((8 * (ours + 1)).tolist(), labels.tolist(), strict=True))
    assert found == sorted([*row, label] for row, label in zip(x.tolist(), y.tolist(), strict=True))
    shares = data.test.condition.bincount() / data.train.condition.bincount()
    torch.testing.assert_close(shares, torch.full((10,), 0.25), atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (two_moons, "size", 0),
        (two_moons, "noise", -0.1),
        (gaussian_mixture, "modes", 0),
        (gaussian_mixture, "std", 0.0),
        (gaussian_mixture, "weights", [1.0]),
        (gaussian_mixture, "weights", [1.0] * 7 + [0.0]),
        (gaussian, "size", 0),
        (gaussian, "dimensions", 0),
        (gaussian, "mean", [0.0]),
        (gaussian, "mean", [0.0, float("inf")]),
        (gaussian, "covariance", [[1.0, 0.0]]),
        (gaussian, "covariance", [[1.0], [0.0, 1.0]]),
        (gaussian, "covariance", [[1.0, 0.5], [0.0, 1.0]]),
        (gaussian, "covariance", [[1.0, 2.0], [2.0, 1.0]]),
        (gaussian, "covariance", [[1.0, 0.0], [0.0, float("nan")]]),
        (digits, "test_fraction", 0.0),
    ],
)
def test_impossible_values_name_their_option(make, option, value):
    with pytest.raises(InvalidValue) as caught:
        make(**{option: value})
    assert caught.value.where == option
