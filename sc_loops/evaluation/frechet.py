"""The Fréchet distance between Gaussians that are fitted to features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

BLOCK = 4096  # features in float64 at a time


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian of d dimensions, in float64.

    Attributes:
        mean: ``(d,)``.
        covariance: ``(d, d)``.
        root: ``(d, d)``, the symmetric square root of the covariance, where it is known.
    """

    mean: Tensor
    covariance: Tensor
    root: Tensor | None = None

    def with_root(self) -> Gaussian:
        """The same with its root, which takes longer than a distance: for what is compared with again and again."""
        return self if self.root is not None else replace(self, root=square_root(self.covariance))


def gaussian(features: Tensor) -> Gaussian:
    """Mean and unbiased covariance of ``features (n, d)``, which are taken to float64 a block at a time."""
    mean = features.mean(dim=0, dtype=torch.float64)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for block in features.split(BLOCK):
        centred = block.double() - mean
        scatter += centred.T @ centred
    return Gaussian(mean, scatter / max(1, len(features) - 1))


def frechet_distance(fake: Gaussian, real: Gaussian) -> float:
    """||m1 - m2||^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) (Dowson and Landau 1982; Heusel et al. 2017, Eq. 6).

    tr (C1 C2)^1/2 is the sum of the roots of the eigenvalues of the symmetric sqrt(C2) C1 sqrt(C2), which
    exist for singular covariances too. The root of ``real`` is used if it is known.
    """
    root = square_root(real.covariance) if real.root is None else real.root
    overlap = _roots(torch.linalg.eigvalsh(root @ fake.covariance @ root)).sum()
    traces = fake.covariance.trace() + real.covariance.trace()
    return max(0.0, float((fake.mean - real.mean).square().sum() + traces - 2 * overlap))


def square_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite ``(d, d)``."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * _roots(values) @ vectors.T


def _roots(eigenvalues: Tensor) -> Tensor:
    """Roots of the eigenvalues of a positive semi-definite matrix; those that are rounding errors become 0.

    The roots of many such errors would add up where a covariance is singular. A higher threshold cuts off true
    eigenvalues of features whose variances differ by eight orders of magnitude.
    """
    noise = eigenvalues.amax() * torch.finfo(eigenvalues.dtype).eps
    return torch.where(eigenvalues > noise, eigenvalues, 0.0).sqrt()
