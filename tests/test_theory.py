"""theory.py against enumeration of every K-choice, binomial sums, simulation and the paper's inequalities."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import binom

from sc_loops import theory
from sc_loops.errors import InvalidValue

P, R = [0.2, 0.3, 0.5], [1.0, 0.0, -1.0]


def enumerated_tilting(p, r, choices):
    """Eq. 6 as written: every tuple of K-1 rivals, weighted by its probability."""
    p, r = np.asarray(p, float), np.asarray(r, float)
    rivals = np.array(list(itertools.product(range(len(p)), repeat=choices - 1)), dtype=int)
    rivals = rivals.reshape(len(p) ** (choices - 1), choices - 1)
    weight = p[rivals].prod(axis=1)
    total = np.logaddexp(r, logsumexp(r[rivals], axis=1, keepdims=True)) if choices > 1 else r[None, :]
    return choices * weight @ np.exp(r - total)


def random_cases(count, *, scale=None):
    """(p, r, K): two to four atoms, some of probability zero, some rewards tied, spreads from 0.1 to 100."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        n, choices = int(rng.integers(2, 5)), int(rng.integers(1, 6))
        p = rng.dirichlet(np.full(n, 0.5))
        if n > 2 and rng.random() < 0.2:
            p[rng.integers(n)] = 0
            p /= p.sum()
        r = rng.normal(size=n) * (scale or rng.choice([0.1, 1.0, 5.0, 100.0])) + rng.normal() * 3
        if rng.random() < 0.2:
            r[0] = r[1]
        yield p, r, choices


def test_tilting_equals_enumeration():
    for p, r, choices in random_cases(300):
        expected = enumerated_tilting(p, r, choices)
        np.testing.assert_allclose(theory.tilting(p, r, choices=choices), expected, rtol=1e-12, atol=1e-300)


def test_tilting_is_normalised_and_at_most_the_choices():
    for p, r, choices in random_cases(200):
        tilt = theory.tilting(p, r, choices=choices)
        assert p @ tilt == pytest.approx(1, abs=1e-12)
        assert (tilt >= 0).all()
        assert (tilt <= choices * (1 + 1e-13)).all()


def test_one_choice_is_the_identity():
    np.testing.assert_allclose(theory.tilting(P, R, choices=1), 1, rtol=1e-13)
    np.testing.assert_allclose(theory.curation_step(P, [9.0, -700.0, 0.0], choices=1), P, rtol=1e-13)


@pytest.mark.parametrize("choices", [2, 50, 1_000, 100_000])
@pytest.mark.parametrize(("weight", "gap"), [(0.3, 1.0), (1e-4, 8.0), (0.999, 3.0)])
def test_tilting_of_two_atoms_equals_a_binomial_sum(choices, weight, gap):
    """Of K-1 rivals b are good: an oracle for the K that enumeration cannot reach."""
    good = np.arange(choices)
    chance, bad = binom.pmf(good, choices - 1, weight), choices - 1 - good
    expected = [
        choices * chance @ (1 / (1 + good + bad * math.exp(-gap))),
        choices * chance @ (1 / (1 + good * math.exp(gap) + bad)),
    ]
    tilt = theory.tilting([weight, 1 - weight], [gap, 0.0], choices=choices)
    np.testing.assert_allclose(tilt, expected, rtol=1e-9)  # binom.pmf is good to about 1e-10 at K = 1e5


@pytest.mark.parametrize(
    ("p", "r"),
    [
        ([0.2, 0.3, 0.5], [5.0, -400.0, -399.0]),
        ([0.2, 0.3, 0.5], [800.0, 0.0, -800.0]),
        ([0.2, 0.3, 0.5], [-1e9, 0.0, 1.0]),
        ([1e-300, 0.5, 0.5], [-690.0, 0.0, 1.0]),
        ([0.0, 0.5, 0.5], [2000.0, 0.0, 1.0]),
        ([0.0, 0.5, 0.5], [-600.0, 0.0, 1.0]),
        ([0.0, 1.0], [-2000.0, 0.0]),
        ([0.25, 0.25, 0.5], [1e6, 1e6 + 1, 1e6 - 1]),
    ],
)
@pytest.mark.parametrize("choices", [2, 5])
def test_tilting_of_extreme_rewards(p, r, choices):
    tilt = theory.tilting(p, r, choices=choices)
    # The tolerance is that of the oracle: logsumexp itself rounds at 2e-16 times the largest |r|.
    oracle = enumerated_tilting(p, np.asarray(r) - max(r), choices)
    np.testing.assert_allclose(tilt, oracle, rtol=1e-6 if min(r) < -1e6 else 1e-12, atol=1e-300)


