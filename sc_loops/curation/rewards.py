"""The rewards of Ferbach et al. 2024 (arXiv 2407.09499, section 4), and the check of any reward's values."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from sc_loops.curation.reward import Reward
from sc_loops.data.pixels import as_float
from sc_loops.data.real import RealData
from sc_loops.errors import Complaint, UsageError, require
from sc_loops.networks.classifier import Classifier
from sc_loops.randomness import global_generators_kept, seed_global


@runtime_checkable
class BoundedReward(Reward, Protocol):
    """A reward whose supremum r* is known: the bound of the theory, and the value that curation tends to."""

    supremum: float


class ClippedDistance:
    """r(x) = -scale max(0, ||x - center|| - radius), at most 0. Ferbach et al. 2024, section 4.

    All points within ``radius`` of the centre are equally good, so that curation tends to the data restricted
    to that ball and not to a point.

    Args:
        center: one number for each coordinate of a sample, in the data set's units.
        radius: of the ball without loss, in the same units.
        scale: the loss of reward per unit of distance.
    """

    supremum = 0.0

    def __init__(self, *, center: list[float], radius: float = 1.0, scale: float = 10.0) -> None:
        finite = len(center) > 0 and all(map(math.isfinite, center))
        require(finite, "center", center, "one number for each coordinate")
        require(0 <= radius < math.inf, "radius", radius, "a number >= 0")
        require(0 < scale < math.inf, "scale", scale, "a number > 0")
        self.center, self.radius, self.scale = torch.tensor(center, dtype=torch.float32), radius, scale

    def __call__(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if x.shape[1] != len(self.center):
            raise ValueError(f"center has {len(self.center)} coordinates, a sample has {x.shape[1]}")
        distance = torch.linalg.vector_norm(x - self.center.to(x.device), dim=1)
        return -self.scale * (distance - self.radius).clamp(min=0)


class ClassProbability:
    """r(x) = scale q_target(x), in [0, scale]. Ferbach et al. 2024, section 4.

    Args:
        classifier: gives the class probabilities q.
        target: the number of the class to prefer.
        scale: the reward of certainty.
    """

    def __init__(self, classifier: Classifier, *, target: int, scale: float = 5.0) -> None:
        names = classifier.class_names
        known = ", ".join(f"{k} ({name})" for k, name in enumerate(names))
        require(0 <= target < len(names), "target", target, f"the number of a class: {known}")
        require(0 < scale < math.inf, "scale", scale, "a number > 0")
        self.classifier, self.target, self.scale = classifier, target, scale
        self.supremum = float(scale)

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * self.classifier.probabilities(x)[:, self.target]


class ClassifierConfidence:
    """r(x) = scale max_i q_i(x), in [scale / classes, scale]. Ferbach et al. 2024, section 4.

    Args:
        classifier: gives the class probabilities q.
        scale: the reward of certainty.
    """

    def __init__(self, classifier: Classifier, *, scale: float = 5.0) -> None:
        require(0 < scale < math.inf, "scale", scale, "a number > 0")
        self.classifier, self.scale = classifier, scale
        self.supremum = float(scale)

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * self.classifier.probabilities(x).amax(dim=1)


def check_reward(reward: Reward, data: RealData) -> None:
    """Try ``reward`` on a few real samples. Raises ``UsageError`` where it fails on them."""
    with global_generators_kept():
        seed_global(0, "trial")
        checked(reward, as_float(data.train.x[:8]), "the reward, tried on 8 real samples", error=UsageError)


def checked(reward: Reward, x: Tensor, where: str, error: type[Complaint]) -> Tensor:
    """The rewards ``(N,)`` float32 of ``x (N, *shape)``, computed without gradients, known to be finite.

    Args:
        reward: any callable.
        x: what a copy of is given to it, so that it may change that in place.
        where: what the message names as its place.
        error: raised when the reward raises (which it is chained to) or returns something else:
            ``UsageError`` before a run, ``RunError`` within.
    """
    expected = f"finite numbers of shape ({len(x)},) for samples of shape {tuple(x.shape)}"
    do = "a reward maps (N, *shape) to (N,)"
    try:
        with torch.no_grad():
            values = reward(x.clone())
    except Exception as problem:
        found = f"it raised {type(problem).__name__}: {problem}"
        raise error(where, found=found, expected=expected, do=do) from problem
    if not isinstance(values, Tensor):
        raise error(where, found=f"a {type(values).__name__}", expected=expected, do=do)
    if values.shape != (len(x),) or not values.is_floating_point():
        found = f"shape {tuple(values.shape)} of {values.dtype}"
        raise error(where, found=found, expected=expected, do=do)
    values = values.float()
    if not bool(values.isfinite().all()):
        found = f"{int((~values.isfinite()).sum())} of {len(x)} are NaN or infinite"
        raise error(where, found=found, expected=expected, do=do)
    return values
