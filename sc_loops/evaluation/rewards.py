"""Means and variances of r and of e^r, the quantity of the theory's guarantees."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sc_loops.errors import require
from sc_loops.evaluation.metric import Metric
from sc_loops.samples import Observation, Samples


class RewardStatistics(Metric):
    """Statistics of the column ``reward`` over all samples, of r under ``reward/`` and e^r under ``exp_reward/``:

    ``mean``, ``var`` (of the samples as a population) and ``mean_error``, the standard error of the mean of
    independent samples; ``reward/top_share``, the share of samples with the highest possible reward, where
    that is known. Observes the rewards of the first samples as ``values``, for pictures and for the theory, whose
    recursion starts from them.

    Args:
        limit: the rewards that are kept are those of samples with a number below this.
        supremum: r*, the highest possible reward, where it is known.
        curated: whether these are what came out of the stages; the keys are then ``curated/reward/mean``, ...
    """

    def __init__(self, *, limit: int = 50_000, supremum: float | None = None, curated: bool = False) -> None:
        require(limit >= 1, "limit", limit, "an integer of at least 1")
        self.name = "curated_reward" if curated else "reward"
        self._prefix = "curated/" if curated else ""
        self._limit, self._supremum = limit, supremum

    def observe(self, samples: Samples) -> Observation:
        reward = samples.columns["reward"].cpu().double()
        observed = {
            "moments": torch.stack([moments(reward), moments(reward.exp())]),
            "values": samples.columns["reward"][samples.columns["index"] < self._limit],
        }
        if self._supremum is not None:
            observed["top_count"] = (reward >= self._supremum - slack(self._supremum)).sum()
        return observed

    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        r, exp_r = merged_moments([o["moments"] for o in observations])
        count = float(r[0])
        if count == 0:
            return {}
        found = {**_described("reward", r), **_described("exp_reward", exp_r)}
        if self._supremum is not None:
            found["reward/top_share"] = sum(int(o["top_count"]) for o in observations) / count
        return {self._prefix + key: value for key, value in found.items()}

    def observed_bytes(self, raw: int) -> int:
        return 4 * min(raw, self._limit)


def slack(supremum: float) -> float:
    """How far below r* a reward still counts as the highest: rewards are float32."""
    return 1e-6 * max(1.0, abs(supremum))


def moments(values: Tensor) -> Tensor:
    """``(3,)``: count, mean and sum of squared deviations from the mean, of ``values (N,)`` in float64."""
    mean = values.mean() if len(values) else values.sum()
    return torch.stack([torch.full_like(mean, len(values)), mean, (values - mean).square().sum()])


def merged_moments(parts: Sequence[Tensor]) -> Tensor:
    """The moments of all values together, from ``moments`` ``(..., 3)`` of each part, merged in their order.

    Chan, Golub and LeVeque 1983, Eq. 2.1: no cancellation, as sums of squares would have.
    """
    total = parts[0]
    for part in parts[1:]:
        (n, mean, m2), (k, mean_k, m2_k) = total.unbind(-1), part.unbind(-1)
        count, delta = (n + k).clamp(min=1), mean_k - mean
        total = torch.stack([n + k, mean + delta * k / count, m2 + m2_k + delta**2 * n * k / count], dim=-1)
    return total


def _described(name: str, part: Tensor) -> dict[str, float]:
    count, mean, m2 = part.tolist()
    error = math.sqrt(m2 / (count - 1) / count) if count > 1 else math.nan
    return {f"{name}/mean": mean, f"{name}/var": m2 / count, f"{name}/mean_error": error}