def test_tilting_is_exact_when_the_worst_atom_lies_a_billion_below():
    """The worst atom wins only against itself: H_2 = 2 p / 2, and above it the two-atom loop plus a sure win."""
    p = np.array([0.2, 0.3, 0.5])
    win = 1 / (1 + math.exp(-1))
    expected = [p[0], 2 * p[0] + p[1] + 2 * p[2] * (1 - win), 2 * p[0] + 2 * p[1] * win + p[2]]
    np.testing.assert_allclose(theory.tilting(p, [-1e9, 0.0, 1.0], choices=2), expected, rtol=1e-13)


def test_tilting_is_normalised_for_very_many_choices():
    """φ(u)^{K-1} loses K ulps unless 1 - φ is kept, and the scales of u reach down to 1/K."""
    for choices in (10**5, 10**8):
        assert P @ theory.tilting(P, R, choices=choices) == pytest.approx(1, abs=1e-12)


def test_tilting_ignores_a_constant_added_to_the_reward():
    shifted = np.asarray(R) + 1024.0
    np.testing.assert_array_equal(theory.tilting(P, R, choices=4), theory.tilting(P, shifted, choices=4))


def test_worked_example():
    steps = {
        2: [0.3039, 0.3416, 0.3545],
        4: [0.4006, 0.3379, 0.2616],
        8: [0.4646, 0.3194, 0.2160],
    }
    for choices, expected in steps.items():
        np.testing.assert_allclose(theory.curation_step(P, R, choices=choices), expected, atol=5.1e-5)
    np.testing.assert_allclose(theory.infinite_choices_limit(P, R), [0.5291, 0.2919, 0.1790], atol=5.1e-5)


def test_many_choices_approach_lemma_2_1_at_the_rate_of_their_inverse():
    limit = theory.infinite_choices_limit(P, R)
    errors = [np.abs(theory.curation_step(P, R, choices=10**k) - limit).max() for k in (2, 3, 4, 5)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.1)


def test_infinite_choices_limit_is_a_softmax_that_survives_large_rewards():
    r = np.array([1000.0, 999.0, -1000.0])
    np.testing.assert_allclose(theory.infinite_choices_limit(P, r), softmax(np.log(P) + r), rtol=1e-12)
    np.testing.assert_allclose(theory.infinite_choices_limit([0, 0.5, 0.5], [5000, 1, 1]), [0, 0.5, 0.5])


def test_simulated_choices_have_these_frequencies():
    rng, n, choices = np.random.default_rng(1), 200_000, 4
    candidates = rng.choice(3, size=(n, choices), p=P)
    # The Gumbel trick: the argmax of r + Gumbel noise has the probabilities softmax(r).
    winner = (np.asarray(R)[candidates] + rng.gumbel(size=(n, choices))).argmax(axis=1)
    frequency = np.bincount(candidates[np.arange(n), winner], minlength=3) / n
    expected = theory.curation_step(P, R, choices=choices)
    assert (np.abs(frequency - expected) < 4 * np.sqrt(expected * (1 - expected) / n)).all()
    assert np.abs(frequency - P).max() > 0.1


def test_samples_agree_with_the_distribution_they_repeat():
    samples = np.repeat(R, [2, 3, 5])
    for choices in (1, 2, 7):
        expected = np.repeat(theory.tilting(P, R, choices=choices), [2, 3, 5])
        tilt = theory.tilting_of_samples(samples, choices=choices)
        np.testing.assert_allclose(tilt, expected, rtol=1e-12)


