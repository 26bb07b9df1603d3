"""``Metric``: something measured on the raw samples of a generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sc_loops.samples import Observation, Samples


class Metric(ABC):
    """Measured in two steps, so that it streams, survives a kill and does not depend on who made which chunk.

    ``observe`` looks at one chunk and returns small tensors, which are written to disk beside the chunk.
    ``summarise`` reads the observations of all chunks, in order, and returns the generation's numbers. What
    an observation holds must not grow with the chunk unless it is limited (``columns["index"] < limit``).
    """

    name: str

    @abstractmethod
    def observe(self, samples: Samples) -> Observation:
        """What is needed of one chunk of raw samples."""

    @abstractmethod
    def summarise(self, observations: Sequence[Observation]) -> dict[str, float]:
        """The metrics of a generation: lower-case keys with ``/``."""
