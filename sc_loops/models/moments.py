"""``MomentModel``: a model in closed form that knows its mean and covariance, one or many replicas of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sc_loops.data.real import RealData
from sc_loops.errors import require
from sc_loops.models.closed_form import ClosedFormModel


class MomentModel(ClosedFormModel):
    """A model in closed form that knows its mean and covariance.

    With R replicas the D coordinates of an item are R groups of d = D/R. Each group is fitted and sampled by itself,
    so that one run is R independent loops of d dimensions, as R seeds would be. Which items are trained on is the
    same in all of them: where memory draws at random, with ``accumulate_subsample``, replicas share that draw.

    Args:
        data: for the shape of an item, whose coordinates are flattened.
        replicas: R, which divides D.
    """

    def __init__(self, data: RealData, replicas: int) -> None:
        super().__init__()
        coordinates = torch.Size(data.shape).numel()
        divides = replicas >= 1 and coordinates % replicas == 0
        expected = f"a divisor of {coordinates}, the coordinates of an item, which are R d for R replicas"
        require(divides, "replicas", replicas, expected, "for points of d dimensions set data.dimensions to R d")
        self._shape, self.replicas, self.dimensions = data.shape, replicas, coordinates // replicas

    @staticmethod
    def check(model: object, stages: Sequence[object]) -> None:
        """Raise ``InvalidValue`` for replicas with stages: these see whole items, and would tie replicas together."""
        replicas = model.replicas if isinstance(model, MomentModel) else 1
        found = f"{len(stages)}, of a model with {replicas} replicas"
        expected = "none: a stage sees all R d coordinates of an item, and would tie the replicas together"
        do = "set model.replicas=1, and use several --seeds"
        require(replicas == 1 or not stages, "stages", found, expected, do)

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean ``(R, d)`` and the covariance ``(R, d, d)`` of what the model stands for, without sampling bias;
        float64."""

    def _each(self, x: Tensor) -> Iterator[Tensor]:
        """Of the items ``(N, *shape)`` those of each replica, ``(N, d)`` float64. One at a time takes a third of the
        time of a batch of all, where items are many, since it fits into a cache."""
        for part in x.flatten(1).split(self.dimensions, dim=1):
            yield part.double()
