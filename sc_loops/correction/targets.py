"""Distributions that the ideal corrector draws from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require


@runtime_checkable
class Target(Protocol):
    """``(generator, n, condition) -> (n, *shape)``: n draws on the generator's device; ``condition`` is ``(n,)`` or
    None."""

    def __call__(self, generator: torch.Generator, n: int, condition: Tensor | None, /) -> Tensor: ...


class GaussianTarget:
    """N(mean, covariance).

    Args:
        data: for the shape of a sample.
        mean: one number for each coordinate; 0 if not given.
        covariance: symmetric and positive definite; the identity if not given.
    """

    def __init__(
        self, data: RealData, *, mean: list[float] | None = None, covariance: list[list[float]] | None = None
    ) -> None:
        d = torch.Size(data.shape).numel()
        self.shape = data.shape
        self.mean = torch.zeros(d) if mean is None else torch.tensor(mean)
        require(self.mean.shape == (d,), "mean", mean, f"{d} numbers, one for each coordinate")
        rows = torch.eye(d).tolist() if covariance is None else covariance
        square = len(rows) == d and all(len(row) == d for row in rows)
        require(square, "covariance", covariance, f"{d} rows of {d} numbers")
        self.covariance = torch.tensor(rows, dtype=torch.float64)
        expected = "a symmetric, positive definite matrix"
        require(bool((self.covariance == self.covariance.T).all()), "covariance", covariance, expected)
        factor, failed = torch.linalg.cholesky_ex(self.covariance)
        require(not failed and bool(factor.isfinite().all()), "covariance", covariance, expected)
        self._factor = factor.float()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GaussianTarget) and self._moments() == other._moments()

    __hash__ = None  # type: ignore[assignment]

    def _moments(self) -> list[float]:
        return [*self.mean.tolist(), *self.covariance.flatten().tolist()]

    def __call__(self, generator: torch.Generator, n: int, condition: Tensor | None) -> Tensor:
        device = generator.device
        noise = torch.randn(n, len(self.mean), generator=generator, device=device)
        return (self.mean.to(device) + noise @ self._factor.T.to(device)).view(n, *self.shape)


class FittedGaussian(GaussianTarget):
    """The Gaussian of the real training data's mean and (biased) covariance.

    Args:
        data: what it is fitted to.
    """

    def __init__(self, data: RealData) -> None:
        x = as_float(data.train.x).flatten(1).double()
        covariance = torch.atleast_2d(x.T.cov(correction=0))
        try:
            super().__init__(data, mean=x.mean(dim=0).tolist(), covariance=((covariance + covariance.T) / 2).tolist())
        except InvalidValue as error:
            found = f"{len(x)} samples of {x.shape[1]} coordinates, whose covariance is singular"
            raise InvalidValue("target", found=found, expected="more real samples than coordinates") from error


class RealSamples:
    """A real training sample of the same class, or any where there are no classes.

    Args:
        data: whose training part is drawn from, with replacement.
    """

    def __init__(self, data: RealData) -> None:
        self._real = data.train
        labels = data.train.condition
        self._order = None if labels is None else labels.argsort(stable=True)
        self._counts = None if labels is None else labels.bincount(minlength=data.num_classes)

    def __call__(self, generator: torch.Generator, n: int, condition: Tensor | None) -> Tensor:
        device = generator.device
        u = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        if condition is None or self._order is None or self._counts is None:
            index = (u * len(self._real)).long()
        else:
            counts = self._counts.to(device)
            require(bool((counts[condition] > 0).all()), "target", "a class without real samples", "some of each")
            starts = counts.cumsum(0) - counts
            index = self._order.to(device)[starts[condition] + (u * counts[condition]).long()]
        return as_float(self._real.x.to(device)[index])
