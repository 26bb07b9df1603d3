"""The expected moments of a loop: against simulated loops, against the theory with matrices, and in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sc_loops.correction.gaussian_theory import expected_fits
from sc_loops.errors import InvalidValue
from sc_loops.moment_theory import Array, ExpectedMoments, MomentLoop, RealMoments, expected_moments

MEAN, DEVIATIONS = np.array([0.6, -1.1]), np.array([1.3, 0.8])
TRACE = float((DEVIATIONS**2).sum())
FIRST, N, K, T, LOOPS = 9, 6, 4, 7, 2000


def loop(**options: Any) -> MomentLoop:
    return MomentLoop(**{"dimensions": 2, "trace": TRACE, "kept": K, **options})


def simulate(how: MomentLoop, *, kernels: bool = False, seed: int = 3) -> tuple[Array, Array]:
    """‖μ_t - μ*‖² and tr Σ_t of ``LOOPS`` independent loops that train on N of FIRST real items, ``(T+1, LOOPS)``.

    Every item is there, and drawn as the policies say: of a Gaussian, or of the ``kernels`` of a KDE.
    """
    rng = np.random.default_rng(seed)

    def target(n: int) -> Array:
        return MEAN + DEVIATIONS * rng.standard_normal((LOOPS, n, 2))

    first, pools = target(FIRST), []
    squares, traces = [], []
    for t in range(T + 1):
        real = [target(N) if how.fresh else first[:, :N]] * (not how.fully_synthetic) if t else [first]
        older = pools[-1:] if how.memory == "replace" else pools
        x = np.concatenate([*real, *older], axis=1)
        if how.memory == "accumulate_subsample" and t:
            order = rng.random(x.shape[:2]).argsort(axis=1)[:, :N]
            x = np.take_along_axis(x, order[..., None], axis=1)
        w = np.full(x.shape[1], 1 / x.shape[1])
        if how.real_weight is not None and t:
            w[:N], w[N:] = how.real_weight / N, (1 - how.real_weight) / (len(w) - N)
        mean = (w[:, None] * x).sum(axis=1)
        centred = x - mean[:, None]
        bessel = 1 - (w**2).sum() if how.unbiased else 1.0
        covariance = (w[:, None] * centred).transpose(0, 2, 1) @ centred / bessel + how.regularisation * np.eye(2)
        if kernels:
            pick = rng.integers(x.shape[1], size=(LOOPS, K, 1))
            noise = math.sqrt(how.regularisation) * rng.standard_normal((LOOPS, K, 2))
            y = np.take_along_axis(x, pick, axis=1) + noise
        else:
            factor = np.linalg.cholesky(how.sampling_bias * covariance)
            y = mean[:, None] + rng.standard_normal((LOOPS, K, 2)) @ factor.transpose(0, 2, 1)
        corrected = rng.random((LOOPS, K, 1)) < 1 - 1 / (1 + how.strength)
        pools.append(np.where(corrected, target(K), y))
        squares.append(((mean - MEAN) ** 2).sum(axis=1))
        traces.append(np.trace(covariance, axis1=1, axis2=2))
    return np.array(squares), np.array(traces)


def assert_mean(samples: Array, expectation: Array) -> None:
    """The means over the loops are within 4.5 standard errors of the expectation."""
    error = samples.std(axis=1, ddof=1) / math.sqrt(samples.shape[1])
    assert (np.abs(samples.mean(axis=1) - expectation) <= 4.5 * error + 1e-12).all()


FIXED: list[dict[str, Any]] = [{}, {"fresh": True}, {"fully_synthetic": True}]
OPTIONS: list[dict[str, Any]] = [
    {"regularisation": 0.05},
    {"sampling_bias": 0.7, "unbiased": True, "strength": 0.3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "biased"])
@pytest.mark.parametrize("real", FIXED, ids=["fixed", "fresh", "synthetic"])
@pytest.mark.parametrize("memory", ["replace", "accumulate", "accumulate_subsample"])
def test_simulated_loops_agree(memory: Any, real: dict[str, Any], options: dict[str, Any]) -> None:
    how = loop(memory=memory, **real, **options)
    theory = expected_moments(RealMoments.expected(TRACE, FIRST, N), how, T)
    squares, traces = simulate(how)
    assert_mean(squares, theory.mean_square)
    assert_mean(traces, theory.covariance_trace)


@pytest.mark.parametrize("memory", ["replace", "accumulate"])
@pytest.mark.parametrize("fresh", [False, True])
def test_simulated_loops_with_weights_agree(memory: Any, fresh: bool) -> None:
    how = loop(memory=memory, fresh=fresh, real_weight=0.3, unbiased=True, sampling_bias=0.8)
    theory = expected_moments(RealMoments.expected(TRACE, FIRST, N), how, T)
    squares, traces = simulate(how)
    assert_mean(squares, theory.mean_square)
    assert_mean(traces, theory.covariance_trace)


@pytest.mark.parametrize("real", FIXED[::2], ids=["fixed", "synthetic"])
@pytest.mark.parametrize("memory", ["replace", "accumulate", "accumulate_subsample"])
def test_a_kde_has_the_moments_of_a_regularised_gaussian(memory: Any, real: dict[str, Any]) -> None:
    how = loop(memory=memory, regularisation=0.25, **real)
    theory = expected_moments(RealMoments.expected(TRACE, FIRST, N), how, T)
    squares, traces = simulate(how, kernels=True)
    assert_mean(squares, theory.mean_square)
    assert_mean(traces, theory.covariance_trace)


@pytest.mark.parametrize("strength", [0.0, 0.3, math.inf])
@pytest.mark.parametrize("fully_synthetic", [False, True])
def test_given_the_real_points_it_is_the_theory_of_correction(strength: float, fully_synthetic: bool) -> None:
    x = np.random.default_rng(7).normal([1.0, -0.5], [1.2, 0.6], (12, 2))
    fits = expected_fits(
        x, mean=MEAN, covariance=np.diag(DEVIATIONS**2), strength=strength, kept=5, generations=15,
        fully_synthetic=fully_synthetic, regularisation=0.05,
    )  # fmt: skip
    how = loop(kept=5, strength=strength, fully_synthetic=fully_synthetic, regularisation=0.05)
    found = expected_moments(RealMoments.of(x, MEAN), how, 15)
    assert found.mean_square == pytest.approx(fits.mean_square, rel=1e-12)
    assert found.covariance_trace == pytest.approx(fits.covariance_trace, rel=1e-12)


def test_the_moments_of_replicas_are_the_means_of_theirs() -> None:
    x = np.random.default_rng(2).standard_normal((7, 3, 2))
    together = RealMoments.of(x, MEAN, 5)
    each = [RealMoments.of(x[:, r], MEAN, 5) for r in range(3)]
    assert (together.first_items, together.later_items) == (7, 5)
    for name in ("first_second", "later_second", "first_square", "later_square", "cross"):
        assert getattr(together, name) == pytest.approx(np.mean([getattr(one, name) for one in each]))
    assert each[0].cross == pytest.approx(float((x[:, 0].mean(axis=0) - MEAN) @ (x[:5, 0].mean(axis=0) - MEAN)))


def test_real_moments_are_those_expected_on_average() -> None:
    x = MEAN + DEVIATIONS * np.random.default_rng(1).standard_normal((9, 20_000, 2))
    found, expected = RealMoments.of(x, MEAN, 6), RealMoments.expected(TRACE, 9, 6)
    for name in ("first_second", "later_second", "first_square", "later_square", "cross"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=0.03)


# Closed forms.


def run(n: int, generations: int, first: int | None = None, **options: Any) -> ExpectedMoments:
    real = RealMoments.expected(TRACE, n if first is None else first, n)
    return expected_moments(real, loop(kept=n, **options), generations)


@pytest.mark.parametrize("bias", [1.0, 0.9, 0.5])
def test_fully_synthetic_the_trace_is_multiplied_by_the_bias(bias: float) -> None:
    """Alemohammad et al. 2024: E[Σ_t] = b E[Σ_{t-1}] of unbiased fits, and (1 - 1/n) times that of biased ones."""
    t = np.arange(41)
    unbiased = run(10, 40, fully_synthetic=True, sampling_bias=bias, unbiased=True)
    assert unbiased.covariance_trace == pytest.approx(TRACE * bias**t)
    biased = run(10, 40, fully_synthetic=True, sampling_bias=bias)
    assert biased.covariance_trace == pytest.approx(0.9 * TRACE * (0.9 * bias) ** t)
    if bias == 1:
        assert unbiased.mean_square == pytest.approx(TRACE * (t + 1) / 10)  # without bound
        assert biased.mean_square + biased.covariance_trace == pytest.approx(np.full(41, TRACE))


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_accumulate_keeps_the_trace_above_a_limit(n: int) -> None:
    """Gerstgrasser et al. 2024: what n items lose without end is bounded by Σ 1/i² = π²/6 of it."""
    found = run(n, 3000, memory="accumulate")
    i = np.arange(1, 3002)
    assert found.covariance_trace == pytest.approx(TRACE * np.cumprod(1 - 1 / (n * i**2)))
    assert found.mean_square == pytest.approx(TRACE - found.covariance_trace)
    limit = math.sin(math.pi / math.sqrt(n)) / (math.pi / math.sqrt(n))
    assert found.covariance_trace[-1] / TRACE == pytest.approx(limit, abs=1e-3 / n)
    if n == 1000:
        assert 1 - limit == pytest.approx(math.pi**2 / 6 / n, rel=1e-3)


@pytest.mark.parametrize("bias", [0.9, 0.5])
def test_what_accumulates_slows_a_biased_loop_to_a_power_law(bias: float) -> None:
    """With b < 1 the trace falls as t^-(1-b), where without real data it falls as b^t."""
    trace = run(100, 2000, memory="accumulate", sampling_bias=bias).covariance_trace
    assert np.log2(trace[2000] / trace[1000]) == pytest.approx(bias - 1, abs=1e-3)
    assert trace[2000] / TRACE * 2001 ** (1 - bias) * math.gamma(1 + bias) == pytest.approx(1, abs=0.02)


def test_subsample_lies_between() -> None:
    replace, subsample, accumulate = (
        run(10, 200, memory=memory, fully_synthetic=memory == "replace").covariance_trace
        for memory in ("replace", "accumulate_subsample", "accumulate")
    )
    assert (replace[2:] < subsample[2:]).all()
    assert (subsample[1:] < accumulate[1:]).all()
    t = np.arange(200)
    g = t / (10 * (t + 1) - 1)  # of what the population's mean square is short of its second moment
    spread = np.cumprod([0.9 * TRACE * 1.0, *(1 - (g + (1 - g) / 10) / (t + 2) ** 2)])
    g = np.append(g, 200 / (10 * 201 - 1))
    assert subsample == pytest.approx(spread * (1 - g))


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_the_variance_of_a_kde(h: float) -> None:
    """Replace: by h² a generation, up to n h². Accumulate: by h² (1/2 + 1/3 + ...), so like h² log t."""
    n, t = 20, np.arange(101)
    grown = run(n, 100, fully_synthetic=True, regularisation=h**2).covariance_trace
    shrunk = (1 - 1 / n) ** (t + 1)
    assert grown == pytest.approx(TRACE * shrunk + 2 * h**2 * n * (1 - shrunk))
    found = run(n, 100, memory="accumulate", regularisation=h**2)
    harmonic = np.cumsum(1 / (t + 1))
    assert found.covariance_trace + found.mean_square == pytest.approx(TRACE + 2 * h**2 * harmonic)


@pytest.mark.parametrize("bias", [1.0, 0.7])
def test_fresh_data_bound_the_trace_independently_of_the_start(bias: float) -> None:
    """Alemohammad et al. 2024: the limit depends on n_r, n_s and b, not on n_ini."""
    few, many = (
        expected_moments(
            RealMoments.expected(TRACE, first, 100),
            loop(kept=900, fresh=True, sampling_bias=bias, unbiased=True), 400,
        )
        for first in (100, 1000)
    )  # fmt: skip
    assert few.covariance_trace[-1] == pytest.approx(many.covariance_trace[-1], rel=1e-9)
    assert few.mean_square[-1] == pytest.approx(many.mean_square[-1], rel=1e-9)
    assert few.mean_square[0] == pytest.approx(10 * many.mean_square[0])
    # The fixed point of (S, U), solved by itself: S = ((n + k (U + b S)/v) v/N - U) N/(N-1), and
    # U = (n v + k² (U + b S/k))/N², with N = n + k.
    n, k, size = 100, 900, 1000
    matrix = [[1 - k * bias / (size - 1), -(k - size) / (size - 1)], [-k * bias / size**2, 1 - k**2 / size**2]]
    s, u = np.linalg.solve(matrix, [n * TRACE / (size - 1), n * TRACE / size**2])
    assert few.covariance_trace[-1] == pytest.approx(s)
    assert few.mean_square[-1] == pytest.approx(u)


def test_without_synthetic_items_later_generations_fit_the_real_ones() -> None:
    found = expected_moments(RealMoments.expected(TRACE, 8, 5), loop(kept=0), 3)
    assert found.covariance_trace == pytest.approx(TRACE * np.array([7 / 8, 4 / 5, 4 / 5, 4 / 5]))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"memory": "fading"}, "memory"),
        ({"kept": -1}, "kept"),
        ({"kept": 0, "fully_synthetic": True}, "kept"),
        ({"strength": -0.1}, "strength"),
        ({"sampling_bias": 0.0}, "sampling_bias"),
    ],
)
def test_what_is_impossible_is_refused(options: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        loop(**options)
    assert caught.value.where == option
