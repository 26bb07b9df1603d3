"""The training losses of one generation, read off the device only now and then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sc_loops.errors import RunError

MOST_BAD = 20  # steps in a row that may be left out: a training that only skips is over


class LossLog:
    """Collects losses on the device; every ``every`` steps, and at the last, reads their mean.

    Reading is the only time that training waits for the device, which a log of every step would make it do
    every step.

    Args:
        where: what the losses are of, for the error message.
        every: steps between two readings.
        reduce: takes the mean over processes, so that all of them see the same.
        skip: leave losses that are not finite out of the means, instead of raising at the first.
    """

    def __init__(
        self,
        where: str,
        *,
        every: int,
        reduce: Callable[[Tensor], Tensor] = lambda mean: mean,
        skip: bool = False,
    ) -> None:
        self._where, self._every, self._reduce, self._skip = where, every, reduce, skip
        self._restored: list[float] = []  # not read yet when the state was saved; the same in all processes
        self._waiting: list[Tensor] = []  # of this process, not read yet
        self._sum, self._counted, self._steps = 0.0, 0, 0
        self._bad = 0  # how many of the last steps, without a finite one between them, were not finite

    def add(self, loss: Tensor, *, last: bool) -> float | None:
        """Take one step's loss; returns the mean of the last few when it is time to read them, else None.

        Raises:
            RunError: a loss is not finite; with ``skip``, none of the last ``MOST_BAD`` and more is.
        """
        self._waiting.append(loss.detach().float())
        if len(self._restored) + len(self._waiting) < self._every and not last:
            return None
        losses = self._unread()
        self._restored, self._waiting = [], []
        self._steps += len(losses)
        good = losses[losses.isfinite()] if self._skip else losses
        mean = float(good.mean())  # NaN if there are none
        self._bad = 0 if math.isfinite(mean) else self._bad + len(losses)
        if self._bad >= (MOST_BAD if self._skip else 1):
            raise RunError(
                f"{self._where}, steps {self._steps - len(losses) + 1} to {self._steps}",
                found=f"a loss of {mean}",
                expected="finite losses",
                do="lower the learning rate, clip gradients (trainer.gradient_clip_val) or set loop.nonfinite=skip",
            )
        self._sum += mean * len(good) if len(good) else 0.0
        self._counted += len(good)
        return mean

    @property
    def mean(self) -> float:
        """The mean over all steps read so far."""
        return self._sum / max(1, self._counted)

    def state_dict(self) -> dict[str, Any]:
        """Numbers from which another log goes on to the same means. To be called in all processes at once."""
        return {
            "waiting": self._unread().tolist(),
            "sum": self._sum,
            "counted": self._counted,
            "steps": self._steps,
            "bad": self._bad,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._restored, self._waiting = list(state["waiting"]), []
        self._sum, self._counted, self._steps = state["sum"], state["counted"], state["steps"]
        self._bad = state["bad"]

    def _unread(self) -> Tensor:
        """The losses of the steps since the last reading, each the mean over processes."""
        if not self._waiting:
            return torch.tensor(self._restored)
        losses = self._over_processes(torch.stack(self._waiting))
        return torch.cat([losses.new_tensor(self._restored), losses])

    def _over_processes(self, losses: Tensor) -> Tensor:
        if not self._skip:
            return self._reduce(losses)
        finite = losses.isfinite()
        sums, counts = self._reduce(torch.stack([losses.where(finite, 0.0), finite.float()]))
        return sums / counts  # NaN for a step without a finite loss
