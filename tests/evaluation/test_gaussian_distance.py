"""The distance of Gaussians and KDEs to a target, of one replica and of many."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sc_loops import gaussian
from sc_loops.errors import InvalidValue
from sc_loops.evaluation.gaussian import GaussianDistance
from sc_loops.models.gaussian import Gaussian
from sc_loops.models.kde import KDE
from sc_loops.samples import Samples

R, D = 6, 2
MEAN, COVARIANCE = [0.5, -1.0], [[2.0, 0.3], [0.3, 1.0]]
FIRST = Samples(torch.zeros(3, R * D), None, {"index": torch.arange(3)})


def measured(model: Gaussian | KDE, dimensions: int) -> dict[str, float]:
    metric = GaussianDistance(model, gaussian(dimensions=dimensions), mean=MEAN, covariance=COVARIANCE)
    return metric.summarise([metric.observe(FIRST)])


@pytest.mark.parametrize("kind", [Gaussian, KDE])
def test_the_values_of_replicas_are_means_with_their_standard_errors(kind: type[Gaussian] | type[KDE]) -> None:
    x = torch.randn(20, R * D, generator=torch.Generator().manual_seed(0))
    together = kind(gaussian(dimensions=R * D), replicas=R)
    together.fit(Samples(x))
    found, each = measured(together, R * D), []
    for r in range(R):
        alone = kind(gaussian(dimensions=D))
        alone.fit(Samples(x[:, r * D :][:, :D]))
        each.append(measured(alone, D))
    for key in ("wasserstein_2", "mean_square", "covariance_trace"):
        values = np.array([one[f"{key}/gaussian"] for one in each])
        assert found[f"{key}/gaussian"] == pytest.approx(values.mean())
        assert found[f"{key}_error/gaussian"] == pytest.approx(values.std(ddof=1) / math.sqrt(R))
    traces = [one["covariance_trace/gaussian"] for one in each]
    assert found["covariance_trace_median/gaussian"] == pytest.approx(np.median(traces))
    assert len(found) == 7
    assert set(each[0]) == {"wasserstein_2/gaussian", "mean_square/gaussian", "covariance_trace/gaussian"}


@pytest.mark.parametrize("replicas", [1, R])
def test_of_many_chunks_the_first_is_enough(replicas: int) -> None:
    model = Gaussian(gaussian(dimensions=R * D), replicas=replicas)
    metric = GaussianDistance(model, gaussian(dimensions=R * D))
    later = Samples(FIRST.x, None, {"index": torch.arange(3) + 3})
    assert metric.observe(later) == {}
    seen = metric.observe(FIRST)
    assert all(values.shape == (R,) for values in seen.values()) or replicas == 1
    assert metric.observed_bytes(3) == sum(values.nbytes for values in seen.values())


def test_the_target_is_that_of_one_replica() -> None:
    model = Gaussian(gaussian(dimensions=R * D), replicas=R)
    with pytest.raises(InvalidValue) as caught:
        GaussianDistance(model, gaussian(dimensions=R * D), mean=[0.0] * R * D)
    assert caught.value.where == "mean"
