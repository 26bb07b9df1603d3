"""``Metric``: something measured on the raw samples of a generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from sc_loops.samples import Observation, Samples


class Metric(ABC):
    """Measured in two steps, so that it streams, survives a kill and does not depend on who made which chunk.

    ``observe`` looks at one chunk and returns small tensors, which are written to disk beside the chunk.
    ``summarise`` reads the observations of all chunks, in order, and returns the generation's numbers. What
    an observation holds must not grow with the chunk unless it is limited (``columns["index"] < limit``).
    """

    name: str

    def check(self) -> None:  # noqa: B027 (most need none)
        """Find, before any work is done, what ``prepare`` would fail on.

        Raises:
            UsageError: something that is needed is not there.
        """

    def prepare(self, cache: Path) -> None:  # noqa: B027 (most metrics have nothing to prepare)
        """Do the expensive part (loading weights, measuring the real data) once, before the loop starts.

        What takes long is kept in the directory ``cache``, where later runs find it, and the other processes, which
        are prepared after the first. A metric that is used without ``prepare`` does without the cache.

        Raises:
            InvalidValue: an option cannot be used after all; the config's path is put in front of it.
        """

    def observed_bytes(self, raw: int) -> int:
        """About how many bytes of disk the observations of ``raw`` samples take, beyond what each chunk takes.

        0 where that is little. It is asked before ``prepare``, to tell what a run will take.
        """
        return 0

    @abstractmethod
    def observe(self, samples: Samples) -> Observation:
        """What is needed of one chunk of raw samples."""

    @abstractmethod
    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        """The metrics of a generation: lower-case keys with ``/``."""
