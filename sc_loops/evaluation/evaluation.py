"""``Evaluation``: all that is measured on a generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import BoundedReward
from sc_loops.data.held_pool import HeldPool
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData
from sc_loops.errors import blaming, require, within
from sc_loops.evaluation.classes import ClassShares
from sc_loops.evaluation.images import ImageDistances
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.physical import PhysicalErrorsOfMotions
from sc_loops.evaluation.points import PointDistances
from sc_loops.evaluation.rewards import RewardStatistics
from sc_loops.networks.classifier import Classifier
from sc_loops.samples import Observation, Samples


class Evaluation:
    """The metrics that suit the data and what else is there, and the user's own.

    Points have energy and Wasserstein distance; motions have physical errors; a classifier adds the shares of the
    classes and, for images, Fréchet distance, precision and recall in its feature space; a reward adds the statistics
    of the raw samples' rewards and of those that came out of the stages with a reward.

    Args:
        data: the real data; held-out samples are what is compared with.
        classifier: gives classes and features.
        reward: has scored the samples.
        samples: metrics whose cost grows with the square of the number of samples see the first so many.
        neighbours: k of precision and recall.
        metrics: further metrics; one with the name of a default takes its place.

    Attributes:
        metrics: all of them.
    """

    def __init__(
        self,
        data: RealData,
        classifier: Classifier | None,
        reward: Reward | None,
        *,
        samples: int = 2000,
        neighbours: int = 5,
        metrics: list[Metric] | None = None,
    ) -> None:
        require(2 <= samples <= 10**5, "samples", samples, "an integer in 2..100000")
        require(neighbours >= 1, "neighbours", neighbours, "an integer of at least 1")
        own = metrics or []
        names = [metric.name for metric in own]
        require(len(set(names)) == len(names), "metrics", names, "metrics with different names")
        supremum = reward.supremum if isinstance(reward, BoundedReward) else None
        self.samples = samples
        self._curated = RewardStatistics(limit=samples, supremum=supremum, curated=True)
        defaults: list[Metric] = []
        if reward is not None:
            defaults.append(RewardStatistics(supremum=supremum))
        if classifier is not None:
            defaults.append(ClassShares(classifier))
        if data.kind == "points":
            defaults.append(PointDistances(data, limit=samples))
        elif data.kind == "motions":
            defaults.append(PhysicalErrorsOfMotions(data, limit=samples))
        elif classifier is not None:
            defaults.append(ImageDistances(data, classifier, limit=samples, neighbours=neighbours))
        self.metrics: list[Metric] = list({metric.name: metric for metric in [*defaults, *own]}.values())
        self._places = {metric.name: f"evaluation.metrics.{number}" for number, metric in enumerate(own)}
        self._has_reward = reward is not None

    def check(self) -> None:
        """Find, before any work is done, what ``prepare`` would fail on.

        Raises:
            UsageError: the message names the place of the metric in the config.
        """
        for metric in self.metrics:
            with self._of(metric):
                metric.check()

    def prepare(self, cache: Path) -> None:
        """Prepare all metrics, with ``cache`` as the directory for what takes long.

        Raises:
            UsageError: a metric cannot be prepared; the message names its place in the config.
        """
        for metric in self.metrics:
            with self._of(metric):
                metric.prepare(cache)

    @contextmanager
    def _of(self, metric: Metric) -> Iterator[None]:
        """Within the context errors are put down to ``metric``."""
        place = self._places.get(metric.name, "evaluation")
        with blaming(place, "a metric that can be prepared"), within(place):
            yield

    def observed_bytes(self, raw: int) -> int:
        """About how many bytes of disk the observations of ``raw`` samples of one generation take."""
        metrics = [*self.metrics, self._curated] if self._has_reward else self.metrics
        return sum(metric.observed_bytes(raw) for metric in metrics)

    def observe(self, raw: Samples, kept: Samples) -> dict[str, Observation]:
        """What the metrics, by name, need of a chunk: its raw samples, and what the stages kept of them."""
        observed = {metric.name: metric.observe(raw) for metric in self.metrics}
        if "reward" in kept.columns:
            observed[self._curated.name] = self._curated.observe(kept)
        return observed

    def summarise(self, pool: Pool | HeldPool) -> dict[str, float]:
        """The numbers of a generation, from what was observed of its chunks."""
        summary: dict[str, float] = {}
        for metric in [*self.metrics, self._curated]:
            observations = pool.observations(metric.name)
            if observations:
                summary |= metric.summarise(observations)
        return summary
