"""``DDPM``: denoising diffusion in discrete time, sampled ancestrally or by DDIM."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.models.base import GenerativeModel, SamplingPrecision
from sc_loops.models.weighting import weighted_mean
from sc_loops.networks.network import Network, predicted
from sc_loops.samples import Samples
from sc_loops.sampling.bias import Guiding
from sc_loops.sampling.diffusion import (
    Prediction,
    Variance,
    ancestral_step,
    ddim_step,
    predicted_x0,
    prediction_target,
)
from sc_loops.sampling.guidance import guided, training_labels
from sc_loops.sampling.schedule import cosine_schedule, linear_schedule, trailing

Schedule = Literal["linear", "cosine"]
Sampler = Literal["ancestral", "ddim"]


class DDPM(GenerativeModel):
    """Denoising diffusion probabilistic model (Ho et al. 2020).

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon for t = 0..T-1; the loss is the mean squared
    error of the prediction, and the network sees the time t / T. Few steps with the cosine schedule want the
    prediction x0 or v, or ``clip``: at its last timestep an error of epsilon is divided by alpha, nearly 0.

    Args:
        network: predicts what ``prediction`` says.
        timesteps: T.
        schedule: ``linear`` betas (Ho et al. 2020) or ``cosine`` (Nichol and Dhariwal 2021).
        beta_start: beta_0 of the linear schedule.
        beta_end: beta_{T-1} of the linear schedule.
        prediction: the noise, the sample, or v (Salimans and Ho 2022).
        sampler: ``ancestral`` (Ho et al. 2020) or ``ddim`` (Song et al. 2021).
        variance: of the ancestral steps: that of the posterior, or beta.
        eta: noise of DDIM in [0, 1]; 0 is deterministic.
        steps: sampling steps, at most T; None is T. One evaluation of the network each.
        clip: clamp every predicted sample to [-clip, clip]; for images 1.
        condition_dropout: probability of training without the class.
        guidance_scale: of classifier-free guidance (Ho and Salimans 2022); 1 is none, at half the cost.
        sampling_bias: b in (0, 1], 1 is none: with a conditional network the guidance scale 1/b, else all noise times
            sqrt(b), see ``Guiding``. Alemohammad et al. 2024 call it λ; it is not the synthetic ratio.
        learning_rate, warmup_steps, betas, weight_decay, ema_decay, network_batch, sampling_precision: see
            ``GenerativeModel``.
    """

    _alpha: Tensor
    _sigma: Tensor
    weighted = True

    def __init__(
        self,
        data: RealData,
        *,
        network: Network,
        timesteps: int = 1000,
        schedule: Schedule = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        prediction: Prediction = "epsilon",
        sampler: Sampler = "ancestral",
        variance: Variance = "fixed_small",
        eta: float = 0.0,
        steps: int | None = None,
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
        for option, chosen, choices in (
            ("schedule", schedule, get_args(Schedule)),
            ("prediction", prediction, get_args(Prediction)),
            ("sampler", sampler, get_args(Sampler)),
            ("variance", variance, get_args(Variance)),
        ):
            require(chosen in choices, option, chosen, f"one of {', '.join(choices)}")
        require(1 <= timesteps <= 10**5, "timesteps", timesteps, "an integer in 1..100000")
        require(0 < beta_start < 1, "beta_start", beta_start, "a number in (0, 1)")
        require(beta_start <= beta_end < 1, "beta_end", beta_end, "a number in [beta_start, 1)")
        require(0 <= eta <= 1, "eta", eta, "a number in [0, 1]")
        require(steps is None or 1 <= steps <= timesteps, "steps", steps, f"an integer in 1..{timesteps}, or null")
        require(clip is None or clip > 0, "clip", clip, "a number > 0, or null")
        self._guiding = Guiding.of(network, condition_dropout, guidance_scale, sampling_bias)
        self.sampling_bias = sampling_bias
        self.network = network
        self.conditional = network.class_conditional
        self._shape = data.shape
        self._timesteps, self._prediction = timesteps, prediction
        self._sampler, self._variance, self._eta, self._clip = sampler, variance, eta, clip
        self._condition_dropout = condition_dropout

        linear = schedule == "linear"
        alpha_bar = linear_schedule(timesteps, beta_start, beta_end) if linear else cosine_schedule(timesteps)
        self.register_buffer("_alpha", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("_sigma", (1 - alpha_bar).sqrt().float(), persistent=False)
        self._visited = trailing(timesteps, steps or timesteps)
        # Floats for the samplers: full precision, and no transfer between devices.
        self._levels = [*(float(alpha_bar[t]) for t in self._visited), 1.0]

    def loss(self, batch: Samples) -> Tensor:
        y = training_labels(self.network, batch.condition, self._condition_dropout)
        x0, n = batch.x, len(batch)
        t = torch.randint(self._timesteps, (n,), device=x0.device)
        epsilon = torch.randn_like(x0)
        alpha, sigma = (level[t].view(n, *(1,) * (x0.ndim - 1)) for level in (self._alpha, self._sigma))
        output = predicted(self.network, t / self._timesteps, alpha * x0 + sigma * epsilon, y)
        target = prediction_target(self._prediction, x0, epsilon, alpha, sigma)
        return weighted_mean(F.mse_loss(output, target, reduction="none"), batch)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        y = condition if self.conditional else None
        x = self._guiding.draw((n, *self._shape), generator)
        for t, alpha_bar, previous in zip(self._visited, self._levels, self._levels[1:], strict=False):
            time = torch.full((n,), t / self._timesteps, device=self.device)
            output = guided(self.network, time, x, y, self._guiding.scale, self.network_batch)
            x0 = predicted_x0(self._prediction, output, x, alpha_bar**0.5, (1 - alpha_bar) ** 0.5)
            if self._clip is not None:
                x0 = x0.clamp(-self._clip, self._clip)
            noise = self._guiding.draw(x.shape, generator)
            if self._sampler == "ddim":
                x = ddim_step(x, x0, alpha_bar, previous, noise, self._eta)
            else:
                x = ancestral_step(x, x0, alpha_bar, previous, noise, self._variance)
        return x
