"""The stage ``correct``: what γ means, what becomes of failures, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import fit, tiny_loop

from sc_loops import Run, Samples
from sc_loops.correction.stage import Correct
from sc_loops.curation.k_choice import Curate
from sc_loops.errors import InvalidValue, RunError, UsageError


def samples(n: int = 1000) -> Samples:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    columns = {"index": torch.arange(n), "reward": x[:, 0]}
    return Samples(x, torch.arange(n) % 3, columns)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def far(found: Samples, generator: torch.Generator) -> torch.Tensor:
    return found.x + torch.tensor([3.0, 4.0])


def half(found: Samples, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Fails where the first coordinate is positive, and says nonsense there."""
    failed = found.x[:, 0] > 0
    return torch.where(failed[:, None], math.nan, far(found, generator)), ~failed


@pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
def test_a_sample_is_corrected_with_probability_gamma_over_one_plus_gamma(strength: float) -> None:
    stage, before = Correct(corrector=far, strength=strength), samples(40_000)
    after, note = stage.observed(before, generator())
    share = strength / (1 + strength)
    moved = (after.x != before.x).any(dim=1)
    assert abs(float(moved.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / 40_000)
    assert torch.equal(after.x[moved], before.x[moved] + torch.tensor([3.0, 4.0]))
    found = stage.summarise([note])
    assert found["correction/share"] == pytest.approx(float(moved.double().mean()))
    assert found["correction/failed_share"] == 0
    assert found["correction/distance"] == pytest.approx(5.0)


def test_a_larger_gamma_corrects_more_of_the_same_samples() -> None:
    before = samples()
    moved = [(Correct(corrector=far, strength=g)(before, generator()).x != before.x).any(1) for g in (0.3, 1.0, 4.0)]
    assert not (moved[0] & ~moved[1]).any()
    assert not (moved[1] & ~moved[2]).any()


def test_zero_is_bitwise_the_identity_and_infinity_corrects_all() -> None:
    before = samples()
    after, note = Correct(corrector=far, strength=0).observed(before, generator())
    assert after is before
    assert Correct(corrector=far, strength=0).summarise([note])["correction/share"] == 0
    everything = Correct(corrector=far, strength=math.inf)(before, generator())
    assert torch.equal(everything.x, before.x + torch.tensor([3.0, 4.0]))
    assert torch.equal(everything.condition, before.condition)


def leftmost(x: torch.Tensor) -> torch.Tensor:
    return -x[:, 0]


@pytest.mark.parametrize("others", [[], [Curate(leftmost, choices=2)]])
def test_a_loop_with_gamma_zero_is_the_loop_without_the_stage(tmp_path, others: list) -> None:
    for name, stages in (("with", [Correct(corrector=far, strength=0), *others]), ("without", others)):
        fit(tiny_loop(tmp_path / name, reward=leftmost, stages=stages, generations=2))
    one, other = Run(tmp_path / "with"), Run(tmp_path / "without")
    for t in range(3):
        ours, plain = one.pool(t).samples(), other.pool(t).samples()
        assert torch.equal(ours.x, plain.x)
        assert ours.columns.keys() == plain.columns.keys()
        assert one.pool(t).manifest["weights"] == other.pool(t).manifest["weights"]
    assert one.rows()[-1]["correction/share"] == 0


@pytest.mark.parametrize("on_failure", ["keep", "drop", "fallback"])
def test_what_becomes_of_failures(on_failure: str) -> None:
    def back(found: Samples, generator: torch.Generator) -> Samples:
        return Samples(found.x - 1, found.condition)

    before = samples()
    fallback = back if on_failure == "fallback" else None
    stage = Correct(corrector=half, strength=math.inf, on_failure=on_failure, fallback=fallback)
    after, note = stage.observed(before, generator())
    failed = before.x[:, 0] > 0
    share = float(failed.double().mean())
    assert torch.equal(after.x[after.x[:, 0] < 100][: int((~failed).sum())].isnan().any(), torch.tensor(False))
    if on_failure == "drop":
        assert torch.equal(after.columns["index"], before.columns["index"][~failed])
        assert torch.equal(after.x, before.x[~failed] + torch.tensor([3.0, 4.0]))
    else:
        expected = before.x if on_failure == "keep" else before.x - 1
        assert torch.equal(after.x[failed], expected[failed])
    summary = stage.summarise([note])
    assert summary["correction/failed_share"] == (0 if on_failure == "fallback" else pytest.approx(share))
    assert summary["correction/share"] == pytest.approx(1.0 if on_failure == "fallback" else 1 - share)


def test_sums_of_chunks_are_those_of_the_whole() -> None:
    stage = Correct(corrector=half, strength=math.inf)
    whole = stage.summarise([stage.observed(samples(), generator())[1]])
    parts = [stage.observed(part, generator())[1] for part in samples().split(170)]
    assert stage.summarise(parts) == pytest.approx(whole)


def test_a_reward_from_before_no_longer_holds() -> None:
    after = Correct(corrector=far, strength=1.0)(samples(), generator())
    assert set(after.columns) == {"index"}


@pytest.mark.parametrize("order", ["curate first", "correct first"])
def test_it_composes_with_k_choice_in_any_order(tmp_path, order: str) -> None:
    def reward(x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]

    stages = [Curate(reward, choices=2), Correct(corrector=far, strength=math.inf)]
    fit(tiny_loop(tmp_path, reward=reward, stages=stages if order == "curate first" else stages[::-1]))
    run = Run(tmp_path)
    assert len(run.pool(0)) == 60
    assert run.rows()[0]["correction/share"] == 1.0


def not_a_tensor(found: Samples, generator: torch.Generator) -> list[float]:
    return [1.0]


def another_shape(found: Samples, generator: torch.Generator) -> torch.Tensor:
    return found.x[:, :1]


def nan(found: Samples, generator: torch.Generator) -> torch.Tensor:
    return torch.full_like(found.x, math.nan)


def fails(found: Samples, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return found.x, torch.zeros(len(found), dtype=torch.bool)


def raises(found: Samples, generator: torch.Generator) -> torch.Tensor:
    raise ValueError("out of luck")


def short_mask(found: Samples, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return found.x, torch.ones(1, dtype=torch.bool)


@pytest.mark.parametrize(
    ("corrector", "says"),
    [
        (not_a_tensor, "a list"),
        (another_shape, r"x of shape \(8, 1\)"),
        (nan, "8 of 8 samples with NaN"),
        (fails, r"a failure on 8 of 8 samples \(100 %\)"),
        (raises, "ValueError: out of luck"),
        (short_mask, r"a mask \(1,\)"),
    ],
)
def test_a_corrector_that_cannot_work_is_found_before_and_within_a_run(corrector, says: str) -> None:
    stage = Correct(corrector=corrector, strength=math.inf)
    with pytest.raises(UsageError, match=says):
        stage.check(samples(8))
    with pytest.raises(RunError, match=says):
        stage(samples(8), generator())


def test_the_loop_tries_the_corrector_before_it_trains(tmp_path) -> None:
    stage = Correct(corrector=nan, strength=0.5)
    with pytest.raises(UsageError, match=r"stages\.0\.corrector, tried on 8 real samples"):
        fit(tiny_loop(tmp_path, stages=[stage]))
    assert not Run(tmp_path).rows()


def test_a_corrector_that_fails_in_the_loop_is_told_with_its_place(tmp_path) -> None:
    def later(found: Samples, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return found.x, torch.full((len(found),), len(found) == 8)  # well on the samples that it is tried on

    with pytest.raises(RunError, match="the corrector of stage 0 in generation 0, chunk 0"):
        fit(tiny_loop(tmp_path, stages=[Correct(corrector=later, strength=math.inf)]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strength": -0.1}, "γ >= 0"),
        ({"strength": math.nan}, "γ >= 0"),
        ({"strength": 1.0, "on_failure": "fallback"}, "fallback"),
        ({"strength": 1.0, "fallback": far}, "fallback"),
    ],
)
def test_impossible_options(options: dict, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        Correct(corrector=far, **options)
