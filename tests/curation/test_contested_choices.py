"""Choices that are flipped, and choices of several rewards, against enumeration and the theory."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from sc_loops import theory
from sc_loops.curation import plural as plural_module
from sc_loops.curation.k_choice import Curate
from sc_loops.curation.plural import PluralCurate
from sc_loops.errors import InvalidValue
from sc_loops.samples import Samples

P = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
FIRST, SECOND = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([-2.0, 0.5, 0.0])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first(x: torch.Tensor) -> torch.Tensor:
    return FIRST[x[:, 0].long()]


def second(x: torch.Tensor) -> torch.Tensor:
    return SECOND[x[:, 0].long()]


def drawn(n: int) -> Samples:
    """Atoms 0, 1, 2, drawn from P; the condition is the atom."""
    kinds = torch.multinomial(P, n, replacement=True, generator=generator(1))
    return Samples(kinds[:, None].float(), kinds, {"index": torch.arange(n)})


def enumerated(weights: list[float], rewards: list[torch.Tensor], choices: int) -> torch.Tensor:
    """What is kept of P, over all K-tuples and whoever decides."""
    after = torch.zeros(3, dtype=torch.float64)
    for group in itertools.product(range(3), repeat=choices):
        members = torch.tensor(group)
        for weight, r in zip(weights, rewards, strict=True):
            after.index_add_(0, members, weight * P[members].prod() * r.double()[members].softmax(0))
    return after


@pytest.mark.parametrize("choices", [2, 4])
@pytest.mark.parametrize("flipped", [0.0, 0.3, 0.5, 1.0])
def test_flipped_tilting_equals_enumeration(choices: int, flipped: float) -> None:
    expected = enumerated([1 - flipped, flipped], [FIRST, -FIRST], choices)
    step = theory.curation_step(P, FIRST, choices=choices, flipped=flipped)
    np.testing.assert_allclose(step, expected, rtol=1e-12)


def test_a_flip_of_two_candidates_keeps_the_other_one() -> None:
    r = FIRST[torch.tensor([[0, 2]])].double()
    torch.testing.assert_close((-r).softmax(1), r.softmax(1).flip(1))


def test_with_half_of_two_choices_flipped_nothing_is_preferred() -> None:
    np.testing.assert_allclose(theory.tilting(P, FIRST, choices=2, flipped=0.5), 1, rtol=1e-12)
    path = theory.curation_path(P, FIRST, choices=2, synthetic_ratio=float("inf"), generations=5, flipped=0.5)
    np.testing.assert_allclose(path[-1], P, rtol=1e-11)


@pytest.mark.parametrize("flipped", [0.2, 0.4])
def test_flips_slow_the_rise_of_the_reward(flipped: float) -> None:
    def rise(share: float) -> float:
        path = theory.curation_path(P, FIRST, choices=4, synthetic_ratio=float("inf"), generations=3, flipped=share)
        return theory.reward_moments(path[-1], FIRST).mean - theory.reward_moments(path[0], FIRST).mean

    assert 0 < rise(flipped) < rise(flipped - 0.2)


@pytest.mark.parametrize("kept", [None, 100_000])
def test_flipped_choices_have_their_frequencies(kept: int | None) -> None:
    curate = Curate(first, choices=4, kept=kept, flipped=0.3)
    curate.prepare(400_000, None)
    after = curate(drawn(400_000), generator(2))
    assert after.condition is not None
    shares = after.condition.bincount(minlength=3).double() / len(after)
    torch.testing.assert_close(shares, enumerated([0.7, 0.3], [FIRST, -FIRST], 4), atol=0.006, rtol=0)


def test_no_flips_draw_nothing() -> None:
    samples = drawn(400)
    plain, none = Curate(first, choices=4), Curate(first, choices=4, flipped=0.0)
    assert torch.equal(plain(samples, generator(3)).x, none(samples, generator(3)).x)


def test_several_rewards_have_their_frequencies_and_their_theory() -> None:
    plural = PluralCurate(rewards=[first, second], shares=[0.25, 0.75], choices=3)
    after = plural(drawn(300_000), generator(4))
    assert after.condition is not None
    shares = after.condition.bincount(minlength=3).double() / len(after)
    expected = enumerated([0.25, 0.75], [FIRST, SECOND], 3)
    torch.testing.assert_close(shares, expected, atol=0.006, rtol=0)
    step = theory.plural_curation_step(P, torch.stack([FIRST, SECOND]), [0.25, 0.75], choices=3)
    np.testing.assert_allclose(step, expected, rtol=1e-12)


def test_one_of_several_rewards_is_that_reward() -> None:
    step = theory.plural_curation_step(P, [FIRST.tolist(), SECOND.tolist()], [0, 1], choices=3)
    np.testing.assert_allclose(step, theory.curation_step(P, SECOND, choices=3), rtol=1e-12)


def test_a_reward_that_scored_the_samples_stays_their_column() -> None:
    samples = drawn(90).with_columns(reward=torch.arange(90.0))
    after = PluralCurate(rewards=[first, second], choices=3)(samples, generator(5))
    assert torch.equal(after.columns["reward"], after.columns["index"].float())


def test_several_rewards_are_recorded_of_all_samples_and_kept_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plural_module, "LIMIT", 250)
    plural, samples = PluralCurate(rewards=[first, second], shares=[0.25, 0.75], choices=3), drawn(390)
    chunks = [samples[:300], samples[300:]]
    made = [plural.observed(chunk, generator(6)) for chunk in chunks]
    for chunk, (kept, _) in zip(chunks, made, strict=True):
        assert torch.equal(kept.x, plural(chunk, generator(6)).x)
    r = torch.stack([first(samples.x), second(samples.x)]).double()
    assert torch.equal(torch.cat([note["values"] for _, note in made]), r.T[:250].float())
    row = plural.summarise([note for _, note in made])
    uniform = np.full(390, 1 / 390)
    assert row == pytest.approx(
        {
            **{f"plural_reward/{i}": float(r[i].mean()) for i in range(2)},
            **{f"plural_exp_reward/{i}": float(r[i].exp().mean()) for i in range(2)},
            "nash_welfare": theory.nash_welfare(uniform, r.numpy(), [0.25, 0.75]),
        }
    )


def test_a_reward_without_a_share_does_not_count_for_the_welfare() -> None:
    lowest = PluralCurate(rewards=[first, lambda x: torch.full((len(x),), -1e4)], shares=[1, 0], choices=2)
    row = lowest.summarise([lowest.observed(drawn(60), generator())[1]])
    assert row["nash_welfare"] == pytest.approx(math.log(row["plural_exp_reward/0"]))


@pytest.mark.parametrize("synthetic_ratio", [0.5, math.inf])
def test_the_path_of_plural_choices(synthetic_ratio: float) -> None:
    options = {"choices": 3, "synthetic_ratio": synthetic_ratio, "generations": 4}
    one = theory.plural_curation_path(P, [FIRST.tolist()], [1], **options)
    np.testing.assert_allclose(one, theory.curation_path(P, FIRST, **options), rtol=1e-12)
    against = theory.plural_curation_path(P, torch.stack([FIRST, -FIRST]), [0.7, 0.3], **options)
    np.testing.assert_allclose(against, theory.curation_path(P, FIRST, flipped=0.3, **options), rtol=1e-12)


def test_choices_among_infinitely_many_never_lower_the_nash_welfare() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, shares, r = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(3)), rng.normal(size=(3, 5)) * 3
        after = shares @ np.array([theory.infinite_choices_limit(p, row) for row in r])
        assert theory.nash_welfare(after, r, shares) >= theory.nash_welfare(p, r, shares) - 1e-12


def test_many_choices_tend_to_the_nash_bargaining_solution() -> None:
    # Each reward has an atom of its own: the largest Σ w_i log E[e^{r_i}] is that of the shares themselves.
    shares, favourite = np.array([0.5, 0.3, 0.2]), 20 * np.eye(3) - 20
    path = theory.plural_curation_path(P, favourite, shares, choices=64, synthetic_ratio=math.inf, generations=30)
    np.testing.assert_allclose(path[-1], shares, atol=1e-6)
    assert theory.nash_welfare(path[-1], favourite, shares) == pytest.approx(float(shares @ np.log(shares)), abs=1e-6)


def test_the_nash_welfare_of_rewards_far_below_zero() -> None:
    expected = 0.25 * (-1000 + math.log(0.2 + 0.8 * math.exp(-3))) + 0.75 * -5
    found = theory.nash_welfare([0.2, 0.8], [[-1000, -1003], [-5, -5]], [0.25, 0.75])
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rewards": []}, "at least one reward"),
        ({"rewards": [first, second], "shares": [1.0]}, "one number for each of the 2"),
        ({"rewards": [first, second], "shares": [0.5, 0.6]}, "sum to 1"),
        ({"rewards": [first, second], "shares": [-0.5, 1.5]}, ">= 0"),
    ],
)
def test_shares_that_cannot_be(options: dict, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        PluralCurate(choices=2, **options)


@pytest.mark.parametrize("flipped", [-0.1, 1.1, float("nan")])
def test_a_share_of_flips_outside_0_to_1_is_refused(flipped: float) -> None:
    with pytest.raises(InvalidValue, match="flipped"):
        Curate(first, choices=2, flipped=flipped)
    with pytest.raises(InvalidValue, match="flipped"):
        theory.tilting(P, FIRST, choices=2, flipped=flipped)
