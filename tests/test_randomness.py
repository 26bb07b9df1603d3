"""Seeding: the same draws as the own seeding of torch, numpy and Python, a different stream for every purpose."""

import random

import numpy as np
import torch

from sc_loops.randomness import generator_for, global_generators_kept, seed_for, seed_global


def test_seed_global_seeds_as_torch_numpy_and_python_do() -> None:
    seed_global(3, "train", 1, 2)
    drawn = torch.randn(5), np.random.rand(5), random.random()
    torch.manual_seed(seed_for(3, "train", 1, 2))
    np.random.seed(seed_for(3, "train", 1, 2) % 2**32)
    assert torch.equal(drawn[0], torch.randn(5))
    assert np.array_equal(drawn[1], np.random.rand(5))
    assert torch.equal(drawn[0], torch.randn(5, generator=generator_for(3, "train", 1, 2)))
    assert drawn[2] == random.Random(seed_for(3, "train", 1, 2)).random()


def test_global_generators_are_kept() -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(1)), float(np.random.rand()), random.random()]

    seed_global(1, "a")
    expected = drawn()
    seed_global(1, "a")
    with global_generators_kept():
        seed_global(2, "b")
        assert drawn() != expected
    assert drawn() == expected


def test_every_part_of_a_seed_counts() -> None:
    seeds = [seed_for(*parts) for parts in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0, "a", 1, 1), (0, "a", 11))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
