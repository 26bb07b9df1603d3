"""``Shelf``: where the pools of a run are, on disk or, of a loop that is quicker than a disk, in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from sc_loops.data.held_pool import HeldPool
from sc_loops.data.pool import Pool
from sc_loops.disk import Keep, Pruner
from sc_loops.errors import RunError
from sc_loops.processes import Processes
from sc_loops.run import Run
from sc_loops.samples import Samples

HOLDING_TO_WRITING = 10  # in time, at least


class Shelf:
    """The pools of ``run``. The newest may be held in memory, where ``keep`` says so; all others are on disk.

    Args:
        run: the run.
        keep: which generations stay, and for how long one may be held.
        generations: the last generation.
    """

    def __init__(self, run: Run, keep: Keep, generations: int) -> None:
        self._run, self._keep, self._generations = run, keep, generations
        self._pruner = Pruner(run, keep)
        self._held: tuple[int, HeldPool] | None = None
        self._hold_until = -math.inf
        self._writing = 0.0  # seconds, of the checkpoint of the newest generation

    @property
    def holds(self) -> bool:
        """Whether the newest pool is in memory."""
        return self._held is not None

    def pool(self, generation: int) -> Pool | HeldPool:
        """The pool of ``generation``, made or not."""
        held = self._held
        return held[1] if held is not None and held[0] == generation else self._run.pool(generation)

    def samples(self, generation: int) -> Samples:
        """Those of the finished pool of ``generation``.

        Raises:
            RunError: there are none.
        """
        pool = self.pool(generation)
        if not len(pool):
            do = "have the stages keep more, or draw more samples with loop.samples"
            where = pool.path if isinstance(pool, Pool) else f"the pool of generation {generation}"
            raise RunError(str(where), found="no samples", expected="samples to train on", do=do)
        return pool.samples()

    def begin(self, generation: int, processes: Processes) -> None:
        """Make place for the pool of ``generation``: in memory, if it would be deleted soon after it was written, the
        last one was written recently, and the one process there is was not asked to stop; else on disk."""
        self._writing = 0.0
        may_hold = processes.world_size == 1 and not processes.stop_requested
        holds = may_hold and monotonic() < self._hold_until
        stays = self._keep.keeps(generation, self._generations)
        self._held = (generation, HeldPool()) if holds and not stays else None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within the context the checkpoint of the generation that was begun is written."""
        start = monotonic()
        yield
        self._writing = monotonic() - start

    def written(self, generation: int, needs: Callable[[int], bool]) -> None:
        """Note that ``generation`` is complete on disk, and delete what is not kept of those before it but for pools
        of which the loop's memory still ``needs`` the samples."""
        self._pruner.prune(generation, needs)
        if self._keep.hold_seconds is not None:
            self._hold_until = monotonic() + max(self._keep.hold_seconds, HOLDING_TO_WRITING * self._writing)
