"""Fréchet distance, precision and recall in a classifier's feature space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.evaluation.distances import distance_blocks, evenly
from sc_loops.evaluation.frechet import BLOCKS, Gaussian, frechet_distance, frechet_distance_error, gaussian
from sc_loops.evaluation.metric import Metric
from sc_loops.networks.classifier import Classifier
from sc_loops.networks.devices import work_device
from sc_loops.samples import Observation, Samples

FEATURES = 512  # about as many as a classifier has, whose number is not known before it is prepared
MOST_FEATURES = 1024  # for the error, which takes eight times as long as the distance: 2 s of one core for so many


class ImageDistances(Metric):
    """``frechet_distance/<features>`` and its standard error ``frechet_distance_error/<features>``,
    ``precision/<features>`` and ``recall/<features>`` of the first samples against the held-out real ones, where
    <features> names the feature space.

    The error is that of finitely many samples; by their number the distance is also too large, which the error does
    not tell (see ``frechet_distance``). It is left out for fewer than 20 samples and for more than 1024 features.

    Precision and recall are of equally many of each, as in Kynkäänniemi et al. 2019. They are nan where these
    are no more than ``neighbours``.

    Args:
        data: whose ``test`` part is compared with.
        classifier: gives the features.
        limit: the samples that are compared are those with a number below this, and as many real ones.
        neighbours: k, the size of the neighbourhoods that make up the support.
    """

    name = "images"

    def __init__(self, data: RealData, classifier: Classifier, *, limit: int = 2000, neighbours: int = 5) -> None:
        require(limit >= 2, "limit", limit, "an integer of at least 2")
        require(neighbours >= 1, "neighbours", neighbours, "an integer of at least 1")
        self._images, self._classifier = evenly(data.test.x, limit), classifier
        self._limit, self._neighbours = limit, neighbours
        self._real_radii: dict[int, Tensor] = {}

    def observe(self, samples: Samples) -> Observation:
        first = samples.columns["index"] < self._limit
        return {"features": self._classifier.features(samples.x[first])}

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        fake = torch.cat([o["features"] for o in observations])
        precision, recall = self._precision_recall(fake)
        space, real = self._classifier.feature_name, self._real_gaussian
        known = len(fake) >= 2 * BLOCKS and fake.shape[1] <= MOST_FEATURES
        error = {f"frechet_distance_error/{space}": frechet_distance_error(fake, real)} if known else {}
        return {
            f"frechet_distance/{space}": frechet_distance(gaussian(fake), real),
            **error,
            f"precision/{space}": precision,
            f"recall/{space}": recall,
        }

    def observed_bytes(self, raw: int) -> int:
        return 4 * FEATURES * min(raw, self._limit)

    @cached_property
    def _real(self) -> Tensor:
        # Where those of the samples are computed, too.
        return self._classifier.features(as_float(self._images).to(work_device())).cpu()

    @cached_property
    def _real_gaussian(self) -> Gaussian:
        return gaussian(self._real).with_root()

    def _precision_recall(self, fake: Tensor) -> tuple[float, float]:
        n = min(len(fake), len(self._real))
        if n <= self._neighbours:
            return math.nan, math.nan
        fake, real = evenly(fake, n), evenly(self._real, n)
        if n not in self._real_radii:
            self._real_radii[n] = neighbour_radii(real, self._neighbours)
        fake_radii = neighbour_radii(fake, self._neighbours)
        return share_within(fake, real, self._real_radii[n]), share_within(real, fake, fake_radii)


def neighbour_radii(points: Tensor, k: int) -> Tensor:
    """``(n,)``: the distance of each of ``points (n, d)`` to its k-th nearest other point (n > k)."""
    return torch.cat([block.kthvalue(k + 1, dim=1).values for block in distance_blocks(points, points)])


def share_within(points: Tensor, centres: Tensor, radii: Tensor) -> float:
    """The share of ``points (n, d)`` in at least one of the balls of ``radii (m,)`` around ``centres (m, d)``.

    Precision for samples in the balls of the real features, recall for real features in the balls of the
    samples (Kynkäänniemi et al. 2019, Eq. 1-2).
    """
    within = [(block <= radii).any(dim=1) for block in distance_blocks(points, centres)]
    return float(torch.cat(within).double().mean())
