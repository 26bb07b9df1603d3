"""Memory: what becomes of older pools, that is, which samples a generation trains on."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sc_loops.data.mixture import Mixing, synthetic_count
from sc_loops.errors import require
from sc_loops.randomness import generator_for
from sc_loops.samples import Samples

MemoryPolicy = Literal["replace", "fading", "accumulate", "accumulate_subsample"]
Reader = Callable[[int], Samples]  # the samples of the pool of a generation


class Memory(ABC):
    """Which samples there are to train on.

    Attributes:
        whole: whether a generation trains on all that is remembered; else it draws floor(λ n) of it.
    """

    whole = True

    @staticmethod
    def of(
        policy: MemoryPolicy,
        read: Reader,
        real: int,
        synthetic_ratio: float,
        saves: bool = False,
        *,
        mixing: Mixing = "count",
        seed: int = 0,
    ) -> Memory:
        """The memory that ``policy`` names, for n = ``real`` real items and the ratio λ. Where λ = 0 nothing is
        trained on that would have to be remembered.

        Args:
            read: reads an older pool.
            saves: keep in ``state_dict`` what is remembered, since older pools may not be on disk.
            mixing: with ``weight``, λ does not bound how much of a pool is remembered.
            seed: the run's.
        """
        require(policy in get_args(MemoryPolicy), "memory", policy, f"one of {', '.join(get_args(MemoryPolicy))}")
        if policy == "replace" or synthetic_ratio == 0:
            return Replace(read)
        whole = synthetic_ratio == math.inf or mixing == "weight"
        count = None if whole else synthetic_count(real, synthetic_ratio)
        if policy == "fading":
            return Fading(read, count, saves)
        if policy == "accumulate":
            return Accumulate(read, count, saves)
        expected = "count: what is drawn decides how many items are real, which weights would undo"
        require(mixing == "count", "mixing", mixing, expected, "set loop.mixing=count, or loop.memory=accumulate")
        sees_real = synthetic_ratio < math.inf
        return AccumulateSubsample(read, count, saves, real=real, sees_real=sees_real, seed=seed)

    @abstractmethod
    def recall(self, generation: int) -> list[Samples]:
        """What ``generation`` (>= 1) trains on of the pools before it, in one part or more."""

    def real(self, generation: int) -> Tensor | None:
        """Which of the real items ``generation`` (>= 1) trains on; None is all."""
        return None

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

    def recall(self, generation: int) -> list[Samples]:
        return [self._read(generation - 1)]


class Accumulate(Memory):
    """All pools: generation N trains on floor(λ n) samples of every pool j < N, or on the whole pools for λ = inf.

    Gerstgrasser et al. 2024 (arXiv 2404.01413): what was made in all generations so far, beside the real data. The
    samples are the first of a pool; a smaller pool is repeated evenly. What is trained on grows like n (1 + λ N),
    and becomes almost wholly synthetic, whatever λ > 0.

    It is recalled pool by pool, in the same tensors every time, so that a model may know those that it has seen.
    """

    def __init__(self, read: Reader, count: int | None, saves: bool = False) -> None:
        self._read, self._count, self._saves = read, count, saves
        self._pools: list[Samples] = []  # what is remembered of the pools 0, 1, ...
        self._sizes: list[int] = []  # how much that is

    def recall(self, generation: int) -> list[Samples]:
        self._sizes_before(generation)
        return self._pools[:generation]

    def needs(self, pool: int) -> bool:
        return not (self._saves and pool < len(self._sizes))

    def state_dict(self) -> dict[str, Any]:
        if not self._pools or not self._saves:
            return {}
        held = Samples.concatenate(self._pools)
        return {"x": held.x, "condition": held.condition, "sizes": self._sizes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._saves = True  # once that is so it stays so, since pools were deleted
            held, self._sizes = Samples(state["x"], state["condition"]), list(state["sizes"])
            ends = itertools.accumulate(self._sizes)
            self._pools = [held[end - size : end] for end, size in zip(ends, self._sizes, strict=True)]

    def _sizes_before(self, generation: int) -> list[int]:
        """How many samples of each pool before ``generation`` there are to train on."""
        for pool in range(len(self._sizes), generation):
            self._sizes.append(self._remember(pool))
        return self._sizes[:generation]

    def _remember(self, pool: int) -> int:
        """Take up the newest pool; how many of its samples there are to train on."""
        self._pools.append(self._samples_of(pool))
        return len(self._pools[-1])

    def _samples_of(self, pool: int) -> Samples:
        read = self._read(pool)
        there = Samples(read.x, read.condition)
        if self._count is None or self._count == len(there):
            return there
        return there[torch.arange(self._count) % len(there)]


class AccumulateSubsample(Accumulate):
    """As many items as there are real ones, drawn uniformly without replacement, and anew in every generation, from
    what ``Accumulate`` trains on: the real items and those of all pools.

    Kazdan et al. 2024 (arXiv 2410.16713): what is trained on does not grow. Of the n items of generation N about
    n / (1 + λ N) are real. With λ = inf no real item is among those that are drawn from, and there are fewer than
    n where the pools hold fewer together.

    Pools that are on disk are read again in every generation, one after the other: only what is drawn is in memory.

    Args:
        real: n.
        sees_real: whether real items are drawn too: λ < inf.
        seed: of the draws.
    """

    def __init__(
        self, read: Reader, count: int | None, saves: bool = False, *, real: int, sees_real: bool, seed: int
    ) -> None:
        super().__init__(read, count, saves)
        self._drawn, self._real, self._seed = real, real if sees_real else 0, seed

    def recall(self, generation: int) -> list[Samples]:
        drawn = self._positions(generation)
        return [self._at(generation, drawn[drawn >= self._real] - self._real)]

    def real(self, generation: int) -> Tensor:
        drawn = self._positions(generation)
        return drawn[drawn < self._real]

    def _positions(self, generation: int) -> Tensor:
        """Of what is drawn, in ascending order, among the real items and then the pools."""
        total = self._real + sum(self._sizes_before(generation))
        order = torch.randperm(total, generator=generator_for(self._seed, "memory", generation))
        return order[: self._drawn].sort().values

    def _at(self, generation: int, positions: Tensor) -> Samples:
        """The samples at ``positions`` among those of the pools."""
        ends = torch.tensor(self._sizes_before(generation)).cumsum(0)
        pools = torch.searchsorted(ends, positions, right=True)
        starts = torch.cat([ends.new_zeros(1), ends])
        hit = pools.unique().tolist() or [0]
        pool_of = self._pools.__getitem__ if self._saves else self._samples_of
        return Samples.concatenate([pool_of(j)[positions[pools == j] - starts[j]] for j in hit])

    def _remember(self, pool: int) -> int:
        if self._saves:
            return super()._remember(pool)
        return len(self._read(pool)) if self._count is None else self._count


class Fading(Memory):
    """All pools, the older the less: generation N trains on the first floor((j + 1)/N k) samples of pool j, for
    j = 0..N-1, where k = floor(λ n), or the size of the pool for λ = inf.

    The growing memory of the Gaussian experiment of Gillman et al. 2024: its public code keeps "the first
    int(i/N · 25)" of what was made for generation i = j + 1. The synthetic part grows like k (N + 1)/2, so what is
    trained on becomes almost wholly synthetic, whatever λ.
    """

    def __init__(self, read: Reader, count: int | None, saves: bool = False) -> None:
        self._read, self._count, self._saves = read, count, saves
        self._known = 0  # pools 0..known-1 are in the samples
        self._samples: Samples | None = None
        self._pool, self._rank, self._size = (torch.empty(0, dtype=torch.int64) for _ in range(3))

    def recall(self, generation: int) -> list[Samples]:
        if self._known > generation:
            self._known, self._samples = 0, None
        while self._known < generation:
            self._remember(self._known)
        # What is forgotten here no later generation asks for: the part of a pool only shrinks.
        kept = self._rank < (self._pool + 1) * self._size // generation
        assert self._samples is not None
        self._samples = self._samples[kept]
        self._pool, self._rank, self._size = self._pool[kept], self._rank[kept], self._size[kept]
        return [self._samples]

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
