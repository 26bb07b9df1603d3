"""``Evaluation``: all that is measured on a generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from sc_loops.curation.reward import Reward
from sc_loops.curation.rewards import BoundedReward, checked
from sc_loops.data.held_pool import HeldPool
from sc_loops.data.pool import Pool
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, RunError, UsageError, blaming, require, within
from sc_loops.evaluation.checked import is_own, observed, summarised
from sc_loops.evaluation.classes import ClassShares
from sc_loops.evaluation.images import ImageDistances
from sc_loops.evaluation.metric import Metric
from sc_loops.evaluation.physical import PhysicalErrorsOfMotions
from sc_loops.evaluation.points import PointDistances
from sc_loops.evaluation.rewards import RewardStatistics
from sc_loops.networks.classifier import Classifier
from sc_loops.randomness import global_generators_kept
from sc_loops.samples import Observation, Samples

TRIED = 100  # held-out samples, or as many as there are


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
        supremum = reward.supremum if isinstance(reward, BoundedReward) else None
        self.samples = samples
        self._curated = RewardStatistics(limit=samples, supremum=supremum, curated=True)
        _check_names(own, self._curated.name)
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
        self._held_out = data.test[:TRIED]
        self._untried = [metric for metric in own if is_own(metric)]

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

    def check_on_samples(self, reward: Reward | None, *, conditional: bool, device: torch.device) -> None:
        """Try the user's metrics once, prepared, on a few held-out samples, which come as they do in the loop.

        Args:
            reward: scores the samples.
            conditional: whether the model is, so that samples have a condition.
            device: of the model.

        Raises:
            UsageError: one fails, or gives what cannot be recorded; the message names its place in the config.
        """
        if not self._untried:
            return
        taken: dict[str, str] = {}
        with torch.no_grad(), global_generators_kept():
            real = self._like_raw(reward, conditional, device)
            for metric in self._untried:
                taken |= dict.fromkeys(self._tried(metric, real, taken), metric.name)
        self._untried = []

    def _like_raw(self, reward: Reward | None, conditional: bool, device: torch.device) -> Samples:
        """Held-out samples as a chunk of raw ones would be."""
        real = self._held_out.to(device).as_float()
        columns = {"index": torch.arange(len(real), device=device)}
        if reward is not None:
            where = f"the reward, tried on {len(real)} held-out samples"
            columns["reward"] = checked(reward, real.x, where, error=UsageError)
        return Samples(real.x, real.condition if conditional else None, columns)

    def _tried(self, metric: Metric, real: Samples, taken: dict[str, str]) -> dict[str, float]:
        """The numbers that ``metric`` gives of ``real``."""
        where = f"{self._places[metric.name]}, tried on {len(real)} held-out samples"
        given = Samples(real.x.clone(), real.condition, dict(real.columns))
        found = observed(metric, given, UsageError, where)
        if not torch.equal(given.x, real.x):
            expected = "samples as they were: the pool keeps them"
            raise UsageError(f"{where}, observe", found="samples changed in place", expected=expected, do="copy them")
        on_cpu = {name: tensor.detach().cpu() for name, tensor in found.items()}
        return summarised(metric, [on_cpu], taken, UsageError, where) if found else {}

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
        """What the metrics, by name, need of a chunk: its raw samples, and what the stages kept of them.

        Raises:
            RunError: a metric fails; the message names it.
        """
        found = {metric.name: observed(metric, raw, RunError) for metric in self.metrics}
        if "reward" in kept.columns:
            found[self._curated.name] = self._curated.observe(kept)
        return found

    def summarise(self, pool: Pool | HeldPool) -> dict[str, float]:
        """The numbers of a generation, from what was observed of its chunks.

        Raises:
            RunError: a metric fails, or gives a key that another gives or a row has of its own; the message names it.
        """
        summary: dict[str, float] = {}
        taken: dict[str, str] = {}
        for metric in [*self.metrics, self._curated]:
            observations = pool.observations(metric.name)
            if observations:
                found = summarised(metric, observations, taken, RunError)
                summary |= found
                taken |= dict.fromkeys(found, metric.name)
        return summary


def _check_names(metrics: Sequence[Metric], curated: str) -> None:
    """Raise ``InvalidValue`` for what is no metric, and for names under which nothing could be stored."""
    for number, metric in enumerate(metrics):
        if not isinstance(metric, Metric):
            found = f"the class {metric.__name__}" if isinstance(metric, type) else f"a {type(metric).__name__}"
            raise InvalidValue(f"metrics.{number}", found=found, expected="an instance of a subclass of Metric")
        word = isinstance(metric.name, str) and metric.name == "".join(metric.name.split()) != ""
        free = word and "/" not in metric.name and metric.name not in ("loop", curated)
        expected = f"a word without /, such as mean_norm; loop and {curated} are the loop's own"
        require(free, f"metrics.{number}", metric.name, expected, f"set name of {type(metric).__name__}")
    names = [metric.name for metric in metrics]
    do = "set self.name in the constructor, where one class is used twice"
    require(len(set(names)) == len(names), "metrics", names, "metrics with different names", do)
