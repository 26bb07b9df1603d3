from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from sc_loops.correction.gaussian_theory import (
    Array,
    ExpectedFits,
    expected_fits,
    kept_of_pools,
)
from sc_loops.data.memory import Memory, MemoryPolicy
from sc_loops.errors import InvalidValue
from sc_loops.samples import Samples

MEAN = np.array([0.6, -1.1])
COVARIANCE = np.array([[1.5, 0.4], [0.4, 0.7]])
REAL = np.random.default_rng(7).normal([1.0, -0.5], [1.2, 0.6], (12, 2))
REGULARISATION = 0.05  # large enough to be seen
STRENGTHS = (0.0, 0.3, 2.0, math.inf)
MEMORIES: tuple[MemoryPolicy, ...] = ("replace", "fading")


def expected(strength: float, memory: MemoryPolicy, generations: int, *, kept: int = 6, **more: bool) -> ExpectedFits:
    return expected_fits(
        REAL, mean=MEAN, covariance=COVARIANCE, strength=strength, kept=kept, generations=generations,
        memory=memory, regularisation=REGULARISATION, **more,
    )  # fmt: skip


def kept_by_the_rule(memory: MemoryPolicy, generation: int, pool: int, kept: int) -> int:
    """The rule of either memory, one entry at a time."""
    if memory == "replace":
        return kept if pool == generation - 1 else 0
    return math.floor((pool + 1) * kept / generation + 1e-9)


def simulate(
    strength: float, memory: MemoryPolicy, generations: int, *, loops: int, kept: int = 6, seed: int
) -> tuple[Array, Array]:
    """μ and Σ of ``loops`` independent loops, ``(T+1, loops, d)`` and ``(T+1, loops, d, d)``."""
    generator = np.random.default_rng(seed)
    real = np.broadcast_to(REAL, (loops, *REAL.shape))
    factor = np.linalg.cholesky(COVARIANCE)
    pools: list[Array] = []
    means, covariances = [], []
    for t in range(generations + 1):
        seen = [pools[j][:, : kept_by_the_rule(memory, t, j, kept)] for j in range(t)]
        data = np.concatenate([real, *seen], axis=1)
        mean = data.mean(axis=1)
        centred = data - mean[:, None]
        covariance = centred.transpose(0, 2, 1) @ centred / data.shape[1] + REGULARISATION * np.eye(2)
        noise = generator.standard_normal((2, loops, kept, 2))
        own = mean[:, None] + noise[0] @ np.linalg.cholesky(covariance).transpose(0, 2, 1)
        share = 1 - 1 / (1 + strength)
        corrected = generator.random((loops, kept, 1)) < share
        pools.append(np.where(corrected, MEAN + noise[1] @ factor.T, own))
        means.append(mean)
        covariances.append(covariance)
    return np.array(means), np.array(covariances)


