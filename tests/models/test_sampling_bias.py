"""Samples with a bias. For Gaussian data, whose best network is affine, they have b times the covariance and the same
mean (Alemohammad et al. 2024), and do so sample by sample: all noise times sqrt(b) is the deviation times sqrt(b)."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import fit, tiny_data, tiny_loop

from sc_loops.data.real import RealData
from sc_loops.models.ddpm import DDPM
from sc_loops.models.edm import EDM
from sc_loops.models.flow_matching import FlowMatching
from sc_loops.networks.mlp import TimeMLP
from sc_loops.networks.network import Network
from sc_loops.samples import Samples
from sc_loops.sampling.diffusion import prediction_target
from sc_loops.sampling.edm import c_in, c_out, c_skip
from sc_loops.sampling.schedule import linear_schedule
from sc_loops.synthesis import counted_evaluations

MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
SIGMA = torch.tensor([[0.8, 0.5, 0.0], [0.5, 1.2, -0.3], [0.0, -0.3, 0.4]], dtype=torch.float64)
T = 100


def data(n=6):
    labels = torch.arange(n) % 3
    x = (MEAN + torch.randn(n, 3, generator=torch.Generator().manual_seed(0))).float()
    return RealData(Samples(x, labels), Samples(x, labels), "points", ("a", "b", "c"))


class Best(Network):
    """What a model is to predict at x = alpha x_0 + sigma epsilon, where x_0 ~ N(MEAN, SIGMA)."""

    def __init__(self, levels, target):
        super().__init__(data())
        self.levels, self.target = levels, target

    def forward(self, t, x, y=None):
        alpha, sigma = self.levels(t[:1].double())
        x = x.double() * (1 if self.target != "edm" else 1 / c_in(sigma, 0.5))
        total = alpha**2 * SIGMA + sigma**2 * torch.eye(3).double()
        score = torch.linalg.solve(total, (x - alpha * MEAN).T).T
        x0, epsilon = MEAN + alpha * score @ SIGMA, sigma * score
        if self.target == "edm":
            return ((x0 - c_skip(sigma, 0.5) * x) / c_out(sigma, 0.5)).float()
        velocity = self.target == "velocity"
        return (x0 - epsilon if velocity else prediction_target(self.target, x0, epsilon, alpha, sigma)).float()


def ddpm(prediction="epsilon", **options):
    alpha_bar = linear_schedule(T, 1e-3, 0.2)

    def levels(t):
        found = alpha_bar[(t * T).round().long()]
        return found.sqrt(), (1 - found).sqrt()

    schedule = {"timesteps": T, "beta_start": 1e-3, "beta_end": 0.2, "prediction": prediction}
    return DDPM(data(), network=Best(levels, prediction), **schedule, **options).eval()


def flow_matching(**options):
    best = Best(lambda t: (t, 1 - t), "velocity")
    return FlowMatching(data(), network=best, coupling="independent", **options).eval()


def edm(**options):
    best = Best(lambda t: (torch.ones(1).double(), 0.002 * (80 / 0.002) ** t), "edm")
    return EDM(data(), network=best, sigma_data=0.5, **options).eval()


SAMPLERS = [
    (ddpm, {}),
    (ddpm, {"prediction": "v", "variance": "fixed_large", "steps": 50}),
    (ddpm, {"prediction": "x0", "sampler": "ddim", "steps": 50}),
    (ddpm, {"sampler": "ddim", "eta": 1.0}),
    (flow_matching, {"solver": "euler", "steps": 100}),
    (flow_matching, {"solver": "midpoint", "steps": 16}),
    (flow_matching, {"solver": "heun", "steps": 16}),
    (flow_matching, {"solver": "rk4", "steps": 8}),
    (flow_matching, {"solver": "dopri5"}),
    (edm, {"steps": 36}),
    (edm, {"steps": 100, "solver": "euler"}),
    (edm, {"steps": 100, "s_churn": 30.0, "s_min": 0.05, "s_max": 50.0, "s_noise": 1.003}),
]
IDS = [" ".join([make.__name__, *map(str, options.values())]) for make, options in SAMPLERS]


@torch.no_grad()
def drawn(model, n=4000, condition=None):
    return model.sample(torch.Generator().manual_seed(7), n, condition).double()


@pytest.mark.parametrize(("make", "options"), SAMPLERS, ids=IDS)
def test_of_a_gaussian_the_covariance_is_multiplied_by_the_bias(make, options):
    b = 0.36
    plain, biased = drawn(make(**options)), drawn(make(**options, sampling_bias=b))
    # To rounding, and for the adaptive solver, whose steps differ, to its tolerance.
    torch.testing.assert_close(biased.T.cov(), b * plain.T.cov(), rtol=0, atol=2e-4)
    # x_b = c + sqrt(b) (x_1 - c) has one and the same c for all samples: where no noise leads to.
    centre = (biased - math.sqrt(b) * plain) / (1 - math.sqrt(b))
    assert float(centre.std(0).max()) < 2e-4
    torch.testing.assert_close(centre.mean(0), MEAN, rtol=0, atol=0.03)
    # Against the data itself; a few per cent are due to the steps, and to 4,000 samples.
    torch.testing.assert_close(biased.T.cov(), b * SIGMA, rtol=0, atol=0.12 * b)


@pytest.mark.parametrize("make", [ddpm, flow_matching, edm])
def test_a_bias_of_one_changes_no_bit(make):
    assert torch.equal(drawn(make(), 50), drawn(make(sampling_bias=1.0), 50))


def conditional(cls, **options):
    torch.manual_seed(0)
    network = TimeMLP(data(), width=16, depth=2, class_conditional=True)
    return cls(data(), network=network, steps=3, **options).eval()


@pytest.mark.parametrize("cls", [DDPM, FlowMatching, EDM])
def test_with_classes_it_is_the_guidance_scale_of_its_inverse(cls):
    labels, found = torch.arange(12) % 3, []
    for options in ({"sampling_bias": 0.5}, {"guidance_scale": 2.0}, {}):
        model = conditional(cls, **options)
        with counted_evaluations(model) as evaluations:
            found.append((drawn(model, 12, labels), evaluations.total))
    (biased, work), (guided, same), (plain, half) = found
    assert torch.equal(biased, guided)
    assert not torch.allclose(biased, plain)
    assert work == same == 2 * half


@pytest.mark.parametrize("cls", [DDPM, FlowMatching, EDM])
def test_pools_and_previews_are_biased_alike(tmp_path, cls):
    """With next to no noise all samples are one."""
    spread = []
    for b in (1.0, 1e-12):
        torch.manual_seed(0)
        real = tiny_data()
        model = cls(real, network=TimeMLP(real, width=8, depth=2), steps=4, sampling_bias=b)
        loop = tiny_loop(tmp_path / str(b), generations=1)
        fit(loop, model)
        pool = loop.run.pool(1)
        spread.append([float(x.std(0).max()) for x in (pool.samples().x, pool.preview.x)])
    assert min(spread[0]) > 0.1
    assert max(spread[1]) < 1e-3
