"""How far the training of one generation is, and what the processes agree to do about it."""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy

from sc_loops.models.losses import LossLog
from sc_loops.processes import Processes


class TrainingProgress:
    """The losses of a generation's training, its time, and when it is saved or stopped.

    Args:
        generation: that is trained.
        processes, strategy: for what several processes decide together.
        log_every: steps between two readings of the loss.
        checkpoint_steps, checkpoint_minutes: when a checkpoint is due; None where never.
        skip: whether steps with numbers that are not finite are left out.
        resumed: the ``state_dict`` of the progress that was interrupted, if one was.
    """

    def __init__(
        self,
        generation: int,
        processes: Processes,
        strategy: Strategy,
        *,
        log_every: int,
        checkpoint_steps: int | None,
        checkpoint_minutes: float | None,
        skip: bool,
        resumed: dict[str, Any] | None,
    ) -> None:
        where = f"the training loss of generation {generation}"
        self.losses = LossLog(where, every=log_every, reduce=strategy.reduce, skip=skip)
        self._processes, self._strategy, self._log_every = processes, strategy, log_every
        self._steps, self._minutes = checkpoint_steps, checkpoint_minutes
        self._started = perf_counter()
        if resumed is not None:
            self.losses.load_state_dict(resumed["losses"])
            self._started -= resumed["seconds"]
        done = 0 if resumed is None else int(resumed["step"])
        self._asked, self._ask_next = (done, monotonic()), done + 1
        self.saved()

    @property
    def seconds(self) -> float:
        """Spent on the training so far, in this process and in those that were interrupted."""
        return perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps. Called by all processes at once."""
        return {"losses": self.losses.state_dict(), "seconds": self.seconds}

    def saved(self) -> None:
        """Note that a checkpoint was written just now."""
        self._saved_at = monotonic()

    def agreed(self, done: int) -> tuple[bool, bool]:
        """Whether to stop, and whether to write a checkpoint, after step ``done``: the same on all ranks."""
        stop, late = self._asked_for(done)
        return stop, stop or late or (self._steps is not None and done % self._steps == 0)

    def _asked_for(self, done: int) -> tuple[bool, bool]:
        """Whether a signal came to any rank, and whether rank 0's clock says that a checkpoint is due.

        Several ranks ask one another in the first step, and then about once a second.
        """
        stop, late = self._processes.stop_requested, self._is_late()
        if self._processes.world_size == 1:
            return stop, late
        if done < self._ask_next and done % self._log_every:
            return False, False
        steps, seconds = done - self._asked[0], monotonic() - self._asked[1]
        votes = torch.tensor([stop, late, seconds / max(1, steps)], device=self._strategy.root_device)
        stops, lates, pace = self._strategy.reduce(votes, reduce_op="sum").tolist()
        self._asked = (done, monotonic())
        self._ask_next = done + max(1, int(self._processes.world_size / max(pace, 1e-3)))
        return stops > 0, lates > 0

    def _is_late(self) -> bool:
        """Whether, on rank 0, the last checkpoint is too long ago."""
        minutes = self._minutes
        return minutes is not None and self._processes.rank == 0 and monotonic() - self._saved_at > 60 * minutes
