"""A loop that is stopped as by a crash, and what two loops have in common if they did the same."""

from __future__ import annotations

from conftest import TinyModel
from torch import Tensor

from sc_loops import Observer, Run


class Stop(BaseException):
    """What ``StopAt`` raises; no ``Exception``, which the loop would take for an observer that fails."""


class StopAt(Observer):
    """Ends the run as a crash would: once ``done`` of a phase are done, or when a generation is finished."""

    def __init__(self, event: str, generation: int, phase: str = "", done: int = 0) -> None:
        self.event, self.at = event, (generation, phase, done)

    def progress(self, generation, phase, done, total, unit) -> None:
        if self.event == "progress" and (generation, phase) == self.at[:2] and done >= self.at[2]:
            raise Stop

    def generation_finished(self, run, row) -> None:
        if self.event == "generation_finished" and row["generation"] == self.at[0]:
            raise Stop


def rows_without_times(run: Run) -> list[dict]:
    """The rows without what depends on the clock."""
    timed = ("seconds/", "samples_per_second/")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in run.rows()]


def pool_bytes(run: Run, generations: int) -> dict[str, bytes]:
    """Every file of the pools of generations 0 to ``generations``."""
    paths = [p for t in range(generations + 1) for p in sorted(run.pool(t).path.iterdir())]
    return {str(p.relative_to(run.path)): p.read_bytes() for p in paths}


def weights(model: TinyModel) -> list[Tensor]:
    """Copies, which later training leaves alone."""
    return [p.detach().clone() for p in model.parameters()]
