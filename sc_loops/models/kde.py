"""``KDE``: a kernel density estimate, the other model whose self-consuming loop is known in closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.models.moments import MomentModel
from sc_loops.samples import Samples

MOST_PAIRS = 1_000_000  # of an item and a kernel, that a loss looks at


class KDE(MomentModel):
    """A Gaussian kernel on every item, as in Kazdan et al. 2024 (arXiv 2410.16713): a sample is an item, picked at
    random, plus the bandwidth times standard noise. The model is its items, so it grows with what it trains on.

    Args:
        data: for the shape of a sample; it is fitted on the flattened samples.
        bandwidth: h, the standard deviation of the kernel in each coordinate.
        replicas: R independent loops in one run; see ``MomentModel``. Each picks items of its own.

    Attributes:
        items: ``(N, D)`` float32, zeros until it is fitted.
    """

    items: Tensor
    growing = ("items",)

    def __init__(self, data: RealData, *, bandwidth: float = 0.5, replicas: int = 1) -> None:
        super().__init__(data, replicas)
        require(0 < bandwidth < math.inf, "bandwidth", bandwidth, "a number > 0")
        self.bandwidth = bandwidth
        self.register_buffer("items", torch.zeros(len(data.train), replicas * self.dimensions))

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean of the items, and their biased covariance plus h² I."""
        means, covariances = [], []
        for x in self._each(self.items):
            means.append(x.mean(dim=0))
            centred = x - means[-1]
            covariances.append(centred.T @ centred / len(x))
            covariances[-1].diagonal().add_(self.bandwidth**2)
        return torch.stack(means), torch.stack(covariances)

    def fit(self, items: Samples) -> None:
        self.items = items.x.flatten(1).float().clone()

    def loss(self, batch: Samples) -> Tensor:
        """The mean negative log-likelihood, in nats, of as many of ``batch``, evenly spread, as make a million pairs
        with the kernels. A training item sits on a kernel of its own, which is not left out: on few items in many
        dimensions the loss is far below that of new ones."""
        n, h = len(self.items), self.bandwidth
        some = max(1, min(len(batch), MOST_PAIRS // (n * self.replicas)))
        x = batch.x[torch.arange(some, device=batch.x.device) * len(batch) // some]
        pairs = zip(self._each(x), self._each(self.items), strict=True)
        likelihoods = torch.stack([(-0.5 * (torch.cdist(a, b) / h).square()).logsumexp(dim=1) for a, b in pairs])
        return math.log(n) + self.dimensions * math.log(2 * math.pi * h**2) / 2 - likelihoods.mean()

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        size, r, d = (n, self.replicas), self.replicas, self.dimensions
        pick = torch.randint(len(self.items), size, generator=generator, device=self.device)
        centres = self.items.view(-1, r, d)[pick, torch.arange(r, device=self.device)]
        noise = torch.randn(n, r, d, generator=generator, device=self.device, dtype=torch.float64)
        return (centres + self.bandwidth * noise).float().view(n, *self._shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        stored = state_dict.get(f"{prefix}items")
        if isinstance(stored, Tensor) and stored.shape[1:] == self.items.shape[1:]:  # of another generation's size
            self.items = self.items.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
