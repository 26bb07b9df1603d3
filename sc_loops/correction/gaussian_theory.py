"""The self-consuming loop of a Gaussian with the ideal corrector, in closed form: what its fits are on average.

n real points x_i are given and fixed. The model of generation N is the maximum likelihood Gaussian (μ_N, Σ_N) of its
training set: the real points and what memory keeps of the pools j < N. Each of the k points of pool j is drawn from
N(μ_j, Σ_j) with probability 1/(1+γ), else from the target N(μ*, Σ*). Expectations are over these draws, given the
real points; they are exact for every n, k and N. Derivation: docs/self_correction_theory.md, whose symbols these are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_loops.data.memory import MemoryPolicy
from sc_loops.errors import require

Array = NDArray[np.float64]
REGULARISATION = 1e-6  # of the model ``gaussian``, and of scikit-learn's


@dataclass(frozen=True, eq=False)
class ExpectedFits:
    """The fits of generations 0 to T, on average.

    Attributes:
        mean: ``(T+1, d)``, E[μ_t].
        deviation: ``(T+1, d, d)``, E[(μ_t - μ*)(μ_t - μ*)ᵀ].
        covariance: ``(T+1, d, d)``, E[Σ_t].
    """

    mean: Array
    deviation: Array
    covariance: Array

    @property
    def mean_square(self) -> Array:
        """E‖μ_t - μ*‖², ``(T+1,)``."""
        return np.trace(self.deviation, axis1=1, axis2=2)

    @property
    def covariance_trace(self) -> Array:
        """E[tr Σ_t], ``(T+1,)``."""
        return np.trace(self.covariance, axis1=1, axis2=2)


def expected_fits(
    real: ArrayLike,
    *,
    mean: ArrayLike,
    covariance: ArrayLike,
    strength: float,
    kept: int,
    generations: int,
    memory: MemoryPolicy = "replace",
    fully_synthetic: bool = False,
    regularisation: float = REGULARISATION,
) -> ExpectedFits:
    """The expected fits of generations 0 to T = ``generations``.

    Args:
        real: ``(n, d)``, the real points.
        mean: ``(d,)``, μ* of the target.
        covariance: ``(d, d)``, Σ* of the target.
        strength: γ in [0, inf].
        kept: k, the points that a generation leaves in its pool: floor(λ n).
        memory: which of them later generations see, ``kept_of_pools``.
        fully_synthetic: λ = inf, where generations after 0 see no real points.
        regularisation: what a fit adds to the diagonal of its covariance.
    """
    x, centre, target = _checked(real, mean, covariance)
    require(strength >= 0, "strength", strength, "a number in [0, inf]")
    require(kept >= fully_synthetic, "kept", kept, "an integer of at least 0 (1 where there is nothing else)")
    stays = 1 / (1 + strength)  # the probability that a point is not corrected
    real_share, shares, drift, response = _linear(len(x), kept, generations, memory, fully_synthetic, stays)
    shift, scatter = x.mean(axis=0) - centre, (x - centre).T @ (x - centre) / len(x)
    d, length = len(centre), generations + 1
    deviation, covariances, noise = (np.zeros((length, d, d)) for _ in range(3))
    for t in range(length):
        # E[(z-μ*)(z-μ*)ᵀ] of a point of pool j is noise_j + deviation_j/(1+γ)²; averaged over the training set:
        second = real_share[t] * scatter + _weighted(shares[t, :t], noise[:t] + stays**2 * deviation[:t])
        deviation[t] = drift[t] ** 2 * np.outer(shift, shift) + _weighted(response[t, :t], noise[:t])
        covariances[t] = second - deviation[t] + regularisation * np.eye(d)
        # E[Cov(y | fit t)] for y of the mixture of the fit and the target.
        noise[t] = stays * covariances[t] + (1 - stays) * target + stays * (1 - stays) * deviation[t]
    return ExpectedFits(centre + drift[:, None] * shift, deviation, covariances)


def kept_of_pools(memory: MemoryPolicy, *, kept: int, generations: int) -> NDArray[np.int64]:
    """``(T+1, T)``: of the ``kept`` points k of pool j, how many the training set of generation N holds, at [N, j].

    They are the first ones: all k of pool N-1 with ``replace``, and floor((j+1) k / N) of every j < N with ``fading``
    (the paper's growing memory). No more for a later N than for an earlier one.
    """
    later, pool = np.arange(generations + 1)[:, None], np.arange(generations)
    if memory == "replace":
        return np.where(pool == later - 1, kept, 0)
    return np.where(pool < later, (pool + 1) * kept // np.maximum(later, 1), 0)


class _Linear(NamedTuple):
    """How the fits of generations 0..T answer to their training points, whatever the data.

    Attributes:
        real: ``(T+1,)``, the share of real points in the training set.
        pools: ``(T+1, T)``, the share of points of each pool.
        drift: ``(T+1,)``: E[μ_N] - μ* = drift[N] (x̄ - μ*).
        response: ``(T+1, T)``: Cov(μ_N) = Σ_j response[N, j] noise_j.
    """

    real: Array
    pools: Array
    drift: Array
    response: Array


@lru_cache(maxsize=16)
def _linear(
    n: int, kept: int, generations: int, memory: MemoryPolicy, fully_synthetic: bool, stays: float
) -> _Linear:
    pools = kept_of_pools(memory, kept=kept, generations=generations).astype(float)
    real = np.full(generations + 1, float(n))
    if fully_synthetic:
        real[1:] = 0
    size = real + pools.sum(axis=1)
    shares = pools / size[:, None]
    reach = _reach(shares, size, stays)
    return _Linear(real / size, shares, reach @ real, _response(reach, pools))


def _reach(shares: Array, size: Array, stays: float) -> Array:
    """``(T+1, T+1)``, at [N, M]: by what μ_N moves when one point in the training set of generation M moves by 1,
    itself and through the pools in between."""
    reach = np.zeros((len(size), len(size)))
    for t in range(len(size)):
        reach[t] = stays * shares[t, :t] @ reach[:t]
        reach[t, t] = 1 / size[t]
    return reach


def _response(reach: Array, pools: Array) -> Array:
    """``(T+1, T)``, at [N, j]: the sum of h² over the points of pool j. h, by what μ_N moves with such a point, is
    the sum of ``reach`` over the generations that train on it: j+1 to the last that sees it."""
    up_to, response = np.cumsum(reach, axis=1), np.zeros_like(pools)
    last_seen = pools - np.vstack([pools[1:], np.zeros_like(pools[:1])])  # how many are last seen in a generation
    for j in range(pools.shape[1]):
        ends = j + 1 + np.flatnonzero(last_seen[j + 1 :, j])
        response[:, j] = (up_to[:, ends] - up_to[:, j : j + 1]) ** 2 @ last_seen[ends, j]
    return response


def _weighted(weights: Array, matrices: Array) -> Array:
    """Σ_j weights_j matrices_j, ``(d, d)``."""
    return np.tensordot(weights, matrices, axes=1)


def _checked(real: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array, Array]:
    x, centre, target = (np.asarray(a, dtype=np.float64) for a in (real, mean, covariance))
    require(x.ndim == 2 and len(x) > 0, "real", x.shape, "points, (n, d)")
    d = x.shape[1]
    require(centre.shape == (d,), "mean", centre.shape, f"({d},), as the real points")
    require(target.shape == (d, d), "covariance", target.shape, f"({d}, {d}), as the real points")
    finite = all(np.isfinite(a).all() for a in (x, centre, target))
    require(bool(finite), "real, mean, covariance", "a number that is not finite", "finite numbers")
    return x, centre, target
