"""Data policies in the loop: what each generation trains on, what is kept for it; resuming changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TinyModel, fit, tiny_data, tiny_loop
from torch import Tensor

from sc_loops import RealData, Run, Samples, Training, gaussian
from sc_loops.cli import train
from sc_loops.data.memory import MemoryPolicy
from sc_loops.disk import Keep
from sc_loops.errors import InvalidValue, RunError
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.gaussian import Gaussian
from sc_loops.models.weighting import weighted_mean


class Weighted(TinyModel):
    weighted = True

    def loss(self, batch: Samples) -> Tensor:
        return weighted_mean((self.network(torch.randn_like(batch.x)) - batch.x).square(), batch)


class Mean(ClosedFormModel):
    """N(mean, I), the mean fitted by weighted least squares. It keeps what it was fitted to."""

    weighted = True
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
        self.fits: list[tuple[Samples, Tensor]] = []

    def fit(self, items: Samples) -> None:
        self.mean = torch.stack([weighted_mean(column, items) for column in items.x.T])
        self.fits.append((items, self.mean))

    def loss(self, batch: Samples) -> Tensor:
        return (batch.x - self.mean).square().mean()

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        return self.mean + torch.randn(n, 2, generator=generator)


def run_closed(path: Path, model: Any, data: RealData, **options: Any) -> Run:
    once = Training(passes=1)
    loop = tiny_loop(path, **{"stages": [], "reward": None, "first": once, "later": once, "preview": 1, **options})
    fit(loop, model, data=data)
    return Run(path)


def rows(run: Run) -> list[dict]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in run.rows()]


def mixed(path: Path, **options: Any) -> tuple[list[dict], dict[str, bytes]]:
    """Three generations of the tiny model, on data that can be fresh, to their rows and pools."""
    torch.manual_seed(0)
    data = gaussian(size=40, test_size=20)
    fit(tiny_loop(path, stages=[], reward=None, **options), Weighted(), data=data)
    run = Run(path)
    return rows(run), {str(p.relative_to(path)): p.read_bytes() for p in path.glob("pools/*/chunk-*")}


POLICIES: list[dict[str, Any]] = [
    {"memory": "accumulate", "real": "fresh"},
    {"memory": "accumulate_subsample", "synthetic_ratio": 0.5},
    {"memory": "accumulate_subsample", "synthetic_ratio": math.inf, "samples": 25},
    {"mixing": "weight", "synthetic_ratio": 0.5, "real": "fresh", "retraining": "from_scratch"},
]


@pytest.mark.parametrize("options", POLICIES, ids=lambda o: "-".join(map(str, o.values())))
def test_a_run_that_is_continued_comes_to_the_same_end(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = mixed(tmp_path / "whole", **options)
    mixed(tmp_path / "twice", **options, generations=1)
    assert mixed(tmp_path / "twice", **options) == whole


@pytest.mark.parametrize("memory", ["fading", "accumulate", "accumulate_subsample"])
def test_without_synthetic_data_any_memory_is_the_baseline(tmp_path: Path, memory: MemoryPolicy) -> None:
    options = {"synthetic_ratio": 0.0, "generations": 2, "keep": Keep(last=1)}
    baseline = mixed(tmp_path / "baseline", **options)
    assert mixed(tmp_path / memory, memory=memory, **options) == baseline


def test_each_generation_trains_on_what_its_policy_says(tmp_path: Path) -> None:
    """The items that a closed-form model was given, against the pools on disk and the fresh draws."""
    data, model = gaussian(size=20, test_size=20), Mean()
    run = run_closed(tmp_path, model, data, memory="accumulate", real="fresh", synthetic_ratio=0.4)
    assert data.fresh is not None
    for t, (items, _) in enumerate(model.fits):
        pools = [run.pool(j).samples().x[:8] for j in range(t)]
        assert torch.equal(items.x.sort(0).values, torch.cat([data.fresh(t).x, *pools]).sort(0).values)
    assert [row["synthetic_items"] for row in run.rows()] == [0, 8, 16, 24]
    assert [row["real_items_seen"] for row in run.rows()] == [20, 40, 60, 80]
    assert [row["synthetic_items_seen"] for row in run.rows()] == [0, 8, 24, 48]


@pytest.mark.parametrize("real", ["fixed", "fresh"])
def test_later_generations_may_train_on_fewer_real_items(tmp_path: Path, real: Any) -> None:
    """MAD's n_ini and n_r. λ is of those that later generations see."""
    data, model = gaussian(size=30, test_size=20), Mean()
    options: dict[str, Any] = {"real": real, "real_items": 10, "synthetic_ratio": 0.5}
    run = run_closed(tmp_path, model, data, **options)
    assert data.fresh is not None
    for t, (items, _) in enumerate(model.fits):
        train = data.fresh(t).x if real == "fresh" else data.train.x
        expected = torch.cat([train[:10], run.pool(t - 1).samples().x]) if t else train
        assert torch.equal(items.x.sort(0).values, expected.sort(0).values)
    assert [(row["real_items"], row["synthetic_items"], row["pool_items"]) for row in run.rows()] == [
        (30, 0, 5),
        (10, 5, 5),
        (10, 5, 5),
        (10, 5, 5),
    ]
    for wrong in (0, 31):
        with pytest.raises(InvalidValue, match=r"real_items\n.*\n  expected: an integer in 1\.\.30"):
            run_closed(tmp_path / "wrong", Mean(), data, **{**options, "real_items": wrong})


