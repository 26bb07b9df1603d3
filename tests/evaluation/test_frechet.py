"""Gaussians of features and the distance between them, against scipy, closed forms and another formula."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.evaluation import frechet
from sc_loops.evaluation.frechet import Gaussian, frechet_distance, frechet_distance_error, gaussian, square_root


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def features(n, d, decay, seed):
    """n features whose variances fall from 1 to 10^-decay along random directions, in float32 as networks give."""
    basis = torch.linalg.qr(normal(d, d, seed=99)).Q
    return ((normal(n, d, seed=seed) * torch.logspace(0, -decay / 2, d, dtype=torch.float64)) @ basis).float()


def scipys(fake, real):
    """The distance with the root that published code takes of the product of the covariances."""
    root = scipy.linalg.sqrtm((fake.covariance @ real.covariance).numpy()).real
    traces = fake.covariance.trace() + real.covariance.trace()
    return float((fake.mean - real.mean).square().sum() + traces) - 2 * np.trace(root)


def by_nuclear_norm(x, y):
    """The distance without a matrix root: tr (C1 C2)^1/2 is the nuclear norm of A^T B for C1 = A A^T, C2 = B B^T."""
    a, b = ((z - z.mean(dim=0)).T / math.sqrt(len(z) - 1) for z in (x.double(), y.double()))
    overlap = torch.linalg.matrix_norm(a.T @ b, "nuc")
    means = (x.double().mean(dim=0) - y.double().mean(dim=0)).square().sum()
    return float(means + a.square().sum() + b.square().sum() - 2 * overlap)


def test_a_gaussian_is_numpys_however_many_blocks_it_takes(monkeypatch):
    x = (3 + normal(50, 4)).float()
    whole = gaussian(x)
    np.testing.assert_allclose(whole.mean, x.double().numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(whole.covariance, np.cov(x.numpy().T), rtol=1e-12)
    monkeypatch.setattr(frechet, "BLOCK", 7)
    torch.testing.assert_close(gaussian(x).covariance, whole.covariance, rtol=1e-12, atol=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), d=st.integers(1, 12))
def test_distance_is_scipys(seed, d):
    fake, real = gaussian(normal(40, d, seed=seed)), gaussian(0.5 + 2 * normal(30, d, seed=seed + 1))
    assert frechet_distance(fake, real) == pytest.approx(scipys(fake, real), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(400, 500), (60, 500), (400, 50), (60, 50)])
@pytest.mark.parametrize("decay", [0, 4, 8])
def test_distance_is_scipys_for_singular_covariances_too(n, m, decay):
    """Fewer samples than the 128 features, variances that differ by eight orders of magnitude, and both."""
    x, y = 1.2 * features(n, 128, decay, seed=1), features(m, 128, decay, seed=2)
    found = frechet_distance(gaussian(x), gaussian(y).with_root())
    assert found == pytest.approx(scipys(gaussian(x), gaussian(y)), rel=1e-6)
    assert found == pytest.approx(by_nuclear_norm(x, y), rel=1e-6)


def test_a_known_root_changes_nothing():
    fake, real = gaussian(normal(40, 6)), gaussian(1 + normal(30, 6, seed=1))
    assert frechet_distance(fake, real.with_root()) == frechet_distance(fake, real)
    assert frechet_distance(fake, real) == pytest.approx(frechet_distance(real, fake))
    rooted = real.with_root()
    assert rooted.with_root() is rooted
    torch.testing.assert_close(rooted.root @ rooted.root, real.covariance)


def test_square_root_of_a_singular_matrix():
    a = normal(8, 3)
    root = square_root(a @ a.T)
    torch.testing.assert_close(root @ root, a @ a.T)
    torch.testing.assert_close(root, root.T)


def test_distance_of_commuting_singular_covariances():
    mean1, mean2 = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 2.0])
    basis = torch.linalg.qr(normal(3, 3)).Q
    c1 = basis @ torch.diag(torch.tensor([4.0, 1.0, 0.0]).double()) @ basis.T
    c2 = basis @ torch.diag(torch.tensor([9.0, 0.0, 0.0]).double()) @ basis.T
    expected = 5 + (2 - 3) ** 2 + 1
    assert frechet_distance(Gaussian(mean1, c1), Gaussian(mean2, c2)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [20, 300])
def test_distance_to_itself_is_nothing(n):
    x = gaussian(features(n, 64, 4, seed=0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


# The error.


def draws_of(n, d, seed, scale=1.0, shift=0.0):
    """Draws of a Gaussian whose features deviate by 0.5 to 2."""
    return shift + scale * normal(n, d, seed=seed) * torch.linspace(0.5, 2, d, dtype=torch.float64)


@pytest.mark.parametrize(
    ("d", "n", "scale", "shift", "draws"),
    [(3, 500, 1.2, 0.3, 120), (8, 400, 1.3, 0.2, 120), (8, 400, 1.0, 0.0, 120), (40, 300, 1.1, 0.1, 60)],
)
def test_the_error_is_the_spread_over_independent_draws(d, n, scale, shift, draws):
    real = gaussian(draws_of(20_000, d, seed=10**6)).with_root()
    fakes = [draws_of(n, d, seed, scale, shift) for seed in range(draws)]
    spread = np.std([frechet_distance(gaussian(fake), real) for fake in fakes], ddof=1)
    error = np.sqrt(np.mean([frechet_distance_error(fake, real) ** 2 for fake in fakes]))
    # Where both distributions are the same the distance is quadratic, and a jackknife of it too large.
    assert 0.85 < error / spread < (1.6 if scale == 1 else 1.3)


def test_the_error_is_the_jackknifes_of_the_same_blocks_left_out_one_by_one():
    fake, real = 1000 + draws_of(77, 5, 0), gaussian(draws_of(90, 5, 1))
    order = torch.randperm(77, generator=torch.Generator().manual_seed(0))
    left = [
        fake[torch.cat([*blocks[:j], *blocks[j + 1 :]])] for blocks in [order.tensor_split(10)] for j in range(10)
    ]
    distances = np.array([frechet_distance(gaussian(rest), real) for rest in left])
    expected = math.sqrt(9 / 10 * ((distances - distances.mean()) ** 2).sum())
    assert frechet_distance_error(fake, real) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance_error(fake, real.with_root()) == frechet_distance_error(fake, real)


def test_the_error_of_samples_in_order_of_their_class():
    """Blocks of one class each would give a hundred times as much."""
    modes = 10 * torch.arange(10).repeat_interleave(50).double()
    fake, real = modes[:, None] + 0.1 * normal(500, 2), gaussian(30 + normal(500, 2, seed=1))
    shuffled = fake[torch.randperm(500, generator=torch.Generator().manual_seed(5))]
    ratio = frechet_distance_error(fake, real) / frechet_distance_error(shuffled, real)
    assert 0.4 < ratio < 2.5


def test_the_distance_of_few_samples_is_too_large_by_what_the_docstring_says():
    d, n, m, s = 6, 300, 400, 1.5
    pairs = [(s * normal(n, d, seed=2 * i), s * normal(m, d, seed=2 * i + 1)) for i in range(100)]
    found = np.mean([frechet_distance(gaussian(x), gaussian(y)) for x, y in pairs])
    assert found == pytest.approx(s**2 * (d + d * (d + 1) / 4) * (1 / n + 1 / m), rel=0.1)
