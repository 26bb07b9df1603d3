"""``Improving``: the improvement of one generation in a run, by all of its processes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from sc_loops.exchange import fetch
from sc_loops.improving.auxiliary import SelfSynthesis
from sc_loops.improving.improvement import Improvement
from sc_loops.models.base import GenerativeModel
from sc_loops.processes import Processes
from sc_loops.run import Row, Run
from sc_loops.synthesis import Synthesis

Tell = Callable[[str, int, int], None]


class Improving:
    """How the models of ``run`` are improved before they are sampled.

    Args:
        improvement: what is done to them; None leaves them as they are.
        run: keeps the auxiliary of each generation, which one process makes and all read.
        chunk_size: samples made at once.
        processes: of the run.
    """

    def __init__(self, improvement: Improvement | None, run: Run, chunk_size: int, processes: Processes) -> None:
        self._improvement, self._run, self._chunk_size, self._processes = improvement, run, chunk_size, processes

    @contextmanager
    def of(self, model: GenerativeModel, generation: int, synthesis: Synthesis, tell: Tell) -> Iterator[Row]:
        """Within the context the trained ``model`` of ``generation`` is sampled improved; what is to be recorded of
        it is given.

        Raises:
            Stopped: a signal asked for it. What is made of the improvement is lost.
            RunError: see ``Improvement.prepare`` and ``applied``.
        """
        if self._improvement is None:
            yield {}
            return
        row = self._prepare(self._improvement, model, generation, synthesis, tell)
        with self._improvement.applied(model):
            yield row

    def _prepare(
        self, improvement: Improvement, model: GenerativeModel, generation: int, synthesis: Synthesis, tell: Tell
    ) -> Row:
        path, processes, started = self._run.improvement(generation), self._processes, perf_counter()

        def got_on(phase: str, done: int, total: int) -> None:
            processes.advance()
            tell(phase, done, total)
            processes.check_stop()  # the others wait for this process, and not in a collective

        how = SelfSynthesis(
            seed=synthesis.seed,
            generation=generation,
            chunk_size=self._chunk_size,
            draw=lambda chunk, generator: synthesis.draw_conditions(model, generation, chunk, generator),
            tell=got_on,
        )
        row: Row = {}
        if processes.rank == 0:
            row = improvement.prepare(model, path, synthesis.evaluation, how)
        if processes.world_size > 1:
            processes.meet()
            missing = processes.local_rank == 0 and not improvement.is_made(model, path, how)
            fetch(self._run.path, [str(path.relative_to(self._run.path))] * missing, processes)
            processes.meet()  # the other processes of a node read what its first one fetched
        if processes.rank > 0:
            row = improvement.prepare(model, path, synthesis.evaluation, how)
        return {**row, "seconds/improving": perf_counter() - started}