def test_many_samples_fit_in_little_memory():
    rewards = np.random.default_rng(2).normal(size=100_000)
    tracemalloc.start()
    tilt = theory.tilting_of_samples(rewards, choices=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tilt.mean() == pytest.approx(1, abs=1e-12)
    assert peak < 100 * 2**20


@pytest.mark.parametrize("synthetic_ratio", [0.0, 0.5, 3.0, math.inf])
def test_path_equals_a_plain_loop(synthetic_ratio):
    path = theory.curation_path(P, R, choices=3, synthetic_ratio=synthetic_ratio, generations=5)
    fraction = 1.0 if synthetic_ratio == math.inf else synthetic_ratio / (1 + synthetic_ratio)
    p, reference = np.array(P), np.array(P)
    assert len(path) == 6
    for generation in path:
        np.testing.assert_allclose(generation, p, rtol=1e-12)
        p = (1 - fraction) * reference + fraction * p * enumerated_tilting(p, R, 3)


def test_path_without_synthetic_data_is_constant():
    for generation in theory.curation_path(P, R, choices=4, synthetic_ratio=0, generations=3):
        np.testing.assert_array_equal(generation, P)


def test_path_with_a_large_ratio_is_close_to_the_fully_synthetic_one():
    def last(synthetic_ratio):
        return theory.curation_path(P, R, choices=4, synthetic_ratio=synthetic_ratio, generations=4)[-1]

    differences = [np.abs(last(ratio) - last(math.inf)).max() for ratio in (1e3, 1e6)]
    assert differences[0] < 1e-2
    assert differences[1] == pytest.approx(differences[0] / 1000, rel=0.02)


def test_fully_synthetic_path_converges_to_theorem_2_1():
    p, r = [0.1, 0.2, 0.3, 0.4, 0.0], [1.0, 1.0, 0.5, -2.0, 7.0]
    limit = theory.curation_limit(p, r)
    np.testing.assert_allclose(limit, [1 / 3, 2 / 3, 0, 0, 0], rtol=1e-15)
    path = theory.curation_path(p, r, choices=4, synthetic_ratio=math.inf, generations=80)
    divergence = [theory.kl_divergence(limit, generation) for generation in path]
    assert divergence == sorted(divergence, reverse=True)
    assert divergence[-1] < 1e-9
    np.testing.assert_allclose(path[-1], limit, atol=1e-9)


def test_reward_moments_equal_plain_sums():
    p, r = np.array(P), np.array(R)
    moments = theory.reward_moments(P, R)
    mean, exp_mean = (p * r).sum(), (p * np.exp(r)).sum()
    expected = (mean, (p * r**2).sum() - mean**2, exp_mean, (p * np.exp(2 * r)).sum() - exp_mean**2)
    np.testing.assert_allclose(moments, expected, rtol=1e-12)
    assert theory.reward_moments([0, 1], [9999.0, 2.0])[:2] == (2, 0)
    assert theory.reward_moments([0.5, 0.5], [800.0, 0.0]).exp_mean == math.inf


def bounded_cases():
    """200 cases with moderate rewards, where the slack of the inequalities is not lost to rounding."""
    return [(p, r, max(choices, 2)) for p, r, choices in random_cases(200, scale=1.5)]


def test_bounds_equal_the_formulas():
    p, r = np.array(P), np.array(R)
    e, top = np.exp(r), math.exp(1)
    mean = p @ e
    var = p @ (e - mean) ** 2
    assert theory.lemma_2_2_bound(P, R, choices=4) == pytest.approx(mean + 0.75 * var / top)
    bound = theory.theorem_2_3_bound(P, R, choices=4, synthetic_ratio=2)
    assert bound == pytest.approx(mean + 2 / 27 * 0.75 * var / top)
    assert theory.theorem_2_3_bound(P, R, choices=4, synthetic_ratio=math.inf) == pytest.approx(mean)


def test_lemma_2_2_holds():
    for p, r, choices in bounded_cases():
        after = theory.reward_moments(theory.curation_step(p, r, choices=choices), r).exp_mean
        assert after >= theory.lemma_2_2_bound(p, r, choices=choices) * (1 - 1e-12)


@pytest.mark.parametrize("synthetic_ratio", [0.2, 1.0, math.inf])
def test_theorem_2_3_holds(synthetic_ratio):
    for p, r, choices in bounded_cases():
        bound = theory.theorem_2_3_bound(p, r, choices=choices, synthetic_ratio=synthetic_ratio)
        path = theory.curation_path(p, r, choices=choices, synthetic_ratio=synthetic_ratio, generations=4)
        for generation in path[1:]:
            assert theory.reward_moments(generation, r).exp_mean >= bound * (1 - 1e-12)


@pytest.mark.parametrize("part", [0.3, 0.95])
def test_theorem_2_4_holds(part):
    for p, r, choices in bounded_cases():
        ratio = part / (choices - 1)
        bound = theory.theorem_2_4_bound(choices=choices, synthetic_ratio=ratio)
        path = theory.curation_path(p, r, choices=choices, synthetic_ratio=ratio, generations=4)
        assert bound == pytest.approx(-math.log(1 - part))
        for generation in path[1:]:
            assert theory.kl_divergence(generation, p) <= bound


def test_theorem_2_4_bounds_nothing_outside_its_condition():
    assert theory.theorem_2_4_bound(choices=4, synthetic_ratio=1 / 3) == math.inf
    assert theory.theorem_2_4_bound(choices=3, synthetic_ratio=math.inf) == math.inf
    assert theory.theorem_2_4_bound(choices=1, synthetic_ratio=math.inf) == math.inf
    assert theory.theorem_2_4_bound(choices=1, synthetic_ratio=7) == 0
    assert theory.theorem_2_4_bound(choices=4, synthetic_ratio=0) == 0


def test_kl_divergence():
    assert theory.kl_divergence([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert theory.kl_divergence([1, 0], [0.25, 0.75]) == pytest.approx(math.log(4))
    assert theory.kl_divergence([0.5, 0.5], [1, 0]) == math.inf
    assert theory.kl_divergence(P, P) == 0


@pytest.mark.parametrize(
    ("option", "call"),
    [
        ("probabilities", lambda: theory.tilting([0.5, 0.6], [0, 1], choices=2)),
        ("probabilities", lambda: theory.tilting([-0.5, 1.5], [0, 1], choices=2)),
        ("probabilities", lambda: theory.tilting([math.nan, 1], [0, 1], choices=2)),
        ("probabilities", lambda: theory.curation_limit([[0.5, 0.5]], [0, 1])),
        ("rewards", lambda: theory.infinite_choices_limit([0.5, 0.5], [0, 1, 2])),
        ("rewards", lambda: theory.tilting([0.5, 0.5], [0, -math.inf], choices=2)),
        ("rewards", lambda: theory.tilting([0.5, 0.5], [0, -1e30], choices=2)),
        ("rewards", lambda: theory.tilting_of_samples([], choices=2)),
        ("choices", lambda: theory.tilting(P, R, choices=0)),
        ("choices", lambda: theory.curation_step(P, R, choices=2.5)),
        ("choices", lambda: theory.lemma_2_2_bound(P, R, choices=0)),
        ("choices", lambda: theory.theorem_2_4_bound(choices=0, synthetic_ratio=1)),
        ("synthetic_ratio", lambda: theory.theorem_2_4_bound(choices=2, synthetic_ratio=math.nan)),
        ("synthetic_ratio", lambda: theory.theorem_2_3_bound(P, R, choices=2, synthetic_ratio=-1)),
        (
            "synthetic_ratio",
            lambda: theory.curation_path(P, R, choices=2, synthetic_ratio=-0.1, generations=1),
        ),
        ("generations", lambda: theory.curation_path(P, R, choices=2, synthetic_ratio=1, generations=-1)),
        ("choices", lambda: theory.curation_path(P, R, choices=0, synthetic_ratio=1, generations=0)),
        ("q", lambda: theory.kl_divergence([1.0], [0.5, 0.5])),
        ("p", lambda: theory.kl_divergence([0.3, 0.3], [0.5, 0.5])),
    ],
)
def test_impossible_values_are_refused(option, call):
    with pytest.raises(InvalidValue) as complaint:
        call()
    assert complaint.value.where == option