def test_a_subsample_stays_as_large_as_the_real_data(tmp_path: Path) -> None:
    data, model = gaussian(size=20, test_size=20), Gaussian(gaussian())
    found = run_closed(tmp_path, model, data, memory="accumulate_subsample", generations=6).rows()
    assert {row["real_items"] + row["synthetic_items"] for row in found} == {20}
    assert found[1]["synthetic_items"] > 0
    for row in found:
        assert row["real_items_seen"] + row["synthetic_items_seen"] == row["items_seen"]


@pytest.mark.parametrize("ratio", [0.25, 3.0])
def test_by_weight_the_fit_is_that_of_the_theory(tmp_path: Path, ratio: float) -> None:
    """1/(1+λ) of the real mean and λ/(1+λ) of the whole pool's, which has n samples, or as many as are wanted."""
    data = gaussian(size=20, test_size=20)
    for samples, synthetic in ((None, 20), (50, 50)):
        model = Mean()
        path = tmp_path / str(samples)
        run = run_closed(path, model, data, mixing="weight", synthetic_ratio=ratio, samples=samples, generations=2)
        assert [row["synthetic_items"] for row in run.rows()] == [0, synthetic, synthetic]
        for t in (1, 2):
            pool = run.pool(t - 1).samples().x.mean(0)
            expected = (data.train.x.mean(0) + ratio * pool) / (1 + ratio)
            torch.testing.assert_close(model.fits[t][1], expected)


def test_what_is_seen_adds_up(tmp_path: Path) -> None:
    """With a budget in steps, every memory sees as many items."""
    budget = {"later": Training(steps=5), "generations": 2}
    for memory in ("replace", "accumulate"):
        found, _ = mixed(tmp_path / memory, memory=memory, **budget)
        assert [row["items_seen"] for row in found] == [16 * 8, 16 * 13, 16 * 18]
        assert all(row["real_items_seen"] + row["synthetic_items_seen"] == row["items_seen"] for row in found)
    assert found[2]["real_items_seen"] == 16 * 8 + 40 + round(80 / 3)  # of accumulate: a half, then a third


@pytest.mark.parametrize("memory", ["accumulate", "accumulate_subsample"])
def test_held_generations_are_those_that_are_written(tmp_path: Path, memory: MemoryPolicy) -> None:
    """Begun by holding pools in memory, continued without and ended with it: what is remembered is not lost."""
    data = gaussian(size=20, test_size=20)
    options = {"memory": memory, "synthetic_ratio": 0.5}

    def go_on(path: Path, generations: int, keep: Keep) -> Run:
        return run_closed(path, Gaussian(data), data, **options, generations=generations, keep=keep)

    written = go_on(tmp_path / "written", 9, Keep())
    held = go_on(tmp_path / "held", 9, Keep(last=1, hold_seconds=60))
    assert held.generations() == [0, 9]
    assert rows(held) == rows(written)
    for generations, hold in ((3, 60), (6, None), (9, 60)):
        changing = go_on(tmp_path / "changing", generations, Keep(last=1, hold_seconds=hold))
    assert rows(changing) == rows(written)


def test_samples_that_memory_needs_are_not_pruned(tmp_path: Path) -> None:
    mixed(tmp_path, memory="accumulate_subsample", keep=Keep(last=1))
    run = Run(tmp_path)
    assert all(run.pool(t).has_samples for t in range(4))
    assert not run.checkpoint(1).exists()


@pytest.mark.parametrize(
    ("options", "where", "says"),
    [
        ({"real": "fresh"}, "real", "tiny, which has one training set"),
        ({"mixing": "weight"}, "mixing", "TinyModel, as it is configured, does not weight"),
    ],
)
def test_policies_that_data_or_model_do_not_have_are_refused(tmp_path, options, where: str, says: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        fit(tiny_loop(tmp_path, **options), data=tiny_data())
    assert caught.value.where == where
    assert says in str(caught.value)
    assert not Run(tmp_path).rows()


def test_a_config_without_enough_fresh_data_ends_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        train(["--config", "digits_curated", f"output={tmp_path}", "loop.real=fresh", "loop.synthetic_ratio=1"]) == 2
    )
    errors = capsys.readouterr().err
    assert "loop.real\n" in errors
    assert "1437 real items of digits make 1" in errors


def test_fresh_data_of_another_size_end_the_run(tmp_path: Path) -> None:
    x = tiny_data().train.x
    data = RealData(Samples(x), Samples(x), "points", (), "mine", fresh=lambda t: Samples(x[t:]))
    with pytest.raises(RunError, match="fresh real data of generation 1"):
        fit(tiny_loop(tmp_path, real="fresh"), data=data)
