"""EDM's levels and preconditioning against diffusers and the derivation; its samplers against the Gaussian, for which
denoiser, path and marginals are known in closed form, and against diffusers' Euler steps."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import EDMEulerScheduler
from diffusers.utils import logging

from sc_loops.sampling.edm import (
    STEPS,
    Churn,
    c_in,
    c_out,
    c_skip,
    denoised,
    follow,
    network_target,
    network_time,
    noise_levels,
)

logging.set_verbosity_error()
MEAN, STD = torch.tensor([0.5, -1.0]).double(), torch.tensor([0.6, 1.5]).double()
SIGMA_DATA = 0.7
PAPER = {"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}


def gaussian_denoiser(x, sigma):
    """E[y | x] for y ~ N(MEAN, STD²)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def on_the_path(x, sigma, below):
    """Where the probability flow takes ``x`` from ``sigma`` to ``below``: deviations keep their quantile."""
    return MEAN + (x - MEAN) * ((STD**2 + below**2) / (STD**2 + sigma**2)).sqrt()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(steps=18, n=20000, solver="heun", seed=0, **churn):
    levels = noise_levels(steps, **PAPER)
    x = 80 * torch.randn(n, 2, dtype=torch.float64, generator=generator(seed))
    return follow(gaussian_denoiser, x, levels, solver=solver, churn=Churn(**churn), generator=generator(seed + 1))


@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), [(0.002, 80.0, 7.0), (0.02, 50.0, 3.0), (0.1, 2.0, 1.0)])
@pytest.mark.parametrize("steps", [2, 3, 18, 256])
def test_levels_are_those_of_diffusers_and_of_equation_5(steps, sigma_min, sigma_max, rho):
    levels = noise_levels(steps, sigma_min, sigma_max, rho)
    theirs = EDMEulerScheduler(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    theirs.set_timesteps(steps)
    torch.testing.assert_close(torch.tensor(levels), theirs.sigmas, rtol=1e-6, atol=0)
    assert levels[0] == sigma_max
    assert levels[-2:] == [sigma_min, 0.0]
    roots = torch.tensor(levels[:-1], dtype=torch.float64) ** (1 / rho)
    torch.testing.assert_close(roots, torch.linspace(float(roots[0]), float(roots[-1]), steps).double())


def test_a_single_step_goes_from_the_first_level_to_zero():
    assert noise_levels(1, **PAPER) == [80.0, 0.0]


@pytest.mark.parametrize("sigma", [0.002, 0.3, 0.7, 80.0])
def test_preconditioning_is_that_of_diffusers(sigma):
    theirs = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    x, output = torch.randn(2, 5, 2, generator=generator())
    torch.testing.assert_close(c_in(sigma, SIGMA_DATA) * x, theirs.precondition_inputs(x, sigma))
    ours = denoised(output, x, sigma, SIGMA_DATA)
    torch.testing.assert_close(ours, theirs.precondition_outputs(x, output, sigma))
    c_noise = {s: float(theirs.precondition_noise(torch.tensor(s))) for s in (sigma, 0.002, 80.0)}
    share = (c_noise[sigma] - c_noise[0.002]) / (c_noise[80.0] - c_noise[0.002])
    assert float(network_time(torch.tensor([sigma]), 0.002, 80.0)) == pytest.approx(share, abs=1e-6)


def test_the_time_is_in_the_unit_interval_and_monotone():
    time = network_time(torch.logspace(-4, 3, 200), 0.002, 80.0)
    assert time.min() == 0
    assert time.max() == 1
    inside = (time > 0) & (time < 1)
    assert inside.sum() > 100
    assert (time[inside].diff() > 0).all()


def test_inputs_and_targets_of_the_network_have_unit_variance_at_every_level():
    n = 200000
    y, noise = torch.randn(2, n, dtype=torch.float64, generator=generator())
    y = SIGMA_DATA * y
    for sigma in (0.002, 0.1, 0.7, 5.0, 80.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        inputs = c_in(sigma, SIGMA_DATA) * (y + sigma * noise)
        target = network_target(y, noise, level, SIGMA_DATA)
        for values in (inputs, target):
            assert float(values.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / n))


def test_c_skip_leaves_the_network_the_least_to_do():
    """Karras et al. 2022, Appendix B.6: c_out² = (1 - c_skip)² sigma_data² + c_skip² sigma² at its least."""
    for sigma in (0.01, 0.7, 10.0):
        skip = c_skip(sigma, SIGMA_DATA)

        def squared(skip, sigma=sigma):
            return (1 - skip) ** 2 * SIGMA_DATA**2 + skip**2 * sigma**2

        assert squared(skip) == pytest.approx(c_out(sigma, SIGMA_DATA) ** 2)
        assert min(squared(skip - 1e-3), squared(skip + 1e-3)) > squared(skip)


def test_the_error_of_the_network_is_the_weighted_error_of_the_denoiser():
    y, noise, output = torch.randn(3, 40, 2, dtype=torch.float64, generator=generator())
    for sigma in (0.002, 0.5, 20.0):
        x, level = y + sigma * noise, torch.tensor(sigma, dtype=torch.float64)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        of_denoiser = weight * (denoised(output, x, sigma, SIGMA_DATA) - y) ** 2
        of_network = (output - network_target(y, noise, level, SIGMA_DATA)) ** 2
        torch.testing.assert_close(of_network, of_denoiser)


def test_targets_keep_their_digits_at_the_lowest_levels():
    y, noise = torch.randn(2, 100, generator=generator())
    exact = network_target(y.double(), noise.double(), torch.tensor(1e-5).double(), SIGMA_DATA)
    torch.testing.assert_close(network_target(y, noise, torch.tensor(1e-5), SIGMA_DATA).double(), exact)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_method(solver, order):
    x = 80 * torch.randn(50, 2, dtype=torch.float64, generator=generator())
    before_last = on_the_path(x, 80.0, 0.002)  # from there to 0 both methods go in one step of Euler's
    exact = gaussian_denoiser(before_last, 0.002)

    def error(steps):
        levels = noise_levels(steps, **PAPER)
        ours = follow(gaussian_denoiser, x, levels, solver=solver, churn=Churn(), generator=generator())
        return float((ours - exact).square().mean().sqrt())

    errors = [error(1 + 2**k) for k in (5, 6, 7, 8)]  # 2^k steps down to sigma_min
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[-1] == pytest.approx(order, abs=0.05)
    assert orders == pytest.approx([order] * 3, abs=0.25)


@pytest.mark.parametrize("solver", STEPS)
@pytest.mark.parametrize("churn", [{}, {"s_churn": 10.0}])
def test_the_path_of_a_single_data_point_ends_in_it(solver, churn):
    point = torch.tensor([0.3, -2.0], dtype=torch.float64)
    x = 80 * torch.randn(20, 2, dtype=torch.float64, generator=generator())
    levels = noise_levels(6, **PAPER)
    noise = Churn(**churn)
    ends = follow(lambda x, _: point.expand_as(x), x, levels, solver=solver, churn=noise, generator=generator())
    assert torch.equal(ends, point.expand_as(ends))


@pytest.mark.parametrize(("steps", "wider"), [(18, [0.0523, 0.0397]), (64, [0.0035, 0.0027])])
def test_deterministic_samples_are_the_gaussian_but_for_the_width_that_the_steps_add(steps, wider):
    """``wider`` is from a scalar recursion of Algorithm 1, written apart from this code."""
    n = 20000
    x = drawn(steps, n)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * float(STD.max()) / n**0.5 + 0.01)  # 0 at sigma_max
    torch.testing.assert_close(x.std(0), STD * (1 + torch.tensor(wider)), rtol=4 / (2 * n) ** 0.5, atol=0)
    assert float(torch.corrcoef(x.T)[0, 1]) == pytest.approx(0, abs=4 / n**0.5)


