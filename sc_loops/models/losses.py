"""The training losses of one generation, read off the device only now and then."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sc_loops.errors import RunError


class LossLog:
    """Collects losses on the device; every ``every`` steps, and at the last, reads their mean.

    Reading is the only time that training waits for the device, which a log of every step would make it do
    every step. ``reduce`` takes the mean over processes, so that all of them see the same.
    """

    def __init__(self, where: str, *, every: int, reduce: Callable[[Tensor], Tensor] = lambda mean: mean) -> None:
        self._where, self._every, self._reduce = where, every, reduce
        self._waiting: list[Tensor] = []
        self._sum, self._steps = 0.0, 0

    def add(self, loss: Tensor, *, last: bool) -> float | None:
        """Take one step's loss; returns the mean of the last few when it is time to read them, else None.

        Raises:
            RunError: a loss is not finite.
        """
        self._waiting.append(loss.detach())
        if len(self._waiting) < self._every and not last:
            return None
        losses = torch.stack(self._waiting).float()
        self._waiting = []
        mean = float(self._reduce(losses.mean()))
        self._sum += mean * len(losses)
        self._steps += len(losses)
        if not math.isfinite(mean):
            raise RunError(
                f"{self._where}, steps {self._steps - len(losses) + 1} to {self._steps}",
                found=f"a loss of {mean}",
                expected="finite losses",
                do="lower the learning rate or clip gradients (trainer.gradient_clip_val)",
            )
        return mean

    @property
    def mean(self) -> float:
        """The mean over all steps read so far."""
        return self._sum / max(1, self._steps)
