"""Distances between the distributions of two sets of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.evaluation.distances import distance_blocks, evenly
from sc_loops.evaluation.metric import Metric
from sc_loops.samples import Observation, Samples


class PointDistances(Metric):
    """``energy_distance`` and ``wasserstein_2`` of the first samples to the held-out real ones.

    Both are in float64. The Wasserstein distance is between equally many of each, as many as there are and no
    more than ``limit``; it is biased upwards by their being few, about equally in all generations.

    Args:
        data: whose ``test`` part is compared with.
        limit: the samples that are compared are those with a number below this.
    """

    name = "points"

    def __init__(self, data: RealData, *, limit: int = 2000) -> None:
        require(limit >= 2, "limit", limit, "an integer of at least 2")
        self._real, self._limit = data.test.x.flatten(1).double(), limit

    def observe(self, samples: Samples) -> Observation:
        return {"x": samples.x[samples.columns["index"] < self._limit].flatten(1)}

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        x, real = torch.cat([o["x"] for o in observations]).double(), self._real
        n = min(self._limit, len(x), len(real))
        return {
            "energy_distance": energy_distance(x, real, self._spread),
            "wasserstein_2": wasserstein_2(evenly(x, n), evenly(real, n)),
        }

    def observed_bytes(self, raw: int) -> int:
        return 4 * self._real.shape[1] * min(raw, self._limit)

    @cached_property
    def _spread(self) -> float:
        return mean_distance_within(self._real)


def energy_distance(x: Tensor, y: Tensor, spread_of_y: float | None = None) -> float:
    """2 E||X - Y|| - E||X - X'|| - E||Y - Y'|| (Székely and Rizzo 2013, Eq. 1), without a square root.

    The unbiased estimate, which leaves out the pairs of a point with itself: 0 in expectation for two samples
    of one distribution, whatever their sizes, so it may be slightly negative. ``(n, d)``, ``(m, d)``; nan
    where n or m is below 2. ``spread_of_y``, E||Y - Y'||, may be given where it is known.
    """
    spread_of_y = mean_distance_within(y) if spread_of_y is None else spread_of_y
    return 2 * mean_distance(x, y) - mean_distance_within(x) - spread_of_y


def mean_distance(x: Tensor, y: Tensor) -> float:
    """The mean Euclidean distance over all n m pairs."""
    return float(sum(block.sum() for block in distance_blocks(x, y))) / (len(x) * len(y))


def mean_distance_within(x: Tensor) -> float:
    """The mean Euclidean distance over the n (n - 1) pairs of different points."""
    n = len(x)
    return mean_distance(x, x) * n / (n - 1) if n > 1 else math.nan


def wasserstein_2(x: Tensor, y: Tensor) -> float:
    """The exact Wasserstein-2 distance between n and n points of equal weight: the root of the least mean
    squared distance over all pairings (Peyré and Cuturi 2019, Eq. 2.14)."""
    import ot  # takes a second to import

    cost = torch.cat(list(distance_blocks(x, y))).square()
    return math.sqrt(max(0.0, float(ot.emd2([], [], cost.numpy(), numItermax=10_000_000))))
