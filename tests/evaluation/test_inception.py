"""The metrics in Inception's feature space: torch-fidelity's numbers, known cases, and the cache.

Most tests put a random projection in the place of Inception, which takes 0.1 s an image.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_distances import support_share
from test_inception_features import write_random_weights
from test_metrics import DATA, numbered, summary
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from sc_loops import schema
from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.evaluation import inception_features
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.inception import (
    InceptionDistances,
    inception_score,
    kernel_distance,
    precision_recall,
)
from sc_loops.samples import Samples


def pixels(n, seed, low=0, high=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, 3, 6, 6), dtype=torch.uint8, generator=generator)


REAL, HELD_OUT, FAKE = pixels(40, 0), pixels(30, 1), numbered(as_float(pixels(40, 2, low=30)))
IMAGES = RealData(Samples(REAL), Samples(HELD_OUT), "images")


class Projection(torch.nn.Module):
    """Images of 6 x 6 pixels to 12 features."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.matrix = torch.randn(108, 12, generator=generator) / 1000
        self.fc = torch.nn.Linear(12, 9)
        self.fc.weight = torch.nn.Parameter(torch.randn(9, 12, generator=generator), requires_grad=False)
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return (x.flatten(1).float() @ self.matrix,)


@pytest.fixture
def projection(monkeypatch):
    network = Projection()
    monkeypatch.setattr(inception_features, "load", lambda path: network)
    return network


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_text("some")
    return str(path)


# The numbers.


