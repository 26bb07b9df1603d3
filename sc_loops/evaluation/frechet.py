"""The Fréchet distance between Gaussians that are fitted to features, and its standard error."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import torch
from torch import Tensor

BLOCK = 4096  # features in float64 at a time
BLOCKS = 10  # of the jackknife


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

    Gaussians that are fitted to finitely many samples are further apart than their distributions are: n and m samples
    of one d-dimensional N(m, s^2 I) by about s^2 (d + d(d+1)/4) (1/n + 1/m), to second order (d << n, m). Compare
    distances of equally many samples only (Chong and Forsyth 2020). ``frechet_distance_error`` knows nothing of this.

    tr (C1 C2)^1/2 is the sum of the roots of the eigenvalues of the symmetric sqrt(C2) C1 sqrt(C2), which
    exist for singular covariances too. The root of ``real`` is used if it is known.
    """
    root = square_root(real.covariance) if real.root is None else real.root
    overlap = _roots(torch.linalg.eigvalsh(root @ fake.covariance @ root)).sum()
    traces = fake.covariance.trace() + real.covariance.trace()
    return max(0.0, float((fake.mean - real.mean).square().sum() + traces - 2 * overlap))


def frechet_distance_error(fake: Tensor, real: Gaussian) -> float:
    """The standard error of ``frechet_distance(gaussian(fake), real)`` from the samples ``fake (n, d)`` being few.

    Jackknife over B = 10 blocks: with F_j the distance without block j, the squared error is
    (B-1)/B sum_j (F_j - mean F)^2 (Efron and Tibshirani 1993, ch. 11, with blocks in the place of samples). It is
    known to a quarter of itself, as a deviation of ten numbers is: 1/sqrt(2 * 9). Where ``fake`` has the distribution
    of ``real``, the distance is of second order in what differs and the error comes out up to 1.5 times too large.
    Samples are dealt to the blocks at random, so that their order, by class perhaps, is of no account. That ``real``
    is fitted to few samples too is not part of it: that is the same for all that are compared with these.

    There must be at least two samples for each block.
    """
    order = torch.randperm(len(fake), generator=torch.Generator().manual_seed(0)).to(fake.device)
    real, whole = real.with_root(), gaussian(fake)
    parts = [fake[part] for part in order.tensor_split(BLOCKS)]
    distances = [frechet_distance(_without(part, whole, len(fake)), real) for part in parts]
    return math.sqrt(BLOCKS - 1) * statistics.pstdev(distances)


def _without(part: Tensor, whole: Gaussian, n: int) -> Gaussian:
    """The Gaussian of the samples of ``whole``, ``n`` in all, that are not among ``part (k, d)``.

    The scatter about the mean of all is that of the rest, that of the part and, with r = n - k and the means apart
    by D, (k r / n) D D^T (Chan et al. 1983); the mean of the part is (r / n) D away from that of all.
    """
    k, r, own = len(part), n - len(part), gaussian(part)
    away = own.mean - whole.mean
    scatter = (n - 1) * whole.covariance - (k - 1) * own.covariance - k * n / r * torch.outer(away, away)
    return Gaussian(whole.mean - k / r * away, scatter / (r - 1))


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
