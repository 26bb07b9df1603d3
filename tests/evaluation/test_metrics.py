"""The metrics through observe, pool and summarise: known cases, and independence of the chunks."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sc_loops.curation.rewards import ClippedDistance
from sc_loops.data.pixels import as_bytes, as_float
from sc_loops.data.points import gaussian_mixture
from sc_loops.data.pool import Chunk, Pool
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, UsageError, require
from sc_loops.evaluation import images
from sc_loops.evaluation.classes import ClassShares
from sc_loops.evaluation.evaluation import Evaluation
from sc_loops.evaluation.frechet import frechet_distance, frechet_distance_error, gaussian
from sc_loops.evaluation.images import ImageDistances
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.points import PointDistances, energy_distance, wasserstein_2
from sc_loops.evaluation.rewards import RewardStatistics
from sc_loops.networks.classifiers import NearestMean
from sc_loops.samples import Samples

DATA = gaussian_mixture(modes=4, size=200, test_size=150)
REWARD = ClippedDistance(center=[5.0, 0.0])


def chunked(samples, edges=()):
    edges = [0, *sorted(edges), len(samples)]
    return [samples[a:b] for a, b in itertools.pairwise(edges)]


def summary(metric, samples, edges=()):
    return metric.summarise([metric.observe(chunk) for chunk in chunked(samples, edges)])


def scored(r):
    return Samples(r[:, None], None, {"index": torch.arange(len(r)), "reward": r})


def numbered(x):
    return Samples(x, None, {"index": torch.arange(len(x))})


@settings(max_examples=50, deadline=None)
@given(
    r=st.lists(st.floats(-30, 5, width=32), min_size=2, max_size=40),
    edges=st.lists(st.integers(0, 40), max_size=5),
)
def test_reward_statistics_are_numpys_however_the_chunks_are_cut(r, edges):
    found = summary(RewardStatistics(limit=5), scored(torch.tensor(r)), [min(e, len(r)) for e in edges])
    for name, values in (("reward", np.array(r)), ("exp_reward", np.exp(np.array(r)))):
        assert found[f"{name}/mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-12)
        assert found[f"{name}/var"] == pytest.approx(values.var(), rel=1e-7, abs=1e-9)
        error = values.std(ddof=1) / math.sqrt(len(r))
        assert found[f"{name}/mean_error"] == pytest.approx(error, rel=1e-7, abs=1e-6)


def test_variance_survives_a_large_mean():
    r = torch.tensor([4096.0, 4097.0, 4098.0, 4099.0])  # exact in float32
    assert summary(RewardStatistics(), scored(r - 5000), [1, 3])["reward/var"] == pytest.approx(1.25, abs=1e-12)


def test_top_share_and_values():
    metric = RewardStatistics(limit=3, supremum=0.0, curated=True)
    r = torch.tensor([0.0, -1.0, -1e-8, -2.0])
    assert summary(metric, scored(r), [2])["curated/reward/top_share"] == 0.5
    values = torch.cat([metric.observe(chunk)["values"] for chunk in chunked(scored(r), [2])])
    assert torch.equal(values, r[:3])
    assert "reward/top_share" not in summary(RewardStatistics(), scored(r))


def test_class_shares_of_a_known_mixture():
    # three samples at mode 0, one at mode 2
    x = torch.tensor([[5.0, 0.0], [5.1, 0.0], [4.9, 0.1], [-5.0, 0.0]])
    found = summary(ClassShares(NearestMean(DATA)), numbered(x), [1])
    assert [found[f"class_share/{k}"] for k in range(4)] == [0.75, 0.0, 0.25, 0.0]
    assert found["class_entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


def test_point_distances_see_the_first_samples_only():
    x = DATA.train.x
    found = summary(PointDistances(DATA, limit=100), numbered(x), [30, 120])
    first, real = x[:100].double(), DATA.test.x.double()
    assert found["energy_distance"] == pytest.approx(energy_distance(first, real))
    assert found["wasserstein_2"] == pytest.approx(wasserstein_2(first, real[torch.arange(100) * 150 // 100]))


def test_point_distances_of_fewer_samples_than_the_limit():
    found = summary(PointDistances(DATA), numbered(DATA.test.x[:20] + torch.tensor([100.0, 0.0])))
    assert found["wasserstein_2"] == pytest.approx(100, abs=10)


def pictures(x):
    """Points of the mixture as 1 x 1 pictures with two channels, in [-1, 1]."""
    return x[:, :, None, None] / 10


IMAGES = RealData(
    Samples(pictures(DATA.train.x), DATA.train.condition),
    Samples(pictures(DATA.test.x), DATA.test.condition),
    "images",
    DATA.class_names,
)


@pytest.mark.parametrize(
    ("x", "precision", "recall"),
    [
        (IMAGES.test.x, 1.0, 1.0),
        (IMAGES.test.x + 1000, 0.0, 0.0),
        (pictures(DATA.test.x[DATA.test.condition == 0]).repeat(4, 1, 1, 1)[:150], 1.0, None),
    ],
)
def test_precision_and_recall_of_known_cases(x, precision, recall):
    found = summary(ImageDistances(IMAGES, NearestMean(IMAGES)), numbered(x), [10])
    assert found["precision/pixels"] == precision
    if recall is None:  # three of four modes were dropped
        assert found["recall/pixels"] < 0.35
        assert found["frechet_distance/pixels"] > 0.1
    else:
        assert found["recall/pixels"] == recall
    if precision == recall == 1:
        assert found["frechet_distance/pixels"] == pytest.approx(0, abs=1e-6)
    if precision == recall == 0:
        assert found["frechet_distance/pixels"] == pytest.approx(2e6)


def test_too_few_samples_have_no_precision():
    found = summary(ImageDistances(IMAGES, NearestMean(IMAGES), neighbours=5), numbered(IMAGES.test.x[:5]))
    assert math.isnan(found["precision/pixels"])
    assert math.isfinite(found["frechet_distance/pixels"])


def test_the_error_of_the_frechet_distance_stands_beside_it_where_it_can_be_known(monkeypatch):
    x = IMAGES.train.x[:60]
    error = "frechet_distance_error/pixels"
    found = summary(ImageDistances(IMAGES, NearestMean(IMAGES)), numbered(x), [10, 35])
    assert found[error] == pytest.approx(frechet_distance_error(x.flatten(1), gaussian(IMAGES.test.x.flatten(1))))
    assert found["frechet_distance/pixels"] == frechet_distance(
        gaussian(x.flatten(1)), gaussian(IMAGES.test.x.flatten(1)).with_root()
    )
    assert error not in summary(ImageDistances(IMAGES, NearestMean(IMAGES)), numbered(x[:19]))
    monkeypatch.setattr(images, "MOST_FEATURES", 1)
    found = summary(ImageDistances(IMAGES, NearestMean(IMAGES)), numbered(x))
    assert error not in found
    assert "frechet_distance/pixels" in found


def test_real_images_may_be_pixels():
    x = [as_bytes(part.x) for part in (IMAGES.train, IMAGES.test)]
    labels = [IMAGES.train.condition, IMAGES.test.condition]
    as_pixels, as_floats = (
        RealData(Samples(kind(x[0]), labels[0]), Samples(kind(x[1]), labels[1]), "images", DATA.class_names)
        for kind in (as_bytes, as_float)
    )
    classifier, samples = NearestMean(as_floats), numbered(as_float(x[0]))
    found = summary(ImageDistances(as_pixels, classifier), samples)
    assert found == summary(ImageDistances(as_floats, classifier), samples)
    assert 0 < found["frechet_distance/pixels"] < 1


class Largest(Metric):
    """A user's metric."""

    name = "largest"

    def observe(self, samples):
        return {"x": samples.x.amax()[None]}

    def summarise(self, observations):
        return {"largest": max(float(o["x"]) for o in observations)}


