"""The distance of a model that knows its mean and covariance to a Gaussian target, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from sc_loops.correction.targets import GaussianTarget
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.evaluation.frechet import Gaussian as Moments
from sc_loops.evaluation.frechet import frechet_distance
from sc_loops.evaluation.metric import Metric
from sc_loops.models.base import GenerativeModel
from sc_loops.models.moments import MomentModel
from sc_loops.samples import Observation, Samples

KEYS = ("wasserstein_2", "mean_square", "covariance_trace")


class GaussianDistance(Metric):
    """``wasserstein_2/gaussian``, the Wasserstein-2 distance of Gaussians, the root of
    ||m - m*||^2 + tr(C + C* - 2 (C C*)^1/2) (Dowson and Landau 1982), ``mean_square/gaussian``, ||m - m*||^2, and
    ``covariance_trace/gaussian``, tr C.

    m and C are the model's own, so nothing here has the error of few samples. m* and C* are the target's. Among the
    metrics of points this one takes the place of the empirical distances. A KDE is measured as the Gaussian with its
    moments: its distance is at least that.

    Of a model with R > 1 replicas each is the mean over them, beside its standard error, as
    ``covariance_trace_error/gaussian``, and ``covariance_trace_median/gaussian`` is the median of their traces: where
    a loop loses its variance, the mean is that of the few replicas that have not yet. With ``accumulate_subsample``
    replicas share which items are drawn, and the error does not tell of the scatter of that draw: use several seeds.

    Args:
        model: ``gaussian`` or ``kde``.
        data: for the shape of a sample.
        mean: of the target, of one replica; 0 if not given.
        covariance: of the target, of one replica; the identity if not given.
    """

    name = "points"

    def __init__(
        self,
        model: GenerativeModel,
        data: RealData,
        *,
        mean: list[float] | None = None,
        covariance: list[list[float]] | None = None,
    ) -> None:
        if not isinstance(model, MomentModel):
            found = f"gaussian_distance, of a {type(model).__name__}"
            raise InvalidValue("name", found=found, expected="another metric, or the model gaussian or kde")
        self._model = model
        self.target = GaussianTarget(of_one_replica(data, model), mean=mean, covariance=covariance)
        self._moments = Moments(self.target.mean.double(), self.target.covariance).with_root()

    def observed_bytes(self, raw: int) -> int:
        d = self._model.dimensions
        return 8 * (d * d + d if self._model.replicas == 1 else len(KEYS) * self._model.replicas)

    def observe(self, samples: Samples) -> Observation:
        """With the first chunk alone: of one replica its moments; of several, what is measured of each."""
        if len(samples) and samples.columns["index"][0]:
            return {}
        mean, covariance = (m.cpu() for m in self._model.moments())
        if self._model.replicas == 1:
            return {"mean": mean[0], "covariance": covariance[0]}
        each = [self._measured(Moments(*one)) for one in zip(mean, covariance, strict=True)]
        return dict(zip(KEYS, torch.tensor(each, dtype=torch.float64).T.contiguous(), strict=True))

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        first = observations[0]
        if "mean" in first:
            found = self._measured(Moments(first["mean"], first["covariance"]))
            return {f"{key}/gaussian": value for key, value in zip(KEYS, found, strict=True)}
        means = {f"{key}/gaussian": float(first[key].mean()) for key in KEYS}
        errors = {f"{key}_error/gaussian": float(first[key].std()) / math.sqrt(len(first[key])) for key in KEYS}
        return {**means, **errors, "covariance_trace_median/gaussian": float(first["covariance_trace"].quantile(0.5))}

    def _measured(self, found: Moments) -> tuple[float, float, float]:
        """The values of ``KEYS``."""
        distance = math.sqrt(frechet_distance(found, self._moments))
        return distance, float((found.mean - self._moments.mean).square().sum()), float(found.covariance.trace())


def of_one_replica(data: RealData, model: MomentModel) -> RealData:
    """``data`` with the coordinates of the first replica alone; of one replica, ``data`` itself."""
    if model.replicas == 1:
        return data
    train, test = (Samples(s.x.flatten(1)[:1, : model.dimensions]) for s in (data.train, data.test))
    return replace(data, train=train, test=test, fresh=None, rows=None)
