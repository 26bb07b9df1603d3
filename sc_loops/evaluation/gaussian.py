"""The distance of a Gaussian model to a Gaussian target, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sc_loops.correction.targets import GaussianTarget
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.evaluation.frechet import Gaussian as Moments
from sc_loops.evaluation.frechet import frechet_distance
from sc_loops.evaluation.metric import Metric
from sc_loops.models.base import GenerativeModel
from sc_loops.models.gaussian import Gaussian
from sc_loops.samples import Observation, Samples


class GaussianDistance(Metric):
    """``wasserstein_2/gaussian``, the Wasserstein-2 distance of Gaussians, the root of
    ||m - m*||^2 + tr(C + C* - 2 (C C*)^1/2) (Dowson and Landau 1982), ``mean_square/gaussian``, ||m - m*||^2, and
    ``covariance_trace/gaussian``, tr C.

    m and C are the model's own, so nothing here has the error of few samples. m* and C* are the target's. Among the
    metrics of points this one takes the place of the empirical distances.

    Args:
        model: the Gaussian model that is measured.
        data: for the shape of a sample.
        mean: of the target; 0 if not given.
        covariance: of the target; the identity if not given.
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
        if not isinstance(model, Gaussian):
            found = f"gaussian_distance, of a {type(model).__name__}"
            raise InvalidValue("name", found=found, expected="another metric, or the model gaussian")
        self._model = model
        self.target = GaussianTarget(data, mean=mean, covariance=covariance)
        self._moments = Moments(self.target.mean.double(), self.target.covariance).with_root()

    def observe(self, samples: Samples) -> Observation:
        return {"mean": self._model.mean.cpu(), "covariance": self._model.covariance.cpu()}

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        found = Moments(observations[0]["mean"], observations[0]["covariance"])
        return {
            "wasserstein_2/gaussian": math.sqrt(frechet_distance(found, self._moments)),
            "mean_square/gaussian": float((found.mean - self._moments.mean).square().sum()),
            "covariance_trace/gaussian": float(found.covariance.trace()),
        }
