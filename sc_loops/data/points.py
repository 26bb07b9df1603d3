"""Points: two moons, a mixture of Gaussians on a circle, and one Gaussian of any dimension. All can be drawn anew for
each generation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.randomness import seed_for
from sc_loops.samples import Samples

MOST_POINTS = 10_000_000

Draw = Callable[[int], tuple[np.ndarray, np.ndarray | None]]
"""From a seed: points ``(N, d)`` in random order, and their classes ``(N,)`` or None."""


def two_moons(*, size: int = 10000, test_size: int = 2000, noise: float = 0.05, seed: int = 0) -> RealData:
    """Two interleaved half circles, ``(N, 2)``, about [-4, 7] x [-2.5, 4].

    scikit-learn's moons mapped by x -> 3 x - 1, the convention of torchcfm. Class 0 is the upper half circle,
    class 1 the lower one; each has half of the points.

    Args:
        size: points to train on.
        test_size: held-out points.
        noise: standard deviation of the noise before the map; a third of the one in the data.
        seed: of the points; the same in all runs that are to be compared.
    """
    from sklearn.datasets import make_moons  # costs a second, which the mixture need not pay

    _require_sizes(size, test_size)
    require(0 <= noise < math.inf, "noise", noise, "a number >= 0")

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        points, labels = make_moons(size + test_size, noise=noise, random_state=seed % 2**32)
        return 3 * points - 1, labels

    return _drawn(draw, seed, size, ("upper", "lower"), "two_moons")


def gaussian_mixture(
    *,
    modes: int = 8,
    radius: float = 5.0,
    std: float = 0.5,
    size: int = 10000,
    test_size: int = 2000,
    seed: int = 0,
    weights: list[float] | None = None,
) -> RealData:
    """Isotropic Gaussians at equal distances on a circle, ``(N, 2)``; the class is the number of the mode.

    Mode k is centred at ``radius * (cos 2 pi k / modes, sin 2 pi k / modes)``: mode 0 at ``(radius, 0)``, the
    others counter-clockwise. With the defaults neighbouring modes are 7.7 standard deviations apart.

    Args:
        modes: how many Gaussians.
        radius: of the circle of their centres.
        std: standard deviation of each coordinate within a mode.
        size: points to train on.
        test_size: held-out points.
        seed: of the points; the same in all runs that are to be compared.
        weights: relative weights of the modes, all the same if not given.
    """
    _require_sizes(size, test_size)
    require(1 <= modes <= 1000, "modes", modes, "an integer from 1 to 1000")
    require(0 < radius < math.inf, "radius", radius, "a number > 0")
    require(0 < std < math.inf, "std", std, "a number > 0")
    weights = [1.0] * modes if weights is None else weights
    require(len(weights) == modes, "weights", weights, f"one number for each of the {modes} modes")
    require(all(w > 0 for w in weights) and sum(weights) < math.inf, "weights", weights, "finite numbers > 0")
    shares = np.array(weights) / sum(weights)

    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = rng.choice(modes, size + test_size, p=shares)
        angles = 2 * np.pi * labels / modes
        centres = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return centres + std * rng.standard_normal(centres.shape), labels

    return _drawn(draw, seed, size, tuple(f"mode {k}" for k in range(modes)), "gaussian_mixture")


def gaussian(
    *,
    dimensions: int = 2,
    size: int = 50,
    test_size: int = 2000,
    mean: list[float] | None = None,
    covariance: list[list[float]] | None = None,
    seed: int = 0,
) -> RealData:
    """Draws of one Gaussian, ``(N, dimensions)``, without classes. The defaults are those of the published
    experiment on self-correction (Gillman et al. 2024): 50 draws of N(0, I) in the plane.

    Args:
        dimensions: d; for R replicas of a model of d dimensions, R d.
        size: points to train on. Those of a smaller size are the first of a larger one.
        test_size: held-out points.
        mean: d numbers, 0 if not given.
        covariance: d rows of d numbers, symmetric and positive definite; the identity if not given.
        seed: of the points; the same in all runs that are to be compared.
    """
    _require_sizes(size, test_size)
    require(1 <= dimensions <= 100_000, "dimensions", dimensions, "an integer from 1 to 100000")
    few = (size + test_size) * dimensions <= 10 * MOST_POINTS
    require(few, "size", size, f"at most {10 * MOST_POINTS} numbers in all: the points are held in memory")
    centre = [0.0] * dimensions if mean is None else mean
    fits = len(centre) == dimensions and all(map(math.isfinite, centre))
    require(fits, "mean", mean, f"a finite number for each of the {dimensions} dimensions")
    factor = None if covariance is None else _factor(covariance, dimensions)

    def draw(seed: int) -> tuple[np.ndarray, None]:
        draws = np.random.default_rng(seed).standard_normal((size + test_size, dimensions))
        return np.array(centre) + (draws if factor is None else draws @ factor.T), None

    return _drawn(draw, seed, size, (), "gaussian")


def _factor(covariance: list[list[float]], dimensions: int) -> np.ndarray:
    """The lower triangular L with L L^T = ``covariance``."""
    expected = f"{dimensions} rows of {dimensions} finite numbers, symmetric and positive definite"
    square = len(covariance) == dimensions and all(len(row) == dimensions for row in covariance)
    matrix = np.array(covariance, dtype=float) if square else np.full((1, 1), np.nan)
    require(bool(np.isfinite(matrix).all()), "covariance", covariance, expected)
    require(np.allclose(matrix, matrix.T, rtol=1e-6, atol=0), "covariance", covariance, expected)
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise InvalidValue("covariance", found=repr(covariance), expected=expected) from error


def _require_sizes(size: int, test_size: int) -> None:
    expected = f"an integer from 1 to {MOST_POINTS}: the points are held in memory"
    require(1 <= size <= MOST_POINTS, "size", size, expected)
    require(1 <= test_size <= MOST_POINTS, "test_size", test_size, expected)


def _drawn(draw: Draw, seed: int, size: int, class_names: tuple[str, ...], name: str) -> RealData:
    """Of what ``draw`` gives, the first ``size`` points to train on and the others to test. Generation t >= 1 has
    a draw of its own, of which it takes as many."""

    def drawn(*generation: int) -> Samples:
        points, labels = draw(seed_for(seed, name, *generation))
        return Samples(torch.from_numpy(points).float(), None if labels is None else torch.from_numpy(labels).long())

    samples = drawn()
    train, test = samples[:size], samples[size:]
    return RealData(train, test, "points", class_names, name, fresh=lambda t: drawn(t)[:size] if t else train)
