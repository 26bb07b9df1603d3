"""Losses by the weights of their items, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sc_loops import DDPM, FlowMatching, Samples, TimeMLP, gaussian
from sc_loops.data.mixture import mix
from sc_loops.models.weighting import weighted_mean


def test_without_weights_it_is_the_mean_to_the_last_bit() -> None:
    output = torch.randn(57, 3, requires_grad=True)
    target = torch.randn(57, 3)
    ours = weighted_mean(F.mse_loss(output, target, reduction="none"), Samples(target))
    plain = F.mse_loss(output, target)
    assert torch.equal(ours, plain)
    assert torch.equal(torch.autograd.grad(ours, output)[0], torch.autograd.grad(plain, output)[0])


def test_parts_of_a_batch_add_up() -> None:
    losses, weight = torch.rand(10, 2), torch.rand(10)
    batch = Samples(losses).with_columns(weight=weight)
    whole = weighted_mean(losses, batch)
    assert float(whole) == pytest.approx(float((losses.mean(1) * weight).mean()))
    parts = [weighted_mean(losses[part], batch[part]) * len(batch[part]) / 10 for part in (slice(4), slice(4, 10))]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(weighted_mean(losses.mean(1), batch), whole)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 5.0])
def test_the_minimum_is_the_weighted_least_squares_of_the_theory(ratio: float) -> None:
    """Of a linear model y = a x + b on mixtures whose pools have any size, against the normal equations of
    1/(1+λ) E_real + λ/(1+λ) E_pool."""
    generator = torch.Generator().manual_seed(0)
    real, pool = (
        torch.randn(n, 2, generator=generator, dtype=torch.float64) + shift for n, shift in ((50, 0), (130, 2))
    )
    found = mix(
        Samples(real.float()), [Samples(pool.float())], synthetic_ratio=ratio, mixing="weight", generator=generator
    )
    mixture = found.items
    weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    x, y = mixture.x.double().T

    def loss(weights: Tensor) -> Tensor:
        return weighted_mean((weights[0] * x + weights[1] - y).square(), mixture)

    hessian = torch.autograd.functional.hessian(loss, weights)
    minimum = -torch.linalg.solve(hessian, torch.autograd.grad(loss(weights), weights)[0])  # of a quadratic
    parts = [torch.stack([p[:, 0], torch.ones(len(p))], dim=1) for p in (real, pool)]
    shares = 1 / (1 + ratio), ratio / (1 + ratio)
    gram = sum(share * a.T @ a / len(a) for share, a in zip(shares, parts, strict=True))
    moment = sum(share * a.T @ p[:, 1] / len(p) for share, a, p in zip(shares, parts, (real, pool), strict=True))
    torch.testing.assert_close(minimum, torch.linalg.solve(gram, moment), rtol=1e-5, atol=1e-6)


def test_count_and_weight_agree_where_the_pool_is_as_large_as_the_count() -> None:
    real, pool = Samples(torch.randn(40, 1)), Samples(torch.randn(20, 1))
    by_weight, by_count = (
        mix(real, [pool], synthetic_ratio=0.5, mixing=mixing, generator=torch.Generator().manual_seed(0)).items
        for mixing in ("weight", "count")
    )
    torch.testing.assert_close(by_weight.columns["weight"], torch.ones(60))
    torch.testing.assert_close(weighted_mean(by_weight.x, by_weight), by_count.x.mean())


def test_count_and_weight_agree_in_expectation() -> None:
    """The mean of a mixture with λ = 1/4: over draws from a pool of 400 by count, exactly by weight."""
    generator = torch.Generator().manual_seed(1)
    real, pool = (
        Samples(torch.randn(40, 1, generator=generator)),
        Samples(3 + torch.randn(400, 1, generator=generator)),
    )

    def mean(mixing: str) -> float:
        mixture = mix(real, [pool], synthetic_ratio=0.25, mixing=mixing, generator=generator).items  # type: ignore[arg-type]
        return float(weighted_mean(mixture.x, mixture))

    by_count = torch.tensor([mean("count") for _ in range(1000)])
    assert mean("weight") == pytest.approx(float(0.8 * real.x.mean() + 0.2 * pool.x.mean()), rel=1e-5)
    assert abs(float(by_count.mean()) - mean("weight")) < 4 * float(by_count.std()) / 1000**0.5


@pytest.mark.parametrize("name", ["ddpm", "independent", "target", "variance_preserving"])
def test_the_models_weight_their_losses(name: str) -> None:
    """Items of weight 0 do not count, whatever they are."""
    data = gaussian(size=8)
    torch.manual_seed(0)
    network = TimeMLP(data, width=8, depth=1)
    model = DDPM(data, network=network) if name == "ddpm" else FlowMatching(data, network=network, coupling=name)
    assert model.weighted
    weight = torch.tensor([2.0, 0.0] * 4)
    losses = []
    for outlier in (0.0, 1e3):
        x = data.train.x.clone()
        x[1::2] = outlier
        torch.manual_seed(1)
        losses.append(model.loss(Samples(x).with_columns(weight=weight)).item())
    assert losses[0] == losses[1]
    assert math.isfinite(losses[0])
    torch.manual_seed(1)
    assert model.loss(data.train).item() != losses[0]


def test_optimal_pairs_know_no_weights() -> None:
    data = gaussian(size=8)
    assert not FlowMatching(data, network=TimeMLP(data, width=8, depth=1), coupling="exact_ot").weighted
