"""The Gaussian model: its sampling bias, its unbiased fit, and replicas that are loops of their own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sc_loops import gaussian
from sc_loops.cli import train
from sc_loops.errors import InvalidValue
from sc_loops.models.gaussian import Gaussian
from sc_loops.samples import Samples

R, D = 4, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(replicas: int = R, **options: Any) -> Gaussian:
    return Gaussian(gaussian(dimensions=R * D, size=30), replicas=replicas, **options)


def items(n: int = 30) -> Samples:
    x = torch.randn(n, R * D, generator=seeded()) @ torch.randn(R * D, R * D, generator=seeded(1)) + 1
    return Samples(x)


def of(replica: int, samples: Samples) -> Samples:
    return Samples(samples.x[:, replica * D :][:, :D], None, samples.columns)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unbiased", [False, True])
def test_each_replica_is_fitted_by_itself(weighted: bool, unbiased: bool) -> None:
    together, seen = model(unbiased=unbiased), items()
    if weighted:
        seen = seen.with_columns(weight=torch.rand(30, generator=seeded(2)) * 2)
    together.fit(seen)
    losses = []
    for r in range(R):
        alone = Gaussian(gaussian(dimensions=D), unbiased=unbiased)
        alone.fit(of(r, seen))
        mean, covariance = together.moments()
        assert torch.equal(mean[r], alone.mean)
        assert torch.equal(covariance[r], alone.covariance)
        losses.append(alone.loss(of(r, seen)))
    assert together.loss(seen) == pytest.approx(float(torch.stack(losses).mean()))
    assert together.mean.shape == (R, D)
    assert together.covariance.shape == (R, D, D)


def test_replicas_are_sampled_independently_of_each_other() -> None:
    together = model(sampling_bias=0.5)
    together.fit(items())
    x = together.sample(seeded(3), 200_000).double()
    mean, covariance = together.moments()
    block = torch.block_diag(*(0.5 * covariance))
    scale = block.diagonal().sqrt()
    assert x.shape == (200_000, R * D)
    assert torch.allclose((x.mean(dim=0) - mean.flatten()) / scale, torch.zeros(R * D).double(), atol=0.01)
    assert torch.allclose(x.T.cov() / scale / scale[:, None], block / scale / scale[:, None], atol=0.015)


def test_the_bias_multiplies_the_covariance_of_the_samples_and_not_the_fit() -> None:
    plain, biased = model(1), model(1, sampling_bias=0.25)
    for one in (plain, biased):
        one.fit(items())
    assert torch.equal(plain.covariance, biased.covariance)
    x, y = (one.sample(seeded(4), 500).double() for one in (plain, biased))
    assert torch.allclose(y - biased.mean, (x - plain.mean) / 2, atol=1e-5)  # the same noise, half as far


def covariance_of(x: Tensor, **options: Any) -> Tensor:
    one = Gaussian(gaussian(dimensions=x.shape[1]), regularisation=0.0, **options)
    one.fit(Samples(x))
    return one.covariance


def test_an_unbiased_covariance_is_divided_by_one_less() -> None:
    x = items().x
    assert torch.allclose(covariance_of(x, unbiased=True), x.double().T.cov())
    assert torch.allclose(covariance_of(x), x.double().T.cov(correction=0))
    assert (covariance_of(x[:1], unbiased=True) == 0).all()


def test_an_unbiased_weighted_covariance_is_right_on_average() -> None:
    weight = torch.tensor([3.0, 1.0, 1.0, 0.5, 0.5])
    x = torch.randn(5, 1000, generator=seeded(5))
    together = Gaussian(gaussian(dimensions=1000), replicas=1000, regularisation=0.0, unbiased=True)
    together.fit(Samples(x, None, {"weight": weight}))
    found = together.moments()[1].flatten()
    assert abs(float(found.mean()) - 1) < 4 * float(found.std()) / math.sqrt(1000)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": 5}, "replicas"),
        ({"sampling_bias": 0.0}, "sampling_bias"),
        ({"sampling_bias": 1.1}, "sampling_bias"),
        ({"sampling_bias": math.nan}, "sampling_bias"),
        ({"regularisation": -1.0}, "regularisation"),
    ],
)
def test_what_is_impossible_is_refused(options: dict[str, Any], option: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        model(**options)
    assert caught.value.where == option


def test_stages_are_refused_since_they_would_tie_replicas_together(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["--config", "mad_fully_synthetic", "data.dimensions=4", "model.replicas=2"]
    stage = "loop.stages=[{name: correct, strength: 1.0, corrector: {name: ideal, target: {name: gaussian}}}]"
    assert train([*command, stage, "--dry-run"]) == 2
    assert "loop.stages" in capsys.readouterr().err
    assert train([*command, "--dry-run"]) == 0
