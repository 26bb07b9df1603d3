"""SIMS against known scores, its identities, and what the loop asks of a network."""

import copy

import pytest
import torch
from tiny_flows import (
    DATA,
    GaussianVelocity,
    assert_same,
    drawn,
    evaluation,
    everything,
    synthesis,
    trained,
    unlabelled,
)

from sc_loops import FlowMatching
from sc_loops.improving.sims import SIMS, Extrapolated
from sc_loops.sampling.diffusion import predicted_x0, prediction_target
from sc_loops.sampling.edm import denoised
from sc_loops.sampling.guidance import extrapolate
from sc_loops.synthesis import counted_evaluations

X, T = torch.linspace(-3, 3, 40).view(20, 2), torch.linspace(0.05, 0.95, 20)


def sims(**options):
    return SIMS(
        DATA, **{"samples": 60, "steps": 20, "batch_size": 20, "omega": 1.0, "learning_rate": 1e-2, **options}
    )


def pair(base, auxiliary, omega):
    """The two networks, extrapolated."""
    both = Extrapolated(base)
    both.auxiliary.load_state_dict(auxiliary.state_dict())
    both.omega.fill_(omega)
    return both


def shifted(model, by=0.1):
    """A state dict of ``model`` with every weight of its average moved."""
    with model.averaged():
        return {name: tensor.clone() + by for name, tensor in model.state_dict().items()}


# Known scores.


