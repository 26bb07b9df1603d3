"""The kernel density estimate, against scikit-learn's and its own moments, and through checkpoints of other sizes."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from sc_loops import gaussian
from sc_loops.errors import InvalidValue
from sc_loops.models.kde import KDE
from sc_loops.samples import Samples

D = 2


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(n: int = 40, *, replicas: int = 1, bandwidth: float = 0.3) -> KDE:
    kde = KDE(gaussian(dimensions=D * replicas), bandwidth=bandwidth, replicas=replicas)
    kde.fit(Samples(torch.randn(n, D * replicas, generator=seeded()) * 2 + 1))
    return kde


def test_the_likelihood_is_that_of_scikit_learn() -> None:
    from sklearn.neighbors import KernelDensity

    kde = fitted()
    reference = KernelDensity(bandwidth=0.3).fit(kde.items.double().numpy())
    x = torch.randn(25, D, generator=seeded(1))
    assert float(kde.loss(Samples(x))) == pytest.approx(-reference.score(x.double().numpy()) / 25)


def test_the_loss_of_replicas_is_the_mean_of_theirs() -> None:
    together, x = fitted(replicas=3), torch.randn(25, 3 * D, generator=seeded(1))
    losses = []
    for r in range(3):
        alone = KDE(gaussian(dimensions=D), bandwidth=0.3)
        alone.fit(Samples(together.items[:, r * D :][:, :D]))
        losses.append(float(alone.loss(Samples(x[:, r * D :][:, :D]))))
    assert float(together.loss(Samples(x))) == pytest.approx(np.mean(losses))


def test_of_many_items_the_loss_looks_at_some(monkeypatch: pytest.MonkeyPatch) -> None:
    kde, x = fitted(), torch.randn(1000, D, generator=seeded(1))
    monkeypatch.setattr("sc_loops.models.kde.MOST_PAIRS", 40 * 10)
    assert torch.equal(kde.loss(Samples(x)), kde.loss(Samples(x[::100])))


@pytest.mark.parametrize("replicas", [1, 3])
def test_samples_have_the_moments_of_the_model(replicas: int) -> None:
    kde = fitted(replicas=replicas)
    x = kde.sample(seeded(2), 200_000).double()
    mean, covariance = kde.moments()
    assert torch.allclose(x.mean(dim=0), mean.flatten(), atol=0.03)
    assert torch.allclose(x.T.cov(), torch.block_diag(*covariance), atol=0.08)  # replicas pick items of their own


def test_samples_are_items_plus_noise() -> None:
    kde = fitted(bandwidth=1e-4)
    x = kde.sample(seeded(2), 500)
    distance, nearest = torch.cdist(x.double(), kde.items.double()).min(dim=1)
    assert float(distance.max()) < 1e-3
    assert len(nearest.unique()) == 40


def test_the_covariance_is_that_of_the_items_and_of_the_kernel() -> None:
    kde = fitted()
    expected = kde.items.double().T.cov(correction=0) + 0.09 * torch.eye(D)
    assert torch.allclose(kde.moments()[1][0], expected)


def test_a_checkpoint_of_another_number_of_items_is_loaded() -> None:
    small, large = fitted(10), fitted(33)
    checkpoint = {"state_dict": copy.deepcopy(large.state_dict())}
    large.on_save_checkpoint(checkpoint)
    with small.holding(checkpoint):
        assert small.weights_digest() == large.weights_digest()
        assert torch.equal(small.sample(seeded(), 5), large.sample(seeded(), 5))
    assert torch.equal(small.items, fitted(10).items)
    other = KDE(gaussian(dimensions=D + 1))
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict(checkpoint["state_dict"])


@pytest.mark.parametrize(
    ("options", "option"),
    [({"bandwidth": 0.0}, "bandwidth"), ({"bandwidth": math.inf}, "bandwidth"), ({"replicas": 3}, "replicas")],
)
def test_what_is_impossible_is_refused(options: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        KDE(gaussian(), **options)
    assert caught.value.where == option