def assert_mean(samples: Array, expectation: Array) -> None:
    """The mean over axis 1 of ``samples (T+1, loops, ...)`` is within 4 standard errors of ``expectation``."""
    error = samples.std(axis=1, ddof=1) / math.sqrt(samples.shape[1])
    assert (np.abs(samples.mean(axis=1) - expectation) <= 4 * error + 1e-12).all()


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_simulated_loops_agree(strength: float, memory: MemoryPolicy) -> None:
    theory = expected(strength, memory, 12)
    means, covariances = simulate(strength, memory, 12, loops=4000, seed=3)
    deviation = means - MEAN
    assert_mean(means, theory.mean)
    assert_mean(deviation[..., :, None] * deviation[..., None, :], theory.deviation)
    assert_mean(covariances, theory.covariance)
    assert_mean((deviation**2).sum(axis=-1), theory.mean_square)
    assert_mean(np.trace(covariances, axis1=-2, axis2=-1), theory.covariance_trace)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_moments_of_all_pairs_of_points_agree(strength: float, memory: MemoryPolicy) -> None:
    # The other way to derive it: E[y yᵀ] of every pair of points by conditioning on the fit of the later one.
    generations, kept = 9, 4
    stays, share = 1 / (1 + strength), 1 - 1 / (1 + strength)
    points: list[tuple[int, int]] = []  # (pool, position); -1 is the pool of the real points
    pair: dict[tuple[tuple[int, int], tuple[int, int]], Array] = {}
    first: dict[tuple[int, int], Array] = {}
    for i, x in enumerate(REAL):
        first[-1, i] = x
        pair.update({((-1, i), (-1, j)): np.outer(x, y) for j, y in enumerate(REAL)})
        points.append((-1, i))
    theory = expected(strength, memory, generations, kept=kept)
    for t in range(generations + 1):
        seen = [(j, a) for j, a in points if j == -1 or a < kept_by_the_rule(memory, t, j, kept)]
        mean = np.mean([first[p] for p in seen], axis=0)
        outer = np.mean([pair[p, q] for p in seen for q in seen], axis=0)
        covariance = np.mean([pair[p, p] for p in seen], axis=0) - outer + REGULARISATION * np.eye(2)
        cross = np.outer(mean, MEAN)
        assert theory.mean[t] == pytest.approx(mean, rel=1e-12)
        deviation = outer - cross - cross.T + np.outer(MEAN, MEAN)
        assert theory.deviation[t] == pytest.approx(deviation, rel=1e-9, abs=1e-12)
        assert theory.covariance[t] == pytest.approx(covariance, rel=1e-10)
        for b in range(kept):
            new = (t, b)
            first[new] = stays * mean + share * MEAN
            for p in points:
                with_mean = np.mean([pair[q, p] for q in seen], axis=0)
                pair[new, p] = stays * with_mean + share * np.outer(MEAN, first[p])
                pair[p, new] = pair[new, p].T
        both = stays**2 * outer + stays * share * (cross + cross.T) + share**2 * np.outer(MEAN, MEAN)
        one = stays * (covariance + outer) + share * (COVARIANCE + np.outer(MEAN, MEAN))
        pair.update({((t, a), (t, b)): one if a == b else both for a in range(kept) for b in range(kept)})
        points += [(t, b) for b in range(kept)]


def test_generation_0_is_the_fit_of_the_real_points() -> None:
    theory = expected(0.3, "fading", 0)
    assert theory.mean == pytest.approx(REAL.mean(axis=0)[None])
    assert theory.covariance[0] == pytest.approx(np.cov(REAL.T, bias=True) + REGULARISATION * np.eye(2))
    assert theory.mean_square == pytest.approx([((REAL.mean(axis=0) - MEAN) ** 2).sum()])


def test_without_synthetic_points_every_generation_is_generation_0() -> None:
    theory = expected(0.3, "replace", 5, kept=0)
    assert theory.covariance == pytest.approx(np.repeat(theory.covariance[:1], 6, axis=0))
    assert theory.mean == pytest.approx(np.repeat(theory.mean[:1], 6, axis=0))


def test_all_corrected_is_a_fit_of_real_points_and_fresh_target_points() -> None:
    n, k = len(REAL), 6
    theory = expected(math.inf, "replace", 3)
    shift = n / (n + k) * (REAL.mean(axis=0) - MEAN)
    deviation = np.outer(shift, shift) + k / (n + k) ** 2 * COVARIANCE
    assert theory.mean[1:] == pytest.approx(np.tile(MEAN + shift, (3, 1)))
    assert theory.deviation[1:] == pytest.approx(np.tile(deviation, (3, 1, 1)))
    scatter = (n * np.cov(REAL.T, bias=True) + n * np.outer(*2 * [REAL.mean(axis=0) - MEAN]) + k * COVARIANCE) / (
        n + k
    )
    assert theory.covariance[1:] == pytest.approx(
        np.tile(scatter - deviation + REGULARISATION * np.eye(2), (3, 1, 1))
    )


