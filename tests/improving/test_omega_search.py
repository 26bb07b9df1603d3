"""Choosing ω: by which metric, from which noise, and what is written down."""

import math
from contextlib import contextmanager

import pytest
import torch
from tiny_flows import DATA, evaluation, synthesis, trained

from sc_loops import Metric, NearestMean, RealData, Samples
from sc_loops.errors import InvalidValue, RunError
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.points import energy_distance
from sc_loops.improving.neon import Neon
from sc_loops.improving.search import curve_of, find_metric, lowest, recorded, search


class Mean(Metric):
    """The mean of the samples, from chunks."""

    name = "mean"

    def observe(self, samples):
        return {"x": samples.x, "index": samples.columns["index"]}

    def summarise(self, observations):
        assert torch.cat([o["index"] for o in observations]).tolist() == list(
            range(sum(len(o["x"]) for o in observations))
        )
        return {"mean/x": float(torch.cat([o["x"] for o in observations]).mean()), "mean/other": 0.0}


class Shifted(torch.nn.Module):
    """Stands in for a model: its samples are noise moved by ``by``."""

    by = 0.0
    device = torch.device("cpu")

    @contextmanager
    def averaged(self):
        yield

    @contextmanager
    def moved(self, omega):
        self.by = omega
        yield
        self.by = 0.0

    def sample(self, generator, n, condition=None):
        noise = torch.randn(n, 2, generator=generator)
        return noise + (math.nan if self.by == 5 else self.by)


def images():
    x = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = Samples(x, torch.arange(40) % 2)
    return RealData(part, part, "images", ("a", "b"), "noise")


def test_the_curve_is_what_is_measured_of_the_same_noise():
    model = Shifted()
    found = search(model, model.moved, [0.0, 0.5, 5.0, -1.0], 90, Mean(), DATA, synthesis())
    curve = curve_of(found, "mean/x")
    noise = torch.cat([c.x for c in synthesis().chunks(model, 90, "search")])
    assert list(curve) == [0.0, 0.5, 5.0, -1.0]
    assert math.isnan(curve.pop(5.0))
    for omega, value in curve.items():
        assert value == pytest.approx(float(noise.mean()) + omega, abs=1e-6)


def test_pixels_are_measured_as_they_would_be_kept():
    class Pixels(Mean):
        def observe(self, samples):
            steps = (samples.x + 1) * 127.5
            torch.testing.assert_close(steps, steps.round())
            assert samples.x.min() >= -1
            return super().observe(samples)

    model = Shifted()
    assert set(search(model, model.moved, [0.0], 10, Pixels(), images(), synthesis())) == {0.0}


class Brightened(Shifted):
    """Images of noise, brightened."""

    def sample(self, generator, n, condition=None):
        return (0.3 * torch.randn(n, 1, 4, 4, generator=generator) + self.by).clamp(-1, 1)


def test_precision_and_recall_are_those_of_the_same_samples():
    """By hand: the share of points in a ball around one of the other kind that reaches to its k-th neighbour."""
    data, k, n = images(), 3, 40
    classifier = NearestMean(data)
    classifier.prepare(None)
    metric, key = find_metric(Evaluation(data, classifier, None, samples=n, neighbours=k), data, None)
    model, omegas = Brightened(), [0.0, 0.4, -0.2]
    row = recorded(search(model, model.moved, omegas, n, metric, data, synthesis()), key)
    assert set(row) == {f"improvement/{q}/{w:g}" for q in ("search", "precision", "recall") for w in omegas}
    real = classifier.features(data.test.as_float().x).double()
    for omega in omegas:
        with model.moved(omega):
            x = torch.cat([chunk.x for chunk in synthesis().chunks(model, n, "search")])
        kept = ((x + 1) * 127.5).round() / 127.5 - 1
        fake = classifier.features(kept).double()
        for quantity, points, centres in (("precision", fake, real), ("recall", real, fake)):
            radii = torch.cdist(centres, centres).sort(dim=1).values[:, k]
            within = (torch.cdist(points, centres) <= radii).any(dim=1)
            assert row[f"improvement/{quantity}/{omega:g}"] == pytest.approx(float(within.double().mean()))
    assert len({row[f"improvement/precision/{omega:g}"] for omega in omegas}) > 1


def test_what_was_not_measured_is_nan_or_left_out():
    found = {0.0: {"fid": 3.0, "precision/inception": 0.5, "precision_other": 9.0}, 1.0: {}, 2.5: {"fid": 2.0}}
    row = recorded(found, "fid")
    assert math.isnan(row.pop("improvement/search/1"))
    assert row == {"improvement/search/0": 3.0, "improvement/search/2.5": 2.0, "improvement/precision/0": 0.5}


def test_the_lowest_is_chosen_and_of_equals_the_one_nearest_to_the_base():
    assert lowest({0.0: 3.0, 1.0: 1.0, 2.0: 2.0}, "m") == 1.0
    assert lowest({-1.0: 1.0, 0.0: 1.0, 2.0: 1.0}, "m") == 0.0
    assert lowest({0.0: math.nan, 1.0: math.inf, 2.0: 9.0}, "m") == 2.0
    with pytest.raises(RunError, match="by m"):
        lowest({0.0: math.nan}, "m")


def test_the_metric_is_a_distance_unless_it_is_named():
    points = evaluation()
    assert find_metric(points, DATA, None)[1] == "wasserstein_2"
    assert find_metric(points, DATA, "energy_distance")[1] == "energy_distance"
    data = images()
    classifier = NearestMean(data)
    classifier.prepare(None)
    of_images = Evaluation(data, classifier, None, metrics=[Mean()])
    metric, key = find_metric(of_images, data, None)
    assert (metric.name, key.split("/")[0]) == ("images", "frechet_distance")
    assert find_metric(of_images, data, "mean/x")[0].name == "mean"


def test_a_reward_is_no_metric_of_the_search_and_a_typo_is_met_with_the_nearest_key():
    rewarded = Evaluation(DATA, None, lambda x: x[:, 0], samples=50)
    assert find_metric(rewarded, DATA, None)[0].name == "points"
    with pytest.raises(InvalidValue, match="did you mean 'wasserstein_2'"):
        find_metric(rewarded, DATA, "wasserstein_3")
    with pytest.raises(InvalidValue, match="search_metric"):
        find_metric(Evaluation(images(), None, None, metrics=[Mean()]), images(), None)


def test_the_chosen_is_no_worse_than_the_base_and_every_omega_is_in_the_row(tmp_path):
    model = trained()
    improvement = Neon(DATA, samples=80, steps=10, batch_size=20, omegas=(1.0, -0.5), search_samples=50)
    row = improvement.prepare(model, tmp_path / "t.safetensors", evaluation(), synthesis())
    curve = {float(k.rsplit("/", 1)[1]): v for k, v in row.items() if k.startswith("improvement/search/")}
    assert list(curve) == [-0.5, 0.0, 1.0]
    assert row["improvement/omega"] == improvement.omega == min(curve, key=curve.get)
    assert row["improvement/items_seen"] == 200
    with model.averaged():
        base = torch.cat([c.x for c in synthesis().chunks(model, 50, "search")])
    named = Neon(DATA, samples=80, steps=1, omegas=(1.0,), search_samples=50, search_metric="energy_distance")
    row = named.prepare(model, tmp_path / "n.safetensors", evaluation(), synthesis())
    expected = energy_distance(base.double(), DATA.test.x.double())
    assert row["improvement/search/0"] == pytest.approx(expected, abs=1e-6)
