"""Memory: what becomes of older pools, that is, which synthetic samples a generation trains on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

from sc_loops.data.mixture import synthetic_count
from sc_loops.errors import require
from sc_loops.samples import Samples

MemoryPolicy = Literal["replace", "fading"]
Reader = Callable[[int], Samples]  # the samples of the pool of a generation


class Memory(ABC):
    """Which synthetic samples there are to train on.

    Attributes:
        whole: whether a generation trains on all that is remembered; else it draws floor(λ n) of it.
    """

    whole: bool

    @staticmethod
    def of(policy: MemoryPolicy, read: Reader, real: int, synthetic_ratio: float, saves: bool = False) -> Memory:
        """The memory that ``policy`` names, for n = ``real`` real items and the ratio λ.

        Args:
            read: reads an older pool.
            saves: keep in ``state_dict`` what is remembered, since older pools may not be on disk.
        """
        require(policy in get_args(MemoryPolicy), "memory", policy, f"one of {', '.join(get_args(MemoryPolicy))}")
        if policy == "replace":
            return Replace(read)
        count = None if synthetic_ratio == math.inf else synthetic_count(real, synthetic_ratio)
        return Fading(read, count, saves)

    @abstractmethod
    def recall(self, generation: int) -> Samples:
        """What ``generation`` (>= 1) trains on of the pools before it."""

    def needs(self, pool: int) -> bool:
        """Whether generations after the next one to train still read the samples of ``pool``."""
        return False

    # A memory of pools that are not all on disk keeps its samples itself.

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to load)
        pass


class Replace(Memory):
    """Only the newest pool."""

    whole = False

    def __init__(self, read: Reader) -> None:
        self._read = read

    def recall(self, generation: int) -> Samples:
        return self._read(generation - 1)


class Fading(Memory):
    """All pools, the older the less: generation N trains on the first floor((j + 1)/N k) samples of pool j, for
    j = 0..N-1, where k = floor(λ n), or the size of the pool for λ = inf.

    The growing memory of the Gaussian experiment of Gillman et al. 2024: its public code keeps "the first
    int(i/N · 25)" of what was made for generation i = j + 1. The synthetic part grows like k (N + 1)/2, so what is
    trained on becomes almost wholly synthetic, whatever λ.
    """

    whole = True

    def __init__(self, read: Reader, count: int | None, saves: bool = False) -> None:
        self._read, self._count, self._saves = read, count, saves
        self._known = 0  # pools 0..known-1 are in the samples
        self._samples: Samples | None = None
        self._pool, self._rank, self._size = (torch.empty(0, dtype=torch.int64) for _ in range(3))

    def recall(self, generation: int) -> Samples:
        if self._known > generation:
            self._known, self._samples = 0, None
        while self._known < generation:
            self._remember(self._known)
        # What is forgotten here no later generation asks for: the part of a pool only shrinks.
        kept = self._rank < (self._pool + 1) * self._size // generation
        assert self._samples is not None
        self._samples = self._samples[kept]
        self._pool, self._rank, self._size = self._pool[kept], self._rank[kept], self._size[kept]
        return self._samples

    def needs(self, pool: int) -> bool:
        return not (self._saves and pool < self._known)

    def state_dict(self) -> dict[str, Any]:
        if self._samples is None or not self._saves:
            return {}
        held = {"x": self._samples.x, "condition": self._samples.condition, "known": self._known}
        return {**held, "pool": self._pool, "rank": self._rank, "size": self._size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._saves = True  # once that is so it stays so, since pools were deleted
            self._samples, self._known = Samples(state["x"], state["condition"]), int(state["known"])
            self._pool, self._rank, self._size = state["pool"], state["rank"], state["size"]

    def _remember(self, pool: int) -> None:
        read = self._read(pool)
        new, count = Samples(read.x, read.condition), len(read) if self._count is None else self._count
        if self._samples is None:
            self._pool, self._rank, self._size = (torch.empty(0, dtype=torch.int64) for _ in range(3))
        self._samples = new if self._samples is None else Samples.concatenate([self._samples, new])
        self._pool = torch.cat([self._pool, torch.full((len(new),), pool)])
        self._rank = torch.cat([self._rank, torch.arange(len(new))])
        self._size = torch.cat([self._size, torch.full((len(new),), count)])
        self._known = pool + 1
