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

from benchmarks import (
    cifar_generation,
    coupling,
    image_sampling,
    loader,
    memory,
    motion_speed,
    precision,
    reference_cifar,
    reference_generation,
    sampling,
    training_step,
    whole_generation,
)
from benchmarks.measure import Cost, cpu_ratio, interleaved, timed
from sc_loops import FlowMatching, NearestMean, RealData, Samples, UNet
from sc_loops.data.mixture import MixtureLoader
from sc_loops.data.pixels import as_float
from sc_loops.evaluation.frechet import frechet_distance, gaussian
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
    assert len(alive) == 2 + 20  # a trial, a preview and twenty chunks
    assert max(alive) == 1


# Images. The sizes are tiny, so only counts and values are asserted.

TINY_UNET = {
    "channels": 32,
    "residual_blocks": 1,
    "channel_multipliers": (1,),
    "scale_shift": True,
    "attention_resolutions": (),
    "head_channels": 32,
}


def images(n: int) -> Samples:
    generator = torch.Generator().manual_seed(n)
    return Samples(torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(n) % 2)


def image_data() -> RealData:
    return RealData(images(64), images(20), "images", ("even", "odd"), "noise")


def test_a_generation_of_images_takes_the_evaluations_and_files_that_it_says(tmp_path: Path) -> None:
    setting = reference_cifar.Setting(samples=16, choices=2, steps=2, batch_size=8, sampling_batch=16)
    experiment = cifar_generation.Experiment(
        image_data(), setting, tmp_path, first=1, epochs=1, network={**TINY_UNET, "dropout": 0.0}
    )
    found = {name: way() for name, way in cifar_generation.ways(experiment).items()}
    counts = {name: list(outcome.counts.values()) for name, outcome in found.items()}
    assert counts["ours"] == [(16 + cifar_generation.PREVIEW) * 16, 16, 0, 0]
    decoded, written = 16 + 16 + 16 + 20, 16 + 8
    assert counts["euler 100"] == [2 * 16 * 100, 16, decoded, written]
    evaluations, *rest = counts["dopri5"]
    assert rest == [16, decoded, written]
    assert evaluations % 16 == 0
    assert evaluations // 16 % 6 == 2 * 2 % 6  # two solutions, each with two evaluations and six a step
    assert 0 < found["ours"].inside < found["ours"].cost.cpu
    assert set(found["ours"].cpu) >= {"training", "sampling", "scoring", "curating", "evaluating", "writing"}


def test_the_reference_reads_the_images_and_measures_the_distance_that_ours_does(tmp_path: Path) -> None:
    x = images(20).x
    pixels = x.permute(0, 2, 3, 1).numpy()
    reference_cifar.write(pixels, tmp_path / "files", reference_cifar.Record())
    for items in (reference_cifar.ImageFiles(tmp_path / "files"), reference_cifar.ImageArrays(pixels)):
        torch.testing.assert_close(torch.stack([items[i] for i in range(len(items))]), as_float(x))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(100, 5, generator=generator, dtype=torch.float64) * scale for scale in (1, 2))
    distance = reference_cifar.frechet_distance(a.numpy(), b.numpy())
    assert distance == pytest.approx(frechet_distance(gaussian(a), gaussian(b)), rel=1e-6)