def in_pool(path: Path, evaluation, samples, size, kept=slice(0, None, 2)):
    """What the evaluation makes of a pool that was written in chunks of ``size`` and kept every second sample."""
    pool = Pool(path)
    chunks = [Chunk(i, a, min(size, len(samples) - a)) for i, a in enumerate(range(0, len(samples), size))]

    def make(chunk):
        raw = samples[chunk.start : chunk.start + chunk.size]
        return raw[kept], evaluation.observe(raw, raw[kept])

    for _ in pool.fill(chunks, make):
        pass
    pool.finish(0, chunks)
    return evaluation.summarise(pool)


def test_evaluation_does_not_depend_on_the_chunks(tmp_path):
    evaluation = Evaluation(DATA, NearestMean(DATA), REWARD, samples=60, metrics=[Largest()])
    x = DATA.train.x
    samples = Samples(x, None, {"index": torch.arange(200), "reward": REWARD(x)})
    found = in_pool(tmp_path / "a", evaluation, samples, 20)
    assert found == pytest.approx(in_pool(tmp_path / "b", evaluation, samples, 200), rel=1e-12)
    r = REWARD(x).double()
    assert found["reward/mean"] == pytest.approx(float(r.mean()))
    assert found["curated/reward/mean"] == pytest.approx(float(r[::2].mean()))
    assert found["reward/top_share"] == pytest.approx(
        float(((x - torch.tensor([5.0, 0.0])).norm(dim=1) <= 1).double().mean())
    )
    assert found["largest"] == float(x.max())
    assert {"energy_distance", "wasserstein_2", "class_share/3", "class_entropy"} <= found.keys()