@pytest.mark.slow
def test_the_numbers_are_those_of_torch_fidelitys_command(tmp_path):
    inception_weights = write_random_weights(tmp_path / "weights.pth")
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randint(0, 256, (2, 24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    metric = InceptionDistances(RealData(Samples(real), Samples(real), "images"), weights=inception_weights)
    metric.prepare(tmp_path)
    found = summary(metric, numbered(as_float(fake)), [10])
    expected = torch_fidelity.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=inception_weights,
        kid_subset_size=24,
        **dict.fromkeys(["isc", "fid", "kid", "prc", "save_cpu_ram"], True),
        **dict.fromkeys(["cuda", "cache", "verbose"], False),
    )
    # Of so few samples torch-fidelity's FID has an error of 4e-6: it adds up the roots of rounding errors.
    assert found["fid"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert found["kid"] == pytest.approx(expected["kernel_inception_distance_mean"], abs=1e-6)
    assert found["inception_score"] == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert found["precision/inception"] == expected["precision"]
    assert found["recall/inception"] == expected["recall"]


class Images(torch.utils.data.Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i]


def test_fid_is_torch_fidelitys(projection, weights):
    found = summary(InceptionDistances(IMAGES, weights=weights), FAKE)
    sides = [fid_features_to_statistics(projection(x)[0].double()) for x in (pixels(40, 2, low=30), REAL)]
    expected = fid_statistics_to_metric(*sides, verbose=False)["frechet_inception_distance"]
    assert found["fid"] == pytest.approx(expected, rel=1e-6)


def mmd(x, y):
    """The unbiased squared MMD with KID's kernel (x.y / d + 1)^3, pair by pair."""

    def mean(pairs):
        values = [(float(a @ b) / len(a) + 1) ** 3 for a, b in pairs]
        return sum(values) / len(values)

    def others(z):
        return [(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]

    return mean(others(x)) + mean(others(y)) - 2 * mean([(a, b) for a in x for b in y])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_kid_against_a_double_loop():
    x, y = normal(15, 4), 1 + normal(15, 4, seed=1)
    found = kernel_distance(x, y)
    assert found["kid"] == pytest.approx(mmd(x.double(), y.double()), rel=1e-4)
    assert found["kid_std"] == pytest.approx(0, abs=1e-5)  # every subset is all of them


def test_kid_of_unequal_numbers_is_over_subsets():
    x, y = normal(60, 4), 1 + normal(15, 4, seed=1)
    found = kernel_distance(x, y)
    assert abs(found["kid"] - mmd(x.double(), y.double())) < 4 * found["kid_std"] / math.sqrt(100)
    assert found["kid_std"] > 0
    assert found == kernel_distance(x, y)  # the subsets are always the same


@pytest.mark.parametrize("classes", [1, 5, 20])
def test_inception_score_of_certain_samples_is_the_number_of_classes(classes):
    logits = 40 * torch.eye(20)[torch.arange(8000) % classes]
    assert inception_score(logits)["inception_score"] == pytest.approx(classes, rel=0.02)


def test_inception_score_against_numpy():
    p = normal(10, 6).double().softmax(dim=1).numpy()
    kl = np.mean([(row * np.log(row / p.mean(axis=0))).sum() for row in p])
    # Ten samples are in ten splits of one each. Of many copies all splits hold about the same share.
    assert inception_score(normal(10, 6))["inception_score"] == pytest.approx(1.0)
    copies = normal(10, 6).repeat(1000, 1)
    assert inception_score(copies)["inception_score"] == pytest.approx(math.exp(kl), rel=0.01)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 5))
def test_precision_and_recall_against_plain_loops(seed, k):
    real, fake = normal(20, 2, seed=seed), 1 + 0.7 * normal(20, 2, seed=seed + 1)
    assert precision_recall(fake, real, k) == pytest.approx(
        {
            "precision/inception": support_share(fake.tolist(), real.tolist(), k),
            "recall/inception": support_share(real.tolist(), fake.tolist(), k),
        }
    )


def test_precision_and_recall_are_not_swapped():
    """Samples of one of four modes all look real, and cover a quarter of what is real."""
    real, one = DATA.test.x, DATA.train.x[DATA.train.condition == 0]
    found = precision_recall(one.repeat(4, 1)[: len(real)], real, 3)
    assert found["precision/inception"] > 0.9
    assert found["recall/inception"] < 0.35


def test_the_real_images_are_at_no_distance_from_themselves(projection, weights):
    found = summary(InceptionDistances(IMAGES, weights=weights), numbered(as_float(REAL)), [7])
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["kid"] <= 0  # the pairs of an image with itself are left out on one side
    assert found["precision/inception"] == found["recall/inception"] == 1


# What is compared.


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(st.integers(0, 40), max_size=4))
def test_the_numbers_do_not_depend_on_the_chunks(projection, weights, edges):
    metric = InceptionDistances(IMAGES, weights=weights, pairs=25)
    assert summary(metric, FAKE, edges) == pytest.approx(summary(metric, FAKE), rel=1e-6, abs=1e-6)


def test_the_first_samples_are_compared_with_the_part_that_was_chosen(projection, weights):
    found = summary(InceptionDistances(IMAGES, weights=weights, samples=11, against="test"), FAKE, [5, 20])
    other = RealData(Samples(HELD_OUT), Samples(REAL), "images")
    assert found == summary(InceptionDistances(other, weights=weights), FAKE[:11])
    assert found["fid"] != summary(InceptionDistances(IMAGES, weights=weights, samples=11), FAKE)["fid"]


def test_few_samples_leave_precision_or_kid_undefined(projection, weights):
    metric = InceptionDistances(IMAGES, weights=weights, neighbours=5)
    found = summary(metric, FAKE[:5])
    assert math.isnan(found["precision/inception"])
    assert math.isnan(found["recall/inception"])
    assert all(math.isfinite(value) for key, value in found.items() if "inception" not in key or "score" in key)
    assert math.isnan(summary(metric, FAKE[:1])["kid"])


