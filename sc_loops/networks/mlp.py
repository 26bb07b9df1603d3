"""``TimeMLP``: the network for points in a few dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.networks.network import Network


def sinusoids(t: Tensor, frequencies: Tensor) -> Tensor:
    """sin(w t) and cos(w t) for each w of ``frequencies``: ``(N,)`` and ``(F,)`` to ``(N, 2 F)``."""
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeMLP(Network):
    """A multi-layer perceptron of [x, features of t] with SiLU; samples of any shape are flattened.

    The class embedding is added before the first activation.

    Args:
        width: units of a hidden layer.
        depth: number of hidden layers.
        time_features: number of sinusoids of t, even.
        time_scale: their highest angular frequency; the others fall geometrically to 1. A high one makes the
            network rough in t, which costs an adaptive solver many evaluations.
    """

    frequencies: Tensor

    def __init__(
        self,
        data: RealData,
        *,
        width: int = 128,
        depth: int = 4,
        time_features: int = 16,
        time_scale: float = 30.0,
        class_conditional: bool = False,
    ) -> None:
        super().__init__(data, class_conditional=class_conditional)
        require(1 <= width <= 10000, "width", width, "an integer in 1..10000")
        require(1 <= depth <= 100, "depth", depth, "an integer in 1..100")
        even = 2 <= time_features <= 10000 and time_features % 2 == 0
        require(even, "time_features", time_features, "an even integer in 2..10000")
        require(1 <= time_scale < math.inf, "time_scale", time_scale, "a number >= 1")
        frequencies = time_scale ** torch.linspace(1, 0, time_features // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        size = math.prod(data.shape)
        self.first = nn.Linear(size + time_features, width)
        hidden = [layer for _ in range(depth - 1) for layer in (nn.SiLU(), nn.Linear(width, width))]
        self.rest = nn.Sequential(*hidden, nn.SiLU(), nn.Linear(width, size))
        if class_conditional:
            self.classes = nn.Embedding(self.num_classes + 1, width)

    def forward(self, t: Tensor, x: Tensor, y: Tensor | None = None) -> Tensor:
        inputs = torch.cat([x.flatten(1), sinusoids(t, self.frequencies)], dim=1)
        hidden = self.first(inputs.to(self.first.weight.dtype))
        if self.class_conditional:
            hidden = hidden + self.classes(self.labels(y, x))
        return self.rest(hidden).view_as(x).to(x.dtype)
