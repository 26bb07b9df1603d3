"""The self-consuming loop of a model that is known by its mean and covariance, in closed form: for every data policy.

The models ``gaussian`` and ``kde`` draw their samples, given the fit (μ, Σ), independently with the mean μ and the
covariance b Σ: Σ is the covariance of the items plus a regularisation, which for a KDE of bandwidth h is h². Only
these moments count for the expectations of ‖μ_t - μ*‖² and of tr Σ_t, which follow a linear recursion in a few
scalars, exact for every size and generation. Derivation and special cases: docs/gaussian_loops.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_loops.errors import require

Array = NDArray[np.float64]
KnownMemory = Literal["replace", "accumulate", "accumulate_subsample"]


@dataclass(frozen=True)
class RealMoments:
    """What the recursion knows of the real items, all measured from μ*: generation 0 trains on the first n_ini of
    them, later generations on the first n <= n_ini.

    Attributes:
        first_items, later_items: n_ini and n.
        first_second, later_second: the means of ‖x‖² over them.
        first_square, later_square: the squared norms of their means.
        cross: the inner product of the two means.
    """

    first_items: int
    later_items: int
    first_second: float
    later_second: float
    first_square: float
    later_square: float
    cross: float

    @staticmethod
    def of(x: ArrayLike, mean: ArrayLike, later_items: int | None = None) -> RealMoments:
        """Those of the items ``x``, ``(n_ini, d)``, or averaged over R replicas, ``(n_ini, R, d)``; μ* is ``mean``,
        ``(d,)``."""
        z = np.asarray(x, dtype=np.float64) - np.asarray(mean, dtype=np.float64)
        z = z[:, None] if z.ndim == 2 else z
        later, replicas = z[:later_items], z.shape[1]
        centre, later_centre = z.mean(axis=0), later.mean(axis=0)
        sums = ((z**2).sum() / len(z), (later**2).sum() / len(later), (centre**2).sum(), (later_centre**2).sum())
        cross = (centre * later_centre).sum()
        return RealMoments(len(z), len(later), *(float(value / replicas) for value in (*sums, cross)))

    @staticmethod
    def expected(trace: float, first_items: int, later_items: int | None = None) -> RealMoments:
        """Those on average over draws of the target with tr Σ* = ``trace``."""
        n = first_items if later_items is None else later_items
        return RealMoments(first_items, n, trace, trace, trace / first_items, trace / n, trace / first_items)


@dataclass(frozen=True, kw_only=True)
class MomentLoop:
    """A loop, as far as its moments depend on it.

    Args:
        dimensions: d.
        trace: tr Σ* of the target, from which fresh real items come and towards which samples are corrected.
        kept: k, the items of a pool that later generations train on: floor(λ n), or whole pools.
        memory: which pools those are.
        fresh: later generations train on n new real items each.
        fully_synthetic: λ = inf: later generations train on no real items.
        real_weight: the share of the real items in a later fit, 1/(1+λ), where λ is kept by weight; by default that
            of their number.
        strength: γ of an ideal correction towards the target.
        sampling_bias: b.
        unbiased: whether covariances are unbiased.
        regularisation: what a fit adds to the diagonal of its covariance; h² for a KDE.
    """

    dimensions: int
    trace: float
    kept: int
    memory: KnownMemory = "replace"
    fresh: bool = False
    fully_synthetic: bool = False
    real_weight: float | None = None
    strength: float = 0.0
    sampling_bias: float = 1.0
    unbiased: bool = False
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        require(self.memory in get_args(KnownMemory), "memory", self.memory, ", ".join(get_args(KnownMemory)))
        few = "an integer of at least 0 (1 where there is nothing else)"
        require(self.kept >= self.fully_synthetic, "kept", self.kept, few)
        require(self.strength >= 0, "strength", self.strength, "a number in [0, inf]")
        require(0 < self.sampling_bias <= 1, "sampling_bias", self.sampling_bias, "b in (0, 1], where 1 is none")


@dataclass(frozen=True)
class ExpectedMoments:
    """Attributes:
    mean_square: ``(T+1,)``, E‖μ_t - μ*‖².
    covariance_trace: ``(T+1,)``, E[tr Σ_t].
    """

    mean_square: Array
    covariance_trace: Array


@dataclass(frozen=True)
class _Pools:
    """The m pool items that the next generation trains on, or draws from, measured from μ*: the expected squared norm
    of their mean, its inner product with the mean of the real items, and the mean of their squared norms."""

    items: int
    square: float
    cross: float
    second: float


@dataclass(frozen=True)
class _Set:
    """What a generation trains on: its mean z̄ and its items, measured from μ*.

    Attributes:
        square, second: E‖z̄‖² and the expected mean of ‖z‖².
        with_pools, with_real: expected inner products of z̄ with the mean of the older pools and of the real items.
        spread: Σ w² over the weights w of the items, which add up to 1.
    """

    square: float
    second: float
    with_pools: float
    with_real: float
    spread: float


def expected_moments(real: RealMoments, loop: MomentLoop, generations: int) -> ExpectedMoments:
    """What ``loop`` expects of generations 0 to T = ``generations``, given the ``real`` items of generation 0."""
    pools = _Pools(0, 0.0, 0.0, 0.0)
    squares, traces = [], []
    for t in range(generations + 1):
        seen = _drawn(_training_set(real, pools, loop), real, pools, loop) if t else _first(real, loop)
        trace = (seen.second - seen.square) / (1 - seen.spread if loop.unbiased and seen.spread < 1 else 1)
        trace += loop.dimensions * loop.regularisation
        squares.append(seen.square)
        traces.append(trace)
        if loop.kept:
            pools = _with_newest(pools, seen, _noise(seen.square, trace, loop), loop)
    return ExpectedMoments(np.array(squares), np.array(traces))


def _first(real: RealMoments, loop: MomentLoop) -> _Set:
    """Generation 0 trains on n_ini real items."""
    with_real = 0.0 if loop.fresh else real.cross
    return _Set(real.first_square, real.first_second, 0.0, with_real, 1 / real.first_items)


def _training_set(real: RealMoments, pools: _Pools, loop: MomentLoop) -> _Set:
    """All n real items and all that is remembered, in the shares ρ and 1 - ρ."""
    n, m = (0 if loop.fully_synthetic else real.later_items), pools.items
    share = n / (n + m) if loop.real_weight is None or not m else loop.real_weight
    rest = 1 - share
    second, square = real.later_second, real.later_square
    if loop.fresh:
        second, square = loop.trace, loop.trace / real.later_items
    return _Set(
        square=share**2 * square + 2 * share * rest * pools.cross + rest**2 * pools.square,
        second=share * second + rest * pools.second,
        with_pools=share * pools.cross + rest * pools.square,
        with_real=0.0 if loop.fresh else share * square + rest * pools.cross,
        spread=(share**2 / n if n else 0) + (rest**2 / m if m else 0),
    )


def _drawn(all_: _Set, real: RealMoments, pools: _Pools, loop: MomentLoop) -> _Set:
    """n items drawn from ``all_`` without replacement, where memory is ``accumulate_subsample``.

    Drawing n of P moves the mean by as much as the finite population correction says, (1/n - 1/P) P/(P-1) times the
    variance of the P, and in no direction that is correlated with anything before (Cochran 1977, Theorem 2.2).
    """
    size = pools.items + (0 if loop.fully_synthetic else real.later_items)
    drawn = min(real.later_items, size)
    if loop.memory != "accumulate_subsample" or drawn == size:
        return all_
    moved = (1 / drawn - 1 / size) * size / (size - 1) * (all_.second - all_.square)
    return _Set(all_.square + moved, all_.second, all_.with_pools, all_.with_real, 1 / drawn)


def _noise(square: float, trace: float, loop: MomentLoop) -> float:
    """E[tr Cov(y | fit)] of a sample y: of the model with probability s = 1/(1+γ), else of the target."""
    stays = 1 / (1 + loop.strength)
    return stays * loop.sampling_bias * trace + (1 - stays) * loop.trace + stays * (1 - stays) * square


def _with_newest(pools: _Pools, seen: _Set, noise: float, loop: MomentLoop) -> _Pools:
    """What is remembered once the k samples of a fit to ``seen`` are there: given the fit, their mean is s times its
    own, measured from μ*."""
    k, stays = loop.kept, 1 / (1 + loop.strength)
    items = k if loop.memory == "replace" else pools.items + k
    new = k / items
    old = 1 - new
    own = stays**2 * seen.square
    return _Pools(
        items,
        square=old**2 * pools.square + 2 * old * new * stays * seen.with_pools + new**2 * (own + noise / k),
        cross=old * pools.cross + new * stays * seen.with_real,
        second=old * pools.second + new * (own + noise),
    )
