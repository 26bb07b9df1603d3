"""SIMS and Neon on DDPM, in every prediction, and on EDM: against samplers written out here and one another."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from tiny_flows import DATA, drawn, evaluation, synthesis, unlabelled
from torch import Tensor

from sc_loops import DDPM, TimeMLP
from sc_loops.improving.neon import Neon
from sc_loops.improving.sims import SIMS
from sc_loops.models.edm import EDM
from sc_loops.networks.network import Network
from sc_loops.synthesis import counted_evaluations

T, STEPS, OMEGA, CLIP = 20, 4, 1.5, 0.7
KINDS = ("epsilon", "x0", "v", "edm")
SIGMA_DATA, LOWEST, HIGHEST = 0.6, 0.01, 10.0
LEVELS = (1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)).cumprod(0).float()  # alpha_bar of t = 0..T-1


def denoiser(seed: int) -> TimeMLP:
    """E[x_0 | x_t], or what somebody takes it for."""
    torch.manual_seed(seed)
    return TimeMLP(unlabelled(), width=16, depth=2, time_features=4)


class Predicting(Network):
    """The prediction ``kind`` that has the same denoised sample as every other kind made of one denoiser."""

    def __init__(self, kind: str, denoise: TimeMLP) -> None:
        super().__init__(unlabelled())
        self.kind, self.denoise = kind, denoise

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.kind == "edm":
            sigma = (math.log(LOWEST) + t * math.log(HIGHEST / LOWEST)).exp()[:, None]
            total = sigma**2 + SIGMA_DATA**2
            x = x * total.sqrt()  # x / c_in
            skip, out = SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt()
            return (self.denoise(t, x) - skip * x) / out
        x0, level = self.denoise(t, x), LEVELS[(t * T).round().long()][:, None]
        alpha, sigma = level.sqrt(), (1 - level).sqrt()
        epsilon = (x - alpha * x0) / sigma
        return {"epsilon": epsilon, "x0": x0, "v": alpha * epsilon - sigma * x0}[self.kind]


class Combined(Network):
    """(1 + ω) first - ω second."""

    def __init__(self, first: Network, second: Network) -> None:
        super().__init__(unlabelled())
        self.first, self.second = first, second

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (1 + OMEGA) * self.first(t, x, y) - OMEGA * self.second(t, x, y)


def model_of(kind: str, network: Network, **options):
    """DDPM or EDM whose weights are not their average, as after training; this has those of ``network``."""
    settings = {"network": network, "steps": STEPS, "learning_rate": 1e-2, **options}
    if kind == "edm":
        model = EDM(unlabelled(), sigma_data=SIGMA_DATA, sigma_min=LOWEST, sigma_max=HIGHEST, rho=3.0, **settings)
    else:
        model = DDPM(unlabelled(), timesteps=T, prediction=kind, **settings)
    model._place_average()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05)
    return model


def small(kind: str, seed: int = 0, **options):
    return model_of(kind, Predicting(kind, denoiser(seed)), **options)


def weights(model) -> dict[str, Tensor]:
    with model.averaged():
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def made(improvement: type, omega: float = OMEGA):
    return improvement(DATA, samples=40, steps=3, batch_size=20, learning_rate=1e-2, omega=omega)


def extrapolated(improvement: type, model, auxiliary: dict[str, Tensor], omega: float = OMEGA) -> Tensor:
    with made(improvement).extrapolated(model, auxiliary, omega):
        return drawn(model)


# What SIMS samples.


@pytest.mark.parametrize("kind", KINDS)
def test_sims_samples_as_a_model_whose_network_is_the_combination(kind):
    base, other = small(kind), small(kind, seed=1)
    expected = drawn(model_of(kind, Combined(Predicting(kind, denoiser(0)), Predicting(kind, denoiser(1)))))
    found = extrapolated(SIMS, base, weights(other))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (found - drawn(base)).abs().mean() > 0.1


@pytest.mark.parametrize("clip", [None, CLIP])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_of_a_ddpm_denoised_samples_are_combined_and_then_clipped(kind, clip):
    first, second = denoiser(0), denoiser(1)
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(7))
    visited = [19, 14, 9, 4]  # the last of each of four equal parts
    for t, following in zip(visited, [*visited[1:], None], strict=True):
        time, level = torch.full((30,), t / T), float(LEVELS[t])
        x0 = ((1 + OMEGA) * first(time, x) - OMEGA * second(time, x)).detach()
        x0 = x0 if clip is None else x0.clamp(-clip, clip)
        epsilon = (x - level**0.5 * x0) / (1 - level) ** 0.5
        below = 1.0 if following is None else float(LEVELS[following])
        x = below**0.5 * x0 + (1 - below) ** 0.5 * epsilon  # DDIM, eta = 0
    base, other = (small(kind, seed, sampler="ddim", clip=clip) for seed in (0, 1))
    torch.testing.assert_close(extrapolated(SIMS, base, weights(other)), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("clip", [None, CLIP])
def test_of_edm_denoised_samples_are_combined_and_then_clipped(clip):
    first, second = denoiser(0), denoiser(1)

    def slope(x: Tensor, sigma: float) -> Tensor:
        time = torch.full((30,), math.log(sigma / LOWEST) / math.log(HIGHEST / LOWEST))
        x0 = ((1 + OMEGA) * first(time, x) - OMEGA * second(time, x)).detach()
        return (x - (x0 if clip is None else x0.clamp(-clip, clip))) / sigma

    roots = torch.linspace(HIGHEST ** (1 / 3), LOWEST ** (1 / 3), STEPS, dtype=torch.float64)
    sigmas = [*(float(root) ** 3 for root in roots), 0.0]
    x = HIGHEST * torch.randn(30, 2, generator=torch.Generator().manual_seed(7))
    for sigma, below in pairwise(sigmas):
        here = slope(x, sigma)
        euler = x + (below - sigma) * here
        x = x + (below - sigma) * (here + slope(euler, below)) / 2 if below > 0 else euler
    base, other = small("edm", clip=clip), small("edm", seed=1, clip=clip)
    torch.testing.assert_close(extrapolated(SIMS, base, weights(other)), x, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_the_predictions_of_a_ddpm_agree(sampler):
    found = [
        extrapolated(SIMS, small(kind, sampler=sampler), weights(small(kind, seed=1, sampler=sampler)))
        for kind in KINDS[:3]
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=1e-4)


# What Neon samples.


@pytest.mark.parametrize("kind", KINDS)
def test_neon_samples_as_a_model_that_has_the_combined_weights(kind):
    base, auxiliary, combined = small(kind), weights(small(kind, seed=1)), small(kind, seed=2)
    with torch.no_grad():
        for name, weight in combined.named_parameters():
            weight.copy_((1 + OMEGA) * weights(base)[name] - OMEGA * auxiliary[name])
    combined._average.shadow = []  # what was placed were the weights before
    found = extrapolated(Neon, base, auxiliary)
    torch.testing.assert_close(found, drawn(combined), atol=1e-4, rtol=1e-4)
    assert (found - drawn(base)).abs().mean() > 0.1
    assert (found - extrapolated(SIMS, base, auxiliary)).abs().mean() > 0.1  # the network is not linear


# Of a trained auxiliary.


@pytest.mark.parametrize("improvement", [SIMS, Neon])
@pytest.mark.parametrize("kind", KINDS)
def test_omega_0_is_the_base_and_omega_minus_1_the_auxiliary(kind, improvement, tmp_path):
    model = small(kind)
    before, digest = drawn(model), model.weights_digest()
    nothing, everything_of_it = made(improvement, 0.0), made(improvement, -1.0)
    for each in (nothing, everything_of_it):
        each.prepare(model, tmp_path / "auxiliary.safetensors", evaluation(unlabelled()), synthesis())
    with nothing.applied(model):
        assert torch.equal(drawn(model), before)
    other = small(kind, seed=2)
    other.load_state_dict(everything_of_it._auxiliary)
    other._average.shadow = []
    with everything_of_it.applied(model):
        assert torch.equal(drawn(model), drawn(other))
    assert not torch.equal(drawn(other), before)
    assert torch.equal(drawn(model), before)
    assert model.weights_digest() == digest


@pytest.mark.parametrize(("improvement", "times"), [(SIMS, 2), (Neon, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_only_sims_takes_more_evaluations(kind, improvement, times):
    model, auxiliary = small(kind), weights(small(kind, seed=1))
    at = made(improvement).extrapolated(model, auxiliary, OMEGA)
    with at, model.averaged(), counted_evaluations(model) as count:
        model.sample(torch.Generator().manual_seed(0), 6)
    assert count.total == 6 * times * (2 * STEPS - 1 if kind == "edm" else STEPS)
