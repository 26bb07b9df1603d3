"""``MotionDiffusion``: the human motion diffusion model (Tevet et al. 2023)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.models.base import GenerativeModel, SamplingPrecision
from sc_loops.models.motion_losses import foot_loss, masked_mse, position_loss, velocity_loss
from sc_loops.motion.representation import CONTACTS, decode
from sc_loops.networks.network import Network, predicted
from sc_loops.samples import Samples
from sc_loops.sampling.diffusion import ancestral_step, ddim_step
from sc_loops.sampling.guidance import guided, training_labels
from sc_loops.sampling.schedule import cosine_schedule, trailing

Sampler = Literal["ancestral", "ddim"]


class MotionDiffusion(GenerativeModel):
    """Denoising diffusion of motions under captions (Tevet et al. 2023).

    As ``DDPM`` with the cosine schedule and the prediction x0, for motions of many lengths. The loss is the squared
    error, the mean over a motion's own frames and features and then over motions. In each step a motion goes with
    any caption of its clip. A sample is as long as the clip whose caption it is made under and 0 from there on.

    Args:
        data: motions.
        network: predicts x_0; it is told the row of the caption, by which it knows the length.
        timesteps: T.
        sampler: ``ancestral`` (Ho et al. 2020) with the variance of the posterior, or ``ddim`` (Song et al. 2021).
        eta: noise of DDIM in [0, 1]; 0 is deterministic.
        steps: sampling steps, at most T; None is T. One evaluation of the network each.
        condition_dropout: probability of training without the text.
        guidance_scale: of classifier-free guidance (Ho and Salimans 2022); 1 is none, at half the cost, and so is any
            where the network sees no text.
        position_weight, velocity_weight, foot_weight: of the losses of the decoded joints, in 1/m²; see
            ``motion_losses``. The published model of this data has 0.
        learning_rate, warmup_steps, betas, weight_decay, ema_decay, network_batch, sampling_precision: see
            ``GenerativeModel``.
    """

    _alpha: Tensor
    _sigma: Tensor
    conditional = True

    def __init__(
        self,
        data: RealData,
        *,
        network: Network,
        timesteps: int = 1000,
        sampler: Sampler = "ancestral",
        eta: float = 0.0,
        steps: int | None = None,
        condition_dropout: float = 0.1,
        guidance_scale: float = 2.5,
        position_weight: float = 0.0,
        velocity_weight: float = 0.0,
        foot_weight: float = 0.0,
        learning_rate: float = 1e-4,
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
        if data.motions is None:
            raise InvalidValue("data", found=f"{data.name}, {data.kind}", expected="motions")
        tells = "a network of motions, whose classes are captions, such as motion_transformer"
        require(network.class_conditional, "network", type(network).__name__, tells)
        require(sampler in get_args(Sampler), "sampler", sampler, f"one of {', '.join(get_args(Sampler))}")
        require(1 <= timesteps <= 10**5, "timesteps", timesteps, "an integer in 1..100000")
        require(0 <= eta <= 1, "eta", eta, "a number in [0, 1]")
        require(steps is None or 1 <= steps <= timesteps, "steps", steps, f"an integer in 1..{timesteps}, or null")
        require(0 <= condition_dropout <= 1, "condition_dropout", condition_dropout, "a number in [0, 1]")
        require(0 <= guidance_scale < math.inf, "guidance_scale", guidance_scale, "a number >= 0")
        for option, weight in (
            ("position_weight", position_weight),
            ("velocity_weight", velocity_weight),
            ("foot_weight", foot_weight),
        ):
            require(0 <= weight < math.inf, option, weight, "a number >= 0")
        self.network, self._motions = network, data.motions
        self._shape = data.shape
        self._timesteps, self._sampler, self._eta = timesteps, sampler, eta
        self._joint_weights = position_weight, velocity_weight, foot_weight
        first = torch.zeros(1, dtype=torch.int64)
        # Without text both predictions are one, which would be computed twice.
        self._guidance_scale = 1.0 if torch.equal(network.null(first), first) else guidance_scale
        self._condition_dropout = condition_dropout

        alpha_bar = cosine_schedule(timesteps)
        self.register_buffer("_alpha", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("_sigma", (1 - alpha_bar).sqrt().float(), persistent=False)
        self._visited = trailing(timesteps, steps or timesteps)
        # Floats for the samplers: full precision, and no transfer between devices.
        self._levels = [*(float(alpha_bar[t]) for t in self._visited), 1.0]

    def loss(self, batch: Samples) -> Tensor:
        assert batch.condition is not None
        row = self._motions.another_caption(batch.condition)
        y = training_labels(self.network, row, self._condition_dropout)
        x0, n = batch.x, len(batch)
        t = torch.randint(self._timesteps, (n,), device=x0.device)
        epsilon = torch.randn_like(x0)
        alpha, sigma = (level[t].view(n, 1, 1) for level in (self._alpha, self._sigma))
        frames = self._frames(row)
        x0, epsilon = x0[:, :frames], epsilon[:, :frames]
        output = predicted(self.network, t / self._timesteps, alpha * x0 + sigma * epsilon, y)
        mask = self._motions.mask(row, frames)
        return masked_mse(output, x0, mask) + self._joint_loss(output, x0, mask)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        frames = self._shape[0] if condition is None else self._frames(condition)
        x = self._noise(generator, n, frames)
        for t, alpha_bar, previous in zip(self._visited, self._levels, self._levels[1:], strict=False):
            time = torch.full((n,), t / self._timesteps, device=self.device)
            x0 = guided(self.network, time, x, condition, self._guidance_scale, self.network_batch)
            noise = self._noise(generator, n, frames)
            if self._sampler == "ddim":
                x = ddim_step(x, x0, alpha_bar, previous, noise, self._eta)
            else:
                x = ancestral_step(x, x0, alpha_bar, previous, noise, "fixed_small")
        if condition is not None:
            x = x * self._motions.mask(condition, frames)[..., None]
        return F.pad(x, (0, 0, 0, self._shape[0] - frames))

    def _noise(self, generator: torch.Generator, n: int, frames: int) -> Tensor:
        """``(n, frames, 263)``, cut from noise of all frames: a motion's noise does not depend on the length of the
        others in its chunk."""
        return torch.randn((n, *self._shape), generator=generator, device=self.device)[:, :frames]

    def _frames(self, condition: Tensor) -> int:
        """The longest of the motions: no work is done on frames that none of them has."""
        return int(self._motions.lengths_of(condition).max()) if len(condition) else self._shape[0]

    def _joint_loss(self, output: Tensor, x0: Tensor, mask: Tensor) -> Tensor | float:
        """The weighted losses of the joints that predicted x_0 ``(N, F, 263)`` stand for."""
        if not any(self._joint_weights):
            return 0.0
        vectors = self._motions.vectors(x0)
        joints, target = decode(self._motions.vectors(output.float())), decode(vectors)
        contacts = (vectors[..., CONTACTS] > 0.5).to(joints.dtype)
        position, velocity, foot = self._joint_weights
        return (
            position * position_loss(joints, target, mask)
            + velocity * velocity_loss(joints, target, mask)
            + foot * foot_loss(joints, contacts, mask)
        )
