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
from sc_loops.improving.search import find_metric, lowest, search


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
    curve = search(model, model.moved, [0.0, 0.5, 5.0, -1.0], 90, Mean(), "mean/x", DATA, synthesis())
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
    assert set(search(model, model.moved, [0.0], 10, Pixels(), "mean/x", images(), synthesis())) == {0.0}


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
