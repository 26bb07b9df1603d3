"""What a diffusion model predicts, and one step of its samplers.

Throughout x_t = alpha x_0 + sigma epsilon, with alpha = sqrt(alpha_bar) and sigma = sqrt(1 - alpha_bar).
Levels are floats or tensors that broadcast against x. Samplers see predictions only as x_0, so that clamping
x_0 acts alike on all of them.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "x0", "v"]
Variance = Literal["fixed_small", "fixed_large"]


def prediction_target(
    prediction: Prediction, x0: Tensor, epsilon: Tensor, alpha: Tensor | float, sigma: Tensor | float
) -> Tensor:
    """What the network is to predict at x_t: the noise, the sample, or v = alpha epsilon - sigma x_0
    (Salimans and Ho 2022, Appendix D)."""
    if prediction == "epsilon":
        return epsilon
    return x0 if prediction == "x0" else alpha * epsilon - sigma * x0


def predicted_x0(
    prediction: Prediction, output: Tensor, x: Tensor, alpha: Tensor | float, sigma: Tensor | float
) -> Tensor:
    """x_0 from the network's output at x = x_t: (x - sigma epsilon) / alpha (Ho et al. 2020, Equation 15), or
    alpha x - sigma v (Salimans and Ho 2022, Appendix D)."""
    if prediction == "epsilon":
        return (x - sigma * output) / alpha
    return output if prediction == "x0" else alpha * x - sigma * output


def ancestral_step(
    x: Tensor, x0: Tensor, alpha_bar: float, previous: float, noise: Tensor, variance: Variance
) -> Tensor:
    """x_s ~ p(x_s | x_t) at the earlier timestep s, whose alpha_bar is ``previous`` (Ho et al. 2020,
    Equations 6 and 7, with beta = 1 - alpha_bar_t / alpha_bar_s). The variance is that of q(x_s | x_t, x_0),
    or beta. Nothing is added in the last step, to alpha_bar = 1."""
    beta = 1 - alpha_bar / previous
    of_x0 = math.sqrt(previous) * beta / (1 - alpha_bar)
    of_x = math.sqrt(1 - beta) * (1 - previous) / (1 - alpha_bar)
    added = beta if variance == "fixed_large" else beta * (1 - previous) / (1 - alpha_bar)
    return of_x0 * x0 + of_x * x + (math.sqrt(added) * noise if previous < 1 else 0)


def ddim_step(x: Tensor, x0: Tensor, alpha_bar: float, previous: float, noise: Tensor, eta: float) -> Tensor:
    """x_s at the earlier timestep s, whose alpha_bar is ``previous`` (Song et al. 2021, Equations 12 and 16).
    Epsilon follows from x and x_0, so it agrees with an x_0 that was clamped. eta = 0 is deterministic and
    eta = 1 is ``ancestral_step`` with the small variance."""
    epsilon = (x - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
    added = eta**2 * (1 - previous) / (1 - alpha_bar) * (1 - alpha_bar / previous)
    return math.sqrt(previous) * x0 + math.sqrt(1 - previous - added) * epsilon + math.sqrt(added) * noise
