"""What a generation remembers of the pools before it."""

from __future__ import annotations

import math

import pytest
import torch

from sc_loops import Samples
from sc_loops.data.memory import Fading, Memory
from sc_loops.errors import InvalidValue


def pool(number: int, size: int = 25) -> Samples:
    """A pool whose samples say which they are."""
    return Samples(torch.stack([torch.full((size,), float(number)), torch.arange(size).float()], dim=1))


def published(generation: int, size: int = 25) -> set[tuple[int, int]]:
    """The public code's rule: of what was made for generation i = 1..N, the first int(i / N * size)."""
    return {(i - 1, a) for i in range(1, generation + 1) for a in range(i * size // generation)}


def known(found: Samples) -> set[tuple[int, int]]:
    return {(int(number), int(rank)) for number, rank in found.x.tolist()}


def test_fading_keeps_what_the_public_code_keeps() -> None:
    memory = Memory.of("fading", pool, 50, 0.5)
    for generation in (1, 2, 3, 7, 60):
        found = memory.recall(generation)
        assert known(found) == published(generation)
        assert len(found) == len(published(generation))


def test_generation_500_of_the_paper_trains_on_6025_synthetic_points() -> None:
    assert len(Memory.of("fading", pool, 50, 0.5).recall(500)) == 6025


def test_fading_goes_on_from_its_state_without_the_old_pools() -> None:
    straight = Fading(pool, 25)
    wanted = [straight.recall(t) for t in range(1, 13)][-1]
    first = Fading(pool, 25, saves=True)
    first.recall(9)

    def only_new(number: int) -> Samples:
        assert number >= 9
        return pool(number)

    second = Fading(only_new, 25)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.recall(12).x, wanted.x)


def test_pools_that_lost_samples_give_what_they_have() -> None:
    memory = Fading(lambda number: pool(number, size=10), 25)
    assert known(memory.recall(4)) == {(j, a) for j in range(4) for a in range(min(10, (j + 1) * 25 // 4))}


def test_infinite_ratio_fades_by_the_size_of_each_pool() -> None:
    memory = Memory.of("fading", lambda number: pool(number, size=8), 50, math.inf)
    assert known(memory.recall(4)) == {(j, a) for j in range(4) for a in range((j + 1) * 8 // 4)}


def test_replace_remembers_the_newest() -> None:
    memory = Memory.of("replace", pool, 50, 0.5)
    assert torch.equal(memory.recall(7).x, pool(6).x)
    assert not memory.needs(5)


def test_an_unknown_policy() -> None:
    with pytest.raises(InvalidValue, match="replace, fading"):
        Memory.of("forget", pool, 50, 0.5)  # type: ignore[arg-type]
