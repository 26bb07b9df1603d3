"""The benchmarks at a small size: counts are exact, and ratios of time are asserted far below what is measured."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import TinyModel, fit, tiny_loop
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import memory, reference_generation, sampling, training_step, whole_generation
from benchmarks.measure import Cost, cpu_ratio, interleaved, timed
from sc_loops import Samples
from sc_loops.data.mixture import MixtureLoader
from sc_loops.sampling.solvers import SOLVER_EVALUATIONS

SMALL = reference_generation.Setting(samples=1024, passes=1, batch_size=128)


def test_a_whole_generation_costs_a_fraction_of_the_reference() -> None:
    evaluations: dict[str, float] = {}
    ways = whole_generation.ways(SMALL, 32, evaluations)
    both = {name: ways[name] for name in (whole_generation.REFERENCE, whole_generation.SAME_COUPLING)}
    costs = interleaved(both, rounds=3)
    assert list(evaluations.values()) == [6 * 99 + 2, 2 * 8]
    assert cpu_ratio(*costs.values()) >= 2


def test_the_reference_keeps_one_of_each_group_in_the_luce_proportions() -> None:
    torch.manual_seed(0)
    x = torch.arange(8000.0).reshape(-1, 1)
    kept = reference_generation.curate(x, lambda g: g[:, 0] % 2, 2)
    assert torch.equal((kept[:, 0] / 2).floor(), torch.arange(4000.0))
    share = float((kept[:, 0] % 2).mean())
    assert share == pytest.approx(float(torch.sigmoid(torch.tensor(1.0))), abs=4 * 0.5 / 4000**0.5)


def test_solvers_take_the_evaluations_that_they_say() -> None:
    model = sampling.trained_model(steps=200, width=32)
    found = sampling.outcomes(model, torch.randn(200, 2, generator=torch.Generator().manual_seed(0)))
    for (method, steps), outcome in found.items():
        assert method == "dopri5" or outcome.evaluations == steps * SOLVER_EVALUATIONS[method]
    errors = [found["midpoint", steps].error for steps in (4, 8, 16)]
    assert errors[0] > errors[1] > errors[2]
    assert found[sampling.cheapest_as_good_as_euler(found)].evaluations <= 32


def test_batches_by_index_are_not_slower_than_a_data_loader() -> None:
    x, steps = torch.randn(2048, 2), 16

    def epoch(batches: Callable[[], object]) -> Cost:
        with timed() as watch:
            for _ in batches():  # type: ignore[attr-defined]
                pass
        return watch.cost

    items = TensorDataset(x)
    costs = interleaved(
        {
            "loader": lambda: epoch(lambda: DataLoader(items, batch_size=128, shuffle=True)),
            "ours": lambda: epoch(
                lambda: MixtureLoader(Samples(x), batch_size=128, steps=steps, seed=0, generation=0)
            ),
        },
        rounds=5,
    )
    assert cpu_ratio(costs["loader"], costs["ours"]) >= 2


def test_a_step_under_lightning_is_near_a_bare_one() -> None:
    costs = interleaved(training_step.ways(40, 128), rounds=3)
    assert cpu_ratio(costs["bare"], costs["ours"]) >= 0.4


def test_samples_do_not_outlive_their_chunk(tmp_path: Path) -> None:
    """When a chunk is sampled, no earlier one is in memory but that before it, which the writer let go last."""
    alive: list[int] = []

    class Watched(TinyModel):
        made: ClassVar[list[weakref.ref[Tensor]]] = []

        def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
            alive.append(sum(x() is not None for x in self.made))
            x = super().sample(generator, n, condition)
            self.made.append(weakref.ref(x))
            return x

    fit(tiny_loop(tmp_path, generations=0, samples=20 * 50, stages=[]), Watched())
    assert len(alive) == 1 + 20  # a preview and twenty chunks
    assert max(alive) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_pool() -> None:
    few, many = (memory.peak_of_a_process(samples, 0) for samples in (10**4, 10**6))
    assert many - few <= memory.ALLOWANCE