IN_FEATURES = {"frechet_distance", "frechet_distance_error", "precision", "recall"}


@pytest.mark.parametrize(
    ("data", "classified", "rewarded", "families"),
    [
        (DATA, False, False, {"energy_distance", "wasserstein_2"}),
        (DATA, True, False, {"energy_distance", "wasserstein_2", "class_share", "class_entropy"}),
        (IMAGES, False, True, {"reward", "exp_reward"}),
        (IMAGES, True, False, {*IN_FEATURES, "class_share", "class_entropy"}),
    ],
)
def test_defaults_are_what_suits_the_data(tmp_path, data, classified, rewarded, families):
    reward = (lambda x: x.flatten(1)[:, 0]) if rewarded else None
    evaluation = Evaluation(data, NearestMean(data) if classified else None, reward)
    samples = numbered(data.train.x)
    if reward is not None:
        samples = samples.with_columns(reward=reward(samples.x))
    found = in_pool(tmp_path, evaluation, samples, 100)
    assert {key.removeprefix("curated/").split("/")[0] for key in found} == families


def test_own_metrics_take_the_place_of_defaults():
    own = PointDistances(DATA, limit=7)
    evaluation = Evaluation(DATA, None, None, metrics=[own])
    samples = numbered(DATA.train.x)
    assert len(evaluation.observe(samples, samples)["points"]["x"]) == 7
    with pytest.raises(InvalidValue, match="different names"):
        Evaluation(DATA, None, None, metrics=[own, own])


@pytest.mark.parametrize("raw", [50, 200])
def test_observations_are_as_large_as_was_said(raw):
    evaluation = Evaluation(DATA, None, REWARD, samples=60)
    x = DATA.train.x[:raw]
    samples = Samples(x, None, {"index": torch.arange(raw), "reward": REWARD(x)})
    observed = evaluation.observe(samples, samples)
    taken = sum(t.numel() * t.element_size() for o in observed.values() for t in o.values())
    constant = sum(o["moments"].nbytes + o["top_count"].nbytes for o in observed.values() if "moments" in o)
    assert evaluation.observed_bytes(raw) == taken - constant
    assert Evaluation(DATA, None, None, samples=60).observed_bytes(raw) == observed["points"]["x"].nbytes


def test_observed_features_are_about_as_large_as_was_said():
    assert Evaluation(IMAGES, NearestMean(IMAGES), None, samples=60).observed_bytes(200) == 60 * 512 * 4
    assert Largest().observed_bytes(200) == 0


class Prepared(Largest):
    """Notes the cache, or fails as it is told to."""

    name = "prepared"

    def __init__(self, fault=None):
        self.fault = fault

    def prepare(self, cache):
        require(self.fault != "option", "weights", "none", "some")
        if self.fault == "bug":
            raise ZeroDivisionError("no real images")
        self.cache = cache


def test_own_metrics_are_prepared(tmp_path):
    metric = Prepared()
    Evaluation(DATA, None, None, metrics=[Largest(), metric]).prepare(tmp_path)
    assert metric.cache == tmp_path


@pytest.mark.parametrize(
    ("fault", "where", "found"),
    [
        ("option", "evaluation.metrics.1.weights", "'none'"),
        ("bug", "evaluation.metrics.1", "ZeroDivisionError: no real images"),
    ],
)
def test_a_metric_that_cannot_be_prepared_is_named(tmp_path, fault, where, found):
    evaluation = Evaluation(DATA, None, None, metrics=[Largest(), Prepared(fault)])
    with pytest.raises(UsageError) as error:
        evaluation.prepare(tmp_path)
    assert (error.value.where, error.value.found) == (where, found)
