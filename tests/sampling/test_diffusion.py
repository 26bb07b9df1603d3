"""Schedules and sampler steps against diffusers, and against the papers where diffusers differs from them."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.utils import logging

from sc_loops.sampling.diffusion import ancestral_step, ddim_step, predicted_x0, prediction_target
from sc_loops.sampling.schedule import cosine_schedule, linear_schedule, trailing

logging.set_verbosity_error()
T = 100  # for the steps; the linear schedule's betas are ten times those for 1000
SCHEDULES = {"linear": linear_schedule(T, 1e-3, 0.2), "cosine": cosine_schedule(T)}
NAMES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
THEIRS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}


def scheduler(cls, schedule, prediction, steps, clip, **options):
    """Theirs, with our schedule in place of its own in float32, so that steps can be compared in float64."""
    theirs = cls(
        num_train_timesteps=T,
        prediction_type=THEIRS[prediction],
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        timestep_spacing="trailing",
        **options,
    )
    theirs.set_timesteps(steps)
    theirs.alphas_cumprod = SCHEDULES[schedule]
    return theirs


def step_by_step(schedule, prediction, steps, clip, our_step, their_step):
    """Take every step both ways from the same place, continuing from ours."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    visited = trailing(T, steps)
    levels = [*SCHEDULES[schedule][visited].tolist(), 1.0]
    for t, alpha_bar, previous in zip(visited, levels, levels[1:], strict=False):
        output, noise = torch.randn(2, 3, 2, dtype=torch.float64, generator=generator)
        x0 = predicted_x0(prediction, output, x, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))
        x0 = x0 if clip is None else x0.clamp(-clip, clip)
        ours = our_step(x, x0, alpha_bar, previous, noise)
        theirs = their_step(output, t, x, noise)
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
        x = torch.randn_like(x) if ours.abs().max() > 1e3 else ours
    assert levels[-1] == 1


@pytest.mark.parametrize("schedule", NAMES)
def test_schedules_are_those_of_diffusers(schedule):
    ours = linear_schedule(1000, 1e-4, 0.02) if schedule == "linear" else cosine_schedule(1000)
    theirs = DDPMScheduler(beta_schedule=NAMES[schedule]).alphas_cumprod
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-4, atol=1e-9)
    assert ours.dtype == torch.float64


@pytest.mark.parametrize("steps", [1, 7, 10, 32, 50, 1000])
def test_timesteps_are_those_of_diffusers(steps):
    theirs = DDPMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    assert trailing(1000, steps) == theirs.timesteps.tolist()


def test_timesteps_are_distinct_and_start_at_the_end():
    for timesteps in (1, 2, 9, 100):
        for steps in range(1, timesteps + 1):
            visited = trailing(timesteps, steps)
            assert len(visited) == steps
            assert visited[0] == timesteps - 1
            assert visited[-1] >= 0
            assert all(np.diff(visited) < 0)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("steps", [7, 20, 100])
@pytest.mark.parametrize("prediction", THEIRS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_steps_are_those_of_diffusers(monkeypatch, schedule, prediction, steps, variance, clip):
    theirs = scheduler(DDPMScheduler, schedule, prediction, steps, clip, variance_type=variance)
    theirs.one = torch.tensor(1.0, dtype=torch.float64)
    last = int(theirs.timesteps[-1])

    def their_step(output, t, x, noise):
        # Where the last timestep visited is not 0, diffusers adds noise to the finished sample; we do not.
        drawn = torch.zeros_like(noise) if t == last else noise
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: drawn)
        return theirs.step(output, t, x).prev_sample

    step_by_step(
        schedule, prediction, steps, clip, lambda *args: ancestral_step(*args, variance=variance), their_step
    )


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("steps", [5, 20, 100])  # diffusers mistakes the previous timestep for non-divisors
@pytest.mark.parametrize("prediction", THEIRS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_steps_are_those_of_diffusers(schedule, prediction, steps, eta, clip):
    theirs = scheduler(DDIMScheduler, schedule, prediction, steps, clip)
    theirs.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)

    def their_step(output, t, x, noise):
        given = noise if eta > 0 else None
        return theirs.step(output, t, x, eta=eta, use_clipped_model_output=True, variance_noise=given).prev_sample

    step_by_step(schedule, prediction, steps, clip, lambda *args: ddim_step(*args, eta=eta), their_step)


@pytest.mark.parametrize(("alpha_bar", "previous"), [(0.01, 0.3), (0.9, 0.99), (0.7, 1.0)])
def test_ddim_with_eta_one_is_the_ancestral_step(alpha_bar, previous):
    x, x0, noise = torch.randn(3, 50, 2, dtype=torch.float64)
    ddim = ddim_step(x, x0, alpha_bar, previous, noise, eta=1.0)
    torch.testing.assert_close(ddim, ancestral_step(x, x0, alpha_bar, previous, noise, "fixed_small"))


@pytest.mark.parametrize("prediction", THEIRS)
def test_targets_are_those_of_diffusers_and_lead_back_to_x0(prediction):
    x0, noise = torch.randn(2, 4, 2, dtype=torch.float64)
    t = torch.tensor([0, 3, 50, 99])
    theirs = scheduler(DDPMScheduler, "linear", prediction, T, None)
    x = theirs.add_noise(x0, noise, t)
    alpha_bar = SCHEDULES["linear"][t, None]
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    target = prediction_target(prediction, x0, noise, alpha, sigma)
    expected = {"epsilon": noise, "x0": x0, "v": theirs.get_velocity(x0, noise, t)}[prediction]
    torch.testing.assert_close(target, expected)
    torch.testing.assert_close(predicted_x0(prediction, target, x, alpha, sigma), x0)
