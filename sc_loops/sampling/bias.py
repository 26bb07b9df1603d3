"""Sampling bias: samples nearer to what is most probable than the model's own, at the cost of their diversity.

Alemohammad et al. 2024 (arXiv 2307.01850) sample every generation of a loop with a bias, since that is how samples
are made in practice, and call it λ. Here it is b, the option ``sampling_bias``: λ is the ratio synthetic : real.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sc_loops.errors import require
from sc_loops.networks.network import Network

_USUAL_DROPOUT = 0.1  # the default of all models: of a network without classes it says nothing


class Guiding(NamedTuple):
    """What a sampler does for its guidance or its bias.

    Attributes:
        scale: of classifier-free guidance; see ``guided``.
        noise: the factor of all noise, in (0, 1]; 1 leaves it as it is, to the bit.
    """

    scale: float
    noise: float

    @staticmethod
    def of(network: Network, condition_dropout: float, guidance_scale: float, sampling_bias: float) -> Guiding:
        """That of the options of a model with ``network``.

        A bias b < 1 is, for a conditional network, classifier-free guidance with the scale 1/b: Alemohammad et al.
        have b = 1/(1 + w), and the w of Ho and Salimans 2022 is the scale minus 1. For an unconditional one it is
        truncation: all noise of the sampler, at the start and on the way, is multiplied by sqrt(b). A denoiser that
        is affine in x, as the exact one of a Gaussian, makes of this b times the covariance and the same mean, as
        that paper has for Gaussians; a clip bounds what is predicted and so departs from that.

        Raises:
            InvalidValue: an option is outside its range, there is guidance or dropout without classes, or a bias
                together with a guidance scale, or with a conditional network that is never trained without classes.
        """
        require(0 <= condition_dropout <= 1, "condition_dropout", condition_dropout, "a number in [0, 1]")
        require(0 <= guidance_scale < math.inf, "guidance_scale", guidance_scale, "a number >= 0")
        conditional = network.class_conditional
        require(
            guidance_scale == 1 or conditional,
            "guidance_scale",
            guidance_scale,
            "1, since the network is not class-conditional",
        )
        require(
            conditional or condition_dropout in (0, _USUAL_DROPOUT),
            "condition_dropout",
            condition_dropout,
            "0 or its default, since the network is not class-conditional",
            "leave it out, or set class_conditional=true",
        )
        possible = 0 < sampling_bias <= 1 and 1 / sampling_bias < math.inf
        require(possible, "sampling_bias", sampling_bias, "b in (0, 1], where 1 is none")
        if sampling_bias == 1:
            return Guiding(guidance_scale, 1.0)
        require(
            guidance_scale == 1,
            "sampling_bias",
            sampling_bias,
            f"1, since guidance_scale is {guidance_scale:g}, and a bias b of a conditional network is the scale 1/b",
            "give one of the two",
        )
        require(
            condition_dropout > 0 or not conditional,
            "sampling_bias",
            sampling_bias,
            "1, since condition_dropout is 0, and a bias is guidance, for which the network is trained without "
            "classes too",
            "give a condition_dropout > 0, such as 0.1",
        )
        return Guiding(1 / sampling_bias, 1.0) if conditional else Guiding(1.0, math.sqrt(sampling_bias))

    def draw(self, shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise of ``shape`` on the device of ``generator``, multiplied by ``noise``."""
        return self.noise * torch.randn(shape, generator=generator, device=generator.device)
