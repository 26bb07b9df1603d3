"""``Observer``: whoever wants to know what the loop is doing. The loop itself never asks who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sc_loops.run import Row, Run


class Observer:
    """Methods that the loop calls on rank 0, each doing nothing here; override those of interest.

    Pictures, histograms and curves are read from the run directory, so an observer can be added to a run
    that is half done, and everything it shows can be drawn again.
    """

    def run_started(self, run: Run, generations: int, start: int) -> None:
        """The loop starts at generation ``start`` and ends after generation ``generations``. What is constant
        over the run is in ``run.facts()``."""

    def progress(self, generation: int, phase: str, done: int, total: int, unit: str) -> None:
        """``phase`` is training, sampling, scoring, curating, writing or evaluating, or of an improvement
        self-synthesis, auxiliary or search; ``done`` of ``total`` ``unit`` (steps or samples) are behind it.
        Called often; must be cheap. The phases of a chunk follow one another, so done and total of sampling to
        writing count samples over the whole generation."""

    def training_row(self, run: Run, row: Row) -> None:
        """A row of ``Run.training_rows()`` was recorded."""

    def generation_finished(self, run: Run, row: Row) -> None:
        """The row of a generation was recorded and its pool is on disk."""

    def run_finished(self, run: Run) -> None:
        """The last generation is done. Not called when the run ends early."""

    def closed(self) -> None:
        """The run ended, in whatever way. Called once, always."""