def test_pixels_and_floats_are_the_same_real_images(projection, weights, tmp_path):
    floats = RealData(Samples(as_float(REAL)), Samples(as_float(HELD_OUT)), "images")
    metrics = [InceptionDistances(data, weights=weights) for data in (IMAGES, floats)]
    for metric in metrics:
        metric.prepare(tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert summary(metrics[0], FAKE) == summary(metrics[1], FAKE)


# The cache.


def test_the_real_side_is_measured_once(projection, weights, tmp_path, capsys):
    cache = tmp_path / "new" / "cache"
    expected = summary(InceptionDistances(IMAGES, weights=weights), FAKE)  # without a cache
    projection.seen = 0
    InceptionDistances(IMAGES, weights=weights).prepare(cache)
    assert projection.seen == 40
    assert "40 real images" in capsys.readouterr().err
    second = InceptionDistances(IMAGES, weights=weights, neighbours=3, batch_size=7)
    second.prepare(cache)
    assert projection.seen == 40
    assert capsys.readouterr().err == ""
    found = summary(second, FAKE)
    assert projection.seen == 80  # the samples
    assert found == pytest.approx(expected, rel=1e-6)


def test_other_images_weights_or_options_are_measured_anew(projection, weights, tmp_path):
    def prepare(data=IMAGES, **options):
        InceptionDistances(data, **{"weights": weights, **options}).prepare(tmp_path / "cache")
        return len(list((tmp_path / "cache").iterdir()))

    changed = REAL.clone()
    changed[7, 0, 0, 0] += 1
    other = tmp_path / "other.pth"
    other.write_text("others")
    assert prepare() == 1
    assert prepare(RealData(Samples(changed), Samples(HELD_OUT), "images")) == 2
    assert prepare(weights=str(other)) == 3
    assert prepare(pairs=20) == 4
    assert prepare(against="test") == 5


@pytest.mark.parametrize("when", ["before prepare", "after prepare"])
def test_a_damaged_cache_is_measured_again(projection, weights, tmp_path, when):
    metric = InceptionDistances(IMAGES, weights=weights)
    metric.prepare(tmp_path)
    (path,) = tmp_path.glob("inception-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    if when == "before prepare":
        metric.prepare(tmp_path)
        assert path.read_bytes() == whole
    assert summary(metric, FAKE) == summary(InceptionDistances(IMAGES, weights=weights), FAKE)


# In a config.


def build(options, data=IMAGES):
    resolved = schema.resolve(Evaluation, {"metrics": [{"name": "inception", **options}]}, "evaluation")
    return schema.build(Evaluation, resolved, {"data": data}, "evaluation")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"weights": "nowhere.pth"}, "weights"),
        ({"samples": 1}, "samples"),
        ({"pairs": 1}, "pairs"),
        ({"neighbours": 0}, "neighbours"),
        ({"batch_size": 0}, "batch_size"),
        ({"against": "validation"}, "against"),
    ],
)
def test_impossible_options_are_named(options, where):
    with pytest.raises(UsageError) as error:
        build(options)
    assert error.value.where == f"evaluation.metrics.0.{where}"


@pytest.mark.parametrize(
    "data",
    [DATA, RealData(Samples(torch.zeros(2, 4, 5, 5)), Samples(torch.zeros(2, 4, 5, 5)), "images")],
    ids=["points", "four channels"],
)
def test_data_that_inception_cannot_see_are_refused(data):
    with pytest.raises(InvalidValue, match="data") as error:
        build({}, data)
    assert str(tuple(data.shape)) in error.value.found


def test_wrong_weights_are_found_when_the_evaluation_is_prepared(weights, tmp_path):
    with pytest.raises(UsageError) as error:
        build({"weights": weights}).prepare(tmp_path)
    assert error.value.where == "evaluation.metrics.0.weights"
    assert not list(tmp_path.glob("inception-*"))


def test_in_an_evaluation(projection, weights, tmp_path):
    evaluation = build({"weights": weights, "samples": 30})
    evaluation.prepare(tmp_path)
    observed = evaluation.observe(FAKE, FAKE)
    assert observed["inception"]["features"].shape == (30, 12)
    assert evaluation.observed_bytes(40) == 30 * 2048 * 4
    assert evaluation.observed_bytes(10) == 10 * 2048 * 4
    assert Path(next(tmp_path.glob("inception-*"))).stat().st_size > 0
