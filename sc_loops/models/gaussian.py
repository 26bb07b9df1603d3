"""``Gaussian``: the smallest generative model, whose self-consuming loop is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import RunError, require
from sc_loops.models.moments import MomentModel
from sc_loops.models.running_moments import RunningMoments
from sc_loops.models.weighting import weighted_mean
from sc_loops.samples import Samples


class Gaussian(MomentModel):
    """N(mean, covariance), fitted by maximum likelihood: the mean and the biased covariance (divided by N) of the
    items, as in the Gaussian experiment of Gillman et al. 2024 (arXiv 2402.07087).

    Args:
        data: for the shape of a sample; it is fitted on the flattened samples.
        regularisation: added to the diagonal of the covariance, as scikit-learn's ``GaussianMixture`` does. With 0 a
            run ends with a ``RunError`` when the covariance is singular, also in the precision of numbers.
        sampling_bias: b in (0, 1]: samples are drawn from N(mean, b covariance) (Alemohammad et al. 2024, arXiv
            2307.01850, who call it λ). 1 is none.
        unbiased: divide the covariance by N - 1, as that paper does, or of weighted items by 1 - Σ w², where the
            weights w add up to 1; of a single item it is 0.
        replicas: R independent loops in one run; see ``MomentModel``. The loss is the mean of theirs.

    Attributes:
        mean: ``(d,)`` float64; ``(R, d)`` of more than one replica.
        covariance: ``(d, d)`` float64; ``(R, d, d)``.
    """

    weighted = True

    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        data: RealData,
        *,
        regularisation: float = 1e-6,
        sampling_bias: float = 1.0,
        unbiased: bool = False,
        replicas: int = 1,
    ) -> None:
        super().__init__(data, replicas)
        require(0 <= regularisation < math.inf, "regularisation", regularisation, "a number >= 0")
        require(0 < sampling_bias <= 1, "sampling_bias", sampling_bias, "b in (0, 1], where 1 is none")
        self.regularisation, self.sampling_bias, self.unbiased = regularisation, sampling_bias, unbiased
        self._seen = RunningMoments()
        groups = () if replicas == 1 else (replicas,)
        self.register_buffer("mean", torch.zeros(*groups, self.dimensions, dtype=torch.float64))
        identity = torch.eye(self.dimensions, dtype=torch.float64)
        self.register_buffer("covariance", identity.repeat(*groups, 1, 1))

    def moments(self) -> tuple[Tensor, Tensor]:
        d = self.dimensions
        return self.mean.view(-1, d), self.covariance.view(-1, d, d)

    def fit(self, items: Samples) -> None:
        weight = items.columns.get("weight")
        if weight is None:
            self._fit([items.x[:]])  # another tensor: this one may have been changed in place since it was seen
        else:
            fits = [self._weighted(x, weight) for x in self._each(items.x)]
            self._set(*(torch.stack(parts) for parts in zip(*fits, strict=True)))

    def fit_parts(self, parts: Sequence[Samples]) -> Tensor:
        """Of items without weights only those of new parts are looked at, for the moments tell the loss too."""
        if parts[0].columns:
            return super().fit_parts(parts)
        biased = self._fit([part.x for part in parts])
        return torch.stack([_expected_nats(*one) for one in zip(biased, self.moments()[1], strict=True)]).mean()

    def loss(self, batch: Samples) -> Tensor:
        """The mean negative log-likelihood, in nats."""
        parts = zip(self._each(batch.x), *self.moments(), strict=True)
        losses = torch.stack([_nats(*one) for one in parts]).mean(dim=0)
        return weighted_mean(losses, batch)

    def sample(self, generator: torch.Generator, n: int, condition: Tensor | None = None) -> Tensor:
        coordinates = self.replicas * self.dimensions
        noise = torch.randn(n, coordinates, generator=generator, device=self.device, dtype=torch.float64)
        factors = math.sqrt(self.sampling_bias) * _factor(self.moments()[1])
        parts = zip(self.moments()[0], self._each(noise), factors, strict=True)
        return torch.cat([mean + z @ factor.T for mean, z, factor in parts], dim=1).float().view(n, *self._shape)

    def _fit(self, parts: Sequence[Tensor]) -> Tensor:
        """Fit the model to all ``parts``; their biased covariance ``(R, d, d)``."""
        n, mean, scatter = self._seen.of(parts, self._each)
        self._set(mean.clone(), scatter / (max(1, n - 1) if self.unbiased else n))
        return scatter / n

    def _set(self, mean: Tensor, covariance: Tensor) -> None:
        """Take over ``mean (R, d)`` and ``covariance (R, d, d)``, and regularise."""
        covariance.diagonal(dim1=-2, dim2=-1).add_(self.regularisation)
        self.mean, self.covariance = mean.view_as(self.mean), covariance.view_as(self.covariance)

    def _weighted(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The mean ``(d,)`` and the covariance ``(d, d)`` of ``x (N, d)``."""
        share = (weight.double() / weight.double().sum())[:, None]
        mean = (share * x).sum(dim=0)
        centred = x - mean
        covariance = (share * centred).T @ centred
        return mean, covariance / (1 - share.square().sum()) if self.unbiased else covariance


def _factor(covariance: Tensor) -> Tensor:
    """The Cholesky factor of ``covariance (..., d, d)``.

    Raises:
        RunError: one is singular, as that of items in a plane, or of a loop that has collapsed to a point.
    """
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        several = f" in {int(failed.count_nonzero())} of {failed.numel()} replicas" if failed.dim() else ""
        raise RunError(
            "the covariance of the Gaussian",
            found=f"a covariance that is no longer positive definite{several}: what it was fitted to has no width in "
            "some direction, as few items have, or a loop that has collapsed",
            expected="a positive definite covariance, which has a likelihood and can be sampled",
            do="set model.regularisation to a number > 0, as 1e-6, or train on more items, and start over",
        )
    return factor


def _nats(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """``(N,)``, the negative log-likelihoods of ``x (N, d)``."""
    factor = _factor(covariance)
    z = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
    return z.square().sum(dim=0) / 2 + _nats_of_the_mean(factor)


def _expected_nats(scatter: Tensor, covariance: Tensor) -> Tensor:
    """The mean negative log-likelihood of items with the mean of the model and the biased covariance ``scatter``."""
    factor = _factor(covariance)
    return torch.cholesky_solve(scatter, factor).trace() / 2 + _nats_of_the_mean(factor)


def _nats_of_the_mean(factor: Tensor) -> Tensor:
    """The negative log-likelihood of the mean of a Gaussian, whose covariance has the Cholesky ``factor (d, d)``."""
    return factor.diagonal().log().sum() + len(factor) * math.log(2 * math.pi) / 2