@pytest.mark.parametrize("omega", [-1.0, 0.5, 2.0])
def test_the_score_is_that_of_the_quotient_of_densities(omega):
    (m, s), (m2, s2), t = (1.0, 0.8), (0.6, 0.7), T[:, None]
    velocity = pair(GaussianVelocity(m, s), GaussianVelocity(m2, s2), omega)(T, X)
    score = (t * velocity - X) / (1 - t)  # -E[x_0 | x_t] / (1 - t), with x_0 = x_t - t (x_1 - x_0)
    v, v2 = ((1 - t) ** 2 + (t * std) ** 2 for std in (s, s2))
    precision = (1 + omega) / v - omega / v2  # of p^(1+ω) / q^ω, which is Gaussian
    mean = ((1 + omega) * t * m / v - omega * t * m2 / v2) / precision
    torch.testing.assert_close(score, precision * (mean - X), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("omega", [-1.0, 0.7, 3.0])
def test_of_equal_variances_the_sampler_s_mean_is_extrapolated_and_nothing_else(omega):
    # The velocity is affine in the mean, so the extrapolated one is that of the extrapolated mean.
    def sampled(network):
        return FlowMatching(unlabelled(), network=network, coupling="independent").sample(
            torch.Generator().manual_seed(0), 200
        )

    base, auxiliary = GaussianVelocity(1.0, 0.5), GaussianVelocity(1.4, 0.5)
    expected = sampled(GaussianVelocity(1.0 - 0.4 * omega, 0.5))
    torch.testing.assert_close(sampled(pair(base, auxiliary, omega)), expected, atol=1e-4, rtol=1e-4)


def test_away_from_a_narrower_auxiliary_is_wider():
    spreads = []
    for omega in (-1.0, -0.5, 0.5, 1.0):
        network = pair(GaussianVelocity(0.0, 1.0), GaussianVelocity(0.0, 0.8), omega)
        model = FlowMatching(unlabelled(), network=network, steps=32)
        spreads.append(float(drawn(model, 4000).std()))
    assert spreads == sorted(spreads)
    assert spreads[0] == pytest.approx(0.8, abs=0.02)  # the auxiliary itself
    assert 1.02 < spreads[2] < spreads[3] < 2


def test_all_kinds_of_prediction_are_combined_alike():
    # Two denoisers at one x_t: combined as samples, noise, v or EDM's F, they give the same denoised sample.
    generator = torch.Generator().manual_seed(0)
    first, second, x = torch.randn(3, 50, 2, generator=generator, dtype=torch.float64)
    alpha, sigma, omega = 0.8, 0.6, 1.7
    expected = extrapolate(second, first, 1 + omega)
    for kind in ("epsilon", "x0", "v"):
        outputs = [prediction_target(kind, x0, (x - alpha * x0) / sigma, alpha, sigma) for x0 in (second, first)]
        combined = predicted_x0(kind, extrapolate(*outputs, 1 + omega), x, alpha, sigma)
        torch.testing.assert_close(combined, expected)
    skip, out = (denoised(o, x, sigma, 0.5) for o in (torch.zeros_like(x), torch.ones_like(x)))
    outputs = [(x0 - skip) / (out - skip) for x0 in (second, first)]
    torch.testing.assert_close(denoised(extrapolate(*outputs, 1 + omega), x, sigma, 0.5), expected)


# Identities.


@pytest.mark.parametrize("omega", [-1.0, 0.5, 20.0])
def test_an_auxiliary_equal_to_the_base_changes_nothing(omega):
    model = trained()
    before = drawn(model)
    with sims().extrapolated(model, shifted(model, 0.0), omega):
        assert torch.equal(drawn(model), before)


def test_omega_0_is_the_base_and_omega_minus_1_the_auxiliary(tmp_path):
    model = trained()
    before, digest = drawn(model), model.weights_digest()
    nothing, everything_of_it = sims(omega=0.0), sims(omega=-1.0)
    for improvement in (nothing, everything_of_it):
        improvement.prepare(model, tmp_path / "a.safetensors", evaluation(), synthesis())
    with nothing.applied(model):
        assert torch.equal(drawn(model), before)
        assert model.weights_digest() == digest
    other = trained()
    other.load_state_dict(everything_of_it._auxiliary)
    other._average.shadow = []
    with everything_of_it.applied(model):
        assert torch.equal(drawn(model), drawn(other))
    assert not torch.equal(drawn(other), before)


def test_it_is_the_formula_on_a_trained_network():
    model, t, x = trained(), torch.rand(9), torch.randn(9, 2)
    auxiliary = shifted(model)
    other = copy.deepcopy(model.network)
    other.load_state_dict({k.removeprefix("network."): v for k, v in auxiliary.items()})
    with model.averaged():
        expected = 2.5 * model.network(t, x) - 1.5 * other(t, x)
    with sims().extrapolated(model, auxiliary, 1.5), model.averaged():
        torch.testing.assert_close(model.network(t, x), expected)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_afterwards_what_it_was(fails):
    model = trained()
    before, network, digest = everything(model), model.network, model.weights_digest()
    try:
        with sims().extrapolated(model, shifted(model), 0.5):
            drawn(model)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert model.network is network
    assert_same(everything(model), before)
    assert model.weights_digest() == digest
    assert all(weight.requires_grad for weight in model.parameters())


# What the loop asks for.


def test_the_digest_tells_of_omega_and_of_the_auxiliary_and_repeats_itself():
    def digest(omega, by):
        with improvement.extrapolated(model, shifted(model, by), omega):
            return model.weights_digest()

    model, improvement = trained(), sims()
    digests = [digest(0.5, 0.1), digest(0.6, 0.1), digest(0.5, 0.2), model.weights_digest()]
    assert len(set(digests)) == 4
    assert digest(0.5, 0.1) == digests[0]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_evaluations_count_twice(scale):
    model = trained(network={"class_conditional": True}, guidance_scale=scale, solver="euler")
    condition = torch.arange(6) % 2
    counts = []
    for improvement in (None, sims()):
        context = improvement.extrapolated(model, shifted(model), 0.5) if improvement else torch.no_grad()
        with context, model.averaged(), counted_evaluations(model) as count:
            model.sample(torch.Generator().manual_seed(0), 6, condition)
        counts.append(count.total / 6)
    assert counts == [2 * (1 + (scale != 1)), 4 * (1 + (scale != 1))]


def test_guidance_and_sims_commute():
    # Both are affine, so guiding the extrapolated prediction is extrapolating the guided one.
    model = trained(network={"class_conditional": True}, guidance_scale=3.0, solver="euler", steps=1)
    auxiliary, condition, omega = shifted(model), torch.arange(30) % 2, 0.5
    at = [drawn(model, 30, condition)]
    for value in (-1.0, omega):
        with sims().extrapolated(model, auxiliary, value):
            at.append(drawn(model, 30, condition))
    base, other, both = at
    torch.testing.assert_close(both, (1 + omega) * base - omega * other, atol=1e-4, rtol=1e-4)  # of a single step


def test_in_half_precision_both_networks_are_twins():
    model = trained(sampling_precision="bf16-true")
    full = trained()
    auxiliary, improvement = shifted(model), sims()
    before, twins = drawn(model), model._twins
    for omega in (0.5, 2.0):  # the twins are made once and filled anew
        with improvement.extrapolated(model, auxiliary, omega):
            half = drawn(model)
            with model.averaged():
                assert {w.dtype for w in model.network.parameters()} == {torch.bfloat16}
                assert model.network.omega == omega
        with sims().extrapolated(full, auxiliary, omega):
            exact = drawn(full)
        assert not torch.equal(half, exact)
        torch.testing.assert_close(half, exact, atol=0.1, rtol=0.1)
    assert model._twins is twins
    assert torch.equal(drawn(model), before)


def test_what_a_network_says_of_itself_is_passed_on():
    model = trained(network={"class_conditional": True})
    model.network.one_shape = True
    both = Extrapolated(model.network)
    assert (both.one_shape, both.class_conditional, both.num_classes) == (True, True, 2)
    assert both.shape == model.network.shape
    assert torch.equal(both.null(torch.tensor([0, 1])), torch.tensor([2, 2]))
    assert Extrapolated(both).evaluations == 4


def test_networks_are_copied_once():
    model, improvement = trained(), sims()
    with improvement.extrapolated(model, shifted(model), 0.5):
        first = model.network
    with improvement.extrapolated(model, shifted(model), 1.5):
        assert model.network is first
        assert first.omega == 1.5
