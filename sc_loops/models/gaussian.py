"""``Gaussian``: the smallest generative model, whose self-consuming loop is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.models.closed_form import ClosedFormModel
from sc_loops.models.weighting import weighted_mean
from sc_loops.samples import Samples


class Gaussian(ClosedFormModel):
    """N(mean, covariance), fitted by maximum likelihood: the mean and the biased covariance (divided by N) of the
    items, as in the Gaussian experiment of Gillman et al. 2024 (arXiv 2402.07087).

    Args:
        data: for the shape of a sample; it is fitted on the flattened samples.
        regularisation: added to the diagonal of the covariance, as scikit-learn's ``GaussianMixture`` does.

    Attributes:
        mean: ``(d,)`` float64.
        covariance: ``(d, d)`` float64.
    """

    weighted = True

    mean: Tensor
    covariance: Tensor

    def __init__(self, data: RealData, *, regularisation: float = 1e-6) -> None:
        super().__init__()
        require(0 <= regularisation < math.inf, "regularisation", regularisation, "a number >= 0")
        self._shape, self.regularisation = data.shape, regularisation
        d = torch.Size(data.shape).numel()
        self.register_buffer("mean", torch.zeros(d, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(d, dtype=torch.float64))

    def fit(self, items: Samples) -> None:
        x = items.x.flatten(1).double()
        weight = items.columns.get("weight")
        if weight is None:
            self.mean = x.mean(dim=0)
            centred = x - self.mean
            self.covariance = centred.T @ centred / len(x)
        else:
            share = (weight.double() / weight.double().sum())[:, None]
            self.mean = (share * x).sum(dim=0)
            centred = x - self.mean
            self.covariance = (share * centred).T @ centred
        self.covariance.diagonal().add_(self.regularisation)

    def loss(self, batch: Samples) -> Tensor:
        """The mean negative log-likelihood, in nats."""
        factor = torch.linalg.cholesky(self.covariance)
        z = torch.linalg.solve_triangular(factor, (batch.x.flatten(1).double() - self.mean).T, upper=False)
        constant = len(self.mean) * math.log(2 * math.pi) / 2
        return weighted_mean(z.square().sum(dim=0) / 2 + factor.diagonal().log().sum() + constant, batch)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        noise = torch.randn(n, len(self.mean), generator=generator, device=self.device, dtype=torch.float64)
        factor = torch.linalg.cholesky(self.covariance)
        return (self.mean + noise @ factor.T).float().view(n, *self._shape)
