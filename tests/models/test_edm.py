"""EDM on a Gaussian, where the best network, the best loss and the samples are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.models.edm import EDM
from sc_loops.networks.mlp import TimeMLP
from sc_loops.networks.network import Network
from sc_loops.networks.unet import UNet
from sc_loops.samples import Samples
from sc_loops.sampling.edm import c_in, c_out, c_skip
from sc_loops.synthesis import counted_evaluations

MEAN, STD = torch.tensor([0.5, -1.0]), torch.tensor([0.6, 1.5])
LOWEST, HIGHEST = 0.002, 80.0


def gaussian_data(n=4, classes=0):
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(n, 2, generator=generator)
    labels = torch.arange(n) % classes if classes else None
    return RealData(Samples(x, labels), Samples(x, labels), "points", tuple("abcdefgh"[:classes]))


class Optimal(Network):
    """F for which D is the expectation of y given x, where y ~ N(MEAN, STD^2)."""

    def __init__(self, sigma_data):
        super().__init__(gaussian_data())
        self.sigma_data = sigma_data

    def forward(self, t, x, y=None):
        sigma = (math.log(LOWEST) + t.double() * math.log(HIGHEST / LOWEST)).exp()[:, None]
        x = x.double() / c_in(sigma, self.sigma_data)
        expected = MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)
        return ((expected - c_skip(sigma, self.sigma_data) * x) / c_out(sigma, self.sigma_data)).float()


def optimal_model(sigma_data=0.5, **options):
    return EDM(gaussian_data(), network=Optimal(sigma_data), sigma_data=sigma_data, **options).eval()


@pytest.mark.parametrize(
    ("sigma_data", "options", "tolerance"),
    [
        (0.5, {"steps": 64}, 0.005),
        (1.3, {"steps": 64}, 0.005),  # what stands before the network changes nothing of an optimal one
        (0.5, {"steps": 256, "s_churn": 40.0, "s_min": 0.05, "s_max": 50.0}, 0.02),
        (0.5, {"steps": 256, "solver": "euler"}, 0.03),
    ],
)
def test_the_optimal_network_samples_the_gaussian(sigma_data, options, tolerance):
    n = 5000
    x = optimal_model(sigma_data, **options).sample(torch.Generator().manual_seed(1), n)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * float(STD.max()) / n**0.5 + 0.01)
    torch.testing.assert_close(x.std(0), STD, rtol=tolerance + 4 / (2 * n) ** 0.5, atol=0)
    assert float(torch.corrcoef(x.T)[0, 1]) == pytest.approx(0, abs=4 / n**0.5)


@pytest.mark.parametrize(("sigma_data", "p_mean", "p_std"), [(0.5, -1.2, 1.2), (1.3, 0.0, 0.6)])
def test_the_loss_of_the_optimal_network_is_the_variance_it_cannot_explain(sigma_data, p_mean, p_std):
    # Of y given x it is s² sigma² / (s² + sigma²), of the target lambda times as much; over ln(sigma) by quadrature.
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    sigma = np.exp(p_mean + p_std * node)[:, None]
    s = STD.double().numpy()
    of_target = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * s**2 * sigma**2 / (s**2 + sigma**2)
    expected = (weight @ of_target).mean() / weight.sum()
    torch.manual_seed(1)  # not that of the data, whose noise this would be
    loss = optimal_model(sigma_data, p_mean=p_mean, p_std=p_std).loss(gaussian_data(100000).train)
    assert float(loss) == pytest.approx(expected, rel=0.02)


class Listening(Network):
    """Predicts 0 and remembers what it was given."""

    def __init__(self, data):
        super().__init__(data)
        self.seen = []

    def forward(self, t, x, y=None):
        self.seen.append((t, x))
        return torch.zeros_like(x)


def test_the_network_is_trained_on_log_normal_levels_with_inputs_and_targets_of_unit_variance():
    n = 100000
    samples = Samples(2 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0)))
    data = RealData(samples, samples, "points")
    network = Listening(data)
    torch.manual_seed(3)
    loss = float(EDM(data, network=network).loss(samples))
    (t, x), *_ = network.seen
    level = math.log(LOWEST) + t * math.log(HIGHEST / LOWEST)
    assert float(level.mean()) == pytest.approx(-1.2, abs=4 * 1.2 / n**0.5)
    assert float(level.std()) == pytest.approx(1.2, rel=4 / (2 * n) ** 0.5)
    third = n // 3
    for part in x[level.argsort()].split(third)[:3]:  # whatever the level is
        assert float(part.std()) == pytest.approx(1, rel=4 / (4 * third) ** 0.5)
    assert loss == pytest.approx(1, rel=4 / n**0.5)


def test_sigma_data_is_that_of_the_training_data():
    data = gaussian_data(1000)
    expected = float(data.train.x.double().std(correction=0))
    model = EDM(data, network=TimeMLP(data))
    assert model.sigma_data == pytest.approx(expected, rel=1e-5)
    assert EDM(data, network=TimeMLP(data), sigma_data=0.5).sigma_data == 0.5
    shuffled = RealData(data.train[torch.randperm(1000)], data.test, "points")
    assert EDM(shuffled, network=TimeMLP(data)).sigma_data == model.sigma_data


def images(pixels):
    return RealData(Samples(pixels), Samples(pixels), "images")


def test_pixels_and_images_have_one_sigma_data():
    pixels = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    of_bytes, of_floats = images(pixels), images(pixels.float() / 127.5 - 1)
    found = [EDM(data, network=Listening(data)).sigma_data for data in (of_bytes, of_floats)]
    assert found[0] == found[1] == pytest.approx(2 / math.sqrt(12), rel=0.1)  # of uniform values in [-1, 1]


def test_data_without_spread_need_a_sigma_data():
    constant = RealData(Samples(torch.ones(3, 2)), Samples(torch.ones(3, 2)), "points")
    with pytest.raises(InvalidValue, match="give sigma_data"):
        EDM(constant, network=TimeMLP(constant))
    EDM(constant, network=TimeMLP(constant), sigma_data=0.5)


def test_a_unet_is_trained_and_sampled():
    torch.manual_seed(0)
    data = images(torch.rand(6, 1, 8, 8) * 2 - 1)
    network = UNet(
        data,
        channels=32,
        residual_blocks=1,
        channel_multipliers=(1,),
        attention_resolutions=(),
        head_channels=32,
        scale_shift=True,
    )
    model = EDM(data, network=network, steps=3, clip=1.0)
    loss = model.loss(data.train)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1, rel=0.3)  # its last layer is 0 at first
    assert all(p.grad is not None for p in network.parameters())
    with torch.no_grad():
        x = model.eval().sample(torch.Generator().manual_seed(0), 5)
    assert x.shape == (5, 1, 8, 8)
    assert x.abs().max() <= 1


def test_training_approaches_the_best_loss():
    data = gaussian_data(2000)
    torch.manual_seed(0)
    model = EDM(data, network=TimeMLP(data, width=32, depth=2), learning_rate=3e-3)
    optimizer = model.configure_optimizers()
    best = EDM(data, network=Optimal(model.sigma_data), sigma_data=model.sigma_data)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(data.train[torch.randint(2000, (128,))]).backward()
        optimizer.step()
    losses = []
    for each in (model, best):
        torch.manual_seed(5)  # the same levels and noise
        with torch.no_grad():
            losses.append(float(each.loss(data.train)))
    assert losses[1] < losses[0] < 1.05 * losses[1]


def model_of_three_classes(**options):
    torch.manual_seed(0)
    data = gaussian_data(classes=3)
    network = TimeMLP(data, width=16, depth=2, class_conditional=True)
    return EDM(data, network=network, **{"steps": 5, **options}).eval()


def drawn(model, condition=None, seed=7, n=12):
    with torch.no_grad():
        return model.sample(torch.Generator().manual_seed(seed), n, condition)


@pytest.mark.parametrize("options", [{}, {"s_churn": 2.0}, {"solver": "euler"}, {"guidance_scale": 2.0}])
def test_samples_are_a_function_of_the_generator(options):
    model, labels = model_of_three_classes(**options), torch.arange(12) % 3
    first = drawn(model, labels)
    torch.manual_seed(99)  # the global generator plays no part
    assert torch.equal(first, drawn(model, labels))
    assert not torch.equal(first, drawn(model, labels, seed=8))


def test_guidance_scales_one_and_zero():
    plain, labels = model_of_three_classes(), torch.arange(12) % 3
    assert not torch.allclose(drawn(plain, labels), drawn(plain))
    none = model_of_three_classes(guidance_scale=0.0)
    torch.testing.assert_close(drawn(none, labels), drawn(plain))
    nearly = model_of_three_classes(guidance_scale=1 + 1e-7)  # goes through the formula
    torch.testing.assert_close(drawn(nearly, labels), drawn(plain, labels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_of_the_network_is_guidance_of_the_denoiser(scale):
    """One step ends in D at the first level, so its samples show D, all at the same noise."""
    plain, labels = model_of_three_classes(steps=1), torch.arange(12) % 3
    conditional, null = drawn(plain, labels), drawn(plain)
    assert not torch.allclose(conditional, null, atol=1e-3)
    guided = drawn(model_of_three_classes(steps=1, guidance_scale=scale), labels)
    torch.testing.assert_close(guided, null + scale * (conditional - null), rtol=1e-4, atol=1e-4)


def test_clip_bounds_the_samples():
    assert drawn(model_of_three_classes()).abs().max() > 0.3
    assert drawn(model_of_three_classes(clip=0.3)).abs().max() <= 0.3


@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        ({}, 35),
        ({"steps": 1}, 1),
        ({"steps": 7, "s_churn": 5.0}, 13),
        ({"steps": 7, "solver": "euler"}, 7),
        ({"steps": 7, "guidance_scale": 2.0}, 26),
    ],
)
def test_the_number_of_evaluations_is_twice_the_steps_less_one(options, evaluations):
    model = model_of_three_classes(**{"steps": 18, **options})
    with counted_evaluations(model) as count:
        drawn(model, torch.arange(12) % 3)
    assert count.total == 12 * evaluations


def test_parts_of_a_chunk_change_nothing():
    whole, parts = model_of_three_classes(), model_of_three_classes(network_batch=5)
    torch.testing.assert_close(drawn(parts, torch.arange(12) % 3), drawn(whole, torch.arange(12) % 3))


def test_the_state_is_the_network_alone():
    model = model_of_three_classes()
    assert all(name.startswith("network.") for name in model.state_dict())
    assert all(buffer.is_floating_point() for buffer in model.buffers())
    assert model.conditional
    assert not optimal_model().conditional


def test_a_class_conditional_network_needs_labels():
    with pytest.raises(InvalidValue, match="class_conditional"):
        model_of_three_classes().loss(gaussian_data(classes=0).train)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sigma_data", 0.0),
        ("sigma_data", math.nan),
        ("p_mean", math.nan),
        ("p_std", -1.0),
        ("sigma_min", 0.0),
        ("sigma_max", 0.002),
        ("sigma_max", math.inf),
        ("rho", 0.5),
        ("solver", "midpoint"),
        ("steps", 0),
        ("s_churn", -1.0),
        ("s_min", -1.0),
        ("s_max", -1.0),
        ("s_noise", -1.0),
        ("clip", 0.0),
        ("condition_dropout", 1.1),
        ("guidance_scale", -1.0),
        ("guidance_scale", 2.0),
        ("learning_rate", 0.0),
    ],
)
def test_impossible_options_are_refused(option, value):
    data = gaussian_data()
    with pytest.raises(InvalidValue) as error:
        EDM(data, network=TimeMLP(data), **{option: value})
    assert error.value.where == option
