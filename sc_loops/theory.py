"""Closed forms for a self-consuming loop with curation: the dashed line of the plots, the oracle of the tests.

Source: Ferbach, Bertrand, Bose, Gidel, "Self-Consuming Generative Models with Curated Data Provably Optimize
Human Preferences", NeurIPS 2024, arXiv 2407.09499; equation, lemma and theorem numbers are the paper's.

The model is perfect and the sample space finite, so a generation is a vector of N probabilities:

    p_{t+1} = 1/(1+λ) p_ref + λ/(1+λ) p_t H_K

where λ in [0, inf] is the synthetic ratio, K the choices and H_K the tilting towards the reward r. r* is the
largest reward of positive probability. The guarantees are on E[e^r], not on E[r].

Throughout, ``probabilities`` is (N,), nonnegative, with sum 1 within 1e-6 (and then normalised); ``rewards``
is (N,), finite and at most 1e12 in size. Sequences and arrays are taken, float64 arrays and Python floats
returned; impossible values raise ``InvalidValue``. Rewards may span any range; only where e^r itself is
returned does r > 709 overflow to inf.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_loops.errors import require

Vector = NDArray[np.float64]

# The trapezoid rule in s = log u. Per exponential e^{-uv} its relative error is 2 |Γ(1 + 2πi/h)|, whatever v:
# 2e-16 for h = 1/4. A power of two also keeps s + r free of rounding for rewards far from zero.
SPACING = 0.25
# Of an exponential e^{-uv}, log u < -log v - 37 and log u > -log v + 4 hold less than 1e-16 of the integral.
TAIL_BELOW, TAIL_ABOVE = 37.0, 4.0
BLOCK_SIZE = 1 << 20  # elements of one (nodes, N) block: 8 MiB


def tilting(probabilities: ArrayLike, rewards: ArrayLike, *, choices: int, flipped: float = 0.0) -> Vector:
    """H_K(x) = E_{x_1..x_{K-1} ~ p}[K e^{r(x)} / (e^{r(x)} + Σ_i e^{r(x_i)})] (Eq. 6), exact to about 1e-13.

    1/v = ∫ e^{-uv} du turns the expectation over K-1 draws into one integral, at O(N) a node for every K:
    H_K(x) = K e^{r(x)} ∫_0^∞ e^{-u e^{r(x)}} φ(u)^{K-1} du, with φ(u) = E_{y~p}[e^{-u e^{r(y)}}].

    Whoever flips a share f of the choices, which then follow -r, tilts by (1-f) H_K[r] + f H_K[-r]; several rewards
    that each decide a share w_i of the choices tilt by Σ w_i H_K[r_i]: the choices are independent of one another.

    Returns:
        (N,), in [0, K], with Σ p H_K = 1. Atoms of probability zero have a value too.
    """
    p, r = _atoms(probabilities, rewards)
    _require_choices(choices)
    require(0 <= flipped <= 1, "flipped", flipped, "a share in [0, 1]")
    if flipped:
        straight, reversed_ = tilting(p, r, choices=choices), tilting(p, -r, choices=choices)
        return (1 - flipped) * straight + flipped * reversed_
    nodes, integral = _nodes(r, choices), np.zeros_like(r)
    rows = max(1, BLOCK_SIZE // len(r))
    for start in range(0, len(nodes), rows):
        # At 7, e^{-e^7} is zero already; above 709, e^{s+r} would be inf, and inf * 0 is not a number.
        ur = np.exp(np.minimum(nodes[start : start + rows, None] + r, 7.0))
        integral += _laplace_power(p, ur, choices - 1) @ (ur * np.exp(-ur))
    return choices * SPACING * integral


def tilting_of_samples(rewards: ArrayLike, *, choices: int) -> Vector:
    """``tilting`` (Eq. 6) of N samples of equal weight: the K-1 rivals are drawn from them with replacement."""
    r = _vector(rewards, "rewards")
    return tilting(np.full(len(r), 1 / len(r)), r, choices=choices)


def curation_step(probabilities: ArrayLike, rewards: ArrayLike, *, choices: int, flipped: float = 0.0) -> Vector:
    """p H_K, (N,): the distribution of what K-choice keeps of p (Eq. 6, λ = inf). It is at most K p."""
    return _distribution(probabilities) * tilting(probabilities, rewards, choices=choices, flipped=flipped)


def plural_curation_step(probabilities: ArrayLike, rewards: ArrayLike, shares: ArrayLike, *, choices: int) -> Vector:
    """p Σ_i w_i H_K[r_i], (N,), where each of M rewards ``(M, N)`` decides a share w_i of the choices, ``(M,)``."""
    weights = _distribution(shares, "shares")
    several = [_vector(r, "rewards") for r in np.atleast_2d(np.asarray(rewards, dtype=float))]
    require(len(several) == len(weights), "shares", len(weights), f"one share for each of the {len(several)} rewards")
    steps = [curation_step(probabilities, r, choices=choices) for r in several]
    return np.asarray(weights @ np.array(steps))


def curation_path(
    probabilities: ArrayLike,
    rewards: ArrayLike,
    *,
    choices: int,
    synthetic_ratio: float,
    generations: int,
    flipped: float = 0.0,
) -> list[Vector]:
    """p_0 .. p_T, T = ``generations``, for p_0 = p_ref: the maximisers of Eq. 3, generation 0 first.

    p_{t+1} = 1/(1+λ) p_ref + λ/(1+λ) p_t H_K. For λ = 0 all are p_ref; for λ = inf see ``curation_limit``.
    """
    _require_choices(choices)
    _require_synthetic_ratio(synthetic_ratio)
    require(generations >= 0, "generations", generations, "an integer of at least 0")
    path = [_atoms(probabilities, rewards)[0]]
    real = 1 / (1 + synthetic_ratio)
    for _ in range(generations):
        path.append(real * path[0] + (1 - real) * curation_step(path[-1], rewards, choices=choices, flipped=flipped))
    return path


def plural_curation_path(
    probabilities: ArrayLike,
    rewards: ArrayLike,
    shares: ArrayLike,
    *,
    choices: int,
    synthetic_ratio: float,
    generations: int,
) -> list[Vector]:
    """``curation_path`` where each of M rewards ``(M, N)`` decides a share of the choices, ``(M,)``."""
    _require_synthetic_ratio(synthetic_ratio)
    require(generations >= 0, "generations", generations, "an integer of at least 0")
    path, real = [_distribution(probabilities)], 1 / (1 + synthetic_ratio)
    for _ in range(generations):
        kept = plural_curation_step(path[-1], rewards, shares, choices=choices)
        path.append(real * path[0] + (1 - real) * kept)
    return path


def nash_welfare(probabilities: ArrayLike, rewards: ArrayLike, shares: ArrayLike) -> float:
    """Σ w_i log E_p[e^{r_i}] of M rewards ``(M, N)`` with shares ``(M,)``: the log of the weighted Nash product.

    Falahati et al. 2026 (arXiv 2605.07724) prove that plural curation tends to a weighted Nash bargaining solution.
    For K -> inf and λ = inf a generation is a step of the EM algorithm for this number, so it never falls.
    """
    weights = _distribution(shares, "shares")
    several = np.atleast_2d(np.asarray(rewards, dtype=float))[weights > 0]
    p, r = _distribution(probabilities), several.max(axis=1)
    return float(weights[weights > 0] @ (r + np.log(np.exp(several - r[:, None]) @ p)))


def infinite_choices_limit(probabilities: ArrayLike, rewards: ArrayLike) -> Vector:
    """p e^r / E_p[e^r], (N,): the limit of ``curation_step`` for K -> inf (Lemma 2.1)."""
    p, r = _atoms(probabilities, rewards)
    tilted = p * _relative_exp(p, r)
    return tilted / tilted.sum()


def curation_limit(probabilities: ArrayLike, rewards: ArrayLike) -> Vector:
    """p_0 restricted to r = r*, (N,): the limit of the fully synthetic loop for t -> inf, K >= 2 (Theorem 2.1)."""
    p, r = _atoms(probabilities, rewards)
    best = np.where(r == r[p > 0].max(), p, 0.0)
    return best / best.sum()


class RewardMoments(NamedTuple):
    """Mean and variance of r and of e^r under a distribution."""

    mean: float
    var: float
    exp_mean: float
    exp_var: float


def reward_moments(probabilities: ArrayLike, rewards: ArrayLike) -> RewardMoments:
    """E[r], Var[r], E[e^r] and Var[e^r] under p."""
    p, r = _atoms(probabilities, rewards)
    scale, (exp_mean, exp_var) = _exp(r[p > 0].max()), _mean_and_var(p, _relative_exp(p, r))
    return RewardMoments(*_mean_and_var(p, r), scale * exp_mean, scale * exp_var * scale)


def lemma_2_2_bound(probabilities: ArrayLike, rewards: ArrayLike, *, choices: int) -> float:
    """E_{p_t}[e^r] + (K-1)/K Var_{p_t}[e^r] / e^{r*} <= E_{p_{t+1}}[e^r], for p_{t+1} = p_t H_K (Lemma 2.2)."""
    _require_choices(choices)
    return _exp_reward_bound(probabilities, rewards, (choices - 1) / choices)


def theorem_2_3_bound(probabilities: ArrayLike, rewards: ArrayLike, *, choices: int, synthetic_ratio: float) -> float:
    """E_ref[e^r] + λ/(1+λ)^3 (K-1)/K Var_ref[e^r] / e^{r*} <= E_{p_t}[e^r] for all t >= 1 (Theorem 2.3).

    ``probabilities`` is p_ref = p_0, the path that of ``curation_path``. For λ = inf it is E_ref[e^r].
    """
    _require_choices(choices)
    _require_synthetic_ratio(synthetic_ratio)
    real = 1 / (1 + synthetic_ratio)
    return _exp_reward_bound(probabilities, rewards, (1 - real) * real**2 * (choices - 1) / choices)


def theorem_2_4_bound(*, choices: int, synthetic_ratio: float) -> float:
    """-log(1 - λ(K-1)) >= KL(p_t || p_ref) for all t >= 1, in nats (Theorem 2.4).

    The theorem asks for λ < 1/(K-1); ``math.inf``, which bounds nothing, is returned otherwise.
    """
    _require_choices(choices)
    _require_synthetic_ratio(synthetic_ratio)
    excess = float(synthetic_ratio) * (choices - 1)  # nan for λ = inf and K = 1, where the condition fails as well
    return -math.log1p(-excess) if excess < 1 else math.inf


def kl_divergence(p: ArrayLike, q: ArrayLike) -> float:
    """KL(p || q) = Σ p log(p/q) of two distributions (N,), in nats; inf where p has mass and q none."""
    p, q = _distribution(p, "p"), _distribution(q, "q")
    _require_same_length(p, q, "q")
    p, q = p[p > 0], q[p > 0]
    if not q.all():
        return math.inf
    return max(0.0, float(p @ (np.log(p) - np.log(q))))


def _nodes(r: Vector, choices: int) -> Vector:
    """Where s = log u is sampled: the multiples of ``SPACING`` near one of the integrand's scales, ascending.

    A scale is -log v for v = e^{r(x)} + Σ e^{r(x_i)}, so it lies between -m - log K and -m for some reward m.
    One reward far from all others costs the nodes around it, none for the gap.
    """
    below = math.ceil((TAIL_BELOW + math.log(choices)) / SPACING)
    above = math.ceil(TAIL_ABOVE / SPACING) + 1
    scales = np.unique(np.floor(-r / SPACING))
    return np.unique(scales[:, None] + np.arange(-below, above + 1.0)) * SPACING


def _laplace_power(p: Vector, ur: Vector, exponent: int) -> Vector:
    """φ(u)^exponent, (nodes,), from ur = u e^r, (nodes, N), to full relative precision for φ near 0 and near 1."""
    phi, one_minus_phi = np.exp(-ur) @ p, -np.expm1(-ur) @ p
    # Each form is evaluated everywhere; the clip keeps log1p silent where it is not used.
    near_one = np.exp(exponent * np.log1p(-np.minimum(one_minus_phi, 0.5)))
    return np.where(one_minus_phi < 0.5, near_one, phi**exponent)


def _exp_reward_bound(probabilities: ArrayLike, rewards: ArrayLike, factor: float) -> float:
    """E[e^r] + factor Var[e^r] / e^{r*}, with every e^r taken relative to e^{r*}."""
    p, r = _atoms(probabilities, rewards)
    mean, var = _mean_and_var(p, _relative_exp(p, r))
    return _exp(r[p > 0].max()) * (mean + factor * var)


def _relative_exp(p: Vector, r: Vector) -> Vector:
    """e^{r - r*}, (N,), at most 1; atoms of probability zero may lie above r*, and do not count."""
    return np.exp(np.minimum(r - r[p > 0].max(), 0.0))


def _mean_and_var(p: Vector, values: Vector) -> tuple[float, float]:
    mean = float(p @ values)
    return mean, float(p @ (values - mean) ** 2)


def _exp(value: float) -> float:
    return math.exp(value) if value < 709.78 else math.inf


def _atoms(probabilities: ArrayLike, rewards: ArrayLike) -> tuple[Vector, Vector]:
    """The checked (probabilities, rewards) of a finite distribution."""
    p, r = _distribution(probabilities), _vector(rewards, "rewards")
    _require_same_length(p, r, "rewards")
    # Neighbouring nodes of the quadrature fall on one float near 1e15.
    largest = float(np.abs(r).max())
    require(largest <= 1e12, "rewards", largest, "rewards of size at most 1e12")
    return p, r


def _distribution(probabilities: ArrayLike, option: str = "probabilities") -> Vector:
    p = _vector(probabilities, option)
    require(bool((p >= 0).all()), option, float(p.min()), "nonnegative numbers")
    total = float(p.sum())
    require(abs(total - 1) <= 1e-6, option, total, "a sum of 1 (within 1e-6)")
    return p / total


def _vector(values: ArrayLike, option: str) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    require(array.ndim == 1 and len(array) > 0, option, array.shape, "one dimension, of at least one number")
    require(bool(np.isfinite(array).all()), option, array, "finite numbers")
    return array


def _require_same_length(first: Vector, second: Vector, option: str) -> None:
    require(len(first) == len(second), option, f"{len(second)} numbers", f"one per probability: {len(first)}")


def _require_choices(choices: int) -> None:
    require(isinstance(choices, Integral) and choices >= 1, "choices", choices, "an integer of at least 1")


def _require_synthetic_ratio(synthetic_ratio: float) -> None:
    require(synthetic_ratio >= 0, "synthetic_ratio", synthetic_ratio, "a number in [0, inf]")