def test_fully_synthetic_and_uncorrected_the_variance_decays_by_1_minus_1_over_k() -> None:
    theory = expected_fits(
        REAL, mean=MEAN, covariance=COVARIANCE, strength=0.0, kept=5, generations=20,
        fully_synthetic=True, regularisation=0.0,
    )  # fmt: skip
    start = np.cov(REAL.T, bias=True)
    decay = (1 - 1 / 5) ** np.arange(21)[:, None, None]
    assert theory.covariance == pytest.approx(start * decay)
    # What the covariance lost, the mean wandered: E[Σ_t] + Cov(μ_t) stays.
    offset = REAL.mean(axis=0) - MEAN
    assert theory.deviation - np.outer(offset, offset) == pytest.approx(start * (1 - decay))


def test_with_many_points_the_loop_is_that_of_the_distributions() -> None:
    # p_{t+1} = 1/(1+λ) p_real + λ/(1+λ) (p_t + γ p*)/(1+γ) with λ = 2 goes to a fixed point.
    ratio, strength, weight = 2, 0.3, 2 / 3
    theory = expected(strength, "replace", 60, kept=ratio * len(REAL))
    one = (1 - weight) / (1 - weight / (1 + strength)) * (REAL.mean(axis=0) - MEAN)
    assert theory.mean[-1] - MEAN == pytest.approx(one)  # exact for the mean, at any number of points
    real = np.tile(REAL, (20_000, 1))
    large = expected_fits(
        real, mean=MEAN, covariance=COVARIANCE, strength=strength, kept=ratio * len(real), generations=60,
        memory="replace", regularisation=0.0,
    )  # fmt: skip
    assert large.deviation[-1] == pytest.approx(np.outer(one, one), abs=1e-4)


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_memory_keeps(memory: MemoryPolicy) -> None:
    table = kept_of_pools(memory, kept=25, generations=40)
    assert table.shape == (41, 40)
    rule = [[kept_by_the_rule(memory, t, j, 25) if j < t else 0 for j in range(40)] for t in range(41)]
    assert (table == rule).all()


@pytest.mark.parametrize("memory", MEMORIES)
def test_memory_itself_keeps_as_many(memory: MemoryPolicy) -> None:
    table = kept_of_pools(memory, kept=25, generations=40)
    remembered = Memory.of(memory, lambda pool: Samples(torch.full((25, 1), float(pool))), 50, 0.5)
    for t in range(1, 41):
        pools = Samples.concatenate(remembered.recall(t)).x.flatten().long()
        assert torch.bincount(pools, minlength=40).tolist() == table[t].tolist()


def test_the_published_memory_holds_6025_points_after_500_generations() -> None:
    table = kept_of_pools("fading", kept=25, generations=500)
    assert table[500].sum() == 6025  # counted in a run of the published script
    assert (np.diff(table, axis=0)[np.tri(500, k=-1, dtype=bool)] <= 0).all()  # points leave, and do not come back


def test_500_generations_take_a_moment() -> None:
    real = np.random.default_rng(0).standard_normal((50, 2))
    began = time.process_time()
    theory = expected_fits(
        real, mean=[0, 0], covariance=np.eye(2), strength=0.123, kept=25, generations=500, memory="fading"
    )
    assert time.process_time() - began < 2
    assert np.isfinite(theory.covariance).all()


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"real": np.zeros(3)}, "real"),
        ({"mean": [0.0]}, "mean"),
        ({"covariance": np.eye(3)}, "covariance"),
        ({"strength": -1.0}, "strength"),
        ({"kept": -1}, "kept"),
        ({"kept": 0, "fully_synthetic": True}, "kept"),
        ({"mean": [math.nan, 0.0]}, "real, mean, covariance"),
    ],
)
def test_what_is_impossible_is_refused(change: dict, option: str) -> None:
    usual = {"real": REAL, "mean": MEAN, "covariance": COVARIANCE, "strength": 1.0, "kept": 3, "generations": 2}
    with pytest.raises(InvalidValue) as caught:
        expected_fits(**{**usual, **change})
    assert caught.value.where == option
