"""Noise schedules of diffusion models, and which of their timesteps a sampler visits.

A schedule is alpha_bar: ``(T,)`` float64, falling from nearly 1 at t = 0 to nearly 0 at t = T - 1, with
x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon (Ho et al. 2020, Equation 4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear_schedule(timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """beta_t rises linearly (Ho et al. 2020, Section 4; there from 1e-4 to 0.02 with T = 1000)."""
    beta = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
    return (1 - beta).cumprod(0)


def cosine_schedule(timesteps: int) -> Tensor:
    """alpha_bar is a squared cosine, up to beta_t <= 0.999 (Nichol and Dhariwal 2021, Equation 17)."""
    u = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = ((u + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - beta).cumprod(0)


def trailing(timesteps: int, steps: int) -> list[int]:
    """``steps`` timesteps from T - 1 downwards, evenly spaced (Lin et al. 2024, Table 2, "trailing"). The
    step from the last of them ends at alpha_bar = 1."""
    return [round(timesteps * (steps - i) / steps) - 1 for i in range(steps)]
