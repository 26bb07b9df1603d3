"""Solving dx/dt = velocity(t, x) from t = 0 to t = 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torchdiffeq import odeint

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(t, x) to dx/dt; t is a scalar tensor, x and dx/dt are of one shape."""

Solver = Literal["euler", "midpoint", "heun", "rk4", "dopri5"]


def euler(velocity: Velocity, t: Tensor, x: Tensor, h: float) -> Tensor:
    """Euler's method, of order 1."""
    return x + h * velocity(t, x)


def midpoint(velocity: Velocity, t: Tensor, x: Tensor, h: float) -> Tensor:
    """The explicit midpoint method, of order 2."""
    return x + h * velocity(t + h / 2, x + h / 2 * velocity(t, x))


def heun(velocity: Velocity, t: Tensor, x: Tensor, h: float) -> Tensor:
    """Heun's method (the explicit trapezoidal rule), of order 2."""
    k1 = velocity(t, x)
    k2 = velocity(t + h, x + h * k1)
    return x + h / 2 * (k1 + k2)


def rk4(velocity: Velocity, t: Tensor, x: Tensor, h: float) -> Tensor:
    """The classical Runge-Kutta method, of order 4."""
    k1 = velocity(t, x)
    k2 = velocity(t + h / 2, x + h / 2 * k1)
    k3 = velocity(t + h / 2, x + h / 2 * k2)
    k4 = velocity(t + h, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


FIXED_STEP = {"euler": euler, "midpoint": midpoint, "heun": heun, "rk4": rk4}

SOLVER_EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
"""Evaluations of the velocity in one step. ``dopri5`` takes as many as its tolerance needs."""


def solve(velocity: Velocity, x: Tensor, *, method: Solver, steps: int, tolerance: float) -> Tensor:
    """x(1) from x(0) = ``x``.

    Args:
        method: a method of fixed steps, or ``dopri5`` (Dormand and Prince 1980, adaptive). The adaptive one
            takes the error norm over the whole batch, so a sample's last digits depend on its company; those
            of fixed steps treat every sample alone.
        steps: number of equal steps; unused by ``dopri5``.
        tolerance: relative and absolute tolerance of ``dopri5``; unused by the others.
    """
    if method == "dopri5":
        span = torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
        return odeint(velocity, x, span, rtol=tolerance, atol=tolerance, method="dopri5")[-1]
    step = FIXED_STEP[method]
    for t in torch.arange(steps, dtype=x.dtype, device=x.device) / steps:
        x = step(velocity, t, x, 1 / steps)
    return x
