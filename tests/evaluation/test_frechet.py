"""Gaussians of features and the distance between them, against scipy, closed forms and another formula."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.evaluation import frechet
from sc_loops.evaluation.frechet import Gaussian, frechet_distance, gaussian, square_root


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