def test_the_reference_of_images_keeps_one_of_each_group_in_the_luce_proportions() -> None:
    kept = torch.tensor(reference_cifar.curate(torch.arange(8000).remainder(2).numpy(), 2))
    assert torch.equal(kept // 2, torch.arange(4000))
    share = float((kept % 2).double().mean())
    assert share == pytest.approx(float(torch.sigmoid(torch.tensor(1.0))), abs=4 * 0.5 / 4000**0.5)


def test_our_average_is_one_operation_and_that_of_the_reference_the_same(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    _, counts = loader.averages(network)
    assert counts == {"loop over state dicts": 4 * 2, "ours": 1}  # of each tensor two products, a sum and a copy
    average = torch.nn.Linear(3, 2)
    expected = 0.75 * average.weight.detach() + 0.25 * network.weight.detach()
    reference_cifar.ema(network, average, 0.75)
    torch.testing.assert_close(average.weight.detach(), expected)


def test_loaders_of_images_are_compared_on_as_many_of_them(tmp_path: Path) -> None:
    for way in loader.loaders(images(2 * loader.BATCH + 3).x, tmp_path / "files").values():
        assert way().cpu > 0  # each counts what it has seen


def test_all_couplings_train(monkeypatch: pytest.MonkeyPatch) -> None:
    paired: dict[str, bool] = {}
    original = FlowMatching.loss
    for name in coupling.COUPLINGS:

        def loss(self: FlowMatching, batch: Samples, name: str = name) -> Tensor:
            paired[name] = "noise" in batch.columns
            return original(self, batch)

        with monkeypatch.context() as patches:
            patches.setattr(FlowMatching, "loss", loss)
            assert coupling.train(name, image_data(), TINY_UNET, 8, 1).wall > 0
    assert paired == {name: name == coupling.BESIDE for name in coupling.COUPLINGS}


def test_half_precision_is_near_and_memory_layout_changes_nothing() -> None:
    network = precision.float_network(8, **TINY_UNET)
    errors = precision.Sampling(network, precision.sampling_modes("cpu", False), "cpu", 4).errors()
    for mode, error in errors.items():
        assert error < 1e-5 if mode.half == "" else 1e-4 < error < 0.02
    assert len(errors) == 6
    gradients = precision.TrainingPasses(network, precision.training_modes("cpu", False), "cpu", 4)
    assert all(way().cpu > 0 for way in gradients.ways().values())


def test_a_product_and_a_sum_are_two_operations() -> None:
    class Convolution(torch.nn.Conv2d):
        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return super().forward(x)

    assert precision.flops(Convolution(3, 5, 3, padding=1), side=8) == 2 * (3 * 3 * 3) * (5 * 8 * 8)


@pytest.mark.slow
def test_one_compilation_for_training_and_one_for_sampling() -> None:
    assert precision.compilations() == [2, 0, 0]


def test_solvers_of_images_are_compared_at_their_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sampling, "FINE", ("rk4", 4))
    data = image_data()
    model = FlowMatching(data, network=UNet(data, **TINY_UNET))
    solvers: list[image_sampling.Key] = [image_sampling.DOPRI5, ("euler", 16), ("midpoint", 8)]
    found = image_sampling.outcomes(model, NearestMean(data), data, images=8, chunk=4, solvers=solvers)
    assert [found[key].evaluations for key in solvers[1:]] == [[16, 16]] * 2
    assert all(len(outcome.costs) == 2 for outcome in found.values())
    assert max(outcome.error for outcome in found.values()) < 1e-5  # an untrained UNet's velocity is 0


def test_the_cheapest_solver_is_the_one_of_few_evaluations_near_dopri5() -> None:
    def outcome(evaluations: int, distance: float, error: float = 0.0) -> image_sampling.Outcome:
        return image_sampling.Outcome(evaluations=[evaluations], distance=distance, error=error)

    found = {
        image_sampling.DOPRI5: outcome(100, 1.0),
        image_sampling.EULER_100: outcome(100, 1.0),
        ("euler", 16): outcome(16, 1.03),
        ("midpoint", 16): outcome(32, 1.01, error=0.2),
        ("heun", 16): outcome(32, 1.01, error=0.1),
    }
    assert image_sampling.cheapest(found) == ("heun", 16)
    assert image_sampling.cheapest({**found, ("midpoint", 8): outcome(16, 1.02)}) == ("midpoint", 8)
    assert image_sampling.cheapest({image_sampling.DOPRI5: outcome(100, 1.0)}) is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_pool() -> None:
    few, many = (memory.peak_of_a_process(samples, 0) for samples in (10**4, 10**6))
    assert many - few <= memory.ALLOWANCE


def test_motions_cost_a_fraction_of_the_published_way() -> None:
    found = motion_speed.counts()
    assert found == {"published": 2 * 64 * 1000, "ours": 65 * 50}
    small = motion_speed.Setting(batch=2, prompts=3, frames=16, width=32, layers=1, text_layers=1)
    assert cpu_ratio(*interleaved(motion_speed.trainers(small), rounds=2).values()) >= 1.5
    assert cpu_ratio(*interleaved(motion_speed.samplers(small, 50), rounds=1).values()) >= 20


def test_the_published_motion_network_has_its_published_size() -> None:
    network = motion_speed.Published(motion_speed.Setting(text_layers=1))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 17_880_327
    data = motion_speed.motion_data(2, 16)
    ours = motion_speed.our_model(motion_speed.Setting(), data)
    assert sum(p.numel() for p in ours.parameters()) == 17_880_327
