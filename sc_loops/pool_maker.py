"""From a trained generation to its pool and row: ranks make their chunks, and every node ends with all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import torch

from sc_loops.data.held_pool import HeldPool
from sc_loops.data.pool import Chunk, Pool
from sc_loops.errors import RunError
from sc_loops.exchange import fetch
from sc_loops.improving.together import Improving
from sc_loops.models.base import GenerativeModel
from sc_loops.networks.devices import working_on
from sc_loops.processes import Processes
from sc_loops.run import Row
from sc_loops.samples import Observation, Samples
from sc_loops.synthesis import Stopwatch, Synthesis

Tell = Callable[[str, int, int], None]  # of a phase, and how many of how many samples are done


class PoolMaker:
    """Makes what of ``pool`` is not there yet. All processes make it together."""

    def __init__(
        self,
        pool: Pool | HeldPool,
        chunks: Sequence[Chunk],
        synthesis: Synthesis,
        improving: Improving,
        processes: Processes,
    ) -> None:
        self._pool, self._chunks, self._synthesis, self._processes = pool, list(chunks), synthesis, processes
        self._improving, self._clock = improving, Stopwatch()
        self._improved: Row = {}
        self._device = torch.device("cpu")  # that of the model

    def make(self, model: GenerativeModel, generation: int, *, preview: int, tell: Tell) -> bool:
        """Sample the averaged weights of ``model``, improved where the loop does that, and finish the pool; whether
        there was anything to make.

        Raises:
            Stopped: a signal asked for it; the present chunk is finished.
            RunError: the processes do not sample the same model.
        """
        self._device = model.device
        improved = self._improving.of(model, generation, self._synthesis, tell)
        with working_on(self._device), improved as self._improved:
            weights = model.weights_digest()
            self._require_one_model(weights, generation)
            made = self._processes.decided(lambda: not self._pool.is_of(weights))
            if made:
                self._fill(model, generation, weights, preview, tell)
                self._processes.meet()
                self._share(weights)
                if self._processes.local_rank == 0:
                    self._pool.finish(generation, self._chunks, weights=weights)
        return made

    def row(self, generation: int, training_row: Row) -> Row:
        """All that is recorded of a generation, once ``make`` is done: its training, its pool, what was measured, and
        the time it took."""
        clock, raw = self._clock, self._pool.manifest["raw"]
        with clock("evaluating"), working_on(self._device):
            metrics = self._synthesis.summarise(self._pool)
        evaluations = sum(int(o["network_evaluations"]) for o in self._pool.observations("loop"))
        before = training_row.get("seconds/training", 0.0) + self._improved.get("seconds/improving", 0.0)
        return {
            "generation": generation,
            **training_row,
            "samples": raw,
            "pool_items": len(self._pool),
            "nfe": evaluations / raw,
            **self._improved,
            **metrics,
            **{f"seconds/{phase}": spent for phase, spent in clock.seconds.items()},
            "seconds/total": before + sum(clock.seconds.values()),
            **{f"samples_per_second/{p}": clock.samples / s for p, s in clock.seconds.items() if clock.samples and s},
        }

    def _require_one_model(self, weights: str, generation: int) -> None:
        """Raise ``RunError`` where a process has other weights than rank 0, which wrote the checkpoint: no chunk of
        theirs could be made again."""
        if weights != self._processes.decided(lambda: weights):
            raise RunError(
                f"the model of generation {generation}",
                found=f"rank {self._processes.rank} has other weights, average or buffers than rank 0",
                expected="one model in all processes",
                do="train weights through loss() and its gradients, which are exchanged, and keep what else training "
                "changes in buffers; or give trainer.devices=1",
            )
        self._processes.meet()

    def _fill(self, model: GenerativeModel, generation: int, weights: str, preview: int, tell: Tell) -> None:
        """Make this rank's chunks that are not there yet; rank 0 the preview too."""
        clock = self._clock
        rank, world_size, started = self._processes.rank, self._processes.world_size, perf_counter()
        done, total = 0, sum(chunk.size for chunk in self._chunks[rank::world_size])

        def make(chunk: Chunk) -> tuple[Samples, dict[str, Observation]]:
            clock.samples += chunk.size
            return self._synthesis.make(model, generation, chunk, clock)

        def began(phase: str) -> None:
            self._processes.advance()
            tell(phase, done, total)

        clock.on_start = began
        with model.averaged():
            if rank == 0 and not self._pool.has_preview(weights):
                with clock("sampling"):
                    assert isinstance(self._pool, Pool)
                    self._pool.write_preview(self._synthesis.preview(model, generation, preview), weights)
            for chunk in self._pool.fill(
                self._chunks,
                make,
                weights=weights,
                rank=rank,
                world_size=world_size,
                keep_going=self._processes.check_stop,
            ):
                done += chunk.size
                tell("writing", done, total)
        clock.seconds["writing"] = perf_counter() - started - sum(clock.seconds.values())

    def _share(self, weights: str) -> None:
        """Fetch what other nodes made, where this node does not see it."""
        if self._processes.world_size == 1:
            return
        pool = self._pool
        assert isinstance(pool, Pool)
        lacking = [name for c in self._chunks if not pool.is_there(c, weights) for name in pool.names(c)]
        fetch(pool.path, lacking + ["preview.safetensors"] * (not pool.has_preview(weights)), self._processes)
