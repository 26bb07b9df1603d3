"""What a generation remembers of the pools before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch

from sc_loops import Samples
from sc_loops.data.memory import Accumulate, AccumulateSubsample, Fading, Memory, MemoryPolicy
from sc_loops.errors import InvalidValue


def pool(number: int, size: int = 25) -> Samples:
    """A pool whose samples say which they are."""
    return Samples(torch.stack([torch.full((size,), float(number)), torch.arange(size).float()], dim=1))


def published(generation: int, size: int = 25) -> set[tuple[int, int]]:
    """The public code's rule: of what was made for generation i = 1..N, the first int(i / N * size)."""
    return {(i - 1, a) for i in range(1, generation + 1) for a in range(i * size // generation)}


def known(found: Samples) -> set[tuple[int, int]]:
    return {(int(number), int(rank)) for number, rank in found.x.tolist()}


def recalled(memory: Memory, generation: int) -> Samples:
    return Samples.concatenate(memory.recall(generation))


def test_fading_keeps_what_the_public_code_keeps() -> None:
    memory = Memory.of("fading", pool, 50, 0.5)
    for generation in (1, 2, 3, 7, 60):
        found = recalled(memory, generation)
        assert known(found) == published(generation)
        assert len(found) == len(published(generation))


def test_generation_500_of_the_paper_trains_on_6025_synthetic_points() -> None:
    assert len(recalled(Memory.of("fading", pool, 50, 0.5), 500)) == 6025


def test_fading_goes_on_from_its_state_without_the_old_pools() -> None:
    straight = Fading(pool, 25)
    wanted = [recalled(straight, t) for t in range(1, 13)][-1]
    first = Fading(pool, 25, saves=True)
    recalled(first, 9)

    def only_new(number: int) -> Samples:
        assert number >= 9
        return pool(number)

    second = Fading(only_new, 25)
    second.load_state_dict(first.state_dict())
    assert torch.equal(recalled(second, 12).x, wanted.x)


def test_pools_that_lost_samples_give_what_they_have() -> None:
    memory = Fading(lambda number: pool(number, size=10), 25)
    assert known(recalled(memory, 4)) == {(j, a) for j in range(4) for a in range(min(10, (j + 1) * 25 // 4))}


def test_infinite_ratio_fades_by_the_size_of_each_pool() -> None:
    memory = Memory.of("fading", lambda number: pool(number, size=8), 50, math.inf)
    assert known(recalled(memory, 4)) == {(j, a) for j in range(4) for a in range((j + 1) * 8 // 4)}


def test_replace_remembers_the_newest() -> None:
    memory = Memory.of("replace", pool, 50, 0.5)
    assert torch.equal(recalled(memory, 7).x, pool(6).x)
    assert not memory.needs(5)


def test_an_unknown_policy() -> None:
    with pytest.raises(InvalidValue, match="replace, fading"):
        Memory.of("forget", pool, 50, 0.5)  # type: ignore[arg-type]


# Accumulate (Gerstgrasser et al. 2024).


def test_accumulate_trains_on_floor_lambda_n_of_every_pool() -> None:
    memory = Memory.of("accumulate", pool, 41, 0.5)
    for generation in (1, 2, 7):
        found = recalled(memory, generation)
        assert known(found) == {(j, a) for j in range(generation) for a in range(20)}
        assert len(found) == 20 * generation
    assert memory.whole
    assert all(memory.needs(number) for number in range(9))


def test_accumulate_repeats_a_smaller_pool_evenly_and_takes_the_whole_of_each_for_infinity() -> None:
    found = recalled(Memory.of("accumulate", lambda number: pool(number, size=8), 41, 0.5), 2)
    counts = torch.bincount(found.x[:, 1].long())
    assert len(found) == 40
    assert set(counts.tolist()) == {4, 6}  # in each of two pools 2 or 3 times
    endless = Memory.of("accumulate", lambda number: pool(number, size=number + 3), 41, math.inf)
    assert known(recalled(endless, 3)) == {(j, a) for j in range(3) for a in range(j + 3)}


def test_by_weight_whole_pools_accumulate_and_fade() -> None:
    accumulated = recalled(Memory.of("accumulate", pool, 50, 0.1, mixing="weight"), 3)
    assert len(accumulated) == 3 * 25
    assert known(recalled(Memory.of("fading", pool, 50, 0.1, mixing="weight"), 3)) == published(3)


@pytest.mark.parametrize("policy", get_args(MemoryPolicy))
def test_without_synthetic_data_no_memory_needs_a_pool(policy: MemoryPolicy) -> None:
    memory = Memory.of(policy, pool, 50, 0.0)
    assert not memory.needs(0)
    assert memory.state_dict() == {}


def test_what_accumulates_is_the_same_tensors_every_time() -> None:
    """So that a model may know what it has seen."""
    memory = Memory.of("accumulate", pool, 50, 0.5, True)
    before = memory.recall(3)
    assert all(a is b for a, b in zip(before, memory.recall(5), strict=False))
    assert [len(part) for part in memory.recall(5)] == [25] * 5


# A subsample of what accumulates (Kazdan et al. 2024).


def subsample(seed: int, read: Callable[[int], Samples] = pool, ratio: float = 0.5, real: int = 50) -> Memory:
    return Memory.of("accumulate_subsample", read, real, ratio, seed=seed)


def drawn(memory: Memory, generation: int, real: int = 50) -> list[tuple[int, int]]:
    """The items by (pool, rank); real ones are of pool -1. Raises where one was drawn twice."""
    positions = torch.arange(real)[memory.real(generation)]
    found = [(-1, int(i)) for i in positions] + [(int(j), int(a)) for j, a in recalled(memory, generation).x]
    assert len(set(found)) == len(found)
    return found


def test_every_item_is_drawn_equally_often_and_none_twice() -> None:
    """50 of 50 + 4 x 25 items, by 600 seeds: each is drawn 200 times, give or take; all of them by chi-squared."""
    counts: dict[tuple[int, int], int] = {}
    for seed in range(600):
        found = drawn(subsample(seed), 4)
        assert len(found) == 50
        for item in found:
            counts[item] = counts.get(item, 0) + 1
    assert set(counts) == {(-1, i) for i in range(50)} | {(j, a) for j in range(4) for a in range(25)}
    # Drawn without replacement, counts have the variance E (1 - 1/3) and add up to 600 x 50: with 149/150, the sum
    # of their squares is chi-squared with 149 degrees of freedom, whose standard deviation is 17.3.
    spread = sum((count - 200) ** 2 for count in counts.values()) / (200 * 2 / 3) * 149 / 150
    assert 149 - 4 * 17.3 < spread < 149 + 4 * 17.3


def test_a_draw_is_anew_in_every_generation_and_a_function_of_the_seed_alone() -> None:
    memory = subsample(3)
    fourth, fifth = drawn(memory, 4), drawn(memory, 5)
    assert len(set(fourth) & set(fifth)) < 50 * 50 / 150 + 4 * 3  # as two independent draws; the expectation is 14.3
    again = subsample(3)
    assert drawn(again, 5) == fifth
    assert drawn(again, 4) == fourth
    assert drawn(subsample(4), 4) != fourth


def test_the_subsample_is_of_what_accumulate_trains_on() -> None:
    """All of it, where it is not more than n: with an infinite ratio, of the pools alone."""
    endless = subsample(0, lambda number: pool(number, size=9), math.inf, real=40)
    assert endless.real(1).tolist() == []
    assert known(recalled(endless, 4)) == {(j, a) for j in range(4) for a in range(9)}
    assert len(recalled(endless, 9)) == 40


def test_pools_on_disk_are_read_one_by_one_and_held_ones_not_again() -> None:
    read: list[int] = []

    def note(number: int) -> Samples:
        read.append(number)
        return pool(number)

    on_disk = AccumulateSubsample(note, 25, real=50, sees_real=True, seed=1)
    held = AccumulateSubsample(pool, 25, saves=True, real=50, sees_real=True, seed=1)
    for generation in range(1, 9):
        assert drawn(on_disk, generation) == drawn(held, generation)
    assert on_disk.state_dict() == {}
    assert all(on_disk.needs(number) for number in range(8))
    assert not any(held.needs(number) for number in range(8))
    assert held.needs(8)


@pytest.mark.parametrize("ratio", [0.5, math.inf])
@pytest.mark.parametrize("policy", ["accumulate", "accumulate_subsample"])
def test_a_memory_goes_on_from_its_state_without_the_old_pools(policy: MemoryPolicy, ratio: float) -> None:
    straight = Memory.of(policy, pool, 50, ratio, seed=2)
    first = Memory.of(policy, pool, 50, ratio, True, seed=2)
    for generation in range(1, 6):
        recalled(first, generation)

    def only_new(number: int) -> Samples:
        assert number >= 5
        return pool(number)

    second = Memory.of(policy, only_new, 50, ratio, seed=2)  # the run no longer holds pools in memory
    second.load_state_dict(first.state_dict())
    assert torch.equal(recalled(second, 8).x, recalled(straight, 8).x)
    assert torch.equal(torch.arange(50)[second.real(8)], torch.arange(50)[straight.real(8)])
    assert isinstance(second, Accumulate)
    assert not second.needs(7)


def test_conditions_come_along() -> None:
    def labelled(number: int) -> Samples:
        return Samples(pool(number).x, torch.full((25,), number))

    for policy in ("accumulate", "accumulate_subsample"):
        found = recalled(Memory.of(policy, labelled, 50, 0.5), 3)  # type: ignore[arg-type]
        assert found.condition is not None
        assert torch.equal(found.condition, found.x[:, 0].long())


def test_weights_would_undo_what_a_subsample_draws() -> None:
    with pytest.raises(InvalidValue, match=r"loop.mixing=count"):
        Memory.of("accumulate_subsample", pool, 50, 0.5, mixing="weight")
