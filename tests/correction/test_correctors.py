"""The ideal corrector and its targets, and the nearest centre of k-means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.cluster import KMeans

from sc_loops import RealData, Samples, digits, gaussian
from sc_loops.correction.ideal import Ideal
from sc_loops.correction.kmeans import NearestCentre
from sc_loops.correction.stage import Correct
from sc_loops.correction.targets import FittedGaussian, GaussianTarget, RealSamples
from sc_loops.errors import InvalidValue

MEAN, COVARIANCE = [1.0, -2.0], [[2.0, 0.8], [0.8, 0.5]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_infinite_strength_gives_draws_of_the_target() -> None:
    data = gaussian()
    stage = Correct(corrector=Ideal(target=GaussianTarget(data, mean=MEAN, covariance=COVARIANCE)), strength=math.inf)
    x = stage(Samples(torch.full((20_000, 2), 7.0)), generator()).x.double().numpy()
    # Whitened by the target's own moments, every direction is standard normal.
    z = np.linalg.solve(np.linalg.cholesky(np.array(COVARIANCE)), (x - MEAN).T)
    for direction in ([1, 0], [0, 1], [0.6, 0.8]):
        assert stats.kstest(np.array(direction) @ z, "norm").pvalue > 1e-3
    assert stats.kstest(np.square(z).sum(axis=0), "chi2", args=(2,)).pvalue > 1e-3


def test_a_strength_between_mixes_model_and_target() -> None:
    """(p + γ p*)/(1 + γ) with p at 7 and p* standard normal: the share at 7 is 1/(1 + γ)."""
    stage = Correct(corrector=Ideal(target=GaussianTarget(gaussian())), strength=3.0)
    x = stage(Samples(torch.full((20_000, 2), 7.0)), generator()).x
    stayed = (x == 7).all(dim=1)
    assert abs(float(stayed.double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20_000)
    assert stats.kstest(x[~stayed].flatten().numpy(), "norm").pvalue > 1e-3


def test_a_fitted_gaussian_has_the_moments_of_the_real_data() -> None:
    data = gaussian(size=200, mean=MEAN, covariance=COVARIANCE)
    target = FittedGaussian(data)
    x = data.train.x.double().numpy()
    assert np.allclose(target.mean.numpy(), x.mean(axis=0), atol=1e-6)
    assert np.allclose(target.covariance.numpy(), np.cov(x.T, bias=True), atol=1e-9)


def test_real_samples_are_drawn_evenly_from_the_class() -> None:
    data = digits()
    labels = torch.tensor([3, 7]).repeat(4000)
    x = RealSamples(data)(generator(), 8000, labels)
    for digit in (3, 7):
        real = data.train.x[data.train.condition == digit]
        drawn = x[labels == digit]
        which = torch.cdist(drawn.flatten(1), real.flatten(1)).argmin(dim=1)
        assert torch.equal(real[which], drawn)
        assert stats.chisquare(which.bincount(minlength=len(real)).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mean": [0.0]}, "2 numbers"),
        ({"covariance": [[1.0, 0.0]]}, "2 rows of 2"),
        ({"covariance": [[1.0, 0.5], [0.0, 1.0]]}, "symmetric"),
        ({"covariance": [[1.0, 2.0], [2.0, 1.0]]}, "positive definite"),
    ],
)
def test_impossible_targets(options: dict, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        GaussianTarget(gaussian(), **options)


@pytest.mark.parametrize("target", [lambda g, n, c: torch.zeros(n, 3), lambda g, n, c: torch.full((n, 2), math.nan)])
def test_a_target_that_cannot_be_sampled(target) -> None:
    with pytest.raises(InvalidValue, match="finite draws of shape"):
        Correct(corrector=Ideal(target=target), strength=1.0).check(gaussian().train[:8])


def test_too_few_real_samples_for_a_fitted_gaussian() -> None:
    with pytest.raises(InvalidValue, match="singular"):
        FittedGaussian(gaussian(size=2))


def test_centres_are_those_of_scikit_learn_class_by_class(tmp_path) -> None:
    data = digits()
    corrector = NearestCentre(data, clusters=4)
    corrector.prepare(tmp_path)
    for digit in (0, 5):
        real = data.train.x[data.train.condition == digit].flatten(1).double().numpy()
        centres = KMeans(4, n_init="auto", random_state=0).fit(real).cluster_centers_
        assert np.allclose(corrector.centres[digit].flatten(1).numpy(), centres, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 1
    again = NearestCentre(data, clusters=4)
    again._found = None  # it is not to be found again
    again.prepare(tmp_path)
    assert torch.equal(again.centres, corrector.centres)


def test_a_sample_goes_to_the_nearest_centre_of_its_class_and_stays_there() -> None:
    data = digits()
    corrector = NearestCentre(data, clusters=4)
    x = torch.randn(50, 1, 8, 8, generator=generator())
    asked = torch.arange(50) % 10
    once = corrector(Samples(x, asked), generator())
    for image, digit, found in zip(x, asked, once, strict=True):
        centres = corrector.centres[digit]
        best = min(range(4), key=lambda k: float((centres[k] - image).square().sum()))
        assert torch.equal(found, centres[best])
    assert torch.equal(corrector(Samples(once, asked), generator()), once)


def test_twice_is_once_for_pixels_too() -> None:
    real = Samples((digits().train.x.add(1).mul(127.5)).byte(), digits().train.condition)
    data = RealData(real, real[:10], "images", digits().class_names, "pixels")
    corrector = NearestCentre(data, clusters=3)
    before = Samples(torch.randn(40, 1, 8, 8, generator=generator()), torch.arange(40) % 10)
    once = corrector(before, generator())
    assert torch.equal(corrector(Samples(once, before.condition), generator()), once)
    pixels = (once + 1) * 127.5
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)


def test_blend_goes_a_part_of_the_way() -> None:
    data = digits()
    before = Samples(torch.randn(20, 1, 8, 8, generator=generator()), torch.arange(20) % 10)
    full, part = (NearestCentre(data, clusters=4, blend=b)(before, generator()) for b in (1.0, 0.25))
    assert torch.allclose(part, before.x + 0.25 * (full - before.x), atol=1e-6)
    assert torch.equal(NearestCentre(data, clusters=4, blend=0.0)(before, generator()), before.x)


def test_without_classes_any_centre_will_do() -> None:
    data = gaussian(size=100)
    corrector = NearestCentre(data, clusters=5)
    x = torch.randn(30, 2, generator=generator())
    nearest = torch.cdist(x, corrector.centres[0]).argmin(dim=1)
    assert torch.equal(corrector(Samples(x), generator()), corrector.centres[0][nearest])


@pytest.mark.parametrize(
    ("options", "says"), [({"clusters": 0}, ">= 1"), ({"clusters": 500}, "at most"), ({"blend": 2}, "0, 1")]
)
def test_impossible_options(options: dict, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        NearestCentre(digits(), **options)


def test_a_class_without_real_samples_has_no_centre() -> None:
    real = Samples(torch.randn(8, 2, generator=generator()), torch.tensor([0, 2]).repeat(4))
    corrector = NearestCentre(RealData(real, real, "points", ("a", "b", "c"), "made up"), clusters=2)
    assert corrector(Samples(torch.zeros(2, 2), torch.tensor([2, 0])), generator()).shape == (2, 2)
    with pytest.raises(InvalidValue, match="real samples of every class"):
        corrector(Samples(torch.zeros(2, 2), torch.tensor([2, 1])), generator())
