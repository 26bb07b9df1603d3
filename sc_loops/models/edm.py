"""``EDM``: a preconditioned denoiser trained on log-normal noise levels, sampled by Heun's method."""

from __future__ import annotations

import math
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.models.base import GenerativeModel, SamplingPrecision
from sc_loops.models.weighting import weighted_mean
from sc_loops.networks.network import Network, predicted
from sc_loops.samples import Samples
from sc_loops.sampling.bias import Guiding
from sc_loops.sampling.edm import Churn, Solver, c_in, denoised, follow, network_target, network_time, noise_levels
from sc_loops.sampling.guidance import guided, training_labels


class EDM(GenerativeModel):
    """The diffusion model of Karras et al. 2022 (arXiv 2206.00364).

    x = y + sigma n for data y and noise n; D(x; sigma) = c_skip x + c_out F(c_in x) is trained to be y, where F is
    the network. The loss is the mean squared error of F, which is that of D with the paper's weight lambda(sigma); a
    network that predicts 0 has a loss of about 1. It sees the time ln(sigma / sigma_min) / ln(sigma_max / sigma_min),
    cut to [0, 1]: weights that are trained already want both limits as they were. The defaults suit images in
    [-1, 1], whose sigma_data is about 0.5; ``sigma_min``, ``sigma_max`` and exp(``p_mean``) scale with the data.

    Args:
        network: predicts F.
        sigma_data: standard deviation of the data; None measures that of all values of ``data.train`` about their
            mean, once, to six digits.
        p_mean, p_std: mean and standard deviation of ln(sigma) in training.
        sigma_min, sigma_max: the last level above 0 and the first level of sampling.
        rho: spacing of the levels between: evenly in sigma^(1/rho).
        solver: ``heun``, of order 2, or ``euler``, of order 1.
        steps: sampling steps. Each takes two evaluations of the network with ``heun``, but the last takes one: in all
            2 steps - 1; ``euler`` takes as many as steps. The paper's 18 leave a Gaussian about 5 % too wide, which a
            loop without real data compounds; 36 leave 1 %, 64 0.4 %.
        s_churn, s_min, s_max, s_noise: of stochastic sampling, see ``Churn``; ``s_churn`` 0 is deterministic.
        clip: clamp every predicted sample to [-clip, clip]; for images 1.
        condition_dropout: probability of training without the class.
        guidance_scale: of classifier-free guidance (Ho and Salimans 2022); 1 is none, at half the cost.
        sampling_bias: b in (0, 1], 1 is none: with a conditional network the guidance scale 1/b, else all noise times
            sqrt(b), see ``Guiding``. Alemohammad et al. 2024 call it λ; it is not the synthetic ratio.
        learning_rate, warmup_steps, betas, weight_decay, ema_decay, network_batch, sampling_precision: see
            ``GenerativeModel``.

    Attributes:
        sigma_data: as given, or as measured.
    """

    weighted = True

    def __init__(
        self,
        data: RealData,
        *,
        network: Network,
        sigma_data: float | None = None,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        solver: Solver = "heun",
        steps: int = 18,
        s_churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = math.inf,
        s_noise: float = 1.0,
        clip: float | None = None,
        condition_dropout: float = 0.1,
        guidance_scale: float = 1.0,
        sampling_bias: float = 1.0,
        learning_rate: float = 2e-4,
        warmup_steps: int = 0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        ema_decay: float = 0.999,
        network_batch: int | None = None,
        sampling_precision: SamplingPrecision = "as_trained",
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            betas=betas,
            weight_decay=weight_decay,
            ema_decay=ema_decay,
            network_batch=network_batch,
            sampling_precision=sampling_precision,
        )
        possible = sigma_data is None or 1e-6 <= sigma_data <= 1e6
        require(possible, "sigma_data", sigma_data, "a number in [1e-6, 1e6], or null")
        require(-10 <= p_mean <= 10, "p_mean", p_mean, "a number in [-10, 10], the mean of ln(sigma)")
        require(0 <= p_std <= 5, "p_std", p_std, "a number in [0, 5], the standard deviation of ln(sigma)")
        require(1e-6 <= sigma_min <= 1e6, "sigma_min", sigma_min, "a number in [1e-6, 1e6]")
        require(sigma_min < sigma_max <= 1e6, "sigma_max", sigma_max, "a number in (sigma_min, 1e6]")
        require(1 <= rho <= 100, "rho", rho, "a number in [1, 100]")
        require(solver in get_args(Solver), "solver", solver, f"one of {', '.join(get_args(Solver))}")
        require(1 <= steps <= 10**5, "steps", steps, "an integer in 1..100000")
        require(0 <= s_churn < math.inf, "s_churn", s_churn, "a number >= 0")
        require(0 <= s_min < math.inf, "s_min", s_min, "a number >= 0")
        require(s_min <= s_max, "s_max", s_max, "a number >= s_min")
        require(0 <= s_noise <= 10, "s_noise", s_noise, "a number in [0, 10]")
        require(clip is None or clip > 0, "clip", clip, "a number > 0, or null")
        self._guiding = Guiding.of(network, condition_dropout, guidance_scale, sampling_bias)
        self.sampling_bias = sampling_bias
        self.network = network
        self.conditional = network.class_conditional
        self.sigma_data = standard_deviation(data) if sigma_data is None else sigma_data
        self._shape = data.shape
        self._log_normal, self._range = (p_mean, p_std), (sigma_min, sigma_max)
        self._solver, self._levels = solver, noise_levels(steps, sigma_min, sigma_max, rho)
        self._churn, self._clip = Churn(s_churn, s_min, s_max, self._guiding.noise * s_noise), clip
        self._condition_dropout = condition_dropout

    def loss(self, batch: Samples) -> Tensor:
        y = training_labels(self.network, batch.condition, self._condition_dropout)
        x0, n = batch.x, len(batch)
        mean, std = self._log_normal
        level = (mean + std * torch.randn(n, device=x0.device)).exp()
        sigma, noise = level.view(n, *(1,) * (x0.ndim - 1)), torch.randn_like(x0)
        scaled = c_in(sigma, self.sigma_data) * (x0 + sigma * noise)
        output = predicted(self.network, network_time(level, *self._range), scaled, y)
        target = network_target(x0, noise, sigma, self.sigma_data)
        return weighted_mean(F.mse_loss(output, target, reduction="none"), batch)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        y = condition if self.conditional else None
        noise = self._guiding.draw((n, *self._shape), generator)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            time = network_time(torch.full((n,), sigma, device=self.device), *self._range)
            scaled = c_in(sigma, self.sigma_data) * x
            # D is linear in F, and guidance is a combination whose weights sum to one: that of F is that of D.
            output = guided(self.network, time, scaled, y, self._guiding.scale, self.network_batch)
            x0 = denoised(output, x, sigma, self.sigma_data)
            return x0 if self._clip is None else x0.clamp(-self._clip, self._clip)

        x, levels = self._levels[0] * noise, self._levels
        return follow(denoise, x, levels, solver=self._solver, churn=self._churn, generator=generator)


def standard_deviation(data: RealData) -> float:
    """That of all values of ``data.train`` about their mean, to six digits, which no order of summation changes.

    Raises:
        InvalidValue: it is 0, or the data are of a scale that calls for other options too.
    """
    parts = [as_float(part).double() for part in data.train.x.split(4096)]  # bounds the memory
    mean = sum(float(part.sum()) for part in parts) / data.train.x.numel()
    square = sum(float((part - mean).square().sum()) for part in parts) / data.train.x.numel()
    found = float(f"{math.sqrt(square):.6g}")
    if not 1e-6 <= found <= 1e6:
        raise InvalidValue(
            "sigma_data",
            found=f"null, and training data whose standard deviation is {found:g}",
            expected="data whose standard deviation is in [1e-6, 1e6]",
            do="scale the data, or give sigma_data",
        )
    return found