@pytest.mark.parametrize(
    "churn", [{"s_churn": 40.0}, {"s_churn": 1e9}, {"s_churn": 80.0, "s_min": 0.05, "s_max": 50}]
)
def test_churn_leaves_the_marginals_of_the_gaussian_as_they_are(churn):
    n = 5000
    x = drawn(256, n, **churn)
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=4 * float(STD.max()) / n**0.5)
    torch.testing.assert_close(x.std(0), STD, rtol=0.02 + 4 / (2 * n) ** 0.5, atol=0)
    assert float(torch.corrcoef(x.T)[0, 1]) == pytest.approx(0, abs=4 / n**0.5)


def test_churn_of_nothing_is_deterministic_and_draws_nothing():
    plain, untouched = drawn(n=10), generator(1)
    assert torch.equal(plain, drawn(n=10, s_churn=0.0, s_noise=1.007, s_min=0.1, s_max=1.0))
    assert torch.equal(plain, drawn(n=10, s_churn=40.0, s_min=1000.0))  # no level is in the range
    levels = noise_levels(4, **PAPER)
    used = generator(1)
    follow(gaussian_denoiser, torch.ones(3, 2).double(), levels, solver="heun", churn=Churn(), generator=used)
    assert torch.equal(used.get_state(), untouched.get_state())


def test_churn_makes_other_samples_of_the_same_noise():
    assert not torch.allclose(drawn(n=10, s_churn=10.0), drawn(n=10), atol=0.01)


def test_gamma_is_bounded_and_limited_to_its_levels():
    churn = Churn(s_churn=2.0, s_min=0.05, s_max=50.0)
    assert churn.gamma(1.0, 10) == pytest.approx(0.2)
    assert churn.gamma(1.0, 2) == pytest.approx(math.sqrt(2) - 1)
    assert [churn.gamma(sigma, 10) > 0 for sigma in (0.04, 0.05, 50.0, 51.0)] == [False, True, True, False]


@pytest.mark.parametrize(
    "churn", [{}, {"s_churn": 3.0}, {"s_churn": 30.0, "s_min": 0.05, "s_max": 50.0, "s_noise": 1.003}]
)
def test_eulers_samples_are_those_of_diffusers(churn):
    torch.manual_seed(0)
    weight = torch.randn(2, 2) / 2
    start = 80 * torch.randn(5, 2)

    def network(scaled):
        return torch.tanh(scaled @ weight)

    def denoise(x, sigma):
        return denoised(network(c_in(sigma, SIGMA_DATA) * x), x, sigma, SIGMA_DATA)

    levels = noise_levels(12, **PAPER)
    ours = follow(denoise, start, levels, solver="euler", churn=Churn(**churn), generator=generator())

    theirs = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    theirs.set_timesteps(12)
    names = {"s_min": "s_tmin", "s_max": "s_tmax"}
    options = {names.get(name, name): value for name, value in churn.items()}
    x, ahead, draws = start, generator(), generator()
    for sigma, t in zip(levels, theirs.timesteps, strict=False):
        theirs.scale_model_input(x, t)
        # The network is evaluated at what the step will raise x to, with the noise that it will draw.
        gamma, noisy = Churn(**churn).gamma(sigma, 12), x
        if gamma > 0:
            noise = churn.get("s_noise", 1.0) * torch.randn(x.shape, generator=ahead)
            noisy = x + sigma * math.sqrt((1 + gamma) ** 2 - 1) * noise
        output = network(theirs.precondition_inputs(noisy, sigma * (1 + gamma)))
        x = theirs.step(output, t, x, generator=draws, **options).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)
