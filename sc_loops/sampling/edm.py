"""The design space of Karras et al. 2022 (arXiv 2206.00364): noise levels, preconditioning and samplers of EDM.

Throughout x = y + sigma n with data y and n ~ N(0, I); sigma falls from sigma_max to 0. A denoiser D(x; sigma) is the
expected y given x. Levels are floats or tensors that broadcast against x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
"""(x, sigma) to D(x; sigma), of the shape of x."""

Solver = Literal["heun", "euler"]

Level = TypeVar("Level", float, Tensor)


def noise_levels(steps: int, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """sigma_0 > ... > sigma_N for N = ``steps``, from sigma_max over sigma_min = sigma_{N-1} to 0 (Equation 5). A
    single step goes from sigma_max to 0. A larger rho puts more of them near sigma_min."""
    highest, lowest = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    between = (highest + i / (steps - 1) * (lowest - highest) for i in range(1, steps - 1))
    return [sigma_max, *(root**rho for root in between), *([sigma_min] if steps > 1 else []), 0.0]


def c_skip(sigma: Level, sigma_data: float) -> Level:
    """sigma_data² / (sigma² + sigma_data²) (Table 1)."""
    return sigma_data**2 / (sigma**2 + sigma_data**2)


def c_out(sigma: Level, sigma_data: float) -> Level:
    """sigma sigma_data / sqrt(sigma² + sigma_data²) (Table 1)."""
    return sigma * sigma_data / (sigma**2 + sigma_data**2) ** 0.5


def c_in(sigma: Level, sigma_data: float) -> Level:
    """1 / sqrt(sigma² + sigma_data²) (Table 1)."""
    return 1 / (sigma**2 + sigma_data**2) ** 0.5


def network_time(sigma: Tensor, sigma_min: float, sigma_max: float) -> Tensor:
    """c_noise = ln(sigma) / 4 (Table 1), shifted and scaled for networks that take times in [0, 1]: 0 at sigma_min, 1
    at sigma_max, linear in ln(sigma) between them and constant beyond."""
    lowest, highest = math.log(sigma_min), math.log(sigma_max)
    return ((sigma.log() - lowest) / (highest - lowest)).clamp(0, 1)


def denoised(output: Tensor, x: Tensor, sigma: float, sigma_data: float) -> Tensor:
    """D(x; sigma) = c_skip x + c_out F for the network's output F (Equation 7)."""
    return c_skip(sigma, sigma_data) * x + c_out(sigma, sigma_data) * output


def network_target(y: Tensor, noise: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """(y - c_skip x) / c_out, which F is to predict at x = y + sigma ``noise`` (Equation 8).

    The squared error of D with the weight lambda = (sigma² + sigma_data²) / (sigma sigma_data)² (Table 1) is that of
    F, since lambda c_out² = 1. Written without the difference of y and x, which has no digits left at a small sigma.
    """
    return c_in(sigma, sigma_data) * (sigma / sigma_data * y - sigma_data * noise)


@dataclass(frozen=True)
class Churn:
    """The noise that Algorithm 2 adds before a step.

    Attributes:
        s_churn: how much in all: before each of N steps, sigma grows by the factor 1 + gamma with
            gamma = min(s_churn / N, sqrt(2) - 1). 0 is Algorithm 1, which draws nothing.
        s_min, s_max: the levels sigma between which there is any.
        s_noise: the standard deviation of the noise, as a multiple of what the new level asks for.
    """

    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def gamma(self, sigma: float, steps: int) -> float:
        """gamma_i of Algorithm 2."""
        return min(self.s_churn / steps, math.sqrt(2) - 1) if self.s_min <= sigma <= self.s_max else 0.0


def euler_step(denoise: Denoiser, x: Tensor, sigma: float, below: float) -> Tensor:
    """From the level ``sigma`` to the one ``below`` on dx/dsigma = (x - D) / sigma (Equations 1 and 3): Euler's step,
    of order 1, by one evaluation. At 0 it ends in D itself."""
    target = denoise(x, sigma)
    return target + below / sigma * (x - target)


def heun_step(denoise: Denoiser, x: Tensor, sigma: float, below: float) -> Tensor:
    """The same by Heun's step, of order 2, by two evaluations; to the level 0 by Euler's (Algorithm 1)."""
    target = denoise(x, sigma)
    euler = target + below / sigma * (x - target)
    if below == 0:
        return euler
    slopes = (x - target) / sigma + (euler - denoise(euler, below)) / below
    return x + (below - sigma) * slopes / 2


STEPS = {"heun": heun_step, "euler": euler_step}


def follow(
    denoise: Denoiser, x: Tensor, levels: list[float], *, solver: Solver, churn: Churn, generator: torch.Generator
) -> Tensor:
    """Samples ``(N, *shape)`` from ``x``, which is noise of the level ``levels[0]`` (Algorithms 1 and 2).

    With ``heun`` it takes 2 steps - 1 evaluations, with ``euler`` as many as steps.

    Args:
        levels: see ``noise_levels``.
        generator: of the noise of ``churn``, on the device of ``x``; nothing is drawn where there is none.
    """
    step, steps = STEPS[solver], len(levels) - 1
    for sigma, below in pairwise(levels):
        gamma = churn.gamma(sigma, steps)
        raised = sigma * (1 + gamma)
        if gamma > 0:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + math.sqrt(raised**2 - sigma**2) * churn.s_noise * noise
        x = step(denoise, x, raised, below)
    return x
