"""``TextEncoder``: what a model of motions knows captions by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor

from sc_loops.data.files import damage, read_tensors, write_tensors
from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue
from sc_loops.networks.network_classifier import digest


class TextEncoder(ABC):
    """Embeddings of the data's captions. They are computed once, before the run, and kept in the cache; what computes
    them is never part of a model.

    Args:
        data: motions.

    Attributes:
        width: numbers in an embedding.
    """

    width: int

    def __init__(self, data: RealData) -> None:
        if data.motions is None:
            raise InvalidValue("data", found=f"{data.name}, which has no captions", expected="motions with captions")
        self.motions: Motions = data.motions
        self._embeddings: Tensor | None = None

    @abstractmethod
    def embed(self) -> Tensor:
        """``(M, width)`` float32, of all captions of ``motions``. This may take long.

        Raises:
            InvalidValue: weights are absent or damaged.
        """

    @abstractmethod
    def identity(self) -> list[str | int | float]:
        """All that embeddings depend on beside the captions."""

    def prepare(self, cache: Path) -> None:
        """Have the embeddings, from ``cache`` or computed and put there."""
        key = digest([type(self).__name__, *self.identity(), *self.motions.captions], self._labels())
        path = cache / f"texts-{key}.safetensors"
        if damage(path):
            cache.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"embeddings": self.embeddings})
        self._embeddings = read_tensors(path)["embeddings"]

    @property
    def embeddings(self) -> Tensor:
        """``(M, width)`` float32 on the CPU, a row for each caption. Without ``prepare`` they are computed here."""
        if self._embeddings is None:
            self._embeddings = self.embed()
        return self._embeddings

    def _labels(self) -> list[Tensor]:
        return [] if self.motions.actions is None else [self.motions.actions]
