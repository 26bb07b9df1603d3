"""``Stage``: one transformation between sampling and the pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from sc_loops.curation.reward import Reward
from sc_loops.samples import Samples


class Stage(ABC):
    """A callable from Samples and a random generator to Samples, applied to one chunk at a time.

    A plain function of the same signature that keeps the number of samples is a stage too; a class is
    needed only to say how many come out, so that the loop can draw as many samples as the pool needs.

    Attributes:
        fewest: the fewest samples that a chunk may hold.
    """

    fewest: int = 1

    @abstractmethod
    def __call__(self, samples: Samples, generator: torch.Generator) -> Samples:
        """Transform one chunk. ``generator`` lives on the device of ``samples``."""

    def prepare(self, total: int | None, scored_by: Reward | None) -> None:  # noqa: B027 (most need none)
        """Called once before the loop starts.

        Args:
            total: the number of raw samples of a generation where the config gives one, else None.
            scored_by: the reward whose scores the raw samples carry as the column ``reward``, if any.
        """

    def outputs(self, inputs: int) -> int:
        """How many samples come out of a chunk of ``inputs``."""
        return inputs

    def inputs(self, outputs: int) -> int:
        """The fewest samples that must go in for ``outputs`` to come out."""
        return outputs


StageLike = Stage | Callable[[Samples, torch.Generator], Samples]


def outputs_of(stages: Sequence[StageLike], inputs: int) -> int:
    """How many of ``inputs`` raw samples come out of all ``stages``."""
    for stage in stages:
        inputs = stage.outputs(inputs) if isinstance(stage, Stage) else inputs
    return inputs


def can_take(stages: Sequence[StageLike], inputs: int) -> bool:
    """Whether a chunk of ``inputs`` raw samples is large enough for each of ``stages`` in turn."""
    for number, stage in enumerate(stages):
        if isinstance(stage, Stage) and outputs_of(stages[:number], inputs) < stage.fewest:
            return False
    return True


def inputs_of(stages: Sequence[StageLike], outputs: int) -> int:
    """The fewest raw samples of which ``outputs`` come out of all ``stages``."""
    for stage in reversed(stages):
        outputs = stage.inputs(outputs) if isinstance(stage, Stage) else outputs
    return outputs
